//! The phases of a request, one module each, in the order in which they run.

pub(crate) mod admit;
pub(crate) mod attempt;
pub(crate) mod dispatch;
pub(crate) mod gather;
pub(crate) mod hold;
pub(crate) mod note;
pub(crate) mod parse;
pub(crate) mod plan;
pub(crate) mod prove;
pub(crate) mod relay;
pub(crate) mod resolve;
pub(crate) mod settle;
pub(crate) mod take_up;
pub(crate) mod wishes;

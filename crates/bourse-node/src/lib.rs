//! The supply daemon.

pub mod template;
pub mod tokenizer;

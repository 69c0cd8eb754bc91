//! The supply daemon.

pub mod engine;
pub mod template;
pub mod tokenizer;

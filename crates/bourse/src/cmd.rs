//! The commands, one file each: `Args` says what can be typed, `run` does it.
//!
//! Stdout carries what was asked for and nothing else; everything said on the way goes to stderr.

pub mod completions;
pub mod config;

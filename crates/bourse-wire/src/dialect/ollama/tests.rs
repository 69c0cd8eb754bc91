//! Golden texts and laws of the grammar.

mod answers;
mod mirror;
mod requests;

pub(super) use mirror::MIRROR;

use super::*;

//! Golden texts and laws of the grammar.

mod answers;
mod requests;

use super::*;

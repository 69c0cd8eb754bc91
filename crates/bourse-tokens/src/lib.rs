//! Text to tokens and back, for whoever must count as a model does.
//!
//! - [`tokenizer`]: a model's vocabulary as the model file carries it, both ways;
//! - [`template`]: a chat as the text that a model reads;
//! - [`pinned`]: both together under a digest, for the market's own count of what sellers bill.
//!
//! The libraries behind it are heavy and have their home here. A node needs the first two; whoever recounts needs the
//! last and sees it as a [`TokenCounter`](bourse_wire::tokens::TokenCounter) only.

pub mod pinned;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tokenizer;

pub use pinned::{PinError, PinnedTokenizer};

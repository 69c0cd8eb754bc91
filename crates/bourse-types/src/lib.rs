//! The vocabulary of the house: ids, money, tokens, prices, time and fault.
//!
//! Everything here is a plain value without behaviour beyond its own arithmetic. Two rules shape it:
//! a number never travels without its unit (hence the newtypes), and an amount that cannot be computed
//! is an error, never zero (hence `checked_*` everywhere). The crate depends on nothing of ours and
//! performs no I/O; ids are made from bytes that the caller supplies.

mod fault;
mod gift;
mod id;
mod money;
mod price;
mod slug;
mod time;

pub use fault::{Fault, Retry};
pub use gift::{Gift, Giver};
pub use id::{AccountId, Digest32, IdError, KeyHash, NodeId, PayoutId, RequestId, TransferId};
pub use money::{MoneyError, NanoUsd, PicoUsd};
pub use price::{
    Charge, PicoUsdPerToken, PicoUsdPerUnit, PriceError, PriceSchedule, PromptTokens, TokenCount, Usage,
};
pub use slug::{ModelSlug, NAME_BYTES_MAX, SellerName, SlugError};
pub use time::{DurationMs, UnixMs, UtcDay};

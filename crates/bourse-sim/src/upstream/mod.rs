//! The upstream simulator: OpenAI-compatible sellers that fail in every way the field has reported.
//!
//! A [`Seller`] is one port with a price list, a tokenizer stand-in ([`TokenLaw`]), a speed, a capacity,
//! a quality and a [`FaultScript`]. For each call the script names at most one [`Fault`]; the call, the
//! answer and the fault are turned into a list of steps (bytes, waits, an ending) by pure code, and the
//! server only plays that list on the socket. Bytes are therefore under full control, which no HTTP
//! server library would allow, and the same call always meets the same bytes.
//!
//! What each fault should lead to is data as well: [`Fault::expectation`]. A gateway's tests iterate
//! over [`Fault::ALL`] and compare.
//!
//! Limits: HTTP/1 in clear text (a TLS hello is answered with a reset); the text is drawn from a small
//! vocabulary and means nothing; sampling parameters are ignored except `max_tokens`, `n` and `seed`.

mod answer;
pub mod cli;
mod config;
mod expectation;
mod fault;
mod http;
mod plain;
mod record;
mod request;
mod script;
mod seller;
mod serve;
mod stream;
mod text;

pub use config::{FaultScript, FaultTiming, Listing, SellerConfig, SpeedLaw};
pub use expectation::{Expectation, Mode, UsageRule};
pub use fault::{Fault, UnknownFault};
pub use record::{Ending, Seen, UsageSeen};
pub use seller::{LOG_CALLS_MAX, Seller};
pub use serve::Connection;
pub use text::TokenLaw;

//! The upstream simulator: sellers of many API shapes that fail in every way the field has reported.
//!
//! A [`Seller`] is one port with a price list, a tokenizer stand-in ([`TokenLaw`]), a speed, a capacity,
//! a rate, a cache, a quality, a script of answers ([`AnswerScript`]) and a [`FaultScript`]. It speaks one
//! or several [`Shape`]s, each at its vendor's paths. For each call the script names at most one [`Fault`];
//! the call, the answer and the fault are turned into a list of steps (bytes, waits, an ending) by pure
//! code, and the server only plays that list on the socket. Bytes are therefore under full control, which
//! no HTTP server library would allow, and the same call always meets the same bytes.
//!
//! The simulator is also the judge of what a market sends: each call is held to its vendor's documented
//! grammar, refused with 400 in the vendor's own envelope when it breaks it, and written into the log
//! ([`Seen`]) with what was wrong.
//!
//! What each fault should lead to is data as well: [`Fault::expectation_in`]. A gateway's tests iterate
//! over [`Fault::ALL`] and [`Shape::ALL`] and compare.
//!
//! Limits: HTTP/1 in clear text (a TLS hello is answered with a reset); the text is drawn from a small
//! vocabulary and means nothing; sampling parameters are checked and ignored except the limits on tokens,
//! the number of choices and `seed`; definitions and arguments of tools cost no prompt tokens.

mod answer;
mod answer_script;
mod ask;
mod cache;
pub mod cli;
mod config;
mod decide;
mod expectation;
mod fault;
mod heard;
mod http;
mod media;
mod models;
mod plain;
mod prompt;
mod rate;
mod record;
mod request;
mod response;
mod schema;
mod script;
mod seller;
mod serve;
mod shape;
mod signature;
mod stream;
mod text;
mod time;
mod trouble;

pub use answer_script::{AnswerScript, BadCall, ReasoningForm, Say};
pub use ask::Ask;
pub use cache::{CACHE_PREFIXES_MAX, CacheLaw};
pub use config::{FaultScript, FaultTiming, Listing, SellerConfig, SpeedLaw};
pub use expectation::{Expectation, Mode, UsageRule};
pub use fault::{Fault, UnknownFault};
pub use heard::{Heard, HeardCall};
pub use models::{ModelList, UnknownModelList};
pub use rate::{RateLaw, RateTelling};
pub use record::{Ending, Seen, UsageSeen};
pub use seller::{LOG_CALLS_MAX, Seller};
pub use serve::Connection;
pub use shape::{Shape, UnknownShape};
pub use text::TokenLaw;

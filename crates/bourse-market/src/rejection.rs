//! Why an offer was not tried: a number for digests, a code for programs, words for people.

use crate::offer::Supports;
use bourse_types::{NanoUsd, PicoUsdPerToken, UnixMs};
use std::fmt;

/// A part of a price schedule, with what is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PricePart {
    /// Per prompt token.
    Prompt(PicoUsdPerToken),
    /// Per completion token.
    Completion(PicoUsdPerToken),
    /// Once per request.
    Request(NanoUsd),
}

/// Why an offer of the right model is not among the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The seller's price is not known.
    UnknownPrice,
    /// The buyer's `only` does not name it.
    NotInOnly,
    /// The buyer's `ignore` names it.
    Ignored,
    /// The buyer's `quantizations` do not contain it.
    Quantization,
    /// It lacks what the request needs.
    MissingSupport(Supports),
    /// It lacks what the buyer sent, and others do not.
    MissingPreferred(Supports),
    /// Prompt and answer cannot fit its context, of this many tokens.
    ContextTooLong(u64),
    /// Its longest answer, of this many tokens, is below the `max_tokens` asked for.
    MaxTokens(u64),
    /// It asks more than the buyer's `max_price`.
    MaxPrice(PricePart),
    /// It serves as many requests as it can, this many.
    AtCapacity(u32),
    /// It has been failing and rests until then; there are enough others.
    BreakerOpen(UnixMs),
    /// It asked to be left alone until then; there are enough others.
    RateLimited(UnixMs),
    /// The buyer allows no fallbacks, and it is not the first choice.
    FallbacksOff,
    /// It could serve, but enough others were drawn before it.
    AttemptBudget,
}

impl Rejection {
    /// Stable number, for digests.
    pub fn number(self) -> u8 {
        match self {
            Self::UnknownPrice => 0,
            Self::NotInOnly => 1,
            Self::Ignored => 2,
            Self::Quantization => 3,
            Self::MissingSupport(_) => 4,
            Self::MissingPreferred(_) => 5,
            Self::ContextTooLong(_) => 6,
            Self::MaxTokens(_) => 7,
            Self::MaxPrice(_) => 8,
            Self::AtCapacity(_) => 9,
            Self::BreakerOpen(_) => 10,
            Self::RateLimited(_) => 11,
            Self::FallbacksOff => 12,
            Self::AttemptBudget => 13,
        }
    }

    /// Stable code, for programs.
    pub fn code(self) -> &'static str {
        const CODES: [&str; 14] = [
            "unknown_price",
            "not_in_only",
            "ignored",
            "quantization",
            "missing_support",
            "missing_preferred",
            "context_length",
            "max_tokens",
            "max_price",
            "at_capacity",
            "breaker_open",
            "rate_limited",
            "fallbacks_off",
            "attempt_budget",
        ];
        CODES[usize::from(self.number())]
    }

    /// Whether the same request may be served by this offer a little later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::AtCapacity(_) | Self::BreakerOpen(_) | Self::RateLimited(_))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPrice => f.write_str("its price is not known"),
            Self::NotInOnly => f.write_str("`provider.only` does not name it"),
            Self::Ignored => f.write_str("`provider.ignore` names it"),
            Self::Quantization => f.write_str("`provider.quantizations` does not contain its own"),
            Self::MissingSupport(what) => write!(f, "it does not support {what}"),
            Self::MissingPreferred(what) => write!(f, "it does not support {what}, and others do"),
            Self::ContextTooLong(max) => {
                write!(f, "prompt and answer do not fit its {max} tokens of context")
            }
            Self::MaxTokens(max) => write!(f, "its answers have at most {max} tokens"),
            Self::MaxPrice(PricePart::Prompt(price)) => {
                write!(f, "it asks {} USD per prompt token", price.to_usd_per_token_string())
            }
            Self::MaxPrice(PricePart::Completion(price)) => {
                write!(f, "it asks {} USD per completion token", price.to_usd_per_token_string())
            }
            Self::MaxPrice(PricePart::Request(price)) => write!(f, "it asks {price} per request"),
            Self::AtCapacity(max) => write!(f, "it already serves {max} requests, as many as it can"),
            Self::BreakerOpen(until) => {
                write!(f, "it has been failing and rests until {} (Unix ms)", until.0)
            }
            Self::RateLimited(until) => write!(f, "it asked for a pause until {} (Unix ms)", until.0),
            Self::FallbacksOff => f.write_str("`provider.allow_fallbacks` is false and it is not first"),
            Self::AttemptBudget => f.write_str("enough other offers were drawn before it"),
        }
    }
}

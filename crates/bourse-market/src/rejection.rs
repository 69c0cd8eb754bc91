//! Why an offer was not tried: a number for digests, a code for programs, words for people.
//!
//! A plan keeps one byte for each offer that it refused, so a [`Rejection`] carries nothing; what it was
//! about is told by [`Rejection::explain`] from the offer and the demand.

use crate::demand::Demand;
use crate::offer::{Offer, Supports, Unit};
use crate::preferences::PolicyRule;
use bourse_types::{NanoUsd, PicoUsdPerToken, PicoUsdPerUnit};
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
    /// Per unit.
    Unit(Unit, PicoUsdPerUnit),
}

impl PricePart {
    /// The member of `max_price` that limits it; none where the field knows none.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Self::Prompt(_) => Some("provider.max_price.prompt"),
            Self::Completion(_) => Some("provider.max_price.completion"),
            Self::Request(_) => Some("provider.max_price.request"),
            Self::Unit(Unit::Image, _) => Some("provider.max_price.image"),
            Self::Unit(Unit::Second, _) => Some("provider.max_price.audio"),
            Self::Unit(Unit::Character | Unit::Search, _) => None,
        }
    }
}

impl fmt::Display for PricePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompt(price) => write!(f, "{} USD per prompt token", price.to_usd_per_token_string()),
            Self::Completion(price) => {
                write!(f, "{} USD per completion token", price.to_usd_per_token_string())
            }
            Self::Request(price) => write!(f, "{price} per request"),
            Self::Unit(unit, price) => {
                write!(f, "{} USD per {}", price.to_usd_per_unit_string(), unit.as_str())
            }
        }
    }
}

/// Why an offer of the right model is not among the attempts. The first rule that refuses counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rejection {
    /// The seller's price is not known.
    UnknownPrice = 1,
    /// It does not serve this kind of request.
    Operation = 2,
    /// The buyer's `only` does not name it.
    NotInOnly = 3,
    /// The buyer's `ignore` names it.
    Ignored = 4,
    /// Its service tier was not asked for.
    ServiceTier = 5,
    /// It does not promise what `data_collection` or `zdr` demands.
    DataPolicy = 6,
    /// Its model's author does not allow training on its answers.
    NotDistillable = 7,
    /// The buyer's `regions` do not contain its own.
    Region = 8,
    /// The buyer's `quantizations` do not contain its own.
    Quantization = 9,
    /// It lacks what the request needs.
    MissingSupport = 10,
    /// It lacks what the buyer sent, and others do not.
    MissingPreferred = 11,
    /// Prompt and answer cannot fit its context.
    ContextTooLong = 12,
    /// Its longest answer is below the `max_tokens` asked for.
    MaxTokens = 13,
    /// It asks more than the buyer's `max_price`.
    MaxPrice = 14,
    /// The account's or the key's policy refuses it.
    Policy = 15,
    /// It serves as many requests as it can.
    AtCapacity = 16,
    /// It has been failing and rests; there are enough others.
    BreakerOpen = 17,
    /// It asked to be left alone for a while; there are enough others.
    RateLimited = 18,
    /// The buyer allows no fallbacks, and it is not the first choice.
    FallbacksOff = 19,
    /// It could serve, but enough others were drawn before it.
    AttemptBudget = 20,
}

impl Rejection {
    /// All values in order of their numbers, which start at 1.
    pub const ALL: [Self; 20] = [
        Self::UnknownPrice,
        Self::Operation,
        Self::NotInOnly,
        Self::Ignored,
        Self::ServiceTier,
        Self::DataPolicy,
        Self::NotDistillable,
        Self::Region,
        Self::Quantization,
        Self::MissingSupport,
        Self::MissingPreferred,
        Self::ContextTooLong,
        Self::MaxTokens,
        Self::MaxPrice,
        Self::Policy,
        Self::AtCapacity,
        Self::BreakerOpen,
        Self::RateLimited,
        Self::FallbacksOff,
        Self::AttemptBudget,
    ];

    /// Stable number, for digests; never 0.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads [`Rejection::number`].
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Stable code, for programs.
    pub fn code(self) -> &'static str {
        const CODES: [&str; 20] = [
            "unknown_price",
            "operation",
            "not_in_only",
            "ignored",
            "service_tier",
            "data_policy",
            "not_distillable",
            "region",
            "quantization",
            "missing_support",
            "missing_preferred",
            "context_length",
            "max_tokens",
            "max_price",
            "policy",
            "at_capacity",
            "breaker_open",
            "rate_limited",
            "fallbacks_off",
            "attempt_budget",
        ];
        CODES[usize::from(self.number() - 1)]
    }

    /// Whether the same request may be served by this offer a little later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::AtCapacity | Self::BreakerOpen | Self::RateLimited)
    }

    /// The reason with its numbers, for the offer and the demand that it is about.
    pub fn explain<'a>(self, offer: &'a Offer, demand: &'a Demand<'a>) -> impl fmt::Display + use<'a> {
        Explained { rejection: self, offer, demand }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownPrice => "its price is not known",
            Self::Operation => "it does not serve this kind of request",
            Self::NotInOnly => "`provider.only` does not name it",
            Self::Ignored => "`provider.ignore` names it",
            Self::ServiceTier => "its service tier was not asked for",
            Self::DataPolicy => {
                "it does not promise what `provider.zdr` or `provider.data_collection` demands"
            }
            Self::NotDistillable => "its model's author does not allow training on its answers",
            Self::Region => "`provider.regions` does not contain its own",
            Self::Quantization => "`provider.quantizations` does not contain its own",
            Self::MissingSupport => "it does not support what the request needs",
            Self::MissingPreferred => "it does not support what was sent, and others do",
            Self::ContextTooLong => "prompt and answer do not fit its context",
            Self::MaxTokens => "its longest answer is shorter than `max_tokens`",
            Self::MaxPrice => "it asks more than `provider.max_price`",
            Self::Policy => "the policy of the account or key refuses it",
            Self::AtCapacity => "it serves as many requests as it can",
            Self::BreakerOpen => "it has been failing and rests",
            Self::RateLimited => "it asked for a pause",
            Self::FallbacksOff => "`provider.allow_fallbacks` is false and it is not first",
            Self::AttemptBudget => "enough other offers were drawn before it",
        })
    }
}

struct Explained<'a> {
    rejection: Rejection,
    offer: &'a Offer,
    demand: &'a Demand<'a>,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rejection, offer, demand } = self;
        let wishes = demand.preferences;
        match rejection {
            Rejection::Operation => write!(f, "it serves {}, not {}", offer.operations, demand.operation),
            Rejection::ServiceTier => {
                write!(f, "it is of service tier `{}`, which was not asked for", offer.tier.as_str())
            }
            Rejection::DataPolicy => {
                write!(f, "it does not promise {}", wishes.data.without(offer.data.closed()))
            }
            Rejection::Region => match &offer.region {
                Some(region) => write!(f, "{rejection}, `{region}`"),
                None => f.write_str("it does not say in which region it is"),
            },
            Rejection::Quantization => write!(f, "{rejection}, `{}`", offer.quantization.as_str()),
            Rejection::MissingSupport => write!(f, "it does not support {}", missing(offer, demand)),
            Rejection::MissingPreferred => {
                let lacking = demand.prefers.without(offer.supports);
                write!(f, "it does not support {lacking}, and others do")
            }
            Rejection::ContextTooLong => {
                write!(f, "prompt and answer do not fit its {} tokens of context", offer.context_tokens_max)
            }
            Rejection::MaxTokens => {
                let max = offer.completion_tokens_max.unwrap_or(offer.context_tokens_max);
                write!(f, "its answers have at most {max} tokens")
            }
            Rejection::MaxPrice => {
                let prices = offer.prices.as_ref();
                match prices.and_then(|prices| wishes.max_price.exceeded_by(offer, prices)) {
                    Some(part) => write!(f, "it asks {part}"),
                    None => rejection.fmt(f),
                }
            }
            Rejection::Policy => match wishes.policy.refuses(offer) {
                Some(PolicyRule::MaxPrice(part)) => {
                    write!(f, "a policy of the account or the key forbids {part}")
                }
                Some(PolicyRule::Data(lacking)) => {
                    write!(
                        f,
                        "a policy of the account or the key demands {lacking}, which it does not promise"
                    )
                }
                Some(rule) => write!(f, "a policy of the account or the key refuses its {}", rule.subject()),
                None => rejection.fmt(f),
            },
            Rejection::AtCapacity => match offer.capacity {
                Some(max) => write!(f, "it already serves {max} requests, as many as it can"),
                None => rejection.fmt(f),
            },
            _ => rejection.fmt(f),
        }
    }
}

impl PolicyRule {
    fn subject(self) -> &'static str {
        match self {
            Self::Allowed | Self::Ignored => "seller",
            Self::MaxPrice(_) => "price",
            Self::Data(_) => "data policy",
            Self::Distillable => "model's licence",
            Self::Quantization => "quantization",
            Self::Region => "region",
        }
    }
}

/// What an offer lacks of what a request needs.
pub(crate) fn missing(offer: &Offer, demand: &Demand<'_>) -> Supports {
    needed(demand).without(offer.supports)
}

/// What a request needs, `require_parameters` included.
pub(crate) fn needed(demand: &Demand<'_>) -> Supports {
    if demand.preferences.require_parameters { demand.needs.with(demand.prefers) } else { demand.needs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_are_stable_and_told_apart() {
        let mut codes: Vec<_> = Rejection::ALL.iter().map(|reason| reason.code()).collect();
        for (n, reason) in (1..).zip(Rejection::ALL) {
            assert_eq!((reason.number(), Rejection::from_number(n)), (n, Some(reason)));
        }
        assert_eq!((Rejection::from_number(0), Rejection::from_number(21)), (None, None));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Rejection::ALL.len());
    }
}

//! Prices, token counts, usage, and the one place where usage becomes money.
//!
//! A price is pico-dollars per token (equal to micro-dollars per million tokens), read from the decimal
//! dollar-per-token strings that the field publishes. [`PriceSchedule::charge`] prices once and rounds
//! up once; it also names where the rounding went, so that every ledger sums to zero.

use crate::money::{MoneyError, NanoUsd, PicoUsd, parse_scaled};

/// Decimal places of a dollar amount written in pico-dollars.
const PICO_DECIMALS: usize = 12;

/// A number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TokenCount(pub u64);

/// 10⁻¹² USD per token. `u64` reaches 18 million dollars per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsdPerToken(pub u64);

/// Why a price could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("price in USD per token: {0}")]
pub struct PriceError(#[from] MoneyError);

impl PicoUsdPerToken {
    /// Reads dollars per token such as `0.0000006`; at most twelve decimal places, exact or an error.
    pub fn parse_usd_per_token(text: &str) -> Result<Self, PriceError> {
        let scaled = parse_scaled(text, PICO_DECIMALS)?;
        u64::try_from(scaled).map(Self).map_err(|_| PriceError(MoneyError::Overflow))
    }

    /// The price as decimal dollars per token, trailing zeros cut, such as `0.0000006`.
    pub fn to_usd_per_token_string(self) -> String {
        let full = format!("{}.{:012}", self.0 / 1_000_000_000_000, self.0 % 1_000_000_000_000);
        full.trim_end_matches('0').trim_end_matches('.').to_owned()
    }

    fn times(self, tokens: TokenCount) -> PicoUsd {
        PicoUsd(u128::from(self.0) * u128::from(tokens.0))
    }
}

/// What one request cost in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub prompt: TokenCount,
    /// The part of `prompt` that was read from a cache. Never more than `prompt`.
    pub cached_prompt: TokenCount,
    /// Generated tokens, reasoning included.
    pub completion: TokenCount,
}

/// What a seller asks per token and per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PriceSchedule {
    /// Per uncached prompt token.
    pub prompt: PicoUsdPerToken,
    /// Per prompt token read from a cache.
    pub cached_prompt: PicoUsdPerToken,
    /// Per generated token.
    pub completion: PicoUsdPerToken,
    /// Once per request.
    pub request: NanoUsd,
}

/// A priced usage. `prompt + completion + request + rounding` is `total`, to the nano-dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Charge {
    /// Cost of the prompt, rounded down.
    pub prompt: NanoUsd,
    /// Cost of the completion, rounded down.
    pub completion: NanoUsd,
    /// The request fee.
    pub request: NanoUsd,
    /// What rounding up once added over the rounded-down parts: 0 to 2 nano-dollars.
    pub rounding: NanoUsd,
    /// What the buyer pays.
    pub total: NanoUsd,
}

impl Usage {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        let sum =
            |a: TokenCount, b: TokenCount| a.0.checked_add(b.0).map(TokenCount).ok_or(MoneyError::Overflow);
        Ok(Self {
            prompt: sum(self.prompt, other.prompt)?,
            cached_prompt: sum(self.cached_prompt, other.cached_prompt)?,
            completion: sum(self.completion, other.completion)?,
        })
    }
}

impl Charge {
    /// Both together; the components still add up to the total.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        Ok(Self {
            prompt: self.prompt.checked_add(other.prompt)?,
            completion: self.completion.checked_add(other.completion)?,
            request: self.request.checked_add(other.request)?,
            rounding: self.rounding.checked_add(other.rounding)?,
            total: self.total.checked_add(other.total)?,
        })
    }
}

impl PriceSchedule {
    /// Prices a usage: the exact sum in pico-dollars, rounded up once.
    /// A `cached_prompt` above `prompt` is an error: unknown is never zero.
    pub fn charge(&self, usage: &Usage) -> Result<Charge, MoneyError> {
        let uncached = usage.prompt.0.checked_sub(usage.cached_prompt.0).ok_or(MoneyError::Overflow)?;
        let prompt_exact = self
            .prompt
            .times(TokenCount(uncached))
            .checked_add(self.cached_prompt.times(usage.cached_prompt))?;
        let completion_exact = self.completion.times(usage.completion);
        let tokens_total = prompt_exact.checked_add(completion_exact)?.round_up()?;
        let total = tokens_total.checked_add(self.request)?;
        let prompt = prompt_exact.round_down()?;
        let completion = completion_exact.round_down()?;
        let rounding = tokens_total.checked_sub(prompt)?.checked_sub(completion)?;
        Ok(Charge { prompt, completion, request: self.request, rounding, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(prompt: u64, cached: u64, completion: u64, request: u64) -> PriceSchedule {
        PriceSchedule {
            prompt: PicoUsdPerToken(prompt),
            cached_prompt: PicoUsdPerToken(cached),
            completion: PicoUsdPerToken(completion),
            request: NanoUsd(request),
        }
    }

    fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
        Usage {
            prompt: TokenCount(prompt),
            cached_prompt: TokenCount(cached),
            completion: TokenCount(completion),
        }
    }

    #[test]
    fn reads_and_writes_prices() {
        let price = PicoUsdPerToken::parse_usd_per_token("0.00000015").unwrap();
        assert_eq!(price, PicoUsdPerToken(150_000));
        assert_eq!(price.to_usd_per_token_string(), "0.00000015");
        assert!(PicoUsdPerToken::parse_usd_per_token("0.0000000000001").is_err());
    }

    #[test]
    fn a_cached_count_above_the_prompt_is_an_error() {
        assert_eq!(schedule(1, 1, 1, 0).charge(&usage(1, 2, 0)), Err(MoneyError::Overflow));
    }

    proptest! {
        #[test]
        fn components_sum_to_the_total(
            p in 0u64..10_000_000, c in 0u64..10_000_000, k in 0u64..10_000_000, r in 0u64..1_000_000,
            n in 0u64..1_000_000, m in 0u64..1_000_000, cached_share in 0u64..=100,
        ) {
            let charge = schedule(p, k, c, r).charge(&usage(n, n * cached_share / 100, m)).unwrap();
            prop_assert_eq!(
                charge.prompt.0 + charge.completion.0 + charge.request.0 + charge.rounding.0,
                charge.total.0
            );
            prop_assert!(charge.rounding.0 <= 2);
        }

        #[test]
        fn more_tokens_never_cost_less(p in 0u64..1_000_000, c in 0u64..1_000_000, n in 0u64..10_000, m in 0u64..10_000) {
            let s = schedule(p, p, c, 0);
            let less = s.charge(&usage(n, 0, m)).unwrap().total;
            let more = s.charge(&usage(n + 1, 0, m + 1)).unwrap().total;
            prop_assert!(less <= more);
        }
    }
}

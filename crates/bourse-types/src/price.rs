//! Prices, token counts, usage, and the one place where usage becomes money.
//!
//! A price is pico-dollars per token (equal to micro-dollars per million tokens) or per unit of what is
//! not counted in tokens (an image, a second of audio, a character, a search), read from the decimal
//! dollar strings that the field publishes. [`PriceSchedule::charge`] prices once and rounds up once; it
//! also names where the rounding went, so that every ledger sums to zero.

use crate::money::{MoneyError, NanoUsd, PicoUsd, parse_scaled};

/// Decimal places of a dollar amount written in pico-dollars.
const PICO_DECIMALS: usize = 12;

/// A number of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TokenCount(pub u64);

/// What somebody other than the seller counted of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptTokens {
    /// Rendered with the model's own template: what every honest seller of the model counts.
    Exact(u64),
    /// A bound by rule, where a seller's template may render what cannot be rendered here.
    AtMost(u64),
}

impl PromptTokens {
    /// The number, whatever it means.
    pub fn tokens(self) -> u64 {
        match self {
            Self::Exact(tokens) | Self::AtMost(tokens) => tokens,
        }
    }

    /// With so many more that are not known exactly; saturates.
    #[must_use]
    pub fn and_at_most(self, more: u64) -> Self {
        if more == 0 { self } else { Self::AtMost(self.tokens().saturating_add(more)) }
    }
}

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
        pico_usd_string(self.0)
    }

    fn times(self, tokens: TokenCount) -> PicoUsd {
        PicoUsd(u128::from(self.0) * u128::from(tokens.0))
    }
}

/// 10⁻¹² USD per unit of what is not counted in tokens: an image, a second of audio, a character, a
/// search. What one unit is, the offer says. `u64` reaches 18 million dollars per unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoUsdPerUnit(pub u64);

impl PicoUsdPerUnit {
    /// Nothing is sold but tokens.
    pub const ZERO: Self = Self(0);

    /// Reads dollars per unit such as `0.04`; at most twelve decimal places, exact or an error.
    pub fn parse_usd_per_unit(text: &str) -> Result<Self, PriceError> {
        PicoUsdPerToken::parse_usd_per_token(text).map(|price| Self(price.0))
    }

    /// The price as decimal dollars per unit, trailing zeros cut, such as `0.04`.
    pub fn to_usd_per_unit_string(self) -> String {
        pico_usd_string(self.0)
    }

    fn times(self, units: u64) -> PicoUsd {
        PicoUsd(u128::from(self.0) * u128::from(units))
    }
}

/// Pico-dollars as decimal dollars, trailing zeros cut.
fn pico_usd_string(pico: u64) -> String {
    let full = format!("{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    full.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What one request used: tokens, and units of what is not counted in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Usage {
    /// All prompt tokens, those read from or written into a cache included.
    pub prompt: TokenCount,
    /// The part of `prompt` that was read from a cache. With `cache_write` never more than `prompt`.
    pub cached_prompt: TokenCount,
    /// The part of `prompt` that was written into a cache. With `cached_prompt` never more than `prompt`.
    pub cache_write: TokenCount,
    /// Generated tokens, reasoning included.
    pub completion: TokenCount,
    /// Images, seconds, characters or searches, as the offer sells them; zero where tokens are all.
    pub units: u64,
}

impl Usage {
    /// Both together.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        let sum = |a: u64, b: u64| a.checked_add(b).ok_or(MoneyError::Overflow);
        let tokens = |a: TokenCount, b: TokenCount| sum(a.0, b.0).map(TokenCount);
        Ok(Self {
            prompt: tokens(self.prompt, other.prompt)?,
            cached_prompt: tokens(self.cached_prompt, other.cached_prompt)?,
            cache_write: tokens(self.cache_write, other.cache_write)?,
            completion: tokens(self.completion, other.completion)?,
            units: sum(self.units, other.units)?,
        })
    }

    /// A usage of tokens alone, nothing written into a cache.
    pub const fn of_tokens(prompt: u64, cached_prompt: u64, completion: u64) -> Self {
        Self {
            prompt: TokenCount(prompt),
            cached_prompt: TokenCount(cached_prompt),
            cache_write: TokenCount(0),
            completion: TokenCount(completion),
            units: 0,
        }
    }

    /// Prompt tokens neither read from nor written into a cache; none when the parts exceed the whole.
    pub fn fresh_prompt(&self) -> Option<TokenCount> {
        let rest = self.prompt.0.checked_sub(self.cached_prompt.0)?;
        rest.checked_sub(self.cache_write.0).map(TokenCount)
    }
}

/// What a seller asks per token, per unit and per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PriceSchedule {
    /// Per prompt token neither read from nor written into a cache.
    pub prompt: PicoUsdPerToken,
    /// Per prompt token read from a cache.
    pub cached_prompt: PicoUsdPerToken,
    /// Per prompt token written into a cache.
    pub cache_write: PicoUsdPerToken,
    /// Per generated token.
    pub completion: PicoUsdPerToken,
    /// Once per request.
    pub request: NanoUsd,
    /// Per unit; zero where tokens are all that is sold.
    pub unit: PicoUsdPerUnit,
}

/// A priced usage. `prompt + completion + request + units + rounding` is `total`, to the nano-dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Charge {
    /// Cost of the prompt, rounded down.
    pub prompt: NanoUsd,
    /// Cost of the completion, rounded down.
    pub completion: NanoUsd,
    /// The request fee.
    pub request: NanoUsd,
    /// Cost of the units, rounded down.
    pub units: NanoUsd,
    /// What rounding up once added over the rounded-down parts: 0 to [`Charge::ROUNDING_MAX`].
    pub rounding: NanoUsd,
    /// What the buyer pays.
    pub total: NanoUsd,
}

impl Charge {
    /// Nothing for nothing.
    pub const ZERO: Self = Self {
        prompt: NanoUsd::ZERO,
        completion: NanoUsd::ZERO,
        request: NanoUsd::ZERO,
        units: NanoUsd::ZERO,
        rounding: NanoUsd::ZERO,
        total: NanoUsd::ZERO,
    };

    /// The most that rounding up once adds over three parts that were rounded down.
    pub const ROUNDING_MAX: NanoUsd = NanoUsd(3);

    /// Both together; the parts still sum to the total.
    pub fn plus(&self, other: &Self) -> Result<Self, MoneyError> {
        Ok(Self {
            prompt: self.prompt.checked_add(other.prompt)?,
            completion: self.completion.checked_add(other.completion)?,
            request: self.request.checked_add(other.request)?,
            units: self.units.checked_add(other.units)?,
            rounding: self.rounding.checked_add(other.rounding)?,
            total: self.total.checked_add(other.total)?,
        })
    }

    /// The parts that sum to the total, rounding among them; none when their sum does not fit.
    pub fn sum_of_parts(&self) -> Option<NanoUsd> {
        let parts = [self.prompt, self.completion, self.request, self.units, self.rounding];
        parts.into_iter().try_fold(NanoUsd::ZERO, |sum, part| sum.checked_add(part).ok())
    }
}

impl PriceSchedule {
    /// A seller of tokens who makes no difference between prompt tokens and asks nothing per request.
    pub const fn per_token(prompt: PicoUsdPerToken, completion: PicoUsdPerToken) -> Self {
        Self {
            prompt,
            cached_prompt: prompt,
            cache_write: prompt,
            completion,
            request: NanoUsd::ZERO,
            unit: PicoUsdPerUnit::ZERO,
        }
    }

    /// The dearest that a prompt token can be: what bounds a prompt of which nobody knows yet what is
    /// cached.
    pub fn dearest_prompt(&self) -> PicoUsdPerToken {
        self.prompt.max(self.cached_prompt).max(self.cache_write)
    }

    /// Prices a usage: the exact sum in pico-dollars, rounded up once.
    /// Cached and written parts that together exceed the prompt are an error: unknown is never zero.
    pub fn charge(&self, usage: &Usage) -> Result<Charge, MoneyError> {
        let fresh = usage.fresh_prompt().ok_or(MoneyError::Overflow)?;
        let prompt_exact = self
            .prompt
            .times(fresh)
            .checked_add(self.cached_prompt.times(usage.cached_prompt))?
            .checked_add(self.cache_write.times(usage.cache_write))?;
        let completion_exact = self.completion.times(usage.completion);
        let units_exact = self.unit.times(usage.units);
        let metered = prompt_exact.checked_add(completion_exact)?.checked_add(units_exact)?.round_up()?;
        let total = metered.checked_add(self.request)?;
        let prompt = prompt_exact.round_down()?;
        let completion = completion_exact.round_down()?;
        let units = units_exact.round_down()?;
        let rounding = metered.checked_sub(prompt)?.checked_sub(completion)?.checked_sub(units)?;
        Ok(Charge { prompt, completion, request: self.request, units, rounding, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_prices() {
        let price = PicoUsdPerToken::parse_usd_per_token("0.00000015").unwrap();
        assert_eq!(price, PicoUsdPerToken(150_000));
        assert_eq!(price.to_usd_per_token_string(), "0.00000015");
        assert!(PicoUsdPerToken::parse_usd_per_token("0.0000000000001").is_err());
        let image = PicoUsdPerUnit::parse_usd_per_unit("0.04").unwrap();
        assert_eq!((image, image.to_usd_per_unit_string()), (PicoUsdPerUnit(40_000_000_000), "0.04".into()));
    }

    #[test]
    fn parts_above_the_prompt_are_an_error() {
        let prices = PriceSchedule::per_token(PicoUsdPerToken(1), PicoUsdPerToken(1));
        let written = |prompt, cached, write| {
            let usage = Usage { cache_write: TokenCount(write), ..Usage::of_tokens(prompt, cached, 0) };
            prices.charge(&usage).is_ok()
        };
        assert!(written(2, 1, 1) && written(2, 0, 2));
        assert!(!written(1, 2, 0) && !written(2, 1, 2) && !written(2, u64::MAX, u64::MAX));
    }

    #[test]
    fn each_part_has_its_price() {
        let prices = PriceSchedule {
            prompt: PicoUsdPerToken(1_000_400),
            cached_prompt: PicoUsdPerToken(100_100),
            cache_write: PicoUsdPerToken(1_250_300),
            completion: PicoUsdPerToken(2_000_900),
            request: NanoUsd(7),
            unit: PicoUsdPerUnit(3_000_900),
        };
        let usage = Usage { cache_write: TokenCount(2), units: 1, ..Usage::of_tokens(4, 1, 1) };
        let charge = prices.charge(&usage).unwrap();
        // 1,000,400 + 100,100 + 2,500,600 pico-dollars of prompt, then 2,000,900 and 3,000,900.
        let want = Charge {
            prompt: NanoUsd(3_601),
            completion: NanoUsd(2_000),
            request: NanoUsd(7),
            units: NanoUsd(3_000),
            rounding: NanoUsd(2),
            total: NanoUsd(8_610),
        };
        assert_eq!(charge, want);
        assert_eq!(prices.dearest_prompt(), prices.cache_write);
        let dregs = PriceSchedule {
            unit: PicoUsdPerUnit(999),
            ..PriceSchedule::per_token(PicoUsdPerToken(999), PicoUsdPerToken(999))
        };
        let charge = dregs.charge(&Usage { units: 1, ..Usage::of_tokens(1, 0, 1) }).unwrap();
        assert_eq!((charge.rounding, charge.total), (Charge::ROUNDING_MAX, NanoUsd(3)));
    }

    #[test]
    fn parts_that_do_not_fit_have_no_sum() {
        let huge = Charge { prompt: NanoUsd::MAX, units: NanoUsd(1), ..Charge::ZERO };
        assert_eq!((huge.sum_of_parts(), Charge::ZERO.sum_of_parts()), (None, Some(NanoUsd::ZERO)));
    }

    fn schedules() -> impl Strategy<Value = PriceSchedule> {
        (any::<[u32; 5]>(), 0u64..1_000_000).prop_map(|(pico, request)| PriceSchedule {
            prompt: PicoUsdPerToken(u64::from(pico[0])),
            cached_prompt: PicoUsdPerToken(u64::from(pico[1])),
            cache_write: PicoUsdPerToken(u64::from(pico[2])),
            completion: PicoUsdPerToken(u64::from(pico[3])),
            request: NanoUsd(request),
            unit: PicoUsdPerUnit(u64::from(pico[4])),
        })
    }

    fn usages() -> impl Strategy<Value = Usage> {
        (0u64..1_000_000, 0u64..1_000_000, 0u64..1_000, 0u64..=100, 0u64..=100).prop_map(
            |(prompt, completion, units, cached_share, written_share)| {
                let cached = prompt * cached_share / 100;
                let cache_write = TokenCount((prompt - cached) * written_share / 100);
                Usage { cache_write, units, ..Usage::of_tokens(prompt, cached, completion) }
            },
        )
    }

    proptest! {
        #[test]
        fn components_sum_to_the_total(prices in schedules(), usage in usages()) {
            let charge = prices.charge(&usage).unwrap();
            prop_assert_eq!(charge.sum_of_parts(), Some(charge.total));
            prop_assert!(charge.rounding <= Charge::ROUNDING_MAX);
        }

        #[test]
        fn more_never_costs_less(prices in schedules(), usage in usages()) {
            let more = Usage {
                prompt: TokenCount(usage.prompt.0 + 1),
                completion: TokenCount(usage.completion.0 + 1),
                units: usage.units + 1,
                ..usage
            };
            prop_assert!(prices.charge(&usage).unwrap().total <= prices.charge(&more).unwrap().total);
        }

        #[test]
        fn the_dearest_price_bounds_every_prompt(prices in schedules(), usage in usages()) {
            let dearest = prices.dearest_prompt();
            let bound = PriceSchedule { prompt: dearest, cached_prompt: dearest, cache_write: dearest, ..prices };
            prop_assert!(prices.charge(&usage).unwrap().total <= bound.charge(&usage).unwrap().total);
        }
    }
}

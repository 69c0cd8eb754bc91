//! What a good answer really costs here: the number by which offers are weighed.
//!
//! ```text
//! price = prompt × prompt_price − cached × (prompt_price − cached_price)
//!       + completion × completion_price + request_price
//! cost  = max(price, COST_PICO_MIN) × burden
//! cached = min(known, prompt) × cached_share
//! ```
//!
//! List prices mislead twice. First, most prompt tokens of a conversation were sent before: where the
//! seller reads them from a cache they cost a tenth, and where the buyer is sent elsewhere they cost the
//! full price again. `known` is how many tokens of this prompt the offer has seen (a
//! [`Warmth`](crate::Warmth)), and `cached_share` is how many of such tokens it really billed as cached,
//! so that a seller that only advertises a cache gains nothing. Stickiness is thereby priced, not
//! commanded: an offer keeps a conversation until another one is cheaper by more than the cache saves.
//!
//! Second, not every answer is good. `burden` is at least 1 and is computed when outcomes arrive, not
//! here: with a share *g* of good answers it takes 1/*g* attempts to get one, each of which costs the
//! buyer's time, and slowness against peers is worth money too (see [`Vital::burden`]).
//!
//! The idea is the one that the field's largest router describes in its newer pages, which replaced the
//! draw by 1/price²: inputs are the real cache-hit rate, real mix, throughput, time to the first token,
//! failed and broken answers and 429s. The formula and its constants are ours.
//!
//! Made of +, −, ×, ÷ and comparisons alone, which IEEE 754 defines to the bit: a decision replays
//! anywhere. For weighing only; money is never a float.

use crate::health::Vital;
use bourse_types::PriceSchedule;

/// Prices below this, in pico-dollars, weigh the same: a free offer is cheap, not infinitely so, and its
/// burden still counts.
pub const COST_PICO_MIN: f64 = 1_000.0;

/// What a prompt token that need not be computed is worth to who waits for the answer, as a share of its price: the
/// answer comes sooner. A quarter, because the token is paid for all the same.
pub const WORK_SHARE: f64 = 0.25;

/// What a prompt that an offer has seen before saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Saving {
    /// Money: as much as cached tokens cost less, of those that the offer really reads from its cache.
    #[default]
    Price,
    /// Work: what a node of ours need not compute, [`WORK_SHARE`] of the price, or the money where that is more.
    Work,
}

/// Tokens that a request should take, for weighing one offer against another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpectedTokens {
    /// Of the prompt.
    pub prompt: f64,
    /// Of all answers together.
    pub completion: f64,
    /// Tokens of the prompt that this offer has seen before; 0 where it is cold.
    pub known: f64,
    /// What they save.
    pub saving: Saving,
}

/// What a good answer should cost at an offer, in pico-dollars; at least [`COST_PICO_MIN`].
#[inline]
pub fn effective_cost_pico(prices: &PriceSchedule, tokens: ExpectedTokens, vital: &Vital) -> f64 {
    let price = tokens.prompt * prices.prompt.0 as f64 + tokens.completion * prices.completion.0 as f64
        - cache_saving_pico(prices, tokens, vital)
        + prices.request.0 as f64 * 1_000.0;
    burdened(price, vital.burden)
}

/// What a good answer costs at a price, in pico-dollars, by the burden of who gives it.
#[inline]
pub(crate) fn burdened(price_pico: f64, burden: f32) -> f64 {
    // `f64::max` costs more, because it minds what is not a number.
    let price_pico = if price_pico > COST_PICO_MIN { price_pico } else { COST_PICO_MIN };
    price_pico * f64::from(burden)
}

/// What the offer's cache should save of that, in pico-dollars before the burden: the price of sending
/// the conversation elsewhere. Zero where cached tokens save neither money nor work.
#[inline]
pub fn cache_saving_pico(prices: &PriceSchedule, tokens: ExpectedTokens, vital: &Vital) -> f64 {
    let known = tokens.known.min(tokens.prompt);
    let cheaper = prices.prompt.0.saturating_sub(prices.cached_prompt.0) as f64;
    let money = known * f64::from(vital.cached_share) * cheaper;
    match tokens.saving {
        Saving::Price => money,
        Saving::Work => {
            let work = known * WORK_SHARE * prices.prompt.0 as f64;
            if work > money { work } else { money }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::offer;
    use bourse_types::PicoUsdPerToken;
    use proptest::prelude::*;

    fn prices(prompt: u64, cached: u64, completion: u64) -> PriceSchedule {
        PriceSchedule {
            prompt: PicoUsdPerToken(prompt),
            cached_prompt: PicoUsdPerToken(cached),
            completion: PicoUsdPerToken(completion),
            ..offer("m", "s").prices.unwrap()
        }
    }

    #[test]
    fn a_warm_cache_is_worth_its_saving() {
        let tokens =
            ExpectedTokens { prompt: 1_000.0, completion: 100.0, known: 800.0, saving: Saving::Price };
        let vital = Vital { cached_share: 0.5, burden: 2.0, ..Vital::UNKNOWN };
        let cost = effective_cost_pico(&prices(100, 10, 400), tokens, &vital);
        assert!((cost - 2.0 * (1_000.0 * 100.0 - 400.0 * 90.0 + 100.0 * 400.0)).abs() < 1e-6);
        // A cache that costs more than it saves saves nothing.
        assert!(cache_saving_pico(&prices(100, 101, 400), tokens, &vital).abs() < 1e-9);
    }

    #[test]
    fn work_that_a_node_need_not_do_is_worth_a_part_of_its_price_or_the_discount() {
        let tokens =
            ExpectedTokens { prompt: 1_000.0, completion: 100.0, known: 800.0, saving: Saving::Work };
        let vital = Vital { cached_share: 0.5, ..Vital::UNKNOWN };
        let saves = |cached| cache_saving_pico(&prices(100, cached, 400), tokens, &vital);
        assert!((saves(100) - 800.0 * 25.0).abs() < 1e-6);
        assert!((saves(51) - 800.0 * 25.0).abs() < 1e-6);
        assert!((saves(10) - 400.0 * 90.0).abs() < 1e-6);
        let more = ExpectedTokens { known: 9_000.0, ..tokens };
        assert!((cache_saving_pico(&prices(100, 100, 400), more, &vital) - 1_000.0 * 25.0).abs() < 1e-6);
    }

    #[test]
    fn a_free_offer_still_carries_its_burden() {
        let tokens = ExpectedTokens { prompt: 1_000.0, completion: 100.0, known: 0.0, saving: Saving::Price };
        let vital = Vital { burden: 3.0, ..Vital::UNKNOWN };
        let cost = effective_cost_pico(&prices(0, 0, 0), tokens, &vital);
        assert!((cost - 3.0 * COST_PICO_MIN).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn more_of_anything_but_cache_never_costs_less(
            prompt in 0u64..10_000_000, cached in 0u64..10_000_000, completion in 0u64..10_000_000,
            n in 0.0f64..1e6, m in 0.0f64..1e5, known in 0.0f64..2e6, share in 0.0f32..=1.0, burden in 1.0f32..100.0,
            is_work: bool,
        ) {
            let saving = if is_work { Saving::Work } else { Saving::Price };
            let vital = Vital { cached_share: share, burden, ..Vital::UNKNOWN };
            let tokens = ExpectedTokens { prompt: n, completion: m, known, saving };
            let prices = prices(prompt, cached, completion);
            let cost = effective_cost_pico(&prices, tokens, &vital);
            prop_assert!(cost.is_finite() && cost >= COST_PICO_MIN);
            let cold = effective_cost_pico(&prices, ExpectedTokens { known: 0.0, ..tokens }, &vital);
            prop_assert!(cost <= cold);
            let worse = Vital { burden: burden * 2.0, ..vital };
            prop_assert!(effective_cost_pico(&prices, tokens, &worse) >= cost);
            let longer = ExpectedTokens { completion: m + 1.0, ..tokens };
            prop_assert!(effective_cost_pico(&prices, longer, &vital) >= cost);
        }
    }
}

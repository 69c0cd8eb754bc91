//! Best execution: what each attempt of a plan should cost, and what the next best offer would have.
//!
//! Computed on demand from snapshot and plan, not stored: a buyer who asks gets the comparison, others pay
//! nothing for it. Prices are list prices of the expected usage, rounded up once as a charge is; they say
//! nothing about what speed or reliability were worth.

use crate::demand::Demand;
use crate::offer::OfferIndex;
use crate::plan::Plan;
use crate::rejection::Rejection;
use crate::snapshot::MarketSnapshot;
use bourse_types::NanoUsd;

/// One attempt beside the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    /// The offer of the attempt.
    pub offer: OfferIndex,
    /// What the request should cost there; none when it cannot be computed.
    pub expected: Option<NanoUsd>,
    /// The cheapest other offer that could have served, and what the request should cost there.
    pub next_best: Option<(OfferIndex, NanoUsd)>,
}

/// Compares every attempt of a plan with the cheapest other offer that could have served: another attempt,
/// or one that only the budget of attempts left out.
pub fn execution(snapshot: &MarketSnapshot, plan: &Plan, demand: &Demand<'_>) -> Vec<Execution> {
    let usage = demand.usage_expected();
    let price = |index: OfferIndex| {
        let prices = snapshot.offer(index)?.prices?;
        prices.charge(&usage).ok().map(|charge| charge.total)
    };
    let could_serve =
        |reason: Rejection| matches!(reason, Rejection::AttemptBudget | Rejection::FallbacksOff);
    let left_out = plan.rejected.iter().filter(|(_, reason)| could_serve(*reason)).map(|(index, _)| index);
    let priced = plan.attempts.iter().copied().chain(left_out).filter_map(|i| Some((price(i)?, i)));
    let mut cheapest: [Option<(NanoUsd, OfferIndex)>; 2] = [None; 2];
    for one in priced {
        let [first, second] = &mut cheapest;
        if first.is_none_or(|first| one < first) {
            *second = first.replace(one);
        } else if second.is_none_or(|second| one < second) {
            *second = Some(one);
        }
    }
    let beside = |offer: OfferIndex| {
        let other = cheapest.into_iter().flatten().find(|(_, index)| *index != offer);
        Execution { offer, expected: price(offer), next_best: other.map(|(total, index)| (index, total)) }
    };
    plan.attempts.iter().copied().map(beside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthTable;
    use crate::preferences::{Preferences, Sort};
    use crate::snapshot::tests::offer;
    use bourse_types::{Digest32, PicoUsdPerToken, PriceSchedule, UnixMs};

    #[test]
    fn each_attempt_stands_beside_the_cheapest_other() {
        let priced = |seller: &str, pico: u64| {
            let prices = PriceSchedule::per_token(PicoUsdPerToken(pico), PicoUsdPerToken(pico));
            crate::Offer { prices: Some(prices), ..offer("m", seller) }
        };
        let offers = vec![priced("a", 3_000), priced("b", 1_000), priced("c", 2_000)];
        let snapshot = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        let wishes = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
        let demand = Demand { prompt_bytes: 40, max_tokens: Some(10), ..Demand::new("m", &wishes) };
        let planned = crate::plan(&snapshot, &HealthTable::default(), &demand, UnixMs(1), 1).unwrap();
        let table = execution(&snapshot, &planned, &demand);
        let seen: Vec<_> = table.iter().map(|e| (e.offer.0, e.expected, e.next_best)).collect();
        let nano = |n: u64| Some(NanoUsd(n));
        assert_eq!(seen[0], (1, nano(20), Some((OfferIndex(2), NanoUsd(40)))));
        assert_eq!(seen[1], (2, nano(40), Some((OfferIndex(1), NanoUsd(20)))));
        assert_eq!(seen[2], (0, nano(60), Some((OfferIndex(1), NanoUsd(20)))));
        let single = Preferences { allow_fallbacks: false, ..wishes.clone() };
        let demand = Demand { preferences: &single, ..demand };
        let planned = crate::plan(&snapshot, &HealthTable::default(), &demand, UnixMs(1), 1).unwrap();
        let table = execution(&snapshot, &planned, &demand);
        assert_eq!((table.len(), table[0].next_best), (1, Some((OfferIndex(2), NanoUsd(40)))));
    }
}

//! Warm offers in the draw.

use crate::demand::Demand;
use crate::effective::Saving;
use crate::health::HealthTable;
use crate::health::Outcome;
use crate::offer::Offer;
use crate::offer::OfferIndex;
use crate::plan::plan;
use crate::preferences::Preferences;
use crate::snapshot::MarketSnapshot;
use crate::snapshot::tests::offer;
use crate::sticky::Warmth;
use bourse_types::{Digest32, PicoUsdPerToken, PriceSchedule, UnixMs};

const NOW: UnixMs = UnixMs(1_000_000);
const WARM: OfferIndex = OfferIndex(3);

/// Ten sellers at one price, but for the given ones, with cached tokens at a tenth.
fn book(prices: &[(usize, u64)]) -> MarketSnapshot {
    let priced = |n: usize| {
        let found = prices.iter().find(|(at, _)| *at == n);
        let prompt = PicoUsdPerToken(found.map_or(1_000_000, |(_, price)| *price));
        let cached_prompt = PicoUsdPerToken(prompt.0 / 10);
        let schedule = PriceSchedule { cached_prompt, ..PriceSchedule::per_token(prompt, prompt) };
        Offer { prices: Some(schedule), ..offer("m", &format!("s{n}")) }
    };
    MarketSnapshot::new((0..10).map(priced).collect(), Digest32::default()).unwrap()
}

/// How often the warm offer is asked first, of 400 seeds.
fn first(book: &MarketSnapshot, health: &HealthTable, tokens: u32) -> usize {
    let wishes = Preferences::default();
    let warmth = [Warmth { offer: WARM, tokens, saving: Saving::Price }];
    let demand = Demand { prompt_bytes: 40_000, warmth: &warmth, ..Demand::new("m", &wishes) };
    let plans = (0..400).map(|seed| plan(book, health, &demand, NOW, seed).unwrap());
    plans.filter(|plan| plan.attempts[0] == WARM).count()
}

#[test]
fn a_conversation_stays_where_it_is_cheapest() {
    let book = book(&[]);
    let health = HealthTable::new(&book);
    assert_eq!(first(&book, &health, 9_000), 400);
    let cold = first(&book, &health, 0);
    assert!((15..=75).contains(&cold), "a cold offer is drawn like the others: {cold}");
}

#[test]
fn everybody_is_asked_once_and_the_rest_is_drawn() {
    let book = book(&[]);
    let wishes = Preferences::default();
    let warmth = [Warmth { offer: WARM, tokens: 9_000, saving: Saving::Price }];
    let demand = Demand { prompt_bytes: 40_000, warmth: &warmth, ..Demand::new("m", &wishes) };
    let mut second = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let plan = plan(&book, &HealthTable::new(&book), &demand, NOW, seed).unwrap();
        let all: std::collections::BTreeSet<_> = plan.attempts.iter().copied().collect();
        assert_eq!((plan.attempts.len(), all.len()), (10, 10));
        second.insert(plan.attempts[1]);
    }
    assert_eq!(second.len(), 9);
}

#[test]
fn who_is_cheaper_by_more_than_the_cache_saves_is_in_the_draw_again() {
    let book = book(&[(0, 300_000)]);
    let health = HealthTable::new(&book);
    let stays = first(&book, &health, 9_000);
    assert!((20..300).contains(&stays), "{stays}");
}

#[test]
fn a_warm_offer_that_rests_is_no_favourite() {
    let book = book(&[]);
    let mut health = HealthTable::new(&book);
    for _ in 0..3 {
        health.on_start(WARM);
        health.on_outcome(WARM, NOW, Outcome::Failure);
    }
    assert_eq!(first(&book, &health, 9_000), 0);
}

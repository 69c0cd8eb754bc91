use super::*;
use crate::health::{Outcome, Quality, Served};
use crate::offer::{DataPolicy, Offer, Operations, Quantization, ServiceTier, Supports, Unit};
use crate::preferences::{
    Cutoffs, MaxPrice, Partition, Policy, Preferences, QuantizationSet, Sort, TierWish,
};
use crate::snapshot::tests::offer;
use crate::sticky::Warmth;
use bourse_types::{
    DurationMs, ModelSlug, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, SellerName,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

mod draws;
mod golden;
mod groups;
mod warmth;

const NOW: UnixMs = UnixMs(1_000_000);

fn priced(seller: &str, pico: u64) -> Offer {
    let mut offer = offer("m", seller);
    offer.prices = offer.prices.map(|p| PriceSchedule {
        prompt: PicoUsdPerToken(pico),
        completion: PicoUsdPerToken(pico),
        ..p
    });
    offer
}

fn market(offers: Vec<Offer>) -> MarketSnapshot {
    MarketSnapshot::new(offers, Digest32([7; 32])).unwrap()
}

fn demand(preferences: &Preferences) -> Demand<'_> {
    Demand { prompt_bytes: 400, messages: 1, max_tokens: Some(100), ..Demand::new("m", preferences) }
}

fn names(list: &[&str]) -> Vec<SellerName> {
    list.iter().map(|n| SellerName::parse(n).unwrap()).collect()
}

fn sellers(snapshot: &MarketSnapshot, plan: &Plan) -> Vec<String> {
    plan.attempts.iter().map(|i| snapshot.offer(*i).unwrap().seller.to_string()).collect()
}

/// Checks that the one offer is rejected for `want`.
#[track_caller]
fn check_rejected(offer: Offer, demand: &Demand<'_>, want: Rejection) {
    let refused = plan(&market(vec![offer]), &HealthTable::default(), demand, NOW, 1).unwrap_err();
    let PlanError::NoOffers { rejected } = &refused else { panic!("{refused}") };
    assert_eq!(rejected.iter().collect::<Vec<_>>(), [(OfferIndex(0), want)]);
    assert!(refused.to_string().contains(want.code()), "{refused}");
}

#[test]
fn every_hard_filter_leaves_its_reason() {
    let wishes = Preferences::default();
    let free = demand(&wishes);
    check_rejected(Offer { prices: None, ..priced("a", 5) }, &free, Rejection::UnknownPrice);
    let only = Preferences { only: names(&["b"]), ..Preferences::default() };
    check_rejected(priced("a", 5), &demand(&only), Rejection::NotInOnly);
    let ignore = Preferences { ignore: names(&["a"]), ..Preferences::default() };
    check_rejected(priced("a/fast", 5), &demand(&ignore), Rejection::Ignored);
    let order = Preferences { order: names(&["b"]), allow_fallbacks: false, ..Preferences::default() };
    check_rejected(priced("a", 5), &demand(&order), Rejection::FallbacksOff);
    let int8 = Some(QuantizationSet::default().with(Quantization::Int8));
    let int8 = Preferences { quantizations: int8, ..Preferences::default() };
    check_rejected(priced("a", 5), &demand(&int8), Rejection::Quantization);
    let plain = Offer { supports: Supports::SEED, ..priced("a", 5) };
    let tools = Demand { needs: Supports::TOOLS.with(Supports::SEED), ..free };
    check_rejected(plain.clone(), &tools, Rejection::MissingSupport);
    let strict = Preferences { require_parameters: true, ..Preferences::default() };
    let strict = Demand { prefers: Supports::LOGPROBS, ..demand(&strict) };
    check_rejected(plain, &strict, Rejection::MissingSupport);
    check_rejected(Offer { completion_tokens_max: Some(99), ..priced("a", 5) }, &free, Rejection::MaxTokens);
    let narrow = Offer { context_tokens_max: 149, ..priced("a", 5) };
    check_rejected(narrow.clone(), &free, Rejection::ContextTooLong);
    assert!(
        plan(
            &market(vec![Offer { context_tokens_max: 150, ..narrow }]),
            &HealthTable::default(),
            &free,
            NOW,
            1
        )
        .is_ok()
    );
}

#[test]
fn max_price_is_a_limit_that_may_be_met() {
    let cap = |prompt, completion, request| Preferences {
        max_price: MaxPrice {
            prompt: Some(PicoUsdPerToken(prompt)),
            completion: Some(PicoUsdPerToken(completion)),
            request: Some(NanoUsd(request)),
            image: Some(PicoUsdPerUnit(7)),
            audio: None,
        },
        ..Preferences::default()
    };
    let mut asks = priced("a", 5);
    asks.prices = asks.prices.map(|p| PriceSchedule { request: NanoUsd(9), unit: PicoUsdPerUnit(8), ..p });
    let met = cap(5, 5, 9);
    let seconds = Offer { unit: Some(Unit::Second), ..asks.clone() };
    for fits in [asks.clone(), seconds] {
        assert!(plan(&market(vec![fits]), &HealthTable::default(), &demand(&met), NOW, 1).is_ok());
    }
    for (wishes, part) in [
        (cap(4, 5, 9), "0.000000000005 USD per prompt token"),
        (cap(5, 4, 9), "0.000000000005 USD per completion token"),
        (cap(5, 5, 8), "$0.000000009 per request"),
    ] {
        let demand = demand(&wishes);
        check_rejected(asks.clone(), &demand, Rejection::MaxPrice);
        assert_eq!(Rejection::MaxPrice.explain(&asks, &demand).to_string(), format!("it asks {part}"));
    }
    let images = Offer { unit: Some(Unit::Image), ..asks };
    check_rejected(images, &demand(&met), Rejection::MaxPrice);
}

#[test]
fn a_full_seller_is_not_asked() {
    let wishes = Preferences::default();
    let snapshot = market(vec![Offer { capacity: Some(2), ..priced("a", 5) }]);
    let mut health = HealthTable::new(&snapshot);
    let asked = |health: &HealthTable| plan(&snapshot, health, &demand(&wishes), NOW, 1);
    health.on_start(OfferIndex(0));
    assert!(asked(&health).is_ok());
    health.on_start(OfferIndex(0));
    let refused = asked(&health).unwrap_err();
    assert!(refused.is_transient(), "{refused}");
}

#[test]
fn an_unknown_model_is_not_found() {
    let wishes = Preferences::default();
    let unknown = Demand { model: "n", ..demand(&wishes) };
    assert_eq!(
        plan(&market(vec![priced("a", 5)]), &HealthTable::default(), &unknown, NOW, 1),
        Err(PlanError::ModelNotFound)
    );
}

#[test]
fn a_failing_seller_is_the_last_resort() {
    let wishes = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
    let snapshot = market(vec![priced("a", 5), priced("b", 50), priced("c", 60)]);
    let mut health = HealthTable::new(&snapshot);
    for _ in 0..3 {
        health.on_start(OfferIndex(0));
        health.on_outcome(OfferIndex(0), NOW, Outcome::Failure);
    }
    health.on_start(OfferIndex(2));
    health.on_outcome(OfferIndex(2), NOW, Outcome::RateLimited { retry_after: Some(DurationMs(9)) });
    let asked = plan(&snapshot, &health, &demand(&wishes), NOW, 1).unwrap();
    assert_eq!(sellers(&snapshot, &asked), ["b", "a", "c"]);
    assert_eq!(asked.last_resorts_from, 1);
    let single = Preferences { allow_fallbacks: false, ..wishes };
    let asked = plan(&snapshot, &health, &demand(&single), NOW, 1).unwrap();
    assert_eq!(sellers(&snapshot, &asked), ["b"]);
    let reasons: Vec<_> = asked.rejected.iter().map(|(_, r)| r.code()).collect();
    assert_eq!(reasons, ["breaker_open", "rate_limited"]);
    let drawn = Preferences { sort: None, ..single };
    let asked = plan(&snapshot, &health, &demand(&drawn), NOW, 1).unwrap();
    assert_eq!(sellers(&snapshot, &asked), ["b"]);
    assert_eq!(asked.rejected.iter().map(|(_, r)| r.code()).collect::<Vec<_>>(), reasons);
}

#[test]
fn order_and_sort_replace_the_draw() {
    let snapshot = market(vec![priced("a", 9), priced("b/x", 8), priced("b/y", 7), priced("c", 5)]);
    let mut health = HealthTable::new(&snapshot);
    for (index, ttft) in [(0, 10), (1, 30)] {
        health.on_start(OfferIndex(index));
        health.on_outcome(OfferIndex(index), NOW, Outcome::success(DurationMs(ttft)));
    }
    let ask = |wishes: &Preferences, seed| {
        let plan = plan(&snapshot, &health, &demand(wishes), NOW, seed).unwrap();
        sellers(&snapshot, &plan)
    };
    let order = Preferences { order: names(&["b", "a"]), ..Preferences::default() };
    let listed = Preferences { allow_fallbacks: false, ..order.clone() };
    let cheap = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
    let quick = Preferences { sort: Some(Sort::Latency), ..Preferences::default() };
    for seed in 0..50 {
        assert_eq!(ask(&order, seed), ["b/y", "b/x", "a", "c"]);
        assert_eq!(ask(&listed, seed), ["b/y", "b/x", "a"]);
        assert_eq!(ask(&cheap, seed), ["c", "b/y", "b/x", "a"]);
        assert_eq!(ask(&quick, seed), ["a", "b/x", "c", "b/y"]);
    }
}

#[test]
fn what_was_sent_narrows_the_field_while_somebody_supports_it() {
    let wishes = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
    let with = |seller: &str, pico, supports| Offer { supports, ..priced(seller, pico) };
    let snapshot = market(vec![
        with("a", 1, Supports::NONE),
        with("b", 2, Supports::TOOLS),
        with("c", 3, Supports::TOOLS.with(Supports::SEED)),
    ]);
    let ask = |prefers| {
        plan(&snapshot, &HealthTable::default(), &Demand { prefers, ..demand(&wishes) }, NOW, 1).unwrap()
    };
    assert_eq!(sellers(&snapshot, &ask(Supports::NONE)), ["a", "b", "c"]);
    assert_eq!(sellers(&snapshot, &ask(Supports::TOOLS)), ["b", "c"]);
    let both = ask(Supports::TOOLS.with(Supports::SEED));
    assert_eq!(sellers(&snapshot, &both), ["c"]);
    assert_eq!(both.rejected.get(OfferIndex(1)), Some(Rejection::MissingPreferred));
    assert_eq!(sellers(&snapshot, &ask(Supports::LOGPROBS)), ["a", "b", "c"]);
}

#[test]
fn the_attempt_budget_is_bounded() {
    let wishes = Preferences::default();
    let many = |n: usize| market((0..n).map(|i| priced(&i.to_string(), 5)).collect());
    let at = plan(&many(ATTEMPTS_MAX), &HealthTable::default(), &demand(&wishes), NOW, 1).unwrap();
    assert_eq!((at.attempts.len(), at.rejected.len()), (ATTEMPTS_MAX, 0));
    let past = plan(&many(ATTEMPTS_MAX + 1), &HealthTable::default(), &demand(&wishes), NOW, 1).unwrap();
    assert_eq!(past.attempts.len(), ATTEMPTS_MAX);
    assert_eq!(past.rejected.counts().collect::<Vec<_>>(), [(Rejection::AttemptBudget, 1)]);
    let single = Preferences { allow_fallbacks: false, ..wishes };
    let one = plan(&many(3), &HealthTable::default(), &demand(&single), NOW, 1).unwrap();
    assert_eq!(one.attempts.len(), 1);
    assert!(one.rejected.iter().all(|(_, reason)| reason == Rejection::FallbacksOff));
}

#[test]
fn digest_bytes_tell_plans_apart() {
    let wishes = Preferences::default();
    let snapshot = market(vec![priced("a", 5), priced("b", 5), Offer { prices: None, ..priced("c", 5) }]);
    let one = plan(&snapshot, &HealthTable::default(), &demand(&wishes), NOW, 1).unwrap();
    assert_eq!(one.digest_bytes().len(), 13 + 32 + 8 + 4 + 4 + 2 * 4 + 4 + 8 + 3);
    let mut others = [one.clone(), one.clone(), one.clone(), one.clone(), one.clone()];
    others[0].seed += 1;
    others[1].attempts.reverse();
    others[2].rejected.spans[0].1[2] = Rejection::Ignored.number();
    others[3].snapshot = Digest32([8; 32]);
    others[4].last_resorts_from = 1;
    assert!(others.iter().all(|other| other.digest_bytes() != one.digest_bytes()));
}

fn any_offers() -> impl Strategy<Value = Vec<Offer>> {
    let one =
        (proptest::option::weighted(0.9, 0u64..1_000_000), 0u64..400, 0u32..3, proptest::bool::weighted(0.8));
    proptest::collection::vec(one, 1..40).prop_map(|list| {
        let offers = list.into_iter().enumerate().map(|(n, (pico, context, capacity, supports_all))| Offer {
            prices: pico.and_then(|pico| priced("x", pico).prices),
            context_tokens_max: context,
            capacity: (capacity > 0).then_some(capacity),
            supports: if supports_all { Supports::ALL } else { Supports::NONE },
            ..priced(&format!("s{n}"), 1)
        });
        offers.collect()
    })
}

proptest! {
    #[test]
    fn every_offer_is_an_attempt_or_has_a_reason(
        offers in any_offers(), seed: u64, failures in proptest::collection::vec(0u32..5, 40),
        single: bool, sorted: bool,
    ) {
        let snapshot = market(offers);
        let mut health = HealthTable::new(&snapshot);
        for (n, count) in failures.iter().enumerate() {
            for _ in 0..*count {
                let index = OfferIndex(n as u32);
                health.on_start(index);
                health.on_start(index);
                health.on_outcome(index, NOW, Outcome::Failure);
            }
        }
        let sort = sorted.then_some(Sort::Price);
        let wishes = Preferences { allow_fallbacks: !single, sort, ..Preferences::default() };
        let demand = Demand { prefers: Supports::TOOLS, ..demand(&wishes) };
        let made = plan(&snapshot, &health, &demand, NOW, seed);
        prop_assert_eq!(&made, &plan(&snapshot, &health, &demand, NOW, seed));
        let (attempts, rejected) = match &made {
            Ok(plan) => (plan.attempts.clone(), &plan.rejected),
            Err(PlanError::NoOffers { rejected }) => (Vec::new(), rejected),
            Err(PlanError::ModelNotFound) => unreachable!(),
        };
        let all = attempts.iter().copied().chain(rejected.iter().map(|(index, _)| index));
        let all: Vec<OfferIndex> = all.collect();
        let distinct: BTreeSet<OfferIndex> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), snapshot.offers().len());
        prop_assert_eq!(distinct.len(), snapshot.offers().len());
        let budget = if single { 1 } else { ATTEMPTS_MAX };
        prop_assert!(attempts.len() <= budget);
        if let Ok(plan) = made {
            prop_assert!(!plan.attempts.is_empty() && plan.last_resorts_from <= plan.attempts.len());
            for (n, index) in plan.attempts.iter().enumerate() {
                let admitted = health.vital(*index).admits(NOW);
                prop_assert_eq!(admitted, n < plan.last_resorts_from);
            }
        }
    }
}

//! Groups: several models, service tiers, cut-offs of speed, quality; and the same plan for the same inputs.

use super::*;
use crate::health::ToolCalls;

fn of(model: &str, seller: &str, pico: u64) -> Offer {
    Offer { model: ModelSlug::parse(model).unwrap(), ..priced(seller, pico) }
}

fn models(list: &[&str]) -> Vec<ModelSlug> {
    list.iter().map(|slug| ModelSlug::parse(slug).unwrap()).collect()
}

/// Sellers of the attempts, with their models where there are several.
fn asked(snapshot: &MarketSnapshot, health: &HealthTable, demand: &Demand<'_>, seed: u64) -> Vec<String> {
    asked_at(snapshot, health, demand, NOW, seed)
}

fn asked_at(
    snapshot: &MarketSnapshot,
    health: &HealthTable,
    demand: &Demand<'_>,
    now: UnixMs,
    seed: u64,
) -> Vec<String> {
    let plan = plan(snapshot, health, demand, now, seed).unwrap();
    let name = |index: &OfferIndex| {
        let offer = snapshot.offer(*index).unwrap();
        format!("{}:{}", offer.model, offer.seller)
    };
    plan.attempts.iter().map(name).collect()
}

#[test]
fn fallback_models_follow_unless_they_are_sorted_together() {
    let snapshot = market(vec![of("m", "a", 9), of("m", "b", 5), of("n", "c", 7), of("o", "d", 1)]);
    let mut health = HealthTable::new(&snapshot);
    let fallbacks = models(&["n", "unknown", "m"]);
    let ask = |health: &HealthTable, wishes: &Preferences| {
        asked(&snapshot, health, &Demand { fallbacks: &fallbacks, ..demand(wishes) }, 1)
    };
    let cheap = Preferences { sort: Some(Sort::Price), ..Preferences::default() };
    let together = Preferences { partition: Partition::None, ..cheap.clone() };
    assert_eq!(ask(&health, &cheap), ["m:b", "m:a", "n:c"]);
    assert_eq!(ask(&health, &together), ["m:b", "n:c", "m:a"]);
    // Who rests comes after everybody's healthy offers.
    for _ in 0..3 {
        health.on_start(OfferIndex(1));
        health.on_outcome(OfferIndex(1), NOW, Outcome::Failure);
    }
    assert_eq!(ask(&health, &cheap), ["m:a", "n:c", "m:b"]);
    let drawn = ask(&health, &Preferences::default());
    assert_eq!(drawn, ["m:a", "n:c", "m:b"]);
    let none = Demand { model: "nobody", fallbacks: &models(&["unknown"]), ..demand(&cheap) };
    assert_eq!(plan(&snapshot, &health, &none, NOW, 1), Err(PlanError::ModelNotFound));
}

#[test]
fn a_draw_over_several_models_reaches_all_of_them() {
    let mut offers: Vec<Offer> = (0..70).map(|n| of("m", &format!("a{n}"), 5)).collect();
    offers.extend((0..70).map(|n| of("n", &format!("b{n}"), 5)));
    let snapshot = market(offers);
    let wishes = Preferences { partition: Partition::None, ..Preferences::default() };
    let fallbacks = models(&["n"]);
    let demand = Demand { fallbacks: &fallbacks, ..demand(&wishes) };
    let health = HealthTable::default();
    let of_m = |seed| asked(&snapshot, &health, &demand, seed).iter().filter(|a| a.starts_with("m:")).count();
    let total: usize = (0..200).map(of_m).sum();
    assert!((1_400..1_800).contains(&total), "{total} of 3,200");
    let planned = plan(&snapshot, &health, &demand, NOW, 1).unwrap();
    assert_eq!((planned.attempts.len(), planned.rejected.len()), (ATTEMPTS_MAX, 140 - ATTEMPTS_MAX));
}

#[test]
fn tiers_are_asked_for_by_wish_variant_or_full_name() {
    let tier = |seller: &str, pico, tier| Offer { tier, ..of("m", seller, pico) };
    let snapshot = market(vec![
        tier("a", 5, ServiceTier::Default),
        tier("a/flex", 1, ServiceTier::Flex),
        tier("a/priority", 9, ServiceTier::Priority),
        tier("b", 6, ServiceTier::Default),
    ]);
    let mut health = HealthTable::new(&snapshot);
    for (index, whole) in [(0, 100), (2, 2_000)] {
        health.on_start(OfferIndex(index));
        let served = Served {
            ttft: DurationMs(10),
            whole: DurationMs(whole),
            completion_tokens: 100,
            ..Served::default()
        };
        health.on_outcome(OfferIndex(index), NOW, Outcome::Success(served));
    }
    let check = |wishes: Preferences, want: &[&str]| {
        assert_eq!(asked(&snapshot, &health, &demand(&wishes), 1), want, "{wishes:?}");
    };
    let wish = |tier| Preferences { tier, ..Preferences::default() };
    let by = |sort, tier| Preferences { sort: Some(sort), ..wish(tier) };
    check(by(Sort::Price, TierWish::Default), &["m:a", "m:b"]);
    check(wish(TierWish::Flex), &["m:a/flex"]);
    check(by(Sort::Price, TierWish::AlsoFlex), &["m:a/flex", "m:a", "m:b"]);
    check(by(Sort::Throughput, TierWish::AlsoPriority), &["m:a", "m:a/priority", "m:b"]);
    check(by(Sort::Price, TierWish::Priority), &["m:a/priority", "m:a", "m:b"]);
    let first = asked(&snapshot, &health, &demand(&wish(TierWish::Priority)), 1);
    assert_eq!((first.len(), first[0].as_str()), (3, "m:a/priority"));
    let order = |list: &[&str]| Preferences { order: names(list), ..wish(TierWish::AlsoPriority) };
    check(order(&["a"]), &["m:a", "m:b"]);
    check(order(&["b", "a/priority"]), &["m:b", "m:a/priority", "m:a"]);
    check(Preferences { only: names(&["a/flex"]), ..Preferences::default() }, &["m:a/flex"]);
    let no_flex = market(vec![of("m", "a", 5)]);
    let served = asked(&no_flex, &HealthTable::default(), &demand(&wish(TierWish::Flex)), 1);
    assert_eq!(served, ["m:a"]);
}

#[test]
fn who_misses_a_cut_off_goes_last_even_after_a_fallback_model() {
    let snapshot = market(vec![of("m", "a", 5), of("m", "b", 6), of("m", "c", 7), of("n", "d", 9)]);
    let mut health = HealthTable::new(&snapshot);
    for (index, ttft) in [(0, 2_000), (1, 100), (3, 100)] {
        for _ in 0..10 {
            health.on_start(OfferIndex(index));
            health.on_outcome(OfferIndex(index), NOW, Outcome::success(DurationMs(ttft)));
        }
    }
    let fallbacks = models(&["n"]);
    let ask = |wishes: &Preferences| {
        asked(&snapshot, &health, &Demand { fallbacks: &fallbacks, ..demand(wishes) }, 1)
    };
    let quick = Cutoffs { p50: Some(1_000), p99: Some(1_000), ..Cutoffs::default() };
    let wishes = Preferences { sort: Some(Sort::Price), max_latency: quick, ..Preferences::default() };
    assert_eq!(ask(&wishes), ["m:b", "n:d", "m:a", "m:c"]);
    let drawn = ask(&Preferences { sort: None, ..wishes.clone() });
    assert_eq!(drawn[..2], ["m:b", "n:d"]);
    let fast = Cutoffs { p90: Some(1), ..Cutoffs::default() };
    let both = Preferences { min_throughput: fast, ..wishes };
    assert_eq!(ask(&both), ["m:a", "m:b", "m:c", "n:d"], "nobody's throughput was measured");
}

#[test]
fn requests_with_tools_leave_deprioritised_sellers_for_last() {
    let snapshot = market(["a", "b", "c", "d", "new"].map(|seller| of("m", seller, 5)).to_vec());
    let mut health = HealthTable::new(&snapshot);
    for index in (0..4).map(OfferIndex) {
        for n in 0..300 {
            let bad = index.0 == 1 && n % 2 == 0;
            let tools = if bad { ToolCalls::InvalidJson } else { ToolCalls::Good };
            health.on_start(index);
            health.on_outcome(index, NOW, Outcome::Success(Served { tools, ..Served::default() }));
        }
    }
    // The bars are set once there are enough showings, and each offer is judged at its next outcome.
    let later = UnixMs(NOW.0 + 60_000);
    for index in (0..4).map(OfferIndex) {
        health.on_start(index);
        let tools = ToolCalls::Good;
        health.on_outcome(index, later, Outcome::Success(Served { tools, ..Served::default() }));
    }
    assert_eq!(health.vital(OfferIndex(1)).quality, Quality::Deprioritised);
    assert_eq!(health.vital(OfferIndex(4)).quality, Quality::InsufficientData);
    let wishes = Preferences::default();
    let tools = Demand { needs: Supports::TOOLS, ..demand(&wishes) };
    let mut first = BTreeSet::new();
    for seed in 0..200 {
        let order = asked_at(&snapshot, &health, &tools, later, seed);
        assert_eq!(order[4], "m:b");
        first.insert(order[0].clone());
    }
    assert_eq!(first.len(), 4, "the new seller has its share: {first:?}");
    let exacto = Preferences { sort: Some(Sort::Exacto), ..Preferences::default() };
    let order = asked_at(&snapshot, &health, &demand(&exacto), later, 1);
    assert_eq!(order[3..], ["m:new", "m:b"]);
}

#[test]
fn other_kinds_of_requests_find_their_offers() {
    let images = Offer { operations: Operations::IMAGES, ..of("m", "a", 5) };
    let wishes = Preferences::default();
    check_rejected(images.clone(), &demand(&wishes), Rejection::Operation);
    let asks = Demand { operation: Operations::IMAGES, units_max: 2, ..demand(&wishes) };
    assert!(plan(&market(vec![images]), &HealthTable::default(), &asks, NOW, 1).is_ok());
}

#[test]
fn promises_regions_and_policies_are_hard() {
    let us = Offer {
        region: Some("us-east5".into()),
        data: DataPolicy::NO_TRAINING,
        is_distillable: true,
        ..of("m", "a", 5)
    };
    let asks = |wishes: Preferences, want: Option<(Rejection, &str)>| {
        let demand = demand(&wishes);
        match want {
            None => {
                assert!(plan(&market(vec![us.clone()]), &HealthTable::default(), &demand, NOW, 1).is_ok());
            }
            Some((reason, words)) => {
                check_rejected(us.clone(), &demand, reason);
                assert_eq!(reason.explain(&us, &demand).to_string(), words);
            }
        }
    };
    let none = Preferences::default;
    let missing = "it does not promise no_retention";
    asks(Preferences { data: DataPolicy::NO_COLLECTION, ..none() }, Some((Rejection::DataPolicy, missing)));
    asks(Preferences { data: DataPolicy::NO_TRAINING, enforce_distillable: true, ..none() }, None);
    asks(Preferences { regions: vec!["us".into()], ..none() }, None);
    asks(
        Preferences { regions: vec!["eu".into()], ..none() },
        Some((Rejection::Region, "`provider.regions` does not contain its own, `us-east5`")),
    );
    let policy = Policy { data: DataPolicy::ZDR, ..Policy::default() };
    let words = "a policy of the account or the key demands zdr, which it does not promise";
    asks(none().tightened_by(&policy), Some((Rejection::Policy, words)));
    let policy = Policy { allowed: vec![names(&["a"])], ..Policy::default() };
    asks(none().tightened_by(&policy), None);
}

use super::*;
use crate::health::HealthTable;
use crate::offer::{Operations, Quantization};
use crate::plan;
use crate::preferences::{MaxPrice, Policy, Preferences, QuantizationSet};
use crate::snapshot::tests::offer;
use bourse_types::{Digest32, ModelSlug, PriceSchedule, SellerName, UnixMs};

fn priced(seller: &str, prompt: u64, completion: u64) -> Offer {
    let prices = PriceSchedule::per_token(PicoUsdPerToken(prompt), PicoUsdPerToken(completion));
    Offer { prices: Some(prices), ..offer("m", seller) }
}

fn market(offers: Vec<Offer>) -> MarketSnapshot {
    MarketSnapshot::new(offers, Digest32::default()).unwrap()
}

fn names(list: &[&str]) -> Vec<SellerName> {
    list.iter().map(|n| SellerName::parse(n).unwrap()).collect()
}

/// The diagnosis of a demand that nobody can serve, after the changes that it names were checked: what each
/// rule says admits its offer.
fn diagnosed(snapshot: &MarketSnapshot, demand: &Demand<'_>) -> Diagnosis {
    let health = HealthTable::default();
    let error = plan(snapshot, &health, demand, UnixMs(1), 1).unwrap_err();
    diagnose(snapshot, &error, demand)
}

fn words(diagnosis: &Diagnosis) -> Vec<String> {
    let smallest = diagnosis.rules.iter().filter_map(|report| report.smallest.as_ref());
    smallest.map(|(index, change)| format!("{}: {change}", index.0)).collect()
}

#[test]
fn the_smallest_change_of_each_rule_is_named() {
    let snapshot = market(vec![
        priced("a", 100, 2_000_000),
        priced("b", 100, 1_200_000),
        Offer { quantization: Quantization::Int4, ..priced("c", 100, 500_000) },
        Offer { context_tokens_max: 60, ..priced("d", 100, 500_000) },
    ]);
    let wishes = Preferences {
        max_price: MaxPrice { completion: Some(PicoUsdPerToken(800_000)), ..MaxPrice::default() },
        quantizations: Some(QuantizationSet::default().with(Quantization::Unknown)),
        ..Preferences::default()
    };
    let demand = Demand { prompt_bytes: 400, max_tokens: Some(50), ..Demand::new("m", &wishes) };
    let diagnosis = diagnosed(&snapshot, &demand);
    let counts: Vec<_> = diagnosis.rules.iter().map(|r| (r.rule.code(), r.offers)).collect();
    assert_eq!(counts, [("max_price", 2), ("quantization", 1), ("context_length", 1)]);
    let want = [
        "1: raise `provider.max_price.completion` to 1.2 USD per million",
        "2: add `int4` to `provider.quantizations`",
        "3: shorten prompt and answer by 40 tokens",
    ];
    assert_eq!(words(&diagnosis), want);
    assert_eq!(diagnosis.availability, Availability::ConstraintFiltered);
    assert_eq!(diagnosis.excluded_by, ["max_price", "quantization", "context_length"]);
    let (index, changes) = diagnosis.nearest.unwrap();
    assert_eq!((index, changes.len()), (OfferIndex(2), 1));
    // What is named really admits who it says.
    let raised = MaxPrice { completion: Some(PicoUsdPerToken(1_200_000)), ..MaxPrice::default() };
    let relaxed = Preferences { max_price: raised, ..wishes.clone() };
    let demand = Demand { preferences: &relaxed, ..demand };
    let plan = plan(&snapshot, &HealthTable::default(), &demand, UnixMs(1), 1).unwrap();
    assert_eq!(plan.attempts, [OfferIndex(1)]);
}

#[test]
fn several_rules_at_once_are_named_together() {
    let snapshot = market(vec![priced("a", 100, 100), priced("b", 100, 100)]);
    let wishes = Preferences {
        ignore: names(&["a", "b"]),
        data: DataPolicy::ZDR,
        max_price: MaxPrice { prompt: Some(PicoUsdPerToken(50)), ..MaxPrice::default() },
        ..Preferences::default()
    };
    let diagnosis = diagnosed(&snapshot, &Demand::new("m", &wishes));
    assert!(diagnosis.rules.iter().all(|report| report.smallest.is_none()));
    let (index, changes) = diagnosis.nearest.unwrap();
    let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let want = [
        "take `a` out of `provider.ignore`",
        "leave out `provider.zdr`",
        "raise `provider.max_price.prompt` to 0.0001 USD per million",
    ];
    assert_eq!((index, &words[..]), (OfferIndex(0), &want.map(str::to_owned)[..]));
    assert_eq!(diagnosis.excluded_by, ["allowed_providers", "data_policy:zdr", "max_price"]);
}

#[test]
fn each_availability_has_its_case() {
    let check = |offers: Vec<Offer>, model: &str, wishes: Preferences, want: Availability| {
        let demand = Demand { needs: Supports::TOOLS, ..Demand::new(model, &wishes) };
        let diagnosis = diagnosed(&market(offers), &demand);
        assert_eq!(diagnosis.availability, want, "{diagnosis:?}");
    };
    let plain = Preferences::default;
    let a = || priced("a", 1, 1);
    check(vec![a()], "n", plain(), Availability::ModelNotFound);
    check(vec![a()], "m:free", plain(), Availability::FreeVariantEnded);
    check(vec![Offer { prices: None, ..a() }], "m", plain(), Availability::NoEndpoints);
    let images = Offer { operations: Operations::IMAGES, ..a() };
    check(vec![images], "m", plain(), Availability::WrongEndpoint);
    let zdr = Preferences { data: DataPolicy::ZDR, ..plain() };
    check(vec![a()], "m", zdr, Availability::PrivacyRestricted);
    let by_policy = plain().tightened_by(&Policy { data: DataPolicy::NO_TRAINING, ..Policy::default() });
    check(vec![a()], "m", by_policy, Availability::PrivacyRestricted);
    let elsewhere = Preferences { regions: vec!["eu".into()], ..plain() };
    check(vec![a()], "m", elsewhere, Availability::RegionRestricted);
    let only = Preferences { only: names(&["b"]), ..plain() };
    check(vec![a()], "m", only, Availability::ConstraintFiltered);
    let full = Offer { capacity: Some(0), ..a() };
    check(vec![full], "m", plain(), Availability::CapacityExhausted);
    assert!(Availability::CapacityExhausted.is_retryable() && !Availability::NoEndpoints.is_retryable());
}

#[test]
fn every_change_reads_as_an_advice() {
    let model = ModelSlug::parse("m").unwrap();
    let seller = SellerName::parse("s").unwrap();
    let poor = Offer {
        supports: Supports::NONE,
        completion_tokens_max: Some(10),
        tier: crate::offer::ServiceTier::Flex,
        region: Some("us".into()),
        ..Offer::new(model, seller, priced("s", 1, 1).prices, 8_192)
    };
    let wishes = Preferences {
        only: names(&["t"]),
        order: names(&["t"]),
        allow_fallbacks: false,
        data: DataPolicy::NO_COLLECTION,
        enforce_distillable: true,
        regions: vec!["eu".into()],
        ..Preferences::default()
    };
    let demand = Demand { needs: Supports::TOOLS, max_tokens: Some(20), ..Demand::new("m", &wishes) };
    let (_, changes) = diagnosed(&market(vec![poor]), &demand).nearest.unwrap();
    let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let want = [
        "add `s` to `provider.only`",
        "set `service_tier` to `flex`",
        "leave out `provider.data_collection`",
        "leave out `provider.enforce_distillable_text`",
        "add `us` to `provider.regions`",
        "do without tools",
        "lower `max_tokens` to 10",
        "add `s` to `provider.order`",
    ];
    assert_eq!(words, want.map(str::to_owned));
    let told: Vec<_> =
        changes.iter().map(|change| (change.action(), change.field(), change.value())).collect();
    let want = [
        ("add", "provider.only", Some("s")),
        ("set", "service_tier", Some("flex")),
        ("leave_out", "provider.data_collection", None),
        ("leave_out", "provider.enforce_distillable_text", None),
        ("add", "provider.regions", Some("us")),
        ("do_without", "tools", Some("tools")),
        ("lower", "max_tokens", Some("10")),
        ("add", "provider.order", Some("s")),
    ];
    assert_eq!(told, want.map(|(action, field, value)| (action, field, value.map(str::to_owned))));
}

#[test]
fn every_change_is_told_to_programs() {
    use bourse_types::{NanoUsd, PicoUsdPerUnit};
    let check = |change: Change, want: (&str, &str, Option<&str>)| {
        assert_eq!((change.action(), change.field(), change.value().as_deref()), want, "{change}");
    };
    let price = PicoUsdPerToken(1_250_000);
    check(Change::Accept(PricePart::Prompt(price)), ("raise", "provider.max_price.prompt", Some("1.25")));
    let completion = Change::Accept(PricePart::Completion(price));
    check(completion, ("raise", "provider.max_price.completion", Some("1.25")));
    let request = Change::Accept(PricePart::Request(NanoUsd(2_000_000)));
    check(request, ("raise", "provider.max_price.request", Some("0.002")));
    let per_unit = PicoUsdPerUnit(40_000_000_000);
    let image = Change::Accept(PricePart::Unit(crate::offer::Unit::Image, per_unit));
    check(image, ("raise", "provider.max_price.image", Some("0.04")));
    let search = Change::Accept(PricePart::Unit(crate::offer::Unit::Search, per_unit));
    check(search, ("raise", "provider.max_price", Some("0.04")));
    let ignored = Change::TakeOut("provider.ignore", "a".into());
    check(ignored, ("take_out", "provider.ignore", Some("a")));
    check(Change::Shorten(40), ("shorten", "messages", Some("40")));
    check(Change::DoWithout(Supports::MEDIA), ("do_without", "messages", Some("media")));
    let two = Change::DoWithout(Supports::SEED.with(Supports::TOP_K));
    check(two, ("do_without", "seed", Some("seed, top_k")));
}

#[test]
fn the_search_is_bounded_and_the_counts_are_not() {
    let offers = (0..=DIAGNOSED_OFFERS_MAX).map(|n| {
        // The nearest stands one past the bound.
        priced(&format!("s{n:05}"), if n == DIAGNOSED_OFFERS_MAX { 20 } else { 30 }, 1)
    });
    let snapshot = market(offers.collect());
    let wishes = Preferences {
        max_price: MaxPrice { prompt: Some(PicoUsdPerToken(10)), ..MaxPrice::default() },
        ..Preferences::default()
    };
    let diagnosis = diagnosed(&snapshot, &Demand::new("m", &wishes));
    assert_eq!(diagnosis.rules[0].offers as usize, DIAGNOSED_OFFERS_MAX + 1);
    assert_eq!(diagnosis.rules[0].smallest.as_ref().map(|(index, _)| index.0), Some(0));
}

use super::*;
use crate::demand::Demand;
use crate::health::HealthTable;
use crate::offer::{OfferIndex, Supports};
use crate::plan::{PlanError, plan, sieve};
use crate::rejection::Rejection;
use crate::snapshot::MarketSnapshot;
use crate::snapshot::tests::offer;
use bourse_types::{Digest32, UnixMs};
use proptest::prelude::*;

pub(crate) fn names(list: &[&str]) -> Vec<SellerName> {
    list.iter().map(|n| SellerName::parse(n).unwrap()).collect()
}

fn words(list: &[&str]) -> Vec<Arc<str>> {
    list.iter().map(|word| Arc::from(*word)).collect()
}

#[test]
fn max_price_is_per_million() {
    assert_eq!(MaxPrice::parse_usd_per_million("1.5"), Ok(PicoUsdPerToken(1_500_000)));
    assert_eq!(MaxPrice::parse_usd_per_million("0.000001"), Ok(PicoUsdPerToken(1)));
    assert_eq!(MaxPrice::parse_usd_per_million("0.0000019"), Ok(PicoUsdPerToken(1)));
    assert!(MaxPrice::parse_usd_per_million("-1").is_err());
}

#[test]
fn a_base_name_means_its_variants_and_a_full_name_one_offer() {
    let check = |name: &str, seller: &str, tier: ServiceTier, want: bool| {
        let offer = Offer { tier, ..offer("m", seller) };
        assert_eq!(names_offer(&SellerName::parse(name).unwrap(), &offer), want, "{name} and {seller}");
    };
    let ordinary = ServiceTier::Default;
    check("deepinfra", "deepinfra", ordinary, true);
    check("deepinfra", "deepinfra/turbo", ordinary, true);
    check("deepinfra", "deepinfra2", ordinary, false);
    check("deepinfra", "deepinfra-x/turbo", ordinary, false);
    check("vertex/us", "vertex/us", ordinary, true);
    check("vertex/us", "vertex/us/a", ordinary, false);
    check("vertex/us", "vertex", ordinary, false);
    check("openai", "openai/priority", ServiceTier::Priority, false);
    check("openai/priority", "openai/priority", ServiceTier::Priority, true);
}

#[test]
fn a_region_means_what_continues_it() {
    let us = words(&["us", "eu-west"]);
    for (region, want) in
        [("us", true), ("us-east5", true), ("us/a", true), ("usa", false), ("eu", false), ("eu-west4", false)]
    {
        assert_eq!(is_in_regions(&us, Some(region)), want, "{region}");
    }
    assert!(!is_in_regions(&us, None));
}

#[test]
fn lists_are_bounded() {
    let at = Preferences { only: names(&["a"; PREFERENCE_NAMES_MAX]), ..Preferences::default() };
    assert_eq!(at.check(), Ok(()));
    let past = Preferences { order: names(&["a"; PREFERENCE_NAMES_MAX + 1]), ..at.clone() };
    assert_eq!(past.check(), Err(PreferencesError { list: "order", count: 33 }));
    let past = Preferences { regions: words(&["a"; PREFERENCE_NAMES_MAX + 1]), ..at };
    assert_eq!(past.check(), Err(PreferencesError { list: "regions", count: 33 }));
}

#[test]
fn quantization_sets_hold_what_was_put_in_and_its_kinds() {
    let set = QuantizationSet::default().with(Quantization::Int8).with(Quantization::Fp4);
    let held: Vec<_> = Quantization::ALL.into_iter().filter(|q| set.contains(*q)).collect();
    assert_eq!(held, [Quantization::Int8, Quantization::Fp4, Quantization::Mxfp4, Quantization::Nvfp4]);
    let eight = QuantizationSet::default().with(Quantization::Fp8);
    assert!(eight.contains(Quantization::Mxfp8) && !eight.contains(Quantization::Mxfp4));
    let kind = QuantizationSet::default().with(Quantization::Nvfp4);
    assert!(!kind.contains(Quantization::Fp4) && eight.and(kind) == QuantizationSet::default());
}

#[test]
fn policies_add_up() {
    let one = Policy {
        allowed: vec![names(&["a", "b"])],
        max_price: MaxPrice { prompt: Some(PicoUsdPerToken(5)), ..MaxPrice::default() },
        ..Policy::default()
    };
    let two = Policy {
        allowed: vec![names(&["b", "c"])],
        data: DataPolicy::NO_TRAINING,
        max_price: MaxPrice {
            prompt: Some(PicoUsdPerToken(4)),
            request: Some(NanoUsd(1)),
            ..MaxPrice::default()
        },
        ..Policy::default()
    };
    let both = one.clone().and(&two);
    let limits =
        MaxPrice { prompt: Some(PicoUsdPerToken(4)), request: Some(NanoUsd(1)), ..MaxPrice::default() };
    assert_eq!(both.max_price, limits);
    let refuses = |seller: &str| both.refuses(&offer("m", seller));
    assert_eq!((refuses("a"), refuses("c")), (Some(PolicyRule::Allowed), Some(PolicyRule::Allowed)));
    assert_eq!(refuses("b"), Some(PolicyRule::Data(DataPolicy::NO_TRAINING)));
    let nobody = Policy { allowed: vec![Vec::new()], ..Policy::default() };
    assert_eq!(nobody.refuses(&offer("m", "a")), Some(PolicyRule::Allowed));
}

fn any_names() -> impl Strategy<Value = Vec<SellerName>> {
    let name = prop_oneof![Just("a"), Just("a/x"), Just("b"), Just("b/priority"), Just("c-d")];
    proptest::collection::vec(name, 0..3).prop_map(|list| names(&list))
}

fn any_max_price() -> impl Strategy<Value = MaxPrice> {
    let part = || proptest::option::of(0u64..4);
    (part(), part(), part(), part()).prop_map(|(prompt, completion, request, image)| MaxPrice {
        prompt: prompt.map(PicoUsdPerToken),
        completion: completion.map(PicoUsdPerToken),
        request: request.map(NanoUsd),
        image: image.map(PicoUsdPerUnit),
        audio: None,
    })
}

fn any_data() -> impl Strategy<Value = DataPolicy> {
    prop_oneof![
        3 => Just(DataPolicy::NONE),
        1 => Just(DataPolicy::NO_COLLECTION),
        1 => Just(DataPolicy::NO_TRAINING),
        1 => Just(DataPolicy::ZDR)
    ]
}

fn any_quantizations() -> impl Strategy<Value = Option<QuantizationSet>> {
    let member = (0..Quantization::ALL.len()).prop_map(|n| Quantization::ALL[n]);
    let set = proptest::collection::vec(member, 0..6)
        .prop_map(|list| list.into_iter().fold(QuantizationSet::default(), QuantizationSet::with));
    proptest::option::weighted(0.3, set)
}

fn any_regions() -> impl Strategy<Value = Vec<Arc<str>>> {
    let word = prop_oneof![Just("us"), Just("us-east"), Just("eu")];
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(word, 1..3).prop_map(|l| words(&l))]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let lists = (proptest::collection::vec(any_names(), 0..2), any_names());
    let regions = proptest::collection::vec(any_regions().prop_filter("named", |r| !r.is_empty()), 0..2);
    (lists, any_max_price(), any_data(), any_quantizations(), regions, any::<bool>()).prop_map(
        |((allowed, ignored), max_price, data, quantizations, regions, strict)| Policy {
            allowed,
            ignored,
            max_price,
            data,
            enforce_distillable: strict,
            quantizations,
            regions,
        },
    )
}

fn any_preferences() -> impl Strategy<Value = Preferences> {
    let tier = prop_oneof![
        Just(TierWish::Default),
        Just(TierWish::Priority),
        Just(TierWish::Flex),
        Just(TierWish::AlsoPriority),
        Just(TierWish::AlsoFlex)
    ];
    let lists = (any_names(), any_names(), any_names());
    let flags = any::<(bool, bool, bool)>();
    (lists, flags, any_max_price(), any_data(), any_quantizations(), any_regions(), tier).prop_map(
        |((order, only, ignore), (fallbacks, strict, parameters), max_price, data, stored, regions, tier)| {
            Preferences {
                order,
                only,
                ignore,
                allow_fallbacks: fallbacks,
                enforce_distillable: strict,
                require_parameters: parameters,
                max_price,
                data,
                quantizations: stored,
                regions,
                tier,
                ..Preferences::default()
            }
        },
    )
}

pub(crate) fn any_offers() -> impl Strategy<Value = Vec<Offer>> {
    let seller = prop_oneof![
        Just(("a", ServiceTier::Default)),
        Just(("a/x", ServiceTier::Default)),
        Just(("b", ServiceTier::Default)),
        Just(("b/priority", ServiceTier::Priority)),
        Just(("b/flex", ServiceTier::Flex)),
        Just(("c", ServiceTier::Default)),
        Just(("c-d", ServiceTier::Default)),
    ];
    let facts = (0..Quantization::ALL.len(), any_data(), any::<[bool; 5]>());
    let region = proptest::option::of(prop_oneof![Just("us"), Just("us-east"), Just("eu-west")]);
    let numbers = (0u64..4, 0u64..4, 0u64..4, 100u64..300);
    let one = (seller, facts, region, numbers).prop_map(
        |((seller, tier), (stored, data, [distils, images, priced, able, short]), region, numbers)| {
            let (prompt, completion, unit, context) = numbers;
            let prices = PriceSchedule {
                unit: PicoUsdPerUnit(unit),
                request: NanoUsd(unit),
                ..PriceSchedule::per_token(PicoUsdPerToken(prompt), PicoUsdPerToken(completion))
            };
            Offer {
                tier,
                quantization: Quantization::ALL[stored],
                data,
                is_distillable: distils,
                unit: images.then_some(crate::offer::Unit::Image),
                prices: priced.then_some(prices),
                supports: if able { Supports::ALL } else { Supports::TOOLS },
                completion_tokens_max: short.then_some(90),
                context_tokens_max: context,
                region: region.map(Arc::from),
                ..offer("m", seller)
            }
        },
    );
    proptest::collection::vec(one, 1..8).prop_map(|mut offers| {
        offers.sort_by(|a, b| a.seller.cmp(&b.seller));
        offers.dedup_by(|a, b| a.seller == b.seller);
        offers
    })
}

/// Which rule of its own refuses each offer first: none for those that a plan could try.
fn refused(snapshot: &MarketSnapshot, demand: &Demand<'_>) -> Vec<Option<Rejection>> {
    let rejected = match plan(snapshot, &HealthTable::default(), demand, UnixMs(1), 1) {
        Ok(plan) => plan.rejected,
        Err(PlanError::NoOffers { rejected }) => rejected,
        Err(PlanError::ModelNotFound) => unreachable!(),
    };
    let of_others = |reason: &Rejection| {
        matches!(reason, Rejection::AttemptBudget | Rejection::MissingPreferred)
            || *reason == Rejection::FallbacksOff && demand.preferences.order.is_empty()
    };
    let offers = 0..snapshot.offers().len() as u32;
    offers.map(|n| rejected.get(OfferIndex(n)).filter(|reason| !of_others(reason))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn columns_and_plain_values_agree(
        offers in any_offers(), wishes in any_preferences(), policy in any_policy(), tight: bool, answer in 1u64..120,
    ) {
        let snapshot = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        let wishes = if tight { wishes.tightened_by(&policy) } else { wishes };
        let demand = Demand {
            prompt_bytes: 1_000,
            max_tokens: Some(answer),
            needs: Supports::TOOLS,
            prefers: Supports::SEED,
            ..Demand::new("m", &wishes)
        };
        for (n, first) in refused(&snapshot, &demand).into_iter().enumerate() {
            let all = sieve::refusals(&snapshot, OfferIndex(n as u32), &demand);
            match first {
                Some(first) => prop_assert!(all.contains(&first), "{first} of {all:?}"),
                None => prop_assert!(all.is_empty(), "{all:?}"),
            }
        }
    }

    #[test]
    fn a_policy_never_admits_what_was_refused(
        offers in any_offers(), wishes in any_preferences(), one in any_policy(), two in any_policy(),
    ) {
        let snapshot = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        let bounds = [
            wishes.clone(),
            wishes.clone().tightened_by(&one),
            wishes.clone().tightened_by(&one).tightened_by(&two),
        ];
        let judged = bounds.each_ref().map(|wishes| refused(&snapshot, &Demand::new("m", wishes)));
        for (looser, tighter) in judged.iter().zip(&judged[1..]) {
            let mut pairs = looser.iter().zip(tighter);
            prop_assert!(pairs.all(|(looser, tighter)| looser.is_none() || tighter.is_some()));
        }
        let other_way = wishes.tightened_by(&two).tightened_by(&one);
        let other_way = refused(&snapshot, &Demand::new("m", &other_way));
        for (one_way, other_way) in judged[2].iter().zip(other_way) {
            prop_assert_eq!(one_way.is_some(), other_way.is_some());
        }
    }
}

use super::*;
use bourse_types::PicoUsdPerUnit;

/// 800 bytes of prompt: 100 tokens at least, 832 at most; 4 units at most.
fn answer(operation: Operations, units: Units, claims: &[ClaimedUsage]) -> Meter {
    let preferences = Preferences::default();
    let demand = Demand { operation, prompt_bytes: 800, units_max: 4, ..Demand::new("m", &preferences) };
    let mut meter = Meter::new(MeterRules::new(&offer("m", "s"), &demand, Counting::Passed));
    meter.on_content(1_600);
    meter.on_units(units);
    with(meter, claims)
}

/// Prices of 1,000 pico-dollars a prompt token, 2,000 a completion token, 50,000 a unit, of those that are sold.
fn prices(tokens: bool, units: bool) -> PriceSchedule {
    let price = |n, is| PicoUsdPerToken(if is { n } else { 0 });
    PriceSchedule {
        unit: PicoUsdPerUnit(if units { 50_000 } else { 0 }),
        ..PriceSchedule::per_token(price(1_000, tokens), price(2_000, tokens))
    }
}

/// Checks (prompt, completion, units), basis and doubts of a bill with an ample hold; the claim is never below it.
#[track_caller]
fn check(meter: &Meter, prices: &PriceSchedule, want: (u64, u64, u64), basis: Basis, doubts: Doubts) -> Bill {
    let bill = meter.settle(StreamEnd::Complete, prices, NanoUsd::MAX).unwrap();
    let got = (bill.usage.prompt.0, bill.usage.completion.0, bill.usage.units);
    assert_eq!((got, bill.basis, bill.doubts), (want, basis, doubts));
    assert_eq!(bill.charge, prices.charge(&bill.usage).unwrap());
    if let Some(claimed) = bill.claimed {
        let below = [(claimed.prompt.0, got.0), (claimed.completion.0, got.1), (claimed.units, got.2)];
        assert!(below.iter().all(|(claimed, billed)| claimed >= billed), "{claimed:?} {got:?}");
    }
    bill
}

const COUNTED: Units = Units { counted: Some(3), claimed: None, least: 0 };

fn claimed(seconds: u64) -> Units {
    Units { counted: None, claimed: Some(seconds), least: 2 }
}

#[test]
fn tokens_are_claimed_within_their_bound() {
    let vectors = |claims: &[_]| answer(Operations::EMBEDDINGS, Units::default(), claims);
    let tokens = prices(true, false);
    check(&vectors(&[claim(832, 0, 0)]), &tokens, (832, 0, 0), Basis::Claim, Doubts::NONE);
    check(&vectors(&[claim(833, 0, 0)]), &tokens, (832, 0, 0), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    check(&vectors(&[claim(9, 0, 5)]), &tokens, (9, 0, 0), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    check(&vectors(&[]), &tokens, (100, 0, 0), Basis::Delivered, Doubts::USAGE_UNKNOWN);
    let invalid = Doubts::CLAIM_INVALID.with(Doubts::USAGE_UNKNOWN);
    check(&vectors(&[claim(0, 0, 0)]), &tokens, (100, 0, 0), Basis::Delivered, invalid);
    check(&vectors(&[claim(9, 10, 0)]), &tokens, (100, 0, 0), Basis::Delivered, invalid);
}

#[test]
fn units_are_counted_or_claimed_within_their_bound() {
    let units = prices(false, true);
    let images = |counted| Units { counted: Some(counted), ..Units::default() };
    let image = |counted| answer(Operations::IMAGES, images(counted), &[]);
    check(&image(4), &units, (0, 0, 4), Basis::Counted, Doubts::NONE);
    check(&image(5), &units, (0, 0, 4), Basis::Counted, Doubts::CLAIM_EXCEEDS);
    let sound = |units| answer(Operations::TRANSCRIPTION, units, &[]);
    let bill = check(&sound(claimed(4)), &units, (0, 0, 4), Basis::Claim, Doubts::NONE);
    assert_eq!(bill.claimed, Some(Usage { units: 4, ..Usage::default() }));
    let bill = check(&sound(claimed(9)), &units, (0, 0, 4), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    assert_eq!(bill.claimed.map(|usage| usage.units), Some(9));
    let untold = Units { claimed: None, ..claimed(0) };
    check(&sound(untold), &units, (0, 0, 2), Basis::Delivered, Doubts::USAGE_UNKNOWN);
}

#[test]
fn both_are_billed_where_both_are_priced() {
    let both = prices(true, true);
    let image = |claims: &[_]| answer(Operations::IMAGES, COUNTED, claims);
    check(&image(&[claim(9, 0, 70)]), &both, (9, 70, 3), Basis::Claim, Doubts::NONE);
    check(&image(&[]), &both, (100, 3, 3), Basis::Delivered, Doubts::USAGE_UNKNOWN);
    check(&image(&[claim(9, 0, 70)]), &prices(true, false), (9, 70, 0), Basis::Claim, Doubts::NONE);
    check(&image(&[claim(9, 0, 70)]), &prices(false, true), (9, 70, 3), Basis::Claim, Doubts::NONE);
    let sound = answer(Operations::TRANSCRIPTION, claimed(1), &[]);
    check(&sound, &both, (100, 128, 1), Basis::Delivered, Doubts::USAGE_UNKNOWN);
}

#[test]
fn what_was_not_delivered_whole_is_not_billed() {
    let meter = answer(Operations::IMAGES, COUNTED, &[claim(9, 0, 70)]);
    for end in EARLY {
        let bill = meter.settle(end, &prices(true, true), NanoUsd::MAX).unwrap();
        assert_eq!((bill.charge.total, bill.basis), (NanoUsd::ZERO, Basis::Nothing));
    }
}

/// The same as [`answer`], streamed in two events and cut by the buyer.
#[track_caller]
fn cut(operation: Operations, units: Units, prices: &PriceSchedule, want: (u64, u64, u64)) {
    let preferences = Preferences::default();
    let demand = Demand { operation, prompt_bytes: 800, units_max: 4, ..Demand::new("m", &preferences) };
    let mut meter = Meter::new(MeterRules::new(&offer("m", "s"), &demand, Counting::PassedStream));
    for end in EARLY {
        let bill = meter.settle(end, prices, NanoUsd::MAX).unwrap();
        assert_eq!(bill.basis, Basis::Nothing, "nothing came");
    }
    meter.on_content(800);
    meter.on_content(800);
    meter.on_units(units);
    for end in EARLY {
        let bill = meter.settle(end, prices, NanoUsd::MAX).unwrap();
        if matches!(end, StreamEnd::SellerFailed | StreamEnd::Market) {
            assert_eq!((bill.charge.total, bill.basis), (NanoUsd::ZERO, Basis::Nothing));
            continue;
        }
        let got = (bill.usage.prompt.0, bill.usage.completion.0, bill.usage.units);
        assert_eq!((got, bill.basis, bill.doubts), (want, Basis::Delivered, Doubts::NONE));
    }
    meter.on_claim(claim(9, 0, 70));
    let bill = meter.settle(StreamEnd::Complete, prices, NanoUsd::MAX).unwrap();
    assert!(bill.doubts == Doubts::NONE || operation != Operations::IMAGES, "{bill:?}");
}

#[test]
fn a_stream_that_is_cut_costs_what_was_delivered() {
    let one = Units { counted: Some(1), ..Units::default() };
    cut(Operations::IMAGES, one, &prices(false, true), (0, 0, 1));
    cut(Operations::IMAGES, one, &prices(true, true), (100, 1, 1));
    let spoken = Units { counted: Some(4), ..Units::default() };
    cut(Operations::SPEECH, spoken, &prices(false, true), (0, 0, 4));
    let heard = Units { least: 2, ..Units::default() };
    cut(Operations::TRANSCRIPTION, heard, &prices(false, true), (0, 0, 2));
    cut(Operations::TRANSCRIPTION, heard, &prices(true, false), (100, 2, 0));
}

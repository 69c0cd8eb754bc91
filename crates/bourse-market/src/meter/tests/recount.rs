//! The market's own count against claims that are honest, inflated, short, absent or hidden.

use super::*;
use bourse_types::PromptTokens;

/// A share of 10 %, and 2 tokens.
const RULES: RecountRules = RecountRules {
    tolerance_bps: 1_000,
    tolerance_tokens: 2,
    media_tokens_max: 0,
    hidden_reasoning_tokens_max: 30,
};

/// The market counted a prompt of 20 tokens and 10 tokens of text. Allowed: 24, and 10 + 1 + 2 with a frame of 2.
const COUNTED: Counted = Counted { prompt: Some(PromptTokens::Exact(20)), completion: Some(10), unseen: 0 };

fn recounted(mut meter: Meter, counted: Counted) -> Meter {
    meter.on_recount(RULES, counted);
    meter
}

/// A provider's stream of that many events of four bytes, of which the market counted [`COUNTED`].
fn told(events: u64, claims: &[ClaimedUsage]) -> Meter {
    recounted(with(stream(events), claims), COUNTED)
}

#[test]
fn a_claim_within_the_tolerance_is_paid_and_one_beyond_is_cut() {
    let complete =
        |claim, want, doubts| check(&told(10, &[claim]), StreamEnd::Complete, want, Basis::Claim, doubts);
    complete(claim(20, 5, 10), (20, 5, 10), Doubts::NONE);
    complete(claim(24, 5, 15), (24, 5, 15), Doubts::NONE);
    complete(claim(25, 5, 15), (24, 5, 15), Doubts::RECOUNT_EXCEEDED);
    complete(claim(24, 5, 16), (24, 5, 15), Doubts::RECOUNT_EXCEEDED);
    // Twice the truth.
    complete(claim(40, 30, 20), (24, 24, 15), Doubts::RECOUNT_EXCEEDED);
    // Less than the truth is what the seller asks.
    complete(claim(3, 0, 2), (3, 0, 2), Doubts::NONE);
}

#[test]
fn who_claims_nothing_is_paid_the_recount() {
    let unknown = Doubts::USAGE_UNKNOWN;
    check(&told(3, &[]), StreamEnd::Complete, (20, 0, 10), Basis::Recounted, unknown);
    let bound = Counted { prompt: Some(PromptTokens::AtMost(20)), ..COUNTED };
    // A bound of the prompt is no count of it.
    check(&recounted(stream(3), bound), StreamEnd::Complete, (10, 0, 10), Basis::Recounted, unknown);
    let invalid = claim(0, 0, 7);
    let doubts = unknown.with(Doubts::CLAIM_INVALID);
    check(&told(3, &[invalid]), StreamEnd::Complete, (20, 0, 10), Basis::Recounted, doubts);
}

#[test]
fn a_cut_stream_costs_what_was_counted_of_it() {
    for end in EARLY {
        check(&told(3, &[]), end, (20, 0, 10), Basis::Recounted, Doubts::NONE);
        // The whole that the seller made is no mismatch: it could not know that nobody would take it.
        check(&told(3, &[claim(20, 0, 900)]), end, (20, 0, 10), Basis::Recounted, Doubts::NONE);
        check(&told(3, &[claim(20, 0, 4)]), end, (20, 0, 4), Basis::Recounted, Doubts::NONE);
    }
    for end in FAILED {
        check(&told(3, &[claim(20, 0, 10)]), end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
    }
}

#[test]
fn the_frames_of_a_node_are_claims() {
    let node = |tokens, claims: &[ClaimedUsage]| recounted(with(frames(tokens), claims), COUNTED);
    let complete = StreamEnd::Complete;
    check(&node(10, &[claim(20, 5, 10)]), complete, (20, 5, 10), Basis::Counted, Doubts::NONE);
    check(&node(20, &[claim(20, 5, 20)]), complete, (20, 5, 15), Basis::Counted, Doubts::RECOUNT_EXCEEDED);
    check(&node(20, &[]), complete, (20, 5, 15), Basis::Counted, Doubts::RECOUNT_EXCEEDED);
    let sworn = Doubts::CLAIM_DIFFERS.with(Doubts::RECOUNT_EXCEEDED);
    check(&node(10, &[claim(20, 5, 90)]), complete, (20, 5, 10), Basis::Counted, sworn);
    check(&node(20, &[]), StreamEnd::Cancelled, (20, 5, 15), Basis::Counted, Doubts::NONE);
}

#[test]
fn what_is_not_shown_is_allowed_by_its_rule() {
    let reasoned = |hidden, reasoning, unseen| {
        let mut meter = told(10, &[ClaimedUsage { reasoning, ..claim(20, 0, 60) }]);
        meter.rules.hidden_reasoning = hidden;
        meter.on_recount(RULES, Counted { unseen, ..COUNTED });
        let bill = meter.settle(StreamEnd::Complete, &offer("m", "s").prices.unwrap(), NanoUsd::MAX).unwrap();
        bill.usage.completion.0
    };
    assert_eq!(reasoned(false, 50, 0), 15, "nobody declared it");
    assert_eq!(reasoned(true, 25, 0), 40);
    assert_eq!(reasoned(true, 30, 0), 45);
    assert_eq!(reasoned(true, 31, 0), 45, "the declared maximum");
    assert_eq!(reasoned(false, 0, 4), 19, "a stop string");
}

#[test]
fn a_part_that_nobody_counted_keeps_its_bound() {
    let uncounted = |counted| recounted(with(stream(10), &[claim(200, 0, 90)]), counted);
    let check = |counted, want, doubts| {
        check(&uncounted(counted), StreamEnd::Complete, want, Basis::Claim, doubts);
    };
    let both = Doubts::CLAIM_EXCEEDS.with(Doubts::RECOUNT_EXCEEDED);
    check(Counted { prompt: None, ..COUNTED }, (128, 0, 15), both);
    check(Counted { completion: None, ..COUNTED }, (24, 0, 22), both);
}

#[test]
fn the_tolerance_counts_for_each_choice_and_saturates() {
    let preferences = Preferences::default();
    let demand = Demand { prompt_bytes: 80, choices: 3, ..Demand::new("m", &preferences) };
    let mut meter = Meter::new(MeterRules::new(&offer("m", "s"), &demand, Counting::Streamed));
    meter.on_content(400);
    meter.on_tool_call();
    meter.on_recount(RULES, Counted { completion: Some(100), ..COUNTED });
    let recount = meter.recount(None).unwrap();
    assert_eq!(recount.completion_allowed.0, 100 + 10 + 3 * 2 + 3 * 2 + 16);
    assert_eq!(RULES.prompt_allowed(PromptTokens::AtMost(u64::MAX)), u64::MAX);
    assert_eq!(RULES.prompt_allowed(PromptTokens::Exact(0)), 2);
    assert_eq!(RULES.prompt_allowed(PromptTokens::Exact(1)), 4);
}

proptest! {
    #[test]
    fn no_claim_is_paid_beyond_recount_and_tolerance(
        prompt in 0..300u64, completion in 0..300u64, cached in 0..50u64, counted in 1..100u64,
        frames_of_a_node in any::<bool>(), end in prop::sample::select(vec![
            StreamEnd::Complete, StreamEnd::Cancelled, StreamEnd::Budget, StreamEnd::TakenUp,
        ]),
    ) {
        let meter = if frames_of_a_node { frames(completion) } else { stream(20) };
        let counted = Counted { completion: Some(counted), ..COUNTED };
        let claim = claim(prompt.max(cached), cached, completion);
        let meter = recounted(with(meter, &[claim]), counted);
        let bill = meter.settle(end, &offer("m", "s").prices.unwrap(), NanoUsd::MAX).unwrap();
        if let Some(recount) = bill.recount {
            prop_assert!(!recount.is_exceeded_by(&bill.usage));
            let is_beyond = bill.claimed.is_some_and(|claimed| recount.is_exceeded_by(&claimed));
            prop_assert_eq!(bill.doubts.contains(Doubts::RECOUNT_EXCEEDED), is_beyond && end == StreamEnd::Complete);
        }
        if let Some(claimed) = bill.claimed {
            prop_assert!(bill.usage.prompt <= claimed.prompt && bill.usage.completion <= claimed.completion);
        }
        prop_assert!(bill.usage.fresh_prompt().is_some());
    }
}

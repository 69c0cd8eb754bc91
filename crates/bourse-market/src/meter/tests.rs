mod passed;
mod recount;

use super::*;
use crate::preferences::Preferences;
use crate::snapshot::tests::offer;
use bourse_types::PicoUsdPerToken;
use proptest::prelude::*;

/// 80 bytes of prompt: 10 tokens at least, 128 at most; 100 tokens of answer at most.
fn rules(counting: Counting) -> MeterRules {
    let preferences = Preferences::default();
    let demand =
        Demand { prompt_bytes: 80, messages: 1, max_tokens: Some(100), ..Demand::new("m", &preferences) };
    MeterRules::new(&offer("m", "s"), &demand, counting)
}

/// A provider's stream of `events` events of four bytes.
fn stream(events: u64) -> Meter {
    let mut meter = Meter::new(rules(Counting::Streamed));
    (0..events).for_each(|_| meter.on_content(4));
    meter
}

/// A node's stream of `tokens` tokens after a prompt of 20 tokens, 5 of them cached.
fn frames(tokens: u64) -> Meter {
    let mut meter = Meter::new(rules(Counting::Exact));
    meter.on_prompt(20, 5);
    (0..tokens).for_each(|_| meter.on_tokens(1, 4));
    meter
}

fn claim(prompt: u64, cached: u64, completion: u64) -> ClaimedUsage {
    ClaimedUsage { prompt, cached, cache_write: 0, completion, reasoning: 0 }
}

fn with(mut meter: Meter, claims: &[ClaimedUsage]) -> Meter {
    for claim in claims {
        meter.on_claim(*claim);
    }
    meter
}

/// Checks (prompt, cached, completion), basis and doubts of a bill with an ample hold.
#[track_caller]
fn check(meter: &Meter, end: StreamEnd, want: (u64, u64, u64), basis: Basis, doubts: Doubts) {
    let prices = PriceSchedule { request: NanoUsd(77), ..offer("m", "s").prices.unwrap() };
    let bill = meter.settle(end, &prices, NanoUsd::MAX).unwrap();
    let got = (bill.usage.prompt.0, bill.usage.cached_prompt.0, bill.usage.completion.0);
    assert_eq!((got, bill.basis, bill.doubts), (want, basis, doubts));
    let charged = if basis == Basis::Nothing { 0 } else { prices.charge(&bill.usage).unwrap().total.0 };
    assert_eq!(bill.charge.total.0, charged);
}

/// Ends before the answer's own, of which what was delivered counts.
const EARLY: [StreamEnd; 3] = [StreamEnd::TakenUp, StreamEnd::Cancelled, StreamEnd::Budget];
/// Ends by which an answer has failed.
const FAILED: [StreamEnd; 2] = [StreamEnd::SellerFailed, StreamEnd::Market];

#[test]
fn row_failed_answers_cost_nothing() {
    for end in FAILED {
        check(&with(stream(10), &[claim(30, 10, 12)]), end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
        check(&frames(7), end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
    }
}

#[test]
fn row_nothing_delivered() {
    for end in EARLY.into_iter().chain([StreamEnd::Complete]) {
        check(&stream(0), end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
        let claimed = with(stream(0), &[claim(9, 0, 7)]);
        check(&claimed, end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
        check(&frames(0), end, (0, 0, 0), Basis::Nothing, Doubts::NONE);
    }
    let mut empty_events = stream(0);
    empty_events.on_content(0);
    check(&empty_events, StreamEnd::Complete, (0, 0, 0), Basis::Nothing, Doubts::NONE);
}

#[test]
fn row_complete_counted_exactly() {
    check(&frames(7), StreamEnd::Complete, (20, 5, 7), Basis::Counted, Doubts::NONE);
    let agreed = with(frames(7), &[claim(20, 5, 7)]);
    check(&agreed, StreamEnd::Complete, (20, 5, 7), Basis::Counted, Doubts::NONE);
    let mut silent = frames(0);
    silent.on_tokens(1, 0);
    check(&silent, StreamEnd::Complete, (20, 5, 1), Basis::Counted, Doubts::NONE);
}

#[test]
fn row_complete_counted_exactly_with_another_claim() {
    let more = with(frames(7), &[claim(25, 5, 9)]);
    check(&more, StreamEnd::Complete, (20, 5, 7), Basis::Counted, Doubts::CLAIM_DIFFERS);
    let less = with(frames(7), &[claim(18, 6, 4)]);
    check(&less, StreamEnd::Complete, (18, 6, 4), Basis::Counted, Doubts::CLAIM_DIFFERS);
    let absurd = with(frames(7), &[claim(20, 21, 7)]);
    check(&absurd, StreamEnd::Complete, (20, 20, 7), Basis::Counted, Doubts::CLAIM_INVALID);
}

#[test]
fn row_complete_with_a_valid_claim() {
    let meter = with(stream(10), &[claim(30, 10, 12)]);
    check(&meter, StreamEnd::Complete, (30, 10, 12), Basis::Claim, Doubts::NONE);
    let low = with(stream(10), &[claim(30, 10, 1)]);
    check(&low, StreamEnd::Complete, (30, 10, 1), Basis::Claim, Doubts::NONE);
    // Ten events of four bytes are at most 20 tokens and the markup of one choice.
    let at = with(stream(10), &[claim(128, 0, 22)]);
    check(&at, StreamEnd::Complete, (128, 0, 22), Basis::Claim, Doubts::NONE);
    let past = with(stream(10), &[claim(129, 129, 23)]);
    check(&past, StreamEnd::Complete, (128, 128, 22), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    let long = with(stream(90), &[claim(30, 0, 150)]);
    check(&long, StreamEnd::Complete, (30, 0, 100), Basis::Claim, Doubts::CLAIM_EXCEEDS);
}

#[test]
fn a_hold_covers_what_is_likely_and_never_much_less_than_what_is_possible() {
    let check = |events: u64, bytes_each: u64, to_cover: u64, most: u64| {
        let mut meter = Meter::new(rules(Counting::Streamed));
        (0..events).for_each(|_| meter.on_content(bytes_each));
        assert_eq!((meter.to_cover(), meter.generated()), (to_cover, most), "{events} of {bytes_each} bytes");
    };
    // Markup is two tokens. English token by token, and the same text in one piece.
    check(100, 4, 102, 202);
    check(1, 400, 102, 202);
    check(100, 1, 102, 102);
    // From where the possible exceeds the likely by more than the bound, it leads.
    let edge = UNSECURED_TOKENS_MAX * 4;
    check(1, edge, UNSECURED_TOKENS_MAX + 2, 2 * UNSECURED_TOKENS_MAX + 2);
    check(1, edge + 4, UNSECURED_TOKENS_MAX + 4, 2 * UNSECURED_TOKENS_MAX + 4);
    assert_eq!(frames(7).to_cover(), 7, "what is counted is covered as it is");
}

#[test]
fn tool_calls_leave_room_for_their_markup() {
    let mut meter = with(stream(1), &[claim(30, 0, 20)]);
    check(&meter, StreamEnd::Complete, (30, 0, 4), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    meter.on_tool_call();
    check(&meter, StreamEnd::Complete, (30, 0, 20), Basis::Claim, Doubts::NONE);
}

#[test]
fn what_is_written_into_a_cache_is_billed_as_such_within_the_prompt() {
    let wrote = |prompt, cached, cache_write| ClaimedUsage { cache_write, ..claim(prompt, cached, 10) };
    let written = |claim| {
        let prices =
            PriceSchedule { cache_write: PicoUsdPerToken(3_000_000), ..offer("m", "s").prices.unwrap() };
        let bill = with(stream(10), &[claim]).settle(StreamEnd::Complete, &prices, NanoUsd::MAX).unwrap();
        (bill.usage.prompt.0, bill.usage.cached_prompt.0, bill.usage.cache_write.0, bill.charge.prompt.0)
    };
    assert_eq!(written(wrote(30, 10, 15)), (30, 10, 15, 5 * 1_000 + 10 * 500 + 15 * 3_000));
    // A claim cut to the bound of 128 keeps what is cheap before what is dear.
    assert_eq!(written(wrote(200, 100, 90)), (128, 100, 28, 100 * 500 + 28 * 3_000));
    assert_eq!(written(wrote(200, 140, 60)), (128, 128, 0, 128 * 500));
}

#[test]
fn of_two_claims_the_last_valid_one_counts() {
    let two = with(stream(10), &[claim(30, 0, 3), claim(30, 0, 10)]);
    check(&two, StreamEnd::Complete, (30, 0, 10), Basis::Claim, Doubts::NONE);
    let bad_last = with(stream(10), &[claim(30, 0, 10), claim(30, 31, 11)]);
    check(&bad_last, StreamEnd::Complete, (30, 0, 10), Basis::Claim, Doubts::CLAIM_INVALID);
}

#[test]
fn row_complete_without_a_claim() {
    check(&stream(10), StreamEnd::Complete, (10, 0, 10), Basis::Delivered, Doubts::USAGE_UNKNOWN);
    let mut whole = Meter::new(rules(Counting::Whole));
    whole.on_content(41);
    check(&whole, StreamEnd::Complete, (10, 0, 5), Basis::Delivered, Doubts::USAGE_UNKNOWN);
    let mut short = Meter::new(rules(Counting::Whole));
    short.on_content(1);
    check(&short, StreamEnd::Complete, (10, 0, 1), Basis::Delivered, Doubts::USAGE_UNKNOWN);
}

#[test]
fn row_complete_with_invalid_claims_only() {
    let unknown = Doubts::USAGE_UNKNOWN.with(Doubts::CLAIM_INVALID);
    let reasoning = ClaimedUsage { reasoning: 13, ..claim(30, 0, 12) };
    let huge = claim(CLAIM_TOKENS_MAX + 1, 0, 1);
    let parts = ClaimedUsage { cache_write: 6, ..claim(30, 25, 10) };
    let overflow = ClaimedUsage { cache_write: u64::MAX, ..claim(30, 25, 10) };
    for invalid in [parts, overflow, claim(5, 6, 10), claim(0, 0, 10), claim(30, 0, 0), reasoning, huge] {
        let meter = with(stream(10), &[invalid]);
        check(&meter, StreamEnd::Complete, (10, 0, 10), Basis::Delivered, unknown);
        assert_eq!(
            meter
                .settle(StreamEnd::Complete, &offer("m", "s").prices.unwrap(), NanoUsd::MAX)
                .unwrap()
                .claimed,
            None
        );
    }
    let at_bound = with(stream(10), &[claim(CLAIM_TOKENS_MAX, 0, 10)]);
    check(&at_bound, StreamEnd::Complete, (128, 0, 10), Basis::Claim, Doubts::CLAIM_EXCEEDS);
}

#[test]
fn row_cut() {
    for end in EARLY {
        check(&stream(6), end, (10, 0, 6), Basis::Delivered, Doubts::NONE);
        let dear = with(stream(6), &[claim(30, 10, 50)]);
        check(&dear, end, (30, 10, 6), Basis::Delivered, Doubts::NONE);
        let cheap = with(stream(6), &[claim(200, 10, 2)]);
        check(&cheap, end, (128, 10, 2), Basis::Delivered, Doubts::NONE);
    }
}

#[test]
fn row_cut_counted_exactly() {
    for end in EARLY {
        check(&frames(6), end, (20, 5, 6), Basis::Counted, Doubts::NONE);
        // Until the node hears of it, it makes more than is delivered.
        let made_more = with(frames(6), &[claim(20, 5, 9)]);
        check(&made_more, end, (20, 5, 6), Basis::Counted, Doubts::NONE);
    }
}

#[test]
fn a_node_that_never_counted_the_prompt_bears_it() {
    let mut meter = Meter::new(rules(Counting::Exact));
    meter.on_tokens(3, 9);
    check(&meter, StreamEnd::Complete, (10, 0, 3), Basis::Delivered, Doubts::USAGE_UNKNOWN);
}

#[test]
fn row_above_the_hold() {
    let prices = PriceSchedule { request: NanoUsd(50), ..offer("m", "s").prices.unwrap() };
    let meter = with(stream(10), &[claim(30, 0, 12)]);
    let bill = |held| meter.settle(StreamEnd::Complete, &prices, NanoUsd(held)).unwrap();
    let full = 30 * 1_000 + 12 * 2_000 + 50;
    assert_eq!((bill(full).charge.total, bill(full).doubts), (NanoUsd(full), Doubts::NONE));
    let less = bill(full - 1);
    assert_eq!((less.usage.completion, less.doubts), (TokenCount(11), Doubts::HOLD_EXCEEDED));
    assert_eq!(bill(30_050).usage.completion, TokenCount(0));
    assert_eq!(bill(30_049).usage.prompt, TokenCount(29));
    assert_eq!((bill(49).charge.total, bill(49).usage), (NanoUsd::ZERO, Usage::default()));
}

#[test]
fn hidden_reasoning_is_believed_of_those_who_declared_it() {
    let claim = ClaimedUsage { reasoning: 60, ..claim(30, 0, 70) };
    let mut rules = rules(Counting::Streamed);
    let meter = |rules| {
        let mut meter = with(Meter::new(rules), &[claim]);
        (0..10).for_each(|_| meter.on_content(4));
        meter
    };
    check(&meter(rules), StreamEnd::Complete, (30, 0, 22), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    rules.hidden_reasoning = true;
    check(&meter(rules), StreamEnd::Complete, (30, 0, 70), Basis::Claim, Doubts::NONE);
    let only_hidden = with(Meter::new(rules), &[claim]);
    check(&only_hidden, StreamEnd::Complete, (30, 0, 62), Basis::Claim, Doubts::CLAIM_EXCEEDS);
    check(&only_hidden, StreamEnd::SellerFailed, (0, 0, 0), Basis::Nothing, Doubts::NONE);
}

fn any_meter() -> impl Strategy<Value = (Meter, StreamEnd)> {
    let claims = proptest::collection::vec((0u64..300, 0u64..300, 0u64..200, 0u64..300, 0u64..50), 0..3);
    let content = proptest::collection::vec((0u64..20, 0u64..4), 0..40);
    (0usize..3, 0usize..6, claims, content, proptest::option::of((0u64..200, 0u64..200))).prop_map(
        |(counting, end, claims, content, prompt)| {
            let counting = [Counting::Exact, Counting::Streamed, Counting::Whole][counting];
            let mut meter = Meter::new(rules(counting));
            if let Some((tokens, cached)) = prompt {
                meter.on_prompt(tokens, cached);
            }
            for (bytes, tokens) in content {
                if counting == Counting::Exact {
                    meter.on_tokens(tokens, bytes);
                } else {
                    meter.on_content(bytes);
                }
            }
            for (prompt, cached, cache_write, completion, reasoning) in claims {
                meter.on_claim(ClaimedUsage { prompt, cached, cache_write, completion, reasoning });
            }
            let ends = [EARLY[0], EARLY[1], EARLY[2], FAILED[0], FAILED[1], StreamEnd::Complete];
            (meter, ends[end])
        },
    )
}

proptest! {
    #[test]
    fn a_bill_is_within_every_bound((meter, end) in any_meter(), held in 0u64..400_000) {
        let prices = offer("m", "s").prices.unwrap();
        let bill = meter.settle(end, &prices, NanoUsd(held)).unwrap();
        prop_assert!(bill.charge.total.0 <= held);
        prop_assert!(bill.usage.fresh_prompt().is_some());
        prop_assert!(bill.usage.prompt.0 <= meter.rules.prompt_tokens_max);
        prop_assert!(bill.usage.completion.0 <= meter.generated().min(100));
        if let Some(claimed) = bill.claimed {
            prop_assert!(bill.usage.prompt <= claimed.prompt);
            prop_assert!(bill.usage.completion <= claimed.completion);
        }
        if end != StreamEnd::Complete {
            prop_assert!(bill.usage.completion.0 <= meter.delivered_least());
        }
    }
}

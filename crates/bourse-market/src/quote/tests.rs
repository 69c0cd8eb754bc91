use super::*;
use crate::preferences::Preferences;
use crate::snapshot::tests::offer;
use bourse_types::{PicoUsdPerToken, PicoUsdPerUnit};
use proptest::prelude::*;

fn demand(preferences: &Preferences, max_tokens: Option<u64>, choices: u32) -> Demand<'_> {
    Demand { prompt_bytes: 100, messages: 1, max_tokens, choices, ..Demand::new("m", preferences) }
}

/// The prompt of `demand` bounds to 100 + 3 × 16 tokens at 1,000 nano-dollars; a completion token is 2,000.
const PROMPT_NANO: u64 = 148_000;

#[test]
fn the_first_hold_covers_the_prompt_and_one_step() {
    let wishes = Preferences::default();
    let window = HoldWindow::first(&offer("m", "s"), &demand(&wishes, None, 1)).unwrap();
    assert_eq!(window.held(), NanoUsd(PROMPT_NANO + HOLD_STEP_TOKENS_MIN * 2_000));
    assert_eq!(window.covered_tokens(), HOLD_STEP_TOKENS_MIN);
    let mut short = HoldWindow::first(&offer("m", "s"), &demand(&wishes, Some(10), 3)).unwrap();
    assert_eq!(short.held(), NanoUsd(PROMPT_NANO + 30 * 2_000));
    assert_eq!(short.extension(30), Ok(None));
}

#[test]
fn a_counted_prompt_bounds_closer_than_its_bytes() {
    let wishes = Preferences::default();
    let check = |counted, prompt_nano| {
        let demand = Demand { prompt_tokens_max: counted, ..demand(&wishes, Some(1), 1) };
        let window = HoldWindow::first(&offer("m", "s"), &demand).unwrap();
        assert_eq!(window.held(), NanoUsd(prompt_nano + 2_000));
    };
    check(None, PROMPT_NANO);
    check(Some(30), 30_000);
    check(Some(148), PROMPT_NANO);
    check(Some(149), PROMPT_NANO);
}

#[test]
fn units_and_the_dearest_prompt_are_held() {
    let wishes = Preferences::default();
    let mut dear = offer("m", "s");
    dear.prices = dear.prices.map(|p| PriceSchedule {
        cache_write: PicoUsdPerToken(1_250_000),
        unit: PicoUsdPerUnit(40_000_000),
        ..p
    });
    let demand = Demand { units_max: 2, ..demand(&wishes, Some(10), 1) };
    let window = HoldWindow::whole(&dear, &demand).unwrap();
    assert_eq!(window.held(), NanoUsd(PROMPT_NANO * 5 / 4 + 10 * 2_000 + 2 * 40_000));
}

#[test]
fn what_is_no_conversation_is_bounded_by_its_kind() {
    let wishes = Preferences::default();
    let check = |operation, units_max, prompt, completion| {
        let demand = Demand { operation, units_max, prompt_bytes: 100, ..Demand::new("m", &wishes) };
        let bounds =
            (prompt_tokens_max(&offer("m", "s"), &demand), completion_tokens_max(&offer("m", "s"), &demand));
        assert_eq!(bounds, (prompt, completion), "{operation}");
    };
    let context = offer("m", "s").context_tokens_max;
    check(Operations::EMBEDDINGS, 0, 132, 0);
    check(Operations::RERANK, 1, 132, 0);
    check(Operations::SPEECH, 100, 132, 0);
    check(Operations::IMAGES, 0, 132, 0);
    check(Operations::IMAGES, 1_000_000, 132, context);
    check(Operations::TRANSCRIPTION, 10, 132 + 500, 320.min(context));
    check(Operations::CHAT, 0, 132, context);
}

#[test]
fn the_margin_decides_when_to_extend() {
    let wishes = Preferences::default();
    let mut window = HoldWindow::first(&offer("m", "s"), &demand(&wishes, Some(1_000), 1)).unwrap();
    let due = HOLD_STEP_TOKENS_MIN - HOLD_MARGIN_TOKENS_MIN + 1;
    (1..due).for_each(|one_by_one| assert_eq!(window.extension(one_by_one), Ok(None)));
    let first = window.extension(due).unwrap().unwrap();
    let covers_tokens = due + HOLD_STEP_TOKENS_MIN;
    assert_eq!(first, Extension { step: 1, amount: NanoUsd(due * 2_000), covers_tokens });
    assert_eq!(window.extension(due), Ok(Some(first)), "asking changes nothing");
    window.grant(&first).unwrap();
    assert_eq!(window.held(), quote(&offer("m", "s"), &demand(&wishes, Some(1_000), 1), due).unwrap());
    // A burst far beyond what was covered is covered with a step to spare, up to the limit.
    let second = window.extension(990).unwrap().unwrap();
    assert_eq!((second.step, second.covers_tokens), (2, 1_000));
    window.grant(&second).unwrap();
    assert_eq!(window.extension(1_000), Ok(None));
}

#[test]
fn who_sends_in_large_pieces_is_held_further_ahead() {
    let wishes = Preferences::default();
    let check = |piece: u64, choices: u32, margin: u64| {
        let (offer, demand) = (offer("m", "s"), demand(&wishes, None, choices));
        let mut window = HoldWindow::first(&offer, &demand).unwrap();
        let seen = window.extension(piece).unwrap();
        if let Some(seen) = &seen {
            window.grant(seen).unwrap();
        }
        let covered = window.covered_tokens();
        // Asked at once, so that the way there brings nothing larger.
        let is_due = |left: u64| window.clone().extension(covered - left).unwrap().is_some();
        assert!(is_due(margin - 1) && !is_due(margin), "{piece} for {choices}");
    };
    // Every look here is large: it leaps to where the margin is looked for.
    check(512, 1, HOLD_MARGIN_TOKENS_MAX);
    check(4_096, 2, 2 * HOLD_MARGIN_TOKENS_MAX);
}

#[test]
fn a_step_is_a_part_of_what_was_surely_spent() {
    let wishes = Preferences::default();
    let check = |prompt: Option<u64>, price: u64, generated: u64, step: u64| {
        let mut offer = offer("m", "s");
        offer.prices = Some(PriceSchedule::per_token(PicoUsdPerToken(1_000_000), PicoUsdPerToken(price)));
        let demand = Demand { prompt_tokens_max: prompt, prompt_bytes: 1 << 40, ..demand(&wishes, None, 1) };
        let window = HoldWindow::first(&offer, &demand).unwrap();
        let limit = completion_tokens_max(&offer, &demand);
        assert_eq!(window.reach(generated).unwrap(), (generated + step).min(limit), "{prompt:?} {price}");
    };
    check(Some(4_000), 1_000_000, 0, 800);
    check(Some(4_000), 4_000_000, 0, 200);
    check(Some(4_000), 4_000_000, 1_000, 400);
    check(Some(1 << 40), 1_000_000, 0, HOLD_STEP_TOKENS_MAX);
    check(Some(0), 1_000_000, 0, HOLD_STEP_TOKENS_MIN);
    // Answers that cost nothing are covered to their end.
    check(Some(10), 0, 0, u64::MAX / 2);
}

#[test]
fn a_prompt_that_was_counted_is_held_as_it_is() {
    let wishes = Preferences::default();
    let counted = Demand { prompt_tokens_max: Some(25), ..demand(&wishes, Some(10), 1) };
    let window = HoldWindow::first(&offer("m", "s"), &counted).unwrap();
    assert_eq!(window.held(), NanoUsd(25_000 + 10 * 2_000));
}

#[test]
fn what_cannot_be_watched_is_held_whole() {
    let wishes = Preferences::default();
    let hidden = Offer { supports: Supports::ALL, ..offer("m", "s") };
    let whole = HoldWindow::whole(&offer("m", "s"), &demand(&wishes, Some(4_000), 2)).unwrap();
    assert_eq!(whole.covered_tokens(), 8_000);
    assert_eq!(HoldWindow::first(&hidden, &demand(&wishes, Some(4_000), 2)), Ok(whole));
}

#[test]
fn a_dearer_cache_bounds_the_prompt() {
    let wishes = Preferences::default();
    let mut dear = offer("m", "s");
    let prices = dear.prices.as_mut().unwrap();
    prices.cached_prompt.0 = 3 * prices.prompt.0;
    let held = quote(&dear, &demand(&wishes, Some(0), 1), 0).unwrap();
    assert_eq!(held, NanoUsd(3 * PROMPT_NANO));
}

#[test]
fn a_bound_that_cannot_be_computed_is_an_error() {
    let wishes = Preferences::default();
    let unknown = Offer { prices: None, ..offer("m", "s") };
    assert_eq!(quote(&unknown, &demand(&wishes, None, 1), 0), Err(QuoteError::UnknownPrice));
    let endless = Offer { context_tokens_max: u64::MAX, ..offer("m", "s") };
    let refused = HoldWindow::whole(&endless, &demand(&wishes, None, 128));
    assert_eq!(refused, Err(QuoteError::Bound(MoneyError::Overflow)));
}

proptest! {
    #[test]
    fn a_window_followed_to_the_end_always_covers_what_was_generated(
        steps in proptest::collection::vec(0u64..200, 0..60), max in 1u64..9_000, choices in 1u32..4,
    ) {
        let wishes = Preferences::default();
        let (offer, demand) = (offer("m", "s"), demand(&wishes, Some(max), choices));
        let limit = completion_tokens_max(&offer, &demand);
        let mut window = HoldWindow::first(&offer, &demand).unwrap();
        let mut generated = 0;
        for tokens in steps {
            generated = (generated + tokens).min(limit);
            if let Some(extension) = window.extension(generated).unwrap() {
                window.grant(&extension).unwrap();
            }
            prop_assert!(window.covered_tokens() >= generated);
            prop_assert!(window.covered_tokens() <= limit);
        }
        let whole = HoldWindow::whole(&offer, &demand).unwrap();
        prop_assert!(window.held() <= whole.held());
        prop_assert!(window.held() >= quote(&offer, &demand, 0).unwrap());
    }
}

proptest! {
    /// Token by token, with a counted prompt: what is held is within a fifth of the price so far, or one smallest step
    /// beyond it, and extensions are few.
    #[test]
    fn what_is_held_stays_near_what_was_spent(
        prompt in 0u64..20_000, price in 1u64..8, length in 1u64..4_000,
    ) {
        let wishes = Preferences::default();
        let mut offer = Offer { context_tokens_max: 1 << 20, ..offer("m", "s") };
        let prices = PriceSchedule::per_token(PicoUsdPerToken(1_000_000), PicoUsdPerToken(price * 1_000_000));
        offer.prices = Some(prices);
        let demand =
            Demand { prompt_tokens_max: Some(prompt), prompt_bytes: 1 << 40, ..demand(&wishes, None, 1) };
        let mut window = HoldWindow::first(&offer, &demand).unwrap();
        let spent = |generated: u64| (prompt + price * generated) * 1_000;
        for generated in 0..=length {
            if let Some(extension) = window.extension(generated).unwrap() {
                window.grant(&extension).unwrap();
            }
            let smallest = spent(generated) + HOLD_STEP_TOKENS_MIN * price * 1_000;
            let part = spent(generated) + spent(generated) / HOLD_STEP_PART;
            prop_assert!(window.held().0 <= smallest.max(part), "{} at {generated}", window.held());
            prop_assert!(window.covered_tokens() > generated);
        }
        let doublings = (spent(length) / spent(1).max(1)).checked_ilog2().unwrap_or(0) + 1;
        prop_assert!(u32::from(window.steps) <= 6 + 6 * doublings, "{} steps", window.steps);
    }
}

#[test]
fn what_is_left_of_the_money_is_used_to_the_last_token() {
    let wishes = Preferences::default();
    let offer = offer("m", "s");
    let mut window = HoldWindow::first(&offer, &demand(&wishes, Some(4_000), 1)).unwrap();
    let covered = window.covered_tokens();
    let generated = covered - HOLD_MARGIN_TOKENS_MIN + 1;
    let full = window.extension(generated).unwrap().unwrap();
    let with = |nano: u64| {
        let most = NanoUsd(window.held().0 + nano);
        window.extension_within(generated, most).unwrap().map(|part| (part.covers_tokens, part.amount.0))
    };
    assert_eq!(with(0), None);
    assert_eq!(with(full.amount.0), Some((full.covers_tokens, full.amount.0)));
    assert_eq!(with(u64::MAX / 2), Some((full.covers_tokens, full.amount.0)), "no more than a step");
    let (mut last, mut seen) = (covered, 0);
    for nano in 0..full.amount.0 {
        let Some((covers, amount)) = with(nano) else { continue };
        assert!(amount <= nano && covers >= last && covers <= full.covers_tokens);
        seen += u64::from(covers > last);
        last = covers;
    }
    assert!(seen > 2, "it grows with the money");
    window.use_up();
    assert_eq!(window.extension(covered - 1), Ok(None), "what is covered is used");
    assert!(window.extension(covered).unwrap().is_some());
}

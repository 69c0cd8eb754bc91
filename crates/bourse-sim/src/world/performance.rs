//! What a seller does with one attempt, in virtual time.
//!
//! A performance is a list of beats, each so many milliseconds after the one before. It is drawn from a
//! seed and from the same list of faults as the upstream simulator's, by their class: a fault before
//! content fails after a while, a fault after content breaks off, any other changes the claim.

use crate::seed::Random;
use crate::upstream::{Expectation, Fault, Mode, UsageRule};
use bourse_market::{ClaimedUsage, Outcome};
use bourse_types::DurationMs;

/// Silence after which the market gives up on a seller, in milliseconds.
const SILENCE_MS: u64 = 3_000;
/// Longest answer that a seller gives, in tokens.
const ANSWER_TOKENS_MAX: u64 = 700;
/// Tokens that one beat delivers at most.
const BEAT_TOKENS_MAX: u64 = 128;
/// Bytes of text in one token.
const TOKEN_BYTES: u64 = 4;

/// One thing that a seller does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Beat {
    /// Delivers content: so many events, so many bytes each.
    Content { events: u64, bytes_each: u64 },
    /// Reports usage.
    Claim(ClaimedUsage),
    /// Ends as it should.
    Finish,
    /// Fails, with the status that a receipt shows.
    Fail { status: u16, outcome: Outcome },
}

/// How fast a seller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speed {
    pub(super) first_token_ms: u64,
    pub(super) token_ms: u64,
}

/// What the attempt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Mode,
    pub(super) prompt_tokens: u64,
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: u32,
}

/// The beats of an attempt that meets `fault`.
pub(super) fn perform(
    random: &mut Random,
    fault: Option<Fault>,
    speed: Speed,
    wanted: Wanted,
) -> Vec<(DurationMs, Beat)> {
    let expectation =
        fault.map_or(Expectation::Answers { usage: UsageRule::Claimed }, |f| f.expectation(wanted.mode));
    if let Expectation::FailsOver { .. } = expectation {
        return vec![failure(random, fault, speed)];
    }
    let each = 1 + random.below(ANSWER_TOKENS_MAX.min(wanted.max_tokens.unwrap_or(u64::MAX)));
    let tokens = each * u64::from(wanted.choices);
    let usage = ClaimedUsage { prompt: wanted.prompt_tokens, completion: tokens, ..ClaimedUsage::default() };
    let Expectation::Answers { usage: rule } = expectation else {
        let mut beats = content(random, speed, wanted.mode, tokens.div_ceil(2));
        let wait = if fault.is_some_and(Fault::is_timeout) { SILENCE_MS } else { 1 };
        beats.push((DurationMs(wait), Beat::Fail { status: 0, outcome: Outcome::Failure }));
        return beats;
    };
    let mut beats = content(random, speed, wanted.mode, tokens);
    if let Some(claim) = claim(rule, usage) {
        beats.push((DurationMs(0), Beat::Claim(claim)));
    }
    beats.push((DurationMs(0), Beat::Finish));
    beats
}

fn failure(random: &mut Random, fault: Option<Fault>, speed: Speed) -> (DurationMs, Beat) {
    let limited = |retry_after| Beat::Fail { status: 429, outcome: Outcome::RateLimited { retry_after } };
    let beat = match fault {
        Some(Fault::RateLimited) => limited(None),
        Some(Fault::RateLimitedSeconds | Fault::RateLimitedDate) => limited(Some(DurationMs(2_000))),
        Some(Fault::ServerError) => Beat::Fail { status: 500, outcome: Outcome::Failure },
        _ => Beat::Fail { status: 0, outcome: Outcome::Failure },
    };
    let hangs = fault.is_some_and(Fault::is_timeout);
    let after = if hangs { SILENCE_MS } else { random.below(speed.first_token_ms + 1) };
    (DurationMs(after), beat)
}

/// A plain answer comes in one piece, a stream in beats.
fn content(random: &mut Random, speed: Speed, mode: Mode, tokens: u64) -> Vec<(DurationMs, Beat)> {
    if mode == Mode::Plain {
        let wait = DurationMs(speed.first_token_ms + speed.token_ms * tokens);
        return vec![(wait, Beat::Content { events: 1, bytes_each: tokens * TOKEN_BYTES })];
    }
    let (mut beats, mut left, mut wait) = (Vec::new(), tokens, speed.first_token_ms);
    while left > 0 {
        let events = 1 + random.below(BEAT_TOKENS_MAX.min(left));
        beats.push((DurationMs(wait), Beat::Content { events, bytes_each: TOKEN_BYTES }));
        left -= events;
        wait = speed.token_ms * events;
    }
    beats
}

fn claim(rule: UsageRule, truth: ClaimedUsage) -> Option<ClaimedUsage> {
    match rule {
        UsageRule::Claimed => Some(truth),
        UsageRule::ClaimedBelowTruth => {
            Some(ClaimedUsage { completion: truth.completion.div_ceil(2), ..truth })
        }
        UsageRule::Recounted => None,
        UsageRule::Bounded => {
            Some(ClaimedUsage { completion: truth.completion * 1_000, prompt: truth.prompt * 1_000, ..truth })
        }
        UsageRule::CachedBounded => Some(ClaimedUsage { cached: truth.prompt * 2 + 1, ..truth }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(fault: Option<Fault>, mode: Mode) -> Vec<Beat> {
        let wanted = Wanted { mode, prompt_tokens: 10, max_tokens: Some(300), choices: 2 };
        let speed = Speed { first_token_ms: 50, token_ms: 2 };
        perform(&mut Random::new(5), fault, speed, wanted).into_iter().map(|(_, beat)| beat).collect()
    }

    #[test]
    fn every_fault_performs_by_its_class() {
        for (fault, mode) in Fault::ALL.iter().flat_map(|fault| Mode::ALL.map(|mode| (*fault, mode))) {
            let beats = beats(Some(fault), mode);
            let has_content = beats.iter().any(|beat| matches!(beat, Beat::Content { .. }));
            let fails = matches!(beats.last(), Some(Beat::Fail { .. }));
            let want = match fault.expectation(mode) {
                Expectation::FailsOver { .. } => (false, true),
                Expectation::BreaksOff => (true, true),
                Expectation::Answers { .. } => (true, false),
            };
            assert_eq!((has_content, fails), want, "{fault} {mode:?}");
        }
    }

    #[test]
    fn an_honest_stream_claims_what_it_delivers() {
        let beats = beats(None, Mode::Stream);
        let delivered: u64 =
            beats.iter().map(|beat| if let Beat::Content { events, .. } = beat { *events } else { 0 }).sum();
        let claimed = beats
            .iter()
            .find_map(|beat| if let Beat::Claim(claim) = beat { Some(claim.completion) } else { None });
        assert_eq!(Some(delivered), claimed);
    }
}

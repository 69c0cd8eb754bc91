//! The circuit breaker of one offer, and the pauses that its seller asks for.
//!
//! It opens after [`BREAKER_FAILURES_IN_A_ROW`] failures in a row, or when at least half of the outcomes
//! of the last 15 to 30 seconds failed and there were [`BREAKER_OUTCOMES_MIN`] of them. Open, it rests
//! for a cooldown that doubles with every opening; then it is half-open and admits one request at a time
//! until one succeeds (closed) or fails (open again). A 429 is not a failure: it is a pause, as long as
//! the seller asked for; where it names none, a pause that doubles with every 429 in a row.

use bourse_types::{DurationMs, UnixMs};

/// Failures in a row that open the breaker.
pub const BREAKER_FAILURES_IN_A_ROW: u16 = 3;
/// Outcomes in the window below which the share of failures says nothing.
pub const BREAKER_OUTCOMES_MIN: u32 = 20;
/// Length of one bucket of the window, in milliseconds; two buckets are looked at.
pub const WINDOW_MS: u64 = 15_000;
/// First cooldown, in milliseconds.
pub const COOLDOWN_MS_MIN: u64 = 2_000;
/// Longest cooldown, in milliseconds.
pub const COOLDOWN_MS_MAX: u64 = 60_000;
/// Longest pause that a seller's `Retry-After` can ask for, in milliseconds.
pub const RETRY_AFTER_MS_MAX: u64 = 60_000;
/// Pause after the first 429 that names none, in milliseconds.
const RETRY_AFTER_MS_DEFAULT: u64 = 1_000;
/// Successes in a row after which the next cooldown is the first one again.
pub(super) const SUCCESSES_TO_FORGET: u16 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    pub(super) outcomes: u32,
    pub(super) failures: u32,
}

/// Counters of the breaker; what a plan needs of them is in [`Vital`](super::Vital).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fuse {
    pub(super) failures_in_a_row: u16,
    pub(super) successes_in_a_row: u16,
    pub(super) openings: u8,
    pub(super) limited_in_a_row: u8,
    pub(super) open_until: Option<UnixMs>,
    pub(super) paused_until: UnixMs,
    pub(super) bucket_start: UnixMs,
    pub(super) current: Bucket,
    pub(super) previous: Bucket,
}

impl Fuse {
    /// End of the cooldown and of the pause, whichever is later; 0 when there is neither.
    pub(super) fn rests_until(&self) -> UnixMs {
        self.open_until.unwrap_or_default().max(self.paused_until)
    }

    pub(super) fn on_success(&mut self, now: UnixMs) {
        self.record(now, false);
        self.failures_in_a_row = 0;
        self.limited_in_a_row = 0;
        self.successes_in_a_row = self.successes_in_a_row.saturating_add(1);
        if self.open_until.take().is_some() {
            // What failed before the recovery must not open the breaker again.
            self.current = Bucket { outcomes: 1, failures: 0 };
            self.previous = Bucket::default();
        }
        if self.successes_in_a_row >= SUCCESSES_TO_FORGET {
            self.openings = 0;
        }
    }

    pub(super) fn on_failure(&mut self, now: UnixMs) {
        self.record(now, true);
        self.successes_in_a_row = 0;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let outcomes = self.current.outcomes.saturating_add(self.previous.outcomes);
        let failures = self.current.failures.saturating_add(self.previous.failures);
        let share_is_bad = outcomes >= BREAKER_OUTCOMES_MIN && failures.saturating_mul(2) >= outcomes;
        let opens = match self.open_until {
            None => self.failures_in_a_row >= BREAKER_FAILURES_IN_A_ROW || share_is_bad,
            // Requests that were in flight when it opened, and last resorts, change nothing; a probe does.
            Some(until) => now >= until,
        };
        if opens {
            let cooldown = (COOLDOWN_MS_MIN << self.openings.min(16)).min(COOLDOWN_MS_MAX);
            self.open_until = Some(now.plus(DurationMs(cooldown)));
            self.openings = self.openings.saturating_add(1);
        }
    }

    /// A 429 that asks for a pause, or one at a seller that has nothing else in flight to be spared.
    pub(super) fn on_rate_limited(&mut self, now: UnixMs, retry_after: Option<DurationMs>) {
        let default = RETRY_AFTER_MS_DEFAULT << self.limited_in_a_row.min(16);
        self.limited_in_a_row = self.limited_in_a_row.saturating_add(1);
        self.pause(now, DurationMs(retry_after.map_or(default, |d| d.0)));
    }

    /// The offer rests for this long, [`RETRY_AFTER_MS_MAX`] at most.
    pub(super) fn pause(&mut self, now: UnixMs, pause: DurationMs) {
        let pause = DurationMs(pause.0.min(RETRY_AFTER_MS_MAX));
        self.paused_until = self.paused_until.max(now.plus(pause));
    }

    fn record(&mut self, now: UnixMs, failed: bool) {
        let age = now.since(self.bucket_start).0;
        if age >= WINDOW_MS {
            self.previous = if age < 2 * WINDOW_MS { self.current } else { Bucket::default() };
            self.current = Bucket::default();
            self.bucket_start = now;
        }
        self.current.outcomes = self.current.outcomes.saturating_add(1);
        self.current.failures = self.current.failures.saturating_add(u32::from(failed));
    }
}

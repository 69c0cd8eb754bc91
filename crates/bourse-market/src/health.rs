//! The health of an offer: a circuit breaker, requests in flight, time to the first token.
//!
//! Pure estimators: outcomes and `now` go in, [`OfferHealth::admits`] comes out. The breaker opens after
//! [`BREAKER_FAILURES_IN_A_ROW`] failures in a row, or when at least half of the outcomes of the last
//! 15 to 30 seconds failed and there were [`BREAKER_OUTCOMES_MIN`] of them. Open, it rests for a
//! cooldown that doubles with every opening; then it is half-open and admits one request at a time until
//! one succeeds (closed) or fails (open again). A 429 is not a failure: it is a pause that the seller
//! asked for. An offer that is not admitted is not lost: the plan keeps it as a last resort.

use crate::offer::OfferIndex;
use crate::snapshot::MarketSnapshot;
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
/// Pause after a 429 that names none, in milliseconds.
const RETRY_AFTER_MS_DEFAULT: u64 = 1_000;
/// Successes in a row after which the next cooldown is the first one again.
const SUCCESSES_TO_FORGET: u16 = 16;
/// Weight of a new sample in the mean time to the first token.
const TTFT_WEIGHT: f64 = 0.2;

/// How an attempt ended, as far as the seller's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Content came and the answer ended as it should; with the time to the first content.
    Success {
        /// From dispatch to the first content.
        ttft: DurationMs,
    },
    /// The seller is to blame: no connection, 401, 402, 404, 5xx, timeout, broken or cut stream.
    Failure,
    /// 429, with the pause that the seller asked for.
    RateLimited {
        /// `Retry-After`, if there was one.
        retry_after: Option<DurationMs>,
    },
    /// Says nothing about the seller: the buyer's fault (400, 413) or the buyer went away.
    Neutral,
}

/// What the breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// Everything.
    Closed,
    /// Nothing until then.
    Open {
        /// End of the cooldown.
        until: UnixMs,
    },
    /// One request at a time.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    outcomes: u32,
    failures: u32,
}

/// Health of one offer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OfferHealth {
    in_flight: u32,
    failures_in_a_row: u16,
    successes_in_a_row: u16,
    openings: u8,
    open_until: Option<UnixMs>,
    paused_until: UnixMs,
    bucket_start: UnixMs,
    current: Bucket,
    previous: Bucket,
    ttft_ms: Option<f64>,
}

impl OfferHealth {
    /// Health of an offer of which nothing is known.
    pub const UNKNOWN: Self = Self {
        in_flight: 0,
        failures_in_a_row: 0,
        successes_in_a_row: 0,
        openings: 0,
        open_until: None,
        paused_until: UnixMs(0),
        bucket_start: UnixMs(0),
        current: Bucket { outcomes: 0, failures: 0 },
        previous: Bucket { outcomes: 0, failures: 0 },
        ttft_ms: None,
    };

    /// An attempt starts.
    pub fn on_start(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// An attempt that was started ends.
    pub fn on_outcome(&mut self, now: UnixMs, outcome: Outcome) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Success { ttft } => self.on_success(now, ttft),
            Outcome::Failure => self.on_failure(now),
            Outcome::RateLimited { retry_after } => {
                let pause = retry_after.map_or(RETRY_AFTER_MS_DEFAULT, |d| d.0).min(RETRY_AFTER_MS_MAX);
                self.paused_until = self.paused_until.max(now.plus(DurationMs(pause)));
            }
            Outcome::Neutral => {}
        }
    }

    /// What the breaker lets through now.
    pub fn breaker(&self, now: UnixMs) -> Breaker {
        match self.open_until {
            None => Breaker::Closed,
            Some(until) if now < until => Breaker::Open { until },
            Some(_) => Breaker::HalfOpen,
        }
    }

    /// Whether the offer takes part in the ordinary choice.
    pub fn admits(&self, now: UnixMs) -> bool {
        let breaker_admits = match self.breaker(now) {
            Breaker::Closed => true,
            Breaker::Open { .. } => false,
            Breaker::HalfOpen => self.in_flight == 0,
        };
        breaker_admits && self.paused_until(now).is_none()
    }

    /// The end of the pause that the seller asked for, when there is one now.
    pub fn paused_until(&self, now: UnixMs) -> Option<UnixMs> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// When the breaker admits the next request at the latest guess; `now` when it does not know.
    pub(crate) fn rests_until(&self, now: UnixMs) -> UnixMs {
        self.open_until.unwrap_or(now).max(now)
    }

    /// Attempts started and not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Moving mean of the time to the first content, in milliseconds; none before the first success.
    pub fn ttft_ms(&self) -> Option<f64> {
        self.ttft_ms
    }

    fn on_success(&mut self, now: UnixMs, ttft: DurationMs) {
        let sample = ttft.0 as f64;
        self.ttft_ms = Some(self.ttft_ms.map_or(sample, |mean| mean + TTFT_WEIGHT * (sample - mean)));
        self.record(now, false);
        self.failures_in_a_row = 0;
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

    fn on_failure(&mut self, now: UnixMs) {
        self.record(now, true);
        self.successes_in_a_row = 0;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let outcomes = self.current.outcomes.saturating_add(self.previous.outcomes);
        let failures = self.current.failures.saturating_add(self.previous.failures);
        let share_is_bad = outcomes >= BREAKER_OUTCOMES_MIN && failures.saturating_mul(2) >= outcomes;
        let opens = match self.breaker(now) {
            Breaker::HalfOpen => true,
            // Requests that were in flight when it opened, and last resorts, change nothing.
            Breaker::Open { .. } => false,
            Breaker::Closed => self.failures_in_a_row >= BREAKER_FAILURES_IN_A_ROW || share_is_bad,
        };
        if opens {
            let cooldown = (COOLDOWN_MS_MIN << self.openings.min(16)).min(COOLDOWN_MS_MAX);
            self.open_until = Some(now.plus(DurationMs(cooldown)));
            self.openings = self.openings.saturating_add(1);
        }
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

/// Health of every offer of one snapshot, by position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthTable {
    offers: Vec<OfferHealth>,
}

impl HealthTable {
    /// Fresh health for every offer.
    pub fn new(snapshot: &MarketSnapshot) -> Self {
        Self { offers: vec![OfferHealth::default(); snapshot.offers().len()] }
    }

    /// The table for `to`, with what was known about the offers of `from`. Attempts in flight are
    /// carried too: whoever ends one finds its offer with [`MarketSnapshot::index_of`].
    #[must_use]
    pub fn carried(&self, from: &MarketSnapshot, to: &MarketSnapshot) -> Self {
        let known = |model: &str, seller: &str| {
            let index = from.index_of(model, seller)?;
            self.offers.get(index.0 as usize).copied()
        };
        let offers = to.offers().iter();
        Self {
            offers: offers.map(|o| known(o.model.as_str(), o.seller.as_str()).unwrap_or_default()).collect(),
        }
    }

    /// By position, as [`plan`](crate::plan) takes it.
    pub fn as_slice(&self) -> &[OfferHealth] {
        &self.offers
    }

    /// The health of one offer, to report to.
    pub fn get_mut(&mut self, index: OfferIndex) -> Option<&mut OfferHealth> {
        self.offers.get_mut(index.0 as usize)
    }
}

#[cfg(test)]
mod tests;

//! The load at which a seller starts to answer 429, learned from its answers.
//!
//! The load is the number of attempts in flight. Without a 429 there is no cap. The first one sets it:
//! of `n` attempts in flight, each that comes back with 429 was one too many, so the cap falls by one
//! for each until those that were in flight have ended. A burst of any size against a hidden limit thus
//! finds the limit in one round. Below one in flight the cap goes on falling as a share of time: at a
//! load of a quarter, three times an answer's length passes after each answer. That holds sellers that
//! limit requests per minute, not requests at once, down to [`LOAD_MIN`]; who takes less than that is
//! left to the growing pauses of the breaker.
//!
//! Upwards it probes: after [`PROBE_SUCCESSES_MIN`] good answers at the cap it admits one more. A 429
//! takes the step back and doubles the wait for the next one, up to [`PROBE_SUCCESSES_MAX`]; a probe that holds halves it and doubles the step, so that a limit that was
//! lifted is found in a logarithmic number of probes. In balance one answer in 64 or fewer is a 429.
//! Below a load of one the first waits are shorter, because answers are rare there.

use bourse_types::DurationMs;

/// Good answers at the cap before one more attempt is admitted, at the least.
pub(super) const PROBE_SUCCESSES_MIN: u32 = 64;
/// Good answers at the cap before one more attempt is admitted, at the most.
pub(super) const PROBE_SUCCESSES_MAX: u32 = 1_024;
/// The same below a load of one.
pub(super) const PROBE_SUCCESSES_RARE: u32 = 16;
/// Smallest load: after an answer, 15 times its length passes.
pub(super) const LOAD_MIN: f32 = 1.0 / 16.0;
/// What a 429 leaves of a load of at most one.
const LOAD_KEPT: f32 = 0.75;
/// What a step adds to a load below one, as a share of it.
const LOAD_STEP: f32 = 0.25;
/// Largest step below one.
const STEP_MAX_RARE: f32 = 4.0;
/// Share of the cap that must be in use for a good answer to tell something about it.
const USE_THAT_TELLS: f32 = 0.75;
/// Weight of a new sample in the mean length of an answer.
const LENGTH_WEIGHT: f32 = 0.2;

/// The learned cap of one offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cap {
    /// Attempts in flight that the seller takes; infinite before the first 429; a whole number from 1 on.
    pub(super) load: f32,
    /// By how much the next probe raises the load.
    pub(super) step: f32,
    /// Mean length of an answer, in milliseconds; 0 before the first.
    pub(super) length_ms: f32,
    /// Good answers at the cap before the next probe.
    pub(super) wait: u32,
    /// Good answers at the cap since the last change.
    pub(super) successes: u32,
    /// Attempts that were in flight at the last fall and have not ended.
    pub(super) draining: u32,
    /// 1 when the last change was a probe, else 0.
    pub(super) is_probing: u8,
}

impl Default for Cap {
    fn default() -> Self {
        Self {
            load: f32::INFINITY,
            step: 1.0,
            length_ms: 0.0,
            wait: PROBE_SUCCESSES_MIN,
            successes: 0,
            draining: 0,
            is_probing: 0,
        }
    }
}

impl Cap {
    /// Attempts in flight at most; `u32::MAX` for no cap.
    pub(super) fn in_flight_max(&self) -> u32 {
        // Casting saturates, so that an infinite load is no cap.
        self.load.max(1.0) as u32
    }

    /// How long the offer rests after an attempt; zero from a load of one on.
    pub(super) fn rest(&self) -> DurationMs {
        if self.load >= 1.0 {
            return DurationMs(0);
        }
        DurationMs((self.length_ms * (1.0 / self.load - 1.0)) as u64)
    }

    /// A good answer ended, `in_flight` before it did.
    pub(super) fn on_success(&mut self, in_flight: u32, whole: DurationMs) {
        let sample = whole.0.max(1) as f32;
        let mean = self.length_ms;
        self.length_ms = if mean > 0.0 { mean + LENGTH_WEIGHT * (sample - mean) } else { sample };
        self.on_end();
        if self.load.is_infinite() || (in_flight as f32) < self.load * USE_THAT_TELLS {
            return;
        }
        self.successes += 1;
        if self.successes >= self.wait {
            self.probe();
        }
    }

    /// A 429 came back, `in_flight` before it did.
    pub(super) fn on_limited(&mut self, in_flight: u32) {
        if self.draining > 0 {
            self.draining -= 1;
            self.load = (self.load - 1.0).max(self.load.min(1.0));
            return;
        }
        let is_first = self.load.is_infinite();
        let seen = self.load.min(in_flight as f32);
        self.load =
            if seen >= 2.0 { (seen - 1.0).floor() } else { (self.load.min(1.0) * LOAD_KEPT).max(LOAD_MIN) };
        self.draining = in_flight.saturating_sub(1);
        self.wait = match (is_first, self.load < 1.0) {
            (true, true) => PROBE_SUCCESSES_RARE,
            (true, false) => PROBE_SUCCESSES_MIN,
            (false, _) => (self.wait * 2).min(PROBE_SUCCESSES_MAX),
        };
        (self.step, self.successes, self.is_probing) = (1.0, 0, 0);
    }

    /// An attempt ended in any other way.
    pub(super) fn on_end(&mut self) {
        self.draining = self.draining.saturating_sub(1);
    }

    fn probe(&mut self) {
        let is_rare = self.load < 1.0;
        let wait_min = if is_rare { PROBE_SUCCESSES_RARE } else { PROBE_SUCCESSES_MIN };
        if self.is_probing == 1 {
            // The last probe held.
            self.wait = (self.wait / 2).max(wait_min);
            let step_max = if is_rare { STEP_MAX_RARE } else { (self.load / 4.0).max(1.0).floor() };
            self.step = (self.step * 2.0).min(step_max);
        }
        self.load = if is_rare {
            (self.load * (1.0 + LOAD_STEP * self.step)).min(1.0)
        } else {
            self.load + self.step
        };
        (self.successes, self.is_probing) = (0, 1);
    }
}

#[cfg(test)]
mod tests;

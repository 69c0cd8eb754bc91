//! The health of the offers: what outcomes teach about sellers.
//!
//! Pure estimators: outcomes and `now` go in, a [`Vital`] per offer comes out. The vitals are one hot
//! column of 32 bytes each, all that a plan reads. What they are computed from is cold and boxed, made
//! with the first outcome, so that a hundred thousand idle offers cost 4 MB. An offer that is not
//! admitted is not lost: the plan keeps it as a last resort.

mod breaker;
mod outcome;
mod vital;

pub use breaker::{
    BREAKER_FAILURES_IN_A_ROW, BREAKER_OUTCOMES_MIN, COOLDOWN_MS_MAX, COOLDOWN_MS_MIN, RETRY_AFTER_MS_MAX,
    WINDOW_MS,
};
pub use outcome::{Conversation, Outcome, Served, ToolCalls};
pub use vital::{Breaker, Quality, Rest, Standing, Vital};

use crate::offer::OfferIndex;
use crate::snapshot::MarketSnapshot;
use bourse_types::UnixMs;
use breaker::Fuse;

/// Weight of a new sample in the mean time to the first token.
const TTFT_WEIGHT: f32 = 0.2;

/// What a vital is computed from.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cold {
    fuse: Fuse,
}

/// Health of every offer of one snapshot, by position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthTable {
    vitals: Vec<Vital>,
    cold: Vec<Option<Box<Cold>>>,
}

impl HealthTable {
    /// Fresh health for every offer.
    pub fn new(snapshot: &MarketSnapshot) -> Self {
        let count = snapshot.offers().len();
        Self { vitals: vec![Vital::UNKNOWN; count], cold: vec![None; count] }
    }

    /// The table for `to`, with what was known about the offers of `from`. Attempts in flight are
    /// carried too: whoever ends one finds its offer with [`MarketSnapshot::index_of`].
    #[must_use]
    pub fn carried(mut self, from: &MarketSnapshot, to: &MarketSnapshot) -> Self {
        let mut next = Self::new(to);
        let mut old = from.offers().iter().enumerate().peekable();
        // Both are sorted by model and seller: one walk over both finds every pair.
        for (at, offer) in to.offers().iter().enumerate() {
            let name = (&offer.model, &offer.seller);
            while old.next_if(|(_, o)| (&o.model, &o.seller) < name).is_some() {}
            let Some((was, _)) = old.next_if(|(_, o)| (&o.model, &o.seller) == name) else { continue };
            if let (Some(vital), Some(cold)) = (self.vitals.get(was), self.cold.get_mut(was)) {
                next.vitals[at] = *vital;
                next.cold[at] = cold.take();
            }
        }
        next
    }

    /// By position, as [`plan`](crate::plan()) reads it.
    pub fn vitals(&self) -> &[Vital] {
        &self.vitals
    }

    /// The vital of one offer; that of an unknown offer beyond the end.
    pub fn vital(&self, index: OfferIndex) -> Vital {
        self.vitals.get(index.0 as usize).copied().unwrap_or(Vital::UNKNOWN)
    }

    /// An attempt at the offer starts.
    pub fn on_start(&mut self, index: OfferIndex) {
        if let Some(vital) = self.vitals.get_mut(index.0 as usize) {
            vital.in_flight = vital.in_flight.saturating_add(1);
        }
    }

    /// An attempt that was started ends.
    pub fn on_outcome(&mut self, index: OfferIndex, now: UnixMs, outcome: Outcome) {
        let at = index.0 as usize;
        let (Some(vital), Some(cold)) = (self.vitals.get_mut(at), self.cold.get_mut(at)) else { return };
        vital.in_flight = vital.in_flight.saturating_sub(1);
        if outcome == Outcome::Neutral {
            return;
        }
        let cold = cold.get_or_insert_default();
        match outcome {
            Outcome::Success(served) => {
                let sample = served.ttft.0 as f32;
                vital.ttft_ms = vital.ttft_ms().map_or(sample, |mean| mean + TTFT_WEIGHT * (sample - mean));
                cold.fuse.on_success(now);
            }
            Outcome::Failure | Outcome::Broken => cold.fuse.on_failure(now),
            Outcome::RateLimited { retry_after } => cold.fuse.on_rate_limited(now, retry_after),
            Outcome::Forbidden | Outcome::Neutral => {}
        }
        vital.rests_until = cold.fuse.rests_until();
        vital.opened = u8::from(cold.fuse.open_until.is_some());
    }
}

#[cfg(test)]
mod tests;

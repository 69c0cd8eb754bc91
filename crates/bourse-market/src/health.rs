//! The health of the offers: what outcomes teach about sellers.
//!
//! Pure estimators: outcomes and `now` go in, a [`Vital`] per offer comes out. The vitals are 32 bytes each,
//! all that a plan reads, and it reads them only of offers that are out of the ordinary: see
//! [`Vitals`]. What they are computed from is cold and boxed, made with the first outcome, so that a hundred
//! thousand idle offers cost 6 MB. An offer that is not admitted is not lost: the plan keeps it as a last
//! resort.
//!
//! Every outcome updates its offer's breaker, learned cap and rolling statistics, then computes the
//! vital anew: burden against peers, uptime's standing, the real cache share, the tier of quality. The
//! work per outcome is bounded: it does not grow with the number of offers.

mod breaker;
mod burden;
mod cap;
mod checkpoint;
mod histogram;
mod outcome;
mod peers;
mod quality;
mod ring;
mod statistics;
mod vital;
mod vitals;

pub use breaker::{
    BREAKER_FAILURES_IN_A_ROW, BREAKER_OUTCOMES_MIN, COOLDOWN_MS_MAX, COOLDOWN_MS_MIN, RETRY_AFTER_MS_MAX,
    WINDOW_MS,
};
pub use histogram::Percentiles;
pub use outcome::{Conversation, Outcome, Served, ToolCalls};
pub use quality::Bars;
pub use statistics::{
    CacheCounts, Counts, STATISTICS_BYTES_MAX, Statistics, ToolCounts, UPTIME_OUTCOMES_MIN, UptimeWindow,
    Window,
};
pub use vital::{Breaker, Quality, Rest, Standing, Vital};

use crate::offer::OfferIndex;
use crate::snapshot::MarketSnapshot;
use bourse_types::UnixMs;
use breaker::Fuse;
use cap::Cap;
use peers::{Pace, Peers};
use quality::Showing;
use vitals::Vitals;

/// Weight of a new sample in a moving mean.
const SAMPLE_WEIGHT: f32 = 0.2;
/// Answers after which no more are counted for the prior of speed.
const TIMED_MAX: u32 = 1_000;

/// What a vital is computed from.
#[derive(Debug, Clone, PartialEq, Default)]
struct Cold {
    fuse: Fuse,
    cap: Cap,
    pace: Pace,
    statistics: Statistics,
}

/// Health of every offer of one snapshot, by position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthTable {
    vitals: Vitals,
    cold: Vec<Option<Box<Cold>>>,
    /// The position of each model's first offer, and what its offers show together.
    models: Vec<(u32, Option<Box<Peers>>)>,
}

impl HealthTable {
    /// Fresh health for every offer.
    pub fn new(snapshot: &MarketSnapshot) -> Self {
        let offers = snapshot.offers();
        let first = |at: &u32| {
            let at = *at as usize;
            at == 0 || offers[at - 1].model != offers[at].model
        };
        Self {
            vitals: Vitals::unknown(offers.len()),
            cold: vec![None; offers.len()],
            models: (0..offers.len() as u32).filter(first).map(|at| (at, None)).collect(),
        }
    }

    /// The table for `to`, with what was known about the offers of `from`. Attempts in flight are
    /// carried too: whoever ends one finds its offer with [`MarketSnapshot::index_of`]. Equal books give
    /// an equal table.
    #[must_use]
    pub fn carried(mut self, from: &MarketSnapshot, to: &MarketSnapshot) -> Self {
        let mut next = Self::new(to);
        let mut moved = vec![None; self.vitals.as_slice().len()];
        let mut new = to.offers().iter().zip(0u32..).peekable();
        // Both are sorted by model and seller: one walk over both finds every pair.
        for (was, offer) in from.offers().iter().enumerate().take(moved.len()) {
            let name = (&offer.model, &offer.seller);
            while new.next_if(|(o, _)| (&o.model, &o.seller) < name).is_some() {}
            let Some((_, at)) = new.next_if(|(o, _)| (&o.model, &o.seller) == name) else { continue };
            next.vitals.set(at as usize, self.vitals.as_slice()[was]);
            next.cold[at as usize] = self.cold[was].take();
            moved[was] = Some(at);
        }
        for model in 0..self.models.len() {
            let Some(mut peers) = self.models[model].1.take() else { continue };
            let end = self.models.get(model + 1).map_or(moved.len(), |(first, _)| *first as usize);
            let kept = moved.get(self.models[model].0 as usize..end).and_then(|m| m.iter().flatten().next());
            let Some(model) = kept.and_then(|at| next.model_of(*at)) else { continue };
            peers.active = peers.active.iter().filter_map(|was| *moved.get(*was as usize)?).collect();
            next.models[model].1 = Some(peers);
        }
        next
    }

    /// By position.
    pub fn vitals(&self) -> &[Vital] {
        self.vitals.as_slice()
    }

    /// The vital of one offer; that of an unknown offer beyond the end.
    pub fn vital(&self, index: OfferIndex) -> Vital {
        self.vitals.get(index.0 as usize).unwrap_or(Vital::UNKNOWN)
    }

    /// By position, as [`plan`](crate::plan()) reads it.
    pub(crate) fn columns(&self) -> &Vitals {
        &self.vitals
    }

    /// The same health with unknown offers after its end, `count` in all.
    pub(crate) fn extended(&self, count: usize) -> Self {
        let mut more = self.clone();
        more.vitals.extend(count);
        more
    }

    /// Rolling statistics of an offer; none before its first outcome.
    pub fn statistics(&self, index: OfferIndex) -> Option<&Statistics> {
        self.cold.get(index.0 as usize)?.as_deref().map(|cold| &cold.statistics)
    }

    /// The bars of quality of the offer's model; none before they stand.
    pub fn bars(&self, index: OfferIndex) -> Option<Bars> {
        self.models.get(self.model_of(index.0)?)?.1.as_deref()?.bars
    }

    /// An attempt at the offer starts.
    pub fn on_start(&mut self, index: OfferIndex) {
        let at = index.0 as usize;
        if let Some(vital) = self.vitals.get(at) {
            self.vitals.set(at, Vital { in_flight: vital.in_flight.saturating_add(1), ..vital });
        }
    }

    /// An attempt that was started ends.
    pub fn on_outcome(&mut self, index: OfferIndex, now: UnixMs, outcome: Outcome) {
        let at = index.0 as usize;
        let (Some(mut vital), Some(slot)) = (self.vitals.get(at), self.cold.get_mut(at)) else { return };
        let in_flight = vital.in_flight;
        vital.in_flight = in_flight.saturating_sub(1);
        if outcome == Outcome::Neutral {
            self.vitals.set(at, vital);
            if let Some(cold) = slot {
                cold.cap.on_end();
            }
            return;
        }
        let is_first = slot.is_none();
        let cold = slot.get_or_insert_default();
        if let Outcome::Success(served) = outcome {
            vital.ttft_ms = moved(vital.ttft_ms().unwrap_or_default(), served.ttft.0 as f32);
        }
        cold.learn(now, in_flight, outcome);
        vital.rests_until = cold.fuse.rests_until();
        vital.opened = u8::from(cold.fuse.open_until.is_some());
        vital.in_flight_max = cold.cap.in_flight_max();
        self.vitals.set(at, vital);
        self.judge_with_peers(index.0, is_first, now);
    }

    /// Computes anew what an outcome of offer `at` changes for it, and for a few of its peers in turn.
    fn judge_with_peers(&mut self, at: u32, is_first: bool, now: UnixMs) {
        let Some(model) = self.model_of(at) else { return };
        let mut peers = self.models[model].1.take().unwrap_or_default();
        if is_first {
            peers.active.push(at);
        }
        if peers.is_due(now) {
            self.look_at(&mut peers, now);
        }
        self.judge(at, &peers, now);
        for swept in peers.next_swept().into_iter().flatten() {
            self.judge(swept, &peers, now);
        }
        self.models[model].1 = Some(peers);
    }

    fn look_at(&self, peers: &mut Peers, now: UnixMs) {
        let known = |at: u32| {
            let cold = self.cold.get(at as usize)?.as_deref()?;
            Some((self.vitals.get(at as usize)?, cold))
        };
        let timed = peers.sample().filter_map(known).filter(|(_, cold)| cold.pace.timed > 0);
        peers.reference_ms =
            peers::reference_ms(timed.map(|(vital, cold)| cold.pace.typical_ms(vital.ttft_ms)).collect());
        peers.looked_at = Some(now);
        if peers.bars_are_due(now) {
            let showings = peers.sample().filter_map(known).map(|(_, cold)| cold.showing(now));
            let enough: Vec<Showing> = showings.filter(Showing::is_enough).collect();
            peers.bars = Bars::of(&enough, now).or(peers.bars);
        }
    }

    fn judge(&mut self, at: u32, peers: &Peers, now: UnixMs) {
        let at = at as usize;
        let Some((mut vital, cold)) = self.vitals.get(at).zip(self.cold.get(at)) else { return };
        let Some(cold) = cold.as_deref() else { return };
        let minutes = cold.statistics.counts(UptimeWindow::FiveMinutes, now);
        let half_hour = cold.statistics.counts(UptimeWindow::HalfHour, now);
        let typical_ms = cold.pace.typical_ms(vital.ttft_ms);
        let slowness = burden::slowness(typical_ms, cold.pace.timed, peers.reference_ms);
        vital.burden = burden::burden(&minutes, &half_hour, slowness);
        vital.standing = burden::standing(&minutes, &half_hour);
        let cache = cold.statistics.cache_counts(now);
        vital.cached_share = burden::cached_share(cache.continued, cache.cached);
        vital.quality = quality::tier(&cold.showing(now), peers.bars.as_ref());
        self.vitals.set(at, vital);
    }

    /// Which entry of `models` the offer at a position belongs to.
    fn model_of(&self, at: u32) -> Option<usize> {
        self.models.partition_point(|(first, _)| *first <= at).checked_sub(1)
    }
}

impl Cold {
    fn learn(&mut self, now: UnixMs, in_flight: u32, outcome: Outcome) {
        match outcome {
            Outcome::Success(served) => {
                self.statistics.on_served(now, &served);
                self.pace.learn(&served);
                self.cap.on_success(in_flight, served.whole.max(served.ttft));
                self.fuse.on_success(now);
            }
            Outcome::Failure => {
                self.statistics.count(now, |counts| counts.failed = counts.failed.saturating_add(1));
                self.cap.on_end();
                self.fuse.on_failure(now);
            }
            Outcome::Broken => {
                self.statistics.count(now, |counts| counts.broken = counts.broken.saturating_add(1));
                self.cap.on_end();
                self.fuse.on_failure(now);
            }
            Outcome::RateLimited { retry_after } => {
                self.statistics.count(now, |counts| counts.limited = counts.limited.saturating_add(1));
                self.cap.on_limited(in_flight);
                // Where others are in flight, the cap spares the seller without silencing it.
                if retry_after.is_some() || self.cap.load <= 1.0 {
                    self.fuse.on_rate_limited(now, retry_after);
                }
            }
            Outcome::Forbidden => {
                self.statistics.count(now, |counts| counts.forbidden = counts.forbidden.saturating_add(1));
                self.cap.on_end();
            }
            Outcome::Neutral => {}
        }
        self.fuse.pause(now, self.cap.rest());
    }

    fn showing(&self, now: UnixMs) -> Showing {
        let tools = self.statistics.tool_counts(now);
        Showing {
            requests: self.statistics.counts(UptimeWindow::HalfHour, now).counted(),
            tool_requests: tools.requests,
            tool_success: tools.success().unwrap_or_default(),
            throughput: self.pace.tokens_per_s,
        }
    }
}

impl Pace {
    fn learn(&mut self, served: &Served) {
        self.timed = (self.timed + 1).min(TIMED_MAX);
        if served.completion_tokens > 0 && served.whole.0 > 0 {
            let sample = served.completion_tokens as f32 * 1_000.0 / served.whole.0 as f32;
            self.tokens_per_s = moved(self.tokens_per_s, sample);
        }
        if let Some(gap_us) = served.inter_token_us() {
            self.inter_token_ms = moved(self.inter_token_ms, gap_us as f32 / 1_000.0);
        }
    }
}

/// The moving mean after a sample; a mean of 0 is none yet.
fn moved(mean: f32, sample: f32) -> f32 {
    if mean > 0.0 { mean + SAMPLE_WEIGHT * (sample - mean) } else { sample }
}

#[cfg(test)]
mod feedback_tests;
#[cfg(test)]
mod tests;

//! What the offers of one model show together: the reference for speed, and the bars for quality.
//!
//! Only offers with outcomes are looked at, at most [`PEERS_LOOKED_AT`] of them at even distances, and
//! at most once in [`REFERENCE_MS`]. With every outcome of one offer, [`SWEPT_PER_OUTCOME`] others of its
//! model are judged anew in turn, so that what was bad and is not asked any more is forgotten without a
//! timer.

use super::burden::TYPICAL_TOKENS;
use super::quality::Bars;
use bourse_types::UnixMs;

/// Most offers that a reference or a bar is computed from.
pub(super) const PEERS_LOOKED_AT: usize = 256;
/// Timed offers below which there is no reference.
pub(super) const TIMED_PEERS_MIN: usize = 2;
/// How long a reference stands, in milliseconds.
pub(super) const REFERENCE_MS: u64 = 5_000;
/// Other offers that are judged anew with every outcome.
pub(super) const SWEPT_PER_OUTCOME: usize = 2;

/// The offers of one model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Peers {
    /// Positions of the offers that have had outcomes, in the order of their first.
    pub(super) active: Vec<u32>,
    /// Lower quartile of typical times, in milliseconds.
    pub(super) reference_ms: Option<f32>,
    /// When the reference was computed; none before the first.
    pub(super) looked_at: Option<UnixMs>,
    /// Next of `active` to be judged anew.
    pub(super) cursor: u32,
    pub(super) bars: Option<Bars>,
}

impl Peers {
    pub(super) fn is_due(&self, now: UnixMs) -> bool {
        self.looked_at.is_none_or(|at| now.since(at).0 >= REFERENCE_MS)
    }

    pub(super) fn bars_are_due(&self, now: UnixMs) -> bool {
        self.bars.is_none_or(|bars| now >= bars.until)
    }

    /// Positions to look at.
    pub(super) fn sample(&self) -> impl Iterator<Item = u32> {
        let step = self.active.len().div_ceil(PEERS_LOOKED_AT).max(1);
        self.active.iter().copied().step_by(step)
    }

    /// The next positions to judge anew.
    pub(super) fn next_swept(&mut self) -> [Option<u32>; SWEPT_PER_OUTCOME] {
        let len = self.active.len() as u32;
        std::array::from_fn(|_| {
            self.cursor = self.cursor.wrapping_add(1).checked_rem(len)?;
            self.active.get(self.cursor as usize).copied()
        })
    }
}

/// How fast an offer is, as moving means.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Pace {
    /// Time between tokens after the first, in milliseconds; 0 where it was not measured.
    pub(super) inter_token_ms: f32,
    /// Output tokens per second of the whole time; 0 where it was not measured.
    pub(super) tokens_per_s: f32,
    /// Good answers, as far as it matters for priors.
    pub(super) timed: u32,
}

impl Pace {
    /// Time that a typical answer takes, in milliseconds.
    pub(super) fn typical_ms(&self, ttft_ms: f32) -> f32 {
        if self.inter_token_ms > 0.0 {
            ttft_ms + TYPICAL_TOKENS * self.inter_token_ms
        } else if self.tokens_per_s > 0.0 {
            TYPICAL_TOKENS * 1_000.0 / self.tokens_per_s
        } else {
            ttft_ms
        }
    }
}

/// The reference of these typical times; none of fewer than [`TIMED_PEERS_MIN`].
pub(super) fn reference_ms(mut typical_ms: Vec<f32>) -> Option<f32> {
    if typical_ms.len() < TIMED_PEERS_MIN {
        return None;
    }
    typical_ms.sort_unstable_by(f32::total_cmp);
    typical_ms.get((typical_ms.len() - 1) / 4).copied()
}

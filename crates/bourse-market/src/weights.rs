//! Which weights a session was answered by, so that it goes on with the same.
//!
//! Two sellers of one model may store its weights in different ways, and then they are different goods under one name. A
//! session that its buyer named is held to the kind that answered it: who goes on with another is asked for consent
//! first, by naming kinds in `quantizations`. A seller that does not say how its weights are stored holds a session to
//! nothing, because nobody could tell whether another's are the same.
//!
//! A guess at a session, from a derived key, commands nothing: see [`sticky`](crate::StickyTable) for what it may do.

use crate::lru::Lru;
use crate::offer::{Offer, Quantization};
use crate::sticky::StickyKey;
use bourse_types::UnixMs;

/// Idle time after which a session's weights are forgotten, in milliseconds: a day.
pub const WEIGHTS_IDLE_MS: u64 = 86_400_000;
/// Most sessions whose weights are remembered: about 20 MB.
pub const WEIGHTS_SESSIONS_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Kept {
    weights: Quantization,
    used: UnixMs,
}

/// Sessions and the weights that answered them last. The least recently used goes when it is full.
#[derive(Debug, Clone)]
pub struct WeightsTable {
    kept: Lru<StickyKey, Kept>,
}

impl Default for WeightsTable {
    fn default() -> Self {
        Self::new(WEIGHTS_SESSIONS_MAX)
    }
}

impl WeightsTable {
    /// Room for `capacity` sessions, at least 1 and at most [`WEIGHTS_SESSIONS_MAX`].
    pub fn new(capacity: usize) -> Self {
        Self { kept: Lru::new(capacity.min(WEIGHTS_SESSIONS_MAX)) }
    }

    /// Sessions remembered, those included that have expired and were not asked for since.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weights that a session is held to.
    pub fn of(&self, session: &StickyKey, now: UnixMs) -> Option<Quantization> {
        let kept = self.kept.peek(session).filter(|kept| now.since(kept.used).0 < WEIGHTS_IDLE_MS)?;
        Some(kept.weights)
    }

    /// A good answer ended at `offer`. One of a fallback model says nothing about the session's own.
    pub fn on_success(&mut self, session: &StickyKey, offer: &Offer, now: UnixMs) {
        if offer.model == session.model && offer.quantization != Quantization::Unknown {
            self.kept.insert(session.clone(), Kept { weights: offer.quantization, used: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::offer;
    use bourse_types::{Digest32, ModelSlug};

    fn key(conversation: u128) -> StickyKey {
        let model = ModelSlug::parse("m").unwrap();
        StickyKey { account: Digest32::default(), model, conversation }
    }

    fn stored(model: &str, weights: Quantization) -> Offer {
        Offer { quantization: weights, ..offer(model, "a") }
    }

    #[test]
    fn the_last_weights_that_are_known_count() {
        let mut table = WeightsTable::default();
        let mut answered = |model: &str, weights, want| {
            table.on_success(&key(1), &stored(model, weights), UnixMs(0));
            assert_eq!(table.of(&key(1), UnixMs(0)), want, "{model} {weights:?}");
        };
        answered("m", Quantization::Unknown, None);
        answered("m", Quantization::Fp8, Some(Quantization::Fp8));
        answered("m", Quantization::Unknown, Some(Quantization::Fp8));
        answered("n", Quantization::Int4, Some(Quantization::Fp8));
        answered("m", Quantization::Bf16, Some(Quantization::Bf16));
        assert_eq!(table.of(&key(2), UnixMs(0)), None);
    }

    #[test]
    fn a_day_idle_ends_it_and_an_answer_renews() {
        let mut table = WeightsTable::default();
        let mut at = |answered: u64, asked: u64, want| {
            table.on_success(&key(1), &stored("m", Quantization::Fp8), UnixMs(answered));
            assert_eq!(table.of(&key(1), UnixMs(asked)).is_some(), want, "{asked}");
        };
        at(0, WEIGHTS_IDLE_MS - 1, true);
        at(0, WEIGHTS_IDLE_MS, false);
        at(5, WEIGHTS_IDLE_MS, true);
    }

    #[test]
    fn it_is_bounded_and_the_least_recently_used_goes() {
        let mut table = WeightsTable::new(2);
        for conversation in [1, 2, 1, 3] {
            table.on_success(&key(conversation), &stored("m", Quantization::Fp8), UnixMs(0));
        }
        let kept = [1, 2, 3].map(|conversation| table.of(&key(conversation), UnixMs(0)).is_some());
        assert_eq!((table.len(), kept), (2, [true, false, true]));
        assert_eq!(WeightsTable::new(WEIGHTS_SESSIONS_MAX + 1).kept.capacity(), WEIGHTS_SESSIONS_MAX);
    }
}

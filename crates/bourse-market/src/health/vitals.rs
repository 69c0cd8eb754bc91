//! The vitals of all offers, and what a plan reads of them: two columns that are kept beside them.
//!
//! Of most offers a plan needs the burden alone. Whether it needs more is one bit: an offer is *notable* when
//! it rests or may rest, is full, unreliable or of poor quality. The bit does not depend on the time, so that
//! it changes with outcomes alone; who is notable is looked at in full.

use super::vital::{Quality, Standing, Vital};
use bourse_types::UnixMs;

/// Offers whose bits are in one word.
const WORD: usize = 64;

/// By position.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Vitals {
    all: Vec<Vital>,
    /// Each [`Vital::burden`].
    burdens: Vec<f32>,
    notable: Vec<u64>,
}

impl Vitals {
    /// So many offers of which nothing is known.
    pub(super) fn unknown(count: usize) -> Self {
        let mut vitals = Self::default();
        vitals.extend(count);
        vitals
    }

    /// Adds offers of which nothing is known, up to `count`.
    pub(super) fn extend(&mut self, count: usize) {
        self.all.resize(count, Vital::UNKNOWN);
        self.burdens.resize(count, Vital::UNKNOWN.burden);
        self.notable.resize(count.div_ceil(WORD), 0);
    }

    pub(crate) fn as_slice(&self) -> &[Vital] {
        &self.all
    }

    pub(super) fn get(&self, at: usize) -> Option<Vital> {
        self.all.get(at).copied()
    }

    pub(super) fn set(&mut self, at: usize, vital: Vital) {
        self.all[at] = vital;
        self.burdens[at] = vital.burden;
        let bit = 1 << (at % WORD);
        let word = &mut self.notable[at / WORD];
        *word = if is_notable(&vital) { *word | bit } else { *word & !bit };
    }

    /// Each offer's burden.
    pub(crate) fn burdens(&self) -> &[f32] {
        &self.burdens
    }

    /// Who is notable of up to 64 neighbours: bit 0 for the offer at `start`. The others admit requests at any
    /// time, are reliable and not deprioritised.
    #[inline]
    pub(crate) fn notable(&self, start: usize, count: usize) -> u64 {
        let (word, shift) = (start / WORD, start % WORD);
        let word_at = |at: usize| self.notable.get(at).copied().unwrap_or(0);
        let bits = word_at(word) >> shift;
        let bits = if shift == 0 { bits } else { bits | word_at(word + 1) << (WORD - shift) };
        if count < WORD { bits & ((1 << count) - 1) } else { bits }
    }
}

fn is_notable(vital: &Vital) -> bool {
    vital.rests_until != UnixMs(0)
        || vital.opened != 0
        || vital.in_flight >= vital.in_flight_max
        || vital.standing != Standing::Normal
        || vital.quality == Quality::Deprioritised
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RESTING: Vital = Vital { rests_until: UnixMs(9), ..Vital::UNKNOWN };

    proptest! {
        #[test]
        fn bits_are_found_wherever_a_block_starts(
            marks in proptest::collection::vec((0usize..200, any::<bool>()), 0..60), start in 0usize..200,
        ) {
            let mut vitals = Vitals::unknown(200);
            let mut want = [false; 200];
            for (at, rests) in marks {
                vitals.set(at, if rests { RESTING } else { Vital::UNKNOWN });
                want[at] = rests;
            }
            for count in [1, 63, 64] {
                let bits = vitals.notable(start, count);
                for lane in 0..64 {
                    let is = lane < count && want.get(start + lane).copied().unwrap_or(false);
                    prop_assert_eq!(bits >> lane & 1 == 1, is, "{} of {}", lane, count);
                }
            }
        }
    }

    #[test]
    fn whoever_is_not_notable_admits_at_any_time() {
        let ordinary = Vital { in_flight: 3, in_flight_max: 4, ..Vital::UNKNOWN };
        assert!(!is_notable(&ordinary) && ordinary.admits(UnixMs(0)));
        for notable in [
            RESTING,
            Vital { opened: 1, ..ordinary },
            Vital { in_flight: 4, ..ordinary },
            Vital { standing: Standing::Degraded, ..ordinary },
            Vital { standing: Standing::LastResort, ..ordinary },
            Vital { quality: Quality::Deprioritised, ..ordinary },
        ] {
            assert!(is_notable(&notable), "{notable:?}");
        }
        let mut vitals = Vitals::unknown(1);
        vitals.set(0, Vital { burden: 3.0, ..ordinary });
        assert_eq!((vitals.burdens(), vitals.notable(0, 1)), (&[3.0][..], 0));
    }
}

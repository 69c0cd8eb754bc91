//! A row of the last buckets of time, the newest of which is being filled.
//!
//! A ring of `N` buckets of `LEN_MS` looks back between `(N - 1) × LEN_MS` and `N × LEN_MS`. A time
//! before the newest bucket is counted in the newest one, so that a clock that steps back loses nothing.

use bourse_types::UnixMs;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ring<T, const N: usize, const LEN_MS: u64> {
    buckets: [T; N],
    /// Number of the newest bucket: its start divided by `LEN_MS`.
    newest: u64,
}

impl<T: Default + Copy, const N: usize, const LEN_MS: u64> Default for Ring<T, N, LEN_MS> {
    fn default() -> Self {
        Self { buckets: [T::default(); N], newest: 0 }
    }
}

impl<T: Default + Copy, const N: usize, const LEN_MS: u64> Ring<T, N, LEN_MS> {
    /// The bucket of `now`; what has left the window is forgotten.
    pub(super) fn at(&mut self, now: UnixMs) -> &mut T {
        let number = (now.0 / LEN_MS).max(self.newest);
        for passed in 1..=(number - self.newest).min(N as u64) {
            self.buckets[slot::<N>(self.newest.wrapping_add(passed))] = T::default();
        }
        if number - self.newest >= N as u64 {
            self.buckets = [T::default(); N];
        }
        self.newest = number;
        &mut self.buckets[slot::<N>(number)]
    }

    /// The buckets that are still in the window at `now`, newest first.
    pub(super) fn live(&self, now: UnixMs) -> impl Iterator<Item = &T> {
        let empty_since = (now.0 / LEN_MS).saturating_sub(self.newest);
        let count = (N as u64).saturating_sub(empty_since).min(self.newest.saturating_add(1));
        (0..count).map(|age| &self.buckets[slot::<N>(self.newest - age)])
    }

    /// Number of the newest bucket and all buckets by slot, for checkpoints.
    pub(super) fn parts(&self) -> (u64, &[T; N]) {
        (self.newest, &self.buckets)
    }

    /// The reverse of [`Ring::parts`].
    pub(super) fn from_parts(newest: u64, buckets: [T; N]) -> Self {
        Self { buckets, newest }
    }
}

fn slot<const N: usize>(number: u64) -> usize {
    (number % N as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list of events.
        #[test]
        fn a_ring_counts_what_is_in_its_window(
            gaps in proptest::collection::vec(0u64..40, 1..200), quiet in 0u64..100,
        ) {
            let mut ring = Ring::<u32, 4, 10>::default();
            let mut now = 5_000;
            let mut times = Vec::new();
            for gap in gaps {
                now += gap;
                *ring.at(UnixMs(now)) += 1;
                times.push(now);
            }
            now += quiet;
            let first = (now / 10).saturating_sub(3) * 10;
            let want = times.iter().filter(|time| **time >= first).count() as u32;
            prop_assert_eq!(ring.live(UnixMs(now)).sum::<u32>(), want);
        }
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let mut ring = Ring::<u32, 3, 10>::default();
        *ring.at(UnixMs(100)) += 1;
        *ring.at(UnixMs(0)) += 1;
        assert_eq!(ring.live(UnixMs(100)).sum::<u32>(), 2);
        *ring.at(UnixMs(u64::MAX)) += 1;
        assert_eq!(ring.live(UnixMs(u64::MAX)).sum::<u32>(), 1);
        assert_eq!(Ring::<u32, 3, 10>::default().live(UnixMs(7)).sum::<u32>(), 0);
    }
}

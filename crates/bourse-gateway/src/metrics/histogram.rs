//! Counts by size, between fixed bounds.
//!
//! One measurement is a look through at most a dozen bounds and two atomic additions. The count of all is the sum of
//! the buckets, so a text that is written while others measure is still consistent in itself.

use super::Counter;
use std::time::Duration;

/// Bounds of whole requests: a quick refusal to the longest answer.
pub(super) const DURATIONS_US: [u64; 12] = [
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    120_000_000,
    600_000_000,
];
/// Bounds of the time to the first content.
pub(super) const FIRST_CONTENT_US: [u64; 12] = [
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 15_000_000,
    60_000_000,
];
/// Bounds of the time per token: 2,000 tokens a second to one.
pub(super) const OUTPUT_TOKEN_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 15_000, 25_000, 50_000, 75_000, 100_000, 250_000, 1_000_000];
/// Bounds of the gateway's own time.
pub(super) const OVERHEAD_US: [u64; 12] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];

/// Measurements between bounds in microseconds.
pub(crate) struct Histogram {
    bounds_us: &'static [u64; 12],
    /// The last one counts what is above all bounds.
    buckets: [Counter; 13],
    sum_us: Counter,
}

impl Histogram {
    pub(super) fn new(bounds_us: &'static [u64; 12]) -> Self {
        Self { bounds_us, buckets: Default::default(), sum_us: Counter::default() }
    }

    pub(crate) fn observe(&self, measured: Duration) {
        let us = u64::try_from(measured.as_micros()).unwrap_or(u64::MAX);
        let at = self.bounds_us.iter().position(|bound| us <= *bound);
        self.buckets[at.unwrap_or(self.bounds_us.len())].add(1);
        self.sum_us.add(us);
    }

    /// The bounds with how many were at most that large, the count of all, and their sum in microseconds.
    pub(super) fn read(&self) -> (Vec<(u64, u64)>, u64, u64) {
        let mut total = 0;
        let mut below = Vec::with_capacity(self.bounds_us.len());
        for (n, bucket) in self.buckets.iter().enumerate() {
            total += bucket.get();
            if let Some(bound) = self.bounds_us.get(n) {
                below.push((*bound, total));
            }
        }
        (below, total, self.sum_us.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_one_past_it_does_not() {
        let histogram = Histogram::new(&OVERHEAD_US);
        for us in [10, 11, 250_000, 250_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let (below, count, sum_us) = histogram.read();
        assert_eq!((below[0], below[1], below[11]), ((10, 1), (25, 2), (250_000, 3)));
        assert_eq!((count, sum_us), (4, 500_022));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [DURATIONS_US, FIRST_CONTENT_US, OUTPUT_TOKEN_US, OVERHEAD_US] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}

//! Log-spaced histograms: percentiles of a measure in 272 bytes per bucket of time.
//!
//! Eight bins per doubling, so that a percentile is off by at most an eighth of its value, and exact
//! to one unit below 16. Bins are found by shifts and masks, never by a logarithm, and percentiles are
//! interpolated by +, −, ×, ÷ alone: the same samples give the same bits on every machine.

/// Bins of a histogram: values below 2¹⁹ units; what lies above counts in the last bin.
pub(super) const BINS: usize = 136;
const SUB_BITS: u32 = 3;

/// Shares of requests at certain values of a measure.
///
/// `p90` is the value that 90 % of the answers do at least as well as: for a time, nine of ten took at
/// most that long; for a throughput, nine of ten were at least that fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// The median.
    pub p50: f32,
    /// Three of four do at least as well.
    pub p75: f32,
    /// Nine of ten do at least as well.
    pub p90: f32,
    /// All but one in a hundred do at least as well.
    pub p99: f32,
}

/// What doing well means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    /// For times.
    Lower,
    /// For speeds.
    Higher,
}

/// Counts by bin. A count that would overflow halves them all: the shape stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Histogram(pub(super) [u16; BINS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BINS])
    }
}

impl Histogram {
    pub(super) fn record(&mut self, value: u32) {
        let bin = bin_of(value);
        if self.0[bin] == u16::MAX {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
        self.0[bin] += 1;
    }
}

/// Percentiles over several histograms, in units times `scale`; none without samples.
pub(super) fn percentiles<'a>(
    histograms: impl Iterator<Item = &'a Histogram>,
    better: Better,
    scale: f32,
) -> Option<Percentiles> {
    let mut sum = [0u32; BINS];
    for histogram in histograms {
        for (total, count) in sum.iter_mut().zip(histogram.0) {
            *total += u32::from(count);
        }
    }
    let total: u32 = sum.iter().sum();
    if total == 0 {
        return None;
    }
    let at = |percent: u32| {
        let percent = if better == Better::Lower { percent } else { 100 - percent };
        // Exact where the rank is a whole number: a rank a hair above it would be the next sample's.
        quantile(&sum, f64::from(total) * f64::from(percent) / 100.0) * scale
    };
    Some(Percentiles { p50: at(50), p75: at(75), p90: at(90), p99: at(99) })
}

/// The value below which `rank` of the samples lie.
fn quantile(counts: &[u32; BINS], rank: f64) -> f32 {
    let mut below = 0.0;
    let mut last = 0.0;
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let count = f64::from(*count);
        let (start, width) = bounds(bin);
        if below + count >= rank {
            return start + width * ((rank - below) / count).max(0.0) as f32;
        }
        below += count;
        last = start + width;
    }
    last
}

fn bin_of(value: u32) -> usize {
    if value < 1 << SUB_BITS {
        return value as usize;
    }
    let exponent = value.ilog2();
    let sub = (value >> (exponent - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    ((((exponent - SUB_BITS + 1) << SUB_BITS) + sub) as usize).min(BINS - 1)
}

/// Start and width of a bin.
fn bounds(bin: usize) -> (f32, f32) {
    let (octave, sub) = (bin as u32 >> SUB_BITS, bin as u32 & ((1 << SUB_BITS) - 1));
    if octave == 0 {
        return (sub as f32, 1.0);
    }
    let width = 1u32 << (octave - 1);
    ((((1 << SUB_BITS) + sub) * width) as f32, width as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bins_follow_each_other_without_gap() {
        let mut end = 0.0;
        for bin in 0..BINS {
            let (start, width) = bounds(bin);
            assert_eq!((start, bin_of(start as u32)), (end, bin));
            end = start + width;
        }
        assert_eq!((end, bin_of(end as u32 - 1), bin_of(u32::MAX)), ((1 << 19) as f32, BINS - 1, BINS - 1));
    }

    #[test]
    fn a_full_count_halves_all() {
        let mut histogram = Histogram::default();
        for n in 0..131_072 {
            histogram.record(n % 2);
        }
        assert!(histogram.0[0] < u16::MAX && histogram.0[0].abs_diff(histogram.0[1]) <= 1);
    }

    proptest! {
        #[test]
        fn percentiles_are_within_an_eighth(samples in proptest::collection::vec(0u32..500_000, 1..300)) {
            let mut histogram = Histogram::default();
            for sample in &samples {
                histogram.record(*sample);
            }
            let mut sorted = samples;
            sorted.sort_unstable();
            let exact = |percent: usize| {
                let rank = (sorted.len() * percent).div_ceil(100);
                sorted[rank.clamp(1, sorted.len()) - 1] as f32
            };
            let close = |got: f32, want: f32| (got - want).abs() <= want / 8.0 + 1.0;
            let lower = percentiles([&histogram].into_iter(), Better::Lower, 1.0).unwrap();
            for (got, share) in [(lower.p50, 50), (lower.p75, 75), (lower.p90, 90), (lower.p99, 99)] {
                prop_assert!(close(got, exact(share)), "{got} for {share}, exact {}", exact(share));
            }
            prop_assert!(lower.p50 <= lower.p75 && lower.p75 <= lower.p90 && lower.p90 <= lower.p99);
            let higher = percentiles([&histogram].into_iter(), Better::Higher, 1.0).unwrap();
            prop_assert!(higher.p50 >= higher.p75 && higher.p75 >= higher.p90 && higher.p90 >= higher.p99);
            prop_assert!(close(higher.p90, exact(10)), "{} {}", higher.p90, exact(10));
        }
    }
}

//! The weighted draw without replacement.

use super::{COST_PICO_MIN, Candidate, EXPLORATION_SHARE};

/// SplitMix64: a counter through a mixing function. Small, fast, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// Shares of the first draw: 1/cost² mixed with an even share. Sum is 1 but for float error.
pub(super) fn shares(candidates: &[Candidate]) -> Vec<f64> {
    let inverse = |c: &Candidate| {
        let cost = c.cost_pico.max(COST_PICO_MIN);
        1.0 / (cost * cost)
    };
    let sum: f64 = candidates.iter().map(inverse).sum();
    let even = EXPLORATION_SHARE / candidates.len() as f64;
    candidates.iter().map(|c| (1.0 - EXPLORATION_SHARE) * inverse(c) / sum + even).collect()
}

/// Draws `count` of the candidates to the front, each with its share of what is left.
pub(super) fn weighted(candidates: &mut [Candidate], count: usize, random: &mut Random) {
    if candidates.len() < 2 {
        return;
    }
    let mut weights = shares(candidates);
    let mut left: f64 = weights.iter().sum();
    for place in 0..count.min(candidates.len() - 1) {
        let mut target = random.unit() * left;
        // Float error may leave a rest beyond the last weight: then the last one is chosen.
        let mut chosen = candidates.len() - 1;
        for (n, weight) in weights.iter().enumerate().skip(place) {
            target -= weight;
            if target < 0.0 {
                chosen = n;
                break;
            }
        }
        candidates.swap(place, chosen);
        weights.swap(place, chosen);
        left = (left - weights[place]).max(0.0);
    }
}

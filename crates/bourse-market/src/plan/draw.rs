//! The weighted draw without replacement.

use super::{COST_PICO_MIN, Candidate, EXPLORATION_SHARE};
use crate::offer::OfferIndex;

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

/// Weights are summed in blocks of this many, so that a draw looks at two short rows instead of one
/// long one.
const BLOCK: usize = 32;

/// Shares of the first draw: 1/cost² mixed with an even share. Their sum is 1 but for float error, and
/// every one is above zero.
fn shares(candidates: &[Candidate]) -> Vec<f64> {
    let inverse = |c: &Candidate| {
        let cost = c.cost_pico.max(COST_PICO_MIN);
        1.0 / (cost * cost)
    };
    let mut weights: Vec<f64> = candidates.iter().map(inverse).collect();
    let scale = (1.0 - EXPLORATION_SHARE) / weights.iter().sum::<f64>();
    let even = EXPLORATION_SHARE / candidates.len() as f64;
    for weight in &mut weights {
        *weight = *weight * scale + even;
    }
    weights
}

/// Draws up to `count` of the candidates, each with its share of what is left, and marks them as chosen.
pub(super) fn weighted(
    candidates: &mut [Candidate],
    count: usize,
    random: &mut Random,
    attempts: &mut Vec<OfferIndex>,
) {
    let mut weights = shares(candidates);
    let mut blocks: Vec<f64> = weights.chunks(BLOCK).map(|block| block.iter().sum()).collect();
    for _ in 0..count.min(candidates.len()) {
        let target = random.unit() * blocks.iter().sum::<f64>();
        let (block, target) = find(&blocks, target);
        let row = block * BLOCK..weights.len().min((block + 1) * BLOCK);
        let (at, _) = find(&weights[row.clone()], target);
        let chosen = row.start + at;
        candidates[chosen].is_chosen = true;
        attempts.push(candidates[chosen].index);
        weights[chosen] = 0.0;
        // Summed again rather than subtracted: an empty block must weigh exactly nothing.
        blocks[block] = weights[row].iter().sum();
    }
}

/// The entry in which `target` falls when the weights are laid end to end, and how far into it. Float
/// error may leave a rest beyond the last entry: then it is the last one that weighs anything.
fn find(weights: &[f64], mut target: f64) -> (usize, f64) {
    let mut last = 0;
    for (n, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            last = n;
            if target < *weight {
                break;
            }
        }
        target -= weight;
    }
    (last, target)
}

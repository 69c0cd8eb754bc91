//! The weighted draw without replacement.
//!
//! Shares are those of the first draw, 1/cost² mixed with an even part, and each further draw divides what
//! is left of them. Weights are summed in blocks of [`BLOCK`] and in rows of blocks, so that a draw looks at
//! three short rows instead of one long one; the weights themselves are not kept, but for those of one block,
//! and are computed again where a draw falls into another. Every sum adds in one fixed order, in [`LANES`] lanes, so that it can
//! use a processor's vectors and still comes out the same on every machine.

use super::EXPLORATION_SHARE;

/// Weights in a block, and blocks in a row.
pub(super) const BLOCK: usize = 64;
/// Sums that run side by side.
const LANES: usize = 8;

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

/// The weights of one block; zero where nobody takes part.
pub(super) type Weights = [f64; BLOCK];

/// The weight of a cost: 1/cost².
#[inline]
pub(super) fn weight(cost: f64) -> f64 {
    1.0 / (cost * cost)
}

/// Who takes part in a draw, as sums of weights.
#[derive(Debug)]
pub(super) struct Lottery {
    blocks: Vec<f64>,
    rows: Vec<f64>,
    /// Members of each block that are left.
    counts: Vec<u32>,
    taken: Vec<u32>,
    members: u32,
    members_left: u32,
    total: f64,
    /// The block whose weights are at hand, and what is left of them.
    open: (usize, Weights),
}

impl Lottery {
    pub(super) fn with_capacity(members: usize) -> Self {
        let blocks = members.div_ceil(BLOCK) + 1;
        Self {
            blocks: Vec::with_capacity(blocks),
            rows: Vec::new(),
            counts: Vec::with_capacity(blocks),
            taken: Vec::new(),
            members: 0,
            members_left: 0,
            total: 0.0,
            open: (0, [0.0; BLOCK]),
        }
    }

    /// Adds a block of which `count` weights are above zero.
    pub(super) fn push(&mut self, weights: &Weights, count: u32) {
        if self.blocks.is_empty() {
            self.open = (0, *weights);
        }
        self.blocks.push(sum(weights));
        self.counts.push(count);
        self.members += count;
    }

    /// Blocks so far: the first slot of the next one is this times [`BLOCK`].
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// After the last block.
    pub(super) fn close(&mut self) {
        self.rows = self.blocks.chunks(BLOCK).map(sum).collect();
        self.total = sum(&self.rows);
        self.members_left = self.members;
    }

    /// Draws one slot of what is left; none when nothing is. `weights` gives a block's weights as they
    /// were pushed.
    pub(super) fn draw(&mut self, random: &mut Random, weights: impl Fn(usize) -> Weights) -> Option<u32> {
        if self.members_left == 0 {
            return None;
        }
        let left = sum(&self.rows);
        let by_weight = (1.0 - EXPLORATION_SHARE) * left / self.total;
        let evenly = EXPLORATION_SHARE * f64::from(self.members_left) / f64::from(self.members);
        let point = random.unit() * (by_weight + evenly);
        let slot = if point < by_weight {
            self.at_weight(point / by_weight * left, &weights)
        } else {
            let nth = (point - by_weight) / evenly * f64::from(self.members_left);
            self.nth((nth as u32).min(self.members_left - 1), &weights)
        };
        self.take(slot, &weights);
        Some(slot)
    }

    /// The slot in which `target` falls when the weights are laid end to end.
    fn at_weight(&mut self, target: f64, weights: &impl Fn(usize) -> Weights) -> u32 {
        let (row, target) = find(&self.rows, target);
        let blocks = &self.blocks[row * BLOCK..self.blocks.len().min((row + 1) * BLOCK)];
        let (block, target) = find(blocks, target);
        let block = row * BLOCK + block;
        let (lane, _) = find(self.left_of(block, weights), target);
        (block * BLOCK + lane) as u32
    }

    /// The slot of the member that `n` others that are left stand before.
    fn nth(&mut self, mut n: u32, weights: &impl Fn(usize) -> Weights) -> u32 {
        let mut block = 0;
        while n >= self.counts[block] {
            n -= self.counts[block];
            block += 1;
        }
        let row = self.left_of(block, weights);
        let mut members = (0..BLOCK).filter(|lane| row[*lane] > 0.0);
        (block * BLOCK + members.nth(n as usize).unwrap_or(0)) as u32
    }

    /// Opens a block: its weights, without those of who was taken.
    fn left_of(&mut self, block: usize, weights: &impl Fn(usize) -> Weights) -> &mut Weights {
        if self.open.0 != block {
            let mut row = weights(block);
            for slot in self.taken.iter().map(|slot| *slot as usize).filter(|slot| slot / BLOCK == block) {
                row[slot % BLOCK] = 0.0;
            }
            self.open = (block, row);
        }
        &mut self.open.1
    }

    pub(super) fn take(&mut self, slot: u32, weights: &impl Fn(usize) -> Weights) {
        let block = slot as usize / BLOCK;
        self.taken.push(slot);
        self.counts[block] -= 1;
        self.members_left -= 1;
        let left = self.left_of(block, weights);
        left[slot as usize % BLOCK] = 0.0;
        // Summed again rather than subtracted: an empty block must weigh exactly nothing.
        self.blocks[block] = sum(left);
        let row = block / BLOCK;
        self.rows[row] = sum(&self.blocks[row * BLOCK..self.blocks.len().min((row + 1) * BLOCK)]);
    }
}

/// The sum in a fixed order: in [`LANES`] lanes, then these one after the other, then the rest.
fn sum(weights: &[f64]) -> f64 {
    let (rows, rest) = weights.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for row in rows {
        for (lane, weight) in lanes.iter_mut().zip(row) {
            *lane += weight;
        }
    }
    rest.iter().fold(lanes.iter().sum(), |sum, weight| sum + weight)
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

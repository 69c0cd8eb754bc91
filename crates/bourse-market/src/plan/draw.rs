//! The weighted draw without replacement.
//!
//! Shares are those of the first draw, 1/cost² mixed with an even part, and each further draw divides what
//! is left of them. [`defined`] says what a draw is: sums of blocks of [`BLOCK`] weights and of rows of blocks, each
//! in one fixed order, so that it comes out the same on every machine.
//!
//! A plan draws from a [`Lottery`], in numbers that are nearly right: without a division, without summing again
//! what is left, in blocks of its own. Its numbers differ from the exact ones by less than [`NEAR`] of what is
//! left, so that a draw that falls that far within an offer's share falls on the same offer by the definition.
//! For any other, one in a million, the definition is asked.

use super::{ATTEMPTS_MAX, EXPLORATION_SHARE};
use many::Many;
use one::One;

mod many;
mod one;

/// Weights in a block, and blocks in a row.
pub(super) const BLOCK: usize = 64;
/// Sums that run side by side.
const LANES: usize = 8;
/// What float error stays below in a lottery, as a share of what is left: sums, at most two hundred differences
/// and as many in the definition, each right to 2⁻⁵³ of at most twice what is left, make 10⁻¹³.
const NEAR: f64 = 1e-12;
/// The same in the even part, in members: it divides by a fiftieth of the total over 100,000 members.
const NEAR_MEMBER: f64 = 1e-6;

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
    pub(super) fn unit(&mut self) -> f64 {
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

/// Who takes part in draws. A slot is a block and a lane in it.
#[derive(Debug)]
pub(super) enum Lottery {
    One(One),
    Many(Many),
}

impl Lottery {
    /// For so many blocks, of which the first has so many slots.
    pub(super) fn new(blocks: usize, slots: usize) -> Self {
        if blocks <= 1 { Self::One(One::new(slots)) } else { Self::Many(Many::new(blocks)) }
    }

    /// Adds a block of which `count` weights are above zero.
    #[inline]
    pub(super) fn push(&mut self, weights: &Weights, count: u32) {
        match self {
            Self::One(one) => one.push(weights, count),
            Self::Many(many) => many.push(weights, count),
        }
    }

    /// After the last block.
    pub(super) fn close(&mut self) {
        if let Self::Many(many) = self {
            many.close();
        }
    }

    /// Draws one slot of what is left; none when nothing is. `weights` gives a block's weights as they were
    /// pushed, `defined` what the definition says, from a number in [0, 1) and the slots that were taken.
    #[inline]
    pub(super) fn draw(
        &mut self,
        random: &mut Random,
        weights: &impl Fn(usize) -> Weights,
        defined: &impl Fn(f64, &[u32]) -> u32,
    ) -> Option<u32> {
        if self.members_left() == 0 {
            return None;
        }
        let slot = self.slot(random.unit(), weights, defined);
        self.take(slot, weights);
        Some(slot)
    }

    #[inline]
    fn slot(
        &mut self,
        unit: f64,
        weights: &impl Fn(usize) -> Weights,
        defined: &impl Fn(f64, &[u32]) -> u32,
    ) -> u32 {
        self.near(unit, weights).unwrap_or_else(|| defined(unit, self.taken()))
    }

    /// The slot in which `unit` surely falls; none where float error could decide.
    #[inline]
    fn near(&mut self, unit: f64, weights: &impl Fn(usize) -> Weights) -> Option<u32> {
        match self {
            Self::One(one) => one.near(unit),
            Self::Many(many) => many.near(unit, weights),
        }
    }

    /// Takes a slot out.
    #[inline]
    pub(super) fn take(&mut self, slot: u32, weights: &impl Fn(usize) -> Weights) {
        match self {
            Self::One(one) => one.take(slot),
            Self::Many(many) => many.take(slot, weights),
        }
    }

    fn members_left(&self) -> u32 {
        match self {
            Self::One(One { even, .. }) | Self::Many(Many { even, .. }) => even.left,
        }
    }

    /// The slots that were taken, in order.
    fn taken(&self) -> &[u32] {
        match self {
            Self::One(One { even, .. }) | Self::Many(Many { even, .. }) => even.taken(),
        }
    }
}

/// The even part of a draw, and who was taken.
#[derive(Debug)]
struct Even {
    taken: [u32; ATTEMPTS_MAX],
    members: u32,
    /// Members that are left.
    left: u32,
    /// The weight that the even part gives to each member.
    weight: f64,
}

impl Even {
    fn of(members: u32, total: f64) -> Self {
        let weight = EXPLORATION_SHARE / (1.0 - EXPLORATION_SHARE) * total / f64::from(members);
        Self { taken: [0; ATTEMPTS_MAX], members, left: members, weight }
    }

    fn taken(&self) -> &[u32] {
        &self.taken[..(self.members - self.left) as usize]
    }

    #[inline]
    fn take(&mut self, slot: u32) {
        self.taken[(self.members - self.left) as usize] = slot;
        self.left -= 1;
    }

    /// What all members that are left weigh in the even part.
    #[inline]
    fn whole(&self) -> f64 {
        self.weight * f64::from(self.left)
    }

    /// Which of the members that are left stands where `part` of the whole ends; none where float error could
    /// decide.
    fn nth(&self, part: f64) -> Option<u32> {
        let nth = part / self.weight;
        let rest = nth - nth.floor();
        let is_sure = (NEAR_MEMBER..1.0 - NEAR_MEMBER).contains(&rest) && nth < f64::from(self.left);
        is_sure.then_some(nth as u32)
    }
}

/// The entry in which `target` falls when the weights are laid end to end, and how far into it.
#[inline]
fn find(weights: &[f64], mut target: f64) -> Option<(usize, f64)> {
    for (n, weight) in weights.iter().enumerate() {
        if target < *weight {
            return Some((n, target));
        }
        target -= weight;
    }
    None
}

/// The lane of the `nth` weight above zero.
fn nth_lane(weights: &Weights, nth: u32) -> Option<usize> {
    (0..BLOCK).filter(|lane| weights[*lane] > 0.0).nth(nth as usize)
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

/// What a draw is: the slot in which `unit` falls, of the slots in `blocks` without those that were `taken`.
#[cold]
pub(super) fn defined(unit: f64, blocks: &mut [Weights], taken: &[u32]) -> u32 {
    let members = |blocks: &[Weights]| blocks.iter().flatten().filter(|weight| **weight > 0.0).count();
    let sums = |blocks: &[Weights]| -> (Vec<f64>, Vec<f64>) {
        let blocks: Vec<f64> = blocks.iter().map(|weights| sum(weights)).collect();
        let rows = blocks.chunks(BLOCK).map(sum).collect();
        (blocks, rows)
    };
    let (total, all) = (sum(&sums(blocks).1), members(blocks) as f64);
    for slot in taken.iter().map(|slot| *slot as usize) {
        blocks[slot / BLOCK][slot % BLOCK] = 0.0;
    }
    let (by_block, rows) = sums(blocks);
    let (left, members_left) = (sum(&rows), members(blocks) as f64);
    let by_weight = (1.0 - EXPLORATION_SHARE) * left / total;
    let evenly = EXPLORATION_SHARE * members_left / all;
    let point = unit * (by_weight + evenly);
    if point < by_weight {
        let (row, target) = fall(&rows, point / by_weight * left);
        let in_row = &by_block[row * BLOCK..by_block.len().min((row + 1) * BLOCK)];
        let (block, target) = fall(in_row, target);
        let block = row * BLOCK + block;
        return (block * BLOCK + fall(&blocks[block], target).0) as u32;
    }
    let nth = ((point - by_weight) / evenly * members_left).min(members_left - 1.0) as usize;
    let mut slots = (0u32..).zip(blocks.iter().flatten()).filter(|(_, weight)| **weight > 0.0);
    slots.nth(nth).map_or(0, |(slot, _)| slot)
}

/// The entry in which `target` falls, and how far into it. Float error may leave a rest beyond the last entry:
/// then it is the last one that weighs anything.
fn fall(weights: &[f64], mut target: f64) -> (usize, f64) {
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

#[cfg(test)]
mod tests;

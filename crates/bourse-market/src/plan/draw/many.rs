//! A lottery of many blocks: sums of blocks and of rows of blocks, so that a draw looks at three short rows instead
//! of one long one. The weights are not kept, but for those of one block, and are computed again where a draw falls
//! into another.

use super::{BLOCK, Even, NEAR, Weights, find, nth_lane, sum};

#[derive(Debug)]
pub(in crate::plan) struct Many {
    /// What is left of each block, and of each row of blocks.
    blocks: Vec<f64>,
    rows: Vec<f64>,
    /// Members of each block that are left.
    counts: Vec<u8>,
    members: u32,
    /// What is left of the total.
    pub(super) left: f64,
    /// What was left when it was summed last.
    summed: f64,
    /// The block whose weights are at hand, and what is left of them.
    open: (usize, Weights),
    pub(super) even: Even,
}

impl Many {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            blocks: Vec::with_capacity(blocks),
            rows: Vec::new(),
            counts: Vec::with_capacity(blocks),
            members: 0,
            left: 0.0,
            summed: 0.0,
            open: (0, [0.0; BLOCK]),
            even: Even::of(0, 0.0),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, weights: &Weights, count: u32) {
        if self.blocks.is_empty() {
            self.open.1 = *weights;
        }
        self.blocks.push(sum(weights));
        self.counts.push(count as u8);
        self.members += count;
    }

    pub(super) fn close(&mut self) {
        self.rows = self.blocks.chunks(BLOCK).map(sum).collect();
        self.left = sum(&self.rows);
        self.summed = self.left;
        self.even = Even::of(self.members, self.left);
    }

    pub(super) fn near(&mut self, unit: f64, weights: &impl Fn(usize) -> Weights) -> Option<u32> {
        let target = unit * (self.left + self.even.whole());
        if target >= self.left {
            return self.near_evenly(target - self.left, weights);
        }
        let (row, target) = find(&self.rows, target)?;
        let in_row = &self.blocks[row * BLOCK..self.blocks.len().min((row + 1) * BLOCK)];
        let (block, target) = find(in_row, target)?;
        let (block, margin) = (row * BLOCK + block, NEAR * self.left);
        let left = self.left_of(block, weights);
        let (lane, rest) = find(left, target)?;
        (rest > margin && left[lane] - rest > margin).then_some((block * BLOCK + lane) as u32)
    }

    fn near_evenly(&mut self, part: f64, weights: &impl Fn(usize) -> Weights) -> Option<u32> {
        let (mut block, mut nth) = (0, self.even.nth(part)?);
        while let Some(count) = self.counts.get(block).map(|count| u32::from(*count)).filter(|n| nth >= *n) {
            nth -= count;
            block += 1;
        }
        let lane = nth_lane(self.left_of(block, weights), nth)?;
        Some((block * BLOCK + lane) as u32)
    }

    /// Opens a block: its weights, without those of who was taken.
    fn left_of(&mut self, block: usize, weights: &impl Fn(usize) -> Weights) -> &mut Weights {
        if self.open.0 != block {
            let mut left = weights(block);
            let taken = self.even.taken().iter().map(|slot| *slot as usize);
            for slot in taken.filter(|slot| slot / BLOCK == block) {
                left[slot % BLOCK] = 0.0;
            }
            self.open = (block, left);
        }
        &mut self.open.1
    }

    pub(super) fn take(&mut self, slot: u32, weights: &impl Fn(usize) -> Weights) {
        let (block, lane) = (slot as usize / BLOCK, slot as usize % BLOCK);
        let weight = std::mem::take(&mut self.left_of(block, weights)[lane]);
        self.even.take(slot);
        self.left -= weight;
        self.blocks[block] -= weight;
        self.rows[block / BLOCK] -= weight;
        self.counts[block] -= 1;
        // As in a lottery of one block.
        if self.left * 2.0 < self.summed {
            self.sum_again(weights);
        }
    }

    fn sum_again(&mut self, weights: &impl Fn(usize) -> Weights) {
        for n in 0..self.even.taken().len() {
            let block = self.even.taken[n] as usize / BLOCK;
            self.blocks[block] = sum(self.left_of(block, weights));
        }
        for (row, blocks) in self.rows.iter_mut().zip(self.blocks.chunks(BLOCK)) {
            *row = sum(blocks);
        }
        self.left = sum(&self.rows);
        self.summed = self.left;
    }
}

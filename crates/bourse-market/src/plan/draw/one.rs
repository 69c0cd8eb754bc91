//! A lottery of one block, which is most markets: nothing is allocated for it.

use super::{BLOCK, Even, LANES, NEAR, Weights, find, nth_lane, sum};

#[derive(Debug)]
pub(in crate::plan) struct One {
    /// What is left of the weights.
    weights: Weights,
    /// Lanes in use.
    width: usize,
    /// What is left of the total.
    pub(super) left: f64,
    /// What was left when it was summed last.
    summed: f64,
    pub(super) even: Even,
}

impl One {
    pub(super) fn new(slots: usize) -> Self {
        let width = slots.next_multiple_of(LANES).min(BLOCK);
        Self { weights: [0.0; BLOCK], width, left: 0.0, summed: 0.0, even: Even::of(0, 0.0) }
    }

    #[inline]
    pub(super) fn push(&mut self, weights: &Weights, count: u32) {
        self.weights = *weights;
        self.sum_again();
        self.even = Even::of(count, self.left);
    }

    #[inline]
    pub(super) fn near(&self, unit: f64) -> Option<u32> {
        let target = unit * (self.left + self.even.whole());
        if target >= self.left {
            return self.near_evenly(target - self.left);
        }
        let margin = NEAR * self.left;
        let (lane, rest) = find(&self.weights[..self.width], target)?;
        (rest > margin && self.weights[lane] - rest > margin).then_some(lane as u32)
    }

    #[inline(never)]
    fn near_evenly(&self, part: f64) -> Option<u32> {
        nth_lane(&self.weights, self.even.nth(part)?).map(|lane| lane as u32)
    }

    #[inline]
    pub(super) fn take(&mut self, slot: u32) {
        self.even.take(slot);
        self.left -= std::mem::take(&mut self.weights[slot as usize]);
        // Differences are right to a part of what they were taken from: before that is much more than what is
        // left, the sum is made again.
        if self.left * 2.0 < self.summed {
            self.sum_again();
        }
    }

    #[inline(never)]
    fn sum_again(&mut self) {
        self.left = sum(&self.weights[..self.width]);
        self.summed = self.left;
    }
}

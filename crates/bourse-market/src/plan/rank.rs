//! The best few of many by a key, without sorting the rest.

use std::cmp::Ordering;

/// The rank of who is not named in the buyer's `order`: after all that are.
pub(super) const UNRANKED: u8 = u8::MAX;

/// Where an offer stands in a fixed order; less is earlier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Group; see [`super`].
    pub(super) group: u16,
    /// Position in the buyer's `order`, or [`UNRANKED`].
    pub(super) rank: u8,
    /// What is sorted by.
    pub(super) first: f64,
    /// Then the price.
    pub(super) price: f64,
    /// Position in the snapshot, so that no two are equal.
    pub(super) index: u32,
}

impl Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let standing = |key: &Self| u32::from(key.group) << 8 | u32::from(key.rank);
        standing(self)
            .cmp(&standing(other))
            .then_with(|| self.first.total_cmp(&other.first))
            .then_with(|| self.price.total_cmp(&other.price))
            .then_with(|| self.index.cmp(&other.index))
    }
}

/// The least keys seen, in order, at most so many.
#[derive(Debug)]
pub(super) struct Best {
    keys: Vec<Key>,
    most: usize,
}

impl Best {
    pub(super) fn new(most: usize) -> Self {
        Self { keys: Vec::with_capacity(most), most }
    }

    /// The price above which an offer of this group is not among the best, where it is neither named in an order
    /// nor sorted by anything else.
    #[inline]
    pub(super) fn price_max(&self, group: u16) -> f64 {
        match self.keys.last() {
            Some(last) if self.keys.len() == self.most => {
                let is_alike = last.group == group && last.rank == UNRANKED && last.first.to_bits() == 0;
                if is_alike { last.price } else { f64::INFINITY }
            }
            _ => f64::INFINITY,
        }
    }

    /// Most keys of a large market come after the last one kept.
    #[inline]
    pub(super) fn offer(&mut self, key: Key) {
        match self.keys.last() {
            Some(last) if self.keys.len() == self.most && !key.cmp(last).is_lt() => {}
            _ => self.insert(key),
        }
    }

    fn insert(&mut self, key: Key) {
        if self.keys.len() == self.most {
            self.keys.pop();
        }
        let mut at = self.keys.len();
        self.keys.push(key);
        while at > 0 && key.cmp(&self.keys[at - 1]).is_lt() {
            self.keys[at] = self.keys[at - 1];
            at -= 1;
        }
        self.keys[at] = key;
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }
}

//! The best few of many by a key, without sorting the rest.

use std::cmp::Ordering;

/// Where an offer stands in a fixed order; less is earlier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Group; see [`super`].
    pub(super) group: u16,
    /// Position in the buyer's `order`; the last where it is not named.
    pub(super) rank: u8,
    /// What is sorted by.
    pub(super) first: f64,
    /// Then the price.
    pub(super) price: f64,
    /// Position in the snapshot, so that no two are equal.
    pub(super) index: u32,
}

impl Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.group, self.rank)
            .cmp(&(other.group, other.rank))
            .then(self.first.total_cmp(&other.first))
            .then(self.price.total_cmp(&other.price))
            .then(self.index.cmp(&other.index))
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
        Self { keys: Vec::with_capacity(most + 1), most }
    }

    pub(super) fn offer(&mut self, key: Key) {
        let is_full = self.keys.len() == self.most;
        if is_full && self.keys.last().is_none_or(|last| key.cmp(last).is_gt()) {
            return;
        }
        let at = self.keys.partition_point(|kept| kept.cmp(&key).is_lt());
        self.keys.insert(at, key);
        self.keys.truncate(self.most);
    }

    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }
}

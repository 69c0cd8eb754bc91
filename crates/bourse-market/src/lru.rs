//! A bounded map that forgets what was used least recently.
//!
//! Entries stand in one vector and are linked by position in the order of their last use, so that a use,
//! an insertion and an eviction each cost one look-up and a few writes. Nothing is allocated before it
//! is needed, and nothing beyond the capacity ever.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Entry<K, V> {
    key: K,
    value: V,
    newer: u32,
    older: u32,
}

/// A map of at most `capacity` entries.
#[derive(Debug, Clone)]
pub(crate) struct Lru<K, V> {
    positions: HashMap<K, u32>,
    entries: Vec<Entry<K, V>>,
    newest: u32,
    oldest: u32,
    capacity: usize,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// Room for `capacity` entries, at least 1 and at most 2³² − 1.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize);
        Self { positions: HashMap::new(), entries: Vec::new(), newest: NONE, oldest: NONE, capacity }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the capacity, as [`Lru::new`] takes it; returns the oldest entries, which have no room any more.
    pub(crate) fn set_capacity(&mut self, capacity: usize) -> Vec<(K, V)> {
        self.capacity = capacity.clamp(1, NONE as usize);
        let excess = self.len().saturating_sub(self.capacity);
        (0..excess).map_while(|_| self.pop_oldest()).collect()
    }

    /// Looks without using.
    pub(crate) fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let at = *self.positions.get(key)?;
        self.entries.get(at as usize).map(|entry| &entry.value)
    }

    /// Uses the entry: it becomes the newest.
    pub(crate) fn touch<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = *self.positions.get(key)?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        self.entries.get_mut(at as usize).map(|entry| &mut entry.value)
    }

    /// Puts a value in as the newest entry. Returns the entry that had to go for it: the one of the same
    /// key, or the oldest where the map was full.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(old) = self.touch(&key) {
            return Some((key, std::mem::replace(old, value)));
        }
        let gone = if self.entries.len() < self.capacity { None } else { self.pop_oldest() };
        let at = self.entries.len() as u32;
        self.positions.insert(key.clone(), at);
        self.entries.push(Entry { key, value, newer: NONE, older: NONE });
        self.link_newest(at);
        gone
    }

    /// Takes the entry out that was used least recently.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.entries.get(self.oldest as usize)?;
        let at = self.positions.remove(&oldest.key)?;
        Some(self.take(at))
    }

    /// Keys from the oldest to the newest.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.newer;
            Some(&entry.key)
        })
    }

    /// Removes position `at`, whose key is out of the map already; the last entry takes its place.
    fn take(&mut self, at: u32) -> (K, V) {
        self.unlink(at);
        let gone = self.entries.swap_remove(at as usize);
        let moved_from = self.entries.len() as u32;
        if let Some(moved) = self.entries.get(at as usize) {
            let (newer, older) = (moved.newer, moved.older);
            if let Some(position) = self.positions.get_mut(&moved.key) {
                *position = at;
            }
            self.point(newer, older, moved_from, at);
        }
        (gone.key, gone.value)
    }

    /// Neighbours of an entry that moved from one position to another follow it.
    fn point(&mut self, newer: u32, older: u32, from: u32, to: u32) {
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = to,
            None if self.newest == from => self.newest = to,
            None => {}
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = to,
            None if self.oldest == from => self.oldest = to,
            None => {}
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(entry) = self.entries.get(at as usize) else { return };
        let (newer, older) = (entry.newer, entry.older);
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        if let Some(entry) = self.entries.get_mut(before as usize) {
            entry.newer = at;
        } else {
            self.oldest = at;
        }
        if let Some(entry) = self.entries.get_mut(at as usize) {
            (entry.newer, entry.older) = (NONE, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Against a plain list, newest last.
    #[derive(Default)]
    struct Model(Vec<(u8, u32)>);

    impl Model {
        fn touch(&mut self, key: u8) -> Option<u32> {
            let at = self.0.iter().position(|(k, _)| *k == key)?;
            let entry = self.0.remove(at);
            self.0.push(entry);
            Some(entry.1)
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_list_holds(
            capacity in 1usize..6, steps in proptest::collection::vec((0u8..4, 0u8..9), 0..200),
        ) {
            let mut capacity = capacity;
            let mut lru = Lru::new(capacity);
            let mut model = Model::default();
            for (n, (what, key)) in (0u32..).zip(steps) {
                match what {
                    0 | 1 => {
                        let want = if let Some(old) = model.touch(key) {
                            model.0.pop();
                            Some((key, old))
                        } else {
                            (model.0.len() == capacity).then(|| model.0.remove(0))
                        };
                        model.0.push((key, n));
                        prop_assert_eq!(lru.insert(key, n), want);
                    }
                    2 => prop_assert_eq!(lru.touch(&key).copied(), model.touch(key)),
                    _ => {
                        let room = usize::from(key % 5 + 1);
                        let excess = model.0.len().saturating_sub(room);
                        let gone: Vec<_> = model.0.drain(..excess).collect();
                        prop_assert_eq!(lru.set_capacity(room), gone);
                        capacity = room;
                    }
                }
                prop_assert!(lru.keys().copied().eq(model.0.iter().map(|(key, _)| *key)));
                prop_assert!(model.0.iter().all(|(key, value)| lru.peek(key) == Some(value)));
                prop_assert_eq!(lru.len(), model.0.len());
            }
        }
    }
}

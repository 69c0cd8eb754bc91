//! The window of known ids: exactly-once with bounded memory.
//!
//! Ids leave in the order in which they came. What leaves raises the *horizon*, the youngest time
//! carried by a forgotten id; an unknown id at or below the horizon may be a forgotten one and is not
//! taken for new. Ids carry the time at which they were made, so an honest client is refused only when
//! it is later with its first try than the window is long.
//!
//! The ids lie in a ring in the order of their coming; beside it a table of 8-byte slots, half of a
//! keyed hash and the place in the ring, finds them: linear probing, at most half full, removal by shifting
//! back. A slot knows its own home, so neither a miss nor a removal touches the ring. A general hash map
//! takes twice the memory here, and most of the time of a transfer.

use crate::hash::HashKey;
use bourse_types::{TransferId, UnixMs};
use std::hash::{BuildHasher, Hasher};

/// Slots of the smallest table.
const SLOTS_MIN: usize = 16;

/// An id and the fingerprint of its chain. The id is split so that an entry packs into 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    key: [u64; 2],
    pub(crate) fingerprint: u64,
}

impl Known {
    pub(crate) fn new(id: TransferId, fingerprint: u64) -> Self {
        Self { key: key_of(id), fingerprint }
    }

    pub(crate) fn id(self) -> TransferId {
        TransferId(u128::from(self.key[0]) << 64 | u128::from(self.key[1]))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Window {
    ids_max: usize,
    ring: Vec<Known>,
    /// Place of the oldest id once the ring is full; zero before.
    oldest: usize,
    table: Table,
    key: HashKey,
    horizon: Option<UnixMs>,
}

impl Window {
    pub(crate) fn new(ids_max: usize, horizon: Option<UnixMs>, key: HashKey) -> Self {
        // A slot counts places with 32 bits.
        let ids_max = ids_max.min(u32::MAX as usize - 1);
        Self { ids_max, ring: Vec::new(), oldest: 0, table: Table::new(), key, horizon }
    }

    pub(crate) fn get(&self, id: TransferId) -> Option<u64> {
        let key = key_of(id);
        let places = self.table.places(self.hash(key));
        places.map(|place| &self.ring[place]).find(|known| known.key == key).map(|known| known.fingerprint)
    }

    /// Remembers an id that is not yet known, forgetting the oldest one when the window is full.
    pub(crate) fn insert(&mut self, known: Known) {
        let place = if self.ring.len() < self.ids_max {
            self.ring.push(known);
            self.table.reserve(self.ring.len());
            self.ring.len() - 1
        } else if self.ids_max == 0 {
            self.horizon = self.horizon.max(Some(known.id().time()));
            return;
        } else {
            let place = self.oldest;
            let forgotten = std::mem::replace(&mut self.ring[place], known);
            self.table.remove(self.hash(forgotten.key), place);
            self.horizon = self.horizon.max(Some(forgotten.id().time()));
            self.oldest = (place + 1) % self.ids_max;
            place
        };
        self.table.insert(self.hash(known.key), place);
    }

    /// Whether an unknown id of this time may be a forgotten one.
    pub(crate) fn may_have_forgotten(&self, time: UnixMs) -> bool {
        self.horizon.is_some_and(|horizon| time <= horizon)
    }

    pub(crate) fn horizon(&self) -> Option<UnixMs> {
        self.horizon
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Known> + '_ {
        let (young, old) = self.ring.split_at(self.oldest);
        old.iter().chain(young).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    fn hash(&self, key: [u64; 2]) -> u32 {
        let mut hasher = self.key.build_hasher();
        hasher.write_u64(key[1]);
        hasher.write_u64(key[0]);
        (hasher.finish() >> 32) as u32
    }
}

/// Hash (high half) and place + 1 (low half) of each entry; 0 is an empty slot.
#[derive(Debug, Clone)]
struct Table {
    slots: Vec<u64>,
}

impl Table {
    fn new() -> Self {
        Self { slots: vec![0; SLOTS_MIN] }
    }

    /// Keeps the table at most half full for `count` entries.
    fn reserve(&mut self, count: usize) {
        if count * 2 <= self.slots.len() {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![0; old.len() * 2];
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            self.put(slot);
        }
    }

    fn insert(&mut self, hash: u32, place: usize) {
        self.put(entry(hash, place));
    }

    /// Places whose hash is `hash`.
    fn places(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let mask = self.slots.len() - 1;
        let probe = (0..=mask).map(move |step| self.slots[(hash as usize + step) & mask]);
        let run = probe.take_while(|slot| *slot != 0);
        run.filter(move |slot| (slot >> 32) as u32 == hash).map(|slot| (slot as u32 - 1) as usize)
    }

    /// Empties the slot of an entry and moves later ones of its run back, so that no run has a hole.
    fn remove(&mut self, hash: u32, place: usize) {
        let mask = self.slots.len() - 1;
        let wanted = entry(hash, place);
        let mut hole = hash as usize & mask;
        while self.slots[hole] != wanted {
            if self.slots[hole] == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let slot = self.slots[next];
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole] = 0;
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
}

fn entry(hash: u32, place: usize) -> u64 {
    u64::from(hash) << 32 | (place as u64 + 1)
}

fn key_of(id: TransferId) -> [u64; 2] {
    [(id.0 >> 64) as u64, id.0 as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a queue that is searched from end to end; a zero key makes ids collide.
        #[test]
        fn a_window_is_a_bounded_queue(
            ids in proptest::collection::vec(0u128..400, 0..600), ids_max in 0usize..70, weak: bool,
        ) {
            let key = if weak { HashKey([0, 0x9E37_79B9_7F4A_7C15]) } else { HashKey([5, 9]) };
            let mut window = Window::new(ids_max, None, key);
            let mut queue = VecDeque::new();
            for (n, id) in ids.into_iter().enumerate() {
                let id = TransferId(id << 80);
                let want = queue.iter().find(|(known, _)| *known == id).map(|(_, print)| *print);
                prop_assert_eq!(window.get(id), want);
                if want.is_none() {
                    window.insert(Known::new(id, n as u64));
                    queue.push_back((id, n as u64));
                    queue.drain(..queue.len().saturating_sub(ids_max));
                }
                let kept: Vec<_> = window.iter().map(|known| (known.id(), known.fingerprint)).collect();
                prop_assert_eq!(kept, queue.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(window.len(), queue.len());
            }
        }
    }
}

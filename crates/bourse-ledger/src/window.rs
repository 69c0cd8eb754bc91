//! The window of known ids: exactly-once with bounded memory.
//!
//! Ids leave in the order in which they came. What leaves raises the *horizon*, the youngest time
//! carried by a forgotten id; an unknown id at or below the horizon may be a forgotten one and is not
//! taken for new. Ids carry the time at which they were made, so an honest client is refused only when
//! it is later with its first try than the window is long.

use crate::hash::HashKey;
use bourse_types::{TransferId, UnixMs};
use std::collections::{HashMap, VecDeque};

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
    order: VecDeque<Known>,
    fingerprints: HashMap<[u64; 2], u64, HashKey>,
    horizon: Option<UnixMs>,
}

impl Window {
    pub(crate) fn new(ids_max: usize, horizon: Option<UnixMs>, key: HashKey) -> Self {
        Self { ids_max, order: VecDeque::new(), fingerprints: HashMap::with_hasher(key), horizon }
    }

    pub(crate) fn get(&self, id: TransferId) -> Option<u64> {
        self.fingerprints.get(&key_of(id)).copied()
    }

    /// Remembers an id that is not yet known, forgetting the oldest one when the window is full.
    pub(crate) fn insert(&mut self, known: Known) {
        if self.order.len() >= self.ids_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.fingerprints.remove(&oldest.key);
            self.horizon = self.horizon.max(Some(oldest.id().time()));
        }
        self.order.push_back(known);
        self.fingerprints.insert(known.key, known.fingerprint);
    }

    /// Whether an unknown id of this time may be a forgotten one.
    pub(crate) fn may_have_forgotten(&self, time: UnixMs) -> bool {
        self.horizon.is_some_and(|horizon| time <= horizon)
    }

    pub(crate) fn horizon(&self) -> Option<UnixMs> {
        self.horizon
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Known> + '_ {
        self.order.iter().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

fn key_of(id: TransferId) -> [u64; 2] {
    [(id.0 >> 64) as u64, id.0 as u64]
}

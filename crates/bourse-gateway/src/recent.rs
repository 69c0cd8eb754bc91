//! Sellers' ids of recent answers, so that a buyer who has only the body's `id` finds its generation.
//!
//! A stream that passes keeps the seller's `id`, because changing it would mean to copy every event; the market's own id
//! stands in the headers, which some clients do not show. This remembers the last [`RECENT_MAX`] of them, by account: an
//! id of another account's is unknown. Lost at a restart, like the answers it was needed for.

use crate::fingerprint::fingerprint;
use bourse_types::{Digest32, RequestId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Most ids that are remembered.
pub const RECENT_MAX: usize = 65_536;

/// The ids.
pub(crate) struct Recent {
    max: usize,
    ids: Mutex<Ids>,
}

#[derive(Default)]
struct Ids {
    requests: HashMap<u128, RequestId>,
    order: VecDeque<u128>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::new(RECENT_MAX)
    }
}

impl Recent {
    fn new(max: usize) -> Self {
        Self { max, ids: Mutex::default() }
    }

    pub(crate) fn put(&self, account: &Digest32, id: &str, request: RequestId) {
        let key = key(account, id);
        let mut ids = self.ids.lock();
        if ids.requests.insert(key, request).is_none() {
            ids.order.push_back(key);
        }
        if ids.order.len() > self.max
            && let Some(oldest) = ids.order.pop_front()
        {
            ids.requests.remove(&oldest);
        }
    }

    pub(crate) fn find(&self, account: &Digest32, id: &str) -> Option<RequestId> {
        self.ids.lock().requests.get(&key(account, id)).copied()
    }
}

fn key(account: &Digest32, id: &str) -> u128 {
    fingerprint(&[&account.0, id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_accounts_are_apart() {
        let recent = Recent::new(2);
        let (one, two) = (Digest32([1; 32]), Digest32([2; 32]));
        for n in 0..3 {
            recent.put(&one, &format!("c-{n}"), RequestId(n));
        }
        recent.put(&one, "c-2", RequestId(9));
        assert_eq!(recent.find(&one, "c-0"), None);
        assert_eq!(recent.find(&one, "c-1"), Some(RequestId(1)));
        assert_eq!(recent.find(&one, "c-2"), Some(RequestId(9)));
        assert_eq!(recent.find(&two, "c-2"), None);
    }
}

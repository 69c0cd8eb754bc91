//! The right to write into a journal that others can reach too, as its holder knows it.
//!
//! The database ends it, [`LEASE_TTL`] after its holder's last word, by its own clock; a holder counts from when it asked,
//! which is never later. What is written into the database is fenced there by the lease's token. What leaves the
//! market otherwise is fenced by nothing, and is asked about here first ([`Lease::must_be_held`]).
//!
//! Limits: a machine whose monotonic clock stands still with it, as a suspended one's may, knows nothing of the time it lost.

use bourse_ledger::JournalError;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a writer that says nothing keeps its lease.
pub const LEASE_TTL: Duration = Duration::from_secs(3);

/// Whether a writer still has the right to write, for whoever does not write at the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lease(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    lost: OnceLock<JournalError>,
    /// Since when the database has been asked to renew it and has not answered.
    renewing: Mutex<Option<Instant>>,
    /// When the database was last asked for it and gave it; none before, and where there is no lease.
    given: Mutex<Option<Instant>>,
}

impl Lease {
    /// Why it has not any more; none while it has.
    pub(crate) fn lost(&self) -> Option<&JournalError> {
        if self.0.renewing.lock().is_some_and(|since| since.elapsed() >= LEASE_TTL) {
            self.lose(hung(LEASE_TTL));
        }
        self.0.lost.get()
    }

    /// Refuses where another writer may have it by now. What is done outside of the database is not fenced by the token,
    /// so whoever is about to do such a thing asks here first: a process that stood still knows nothing of its loss yet.
    pub(crate) fn must_be_held(&self) -> Result<(), JournalError> {
        if let Some(lost) = self.lost() {
            return Err(lost.clone());
        }
        match *self.0.given.lock() {
            Some(since) if since.elapsed() >= LEASE_TTL => Err(JournalError::Store(
                "the lease ran out and was not renewed yet: this process stood still".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The database is asked to renew it.
    pub(super) fn asks(&self, at: Instant) {
        *self.0.renewing.lock() = Some(at);
    }

    /// It has answered, whatever.
    pub(super) fn is_answered(&self) {
        *self.0.renewing.lock() = None;
    }

    /// It lasts from when it was asked for, at the least.
    pub(super) fn give(&self, asked: Instant) {
        let mut given = self.0.given.lock();
        *given = (*given).max(Some(asked));
    }

    /// The first reason stays.
    pub(super) fn lose(&self, why: JournalError) -> JournalError {
        self.0.lost.get_or_init(|| why).clone()
    }
}

pub(super) fn hung(within: Duration) -> JournalError {
    JournalError::Store(format!(
        "the database has not answered for {} s: it hangs, or the way to it is cut; start again when it answers",
        within.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(ago: Duration) -> Lease {
        let lease = Lease::default();
        lease.give(Instant::now().checked_sub(ago).expect("a machine that has run for a while"));
        lease
    }

    #[test]
    fn it_is_held_as_long_as_the_database_cannot_have_ended_it() {
        assert_eq!(Lease::default().must_be_held(), Ok(()), "a folder's lock is none that could be lost");
        assert_eq!(given(LEASE_TTL / 2).must_be_held(), Ok(()));
        let old = given(LEASE_TTL);
        let refused = old.must_be_held().unwrap_err().to_string();
        assert!(refused.contains("this process stood still"), "{refused}");
        assert!(old.lost().is_none(), "if nobody took it, it goes on");
        old.give(Instant::now());
        assert_eq!(old.must_be_held(), Ok(()));
        old.lose(JournalError::InUse);
        assert_eq!(old.must_be_held(), Err(JournalError::InUse));
    }
}

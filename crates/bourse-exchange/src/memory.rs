//! A journal in memory with several handles: the writer's and the readers'.

use bourse_ledger::{Group, Journal, JournalError, MemoryJournal, Position, Snapshot};
use parking_lot::Mutex;
use std::sync::Arc;

/// Handles on one [`MemoryJournal`].
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedJournal(Arc<Mutex<MemoryJournal>>);

impl Journal for SharedJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        self.0.lock().append(bytes)
    }

    fn last(&self) -> Position {
        self.0.lock().last()
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        self.0.lock().read(after, count_max)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.0.lock().save_snapshot(snapshot)
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        self.0.lock().load_snapshot()
    }
}

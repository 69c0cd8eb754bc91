//! A store whose next append can be told to fail, before it wrote or after.

use bourse_ledger::{Group, Journal, JournalError, MemoryJournal, Position, Snapshot};
use parking_lot::Mutex;
use std::sync::Arc;

/// How the next write goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreFault {
    /// The append fails and nothing is there.
    NotWritten,
    /// The append fails and the group is there: nobody was told.
    Written,
    /// The next snapshot is not kept, and the store says so.
    NoSnapshot,
    /// The next snapshot is kept with a flipped bit.
    DamagedSnapshot,
}

#[derive(Debug, Default)]
struct Disk {
    journal: MemoryJournal,
    fault: Option<StoreFault>,
    /// Whether the snapshot that lies there is a damaged one.
    is_damaged: bool,
    faults_met: u64,
    snapshots_read: u64,
}

/// Handles on one disk; a new handle is a process that opens it.
#[derive(Debug, Clone, Default)]
pub(super) struct Store(Arc<Mutex<Disk>>);

impl Store {
    pub(super) fn arm(&self, fault: Option<StoreFault>) {
        self.0.lock().fault = fault;
    }

    pub(super) fn faults_met(&self) -> u64 {
        self.0.lock().faults_met
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.0.lock().is_damaged
    }

    pub(super) fn snapshots_read(&self) -> u64 {
        self.0.lock().snapshots_read
    }
}

impl Disk {
    fn meets(&mut self, faults: &[StoreFault]) -> Option<StoreFault> {
        let met = self.fault.take_if(|fault| faults.contains(fault));
        self.faults_met += u64::from(met.is_some());
        met
    }
}

fn failed<T>() -> Result<T, JournalError> {
    Err(JournalError::Store("as planned".to_owned()))
}

impl Journal for Store {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        let mut disk = self.0.lock();
        match disk.meets(&[StoreFault::NotWritten, StoreFault::Written]) {
            Some(StoreFault::NotWritten) => failed(),
            Some(_) => disk.journal.append(bytes).and_then(|_| failed()),
            None => disk.journal.append(bytes),
        }
    }

    fn last(&self) -> Position {
        self.0.lock().journal.last()
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        self.0.lock().journal.read(after, count_max)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        let mut disk = self.0.lock();
        match disk.meets(&[StoreFault::NoSnapshot, StoreFault::DamagedSnapshot]) {
            Some(StoreFault::NoSnapshot) => failed(),
            Some(_) => {
                let mut bytes = snapshot.bytes.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                disk.is_damaged = true;
                disk.journal.save_snapshot(&Snapshot { at: snapshot.at, bytes })
            }
            None => {
                disk.is_damaged = false;
                disk.journal.save_snapshot(snapshot)
            }
        }
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        let mut disk = self.0.lock();
        let snapshot = disk.journal.load_snapshot()?;
        disk.snapshots_read += u64::from(snapshot.is_some());
        Ok(snapshot)
    }
}

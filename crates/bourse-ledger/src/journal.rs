//! The journal: an append-only list of commit groups with a hash chain, and the last snapshot.
//!
//! A group is opaque bytes: what its owner wants durable together. Its chain hash binds the group and
//! all before it, so one damaged or missing group is found at once. The trait is the plug point between
//! the ledger's owner and a store; [`MemoryJournal`] is the one for tests and simulations, and
//! [`crate::conformance`] is the suite that every implementation runs.

use bourse_types::{Digest32, Fault};

/// Bytes in one commit group, at most.
pub const GROUP_BYTES_MAX: usize = 16 << 20;

/// Why a journal did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The group is larger than any journal takes.
    #[error("a commit group of {0} bytes; the bound is {GROUP_BYTES_MAX}")]
    GroupTooLarge(usize),
    /// The store failed. After a failed append nothing is known about the disk: the journal refuses
    /// everything until it is opened again.
    #[error("the journal's store failed: {0}")]
    Store(String),
    /// The stored bytes are not what was written.
    #[error("the journal is damaged after group {last_good}: {what}")]
    Damaged {
        /// The last group that is whole, with all before it.
        last_good: u64,
        /// What is wrong.
        what: String,
    },
    /// Another live process owns the journal.
    #[error("the journal is in use by another process")]
    InUse,
}

impl JournalError {
    /// A journal fails by the market's fault, always.
    pub fn fault(&self) -> Fault {
        Fault::Bourse
    }
}

/// Where a journal ends: the number of the last group and the hash of all up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Groups are numbered from 1; 0 is the empty journal.
    pub seq: u64,
    /// See [`chain_hash`]; zero for the empty journal.
    pub chain: Digest32,
}

/// One durable commit group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Where it stands.
    pub position: Position,
    /// What its owner appended.
    pub bytes: Vec<u8>,
}

/// A state as it was after a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The group after which the state was taken.
    pub at: Position,
    /// The owner's bytes.
    pub bytes: Vec<u8>,
}

/// A store of commit groups. One writer.
pub trait Journal: Send {
    /// Makes a group durable and returns its position. On return it survives a crash.
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError>;

    /// The position of the last group.
    fn last(&self) -> Position;

    /// Up to `count_max` groups after `after`, in order and with verified chain hashes.
    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError>;

    /// Keeps a snapshot, replacing older ones.
    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError>;

    /// The last snapshot.
    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError>;
}

/// The hash of a group and all before it: BLAKE3 of the domain, the hash before, the number, the bytes.
pub fn chain_hash(before: Position, bytes: &[u8]) -> Position {
    let seq = before.seq + 1;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"bourse/journal-group/1");
    hasher.update(&before.chain.0);
    hasher.update(&seq.to_le_bytes());
    hasher.update(bytes);
    Position { seq, chain: Digest32(*hasher.finalize().as_bytes()) }
}

/// A group as it was stored at `at`, held against the one before it.
pub fn verified(before: Position, at: Position, bytes: Vec<u8>) -> Result<Group, JournalError> {
    let position = chain_hash(before, &bytes);
    let what = if at.seq != position.seq {
        format!("group {} is missing", position.seq)
    } else if at.chain != position.chain {
        format!("the bytes of group {} are not what was written", at.seq)
    } else {
        return Ok(Group { position, bytes });
    };
    Err(JournalError::Damaged { last_good: before.seq, what })
}

/// A journal in memory: durable until it is dropped.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal {
    groups: Vec<Group>,
    snapshot: Option<Snapshot>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        if bytes.len() > GROUP_BYTES_MAX {
            return Err(JournalError::GroupTooLarge(bytes.len()));
        }
        let position = chain_hash(self.last(), bytes);
        self.groups.push(Group { position, bytes: bytes.to_vec() });
        Ok(position)
    }

    fn last(&self) -> Position {
        self.groups.last().map(|group| group.position).unwrap_or_default()
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        let first = usize::try_from(after.seq).unwrap_or(usize::MAX).min(self.groups.len());
        let known = first.checked_sub(1).map_or(Position::default(), |i| self.groups[i].position);
        if known != after {
            return Err(JournalError::Damaged {
                last_good: 0,
                what: format!("group {} has another chain hash", after.seq),
            });
        }
        Ok(self.groups[first..].iter().take(count_max).cloned().collect())
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.snapshot = Some(snapshot.clone());
        Ok(())
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        Ok(self.snapshot.clone())
    }
}

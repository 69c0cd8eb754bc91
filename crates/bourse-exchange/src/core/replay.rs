//! Rebuilding the core from a journal, and its snapshots.
//!
//! Replay trusts nothing: a record that cannot be read, an event that does not apply, a receipt that is
//! none, or a checkpoint that does not match the log means that the journal is not what this exchange
//! wrote, and it stops there.

use super::Core;
use crate::names::ACCOUNT_NAME_BYTES_MAX;
use crate::record::{self, Record, Records};
use bourse_ledger::{
    CodecError, Group, HashKey, Limits, Position, Reader, ReplayError, SnapshotError, State,
};
use bourse_proof::log::MerkleLog;
use bourse_proof::merkle::leaf_hash;
use bourse_proof::sign::verify_checkpoint;
use bourse_types::{AccountId, Digest32, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::receipt::{Checkpoint, Receipt};

const SNAPSHOT_VERSION: u8 = 1;

/// Why a group of the journal does not replay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayFailure {
    #[error("a record cannot be read: {0}")]
    Record(#[from] CodecError),
    #[error("{0}")]
    Event(#[from] ReplayError),
    #[error("a receipt cannot be read: {0}")]
    Receipt(#[from] CanonicalError),
    #[error("the journal does not begin with its genesis record")]
    NoGenesis,
    #[error("a genesis record in mid-journal")]
    SecondGenesis,
    #[error("a checkpoint says {said_size} receipts with root {said}, the log has {size} with {root}")]
    Checkpoint { said_size: u64, said: Digest32, size: u64, root: Digest32 },
    #[error("the signature of a checkpoint is not the exchange's")]
    Signature,
    #[error("receipts without a checkpoint at the end of their group")]
    Uncovered,
}

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotFailure {
    #[error("the snapshot cannot be read: {0}")]
    Record(#[from] CodecError),
    #[error("the snapshot cannot be read: {0}")]
    State(#[from] SnapshotError),
}

impl Core {
    /// Reads whose journal this is from its first group, and makes the empty core for it.
    pub(crate) fn from_genesis(
        first: &Group,
        key: HashKey,
        snapshot_every: u64,
    ) -> Result<Self, ReplayFailure> {
        match Records::new(&first.bytes).next() {
            Some(Ok(Record::Genesis { exchange, limits })) => {
                Ok(Self::new(State::new(limits, key), exchange, snapshot_every, key))
            }
            Some(Err(error)) => Err(error.into()),
            _ => Err(ReplayFailure::NoGenesis),
        }
    }

    /// Begins a journal: whose it is, and the house's accounts.
    pub(crate) fn write_genesis(&mut self, limits: &Limits) {
        record::put_genesis(&mut self.group.bytes, &self.exchange, limits);
        self.group.head_changed = true;
    }

    /// Applies one group. Checks signatures of checkpoints when `verify` says so.
    pub(crate) fn replay_group(&mut self, group: &Group, verify: Verify) -> Result<(), ReplayFailure> {
        let mut covered = true;
        for record in Records::new(&group.bytes) {
            match record? {
                Record::Genesis { .. } if group.position.seq == 1 => {}
                Record::Genesis { .. } => return Err(ReplayFailure::SecondGenesis),
                Record::Events(batch) => self.state.replay(batch.at, &batch.events)?,
                Record::Name { account, name } => self.names.add(account, name),
                Record::Key(row) => self.keys.put(row),
                Record::Receipt { bytes, .. } => {
                    let receipt = Receipt::from_canonical_bytes(bytes)?;
                    self.log.append(leaf_hash(bytes));
                    self.keys.spend(&receipt.key_digest, receipt.charge.total);
                    covered = false;
                }
                Record::Checkpoint(checkpoint) => {
                    self.check_checkpoint(&checkpoint, verify)?;
                    covered = true;
                }
            }
        }
        self.seq = group.position.seq + 1;
        if covered { Ok(()) } else { Err(ReplayFailure::Uncovered) }
    }

    fn check_checkpoint(&self, said: &Checkpoint, verify: Verify) -> Result<(), ReplayFailure> {
        let (size, root) = (self.log.size(), self.log.root());
        if (said.size, said.root) != (size, root) {
            return Err(ReplayFailure::Checkpoint { said_size: said.size, said: said.root, size, root });
        }
        let signed =
            said.exchange == self.exchange && (verify == Verify::Roots || verify_checkpoint(said).is_ok());
        if signed { Ok(()) } else { Err(ReplayFailure::Signature) }
    }

    /// The whole core as bytes. Equal bytes mean equal behaviour.
    pub(crate) fn encode_snapshot(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        out.extend_from_slice(&self.exchange.0);
        let log = self.log.to_state_bytes();
        out.extend_from_slice(&(log.len() as u32).to_le_bytes());
        out.extend_from_slice(&log);
        out.extend_from_slice(&(self.names.iter().len() as u32).to_le_bytes());
        for (account, name) in self.names.iter() {
            out.extend_from_slice(&account.0.to_le_bytes());
            record::put_text(&mut out, name);
        }
        let keys = self.keys.sorted();
        out.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        for key in keys {
            record::write_key(&mut out, &key.row);
            out.extend_from_slice(&key.used.to_le_bytes());
        }
        self.state.encode_snapshot(&mut out);
        out
    }

    /// Rebuilds a core as it was after the group at `at`.
    pub(crate) fn from_snapshot(
        bytes: &[u8],
        at: Position,
        key: HashKey,
        snapshot_every: u64,
    ) -> Result<Self, SnapshotFailure> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            SNAPSHOT_VERSION => {}
            other => return Err(CodecError::Version(other).into()),
        }
        let exchange = Digest32(r.array()?);
        let log_bytes = r.u32()? as usize;
        let log = MerkleLog::from_state_bytes(r.take(log_bytes)?)
            .map_err(|_| CodecError::Inconsistent("the state of the receipts log is malformed"))?;
        let mut names = Vec::new();
        for _ in 0..r.u32()? {
            names.push((AccountId(r.u64()?), record::read_text(&mut r, ACCOUNT_NAME_BYTES_MAX)?));
        }
        let mut keys = Vec::new();
        for _ in 0..r.u32()? {
            keys.push((record::read_key(&mut r)?, r.u128()?));
        }
        let state = State::decode_snapshot(&mut r, key)?;
        if r.remaining() > 0 {
            return Err(CodecError::Inconsistent("bytes follow the snapshot").into());
        }
        let mut core = Self::new(state, exchange, snapshot_every, key);
        core.log = log;
        core.seq = at.seq + 1;
        for (account, name) in names {
            core.names.add(account, name);
        }
        for (row, used) in keys {
            let hash = row.hash;
            core.keys.put(row);
            core.keys.set_used(&hash, used);
        }
        Ok(core)
    }

    /// The digest of everything that can influence a later outcome.
    pub(crate) fn digest(&self) -> Digest32 {
        Digest32(*blake3::hash(&self.encode_snapshot()).as_bytes())
    }

    /// The latest time at which something happened.
    pub(crate) fn now(&self) -> UnixMs {
        self.state.now()
    }
}

/// How much of a checkpoint replay checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Size and root.
    Roots,
    /// The signature, too.
    Signatures,
}

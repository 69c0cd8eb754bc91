//! Rebuilding the core from a journal.
//!
//! Replay trusts nothing: a record that cannot be read, an event that does not apply, a receipt that is
//! none, or a checkpoint that does not match the log means that the journal is not what this exchange
//! wrote, and it stops there.

use super::{Core, EpochFailure};
use crate::claims::{ClaimEnd, is_for_nothing};
use crate::record::{self, Record, Records};
use bourse_ledger::{CodecError, Group, HashKey, Limits, ReplayError, State};
use bourse_proof::merkle::leaf_hash;
use bourse_proof::sign::verify_checkpoint;
use bourse_types::{Digest32, NanoUsd, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{FundsError, GenerationNote};
use bourse_wire::receipt::{Checkpoint, Receipt};

/// Why a group of the journal does not replay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayFailure {
    #[error("a record cannot be read: {0}")]
    Record(#[from] CodecError),
    #[error("{0}")]
    Event(#[from] ReplayError),
    #[error("a receipt or its note cannot be read: {0}")]
    Receipt(#[from] CanonicalError),
    #[error("the journal does not begin with its genesis record")]
    NoGenesis,
    #[error("a genesis record in mid-journal")]
    SecondGenesis,
    #[error("a checkpoint says {said_size} receipts with root {said}, the log has {size} with {root}")]
    Checkpoint { said_size: u64, said: Digest32, size: u64, root: Digest32 },
    #[error("the signature of a checkpoint is not the exchange's")]
    Signature,
    #[error("{0}")]
    Epoch(#[from] EpochFailure),
    #[error("a claim that cannot have been made: {0}")]
    Claim(FundsError),
    #[error("receipts without a checkpoint at the end of their group")]
    Uncovered,
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
        let mut records = Records::new(&group.bytes);
        while let Some(record) = records.next() {
            match record? {
                Record::Genesis { .. } if group.position.seq == 1 => {}
                Record::Genesis { .. } => return Err(ReplayFailure::SecondGenesis),
                Record::Events(batch) => {
                    self.check_event_time(batch.at)?;
                    self.state.replay(batch.at, &batch.events)?;
                    self.forget_released(&batch.events);
                }
                Record::Claim { claim, request, at } => {
                    self.claims.begin(&claim, request, at).map_err(ReplayFailure::Claim)?;
                }
                Record::Name { account, name } => self.names.add(account, name),
                Record::Key(row) => self.take_key(row)?,
                Record::Scope(row) => self.scopes.put(row),
                Record::Policy(text) => self.policies.put(text),
                Record::AccountPolicy { account, policy } => self.policies.set_account(account, policy)?,
                Record::Receipt { bytes, .. } => {
                    self.replay_receipt(bytes, records.take_note()?)?;
                    covered = false;
                }
                Record::Metered { receipt, note } => self.replay_metered(receipt, note)?,
                Record::Suspense(record) => self.suspense.take(record)?,
                // It tells of no state.
                Record::Attended(_) => {}
                Record::Payee(record) => self.payouts.set_payee(record),
                Record::Payout(record) => self.replay_payout(record)?,
                Record::Epoch(epoch) => self.replay_epoch(&epoch, verify)?,
                Record::Checkpoint(checkpoint) => {
                    self.check_checkpoint(&checkpoint, verify)?;
                    covered = true;
                }
            }
        }
        self.seq = group.position.seq + 1;
        if covered { Ok(()) } else { Err(ReplayFailure::Uncovered) }
    }

    fn replay_receipt(&mut self, bytes: &[u8], note: &[u8]) -> Result<(), ReplayFailure> {
        let receipt = Receipt::from_canonical_bytes(bytes)?;
        let byok = GenerationNote::read(note)?.byok_cost.unwrap_or(NanoUsd::ZERO);
        self.log.append(leaf_hash(bytes));
        self.metered.remove(&receipt.request);
        if let Some(hash) = self.keys.by_digest(&receipt.key_digest).copied() {
            self.keys.spend(&hash, receipt.charge.total, byok, self.state.now());
        }
        let is_free = is_for_nothing(receipt.charge.total, byok, receipt.finish);
        self.claims.end(receipt.request, if is_free { ClaimEnd::ForNothing } else { ClaimEnd::Paid });
        Ok(())
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

    /// The latest time at which something happened; nothing happens before it any more.
    pub(crate) fn now(&self) -> UnixMs {
        self.state.now().max(self.epoch.closed_at)
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

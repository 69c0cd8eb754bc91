//! The end of an epoch, seen from inside: what is owed, from which moment on, and whether a record says so.
//!
//! Liabilities are the settled balances, what is held included, of the accounts of customers, of their
//! sub-accounts and of sellers, in money. The others owe nobody: fee and rounding are the house's income,
//! subsidy its expense, escrow an asset; verifier pool and insurance are provisions and suspense is disputed,
//! none of which anybody could look for; clearing is zero; allowances and other units are no money.
//! Accounts with nothing are counted, so that each customer has a proof and none is told from another.
//!
//! An epoch ends strictly after the last event, and whatever comes later is given its time or a later one. So
//! "before `closed_at`" is the same set for the tree, for a statement and for every replay.

use super::Core;
use crate::core::Verify;
use crate::names::CLEARING;
use crate::record::EpochRecord;
use bourse_ledger::{AccountKind, Unit};
use bourse_proof::liabilities::{Liabilities, LiabilitiesError};
use bourse_proof::sign::{Signer, verify_epoch};
use bourse_types::{AccountId, Digest32, DurationMs, UnixMs};
use bourse_wire::liability::Epoch;

/// Epochs between snapshots: trees that replay has to make at most after a crash.
pub(crate) const SNAPSHOT_EPOCHS: u64 = 60;
/// What the seeds of epochs are derived for.
const SEED_PURPOSE: &str = "bourse 2026 salts of liabilities in an epoch";

/// The epoch that ended last; zeros before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LastEpoch {
    pub(crate) number: u64,
    pub(crate) digest: Digest32,
    pub(crate) closed_at: UnixMs,
    /// Ledger events before it.
    pub(crate) events: u64,
}

/// Why an epoch cannot end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// Money rests where none may.
    #[error("clearing holds {0} nano-USD between settlements")]
    Clearing(i128),
    /// Somebody who must not be in debt is.
    #[error("account {} is in debt: the books are wrong", .0.0)]
    InDebt(AccountId),
    /// There is no tree.
    #[error(transparent)]
    Liabilities(#[from] LiabilitiesError),
}

/// Why an epoch in the journal is not what the books say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EpochFailure {
    #[error("epoch {said} follows epoch {last}")]
    Number { said: u64, last: u64 },
    #[error("epoch {0} names another epoch before it")]
    Previous(u64),
    #[error("epoch {0} ends before something that it counts")]
    Time(u64),
    #[error("an event has an earlier time than the end of epoch {0} before it")]
    EventTime(u64),
    #[error(
        "epoch {number} says {said} nano-USD owed to {said_count} accounts, the books {total} to {count}"
    )]
    Total { number: u64, said: u128, said_count: u64, total: u128, count: u64 },
    #[error("epoch {0} has another root than the books")]
    Root(u64),
    #[error("the signature of epoch {0} is not the exchange's")]
    Signature(u64),
    #[error("epoch {0} cannot have ended: {1}")]
    Close(u64, CloseError),
}

/// An epoch that ends: everything but its root, which takes time.
pub(crate) struct EpochDraft {
    number: u64,
    closed_at: UnixMs,
    previous: Digest32,
    liabilities: Liabilities,
}

impl EpochDraft {
    /// Makes the tree and signs its root.
    pub(crate) fn sign(&self, signer: &Signer) -> EpochRecord {
        let seed = signer.derive(SEED_PURPOSE, self.number);
        let epoch = Epoch {
            number: self.number,
            closed_at: self.closed_at,
            root: self.liabilities.tree(&seed).root(),
            total_nano_usd: self.liabilities.total_nano_usd(),
            count: self.liabilities.count(),
            previous: self.previous,
        };
        EpochRecord { signed: signer.sign_epoch(epoch), seed }
    }
}

impl Core {
    /// Ends the epoch now. From here on until [`Core::epoch_signed`] nothing may be taken for the journal.
    /// `None` when nothing has happened since the last one.
    pub(crate) fn draft_epoch(&mut self, now: UnixMs) -> Result<Option<EpochDraft>, CloseError> {
        if self.state.events_applied() == self.epoch.events {
            return Ok(None);
        }
        let liabilities = self.liabilities()?;
        let closed_at = self.now().plus(DurationMs(1)).max(now);
        let previous = self.epoch.digest;
        let number = self.epoch.number + 1;
        let events = self.state.events_applied();
        self.epoch = LastEpoch { number, digest: previous, closed_at, events };
        Ok(Some(EpochDraft { number, closed_at, previous, liabilities }))
    }

    /// The epoch that was drafted is signed.
    pub(crate) fn epoch_signed(&mut self, epoch: &Epoch) {
        self.epoch.digest = epoch.digest();
    }

    /// Who is owed how much.
    pub(crate) fn liabilities(&self) -> Result<Liabilities, CloseError> {
        let clearing = self.state.account(CLEARING).map_or(0, |(_, balance)| balance.net_posted());
        if clearing != 0 {
            return Err(CloseError::Clearing(clearing));
        }
        let mut amounts = Vec::new();
        for (account, balance) in self.state.accounts() {
            if account.unit == Unit::NANO_USD && is_liability(account.kind) {
                let amount = balance.credits_posted.checked_sub(balance.debits_posted);
                amounts.push((account.id, amount.ok_or(CloseError::InDebt(account.id))?));
            }
        }
        Ok(Liabilities::new(amounts)?)
    }

    /// Holds a record of the journal against the books, and takes it.
    pub(super) fn replay_epoch(&mut self, record: &EpochRecord, verify: Verify) -> Result<(), EpochFailure> {
        let said = &record.signed.epoch;
        let (number, last) = (said.number, self.epoch);
        if number != last.number + 1 {
            return Err(EpochFailure::Number { said: number, last: last.number });
        }
        if said.previous != last.digest {
            return Err(EpochFailure::Previous(number));
        }
        if said.closed_at <= self.now() {
            return Err(EpochFailure::Time(number));
        }
        let owed = self.liabilities().map_err(|why| EpochFailure::Close(number, why))?;
        let (total, count) = (owed.total_nano_usd(), owed.count());
        if (said.total_nano_usd, said.count) != (total, count) {
            let (said, said_count) = (said.total_nano_usd, said.count);
            return Err(EpochFailure::Total { number, said, said_count, total, count });
        }
        if said.root != owed.tree(&record.seed).root() {
            return Err(EpochFailure::Root(number));
        }
        let is_signed = record.signed.exchange == self.exchange
            && (verify == Verify::Roots || verify_epoch(&record.signed).is_ok());
        if !is_signed {
            return Err(EpochFailure::Signature(number));
        }
        let events = self.state.events_applied();
        self.epoch = LastEpoch { number, digest: said.digest(), closed_at: said.closed_at, events };
        Ok(())
    }

    /// Events after the end of an epoch have its time or a later one.
    pub(super) fn check_event_time(&self, at: UnixMs) -> Result<(), EpochFailure> {
        if at < self.epoch.closed_at {
            return Err(EpochFailure::EventTime(self.epoch.number));
        }
        Ok(())
    }
}

/// Whether the market owes the balance to somebody who can look for it.
pub(crate) fn is_liability(kind: AccountKind) -> bool {
    match kind {
        AccountKind::Customer | AccountKind::SubAccount | AccountKind::SellerPayable => true,
        AccountKind::Allowance
        | AccountKind::Fee
        | AccountKind::Rounding
        | AccountKind::Subsidy
        | AccountKind::Clearing
        | AccountKind::Control
        | AccountKind::VerifierPool
        | AccountKind::Insurance
        | AccountKind::Burn
        | AccountKind::Escrow
        | AccountKind::Suspense => false,
    }
}

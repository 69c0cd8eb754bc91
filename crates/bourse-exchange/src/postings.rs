//! The journal as double entry: every settled movement, with the accounts that it moved between.
//!
//! What a chain settled together is one entry. Holds are no movements; what they become is, under the accounts that the
//! hold was made between. Reading is a walk, off the hot path, and needs no more memory than the chart of accounts and the
//! open holds; with both it can go on where it stopped ([`Walk::resumed`]).

use crate::keys::KeyRow;
use crate::names::{ESCROW, Names};
use crate::open::{OpenError, REPLAY_GROUPS};
use crate::payouts::PayoutRecord;
use crate::record::{EpochRecord, Record, Records};
use crate::suspense::SuspenseRecord;
use bourse_ledger::{
    Account, AccountKind, Amount, Batch, CodecError, Event, Group, Journal, Position, Transfer, TransferKind,
    Unit,
};
use bourse_types::{AccountId, RequestId, TransferId, UnixMs};
use bourse_wire::funds::Attendance;
use std::collections::HashMap;

/// From when on, and until when: what happened at `until` is not part of it. None is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// The first moment.
    pub from: Option<UnixMs>,
    /// The moment after the last.
    pub until: Option<UnixMs>,
}

impl Period {
    /// All of the time.
    pub const EVER: Self = Self { from: None, until: None };

    pub(crate) fn is_before(self, at: UnixMs) -> bool {
        self.from.is_some_and(|from| at < from)
    }

    pub(crate) fn is_after(self, at: UnixMs) -> bool {
        self.until.is_some_and(|until| at >= until)
    }

    pub(crate) fn holds(self, at: UnixMs) -> bool {
        !self.is_before(at) && !self.is_after(at)
    }
}

/// One movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) transfer: TransferId,
    pub(crate) debit: AccountId,
    pub(crate) credit: AccountId,
    pub(crate) amount: Amount,
}

/// Money that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) debit: AccountId,
    pub(crate) credit: AccountId,
    pub(crate) amount: Amount,
    pub(crate) expires_at: UnixMs,
}

/// What happened together.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) at: UnixMs,
    /// The request that it settles, if any.
    pub(crate) request: Option<RequestId>,
    /// At least one.
    pub(crate) postings: &'a [Posting],
}

/// Who has accounts, as far as the walk has come.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) names: Names,
    accounts: HashMap<AccountId, Account>,
}

impl Chart {
    pub(crate) fn kind(&self, account: AccountId) -> AccountKind {
        self.accounts.get(&account).map_or(AccountKind::Control, |account| account.kind)
    }

    pub(crate) fn unit(&self, account: AccountId) -> Unit {
        self.accounts.get(&account).map_or(Unit::NANO_USD, |account| account.unit)
    }
}

/// What the journal tells of money.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    /// An account was opened; its name may follow.
    Opened { at: UnixMs, account: &'a Account },
    /// An account is called this from now on.
    Named { account: AccountId, name: &'a str },
    /// Money was set aside under this id, or more of it.
    Held { at: UnixMs, id: TransferId, held: Held },
    /// This is not set aside any more: settled, let go or out of time.
    Freed { at: UnixMs, id: TransferId, held: Held },
    /// Money moved.
    Entry(&'a Entry<'a>),
    /// A receipt and its note as they are written, behind the entry that settled it.
    Receipt { at: UnixMs, receipt: &'a [u8], note: &'a [u8] },
    /// A key as it is from now on.
    Key(&'a KeyRow),
    /// What was owed, signed.
    Epoch(&'a EpochRecord),
    /// A node was there.
    Attended(&'a Attendance),
    /// A share of a seller waits, behind the receipt that it is of; or waits no more, behind the movement.
    Suspense { at: UnixMs, record: &'a SuspenseRecord },
    /// A payout is planned, or became something, behind its hold or its movement.
    Payout(&'a PayoutRecord),
}

/// Hands out every entry, oldest first, and gives back the whole chart.
pub(crate) fn walk<E: From<OpenError>>(
    journal: &dyn Journal,
    mut each: impl FnMut(&Chart, &Entry<'_>) -> Result<(), E>,
) -> Result<Chart, E> {
    walk_all(journal, |chart, told| match told {
        Told::Entry(entry) => each(chart, entry),
        _ => Ok(()),
    })
}

/// The same with everything else.
pub(crate) fn walk_all<E: From<OpenError>>(
    journal: &dyn Journal,
    mut each: impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
) -> Result<Chart, E> {
    let mut walk = Walk::resumed(HashMap::new());
    let mut at = Position::default();
    loop {
        let groups = journal.read(at, REPLAY_GROUPS).map_err(OpenError::from)?;
        for group in &groups {
            walk.group(group, &mut each)?;
            at = group.position;
        }
        if groups.len() < REPLAY_GROUPS {
            return Ok(walk.chart);
        }
    }
}

/// A reader of groups, one after another.
pub(crate) struct Walk {
    chart: Chart,
    holds: HashMap<TransferId, Held>,
    postings: Vec<Posting>,
    /// Of the last batch.
    at: UnixMs,
}

impl Walk {
    /// Goes on behind a group after which these holds were open. Its chart knows what it reads itself.
    pub(crate) fn resumed(holds: HashMap<TransferId, Held>) -> Self {
        let chart = Chart { names: Names::new(), accounts: HashMap::new() };
        Self { chart, holds, postings: Vec::new(), at: UnixMs(0) }
    }

    /// The ledger's time at the last events read.
    pub(crate) fn at(&self) -> UnixMs {
        self.at
    }

    /// Reads the next group.
    pub(crate) fn group<E: From<OpenError>>(
        &mut self,
        group: &Group,
        each: &mut impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let last_good = group.position.seq.saturating_sub(1);
        let what = |error: CodecError| OpenError::Replay { last_good, what: error.to_string() };
        let mut records = Records::new(&group.bytes);
        while let Some(record) = records.next() {
            match record.map_err(what)? {
                Record::Events(batch) => self.batch(&batch, each)?,
                Record::Name { account, name } => {
                    each(&self.chart, Told::Named { account, name: &name })?;
                    self.chart.names.add(account, name);
                }
                Record::Receipt { bytes: receipt, .. } => {
                    let note = records.take_note().map_err(what)?;
                    each(&self.chart, Told::Receipt { at: self.at, receipt, note })?;
                }
                Record::Key(row) => each(&self.chart, Told::Key(&row))?,
                Record::Epoch(epoch) => each(&self.chart, Told::Epoch(&epoch))?,
                Record::Attended(attendance) => each(&self.chart, Told::Attended(&attendance))?,
                Record::Suspense(record) => {
                    each(&self.chart, Told::Suspense { at: self.at, record: &record })?;
                }
                Record::Payout(record) => each(&self.chart, Told::Payout(&record))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn batch<E>(
        &mut self,
        batch: &Batch,
        each: &mut impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.at = batch.at;
        // The request of a chain is the first hold that the chain settles.
        let mut request = None;
        for event in &batch.events {
            match event {
                Event::Open(account) => {
                    if self.chart.accounts.insert(account.id, *account).is_none() {
                        each(&self.chart, Told::Opened { at: batch.at, account })?;
                    }
                }
                Event::Release { pending, .. } => drop(self.free(*pending, each)?),
                Event::Transfer(transfer) => self.transfer(transfer, &mut request, each)?,
            }
            if event.is_linked() {
                continue;
            }
            if !self.postings.is_empty() {
                let entry = Entry { at: batch.at, request, postings: &self.postings };
                each(&self.chart, Told::Entry(&entry))?;
                self.postings.clear();
            }
            request = None;
        }
        Ok(())
    }

    fn transfer<E>(
        &mut self,
        transfer: &Transfer,
        request: &mut Option<RequestId>,
        each: &mut impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (debit, credit, amount) = match transfer.kind {
            TransferKind::Single { debit, credit, amount } => (debit, credit, amount),
            TransferKind::Pending { debit, credit, amount, expires_at } => {
                let held = Held { debit, credit, amount, expires_at };
                return self.hold(transfer.id, held, each);
            }
            TransferKind::Raise { pending, to, expires_at } => {
                let Some(held) = self.holds.get(&pending).copied() else { return Ok(()) };
                let (amount, expires_at) = (held.amount.max(to), held.expires_at.max(expires_at));
                return self.hold(pending, Held { amount, expires_at, ..held }, each);
            }
            TransferKind::Post { pending, amount } => {
                let Some(held) = self.free(pending, each)? else { return Ok(()) };
                // A payout is no request.
                if held.credit != ESCROW {
                    request.get_or_insert(RequestId(pending.0));
                }
                (held.debit, held.credit, amount)
            }
            TransferKind::Void { pending } => return self.free(pending, each).map(drop),
        };
        self.postings.push(Posting { transfer: transfer.id, debit, credit, amount });
        Ok(())
    }

    fn hold<E>(
        &mut self,
        id: TransferId,
        held: Held,
        each: &mut impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(before) = self.holds.insert(id, held) {
            each(&self.chart, Told::Freed { at: self.at, id, held: before })?;
        }
        each(&self.chart, Told::Held { at: self.at, id, held })
    }

    fn free<E>(
        &mut self,
        id: TransferId,
        each: &mut impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
    ) -> Result<Option<Held>, E> {
        let Some(held) = self.holds.remove(&id) else { return Ok(None) };
        each(&self.chart, Told::Freed { at: self.at, id, held })?;
        Ok(Some(held))
    }
}

//! The journal as double entry: every settled movement, with the accounts that it moved between.
//!
//! What a chain settled together is one entry. Holds are no movements; what they become is, under the accounts that the
//! hold was made between. Reading is a walk from the beginning, off the hot path, and needs no more memory than the chart
//! of accounts and the open holds.

use crate::names::Names;
use crate::open::{OpenError, REPLAY_GROUPS};
use crate::record::{Record, Records};
use bourse_ledger::{
    Account, AccountKind, Amount, Batch, Event, Journal, Position, Transfer, TransferKind, Unit,
};
use bourse_types::{AccountId, RequestId, TransferId, UnixMs};
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
}

/// One movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posting {
    pub(crate) transfer: TransferId,
    pub(crate) debit: AccountId,
    pub(crate) credit: AccountId,
    pub(crate) amount: Amount,
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
#[derive(Debug)]
pub(crate) enum Told<'a> {
    Entry(&'a Entry<'a>),
    /// A receipt and its note as they are written, behind the entry that settled it.
    Receipt {
        at: UnixMs,
        receipt: &'a [u8],
        note: &'a [u8],
    },
}

/// Hands out every entry, oldest first, and gives back the whole chart.
pub(crate) fn walk<E: From<OpenError>>(
    journal: &dyn Journal,
    mut each: impl FnMut(&Chart, &Entry<'_>) -> Result<(), E>,
) -> Result<Chart, E> {
    walk_all(journal, |chart, told| match told {
        Told::Entry(entry) => each(chart, entry),
        Told::Receipt { .. } => Ok(()),
    })
}

/// The same with the receipts.
pub(crate) fn walk_all<E: From<OpenError>>(
    journal: &dyn Journal,
    mut each: impl FnMut(&Chart, Told<'_>) -> Result<(), E>,
) -> Result<Chart, E> {
    let mut walk = Walk {
        chart: Chart { names: Names::new(), accounts: HashMap::new() },
        holds: HashMap::new(),
        postings: Vec::new(),
        at: UnixMs(0),
    };
    let mut at = Position::default();
    loop {
        let groups = journal.read(at, REPLAY_GROUPS).map_err(OpenError::from)?;
        for group in &groups {
            let what = |error: bourse_ledger::CodecError| OpenError::Replay {
                last_good: at.seq,
                what: error.to_string(),
            };
            let mut records = Records::new(&group.bytes);
            while let Some(record) = records.next() {
                match record.map_err(what)? {
                    Record::Events(batch) => walk.batch(&batch, &mut each)?,
                    Record::Name { account, name } => walk.chart.names.add(account, name),
                    Record::Receipt { bytes: receipt, .. } => {
                        let note = records.take_note().map_err(what)?;
                        each(&walk.chart, Told::Receipt { at: walk.at, receipt, note })?;
                    }
                    _ => {}
                }
            }
            at = group.position;
        }
        if groups.len() < REPLAY_GROUPS {
            return Ok(walk.chart);
        }
    }
}

struct Walk {
    chart: Chart,
    holds: HashMap<TransferId, (AccountId, AccountId)>,
    postings: Vec<Posting>,
    /// Of the last batch.
    at: UnixMs,
}

impl Walk {
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
                Event::Open(account) => drop(self.chart.accounts.insert(account.id, *account)),
                Event::Release { pending, .. } => drop(self.holds.remove(pending)),
                Event::Transfer(transfer) => self.transfer(transfer, &mut request),
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

    fn transfer(&mut self, transfer: &Transfer, request: &mut Option<RequestId>) {
        let (debit, credit, amount) = match transfer.kind {
            TransferKind::Single { debit, credit, amount } => (debit, credit, amount),
            TransferKind::Pending { debit, credit, .. } => {
                self.holds.insert(transfer.id, (debit, credit));
                return;
            }
            TransferKind::Raise { .. } => return,
            TransferKind::Post { pending, amount } => {
                request.get_or_insert(RequestId(pending.0));
                let Some((debit, credit)) = self.holds.remove(&pending) else { return };
                (debit, credit, amount)
            }
            TransferKind::Void { pending } => {
                self.holds.remove(&pending);
                return;
            }
        };
        self.postings.push(Posting { transfer: transfer.id, debit, credit, amount });
    }
}

//! Reading the books: balances now, and the statement of one account.
//!
//! Both work on a live market and on a stopped one: they only read. A statement is a walk through the
//! whole journal, off the hot path, with the last lines kept.

use crate::core::Core;
use crate::names::Names;
use crate::open::{OpenError, REPLAY_GROUPS, replay_all};
use crate::record::{Record, Records};
use crate::store::reader;
use bourse_ledger::{Batch, Event, HashKey, Journal, Position, Transfer, TransferKind};
use bourse_types::{AccountId, NanoUsd, RequestId, TransferId, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// Lines of a statement, at most: the latest.
pub const STATEMENT_LINES_MAX: usize = 10_000;

/// The balance of one account. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLine {
    /// What it is called.
    pub name: String,
    /// What it is for, such as `customer`.
    pub kind: String,
    /// Credits less debits, settled.
    pub balance_usd: String,
    /// Debits held by open requests.
    pub held_usd: String,
    /// What it may still spend.
    pub available_usd: String,
}

/// One settled movement of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementLine {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The request that it settles, if any.
    pub request: Option<String>,
    /// The transfer's id in hexadecimal.
    pub transfer: String,
    /// The account on the other side.
    pub counterpart: String,
    /// With its sign: credits are positive.
    pub amount_usd: String,
    /// The balance after it.
    pub balance_usd: String,
}

/// Balances of all accounts in a data directory, live or not.
pub fn balances(dir: &Path) -> Result<Vec<AccountLine>, OpenError> {
    let journal = reader(dir)?;
    Ok(balances_of(&replay_all(journal.as_ref(), HashKey::default(), u64::MAX)?))
}

/// The last `lines_max` movements of an account in a data directory, live or not; `None` when there is
/// no such account. See [`STATEMENT_LINES_MAX`].
pub fn statement(
    dir: &Path,
    account: &str,
    lines_max: usize,
) -> Result<Option<Vec<StatementLine>>, OpenError> {
    statement_of(reader(dir)?.as_ref(), account, lines_max)
}

pub(crate) fn balances_of(core: &Core) -> Vec<AccountLine> {
    let line = |(account, balance): (bourse_ledger::Account, bourse_ledger::Balance)| AccountLine {
        name: core.names.name(account.id),
        kind: account.kind.name().to_owned(),
        balance_usd: usd(balance.net_posted()),
        held_usd: usd(signed(balance.debits_pending)),
        available_usd: usd(signed(balance.available())),
    };
    core.state.accounts().map(line).collect()
}

pub(crate) fn statement_of(
    journal: &dyn Journal,
    account: &str,
    lines_max: usize,
) -> Result<Option<Vec<StatementLine>>, OpenError> {
    let mut walk = Walk {
        names: Names::new(),
        wanted: account.to_owned(),
        holds: HashMap::new(),
        balance: 0,
        lines: VecDeque::new(),
        lines_max: lines_max.min(STATEMENT_LINES_MAX),
    };
    let mut at = Position::default();
    loop {
        let groups = journal.read(at, REPLAY_GROUPS)?;
        for group in &groups {
            for record in Records::new(&group.bytes) {
                let what = |error: bourse_ledger::CodecError| OpenError::Replay {
                    last_good: at.seq,
                    what: error.to_string(),
                };
                match record.map_err(what)? {
                    Record::Events(batch) => walk.batch(&batch),
                    Record::Name { account, name } => walk.names.add(account, name),
                    _ => {}
                }
            }
            at = group.position;
        }
        if groups.len() < REPLAY_GROUPS {
            return Ok(walk.names.account(account).map(|_| walk.lines.into()));
        }
    }
}

/// Follows one account through the journal.
struct Walk {
    names: Names,
    wanted: String,
    holds: HashMap<TransferId, (AccountId, AccountId)>,
    balance: i128,
    lines: VecDeque<StatementLine>,
    lines_max: usize,
}

impl Walk {
    fn batch(&mut self, batch: &Batch) {
        // The request of a chain is the first hold that the chain settles.
        let mut request = None;
        for event in &batch.events {
            match event {
                Event::Open(_) => {}
                Event::Release { pending, .. } => drop(self.holds.remove(pending)),
                Event::Transfer(transfer) => self.transfer(transfer, &mut request, batch.at),
            }
            if !event.is_linked() {
                request = None;
            }
        }
    }

    fn transfer(&mut self, transfer: &Transfer, request: &mut Option<RequestId>, at: UnixMs) {
        match transfer.kind {
            TransferKind::Single { debit, credit, amount } => {
                self.line(transfer.id, debit, credit, amount.nano_usd(), *request, at);
            }
            TransferKind::Pending { debit, credit, .. } => {
                self.holds.insert(transfer.id, (debit, credit));
            }
            TransferKind::Raise { .. } => {}
            TransferKind::Post { pending, amount } => {
                let request = *request.get_or_insert(RequestId(pending.0));
                if let Some((debit, credit)) = self.holds.remove(&pending) {
                    self.line(transfer.id, debit, credit, amount.nano_usd(), Some(request), at);
                }
            }
            TransferKind::Void { pending } => drop(self.holds.remove(&pending)),
        }
    }

    fn line(
        &mut self,
        id: TransferId,
        debit: AccountId,
        credit: AccountId,
        amount: NanoUsd,
        request: Option<RequestId>,
        at: UnixMs,
    ) {
        let Some(wanted) = self.names.account(&self.wanted) else { return };
        let (signed, other) = match wanted {
            account if account == debit => (-i128::from(amount.0), credit),
            account if account == credit => (i128::from(amount.0), debit),
            _ => return,
        };
        self.balance += signed;
        if self.lines.len() >= self.lines_max {
            self.lines.pop_front();
        }
        if self.lines_max > 0 {
            self.lines.push_back(StatementLine {
                at_ms: at.0,
                request: request.map(|request| request.to_string()),
                transfer: format!("{:032x}", id.0),
                counterpart: self.names.name(other),
                amount_usd: usd(signed),
                balance_usd: usd(self.balance),
            });
        }
    }
}

pub(crate) fn signed(sum: u128) -> i128 {
    i128::try_from(sum).unwrap_or(i128::MAX)
}

/// Nano-USD as decimal dollars with all nine places.
pub(crate) fn usd(nano: i128) -> String {
    const NANO_PER_USD: u128 = 1_000_000_000;
    let sign = if nano < 0 { "-" } else { "" };
    let size = nano.unsigned_abs();
    format!("{sign}{}.{:09}", size / NANO_PER_USD, size % NANO_PER_USD)
}

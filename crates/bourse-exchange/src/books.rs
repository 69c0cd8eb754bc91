//! Reading the books: balances now, and the statement of one account.
//!
//! Both work on a live market and on a stopped one: they only read. A statement is a walk through the
//! whole journal ([`postings`]), off the hot path, with the last lines kept.

use crate::core::{Core, Verify};
use crate::open::{OpenError, from_genesis, replay_all, replay_from};
use crate::postings::{self, Period};
use crate::store::reader;
use bourse_ledger::{HashKey, Journal, Position, Unit};
use bourse_types::TransferId;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;

/// Lines of one page of a statement, at most: the latest.
pub const STATEMENT_LINES_MAX: usize = 10_000;

/// Which lines of a statement are wanted: the latest, or those before a line that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementPage {
    /// How many; see [`STATEMENT_LINES_MAX`].
    pub lines_max: usize,
    /// The transfer of the first line of the page behind; none for the last page.
    pub before: Option<TransferId>,
}

impl From<usize> for StatementPage {
    /// The latest lines.
    fn from(lines_max: usize) -> Self {
        Self { lines_max, before: None }
    }
}

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

/// Balances of all accounts of money in a data directory, live or not.
pub fn balances(dir: &Path) -> Result<Vec<AccountLine>, OpenError> {
    let journal = reader(dir)?;
    Ok(balances_of(&replay_all(journal.as_ref(), HashKey::default(), u64::MAX)?))
}

/// A page of the movements of an account in a period, oldest first, in a data directory, live or not; `None` when there
/// is no such account.
pub fn statement(
    dir: &Path,
    account: &str,
    period: Period,
    page: impl Into<StatementPage>,
) -> Result<Option<Vec<StatementLine>>, OpenError> {
    statement_of(reader(dir)?.as_ref(), account, period, page)
}

pub(crate) fn balances_of(core: &Core) -> Vec<AccountLine> {
    let line = |(account, balance): (bourse_ledger::Account, bourse_ledger::Balance)| AccountLine {
        name: core.names.name(account.id),
        kind: account.kind.name().to_owned(),
        balance_usd: usd(balance.net_posted()),
        held_usd: usd(signed(balance.debits_pending)),
        available_usd: usd(signed(balance.available())),
    };
    // Rates count no money.
    core.state.accounts().filter(|(account, _)| account.unit == Unit::NANO_USD).map(line).collect()
}

/// Hands the balances after every group to `seen`.
pub(crate) fn balances_by_group(
    journal: &dyn Journal,
    seen: &mut dyn FnMut(u64, &[AccountLine]),
) -> Result<(), OpenError> {
    let genesis = from_genesis(journal, HashKey::default(), u64::MAX)?;
    let replayed = replay_from(journal, genesis, Position::default(), Verify::Signatures, |core, at| {
        seen(at.seq, &balances_of(core));
        Ok(())
    });
    replayed.map(drop)
}

pub(crate) fn statement_of(
    journal: &dyn Journal,
    account: &str,
    period: Period,
    page: impl Into<StatementPage>,
) -> Result<Option<Vec<StatementLine>>, OpenError> {
    let StatementPage { lines_max, before } = page.into();
    let lines_max = lines_max.min(STATEMENT_LINES_MAX);
    // The line that the page ends before.
    let mut is_met = before.is_none();
    let mut lines: VecDeque<StatementLine> = VecDeque::new();
    let mut balance = 0;
    let chart = postings::walk(journal, |chart, entry| {
        let Some(wanted) = chart.names.account(account).filter(|_| !period.is_after(entry.at)) else {
            return Ok::<_, OpenError>(());
        };
        for posting in entry.postings {
            let amount = i128::from(posting.amount.0);
            let (signed, other) = match wanted {
                account if account == posting.debit => (-amount, posting.credit),
                account if account == posting.credit => (amount, posting.debit),
                _ => continue,
            };
            balance += signed;
            if period.is_before(entry.at) {
                continue;
            }
            is_met |= before == Some(posting.transfer);
            if lines_max == 0 || (is_met && before.is_some()) {
                continue;
            }
            if lines.len() == lines_max {
                lines.pop_front();
            }
            lines.push_back(StatementLine {
                at_ms: entry.at.0,
                request: entry.request.map(|request| request.to_string()),
                transfer: format!("{:032x}", posting.transfer.0),
                counterpart: chart.names.name(other),
                amount_usd: usd(signed),
                balance_usd: usd(balance),
            });
        }
        Ok(())
    })?;
    match (chart.names.account(account), before) {
        (Some(_), Some(transfer)) if !is_met => Err(OpenError::NoMovement { transfer }),
        (known, _) => Ok(known.map(|_| lines.into())),
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

//! The statement of a day or a month in UTC: of one account, or of the whole market.
//!
//! The balance before and all movements make the balance after, to the nano-dollar. Beside the movements stand the
//! requests that they are for, by model: what a customer used, what a seller sold or was subsidised for. They are made from
//! the receipts, the movements from the postings; where the two do not meet there is no statement but an error. What a
//! seller's balance does not show (shares in suspense, what it gave away) is told apart and added to nothing.
//!
//! A seller's statement names no buyer. Limits: [`INVOICE_LINES_MAX`] lines of use.

mod draft;
mod market;
mod shown;

#[cfg(test)]
pub(crate) use market::market_statement_of;
pub use market::{KindLine, MarketStatement, market_statement};

use crate::invoice::{InvoiceError, InvoiceLine};
use crate::open::OpenError;
use crate::postings::{self, Period};
use crate::store::reader;
use bourse_ledger::Journal;
use bourse_types::UtcDay;
use draft::Draft;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// What a statement is of, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayOrMonth {
    /// One day.
    Day(UtcDay),
    /// The month of this day.
    Month(UtcDay),
}

impl DayOrMonth {
    /// From its first moment until before the first moment after it.
    pub fn period(self) -> Period {
        let (first, next) = match self {
            Self::Day(day) => (day, day.plus(1)),
            Self::Month(day) => (day.month_start(), day.month_start().plus(31).month_start()),
        };
        Period { from: Some(first.start()), until: Some(next.start()) }
    }
}

impl fmt::Display for DayOrMonth {
    /// As `2026-11-01` or `2026-11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => day.fmt(f),
            Self::Month(day) => {
                let text = day.to_string();
                f.write_str(text.rsplit_once('-').map_or(text.as_str(), |(month, _)| month))
            }
        }
    }
}

/// One account on one day, or in one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatement {
    /// Whose.
    pub account: String,
    /// What it is for, such as `customer`.
    pub kind: String,
    /// The day or the month in UTC.
    pub period: String,
    /// What was there before.
    pub opening_usd: String,
    /// What moved, by the account on the other side.
    pub movements: Vec<StatementMovements>,
    /// What came in.
    pub in_usd: String,
    /// What went out.
    pub out_usd: String,
    /// What is left.
    pub closing_usd: String,
    /// The requests behind the movements, and beside them.
    pub sections: Vec<StatementSection>,
}

/// StatementMovements with one other account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementMovements {
    /// The account on the other side.
    pub counterpart: String,
    /// How many.
    pub count: u64,
    /// What came in.
    pub in_usd: String,
    /// What went out.
    pub out_usd: String,
}

/// Requests of one sort, by model and seller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementSection {
    /// Of which sort.
    pub sort: StatementSort,
    /// By model and seller.
    pub lines: Vec<InvoiceLine>,
    /// Their sum.
    pub usd: String,
}

/// Why requests are in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementSort {
    /// What a customer used.
    Used,
    /// What buyers paid a seller for.
    Sold,
    /// What the market paid a seller for.
    Subsidised,
    /// Shares that wait until somebody decides: in no balance of the seller's.
    InSuspense,
    /// What a seller gave away, at list price: in no balance.
    GivenAway,
    /// What was free, and of which nobody said what it would have cost: of no known value.
    Unvalued,
}

impl StatementSort {
    /// What it is called on paper.
    pub fn title(self) -> &'static str {
        match self {
            Self::Used => "Used",
            Self::Sold => "Sold",
            Self::Subsidised => "Paid by the market for free offers",
            Self::InSuspense => "In suspense, not in the balance",
            Self::GivenAway => "Given away at list price, not in the balance",
            Self::Unvalued => "Free, of no known value",
        }
    }

    /// What it is called in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Sold => "sold",
            Self::Subsidised => "subsidised",
            Self::InSuspense => "in suspense",
            Self::GivenAway => "given away",
            Self::Unvalued => "free",
        }
    }

    /// The account that its movements are with; none where it has none.
    fn counterpart(self) -> Option<bourse_types::AccountId> {
        match self {
            Self::Used | Self::Sold => Some(crate::names::CLEARING),
            Self::Subsidised => Some(crate::names::SUBSIDY),
            Self::InSuspense | Self::GivenAway | Self::Unvalued => None,
        }
    }
}

/// The statement of an account of a data directory, live or not.
pub fn account_statement(
    dir: &Path,
    account: &str,
    of: DayOrMonth,
) -> Result<AccountStatement, InvoiceError> {
    account_statement_of(reader(dir).map_err(OpenError::from)?.as_ref(), account, of)
}

pub(crate) fn account_statement_of(
    journal: &dyn Journal,
    account: &str,
    of: DayOrMonth,
) -> Result<AccountStatement, InvoiceError> {
    let mut draft = Draft::of(account, of);
    let chart = postings::walk_all(journal, |chart, told| draft.take(chart, told))?;
    draft.finish(&chart)
}

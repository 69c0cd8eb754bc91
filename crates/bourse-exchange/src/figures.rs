//! The market's figures of a day: what was used, by who paid; what it earned; what was given away.
//!
//! They follow from the journal alone, so that whoever has it finds the same. A request is *paid*, *subsidised*, *free* or
//! by the buyer's *own key*, one of them and whole:
//!
//! | class | which requests |
//! | --- | --- |
//! | own key | the buyer's own key at the seller served |
//! | subsidised | the market paid the seller of a free offer, or any part of the charge was paid by credit that the market had given |
//! | free | it was charged nothing, though something was delivered |
//! | paid | all others |
//!
//! Credit that the market gave is spent first, account by account: a request that drew on it at all is subsidised whole,
//! so that no gift passes as revenue; the error is less than one request for each gift. What comes back to a buyer out of
//! suspense is a gift again where it was one. Requests of which nothing was delivered are not counted.
//!
//! Revenue of a seller is what came to it on the day for paid requests: out of clearing, or out of suspense when it was
//! given to the seller. Why so: docs/decisions/0020. No figure names a buyer.
//!
//! Limits: [`FIGURES_DAYS_MAX`] days, and [`FIGURES_ROWS_MAX`] models and sellers of one day; what finds no row goes to
//! `other`.

mod book;
mod day;
mod draft;
mod hours;
mod table;

pub use book::FIGURES_AFTER;
pub(crate) use book::FiguresBook;
#[cfg(test)]
pub(crate) use book::GROUPS_AT_ONCE_MAX;
pub use day::DayFigures;
pub(crate) use draft::Draft;

use crate::open::OpenError;
use crate::postings;
use crate::store::reader;
use bourse_ledger::Journal;
use bourse_types::UtcDay;
use std::path::Path;

/// Days of figures, at most.
pub const FIGURES_DAYS_MAX: usize = 366;
/// Models of one day, at most, and sellers; the rest is one row more.
pub const FIGURES_ROWS_MAX: usize = 512;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum FiguresError {
    /// The books could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// More days than are told at a time.
    #[error(
        "the period has more than {FIGURES_DAYS_MAX} days in which something happened: ask for a shorter one"
    )]
    TooLong,
    /// The books contradict themselves.
    #[error("the books do not add up: receipts say {receipts} USD, postings {postings} USD")]
    Contradiction {
        /// Sum of the charges of all receipts.
        receipts: String,
        /// Sum of what accounts paid into clearing.
        postings: String,
    },
}

/// Which days: from the first on, until before the last. None is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Days {
    /// The first.
    pub from: Option<UtcDay>,
    /// The one after the last.
    pub until: Option<UtcDay>,
}

impl Days {
    fn holds(self, day: UtcDay) -> bool {
        self.from.is_none_or(|from| day >= from) && self.until.is_none_or(|until| day < until)
    }
}

/// The figures of a data directory, live or not, of all days in which something happened, oldest first.
pub fn figures(dir: &Path, days: Days) -> Result<Vec<DayFigures>, FiguresError> {
    figures_of(reader(dir).map_err(OpenError::from)?.as_ref(), days)
}

pub(crate) fn figures_of(journal: &dyn Journal, days: Days) -> Result<Vec<DayFigures>, FiguresError> {
    let mut draft = Draft::of(days);
    postings::walk_all(journal, |chart, told| draft.take(chart, told))?;
    draft.check()?;
    Ok(draft.into_days())
}

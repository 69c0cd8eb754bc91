//! Figures of completed days, kept for whoever asks: anybody may, so they are made once.
//!
//! The book reads the journal on from where it stopped, when it is asked for a day that it does not know yet. It never
//! reads more than [`GROUPS_AT_ONCE_MAX`] groups for one question; what is further away the keeper reads meanwhile, and the
//! asker is told to come again. It lives in memory and begins anew with the exchange, since the gifts that are left follow
//! from the whole journal. A day is told [`FIGURES_AFTER`] after its end, when nothing is settled on it any more, and then
//! never changes.

use super::{Days, Draft, FiguresError};
use crate::exchange::{Exchange, Shared};
use crate::open::{OpenError, REPLAY_GROUPS};
use crate::postings::Walk;
use bourse_ledger::{Journal, Position};
use bourse_types::{DurationMs, UnixMs, UtcDay};
use bourse_wire::api::MarketFigures;
use bourse_wire::funds::{FIGURES_BYTES_MAX, FIGURES_DAYS, FundsError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Groups that are read for one question, at most.
pub(crate) const GROUPS_AT_ONCE_MAX: usize = 4 * REPLAY_GROUPS;
/// How long the keeper reads in one turn, at most, and a step more.
const KEEPER_READS: Duration = Duration::from_millis(250);
/// How long after its end a day is complete: gateways tell every quarter of an hour which nodes are there.
pub const FIGURES_AFTER: DurationMs = DurationMs(1_800_000);

/// What is known of the journal so far.
pub(crate) struct FiguresBook {
    walk: Walk,
    at: Position,
    draft: Draft,
    /// Somebody asked for more than was read for it.
    is_behind: bool,
}

impl FiguresBook {
    pub(crate) fn new() -> Self {
        let (walk, at) = (Walk::resumed(HashMap::new()), Position::default());
        Self { walk, at, draft: Draft::of(Days::default()), is_behind: false }
    }

    /// Reads on by one step. Whether it came to the journal's end.
    fn step(&mut self, journal: &dyn Journal) -> Result<bool, FiguresError> {
        let groups = journal.read(self.at, REPLAY_GROUPS).map_err(OpenError::from)?;
        for group in &groups {
            let draft = &mut self.draft;
            self.walk.group(group, &mut |chart, told| draft.take(chart, told))?;
            self.at = group.position;
            draft.keep_days(FIGURES_DAYS);
        }
        Ok(groups.len() < REPLAY_GROUPS)
    }
}

impl Shared {
    /// Reads on where somebody asked for more than was read for it: the keeper's part.
    pub(crate) fn keep_figures(&self) {
        let mut book = self.figures.lock();
        let until = Instant::now() + KEEPER_READS;
        while book.is_behind && Instant::now() < until {
            match self.figures_step(&mut book) {
                Ok(is_done) => book.is_behind = !is_done,
                Err(error) => {
                    tracing::error!(%error, "the market's figures cannot be made");
                    book.is_behind = false;
                }
            }
        }
    }

    fn figures_step(&self, book: &mut FiguresBook) -> Result<bool, FiguresError> {
        self.index.lock().with_journal(|journal| book.step(journal))
    }
}

impl Exchange {
    /// The public figures of a completed day as JSON; none of a day that is not complete or not kept any more. What happened
    /// on it is on disk by then: nothing is committed for whoever asks.
    pub(crate) fn figures_of_day(&self, day: UtcDay, now: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        let today = UtcDay::of(now);
        let is_kept = day < today && day >= today.minus(FIGURES_DAYS);
        if !is_kept || now < day.plus(1).start().plus(FIGURES_AFTER) {
            return Ok(None);
        }
        let later = || FundsError::TooMany("groups of the journal to read at once");
        let mut book = self.shared.figures.try_lock().ok_or_else(later)?;
        if UtcDay::of(book.walk.at()) <= day {
            let mut is_done = false;
            for _ in 0..GROUPS_AT_ONCE_MAX / REPLAY_GROUPS {
                is_done =
                    self.shared.figures_step(&mut book).map_err(|e| FundsError::Journal(e.to_string()))?;
                if is_done {
                    break;
                }
            }
            book.is_behind = !is_done;
            if !is_done && UtcDay::of(book.walk.at()) <= day {
                return Err(later());
            }
        }
        let figures = MarketFigures::from(&book.draft.day_or_nothing(day));
        let text = serde_json::to_string(&figures).map_err(|e| FundsError::Journal(e.to_string()))?;
        if text.len() > FIGURES_BYTES_MAX {
            return Err(FundsError::TooMany("bytes of figures"));
        }
        Ok(Some(text.into()))
    }
}

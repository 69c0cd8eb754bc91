//! Opening: from a journal to a core.

use crate::config::ExchangeConfig;
use crate::core::{Core, ReplayFailure, Verify};
use crate::data_dir::{DataDirError, Entropy};
use crate::index::IndexError;
use crate::store::{place, reader};
use bourse_ledger::{HashKey, Journal, JournalError, Position, State};
use bourse_types::{Digest32, Fault, RequestId, TransferId, UnixMs};
use bourse_wire::funds::FundsError;
use std::path::Path;

/// Groups read at a time while replaying.
pub(crate) const REPLAY_GROUPS: usize = 256;

/// Why a market could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, its lock or its key.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The journal's store.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A group of the journal is not what this exchange wrote.
    #[error("the journal is good up to group {last_good}, then: {what}")]
    Replay {
        /// The last group that replays, with all before it.
        last_good: u64,
        /// What is wrong with the next.
        what: String,
    },
    /// A group was asked for that is not there.
    #[error("the journal has groups 1 to {last}; {asked} is none of them")]
    NoGroup {
        /// The group.
        asked: u64,
        /// The last one that is there.
        last: u64,
    },
    /// A page of a statement was to end before a movement that is not in it.
    #[error("the account has no transfer {:032x} in that time", transfer.0)]
    NoMovement {
        /// The transfer.
        transfer: TransferId,
    },
    /// The journal was written under another key.
    #[error("the journal belongs to exchange {journal}, the key file to {key}")]
    WrongKey {
        /// Public key in the journal.
        journal: Digest32,
        /// Public key of the key file.
        key: Digest32,
    },
    /// The share of the market is over the whole.
    #[error("{field} is {value}; the most is 10,000")]
    Fee {
        /// Which share.
        field: &'static str,
        /// What was set.
        value: u32,
    },
    /// The system gave no thread.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
    /// The receipts index.
    #[error("the receipts index: {0}")]
    Index(String),
    /// What opening itself had to write was not committed.
    #[error("the first commit failed")]
    FirstCommit(#[source] FundsError),
}

impl OpenError {
    /// The market's, unless something was asked for that is not there.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoGroup { .. } | Self::NoMovement { .. } => Fault::Buyer,
            _ => Fault::Bourse,
        }
    }
}

impl From<IndexError> for OpenError {
    fn from(error: IndexError) -> Self {
        Self::Index(error.to_string())
    }
}

/// Whether the books of a data directory lie in a database.
pub fn are_in_a_database(dir: &Path) -> Result<bool, OpenError> {
    Ok(place(dir)?.is_some())
}

/// Whether there are books in reach: their store answers and knows them. Reads nothing more, and waits for no lease.
pub fn are_in_reach(dir: &Path) -> bool {
    reader(dir).is_ok()
}

/// Replays a journal, or begins one.
pub(crate) fn recover(
    journal: &dyn Journal,
    exchange: &Digest32,
    config: &ExchangeConfig,
    entropy: &mut Entropy,
    now: UnixMs,
) -> Result<Core, OpenError> {
    for (field, value) in [("fee_bps", config.fee_bps), ("byok.fee_bps", config.byok.fee_bps)] {
        if value > 10_000 {
            return Err(OpenError::Fee { field, value });
        }
    }
    let key = entropy.hash_key()?;
    if journal.last() == Position::default() {
        let state = State::new(config.limits, key);
        let mut core = Core::new(state, *exchange, config.snapshot_events, key);
        let id = RequestId::new(now, entropy.draw()?).transfer(0);
        core.begin(&config.limits, config.starting_credit, id, now).map_err(OpenError::FirstCommit)?;
        return Ok(core);
    }
    let mut core = replay_all(journal, key, config.snapshot_events)?;
    core.order_rates();
    if core.exchange != *exchange {
        return Err(OpenError::WrongKey { journal: core.exchange, key: *exchange });
    }
    Ok(core)
}

/// The state at the end of a journal, from its snapshot where there is a usable one.
pub(crate) fn replay_all(
    journal: &dyn Journal,
    key: HashKey,
    snapshot_every: u64,
) -> Result<Core, OpenError> {
    let (core, at) = match from_snapshot(journal, key, snapshot_every)? {
        Some(found) => found,
        None => (from_genesis(journal, key, snapshot_every)?, Position::default()),
    };
    replay_from(journal, core, at, Verify::Roots, |_, _| Ok(()))
}

/// The empty core of a journal that is not empty.
pub(crate) fn from_genesis(
    journal: &dyn Journal,
    key: HashKey,
    snapshot_every: u64,
) -> Result<Core, OpenError> {
    let first = journal.read(Position::default(), 1)?;
    let first = first.first().ok_or_else(|| failed(0, &ReplayFailure::NoGenesis))?;
    Core::from_genesis(first, key, snapshot_every).map_err(|why| failed(0, &why))
}

/// The core of the last snapshot and its place; `None` when there is none that can be read. A snapshot
/// of a group that the journal does not have is an error: one of the two lost something.
pub(crate) fn from_snapshot(
    journal: &dyn Journal,
    key: HashKey,
    snapshot_every: u64,
) -> Result<Option<(Core, Position)>, OpenError> {
    let damaged = |error: &dyn std::fmt::Display| {
        tracing::warn!(%error, "the snapshot is damaged; replaying from the beginning");
        Ok(None)
    };
    let snapshot = match journal.load_snapshot() {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => return Ok(None),
        Err(JournalError::Damaged { what, .. }) => return damaged(&what),
        Err(error) => return Err(error.into()),
    };
    journal.read(snapshot.at, 0)?;
    match Core::from_snapshot(&snapshot.bytes, snapshot.at, key, snapshot_every) {
        Ok(core) => Ok(Some((core, snapshot.at))),
        Err(error) => damaged(&error),
    }
}

/// Applies every group after `at`; `seen` is called after each.
pub(crate) fn replay_from(
    journal: &dyn Journal,
    core: Core,
    at: Position,
    verify: Verify,
    seen: impl FnMut(&Core, Position) -> Result<(), OpenError>,
) -> Result<Core, OpenError> {
    replay_until(journal, (core, at), u64::MAX, verify, seen).map(|(core, _)| core)
}

/// The same up to the group `end`, or to the last one that is there.
pub(crate) fn replay_until(
    journal: &dyn Journal,
    (mut core, mut at): (Core, Position),
    end: u64,
    verify: Verify,
    mut seen: impl FnMut(&Core, Position) -> Result<(), OpenError>,
) -> Result<(Core, Position), OpenError> {
    while at.seq < end {
        let count = usize::try_from(end - at.seq).unwrap_or(usize::MAX).min(REPLAY_GROUPS);
        let groups = journal.read(at, count)?;
        for group in &groups {
            core.replay_group(group, verify).map_err(|why| failed(at.seq, &why))?;
            at = group.position;
            seen(&core, at)?;
        }
        if groups.len() < count {
            break;
        }
    }
    Ok((core, at))
}

fn failed(last_good: u64, why: &ReplayFailure) -> OpenError {
    OpenError::Replay { last_good, what: why.to_string() }
}

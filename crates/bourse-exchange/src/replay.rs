//! The books as they were: the journal replayed from its beginning up to a group.
//!
//! Same journal, same bits: the digest after a group is the same whenever and wherever it is replayed, and is what two
//! copies of the books are compared by. Every signature on the way is checked. It only reads, beside a live market too.

use crate::books::{AccountLine, balances_of};
use crate::core::Verify;
use crate::open::{OpenError, from_genesis, replay_until};
use crate::store::reader;
use bourse_ledger::{HashKey, Journal, Position};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The books after a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayReport {
    /// The group.
    pub group: u64,
    /// Its hash, with all before it.
    pub chain: String,
    /// When the last event happened, in Unix milliseconds.
    pub at_ms: u64,
    /// Ledger events replayed.
    pub events: u64,
    /// Receipts in the log.
    pub receipts: u64,
    /// Holds that were open.
    pub holds_open: usize,
    /// Digest of the whole state.
    pub state_digest: String,
    /// Root of the receipts log.
    pub receipts_root: String,
    /// Balances of all accounts.
    pub accounts: Vec<AccountLine>,
}

/// Replays the journal of a data directory, live or not, up to a group, or to its end. `seen` hears of groups done and
/// of groups in all.
pub fn replay(dir: &Path, group: Option<u64>, seen: impl FnMut(u64, u64)) -> Result<ReplayReport, OpenError> {
    replay_of(reader(dir)?.as_ref(), group, seen)
}

pub(crate) fn replay_of(
    journal: &dyn Journal,
    group: Option<u64>,
    mut seen: impl FnMut(u64, u64),
) -> Result<ReplayReport, OpenError> {
    let last = journal.last().seq;
    let end = group.unwrap_or(last);
    if end == 0 || end > last {
        return Err(OpenError::NoGroup { asked: end, last });
    }
    let genesis = from_genesis(journal, HashKey::default(), u64::MAX)?;
    let start = (genesis, Position::default());
    let (core, at) = replay_until(journal, start, end, Verify::Signatures, |_, at| {
        seen(at.seq, end);
        Ok(())
    })?;
    Ok(ReplayReport {
        group: at.seq,
        chain: at.chain.to_string(),
        at_ms: core.now().0,
        events: core.state.events_applied(),
        receipts: core.log.size(),
        holds_open: core.state.pendings_count(),
        state_digest: core.digest().to_string(),
        receipts_root: core.log.root().to_string(),
        accounts: balances_of(&core),
    })
}

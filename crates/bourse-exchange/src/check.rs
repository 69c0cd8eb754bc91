//! The audit of the books: everything recomputed from the journal, nothing believed.
//!
//! The journal is replayed twice, from its beginning with every signature checked, and from its last
//! snapshot; both must end in the same bits. Then the laws of the books, and a reason for every open
//! hold. It only reads, and works beside a live market.

use crate::core::{Core, Verify};
use crate::data_dir::is_live;
use crate::names::ESCROW;
use crate::open::{OpenError, from_genesis, from_snapshot, replay_from, replay_until};
use crate::store::{SqliteJournal, check_tail, place, reader, tail_of};
use bourse_ledger::{Balance, HashKey, Journal, JournalError, Pending, Position, Unit};
use bourse_types::{DurationMs, UnixMs};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How long after its expiry a hold may still be open in a live market: some turns of the keeper.
pub const RELEASE_GRACE: DurationMs = DurationMs(10_000);

/// What a check found. Clean when `problems` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What the books hold; none when they could not be read to their end. Flat in JSON.
    #[serde(flatten)]
    pub facts: Option<BooksFacts>,
    /// The last group that is good, with all before it.
    pub last_good_group: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// What a whole journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BooksFacts {
    /// Commit groups replayed.
    pub groups: u64,
    /// Ledger events replayed.
    pub events: u64,
    /// Receipts in the log.
    pub receipts: u64,
    /// Epochs that ended.
    pub epochs: u64,
    /// Accounts.
    pub accounts: usize,
    /// Open holds of requests in flight, in a live market.
    pub holds_open: usize,
    /// Open holds of a market that has stopped: what a crash left behind, which the next start releases, or of gateways on
    /// other machines, which go on with them.
    pub holds_orphaned: usize,
    /// Payouts on their way.
    pub payouts_open: usize,
    /// Settled debits of all accounts in nano-USD, equal to the settled credits when the books sum to zero.
    pub debits_posted: String,
    /// Settled credits of all accounts in nano-USD.
    pub credits_posted: String,
    /// Digest of the state, the same from every replay.
    pub state_digest: String,
    /// Root of the receipts log.
    pub receipts_root: String,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Whether a market is running over the journal that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Market {
    Live,
    Stopped,
}

/// Checks the books in a data directory. An error means that there are no books to check; damage is a
/// problem in the report.
pub fn check(dir: &Path, now: UnixMs) -> Result<CheckReport, OpenError> {
    let market = if is_live(dir) { Market::Live } else { Market::Stopped };
    match opened(dir) {
        Ok((journal, lost)) => {
            let mut report = check_journal(journal.as_ref(), market, now);
            if let Some(JournalError::Damaged { last_good, what }) = lost {
                report.last_good_group = report.last_good_group.min(last_good);
                report.problems.insert(0, what);
            }
            Ok(report)
        }
        Err(JournalError::Damaged { last_good, what }) => Ok(damaged(last_good, &what)),
        Err(error) => Err(error.into()),
    }
}

/// The journal as far as it can be read, and what says that its end was lost.
fn opened(dir: &Path) -> Result<(Box<dyn Journal>, Option<JournalError>), JournalError> {
    if place(dir)?.is_none() {
        let (journal, lost) = SqliteJournal::open_unverified(dir)?;
        return Ok((Box::new(journal), lost));
    }
    let tail = tail_of(dir);
    let journal = reader(dir)?;
    let lost = check_tail(journal.as_ref(), tail).err();
    Ok((journal, lost))
}

pub(crate) fn check_journal(journal: &dyn Journal, market: Market, now: UnixMs) -> CheckReport {
    match replay_twice(journal) {
        Ok((core, at, mut problems)) => {
            let mut report = report(&core, at, market, now);
            problems.append(&mut report.problems);
            CheckReport { problems, ..report }
        }
        Err(
            OpenError::Replay { last_good, what }
            | OpenError::Journal(JournalError::Damaged { last_good, what }),
        ) => damaged(last_good, &what),
        Err(error) => damaged(0, &error.to_string()),
    }
}

/// Replays from the beginning and from the snapshot; both must agree where the snapshot stands and at
/// the end.
fn replay_twice(journal: &dyn Journal) -> Result<(Core, Position, Vec<String>), OpenError> {
    let key = HashKey::default();
    let mut problems = Vec::new();
    let snapshot = match journal.load_snapshot() {
        Err(JournalError::Damaged { what, .. }) => {
            problems.push(format!("the snapshot cannot be read: {what}"));
            None
        }
        loaded => loaded?,
    };
    let genesis = from_genesis(journal, key, u64::MAX)?;
    let mut end = Position::default();
    let mut met = false;
    let whole = replay_from(journal, genesis, Position::default(), Verify::Signatures, |core, at| {
        end = at;
        if let Some(snapshot) = snapshot.as_ref().filter(|snapshot| snapshot.at.seq == at.seq) {
            met = true;
            if snapshot.at != at || !is_same(core, &snapshot.bytes, at) {
                problems.push(format!("the snapshot after group {} is not what replay gives", at.seq));
            }
        }
        Ok(())
    })?;
    if snapshot.is_some() && !met {
        problems.push("the snapshot is of a group that the journal does not have".to_owned());
    }
    match from_snapshot(journal, key, u64::MAX) {
        Ok(Some((core, at))) => {
            // A live market goes on writing; the second replay ends where the first one did.
            let (resumed, at) = replay_until(journal, (core, at), end.seq, Verify::Roots, |_, _| Ok(()))?;
            // A snapshot may be younger than that.
            if at == end && resumed.digest() != whole.digest() {
                problems.push("replays from the beginning and from the snapshot differ".to_owned());
            }
        }
        Ok(None) if snapshot.is_some() => problems.push("the snapshot cannot be read".to_owned()),
        Ok(None) => {}
        Err(error) => problems.push(format!("the snapshot cannot be used: {error}")),
    }
    Ok((whole, end, problems))
}

/// Whether a snapshot means this state. One of an older format has other bytes.
fn is_same(core: &Core, snapshot: &[u8], at: Position) -> bool {
    let replayed = core.encode_snapshot();
    replayed == snapshot
        || Core::from_snapshot(snapshot, at, HashKey::default(), u64::MAX)
            .is_ok_and(|read| read.encode_snapshot() == replayed)
}

fn report(core: &Core, at: Position, market: Market, now: UnixMs) -> CheckReport {
    let mut problems = Vec::new();
    if let Err(error) = core.state.check_books() {
        problems.push(error.to_string());
    }
    let clearing = core.state.account(crate::names::CLEARING).map_or(0, |(_, balance)| balance.net_posted());
    if clearing != 0 {
        problems.push(format!("clearing holds {clearing} nano-USD between settlements"));
    }
    let waiting = core.state.account(crate::names::SUSPENSE).map_or(0, |(_, balance)| balance.net_posted());
    let cases = core.suspense.total();
    if u128::try_from(waiting) != Ok(cases) {
        problems.push(format!("suspense holds {waiting} nano-USD, its open cases are worth {cases}"));
    }
    problems.append(&mut core.payout_problems());
    let holds = core.state.pendings();
    let of_requests = |hold: &Pending| !core.is_rate(hold.debit) && hold.credit != ESCROW;
    let of_money = holds.iter().filter(|(_, hold)| of_requests(hold)).count();
    let overdue = |expires_at: UnixMs| expires_at.plus(RELEASE_GRACE) < now;
    if market == Market::Live {
        let unexplained = holds.iter().filter(|(_, hold)| overdue(hold.expires_at)).count();
        if unexplained > 0 {
            problems.push(format!("{unexplained} holds are open beyond their time"));
        }
    }
    let (holds_open, holds_orphaned) = if market == Market::Live { (of_money, 0) } else { (0, of_money) };
    let in_money = || core.state.accounts().filter(|(account, _)| account.unit == Unit::NANO_USD);
    let sum = |side: fn(&Balance) -> u128| in_money().map(|(_, b)| side(&b)).sum::<u128>();
    let facts = BooksFacts {
        groups: at.seq,
        events: core.state.events_applied(),
        receipts: core.log.size(),
        epochs: core.epoch.number,
        accounts: core.state.accounts().len(),
        holds_open,
        holds_orphaned,
        payouts_open: core.payouts.open().len(),
        debits_posted: sum(|balance| balance.debits_posted).to_string(),
        credits_posted: sum(|balance| balance.credits_posted).to_string(),
        state_digest: core.digest().to_string(),
        receipts_root: core.log.root().to_string(),
    };
    CheckReport { facts: Some(facts), last_good_group: at.seq, problems }
}

/// Nothing is known of books that end in the middle, least of all sums.
fn damaged(last_good: u64, what: &str) -> CheckReport {
    CheckReport {
        facts: None,
        last_good_group: last_good,
        problems: vec![format!("the journal is good up to group {last_good}, then: {what}")],
    }
}

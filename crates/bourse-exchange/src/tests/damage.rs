//! Damage to what is on disk: found, named, and never continued from.

use super::support::{START, hold, request, serve};
use super::{facts, key, market_in};
use crate::data_dir::Entropy;
use crate::exchange::Parts;
use crate::index::MemoryIndex;
use crate::memory::SharedJournal;
use crate::store::{JOURNAL_FILE, TAIL_FILE};
use crate::{CheckReport, Exchange, ExchangeConfig, Holds, OpenError, SqliteJournal, check};
use bourse_ledger::conformance::check_journal;
use bourse_ledger::{Group, Journal, JournalError, Position, Snapshot};
use bourse_proof::sign::Signer;
use bourse_types::UnixMs;
use bourse_wire::funds::{Funds, FundsError};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn the_sqlite_journal_conforms() {
    let dir = tempfile::tempdir().unwrap();
    check_journal(|before: Option<SqliteJournal>| {
        drop(before);
        SqliteJournal::open(dir.path()).unwrap()
    });
    let mut reader = SqliteJournal::open_read_only(dir.path()).unwrap();
    assert!(matches!(reader.append(b"x"), Err(JournalError::Store(_))));
}

/// A stopped market of eight groups: genesis, a key, five requests, an epoch.
fn stopped_market(dir: &Path) {
    let never = Duration::from_hours(1);
    let config =
        ExchangeConfig { commit_window: never, lazy_commit_window: never, ..ExchangeConfig::default() };
    let exchange = Exchange::open(dir, config, START).unwrap();
    let grant = key(&exchange, None);
    for n in 0..5 {
        serve(&exchange, n, grant, START).unwrap();
        exchange.flush().unwrap();
    }
    exchange.close().unwrap();
}

fn sql(dir: &Path, sql: &str) {
    Connection::open(dir.join(JOURNAL_FILE)).unwrap().execute_batch(sql).unwrap();
}

/// Damages a stopped market and compares the last good group and a word of the reason.
fn check_damage(damage: impl FnOnce(&Path), last_good: u64, word: &str) {
    // A lost tail or a lying snapshot leaves books that can be read to their end.
    let is_whole = word.contains("snapshot") || word.contains("is gone");
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let before = check(dir.path(), START).unwrap();
    assert!(before.is_clean(), "{before:?}");
    damage(dir.path());
    let report = check(dir.path(), START).unwrap();
    assert!(!report.is_clean() && report.problems[0].contains(word), "{report:?}");
    assert_eq!(report.last_good_group, last_good, "{report:?}");
    assert_eq!(report.facts.is_some(), is_whole, "{report:?}");
}

/// SQL of a byte that is not the one at that place, whatever that is.
fn another_byte(place: &str) -> String {
    format!("CASE {place} WHEN x'ff' THEN x'00' ELSE x'ff' END")
}

#[test]
fn a_flipped_bit_in_a_group_is_found() {
    let other = another_byte("substr(bytes, 51, 1)");
    let flip = format!(
        "UPDATE journal SET bytes = CAST(substr(bytes, 1, 50) || {other} || substr(bytes, 52) AS BLOB) WHERE seq = 4"
    );
    check_damage(|dir| sql(dir, &flip), 3, "the bytes of group 4 are not what was written");
    check_damage(|dir| sql(dir, "DELETE FROM journal WHERE seq = 4"), 3, "group 4 is missing");
    let rewrite = "UPDATE journal SET chain = zeroblob(32) WHERE seq = 2";
    check_damage(|dir| sql(dir, rewrite), 1, "group 2");
}

/// A stopped market and the bytes of its database.
struct Stored {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    groups: Vec<Group>,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        stopped_market(dir.path());
        let groups =
            SqliteJournal::open_read_only(dir.path()).unwrap().read(Position::default(), 99).unwrap();
        let bytes = std::fs::read(dir.path().join(JOURNAL_FILE)).unwrap();
        Self { dir, bytes, groups }
    }

    /// Where the chain hash of a group lies: in its own row, and in the snapshot's.
    fn places(&self, group: &Group) -> (Option<usize>, Option<usize>) {
        let chain = group.position.chain.0;
        let mut places = (None, None);
        for at in (0..self.bytes.len()).filter(|at| self.bytes[*at..].starts_with(&chain)) {
            let is_own = self.bytes[at + chain.len()..].starts_with(&group.bytes);
            *(if is_own { &mut places.0 } else { &mut places.1 }) = Some(at);
        }
        places
    }

    /// What is said of the books with one bit flipped.
    fn flipped(&self, place: usize, bit: usize) -> CheckReport {
        let mut bytes = self.bytes.clone();
        bytes[place] ^= 1 << bit;
        std::fs::write(self.dir.path().join(JOURNAL_FILE), &bytes).unwrap();
        check(self.dir.path(), START).unwrap_or_else(|error| panic!("{place}.{bit}: {error}"))
    }
}

#[test]
fn a_flip_of_any_byte_of_a_row_is_found_with_the_last_good_group() {
    let stored = Stored::new();
    let want = facts(check(stored.dir.path(), START).unwrap());
    for group in [&stored.groups[3], stored.groups.last().unwrap()] {
        let at = stored.places(group).0.unwrap();
        // Behind the row's number: how long its header is, and what its three columns hold.
        for place in at - 5..at + 32 + group.bytes.len() {
            let is_header = place < at;
            for bit in (0..8).filter(|bit| is_header || *bit == place % 8) {
                let report = stored.flipped(place, bit);
                // The number of a row is its key, whatever its header says of that column.
                let is_harmless = is_header && report.facts.as_ref() == Some(&want);
                let is_found = !report.is_clean() && report.last_good_group == group.position.seq - 1;
                assert!(is_harmless || is_found, "{}.{bit}: {report:?}", place as i64 - at as i64);
            }
        }
    }
}

#[test]
fn a_flip_in_the_snapshots_row_is_no_damage_of_the_journal() {
    let stored = Stored::new();
    let want = facts(check(stored.dir.path(), START).unwrap());
    let at = stored.places(stored.groups.last().unwrap()).1.unwrap();
    for place in at - 7..at + 64 {
        let report = stored.flipped(place, place % 8);
        assert_eq!((report.last_good_group, report.facts.as_ref()), (8, Some(&want)), "{report:?}");
        // Its first column is its number; the market opens unless the snapshot is of another journal.
        let opened = Exchange::open(stored.dir.path(), ExchangeConfig::default(), START).map(drop);
        assert!(opened.is_ok() || !report.is_clean(), "{opened:?}");
    }
}

#[test]
fn a_lost_tail_is_found() {
    let cut = "DELETE FROM journal WHERE seq > 4";
    check_damage(|dir| sql(dir, cut), 4, "group 8 was committed and is gone");
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    sql(dir.path(), cut);
    let refused = || Exchange::open(dir.path(), ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert!(matches!(refused(), OpenError::Journal(JournalError::Damaged { last_good: 4, .. })));
    std::fs::remove_file(dir.path().join(TAIL_FILE)).unwrap();
    assert!(matches!(refused(), OpenError::Journal(JournalError::Damaged { .. })), "the snapshot knows, too");
}

#[test]
fn a_stale_or_missing_tail_file_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let mut stale = std::fs::read(dir.path().join(TAIL_FILE)).unwrap();
    std::fs::remove_file(dir.path().join(TAIL_FILE)).unwrap();
    assert!(check(dir.path(), START).unwrap().is_clean());
    stale[0] -= 1;
    std::fs::write(dir.path().join(TAIL_FILE), &stale).unwrap();
    let report = check(dir.path(), START).unwrap();
    assert!(report.problems[0].contains("is not the one that was committed"), "{report:?}");
}

#[test]
fn a_damaged_page_is_found() {
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let path = dir.path().join(JOURNAL_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let report = check(dir.path(), START).unwrap();
    assert!(!report.is_clean() && report.last_good_group < 8, "{report:?}");
    assert!(Exchange::open(dir.path(), ExchangeConfig::default(), START).is_err());
}

#[test]
fn a_snapshot_that_lies_is_found_and_not_used() {
    let other = another_byte("substr(bytes, length(bytes), 1)");
    let lie =
        format!("UPDATE snapshot SET bytes = CAST(substr(bytes, 1, length(bytes) - 1) || {other} AS BLOB)");
    check_damage(|dir| sql(dir, &lie), 8, "the snapshot after group 8 is not what replay gives");
    let short = "UPDATE snapshot SET bytes = CAST(substr(bytes, 1, 90) AS BLOB)";
    check_damage(|dir| sql(dir, short), 8, "the snapshot after group 8");
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let before = check(dir.path(), START).unwrap();
    sql(dir.path(), short);
    market_in(dir.path(), 0).close().unwrap();
    let after = check(dir.path(), START).unwrap();
    assert!(after.is_clean(), "{after:?}");
    assert_eq!(facts(after).state_digest, facts(before).state_digest);
}

#[test]
fn a_forged_checkpoint_or_receipt_is_found() {
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let journal = SqliteJournal::open_read_only(dir.path()).unwrap();
    let groups = journal.read(Position::default(), 99).unwrap();
    let forge = |at: usize, from_end: usize| {
        let mut copy = SharedJournal::default();
        for (n, group) in groups.iter().enumerate() {
            let mut bytes = group.bytes.clone();
            if n == at {
                let len = bytes.len();
                bytes[len - from_end] ^= 1;
            }
            copy.append(&bytes).unwrap();
        }
        crate::check::check_journal(&copy, crate::check::Market::Stopped, START).problems
    };
    assert_eq!(forge(99, 0), Vec::<String>::new());
    assert!(forge(4, 1)[0].contains("signature of a checkpoint"), "{:?}", forge(4, 1));
    assert!(forge(4, 130)[0].contains("a checkpoint says"), "{:?}", forge(4, 130));
    let receipt = forge(4, 160);
    assert!(receipt[0].contains("a checkpoint says") || receipt[0].contains("receipt"), "{receipt:?}");
}

#[test]
fn a_directory_has_one_live_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000);
    let second = Exchange::open(dir.path(), ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert_eq!(second.to_string(), "another process uses this data directory");
    let grant = key(&exchange, None);
    exchange.hold(&hold(request(1, START), grant, 5, START)).unwrap();
    exchange.flush().unwrap();
    let live = check(dir.path(), START).unwrap();
    assert!(live.is_clean(), "{live:?}");
    let live = facts(live);
    assert_eq!((live.holds_open, live.holds_orphaned), (1, 0));
    let late = check(dir.path(), UnixMs(START.0 + 70_001)).unwrap();
    assert_eq!(late.problems, ["1 holds are open beyond their time"]);
    assert!(check(dir.path(), UnixMs(START.0 + 70_000)).unwrap().is_clean());
}

#[test]
fn a_directory_without_books_is_an_error_not_a_clean_report() {
    let dir = tempfile::tempdir().unwrap();
    assert!(check(dir.path(), START).is_err());
}

#[test]
fn books_without_their_key_are_refused_and_get_no_new_one() {
    let dir = tempfile::tempdir().unwrap();
    drop(market_in(dir.path(), 1_000));
    let key = dir.path().join("exchange.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let open = || Exchange::open(dir.path(), ExchangeConfig::default(), START);
    let refused = open().map(drop).unwrap_err().to_string();
    assert!(refused.contains("exchange.key") && !key.exists(), "{refused}");
    std::fs::write(&key, kept).unwrap();
    assert!(open().is_ok());
}

#[cfg(unix)]
#[test]
fn secrets_are_for_the_owner_alone_and_the_key_stays() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("market");
    let public = market_in(&dir, 0).public_key();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("exchange.key"))), (0o700, 0o600));
    // The same in a folder that the operator made; the books' own files beside it are made while it is open.
    let made = tempfile::tempdir().unwrap();
    std::fs::set_permissions(made.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = market_in(made.path(), 0);
    let modes = |dir: &Path| -> Vec<(String, u32)> {
        let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into_string().unwrap(), mode(&entry.path()))).collect()
    };
    let files = modes(made.path());
    assert!(files.iter().any(|(name, _)| name == "exchange.db-wal"), "{files:?}");
    assert!(files.iter().all(|(_, mode)| *mode == 0o600), "{files:?}");
    drop(open);
    assert_eq!(market_in(&dir, 0).public_key(), public);
    std::fs::write(dir.join("exchange.key"), [5; 32]).unwrap();
    let other = Exchange::open(&dir, ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert!(matches!(other, OpenError::WrongKey { .. }), "{other}");
    std::fs::write(dir.join("exchange.key"), [5; 33]).unwrap();
    let long = Exchange::open(&dir, ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert_eq!(long.to_string(), "`exchange.key` does not hold 32 bytes");
}

/// Fails once, after the given number of appends, as a full disk does: whoever goes on all the same is found.
struct FailingJournal {
    inner: SharedJournal,
    appends_left: Arc<AtomicU64>,
}

impl Journal for FailingJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        if self.appends_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(JournalError::Store("no space left on device".to_owned()));
        }
        self.inner.append(bytes)
    }

    fn last(&self) -> Position {
        self.inner.last()
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        self.inner.read(after, count_max)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.inner.save_snapshot(snapshot)
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        self.inner.load_snapshot()
    }
}

/// A market with its threads whose disk fails once when it is told to.
fn market_on_a_full_disk(config: ExchangeConfig) -> (Exchange, SharedJournal, Arc<AtomicU64>) {
    let (inner, appends_left) = (SharedJournal::default(), Arc::new(AtomicU64::new(9)));
    let parts = Parts {
        journal: Box::new(FailingJournal { inner: inner.clone(), appends_left: appends_left.clone() }),
        reader: Box::new(inner.clone()),
        index: Box::new(MemoryIndex::default()),
        signer: Signer::from_bytes(&[1; 32]),
        entropy: Entropy::Seed { seed: [2; 32], drawn: 0 },
    };
    let exchange = Exchange::assemble(parts, config, START).unwrap();
    exchange.start_threads().unwrap();
    (exchange, inner, appends_left)
}

#[test]
fn a_market_whose_last_commit_failed_does_not_close_well_and_leaves_no_snapshot_of_it() {
    let never = Duration::from_hours(1);
    let config = ExchangeConfig {
        commit_window: never,
        lazy_commit_window: never,
        holds: Holds::OutliveExchange,
        ..ExchangeConfig::default()
    };
    let (exchange, journal, appends_left) = market_on_a_full_disk(config);
    let grant = key(&exchange, None);
    exchange.flush().unwrap();
    appends_left.store(0, Ordering::Relaxed);
    serve(&exchange, 1, grant, START).unwrap();
    let closed = exchange.close();
    assert!(matches!(closed, Err(FundsError::Journal(_))), "{closed:?}");
    let report = crate::check::check_journal(&journal, crate::check::Market::Stopped, START);
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_failed_commit_stops_everything() {
    let (exchange, _, appends_left) = market_on_a_full_disk(ExchangeConfig::default());
    let grant = key(&exchange, None);
    let served = serve(&exchange, 1, grant, START).unwrap();
    super::support::block_on(exchange.durable(served)).unwrap();
    appends_left.store(0, Ordering::Relaxed);
    let lost = serve(&exchange, 2, grant, START).unwrap();
    let failed = super::support::block_on(exchange.durable(lost)).unwrap_err();
    let why = FundsError::Journal("the journal's store failed: no space left on device".to_owned());
    assert_eq!(failed, why);
    assert_eq!(super::support::block_on(exchange.durable(served)), Ok(()), "what was durable stays so");
    assert_eq!(exchange.authenticate(&grant.key, START), Err(why.clone()));
    assert_eq!(exchange.hold(&hold(request(3, START), grant, 1, START)), Err(why.clone()));
    assert_eq!(exchange.flush(), Err(why.clone()));
    assert_eq!(failed.fault(), bourse_types::Fault::Bourse);
    assert_eq!(exchange.close(), Err(why));
}

/// A start reads the snapshot and what follows it, and serves on what it says.
#[test]
fn damage_before_the_snapshot_is_found_behind_the_start() {
    let dir = tempfile::tempdir().unwrap();
    stopped_market(dir.path());
    let look = || {
        let exchange = Exchange::open(dir.path(), ExchangeConfig::default(), START).unwrap();
        let (told, found) = std::sync::mpsc::channel();
        let journal = SqliteJournal::open_read_only(dir.path()).unwrap();
        exchange.look_through(Box::new(journal), move |found| told.send(found.clone()).unwrap()).unwrap();
        found.recv_timeout(Duration::from_secs(20)).unwrap()
    };
    let whole = look().unwrap().unwrap();
    assert!(whole.seq >= 8, "{whole:?}");
    sql(dir.path(), "UPDATE journal SET bytes = x'00' WHERE seq = 4");
    let Err(JournalError::Damaged { last_good: 3, what }) = look() else { panic!("it is not found") };
    assert_eq!(what, "the bytes of group 4 are not what was written");
}

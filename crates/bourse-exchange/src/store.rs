//! The journal in SQLite: one row per commit group.
//!
//! `journal(seq, chain, bytes)` in WAL mode with `synchronous=FULL`: a commit is one insert and one
//! `fsync`. SQLite drops a torn tail of its log silently, and would drop a damaged one as silently,
//! together with all that follows: hence the [`tail`].
//!
//! After a failed commit nothing is known about what the disk holds; the journal then refuses everything
//! until it is opened again.

mod database;
mod lease;
mod postgres;
mod tail;

pub(crate) use database::{Database, told};
pub use lease::LEASE_TTL;
pub(crate) use lease::Lease;
pub use postgres::PostgresJournal;
pub(crate) use tail::{TAIL_FILE, check_tail, tail_of};

use crate::answers::{AnswerStore, AnswersError, PostgresAnswers, SqliteAnswers};
use crate::data_dir::make_private;
use bourse_ledger::{
    GROUP_BYTES_MAX, Group, Journal, JournalError, Position, Snapshot, chain_hash, verified,
};
use bourse_types::Digest32;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tail::{Tail, Tailed};

/// File name of the journal's database.
pub(crate) const JOURNAL_FILE: &str = "exchange.db";
/// File name of the address of the database that holds the journal instead.
pub(crate) const PLACE_FILE: &str = "exchange.journal";
/// How much longer than its lease a writer that died is waited for.
const LEASE_GRACE: Duration = Duration::from_secs(1);
/// `user_version` of the database's layout and of what its groups hold. 2: receipts of version 2, keys in
/// full, notes, policies.
const LAYOUT_VERSION: i64 = 2;
/// How long a reader waits for the moments in which SQLite locks readers out.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const LAYOUT: &str = "
    CREATE TABLE journal(seq INTEGER PRIMARY KEY, chain BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE snapshot(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL,
        chain BLOB NOT NULL, bytes BLOB NOT NULL) STRICT;
";

/// A journal in a SQLite database.
#[derive(Debug)]
pub struct SqliteJournal {
    db: Connection,
    /// Absent in read-only use.
    tail: Option<Tail>,
    last: Position,
    broken: Option<String>,
}

/// The database that holds the books of a directory; none where the directory holds them itself.
pub(crate) fn place(dir: &Path) -> Result<Option<String>, JournalError> {
    match std::fs::read_to_string(dir.join(PLACE_FILE)) {
        Ok(url) => Ok(Some(url.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::Store(format!("{PLACE_FILE}: {error}"))),
    }
}

/// The journal of a directory for its one writer, whatever store it is in, and the writer's lease. The lock of a folder is
/// none that could be lost.
pub(crate) fn writer(dir: &Path) -> Result<(Box<dyn Journal>, Lease), JournalError> {
    let Some(url) = place(dir)? else {
        return Ok((Box::new(SqliteJournal::open(dir)?), Lease::default()));
    };
    let journal = PostgresJournal::open(&url, LEASE_TTL + LEASE_GRACE)?;
    let lease = journal.lease();
    Ok((Box::new(Tailed::open(journal, dir)?), lease))
}

/// The same for those who only read.
pub(crate) fn reader(dir: &Path) -> Result<Box<dyn Journal>, JournalError> {
    Ok(match place(dir)? {
        Some(url) => reader_at(&url)?,
        None => Box::new(SqliteJournal::open_read_only(dir)?),
    })
}

/// The journal in a database, for those who only read.
pub(crate) fn reader_at(url: &str) -> Result<Box<dyn Journal>, JournalError> {
    Ok(Box::new(PostgresJournal::open_read_only(url)?))
}

/// The sealed answers of a directory, in the store that its journal is in.
pub(crate) fn answers(dir: &Path) -> Result<Box<dyn AnswerStore>, JournalError> {
    let failed = |error: AnswersError| JournalError::Store(error.to_string());
    Ok(match place(dir)? {
        Some(url) => Box::new(PostgresAnswers::at(Database::at(&url)?)),
        None => Box::new(SqliteAnswers::open(dir).map_err(failed)?),
    })
}

impl SqliteJournal {
    /// Opens or creates the journal in a directory, for one writer.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(JOURNAL_FILE);
        make_private(&path).map_err(|error| JournalError::Store(format!("{JOURNAL_FILE}: {error}")))?;
        let db = Connection::open(path).map_err(store)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(store)?;
        db.execute_batch(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 1024; PRAGMA cache_size = -1024;",
        )
        .map_err(store)?;
        match layout_version(&db)? {
            0 => {
                let layout = format!("BEGIN; {LAYOUT} PRAGMA user_version = {LAYOUT_VERSION}; COMMIT;");
                db.execute_batch(&layout).map_err(store)?;
            }
            LAYOUT_VERSION => {}
            other => return Err(unknown_layout(other)),
        }
        let mut journal = Self { db, tail: Some(Tail::open(dir)?), last: Position::default(), broken: None };
        journal.last = journal.find_last()?;
        let tail = journal.tail.as_ref().and_then(Tail::position);
        check_tail(&journal, tail)?;
        Ok(journal)
    }

    /// Opens an existing journal for reading, beside a live writer or without one.
    pub fn open_read_only(dir: &Path) -> Result<Self, JournalError> {
        match Self::open_unverified(dir)? {
            (journal, None) => Ok(journal),
            (_, Some(lost)) => Err(lost),
        }
    }

    /// The same, for those who look at damage: what a lost tail says comes beside the journal.
    pub(crate) fn open_unverified(dir: &Path) -> Result<(Self, Option<JournalError>), JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(dir.join(JOURNAL_FILE), flags).map_err(store)?;
        db.busy_timeout(BUSY_TIMEOUT).map_err(store)?;
        db.execute_batch("PRAGMA cache_size = -512;").map_err(store)?;
        match layout_version(&db)? {
            LAYOUT_VERSION => {}
            other => return Err(unknown_layout(other)),
        }
        // Before the last group, which a live writer may move on meanwhile.
        let tail = tail_of(dir);
        let mut journal = Self { db, tail: None, last: Position::default(), broken: None };
        let lost = match journal.find_last() {
            Ok(last) => {
                journal.last = last;
                check_tail(&journal, tail).err()
            }
            // One row cannot be read where others can: whoever looks at damage reads up to it.
            Err(damage @ JournalError::Damaged { last_good: 1.., .. }) => Some(damage),
            Err(error) => return Err(error),
        };
        Ok((journal, lost))
    }

    fn find_last(&self) -> Result<Position, JournalError> {
        // The number first, which no damage of the row itself can hide.
        let sql = "SELECT seq FROM journal ORDER BY seq DESC LIMIT 1";
        let row = self.db.query_row(sql, [], |row| row.get::<_, i64>(0));
        let seq = row.optional().map_err(|error| damaged_or_store(&error, 0))?;
        let seq = seq.unwrap_or_default().cast_unsigned();
        let chain = self.chain_at(seq)?.ok_or_else(|| JournalError::Damaged {
            last_good: seq.saturating_sub(1),
            what: format!("group {seq} is missing"),
        })?;
        Ok(Position { seq, chain })
    }

    fn chain_at(&self, seq: u64) -> Result<Option<Digest32>, JournalError> {
        if seq == 0 {
            return Ok(Some(Digest32::default()));
        }
        let sql = "SELECT chain FROM journal WHERE seq = ?1";
        let mut statement = self.db.prepare_cached(sql).map_err(store)?;
        let row = statement.query_row(params![seq.cast_signed()], |row| row.get::<_, [u8; 32]>(0));
        Ok(row.optional().map_err(|error| damaged_or_store(&error, seq - 1))?.map(Digest32))
    }

    fn insert(&self, position: Position, bytes: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO journal(seq, chain, bytes) VALUES (?1, ?2, ?3)";
        let mut statement = self.db.prepare_cached(sql)?;
        statement.execute(params![position.seq.cast_signed(), position.chain.0, bytes]).map(drop)
    }

    fn usable(&self) -> Result<(), JournalError> {
        self.broken.clone().map_or(Ok(()), |why| Err(JournalError::Store(why)))
    }

    /// Runs a write; its failure is the end of this journal.
    fn write<T>(&mut self, result: Result<T, String>) -> Result<T, JournalError> {
        result.map_err(|why| {
            self.broken = Some(why.clone());
            JournalError::Store(why)
        })
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        self.usable()?;
        if self.tail.is_none() {
            return Err(JournalError::Store("the journal is open for reading only".to_owned()));
        }
        if bytes.len() > GROUP_BYTES_MAX {
            return Err(JournalError::GroupTooLarge(bytes.len()));
        }
        let position = chain_hash(self.last, bytes);
        let inserted = self.insert(position, bytes).map_err(|error| error.to_string());
        self.write(inserted)?;
        self.last = position;
        let noted = self.tail.as_ref().map_or(Ok(()), |tail| tail.write(position));
        self.write(noted)?;
        Ok(position)
    }

    fn last(&self) -> Position {
        self.last
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        same_history(after, self.chain_at(after.seq)?)?;
        let sql = "SELECT seq, chain, bytes FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = self.db.prepare_cached(sql).map_err(store)?;
        let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![after.seq.cast_signed(), limit]).map_err(store)?;
        let mut groups = Vec::new();
        let mut before = after;
        loop {
            let row = rows.next().map_err(|error| damaged_or_store(&error, before.seq))?;
            let Some(row) = row else { return Ok(groups) };
            let stored = |error: rusqlite::Error| damaged_or_store(&error, before.seq);
            let seq = row.get::<_, i64>(0).map_err(stored)?.cast_unsigned();
            let chain = Digest32(row.get(1).map_err(stored)?);
            let bytes: Vec<u8> = row.get(2).map_err(stored)?;
            let group = verified(before, Position { seq, chain }, bytes)?;
            before = group.position;
            groups.push(group);
        }
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.usable()?;
        let sql = "INSERT OR REPLACE INTO snapshot(one, seq, chain, bytes) VALUES (1, ?1, ?2, ?3)";
        let (seq, chain) = (snapshot.at.seq.cast_signed(), snapshot.at.chain.0);
        let saved = self.db.execute(sql, params![seq, chain, snapshot.bytes]);
        self.write(saved.map_err(|error| error.to_string())).map(drop)
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        let sql = "SELECT seq, chain, bytes FROM snapshot WHERE one = 1";
        let row = self.db.query_row(sql, [], |row| {
            let at = Position { seq: row.get::<_, i64>(0)?.cast_unsigned(), chain: Digest32(row.get(1)?) };
            Ok(Snapshot { at, bytes: row.get(2)? })
        });
        row.optional().map_err(|error| damaged_or_store(&error, 0))
    }
}

fn layout_version(db: &Connection) -> Result<i64, JournalError> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|error| damaged_or_store(&error, 0))
}

/// Refuses to read on from a position that has another chain hash in this journal, or none.
fn same_history(after: Position, found: Option<Digest32>) -> Result<(), JournalError> {
    if found == Some(after.chain) {
        return Ok(());
    }
    let what = format!("group {} has another chain hash", after.seq);
    Err(JournalError::Damaged { last_good: 0, what })
}

fn unknown_layout(version: i64) -> JournalError {
    JournalError::Store(format!("the journal has layout {version}, this program knows {LAYOUT_VERSION}"))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn store(error: rusqlite::Error) -> JournalError {
    damaged_or_store(&error, 0)
}

/// Pages that contradict themselves, and rows that hold something else than was ever written: both are damage.
fn damaged_or_store(error: &rusqlite::Error, last_good: u64) -> JournalError {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    let is_other =
        matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..));
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Damaged { last_good, what: error.to_string() }
        }
        _ if is_other => JournalError::Damaged { last_good, what: format!("a row cannot be read: {error}") },
        _ => JournalError::Store(error.to_string()),
    }
}

//! Moving the books of a data directory into a database, group by group, with every hash held against the old one.
//!
//! The folder then names the database in `exchange.journal`, which only its owner may read, and keeps the old journal
//! under another name. A move that was broken off is taken up where it stopped; until then nobody opens what is there, so
//! that no standby takes the beginning of the books for all of them. A database that holds other books is refused. No
//! market runs meanwhile: the folder is locked.

use crate::data_dir::{DataDirError, load_signer, lock_dir, write_secret};
use crate::open::{OpenError, REPLAY_GROUPS};
use crate::store::{JOURNAL_FILE, LEASE_TTL, PLACE_FILE, PostgresJournal, SqliteJournal, TAIL_FILE, place};
use bourse_ledger::{Journal, JournalError, Position};
use std::path::Path;
use std::time::Duration;

/// What is added to the names of the files that are not used any more.
const MOVED_SUFFIX: &str = ".moved";

/// Why the books were not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The folder, its journal or the database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be reached or written.
    #[error("the database cannot be used")]
    Database(#[source] JournalError),
    /// The folder's books are in a database already.
    #[error("the books of this directory are in a database already")]
    Moved,
    /// The database holds the books of somebody else, or later ones.
    #[error("the database holds other books than this directory")]
    OtherBooks,
}

impl From<JournalError> for MigrateError {
    fn from(error: JournalError) -> Self {
        Self::Open(error.into())
    }
}

impl From<DataDirError> for MigrateError {
    fn from(error: DataDirError) -> Self {
        Self::Open(error.into())
    }
}

/// Moves the books of a directory into the PostgreSQL at `url`; a directory without books will begin them there. `seen`
/// is told how many of how many groups are there. Gives back the number of groups.
pub fn migrate(dir: &Path, url: &str, mut seen: impl FnMut(u64, u64)) -> Result<u64, MigrateError> {
    let lock = lock_dir(dir)?;
    // The key that signs these books, or the one of the books to come.
    load_signer(dir)?;
    if place(dir)?.is_some() {
        return Err(MigrateError::Moved);
    }
    let opened = PostgresJournal::open_to_move_in(url, LEASE_TTL + Duration::from_secs(1));
    let mut target = opened.map_err(|error| match error {
        JournalError::Store(_) => MigrateError::Database(error),
        other => other.into(),
    })?;
    let has_books = dir.join(JOURNAL_FILE).exists();
    let groups = if has_books { copy(&SqliteJournal::open(dir)?, &mut target, &mut seen)? } else { 0 };
    if target.last().seq != groups {
        return Err(MigrateError::OtherBooks);
    }
    target.end_move()?;
    let failed = |what| move |source| DataDirError::Io { what, source };
    write_secret(&dir.join(PLACE_FILE), url.as_bytes()).map_err(failed("naming the database"))?;
    if has_books {
        for name in [JOURNAL_FILE, TAIL_FILE] {
            let moved = dir.join(format!("{name}{MOVED_SUFFIX}"));
            std::fs::rename(dir.join(name), moved).map_err(failed("setting the old journal aside"))?;
        }
    }
    drop(lock);
    Ok(groups)
}

fn copy(
    source: &SqliteJournal,
    target: &mut PostgresJournal,
    seen: &mut impl FnMut(u64, u64),
) -> Result<u64, MigrateError> {
    let all = source.last().seq;
    // What is there must be the beginning of these books.
    let mut at = target.last();
    if at.seq > all || source.read(at, 0).is_err() {
        return Err(MigrateError::OtherBooks);
    }
    if at.seq < all {
        target.begin_move()?;
    }
    if at == Position::default() {
        seen(0, all);
    }
    loop {
        let groups = source.read(at, REPLAY_GROUPS)?;
        for group in &groups {
            at = target.append(&group.bytes)?;
            if at != group.position {
                return Err(MigrateError::OtherBooks);
            }
            seen(at.seq, all);
        }
        if groups.len() < REPLAY_GROUPS {
            break;
        }
    }
    if let Some(snapshot) = source.load_snapshot()? {
        target.save_snapshot(&snapshot)?;
    }
    Ok(all)
}

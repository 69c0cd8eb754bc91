//! Sealed answers in SQLite: a file of their own, free to lose.

use super::{AnswerStore, AnswersError, Totals};
use crate::data_dir::make_private;
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::funds::Outcome;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

/// File name of the answers.
pub(crate) const ANSWERS_FILE: &str = "answers.db";

/// `synchronous=OFF`: a process that is killed loses nothing, and a power cut loses answers and no money.
const SETTINGS: &str = "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
    PRAGMA cache_size = -1024;";
const LAYOUT: &str = "
    CREATE TABLE IF NOT EXISTS answer(number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE,
        request BLOB NOT NULL, at INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT;
";

/// Sealed answers in a SQLite database.
pub(crate) struct SqliteAnswers {
    db: Connection,
}

impl SqliteAnswers {
    /// Opens or creates them in a directory; a file that cannot be read is replaced.
    pub(crate) fn open(dir: &Path) -> Result<Self, AnswersError> {
        let path = dir.join(ANSWERS_FILE);
        Self::open_file(&path).or_else(|error| {
            tracing::warn!(%error, "the kept answers cannot be read and begin anew");
            for suffix in ["", "-wal", "-shm"] {
                let file = dir.join(format!("{ANSWERS_FILE}{suffix}"));
                if file.exists() {
                    std::fs::remove_file(&file).map_err(|error| AnswersError(error.to_string()))?;
                }
            }
            Self::open_file(&path)
        })
    }

    fn open_file(path: &Path) -> Result<Self, AnswersError> {
        make_private(path).map_err(|error| AnswersError(error.to_string()))?;
        let db = Connection::open(path).map_err(failed)?;
        db.execute_batch(SETTINGS).map_err(failed)?;
        db.execute_batch(LAYOUT).map_err(failed)?;
        Ok(Self { db })
    }
}

impl AnswerStore for SqliteAnswers {
    fn totals(&mut self) -> Result<Totals, AnswersError> {
        let sql = "SELECT count(*), coalesce(sum(length(sealed)), 0) FROM answer";
        let read = self.db.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        let (count, bytes) = read.map_err(failed)?;
        Ok(Totals { count: usize::try_from(count).unwrap_or(usize::MAX), bytes: bytes.cast_unsigned() })
    }

    fn put(&mut self, outcome: &Outcome) -> Result<Option<u64>, AnswersError> {
        let transaction = self.db.transaction().map_err(failed)?;
        let replaced = {
            let sql = "DELETE FROM answer WHERE name = ?1 RETURNING length(sealed)";
            let mut delete = transaction.prepare_cached(sql).map_err(failed)?;
            let replaced = delete.query_row(params![outcome.name.0], |row| row.get::<_, i64>(0)).optional();
            let sql = "INSERT INTO answer(name, request, at, sealed) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = transaction.prepare_cached(sql).map_err(failed)?;
            let (request, at) = (outcome.request.0.to_le_bytes(), outcome.now.0.cast_signed());
            insert.execute(params![outcome.name.0, request, at, &*outcome.sealed]).map_err(failed)?;
            replaced.map_err(failed)?
        };
        transaction.commit().map_err(failed)?;
        Ok(replaced.map(i64::cast_unsigned))
    }

    fn find(&mut self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, AnswersError> {
        let sql = "SELECT sealed FROM answer WHERE name = ?1 AND request = ?2";
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let row =
            statement.query_row(params![name.0, request.0.to_le_bytes()], |row| row.get::<_, Vec<u8>>(0));
        Ok(row.optional().map_err(failed)?.map(Bytes::from))
    }

    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError> {
        let sql = "SELECT at FROM answer ORDER BY number LIMIT 1";
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let row = statement.query_row([], |row| row.get::<_, i64>(0)).optional().map_err(failed)?;
        Ok(row.map(|at| UnixMs(at.cast_unsigned())))
    }

    fn drop_oldest(&mut self) -> Result<u64, AnswersError> {
        let sql =
            "DELETE FROM answer WHERE number = (SELECT min(number) FROM answer) RETURNING length(sealed)";
        let mut statement = self.db.prepare_cached(sql).map_err(failed)?;
        let row = statement.query_row([], |row| row.get::<_, i64>(0)).optional().map_err(failed)?;
        Ok(row.map_or(0, i64::cast_unsigned))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: rusqlite::Error) -> AnswersError {
    AnswersError(error.to_string())
}

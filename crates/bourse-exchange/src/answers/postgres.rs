//! Sealed answers in PostgreSQL, beside the journal: who takes the market over has them.
//!
//! A connection of its own, so that no commit waits for an answer. It is opened when it is first needed and again after it
//! broke, at most once in [`AGAIN_AFTER`]; meanwhile answers are lost. It needs no lease: what a writer that was taken for
//! dead may still add is an answer of its own request, and nobody asks for one whose charge is not in the books.

use super::{AnswerStore, AnswersError, Totals};
use crate::store::{Database, told};
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::funds::Outcome;
use bytes::Bytes;
use postgres::types::ToSql;
use postgres::{Client, Row};
use std::time::{Duration, Instant};

/// Between two tries to connect.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

const LAYOUT: &str = "
    CREATE SCHEMA IF NOT EXISTS bourse;
    CREATE TABLE IF NOT EXISTS bourse.answer(number BIGSERIAL PRIMARY KEY, name BYTEA NOT NULL UNIQUE,
        request BYTEA NOT NULL, at BIGINT NOT NULL, sealed BYTEA NOT NULL);
";
const PUT: &str = "
    WITH gone AS (SELECT length(sealed)::BIGINT AS bytes FROM bourse.answer WHERE name = $1),
    put AS (INSERT INTO bourse.answer(name, request, at, sealed) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET number = nextval('bourse.answer_number_seq'),
            request = EXCLUDED.request, at = EXCLUDED.at, sealed = EXCLUDED.sealed)
    SELECT bytes FROM gone";
const DROP: &str = "
    DELETE FROM bourse.answer WHERE number = (SELECT min(number) FROM bourse.answer)
    RETURNING length(sealed)::BIGINT";

/// Sealed answers in a PostgreSQL database.
pub(crate) struct PostgresAnswers {
    database: Database,
    client: Option<Client>,
    tried: Option<Instant>,
}

impl PostgresAnswers {
    /// Connects when it is first used.
    pub(crate) fn at(database: Database) -> Self {
        Self { database, client: None, tried: None }
    }

    fn client(&mut self) -> Result<&mut Client, AnswersError> {
        let client = match self.client.take() {
            Some(client) => client,
            None if self.tried.is_some_and(|tried| tried.elapsed() < AGAIN_AFTER) => {
                return Err(AnswersError("the database cannot be reached".to_owned()));
            }
            None => {
                self.tried = Some(Instant::now());
                let mut client = self.database.connect().map_err(|error| failed(&error))?;
                client.batch_execute(LAYOUT).map_err(|error| failed(&error))?;
                client
            }
        };
        Ok(self.client.insert(client))
    }

    fn query(&mut self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, AnswersError> {
        let asked = self.client()?.query_opt(sql, with);
        asked.map_err(|error| {
            self.client = None;
            failed(&error)
        })
    }
}

impl AnswerStore for PostgresAnswers {
    fn totals(&mut self) -> Result<Totals, AnswersError> {
        let sql = "SELECT count(*), coalesce(sum(length(sealed)), 0)::BIGINT FROM bourse.answer";
        let row = self.query(sql, &[])?;
        let (count, bytes) = row.map_or((0, 0), |row| (row.get::<_, i64>(0), row.get::<_, i64>(1)));
        Ok(Totals { count: usize::try_from(count).unwrap_or(usize::MAX), bytes: bytes.cast_unsigned() })
    }

    fn put(&mut self, outcome: &Outcome) -> Result<Option<u64>, AnswersError> {
        let (name, request) = (outcome.name.0.to_vec(), outcome.request.0.to_le_bytes().to_vec());
        let at = outcome.now.0.cast_signed();
        let row = self.query(PUT, &[&name, &request, &at, &&*outcome.sealed])?;
        Ok(row.map(|row| row.get::<_, i64>(0).cast_unsigned()))
    }

    fn find(&mut self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, AnswersError> {
        let sql = "SELECT sealed FROM bourse.answer WHERE name = $1 AND request = $2";
        let row = self.query(sql, &[&name.0.to_vec(), &request.0.to_le_bytes().to_vec()])?;
        Ok(row.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
    }

    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError> {
        let row = self.query("SELECT at FROM bourse.answer ORDER BY number LIMIT 1", &[])?;
        Ok(row.map(|row| UnixMs(row.get::<_, i64>(0).cast_unsigned())))
    }

    fn drop_oldest(&mut self) -> Result<u64, AnswersError> {
        Ok(self.query(DROP, &[])?.map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
    }
}

fn failed(error: &postgres::Error) -> AnswersError {
    AnswersError(told(error))
}

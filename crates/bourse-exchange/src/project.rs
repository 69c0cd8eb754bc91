//! The books as ordinary tables in PostgreSQL, for whoever asks in SQL: `bourse ledger project`.
//!
//! A projection of the journal into the schema `bourse_read` (`project/layout.sql`): accounts, balances, transfers, open
//! holds, receipts, activity by day, epochs, keys without secrets, payouts, and views for the usual questions. It reads the journal
//! as any reader does, so the writer never waits for it, and lags behind by what `bourse_read.progress` says.
//!
//! Some groups are one transaction together with the position behind them, and the transaction begins only where the
//! position is still the one that its projector left: each group is in the tables once, whatever is killed when. A lock
//! keeps a second projector out. All that a projector must remember is the position, its chain hash and the open holds, and
//! these are in the tables.
//!
//! Limits: the tables hold the books' past in full and grow with it; texts lose zero bytes; account numbers, groups and
//! receipts are counted to 2⁶³; while the tables are made anew they are as far as `progress` says and no further. A
//! connection that breaks ends the projector; started again, it goes on.

mod batch;
mod payouts;
mod rows;

use crate::open::OpenError;
use crate::postings::{Held, Walk};
use crate::store::{Database, place, reader, reader_at, told};
use batch::Batch;
use bourse_ledger::{Amount, Journal, JournalError, Position};
use bourse_types::{AccountId, Digest32, TransferId, UnixMs};
use postgres::error::SqlState;
use postgres::{Client, Transaction};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Version of the tables.
pub const PROJECTION_LAYOUT: i64 = 2;
/// Groups in one transaction, at most.
pub const PROJECTION_GROUPS_MAX: usize = 256;
/// How often a projector that follows looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one that was killed is waited for: until its server has noticed.
const PATIENCE: Duration = Duration::from_secs(3);
const TABLES: &str = include_str!("project/layout.sql");

/// What a projector is to do.
#[derive(Debug, Clone, Default)]
pub struct Projection {
    /// The journal's database; none: the journal of the data directory.
    pub from: Option<String>,
    /// The database with the tables; none: the one that holds the books.
    pub to: Option<String>,
    /// Make the tables anew.
    pub rebuild: bool,
    /// Go on for ever.
    pub follow: bool,
}

/// How far a projector has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Projected {
    /// The last group in the tables.
    pub group: u64,
    /// The last group that is known to be there.
    pub of: u64,
    /// Nothing more was there.
    pub is_caught_up: bool,
}

/// Why there are no tables, or no more of them.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The journal could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No database was named, and the books are in none.
    #[error("no database is named for the tables, and the books are not in one")]
    NoTarget,
    /// The database with the tables.
    #[error("the tables' database failed: {0}")]
    Tables(String),
    /// The tables are of another version of this program.
    #[error("the tables have layout {found}, this program writes {PROJECTION_LAYOUT}")]
    Layout {
        /// Theirs.
        found: i64,
    },
    /// The tables are of other books.
    #[error("the tables are of other books: group {group} of this journal is not the one that they hold")]
    OtherBooks {
        /// Where they differ.
        group: u64,
    },
    /// Somebody else writes to the tables.
    #[error("another projector writes to these tables")]
    Another,
}

impl From<JournalError> for ProjectError {
    fn from(error: JournalError) -> Self {
        Self::Open(error.into())
    }
}

impl From<postgres::Error> for ProjectError {
    fn from(error: postgres::Error) -> Self {
        Self::Tables(told(&error))
    }
}

/// Brings the tables up to the end of the journal, and further while it follows. `seen` hears of every transaction, and
/// each time when there was nothing more; it may end it.
pub fn project(
    dir: &Path,
    what: &Projection,
    seen: impl FnMut(Projected) -> ControlFlow<()>,
) -> Result<Projected, ProjectError> {
    let target = match &what.to {
        Some(url) => url.clone(),
        None => place(dir)?.ok_or(ProjectError::NoTarget)?,
    };
    let journal: Box<dyn Journal> = match &what.from {
        Some(url) => reader_at(url)?,
        None => reader(dir)?,
    };
    project_of(journal.as_ref(), &target, what, PROJECTION_GROUPS_MAX, seen)
}

pub(crate) fn project_of(
    journal: &dyn Journal,
    target: &str,
    what: &Projection,
    groups_max: usize,
    mut seen: impl FnMut(Projected) -> ControlFlow<()>,
) -> Result<Projected, ProjectError> {
    let database = Database::at(target).map_err(|error| ProjectError::Tables(error.to_string()))?;
    let mut projector = Projector::open(journal, database.connect()?, what.rebuild)?;
    loop {
        let projected = projector.step(groups_max)?;
        if seen(projected).is_break() || (projected.is_caught_up && !what.follow) {
            return Ok(projected);
        }
        if projected.is_caught_up {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

struct Projector<'j> {
    journal: &'j dyn Journal,
    client: Client,
    walk: Walk,
    at: Position,
    receipts: u64,
}

impl<'j> Projector<'j> {
    fn open(journal: &'j dyn Journal, mut client: Client, rebuild: bool) -> Result<Self, ProjectError> {
        lock(&mut client)?;
        let mut work = client.transaction()?;
        let is_there: bool =
            work.query_one("SELECT to_regclass('bourse_read.head') IS NOT NULL", &[])?.get(0);
        if rebuild {
            work.batch_execute("DROP SCHEMA IF EXISTS bourse_read CASCADE")?;
        }
        if rebuild || !is_there {
            work.batch_execute(TABLES)?;
            let begin =
                "INSERT INTO bourse_read.head VALUES (1, $1, 0, $2, 'epoch', 0, 0, clock_timestamp(), NULL)";
            work.execute(begin, &[&PROJECTION_LAYOUT, &Digest32::default().0.as_slice()])?;
        }
        let found = work.query_one("SELECT layout FROM bourse_read.head", &[])?.get(0);
        if found != PROJECTION_LAYOUT {
            return Err(ProjectError::Layout { found });
        }
        let (at, receipts) = head(&mut work, "")?;
        if journal.read(at, 0).is_err() {
            return Err(ProjectError::OtherBooks { group: at.seq });
        }
        let holds = open_holds(&mut work)?;
        work.commit()?;
        Ok(Self { journal, client, walk: Walk::resumed(holds), at, receipts })
    }

    /// One transaction, or the word that there was nothing to do.
    fn step(&mut self, groups_max: usize) -> Result<Projected, ProjectError> {
        let groups = self.journal.read(self.at, groups_max)?;
        let is_caught_up = groups.len() < groups_max;
        let mut batch = Batch::new(self.receipts);
        let mut at = self.at;
        for group in &groups {
            batch.begin(group.position.seq);
            self.walk.group(group, &mut |_, told| batch.take(told))?;
            at = group.position;
        }
        let of = at.seq.max(self.journal.last().seq);
        let mut work = self.client.transaction()?;
        let (found, _) = head(&mut work, "FOR UPDATE")?;
        if found != self.at {
            return Err(ProjectError::Another);
        }
        batch.write(&mut work)?;
        set_head(
            &mut work,
            at,
            (!groups.is_empty()).then(|| self.walk.at()),
            batch.receipts,
            of,
            is_caught_up,
        )?;
        work.commit()?;
        (self.at, self.receipts) = (at, batch.receipts);
        Ok(Projected { group: at.seq, of, is_caught_up })
    }
}

/// Keeps other projectors out as long as the connection lives.
fn lock(client: &mut Client) -> Result<(), ProjectError> {
    let patience = PATIENCE.as_millis();
    client.batch_execute(&format!("SET lock_timeout = {patience}"))?;
    let locked = client.batch_execute("SELECT pg_advisory_lock(hashtextextended('bourse_read', 0))");
    locked.map_err(|error| match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => ProjectError::Another,
        _ => error.into(),
    })?;
    Ok(client.batch_execute("SET lock_timeout = 0")?)
}

/// The position of the tables and the receipts in them.
fn head(work: &mut Transaction<'_>, lock: &str) -> Result<(Position, u64), ProjectError> {
    let sql = format!("SELECT group_seq, chain, receipts FROM bourse_read.head {lock}");
    let row = work.query_one(&sql, &[])?;
    let seq = row.get::<_, i64>(0).cast_unsigned();
    let chain = <[u8; 32]>::try_from(row.get::<_, &[u8]>(1));
    let chain = chain.map_err(|_| ProjectError::OtherBooks { group: seq })?;
    Ok((Position { seq, chain: Digest32(chain) }, row.get::<_, i64>(2).cast_unsigned()))
}

fn set_head(
    work: &mut Transaction<'_>,
    at: Position,
    time: Option<UnixMs>,
    receipts: u64,
    of: u64,
    is_caught_up: bool,
) -> Result<(), ProjectError> {
    let sql = "
        UPDATE bourse_read.head SET group_seq = $1, chain = $2, at = coalesce($3::text::timestamptz, at), receipts = $4,
            source_seq = $5, projected_at = clock_timestamp(),
            caught_up_at = CASE WHEN $6 THEN clock_timestamp() ELSE caught_up_at END";
    let (chain, time) = (at.chain.0.as_slice(), time.and_then(rows::moment));
    let [seq, receipts, of] = [at.seq, receipts, of].map(u64::cast_signed);
    work.execute(sql, &[&seq, &chain, &time, &receipts, &of, &is_caught_up])?;
    Ok(())
}

/// What was set aside behind the last group.
fn open_holds(work: &mut Transaction<'_>) -> Result<HashMap<TransferId, Held>, ProjectError> {
    let sql = "
        SELECT id, debit, credit, amount::text,
            CASE WHEN isfinite(expires_at) THEN (extract(epoch FROM expires_at) * 1000)::bigint ELSE $1 END
        FROM bourse_read.holds";
    let rows = work.query(sql, &[&i64::MAX])?;
    let holds = rows.iter().map(|row| {
        let id = u128::from_str_radix(row.get(0), 16).ok()?;
        let amount = Amount(row.get::<_, &str>(3).parse().ok()?);
        let account = |column: usize| AccountId(row.get::<_, i64>(column).cast_unsigned());
        let expires_at = UnixMs(row.get::<_, i64>(4).cast_unsigned());
        Some((TransferId(id), Held { debit: account(1), credit: account(2), amount, expires_at }))
    });
    holds.collect::<Option<_>>().ok_or_else(|| {
        ProjectError::Tables("a hold in the tables cannot be read: `--rebuild` makes them anew".to_owned())
    })
}

//! The journal in PostgreSQL, for markets whose exchange must survive its machine.
//!
//! The same groups as in SQLite: one row each, `bourse.journal(seq, chain, bytes)`. What is new is that more than one
//! process can reach them, so the right to write is a *lease* with a fencing token: `bourse.lease` has one row, whoever
//! takes it raises the token, and every append updates the row under its own token in the same statement. A writer that
//! was taken for dead and is not (a pause, a partition) finds the token raised and writes nothing: the row's lock orders
//! the two, so its group is either there before the new writer looks, or never. Source: Kleppmann, "How to do
//! distributed locking", 2016, on fencing; PostgreSQL 15, §13.3.2 on row locks.
//!
//! The client blocks, and must not in a thread that runs futures: it lives in a thread of its own, which also renews the
//! lease while nothing is written. A renewal that finds another writer, or no database any more, is the end of the journal
//! as well: a market that has nothing to write must not say for long that it serves ([`Lease`]).
//!
//! A database that hangs is told from one that is slow by time alone: a writer that waits for an answer as long as its lease
//! lasts has lost it, whether it appends or renews, and everything else has [`ANSWERS_WITHIN`]. The client cannot be
//! interrupted, so its thread is left behind and ends, with all that was asked of it, when the database answers or the
//! connection breaks; it renews nothing after that.
//!
//! How the database is reached, and how the way is kept from others: [`super::database`].
//!
//! Limits: a connection that breaks is the end of the journal, as an unsure commit is, and the next start reads what came
//! of it. At most [`CLIENTS_MAX`] clients of a process at a time, those that were left behind included.

use super::database::{Database, failed};
use super::lease::{LEASE_TTL, Lease, hung};
use bourse_ledger::{
    GROUP_BYTES_MAX, Group, Journal, JournalError, Position, Snapshot, chain_hash, verified,
};
use bourse_types::Digest32;
use postgres::{Client, Row};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often the lease is renewed, beside every append.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How long a database may take to let a client in.
const OPENS_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take for what is not bound by the lease: a step of a long replay, a large snapshot.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// Clients of one process.
const CLIENTS_MAX: usize = 64;
/// How often a lease that somebody has is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Version of the tables and of what the groups hold; the same as in SQLite.
const LAYOUT_VERSION: i64 = super::LAYOUT_VERSION;
/// In its stead while books are moved in: what is there is their beginning and not them.
const MOVING_VERSION: i64 = -LAYOUT_VERSION;

const LAYOUT: &str = "
    CREATE SCHEMA IF NOT EXISTS bourse;
    CREATE TABLE IF NOT EXISTS bourse.layout(one INT PRIMARY KEY CHECK (one = 1), version BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS bourse.journal(seq BIGINT PRIMARY KEY, chain BYTEA NOT NULL, bytes BYTEA NOT NULL);
    CREATE TABLE IF NOT EXISTS bourse.snapshot(one INT PRIMARY KEY CHECK (one = 1), seq BIGINT NOT NULL,
        chain BYTEA NOT NULL, bytes BYTEA NOT NULL);
    CREATE TABLE IF NOT EXISTS bourse.lease(one INT PRIMARY KEY CHECK (one = 1), token BIGINT NOT NULL,
        expires_at TIMESTAMPTZ NOT NULL);
    INSERT INTO bourse.lease VALUES (1, 0, now()) ON CONFLICT DO NOTHING;
";
const RENEW: &str =
    "UPDATE bourse.lease SET expires_at = clock_timestamp() + $2::BIGINT * INTERVAL '1 ms' WHERE token = $1";
const APPEND: &str = "
    WITH held AS (UPDATE bourse.lease SET expires_at = clock_timestamp() + $2::BIGINT * INTERVAL '1 ms'
        WHERE token = $1 RETURNING 1)
    INSERT INTO bourse.journal(seq, chain, bytes) SELECT $3, $4, $5 FROM held";
const TAKE: &str = "
    UPDATE bourse.lease SET token = token + 1, expires_at = clock_timestamp() + $1::BIGINT * INTERVAL '1 ms'
    WHERE expires_at <= clock_timestamp() RETURNING token";

type Job = Box<dyn FnOnce(&mut Client) + Send>;

/// A journal in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresJournal {
    jobs: Sender<Job>,
    lease: Lease,
    /// The lease's; zero for those who only read.
    token: Arc<AtomicI64>,
    last: Position,
    broken: Option<JournalError>,
}

impl PostgresJournal {
    /// Opens or creates the journal at that address for one writer. Waits for the lease of another writer to end, as long
    /// as `patience`; it ends by itself when that writer is gone.
    pub fn open(url: &str, patience: Duration) -> Result<Self, JournalError> {
        Self::open_as(url, patience, &[LAYOUT_VERSION])
    }

    /// The same for the one who moves books in, also after a move that was broken off.
    pub(crate) fn open_to_move_in(url: &str, patience: Duration) -> Result<Self, JournalError> {
        Self::open_as(url, patience, &[LAYOUT_VERSION, MOVING_VERSION])
    }

    fn open_as(url: &str, patience: Duration, layouts: &[i64]) -> Result<Self, JournalError> {
        let mut journal = Self::connect(url)?;
        journal.ask(|client| client.batch_execute(LAYOUT))?;
        journal.check_layout(layouts)?;
        let until = Instant::now() + patience;
        let token = loop {
            let asked = Instant::now();
            let taken = journal.ask(|client| client.query_opt(TAKE, &[&ttl_ms()]))?;
            match taken {
                Some(row) => {
                    journal.lease.give(asked);
                    break row.get::<_, i64>(0);
                }
                None if Instant::now() >= until => return Err(JournalError::InUse),
                None => thread::sleep(ASK_AGAIN),
            }
        };
        journal.token.store(token, Ordering::Relaxed);
        // Whoever had the lease meanwhile may have begun or ended a move.
        journal.check_layout(layouts)?;
        journal.last = journal.find_last()?;
        Ok(journal)
    }

    /// From here on until [`Self::end_move`] nobody else takes what is there for whole books, whatever becomes of the mover.
    pub(crate) fn begin_move(&mut self) -> Result<(), JournalError> {
        self.set_layout(MOVING_VERSION)
    }

    /// The books are all there.
    pub(crate) fn end_move(&mut self) -> Result<(), JournalError> {
        self.set_layout(LAYOUT_VERSION)
    }

    fn set_layout(&mut self, version: i64) -> Result<(), JournalError> {
        let token = self.usable()?;
        let sql = "
            WITH held AS (SELECT 1 FROM bourse.lease WHERE token = $1 FOR SHARE)
            UPDATE bourse.layout SET version = $2 FROM held";
        match self.ask(move |client| client.execute(sql, &[&token, &version])) {
            Ok(1) => Ok(()),
            Ok(_) => self.fail(JournalError::InUse),
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Opens an existing journal for reading, beside its writer or without one.
    pub fn open_read_only(url: &str) -> Result<Self, JournalError> {
        let mut journal = Self::connect(url)?;
        journal.check_layout(&[LAYOUT_VERSION])?;
        journal.last = journal.find_last()?;
        Ok(journal)
    }

    fn connect(url: &str) -> Result<Self, JournalError> {
        let (jobs, taken) = channel();
        let (told, opened) = sync_channel(1);
        let (database, token) = (Database::at(url)?, Arc::<AtomicI64>::default());
        let lease = Lease::default();
        let shared = (Arc::clone(&token), lease.clone());
        let place = Place::take()?;
        let thread = thread::Builder::new().name("bourse-postgres".to_owned());
        thread
            .spawn(move || {
                run(&database, &taken, &told, &shared);
                drop(place);
            })
            .map_err(|error| JournalError::Store(error.to_string()))?;
        answer(&opened, OPENS_WITHIN)??;
        Ok(Self { jobs, lease, token, last: Position::default(), broken: None })
    }

    /// Has the client's thread do something and waits for it.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask_within(ANSWERS_WITHIN, job)
    }

    fn ask_within<T: Send + 'static>(
        &self,
        within: Duration,
        job: impl FnOnce(&mut Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T, JournalError> {
        if let Some(lost) = self.lease.lost() {
            return Err(lost.clone());
        }
        let (told, done) = sync_channel(1);
        let job: Job = Box::new(move |client| {
            // Who asked may have gone.
            let _ = told.send(job(client));
        });
        self.jobs.send(job).map_err(|_| gone())?;
        match answer(&done, within) {
            Ok(done) => done.map_err(|error| failed(&error)),
            // Nothing more is asked of this client, and it renews nothing.
            Err(error) => Err(self.lease.lose(error)),
        }
    }

    fn check_layout(&self, good: &[i64]) -> Result<(), JournalError> {
        let sql = "INSERT INTO bourse.layout VALUES (1, $1) ON CONFLICT DO NOTHING";
        let found = self.ask(move |client| {
            if let Some(row) = client.query_opt("SELECT version FROM bourse.layout", &[])? {
                return Ok(row.get::<_, i64>(0));
            }
            client.execute(sql, &[&LAYOUT_VERSION])?;
            Ok(LAYOUT_VERSION)
        })?;
        match found {
            found if good.contains(&found) => Ok(()),
            MOVING_VERSION => Err(JournalError::Store(
                "books are being moved into this database, or were and it was broken off: `bourse migrate` takes it up \
                 where it stopped"
                    .to_owned(),
            )),
            other => Err(super::unknown_layout(other)),
        }
    }

    fn find_last(&self) -> Result<Position, JournalError> {
        let sql = "SELECT seq, chain FROM bourse.journal ORDER BY seq DESC LIMIT 1";
        let row = self.ask(move |client| client.query_opt(sql, &[]))?;
        row.map_or(Ok(Position::default()), |row| position(&row))
    }

    fn chain_at(&self, seq: u64) -> Result<Option<Digest32>, JournalError> {
        if seq == 0 {
            return Ok(Some(Digest32::default()));
        }
        let sql = "SELECT seq, chain FROM bourse.journal WHERE seq = $1";
        let row = self.ask(move |client| client.query_opt(sql, &[&seq.cast_signed()]))?;
        row.map(|row| position(&row).map(|position| position.chain)).transpose()
    }

    /// A failed write is the end of this journal: nothing is known about it.
    fn fail<T>(&mut self, error: JournalError) -> Result<T, JournalError> {
        self.broken = Some(error.clone());
        Err(error)
    }

    fn usable(&self) -> Result<i64, JournalError> {
        if let Some(error) = self.broken.as_ref().or(self.lease.lost()) {
            return Err(error.clone());
        }
        match self.token.load(Ordering::Relaxed) {
            0 => Err(JournalError::Store("the journal is open for reading only".to_owned())),
            token => Ok(token),
        }
    }
}

impl Drop for PostgresJournal {
    fn drop(&mut self) {
        // Who closes in order lets the next one in at once; otherwise the lease ends by itself. Not renewed any more.
        let token = self.token.swap(0, Ordering::Relaxed);
        if token != 0 {
            let sql = "UPDATE bourse.lease SET expires_at = clock_timestamp() WHERE token = $1";
            let _ = self.ask_within(LEASE_TTL, move |client| client.execute(sql, &[&token]));
        }
    }
}

impl Journal for PostgresJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        let token = self.usable()?;
        if bytes.len() > GROUP_BYTES_MAX {
            return Err(JournalError::GroupTooLarge(bytes.len()));
        }
        let (at, bytes) = (chain_hash(self.last, bytes), bytes.to_vec());
        let seq = at.seq.cast_signed();
        let chain = at.chain.0.to_vec();
        let asked = Instant::now();
        let written = self.ask_within(LEASE_TTL, move |client| {
            client.execute(APPEND, &[&token, &ttl_ms(), &seq, &chain, &bytes])
        });
        match written {
            Ok(1) => {
                self.lease.give(asked);
                self.last = at;
                Ok(at)
            }
            // Somebody else has the lease: nothing was written.
            Ok(_) => self.fail(JournalError::InUse),
            Err(error) => self.fail(error),
        }
    }

    fn last(&self) -> Position {
        self.last
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        super::same_history(after, self.chain_at(after.seq)?)?;
        let limit = i64::try_from(count_max).unwrap_or(i64::MAX);
        let sql = "SELECT seq, chain, bytes FROM bourse.journal WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = self.ask(move |client| client.query(sql, &[&after.seq.cast_signed(), &limit]))?;
        let mut before = after;
        rows.into_iter()
            .map(|row| {
                let at = position(&row)?;
                let group = verified(before, at, row.get::<_, Vec<u8>>(2))?;
                before = group.position;
                Ok(group)
            })
            .collect()
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        let token = self.usable()?;
        let sql = "
            WITH held AS (SELECT 1 FROM bourse.lease WHERE token = $1 FOR SHARE)
            INSERT INTO bourse.snapshot(one, seq, chain, bytes) SELECT 1, $2, $3, $4 FROM held
            ON CONFLICT (one) DO UPDATE SET seq = EXCLUDED.seq, chain = EXCLUDED.chain, bytes = EXCLUDED.bytes";
        let (seq, chain) = (snapshot.at.seq.cast_signed(), snapshot.at.chain.0.to_vec());
        let bytes = snapshot.bytes.clone();
        match self.ask(move |client| client.execute(sql, &[&token, &seq, &chain, &bytes])) {
            Ok(1) => Ok(()),
            Ok(_) => self.fail(JournalError::InUse),
            Err(error) => self.fail(error),
        }
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        let sql = "SELECT seq, chain, bytes FROM bourse.snapshot";
        let row = self.ask(move |client| client.query_opt(sql, &[]))?;
        row.map(|row| Ok(Snapshot { at: position(&row)?, bytes: row.get(2) })).transpose()
    }
}

/// The client's thread: does what it is asked, and renews the lease in between.
fn run(
    database: &Database,
    jobs: &Receiver<Job>,
    told: &SyncSender<Result<(), JournalError>>,
    (token, lease): &(Arc<AtomicI64>, Lease),
) {
    let mut client = match database.connect() {
        Ok(client) => client,
        Err(error) => return drop(told.send(Err(failed(&error)))),
    };
    let begun = client.batch_execute("SET synchronous_commit = on").map_err(|error| failed(&error));
    let is_open = begun.is_ok();
    if told.send(begun).is_err() || !is_open {
        return;
    }
    let mut renewed = Instant::now();
    loop {
        match jobs.recv_timeout(RENEW_EVERY) {
            // What was asked of a client that is given up is not done after all, as far as it has not begun.
            _ if lease.lost().is_some() => return,
            Ok(job) => job(&mut client),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Also while it is read from: a long replay at the start must not cost the lease.
        if renewed.elapsed() >= RENEW_EVERY {
            let asked = Instant::now();
            lease.asks(asked);
            let done = renew(&mut client, token.load(Ordering::Relaxed));
            // Looked at before it is known that it has been answered: late is lost.
            if lease.lost().is_some() {
                return;
            }
            lease.is_answered();
            match done {
                Ok(true) => lease.give(asked),
                Ok(false) => {}
                Err(lost) => drop(lease.lose(lost)),
            }
            renewed = Instant::now();
        }
    }
}

/// Renews the lease of that token, if there is one, and tells whether it did. An error: it is lost. What a database that
/// still answers refuses may go well the next time.
fn renew(client: &mut Client, token: i64) -> Result<bool, JournalError> {
    if token == 0 {
        return Ok(false);
    }
    match client.execute(RENEW, &[&token, &ttl_ms()]) {
        Ok(0) => Err(JournalError::InUse),
        Ok(_) => Ok(true),
        Err(error) if error.as_db_error().is_some() => {
            tracing::warn!(%error, "the journal's lease could not be renewed");
            Ok(false)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn ttl_ms() -> i64 {
    i64::try_from(LEASE_TTL.as_millis()).unwrap_or(i64::MAX)
}

fn position(row: &Row) -> Result<Position, JournalError> {
    let seq = row.get::<_, i64>(0).cast_unsigned();
    let chain = <[u8; 32]>::try_from(row.get::<_, &[u8]>(1));
    let damaged = |_| JournalError::Damaged {
        last_good: seq.saturating_sub(1),
        what: format!("group {seq} has a chain hash of another length"),
    };
    Ok(Position { seq, chain: Digest32(chain.map_err(damaged)?) })
}

/// The right to run one client.
struct Place;

/// How many there are.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Result<Self, JournalError> {
        let more = |count| (count < CLIENTS_MAX).then_some(count + 1);
        match CLIENTS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self),
            Err(count) => Err(JournalError::Store(format!(
                "{count} clients of the database are open or were left behind because it did not answer: no more"
            ))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a client's thread says within a time.
fn answer<T>(said: &Receiver<T>, within: Duration) -> Result<T, JournalError> {
    said.recv_timeout(within).map_err(|error| match error {
        RecvTimeoutError::Timeout => hung(within),
        RecvTimeoutError::Disconnected => gone(),
    })
}

fn gone() -> JournalError {
    JournalError::Store("the database's thread has ended".to_owned())
}

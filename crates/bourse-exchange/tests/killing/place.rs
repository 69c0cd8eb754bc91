//! Where a market's books are: in its folder, or in a database of a server of this test alone.

use super::load::config;
use crate::cluster::Cluster;
use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, NewKey, PostgresJournal, SqliteJournal, hash_key, migrate,
};
use bourse_ledger::Journal;
use bourse_types::{NanoUsd, UnixMs};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Of the first key, for each day: never reached.
pub(crate) const LIMIT: NanoUsd = NanoUsd::from_usd(900);
/// How long the connections of a dead process may live on.
const GOES_WITHIN: Duration = Duration::from_secs(30);
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Place {
    dir: TempDir,
    server: Option<Cluster>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self { dir: new_dir(), server: None }
    }

    pub(crate) fn postgres() -> Self {
        Self { dir: new_dir(), server: Some(Cluster::start()) }
    }

    /// Room for another market.
    pub(crate) fn renew(&mut self) {
        self.dir = new_dir();
        if let Some(server) = &self.server {
            self.wait_for_the_end_of_writers();
            server.sql("DROP SCHEMA IF EXISTS bourse CASCADE");
            migrate(self.dir(), &server.url(), |_, _| {}).expect("an empty folder moves");
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Begins the market, if no process did, and returns the hashes of two keys, the first with a limit.
    pub(crate) fn begin(&self, now: UnixMs) -> Vec<String> {
        let exchange = Exchange::open(self.dir(), config(u64::MAX), now).expect("a market begins");
        let key = |limit: Option<NanoUsd>| {
            let key = NewKey {
                label: "crash".to_owned(),
                limit_usd: limit.map(NanoUsd::to_usd_string),
                reset: limit.map(|_| "daily".to_owned()),
                ..NewKey::default()
            };
            match exchange.admin(AdminRequest::CreateKey(key), now).expect("a key") {
                AdminReply::KeyCreated { secret, .. } => hash_key(&secret.0).to_string(),
                other => panic!("{other:?}"),
            }
        };
        vec![key(Some(LIMIT)), key(None)]
    }

    /// The journal, for reading.
    pub(crate) fn journal(&self) -> Box<dyn Journal> {
        match &self.server {
            Some(server) => Box::new(PostgresJournal::open_read_only(&server.url()).expect("a journal")),
            None => Box::new(SqliteJournal::open_read_only(self.dir()).expect("a journal")),
        }
    }

    pub(crate) fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// A server ends what the dead had asked it for; until then their books may still grow.
    pub(crate) fn wait_for_the_end_of_writers(&self) {
        let Some(server) = &self.server else { return };
        let others = "SELECT count(*) FROM pg_stat_activity, pg_sleep(0.002)
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let until = Instant::now() + GOES_WITHIN;
        while server.sql(others).as_deref() != Some("0") {
            assert!(Instant::now() < until, "somebody stays connected");
        }
    }

    /// Ends the lease of a writer that is surely dead, so that the next one need not wait for it.
    pub(crate) fn end_lease(&self) {
        if let Some(server) = &self.server {
            server.end_lease();
        }
    }

    /// Waits until a writer has the lease that this one had.
    pub(crate) fn wait_for_the_next_lease(&self, before: Option<&str>) {
        let until = Instant::now() + TAKEN_WITHIN;
        while self.lease().as_deref() == before {
            assert!(Instant::now() < until, "nobody takes the lease");
        }
    }

    /// The token of the lease.
    pub(crate) fn lease(&self) -> Option<String> {
        self.server.as_ref()?.sql("SELECT token FROM bourse.lease")
    }

    /// What another machine has to have to take over the market.
    pub(crate) fn folder_elsewhere(&self) -> TempDir {
        let folder = new_dir();
        for name in ["exchange.key", "exchange.journal"] {
            std::fs::copy(self.dir().join(name), folder.path().join(name)).expect("a copy");
        }
        folder
    }

    pub(crate) fn kill_server(&mut self) {
        self.server.as_mut().expect("a server").kill();
    }

    pub(crate) fn restart_server(&mut self) {
        self.server.as_mut().expect("a server").restart();
    }
}

fn new_dir() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

//! The journal in a real PostgreSQL: the suite of all journals, the lease, and a server that is killed.

mod cluster;

use bourse_exchange::{LEASE_TTL, PostgresJournal};
use bourse_ledger::conformance::check_journal;
use bourse_ledger::{Journal, JournalError, Position, Snapshot};
use cluster::Cluster;
use std::time::{Duration, Instant};

const NOW: Duration = Duration::ZERO;
const WHILE: Duration = Duration::from_secs(20);

fn open(cluster: &Cluster, patience: Duration) -> Result<PostgresJournal, JournalError> {
    PostgresJournal::open(&cluster.url(), patience)
}

#[test]
fn it_does_what_every_journal_does() {
    let cluster = Cluster::start();
    check_journal(|before: Option<PostgresJournal>| {
        drop(before);
        open(&cluster, NOW).unwrap()
    });
    let mut reader = PostgresJournal::open_read_only(&cluster.url()).unwrap();
    assert!(reader.last().seq > 0, "readers see what is there");
    assert!(matches!(reader.append(b"x"), Err(JournalError::Store(why)) if why.contains("reading only")));
}

#[test]
fn one_writer_at_a_time_and_the_next_one_when_it_is_gone() {
    let cluster = Cluster::start();
    let mut first = open(&cluster, NOW).unwrap();
    first.append(b"one").unwrap();
    assert_eq!(open(&cluster, NOW).unwrap_err(), JournalError::InUse);
    // It keeps its lease while it has nothing to say.
    std::thread::sleep(LEASE_TTL + Duration::from_secs(1));
    assert_eq!(open(&cluster, NOW).unwrap_err(), JournalError::InUse);
    let last = first.append(b"two").unwrap();
    // It closes in order: the next one is in at once.
    drop(first);
    assert_eq!(open(&cluster, NOW).unwrap().last(), last);
    // It dies without a word: the next one waits for the end of the lease, and no longer than a moment more.
    let dying = open(&cluster, NOW).unwrap();
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%bourse%'");
    let since = Instant::now();
    let next = open(&cluster, WHILE).unwrap();
    assert!(since.elapsed() < LEASE_TTL + Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(next.last(), last);
    drop(dying);
}

/// A writer that was taken for dead, such as after a pause, and goes on.
#[test]
fn a_writer_that_lost_its_lease_writes_nothing_more() {
    let cluster = Cluster::start();
    let mut zombie = open(&cluster, NOW).unwrap();
    let one = zombie.append(b"one").unwrap();
    cluster.sql("UPDATE bourse.lease SET expires_at = now() - INTERVAL '1 s'");
    let mut next = open(&cluster, NOW).unwrap();
    assert_eq!(next.last(), one);
    assert_eq!(zombie.append(b"two, by the dead"), Err(JournalError::InUse));
    assert_eq!(zombie.append(b"again"), Err(JournalError::InUse), "it stays dead");
    let lie = Snapshot { at: one, bytes: b"lie".to_vec() };
    assert_eq!(zombie.save_snapshot(&lie), Err(JournalError::InUse));
    let two = next.append(b"two").unwrap();
    drop(zombie);
    next.append(b"three").unwrap();
    let read = next.read(Position::default(), 9).unwrap();
    let bytes: Vec<&[u8]> = read.iter().map(|group| group.bytes.as_slice()).collect();
    assert_eq!(bytes, [b"one".as_slice(), b"two", b"three"]);
    assert_eq!((read[1].position, next.load_snapshot()), (two, Ok(None)));
}

#[test]
fn what_was_acknowledged_survives_a_kill_of_the_server() {
    let mut cluster = Cluster::start();
    let mut acknowledged = Position::default();
    for round in 0..3u8 {
        let mut journal = open(&cluster, WHILE).unwrap();
        assert_eq!(journal.last(), acknowledged, "round {round}");
        for n in 0..20u8 {
            acknowledged = journal.append(&[round, n]).unwrap();
        }
        cluster.kill();
        let lost = journal.append(b"into the void").unwrap_err();
        assert!(matches!(lost, JournalError::Store(_)), "{lost}");
        assert_eq!(journal.append(b"again").unwrap_err(), lost, "an unsure journal is closed");
        cluster.restart();
    }
    let journal = PostgresJournal::open_read_only(&cluster.url()).unwrap();
    assert_eq!((journal.last(), journal.read(Position::default(), 999).unwrap().len()), (acknowledged, 60));
}

#[test]
fn damage_is_found_and_named() {
    let cluster = Cluster::start();
    let mut journal = open(&cluster, NOW).unwrap();
    for text in ["one", "two", "three"] {
        journal.append(text.as_bytes()).unwrap();
    }
    let read = || PostgresJournal::open_read_only(&cluster.url()).unwrap().read(Position::default(), 9);
    let damaged = |last_good, what: &str| Err(JournalError::Damaged { last_good, what: what.to_owned() });
    cluster.sql("UPDATE bourse.journal SET bytes = 'twa' WHERE seq = 2");
    assert_eq!(read(), damaged(1, "the bytes of group 2 are not what was written"));
    cluster.sql("DELETE FROM bourse.journal WHERE seq = 2");
    assert_eq!(read(), damaged(1, "group 2 is missing"));
    cluster.sql("UPDATE bourse.layout SET version = 99");
    let unknown = PostgresJournal::open_read_only(&cluster.url()).unwrap_err();
    assert!(unknown.to_string().contains("layout 99"), "{unknown}");
}

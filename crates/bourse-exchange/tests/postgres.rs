//! The journal in a real PostgreSQL: the suite of all journals, the lease, and a server that is killed.

mod cluster;
#[path = "postgres/dam.rs"]
mod dam;
#[path = "postgres/tls.rs"]
mod tls;

use bourse_exchange::{
    AdminRequest, Exchange, ExchangeConfig, LEASE_TTL, MigrateError, NewKey, PostgresJournal, balances,
    check, migrate,
};
use bourse_ledger::conformance::check_journal;
use bourse_ledger::{Journal, JournalError, Position, Snapshot};
use bourse_types::UnixMs;
use cluster::Cluster;
use dam::Dam;
use std::path::Path;
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
    let first_end = cluster.sql("SELECT expires_at FROM bourse.lease").expect("a lease");
    let is_past = format!("SELECT clock_timestamp() > '{first_end}' FROM pg_sleep(0.05)");
    while cluster.sql(&is_past).as_deref() != Some("t") {}
    assert_eq!(open(&cluster, NOW).unwrap_err(), JournalError::InUse);
    let last = first.append(b"two").unwrap();
    // It closes in order: the next one is in at once.
    drop(first);
    assert_eq!(open(&cluster, NOW).unwrap().last(), last);
    // It dies without a word: the next one waits for the end of the lease, and not much longer.
    let dying = open(&cluster, NOW).unwrap();
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%bourse%'");
    let since = Instant::now();
    let next = open(&cluster, WHILE).unwrap();
    assert!(since.elapsed() < 3 * LEASE_TTL, "{:?}", since.elapsed());
    assert_eq!(next.last(), last);
    drop(dying);
}

/// A long replay at the start is reading and nothing else.
#[test]
fn a_writer_that_only_reads_keeps_its_lease() {
    let cluster = Cluster::start();
    let writer = open(&cluster, NOW).unwrap();
    let first_end = cluster.sql("SELECT expires_at FROM bourse.lease").expect("a lease");
    let is_past = format!("SELECT clock_timestamp() > '{first_end}' FROM pg_sleep(0.05)");
    while cluster.sql(&is_past).as_deref() != Some("t") {
        // The client's thread is never left alone for as long as a renewal takes to be due.
        (0..20).for_each(|_| assert_eq!(writer.read(Position::default(), 1), Ok(Vec::new())));
    }
    assert_eq!(open(&cluster, NOW).unwrap_err(), JournalError::InUse);
    drop(writer);
    open(&cluster, NOW).unwrap();
}

/// A writer that was taken for dead, such as after a pause, and goes on.
#[test]
fn a_writer_that_lost_its_lease_writes_nothing_more() {
    let cluster = Cluster::start();
    let mut zombie = open(&cluster, NOW).unwrap();
    let one = zombie.append(b"one").unwrap();
    cluster.end_lease();
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

const START: UnixMs = UnixMs(3_567_225_600_000);

fn market(dir: &Path) -> Exchange {
    Exchange::open(dir, ExchangeConfig::default(), START).expect("it works")
}

fn give_credit(exchange: &Exchange, to: &str) {
    let create = AdminRequest::CreateKey(NewKey {
        label: to.to_owned(),
        account: Some(to.to_owned()),
        ..NewKey::default()
    });
    exchange.admin(create, START).expect("it works");
    let credit =
        AdminRequest::Credit { account: to.to_owned(), amount_usd: "2.5".to_owned(), idempotency_key: None };
    exchange.admin(credit, START).expect("it works");
}

#[test]
fn a_market_moves_into_a_database_and_goes_on_there() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let exchange = market(dir.path());
    give_credit(&exchange, "alice");
    let busy = migrate(dir.path(), &cluster.url(), |_, _| {}).unwrap_err();
    assert!(busy.to_string().contains("another process"), "a running market is not moved: {busy}");
    exchange.close().unwrap();
    let (digest, key) = (exchange.digest(), exchange.public_key());
    drop(exchange);
    let before = balances(dir.path()).unwrap();

    let mut seen = Vec::new();
    let groups = migrate(dir.path(), &cluster.url(), |at, all| seen.push((at, all))).unwrap();
    assert_eq!((seen.first(), seen.last()), (Some(&(0, groups)), Some(&(groups, groups))));
    assert!(dir.path().join("exchange.db.moved").exists() && !dir.path().join("exchange.db").exists());
    assert!(matches!(migrate(dir.path(), &cluster.url(), |_, _| {}), Err(MigrateError::Moved)));
    assert_eq!(balances(dir.path()).unwrap(), before, "whoever reads finds them there");

    let exchange = market(dir.path());
    assert_eq!((exchange.digest(), exchange.public_key()), (digest, key), "the same to the bit");
    give_credit(&exchange, "bob");
    assert!(check(dir.path(), START).unwrap().is_clean(), "beside the live market");
    exchange.close().unwrap();
    drop(exchange);
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean() && report.last_good_group > groups, "{report:?}");
    assert!(
        balances(dir.path())
            .unwrap()
            .iter()
            .any(|line| line.name == "bob" && line.balance_usd == "2.500000000")
    );

    // Other books do not mix with these.
    let other = tempfile::tempdir().unwrap();
    drop(market(other.path()));
    assert!(matches!(migrate(other.path(), &cluster.url(), |_, _| {}), Err(MigrateError::OtherBooks)));
    assert!(other.path().join("exchange.db").exists(), "they stay where they are");
}

#[test]
fn a_move_that_broke_off_is_taken_up_and_a_new_market_may_begin_in_a_database() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let exchange = market(dir.path());
    (0..5).for_each(|n| give_credit(&exchange, &format!("buyer-{n}")));
    drop(exchange);
    let broken = std::panic::catch_unwind(|| {
        migrate(dir.path(), &cluster.url(), |at, _| assert!(at < 2, "the move breaks off"))
    });
    assert!(broken.is_err() && dir.path().join("exchange.db").exists());
    // A standby that was made ready too early does not take the beginning of the books for all of them.
    let early = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("exchange.key"), early.path().join("exchange.key")).unwrap();
    std::fs::write(early.path().join("exchange.journal"), cluster.url()).unwrap();
    let refused = Exchange::open(early.path(), ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert!(refused.to_string().contains("`bourse migrate` takes it up"), "{refused}");
    assert!(check(early.path(), START).is_err(), "nor does whoever reads");
    let mut first = None;
    let groups = migrate(dir.path(), &cluster.url(), |at, _| {
        first.get_or_insert(at);
    })
    .unwrap();
    assert_eq!(
        (first, PostgresJournal::open_read_only(&cluster.url()).unwrap().last().seq),
        (Some(3), groups)
    );
    drop(market(early.path()));

    let (cluster, fresh) = (Cluster::start(), tempfile::tempdir().unwrap());
    assert_eq!(migrate(fresh.path(), &cluster.url(), |_, _| {}).unwrap(), 0);
    let exchange = market(fresh.path());
    give_credit(&exchange, "alice");
    drop(exchange);
    assert!(check(fresh.path(), START).unwrap().is_clean());
    assert!(!fresh.path().join("exchange.db").exists());
}

#[test]
fn a_market_whose_database_is_killed_says_so_and_comes_back_with_everything() {
    let mut cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    migrate(dir.path(), &cluster.url(), |_, _| {}).unwrap();
    let exchange = market(dir.path());
    give_credit(&exchange, "alice");
    exchange.flush().unwrap();
    cluster.kill();
    let refused = exchange.admin(
        AdminRequest::Credit {
            account: "alice".to_owned(),
            amount_usd: "1".to_owned(),
            idempotency_key: None,
        },
        START,
    );
    assert!(refused.is_err(), "nothing is acknowledged that is not on disk");
    drop(exchange);
    cluster.restart();
    let exchange = market(dir.path());
    give_credit(&exchange, "bob");
    drop(exchange);
    assert!(check(dir.path(), START).unwrap().is_clean());
    let lines = balances(dir.path()).unwrap();
    let alice = lines.iter().find(|line| line.name == "alice").unwrap();
    assert_eq!(alice.balance_usd, "2.500000000", "what was acknowledged, and no more");
}

/// Such as one that was restored from an older backup, or whose replica had not everything when it took over.
#[test]
fn a_database_that_lost_its_last_groups_is_not_continued() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    migrate(dir.path(), &cluster.url(), |_, _| {}).unwrap();
    let exchange = market(dir.path());
    give_credit(&exchange, "alice");
    drop(exchange);
    let last = check(dir.path(), START).unwrap().last_good_group;
    cluster.sql("DELETE FROM bourse.snapshot");
    cluster.sql(&format!("DELETE FROM bourse.journal WHERE seq = {last}"));
    let refused = Exchange::open(dir.path(), ExchangeConfig::default(), START).map(drop).unwrap_err();
    assert!(refused.to_string().contains(&format!("group {last} was committed and is gone")), "{refused}");
    let report = check(dir.path(), START).unwrap();
    assert_eq!(report.last_good_group, last - 1, "{report:?}");
    assert!(report.problems[0].contains("is gone"), "{report:?}");
    // Whoever knows it and goes on without them says so.
    std::fs::remove_file(dir.path().join("exchange.tail")).unwrap();
    drop(market(dir.path()));
}

/// Waits until a market that has nothing to write says that it goes on no more.
fn stops(exchange: &Exchange) {
    let since = Instant::now();
    // Nothing is overdue, so that asking writes nothing.
    while exchange.tick(START).is_ok() {
        assert!(since.elapsed() < WHILE, "it says that it goes on");
        std::thread::yield_now();
    }
}

/// It has nothing to write; whoever asks whether it serves must not be told so for long.
#[test]
fn an_idle_market_that_lost_its_lease_or_its_database_stops() {
    let mut cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    migrate(dir.path(), &cluster.url(), |_, _| {}).unwrap();
    let exchange = market(dir.path());
    exchange.flush().unwrap();
    cluster.sql("UPDATE bourse.lease SET token = token + 1");
    stops(&exchange);
    drop(exchange);
    let exchange = market(dir.path());
    exchange.flush().unwrap();
    cluster.kill();
    stops(&exchange);
    drop(exchange);
    cluster.restart();
    drop(market(dir.path()));
    assert!(check(dir.path(), START).unwrap().is_clean());
}

#[test]
fn a_writer_whose_database_hangs_stops_when_its_lease_is_over_and_takes_nothing_back() {
    let (dam, cluster) = Dam::before_a_cluster();
    let mut journal = PostgresJournal::open(&dam.url(), NOW).unwrap();
    let one = journal.append(b"one").unwrap();
    dam.shut();
    let since = Instant::now();
    let lost = journal.append(b"two").unwrap_err();
    let waited = since.elapsed();
    assert!(matches!(&lost, JournalError::Store(why) if why.contains("has not answered for 3 s")), "{lost}");
    assert!(waited >= LEASE_TTL && waited < 2 * LEASE_TTL, "{waited:?}");
    let since = Instant::now();
    assert_eq!(journal.append(b"again").unwrap_err(), lost);
    drop(journal);
    assert!(since.elapsed() < LEASE_TTL, "nothing waits for it any more");
    assert!(PostgresJournal::open(&dam.url(), NOW).is_err(), "nor does who comes now wait for ever");
    // The database answers again: the one that gave up renews nothing, so another one has the lease soon.
    dam.open();
    let mut next = open(&cluster, WHILE).unwrap();
    assert!((one.seq..=one.seq + 1).contains(&next.last().seq), "an unsure group is there or not");
    next.append(b"three").unwrap();
}

#[test]
fn an_idle_market_whose_database_hangs_stops_and_closes() {
    let (dam, _cluster) = Dam::before_a_cluster();
    let dir = tempfile::tempdir().unwrap();
    migrate(dir.path(), &dam.url(), |_, _| {}).unwrap();
    let exchange = market(dir.path());
    give_credit(&exchange, "alice");
    exchange.flush().unwrap();
    dam.shut();
    stops(&exchange);
    let since = Instant::now();
    assert!(exchange.close().is_err());
    drop(exchange);
    assert!(since.elapsed() < WHILE, "closing waits for nobody who does not answer");
    dam.open();
    let exchange = market(dir.path());
    give_credit(&exchange, "bob");
    drop(exchange);
    assert!(check(dir.path(), START).unwrap().is_clean());
}

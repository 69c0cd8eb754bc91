//! Real crashes: a child process that serves requests is killed at any moment, again and again over the
//! same books. What it acknowledged is there, what it had held is free, and the audit is clean.

#![expect(clippy::unwrap_used, reason = "a test binary, helpers included")]

mod support;

use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, check, hash_key};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{ActivityQuery, Funds, GenerationNote, KeyGrant, NoteText, Records};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{START, block_on, hold, request, settlement};

const KILLS: u64 = 12;
const CALLERS: u64 = 6;
const DIR: &str = "BOURSE_CRASH_TEST_DIR";
const KEY: &str = "BOURSE_CRASH_TEST_KEY";
const ROUND: &str = "BOURSE_CRASH_TEST_ROUND";
const CHARGE: u64 = 777;
/// Of the key, for each day: never reached.
const LIMIT: NanoUsd = NanoUsd::from_usd(900);

fn config() -> ExchangeConfig {
    // Snapshots often, so that some kills fall between a group and its snapshot.
    ExchangeConfig {
        starting_credit: NanoUsd::from_usd(1_000),
        snapshot_events: 200,
        ..ExchangeConfig::default()
    }
}

/// Numbers of one round never meet those of another.
fn number(round: u64, caller: u64, n: u64) -> u64 {
    round * 10_000_000 + caller * 1_000_000 + n
}

/// The child: serves until it is killed. A no-op in an ordinary test run.
#[test]
fn writer_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let key = KeyHash::parse_hex(&std::env::var(KEY).unwrap()).unwrap();
    let exchange = Exchange::open(Path::new(&dir), config(), START).unwrap();
    let grant = exchange.authenticate(&key, START).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let exchange = &exchange;
            scope.spawn(move || serve_for_ever(exchange, grant, round, caller));
        }
    });
}

fn serve_for_ever(exchange: &Exchange, grant: KeyGrant, round: u64, caller: u64) {
    for n in 0.. {
        let number = number(round, caller, n);
        let now = UnixMs(START.0 + n);
        let id = request(number, START);
        exchange.hold(&hold(id, grant, 5_000, now)).unwrap();
        if n % 4 == 3 {
            // Some requests are in flight when the end comes.
            continue;
        }
        let mut ended = settlement(id, grant, CHARGE, now);
        ended.note = note(number);
        let settled = exchange.settle(ended).unwrap();
        block_on(exchange.durable(settled.ticket)).unwrap();
        println!("\nacknowledged {number}");
    }
}

/// What a request's generation record shows beside its receipt.
fn note(number: u64) -> GenerationNote {
    GenerationNote { session_id: NoteText::clip(&number.to_string()), ..GenerationNote::default() }
}

fn start_writer(dir: &Path, key: &KeyHash, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .env(KEY, key.to_string())
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the writer acknowledge `count` requests, kills it, and returns all that it acknowledged.
fn kill_after(mut writer: Child, count: usize) -> Vec<u64> {
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        if let Some(number) = line.unwrap().strip_prefix("acknowledged ") {
            acknowledged.push(number.parse().unwrap());
        }
        if acknowledged.len() == count {
            writer.kill().unwrap();
        }
    }
    assert!(acknowledged.len() >= count, "the writer ended by itself");
    writer.wait().unwrap();
    acknowledged
}

/// Begins a market and returns its first key.
fn begin(dir: &Path) -> KeyHash {
    let exchange = Exchange::open(dir, config(), START).unwrap();
    let create = AdminRequest::CreateKey(NewKey {
        label: "crash".to_owned(),
        limit_usd: Some(LIMIT.to_usd_string()),
        reset: Some("daily".to_owned()),
        ..NewKey::default()
    });
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(create, START).unwrap() else { panic!() };
    hash_key(&secret.0)
}

#[test]
fn a_torn_or_flipped_log_after_a_crash_is_found_and_not_continued() {
    type Damage = fn(&mut Vec<u8>);
    // In the middle: the very end may belong to a commit that nobody was told of.
    let tear: Damage = |log| log.truncate(log.len() / 2);
    let flip: Damage = |log| {
        let middle = log.len() / 2;
        log[middle] ^= 4;
    };
    for damage in [tear, flip] {
        let dir = tempfile::tempdir().unwrap();
        let key = begin(dir.path());
        kill_after(start_writer(dir.path(), &key, 0), 40);
        let log = dir.path().join("exchange.db-wal");
        let mut bytes = std::fs::read(&log).unwrap();
        damage(&mut bytes);
        std::fs::write(&log, bytes).unwrap();
        let report = check(dir.path(), START).unwrap();
        assert!(report.problems[0].contains("was committed and is gone"), "{report:?}");
        assert!(report.last_good_group > 0);
        let refused = Exchange::open(dir.path(), config(), START).map(drop).unwrap_err().to_string();
        let last_good = format!("damaged after group {}", report.last_good_group);
        assert!(refused.contains(&last_good), "{refused}");
    }
}

#[test]
fn acknowledged_posts_survive_kills_and_orphaned_holds_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let key = begin(dir.path());
    let mut acknowledged = BTreeSet::new();
    let mut orphans = 0;
    for round in 0..KILLS {
        // 1, 24, 47, … spread over the snapshots' rhythm.
        let count = 1 + (round as usize * 23) % 131;
        acknowledged.extend(kill_after(start_writer(dir.path(), &key, round), count));
        let report = check(dir.path(), START).unwrap();
        assert!(report.is_clean(), "after kill {round}: {report:?}");
        let report = report.facts.unwrap();
        assert!(report.receipts >= acknowledged.len() as u64);
        orphans += report.holds_orphaned;
    }
    assert!(orphans > 0, "some requests were in flight");
    let exchange = Exchange::open(dir.path(), config(), START).unwrap();
    assert_eq!(exchange.open_holds(), 0);
    for number in &acknowledged {
        let found = exchange.generation(request(*number, START)).unwrap();
        let found = found.unwrap_or_else(|| panic!("request {number} was acknowledged and is lost"));
        assert_eq!((found.receipt.charge.total, found.note), (NanoUsd(CHARGE), note(*number)));
    }
    let receipts = exchange.checkpoint().unwrap().size;
    let status = exchange.key_status(&key, START).unwrap();
    assert_eq!(
        status.key.usage.total,
        NanoUsd(receipts * CHARGE),
        "every receipt was paid once, and nothing else"
    );
    assert_eq!((status.key.usage.daily, status.held), (status.key.usage.total, NanoUsd::ZERO));
    assert_eq!(status.key.limit_remaining, Some(NanoUsd(LIMIT.0 - status.key.usage.daily.0)));
    let query = ActivityQuery::default();
    let tomorrow = UnixMs(START.0 + 86_400_000);
    let rows = exchange.activity(bourse_exchange::OPERATOR, &query, tomorrow).unwrap();
    let [row] = rows.as_slice() else { panic!("one day, model and seller: {rows:?}") };
    assert_eq!((row.sums.requests, row.sums.cost), (receipts, status.key.usage.total));
    exchange.close().unwrap();
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let report = report.facts.unwrap();
    assert_eq!((report.holds_orphaned, report.receipts), (0, receipts));
}

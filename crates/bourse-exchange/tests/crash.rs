//! Real crashes: a process that serves requests is killed at any moment, again and again over the same books, in
//! SQLite and in PostgreSQL. What it acknowledged is there, nothing is charged twice, what it had held is free, and
//! every replay comes to the same bits.
//!
//! An ordinary run makes 100 kills. `BOURSE_KILLS=1000 cargo nextest run -p bourse-exchange -E 'test(kill)'` makes
//! 1,000 in each of the two places.

#![expect(clippy::unwrap_used, reason = "a test binary, helpers included")]

#[expect(dead_code, reason = "these processes are killed and not let go on")]
mod child;
#[expect(dead_code, reason = "this test kills exchanges and no network")]
mod cluster;
mod killing;
mod support;

use bourse_exchange::{Exchange, check};
use killing::Place;
use support::START;

const KILLS_SQLITE: u64 = 60;
const KILLS_POSTGRES: u64 = 40;

/// What is killed: a no-op in an ordinary test run.
#[test]
fn writer_process() {
    killing::run();
}

#[test]
fn acknowledged_posts_survive_kills_and_orphaned_holds_are_released() {
    killing::trial(Place::sqlite(), KILLS_SQLITE);
}

#[test]
fn acknowledged_posts_survive_kills_of_process_and_server_in_a_database() {
    killing::trial(Place::postgres(), KILLS_POSTGRES);
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
        let place = Place::sqlite();
        killing::killed_after(&place, 40);
        let log = place.dir().join("exchange.db-wal");
        let mut bytes = std::fs::read(&log).unwrap();
        damage(&mut bytes);
        std::fs::write(&log, bytes).unwrap();
        let report = check(place.dir(), START).unwrap();
        assert!(report.problems[0].contains("was committed and is gone"), "{report:?}");
        assert!(report.last_good_group > 0);
        let config = killing::config(u64::MAX);
        let refused = Exchange::open(place.dir(), config, START).map(drop).unwrap_err().to_string();
        let last_good = format!("damaged after group {}", report.last_good_group);
        assert!(refused.contains(&last_good), "{refused}");
    }
}

use super::breaker::SUCCESSES_TO_FORGET;
use super::*;
use crate::snapshot::tests::offer;
use bourse_types::{Digest32, DurationMs};
use proptest::prelude::*;

const ONE: OfferIndex = OfferIndex(0);

fn ok() -> Outcome {
    Outcome::success(DurationMs(100))
}

fn table() -> HealthTable {
    HealthTable::new(&MarketSnapshot::new(vec![offer("m", "a")], Digest32::default()).unwrap())
}

fn report(health: &mut HealthTable, now: u64, outcome: Outcome) {
    health.on_start(ONE);
    health.on_outcome(ONE, UnixMs(now), outcome);
}

#[test]
fn failures_in_a_row_open_it_and_a_probe_closes_it() {
    let mut health = table();
    for n in 0..BREAKER_FAILURES_IN_A_ROW {
        assert!(health.vital(ONE).admits(UnixMs(10)), "{n}");
        report(&mut health, 10, Outcome::Failure);
    }
    let until = UnixMs(10 + COOLDOWN_MS_MIN);
    assert_eq!(health.vital(ONE).breaker(UnixMs(11)), Breaker::Open { until });
    assert!(!health.vital(ONE).admits(UnixMs(until.0 - 1)));
    assert_eq!(health.vital(ONE).breaker(until), Breaker::HalfOpen);
    assert!(health.vital(ONE).admits(until));
    health.on_start(ONE);
    assert!(!health.vital(ONE).admits(until), "one probe at a time");
    health.on_outcome(ONE, until, ok());
    assert_eq!(health.vital(ONE).breaker(until), Breaker::Closed);
}

#[test]
fn one_failure_fewer_does_not_open_it() {
    let mut health = table();
    for _ in 0..50 {
        report(&mut health, 1, ok());
        report(&mut health, 1, ok());
        for _ in 1..BREAKER_FAILURES_IN_A_ROW {
            report(&mut health, 1, Outcome::Failure);
        }
        report(&mut health, 1, ok());
    }
    assert_eq!(health.vital(ONE).breaker(UnixMs(1)), Breaker::Closed);
}

#[test]
fn half_of_many_outcomes_opens_it() {
    let mut health = table();
    for n in 0..BREAKER_OUTCOMES_MIN {
        assert_eq!(health.vital(ONE).breaker(UnixMs(1)), Breaker::Closed, "{n}");
        report(&mut health, 1, if n % 2 == 0 { ok() } else { Outcome::Failure });
    }
    assert!(matches!(health.vital(ONE).breaker(UnixMs(1)), Breaker::Open { .. }));
}

#[test]
fn the_window_forgets() {
    let mut health = table();
    for n in 0..BREAKER_OUTCOMES_MIN - 1 {
        report(&mut health, 1, if n % 2 == 1 { ok() } else { Outcome::Failure });
    }
    report(&mut health, 1 + 2 * WINDOW_MS, Outcome::Failure);
    assert_eq!(health.vital(ONE).breaker(UnixMs(1 + 2 * WINDOW_MS)), Breaker::Closed);
}

#[test]
fn cooldown_doubles_up_to_its_bound_and_is_forgotten_after_recovery() {
    let mut health = table();
    let mut now = UnixMs(0);
    let mut want = COOLDOWN_MS_MIN;
    for _ in 1..BREAKER_FAILURES_IN_A_ROW {
        report(&mut health, now.0, Outcome::Failure);
    }
    for _ in 0..10 {
        report(&mut health, now.0, Outcome::Failure);
        let until = now.plus(DurationMs(want));
        assert_eq!(health.vital(ONE).breaker(now), Breaker::Open { until });
        now = until;
        want = (want * 2).min(COOLDOWN_MS_MAX);
    }
    for _ in 0..SUCCESSES_TO_FORGET {
        report(&mut health, now.0, ok());
    }
    for _ in 0..BREAKER_FAILURES_IN_A_ROW {
        report(&mut health, now.0, Outcome::Failure);
    }
    assert_eq!(
        health.vital(ONE).breaker(now),
        Breaker::Open { until: now.plus(DurationMs(COOLDOWN_MS_MIN)) }
    );
}

#[test]
fn a_429_is_a_bounded_pause_and_not_a_failure() {
    let mut health = table();
    for _ in 0..100 {
        report(&mut health, 5, Outcome::RateLimited { retry_after: Some(DurationMs(300)) });
    }
    assert_eq!(health.vital(ONE).breaker(UnixMs(5)), Breaker::Closed);
    assert_eq!(health.vital(ONE).rest(UnixMs(304)), Some(Rest::Paused(UnixMs(305))));
    assert!(!health.vital(ONE).admits(UnixMs(304)) && health.vital(ONE).admits(UnixMs(305)));
    report(&mut health, 400, Outcome::RateLimited { retry_after: Some(DurationMs(u64::MAX)) });
    assert!(health.vital(ONE).admits(UnixMs(400 + RETRY_AFTER_MS_MAX)));
    report(&mut health, 500_000, Outcome::RateLimited { retry_after: None });
    assert_eq!(health.vital(ONE).rest(UnixMs(500_000)), Some(Rest::Paused(UnixMs(501_000))));
}

#[test]
fn neutral_outcomes_only_end_the_attempt() {
    let mut health = table();
    for _ in 0..100 {
        report(&mut health, 5, Outcome::Neutral);
    }
    assert_eq!(health, table());
}

#[test]
fn health_follows_its_offer_into_the_next_snapshot() {
    let from = MarketSnapshot::new(vec![offer("m", "b"), offer("m", "c")], Digest32([1; 32])).unwrap();
    let to = MarketSnapshot::new(vec![offer("a", "b"), offer("m", "a"), offer("m", "c")], Digest32([2; 32]));
    let to = to.unwrap();
    let mut table = HealthTable::new(&from);
    table.on_start(from.index_of("m", "c").unwrap());
    let next = table.carried(&from, &to);
    let in_flight: Vec<u32> = next.vitals().iter().map(|vital| vital.in_flight).collect();
    assert_eq!(in_flight, [0, 0, 1]);
    assert_eq!(next.vital(OfferIndex(3)), Vital::UNKNOWN);
}

proptest! {
    #[test]
    fn any_history_ends_admitted_again(history in proptest::collection::vec((0u64..5_000, 0u8..4), 0..200)) {
        let mut health = table();
        let mut now = 0;
        for (gap, kind) in history {
            now += gap;
            let limited = Outcome::RateLimited { retry_after: Some(DurationMs(gap)) };
            report(&mut health, now, [ok(), Outcome::Failure, limited, Outcome::Neutral][usize::from(kind)]);
            prop_assert_eq!(health.vital(ONE).in_flight, 0);
        }
        prop_assert!(health.vital(ONE).admits(UnixMs(now + COOLDOWN_MS_MAX.max(RETRY_AFTER_MS_MAX))));
    }
}

use super::breaker::SUCCESSES_TO_FORGET;
use super::quality::QUALITY_TOOL_REQUESTS_MIN;
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
}

#[test]
fn unnamed_pauses_double_with_every_429_in_a_row() {
    let mut health = table();
    let mut now = 0;
    for pause_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, RETRY_AFTER_MS_MAX, RETRY_AFTER_MS_MAX] {
        report(&mut health, now, Outcome::RateLimited { retry_after: None });
        assert_eq!(health.vital(ONE).rest(UnixMs(now)), Some(Rest::Paused(UnixMs(now + pause_ms))));
        now += pause_ms;
    }
    report(&mut health, now, ok());
    now = health.vital(ONE).rests_until.0;
    report(&mut health, now, Outcome::RateLimited { retry_after: None });
    let pause = health.vital(ONE).rests_until.0 - now;
    assert!((1_000..2_000).contains(&pause), "{pause}");
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

proptest! {
    /// An equal book changes nothing, and a seller that comes back is not mistaken for another.
    #[test]
    fn an_equal_book_carries_everything(
        told in proptest::collection::vec((0u32..6, 0u64..100, any::<bool>()), 0..60), gone in 0usize..6,
    ) {
        let offers: Vec<_> = ["a", "b", "c"].iter().flat_map(|s| [offer("m", s), offer("n", s)]).collect();
        let book = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        let mut health = HealthTable::new(&book);
        for (at, now, is_good) in told {
            tell(&mut health, at, now, if is_good { ok() } else { Outcome::Failure });
        }
        let before = health.clone();
        let same = health.carried(&book, &book);
        prop_assert_eq!(&same, &before);
        let mut fewer = book.offers().to_vec();
        fewer.remove(gone);
        let smaller = MarketSnapshot::new(fewer, Digest32::default()).unwrap();
        let back = same.carried(&book, &smaller).carried(&smaller, &book);
        for (at, vital) in before.vitals().iter().enumerate() {
            let want = if at == gone { Vital::UNKNOWN } else { *vital };
            prop_assert_eq!(back.vitals()[at], want);
        }
    }
}

/// Offers of one model, each with a thing to tell it apart.
fn many(count: usize) -> HealthTable {
    let offers = (0..count).map(|n| offer("m", &format!("s{n:03}"))).collect();
    HealthTable::new(&MarketSnapshot::new(offers, Digest32::default()).unwrap())
}

fn served(ttft_ms: u64, token_ms: u64, tools: ToolCalls) -> Outcome {
    Outcome::Success(Served {
        ttft: DurationMs(ttft_ms),
        whole: DurationMs(ttft_ms + 100 * token_ms),
        completion_tokens: 101,
        tools,
        ..Served::default()
    })
}

fn tell(health: &mut HealthTable, at: u32, now: u64, outcome: Outcome) {
    health.on_start(OfferIndex(at));
    health.on_outcome(OfferIndex(at), UnixMs(now), outcome);
}

#[test]
fn who_is_slower_than_its_peers_costs_more() {
    let mut health = many(4);
    for round in 0..200u64 {
        for (at, token_ms) in [(0, 10), (1, 11), (2, 20), (3, 40)] {
            tell(&mut health, at, round * 100, served(100, token_ms, ToolCalls::None));
        }
    }
    let burdens: Vec<f32> = health.vitals().iter().map(|vital| vital.burden).collect();
    assert!(burdens[0] < 1.01 && burdens[1] < 1.08, "{burdens:?}");
    assert!((1.35..1.55).contains(&burdens[2]) && (2.2..2.6).contains(&burdens[3]), "{burdens:?}");
}

#[test]
fn what_is_not_asked_any_more_is_forgotten() {
    let mut health = many(5);
    for n in 0..200 {
        tell(&mut health, 0, n, if n % 4 == 0 { ok() } else { Outcome::Broken });
        tell(&mut health, 1, n, ok());
    }
    assert_eq!(health.vital(OfferIndex(0)).standing, Standing::LastResort);
    assert!(health.vital(OfferIndex(0)).burden > 2.0);
    // Half an hour later, outcomes of another offer are enough.
    tell(&mut health, 1, 31 * 60_000, ok());
    assert_eq!(health.vital(OfferIndex(0)).standing, Standing::Normal);
    assert!(health.vital(OfferIndex(0)).burden < 1.2, "{}", health.vital(OfferIndex(0)).burden);
}

#[test]
fn the_real_cache_share_replaces_the_guess() {
    let mut health = table();
    assert!((health.vital(ONE).cached_share - 0.5).abs() < 1e-6);
    let continued = |cached_tokens| {
        let conversation = Conversation::Continued;
        Outcome::Success(Served { conversation, prompt_tokens: 1_000, cached_tokens, ..Served::default() })
    };
    for n in 0..200 {
        report(&mut health, n, continued(900));
        // A new conversation tells nothing about the cache.
        report(&mut health, n, Outcome::Success(Served { prompt_tokens: 1_000, ..Served::default() }));
    }
    assert!((health.vital(ONE).cached_share - 0.9).abs() < 0.01);
    for n in 0..2_000 {
        report(&mut health, n, continued(0));
    }
    assert!(health.vital(ONE).cached_share < 0.1);
}

#[test]
fn idle_offers_stay_cheap() {
    let health = many(1_000);
    assert!(health.cold.iter().all(Option::is_none) && health.models.len() == 1);
    assert!(size_of::<Vital>() + size_of::<Option<Box<Cold>>>() <= 40);
    assert!(size_of::<Cold>() <= STATISTICS_BYTES_MAX + 128, "{}", size_of::<Cold>());
}

fn teach_quality(health: &mut HealthTable, at: u32, good_of_100: u32) {
    for n in 0..QUALITY_TOOL_REQUESTS_MIN {
        let tools = if n % 100 < good_of_100 { ToolCalls::Good } else { ToolCalls::SchemaMismatch };
        tell(health, at, 10_000 + u64::from(n), served(100, 10, tools));
    }
}

#[test]
fn quality_tiers_appear_once_four_offers_have_data() {
    let mut health = many(5);
    for (at, good) in [(0, 50), (1, 98), (2, 99)] {
        teach_quality(&mut health, at, good);
    }
    assert_eq!(health.vital(OfferIndex(0)).quality, Quality::Good, "no bar yet");
    teach_quality(&mut health, 3, 100);
    for at in 0..4 {
        tell(&mut health, at, 20_000, ok());
    }
    assert!(health.bars(ONE).is_some());
    let tiers: Vec<Quality> = health.vitals().iter().map(|vital| vital.quality).collect();
    let want =
        [Quality::Deprioritised, Quality::Good, Quality::Good, Quality::Good, Quality::InsufficientData];
    assert_eq!(tiers, want);
}

proptest! {
    /// Once bars stand, one seller cannot move the tier of another, whatever it does.
    #[test]
    fn frozen_bars_are_out_of_a_rivals_reach(
        rival in proptest::collection::vec((0u8..6, 1u64..5_000, 1u64..200), 1..300),
    ) {
        let mut health = many(5);
        for (at, good) in [(0, 80), (1, 98), (2, 99), (3, 100), (4, 97)] {
            teach_quality(&mut health, at, good);
        }
        tell(&mut health, 4, 15_000, served(100, 10, ToolCalls::Good));
        (0..4).for_each(|at| tell(&mut health, at, 16_000, served(100, 10, ToolCalls::Good)));
        let before = health.bars(ONE);
        prop_assert!(before.is_some());
        let tiers: Vec<Quality> = health.vitals()[..4].iter().map(|vital| vital.quality).collect();
        for (kind, ttft, token) in rival {
            let tools = [ToolCalls::None, ToolCalls::Good, ToolCalls::InvalidJson, ToolCalls::UnknownTool];
            let outcome = tools.get(usize::from(kind)).map_or(Outcome::Broken, |tools| served(ttft, token, *tools));
            tell(&mut health, 4, 20_000, outcome);
        }
        (0..4).for_each(|at| tell(&mut health, at, 25_000, served(100, 10, ToolCalls::None)));
        prop_assert_eq!(health.bars(ONE), before);
        let after: Vec<Quality> = health.vitals()[..4].iter().map(|vital| vital.quality).collect();
        prop_assert_eq!(after, tiers);
    }
}

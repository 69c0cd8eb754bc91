use crate::health::{HealthTable, Outcome, Served};
use crate::offer::OfferIndex;
use crate::snapshot::MarketSnapshot;
use crate::snapshot::tests::offer;
use bourse_types::{Digest32, DurationMs, UnixMs};
use proptest::prelude::*;
use std::collections::BTreeMap;

const ONE: OfferIndex = OfferIndex(0);

/// How a seller limits what it serves; the market does not see it.
#[derive(Debug, Clone, Copy)]
enum Hidden {
    /// So many requests at once.
    AtOnce(u32),
    /// One more request every so many milliseconds, with so many saved up at most.
    Every(u64, u32),
}

/// One seller under more load than it takes, in virtual time.
struct World {
    health: HealthTable,
    hidden: Hidden,
    now: u64,
    seed: u64,
    serving: u32,
    saved: u32,
    saved_at: u64,
    /// Times at which attempts end, with how.
    ends: BTreeMap<(u64, u64), Outcome>,
    good: u32,
    limited: u32,
    started: u64,
    in_flight_sum: u64,
}

impl World {
    fn new(hidden: Hidden, seed: u64) -> Self {
        let book = MarketSnapshot::new(vec![offer("m", "a")], Digest32::default()).unwrap();
        Self {
            health: HealthTable::new(&book),
            hidden,
            now: 1_000_000,
            seed,
            serving: 0,
            saved: 0,
            saved_at: 0,
            ends: BTreeMap::new(),
            good: 0,
            limited: 0,
            started: 0,
            in_flight_sum: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn takes(&mut self) -> bool {
        match self.hidden {
            Hidden::AtOnce(most) => self.serving < most,
            Hidden::Every(gap, most) => {
                let earned = (self.now - self.saved_at) / gap;
                self.saved_at += earned * gap;
                self.saved = u32::try_from(u64::from(self.saved) + earned).unwrap_or(most).min(most);
                let takes = self.saved > 0;
                self.saved -= u32::from(takes);
                takes
            }
        }
    }

    /// A buyer is always there: an attempt starts whenever the health admits one.
    fn fill(&mut self) {
        while self.health.vital(ONE).admits(UnixMs(self.now)) && self.ends.len() < 500 {
            self.health.on_start(ONE);
            self.started += 1;
            let (end, outcome) = if self.takes() {
                self.serving += 1;
                let whole = 500 + self.random(1_000);
                let served = Served { ttft: DurationMs(100), whole: DurationMs(whole), ..Served::default() };
                (self.now + whole, Outcome::Success(served))
            } else {
                (self.now + 5 + self.random(20), Outcome::RateLimited { retry_after: None })
            };
            self.ends.insert((end, self.started), outcome);
        }
    }

    fn run(&mut self, outcomes: u32) {
        (self.good, self.limited, self.in_flight_sum) = (0, 0, 0);
        while self.good + self.limited < outcomes {
            self.fill();
            let Some(((end, _), outcome)) = self.ends.pop_first() else {
                // Everything has ended, and the seller rests.
                self.now = self.health.vital(ONE).rests_until.0.max(self.now + 1);
                continue;
            };
            self.now = end;
            self.in_flight_sum += self.ends.len() as u64 + 1;
            if matches!(outcome, Outcome::Success(_)) {
                self.serving -= 1;
                self.good += 1;
            } else {
                self.limited += 1;
            }
            self.health.on_outcome(ONE, UnixMs(self.now), outcome);
        }
    }

    fn limited_share(&self) -> f64 {
        f64::from(self.limited) / f64::from(self.good + self.limited)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A hidden limit of requests at once is found, and held from just below.
    #[test]
    fn it_settles_just_under_a_hidden_limit(most in 1u32..120, seed: u64) {
        let mut world = World::new(Hidden::AtOnce(most), seed);
        world.run(4_000);
        world.run(8_000);
        prop_assert!(world.limited_share() < 0.02, "{} of 429", world.limited_share());
        let used = world.in_flight_sum as f64 / 8_000.0 / f64::from(most);
        prop_assert!(used > 0.9, "{used} of the limit in use");
    }

    /// So is a limit per time, which no number in flight expresses exactly: bursts within the load meet
    /// it too, unless it lets some through, as limits per minute do.
    #[test]
    fn it_settles_under_a_hidden_rate(gap_ms in 20u64..8_000, saved in 8u32..60, seed: u64) {
        let mut world = World::new(Hidden::Every(gap_ms, saved), seed);
        world.run(4_000);
        let from = world.now;
        world.run(6_000);
        prop_assert!(world.limited_share() < 0.02, "{} of 429", world.limited_share());
        let possible = (world.now - from) as f64 / gap_ms as f64;
        let used = f64::from(world.good) / possible;
        prop_assert!(used > 0.4, "{used} of the rate in use");
    }

    /// A limit that was lifted is found again, and one that falls is obeyed.
    #[test]
    fn it_follows_a_limit_that_moves(low in 2u32..30, times in 2u32..8, seed: u64) {
        let mut world = World::new(Hidden::AtOnce(low), seed);
        world.run(4_000);
        world.hidden = Hidden::AtOnce(low * times);
        world.run(30_000);
        let found = world.health.vital(ONE).in_flight_max;
        prop_assert!(found >= low * times * 9 / 10, "{found} of {}", low * times);
        world.hidden = Hidden::AtOnce(low);
        world.run(4_000);
        world.run(6_000);
        prop_assert!(world.limited_share() < 0.02, "{} of 429", world.limited_share());
    }
}

#[test]
fn without_a_429_there_is_no_cap() {
    let mut world = World::new(Hidden::AtOnce(10_000), 1);
    world.run(5_000);
    assert_eq!(world.health.vital(ONE).in_flight_max, u32::MAX);
}

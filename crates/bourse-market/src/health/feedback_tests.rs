//! Health and plan together, in a market whose sellers behave by a rule that the market does not see.

use super::*;
use crate::demand::Demand;
use crate::plan::plan;
use crate::preferences::Preferences;
use crate::snapshot::tests::offer;
use bourse_types::{Digest32, DurationMs};

/// How a seller really behaves.
#[derive(Clone, Copy)]
struct Nature {
    ttft_ms: u64,
    token_ms: u64,
    /// Of a hundred answers.
    bad: u64,
}

const WELL: Nature = Nature { ttft_ms: 200, token_ms: 10, bad: 0 };

struct Market {
    book: MarketSnapshot,
    health: HealthTable,
    natures: Vec<Nature>,
    now: u64,
    seed: u64,
}

impl Market {
    fn new(natures: &[Nature]) -> Self {
        let offers = (0..natures.len()).map(|n| offer("m", &format!("s{n:02}"))).collect();
        let book = MarketSnapshot::new(offers, Digest32::default()).unwrap();
        let health = HealthTable::new(&book);
        Self { book, health, natures: natures.to_vec(), now: 1_000_000, seed: 9 }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Shares of the first attempts over so many requests, one every 100 ms.
    fn shares(&mut self, requests: u32) -> Vec<f64> {
        let mut first = vec![0u32; self.natures.len()];
        let wishes = Preferences::default();
        for _ in 0..requests {
            self.now += 100;
            let seed = self.roll(1 << 31);
            let demand = Demand { prompt_bytes: 4_000, ..Demand::new("m", &wishes) };
            let made = plan(&self.book, &self.health, &demand, UnixMs(self.now), seed).unwrap();
            first[made.attempts[0].0 as usize] += 1;
            for index in made.attempts {
                let nature = self.natures[index.0 as usize];
                let is_bad = self.roll(100) < nature.bad;
                let (ttft, whole) = (nature.ttft_ms, nature.ttft_ms + 100 * nature.token_ms);
                let served = Served {
                    ttft: DurationMs(ttft),
                    whole: DurationMs(whole),
                    completion_tokens: 101,
                    ..Served::default()
                };
                self.health.on_start(index);
                let outcome = if is_bad { Outcome::Failure } else { Outcome::Success(served) };
                self.health.on_outcome(index, UnixMs(self.now), outcome);
                if !is_bad {
                    break;
                }
            }
        }
        first.iter().map(|count| f64::from(*count) / f64::from(requests)).collect()
    }
}

#[test]
fn equal_sellers_share_evenly() {
    let mut market = Market::new(&[WELL; 5]);
    market.shares(1_000);
    let shares = market.shares(5_000);
    assert!(shares.iter().all(|share| (share - 0.2).abs() < 0.03), "{shares:?}");
}

#[test]
fn slow_and_failing_sellers_lose_traffic_but_are_not_forgotten() {
    let slow = Nature { ttft_ms: 600, token_ms: 30, ..WELL };
    let flaky = Nature { bad: 4, ..WELL };
    let mut market = Market::new(&[WELL, WELL, WELL, slow, flaky]);
    market.shares(2_000);
    let shares = market.shares(10_000);
    let well = (shares[0] + shares[1] + shares[2]) / 3.0;
    // Three times as slow costs twice as much: a quarter of the draw.
    assert!((0.15..0.4).contains(&(shares[3] / well)), "{shares:?}");
    assert!((0.8..1.0).contains(&(shares[4] / well)), "{shares:?}");
}

#[test]
fn a_seller_that_recovers_gets_its_share_back() {
    let down = Nature { bad: 60, ..WELL };
    let mut market = Market::new(&[WELL, WELL, WELL, down]);
    let shares = market.shares(10_000);
    assert!(shares[3] < 0.05, "{shares:?}");
    market.natures[3] = WELL;
    // Half an hour and a bit: what it did before has left every window.
    market.shares(20_000);
    let shares = market.shares(5_000);
    assert!((shares[3] - 0.25).abs() < 0.04, "{shares:?}");
}

#[test]
fn a_newcomer_is_tried_at_once_and_proves_itself() {
    let mut market = Market::new(&[WELL; 6]);
    let known: Vec<u32> = (0..5).collect();
    // The sixth has no samples while the others have many.
    for n in 0..500u64 {
        for index in &known {
            market.health.on_start(OfferIndex(*index));
            let served = Served {
                ttft: DurationMs(200),
                whole: DurationMs(1_200),
                completion_tokens: 101,
                ..Served::default()
            };
            market.health.on_outcome(OfferIndex(*index), UnixMs(n * 100), Outcome::Success(served));
        }
    }
    market.now = 50_000;
    let shares = market.shares(200);
    assert!((0.06..0.2).contains(&shares[5]), "cautious, not shunned: {shares:?}");
    market.shares(1_000);
    let shares = market.shares(6_000);
    assert!((shares[5] - 1.0 / 6.0).abs() < 0.03, "{shares:?}");
}

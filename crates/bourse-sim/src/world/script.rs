//! What a run is made of: a list of items, each a function of the seed and its own number.
//!
//! Because no item depends on another, a failing run can be cut down: leave items out, and the rest
//! stays as it was. That is what [`shrink`](super::shrink) does.

use super::cast::MODELS;
use super::{BUYERS, WorldConfig};
use crate::seed::{Random, mix};
use crate::upstream::Mode;
use bourse_market::{Preferences, Sort};
use bourse_types::{DurationMs, UnixMs};

/// When a run begins: any moment will do, but ids carry their time.
pub(super) const EPOCH: UnixMs = UnixMs(1_790_000_000_000);
/// Mean time between two requests, in microseconds.
const ARRIVAL_US: u64 = 700;

/// Requests for each credit that an operator gives.
const REQUESTS_PER_TOP_UP: u32 = 200;
/// The largest credit, in cents.
const CENTS_MAX: u64 = 60;

/// One thing that the outside world does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// A buyer's request.
    Request(u32),
    /// The market dies and starts again from its journal.
    Restart,
    /// The operator credits a buyer.
    TopUp { buyer: usize, cents: u64 },
}

/// A request as its buyer sends it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) buyer: usize,
    pub(super) model: &'static str,
    pub(super) mode: Mode,
    pub(super) prompt_bytes: u64,
    pub(super) prompt_tokens: u64,
    pub(super) messages: u32,
    pub(super) max_tokens: Option<u64>,
    pub(super) choices: u32,
    pub(super) preferences: Preferences,
    /// When the buyer gives up, after arrival.
    pub(super) cancel_after: Option<DurationMs>,
    /// Whether the front door repeats its calls, as after a lost answer.
    pub(super) repeats: bool,
    /// Seeds what sellers do with it.
    pub(super) seed: u64,
}

/// The items of a run with their times.
pub(super) fn items(config: &WorldConfig) -> Vec<(UnixMs, Item)> {
    let mut random = Random::new(mix(config.seed ^ 0x17E5));
    let span_ms = (u64::from(config.requests) * ARRIVAL_US / 1_000).max(1);
    let at = |random: &mut Random| EPOCH.plus(DurationMs(random.below(span_ms)));
    let mut items = Vec::with_capacity(config.requests as usize + config.restarts as usize);
    for number in 0..config.requests {
        items.push((at(&mut Random::new(mix(config.seed ^ u64::from(number)))), Item::Request(number)));
    }
    for _ in 0..config.restarts {
        items.push((at(&mut random), Item::Restart));
    }
    for _ in 0..config.requests / REQUESTS_PER_TOP_UP {
        let when = at(&mut random);
        let buyer = random.below(BUYERS as u64) as usize;
        items.push((when, Item::TopUp { buyer, cents: 1 + random.below(CENTS_MAX) }));
    }
    items
}

/// The request of this number.
pub(super) fn order(seed: u64, number: u32) -> Order {
    let seed = mix(seed ^ mix(u64::from(number)));
    let mut random = Random::new(seed);
    let prompt_bytes_max = if random.permille(50) { 40_000 } else { 2_000 };
    let prompt_bytes = 1 + random.below(prompt_bytes_max);
    let mut preferences = Preferences::default();
    if random.permille(100) {
        preferences.sort = Some(if random.permille(500) { Sort::Price } else { Sort::Latency });
    }
    preferences.allow_fallbacks = !random.permille(100);
    Order {
        buyer: random.below(BUYERS as u64) as usize,
        model: random.pick(&MODELS).copied().unwrap_or(MODELS[0]),
        mode: if random.permille(700) { Mode::Stream } else { Mode::Plain },
        prompt_bytes,
        prompt_tokens: (prompt_bytes / 4).max(1),
        messages: 1 + random.below(6) as u32,
        max_tokens: random.permille(600).then(|| 1 + random.below(800)),
        choices: if random.permille(100) { 1 + random.below(3) as u32 } else { 1 },
        preferences,
        cancel_after: random.permille(120).then(|| DurationMs(random.below(6_000))),
        repeats: random.permille(50),
        seed: random.next_u64(),
    }
}

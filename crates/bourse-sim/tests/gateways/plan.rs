//! What happens in one run: a list of items, each with its time, none of which needs another.

use crate::disk::StoreFault;
use crate::network::Cut;
use bourse_sim::seed::{Random, mix};

pub(crate) const GATEWAYS: usize = 2;
pub(crate) const BUYERS: usize = 3;
const REQUESTS: u64 = 48;
const TROUBLES: u64 = 20;
/// See [`Plan::with_bug`].
const POWER_CUTS: u64 = 24;
/// Milliseconds in which all items happen.
const LENGTH_MS: u64 = 12_000;

/// A request as its buyer means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) number: usize,
    pub(crate) buyer: usize,
    /// What its buyer calls it, who sends it twice under that name.
    pub(crate) key: Option<u64>,
    /// The gateway that it is sent to, or the next one that lives.
    pub(crate) gateway: usize,
    pub(crate) is_stream: bool,
    pub(crate) choices: u64,
    pub(crate) max_tokens: u64,
    /// When the buyer goes away, after it asked.
    pub(crate) leaves_ms: Option<u64>,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Ask(Ask),
    /// `kill -9` of the exchange; the next one opens its journal, with another clock.
    ExchangeDies {
        away_ms: u64,
        skew_ms: i64,
    },
    /// `kill -9` of a gateway; the next one knows nothing of it.
    GatewayDies {
        gateway: usize,
        away_ms: u64,
    },
    /// The next write goes wrong.
    Disk(StoreFault),
    /// The next thing that a gateway sends to the exchange meets this.
    Cut {
        gateway: usize,
        cut: Cut,
    },
    /// A gateway does not reach the exchange for a while.
    Apart {
        gateway: usize,
        for_ms: u64,
    },
    /// A gateway's clock is set.
    Clock {
        gateway: usize,
        skew_ms: i64,
    },
}

/// What a gateway does wrong, for the test of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// It takes everything for durable at once.
    TellsBeforeTheDisk,
    /// It charges an answer under a second request too.
    SettlesTwice,
    /// It tells a settlement's cost and never makes it.
    ForgetsWhatItOwes,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) items: Vec<(u64, Item)>,
    /// What each buyer has, in nano-dollars.
    pub(crate) credits: [u64; BUYERS],
    pub(crate) snapshot_events: u64,
    /// Calls of a seller in 1,000 that meet a fault.
    pub(crate) fault_permille: u16,
    pub(crate) bug: Option<Bug>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(mix(seed ^ 0x6A7E));
        let credits = [(); BUYERS].map(|()| 200_000 + random.below(14_000_000));
        let snapshot_events = 16 + random.below(200);
        let fault_permille = [0, 150, 400][random.below(3) as usize];
        let mut items: Vec<_> = (0..REQUESTS).map(|n| ask(seed, n)).collect();
        items.extend((0..TROUBLES).map(|n| trouble(&mut Random::new(mix(seed ^ mix(0x7000 + n))))));
        items.sort_by_key(|(at, _)| *at);
        Self { seed, items, credits, snapshot_events, fault_permille, bug: None }
    }
}

impl Plan {
    /// The same with a bug, and with power cuts that take gateways and exchange at once: what nobody has on disk is gone.
    pub(crate) fn with_bug(seed: u64, bug: Bug) -> Self {
        let plan = Self::of(seed);
        let mut items = plan.items;
        for n in 1..POWER_CUTS {
            let at = n * LENGTH_MS / POWER_CUTS;
            items.extend((0..GATEWAYS).map(|gateway| (at, Item::GatewayDies { gateway, away_ms: 1 })));
            items.push((at, Item::ExchangeDies { away_ms: 1, skew_ms: 0 }));
        }
        items.sort_by_key(|(at, _)| *at);
        Self { items, bug: Some(bug), ..plan }
    }
}

/// Of four requests in a row two have one `Idempotency-Key`.
pub(crate) fn key_of(n: u64) -> Option<u64> {
    matches!(n % 4, 1 | 2).then_some(n / 4)
}

fn ask(seed: u64, n: u64) -> (u64, Item) {
    let mut random = Random::new(mix(seed ^ mix(n)));
    let at = random.below(LENGTH_MS);
    let ask = Ask {
        number: n as usize,
        buyer: random.below(BUYERS as u64) as usize,
        key: key_of(n),
        gateway: random.below(GATEWAYS as u64) as usize,
        is_stream: random.permille(700),
        choices: 1 + random.below(2),
        max_tokens: 1 + random.below(160),
        leaves_ms: random.permille(150).then(|| random.below(800)),
    };
    let Some(key) = ask.key else { return (at, Item::Ask(ask)) };
    // What is sent twice is the same.
    let mut meant = Random::new(mix(seed ^ mix(0x4000 + key)));
    let same = Ask {
        buyer: meant.below(BUYERS as u64) as usize,
        is_stream: meant.permille(700),
        choices: 1 + meant.below(2),
        max_tokens: 1 + meant.below(160),
        ..ask
    };
    (at, Item::Ask(same))
}

fn trouble(random: &mut Random) -> (u64, Item) {
    let at = random.below(LENGTH_MS);
    let gateway = random.below(GATEWAYS as u64) as usize;
    let skew = |random: &mut Random, most: u64| random.below(2 * most) as i64 - most as i64;
    let item = match random.below(20) {
        0..4 => Item::ExchangeDies { away_ms: 1 + random.below(900), skew_ms: skew(random, 3_000) },
        4..7 => Item::GatewayDies { gateway, away_ms: 1 + random.below(900) },
        7..10 => Item::Disk(match random.below(4) {
            0 => StoreFault::NotWritten,
            1 => StoreFault::Written,
            2 => StoreFault::NoSnapshot,
            _ => StoreFault::DamagedSnapshot,
        }),
        10..16 => {
            let cuts = [Cut::NothingArrives, Cut::HalfArrives, Cut::NothingComesBack, Cut::HalfComesBack];
            Item::Cut { gateway, cut: cuts[random.below(4) as usize] }
        }
        16..18 => Item::Apart { gateway, for_ms: 1 + random.below(1_500) },
        _ => Item::Clock { gateway, skew_ms: skew(random, 90_000) },
    };
    (at, item)
}

//! What happens in one run: requests of several gateways, as the messages that reach the exchange, and faults among them.
//!
//! Each gateway sends hold, extensions and settlement in order and repeats what it may take for lost; the network then
//! loses, doubles and delays messages, so that anything can reach the exchange after anything else. A gateway that dies
//! sends nothing more. Every message carries its gateway's clock, which is off and jumps.

use super::random::Random;
use super::store::StoreFault;
use crate::tests::support::{START, request};
use bourse_rails::Fault as RailFault;
use bourse_types::{RequestId, UnixMs};

pub(super) const CUSTOMERS: usize = 3;
/// For each customer: without a limit, with one for each day, with one for ever.
pub(super) const KEYS_PER_CUSTOMER: usize = 3;
const GATEWAYS: usize = 4;
const REQUESTS: u64 = 100;
/// Times that sellers are paid, or say where.
const PAYMENTS: u64 = 30;
/// Steps of a hold's extension, at most.
const RAISES_MAX: u64 = 3;

/// Limits of every customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of those keys that have one.
    pub(super) key: u64,
    /// Of the workspace in a day; ever it has twice as much.
    pub(super) workspace: u64,
    /// Of all keys in a day.
    pub(super) organisation: u64,
    /// Of the workspace in a minute.
    pub(super) requests: u64,
    /// Of all keys in a minute.
    pub(super) tokens: u64,
}

/// A request as its gateway means it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) key: usize,
    pub(super) amount: u64,
    /// Extensions add a third of what they add in money.
    pub(super) tokens: u64,
    pub(super) expires: UnixMs,
    /// What each extension adds.
    pub(super) raises: Vec<u64>,
    pub(super) charge: u64,
}

/// One thing that happens. Numbers are places in [`Plan::requests`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Hold {
        n: usize,
        now: UnixMs,
    },
    Raise {
        n: usize,
        step: u16,
        now: UnixMs,
    },
    /// What it would settle as now.
    Meter {
        n: usize,
        charge: u64,
        now: UnixMs,
    },
    /// `other` is added to the charge: a gateway that contradicts itself.
    Settle {
        n: usize,
        other: u64,
        now: UnixMs,
    },
    Credit {
        customer: usize,
        amount: u64,
        now: UnixMs,
        fault: Option<StoreFault>,
    },
    Tick {
        now: UnixMs,
    },
    Flush {
        fault: Option<StoreFault>,
    },
    /// The exchange signs what it owes.
    Epoch {
        now: UnixMs,
        fault: Option<StoreFault>,
    },
    /// Sellers are paid by a rail that is about to make these faults, and the store perhaps one.
    Pay {
        now: UnixMs,
        rail: [RailFault; 3],
        fault: Option<StoreFault>,
    },
    /// The seller says where it takes money, as after a payout that failed.
    Address {
        now: UnixMs,
    },
    /// `kill -9` of the exchange, and the next one opens the journal.
    Kill {
        now: UnixMs,
    },
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) requests: Vec<Asked>,
    pub(super) steps: Vec<Step>,
    /// Credit of each customer at the beginning.
    pub(super) credit: u64,
    pub(super) limits: Limits,
    pub(super) snapshot_events: u64,
    /// Ids that the ledger remembers.
    pub(super) known_ids_max: usize,
    /// For the test of the tests: what the model takes too much at each settlement.
    pub(super) is_wrong_by: u64,
}

/// A gateway with a clock of its own.
#[derive(Debug, Clone, Copy)]
struct Gateway {
    offset_ms: i64,
    dies_at: u64,
}

impl Gateway {
    fn clock(&self, at: u64) -> UnixMs {
        UnixMs((START.0 + at).saturating_add_signed(self.offset_ms))
    }
}

struct Planner {
    random: Random,
    /// When, and what; times are milliseconds since the beginning.
    sent: Vec<(u64, Step)>,
    length_ms: u64,
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::of(seed);
        // Some runs are crowded into seconds, some go over days.
        let length_ms = [20_000, 600_000, 259_200_000][random.below(3) as usize];
        let credit = 1 + random.below(90_000);
        let limits = Limits {
            key: 1 + random.below(40_000),
            workspace: 1 + random.below(60_000),
            organisation: 1 + random.below(90_000),
            requests: 1 + random.below(30),
            tokens: 1 + random.below(9_000),
        };
        let snapshot_events = 8 + random.below(120);
        let known_ids_max = if random.one_in(4) { 16 + random.below(100) as usize } else { 1 << 12 };
        let mut planner = Planner { random, sent: Vec::new(), length_ms };
        let requests = planner.requests();
        planner.house();
        planner.sent.sort_by_key(|(at, _)| *at);
        let steps = planner.sent.into_iter().map(|(_, step)| step).collect();
        Self { seed, requests, steps, credit, limits, snapshot_events, known_ids_max, is_wrong_by: 0 }
    }

    pub(super) fn show(&self, step: &Step) -> String {
        let key = |n: usize| self.requests[n].key;
        match step {
            Step::Hold { n, now } => {
                let asked = &self.requests[*n];
                format!("{now:?} hold {n} under key {}: {} until {:?}", key(*n), asked.amount, asked.expires)
            }
            Step::Raise { n, step, now } => {
                format!("{now:?} raise {n} step {step}: +{}", self.requests[*n].raises[*step as usize - 1])
            }
            Step::Settle { n, other, now } => {
                format!("{now:?} settle {n} under key {}: {} + {other}", key(*n), self.requests[*n].charge)
            }
            other => format!("{other:?}"),
        }
    }
}

impl Planner {
    fn gateways(&mut self) -> Vec<Gateway> {
        let one = |_| {
            let offset_ms = self.random.below(40_000) as i64 - 20_000;
            let dies = self.random.one_in(3);
            let dies_at = if dies { self.random.below(self.length_ms) } else { u64::MAX };
            Gateway { offset_ms, dies_at }
        };
        (0..GATEWAYS).map(one).collect()
    }

    fn requests(&mut self) -> Vec<Asked> {
        let mut gateways = self.gateways();
        let mut requests = Vec::new();
        for n in 0..REQUESTS {
            let place = self.random.below(GATEWAYS as u64) as usize;
            if self.random.one_in(30) {
                // A clock that is set.
                gateways[place].offset_ms = self.random.below(200_000) as i64 - 100_000;
            }
            let at = self.random.below(self.length_ms);
            requests.push(self.request(n, at, gateways[place]));
        }
        requests
    }

    /// One request: its messages are put on the network.
    fn request(&mut self, n: u64, begins: u64, gateway: Gateway) -> Asked {
        let random = &mut self.random;
        let created = gateway.clock(begins);
        let amount = random.below(5_000);
        let raises: Vec<_> = (0..random.below(RAISES_MAX + 1)).map(|_| random.below(2_000)).collect();
        let bound = amount + raises.iter().sum::<u64>();
        let asked = Asked {
            id: request(n, created),
            key: random.below((CUSTOMERS * KEYS_PER_CUSTOMER) as u64) as usize,
            amount,
            tokens: amount / 3,
            expires: UnixMs(created.0 + [2_000, 60_000, 600_000][random.below(3) as usize]),
            raises,
            // Now and then dearer than what is held: a bug of the gateway.
            charge: random.below(bound + bound / 16 + 2),
        };
        let n = n as usize;
        let mut at = begins;
        self.send(at, gateway, |now| Step::Hold { n, now });
        for step in 1..=asked.raises.len() as u16 {
            at += self.random.below(2_500);
            self.send(at, gateway, |now| Step::Raise { n, step, now });
        }
        for _ in 0..self.random.below(3) {
            at += self.random.below(2_500);
            let charge = self.random.below(bound + bound / 16 + 2);
            self.send(at, gateway, |now| Step::Meter { n, charge, now });
        }
        at += self.random.below(5_000);
        let other = if self.random.one_in(40) { 1 + self.random.below(3) } else { 0 };
        self.send(at, gateway, |now| Step::Settle { n, other: 0, now });
        if other > 0 {
            self.send(at, gateway, |now| Step::Settle { n, other, now });
        }
        asked
    }

    /// Sends a message until the gateway may think that it arrived, over a network that loses, doubles and delays.
    fn send(&mut self, at: u64, gateway: Gateway, message: impl Fn(UnixMs) -> Step) {
        let tries = if self.random.one_in(5) { 2 + self.random.below(2) } else { 1 };
        for attempt in 0..tries {
            let at = at + attempt * 700;
            if at >= gateway.dies_at {
                return;
            }
            let copies = match self.random.below(20) {
                0 => 0,
                1 => 2,
                _ => 1,
            };
            for _ in 0..copies {
                let delay =
                    if self.random.one_in(15) { self.random.below(90_000) } else { self.random.below(40) };
                self.sent.push((at + delay, message(gateway.clock(at))));
            }
        }
    }

    /// What the exchange does by itself, and what befalls it.
    fn house(&mut self) {
        let turns = 60 + self.random.below(100);
        for _ in 0..turns {
            let at = self.random.below(self.length_ms + 100_000);
            let skew =
                if self.random.one_in(20) { self.random.below(7_200_000) as i64 - 3_600_000 } else { 0 };
            let now = UnixMs((START.0 + at).saturating_add_signed(skew));
            let step = match self.random.below(20) {
                0..9 => Step::Flush { fault: self.fault() },
                9..16 => Step::Tick { now },
                16 => Step::Kill { now },
                17 => Step::Epoch { now, fault: self.fault() },
                _ => {
                    let customer = self.random.below(CUSTOMERS as u64) as usize;
                    let amount = 1 + self.random.below(9_000);
                    Step::Credit { customer, amount, now, fault: self.fault() }
                }
            };
            self.sent.push((at, step));
        }
        for _ in 0..PAYMENTS {
            let at = self.random.below(self.length_ms + 100_000);
            let now = UnixMs(START.0 + at);
            let rail = [(); 3].map(|()| self.rail_fault());
            let pay = Step::Pay { now, rail, fault: self.fault() };
            self.sent.push((at, if self.random.one_in(5) { Step::Address { now } } else { pay }));
        }
    }

    fn rail_fault(&mut self) -> RailFault {
        match self.random.below(16) {
            0 => RailFault::QuestionLost,
            1 => RailFault::AnswerLost,
            2 => RailFault::Twice,
            3 => RailFault::Refused,
            4 => RailFault::Delayed(1 + self.random.below(3) as u32),
            5 => RailFault::PaidLate(1 + self.random.below(3) as u32),
            _ => RailFault::None,
        }
    }

    fn fault(&mut self) -> Option<StoreFault> {
        match self.random.below(30) {
            0 => Some(StoreFault::NotWritten),
            1 => Some(StoreFault::Written),
            2 => Some(StoreFault::NoSnapshot),
            3 => Some(StoreFault::DamagedSnapshot),
            _ => None,
        }
    }
}

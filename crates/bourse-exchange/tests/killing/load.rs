//! What a process does until it is killed: callers that hold, extend, settle, repeat, abandon and let expire.
//!
//! What a request asks for follows from its number, so that a later process can make it once more to the letter. Made
//! again, a settlement that is in the books gives the same outcome. One that is not has lost its hold, if that was in
//! the books, and is refused; if that was lost too, both are made as for the first time. It never charges twice.

use super::victim::Order;
use crate::child::say;
use crate::support::{block_on, hold, request, settlement};
use bourse_exchange::{Exchange, ExchangeConfig};
use bourse_types::{KeyHash, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{
    CommitTicket, Funds, FundsError, GenerationNote, HoldExtension, KeyGrant, NoteText, Records, Settlement,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) const CALLERS: u64 = 6;
/// When markets begin here: so late that the exchange's own clock, today's, never ends a hold.
const MARKET_BEGINS: UnixMs = UnixMs(4_000_000_000_000);
/// Between the beginnings of two rounds, on the market's clock.
const ROUND_MS: u64 = 1_000_000;
/// Longer than a round: what is not settled is left for the next process.
const HOLD_MS: u64 = 10 * ROUND_MS;
const HOLD_SHORT_MS: u64 = 500;
const RAISE: u64 = 2_500;
const PER_ROUND: u64 = 10_000_000;
const PER_CALLER: u64 = 1_000_000;

/// Books of tests like these; the fewer the events, the more snapshots.
pub(crate) fn config(snapshot_events: u64) -> ExchangeConfig {
    ExchangeConfig { starting_credit: NanoUsd::from_usd(1_000), snapshot_events, ..ExchangeConfig::default() }
}

/// When a round begins, on the market's clock.
pub(crate) fn begins(round: u64) -> UnixMs {
    UnixMs(MARKET_BEGINS.0 + round * ROUND_MS)
}

/// Numbers of one round, or of one caller, never meet those of another.
pub(crate) fn number(round: u64, caller: u64, n: u64) -> u64 {
    round * PER_ROUND + caller * PER_CALLER + n
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Its hold grows on the way, would not cover the charge otherwise, and is in the books before it is settled.
    Raised,
    /// Every call is made twice, and settling for another sum, too.
    Repeated,
    Abandoned,
    Expired,
}

/// A request as its number determines it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    number: u64,
    kind: Kind,
    pub(crate) charge: u64,
    /// Which of the keys buys.
    pub(crate) key: usize,
}

impl Plan {
    pub(crate) fn of(number: u64) -> Self {
        let n = number % PER_CALLER;
        let kind = match n % 8 {
            2 | 5 => Kind::Raised,
            1 | 4 => Kind::Repeated,
            3 => Kind::Abandoned,
            7 => Kind::Expired,
            _ => Kind::Plain,
        };
        Self { number, kind, charge: 100 + number * 7919 % 4_000, key: (n / 8 % 2) as usize }
    }

    /// The caller and its count within the round.
    pub(crate) fn place(number: u64) -> (u64, u64, u64) {
        (number / PER_ROUND, number % PER_ROUND / PER_CALLER, number % PER_CALLER)
    }

    pub(crate) fn id(&self) -> RequestId {
        request(self.number, begins(self.number / PER_ROUND))
    }

    /// What its generation record shows beside its receipt.
    pub(crate) fn note(&self) -> GenerationNote {
        GenerationNote { session_id: NoteText::clip(&self.number.to_string()), ..GenerationNote::default() }
    }

    fn settlement(&self, grant: KeyGrant, charge: u64, now: UnixMs) -> Settlement {
        Settlement { note: self.note(), ..settlement(self.id(), grant, charge, now) }
    }
}

/// Whether a request is made for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Again,
}

struct Load<'o> {
    exchange: Exchange,
    order: &'o Order,
    grants: Vec<KeyGrant>,
    clock: AtomicU64,
    acknowledged: AtomicU64,
    is_over: AtomicBool,
}

/// Does what it was ordered to until it is killed, its server dies or it has acknowledged enough.
pub(crate) fn obey(order: &Order) {
    let now = begins(order.round);
    let exchange = Exchange::open(&order.dir, config(order.snapshot_events), now).unwrap();
    say(&format!("opened {}", exchange.digest()));
    let key = |hash: &String| KeyHash::parse_hex(hash).unwrap();
    let grants = order.keys.iter().map(|hash| exchange.authenticate(&key(hash), now).unwrap()).collect();
    let load = Load {
        exchange,
        order,
        grants,
        clock: AtomicU64::new(now.0),
        acknowledged: AtomicU64::new(0),
        is_over: AtomicBool::new(order.keys.is_empty()),
    };
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let load = &load;
            scope.spawn(move || load.call(caller));
        }
    });
    say("closing");
    let closed = load.exchange.close();
    assert!(closed.is_ok() || order.server_may_die, "{closed:?}");
}

impl Load<'_> {
    fn call(&self, caller: u64) {
        // Another caller begins at the same time with the same ones in the same order.
        let again = self.order.again.iter().filter(|number| {
            let (_, of, _) = Plan::place(**number);
            of == caller || (of + 1) % CALLERS == caller
        });
        let again = again.map(|number| (*number, Turn::Again));
        let new = (0..).map(|n| (number(self.order.round, caller, n), Turn::First));
        for (number, turn) in again.chain(new) {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            match self.serve(&Plan::of(number), turn) {
                Ok(()) => {}
                Err(FundsError::Journal(_) | FundsError::Closing) if self.order.server_may_die => return,
                Err(error) => panic!("request {number}, {turn:?}: {error}"),
            }
        }
    }

    fn passes(&self, ms: u64) -> UnixMs {
        UnixMs(self.clock.fetch_add(ms, Ordering::Relaxed) + ms)
    }

    fn serve(&self, plan: &Plan, turn: Turn) -> Result<(), FundsError> {
        let (grant, now) = (self.grants[plan.key], self.passes(1));
        let twice = if plan.kind == Kind::Repeated { 2 } else { 1 };
        if (plan.kind, turn) == (Kind::Expired, Turn::Again) {
            return self.settle_too_late(plan, grant, now);
        }
        let was_there = turn == Turn::Again && self.exchange.generation(plan.id())?.is_some();
        let amount = if plan.kind == Kind::Raised { 50 } else { 5_000 };
        let mut asked = hold(plan.id(), grant, amount, now);
        asked.expires = UnixMs(begins(plan.number / PER_ROUND).0 + HOLD_MS);
        if plan.kind == Kind::Expired {
            asked.expires = UnixMs(now.0 + HOLD_SHORT_MS);
        }
        for _ in 0..twice {
            match self.exchange.hold(&asked) {
                // Settled, or released as nobody's.
                Err(FundsError::NoHold) if turn == Turn::Again => {}
                held => held?,
            }
        }
        match plan.kind {
            Kind::Abandoned => return Ok(()),
            Kind::Expired => {
                let now = self.passes(HOLD_SHORT_MS);
                self.exchange.tick(now)?;
                return self.settle_too_late(plan, grant, now);
            }
            Kind::Raised => self.raise(plan, turn)?,
            Kind::Plain | Kind::Repeated => {}
        }
        let ended = plan.settlement(grant, plan.charge, now);
        let mut settled = self.exchange.settle(ended.clone());
        if twice > 1 && settled.is_ok() {
            match self.exchange.settle(plan.settlement(grant, plan.charge + 1, now)) {
                Err(FundsError::Conflict) => {}
                // The server was killed between the two.
                Err(gone @ FundsError::Journal(_)) => return Err(gone),
                other => panic!("request {}: {other:?}", plan.number),
            }
            // Whoever repeats waits for no other outcome, and no sooner one.
            settled = self.exchange.settle(ended);
        }
        match settled {
            Err(FundsError::NoHold) if turn == Turn::Again => {
                assert!(!was_there, "request {} is in the books and not settled again", plan.number);
                say("without-hold");
                Ok(())
            }
            settled => {
                let settled = settled?;
                assert_eq!(settled.cost, NanoUsd(plan.charge), "request {}", plan.number);
                self.acknowledge(plan, settled.ticket)?;
                if turn == Turn::Again {
                    say(if was_there { "found" } else { "late" });
                }
                Ok(())
            }
        }
    }

    fn raise(&self, plan: &Plan, turn: Turn) -> Result<(), FundsError> {
        // Repeating a number repeats the outcome.
        for step in [1, 1, 2, 2] {
            let (amount, now) = (NanoUsd(RAISE), self.passes(1));
            let more =
                HoldExtension { request: plan.id(), step, amount, byok: NanoUsd::ZERO, tokens: 0, now };
            match self.exchange.extend(&more) {
                Err(FundsError::NoHold) if turn == Turn::Again => {}
                raised => raised?,
            }
        }
        block_on(self.exchange.durable(self.exchange.ticket()))
    }

    fn settle_too_late(&self, plan: &Plan, grant: KeyGrant, now: UnixMs) -> Result<(), FundsError> {
        match self.exchange.settle(plan.settlement(grant, plan.charge, now)) {
            Err(FundsError::NoHold) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => panic!("request {} was settled after its time", plan.number),
        }
    }

    fn acknowledge(&self, plan: &Plan, ticket: CommitTicket) -> Result<(), FundsError> {
        block_on(self.exchange.durable(ticket))?;
        say(&format!("acknowledged {}", plan.number));
        let acknowledged = self.acknowledged.fetch_add(1, Ordering::Relaxed) + 1;
        if self.order.closes_after.is_some_and(|enough| acknowledged >= enough) {
            self.is_over.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

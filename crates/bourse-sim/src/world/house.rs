//! The market's books in a run: the real exchange in memory, its buyers, and what they were told.
//!
//! Beside the exchange stands a plain list of what buyers know to be true. The two must never disagree:
//! a settlement that was acknowledged survives every restart, one that was not may be lost with its
//! group, and nobody ever spends more than was credited.

use super::{BUYERS, Violation};
use crate::seed::mix;
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_types::{KeyHash, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{CommitTicket, Records};

/// Events between snapshots: small, so that a run has many.
const SNAPSHOT_EVENTS: u64 = 20_000;
/// Receipts that are looked up one by one at the end.
const RECEIPTS_CHECKED: usize = 500;

/// A buyer.
#[derive(Debug, Clone)]
pub(super) struct Buyer {
    pub(super) account: String,
    pub(super) key: KeyHash,
    /// Everything ever credited.
    pub(super) credited: u128,
    /// Everything that was charged and is durable.
    pub(super) spent: u128,
}

/// A settlement that is not durable yet.
#[derive(Debug, Clone, Copy)]
struct Unsure {
    buyer: usize,
    request: RequestId,
    cost: NanoUsd,
    ticket: CommitTicket,
}

/// The books.
pub(super) struct House {
    exchange: Option<Exchange>,
    pub(super) buyers: Vec<Buyer>,
    unsure: Vec<Unsure>,
    /// Durable settlements, in order.
    sure: Vec<(RequestId, NanoUsd)>,
    lost: u64,
}

fn broken(what: impl std::fmt::Display) -> Violation {
    Violation(what.to_string())
}

impl House {
    /// A market with its buyers. Purses are small, so that many run dry.
    pub(super) fn open(seed: u64, now: UnixMs) -> Result<Self, Violation> {
        let mut bytes = [7u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = ExchangeConfig { snapshot_events: SNAPSHOT_EVENTS, ..ExchangeConfig::default() };
        let exchange = Exchange::in_memory(config, bytes, now).map_err(broken)?;
        let mut house = Self {
            exchange: Some(exchange),
            buyers: Vec::new(),
            unsure: Vec::new(),
            sure: Vec::new(),
            lost: 0,
        };
        for number in 0..BUYERS {
            let account = format!("buyer-{number}");
            // Every fourth key has a limit of its own.
            let limit_usd = (number % 4 == 0).then(|| "0.5".to_owned());
            let (label, payer) = (account.clone(), Some(account.clone()));
            let ask =
                AdminRequest::CreateKey(NewKey { label, account: payer, limit_usd, ..NewKey::default() });
            let AdminReply::KeyCreated { secret, .. } = house.exchange()?.admin(ask, now).map_err(broken)?
            else {
                return Err(broken("no key was made"));
            };
            house.buyers.push(Buyer { account, key: hash_key(&secret.0), credited: 0, spent: 0 });
            house.credit(number, 1 + mix(seed ^ number as u64) % 60, now)?;
        }
        Ok(house)
    }

    /// The exchange that is running.
    pub(super) fn exchange(&self) -> Result<&Exchange, Violation> {
        self.exchange.as_ref().ok_or_else(|| broken("no exchange is running"))
    }

    /// Credits a buyer; durable on return, as everything that an operator does.
    pub(super) fn credit(&mut self, buyer: usize, cents: u64, now: UnixMs) -> Result<(), Violation> {
        let account = self.buyers[buyer].account.clone();
        let amount_usd = format!("{}.{:02}", cents / 100, cents % 100);
        self.exchange()?
            .admin(AdminRequest::Credit { account, amount_usd, idempotency_key: None }, now)
            .map_err(broken)?;
        self.buyers[buyer].credited += u128::from(cents) * 10_000_000;
        self.commit()
    }

    /// Notes a settlement that waits for its group.
    pub(super) fn note(&mut self, buyer: usize, request: RequestId, cost: NanoUsd, ticket: CommitTicket) {
        self.unsure.push(Unsure { buyer, request, cost, ticket });
    }

    /// Commits, and acknowledges what that made durable.
    pub(super) fn commit(&mut self) -> Result<(), Violation> {
        let durable = self.exchange()?.flush().map_err(broken)?;
        for unsure in std::mem::take(&mut self.unsure) {
            if unsure.ticket <= durable {
                self.acknowledge(unsure);
            } else {
                self.unsure.push(unsure);
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, unsure: Unsure) {
        self.buyers[unsure.buyer].spent += u128::from(unsure.cost.0);
        self.sure.push((unsure.request, unsure.cost));
    }

    /// Dies without a word and starts again from the journal.
    pub(super) fn restart(&mut self, now: UnixMs) -> Result<(), Violation> {
        let old = self.exchange.take().ok_or_else(|| broken("no exchange is running"))?;
        self.exchange = Some(old.killed(now).map_err(broken)?);
        self.lost += self.unsure.len() as u64;
        self.unsure.clear();
        if self.exchange()?.open_holds() > 0 {
            return Err(broken("a restart left holds behind"));
        }
        self.compare(now)
    }

    /// Releases holds whose time is over.
    pub(super) fn sweep(&self, now: UnixMs) -> Result<usize, Violation> {
        self.exchange()?.tick(now).map_err(broken)
    }

    /// Compares every purse with what its buyer knows. Only exact when nothing is unsure.
    pub(super) fn compare(&self, now: UnixMs) -> Result<(), Violation> {
        let unsure = |buyer| {
            self.unsure.iter().filter(|u| u.buyer == buyer).map(|u| u128::from(u.cost.0)).sum::<u128>()
        };
        for (number, buyer) in self.buyers.iter().enumerate() {
            let status = self.exchange()?.key_status(&buyer.key, now).map_err(broken)?;
            let (credited, spent) =
                (u128::from(status.account_credited.0), u128::from(status.account_spent.0));
            let known = buyer.spent + unsure(number);
            if (credited, spent) != (buyer.credited, known) || spent > credited {
                return Err(Violation(format!(
                    "{}: credited {credited} and spent {spent}, but the buyer knows of {} and {known}",
                    buyer.account, buyer.credited
                )));
            }
        }
        Ok(())
    }

    /// The end: everything is committed, nothing is held, the audit is clean, every receipt is there.
    pub(super) fn close(&mut self, now: UnixMs) -> Result<Books, Violation> {
        self.commit()?;
        self.compare(now)?;
        let exchange = self.exchange()?;
        if exchange.open_holds() > 0 {
            return Err(Violation(format!("{} holds are left at the end", exchange.open_holds())));
        }
        let report = exchange.check(now).map_err(broken)?;
        if !report.is_clean() {
            return Err(Violation(format!("the books are not clean: {}", report.problems.join("; "))));
        }
        let report = report.facts.ok_or_else(|| broken("the books could not be read to their end"))?;
        if report.debits_posted != report.credits_posted {
            return Err(Violation("the books do not sum to zero".to_owned()));
        }
        if report.receipts != self.sure.len() as u64 {
            let (have, want) = (report.receipts, self.sure.len());
            return Err(Violation(format!("{have} receipts for {want} durable settlements")));
        }
        let step = self.sure.len().div_ceil(RECEIPTS_CHECKED).max(1);
        for (request, cost) in self.sure.iter().step_by(step) {
            let found = exchange.receipt(*request).map_err(broken)?;
            if found.is_none_or(|document| document.receipt.charge.total != *cost) {
                return Err(Violation(format!("the receipt of {request} is not what was acknowledged")));
            }
        }
        Ok(Books { receipts: report.receipts, groups: report.groups, lost_unacknowledged: self.lost })
    }
}

/// What the books say at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Books {
    /// Receipts in the log: one for each durable settlement.
    pub receipts: u64,
    /// Commit groups.
    pub groups: u64,
    /// Settlements that nobody had been told of when the market died with them.
    pub lost_unacknowledged: u64,
}

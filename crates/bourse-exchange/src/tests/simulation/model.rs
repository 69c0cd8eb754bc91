//! What the books should say, in the simplest words: who has how much, who holds how much, who was charged what.

use super::plan::{Asked, CUSTOMERS, KEYS_PER_CUSTOMER};
use bourse_types::{UnixMs, UtcDay};
use std::collections::{BTreeMap, BTreeSet};

/// Basis points of the market's share, as configured.
const FEE_BPS: u64 = 400;

/// What should come of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Done,
    /// It was done before; nothing changes.
    Again,
    NoMoney,
    OverLimit,
    OverHold,
    NoHold,
    Conflict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    key: usize,
    amount: u64,
    expires: UnixMs,
    step: u16,
    /// What it is charged when nobody comes back.
    metered: Option<u64>,
}

/// The books. Everything is in nano-USD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) credited: [u64; CUSTOMERS],
    pub(super) spent: [u64; CUSTOMERS],
    /// By key and day.
    spent_on: BTreeMap<(usize, u64), u64>,
    holds: BTreeMap<usize, Hold>,
    /// Requests that ever had a hold.
    seen: BTreeSet<usize>,
    pub(super) settled: BTreeMap<usize, u64>,
    pub(super) sellers: u64,
    pub(super) fees: u64,
    pub(super) rounding: u64,
    limit: u64,
}

fn customer_of(key: usize) -> usize {
    key / KEYS_PER_CUSTOMER
}

/// The limit of a key counts one day, all days, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    None,
    Day,
    Ever,
}

pub(super) fn window_of(key: usize) -> Window {
    [Window::None, Window::Day, Window::Ever][key % KEYS_PER_CUSTOMER]
}

impl Model {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn held(&self, customer: usize) -> u64 {
        let of = self.holds.values().filter(|hold| customer_of(hold.key) == customer);
        of.map(|hold| hold.amount).sum()
    }

    /// Holds of money, and those of allowances beside them.
    pub(super) fn holds_open(&self) -> (usize, usize) {
        let limited = self.holds.values().filter(|hold| window_of(hold.key) != Window::None);
        (self.holds.len(), limited.count())
    }

    pub(super) fn hold(&mut self, n: usize, asked: &Asked, now: UnixMs) -> Expected {
        if self.seen.contains(&n) {
            return if self.holds.contains_key(&n) { Expected::Again } else { Expected::NoHold };
        }
        let expected = self.afford(asked.key, asked.amount, now);
        if expected == Expected::Done {
            let hold =
                Hold { key: asked.key, amount: asked.amount, expires: asked.expires, step: 0, metered: None };
            self.holds.insert(n, hold);
            self.seen.insert(n);
        }
        expected
    }

    pub(super) fn raise(&mut self, n: usize, step: u16, more: u64, now: UnixMs) -> Expected {
        let Some(hold) = self.holds.get(&n).copied() else { return Expected::NoHold };
        if step <= hold.step {
            return Expected::Again;
        }
        if step != hold.step + 1 {
            return Expected::Conflict;
        }
        let expected = self.afford(hold.key, more, now);
        if expected == Expected::Done {
            self.holds.insert(n, Hold { amount: hold.amount + more, step, ..hold });
        }
        expected
    }

    /// `now` is the time of the books after it.
    pub(super) fn settle(&mut self, n: usize, charge: u64, now: UnixMs, wrong_by: u64) -> Expected {
        let Some(hold) = self.holds.get(&n).copied() else {
            return match self.settled.get(&n) {
                Some(before) if *before == charge => Expected::Again,
                Some(_) => Expected::Conflict,
                None => Expected::NoHold,
            };
        };
        if charge > hold.amount {
            return Expected::OverHold;
        }
        self.holds.remove(&n);
        self.settled.insert(n, charge);
        self.spent[customer_of(hold.key)] += charge + wrong_by;
        *self.spent_on.entry((hold.key, day(now))).or_default() += charge;
        let rounding = charge.min(2);
        let fee = (charge - rounding) * FEE_BPS / 10_000;
        self.rounding += rounding;
        self.fees += fee;
        self.sellers += charge - rounding - fee;
        Expected::Done
    }

    pub(super) fn meter(&mut self, n: usize, charge: u64) -> Expected {
        match self.holds.get_mut(&n) {
            None => Expected::NoHold,
            Some(hold) if charge > hold.amount => Expected::OverHold,
            Some(hold) => {
                hold.metered = Some(charge);
                Expected::Done
            }
        }
    }

    /// Ends overdue holds, at a time of the books. How many, and how many of them were settled as metered.
    pub(super) fn expire(&mut self, now: UnixMs, books: UnixMs) -> (usize, usize) {
        self.end(books, |hold| hold.expires <= now)
    }

    /// Nobody would settle what a dead exchange held.
    pub(super) fn restart(&mut self, books: UnixMs) {
        self.end(books, |_| true);
    }

    fn end(&mut self, books: UnixMs, ends: impl Fn(&Hold) -> bool) -> (usize, usize) {
        let ended: Vec<_> = self.holds.iter().filter(|(_, hold)| ends(hold)).map(|(n, _)| *n).collect();
        let mut settled = 0;
        for n in &ended {
            if let Some(charge) = self.holds[n].metered {
                self.settle(*n, charge, books, 0);
                settled += 1;
            }
            self.holds.remove(n);
        }
        (ended.len(), settled)
    }

    fn afford(&self, key: usize, more: u64, now: UnixMs) -> Expected {
        let customer = customer_of(key);
        if self.spent[customer] + self.held(customer) + more > self.credited[customer] {
            return Expected::NoMoney;
        }
        let of_key = self.holds.values().filter(|hold| hold.key == key);
        let held: u64 = of_key.map(|hold| hold.amount).sum();
        let spent: u64 = match window_of(key) {
            Window::None => return Expected::Done,
            Window::Day => self.spent_on.get(&(key, day(now))).copied().unwrap_or_default(),
            Window::Ever => self.spent_on.range((key, 0)..=(key, u64::MAX)).map(|(_, spent)| spent).sum(),
        };
        if spent + held + more > self.limit { Expected::OverLimit } else { Expected::Done }
    }
}

fn day(now: UnixMs) -> u64 {
    u64::from(UtcDay::of(now).0)
}

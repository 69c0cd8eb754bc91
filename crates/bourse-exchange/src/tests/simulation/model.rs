//! What the books should say, in the simplest words: who has how much, who holds how much, who was charged what.

use super::plan::{Asked, CUSTOMERS, KEYS_PER_CUSTOMER, Limits};
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
    OverRate,
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
    /// What rates have let in: whose, until when it counts, requests and tokens.
    let_in: Vec<(usize, UnixMs, [u64; 2])>,
    limits: Limits,
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

/// The first two keys of each customer are of its workspace.
pub(super) fn is_in_workspace(key: usize) -> bool {
    key % KEYS_PER_CUSTOMER < 2
}

/// How long what was let in counts.
const MINUTE_MS: u64 = 60_000;

impl Model {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Requests of the customer's workspace, and tokens of all its keys, in the minute before `now`.
    pub(super) fn asked_for(&self, customer: usize, now: UnixMs) -> [u64; 2] {
        let counts =
            self.let_in.iter().filter(|(key, until, _)| customer_of(*key) == customer && *until > now);
        counts.fold([0, 0], |sums, (_, _, counted)| [sums[0] + counted[0], sums[1] + counted[1]])
    }

    fn let_in(&mut self, key: usize, counted: [u64; 2], now: UnixMs) {
        self.let_in.push((key, UnixMs(now.0 + MINUTE_MS), counted));
    }

    pub(super) fn held(&self, customer: usize) -> u64 {
        let of = self.holds.values().filter(|hold| customer_of(hold.key) == customer);
        of.map(|hold| hold.amount).sum()
    }

    /// Holds of money, and those of allowances beside them: of the key, of two budgets of its workspace, of one of its
    /// organisation.
    pub(super) fn holds_open(&self) -> (usize, usize) {
        let allowances = self.holds.values().map(|hold| {
            usize::from(window_of(hold.key) != Window::None) + 2 * usize::from(is_in_workspace(hold.key)) + 1
        });
        (self.holds.len(), allowances.sum())
    }

    pub(super) fn hold(&mut self, n: usize, asked: &Asked, now: UnixMs) -> Expected {
        if self.seen.contains(&n) {
            return if self.holds.contains_key(&n) { Expected::Again } else { Expected::NoHold };
        }
        let mut expected = self.afford(asked.key, asked.amount, now);
        let counted = [u64::from(is_in_workspace(asked.key)), asked.tokens];
        let used = self.asked_for(customer_of(asked.key), now);
        let most = [self.limits.requests, self.limits.tokens];
        let is_over = |n: usize| counted[n] > 0 && used[n] + counted[n] > most[n];
        if expected == Expected::Done && (is_over(0) || is_over(1)) {
            expected = Expected::OverRate;
        }
        if expected == Expected::Done {
            self.let_in(asked.key, counted, now);
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
            let used = self.asked_for(customer_of(hold.key), now)[1];
            let tokens = (more / 3).min(self.limits.tokens.saturating_sub(used));
            self.let_in(hold.key, [0, tokens], now);
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
        let (limits, of_customer) = (self.limits, move |other: usize| customer_of(other) == customer);
        let in_workspace = |other: usize| of_customer(other) && is_in_workspace(other);
        let fits = |window, limit, of: &dyn Fn(usize) -> bool| {
            window == Window::None || self.bound(window, now, of) + more <= limit
        };
        let does_workspace = !is_in_workspace(key)
            || fits(Window::Day, limits.workspace, &in_workspace)
                && fits(Window::Ever, 2 * limits.workspace, &in_workspace);
        let is_within = fits(window_of(key), limits.key, &|other| other == key)
            && does_workspace
            && fits(Window::Day, limits.organisation, &of_customer);
        if is_within { Expected::Done } else { Expected::OverLimit }
    }

    /// What some keys have spent in a window and hold.
    fn bound(&self, window: Window, now: UnixMs, of: &dyn Fn(usize) -> bool) -> u64 {
        let counts = |on: u64| window == Window::Ever || on == day(now);
        let spent = self.spent_on.iter().filter(|((key, on), _)| of(*key) && counts(*on));
        let held = self.holds.values().filter(|hold| of(hold.key)).map(|hold| hold.amount);
        spent.map(|(_, spent)| spent).sum::<u64>() + held.sum::<u64>()
    }
}

fn day(now: UnixMs) -> u64 {
    u64::from(UtcDay::of(now).0)
}

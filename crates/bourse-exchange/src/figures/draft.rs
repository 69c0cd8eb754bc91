//! Figures while the journal is read.

use super::day::{Class, DayFigures};
use super::{Days, FIGURES_DAYS_MAX, FiguresError};
use crate::books::usd;
use crate::core::Split;
use crate::names::{CLEARING, SUBSIDY};
use crate::open::OpenError;
use crate::postings::{Chart, Entry, Told};
use crate::suspense::{Party, SuspenseRecord};
use bourse_ledger::AccountKind;
use bourse_types::{AccountId, Gift, Giver, NanoUsd, RequestId, SellerName, UnixMs, UtcDay};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{Attendance, GenerationNote};
use bourse_wire::receipt::Receipt;
use std::collections::{BTreeMap, HashMap};

/// What was last settled.
#[derive(Debug, Clone, Copy)]
struct Settled {
    request: RequestId,
    /// Whether it drew on a gift.
    drew: bool,
}

/// A share that waits in suspense.
#[derive(Debug, Clone)]
struct Waiting {
    customer: AccountId,
    seller: SellerName,
    amount: NanoUsd,
    is_paid: bool,
}

/// Sums while the journal is read. Its memory is that of the accounts that have a gift, of the open cases in suspense and
/// of the days that are kept.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    wanted: Days,
    /// What is left of gifts, by account.
    gifts: HashMap<AccountId, u128>,
    settled: Option<Settled>,
    cases: HashMap<RequestId, Waiting>,
    days: BTreeMap<UtcDay, DayFigures>,
    /// What went into clearing, and what receipts say of it: of all days.
    posted: u128,
    receipted: u128,
}

impl Draft {
    pub(crate) fn of(wanted: Days) -> Self {
        Self { wanted, ..Self::default() }
    }

    pub(crate) fn take(&mut self, chart: &Chart, told: Told<'_>) -> Result<(), FiguresError> {
        match told {
            Told::Entry(entry) => self.entry(chart, entry),
            Told::Receipt { at, receipt, note } => return self.receipt(at, receipt, note),
            Told::Suspense { at, record } => return self.suspense(at, record),
            Told::Attended(attendance) => return self.attended(attendance),
            _ => {}
        }
        Ok(())
    }

    /// What receipts say must be what was posted.
    pub(crate) fn check(&self) -> Result<(), FiguresError> {
        if self.posted == self.receipted {
            return Ok(());
        }
        let [receipts, postings] = [self.receipted, self.posted].map(|sum| usd(crate::books::signed(sum)));
        Err(FiguresError::Contradiction { receipts, postings })
    }

    pub(crate) fn into_days(self) -> Vec<DayFigures> {
        self.days.into_values().collect()
    }

    /// Forgets all but the last days.
    pub(crate) fn keep_days(&mut self, most: u32) {
        while self.days.len() > most as usize {
            self.days.pop_first();
        }
    }

    /// The figures of a day, on which perhaps nothing happened.
    pub(crate) fn day_or_nothing(&self, day: UtcDay) -> DayFigures {
        self.days.get(&day).cloned().unwrap_or_else(|| DayFigures::of(day))
    }

    fn entry(&mut self, chart: &Chart, entry: &Entry<'_>) {
        let is_customer = |account| chart.kind(account) == AccountKind::Customer;
        let mut drew = false;
        for posting in entry.postings {
            let amount = u128::from(posting.amount.0);
            if posting.debit == SUBSIDY && is_customer(posting.credit) {
                *self.gifts.entry(posting.credit).or_default() += amount;
            } else if posting.credit == CLEARING && is_customer(posting.debit) {
                self.posted += amount;
                drew |= self.draw(posting.debit, amount);
            }
        }
        if let Some(request) = entry.request {
            self.settled = Some(Settled { request, drew });
        }
    }

    /// Spends gifts first. Whether there were any.
    fn draw(&mut self, account: AccountId, amount: u128) -> bool {
        let Some(left) = self.gifts.get_mut(&account) else { return false };
        let drawn = amount.min(*left);
        *left -= drawn;
        if *left == 0 {
            self.gifts.remove(&account);
        }
        drawn > 0
    }

    fn drew(&self, request: RequestId) -> bool {
        self.settled.is_some_and(|settled| settled.request == request && settled.drew)
    }

    fn receipt(&mut self, at: UnixMs, receipt: &[u8], note: &[u8]) -> Result<(), FiguresError> {
        let unreadable = |error: CanonicalError| OpenError::Replay {
            last_good: 0,
            what: format!("a receipt cannot be read: {error}"),
        };
        let receipt = Receipt::from_canonical_bytes(receipt).map_err(unreadable)?;
        self.receipted += u128::from(receipt.charge.total.0);
        let note = GenerationNote::read(note).map_err(unreadable)?;
        let usage = &receipt.usage_billed;
        let is_nothing = receipt.charge.total == NanoUsd::ZERO
            && (usage.prompt.0, usage.completion.0, usage.units) == (0, 0, 0);
        let Some(seller) = receipt.seller.as_ref().filter(|_| !is_nothing) else { return Ok(()) };
        let drew = self.drew(receipt.request);
        let class = match note.gift {
            _ if note.is_byok() => Class::OwnKey,
            Some(Gift { giver: Giver::Market, .. }) => Class::Subsidised,
            _ if receipt.charge.total == NanoUsd::ZERO => Class::Free,
            _ if drew => Class::Subsidised,
            _ => Class::Paid,
        };
        let split = Split::as_written(&receipt, note.is_byok()).ok_or_else(|| OpenError::Replay {
            last_good: 0,
            what: format!("the charge of {} does not sum to its total", receipt.request),
        })?;
        let waits = receipt.is_suspended();
        let Some(day) = self.day(at)? else { return Ok(()) };
        day.used(receipt.model.as_str(), class, usage);
        day.charged(seller.as_str(), &split, !drew, waits);
        match note.gift {
            Some(gift) => day.given(seller.as_str(), gift, waits),
            None if class == Class::Free => day.unvalued(seller.as_str()),
            None => {}
        }
        Ok(())
    }

    fn suspense(&mut self, at: UnixMs, record: &SuspenseRecord) -> Result<(), FiguresError> {
        match record {
            SuspenseRecord::Opened { request, case } => {
                let is_paid = case.customer != SUBSIDY && !self.drew(*request);
                let (customer, seller, amount) = (case.customer, case.seller.clone(), case.amount);
                self.cases.insert(*request, Waiting { customer, seller, amount, is_paid });
            }
            SuspenseRecord::Resolved { request, to } => {
                let Some(waiting) = self.cases.remove(request) else { return Ok(()) };
                match to {
                    Party::Seller => {
                        if let Some(day) = self.day(at)? {
                            day.released(waiting.seller.as_str(), waiting.amount, waiting.is_paid);
                        }
                    }
                    Party::Buyer if waiting.is_paid || waiting.customer == SUBSIDY => {}
                    Party::Buyer => {
                        *self.gifts.entry(waiting.customer).or_default() += u128::from(waiting.amount.0);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds each day's part of a stretch.
    fn attended(&mut self, told: &Attendance) -> Result<(), FiguresError> {
        let mut from = told.from;
        while from < told.until {
            let until = told.until.min(UtcDay::of(from).plus(1).start());
            if let Some(day) = self.day(from)? {
                day.attended(told.seller.as_str(), told.gpus, until.0.saturating_sub(from.0));
            }
            from = until;
        }
        Ok(())
    }

    /// The figures of the day of `at`, where they are wanted.
    fn day(&mut self, at: UnixMs) -> Result<Option<&mut DayFigures>, FiguresError> {
        let day = UtcDay::of(at);
        if !self.wanted.holds(day) {
            return Ok(None);
        }
        if self.days.len() == FIGURES_DAYS_MAX && !self.days.contains_key(&day) {
            return Err(FiguresError::TooLong);
        }
        Ok(Some(self.days.entry(day).or_insert_with(|| DayFigures::of(day))))
    }
}

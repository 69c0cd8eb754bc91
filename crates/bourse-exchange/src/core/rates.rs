//! Rates: how many requests and tokens a key, its workspace and its organisation may ask for in a minute.
//!
//! A rate is an account in its own unit that is funded with the limit. A request takes from it by a pending transfer in
//! the chain of its hold, which nobody posts and which gives itself back after [`RATE_WINDOW`]: a sliding window, exact to
//! the millisecond of the books' time, that replay repeats from the journal alone. What is due is given back before a
//! request is judged, not only when the keeper comes. So what a refusal says about when to come back is the expiry of the
//! entry with which enough is free: true to the millisecond, unless somebody else is faster.
//!
//! A request that is refused for another reason takes nothing. One that was let in counts for its minute however it ends.
//! An extension is never refused for a rate, as that would cut an answer that is being read: it takes what is left.
//!
//! Restarts: what was taken stays taken, and gives itself back in its time; a restart is no way around a rate.
//! A rate that is lowered takes what is free at once, and the rest as it comes back.
//!
//! Limits: entries are open holds of the ledger, so its `pendings_max` bounds them with those of money; a request that
//! finds no room is refused as a whole, and nothing is taken. The order of entries lives in memory and is made again
//! from the ledger when it is opened.

use super::{Core, RELEASES_PER_STEP_MAX, roles};
use crate::limits::{Limits, Rate, ScopeId, SetBy, unit_of};
use bourse_ledger::{
    AccountKind, Amount, Applied, BalanceLimit, Event, ReleaseReason, Transfer, TransferKind, Unit,
};
use bourse_types::{AccountId, DurationMs, RequestId, TransferId, UnixMs};
use bourse_wire::funds::{
    AccountsError, Change, FundsError, HoldExtension, RATE_WINDOW, RateStatus, RateUnit,
};
use std::collections::{HashMap, VecDeque};

/// What a request takes from a rate.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateDraw {
    id: TransferId,
    account: AccountId,
    unit: RateUnit,
    amount: u64,
}

/// An entry that gives itself back.
#[derive(Debug, Clone, Copy)]
struct Taken {
    until: UnixMs,
    hold: TransferId,
    amount: u64,
}

/// What was taken from each rate, the oldest first.
#[derive(Debug, Default)]
pub(super) struct RateWindows(HashMap<AccountId, VecDeque<Taken>>);

impl RateWindows {
    fn take(&mut self, account: AccountId, taken: Taken) {
        let entries = self.0.entry(account).or_default();
        // The books' time only moves forward.
        debug_assert!(entries.back().is_none_or(|last| last.until <= taken.until));
        entries.push_back(taken);
    }

    /// An entry has given itself back.
    pub(super) fn forget(&mut self, account: AccountId, hold: TransferId) {
        let Some(entries) = self.0.get_mut(&account) else { return };
        // It is the first one, or one of the same millisecond.
        if let Some(at) = entries.iter().position(|taken| taken.hold == hold) {
            entries.remove(at);
        }
        if entries.is_empty() {
            self.0.remove(&account);
        }
    }

    fn entries(&self, account: AccountId) -> impl DoubleEndedIterator<Item = &Taken> {
        self.0.get(&account).into_iter().flatten()
    }
}

impl Core {
    /// What a request takes from the rates of its scopes, each fitted to its limit and rid of what is due.
    pub(super) fn rate_draws(
        &mut self,
        request: RequestId,
        scopes: [Option<ScopeId>; 3],
        tokens: Option<u64>,
        now: UnixMs,
    ) -> Result<Vec<RateDraw>, FundsError> {
        let mut draws = Vec::new();
        let Some(tokens) = tokens else { return Ok(draws) };
        for (n, (rate, unit)) in self.rates_of(scopes).into_iter().enumerate() {
            let Some((account, limit)) = rate.binding() else { continue };
            let amount = if unit == RateUnit::Requests { 1 } else { tokens };
            if amount > 0 {
                self.freshen(account, (limit, unit), amount, now)?;
                draws.push(RateDraw { id: roles::rate(request, n), account, unit, amount });
            }
        }
        Ok(draws)
    }

    /// Adds what a request takes from rates to its chain.
    pub(super) fn chain_rates(&mut self, draws: &[RateDraw], until: UnixMs) {
        for draw in draws {
            let Some(credit) = self.rate_control(draw.unit) else { continue };
            self.chain.push(take(draw, credit, until));
        }
    }

    /// Notes what a chain that was applied has taken.
    pub(super) fn rates_taken(&mut self, draws: &[RateDraw], until: UnixMs) {
        for draw in draws {
            self.rates.take(draw.account, Taken { until, hold: draw.id, amount: draw.amount });
        }
    }

    /// Counts the tokens of an extension, as far as there are any left. What cannot be counted is let go: the answer is
    /// being read.
    pub(super) fn count_more(&mut self, asked: &HoldExtension, scopes: [Option<ScopeId>; 3], now: UnixMs) {
        for (rate, unit) in self.rates_of(scopes) {
            let Some((account, limit)) = rate.binding().filter(|_| unit == RateUnit::Tokens) else {
                continue;
            };
            if self.freshen(account, (limit, unit), asked.tokens, now).is_err() {
                continue;
            }
            let amount = asked.tokens.min(self.free(account));
            let until = now.plus(RATE_WINDOW);
            let step = [asked.request.0, asked.step.into()];
            let id = self.house_id(b"bourse/rate-extension/1", account, step, now);
            let Some(credit) = self.rate_control(unit).filter(|_| amount > 0) else { continue };
            let draw = RateDraw { id, account, unit, amount };
            if let Ok(Applied::Done) = self.apply_one(take(&draw, credit, until), now) {
                self.rates_taken(&[draw], until);
            }
        }
    }

    /// Sets or lifts rates.
    pub(crate) fn set_rates(
        &mut self,
        scope: ScopeId,
        changes: [Change<Option<u64>>; 2],
        (now, by): (UnixMs, SetBy),
    ) -> Result<(), AccountsError> {
        self.running()?;
        self.room_for(0)?;
        let mut limits: Limits = self.scopes.limits(&scope).cloned().unwrap_or_default();
        let is_others = |(change, rate): (&Change<_>, &Rate)| {
            matches!(change, Change::Set(_)) && !by.may_change(rate.set_by)
        };
        if changes.iter().zip(&limits.rates).any(is_others) {
            return Err(AccountsError::Operators);
        }
        for ((unit, change), rate) in RateUnit::ALL.into_iter().zip(changes).zip(&mut limits.rates) {
            let Change::Set(limit) = change else { continue };
            rate.limit = limit;
            rate.set_by = by.of(&scope, limit);
            let Some(limit) = limit else { continue };
            if self.rate_control(unit).is_none() {
                let name = control_name(unit);
                self.open_account(name, AccountKind::Control, BalanceLimit::None, unit_of(unit), now)?;
            }
            let account = if let Some(account) = rate.account {
                account
            } else {
                let name = format!("rate:{}:{}", scope.name(), unit.as_str());
                let (kind, keeps) = (AccountKind::Allowance, BalanceLimit::DebitsWithinCredits);
                self.open_account(name, kind, keeps, unit_of(unit), now)?
            };
            rate.account = Some(account);
            self.fund(account, limit, unit, now)?;
        }
        self.put_limits(scope, limits);
        Ok(())
    }

    /// The rates that bind, as they stand.
    pub(crate) fn rate_statuses(&self, scope: &ScopeId, now: UnixMs) -> Vec<RateStatus> {
        let now = now.max(self.now());
        let rates = self.scopes.limits(scope).map(|limits| limits.rates).unwrap_or_default();
        let binding = RateUnit::ALL.into_iter().zip(rates);
        binding.filter_map(|(unit, rate)| self.rate_status(scope, rate, unit, now)).collect()
    }

    /// What the ledger refused as more than a rate has left: of all rates of the chain, the one that is free last.
    pub(super) fn over_rate(&self, scopes: [Option<ScopeId>; 3], now: UnixMs) -> Option<FundsError> {
        let mut last = None;
        for scope in scopes.iter().flatten() {
            let rates = self.scopes.limits(scope).map(|limits| limits.rates).unwrap_or_default();
            for (rate, unit) in rates.into_iter().zip(RateUnit::ALL) {
                let Some((account, limit)) = rate.binding() else { continue };
                let Some(needed) = self.asked_of(account) else { continue };
                let retry_after = self.wait(account, limit, needed, now);
                let is_later = |other: &(Option<DurationMs>, _)| match (retry_after, other.0) {
                    (None, _) => true,
                    (Some(span), Some(longest)) => span > longest,
                    (Some(_), None) => false,
                };
                let is_short = retry_after != Some(DurationMs(0));
                if is_short && last.as_ref().is_none_or(is_later) {
                    let status = self.rate_status(scope, rate, unit, now)?;
                    last = Some((retry_after, (status, needed)));
                }
            }
        }
        last.map(|(retry_after, (rate, needed))| FundsError::RateLimited {
            rate: Box::new(rate),
            needed,
            retry_after,
        })
    }

    /// Puts entries in order again after the ledger was read.
    pub(crate) fn order_rates(&mut self) {
        let holds = self.state.pendings().into_iter().filter(|(_, hold)| self.is_rate(hold.debit));
        let mut taken: Vec<_> = holds
            .map(|(id, hold)| (hold.debit, Taken { until: hold.expires_at, hold: id, amount: hold.amount.0 }))
            .collect();
        taken.sort_by_key(|(_, taken)| taken.until);
        self.rates = RateWindows::default();
        for (account, taken) in taken {
            self.rates.take(account, taken);
        }
    }

    /// Whether an account is one of a rate's.
    pub(crate) fn is_rate(&self, account: AccountId) -> bool {
        self.state.account(account).is_some_and(|(account, _)| {
            account.kind == AccountKind::Allowance && account.unit != Unit::NANO_USD
        })
    }

    /// Requests and tokens of each scope, in this order.
    fn rates_of(&self, scopes: [Option<ScopeId>; 3]) -> Vec<(Rate, RateUnit)> {
        if scopes.iter().flatten().all(|scope| self.scopes.limits(scope).is_none()) {
            return Vec::new();
        }
        let of = |scope: Option<ScopeId>| scope.and_then(|scope| self.scopes.limits(&scope));
        let rates = scopes.into_iter().map(|scope| of(scope).map(|limits| limits.rates).unwrap_or_default());
        rates.flat_map(|rates| rates.into_iter().zip(RateUnit::ALL)).collect()
    }

    /// Gives back what is due, as far as it takes for `wanted`, and makes the account hold what the limit says.
    fn freshen(
        &mut self,
        account: AccountId,
        (limit, unit): (u64, RateUnit),
        wanted: u64,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        loop {
            let due = self.rates.entries(account).take_while(|taken| taken.until <= now);
            let due: Vec<_> = due.take(RELEASES_PER_STEP_MAX).map(|taken| taken.hold).collect();
            self.release(&due, ReleaseReason::Expired, now)?;
            self.fund(account, limit, unit, now)?;
            if due.len() < RELEASES_PER_STEP_MAX || self.free(account) >= wanted {
                return Ok(());
            }
        }
    }

    /// Moves between a rate and its other side until it was given its limit; less where the rest is taken.
    fn fund(
        &mut self,
        account: AccountId,
        limit: u64,
        unit: RateUnit,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let (Some((_, balance)), Some(control)) = (self.state.account(account), self.rate_control(unit))
        else {
            return Ok(());
        };
        let (has, limit) = (balance.credits_posted.saturating_sub(balance.debits_posted), u128::from(limit));
        let amount = |sum: u128| Amount(u64::try_from(sum).unwrap_or(u64::MAX));
        let less = has.saturating_sub(limit).min(balance.available());
        // There is one between two events at most.
        let which = [self.state.events_applied().into(), 0];
        let id = self.house_id(b"bourse/rate-funding/1", account, which, now);
        if has < limit {
            return self.post(id, control, account, amount(limit - has), now);
        }
        if less > 0 { self.post(id, account, control, amount(less), now) } else { Ok(()) }
    }

    fn free(&self, account: AccountId) -> u64 {
        let free = self.state.account(account).map_or(0, |(_, balance)| balance.available());
        u64::try_from(free).unwrap_or(u64::MAX)
    }

    /// When `amount` is free if nobody else takes it; zero: now; none: never, as it is more than the limit.
    fn wait(&self, account: AccountId, limit: u64, amount: u64, now: UnixMs) -> Option<DurationMs> {
        let most = u128::from(limit.checked_sub(amount)?);
        let mut taken = self.state.account(account)?.1.debits_pending;
        let mut at = now;
        for entry in self.rates.entries(account) {
            if taken <= most {
                break;
            }
            taken = taken.saturating_sub(u128::from(entry.amount));
            at = at.max(entry.until);
        }
        Some(at.since(now))
    }

    /// What the chain that was refused would have taken from an account.
    fn asked_of(&self, account: AccountId) -> Option<u64> {
        self.chain.iter().find_map(|event| match event {
            Event::Transfer(Transfer { kind: TransferKind::Pending { debit, amount, .. }, .. })
                if *debit == account =>
            {
                Some(amount.0)
            }
            _ => None,
        })
    }

    fn rate_status(&self, scope: &ScopeId, rate: Rate, unit: RateUnit, now: UnixMs) -> Option<RateStatus> {
        let (account, limit) = rate.binding()?;
        let due = self.rates.entries(account).take_while(|taken| taken.until <= now);
        let due: u128 = due.map(|taken| u128::from(taken.amount)).sum();
        let used = self.state.account(account)?.1.debits_pending.saturating_sub(due);
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        let last = self.rates.entries(account).next_back().map(|taken| taken.until);
        let resets_at = last.filter(|until| *until > now);
        Some(RateStatus {
            scope: scope.scope(),
            unit,
            limit,
            used,
            left: limit.saturating_sub(used),
            resets_at,
        })
    }

    /// The other side of all rates of a unit.
    fn rate_control(&self, unit: RateUnit) -> Option<AccountId> {
        self.names.account(&control_name(unit))
    }

    /// The id of something that is done once of its kind; its time is such that the ledger takes it for new.
    pub(super) fn house_id(
        &self,
        kind: &[u8],
        account: AccountId,
        which: [u128; 2],
        now: UnixMs,
    ) -> TransferId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind).update(&account.0.to_le_bytes());
        for word in which {
            hasher.update(&word.to_le_bytes());
        }
        let mut random = [0u8; 10];
        hasher.finalize_xof().fill(&mut random);
        RequestId::new(self.state.new_id_time(now), random).transfer(0)
    }

    /// Entries that have not given themselves back.
    pub(crate) fn rate_entries(&self) -> usize {
        self.rates.0.values().map(VecDeque::len).sum()
    }
}

/// What the other side of all rates of a unit is called. No customer's name has a colon.
fn control_name(unit: RateUnit) -> String {
    format!("rates:{}", unit.as_str())
}

fn take(draw: &RateDraw, credit: AccountId, until: UnixMs) -> Event {
    let (debit, amount) = (draw.account, Amount(draw.amount));
    let kind = TransferKind::Pending { debit, credit, amount, expires_at: until };
    Event::Transfer(Transfer { id: draw.id, linked: false, kind })
}

//! Budgets: what a hold draws on beside the money, of a key, its workspace and its organisation alike.
//!
//! Lowering a budget below what its scope has spent and holds takes what is free at once: holds already granted are
//! honoured. What comes back of them is free only as far as the new limit leaves it: until then the allowance is fitted
//! before each draw. One that is lifted binds nobody from then on, not even a request that was held under it.
//!
//! A budget that begins anew needs no clock. The first hold or extension of a new window fills its allowance up to what
//! the limit leaves after what this window has settled and what is still held: a request in flight at midnight counts in
//! the window in which it settles, so that no window settles more than the limit.
//!
//! What a workspace or an organisation has spent is the sum over its keys, which know it: nothing is counted twice, and a
//! budget that is set late knows of what came before. The sum is made when a window begins and when somebody asks, over
//! [`KEYS_PER_ACCOUNT_MAX`](crate::keys::KEYS_PER_ACCOUNT_MAX) keys at most.
//!
//! Limits: a budget that begins while requests are in flight counts what they hold at that time, not what they extend by.

use super::{Core, OpenRequest, roles};
use crate::keys::Key;
use crate::limits::{Budget, Limits, ScopeId, ScopeRow, SetBy, UNFITTED};
use crate::names::ALLOWANCES;
use crate::record;
use crate::spend::nano;
use bourse_ledger::{AccountKind, BalanceLimit, Unit};
use bourse_types::{AccountId, KeyHash, NanoUsd, RequestId, TransferId, UnixMs};
use bourse_wire::funds::{
    AccountsError, BUDGETS_MAX, BudgetStatus, Change, FundsError, HoldExtension, LimitReset, Rule,
    SpendWindows,
};

/// A hold on an allowance.
#[derive(Debug, Clone, Copy)]
pub(super) struct AllowanceHold {
    /// Which of the places of budgets; see [`ScopeId::place`].
    pub(super) place: usize,
    pub(super) account: AccountId,
    pub(super) held: NanoUsd,
    /// Whether what the buyer's own sellers bill counts, as it was when the hold was made.
    pub(super) includes_byok: bool,
}

impl AllowanceHold {
    /// What a charge and a bill of the buyer's own seller take from it.
    pub(super) fn counted(&self, charge: NanoUsd, byok: NanoUsd) -> Result<NanoUsd, FundsError> {
        counted(charge, byok, self.includes_byok)
    }
}

/// What counts towards a limit.
pub(super) fn counted(charge: NanoUsd, byok: NanoUsd, includes_byok: bool) -> Result<NanoUsd, FundsError> {
    let byok = if includes_byok { byok } else { NanoUsd::ZERO };
    charge.checked_add(byok).map_err(|_| FundsError::TooMany("nano-USD in one hold"))
}

/// What is known of a scope's spending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spending {
    pub(crate) usage: SpendWindows,
    pub(crate) byok_usage: SpendWindows,
    pub(crate) held: NanoUsd,
}

impl Core {
    /// The budgets of a scope, by slot, those that were lifted included.
    pub(crate) fn budgets(&self, scope: &ScopeId) -> &[Budget] {
        match scope {
            ScopeId::Key(hash) => {
                self.keys.get(hash).map_or(&[], |key| std::slice::from_ref(&key.row.budget))
            }
            _ => self.scopes.limits(scope).map_or(&[], |limits| &limits.budgets),
        }
    }

    /// The budgets that bind, as they stand.
    pub(crate) fn budget_statuses(&self, scope: &ScopeId, now: UnixMs) -> Vec<BudgetStatus> {
        let now = now.max(self.now());
        let binding = self.budgets(scope).iter().filter_map(|budget| {
            let spent = self.spent(scope, budget.reset, budget.includes_byok, now);
            self.budget_status(scope, budget, Some(spent), now)
        });
        binding.collect()
    }

    /// What the keys of a scope have spent and hold.
    pub(crate) fn spending(&self, scope: &ScopeId, now: UnixMs) -> Spending {
        let now = now.max(self.now());
        let sum = |reset| {
            let credits = self.spent(scope, reset, false, now);
            (nano(credits), nano(self.spent(scope, reset, true, now).saturating_sub(credits)))
        };
        let [total, daily, weekly, monthly] = LimitReset::ALL.map(sum);
        let windows = |of: fn((NanoUsd, NanoUsd)) -> NanoUsd| SpendWindows {
            total: of(total),
            daily: of(daily),
            weekly: of(weekly),
            monthly: of(monthly),
        };
        let held = nano(self.sum_keys(scope, |key| key.held));
        Spending { usage: windows(|sums| sums.0), byok_usage: windows(|sums| sums.1), held }
    }

    /// What a hold draws on, each allowance filled up for the running window.
    pub(super) fn draws(
        &mut self,
        scopes: [Option<ScopeId>; 3],
        (money, byok): (NanoUsd, NanoUsd),
        now: UnixMs,
    ) -> Result<Vec<AllowanceHold>, FundsError> {
        let mut draws = Vec::new();
        for scope in scopes.iter().flatten() {
            self.renew(scope, now)?;
            for (slot, budget) in self.budgets(scope).iter().enumerate() {
                let Some(account) = budget.binding() else { continue };
                let held = counted(money, byok, budget.includes_byok)?;
                let (place, includes_byok) = (scope.place(slot), budget.includes_byok);
                draws.push(AllowanceHold { place, account, held, includes_byok });
            }
        }
        Ok(draws)
    }

    /// What the books hold of allowances for a request of a key that is no longer, or not yet, known to be open.
    pub(super) fn booked_draws(
        &self,
        request: RequestId,
        key: &Key,
    ) -> Result<Vec<AllowanceHold>, FundsError> {
        let mut draws = Vec::new();
        for scope in key.row.scopes().iter().flatten() {
            for (slot, budget) in self.budgets(scope).iter().enumerate() {
                let place = scope.place(slot);
                let Some(hold) = self.state.pending(roles::hold(request, place)) else { continue };
                if budget.allowance != Some(hold.debit) {
                    return Err(FundsError::Conflict);
                }
                let (account, held) = (hold.debit, hold.amount.nano_usd());
                draws.push(AllowanceHold { place, account, held, includes_byok: budget.includes_byok });
            }
        }
        Ok(draws)
    }

    /// Notes which budgets of its scopes an open request does not draw on.
    pub(super) fn note_mixed(&mut self, open: &OpenRequest) {
        let Some(key) = self.keys.get(&open.key) else { return };
        for scope in key.row.scopes().iter().flatten() {
            let binding = self.budgets(scope).iter().filter_map(Budget::binding);
            let missing: Vec<_> = binding.filter(|account| !open.draws_on(*account)).collect();
            self.mixed.extend(missing);
        }
    }

    /// Fits the allowances of a scope when `now` is beyond their windows, or while they give back too much. Cheap when not.
    pub(super) fn renew(&mut self, scope: &ScopeId, now: UnixMs) -> Result<(), FundsError> {
        for slot in 0..self.budgets(scope).len() {
            let old = self.budgets(scope)[slot];
            let Some(allowance) = old.binding().filter(|_| old.is_over(now)) else { continue };
            self.room_for(0)?;
            let window = old.reset.window_start(now);
            // What was moved so far tells two of one millisecond apart.
            let moved = self
                .state
                .account(allowance)
                .map_or(0, |(_, balance)| balance.debits_posted.saturating_add(balance.credits_posted));
            let id = self.house_id(b"bourse/allowance-renewal/2", allowance, [window.0.into(), moved], now);
            let mut budget = old;
            self.fit(scope, &mut budget, allowance, id, now)?;
            if budget != old {
                self.put_budget(scope, slot, budget);
            }
        }
        Ok(())
    }

    /// Puts into the allowances of budgets that were lifted what an extension still draws on them: a hold posts what it
    /// was made under to its end, and is bound by none of it any more.
    pub(super) fn let_lifted_through(
        &mut self,
        asked: &HoldExtension,
        open: &OpenRequest,
        scopes: [Option<ScopeId>; 3],
        now: UnixMs,
    ) -> Result<(), FundsError> {
        for hold in &open.allowances {
            let mut budgets = scopes.iter().flatten().flat_map(|scope| self.budgets(scope));
            let is_lifted =
                budgets.any(|budget| budget.allowance == Some(hold.account) && budget.limit.is_none());
            let more = u128::from(hold.counted(asked.amount, asked.byok)?.0);
            let free = self.state.account(hold.account).map_or(0, |(_, balance)| balance.available());
            if is_lifted && free < more {
                // There is one between two events at most.
                let which = [self.state.events_applied().into(), 0];
                let id = self.house_id(b"bourse/allowance-lifted/1", hold.account, which, now);
                self.set_available(hold.account, more, id, now)?;
            }
        }
        Ok(())
    }

    /// Sets or lifts the budget of one window of a workspace or an organisation.
    pub(crate) fn set_budget(
        &mut self,
        scope: ScopeId,
        reset: LimitReset,
        limit: Option<NanoUsd>,
        includes_byok: Change<bool>,
        (id, now, by): (TransferId, UnixMs, SetBy),
    ) -> Result<(), AccountsError> {
        self.running()?;
        self.room_for(0)?;
        let budgets = self.budgets(&scope);
        let of_window = budgets.iter().position(|budget| budget.reset == reset);
        // A slot that was lifted serves another window; holds that are still made under it go on to.
        let lifted = || budgets.iter().position(|budget| budget.limit.is_none());
        let slot = of_window.or_else(lifted).unwrap_or(budgets.len());
        if slot >= BUDGETS_MAX {
            return Err(Rule::BUDGETS_FULL.broken());
        }
        let old = budgets.get(slot).copied().unwrap_or(Budget::unset(reset));
        let is_same = old.reset == reset;
        if is_same && !by.may_change(old.set_by) {
            return Err(AccountsError::Operators);
        }
        let mut budget = Budget { limit, reset, includes_byok: is_same && old.includes_byok, ..old };
        if let Change::Set(includes_byok) = includes_byok {
            budget.includes_byok = includes_byok;
        }
        budget.set_by = by.of(&scope, limit);
        self.begin_budget(&scope, slot, &mut budget, &old, (id, now))?;
        self.put_budget(&scope, slot, budget);
        Ok(())
    }

    /// Makes a changed budget what its allowance stands for. `was` is what it was before.
    pub(super) fn begin_budget(
        &mut self,
        scope: &ScopeId,
        slot: usize,
        budget: &mut Budget,
        was: &Budget,
        (id, now): (TransferId, UnixMs),
    ) -> Result<(), FundsError> {
        if budget.limit.is_none() {
            return Ok(());
        }
        let allowance = if let Some(allowance) = budget.allowance {
            allowance
        } else {
            let slot = if slot == 0 { String::new() } else { format!(":{slot}") };
            let name = format!("allowance:{}{slot}", scope.name());
            let (kind, limit) = (AccountKind::Allowance, BalanceLimit::DebitsWithinCredits);
            self.open_account(name, kind, limit, Unit::NANO_USD, now)?
        };
        budget.allowance = Some(allowance);
        let counts_more = was.limit.is_none() || budget.includes_byok && !was.includes_byok;
        if counts_more && self.open.values().any(|open| self.is_of(scope, &open.key)) {
            self.mixed.insert(allowance);
        }
        self.fit(scope, budget, allowance, id, now)
    }

    /// Makes what is free of the allowance what the limit leaves in the window that holds `now`.
    fn fit(
        &mut self,
        scope: &ScopeId,
        budget: &mut Budget,
        allowance: AccountId,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let Some(limit) = budget.limit else { return Ok(()) };
        let now = now.max(self.now());
        let spent = self.spent(scope, budget.reset, budget.includes_byok, now);
        let held = self.held_against(scope, allowance, budget.includes_byok);
        let bound = spent.saturating_add(held);
        let gives_back_too_much = held > 0 && bound > u128::from(limit.0);
        budget.window = if gives_back_too_much { UNFITTED } else { budget.reset.window_start(now) };
        let is_mixed = self.unknown_to(scope, allowance, budget.includes_byok).any(|unknown| unknown > 0);
        if !is_mixed {
            self.mixed.remove(&allowance);
        }
        self.set_available(allowance, u128::from(limit.0).saturating_sub(bound), id, now)
    }

    /// What requests in flight of a scope can still take from a budget. The allowance knows of all that were held under
    /// it; those held before there was one, and what own sellers may bill where that did not count then, are counted one
    /// by one until they are gone.
    fn held_against(&self, scope: &ScopeId, allowance: AccountId, includes_byok: bool) -> u128 {
        let known = self.state.account(allowance).map_or(0, |(_, balance)| balance.debits_pending);
        self.unknown_to(scope, allowance, includes_byok).fold(known, u128::saturating_add)
    }

    /// What each request in flight of a scope may take that its allowance knows nothing of.
    fn unknown_to(
        &self,
        scope: &ScopeId,
        allowance: AccountId,
        includes_byok: bool,
    ) -> impl Iterator<Item = u128> {
        let open = self.mixed.contains(&allowance).then(|| self.open.values()).into_iter().flatten();
        let own = open.filter(move |open| self.is_of(scope, &open.key));
        own.map(move |open| open.unknown_to(allowance, includes_byok))
    }

    /// Moves between allowance and its other side until `wanted` is free.
    fn set_available(
        &mut self,
        allowance: AccountId,
        wanted: u128,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let free = self.state.account(allowance).map_or(0, |(_, balance)| balance.available());
        match (wanted.checked_sub(free), free.checked_sub(wanted)) {
            (Some(more), _) if more > 0 => self.post(id, ALLOWANCES, allowance, nano(more), now),
            (_, Some(less)) if less > 0 => self.post(id, allowance, ALLOWANCES, nano(less), now),
            _ => Ok(()),
        }
    }

    fn put_budget(&mut self, scope: &ScopeId, slot: usize, budget: Budget) {
        if let ScopeId::Key(hash) = scope {
            let Some(key) = self.keys.get(hash) else { return };
            let row = crate::keys::KeyRow { budget, ..key.row.clone() };
            return self.put_key(row);
        }
        let mut limits = self.scopes.limits(scope).cloned().unwrap_or_default();
        match limits.budgets.get_mut(slot) {
            Some(old) => *old = budget,
            None => limits.budgets.push(budget),
        }
        self.put_limits(*scope, limits);
    }

    pub(super) fn put_limits(&mut self, scope: ScopeId, limits: Limits) {
        let row = ScopeRow::Limits(scope, limits);
        record::put_scope(&mut self.group.bytes, &row);
        self.scopes.put(row);
    }

    /// What the ledger refused as more than a budget has left, with that budget as it stands.
    pub(super) fn over_budget(
        &self,
        scope: &ScopeId,
        allowance: AccountId,
        needed: NanoUsd,
        now: UnixMs,
    ) -> Option<FundsError> {
        let budget = self.budgets(scope).iter().find(|budget| budget.allowance == Some(allowance))?;
        let budget = self.budget_status(scope, budget, None, now)?;
        Some(FundsError::OverBudget { budget: Box::new(budget), needed })
    }

    /// Without `spent`, it is what limit, rest and holds leave: whoever is refused may come often.
    fn budget_status(
        &self,
        scope: &ScopeId,
        budget: &Budget,
        spent: Option<u128>,
        now: UnixMs,
    ) -> Option<BudgetStatus> {
        let (limit, allowance) = (budget.limit?, budget.allowance?);
        let held = self.held_against(scope, allowance, budget.includes_byok);
        let left = match spent {
            Some(spent) if budget.is_over(now) => {
                u128::from(limit.0).saturating_sub(spent.saturating_add(held))
            }
            _ => self.state.account(allowance).map_or(0, |(_, balance)| balance.available()),
        };
        let spent = spent.unwrap_or(u128::from(limit.0).saturating_sub(left.saturating_add(held)));
        Some(BudgetStatus {
            scope: scope.scope(),
            reset: budget.reset,
            limit,
            includes_byok: budget.includes_byok,
            spent: nano(spent),
            held: nano(held),
            left: nano(left),
            resets_at: (budget.reset != LimitReset::Never).then(|| budget.reset.window_end(now)),
        })
    }

    /// Settled in the window that holds `now`.
    fn spent(&self, scope: &ScopeId, reset: LimitReset, includes_byok: bool, now: UnixMs) -> u128 {
        self.sum_keys(scope, |key| key.spent.in_window(reset, includes_byok, now))
    }

    fn sum_keys(&self, scope: &ScopeId, of: impl Fn(&Key) -> u128) -> u128 {
        let account = match scope {
            ScopeId::Key(hash) => return self.keys.get(hash).map_or(0, of),
            ScopeId::Workspace(id) => self.scopes.workspace(*id).map(|row| row.account),
            ScopeId::Organisation(account) => Some(*account),
        };
        let keys = account.into_iter().flat_map(|account| self.keys.of_account(account));
        keys.filter(|key| key.row.scopes().contains(&Some(*scope))).map(of).fold(0, u128::saturating_add)
    }

    /// Whether a key belongs to a scope.
    fn is_of(&self, scope: &ScopeId, key: &KeyHash) -> bool {
        self.keys.get(key).is_some_and(|key| key.row.scopes().contains(&Some(*scope)))
    }
}

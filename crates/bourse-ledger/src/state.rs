//! The state machine: events in, outcomes out.
//!
//! **Exactly once.** The id of a chain's first transfer is its idempotency key. While an id is
//! remembered, the same chain again is [`Applied::Exists`] and another one is [`Refusal::IdReused`].
//! Memory is a window of [`Limits::known_ids_max`] ids; an unknown id older than what the window forgot
//! is [`Refusal::IdTooOld`]. Two things need no window and are taken at any age: an open hold knows its
//! own id, and a chain that posts or voids an open hold can happen only once, as the hold is then gone.
//! So a stream of an hour settles under an id of an hour ago.
//!
//! **Time** only moves forward: an earlier `now` counts as the latest one seen. Expiry is an event
//! ([`Event::Release`]), never a side effect, so that replay depends on the journal alone.
//!
//! **Chains** are applied in place with an undo list, in order: a transfer may spend what the one before
//! it brought.

use crate::account::{Account, Amount, Balance, Phase};
use crate::event::{
    Applied, ChainRefusal, Event, Outcome, Refusal, ReleaseReason, Transfer, TransferKind, fingerprint,
};
use crate::hash::HashKey;
use crate::limits::{CHAIN_EVENTS_MAX, ID_AHEAD_MAX, Limits};
use crate::window::{Known, Window};
use bourse_types::{AccountId, DurationMs, TransferId, UnixMs};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Entries of the expiry queue that may be stale before it is rebuilt, beyond one for each open hold.
const STALE_EXPIRIES_MAX: usize = 1024;

/// An open hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Account that will pay.
    pub debit: AccountId,
    /// Account that will receive.
    pub credit: AccountId,
    /// What is held.
    pub amount: Amount,
    /// When it may be released.
    pub expires_at: UnixMs,
}

/// An open hold with the places of its accounts, so that settling needs no look-up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hold {
    pub(crate) debit: u32,
    pub(crate) credit: u32,
    pub(crate) amount: Amount,
    pub(crate) expires_at: UnixMs,
    pub(crate) fingerprint: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) account: Account,
    pub(crate) balance: Balance,
}

#[derive(Debug, Clone, Copy)]
enum Undo {
    Balance(u32, Balance),
    HoldAdded(TransferId),
    HoldWas(TransferId, Hold),
}

/// A journalled event that does not apply: the journal is not what this ledger wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Refused.
    #[error("a journalled event is refused: {0}")]
    Refused(ChainRefusal),
    /// It had happened before.
    #[error("a journalled event had happened before")]
    Repeated,
}

/// The ledger. See the [module](crate::State) text for its laws.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) limits: Limits,
    pub(crate) now: UnixMs,
    pub(crate) events_applied: u64,
    pub(crate) slots: Vec<Slot>,
    pub(crate) places: HashMap<AccountId, u32, HashKey>,
    pub(crate) holds: HashMap<TransferId, Hold, HashKey>,
    pub(crate) window: Window,
    expiries: BinaryHeap<Reverse<(UnixMs, TransferId)>>,
    undo: Vec<Undo>,
}

impl State {
    /// An empty ledger.
    pub fn new(limits: Limits, key: HashKey) -> Self {
        Self {
            limits,
            now: UnixMs(0),
            events_applied: 0,
            slots: Vec::new(),
            places: HashMap::with_hasher(key),
            holds: HashMap::with_hasher(key),
            window: Window::new(limits.known_ids_max, None, key),
            expiries: BinaryHeap::new(),
            undo: Vec::new(),
        }
    }

    /// Applies a list of events, chain by chain; one outcome for each event, in order.
    pub fn apply(&mut self, now: UnixMs, events: &[Event]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        let mut rest = events;
        while !rest.is_empty() {
            let last = rest.iter().position(|event| !event.is_linked()).unwrap_or(rest.len() - 1);
            let (chain, tail) = rest.split_at(last + 1);
            rest = tail;
            match self.apply_chain(now, chain) {
                Ok(applied) => outcomes.extend(chain.iter().map(|_| Ok(applied))),
                Err(refused) => outcomes.extend(
                    (0..chain.len())
                        .map(|at| Err(if at == refused.at { refused.why } else { Refusal::Linked })),
                ),
            }
        }
        outcomes
    }

    /// Applies one chain: all of it, or nothing. Allocates nothing in the steady state.
    pub fn apply_chain(&mut self, now: UnixMs, chain: &[Event]) -> Result<Applied, ChainRefusal> {
        let previous_now = self.now;
        self.now = self.now.max(now);
        let result = self.try_chain(chain);
        match result {
            Ok(Applied::Done) => self.events_applied += chain.len() as u64,
            Ok(Applied::Exists) | Err(_) => self.now = previous_now,
        }
        result
    }

    /// Whether a chain had taken effect before, as far back as ids are remembered. Changes nothing.
    ///
    /// # Errors
    /// [`Refusal::IdReused`] when its id was used for something else.
    pub fn is_repeated(&self, chain: &[Event]) -> Result<bool, Refusal> {
        let Some(Event::Transfer(head)) = chain.first() else { return Ok(false) };
        match self.known_fingerprint(head.id) {
            Some(known) if known == fingerprint(chain) => Ok(true),
            Some(_) => Err(Refusal::IdReused),
            None => Ok(false),
        }
    }

    /// Applies what a journal says was applied; anything but success means that the journal is damaged.
    pub fn replay(&mut self, at: UnixMs, events: &[Event]) -> Result<(), ReplayError> {
        let mut rest = events;
        while !rest.is_empty() {
            let last = rest.iter().position(|event| !event.is_linked()).unwrap_or(rest.len() - 1);
            let (chain, tail) = rest.split_at(last + 1);
            rest = tail;
            match self.apply_chain(at, chain) {
                Ok(Applied::Done) => {}
                Ok(Applied::Exists) => return Err(ReplayError::Repeated),
                Err(refused) => return Err(ReplayError::Refused(refused)),
            }
        }
        Ok(())
    }

    /// Holds whose time is over at `now`, oldest first, at most `count_max`. They stay open until an
    /// [`Event::Release`] is applied for each.
    pub fn due(&mut self, now: UnixMs, count_max: usize) -> Vec<TransferId> {
        let mut due = Vec::new();
        while due.len() < count_max
            && let Some(Reverse((expires_at, id))) = self.expiries.peek().copied()
            && expires_at <= now
        {
            self.expiries.pop();
            if self.holds.get(&id).is_some_and(|hold| hold.expires_at == expires_at) {
                due.push(id);
            }
        }
        due.dedup();
        // They may be asked for again before they are released.
        self.expiries.extend(
            due.iter().filter_map(|id| self.holds.get(id).map(|hold| Reverse((hold.expires_at, *id)))),
        );
        due
    }

    /// The account and its balance.
    pub fn account(&self, id: AccountId) -> Option<(Account, Balance)> {
        let slot = self.slots.get(*self.places.get(&id)? as usize)?;
        Some((slot.account, slot.balance))
    }

    /// Every account with its balance, in the order of opening.
    pub fn accounts(&self) -> impl ExactSizeIterator<Item = (Account, Balance)> + '_ {
        self.slots.iter().map(|slot| (slot.account, slot.balance))
    }

    /// An open hold.
    pub fn pending(&self, id: TransferId) -> Option<Pending> {
        self.holds.get(&id).map(|hold| self.shown(hold))
    }

    /// Every open hold, by id.
    pub fn pendings(&self) -> Vec<(TransferId, Pending)> {
        let mut all: Vec<_> = self.holds.iter().map(|(id, hold)| (*id, self.shown(hold))).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// Open holds.
    pub fn pendings_count(&self) -> usize {
        self.holds.len()
    }

    /// The latest time at which something happened.
    pub fn now(&self) -> UnixMs {
        self.now
    }

    /// The first time from `now` on whose ids are surely new, for ids that are made here and now. It is `now` unless so much
    /// happened in one millisecond, as when the clock went back and this ledger's time stands still, that ids of that
    /// millisecond are forgotten already; then it is one more than theirs, so it runs ahead by a millisecond for each
    /// memory of ids that was filled in the meantime.
    pub fn new_id_time(&self, now: UnixMs) -> UnixMs {
        let after = self.window.horizon().map(|horizon| horizon.plus(DurationMs(1)));
        after.map_or(now, |after| after.max(now))
    }

    /// Events applied since the beginning.
    pub fn events_applied(&self) -> u64 {
        self.events_applied
    }

    /// Rebuilds the expiry queue from the open holds.
    pub(crate) fn requeue_expiries(&mut self) {
        self.expiries = self.holds.iter().map(|(id, hold)| Reverse((hold.expires_at, *id))).collect();
    }

    fn try_chain(&mut self, chain: &[Event]) -> Result<Applied, ChainRefusal> {
        let refuse = |at: usize, why: Refusal| Err(ChainRefusal { at, why });
        let Some(last) = chain.last() else { return Ok(Applied::Exists) };
        if last.is_linked() {
            return refuse(chain.len() - 1, Refusal::ChainOpen);
        }
        if chain.len() > CHAIN_EVENTS_MAX {
            return refuse(CHAIN_EVENTS_MAX, Refusal::ChainTooLong { max: CHAIN_EVENTS_MAX });
        }
        let head = match chain {
            [Event::Open(account)] => return self.open(*account).or_else(|why| refuse(0, why)),
            [Event::Release { pending, reason }] => {
                return self.release(*pending, *reason).or_else(|why| refuse(0, why));
            }
            [Event::Transfer(head), ..] => head.id,
            _ => return refuse(0, Refusal::NotLinkable),
        };
        if let Some(at) = chain.iter().position(|event| !matches!(event, Event::Transfer(_))) {
            return refuse(at, Refusal::NotLinkable);
        }
        let print = fingerprint(chain);
        if let Some(known) = self.known_fingerprint(head) {
            return if known == print { Ok(Applied::Exists) } else { refuse(0, Refusal::IdReused) };
        }
        let nature = self.nature(chain);
        if head.time() > self.now.plus(ID_AHEAD_MAX) {
            return refuse(0, Refusal::IdAhead);
        }
        if nature == Nature::New && self.window.may_have_forgotten(head.time()) {
            return refuse(0, Refusal::IdTooOld);
        }
        let changed = self.run(chain, print)?;
        if nature != Nature::Raise {
            self.window.insert(Known::new(head, print));
        }
        Ok(if changed { Applied::Done } else { Applied::Exists })
    }

    fn known_fingerprint(&self, id: TransferId) -> Option<u64> {
        self.window.get(id).or_else(|| self.holds.get(&id).map(|hold| hold.fingerprint))
    }

    fn nature(&self, chain: &[Event]) -> Nature {
        let mut nature = Nature::Raise;
        for event in chain {
            let Event::Transfer(transfer) = event else { continue };
            match transfer.kind {
                TransferKind::Post { pending, .. } | TransferKind::Void { pending }
                    if self.holds.contains_key(&pending) =>
                {
                    return Nature::Settles;
                }
                TransferKind::Raise { .. } => {}
                _ => nature = Nature::New,
            }
        }
        nature
    }

    /// Runs the transfers of a chain; on refusal everything is as before. True when something changed.
    fn run(&mut self, chain: &[Event], print: u64) -> Result<bool, ChainRefusal> {
        self.undo.clear();
        let mut changed = false;
        for (at, event) in chain.iter().enumerate() {
            let Event::Transfer(transfer) = event else { continue };
            match self.transfer(transfer, print) {
                Ok(one) => changed |= one,
                Err(why) => {
                    self.roll_back();
                    return Err(ChainRefusal { at, why });
                }
            }
        }
        Ok(changed)
    }

    fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Balance(place, balance) => self.slots[place as usize].balance = balance,
                Undo::HoldAdded(id) => drop(self.holds.remove(&id)),
                Undo::HoldWas(id, hold) => {
                    self.holds.insert(id, hold);
                    self.queue_expiry(hold.expires_at, id);
                }
            }
        }
    }

    fn open(&mut self, account: Account) -> Result<Applied, Refusal> {
        if let Some(place) = self.places.get(&account.id) {
            let same = self.slots[*place as usize].account == account;
            return if same { Ok(Applied::Exists) } else { Err(Refusal::AccountDiffers(account.id)) };
        }
        if self.slots.len() >= self.limits.accounts_max {
            return Err(Refusal::AccountsFull { max: self.limits.accounts_max });
        }
        self.places.insert(account.id, self.slots.len() as u32);
        self.slots.push(Slot { account, balance: Balance::default() });
        Ok(Applied::Done)
    }

    fn release(&mut self, id: TransferId, reason: ReleaseReason) -> Result<Applied, Refusal> {
        let hold = *self.holds.get(&id).ok_or(Refusal::PendingUnknown)?;
        if reason == ReleaseReason::Expired && hold.expires_at > self.now {
            return Err(Refusal::NotExpired);
        }
        self.undo.clear();
        self.settle(id, Amount::ZERO).inspect_err(|_| self.roll_back())?;
        Ok(Applied::Done)
    }

    fn transfer(&mut self, transfer: &Transfer, print: u64) -> Result<bool, Refusal> {
        match transfer.kind {
            TransferKind::Single { debit, credit, amount } => {
                let (debit, credit) = self.sides(debit, credit)?;
                self.move_money(debit, credit, Phase::Posted, amount)?;
            }
            TransferKind::Pending { debit, credit, amount, expires_at } => {
                if self.holds.contains_key(&transfer.id) {
                    return Err(Refusal::PendingOpen);
                }
                if self.holds.len() >= self.limits.pendings_max {
                    return Err(Refusal::PendingsFull { max: self.limits.pendings_max });
                }
                let (debit, credit) = self.sides(debit, credit)?;
                self.move_money(debit, credit, Phase::Pending, amount)?;
                self.undo.push(Undo::HoldAdded(transfer.id));
                self.holds
                    .insert(transfer.id, Hold { debit, credit, amount, expires_at, fingerprint: print });
                self.queue_expiry(expires_at, transfer.id);
            }
            TransferKind::Raise { pending, to, expires_at } => return self.raise(pending, to, expires_at),
            TransferKind::Post { pending, amount } => self.settle(pending, amount)?,
            TransferKind::Void { pending } => self.settle(pending, Amount::ZERO)?,
        }
        Ok(true)
    }

    fn raise(&mut self, id: TransferId, to: Amount, expires_at: UnixMs) -> Result<bool, Refusal> {
        let before = *self.holds.get(&id).ok_or(Refusal::PendingUnknown)?;
        let expires_at = before.expires_at.max(expires_at);
        let more = Amount(to.0.saturating_sub(before.amount.0));
        if more == Amount::ZERO && expires_at == before.expires_at {
            return Ok(false);
        }
        self.move_money(before.debit, before.credit, Phase::Pending, more)?;
        self.undo.push(Undo::HoldWas(id, before));
        self.holds.insert(id, Hold { amount: before.amount.max(to), expires_at, ..before });
        self.queue_expiry(expires_at, id);
        Ok(true)
    }

    /// Posts `amount` of a hold and lets the rest go.
    fn settle(&mut self, id: TransferId, amount: Amount) -> Result<(), Refusal> {
        let hold = *self.holds.get(&id).ok_or(Refusal::PendingUnknown)?;
        if amount > hold.amount {
            return Err(Refusal::ExceedsPending { held: hold.amount, asked: amount });
        }
        self.remember(hold.debit);
        self.remember(hold.credit);
        let debit = &mut self.slots[hold.debit as usize].balance;
        debit.release_debit(hold.amount).ok_or(Refusal::Overflow)?;
        debit.debit(Phase::Posted, amount).ok_or(Refusal::Overflow)?;
        let credit = &mut self.slots[hold.credit as usize].balance;
        credit.release_credit(hold.amount).ok_or(Refusal::Overflow)?;
        credit.credit(Phase::Posted, amount).ok_or(Refusal::Overflow)?;
        self.undo.push(Undo::HoldWas(id, hold));
        self.holds.remove(&id);
        Ok(())
    }

    fn sides(&self, debit: AccountId, credit: AccountId) -> Result<(u32, u32), Refusal> {
        if debit == credit {
            return Err(Refusal::SameAccount);
        }
        let place = |id| self.places.get(&id).copied().ok_or(Refusal::AccountUnknown(id));
        let sides = (place(debit)?, place(credit)?);
        let unit = |place: u32| self.slots[place as usize].account.unit;
        if unit(sides.0) != unit(sides.1) {
            return Err(Refusal::UnitsDiffer { debit, credit });
        }
        Ok(sides)
    }

    fn move_money(&mut self, debit: u32, credit: u32, phase: Phase, amount: Amount) -> Result<(), Refusal> {
        self.remember(debit);
        self.remember(credit);
        self.slots[debit as usize].balance.debit(phase, amount).ok_or(Refusal::Overflow)?;
        self.slots[credit as usize].balance.credit(phase, amount).ok_or(Refusal::Overflow)?;
        for place in [debit, credit] {
            let slot = &self.slots[place as usize];
            if !slot.balance.keeps(slot.account.limit) {
                return Err(self.exceeds(place, amount));
            }
        }
        Ok(())
    }

    /// Names the account that broke its limit, with what it had before.
    fn exceeds(&self, place: u32, needed: Amount) -> Refusal {
        let before = self.undo.iter().rev().find_map(|undo| match undo {
            Undo::Balance(p, balance) if *p == place => Some(*balance),
            _ => None,
        });
        let account = self.slots[place as usize].account.id;
        Refusal::ExceedsBalance { account, available: before.unwrap_or_default().available(), needed }
    }

    fn remember(&mut self, place: u32) {
        self.undo.push(Undo::Balance(place, self.slots[place as usize].balance));
    }

    fn queue_expiry(&mut self, expires_at: UnixMs, id: TransferId) {
        self.expiries.push(Reverse((expires_at, id)));
        if self.expiries.len() > 2 * self.holds.len() + STALE_EXPIRIES_MAX {
            self.requeue_expiries();
        }
    }

    fn shown(&self, hold: &Hold) -> Pending {
        Pending {
            debit: self.slots[hold.debit as usize].account.id,
            credit: self.slots[hold.credit as usize].account.id,
            amount: hold.amount,
            expires_at: hold.expires_at,
        }
    }
}

/// What decides whether a chain's id needs the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// Only raises holds: repeating it changes nothing.
    Raise,
    /// Settles an open hold: can happen only once.
    Settles,
    /// Anything else.
    New,
}

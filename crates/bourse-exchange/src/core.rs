//! The deterministic heart of the exchange: ledger, keys, names and receipts log, and the open group.
//!
//! Every change goes through here under one short lock: it is applied in memory and written as records
//! into the open commit group in the same step, so that the journal holds exactly what happened, in the
//! order in which it happened. `now` comes in; nothing here reads a clock, signs or touches a disk.
//!
//! A request has one hold of the customer's money and one of each [budget](budgets) that binds it, under ids derived from
//! its own and in one chain, with what it takes from [rates]. Settling is one chain: post them all, then move the charge
//! on from clearing to seller (or, where its claim is beyond the market's own count, to suspense), fee and rounding, so
//! that clearing is zero between any two events.

use crate::claims::{ClaimEnd, Claims};
use crate::config::EARLY_COMMIT_BYTES;
use crate::keys::{Key, KeyRing};
use crate::limits::{PLACES_MAX, ScopeId, Scopes};
use crate::names::{ALLOWANCES, CLEARING, ESCROW, Names};
use crate::payouts::Payouts;
use crate::policies::Policies;
use crate::record;
use crate::spend::nano;
use crate::suspense::Suspense;
use bourse_ledger::{
    Account, AccountKind, Applied, BalanceLimit, Event, GROUP_BYTES_MAX, HashKey, Refusal, ReleaseReason,
    State, Transfer, TransferKind, Unit,
};
use bourse_proof::log::MerkleLog;
use bourse_types::{AccountId, Digest32, KeyHash, NanoUsd, RequestId, TransferId, UnixMs};
use bourse_wire::funds::{
    Claim, CommitTicket, FundsError, HOLD_EXTENSIONS_MAX, HoldExtension, HoldRequest, KeyGrant, KeyRole,
    RATE_WINDOW,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

mod admin;
mod adopt;
mod attended;
mod budgets;
mod epoch;
mod gift;
mod keys;
mod metered;
mod payouts;
mod rates;
mod replay;
mod roles;
mod settle;
mod snapshot;
mod suspense;
mod workspaces;
use budgets::{AllowanceHold, counted};
pub use epoch::CloseError;
#[cfg(test)]
pub(crate) use epoch::is_liability;
pub(crate) use epoch::{EpochDraft, EpochFailure, LastEpoch, SNAPSHOT_EPOCHS};
pub(crate) use keys::KeyCreation;
pub(crate) use payouts::{PayoutEnd, Withheld};
use rates::RateWindows;
pub(crate) use replay::{ReplayFailure, Verify};
use roles::Role;
pub(crate) use settle::{PreparedSettlement, ReceiptMark, Split};
pub(crate) use suspense::Resolution;

/// Bytes that may wait for the disk before new holds are refused. Settling goes on to the group's bound.
pub const WAITING_BYTES_MAX: usize = GROUP_BYTES_MAX / 2;
/// Room kept in a group for what belongs to it beside the records of requests.
const GROUP_RESERVE_BYTES: usize = 64 * 1024;
/// Holds released in one step of expiry.
pub(crate) const RELEASES_PER_STEP_MAX: usize = 1_024;
/// Events that one settlement makes at most: posts of the money and of each budget, four moves.
const CHAIN_EVENTS: usize = 1 + PLACES_MAX + 4;

/// A request between hold and settlement. Lives in memory only: after a restart nobody would settle it, unless its
/// gateway is elsewhere and lives on; see [`Core::adopt`].
#[derive(Debug, Clone)]
struct OpenRequest {
    key: KeyHash,
    held: NanoUsd,
    /// What the buyer's own sellers may bill.
    byok: NanoUsd,
    step: u16,
    /// The amount of the first hold, by which its repetition is known.
    first: NanoUsd,
    /// What it holds of the budgets that bound its key then.
    allowances: Vec<AllowanceHold>,
    /// Whether it holds under a claim.
    has_claim: bool,
}

impl OpenRequest {
    fn draws_on(&self, allowance: AccountId) -> bool {
        self.allowances.iter().any(|hold| hold.account == allowance)
    }

    /// What it may still take from a budget beyond what it holds of its allowance.
    fn unknown_to(&self, allowance: AccountId, includes_byok: bool) -> u128 {
        let byok = if includes_byok { u128::from(self.byok.0) } else { 0 };
        let held =
            self.allowances.iter().find(|hold| hold.account == allowance).map_or(0, |hold| hold.held.0);
        (u128::from(self.held.0) + byok).saturating_sub(held.into())
    }
}

/// Records that wait for the disk.
#[derive(Debug, Default)]
struct OpenGroup {
    bytes: Vec<u8>,
    receipts: Vec<ReceiptMark>,
    head_changed: bool,
    /// Somebody needs it on disk soon.
    is_due: bool,
    /// Somebody waits for it.
    is_awaited: bool,
}

/// A group taken for commit.
pub(crate) struct TakenGroup {
    pub(crate) seq: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) receipts: Arc<Vec<ReceiptMark>>,
    /// Size, root and time of the checkpoint that must end the group.
    pub(crate) head: Option<(u64, Digest32, UnixMs)>,
    /// The state after the group, when one is due.
    pub(crate) snapshot: Option<Vec<u8>>,
}

pub(crate) struct Core {
    pub(crate) state: State,
    pub(crate) names: Names,
    pub(crate) keys: KeyRing,
    pub(crate) policies: Policies,
    pub(crate) scopes: Scopes,
    pub(crate) log: MerkleLog,
    pub(crate) exchange: Digest32,
    pub(crate) epoch: LastEpoch,
    pub(crate) suspense: Suspense,
    pub(crate) claims: Claims,
    pub(crate) payouts: Payouts,
    open: HashMap<RequestId, OpenRequest, HashKey>,
    metered: metered::MeteredRequests,
    /// Allowances that do not know of all open requests that their budgets are about.
    mixed: HashSet<AccountId>,
    rates: RateWindows,
    group: OpenGroup,
    /// Receipts in the group that is being committed.
    committing: Arc<Vec<ReceiptMark>>,
    /// Number of the open group.
    seq: u64,
    spare: Vec<u8>,
    events_at_snapshot: u64,
    epochs_at_snapshot: u64,
    snapshot_every: u64,
    /// Why nothing is accepted any more.
    stopped: Option<FundsError>,
    chain: Vec<Event>,
}

impl Core {
    pub(crate) fn new(state: State, exchange: Digest32, snapshot_every: u64, key: HashKey) -> Self {
        Self {
            events_at_snapshot: state.events_applied(),
            state,
            names: Names::new(),
            keys: KeyRing::default(),
            policies: Policies::default(),
            scopes: Scopes::default(),
            log: MerkleLog::default(),
            exchange,
            epoch: LastEpoch::default(),
            suspense: Suspense::default(),
            claims: Claims::default(),
            payouts: Payouts::default(),
            epochs_at_snapshot: 0,
            open: HashMap::with_hasher(key),
            metered: metered::MeteredRequests::default(),
            mixed: HashSet::new(),
            rates: RateWindows::default(),
            group: OpenGroup::default(),
            committing: Arc::default(),
            seq: 1,
            spare: Vec::new(),
            snapshot_every,
            stopped: None,
            chain: Vec::with_capacity(CHAIN_EVENTS),
        }
    }

    /// Refuses everything from now on. The first reason stays.
    pub(crate) fn stop(&mut self, why: FundsError) {
        self.stopped.get_or_insert(why);
    }

    pub(crate) fn running(&self) -> Result<(), FundsError> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// The same, also while it closes: what was accepted is committed.
    pub(crate) fn commits(&self) -> Result<(), FundsError> {
        match self.running() {
            Err(FundsError::Closing) => Ok(()),
            running => running,
        }
    }

    pub(crate) fn grant(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        self.running()?;
        let key = self.key(key, now)?;
        Ok(key.grant(self.policies.of_account(key.row.account)))
    }

    pub(crate) fn hold(&mut self, asked: &HoldRequest) -> Result<(), FundsError> {
        self.running()?;
        if self.is_repeated(asked)? || self.adopt(asked)? {
            return Ok(());
        }
        if self.group.bytes.len() >= WAITING_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        let (request, now) = (asked.request, asked.now.max(self.now()));
        if let Some(claim) = &asked.claim {
            self.claims.check(claim, now)?;
        }
        let scopes = self.buyer(&asked.grant, now)?;
        let allowances = self.draws(scopes, (asked.amount, asked.byok), now)?;
        let rates = self.rate_draws(request, scopes, asked.tokens, now)?;
        let expires_at = asked.expires;
        let pending = |id, debit, credit, amount: NanoUsd| {
            let kind = TransferKind::Pending { debit, credit, amount: amount.into(), expires_at };
            Event::Transfer(Transfer { id, linked: false, kind })
        };
        self.chain.clear();
        self.chain.push(pending(Role::Hold.of(request), asked.grant.account, CLEARING, asked.amount));
        for hold in &allowances {
            self.chain.push(pending(roles::hold(request, hold.place), hold.account, ALLOWANCES, hold.held));
        }
        let until = now.plus(RATE_WINDOW);
        self.chain_rates(&rates, until);
        match self.apply_for(scopes, asked.now) {
            Ok(Applied::Done) => {
                let (key, held, byok) = (asked.grant.key, asked.amount, asked.byok);
                let has_claim = asked.claim.is_some();
                let open = OpenRequest { key, held, byok, step: 0, first: held, allowances, has_claim };
                self.put_open(request, open);
                self.rates_taken(&rates, until);
                if let Some(claim) = &asked.claim {
                    self.claim(claim, Some(request), now)?;
                }
                Ok(())
            }
            // Its hold is gone, settled or released: whoever went on would serve for nothing.
            Ok(Applied::Exists) | Err(FundsError::Conflict) => Err(FundsError::NoHold),
            Err(refused) => Err(refused),
        }
    }

    /// Whether the hold is open already. Its amount and its end must be the same.
    fn is_repeated(&self, asked: &HoldRequest) -> Result<bool, FundsError> {
        let Some(open) = self.open.get(&asked.request) else { return Ok(false) };
        let hold = self.state.pending(Role::Hold.of(asked.request));
        let is_same = open.key == asked.grant.key
            && open.first == asked.amount
            && hold.is_some_and(|hold| hold.expires_at == asked.expires && hold.debit == asked.grant.account);
        if is_same { Ok(true) } else { Err(FundsError::Conflict) }
    }

    pub(crate) fn extend(&mut self, asked: &HoldExtension) -> Result<(), FundsError> {
        self.running()?;
        let mut open = self.open.get(&asked.request).ok_or(FundsError::NoHold)?.clone();
        if asked.step > HOLD_EXTENSIONS_MAX {
            return Err(FundsError::TooMany("extensions of one hold"));
        }
        if asked.step <= open.step {
            return if asked.step == 0 { Err(FundsError::Conflict) } else { Ok(()) };
        }
        if asked.step != open.step + 1 {
            return Err(FundsError::Conflict);
        }
        // A key that was taken away buys nothing more; one that expires lets end what has begun.
        let key = self.keys.get(&open.key).ok_or(FundsError::UnknownKey)?;
        match key.usable(asked.now) {
            Ok(()) | Err(FundsError::ExpiredKey) => {}
            Err(taken_away) => return Err(taken_away),
        }
        let (scopes, now) = (key.row.scopes(), asked.now.max(self.now()));
        let too_many = |_| FundsError::TooMany("nano-USD in one hold");
        open.held = open.held.checked_add(asked.amount).map_err(too_many)?;
        open.byok = open.byok.checked_add(asked.byok).map_err(too_many)?;
        open.step = asked.step;
        for hold in &mut open.allowances {
            let more = hold.counted(asked.amount, asked.byok)?;
            hold.held = hold.held.checked_add(more).map_err(too_many)?;
        }
        if !open.allowances.is_empty() {
            scopes.iter().flatten().try_for_each(|scope| self.renew(scope, now))?;
            self.let_lifted_through(asked, &open, scopes, now)?;
        }
        self.extension_chain(asked, &open);
        let applied = self.apply_for(scopes, asked.now)?;
        self.put_open(asked.request, open);
        // One that the books had, after a restart, was counted with it. One that costs nothing changes nothing there.
        if applied == Applied::Done || (asked.amount, asked.byok) == (NanoUsd::ZERO, NanoUsd::ZERO) {
            self.count_more(asked, scopes, now);
        }
        Ok(())
    }

    fn extension_chain(&mut self, asked: &HoldExtension, open: &OpenRequest) {
        let (request, step) = (asked.request, asked.step);
        let raise = |id, pending, to: NanoUsd| {
            let kind = TransferKind::Raise { pending, to: to.into(), expires_at: UnixMs(0) };
            Event::Transfer(Transfer { id, linked: false, kind })
        };
        self.chain.clear();
        self.chain.push(raise(roles::raise_money(request, step), Role::Hold.of(request), open.held));
        for AllowanceHold { place, held, .. } in &open.allowances {
            let id = roles::raise(request, *place, step);
            self.chain.push(raise(id, roles::hold(request, *place), *held));
        }
    }

    /// Notes what a request in flight holds now.
    fn put_open(&mut self, request: RequestId, open: OpenRequest) {
        let (key, held) = (open.key, open.held);
        let before = self.open.insert(request, open).map_or(NanoUsd::ZERO, |before| before.held);
        self.keys.hold(&key, before, held);
    }

    /// A request is no longer in flight.
    fn end_open(&mut self, request: &RequestId) {
        if let Some(open) = self.open.remove(request) {
            self.keys.hold(&open.key, open.held, NanoUsd::ZERO);
        }
    }

    /// Ends holds whose time is over: settles what was [metered](metered) and releases the rest. Returns how many;
    /// call again when it is the step's maximum.
    pub(crate) fn expire(&mut self, now: UnixMs) -> Result<usize, FundsError> {
        self.running()?;
        let due = self.state.due(now, RELEASES_PER_STEP_MAX);
        if !due.is_empty() {
            self.settle_overdue(now)?;
        }
        self.release(&due, ReleaseReason::Expired, now)?;
        Ok(due.len())
    }

    /// All open holds of requests, of money and allowances, in the order of their ids. What was taken from rates is none
    /// of them: it waits for nobody. What is held for a payout is none: it waits for the rail's word.
    pub(crate) fn holds_open(&self) -> Result<Vec<TransferId>, FundsError> {
        self.running()?;
        let holds = self.state.pendings().into_iter().filter(|(_, hold)| !self.is_rate(hold.debit));
        let holds = holds.filter(|(_, hold)| hold.credit != ESCROW);
        Ok(holds.map(|(id, _)| id).collect())
    }

    /// Releases holds that nobody will settle, such as those that a crash left behind.
    pub(crate) fn abandon(&mut self, holds: &[TransferId], now: UnixMs) -> Result<(), FundsError> {
        self.running()?;
        self.release(holds, ReleaseReason::Orphaned, now)
    }

    /// The group that everything done so far is in: durable when this group is.
    pub(crate) fn ticket(&self) -> CommitTicket {
        CommitTicket(if self.group.bytes.is_empty() { self.seq - 1 } else { self.seq })
    }

    /// Requests between hold and settlement.
    #[cfg(test)]
    pub(crate) fn requests_open(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn group_bytes(&self) -> usize {
        self.group.bytes.len()
    }

    /// Whether the open group is to be committed within a commit window.
    pub(crate) fn is_due(&self) -> bool {
        !self.group.bytes.is_empty() && (self.group.is_due || self.group.bytes.len() >= EARLY_COMMIT_BYTES)
    }

    /// Makes the open group due.
    pub(crate) fn make_due(&mut self) {
        self.group.is_due = true;
    }

    /// Whether somebody waits for the open group.
    pub(crate) fn is_awaited(&self) -> bool {
        self.group.is_awaited
    }

    /// Makes the open group due for somebody who waits.
    pub(crate) fn hurry(&mut self) {
        self.group.is_due = true;
        self.group.is_awaited = true;
    }

    /// Whether the receipt of this request waits for the disk.
    pub(crate) fn receipt_waits(&self, request: RequestId) -> bool {
        self.group.receipts.iter().chain(self.committing.iter()).any(|mark| mark.request == request)
    }

    /// Closes the open group and starts the next. `None` when there is nothing to commit.
    pub(crate) fn take_group(&mut self) -> Option<TakenGroup> {
        if self.group.bytes.is_empty() {
            return None;
        }
        let mut group = self.take();
        let events = self.state.events_applied() - self.events_at_snapshot;
        if events >= self.snapshot_every || self.epoch.number - self.epochs_at_snapshot >= SNAPSHOT_EPOCHS {
            self.events_at_snapshot = self.state.events_applied();
            self.epochs_at_snapshot = self.epoch.number;
            group.snapshot = Some(self.encode_snapshot());
        }
        Some(group)
    }

    /// The same for a group that an epoch ends, even an empty one. Without a snapshot: the epoch is not signed
    /// yet, and the next group will do.
    pub(crate) fn take_group_with_epoch(&mut self) -> TakenGroup {
        self.take()
    }

    fn take(&mut self) -> TakenGroup {
        let bytes = std::mem::replace(&mut self.group.bytes, std::mem::take(&mut self.spare));
        let head_changed = std::mem::take(&mut self.group.head_changed);
        self.group.is_due = false;
        self.group.is_awaited = false;
        self.committing = Arc::new(std::mem::take(&mut self.group.receipts));
        let seq = self.seq;
        self.seq += 1;
        let head = head_changed.then(|| (self.log.size(), self.log.root(), self.state.now()));
        TakenGroup { seq, bytes, receipts: self.committing.clone(), head, snapshot: None }
    }

    /// Takes back the buffer of a committed group.
    pub(crate) fn committed(&mut self, mut buffer: Vec<u8>) {
        self.committing = Arc::default();
        buffer.clear();
        // One burst must not hold its peak for ever.
        buffer.shrink_to(GROUP_RESERVE_BYTES * 16);
        self.spare = buffer;
    }

    /// A key that may be used.
    pub(crate) fn key(&self, hash: &KeyHash, now: UnixMs) -> Result<&Key, FundsError> {
        let key = self.keys.get(hash).ok_or(FundsError::UnknownKey)?;
        key.usable(now).map(|()| key)
    }

    /// Whose limits bind a hold under this grant.
    fn buyer(&self, grant: &KeyGrant, now: UnixMs) -> Result<[Option<ScopeId>; 3], FundsError> {
        let key = self.key(&grant.key, now)?;
        if key.row.account != grant.account {
            return Err(FundsError::Conflict);
        }
        if key.row.role == KeyRole::Management {
            return Err(FundsError::ManagementKey);
        }
        Ok(key.row.scopes())
    }

    /// Applies `self.chain` and writes it down when it changed something.
    fn apply(&mut self, now: UnixMs) -> Result<Applied, FundsError> {
        self.apply_for([None; 3], now)
    }

    /// The same for a buyer, who is told which of its limits was in the way.
    fn apply_for(&mut self, scopes: [Option<ScopeId>; 3], now: UnixMs) -> Result<Applied, FundsError> {
        self.room_for(0)?;
        let last = self.chain.len().saturating_sub(1);
        for (n, event) in self.chain.iter_mut().enumerate() {
            if let Event::Transfer(transfer) = event {
                transfer.linked = n < last;
            }
        }
        match self.state.apply_chain(now.max(self.epoch.closed_at), &self.chain) {
            Ok(Applied::Done) => {
                record::put_events(&mut self.group.bytes, self.state.now(), &self.chain);
                Ok(Applied::Done)
            }
            Ok(Applied::Exists) => Ok(Applied::Exists),
            Err(refused) => Err(self.explain(refused.why, scopes, now.max(self.now()))),
        }
    }

    /// Applies one event of the house.
    fn apply_one(&mut self, event: Event, now: UnixMs) -> Result<Applied, FundsError> {
        self.chain.clear();
        self.chain.push(event);
        self.apply(now)
    }

    fn release(
        &mut self,
        holds: &[TransferId],
        reason: ReleaseReason,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        for pending in holds {
            // What was metered is settled already, with all holds of its request.
            let Some(hold) = self.state.pending(*pending) else { continue };
            self.apply_one(Event::Release { pending: *pending, reason }, now)?;
            // The first hold of a request carries the request's own id.
            let request = RequestId(pending.0);
            self.end_open(&request);
            self.metered.remove(&request);
            self.claims.end(request, ClaimEnd::ForNothing);
            self.rates.forget(hold.debit, *pending);
        }
        Ok(())
    }

    /// Makes a claim and writes it down, right after what it is for.
    fn claim(&mut self, claim: &Claim, request: Option<RequestId>, at: UnixMs) -> Result<(), FundsError> {
        self.claims.begin(claim, request, at)?;
        record::put_claim(&mut self.group.bytes, claim, request, at);
        Ok(())
    }

    fn room_for(&self, bytes: usize) -> Result<(), FundsError> {
        if self.group.bytes.len() + bytes + GROUP_RESERVE_BYTES > GROUP_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        Ok(())
    }

    fn open_account(
        &mut self,
        name: String,
        kind: AccountKind,
        limit: BalanceLimit,
        unit: Unit,
        now: UnixMs,
    ) -> Result<AccountId, FundsError> {
        let id = self.names.next_id();
        self.apply_one(Event::Open(Account { id, kind, limit, unit }), now)?;
        record::put_name(&mut self.group.bytes, id, &name);
        self.names.add(id, name);
        Ok(id)
    }

    /// Says in the words of the port why the ledger refused what these scopes asked.
    fn explain(&self, why: Refusal, scopes: [Option<ScopeId>; 3], now: UnixMs) -> FundsError {
        match why {
            Refusal::ExceedsBalance { account, available, needed } => {
                if self.is_rate(account)
                    && let Some(limited) = self.over_rate(scopes, now)
                {
                    return limited;
                }
                let needed = needed.nano_usd();
                let over = |scope| self.over_budget(scope, account, needed, now);
                scopes.iter().flatten().find_map(over).unwrap_or_else(|| {
                    let held = self.state.account(account).map_or(0, |(_, balance)| balance.debits_pending);
                    FundsError::InsufficientFunds { available: nano(available), needed, held: nano(held) }
                })
            }
            Refusal::IdReused | Refusal::IdAhead => FundsError::Conflict,
            // The hold came later after its request's arrival than the ledger remembers ids.
            Refusal::IdTooOld => FundsError::TooMany("requests since this one arrived"),
            Refusal::PendingsFull { .. } => FundsError::TooMany("open holds"),
            Refusal::AccountsFull { .. } => FundsError::TooMany("accounts"),
            Refusal::ExceedsPending { held, asked } => {
                FundsError::ExceedsHold { charge: asked.nano_usd(), held: held.nano_usd() }
            }
            _ => FundsError::NoHold,
        }
    }
}

//! The deterministic heart of the exchange: ledger, keys, names and receipts log, and the open group.
//!
//! Every change goes through here under one short lock: it is applied in memory and written as records
//! into the open commit group in the same step, so that the journal holds exactly what happened, in the
//! order in which it happened. `now` comes in; nothing here reads a clock, signs or touches a disk.
//!
//! A request has two holds at most, under ids derived from its own: the customer's money and, when the
//! key has a limit, its allowance. Settling is one chain: post both, then move the charge on from
//! clearing to seller, fee and rounding, so that clearing is zero between any two events.

use crate::config::EARLY_COMMIT_BYTES;
use crate::keys::{Key, KeyRing};
use crate::names::{ALLOWANCES, CLEARING, FEE, Names, ROUNDING, seller_account_name};
use crate::record;
use bourse_ledger::{
    Account, AccountKind, Applied, BalanceLimit, Event, GROUP_BYTES_MAX, HashKey, Refusal, ReleaseReason,
    State, Transfer, TransferKind,
};
use bourse_proof::log::MerkleLog;
use bourse_types::{
    AccountId, Charge, Digest32, KeyHash, NanoUsd, RequestId, SellerName, TransferId, UnixMs,
};
use bourse_wire::funds::{
    CommitTicket, FundsError, HOLD_EXTENSIONS_MAX, HoldExtension, HoldRequest, KeyGrant, Settled,
};
use std::collections::HashMap;
use std::sync::Arc;

mod admin;
mod replay;
pub(crate) use admin::KeyCreation;
pub(crate) use replay::{ReplayFailure, Verify};

/// Bytes that may wait for the disk before new holds are refused. Settling goes on to the group's bound.
pub const WAITING_BYTES_MAX: usize = GROUP_BYTES_MAX / 2;
/// Room kept in a group for what belongs to it beside the records of requests.
const GROUP_RESERVE_BYTES: usize = 64 * 1024;
/// Holds released in one step of expiry.
pub(crate) const RELEASES_PER_STEP_MAX: usize = 1_024;
/// Events that one settlement makes at most: two posts, three moves.
const CHAIN_EVENTS: usize = 5;

/// Which transfer of a request an id stands for.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
enum Role {
    Hold = 0,
    HoldAllowance = 1,
    Post = 2,
    PostAllowance = 3,
    Seller = 4,
    Fee = 5,
    Rounding = 6,
    /// Raises count on from here.
    Raise = 16,
}

impl Role {
    fn of(self, request: RequestId) -> TransferId {
        request.transfer(self as u16)
    }
}

/// A request between hold and settlement. Lives in memory only: after a restart nobody would settle it.
#[derive(Debug, Clone, Copy)]
struct OpenRequest {
    key: KeyHash,
    held: NanoUsd,
    step: u16,
    limited: bool,
}

/// How a charge is shared, computed before the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    total: NanoUsd,
    seller: NanoUsd,
    pub(crate) fee: NanoUsd,
    rounding: NanoUsd,
}

impl Split {
    /// Splits a charge; `None` when its parts do not sum to its total.
    pub(crate) fn of(charge: &Charge, fee_bps: u32) -> Option<Self> {
        let base = charge.total.checked_sub(charge.rounding).ok()?;
        let fee = base.share_bps_floor(fee_bps).ok()?;
        let seller = base.checked_sub(fee).ok()?;
        (charge.sum_of_parts()? == charge.total).then_some(Self {
            total: charge.total,
            seller,
            fee,
            rounding: charge.rounding,
        })
    }
}

/// A settlement with everything computed that needs no lock.
pub(crate) struct PreparedSettlement<'a> {
    pub(crate) request: RequestId,
    pub(crate) seller: Option<&'a SellerName>,
    pub(crate) key_digest: Digest32,
    pub(crate) account_digest: Digest32,
    pub(crate) split: Split,
    pub(crate) receipt: &'a [u8],
    pub(crate) leaf: Digest32,
    pub(crate) now: UnixMs,
}

/// Where a receipt lies in its group, for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiptMark {
    pub(crate) request: RequestId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) leaf: Digest32,
}

/// Records that wait for the disk.
#[derive(Debug, Default)]
struct OpenGroup {
    bytes: Vec<u8>,
    receipts: Vec<ReceiptMark>,
    head_changed: bool,
    /// Somebody needs it on disk soon.
    is_due: bool,
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
    pub(crate) log: MerkleLog,
    pub(crate) exchange: Digest32,
    open: HashMap<RequestId, OpenRequest, HashKey>,
    group: OpenGroup,
    /// Receipts in the group that is being committed.
    committing: Arc<Vec<ReceiptMark>>,
    /// Number of the open group.
    seq: u64,
    spare: Vec<u8>,
    events_at_snapshot: u64,
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
            log: MerkleLog::default(),
            exchange,
            open: HashMap::with_hasher(key),
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

    pub(crate) fn grant(&self, key: &KeyHash) -> Result<KeyGrant, FundsError> {
        self.running()?;
        let key = self.key(key)?;
        let (key_digest, account_digest) = (key.digest, key.account_digest);
        Ok(KeyGrant { key: key.row.hash, account: key.row.account, key_digest, account_digest })
    }

    pub(crate) fn hold(&mut self, asked: &HoldRequest) -> Result<(), FundsError> {
        self.running()?;
        if self.group.bytes.len() >= WAITING_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        let key = self.key(&asked.grant.key)?;
        if key.row.account != asked.grant.account {
            return Err(FundsError::Conflict);
        }
        let allowance = key.row.limit.and(key.row.allowance);
        let (amount, expires_at) = (asked.amount, asked.expires);
        let pending = |role: Role, debit, credit, linked| {
            let kind = TransferKind::Pending { debit, credit, amount, expires_at };
            Event::Transfer(Transfer { id: role.of(asked.request), linked, kind })
        };
        self.chain.clear();
        self.chain.push(pending(Role::Hold, asked.grant.account, CLEARING, allowance.is_some()));
        if let Some(allowance) = allowance {
            self.chain.push(pending(Role::HoldAllowance, allowance, ALLOWANCES, false));
        }
        if self.apply(asked.now)? == Applied::Done {
            let limited = allowance.is_some();
            let open = OpenRequest { key: asked.grant.key, held: amount, step: 0, limited };
            self.open.insert(asked.request, open);
        }
        Ok(())
    }

    pub(crate) fn extend(&mut self, asked: &HoldExtension) -> Result<(), FundsError> {
        self.running()?;
        let open = *self.open.get(&asked.request).ok_or(FundsError::NoHold)?;
        if asked.step > HOLD_EXTENSIONS_MAX {
            return Err(FundsError::TooMany("extensions of one hold"));
        }
        if asked.step <= open.step {
            return if asked.step == 0 { Err(FundsError::Conflict) } else { Ok(()) };
        }
        if asked.step != open.step + 1 {
            return Err(FundsError::Conflict);
        }
        let to =
            open.held.checked_add(asked.amount).map_err(|_| FundsError::TooMany("nano-USD in one hold"))?;
        let raise = |role: Role, n: u16, linked| {
            let kind = TransferKind::Raise { pending: role.of(asked.request), to, expires_at: UnixMs(0) };
            Event::Transfer(Transfer { id: asked.request.transfer(Role::Raise as u16 + n), linked, kind })
        };
        self.chain.clear();
        self.chain.push(raise(Role::Hold, 2 * asked.step, open.limited));
        if open.limited {
            self.chain.push(raise(Role::HoldAllowance, 2 * asked.step + 1, false));
        }
        self.apply(asked.now)?;
        self.open.insert(asked.request, OpenRequest { held: to, step: asked.step, ..open });
        Ok(())
    }

    pub(crate) fn settle(&mut self, asked: &PreparedSettlement<'_>) -> Result<Settled, FundsError> {
        self.running()?;
        let cost = asked.split.total;
        let Some(open) = self.open.get(&asked.request).copied() else {
            return self.settled_before(asked);
        };
        let key = self.keys.get(&open.key).ok_or(FundsError::UnknownKey)?;
        if (key.digest, key.account_digest) != (asked.key_digest, asked.account_digest) {
            return Err(FundsError::Conflict);
        }
        if cost > open.held {
            return Err(FundsError::ExceedsHold { charge: cost, held: open.held });
        }
        self.room_for(asked.receipt.len())?;
        let seller = match asked.seller {
            _ if asked.split.seller == NanoUsd::ZERO => None,
            Some(name) => Some(self.seller_account(name, asked.now)?),
            None => return Err(FundsError::Conflict),
        };
        self.settlement_chain(asked, seller, open.limited);
        if self.apply(asked.now)? == Applied::Exists {
            return Ok(Settled { cost, ticket: self.ticket() });
        }
        self.open.remove(&asked.request);
        let (leaf, len) = (asked.leaf, asked.receipt.len() as u32);
        let offset = record::put_receipt(&mut self.group.bytes, asked.receipt) as u32;
        self.log.append(leaf);
        self.keys.spend(&asked.key_digest, cost);
        self.group.receipts.push(ReceiptMark { request: asked.request, offset, len, leaf });
        self.group.head_changed = true;
        Ok(Settled { cost, ticket: self.ticket() })
    }

    /// Releases holds whose time is over. Returns how many; call again when it is the step's maximum.
    pub(crate) fn expire(&mut self, now: UnixMs) -> Result<usize, FundsError> {
        self.running()?;
        let due = self.state.due(now, RELEASES_PER_STEP_MAX);
        self.release(&due, ReleaseReason::Expired, now)?;
        Ok(due.len())
    }

    /// Releases every open hold, such as those that a crash left behind. Returns how many.
    pub(crate) fn release_all(&mut self, now: UnixMs) -> Result<usize, FundsError> {
        let all: Vec<_> = self.state.pendings().into_iter().map(|(id, _)| id).collect();
        self.release(&all, ReleaseReason::Orphaned, now)?;
        Ok(all.len())
    }

    /// The group that everything done so far is in: durable when this group is.
    pub(crate) fn ticket(&self) -> CommitTicket {
        CommitTicket(if self.group.bytes.is_empty() { self.seq - 1 } else { self.seq })
    }

    pub(crate) fn group_bytes(&self) -> usize {
        self.group.bytes.len()
    }

    /// Whether the open group is to be committed within the commit window.
    pub(crate) fn is_due(&self) -> bool {
        !self.group.bytes.is_empty() && (self.group.is_due || self.group.bytes.len() >= EARLY_COMMIT_BYTES)
    }

    /// Makes the open group due.
    pub(crate) fn make_due(&mut self) {
        self.group.is_due = true;
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
        let bytes = std::mem::replace(&mut self.group.bytes, std::mem::take(&mut self.spare));
        let head_changed = std::mem::take(&mut self.group.head_changed);
        self.group.is_due = false;
        self.committing = Arc::new(std::mem::take(&mut self.group.receipts));
        let seq = self.seq;
        self.seq += 1;
        let snapshot_due = self.state.events_applied() - self.events_at_snapshot >= self.snapshot_every;
        let snapshot = snapshot_due.then(|| {
            self.events_at_snapshot = self.state.events_applied();
            self.encode_snapshot()
        });
        let head = head_changed.then(|| (self.log.size(), self.log.root(), self.state.now()));
        Some(TakenGroup { seq, bytes, receipts: self.committing.clone(), head, snapshot })
    }

    /// Takes back the buffer of a committed group.
    pub(crate) fn committed(&mut self, mut buffer: Vec<u8>) {
        self.committing = Arc::default();
        buffer.clear();
        // One burst must not hold its peak for ever.
        buffer.shrink_to(GROUP_RESERVE_BYTES * 16);
        self.spare = buffer;
    }

    pub(crate) fn key(&self, hash: &KeyHash) -> Result<&Key, FundsError> {
        let key = self.keys.get(hash).ok_or(FundsError::UnknownKey)?;
        if key.row.revoked.is_some() { Err(FundsError::RevokedKey) } else { Ok(key) }
    }

    /// What requests in flight of one key hold.
    pub(crate) fn held_by_key(&self, key: &KeyHash) -> u128 {
        self.open.values().filter(|open| open.key == *key).map(|open| u128::from(open.held.0)).sum()
    }

    /// A request that is not open: the same settlement again, or none at all.
    fn settled_before(&mut self, asked: &PreparedSettlement<'_>) -> Result<Settled, FundsError> {
        let seller = asked.seller.and_then(|name| self.names.seller(name));
        let mut last = FundsError::NoHold;
        for limited in [false, true] {
            self.settlement_chain(asked, seller, limited);
            match self.state.apply_chain(asked.now, &self.chain) {
                Ok(_) => return Ok(Settled { cost: asked.split.total, ticket: self.ticket() }),
                Err(refused) if refused.why == Refusal::IdReused => last = FundsError::Conflict,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn settlement_chain(&mut self, asked: &PreparedSettlement<'_>, seller: Option<AccountId>, limited: bool) {
        let (request, split) = (asked.request, asked.split);
        self.chain.clear();
        let mut push = |role: Role, kind| {
            self.chain.push(Event::Transfer(Transfer { id: role.of(request), linked: true, kind }));
        };
        push(Role::Post, TransferKind::Post { pending: Role::Hold.of(request), amount: split.total });
        if limited {
            let pending = Role::HoldAllowance.of(request);
            push(Role::PostAllowance, TransferKind::Post { pending, amount: split.total });
        }
        let moves = [
            (Role::Seller, seller, split.seller),
            (Role::Fee, Some(FEE), split.fee),
            (Role::Rounding, Some(ROUNDING), split.rounding),
        ];
        for (role, credit, amount) in moves {
            if let Some(credit) = credit.filter(|_| amount > NanoUsd::ZERO) {
                push(role, TransferKind::Single { debit: CLEARING, credit, amount });
            }
        }
        if let Some(Event::Transfer(last)) = self.chain.last_mut() {
            last.linked = false;
        }
    }

    /// Applies `self.chain` and writes it down when it changed something.
    fn apply(&mut self, now: UnixMs) -> Result<Applied, FundsError> {
        self.room_for(0)?;
        match self.state.apply_chain(now, &self.chain) {
            Ok(Applied::Done) => {
                record::put_events(&mut self.group.bytes, self.state.now(), &self.chain);
                Ok(Applied::Done)
            }
            Ok(Applied::Exists) => Ok(Applied::Exists),
            Err(refused) => Err(self.explain(refused.why)),
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
            self.apply_one(Event::Release { pending: *pending, reason }, now)?;
            // The first hold of a request carries the request's own id.
            self.open.remove(&RequestId(pending.0));
        }
        Ok(())
    }

    fn room_for(&self, bytes: usize) -> Result<(), FundsError> {
        if self.group.bytes.len() + bytes + GROUP_RESERVE_BYTES > GROUP_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        Ok(())
    }

    fn seller_account(&mut self, name: &SellerName, now: UnixMs) -> Result<AccountId, FundsError> {
        match self.names.seller(name) {
            Some(account) => Ok(account),
            None => self.open_account(
                seller_account_name(name),
                AccountKind::SellerPayable,
                BalanceLimit::DebitsWithinCredits,
                now,
            ),
        }
    }

    fn open_account(
        &mut self,
        name: String,
        kind: AccountKind,
        limit: BalanceLimit,
        now: UnixMs,
    ) -> Result<AccountId, FundsError> {
        let id = self.names.next_id();
        self.apply_one(Event::Open(Account { id, kind, limit }), now)?;
        record::put_name(&mut self.group.bytes, id, &name);
        self.names.add(id, name);
        Ok(id)
    }

    /// Says in the words of the port why the ledger refused.
    fn explain(&self, why: Refusal) -> FundsError {
        match why {
            Refusal::ExceedsBalance { account, available, needed } => {
                let available = NanoUsd(u64::try_from(available).unwrap_or(u64::MAX));
                let kind = self.state.account(account).map(|(account, _)| account.kind);
                if kind == Some(AccountKind::KeyAllowance) {
                    FundsError::KeyLimit { available, needed }
                } else {
                    FundsError::InsufficientFunds { available, needed }
                }
            }
            Refusal::IdReused | Refusal::IdAhead => FundsError::Conflict,
            // The hold came later after its request's arrival than the ledger remembers ids.
            Refusal::IdTooOld => FundsError::TooMany("requests since this one arrived"),
            Refusal::PendingsFull { .. } => FundsError::TooMany("open holds"),
            Refusal::AccountsFull { .. } => FundsError::TooMany("accounts"),
            Refusal::ExceedsPending { held, asked } => FundsError::ExceedsHold { charge: asked, held },
            _ => FundsError::NoHold,
        }
    }
}

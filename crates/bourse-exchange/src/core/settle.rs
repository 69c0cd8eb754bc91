//! Settling: one chain that posts the holds and moves the charge on, and the records beside it.
//!
//! Where the buyer's own key at a seller served, the seller bills the buyer outside the books. The list price
//! then moves nowhere; the charge is the market's fee on it, all of which goes to the fee account, and the
//! list price is counted with the key: in its own sums, and in its limit when that includes it.
//!
//! What the buyer does not pay for is posted at list price beside it; see [`gift`](super::gift).
//!
//! Where the seller claims more than the market counted, its share goes to suspense in its stead, in the same chain.

use super::{Core, OpenRequest, Role, counted, roles};
use crate::claims::{ClaimEnd, is_for_nothing};
use crate::config::ByokTerms;
use crate::index::Sale;
use crate::names::{CLEARING, FEE, MEMO, ROUNDING, SUBSIDY, SUSPENSE, seller_account_name};
use crate::record;
use crate::suspense::{Case, SuspenseRecord};
use bourse_ledger::{AccountKind, Applied, BalanceLimit, Event, Transfer, TransferKind, Unit};
use bourse_types::{
    AccountId, Charge, Digest32, Gift, MoneyError, NanoUsd, RequestId, SellerName, UnixMs, UtcDay,
};
use bourse_wire::funds::{FundsError, Settled};
use bourse_wire::receipt::{Finish, Receipt};

/// How a charge is shared, computed before the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) total: NanoUsd,
    pub(crate) seller: NanoUsd,
    pub(crate) fee: NanoUsd,
    pub(crate) rounding: NanoUsd,
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

    /// As a receipt that the exchange has filled in says it; `None` when its parts do not sum to its total.
    pub(crate) fn as_written(receipt: &Receipt, is_byok: bool) -> Option<Self> {
        let Charge { total, rounding, .. } = receipt.charge;
        if receipt.charge.sum_of_parts()? != total {
            return None;
        }
        if is_byok {
            return (receipt.fee == total).then_some(Self::fee_only(total));
        }
        let seller = total.checked_sub(rounding).and_then(|base| base.checked_sub(receipt.fee)).ok()?;
        Some(Self { total, seller, fee: receipt.fee, rounding })
    }

    /// A charge that is all fee.
    pub(crate) fn fee_only(fee: NanoUsd) -> Self {
        Self { total: fee, seller: NanoUsd::ZERO, fee, rounding: NanoUsd::ZERO }
    }
}

/// A settlement with everything computed that needs no lock.
pub(crate) struct PreparedSettlement<'a> {
    pub(crate) request: RequestId,
    pub(crate) seller: Option<&'a SellerName>,
    /// The receipt where its seller's share waits in suspense.
    pub(crate) suspended: Option<&'a Receipt>,
    pub(crate) key_digest: Digest32,
    pub(crate) account_digest: Digest32,
    pub(crate) split: Split,
    /// What the buyer's own seller bills it; zero where the market's key served.
    pub(crate) byok: NanoUsd,
    /// What the buyer does not pay for.
    pub(crate) gift: Option<Gift>,
    pub(crate) sale: Option<Sale>,
    pub(crate) finish: Finish,
    pub(crate) receipt: &'a [u8],
    pub(crate) note: &'a [u8],
    pub(crate) leaf: Digest32,
    pub(crate) now: UnixMs,
}

/// Where a receipt lies in its group, and what it sold, for the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReceiptMark {
    pub(crate) request: RequestId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) leaf: Digest32,
    pub(crate) sale: Option<Sale>,
}

impl Core {
    /// The market's fee where the buyer's own key served: on what exceeds the account's free allowance of
    /// the month, rounded down.
    pub(crate) fn byok_fee(
        &self,
        key_digest: &Digest32,
        list: NanoUsd,
        terms: &ByokTerms,
        now: UnixMs,
    ) -> Result<NanoUsd, MoneyError> {
        let now = now.max(self.now());
        let key = self.keys.by_digest(key_digest).and_then(|hash| self.keys.get(hash));
        let used = key.map_or(0, |key| self.keys.byok_month(key.row.account, now));
        let free = u128::from(terms.free_per_month.0).saturating_sub(used);
        let free = NanoUsd(u64::try_from(free).unwrap_or(u64::MAX)).min(list);
        list.checked_sub(free)?.share_bps_floor(terms.fee_bps)
    }

    pub(crate) fn settle(&mut self, asked: &PreparedSettlement<'_>) -> Result<Settled, FundsError> {
        self.running()?;
        let cost = asked.split.total;
        let Some(open) = self.open.get(&asked.request) else {
            return self.settled_before(asked);
        };
        self.covers(open, asked)?;
        let (key, has_claim) = (open.key, open.has_claim);
        let posts = open.allowances.iter().map(|hold| Ok((hold.place, hold.counted(cost, asked.byok)?)));
        let posts = posts.collect::<Result<Vec<_>, FundsError>>()?;
        let seller = match asked.seller {
            _ if asked.sellers_share() == NanoUsd::ZERO => None,
            Some(_) if asked.suspended.is_some() => Some(self.suspense_account(asked.now)?),
            Some(name) => Some(self.seller_account(name, asked.now)?),
            None => return Err(FundsError::Conflict),
        };
        let customer = self.keys.get(&key).map(|key| key.row.account).ok_or(FundsError::UnknownKey)?;
        let payer = if asked.subsidy() > NanoUsd::ZERO { SUBSIDY } else { customer };
        if matches!(asked.gift_move(seller), Some((MEMO, ..))) {
            self.memo_accounts(asked.now)?;
        }
        self.settlement_chain(asked, seller, &posts);
        if self.apply(asked.now)? == Applied::Exists {
            return Ok(Settled { cost, ticket: self.ticket() });
        }
        self.end_open(&asked.request);
        self.metered.remove(&asked.request);
        self.write_down(asked);
        let share = asked.sellers_share();
        let case = asked.suspended.filter(|_| share > NanoUsd::ZERO);
        let case = case.and_then(|receipt| Case::of(receipt, payer, share, self.state.now()));
        if let Some(case) = case {
            self.write_case(SuspenseRecord::Opened { request: asked.request, case });
        }
        if has_claim {
            let is_free = is_for_nothing(cost, asked.byok, asked.finish);
            self.claims.end(asked.request, if is_free { ClaimEnd::ForNothing } else { ClaimEnd::Paid });
        }
        self.keys.spend(&key, cost, asked.byok, self.state.now());
        Ok(Settled { cost, ticket: self.ticket() })
    }

    /// Whether an open request can be settled so: under its own key, within its hold, and with room to write it down.
    pub(super) fn covers(
        &self,
        open: &OpenRequest,
        asked: &PreparedSettlement<'_>,
    ) -> Result<(), FundsError> {
        let key = self.keys.get(&open.key).ok_or(FundsError::UnknownKey)?;
        if (key.digest, key.account_digest) != (asked.key_digest, asked.account_digest) {
            return Err(FundsError::Conflict);
        }
        if asked.has_odd_gift() || asked.split.seller > NanoUsd::ZERO && asked.seller.is_none() {
            return Err(FundsError::Conflict);
        }
        if asked.split.total > open.held {
            return Err(FundsError::ExceedsHold { charge: asked.split.total, held: open.held });
        }
        self.room_for(asked.receipt.len() + asked.note.len())
    }

    /// Receipt and note into the group, the leaf into the log.
    fn write_down(&mut self, asked: &PreparedSettlement<'_>) {
        let (leaf, len) = (asked.leaf, asked.receipt.len() as u32);
        let offset = record::put_receipt(&mut self.group.bytes, asked.receipt) as u32;
        record::put_note(&mut self.group.bytes, asked.note);
        self.log.append(leaf);
        let day = UtcDay::of(self.state.now());
        let sale = asked.sale.as_ref().map(|sale| sale.on(day));
        self.group.receipts.push(ReceiptMark { request: asked.request, offset, len, leaf, sale });
        self.group.head_changed = true;
    }

    /// A request that is not open: the same settlement again, or none at all. Which budgets it drew on is not known any
    /// more; it is the same when it is so for any of those that its key has.
    fn settled_before(&mut self, asked: &PreparedSettlement<'_>) -> Result<Settled, FundsError> {
        let seller = match asked.suspended {
            Some(_) => Some(SUSPENSE),
            None => asked.seller.and_then(|name| self.names.seller(name)),
        };
        let total = asked.split.total;
        let could = self.could_draw(&asked.key_digest);
        let mut last = FundsError::NoHold;
        for drawn in (0..1u32 << could.len()).rev() {
            let drew = could.iter().enumerate().filter(|(n, _)| drawn >> n & 1 == 1).map(|(_, place)| place);
            let amount = |includes_byok| counted(total, asked.byok, includes_byok);
            let posts = drew.map(|(place, includes_byok)| Ok((*place, amount(*includes_byok)?)));
            let posts = posts.collect::<Result<Vec<_>, FundsError>>()?;
            self.settlement_chain(asked, seller, &posts);
            // Looked up and never applied: a hold that outlived its exchange is settled by whoever repeats it first.
            match self.state.is_repeated(&self.chain) {
                Ok(true) => return Ok(Settled { cost: total, ticket: self.ticket() }),
                Ok(false) => {}
                Err(_) => last = FundsError::Conflict,
            }
        }
        Err(last)
    }

    /// The places of budgets that a request of this key may have drawn on, and whether each counts what own sellers bill.
    fn could_draw(&self, key: &Digest32) -> Vec<(usize, bool)> {
        let key = self.keys.by_digest(key).and_then(|hash| self.keys.get(hash));
        let scopes = key.map(|key| key.row.scopes()).into_iter().flatten().flatten();
        let places = scopes.flat_map(|scope| {
            let budgets = self.budgets(&scope).iter().enumerate();
            let used = budgets.filter(|(_, budget)| budget.allowance.is_some());
            used.map(move |(slot, budget)| (scope.place(slot), budget.includes_byok))
        });
        places.collect()
    }

    /// `posts` is what is posted of the allowances that the hold drew on, by place.
    fn settlement_chain(
        &mut self,
        asked: &PreparedSettlement<'_>,
        seller: Option<AccountId>,
        posts: &[(usize, NanoUsd)],
    ) {
        let (request, split) = (asked.request, asked.split);
        self.chain.clear();
        let mut push = |id, kind| self.chain.push(Event::Transfer(Transfer { id, linked: true, kind }));
        let (pending, amount) = (Role::Hold.of(request), split.total.into());
        push(Role::Post.of(request), TransferKind::Post { pending, amount });
        for (place, amount) in posts {
            let (pending, amount) = (roles::hold(request, *place), (*amount).into());
            push(roles::post(request, *place), TransferKind::Post { pending, amount });
        }
        let out_of_clearing = |credit, amount| Some((CLEARING, credit?, amount));
        let moves = [
            (Role::Seller, out_of_clearing(seller, split.seller)),
            (Role::Fee, out_of_clearing(Some(FEE), split.fee)),
            (Role::Rounding, out_of_clearing(Some(ROUNDING), split.rounding)),
            (Role::Gift, asked.gift_move(seller)),
        ];
        for (role, one) in moves {
            if let Some((debit, credit, amount)) = one.filter(|(_, _, amount)| *amount > NanoUsd::ZERO) {
                push(role.of(request), TransferKind::Single { debit, credit, amount: amount.into() });
            }
        }
        if let Some(Event::Transfer(last)) = self.chain.last_mut() {
            last.linked = false;
        }
    }

    pub(super) fn seller_account(&mut self, name: &SellerName, now: UnixMs) -> Result<AccountId, FundsError> {
        match self.names.seller(name) {
            Some(account) => Ok(account),
            None => self.open_account(
                seller_account_name(name),
                AccountKind::SellerPayable,
                BalanceLimit::DebitsWithinCredits,
                Unit::NANO_USD,
                now,
            ),
        }
    }
}

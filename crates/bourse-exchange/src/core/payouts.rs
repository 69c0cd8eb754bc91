//! Who is paid how much, and what a rail's word does to the books.
//!
//! A seller is paid what it is owed beyond what is held, in whole units of the rail, once that is the least amount, and only
//! from what lies in the account `escrow`: nobody is paid with money that nobody paid in. What is in suspense is in another
//! account and no part of it.

use super::Core;
use crate::names::{ESCROW, ESCROW_NAME};
use crate::payouts::{PayeeRecord, Payout, PayoutRecord, PayoutState, PayoutTerms};
use crate::record;
use bourse_ledger::{Account, AccountKind, BalanceLimit, CodecError, Event, Transfer, TransferKind};
use bourse_rails::{Note, Payee, Standing};
use bourse_types::{AccountId, NanoUsd, PayoutId, SellerName, TransferId, UnixMs};
use bourse_wire::funds::FundsError;

/// Payouts that one run plans.
const PLANNED_MAX: usize = 1_024;
/// A payout's hold waits for as long as it takes.
const NEVER: UnixMs = UnixMs(u64::MAX);
/// Transfers of a payout, beside the hold, whose id is the payout's own.
const END: u16 = 1;

/// Why a seller is not paid now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Withheld {
    #[error("it has no payout address")]
    NoAddress,
    #[error("it is below the least payout of {0}")]
    BelowMinimum(NanoUsd),
    #[error("{0} is on its way")]
    Open(PayoutId),
    #[error("{0} was paid after it had failed, and is not covered yet")]
    Late(PayoutId),
    #[error("{0} failed; setting the address again tries again")]
    Failed(PayoutId),
    /// As when the address was set for another rail.
    #[error("the rail cannot pay to its address: {0}")]
    Address(Note),
    #[error("{0} lies in escrow")]
    NoEscrow(NanoUsd),
    #[error("too many payouts are on their way")]
    TooMany,
}

/// What a rail's word came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayoutEnd {
    /// Nothing new.
    Nothing,
    Paid,
    Failed,
    /// Paid after it had failed; booked when the seller's payable covered it.
    Late {
        is_booked: bool,
    },
    /// It cannot be so.
    Contradicted,
}

impl Core {
    /// What a seller is owed and nobody holds.
    pub(crate) fn owed(&self, seller: AccountId) -> u128 {
        self.state.account(seller).map_or(0, |(_, balance)| balance.available())
    }

    /// All sellers that are owed something or have an address, in the order of opening.
    pub(crate) fn sellers(&self) -> impl Iterator<Item = AccountId> {
        let payable = |account: &bourse_ledger::Account| account.kind == AccountKind::SellerPayable;
        self.state.accounts().map(|(account, _)| account).filter(payable).map(|account| account.id)
    }

    /// What the next payout of a seller is, or why there is none. `escrow` is what may leave.
    pub(crate) fn next_payout(
        &self,
        seller: AccountId,
        terms: &PayoutTerms,
        escrow: u128,
    ) -> Result<NanoUsd, Withheld> {
        if let Some((open, payout)) = self.payouts.open_of(seller).next() {
            return Err(if payout.state.holds() { Withheld::Open(open) } else { Withheld::Late(open) });
        }
        let payee = self.payouts.payee(seller).ok_or(Withheld::NoAddress)?;
        if let Some(failed) = self.payouts.halted_by(seller) {
            return Err(Withheld::Failed(failed));
        }
        terms.rail.check(payee).map_err(Withheld::Address)?;
        let unit = terms.rail.capabilities().unit.0.max(1);
        let owed = u64::try_from(self.owed(seller)).unwrap_or(u64::MAX);
        let amount = owed - owed % unit;
        let least = terms.minimum.0.max(unit);
        if amount < least {
            return Err(Withheld::BelowMinimum(NanoUsd(least)));
        }
        if u128::from(amount) > escrow {
            return Err(Withheld::NoEscrow(crate::spend::nano(escrow)));
        }
        if self.payouts.is_full() {
            return Err(Withheld::TooMany);
        }
        Ok(NanoUsd(amount))
    }

    /// What lies in escrow and is promised to nobody. A payment that is not booked yet has left all the same.
    pub(crate) fn in_escrow(&self) -> u128 {
        let left = |balance: bourse_ledger::Balance| {
            balance
                .debits_posted
                .saturating_sub(balance.credits_posted)
                .saturating_sub(balance.credits_pending)
        };
        let booked = self.state.account(ESCROW).map_or(0, |(_, balance)| left(balance));
        booked.saturating_sub(self.payouts.late())
    }

    /// Plans what is due; stops early where the open group is full. Returns how many.
    pub(crate) fn plan_payouts(
        &mut self,
        terms: &PayoutTerms,
        seed: &[u8; 32],
        now: UnixMs,
    ) -> Result<usize, FundsError> {
        self.running()?;
        let now = now.max(self.now());
        let sellers: Vec<AccountId> = self.payouts.payees().map(|(seller, _)| seller).collect();
        let (mut planned, mut escrow) = (0, self.in_escrow());
        for seller in sellers {
            if planned == PLANNED_MAX || self.room_for(0).is_err() {
                break;
            }
            let Ok(amount) = self.next_payout(seller, terms, escrow) else { continue };
            let Some(payee) = self.payouts.payee(seller).cloned() else { continue };
            let id = payout_id(seed, seller, self.state.new_id_time(now));
            let (debit, credit, expires_at) = (seller, ESCROW, NEVER);
            let kind = TransferKind::Pending { debit, credit, amount: amount.into(), expires_at };
            let hold = Event::Transfer(Transfer { id: id.transfer(0), linked: false, kind });
            match self.apply_one(hold, now) {
                Ok(_) => {}
                // The rest waits for the next run.
                Err(FundsError::TooMany(_)) => break,
                Err(other) => return Err(other),
            }
            let rail = terms.rail.capabilities().name.to_owned();
            let payout =
                Payout { seller, amount, payee, rail, state: PayoutState::Planned, since: self.now() };
            self.write_payout(PayoutRecord::Planned { id, payout });
            planned += 1;
            escrow = escrow.saturating_sub(amount.0.into());
        }
        Ok(planned)
    }

    /// Marks what is planned for this rail as about to be sent. Returns how many; they may be sent when that is durable.
    pub(crate) fn begin_sending(&mut self, rail: &str, now: UnixMs) -> Result<usize, FundsError> {
        self.running()?;
        let planned = self.payouts.open().filter(|(_, payout)| payout.state == PayoutState::Planned);
        let planned: Vec<PayoutId> =
            planned.filter(|(_, payout)| payout.rail == rail).map(|(id, _)| id).collect();
        for (n, id) in planned.iter().enumerate() {
            if self.room_for(0).is_err() {
                return Ok(n);
            }
            self.payout_became(*id, PayoutState::Sending, now);
        }
        Ok(planned.len())
    }

    /// Takes what is known of a payout. `fresh` is for a movement that has none yet.
    pub(crate) fn payout_stands(
        &mut self,
        id: PayoutId,
        standing: &Standing,
        fresh: TransferId,
        now: UnixMs,
    ) -> Result<PayoutEnd, FundsError> {
        self.running()?;
        let Some(payout) = self.payouts.get(id).cloned() else { return Ok(PayoutEnd::Contradicted) };
        let pending = id.transfer(0);
        match (&payout.state, standing) {
            (PayoutState::Sending, Standing::Paid { reference }) => {
                let kind = TransferKind::Post { pending, amount: payout.amount.into() };
                self.end_payout(id, kind, PayoutState::Paid(reference.clone()), now)?;
                Ok(PayoutEnd::Paid)
            }
            (PayoutState::Planned | PayoutState::Sending, Standing::Failed { reason }) => {
                let kind = TransferKind::Void { pending };
                self.end_payout(id, kind, PayoutState::Failed(reason.clone()), now)?;
                Ok(PayoutEnd::Failed)
            }
            (PayoutState::Failed(_), Standing::Paid { reference }) => {
                self.payout_became(id, PayoutState::Late(reference.clone()), now);
                let is_booked = self.book_late(id, &payout, reference, fresh, now)?;
                Ok(PayoutEnd::Late { is_booked })
            }
            (PayoutState::Late(reference), _) => {
                let is_booked = self.book_late(id, &payout, reference, fresh, now)?;
                Ok(if is_booked { PayoutEnd::Paid } else { PayoutEnd::Nothing })
            }
            (PayoutState::Paid(_), Standing::Failed { .. })
            | (PayoutState::Planned, Standing::Paid { .. } | Standing::Pending) => {
                Ok(PayoutEnd::Contradicted)
            }
            _ => Ok(PayoutEnd::Nothing),
        }
    }

    /// Settles the hold and writes down why, in one group.
    fn end_payout(
        &mut self,
        id: PayoutId,
        kind: TransferKind,
        state: PayoutState,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.apply_one(Event::Transfer(Transfer { id: id.transfer(END), linked: false, kind }), now)?;
        self.payout_became(id, state, now);
        Ok(())
    }

    /// Books a payment that came after all, where what the seller is owed by now covers it.
    fn book_late(
        &mut self,
        id: PayoutId,
        payout: &Payout,
        reference: &Note,
        fresh: TransferId,
        now: UnixMs,
    ) -> Result<bool, FundsError> {
        match self.post(fresh, payout.seller, ESCROW, payout.amount, now) {
            Ok(()) => {
                self.payout_became(id, PayoutState::Paid(reference.clone()), now);
                Ok(true)
            }
            // The next run tries again.
            Err(FundsError::InsufficientFunds { .. } | FundsError::TooMany(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    fn payout_became(&mut self, id: PayoutId, state: PayoutState, now: UnixMs) {
        let at = now.max(self.now());
        self.write_payout(PayoutRecord::Became { id, state, at });
    }

    fn write_payout(&mut self, record: PayoutRecord) {
        record::put_payout(&mut self.group.bytes, &record);
        self.payouts.take(record).expect("who writes it looked at what it was before");
    }

    /// Holds what the journal says of a payout against the ledger, and takes it.
    pub(crate) fn replay_payout(&mut self, record: PayoutRecord) -> Result<(), CodecError> {
        let hold = self.state.pending(record.id().transfer(0));
        let is_held = match &record {
            PayoutRecord::Planned { payout, .. } => hold.is_some_and(|hold| {
                (hold.debit, hold.credit, hold.amount) == (payout.seller, ESCROW, payout.amount.into())
            }),
            PayoutRecord::Became { state, .. } => hold.is_some() == state.holds(),
        };
        if !is_held {
            return Err(CodecError::Inconsistent("a payout is not as its hold says"));
        }
        self.payouts.take(record)
    }

    /// Sets or lifts where a seller takes money. Its account is opened when there is none. What was planned for another
    /// address and never sent is taken back; what a rail may have is not.
    pub(crate) fn set_payee(
        &mut self,
        seller: &SellerName,
        payee: Option<Payee>,
        now: UnixMs,
    ) -> Result<AccountId, FundsError> {
        self.running()?;
        self.room_for(0)?;
        let seller = self.seller_account(seller, now)?;
        let is_outdated =
            |payout: &Payout| payout.state == PayoutState::Planned && Some(&payout.payee) != payee.as_ref();
        let outdated = self.payouts.open_of(seller).find(|(_, payout)| is_outdated(payout)).map(|(id, _)| id);
        if let Some(id) = outdated {
            let kind = TransferKind::Void { pending: id.transfer(0) };
            let reason = Note::of_others("its address was changed before it was sent");
            self.end_payout(id, kind, PayoutState::Failed(reason), now)?;
        }
        let record = PayeeRecord { seller, payee };
        record::put_payee(&mut self.group.bytes, &record);
        self.payouts.set_payee(record);
        Ok(seller)
    }

    /// Money that came in from outside.
    pub(crate) fn deposit(
        &mut self,
        account: AccountId,
        amount: NanoUsd,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.running()?;
        // What lies there is what was paid in and not paid out; never less than nothing.
        let escrow = Account::of_money(ESCROW, AccountKind::Escrow, BalanceLimit::CreditsWithinDebits);
        self.house_account(escrow, ESCROW_NAME, now)?;
        self.post(id, ESCROW, account, amount, now)
    }

    /// The seller of a payable account.
    pub(crate) fn seller_name(&self, seller: AccountId) -> String {
        let name = self.names.name(seller);
        name.strip_prefix(crate::names::SELLER_PREFIX).unwrap_or(&name).to_owned()
    }

    /// What payouts and their holds say against each other, and what a person must look at.
    pub(crate) fn payout_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let holds = self.state.pendings().into_iter().filter(|(_, hold)| hold.credit == ESCROW).count();
        if holds != self.payouts.holds() {
            let payouts = self.payouts.holds();
            problems.push(format!("{holds} holds are of payouts, {payouts} payouts are on their way"));
        }
        for (id, payout) in self.payouts.open() {
            let hold = self.state.pending(id.transfer(0)).map(|hold| hold.amount.nano_usd());
            if hold != payout.state.holds().then_some(payout.amount) {
                problems.push(format!("payout {id} is {} and its hold is not", payout.state.word()));
            }
            if matches!(payout.state, PayoutState::Late(_)) {
                let seller = self.seller_name(payout.seller);
                problems.push(format!(
                    "payout {id} was paid after it had failed; what {seller} is owed does not cover its {}",
                    payout.amount
                ));
            }
        }
        problems
    }
}

/// Made from what nobody can guess, so that two runs in one millisecond do not meet.
fn payout_id(seed: &[u8; 32], seller: AccountId, now: UnixMs) -> PayoutId {
    let drawn = blake3::keyed_hash(seed, &seller.0.to_le_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&drawn.as_bytes()[..10]);
    PayoutId::new(now, random)
}

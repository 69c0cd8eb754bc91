//! Payouts: what the market pays to its sellers, each from its plan to its end.
//!
//! What a seller is owed beyond the least amount becomes one payout: a hold on its payable under the payout's id, so that
//! nothing is paid twice, and a record that it is *planned*. Before the rail is called, the journal says that it is
//! *sending*; then it was *paid* (the hold is posted to the account `escrow`), or it *failed* (the hold gives itself back).
//! Every change is one group with what it does to the ledger. A seller has one payout on its way at a time, and after one
//! that failed none until its address is set again, so that a dead address is not tried every minute.
//!
//! A payout that is told to be paid after it had failed is *late*: money has left that the books gave back. It is told as
//! an error, by the audit too, keeps the seller from other payouts, and is booked as soon as what the seller is owed
//! covers it. Until then nobody else is promised what left.
//!
//! Limits: [`PAYOUTS_OPEN_MAX`] on their way; of those that ended the last [`PAYOUTS_PAID_KEPT_MAX`] and
//! [`PAYOUTS_FAILED_KEPT_MAX`] are remembered, all others stand in the journal as movements of the account `escrow`.

mod lines;
mod run;

pub use lines::{OwedLine, PayoutLine};
pub use run::PayoutsError;
pub(crate) use run::Runner;

use crate::record::{put_option, put_text, read_flag, read_text};
use bourse_ledger::{CodecError, Reader};
use bourse_rails::{NOTE_BYTES_MAX, Note, PAYEE_BYTES_MAX, Payee, RAIL_NAME_BYTES_MAX, Rail};
use bourse_types::{AccountId, NanoUsd, PayoutId, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// The least payout unless configured otherwise: what moving money costs should be little beside it.
pub const PAYOUT_MINIMUM: NanoUsd = NanoUsd::from_usd(10);
/// Payouts on their way, at most.
pub const PAYOUTS_OPEN_MAX: usize = 4_096;
/// Paid ones that are remembered.
pub const PAYOUTS_PAID_KEPT_MAX: usize = 1_024;
/// Failed ones that are remembered, and that may still be told to be paid.
pub const PAYOUTS_FAILED_KEPT_MAX: usize = 1_024;

/// How sellers are paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutTerms {
    /// See [`PAYOUT_MINIMUM`]; never less than the rail's unit.
    pub minimum: NanoUsd,
    /// By what.
    pub rail: Rail,
}

impl Default for PayoutTerms {
    fn default() -> Self {
        Self { minimum: PAYOUT_MINIMUM, rail: Rail::default() }
    }
}

/// How far a payout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PayoutState {
    Planned,
    /// The rail may have it.
    Sending,
    Paid(Note),
    Failed(Note),
    /// Paid after it had failed, and not booked yet.
    Late(Note),
}

impl PayoutState {
    /// The word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Sending => "sending",
            Self::Paid(_) => "paid",
            Self::Failed(_) => "failed",
            Self::Late(_) => "late",
        }
    }

    /// The reference or the reason.
    pub(crate) fn note(&self) -> Option<&Note> {
        match self {
            Self::Planned | Self::Sending => None,
            Self::Paid(note) | Self::Failed(note) | Self::Late(note) => Some(note),
        }
    }

    /// Whether its amount is held.
    pub(crate) fn holds(&self) -> bool {
        matches!(self, Self::Planned | Self::Sending)
    }

    fn code(&self) -> u8 {
        match self {
            Self::Planned => 0,
            Self::Sending => 1,
            Self::Paid(_) => 2,
            Self::Failed(_) => 3,
            Self::Late(_) => 4,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.code());
        if let Some(note) = self.note() {
            put_text(out, note.as_str());
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let code = r.u8()?;
        let mut note = || {
            let note = Note::parse(&read_text(r, NOTE_BYTES_MAX)?);
            note.map_err(|_| CodecError::Inconsistent("a payout's note is none"))
        };
        match code {
            0 => Ok(Self::Planned),
            1 => Ok(Self::Sending),
            2 => Ok(Self::Paid(note()?)),
            3 => Ok(Self::Failed(note()?)),
            4 => Ok(Self::Late(note()?)),
            code => Err(CodecError::Code { what: "state of a payout", code }),
        }
    }
}

/// A payout as the books know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payout {
    /// The payable account.
    pub(crate) seller: AccountId,
    pub(crate) amount: NanoUsd,
    pub(crate) payee: Payee,
    pub(crate) rail: String,
    pub(crate) state: PayoutState,
    /// Since when it is so.
    pub(crate) since: UnixMs,
}

impl Payout {
    fn write(&self, out: &mut Vec<u8>) {
        for word in [self.seller.0, self.amount.0, self.since.0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        put_text(out, self.payee.as_str());
        put_text(out, &self.rail);
        self.state.write(out);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (seller, amount, since) = (AccountId(r.u64()?), NanoUsd(r.u64()?), UnixMs(r.u64()?));
        let payee = read_payee(r)?;
        let rail = read_text(r, RAIL_NAME_BYTES_MAX)?;
        Ok(Self { seller, amount, payee, rail, state: PayoutState::read(r)?, since })
    }
}

fn read_payee(r: &mut Reader<'_>) -> Result<Payee, CodecError> {
    let payee = Payee::parse(&read_text(r, PAYEE_BYTES_MAX)?);
    payee.map_err(|_| CodecError::Inconsistent("a payee's address is none"))
}

/// What the journal says of a payout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PayoutRecord {
    Planned { id: PayoutId, payout: Payout },
    Became { id: PayoutId, state: PayoutState, at: UnixMs },
}

impl PayoutRecord {
    pub(crate) fn id(&self) -> PayoutId {
        match self {
            Self::Planned { id, .. } | Self::Became { id, .. } => *id,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id().0.to_le_bytes());
        match self {
            Self::Planned { payout, .. } => {
                out.push(0);
                payout.write(out);
            }
            Self::Became { state, at, .. } => {
                out.push(1);
                out.extend_from_slice(&at.0.to_le_bytes());
                state.write(out);
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let id = PayoutId(r.u128()?);
        if read_flag(r)? {
            let at = UnixMs(r.u64()?);
            return Ok(Self::Became { id, state: PayoutState::read(r)?, at });
        }
        Ok(Self::Planned { id, payout: Payout::read(r)? })
    }
}

/// Where a seller takes money, from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PayeeRecord {
    pub(crate) seller: AccountId,
    pub(crate) payee: Option<Payee>,
}

impl PayeeRecord {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.seller.0.to_le_bytes());
        put_option::<0>(out, self.payee.as_ref().map(|_| []));
        if let Some(payee) = &self.payee {
            put_text(out, payee.as_str());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let seller = AccountId(r.u64()?);
        let payee = if read_flag(r)? { Some(read_payee(r)?) } else { None };
        Ok(Self { seller, payee })
    }
}

/// All payouts that are remembered, and where sellers take money.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Payouts {
    /// Planned, sending or late.
    open: BTreeMap<PayoutId, Payout>,
    paid: BTreeMap<PayoutId, Payout>,
    failed: BTreeMap<PayoutId, Payout>,
    payees: BTreeMap<AccountId, Payee>,
    /// Sellers who wait after a payout that failed.
    halted: BTreeMap<AccountId, PayoutId>,
    /// The open ones by seller.
    of_seller: BTreeSet<(AccountId, PayoutId)>,
}

impl Payouts {
    pub(crate) fn get(&self, id: PayoutId) -> Option<&Payout> {
        [&self.open, &self.paid, &self.failed].into_iter().find_map(|payouts| payouts.get(&id))
    }

    /// Planned, sending or late ones, oldest first.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = (PayoutId, &Payout)> {
        self.open.iter().map(|(id, payout)| (*id, payout))
    }

    /// Failed ones that are remembered, oldest first.
    pub(crate) fn failed(&self) -> impl DoubleEndedIterator<Item = (PayoutId, &Payout)> {
        self.failed.iter().map(|(id, payout)| (*id, payout))
    }

    /// All that are remembered, oldest first.
    pub(crate) fn all(&self) -> Vec<(PayoutId, &Payout)> {
        let mut all: Vec<_> = [&self.open, &self.paid, &self.failed].into_iter().flatten().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(id, payout)| (*id, payout)).collect()
    }

    /// What was paid and is not booked.
    pub(crate) fn late(&self) -> u128 {
        let late = self.open.values().filter(|payout| !payout.state.holds());
        late.map(|payout| u128::from(payout.amount.0)).sum()
    }

    /// Payouts whose amount is held.
    pub(crate) fn holds(&self) -> usize {
        self.open.values().filter(|payout| payout.state.holds()).count()
    }

    pub(crate) fn payee(&self, seller: AccountId) -> Option<&Payee> {
        self.payees.get(&seller)
    }

    pub(crate) fn payees(&self) -> impl Iterator<Item = (AccountId, &Payee)> {
        self.payees.iter().map(|(seller, payee)| (*seller, payee))
    }

    /// The payouts of a seller that are on their way or late, oldest first.
    pub(crate) fn open_of(&self, seller: AccountId) -> impl Iterator<Item = (PayoutId, &Payout)> {
        let all = (seller, PayoutId(0))..=(seller, PayoutId(u128::MAX));
        self.of_seller.range(all).filter_map(|(_, id)| Some((*id, self.open.get(id)?)))
    }

    /// The payout after whose failure the seller waits.
    pub(crate) fn halted_by(&self, seller: AccountId) -> Option<PayoutId> {
        self.halted.get(&seller).copied()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= PAYOUTS_OPEN_MAX
    }

    pub(crate) fn set_payee(&mut self, record: PayeeRecord) {
        self.halted.remove(&record.seller);
        match record.payee {
            Some(payee) => drop(self.payees.insert(record.seller, payee)),
            None => drop(self.payees.remove(&record.seller)),
        }
    }

    /// Takes what the journal says.
    pub(crate) fn take(&mut self, record: PayoutRecord) -> Result<(), CodecError> {
        match record {
            PayoutRecord::Planned { id, payout } => {
                let is_first = self.get(id).is_none() && self.open_of(payout.seller).next().is_none();
                if !is_first || payout.state != PayoutState::Planned {
                    return Err(CodecError::Inconsistent("a payout is planned twice"));
                }
                self.put(id, payout);
            }
            PayoutRecord::Became { id, state, at } => {
                let before = self.remove(id).ok_or(CodecError::Inconsistent("a payout was never planned"))?;
                if !follows(&before.state, &state) {
                    return Err(CodecError::Inconsistent("a payout became what it cannot become"));
                }
                // It was paid where it was sent to: that address is none that takes nothing.
                let is_halt = self.halted.get(&before.seller) == Some(&id);
                if is_halt && matches!(state, PayoutState::Late(_)) {
                    self.halted.remove(&before.seller);
                }
                self.put(id, Payout { state, since: at, ..before });
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: PayoutId) -> Option<Payout> {
        if let Some(payout) = self.open.remove(&id) {
            self.of_seller.remove(&(payout.seller, id));
            return Some(payout);
        }
        self.failed.remove(&id)
    }

    fn put(&mut self, id: PayoutId, payout: Payout) {
        match payout.state {
            PayoutState::Planned | PayoutState::Sending | PayoutState::Late(_) => {
                self.of_seller.insert((payout.seller, id));
                self.open.insert(id, payout);
            }
            PayoutState::Paid(_) => keep(&mut self.paid, id, payout, PAYOUTS_PAID_KEPT_MAX),
            PayoutState::Failed(_) => {
                self.halted.insert(payout.seller, id);
                keep(&mut self.failed, id, payout, PAYOUTS_FAILED_KEPT_MAX);
            }
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for payouts in [&self.open, &self.paid, &self.failed] {
            out.extend_from_slice(&(payouts.len() as u32).to_le_bytes());
            for (id, payout) in payouts {
                out.extend_from_slice(&id.0.to_le_bytes());
                payout.write(out);
            }
        }
        out.extend_from_slice(&(self.payees.len() as u32).to_le_bytes());
        for (seller, payee) in &self.payees {
            out.extend_from_slice(&seller.0.to_le_bytes());
            put_text(out, payee.as_str());
        }
        out.extend_from_slice(&(self.halted.len() as u32).to_le_bytes());
        for (seller, id) in &self.halted {
            out.extend_from_slice(&seller.0.to_le_bytes());
            out.extend_from_slice(&id.0.to_le_bytes());
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut payouts = Self::default();
        for _ in 0..3 {
            for _ in 0..r.u32()? {
                let id = PayoutId(r.u128()?);
                payouts.put(id, Payout::read(r)?);
            }
        }
        payouts.halted.clear();
        for _ in 0..r.u32()? {
            let seller = AccountId(r.u64()?);
            payouts.payees.insert(seller, read_payee(r)?);
        }
        for _ in 0..r.u32()? {
            let seller = AccountId(r.u64()?);
            payouts.halted.insert(seller, PayoutId(r.u128()?));
        }
        Ok(payouts)
    }
}

/// Remembers this one and those that ended last.
fn keep(payouts: &mut BTreeMap<PayoutId, Payout>, id: PayoutId, payout: Payout, kept_max: usize) {
    if payouts.len() >= kept_max {
        let first = payouts.iter().min_by_key(|(id, payout)| (payout.since, **id)).map(|(id, _)| *id);
        first.and_then(|first| payouts.remove(&first));
    }
    payouts.insert(id, payout);
}

/// Whether a payout can become so.
fn follows(before: &PayoutState, after: &PayoutState) -> bool {
    use PayoutState::{Failed, Late, Paid, Planned, Sending};
    matches!(
        (before, after),
        (Planned, Sending | Failed(_))
            | (Sending, Paid(_) | Failed(_))
            | (Failed(_), Late(_))
            | (Late(_), Paid(_))
    )
}

//! Payouts as an operator sees and decides them.

use super::{AdminError, AdminReply};
use crate::core::PayoutEnd;
use crate::exchange::Exchange;
use crate::names::SELLER_PREFIX;
use crate::payouts::{OwedLine, Payout, PayoutLine, PayoutState, PayoutsError};
use bourse_rails::{Note, Payee, RailError, Standing, TextError, Verdict};
use bourse_types::{PayoutId, SellerName, UnixMs};

/// Why a request about payouts was refused.
#[derive(Debug, thiserror::Error)]
pub enum PayoutRefusal {
    /// No payout has this id, or it ended too long ago to be remembered.
    #[error("no payout is called `{0}`; `bourse payout list` shows them")]
    Unknown(String),
    /// No seller has this name.
    #[error("`{0}` is no seller's name; `bourse payout list` shows them")]
    NoSeller(String),
    /// An address or a note cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The rail cannot pay there.
    #[error("the rail `{rail}` cannot pay to that address: {why}")]
    Payee {
        /// Its name.
        rail: &'static str,
        /// Why.
        why: String,
    },
    /// It is not on the rail yet, so nobody can have paid it.
    #[error("{0} was not sent yet; `bourse payout run` sends it")]
    NotSent(String),
    /// It ended otherwise before.
    #[error("{payout} ended before: {state}, {note}")]
    Ended {
        /// The payout.
        payout: String,
        /// How.
        state: &'static str,
        /// Its reference or reason.
        note: String,
    },
    /// Money has left that the books had given back.
    #[error(
        "{payout} had failed and its amount was given back to {seller}; now it is noted as paid late, and {}",
        if *.is_booked { "was booked against what the seller is owed" } else {
            "will be booked when what the seller is owed covers it; until then the seller is paid nothing else and \
             `bourse ledger check` reports it"
        }
    )]
    PaidAfterFailure {
        /// The payout.
        payout: String,
        /// Whose.
        seller: String,
        /// Whether what the seller is owed covered it.
        is_booked: bool,
    },
    /// The rail does not take it.
    #[error(transparent)]
    Rail(#[from] RailError),
    /// Payouts were not carried out to the end.
    #[error(transparent)]
    Run(#[from] PayoutsError),
}

impl Exchange {
    pub(super) fn list_payouts(&self) -> AdminReply {
        let troubles = self.shared.payouts.troubles.lock().clone();
        let core = self.shared.core.lock();
        let line = |(id, payout): (PayoutId, &Payout)| {
            PayoutLine::of(id, payout, core.seller_name(payout.seller), troubles.get(&id).cloned())
        };
        let payouts = core.payouts.all().into_iter().map(line).collect();
        let (terms, escrow) = (&self.shared.config.payouts, core.in_escrow());
        let owed = core.sellers().map(|seller| {
            let decided = core.next_payout(seller, terms, escrow);
            OwedLine::of(&core, seller, core.owed(seller), &decided)
        });
        AdminReply::Payouts { payouts, owed: owed.collect() }
    }

    /// Plans and sends, and shows what came of it.
    pub(super) fn pay_now(&self, now: UnixMs) -> Result<AdminReply, AdminError> {
        self.run_payouts(now).map_err(PayoutRefusal::from)?;
        Ok(self.list_payouts())
    }

    pub(super) fn confirm_payout(
        &self,
        payout: &str,
        reference: &str,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let reference = Note::parse(reference).map_err(PayoutRefusal::from)?;
        self.decide_payout(payout, Verdict::Paid { reference }, now)
    }

    pub(super) fn fail_payout(
        &self,
        payout: &str,
        reason: &str,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let reason = Note::parse(reason).map_err(PayoutRefusal::from)?;
        self.decide_payout(payout, Verdict::Failed { reason }, now)
    }

    /// Takes a person's word. Repeating it changes nothing.
    fn decide_payout(&self, text: &str, verdict: Verdict, now: UnixMs) -> Result<AdminReply, AdminError> {
        let unknown = || PayoutRefusal::Unknown(text.chars().take(64).collect());
        let id = PayoutId::parse(text).map_err(|_| unknown())?;
        let _one = self.shared.payouts.one.lock();
        let known = || self.shared.core.lock().payouts.get(id).cloned().ok_or_else(unknown);
        let payout = known()?;
        let ended = || PayoutRefusal::Ended {
            payout: id.to_string(),
            state: payout.state.word(),
            note: payout.state.note().map(ToString::to_string).unwrap_or_default(),
        };
        let standing = match (&payout.state, verdict) {
            (PayoutState::Paid(before), Verdict::Paid { reference }) if *before == reference => None,
            (PayoutState::Failed(_), Verdict::Failed { .. }) => None,
            (PayoutState::Paid(_), _) | (PayoutState::Late(_), Verdict::Failed { .. }) => {
                return Err(ended().into());
            }
            (PayoutState::Planned, Verdict::Paid { .. }) => {
                return Err(PayoutRefusal::NotSent(id.to_string()).into());
            }
            (PayoutState::Planned, verdict) => Some(verdict.into()),
            (PayoutState::Sending, verdict) => Some(self.by_hand(id, &payout, &verdict)?),
            (PayoutState::Failed(_) | PayoutState::Late(_), verdict) => {
                self.must_be_by_hand()?;
                Some(verdict.into())
            }
        };
        let end = match standing {
            Some(standing) => self.shared.take_standing(id, &standing, now).map_err(PayoutRefusal::from)?,
            None => PayoutEnd::Nothing,
        };
        self.flush()?;
        let payout = known()?;
        let late = |is_booked| {
            let seller = self.shared.core.lock().seller_name(payout.seller);
            let payout = id.to_string();
            Err(PayoutRefusal::PaidAfterFailure { payout, seller, is_booked }.into())
        };
        match (end, &payout.state) {
            (PayoutEnd::Late { is_booked }, _) => late(is_booked),
            (_, PayoutState::Late(_)) => late(false),
            _ => {
                let seller = self.shared.core.lock().seller_name(payout.seller);
                Ok(AdminReply::Payout { payout: PayoutLine::of(id, &payout, seller, None) })
            }
        }
    }

    /// A person's word on what is on its way; the rail must have it first, and after a restart it has nothing.
    fn by_hand(&self, id: PayoutId, payout: &Payout, verdict: &Verdict) -> Result<Standing, AdminError> {
        self.must_be_by_hand()?;
        let rail = &self.shared.config.payouts.rail;
        if payout.rail != rail.capabilities().name {
            return Err(PayoutRefusal::Rail(RailError::NeverSent(id)).into());
        }
        let sent = self.shared.sent(id, payout).map_err(PayoutRefusal::from)?;
        Ok(sent.and_then(|_| rail.decide(id, verdict)).map_err(PayoutRefusal::from)?)
    }

    fn must_be_by_hand(&self) -> Result<(), AdminError> {
        let can = self.shared.config.payouts.rail.capabilities();
        if can.is_by_hand { Ok(()) } else { Err(PayoutRefusal::Rail(RailError::NotByHand(can.name)).into()) }
    }

    pub(super) fn payout_address(
        &self,
        name: &str,
        address: Option<&str>,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let unknown = || PayoutRefusal::NoSeller(name.chars().take(64).collect());
        let bare = name.strip_prefix(SELLER_PREFIX).unwrap_or(name);
        let seller = SellerName::parse(bare).map_err(|_| unknown())?;
        let payee = address.map(Payee::parse).transpose().map_err(PayoutRefusal::from)?;
        let rail = &self.shared.config.payouts.rail;
        if let Some(payee) = &payee {
            let refused =
                |why: Note| PayoutRefusal::Payee { rail: rail.capabilities().name, why: why.to_string() };
            rail.check(payee).map_err(refused)?;
        }
        let mut is_new = false;
        self.shared.change(|core| {
            is_new = core.names.seller(&seller).is_none();
            core.set_payee(&seller, payee, now).map(drop)
        })?;
        self.flush()?;
        let address = address.map(str::to_owned);
        Ok(AdminReply::PayoutAddress { seller: seller.to_string(), address, is_new })
    }
}

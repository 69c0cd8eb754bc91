//! Payouts as they are shown, and what is owed beside them with the reason why it is not paid.

use super::{Payout, PayoutState};
use crate::books::{signed, usd};
use crate::core::{Core, Withheld};
use crate::csv;
use bourse_types::{AccountId, NanoUsd, PayoutId, UnixMs};
use serde::{Deserialize, Serialize};

/// A payout. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutLine {
    /// Its id, the same for ever.
    pub id: String,
    /// Whose.
    pub seller: String,
    /// To where.
    pub payee: String,
    /// How much.
    pub amount_usd: String,
    /// By which rail.
    pub rail: String,
    /// `planned`, `sending`, `paid`, `failed` or `late` (paid after it had failed).
    pub state: String,
    /// When it was planned, in Unix milliseconds.
    pub planned_ms: u64,
    /// Since when it is in this state.
    pub since_ms: u64,
    /// The rail's reference, or the reason why it failed.
    pub note: Option<String>,
    /// Why the rail did not answer when it was last asked.
    pub trouble: Option<String>,
}

impl PayoutLine {
    /// Whether it is on its way.
    pub fn is_open(&self) -> bool {
        self.state == PayoutState::Planned.word() || self.state == PayoutState::Sending.word()
    }

    /// Rows with commas, a head first, for a spreadsheet or a bank.
    pub fn csv(payouts: &[Self]) -> String {
        let mut text = csv::row(&[
            "payout",
            "planned_at",
            "since",
            "seller",
            "amount_usd",
            "payee",
            "rail",
            "state",
            "note",
        ]);
        for payout in payouts {
            let [planned, since] = [payout.planned_ms, payout.since_ms].map(|ms| UnixMs(ms).to_iso_string());
            text.push_str(&csv::row(&[
                &payout.id,
                &planned,
                &since,
                &payout.seller,
                &payout.amount_usd,
                &payout.payee,
                &payout.rail,
                &payout.state,
                payout.note.as_deref().unwrap_or_default(),
            ]));
        }
        text
    }

    pub(crate) fn of(id: PayoutId, payout: &Payout, seller: String, trouble: Option<String>) -> Self {
        Self {
            id: id.to_string(),
            seller,
            payee: payout.payee.as_str().to_owned(),
            amount_usd: payout.amount.to_usd_string(),
            rail: payout.rail.clone(),
            state: payout.state.word().to_owned(),
            planned_ms: id.time().0,
            since_ms: payout.since.0,
            note: payout.state.note().map(|note| note.as_str().to_owned()),
            trouble: if matches!(payout.state, PayoutState::Paid(_)) { None } else { trouble },
        }
    }
}

/// What a seller is owed beside what is on its way. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedLine {
    /// Whose.
    pub seller: String,
    /// What is owed and not held.
    pub owed_usd: String,
    /// Where the seller takes money.
    pub payee: Option<String>,
    /// Why the next run pays nothing of it; none when it pays.
    pub withheld: Option<String>,
}

impl OwedLine {
    pub(crate) fn of(
        core: &Core,
        seller: AccountId,
        owed: u128,
        decided: &Result<NanoUsd, Withheld>,
    ) -> Self {
        Self {
            seller: core.seller_name(seller),
            owed_usd: usd(signed(owed)),
            payee: core.payouts.payee(seller).map(|payee| payee.as_str().to_owned()),
            withheld: decided.as_ref().err().map(ToString::to_string),
        }
    }
}

//! Accounts: what they are for, which limit guards them, and their four sums.
//!
//! Balances are kept as sums of debits and credits, pending and posted apart, and never as one signed
//! number: a sum only grows (posted) or is explained by open holds (pending), which makes every
//! invariant a comparison of unsigned integers.

use bourse_types::{AccountId, NanoUsd};

/// What an account is for. Reports group by it; the state machine itself treats all kinds alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Money that a buyer may spend.
    Customer,
    /// What is left of the limit of one key. Mirrors spending, holds no money of its own.
    KeyAllowance,
    /// What the market owes a seller.
    SellerPayable,
    /// The market's fee.
    Fee,
    /// What rounding up left over.
    Rounding,
    /// Where free credit comes from.
    Subsidy,
    /// Where a charge rests between buyer and seller within one chain.
    Clearing,
    /// The other side of entries that are no money, such as allowances.
    Control,
}

impl AccountKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Customer,
        Self::KeyAllowance,
        Self::SellerPayable,
        Self::Fee,
        Self::Rounding,
        Self::Subsidy,
        Self::Clearing,
        Self::Control,
    ];

    /// The kind in lower-case words joined by `_`, as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::KeyAllowance => "key_allowance",
            Self::SellerPayable => "seller_payable",
            Self::Fee => "fee",
            Self::Rounding => "rounding",
            Self::Subsidy => "subsidy",
            Self::Clearing => "clearing",
            Self::Control => "control",
        }
    }

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// The rule that a balance must keep after every transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BalanceLimit {
    /// No rule: the account may go either way.
    None,
    /// Debits, pending ones included, never exceed posted credits: nobody spends what they do not have.
    DebitsWithinCredits,
    /// Credits, pending ones included, never exceed posted debits.
    CreditsWithinDebits,
}

impl BalanceLimit {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::None, Self::DebitsWithinCredits, Self::CreditsWithinDebits].get(usize::from(code)).copied()
    }
}

/// An account as it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its id, chosen by the opener.
    pub id: AccountId,
    /// What it is for.
    pub kind: AccountKind,
    /// The rule that its balance keeps.
    pub limit: BalanceLimit,
}

/// The four sums of an account, in nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Balance {
    /// Held debits.
    pub debits_pending: u128,
    /// Settled debits.
    pub debits_posted: u128,
    /// Held credits.
    pub credits_pending: u128,
    /// Settled credits.
    pub credits_posted: u128,
}

impl Balance {
    /// What the account may still spend: posted credits less all debits; zero when it is in debt.
    pub fn available(&self) -> u128 {
        self.credits_posted.saturating_sub(self.debits_posted).saturating_sub(self.debits_pending)
    }

    /// Posted credits less posted debits, with its sign. Saturates far beyond any sum of `u64` transfers.
    pub fn net_posted(&self) -> i128 {
        let signed = |sum: u128| i128::try_from(sum).unwrap_or(i128::MAX);
        signed(self.credits_posted).saturating_sub(signed(self.debits_posted))
    }

    /// Whether the balance keeps `limit`.
    pub fn keeps(&self, limit: BalanceLimit) -> bool {
        match limit {
            BalanceLimit::None => true,
            BalanceLimit::DebitsWithinCredits => self
                .debits_pending
                .checked_add(self.debits_posted)
                .is_some_and(|debits| debits <= self.credits_posted),
            BalanceLimit::CreditsWithinDebits => self
                .credits_pending
                .checked_add(self.credits_posted)
                .is_some_and(|credits| credits <= self.debits_posted),
        }
    }

    pub(crate) fn debit(&mut self, phase: Phase, amount: NanoUsd) -> Option<()> {
        add(if phase == Phase::Pending { &mut self.debits_pending } else { &mut self.debits_posted }, amount)
    }

    pub(crate) fn credit(&mut self, phase: Phase, amount: NanoUsd) -> Option<()> {
        add(
            if phase == Phase::Pending { &mut self.credits_pending } else { &mut self.credits_posted },
            amount,
        )
    }

    pub(crate) fn release_debit(&mut self, amount: NanoUsd) -> Option<()> {
        subtract(&mut self.debits_pending, amount)
    }

    pub(crate) fn release_credit(&mut self, amount: NanoUsd) -> Option<()> {
        subtract(&mut self.credits_pending, amount)
    }
}

/// Which pair of sums a movement touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Posted,
}

fn add(sum: &mut u128, amount: NanoUsd) -> Option<()> {
    *sum = sum.checked_add(u128::from(amount.0))?;
    Some(())
}

fn subtract(sum: &mut u128, amount: NanoUsd) -> Option<()> {
    *sum = sum.checked_sub(u128::from(amount.0))?;
    Some(())
}

//! Accounts: what they are for, which limit guards them, and their four sums.
//!
//! Balances are kept as sums of debits and credits, pending and posted apart, and never as one signed
//! number: a sum only grows (posted) or is explained by open holds (pending), which makes every
//! invariant a comparison of unsigned integers.

use bourse_types::{AccountId, NanoUsd};
use std::fmt;

/// What an account counts. A transfer never crosses units; to give one for another takes two transfers in one chain, each
/// between accounts of its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Unit(u16);

/// Where the codes of classes of credit begin.
const CREDIT_CODES: u16 = 0x100;

impl Unit {
    /// Money: 10⁻⁹ US dollars.
    pub const NANO_USD: Self = Self(0);
    /// Capacity that was bought ahead: one token a second, for a second.
    pub const TOKEN_SECONDS: Self = Self(1);
    /// Requests, for limits on how many there may be in a time.
    pub const REQUESTS: Self = Self(2);
    /// Tokens, for limits on how many there may be in a time.
    pub const TOKENS: Self = Self(3);

    /// Credits of a class, such as those that one seller gives away. Worth nothing outside it.
    pub const fn credits(class: u8) -> Self {
        Self(CREDIT_CODES + class as u16)
    }

    pub(crate) fn code(self) -> u16 {
        self.0
    }

    pub(crate) fn from_code(code: u16) -> Option<Self> {
        let is_known = code <= Self::TOKENS.0 || (CREDIT_CODES..=CREDIT_CODES + 0xff).contains(&code);
        is_known.then_some(Self(code))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NANO_USD => f.write_str("nano-USD"),
            Self::TOKEN_SECONDS => f.write_str("token-seconds"),
            Self::REQUESTS => f.write_str("requests"),
            Self::TOKENS => f.write_str("tokens"),
            Self(code) => write!(f, "credits of class {}", code - CREDIT_CODES),
        }
    }
}

/// A whole number of an account's [`Unit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The same as money, for an account that counts money.
    pub const fn nano_usd(self) -> NanoUsd {
        NanoUsd(self.0)
    }
}

impl From<NanoUsd> for Amount {
    fn from(amount: NanoUsd) -> Self {
        Self(amount.0)
    }
}

/// What an account is for. Reports group by it; the state machine itself treats all kinds alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Money that a buyer may spend.
    Customer,
    /// What is left of a limit of a key, a workspace or an organisation, in money, requests or tokens. Mirrors what
    /// happens, holds no money of its own.
    Allowance,
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
    /// A part of a customer's money that is set apart: for a channel, an agent, a workspace, a run.
    SubAccount,
    /// What is kept back to pay those who check sellers' work.
    VerifierPool,
    /// What is kept back to make good for sellers that fail.
    Insurance,
    /// What is taken out of the market for good.
    Burn,
    /// Money that lies with somebody else for the market: the asset behind what it owes.
    Escrow,
    /// What cannot be booked yet, such as a seller's claim that does not match what was delivered.
    Suspense,
}

impl AccountKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [Self; 14] = [
        Self::Customer,
        Self::Allowance,
        Self::SellerPayable,
        Self::Fee,
        Self::Rounding,
        Self::Subsidy,
        Self::Clearing,
        Self::Control,
        Self::SubAccount,
        Self::VerifierPool,
        Self::Insurance,
        Self::Burn,
        Self::Escrow,
        Self::Suspense,
    ];

    /// The kind in lower-case words joined by `_`, as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Allowance => "allowance",
            Self::SellerPayable => "seller_payable",
            Self::Fee => "fee",
            Self::Rounding => "rounding",
            Self::Subsidy => "subsidy",
            Self::Clearing => "clearing",
            Self::Control => "control",
            Self::SubAccount => "sub_account",
            Self::VerifierPool => "verifier_pool",
            Self::Insurance => "insurance",
            Self::Burn => "burn",
            Self::Escrow => "escrow",
            Self::Suspense => "suspense",
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
    /// The rule in lower-case words joined by `_`, as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::DebitsWithinCredits => "debits_within_credits",
            Self::CreditsWithinDebits => "credits_within_debits",
        }
    }

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
    /// What it counts.
    pub unit: Unit,
}

impl Account {
    /// An account that counts money.
    pub const fn of_money(id: AccountId, kind: AccountKind, limit: BalanceLimit) -> Self {
        Self { id, kind, limit, unit: Unit::NANO_USD }
    }
}

/// The four sums of an account, in its unit.
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

    pub(crate) fn debit(&mut self, phase: Phase, amount: Amount) -> Option<()> {
        add(if phase == Phase::Pending { &mut self.debits_pending } else { &mut self.debits_posted }, amount)
    }

    pub(crate) fn credit(&mut self, phase: Phase, amount: Amount) -> Option<()> {
        add(
            if phase == Phase::Pending { &mut self.credits_pending } else { &mut self.credits_posted },
            amount,
        )
    }

    pub(crate) fn release_debit(&mut self, amount: Amount) -> Option<()> {
        subtract(&mut self.debits_pending, amount)
    }

    pub(crate) fn release_credit(&mut self, amount: Amount) -> Option<()> {
        subtract(&mut self.credits_pending, amount)
    }
}

/// Which pair of sums a movement touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Posted,
}

fn add(sum: &mut u128, amount: Amount) -> Option<()> {
    *sum = sum.checked_add(u128::from(amount.0))?;
    Some(())
}

fn subtract(sum: &mut u128, amount: Amount) -> Option<()> {
    *sum = sum.checked_sub(u128::from(amount.0))?;
    Some(())
}

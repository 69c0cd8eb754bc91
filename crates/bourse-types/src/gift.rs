//! What buyers do not pay for, at list price: how much it is worth and who bears it.

use crate::money::NanoUsd;

/// Who bears what a buyer does not pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Giver {
    /// The seller: nobody pays it.
    Seller = 0,
    /// The market: it pays the seller the list price out of its subsidy account.
    Market = 1,
}

impl Giver {
    /// All values in order of their numbers.
    pub const ALL: [Self; 2] = [Self::Seller, Self::Market];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        ["seller", "market"][self as usize]
    }

    /// The one of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// One request that its buyer does not pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gift {
    /// What it would cost at list price.
    pub list: NanoUsd,
    /// Who bears it.
    pub giver: Giver,
}

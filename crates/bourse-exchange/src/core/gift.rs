//! What buyers do not pay for: posted at list price, and never as revenue.
//!
//! A request under a free offer with a list price ends with one movement more in its chain, none of which touches clearing
//! or the buyer. What the market gives goes from the subsidy account straight to the seller, who is paid: the market's
//! expense. What the seller gives is nobody's money; it is noted between two accounts of no money, `memo` and `free`, so
//! that the balance of `free` is the list price of all that was given away. Revenue is what comes out of clearing, so
//! neither can pass as it. Why so: docs/decisions/0020.

use super::{Core, PreparedSettlement};
use crate::names::{FREE, FREE_NAME, MEMO, MEMO_NAME, SUBSIDY};
use bourse_ledger::{Account, AccountKind, BalanceLimit};
use bourse_types::{AccountId, Gift, Giver, NanoUsd, UnixMs};
use bourse_wire::funds::FundsError;

impl PreparedSettlement<'_> {
    /// What the seller gets out of the subsidy account.
    pub(super) fn subsidy(&self) -> NanoUsd {
        match self.gift {
            Some(Gift { list, giver: Giver::Market }) => list,
            _ => NanoUsd::ZERO,
        }
    }

    /// What the seller gets in all, from whomever: it is charged for or subsidised, never both.
    pub(super) fn sellers_share(&self) -> NanoUsd {
        self.split.seller.max(self.subsidy())
    }

    /// Whether the gift is one: of a seller, and of a request that costs its buyer nothing.
    pub(super) fn has_odd_gift(&self) -> bool {
        self.gift.is_some()
            && (self.seller.is_none() || self.split.total > NanoUsd::ZERO || self.byok > NanoUsd::ZERO)
    }

    /// The movement of what the buyer does not pay for; `seller` is whose account gets the seller's share.
    pub(super) fn gift_move(&self, seller: Option<AccountId>) -> Option<(AccountId, AccountId, NanoUsd)> {
        let gift = self.gift.filter(|gift| gift.list > NanoUsd::ZERO)?;
        match gift.giver {
            Giver::Market => Some((SUBSIDY, seller?, gift.list)),
            Giver::Seller => Some((MEMO, FREE, gift.list)),
        }
    }
}

impl Core {
    /// The accounts that a gift of a seller is noted in. Books that are older than they open them when they are first
    /// needed.
    pub(super) fn memo_accounts(&mut self, now: UnixMs) -> Result<(), FundsError> {
        for (id, name) in [(FREE, FREE_NAME), (MEMO, MEMO_NAME)] {
            self.house_account(Account::of_money(id, AccountKind::Control, BalanceLimit::None), name, now)?;
        }
        Ok(())
    }
}

//! The laws of the books, checked from the outside: what an auditor would recompute.

use crate::account::{Balance, Unit};
use crate::state::State;
use bourse_types::AccountId;
use std::collections::BTreeMap;

/// Sums over all accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// The sums over the accounts that count money, in nano-USD.
    pub sums: Balance,
    /// Accounts.
    pub accounts: usize,
    /// Open holds.
    pub pendings: usize,
}

/// A rule of the books that does not hold: a fault of the ledger itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// Debits and credits differ.
    #[error("books do not sum to zero in {0}: {1:?}")]
    Unbalanced(Unit, Balance),
    /// An account broke its limit.
    #[error("account {0:?} broke its limit")]
    LimitBroken(AccountId),
    /// Pending sums are not what the open holds say.
    #[error("pending sums of account {0:?} are not explained by open holds")]
    HoldsUnexplained(AccountId),
}

impl State {
    /// Checks the laws of the books: zero sum, limits kept, holds explain every pending nano-dollar.
    pub fn check_books(&self) -> Result<Totals, BooksError> {
        let mut explained = vec![Balance::default(); self.slots.len()];
        for hold in self.holds.values() {
            explained[hold.debit as usize].debits_pending += u128::from(hold.amount.0);
            explained[hold.credit as usize].credits_pending += u128::from(hold.amount.0);
        }
        let mut sums: BTreeMap<Unit, Balance> = BTreeMap::new();
        for (slot, explained) in self.slots.iter().zip(&explained) {
            let b = &slot.balance;
            if !b.keeps(slot.account.limit) {
                return Err(BooksError::LimitBroken(slot.account.id));
            }
            if (b.debits_pending, b.credits_pending) != (explained.debits_pending, explained.credits_pending)
            {
                return Err(BooksError::HoldsUnexplained(slot.account.id));
            }
            let sums = sums.entry(slot.account.unit).or_default();
            sums.debits_pending += b.debits_pending;
            sums.debits_posted += b.debits_posted;
            sums.credits_pending += b.credits_pending;
            sums.credits_posted += b.credits_posted;
        }
        for (unit, sums) in &sums {
            if sums.debits_posted != sums.credits_posted || sums.debits_pending != sums.credits_pending {
                return Err(BooksError::Unbalanced(*unit, *sums));
            }
        }
        let sums = sums.remove(&Unit::NANO_USD).unwrap_or_default();
        Ok(Totals { sums, accounts: self.slots.len(), pendings: self.holds.len() })
    }
}

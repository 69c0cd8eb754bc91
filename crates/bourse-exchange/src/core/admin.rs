//! What an operator changes beside keys: accounts and credit.
//!
//! Like everything else these are applied in memory and journalled in one step.

use super::Core;
use crate::names::{HOUSE, SUBSIDY};
use crate::record;
use bourse_ledger::{
    Account, AccountKind, Amount, BalanceLimit, Event, Limits, Transfer, TransferKind, Unit,
};
use bourse_types::{AccountId, NanoUsd, TransferId, UnixMs};
use bourse_wire::funds::{Claim, FundsError};

impl Core {
    /// Begins an empty ledger: genesis, the house's accounts, the operator's starting credit.
    pub(crate) fn begin(
        &mut self,
        limits: &Limits,
        credit: NanoUsd,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.write_genesis(limits);
        for (name, account) in HOUSE {
            self.apply_one(Event::Open(account), now)?;
            record::put_name(&mut self.group.bytes, account.id, name);
            self.names.add(account.id, name.to_owned());
        }
        if credit > NanoUsd::ZERO {
            self.grant_credit(crate::names::OPERATOR, credit, id, now)?;
        }
        Ok(())
    }

    /// Does something once under a claim: it and the claim are written down together.
    pub(crate) fn once<E: From<FundsError>>(
        &mut self,
        claim: Option<&Claim>,
        now: UnixMs,
        act: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(claim) = claim else { return act(self) };
        let now = now.max(self.now());
        self.claims.check(claim, now)?;
        act(self)?;
        Ok(self.claim(claim, None, now)?)
    }

    /// Posts credit from the subsidy account.
    pub(crate) fn grant_credit(
        &mut self,
        account: AccountId,
        amount: NanoUsd,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.running()?;
        self.post(id, SUBSIDY, account, amount, now)
    }

    /// The customer account of this name, opened when there is none.
    pub(crate) fn customer(&mut self, name: &str, now: UnixMs) -> Result<AccountId, FundsError> {
        self.running()?;
        match self.names.account(name) {
            Some(account) => Ok(account),
            None => self.open_account(
                name.to_owned(),
                AccountKind::Customer,
                BalanceLimit::DebitsWithinCredits,
                Unit::NANO_USD,
                now,
            ),
        }
    }

    /// An account of the house that older books do not have: opened when it is first needed.
    pub(super) fn house_account(
        &mut self,
        account: Account,
        name: &str,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        if self.state.account(account.id).is_none() {
            self.apply_one(Event::Open(account), now)?;
            record::put_name(&mut self.group.bytes, account.id, name);
            self.names.add(account.id, name.to_owned());
        }
        Ok(())
    }

    pub(super) fn post(
        &mut self,
        id: TransferId,
        debit: AccountId,
        credit: AccountId,
        amount: impl Into<Amount>,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let kind = TransferKind::Single { debit, credit, amount: amount.into() };
        self.apply_one(Event::Transfer(Transfer { id, linked: false, kind }), now).map(drop)
    }
}

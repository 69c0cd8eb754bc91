//! What an operator changes: accounts, credit, keys and their limits.
//!
//! Like everything else these are applied in memory and journalled in one step. Lowering a limit below
//! what a key has spent and holds takes what is free at once and no more: holds already granted are
//! honoured.

use super::Core;
use crate::keys::{KEYS_MAX, KeyRow};
use crate::names::{ALLOWANCES, HOUSE, SUBSIDY};
use crate::record;
use bourse_ledger::{AccountKind, BalanceLimit, Event, Limits, Transfer, TransferKind};
use bourse_types::{AccountId, KeyHash, NanoUsd, TransferId, UnixMs};
use bourse_wire::funds::FundsError;

/// A key to be made.
#[derive(Debug, Clone)]
pub(crate) struct KeyCreation {
    pub(crate) hash: KeyHash,
    pub(crate) account: AccountId,
    pub(crate) limit: Option<NanoUsd>,
    pub(crate) label: String,
}

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
                now,
            ),
        }
    }

    pub(crate) fn create_key(
        &mut self,
        asked: KeyCreation,
        id: TransferId,
        now: UnixMs,
    ) -> Result<KeyRow, FundsError> {
        self.running()?;
        if self.keys.len() >= KEYS_MAX {
            return Err(FundsError::TooMany("keys"));
        }
        let KeyCreation { hash, account, limit, label } = asked;
        let row = KeyRow { hash, account, allowance: None, limit: None, revoked: None, created: now, label };
        self.put_key(row.clone());
        match limit {
            Some(_) => self.limit_key(&hash, limit, id, now),
            None => Ok(row),
        }
    }

    pub(crate) fn revoke_key(&mut self, hash: &KeyHash, now: UnixMs) -> Result<KeyRow, FundsError> {
        self.running()?;
        let mut row = self.keys.get(hash).ok_or(FundsError::UnknownKey)?.row.clone();
        row.revoked.get_or_insert(now);
        self.put_key(row.clone());
        Ok(row)
    }

    pub(crate) fn limit_key(
        &mut self,
        hash: &KeyHash,
        limit: Option<NanoUsd>,
        id: TransferId,
        now: UnixMs,
    ) -> Result<KeyRow, FundsError> {
        self.running()?;
        let key = self.keys.get(hash).ok_or(FundsError::UnknownKey)?;
        let (mut row, used) = (key.row.clone(), key.used);
        row.limit = limit;
        if let Some(limit) = limit {
            let allowance = match row.allowance {
                Some(allowance) => allowance,
                None => self.open_account(
                    format!("allowance:{}", row.id()),
                    AccountKind::KeyAllowance,
                    BalanceLimit::DebitsWithinCredits,
                    now,
                )?,
            };
            row.allowance = Some(allowance);
            let bound = used.saturating_add(self.held_by_key(hash));
            let wanted = u128::from(limit.0).saturating_sub(bound);
            self.set_available(allowance, wanted, id, now)?;
        }
        self.put_key(row.clone());
        Ok(row)
    }

    /// Moves between allowance and its other side until `wanted` is free.
    fn set_available(
        &mut self,
        allowance: AccountId,
        wanted: u128,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let free = self.state.account(allowance).map_or(0, |(_, balance)| balance.available());
        let amount = |difference: u128| NanoUsd(u64::try_from(difference).unwrap_or(u64::MAX));
        match (wanted.checked_sub(free), free.checked_sub(wanted)) {
            (Some(more), _) if more > 0 => self.post(id, ALLOWANCES, allowance, amount(more), now),
            (_, Some(less)) if less > 0 => self.post(id, allowance, ALLOWANCES, amount(less), now),
            _ => Ok(()),
        }
    }

    fn post(
        &mut self,
        id: TransferId,
        debit: AccountId,
        credit: AccountId,
        amount: NanoUsd,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let kind = TransferKind::Single { debit, credit, amount };
        self.apply_one(Event::Transfer(Transfer { id, linked: false, kind }), now).map(drop)
    }

    fn put_key(&mut self, row: KeyRow) {
        record::put_key(&mut self.group.bytes, &row);
        self.keys.put(row);
    }
}

//! Opening and closing cases in suspense.

use super::Core;
use crate::names::{SUSPENSE, SUSPENSE_NAME};
use crate::record;
use crate::suspense::{Party, SuspenseRecord};
use bourse_ledger::{Account, AccountKind, BalanceLimit};
use bourse_types::{AccountId, RequestId, TransferId, UnixMs};
use bourse_wire::funds::FundsError;

/// What became of a request to give a share to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It is theirs now.
    Done,
    /// There is no open case of this request.
    NotOpen,
}

impl Core {
    /// The account of shares in suspense.
    pub(super) fn suspense_account(&mut self, now: UnixMs) -> Result<AccountId, FundsError> {
        if self.suspense.is_full() {
            return Err(FundsError::TooMany("cases in suspense"));
        }
        let account = Account::of_money(SUSPENSE, AccountKind::Suspense, BalanceLimit::DebitsWithinCredits);
        self.house_account(account, SUSPENSE_NAME, now)?;
        Ok(SUSPENSE)
    }

    /// Writes evidence down and takes it.
    pub(super) fn write_case(&mut self, record: SuspenseRecord) {
        record::put_suspense(&mut self.group.bytes, &record);
        self.suspense.take(record).expect("a case is opened by its settlement and resolved when it is open");
    }

    /// Gives a share that waits in suspense to one of the two who may have it.
    pub(crate) fn resolve(
        &mut self,
        request: RequestId,
        to: Party,
        id: TransferId,
        now: UnixMs,
    ) -> Result<Resolution, FundsError> {
        self.running()?;
        let Some(case) = self.suspense.get(request).cloned() else { return Ok(Resolution::NotOpen) };
        let credit = match to {
            Party::Seller => self.seller_account(&case.seller, now)?,
            Party::Buyer => case.customer,
        };
        self.post(id, SUSPENSE, credit, case.amount, now)?;
        self.write_case(SuspenseRecord::Resolved { request, to });
        Ok(Resolution::Done)
    }

    /// A movement that nothing explains, for the audit to find.
    #[cfg(test)]
    pub(crate) fn move_between(
        &mut self,
        debit: AccountId,
        credit: AccountId,
        amount: bourse_types::NanoUsd,
        id: TransferId,
    ) -> Result<(), FundsError> {
        let now = self.now();
        self.post(id, debit, credit, amount, now)
    }
}

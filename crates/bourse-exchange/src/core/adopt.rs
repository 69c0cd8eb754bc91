//! Taking up a hold that outlived the exchange that granted it.
//!
//! A hold is answered before it is on disk, so of the holds of an exchange that died some are in the journal and some are
//! not, and only their gateway knows all of them. It therefore asks for each of them once more, with every extension, in
//! order and under the same ids, before it says anything else. A hold that the journal does not have is made as for the
//! first time; one that it has is adopted here, with the amount of the first request, and grows with each extension that
//! is repeated, which the ledger knows already. So the exchange need not find out of a hold what only its gateway can
//! say (which key, how many steps), and never more can be settled than what was both held and repeated.
//!
//! A key that was taken away or has expired since is no reason to refuse the hold: what has begun may end. Extensions
//! under a key that was taken away are refused, repeated or not, so then at most the first part is paid for.
//!
//! Limits: whether a budget counts what own sellers bill is what it says now. One that is set for the first time between
//! the take-over and the repetition is fitted without what these holds have; they are counted from its next change on.

use super::{Core, OpenRequest, Role};
use bourse_ledger::Pending;
use bourse_types::NanoUsd;
use bourse_wire::funds::{FundsError, HoldRequest};

impl Core {
    /// True when the books hold money for this request that no process knows of, and it is this one's from now on.
    pub(super) fn adopt(&mut self, asked: &HoldRequest) -> Result<bool, FundsError> {
        let hold = self.state.pending(Role::Hold.of(asked.request));
        let Some(hold) = hold.filter(|_| !self.open.contains_key(&asked.request)) else { return Ok(false) };
        let key = self.keys.get(&asked.grant.key).ok_or(FundsError::UnknownKey)?;
        let is_same = key.row.account == hold.debit && asked.grant.account == hold.debit;
        if !is_same || hold.expires_at != asked.expires || !covers(&hold, asked.amount) {
            return Err(FundsError::Conflict);
        }
        let mut allowances = self.booked_draws(asked.request, key)?;
        for hold in &mut allowances {
            hold.held = hold.counted(asked.amount, asked.byok)?;
        }
        let (key, held, byok) = (asked.grant.key, asked.amount, asked.byok);
        let has_claim = self.claims.has(asked.request);
        let open = OpenRequest { key, held, byok, step: 0, first: held, allowances, has_claim };
        self.note_mixed(&open);
        self.put_open(asked.request, open);
        Ok(true)
    }
}

fn covers(hold: &Pending, amount: NanoUsd) -> bool {
    hold.amount.nano_usd() >= amount
}

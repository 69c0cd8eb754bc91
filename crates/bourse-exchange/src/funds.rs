//! The two ports of the exchange: money for gateways, records for whoever asks about the past.

use crate::core::{PreparedSettlement, Split};
use crate::exchange::Exchange;
use crate::index::{ActivityRange, Found, IndexError, Sale, first_kept};
use crate::spend::nano;
use bourse_proof::merkle::leaf_hash;
use bourse_types::{AccountId, Charge, Digest32, KeyHash, NanoUsd, RequestId, UnixMs, UtcDay};
use bourse_wire::funds::{
    ActivityQuery, ActivityRow, Attendance, Billing, BoxFuture, Claim, CommitTicket, Funds, FundsError,
    Generation, HoldExtension, HoldRequest, KeyGrant, KeyStatus, Outcome, Outcomes, PolicyId, Records,
    Settled, Settlement,
};
use bourse_wire::receipt::{Checkpoint, Receipt, ReceiptDocument};
use bytes::Bytes;
use std::sync::Arc;

impl Funds for Exchange {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        self.shared.core.lock().grant(key, now)
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        self.shared.change_in_memory(|core| core.hold(request))
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        self.shared.change_in_memory(|core| core.extend(extension))
    }

    /// A charge whose parts do not sum to its total, one without a seller, one for more than the recount allows, or one
    /// under another key than the hold's is [`FundsError::Conflict`].
    fn settle(&self, mut settlement: Settlement) -> Result<Settled, FundsError> {
        let split = self.split(&settlement.receipt)?;
        match settlement.billing {
            Billing::Credits => {
                settlement.receipt.fee = split.fee;
                settlement.note.byok_cost = None;
                let written = Written::of(&settlement);
                let prepared = written.prepared(&settlement, split);
                self.shared.change(|core| core.settle(&prepared))
            }
            Billing::Byok => self.settle_byok(&settlement),
        }
    }

    fn metered(&self, mut so_far: Settlement) -> Result<(), FundsError> {
        let split = self.split(&so_far.receipt)?;
        match so_far.billing {
            Billing::Credits => {
                so_far.receipt.fee = split.fee;
                so_far.note.byok_cost = None;
                let written = Written::of(&so_far);
                self.shared.change(|core| core.meter(&written.prepared(&so_far, split)))
            }
            Billing::Byok => self.shared.change(|core| {
                let list = so_far.receipt.charge.total;
                let fee =
                    core.byok_fee(&so_far.receipt.key_digest, list, &self.shared.config.byok, so_far.now);
                let billed = billed_fee(&so_far, fee.map_err(|_| FundsError::Conflict)?);
                let split = Split::fee_only(billed.receipt.fee);
                core.meter(&Written::of(&billed).prepared(&billed, split))
            }),
        }
    }

    /// A stretch that cannot have been is [`FundsError::Conflict`].
    fn attended(&self, attendance: Attendance, now: UnixMs) -> Result<(), FundsError> {
        self.shared.change(|core| core.attended(&attendance, now))
    }

    fn byok_fee(&self, grant: &KeyGrant, list: NanoUsd, now: UnixMs) -> Option<NanoUsd> {
        self.shared.core.lock().byok_fee(&grant.key_digest, list, &self.shared.config.byok, now).ok()
    }

    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let mut progress = self.shared.progress.subscribe();
        if progress.borrow_and_update().durable < ticket.0 {
            self.shared.hurry(ticket);
        }
        Box::pin(async move {
            let reached = progress.wait_for(|now| now.durable >= ticket.0 || now.failed.is_some()).await;
            match reached {
                Ok(now) if now.durable >= ticket.0 => Ok(()),
                Ok(now) => Err(now.failed.clone().unwrap_or(FundsError::Closing)),
                Err(_) => Err(FundsError::Closing),
            }
        })
    }
}

impl Records for Exchange {
    /// May commit the open group when the receipt is in it, so it can take as long as one `fsync`.
    fn receipt(&self, request: RequestId) -> Result<Option<ReceiptDocument>, FundsError> {
        let Some(found) = self.found(request)? else { return Ok(None) };
        let index = self.shared.caught_up_index().map_err(unreadable)?;
        let proof = index.prove(found.leaf).map_err(unreadable)?;
        Ok(Some(ReceiptDocument {
            exchange_signature: self.shared.signer.sign_receipt(&found.receipt),
            receipt: found.receipt,
            leaf_index: found.leaf,
            inclusion: proof.path,
            checkpoint: proof.checkpoint,
        }))
    }

    /// As [`Records::receipt`], it may commit the open group.
    fn generation(&self, request: RequestId) -> Result<Option<Generation>, FundsError> {
        let found = self.found(request)?;
        Ok(found.map(|Found { receipt, note, .. }| Generation { receipt, note }))
    }

    fn key_status(&self, key: &KeyHash, now: UnixMs) -> Result<KeyStatus, FundsError> {
        let core = self.shared.core.lock();
        core.running()?;
        let key = core.key(key, now)?;
        let balance = core.state.account(key.row.account).map(|(_, balance)| balance).unwrap_or_default();
        let scopes = key.row.scopes();
        let scopes = || scopes.iter().flatten();
        Ok(KeyStatus {
            budgets: scopes().flat_map(|scope| core.budget_statuses(scope, now)).collect(),
            rates: scopes().flat_map(|scope| core.rate_statuses(scope, now)).collect(),
            key: key.record(now),
            held: nano(balance.debits_pending),
            account_credited: nano(balance.credits_posted),
            account_spent: nano(balance.debits_posted),
            account_available: nano(balance.available()),
        })
    }

    /// Commits the open group first when it may hold settlements of a completed day.
    fn activity(
        &self,
        account: AccountId,
        query: &ActivityQuery,
        now: UnixMs,
    ) -> Result<Vec<ActivityRow>, FundsError> {
        let today = UtcDay::of(now);
        let Some(yesterday) = today.0.checked_sub(1).map(UtcDay) else { return Ok(Vec::new()) };
        let (first, last) = query
            .day
            .map_or((first_kept(today), yesterday), |day| (day.max(first_kept(today)), day.min(yesterday)));
        self.shared.flush()?;
        let range = ActivityRange {
            account: Receipt::digest_of_account(account),
            key: query.key.as_ref().map(Receipt::digest_of_key),
            first,
            last,
        };
        self.shared.caught_up_index().and_then(|index| index.activity(&range)).map_err(unreadable)
    }

    /// May read a part of the journal, and leaves the rest to the keeper.
    fn figures(&self, day: UtcDay, now: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        self.figures_of_day(day, now)
    }

    fn policy(&self, id: &PolicyId) -> Result<Option<Arc<str>>, FundsError> {
        let core = self.shared.core.lock();
        core.running()?;
        Ok(core.policies.text(id))
    }

    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        self.shared.caught_up_index().and_then(|index| index.checkpoint()).map_err(unreadable)
    }

    fn consistency(&self, from: u64) -> Result<Vec<Digest32>, FundsError> {
        self.shared.caught_up_index().and_then(|index| index.consistency(from)).map_err(unreadable)
    }
}

impl Outcomes for Exchange {
    fn claimed(&self, claim: &Claim, now: UnixMs) -> Result<(), FundsError> {
        let core = self.shared.core.lock();
        core.running()?;
        core.claims.check(claim, now.max(core.now()))
    }

    fn keep(&self, outcome: Outcome) -> BoxFuture<'static, Result<(), FundsError>> {
        self.shared.answers.keep(outcome)
    }

    fn outcome(
        &self,
        name: Digest32,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Option<Bytes>, FundsError>> {
        self.shared.answers.find(name, request)
    }
}

impl Exchange {
    /// How a bill is shared; none for more than the recount allows.
    fn split(&self, receipt: &Receipt) -> Result<Split, FundsError> {
        if receipt.recount.is_some_and(|recount| recount.is_exceeded_by(&receipt.usage_billed)) {
            return Err(FundsError::Conflict);
        }
        Split::of(&receipt.charge, self.shared.config.fee_bps).ok_or(FundsError::Conflict)
    }

    /// The fee depends on what the account used of its free allowance, so it is found under the lock, and the
    /// receipt is written there.
    fn settle_byok(&self, settlement: &Settlement) -> Result<Settled, FundsError> {
        let list = settlement.receipt.charge.total;
        if list > NanoUsd::ZERO && settlement.receipt.seller.is_none() {
            return Err(FundsError::Conflict);
        }
        let terms = &self.shared.config.byok;
        let settled = self.shared.change(|core| {
            let fee = core.byok_fee(&settlement.receipt.key_digest, list, terms, settlement.now);
            let billed = billed_fee(settlement, fee.map_err(|_| FundsError::Conflict)?);
            let written = Written::of(&billed);
            let split = Split::fee_only(billed.receipt.fee);
            core.settle(&PreparedSettlement { byok: list, ..written.prepared(&billed, split) })
        });
        match settled {
            // Repeated when less of the allowance was left than the first time: the receipt knows the fee.
            Err(error @ (FundsError::NoHold | FundsError::Conflict)) => {
                let found = self.found(settlement.receipt.request)?.ok_or_else(|| error.clone())?;
                let billed = billed_fee(settlement, found.receipt.fee);
                let is_same = (&billed.receipt, &billed.note) == (&found.receipt, &found.note);
                let ticket = self.ticket();
                if is_same { Ok(Settled { cost: billed.receipt.fee, ticket }) } else { Err(error) }
            }
            settled => settled,
        }
    }

    fn found(&self, request: RequestId) -> Result<Option<Found>, FundsError> {
        if self.shared.core.lock().receipt_waits(request) {
            self.shared.flush()?;
        }
        self.shared.caught_up_index().and_then(|index| index.find(request)).map_err(unreadable)
    }
}

/// The settlement as it is written when the buyer's own key served: charged is the fee alone.
fn billed_fee(settlement: &Settlement, fee: NanoUsd) -> Settlement {
    let mut billed = settlement.clone();
    billed.note.byok_cost = Some(settlement.receipt.charge.total);
    billed.note.gift = None;
    billed.receipt.fee = fee;
    billed.receipt.charge = Charge { request: fee, total: fee, ..Charge::ZERO };
    billed
}

/// Receipt and note as bytes, in one buffer.
struct Written {
    bytes: Vec<u8>,
    receipt_len: usize,
    leaf: Digest32,
}

impl Written {
    fn of(settlement: &Settlement) -> Self {
        let mut bytes = settlement.receipt.canonical_bytes();
        let (receipt_len, leaf) = (bytes.len(), leaf_hash(&bytes));
        settlement.note.write(&mut bytes);
        Self { bytes, receipt_len, leaf }
    }

    fn prepared<'a>(&'a self, settlement: &'a Settlement, split: Split) -> PreparedSettlement<'a> {
        let receipt = &settlement.receipt;
        let (receipt_bytes, note) = self.bytes.split_at(self.receipt_len);
        PreparedSettlement {
            request: receipt.request,
            seller: receipt.seller.as_ref(),
            suspended: Some(receipt).filter(|receipt| receipt.is_suspended()),
            key_digest: receipt.key_digest,
            account_digest: receipt.account_digest,
            split,
            byok: NanoUsd::ZERO,
            gift: settlement.note.gift,
            sale: Sale::of(receipt, &settlement.note),
            finish: receipt.finish,
            receipt: receipt_bytes,
            note,
            leaf: self.leaf,
            now: settlement.now,
        }
    }
}

fn unreadable(error: IndexError) -> FundsError {
    match error {
        IndexError::Proof(_) => FundsError::Conflict,
        other => FundsError::Journal(other.to_string()),
    }
}

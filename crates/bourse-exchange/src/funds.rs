//! The two ports of the exchange: money for gateways, records for whoever asks about the past.

use crate::core::{PreparedSettlement, Split};
use crate::exchange::Exchange;
use crate::index::IndexError;
use bourse_proof::merkle::leaf_hash;
use bourse_types::{Digest32, KeyHash, NanoUsd, RequestId};
use bourse_wire::funds::{
    BoxFuture, CommitTicket, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, KeyStatus, Records,
    Settled, Settlement,
};
use bourse_wire::receipt::{Checkpoint, ReceiptDocument};

impl Funds for Exchange {
    fn authenticate(&self, key: &KeyHash) -> Result<KeyGrant, FundsError> {
        self.shared.core.lock().grant(key)
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        self.shared.change_in_memory(|core| core.hold(request))
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        self.shared.change_in_memory(|core| core.extend(extension))
    }

    /// A charge whose parts do not sum to its total, a charge without a seller, or one under another key
    /// than the hold's is [`FundsError::Conflict`].
    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        let mut receipt = settlement.receipt;
        let split = Split::of(&receipt.charge, self.shared.config.fee_bps).ok_or(FundsError::Conflict)?;
        receipt.fee = split.fee;
        let bytes = receipt.canonical_bytes();
        let prepared = PreparedSettlement {
            request: receipt.request,
            seller: receipt.seller.as_ref(),
            key_digest: receipt.key_digest,
            account_digest: receipt.account_digest,
            split,
            leaf: leaf_hash(&bytes),
            receipt: &bytes,
            now: settlement.now,
        };
        self.shared.change(|core| core.settle(&prepared))
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
        if self.shared.core.lock().receipt_waits(request) {
            self.shared.flush()?;
        }
        let found = self.shared.caught_up_index().and_then(|index| index.find(request));
        let Some(found) = found.map_err(unreadable)? else { return Ok(None) };
        Ok(Some(ReceiptDocument {
            exchange_signature: self.shared.signer.sign_receipt(&found.receipt),
            receipt: found.receipt,
            leaf_index: found.leaf,
            inclusion: found.inclusion,
            checkpoint: found.checkpoint,
        }))
    }

    fn key_status(&self, key: &KeyHash) -> Result<KeyStatus, FundsError> {
        let core = self.shared.core.lock();
        core.running()?;
        let key = core.key(key)?;
        let balance = core.state.account(key.row.account).map(|(_, balance)| balance).unwrap_or_default();
        Ok(KeyStatus {
            label: key.row.label.clone(),
            limit: key.row.limit,
            used: nano(key.used),
            held: nano(balance.debits_pending),
            account_credited: nano(balance.credits_posted),
            account_spent: nano(balance.debits_posted),
            account_available: nano(balance.available()),
        })
    }

    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        self.shared.caught_up_index().and_then(|index| index.checkpoint()).map_err(unreadable)
    }

    fn consistency(&self, from: u64) -> Result<Vec<Digest32>, FundsError> {
        self.shared.caught_up_index().and_then(|index| index.consistency(from)).map_err(unreadable)
    }
}

/// A `u128` sum in the port's unit; saturates at 18 billion dollars.
fn nano(sum: u128) -> NanoUsd {
    NanoUsd(u64::try_from(sum).unwrap_or(u64::MAX))
}

fn unreadable(error: IndexError) -> FundsError {
    match error {
        IndexError::Proof(_) => FundsError::Conflict,
        other => FundsError::Journal(other.to_string()),
    }
}

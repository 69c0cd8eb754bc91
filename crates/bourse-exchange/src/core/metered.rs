//! What requests in flight have cost so far, for the case that nobody comes back for them.
//!
//! A gateway that streams says from time to time what it would settle if it ended now. The exchange keeps the last word
//! of each open request, in the journal too. A settlement replaces it. When the hold's time is over instead, because the
//! gateway or the exchange has died, what was metered is settled as it was said: the seller is paid for what the buyer
//! has received, and the buyer never pays for what it has not. The rest of the hold goes back.
//!
//! It is settled through the same door as everything else, so that chain, receipt, limits and sums are the usual ones.
//! Limits: one record for each open request; what came after the last durable one is lost to the seller.

use super::settle::{PreparedSettlement, Split};
use super::snapshot::put_count;
use super::{Core, OpenRequest, ReplayFailure, Role, WAITING_BYTES_MAX};
use crate::claims::ClaimEnd;
use crate::index::Sale;
use crate::record;
use bourse_ledger::{CodecError, Event, Reader};
use bourse_proof::merkle::leaf_hash;
use bourse_types::{NanoUsd, RequestId, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{FundsError, GenerationNote};
use bourse_wire::receipt::Receipt;
use std::collections::BTreeMap;

/// The last word about each open request that was metered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MeteredRequests(BTreeMap<RequestId, Metered>);

/// A receipt and its note as they will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Metered {
    receipt: Box<[u8]>,
    note: Box<[u8]>,
}

impl MeteredRequests {
    pub(super) fn remove(&mut self, request: &RequestId) {
        self.0.remove(request);
    }

    fn put(&mut self, request: RequestId, receipt: &[u8], note: &[u8]) {
        self.0.insert(request, Metered { receipt: receipt.into(), note: note.into() });
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_count(out, self.0.len());
        for Metered { receipt, note } in self.0.values() {
            for bytes in [receipt, note] {
                put_count(out, bytes.len());
                out.extend_from_slice(bytes);
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut all = Self::default();
        for _ in 0..r.u32()? {
            let receipt_bytes = r.u32()? as usize;
            let receipt = r.take(receipt_bytes)?;
            let note_bytes = r.u32()? as usize;
            let note = r.take(note_bytes)?;
            let (read, _) = parse(receipt, note)
                .map_err(|_| CodecError::Inconsistent("what was metered cannot be read"))?;
            all.put(read.request, receipt, note);
        }
        Ok(all)
    }
}

impl Core {
    /// Notes what an open request would settle as. The last word counts.
    pub(crate) fn meter(&mut self, so_far: &PreparedSettlement<'_>) -> Result<(), FundsError> {
        self.running()?;
        if self.group.bytes.len() >= WAITING_BYTES_MAX {
            return Err(FundsError::TooMany("bytes wait for the disk"));
        }
        let open = self.open.get(&so_far.request).ok_or(FundsError::NoHold)?;
        self.covers(open, so_far)?;
        record::put_metered(&mut self.group.bytes, so_far.receipt, so_far.note);
        self.metered.put(so_far.request, so_far.receipt, so_far.note);
        Ok(())
    }

    /// Settles what was metered of holds whose time is over.
    pub(super) fn settle_overdue(&mut self, now: UnixMs) -> Result<(), FundsError> {
        let is_overdue = |request: &&RequestId| {
            self.state.pending(Role::Hold.of(**request)).is_some_and(|hold| hold.expires_at <= now)
        };
        let overdue: Vec<_> = self.metered.0.keys().filter(is_overdue).copied().collect();
        overdue.into_iter().try_for_each(|request| self.settle_as_metered(request, now))
    }

    /// Settles up to `most` of what was metered, whose gateways are gone. Returns how many.
    pub(crate) fn settle_metered(&mut self, most: usize, now: UnixMs) -> Result<usize, FundsError> {
        self.running()?;
        let some: Vec<_> = self.metered.0.keys().take(most).copied().collect();
        let count = some.len();
        some.into_iter().try_for_each(|request| self.settle_as_metered(request, now))?;
        Ok(count)
    }

    /// When the books cannot take it for another reason than a full group, the hold is released as if nothing had been
    /// metered.
    fn settle_as_metered(&mut self, request: RequestId, now: UnixMs) -> Result<(), FundsError> {
        let Some(metered) = self.metered.0.get(&request).cloned() else { return Ok(()) };
        self.room_for(metered.receipt.len() + metered.note.len())?;
        if let Err(error) = self.settle_bytes(&metered, now) {
            tracing::error!(%request, %error, "what was metered could not be settled; its hold goes back");
        }
        self.metered.remove(&request);
        Ok(())
    }

    fn settle_bytes(&mut self, metered: &Metered, now: UnixMs) -> Result<(), FundsError> {
        let (receipt, note) = parse(&metered.receipt, &metered.note).map_err(|_| FundsError::Conflict)?;
        let split = Split::as_written(&receipt, note.byok_cost.is_some()).ok_or(FundsError::Conflict)?;
        // A gateway that came back and died may have repeated less than it had held.
        let is_covered = self.open.get(&receipt.request).is_some_and(|open| split.total <= open.held);
        if !is_covered {
            let open = self.as_booked(&receipt)?;
            self.put_open(receipt.request, open);
        }
        let settled = self.settle(&PreparedSettlement {
            request: receipt.request,
            seller: receipt.seller.as_ref(),
            suspended: Some(&receipt).filter(|receipt| receipt.is_suspended()),
            key_digest: receipt.key_digest,
            account_digest: receipt.account_digest,
            split,
            byok: note.byok_cost.unwrap_or(NanoUsd::ZERO),
            gift: note.gift,
            sale: Sale::of(&receipt, &note),
            finish: receipt.finish,
            receipt: &metered.receipt,
            note: &metered.note,
            leaf: leaf_hash(&metered.receipt),
            now,
        });
        settled.map(drop)
    }

    /// The request as the books hold it, after a crash has taken what memory knew.
    fn as_booked(&self, receipt: &Receipt) -> Result<OpenRequest, FundsError> {
        let hash = *self.keys.by_digest(&receipt.key_digest).ok_or(FundsError::UnknownKey)?;
        let key = self.keys.get(&hash).ok_or(FundsError::UnknownKey)?;
        let hold = self.state.pending(Role::Hold.of(receipt.request)).ok_or(FundsError::NoHold)?;
        let (allowances, held) = (self.booked_draws(receipt.request, key)?, hold.amount.nano_usd());
        // Nobody asks it for more before it is settled.
        let (byok, has_claim) = (NanoUsd::ZERO, self.claims.has(receipt.request));
        Ok(OpenRequest { key: hash, held, byok, step: 0, first: held, allowances, has_claim })
    }

    /// Replay: what a group says was metered.
    pub(super) fn replay_metered(&mut self, receipt: &[u8], note: &[u8]) -> Result<(), ReplayFailure> {
        let (read, _) = parse(receipt, note)?;
        self.metered.put(read.request, receipt, note);
        Ok(())
    }

    /// Replay: a hold that was released is not settled any more, and frees its claim.
    pub(super) fn forget_released(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Release { pending, .. } = event {
                let request = RequestId(pending.0);
                self.metered.remove(&request);
                self.claims.end(request, ClaimEnd::ForNothing);
            }
        }
    }

    /// Requests that were metered and are open.
    #[cfg(test)]
    pub(crate) fn requests_metered(&self) -> usize {
        self.metered.0.len()
    }
}

fn parse(receipt: &[u8], note: &[u8]) -> Result<(Receipt, GenerationNote), CanonicalError> {
    Ok((Receipt::from_canonical_bytes(receipt)?, GenerationNote::read(note)?))
}

//! Phase 8: what the receipt says.
//!
//! A [`Draft`] collects the facts of a request as they become known; [`Draft::receipt`] is the whole record.
//! The exchange appends it to the log in the same step that posts the charge.

use super::plan::Route;
use bourse_market::Bill;
use bourse_types::{Digest32, ModelSlug, NanoUsd, RequestId, SellerName, UnixMs};
use bourse_wire::dialect::Job;
use bourse_wire::funds::{GenerationNote, KeyGrant, NoteText, ProviderResponse};
use bourse_wire::receipt::{ATTEMPTS_MAX, AttemptRecord, Finish, Receipt, Recount, SignedNodeStatement};
use sha2::{Digest as _, Sha256};

/// The facts of one request so far.
#[derive(Clone)]
pub(crate) struct Draft {
    model: ModelSlug,
    constraints_digest: Digest32,
    price_snapshot_digest: Digest32,
    plan_digest: Digest32,
    attempts: Vec<AttemptRecord>,
    pub(crate) seller: Option<SellerName>,
    pub(crate) node: Option<SignedNodeStatement>,
    request_hash: Digest32,
    streamed: bool,
    pub(crate) created: UnixMs,
    pub(crate) first_content_ms: Option<u64>,
    /// What the generation record shows beside the receipt.
    pub(crate) note: Box<GenerationNote>,
}

impl Draft {
    pub(crate) fn new(job: &Job, route: &Route, created: UnixMs) -> Self {
        let constraints = job.preferences_span.as_ref().map_or("", |span| job.text(span));
        Self {
            model: job.model.clone(),
            constraints_digest: hash(constraints.as_bytes()),
            price_snapshot_digest: route.book_digest(),
            plan_digest: route.digest(),
            attempts: Vec::with_capacity(1),
            seller: None,
            node: None,
            request_hash: route.request_hash.as_deref().copied().unwrap_or_else(|| hash(&job.body)),
            streamed: job.stream,
            created,
            first_content_ms: None,
            note: Box::default(),
        }
    }

    /// Notes that a seller was asked and what came back, after how long, and whether with the buyer's own key.
    pub(crate) fn attempt(&mut self, seller: &SellerName, status: u16, (latency_ms, is_byok): (u32, bool)) {
        if self.attempts.len() < ATTEMPTS_MAX {
            self.attempts.push(AttemptRecord { seller: seller.clone(), status });
            let latency_ms = Some(latency_ms);
            let response = ProviderResponse { seller: seller.clone(), status, latency_ms, is_byok };
            self.note.provider_responses.push(response);
        }
    }

    /// Who was asked so far, in order.
    pub(crate) fn asked(&self) -> &[AttemptRecord] {
        &self.attempts
    }

    /// How the seller called its answer.
    pub(crate) fn upstream_id(&mut self, id: Option<&str>) {
        self.note.upstream_id = id.and_then(NoteText::clip);
    }

    /// The whole record; with the pin of the tokenizer that counted for the bill, if one did.
    pub(crate) fn receipt(
        &mut self,
        request: RequestId,
        grant: &KeyGrant,
        (bill, tokenizer): (&Bill, Option<Digest32>),
        finish: Finish,
        response_hash: Digest32,
        total_ms: u64,
    ) -> Receipt {
        Receipt {
            request,
            account_digest: grant.account_digest,
            key_digest: grant.key_digest,
            model: self.model.clone(),
            constraints_digest: self.constraints_digest,
            price_snapshot_digest: self.price_snapshot_digest,
            plan_digest: self.plan_digest,
            attempts: std::mem::take(&mut self.attempts),
            seller: self.seller.take(),
            node: self.node.take(),
            usage_claimed: bill.claimed,
            usage_billed: bill.usage,
            recount: tokenizer.zip(bill.recount).map(recounted),
            charge: bill.charge,
            fee: NanoUsd::ZERO,
            request_hash: self.request_hash,
            response_hash,
            finish,
            streamed: self.streamed,
            created: self.created,
            first_content_ms: self.first_content_ms,
            total_ms,
        }
    }
}

/// A bill's recount as the receipt binds it.
fn recounted((tokenizer, recount): (Digest32, bourse_market::Recount)) -> Recount {
    let bourse_market::Recount { prompt, prompt_allowed, completion, completion_allowed } = recount;
    Recount { tokenizer, prompt, prompt_allowed, completion, completion_allowed }
}

/// SHA-256 of bytes that the buyer has too.
pub(crate) fn hash(bytes: &[u8]) -> Digest32 {
    if bytes.is_empty() { HASH_OF_NOTHING } else { Digest32(Sha256::digest(bytes).into()) }
}

/// SHA-256 of no bytes: most requests have no wishes about sellers.
const HASH_OF_NOTHING: Digest32 = Digest32([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nothing_is_what_the_function_gives() {
        assert_eq!(hash(b"").0, <[u8; 32]>::from(Sha256::digest(b"")));
    }
}

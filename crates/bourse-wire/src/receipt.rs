//! The receipt: one record of what was routed, metered, settled and proved.
//!
//! A [`Receipt`] binds the request, the buyer (as digests), the prices and plan that were used, the
//! seller, the model that answered, usage as claimed and as recounted, the charge, and hashes of what
//! went in and out: SHA-256 of bytes that the buyer has too, so that any stock tool checks them, BLAKE3 of
//! what the market made. Its canonical bytes are hashed into a leaf of the receipts log and signed. A node
//! signs a [`NodeStatement`] over its own part before it knows the price. Source: design §8.
//!
//! A receipt whose usage was recounted has version 3, one that was not has version 2 and the bytes that it always had: the
//! version says whether there is a [`Recount`].
//!
//! Limits: attempts are at most [`ATTEMPTS_MAX`]; text fields are names of at most 128 bytes.

use crate::canonical::{CanonicalError, Reader, Writer};
use bourse_types::{
    AccountId, Charge, Digest32, KeyHash, ModelSlug, NanoUsd, NodeId, RequestId, SellerName, TokenCount,
    UnixMs, Usage,
};

/// Version of the canonical form of a receipt without a recount.
pub const RECEIPT_VERSION: u8 = 2;
/// Version of one with a recount.
pub const RECOUNTED_VERSION: u8 = 3;
/// Most attempts that one request may make, hence one receipt may list.
pub const ATTEMPTS_MAX: usize = 16;
/// Domain of a receipt's leaf hash and signature.
pub const RECEIPT_DOMAIN: &str = "bourse/receipt/2";
/// The same of a receipt with a recount.
pub const RECOUNTED_DOMAIN: &str = "bourse/receipt/3";
/// Domain of a node's statement.
pub const NODE_STATEMENT_DOMAIN: &str = "bourse/node-statement/2";
/// Domain of a checkpoint.
pub const CHECKPOINT_DOMAIN: &str = "bourse/checkpoint/1";

/// How a request ended, as the buyer saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Finish {
    /// The model stopped by itself or at a stop string.
    Stop = 0,
    /// The token limit was reached.
    Length = 1,
    /// The model called tools.
    ToolCalls = 2,
    /// The seller's filter intervened.
    ContentFilter = 3,
    /// The buyer went away.
    Cancelled = 4,
    /// A seller failed after content had been sent.
    SellerError = 5,
    /// No seller answered: nothing was sent but an error.
    NoSeller = 6,
    /// The hold could not be extended.
    Budget = 7,
    /// The market failed or was stopped.
    Bourse = 8,
}

impl Finish {
    /// All values in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Stop,
        Self::Length,
        Self::ToolCalls,
        Self::ContentFilter,
        Self::Cancelled,
        Self::SellerError,
        Self::NoSeller,
        Self::Budget,
        Self::Bourse,
    ];

    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Cancelled => "cancelled",
            Self::SellerError => "seller_error",
            Self::NoSeller => "no_seller",
            Self::Budget => "budget",
            Self::Bourse => "bourse_error",
        }
    }

    /// Reads [`Finish::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == text)
    }
}

/// One attempt at one seller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Who was asked.
    pub seller: SellerName,
    /// HTTP status or its equivalent; 0 when nothing came back.
    pub status: u16,
}

/// What a node says it did, signed before it knows what the buyer paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatement {
    /// The node's key.
    pub node: NodeId,
    /// The request.
    pub request: RequestId,
    /// Merkle root over weights, tokenizer, template, numeric profile and sampler.
    pub model_commitment: Digest32,
    /// BLAKE3 of the run seed.
    pub run_seed_hash: Digest32,
    /// BLAKE3 of the prompt's token ids (little-endian `u32`).
    pub prompt_hash: Digest32,
    /// BLAKE3 of the text sent, all choices in order.
    pub text_hash: Digest32,
    /// Merkle root over 32-token chunks of output token ids, all choices in order.
    pub trace_root: Digest32,
    /// What it used, as it counted.
    pub usage: Usage,
}

impl NodeStatement {
    /// The bytes that the node signs: the domain, then the fields.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.text(NODE_STATEMENT_DOMAIN);
        self.write(&mut w);
        w.bytes
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.fixed(&self.node.0);
        w.u128(self.request.0);
        for digest in [
            &self.model_commitment,
            &self.run_seed_hash,
            &self.prompt_hash,
            &self.text_hash,
            &self.trace_root,
        ] {
            w.fixed(&digest.0);
        }
        write_usage(w, &self.usage);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CanonicalError> {
        Ok(Self {
            node: NodeId(r.array()?),
            request: RequestId(r.u128()?),
            model_commitment: Digest32(r.array()?),
            run_seed_hash: Digest32(r.array()?),
            prompt_hash: Digest32(r.array()?),
            text_hash: Digest32(r.array()?),
            trace_root: Digest32(r.array()?),
            usage: read_usage(r)?,
        })
    }
}

/// A statement with the node's ed25519 signature over [`NodeStatement::signed_bytes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNodeStatement {
    /// What was signed.
    pub statement: NodeStatement,
    /// The signature.
    pub signature: [u8; 64],
}

/// What the market itself counted of a conversation, with the model's pinned tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recount {
    /// The pin of the tokenizer: BLAKE3 of all that a count depends on.
    pub tokenizer: Digest32,
    /// What was counted of the prompt; none where nobody could.
    pub prompt: Option<TokenCount>,
    /// The most that its claim may be: recount and tolerance.
    pub prompt_allowed: TokenCount,
    /// What was counted of the completion's text; none where nobody could.
    pub completion: Option<TokenCount>,
    /// The most that its claim may be: recount, tolerance and what the rules allow that has no text.
    pub completion_allowed: TokenCount,
}

impl Recount {
    /// Whether a usage is beyond what is allowed.
    pub fn is_exceeded_by(&self, usage: &Usage) -> bool {
        usage.prompt > self.prompt_allowed || usage.completion > self.completion_allowed
    }
}

/// The record of one request. See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The request.
    pub request: RequestId,
    /// BLAKE3 over a domain and the paying account.
    pub account_digest: Digest32,
    /// BLAKE3 over a domain and the key's hash.
    pub key_digest: Digest32,
    /// What was asked for.
    pub model: ModelSlug,
    /// SHA-256 of the routing constraints as the buyer wrote them; of nothing when there were none.
    pub constraints_digest: Digest32,
    /// BLAKE3 of the offers and prices that the plan saw.
    pub price_snapshot_digest: Digest32,
    /// BLAKE3 of the plan: its seed, order and rejected offers.
    pub plan_digest: Digest32,
    /// Who was asked, in order. At most [`ATTEMPTS_MAX`].
    pub attempts: Vec<AttemptRecord>,
    /// Who answered and gets paid; none when nobody did.
    pub seller: Option<SellerName>,
    /// The node's own statement, for node traffic.
    pub node: Option<SignedNodeStatement>,
    /// What the seller claimed; none when it claimed nothing.
    pub usage_claimed: Option<Usage>,
    /// What was billed.
    pub usage_billed: Usage,
    /// What the market itself counted, where the model's tokenizer is pinned.
    pub recount: Option<Recount>,
    /// The price of `usage_billed`.
    pub charge: Charge,
    /// The market's share of the charge; filled in by the exchange.
    pub fee: NanoUsd,
    /// SHA-256 of the request body as received.
    pub request_hash: Digest32,
    /// SHA-256 of the answer's bytes as sent (the whole stream or body, before its terminal).
    pub response_hash: Digest32,
    /// How it ended.
    pub finish: Finish,
    /// Whether it was streamed.
    pub streamed: bool,
    /// Arrival.
    pub created: UnixMs,
    /// First content sent to the buyer, after arrival; none when there was none.
    pub first_content_ms: Option<u64>,
    /// End, after arrival.
    pub total_ms: u64,
}

impl Receipt {
    /// Digest under which an account appears in receipts.
    pub fn digest_of_account(account: AccountId) -> Digest32 {
        digest("bourse/account/1", &account.0.to_le_bytes())
    }

    /// Digest under which a key appears in receipts.
    pub fn digest_of_key(key: &KeyHash) -> Digest32 {
        digest("bourse/key/1", &key.0)
    }

    /// Whether the seller's share waits in suspense: a complete answer's claim is beyond the market's own count. What an
    /// answer that was cut would have had is no claim about what was delivered.
    pub fn is_suspended(&self) -> bool {
        let is_whole =
            matches!(self.finish, Finish::Stop | Finish::Length | Finish::ToolCalls | Finish::ContentFilter);
        let exceeds = |claimed| self.recount.is_some_and(|recount| recount.is_exceeded_by(claimed));
        is_whole && self.usage_claimed.as_ref().is_some_and(exceeds)
    }

    /// The version of its canonical form.
    pub fn version(&self) -> u8 {
        self.recount.map_or(RECEIPT_VERSION, |_| RECOUNTED_VERSION)
    }

    /// The one encoding that is hashed and signed, domain first.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut w = Writer { bytes: Vec::with_capacity(640) };
        w.text(if self.recount.is_some() { RECOUNTED_DOMAIN } else { RECEIPT_DOMAIN });
        w.u8(self.version());
        w.u128(self.request.0);
        w.fixed(&self.account_digest.0);
        w.fixed(&self.key_digest.0);
        w.text(self.model.as_str());
        w.fixed(&self.constraints_digest.0);
        w.fixed(&self.price_snapshot_digest.0);
        w.fixed(&self.plan_digest.0);
        w.u32(self.attempts.len() as u32);
        for attempt in &self.attempts {
            w.text(attempt.seller.as_str());
            w.u32(u32::from(attempt.status));
        }
        w.option(self.seller.as_ref(), |w, s| w.text(s.as_str()));
        w.option(self.node.as_ref(), |w, n| {
            n.statement.write(w);
            w.fixed(&n.signature);
        });
        w.option(self.usage_claimed.as_ref(), write_usage);
        write_usage(&mut w, &self.usage_billed);
        if let Some(recount) = &self.recount {
            write_recount(&mut w, recount);
        }
        write_charge(&mut w, &self.charge);
        w.u64(self.fee.0);
        w.fixed(&self.request_hash.0);
        w.fixed(&self.response_hash.0);
        w.u8(self.finish as u8);
        w.u8(u8::from(self.streamed));
        w.u64(self.created.0);
        w.option(self.first_content_ms, Writer::u64);
        w.u64(self.total_ms);
        w.bytes
    }

    /// Reads [`Receipt::canonical_bytes`]; every byte is accounted for.
    pub fn from_canonical_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut r = Reader::new(bytes);
        let known = match r.text()? {
            RECEIPT_DOMAIN => RECEIPT_VERSION,
            RECOUNTED_DOMAIN => RECOUNTED_VERSION,
            _ => return Err(CanonicalError::Value("domain")),
        };
        let version = r.u8()?;
        if version != known {
            return Err(CanonicalError::Version(version));
        }
        let receipt = Self::read(&mut r, version)?;
        r.finish()?;
        Ok(receipt)
    }

    fn read(r: &mut Reader<'_>, version: u8) -> Result<Self, CanonicalError> {
        Ok(Self {
            request: RequestId(r.u128()?),
            account_digest: Digest32(r.array()?),
            key_digest: Digest32(r.array()?),
            model: ModelSlug::parse(r.text()?).map_err(|_| CanonicalError::Value("model"))?,
            constraints_digest: Digest32(r.array()?),
            price_snapshot_digest: Digest32(r.array()?),
            plan_digest: Digest32(r.array()?),
            attempts: read_attempts(r)?,
            seller: r.option(read_seller)?,
            node: r.option(|r| {
                Ok(SignedNodeStatement { statement: NodeStatement::read(r)?, signature: r.array()? })
            })?,
            usage_claimed: r.option(read_usage)?,
            usage_billed: read_usage(r)?,
            recount: (version == RECOUNTED_VERSION).then(|| read_recount(r)).transpose()?,
            charge: read_charge(r)?,
            fee: NanoUsd(r.u64()?),
            request_hash: Digest32(r.array()?),
            response_hash: Digest32(r.array()?),
            finish: Finish::ALL.get(usize::from(r.u8()?)).copied().ok_or(CanonicalError::Value("finish"))?,
            streamed: match r.u8()? {
                0 => false,
                1 => true,
                _ => return Err(CanonicalError::Value("streamed")),
            },
            created: UnixMs(r.u64()?),
            first_content_ms: r.option(Reader::u64)?,
            total_ms: r.u64()?,
        })
    }
}

/// The signed head of the receipts log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Receipts in the log.
    pub size: u64,
    /// Merkle root over them.
    pub root: Digest32,
    /// When it was signed.
    pub time: UnixMs,
    /// The exchange's ed25519 public key.
    pub exchange: Digest32,
    /// Signature over [`Checkpoint::signed_bytes`].
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// The bytes that the exchange signs.
    pub fn signed_bytes(size: u64, root: &Digest32, time: UnixMs) -> Vec<u8> {
        let mut w = Writer::default();
        w.text(CHECKPOINT_DOMAIN);
        w.u64(size);
        w.fixed(&root.0);
        w.u64(time.0);
        w.bytes
    }
}

/// A receipt with everything needed to check it offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptDocument {
    /// The receipt.
    pub receipt: Receipt,
    /// The exchange's signature over [`Receipt::canonical_bytes`].
    pub exchange_signature: [u8; 64],
    /// Position in the log, from 0.
    pub leaf_index: u64,
    /// Inclusion path from the leaf to the checkpoint's root, lowest first.
    pub inclusion: Vec<Digest32>,
    /// A checkpoint that covers the leaf.
    pub checkpoint: Checkpoint,
}

fn digest(domain: &str, bytes: &[u8]) -> Digest32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain.as_bytes());
    hasher.update(bytes);
    Digest32(*hasher.finalize().as_bytes())
}

pub(crate) fn write_usage(w: &mut Writer, usage: &Usage) {
    w.u64(usage.prompt.0);
    w.u64(usage.cached_prompt.0);
    w.u64(usage.cache_write.0);
    w.u64(usage.completion.0);
    w.u64(usage.units);
}

pub(crate) fn read_usage(r: &mut Reader<'_>) -> Result<Usage, CanonicalError> {
    Ok(Usage {
        prompt: TokenCount(r.u64()?),
        cached_prompt: TokenCount(r.u64()?),
        cache_write: TokenCount(r.u64()?),
        completion: TokenCount(r.u64()?),
        units: r.u64()?,
    })
}

fn write_recount(w: &mut Writer, recount: &Recount) {
    w.fixed(&recount.tokenizer.0);
    for (counted, allowed) in
        [(recount.prompt, recount.prompt_allowed), (recount.completion, recount.completion_allowed)]
    {
        w.option(counted, |w, counted| w.u64(counted.0));
        w.u64(allowed.0);
    }
}

fn read_recount(r: &mut Reader<'_>) -> Result<Recount, CanonicalError> {
    Ok(Recount {
        tokenizer: Digest32(r.array()?),
        prompt: r.option(|r| r.u64().map(TokenCount))?,
        prompt_allowed: TokenCount(r.u64()?),
        completion: r.option(|r| r.u64().map(TokenCount))?,
        completion_allowed: TokenCount(r.u64()?),
    })
}

fn write_charge(w: &mut Writer, charge: &Charge) {
    let Charge { prompt, completion, request, units, rounding, total } = *charge;
    for part in [prompt, completion, request, units, rounding, total] {
        w.u64(part.0);
    }
}

fn read_charge(r: &mut Reader<'_>) -> Result<Charge, CanonicalError> {
    Ok(Charge {
        prompt: NanoUsd(r.u64()?),
        completion: NanoUsd(r.u64()?),
        request: NanoUsd(r.u64()?),
        units: NanoUsd(r.u64()?),
        rounding: NanoUsd(r.u64()?),
        total: NanoUsd(r.u64()?),
    })
}

fn read_seller(r: &mut Reader<'_>) -> Result<SellerName, CanonicalError> {
    SellerName::parse(r.text()?).map_err(|_| CanonicalError::Value("seller"))
}

fn read_attempts(r: &mut Reader<'_>) -> Result<Vec<AttemptRecord>, CanonicalError> {
    let n = r.u32()? as usize;
    if n > ATTEMPTS_MAX {
        return Err(CanonicalError::Long(n));
    }
    (0..n)
        .map(|_| {
            let seller = read_seller(r)?;
            let status = u16::try_from(r.u32()?).map_err(|_| CanonicalError::Value("status"))?;
            Ok(AttemptRecord { seller, status })
        })
        .collect()
}

#[cfg(test)]
mod tests;

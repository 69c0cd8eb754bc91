//! Receipts and checkpoints as JSON: what `GET /v1/receipts/{id}` answers and `bourse verify` reads.
//!
//! JSON is for people and programs to keep; what is hashed and signed are the canonical bytes, which a
//! reader rebuilds from these fields. So reading is strict: unknown, missing and repeated fields are
//! refused, every list and name has its bound, and a document is at most [`RECEIPT_JSON_BYTES_MAX`] long.
//! Digests and signatures are hex, amounts are decimal dollars with nine places in strings, times are
//! Unix milliseconds, and every name says its unit.

use crate::receipt::{
    ATTEMPTS_MAX, AttemptRecord, Checkpoint, Finish, NodeStatement, RECEIPT_VERSION, RECOUNTED_VERSION,
    Receipt, ReceiptDocument, Recount, SignedNodeStatement,
};
use bourse_types::{
    Charge, Digest32, ModelSlug, NanoUsd, NodeId, RequestId, SellerName, TokenCount, UnixMs, Usage,
};
use serde::{Deserialize, Deserializer, Serialize};

/// Longest JSON document that is read, in bytes. The longest honest one has a tenth of it.
pub const RECEIPT_JSON_BYTES_MAX: usize = 64 * 1024;
/// Longest inclusion path: a tree of 2⁶⁴ leaves, and one to spare.
pub const INCLUSION_PATH_MAX: usize = 65;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptJsonError {
    /// Longer than [`RECEIPT_JSON_BYTES_MAX`].
    #[error("the document has {0} bytes, at most {RECEIPT_JSON_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not JSON of this shape.
    #[error("the document is not a receipt as this version writes it")]
    Shape(#[source] serde_json::Error),
    /// Another version.
    #[error("version {0} of receipts is not known here")]
    Version(u8),
    /// A field holds what it cannot hold.
    #[error("field `{field}`: {why}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Writes a receipt document, indented.
pub fn receipt_document_to_json(document: &ReceiptDocument) -> String {
    let shape = DocumentShape {
        version: document.receipt.version(),
        receipt: ReceiptShape::of(&document.receipt),
        exchange_signature: hex(&document.exchange_signature),
        log: LogShape {
            leaf_index: document.leaf_index,
            inclusion: document.inclusion.iter().map(Digest32::to_string).collect(),
            checkpoint: CheckpointShape::of(&document.checkpoint),
        },
    };
    serde_json::to_string_pretty(&shape).expect("strings, integers and lists of them always serialise")
}

/// Reads [`receipt_document_to_json`]. Says nothing about signatures.
pub fn receipt_document_from_json(json: &[u8]) -> Result<ReceiptDocument, ReceiptJsonError> {
    let shape: DocumentShape = parse(json)?;
    match (shape.version, &shape.receipt.recount) {
        (RECEIPT_VERSION, None) | (RECOUNTED_VERSION, Some(_)) => {}
        (RECEIPT_VERSION | RECOUNTED_VERSION, _) => {
            let why = format!("version {RECOUNTED_VERSION} has one, version {RECEIPT_VERSION} has none");
            return Err(field("receipt.recount", &why));
        }
        (version, _) => return Err(ReceiptJsonError::Version(version)),
    }
    at_most("log.inclusion", shape.log.inclusion.len(), INCLUSION_PATH_MAX)?;
    let inclusion =
        shape.log.inclusion.iter().map(|hash| digest("log.inclusion", hash)).collect::<Result<_, _>>()?;
    Ok(ReceiptDocument {
        receipt: shape.receipt.read()?,
        exchange_signature: signature("exchange_signature", &shape.exchange_signature)?,
        leaf_index: shape.log.leaf_index,
        inclusion,
        checkpoint: shape.log.checkpoint.read()?,
    })
}

/// Writes a signed checkpoint, indented.
pub fn checkpoint_to_json(checkpoint: &Checkpoint) -> String {
    let shape = CheckpointShape::of(checkpoint);
    serde_json::to_string_pretty(&shape).expect("strings and integers always serialise")
}

/// Reads [`checkpoint_to_json`]. Says nothing about the signature.
pub fn checkpoint_from_json(json: &[u8]) -> Result<Checkpoint, ReceiptJsonError> {
    parse::<CheckpointShape>(json)?.read()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentShape {
    version: u8,
    receipt: ReceiptShape,
    exchange_signature: String,
    log: LogShape,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogShape {
    leaf_index: u64,
    inclusion: Vec<String>,
    checkpoint: CheckpointShape,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointShape {
    size: u64,
    root: String,
    time_unix_ms: u64,
    exchange: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptShape {
    id: String,
    account_digest: String,
    key_digest: String,
    model: String,
    constraints_digest: String,
    price_snapshot_digest: String,
    plan_digest: String,
    attempts: Vec<AttemptShape>,
    #[serde(deserialize_with = "present")]
    seller: Option<String>,
    #[serde(deserialize_with = "present")]
    node: Option<NodeShape>,
    #[serde(deserialize_with = "present")]
    usage_claimed: Option<UsageShape>,
    usage_billed: UsageShape,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recount: Option<RecountShape>,
    charge: ChargeShape,
    fee_usd: String,
    request_hash: String,
    response_hash: String,
    finish: String,
    streamed: bool,
    created_unix_ms: u64,
    #[serde(deserialize_with = "present")]
    first_content_ms: Option<u64>,
    total_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptShape {
    seller: String,
    status: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeShape {
    node: String,
    request: String,
    model_commitment: String,
    run_seed_hash: String,
    prompt_hash: String,
    text_hash: String,
    trace_root: String,
    usage: UsageShape,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageShape {
    prompt_tokens: u64,
    cached_prompt_tokens: u64,
    cache_write_tokens: u64,
    completion_tokens: u64,
    units: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecountShape {
    tokenizer: String,
    #[serde(deserialize_with = "present")]
    prompt_tokens: Option<u64>,
    prompt_allowed_tokens: u64,
    #[serde(deserialize_with = "present")]
    completion_tokens: Option<u64>,
    completion_allowed_tokens: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "a number in JSON carries its unit in its name")]
struct ChargeShape {
    prompt_usd: String,
    completion_usd: String,
    request_usd: String,
    units_usd: String,
    rounding_usd: String,
    cost_usd: String,
}

impl CheckpointShape {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            size: checkpoint.size,
            root: checkpoint.root.to_string(),
            time_unix_ms: checkpoint.time.0,
            exchange: checkpoint.exchange.to_string(),
            signature: hex(&checkpoint.signature),
        }
    }

    fn read(&self) -> Result<Checkpoint, ReceiptJsonError> {
        Ok(Checkpoint {
            size: self.size,
            root: digest("checkpoint.root", &self.root)?,
            time: UnixMs(self.time_unix_ms),
            exchange: digest("checkpoint.exchange", &self.exchange)?,
            signature: signature("checkpoint.signature", &self.signature)?,
        })
    }
}

impl ReceiptShape {
    fn of(receipt: &Receipt) -> Self {
        let attempt =
            |a: &AttemptRecord| AttemptShape { seller: a.seller.as_str().to_owned(), status: a.status };
        Self {
            id: receipt.request.to_string(),
            account_digest: receipt.account_digest.to_string(),
            key_digest: receipt.key_digest.to_string(),
            model: receipt.model.as_str().to_owned(),
            constraints_digest: receipt.constraints_digest.to_string(),
            price_snapshot_digest: receipt.price_snapshot_digest.to_string(),
            plan_digest: receipt.plan_digest.to_string(),
            attempts: receipt.attempts.iter().map(attempt).collect(),
            seller: receipt.seller.as_ref().map(SellerName::to_string),
            node: receipt.node.as_ref().map(NodeShape::of),
            usage_claimed: receipt.usage_claimed.as_ref().map(UsageShape::of),
            usage_billed: UsageShape::of(&receipt.usage_billed),
            recount: receipt.recount.as_ref().map(RecountShape::of),
            charge: ChargeShape::of(&receipt.charge),
            fee_usd: receipt.fee.to_usd_string(),
            request_hash: receipt.request_hash.to_string(),
            response_hash: receipt.response_hash.to_string(),
            finish: receipt.finish.as_str().to_owned(),
            streamed: receipt.streamed,
            created_unix_ms: receipt.created.0,
            first_content_ms: receipt.first_content_ms,
            total_ms: receipt.total_ms,
        }
    }

    fn read(self) -> Result<Receipt, ReceiptJsonError> {
        at_most("attempts", self.attempts.len(), ATTEMPTS_MAX)?;
        let attempt = |a: &AttemptShape| {
            Ok(AttemptRecord { seller: seller("attempts.seller", &a.seller)?, status: a.status })
        };
        Ok(Receipt {
            request: request("id", &self.id)?,
            account_digest: digest("account_digest", &self.account_digest)?,
            key_digest: digest("key_digest", &self.key_digest)?,
            model: ModelSlug::parse(&self.model).map_err(|why| field("model", &why))?,
            constraints_digest: digest("constraints_digest", &self.constraints_digest)?,
            price_snapshot_digest: digest("price_snapshot_digest", &self.price_snapshot_digest)?,
            plan_digest: digest("plan_digest", &self.plan_digest)?,
            attempts: self.attempts.iter().map(attempt).collect::<Result<_, _>>()?,
            seller: self.seller.map(|name| seller("seller", &name)).transpose()?,
            node: self.node.map(|node| node.read()).transpose()?,
            usage_claimed: self.usage_claimed.map(|usage| usage.read()),
            usage_billed: self.usage_billed.read(),
            recount: self.recount.map(|recount| recount.read()).transpose()?,
            charge: self.charge.read()?,
            fee: usd("fee_usd", &self.fee_usd)?,
            request_hash: digest("request_hash", &self.request_hash)?,
            response_hash: digest("response_hash", &self.response_hash)?,
            finish: Finish::parse(&self.finish).ok_or_else(|| field("finish", &"not a known end"))?,
            streamed: self.streamed,
            created: UnixMs(self.created_unix_ms),
            first_content_ms: self.first_content_ms,
            total_ms: self.total_ms,
        })
    }
}

impl NodeShape {
    fn of(signed: &SignedNodeStatement) -> Self {
        let statement = &signed.statement;
        Self {
            node: statement.node.to_string(),
            request: statement.request.to_string(),
            model_commitment: statement.model_commitment.to_string(),
            run_seed_hash: statement.run_seed_hash.to_string(),
            prompt_hash: statement.prompt_hash.to_string(),
            text_hash: statement.text_hash.to_string(),
            trace_root: statement.trace_root.to_string(),
            usage: UsageShape::of(&statement.usage),
            signature: hex(&signed.signature),
        }
    }

    fn read(&self) -> Result<SignedNodeStatement, ReceiptJsonError> {
        let statement = NodeStatement {
            node: NodeId(digest("node.node", &self.node)?.0),
            request: request("node.request", &self.request)?,
            model_commitment: digest("node.model_commitment", &self.model_commitment)?,
            run_seed_hash: digest("node.run_seed_hash", &self.run_seed_hash)?,
            prompt_hash: digest("node.prompt_hash", &self.prompt_hash)?,
            text_hash: digest("node.text_hash", &self.text_hash)?,
            trace_root: digest("node.trace_root", &self.trace_root)?,
            usage: self.usage.read(),
        };
        Ok(SignedNodeStatement { statement, signature: signature("node.signature", &self.signature)? })
    }
}

impl UsageShape {
    fn of(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt.0,
            cached_prompt_tokens: usage.cached_prompt.0,
            cache_write_tokens: usage.cache_write.0,
            completion_tokens: usage.completion.0,
            units: usage.units,
        }
    }

    fn read(&self) -> Usage {
        Usage {
            prompt: TokenCount(self.prompt_tokens),
            cached_prompt: TokenCount(self.cached_prompt_tokens),
            cache_write: TokenCount(self.cache_write_tokens),
            completion: TokenCount(self.completion_tokens),
            units: self.units,
        }
    }
}

impl RecountShape {
    fn of(recount: &Recount) -> Self {
        Self {
            tokenizer: recount.tokenizer.to_string(),
            prompt_tokens: recount.prompt.map(|tokens| tokens.0),
            prompt_allowed_tokens: recount.prompt_allowed.0,
            completion_tokens: recount.completion.map(|tokens| tokens.0),
            completion_allowed_tokens: recount.completion_allowed.0,
        }
    }

    fn read(&self) -> Result<Recount, ReceiptJsonError> {
        Ok(Recount {
            tokenizer: digest("recount.tokenizer", &self.tokenizer)?,
            prompt: self.prompt_tokens.map(TokenCount),
            prompt_allowed: TokenCount(self.prompt_allowed_tokens),
            completion: self.completion_tokens.map(TokenCount),
            completion_allowed: TokenCount(self.completion_allowed_tokens),
        })
    }
}

impl ChargeShape {
    fn of(charge: &Charge) -> Self {
        Self {
            prompt_usd: charge.prompt.to_usd_string(),
            completion_usd: charge.completion.to_usd_string(),
            request_usd: charge.request.to_usd_string(),
            units_usd: charge.units.to_usd_string(),
            rounding_usd: charge.rounding.to_usd_string(),
            cost_usd: charge.total.to_usd_string(),
        }
    }

    fn read(&self) -> Result<Charge, ReceiptJsonError> {
        Ok(Charge {
            prompt: usd("charge.prompt_usd", &self.prompt_usd)?,
            completion: usd("charge.completion_usd", &self.completion_usd)?,
            request: usd("charge.request_usd", &self.request_usd)?,
            units: usd("charge.units_usd", &self.units_usd)?,
            rounding: usd("charge.rounding_usd", &self.rounding_usd)?,
            total: usd("charge.cost_usd", &self.cost_usd)?,
        })
    }
}

/// An optional value whose field must be there, `null` for none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ReceiptJsonError> {
    if json.len() > RECEIPT_JSON_BYTES_MAX {
        return Err(ReceiptJsonError::TooLong(json.len()));
    }
    serde_json::from_slice(json).map_err(ReceiptJsonError::Shape)
}

fn field(field: &'static str, why: &impl std::fmt::Display) -> ReceiptJsonError {
    ReceiptJsonError::Field { field, why: why.to_string() }
}

fn at_most(name: &'static str, count: usize, max: usize) -> Result<(), ReceiptJsonError> {
    if count <= max { Ok(()) } else { Err(field(name, &format_args!("{count} entries, at most {max} fit"))) }
}

fn request(name: &'static str, text: &str) -> Result<RequestId, ReceiptJsonError> {
    RequestId::parse(text).map_err(|why| field(name, &why))
}

fn seller(name: &'static str, text: &str) -> Result<SellerName, ReceiptJsonError> {
    SellerName::parse(text).map_err(|why| field(name, &why))
}

fn usd(name: &'static str, text: &str) -> Result<NanoUsd, ReceiptJsonError> {
    NanoUsd::parse_usd(text).map_err(|why| field(name, &why))
}

fn digest(name: &'static str, text: &str) -> Result<Digest32, ReceiptJsonError> {
    Digest32::parse_hex(text).map_err(|why| field(name, &why))
}

fn signature(name: &'static str, text: &str) -> Result<[u8; 64], ReceiptJsonError> {
    parse_signature(text).ok_or_else(|| field(name, &"a signature has 128 hex digits"))
}

/// A signature from its 128 hex digits.
pub(crate) fn parse_signature(text: &str) -> Option<[u8; 64]> {
    let (first, second) = text.split_at_checked(64)?;
    let [Ok(first), Ok(second)] = [first, second].map(Digest32::parse_hex) else { return None };
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&first.0);
    bytes[32..].copy_from_slice(&second.0);
    Some(bytes)
}

/// A signature's 128 hex digits.
pub(crate) fn hex(signature: &[u8; 64]) -> String {
    use std::fmt::Write as _;
    signature.iter().fold(String::with_capacity(128), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;

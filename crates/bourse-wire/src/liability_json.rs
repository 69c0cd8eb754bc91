//! Liability proofs as JSON: what `bourse ledger prove` writes and `bourse verify` reads.
//!
//! As strict as receipts are: unknown, missing and repeated fields are refused, the path has its bound, and a
//! document is at most [`LIABILITY_JSON_BYTES_MAX`] long. Amounts are nano-USD as decimal digits in strings,
//! because programs read JSON numbers as floats; digests, salts and signatures are hex.

use crate::liability::{Epoch, Liability, LiabilityProof, SignedEpoch, SumNode};
use crate::receipt_json::{hex, parse_signature};
use bourse_types::{Digest32, UnixMs};
use serde::{Deserialize, Serialize};

/// Longest JSON document that is read, in bytes. The longest honest one has a quarter of it.
pub const LIABILITY_JSON_BYTES_MAX: usize = 16 * 1024;
/// Longest path: a tree of 2²⁰ leaves.
pub const LIABILITY_PATH_MAX: usize = 20;
/// The word in `kind` by which readers tell these documents from others.
pub const LIABILITY_KIND: &str = "liability_proof";
/// Version of the document.
const VERSION: u8 = 1;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiabilityJsonError {
    /// Longer than [`LIABILITY_JSON_BYTES_MAX`].
    #[error("the document has {0} bytes, at most {LIABILITY_JSON_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not JSON of this shape.
    #[error("the document is not a liability proof as this version writes it")]
    Shape(#[source] serde_json::Error),
    /// Another version.
    #[error("version {0} of liability proofs is not known here")]
    Version(u8),
    /// A field holds what it cannot hold.
    #[error("field `{0}` holds what it cannot hold")]
    Field(&'static str),
}

/// Whether a document says of itself that it is a liability proof. Says nothing about the rest.
pub fn is_liability_proof(json: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    serde_json::from_slice::<Kind>(json).is_ok_and(|document| document.kind == LIABILITY_KIND)
}

/// Writes a proof, indented.
pub fn liability_proof_to_json(proof: &LiabilityProof) -> String {
    let SignedEpoch { epoch, exchange, signature } = &proof.signed;
    let shape = Shape {
        kind: LIABILITY_KIND.to_owned(),
        version: VERSION,
        epoch: EpochShape {
            number: epoch.number,
            closed_at_unix_ms: epoch.closed_at.0,
            root: epoch.root.to_string(),
            total_nano_usd: epoch.total_nano_usd.to_string(),
            count: epoch.count,
            previous: epoch.previous.to_string(),
            exchange: exchange.to_string(),
            signature: hex(signature),
        },
        leaf: LeafShape {
            account_digest: proof.leaf.account_digest.to_string(),
            salt: proof.leaf.salt.to_string(),
            amount_nano_usd: proof.leaf.amount_nano_usd.to_string(),
        },
        leaf_index: proof.leaf_index,
        path: proof.path.iter().map(SumShape::of).collect(),
    };
    serde_json::to_string_pretty(&shape).expect("strings, integers and lists of them always serialise")
}

/// Reads [`liability_proof_to_json`]. Says nothing about signatures and sums.
pub fn liability_proof_from_json(json: &[u8]) -> Result<LiabilityProof, LiabilityJsonError> {
    if json.len() > LIABILITY_JSON_BYTES_MAX {
        return Err(LiabilityJsonError::TooLong(json.len()));
    }
    let shape: Shape = serde_json::from_slice(json).map_err(LiabilityJsonError::Shape)?;
    if shape.version != VERSION {
        return Err(LiabilityJsonError::Version(shape.version));
    }
    if shape.kind != LIABILITY_KIND {
        return Err(LiabilityJsonError::Field("kind"));
    }
    if shape.path.len() > LIABILITY_PATH_MAX {
        return Err(LiabilityJsonError::Field("path"));
    }
    let (epoch, leaf) = (shape.epoch, shape.leaf);
    Ok(LiabilityProof {
        signed: SignedEpoch {
            epoch: Epoch {
                number: epoch.number,
                closed_at: UnixMs(epoch.closed_at_unix_ms),
                root: digest("epoch.root", &epoch.root)?,
                total_nano_usd: amount("epoch.total_nano_usd", &epoch.total_nano_usd)?,
                count: epoch.count,
                previous: digest("epoch.previous", &epoch.previous)?,
            },
            exchange: digest("epoch.exchange", &epoch.exchange)?,
            signature: parse_signature(&epoch.signature)
                .ok_or(LiabilityJsonError::Field("epoch.signature"))?,
        },
        leaf: Liability {
            account_digest: digest("leaf.account_digest", &leaf.account_digest)?,
            salt: digest("leaf.salt", &leaf.salt)?,
            amount_nano_usd: amount("leaf.amount_nano_usd", &leaf.amount_nano_usd)?,
        },
        leaf_index: shape.leaf_index,
        path: shape.path.iter().map(SumShape::read).collect::<Result<_, _>>()?,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    kind: String,
    version: u8,
    epoch: EpochShape,
    leaf: LeafShape,
    leaf_index: u64,
    path: Vec<SumShape>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EpochShape {
    number: u64,
    closed_at_unix_ms: u64,
    root: String,
    total_nano_usd: String,
    count: u64,
    previous: String,
    exchange: String,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeafShape {
    account_digest: String,
    salt: String,
    amount_nano_usd: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SumShape {
    hash: String,
    sum_nano_usd: String,
}

impl SumShape {
    fn of(node: &SumNode) -> Self {
        Self { hash: node.hash.to_string(), sum_nano_usd: node.sum_nano_usd.to_string() }
    }

    fn read(&self) -> Result<SumNode, LiabilityJsonError> {
        let sum_nano_usd = amount("path.sum_nano_usd", &self.sum_nano_usd)?;
        Ok(SumNode { hash: digest("path.hash", &self.hash)?, sum_nano_usd })
    }
}

fn digest(name: &'static str, text: &str) -> Result<Digest32, LiabilityJsonError> {
    Digest32::parse_hex(text).map_err(|_| LiabilityJsonError::Field(name))
}

/// One spelling for each amount: no sign, no leading zero.
fn amount(name: &'static str, text: &str) -> Result<u128, LiabilityJsonError> {
    let amount: u128 = text.parse().map_err(|_| LiabilityJsonError::Field(name))?;
    if amount.to_string() == text { Ok(amount) } else { Err(LiabilityJsonError::Field(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(path: usize) -> LiabilityProof {
        let node = SumNode { hash: Digest32([7; 32]), sum_nano_usd: u128::MAX };
        let epoch = Epoch {
            number: u64::MAX,
            closed_at: UnixMs(u64::MAX),
            root: Digest32([1; 32]),
            total_nano_usd: u128::MAX,
            count: u64::MAX,
            previous: Digest32([2; 32]),
        };
        LiabilityProof {
            signed: SignedEpoch { epoch, exchange: Digest32([3; 32]), signature: [4; 64] },
            leaf: Liability {
                account_digest: Digest32([5; 32]),
                salt: Digest32([6; 32]),
                amount_nano_usd: 1_234,
            },
            leaf_index: 9,
            path: vec![node; path],
        }
    }

    fn read(text: &str) -> Result<LiabilityProof, LiabilityJsonError> {
        liability_proof_from_json(text.as_bytes())
    }

    #[test]
    fn the_longest_document_is_read_back_and_one_longer_is_refused() {
        let text = liability_proof_to_json(&proof(LIABILITY_PATH_MAX));
        assert!(text.len() * 3 < LIABILITY_JSON_BYTES_MAX, "{}", text.len());
        assert!(is_liability_proof(text.as_bytes()));
        assert_eq!(read(&text).unwrap(), proof(LIABILITY_PATH_MAX));
        let over = liability_proof_to_json(&proof(LIABILITY_PATH_MAX + 1));
        assert!(matches!(read(&over), Err(LiabilityJsonError::Field("path"))));
        let padded = |to: usize| format!("{text}{}", " ".repeat(to - text.len()));
        assert!(read(&padded(LIABILITY_JSON_BYTES_MAX)).is_ok());
        assert!(matches!(
            read(&padded(LIABILITY_JSON_BYTES_MAX + 1)),
            Err(LiabilityJsonError::TooLong(len)) if len == LIABILITY_JSON_BYTES_MAX + 1
        ));
    }

    #[test]
    fn what_is_not_written_here_is_not_read() {
        let text = liability_proof_to_json(&proof(1));
        let check = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            assert!(read(&text.replacen(from, to, 1)).is_err(), "{from} to {to}");
        };
        check("\"1234\"", "\"01234\"");
        check("\"1234\"", "\"+1234\"");
        check("\"1234\"", "\"-1234\"");
        check("\"1234\"", "1234");
        check("\"version\": 1", "\"version\": 2");
        check("\"leaf_index\": 9", "\"leaf_index\": 9, \"extra\": 0");
        check("0404", "04");
        check("liability_proof", "receipt");
        assert!(!is_liability_proof(b"{\"version\": 2}") && !is_liability_proof(b"["));
    }
}

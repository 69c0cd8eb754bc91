//! What a model *is*, as a digest, and the seed that binds a run to it.
//!
//! The commitment is the root of a Merkle tree over everything that decides the output: each tensor's name,
//! type, shape and bytes (in leaves of 64 KiB, so that a single leaf can be challenged later), the
//! tokenizer's data, the chat template, the engine's hyper-parameters, its numeric profile and its sampler
//! specification. Another quantisation of the same model is another commitment; the same file loaded as
//! stages, on another CPU or with another thread count is the same one.
//!
//! All hashes are BLAKE3 with a domain string; a node of the tree and a leaf have different domains, so
//! neither can be passed off as the other.

use bourse_types::Digest32;

use crate::gguf::{ArrayValue, GgufFile, TensorInfo, Value};

/// Bytes of a tensor that one leaf covers.
pub const LEAF_BYTES: usize = 64 << 10;
/// Names the arithmetic: Q8_0 weights and activations, exact sums in blocks of 32, blocks added in order.
pub const NUMERIC_PROFILE: &str = "bourse/numeric/q8-block32/1";
/// Names the sampler: Gumbel noise by counter, see `sampling`.
pub const SAMPLER_SPEC: &str = "bourse/sampler/gumbel/1";

const LEAF_DOMAIN: &[u8] = b"bourse/model-leaf/1";
const NODE_DOMAIN: &[u8] = b"bourse/model-node/1";
const TENSOR_DOMAIN: &[u8] = b"bourse/model-tensor/1";
const METADATA_DOMAIN: &[u8] = b"bourse/model-metadata/1";
const ROOT_DOMAIN: &[u8] = b"bourse/model-root/1";
const SEED_DOMAIN: &[u8] = b"bourse/seed/1";

/// The seed of one run's sampling noise: BLAKE3("bourse/seed/1" ‖ nonce ‖ request id ‖ commitment).
///
/// The nonce is the buyer's, the request id the market's, the commitment the model's: the node contributes
/// nothing and so cannot try seeds until one suits it. The id is little-endian. Only the nonce varies in
/// length and all that follows it is fixed, so no two different inputs run together.
pub fn run_seed(nonce: &[u8], request_id: u128, commitment: &Digest32) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(SEED_DOMAIN);
    hasher.update(nonce);
    hasher.update(&request_id.to_le_bytes());
    hasher.update(&commitment.0);
    *hasher.finalize().as_bytes()
}

/// Collects the tensors of a file, in any order of calls but one call each, into the commitment.
#[derive(Debug, Default)]
pub(crate) struct CommitmentBuilder {
    tensors: Vec<(String, [u8; 32])>,
}

impl CommitmentBuilder {
    /// Adds a tensor with the bytes it has in the file.
    pub(crate) fn add_tensor(&mut self, name: &str, info: &TensorInfo, bytes: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(TENSOR_DOMAIN);
        update_with_length(&mut hasher, name.as_bytes());
        hasher.update(&info.tensor_type.ggml().to_le_bytes());
        hasher.update(&(info.dimensions.len() as u32).to_le_bytes());
        for dimension in &info.dimensions {
            hasher.update(&dimension.to_le_bytes());
        }
        hasher.update(&merkle_root(bytes.chunks(LEAF_BYTES).map(leaf).collect()));
        self.tensors.push((name.to_owned(), *hasher.finalize().as_bytes()));
    }

    /// The commitment over the tensors added and the file's metadata.
    pub(crate) fn finish(mut self, file: &GgufFile) -> Digest32 {
        self.tensors.sort();
        let mut hasher = blake3::Hasher::new();
        hasher.update(ROOT_DOMAIN);
        hasher.update(&merkle_root(self.tensors.into_iter().map(|(_, digest)| digest).collect()));
        hasher.update(&metadata_digest(file));
        update_with_length(&mut hasher, NUMERIC_PROFILE.as_bytes());
        update_with_length(&mut hasher, SAMPLER_SPEC.as_bytes());
        Digest32(*hasher.finalize().as_bytes())
    }
}

fn leaf(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(LEAF_DOMAIN);
    hasher.update(bytes);
    *hasher.finalize().as_bytes()
}

/// Pairs neighbours level by level; a last one without a neighbour moves up unchanged.
fn merkle_root(mut level: Vec<[u8; 32]>) -> [u8; 32] {
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    let mut hasher = blake3::Hasher::new();
                    hasher.update(NODE_DOMAIN);
                    hasher.update(left);
                    hasher.update(right);
                    *hasher.finalize().as_bytes()
                }
                _ => pair[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or([0; 32])
}

/// Everything in the metadata that can change an output: the tokenizer with its chat template and the
/// architecture's own entries. A title or a licence text cannot and is left out.
fn metadata_digest(file: &GgufFile) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(METADATA_DOMAIN);
    let architecture = file.get_str("general.architecture").unwrap_or_default();
    update_with_length(&mut hasher, architecture.as_bytes());
    for (key, value) in file.metadata() {
        let own = key.strip_prefix(architecture).is_some_and(|rest| rest.starts_with('.'));
        if own || key.starts_with("tokenizer.") {
            update_with_length(&mut hasher, key.as_bytes());
            update_value(&mut hasher, value);
        }
    }
    *hasher.finalize().as_bytes()
}

fn update_value(hasher: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Uint(item) => update_tagged(hasher, 0, &item.to_le_bytes()),
        Value::Int(item) => update_tagged(hasher, 1, &item.to_le_bytes()),
        Value::Float(item) => update_tagged(hasher, 2, &item.to_bits().to_le_bytes()),
        Value::Bool(item) => update_tagged(hasher, 3, &[u8::from(*item)]),
        Value::String(item) => update_tagged(hasher, 4, item.as_bytes()),
        Value::Array(array) => {
            update_tagged(hasher, 5, &(array.len() as u64).to_le_bytes());
            match array {
                ArrayValue::Int(items) => {
                    for item in items {
                        update_tagged(hasher, 1, &item.to_le_bytes());
                    }
                }
                ArrayValue::Float(items) => {
                    for item in items {
                        update_tagged(hasher, 2, &item.to_bits().to_le_bytes());
                    }
                }
                ArrayValue::Bool(items) => {
                    for item in items {
                        update_tagged(hasher, 3, &[u8::from(*item)]);
                    }
                }
                ArrayValue::String(items) => {
                    for item in items {
                        update_tagged(hasher, 4, item.as_bytes());
                    }
                }
            }
        }
    }
}

fn update_tagged(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    update_with_length(hasher, bytes);
}

fn update_with_length(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

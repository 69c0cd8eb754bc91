//! What a node commits to about a generation: the run seed, the prompt and the tokens.
//!
//! The run seed is made of things that the node does not choose, so that it cannot grind for an answer it
//! likes. The trace root lets an auditor ask for any 32 tokens of an answer and check that they are the
//! ones that were signed. Token ids are little-endian `u32`.

use crate::merkle::{Frontier, leaf_hash};
use bourse_types::{Digest32, RequestId};

/// Tokens in one leaf of a trace.
pub const TRACE_CHUNK_TOKENS: usize = 32;
/// Domain of the run seed.
pub const RUN_SEED_DOMAIN: &str = "bourse/seed/1";
/// Domain of a leaf of a trace.
pub const TRACE_DOMAIN: &str = "bourse/trace/1";

/// The seed of a generation: BLAKE3 of the domain, the nonce, the request id (little-endian; zero when
/// the buyer chose the seed, so that the same seed repeats) and the model commitment.
pub fn run_seed(nonce: &[u8; 32], request: RequestId, commitment: &Digest32) -> Digest32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(RUN_SEED_DOMAIN.as_bytes());
    hasher.update(nonce);
    hasher.update(&request.0.to_le_bytes());
    hasher.update(&commitment.0);
    Digest32(*hasher.finalize().as_bytes())
}

/// The nonce of one of several choices: the last byte xored with the choice's number.
pub fn choice_nonce(nonce: &[u8; 32], choice: u8) -> [u8; 32] {
    let mut nonce = *nonce;
    nonce[31] ^= choice;
    nonce
}

/// What a statement says about a run seed: its BLAKE3, which reveals nothing before an audit.
pub fn run_seed_hash(run_seed: &Digest32) -> Digest32 {
    Digest32(*blake3::hash(&run_seed.0).as_bytes())
}

/// BLAKE3 of a prompt's token ids.
pub fn prompt_hash(tokens: &[u32]) -> Digest32 {
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    Digest32(*hasher.finalize().as_bytes())
}

/// Hash of one leaf: the domain, the choice, the position of its first token, and its tokens.
pub fn trace_leaf(choice: u32, first_position: u32, tokens: &[u32]) -> Digest32 {
    let mut bytes = Vec::with_capacity(TRACE_DOMAIN.len() + 8 + 4 * tokens.len());
    bytes.extend_from_slice(TRACE_DOMAIN.as_bytes());
    bytes.extend_from_slice(&choice.to_le_bytes());
    bytes.extend_from_slice(&first_position.to_le_bytes());
    for token in tokens {
        bytes.extend_from_slice(&token.to_le_bytes());
    }
    leaf_hash(&bytes)
}

/// Merkle root over the chunks of [`TRACE_CHUNK_TOKENS`] output tokens, all choices in order; a choice
/// starts a new chunk. The root of the empty tree when nothing was generated.
pub fn trace_root<T: AsRef<[u32]>>(choices: &[T]) -> Digest32 {
    let mut frontier = Frontier::default();
    for (choice, tokens) in (0u32..).zip(choices) {
        for (n, chunk) in (0u32..).zip(tokens.as_ref().chunks(TRACE_CHUNK_TOKENS)) {
            frontier.append(trace_leaf(choice, n * TRACE_CHUNK_TOKENS as u32, chunk), |_, _| {});
        }
    }
    frontier.root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{empty_root, node_hash};

    #[test]
    fn the_run_seed_is_the_documented_hash() {
        let mut bytes = b"bourse/seed/1".to_vec();
        bytes.extend([1u8; 32]);
        bytes.extend(5u128.to_le_bytes());
        bytes.extend([2u8; 32]);
        let seed = run_seed(&[1; 32], RequestId(5), &Digest32([2; 32]));
        assert_eq!(seed, Digest32(*blake3::hash(&bytes).as_bytes()));
        assert_ne!(seed, run_seed(&choice_nonce(&[1; 32], 1), RequestId(5), &Digest32([2; 32])));
        assert_ne!(run_seed_hash(&seed), seed);
    }

    #[test]
    fn chunks_end_at_32_tokens_and_at_choices() {
        let tokens: Vec<u32> = (0..33).collect();
        let one = node_hash(&trace_leaf(0, 0, &tokens[..32]), &trace_leaf(0, 32, &tokens[32..]));
        assert_eq!(trace_root(&[&tokens]), one);
        assert_eq!(trace_root(&[&tokens[..32]]), trace_leaf(0, 0, &tokens[..32]));
        assert_ne!(trace_root(&[&tokens[..32], &tokens[32..]]), one);
        assert_eq!(trace_root::<Vec<u32>>(&[]), empty_root());
    }

    #[test]
    fn prompt_hash_is_over_little_endian_ids() {
        assert_eq!(prompt_hash(&[1, 2]), Digest32(*blake3::hash(&[1, 0, 0, 0, 2, 0, 0, 0]).as_bytes()));
    }
}

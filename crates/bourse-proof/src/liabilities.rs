//! What the house owes, as a Merkle-sum tree: one root, one total, and a proof for each account.
//!
//! A leaf is `SHA-256(0x10 ‖ salt ‖ account digest ‖ amount)` with the amount as its sum, a node
//! `SHA-256(0x11 ‖ left hash ‖ left sum ‖ right hash ‖ right sum)` with the sum of both. **Each child's sum is
//! hashed, not only their total**: the proof of liabilities as G. Maxwell and P. Todd drew it hashes the
//! total alone, so a prover can show every customer another pair of sums and sign for less than it owes (Hu,
//! Zhang, Wang, *Broken proofs of solvency in blockchain custodial wallets and exchanges*, 2019). The first
//! byte keeps leaves, nodes and the trees of [`merkle`](crate::merkle) apart; the shape is theirs. Amounts
//! have no sign and sums are checked, so no leaf and no overflow can make a total smaller.
//!
//! Leaves stand in the order of their salted hashes, another one in each epoch, so that a place says nothing
//! about whose it is. What a proof tells beside its own leaf: how many accounts there are, and the sums of at
//! most [`PATH_LENGTH_MAX`] subtrees, the smallest of which is one other account's balance, nobody knows whose.
//! Hiding those, too, takes commitments and range proofs (DAPOL+), which is not done.
//!
//! A proof shows that an amount is counted in a total that was signed. It does not show that the money is
//! there, nor that others are counted: each account must look for itself.
//!
//! Limits: [`LEAVES_MAX`] leaves. A tree of *n* takes about 4*n* compressions of SHA-256 and 100*n* bytes.

use crate::merkle::empty_root;
use bourse_types::{AccountId, Digest32};
use bourse_wire::liability::{Liability, SumNode};
use bourse_wire::liability_json::LIABILITY_PATH_MAX;
use bourse_wire::receipt::Receipt;
use sha2::{Digest as _, Sha256};

mod document;
pub use document::{ProofPolicy, verify_liability_proof};

/// Most leaves of one tree.
pub const LEAVES_MAX: usize = 1 << 20;
/// Longest path in a tree of [`LEAVES_MAX`] leaves.
pub const PATH_LENGTH_MAX: usize = LIABILITY_PATH_MAX;
const _: () = assert!(LEAVES_MAX == 1 << PATH_LENGTH_MAX, "a document holds the longest path");

const LEAF: [u8; 1] = [0x10];
const NODE: [u8; 1] = [0x11];

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LiabilitiesError {
    /// More than [`LEAVES_MAX`] leaves.
    #[error("{0} liabilities, at most {LEAVES_MAX} have a tree")]
    TooMany(usize),
    /// The sum does not fit.
    #[error("the liabilities sum to more than can be counted")]
    Overflow,
}

/// Why a leaf is not proven to be in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InclusionError {
    /// No such leaf, or a tree that is larger than any.
    #[error("position {index} is outside a tree of {count} leaves, of which there are at most {LEAVES_MAX}")]
    OutOfRange {
        /// The position.
        index: u64,
        /// Leaves of the tree.
        count: u64,
    },
    /// The path is too short or too long for this position.
    #[error("a path of {0} nodes does not fit this position")]
    PathLength(usize),
    /// Sums that cannot be.
    #[error("the sums of the path add up to more than can be counted")]
    Overflow,
    /// The sums lead to another total.
    #[error("the sums of the path add up to {found} nano-USD, the total is {total}")]
    Total {
        /// What they add up to.
        found: u128,
        /// What was signed.
        total: u128,
    },
    /// The path leads to another root.
    #[error("the path leads to another root")]
    Root,
}

/// Who is owed how much. Made under a lock, so it only counts and adds; [`Liabilities::tree`] hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liabilities {
    amounts: Vec<(AccountId, u128)>,
    total: u128,
}

impl Liabilities {
    /// Of these accounts, each once.
    pub fn new(amounts: Vec<(AccountId, u128)>) -> Result<Self, LiabilitiesError> {
        if amounts.len() > LEAVES_MAX {
            return Err(LiabilitiesError::TooMany(amounts.len()));
        }
        let add = |sum: u128, (_, amount): &(AccountId, u128)| sum.checked_add(*amount);
        let total = amounts.iter().try_fold(0, add).ok_or(LiabilitiesError::Overflow)?;
        Ok(Self { amounts, total })
    }

    /// What all of them sum to, in nano-USD.
    pub fn total_nano_usd(&self) -> u128 {
        self.total
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.amounts.len() as u64
    }

    /// The tree under an epoch's secret seed.
    pub fn tree(&self, seed: &[u8; 32]) -> LiabilityTree<'_> {
        let node = |(account, amount): &(AccountId, u128)| leaf_node(&liability(seed, *account, *amount));
        let mut leaves: Vec<SumNode> = self.amounts.iter().map(node).collect();
        leaves.sort_unstable_by_key(|leaf| leaf.hash);
        LiabilityTree { liabilities: self, seed: *seed, leaves }
    }
}

/// The tree: its leaves in order. Nodes are made when they are asked for.
#[derive(Clone)]
pub struct LiabilityTree<'a> {
    liabilities: &'a Liabilities,
    seed: [u8; 32],
    leaves: Vec<SumNode>,
}

impl LiabilityTree<'_> {
    /// The root's hash.
    pub fn root(&self) -> Digest32 {
        climb(self.leaves.clone(), None).0.map_or_else(empty_root, |root| root.hash)
    }

    /// An account's leaf, its position and its path; `None` when it is not one of these.
    pub fn prove(&self, account: AccountId) -> Option<(Liability, u64, Vec<SumNode>)> {
        let (_, amount) = self.liabilities.amounts.iter().find(|(owed, _)| *owed == account)?;
        let leaf = liability(&self.seed, account, *amount);
        let hash = leaf_node(&leaf).hash;
        let index = self.leaves.binary_search_by_key(&hash, |leaf| leaf.hash).ok()?;
        let (_, path) = climb(self.leaves.clone(), Some(index));
        Some((leaf, index as u64, path))
    }
}

/// Checks that `leaf` is at `index` in the tree of `count` leaves with this root and total. `path` goes
/// upwards. Made for foreign input.
pub fn verify_inclusion(
    leaf: &Liability,
    index: u64,
    path: &[SumNode],
    count: u64,
    root: &SumNode,
) -> Result<(), InclusionError> {
    if index >= count || count > LEAVES_MAX as u64 {
        return Err(InclusionError::OutOfRange { index, count });
    }
    let wrong_length = InclusionError::PathLength(path.len());
    let (mut position, mut last) = (index, count - 1);
    let mut node = leaf_node(leaf);
    let mut siblings = path.iter();
    while last > 0 {
        // The odd one out at the end of a level rises as it is.
        if position != last || position & 1 == 1 {
            let sibling = siblings.next().ok_or(wrong_length)?;
            let (left, right) = if position & 1 == 1 { (sibling, &node) } else { (&node, sibling) };
            node = join(left, right).ok_or(InclusionError::Overflow)?;
        }
        position >>= 1;
        last >>= 1;
    }
    if siblings.next().is_some() {
        return Err(wrong_length);
    }
    if node.sum_nano_usd != root.sum_nano_usd {
        return Err(InclusionError::Total { found: node.sum_nano_usd, total: root.sum_nano_usd });
    }
    if node.hash == root.hash { Ok(()) } else { Err(InclusionError::Root) }
}

/// The leaf of an account under an epoch's seed. The salt follows from both, so that whoever has the seed
/// needs nothing else; without it the small numbers of accounts cannot be tried out.
fn liability(seed: &[u8; 32], account: AccountId, amount_nano_usd: u128) -> Liability {
    let account_digest = Receipt::digest_of_account(account);
    let salt = Digest32(*blake3::keyed_hash(seed, &account_digest.0).as_bytes());
    Liability { account_digest, salt, amount_nano_usd }
}

fn leaf_node(leaf: &Liability) -> SumNode {
    let hash = Sha256::new_with_prefix(LEAF)
        .chain_update(leaf.salt.0)
        .chain_update(leaf.account_digest.0)
        .chain_update(leaf.amount_nano_usd.to_le_bytes());
    SumNode { hash: Digest32(hash.finalize().into()), sum_nano_usd: leaf.amount_nano_usd }
}

/// The node over two; `None` when their sums do not fit.
fn join(left: &SumNode, right: &SumNode) -> Option<SumNode> {
    let sum_nano_usd = left.sum_nano_usd.checked_add(right.sum_nano_usd)?;
    let hash = Sha256::new_with_prefix(NODE)
        .chain_update(left.hash.0)
        .chain_update(left.sum_nano_usd.to_le_bytes())
        .chain_update(right.hash.0)
        .chain_update(right.sum_nano_usd.to_le_bytes());
    Some(SumNode { hash: Digest32(hash.finalize().into()), sum_nano_usd })
}

/// The root over a level of nodes, and the siblings on the way of the one at `at`.
fn climb(mut level: Vec<SumNode>, at: Option<usize>) -> (Option<SumNode>, Vec<SumNode>) {
    let (mut at, mut path) = (at, Vec::new());
    while level.len() > 1 {
        if let Some(at) = &mut at {
            path.extend(level.get(*at ^ 1));
            *at /= 2;
        }
        level = level.chunks(2).map(above).collect();
    }
    (level.first().copied(), path)
}

fn above(pair: &[SumNode]) -> SumNode {
    match pair {
        [left, right] => join(left, right).expect("a part of a total that was counted"),
        alone => alone[0],
    }
}

#[cfg(test)]
mod tests;

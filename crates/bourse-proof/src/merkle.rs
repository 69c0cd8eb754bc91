//! Merkle trees as in RFC 6962 §2.1, over SHA-256.
//!
//! A leaf is `SHA-256(0x00 ‖ bytes)`, a node `SHA-256(0x01 ‖ left ‖ right)`, the empty tree `SHA-256()`; the
//! first byte keeps a leaf from passing as a node. A tree of *n* leaves splits at the largest power of two
//! below *n*. Verification follows RFC 9162 §2.1.3.2 and §2.1.4.2. It is made for foreign input: paths
//! longer than [`PATH_LENGTH_MAX`] are refused unread, and every element must be used.

use bourse_types::Digest32;
use sha2::{Digest as _, Sha256};

/// Longest path of any proof: a tree of 2⁶⁴ leaves is 64 nodes high, and a consistency proof may carry
/// one element more.
pub const PATH_LENGTH_MAX: usize = 65;

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf is not in a tree of this size, or the older tree is larger than the newer one.
    #[error("position {index} is outside a tree of {size}")]
    OutOfRange {
        /// The position asked for.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The path is too short or too long for these positions.
    #[error("a path of {0} elements does not fit these positions")]
    PathLength(usize),
    /// The path leads to another root.
    #[error("the path leads to another root")]
    Root,
    /// A stored hash is not there.
    #[error("the stored hashes of tile {index} at level {level} are missing")]
    MissingTile {
        /// Level of the tile.
        level: u8,
        /// Position of the tile at its level.
        index: u64,
    },
}

/// Hash of a leaf's bytes.
pub fn leaf_hash(bytes: &[u8]) -> Digest32 {
    Digest32(Sha256::new_with_prefix([0]).chain_update(bytes).finalize().into())
}

/// Hash of a node over its children.
pub fn node_hash(left: &Digest32, right: &Digest32) -> Digest32 {
    let mut bytes = [1u8; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Digest32(Sha256::digest(bytes).into())
}

/// Root of the tree without leaves.
pub fn empty_root() -> Digest32 {
    Digest32(Sha256::digest([]).into())
}

/// The complete subtrees of a growing tree, largest first: enough to append and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest32>,
}

impl Frontier {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf's hash. Calls `completed` with the height and hash of every subtree that becomes
    /// complete, the leaf itself (height 0) first.
    pub fn append(&mut self, leaf: Digest32, mut completed: impl FnMut(u32, &Digest32)) {
        let mut hash = leaf;
        completed(0, &hash);
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
                completed(height, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root over all leaves.
    pub fn root(&self) -> Digest32 {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }

    /// A frontier from complete subtrees, largest first, one for each set bit of `size`.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<Digest32>) -> Self {
        debug_assert_eq!(size.count_ones() as usize, peaks.len(), "one peak per set bit");
        Self { size, peaks }
    }

    /// The complete subtrees, largest first.
    pub(crate) fn into_peaks(self) -> Vec<Digest32> {
        self.peaks
    }
}

/// Checks that `leaf` is at `index` in the tree of `size` leaves with `root`. `path` goes upwards.
pub fn verify_inclusion(
    leaf: &Digest32,
    index: u64,
    size: u64,
    path: &[Digest32],
    root: &Digest32,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { index, size });
    }
    let wrong_length = Err(ProofError::PathLength(path.len()));
    if path.len() > PATH_LENGTH_MAX {
        return wrong_length;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return wrong_length;
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(sibling, &hash);
            // The rightmost node without a sibling rises until it is a right child.
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return wrong_length;
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `old_size` leaves with `old_root` is a prefix of the tree of `new_size` with
/// `new_root`. Equal sizes and an old size of zero need an empty path.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Digest32,
    new_size: u64,
    new_root: &Digest32,
    path: &[Digest32],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::OutOfRange { index: old_size, size: new_size });
    }
    let wrong_length = Err(ProofError::PathLength(path.len()));
    if path.len() > PATH_LENGTH_MAX {
        return wrong_length;
    }
    if old_size == new_size || old_size == 0 {
        let expected = if old_size == 0 { empty_root() } else { *new_root };
        let holds = *old_root == expected && (new_size != 0 || *new_root == expected);
        return match (path.is_empty(), holds) {
            (false, _) => wrong_length,
            (true, true) => Ok(()),
            (true, false) => Err(ProofError::Root),
        };
    }
    // A complete old tree is its own first element; otherwise the path brings it.
    let (first, rest) = if old_size.is_power_of_two() {
        (*old_root, path)
    } else {
        let Some((first, rest)) = path.split_first() else { return wrong_length };
        (*first, rest)
    };
    let shift = (old_size - 1).trailing_ones();
    let (mut position, mut last) = ((old_size - 1) >> shift, (new_size - 1) >> shift);
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return wrong_length;
        }
        if position & 1 == 1 || position == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return wrong_length;
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

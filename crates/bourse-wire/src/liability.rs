//! What the exchange signs about its debts: the epoch, and the proof that one account is counted in it.
//!
//! An [`Epoch`] is the head of a Merkle-sum tree over what the house owes, signed like a checkpoint and
//! chained to the epoch before. A [`LiabilityProof`] is what one customer gets: its own leaf and the way up
//! to the root. Neither names an account: a leaf has the digest that the account has in its receipts.
//! Amounts are nano-USD as `u128`, because they are sums of `u64` transfers.

use crate::canonical::Writer;
use bourse_types::{Digest32, UnixMs};

/// Domain of an epoch's signature and digest.
pub const EPOCH_DOMAIN: &str = "bourse/epoch/1";

/// What the house owes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Counted from 1.
    pub number: u64,
    /// The moment: everything before it is in, nothing of it or after it.
    pub closed_at: UnixMs,
    /// Root of the Merkle-sum tree.
    pub root: Digest32,
    /// Sum of all leaves.
    pub total_nano_usd: u128,
    /// Leaves.
    pub count: u64,
    /// [`Epoch::digest`] of the epoch before; zeros in the first.
    pub previous: Digest32,
}

impl Epoch {
    /// The bytes that the exchange signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.text(EPOCH_DOMAIN);
        w.u64(self.number);
        w.u64(self.closed_at.0);
        w.fixed(&self.root.0);
        w.u128(self.total_nano_usd);
        w.u64(self.count);
        w.fixed(&self.previous.0);
        w.bytes
    }

    /// What the next epoch names as the one before it.
    pub fn digest(&self) -> Digest32 {
        Digest32(*blake3::hash(&self.signed_bytes()).as_bytes())
    }
}

/// An epoch with the exchange's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedEpoch {
    /// What is signed.
    pub epoch: Epoch,
    /// The exchange's ed25519 public key.
    pub exchange: Digest32,
    /// Signature over [`Epoch::signed_bytes`].
    pub signature: [u8; 64],
}

/// What is owed to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liability {
    /// The account as it stands in its receipts.
    pub account_digest: Digest32,
    /// Makes the leaf's hash unlike any that a neighbour could guess; another one in each epoch.
    pub salt: Digest32,
    /// How much.
    pub amount_nano_usd: u128,
}

/// A node of the tree: its hash and the sum of the leaves below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SumNode {
    /// Over both children with their sums, or over a leaf.
    pub hash: Digest32,
    /// What all leaves below sum to.
    pub sum_nano_usd: u128,
}

/// That one account is counted in an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiabilityProof {
    /// The signed head.
    pub signed: SignedEpoch,
    /// The account's own leaf.
    pub leaf: Liability,
    /// Its position, from 0.
    pub leaf_index: u64,
    /// Siblings from the leaf to the root, lowest first.
    pub path: Vec<SumNode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_epoch_is_signed() {
        let digest = |n: u8| Digest32([n; 32]);
        let epoch = Epoch {
            number: 1,
            closed_at: UnixMs(2),
            root: digest(3),
            total_nano_usd: 4,
            count: 5,
            previous: digest(6),
        };
        let all = [
            epoch,
            Epoch { number: 9, ..epoch },
            Epoch { closed_at: UnixMs(9), ..epoch },
            Epoch { root: digest(9), ..epoch },
            Epoch { total_nano_usd: 9, ..epoch },
            Epoch { count: 9, ..epoch },
            Epoch { previous: digest(9), ..epoch },
        ];
        let mut bytes: Vec<_> = all.iter().map(Epoch::signed_bytes).collect();
        bytes.sort();
        bytes.dedup();
        assert_eq!(bytes.len(), all.len());
        assert!(bytes[0].windows(EPOCH_DOMAIN.len()).any(|part| part == EPOCH_DOMAIN.as_bytes()));
        assert_ne!(all[0].digest(), all[1].digest());
    }
}

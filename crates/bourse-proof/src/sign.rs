//! Signatures: ed25519 over canonical bytes.
//!
//! Every signed message begins with its own domain, so that a signature over one kind of document never
//! fits another. Keys are made from 32 secret bytes that the caller keeps; signing needs no randomness.
//! Verification is strict (RFC 8032 with weak keys and malleable signatures refused), because a receipt
//! must not verify under a key that fits everything.

use bourse_types::{Digest32, NodeId, UnixMs};
use bourse_wire::liability::{Epoch, SignedEpoch};
use bourse_wire::receipt::{Checkpoint, NodeStatement, Receipt, SignedNodeStatement};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use std::fmt;

/// A signature does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The bytes are no usable ed25519 public key.
    #[error("the public key is not a valid ed25519 key")]
    Key,
    /// The signature is not of this key over these bytes.
    #[error("the signature does not fit the key and the content")]
    Mismatch,
}

/// A secret ed25519 key.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// The key of 32 secret bytes.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The public key.
    pub fn public(&self) -> Digest32 {
        Digest32(self.0.verifying_key().to_bytes())
    }

    /// The public key as a node's id.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes that begin with a domain.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        self.0.sign(message).to_bytes()
    }

    /// Signs a log head.
    pub fn sign_checkpoint(&self, size: u64, root: Digest32, time: UnixMs) -> Checkpoint {
        let signature = self.sign(&Checkpoint::signed_bytes(size, &root, time));
        Checkpoint { size, root, time, exchange: self.public(), signature }
    }

    /// Signs what is owed at the end of an epoch.
    pub fn sign_epoch(&self, epoch: Epoch) -> SignedEpoch {
        SignedEpoch { epoch, exchange: self.public(), signature: self.sign(&epoch.signed_bytes()) }
    }

    /// Another secret of the same owner, for one purpose and number. Shows nothing of the key.
    pub fn derive(&self, purpose: &'static str, number: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(&self.0.to_bytes());
        hasher.update(&number.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    /// Signs a receipt.
    pub fn sign_receipt(&self, receipt: &Receipt) -> [u8; 64] {
        self.sign(&receipt.canonical_bytes())
    }

    /// Signs a node's statement.
    pub fn sign_statement(&self, statement: NodeStatement) -> SignedNodeStatement {
        let signature = self.sign(&statement.signed_bytes());
        SignedNodeStatement { statement, signature }
    }
}

/// Checks a signature over bytes that begin with a domain.
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::Key)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| SignatureError::Mismatch)
}

/// Checks a checkpoint's signature under the key that it names.
pub fn verify_checkpoint(checkpoint: &Checkpoint) -> Result<(), SignatureError> {
    let message = Checkpoint::signed_bytes(checkpoint.size, &checkpoint.root, checkpoint.time);
    verify(&checkpoint.exchange.0, &message, &checkpoint.signature)
}

/// Checks an epoch's signature under the key that it names.
pub fn verify_epoch(signed: &SignedEpoch) -> Result<(), SignatureError> {
    verify(&signed.exchange.0, &signed.epoch.signed_bytes(), &signed.signature)
}

/// Checks a statement's signature under the key of the node that it names.
pub fn verify_statement(signed: &SignedNodeStatement) -> Result<(), SignatureError> {
    verify(&signed.statement.node.0, &signed.statement.signed_bytes(), &signed.signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_8032_test_1() {
        let secret = Digest32::parse_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let signer = Signer::from_bytes(&secret.unwrap().0);
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(signer.public().to_string(), public);
        let signature = signer.sign(b"");
        assert_eq!(Digest32(signature[..32].try_into().unwrap()).to_string().get(..8), Some("e5564300"));
        assert_eq!(verify(&signer.public().0, b"", &signature), Ok(()));
        assert_eq!(verify(&signer.public().0, b"x", &signature), Err(SignatureError::Mismatch));
    }

    #[test]
    fn weak_keys_fit_nothing() {
        // The identity point: with an all-zero scalar it would verify any message.
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1;
        assert!(verify(&identity, b"anything", &signature).is_err());
        assert!(verify(&[0xff; 32], b"anything", &signature).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let signer = Signer::from_bytes(&[0x42; 32]);
        assert!(!format!("{signer:?}").contains("4242"));
    }

    #[test]
    fn a_checkpoint_binds_size_root_and_time() {
        let signed = Signer::from_bytes(&[7; 32]).sign_checkpoint(3, Digest32([1; 32]), UnixMs(9));
        assert_eq!(verify_checkpoint(&signed), Ok(()));
        for changed in [
            Checkpoint { size: 4, ..signed },
            Checkpoint { root: Digest32([2; 32]), ..signed },
            Checkpoint { time: UnixMs(8), ..signed },
            Checkpoint { exchange: Signer::from_bytes(&[8; 32]).public(), ..signed },
        ] {
            assert!(verify_checkpoint(&changed).is_err());
        }
    }

    #[test]
    fn an_epoch_binds_what_it_says_and_no_other_document() {
        let signer = Signer::from_bytes(&[7; 32]);
        let digest = Digest32([1; 32]);
        let epoch = Epoch {
            number: 1,
            closed_at: UnixMs(9),
            root: digest,
            total_nano_usd: 5,
            count: 2,
            previous: digest,
        };
        let signed = signer.sign_epoch(epoch);
        assert_eq!(verify_epoch(&signed), Ok(()));
        let less = SignedEpoch { epoch: Epoch { total_nano_usd: 4, ..epoch }, ..signed };
        assert!(verify_epoch(&less).is_err());
        let signature = signer.sign_checkpoint(1, digest, UnixMs(9)).signature;
        assert!(verify_epoch(&SignedEpoch { signature, ..signed }).is_err());
    }

    #[test]
    fn secrets_of_other_purposes_and_numbers_differ() {
        let signer = Signer::from_bytes(&[7; 32]);
        let one = signer.derive("a", 1);
        assert_eq!(signer.derive("a", 1), one);
        assert_ne!(signer.derive("a", 2), one);
        assert_ne!(signer.derive("b", 1), one);
        assert_ne!(Signer::from_bytes(&[8; 32]).derive("a", 1), one);
    }
}

//! Signatures on reasoning: bound to the seller that thought it, and to what it thought.
//!
//! Vendors refuse reasoning that they did not write, so a market that moves a conversation from seller to
//! seller must know whose it is. Sixteen digits name the text, sixteen bind them to the seller; the whole
//! is valid base64, as clients expect. Nothing here is secret or safe.

use crate::seed::{digest, mix};

/// The signature of a seller under a text.
pub(super) fn sign(seller: &str, text: &str) -> String {
    let named = digest(text.as_bytes());
    format!("{named:016x}{:016x}", bind(seller, named))
}

/// Whether this seller made the signature, for any text.
pub(super) fn is_own(seller: &str, signature: &str) -> bool {
    let halves = signature.split_at_checked(16).filter(|(_, bound)| bound.len() == 16);
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let numbers = halves.and_then(|(named, bound)| Some((number(named)?, number(bound)?)));
    numbers.is_some_and(|(named, bound)| bind(seller, named) == bound)
}

/// Whether this seller made the signature for this text.
pub(super) fn is_valid(seller: &str, text: &str, signature: &str) -> bool {
    signature == sign(seller, text)
}

fn bind(seller: &str, named: u64) -> u64 {
    mix(named ^ mix(digest(seller.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_seller_and_text() {
        let signature = sign("alpha", "hm");
        assert!(is_valid("alpha", "hm", &signature) && is_own("alpha", &signature));
        assert!(!is_valid("alpha", "hmm", &signature));
        assert!(!is_valid("beta", "hm", &signature) && !is_own("beta", &signature));
        for broken in ["", "x", "é", &signature[1..], &format!("{signature}0")] {
            assert!(!is_own("alpha", broken), "{broken}");
        }
    }
}

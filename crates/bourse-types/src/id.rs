//! Ids: what names one request, transfer, account, key or node.
//!
//! A [`RequestId`] is 128 bits: 48 bits of Unix milliseconds, then 80 random bits (the ULID layout), so
//! that ids sort by time, indexes stay dense, and a ledger can refuse an id too old to be remembered.
//! Transfer ids are derived from it, so a retry meets its first try. Text form: a prefix and 26
//! characters of Crockford base 32, or 64 hex digits for digests.

use crate::time::UnixMs;
use std::fmt;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BASE32_CHARS: usize = 26;
const TIME_SHIFT: u32 = 80;

/// Why an id could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The prefix is another one.
    #[error("an id of this kind starts with `{0}`")]
    Prefix(&'static str),
    /// Wrong length or a character outside the alphabet.
    #[error("an id of this kind has {0} characters after its prefix")]
    Malformed(&'static str),
}

/// One request of one buyer: also the id of its generation record and its receipt. Text: `gen-…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

impl RequestId {
    /// Text prefix.
    pub const PREFIX: &'static str = "gen-";

    /// Builds an id from the time of arrival and 80 bits of the caller's randomness.
    pub fn new(now: UnixMs, random: [u8; 10]) -> Self {
        let mut bytes = [0u8; 16];
        bytes[6..].copy_from_slice(&random);
        Self((u128::from(now.0) << TIME_SHIFT) | u128::from_be_bytes(bytes))
    }

    /// The time of arrival that the id carries (48 bits of milliseconds).
    pub fn time(self) -> UnixMs {
        UnixMs((self.0 >> TIME_SHIFT) as u64)
    }

    /// Reads `gen-` and 26 base-32 characters.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(IdError::Prefix(Self::PREFIX))?;
        base32_decode(rest).map(Self).ok_or(IdError::Malformed("26 base-32"))
    }

    /// The id of the `n`-th transfer made for this request. Deterministic: a retry meets its first try.
    /// Bits 80 and up keep the time; the low 80 bits are mixed with `n`.
    pub fn transfer(self, n: u16) -> TransferId {
        let low_mask = (1u128 << TIME_SHIFT) - 1;
        let mixed = (self.0 & low_mask).wrapping_add(u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39D));
        TransferId((self.0 & !low_mask) | (mixed & low_mask))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_base32(f, Self::PREFIX, self.0)
    }
}

/// One payout to a seller, laid out as a [`RequestId`]. Made once, before anything is sent; whoever repeats the payout
/// repeats the id. Text: `pay-…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayoutId(pub u128);

impl PayoutId {
    /// Text prefix.
    pub const PREFIX: &'static str = "pay-";

    /// Builds an id from the time of planning and 80 bits of the caller's randomness.
    pub fn new(now: UnixMs, random: [u8; 10]) -> Self {
        Self(RequestId::new(now, random).0)
    }

    /// The time of planning that the id carries (48 bits of milliseconds).
    pub fn time(self) -> UnixMs {
        RequestId(self.0).time()
    }

    /// Reads `pay-` and 26 base-32 characters.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let rest = text.strip_prefix(Self::PREFIX).ok_or(IdError::Prefix(Self::PREFIX))?;
        base32_decode(rest).map(Self).ok_or(IdError::Malformed("26 base-32"))
    }

    /// The id of the `n`-th transfer made for this payout, as [`RequestId::transfer`].
    pub fn transfer(self, n: u16) -> TransferId {
        RequestId(self.0).transfer(n)
    }
}

impl fmt::Display for PayoutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_base32(f, Self::PREFIX, self.0)
    }
}

/// One transfer in the ledger: made by the client before the first try, hence an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u128);

impl TransferId {
    /// The time that the id carries, as in [`RequestId::time`].
    pub fn time(self) -> UnixMs {
        UnixMs((self.0 >> TIME_SHIFT) as u64)
    }
}

/// One account in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u64);

/// 32 bytes of a digest (BLAKE3 or SHA-256, as the context says).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest32(pub [u8; 32]);

/// SHA-256 of an API key: how the house knows a key without keeping it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 32]);

/// The ed25519 public key of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

macro_rules! hex_text {
    ($name:ident) => {
        impl $name {
            /// Reads 64 hex digits.
            pub fn parse_hex(text: &str) -> Result<Self, IdError> {
                hex_decode(text).map(Self).ok_or(IdError::Malformed("64 hex"))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}
hex_text!(Digest32);
hex_text!(KeyHash);
hex_text!(NodeId);

fn hex_decode(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let digit = |c: u8| (c as char).to_digit(16);
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(out)
}

fn write_base32(f: &mut fmt::Formatter<'_>, prefix: &str, value: u128) -> fmt::Result {
    let text = base32_encode(value);
    f.write_str(prefix)?;
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn base32_encode(value: u128) -> [u8; BASE32_CHARS] {
    let mut out = [0u8; BASE32_CHARS];
    let mut rest = value;
    for slot in out.iter_mut().rev() {
        *slot = CROCKFORD[(rest & 31) as usize];
        rest >>= 5;
    }
    out
}

fn base32_decode(text: &str) -> Option<u128> {
    if text.len() != BASE32_CHARS {
        return None;
    }
    text.bytes().try_fold(0u128, |value, c| {
        let digit = CROCKFORD.iter().position(|x| *x == c.to_ascii_uppercase())? as u128;
        if value >> 123 != 0 {
            return None;
        }
        Some((value << 5) | digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn refuses_foreign_text() {
        assert_eq!(RequestId::parse("chatcmpl-1"), Err(IdError::Prefix("gen-")));
        assert_eq!(RequestId::parse("gen-1"), Err(IdError::Malformed("26 base-32")));
        assert!(RequestId::parse("gen-ZZZZZZZZZZZZZZZZZZZZZZZZZZ").is_err());
        assert!(Digest32::parse_hex("zz").is_err());
    }

    #[test]
    fn a_payout_is_no_request() {
        let id = PayoutId::new(UnixMs(1_790_000_000_123), [3; 10]);
        assert_eq!(PayoutId::parse(&id.to_string()), Ok(id));
        assert_eq!(id.time(), UnixMs(1_790_000_000_123));
        assert_eq!(PayoutId::parse("gen-1"), Err(IdError::Prefix("pay-")));
        assert!(RequestId::parse(&id.to_string()).is_err());
    }

    #[test]
    fn carries_its_time() {
        let id = RequestId::new(UnixMs(1_790_000_000_123), [0xff; 10]);
        assert_eq!(id.time(), UnixMs(1_790_000_000_123));
        assert_eq!(id.transfer(9).time(), id.time());
    }

    #[test]
    fn transfers_of_one_request_are_distinct() {
        let id = RequestId::new(UnixMs(7), [9; 10]);
        let ids: HashSet<_> = (0..=u16::MAX).map(|n| id.transfer(n)).collect();
        assert_eq!(ids.len(), 65_536);
    }

    proptest! {
        #[test]
        fn text_round_trips(value: u128, digest: [u8; 32]) {
            prop_assert_eq!(RequestId::parse(&RequestId(value).to_string()), Ok(RequestId(value)));
            prop_assert_eq!(Digest32::parse_hex(&Digest32(digest).to_string()), Ok(Digest32(digest)));
        }
    }
}

//! Hashing of ids: one folded multiplication per id, keyed.
//!
//! The default hasher of the standard library costs more than the rest of a transfer. Ids are random in
//! their low bits, so little mixing is needed; but clients make them, so the mixing is keyed and the
//! owner supplies a key that nobody outside knows. The key has no influence on any outcome, digest or
//! snapshot: it only places entries in tables.

use std::hash::{BuildHasher, Hasher};

/// Odd constant from the digits of the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Two secret words that decide where ids lie in tables.
#[derive(Clone, Copy, Default)]
pub struct HashKey(pub [u64; 2]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl BuildHasher for HashKey {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { key: self.0[1] ^ MIX, value: self.0[0] }
    }
}

/// The hasher behind [`HashKey`].
#[derive(Debug)]
pub struct IdHasher {
    key: u64,
    value: u64,
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        fold(self.value, MIX)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.value = fold(self.value ^ word, self.key).wrapping_add(word);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }
}

/// High and low half of the full product, combined: every input bit reaches every output bit.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A fixed, unkeyed digest of words: tells two different events under one id apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0x243F_6A88_85A3_08D3)
    }

    pub(crate) fn word(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, 0xA409_3822_299F_31D1).wrapping_add(word.rotate_left(32) ^ MIX);
    }

    pub(crate) fn words<const N: usize>(&mut self, words: [u64; N]) {
        for word in words {
            self.word(word);
        }
    }

    pub(crate) fn wide(&mut self, word: u128) {
        self.word(word as u64);
        self.word((word >> 64) as u64);
    }

    pub(crate) fn finish(self) -> u64 {
        fold(self.0, MIX)
    }
}

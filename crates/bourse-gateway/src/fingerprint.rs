//! Short names of texts for tables in memory: which conversation, which seller's id.
//!
//! 128 bits of a fast hash that is the same in every run, so that runs in virtual time repeat. It is no seal: who
//! chooses the texts can make two of them meet. Tables that use it hold what one account chose apart from what
//! another did, so that a buyer who does that meets only himself. Names that cross a process or guard money are
//! SHA-256 or BLAKE3.

use foldhash::quality::FixedState;
use std::hash::{BuildHasher as _, Hasher as _};

/// The halves are two hashes of the same texts.
const SEEDS: [u64; 2] = [0x626f_7572_7365_2f31, 0x626f_7572_7365_2f32];

/// The name of a row of texts; `["ab", "c"]` is not `["a", "bc"]`.
pub(crate) fn fingerprint(texts: &[&[u8]]) -> u128 {
    let [high, low] = SEEDS.map(|seed| {
        let mut hasher = FixedState::with_seed(seed).build_hasher();
        for text in texts {
            hasher.write_usize(text.len());
            hasher.write(text);
        }
        hasher.finish()
    });
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_texts_differ_where_their_parts_do() {
        let rows: [&[&[u8]]; 6] = [&[], &[b""], &[b"ab", b"c"], &[b"a", b"bc"], &[b"abc"], &[b"c", b"ab"]];
        let mut names = rows.map(fingerprint).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
        assert_ne!(names[0] >> 64, names[0] & u128::from(u64::MAX), "the halves are two hashes");
    }
}

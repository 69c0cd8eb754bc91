//! Gumbel noise by counter.
//!
//! One BLAKE3 call a step turns (run seed, step) into two 64-bit keys, and two rounds of the SplitMix64
//! finaliser under those keys turn a token id into 64 bits. The seed is not the node's to choose, so the
//! second part needs good mixing, not cryptographic strength; it must be cheap because without masks it is
//! evaluated for the whole vocabulary.

use crate::math;

const NOISE_DOMAIN: &[u8] = b"bourse/gumbel/1";

/// The largest value that [`StepNoise::gumbel`] can give: u is at most 1 − 2⁻⁵³.
pub(super) const GUMBEL_MAX: f64 = 37.5;

/// The noise of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepNoise {
    key: [u64; 2],
}

impl StepNoise {
    pub(super) fn new(run_seed: &[u8; 32], step: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(NOISE_DOMAIN);
        hasher.update(run_seed);
        hasher.update(&step.to_le_bytes());
        let digest = hasher.finalize();
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&digest.as_bytes()[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self { key: [word(0), word(8)] }
    }

    /// 64 bits for a token.
    pub(super) fn bits(self, token: u32) -> u64 {
        mix(self.key[1] ^ mix(self.key[0].wrapping_add(u64::from(token).wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }

    /// −ln(−ln u) with u = (⌊bits / 2¹¹⌋ + ½) · 2⁻⁵³.
    pub(super) fn gumbel(bits: u64) -> f64 {
        let u = ((bits >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0);
        // The uppermost value rounds to 1, whose noise would be infinite.
        let u = u.min(1.0 - f64::EPSILON / 2.0);
        -math::ln(-math::ln(u))
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

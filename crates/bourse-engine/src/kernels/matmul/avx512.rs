//! The product with AVX-512 VNNI: four byte products a lane, added to 32 bits, in one instruction.
//!
//! `vpdpbusd` wants one factor unsigned. Weights are read as weight + 128, and what that adds too much,
//! 128 times the sum of the activation's codes, is taken off beforehand; the integer sum is exact.

use std::arch::x86_64::{
    _mm256_load_si256, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_load_si512, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_storeu_ps, _mm512_xor_si512,
};

use super::{BLOCK, Micro, Sums, TILE_ROWS};

/// One tile times `ROWS` rows: a lane for each weight row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma")]
pub(super) fn micro<const ROWS: usize>(micro: &Micro<'_, ROWS>) -> Sums<ROWS> {
    let blocks = micro.blocks();
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_ps(); ROWS];
    for block in 0..blocks {
        let mut dots = [_mm512_setzero_si512(); ROWS];
        for row in 0..ROWS {
            // SAFETY: `blocks` has checked that the row has an excess for each block.
            let excess = unsafe { *micro.activation_excess.get_unchecked(row * blocks + block) };
            dots[row] = _mm512_set1_epi32(-excess);
        }
        let weights = micro.codes[block].0.as_ptr();
        for group in 0..BLOCK / 4 {
            // SAFETY: a block has 8 groups of 64 bytes and is aligned to 64.
            let weights = unsafe { _mm512_load_si512(weights.add(64 * group).cast()) };
            // Flipping the top bit of a signed byte is adding 128 to it and reading it as unsigned.
            let weights = _mm512_xor_si512(weights, flip);
            for row in 0..ROWS {
                // SAFETY: `blocks` has checked that the row has 32 codes for each block.
                let four = unsafe {
                    let codes =
                        micro.activation_codes.as_ptr().add((row * blocks + block) * BLOCK + 4 * group);
                    _mm512_set1_epi32(codes.cast::<i32>().read_unaligned())
                };
                dots[row] = _mm512_dpbusd_epi32(dots[row], weights, four);
            }
        }
        // SAFETY: a block has 16 scales of two bytes and is aligned to 32.
        let scales = unsafe { _mm512_cvtph_ps(_mm256_load_si256(micro.scales[block].0.as_ptr().cast())) };
        for row in 0..ROWS {
            // SAFETY: `blocks` has checked that the row has a scale for each block.
            let scale = unsafe { *micro.activation_scales.get_unchecked(row * blocks + block) };
            let scale = _mm512_set1_ps(scale);
            let dot = _mm512_cvtepi32_ps(dots[row]);
            sums[row] = _mm512_fmadd_ps(dot, _mm512_mul_ps(scales, scale), sums[row]);
        }
    }
    let mut into = [[0.0; TILE_ROWS]; ROWS];
    for row in 0..ROWS {
        // SAFETY: sixteen floats fill the sixteen.
        unsafe { _mm512_storeu_ps(into[row].as_mut_ptr(), sums[row]) };
    }
    into
}

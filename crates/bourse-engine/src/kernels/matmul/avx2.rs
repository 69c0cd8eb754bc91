//! The product with AVX2: unsigned-by-signed byte products with the sign moved to the activation.
//!
//! `vpmaddubsw` adds two products in 16 bits with saturation. Magnitudes of weights are at most 128 and of
//! activations at most 127, so a pair is at most 2 · 128 · 127 = 32,512 and never saturates: the sum is exact
//! and equal to the other kernels'.
//!
//! Here and in all vector code: plain loops, no closures. A closure, or `array::map`, is a function of its own
//! that lacks the vector instructions, and the compiler cannot inline an instruction into it.

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_load_si128, _mm_prefetch, _mm256_abs_epi8, _mm256_add_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_load_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_ps,
};

use super::{BLOCK, Micro, Sums, TILE_ROWS};

/// How far ahead weights are asked for.
const PREFETCH_BYTES: usize = 4096;

/// Rows whose integer sums are held in registers at once, both halves of each.
const ROWS_AT_ONCE: usize = 4;

/// One tile times `ROWS` rows, of which there are at most four or exactly eight.
///
/// Eight rows take a block of weights twice in a row, the second time from the first-level cache: memory has
/// to bring a block only half as fast as for four.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn micro<const ROWS: usize>(micro: &Micro<'_, ROWS>) -> Sums<ROWS> {
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    let blocks = micro.blocks();
    for block in 0..blocks {
        if ROWS == 2 * ROWS_AT_ONCE {
            add_block::<ROWS, 0, ROWS_AT_ONCE>(micro, blocks, block, &mut sums);
            add_block::<ROWS, ROWS_AT_ONCE, ROWS_AT_ONCE>(micro, blocks, block, &mut sums);
        } else {
            add_block::<ROWS, 0, ROWS>(micro, blocks, block, &mut sums);
        }
    }
    let mut into = [[0.0; TILE_ROWS]; ROWS];
    for row in 0..ROWS {
        // SAFETY: two halves of eight floats fill the sixteen.
        unsafe {
            _mm256_storeu_ps(into[row].as_mut_ptr(), sums[row][0]);
            _mm256_storeu_ps(into[row].as_mut_ptr().add(8), sums[row][1]);
        }
    }
    into
}

/// Adds one block's products to the sums of `COUNT` rows from `FIRST` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<const ROWS: usize, const FIRST: usize, const COUNT: usize>(
    micro: &Micro<'_, ROWS>,
    blocks: usize,
    block: usize,
    sums: &mut [[__m256; 2]; ROWS],
) {
    let ones = _mm256_set1_epi16(1);
    let mut dots = [[_mm256_setzero_si256(); 2]; COUNT];
    let weights = (&raw const micro.codes[block]).cast::<__m256i>();
    for group in 0..BLOCK / 4 {
        if FIRST == 0 {
            // A prefetch of any address is harmless; past the last tile it is merely of no use.
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(2 * group + PREFETCH_BYTES / 32).cast());
        }
        // SAFETY: a block has 8 groups of 64 bytes and is aligned to 64.
        let weights = unsafe {
            [_mm256_load_si256(weights.add(2 * group)), _mm256_load_si256(weights.add(2 * group + 1))]
        };
        let magnitudes = [_mm256_abs_epi8(weights[0]), _mm256_abs_epi8(weights[1])];
        for row in 0..COUNT {
            // SAFETY: `Micro::blocks` has checked that the row has 32 codes for each block.
            let four = unsafe {
                let codes =
                    micro.activation_codes.as_ptr().add(((FIRST + row) * blocks + block) * BLOCK + 4 * group);
                _mm256_set1_epi32(codes.cast::<i32>().read_unaligned())
            };
            for half in 0..2 {
                let signed = _mm256_sign_epi8(four, weights[half]);
                let pairs = _mm256_maddubs_epi16(magnitudes[half], signed);
                dots[row][half] = _mm256_add_epi32(dots[row][half], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    let scales = micro.scales[block].0.as_ptr();
    for half in 0..2 {
        // SAFETY: a block has 16 scales of two bytes and is aligned to 32.
        let scales = unsafe { _mm256_cvtph_ps(_mm_load_si128(scales.add(8 * half).cast())) };
        for row in 0..COUNT {
            // SAFETY: `Micro::blocks` has checked that the row has a scale for each block.
            let scale = unsafe { *micro.activation_scales.get_unchecked((FIRST + row) * blocks + block) };
            let scale = _mm256_set1_ps(scale);
            let dot = _mm256_cvtepi32_ps(dots[row][half]);
            let sum = &mut sums[FIRST + row][half];
            *sum = _mm256_fmadd_ps(dot, _mm256_mul_ps(scales, scale), *sum);
        }
    }
}

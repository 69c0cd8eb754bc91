//! The product in plain Rust: what the other kernels are held against.

use super::super::vector::half_to_float;
use super::{BLOCK, Micro, Sums, TILE_ROWS};

/// One tile times `ROWS` rows.
pub(super) fn micro<const ROWS: usize>(micro: &Micro<'_, ROWS>) -> Sums<ROWS> {
    let mut sums = [[0.0; TILE_ROWS]; ROWS];
    let blocks = micro.blocks();
    for block in 0..blocks {
        let scales = micro.scales[block].0.map(half_to_float);
        for (row, sums) in sums.iter_mut().enumerate() {
            let codes = &micro.activation_codes.as_chunks::<BLOCK>().0[row * blocks + block];
            let dots = dot_products(&micro.codes[block].0, codes);
            let activation_scale = micro.activation_scales[row * blocks + block];
            for lane in 0..TILE_ROWS {
                sums[lane] = (dots[lane] as f32).mul_add(scales[lane] * activation_scale, sums[lane]);
            }
        }
    }
    sums
}

/// A product is at most 128 · 127 and fits 16 bits, 32 of them fit 32 bits; the wrapping forms only keep a
/// test build's overflow checks from standing in the way of vectors.
fn dot_products(weights: &[i8; BLOCK * TILE_ROWS], codes: &[i8]) -> [i32; TILE_ROWS] {
    let mut dots = [0; TILE_ROWS];
    for (group, codes) in weights.as_chunks::<64>().0.iter().zip(codes.as_chunks::<4>().0) {
        for (dot, weights) in dots.iter_mut().zip(group.as_chunks::<4>().0) {
            for i in 0..4 {
                let product = i16::from(weights[i]).wrapping_mul(i16::from(codes[i]));
                *dot = i32::wrapping_add(*dot, i32::from(product));
            }
        }
    }
    dots
}

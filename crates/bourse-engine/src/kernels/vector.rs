//! Eight floats at a time: one portable form and one of AVX2 instructions, with equal bits.
//!
//! Every method is one IEEE 754 operation a lane (or moves bits), so the two forms cannot differ for finite
//! numbers. The tests compare them on random and on awkward values all the same.

/// Lanes of a vector.
pub(super) const LANES: usize = 8;

/// Adding this to a float below 2^22 leaves the nearest integer (ties to even) in the low bits.
const ROUNDER: f32 = 12_582_912.0;
const ROUNDER_BITS: i32 = 0x4B40_0000;

/// Eight floats.
pub(super) trait Vector: Copy {
    /// The same number in all lanes.
    fn splat(value: f32) -> Self;
    /// Takes eight numbers.
    fn load(from: &[f32; LANES]) -> Self;
    /// Puts eight numbers.
    fn store(self, into: &mut [f32; LANES]);
    /// Takes eight half-precision numbers.
    fn load_half(from: &[u16; LANES]) -> Self;
    /// Puts eight numbers rounded to half precision, ties to even.
    fn store_half(self, into: &mut [u16; LANES]);
    /// Sum.
    fn add(self, other: Self) -> Self;
    /// Difference.
    fn sub(self, other: Self) -> Self;
    /// Product.
    fn mul(self, other: Self) -> Self;
    /// Quotient.
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The larger; `other` if either is not a number.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if either is not a number.
    fn min(self, other: Self) -> Self;
    /// Magnitude.
    fn abs(self) -> Self;
    /// 2^n where the lane is n + [`ROUNDER`] for an integer n from −126 to 127.
    fn power_of_two(self) -> Self;
    /// Rounds 32 numbers of magnitude up to 127 to integers, ties to even.
    fn round_to_codes(numbers: [Self; 4], into: &mut [i8; 32]);

    /// Sum of the lanes in a fixed tree.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut a = [0.0; LANES];
        self.store(&mut a);
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }

    /// Largest lane; lanes that are not numbers do not count.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut a = [0.0; LANES];
        self.store(&mut a);
        a.iter().fold(f32::MIN, |best, &lane| if lane > best { lane } else { best })
    }

    /// e^x for x up to 88; below −87 as for −87. Relative error below 2e-7.
    #[inline(always)]
    fn exp(self) -> Self {
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
        let shifted = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUNDER));
        let n = shifted.sub(Self::splat(ROUNDER));
        let r = n.mul_add(Self::splat(-LN2_HIGH), x);
        let r = n.mul_add(Self::splat(-LN2_LOW), r);
        // Taylor's series to the 7th power: |r| ≤ 0.347, so the next term is below 6e-9.
        let mut sum = Self::splat(1.0 / 5040.0);
        for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum.mul_add(r, Self::splat(factor));
        }
        sum.mul(shifted.power_of_two())
    }
}

/// The portable form.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Vector for Portable {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }
    #[inline(always)]
    fn store(self, into: &mut [f32; LANES]) {
        *into = self.0;
    }
    #[inline(always)]
    fn load_half(from: &[u16; LANES]) -> Self {
        Self(from.map(half_to_float))
    }
    #[inline(always)]
    fn store_half(self, into: &mut [u16; LANES]) {
        *into = self.0.map(float_to_half);
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], term.0[lane])))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|lane| {
            let n = (lane.to_bits() as i32).wrapping_sub(ROUNDER_BITS);
            f32::from_bits((n.wrapping_add(127) << 23) as u32)
        }))
    }
    #[inline(always)]
    fn round_to_codes(numbers: [Self; 4], into: &mut [i8; 32]) {
        for (group, numbers) in into.as_chunks_mut::<LANES>().0.iter_mut().zip(numbers) {
            *group = numbers.0.map(|lane| (lane + ROUNDER).to_bits() as i8);
        }
    }
}

/// A half-precision number as a float; exact.
pub(super) fn half_to_float(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1F;
    let mantissa = u32::from(half & 0x3FF);
    match exponent {
        // A subnormal is mantissa · 2⁻²⁴, which a float holds exactly.
        0 => f32::from_bits(sign | (mantissa as f32 * (1.0 / 16_777_216.0)).to_bits()),
        31 => f32::from_bits(sign | 0x7F80_0000 | (mantissa << 13) | (u32::from(mantissa != 0) << 22)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13)),
    }
}

/// A float rounded to half precision, ties to even; too large a number becomes infinite.
pub(super) fn float_to_half(float: f32) -> u16 {
    let bits = float.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7FFF_FFFF;
    let half = match magnitude {
        0x7F80_0001.. => 0x7E00 | ((magnitude >> 13) & 0x3FF) as u16,
        // From 65,520 on, the nearest half is infinity.
        0x477F_F000.. => 0x7C00,
        // Normal halves: rebias, then round away 13 bits. The carry may run into the exponent, rightly so.
        0x3880_0000.. => ((magnitude - 0x3800_0000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13) as u16,
        // Subnormal halves: adding ½ makes the float unit round at 2⁻²⁴, the last place of a subnormal half.
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0x3F00_0000) as u16,
    };
    sign | half
}

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! SAFETY of this module: an [`Avx2`] is only made below a function that enables AVX2, FMA and F16C
    //! after the CPU was asked for them (`run_avx2`), and everything here is inlined into it. Loads and
    //! stores go through references to arrays of the right size and need no alignment.
    #![expect(clippy::undocumented_unsafe_blocks, reason = "stated once, for the whole module, above")]

    use std::arch::x86_64::{
        __m256, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128, _mm_storeu_si128, _mm256_add_epi32,
        _mm256_add_ps, _mm256_and_ps, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps,
        _mm256_cmp_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps, _mm256_fmadd_ps,
        _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps, _mm256_packs_epi16, _mm256_packs_epi32,
        _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_ps,
    };

    use super::{LANES, ROUNDER_BITS, Vector};

    /// The form of AVX2 instructions.
    #[derive(Clone, Copy)]
    pub(in crate::kernels) struct Avx2(__m256);

    impl Vector for Avx2 {
        #[inline(always)]
        fn splat(value: f32) -> Self {
            Self(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
        }
        #[inline(always)]
        fn store(self, into: &mut [f32; LANES]) {
            unsafe { _mm256_storeu_ps(into.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        fn load_half(from: &[u16; LANES]) -> Self {
            Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) })
        }
        #[inline(always)]
        fn store_half(self, into: &mut [u16; LANES]) {
            unsafe {
                let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
                _mm_storeu_si128(into.as_mut_ptr().cast(), half);
            }
        }
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self(unsafe { _mm256_add_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm256_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm256_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn div(self, other: Self) -> Self {
            Self(unsafe { _mm256_div_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, term: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            Self(unsafe { _mm256_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            let less = unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0) };
            Self(unsafe { _mm256_blendv_ps(other.0, self.0, less) })
        }
        #[inline(always)]
        fn abs(self) -> Self {
            Self(unsafe { _mm256_and_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX))) })
        }
        #[inline(always)]
        fn power_of_two(self) -> Self {
            unsafe {
                let n = _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(127 - ROUNDER_BITS));
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(n)))
            }
        }
        #[inline(always)]
        fn round_to_codes(numbers: [Self; 4], into: &mut [i8; 32]) {
            unsafe {
                let (a, b) = (_mm256_cvtps_epi32(numbers[0].0), _mm256_cvtps_epi32(numbers[1].0));
                let (c, d) = (_mm256_cvtps_epi32(numbers[2].0), _mm256_cvtps_epi32(numbers[3].0));
                // Packing works within halves of 128 bits; the permutation puts the parts in order.
                let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let codes = _mm256_permutevar8x32_epi32(packed, order);
                _mm256_storeu_si256(into.as_mut_ptr().cast(), codes);
            }
        }
    }
}

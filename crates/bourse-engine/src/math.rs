//! Exponential, logarithm, sine and cosine in 64-bit floats, the same bits on every machine.
//!
//! The standard library hands these to the platform, whose results differ in the last place between
//! systems. Here they are built from `+ − × ÷` alone, which IEEE 754 fixes to the bit. They serve sampling
//! and the rotary angles; the 32-bit exponential of the forward pass stands with the kernels. Errors are
//! below 1e-14 relative (absolute for the sine), which the tests hold against the platform's own.

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Adding and subtracting this rounds a number below 2^51 to the nearest integer, ties to even.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// 1/k! for k from 0 to 13.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut factors = [1.0; 14];
    let mut k = 1;
    while k < 14 {
        factors[k] = factors[k - 1] / k as f64;
        k += 1;
    }
    factors
};

/// e^x. Zero below −708, and capped at e^709 above.
pub(crate) fn exp(x: f64) -> f64 {
    if x < -708.0 {
        return 0.0;
    }
    let x = x.min(709.0);
    let n = (x * std::f64::consts::LOG2_E + ROUNDER) - ROUNDER;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor's series to the 13th power: |r| ≤ 0.35, so the next term is below 1e-17.
    let sum = INVERSE_FACTORIALS.iter().rev().fold(0.0, |sum, &factor| sum * r + factor);
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// The natural logarithm of a positive, finite number; −∞ for zero.
pub(crate) fn ln(x: f64) -> f64 {
    if x <= 0.0 {
        return f64::NEG_INFINITY;
    }
    // Subnormal numbers are scaled into the normal range first.
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, -54) } else { (x, 0) };
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i64) - 1023 + shift;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m − 1) / (m + 1)), whose argument is at most 0.172.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let t2 = t * t;
    let mut sum = 0.0;
    let mut k = 23.0;
    while k > 1.0 {
        sum = t2 * (1.0 / k + sum);
        k -= 2.0;
    }
    let e = exponent as f64;
    e * LN2_HIGH + (e * LN2_LOW + 2.0 * t * (1.0 + sum))
}

/// Sine and cosine of an angle of at most 2^31 radians.
pub(crate) fn sin_cos(angle: f64) -> (f64, f64) {
    // π/2 in three parts of 33 bits, so that n times a part is exact for n below 2^20, and the error of
    // larger ones stays far below a 32-bit float's.
    const PI_2_A: f64 = 1.570_796_326_734_125_6;
    const PI_2_B: f64 = 6.077_100_506_303_966e-11;
    const PI_2_C: f64 = 2.022_266_248_795_950_6e-21;
    let n = (angle * std::f64::consts::FRAC_2_PI + ROUNDER) - ROUNDER;
    let r = ((angle - n * PI_2_A) - n * PI_2_B) - n * PI_2_C;
    let r2 = r * r;
    let (mut sine, mut cosine) = (1.0, 1.0);
    let mut k = 18.0;
    while k > 0.0 {
        sine = 1.0 - sine * (r2 / (k * (k + 1.0)));
        cosine = 1.0 - cosine * (r2 / (k * (k - 1.0)));
        k -= 2.0;
    }
    let sine = sine * r;
    match (n as i64).rem_euclid(4) {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

/// base^exponent for a positive base.
pub(crate) fn pow(base: f64, exponent: f64) -> f64 {
    exp(exponent * ln(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_follows_the_platforms() {
        for i in -70_000..70_000 {
            let x = f64::from(i) * 0.01;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours / theirs - 1.0).abs() < 1e-14, "exp({x}) = {ours}, not {theirs}");
        }
        assert!(exp(-1e9).abs() < f64::MIN_POSITIVE);
        assert!(exp(0.0).to_bits() == 1.0_f64.to_bits());
    }

    #[test]
    fn logarithm_follows_the_platforms() {
        for i in 1..200_000 {
            for x in [f64::from(i) * 1e-5, f64::from(i) * 37.0, 1.0 / f64::from(i) / 1e300] {
                let (ours, theirs) = (ln(x), x.ln());
                assert!(
                    (ours - theirs).abs() <= 1e-14 * theirs.abs().max(0.1),
                    "ln({x}) = {ours}, not {theirs}"
                );
            }
        }
        assert!(ln(5e-324).is_finite());
        assert!(ln(0.0) == f64::NEG_INFINITY);
    }

    #[test]
    fn sine_and_cosine_follow_the_platforms() {
        for i in 0..400_000 {
            let x = f64::from(i) * 0.613;
            let (sine, cosine) = sin_cos(x);
            assert!((sine - x.sin()).abs() < 1e-13 && (cosine - x.cos()).abs() < 1e-13, "at {x}");
        }
    }
}

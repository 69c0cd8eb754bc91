//! What an offer costs over its price, and how reliable it counts as.
//!
//! ```text
//! burden   = slowness ÷ good
//! good     = (good₅ + PRIOR_OUTCOMES × good₃₀) ÷ (all₅ + PRIOR_OUTCOMES)
//! good₃₀   = (good₃₀ + PRIOR_OUTCOMES × PRIOR_GOOD) ÷ (all₃₀ + PRIOR_OUTCOMES)
//! all      = good + failed + BROKEN_WEIGHT × broken + LIMITED_WEIGHT × limited
//! slowness = 1 + SLOWNESS_WEIGHT × max(0, typical ÷ reference − 1), at most SLOWNESS_MAX
//! typical  = time to the first content + TYPICAL_TOKENS × time between tokens
//! ```
//!
//! Of a share *g* of good answers, 1/*g* attempts are needed for one: the mean of a geometric row. A
//! broken answer counts twice, because the buyer has read half of it and pays for it; a 429 counts half,
//! because it comes at once. The last five minutes decide, with the half hour before as a prior worth
//! [`PRIOR_OUTCOMES`], and below it a cautious prior of [`PRIOR_GOOD`]: an offer without samples is
//! neither trusted nor shunned, and twenty outcomes outweigh the guess. The same holds for speed, where
//! an unknown offer counts as [`UNKNOWN_SLOWNESS`] slow.
//!
//! The reference is the lower quartile of the peers' typical times, so that no single seller sets the
//! bar. Twice as slow as that costs half as much again. The constants are our judgement; the inputs are
//! those that the field's largest router names.

use super::statistics::Counts;
use super::vital::Standing;

/// Outcomes that a prior weighs as much as.
pub(super) const PRIOR_OUTCOMES: f32 = 20.0;
/// Share of good answers to expect of an offer of which nothing is known.
pub(super) const PRIOR_GOOD: f32 = 0.95;
/// Failures that one broken answer counts as.
pub(super) const BROKEN_WEIGHT: f32 = 2.0;
/// Failures that one 429 counts as.
pub(super) const LIMITED_WEIGHT: f32 = 0.5;
/// What being twice as slow as the reference adds to the price, as a share of it.
pub(super) const SLOWNESS_WEIGHT: f32 = 0.5;
/// Largest factor of slowness.
pub(super) const SLOWNESS_MAX: f32 = 4.0;
/// Slowness of an offer that was never timed.
pub(super) const UNKNOWN_SLOWNESS: f32 = 1.1;
/// Good answers that the guess about slowness weighs as much as.
pub(super) const PRIOR_TIMED: f32 = 5.0;
/// Tokens of the answer by which speeds are compared.
pub(super) const TYPICAL_TOKENS: f32 = 256.0;
/// Burden of an offer of which nothing is known.
pub(super) const UNKNOWN_BURDEN: f32 = UNKNOWN_SLOWNESS / PRIOR_GOOD;
/// Largest burden.
pub(super) const BURDEN_MAX: f32 = 16.0;

/// Share of prompt tokens that a cache is expected to read again, where none was measured.
pub(super) const PRIOR_CACHED_SHARE: f32 = 0.5;
/// Prompt tokens that the guess about the cache weighs as much as.
pub(super) const PRIOR_CACHED_TOKENS: f32 = 4_000.0;

/// Uptime from which an offer is normal.
pub(super) const UPTIME_NORMAL: f32 = 0.95;
/// Uptime below which it is a last resort.
pub(super) const UPTIME_LAST_RESORT: f32 = 0.80;

/// What a good answer costs over the price, from 1 to [`BURDEN_MAX`].
pub(super) fn burden(minutes: &Counts, half_hour: &Counts, slowness: f32) -> f32 {
    let longer = good_share(half_hour, PRIOR_GOOD);
    (slowness / good_share(minutes, longer)).clamp(1.0, BURDEN_MAX)
}

fn good_share(counts: &Counts, prior: f32) -> f32 {
    let good = counts.good as f32;
    let all = good
        + counts.failed as f32
        + BROKEN_WEIGHT * counts.broken as f32
        + LIMITED_WEIGHT * counts.limited as f32;
    (good + PRIOR_OUTCOMES * prior) / (all + PRIOR_OUTCOMES)
}

/// How slow an offer with this typical time counts as after `timed` good answers, from 1 on.
/// `reference_ms` is none while there are no peers to compare with.
pub(super) fn slowness(typical_ms: f32, timed: u32, reference_ms: Option<f32>) -> f32 {
    let Some(reference_ms) = reference_ms.filter(|_| timed > 0) else { return UNKNOWN_SLOWNESS };
    let over = (typical_ms / reference_ms.max(1.0) - 1.0).max(0.0);
    let measured = (1.0 + SLOWNESS_WEIGHT * over).min(SLOWNESS_MAX);
    let timed = timed as f32;
    (measured * timed + UNKNOWN_SLOWNESS * PRIOR_TIMED) / (timed + PRIOR_TIMED)
}

/// Share of known prompt tokens that the cache really reads, with its prior.
pub(super) fn cached_share(continued: u64, cached: u64) -> f32 {
    (cached as f32 + PRIOR_CACHED_TOKENS * PRIOR_CACHED_SHARE) / (continued as f32 + PRIOR_CACHED_TOKENS)
}

/// How reliable it counts as: by the last five minutes where they tell enough, else by the half hour.
pub(super) fn standing(minutes: &Counts, half_hour: &Counts) -> Standing {
    match minutes.uptime().or_else(|| half_hour.uptime()) {
        Some(uptime) if uptime < UPTIME_LAST_RESORT => Standing::LastResort,
        Some(uptime) if uptime < UPTIME_NORMAL => Standing::Degraded,
        _ => Standing::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(good: u32, failed: u32, broken: u32, limited: u32) -> Counts {
        Counts { good, failed, broken, limited, forbidden: 0 }
    }

    #[test]
    fn samples_replace_the_prior_gradually() {
        let none = Counts::default();
        assert!((burden(&none, &none, UNKNOWN_SLOWNESS) - UNKNOWN_BURDEN).abs() < 1e-6);
        let mut last = UNKNOWN_BURDEN;
        for good in [1, 5, 20, 100, 1_000] {
            let now =
                burden(&counts(good, 0, 0, 0), &counts(good, 0, 0, 0), slowness(100.0, good, Some(100.0)));
            assert!(now < last, "{good} good answers: {now} after {last}");
            last = now;
        }
        assert!(last < 1.01);
        // One failure of an unknown offer is a hint, not a verdict.
        let once = burden(&counts(0, 1, 0, 0), &counts(0, 1, 0, 0), UNKNOWN_SLOWNESS);
        assert!(once > UNKNOWN_BURDEN && once < 1.15 * UNKNOWN_BURDEN, "{once}");
    }

    #[test]
    fn half_the_answers_bad_doubles_the_cost() {
        let half = counts(500, 500, 0, 0);
        assert!((burden(&half, &half, 1.0) - 2.0).abs() < 0.05);
        let broken = counts(500, 0, 500, 0);
        assert!(burden(&broken, &broken, 1.0) > burden(&half, &half, 1.0));
        let limited = counts(500, 0, 0, 500);
        assert!(burden(&limited, &limited, 1.0) < burden(&half, &half, 1.0));
    }

    #[test]
    fn slowness_is_against_peers_and_bounded() {
        assert!((slowness(200.0, 1_000_000, Some(100.0)) - 1.5).abs() < 1e-3);
        assert!(slowness(50.0, 1_000_000, Some(100.0)) < 1.001);
        assert!(slowness(1e9, 1_000_000, Some(100.0)) <= SLOWNESS_MAX);
        assert!((slowness(200.0, 9, None) - UNKNOWN_SLOWNESS).abs() < 1e-6);
    }

    #[test]
    fn uptime_decides_the_standing() {
        let none = Counts::default();
        let check = |good, bad, want| {
            assert_eq!(standing(&counts(good, bad, 0, 0), &none), want, "{good} {bad}");
            assert_eq!(standing(&none, &counts(good, bad, 0, 0)), want, "{good} {bad}");
        };
        check(95, 5, Standing::Normal);
        check(94, 6, Standing::Degraded);
        check(80, 20, Standing::Degraded);
        check(79, 21, Standing::LastResort);
        check(0, 99, Standing::Normal);
        // Recovered: the last minutes count more than the half hour.
        assert_eq!(standing(&counts(100, 0, 0, 0), &counts(100, 900, 0, 0)), Standing::Normal);
    }

    proptest! {
        #[test]
        fn the_burden_is_bounded_and_failures_raise_it(
            good in 0u32..10_000, failed in 0u32..10_000, broken in 0u32..10_000, limited in 0u32..10_000,
            typical in 0.0f32..1e7, timed in 0u32..100, reference in proptest::option::of(0.0f32..1e7),
        ) {
            let these = counts(good, failed, broken, limited);
            let slow = slowness(typical, timed, reference);
            let now = burden(&these, &these, slow);
            prop_assert!((1.0..=BURDEN_MAX).contains(&now));
            let more = counts(good, failed + 1, broken, limited);
            prop_assert!(burden(&more, &more, slow) >= now);
        }
    }
}

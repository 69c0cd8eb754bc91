//! The seller's hidden rate: how many calls a second it takes, and what it says when there are more.
//!
//! A bucket that holds one second's calls and fills evenly, because that is what a market has to learn
//! from refusals: a rate, not a window. Time comes in. What is told beside the status is the vendor's own:
//! `retry-after` always, and the names of limit, rest and reset that OpenAI and Anthropic use.

use super::shape::Shape;
use std::time::{Duration, SystemTime};

const NANOS_PER_S: u128 = 1_000_000_000;

/// How many calls a seller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLaw {
    /// Calls per second, and the most at once. Zero takes none.
    pub calls_per_s: u32,
    /// Whether answers tell the limit and what is left of it.
    pub tells: RateTelling,
}

/// Whether a seller tells its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateTelling {
    /// On every answer, by header.
    Headers,
    /// Never, though refusals still carry `retry-after`.
    Hidden,
}

/// What the bucket decided about one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) admitted: bool,
    /// Whole calls that are left.
    pub(super) left: u32,
    /// Until the next call is taken; zero when one is left.
    pub(super) next: Duration,
}

/// Calls left, in billionths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: u128,
    at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn full(law: RateLaw) -> Self {
        Self { left: u128::from(law.calls_per_s) * NANOS_PER_S, at: Duration::ZERO }
    }

    /// Takes one call, if there is one.
    pub(super) fn take(&mut self, law: RateLaw, now: Duration) -> Admission {
        let full = u128::from(law.calls_per_s) * NANOS_PER_S;
        let since = now.saturating_sub(self.at).as_nanos();
        self.left = full.min(self.left + since * u128::from(law.calls_per_s));
        self.at = now;
        let admitted = self.left >= NANOS_PER_S;
        if admitted {
            self.left -= NANOS_PER_S;
        }
        let missing = NANOS_PER_S.saturating_sub(self.left);
        let nanos = missing.checked_div(u128::from(law.calls_per_s)).unwrap_or(NANOS_PER_S);
        Admission {
            admitted,
            left: u32::try_from(self.left / NANOS_PER_S).unwrap_or(u32::MAX),
            next: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        }
    }
}

/// The header fields of an answer to a call that the bucket decided about.
pub(super) fn fields(
    law: RateLaw,
    admission: Admission,
    shape: Shape,
    now: SystemTime,
) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if !admission.admitted {
        let seconds = admission.next.as_secs() + u64::from(admission.next.subsec_nanos() > 0);
        out.push(("retry-after", seconds.max(1).to_string()));
    }
    if law.tells == RateTelling::Hidden {
        return out;
    }
    match shape {
        Shape::Messages => out.extend([
            ("anthropic-ratelimit-requests-limit", law.calls_per_s.to_string()),
            ("anthropic-ratelimit-requests-remaining", admission.left.to_string()),
            ("anthropic-ratelimit-requests-reset", super::time::rfc3339(now + admission.next)),
        ]),
        Shape::Gemini | Shape::Ollama | Shape::Cohere => {}
        _ => out.extend([
            ("x-ratelimit-limit-requests", law.calls_per_s.to_string()),
            ("x-ratelimit-remaining-requests", admission.left.to_string()),
            ("x-ratelimit-reset-requests", format!("{}ms", admission.next.as_millis())),
        ]),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_its_calls_and_refills_evenly() {
        let law = RateLaw { calls_per_s: 2, tells: RateTelling::Headers };
        let mut bucket = Bucket::full(law);
        let ms = Duration::from_millis;
        let mut take = |at| bucket.take(law, ms(at)).admitted;
        assert_eq!([take(0), take(0), take(0)], [true, true, false]);
        assert_eq!([take(499), take(500), take(500)], [false, true, false]);
        assert_eq!([take(60_000), take(60_000), take(60_000)], [true, true, false]);
    }

    #[test]
    fn what_is_told_is_the_vendors_own() {
        let law = RateLaw { calls_per_s: 1, tells: RateTelling::Headers };
        let mut bucket = Bucket::full(law);
        bucket.take(law, Duration::ZERO);
        let refused = bucket.take(law, Duration::from_millis(100));
        assert_eq!((refused.admitted, refused.next), (false, Duration::from_millis(900)));
        let names = |law, shape| {
            let fields = fields(law, refused, shape, SystemTime::UNIX_EPOCH);
            fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        assert_eq!(names(law, Shape::Chat)[..2], ["retry-after: 1", "x-ratelimit-limit-requests: 1"]);
        assert_eq!(
            names(law, Shape::Messages)[3],
            "anthropic-ratelimit-requests-reset: 1970-01-01T00:00:00.900Z"
        );
        assert_eq!(names(RateLaw { tells: RateTelling::Hidden, ..law }, Shape::Chat), ["retry-after: 1"]);
    }

    #[test]
    fn a_rate_of_zero_takes_nothing() {
        let law = RateLaw { calls_per_s: 0, tells: RateTelling::Hidden };
        assert!(!Bucket::full(law).take(law, Duration::from_hours(1)).admitted);
    }
}

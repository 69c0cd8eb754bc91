//! When a seller wants to be asked again, where it says so in its error and not only in a header.
//!
//! Google puts a `RetryInfo` among the details of an error; OpenAI, Groq, Google and Azure write it into the message, most
//! of them in the notation of Go's durations: "try again in 6m0.5s", "retry after 20 seconds". Integers only; what does
//! not come out even is rounded up, so that nobody comes too early. A hint beyond [`RETRY_HINT_MS_MAX`] counts as that.

use bourse_types::DurationMs;
use serde_json::Value;

/// Longest pause that a seller can ask for, in milliseconds: a day.
pub const RETRY_HINT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What stands before a span of time in a message, in lower case.
const PHRASES: [&str; 3] = ["try again in ", "retry in ", "retry after "];
/// The end of the type of a detail that tells when to come back.
const RETRY_INFO: &str = "google.rpc.RetryInfo";
/// Digits behind the point that count.
const FRACTION_DIGITS_MAX: usize = 9;

/// What a message says.
pub(super) fn of_message(message: &str) -> Option<DurationMs> {
    let lower = message.to_ascii_lowercase();
    let after = |phrase: &&str| lower.split(*phrase).nth(1);
    PHRASES.iter().filter_map(after).find_map(of_span)
}

/// What the details of an error say, as Google writes them.
pub(super) fn of_details<'a>(details: impl IntoIterator<Item = &'a Value>) -> Option<DurationMs> {
    let is_retry = |detail: &&Value| detail["@type"].as_str().is_some_and(|kind| kind.ends_with(RETRY_INFO));
    let detail = details.into_iter().find(is_retry)?;
    of_span(detail["retryDelay"].as_str()?)
}

/// A number of units of that many milliseconds, as headers have them: `20`, `0.25`. None for anything else.
pub fn of_number(text: &str, unit_ms: u64) -> Option<DurationMs> {
    let (number, rest) = decimal(text.trim())?;
    rest.is_empty().then(|| DurationMs(number.times(unit_ms).min(RETRY_HINT_MS_MAX)))
}

/// The span that a text begins with: numbers, each with its unit.
fn of_span(text: &str) -> Option<DurationMs> {
    let (mut rest, mut total_ms) = (text, None::<u64>);
    while let Some((number, after)) = decimal(rest) {
        let after = after.trim_start_matches(' ');
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let Some(unit_ms) = unit_ms(&after[..end]) else { break };
        total_ms = Some(total_ms.unwrap_or(0).saturating_add(number.times(unit_ms)));
        rest = &after[end..];
    }
    total_ms.map(|ms| DurationMs(ms.min(RETRY_HINT_MS_MAX)))
}

fn unit_ms(word: &str) -> Option<u64> {
    Some(match word {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return None,
    })
}

/// A number that is not negative.
struct Decimal {
    whole: u64,
    /// In 10⁻⁹.
    nanos: u64,
}

impl Decimal {
    /// Rounds up.
    fn times(&self, unit: u64) -> u64 {
        let fraction = u128::from(self.nanos) * u128::from(unit);
        let fraction = u64::try_from(fraction.div_ceil(1_000_000_000)).unwrap_or(u64::MAX);
        self.whole.saturating_mul(unit).saturating_add(fraction)
    }
}

/// The number that a text begins with, and the rest. A point without a digit behind it is not part of it.
fn decimal(text: &str) -> Option<(Decimal, &str)> {
    let digits_of = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let end = digits_of(text);
    let (whole, rest) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    let whole = whole.parse().unwrap_or(u64::MAX);
    let Some(fraction) = rest.strip_prefix('.').filter(|fraction| digits_of(fraction) > 0) else {
        return Some((Decimal { whole, nanos: 0 }, rest));
    };
    let (digits, rest) = fraction.split_at(digits_of(fraction));
    let kept = &digits[..digits.len().min(FRACTION_DIGITS_MAX)];
    let nanos = format!("{kept:0<FRACTION_DIGITS_MAX$}").parse().unwrap_or(0);
    Some((Decimal { whole, nanos }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_when_to_come_back() {
        let check = |message: &str, want: Option<u64>| {
            assert_eq!(of_message(message).map(|span| span.0), want, "{message}");
        };
        check(
            "Rate limit reached for gpt-x. Limit 200000, Used 199000. Please try again in 1.2s.",
            Some(1_200),
        );
        check("Please try again in 20ms. Visit https://example.com", Some(20));
        check("Please try again in 6m0s.", Some(360_000));
        check("Please try again in 1h2m3.0001s", Some(3_723_001));
        check("Requests have exceeded the limit. Please retry after 12 seconds.", Some(12_000));
        check("Quota exceeded.\nPlease retry in 34.074824224s.", Some(34_075));
        check("Try Again In 1 minute", Some(60_000));
        check("try again in a moment, or retry after 3s", Some(3_000));
        check("try again in a moment", None);
        check("retry after 30", None);
        check("retry after -3s", None);
        check("retry in ", None);
        check("slow down", None);
    }

    #[test]
    fn details_go_by_their_type() {
        let details =
            |kind: &str, delay: Value| serde_json::json!([{"x": 1}, {"@type": kind, "retryDelay": delay}]);
        let check = |details: &Value, want: Option<u64>| {
            assert_eq!(of_details(details.as_array().unwrap()).map(|span| span.0), want, "{details}");
        };
        let kind = "type.googleapis.com/google.rpc.RetryInfo";
        check(&details(kind, "26s".into()), Some(26_000));
        check(&details(kind, "0.5s".into()), Some(500));
        check(&details(kind, 26.into()), None);
        check(&details("type.googleapis.com/google.rpc.ErrorInfo", "26s".into()), None);
    }

    #[test]
    fn numbers_are_whole_or_not_and_bounded() {
        let number = |text: &str| of_number(text, 1_000).map(|span| span.0);
        assert_eq!(number(" 7 "), Some(7_000));
        assert_eq!(number("0.25"), Some(250));
        assert_eq!(number("0.00001"), Some(1), "rounded up");
        for bad in ["", "-5", "soon", "7s", "7.", ".5", "1e3"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(number("86400"), Some(RETRY_HINT_MS_MAX));
        assert_eq!(number("86401"), Some(RETRY_HINT_MS_MAX));
        assert_eq!(number("99999999999999999999"), Some(RETRY_HINT_MS_MAX));
        assert_eq!(of_message("retry after 24h").map(|span| span.0), Some(RETRY_HINT_MS_MAX));
        assert_eq!(of_message("retry after 25h").map(|span| span.0), Some(RETRY_HINT_MS_MAX));
    }
}

//! Times of day as text, for vendors that write them so.

use std::time::SystemTime;

const DAY_S: u64 = 86_400;

/// A time as RFC 3339 in UTC with milliseconds; a time before 1970 reads as 1970.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / DAY_S, since.as_secs() % DAY_S);
    // Days to a date by Howard Hinnant's algorithm, with years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(seconds: u64, want: &str) {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), want);
    }

    #[test]
    fn dates_are_right_at_their_edges() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_827_696, "2000-02-29T12:34:56.000Z");
        check(1_772_323_199, "2026-02-28T23:59:59.000Z");
        check(1_772_323_200, "2026-03-01T00:00:00.000Z");
    }
}

//! Time as an argument: wall-clock instants and spans in milliseconds.
//!
//! Nothing here reads a clock. Shells read it once per event and pass the value in, so that a plan, a
//! breaker or an expiry is a function of its inputs and a test can live through a day in a millisecond.
//! Days, weeks and months are those of UTC in the Gregorian calendar, without leap seconds, as Unix counts.

use std::fmt;

/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

/// A span of milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationMs(pub u64);

impl UnixMs {
    /// The instant `span` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl UnixMs {
    /// The instant as `2026-08-19T07:05:03.250Z`; milliseconds only where there are any.
    pub fn to_iso_string(self) -> String {
        let (day, ms) = (UtcDay::of(self), self.0 % DAY_MS);
        let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
        let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
        format!("{day}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }

    /// Reads a day (its first instant) or an instant in UTC such as `2026-08-19T07:05:03Z`: a fraction of a
    /// second may follow, of which milliseconds are kept, and `+00:00` may stand for `Z`.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let Some((day, time)) = text.split_once(['T', ' ']) else {
            return UtcDay::parse(text).map(UtcDay::start);
        };
        let time = time.strip_suffix('Z').or_else(|| time.strip_suffix("+00:00"))?;
        let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let mut parts = clock.split(':');
        let mut part = |max: u64| {
            let text = parts.next().filter(|text| text.len() == 2)?;
            number(text).filter(|value| *value <= max)
        };
        let seconds = part(23)? * 3_600 + part(59)? * 60 + part(59)?;
        if parts.next().is_some() || fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let ms = number(&format!("{:0<3}", &fraction[..fraction.len().min(3)]))?;
        Some(Self(UtcDay::parse(day)?.start().0 + seconds * 1_000 + ms))
    }
}

/// A day in UTC, counted from 1970-01-01. Text: `2026-08-19`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UtcDay(pub u32);

impl UtcDay {
    /// The day of an instant.
    pub fn of(time: UnixMs) -> Self {
        Self(u32::try_from(time.0 / DAY_MS).unwrap_or(u32::MAX))
    }

    /// Its first instant.
    pub fn start(self) -> UnixMs {
        UnixMs(u64::from(self.0) * DAY_MS)
    }

    /// The day so many days later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, days: u32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// The day so many days earlier; saturates at 1970-01-01.
    #[must_use]
    pub fn minus(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// The Monday that begins its week; 1970-01-01, a Thursday, for the days before the first Monday.
    #[must_use]
    pub fn week_start(self) -> Self {
        self.minus((self.0 % 7 + 3) % 7)
    }

    /// The first day of its month.
    #[must_use]
    pub fn month_start(self) -> Self {
        self.minus(self.civil().2 - 1)
    }

    /// Reads `YYYY-MM-DD`, a day that exists, from 1970 on.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().and_then(number);
        let (year, month, day) = (part()?, part()?, part()?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        // Years that begin in March: the day that leap years add comes last.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
        let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year;
        let found = Self(u32::try_from(days.checked_sub(DAYS_TO_1970)?).ok()?);
        (found.to_string() == text).then_some(found)
    }

    /// Year, month from 1, day from 1.
    fn civil(self) -> (u32, u32, u32) {
        let days = u64::from(self.0) + DAYS_TO_1970;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        (year as u32, month as u32, day as u32)
    }
}

impl fmt::Display for UtcDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Days from the first of March of the year 0 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn day(text: &str) -> UtcDay {
        UtcDay::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn days_weeks_and_months_begin_when_the_calendar_says() {
        let check = |text: &str, week: &str, month: &str| {
            assert_eq!(day(text).week_start(), day(week), "{text}");
            assert_eq!(day(text).month_start(), day(month), "{text}");
        };
        check("2026-08-19", "2026-08-17", "2026-08-01");
        check("2024-02-29", "2024-02-26", "2024-02-01");
        check("2027-01-01", "2026-12-28", "2027-01-01");
        check("2026-11-30", "2026-11-30", "2026-11-01");
        check("1970-01-04", "1970-01-01", "1970-01-01");
        check("1970-01-05", "1970-01-05", "1970-01-01");
        assert_eq!(UtcDay::of(UnixMs(1_800_000_000_000)), day("2027-01-15"));
        assert_eq!(UtcDay::of(day("2027-01-15").start()), day("2027-01-15"));
        assert_eq!(UtcDay::of(UnixMs(day("2027-01-15").start().0 - 1)), day("2027-01-14"));
    }

    #[test]
    fn foreign_days_and_instants_are_refused() {
        for text in
            ["2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "2026-01-00", "+2026-01-01", "x", ""]
        {
            assert_eq!(UtcDay::parse(text), None, "{text}");
        }
        let start = day("2026-08-19").start().0;
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(UnixMs::parse_iso(text), want.map(|ms| UnixMs(start + ms)), "{text}");
        };
        check("2026-08-19", Some(0));
        check("2026-08-19T00:00:01Z", Some(1_000));
        check("2026-08-19 01:02:03.4567+00:00", Some(3_723_456));
        check("2026-08-19T00:00:00.5Z", Some(500));
        for text in [
            "T00:00:00",
            "T24:00:00Z",
            "T00:60:00Z",
            "T0:00:00Z",
            "T00:00Z",
            "T00:00:00.Z",
            "T00:00:00+01:00",
        ] {
            check(&format!("2026-08-19{text}"), None);
        }
        assert_eq!(UnixMs(start + 3_723_456).to_iso_string(), "2026-08-19T01:02:03.456Z");
    }

    proptest! {
        #[test]
        fn texts_round_trip(ms in 0u64..200_000_000_000_000) {
            let (time, day) = (UnixMs(ms), UtcDay::of(UnixMs(ms)));
            prop_assert_eq!(UtcDay::parse(&day.to_string()), Some(day));
            prop_assert_eq!(UnixMs::parse_iso(&time.to_iso_string()), Some(time));
            prop_assert!(day.month_start() <= day && day.minus(31) < day.month_start());
            prop_assert_eq!(day.month_start().to_string().split_off(8), "01");
            prop_assert!(day.week_start() <= day && day.week_start().plus(7) > day);
        }
    }
}

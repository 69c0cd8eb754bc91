//! Functions that chat templates expect: `tojson` as Python writes it, `strftime_now`.

use bourse_types::UnixMs;
use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io;

/// Deepest indentation that a template may ask for.
const INDENT_MAX: usize = 16;
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `value | tojson(indent=…)`: a space after commas and colons, non-ASCII as it is, nothing escaped for
/// HTML. Other keyword arguments than `indent` and `ensure_ascii=False` are errors, not ignored.
#[expect(clippy::needless_pass_by_value, reason = "the library hands a filter's options over by value")]
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if ensure_ascii == Some(true) || indent.is_some_and(|n| n > INDENT_MAX) {
        return Err(Error::new(ErrorKind::InvalidOperation, "tojson: this option is not supported"));
    }
    let mut out = Vec::new();
    let written = match indent {
        Some(n) => {
            let spaces = " ".repeat(n);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Spaced)),
    };
    let text = written.ok().and_then(|()| String::from_utf8(out).ok());
    text.map(Value::from).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "tojson: not a JSON value"))
}

/// Python's default separators.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

/// `strftime_now(format)` in UTC, for the directives that templates use; another one is an error.
pub(super) fn format_time(format: &str, now: UnixMs) -> Result<String, Error> {
    let seconds = now.0 / 1000;
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let weekday = DAYS[((days + 4) % 7) as usize];
    let month_name = MONTHS[(month - 1) as usize];
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let directive = match characters.next() {
            Some('Y') => year.to_string(),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{:02}", second_of_day / 3600),
            Some('M') => format!("{:02}", second_of_day / 60 % 60),
            Some('S') => format!("{:02}", second_of_day % 60),
            Some('%') => "%".to_owned(),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "strftime_now: unknown directive")),
        };
        out.push_str(&directive);
    }
    Ok(out)
}

/// Year, month and day of a count of days since 1970-01-01 (Hinnant's algorithm, days from March on).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, ms: u64, want: &str) {
        assert_eq!(format_time(format, UnixMs(ms)).unwrap(), want);
    }

    #[test]
    fn dates_are_written_as_strftime_does() {
        check("%d %b %Y", 0, "01 Jan 1970");
        check("%A, %B %d, %Y %H:%M:%S", 1_709_210_096_000, "Thursday, February 29, 2024 12:34:56");
        check("%Y-%m-%d 100%%", 1_893_455_999_999, "2029-12-31 100%");
        check("%a", 1_893_456_000_000, "Tue");
        assert!(format_time("%q", UnixMs(0)).is_err());
        assert!(format_time("%", UnixMs(0)).is_err());
    }
}

//! The commands, one file each: `Args` says what can be typed, `run` does it.
//!
//! Stdout carries what was asked for and nothing else; everything said on the way goes to stderr.

pub mod chat;
pub mod completions;
pub mod config;
pub mod gateway;
pub mod key;
pub mod ledger;
pub mod limits;
pub mod migrate;
pub mod models;
pub mod node;
mod operator;
pub mod payout;
pub mod receipt;
pub mod route;
mod stop;
pub mod tokens;
pub mod up;
pub mod verify;
pub mod workspace;

use crate::report::{Failure, Plain};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;

/// Writes what was asked for. A reader that has seen enough (`| head`) is no failure.
fn tell(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The address of a database: as given, or the variable's value; none where neither is given.
fn address(
    given: Option<&str>,
    variable: Option<&str>,
    environment: &crate::config::Environment,
) -> Result<Option<String>, Failure> {
    let Some(name) = variable else { return Ok(given.map(str::to_owned)) };
    let value = environment.get(name).map(str::to_owned).ok_or_else(|| {
        Plain::new(format!("the variable {name} is not set")).hint("it must hold the database's address")
    })?;
    Ok(Some(value))
}

/// The progress of a walk through the journal.
fn groups_bar() -> indicatif::ProgressBar {
    use indicatif::{ProgressBar, ProgressStyle};
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} groups");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What came of writing to stdout. A reader that has left has had enough.
fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Plain::new("the answer cannot be written to stdout").because(error).boxed())
        }
        _ => Ok(()),
    }
}

/// The same, with a line's end.
fn tell_line(text: &str) -> Result<(), Failure> {
    tell(&format!("{text}\n"))
}

/// A document for a script.
fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Plain::new("the answer cannot be written as JSON").because(error).boxed())
}

/// A decimal amount such as `-0.100000000` for people: `-$0.1`.
fn dollars(usd: &str) -> String {
    let (sign, digits) = usd.strip_prefix('-').map_or(("", usd), |digits| ("-", digits));
    let short =
        if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{sign}${short}")
}

/// Unix milliseconds as a date and time in UTC, to the second.
fn utc(ms: u64) -> String {
    bourse_types::UnixMs(ms - ms % 1_000).to_iso_string().replace('T', " ").replace('Z', "")
}

/// Lines up rows in columns, two spaces apart.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ", width = *width);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let check = |usd: &str, want: &str| assert_eq!(dollars(usd), want);
        check("10.000000000", "$10");
        check("-0.100000000", "-$0.1");
        check("0.000000001", "$0.000000001");
        check("100", "$100");
    }

    #[test]
    fn times_are_civil() {
        let check = |ms: u64, want: &str| assert_eq!(utc(ms), want);
        check(0, "1970-01-01 00:00:00");
        check(951_782_399_999, "2000-02-28 23:59:59");
        check(951_782_400_000, "2000-02-29 00:00:00");
        check(1_767_225_599_000, "2025-12-31 23:59:59");
    }
}

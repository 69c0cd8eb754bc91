//! `bourse ledger invoice`: what a customer used and paid in a day, a month or any period.

use super::Span;
use super::paper::{Desk, Format};
use crate::admin;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_exchange::{DayOrMonth, InvoiceError, OPERATOR_NAME, Period};
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose.
    #[arg(default_value = OPERATOR_NAME)]
    account: String,
    /// Of this month, such as 2026-11 (UTC).
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with_all = ["day", "from", "until"])]
    month: Option<Period>,
    /// Of this day, such as 2026-11-01 (UTC).
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with_all = ["from", "until"])]
    day: Option<Period>,
    #[command(flatten)]
    span: Span,
    /// How.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Into this file instead of the terminal.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn day(text: &str) -> Result<Period, String> {
    Ok(DayOrMonth::Day(super::day(text)?).period())
}

fn month(text: &str) -> Result<Period, String> {
    Ok(DayOrMonth::Month(super::month(text)?).period())
}

pub(super) fn run(json: bool, data_dir: &DataDir, args: &Args) -> Result<ExitCode, Failure> {
    let period = args.month.or(args.day).map_or_else(|| args.span.period(), Ok)?;
    let desk = Desk::of(json, args.format, args.out.as_ref(), "invoice")?;
    let invoice = bourse_exchange::invoice(data_dir.root(), &args.account, period)
        .map_err(|error| refused(data_dir, error))?;
    desk.put(&invoice)
}

/// Tells why there is no invoice and no statement.
pub(super) fn refused(data_dir: &DataDir, error: InvoiceError) -> Failure {
    let hint = match &error {
        InvoiceError::NoAccount(_) => "`bourse ledger balance` shows them all",
        InvoiceError::NoCustomer(_) => {
            "`bourse ledger statement ACCOUNT --month 2026-11` puts any account on paper"
        }
        InvoiceError::TooLong { .. } => "`--day 2026-11-01` is the shortest",
        InvoiceError::Contradiction { .. } => "`bourse ledger check` says what is wrong with the books",
        InvoiceError::Open(_) => "",
    };
    match error {
        InvoiceError::Open(error) => admin::cannot_open(data_dir, error).into(),
        other => Plain::new(other.to_string()).hint(hint).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::UnixMs;

    #[test]
    fn months_and_days_begin_and_end_where_the_calendar_says() {
        let shown = |period: Result<Period, String>| {
            let Period { from, until } = period.expect("a period");
            [from, until].map(|at: Option<UnixMs>| at.expect("a bound").to_iso_string()[..10].to_owned())
        };
        assert_eq!(shown(month("2026-12")), ["2026-12-01", "2027-01-01"]);
        assert_eq!(shown(month("2028-02")), ["2028-02-01", "2028-03-01"]);
        assert_eq!(shown(day("2026-12-31")), ["2026-12-31", "2027-01-01"]);
        for wrong in ["2026-13", "2026", "2026-1", "x", ""] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
        assert!(day("2026-02-29").is_err());
    }
}

//! `bourse ledger figures`: what was used, earned and given away, by day.

use super::day;
use crate::admin;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_exchange::{Days, FiguresError};
use bourse_types::UtcDay;
use bourse_wire::api::MarketFigures;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of this day (UTC), such as 2026-11-01.
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with_all = ["from", "until"])]
    day: Option<UtcDay>,
    /// From this day on.
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<UtcDay>,
    /// Until before this day.
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<UtcDay>,
}

impl From<&Args> for Days {
    fn from(args: &Args) -> Self {
        match args.day {
            Some(day) => Self { from: Some(day), until: Some(day.plus(1)) },
            None => Self { from: args.from, until: args.until },
        }
    }
}

pub(super) fn run(json: bool, data_dir: &DataDir, args: &Args) -> Result<ExitCode, Failure> {
    if args.from.zip(args.until).is_some_and(|(from, until)| until < from) {
        let error = Plain::new("--until is before --from").hint("exchange them, or leave one out");
        return Err(error.boxed());
    }
    let days = bourse_exchange::figures(data_dir.root(), args.into()).map_err(|e| refused(data_dir, e))?;
    if json {
        let days: Vec<MarketFigures> = days.iter().map(MarketFigures::from).collect();
        crate::cmd::tell_line(&crate::cmd::json(&days)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text: Vec<String> = days.iter().map(|day| format!("{}\n", day.text().join("\n"))).collect();
    crate::cmd::tell(&text.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn refused(data_dir: &DataDir, error: FiguresError) -> Failure {
    let hint = match error {
        FiguresError::Open(error) => return admin::cannot_open(data_dir, error).into(),
        FiguresError::TooLong => "give `--from` and `--until`",
        FiguresError::Contradiction { .. } => "`bourse ledger check` says what is wrong with the books",
    };
    Plain::new(error.to_string()).hint(hint).boxed()
}

//! `bourse ledger statement`: the movements of an account, or a day or a month of an account or of the whole market on
//! paper.

use super::invoice::refused;
use super::paper::{Desk, Format};
use super::{Span, day, month};
use crate::admin;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use bourse_exchange::{DayOrMonth, OPERATOR_NAME, STATEMENT_LINES_MAX, StatementLine, StatementPage};
use bourse_types::{TransferId, UtcDay};
use std::path::PathBuf;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose.
    #[arg(default_value = OPERATOR_NAME)]
    account: String,
    /// Most lines; the latest ones. At most 10000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = lines_of_a_page)]
    lines: usize,
    /// Those before this transfer, the first of the lines that are known (see --json).
    #[arg(long, value_name = "TRANSFER", value_parser = transfer)]
    before: Option<TransferId>,
    #[command(flatten)]
    span: Span,
    /// The whole of this day (UTC), such as 2026-11-01: balance before, movements by account, requests by model, balance
    /// after.
    #[arg(long, value_name = "DAY", value_parser = day, group = "whole", conflicts_with_all = ["lines", "before", "from", "until"])]
    day: Option<UtcDay>,
    /// The same of this month (UTC), such as 2026-11.
    #[arg(long, value_name = "MONTH", value_parser = month, group = "whole", conflicts_with_all = ["lines", "before", "from", "until"])]
    month: Option<UtcDay>,
    /// The day or the month of all accounts, by kind.
    #[arg(long, requires = "whole", conflicts_with = "account")]
    market: bool,
    /// How a day or a month is written.
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "whole")]
    format: Format,
    /// Into this file instead of the terminal.
    #[arg(long, value_name = "FILE", requires = "whole")]
    out: Option<PathBuf>,
}

fn lines_of_a_page(text: &str) -> Result<usize, String> {
    let lines = text.parse().ok().filter(|lines| (1..=STATEMENT_LINES_MAX).contains(lines));
    lines.ok_or_else(|| format!("give a number from 1 to {STATEMENT_LINES_MAX}; --before pages through more"))
}

fn transfer(text: &str) -> Result<TransferId, String> {
    let id = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    id.map(TransferId).ok_or_else(|| "give the 32 hex digits of a line's transfer".to_owned())
}

pub(super) fn run(json: bool, data_dir: &DataDir, args: &Args) -> Result<ExitCode, Failure> {
    let of = args.day.map(DayOrMonth::Day).or(args.month.map(DayOrMonth::Month));
    let Some(of) = of else { return movements(json, data_dir, args) };
    let desk = Desk::of(json, args.format, args.out.as_ref(), "statement")?;
    let refused = |error| refused(data_dir, error);
    if args.market {
        return desk.put(&bourse_exchange::market_statement(data_dir.root(), of).map_err(refused)?);
    }
    desk.put(&bourse_exchange::account_statement(data_dir.root(), &args.account, of).map_err(refused)?)
}

fn movements(json: bool, data_dir: &DataDir, args: &Args) -> Result<ExitCode, Failure> {
    let Args { account, lines, before, span, .. } = args;
    let page = StatementPage { lines_max: *lines, before: *before };
    let found = bourse_exchange::statement(data_dir.root(), account, span.period()?, page)
        .map_err(|error| admin::cannot_open(data_dir, error))?;
    let Some(lines) = found else {
        return Err(Plain::new(format!("no account is called `{account}`"))
            .hint("`bourse ledger balance` shows them all")
            .boxed());
    };
    if json {
        crate::cmd::tell_line(&crate::cmd::json(&lines)?)?;
    } else {
        crate::cmd::tell(&rows(&lines))?;
    }
    if let Some(first) = lines.first().filter(|_| lines.len() == page.lines_max) {
        eprintln!("lines before these: --before {}", first.transfer);
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(lines: &[StatementLine]) -> String {
    let mut rows = vec![["TIME (UTC)", "AMOUNT", "BALANCE", "WITH", "RECEIPT"].map(str::to_owned)];
    rows.extend(lines.iter().map(|line| {
        let [amount, balance] = [&line.amount_usd, &line.balance_usd].map(|usd| crate::cmd::dollars(usd));
        let receipt = line.request.clone().unwrap_or_default();
        [crate::cmd::utc(line.at_ms), amount, balance, line.counterpart.clone(), receipt]
    }));
    crate::cmd::columns(&rows)
}

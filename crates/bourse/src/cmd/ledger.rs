//! `bourse ledger`: the books, as anyone may read them, whether the market runs or not.
//!
//! Balance, statement, check and prove only read the journal; a running market is not disturbed. `check` replays
//! everything from the beginning and exits with 0 only when nothing is wrong.

mod epoch;
mod figures;
mod invoice;
mod paper;
mod project;
mod statement;
mod suspense;

use super::operator::{Operator, unasked};
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use crate::{admin, attach};
use bourse_exchange::{
    AccountLine, AdminReply, AdminRequest, CheckReport, ExportError, ExportFormat, ExportTable, Period,
};
use bourse_gateway::{Clock as _, SystemClock};
use bourse_types::{UnixMs, UtcDay};
use clap::Subcommand;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the balance of every account.
    Balance,
    /// Print the movements of one account, oldest first; or a day or a month of it, or of the whole market, on paper.
    Statement(statement::Args),
    /// Write every movement for a spreadsheet, a program, ledger or beancount; or a table in columns.
    Export {
        /// How [default: csv; json with `--json`].
        #[arg(long, value_enum)]
        format: Option<Format>,
        /// Which table, for `parquet` [default: transfers].
        #[arg(long, value_enum)]
        table: Option<Table>,
        /// Into this file instead of the terminal.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        span: Span,
    },
    /// Print what a customer used and paid, by day, model and seller; or write it as PDF.
    Invoice(invoice::Args),
    /// Print what was used by who paid, what the market earned and what was given away, by day.
    Figures(figures::Args),
    /// Keep the books as tables in a PostgreSQL, for whoever asks in SQL.
    Project(project::Args),
    /// Replay everything and say whether the books are clean.
    Check,
    /// Replay up to a group and print the books as they were after it, with the digest that copies are compared by.
    Replay {
        /// The number of the group; the last one when absent.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        group: Option<u64>,
    },
    /// Write the proof that an account is counted in what the market signed to owe, for `bourse verify`.
    Prove {
        /// Whose.
        #[arg(long, value_name = "NAME")]
        account: String,
        /// At the end of this epoch [default: the last one].
        #[arg(long, value_name = "N")]
        epoch: Option<u64>,
        /// Where to keep it [default: print it].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Shares of sellers that claimed more than the market counted: list them, or give one to whose it is.
    Suspense {
        #[command(subcommand)]
        action: suspense::Action,
    },
    /// End the epoch now instead of at the end of its minute: sign what the market owes.
    Close,
    /// Note money that came in from outside for an account, or for `subsidy`: it lies in the account `escrow`, from which
    /// sellers are paid.
    Deposit {
        /// Whose.
        account: String,
        /// How much, in USD.
        usd: String,
        /// What the deposit is called: the same one under the same key is noted once a day.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Give an account credit from the subsidy account.
    Credit {
        /// Whose.
        account: String,
        /// How much, in USD.
        usd: String,
        /// What the credit is called: the same credit under the same key is given once a day.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
}

/// A part of the time.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Span {
    /// From this day or moment on (UTC), such as 2026-11-01 or 2026-11-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<UnixMs>,
    /// Until before this day or moment.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<UnixMs>,
}

impl Span {
    /// Refuses a part of the time that ends before it begins: its sums would be of nothing.
    fn period(self) -> Result<Period, Failure> {
        if self.from.zip(self.until).is_some_and(|(from, until)| until < from) {
            let error = Plain::new("--until is before --from").hint("exchange them, or leave one out");
            return Err(error.boxed());
        }
        Ok(Period { from: self.from, until: self.until })
    }
}

fn day(text: &str) -> Result<UtcDay, String> {
    UtcDay::parse(text).ok_or_else(|| "give a day such as 2026-11-01".to_owned())
}

fn month(text: &str) -> Result<UtcDay, String> {
    UtcDay::parse(&format!("{text}-01")).ok_or_else(|| "give a month such as 2026-11".to_owned())
}

fn moment(text: &str) -> Result<UnixMs, String> {
    let read = UnixMs::parse_iso(text).or_else(|| UtcDay::parse(text).map(UtcDay::start));
    read.ok_or_else(|| "give a day such as 2026-11-01 or a moment such as 2026-11-01T12:00:00Z".to_owned())
}

/// How movements are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Rows with commas.
    Csv,
    /// An object on each line.
    Json,
    /// Entries for ledger and hledger.
    Ledger,
    /// Entries for beancount.
    Beancount,
    /// A table in columns.
    Parquet,
}

/// What a table in columns holds.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Table {
    /// Every settled movement.
    Transfers,
    /// Every account, as it was at the end.
    Accounts,
    /// The public fields of every receipt.
    Receipts,
}

impl Format {
    /// `--json` is a format, too; one is enough.
    fn asked(format: Option<Self>, json: bool) -> Result<Self, Failure> {
        match (format, json) {
            (None | Some(Self::Json), true) => Ok(Self::Json),
            (Some(_), true) => Err(Plain::new("`--json` and `--format` ask for two formats")
                .hint("leave one of them out")
                .boxed()),
            (format, false) => Ok(format.unwrap_or(Self::Csv)),
        }
    }

    fn of(self, table: Table) -> ExportFormat {
        match self {
            Self::Csv => ExportFormat::Csv,
            Self::Json => ExportFormat::Json,
            Self::Ledger => ExportFormat::Ledger,
            Self::Beancount => ExportFormat::Beancount,
            Self::Parquet => ExportFormat::Parquet(match table {
                Table::Transfers => ExportTable::Transfers,
                Table::Accounts => ExportTable::Accounts,
                Table::Receipts => ExportTable::Receipts,
            }),
        }
    }
}

/// Reads and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let (json, data_dir) = (args.operator.json, args.operator.locate(environment)?);
    if !matches!(&args.action, Action::Project(asked) if asked.is_elsewhere()) {
        attach::books(&data_dir)?;
    }
    match &args.action {
        Action::Balance => {
            let accounts =
                bourse_exchange::balances(data_dir.root()).map_err(|e| admin::cannot_open(&data_dir, e))?;
            print_balances(json, &accounts)
        }
        Action::Statement(asked) => statement::run(json, &data_dir, asked),
        Action::Export { format, table, out, span } => {
            let format = Format::asked(*format, json)?;
            if table.is_some() && !matches!(format, Format::Parquet) {
                return Err(Plain::new(
                    "`--table` is for `--format parquet`: the other formats are of transfers",
                )
                .hint("leave it out, or ask for parquet")
                .boxed());
            }
            let format = format.of(table.unwrap_or(Table::Transfers));
            export(&data_dir, format, *span, out.as_deref())
        }
        Action::Invoice(asked) => invoice::run(json, &data_dir, asked),
        Action::Figures(asked) => figures::run(json, &data_dir, asked),
        Action::Project(asked) => project::run(json, &data_dir, environment, asked),
        Action::Check => check(json, &data_dir),
        Action::Replay { group } => replay(json, &data_dir, *group),
        Action::Prove { account, epoch, out } => epoch::prove(&data_dir, account, *epoch, out.as_deref()),
        Action::Suspense { action } => suspense::run(json, &data_dir, environment, action),
        Action::Close => epoch::close(json, &data_dir, environment),
        Action::Credit { account, usd, idempotency_key } => {
            let request = AdminRequest::Credit {
                account: account.clone(),
                amount_usd: usd.clone(),
                idempotency_key: idempotency_key.clone(),
            };
            print_balances_after(json, &data_dir, environment, request)
        }
        Action::Deposit { account, usd, idempotency_key } => {
            let request = AdminRequest::Deposit {
                account: account.clone(),
                amount_usd: usd.clone(),
                idempotency_key: idempotency_key.clone(),
            };
            print_balances_after(json, &data_dir, environment, request)
        }
    }
}

fn print_balances_after(
    json: bool,
    data_dir: &DataDir,
    environment: &Environment,
    request: AdminRequest,
) -> Result<ExitCode, Failure> {
    match admin::ask(data_dir, environment, request)? {
        AdminReply::Balances { accounts } => print_balances(json, &accounts),
        _ => Err(unasked()),
    }
}

fn print_balances(json: bool, accounts: &[AccountLine]) -> Result<ExitCode, Failure> {
    if json {
        super::tell_line(&super::json(accounts)?)?;
    } else {
        super::tell(&balance_rows(accounts))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn balance_rows(accounts: &[AccountLine]) -> String {
    let mut rows = vec![["ACCOUNT", "KIND", "BALANCE", "HELD", "AVAILABLE"].map(str::to_owned)];
    rows.extend(accounts.iter().map(|line| {
        let amounts = [&line.balance_usd, &line.held_usd, &line.available_usd].map(|usd| super::dollars(usd));
        let [balance, held, available] = amounts;
        [line.name.clone(), line.kind.clone(), balance, held, available]
    }));
    super::columns(&rows)
}

fn replay(json: bool, data_dir: &DataDir, group: Option<u64>) -> Result<ExitCode, Failure> {
    let bar = super::groups_bar();
    let replayed = bourse_exchange::replay(data_dir.root(), group, |at, all| {
        bar.set_length(all);
        bar.set_position(at);
    });
    bar.finish_and_clear();
    let report = replayed.map_err(|error| admin::cannot_open(data_dir, error))?;
    if json {
        super::tell_line(&super::json(&report)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    super::tell(&format!(
        "the books after group {}, {}\n  {} events, {} receipts, {} open holds\n  state {}\n  chain {}\n  \
         receipts root {}\n\n{}",
        report.group,
        super::utc(report.at_ms),
        report.events,
        report.receipts,
        report.holds_open,
        report.state_digest,
        report.chain,
        report.receipts_root,
        balance_rows(&report.accounts)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes as it reads: the books may be larger than memory.
fn export(
    data_dir: &DataDir,
    format: ExportFormat,
    span: Span,
    out: Option<&Path>,
) -> Result<ExitCode, Failure> {
    if out.is_none() && matches!(format, ExportFormat::Parquet(_)) && std::io::stdout().is_terminal() {
        return Err(Plain::new("a table in columns is nothing for a terminal")
            .hint("add `--out transfers.parquet`")
            .boxed());
    }
    let period = span.period()?;
    let mut to: Box<dyn std::io::Write + Send> = match out {
        None => Box::new(std::io::BufWriter::new(std::io::stdout())),
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|error| paper::cannot_write(path, &error))?;
            Box::new(std::io::BufWriter::new(file))
        }
    };
    let written = bourse_exchange::export(data_dir.root(), format, period, &mut to)
        .and_then(|_| to.flush().map_err(ExportError::from));
    match written {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(ExportError::Open(error)) => Err(admin::cannot_open(data_dir, error).into()),
        Err(error @ ExportError::Sheet(_)) => Err(Plain::new(error.to_string()).boxed()),
        Err(ExportError::Write(error)) => match out {
            Some(path) => Err(paper::cannot_write(path, &error)),
            None => super::written(Err(error)).map(|()| ExitCode::SUCCESS),
        },
    }
}

fn check(json: bool, data_dir: &DataDir) -> Result<ExitCode, Failure> {
    let report = bourse_exchange::check(data_dir.root(), SystemClock.now())
        .map_err(|error| admin::cannot_open(data_dir, error))?;
    if json {
        super::tell_line(&super::json(&report)?)?;
    } else {
        super::tell(&findings(&report))?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(report: &CheckReport) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let verdict = if report.is_clean() { "the books are clean" } else { "the books are NOT clean" };
    let _ = writeln!(text, "{verdict}");
    for problem in &report.problems {
        let _ = writeln!(text, "  problem: {problem}");
    }
    let Some(facts) = &report.facts else {
        let last_good = report.last_good_group;
        let _ = writeln!(text, "  groups 1 to {last_good} are good; of what follows nothing is known");
        return text;
    };
    let _ = writeln!(
        text,
        "  {} groups, {} events, {} receipts, {} epochs, {} accounts\n  {} open holds of requests in flight, {} left open by a market that has stopped, {} payouts on their way\n  \
         debits {}, credits {} (nano-USD)\n  state {}\n  receipts root {}",
        facts.groups,
        facts.events,
        facts.receipts,
        facts.epochs,
        facts.accounts,
        facts.holds_open,
        facts.holds_orphaned,
        facts.payouts_open,
        facts.debits_posted,
        facts.credits_posted,
        facts.state_digest,
        facts.receipts_root
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_format_is_asked_for_and_not_two() {
        let asked = |format, json| Format::asked(format, json).map(|format| format!("{format:?}")).ok();
        let (csv, json) = (Some("Csv".to_owned()), Some("Json".to_owned()));
        assert_eq!((asked(None, false), asked(None, true)), (csv, json.clone()));
        assert_eq!((asked(Some(Format::Json), true), asked(Some(Format::Parquet), true)), (json, None));
    }

    #[test]
    fn books_that_end_in_the_middle_show_no_sums() {
        let problems = vec!["group 4 is missing".to_owned()];
        let report = CheckReport { facts: None, last_good_group: 3, problems };
        let said = findings(&report);
        assert_eq!(
            said,
            "the books are NOT clean\n  problem: group 4 is missing\n  \
             groups 1 to 3 are good; of what follows nothing is known\n"
        );
        let json: serde_json::Value = serde_json::from_str(&crate::cmd::json(&report).unwrap()).unwrap();
        let want = serde_json::json!({"last_good_group": 3, "problems": ["group 4 is missing"]});
        assert_eq!(json, want);
    }
}

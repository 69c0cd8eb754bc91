//! The books for other programs: every settled movement as rows, or as the plain-text accounts that accountants keep.
//!
//! | format | what | read by |
//! | --- | --- | --- |
//! | `csv` | a row for each movement (RFC 4180) | spreadsheets |
//! | `json` | an object on each line for each movement | programs |
//! | `ledger` | entries with their postings | ledger, hledger |
//! | `beancount` | the same with every account opened | beancount, fava |
//! | `parquet` | one table: transfers, accounts or receipts | duckdb, pyarrow, Spark and the like |
//!
//! `ledger` and `beancount` begin with the balances that the period finds and leave out what is no money: allowances are limits, and
//! other units than dollars are named as commodities of their own.
//! Amounts are exact. A page is as long as the books: it is written as it is read, and a Parquet file in groups of rows.

mod sheet;
mod tables;

use crate::csv;
use crate::names::ACCOUNT_NAME_BYTES_MAX;
use crate::open::OpenError;
use crate::postings::{self, Chart, Entry, Period, Posting};
use crate::store::reader;
use bourse_ledger::{AccountKind, Journal, Unit};
use bourse_types::{AccountId, UnixMs};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

/// How the books are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Rows with commas.
    Csv,
    /// Objects, one a line.
    Json,
    /// For ledger and hledger.
    Ledger,
    /// For beancount.
    Beancount,
    /// One table in columns.
    Parquet(ExportTable),
}

/// What a Parquet file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTable {
    /// Every settled movement of the period.
    Transfers,
    /// Every account, with its four sums as they were at the period's end.
    Accounts,
    /// The public fields of every receipt that was settled in the period.
    Receipts,
}

/// Why the books were not written out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// They could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nobody takes what is written.
    #[error("the export could not be written")]
    Write(#[from] io::Error),
    /// The table cannot be made.
    #[error("the table cannot be written: {0}")]
    Sheet(String),
}

/// Writes the books of a data directory, live or not. Gives back how many movements there were, or rows of the table.
pub fn export(
    dir: &Path,
    format: ExportFormat,
    period: Period,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    export_of(reader(dir).map_err(OpenError::from)?.as_ref(), format, period, out)
}

pub(crate) fn export_of(
    journal: &dyn Journal,
    format: ExportFormat,
    period: Period,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    if let ExportFormat::Parquet(table) = format {
        return tables::write(journal, table, period, sheet::ROWS_PER_GROUP, out);
    }
    let mut export = Export {
        format,
        period,
        out,
        movements: 0,
        opening: BTreeMap::new(),
        is_open: false,
        known: BTreeSet::new(),
    };
    export.begin()?;
    let chart = postings::walk(journal, |chart, entry| export.entry(chart, entry))?;
    export.open(&chart, period.from)?;
    Ok(export.movements)
}

struct Export<'o> {
    format: ExportFormat,
    period: Period,
    out: &'o mut dyn Write,
    movements: u64,
    /// Debits less credits of what came before the period.
    opening: BTreeMap<AccountId, i128>,
    /// The balances that the period finds are written.
    is_open: bool,
    /// Accounts that are opened in the page.
    known: BTreeSet<AccountId>,
}

/// A movement for programs.
#[derive(Serialize)]
struct Movement<'a> {
    at: &'a str,
    at_ms: u64,
    transfer: &'a str,
    request: Option<&'a str>,
    debit: &'a str,
    debit_kind: &'static str,
    credit: &'a str,
    credit_kind: &'static str,
    /// Whole units; a string, because it may be beyond what others count exactly.
    amount: &'a str,
    unit: &'a str,
}

impl Export<'_> {
    fn begin(&mut self) -> io::Result<()> {
        match self.format {
            ExportFormat::Csv => self
                .out
                .write_all(b"at,at_ms,transfer,request,debit,debit_kind,credit,credit_kind,amount,unit\r\n"),
            ExportFormat::Beancount => {
                self.out.write_all(b"option \"title\" \"bourse\"\noption \"operating_currency\" \"USD\"\n")
            }
            ExportFormat::Json | ExportFormat::Ledger | ExportFormat::Parquet(_) => Ok(()),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.format, ExportFormat::Ledger | ExportFormat::Beancount)
    }

    fn entry(&mut self, chart: &Chart, entry: &Entry<'_>) -> Result<(), ExportError> {
        if self.period.is_after(entry.at) {
            return Ok(());
        }
        if self.period.is_before(entry.at) {
            for posting in entry.postings {
                *self.opening.entry(posting.debit).or_default() += i128::from(posting.amount.0);
                *self.opening.entry(posting.credit).or_default() -= i128::from(posting.amount.0);
            }
            return Ok(());
        }
        self.open(chart, self.period.from)?;
        self.movements += entry.postings.len() as u64;
        if self.is_text() { self.transaction(chart, entry) } else { self.rows(chart, entry) }
    }

    fn rows(&mut self, chart: &Chart, entry: &Entry<'_>) -> Result<(), ExportError> {
        let (at, request) = (entry.at.to_iso_string(), entry.request.map(|request| request.to_string()));
        for posting in entry.postings {
            let (debit, credit) = (chart.names.name(posting.debit), chart.names.name(posting.credit));
            let row = Movement {
                at: &at,
                at_ms: entry.at.0,
                transfer: &format!("{:032x}", posting.transfer.0),
                request: request.as_deref(),
                debit: &debit,
                debit_kind: chart.kind(posting.debit).name(),
                credit: &credit,
                credit_kind: chart.kind(posting.credit).name(),
                amount: &posting.amount.0.to_string(),
                unit: &chart.unit(posting.debit).to_string(),
            };
            if self.format == ExportFormat::Json {
                serde_json::to_writer(&mut *self.out, &row).map_err(io::Error::from)?;
                self.out.write_all(b"\n")?;
            } else {
                self.csv(&row)?;
            }
        }
        Ok(())
    }

    fn csv(&mut self, row: &Movement<'_>) -> io::Result<()> {
        let at_ms = row.at_ms.to_string();
        let cells = [
            row.at,
            &at_ms,
            row.transfer,
            row.request.unwrap_or_default(),
            row.debit,
            row.debit_kind,
            row.credit,
            row.credit_kind,
            row.amount,
            row.unit,
        ];
        self.out.write_all(csv::row(&cells).as_bytes())
    }

    /// Writes what the period finds, once, before its first entry.
    fn open(&mut self, chart: &Chart, from: Option<UnixMs>) -> Result<(), ExportError> {
        if std::mem::replace(&mut self.is_open, true) || !self.is_text() {
            return Ok(());
        }
        let Some(from) = from else { return Ok(()) };
        let lines: Vec<(AccountId, i128)> = std::mem::take(&mut self.opening)
            .into_iter()
            .filter(|(id, sum)| *sum != 0 && is_booked(chart.kind(*id)))
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let day = day_of(from);
        self.open_accounts(chart, lines.iter().map(|(id, _)| *id), &day)?;
        self.head(&day, "", "balances found")?;
        for (id, sum) in lines {
            self.line(chart, id, sum)?;
        }
        Ok(())
    }

    fn transaction(&mut self, chart: &Chart, entry: &Entry<'_>) -> Result<(), ExportError> {
        let booked = |posting: &&Posting| {
            is_booked(chart.kind(posting.debit)) && is_booked(chart.kind(posting.credit))
        };
        let postings: Vec<&Posting> = entry.postings.iter().filter(booked).collect();
        if postings.is_empty() {
            return Ok(());
        }
        let day = day_of(entry.at);
        self.open_accounts(chart, postings.iter().flat_map(|posting| [posting.debit, posting.credit]), &day)?;
        let code = entry
            .request
            .map_or_else(|| format!("{:032x}", postings[0].transfer.0), |request| request.to_string());
        self.head(&day, &code, if entry.request.is_some() { "request" } else { "transfer" })?;
        for posting in postings {
            let amount = i128::from(posting.amount.0);
            self.line(chart, posting.debit, amount)?;
            self.line(chart, posting.credit, -amount)?;
        }
        Ok(())
    }

    fn head(&mut self, day: &str, code: &str, what: &str) -> io::Result<()> {
        match (self.format, code) {
            (ExportFormat::Beancount, "") => write!(self.out, "\n{day} * \"{what}\"\n"),
            (ExportFormat::Beancount, code) => write!(self.out, "\n{day} * \"{what}\" \"{code}\"\n"),
            (_, "") => write!(self.out, "\n{day} * {what}\n"),
            (_, code) => write!(self.out, "\n{day} * ({code}) {what}\n"),
        }
    }

    /// One line of an entry: debits are positive.
    fn line(&mut self, chart: &Chart, id: AccountId, sum: i128) -> io::Result<()> {
        let (name, unit) = (self.name(chart, id), chart.unit(id));
        writeln!(self.out, "  {name}  {} {}", decimal(sum, unit), commodity(unit))
    }

    /// Opens accounts in the page that were not met before.
    fn open_accounts(
        &mut self,
        chart: &Chart,
        accounts: impl Iterator<Item = AccountId>,
        day: &str,
    ) -> io::Result<()> {
        if self.format != ExportFormat::Beancount {
            return Ok(());
        }
        for id in accounts {
            if self.known.insert(id) {
                let (name, unit) = (self.name(chart, id), commodity(chart.unit(id)));
                writeln!(
                    self.out,
                    "\n{day} open {name} {unit}\n  name: \"{}\"",
                    quoted(&chart.names.name(id))
                )?;
            }
        }
        Ok(())
    }

    /// The account in the tree of accountants. Beancount knows few characters, so its names end with the account's number.
    fn name(&self, chart: &Chart, id: AccountId) -> String {
        let (kind, name) = (chart.kind(id), chart.names.name(id));
        let branch = branch(kind);
        if self.format == ExportFormat::Beancount {
            let plain: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let mut letters = plain.trim_matches('-').chars();
            let first = letters.next().unwrap_or('X').to_ascii_uppercase();
            return format!("{branch}:{first}{}-{}", letters.as_str(), id.0);
        }
        match plain_name(&name) {
            (clean, true) => format!("{branch}:{clean}"),
            // Two names must not become one.
            (clean, false) => format!("{branch}:{clean}-{}", id.0),
        }
    }
}

/// A name as ledger and hledger read it to its end, and whether nothing had to be changed for that: two spaces end a name
/// there, and what follows a semicolon is a comment, so that an amount behind it would not be read.
fn plain_name(name: &str) -> (String, bool) {
    let name: String =
        name.chars().take(ACCOUNT_NAME_BYTES_MAX).map(|c| if c == ':' { '/' } else { c }).collect();
    let words = name.split(|c: char| c == ';' || c.is_whitespace()).filter(|word| !word.is_empty());
    let clean = words.collect::<Vec<_>>().join(" ");
    let is_same = clean == name;
    (clean, is_same)
}

/// What is money or stands for it. Allowances mirror spending, memoranda note what was free: they hold nothing.
fn is_booked(kind: AccountKind) -> bool {
    !matches!(kind, AccountKind::Allowance | AccountKind::Control)
}

/// Where accountants look for an account: from the market's side, what buyers have is what it owes.
fn branch(kind: AccountKind) -> &'static str {
    match kind {
        AccountKind::Customer => "Liabilities:Customers",
        AccountKind::SubAccount => "Liabilities:Customers:Parts",
        AccountKind::SellerPayable => "Liabilities:Sellers",
        AccountKind::VerifierPool => "Liabilities:Verifiers",
        AccountKind::Insurance => "Liabilities:Insurance",
        AccountKind::Suspense => "Liabilities:Suspense",
        AccountKind::Clearing => "Liabilities:Clearing",
        AccountKind::Fee => "Income:Fees",
        AccountKind::Rounding => "Income:Rounding",
        AccountKind::Subsidy => "Expenses:Subsidy",
        AccountKind::Burn => "Expenses:Burn",
        AccountKind::Escrow => "Assets:Escrow",
        AccountKind::Allowance | AccountKind::Control => "Equity:Control",
    }
}

fn day_of(at: UnixMs) -> String {
    at.to_iso_string().chars().take_while(|c| *c != 'T').collect()
}

/// Dollars with nine places, or a whole number of anything else.
fn decimal(sum: i128, unit: Unit) -> String {
    if unit == Unit::NANO_USD { crate::books::usd(sum) } else { sum.to_string() }
}

/// Upper-case letters, digits and dashes, as beancount wants them.
fn commodity(unit: Unit) -> String {
    match unit {
        Unit::NANO_USD => "USD".to_owned(),
        other => other.to_string().to_ascii_uppercase().replace([' ', '_'], "-"),
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests;

//! The whole market on one day or in one month: every account of money, by kind.
//!
//! For each kind the balance before, what came in, what went out and the balance after, to the nano-dollar; each column of
//! balances sums to zero and what came in to what went out, or there is no statement but an error. Rows are kinds, so it is
//! never long and names no buyer.

use super::DayOrMonth;
use crate::books::usd;
use crate::csv;
use crate::invoice::InvoiceError;
use crate::open::OpenError;
use crate::paper::{self, Columns};
use crate::postings::{self, Chart, Entry, Period, Told};
use crate::store::reader;
use bourse_ledger::{AccountKind, Journal, Unit};
use bourse_types::AccountId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The market on one day or in one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketStatement {
    /// The day or the month in UTC.
    pub period: String,
    /// Kinds of accounts that had a balance or moved.
    pub kinds: Vec<KindLine>,
    /// All of them.
    pub total: KindLine,
}

/// All accounts of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindLine {
    /// The kind, such as `customer`.
    pub kind: String,
    /// Accounts of it that had a balance or moved.
    pub accounts: u64,
    /// Sum of the balances before.
    pub opening_usd: String,
    /// What came in.
    pub in_usd: String,
    /// What went out.
    pub out_usd: String,
    /// Sum of the balances after.
    pub closing_usd: String,
}

/// Nano-USD.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    accounts: u64,
    opening: i128,
    credits: i128,
    debits: i128,
}

impl Sums {
    fn closing(&self) -> i128 {
        self.opening + self.credits - self.debits
    }

    fn is_still(&self) -> bool {
        (self.opening, self.credits, self.debits) == (0, 0, 0)
    }

    fn plus(&mut self, other: &Self) {
        self.accounts += other.accounts;
        self.opening += other.opening;
        self.credits += other.credits;
        self.debits += other.debits;
    }

    fn line(&self, kind: &str) -> KindLine {
        let [opening_usd, in_usd, out_usd, closing_usd] =
            [self.opening, self.credits, self.debits, self.closing()].map(usd);
        KindLine { kind: kind.to_owned(), accounts: self.accounts, opening_usd, in_usd, out_usd, closing_usd }
    }
}

/// The market of a data directory on one day or in one month, live or not.
pub fn market_statement(dir: &Path, of: DayOrMonth) -> Result<MarketStatement, InvoiceError> {
    market_statement_of(reader(dir).map_err(OpenError::from)?.as_ref(), of)
}

pub(crate) fn market_statement_of(
    journal: &dyn Journal,
    of: DayOrMonth,
) -> Result<MarketStatement, InvoiceError> {
    let period = of.period();
    let mut accounts: BTreeMap<AccountId, Sums> = BTreeMap::new();
    let chart = postings::walk_all(journal, |chart, told| {
        if let Told::Entry(entry) = told {
            add(&mut accounts, chart, entry, period);
        }
        Ok::<_, InvoiceError>(())
    })?;
    let mut kinds: BTreeMap<AccountKind, Sums> = BTreeMap::new();
    let mut total = Sums::default();
    for (account, sums) in accounts.iter().filter(|(_, sums)| !sums.is_still()) {
        let sums = Sums { accounts: 1, ..*sums };
        kinds.entry(chart.kind(*account)).or_default().plus(&sums);
        total.plus(&sums);
    }
    if (total.opening, total.closing()) != (0, 0) || total.credits != total.debits {
        let [opening, closing] = [total.opening, total.closing()].map(usd);
        let what =
            format!("all accounts hold {opening} USD before {of} and {closing} USD after it, not nothing");
        return Err(InvoiceError::Contradiction { account: "the market".to_owned(), what });
    }
    Ok(MarketStatement {
        period: of.to_string(),
        kinds: kinds.iter().map(|(kind, sums)| sums.line(kind.name())).collect(),
        total: total.line("total"),
    })
}

fn add(accounts: &mut BTreeMap<AccountId, Sums>, chart: &Chart, entry: &Entry<'_>, period: Period) {
    if period.is_after(entry.at) {
        return;
    }
    let is_before = period.is_before(entry.at);
    for posting in entry.postings.iter().filter(|posting| chart.unit(posting.debit) == Unit::NANO_USD) {
        let amount = i128::from(posting.amount.0);
        let debited = accounts.entry(posting.debit).or_default();
        if is_before {
            debited.opening -= amount;
        } else {
            debited.debits += amount;
        }
        let credited = accounts.entry(posting.credit).or_default();
        if is_before {
            credited.opening += amount;
        } else {
            credited.credits += amount;
        }
    }
}

/// Kind, accounts, before, in, out, after.
const KINDS: Columns<6> = Columns { widths: [16, 9, 19, 19, 19, 19], words: 1 };

impl KindLine {
    fn text(&self) -> String {
        let Self { kind, opening_usd, in_usd, out_usd, closing_usd, .. } = self;
        KINDS.row([kind, &self.accounts.to_string(), opening_usd, in_usd, out_usd, closing_usd])
    }
}

impl MarketStatement {
    /// Its lines as people read them.
    pub fn text(&self) -> Vec<String> {
        let head = ["KIND", "ACCOUNTS", "BEFORE USD", "IN USD", "OUT USD", "AFTER USD"];
        let mut lines = vec![format!("Statement of the market, {} (UTC)", self.period), String::new()];
        lines.push(KINDS.row(head));
        lines.extend(self.kinds.iter().map(KindLine::text));
        lines.extend([String::new(), self.total.text()]);
        lines
    }

    /// The same as rows (RFC 4180).
    pub fn csv(&self) -> String {
        let mut out = "period,kind,accounts,opening_usd,in_usd,out_usd,closing_usd\r\n".to_owned();
        for line in self.kinds.iter().chain([&self.total]) {
            let accounts = line.accounts.to_string();
            let KindLine { kind, opening_usd, in_usd, out_usd, closing_usd, .. } = line;
            out.push_str(&csv::row(&[
                &self.period,
                kind,
                &accounts,
                opening_usd,
                in_usd,
                out_usd,
                closing_usd,
            ]));
        }
        out
    }

    /// The same as PDF, on sheets of A4.
    pub fn pdf(&self) -> Vec<u8> {
        paper::pdf(&format!("Statement of the market, {}", self.period), &self.text())
    }
}

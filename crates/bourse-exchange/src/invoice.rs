//! What a customer used and paid in a period: for people, for programs, for whoever files it.
//!
//! It is made from the journal alone, by two ways that must meet: what left the account by its postings, and what its
//! receipts say that each request cost. Opening balance, credit, spending and closing balance must add up as well; where
//! they do not, there is no invoice but an error. Amounts are exact. The same lines are printed as text and as PDF.
//!
//! Limit: [`INVOICE_LINES_MAX`] lines of use; a shorter period has fewer.

use crate::books::usd;
use crate::csv;
use crate::open::OpenError;
use crate::paper::{self, Columns, sum};
use crate::postings::{self, Entry, Period, Told};
use crate::store::reader;
use bourse_ledger::{AccountKind, Journal};
use bourse_types::{AccountId, UnixMs, UtcDay};
use bourse_wire::funds::{ActivitySums, GenerationNote};
use bourse_wire::receipt::Receipt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// Lines of use in one invoice, at most.
pub const INVOICE_LINES_MAX: usize = 50_000;
/// Credits in one invoice, at most.
pub const INVOICE_CREDITS_MAX: usize = 10_000;

/// One account in one period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Whose.
    pub account: String,
    /// The first moment, in Unix milliseconds; none from the beginning.
    pub from_ms: Option<u64>,
    /// The moment after the last; none until now.
    pub until_ms: Option<u64>,
    /// What was there before.
    pub opening_usd: String,
    /// What came in.
    pub credits: Vec<InvoiceCredit>,
    /// What was used, by day, model and seller.
    pub usage: Vec<InvoiceLine>,
    /// Sum of what came in.
    pub credited_usd: String,
    /// Sum of what was used.
    pub spent_usd: String,
    /// What is left.
    pub closing_usd: String,
}

/// Money that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceCredit {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// From which account.
    pub from: String,
    /// How much.
    pub amount_usd: String,
}

/// What was used of one model of one seller on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// The day in UTC; in the statement of a month, the month.
    pub day: String,
    /// The model.
    pub model: String,
    /// Who answered.
    pub seller: String,
    /// Requests.
    pub requests: u64,
    /// Prompt tokens billed.
    pub prompt_tokens: u64,
    /// Completion tokens billed.
    pub completion_tokens: u64,
    /// What it cost.
    pub cost_usd: String,
}

impl InvoiceLine {
    pub(crate) fn of(when: impl Display, model: &str, seller: &str, sums: &ActivitySums) -> Self {
        Self {
            day: when.to_string(),
            model: model.to_owned(),
            seller: seller.to_owned(),
            requests: sums.requests,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            cost_usd: usd(sums.cost.0.into()),
        }
    }
}

/// Why there is no invoice.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    /// The books could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nobody is called that.
    #[error("no account is called `{0}`")]
    NoAccount(String),
    /// Sellers and the market's own accounts use nothing.
    #[error("`{0}` is no customer: an invoice says what a customer used and paid")]
    NoCustomer(String),
    /// More lines than an invoice has.
    #[error("the period has more than {max} {what}: ask for a shorter one")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The books contradict themselves.
    #[error("the books of `{account}` do not add up: {what}")]
    Contradiction {
        /// Whose.
        account: String,
        /// What contradicts what.
        what: String,
    },
}

/// The invoice of an account of a data directory, live or not.
pub fn invoice(dir: &Path, account: &str, period: Period) -> Result<Invoice, InvoiceError> {
    invoice_of(reader(dir).map_err(OpenError::from)?.as_ref(), account, period)
}

pub(crate) fn invoice_of(
    journal: &dyn Journal,
    account: &str,
    period: Period,
) -> Result<Invoice, InvoiceError> {
    let mut draft = Draft { period, ..Draft::default() };
    let chart = postings::walk_all(journal, |chart, told| {
        let Some(id) = chart.names.account(account) else { return Ok(()) };
        match told {
            Told::Entry(entry) => draft.entry(id, entry, |other| chart.names.name(other)),
            Told::Receipt { at, receipt, note } => draft.receipt(id, at, receipt, note),
            _ => Ok(()),
        }
    })?;
    let known = chart.names.account(account);
    let id = known.ok_or_else(|| InvoiceError::NoAccount(account.to_owned()))?;
    if chart.kind(id) != AccountKind::Customer {
        return Err(InvoiceError::NoCustomer(account.to_owned()));
    }
    draft.finish(account)
}

/// Sums while the journal is read, in nano-USD.
#[derive(Default)]
struct Draft {
    period: Period,
    balance: i128,
    opening: i128,
    credits: Vec<InvoiceCredit>,
    credited: i128,
    spent: i128,
    usage: BTreeMap<(UtcDay, String, String), ActivitySums>,
    receipts_cost: i128,
}

impl Draft {
    fn entry(
        &mut self,
        id: AccountId,
        entry: &Entry<'_>,
        name: impl Fn(AccountId) -> String,
    ) -> Result<(), InvoiceError> {
        if self.period.is_after(entry.at) {
            return Ok(());
        }
        for posting in entry.postings {
            let amount = i128::from(posting.amount.0);
            let is_before = self.period.is_before(entry.at);
            if posting.debit == id {
                self.balance -= amount;
                self.spent += if is_before { 0 } else { amount };
            } else if posting.credit == id {
                self.balance += amount;
                if !is_before {
                    self.credit(entry.at, name(posting.debit), amount)?;
                }
            }
            if is_before {
                self.opening = self.balance;
            }
        }
        Ok(())
    }

    fn credit(&mut self, at: UnixMs, from: String, amount: i128) -> Result<(), InvoiceError> {
        if self.credits.len() == INVOICE_CREDITS_MAX {
            return Err(InvoiceError::TooLong { what: "credits", max: INVOICE_CREDITS_MAX });
        }
        self.credited += amount;
        self.credits.push(InvoiceCredit { at_ms: at.0, from, amount_usd: usd(amount) });
        Ok(())
    }

    fn receipt(
        &mut self,
        id: AccountId,
        at: UnixMs,
        receipt: &[u8],
        note: &[u8],
    ) -> Result<(), InvoiceError> {
        if self.period.is_before(at) || self.period.is_after(at) {
            return Ok(());
        }
        let unreadable = |error: bourse_wire::canonical::CanonicalError| OpenError::Replay {
            last_good: 0,
            what: format!("a receipt cannot be read: {error}"),
        };
        let receipt = Receipt::from_canonical_bytes(receipt).map_err(unreadable)?;
        if receipt.account_digest != Receipt::digest_of_account(id) {
            return Ok(());
        }
        self.receipts_cost += i128::from(receipt.charge.total.0);
        let note = GenerationNote::read(note).map_err(unreadable)?;
        let Some(sale) = crate::index::Sale::of(&receipt, &note) else { return Ok(()) };
        let line = (UtcDay::of(at), sale.key.model.to_string(), sale.key.seller.to_string());
        if self.usage.len() == INVOICE_LINES_MAX && !self.usage.contains_key(&line) {
            return Err(InvoiceError::TooLong { what: "lines", max: INVOICE_LINES_MAX });
        }
        self.usage.entry(line).or_default().add(&sale.sums);
        Ok(())
    }

    fn finish(self, account: &str) -> Result<Invoice, InvoiceError> {
        let contradiction = |what: String| InvoiceError::Contradiction { account: account.to_owned(), what };
        if self.receipts_cost != self.spent {
            let [receipts, postings] = [self.receipts_cost, self.spent].map(usd);
            return Err(contradiction(format!("receipts say {receipts} USD, postings {postings} USD")));
        }
        if self.opening + self.credited - self.spent != self.balance {
            let [is, left] = [self.balance, self.opening + self.credited - self.spent].map(usd);
            return Err(contradiction(format!("{is} USD are left where {left} USD should be")));
        }
        let line = |((day, model, seller), sums): ((UtcDay, String, String), ActivitySums)| {
            InvoiceLine::of(day, &model, &seller, &sums)
        };
        Ok(Invoice {
            account: account.to_owned(),
            from_ms: self.period.from.map(|at| at.0),
            until_ms: self.period.until.map(|at| at.0),
            opening_usd: usd(self.opening),
            credits: self.credits,
            usage: self.usage.into_iter().map(line).collect(),
            credited_usd: usd(self.credited),
            spent_usd: usd(self.spent),
            closing_usd: usd(self.balance),
        })
    }
}

/// Columns of a line of use: day, model, seller, requests, tokens in, tokens out, dollars.
const USE: Columns<7> = Columns { widths: [10, 30, 14, 8, 12, 12, 16], words: 3 };

impl Invoice {
    /// Its lines as people read them.
    pub fn text(&self) -> Vec<String> {
        let time = |ms: Option<u64>, open: &str| ms.map_or(open.to_owned(), |ms| UnixMs(ms).to_iso_string());
        let mut lines = vec![
            format!("Invoice of {}", self.account),
            format!(
                "from {} until before {}",
                time(self.from_ms, "the beginning"),
                time(self.until_ms, "now")
            ),
            String::new(),
            sum("Balance before, USD", &self.opening_usd),
        ];
        for credit in &self.credits {
            let what = format!("Credit {} from {}", UnixMs(credit.at_ms).to_iso_string(), credit.from);
            lines.push(sum(&what, &credit.amount_usd));
        }
        lines.push(String::new());
        lines.push(USE.row(["DAY", "MODEL", "SELLER", "REQUESTS", "TOKENS IN", "TOKENS OUT", "USD"]));
        for line in &self.usage {
            let counts = [line.requests, line.prompt_tokens, line.completion_tokens].map(|n| n.to_string());
            let [requests, prompt, completion] = &counts;
            let words = [&line.day, &line.model, &line.seller, requests, prompt, completion, &line.cost_usd];
            lines.push(USE.row(words.map(String::as_str)));
        }
        lines.push(String::new());
        lines.push(sum("Credited, USD", &self.credited_usd));
        lines.push(sum("Spent, USD", &self.spent_usd));
        lines.push(sum("Balance after, USD", &self.closing_usd));
        lines
    }

    /// The lines of use and the totals as rows (RFC 4180).
    pub fn csv(&self) -> String {
        let mut out = "what,day,model,seller,requests,prompt_tokens,completion_tokens,usd\r\n".to_owned();
        let mut push = |cells: [&str; 8]| out.push_str(&csv::row(&cells));
        push(["balance before", "", "", "", "", "", "", &self.opening_usd]);
        for credit in &self.credits {
            let at = UnixMs(credit.at_ms).to_iso_string();
            push(["credit", &at, "", &credit.from, "", "", "", &credit.amount_usd]);
        }
        for line in &self.usage {
            let counts = [line.requests, line.prompt_tokens, line.completion_tokens].map(|n| n.to_string());
            let [requests, prompt, completion] = &counts;
            let (day, model, seller) = (&line.day, &line.model, &line.seller);
            push(["use", day, model, seller, requests, prompt, completion, &line.cost_usd]);
        }
        push(["spent", "", "", "", "", "", "", &self.spent_usd]);
        push(["balance after", "", "", "", "", "", "", &self.closing_usd]);
        out
    }

    /// The same as PDF, on sheets of A4.
    pub fn pdf(&self) -> Vec<u8> {
        paper::pdf(&format!("Invoice of {}", self.account), &self.text())
    }
}

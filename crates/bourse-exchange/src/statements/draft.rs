//! One account's day or month while the journal is read.

use super::{AccountStatement, DayOrMonth, StatementMovements, StatementSection, StatementSort};
use crate::books::usd;
use crate::core::Split;
use crate::index::Sale;
use crate::invoice::{INVOICE_LINES_MAX, InvoiceError, InvoiceLine};
use crate::open::OpenError;
use crate::postings::{Chart, Entry, Period, Told};
use bourse_ledger::AccountKind;
use bourse_types::{AccountId, Gift, Giver, NanoUsd, SellerName, UnixMs, Usage};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{ActivitySums, GenerationNote};
use bourse_wire::receipt::Receipt;
use std::collections::BTreeMap;

/// What moved with one other account.
#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    count: u64,
    credits: i128,
    debits: i128,
}

/// Sums in nano-USD.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    account: &'a str,
    /// Whose it is, where it is a seller's. Its account is opened when it is owed something for the first time.
    seller: Option<SellerName>,
    /// Whether the seller has answered anything, on whatever day.
    has_answered: bool,
    of: DayOrMonth,
    opening: i128,
    balance: i128,
    moved: BTreeMap<AccountId, Moved>,
    uses: BTreeMap<(StatementSort, String, String), ActivitySums>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(account: &'a str, of: DayOrMonth) -> Self {
        let seller = crate::names::seller_of_account(account);
        let (moved, uses) = (BTreeMap::new(), BTreeMap::new());
        let has_answered = false;
        Self { account, seller, has_answered, of, opening: 0, balance: 0, moved, uses }
    }

    fn period(&self) -> Period {
        self.of.period()
    }

    pub(super) fn take(&mut self, chart: &Chart, told: Told<'_>) -> Result<(), InvoiceError> {
        let id = chart.names.account(self.account);
        match (told, id) {
            (Told::Entry(entry), Some(id)) => self.entry(id, entry),
            (Told::Receipt { at, receipt, note }, _) if self.is_asked_of(id, at) => {
                return self.receipt(id, at, receipt, note);
            }
            _ => {}
        }
        Ok(())
    }

    /// Receipts of the period, and the others of a seller without an account until one says that there is such a seller.
    fn is_asked_of(&self, id: Option<AccountId>, at: UnixMs) -> bool {
        self.period().holds(at) || (id.is_none() && self.seller.is_some() && !self.has_answered)
    }

    fn entry(&mut self, id: AccountId, entry: &Entry<'_>) {
        if self.period().is_after(entry.at) {
            return;
        }
        let is_before = self.period().is_before(entry.at);
        for posting in entry.postings {
            let amount = i128::from(posting.amount.0);
            let (credit, debit, other) = match id {
                id if id == posting.debit => (0, amount, posting.credit),
                id if id == posting.credit => (amount, 0, posting.debit),
                _ => continue,
            };
            self.balance += credit - debit;
            if !is_before && amount > 0 {
                let moved = self.moved.entry(other).or_default();
                moved.count += 1;
                moved.credits += credit;
                moved.debits += debit;
            }
        }
        if is_before {
            self.opening = self.balance;
        }
    }

    fn receipt(
        &mut self,
        id: Option<AccountId>,
        at: UnixMs,
        receipt: &[u8],
        note: &[u8],
    ) -> Result<(), InvoiceError> {
        let unreadable = |error: CanonicalError| OpenError::Replay {
            last_good: 0,
            what: format!("a receipt cannot be read: {error}"),
        };
        let receipt = Receipt::from_canonical_bytes(receipt).map_err(unreadable)?;
        let is_sellers = self.seller.is_some() && self.seller == receipt.seller;
        self.has_answered |= is_sellers;
        if !self.period().holds(at) {
            return Ok(());
        }
        let note = GenerationNote::read(note).map_err(unreadable)?;
        let Some(sale) = Sale::of(&receipt, &note) else { return Ok(()) };
        if id.is_some_and(|id| receipt.account_digest == Receipt::digest_of_account(id)) {
            self.put(StatementSort::Used, &sale, receipt.charge.total)?;
        }
        if is_sellers {
            let split = Split::as_written(&receipt, note.is_byok()).ok_or_else(|| OpenError::Replay {
                last_good: 0,
                what: format!(
                    "the charge of {} does not sum to its total at {}",
                    receipt.request,
                    at.to_iso_string()
                ),
            })?;
            let waits = receipt.is_suspended();
            let is_free = receipt.charge.total == NanoUsd::ZERO;
            let is_nothing = is_free && receipt.usage_billed == Usage::default();
            let sorted = match note.gift {
                Some(Gift { list, giver: Giver::Seller }) => Some((StatementSort::GivenAway, list)),
                Some(Gift { list, giver: Giver::Market }) if waits => Some((StatementSort::InSuspense, list)),
                Some(Gift { list, giver: Giver::Market }) => Some((StatementSort::Subsidised, list)),
                // What its buyer's own key paid for is in nobody's books, and nothing is nothing.
                None if note.is_byok() || is_nothing => None,
                None if is_free => Some((StatementSort::Unvalued, NanoUsd::ZERO)),
                None if waits => Some((StatementSort::InSuspense, split.seller)),
                None => Some((StatementSort::Sold, split.seller)),
            };
            if let Some((sort, amount)) = sorted {
                self.put(sort, &sale, amount)?;
            }
        }
        Ok(())
    }

    fn put(&mut self, sort: StatementSort, sale: &Sale, amount: NanoUsd) -> Result<(), InvoiceError> {
        let line = (sort, sale.key.model.to_string(), sale.key.seller.to_string());
        if self.uses.len() == INVOICE_LINES_MAX && !self.uses.contains_key(&line) {
            return Err(InvoiceError::TooLong { what: "lines", max: INVOICE_LINES_MAX });
        }
        self.uses.entry(line).or_default().add(&ActivitySums { cost: amount, ..sale.sums });
        Ok(())
    }

    /// What is moved with the account on a sort's other side must be what its requests say.
    fn check(&self, section: (StatementSort, i128)) -> Result<(), InvoiceError> {
        let (sort, told) = section;
        let Some(other) = sort.counterpart() else { return Ok(()) };
        let moved = self.moved.get(&other).copied().unwrap_or_default();
        let posted = if sort == StatementSort::Used { moved.debits } else { moved.credits };
        if posted == told {
            return Ok(());
        }
        let [told, posted] = [told, posted].map(usd);
        let what = format!("in {} receipts say {told} USD, postings {posted} USD", self.of);
        Err(InvoiceError::Contradiction { account: self.account.to_owned(), what })
    }

    pub(super) fn finish(self, chart: &Chart) -> Result<AccountStatement, InvoiceError> {
        let kind = match chart.names.account(self.account) {
            Some(id) => chart.kind(id),
            None if self.has_answered => AccountKind::SellerPayable,
            None => return Err(InvoiceError::NoAccount(self.account.to_owned())),
        };
        let sorts: &[StatementSort] = match self.seller {
            Some(_) => &[
                StatementSort::Sold,
                StatementSort::Subsidised,
                StatementSort::InSuspense,
                StatementSort::GivenAway,
                StatementSort::Unvalued,
            ],
            None => &[StatementSort::Used],
        };
        let is_told = kind == AccountKind::Customer || self.seller.is_some();
        let mut sections = Vec::new();
        for sort in sorts.iter().filter(|_| is_told) {
            let of_sort = self.uses.iter().filter(|((of, ..), _)| of == sort);
            let sum = of_sort.clone().map(|(_, sums)| i128::from(sums.cost.0)).sum();
            self.check((*sort, sum))?;
            let lines = of_sort.map(|((_, model, seller), sums)| InvoiceLine {
                cost_usd: told(*sort, sums.cost.0.into()),
                ..InvoiceLine::of(self.of, model, seller, sums)
            });
            let lines: Vec<_> = lines.collect();
            if !lines.is_empty() {
                sections.push(StatementSection { sort: *sort, lines, usd: told(*sort, sum) });
            }
        }
        let [credits, debits] = self
            .moved
            .values()
            .fold([0, 0], |[credits, debits], moved| [credits + moved.credits, debits + moved.debits]);
        let movements = self.moved.iter().map(|(other, moved)| StatementMovements {
            counterpart: chart.names.name(*other),
            count: moved.count,
            in_usd: usd(moved.credits),
            out_usd: usd(moved.debits),
        });
        Ok(AccountStatement {
            account: self.account.to_owned(),
            kind: kind.name().to_owned(),
            period: self.of.to_string(),
            opening_usd: usd(self.opening),
            movements: movements.collect(),
            in_usd: usd(credits),
            out_usd: usd(debits),
            closing_usd: usd(self.opening + credits - debits),
            sections,
        })
    }
}

/// What is of no known value is not worth nothing.
fn told(sort: StatementSort, sum: i128) -> String {
    if sort == StatementSort::Unvalued { "unknown".to_owned() } else { usd(sum) }
}

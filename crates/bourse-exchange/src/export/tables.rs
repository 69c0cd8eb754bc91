//! The books as three Parquet files: transfers, accounts, receipts.

use super::sheet::{Cell, Column, Kind, Sheet};
use super::{ExportError, ExportTable};
use crate::open::OpenError;
use crate::postings::{Chart, Entry, Held, Period, Told, walk_all};
use bourse_ledger::{Account, Balance, Journal};
use bourse_types::{AccountId, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::GenerationNote;
use bourse_wire::receipt::Receipt;
use std::collections::BTreeMap;
use std::io::Write;

const TRANSFERS: [Column; 9] = [
    ("at", Kind::Moment, false),
    ("transfer", Kind::Text, false),
    ("request", Kind::Text, true),
    ("debit", Kind::Text, false),
    ("debit_kind", Kind::Text, false),
    ("credit", Kind::Text, false),
    ("credit_kind", Kind::Text, false),
    ("amount", Kind::Amount, false),
    ("unit", Kind::Text, false),
];
const ACCOUNTS: [Column; 10] = [
    ("id", Kind::Count, false),
    ("name", Kind::Text, false),
    ("kind", Kind::Text, false),
    ("balance_limit", Kind::Text, false),
    ("unit", Kind::Text, false),
    ("opened_at", Kind::Moment, false),
    ("debits_pending", Kind::Sum, false),
    ("debits_posted", Kind::Sum, false),
    ("credits_pending", Kind::Sum, false),
    ("credits_posted", Kind::Sum, false),
];
const RECEIPTS: [Column; 22] = [
    ("leaf", Kind::Count, false),
    ("request", Kind::Text, false),
    ("account_digest", Kind::Digest, false),
    ("key_digest", Kind::Digest, false),
    ("model", Kind::Text, false),
    ("seller", Kind::Text, true),
    ("finish", Kind::Text, false),
    ("is_streamed", Kind::Flag, false),
    ("is_byok", Kind::Flag, false),
    ("attempts", Kind::Count, false),
    ("prompt_tokens", Kind::Amount, false),
    ("cached_prompt_tokens", Kind::Amount, false),
    ("completion_tokens", Kind::Amount, false),
    ("units", Kind::Amount, false),
    ("charge", Kind::Amount, false),
    ("fee", Kind::Amount, false),
    ("byok_cost", Kind::Amount, true),
    ("request_hash", Kind::Digest, false),
    ("response_hash", Kind::Digest, false),
    ("created_at", Kind::Moment, false),
    ("settled_at", Kind::Moment, false),
    ("total_ms", Kind::Amount, false),
];

/// Writes one table of the books. Gives back its rows.
pub(super) fn write(
    journal: &dyn Journal,
    table: ExportTable,
    period: Period,
    rows_max: usize,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    match table {
        ExportTable::Transfers => transfers(journal, period, rows_max, out),
        ExportTable::Accounts => accounts(journal, period, rows_max, out),
        ExportTable::Receipts => receipts(journal, period, rows_max, out),
    }
}

fn transfers(
    journal: &dyn Journal,
    period: Period,
    rows_max: usize,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let mut sheet = Sheet::begin("transfers", &TRANSFERS, rows_max, out)?;
    let mut rows = 0;
    walk_all(journal, |chart, told| match told {
        Told::Entry(entry) if period.holds(entry.at) => {
            rows += entry.postings.len() as u64;
            entry.postings.iter().try_for_each(|posting| sheet.push(transfer(chart, entry, posting)))
        }
        _ => Ok::<_, ExportError>(()),
    })?;
    sheet.finish()?;
    Ok(rows)
}

fn transfer(chart: &Chart, entry: &Entry<'_>, posting: &crate::postings::Posting) -> Vec<Cell> {
    vec![
        Cell::Moment(entry.at),
        Cell::text(format_args!("{:032x}", posting.transfer.0)),
        entry.request.map_or(Cell::Empty, Cell::text),
        Cell::Text(chart.names.name(posting.debit)),
        Cell::text(chart.kind(posting.debit).name()),
        Cell::Text(chart.names.name(posting.credit)),
        Cell::text(chart.kind(posting.credit).name()),
        Cell::number(posting.amount.0),
        Cell::text(chart.unit(posting.debit)),
    ]
}

/// Accounts with what they had at the end of the period; its beginning does not matter.
fn accounts(
    journal: &dyn Journal,
    period: Period,
    rows_max: usize,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let mut known = Balances::new();
    let chart = walk_all(journal, |_, told| {
        let overflow = || ExportError::Sheet("a balance does not add up".to_owned());
        match told {
            Told::Opened { at, account } if !period.is_after(at) => {
                known.insert(account.id, (*account, at, Balance::default()));
            }
            Told::Held { at, held, .. } if !period.is_after(at) => {
                pend(&mut known, &held, u128::checked_add).ok_or_else(overflow)?;
            }
            Told::Freed { at, held, .. } if !period.is_after(at) => {
                pend(&mut known, &held, u128::checked_sub).ok_or_else(overflow)?;
            }
            Told::Entry(entry) if !period.is_after(entry.at) => {
                post(&mut known, entry).ok_or_else(overflow)?;
            }
            _ => {}
        }
        Ok::<_, ExportError>(())
    })?;
    let mut sheet = Sheet::begin("accounts", &ACCOUNTS, rows_max, out)?;
    for (account, opened_at, balance) in known.values() {
        sheet.push(vec![
            Cell::Count(account.id.0),
            Cell::Text(chart.names.name(account.id)),
            Cell::text(account.kind.name()),
            Cell::text(account.limit.name()),
            Cell::text(account.unit),
            Cell::Moment(*opened_at),
            Cell::Number(balance.debits_pending),
            Cell::Number(balance.debits_posted),
            Cell::Number(balance.credits_pending),
            Cell::Number(balance.credits_posted),
        ])?;
    }
    sheet.finish()?;
    Ok(known.len() as u64)
}

type Balances = BTreeMap<AccountId, (Account, UnixMs, Balance)>;

fn pend(known: &mut Balances, held: &Held, change: fn(u128, u128) -> Option<u128>) -> Option<()> {
    let amount = u128::from(held.amount.0);
    let (_, _, debit) = known.get_mut(&held.debit)?;
    debit.debits_pending = change(debit.debits_pending, amount)?;
    let (_, _, credit) = known.get_mut(&held.credit)?;
    credit.credits_pending = change(credit.credits_pending, amount)?;
    Some(())
}

fn post(known: &mut Balances, entry: &Entry<'_>) -> Option<()> {
    for posting in entry.postings {
        let amount = u128::from(posting.amount.0);
        let (_, _, debit) = known.get_mut(&posting.debit)?;
        debit.debits_posted = debit.debits_posted.checked_add(amount)?;
        let (_, _, credit) = known.get_mut(&posting.credit)?;
        credit.credits_posted = credit.credits_posted.checked_add(amount)?;
    }
    Some(())
}

fn receipts(
    journal: &dyn Journal,
    period: Period,
    rows_max: usize,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let mut sheet = Sheet::begin("receipts", &RECEIPTS, rows_max, out)?;
    let (mut leaf, mut rows) = (0, 0);
    walk_all(journal, |_, told| {
        let Told::Receipt { at, receipt, note } = told else { return Ok(()) };
        leaf += 1;
        if !period.holds(at) {
            return Ok(());
        }
        rows += 1;
        let unreadable = |error: CanonicalError| OpenError::Replay {
            last_good: 0,
            what: format!("receipt {} cannot be read: {error}", leaf - 1),
        };
        sheet.push(receipt_row(leaf - 1, at, receipt, note).map_err(unreadable)?)
    })?;
    sheet.finish()?;
    Ok(rows)
}

fn receipt_row(leaf: u64, at: UnixMs, receipt: &[u8], note: &[u8]) -> Result<Vec<Cell>, CanonicalError> {
    let (receipt, note) = (Receipt::from_canonical_bytes(receipt)?, GenerationNote::read(note)?);
    let usage = &receipt.usage_billed;
    Ok(vec![
        Cell::Count(leaf),
        Cell::text(receipt.request),
        Cell::Digest(receipt.account_digest.0),
        Cell::Digest(receipt.key_digest.0),
        Cell::text(&receipt.model),
        receipt.seller.as_ref().map_or(Cell::Empty, Cell::text),
        Cell::text(receipt.finish.as_str()),
        Cell::Flag(receipt.streamed),
        Cell::Flag(note.is_byok()),
        Cell::Count(receipt.attempts.len() as u64),
        Cell::number(usage.prompt.0),
        Cell::number(usage.cached_prompt.0),
        Cell::number(usage.completion.0),
        Cell::number(usage.units),
        Cell::number(receipt.charge.total.0),
        Cell::number(receipt.fee.0),
        note.byok_cost.map_or(Cell::Empty, |cost| Cell::number(cost.0)),
        Cell::Digest(receipt.request_hash.0),
        Cell::Digest(receipt.response_hash.0),
        Cell::Moment(receipt.created),
        Cell::Moment(at),
        Cell::number(receipt.total_ms),
    ])
}

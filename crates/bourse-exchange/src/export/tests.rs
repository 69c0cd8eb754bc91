//! Parquet files, read back with the same library; `tests/sdk/python/with_duckdb.py` reads them with another.

use super::*;
use crate::Exchange;
use crate::tests::invoice as seeded;
use parquet::data_type::AsBytes as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

const ROWS_MAX: usize = 50;

/// The file's rows, how many groups of rows it has, and what its writer counted.
fn read(exchange: &Exchange, table: ExportTable, period: Period) -> (Vec<Row>, usize, u64) {
    let mut file = tempfile::tempfile().unwrap();
    let index = exchange.shared.index.lock();
    let counted =
        index.with_journal(|journal| tables::write(journal, table, period, ROWS_MAX, &mut file)).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let groups = reader.metadata().row_groups();
    assert!(groups.iter().all(|group| group.num_rows() <= ROWS_MAX as i64));
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    (rows, reader.num_row_groups(), counted)
}

fn cell<'r>(row: &'r Row, name: &str) -> &'r Field {
    row.get_column_iter().find(|(column, _)| *column == name).unwrap().1
}

fn number(row: &Row, name: &str) -> u128 {
    let Field::Decimal(decimal) = cell(row, name) else { panic!("{name} of {row}") };
    assert_eq!(decimal.scale(), 0);
    decimal.data().as_bytes().iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}

fn word(row: &Row, name: &str) -> String {
    match cell(row, name) {
        Field::Str(text) => text.clone(),
        Field::Null => String::new(),
        other => panic!("{name} is {other}"),
    }
}

#[test]
fn accounts_in_columns_have_the_books_sums() {
    let exchange = seeded::month();
    let (rows, groups, counted) = read(&exchange, ExportTable::Accounts, Period::EVER);
    assert_eq!((rows.len() as u64, groups), (counted, rows.len().div_ceil(ROWS_MAX)));
    let core = exchange.shared.core.lock();
    let told: Vec<_> = core
        .state
        .accounts()
        .map(|(account, b)| {
            let sums = [b.debits_pending, b.debits_posted, b.credits_pending, b.credits_posted];
            (core.names.name(account.id), account.kind.name().to_owned(), sums)
        })
        .collect();
    let columns = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"];
    let read: Vec<_> = rows
        .iter()
        .map(|row| (word(row, "name"), word(row, "kind"), columns.map(|column| number(row, column))))
        .collect();
    assert_eq!(read, told);
}

#[test]
fn transfers_and_receipts_in_columns_add_up_to_the_invoice() {
    let exchange = seeded::month();
    let period = Period { from: Some(seeded::at(seeded::FROM)), until: Some(seeded::at(seeded::UNTIL)) };
    let index = exchange.shared.index.lock();
    let invoice = index.with_journal(|journal| crate::invoice::invoice_of(journal, "alice", period)).unwrap();
    drop(index);
    let nano = |usd: &str| u128::try_from(seeded::nano(usd)).unwrap();

    let (rows, groups, counted) = read(&exchange, ExportTable::Transfers, period);
    assert!(groups > 1 && rows.len() as u64 == counted, "{groups}");
    let sum = |column: &str| -> u128 {
        rows.iter().filter(|row| word(row, column) == "alice").map(|row| number(row, "amount")).sum()
    };
    assert_eq!((sum("debit"), sum("credit")), (nano(&invoice.spent_usd), nano(&invoice.credited_usd)));
    assert!(rows.iter().any(|row| word(row, "request").is_empty()), "a credit is of no request");

    let account = exchange.account("alice").unwrap();
    let digest = bourse_wire::receipt::Receipt::digest_of_account(account).0;
    let (receipts, _, _) = read(&exchange, ExportTable::Receipts, period);
    let own =
        |row: &&Row| matches!(cell(row, "account_digest"), Field::Bytes(bytes) if bytes.data() == digest);
    let charged: u128 = receipts.iter().filter(own).map(|row| number(row, "charge")).sum();
    assert_eq!(charged, nano(&invoice.spent_usd));
    let moment = |row: &Row| match cell(row, "settled_at") {
        Field::TimestampMillis(ms) => UnixMs(u64::try_from(*ms).unwrap()),
        other => panic!("{other}"),
    };
    assert!(receipts.iter().all(|row| period.holds(moment(row))));
    let all = read(&exchange, ExportTable::Receipts, Period::EVER).2;
    assert_eq!(all, exchange.shared.core.lock().log.size());
}

#[test]
fn accounts_of_an_earlier_moment_have_what_they_had() {
    let exchange = seeded::month();
    let until = Period { from: None, until: Some(seeded::at(seeded::UNTIL)) };
    let (rows, _, _) = read(&exchange, ExportTable::Accounts, until);
    let index = exchange.shared.index.lock();
    let invoice = index.with_journal(|journal| crate::invoice::invoice_of(journal, "alice", until)).unwrap();
    let alice = rows.iter().find(|row| word(row, "name") == "alice").unwrap();
    let balance = number(alice, "credits_posted") - number(alice, "debits_posted");
    assert_eq!(usd_of(balance), invoice.closing_usd);
}

fn usd_of(nano: u128) -> String {
    crate::books::usd(i128::try_from(nano).unwrap())
}

#[test]
fn numbers_of_thirty_eight_digits_are_held_and_longer_ones_refused() {
    use sheet::{Cell, Column, Kind, Sheet};
    const COLUMNS: [Column; 2] = [("sum", Kind::Sum, false), ("amount", Kind::Amount, true)];
    let write = |sum: u128, amount: Cell| {
        let mut file = tempfile::tempfile().unwrap();
        let mut sheet = Sheet::begin("t", &COLUMNS, ROWS_MAX, &mut file)?;
        sheet.push(vec![Cell::Number(sum), amount])?;
        sheet.finish()?;
        let reader = SerializedFileReader::new(file).unwrap();
        let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
        Ok::<_, ExportError>((number(&row, "sum"), matches!(cell(&row, "amount"), Field::Null)))
    };
    let most = 10u128.pow(38) - 1;
    assert_eq!(write(most, Cell::Empty).unwrap(), (most, true));
    assert_eq!(write(0, Cell::number(u64::MAX)).unwrap(), (0, false));
    let refused = write(most + 1, Cell::Empty).unwrap_err().to_string();
    assert!(refused.contains("the column sum cannot hold"), "{refused}");
}

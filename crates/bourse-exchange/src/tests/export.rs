//! The books for other programs, byte for byte, and statements of a part of the time.

use super::support::{START, request, serve};
use super::*;
use crate::{ExportFormat, OpenError, Period, STATEMENT_LINES_MAX, StatementPage, export, statement};
use bourse_types::{DurationMs, TransferId};

/// Two requests, an hour apart, by a key with a limit.
fn market_with_two_requests(dir: &Path) -> Exchange {
    let exchange = market_in(dir, 10_000);
    let grant = key(&exchange, Some(9_000));
    serve(&exchange, 1, grant, START).unwrap();
    serve(&exchange, 2, grant, START.plus(HOUR)).unwrap();
    exchange.flush().unwrap();
    exchange
}

const HOUR: DurationMs = DurationMs(3_600_000);

fn written(dir: &Path, format: ExportFormat, period: Period) -> (u64, String) {
    let mut out = Vec::new();
    let movements = export(dir, format, period, &mut out).unwrap();
    (movements, String::from_utf8(out).unwrap())
}

#[test]
fn rows_tell_every_movement() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_with_two_requests(dir.path());
    let (movements, text) = written(dir.path(), ExportFormat::Csv, Period::EVER);
    let rows: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(rows[0], "at,at_ms,transfer,request,debit,debit_kind,credit,credit_kind,amount,unit");
    assert_eq!(rows.len() as u64, movements + 1);
    let id = request(2, START.plus(HOUR)).to_string();
    let of_second: Vec<String> = rows
        .iter()
        .filter(|row| row.contains(&id))
        .map(|row| row.split(',').skip(4).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        of_second,
        [
            "operator customer clearing clearing 1234 nano-USD",
            "allowance:1 allowance allowances control 1234 nano-USD",
            "clearing clearing seller:local seller_payable 1183 nano-USD",
            "clearing clearing fee fee 49 nano-USD",
            "clearing clearing rounding rounding 2 nano-USD",
        ]
        .map(|row| row.replace("allowance:1", of_second[1].split(' ').next().unwrap()))
    );
    let (same, lines) = written(dir.path(), ExportFormat::Json, Period::EVER);
    let json: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((same, json.len() as u64), (movements, movements));
    assert_eq!(json.last().unwrap()["request"], id);
    assert_eq!(json.last().unwrap()["amount"], "2");
    drop(exchange);
}

#[test]
fn accountants_read_entries_that_balance() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_with_two_requests(dir.path());
    let (_, text) = written(dir.path(), ExportFormat::Ledger, Period::EVER);
    let day = &START.to_iso_string()[..10];
    let (first, second) = (request(1, START), request(2, START.plus(HOUR)));
    let entry = |id: &dyn std::fmt::Display| {
        format!(
            "\n{day} * ({id}) request
  Liabilities:Customers:operator  0.000001234 USD
  Liabilities:Clearing:clearing  -0.000001234 USD
  Liabilities:Clearing:clearing  0.000001183 USD
  Liabilities:Sellers:seller/local  -0.000001183 USD
  Liabilities:Clearing:clearing  0.000000049 USD
  Income:Fees:fee  -0.000000049 USD
  Liabilities:Clearing:clearing  0.000000002 USD
  Income:Rounding:rounding  -0.000000002 USD\n"
        )
    };
    assert!(text.ends_with(&(entry(&first) + &entry(&second))), "{text}");
    assert!(!text.contains("allowance"), "limits are no money: {text}");

    // From the second request on: what was there before is found, and each entry balances.
    let late = Period { from: Some(START.plus(HOUR)), until: None };
    let (movements, text) = written(dir.path(), ExportFormat::Beancount, late);
    assert_eq!(movements, 5);
    let found = format!(
        "\n{day} * \"balances found\"
  Expenses:Subsidy:Subsidy-1  0.000010000 USD
  Income:Fees:Fee-2  -0.000000049 USD
  Income:Rounding:Rounding-3  -0.000000002 USD
  Liabilities:Customers:Operator-6  -0.000008766 USD
  Liabilities:Sellers:Seller-local-"
    );
    assert!(text.contains(&found), "{text}");
    assert!(
        text.contains(&format!("{day} open Liabilities:Customers:Operator-6 USD\n  name: \"operator\"")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{day} * \"request\" \"{second}\"")) && !text.contains(&first.to_string())
    );
    // Nothing in the period: the balances alone.
    let future = Period { from: Some(START.plus(HOUR).plus(HOUR)), until: None };
    let (movements, text) = written(dir.path(), ExportFormat::Ledger, future);
    assert!(movements == 0 && text.contains("balances found"), "{text}");
    drop(exchange);
}

/// Names that others choose are names to whatever program reads them.
#[test]
fn no_name_of_a_buyer_is_a_formula_an_amount_or_a_comment() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 10_000);
    let credit = |name: &str| {
        let label = "of a buyer".to_owned();
        let key = NewKey { label, account: Some(name.to_owned()), ..NewKey::default() };
        exchange.admin(AdminRequest::CreateKey(key), START).unwrap();
        let (account, amount_usd) = (name.to_owned(), "2".to_owned());
        let credit = AdminRequest::Credit { account, amount_usd, idempotency_key: None };
        exchange.admin(credit, START).unwrap();
        exchange.account(name).unwrap().0
    };
    credit("=HYPERLINK(A1)");
    credit("acme");
    let [spaced, noted, tidy] = ["acme  9 EUR", "acme ; 9", "acme 9"].map(credit);
    exchange.flush().unwrap();
    let (_, rows) = written(dir.path(), ExportFormat::Csv, Period::EVER);
    assert!(rows.contains(",'=HYPERLINK(A1),") && !rows.contains(",=HYPERLINK"), "{rows}");
    let (_, text) = written(dir.path(), ExportFormat::Ledger, Period::EVER);
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  Liabilities:Customers:acme")?.split_once("  "))
        .map(|(rest, amount)| {
            assert!(amount.ends_with("2.000000000 USD"), "{text}");
            rest
        })
        .collect();
    let want = [String::new(), format!(" 9 EUR-{spaced}"), format!(" 9-{noted}"), " 9".to_owned()];
    assert_eq!(names, want, "{tidy} keeps its name: {text}");
    drop(exchange);
}

#[test]
fn a_statement_may_be_of_a_part_of_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_with_two_requests(dir.path());
    let lines = |from: Option<DurationMs>, until: Option<DurationMs>| {
        let period = Period { from: from.map(|at| START.plus(at)), until: until.map(|at| START.plus(at)) };
        let lines = statement(dir.path(), "operator", period, 9).unwrap().unwrap();
        lines.iter().map(|line| format!("{} {}", line.amount_usd, line.balance_usd)).collect::<Vec<_>>()
    };
    let (credit, one, two) =
        ("0.000010000 0.000010000", "-0.000001234 0.000008766", "-0.000001234 0.000007532");
    assert_eq!(lines(None, None), [credit, one, two]);
    assert_eq!(lines(Some(DurationMs(1)), None), [two], "the balance counts what came before");
    assert_eq!(lines(None, Some(HOUR)), [credit, one], "the end is not part of it");
    assert_eq!(lines(Some(HOUR), Some(DurationMs(HOUR.0 + 1))), [two]);
    assert_eq!(lines(Some(HOUR), Some(HOUR)), [""; 0]);
    drop(exchange);
}

/// Pages, each before the first line of the one behind, are the whole and no line twice.
#[test]
fn a_long_statement_is_read_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 50_000);
    let grant = key(&exchange, None);
    for n in 1..=7 {
        serve(&exchange, n, grant, START.plus(DurationMs(n))).unwrap();
    }
    exchange.flush().unwrap();
    let page = |lines_max: usize, before: Option<TransferId>, period: Period| {
        statement(dir.path(), "operator", period, StatementPage { lines_max, before })
    };
    let all = page(STATEMENT_LINES_MAX + 1, None, Period::EVER).unwrap().unwrap();
    assert_eq!(all.len(), 8, "a credit and seven requests");
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let lines = page(3, before, Period::EVER).unwrap().unwrap();
        let Some(first) = lines.first() else { break };
        before = Some(TransferId(u128::from_str_radix(&first.transfer, 16).unwrap()));
        pages.splice(0..0, lines);
    }
    assert_eq!(pages, all);
    let later = Period { from: Some(START.plus(DurationMs(6))), until: None };
    assert_eq!(page(9, before, Period::EVER).unwrap().unwrap(), []);
    let refused = page(9, before, later).unwrap_err();
    assert!(matches!(refused, OpenError::NoMovement { .. }), "{refused}: it is before that time");
    drop(exchange);
}

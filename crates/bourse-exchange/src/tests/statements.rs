//! Statements of a day or a month: balance before, movements and requests, balance after.

use super::figures::{settle, two_days};
use super::invoice::{FROM, UNTIL, at, buyer, credit, invoice, month, nano};
use super::payouts::Shop;
use super::support::{START, charge, inflated};
use crate::Exchange;
use crate::books::usd;
use crate::invoice::InvoiceError;
use crate::names::{CLEARING, SUBSIDY};
use crate::postings::Period;
use crate::statements::{
    AccountStatement, DayOrMonth, MarketStatement, StatementSort, account_statement_of, market_statement_of,
};
use bourse_types::{AccountId, NanoUsd, SellerName, TransferId, UtcDay};
use bourse_wire::funds::Settlement;

fn told(exchange: &Exchange, account: &str, of: DayOrMonth) -> Result<AccountStatement, InvoiceError> {
    exchange.flush().unwrap();
    exchange.shared.index.lock().with_journal(|journal| account_statement_of(journal, account, of))
}

fn statement(exchange: &Exchange, account: &str, day: UtcDay) -> Result<AccountStatement, InvoiceError> {
    told(exchange, account, DayOrMonth::Day(day))
}

fn market_of(exchange: &Exchange, of: DayOrMonth) -> Result<MarketStatement, InvoiceError> {
    exchange.flush().unwrap();
    exchange.shared.index.lock().with_journal(|journal| market_statement_of(journal, of))
}

fn market(exchange: &Exchange, day: UtcDay) -> Result<MarketStatement, InvoiceError> {
    market_of(exchange, DayOrMonth::Day(day))
}

fn day(text: &str) -> UtcDay {
    UtcDay::parse(text).unwrap()
}

#[test]
fn a_day_is_told_to_customer_seller_and_market() {
    let exchange = two_days();
    let mut told = Vec::new();
    for (account, on) in [
        ("alice", "2083-02-01"),
        ("seller:oak", "2083-02-01"),
        ("seller:oak", "2083-02-02"),
        ("seller:local", "2083-02-01"),
        ("suspense", "2083-02-02"),
    ] {
        told.push(statement(&exchange, account, day(on)).unwrap().text().join("\n"));
    }
    for on in ["2083-02-01", "2083-02-02"] {
        told.push(market(&exchange, day(on)).unwrap().text().join("\n"));
    }
    assert_eq!(told.join("\n\n"), include_str!("statements.txt").trim_end());
}

#[test]
fn rows_and_pages_say_the_same() {
    let exchange = two_days();
    let oak = statement(&exchange, "seller:oak", day("2083-02-01")).unwrap();
    let want = "what,with,count,in_usd,out_usd,model,seller,requests,prompt_tokens,completion_tokens,usd\r\n\
        balance before,,,,,,,,,,0.000000000\r\n\
        moved,subsidy,1,0.000000300,0.000000000,,,,,,\r\n\
        balance after,,,,,,,,,,0.000000300\r\n\
        subsidised,,,,,huggingfacetb/smollm2-135m-instruct,oak,1,9,3,0.000000300\r\n\
        in suspense,,,,,a/large,oak,1,9,3,0.000000240\r\n";
    assert_eq!(oak.csv(), want);
    let market = market(&exchange, day("2083-02-01")).unwrap();
    let csv = market.csv();
    assert!(csv.starts_with(
        "period,kind,accounts,opening_usd,in_usd,out_usd,closing_usd\r\n2083-02-01,customer,1,"
    ));
    for (pdf, text) in [(oak.pdf(), oak.text()), (market.pdf(), market.text())] {
        let pdf = String::from_utf8_lossy(&pdf).into_owned();
        assert!(text.iter().all(|line| line.chars().count() <= crate::paper::LINE_CHARS), "{text:?}");
        let shown = |line: &String| pdf.contains(line.as_str());
        assert!(text.iter().all(shown), "{text:?}");
    }
    let json = serde_json::to_value(&oak).unwrap();
    assert_eq!(json["sections"][0]["sort"], "subsidised");
    assert!(!json.to_string().contains("alice"), "a seller's statement names no buyer");
}

#[test]
fn the_days_of_a_month_are_the_month() {
    let exchange = month();
    let days = || (0..28).map(|n| day(FROM).plus(n));
    let period = Period { from: Some(at(FROM)), until: Some(at(UNTIL)) };
    for name in ["alice", "bob"] {
        let invoice = invoice(&exchange, name, period).unwrap();
        let mut balance = invoice.opening_usd.clone();
        let (mut lines, mut credited, mut spent) = (Vec::new(), 0, 0);
        for day in days() {
            let told = statement(&exchange, name, day).unwrap();
            assert_eq!(told.opening_usd, balance, "{name} on {day}");
            balance = told.closing_usd;
            credited += nano(&told.in_usd);
            spent += nano(&told.out_usd);
            lines.extend(told.sections.into_iter().flat_map(|section| section.lines));
        }
        assert_eq!((lines, &balance), (invoice.usage, &invoice.closing_usd), "{name}");
        assert_eq!([usd(credited), usd(spent)], [invoice.credited_usd, invoice.spent_usd]);
    }
    let (mut sold, mut before) = ([0, 0], None::<Vec<(String, String)>>);
    for day in days() {
        let market = market(&exchange, day).unwrap();
        let of = |kind: &str| market.kinds.iter().find(|line| line.kind == kind);
        sold[0] += of("seller_payable").map_or(0, |line| nano(&line.in_usd));
        for seller in ["maple", "oak", "elm"] {
            let told = statement(&exchange, &format!("seller:{seller}"), day).unwrap();
            let sections = told.sections.iter().filter(|section| section.sort == StatementSort::Sold);
            sold[1] += sections.map(|section| nano(&section.usd)).sum::<i128>();
        }
        let side = |amount: fn(&crate::KindLine) -> &String| {
            market.kinds.iter().map(|line| (line.kind.clone(), amount(line).clone())).collect::<Vec<_>>()
        };
        if let Some(before) = before {
            assert_eq!(before, side(|line| &line.opening_usd), "what {day} begins with");
        }
        before = Some(side(|line| &line.closing_usd));
    }
    assert!(sold[0] > 0 && sold[0] == sold[1], "{sold:?}");
}

/// What its days say one by one, in one sum: for a seller that was paid out, too, whose month no invoice tells.
#[test]
fn a_month_is_the_sum_of_its_days() {
    let shop = Shop::with_sales(20);
    assert_eq!(shop.run()[0].state, "paid");
    let exchange = &shop.exchange;
    let first = UtcDay::of(START).month_start();
    let days = || (0..31).map(|n| first.plus(n)).filter(|day| day.month_start() == first);
    let of = DayOrMonth::Month(UtcDay::of(START));
    assert_eq!(
        of.period(),
        Period {
            from: days().next().map(UtcDay::start),
            until: days().next_back().map(|day| day.plus(1).start())
        }
    );
    for account in ["operator", "seller:local", "escrow"] {
        let month = told(exchange, account, of).unwrap();
        let days: Vec<_> = days().map(|day| statement(exchange, account, day).unwrap()).collect();
        let sum = |of: fn(&AccountStatement) -> &String| usd(days.iter().map(|day| nano(of(day))).sum());
        assert_eq!(
            [sum(|day| &day.in_usd), sum(|day| &day.out_usd)],
            [month.in_usd.clone(), month.out_usd.clone()]
        );
        assert_eq!(
            (&days[0].opening_usd, &days[days.len() - 1].closing_usd),
            (&month.opening_usd, &month.closing_usd)
        );
        let requests = |told: &AccountStatement| -> u64 {
            told.sections.iter().flat_map(|section| &section.lines).map(|line| line.requests).sum()
        };
        assert_eq!(days.iter().map(requests).sum::<u64>(), requests(&month), "{account}");
        assert!(month.period == first.to_string()[..7] && nano(&month.out_usd) > 0, "{month:?}");
    }
    let whole = market_of(exchange, of).unwrap();
    let paid = whole.kinds.iter().find(|line| line.kind == "seller_payable").map(|line| line.out_usd.clone());
    assert_eq!(paid, Some(told(exchange, "seller:local", of).unwrap().out_usd));
}

#[test]
fn an_invoice_is_a_customers() {
    let exchange = two_days();
    for account in ["seller:oak", "subsidy", "clearing"] {
        let refused = invoice(&exchange, account, Period::EVER);
        assert!(matches!(refused, Err(InvoiceError::NoCustomer(_))), "{account}: {refused:?}");
    }
}

/// A seller's account is opened when it is owed something for the first time; what it sold before is told all the same.
#[test]
fn a_seller_is_told_what_it_sold_before_it_was_owed_anything() {
    let exchange = two_days();
    let sorts = |told: AccountStatement| told.sections.into_iter().map(|section| (section.sort, section.usd));
    let on =
        |account: &str, on: &str| statement(&exchange, account, day(on)).map(|told| sorts(told).collect());
    // Neither was ever owed anything: what maple sold its buyer paid to it, the rest was free.
    let given: Vec<_> = on("seller:maple", "2083-02-01").unwrap();
    assert_eq!(given, [(StatementSort::GivenAway, "0.000000250".to_owned())]);
    let free: Vec<_> = on("seller:elm", "2083-02-01").unwrap();
    assert_eq!(free.len(), 1);
    assert_eq!(free[0].0, StatementSort::Unvalued);
    let later: Vec<_> = on("seller:elm", "2083-02-02").unwrap();
    assert_eq!(later, []);
    for nobody in ["seller:nobody", "elm"] {
        assert!(matches!(on(nobody, "2083-02-01"), Err(InvoiceError::NoAccount(_))), "{nobody}");
    }
}

#[test]
fn what_waits_is_told_before_the_seller_has_an_account() {
    let exchange = super::market(0);
    let alice = buyer(&exchange, "alice");
    credit(&exchange, "alice", 50_000, at("2083-02-01"));
    let cheats = |s: &mut Settlement| {
        *s = inflated(s.receipt.request, alice, 251, s.now);
        s.receipt.seller = SellerName::parse("oak").ok();
    };
    settle(&exchange, 1, alice, "oak", cheats);
    let sorts = || {
        let told = statement(&exchange, "seller:oak", day("2083-02-01")).unwrap();
        told.sections.into_iter().map(|section| section.sort).collect::<Vec<_>>()
    };
    assert_eq!(sorts(), [StatementSort::InSuspense]);
    settle(&exchange, 2, alice, "oak", |s| s.receipt.charge = charge(100));
    assert_eq!(sorts(), [StatementSort::Sold, StatementSort::InSuspense]);
}

#[test]
fn a_movement_that_nothing_explains_makes_no_statement() {
    let exchange = two_days();
    let oak = exchange.account("seller:oak").unwrap();
    let strange = |debit: AccountId, credit, id| {
        exchange.shared.core.lock().move_between(debit, credit, NanoUsd(1), TransferId(id)).unwrap();
    };
    strange(SUBSIDY, oak, 1 << 70);
    let error = statement(&exchange, "seller:oak", day("2083-02-02")).unwrap_err().to_string();
    let want = "the books of `seller:oak` do not add up: in 2083-02-02 receipts say 0.000000000 USD, postings 0.000000001 USD";
    assert_eq!(error, want);
    strange(exchange.account("alice").unwrap(), CLEARING, 2 << 70);
    assert!(statement(&exchange, "alice", day("2083-02-02")).is_err());
    assert!(matches!(statement(&exchange, "nobody", UtcDay::of(START)), Err(InvoiceError::NoAccount(_))));
}

//! One case per rule of the funds port.

use super::support::{START, extension, hold, request, settlement};
use super::{ask, books, check_clean, key, market};
use crate::{Exchange, ExchangeConfig};
use bourse_ledger::Limits;
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{Funds, FundsError, HOLD_EXTENSIONS_MAX, KeyGrant};

/// `hold AMOUNT`, `extend STEP AMOUNT`, `settle TOTAL`, `tick MS`: all of request 1. Gives one word per
/// line, then the books.
fn check(credit: u64, limit: Option<u64>, script: &str, want: &str, want_books: &str) {
    let exchange = market(credit);
    let grant = key(&exchange, limit);
    let words: Vec<_> = script.lines().map(|line| step(&exchange, grant, line.trim())).collect();
    assert_eq!(words.join(" "), want, "{script}");
    assert_eq!(books(&exchange), want_books, "{script}");
    check_clean(&exchange);
}

fn step(exchange: &Exchange, grant: KeyGrant, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let n = |i: usize| words[i].parse::<u64>().unwrap();
    let id = request(1, START);
    let result = match words[0] {
        "hold" => exchange.hold(&hold(id, grant, n(1), START)),
        "extend" => exchange.extend(&extension(id, n(1) as u16, n(2), START)),
        "settle" => exchange.settle(settlement(id, grant, n(1), START)).map(|settled| {
            assert_eq!(settled.cost, NanoUsd(n(1)));
        }),
        _ => exchange.tick(UnixMs(START.0 + n(1))).map(drop),
    };
    match result {
        Ok(()) => "ok".to_owned(),
        Err(FundsError::InsufficientFunds { available, .. }) => format!("poor:{}", available.0),
        Err(FundsError::OverBudget { budget, .. }) => format!("limit:{}", budget.left.0),
        Err(FundsError::ExceedsHold { held, .. }) => format!("exceeds:{}", held.0),
        Err(FundsError::NoHold) => "nohold".to_owned(),
        Err(FundsError::Conflict) => "conflict".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

#[test]
fn a_request_holds_settles_and_gives_the_rest_back() {
    check(1_000, None, "hold 600", "ok", "subsidy -1000, operator 1000-600");
    let want = "subsidy -1000, fee 9, rounding 2, clearing 0, operator 749, seller 240";
    check(1_000, None, "hold 600\n settle 251", "ok ok", want);
    check(1_000, None, "hold 600\n settle 0", "ok ok", "subsidy -1000, operator 1000");
    check(1_000, None, "hold 600\n settle 1", "ok ok", "subsidy -1000, rounding 1, clearing 0, operator 999");
}

#[test]
fn a_hold_never_exceeds_what_is_there() {
    check(1_000, None, "hold 1001", "poor:1000", "subsidy -1000, operator 1000");
    check(1_000, None, "hold 1000", "ok", "subsidy -1000, operator 1000-1000");
    check(0, None, "hold 1\n settle 0", "poor:0 nohold", "");
    check(0, None, "hold 0\n settle 0", "ok ok", "");
}

#[test]
fn a_charge_never_exceeds_its_hold() {
    let held = "subsidy -1000, operator 1000-600";
    check(1_000, None, "hold 600\n settle 601", "ok exceeds:600", held);
    let spent = "subsidy -1000, fee 23, rounding 2, clearing 0, operator 400, seller 575";
    check(1_000, None, "hold 600\n settle 600", "ok ok", spent);
}

#[test]
fn repeating_a_call_repeats_its_outcome() {
    let spent = "subsidy -1000, fee 3, rounding 2, clearing 0, operator 900, seller 95";
    let script = "hold 600\n hold 600\n settle 100\n settle 100\n hold 600";
    check(1_000, None, script, "ok ok ok ok nohold", spent);
    check(1_000, None, "hold 600\n hold 601", "ok conflict", "subsidy -1000, operator 1000-600");
    check(1_000, None, "hold 600\n settle 100\n settle 101", "ok ok conflict", spent);
    check(1_000, None, "settle 0\n extend 1 5", "nohold nohold", "subsidy -1000, operator 1000");
}

#[test]
fn a_limited_key_repeats_too() {
    let spent = "subsidy -1000, fee 3, rounding 2, clearing 0, allowances -600, operator 900, \
                 allowance 600, seller 95";
    let script = "hold 600\n hold 600\n settle 100\n settle 100";
    check(1_000, Some(700), script, "ok ok ok ok", spent);
}

#[test]
fn a_hold_is_extended_step_by_step() {
    let script = "hold 100\n extend 1 50\n extend 1 50\n extend 2 50";
    check(1_000, None, script, "ok ok ok ok", "subsidy -1000, operator 1000-200");
    check(1_000, None, "hold 100\n extend 2 50", "ok conflict", "subsidy -1000, operator 1000-100");
    check(1_000, None, "hold 100\n extend 0 50", "ok conflict", "subsidy -1000, operator 1000-100");
    check(1_000, None, "hold 100\n extend 1 901", "ok poor:900", "subsidy -1000, operator 1000-100");
    check(1_000, None, "hold 100\n extend 1 900", "ok ok", "subsidy -1000, operator 1000-1000");
    let retried = "hold 100\n extend 1 901\n extend 1 1";
    check(1_000, None, retried, "ok poor:900 ok", "subsidy -1000, operator 1000-101");
}

#[test]
fn a_key_limit_holds_at_the_limit_and_one_past_it() {
    let open = "subsidy -1000, allowances -300, operator 1000-300, allowance 300-300";
    check(1_000, Some(300), "hold 300", "ok", open);
    let none = "subsidy -1000, allowances -300, operator 1000, allowance 300";
    check(1_000, Some(300), "hold 301", "limit:300", none);
    check(1_000, Some(300), "hold 200\n extend 1 101\n settle 0", "ok limit:100 ok", none);
    check(1_000, Some(300), "hold 200\n extend 1 100\n settle 0", "ok ok ok", none);
}

#[test]
fn an_abandoned_hold_gives_itself_back() {
    let free = "subsidy -1000, operator 1000";
    check(1_000, None, "hold 600\n tick 59999\n settle 0", "ok ok ok", free);
    check(1_000, None, "hold 600\n tick 60000\n settle 0", "ok ok nohold", free);
    let limited = "subsidy -1000, allowances -700, operator 1000, allowance 700";
    check(1_000, Some(700), "hold 600\n tick 60000\n hold 600", "ok ok nohold", limited);
}

#[test]
fn keys_that_are_unknown_revoked_or_of_another_account_do_nothing() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    let unknown = KeyHash([9; 32]);
    assert_eq!(exchange.authenticate(&unknown, START), Err(FundsError::UnknownKey));
    let ask_hold = |grant| exchange.hold(&hold(request(1, START), grant, 1, START));
    assert_eq!(ask_hold(KeyGrant { key: unknown, ..grant }), Err(FundsError::UnknownKey));
    assert_eq!(ask_hold(KeyGrant { account: crate::FEE, ..grant }), Err(FundsError::Conflict));
    exchange.hold(&hold(request(2, START), grant, 5, START)).unwrap();
    ask(&exchange, r#"{"op":"revoke_key","key":"test"}"#);
    assert_eq!(exchange.authenticate(&grant.key, START), Err(FundsError::RevokedKey));
    assert_eq!(ask_hold(grant), Err(FundsError::RevokedKey));
    assert!(
        exchange.settle(settlement(request(2, START), grant, 5, START)).is_ok(),
        "what is held is settled"
    );
    check_clean(&exchange);
}

#[test]
fn a_receipt_must_be_whole_and_of_the_same_buyer() {
    let exchange = market(1_000);
    let (grant, other) = (key(&exchange, None), key(&exchange, None));
    let id = request(1, START);
    exchange.hold(&hold(id, grant, 100, START)).unwrap();
    let with = |change: fn(&mut bourse_wire::receipt::Receipt)| {
        let mut settlement = settlement(id, grant, 50, START);
        change(&mut settlement.receipt);
        exchange.settle(settlement)
    };
    assert_eq!(with(|r| r.charge.prompt = NanoUsd(1)), Err(FundsError::Conflict), "parts must sum");
    assert_eq!(with(|r| r.charge.rounding = NanoUsd(51)), Err(FundsError::Conflict));
    assert_eq!(with(|r| r.seller = None), Err(FundsError::Conflict), "a charge needs a seller");
    assert_eq!(exchange.settle(settlement(id, other, 50, START)), Err(FundsError::Conflict), "another key");
    assert!(with(|_| ()).is_ok());
    check_clean(&exchange);
}

#[test]
fn bounds_are_named_and_kept() {
    let limits = Limits { pendings_max: 2, accounts_max: 7, known_ids_max: 16 };
    let config = ExchangeConfig { limits, starting_credit: NanoUsd(1_000), ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    let ask_hold = |n| exchange.hold(&hold(request(n, START), grant, 9, START));
    assert_eq!((ask_hold(1), ask_hold(2)), (Ok(()), Ok(())));
    assert_eq!(ask_hold(3), Err(FundsError::TooMany("open holds")));
    let extend = |step| extension(request(1, START), step, 0, START);
    for step in 1..=HOLD_EXTENSIONS_MAX {
        assert_eq!(exchange.extend(&extend(step)), Ok(()));
    }
    let past = exchange.extend(&extend(HOLD_EXTENSIONS_MAX + 1));
    assert_eq!(past, Err(FundsError::TooMany("extensions of one hold")));
    assert!(exchange.settle(settlement(request(1, START), grant, 9, START)).is_ok(), "the 7th account");
    let mut eighth = settlement(request(2, START), grant, 9, START);
    eighth.receipt.seller = Some(bourse_types::SellerName::parse("another").unwrap());
    assert_eq!(exchange.settle(eighth), Err(FundsError::TooMany("accounts")));
    check_clean(&exchange);
}

#[test]
fn a_request_older_than_the_memory_of_ids_is_refused_and_an_open_one_is_settled() {
    let limits = Limits { known_ids_max: 4, ..Limits::default() };
    let config = ExchangeConfig { limits, starting_credit: NanoUsd(1_000), ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    let at = |n: u64| UnixMs(START.0 + n);
    let ask_hold = |n| exchange.hold(&hold(request(n, at(n)), grant, 9, at(n)));
    for n in 1..=6 {
        assert_eq!(ask_hold(n), Ok(()));
    }
    let old = exchange.hold(&hold(request(99, at(1)), grant, 9, at(7)));
    assert_eq!(old, Err(FundsError::TooMany("requests since this one arrived")));
    assert_eq!(ask_hold(1), Ok(()), "an open hold is known at any age");
    let settle = || exchange.settle(settlement(request(1, at(1)), grant, 9, at(7))).map(drop);
    assert_eq!((settle(), settle()), (Ok(()), Ok(())));
    assert_eq!(exchange.shared.core.lock().log.size(), 1);
    check_clean(&exchange);
}

#[test]
fn holds_are_refused_when_too_much_waits_for_the_disk_and_settling_is_not() {
    let exchange = market(1_000_000_000);
    let grant = key(&exchange, None);
    let mut n = 0;
    while exchange.shared.core.lock().group_bytes() < crate::WAITING_BYTES_MAX {
        n += 1;
        exchange.hold(&hold(request(n, START), grant, 9, START)).unwrap();
    }
    let last = hold(request(n + 1, START), grant, 9, START);
    assert_eq!(exchange.hold(&last), Err(FundsError::TooMany("bytes wait for the disk")));
    assert!(exchange.settle(settlement(request(n, START), grant, 9, START)).is_ok());
    exchange.flush().unwrap();
    assert_eq!(exchange.hold(&last), Ok(()));
    check_clean(&exchange);
}

/// A hold that a crash forgets is a hold that nobody would settle.
#[test]
fn a_hold_waits_for_company_and_a_settlement_does_not() {
    let exchange = market(1_000_000);
    let grant = key(&exchange, None);
    exchange.flush().unwrap();
    let is_due = || exchange.shared.core.lock().is_due();
    let is_awaited = || exchange.shared.core.lock().is_awaited();
    let hold_one = |n: u64| exchange.hold(&hold(request(n, START), grant, 9, START)).unwrap();
    hold_one(1);
    let extended = extension(request(1, START), 1, 5, START);
    exchange.extend(&extended).unwrap();
    assert!(!is_due());
    exchange.settle(settlement(request(1, START), grant, 9, START)).unwrap();
    assert!(is_due() && !is_awaited());
    exchange.flush().unwrap();
    assert!(!is_due());
    hold_one(2);
    drop(exchange.durable(exchange.ticket()));
    assert!(is_due() && is_awaited(), "somebody waits for it");
    exchange.flush().unwrap();
    assert!(!is_awaited());
    check_clean(&exchange);
}

#[test]
fn a_closed_exchange_refuses_and_leaves_nothing_held() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    exchange.hold(&hold(request(1, START), grant, 600, START)).unwrap();
    exchange.close().unwrap();
    exchange.close().unwrap();
    assert_eq!(exchange.open_holds(), 0);
    assert_eq!(exchange.authenticate(&grant.key, START), Err(FundsError::Closing));
    assert_eq!(exchange.hold(&hold(request(2, START), grant, 6, START)), Err(FundsError::Closing));
    assert_eq!(exchange.settle(settlement(request(1, START), grant, 6, START)), Err(FundsError::Closing));
    assert_eq!(exchange.tick(START), Err(FundsError::Closing));
}

#[test]
fn a_fee_over_the_whole_is_refused() {
    let open = |fee_bps| {
        let config = ExchangeConfig { fee_bps, ..ExchangeConfig::default() };
        Exchange::in_memory(config, [7; 32], START).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open(10_000), Ok(()));
    assert_eq!(open(10_001), Err("fee_bps is 10001; the most is 10,000".to_owned()));
}

//! What buyers do not pay for: at list price in the books, and nobody's revenue.

use super::support::{START, hold, inflated, request, settlement};
use super::{ask, books, check_clean, key, market, market_in};
use crate::{AdminReply, Exchange, ExportFormat, Period, export};
use bourse_types::{Charge, Gift, Giver, NanoUsd, UnixMs};
use bourse_wire::funds::{Billing, Funds, FundsError, KeyGrant, Records, Settlement};

/// A settlement of request `n` that costs nothing and would cost 250.
fn free(n: u64, grant: KeyGrant, giver: Giver) -> Settlement {
    let mut settlement = settlement(request(n, START), grant, 0, START);
    settlement.note.gift = Some(Gift { list: NanoUsd(250), giver });
    settlement
}

fn held(exchange: &Exchange, n: u64, grant: KeyGrant) {
    exchange.hold(&hold(request(n, START), grant, 0, START)).unwrap();
}

/// A market of 1,000 nano-USD in which a free request was settled; the same again changes nothing.
fn check(change: impl Fn(&mut Settlement), giver: Giver, want: &str) {
    let exchange = market(1_000);
    let grant = key(&exchange, Some(100));
    held(&exchange, 1, grant);
    let mut settlement = free(1, grant, giver);
    change(&mut settlement);
    for _ in 0..2 {
        assert_eq!(exchange.settle(settlement.clone()).unwrap().cost, NanoUsd(0));
        assert_eq!(books(&exchange), want);
    }
    check_clean(&exchange);
    let status = exchange.key_status(&grant.key, START).unwrap();
    assert_eq!(
        (status.key.usage.total, status.budgets[0].left),
        (NanoUsd(0), NanoUsd(100)),
        "no budget counts it"
    );
}

const LIMIT: &str = "allowances -100, operator 1000";

#[test]
fn what_a_seller_gives_is_noted_and_what_the_market_gives_is_paid() {
    let given = format!("subsidy -1000, {LIMIT}, allowance 100, free 250, memo -250");
    check(|_| {}, Giver::Seller, &given);
    let subsidised = format!("subsidy -1250, {LIMIT}, allowance 100, seller 250");
    check(|_| {}, Giver::Market, &subsidised);
    // What nobody knows the worth of moves nothing, as before there were gifts.
    let nothing = format!("subsidy -1000, {LIMIT}, allowance 100");
    check(|s| s.note.gift = None, Giver::Seller, &nothing);
    check(|s| s.note.gift = Some(Gift { list: NanoUsd(0), giver: Giver::Market }), Giver::Market, &nothing);
    check(|s| s.billing = Billing::Byok, Giver::Market, &nothing);
}

#[test]
fn a_gift_has_a_seller_and_costs_its_buyer_nothing() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    exchange.hold(&hold(request(1, START), grant, 600, START)).unwrap();
    let refused = |change: fn(&mut Settlement)| {
        let mut settlement = free(1, grant, Giver::Market);
        change(&mut settlement);
        assert_eq!(exchange.settle(settlement.clone()), Err(FundsError::Conflict));
        assert_eq!(exchange.metered(settlement), Err(FundsError::Conflict));
    };
    refused(|s| s.receipt.seller = None);
    refused(|s| s.receipt.charge = Charge { request: NanoUsd(1), total: NanoUsd(1), ..Charge::ZERO });
    assert_eq!(books(&exchange), "subsidy -1000, operator 1000-600");
    // Another value under the same request is another settlement.
    exchange.settle(free(1, grant, Giver::Seller)).unwrap();
    assert_eq!(exchange.settle(free(1, grant, Giver::Market)), Err(FundsError::Conflict));
    assert_eq!(books(&exchange), "subsidy -1000, operator 1000, free 250, memo -250");
}

#[test]
fn a_free_stream_that_nobody_comes_back_for_is_given_as_it_was_metered() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    held(&exchange, 1, grant);
    exchange.metered(free(1, grant, Giver::Market)).unwrap();
    exchange.tick(UnixMs(START.0 + 60_001)).unwrap();
    assert_eq!(books(&exchange), "subsidy -1250, operator 1000, seller 250");
    let found = exchange.generation(request(1, START)).unwrap().unwrap();
    assert_eq!(found.note.gift, Some(Gift { list: NanoUsd(250), giver: Giver::Market }));
}

#[test]
fn a_doubtful_claim_on_a_gift_waits_and_goes_back_to_who_gave_it() {
    let waits = "subsidy -1250, operator 1000, suspense 250";
    let check = |to: &str, want: &str| {
        let exchange = market(1_000);
        let grant = key(&exchange, None);
        held(&exchange, 1, grant);
        let mut doubtful = inflated(request(1, START), grant, 0, START);
        doubtful.note.gift = Some(Gift { list: NanoUsd(250), giver: Giver::Market });
        exchange.settle(doubtful.clone()).unwrap();
        exchange.settle(doubtful).unwrap();
        assert_eq!(books(&exchange), waits);
        let release = format!(r#"{{"op":"release_suspense","request":"{}","to":"{to}"}}"#, request(1, START));
        let AdminReply::Released { .. } = ask(&exchange, &release) else { panic!("it is released") };
        assert_eq!(books(&exchange), want);
        check_clean(&exchange);
    };
    check("buyer", "subsidy -1000, operator 1000, suspense 0");
    check("seller", "subsidy -1250, operator 1000, suspense 0, seller 250");
}

#[test]
fn accountants_see_what_the_market_gives_and_no_memorandum() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000);
    let grant = key(&exchange, None);
    for (n, giver) in [(1, Giver::Seller), (2, Giver::Market)] {
        held(&exchange, n, grant);
        exchange.settle(free(n, grant, giver)).unwrap();
    }
    exchange.flush().unwrap();
    let mut out = Vec::new();
    export(dir.path(), ExportFormat::Ledger, Period::EVER, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap().to_lowercase();
    let given = text.lines().filter(|line| line.contains("0.000000250"));
    let given: Vec<_> = given.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(given, ["expenses:subsidy:subsidy", "liabilities:sellers:seller/local"], "{text}");
    assert!(!text.contains("memo"), "{text}");
}

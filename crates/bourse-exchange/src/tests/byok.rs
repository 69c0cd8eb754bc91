//! Where the buyer's own key at a seller served: the list price never moves, the fee does.

use super::support::{START, hold, request, settlement};
use super::{ask, books, check_clean, key};
use crate::{AdminReply, ByokTerms, Exchange, ExchangeConfig, hash_key};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::{
    Billing, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, Records, Settled, Settlement,
};

fn market(free: u64) -> Exchange {
    let byok = ByokTerms { free_per_month: NanoUsd(free), ..ByokTerms::default() };
    let config = ExchangeConfig { byok, starting_credit: NanoUsd(1_000_000), ..ExchangeConfig::default() };
    Exchange::in_memory(config, [7; 32], START).unwrap()
}

fn byok(n: u64, grant: KeyGrant, list: u64, now: UnixMs) -> Settlement {
    Settlement { billing: Billing::Byok, ..settlement(request(n, now), grant, list, now) }
}

fn serve(
    exchange: &Exchange,
    n: u64,
    grant: KeyGrant,
    list: u64,
    now: UnixMs,
) -> Result<Settled, FundsError> {
    let asked = HoldRequest { byok: NanoUsd(list), ..hold(request(n, now), grant, list / 20, now) };
    exchange.hold(&asked)?;
    exchange.settle(byok(n, grant, list, now))
}

#[test]
fn the_charge_is_the_fee_on_the_list_price() {
    let exchange = market(0);
    let grant = key(&exchange, None);
    assert_eq!(serve(&exchange, 1, grant, 10_019, START).unwrap().cost, NanoUsd(500), "5 %, rounded down");
    assert_eq!(books(&exchange), "subsidy -1000000, fee 500, clearing 0, operator 999500");
    let found = exchange.generation(request(1, START)).unwrap().unwrap();
    assert_eq!((found.receipt.charge.total, found.receipt.fee), (NanoUsd(500), NanoUsd(500)));
    assert_eq!((found.note.byok_cost, found.note.is_byok()), (Some(NanoUsd(10_019)), true));
    let status = exchange.key_status(&grant.key, START).unwrap();
    assert_eq!((status.key.usage.total, status.key.byok_usage.daily), (NanoUsd(500), NanoUsd(10_019)));
    assert_eq!(status.account_spent, NanoUsd(500));
    let again = exchange.settle(byok(1, grant, 10_019, START)).unwrap();
    assert_eq!(again.cost, NanoUsd(500), "repeating it repeats its outcome");
    assert_eq!(exchange.settle(byok(1, grant, 10_050, START)), Err(FundsError::Conflict));
    assert_eq!(
        exchange.settle(settlement(request(1, START), grant, 10_019, START)),
        Err(FundsError::Conflict)
    );
    assert_eq!(exchange.settle(byok(2, grant, 100, START)), Err(FundsError::NoHold));
    let mut nobody = byok(3, grant, 100, START);
    nobody.receipt.seller = None;
    assert_eq!(exchange.settle(nobody), Err(FundsError::Conflict));
    check_clean(&exchange);
}

#[test]
fn the_free_allowance_is_of_an_account_and_a_month() {
    let exchange = market(10_000);
    let (grant, other) = (key(&exchange, None), key(&exchange, None));
    let cost = |n, grant, list, now| {
        let told = exchange.byok_fee(&grant, NanoUsd(list), now);
        let cost = serve(&exchange, n, grant, list, now).unwrap().cost;
        assert_eq!(told, Some(cost), "what is told before is what is charged");
        cost.0
    };
    assert_eq!(cost(1, grant, 6_000, START), 0);
    assert_eq!(cost(2, other, 6_000, START), 100, "2,000 of it are beyond what its keys have together");
    assert_eq!(cost(3, grant, 6_000, START), 300);
    let again = exchange.settle(byok(2, other, 6_000, START)).unwrap();
    assert_eq!(again.cost.0, 100, "a repeat says what the first one cost, whatever is left now");
    let conflict = exchange.settle(byok(2, other, 6_001, START));
    assert_eq!(conflict, Err(FundsError::Conflict));
    let february = UnixMs::parse_iso("2083-02-01").unwrap();
    assert_eq!(cost(4, grant, 10_000, february), 0);
    check_clean(&exchange);
}

#[test]
fn the_allowance_used_survives_a_restart() {
    let exchange = market(10_000);
    let grant = key(&exchange, None);
    serve(&exchange, 1, grant, 9_000, START).unwrap();
    exchange.flush().unwrap();
    let exchange = exchange.killed(START).unwrap();
    assert_eq!(serve(&exchange, 2, grant, 2_000, START).unwrap().cost.0, 50);
    check_clean(&exchange);
}

/// A key with a limit of 10,000 nano-dollars.
fn limited(exchange: &Exchange, includes: bool) -> KeyGrant {
    let create = format!(
        r#"{{"op":"create_key","label":"l","limit_usd":"0.00001","includes_byok_in_limit":{includes}}}"#
    );
    let AdminReply::KeyCreated { secret, .. } = ask(exchange, &create) else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), START).unwrap()
}

#[test]
fn a_limit_includes_what_own_sellers_bill_when_it_says_so() {
    let exchange = market(0);
    let grant = limited(&exchange, true);
    serve(&exchange, 1, grant, 6_000, START).unwrap();
    let status = exchange.key_status(&grant.key, START).unwrap().key;
    assert_eq!(status.limit_remaining, Some(NanoUsd(10_000 - 6_000 - 300)));
    let asked = |n, amount, list| HoldRequest {
        byok: NanoUsd(list),
        ..hold(request(n, START), grant, amount, START)
    };
    let over = exchange.hold(&asked(2, 1, 3_700));
    assert_eq!(over.unwrap_err().money_left(), Some(NanoUsd(3_700)));
    exchange.hold(&asked(2, 0, 3_000)).unwrap();
    let more = |amount, byok| {
        let (amount, byok) = (NanoUsd(amount), NanoUsd(byok));
        exchange.extend(&HoldExtension {
            request: request(2, START),
            step: 1,
            amount,
            byok,
            tokens: 0,
            now: START,
        })
    };
    assert_eq!(more(1, 700).unwrap_err().money_left(), Some(NanoUsd(700)));
    assert_eq!(more(0, 700), Ok(()));
    let dear = exchange.settle(byok(2, grant, 3_701, START)).unwrap_err();
    assert!(matches!(dear, FundsError::ExceedsHold { .. }), "{dear:?}");
    assert_eq!(exchange.settle(byok(2, grant, 19, START)).unwrap().cost, NanoUsd(0));
    assert_eq!(exchange.settle(byok(2, grant, 19, START)).unwrap().cost, NanoUsd(0));
    check_clean(&exchange);

    let exchange = market(0);
    let grant = limited(&exchange, false);
    serve(&exchange, 1, grant, 180_000, START).unwrap();
    let status = exchange.key_status(&grant.key, START).unwrap().key;
    assert_eq!((status.limit_remaining, status.byok_usage.total), (Some(NanoUsd(1_000)), NanoUsd(180_000)));
    check_clean(&exchange);
}

#[test]
fn terms_are_bounded() {
    let open = |fee_bps| {
        let byok = ByokTerms { fee_bps, ..ByokTerms::default() };
        let config = ExchangeConfig { byok, ..ExchangeConfig::default() };
        Exchange::in_memory(config, [7; 32], START).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open(10_000), Ok(()));
    assert_eq!(open(10_001), Err("byok.fee_bps is 10001; the most is 10,000".to_owned()));
}

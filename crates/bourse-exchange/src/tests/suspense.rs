//! A seller's share whose claim is beyond the market's count: in suspense once, and once to whom it belongs.

use super::support::{START, hold, inflated, request, settlement};
use super::{ask, books, check_clean, key, market, market_in, refused};
use crate::suspense::{CASES_MAX, Case, SuspenseRecord};
use crate::{AdminReply, AdminRequest, CaseLine, Exchange, ExchangeConfig, Party};
use bourse_types::{AccountId, NanoUsd, RequestId, TokenCount, UnixMs, Usage};
use bourse_wire::funds::{Billing, Funds, FundsError, KeyGrant, Records, Settlement};
use bourse_wire::receipt::Finish;

/// A market of 1,000 nano-USD in which request 1 was settled at 251 by `change` of an inflated settlement.
fn settled(change: impl FnOnce(&mut Settlement)) -> (Exchange, KeyGrant, Settlement) {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    let id = request(1, START);
    exchange.hold(&hold(id, grant, 600, START)).unwrap();
    let mut settlement = inflated(id, grant, 251, START);
    change(&mut settlement);
    exchange.settle(settlement.clone()).unwrap();
    (exchange, grant, settlement)
}

const SUSPENDED: &str = "subsidy -1000, fee 9, rounding 2, clearing 0, operator 749, suspense 240";
const PAID: &str = "subsidy -1000, fee 9, rounding 2, clearing 0, operator 749, seller 240";

fn cases(exchange: &Exchange) -> Vec<CaseLine> {
    match ask(exchange, r#"{"op":"list_suspense"}"#) {
        AdminReply::Suspense { cases } => cases,
        other => panic!("{other:?}"),
    }
}

fn release(request: RequestId, to: &str) -> String {
    format!(r#"{{"op":"release_suspense","request":"{request}","to":"{to}"}}"#)
}

#[test]
fn a_claim_beyond_the_count_puts_the_sellers_share_into_suspense() {
    let check = |change: fn(&mut Settlement), want: &str| {
        let (exchange, _, settlement) = settled(change);
        assert_eq!(books(&exchange), want);
        // Repeated, it is the same.
        exchange.settle(settlement).unwrap();
        assert_eq!(books(&exchange), want);
        check_clean(&exchange);
    };
    check(|_| {}, SUSPENDED);
    check(|s| s.receipt.usage_claimed = Some(s.receipt.usage_billed), PAID);
    check(|s| s.receipt.usage_claimed = None, PAID);
    check(|s| s.receipt.recount = None, PAID);
    check(|s| s.receipt.finish = Finish::Cancelled, PAID);
    check(|s| s.billing = Billing::Byok, "subsidy -1000, fee 12, clearing 0, operator 988");
}

#[test]
fn nobody_is_charged_more_than_the_count_allows() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    let id = request(1, START);
    exchange.hold(&hold(id, grant, 600, START)).unwrap();
    let mut dear = inflated(id, grant, 251, START);
    dear.receipt.usage_billed.completion = TokenCount(4);
    assert_eq!(exchange.settle(dear), Err(FundsError::Conflict));
    assert_eq!(books(&exchange), "subsidy -1000, operator 1000-600");
}

#[test]
fn the_evidence_is_listed() {
    let (exchange, ..) = settled(|_| {});
    let want = CaseLine {
        request: request(1, START).to_string(),
        at_ms: START.0,
        seller: "local".to_owned(),
        customer: "operator".to_owned(),
        amount_usd: "0.000000240".to_owned(),
        tokenizer: "07".repeat(32),
        prompt_claimed: 9,
        prompt_recounted: Some(9),
        prompt_allowed: 9,
        completion_claimed: 6,
        completion_recounted: Some(3),
        completion_allowed: 3,
    };
    assert_eq!(cases(&exchange), [want]);
    let receipt = exchange.receipt(request(1, START)).unwrap().unwrap().receipt;
    assert!(receipt.is_suspended());
}

#[test]
fn a_share_is_released_once_to_one_of_the_two() {
    let check = |to: &str, other: &str, want: &str| {
        let (exchange, _, settlement) = settled(|_| {});
        let id = request(1, START);
        for _ in 0..2 {
            let reply = ask(&exchange, &release(id, to));
            assert!(matches!(reply, AdminReply::Released { .. }), "{reply:?}");
            assert_eq!(books(&exchange), want);
        }
        assert_eq!(
            refused(&exchange, &release(id, other)),
            format!("the share of {id} was given to the {to} before")
        );
        assert_eq!(cases(&exchange), []);
        exchange.settle(settlement).unwrap();
        assert_eq!(books(&exchange), want, "settled again");
        check_clean(&exchange);
        // Both ways round a restart.
        let digest = exchange.digest();
        exchange.flush().unwrap();
        let exchange = exchange.killed(START).unwrap();
        assert_eq!(exchange.digest(), digest);
        ask(&exchange, &release(id, to));
        assert_eq!(books(&exchange), want, "released again after a restart");
    };
    check(
        "seller",
        "buyer",
        "subsidy -1000, fee 9, rounding 2, clearing 0, operator 749, suspense 0, seller 240",
    );
    check("buyer", "seller", "subsidy -1000, fee 9, rounding 2, clearing 0, operator 989, suspense 0");
}

#[test]
fn what_is_not_in_suspense_is_not_released() {
    let (exchange, grant, _) = settled(|_| {});
    let honest = request(2, START);
    exchange.hold(&hold(honest, grant, 300, START)).unwrap();
    exchange.settle(settlement(honest, grant, 100, START)).unwrap();
    for asked in [honest.to_string(), request(3, START).to_string(), "nonsense".to_owned()] {
        let json = format!(r#"{{"op":"release_suspense","request":"{asked}","to":"buyer"}}"#);
        let want =
            format!("no share of `{asked}` is in suspense; `bourse ledger suspense list` shows what is");
        assert_eq!(refused(&exchange, &json), want);
    }
    assert!(books(&exchange).contains("suspense 240"));
}

#[test]
fn cases_outlive_a_crash_a_snapshot_and_a_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let id = request(1, START);
    let digest = {
        let exchange = market_in(folder.path(), 1_000);
        let grant = key(&exchange, None);
        exchange.hold(&hold(id, grant, 600, START)).unwrap();
        exchange.settle(inflated(id, grant, 251, START)).unwrap();
        exchange.close().unwrap();
        exchange.digest()
    };
    let exchange = market_in(folder.path(), 0);
    assert_eq!((exchange.digest(), cases(&exchange).len()), (digest, 1));
    ask(&exchange, &release(id, "buyer"));
    check_clean(&exchange);
    exchange.close().unwrap();
    drop(exchange);
    let exchange = market_in(folder.path(), 0);
    assert!(books(&exchange).contains("operator 989, suspense 0"));
}

#[test]
fn a_balance_without_its_case_is_found() {
    let (exchange, ..) = settled(|_| {});
    let id = exchange.shared.house_transfer(START).unwrap();
    let move_one =
        |core: &mut crate::core::Core| core.move_between(crate::SUSPENSE, crate::OPERATOR, NanoUsd(1), id);
    exchange.shared.change(move_one).unwrap();
    let report = exchange.check(START).unwrap();
    assert_eq!(report.problems, ["suspense holds 239 nano-USD, its open cases are worth 240"]);
}

#[test]
fn the_number_of_open_cases_is_bounded() {
    let (exchange, grant, _) = settled(|_| {});
    {
        let mut core = exchange.shared.core.lock();
        let case = core.suspense.get(request(1, START)).unwrap().clone();
        for n in 0..CASES_MAX - 2 {
            let request = RequestId(1 << 100 | n as u128);
            core.suspense.take(SuspenseRecord::Opened { request, case: case.clone() }).unwrap();
        }
    }
    let settle = |n| {
        let id = request(n, START);
        exchange.hold(&hold(id, grant, 100, START)).unwrap();
        exchange.settle(inflated(id, grant, 50, START))
    };
    assert!(settle(2).is_ok());
    assert_eq!(settle(3), Err(FundsError::TooMany("cases in suspense")));
    // An honest one goes on.
    let honest = settlement(request(3, START), grant, 50, START);
    assert!(exchange.settle(honest).is_ok());
}

#[test]
fn an_epoch_ends_and_an_invoice_adds_up_with_shares_in_suspense() {
    let (exchange, ..) = settled(|_| {});
    let later = UnixMs(START.0 + 60_000);
    let closed = exchange.close_epoch(later).unwrap().unwrap();
    // The share is neither the customer's nor the seller's yet.
    assert_eq!(closed.epoch.total_nano_usd, 749);
    let released = AdminRequest::ReleaseSuspense { request: request(1, START).to_string(), to: Party::Buyer };
    exchange.admin(released, later).unwrap();
    let closed = exchange.close_epoch(UnixMs(later.0 + 60_000)).unwrap().unwrap();
    assert_eq!(closed.epoch.total_nano_usd, 989);
    let invoice = exchange
        .shared
        .index
        .lock()
        .with_journal(|journal| crate::invoice::invoice_of(journal, "operator", crate::Period::EVER));
    let invoice = invoice.unwrap();
    let credits: Vec<_> = invoice.credits.iter().map(|c| (c.from.as_str(), c.amount_usd.as_str())).collect();
    assert_eq!(credits, [("subsidy", "0.000001000"), ("suspense", "0.000000240")]);
    assert_eq!((invoice.spent_usd.as_str(), invoice.closing_usd.as_str()), ("0.000000251", "0.000000989"));
    check_clean(&exchange);
}

#[test]
fn records_round_trip_and_foreign_ones_are_refused() {
    let (exchange, ..) = settled(|_| {});
    let case = exchange.shared.core.lock().suspense.get(request(1, START)).unwrap().clone();
    let mut bare = case.clone();
    (bare.recount.prompt, bare.recount.completion) = (None, None);
    (bare.claimed, bare.customer) = (Usage::of_tokens(1, 2, 3), AccountId(9));
    let opened = |case: Case| SuspenseRecord::Opened { request: RequestId(5), case };
    let resolved = SuspenseRecord::Resolved { request: RequestId(5), to: Party::Seller };
    for record in [opened(case), opened(bare), resolved.clone()] {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        let mut reader = bourse_ledger::Reader::new(&bytes);
        assert_eq!(SuspenseRecord::read(&mut reader), Ok(record));
        assert_eq!(reader.remaining(), 0);
        for n in 0..bytes.len() {
            assert!(SuspenseRecord::read(&mut bourse_ledger::Reader::new(&bytes[..n])).is_err(), "{n}");
        }
        bytes[0] = 2;
        assert!(SuspenseRecord::read(&mut bourse_ledger::Reader::new(&bytes)).is_err());
    }
    let mut core = exchange.shared.core.lock();
    assert!(core.suspense.take(resolved).is_err(), "not open");
}

#[test]
fn older_books_get_the_account_when_they_need_it() {
    let config = ExchangeConfig { starting_credit: NanoUsd(1_000), ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [9; 32], START).unwrap();
    assert_eq!(exchange.account("suspense"), None);
    let grant = key(&exchange, None);
    for n in 1..3 {
        exchange.hold(&hold(request(n, START), grant, 300, START)).unwrap();
        exchange.settle(inflated(request(n, START), grant, 100, START)).unwrap();
    }
    assert_eq!(exchange.account("suspense"), Some(crate::SUSPENSE));
    check_clean(&exchange);
}

//! Requests for which nobody comes back: settled as they were last metered.

use super::support::{START, extension, hold, request, settlement};
use super::{books, check_clean, key};
use crate::{Exchange, ExchangeConfig, Holds};
use bourse_types::{Charge, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{Billing, Funds, FundsError, KeyGrant, Records, Settlement};

const CREDIT: u64 = 10_000;
const HELD: u64 = 5_000;
/// When the holds of these tests expire.
const LATER: UnixMs = UnixMs(START.0 + 60_000);

fn market(holds: Holds) -> Exchange {
    let config = ExchangeConfig { starting_credit: NanoUsd(CREDIT), holds, ..ExchangeConfig::default() };
    Exchange::in_memory(config, [7; 32], START).unwrap()
}

fn open(exchange: &Exchange, n: u64, grant: KeyGrant) -> RequestId {
    let id = request(n, START);
    exchange.hold(&hold(id, grant, HELD, START)).unwrap();
    id
}

/// What was charged, what is held and what is left of the key's limit.
fn stand(exchange: &Exchange, grant: KeyGrant) -> (u64, u64, Option<u64>) {
    let status = exchange.key_status(&grant.key, START).unwrap();
    (status.account_spent.0, status.held.0, status.key.limit_remaining.map(|left| left.0))
}

/// The cost that the receipt of a request names.
fn receipt(exchange: &Exchange, id: RequestId) -> Option<u64> {
    exchange.receipt(id).unwrap().map(|found| found.receipt.charge.total.0)
}

#[test]
fn whoever_does_not_come_back_pays_what_was_last_metered() {
    for (limit, left) in [(None, None), (Some(8_000), Some(7_100))] {
        let exchange = market(Holds::EndWithExchange);
        let grant = key(&exchange, limit);
        let id = open(&exchange, 1, grant);
        for cost in [300, 600, 900] {
            exchange.metered(settlement(id, grant, cost, START)).unwrap();
        }
        assert_eq!(stand(&exchange, grant).0, 0, "nothing is charged while its time lasts");
        exchange.tick(UnixMs(LATER.0 - 1)).unwrap();
        assert_eq!(receipt(&exchange, id), None);
        exchange.tick(LATER).unwrap();
        assert_eq!(stand(&exchange, grant), (900, 0, left));
        assert_eq!(receipt(&exchange, id), Some(900));
        let late = exchange.settle(settlement(id, grant, 1_000, LATER));
        assert_eq!(late.unwrap_err(), FundsError::Conflict, "too late for another sum");
        assert_eq!(exchange.settle(settlement(id, grant, 900, LATER)).unwrap().cost, NanoUsd(900));
        assert_eq!(stand(&exchange, grant).0, 900, "and once is once");
        check_clean(&exchange);
    }
}

#[test]
fn a_settlement_replaces_what_was_metered() {
    let exchange = market(Holds::EndWithExchange);
    let grant = key(&exchange, None);
    let id = open(&exchange, 1, grant);
    exchange.metered(settlement(id, grant, 900, START)).unwrap();
    exchange.settle(settlement(id, grant, 0, START)).unwrap();
    assert_eq!(exchange.shared.core.lock().requests_metered(), 0);
    exchange.tick(LATER).unwrap();
    assert_eq!(stand(&exchange, grant), (0, 0, None), "a failed answer costs nothing, metered or not");
    let again = exchange.metered(settlement(id, grant, 900, START));
    assert_eq!(again, Err(FundsError::NoHold), "it is over");
    check_clean(&exchange);
}

#[test]
fn a_crash_keeps_the_last_durable_word() {
    for holds in [Holds::EndWithExchange, Holds::OutliveExchange] {
        for limit in [None, Some(8_000)] {
            let exchange = market(holds);
            let grant = key(&exchange, limit);
            let id = open(&exchange, 1, grant);
            exchange.metered(settlement(id, grant, 300, START)).unwrap();
            exchange.metered(settlement(id, grant, 600, START)).unwrap();
            exchange.flush().unwrap();
            exchange.metered(settlement(id, grant, 900, START)).unwrap();
            let exchange = exchange.killed(START).unwrap();
            if holds == Holds::OutliveExchange {
                assert_eq!(stand(&exchange, grant).0, 0, "its gateway may live");
                exchange.tick(LATER).unwrap();
            }
            assert_eq!(stand(&exchange, grant), (600, 0, limit.map(|limit| limit - 600)), "{holds:?}");
            assert_eq!(receipt(&exchange, id), Some(600));
            check_clean(&exchange);
            let exchange = exchange.killed(LATER).unwrap();
            assert_eq!(stand(&exchange, grant).0, 600, "once");
            check_clean(&exchange);
        }
    }
}

#[test]
fn a_gateway_that_comes_back_settles_what_it_knows() {
    let exchange = market(Holds::OutliveExchange);
    let grant = key(&exchange, Some(8_000));
    let id = open(&exchange, 1, grant);
    exchange.metered(settlement(id, grant, 600, START)).unwrap();
    exchange.flush().unwrap();
    let exchange = exchange.killed(START).unwrap();
    exchange.hold(&hold(id, grant, HELD, START)).unwrap();
    exchange.settle(settlement(id, grant, 1_200, START)).unwrap();
    exchange.tick(LATER).unwrap();
    assert_eq!(stand(&exchange, grant), (1_200, 0, Some(6_800)));
    check_clean(&exchange);
}

#[test]
fn a_gateway_that_comes_back_for_a_part_of_its_hold_and_dies_leaves_what_was_metered() {
    for limit in [None, Some(8_000)] {
        let exchange = market(Holds::OutliveExchange);
        let grant = key(&exchange, limit);
        let id = open(&exchange, 1, grant);
        exchange.extend(&extension(id, 1, 1_000, START)).unwrap();
        exchange.metered(settlement(id, grant, HELD + 500, START)).unwrap();
        exchange.flush().unwrap();
        let exchange = exchange.killed(START).unwrap();
        exchange.hold(&hold(id, grant, HELD, START)).unwrap();
        exchange.tick(LATER).unwrap();
        assert_eq!(stand(&exchange, grant), (HELD + 500, 0, limit.map(|limit| limit - HELD - 500)));
        check_clean(&exchange);
    }
}

#[test]
fn snapshots_keep_what_was_metered() {
    let config =
        ExchangeConfig { starting_credit: NanoUsd(CREDIT), snapshot_events: 1, ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    let id = open(&exchange, 1, grant);
    exchange.metered(settlement(id, grant, 600, START)).unwrap();
    exchange.flush().unwrap();
    let before = exchange.digest();
    open(&exchange, 2, grant);
    let exchange = exchange.killed(START).unwrap();
    assert_ne!(exchange.digest(), before, "it was settled");
    assert_eq!(receipt(&exchange, id), Some(600));
    check_clean(&exchange);
}

#[test]
fn the_fee_of_an_own_key_is_metered_as_a_fee() {
    let exchange = market(Holds::EndWithExchange);
    let grant = key(&exchange, None);
    let id = open(&exchange, 1, grant);
    let list = Settlement { billing: Billing::Byok, ..settlement(id, grant, 2_000, START) };
    exchange.metered(list).unwrap();
    exchange.tick(LATER).unwrap();
    assert_eq!(stand(&exchange, grant).0, 100, "5 % of the list price");
    assert!(!books(&exchange).contains("seller"), "the seller bills the buyer itself: {}", books(&exchange));
    let found = exchange.generation(id).unwrap().unwrap();
    assert_eq!(found.note.byok_cost, Some(NanoUsd(2_000)));
    check_clean(&exchange);
}

#[test]
fn what_cannot_be_settled_is_not_metered() {
    let exchange = market(Holds::EndWithExchange);
    let (grant, other) = (key(&exchange, None), key(&exchange, None));
    let id = open(&exchange, 1, grant);
    let unsold = |mut asked: Settlement| {
        asked.receipt.seller = None;
        asked
    };
    let unsummed = |mut asked: Settlement| {
        asked.receipt.charge = Charge { total: NanoUsd(901), ..asked.receipt.charge };
        asked
    };
    let exceeds = FundsError::ExceedsHold { charge: NanoUsd(HELD + 1), held: NanoUsd(HELD) };
    for (asked, why) in [
        (settlement(request(2, START), grant, 900, START), FundsError::NoHold),
        (settlement(id, other, 900, START), FundsError::Conflict),
        (unsold(settlement(id, grant, 900, START)), FundsError::Conflict),
        (unsummed(settlement(id, grant, 900, START)), FundsError::Conflict),
        (settlement(id, grant, HELD + 1, START), exceeds),
    ] {
        let refused = exchange.metered(asked).unwrap_err();
        assert_eq!(refused, why);
        assert!(!refused.to_string().contains('$'), "it is logged, and no amount by buyer is: {refused}");
    }
    exchange.metered(settlement(id, grant, HELD, START)).unwrap();
    assert_eq!(exchange.shared.core.lock().requests_metered(), 1);
    exchange.tick(LATER).unwrap();
    assert_eq!(stand(&exchange, grant).0, HELD);
}

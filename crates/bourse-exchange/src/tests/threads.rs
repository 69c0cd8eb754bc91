//! Many callers at once: never a nano-dollar too much, never a hold left.

use super::support::{START, block_on, extension, hold, request, settlement};
use super::{key, market_in};
use crate::{Exchange, ExchangeConfig, check};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::{Funds, FundsError, KeyGrant, Records};
use std::sync::atomic::{AtomicU64, Ordering};

const CALLERS: u64 = 256;
const REQUESTS_EACH: u64 = 20;

/// Holds, sometimes extends, settles; returns what it was charged.
fn call(exchange: &Exchange, grant: KeyGrant, n: u64) -> u64 {
    let id = request(n, START);
    match exchange.hold(&hold(id, grant, 700, START)) {
        Ok(()) => {}
        Err(FundsError::InsufficientFunds { .. } | FundsError::OverBudget { .. }) => return 0,
        Err(other) => panic!("{other}"),
    }
    let asked = extension(id, 1, 500, START);
    let bound = if n.is_multiple_of(3) && exchange.extend(&asked).is_ok() { 1_200 } else { 700 };
    let total = bound - n % 200;
    let settled = exchange.settle(settlement(id, grant, total, START)).unwrap();
    if n.is_multiple_of(5) {
        block_on(exchange.durable(settled.ticket)).unwrap();
    }
    total
}

fn race(limit: Option<u64>, credit: u64) {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), credit);
    let grant = key(&exchange, limit);
    let (charged, calling) = (AtomicU64::new(0), AtomicU64::new(CALLERS));
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (exchange, charged, calling) = (&exchange, &charged, &calling);
            scope.spawn(move || {
                for n in 0..REQUESTS_EACH {
                    charged.fetch_add(call(exchange, grant, caller * REQUESTS_EACH + n), Ordering::Relaxed);
                }
                calling.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while calling.load(Ordering::Relaxed) > 0 {
            if let Some(signed) = exchange.close_epoch(START).unwrap() {
                let proof = crate::prove(dir.path(), "operator", None).unwrap();
                assert_eq!(proof.signed, signed, "a leaf of a busy market");
            }
            let live = check(dir.path(), START).unwrap();
            assert!(live.is_clean(), "an audit beside a busy market: {live:?}");
        }
    });
    let status = exchange.key_status(&grant.key, START).unwrap();
    let bound = limit.unwrap_or(credit);
    assert!(status.key.usage.total.0 <= bound && status.key.usage.total.0 > bound - 1_200, "{status:?}");
    assert_eq!(
        status.key.usage.total.0,
        charged.into_inner(),
        "every charge that was acknowledged, and no other"
    );
    assert_eq!((status.held, exchange.open_holds()), (NanoUsd::ZERO, 0));
    let live = check(dir.path(), START).unwrap();
    assert!(live.is_clean(), "{live:?}");
    exchange.close().unwrap();
    let digest = exchange.digest();
    drop(exchange);
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(super::facts(report).state_digest, digest.to_string());
}

#[test]
fn callers_on_one_small_balance_never_overspend() {
    race(None, 400_000);
}

#[test]
fn callers_on_one_small_limit_never_overspend() {
    race(Some(300_000), 900_000);
}

#[test]
fn overdue_holds_are_released_once_while_others_settle() {
    let config = ExchangeConfig { starting_credit: NanoUsd(10_000_000), ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    let settled = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for caller in 0..8u64 {
            let (exchange, settled) = (&exchange, &settled);
            scope.spawn(move || {
                for n in 0..200 {
                    let id = request(caller * 1_000 + n, START);
                    exchange.hold(&hold(id, grant, 100, START)).unwrap();
                    if n % 16 == 7 {
                        exchange.tick(UnixMs(START.0 + 60_000)).unwrap();
                    }
                    match exchange.settle(settlement(id, grant, 50, START)) {
                        Ok(_) => drop(settled.fetch_add(50, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error, FundsError::NoHold),
                    }
                }
            });
        }
    });
    assert_eq!(exchange.key_status(&grant.key, START).unwrap().key.usage.total.0, settled.into_inner());
    assert_eq!(exchange.open_holds(), 0);
    super::check_clean(&exchange);
}

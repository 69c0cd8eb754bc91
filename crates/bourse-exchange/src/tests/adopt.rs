//! Holds that outlive their exchange: whatever of them the journal had, repeating them ends in the same books.

use super::support::{START, extension, hold, request, settlement};
use super::{books, check_clean, key};
use crate::{Exchange, ExchangeConfig, Holds};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::{Funds, FundsError, KeyGrant, Records};
use std::fmt::Debug;

const CREDIT: u64 = 1_000;
/// Calls of one request: a hold, two extensions, a settlement.
const CALLS: usize = 4;

pub(super) fn market() -> Exchange {
    let starting_credit = NanoUsd(CREDIT);
    let config =
        ExchangeConfig { starting_credit, holds: Holds::OutliveExchange, ..ExchangeConfig::default() };
    Exchange::in_memory(config, [7; 32], START).unwrap()
}

fn call(exchange: &Exchange, grant: KeyGrant, n: usize) -> Result<(), FundsError> {
    let id = request(1, START);
    match n {
        0 => exchange.hold(&hold(id, grant, 300, START)),
        1 => exchange.extend(&extension(id, 1, 200, START)),
        2 => exchange.extend(&extension(id, 2, 100, START)),
        _ => exchange.settle(settlement(id, grant, 550, START)).map(drop),
    }
}

/// Where the buyer stands: what is left of its limit and what it has spent.
fn stand(exchange: &Exchange, grant: KeyGrant) -> (Option<NanoUsd>, NanoUsd, NanoUsd) {
    let status = exchange.key_status(&grant.key, START).unwrap();
    (status.key.limit_remaining, status.account_spent, status.held)
}

/// Exchange after exchange dies, at whatever of the calls and whatever of them the journal had: when the caller has
/// repeated them, the books and what `stand` tells are those of a market that nothing disturbed, and are given back.
pub(super) fn at_each_call_it_dies<S: PartialEq + Debug>(
    open: impl Fn() -> (Exchange, KeyGrant),
    stand: impl Fn(&Exchange, KeyGrant) -> S,
) -> S {
    let (undisturbed, grant) = open();
    (0..CALLS).for_each(|n| call(&undisturbed, grant, n).unwrap());
    let want = (books(&undisturbed), stand(&undisturbed, grant));
    for (written, answered) in (0..=CALLS).flat_map(|a| (0..=a).map(move |w| (w, a))) {
        let (mut exchange, grant) = open();
        exchange.flush().unwrap();
        for n in 0..answered {
            call(&exchange, grant, n).unwrap();
            if n + 1 == written {
                exchange.flush().unwrap();
            }
        }
        // Also when the next one dies before it has written anything.
        for _ in 0..2 {
            exchange = exchange.killed(START).unwrap();
            for n in 0..answered {
                let repeated = call(&exchange, grant, n);
                // What is settled needs no hold.
                let is_gone = written == CALLS && n + 1 < CALLS && repeated == Err(FundsError::NoHold);
                assert!(repeated.is_ok() || is_gone, "{written} of {answered}: {n}: {repeated:?}");
            }
        }
        (answered..CALLS).for_each(|n| call(&exchange, grant, n).unwrap());
        let found = (books(&exchange), stand(&exchange, grant));
        assert_eq!(found, want, "{written} of {answered} calls were written");
        check_clean(&exchange);
        assert_eq!(exchange.open_holds(), 0);
    }
    want.1
}

#[test]
fn at_whatever_call_the_exchange_dies_and_whatever_it_had_written() {
    for (limit, left) in [(None, None), (Some(700), Some(NanoUsd(150)))] {
        let open = || {
            let exchange = market();
            let grant = key(&exchange, limit);
            (exchange, grant)
        };
        assert_eq!(at_each_call_it_dies(open, stand), (left, NanoUsd(550), NanoUsd(0)));
    }
}

#[test]
fn a_hold_that_nobody_repeats_is_kept_until_its_time_is_over() {
    let exchange = market();
    let grant = key(&exchange, Some(700));
    (0..2).for_each(|n| call(&exchange, grant, n).unwrap());
    exchange.flush().unwrap();
    let exchange = exchange.killed(START).unwrap();
    assert_eq!(exchange.open_holds(), 2, "money and allowance");
    assert_eq!(
        call(&exchange, grant, 3),
        Err(FundsError::NoHold),
        "it is settled by whoever repeats it first"
    );
    assert_eq!(exchange.tick(UnixMs(START.0 + 59_999)), Ok(0));
    assert_eq!(exchange.tick(UnixMs(START.0 + 60_000)), Ok(2));
    assert_eq!(call(&exchange, grant, 0), Err(FundsError::NoHold), "and then it is gone");
    assert_eq!(stand(&exchange, grant), (Some(NanoUsd(700)), NanoUsd(0), NanoUsd(0)));
    check_clean(&exchange);

    // One whose time was over while nobody was there.
    call(&exchange, grant, 0).unwrap_err();
    exchange.hold(&hold(request(2, START), grant, 10, START)).unwrap();
    exchange.flush().unwrap();
    let exchange = exchange.killed(UnixMs(START.0 + 60_000)).unwrap();
    assert_eq!(exchange.open_holds(), 0);
}

#[test]
fn what_is_not_repeated_is_not_settled_however_little_is_asked() {
    for limit in [None, Some(700)] {
        let exchange = market();
        let grant = key(&exchange, limit);
        (0..3).for_each(|n| call(&exchange, grant, n).unwrap());
        exchange.flush().unwrap();
        let exchange = exchange.killed(START).unwrap();
        let before = books(&exchange);
        for charge in [0, 1, 600] {
            let settled = exchange.settle(settlement(request(1, START), grant, charge, START));
            assert_eq!(settled, Err(FundsError::NoHold), "{charge} of a hold that nobody repeated");
        }
        assert_eq!(books(&exchange), before);
        check_clean(&exchange);
    }
}

#[test]
fn only_what_is_repeated_can_be_settled_and_only_by_its_account() {
    let exchange = market();
    let grant = key(&exchange, None);
    let other = key(&exchange, Some(700));
    (0..3).for_each(|n| call(&exchange, grant, n).unwrap());
    exchange.flush().unwrap();
    let exchange = exchange.killed(START).unwrap();
    let id = request(1, START);
    assert_eq!(exchange.hold(&hold(id, grant, 601, START)), Err(FundsError::Conflict), "more than is held");
    let later = UnixMs(START.0 + 1);
    assert_eq!(exchange.hold(&hold(id, grant, 300, later)), Err(FundsError::Conflict), "another time");
    let unknown = KeyGrant { key: bourse_types::KeyHash([9; 32]), ..grant };
    assert_eq!(exchange.hold(&hold(id, unknown, 300, START)), Err(FundsError::UnknownKey));
    call(&exchange, grant, 0).unwrap();
    call(&exchange, grant, 1).unwrap();
    let exceeds = FundsError::ExceedsHold { charge: NanoUsd(550), held: NanoUsd(500) };
    assert_eq!(call(&exchange, grant, 3), Err(exceeds), "its last extension was not repeated");
    assert_eq!(exchange.settle(settlement(id, other, 100, START)).unwrap_err(), FundsError::Conflict);
    exchange.settle(settlement(id, grant, 500, START)).unwrap();
    assert_eq!(stand(&exchange, grant), (None, NanoUsd(500), NanoUsd(0)), "the rest went back");
    check_clean(&exchange);
}

#[test]
fn a_settlement_that_comes_before_its_hold_is_repeated_moves_nothing() {
    for limit in [None, Some(700)] {
        let exchange = market();
        let grant = key(&exchange, limit);
        (0..2).for_each(|n| call(&exchange, grant, n).unwrap());
        exchange.flush().unwrap();
        let exchange = exchange.killed(START).unwrap();
        let (before, digest) = (books(&exchange), exchange.digest());
        let early = exchange.settle(settlement(request(1, START), grant, 400, START));
        assert_eq!(early.map(drop), Err(FundsError::NoHold), "nobody has repeated the hold");
        assert_eq!((books(&exchange), exchange.digest()), (before, digest));
        check_clean(&exchange);
        (0..CALLS).for_each(|n| call(&exchange, grant, n).unwrap());
        assert_eq!(stand(&exchange, grant).1, NanoUsd(550));
        check_clean(&exchange);
    }
}

#[test]
fn closing_in_order_leaves_them_to_the_next_one() {
    let exchange = market();
    let grant = key(&exchange, None);
    call(&exchange, grant, 0).unwrap();
    exchange.close().unwrap();
    let exchange = exchange.killed(START).unwrap();
    assert_eq!(exchange.open_holds(), 1);
    (0..CALLS).for_each(|n| call(&exchange, grant, n).unwrap());
    check_clean(&exchange);
}

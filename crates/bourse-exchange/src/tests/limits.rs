//! Limits that begin anew, keys that expire or are switched off, and who may buy at all.

use super::support::{START, extension, hold, request, settlement};
use super::{ask, check_clean, market, market_in, refused};
use crate::{AdminReply, Exchange, ExchangeConfig, check, hash_key};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::{Funds, FundsError, KeyGrant, Records};
use std::sync::atomic::{AtomicU64, Ordering};

/// A key made by these JSON fields.
fn key_with(exchange: &Exchange, fields: &str) -> KeyGrant {
    let reply = ask(exchange, &format!(r#"{{"op":"create_key","label":"test",{fields}}}"#));
    let AdminReply::KeyCreated { secret, .. } = reply else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), START).unwrap()
}

fn at(text: &str) -> UnixMs {
    UnixMs::parse_iso(text).unwrap_or_else(|| panic!("{text}"))
}

/// `TIME hold N AMOUNT`, `TIME extend N STEP AMOUNT`, `TIME settle N TOTAL`: gives one word per line. Ids are
/// made at the time of their hold. A limit of 1,000 with this reset.
fn check_windows(reset: &str, script: &str, want: &str) {
    let exchange = market(1_000_000);
    let grant = key_with(&exchange, &format!(r#""limit_usd":"0.000001","reset":"{reset}""#));
    let mut made = std::collections::HashMap::new();
    let mut words = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let (now, n) = (at(parts[0]), |i: usize| parts[i].parse::<u64>().unwrap());
        let id = request(n(2), *made.entry(n(2)).or_insert(now));
        let result = match parts[1] {
            "hold" => exchange.hold(&hold(id, grant, n(3), now)),
            "extend" => exchange.extend(&extension(id, n(3) as u16, n(4), now)),
            _ => exchange.settle(settlement(id, grant, n(3), now)).map(drop),
        };
        words.push(match result {
            Ok(()) => "ok".to_owned(),
            Err(FundsError::OverBudget { budget, .. }) => format!("limit:{}", budget.left.0),
            Err(other) => format!("{other:?}"),
        });
    }
    assert_eq!(words.join(" "), want, "{reset}: {script}");
    check_clean(&exchange);
}

#[test]
fn a_limit_begins_anew_at_midnight_utc() {
    let script = "2083-01-15T23:59:59Z hold 1 1000
                  2083-01-15T23:59:59.999Z hold 2 1
                  2083-01-15T23:59:59.999Z settle 1 1000
                  2083-01-15T23:59:59.999Z hold 3 1
                  2083-01-16T00:00:00Z hold 4 1001
                  2083-01-16T00:00:00Z hold 4 1000
                  2083-01-16T12:00:00Z hold 5 1";
    check_windows("daily", script, "ok limit:0 ok limit:0 limit:1000 ok limit:0");
    // 2083-01-18 is a Monday.
    let script = "2083-01-15 hold 1 1000
                  2083-01-15 settle 1 900
                  2083-01-17T23:59:59Z hold 2 101
                  2083-01-18 hold 2 1000";
    check_windows("weekly", script, "ok ok limit:100 ok");
    check_windows("monthly", script, "ok ok limit:100 limit:100");
    let script = "2083-01-31T23:59:59Z hold 1 1000
                  2083-01-31T23:59:59Z settle 1 1000
                  2083-02-01 hold 2 1000";
    check_windows("monthly", script, "ok ok ok");
    check_windows("none", script, "ok ok limit:0");
}

#[test]
fn what_is_in_flight_at_midnight_counts_in_the_window_in_which_it_settles() {
    let held = "2083-01-15T23:59:00Z hold 1 600
                2083-01-16T00:00:01Z hold 2 401
                2083-01-16T00:00:01Z hold 2 400
                2083-01-16T00:00:02Z settle 1 100
                2083-01-16T00:00:02Z hold 3 501
                2083-01-16T00:00:02Z hold 3 500";
    check_windows("daily", held, "ok limit:400 ok ok limit:500 ok");
    let settled_first = "2083-01-15T23:59:00Z hold 1 600
                         2083-01-16T00:00:01Z settle 1 600
                         2083-01-16T00:00:02Z hold 2 401
                         2083-01-16T00:00:02Z hold 2 400";
    check_windows("daily", settled_first, "ok ok limit:400 ok");
    let extended = "2083-01-15T23:00:00Z hold 1 400
                    2083-01-15T23:00:00Z hold 2 600
                    2083-01-15T23:59:00Z settle 2 600
                    2083-01-15T23:59:59Z extend 1 1 1
                    2083-01-16T00:00:00Z extend 1 1 601
                    2083-01-16T00:00:00Z extend 1 1 600
                    2083-01-17T00:00:00Z extend 1 2 1
                    2083-01-17T00:00:00Z settle 1 1000";
    check_windows("daily", extended, "ok ok ok limit:0 limit:600 ok limit:0 ok");
    let clock_goes_back = "2083-01-16T00:00:00Z hold 1 1000
                           2083-01-15T23:59:59Z hold 2 1";
    check_windows("daily", clock_goes_back, "ok limit:0");
}

#[test]
fn a_window_survives_a_restart_and_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let fields = r#""limit_usd":"0.000001","reset":"daily""#;
    let (day, next) = (at("2083-01-15T10:00:00Z"), at("2083-01-16T10:00:00Z"));
    let exchange = market_in(dir.path(), 1_000_000);
    let grant = key_with(&exchange, fields);
    let serve = |exchange: &Exchange, n: u64, now: UnixMs| {
        exchange.hold(&hold(request(n, now), grant, 700, now)).unwrap();
        exchange.settle(settlement(request(n, now), grant, 700, now)).unwrap();
    };
    serve(&exchange, 1, day);
    exchange.close().unwrap();
    drop(exchange);
    let exchange = market_in(dir.path(), 0);
    let over = exchange.hold(&hold(request(2, day), grant, 301, day));
    assert_eq!(over.unwrap_err().money_left(), Some(NanoUsd(300)));
    serve(&exchange, 3, next);
    let status = exchange.key_status(&grant.key, next).unwrap().key;
    assert_eq!((status.usage.total.0, status.usage.daily.0, status.usage.monthly.0), (1_400, 700, 1_400));
    assert_eq!(status.limit_remaining, Some(NanoUsd(300)));
    let later = exchange.key_status(&grant.key, at("2083-01-17")).unwrap().key;
    assert_eq!((later.usage.daily.0, later.limit_remaining), (0, Some(NanoUsd(1_000))));
    exchange.close().unwrap();
    let digest = exchange.digest();
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(super::facts(report).state_digest, digest.to_string());
}

#[test]
fn a_limit_set_on_a_busy_key_counts_what_was_held_before_in_every_window() {
    let exchange = market(1_000_000);
    let grant = super::key(&exchange, None);
    let (day, next) = (at("2083-01-15T23:00:00Z"), at("2083-01-16"));
    exchange.hold(&hold(request(1, day), grant, 600, day)).unwrap();
    ask(&exchange, r#"{"op":"limit_key","key":"test","limit_usd":"0.000001","reset":"daily"}"#);
    let free = |n: u64, now: UnixMs| match exchange.hold(&hold(request(n, now), grant, 9_999, now)) {
        Err(FundsError::OverBudget { budget, .. }) => budget.left.0,
        other => panic!("{other:?}"),
    };
    assert_eq!((free(2, day), free(3, next)), (400, 400), "its holder may still settle 600 today");
    exchange.settle(settlement(request(1, day), grant, 600, next)).unwrap();
    assert_eq!((free(4, next), free(5, at("2083-01-17"))), (400, 1_000));
    check_clean(&exchange);
}

#[test]
fn expired_disabled_and_management_keys_do_not_buy() {
    let exchange = market(1_000_000);
    let expires = START.0 + 1_000;
    let grant = key_with(&exchange, &format!(r#""expires_ms":{expires}"#));
    let hold_at = |ms: u64| exchange.hold(&hold(request(ms, START), grant, 1, UnixMs(ms)));
    assert_eq!(hold_at(expires - 1), Ok(()));
    assert_eq!(hold_at(expires), Err(FundsError::ExpiredKey));
    assert_eq!(exchange.authenticate(&grant.key, UnixMs(expires)), Err(FundsError::ExpiredKey));
    let held = settlement(request(expires - 1, START), grant, 1, UnixMs(expires));
    assert!(exchange.settle(held).is_ok(), "what is held is settled");
    let late = format!(r#"{{"op":"create_key","label":"a","expires_ms":{}}}"#, START.0);
    assert_eq!(refused(&exchange, &late), "`expires_at` must be in the future and before the year 10,000");

    let exchange = market(1_000_000);
    let grant = key_with(&exchange, r#""account":"team""#);
    ask(&exchange, r#"{"op":"disable_key","key":"test"}"#);
    assert_eq!(exchange.authenticate(&grant.key, START), Err(FundsError::DisabledKey));
    assert_eq!(exchange.hold(&hold(request(1, START), grant, 0, START)), Err(FundsError::DisabledKey));
    ask(&exchange, r#"{"op":"enable_key","key":"test"}"#);
    assert_eq!(exchange.hold(&hold(request(1, START), grant, 0, START)), Ok(()));
    let manager = key_with(&exchange, r#""management":true"#);
    assert_eq!(exchange.hold(&hold(request(2, START), manager, 0, START)), Err(FundsError::ManagementKey));
    let odd = r#"{"op":"create_key","label":"a","reset":"hourly"}"#;
    assert_eq!(refused(&exchange, odd), "`reset` is `hourly`; it can be none, daily, weekly or monthly");
    check_clean(&exchange);
}

#[test]
fn a_key_that_is_taken_away_buys_nothing_more() {
    let exchange = market(1_000_000);
    let expires = START.0 + 1_000;
    let grant = key_with(&exchange, &format!(r#""expires_ms":{expires}"#));
    exchange.hold(&hold(request(1, START), grant, 10, START)).unwrap();
    let extend = |step: u16, now: UnixMs| exchange.extend(&extension(request(1, START), step, 10, now));
    assert_eq!(extend(1, UnixMs(expires)), Ok(()), "what has begun may end");
    ask(&exchange, r#"{"op":"disable_key","key":"test"}"#);
    assert_eq!(extend(1, START), Ok(()), "the same step again is no more");
    assert_eq!(extend(2, START), Err(FundsError::DisabledKey));
    ask(&exchange, r#"{"op":"enable_key","key":"test"}"#);
    assert_eq!(extend(2, START), Ok(()), "a refused step is not used up");
    ask(&exchange, r#"{"op":"revoke_key","key":"test"}"#);
    assert_eq!(extend(3, START), Err(FundsError::RevokedKey));
    assert!(
        exchange.settle(settlement(request(1, START), grant, 30, START)).is_ok(),
        "what is held is settled"
    );
    check_clean(&exchange);
}

/// Two days, many callers on each side of midnight at once: no day settles more than the limit.
#[test]
fn callers_around_midnight_never_pass_a_days_limit() {
    const LIMIT: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let config = ExchangeConfig { starting_credit: NanoUsd::from_usd(1), ..ExchangeConfig::default() };
    let exchange = Exchange::open(dir.path(), config, START).unwrap();
    let grant = key_with(&exchange, r#""limit_usd":"0.0001","reset":"daily""#);
    let midnight = at("2083-01-16");
    let (clock, charged) = (AtomicU64::new(midnight.0 - 400), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for caller in 0..16u64 {
            let (exchange, clock, charged) = (&exchange, &clock, &charged);
            scope.spawn(move || {
                for n in 0..100 {
                    let now = UnixMs(clock.fetch_add(1, Ordering::Relaxed));
                    let id = request(caller * 1_000 + n, now);
                    match exchange.hold(&hold(id, grant, 900, now)) {
                        Ok(()) => {}
                        Err(FundsError::OverBudget { .. }) => continue,
                        Err(other) => panic!("{other}"),
                    }
                    let later = UnixMs(clock.fetch_add(1, Ordering::Relaxed));
                    let settled = exchange.settle(settlement(id, grant, 899 - n, later)).unwrap();
                    charged.fetch_add(settled.cost.0, Ordering::Relaxed);
                }
            });
        }
    });
    let after = exchange.key_status(&grant.key, UnixMs(midnight.0 + 5_000)).unwrap().key.usage;
    assert_eq!(after.total.0, charged.into_inner());
    let before = after.total.0 - after.daily.0;
    assert!(before <= LIMIT && after.daily.0 <= LIMIT, "{before} and {}", after.daily.0);
    // The last refusals may have come while others held more than they settled.
    assert!(after.daily.0 > LIMIT - 3_000, "the second day was used up: {}", after.daily.0);
    assert_eq!(exchange.open_holds(), 0);
    check_clean(&exchange);
}

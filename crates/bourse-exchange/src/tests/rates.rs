//! Rates: sliding windows of requests and tokens that give themselves back, to the millisecond.

use super::support::{START, hold, request, settlement};
use super::{ask, books, check_clean, market};
use crate::core::RELEASES_PER_STEP_MAX;
use crate::{AdminReply, Exchange, ExchangeConfig, hash_key};
use bourse_ledger::Limits;
use bourse_types::{DurationMs, NanoUsd, UnixMs};
use bourse_wire::funds::{Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, RateUnit, Records};
use proptest::prelude::*;
use std::collections::HashMap;

fn after(ms: u64) -> UnixMs {
    UnixMs(START.0 + ms)
}

fn key_with(exchange: &Exchange, label: &str, fields: &str) -> KeyGrant {
    let reply = ask(exchange, &format!(r#"{{"op":"create_key","label":"{label}"{fields}}}"#));
    let AdminReply::KeyCreated { secret, .. } = reply else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), START).unwrap()
}

/// Keys `a` and `b` in the workspace `w`, and `c` outside.
fn keys(exchange: &Exchange) -> HashMap<&'static str, KeyGrant> {
    ask(exchange, r#"{"op":"create_workspace","slug":"w"}"#);
    let within = |label| key_with(exchange, label, r#","workspace":"w""#);
    HashMap::from([("a", within("a")), ("b", within("b")), ("c", key_with(exchange, "c", ""))])
}

/// `set_rates` for `key NAME`, `workspace` or `organization`.
fn set(exchange: &Exchange, scope: &str, fields: &str, now: UnixMs) {
    let of = match scope.split_once(' ') {
        Some((_, key)) => format!(r#"{{"scope":"key","key":"{key}"}}"#),
        None if scope == "workspace" => r#"{"scope":"workspace","workspace":"w"}"#.to_owned(),
        None => r#"{"scope":"organization"}"#.to_owned(),
    };
    let json = format!(r#"{{"op":"set_rates","of":{of},{fields}}}"#);
    exchange.admin(serde_json::from_str(&json).unwrap(), now).unwrap();
}

fn asked(n: u64, grant: KeyGrant, amount: u64, tokens: u64, now: UnixMs) -> HoldRequest {
    HoldRequest { tokens: Some(tokens), ..hold(request(n, now), grant, amount, now) }
}

fn word(result: Result<(), FundsError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(FundsError::RateLimited { rate, retry_after, .. }) => {
            let wait = retry_after.map_or("never".to_owned(), |span| span.0.to_string());
            format!("{}:{}:{}:{wait}", rate.scope.as_str(), rate.unit.as_str(), rate.left)
        }
        Err(FundsError::InsufficientFunds { .. }) => "poor".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

/// `MS KEY TOKENS` asks, `MS tick` lets the keeper come, `MS set SCOPE… | FIELDS` sets rates. One word for each request.
fn check_rates(script: &str, want: &str) {
    let exchange = market(1_000_000);
    let keys = keys(&exchange);
    let mut words = Vec::new();
    for (n, line) in script.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let (ms, rest) = line.split_once(' ').unwrap();
        let now = after(ms.parse().unwrap());
        if let Some(rates) = rest.strip_prefix("set ") {
            let (scope, fields) = rates.split_once(" | ").unwrap();
            set(&exchange, scope, fields, now);
        } else if rest == "tick" {
            exchange.tick(now).unwrap();
        } else {
            let (key, tokens) = rest.split_once(' ').unwrap();
            words.push(word(exchange.hold(&asked(n as u64, keys[key], 1, tokens.parse().unwrap(), now))));
        }
    }
    assert_eq!(words.join(" "), want, "{script}");
    check_clean(&exchange);
}

#[test]
fn requests_are_let_in_until_the_window_is_full_and_again_as_it_slides() {
    let script = r#"0 set key a | "requests_per_minute":3
                    0 a 9
                    10000 a 9
                    20000 a 9
                    20000 b 9
                    30000 a 9
                    59999 a 9
                    60000 a 9
                    60000 a 9
                    69999 a 9
                    70000 a 9
                    200000 a 9"#;
    let want =
        "ok ok ok ok key:requests:0:30000 key:requests:0:1 ok key:requests:0:10000 key:requests:0:1 ok ok";
    check_rates(script, want);
    let with_keeper = script.replace("60000 a 9\n", "60000 tick\n 60000 a 9\n");
    check_rates(&with_keeper, want);
}

#[test]
fn tokens_wait_for_as_many_entries_as_they_need() {
    let script = r#"0 set organization | "tokens_per_minute":100
                    0 a 60
                    1000 b 30
                    2000 c 10
                    3000 a 1
                    3000 a 60
                    3000 a 61
                    3000 a 91
                    3000 a 100
                    3000 a 101
                    3000 a 0
                    60000 a 60"#;
    let left = "organization:tokens:0";
    let want = format!(
        "ok ok ok {left}:57000 {left}:57000 {left}:58000 {left}:59000 {left}:59000 {left}:never ok ok"
    );
    check_rates(script, &want);
}

#[test]
fn a_large_request_is_let_in_once_many_small_ones_are_over() {
    let exchange = market(1_000_000);
    let grant = keys(&exchange)["a"];
    let small = 3 * RELEASES_PER_STEP_MAX as u64;
    set(&exchange, "organization", &format!(r#""tokens_per_minute":{small}"#), START);
    for n in 0..small {
        exchange.hold(&asked(n, grant, 1, 1, START)).unwrap();
    }
    let large = |n, now| word(exchange.hold(&asked(n, grant, 1, small, now)));
    assert_eq!(large(small, after(59_999)), "organization:tokens:0:1");
    assert_eq!(large(small, after(60_000)), "ok", "the keeper has not come");
    check_clean(&exchange);
}

#[test]
fn of_several_rates_the_one_that_is_free_last_is_named() {
    let script = r#"0 set key a | "requests_per_minute":1
                    0 set workspace | "requests_per_minute":2,"tokens_per_minute":50
                    0 set organization | "requests_per_minute":3
                    0 c 10
                    5000 a 10
                    6000 b 10
                    7000 a 10
                    8000 b 45
                    8000 c 1
                    60000 c 1"#;
    let want = "ok ok ok key:requests:0:58000 workspace:tokens:30:58000 organization:requests:0:52000 ok";
    check_rates(script, want);
}

#[test]
fn a_rate_that_changes_binds_at_once_and_a_lifted_one_no_more() {
    let script = r#"0 set key a | "requests_per_minute":3
                    0 a 1
                    1000 a 1
                    2000 a 1
                    3000 set key a | "requests_per_minute":2
                    3000 a 1
                    60000 a 1
                    61000 a 1
                    61000 set key a | "requests_per_minute":4
                    61000 a 1
                    61000 a 1
                    61000 a 1
                    61000 set key a | "requests_per_minute":0
                    61000 a 1
                    61000 set key a | "requests_per_minute":6
                    61000 a 1
                    61000 a 1
                    61000 a 1"#;
    // 3,000: three are in the window of two, so two of them must go before one more may come.
    let want = "ok ok ok key:requests:0:58000 key:requests:0:1000 ok ok ok key:requests:0:1000 ok ok ok key:requests:0:1000";
    check_rates(script, want);
}

#[test]
fn a_refused_request_takes_nothing_of_anything() {
    let exchange = market(100);
    let keys = keys(&exchange);
    set(&exchange, "key a", r#""requests_per_minute":2"#, START);
    set(&exchange, "workspace", r#""tokens_per_minute":50"#, START);
    let ask = |n, amount, tokens| word(exchange.hold(&asked(n, keys["a"], amount, tokens, START)));
    let state = || (books(&exchange), exchange.open_holds());
    let before = state();
    assert_eq!(ask(1, 101, 10), "poor");
    assert_eq!(ask(2, 10, 51), "workspace:tokens:50:never");
    assert_eq!(state(), before);
    assert_eq!((ask(3, 10, 50), ask(4, 10, 1)), ("ok".into(), "workspace:tokens:0:60000".into()));
    assert_eq!(exchange.open_holds(), 1, "entries of rates are no holds");
    assert_eq!(ask(5, 10, 0), "ok", "what needs none takes none");
    check_clean(&exchange);
}

#[test]
fn what_was_let_in_counts_for_its_minute_however_it_ends() {
    let exchange = market(1_000);
    let grant = keys(&exchange)["a"];
    set(&exchange, "key a", r#""requests_per_minute":1,"tokens_per_minute":100"#, START);
    exchange.hold(&asked(1, grant, 100, 60, START)).unwrap();
    exchange.hold(&asked(1, grant, 100, 60, START)).unwrap();
    exchange.settle(settlement(request(1, START), grant, 10, after(5))).unwrap();
    let rates = |now| exchange.key_status(&grant.key, now).unwrap().rates;
    let of = |unit, now| rates(now).into_iter().find(|rate| rate.unit == unit).unwrap();
    let requests = of(RateUnit::Requests, after(6));
    assert_eq!((requests.used, requests.left, requests.resets_at), (1, 0, Some(after(60_000))));
    let tokens = of(RateUnit::Tokens, after(6));
    assert_eq!((tokens.limit, tokens.used, tokens.left), (100, 60, 40), "the same hold again is one");
    // One that goes on with another counts towards no rate.
    let goes_on = HoldRequest { tokens: None, ..hold(request(2, START), grant, 1, after(6)) };
    assert_eq!(exchange.hold(&goes_on), Ok(()));
    assert_eq!(of(RateUnit::Requests, after(59_999)).used, 1);
    let free = of(RateUnit::Requests, after(60_000));
    assert_eq!((free.used, free.left, free.resets_at), (0, 1, None), "before anybody has given it back");
    assert_eq!(exchange.tick(after(60_000)), Ok(2));
    assert_eq!(exchange.tick(after(60_006)), Ok(1), "the other's money");
    check_clean(&exchange);
}

#[test]
fn an_extension_takes_what_is_left_and_is_never_refused() {
    let exchange = market(10_000);
    let grant = keys(&exchange)["a"];
    set(&exchange, "organization", r#""tokens_per_minute":100"#, START);
    set(&exchange, "key a", r#""requests_per_minute":1"#, START);
    exchange.hold(&asked(1, grant, 100, 60, START)).unwrap();
    let used =
        |now| exchange.key_status(&grant.key, now).unwrap().rates.iter().map(|rate| rate.used).sum::<u64>();
    let extend = |step, amount, tokens, now| {
        let (request, amount, byok) = (request(1, START), NanoUsd(amount), NanoUsd(0));
        exchange.extend(&HoldExtension { request, step, amount, byok, tokens, now })
    };
    assert_eq!((extend(1, 10, 30, after(1_000)), used(after(1_000))), (Ok(()), 1 + 90));
    assert_eq!((extend(1, 10, 30, after(1_000)), used(after(1_000))), (Ok(()), 1 + 90), "the same again");
    assert_eq!((extend(2, 10, 30, after(2_000)), used(after(2_000))), (Ok(()), 1 + 100), "what is left");
    assert_eq!((extend(3, 10, 30, after(3_000)), used(after(3_000))), (Ok(()), 1 + 100), "nothing is");
    assert_eq!((extend(4, 0, 30, after(60_000)), used(after(60_000))), (Ok(()), 70), "that costs nothing");
    assert_eq!(exchange.settle(settlement(request(1, START), grant, 130, after(60_001))).map(drop), Ok(()));
    check_clean(&exchange);
}

/// The clock went back, so the books' time stands still, and their memory of ids is full of its one millisecond.
#[test]
fn what_the_house_makes_is_new_to_books_that_forgot_ids_of_this_millisecond() {
    let limits = Limits { known_ids_max: 8, ..Limits::default() };
    let config = ExchangeConfig { limits, starting_credit: NanoUsd(10_000), ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let grant = keys(&exchange)["a"];
    set(&exchange, "organization", r#""tokens_per_minute":1000"#, START);
    exchange.hold(&asked(1, grant, 100, 60, START)).unwrap();
    for n in 2..40 {
        exchange.hold(&asked(n, grant, 1, 1, START)).unwrap_or_else(|refused| {
            assert_eq!(refused, FundsError::TooMany("requests since this one arrived"), "{n}");
        });
    }
    let used = |now| exchange.key_status(&grant.key, now).unwrap().rates.iter().map(|rate| rate.used).sum();
    let before: u64 = used(START);
    let (request, amount, byok) = (request(1, START), NanoUsd(10), NanoUsd(0));
    let earlier = UnixMs(START.0 - 3_000_000);
    for step in 1..=9 {
        exchange.extend(&HoldExtension { request, step, amount, byok, tokens: 30, now: earlier }).unwrap();
        assert_eq!(used(START), before + 30 * u64::from(step));
    }
    ask(&exchange, r#"{"op":"credit","account":"operator","amount_usd":"1"}"#);
    set(&exchange, "organization", r#""tokens_per_minute":2000"#, earlier);
    check_clean(&exchange);
}

#[test]
fn a_restart_is_no_way_around_a_rate() {
    let exchange = market(1_000);
    let grant = keys(&exchange)["a"];
    set(&exchange, "key a", r#""requests_per_minute":2"#, START);
    exchange.hold(&asked(1, grant, 100, 0, START)).unwrap();
    exchange.hold(&asked(2, grant, 100, 0, after(1_000))).unwrap();
    exchange.flush().unwrap();
    let exchange = exchange.killed(after(2_000)).unwrap();
    assert_eq!(exchange.open_holds(), 0, "the money is given back");
    let refused = exchange.hold(&asked(3, grant, 1, 0, after(3_000)));
    assert_eq!(word(refused), "key:requests:0:57000");
    exchange.close().unwrap();
    let exchange = exchange.killed(after(4_000)).unwrap();
    let refused = exchange.hold(&asked(3, grant, 1, 0, after(59_999)));
    assert_eq!(word(refused), "key:requests:0:1");
    assert_eq!(word(exchange.hold(&asked(4, grant, 1, 0, after(60_000)))), "ok");
    check_clean(&exchange);
}

#[test]
fn a_ledger_without_room_refuses_the_whole_request() {
    let limits = Limits { pendings_max: 5, ..Limits::default() };
    let config = ExchangeConfig { starting_credit: NanoUsd(1_000), limits, ..ExchangeConfig::default() };
    let exchange = Exchange::in_memory(config, [7; 32], START).unwrap();
    let keys = keys(&exchange);
    set(&exchange, "key a", r#""requests_per_minute":9,"tokens_per_minute":900"#, START);
    let ask = |n, key: &str, now| exchange.hold(&asked(n, keys[key], 10, 10, now));
    assert_eq!(ask(1, "a", START), Ok(()), "three of five");
    let before = (books(&exchange), exchange.key_status(&keys["a"].key, START).unwrap().rates);
    assert_eq!(ask(2, "a", START), Err(FundsError::TooMany("open holds")), "two are left, three are needed");
    assert_eq!((books(&exchange), exchange.key_status(&keys["a"].key, START).unwrap().rates), before);
    assert_eq!((ask(3, "b", START), ask(4, "b", START)), (Ok(()), Ok(())), "others need one each");
    assert_eq!(ask(5, "b", START), Err(FundsError::TooMany("open holds")));
    assert_eq!(
        ask(6, "a", after(60_000)),
        Err(FundsError::TooMany("open holds")),
        "money waits for the keeper"
    );
    exchange.tick(after(60_000)).unwrap();
    assert_eq!(ask(7, "a", after(60_000)), Ok(()));
    check_clean(&exchange);
}

#[test]
fn a_key_without_rates_costs_no_event_more() {
    let exchange = market(1_000_000);
    let events = || exchange.shared.core.lock().state.events_applied();
    let serve = |n: u64, grant: KeyGrant| {
        let before = events();
        exchange.hold(&asked(n, grant, 100, 7, START)).unwrap();
        exchange.settle(settlement(request(n, START), grant, 100, START)).unwrap();
        events() - before
    };
    let keys = keys(&exchange);
    serve(1, keys["c"]);
    assert_eq!(serve(2, keys["c"]), 5, "hold, post, seller, fee, rounding");
    set(&exchange, "workspace", r#""requests_per_minute":9,"tokens_per_minute":900"#, START);
    assert_eq!(serve(3, keys["c"]), 5);
    assert_eq!(serve(4, keys["a"]), 7, "and one for each rate");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At random times with random amounts, keeper or not, restarts or not: what is let in and when to come back are what
    /// a list of what was let in says.
    #[test]
    fn a_rate_is_a_sliding_window(
        asks in proptest::collection::vec((0u64..9_000, 0u64..70, 0u8..12), 1..80), limit in 1u64..100,
    ) {
        let mut exchange = market(u64::MAX / 4);
        let grant = keys(&exchange)["a"];
        set(&exchange, "organization", &format!(r#""tokens_per_minute":{limit}"#), START);
        exchange.flush().unwrap();
        let (mut now, mut taken) = (START, Vec::<(u64, u64)>::new());
        for (n, (step, tokens, event)) in asks.into_iter().enumerate() {
            now = UnixMs(now.0 + step);
            match event {
                0 => drop(exchange.tick(now).unwrap()),
                1 => {
                    exchange.flush().unwrap();
                    exchange = exchange.killed(now).unwrap();
                }
                _ => {}
            }
            let answer = exchange.hold(&asked(n as u64, grant, 1, tokens, now));
            taken.retain(|(until, _)| *until > now.0);
            let used: u64 = taken.iter().map(|(_, tokens)| tokens).sum();
            let want = if used + tokens <= limit {
                taken.push((now.0 + 60_000, tokens));
                None
            } else {
                let mut left = used;
                let enough = taken.iter().find(|(_, tokens_then)| { left -= tokens_then; left + tokens <= limit });
                Some((limit - used, enough.filter(|_| tokens <= limit).map(|(until, _)| DurationMs(until - now.0))))
            };
            let got = match answer {
                Ok(()) => None,
                Err(FundsError::RateLimited { rate, retry_after, .. }) => Some((rate.left, retry_after)),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            prop_assert_eq!(got, want, "{} tokens at {:?}", tokens, now);
        }
        let report = exchange.check(START).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
    }
}

//! Budgets of workspaces and organisations: the same mechanism as a key's limit, in one chain with it.

use super::support::{START, extension, hold, request, settlement};
use super::{adopt, ask, books, check_clean, market, market_in, refused};
use crate::{AdminReply, Exchange, LimitsInfo, check, hash_key};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{
    Accounts, AccountsError, Change, Funds, FundsError, KeyDraft, KeyGrant, LimitReset, LimitsPatch, Records,
    Scope, ScopeName, WORKSPACES_MAX, WORKSPACES_PAGE_MAX, WorkspaceDraft, Workspaces,
};
use std::collections::HashMap;

fn at(text: &str) -> UnixMs {
    UnixMs::parse_iso(text).unwrap_or_else(|| panic!("{text}"))
}

/// A key of the operator's account by these JSON fields.
fn key_with(exchange: &Exchange, fields: &str) -> KeyGrant {
    let reply = ask(exchange, &format!(r#"{{"op":"create_key","label":"test"{fields}}}"#));
    let AdminReply::KeyCreated { secret, .. } = reply else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), START).unwrap()
}

fn usd(nano: &str) -> String {
    NanoUsd(nano.parse().unwrap()).to_usd_string()
}

/// `scope interval` of a script as what is asked of the operator's surface.
fn of(scope: &str) -> &'static str {
    match scope {
        "workspace" => r#"{"scope":"workspace","workspace":"w"}"#,
        _ => r#"{"scope":"organization"}"#,
    }
}

fn set_budget(exchange: &Exchange, scope: &str, interval: &str, nano: &str, now: UnixMs) {
    let limit = if nano == "none" { String::new() } else { format!(r#","limit_usd":"{}""#, usd(nano)) };
    let json = format!(r#"{{"op":"set_budget","of":{},"interval":"{interval}"{limit}}}"#, of(scope));
    exchange.admin(serde_json::from_str(&json).unwrap(), now).unwrap();
}

fn limits(exchange: &Exchange, scope: &str, now: UnixMs) -> LimitsInfo {
    let json = format!(r#"{{"op":"limits","of":{}}}"#, of(scope));
    let reply = exchange.admin(serde_json::from_str(&json).unwrap(), now).unwrap();
    let AdminReply::Limits { limits } = reply else { panic!() };
    limits
}

/// A market with a workspace `w`, keys `a` and `b` in it, and a key `c` outside.
fn with_workspace(exchange: &Exchange) -> HashMap<&'static str, KeyGrant> {
    ask(exchange, r#"{"op":"create_workspace","slug":"w"}"#);
    let within = || key_with(exchange, r#","workspace":"w""#);
    HashMap::from([("a", within()), ("b", within()), ("c", key_with(exchange, ""))])
}

fn word(result: Result<(), FundsError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(FundsError::OverBudget { budget, .. }) => {
            let interval = if budget.reset == LimitReset::Never { "ever" } else { budget.reset.as_str() };
            format!("{}:{interval}:{}", budget.scope.as_str(), budget.left.0)
        }
        Err(FundsError::InsufficientFunds { available, .. }) => format!("poor:{}", available.0),
        Err(other) => format!("{other:?}"),
    }
}

/// `TIME hold N KEY AMOUNT`, `TIME extend N STEP AMOUNT`, `TIME settle N TOTAL`, `TIME budget SCOPE INTERVAL NANO|none`:
/// gives one word per line but the last kind.
fn check_script(credit: u64, script: &str, want: &str) {
    let exchange = market(credit);
    let keys = with_workspace(&exchange);
    let mut made: HashMap<u64, (UnixMs, KeyGrant)> = HashMap::new();
    let mut words = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let (now, n) = (at(parts[0]), |i: usize| parts[i].parse::<u64>().unwrap());
        let result = match parts[1] {
            "budget" => {
                set_budget(&exchange, parts[2], parts[3], parts[4], now);
                continue;
            }
            "hold" => {
                let grant = keys[parts[3]];
                let (made, _) = *made.entry(n(2)).or_insert((now, grant));
                exchange.hold(&hold(request(n(2), made), grant, n(4), now))
            }
            "extend" => {
                let request = request(n(2), made[&n(2)].0);
                exchange.extend(&extension(request, n(3) as u16, n(4), now))
            }
            _ => {
                let (made, grant) = made[&n(2)];
                exchange.settle(settlement(request(n(2), made), grant, n(3), now)).map(drop)
            }
        };
        words.push(word(result));
    }
    assert_eq!(words.join(" "), want, "{script}");
    exchange.tick(at("2084-01-01")).unwrap();
    check_clean(&exchange);
}

#[test]
fn a_workspaces_budget_binds_its_keys_and_no_other() {
    let script = "2083-01-15 budget workspace lifetime 1000
                  2083-01-15 hold 1 a 600
                  2083-01-15 hold 2 b 401
                  2083-01-15 hold 2 b 400
                  2083-01-15 hold 3 c 9000
                  2083-01-15 settle 1 100
                  2083-01-15 hold 4 b 501
                  2083-01-15 extend 2 1 501
                  2083-01-15 extend 2 1 500
                  2083-01-15 settle 2 900
                  2083-02-15 hold 5 a 1";
    let want = "ok workspace:ever:400 ok ok ok workspace:ever:500 workspace:ever:500 ok ok workspace:ever:0";
    check_script(1_000_000, script, want);
}

#[test]
fn an_organisations_budget_binds_all_keys_and_the_narrowest_is_named() {
    let script = "2083-01-15 budget organization daily 1000
                  2083-01-15 budget workspace daily 500
                  2083-01-15 hold 1 a 501
                  2083-01-15 hold 1 a 500
                  2083-01-15 hold 2 c 501
                  2083-01-15 hold 2 c 500
                  2083-01-15 settle 1 500
                  2083-01-15 settle 2 500
                  2083-01-16 hold 3 b 500
                  2083-01-16 hold 4 c 501
                  2083-01-16 hold 5 c 400
                  2083-01-16 hold 6 a 1";
    let want = "workspace:daily:500 ok organization:daily:500 ok ok ok ok organization:daily:500 ok workspace:daily:0";
    check_script(1_000_000, script, want);
    let poor = "2083-01-15 budget organization daily 1000
                2083-01-15 hold 1 a 51
                2083-01-15 hold 2 a 50
                2083-01-15 hold 3 c 1";
    check_script(50, poor, "poor:50 ok poor:0");
}

#[test]
fn each_window_of_a_workspace_begins_anew_in_its_own_time() {
    // 2083-01-31 is a Sunday.
    let script = "2083-01-30 budget workspace daily 100
                  2083-01-30 budget workspace weekly 150
                  2083-01-30 budget workspace monthly 190
                  2083-01-30 budget workspace lifetime 300
                  2083-01-30 hold 1 a 101
                  2083-01-30 hold 1 a 100
                  2083-01-30 settle 1 100
                  2083-01-31 hold 2 a 51
                  2083-01-31 hold 2 a 50
                  2083-01-31 settle 2 50
                  2083-02-01 hold 3 b 100
                  2083-02-01 settle 3 100
                  2083-02-02 hold 4 b 51
                  2083-02-02 hold 4 b 50
                  2083-02-02 settle 4 50
                  2083-02-08 hold 5 a 1";
    let want = "workspace:daily:100 ok ok workspace:weekly:50 ok ok ok ok workspace:weekly:50 ok ok workspace:ever:0";
    check_script(1_000_000, script, want);
}

#[test]
fn what_is_in_flight_at_midnight_counts_in_the_window_in_which_it_settles() {
    let script = "2083-01-15T23:00:00Z budget workspace daily 1000
                  2083-01-15T23:00:00Z budget organization daily 1500
                  2083-01-15T23:59:00Z hold 1 a 600
                  2083-01-16T00:00:01Z hold 2 b 401
                  2083-01-16T00:00:01Z hold 2 b 400
                  2083-01-16T00:00:02Z hold 3 c 501
                  2083-01-16T00:00:02Z settle 1 100
                  2083-01-16T00:00:02Z hold 4 a 501
                  2083-01-16T00:00:02Z hold 4 a 500
                  2083-01-16T00:00:02Z hold 5 c 500";
    let want = "ok workspace:daily:400 ok organization:daily:500 ok workspace:daily:500 ok ok";
    check_script(1_000_000, script, want);
}

#[test]
fn a_budget_that_is_set_late_knows_what_came_before() {
    let script = "2083-01-15 hold 1 a 300
                  2083-01-15 settle 1 300
                  2083-01-15 hold 2 b 200
                  2083-01-15 budget workspace daily 600
                  2083-01-15 hold 3 a 101
                  2083-01-15 hold 3 a 100
                  2083-01-15 settle 2 10
                  2083-01-15 budget workspace daily 600
                  2083-01-15 hold 4 a 191
                  2083-01-15 hold 4 a 190
                  2083-01-15 budget workspace daily 100
                  2083-01-15 hold 5 a 1
                  2083-01-15 settle 4 190
                  2083-01-15 budget workspace daily none
                  2083-01-15 hold 5 a 9999
                  2083-01-15 budget workspace weekly 10700
                  2083-01-15 hold 6 b 102
                  2083-01-15 hold 6 b 101";
    let want = "ok ok ok workspace:daily:100 ok ok workspace:daily:190 ok workspace:daily:0 ok ok workspace:weekly:101 ok";
    check_script(1_000_000, script, want);
}

#[test]
fn what_comes_back_after_a_budget_was_lowered_is_free_only_within_it() {
    // Spent and held are 900 of 1000 when the limit becomes 300. Of the hold of 800 come back 650, none of which is free;
    // of the rest, in the same millisecond, only what 300 leaves. The next window knows nothing of it.
    let script = "2083-01-15 budget workspace daily 1000
                  2083-01-15 hold 1 a 50
                  2083-01-15 settle 1 50
                  2083-01-15 hold 2 a 800
                  2083-01-15 hold 3 b 50
                  2083-01-15 budget workspace daily 300
                  2083-01-15 hold 4 a 1
                  2083-01-15 extend 3 1 1
                  2083-01-15 settle 2 150
                  2083-01-15 hold 4 a 51
                  2083-01-15 hold 4 a 50
                  2083-01-15 settle 4 10
                  2083-01-15 settle 3 20
                  2083-01-15 hold 5 b 71
                  2083-01-15 hold 5 b 70
                  2083-01-15 settle 5 70
                  2083-01-15 hold 6 b 1
                  2083-01-16 hold 6 b 301
                  2083-01-16 hold 6 b 300";
    let want = "ok ok ok ok workspace:daily:0 workspace:daily:0 ok workspace:daily:50 ok ok ok workspace:daily:70 ok ok workspace:daily:0 workspace:daily:300 ok";
    check_script(1_000_000, script, want);
    let never = "2083-01-15 budget organization lifetime 1000
                 2083-01-15 hold 1 a 900
                 2083-01-15 hold 2 c 100
                 2083-01-15 budget organization lifetime 10
                 2083-01-15 settle 1 20
                 2083-01-15 hold 3 a 1
                 2083-01-15 settle 2 1
                 2083-01-15 hold 3 a 1
                 2083-02-15 budget organization lifetime 22
                 2083-02-15 hold 3 a 2
                 2083-02-15 hold 3 a 1";
    let want = "ok ok ok organization:ever:0 ok organization:ever:0 organization:ever:1 ok";
    check_script(1_000_000, never, want);
}

#[test]
fn what_a_lowered_limit_leaves_survives_a_restart_and_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let keys = with_workspace(&exchange);
    let limit = |exchange: &Exchange, usd: &str| {
        ask(exchange, &format!(r#"{{"op":"limit_key","key":"{}","limit_usd":"{usd}"}}"#, id_of(&keys["a"])));
    };
    limit(&exchange, "1");
    exchange.hold(&hold(request(1, START), keys["a"], 900_000, START)).unwrap();
    exchange.hold(&hold(request(2, START), keys["a"], 100, START)).unwrap();
    limit(&exchange, "0.00001");
    exchange.settle(settlement(request(1, START), keys["a"], 4_000, START)).unwrap();
    let left = |exchange: &Exchange| exchange.key_status(&keys["a"].key, START).unwrap().budgets[0].left.0;
    assert_eq!(left(&exchange), 10_000 - 4_000 - 100, "not what the hold gave back");
    exchange.close().unwrap();
    drop(exchange);
    let exchange = market_in(dir.path(), 0);
    assert_eq!(left(&exchange), 6_000, "the other hold's request is gone");
    let over = exchange.hold(&hold(request(3, START), keys["a"], 6_001, START)).unwrap_err();
    assert_eq!(word(Err(over)), "key:ever:6000");
    exchange.hold(&hold(request(3, START), keys["a"], 6_000, START)).unwrap();
    drop(exchange);
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_budget_that_is_lifted_binds_nobody_who_is_in_flight() {
    let script = "2083-01-15 budget workspace lifetime 1000
                  2083-01-15 hold 1 a 600
                  2083-01-15 extend 1 1 401
                  2083-01-15 budget workspace lifetime none
                  2083-01-15 extend 1 1 401
                  2083-01-15 extend 1 2 500
                  2083-01-15 settle 1 1500
                  2083-01-15 budget workspace lifetime 2000
                  2083-01-15 hold 2 b 501
                  2083-01-15 hold 2 b 500";
    check_script(1_000_000, script, "ok workspace:ever:400 ok ok ok workspace:ever:500 ok");
    let exchange = market(1_000_000);
    let grant = key_with(&exchange, r#","limit_usd":"0.000001""#);
    exchange.hold(&hold(request(1, START), grant, 600, START)).unwrap();
    ask(&exchange, &format!(r#"{{"op":"limit_key","key":"{}"}}"#, id_of(&grant)));
    let request = request(1, START);
    assert_eq!(exchange.extend(&extension(request, 1, 401, START)), Ok(()));
    exchange.settle(settlement(request, grant, 1_001, START)).unwrap();
    check_clean(&exchange);
}

#[test]
fn a_budget_of_another_window_begins_without_own_sellers() {
    let exchange = market(1_000_000);
    with_workspace(&exchange);
    let set = |rest: &str| {
        ask(&exchange, &format!(r#"{{"op":"set_budget","of":{},{rest}}}"#, of("workspace")));
        limits(&exchange, "workspace", START).budgets.iter().map(|b| b.includes_byok).collect::<Vec<_>>()
    };
    assert_eq!(set(r#""interval":"daily","limit_usd":"1","includes_byok":true"#), [true]);
    assert_eq!(set(r#""interval":"daily","limit_usd":"2""#), [true], "as it was");
    assert!(set(r#""interval":"daily""#).is_empty());
    assert_eq!(set(r#""interval":"weekly","limit_usd":"1""#), [false], "it never was");
}

#[test]
fn a_hold_draws_on_all_or_on_none() {
    let exchange = market(1_000_000);
    let keys = with_workspace(&exchange);
    let key = id_of(&keys["a"]);
    ask(&exchange, &format!(r#"{{"op":"limit_key","key":"{key}","limit_usd":"0.000009"}}"#));
    set_budget(&exchange, "workspace", "daily", "5000", START);
    set_budget(&exchange, "organization", "daily", "100", START);
    let before = books(&exchange);
    let refused = exchange.hold(&hold(request(1, START), keys["a"], 101, START)).unwrap_err();
    assert_eq!(word(Err(refused)), "organization:daily:100");
    assert_eq!((books(&exchange), exchange.open_holds()), (before, 0), "nothing of it stays");
    exchange.hold(&hold(request(2, START), keys["a"], 100, START)).unwrap();
    assert_eq!(exchange.open_holds(), 4, "money, key, workspace, organisation");
    assert_eq!(exchange.tick(UnixMs(START.0 + 60_000)), Ok(4));
    exchange.hold(&hold(request(3, START), keys["a"], 100, START)).unwrap();
    exchange.settle(settlement(request(3, START), keys["a"], 40, START)).unwrap();
    assert_eq!(exchange.open_holds(), 0);
    check_clean(&exchange);
}

fn id_of(grant: &KeyGrant) -> String {
    crate::key_id(&grant.key)
}

#[test]
fn what_is_left_and_in_flight_is_shown() {
    let exchange = market(1_000_000);
    let keys = with_workspace(&exchange);
    let now = at("2083-01-15T10:00:00Z");
    set_budget(&exchange, "workspace", "monthly", "1000", now);
    set_budget(&exchange, "organization", "lifetime", "5000", now);
    for (n, key, amount) in [(1, "a", 300), (2, "b", 200), (3, "c", 70)] {
        exchange.hold(&hold(request(n, now), keys[key], amount, now)).unwrap();
    }
    exchange.settle(settlement(request(2, now), keys["b"], 150, now)).unwrap();
    let shown = limits(&exchange, "workspace", now);
    assert_eq!((shown.used_usd.as_str(), shown.in_flight_usd.as_str()), ("0.000000150", "0.000000300"));
    let budget = &shown.budgets[0];
    let amounts = [&budget.limit_usd, &budget.spent_usd, &budget.in_flight_usd, &budget.left_usd];
    assert_eq!(amounts.map(String::as_str), ["0.000001000", "0.000000150", "0.000000300", "0.000000550"]);
    assert_eq!((budget.interval.as_str(), budget.resets_at_ms), ("monthly", Some(at("2083-02-01").0)));
    let status = exchange.key_status(&keys["a"].key, now).unwrap();
    assert_eq!((status.key.held.0, status.held.0, status.account_available.0), (300, 370, 999_480));
    let of =
        status.budgets.iter().map(|budget| (budget.scope, budget.left.0, budget.held.0, budget.resets_at));
    let want =
        [(Scope::Workspace, 550, 300, Some(at("2083-02-01"))), (Scope::Organisation, 4_480, 370, None)];
    assert_eq!(of.collect::<Vec<_>>(), want);
    // Nothing has been asked for in the new month yet, and what is in flight may still settle in it.
    let later = limits(&exchange, "workspace", at("2083-02-02"));
    assert_eq!(later.budgets[0].left_usd, "0.000000700");
    assert_eq!(exchange.tick(UnixMs(now.0 + 60_000)), Ok(5), "three of the first, two of the last");
    assert_eq!(exchange.key_status(&keys["a"].key, now).unwrap().key.held, NanoUsd::ZERO);
    check_clean(&exchange);
}

#[test]
fn budgets_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let keys = with_workspace(&exchange);
    set_budget(&exchange, "workspace", "daily", "1000", START);
    exchange.hold(&hold(request(1, START), keys["a"], 700, START)).unwrap();
    exchange.settle(settlement(request(1, START), keys["a"], 700, START)).unwrap();
    exchange.close().unwrap();
    drop(exchange);
    let exchange = market_in(dir.path(), 0);
    let over = exchange.hold(&hold(request(2, START), keys["b"], 301, START)).unwrap_err();
    assert_eq!(word(Err(over)), "workspace:daily:300");
    assert_eq!(exchange.hold(&hold(request(2, START), keys["b"], 300, START)), Ok(()));
    drop(exchange);
    let report = check(dir.path(), START).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn holds_of_all_scopes_outlive_their_exchange() {
    let open = || {
        let exchange = adopt::market();
        let grant = with_workspace(&exchange)["a"];
        let key = id_of(&grant);
        ask(&exchange, &format!(r#"{{"op":"limit_key","key":"{key}","limit_usd":"0.0000008"}}"#));
        for (scope, interval, nano) in [
            ("workspace", "daily", "700"),
            ("workspace", "monthly", "750"),
            ("organization", "weekly", "900"),
        ] {
            set_budget(&exchange, scope, interval, nano, START);
        }
        (exchange, grant)
    };
    let stand = |exchange: &Exchange, grant: KeyGrant| {
        let status = exchange.key_status(&grant.key, START).unwrap();
        let left = status.budgets.iter().map(|budget| (budget.left.0, budget.held.0)).collect::<Vec<_>>();
        (left, status.key.held.0)
    };
    let budgets = vec![(250, 0), (150, 0), (200, 0), (350, 0)];
    assert_eq!(adopt::at_each_call_it_dies(open, stand), (budgets, 0));
}

#[test]
fn a_repeated_call_meets_its_first_try_whatever_was_set_in_between() {
    let exchange = market(1_000_000);
    let keys = with_workspace(&exchange);
    let grant = keys["a"];
    let holds = |n: u64| hold(request(n, START), grant, 100, START);
    let ends = |n: u64, total| exchange.settle(settlement(request(n, START), grant, total, START));
    exchange.hold(&holds(1)).unwrap();
    set_budget(&exchange, "workspace", "daily", "1000", START);
    assert_eq!(exchange.hold(&holds(1)), Ok(()), "it is open");
    assert_eq!(exchange.hold(&hold(request(1, START), grant, 101, START)), Err(FundsError::Conflict));
    exchange.hold(&holds(2)).unwrap();
    set_budget(&exchange, "organization", "daily", "1000", START);
    exchange.hold(&holds(3)).unwrap();
    for n in 1..=3 {
        ends(n, 50).unwrap();
    }
    set_budget(&exchange, "workspace", "daily", "none", START);
    set_budget(&exchange, "workspace", "weekly", "900", START);
    for n in 1..=3 {
        assert_eq!(ends(n, 50).map(|settled| settled.cost), Ok(NanoUsd(50)), "{n}");
        assert_eq!(ends(n, 51), Err(FundsError::Conflict), "{n}");
        assert_eq!(exchange.hold(&holds(n)), Err(FundsError::NoHold), "{n} is settled");
    }
    check_clean(&exchange);
}

#[test]
fn workspaces_are_of_one_organisation_and_bounded() {
    let exchange = market(1_000_000);
    let manager = key_with(&exchange, r#","management":true"#).key;
    let other = key_with(&exchange, r#","management":true,"account":"other""#).key;
    let draft = |slug: &str| WorkspaceDraft { name: slug.to_owned(), slug: slug.to_owned() };
    let made = exchange.create_workspace(&manager, draft("team"), START).unwrap();
    let twice = exchange.create_workspace(&manager, draft("team"), START).unwrap_err();
    assert_eq!(twice.to_string(), "`slug` is the slug of another workspace of this organisation");
    exchange.create_workspace(&other, draft("team"), START).unwrap();
    let named = |text: &str| ScopeName::Workspace(text.to_owned());
    let (id, slug) = (named(&made.id.to_string()), named("team"));
    assert_eq!(exchange.limits(&manager, &id, START).unwrap().workspace, Some(made.clone()));
    assert_eq!(exchange.limits(&manager, &slug, START).unwrap().workspace, Some(made.clone()));
    assert_eq!(exchange.limits(&other, &id, START), Err(AccountsError::NoWorkspace), "another's");
    let buyer = key_with(&exchange, "");
    assert_eq!(exchange.limits(&buyer.key, &id, START).unwrap_err(), FundsError::NotManagement.into());
    let key = |workspace: &str| {
        let draft = KeyDraft { name: "k".into(), workspace: Some(workspace.into()), ..KeyDraft::default() };
        exchange.create_key(&manager, draft, START)
    };
    assert_eq!(key("team").unwrap().0.workspace, Some(made.id));
    assert_eq!(key("nowhere").unwrap_err(), AccountsError::NoWorkspace);
    let hash = key("team").unwrap().0.hash;
    let budget = LimitsPatch::Budget {
        reset: LimitReset::Daily,
        limit: Some(NanoUsd(5)),
        includes_byok: Change::Set(true),
    };
    let of_key = exchange.set_limits(&manager, &ScopeName::Key(hash), budget.clone(), START).unwrap_err();
    assert_eq!(of_key.to_string(), "`budget` of a key is its limit: change the key");
    let unknown = ScopeName::Key(KeyHash([9; 32]));
    assert_eq!(exchange.limits(&manager, &unknown, START), Err(AccountsError::NotFound));
    let later = UnixMs(START.0 + 7);
    let set = exchange.set_limits(&manager, &slug, budget, later).unwrap();
    assert_eq!((set.budgets[0].limit, set.budgets[0].includes_byok), (NanoUsd(5), true));
    assert_eq!(set.workspace.unwrap().updated, later);

    for n in 1..WORKSPACES_MAX {
        exchange.create_workspace(&manager, draft(&format!("w{n}")), START).unwrap();
    }
    let over = exchange.create_workspace(&manager, draft("one-more"), START).unwrap_err();
    assert_eq!(over, FundsError::TooMany("workspaces").into());
    assert!(exchange.create_workspace(&other, draft("w1"), START).is_ok(), "each has its own");
    let page = |offset| exchange.list_workspaces(&manager, offset, START).unwrap().len();
    assert_eq!((page(0), page(WORKSPACES_MAX - 1), page(WORKSPACES_MAX)), (WORKSPACES_PAGE_MAX, 1, 0));
    let odd = r#"{"op":"set_budget","of":{"scope":"organization"},"interval":"hourly"}"#;
    assert_eq!(
        refused(&exchange, odd),
        "`interval` is `hourly`; it can be daily, weekly, monthly or lifetime"
    );
    check_clean(&exchange);
}

#[test]
fn what_the_operator_set_on_an_organisation_is_beyond_its_own_keys() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let manager = key_with(&exchange, r#","management":true"#).key;
    with_workspace(&exchange);
    set_budget(&exchange, "organization", "daily", "1000", START);
    set_budget(&exchange, "workspace", "daily", "1000", START);
    ask(&exchange, r#"{"op":"set_rates","of":{"scope":"organization"},"tokens_per_minute":900}"#);
    let budget = |reset, limit: Option<u64>| LimitsPatch::Budget {
        reset,
        limit: limit.map(NanoUsd),
        includes_byok: Change::Keep,
    };
    let rates = |requests, tokens| LimitsPatch::Rates { requests, tokens };
    let (more, lifted) = (Change::Set(Some(9_000)), Change::Set(None));
    let whole = ScopeName::Organisation;
    let team = ScopeName::Workspace("w".to_owned());
    let set = |exchange: &Exchange, of: &ScopeName, patch| exchange.set_limits(&manager, of, patch, START);
    let check_refused = |exchange: &Exchange| {
        for patch in [
            budget(LimitReset::Daily, None),
            budget(LimitReset::Daily, Some(2_000)),
            rates(Change::Keep, lifted),
            rates(Change::Keep, more),
            rates(more, lifted),
        ] {
            assert_eq!(set(exchange, &whole, patch), Err(AccountsError::Operators));
        }
        let now = limits(exchange, "organization", START);
        let bound = now.rates.iter().map(|rate| (rate.unit.as_str(), rate.limit_per_minute));
        assert_eq!(bound.collect::<Vec<_>>(), [("tokens", 900)], "all of a change is refused");
        assert_eq!(now.budgets[0].limit_usd, usd("1000"));
    };
    check_refused(&exchange);
    drop(exchange);
    // By the snapshot, and by the journal alone.
    let exchange = market_in(dir.path(), 0);
    check_refused(&exchange);
    drop(exchange);
    rusqlite::Connection::open(dir.path().join(crate::store::JOURNAL_FILE))
        .unwrap()
        .execute_batch("DELETE FROM snapshot")
        .unwrap();
    let exchange = market_in(dir.path(), 0);
    check_refused(&exchange);
    // What is the organisation's own stays so.
    for (of, patch) in [
        (&whole, budget(LimitReset::Weekly, Some(7))),
        (&whole, budget(LimitReset::Weekly, None)),
        (&whole, rates(more, Change::Keep)),
        (&whole, rates(lifted, Change::Keep)),
        (&team, budget(LimitReset::Daily, None)),
        (&team, rates(more, more)),
    ] {
        set(&exchange, of, patch).unwrap();
    }
    // Once the operator has lifted it, it is nobody's.
    set_budget(&exchange, "organization", "daily", "none", START);
    set(&exchange, &whole, budget(LimitReset::Daily, Some(5))).unwrap();
    set(&exchange, &whole, budget(LimitReset::Daily, None)).unwrap();
    drop(exchange);
    assert!(check(dir.path(), START).unwrap().is_clean());
}

/// What own sellers bill counts where the budget says so.
#[test]
fn a_budget_includes_what_own_sellers_bill_when_it_says_so() {
    let exchange = market(1_000_000);
    let grant = with_workspace(&exchange)["a"];
    for (scope, counts) in [("workspace", true), ("organization", false)] {
        let of = of(scope);
        ask(
            &exchange,
            &format!(
                r#"{{"op":"set_budget","of":{of},"interval":"daily","limit_usd":"0.000001","includes_byok":{counts}}}"#
            ),
        );
    }
    let asked = |n, amount, list| bourse_wire::funds::HoldRequest {
        byok: NanoUsd(list),
        ..hold(request(n, START), grant, amount, START)
    };
    assert_eq!(word(exchange.hold(&asked(1, 50, 951))), "workspace:daily:1000");
    assert_eq!(word(exchange.hold(&asked(1, 50, 950))), "ok");
    let mut ended = settlement(request(1, START), grant, 900, START);
    ended.billing = bourse_wire::funds::Billing::Byok;
    let fee = exchange.settle(ended.clone()).unwrap().cost;
    assert_eq!(exchange.settle(ended).unwrap().cost, fee, "the same again");
    let left = |scope| limits(&exchange, scope, START).budgets[0].left_usd.clone();
    assert_eq!(fee, NanoUsd(45));
    assert_eq!((left("workspace").as_str(), left("organization").as_str()), ("0.000000055", "0.000000955"));
    check_clean(&exchange);
}

/// What a request in flight holds of its buyer's own sellers counts in a budget that was set, or told to count it, later.
#[test]
fn a_late_budget_knows_what_own_sellers_may_bill() {
    for was in [false, true] {
        let exchange = market(1_000_000);
        let grant = with_workspace(&exchange)["a"];
        let of = of("workspace");
        let set = |includes: bool| {
            let limit = format!(r#""limit_usd":"0.000001","includes_byok":{includes}"#);
            ask(&exchange, &format!(r#"{{"op":"set_budget","of":{of},"interval":"lifetime",{limit}}}"#));
        };
        if was {
            set(false);
        }
        let own = bourse_wire::funds::HoldRequest {
            byok: NanoUsd(800),
            ..hold(request(1, START), grant, 40, START)
        };
        exchange.hold(&own).unwrap();
        let request_1 = request(1, START);
        let byok = NanoUsd(100);
        let more = bourse_wire::funds::HoldExtension { byok, ..extension(request_1, 1, 5, START) };
        exchange.extend(&more).unwrap();
        set(true);
        let next = |amount| word(exchange.hold(&hold(request(2, START), grant, amount, START)));
        assert_eq!((next(56), next(55)), ("workspace:ever:55".into(), "ok".into()), "set before: {was}");
        let mut ended = settlement(request_1, grant, 900, START);
        ended.billing = bourse_wire::funds::Billing::Byok;
        assert_eq!(exchange.settle(ended).map(|settled| settled.cost), Ok(NanoUsd(45)));
        exchange.settle(settlement(request(2, START), grant, 55, START)).unwrap();
        let shown = limits(&exchange, "workspace", START).budgets.remove(0);
        assert_eq!((shown.spent_usd.as_str(), shown.left_usd.as_str()), ("0.000001000", "0.000000000"));
        check_clean(&exchange);
    }
}

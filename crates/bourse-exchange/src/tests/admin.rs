//! What operators ask, as JSON.

use super::support::{START, hold, request, serve};
use super::{ask, books, check_clean, key, market, market_in, refused};
use crate::{
    AdminReply, AdminRequest, KEY_PREFIX, LABEL_BYTES_MAX, NewKey, Period, balances, hash_key, statement,
};
use bourse_ledger::Position;
use bourse_types::NanoUsd;
use bourse_wire::funds::{Funds, Records};

#[test]
fn a_key_is_shown_once_and_kept_as_a_hash() {
    let exchange = market(1_000);
    let reply = ask(&exchange, r#"{"op":"create_key","label":"laptop"}"#);
    assert!(!format!("{reply:?}").contains(KEY_PREFIX), "Debug shows no secret");
    let AdminReply::KeyCreated { key, secret, namesakes: 0 } = reply else { panic!() };
    assert_eq!(secret.0.len(), KEY_PREFIX.len() + 64);
    assert_eq!((key.account.as_str(), key.used_usd.as_str()), ("operator", "0.000000000"));
    assert!(exchange.authenticate(&hash_key(&secret.0), START).is_ok());
    let mut journal = Vec::new();
    let groups = exchange.shared.index.lock().with_journal(|j| j.read(Position::default(), 99)).unwrap();
    for group in groups {
        journal.extend_from_slice(&group.bytes);
    }
    let written = |text: &[u8]| journal.windows(text.len()).any(|window| window == text);
    assert!(written(b"laptop") && !written(secret.0.as_bytes()) && !written(&secret.0.as_bytes()[10..]));
}

#[test]
fn keys_are_listed_revoked_and_named_by_label_or_id() {
    let exchange = market(1_000);
    key(&exchange, None);
    let AdminReply::KeyCreated { key, .. } = ask(&exchange, r#"{"op":"create_key","label":"b"}"#) else {
        panic!()
    };
    let short = &key.id[..9];
    let revoke = format!(r#"{{"op":"revoke_key","key":"{short}"}}"#);
    let AdminReply::Key { key: revoked } = ask(&exchange, &revoke) else { panic!() };
    assert_eq!((revoked.id.as_str(), revoked.revoked_ms), (key.id.as_str(), Some(START.0)));
    let AdminReply::Keys { keys } = ask(&exchange, r#"{"op":"list_keys"}"#) else { panic!() };
    assert_eq!(keys.len(), 2);
    let missing = "no key is called `nope`; `bourse key list` shows them";
    assert_eq!(refused(&exchange, r#"{"op":"revoke_key","key":"nope"}"#), missing);
    key_named(&exchange, "test");
    let both = refused(&exchange, r#"{"op":"revoke_key","key":"test"}"#);
    assert_eq!(both, "2 keys are called `test`; use the key's id");
}

fn key_named(exchange: &crate::Exchange, label: &str) {
    let create = AdminRequest::CreateKey(NewKey { label: label.to_owned(), ..NewKey::default() });
    exchange.admin(create, START).unwrap();
}

#[test]
fn a_limit_is_set_raised_lowered_and_lifted() {
    let exchange = market(1_000_000);
    let grant = key(&exchange, None);
    serve(&exchange, 1, grant, START).unwrap();
    let set = |nano: Option<u64>| {
        let limit_usd = nano.map(|nano| NanoUsd(nano).to_usd_string());
        exchange
            .admin(AdminRequest::LimitKey { key: "test".to_owned(), limit_usd, reset: None }, START)
            .unwrap();
        exchange.key_status(&grant.key, START).unwrap().key.limit.map(|limit| limit.0)
    };
    let can_hold = |n, amount| exchange.hold(&hold(request(n, START), grant, amount, START)).is_ok();
    assert_eq!(set(Some(2_000)), Some(2_000));
    assert!(!can_hold(2, 767), "1,234 of 2,000 are spent");
    assert!(can_hold(2, 766));
    set(Some(3_000));
    assert!(!can_hold(3, 1_001) && can_hold(3, 1_000));
    set(Some(10));
    assert!(!can_hold(4, 1), "lower than what is spent and held: nothing is free");
    set(None);
    assert!(can_hold(4, 100_000));
    set(Some(103_000));
    assert!(!can_hold(5, 1), "holds without a limit count once there is one");
    check_clean(&exchange);
}

#[test]
fn credit_comes_from_the_subsidy_account() {
    let exchange = market(0);
    ask(&exchange, r#"{"op":"create_key","label":"a","account":"team","limit_usd":"0.5"}"#);
    ask(&exchange, r#"{"op":"credit","account":"team","amount_usd":"2.5"}"#);
    assert_eq!(
        books(&exchange),
        "subsidy -2500000000, allowances -500000000, team 2500000000, allowance 500000000"
    );
    let none = r#"{"op":"credit","account":"nobody","amount_usd":"1"}"#;
    assert_eq!(refused(&exchange, none), "no account is called `nobody`; `bourse ledger balance` shows them");
    let fee = r#"{"op":"credit","account":"fee","amount_usd":"1"}"#;
    assert_eq!(refused(&exchange, fee), "`fee` is not a customer account");
    let odd = r#"{"op":"credit","account":"team","amount_usd":"-1"}"#;
    assert_eq!(refused(&exchange, odd), "`amount_usd`: `-1` is not a plain decimal amount such as `1.25`");
    check_clean(&exchange);
}

#[test]
fn names_are_bounded_and_printable() {
    let exchange = market(0);
    let create = |label: &str, account: Option<&str>| {
        let account = account.map(str::to_owned);
        let request =
            AdminRequest::CreateKey(NewKey { label: label.to_owned(), account, ..NewKey::default() });
        exchange.admin(request, START).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(create(&"x".repeat(LABEL_BYTES_MAX), None), Ok(()));
    let rule = "`label` needs 1 to 128 bytes, no control characters";
    for label in ["x".repeat(LABEL_BYTES_MAX + 1), String::new(), "a\nb".to_owned()] {
        assert_eq!(create(&label, None), Err(rule.to_owned()));
    }
    let rule = "`account` needs 1 to 160 bytes, no control characters, and no `:` for a customer";
    assert_eq!(create("a", Some("seller:me")), Err(rule.to_owned()));
    for house in ["fee", "suspense", "escrow", "free", "memo"] {
        assert_eq!(create("a", Some(house)), Err(format!("`{house}` is not a customer account")));
    }
    let unknown = serde_json::from_str::<AdminRequest>(r#"{"op":"list_keys","extra":1}"#);
    assert!(unknown.is_err(), "unknown fields are refused");
}

#[test]
fn a_statement_explains_every_movement() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 10_000);
    let grant = key(&exchange, Some(9_000));
    serve(&exchange, 1, grant, START).unwrap();
    serve(&exchange, 2, grant, START).unwrap();
    let AdminReply::Statement { lines } = ask(&exchange, r#"{"op":"statement","account":"operator"}"#) else {
        panic!()
    };
    let shown = |lines: &[crate::StatementLine]| {
        let line = |l: &crate::StatementLine| format!("{} {} {}", l.counterpart, l.amount_usd, l.balance_usd);
        lines.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&lines),
        [
            "subsidy 0.000010000 0.000010000",
            "clearing -0.000001234 0.000008766",
            "clearing -0.000001234 0.000007532",
        ]
    );
    assert_eq!(lines[1].request, Some(request(1, START).to_string()));
    let seller = statement(dir.path(), "seller:local", Period::EVER, 1).unwrap().unwrap();
    assert_eq!(
        shown(&seller),
        ["clearing 0.000001183 0.000002366"],
        "the last line, read beside a live market"
    );
    assert_eq!(seller[0].request, Some(request(2, START).to_string()));
    assert_eq!(statement(dir.path(), "nobody", Period::EVER, 9).unwrap(), None);
    let AdminReply::Balances { accounts } = ask(&exchange, r#"{"op":"balances"}"#) else { panic!() };
    assert_eq!(balances(dir.path()).unwrap(), accounts, "the same beside a live market");
    let operator = accounts.iter().find(|line| line.name == "operator").unwrap();
    assert_eq!(operator.available_usd, "0.000007532");
}

#[test]
fn replies_round_trip_as_json() {
    let exchange = market(1_000);
    for request in [r#"{"op":"create_key","label":"a"}"#, r#"{"op":"balances"}"#, r#"{"op":"list_keys"}"#] {
        let reply = ask(&exchange, request);
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<AdminReply>(&json).unwrap(), reply);
    }
}

#[test]
fn the_status_of_a_key_adds_up() {
    let exchange = market(10_000);
    let grant = key(&exchange, Some(8_000));
    serve(&exchange, 1, grant, START).unwrap();
    exchange.hold(&hold(request(2, START), grant, 500, START)).unwrap();
    let status = exchange.key_status(&grant.key, START).unwrap();
    assert_eq!((status.key.name.as_str(), status.key.limit), ("test", Some(NanoUsd(8_000))));
    assert_eq!((status.key.usage.total, status.held), (NanoUsd(1_234), NanoUsd(500)));
    assert_eq!((status.account_credited, status.account_spent), (NanoUsd(10_000), NanoUsd(1_234)));
    assert_eq!(status.account_available, NanoUsd(10_000 - 1_234 - 500));
}

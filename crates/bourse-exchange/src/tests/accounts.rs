//! Keys as a management key sees and changes them.

use super::support::{START, hold, request, serve};
use super::{ask, check_clean, market, market_in};
use crate::{AdminReply, Exchange, KEYS_PER_ACCOUNT_MAX, hash_key};
use bourse_types::{Fault, KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{
    Accounts, AccountsError, Change, Funds, FundsError, KEYS_PAGE_MAX, KeyDraft, KeyPage, KeyPatch,
    KeyRecord, KeyRole, LimitReset, PolicyText, Records,
};

fn admin_key(exchange: &Exchange, fields: &str) -> KeyHash {
    let reply = ask(exchange, &format!(r#"{{"op":"create_key","label":"m",{fields}}}"#));
    let AdminReply::KeyCreated { secret, .. } = reply else { panic!() };
    hash_key(&secret.0)
}

fn draft(name: &str) -> KeyDraft {
    KeyDraft { name: name.to_owned(), ..KeyDraft::default() }
}

const ALL: KeyPage = KeyPage { offset: 0, limit: KEYS_PAGE_MAX, include_disabled: true };

#[test]
fn a_management_key_makes_lists_changes_and_ends_keys() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let manager = admin_key(&exchange, r#""management":true"#);
    let asked = KeyDraft {
        limit: Some(NanoUsd(2_000)),
        limit_reset: LimitReset::Weekly,
        includes_byok_in_limit: true,
        expires: Some(UnixMs(START.0 + 9)),
        policy: Some(PolicyText::parse(r#"{"zdr":true}"#).unwrap()),
        ..draft("app")
    };
    let (made, secret) = exchange.create_key(&manager, asked, START).unwrap();
    assert_eq!(made.hash, hash_key(&secret.0));
    assert_eq!((made.creator, made.role, made.created), (Some(manager), KeyRole::Inference, START));
    let grant = exchange.authenticate(&made.hash, START).unwrap();
    assert_eq!(grant.key_policy, made.policy);
    serve(&exchange, 1, grant, START).unwrap_err();
    exchange.hold(&hold(request(2, START), grant, 2_000, START)).unwrap();

    let later = UnixMs(START.0 + 5);
    let patch = KeyPatch {
        name: Change::Set("other".to_owned()),
        limit: Change::Set(None),
        disabled: Change::Set(true),
        expires: Change::Set(None),
        policy: Change::Set(None),
        ..KeyPatch::default()
    };
    let changed = exchange.update_key(&manager, &made.hash, patch, later).unwrap();
    assert_eq!((changed.name.as_str(), changed.is_disabled, changed.limit), ("other", true, None));
    assert_eq!((changed.expires, changed.policy, changed.limit_reset), (None, None, LimitReset::Weekly));
    assert_eq!((changed.created, changed.updated), (START, later));
    assert_eq!(exchange.policy(&made.policy.unwrap()), Ok(None), "nobody has it any more");
    let live = KeyPage { include_disabled: false, ..ALL };
    assert_eq!(exchange.list_keys(&manager, live, START), Ok(vec![]));
    assert_eq!(exchange.list_keys(&manager, ALL, START), Ok(vec![changed.clone()]));
    exchange.close().unwrap();
    drop(exchange);

    let exchange = market_in(dir.path(), 0);
    let held_nothing = KeyRecord { held: NanoUsd::ZERO, ..changed };
    assert_eq!(exchange.get_key(&manager, &made.hash, START), Ok(held_nothing), "after a restart, too");
    exchange.delete_key(&manager, &made.hash, START).unwrap();
    let gone = Err(AccountsError::NotFound);
    assert_eq!(exchange.get_key(&manager, &made.hash, START), gone);
    assert_eq!(exchange.delete_key(&manager, &made.hash, START), Err(AccountsError::NotFound));
    assert_eq!(exchange.authenticate(&made.hash, START), Err(FundsError::RevokedKey));
    check_clean(&exchange);
}

#[test]
fn what_is_not_the_callers_does_not_exist_for_it() {
    let exchange = market(1_000_000);
    let manager = admin_key(&exchange, r#""management":true,"account":"a""#);
    let (own, foreign) = (admin_key(&exchange, r#""account":"a""#), admin_key(&exchange, r#""account":"b""#));
    assert!(exchange.get_key(&manager, &own, START).is_ok(), "the operator's keys of its account, too");
    for hash in [foreign, manager, KeyHash([9; 32])] {
        assert_eq!(exchange.get_key(&manager, &hash, START), Err(AccountsError::NotFound));
        let patched = exchange.update_key(&manager, &hash, KeyPatch::default(), START);
        assert_eq!(patched, Err(AccountsError::NotFound));
        assert_eq!(exchange.delete_key(&manager, &hash, START), Err(AccountsError::NotFound));
    }
    assert!(exchange.authenticate(&foreign, START).is_ok(), "untouched");
    let not_management = Err(AccountsError::Funds(FundsError::NotManagement));
    assert_eq!(exchange.get_key(&own, &own, START), not_management);
    let unknown = exchange.list_keys(&KeyHash([9; 32]), ALL, START);
    assert_eq!(unknown, Err(AccountsError::Funds(FundsError::UnknownKey)));
    ask(&exchange, &format!(r#"{{"op":"disable_key","key":"{}"}}"#, crate::key_id(&manager)));
    let disabled = exchange.create_key(&manager, draft("x"), START).unwrap_err();
    assert_eq!(disabled, AccountsError::Funds(FundsError::DisabledKey));
    assert_eq!(disabled.fault(), Fault::Buyer);
}

#[test]
fn lists_are_paged_and_keys_are_bounded() {
    let exchange = market(1_000_000);
    let manager = admin_key(&exchange, r#""management":true"#);
    for n in 1..KEYS_PER_ACCOUNT_MAX as u64 {
        // Made one by one, yet committed together: what a page needs is in memory.
        let asked =
            crate::accounts::Asked { role: KeyRole::Inference, creator: None, draft: draft(&n.to_string()) };
        exchange.make_key::<AccountsError>(asked, UnixMs(START.0 + n), |_| Ok(crate::OPERATOR)).unwrap();
    }
    let past = exchange.create_key(&manager, draft("past"), START).unwrap_err();
    assert_eq!(past, AccountsError::Funds(FundsError::TooMany("keys of one account")));
    let names = |offset, limit| {
        let page = KeyPage { offset, limit, include_disabled: true };
        let keys = exchange.list_keys(&manager, page, START).unwrap();
        keys.into_iter().map(|key| key.name).collect::<Vec<_>>()
    };
    assert_eq!(names(0, 3), ["1", "2", "3"], "oldest first, without the management key");
    assert_eq!(names(4_093, 9), ["4094", "4095"]);
    assert_eq!(names(0, KEYS_PAGE_MAX + 1).len(), KEYS_PAGE_MAX);
    assert_eq!(names(9_999, 9), Vec::<String>::new());
    check_clean(&exchange);
}

#[test]
fn policies_of_keys_and_accounts_are_granted_kept_and_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let exchange = market_in(dir.path(), 1_000_000);
    let hash = admin_key(&exchange, r#""account":"team""#);
    let id = |reply| match reply {
        AdminReply::Policy { id } => id,
        other => panic!("{other:?}"),
    };
    let team = id(ask(&exchange, r#"{"op":"account_policy","account":"team","policy":"{\"zdr\":true}"}"#));
    let own = id(ask(&exchange, r#"{"op":"key_policy","key":"m","policy":"{\"only\":[\"a\"]}"}"#));
    exchange.close().unwrap();
    drop(exchange);
    let exchange = market_in(dir.path(), 0);
    let grant = exchange.authenticate(&hash, START).unwrap();
    let (account_policy, key_policy) = (grant.account_policy.unwrap(), grant.key_policy.unwrap());
    assert_eq!((account_policy.to_string(), key_policy.to_string()), (team.unwrap(), own.unwrap()));
    assert_eq!(exchange.policy(&account_policy).unwrap().as_deref(), Some(r#"{"zdr":true}"#));
    assert_eq!(exchange.policy(&key_policy).unwrap().as_deref(), Some(r#"{"only":["a"]}"#));
    assert_eq!(id(ask(&exchange, r#"{"op":"account_policy","account":"team"}"#)), None);
    assert_eq!(exchange.policy(&account_policy), Ok(None));
    assert_eq!(exchange.authenticate(&hash, START).unwrap().account_policy, None);
    let list = super::refused(&exchange, r#"{"op":"key_policy","key":"m","policy":"[]"}"#);
    assert!(list.starts_with("a policy is one JSON object: "), "{list}");
    let fee = super::refused(&exchange, r#"{"op":"account_policy","account":"fee"}"#);
    assert_eq!(fee, "`fee` is not a customer account");
    check_clean(&exchange);
}

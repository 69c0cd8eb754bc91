//! Many callers on one small balance: nobody overspends, nothing stays held.

use crate::house::House;
use bourse_exchange::{AdminReply, AdminRequest, NewKey, NewWorkspace, ScopeText};
use bourse_gateway::{Clock as _, SystemClock};
use bourse_sim::client::{Response, call, request};
use bourse_sim::upstream::{Fault, FaultScript, FaultTiming, Listing, SellerConfig, SpeedLaw};
use bourse_types::{NanoUsd, PicoUsdPerToken};
use bourse_wire::receipt::Receipt;
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

const CALLERS: usize = 256;
const CREDIT_USD: &str = "0.02";
const CREDIT: NanoUsd = NanoUsd(20_000_000);

fn dear(name: &str, faults: FaultScript) -> SellerConfig {
    let listing = Listing {
        price_prompt: PicoUsdPerToken(2_000_000),
        price_completion: PicoUsdPerToken(10_000_000),
        ..Listing::new("dear/model")
    };
    SellerConfig {
        listings: vec![listing],
        speed: SpeedLaw { first_token: Duration::from_millis(20), per_token: Duration::from_millis(1) },
        timing: FaultTiming { drip: Duration::from_millis(1), gap: Duration::from_secs(5) },
        completion_words: 40,
        faults,
        ..SellerConfig::new(name, "")
    }
}

/// One call with one key; every other one is a stream.
async fn ask(address: SocketAddr, key: String, number: usize, max_tokens: u32) -> Response {
    let body = json!({
        "model": "dear/model", "stream": number.is_multiple_of(2), "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": format!("caller {number} asks")}],
    });
    let fields = [("authorization", &*format!("Bearer {key}"))];
    let bytes = request("POST", "/v1/chat/completions", &fields, body.to_string().as_bytes());
    call(address, &bytes).await.expect("the gateway answers")
}

/// Callers with these keys in turn, all at once. What they spent is no more than `most`, and is what the receipts say.
async fn all_at_once(
    house: &House,
    keys: &[String],
    callers: usize,
    most: NanoUsd,
) -> (Vec<Response>, Vec<Receipt>) {
    // Each key has streams and plain calls.
    let key = |number: usize| keys[number / 2 % keys.len()].clone();
    let calls = (0..callers).map(|number| ask(house.address, key(number), number, 64));
    let answers = calls.collect::<JoinSet<_>>().join_all().await;
    let receipts: Vec<_> = answers.iter().filter_map(|answer| house.receipt_of(answer)).collect();
    let total = receipts.iter().map(|receipt| receipt.charge.total.0).sum();
    assert!(house.spent() <= most, "{} spent of {most}", house.spent());
    assert_eq!(house.spent(), NanoUsd(total), "every charge has its receipt");
    (answers, receipts)
}

async fn race(configs: Vec<SellerConfig>) {
    let house = House::open(configs, CREDIT_USD).await;
    let (answers, receipts) = all_at_once(&house, std::slice::from_ref(&house.key), CALLERS, CREDIT).await;
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert!(with(200) > 0 && with(402) > 0, "{} answered, {} refused", with(200), with(402));
    let paid = receipts.iter().filter(|receipt| receipt.charge.total > NanoUsd::ZERO).count();
    assert!(paid > 0 && receipts.len() < CALLERS);
    house.close(receipts.len() as u64).await;
}

#[tokio::test]
async fn callers_on_one_small_balance_never_overspend() {
    race(vec![dear("one", FaultScript::Never)]).await;
}

#[tokio::test]
async fn nor_do_they_with_faults_and_a_dearer_second_seller() {
    let mut second = dear("two", FaultScript::Always(Fault::UsageHigh));
    second.listings[0].price_completion = PicoUsdPerToken(25_000_000);
    race(vec![dear("one", FaultScript::Seeded { seed: 5, permille: 400 }), second]).await;
}

/// A market with a workspace of the buyer's account, and two keys in it.
fn keys_of_a_workspace(house: &House) -> [String; 2] {
    let account = || Some("buyer".to_owned());
    let ask = |request| house.exchange.admin(request, SystemClock.now()).expect("the operator may");
    ask(AdminRequest::CreateWorkspace(NewWorkspace { slug: "team".into(), name: None, account: account() }));
    ["one", "two"].map(|label| {
        let (label, workspace) = (label.to_owned(), Some("team".to_owned()));
        let new = NewKey { label, account: account(), workspace, ..NewKey::default() };
        let AdminReply::KeyCreated { secret, .. } = ask(AdminRequest::CreateKey(new)) else {
            panic!("no key")
        };
        secret.0
    })
}

fn team() -> ScopeText {
    ScopeText::Workspace { workspace: "team".into(), account: Some("buyer".into()) }
}

/// Many callers with two keys on one budget of their workspace: the workspace never spends more, and others go on.
#[tokio::test]
async fn callers_on_one_workspaces_budget_never_pass_it() {
    const BUDGET: NanoUsd = NanoUsd(4_000_000);
    let house = House::open(vec![dear("one", FaultScript::Seeded { seed: 7, permille: 200 })], "10").await;
    let keys = keys_of_a_workspace(&house);
    let (of, limit_usd) = (team(), Some(BUDGET.to_usd_string()));
    let set = AdminRequest::SetBudget { of, interval: "lifetime".into(), limit_usd, includes_byok: None };
    house.exchange.admin(set, SystemClock.now()).expect("a budget is set");
    let (answers, receipts) = all_at_once(&house, &keys, CALLERS / 4, BUDGET).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 403).collect();
    assert!(!refused.is_empty() && answers.iter().any(|answer| answer.status == 200));
    for answer in refused {
        let limit = answer.json()["error"]["metadata"]["limit"].clone();
        assert_eq!((&limit["scope"], &limit["interval"]), (&json!("workspace"), &json!("lifetime")));
    }
    // The account has other keys, which the budget does not bind.
    let body =
        json!({"model": "dear/model", "max_tokens": 8, "messages": [{"role": "user", "content": "I ask"}]});
    let other = house.chat(&body).await;
    assert_ne!(other.status, 403);
    let receipts = receipts.len() as u64 + u64::from(house.receipt_of(&other).is_some());
    house.close(receipts).await;
}

/// A rate of two requests a minute: the third is told to wait about a minute, and another key is not.
#[tokio::test]
async fn a_rate_of_a_key_is_its_own() {
    let house = House::open(vec![dear("one", FaultScript::Never)], "10").await;
    let keys = keys_of_a_workspace(&house);
    let of = ScopeText::Key { key: "one".into() };
    let set = AdminRequest::SetRates { of, requests_per_minute: Some(2), tokens_per_minute: None };
    house.exchange.admin(set, SystemClock.now()).expect("a rate is set");
    let of_key = |n: usize| ask(house.address, keys[n].clone(), 1, 8);
    let statuses = [of_key(0).await.status, of_key(0).await.status, of_key(1).await.status];
    assert_eq!(statuses, [200, 200, 200]);
    let third = of_key(0).await;
    assert_eq!((third.status, third.header("x-ratelimit-remaining")), (429, Some("0")));
    let wait: u64 = third.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(of_key(1).await.status, 200);
    house.close(4).await;
}

//! Buyers' own keys: order, filters, bills, and that no key ever shows.

use super::fakes::*;
use crate::{ByokKey, ByokMode, Pattern, Secret};
use bourse_types::{AccountId, KeyHash, NanoUsd, SellerName};
use sha2::{Digest as _, Sha256};

const OWN: &str = "sk-own-canary";

fn own(provider: &str, mode: ByokMode) -> ByokKey {
    ByokKey {
        account: AccountId(7),
        provider: SellerName::parse(provider).unwrap(),
        key: Secret::new(OWN),
        mode,
        models: Vec::new(),
        keys: Vec::new(),
        users: Vec::new(),
    }
}

fn house(own: Vec<ByokKey>) -> House {
    House::build(&["a", "b"], 10_000_000_000, |config| {
        config.byok = own;
        config.byok_fee_bps = BYOK_FEE_BPS;
    })
}

/// Which keys were shown, in order: `own`, or the market's.
fn shown(house: &House) -> Vec<&'static str> {
    let requests = std::mem::take(&mut *house.net.requests.lock());
    let is_own = |request: &String| request.contains(&format!("authorization: Bearer {OWN}\r\n"));
    requests.iter().map(|request| if is_own(request) { "own" } else { "market" }).collect()
}

fn refused() -> Vec<Act> {
    let body = format!(r#"{{"error":{{"message":"Incorrect API key: {OWN}","code":"invalid_api_key"}}}}"#);
    vec![Act::Read, json_answer(401, "", &body), Act::Close]
}

fn failed() -> Vec<Act> {
    vec![Act::Read, json_answer(500, "", r#"{"error":{"message":"broken"}}"#), Act::Close]
}

#[tokio::test(start_paused = true)]
async fn an_own_key_serves_first_and_the_market_takes_its_fee() {
    let house = house(vec![own("b", ByokMode::Prioritized)]);
    house.net.script("b", good_plain());
    let before = house.funds.available();
    let reply = house.chat(r#","provider":{"order":["a"]}"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(shown(&house), ["own"], "whatever the order, and though the other is cheaper");
    let list = house.funds.byok()[0];
    assert_eq!(list, NanoUsd(150_000), "nine tokens and three of ten times the price");
    let usage = &reply.json()["usage"];
    assert_eq!((usage["cost"].to_string(), &usage["is_byok"]), ("7.5e-6".to_owned(), &true.into()));
    assert_eq!(usage["cost_details"]["request"], usage["cost"], "its parts sum to it");
    house.check_books(before, 1);
    let receipt = &house.funds.receipts()[0];
    let hash: [u8; 32] = Sha256::digest(reply.text.as_bytes()).into();
    assert_eq!((receipt.charge.total, receipt.response_hash.0), (NanoUsd(7_500), hash));
    assert_eq!(receipt.seller.as_ref().unwrap().as_str(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_fee_as_well() {
    let house = house(vec![own("a", ByokMode::Prioritized)]);
    house.net.script("a", good_stream(&["Hel", "lo"]));
    let before = house.funds.available();
    let reply = house.chat(r#","stream":true"#).await;
    let last = reply.payloads().pop().unwrap();
    let cost = house.funds.receipts()[0].charge.total;
    assert_eq!(last["usage"]["is_byok"], true, "{}", reply.text);
    assert!((last["usage"]["cost"].as_f64().unwrap() * 1e9 - cost.0 as f64).abs() < 0.5);
    assert_eq!(house.funds.byok()[0].share_bps_floor(BYOK_FEE_BPS).unwrap(), cost);
    house.check_books(before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_gives_way_and_shows_nowhere() {
    let house = house(vec![own("a", ByokMode::Prioritized)]);
    house.net.script("a", refused());
    house.net.script("a", good_plain());
    let before = house.funds.available();
    let reply = house.chat("").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(shown(&house), ["own", "market"]);
    assert!(house.funds.byok().is_empty(), "the market's key served, so its price counts");
    assert_eq!(house.funds.receipts()[0].charge.total, NanoUsd(15_000));
    assert_eq!(reply.json()["usage"]["is_byok"], false);
    house.check_books(before, 1);
    let metrics = house.call("GET", "/metrics", &[], "").await;
    assert!(!format!("{}{metrics:?}{:?}", reply.text, house.gateway.0.config).contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_key_serves_when_the_market_cannot() {
    let house = house(vec![own("a", ByokMode::Fallback)]);
    house.net.script("a", failed());
    house.net.script("a", good_plain());
    house.net.script("b", failed());
    let before = house.funds.available();
    let reply = house.chat("").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(shown(&house), ["market", "market", "own"]);
    assert_eq!(house.funds.byok(), [NanoUsd(15_000)]);
    house.check_books(before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_always_used_leaves_the_market_out() {
    let house = house(vec![own("a", ByokMode::Always)]);
    house.net.script("a", refused());
    house.net.script("b", good_plain());
    let before = house.funds.available();
    let reply = house.chat("").await;
    assert_eq!(reply.status, 502, "{}", reply.text);
    assert_eq!(shown(&house), ["own"]);
    assert!(!reply.text.contains("canary"), "{}", reply.text);
    let reply = house.chat(r#","provider":{"ignore":["a"]}"#).await;
    assert_eq!(reply.status, 404, "{}", reply.text);
    assert!(reply.text.contains("own key is always used"), "{}", reply.text);
    assert!(shown(&house).is_empty());
    assert_eq!((house.funds.open_holds(), house.funds.available()), (0, before));
}

#[tokio::test(start_paused = true)]
async fn rules_hold_for_own_keys_too() {
    let house = house(vec![own("a", ByokMode::Prioritized)]);
    house.net.script("b", good_plain());
    house.funds.bind(r#"{"ignore":["a"]}"#);
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(shown(&house), ["market"], "a policy goes before");
}

#[tokio::test(start_paused = true)]
async fn a_key_serves_whom_and_what_it_is_for() {
    let check = async |change: &dyn Fn(&mut ByokKey), more: &str, want: &str| {
        let mut key = own("a", ByokMode::Prioritized);
        change(&mut key);
        let house = house(vec![key]);
        house.net.script("a", good_plain());
        let reply = house.chat(more).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(shown(&house), [want], "{more}");
    };
    let pattern = |text: &str| vec![Pattern::parse(text).unwrap()];
    let hash = |text: &str| vec![KeyHash(Sha256::digest(text.as_bytes()).into())];
    check(&|key| key.models = pattern("acme/*"), "", "own").await;
    check(&|key| key.models = pattern("other/*"), "", "market").await;
    check(&|key| key.keys = hash(KEY), "", "own").await;
    check(&|key| key.keys = hash("sk-other"), "", "market").await;
    check(&|key| key.users = vec!["ann".into()], r#","user":"ann""#, "own").await;
    check(&|key| key.users = vec!["ann".into()], r#","user":"bob""#, "market").await;
    check(&|key| key.users = vec!["ann".into()], "", "market").await;
    check(&|key| key.account = AccountId(8), "", "market").await;
}

#[test]
fn a_key_needs_its_provider() {
    let config = crate::GatewayConfig { byok: vec![own("nobody", ByokMode::Always)], ..Default::default() };
    assert!(crate::byok::OwnKeys::new(&config, &mut crate::upstream::Pools::default()).is_err());
}

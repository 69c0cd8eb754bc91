//! Presets, aliases and policies, from the buyer's bytes to the seller's.

use super::fakes::*;
use crate::{Alias, GatewayConfig, Preset};
use bourse_types::ModelSlug;
use sha2::{Digest as _, Sha256};

fn slug(text: &str) -> ModelSlug {
    ModelSlug::parse(text).unwrap()
}

fn named(config: &mut GatewayConfig) {
    let alias = |name: &str, models: &[&str]| Alias {
        name: slug(name.trim_start_matches('~')),
        is_tilde: name.starts_with('~'),
        models: models.iter().map(|model| slug(model)).collect(),
    };
    config.aliases = vec![
        alias("~acme/family-latest", &["acme/three", "acme/two", MODEL]),
        alias("fast", &[MODEL]),
        alias("nobody", &["acme/nine"]),
    ];
    config.presets = vec![
        Preset { name: "calm".into(), members_json: r#"{"temperature":0.25,"model":"fast"}"#.into() },
        Preset { name: "odd".into(), members_json: r#"{"temperature":"hot"}"#.into() },
        Preset { name: "bare".into(), members_json: r#"{"temperature":0.5}"#.into() },
    ];
    // The newer model is offered without a price: visible, and nobody is sent there.
    let mut two = config.providers[0].models[0].clone();
    two.model = slug("acme/two");
    two.prices = None;
    config.providers[0].models.push(two);
}

fn house() -> House {
    let house = House::build(&["a"], 10_000_000_000, named);
    house.net.script("a", good_plain());
    house
}

const MESSAGES: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

async fn ask(house: &House, members: &str) -> Reply {
    house.call("POST", "/v1/chat/completions", &[], &format!("{{{members},{MESSAGES}}}")).await
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_the_first_model_that_is_sold() {
    let house = house();
    for model in ["~acme/family-latest", "fast", "fast:nitro", "~acme/family-latest:floor"] {
        let reply = ask(&house, &format!(r#""model":"{model}""#)).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.text);
        let sent = house.net.requests.lock().pop().unwrap();
        assert!(sent.contains(r#""model":"one-up""#), "{sent}");
    }
    assert!(house.funds.receipts().iter().all(|receipt| receipt.model == slug(MODEL)));
}

#[tokio::test(start_paused = true)]
async fn what_was_requested_is_told_as_it_was_written() {
    let house = house();
    let asked = [("x-openrouter-metadata", "enabled")];
    let check = async |members: &str, requested: &str, strategy: &str| {
        let body = format!("{{{members},{MESSAGES}}}");
        let reply = house.call("POST", "/v1/chat/completions", &asked, &body).await;
        let told = &reply.json()["openrouter_metadata"];
        let is = (told["requested"].as_str().unwrap(), told["strategy"].as_str().unwrap());
        assert_eq!(is, (requested, strategy), "{members}: {}", reply.text);
    };
    check(r#""model":"acme/one""#, "acme/one", "direct").await;
    check(r#""model":"acme/one:nitro""#, "acme/one:nitro", "direct").await;
    check(r#""model":"fast""#, "fast", "alias").await;
    check(r#""model":"~acme/family-latest:floor""#, "~acme/family-latest:floor", "latest").await;
    check(r#""models":["fast","acme/two"]"#, "fast", "fallback").await;
    check(r#""model":"acme/one@preset/calm""#, "acme/one@preset/calm", "direct").await;
    check(r#""model":"@preset/calm""#, "@preset/calm", "alias").await;
    check(r#""preset":"calm""#, "@preset/calm", "alias").await;
    // Refusals say it, too.
    check(r#""model":"nobody""#, "nobody", "alias").await;
    check(r#""model":"fast@preset/calm","provider":{"only":["b"]}"#, "fast@preset/calm", "alias").await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_listed_as_an_entry_of_its_own() {
    let house = House::build(&["a"], 10_000_000_000, |config| {
        named(config);
        // It hides the model whose name it has.
        let alias = Alias { name: slug("acme/two"), is_tilde: false, models: vec![slug(MODEL)] };
        config.aliases.push(alias);
    });
    let get = async |path: &str| {
        let reply = house.call("GET", path, &[], "").await;
        (reply.status, reply.json())
    };
    let (_, listed) = get("/v1/models").await;
    let row = |model: &serde_json::Value| {
        let word = |name: &str| model[name].as_str().unwrap().to_owned();
        (word("id"), word("canonical_slug"), model["alias_target"]["slug"].as_str().map(str::to_owned))
    };
    let rows: Vec<_> = listed["data"].as_array().unwrap().iter().map(row).collect();
    let of = |id: &str, target: Option<&str>| (id.into(), MODEL.into(), target.map(str::to_owned));
    let want = [
        of(MODEL, None),
        of("acme/two", Some(MODEL)),
        of("fast", Some(MODEL)),
        of("~acme/family-latest", Some(MODEL)),
    ];
    assert_eq!(rows, want, "an alias of what nobody sells is not listed");
    assert_eq!(listed["total_count"], 4);
    assert_eq!(get("/v1/models/count").await.1["data"]["count"], 4);
    assert_eq!(get("/v1/models?q=FAST").await.1["total_count"], 1);
    assert_eq!(get("/v1/models?model_authors=acme").await.1["total_count"], 4, "by the model's author");
    assert_eq!(get("/v1/models?limit=2&after_id=acme/two").await.1["data"][0]["id"], "fast");
    for alias in ["fast", "~acme/family-latest", "%7Eacme%2Ffamily-latest"] {
        let reply = house.call("GET", &format!("/v1/models/{alias}"), &[], "").await;
        super::api::described("GET", "/v1/models/{model}", &reply);
        let found = listed["data"].as_array().unwrap().iter().find(|model| **model == reply.json());
        assert_eq!(found.unwrap()["canonical_slug"], MODEL, "{alias}: as it is listed");
    }
    assert_eq!(get("/v1/model/~acme/family-latest").await.1["data"]["alias_target"]["slug"], MODEL);
    let (_, endpoints) = get("/v1/models/~acme/family-latest/endpoints").await;
    assert_eq!(
        (&endpoints["data"]["id"], &endpoints["data"]["endpoints"][0]["tag"]),
        (&MODEL.into(), &"a".into())
    );
    for unknown in ["nobody", "acme/family-latest", "~fast"] {
        let (status, refused) = get(&format!("/v1/models/{unknown}")).await;
        assert_eq!(status, 404, "{refused}");
        assert!(refused["error"]["message"].as_str().unwrap().contains(&format!("`{unknown}`")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_keeps_is_named() {
    let house = house();
    let check = async |members: &str, status: u16, param: &str, part: &str| {
        let reply = ask(&house, members).await;
        assert_eq!(reply.status, status, "{}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    };
    check(r#""model":"~acme/other-latest""#, 404, "model", "there is no alias `~acme/other-latest`").await;
    let second = format!(r#""model":"{MODEL}","models":["~b/c"]"#);
    check(&second, 404, "models", "there is no alias `~b/c`").await;
    check(r#""model":"acme/family-latest""#, 404, "model", "no seller offers the model `acme/family-latest`")
        .await;
    check(r#""model":"nobody""#, 404, "model", "no seller offers the model `acme/nine`").await;
    check(r#""model":"fast@preset/none""#, 404, "preset", "there is no preset `none`").await;
    check(r#""model":"fast@preset/odd""#, 400, "temperature", "`temperature` must be").await;
}

#[tokio::test(start_paused = true)]
async fn fallbacks_that_come_to_the_same_model_are_one() {
    let house = house();
    let reply = ask(&house, r#""models":["fast","~acme/family-latest","acme/one"]"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = ask(&house, r#""model":"nobody","models":["fast"]"#).await;
    assert_eq!(reply.status, 200, "the fallback serves: {}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn a_preset_is_merged_and_the_receipt_keeps_what_was_sent() {
    let house = house();
    let check = async |members: &str, want: &str| {
        let body = format!("{{{members},{MESSAGES}}}");
        let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let sent = house.net.requests.lock().pop().unwrap();
        assert!(sent.contains(want), "{sent}");
        let receipt = house.funds.receipts().pop().unwrap();
        let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
        assert_eq!(receipt.request_hash.0, hash, "the hash of what the buyer sent");
    };
    check(r#""model":"@preset/calm""#, r#""temperature":0.25"#).await;
    check(r#""model":"acme/one@preset/calm""#, r#""temperature":0.25"#).await;
    check(r#""preset":"calm","temperature":0.75,"model":"acme/one""#, r#""temperature":0.75"#).await;
    check(r#""model":"acme/one""#, r#"{"model":"one-up","messages""#).await;
    let body = format!(r#"{{"model":"@preset/bare",{MESSAGES}}}"#);
    let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
    assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some("model")));
    assert!(reply.text.contains("the preset `bare` is part of this request"), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn a_policy_binds_and_says_so() {
    let house = House::new(&["a", "b"]);
    for seller in ["a", "b"] {
        house.net.script(seller, good_plain());
    }
    house.funds.bind(r#"{"ignore":["a"]}"#);
    let reply = house.chat("").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(house.funds.receipts()[0].seller.as_ref().unwrap().as_str(), "b", "though dearer");
    let reply = house.chat(r#","provider":{"only":["a"]}"#).await;
    assert_eq!(reply.status, 404, "{}", reply.text);
    assert!(reply.text.contains("policy"), "the rule is told apart from the request's own: {}", reply.text);
    house.funds.bind(r#"{"max_price":{"prompt":"0.5"}}"#);
    let reply = house.chat(r#","provider":{"max_price":{"prompt":"100"}}"#).await;
    assert_eq!(reply.status, 404, "a request cannot loosen it: {}", reply.text);
    assert!(reply.text.contains("a policy of the account or the key forbids"), "{}", reply.text);
    house.funds.bind(r#"{"onl":["a"]}"#);
    let reply = house.chat("").await;
    assert_eq!(reply.status, 403, "a policy that nobody understands lets nothing through: {}", reply.text);
    assert_eq!(house.funds.open_holds(), 0);
}

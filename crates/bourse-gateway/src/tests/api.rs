//! The API beside generations: what it answers is what it describes.

use super::fakes::{
    House, KEY, MANAGEMENT_KEY, MODEL, OTHER_KEY, Reply, chat_body, good_plain, prices, provider,
};
use crate::routes::openapi;
use crate::{ASKS_MAX, ProviderModel};
use bourse_market::{DataPolicy, Operations, Supports};
use bourse_types::ModelSlug;
use serde_json::{Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// Holds an answer against the description of the operation at that pattern.
pub(super) fn described(method: &str, pattern: &str, reply: &Reply) {
    let operation = &DOCUMENT["paths"][pattern][method.to_ascii_lowercase()];
    let kind = reply.headers["content-type"].to_str().unwrap().split(';').next().unwrap();
    let response = &operation["responses"][reply.status.to_string()];
    let schema = &response["content"][kind]["schema"];
    assert!(schema.is_object(), "{method} {pattern} does not describe {} {kind}", reply.status);
    let mut schema = schema.clone();
    schema["components"] = DOCUMENT["components"].clone();
    let value = if kind == "application/json" { reply.json() } else { Value::from(reply.text.clone()) };
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {pattern} {}: {errors:?}\n{}", reply.status, reply.text);
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Providers with models of all kinds.
fn market() -> House {
    House::build(&["a", "b/eu"], 10_000_000_000, |config| {
        let model =
            |slug: &str, pico| ProviderModel::new(ModelSlug::parse(slug).unwrap(), "up", prices(pico));
        let [a, b] = &mut config.providers[..] else { panic!("two providers") };
        a.models.push(ProviderModel {
            supports: Supports::NONE,
            context_tokens_max: 4_096,
            data: DataPolicy::ZDR,
            ..model("acme/two", 5)
        });
        a.models.push(ProviderModel { operations: Operations::EMBEDDINGS, ..model("other/vec", 7) });
        b.models.push(ProviderModel {
            operations: Operations::IMAGES,
            unit: Some(bourse_market::Unit::Image),
            ..model("other/draw", 9)
        });
        b.models.push(ProviderModel { prices: None, region: Some("eu-west".into()), ..model("zoo/last", 1) });
    })
}

fn ids(reply: &Reply) -> Vec<String> {
    let data = reply.json()["data"].clone();
    data.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn models_are_filtered_and_ordered() {
    let house = market();
    let check = async |query: &str, want: &[&str]| {
        let reply = house.call_as(None, "GET", &format!("/v1/models{query}"), &[], "").await;
        assert_eq!(reply.status, 200, "{query}: {}", reply.text);
        described("GET", "/v1/models", &reply);
        assert_eq!(ids(&reply), want, "{query}");
        assert_eq!(reply.json()["total_count"], want.len(), "{query}");
    };
    let all = [MODEL, "acme/two", "other/draw", "other/vec", "zoo/last"];
    check("", &all).await;
    check("?output_modalities=all&category=legal", &all).await;
    check("?q=ACME%2F", &[MODEL, "acme/two"]).await;
    check("?q=nowhere", &[]).await;
    check("?supported_parameters=tools,seed&output_modalities=text", &[MODEL, "zoo/last"]).await;
    check("?output_modalities=embeddings,image", &["other/draw", "other/vec"]).await;
    // Who draws or embeds takes no parameter of conversations.
    check("?supported_parameters=max_tokens", &[MODEL, "acme/two", "zoo/last"]).await;
    check("?input_modalities=image", &[MODEL, "zoo/last"]).await;
    check("?context=4097&q=acme", &[MODEL]).await;
    check("?context=4096&q=acme", &[MODEL, "acme/two"]).await;
    check("?model_authors=zoo,nobody", &["zoo/last"]).await;
    check("?providers=b", &[MODEL, "other/draw", "zoo/last"]).await;
    check("?providers=b%2Feu&q=acme", &[MODEL]).await;
    check("?zdr=true", &["acme/two"]).await;
    check("?distillable=true", &[]).await;
    check("?region=eu", &["zoo/last"]).await;
    check("?region=e", &[]).await;
    check("?max_price=0.000007", &["acme/two", "other/vec"]).await;
    check("?min_price=0.000008", &[MODEL, "other/draw"]).await;
    check("?min_output_price=0.000014&max_output_price=0.000018", &["other/draw", "other/vec"]).await;
    check("?max_age_days=9", &[]).await;
    check("?min_tool_success_rate=0", &[]).await;
    check("?arch=other", &all).await;
    check("?arch=Llama", &[]).await;
    let cheap = ["acme/two", "other/vec", "other/draw", MODEL, "zoo/last"];
    check("?sort=pricing-low-to-high", &cheap).await;
    check("?sort=pricing-high-to-low", &[MODEL, "other/draw", "other/vec", "acme/two", "zoo/last"]).await;
    check("?sort=context-high-to-low", &[MODEL, "other/draw", "other/vec", "zoo/last", "acme/two"]).await;
    check("?sort=latency-low-to-high", &all).await;
    for query in ["?limit=0", "?limit=1001", "?offset=-1", "?wat=1", "?sort=newest", "?zdr=maybe", "?q="] {
        let reply = house.call_as(None, "GET", &format!("/v1/models{query}"), &[], "").await;
        assert_eq!(reply.status, 400, "{query}");
        described("GET", "/v1/models", &reply);
        let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
        assert!(query.starts_with(&format!("?{param}=")), "{query} {param}");
    }
}

#[tokio::test(start_paused = true)]
async fn models_come_in_pages_that_end() {
    let house = market();
    let mut next = Some("/api/v1/models?limit=2&sort=pricing-low-to-high".to_owned());
    let (mut all, mut pages) = (Vec::new(), 0);
    while let Some(path) = next {
        let reply = house.call("GET", &path, &[], "").await;
        described("GET", "/v1/models", &reply);
        let page = ids(&reply);
        assert!(page.len() <= 2, "{page:?}");
        assert_eq!(reply.json()["total_count"], 5);
        all.extend(page);
        pages += 1;
        next = reply.json()["links"]["next"].as_str().map(str::to_owned);
    }
    assert_eq!((pages, all.len()), (3, 5));
    let after = house.call("GET", &format!("/v1/models?limit=2&after_id={MODEL}"), &[], "").await;
    assert_eq!(ids(&after), ["acme/two", "other/draw"]);
    assert_eq!(after.json()["links"]["next"], "/v1/models?limit=2&offset=3");
    assert_eq!(ids(&house.call("GET", "/v1/models?after_id=nobody", &[], "").await), [""; 0]);
    let beyond = house.call("GET", "/v1/models?offset=5", &[], "").await;
    assert_eq!((ids(&beyond).len(), &beyond.json()["links"]["next"]), (0, &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn one_model_has_three_faces() {
    let house = market();
    let bare = house.call("GET", "/v1/models/acme%2Fone", &[], "").await;
    described("GET", "/v1/models/{model}", &bare);
    let model = bare.json();
    assert_eq!(
        (&model["object"], &model["type"], &model["owned_by"]),
        (&json!("model"), &json!("model"), &json!("acme"))
    );
    assert_eq!(model["pricing"]["prompt"], "0.000001");
    let enveloped = house.call("GET", "/api/v1/model/acme/one", &[], "").await;
    described("GET", "/v1/model/{author}/{slug}", &enveloped);
    assert_eq!(enveloped.json()["data"], model);
    let offers = house.call("GET", "/v1/models/acme/one/endpoints", &[], "").await;
    described("GET", "/v1/models/{author}/{slug}/endpoints", &offers);
    let endpoints = offers.json()["data"]["endpoints"].clone();
    let tags: Vec<&str> = endpoints.as_array().unwrap().iter().map(|e| e["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["a", "b/eu"]);
    assert_eq!((&endpoints[0]["status"], &endpoints[0]["uptime_last_5m"]), (&json!(0), &Value::Null));
    let drawn = house.call("GET", "/v1/models/other%2Fdraw", &[], "").await.json();
    assert_eq!(drawn["architecture"]["output_modalities"], json!(["image"]));
    assert_eq!(drawn["pricing"]["image_output"], "0");
    let unpriced = house.call("GET", "/v1/models/zoo/last/endpoints", &[], "").await;
    described("GET", "/v1/models/{author}/{slug}/endpoints", &unpriced);
    let endpoint = unpriced.json()["data"]["endpoints"][0].clone();
    assert_eq!((&endpoint["status"], &endpoint["pricing"]["prompt"]), (&json!(-1), &json!("-1")));
    for (path, pattern) in [
        ("/v1/models/no/such", "/v1/models/{model}"),
        ("/v1/models/%FF", "/v1/models/{model}"),
        ("/v1/model/no/such", "/v1/model/{author}/{slug}"),
        ("/v1/models/no/such/endpoints", "/v1/models/{author}/{slug}/endpoints"),
    ] {
        let reply = house.call("GET", path, &[], "").await;
        assert_eq!(reply.status, 404, "{path}");
        described("GET", pattern, &reply);
    }
}

#[tokio::test(start_paused = true)]
async fn the_small_lists_fit_their_description() {
    let house = market();
    for (path, count) in [("/v1/embeddings/models", 1), ("/v1/images/models", 1)] {
        let reply = house.call_as(None, "GET", path, &[], "").await;
        described("GET", path, &reply);
        assert_eq!(ids(&reply).len(), count, "{path}");
    }
    let zdr = house.call_as(None, "GET", "/v1/endpoints/zdr", &[], "").await;
    described("GET", "/v1/endpoints/zdr", &zdr);
    assert_eq!(zdr.json()["data"][0]["model_id"], "acme/two");
    let providers = house.call_as(None, "GET", "/v1/providers", &[], "").await;
    described("GET", "/v1/providers", &providers);
    assert_eq!(providers.json()["data"][1]["slug"], "b/eu");
    assert_eq!(providers.json()["data"][1]["headquarters"], Value::Null);
    let count = house.call_as(None, "GET", "/v1/models/count?output_modalities=text", &[], "").await;
    described("GET", "/v1/models/count", &count);
    assert_eq!(count.json(), json!({ "data": { "count": 3 } }));
    for path in ["/health", "/metrics", "/openapi.json", "/v1/log/checkpoint", "/v1/log/consistency?from=2"] {
        let reply = house.call_as(None, "GET", path, &[], "").await;
        assert_eq!(reply.status, 200, "{path}");
        described("GET", path.split('?').next().unwrap(), &reply);
    }
    for query in ["", "?from=0", "?from=5", "?from=x"] {
        let reply = house.call_as(None, "GET", &format!("/v1/log/consistency{query}"), &[], "").await;
        assert_eq!(reply.status, 400, "{query}");
        described("GET", "/v1/log/consistency", &reply);
    }
}

#[tokio::test(start_paused = true)]
async fn own_models_are_those_that_the_policies_leave() {
    let house = market();
    let own = async || {
        let reply = house.call("GET", "/v1/models/user", &[], "").await;
        described("GET", "/v1/models/user", &reply);
        ids(&reply)
    };
    assert_eq!(own().await.len(), 5);
    house.funds.set_policy(r#"{"only":["b"]}"#);
    assert_eq!(own().await, [MODEL, "other/draw", "zoo/last"]);
    house.funds.set_policy(r#"{"zdr":true}"#);
    assert_eq!(own().await, ["acme/two"]);
    house.funds.set_policy(r#"{"onyl":["b"]}"#);
    let unreadable = house.call("GET", "/v1/models/user", &[], "").await;
    assert_eq!(unreadable.status, 403, "a policy that cannot be read lets nothing through");
    described("GET", "/v1/models/user", &unreadable);
}

#[tokio::test(start_paused = true)]
async fn who_is_nobody_gets_401_and_who_may_not_403() {
    let house = market();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"].is_null() {
                continue;
            }
            let call = path.replace("{hash}", "00").replace("{id}", "gen-1").replace("{interval}", "daily");
            let method = method.to_ascii_uppercase();
            for authorization in [None, Some("Bearer nobody"), Some("Basic x")] {
                let reply = house.call_as(authorization, &method, &call, &[], "{}").await;
                assert_eq!(reply.status, 401, "{method} {path}");
                described(&method, path, &reply);
            }
            if ["/v1/keys", "/v1/workspaces", "/v1/organization"].iter().any(|begin| path.starts_with(begin))
            {
                let reply = house.call(&method, &call, &[], "{}").await;
                assert_eq!(reply.status, 403, "{method} {path}");
                described(&method, path, &reply);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_lives_from_its_making_to_its_end() {
    let house = market();
    let manager = bearer(MANAGEMENT_KEY);
    let call = async |method: &str, path: &str, body: &str, status: u16| {
        let reply = house.call_as(Some(&manager), method, path, &[], body).await;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text);
        let pattern = if path.starts_with("/v1/keys/") { "/v1/keys/{hash}" } else { "/v1/keys" };
        described(method, pattern, &reply);
        reply
    };
    let body =
        r#"{"name":"app","limit":1.000000001,"limit_reset":"daily","expires_at":"2099-01-01T00:00:00Z"}"#;
    let made = call("POST", "/v1/keys", body, 201).await;
    assert_eq!(made.json()["key"], "sk-secret-0");
    assert!(made.text.contains("\"limit\":1.000000001"), "{}", made.text);
    let path = format!("/v1/keys/{}", made.json()["data"]["hash"].as_str().unwrap());
    let got = call("GET", &path, "", 200).await;
    assert_eq!(got.json()["data"], made.json()["data"]);
    assert!(!got.text.contains("sk-secret"), "{}", got.text);
    let changed = call("PATCH", &path, r#"{"name":"new","limit":null,"disabled":true}"#, 200).await.json();
    assert_eq!((&changed["data"]["name"], &changed["data"]["limit"]), (&json!("new"), &Value::Null));
    assert_eq!(call("GET", "/v1/keys", "", 200).await.json()["data"], json!([]));
    let all = call("GET", "/v1/keys?include_disabled=true&offset=0", "", 200).await.json();
    assert_eq!(all["data"][0]["name"], "new");
    assert_eq!(call("DELETE", &path, "", 200).await.json(), json!({ "deleted": true }));
    for method in ["GET", "DELETE"] {
        call(method, &path, "", 404).await;
        call(method, "/v1/keys/nonsense", "", 404).await;
    }
    call("PATCH", &path, "{}", 404).await;
    call("PATCH", &path, "[]", 400).await;
    for body in ["", "[]", "{}", r#"{"name":""}"#, r#"{"name":"a","limit":-1}"#, r#"{"name":"a","wat":1}"#] {
        call("POST", "/v1/keys", body, 400).await;
    }
    call("POST", "/v1/keys", &format!(r#"{{"name":"{}"}}"#, "x".repeat(70_000)), 413).await;
    call("GET", "/v1/keys?offset=x", "", 400).await;
}

#[tokio::test(start_paused = true)]
async fn the_books_are_told_to_their_owner_alone() {
    let house = market();
    house.net.script("a", good_plain());
    house.net.script("b", good_plain());
    let chat = house.chat("").await;
    assert_eq!(chat.status, 200, "{}", chat.text);
    described("POST", "/v1/chat/completions", &chat);
    let id = chat.headers["x-generation-id"].to_str().unwrap().to_owned();
    assert_eq!(chat.headers["request-id"], id.as_str());
    for (path, pattern) in [
        (format!("/v1/generation?id={id}"), "/v1/generation"),
        (format!("/v1/receipts/{id}"), "/v1/receipts/{id}"),
        (format!("/v1/reports/best-execution?id={id}"), "/v1/reports/best-execution"),
    ] {
        let own = house.call("GET", &path, &[], "").await;
        assert_eq!(own.status, 200, "{path}: {}", own.text);
        described("GET", pattern, &own);
        let foreign = house.call_as(Some(&bearer(OTHER_KEY)), "GET", &path, &[], "").await;
        assert_eq!(foreign.status, 404, "{path}");
        described("GET", pattern, &foreign);
        let none = house.call("GET", &path.replace(&id, "gen-nobody"), &[], "").await;
        assert_eq!(none.status, 404, "{path}");
        described("GET", pattern, &none);
    }
    let record = house.call("GET", &format!("/v1/generation?id={id}"), &[], "").await.json()["data"].clone();
    assert_eq!(record["total_cost"], chat.json()["usage"]["cost"]);
    assert_eq!(record["tokens_prompt"], chat.json()["usage"]["prompt_tokens"]);
    assert_eq!(record["provider_responses"][0]["status"], 200);
    for path in ["/v1/key", "/v1/credits", "/v1/activity", "/v1/activity?date=2026-08-19&group_by=day"] {
        let reply = house.call("GET", path, &[], "").await;
        assert_eq!(reply.status, 200, "{path}");
        described("GET", path.split('?').next().unwrap(), &reply);
    }
    assert!(house.call("GET", "/v1/key", &[], "").await.text.contains("\"usage\":0.000001234,"));
    for path in ["/v1/generation", "/v1/activity?date=yesterday", "/v1/activity?api_key_hash=x"] {
        let reply = house.call("GET", path, &[], "").await;
        assert_eq!(reply.status, 400, "{path}");
        described("GET", path.split('?').next().unwrap(), &reply);
    }
}

#[tokio::test(start_paused = true)]
async fn best_execution_shows_who_else_could_have_served() {
    let house = market();
    house.net.script("a", good_plain());
    house.net.script("b", good_plain());
    for rest in [r#","provider":{"order":["b/eu"]}"#, r#","provider":{"only":["a"]}"#] {
        assert_eq!(house.chat(rest).await.status, 200);
    }
    let report = async |query: &str, key: &str| {
        let path = format!("/v1/reports/best-execution{query}");
        let reply = house.call_as(Some(&bearer(key)), "GET", &path, &[], "").await;
        described("GET", "/v1/reports/best-execution", &reply);
        reply.json()["data"].clone()
    };
    let own = report("", KEY).await;
    let [only, ordered] = &own["generations"].as_array().unwrap()[..] else { panic!("{own}") };
    assert_eq!((&only["reason"], &only["next_best"]), (&json!("only_eligible"), &Value::Null));
    assert_eq!((&ordered["reason"], &ordered["provider"]), (&json!("buyer_order"), &json!("b/eu")));
    // Nine prompt tokens and three others at 1 and 2 millionths of a dollar, or ten times that.
    assert_eq!((&ordered["cost"], &ordered["next_best"]["cost"]), (&json!(0.00015), &json!(0.000_015)));
    assert_eq!((&own["totals"]["generations"], &own["totals"]["at_cheapest"]), (&json!(2), &json!(1)));
    assert_eq!(own["totals"]["cost_at_cheapest"], json!(0.00003));
    let sellers = own["neutrality"]["sellers"].as_array().unwrap();
    assert_eq!(
        (&sellers[0]["provider"], &sellers[0]["eligible"], &sellers[0]["served"]),
        (&json!("a"), &json!(2), &json!(1))
    );
    assert_eq!(report("?limit=1", KEY).await["generations"].as_array().unwrap().len(), 1);
    assert_eq!(report("?since=2026-01-01&until=2026-01-02", KEY).await["totals"]["generations"], 0);
    let foreign = report("", OTHER_KEY).await;
    assert_eq!((&foreign["generations"], &foreign["neutrality"]["generations"]), (&json!([]), &json!(2)));
    assert_eq!(report("?since=2026-01-02&until=2026-01-01", KEY).await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn eligible_sellers_are_listed_up_to_their_bound() {
    for (sellers, listed, left_out) in [(ASKS_MAX, ASKS_MAX, 0), (ASKS_MAX + 2, ASKS_MAX, 2)] {
        let names: Vec<String> = (0..sellers).map(|n| format!("s{n}")).collect();
        let house = House::build(&["a"], 10_000_000_000, |config| {
            config.providers = names.iter().map(|name| provider(name, 1_000_000)).collect();
        });
        for name in &names {
            house.net.script(name, good_plain());
        }
        assert_eq!(house.chat("").await.status, 200);
        let report = house.call("GET", "/v1/reports/best-execution", &[], "").await.json();
        let one = &report["data"]["generations"][0];
        assert_eq!(one["asks"].as_array().unwrap().len(), listed);
        assert_eq!((&one["asks_left_out"], &one["reason"]), (&json!(left_out), &json!("drawn")));
    }
}

#[tokio::test(start_paused = true)]
async fn heads_and_wrong_methods_say_what_there_is() {
    let house = market();
    let (get, head) =
        (house.call("GET", "/v1/models", &[], "").await, house.call("HEAD", "/v1/models", &[], "").await);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.headers["content-length"], get.text.len().to_string().as_str());
    let wrong = house.call("PUT", "/v1/keys", &[], "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].to_str().unwrap()), (405, "POST, GET, HEAD"));
    assert_eq!(wrong.error_type(), "method_not_allowed");
    let anthropic = house.call("GET", "/v1/messages/count_tokens", &[], "").await;
    assert_eq!((anthropic.status, &anthropic.json()["type"]), (405, &json!("error")));
    let missing = house.call("HEAD", "/v1/nothing", &[], "").await;
    assert_eq!((missing.status, missing.text.as_str()), (404, ""));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_without_a_seller() {
    let house = market();
    let count = async |path: &str, body: &str| {
        let reply = house.call("POST", path, &[], body).await;
        described("POST", path, &reply);
        (reply.status, reply.json()["input_tokens"].as_u64())
    };
    let messages =
        format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(80));
    let (status, tokens) = count("/v1/messages/count_tokens", &messages).await;
    assert_eq!(status, 200);
    assert!((90..130).contains(&tokens.unwrap()), "{tokens:?}");
    let responses = format!(r#"{{"model":"{MODEL}","input":"hi"}}"#);
    assert_eq!(count("/v1/responses/input_tokens", &responses).await.0, 200);
    assert_eq!(count("/v1/messages/count_tokens", "{}").await.0, 400);
    assert_eq!(house.funds.open_holds() + house.funds.receipts().len(), 0);
}

#[test]
fn the_copy_of_the_description_is_true() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let document = serde_json::to_string_pretty(&*DOCUMENT).unwrap() + "\n";
    if std::env::var_os("BOURSE_BLESS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &document).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&path).expect("docs/reference/openapi.json is there");
    let same = written.lines().zip(document.lines()).take_while(|(is, should)| is == should).count();
    assert!(
        written == document,
        "docs/reference/openapi.json differs from the API, first in line {}. If the change is meant, run this test with \
         BOURSE_BLESS=1 and read the diff.",
        same + 1,
    );
}

#[test]
fn every_schema_is_one_and_every_reference_leads_somewhere() {
    fn walk(value: &Value, check: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(members) => {
                check(members);
                members.values().for_each(|value| walk(value, check));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, check)),
            _ => {}
        }
    }
    walk(&DOCUMENT, &mut |members| {
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(DOCUMENT.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    });
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::draft202012::meta::is_valid(schema), "{name} is no schema");
    }
    let mut ids: Vec<&Value> = Vec::new();
    for item in DOCUMENT["paths"].as_object().unwrap().values() {
        ids.extend(item.as_object().unwrap().values().map(|operation| &operation["operationId"]));
    }
    let unique: std::collections::HashSet<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(unique.len(), ids.len());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_an_id_to_ask_about() {
    let house = House::new(&["a"]);
    for (key, path, body, status) in [
        (KEY, "/v1/chat/completions", "{}", 400),
        (KEY, "/v1/messages", r#"{"model":5}"#, 400),
        ("nobody", "/v1/chat/completions", "{}", 401),
        (KEY, "/v1/nowhere", "", 404),
    ] {
        let [one, two] = [
            house.call_as(Some(&bearer(key)), "POST", path, &[], body).await,
            house.call_as(Some(&bearer(key)), "POST", path, &[], body).await,
        ];
        assert_eq!(one.status, status, "{path}");
        let id = &one.headers["x-request-id"];
        assert!(id.to_str().unwrap().starts_with("gen-") && one.headers["request-id"] == *id);
        assert_ne!(*id, two.headers["x-request-id"], "ids are told apart");
        assert!(!one.headers.contains_key("x-generation-id"), "there is no receipt under it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_in_the_wrong_place_is_not_told_again() {
    let house = House::new(&["a"]);
    let secret = "sk-bourse-v1-0123456789abcdef";
    for body in [
        chat_body("").replace(MODEL, secret),
        chat_body(&format!(r#","models":["{secret}"]"#)),
        chat_body(&format!(r#","provider":{{"only":["{secret}"]}}"#)),
    ] {
        let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.text.contains("API key") && !reply.text.contains(secret), "{}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_of_other_origins_may_call_and_read() {
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    let page = ("origin", "https://app.example");
    let asks = [
        page,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-title"),
    ];
    let reply = house.call_as(None, "OPTIONS", "/v1/chat/completions", &asks, "").await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
    assert_eq!(reply.headers["access-control-allow-headers"], "authorization,x-title");
    assert!(reply.headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
    for (body, status) in [(chat_body(""), 200), ("{}".to_owned(), 400)] {
        let reply = house.call("POST", "/v1/chat/completions", &[page], &body).await;
        assert_eq!(
            (reply.status, &reply.headers["access-control-allow-origin"]),
            (status, &"*".parse().unwrap())
        );
        assert!(reply.headers["access-control-expose-headers"].to_str().unwrap().contains("x-bourse-cost"));
        let reply = house.call("POST", "/v1/chat/completions", &[], &body).await;
        assert!(!reply.headers.contains_key("access-control-allow-origin"), "nobody asked");
    }
    let reply = house.call_as(None, "OPTIONS", "/v1/chat/completions", &[page], "").await;
    assert_eq!(reply.status, 405, "that is no question of a page");
}

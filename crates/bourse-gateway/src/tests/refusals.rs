//! Requests that nobody can serve: `error.availability` says why to programs, through every front.

use super::api::described;
use super::fakes::*;
use bourse_market::Quantization;
use bourse_types::ModelSlug;
use bourse_wire::error::AVAILABILITY_ITEMS_MAX;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// Two sellers: `a` at one dollar per million prompt tokens in eight bits, `b` at ten in sixteen.
fn house() -> House {
    let house = House::build(&["a", "b"], 10_000_000_000, |config| {
        config.providers[0].models[0].quantization = Quantization::Fp8;
        config.providers[1].models[0].quantization = Quantization::Bf16;
    });
    house.net.script("a", good_plain());
    house.net.script("b", good_plain());
    house
}

/// The refusal of a call, held against the API's description.
async fn refused(house: &House, path: &str, body: &str) -> (u16, Value) {
    let reply = house.call("POST", path, &[], body).await;
    described("POST", path, &reply);
    let error = reply.json()["error"].clone();
    assert!(!error["message"].as_str().unwrap().is_empty());
    (reply.status, error["availability"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_each_rule_and_the_least_change() {
    let house = house();
    let wish = r#","provider":{"max_price":{"prompt":"0.25"},"quantizations":["fp8"]}"#;
    let (status, told) = refused(&house, CHAT, &chat_body(wish)).await;
    let raise = json!({
        "action": "raise", "field": "provider.max_price.prompt", "value": "1",
        "detail": "raise `provider.max_price.prompt` to 1 USD per million",
    });
    let relaxed = json!({ "provider": "a", "model": MODEL, "changes": [raise] });
    let want = json!({
        "code": "constraint_filtered", "retryable": false, "retry_after": null,
        "requested_models": [MODEL], "affected_providers": ["a", "b"],
        "excluded_by": told["excluded_by"],
        "constraint": { "field": "provider.max_price.prompt", "detail": "raise `provider.max_price.prompt` to 1 USD per million" },
        "offers": 2,
        "exclusions": [
            { "rule": told["exclusions"][0]["rule"], "offers": 1 },
            { "rule": told["exclusions"][1]["rule"], "offers": 1 },
        ],
        "smallest_relaxation": relaxed,
    });
    let mut bare = told.clone();
    for exclusion in bare["exclusions"].as_array_mut().unwrap() {
        if exclusion["rule"] == "max_price" {
            assert_eq!(
                exclusion.as_object_mut().unwrap().remove("smallest_relaxation"),
                Some(relaxed.clone())
            );
        }
    }
    assert_eq!((status, &bare), (404, &want));
    let rules = |list: &Value, of: fn(&Value) -> &Value| {
        let mut words: Vec<_> =
            list.as_array().unwrap().iter().map(|v| of(v).as_str().unwrap().to_owned()).collect();
        words.sort();
        words
    };
    assert_eq!(rules(&told["excluded_by"], |v| v), ["max_price", "quantization"]);
    assert_eq!(rules(&told["exclusions"], |v| &v["rule"]), ["max_price", "quantization"]);
    // A program does what it is told, and is served.
    let change = &told["smallest_relaxation"]["changes"][0];
    assert_eq!((&change["action"], &change["field"]), (&json!("raise"), &json!("provider.max_price.prompt")));
    let mut body: Value = serde_json::from_str(&chat_body(wish)).unwrap();
    body["provider"]["max_price"]["prompt"] = change["value"].clone();
    let reply = house.call("POST", CHAT, &[], &body.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(house.funds.receipts()[0].seller.as_ref().unwrap().as_str(), "a");
}

#[tokio::test(start_paused = true)]
async fn every_front_tells_it() {
    let house = house();
    let rest = r#","provider":{"only":["nobody"]}"#;
    for (path, body) in [
        (CHAT, chat_body(rest)),
        (CHAT, chat_body(&format!(r#","stream":true{rest}"#))),
        ("/v1/messages", chat_body(&format!(r#","max_tokens":9{rest}"#))),
        ("/v1/messages", chat_body(&format!(r#","max_tokens":9,"stream":true{rest}"#))),
        ("/v1/responses", format!(r#"{{"model":"{MODEL}","input":"hi"{rest}}}"#)),
        ("/v1/completions", format!(r#"{{"model":"{MODEL}","prompt":"hi"{rest}}}"#)),
    ] {
        let (status, told) = refused(&house, path, &body).await;
        assert_eq!((status, &told["code"]), (404, &json!("constraint_filtered")), "{path}");
        assert_eq!(told["exclusions"][0]["rule"], "not_in_only", "{path}");
        let change = &told["smallest_relaxation"]["changes"][0];
        assert_eq!(
            (&change["action"], &change["field"], &change["value"]),
            (&json!("add"), &json!("provider.only"), &json!("a"))
        );
    }
    let (status, told) =
        refused(&house, "/v1/embeddings", &format!(r#"{{"model":"{MODEL}","input":"hi"}}"#)).await;
    assert_eq!((status, &told["code"], &told["offers"]), (400, &json!("wrong_endpoint"), &json!(2)));
    assert_eq!(told.get("smallest_relaxation"), None, "no change of the request would help");
}

#[tokio::test(start_paused = true)]
async fn models_that_nobody_sells_are_told_apart() {
    let house = house();
    let check = async |model: &str, want: &Value| {
        let (status, told) = refused(&house, CHAT, &chat_body("").replace(MODEL, model)).await;
        let is = json!([told["code"], told["requested_models"], told.get("fallback_models"), told["offers"]]);
        assert_eq!((status, &is), (404, want));
    };
    check("no/such", &json!(["model_not_found", ["no/such"], null, 0])).await;
    check("acme/one:free", &json!(["free_variant_ended", ["acme/one:free"], [MODEL], 0])).await;
    let unpriced = House::build(&["a"], 1_000, |config| config.providers[0].models[0].prices = None);
    let (status, told) = refused(&unpriced, CHAT, &chat_body("")).await;
    assert_eq!((status, &told["code"]), (404, &json!("no_endpoints")));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_room_says_when_to_come_back() {
    let full =
        House::build(&["a"], 10_000_000_000, |config| config.providers[0].models[0].capacity = Some(0));
    let (status, told) = refused(&full, CHAT, &chat_body("")).await;
    let is = json!([told["code"], told["retryable"], told["retry_after"], told["exclusions"]]);
    let rules = json!([{ "rule": "at_capacity", "offers": 1 }]);
    assert_eq!((status, is), (503, json!(["capacity_exhausted", true, 1, rules])));
    // Those that were asked, too.
    for (answer, status, code) in [(429, 429, "capacity_exhausted"), (503, 503, "temporarily_unavailable")] {
        let house = House::new(&["a", "b"]);
        for seller in ["a", "b"] {
            house.net.script(seller, vec![Act::Read, json_answer(answer, "retry-after: 7\r\n", "")]);
        }
        let (is, told) = refused(&house, CHAT, &chat_body("")).await;
        let said = json!([
            told["code"],
            told["retryable"],
            told["retry_after"],
            told["requested_models"],
            told["offers"]
        ]);
        assert_eq!((is, said), (status, json!([code, true, 7, [MODEL], 2])));
        let mut sellers: Vec<&str> =
            told["affected_providers"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
        sellers.sort_unstable();
        assert_eq!(sellers, ["a", "b"]);
    }
    // One that is broken is not a matter of room, and neither is the buyer's own money.
    let broken = House::new(&["a"]);
    assert_eq!(refused(&broken, CHAT, &chat_body("")).await, (502, Value::Null));
    let poor = House::build(&["a"], 0, |_| {});
    assert_eq!(refused(&poor, CHAT, &chat_body("")).await, (402, Value::Null));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_is_bounded_and_the_counts_are_not() {
    for sellers in [AVAILABILITY_ITEMS_MAX, AVAILABILITY_ITEMS_MAX + 1] {
        let house = House::build(&["a"], 1_000, |config| {
            config.providers = (0..sellers).map(|n| provider(&format!("s{n:02}"), 1_000_000)).collect();
            // A seller of two of the models is told once.
            let mut two = config.providers[0].models[0].clone();
            two.model = ModelSlug::parse("acme/two").unwrap();
            config.providers[0].models.push(two);
        });
        let wish = r#","models":["acme/two"],"provider":{"max_price":{"prompt":"0.1"}}"#;
        let (status, told) = refused(&house, CHAT, &chat_body(wish)).await;
        assert_eq!((status, &told["offers"]), (404, &json!(sellers + 1)));
        assert_eq!(told["affected_providers"].as_array().unwrap().len(), AVAILABILITY_ITEMS_MAX);
        assert_eq!(told["requested_models"], json!([MODEL, "acme/two"]));
        assert_eq!(told["exclusions"][0]["offers"], sellers + 1);
        assert_eq!(told["smallest_relaxation"]["provider"], "s00");
    }
}

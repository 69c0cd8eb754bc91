//! The ordinary life of requests.

use super::fakes::*;
use bourse_wire::funds::FundsError;
use bourse_wire::receipt::{Finish, Receipt};
use sha2::{Digest as _, Sha256};
use std::sync::atomic::Ordering;
use std::time::Duration;

fn sha256(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_carries_its_cost_and_a_receipt() {
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    let before = house.funds.available();
    let reply = house.chat("").await;
    assert_eq!(reply.status, 200);
    let json = reply.json();
    assert_eq!(json["choices"][0]["message"]["content"], "Hello there");
    assert_eq!(json["usage"]["cost"].to_string(), "0.000015");
    assert_eq!(json["usage"]["cost_details"]["upstream_inference_prompt_cost"].to_string(), "9e-6");
    assert_eq!(reply.headers["x-bourse-cost"], "0.000015000");
    house.check_books(before, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!(reply.headers["x-bourse-receipt"], receipt.request.to_string());
    assert_eq!(receipt.charge.total.0, 15_000);
    assert_eq!((receipt.finish, receipt.streamed), (Finish::Stop, false));
    assert_eq!(receipt.response_hash.0, sha256(&reply.text));
    assert_eq!(receipt.request_hash.0, sha256(&chat_body("")));
    assert_eq!(Receipt::from_canonical_bytes(&receipt.canonical_bytes()).unwrap(), *receipt);
}

#[tokio::test(start_paused = true)]
async fn a_seller_gets_its_own_model_and_key() {
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    house.chat(r#","x_unknown":{"k":[1]},"provider":{"only":["a"]}"#).await;
    let sent = house.net.requests.lock()[0].clone();
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("authorization: Bearer sk-upstream\r\n"));
    assert!(sent.contains("accept-encoding: identity\r\n"));
    assert!(!sent.contains(KEY));
    assert!(sent.ends_with(
        r#"{"model":"one-up","messages":[{"role":"user","content":"hi"}],"x_unknown":{"k":[1]}}"#
    ));
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_as_it_came_and_ends_with_its_cost() {
    let house = House::new(&["a"]);
    house.net.script("a", good_stream(&["Hel", "lo"]));
    let before = house.funds.available();
    let reply = house.chat(r#","stream":true"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let passed =
        format!("data: {}\n\ndata: {}\n\ndata: {}\n\ndata: {}\n\n", role(), text("Hel"), text("lo"), stop());
    assert!(reply.text.starts_with(&passed), "{}", reply.text);
    let last = reply.payloads().pop().unwrap();
    assert_eq!(last["id"], "up-1");
    assert_eq!(last["choices"].as_array().unwrap().len(), 0);
    assert_eq!(last["usage"]["cost"].to_string(), "0.000013");
    assert_eq!(last["usage"]["completion_tokens"], 2);
    house.check_books(before, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!(receipt.response_hash.0, sha256(&passed));
    assert!(receipt.streamed);
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again_and_stale_ones_are_not_fatal() {
    let house = House::new(&["a"]);
    let twice = [good_plain(), good_stream(&["x"])].concat();
    house.net.script("a", [twice, vec![Act::Close]].concat());
    house.net.script("a", good_plain());
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.chat(r#","stream":true"#).await.content(), "x");
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 1);
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_on_reuse_is_tried_afresh_once() {
    let house = House::new(&["a"]);
    house.net.script("a", [good_plain(), vec![Act::Read, Act::Close]].concat());
    house.net.script("a", good_plain());
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 2);
}

/// Balancers reset connections that were idle for too long; nothing of the request has been seen then.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_on_reuse_is_tried_afresh_once() {
    for rest in ["", r#","stream":true"#] {
        let house = House::new(&["a"]);
        house.net.script("a", [good_plain(), vec![Act::Read, Act::Reset]].concat());
        house.net.script("a", if rest.is_empty() { good_plain() } else { good_stream(&["x"]) });
        assert_eq!(house.chat("").await.status, 200);
        let reply = house.chat(rest).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(house.net.connections.load(Ordering::Relaxed), 2);
    }
    // A fresh one is not tried again: the seller may have worked.
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, Act::Reset]);
    assert_eq!(house.chat("").await.status, 502);
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_content_may_be_as_large_as_an_event() {
    let house = House::new(&["a"]);
    let large = "x".repeat(crate::config::PEEK_BYTES_MAX + 1);
    house.net.script("a", good_stream(&[&large]));
    let reply = house.chat(r#","stream":true"#).await;
    assert_eq!((reply.status, reply.content().len()), (200, large.len()));
}

#[tokio::test(start_paused = true)]
async fn the_terminal_waits_for_the_disk() {
    let house = House::new(&["a"]);
    house.net.script("a", good_stream(&["x"]));
    let started = tokio::time::Instant::now();
    house.chat(r#","stream":true"#).await.payloads();
    assert!(started.elapsed() >= house.funds.durable_after);
}

/// Who is told that nothing was charged is not charged, and who may be is told how much at most.
#[tokio::test(start_paused = true)]
async fn an_answer_whose_books_do_not_answer_says_what_it_costs_at_most() {
    async fn check(at_settlement: Option<FundsError>, at_disk: Option<FundsError>, may_cost: bool) {
        for rest in ["", r#","stream":true"#] {
            let strict = |c: &mut crate::GatewayConfig| c.durability = crate::Durability::Strict;
            let house = House::build(&["a"], 10_000_000_000, strict);
            house.funds.fail_books(at_settlement.clone(), at_disk.clone());
            house.net.script("a", if rest.is_empty() { good_plain() } else { good_stream(&["x"]) });
            let reply = house.chat(rest).await;
            let last = if rest.is_empty() { reply.json() } else { reply.payloads().pop().unwrap() };
            let message = last["error"]["message"].as_str().unwrap();
            assert_eq!(
                message.contains("at most $0.0"),
                may_cost,
                "{at_settlement:?} {at_disk:?}: {message}"
            );
            assert_eq!(message.contains("nothing was charged"), !may_cost, "{message}");
            assert_eq!(last["error"]["code"], if may_cost { 504 } else { 503 }, "{message}");
            assert_eq!(last["error"]["metadata"]["retry_after"].is_u64(), !may_cost, "{last}");
            if rest.is_empty() {
                assert_eq!(reply.headers.contains_key("x-should-retry"), may_cost, "{message}");
            } else {
                assert_eq!(last["usage"]["cost"].as_f64().unwrap() > 0.0, may_cost, "{last}");
            }
        }
    }
    check(Some(FundsError::Away), None, true).await;
    check(Some(FundsError::NoHold), None, false).await;
    check(None, Some(FundsError::Away), true).await;
    check(None, Some(FundsError::Journal("full".into())), true).await;
    check(None, Some(FundsError::NoHold), false).await;
}

#[tokio::test(start_paused = true)]
async fn plain_answers_wait_for_the_disk_only_when_told() {
    for (durability, waits) in [(crate::Durability::Group, false), (crate::Durability::Strict, true)] {
        let house = House::build(&["a"], 10_000_000_000, |c| c.durability = durability);
        house.net.script("a", good_plain());
        let started = tokio::time::Instant::now();
        assert_eq!(house.chat("").await.status, 200);
        assert_eq!(started.elapsed() >= house.funds.durable_after, waits);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_stream_extends_its_hold() {
    let house = House::new(&["a"]);
    let piece = "word ".repeat(100);
    let pieces = vec![piece.as_str(); 20];
    house.net.script("a", good_stream(&pieces));
    let before = house.funds.available();
    let reply = house.chat(r#","stream":true"#).await;
    assert_eq!(reply.content(), piece.repeat(20));
    house.check_books(before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_budget_does() {
    // Enough for the prompt and one step of 256 tokens at 2,000 nano-dollars, and not for a second.
    let house = House::build(&["a"], 700_000, |_| {});
    let piece = "word ".repeat(20);
    let pieces = vec![piece.as_str(); 40];
    house.net.script("a", good_stream(&pieces));
    let reply = house.chat(r#","stream":true"#).await;
    let last = reply.payloads().pop().unwrap();
    assert_eq!(last["error"]["code"], 402);
    assert_eq!(last["choices"][0]["finish_reason"], "error");
    house.check_books(700_000, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!(receipt.finish, Finish::Budget);
    assert!(receipt.charge.total.0 > 0);
    assert_eq!(house.net.cancelled.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_key_is_taken_away() {
    let house = House::build(&["a"], 100_000_000, |_| {});
    house.funds.extend_no_more(FundsError::DisabledKey);
    let piece = "word ".repeat(20);
    house.net.script("a", good_stream(&vec![piece.as_str(); 40]));
    let reply = house.chat(r#","stream":true"#).await;
    let last = reply.payloads().pop().unwrap();
    assert_eq!(last["error"]["code"], 401);
    let message = last["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("bourse key enable") && message.ends_with("you pay for what was delivered"),
        "{message}"
    );
    house.check_books(100_000_000, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!(receipt.finish, Finish::Budget);
    assert!(receipt.charge.total.0 > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_markets_own_bounds_end_costs_nothing() {
    let house = House::build(&["a"], 100_000_000, |_| {});
    house.funds.extend_no_more(FundsError::TooMany("bytes wait for the disk"));
    let piece = "word ".repeat(20);
    house.net.script("a", good_stream(&vec![piece.as_str(); 40]));
    let reply = house.chat(r#","stream":true"#).await;
    let last = reply.payloads().pop().unwrap();
    assert_eq!(last["error"]["code"], 503);
    let message = last["error"]["message"].as_str().unwrap();
    assert_eq!(message, "too many bytes wait for the disk; nothing was charged: ask again in a moment");
    house.check_books(100_000_000, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.finish, receipt.charge.total.0), (Finish::Bourse, 0));
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_is_capped_by_the_money_there_is() {
    let house = House::build(&["a"], 2_000_000, |_| {});
    house.net.script("a", good_plain());
    assert_eq!(house.chat("").await.status, 200);
    let sent = house.net.requests.lock()[0].clone();
    let cap = sent
        .rsplit("\"max_completion_tokens\":")
        .next()
        .unwrap()
        .trim_end_matches('}')
        .parse::<u64>()
        .unwrap();
    assert!((256..1_000).contains(&cap), "{cap}");
    house.check_books(2_000_000, 1);
}

#[tokio::test(start_paused = true)]
async fn without_money_nothing_is_asked_and_nothing_is_held() {
    let house = House::build(&["a"], 1_000, |_| {});
    for rest in ["", r#","stream":true"#, r#","max_tokens":1000"#] {
        let reply = house.chat(rest).await;
        assert_eq!((reply.status, reply.error_type().as_str()), (402, "payment_required"));
    }
    assert_eq!(house.net.connections.load(Ordering::Relaxed), 0);
    house.check_books(1_000, 0);
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_cancels_and_pays_for_what_was_delivered() {
    use http_body_util::BodyExt as _;
    let house = House::new(&["a"]);
    let piece = text("hello");
    house.net.script("a", vec![Act::Read, stream_head(), events(&[&role(), &piece, &piece]), Act::Hang]);
    let before = house.funds.available();
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(http_body_util::Full::new(bytes::Bytes::from(chat_body(r#","stream":true"#))))
        .unwrap();
    let mut body = house.gateway.handle(request).await.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.ends_with(b"\n\n"));
    drop(body);
    house.check_books(before, 1);
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.finish, receipt.usage_billed.completion.0), (Finish::Cancelled, 2));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.net.cancelled.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_before_content_pays_nothing() {
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, Act::Hang]);
    let before = house.funds.available();
    let call = house.chat(r#","stream":true"#);
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    house.check_books(before, 1);
    assert_eq!(house.funds.receipts()[0].charge.total.0, 0);
}

#[tokio::test(start_paused = true)]
async fn explain_shows_the_plan_and_every_reason() {
    let house = House::new(&["a", "b"]);
    house.net.script("a", [good_plain(), good_stream(&["x"])].concat());
    let explain = [("x-bourse-explain", "1")];
    let body = chat_body(r#","provider":{"only":["a"]}"#);
    let reply = house.call("POST", "/v1/chat/completions", &explain, &body).await.json();
    assert_eq!(reply["bourse"]["provider"], "a");
    assert_eq!(reply["bourse"]["plan"][0]["attempts"][0]["pricing"]["prompt"], "0.000001");
    assert_eq!(reply["bourse"]["plan"][0]["rejected"][0]["code"], "not_in_only");
    let body = chat_body(r#","stream":true,"provider":{"only":["a"]}"#);
    let streamed = house.call("POST", "/v1/chat/completions", &explain, &body).await;
    let last = streamed.payloads().pop().unwrap();
    assert_eq!(last["bourse"]["plan"][0]["rejected"][0]["provider"], "b");
    assert!(last["usage"]["cost"].is_number());
    let body = chat_body(r#","provider":{"only":["b"]}"#);
    let failed = house.call("POST", "/v1/chat/completions", &explain, &body).await.json();
    assert_eq!(failed["error"]["metadata"]["bourse"]["plan"][0]["attempts"][0]["provider"], "b");
}

#[tokio::test(start_paused = true)]
async fn the_choice_is_told_in_the_words_of_openrouter() {
    let house = House::new(&["a", "b"]);
    house.net.script("a", vec![Act::Read, json_answer(503, "", "")]);
    house.net.script("b", good_plain());
    let asked = [("x-openrouter-metadata", "enabled")];
    let path = "/v1/chat/completions";
    let plain =
        house.call("POST", path, &asked, &chat_body(r#","provider":{"order":["a","b"]}"#)).await.json();
    let told = &plain["openrouter_metadata"];
    assert_eq!((told["requested"].as_str(), told["strategy"].as_str()), (Some(MODEL), Some("direct")));
    assert_eq!((told["attempt"].as_u64(), told["is_byok"].as_bool()), (Some(2), Some(false)));
    let row = |provider: &str| serde_json::json!({"provider": provider, "model": MODEL});
    let with = |mut row: serde_json::Value, name: &str, value: serde_json::Value| {
        row[name] = value;
        row
    };
    let attempts = [with(row("a"), "status", 503.into()), with(row("b"), "status", 200.into())];
    assert_eq!(told["attempts"], serde_json::json!(attempts));
    let available = [with(row("a"), "selected", false.into()), with(row("b"), "selected", true.into())];
    assert_eq!(told["endpoints"], serde_json::json!({"total": 2, "available": available}));
    let house = House::new(&["a"]);
    house.net.script("a", [good_stream(&["x"]), good_stream(&["x"])].concat());
    let body = chat_body(r#","stream":true"#);
    let last = house.call("POST", path, &asked, &body).await.payloads().pop().unwrap();
    assert_eq!(last["openrouter_metadata"]["attempt"], 1);
    let not_asked = house.call("POST", path, &[("x-openrouter-metadata", "disabled")], &body).await;
    assert!(not_asked.payloads().iter().all(|payload| payload.get("openrouter_metadata").is_none()));
}

#[tokio::test(start_paused = true)]
async fn refusals_tell_of_the_choice_where_openrouter_does() {
    let asked = [("x-openrouter-metadata", "enabled"), ("x-bourse-explain", "1")];
    let ask = async |house: &House, path: &str, body: &str| {
        let reply = house.call("POST", path, &asked, body).await;
        assert!(reply.json()["error"]["metadata"].get("openrouter_metadata").is_none(), "{}", reply.text);
        (reply.status, reply.json())
    };
    let available =
        |selected: &str| serde_json::json!([{"provider": "a", "model": MODEL, "selected": selected == "a"}]);
    let chat = "/v1/chat/completions";

    // Somebody was asked and failed.
    let house = House::new(&["a"]);
    house.net.script("a", vec![Act::Read, json_answer(503, "", "")]);
    let (status, failed) = ask(&house, chat, &chat_body("")).await;
    let told = &failed["openrouter_metadata"];
    assert_eq!((status, &told["attempt"], &told["requested"]), (503, &1.into(), &MODEL.into()));
    assert_eq!(told["attempts"], serde_json::json!([{"provider": "a", "model": MODEL, "status": 503}]));
    assert_eq!(told["endpoints"], serde_json::json!({"total": 1, "available": available("none")}));
    assert_eq!(failed["error"]["metadata"]["bourse"]["plan"][0]["attempts"][0]["provider"], "a");

    // Nobody could be asked: the money does not reach, the rules leave nobody, nobody sells it.
    let poor = House::build(&["a"], 0, |_| {});
    let (status, refused) = ask(&poor, chat, &chat_body("")).await;
    assert_eq!((status, &refused["openrouter_metadata"]["attempt"]), (402, &0.into()));
    let only = r#","provider":{"only":["b"]}"#;
    let filtered = serde_json::json!({"total": 1, "available": []});
    let messages = chat_body(&format!(r#","max_tokens":9{only}"#));
    let responses = format!(r#"{{"model":"{MODEL}","input":"hi"{only}}}"#);
    let fronts = [(chat, chat_body(only)), ("/v1/messages", messages), ("/v1/responses", responses)];
    for (path, body) in &fronts {
        let (status, refused) = ask(&house, path, body).await;
        let told = &refused["openrouter_metadata"];
        assert_eq!((status, &told["attempt"], &told["endpoints"]), (404, &0.into(), &filtered), "{path}");
        let rejected = &refused["error"]["metadata"]["bourse"]["plan"][0]["rejected"][0];
        assert_eq!(
            (&rejected["provider"], &rejected["code"]),
            (&"a".into(), &"not_in_only".into()),
            "{path}"
        );
        assert_eq!(refused["type"] == "error", *path == "/v1/messages");
    }
    let unknown = chat_body("").replace(MODEL, "no/such");
    let (status, refused) = ask(&house, chat, &unknown).await;
    assert_eq!((status, &refused["openrouter_metadata"]["requested"]), (404, &"no/such".into()));

    // Nothing is told to who did not ask, nor before the market has looked for a seller.
    for (path, body) in &fronts {
        let refused = house.call("POST", path, &[], body).await.json();
        assert!(refused.get("openrouter_metadata").is_none(), "{refused}");
        assert!(refused["error"]["metadata"].get("bourse").is_none(), "{refused}");
    }
    let (status, refused) = ask(&house, chat, "{}").await;
    assert_eq!((status, refused.get("openrouter_metadata")), (400, None));
}

#[tokio::test(start_paused = true)]
async fn small_endpoints_answer() {
    let house = House::new(&["a", "b"]);
    house.net.script("a", good_plain());
    let id = house.chat(r#","provider":{"only":["a"]}"#).await.headers["x-generation-id"]
        .to_str()
        .unwrap()
        .to_owned();
    for root in ["/v1", "/api/v1"] {
        let get = |path: &str| {
            let path = format!("{root}{path}");
            let house = &house;
            async move { house.call("GET", &path, &[], "").await }
        };
        let models = get("/models").await.json();
        assert_eq!(models["data"][0]["id"], MODEL);
        assert_eq!(models["data"][0]["pricing"]["prompt"], "0.000001");
        let endpoints = get("/models/acme/one/endpoints").await.json();
        assert_eq!(endpoints["data"]["endpoints"].as_array().unwrap().len(), 2);
        let generation = get(&format!("/generation?id={id}")).await.json();
        assert_eq!(generation["data"]["total_cost"].to_string(), "0.000015");
        assert_eq!(generation["data"]["provider_name"], "a");
        assert_eq!(get("/generation?id=gen-0000000000000000000000000A").await.status, 404);
        assert_eq!(get("/generation").await.status, 400);
        assert_eq!(get("/key").await.json()["data"]["limit"].to_string(), "5");
        assert_eq!(get("/credits").await.json()["data"]["total_credits"].to_string(), "10");
        assert_eq!(get("/log/checkpoint").await.json()["size"], 4);
        assert_eq!(get("/log/consistency?from=2").await.json()["path"].as_array().unwrap().len(), 1);
        assert_eq!(get("/log/consistency?from=9").await.status, 400);
        assert_eq!(get(&format!("/receipts/{id}")).await.status, 200);
        assert_eq!(get("/models/none/such").await.status, 404);
    }
    assert_eq!(house.call("GET", "/health", &[], "").await.status, 200);
    assert!(house.call("GET", "/metrics", &[], "").await.text.contains("bourse_offers 2"));
    assert_eq!(house.call("POST", "/admin", &[], "{}").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_bug_leaves_no_hold_behind() {
    let house = std::sync::Arc::new(House::new(&["boom"]));
    let before = house.funds.available();
    let caller = std::sync::Arc::clone(&house);
    let panicked = tokio::spawn(async move { caller.chat("").await }).await;
    assert!(panicked.unwrap_err().is_panic());
    house.check_books(before, 1);
    assert_eq!(house.funds.receipts()[0].finish, Finish::Bourse);
}

#[tokio::test(start_paused = true)]
async fn many_callers_on_a_small_balance_never_overspend() {
    const CALLERS: usize = 256;
    // Enough for some forty first steps of a stream, and not for all.
    let balance = 25_000_000;
    let house = std::sync::Arc::new(House::build(&["a"], balance, |_| {}));
    house.net.script("a", good_stream(&["one ", "two ", "three"]));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..CALLERS {
        let house = std::sync::Arc::clone(&house);
        callers.spawn(async move {
            let rest = if n % 2 == 0 { r#","stream":true"# } else { r#","stream":true,"max_tokens":300"# };
            house.chat(rest).await.status
        });
    }
    let statuses = callers.join_all().await;
    let served = statuses.iter().filter(|s| **s == 200).count();
    assert!(served > 10 && served < CALLERS, "{served}");
    assert!(statuses.iter().all(|s| *s == 200 || *s == 402));
    house.check_books(balance, served);
}

#[tokio::test(start_paused = true)]
async fn the_future_of_a_request_is_small() {
    // It is moved once per request; a kilobyte more is some nanoseconds more.
    let house = House::new(&["a"]);
    let request = http::Request::new(http_body_util::Full::new(bytes::Bytes::new()));
    let size = size_of_val(&house.gateway.handle(request));
    assert!(size < 8 * 1024, "{size}");
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_may_say_what_the_limit_has_left() {
    // Long words: bytes alone would count more tokens than the four that were sent.
    let pieces: Vec<String> =
        std::iter::once(role()).chain((0..4).map(|_| text("incomprehensibly "))).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let house = House::new(&["a", "b"]);
    house.net.script("a", vec![Act::Read, stream_head(), events(&pieces), stream_end()]);
    house.net.script("b", good_stream(&["x"]));
    let rest = r#","stream":true,"max_tokens":10,"stream_failure":"continue","provider":{"order":["a","b"]}"#;
    house.chat(rest).await.payloads();
    let requests = house.net.requests.lock();
    assert!(
        requests[0].contains(r#""max_completion_tokens":10"#)
            && requests[1].contains(r#""max_completion_tokens":6"#),
        "{requests:?}"
    );
}

/// A stream goes as far as the money reaches, not only as far as whole steps of its hold do.
#[tokio::test(start_paused = true)]
async fn a_stream_uses_the_money_to_its_end() {
    const EVENTS: usize = 700;
    let delivered = async |available: u64| {
        let house = House::build(&["a"], available, |_| {});
        let mut script = vec![Act::Read, stream_head(), events(&[&role()])];
        script.extend((0..EVENTS).map(|_| events(&[&text("x")])));
        script.extend([events(&[&stop(), &usage(9, EVENTS as u64), "[DONE]"]), stream_end()]);
        house.net.script("a", script);
        let reply = house.chat(r#","stream":true"#).await;
        if reply.status == 402 {
            return None;
        }
        assert_eq!(reply.status, 200, "{}", reply.text);
        house.check_books(available, 1);
        Some(reply.content().len())
    };
    let mut last = None;
    let mut steps = 0;
    for available in (100_000..1_600_000).step_by(20_000) {
        let now = delivered(available).await;
        assert!(now >= last, "more money, no less answer");
        steps += usize::from(now > last);
        last = now;
    }
    assert_eq!(last, Some(EVENTS), "all of it in the end");
    assert!(steps > 10, "{steps} lengths: it grows with the money");
}

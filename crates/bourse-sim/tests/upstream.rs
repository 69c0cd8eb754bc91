//! The simulator holds what it promises: each fault looks on the wire as its name says. What class each
//! keeps to is checked in every shape, in `shapes.rs`.

use bourse_sim::client::{Caller, Response, call, request};
use bourse_sim::upstream::{
    Connection, Ending, Fault, FaultScript, FaultTiming, Mode, Seller, SellerConfig, SpeedLaw,
};
use serde_json::{Value, json};
use std::time::Duration;

const MODEL: &str = "sim/words";

fn body(mode: Mode) -> Value {
    let messages = json!([{"role": "user", "content": "what is the price"}]);
    match mode {
        Mode::Plain => json!({"model": MODEL, "messages": messages}),
        Mode::Stream => {
            json!({"model": MODEL, "messages": messages, "stream": true, "stream_options": {"include_usage": true}})
        }
    }
}

fn post(body: &Value) -> Vec<u8> {
    request("POST", "/v1/chat/completions", &[], body.to_string().as_bytes())
}

async fn seller(fault: Fault) -> Seller {
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: Duration::from_hours(1) };
    let config = SellerConfig { timing, ..SellerConfig::new("alpha", MODEL) };
    Seller::start(config.with_faults(FaultScript::Always(fault)))
        .await
        .expect("the loopback interface has a free port")
}

async fn get(seller: &Seller, mode: Mode) -> std::io::Result<Response> {
    call(seller.address(), &post(&body(mode))).await
}

/// What a careful client finds in a response.
#[derive(Debug, Default, PartialEq)]
struct Found {
    text: String,
    words: usize,
    dones: usize,
    finishes: usize,
    usages: Vec<Value>,
}

fn look(response: &Response, mode: Mode) -> Found {
    let mut found = Found::default();
    let documents = match mode {
        Mode::Plain => vec![response.text()],
        Mode::Stream => response.events(),
    };
    for document in documents {
        if document == "[DONE]" {
            found.dones += 1;
            continue;
        }
        let value: Value = serde_json::from_str(&document).unwrap_or_default();
        if value["usage"].is_object() {
            found.usages.push(value["usage"].clone());
        }
        for choice in value["choices"].as_array().into_iter().flatten() {
            found.finishes += usize::from(choice["finish_reason"].is_string());
            let said = choice["delta"]["content"].as_str().or_else(|| choice["message"]["content"].as_str());
            found.text.push_str(said.unwrap_or_default());
        }
    }
    found.words = found.text.split_whitespace().count();
    found
}

async fn found(fault: Fault, mode: Mode) -> (Response, Found) {
    let response = get(&seller(fault).await, mode).await.expect("the fault brings a response");
    let found = look(&response, mode);
    (response, found)
}

#[tokio::test]
async fn usage_faults_report_what_they_say() {
    let tokens = |usage: &Value| usage["completion_tokens"].as_u64().unwrap();
    for mode in Mode::ALL {
        let (_, honest) = found(Fault::CrLf, mode).await;
        assert_eq!((honest.words, tokens(&honest.usages[0])), (16, 16));
        assert_eq!(found(Fault::NoUsage, mode).await.1.usages.len(), 0);
        assert_eq!(tokens(&found(Fault::UsageLow, mode).await.1.usages[0]), 8);
        assert_eq!(tokens(&found(Fault::UsageHigh, mode).await.1.usages[0]), 16_000);
        let cached = &found(Fault::CachedAbovePrompt, mode).await.1.usages[0];
        assert!(cached["prompt_tokens_details"]["cached_tokens"].as_u64() > cached["prompt_tokens"].as_u64());
    }
    let (_, twice) = found(Fault::TwoUsageChunks, Mode::Stream).await;
    assert_eq!(twice.usages.iter().map(tokens).collect::<Vec<_>>(), [8, 16]);
    let (response, _) = found(Fault::UsageWithChoices, Mode::Stream).await;
    let with_choices = |event: &String| {
        let value: Value = serde_json::from_str(event).unwrap_or_default();
        value["usage"].is_object() && value["choices"].as_array().is_some_and(|list| !list.is_empty())
    };
    assert_eq!(response.events().iter().filter(|event| with_choices(event)).count(), 1);
}

#[tokio::test]
async fn byte_faults_are_in_the_bytes() {
    let stream = Mode::Stream;
    let (cut, _) = found(Fault::CutMidUtf8, stream).await;
    assert!(std::str::from_utf8(&cut.body).is_err() && !cut.whole);
    assert!(std::str::from_utf8(&found(Fault::CutMidUtf8, Mode::Plain).await.0.body).is_err());
    let (clean, _) = found(Fault::CutWithoutDone, stream).await;
    assert!(clean.whole && !clean.text().contains("[DONE]"));
    let (crlf, _) = found(Fault::CrLf, stream).await;
    assert!(!crlf.text().replace("\r\n", "").contains('\n'));
    let (multi, lines) = found(Fault::MultiLineData, stream).await;
    assert!(multi.text().matches("data: ").count() > 100 && lines.words == 16);
    let (huge, _) = found(Fault::HugeLine, stream).await;
    assert!(huge.text().lines().any(|line| line.len() > 128 * 1024));
    let (gzip, _) = found(Fault::GzipBody, stream).await;
    assert_eq!((gzip.header("content-encoding"), &gzip.body[..2]), (Some("gzip"), &[0x1f, 0x8b][..]));
    let (trailers, _) = found(Fault::ChunkedTrailers, stream).await;
    assert_eq!(trailers.trailers, b"x-sim-checksum: 1");
    let (closed, _) = found(Fault::CloseDelimited, stream).await;
    assert_eq!((closed.header("content-length"), closed.header("transfer-encoding")), (None, None));
    let (halves, _) = found(Fault::SplitSurrogates, stream).await;
    assert!(halves.text().contains("\\ud83e\"") && halves.text().contains("\"\\udd80"));
    let (ids, _) = found(Fault::DuplicateToolCallIds, Mode::Plain).await;
    let calls = &ids.json()["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["id"], calls[1]["id"]);
    assert_eq!(found(Fault::WrongModel, Mode::Plain).await.0.json()["model"], "other/model-7b");
    let (late, after) = found(Fault::ContentAfterFinish, stream).await;
    assert!(late.text().find("stop").unwrap() < late.text().find(" late").unwrap() && after.dones == 1);
    let (_, comments) = found(Fault::KeepAliveComments, stream).await;
    assert_eq!((comments.words, comments.finishes), (16, 1));
}

#[tokio::test]
async fn refusals_say_when_to_return() {
    assert_eq!(found(Fault::RateLimited, Mode::Plain).await.0.header("retry-after"), None);
    assert_eq!(found(Fault::RateLimitedSeconds, Mode::Plain).await.0.header("retry-after"), Some("2"));
    let (dated, _) = found(Fault::RateLimitedDate, Mode::Plain).await;
    assert!(dated.header("retry-after").is_some_and(|value| value.ends_with(" GMT")));
    for (fault, status) in [
        (Fault::ServerError, 500),
        (Fault::BadGateway, 502),
        (Fault::Unavailable, 503),
        (Fault::Overloaded, 529),
        (Fault::Unauthorized, 401),
        (Fault::ModelGone, 404),
    ] {
        assert_eq!(found(fault, Mode::Stream).await.0.status, status, "{fault}");
    }
}

#[tokio::test]
async fn a_refusing_port_comes_back() {
    let seller = seller(Fault::Refuse).await;
    assert!(Caller::connect(seller.address()).await.is_err());
    seller.set_faults(FaultScript::Never);
    // Changing the script is seen by another task; the first connection may still be refused.
    while Caller::connect(seller.address()).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(get(&seller, Mode::Plain).await.is_ok_and(|response| response.status == 200));
}

#[tokio::test]
async fn a_call_names_its_own_fault() {
    let seller = Seller::start(SellerConfig::new("alpha", MODEL)).await.unwrap();
    let mut named = body(Mode::Plain);
    named["metadata"] = json!({"sim_fault": "overloaded"});
    assert_eq!(call(seller.address(), &post(&named)).await.unwrap().status, 529);
    let mut suffixed = body(Mode::Plain);
    suffixed["model"] = json!(format!("{MODEL}@unavailable"));
    assert_eq!(call(seller.address(), &post(&suffixed)).await.unwrap().status, 503);
    let bytes = body(Mode::Plain).to_string();
    let headed =
        request("POST", "/v1/chat/completions", &[("x-sim-fault", "server-error")], bytes.as_bytes());
    assert_eq!(call(seller.address(), &headed).await.unwrap().status, 500);
    let faults: Vec<_> = seller.log().iter().map(|seen| seen.fault).collect();
    assert_eq!(faults, [Some(Fault::Overloaded), Some(Fault::Unavailable), Some(Fault::ServerError)]);
}

#[tokio::test]
async fn connections_are_kept_unless_the_fault_closes_them() {
    let seller = Seller::start(SellerConfig::new("alpha", MODEL)).await.unwrap();
    let mut caller = Caller::connect(seller.address()).await.unwrap();
    for _ in 0..3 {
        caller.send(&post(&body(Mode::Stream))).await.unwrap();
        assert!(caller.response().await.unwrap().whole);
    }
    assert_eq!((seller.calls(), seller.connections()), (3, 1));
    seller.set_faults(FaultScript::Always(Fault::CloseSilently));
    caller.send(&post(&body(Mode::Plain))).await.unwrap();
    let last = caller.response().await.unwrap();
    assert!(last.whole && last.header("connection").is_none());
    let sent_again = caller.send(&post(&body(Mode::Plain))).await;
    assert!(sent_again.is_err() || caller.response().await.is_err());
}

#[tokio::test]
async fn capacity_is_a_limit() {
    let config = SellerConfig { capacity: 1, ..SellerConfig::new("alpha", MODEL) };
    let seller =
        Seller::start(config.with_faults(FaultScript::InOrder(vec![Some(Fault::AcceptThenHang)]))).await;
    let seller = seller.unwrap();
    let mut first = Caller::connect(seller.address()).await.unwrap();
    first.send(&post(&body(Mode::Plain))).await.unwrap();
    seller.wait_for(|log| log.len() == 1).await;
    assert_eq!(call(seller.address(), &post(&body(Mode::Plain))).await.unwrap().status, 429);
    drop(first);
    seller.wait_for(|log| log[0].ending == Ending::ClientGone).await;
    while seller.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(seller.address(), &post(&body(Mode::Plain))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_cancel_is_seen_and_late_bytes_follow_only_from_the_deaf() {
    for (fault, deaf) in [(None, false), (Some(Fault::LateBytes), true)] {
        let speed = SpeedLaw { per_token: Duration::from_millis(1), ..SpeedLaw::default() };
        let config = SellerConfig { speed, completion_words: 64, ..SellerConfig::new("alpha", MODEL) };
        let seller = Seller::start(config.with_faults(FaultScript::InOrder(vec![fault]))).await.unwrap();
        let mut caller = Caller::connect(seller.address()).await.unwrap();
        caller.send(&post(&body(Mode::Stream))).await.unwrap();
        assert!(caller.read_until(b"\"content\":\" ").await);
        drop(caller);
        let log = seller.wait_for(|log| log[0].client_gone_at.is_some()).await;
        assert_eq!(log[0].ending, Ending::ClientGone);
        while seller.open() > 0 {
            tokio::task::yield_now().await;
        }
        let seen = &seller.log()[0];
        assert_eq!(seen.bytes_after_client_gone > 0, deaf, "{seen:?}");
        assert!(seen.tokens_sent < seen.truth.completion, "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_speed_law_is_exact_in_virtual_time() {
    let speed = SpeedLaw { first_token: Duration::from_millis(700), per_token: Duration::from_millis(50) };
    let seller = Seller::start(SellerConfig { speed, ..SellerConfig::new("alpha", MODEL) }).await.unwrap();
    let started = tokio::time::Instant::now();
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let client = async {
        let mut caller = Caller::over(ours);
        caller.send(&post(&body(Mode::Stream))).await.unwrap();
        assert!(caller.response().await.unwrap().whole);
    };
    tokio::join!(client, serve(&seller, theirs));
    assert_eq!(started.elapsed(), Duration::from_millis(700 + 15 * 50));
}

async fn serve(seller: &Seller, connection: impl Connection) {
    seller.serve(connection).await;
}

#[tokio::test]
async fn the_price_list_the_key_and_the_other_endpoint() {
    let config = SellerConfig { bearer: Some("sk-sim".to_owned()), ..SellerConfig::new("alpha", MODEL) };
    let seller = Seller::start(config).await.unwrap();
    let models = call(seller.address(), &request("GET", "/v1/models", &[], b"")).await.unwrap().json();
    assert_eq!(models["data"][0]["pricing"]["completion"], "0.0000004");
    let key = [("authorization", "Bearer sk-sim")];
    let bytes = json!({"model": MODEL, "prompt": "one two", "max_tokens": 3}).to_string();
    let refused = call(seller.address(), &request("POST", "/v1/completions", &[], bytes.as_bytes())).await;
    assert_eq!(refused.unwrap().status, 401);
    let answer =
        call(seller.address(), &request("POST", "/v1/completions", &key, bytes.as_bytes())).await.unwrap();
    assert_eq!(answer.json()["usage"]["total_tokens"], 5);
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "length");
    assert!(!answer.json()["choices"][0]["text"].as_str().unwrap().is_empty());
    let gone = call(seller.address(), &request("POST", "/v1/other", &key, b"{}")).await.unwrap();
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn a_tls_hello_is_reset() {
    let seller = Seller::start(SellerConfig::new("alpha", MODEL)).await.unwrap();
    let mut caller = Caller::connect(seller.address()).await.unwrap();
    caller.send(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
    let error = caller.response().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

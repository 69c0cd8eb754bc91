//! Bad input: each a typed error that names the field and the remedy, and costs nothing.

use crate::house::House;
use bourse_sim::client::{Response, call, request};
use bourse_sim::upstream::SellerConfig;
use bourse_types::NanoUsd;
use serde_json::json;

const MODEL: &str = "fair/model";

/// A chat body with one more member.
fn with(member: &str) -> Vec<u8> {
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}],{member}}}"#).into_bytes()
}

/// A chat body with other messages.
fn messages(value: &str) -> Vec<u8> {
    format!(r#"{{"model":"{MODEL}","messages":{value}}}"#).into_bytes()
}

struct Case {
    body: Vec<u8>,
    status: u16,
    /// What `param` must say; empty when no single field is at fault.
    param: &'static str,
}

fn case(body: impl Into<Vec<u8>>, status: u16, param: &'static str) -> Case {
    Case { body: body.into(), status, param }
}

fn malformed() -> Vec<Case> {
    let deep = format!(r#""x":{}1{}"#, "[".repeat(20_000), "]".repeat(20_000));
    let deep_messages = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let large = format!(r#""x":"{}""#, "a".repeat(10 * 1024 * 1024));
    vec![
        case("", 400, ""),
        case("{", 400, ""),
        case("null", 400, ""),
        case("[]", 400, ""),
        case("\"text\"", 400, ""),
        case("{\"model\":\"fair/model\",}", 400, ""),
        case("not json at all", 400, ""),
        case([&with("\"x\":1")[..], b"trailing"].concat(), 400, ""),
        case(b"{\"model\":\"\xff\xfe\"}".to_vec(), 400, ""),
        case(
            [
                &b"{\"model\":\"fair/model\",\"messages\":[{\"role\":\"user\",\"content\":\""[..],
                b"\xc3\x28\"}]}",
            ]
            .concat(),
            400,
            "",
        ),
        case(with(&deep), 400, ""),
        case(messages(&deep_messages), 400, ""),
        case(with(&large), 413, ""),
        case(with(r#""n":2,"n":1"#), 400, "n"),
        case(vec![0u8; 1_000], 400, ""),
    ]
}

fn wrong_fields() -> Vec<Case> {
    vec![
        case("{}", 400, "model"),
        case(r#"{"model":"no/such-model","messages":[{"role":"user","content":"hi"}]}"#, 404, "model"),
        case(r#"{"model":5,"messages":[{"role":"user","content":"hi"}]}"#, 400, "model"),
        case(r#"{"model":"","messages":[{"role":"user","content":"hi"}]}"#, 400, "model"),
        case(format!(r#"{{"model":"{MODEL}"}}"#), 400, "messages"),
        case(messages("[]"), 400, "messages"),
        case(messages("\"hi\""), 400, "messages"),
        case(messages("{}"), 400, "messages"),
        case(messages("[1]"), 400, "messages[0]"),
        case(messages("[{}]"), 400, "messages[0].role"),
        case(messages(r#"[{"role":"user"}]"#), 400, "messages[0].content"),
        case(messages(r#"[{"role":7,"content":"x"}]"#), 400, "messages[0].role"),
        case(messages(r#"[{"role":"user","content":5}]"#), 400, "messages[0].content"),
        case(with(r#""stream":"yes""#), 400, "stream"),
        case(with(r#""stream_options":1"#), 400, "stream_options"),
        case(with(r#""tools":"none""#), 400, "tools"),
        case(with(r#""tools":[1]"#), 400, "tools[0]"),
        case(with(r#""stop":5"#), 400, "stop"),
        case(with(r#""logit_bias":[]"#), 400, "logit_bias"),
        case(with(r#""response_format":7"#), 400, "response_format"),
        case(with(r#""provider":"openai""#), 400, "provider"),
        case(with(r#""provider":{"order":5}"#), 400, "provider.order"),
        case(with(r#""prompt":"x""#), 400, "prompt"),
    ]
}

fn absurd_numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, values) in [
        ("n", &["0", "-1", "129", "4294967296", "1e99", "1.5", "\"2\"", "[]"][..]),
        ("max_tokens", &["0", "-1", "16777217", "1e3", "99999999999999999999", "2.5", "\"9\""]),
        ("max_completion_tokens", &["0", "-5", "1e999"]),
        ("temperature", &["-0.1", "2.1", "1e999", "\"hot\"", "true"]),
        ("top_p", &["-1", "0", "1.01", "[]"]),
        ("top_k", &["-1", "1.5", "99999999999"]),
        ("min_p", &["-0.5", "1.5"]),
        ("presence_penalty", &["-2.1", "2.1"]),
        ("frequency_penalty", &["-3", "1e40"]),
        ("seed", &["1.5", "99999999999999999999999", "\"7\""]),
        ("top_logprobs", &["-1", "21"]),
    ] {
        cases.extend(values.iter().map(|value| case(with(&format!("\"{field}\":{value}")), 400, field)));
    }
    cases
}

/// A typed error that helps: code, type, message, and the field where there is one.
fn assert_typed(response: &Response, status: u16, param: &str, label: &str) {
    let label = format!("{label}: {} {}", response.status, response.text());
    assert_eq!(response.status, status, "{label}");
    assert!((400..500).contains(&response.status), "{label}");
    let error = &response.json()["error"];
    assert_eq!(error["code"], status, "{label}");
    assert!(error["type"].is_string() && error["metadata"]["error_type"].is_string(), "{label}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.len() > 20, "{label}");
    if !param.is_empty() {
        assert_eq!(error["param"], param, "{label}");
        assert!(
            message.contains(param.split(['[', '.']).next().unwrap_or_default()),
            "{label}: names the field"
        );
    }
}

async fn check(house: &House, cases: Vec<Case>) {
    for case in cases {
        let label: String = String::from_utf8_lossy(&case.body).chars().take(120).collect();
        let response = house.post("/v1/chat/completions", &case.body).await;
        assert_typed(&response, case.status, case.param, &label);
        let under_api = house.post("/api/v1/chat/completions", &case.body).await;
        assert_eq!(under_api.status, case.status, "{label}: the same under /api");
    }
}

async fn open() -> House {
    House::open(vec![SellerConfig::new("fair", MODEL)], "1").await
}

/// Nothing was asked of anybody, nothing was charged, nothing is held.
async fn untouched(house: House) {
    assert_eq!((house.sellers[0].calls(), house.spent()), (0, NanoUsd::ZERO));
    assert_eq!(house.exchange.open_holds(), 0);
    house.close(0).await;
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let house = open().await;
    check(&house, malformed()).await;
    untouched(house).await;
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let house = open().await;
    check(&house, wrong_fields()).await;
    untouched(house).await;
}

#[tokio::test]
async fn absurd_numbers_are_refused() {
    let house = open().await;
    check(&house, absurd_numbers()).await;
    untouched(house).await;
}

#[tokio::test]
async fn completions_have_the_same_manners() {
    let house = open().await;
    for (body, param) in [
        (format!(r#"{{"model":"{MODEL}"}}"#), "prompt"),
        (format!(r#"{{"model":"{MODEL}","prompt":5}}"#), "prompt"),
        (format!(r#"{{"model":"{MODEL}","prompt":{{}}}}"#), "prompt"),
        (format!(r#"{{"model":"{MODEL}","prompt":"x","n":0}}"#), "n"),
        (format!(r#"{{"model":"{MODEL}","prompt":"x","best_of":3}}"#), "best_of"),
    ] {
        let response = house.post("/v1/completions", body.as_bytes()).await;
        assert_typed(&response, 400, param, &body);
    }
    untouched(house).await;
}

#[tokio::test]
async fn unknown_fields_pass_and_n_is_billed_for_each_choice() {
    let house = open().await;
    let one =
        house.post("/v1/chat/completions", &with(r#""x_unknown":{"deep":[1,2]},"max_tokens":16"#)).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let log = house.sellers[0].log();
    assert!(String::from_utf8_lossy(&log[0].body).contains(r#""x_unknown":{"deep":[1,2]}"#));
    let three = house.post("/v1/chat/completions", &with(r#""n":3,"max_tokens":16"#)).await;
    assert_eq!(three.json()["choices"].as_array().map(Vec::len), Some(3));
    let receipts = [one, three].map(|answer| house.receipt_of(&answer).expect("a receipt"));
    let completion = receipts.map(|receipt| receipt.usage_billed.completion.0);
    assert_eq!(completion, [16, 48]);
    house.close(2).await;
}

#[tokio::test]
async fn keys_and_money() {
    let house = House::open(vec![SellerConfig::new("fair", MODEL)], "0.000000001").await;
    let bytes = with("\"max_tokens\":16");
    let path = "/v1/chat/completions";
    for (fields, label) in [
        (vec![], "no key"),
        (vec![("authorization", "Bearer sk-bourse-nobody-has-this-key")], "unknown key"),
        (vec![("authorization", "Basic abc")], "another scheme"),
        (vec![("authorization", "Bearer ")], "an empty key"),
    ] {
        let response = call(house.address, &request("POST", path, &fields, &bytes)).await.unwrap();
        assert_typed(&response, 401, "", label);
        assert!(!response.text().contains("nobody-has-this-key"), "a key is not repeated");
    }
    let poor = house.post(path, &bytes).await;
    assert_typed(&poor, 402, "", "no money");
    let streamed = house.post(path, &with("\"stream\":true")).await;
    assert_typed(&streamed, 402, "", "no money for a stream");
    untouched(house).await;
}

#[tokio::test]
async fn routes_and_methods() {
    let house = open().await;
    for (method, path, status) in [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/generation?id=gen-00000000000000000000000000", 404),
        ("GET", "/v1/generation?id=nonsense", 404),
        ("GET", "/v1/generation", 400),
        ("GET", "/v1/receipts/gen-00000000000000000000000000", 404),
        ("GET", "/v1/models/no/such/endpoints", 404),
    ] {
        let response = call(house.address, &house.request(method, path, b"")).await.unwrap();
        assert_typed(&response, status, "", &format!("{method} {path}"));
    }
    untouched(house).await;
}

#[tokio::test]
async fn a_body_that_only_claims_to_be_long_is_refused_before_it_is_read() {
    let house = open().await;
    let key = format!("Bearer {}", house.key);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\ncontent-length: {}\r\n\r\n",
        u32::MAX
    );
    let response = call(house.address, head.as_bytes()).await.unwrap();
    assert_typed(&response, 413, "", "a claimed length");
    let smuggled = json!({"model": MODEL, "messages": []}).to_string();
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
        smuggled.len()
    );
    assert_typed(&call(house.address, chunked.as_bytes()).await.unwrap(), 400, "messages", "chunked");
    untouched(house).await;
}

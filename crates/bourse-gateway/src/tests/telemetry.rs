//! What operators see of requests, and what nobody may see.

use super::fakes::*;
use super::spans::{Kept, Spans};
use crate::decisions::Anew;
use crate::metrics::tests::{read, reading, value};
use crate::{Timeouts, TraceContext};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::Span;

const STREAM: &str = r#","stream":true"#;

fn cut_stream() -> Vec<Act> {
    vec![Act::Read, stream_head(), events(&[&role(), &text("half")]), Act::Close]
}

async fn metrics(house: &House) -> HashMap<String, Vec<crate::metrics::tests::Sample>> {
    read(&house.call("GET", "/metrics", &[], "").await.text)
}

fn check(span: &Kept, want: &[(&str, &str)]) {
    for (name, value) in want {
        assert_eq!(span.get(name), *value, "{name} of {span:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_answer_is_two_spans() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    let reply = house.chat(r#","session_id":"s-1""#).await;
    let spans = spans.ended();
    assert_eq!(spans.len(), 2);
    let [request, attempt] = [&spans[0], &spans[1]];
    assert_eq!((request.parent, attempt.parent), (None, Some(request.id)));
    assert_eq!((request.name(), attempt.name()), ("chat acme/one", "chat one-up"));
    check(
        request,
        &[
            ("otel.kind", "server"),
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "bourse"),
            ("gen_ai.request.model", MODEL),
            ("gen_ai.request.stream", "false"),
            ("gen_ai.response.model", MODEL),
            ("gen_ai.response.id", reply.headers["x-generation-id"].to_str().unwrap()),
            ("gen_ai.response.finish_reasons", r#"["stop"]"#),
            ("gen_ai.usage.input_tokens", "9"),
            ("gen_ai.usage.output_tokens", "3"),
            ("gen_ai.usage.cache_read.input_tokens", "0"),
            ("http.response.status_code", "200"),
            ("bourse.seller", "a"),
            ("bourse.outcome", "success"),
            ("error.type", ""),
            ("otel.status_code", ""),
        ],
    );
    assert_eq!(request.get("gen_ai.conversation.id").len(), 32);
    check(
        attempt,
        &[
            ("otel.kind", "client"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "one-up"),
            ("server.address", "a"),
            ("server.port", "80"),
            ("bourse.seller", "a"),
            ("bourse.attempt.reason", "first"),
            ("bourse.outcome", "success"),
            ("http.response.status_code", "200"),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_guessed_conversation_has_no_id() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a"]);
    house.net.script("a", good_plain());
    house.chat("").await;
    assert_eq!(spans.ended()[0].get("gen_ai.conversation.id"), "");
}

#[tokio::test(start_paused = true)]
async fn a_streams_span_ends_with_its_last_byte() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a"]);
    house.net.script("a", good_stream(&["x", "y", "z"]));
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(http_body_util::Full::new(bytes::Bytes::from(chat_body(STREAM))))
        .unwrap();
    let answer = house.gateway.handle(request).await;
    assert!(spans.all().iter().all(|span| span.ends == 0));
    let open = metrics(&house).await;
    assert_eq!(value(&open, "bourse_streams_open", &[]), 1);
    assert_eq!(value(&open, "bourse_requests_open", &[]), 1);
    answer.into_body().collect().await.unwrap();
    let spans = spans.ended();
    assert_eq!(spans.len(), 2);
    check(&spans[0], &[("gen_ai.usage.output_tokens", "3"), ("bourse.outcome", "success")]);
    assert!(spans[0].get("gen_ai.response.time_to_first_chunk").parse::<f64>().is_ok());
    let closed = metrics(&house).await;
    assert_eq!(value(&closed, "bourse_streams_open", &[]), 0);
    assert_eq!(value(&closed, "bourse_requests_open", &[]), 0);
    assert_eq!(value(&closed, "bourse_first_content_seconds_count", &[]), 1);
    assert_eq!(value(&closed, "bourse_output_token_seconds_count", &[]), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_stands_beside_the_one_that_answered() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a", "b"]);
    house.net.script("a", vec![Act::Read, json_answer(503, "", "")]);
    house.net.script("b", good_plain());
    assert_eq!(house.chat("").await.status, 200);
    let spans = spans.ended();
    assert_eq!(spans.len(), 3);
    assert!(spans[1..].iter().all(|attempt| attempt.parent == Some(spans[0].id)));
    let failed = [("error.type", "overloaded"), ("http.response.status_code", "503")];
    check(&spans[1], &failed);
    check(&spans[1], &[("bourse.outcome", "failed"), ("otel.status_code", "ERROR")]);
    check(&spans[2], &[("bourse.attempt.reason", "retry"), ("bourse.outcome", "success")]);
    check(&spans[0], &[("bourse.seller", "b"), ("bourse.outcome", "success"), ("otel.status_code", "")]);
    let metrics = metrics(&house).await;
    let count = |name: &str, labels: &[(&str, &str)]| value(&metrics, name, labels);
    assert_eq!(count("bourse_attempts_started_total", &[("reason", "retry")]), 1);
    assert_eq!(count("bourse_attempts_total", &[("seller", "a"), ("outcome", "failed")]), 1);
    assert_eq!(count("bourse_attempts_total", &[("seller", "b"), ("outcome", "success")]), 1);
    assert_eq!(count("bourse_attempt_failures_total", &[("class", "overloaded")]), 1);
    assert_eq!(count("bourse_requests_total", &[("front", "chat"), ("outcome", "success")]), 1);
    assert_eq!(count("bourse_overhead_seconds_count", &[]), 1);
    assert_eq!(count("bourse_offer_breaker_state", &[("seller", "b")]), 0);
    let of_b = [("seller", "b"), ("quantile", "0.5")];
    assert!(reading(&metrics, "bourse_offer_first_content_seconds", &of_b) < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_ends_the_spans_with_what_was_delivered() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a"]);
    let piece = text("hello");
    house.net.script("a", vec![Act::Read, stream_head(), events(&[&role(), &piece, &piece]), Act::Hang]);
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .body(http_body_util::Full::new(bytes::Bytes::from(chat_body(STREAM))))
        .unwrap();
    let mut body = house.gateway.handle(request).await.into_body();
    body.frame().await.unwrap().unwrap();
    assert!(spans.all().iter().all(|span| span.ends == 0));
    drop(body);
    let ended = spans.ended();
    check(&ended[0], &[("bourse.outcome", "cancelled"), ("gen_ai.usage.output_tokens", "2")]);
    check(&ended[1], &[("bourse.outcome", "neutral"), ("error.type", "")]);
    // One that leaves before any content ends them too.
    house.net.only("a", vec![Act::Read, Act::Hang]);
    assert!(tokio::time::timeout(Duration::from_secs(1), house.chat(STREAM)).await.is_err());
    let ended = spans.ended();
    assert_eq!(ended.len(), 4);
    check(&ended[2], &[("bourse.outcome", "cancelled"), ("bourse.seller", "")]);
    let metrics = metrics(&house).await;
    assert_eq!(value(&metrics, "bourse_requests_total", &[("outcome", "cancelled")]), 2);
    assert_eq!(value(&metrics, "bourse_streams_open", &[]), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_continued_under_one_span() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a", "b"]);
    house.net.script("a", cut_stream());
    house.net.script("b", good_stream(&["x", "y"]));
    let reply = house.chat(r#","stream":true,"stream_failure":"continue""#).await;
    assert!(reply.text.contains("continued_by") || reply.content().contains('x'), "{}", reply.text);
    let all = spans.ended();
    assert_eq!(all.len(), 3);
    assert!(all[1..].iter().all(|attempt| attempt.parent == Some(all[0].id)));
    check(&all[1], &[("bourse.outcome", "broken"), ("error.type", "unavailable")]);
    check(&all[2], &[("bourse.outcome", "success"), ("bourse.attempt.reason", "continuation")]);
    check(&all[0], &[("bourse.outcome", "success"), ("bourse.seller", "b")]);
    let billed: u64 = house.funds.receipts().iter().map(|r| r.usage_billed.completion.0).sum();
    assert_eq!(all[0].get("gen_ai.usage.output_tokens"), billed.to_string());
    let metrics = metrics(&house).await;
    assert_eq!(value(&metrics, "bourse_continuations_total", &[]), 1);
    assert_eq!(value(&metrics, "bourse_attempts_started_total", &[("reason", "continuation")]), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_for_good_is_an_error_of_the_span() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a"]);
    house.net.script("a", cut_stream());
    house.chat(STREAM).await.payloads();
    let all = spans.ended();
    check(&all[0], &[("bourse.outcome", "broken"), ("error.type", "seller_error")]);
    check(&all[0], &[("otel.status_code", "ERROR"), ("http.response.status_code", "200")]);
    assert_eq!(value(&metrics(&house).await, "bourse_requests_total", &[("outcome", "broken")]), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_a_span_beside_the_one_that_stalled() {
    let (spans, _guard) = Spans::listen();
    let house = House::new(&["a", "b"]);
    let slow = Duration::from_mins(1);
    let late = [vec![Act::Read, stream_head(), Act::Wait(slow)], good_stream(&["late"])].concat();
    house.net.script("a", [good_stream(&["x"]), late].concat());
    house.net.script("b", good_stream(&["y"]));
    assert_eq!(house.chat(STREAM).await.content(), "x");
    assert_eq!(house.chat(STREAM).await.content(), "y");
    let all = spans.ended();
    assert_eq!(all.len(), 5);
    assert!(all[3..].iter().all(|attempt| attempt.parent == Some(all[2].id)));
    check(&all[3], &[("bourse.attempt.reason", "first"), ("bourse.outcome", "failed")]);
    check(&all[4], &[("bourse.attempt.reason", "hedge"), ("bourse.outcome", "success")]);
    let metrics = metrics(&house).await;
    assert_eq!(value(&metrics, "bourse_hedges_won_total", &[]), 1);
    assert_eq!(value(&metrics, "bourse_attempts_started_total", &[("reason", "hedge")]), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_told_by_class() {
    let (spans, _guard) = Spans::listen();
    let house = House::build(&["a"], 1_000, |_| {});
    let bad_key = [("authorization", "Bearer sk-nobody")];
    let request = http::Request::post("/v1/messages").header(bad_key[0].0, bad_key[0].1);
    let request = request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
    assert_eq!(house.gateway.handle(request).await.status(), 401);
    assert_eq!(house.chat("").await.status, 402);
    assert_eq!(house.call("POST", "/v1/completions", &[], "{").await.status, 400);
    let all = spans.ended();
    assert_eq!(all.len(), 3);
    check(&all[0], &[("bourse.outcome", "unauthorized"), ("http.response.status_code", "401")]);
    check(&all[0], &[("error.type", "authentication"), ("otel.status_code", ""), ("otel.name", "chat")]);
    check(&all[1], &[("bourse.outcome", "unpaid"), ("bourse.front", "chat")]);
    check(&all[2], &[("bourse.outcome", "invalid"), ("otel.name", "text_completion")]);
    let metrics = metrics(&house).await;
    let count =
        |front, outcome| value(&metrics, "bourse_requests_total", &[("front", front), ("outcome", outcome)]);
    assert_eq!(count("messages", "unauthorized"), 1);
    assert_eq!(count("chat", "unpaid"), 1);
    assert_eq!(count("completions", "invalid"), 1);
    assert_eq!(value(&metrics, "bourse_request_duration_seconds_count", &[]), 0);
}

/// Notes what it is asked to adopt, and names every span the same.
#[derive(Debug, Default)]
struct FakeContext(Mutex<Vec<String>>);

const OURS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

impl TraceContext for FakeContext {
    fn adopt(&self, _: &Span, traceparent: &str) {
        self.0.lock().push(traceparent.to_owned());
    }

    fn traceparent(&self, span: &Span) -> Option<String> {
        assert_eq!(span.metadata().map(tracing::Metadata::name), Some("attempt"));
        Some(OURS.to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_trace_goes_in_and_out_and_nothing_else_does() {
    const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let context = Arc::new(FakeContext::default());
    let house = House::build(&["a"], 10_000_000_000, |config| config.traces = Some(context.clone()));
    house.net.script("a", good_plain());
    let headers = [("traceparent", THEIRS), ("tracestate", "x=1"), ("baggage", "user=ann")];
    let body = chat_body("");
    let call = || house.call("POST", "/v1/chat/completions", &headers, &body);
    // Nobody keeps spans: nothing is adopted and nothing is told.
    assert_eq!(call().await.status, 200);
    assert!(!house.net.requests.lock()[0].contains("traceparent"));
    assert!(context.0.lock().is_empty());
    let (_spans, _guard) = Spans::listen();
    assert_eq!(call().await.status, 200);
    assert_eq!(*context.0.lock(), [THEIRS]);
    let sent = house.net.requests.lock()[1].clone();
    assert!(sent.contains(&format!("traceparent: {OURS}\r\n")), "{sent}");
    assert!(!sent.contains("tracestate") && !sent.contains("baggage"), "{sent}");
    // Two parents are none.
    let twice = [("traceparent", THEIRS), ("traceparent", THEIRS)];
    house.call("POST", "/v1/chat/completions", &twice, &body).await;
    assert_eq!(context.0.lock().len(), 1);
}

const PROMPT: &str = "canary-prompt-7f3a";
const TOOL: &str = "canary-tool-91bc";
const NOBODY: &str = "sk-canary-key-55d0";

/// A request on each front that has the canaries wherever a buyer writes words.
fn fronts() -> [(&'static str, String); 3] {
    let schema = format!(r#"{{"type":"object","properties":{{"q":{{"type":"string","const":"{TOOL}"}}}}}}"#);
    let arguments = format!(r#"{{\"q\":\"{TOOL}\"}}"#);
    [
        (
            "/v1/chat/completions",
            format!(
                r#"{{"model":"{MODEL}","messages":[{{"role":"system","content":"{PROMPT}"}},{{"role":"user","content":"{PROMPT}"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_1","type":"function","function":{{"name":"look","arguments":"{arguments}"}}}}]}},{{"role":"tool","tool_call_id":"call_1","content":"{TOOL}"}}],"tools":[{{"type":"function","function":{{"name":"look","description":"{PROMPT}","parameters":{schema}}}}}],"session_id":"{PROMPT}","user":"{PROMPT}""#
            ),
        ),
        (
            "/v1/responses",
            format!(
                r#"{{"model":"{MODEL}","instructions":"{PROMPT}","input":[{{"role":"user","content":"{PROMPT}"}},{{"type":"function_call","call_id":"call_1","name":"look","arguments":"{arguments}"}},{{"type":"function_call_output","call_id":"call_1","output":"{TOOL}"}}],"tools":[{{"type":"function","name":"look","parameters":{schema}}}]"#
            ),
        ),
        (
            "/v1/messages",
            format!(
                r#"{{"model":"{MODEL}","max_tokens":64,"system":"{PROMPT}","messages":[{{"role":"user","content":"{PROMPT}"}},{{"role":"assistant","content":[{{"type":"tool_use","id":"call_1","name":"look","input":{{"q":"{TOOL}"}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"call_1","content":"{TOOL}"}}]}}],"tools":[{{"name":"look","input_schema":{schema}}}]"#
            ),
        ),
    ]
}

/// A seller's error that repeats what it was sent and with which key.
fn parrot() -> Vec<Act> {
    let body = format!(r#"{{"error":{{"message":"key sk-upstream may not say {PROMPT} {TOOL}"}}}}"#);
    vec![Act::Read, json_answer(500, "", &body)]
}

async fn call_as(house: &House, key: &str, path: &str, body: &str) -> (u16, String) {
    let request = http::Request::post(path)
        .header("authorization", format!("Bearer {key}"))
        .header("x-session-id", PROMPT)
        .body(http_body_util::Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let (head, body) = house.gateway.handle(request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap())
}

/// What may not stand in anything that operators or strangers see.
fn assert_clean(what: &str, text: &str) {
    for canary in [PROMPT, TOOL, NOBODY, KEY, "sk-upstream"] {
        assert!(!text.contains(canary), "{canary} in {what}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_prompt_and_no_key_leaves_by_telemetry() {
    let (spans, _guard) = Spans::listen();
    let timeouts = Timeouts { idle: Duration::from_secs(1), ..Timeouts::default() };
    let house = House::build(&["a", "b"], 10_000_000_000, |config| {
        config.timeouts = timeouts;
        // Sellers that speak chat alone: the other fronts are translated.
        config.providers.iter_mut().for_each(|provider| provider.kind = "openai-compatible".into());
    });
    house.gateway.take_decisions(Anew::Yes);
    for (path, body) in fronts() {
        let plain = format!("{body}}}");
        let stream = format!("{body},\"stream\":true}}");
        // It answers, fails over, breaks off, is refused.
        for (script, body, status) in
            [(good_plain(), &plain, 200), (good_stream(&["x"]), &stream, 200), (cut_stream(), &stream, 200)]
        {
            house.net.only("a", script);
            house.net.only("b", parrot());
            let (got, text) = call_as(&house, KEY, path, body).await;
            assert_eq!(got, status, "{path} {text}");
        }
        house.net.only("a", parrot());
        for body in [&plain, &stream] {
            let (got, text) = call_as(&house, KEY, path, body).await;
            assert_eq!(got, 502, "{path} {text}");
            assert!(!text.contains("sk-upstream"), "{text}");
        }
        let unknown = plain.replace(MODEL, "acme/none");
        let broken = format!("{body},\"temperature\":\"{PROMPT}\"}}");
        for (key, body) in [(NOBODY, &plain), (KEY, &unknown), (KEY, &broken)] {
            let (got, text) = call_as(&house, key, path, body).await;
            assert!((400..500).contains(&got), "{path} {got} {text}");
            assert_clean("an error body", &text);
        }
    }
    let told = spans.everything();
    assert!(told.contains("attempt failed") && told.contains("gen_ai.usage.output_tokens"), "{told}");
    assert_clean("spans and logs", &told);
    let exposition = house.call("GET", "/metrics", &[], "").await.text;
    read(&exposition);
    assert_clean("metrics", &exposition);
    let journal = house.gateway.take_decisions(Anew::No);
    assert!(!journal.bytes().is_empty());
    assert_clean("the journal of decisions", &String::from_utf8_lossy(journal.bytes()));
    spans.ended();
}

//! Whole answers: written, looked at, read; and errors.

use super::*;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::splice_usage;
use crate::receipt::Finish;
use SellerErrorKind::{ContentPolicy, ContextLength, InvalidRequest, Overloaded, RateLimited, Unavailable};
use proptest::prelude::*;

fn written(answer: &Answer, more: &str) -> String {
    let mut out = Vec::new();
    with_billed(None, |billed| push_answer(&head(), answer, billed, more.as_bytes(), &mut out));
    String::from_utf8(out).unwrap()
}

fn some_answer(parts: Vec<Part>, finish: Finish) -> Answer {
    let choice = crate::dialect::neutral::Choice {
        parts,
        finish: Some(finish),
        logprobs_json: Some(r#"{"token":"h","logprob":-1,"bytes":[104],"top_logprobs":[]}"#.into()),
        ..Default::default()
    };
    Answer { choices: vec![choice], ..Answer::default() }
}

fn call(id: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "f".into(), arguments: "{\"a\":1}".into(), cache: None }
}

#[test]
fn a_whole_answer_has_every_member() {
    let signed = Signed { origin: Origin::Anthropic, id: None, data: "zz".into(), is_encrypted: false };
    let parts = vec![
        Part::Reasoning { text: "hm".into(), is_summary: false, signed: Some(signed) },
        Part::text("hi \"you\""),
        Part::Refusal { text: "no".into() },
        call("c1"),
    ];
    let text = written(&some_answer(parts, Finish::ToolCalls), ",\"x\":1");
    assert_eq!(
        text,
        r#"{"id":"gen-1","object":"response","created_at":5,"completed_at":null,"status":"completed","error":null,"incomplete_details":null,"model":"a/b","provider":"seller","tools":[],"output":[{"id":"rs_bourse_gen-1_0","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"hm"}],"encrypted_content":"signature:bourse:anthropic-claude-v1:zz"},{"id":"msg_gen-1_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[{"token":"h","logprob":-1,"bytes":[104],"top_logprobs":[]}],"text":"hi \"you\""},{"type":"refusal","refusal":"no"}]},{"id":"fc_gen-1_2","type":"function_call","status":"completed","call_id":"c1","name":"f","arguments":"{\"a\":1}"}],"usage":BILLED,"x":1}"#
            .replace("BILLED", BILLED)
    );
}

#[test]
fn ends_have_their_status() {
    let status = |finish| {
        let json: Value =
            serde_json::from_str(&written(&some_answer(vec![Part::text("x")], finish), "")).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let item = text(&json["output"][0]["status"]);
        (
            text(&json["status"]),
            item,
            text(&json["incomplete_details"]["reason"]),
            text(&json["error"]["code"]),
        )
    };
    let case = |a: &str, b: &str, c: &str, d: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned());
    assert_eq!(status(Finish::Stop), case("completed", "completed", "-", "-"));
    assert_eq!(status(Finish::Length), case("incomplete", "incomplete", "max_output_tokens", "-"));
    assert_eq!(status(Finish::ContentFilter), case("incomplete", "incomplete", "content_filter", "-"));
    assert_eq!(status(Finish::Budget), case("failed", "incomplete", "-", "server_error"));
}

#[test]
fn the_usage_is_what_was_billed() {
    let pushed = |billed: &Billed<'_>| {
        let mut out = Vec::new();
        push_usage(billed, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(with_billed(None, pushed), BILLED);
    let raw = r#"{"input_tokens":100,"output_tokens":7,"cost":9}"#;
    assert_eq!(with_billed(Some(raw), pushed), BILLED);
    // A claim that was not billed has no say.
    let other = Usage { prompt: TokenCount(200), ..usage() };
    let text = with_billed(None, |billed| pushed(&Billed { usage: &other, ..*billed }));
    assert!(text.contains("\"reasoning_tokens\":0"));
}

#[test]
fn unknown_counts_are_not_zero() {
    let raw = r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":1,"cache_write_tokens":2},"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2}}"#;
    assert_eq!(
        read_usage(raw),
        Some(SellerUsage { prompt: 3, cached: 1, cache_write: 2, completion: 4, reasoning: 2 })
    );
    assert_eq!(read_usage(r#"{"input_tokens":3}"#), None);
    assert_eq!(read_usage(r#"{"prompt_tokens":3,"completion_tokens":4}"#), None);
}

#[test]
fn a_sellers_answer_is_looked_at_and_gets_our_usage() {
    let body = r#"{"id":"resp_1","object":"response","status":"completed","error":null,"output":[{"type":"reasoning","summary":[{"text":"abc"}]},{"type":"message","content":[{"type":"output_text","text":"hello"}]},{"type":"function_call","call_id":"c","name":"ff","arguments":"{}"}],"usage":{"input_tokens":1,"output_tokens":2}} "#;
    let view = view(body).unwrap();
    assert_eq!((view.chunk.content_bytes, view.chunk.tool_calls), (3 + 5 + 2 + 2 + 1, 1));
    assert_eq!((view.chunk.finishes, view.chunk.finish), (1, Some(Finish::ToolCalls)));
    assert!(view.chunk.error.is_none() && !view.chunk.no_choices);
    assert_eq!(view.id(body.as_bytes()), Some("resp_1"));
    let spliced = splice_usage(crate::dialect::Api::Responses, body, &view, b"{}", b",\"x\":1");
    let want = body.replace(r#"{"input_tokens":1,"output_tokens":2}}"#, r#"{},"x":1}"#);
    assert_eq!(spliced, want.trim_end());
    let failed = super::super::view(
        r#"{"status":"failed","error":{"code":"server_error","message":"m"},"output":[]}"#,
    )
    .unwrap();
    assert!(failed.chunk.error.is_some() && failed.chunk.finish_error && failed.chunk.no_choices);
    assert!(super::super::view("{\"output\":[}").is_err());
}

#[test]
fn a_failed_answer_is_an_error() {
    let body =
        r#"{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"slow"},"output":[]}"#;
    let error = Responses.read_answer(body).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (SellerErrorKind::RateLimited, "slow"));
    assert!(Responses.read_answer("{}").is_err());
    let cut = r#"{"id":"r","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"a\ud83d"}]}]}"#;
    let parts = &Responses.read_answer(cut).unwrap().choices[0].parts;
    assert_eq!(parts[..], [Part::text("a\u{fffd}")], "half a character costs itself alone");
}

#[test]
fn errors_are_told_apart() {
    let kind = |status, body: &str| Responses.read_error(status, body.as_bytes()).kind;
    for (status, code, want) in [
        (400, "context_length_exceeded", ContextLength),
        (400, "invalid_prompt", InvalidRequest),
        (400, "unheard_of", InvalidRequest),
        (400, "invalid_image_format", InvalidRequest),
        (400, "content_policy_violation", ContentPolicy),
        (401, "invalid_api_key", Unavailable),
        (404, "model_not_found", Unavailable),
        (429, "rate_limit_exceeded", RateLimited),
        (429, "insufficient_quota", Unavailable),
        (500, "server_error", Unavailable),
        (500, "invalid_prompt", Unavailable),
        (503, "server_is_overloaded", Overloaded),
    ] {
        let body = format!(
            r#"{{"error":{{"message":"m","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#
        );
        assert_eq!(kind(status, &body), want, "{status} {code}");
    }
    for (status, want) in [(400, InvalidRequest), (429, RateLimited), (500, Unavailable), (503, Overloaded)] {
        let body = r#"{"error":{"message":"m","type":"server_error","code":null}}"#;
        assert_eq!(kind(status, body), want, "{status}: the word says nothing");
    }
    assert_eq!(kind(502, "<html>"), Unavailable);
    assert_eq!(kind(429, r#"{"error":{"message":"m","code":429}}"#), RateLimited);
    assert_eq!(Responses.read_error(400, br#"{"detail":"bad"}"#).message, "bad");
    assert_eq!(Responses.read_error(503, b"\xff").message, "the seller answered 503");
}

fn without_item_ids(mut answer: Answer) -> Answer {
    for part in answer.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        if let Part::Reasoning { signed: Some(signed), .. } = part {
            signed.id = None;
        }
    }
    answer
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(answer in strategies::answer(&Origin::ALL, 1)) {
        let text = written(&answer, "");
        let read = Responses.read_answer(&text).unwrap();
        prop_assert_eq!(read.usage.map(|u| (u.prompt, u.cached, u.completion, u.reasoning)), Some((100, 20, 7, 3)));
        let view = view(&text).unwrap();
        prop_assert_eq!(view.chunk.finish, answer.choices[0].finish);
        prop_assert_eq!(
            without_item_ids(strategies::normal_answer(read)),
            without_item_ids(strategies::normal_answer(answer))
        );
    }
}

//! Answers: what is seen in a seller's, what a buyer gets.

use super::*;
use crate::dialect::gather::Gathered;
use crate::dialect::neutral::{Part, StreamEvent};
use crate::error::{ApiError, ErrorType};
use bourse_types::{PicoUsdPerToken, PriceSchedule};

fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
    Usage::of_tokens(prompt, cached, completion)
}

fn charge(usage: &Usage) -> Charge {
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(75_001),
        request: NanoUsd(5),
        ..PriceSchedule::per_token(PicoUsdPerToken(150_000), PicoUsdPerToken(600_333))
    };
    prices.charge(usage).unwrap()
}

fn usd(nano: u64) -> String {
    let mut out = Vec::new();
    push_usd(&mut out, NanoUsd(nano));
    String::from_utf8(out).unwrap()
}

#[test]
fn dollars_are_exact_decimals() {
    for (nano, text) in [
        (0, "0"),
        (1, "0.000000001"),
        (1_234, "0.000001234"),
        (1_500_000_000, "1.5"),
        (12_000_000_000, "12"),
        (u64::MAX, "18446744073.709551615"),
    ] {
        assert_eq!(usd(nano), text);
    }
}

#[test]
fn cost_details_sum_to_cost_and_sellers_money_is_left_out() {
    let billed = usage(1_000, 100, 50);
    let seller = r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"cost":9,"upstream_inference_cost":9,"prompt_tokens_details":{"cached_tokens":100,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7}}"#;
    let mut out = Vec::new();
    push_usage(&mut out, &billed, &charge(&billed), read_usage(seller).map(|claim| (seller, claim)));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,"prompt_tokens_details":{"cached_tokens":100,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7},"cost":0.000172522,"cost_details":{"upstream_inference_prompt_cost":0.0001425,"upstream_inference_completions_cost":0.000030016,"request":0.000000005,"units":0,"rounding":0.000000001}}"#
    );
}

#[test]
fn a_seller_whose_counts_were_not_billed_has_no_say() {
    let billed = usage(10, 0, 5);
    let seller = r#"{"prompt_tokens":999,"completion_tokens":5,"x":1}"#;
    let mut out = Vec::new();
    push_usage(&mut out, &billed, &charge(&billed), read_usage(seller).map(|claim| (seller, claim)));
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["prompt_tokens"], 10);
    assert_eq!(json["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(json["prompt_tokens_details"]["cache_write_tokens"], 0);
    assert!(json.get("x").is_none());
}

#[test]
fn unknown_counts_are_not_zero() {
    let claim =
        r#"{"prompt_tokens":3,"completion_tokens":4,"completion_tokens_details":{"reasoning_tokens":2}}"#;
    let want = SellerUsage { prompt: 3, cached: 0, cache_write: 0, completion: 4, reasoning: 2 };
    assert_eq!(read_usage(claim), Some(want));
    assert_eq!(read_usage(r#"{"completion_tokens":4}"#), None);
    assert_eq!(read_usage(r#"{"prompt_tokens":4}"#), None);
    assert_eq!(read_usage(r#"{"prompt_tokens":-3,"completion_tokens":4}"#), None);
    assert_eq!(read_usage(r#"{"prompt_tokens":1.5,"completion_tokens":4}"#), None);
    assert_eq!(read_usage("[]"), None);
    let nulls = r#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":null}}"#;
    assert_eq!(read_usage(nulls).unwrap().cached, 0);
    let both = r#"{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cache_write_tokens":5,"cached_tokens":3}}"#;
    assert_eq!(read_usage(both).map(|claim| (claim.cached, claim.cache_write)), Some((3, 5)));
    let bad = r#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":-1}}"#;
    assert_eq!(read_usage(bad), None);
}

fn view(data: &str) -> ChunkView {
    ChunkView::read(Api::Chat, data).unwrap()
}

#[test]
fn content_is_told_from_ceremony() {
    for (delta, deltas) in [
        (r#"{"role":"assistant"}"#, 0),
        (r#"{"role":"assistant","content":""}"#, 0),
        (r#"{"content":null,"refusal":null,"tool_calls":[]}"#, 0),
        (r#"{"content":" "}"#, 1),
        (r#"{"reasoning":"hm"}"#, 1),
        (r#"{"tool_calls":[{"index":0}]}"#, 0),
        (r#"{"tool_calls":[{"index":0,"id":"c1","function":{"name":"","arguments":""}}]}"#, 1),
        (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}"#, 1),
    ] {
        let view = view(&format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#));
        assert_eq!((view.deltas, view.finishes, view.no_choices), (deltas, 0, false), "{delta}");
    }
}

#[test]
fn thoughts_under_several_names_count_once() {
    let bytes = |delta: &str| view(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#)).content_bytes;
    assert_eq!(bytes(r#"{"content":"ab","reasoning":"hmm","reasoning_content":"hmm"}"#), 5);
    assert_eq!(bytes(r#"{"content":"","reasoning":"hmm","reasoning_details":[{"text":"hmm"}]}"#), 3);
    assert_eq!(bytes(r#"{"reasoning_details":[{"text":"hmm"}]}"#), 14);
}

#[test]
fn tool_calls_count_their_text() {
    let call = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"ab","arguments":"cde"}}]}}]}"#;
    let view = view(call);
    assert_eq!((view.tool_calls, view.content_bytes), (1, 6));
}

#[test]
fn ends_errors_and_usage_are_seen_wherever_they_stand() {
    let seen = view(
        r#"{"usage":{"prompt_tokens":1},"choices":[{"delta":{"content":"\"usage\":{"},"finish_reason":"length"}]}"#,
    );
    assert_eq!((seen.finishes, seen.finish, seen.deltas), (1, Some(Finish::Length), 1));
    assert_eq!(seen.usage, Some(9..28));
    assert!(view(r#"{"choices":[],"usage":null}"#).usage.is_none());
    assert!(view(r#"{"error":{"message":"x"}}"#).error.is_some());
    assert!(view(r#"{"choices":[{"delta":{},"finish_reason":"error"}]}"#).finish_error);
    assert!(ChunkView::read(Api::Chat, r#"{"choices":[{"del"#).is_err());
    let text = ChunkView::read(Api::Text, r#"{"choices":[{"text":"ab","finish_reason":"stop"}]}"#).unwrap();
    assert_eq!((text.deltas, text.content_bytes, text.finish), (1, 2, Some(Finish::Stop)));
}

#[test]
fn choices_of_another_endpoint_are_none() {
    let has_choices = |api, body: &str| !PlainView::read(api, body).unwrap().chunk.no_choices;
    let (chat, text) = (r#"{"choices":[{"message":{"content":"x"}}]}"#, r#"{"choices":[{"text":"x"}]}"#);
    assert!(has_choices(Api::Chat, chat) && has_choices(Api::Text, text));
    assert!(!has_choices(Api::Chat, text) && !has_choices(Api::Text, chat));
    let chunk = ChunkView::read(Api::Chat, r#"{"choices":[{"finish_reason":"stop"}]}"#).unwrap();
    assert!(!chunk.no_choices, "a piece of a stream may say little");
}

#[test]
fn usage_is_spliced_into_the_sellers_bytes() {
    let check = |body: &str, want: &str| {
        let view = PlainView::read(Api::Chat, body).unwrap();
        let out = splice_usage(Api::Chat, body, &view, b"{\"cost\":1}", b",\"bourse\":{}");
        assert_eq!(std::str::from_utf8(&out).unwrap(), want);
    };
    check(
        r#"{"id":"x", "usage" : {"a":1} , "choices":[] } "#,
        r#"{"id":"x", "usage" : {"cost":1} , "choices":[] ,"system_fingerprint":null,"bourse":{}}"#,
    );
    check(r#"{"id":"x"}"#, r#"{"id":"x","usage":{"cost":1},"system_fingerprint":null,"bourse":{}}"#);
    check(
        r#"{"usage":null,"system_fingerprint":"f","choices":[{"message":{"tool_calls":null,"reasoning_content":"a"}}]}"#,
        r#"{"system_fingerprint":"f","choices":[{"message":{"reasoning":"a"}}],"usage":{"cost":1},"bourse":{}}"#,
    );
    check(
        r#"{"choices":[{"message":{"reasoning_content":"a"}}],"usage":{"a":1},"system_fingerprint":null}"#,
        r#"{"choices":[{"message":{"reasoning":"a"}}],"usage":{"cost":1},"system_fingerprint":null,"bourse":{}}"#,
    );
}

#[test]
fn usage_in_a_content_event_is_taken_out() {
    let data = r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}"#;
    let raw = format!("data: {data}\n\n");
    let mut view = view(data);
    view.without_usage();
    let out = edited_event(raw.as_bytes(), data, &view.edits);
    assert_eq!(out, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".as_bytes());
}

#[test]
fn what_strict_clients_refuse_is_taken_out_of_a_stream() {
    let check = |data: &str, want: &str| {
        let raw = format!("data: {data}\r\n\r\n");
        let out = edited_event(raw.as_bytes(), data, &view(data).edits);
        assert_eq!(std::str::from_utf8(&out).unwrap(), format!("data: {want}\r\n\r\n"));
    };
    check(
        r#"{"usage":null,"choices":[{"delta":{"role":null,"content":null,"tool_calls":null}}],"system_fingerprint":null}"#,
        r#"{"choices":[{"delta":{"content":null}}]}"#,
    );
    check(
        r#"{"choices":[{"delta":{"reasoning_content":"x"}}]}"#,
        r#"{"choices":[{"delta":{"reasoning":"x"}}]}"#,
    );
    let both = r#"{"choices":[{"delta":{"reasoning_content":"x","reasoning":"x"}}]}"#;
    check(both, both);
    assert!(view(r#"{"choices":[{"delta":{"content":"x"}}],"system_fingerprint":"f"}"#).edits.is_empty());
}

#[test]
fn the_ends_of_our_own_streams_are_golden() {
    let head = AnswerHead::ours(Api::Chat, true, "gen-1", 7, "a/b", "local");
    let mut out = Vec::new();
    head.push_usage_event(&mut out, b"{}", b"");
    let error = ApiError::new(ErrorType::ProviderUnavailable, "gone");
    head.push_error_event(&mut out, &error, b"{}", b"");
    out.extend_from_slice(DONE_EVENT);
    let start =
        r#"{"id":"gen-1","object":"chat.completion.chunk","created":7,"model":"a/b","provider":"local","#;
    let want = [
        format!(r#"data: {start}"choices":[],"usage":{{}}}}"#),
        format!(
            r#"data: {start}"error":{{"code":502,"message":"gone","type":"server_error","param":null,"metadata":{{"error_type":"provider_unavailable"}}}},"choices":[{{"index":0,"delta":{{"content":""}},"logprobs":null,"finish_reason":"error"}}],"usage":{{}}}}"#
        ),
        "data: [DONE]".to_owned(),
    ];
    assert_eq!(String::from_utf8(out).unwrap(), want.map(|l| l + "\n\n").concat());
}

#[test]
fn our_last_events_look_like_the_sellers() {
    let data =
        r#"{"id":"chatcmpl-9","choices":[],"created":5,"object":"chat.completion.chunk","model":"m","x":1}"#;
    let head = AnswerHead::of_chunk(Api::Chat, data).unwrap();
    let mut out = Vec::new();
    head.push_usage_event(&mut out, b"{}", b",\"bourse\":1");
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "data: {\"id\":\"chatcmpl-9\",\"created\":5,\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{},\"bourse\":1}\n\n"
    );
}

#[test]
fn pieces_of_a_choice_are_put_together() {
    let mut gathered = Gathered::default();
    let mut add = |text: &'static str, items: Option<&'static str>| {
        gathered.add(StreamEvent::Text {
            choice: 0,
            text: text.into(),
            logprobs_json: items.map(Into::into),
        });
    };
    add("a", Some(r#"[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]}]"#));
    add("b", None);
    add(
        "c",
        Some(r#"{"token":"c","logprob":-1.5,"bytes":[98],"top_logprobs":[{"token":"d","logprob":-2.0}]}"#),
    );
    let one = gathered.into_choices().remove(0);
    assert_eq!(one.parts, [Part::text("abc")]);
    let logprobs = |api| {
        let mut out = Vec::new();
        push_logprobs(&mut out, api, one.logprobs_json.as_deref(), 7);
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<serde_json::Value>(text.strip_prefix(",\"logprobs\":").unwrap()).unwrap()
    };
    assert_eq!(logprobs(Api::Chat)["content"].as_array().unwrap().len(), 2);
    let text = logprobs(Api::Text);
    assert_eq!(text["tokens"], serde_json::json!(["a", "c"]));
    assert_eq!(text["text_offset"], serde_json::json!([7, 8]));
    assert_eq!(text["top_logprobs"], serde_json::json!([{}, {"d": -2.0}]));
}

//! Answers: whole ones, streams, and what goes wrong in them.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::cohere::reader::usage;
use crate::dialect::grammar::StreamNews;
use crate::dialect::neutral::strategies::{answer_of, merged, normal_answer, of_choice};
use crate::dialect::neutral::{Part, StreamEvent};
use crate::receipt::Finish;
use proptest::prelude::*;
use serde_json::json;

type Read = Result<(Vec<StreamEvent<'static>>, StreamNews), SellerError>;

fn read_stream(lines: &[&str]) -> Read {
    let mut reader = Cohere.reader();
    let (mut events, mut news) = (Vec::new(), StreamNews::default());
    for line in lines {
        let more = reader.read(line, &mut |event| events.push(of_choice(event, 0)))?;
        news = StreamNews { usage: more.usage.or(news.usage), ..more };
    }
    Ok((events, news))
}

/// As the vendor's guides to streaming show them.
#[test]
fn a_stream_says_its_plan_calls_and_end() {
    let (events, news) = read_stream(&[
        r#"{"type":"message-start","id":"fba98ad3","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#,
        r#"{"type":"tool-plan-delta","delta":{"message":{"tool_plan":"I will"}}}"#,
        r#"{"type":"tool-call-start","index":1,"delta":{"message":{"tool_calls":{"id":"get_weather_p1","type":"function","function":{"name":"get_weather","arguments":""}}}}}"#,
        r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\n    \"location"}}}}}"#,
        r#"{"type":"tool-call-delta","index":1,"delta":{"message":{"tool_calls":{"function":{"arguments":"\": \"Madrid\"}"}}}}}"#,
        r#"{"type":"tool-call-end","index":1}"#,
        r#"{"type":"tool-call-start","index":2,"delta":{"message":{"tool_calls":[{"id":"now_ay","type":"function","function":{"name":"now","arguments":""}}]}}}"#,
        r#"{"type":"tool-call-end","index":2}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"billed_units":{"input_tokens":37.0,"output_tokens":28},"tokens":{"input_tokens":913,"output_tokens":83},"cached_tokens":880}}}"#,
        "[DONE]",
    ])
    .unwrap();
    let call = |call, id: &'static str, name: &'static str| StreamEvent::ToolCall {
        choice: 0,
        call,
        id: id.into(),
        name: name.into(),
    };
    let arguments =
        |call, json: &'static str| StreamEvent::ToolArguments { choice: 0, call, json: json.into() };
    let want = [
        StreamEvent::Reasoning { choice: 0, text: "I will".into(), is_summary: false },
        call(0, "get_weather_p1", "get_weather"),
        arguments(0, "{\n    \"location"),
        arguments(0, "\": \"Madrid\"}"),
        call(1, "now_ay", "now"),
        arguments(1, "{}"),
        StreamEvent::Finish { choice: 0, finish: Finish::ToolCalls, native: Some("TOOL_CALL".into()) },
    ];
    assert_eq!(events, want);
    let usage = SellerUsage { prompt: 37, cached: 4, cache_write: 0, completion: 28, reasoning: 0 };
    assert_eq!(news, StreamNews { usage: Some(Some(usage)), is_last: true });
}

#[test]
fn thoughts_texts_and_probabilities_are_told_apart() {
    let (events, _) = read_stream(&[
        r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"thinking","thinking":""}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"thinking":"hm"}}}}"#,
        r#"{"type":"content-end","index":0}"#,
        r#"{"type":"content-delta","index":1,"delta":{"message":{"content":{"text":"a\ud83d"}}},"logprobs":{"text":"a","token_ids":[5,6],"logprobs":[-0.5,-0.25]}}"#,
        r#"{"type":"citation-start","index":0,"delta":{"message":{"citations":{"start":0,"end":1,"text":"a","sources":[]}}}}"#,
        r#"{"type":"debug","prompt":"x"}"#,
    ])
    .unwrap();
    let items = r#"{"bytes":[97],"logprob":-0.75,"token":"a","top_logprobs":[]}"#;
    let want = [
        StreamEvent::Reasoning { choice: 0, text: "hm".into(), is_summary: false },
        StreamEvent::Text { choice: 0, text: "a\u{fffd}".into(), logprobs_json: None },
        StreamEvent::Text { choice: 0, text: "".into(), logprobs_json: Some(items.into()) },
    ];
    assert_eq!(events, want);
}

#[test]
fn a_whole_answer_is_read() {
    let body = r#"{"id":"c14c80c3","finish_reason":"STOP_SEQUENCE","message":{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hi"}]},"usage":{"billed_units":{"search_units":1},"tokens":{"input_tokens":12,"output_tokens":4}},"logprobs":[{"text":"hi","token_ids":[5],"logprobs":[-1.5]}]}"#;
    let answer = Cohere.read_answer(body).unwrap();
    assert_eq!(answer.id.as_deref(), Some("c14c80c3"));
    let choice = &answer.choices[0];
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
    assert_eq!(choice.parts, [thought, Part::text("hi")]);
    assert_eq!((choice.finish, choice.native_finish.as_deref()), (Some(Finish::Stop), Some("STOP_SEQUENCE")));
    assert!(choice.logprobs_json.as_deref().unwrap().contains("-1.5"));
    assert_eq!(
        answer.usage.map(|usage| (usage.prompt, usage.completion)),
        Some((12, 4)),
        "unbilled is as counted"
    );
    for none in ["{}", r#"{"message":"x"}"#, "[", "7"] {
        assert_eq!(Cohere.read_answer(none).unwrap_err().kind, SellerErrorKind::Unavailable, "{none}");
    }
}

#[test]
fn the_cached_share_is_that_of_the_billed_prompt() {
    let check = |raw: &str, want: (u64, u64)| {
        let read = usage(&serde_json::from_str(raw).unwrap()).unwrap();
        assert_eq!((read.prompt, read.cached), want, "{raw}");
    };
    let counts = |billed: u64, counted: u64, cached: &str| {
        format!(
            r#"{{"billed_units":{{"input_tokens":{billed},"output_tokens":1}},"tokens":{{"input_tokens":{counted},"output_tokens":1}},"cached_tokens":{cached}}}"#
        )
    };
    check(&counts(37, 913, "880"), (37, 4));
    check(&counts(37, 913, "876"), (37, 0));
    check(&counts(37, 913, "912.0"), (37, 36));
    check(&counts(37, 37, "30"), (37, 30));
    check(&counts(37, 913, "null"), (37, 0));
    // More than there was: the meter judges it.
    check(&counts(37, 913, "1000"), (37, 124));
    check(r#"{"tokens":{"input_tokens":9,"output_tokens":1},"cached_tokens":8}"#, (9, 8));
}

#[test]
fn unknown_counts_are_not_zero() {
    let check = |raw: &str, want: Option<(u64, u64)>| {
        let read = usage(&serde_json::from_str(raw).unwrap()).map(|usage| (usage.prompt, usage.completion));
        assert_eq!(read, want, "{raw}");
    };
    check(r#"{"billed_units":{"input_tokens":1,"output_tokens":0}}"#, Some((1, 0)));
    check(r#"{"billed_units":{"input_tokens":1}}"#, None);
    check(r#"{"tokens":{"input_tokens":-1,"output_tokens":2}}"#, None);
    check(r#"{"tokens":{"input_tokens":1.5,"output_tokens":2}}"#, None);
    check(r#"{"tokens":{"input_tokens":"1","output_tokens":2}}"#, None);
}

#[test]
fn errors_mean_what_their_words_say() {
    use SellerErrorKind as Kind;
    let check = |status: u16, message: &str, kind: Kind| {
        let body = json!({ "id": "x", "message": message }).to_string();
        let error = Cohere.read_error(status, body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
    };
    let long = "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292.";
    check(400, long, Kind::ContextLength);
    check(400, "invalid request: temperature must be between 0 and 1.0 inclusive.", Kind::InvalidRequest);
    check(400, "invalid request: model 'x' is not supported by the generate API", Kind::Unavailable);
    check(401, "invalid api token", Kind::Unavailable);
    check(404, "model 'x' not found", Kind::Unavailable);
    check(422, "unknown field", Kind::InvalidRequest);
    check(
        429,
        "You are past the per minute request limit, please wait and try again later.",
        Kind::RateLimited,
    );
    check(429, "You are using a Trial key, which is limited to 1000 API calls / month.", Kind::Unavailable);
    check(498, "invalid token", Kind::Unavailable);
    check(499, "request cancelled", Kind::Unavailable);
    check(503, "overloaded", Kind::Overloaded);
    check(504, "timeout", Kind::Timeout);
    assert_eq!(Cohere.read_error(502, b"<html>").message, "answered with status 502");
    let end =
        |delta: &str| read_stream(&[&format!(r#"{{"type":"message-end","delta":{delta}}}"#)]).unwrap_err();
    assert_eq!(end(r#"{"finish_reason":"TIMEOUT"}"#).kind, Kind::Timeout);
    let told = end(r#"{"finish_reason":"ERROR","error":"it fell over"}"#);
    assert_eq!((told.kind, told.message.as_str()), (Kind::Unavailable, "it fell over"));
    assert!(read_stream(&[r#"{"type":"tool-call-start","delta":{}}"#]).is_err(), "a call without a name");
}

#[test]
fn a_list_tells_chat_models() {
    let body = r#"{"models":[
        {"name":"command-a-vision","endpoints":["chat"],"finetuned":false,"context_length":128000.0,"features":["tools","vision"],"default_endpoints":[]},
        {"name":"command-r","endpoints":["generate","chat"],"context_length":128000,"supports_vision":false},
        {"name":"embed-v4.0","endpoints":["embed"],"context_length":512}],"next_page_token":"abc"}"#;
    let list = lists::read(Shape::Cohere, body.as_bytes()).unwrap();
    let of = |id: &str, takes_media| Listed {
        id: id.into(),
        context_tokens: Some(128_000),
        takes_media: Some(takes_media),
        ..Listed::default()
    };
    assert_eq!(list.models, [of("command-a-vision", true), of("command-r", false)]);
    assert_eq!((list.skipped, list.is_partial), (1, true));
}

proptest! {
    #[test]
    fn a_stream_amounts_to_the_whole_answer(
        thinking in "[a-zé\"]{0,8}", text in "[a-zé\"\n]{0,8}", names in proptest::collection::vec("[a-z]{1,4}", 0..3), cut in 0usize..8,
    ) {
        let call = |(n, name): (usize, &String)| json!({ "id": format!("c{n}"), "type": "function", "function": { "name": name, "arguments": format!("{{\"n\":{n}}}") } });
        let calls: Vec<Value> = names.iter().enumerate().map(call).collect();
        let usage = json!({ "tokens": { "input_tokens": 1, "output_tokens": 2 } });
        let content = json!([{ "type": "thinking", "thinking": thinking }, { "type": "text", "text": text }]);
        let whole = json!({ "id": "x", "finish_reason": "COMPLETE", "usage": usage, "message": { "content": content, "tool_calls": calls } });
        let cut = text.floor_char_boundary(cut);
        let delta = |content: Value| json!({ "type": "content-delta", "delta": { "message": { "content": content } } });
        let mut lines = vec![delta(json!({ "thinking": thinking })), delta(json!({ "text": text[..cut] })), delta(json!({ "text": text[cut..] }))];
        for (n, call) in calls.iter().enumerate() {
            lines.push(json!({ "type": "tool-call-start", "index": n, "delta": { "message": { "tool_calls": call } } }));
        }
        lines.push(json!({ "type": "message-end", "delta": { "finish_reason": "COMPLETE", "usage": usage } }));
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        let (events, news) = read_stream(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let answer = Cohere.read_answer(&whole.to_string()).unwrap();
        prop_assert_eq!(news.usage, Some(answer.usage));
        prop_assert_eq!(normal_answer(answer), normal_answer(answer_of(&merged(&events))));
    }

    #[test]
    fn foreign_bytes_break_nothing(
        kind in "(content-delta|tool-call-start|tool-call-delta|tool-call-end|message-end|x)",
        delta in "(7|null|\\{\\}|\\{\"message\":(7|\\[\\]|\\{\"(content|tool_calls|tool_plan)\":(7|\"x\"|\\[1\\]|\\{\"(text|function)\":(7|\"x\"|\\{\"name\":\"f\"\\})\\})\\})\\}|\\{\"usage\":\\[\\]\\})",
        cut in 0usize..120,
    ) {
        let data = format!("{{\"type\":\"{kind}\",\"delta\":{delta},\"message\":{delta}}}");
        let cut = data.floor_char_boundary(cut);
        for data in [data.as_str(), &data[..cut]] {
            let _ = read_stream(&[data, data]);
            let _ = Cohere.read_answer(data);
            let _ = Cohere.read_error(400, data.as_bytes());
        }
    }
}

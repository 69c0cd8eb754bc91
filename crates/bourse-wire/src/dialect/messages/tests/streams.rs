//! Streams: golden events, written and read.

use super::*;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::neutral::{Origin, Signed};
use crate::error::ErrorType;
use crate::receipt::Finish;
use std::borrow::Cow;

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"gen-1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"anthropic/claude\",\"provider\":\"acme\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";

fn said(text: &str) -> StreamEvent<'_> {
    StreamEvent::Text { choice: 0, text: Cow::Borrowed(text), logprobs_json: None }
}

fn thought(text: &str) -> StreamEvent<'_> {
    StreamEvent::Reasoning { choice: 0, text: Cow::Borrowed(text), is_summary: false }
}

fn signed(origin: Origin, data: &str, is_encrypted: bool) -> StreamEvent<'static> {
    StreamEvent::Signed { choice: 0, signed: Signed { origin, id: None, data: data.into(), is_encrypted } }
}

fn call(call: u32, id: &str) -> StreamEvent<'_> {
    StreamEvent::ToolCall { choice: 0, call, id: Cow::Borrowed(id), name: Cow::Borrowed("t") }
}

fn arguments(call: u32, json: &str) -> StreamEvent<'_> {
    StreamEvent::ToolArguments { choice: 0, call, json: Cow::Borrowed(json) }
}

fn finish(finish: Finish) -> StreamEvent<'static> {
    StreamEvent::Finish { choice: 0, finish, native: None }
}

/// What a writer makes of events, without its beginning.
fn written(events: &[StreamEvent<'_>]) -> String {
    let mut writer = super::super::writer(&head());
    let mut out = Vec::new();
    for event in events {
        writer.event(event, &mut out);
    }
    with_billed(None, |billed| writer.end(billed, b",\"x\":1", &mut out));
    text(out).strip_prefix(START).expect("a stream begins with its message").to_owned()
}

/// One line for each event: its name, then its payload without the type.
fn lines(stream: &str) -> Vec<String> {
    let line = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        let data = data.strip_prefix("data: ").unwrap();
        assert!(data.starts_with(&format!("{{\"type\":\"{name}\"")), "{event}");
        data.strip_prefix(&format!("{{\"type\":\"{name}\"")).unwrap().trim_start_matches(',').to_owned()
    };
    stream.split_terminator("\n\n").map(line).collect()
}

fn check(events: &[StreamEvent<'_>], want: &[&str], reason: &str) {
    let stream = written(events);
    let got = lines(&stream);
    let (content, end) = got.split_at(got.len() - 2);
    assert_eq!(content, want);
    assert!(
        end[0].starts_with(&format!(
            "\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":null}},\"usage\":{{"
        )),
        "{}",
        end[0]
    );
    assert_eq!(end[1], "\"x\":1}");
}

#[test]
fn a_text_is_one_block() {
    assert_eq!(
        written(&[said("a\""), said(""), said("b"), finish(Finish::Stop)]),
        format!(
            concat!(
                "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}}}\n\n",
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"a\\\"\"}}}}\n\n",
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"b\"}}}}\n\n",
                "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n",
                "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}},\"usage\":{{\"input_tokens\":5,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":3,\"output_tokens\":5,\"output_tokens_details\":{{\"thinking_tokens\":4}},{cost}}}\n\n",
                "event: message_stop\ndata: {{\"type\":\"message_stop\",\"x\":1}}\n\n",
            ),
            cost = COST
        )
    );
}

#[test]
fn an_empty_answer_is_whole() {
    check(&[], &[], "end_turn");
    check(&[finish(Finish::ContentFilter)], &[], "refusal");
    let native =
        StreamEvent::Finish { choice: 0, finish: Finish::Stop, native: Some("stop_sequence".into()) };
    check(&[native], &[], "stop_sequence");
    let foreign = StreamEvent::Finish { choice: 0, finish: Finish::Length, native: Some("length".into()) };
    check(&[foreign], &[], "max_tokens");
}

#[test]
fn blocks_follow_one_another() {
    check(
        &[
            thought("hm"),
            signed(Origin::Anthropic, "s==", false),
            signed(Origin::Anthropic, "r==", true),
            said("a"),
            call(0, "x"),
            arguments(0, "{\"a\""),
            call(1, "y"),
            arguments(1, "{}"),
            arguments(0, ":1}"),
            said("b"),
            finish(Finish::Stop),
        ],
        &[
            r#""index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#""index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
            r#""index":0,"delta":{"type":"signature_delta","signature":"s=="}}"#,
            r#""index":0}"#,
            r#""index":1,"content_block":{"type":"redacted_thinking","data":"r=="}}"#,
            r#""index":1}"#,
            r#""index":2,"content_block":{"type":"text","text":""}}"#,
            r#""index":2,"delta":{"type":"text_delta","text":"a"}}"#,
            r#""index":2}"#,
            r#""index":3,"content_block":{"type":"tool_use","id":"x","name":"t","input":{}}}"#,
            r#""index":3,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#,
            r#""index":3}"#,
            r#""index":4,"content_block":{"type":"tool_use","id":"y","name":"t","input":{}}}"#,
            r#""index":4,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
            r#""index":3,"delta":{"type":"input_json_delta","partial_json":":1}"}}"#,
            r#""index":4}"#,
            r#""index":5,"content_block":{"type":"text","text":""}}"#,
            r#""index":5,"delta":{"type":"text_delta","text":"b"}}"#,
            r#""index":5}"#,
        ],
        "tool_use",
    );
}

#[test]
fn late_arguments_find_their_call_up_to_a_bound() {
    let most = super::super::writer::CALLS_MAX as u32;
    let mut writer = super::super::writer(&head());
    let mut out = Vec::new();
    for n in 0..=most {
        writer.event(&call(n, "x"), &mut out);
    }
    writer.event(&said("a"), &mut out);
    let mut late = |n| {
        out.clear();
        writer.event(&arguments(n, "{}"), &mut out);
        text(out.clone())
    };
    assert!(late(most - 1).contains(&format!("\"index\":{},", most - 1)));
    assert_eq!(late(most), "");
}

#[test]
fn thoughts_of_others_are_tagged() {
    check(
        &[thought("sum"), signed(Origin::OpenAi, "gA", true), signed(Origin::OpenAi, "gB", true)],
        &[
            r#""index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#""index":0,"delta":{"type":"thinking_delta","thinking":"sum"}}"#,
            r#""index":0,"delta":{"type":"signature_delta","signature":"bourse:openai-responses-v1:gA"}}"#,
            r#""index":0}"#,
            r#""index":1,"content_block":{"type":"redacted_thinking","data":"bourse:openai-responses-v1:gB"}}"#,
            r#""index":1}"#,
        ],
        "end_turn",
    );
}

#[test]
fn answers_but_the_first_are_left_out() {
    let other = StreamEvent::Text { choice: 1, text: "no".into(), logprobs_json: None };
    check(&[other, StreamEvent::Finish { choice: 1, finish: Finish::Length, native: None }], &[], "end_turn");
}

#[test]
fn a_stream_that_breaks_says_what_was_billed() {
    let error = ApiError::new(ErrorType::ProviderUnavailable, "it broke");
    let mut writer = super::super::writer(&head());
    let mut out = Vec::new();
    writer.event(&said("a"), &mut out);
    out.clear();
    with_billed(None, |billed| writer.fail(&error, billed, b",\"x\":1", &mut out));
    let got = text(out);
    let got = lines(&got);
    assert_eq!(got[0], r#""index":0}"#);
    assert!(
        got[1].starts_with(r#""delta":{"stop_reason":null,"stop_sequence":null},"usage":{"#),
        "{}",
        got[1]
    );
    assert_eq!(
        got[2],
        r#""error":{"type":"api_error","message":"it broke","error_type":"provider_unavailable","param":null,"metadata":{"error_type":"provider_unavailable"}},"x":1}"#
    );
    assert_eq!(got.len(), 3);
    let mut out = Vec::new();
    with_billed(None, |billed| super::super::writer(&head()).fail(&error, billed, b"", &mut out));
    assert_eq!(lines(&text(out)).len(), 1);
}

/// A stream as the vendor writes it.
pub(super) const VENDOR: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":5,\"cache_creation_input_tokens\":2,\"cache_read_input_tokens\":3,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s==\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"type\":\"char_location\"}}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"server_tool_use\",\"id\":\"srvtoolu_1\",\"name\":\"web_search\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"t\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":1}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":4,\"content_block\":{\"type\":\"tool_use\",\"id\":\"\",\"name\":\"t\",\"input\":{}}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":4}\n\n",
    "event: new_kind\ndata: {\"type\":\"new_kind\",\"delta\":7}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":5,\"output_tokens_details\":{\"thinking_tokens\":4},\"cost\":7}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn a_stream_is_read() {
    let (events, usage, is_last) = read_stream(VENDOR).unwrap();
    let want = [
        thought("hm"),
        signed(Origin::Anthropic, "s==", false),
        said("a"),
        call(0, "toolu_1"),
        arguments(0, "{\"a\":1}"),
        call(1, "toolu_1"),
        arguments(1, "{}"),
        StreamEvent::Finish { choice: 0, finish: Finish::ToolCalls, native: Some("tool_use".into()) },
    ];
    assert_eq!(events, want);
    assert_eq!((usage, is_last), (Some(CLAIM), true));
}

#[test]
fn half_a_character_costs_itself_alone() {
    let stream = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\\ud83d\"}}\n\n";
    assert_eq!(read_stream(stream).unwrap().0, [said("a\u{fffd}")]);
}

#[test]
fn a_stream_with_an_error_is_one() {
    let told = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert_eq!(read_stream(told).unwrap_err().kind, SellerErrorKind::Overloaded);
    for broken in [
        "data: {\n\n",
        "data: 7\n\n",
        "data: {}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\"}}\n\n",
    ] {
        assert_eq!(read_stream(broken).unwrap_err().kind, SellerErrorKind::Unavailable, "{broken}");
    }
    assert!(read_stream("data: [DONE]\n\n").unwrap().2);
}

#[test]
fn open_calls_are_bounded() {
    let begin = |n: usize| {
        let one = "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"t\"}}\n\n";
        one.repeat(n)
    };
    let most = super::super::reader::CALLS_OPEN_MAX;
    assert!(read_stream(&begin(most)).is_ok());
    assert!(read_stream(&begin(most + 1)).is_err());
}

#[test]
fn unreadable_usage_is_unknown() {
    let mut reader = Messages.reader();
    let news = reader
        .read(r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":5}}"#, &mut |_| {})
        .unwrap();
    assert_eq!(news.usage, Some(None));
    let news = reader
        .read(r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":null}"#, &mut |_| {})
        .unwrap();
    assert_eq!(news.usage, None);
}

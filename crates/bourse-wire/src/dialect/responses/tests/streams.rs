//! Streams: written, read, passed.

use super::*;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::neutral::strategies::merged;
use crate::error::{ApiError, ErrorType};
use crate::receipt::Finish;
use proptest::prelude::*;

fn text(text: &str) -> StreamEvent<'_> {
    StreamEvent::Text { choice: 0, text: text.into(), logprobs_json: None }
}

fn finish(finish: Finish) -> StreamEvent<'static> {
    StreamEvent::Finish { choice: 0, finish, native: None }
}

fn written(events: &[StreamEvent<'_>], more: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = writer(&head());
    for event in events {
        writer.event(event, &mut out);
    }
    with_billed(None, |billed| writer.end(billed, more.as_bytes(), &mut out));
    out
}

#[test]
fn a_text_goes_through_every_event() {
    let logprobs = r#"[{"token":"h","logprob":-1}]"#;
    let first = StreamEvent::Text { choice: 0, text: "h\"".into(), logprobs_json: Some(logprobs.into()) };
    let stream = written(&[first, text("i"), finish(Finish::Length)], ",\"x\":1");
    let stream = String::from_utf8(stream).unwrap();
    let want = [
        r#"response.created|"response":{RESPONSE,"status":"in_progress",REST[],"usage":null}"#,
        r#"response.in_progress|"response":{RESPONSE,"status":"in_progress",REST[],"usage":null}"#,
        r#"response.output_item.added|"output_index":0,"item":{"id":"msg_gen-1_0","type":"message","status":"in_progress","role":"assistant","content":[]}"#,
        r#"response.content_part.added|AT,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}"#,
        r#"response.output_text.delta|AT,"delta":"h\"","logprobs":[{"token":"h","logprob":-1}]"#,
        r#"response.output_text.delta|AT,"delta":"i","logprobs":[]"#,
        r#"response.output_text.done|AT,"logprobs":[{"token":"h","logprob":-1}],"text":"h\"i""#,
        r#"response.content_part.done|AT,"part":{"type":"output_text","annotations":[],"logprobs":[{"token":"h","logprob":-1}],"text":"h\"i"}"#,
        r#"response.output_item.done|"output_index":0,"item":ITEM"#,
        r#"response.incomplete|"response":{RESPONSE,"status":"incomplete",CUT[ITEM],"usage":BILLED,"x":1}"#,
    ];
    let item = r#"{"id":"msg_gen-1_0","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[{"token":"h","logprob":-1}],"text":"h\"i"}]}"#;
    let rest =
        r#""error":null,"incomplete_details":null,"model":"a/b","provider":"seller","tools":[],"output":"#;
    let cut = rest.replace("details\":null", "details\":{\"reason\":\"max_output_tokens\"}");
    let mut text = String::new();
    for (n, line) in want.into_iter().enumerate() {
        let (name, members) = line.split_once('|').unwrap();
        let members = members
            .replace("RESPONSE", r#""id":"gen-1","object":"response","created_at":5,"completed_at":null"#)
            .replace("REST", rest)
            .replace("CUT", &cut)
            .replace("AT", r#""output_index":0,"item_id":"msg_gen-1_0","content_index":0"#)
            .replace("ITEM", item)
            .replace("BILLED", BILLED);
        let event =
            format!("event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{n},{members}}}\n\n");
        text.push_str(&event);
    }
    assert_eq!(stream, text);
}

#[test]
fn calls_may_take_turns_and_thoughts_have_their_own_events() {
    let call =
        |call, id: &'static str| StreamEvent::ToolCall { choice: 0, call, id: id.into(), name: "f".into() };
    let more = |call, json: &'static str| StreamEvent::ToolArguments { choice: 0, call, json: json.into() };
    let thought = StreamEvent::Reasoning { choice: 0, text: "hm".into(), is_summary: true };
    let signed = Signed { origin: Origin::OpenAi, id: None, data: "zz".into(), is_encrypted: true };
    let signed = StreamEvent::Signed { choice: 0, signed };
    let events = [
        thought,
        signed,
        call(0, "c0"),
        more(0, "{"),
        call(1, "c1"),
        more(1, "[]"),
        more(0, "}"),
        finish(Finish::ToolCalls),
    ];
    let json = payloads(&written(&events, ""));
    let names: Vec<&str> =
        json.iter().map(|e| e["type"].as_str().unwrap().trim_start_matches("response.")).collect();
    assert_eq!(
        names,
        [
            "created",
            "in_progress",
            "output_item.added",
            "reasoning_summary_part.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "function_call_arguments.done",
            "output_item.done",
            "completed",
        ]
    );
    assert_eq!(json[7]["item"]["encrypted_content"], "zz");
    assert_eq!(json[13]["arguments"], "{}");
    assert_eq!(
        (&json[15]["arguments"], &json[15]["name"], &json[15]["output_index"]),
        (&"[]".into(), &"f".into(), &2.into())
    );
    assert_eq!(json[17]["response"]["output"][1]["call_id"], "c0");
}

/// Log-probabilities of thoughts have no place here, and part no thoughts.
#[test]
fn what_is_said_of_thoughts_alone_opens_no_message() {
    let thought =
        |text: &'static str| StreamEvent::Reasoning { choice: 0, text: text.into(), is_summary: false };
    let logprobs_json = Some(r#"[{"token":"h"}]"#.into());
    let alone = StreamEvent::Text { choice: 0, text: "".into(), logprobs_json };
    let plain = written(&[thought("h"), thought("m"), text("x"), finish(Finish::Stop)], "");
    let told = [thought("h"), alone.clone(), thought("m"), alone, text("x"), finish(Finish::Stop)];
    assert_eq!(payloads(&written(&told, "")), payloads(&plain));
}

#[test]
fn a_call_whose_arguments_are_whole_ends_before_the_next_item() {
    let call =
        |call, id: &'static str| StreamEvent::ToolCall { choice: 0, call, id: id.into(), name: "f".into() };
    let more = |call, json: &'static str| StreamEvent::ToolArguments { choice: 0, call, json: json.into() };
    let events = [
        call(0, "c0"),
        more(0, "{\"a\":"),
        more(0, "\"\\\"\"}"),
        call(1, "c1"),
        more(1, "{}"),
        text("so"),
        finish(Finish::ToolCalls),
    ];
    let json = payloads(&written(&events, ""));
    let ended = |index: u64| {
        let is_end = |e: &Value| e["type"] == "response.output_item.done" && e["output_index"] == index;
        json.iter().position(is_end).unwrap()
    };
    let begun = |index: u64| {
        let is_begin = |e: &Value| e["type"] == "response.output_item.added" && e["output_index"] == index;
        json.iter().position(is_begin).unwrap()
    };
    assert!(ended(0) < begun(1) && ended(1) < begun(2) && begun(2) < ended(2));
    assert_eq!(json[ended(0)]["item"]["arguments"], "{\"a\":\"\\\"\"}");
}

#[test]
fn a_broken_stream_ends_in_one_failure() {
    let mut out = Vec::new();
    let mut writer = writer(&head());
    writer.event(&text("par"), &mut out);
    let error = ApiError::new(ErrorType::ProviderOverloaded, "the seller is full");
    with_billed(None, |billed| writer.fail(&error, billed, b",\"x\":1", &mut out));
    let json = payloads(&out);
    let response = &json.last().unwrap()["response"];
    assert_eq!(
        (&response["status"], &response["error_type"]),
        (&"failed".into(), &"provider_overloaded".into())
    );
    assert_eq!(response["error"]["code"], "server_error");
    assert_eq!(json[json.len() - 2]["item"], response["output"][0]);
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(response["output"][0]["content"][0]["text"], "par");
    assert_eq!((&response["usage"]["output_tokens"], &response["x"]), (&7.into(), &1.into()));
    let error = read_stream(&out).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (SellerErrorKind::Unavailable, "the seller is full"));
}

#[test]
fn a_stream_may_be_empty() {
    let json = payloads(&written(&[], ""));
    assert_eq!(json.len(), 3);
    assert_eq!(json[2]["response"]["output"], serde_json::json!([]));
}

fn read_one(data: &str) -> Result<Vec<StreamEvent<'static>>, SellerError> {
    let mut out = Vec::new();
    Responses.reader().read(data, &mut |event| out.push(strategies::of_choice(event, 0)))?;
    Ok(out)
}

#[test]
fn half_a_character_costs_itself_alone() {
    let data =
        r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a\ud83d"}"#;
    assert_eq!(read_one(data).unwrap(), [text("a\u{fffd}")]);
}

#[test]
fn sellers_may_be_brief_or_odd() {
    let item = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}}"#;
    assert_eq!(read_one(item).unwrap().len(), 2);
    assert!(read_one(r#"{"type":"response.web_search_call.searching","item":3}"#).unwrap().is_empty());
    assert!(
        read_one(r#"{"type":"response.output_item.added","item":{"type":"odd","name":7}}"#)
            .unwrap()
            .is_empty()
    );
    assert!(
        read_one(r#"{"type":"response.function_call_arguments.delta","output_index":9,"delta":"x"}"#)
            .unwrap()
            .is_empty()
    );
    let error =
        read_one(r#"{"type":"error","code":"context_length_exceeded","message":"long","param":null}"#);
    assert_eq!(error.unwrap_err().kind, SellerErrorKind::ContextLength);
    let error = read_one(r#"{"error":{"code":429,"message":"slow"}}"#).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (SellerErrorKind::RateLimited, "slow"));
    let paragraph =
        read_one(r#"{"type":"response.reasoning_summary_part.added","summary_index":1}"#).unwrap();
    assert_eq!(paragraph[0].content_bytes(), 2);
    let padded = r#"{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"\u0048i","logprobs":[],"obfuscation":"x7"}"#;
    assert_eq!(read_one(padded).unwrap(), [text("Hi")]);
    assert!(read_one("{").is_err());
    let news = Responses.reader().read("[DONE]", &mut |_| {}).unwrap();
    assert!(news.is_last);
}

#[test]
fn calls_are_bounded() {
    let mut reader = Responses.reader();
    let mut begin = |n: usize| {
        let data = format!(
            r#"{{"type":"response.output_item.added","output_index":{n},"item":{{"type":"function_call","call_id":"c{n}","name":"f","arguments":""}}}}"#
        );
        reader.read(&data, &mut |_| {})
    };
    assert!((0..super::super::reader::CALLS_MAX).all(|n| begin(n).is_ok()));
    assert!(begin(super::super::reader::CALLS_MAX).is_err());
}

#[derive(Default)]
struct Kept(Vec<u8>);

impl Sink for Kept {
    fn push(&mut self, bytes: Bytes) {
        self.0.extend_from_slice(&bytes);
    }
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

type Passed = (Box<dyn Passage>, Result<Vec<Seen>, SellerError>, Vec<u8>);

fn pass(stream: &[u8]) -> Passed {
    let mut passage = passage(&head());
    let mut sink = Kept::default();
    let seen = events_of(stream).iter().map(|event| passage.event(event, &mut sink)).collect();
    (passage, seen, sink.0)
}

const SELLER: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_7\"}}\n\n",
    ": wait\n\n",
    "data: {\"type\":\"response.output_item.added\",\"sequence_number\":1,\"item\":{\"type\":\"function_call\",\"name\":\"ab\",\"arguments\":\"\"}}\n\n",
    "data: {\"type\":\"response.function_call_arguments.delta\",\"sequence_number\":2,\"delta\":\"{}\"}\n\n",
);
const SELLER_END: &str = "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{\"id\":\"r\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2},\"status\":\"completed\"}}\n\ndata: [DONE]\n\n";

#[test]
fn events_pass_as_they_came_and_the_end_waits() {
    let (mut passage, seen, mut out) = pass(format!("{SELLER}{SELLER_END}").as_bytes());
    let seen = seen.unwrap();
    assert_eq!(String::from_utf8_lossy(&out), SELLER);
    let sum = seen
        .iter()
        .map(|s| (s.content_bytes, s.tool_calls, s.finishes))
        .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    assert_eq!(sum, (2 + 1 + 2, 1, 1));
    assert_eq!(seen[4].finish, Some(Finish::ToolCalls));
    let claim = SellerUsage { prompt: 1, cached: 0, cache_write: 0, completion: 2, reasoning: 0 };
    assert_eq!((seen[4].news.usage, seen[4].news.is_last), (Some(Some(claim)), true));
    assert_eq!(passage.raw_usage(), Some(r#"{"input_tokens":1,"output_tokens":2}"#));
    assert_eq!(passage.upstream_id(), Some("resp_7"));
    out.clear();
    with_billed(None, |billed| passage.end(billed, b",\"x\":1", &mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{{\"id\":\"r\",\"usage\":{BILLED},\"status\":\"completed\",\"x\":1}}}}\n\n"
        )
    );
}

#[test]
fn a_failure_of_the_seller_does_not_pass() {
    for failure in [
        r#"{"type":"response.failed","sequence_number":3,"response":{"error":{"code":"server_error","message":"m"}}}"#,
        r#"{"type":"error","sequence_number":3,"code":"server_error","message":"m"}"#,
    ] {
        let (mut passage, seen, mut out) = pass(format!("{SELLER}data: {failure}\n\n").as_bytes());
        assert_eq!(seen.unwrap_err().message, "m");
        assert_eq!(String::from_utf8_lossy(&out), SELLER);
        out.clear();
        let error = ApiError::new(ErrorType::ProviderUnavailable, "m");
        with_billed(None, |billed| passage.fail(&error, billed, b"", &mut out));
        let [event] = events_of(&out).try_into().unwrap();
        let json: Value = serde_json::from_slice(event.data().unwrap()).unwrap();
        assert_eq!((&json["type"], &json["sequence_number"]), (&"response.failed".into(), &3.into()));
        assert_eq!(json["response"]["id"], "resp_7");
    }
}

#[test]
fn a_stream_without_its_end_is_not_called_complete() {
    let (mut passage, seen, _) = pass(SELLER.as_bytes());
    assert!(seen.unwrap().iter().all(|seen| !seen.news.is_last));
    let mut out = Vec::new();
    with_billed(None, |billed| passage.end(billed, b"", &mut out));
    assert!(out.starts_with(b"event: response.failed\n"));
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(events in strategies::events(&Origin::ALL, 1)) {
        let stream = written(&events, "");
        let json = payloads(&stream);
        // What was said when items were done is what the last event repeats.
        let done: Vec<&Value> = json.iter().filter(|e| e["type"] == "response.output_item.done").map(|e| &e["item"]).collect();
        let output = json.last().unwrap()["response"]["output"].as_array().unwrap();
        prop_assert_eq!(done, output.iter().collect::<Vec<_>>());
        let mut read = merged(&read_stream(&stream).unwrap());
        let mut want = merged(&events);
        read.iter_mut().for_each(without_ids);
        want.iter_mut().for_each(without_ids);
        prop_assert_eq!(read, want);
    }

    #[test]
    fn our_own_stream_passes_unchanged_but_for_its_end(events in strategies::events(&Origin::ALL, 1)) {
        let stream = written(&events, "");
        let (mut passage, seen, mut out) = pass(&stream);
        let seen = seen.unwrap();
        let bytes: u64 = seen.iter().map(|s| s.content_bytes).sum();
        let said: u64 = events.iter().map(StreamEvent::content_bytes).sum();
        // Escapes count as written.
        prop_assert!(bytes >= said);
        prop_assert_eq!(seen.last().unwrap().finish, merged(&events).iter().find_map(|e| match e {
            StreamEvent::Finish { finish, .. } => Some(*finish),
            _ => None,
        }));
        with_billed(None, |billed| passage.end(billed, b"", &mut out));
        prop_assert_eq!(out, stream);
    }

    #[test]
    fn no_event_panics(text in "[\\[\\]{}:,\"a-z0-9 ]{0,20}", at in 0usize..400, kind in 0usize..6) {
        let name = ["output_text.delta", "output_item.added", "completed", "output_item.done", "incomplete", "failed"][kind];
        let whole = format!(r#"{{"type":"response.{name}","output_index":0,"delta":"x","item":{{"type":"function_call","name":"f","arguments":"{{}}"}},"response":{{"status":"completed","usage":{{"input_tokens":1}},"output":[]}}}}"#);
        let at = at.min(whole.len());
        let data = format!("{}{text}{}", &whole[..at], &whole[at..]);
        let _ = read_one(&data);
        let (mut passage, _, mut out) = pass(format!("data: {data}\n\n").as_bytes());
        with_billed(None, |billed| passage.end(billed, b"", &mut out));
        let last = events_of(&out).pop().unwrap();
        let is_whole = serde_json::from_slice::<Value>(last.data().unwrap()).is_ok();
        prop_assert!(is_whole);
    }
}

//! Streams of sellers, in all their oddities.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::neutral::strategies::choice_of;
use crate::dialect::neutral::strategies::of_choice;
use proptest::prelude::*;

type Events = Vec<StreamEvent<'static>>;

fn read_all(events: &[&str]) -> Result<(Events, Vec<StreamNews>), SellerError> {
    let mut reader = Reader::default();
    let (mut out, mut news) = (Vec::new(), Vec::new());
    for data in events {
        let each = &mut |event: StreamEvent<'_>| {
            let choice = choice_of(&event);
            out.push(of_choice(event, choice));
        };
        news.push(reader.read(data, each)?);
    }
    Ok((out, news))
}

/// Deltas of choice 0.
fn deltas(list: &[&str]) -> Result<Events, SellerError> {
    let chunk =
        |delta: &&str| format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
    let events: Vec<String> = list.iter().map(chunk).collect();
    read_all(&events.iter().map(String::as_str).collect::<Vec<_>>()).map(|(events, _)| events)
}

fn text(text: &'static str) -> StreamEvent<'static> {
    StreamEvent::Text { choice: 0, text: text.into(), logprobs_json: None }
}

fn thought(text: &'static str) -> StreamEvent<'static> {
    StreamEvent::Reasoning { choice: 0, text: text.into(), is_summary: false }
}

fn call(call: u32, id: &'static str, name: &'static str) -> StreamEvent<'static> {
    StreamEvent::ToolCall { choice: 0, call, id: id.into(), name: name.into() }
}

fn arguments(call: u32, json: &'static str) -> StreamEvent<'static> {
    StreamEvent::ToolArguments { choice: 0, call, json: json.into() }
}

fn finish(finish: Finish, native: &'static str) -> StreamEvent<'static> {
    StreamEvent::Finish { choice: 0, finish, native: Some(native.into()) }
}

#[test]
fn text_and_thoughts_come_in_order() {
    let got = deltas(&[
        r#"{"role":"assistant","content":null}"#,
        r#"{"content":"","reasoning_content":"h"}"#,
        r#"{"content":"é\n","reasoning":"m","reasoning_content":"m"}"#,
        r#"{"refusal":"no"}"#,
        r#"{"content":"\ud83d"}"#,
        r#"{"content":"\ude00!"}"#,
    ])
    .unwrap();
    let refusal = StreamEvent::Refusal { choice: 0, text: "no".into() };
    assert_eq!(got, [thought("h"), thought("m"), text("é\n"), refusal, text("😀!")]);
}

#[test]
fn details_hide_the_string_that_repeats_them() {
    let got = deltas(&[
        r#"{"reasoning":"a","reasoning_details":[{"type":"reasoning.text","text":"a","index":0}]}"#,
        r#"{"reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1","index":0}]}"#,
        r#"{"reasoning_details":[{"type":"reasoning.encrypted","data":"z","format":"new-v9","id":"r"}]}"#,
        r#"{"reasoning":"b","reasoning_details":[]}"#,
    ])
    .unwrap();
    let signed = |origin, id: Option<&str>, data: &str, is_encrypted| StreamEvent::Signed {
        choice: 0,
        signed: Signed { origin, id: id.map(str::to_owned), data: data.into(), is_encrypted },
    };
    let want = [
        thought("a"),
        signed(Origin::Anthropic, None, "s", false),
        signed(Origin::Unknown, Some("r"), "z", true),
        thought("b"),
    ];
    assert_eq!(got, want);
}

#[test]
fn parts_of_content_are_read() {
    let got = deltas(&[
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"h"}]},{"type":"text","text":"x"}]}"#,
    ]);
    assert_eq!(got.unwrap(), [thought("h"), text("x")]);
}

#[test]
fn calls_are_put_together() {
    let check =
        |list: &[&str], want: &[StreamEvent<'static>]| assert_eq!(deltas(list).unwrap(), want, "{list:?}");
    // As OpenAI streams them, two at a time.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":"}}]}"#,
            r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}},{"index":0,"function":{"arguments":"1}"}}]}"#,
        ],
        &[
            call(0, "a", "f"),
            arguments(0, "{\"x\":"),
            call(1, "b", "g"),
            arguments(1, "{}"),
            arguments(0, "1}"),
        ],
    );
    // The id in every piece.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]}"#,
        ],
        &[call(0, "a", "f"), arguments(0, "{"), arguments(0, "}")],
    );
    // The id late, then the name late.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{}"}}]}"#,
        ],
        &[call(0, "a", "f"), arguments(0, "{}")],
    );
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"arguments":"{"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"}"}}]}"#,
        ],
        &[call(0, "a", "f"), arguments(0, "{}")],
    );
    // One index for two calls, and no index at all.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
            r#"{"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"[]"}}]}"#,
            r#"{"tool_calls":[{"id":"c","function":{"name":"h","arguments":{"k":1}}}]}"#,
        ],
        &[
            call(0, "a", "f"),
            arguments(0, "{}"),
            call(1, "b", "g"),
            arguments(1, "[]"),
            call(2, "c", "h"),
            arguments(2, "{\"k\":1}"),
        ],
    );
    // Arguments cut between the halves of a pair.
    check(
        &[
            r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"\"\ud83d"}}]}"#,
            r#"{"tool_calls":[{"index":0,"function":{"arguments":"\ude00\""}}]}"#,
        ],
        &[call(0, "a", "f"), arguments(0, "\""), arguments(0, "😀\"")],
    );
}

/// One of a seller that gives no ids shows only at the end that it is a call, and the others were not waiting for it.
#[test]
fn calls_are_numbered_in_the_order_in_which_they_begin() {
    let chunk = |delta: &str, end: &str| {
        format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":{end}}}]}}"#)
    };
    let stream = [
        chunk(r#"{"tool_calls":[{"index":0,"function":{"name":"now","arguments":""}}]}"#, "null"),
        chunk(
            r#"{"tool_calls":[{"index":1,"id":"b","function":{"name":"look","arguments":"{\"at\":"}}]}"#,
            "null",
        ),
        chunk(r#"{"tool_calls":[{"index":1,"function":{"arguments":"1}"}}]}"#, "null"),
        chunk("{}", "\"tool_calls\""),
    ];
    let stream: Vec<&str> = stream.iter().map(String::as_str).collect();
    let (got, _) = read_all(&stream).unwrap();
    assert_eq!(got[..3], [call(0, "b", "look"), arguments(0, "{\"at\":"), arguments(0, "1}")]);
    assert!(matches!(&got[3], StreamEvent::ToolCall { call: 1, name, .. } if name == "now"), "{got:?}");
    assert_eq!(got[4..], [finish(Finish::ToolCalls, "tool_calls")]);
}

#[test]
fn ids_that_are_missing_or_taken_are_made() {
    let list = [
        r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"a","function":{"name":"g","arguments":"{}"}}]}"#,
        r#"{"tool_calls":[{"index":2,"function":{"name":"h","arguments":"{}"}}]}"#,
        r#"{"function_call":{"name":"i","arguments":"{}"}}"#,
    ];
    let ids: Vec<String> = deltas(&list)
        .unwrap()
        .into_iter()
        .filter_map(
            |event| if let StreamEvent::ToolCall { id, .. } = event { Some(id.into_owned()) } else { None },
        )
        .collect();
    assert_eq!((ids.len(), ids[0].as_str()), (3, "a"), "{ids:?}");
    assert!(ids[1..].iter().all(|id| id.starts_with("call_")) && ids[1] != ids[2]);
}

#[test]
fn an_end_is_told_once_and_in_one_word() {
    let ended = |delta: &str, reason: &str| {
        let chunk = format!(
            r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":"{reason}","native_finish_reason":"nat"}}]}}"#
        );
        read_all(&[&chunk, &chunk]).map(|(events, _)| events)
    };
    assert_eq!(ended("{}", "length").unwrap(), [finish(Finish::Length, "nat")]);
    assert_eq!(ended("{}", "eos").unwrap(), [finish(Finish::Stop, "nat")]);
    assert_eq!(ended("{}", "content_filter").unwrap(), [finish(Finish::ContentFilter, "nat")]);
    let called = ended(r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]}"#, "stop").unwrap();
    assert_eq!(called, [call(0, "a", "f"), finish(Finish::ToolCalls, "nat")]);
    let nameless = ended(r#"{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#, "tool_calls").unwrap();
    assert!(
        matches!(&nameless[0], StreamEvent::ToolCall { id, .. } if id.starts_with("call_")),
        "{nameless:?}"
    );
    assert_eq!(ended("{}", "error").unwrap_err().kind, SellerErrorKind::Unavailable);
}

#[test]
fn usage_is_seen_wherever_it_stands() {
    let (events, news) = read_all(&[
        r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1}}}"#,
        r#"{"choices":[],"usage":null}"#,
        r#"{"usage":{"prompt_tokens":-1}}"#,
        "[DONE]",
    ])
    .unwrap();
    assert_eq!(events, [text("a")]);
    let usage = |completion, reasoning| {
        Some(Some(SellerUsage { prompt: 1, cached: 0, cache_write: 0, completion, reasoning }))
    };
    let seen: Vec<_> = news.iter().map(|n| n.usage).collect();
    assert_eq!(seen, [usage(1, 0), usage(2, 1), None, Some(None), None]);
    assert_eq!(news.iter().map(|n| n.is_last).collect::<Vec<_>>(), [false, false, false, false, true]);
}

#[test]
fn log_probabilities_go_with_their_text() {
    let chunk = r#"{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a"}]}}]}"#;
    let want =
        StreamEvent::Text { choice: 0, text: "a".into(), logprobs_json: Some(r#"[{"token":"a"}]"#.into()) };
    assert_eq!(read_all(&[chunk]).unwrap().0, [want]);
    // Thoughts and calls have them, too: those of the whole answer are those of all of its tokens.
    let of = |delta: &str, items: &str| {
        let chunk = format!(r#"{{"choices":[{{"delta":{delta},"logprobs":{{"content":{items}}}}}]}}"#);
        read_all(&[&chunk]).unwrap().0
    };
    let alone =
        StreamEvent::Text { choice: 0, text: "".into(), logprobs_json: Some(r#"[{"token":"h"}]"#.into()) };
    let items = r#"[{"token":"h"}]"#;
    assert_eq!(of(r#"{"reasoning":"h"}"#, items), [thought("h"), alone.clone()]);
    assert_eq!(of(r#"{"content":null,"reasoning":"h"}"#, items), [thought("h"), alone.clone()]);
    let calls = r#"{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}"#;
    assert_eq!(of(calls, items), [alone.clone(), call(0, "a", "f"), arguments(0, "{")]);
    assert_eq!(of("{}", items), [alone]);
    assert_eq!(of(r#"{"reasoning":"h"}"#, " [ ] "), [thought("h")]);
}

#[test]
fn errors_within_are_errors() {
    for (data, kind, message) in [
        (r#"{"error":{"code":429,"message":"slow"},"choices":[]}"#, SellerErrorKind::RateLimited, "slow"),
        (
            r#"{"object":"error","message":"maximum context length is 4","code":400}"#,
            SellerErrorKind::ContextLength,
            "maximum context length is 4",
        ),
        (r#"{"message":"boom"}"#, SellerErrorKind::Unavailable, "boom"),
        (r#"{"choices":[{"error":{"code":503,"message":"full"}}]}"#, SellerErrorKind::Overloaded, "full"),
        (r#"{"choices":[{"del"#, SellerErrorKind::Unavailable, "the stream was cut inside an event"),
        (
            r#"{"choices":[{"index":128,"delta":{}}]}"#,
            SellerErrorKind::Unavailable,
            "a choice has an index that nobody asked for",
        ),
    ] {
        let error = read_all(&[data]).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (kind, message));
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let calls = |n: usize| {
        let list: Vec<String> =
            (0..n).map(|k| format!(r#"{{"index":{k},"id":"{k}","function":{{"name":"f"}}}}"#)).collect();
        deltas(&[&format!(r#"{{"tool_calls":[{}]}}"#, list.join(","))])
    };
    assert!(calls(CALLS_MAX).is_ok());
    assert!(calls(CALLS_MAX + 1).is_err());
    let held = |n: usize| {
        deltas(&[&format!(
            r#"{{"tool_calls":[{{"index":0,"id":"a","function":{{"arguments":"{}"}}}}]}}"#,
            "x".repeat(n)
        )])
    };
    assert_eq!(held(HELD_BYTES_MAX).unwrap(), []);
    assert!(held(HELD_BYTES_MAX + 1).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(cut in 0usize..300, at in 0usize..300, byte in 0u8..127) {
        let data = r#"{"choices":[{"index":0,"delta":{"content":"\ud83d","reasoning_details":[{"text":"a","signature":"b"}],"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]},"logprobs":{"content":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
        let mut bytes = data.as_bytes()[..cut.min(data.len())].to_vec();
        if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        let text = String::from_utf8_lossy(&bytes);
        let _ = read_all(&[&text, &text]);
    }
}

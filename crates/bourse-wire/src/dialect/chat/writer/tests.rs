//! Streams for buyers: golden chunks, and there and back.

use super::*;
use crate::dialect::chat::reader::Reader;
use crate::dialect::grammar::EventReader as _;
use crate::dialect::neutral::Origin;
use crate::dialect::neutral::strategies::{self, choice_of, merged, of_choice};
use crate::error::ErrorType;
use crate::sse::SseScanner;
use bytes::Bytes;
use proptest::prelude::*;

const START: &str =
    r#"data: {"id":"gen-1","object":"chat.completion.chunk","created":7,"model":"a/b","provider":"p","#;
const TAIL: &str = r#""logprobs":null,"finish_reason":null}]}"#;

fn writer(api: Api) -> StreamWriter {
    let head = Head {
        id: "gen-1".into(),
        created_s: 7,
        model: "a/b".into(),
        provider: "p".into(),
        ..Head::default()
    };
    StreamWriter::new(api, &head)
}

fn lines(api: Api, events: &[StreamEvent<'_>]) -> Vec<String> {
    let (mut w, mut out) = (writer(api), Vec::new());
    for event in events {
        w.event(event, &mut out);
    }
    let (usage, charge) = strategies::bill();
    w.end(
        &Billed { usage: &usage, charge: &charge, claim: None, raw: None, is_byok: false },
        b",\"bourse\":1",
        &mut out,
    );
    let text = String::from_utf8(out).unwrap();
    text.split_terminator("\n\n").map(str::to_owned).collect()
}

fn signed(origin: Origin, is_encrypted: bool) -> StreamEvent<'static> {
    StreamEvent::Signed { choice: 0, signed: Signed { origin, id: None, data: "s".into(), is_encrypted } }
}

#[test]
fn every_chunk_is_golden() {
    let events = [
        StreamEvent::Reasoning { choice: 0, text: "h".into(), is_summary: false },
        signed(Origin::Anthropic, false),
        StreamEvent::Reasoning { choice: 0, text: "m".into(), is_summary: true },
        signed(Origin::OpenAi, true),
        StreamEvent::Text { choice: 0, text: "a\"".into(), logprobs_json: Some("[{}]".into()) },
        StreamEvent::Refusal { choice: 1, text: "no".into() },
        StreamEvent::ToolCall { choice: 0, call: 0, id: "c".into(), name: "f".into() },
        StreamEvent::ToolArguments { choice: 0, call: 0, json: "{\"".into() },
        StreamEvent::Finish { choice: 0, finish: Finish::ToolCalls, native: Some("tool_use".into()) },
    ];
    let want = [
        r#"{"index":0,"delta":{"role":"assistant","content":"","reasoning":"h","reasoning_details":[{"type":"reasoning.text","text":"h","format":"unknown","index":0}]},"#,
        r#"{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1","index":0}]},"#,
        r#"{"index":0,"delta":{"reasoning":"m","reasoning_details":[{"type":"reasoning.summary","summary":"m","format":"unknown","index":1}]},"#,
        r#"{"index":0,"delta":{"reasoning_details":[{"type":"reasoning.encrypted","data":"s","format":"openai-responses-v1","index":2}]},"#,
        r#"{"index":0,"delta":{"content":"a\""},"logprobs":{"content":[{}],"refusal":null},"finish_reason":null}]}"#,
        r#"{"index":1,"delta":{"role":"assistant","content":null,"refusal":"no"},"#,
        r#"{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]},"#,
        r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\""}}]},"#,
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls","native_finish_reason":"tool_use"}]}"#,
    ];
    let lines = lines(Api::Chat, &events);
    for (line, want) in lines.iter().zip(want) {
        let tail = if want.ends_with("]}") { "" } else { TAIL };
        assert_eq!(*line, format!("{START}\"choices\":[{want}{tail}"));
    }
    assert_eq!(
        lines[9],
        format!(
            r#"{START}"choices":[],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{{"cached_tokens":1,"cache_write_tokens":0}},"cost":0.000000003,"cost_details":{{"upstream_inference_prompt_cost":0.000000001,"upstream_inference_completions_cost":0.000000002,"request":0,"units":0,"rounding":0}},"is_byok":false}},"bourse":1}}"#
        )
    );
    assert_eq!(lines[10..], ["data: [DONE]"]);
}

#[test]
fn a_first_empty_text_names_the_role() {
    let first = StreamEvent::Finish { choice: 0, finish: Finish::Stop, native: None };
    assert_eq!(
        lines(Api::Chat, &[first])[0],
        format!(
            r#"{START}"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":"stop"}}]}}"#
        )
    );
}

#[test]
fn legacy_completions_have_text_and_offsets() {
    let text = |text: &'static str, token: &'static str| StreamEvent::Text {
        choice: 0,
        text: text.into(),
        logprobs_json: Some(token.into()),
    };
    let lines = lines(
        Api::Text,
        &[
            text("é", r#"{"token":"é","logprob":-1.0}"#),
            StreamEvent::Reasoning { choice: 0, text: "never shown".into(), is_summary: false },
            text("b", r#"{"token":"b","logprob":-2.0}"#),
            StreamEvent::Finish { choice: 0, finish: Finish::Length, native: None },
        ],
    );
    let json = |n: usize| {
        serde_json::from_str::<serde_json::Value>(lines[n].strip_prefix("data: ").unwrap()).unwrap()
    };
    assert_eq!(lines.len(), 5);
    assert_eq!(json(0)["choices"][0]["logprobs"]["text_offset"], serde_json::json!([0]));
    assert_eq!(json(1)["choices"][0]["logprobs"]["text_offset"], serde_json::json!([1]));
    assert_eq!(json(1)["choices"][0]["text"], "b");
    assert_eq!(json(2)["choices"][0]["finish_reason"], "length");
    assert_eq!(json(0)["object"], "text_completion");
}

#[test]
fn a_broken_stream_ends_with_its_error() {
    let (usage, charge) = strategies::bill();
    let billed = Billed { usage: &usage, charge: &charge, claim: None, raw: None, is_byok: false };
    let mut out = Vec::new();
    writer(Api::Chat).fail(&ApiError::new(ErrorType::ProviderUnavailable, "gone"), &billed, b"", &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains(r#""error":{"code":502,"message":"gone""#)
            && text.contains(r#""finish_reason":"error""#)
    );
    assert!(text.ends_with("\n\ndata: [DONE]\n\n"), "{text}");
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(events in strategies::events(&Origin::ALL, 3)) {
        let (mut w, mut out) = (writer(Api::Chat), Vec::new());
        for event in &events {
            w.event(event, &mut out);
        }
        let (mut reader, mut back) = (Reader::default(), Vec::new());
        let mut scanner = SseScanner::default();
        scanner.push(Bytes::from(out));
        while let Some(event) = scanner.next_event().unwrap() {
            let text = event.text().unwrap().into_owned();
            reader.read(&text, &mut |event: StreamEvent<'_>| {
                let choice = choice_of(&event);
                back.push(of_choice(event, choice));
            }).unwrap();
        }
        prop_assert_eq!(merged(&back), merged(&events));
    }
}

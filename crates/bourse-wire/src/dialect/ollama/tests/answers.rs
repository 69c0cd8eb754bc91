//! Answers: whole ones, streams, and what goes wrong in them.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::grammar::{SellerErrorKind, StreamNews};
use crate::dialect::neutral::strategies::{answer_of, merged, normal_answer, of_choice};
use crate::dialect::neutral::{Part, StreamEvent};
use crate::receipt::Finish;
use proptest::prelude::*;

type Read = Result<(Vec<StreamEvent<'static>>, StreamNews), SellerError>;

fn read_stream(lines: &[&str]) -> Read {
    let mut reader = Ollama.reader();
    let (mut events, mut news) = (Vec::new(), StreamNews::default());
    for line in lines {
        news = reader.read(line, &mut |event| events.push(of_choice(event, 0)))?;
    }
    Ok((events, news))
}

fn text(text: &str) -> StreamEvent<'static> {
    StreamEvent::Text { choice: 0, text: text.to_owned().into(), logprobs_json: None }
}

#[test]
fn a_stream_says_thoughts_text_calls_and_its_end() {
    let (events, news) = read_stream(&[
        r#"{"model":"qwen3","created_at":"2026-10-01T10:00:00Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        r#"{"model":"qwen3","created_at":"2026-10-01T10:00:01Z","message":{"role":"assistant","content":"I look."},"done":false}"#,
        r#"{"model":"qwen3","created_at":"2026-10-01T10:00:02Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_x","function":{"index":0,"name":"look","arguments":{"at":"é"}}},{"function":{"name":"wait","arguments":"{\"s\":1}"}}]},"done":false}"#,
        r#"{"model":"qwen3","created_at":"2026-10-01T10:00:03Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":26,"eval_count":9}"#,
    ])
    .unwrap();
    let StreamEvent::ToolCall { id: made, .. } = &events[4] else { panic!("a call") };
    let call = |call, id: &str, name: &str| StreamEvent::ToolCall {
        choice: 0,
        call,
        id: id.to_owned().into(),
        name: name.to_owned().into(),
    };
    let arguments =
        |call, json: &str| StreamEvent::ToolArguments { choice: 0, call, json: json.to_owned().into() };
    let want = [
        StreamEvent::Reasoning { choice: 0, text: "hm".into(), is_summary: false },
        text("I look."),
        call(0, "call_x", "look"),
        arguments(0, r#"{"at":"é"}"#),
        call(1, made, "wait"),
        arguments(1, r#"{"s":1}"#),
        StreamEvent::Finish { choice: 0, finish: Finish::ToolCalls, native: Some("stop".into()) },
    ];
    assert!(made.starts_with("call_"), "{made}");
    assert_eq!(events, want);
    let usage = SellerUsage { prompt: 26, cached: 0, cache_write: 0, completion: 9, reasoning: 0 };
    assert_eq!(news, StreamNews { usage: Some(Some(usage)), is_last: true });
}

#[test]
fn every_end_has_a_meaning() {
    let check = |members: &str, finish: Finish, native: &str| {
        let (events, news) = read_stream(&[&format!(r#"{{"done":true{members}}}"#)]).unwrap();
        let native = Some(native.to_owned().into());
        assert_eq!(events, [StreamEvent::Finish { choice: 0, finish, native }]);
        assert_eq!(news, StreamNews { usage: Some(None), is_last: true });
    };
    check("", Finish::Stop, "stop");
    check(r#","done_reason":"stop","eval_count":3"#, Finish::Stop, "stop");
    check(r#","done_reason":"length","prompt_eval_count":3"#, Finish::Length, "length");
    check(r#","done_reason":"new""#, Finish::Stop, "new");
    for word in ["load", "unload"] {
        let line = format!(r#"{{"done":true,"done_reason":"{word}"}}"#);
        assert_eq!(read_stream(&[&line]).unwrap_err().kind, SellerErrorKind::Unavailable);
    }
}

#[test]
fn probabilities_pass_as_they_came() {
    let logprobs = r#"[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[]}]"#;
    let line = |content: &str| {
        format!(r#"{{"message":{{"content":"{content}"}},"logprobs":{logprobs},"done":true}}"#)
    };
    for content in ["a", ""] {
        let (events, _) = read_stream(&[&line(content)]).unwrap();
        let logprobs_json = Some(logprobs.into());
        assert_eq!(
            events[0],
            StreamEvent::Text { choice: 0, text: content.to_owned().into(), logprobs_json }
        );
    }
    let answer = Ollama.read_answer(&line("a")).unwrap();
    assert_eq!(answer.choices[0].logprobs_json.as_deref(), Some(&logprobs[1..logprobs.len() - 1]));
}

#[test]
fn a_whole_answer_is_read() {
    let body = r#"{"model":"m","message":{"role":"assistant","content":"hi \ud83d!"},"done":true,"done_reason":"length","prompt_eval_count":2,"eval_count":1}"#;
    let answer = Ollama.read_answer(body).unwrap();
    assert_eq!((answer.model.as_deref(), answer.choices.len()), (Some("m"), 1));
    assert_eq!(answer.choices[0].parts, [Part::text("hi \u{fffd}!")]);
    assert_eq!(answer.choices[0].finish, Some(Finish::Length));
    assert_eq!(answer.usage.map(|usage| (usage.prompt, usage.completion)), Some((2, 1)));
}

#[test]
fn what_goes_wrong_is_an_error() {
    let check = |line: &str, kind: SellerErrorKind, message: &str| {
        for error in [read_stream(&[line]).unwrap_err(), Ollama.read_answer(line).unwrap_err()] {
            assert_eq!(error.kind, kind, "{line}");
            assert!(error.message.starts_with(message), "{error}");
        }
    };
    let crash = "an error was encountered while running the model";
    check(&format!(r#"{{"error":"{crash}"}}"#), SellerErrorKind::Unavailable, crash);
    check(r#"{"error":"x exceeds the context length"}"#, SellerErrorKind::ContextLength, "x exceeds");
    check(r#"{"message":{"#, SellerErrorKind::Unavailable, "a line does not have the grammar's form");
    assert!(Ollama.read_answer(r#"{"message":{"content":"a"},"done":false}"#).is_err());
    assert!(Ollama.read_answer("{}").is_err());
}

proptest! {
    #[test]
    fn a_stream_amounts_to_the_whole_answer(
        thinking in "[a-zé\"]{0,8}", content in "[a-zé\"\n]{0,8}", calls in proptest::collection::vec("[a-z]{1,4}", 0..3), cut in 0usize..8,
    ) {
        let calls: Vec<serde_json::Value> = calls
            .iter()
            .enumerate()
            .map(|(n, name)| serde_json::json!({ "id": format!("c{n}"), "function": { "name": name, "arguments": { "n": n } } }))
            .collect();
        let whole = serde_json::json!({ "message": { "content": content, "thinking": thinking, "tool_calls": calls }, "done": true, "prompt_eval_count": 1, "eval_count": 2 });
        let cut = content.floor_char_boundary(cut);
        let lines = [
            serde_json::json!({ "message": { "thinking": thinking, "content": "" } }),
            serde_json::json!({ "message": { "content": content[..cut] } }),
            serde_json::json!({ "message": { "content": content[cut..] } }),
            serde_json::json!({ "message": { "content": "", "tool_calls": calls } }),
            serde_json::json!({ "done": true, "prompt_eval_count": 1, "eval_count": 2 }),
        ]
        .map(|line| line.to_string());
        let (events, news) = read_stream(&lines.each_ref().map(String::as_str)).unwrap();
        let answer = Ollama.read_answer(&whole.to_string()).unwrap();
        prop_assert_eq!(news.usage, Some(answer.usage));
        prop_assert_eq!(normal_answer(answer), normal_answer(answer_of(&merged(&events))));
    }

    #[test]
    fn foreign_bytes_break_nothing(
        member in "(message|done|done_reason|eval_count|logprobs|error)",
        value in "([0-9]{1,12}|null|true|\"[a-z]{0,3}\"|\\[\\]|\\{\\}|\\{\"(content|thinking|tool_calls)\":(7|null|\"x\"|\\[\\{\"function\":\\{\"name\":\"f\",\"arguments\":(1|\"x\"|\\{\\})\\}\\}\\])\\})",
        cut in 0usize..120,
    ) {
        let data = format!("{{\"{member}\":{value}}}");
        let cut = data.floor_char_boundary(cut);
        for data in [data.as_str(), &data[..cut]] {
            let _ = read_stream(&[data, data]);
            let _ = Ollama.read_answer(data);
            let _ = Ollama.read_error(400, data.as_bytes());
        }
    }
}

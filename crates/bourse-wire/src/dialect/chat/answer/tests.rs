//! Whole answers: sellers' oddities, golden texts, there and back.

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::neutral::strategies::{self, normal_answer};
use crate::dialect::neutral::{Origin, Signed};
use proptest::prelude::*;

fn write(api: Api, answer: &Answer) -> String {
    let (usage, charge) = strategies::bill();
    let claim = Some(SellerUsage { prompt: 3, cached: 1, cache_write: 0, completion: 2, reasoning: 1 });
    let billed = Billed { usage: &usage, charge: &charge, claim, raw: None, is_byok: false };
    let head = Head {
        id: "gen-1".into(),
        created_s: 7,
        model: "a/b".into(),
        provider: "p".into(),
        ..Head::default()
    };
    let mut out = Vec::new();
    push_answer(api, &head, answer, &billed, b",\"bourse\":1", &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_answer_is_golden() {
    let signed =
        Signed { origin: Origin::OpenAi, id: Some("rs_1".into()), data: "ee".into(), is_encrypted: true };
    let parts = vec![
        Part::Reasoning { text: "hm".into(), is_summary: true, signed: Some(signed) },
        Part::ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into(), cache: None },
    ];
    let choice = Choice {
        parts,
        finish: Some(Finish::ToolCalls),
        native_finish: Some("tool_use".into()),
        logprobs_json: None,
    };
    let answer = Answer { choices: vec![choice], service_tier: Some("flex".into()), ..Answer::default() };
    assert_eq!(
        write(Api::Chat, &answer),
        r#"{"id":"gen-1","object":"chat.completion","created":7,"model":"a/b","provider":"p","system_fingerprint":null,"service_tier":"flex","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"reasoning":"hm","reasoning_details":[{"type":"reasoning.summary","summary":"hm","id":"rs_1","format":"openai-responses-v1","index":0},{"type":"reasoning.encrypted","data":"ee","id":"rs_1","format":"openai-responses-v1","index":1}],"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls","native_finish_reason":"tool_use"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"completion_tokens_details":{"reasoning_tokens":1},"prompt_tokens_details":{"cached_tokens":1,"cache_write_tokens":0},"cost":0.000000003,"cost_details":{"upstream_inference_prompt_cost":0.000000001,"upstream_inference_completions_cost":0.000000002,"request":0,"units":0,"rounding":0},"is_byok":false},"bourse":1}"#
    );
    let text = Answer {
        choices: vec![Choice {
            parts: vec![Part::text("é"), Part::text("b")],
            finish: Some(Finish::Stop),
            native_finish: None,
            logprobs_json: Some(r#"{"token":"é","logprob":-1.0},{"token":"b","logprob":-2.0}"#.into()),
        }],
        ..Answer::default()
    };
    let json: serde_json::Value = serde_json::from_str(&write(Api::Text, &text)).unwrap();
    assert_eq!(json["choices"][0]["text"], "éb");
    assert_eq!(json["choices"][0]["logprobs"]["text_offset"], serde_json::json!([0, 1]));
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
}

fn one(message: &str, finish: &str) -> Choice {
    let body =
        format!(r#"{{"id":"x","choices":[{{"index":0,"message":{message},"finish_reason":{finish}}}]}}"#);
    read(&body).unwrap().choices.remove(0)
}

#[test]
fn sellers_oddities_are_read() {
    let call = |id: &str, arguments: &str| Part::ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
        cache: None,
    };
    let said = one(
        r#"{"content":"a","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"a":1}}}]}"#,
        "\"stop\"",
    );
    assert_eq!(
        (said.parts, said.finish),
        (vec![Part::text("a"), call("c", r#"{"a":1}"#)], Some(Finish::ToolCalls))
    );
    assert_eq!(said.native_finish.as_deref(), Some("stop"));
    let twice = r#"{"tool_calls":[{"id":"c","function":{"name":"f"}},{"id":"c","function":{"name":"f"}},{"function":{"name":"f"}}]}"#;
    let ids: Vec<String> = one(twice, "\"tool_calls\"")
        .parts
        .into_iter()
        .filter_map(|part| if let Part::ToolCall { id, .. } = part { Some(id) } else { None })
        .collect();
    assert_eq!(ids[0], "c");
    assert!(ids[1].starts_with("call_") && ids[2].starts_with("call_") && ids[1] != ids[2], "{ids:?}");
    let parts = one(
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"x"}]}"#,
        "null",
    );
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
    assert_eq!((parts.parts, parts.finish), (vec![thought, Part::text("x")], None));
    assert_eq!(one(r#"{"content":"a\ud83d"}"#, "\"length\"").parts, [Part::text("a\u{fffd}")]);
    assert_eq!(
        one(r#"{"function_call":{"name":"f","arguments":"{}"}}"#, "\"function_call\"").finish,
        Some(Finish::ToolCalls)
    );
    let whole = r#"{"id":"x","model":"m","service_tier":"flex","usage":{"prompt_tokens":1,"completion_tokens":2},"choices":[{"message":{"content":""}}]}"#;
    let whole = read(whole).unwrap();
    assert_eq!(
        whole.usage,
        Some(SellerUsage { prompt: 1, cached: 0, cache_write: 0, completion: 2, reasoning: 0 })
    );
    assert_eq!((whole.id.as_deref(), whole.service_tier.as_deref()), (Some("x"), Some("flex")));
}

#[test]
fn errors_in_answers_are_errors() {
    for (body, kind) in [
        (r#"{"error":{"code":429,"message":"slow"}}"#, SellerErrorKind::RateLimited),
        (
            r#"{"object":"error","message":"maximum context length is 5","code":400}"#,
            SellerErrorKind::ContextLength,
        ),
        (r#"{"choices":[{"error":{"code":503,"message":"x"},"message":{}}]}"#, SellerErrorKind::Overloaded),
        (
            r#"{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}"#,
            SellerErrorKind::Unavailable,
        ),
        (r#"{"choices":[]}"#, SellerErrorKind::Unavailable),
        (r#"{"choices":[5]}"#, SellerErrorKind::Unavailable),
        ("[]", SellerErrorKind::Unavailable),
        ("{", SellerErrorKind::Unavailable),
    ] {
        assert_eq!(read(body).unwrap_err().kind, kind, "{body}");
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(answer in strategies::answer(&Origin::ALL, 3)) {
        let text = write(Api::Chat, &answer);
        prop_assert_eq!(normal_answer(read(&text).unwrap()), normal_answer(answer), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic(cut in 0usize..200, at in 0usize..200, byte in 0u8..127) {
        let body = r#"{"id":"x","choices":[{"message":{"content":"a","reasoning_details":[{"type":"reasoning.text"}],"tool_calls":[{"id":"c","function":{"name":"f"}}]},"finish_reason":"stop"}],"usage":{}}"#;
        let mut bytes = body.as_bytes()[..cut.min(body.len())].to_vec();
        if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        let _ = read(&String::from_utf8_lossy(&bytes));
    }
}

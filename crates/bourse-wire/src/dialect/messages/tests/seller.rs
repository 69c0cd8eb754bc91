//! Requests as sellers get them, whole answers, errors.

use super::*;
use crate::dialect::PlainView;
use crate::dialect::grammar::SellerErrorKind;
use crate::dialect::neutral::{
    Answer, CacheMark, Choice, Effort, Media, Message, Notice, Origin, Part, Reasoning, ResponseFormat, Role,
    Signed, Tool, ToolChoice,
};
use crate::dialect::splice_usage;
use crate::error::ErrorType;
use crate::receipt::Finish;

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn asks(messages: Vec<Message>) -> Request {
    Request { messages, choices: 1, max_tokens: Some(5_000), ..Request::default() }
}

fn hi() -> Request {
    asks(vec![message(Role::User, vec![Part::text("hi")])])
}

fn written(request: &Request, model: &str) -> (String, Vec<Notice>) {
    let call = Call { upstream_id: model, stream: false, max_tokens: None };
    let written = Messages.write(request, &call).unwrap();
    (text(written.body.to_vec()), written.notices)
}

fn check(request: &Request, want: &str) {
    assert_eq!(written(request, "m").0, want);
}

const HI: &str = r#""messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]"#;

#[test]
fn a_conversation_alternates_and_results_come_first() {
    let call = |id: &str, arguments: &str| Part::ToolCall {
        id: id.into(),
        name: "t".into(),
        arguments: arguments.into(),
        cache: None,
    };
    let result = |id: &str| Part::ToolResult {
        call_id: id.into(),
        content: vec![Part::text("r"), Part::text("")],
        is_error: true,
        cache: None,
    };
    let request = asks(vec![
        message(Role::System, vec![Part::text("s")]),
        message(Role::User, vec![Part::text("q"), Part::text("")]),
        message(Role::Assistant, vec![Part::text("a"), call("call_1", ""), call("c.2", "{ \"x\": 1 }")]),
        message(Role::User, vec![Part::text("and?")]),
        message(Role::Developer, vec![Part::text("d")]),
        message(Role::Tool, vec![result("call_1"), result("c.2")]),
        message(Role::Assistant, vec![]),
        message(Role::User, vec![Part::text("go on")]),
    ]);
    let (body, notices) = written(&request, "m");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    // An id that this grammar does not allow becomes another one, in the call and in its result.
    let id = json["messages"][1]["content"][2]["id"].as_str().unwrap();
    let want = serde_json::json!([
        {"role":"user","content":[{"type":"text","text":"q"}]},
        {"role":"assistant","content":[
            {"type":"text","text":"a"},
            {"type":"tool_use","id":"call_1","name":"t","input":{}},
            {"type":"tool_use","id":id,"name":"t","input":{"x":1}}]},
        {"role":"user","content":[
            {"type":"tool_result","tool_use_id":"call_1","content":[{"type":"text","text":"r"}],"is_error":true},
            {"type":"tool_result","tool_use_id":id,"content":[{"type":"text","text":"r"}],"is_error":true},
            {"type":"text","text":"and?"},
            {"type":"text","text":"go on"}]},
    ]);
    assert_eq!(json["messages"], want);
    assert!(id.starts_with("toolu_") && id.len() == 38, "{id}");
    assert_eq!(json["system"], serde_json::json!([{"type":"text","text":"s"},{"type":"text","text":"d"}]));
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].param, "messages");
}

#[test]
fn wishes_have_their_members() {
    check(&hi(), &format!(r#"{{"model":"m","max_tokens":5000,{HI}}}"#));
    let schema = crate::dialect::neutral::RawJson::parse(r#"{ "type":"object" }"#).unwrap();
    let tool = |parameters| Tool {
        name: "t".into(),
        description: Some("d".into()),
        parameters,
        strict: Some(true),
        cache: None,
    };
    let request = Request {
        tools: vec![tool(Some(schema.clone())), tool(None)],
        tool_choice: Some(ToolChoice::Tool("t".into())),
        parallel_tool_calls: Some(false),
        response_format: ResponseFormat::JsonSchema {
            name: "n".into(),
            description: None,
            schema,
            strict: None,
        },
        temperature: Some(0.5),
        top_k: Some(3),
        stop: vec!["END".into()],
        user: Some("u".into()),
        service_tier: Some("default".into()),
        cache: Some(CacheMark::default()),
        max_tokens: None,
        ..hi()
    };
    check(
        &request,
        &format!(
            r#"{{"model":"m","max_tokens":8192,"tools":[{{"name":"t","description":"d","input_schema":{{ "type":"object" }},"strict":true}},{{"name":"t","description":"d","input_schema":{{"type":"object"}},"strict":true}}],{HI},"tool_choice":{{"type":"tool","name":"t","disable_parallel_tool_use":true}},"output_config":{{"format":{{"type":"json_schema","schema":{{ "type":"object" }}}}}},"temperature":0.5,"top_k":3,"stop_sequences":["END"],"metadata":{{"user_id":"u"}},"service_tier":"standard_only","cache_control":{{"type":"ephemeral"}}}}"#
        ),
    );
    let call = Call { upstream_id: "m", stream: true, max_tokens: Some(7) };
    let body = text(Messages.write(&hi(), &call).unwrap().body.to_vec());
    assert_eq!(body, format!(r#"{{"model":"m","max_tokens":7,{HI},"stream":true}}"#));
}

fn check_thinking(model: &str, request: &Request, want: &str, notices: usize) {
    let (body, told) = written(request, model);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let got = format!("{} {}", json["thinking"], json["output_config"]["effort"]);
    assert_eq!((got.as_str(), told.len()), (want, notices), "{told:?}");
}

#[test]
fn how_long_to_think_is_said_as_the_model_wants_it() {
    let old = "claude-sonnet-4-5-20250929";
    let new = "claude-opus-5-5";
    let effort = |effort| Request {
        reasoning: Some(Reasoning { effort: Some(effort), ..Reasoning::default() }),
        ..hi()
    };
    let budget =
        |n| Request { reasoning: Some(Reasoning { max_tokens: Some(n), ..Reasoning::default() }), ..hi() };
    check_thinking(old, &effort(Effort::High), r#"{"budget_tokens":4000,"type":"enabled"} null"#, 0);
    check_thinking(old, &effort(Effort::Minimal), r#"{"budget_tokens":1024,"type":"enabled"} null"#, 0);
    check_thinking(old, &budget(9_999), r#"{"budget_tokens":4999,"type":"enabled"} null"#, 0);
    check_thinking(old, &effort(Effort::None), r#"{"type":"disabled"} null"#, 0);
    check_thinking(new, &effort(Effort::XHigh), r#"{"type":"adaptive"} "xhigh""#, 0);
    check_thinking(new, &budget(1_000), r#"{"type":"adaptive"} "low""#, 0);
    let small = Request { max_tokens: Some(THINKING_TOKENS_MIN), ..budget(2_000) };
    check_thinking(old, &small, "null null", 1);
    check_thinking(
        old,
        &Request { max_tokens: Some(THINKING_TOKENS_MIN + 1), ..small },
        r#"{"budget_tokens":1024,"type":"enabled"} null"#,
        0,
    );
    let hidden = Reasoning { enabled: Some(true), exclude: true, ..Reasoning::default() };
    check_thinking(
        new,
        &Request { reasoning: Some(hidden), ..hi() },
        r#"{"display":"omitted","type":"adaptive"} null"#,
        0,
    );
    let tool = Tool { name: "t".into(), description: None, parameters: None, strict: None, cache: None };
    let forced =
        Request { tools: vec![tool], tool_choice: Some(ToolChoice::Required), ..effort(Effort::Low) };
    check_thinking(new, &forced, "null null", 1);
    // With thoughts the numbers that choose tokens go.
    check_thinking(
        new,
        &Request { temperature: Some(0.1), ..effort(Effort::Low) },
        r#"{"type":"adaptive"} "low""#,
        1,
    );
}

#[test]
fn models_that_take_budgets_do_not_think_on_from_foreign_calls() {
    let signed = |origin| Part::Reasoning {
        text: "t".into(),
        is_summary: false,
        signed: Some(Signed { origin, id: None, data: "x".into(), is_encrypted: false }),
    };
    let asked = |thoughts: Part| {
        let call = Part::ToolCall { id: "a".into(), name: "t".into(), arguments: "{}".into(), cache: None };
        let result = Part::ToolResult { call_id: "a".into(), content: vec![], is_error: false, cache: None };
        let messages = vec![
            message(Role::User, vec![Part::text("q")]),
            message(Role::Assistant, vec![thoughts, call]),
            message(Role::Tool, vec![result]),
        ];
        Request {
            reasoning: Some(Reasoning { effort: Some(Effort::High), ..Reasoning::default() }),
            ..asks(messages)
        }
    };
    check_thinking(
        "claude-opus-4-5",
        &asked(signed(Origin::Anthropic)),
        r#"{"budget_tokens":4000,"type":"enabled"} null"#,
        0,
    );
    check_thinking("claude-opus-4-5", &asked(signed(Origin::Google)), "null null", 2);
    check_thinking("claude-opus-5-5", &asked(signed(Origin::Google)), r#"{"type":"adaptive"} "high""#, 1);
}

#[test]
fn of_too_many_marks_the_last_are_kept() {
    let marked = |ttl_s| Part::Text { text: "x".into(), cache: Some(CacheMark { ttl_s }) };
    let marks = |parts: Vec<Part>, cache| {
        let (body, notices) = written(&Request { cache, ..asks(vec![message(Role::User, parts)]) }, "m");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        let blocks = json["messages"][0]["content"].as_array().unwrap().clone();
        let marks: Vec<String> = blocks
            .iter()
            .map(|block| match &block["cache_control"] {
                serde_json::Value::Null => "-".to_owned(),
                mark => mark["ttl"].as_str().unwrap_or("?").to_owned(),
            })
            .collect();
        (marks.join(" "), notices.len())
    };
    let hour = || marked(Some(3_600));
    assert_eq!(marks((0..CACHE_MARKS_MAX).map(|_| hour()).collect(), None), ("1h 1h 1h 1h".into(), 0));
    assert_eq!(marks((0..=CACHE_MARKS_MAX).map(|_| hour()).collect(), None), ("- 1h 1h 1h 1h".into(), 1));
    assert_eq!(
        marks((0..CACHE_MARKS_MAX).map(|_| hour()).collect(), Some(CacheMark::default())),
        ("- 1h 1h 1h".into(), 1)
    );
    // One for an hour cannot stand behind a shorter one.
    assert_eq!(marks(vec![marked(Some(300)), hour(), marked(None)], None), ("5m ? ?".into(), 0));
}

#[test]
fn what_cannot_be_said_is_told() {
    let request = Request {
        temperature: Some(1.5),
        top_p: Some(0.5),
        seed: Some(1),
        min_p: Some(0.1),
        presence_penalty: Some(0.0),
        repetition_penalty: Some(1.0),
        service_tier: Some("flex".into()),
        ..hi()
    };
    let (body, notices) = written(&request, "m");
    assert_eq!(body, format!(r#"{{"model":"m","max_tokens":5000,{HI},"top_p":0.5}}"#));
    let params: Vec<&str> = notices.iter().map(|notice| notice.param.as_ref()).collect();
    assert_eq!(params, ["temperature", "service_tier", "min_p", "seed"]);

    let broken = Part::ToolCall { id: "a".into(), name: "t".into(), arguments: "{\"a".into(), cache: None };
    let (body, notices) = written(&asks(vec![message(Role::Assistant, vec![broken, Part::text("x ")])]), "m");
    assert!(body.contains(r#""input":{"INVALID_JSON":"{\"a"}"#), "{body}");
    assert!(body.contains(r#"{"type":"text","text":"x"}"#), "{body}");
    assert_eq!(notices.len(), 1);
}

#[test]
fn what_an_answer_would_lack_is_refused() {
    let refused = |request: &Request, param: &str| {
        let call = Call { upstream_id: "m", stream: false, max_tokens: None };
        let error = Messages.write(request, &call).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)));
    };
    refused(&Request { choices: 2, ..hi() }, "n");
    refused(&Request { logprobs: Some(0), ..hi() }, "logprobs");
    refused(&Request { response_format: ResponseFormat::JsonObject, ..hi() }, "response_format");
    refused(&asks(vec![message(Role::System, vec![Part::text("s")])]), "messages");
    let sound = Part::Audio { source: Media::Base64 { media_type: "audio/wav".into(), data: String::new() } };
    refused(&asks(vec![message(Role::User, vec![sound])]), "messages");
}

const ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"hm","signature":"s=="},{"type":"redacted_thinking","data":"r=="},{"type":"text","text":"a\u00e9","citations":null},{"type":"server_tool_use","id":"x","name":"web_search","input":{}},{"type":"tool_use","id":"toolu_1","name":"t","input":{"a": 1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":5,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":5,"output_tokens_details":{"thinking_tokens":4},"service_tier":"standard","cost":9}} "#;

fn answer() -> Answer {
    let signed = |data: &str, is_encrypted| {
        Some(Signed { origin: Origin::Anthropic, id: None, data: data.into(), is_encrypted })
    };
    Answer {
        id: Some("msg_1".into()),
        model: Some("claude-x".into()),
        choices: vec![Choice {
            parts: vec![
                Part::Reasoning { text: "hm".into(), is_summary: false, signed: signed("s==", false) },
                Part::Reasoning { text: String::new(), is_summary: false, signed: signed("r==", true) },
                Part::text("aé"),
                Part::ToolCall {
                    id: "toolu_1".into(),
                    name: "t".into(),
                    arguments: "{\"a\": 1}".into(),
                    cache: None,
                },
            ],
            finish: Some(Finish::ToolCalls),
            native_finish: Some("tool_use".into()),
            logprobs_json: None,
        }],
        usage: Some(CLAIM),
        service_tier: Some("default".into()),
    }
}

#[test]
fn answers_are_read_and_written() {
    assert_eq!(Messages.read_answer(ANSWER), Ok(answer()));
    let mut out = Vec::new();
    with_billed(None, |billed| push_answer(&head(), &answer(), billed, b",\"x\":1", &mut out));
    assert_eq!(
        text(out),
        format!(
            r#"{{"id":"gen-1","type":"message","role":"assistant","model":"anthropic/claude","provider":"acme","content":[{{"type":"thinking","thinking":"hm","signature":"s=="}},{{"type":"redacted_thinking","data":"r=="}},{{"type":"text","text":"aé"}},{{"type":"tool_use","id":"toolu_1","name":"t","input":{{"a": 1}}}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{{"input_tokens":5,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":5,"output_tokens_details":{{"thinking_tokens":4}},"service_tier":"standard",{COST},"x":1}}"#
        )
    );
}

#[test]
fn an_answer_passes_with_its_price() {
    let view: PlainView = view(ANSWER).unwrap();
    let chunk = &view.chunk;
    assert_eq!((chunk.tool_calls, chunk.finishes, chunk.finish), (1, 1, Some(Finish::ToolCalls)));
    // hm, a\u00e9, the names and arguments of both calls, and one for the call that is the buyer's.
    assert_eq!(chunk.content_bytes, 2 + 7 + 10 + 2 + 1 + 8 + 1);
    assert!(!chunk.no_choices && chunk.error.is_none());
    let raw = &ANSWER[chunk.usage.clone().unwrap()];
    assert_eq!(read_usage(raw), Some(CLAIM));
    let mut usage = Vec::new();
    with_billed(Some(raw), |billed| push_usage(billed, &mut usage));
    let usage = text(usage);
    assert_eq!(
        usage,
        format!(
            r#"{{"input_tokens":5,"cache_creation_input_tokens":2,"cache_read_input_tokens":3,"output_tokens":5,"output_tokens_details":{{"thinking_tokens":4}},"service_tier":"standard",{COST}"#
        )
    );
    let spliced = splice_usage(crate::dialect::Api::Messages, ANSWER, &view, usage.as_bytes(), b",\"x\":1");
    let json: serde_json::Value = serde_json::from_slice(&spliced).unwrap();
    assert_eq!((json["usage"]["cost"].as_f64(), json["x"].as_i64()), (Some(0.000_000_02), Some(1)));
}

#[test]
fn unknown_counts_are_not_zero() {
    for raw in [
        r#"{"input_tokens":5}"#,
        r#"{"output_tokens":5}"#,
        r#"{"input_tokens":-1,"output_tokens":5}"#,
        r#"{"input_tokens":1,"output_tokens":5,"cache_read_input_tokens":1.5}"#,
        r#"{"input_tokens":18446744073709551615,"output_tokens":5,"cache_read_input_tokens":1}"#,
        "[]",
        "null",
    ] {
        assert_eq!(read_usage(raw), None, "{raw}");
    }
    let bare = read_usage(r#"{"input_tokens":1,"output_tokens":5,"cache_read_input_tokens":null}"#).unwrap();
    assert_eq!((bare.prompt, bare.cached, bare.cache_write), (1, 0, 0));
}

#[test]
fn answers_that_cannot_be_read_are_the_sellers_fault() {
    for body in ["", "{}", "[]", r#"{"content":7}"#] {
        assert_eq!(Messages.read_answer(body).unwrap_err().kind, SellerErrorKind::Unavailable, "{body}");
    }
    let told = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    assert_eq!(Messages.read_answer(told).unwrap_err().kind, SellerErrorKind::Overloaded);
    assert!(view(told).unwrap().chunk.error.is_some());
}

#[test]
fn errors_are_understood() {
    let check = |status, kind: &str, message: &str, want| {
        let body = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}},"request_id":"r"}}"#
        );
        let error = Messages.read_error(status, body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (want, message));
    };
    check(400, "invalid_request_error", "max_tokens: too large", SellerErrorKind::InvalidRequest);
    check(
        400,
        "invalid_request_error",
        "prompt is too long: 9 tokens > 8 maximum",
        SellerErrorKind::ContextLength,
    );
    check(
        400,
        "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 9",
        SellerErrorKind::ContextLength,
    );
    check(
        400,
        "invalid_request_error",
        "Output blocked by content filtering policy",
        SellerErrorKind::ContentPolicy,
    );
    check(400, "invalid_request_error", "Your credit balance is too low", SellerErrorKind::Unavailable);
    check(401, "authentication_error", "invalid x-api-key", SellerErrorKind::Unavailable);
    check(404, "not_found_error", "model: x", SellerErrorKind::Unavailable);
    check(413, "request_too_large", "too large", SellerErrorKind::InvalidRequest);
    check(429, "rate_limit_error", "slow down", SellerErrorKind::RateLimited);
    check(500, "api_error", "oh", SellerErrorKind::Unavailable);
    check(429, "api_error", "slow", SellerErrorKind::RateLimited);
    check(400, "api_error", "bad", SellerErrorKind::InvalidRequest);
    check(400, "api_error", "prompt is too long: 9 tokens", SellerErrorKind::ContextLength);
    check(404, "api_error", "gone", SellerErrorKind::Unavailable);
    check(503, "api_error", "loading", SellerErrorKind::Overloaded);
    check(504, "timeout_error", "late", SellerErrorKind::Timeout);
    check(529, "overloaded_error", "Overloaded", SellerErrorKind::Overloaded);
    check(429, "new_error", "what", SellerErrorKind::RateLimited);
    assert_eq!(Messages.read_error(503, b"<html>").kind, SellerErrorKind::Overloaded);
}

#[test]
fn buyers_read_errors_in_their_grammar() {
    let body = |error: &ApiError| text(error_body(error));
    assert_eq!(
        body(&ApiError::field("top_k", "`top_k` must be 1")),
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"`top_k` must be 1","error_type":"invalid_request","param":"top_k","metadata":{"error_type":"invalid_request"}}}"#
    );
    let long = ApiError::new(ErrorType::ContextLengthExceeded, "it has 9 tokens");
    assert!(
        body(&long)
            .contains(r#""type":"invalid_request_error","message":"prompt is too long: it has 9 tokens""#)
    );
    let full = ApiError::new(ErrorType::ProviderOverloaded, "full");
    assert!(body(&full).contains(r#""type":"overloaded_error""#));
    let more = full.with_members_beside(r#""x":1"#.into());
    assert!(body(&more).ends_with(r#""metadata":{"error_type":"provider_overloaded"}},"x":1}"#));
}

#[test]
fn a_signature_behind_thoughts_is_theirs() {
    let said = |text: &str, signed| Part::Reasoning { text: text.to_owned(), is_summary: false, signed };
    let signed = Signed { origin: Origin::Google, id: None, data: "g".to_owned(), is_encrypted: true };
    let parts = vec![said("hm", None), said("", Some(signed.clone())), said("", Some(signed))];
    let answer = Answer { choices: vec![Choice { parts, ..Choice::default() }], ..Answer::default() };
    let mut out = Vec::new();
    with_billed(None, |billed| push_answer(&head(), &answer, billed, b"", &mut out));
    let want = r#""content":[{"type":"thinking","thinking":"hm","signature":"bourse:google-gemini-v1:g"},{"type":"redacted_thinking","data":"bourse:google-gemini-v1:g"}],"#;
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains(want), "{text}");
}

/// Others count their calls from the start in every turn, or twice in one; here no id may stand twice.
#[test]
fn ids_of_calls_are_told_apart_and_their_results_follow() {
    let call =
        |id: &str| Part::ToolCall { id: id.into(), name: "t".into(), arguments: "{}".into(), cache: None };
    let result = |id: &str, said: &str| Part::ToolResult {
        call_id: id.into(),
        content: vec![Part::text(said.to_owned())],
        is_error: false,
        cache: None,
    };
    let turn = |role, parts| Message { role, parts, name: None };
    let request = Request {
        messages: vec![
            turn(Role::User, vec![Part::text("q".to_owned())]),
            turn(Role::Assistant, vec![call("c0"), call("c0")]),
            turn(Role::Tool, vec![result("c0", "one"), result("c0", "two"), result("c0", "two again")]),
            turn(Role::Assistant, vec![call("c0"), call("c1")]),
            turn(Role::Tool, vec![result("c1", "four"), result("c0", "three")]),
        ],
        choices: 1,
        ..Request::default()
    };
    let body: serde_json::Value = serde_json::from_str(&written(&request, "m").0).unwrap();
    let mut ids = Vec::new();
    for block in
        body["messages"].as_array().unwrap().iter().flat_map(|turn| turn["content"].as_array().unwrap())
    {
        match block["type"].as_str().unwrap() {
            "tool_use" => ids.push(block["id"].as_str().unwrap().to_owned()),
            "tool_result" => {
                let said = block["content"][0]["text"].as_str().unwrap();
                ids.push(format!("{}={said}", block["tool_use_id"].as_str().unwrap()));
            }
            _ => {}
        }
    }
    let want = [
        "c0",
        "c0_again_2",
        "c0=one",
        "c0_again_2=two",
        "c0_again_2=two again",
        "c0_again_3",
        "c1",
        "c1=four",
        "c0_again_3=three",
    ];
    assert_eq!(ids, want);
}

//! Requests as sellers get them.

use super::*;
use crate::dialect::neutral::strategies::{Can, request};
use crate::dialect::neutral::{
    CacheMark, Effort, Media, Message, Origin, Part, RawJson, Reasoning, ResponseFormat, Role, Signed, Tool,
    ToolChoice,
};
use proptest::prelude::*;
use serde_json::Value;

const CALL: Call<'_> = Call { upstream_id: "qwen3:8b", stream: true, max_tokens: None };

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn asking(parts: Vec<Part>) -> Request {
    Request { messages: vec![message(Role::User, parts)], choices: 1, ..Request::default() }
}

fn body_of(request: &Request, call: &Call<'_>) -> String {
    String::from_utf8(Ollama.write(request, call).unwrap().body.to_vec()).unwrap()
}

fn notices_of(request: &Request, call: &Call<'_>) -> Vec<String> {
    let notices = Ollama.write(request, call).unwrap().notices;
    notices.iter().map(|notice| notice.param.to_string()).collect()
}

fn base64(media_type: &str) -> Media {
    Media::Base64 { media_type: media_type.into(), data: "aGk=".into() }
}

fn tool(parameters: Option<&str>) -> Tool {
    Tool {
        name: "look".into(),
        description: Some("looks".into()),
        parameters: parameters.map(|text| RawJson::parse(text).unwrap()),
        strict: None,
        cache: None,
    }
}

#[test]
fn the_whole_of_a_request_is_written() {
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
    let call =
        Part::ToolCall { id: "c1".into(), name: "look".into(), arguments: r#"{"a": 1}"#.into(), cache: None };
    let image = Part::Image { source: base64("image/png"), detail: None, cache: None };
    let result = Part::ToolResult {
        call_id: "c1".into(),
        content: vec![Part::text("a cat"), image.clone()],
        is_error: false,
        cache: None,
    };
    let schema = RawJson::parse(r#"{"type":"object", "properties":{}}"#).unwrap();
    let request = Request {
        messages: vec![
            message(Role::System, vec![Part::text("be brief")]),
            message(Role::Developer, vec![Part::text("be kind")]),
            message(Role::User, vec![Part::text("look"), image, Part::text("here")]),
            message(Role::Assistant, vec![thought, Part::text("so"), call]),
            message(Role::Tool, vec![result]),
        ],
        tools: vec![tool(Some(r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#)), tool(None)],
        response_format: ResponseFormat::JsonSchema {
            name: "x".into(),
            description: None,
            schema,
            strict: None,
        },
        reasoning: Some(Reasoning { enabled: Some(true), ..Reasoning::default() }),
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        min_p: Some(0.05),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.25),
        repetition_penalty: Some(1.1),
        logprobs: Some(2),
        stop: vec!["END".into()],
        seed: Some(7),
        choices: 1,
        ..Request::default()
    };
    assert_eq!(
        body_of(&request, &CALL),
        r#"{"model":"qwen3:8b","messages":[{"role":"system","content":"be brief"},{"role":"system","content":"be kind"},{"role":"user","content":"look\nhere","images":["aGk="]},{"role":"assistant","content":"so","thinking":"hm","tool_calls":[{"id":"c1","function":{"name":"look","arguments":{"a": 1}}}]},{"role":"tool","content":"a cat","images":["aGk="],"tool_name":"look","tool_call_id":"c1"}],"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}},{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object","properties":{}}}}],"format":{"type":"object", "properties":{}},"think":true,"options":{"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.05,"seed":7,"num_predict":100,"stop":["END"],"repeat_penalty":1.1,"presence_penalty":0.5,"frequency_penalty":0.25},"logprobs":true,"top_logprobs":2,"stream":true,"truncate":false,"shift":false}"#
    );
    assert_eq!(notices_of(&request, &CALL), [""; 0]);
    let capped = Call { stream: false, max_tokens: Some(9), ..CALL };
    let json: Value = serde_json::from_str(&body_of(&request, &capped)).unwrap();
    assert_eq!((&json["stream"], &json["options"]["num_predict"]), (&Value::Bool(false), &Value::from(9)));
    assert_eq!(
        body_of(&asking(vec![Part::text("hi")]), &CALL),
        r#"{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}],"stream":true,"truncate":false,"shift":false}"#
    );
    let any = Request { response_format: ResponseFormat::JsonObject, ..asking(vec![]) };
    assert!(body_of(&any, &CALL).contains(r#""format":"json""#));
}

#[test]
fn results_become_messages_of_their_own() {
    let call = |id: &str, name: &str| Part::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: "[1]".into(),
        cache: None,
    };
    let result = |id: &str, text: &str| Part::ToolResult {
        call_id: id.into(),
        content: vec![Part::text(text)],
        is_error: true,
        cache: None,
    };
    let mut request = asking(vec![Part::text("q")]);
    request.messages.push(message(Role::Assistant, vec![call("a", "one"), call("b", "two")]));
    request.messages.push(message(Role::Tool, vec![result("b", "2"), result("a", "1")]));
    let json: Value = serde_json::from_str(&body_of(&request, &CALL)).unwrap();
    let said = |n: usize| {
        let message = &json["messages"][n];
        format!("{} {} {}", message["role"], message["tool_name"], message["content"])
    };
    assert_eq!(said(2), r#""tool" "two" "2""#);
    assert_eq!(said(3), r#""tool" "one" "1""#);
    assert_eq!(
        json["messages"][1]["tool_calls"][0]["function"]["arguments"].to_string(),
        r#"{"invalid_json":"[1]"}"#
    );
    assert_eq!(notices_of(&request, &CALL), ["messages.tool_calls", "messages.is_error"]);
    request.messages.remove(1);
    let error = Ollama.write(&request, &CALL).unwrap_err();
    assert_eq!((error.status(), error.param.as_deref()), (400, Some("messages[1]")));
}

#[test]
fn what_the_grammar_cannot_say_is_refused_by_name() {
    let refused = |request: &Request, param: &str| {
        let error = Ollama.write(request, &CALL).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    };
    let file = |source| Part::File { source, filename: None, cache: None };
    let image = |source| Part::Image { source, detail: None, cache: None };
    refused(&asking(vec![image(Media::Url("https://x/y.png".into()))]), "messages[0]");
    refused(&asking(vec![image(Media::Id("file-1".into()))]), "messages[0]");
    refused(&asking(vec![Part::Audio { source: base64("audio/wav") }]), "messages[0]");
    refused(&asking(vec![file(base64("application/pdf"))]), "messages[0]");
    refused(&Request { choices: 2, ..asking(vec![]) }, "n");
    for choice in [ToolChoice::Required, ToolChoice::Tool("look".into())] {
        let request = Request { tools: vec![tool(None)], tool_choice: Some(choice), ..asking(vec![]) };
        refused(&request, "tool_choice");
    }
    let text = asking(vec![Part::text("read"), file(Media::Text("plain".into()))]);
    assert!(body_of(&text, &CALL).contains(r#""content":"read\nplain""#));
    let none = Request { tools: vec![tool(None)], tool_choice: Some(ToolChoice::None), ..asking(vec![]) };
    assert!(!body_of(&none, &CALL).contains("tools"));
}

#[test]
fn thinking_is_a_word_for_one_family_and_yes_or_no_for_others() {
    let check = |model: &str, wish: Reasoning, want: &str, notices: usize| {
        let case = format!("{model} {wish:?}");
        let request = Request { reasoning: Some(wish), ..asking(vec![Part::text("q")]) };
        let call = Call { upstream_id: model, ..CALL };
        let json: Value = serde_json::from_str(&body_of(&request, &call)).unwrap();
        assert_eq!(
            (json["think"].to_string().as_str(), notices_of(&request, &call).len()),
            (want, notices),
            "{case}"
        );
    };
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let enabled = |enabled| Reasoning { enabled: Some(enabled), ..Reasoning::default() };
    let tokens = |tokens| Reasoning { max_tokens: Some(tokens), ..Reasoning::default() };
    check("qwen3:8b", enabled(true), "true", 0);
    check("qwen3:8b", enabled(false), "false", 0);
    check("qwen3:8b", effort(Effort::None), "false", 0);
    check("qwen3:8b", effort(Effort::High), "true", 1);
    check("qwen3:8b", tokens(0), "false", 0);
    check("qwen3:8b", Reasoning::default(), "null", 0);
    check("gpt-oss:20b", effort(Effort::Minimal), "\"low\"", 0);
    check("gpt-oss:20b", effort(Effort::Medium), "\"medium\"", 0);
    check("gpt-oss:20b", effort(Effort::Max), "\"high\"", 0);
    check("gpt-oss:20b", tokens(16_000), "\"medium\"", 1);
    check("gpt-oss:20b", enabled(false), "\"low\"", 1);
    check("gpt-oss:20b", enabled(true), "true", 0);
    check("gpt-oss:20b", Reasoning { exclude: true, ..effort(Effort::Low) }, "\"low\"", 1);
}

#[test]
fn what_is_left_out_is_said() {
    let signed = Signed { origin: Origin::Google, id: None, data: "x".into(), is_encrypted: true };
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: Some(signed) };
    let mark = Some(CacheMark::default());
    let mut request = Request {
        tools: vec![Tool { strict: Some(true), ..tool(None) }],
        parallel_tool_calls: Some(false),
        verbosity: Some("low".into()),
        logit_bias: vec![(1, 2.0)],
        user: Some("u".into()),
        prompt_cache_key: Some("k".into()),
        service_tier: Some("flex".into()),
        ..asking(vec![Part::Text { text: "q".into(), cache: mark }])
    };
    request.messages.push(message(Role::Assistant, vec![thought, Part::text("a")]));
    assert_eq!(
        notices_of(&request, &CALL),
        [
            "cache_control",
            "reasoning",
            "logit_bias",
            "tools.strict",
            "parallel_tool_calls",
            "verbosity",
            "user",
            "prompt_cache_key",
            "service_tier"
        ]
    );
    assert!(!body_of(&request, &CALL).contains("hm"));
}

proptest! {
    #[test]
    fn every_request_without_files_is_written(generated in request(Can { audio: false, files: false, images: false, ..Can::ALL })) {
        let request = Request { choices: 1, tool_choice: None, ..generated };
        let written = Ollama.write(&request, &CALL).unwrap();
        let json: Value = serde_json::from_slice(&written.body).unwrap();
        let results = json["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "tool");
        prop_assert!(results.clone().all(|m| m["tool_name"].is_string() && m["tool_call_id"].is_string()));
        let wanted = request.messages.iter().flat_map(|m| &m.parts).filter(|p| matches!(p, Part::ToolResult { .. }));
        prop_assert_eq!(results.count(), wanted.count());
    }
}

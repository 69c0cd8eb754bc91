//! Requests as sellers get them.

use super::*;
use crate::dialect::cohere::reader::items;
use crate::dialect::neutral::{
    CacheMark, Effort, Media, Message, Origin, Part, RawJson, Reasoning, ResponseFormat, Role, Signed, Tool,
    ToolChoice,
};
use crate::dialect::tests::word;

const CALL: Call<'_> = Call { upstream_id: "command-a-03-2025", stream: true, max_tokens: None };

fn asking(parts: Vec<Part>) -> Request {
    let messages = vec![Message { role: Role::User, parts, name: None }];
    Request { messages, choices: 1, ..Request::default() }
}

fn tool(name: &str, parameters: Option<&str>) -> Tool {
    let parameters = parameters.map(|text| RawJson::parse(text).unwrap());
    Tool { name: name.into(), description: Some("looks".into()), parameters, strict: None, cache: None }
}

fn body_of(request: &Request) -> String {
    String::from_utf8(Cohere.write(request, &CALL).unwrap().body.to_vec()).unwrap()
}

fn notices_of(request: &Request) -> Vec<String> {
    let notices = Cohere.write(request, &CALL).unwrap().notices;
    notices.iter().map(|notice| notice.param.to_string()).collect()
}

#[test]
fn the_whole_of_a_request_is_written() {
    let message = |role, parts| Message { role, parts, name: None };
    let thought = || Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
    let arguments = r#"{"a": 1}"#.into();
    let call = Part::ToolCall { id: "c1".into(), name: "look".into(), arguments, cache: None };
    let image = |source| Part::Image { source, detail: Some("low".into()), cache: None };
    let bytes = Media::Base64 { media_type: "image/png".into(), data: "aGk=".into() };
    let content = vec![Part::text("a cat"), Part::text("a hat")];
    let result = Part::ToolResult { call_id: "c1".into(), content, is_error: false, cache: None };
    let request = Request {
        messages: vec![
            message(Role::System, vec![Part::text("be brief")]),
            message(Role::Developer, vec![Part::text("be kind")]),
            message(
                Role::User,
                vec![Part::text("look"), image(bytes), image(Media::Url("https://x/y".into()))],
            ),
            message(Role::Assistant, vec![thought(), Part::text("so"), call]),
            message(Role::Tool, vec![result]),
            message(Role::Assistant, vec![thought(), Part::text("a cat in a hat")]),
            message(Role::User, vec![Part::text("more"), Part::text("")]),
        ],
        tools: vec![tool("look", Some(r#"{"type":"object", "minimum":1.50}"#)), tool("wait", None)],
        reasoning: Some(Reasoning { max_tokens: Some(50), ..Reasoning::default() }),
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        frequency_penalty: Some(0.25),
        presence_penalty: Some(0.0),
        logprobs: Some(0),
        stop: vec!["END".into()],
        seed: Some(7),
        ..asking(vec![])
    };
    assert_eq!(
        body_of(&request),
        r#"{"model":"command-a-03-2025","messages":[{"role":"system","content":[{"type":"text","text":"be brief"},{"type":"text","text":"be kind"}]},{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"low"}},{"type":"image_url","image_url":{"url":"https://x/y","detail":"low"}}]},{"role":"assistant","tool_plan":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"a\": 1}"}}],"content":[{"type":"text","text":"so"}]},{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"a cat"},{"type":"text","text":"a hat"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a cat in a hat"}]},{"role":"user","content":[{"type":"text","text":"more"}]}],"tools":[{"type":"function","function":{"name":"look","description":"looks","parameters":{"type":"object", "minimum":1.50}}},{"type":"function","function":{"name":"wait","description":"looks","parameters":{"type":"object","properties":{}}}}],"thinking":{"type":"enabled","token_budget":50},"max_tokens":100,"temperature":0.5,"p":0.9,"k":40,"seed":7,"stop_sequences":["END"],"frequency_penalty":0.25,"logprobs":true,"stream":true}"#
    );
    assert_eq!(notices_of(&request), [""; 0]);
    let least = r#"{"model":"command-a-03-2025","messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}"#;
    assert_eq!(body_of(&asking(vec![Part::text("hi")])), least);
}

#[test]
fn a_wish_is_said_bent_or_told_of() {
    let check = |change: fn(&mut Request), said: &str, notices: &[&str]| {
        let mut request = asking(vec![Part::text("q")]);
        change(&mut request);
        let body: Value = serde_json::from_str(&body_of(&request)).unwrap();
        let (member, value) = said.split_once(' ').unwrap();
        assert_eq!(
            (body[member].to_string().as_str(), notices_of(&request).as_slice()),
            (value, notices.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>().as_slice())
        );
    };
    check(|r| r.temperature = Some(1.5), "temperature 1.0", &["temperature"]);
    check(|r| r.top_p = Some(1.0), "p 0.99", &["top_p"]);
    check(|r| r.top_k = Some(501), "k 500", &["top_k"]);
    check(|r| r.seed = Some(-1), "seed 18446744073709551615", &[]);
    check(|r| r.frequency_penalty = Some(-0.5), "frequency_penalty null", &["frequency_penalty"]);
    check(
        |r| (r.frequency_penalty, r.presence_penalty) = (Some(0.5), Some(2.0)),
        "presence_penalty null",
        &["presence_penalty", "presence_penalty"],
    );
    check(|r| r.logprobs = Some(3), "logprobs true", &["top_logprobs"]);
    check(
        |r| r.response_format = ResponseFormat::JsonObject,
        r#"response_format {"type":"json_object"}"#,
        &[],
    );
    check(|r| r.reasoning = Some(Reasoning::default()), "thinking null", &[]);
    check(
        |r| r.reasoning = Some(Reasoning { effort: Some(Effort::None), ..Reasoning::default() }),
        r#"thinking {"type":"disabled"}"#,
        &[],
    );
    check(
        |r| {
            r.reasoning =
                Some(Reasoning { effort: Some(Effort::Low), exclude: true, ..Reasoning::default() });
        },
        r#"thinking {"token_budget":6400,"type":"enabled"}"#,
        &["reasoning.exclude"],
    );
    check(
        |r| r.reasoning = Some(Reasoning { enabled: Some(true), ..Reasoning::default() }),
        r#"thinking {"type":"enabled"}"#,
        &[],
    );
}

#[test]
fn tools_are_left_demanded_or_forbidden() {
    let check = |choice: Option<ToolChoice>, strict: [Option<bool>; 2], want: &str| {
        let [one, two] = strict.map(|strict| Tool { strict, ..tool("t", None) });
        let tools = vec![Tool { name: "one".into(), ..one }, Tool { name: "two".into(), ..two }];
        let request = Request { tools, tool_choice: choice, ..asking(vec![Part::text("q")]) };
        let body: Value = serde_json::from_str(&body_of(&request)).unwrap();
        let names: Vec<String> =
            items(&body["tools"]).iter().map(|tool| word(&tool["function"]["name"])).collect();
        let said = format!("{} {} {}", names.join(","), body["tool_choice"], body["strict_tools"]);
        assert_eq!(
            (said.as_str(), notices_of(&request).len()),
            (want, usize::from(strict == [Some(true), None]))
        );
    };
    check(None, [None, None], "one,two null null");
    check(Some(ToolChoice::Auto), [Some(true), None], "one,two null null");
    check(Some(ToolChoice::None), [None, None], r#"one,two "NONE" null"#);
    check(Some(ToolChoice::Required), [Some(true), Some(true)], r#"one,two "REQUIRED" true"#);
    check(Some(ToolChoice::Tool("two".into())), [None, None], r#"two "REQUIRED" null"#);
}

#[test]
fn what_the_grammar_cannot_say_is_refused_by_name() {
    let refused = |request: &Request, param: &str| {
        let error = Cohere.write(request, &CALL).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    };
    let image = |source| Part::Image { source, detail: None, cache: None };
    let file = |source| Part::File { source, filename: None, cache: None };
    let bytes = || Media::Base64 { media_type: "a/b".into(), data: "aGk=".into() };
    refused(&asking(vec![image(Media::Id("file-1".into()))]), "messages[0]");
    refused(&asking(vec![Part::Audio { source: bytes() }]), "messages[0]");
    refused(&asking(vec![file(bytes())]), "messages[0]");
    let content = vec![image(bytes())];
    let result = Part::ToolResult { call_id: "c".into(), content, is_error: false, cache: None };
    refused(&asking(vec![result]), "messages[0]");
    refused(&Request { choices: 2, ..asking(vec![]) }, "n");
    refused(&Request { stop: vec!["x".into(); STOPS_MAX + 1], ..asking(vec![]) }, "stop");
    let format = ResponseFormat::JsonObject;
    refused(
        &Request { tools: vec![tool("t", None)], response_format: format, ..asking(vec![]) },
        "response_format",
    );
    assert!(body_of(&asking(vec![file(Media::Text("plain".into()))])).contains(r#""text":"plain""#));
    assert!(Cohere.write(&Request { stop: vec!["x".into(); STOPS_MAX], ..asking(vec![]) }, &CALL).is_ok());
}

#[test]
fn what_is_left_out_is_said() {
    let signed = Some(Signed { origin: Origin::Google, id: None, data: "x".into(), is_encrypted: true });
    let cache = Some(CacheMark::default());
    let mut request = Request {
        logit_bias: vec![(1, 2.0)],
        user: Some("u".into()),
        service_tier: Some("flex".into()),
        ..asking(vec![Part::Text { text: "q".into(), cache }])
    };
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed };
    request.messages.push(Message { role: Role::Assistant, parts: vec![thought], name: Some("x".into()) });
    request.messages.push(Message { role: Role::System, parts: vec![Part::text("late")], name: None });
    assert_eq!(
        notices_of(&request),
        ["cache_control", "messages.name", "reasoning", "messages", "logit_bias", "user", "service_tier"]
    );
    let body: Value = serde_json::from_str(&body_of(&request)).unwrap();
    assert_eq!(body["messages"].as_array().unwrap().len(), 2, "an empty turn is none: {body}");
    assert_eq!(body["messages"][0]["role"], "system");
}

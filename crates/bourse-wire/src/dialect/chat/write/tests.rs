//! Chats for sellers: golden bodies by family, notices, refusals.

use super::*;
use crate::dialect::neutral::{Media, Message, Origin, Part, RawJson, Role, Signed};

fn user(parts: Vec<Part>) -> Message {
    Message { role: Role::User, parts, name: None }
}

fn write_as(chat: Chat, request: &Request) -> (String, Vec<String>) {
    let call = Call { upstream_id: "up", stream: true, max_tokens: Some(50) };
    let written = write(chat, request, &call).unwrap();
    let notices = written.notices.iter().map(|n| n.param.to_string()).collect();
    (String::from_utf8(written.body.to_vec()).unwrap(), notices)
}

fn full() -> Request {
    let signed = Signed { origin: Origin::Anthropic, id: None, data: "sig".into(), is_encrypted: false };
    let thought = Part::Reasoning { text: "hm".into(), is_summary: false, signed: Some(signed) };
    let call =
        Part::ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"a\":1}".into(), cache: None };
    let image = Part::Image { source: Media::Url("https://x/y".into()), detail: None, cache: None };
    let result = Part::ToolResult {
        call_id: "c1".into(),
        content: vec![Part::text("r"), image],
        is_error: true,
        cache: None,
    };
    let marked = Part::Text { text: "u".into(), cache: Some(CacheMark { ttl_s: Some(300) }) };
    Request {
        messages: vec![
            Message { role: Role::Developer, parts: vec![Part::text("d")], name: None },
            user(vec![marked]),
            Message { role: Role::Assistant, parts: vec![thought, call], name: None },
            Message { role: Role::Tool, parts: vec![result], name: None },
        ],
        tools: vec![Tool {
            name: "f".into(),
            description: None,
            parameters: Some(RawJson::parse(r#"{ "type":"object" }"#).unwrap()),
            strict: None,
            cache: None,
        }],
        reasoning: Some(Reasoning { max_tokens: Some(40), ..Reasoning::default() }),
        max_tokens: Some(100),
        top_k: Some(5),
        temperature: Some(0.7),
        choices: 1,
        ..Request::default()
    }
}

#[test]
fn families_differ_at_the_edges() {
    let tools = r#""tools":[{"type":"function","function":{"name":"f","parameters":{ "type":"object" }}}]"#;
    let call =
        r#""tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]"#;
    let result = r#"{"role":"tool","tool_call_id":"c1","content":"r"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]}"#;
    let stream = r#""stream":true,"stream_options":{"include_usage":true}"#;
    let plain = r#"[{"type":"text","text":"u"}]"#;
    let (body, notices) = write_as(Chat::Strict, &full());
    assert_eq!(
        body,
        format!(
            r#"{{"model":"up","messages":[{{"role":"developer","content":"d"}},{{"role":"user","content":{plain}}},{{"role":"assistant","content":null,{call}}},{result}],{tools},"reasoning_effort":"high","max_completion_tokens":50,"temperature":0.7,{stream}}}"#
        )
    );
    assert_eq!(
        notices,
        [
            "cache_control",
            "reasoning",
            "messages.content",
            "messages.is_error",
            "reasoning.max_tokens",
            "top_k"
        ]
    );
    let (body, notices) = write_as(Chat::Server, &full());
    assert_eq!(
        body,
        format!(
            r#"{{"model":"up","messages":[{{"role":"system","content":"d"}},{{"role":"user","content":{plain}}},{{"role":"assistant","content":null,"reasoning_content":"hm",{call}}},{result}],{tools},"reasoning_effort":"high","max_tokens":50,"temperature":0.7,"top_k":5,{stream}}}"#
        )
    );
    assert!(notices.contains(&"reasoning_details".to_owned()));
    let (body, notices) = write_as(Chat::Router, &full());
    assert_eq!(
        body,
        format!(
            r#"{{"model":"up","messages":[{{"role":"developer","content":"d"}},{{"role":"user","content":[{{"type":"text","text":"u","cache_control":{{"type":"ephemeral","ttl":"5m"}}}}]}},{{"role":"assistant","content":null,"reasoning":"hm","reasoning_details":[{{"type":"reasoning.text","text":"hm","signature":"sig","format":"anthropic-claude-v1","index":0}}],{call}}},{result}],{tools},"reasoning":{{"max_tokens":40}},"max_tokens":50,"temperature":0.7,"top_k":5,{stream}}}"#
        )
    );
    assert_eq!(notices, ["messages.content", "messages.is_error"]);
}

#[test]
fn marks_go_to_models_that_know_them() {
    for (model, knows) in [
        ("gpt-5.6", true),
        ("gpt-5.6-mini", true),
        ("openai/gpt-6", true),
        ("gpt-5.10", true),
        ("gpt-5.5", false),
        ("gpt-4o", false),
        ("gpt-5", false),
        ("o3", false),
    ] {
        assert_eq!(takes_breakpoints(model), knows, "{model}");
        let call = Call { upstream_id: model, stream: false, max_tokens: None };
        let body = write(Chat::Strict, &full(), &call).unwrap().body;
        let body = std::str::from_utf8(&body).unwrap();
        assert_eq!(
            body.contains(r#""text":"u","prompt_cache_breakpoint":{"mode":"explicit"}"#),
            knows,
            "{model}"
        );
    }
}

#[test]
fn thinking_is_said_in_the_familys_words() {
    let effort = |reasoning: Reasoning| {
        let request = Request { reasoning: Some(reasoning), choices: 1, ..Request::default() };
        let body: serde_json::Value = serde_json::from_str(&write_as(Chat::Strict, &request).0).unwrap();
        body["reasoning_effort"].as_str().map(str::to_owned)
    };
    let word = |effort: Effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    assert_eq!(effort(word(Effort::Max)).as_deref(), Some("xhigh"));
    assert_eq!(effort(word(Effort::Minimal)).as_deref(), Some("minimal"));
    assert_eq!(effort(Reasoning { enabled: Some(false), ..Reasoning::default() }).as_deref(), Some("none"));
    assert_eq!(effort(Reasoning { enabled: Some(true), ..Reasoning::default() }), None);
    let router = Request {
        reasoning: Some(Reasoning { enabled: Some(true), exclude: true, ..Reasoning::default() }),
        choices: 1,
        ..Request::default()
    };
    assert!(write_as(Chat::Router, &router).0.contains(r#""reasoning":{"enabled":true,"exclude":true}"#));
}

#[test]
fn what_a_seller_does_not_take_is_refused() {
    for (part, chats) in [
        (Part::Image { source: Media::Id("f".into()), detail: None, cache: None }, 3),
        (Part::Audio { source: Media::Url("https://x".into()) }, 3),
        (Part::File { source: Media::Id("f".into()), filename: None, cache: None }, 3),
        (Part::File { source: Media::Url("https://x".into()), filename: None, cache: None }, 2),
        (Part::File { source: Media::Text("t".into()), filename: None, cache: None }, 0),
    ] {
        let request = Request { messages: vec![user(vec![Part::text("a"), part])], ..Request::default() };
        let call = Call { upstream_id: "up", stream: false, max_tokens: None };
        let refused = [Chat::Strict, Chat::Server, Chat::Router].map(|chat| write(chat, &request, &call));
        let refused: Vec<_> = refused.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused.len(), chats);
        assert!(refused.iter().all(|e| e.param.as_deref() == Some("messages[0].content")));
    }
}

#[test]
fn nodes_get_messages_and_tools() {
    let crate::node::Prompt::Chat { messages_json, tools_json } =
        crate::dialect::chat::node_prompt(&full()).unwrap()
    else {
        panic!("a chat")
    };
    assert!(messages_json.starts_with(r#"[{"role":"system","content":"d"}"#), "{messages_json}");
    assert_eq!(
        tools_json.unwrap(),
        r#"[{"type":"function","function":{"name":"f","parameters":{ "type":"object" }}}]"#
    );
}

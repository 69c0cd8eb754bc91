//! Chats: every role and part, what is refused, and the way there and back.

use super::*;
use crate::dialect::chat::Chat;
use crate::dialect::grammar::{Call, Dialect};
use crate::dialect::neutral::strategies::{self, Can, each_part, normal};
use crate::dialect::neutral::{Effort, Media, Message, Origin, Part, Role, Signed};
use crate::dialect::{Api, openai};
use bytes::Bytes;
use proptest::prelude::*;

fn chat(members: &str) -> Result<Request, ApiError> {
    let job = openai::parse(Api::Chat, Bytes::from(format!(r#"{{"model":"a/b",{members}}}"#)))?;
    read(&job)
}

fn messages(list: &str) -> Result<Vec<Message>, ApiError> {
    chat(&format!(r#""messages":[{list}]"#)).map(|request| request.messages)
}

fn said(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn call(id: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), cache: None }
}

#[test]
fn every_role_is_read() {
    let got = messages(
        r#"{"role":"system","content":"s"},
           {"role":"developer","content":[{"type":"text","text":"d","cache_control":{"type":"ephemeral","ttl":"1h"}}]},
           {"role":"user","name":"ann","content":"u"},
           {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
           {"role":"tool","tool_call_id":"c1","content":"r","cache_control":{"type":"ephemeral"}},
           {"role":"assistant","content":"","function_call":{"name":"f","arguments":"{\"a\":1}"}},
           {"role":"function","name":"f","content":"r2"},
           {"role":"assistant","content":[{"type":"text","text":"t"},{"type":"refusal","refusal":"n"}]},
           {"role":"assistant","content":null,"refusal":"no"}"#,
    )
    .unwrap();
    let hour = CacheMark { ttl_s: Some(3_600) };
    let result = |id: &str, text: &str, cache| {
        let content = vec![Part::text(text)];
        said(Role::Tool, vec![Part::ToolResult { call_id: id.into(), content, is_error: false, cache }])
    };
    let want = vec![
        said(Role::System, vec![Part::text("s")]),
        said(Role::Developer, vec![Part::Text { text: "d".into(), cache: Some(hour) }]),
        Message { name: Some("ann".into()), ..said(Role::User, vec![Part::text("u")]) },
        said(Role::Assistant, vec![call("c1", "{}")]),
        result("c1", "r", Some(CacheMark::default())),
        said(Role::Assistant, vec![call("function_f", r#"{"a":1}"#)]),
        result("function_f", "r2", None),
        said(Role::Assistant, vec![Part::text("t"), Part::Refusal { text: "n".into() }]),
        said(Role::Assistant, vec![Part::Refusal { text: "no".into() }]),
    ];
    assert_eq!(got, want);
}

#[test]
fn every_part_is_read() {
    let got = messages(
        r#"{"role":"user","content":[
            {"type":"text","text":"t","prompt_cache_breakpoint":{"mode":"explicit"}},
            {"type":"image_url","image_url":{"url":"https://x/y.png","detail":"high"}},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"auto"}},
            {"type":"input_audio","input_audio":{"data":"aGk=","format":"wav"}},
            {"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,aGk="}},
            {"type":"file","file":{"file_id":"file-1"}}]}"#,
    )
    .unwrap();
    let base64 = |media_type: &str| Media::Base64 { media_type: media_type.into(), data: "aGk=".into() };
    let image =
        |source, detail: Option<&str>| Part::Image { source, detail: detail.map(str::to_owned), cache: None };
    let file = |source, filename: Option<&str>| Part::File {
        source,
        filename: filename.map(str::to_owned),
        cache: None,
    };
    let want = vec![
        Part::Text { text: "t".into(), cache: Some(CacheMark::default()) },
        image(Media::Url("https://x/y.png".into()), Some("high")),
        image(base64("image/png"), None),
        Part::Audio { source: base64("audio/wav") },
        file(base64("application/pdf"), Some("a.pdf")),
        file(Media::Id("file-1".into()), None),
    ];
    assert_eq!(got, [said(Role::User, want)]);
}

#[test]
fn thoughts_are_read_under_all_their_names() {
    let thoughts = |members: &str| {
        let list = format!(r#"{{"role":"assistant","content":"x",{members}}}"#);
        let mut parts = messages(&list).unwrap().remove(0).parts;
        assert_eq!(parts.pop(), Some(Part::text("x")));
        parts
    };
    let shown = |text: &str, is_summary, signed| Part::Reasoning { text: text.into(), is_summary, signed };
    assert_eq!(thoughts(r#""reasoning":"hm""#), [shown("hm", false, None)]);
    assert_eq!(thoughts(r#""reasoning_content":"hm","reasoning":null"#), [shown("hm", false, None)]);
    let signed = |origin, id: Option<&str>, data: &str, is_encrypted| {
        Some(Signed { origin, id: id.map(str::to_owned), data: data.into(), is_encrypted })
    };
    let blocks = r#""reasoning":"ignored","reasoning_details":[
        {"type":"reasoning.text","text":"a","signature":"sig","format":"anthropic-claude-v1","index":0},
        {"type":"reasoning.encrypted","data":"zz","format":"anthropic-claude-v1"},
        {"type":"reasoning.summary","summary":"b","format":"openai-responses-v1","id":"rs_1"},
        {"type":"reasoning.encrypted","data":"ee","format":"openai-responses-v1","id":"rs_1"},
        {"type":"reasoning.text","text":"c"},
        {"type":"reasoning.text","signature":"late","format":"google-gemini-v1"},
        {"type":"reasoning.unheard_of"}]"#;
    let want = [
        shown("a", false, signed(Origin::Anthropic, None, "sig", false)),
        shown("", false, signed(Origin::Anthropic, None, "zz", true)),
        shown("b", true, signed(Origin::OpenAi, Some("rs_1"), "ee", true)),
        shown("c", false, signed(Origin::Google, None, "late", false)),
    ];
    assert_eq!(thoughts(blocks), want);
}

#[test]
fn wishes_are_read() {
    let got = chat(
        r#""messages":[{"role":"user","content":"u"}],"temperature":0.7,"top_p":0.1,"reasoning_effort":"low","verbosity":"high",
           "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],
           "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"n":2,"logprobs":true,"top_logprobs":3,
           "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{ "a":1 }}},"cache_control":{"type":"ephemeral"}"#,
    )
    .unwrap();
    assert_eq!((got.temperature, got.top_p, got.choices, got.logprobs), (Some(0.7), Some(0.1), 2, Some(3)));
    assert_eq!(got.reasoning.unwrap().effort, Some(Effort::Low));
    assert_eq!(got.tool_choice, Some(ToolChoice::Tool("f".into())));
    assert_eq!((got.parallel_tool_calls, got.tools[0].strict), (Some(false), Some(true)));
    let ResponseFormat::JsonSchema { name, schema, .. } = got.response_format else { panic!("a schema") };
    assert_eq!((name.as_str(), schema.as_str()), ("x", r#"{ "a":1 }"#));
    assert_eq!(got.cache, Some(CacheMark::default()));
    let old = chat(r#""messages":[{"role":"user","content":"u"}],"functions":[{"name":"f"}],"function_call":{"name":"f"}"#).unwrap();
    assert_eq!((old.tools.len(), old.tool_choice), (1, Some(ToolChoice::Tool("f".into()))));
}

#[test]
fn what_cannot_be_said_is_named() {
    let check = |result: Result<Request, ApiError>, param: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    };
    let user = r#""messages":[{"role":"user","content":"u"}]"#;
    let with = |members: &str| chat(&format!("{user},{members}"));
    check(with(r#""modalities":["text","audio"]"#), "modalities");
    check(with(r#""web_search_options":{}"#), "web_search_options");
    check(with(r#""tools":[{"type":"custom","custom":{}}]"#), "tools[0].type");
    check(with(r#""tools":[{"type":"function"}]"#), "tools[0].function");
    check(with(r#""tool_choice":"any""#), "tool_choice");
    let one = |message: &str| chat(&format!(r#""messages":[{message}]"#));
    check(
        one(r#"{"role":"user","content":[{"type":"video_url","video_url":{}}]}"#),
        "messages[0].content[0].type",
    );
    check(
        one(r#"{"role":"user","content":[{"type":"image_url","image_url":{}}]}"#),
        "messages[0].content[0].image_url.url",
    );
    check(
        one(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}}]}"#),
        "messages[0].content[0].image_url.url",
    );
    check(
        one(r#"{"role":"user","content":[{"type":"file","file":{}}]}"#),
        "messages[0].content[0].file.file_data",
    );
    check(one(r#"{"role":"assistant","audio":{"id":"a"}}"#), "messages[0].audio");
    check(one(r#"{"role":"tool","content":"x"}"#), "messages[0].tool_call_id");
    check(one(r#"{"role":"function","content":"x"}"#), "messages[0].name");
    check(
        one(r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}"#),
        "messages[0].tool_calls[0].id",
    );
    check(
        one(r#"{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":5}}]}"#),
        "messages[0].tool_calls[0].function.arguments",
    );
    check(one(r#"{"role":"assistant","content":"x","reasoning":5}"#), "messages[0].reasoning");
    check(
        one(r#"{"role":"user","content":[{"type":"text","text":"x","cache_control":{"ttl":"soon"}}]}"#),
        "messages[0].content[0].cache_control.ttl",
    );
    let text = openai::parse(Api::Text, Bytes::from_static(br#"{"model":"m","prompt":"x"}"#)).unwrap();
    check(crate::dialect::chat::read_text(&text), "prompt");
}

fn there_and_back(chat: Chat, request: &Request) -> Request {
    let call = Call { upstream_id: "a/b", stream: false, max_tokens: None };
    let written = chat.write(request, &call).unwrap();
    let text = String::from_utf8(written.body.to_vec()).unwrap();
    read(&openai::parse(Api::Chat, written.body).unwrap_or_else(|e| panic!("{e}: {text}"))).unwrap()
}

proptest! {
    #[test]
    fn what_is_written_for_a_router_reads_the_same(mut request in strategies::request(Can::ALL)) {
        each_part(&mut request, |part| if let Part::ToolResult { is_error, .. } = part { *is_error = false });
        prop_assert_eq!(normal(there_and_back(Chat::Router, &request)), normal(request));
    }

    #[test]
    fn every_family_keeps_what_is_said(request in strategies::request(Can::ALL)) {
        for chat in [Chat::Strict, Chat::Server] {
            let back = there_and_back(chat, &request);
            let texts = |request: &Request| -> String {
                let parts = request.messages.iter().flat_map(|m| &m.parts);
                parts.filter_map(|p| if let Part::Text { text, .. } = p { Some(text.clone()) } else { None }).collect()
            };
            prop_assert_eq!(texts(&back), texts(&request));
            prop_assert_eq!(back.tools.len(), request.tools.len());
            prop_assert_eq!(back.response_format, request.response_format.clone());
        }
    }
}

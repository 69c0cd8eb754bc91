//! Requests: parsed, rebuilt, read, written.

use super::*;
use crate::dialect::neutral::Role::{self, Assistant, Developer, System, Tool, User};
use crate::dialect::neutral::{CacheMark, Message, Reasoning, ResponseFormat, ToolChoice};
use proptest::prelude::*;

fn check_refused(body: &str, param: Option<&str>, words: &str) {
    let error = parse(Bytes::copy_from_slice(body.as_bytes())).unwrap_err();
    assert_eq!(error.param.as_deref(), param, "{body}: {error}");
    assert!(error.message.contains(words), "{body}: {error}");
    assert_eq!(error.status(), 400);
}

fn with(members: &str) -> String {
    format!(r#"{{"model":"a/b","input":"hi",{members}}}"#)
}

#[test]
fn a_job_knows_what_a_plan_needs() {
    let job = job(r#"{"model":"a/b","models":["c/d"],"instructions":"be brief","input":[
        {"role":"user","content":[{"type":"input_text","text":"x"},{"type":"input_image","image_url":"https://e.com/a.png","detail":"auto"}]},
        {"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"c1","output":"1"}],
        "stream":true,"max_output_tokens":9,"temperature":0.5,"include":["message.output_text.logprobs"],"top_logprobs":2,
        "tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_object"}},"store":true,
        "provider":{"sort":"price"},"session_id":"s"}"#);
    assert_eq!((job.model.as_str(), job.fallbacks.len(), job.stream), ("a/b", 1, true));
    assert_eq!((job.messages_count, job.max_tokens, job.choices), (3, Some(9), 1));
    assert_eq!(job.sampling.logprobs, Some(2));
    assert!(job.needs.tools && job.needs.response_format && job.needs.logprobs && !job.needs.passthrough);
    assert_eq!(job.needs.media_parts, 1);
    assert_eq!(job.text(job.session.as_ref().unwrap()), "s");
    let counted = job.prompt.len() + job.tools.as_ref().unwrap().len();
    assert_eq!(
        job.prompt_bytes(),
        (counted + "\"be brief\"".len() + r#"{"format":{"type":"json_object"}}"#.len()) as u64
    );
}

#[test]
fn what_runs_at_the_seller_passes_through_only() {
    assert!(job(&with(r#""tools":[{"type":"web_search"}]"#)).needs.passthrough);
    assert!(
        job(r#"{"model":"a/b","input":[{"type":"shell_call","call_id":"c","action":{}}]}"#).needs.passthrough
    );
    let read = |body: &str| read(&job(body)).unwrap_err().param;
    assert_eq!(read(&with(r#""tools":[{"type":"web_search"}]"#)).as_deref(), Some("tools[0]"));
    let image =
        r#"{"model":"a/b","input":[{"type":"image_generation_call","id":"i","result":null,"output":7}]}"#;
    assert_eq!(read(image).as_deref(), Some("input[0]"));
    assert_eq!(read(&with(r#""tool_choice":{"type":"mcp"}"#)).as_deref(), Some("tool_choice"));
}

#[test]
fn bad_requests_are_told_what_is_wrong() {
    check_refused("[]", None, "object");
    check_refused(r#"{"input":"x"}"#, Some("model"), "missing");
    check_refused(r#"{"model":"a/b"}"#, Some("input"), "missing");
    check_refused(r#"{"model":"a/b","input":""}"#, Some("input"), "empty");
    check_refused(r#"{"model":"a/b","input":[]}"#, Some("input"), "empty");
    check_refused(r#"{"model":"a/b","input":7}"#, Some("input"), "array of items");
    check_refused(r#"{"model":"a/b","input":"x","inp\u0075t":"y"}"#, Some("input"), "twice");
    check_refused(r#"{"model":"a/b","input":["x"]}"#, Some("input[0]"), "object");
    check_refused(r#"{"model":"a/b","input":[{"content":"x"}]}"#, Some("input[0].role"), "role");
    check_refused(r#"{"model":"a/b","input":[{"role":"user"}]}"#, Some("input[0].content"), "content");
    let call = r#"{"model":"a/b","input":[{"type":"function_call_output","output":"x"}]}"#;
    check_refused(call, Some("input[0].call_id"), "call_id");
    let reference = r#"{"model":"a/b","input":[{"type":"item_reference","id":"msg_1"}]}"#;
    check_refused(reference, Some("input[0]"), "send the item itself");
    check_refused(&with(r#""previous_response_id":"resp_1""#), Some("previous_response_id"), "earlier items");
    check_refused(&with(r#""conversation":{"id":"c"}"#), Some("conversation"), "earlier items");
    check_refused(&with(r#""background":true"#), Some("background"), "stream");
    check_refused(&with(r#""prompt":{"id":"p"}"#), Some("prompt"), "instructions");
    check_refused(&with(r#""reasoning":7"#), Some("reasoning"), "object");
    check_refused(&with(r#""n":2"#), Some("n"), "one answer");
    check_refused(
        r#"{"model":"a/b","input":[{"role":"user","content":[{"type":"input_image","image_url":"file:///x"}]}]}"#,
        Some("input[0].content[0].image_url"),
        "https",
    );
    check_refused(&with(r#""store":1"#), Some("store"), "true or false");
    check_refused(&with(r#""text":{"format":{"type":"xml"}}"#), Some("text.format"), "json_schema");
    check_refused(&with(r#""temperature":3"#), Some("temperature"), "0 to 2");
    check_refused(&with(r#""top_p":0"#), Some("top_p"), "above 0");
    check_refused(&with(r#""max_output_tokens":0"#), Some("max_output_tokens"), "whole number");
    check_refused(&with(r#""tools":{}"#), Some("tools"), "array");
    assert!(
        !job(&with(r#""background":false,"previous_response_id":null,"reasoning":{"effort":null}"#)).stream
    );
}

#[test]
fn lists_are_bounded() {
    let items = |n: usize| {
        let list = vec![r#"{"role":"user","content":"x"}"#; n].join(",");
        parse(Bytes::from(format!(r#"{{"model":"a/b","input":[{list}]}}"#)))
    };
    assert_eq!(items(crate::dialect::MESSAGES_MAX).unwrap().messages_count, 10_000);
    assert_eq!(items(crate::dialect::MESSAGES_MAX + 1).unwrap_err().param.as_deref(), Some("input"));
    let tools = |n: usize| {
        let list = vec![r#"{"type":"function","name":"f"}"#; n].join(",");
        parse(Bytes::from(with(&format!(r#""tools":[{list}]"#))))
    };
    assert!(tools(crate::dialect::TOOLS_MAX).is_ok());
    assert_eq!(tools(crate::dialect::TOOLS_MAX + 1).unwrap_err().param.as_deref(), Some("tools"));
}

#[test]
fn sellers_of_this_grammar_get_the_buyers_bytes_and_store_nothing() {
    let body = r#"{"model":"a/b", "input" : [{"role":"user","content":"h\u0069"}],"store":true,"provider":{},"max_output_tokens":50,"stream":true,"x":[1, 2]}"#;
    assert_eq!(
        job(body).rebuild("gpt", Some(7)),
        r#"{"model":"gpt","input" : [{"role":"user","content":"h\u0069"}],"max_output_tokens":7,"stream":true,"x":[1, 2],"store":false}"#
    );
    assert_eq!(
        job(&with(r#""reasoning":{"effort":"low"}"#)).rebuild("gpt", Some(7)),
        r#"{"model":"gpt","input":"hi","reasoning":{"effort":"low"},"max_output_tokens":7,"store":false,"include":["reasoning.encrypted_content"]}"#
    );
}

#[test]
fn the_answer_repeats_the_request() {
    let job = job(&with(
        r#""tools":[{"type":"function","name":"f"},{"type":"function","name":"g","parameters":{},"strict":true},{"type":"web_search"}],"temperature":0.3,"store":true,"metadata":{"a":"b"},"user":null"#,
    ));
    assert_eq!(
        echo(&job),
        r#""background":false,"store":false,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{"a":"b"},"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":null,"temperature":0.3,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[{"type":"function","name":"f","parameters":null,"strict":null},{"type":"function","name":"g","parameters":{},"strict":true},{"type":"web_search"}],"top_logprobs":0,"top_p":1,"truncation":"disabled","user":null,"presence_penalty":0,"frequency_penalty":0"#
    );
}

#[test]
fn thoughts_of_others_do_not_reach_a_seller() {
    let theirs = r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"abc"}"#;
    let text = r#"{"role":"user","content":"\"bourse: x"}"#;
    for other in [
        r#"{"type":"reasoning","id":"rs_bourse_gen-1_0","summary":[]}"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"signature:bourse:anthropic-claude-v1:x"}"#,
        r#"{"encrypted_content":"bourse:google-gemini-v1:x","type":"reasoning","summary":[]}"#,
    ] {
        let body = format!(r#"{{"model":"a/b","input":[{theirs}, {other} ,{text}]}}"#);
        assert_eq!(
            job(&body).rebuild("m", None),
            format!(r#"{{"model":"m","input":[{theirs},{text}],"store":false}}"#)
        );
    }
}

#[test]
fn reading_knows_every_form() {
    let request = read(&job(r#"{"model":"a/b","instructions":"be brief","input":[
        {"role":"user","content":"one"},
        {"type":"message","role":"developer","content":[{"type":"input_text","text":"two","prompt_cache_breakpoint":{"mode":"explicit","ttl":"30m"}}]},
        {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}],"encrypted_content":"bourse:google-gemini-v1:zz"},
        {"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]},{"type":"refusal","refusal":"no"}]},
        {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{broken"},
        {"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"r"}]},
        {"role":"user","content":[{"type":"input_file","file_data":"aGk=","filename":"a.pdf"},{"type":"input_file","file_url":"https://e.com/b"},{"type":"input_image","file_id":"file_1"}]}],
        "text":{"format":{"type":"json_schema","name":"n","schema":{"b":1,"a":2},"strict":true},"verbosity":"low"},
        "tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}],
        "tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"g"}]},
        "reasoning":{"effort":"high","summary":"auto"},"safety_identifier":"u","user":"v","top_logprobs":3}"#)).unwrap();
    let roles: Vec<Role> = request.messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [System, User, Developer, Assistant, Tool, User]);
    assert_eq!(
        request.messages[2].parts,
        [Part::Text { text: "two".into(), cache: Some(CacheMark { ttl_s: Some(1_800) }) }]
    );
    let signed =
        Signed { origin: Origin::Google, id: Some("rs_1".into()), data: "zz".into(), is_encrypted: true };
    assert_eq!(
        request.messages[3].parts[0],
        Part::Reasoning { text: "a\n\nb".into(), is_summary: true, signed: Some(signed) }
    );
    assert_eq!(request.messages[3].parts.len(), 4);
    assert_eq!(request.messages[5].parts.len(), 3);
    let ResponseFormat::JsonSchema { schema, .. } = &request.response_format else { panic!() };
    assert_eq!(schema.as_str(), r#"{"b":1,"a":2}"#);
    assert_eq!((request.tools.len(), request.tools[0].name.as_str()), (1, "g"));
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!((request.user.as_deref(), request.verbosity.as_deref()), (Some("u"), Some("low")));
    assert_eq!(request.logprobs, Some(3));
}

fn written(request: &Request) -> Written {
    let call = Call { upstream_id: "a/b", stream: false, max_tokens: None };
    Responses.write(request, &call).unwrap()
}

#[test]
fn a_seller_is_told_everything_explicitly() {
    let text = |role, text: &str| Message { role, parts: vec![Part::text(text)], name: None };
    let mut request = Request {
        messages: vec![text(Role::System, "rules"), text(Role::Developer, "more"), text(Role::User, "hi")],
        reasoning: Some(Reasoning {
            max_tokens: Some(20_000),
            summary: Some("auto".into()),
            ..Default::default()
        }),
        top_k: Some(4),
        max_tokens: Some(25_000),
        choices: 1,
        ..Request::default()
    };
    let call = Call { upstream_id: "up", stream: true, max_tokens: Some(30_000) };
    let written = Responses.write(&request, &call).unwrap();
    assert_eq!(
        written.body,
        r#"{"model":"up","instructions":"rules","input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"more"}]},{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}],"max_output_tokens":25000,"reasoning":{"effort":"high","summary":"auto"},"include":["reasoning.encrypted_content"],"stream":true,"store":false}"#
    );
    let params: Vec<&str> = written.notices.iter().map(|n| n.param.as_ref()).collect();
    assert_eq!(params, ["reasoning.max_tokens", "top_k"]);
    request.stop = vec!["x".into()];
    assert_eq!(Responses.write(&request, &call).unwrap_err().param.as_deref(), Some("stop"));
    request.stop.clear();
    request.logit_bias = vec![(1, 1.0)];
    assert_eq!(Responses.write(&request, &call).unwrap_err().param.as_deref(), Some("logit_bias"));
    request.logit_bias.clear();
    request.choices = 2;
    assert_eq!(Responses.write(&request, &call).unwrap_err().param.as_deref(), Some("n"));
}

#[test]
fn long_call_ids_are_replaced_alike_in_call_and_result() {
    for (length, is_kept) in [(super::super::write::CALL_ID_BYTES_MAX, true), (65, false)] {
        let id = "i".repeat(length);
        let call = Part::ToolCall { id: id.clone(), name: "f".into(), arguments: "{}".into(), cache: None };
        let result = Part::ToolResult { call_id: id.clone(), content: vec![], is_error: false, cache: None };
        let messages = [(Role::Assistant, call), (Role::Tool, result)].map(|(role, part)| Message {
            role,
            parts: vec![part],
            name: None,
        });
        let written = written(&Request { messages: messages.into(), choices: 1, ..Request::default() });
        let json: Value = serde_json::from_slice(&written.body).unwrap();
        let ids = [&json["input"][0]["call_id"], &json["input"][1]["call_id"]];
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0] == id.as_str(), is_kept);
        assert!(ids[0].as_str().unwrap().len() <= 64);
    }
}

#[test]
fn thoughts_of_other_sellers_are_left_out_with_a_notice() {
    let thought = |origin, is_encrypted| Part::Reasoning {
        text: "t".into(),
        is_summary: false,
        signed: Some(Signed { origin, id: None, data: "d".into(), is_encrypted }),
    };
    let parts = vec![
        thought(Origin::Anthropic, false),
        thought(Origin::OpenAi, true),
        thought(Origin::Unknown, true),
    ];
    let messages = vec![Message { role: Role::Assistant, parts, name: None }];
    let written = written(&Request { messages, choices: 1, ..Request::default() });
    let json: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(json["input"].as_array().unwrap().len(), 1);
    assert_eq!(json["input"][0]["encrypted_content"], "d");
    assert_eq!(written.notices.len(), 2);
}

/// What this grammar can say of a generated request.
fn erased(mut request: Request) -> Request {
    let ours = |mark: &mut Option<CacheMark>| {
        if let Some(CacheMark { ttl_s: Some(ttl_s) }) = mark {
            *ttl_s = 43_200;
        }
    };
    for message in &mut request.messages {
        let is_model = message.role == Role::Assistant;
        for part in &mut message.parts {
            match part {
                Part::ToolResult { content, is_error, cache, .. } => {
                    (*is_error, *cache) = (false, None);
                    for part in content {
                        if let Part::Text { cache, .. } = part {
                            ours(cache);
                        }
                    }
                }
                Part::Text { cache, .. } | Part::ToolCall { cache, .. } if is_model => *cache = None,
                Part::Text { cache, .. } | Part::Image { cache, .. } | Part::File { cache, .. } => {
                    ours(cache);
                }
                _ => {}
            }
        }
    }
    for tool in &mut request.tools {
        tool.cache = None;
        tool.strict.get_or_insert(false);
    }
    if let ResponseFormat::JsonSchema { strict, .. } = &mut request.response_format {
        strict.get_or_insert(false);
    }
    request.reasoning = request.reasoning.filter(|r| r.max_tokens.is_none());
    Request {
        stop: Vec::new(),
        logit_bias: Vec::new(),
        choices: 1,
        top_k: None,
        presence_penalty: None,
        frequency_penalty: None,
        seed: None,
        ..request
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(request in strategies::request(Can { origins: &[Origin::OpenAi], ..Can::ALL })) {
        let request = erased(request);
        let written = written(&request);
        let job = parse(written.body).unwrap();
        prop_assert_eq!(strategies::normal(read(&job).unwrap()), strategies::normal(request));
    }

    #[test]
    fn everything_can_be_written_but_what_is_refused(request in strategies::request(Can::ALL)) {
        let request = Request { stop: Vec::new(), choices: 1, logit_bias: Vec::new(), ..request };
        let written = written(&request);
        prop_assert!(serde_json::from_slice::<Value>(&written.body).is_ok());
        prop_assert!(parse(written.body).is_ok());
    }

    #[test]
    fn no_body_panics(text in "[\\[\\]{}:,\"a-z0-9 ]{0,40}", at in 0usize..200) {
        let whole = r#"{"model":"a/b","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"x"}]}],"tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"text"}},"reasoning":{"effort":"low"}}"#;
        let at = at.min(whole.len());
        let body = format!("{}{text}{}", &whole[..at], &whole[at..]);
        if let Ok(job) = parse(Bytes::from(body)) {
            let _ = (read(&job), echo(&job), job.rebuild("m", Some(1)));
        }
    }
}

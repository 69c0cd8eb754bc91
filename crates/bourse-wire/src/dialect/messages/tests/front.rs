//! Requests as buyers send them.

use super::super::{count_answer, parse, parse_count, read};
use super::*;
use crate::dialect::neutral::{
    CacheMark, Effort, Media, Message, Origin, Part, Reasoning, ResponseFormat, Role, Signed, ToolChoice,
};
use crate::dialect::{Job, MAX_TOKENS_MAX, MESSAGES_MAX, TOOLS_MAX};

fn parsed(body: &str) -> Result<Job, ApiError> {
    parse(Bytes::copy_from_slice(body.as_bytes()))
}

/// A small request with more members.
fn with(more: &str) -> Result<Job, ApiError> {
    parsed(&format!(
        r#"{{"model":"a/b","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#
    ))
}

/// A small request with this content.
fn says(content: &str) -> Result<Job, ApiError> {
    parsed(&format!(r#"{{"model":"a/b","max_tokens":9,"messages":[{{"role":"user","content":{content}}}]}}"#))
}

fn refused(result: Result<Job, ApiError>, param: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
}

#[test]
fn the_whole_of_a_request_is_understood() {
    let job = parsed(
        r#"{"model":"a/b","max_tokens":4096,"stream":true,"system":[{"type":"text","text":"be brief","cache_control":{"type":"ephemeral","ttl":"1h"}}],
            "messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x/y.png"}},{"type":"text","text":"what?"}]}],
            "temperature":0.5,"top_p":0.9,"top_k":40,"stop_sequences":["END"],"tools":[{"name":"t","input_schema":{"type":"object"}}],
            "tool_choice":{"type":"any","disable_parallel_tool_use":true},"thinking":{"type":"enabled","budget_tokens":1024},
            "output_config":{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}},"metadata":{"user_id":"u-1"},
            "service_tier":"standard_only","session_id":"s-1","provider":{"only":["acme"]},"context_management":{"edits":[]}}"#,
    )
    .unwrap();
    assert_eq!((job.model.as_str(), job.stream, job.max_tokens, job.choices), ("a/b", true, Some(4_096), 1));
    assert_eq!((job.needs.tools, job.needs.response_format, job.needs.media_parts), (true, true, 1));
    assert_eq!(job.sampling.stop, ["END"]);
    assert_eq!((job.sampling.temperature, job.sampling.top_p, job.sampling.top_k), (0.5, 0.9, 40));
    assert_eq!(job.routing.user.as_deref(), Some("u-1"));
    assert_eq!(job.session.as_ref().map(|span| job.text(span)), Some("s-1"));
    let counted = job.prompt.len() + job.tools.as_ref().unwrap().len();
    let system = r#"[{"type":"text","text":"be brief","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
    let form = r#"{"effort":"low","format":{"type":"json_schema","schema":{"type":"object"}}}"#;
    assert_eq!(job.prompt_bytes(), (counted + system.len() + form.len()) as u64);
    let (plain, escaped) = (with(r#","system":"abc""#).unwrap(), with(r#","syst\u0065m":"abc""#).unwrap());
    assert_eq!(escaped.prompt_bytes(), plain.prompt_bytes());

    let request = read(&job).unwrap();
    let thinking = Reasoning {
        enabled: Some(true),
        effort: Some(Effort::Low),
        max_tokens: Some(1_024),
        ..Reasoning::default()
    };
    assert_eq!(request.reasoning, Some(thinking));
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert!(matches!(request.response_format, ResponseFormat::JsonSchema { .. }));
    let hour = Some(CacheMark { ttl_s: Some(3_600) });
    let system = Message {
        role: Role::System,
        parts: vec![Part::Text { text: "be brief".into(), cache: hour }],
        name: None,
    };
    assert_eq!(request.messages[0], system);
    let image = Part::Image { source: Media::Url("https://x/y.png".into()), detail: None, cache: None };
    assert_eq!(request.messages[1].parts, [image, Part::text("what?")]);
    assert_eq!((request.user.as_deref(), request.choices), (Some("u-1"), 1));
}

#[test]
fn a_seller_gets_the_buyers_bytes() {
    let job = with(
        r#", "system" : "é\n","stream":true,"provider":{"only":["p"]},"models":["c/d"],"session_id":"s","user":"u","metadata":{"user_id":"u"},"service_tier":"auto","context_management": {"edits":[ ]}"#,
    )
    .unwrap();
    assert_eq!(job.fallbacks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["c/d"]);
    let rebuilt = |cap| String::from_utf8(job.rebuild("claude-x", cap).to_vec()).unwrap();
    assert_eq!(
        rebuilt(None),
        r#"{"model":"claude-x","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"system" : "é\n","stream":true,"metadata":{"user_id":"u"},"context_management": {"edits":[ ]}}"#
    );
    assert!(rebuilt(Some(4)).contains(r#""max_tokens":4,"#));
}

#[test]
fn thoughts_of_others_do_not_go_back() {
    let job = parsed(
        r#"{"model":"a/b","max_tokens":9,"messages":[ {"role":"user","content":"q"},
            {"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"bourse:openai-responses-v1:gA=="}, {"type":"text", "text":"a"} ],"x":1},
            {"role":"assistant","content":[{"type":"redacted_thinking","data":"bourse:google-gemini-v1:a"},{"type":"thinking","thinking":"y","signature":""}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"z","signature":"ours=="}]}]}"#,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(job.rebuild("m", None).to_vec()).unwrap(),
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":[{"type":"text", "text":"a"}],"x":1},{"role":"assistant","content":[{"type":"thinking","thinking":"z","signature":"ours=="}]}]}"#
    );
    let request = read(&job).unwrap();
    let signed =
        |origin, data: &str, is_encrypted| Some(Signed { origin, id: None, data: data.into(), is_encrypted });
    let openai =
        Part::Reasoning { text: "x".into(), is_summary: true, signed: signed(Origin::OpenAi, "gA==", true) };
    assert_eq!(request.messages[1].parts[0], openai);
    let hidden =
        Part::Reasoning { text: String::new(), is_summary: false, signed: signed(Origin::Google, "a", true) };
    let unsigned = Part::Reasoning { text: "y".into(), is_summary: false, signed: None };
    assert_eq!(request.messages[2].parts, [hidden, unsigned]);
    let own = Part::Reasoning {
        text: "z".into(),
        is_summary: false,
        signed: signed(Origin::Anthropic, "ours==", false),
    };
    assert_eq!(request.messages[3].parts, [own]);
}

#[test]
fn only_thoughts_of_others_leave_an_empty_conversation() {
    let mut out = Vec::new();
    push_clean(r#"[{"role":"assistant","content":[{"type":"thinking","thinking":"y"}]}]"#, &mut out);
    assert_eq!(out, b"[]");
    for text in [r#"[{"role":"user","content":[]}]"#, "[1", r#"[{"role":"user","content":[1, "a"]}]"#] {
        let mut out = Vec::new();
        push_clean(text, &mut out);
        assert_eq!(out, text.replace("[1, \"a\"]", "[1,\"a\"]").as_bytes());
    }
}

#[test]
fn bad_members_are_named() {
    for (more, param) in [
        (r#","temperature":1.5"#, "temperature"),
        (r#","top_p":0"#, "top_p"),
        (r#","top_k":-1"#, "top_k"),
        (r#","stop_sequences":"END""#, "stop_sequences"),
        (r#","stop_sequences":[""]"#, "stop_sequences"),
        (r#","stream":1"#, "stream"),
        (r#","tools":{}"#, "tools"),
        (r#","tools":[1]"#, "tools[0]"),
        (r#","tools":[{"name":"x"}]"#, "tools[0].input_schema"),
        (r#","tools":[{"type":"web_search"},{"type":"custom","input_schema":1}]"#, "tools[1].input_schema"),
        (r#","tool_choice":"auto""#, "tool_choice"),
        (r#","tool_choice":{"type":"tool"}"#, "tool_choice"),
        (r#","thinking":{"type":"on"}"#, "thinking"),
        (r#","thinking":{"type":"enabled"}"#, "thinking.budget_tokens"),
        (r#","thinking":{"type":"enabled","budget_tokens":1023}"#, "thinking.budget_tokens"),
        (r#","thinking":{"type":"enabled","budget_tokens":1024}"#, "thinking.budget_tokens"),
        (r#","output_config":{"effort":"minimal"}"#, "output_config.effort"),
        (r#","output_config":1"#, "output_config"),
        (r#","metadata":"me""#, "metadata"),
        (r#","metadata":{"user_id":7}"#, "metadata"),
        (r#","system":7"#, "system"),
        (r#","cache_control":"x""#, "cache_control"),
        (r#","service_tier":"gold""#, "service_tier"),
        (r#","container":"c_1""#, "container"),
        (r#","mcp_servers":[{"url":"https://x"}]"#, "mcp_servers"),
        (r#","speed":"fast""#, "speed"),
        (r#","inference_geo":"us""#, "inference_geo"),
        (r#","reasoning_effort":"low""#, "reasoning_effort"),
        (r#","fallbacks":[{"model":"c/d","max_tokens":3}]"#, "fallbacks.max_tokens"),
        (r#","fallbacks":"default""#, "fallbacks"),
        (r#","fallbacks":[{"model":"c/d"}],"models":["e/f"]"#, "fallbacks"),
        (r#","max_tokens":9"#, "max_tokens"),
        (r#","m\u0061x_tokens":9"#, "max_tokens"),
    ] {
        let error = with(more).expect_err(more);
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{more}: {error}");
    }
    for more in [
        r#","container":null"#,
        r#","mcp_servers":[]"#,
        r#","speed":"standard""#,
        r#","metadata":{"user_id":null}"#,
    ] {
        with(more).expect(more);
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    let one = r#""messages":[{"role":"user","content":"hi"}]"#;
    refused(parsed(&format!(r#"{{"model":"a/b",{one}}}"#)), "max_tokens");
    refused(parsed(&format!(r#"{{"model":"a/b","max_tokens":null,{one}}}"#)), "max_tokens");
    refused(parsed(&format!(r#"{{"model":"a/b","max_tokens":0,{one}}}"#)), "max_tokens");
    refused(parsed(&format!(r#"{{"max_tokens":9,{one}}}"#)), "model");
    refused(parsed(r#"{"model":"a/b","max_tokens":9}"#), "messages");
    refused(parsed(r#"{"model":"a/b","max_tokens":9,"messages":[]}"#), "messages");
    refused(parsed(r#"{"model":"a/b","max_tokens":9,"messages":[{"content":"x"}]}"#), "messages[0].role");
    refused(parsed(r#"{"model":"a/b","max_tokens":9,"messages":[{"role":"user"}]}"#), "messages[0].content");
    refused(
        parsed(r#"{"model":"a/b","max_tokens":9,"messages":[{"role":"tool","content":"x"}]}"#),
        "messages[0].role",
    );
    refused(parsed(&format!(r#"{{"model":"a/b","max_tokens":9,"n":2,{one}}}"#)), "n");
    let job = parsed(&format!(r#"{{"model":"a/b","max_tokens":9,"n":1,{one}}}"#)).unwrap();
    let sent = job.rebuild("up", None);
    assert!(!std::str::from_utf8(&sent).unwrap().contains("\"n\""), "sellers of this grammar know none");
    refused(
        says(r#"[{"type":"image","source":{"type":"url","url":"FILE:/x"}}]"#),
        "messages[0].content.source.url",
    );
    refused(says("null"), "messages[0].content");
    refused(says("[1]"), "messages[0].content");
    assert!(parsed("[]").is_err());
    assert!(parsed("{").is_err());
}

#[test]
fn bounds_hold_at_the_bound_and_one_past() {
    let most = |n: u64| {
        parsed(&format!(
            r#"{{"model":"a/b","max_tokens":{n},"messages":[{{"role":"user","content":"hi"}}]}}"#
        ))
    };
    assert!(most(u64::from(MAX_TOKENS_MAX)).is_ok());
    refused(most(u64::from(MAX_TOKENS_MAX) + 1), "max_tokens");
    let turns = |n| {
        let turns = vec![r#"{"role":"user","content":"a"}"#; n].join(",");
        parsed(&format!(r#"{{"model":"a/b","max_tokens":9,"messages":[{turns}]}}"#))
    };
    assert_eq!(turns(MESSAGES_MAX).unwrap().messages_count as usize, MESSAGES_MAX);
    refused(turns(MESSAGES_MAX + 1), "messages");
    let tools =
        |n| with(&format!(r#","tools":[{}]"#, vec![r#"{"name":"t","input_schema":{}}"#; n].join(",")));
    assert!(tools(TOOLS_MAX).is_ok());
    refused(tools(TOOLS_MAX + 1), "tools");
    let fallbacks = |n| with(&format!(r#","fallbacks":[{}]"#, vec![r#"{"model":"c/d"}"#; n].join(",")));
    assert_eq!(fallbacks(FALLBACKS_MAX).unwrap().fallbacks.len(), FALLBACKS_MAX);
    refused(fallbacks(FALLBACKS_MAX + 1), "fallbacks");
}

#[test]
fn thoughts_may_exceed_an_answer_only_between_tools() {
    let thinking = r#","thinking":{"type":"enabled","budget_tokens":1024}"#;
    refused(with(thinking), "thinking.budget_tokens");
    assert!(with(&format!(r#"{thinking},"tools":[{{"name":"t","input_schema":{{}}}}]"#)).is_ok());
}

#[test]
fn a_cap_holds_thoughts_below_it() {
    let body = r#"{"model":"a/b","max_tokens":9000,"thinking":{"type":"enabled", "budget_tokens":4000},"messages":[{"role":"user","content":"hi"}]}"#;
    let job = parsed(body).unwrap();
    let thinking = |cap| {
        let json: serde_json::Value = serde_json::from_slice(&job.rebuild("m", cap)).unwrap();
        format!("{} {}", json["max_tokens"], json["thinking"]["budget_tokens"])
    };
    assert_eq!(thinking(None), "9000 4000");
    assert_eq!(thinking(Some(4_001)), "4001 4000");
    assert_eq!(thinking(Some(4_000)), "4000 3999");
    assert_eq!(thinking(Some(THINKING_TOKENS_MIN + 1)), "1025 1024");
    assert_eq!(thinking(Some(THINKING_TOKENS_MIN)), "1024 null");
    assert!(text(job.rebuild("m", Some(9)).to_vec()).contains(r#""thinking":{"type":"disabled"}"#));
}

#[test]
fn every_block_of_a_user_has_a_part() {
    let check = |content: &str, want: &[Part]| {
        let request = read(&says(content).unwrap()).unwrap();
        let parts: Vec<Part> = request.messages.into_iter().flat_map(|message| message.parts).collect();
        assert_eq!(parts, want, "{content}");
    };
    check(r#""hi""#, &[Part::text("hi")]);
    let file = |source, filename: Option<&str>| Part::File {
        source,
        filename: filename.map(str::to_owned),
        cache: None,
    };
    let pdf = Media::Base64 { media_type: "application/pdf".into(), data: "aGk=".into() };
    check(
        r#"[{"type":"document","title":"a.pdf","source":{"type":"base64","media_type":"application/pdf","data":"aGk="}}]"#,
        &[file(pdf, Some("a.pdf"))],
    );
    check(
        r#"[{"type":"document","context":"from x","source":{"type":"text","media_type":"text/plain","data":"t"}}]"#,
        &[file(Media::Text("from x\n\nt".into()), None)],
    );
    check(
        r#"[{"type":"document","source":{"type":"content","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]"#,
        &[file(Media::Text("a\nb".into()), None)],
    );
    check(
        r#"[{"type":"document","source":{"type":"file","file_id":"f_1"}}]"#,
        &[file(Media::Id("f_1".into()), None)],
    );
    check(
        r#"[{"type":"search_result","title":"T","source":"https://x","content":[{"type":"text","text":"found"}]}]"#,
        &[Part::text("T\nhttps://x\nfound")],
    );
    let result = |call_id: &str, content, is_error| Part::ToolResult {
        call_id: call_id.into(),
        content,
        is_error,
        cache: None,
    };
    check(
        r#"[{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"b","content":"no","is_error":true},{"type":"text","text":"so?"}]"#,
        &[result("a", vec![], false), result("b", vec![Part::text("no")], true), Part::text("so?")],
    );
}

#[test]
fn results_of_tools_are_messages_of_their_own() {
    let job = says(
        r#"[{"type":"tool_result","tool_use_id":"a","content":"1"},{"type":"tool_result","tool_use_id":"b","content":"2"},{"type":"text","text":"so?"}]"#,
    );
    let roles: Vec<Role> = read(&job.unwrap()).unwrap().messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::Tool, Role::User]);
}

#[test]
fn what_only_this_grammar_knows_is_refused_for_others() {
    let check = |job: Result<Job, ApiError>, param: &str| {
        let error = read(&job.unwrap()).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    };
    check(with(r#","tools":[{"type":"web_search_20250305","name":"web_search"}]"#), "tools[0]");
    check(
        says(r#"[{"type":"text","text":"a"},{"type":"container_upload","file_id":"f"}]"#),
        "messages[0].content[1]",
    );
    check(
        says(
            r#"[{"type":"document","citations":{"enabled":true},"source":{"type":"text","media_type":"text/plain","data":"t"}}]"#,
        ),
        "messages[0].content[0]",
    );
    check(says(r#"[{"type":"text"}]"#), "messages[0].content[0]");
    check(says(r#"[{"type":"image","source":{"type":"base64"}}]"#), "messages[0].content[0]");
    check(says(r#"[{"type":"tool_use","id":"a","name":"n"}]"#), "messages[0].content[0]");
}

#[test]
fn prompts_can_be_counted() {
    let body = r#"{"model":"a/b","system":"s","messages":[{"role":"user","content":"hi"}]}"#;
    let job = parse_count(Bytes::copy_from_slice(body.as_bytes())).unwrap();
    assert_eq!(job.max_tokens, None);
    assert_eq!(job.rebuild("m", None), body.replace("a/b", "m").as_bytes());
    assert_eq!(count_answer(2_095), br#"{"input_tokens":2095}"#);
}

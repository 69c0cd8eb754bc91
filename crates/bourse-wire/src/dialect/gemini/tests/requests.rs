//! Requests as sellers get them.

use super::*;
use crate::dialect::neutral::strategies::{Can, request};
use crate::dialect::neutral::{
    CacheMark, Effort, Media, RawJson, Reasoning, ResponseFormat, Tool, ToolChoice,
};
use proptest::prelude::*;
use serde_json::Value;

fn asking(parts: Vec<Part>) -> Request {
    Request { messages: vec![message(Role::User, parts)], choices: 1, ..Request::default() }
}

fn body_of(request: &Request) -> String {
    String::from_utf8(Gemini.write(request, &CALL).unwrap().body.to_vec()).unwrap()
}

fn notices_of(request: &Request, call: &Call<'_>) -> Vec<String> {
    let notices = Gemini.write(request, call).unwrap().notices;
    notices.iter().map(|notice| notice.param.to_string()).collect()
}

fn tool(parameters: &str) -> Tool {
    Tool {
        name: "look".into(),
        description: Some("looks".into()),
        parameters: Some(RawJson::parse(parameters).unwrap()),
        strict: None,
        cache: None,
    }
}

#[test]
fn the_whole_of_a_request_is_written() {
    let schema = RawJson::parse(r#"{"type":"object", "properties":{}}"#).unwrap();
    let format =
        ResponseFormat::JsonSchema { name: "x".into(), description: None, schema, strict: Some(true) };
    let request = Request {
        messages: vec![
            message(Role::System, vec![Part::text("be brief")]),
            message(Role::User, vec![Part::text("look")]),
            message(
                Role::Assistant,
                vec![hidden("s1", Some("c1")), Part::text("so"), tool_call("c1", "look", r#"{"a":1}"#)],
            ),
            message(Role::Tool, vec![result("c1", "a cat")]),
        ],
        tools: vec![tool(r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#)],
        tool_choice: Some(ToolChoice::Tool("look".into())),
        response_format: format,
        reasoning: Some(Reasoning { effort: Some(Effort::Low), ..Reasoning::default() }),
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.0),
        logprobs: Some(2),
        stop: vec!["END".into()],
        seed: Some(7),
        choices: 2,
        service_tier: Some("flex".into()),
        ..Request::default()
    };
    assert_eq!(
        body_of(&request),
        r#"{"systemInstruction":{"parts":[{"text":"be brief"}]},"contents":[{"role":"user","parts":[{"text":"look"}]},{"role":"model","parts":[{"text":"so"},{"functionCall":{"id":"c1","name":"look","args":{"a":1}},"thoughtSignature":"s1"}]},{"role":"user","parts":[{"functionResponse":{"id":"c1","name":"look","response":{"output":"a cat"}}}]}],"tools":[{"functionDeclarations":[{"name":"look","description":"looks","parametersJsonSchema":{"type":"object","properties":{"a":{"type":"integer"}}}}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["look"]}},"generationConfig":{"temperature":0.5,"topP":0.9,"topK":40,"maxOutputTokens":100,"stopSequences":["END"],"candidateCount":2,"seed":7,"presencePenalty":0.5,"responseMimeType":"application/json","responseJsonSchema":{"type":"object", "properties":{}},"responseLogprobs":true,"logprobs":2,"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"low"}},"serviceTier":"flex"}"#
    );
    assert_eq!(notices_of(&request, &CALL), [""; 0]);
    assert_eq!(
        body_of(&asking(vec![Part::text("hi")])),
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#
    );
    let capped = Call { max_tokens: Some(9), ..CALL };
    let written = Gemini.write(&request, &capped).unwrap();
    let json: Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(json["generationConfig"]["maxOutputTokens"], 9);
}

/// The parts of the model's turn, as they are written.
fn model_turn(parts: Vec<Part>, model: &str) -> String {
    let mut request = asking(vec![Part::text("q")]);
    request.messages.push(message(Role::Assistant, parts));
    let call = Call { upstream_id: model, ..CALL };
    let json: Value = serde_json::from_slice(&Gemini.write(&request, &call).unwrap().body).unwrap();
    let parts = json["contents"][1]["parts"].as_array().cloned().unwrap_or_default();
    let short = |part: &Value| {
        let said = part["text"].as_str().or(part["functionCall"]["id"].as_str()).unwrap_or("?").to_owned();
        part["thoughtSignature"].as_str().map_or(said.clone(), |signature| format!("{said}={signature}"))
    };
    parts.iter().map(short).collect::<Vec<_>>().join(" ")
}

#[test]
fn signatures_go_back_on_their_parts() {
    let check = |parts: Vec<Part>, want: &str| assert_eq!(model_turn(parts, "gemini-3.8-flash"), want);
    let call = |id: &str| tool_call(id, "f", "{}");
    // Right before its part, as in grammars that keep the order.
    check(vec![hidden("s", None), call("c1"), call("c2")], "c1=s c2");
    check(vec![Part::text("a"), hidden("s", None), Part::text("b")], "a b=s");
    check(vec![call("c1"), hidden("s", None), call("c2")], "c1=skip_thought_signature_validator c2=s");
    // By the id of the call, as in a grammar that has all thoughts first.
    check(
        vec![hidden("s", Some("c2")), hidden("t", None), Part::text("a"), call("c1"), call("c2")],
        "a=t c1=skip_thought_signature_validator c2=s",
    );
    check(vec![hidden("s", Some("c1")), Part::text("a"), call("c1")], "a c1=s");
    // At the end, and two in a row.
    check(vec![Part::text("a"), hidden("s", None)], "a =s");
    check(vec![hidden("s", None), hidden("t", None), Part::text("a")], "=s a=t");
    check(vec![hidden("t", None), hidden("s", Some("c1")), call("c1")], "=t c1=s");
    // An id that belongs to no call: by its place.
    check(vec![hidden("s", Some("rs_1")), call("c1")], "c1=s");
}

#[test]
fn calls_of_other_models_are_marked_where_the_model_wants_it() {
    let signed = |origin| Part::Reasoning {
        text: "hm".into(),
        is_summary: false,
        signed: Some(Signed { origin, id: None, data: "x".into(), is_encrypted: false }),
    };
    let parts = || vec![signed(Origin::Anthropic), tool_call("a", "f", "{}"), tool_call("b", "f", "{}")];
    assert_eq!(model_turn(parts(), "gemini-3.8-flash"), "a=skip_thought_signature_validator b");
    assert_eq!(model_turn(parts(), "gemini-2.5-flash"), "a b");
    let mut request = asking(vec![Part::text("q")]);
    request.messages.push(message(Role::Assistant, parts()));
    assert_eq!(notices_of(&request, &CALL), ["reasoning", "reasoning"]);
    // Shown thoughts are held by the signatures.
    let shown = || Part::Reasoning { text: "hm".into(), is_summary: false, signed: None };
    request.messages[1].parts = vec![shown(), hidden("s", Some("a")), tool_call("a", "f", "{}")];
    assert_eq!(notices_of(&request, &CALL), [""; 0]);
    request.messages[1].parts = vec![shown(), Part::text("a")];
    assert_eq!(notices_of(&request, &CALL), ["reasoning"]);
}

#[test]
fn results_name_their_function_and_stand_first() {
    let mut request = asking(vec![Part::text("q")]);
    request.messages.extend([
        message(Role::Assistant, vec![tool_call("a", "one", "{}"), tool_call("b", "two", "broken")]),
        message(Role::User, vec![Part::text("wait")]),
        message(
            Role::Tool,
            vec![
                Part::ToolResult {
                    call_id: "b".into(),
                    content: vec![
                        Part::text("no"),
                        Part::Image {
                            source: Media::Base64 { media_type: "image/png".into(), data: "aGk=".into() },
                            detail: None,
                            cache: None,
                        },
                        Part::text("way"),
                    ],
                    is_error: true,
                    cache: None,
                },
                result("a", "1"),
            ],
        ),
    ]);
    let call = Call { upstream_id: "gemini-2.5-pro", ..CALL };
    let json: Value = serde_json::from_slice(&Gemini.write(&request, &call).unwrap().body).unwrap();
    assert_eq!(
        json["contents"][1]["parts"][1]["functionCall"]["args"].to_string(),
        r#"{"invalid_json":"broken"}"#
    );
    assert_eq!(
        json["contents"][2]["parts"].to_string(),
        r#"[{"functionResponse":{"id":"b","name":"two","response":{"error":"no\nway"}}},{"functionResponse":{"id":"a","name":"one","response":{"output":"1"}}},{"text":"wait"},{"inlineData":{"data":"aGk=","mimeType":"image/png"}}]"#
    );
    assert_eq!(notices_of(&request, &call), ["messages.tool_calls"]);
    request.messages.remove(1);
    let error = Gemini.write(&request, &CALL).unwrap_err();
    assert_eq!((error.status(), error.param.as_deref()), (400, Some("messages[2]")));
}

#[test]
fn media_go_as_bytes_or_as_addresses() {
    let check = |part: Part, want: &str| {
        let json: Value = serde_json::from_str(&body_of(&asking(vec![part]))).unwrap();
        assert_eq!(json["contents"][0]["parts"][0].to_string(), want);
    };
    let image = |source| Part::Image { source, detail: None, cache: None };
    let file = |source| Part::File { source, filename: None, cache: None };
    let bytes = |kind: &str| Media::Base64 { media_type: kind.into(), data: "aGk=".into() };
    let inline = |kind: &str| format!(r#"{{"inlineData":{{"data":"aGk=","mimeType":"{kind}"}}}}"#);
    check(image(bytes("image/webp")), &inline("image/webp"));
    check(file(bytes("application/pdf")), &inline("application/pdf"));
    check(Part::Audio { source: bytes("audio/wav") }, &inline("audio/wav"));
    check(
        image(Media::Url("https://x.y/a.JPG?size=1.5".into())),
        r#"{"fileData":{"fileUri":"https://x.y/a.JPG?size=1.5","mimeType":"image/jpeg"}}"#,
    );
    check(file(Media::Url("https://x.y/doc".into())), r#"{"fileData":{"fileUri":"https://x.y/doc"}}"#);
    let own = "https://generativelanguage.googleapis.com/v1beta/files/a";
    check(file(Media::Id(own.into())), &format!(r#"{{"fileData":{{"fileUri":"{own}"}}}}"#));
    check(file(Media::Text("plain".into())), r#"{"text":"plain"}"#);
    for part in [file(Media::Id("file-abc".into())), image(Media::Text("x".into()))] {
        let error = Gemini.write(&asking(vec![part]), &CALL).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some("messages[0]")));
    }
}

#[test]
fn tools_are_chosen_in_the_grammars_words() {
    let check = |choice: Option<ToolChoice>, strict: Option<bool>, want: &str| {
        let tools = vec![Tool { strict, ..tool("{}") }];
        let request = Request { tools, tool_choice: choice, ..asking(vec![Part::text("q")]) };
        let json: Value = serde_json::from_str(&body_of(&request)).unwrap();
        assert_eq!(json["toolConfig"]["functionCallingConfig"].to_string(), want);
    };
    check(None, None, "null");
    check(None, Some(true), r#"{"mode":"VALIDATED"}"#);
    check(Some(ToolChoice::Auto), None, r#"{"mode":"AUTO"}"#);
    check(Some(ToolChoice::Auto), Some(true), r#"{"mode":"VALIDATED"}"#);
    check(Some(ToolChoice::None), Some(true), r#"{"mode":"NONE"}"#);
    check(Some(ToolChoice::Required), None, r#"{"mode":"ANY"}"#);
    let none = Request { tool_choice: Some(ToolChoice::Required), ..asking(vec![Part::text("q")]) };
    assert!(!body_of(&none).contains("toolConfig"));
}

#[test]
fn bounds_hold_at_the_bound_and_one_past() {
    let ask = || asking(vec![Part::text("q")]);
    let refused = |request: &Request, call: &Call<'_>| {
        Gemini.write(request, call).err().map(|error| error.param.unwrap_or_default().into_owned())
    };
    let stops = |n: usize| Request { stop: vec!["x".into(); n], ..ask() };
    assert_eq!(refused(&stops(STOPS_MAX), &CALL), None);
    assert_eq!(refused(&stops(STOPS_MAX + 1), &CALL).as_deref(), Some("stop"));
    let choices = |choices| Request { choices, ..ask() };
    assert_eq!(refused(&choices(CANDIDATES_MAX), &CALL), None);
    assert_eq!(refused(&choices(CANDIDATES_MAX + 1), &CALL).as_deref(), Some("n"));
    let both = Request { response_format: ResponseFormat::JsonObject, tools: vec![tool("{}")], ..ask() };
    assert_eq!(refused(&both, &CALL), None);
    let older = Call { upstream_id: "gemini-2.5-pro", ..CALL };
    assert_eq!(refused(&both, &older).as_deref(), Some("response_format"));
    let rules = Request { messages: vec![message(Role::System, vec![Part::text("a")])], ..ask() };
    assert_eq!(refused(&rules, &CALL).as_deref(), Some("messages"));
}

#[test]
fn seeds_are_folded_so_that_they_repeat() {
    let seed = |seed| {
        let request = Request { seed: Some(seed), ..asking(vec![Part::text("q")]) };
        let json: Value = serde_json::from_str(&body_of(&request)).unwrap();
        json["generationConfig"]["seed"].as_i64().unwrap()
    };
    assert_eq!(seed(i64::from(i32::MAX)), i64::from(i32::MAX));
    assert_eq!(seed(i64::from(i32::MIN)), i64::from(i32::MIN));
    assert_ne!(seed(1 << 40), seed(1 << 41));
    assert_eq!(seed(i64::MAX), seed(i64::MAX));
}

#[test]
fn what_is_left_out_is_said() {
    let mark = Some(CacheMark::default());
    let request = Request {
        tools: vec![tool(r#"{"properties":{"a":{"type":"string","pattern":"x"}}}"#)],
        parallel_tool_calls: Some(false),
        verbosity: Some("low".into()),
        min_p: Some(0.1),
        repetition_penalty: Some(1.5),
        logit_bias: vec![(1, 2.0)],
        user: Some("u".into()),
        prompt_cache_key: Some("k".into()),
        service_tier: Some("scale".into()),
        ..asking(vec![Part::Text { text: "q".into(), cache: mark }])
    };
    assert_eq!(
        notices_of(&request, &CALL),
        [
            "cache_control",
            "tools.parameters",
            "service_tier",
            "min_p",
            "repetition_penalty",
            "logit_bias",
            "parallel_tool_calls",
            "verbosity",
            "user",
            "prompt_cache_key"
        ]
    );
    let neutral = Request {
        min_p: Some(0.0),
        repetition_penalty: Some(1.0),
        top_k: Some(0),
        ..asking(vec![Part::text("q")])
    };
    assert_eq!(notices_of(&neutral, &CALL), [""; 0]);
    assert!(!body_of(&neutral).contains("topK"));
}

/// What is written of a request, checked against what the grammar demands.
fn check_form(json: &Value, request: &Request) -> Result<(), TestCaseError> {
    let turns = json["contents"].as_array().unwrap();
    let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    prop_assert!(roles.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", roles);
    let parts: Vec<&Value> = turns.iter().flat_map(|turn| turn["parts"].as_array().unwrap()).collect();
    let count = |name: &str| parts.iter().filter(|part| part.get(name).is_some()).count();
    let wanted =
        |is: fn(&Part) -> bool| request.messages.iter().flat_map(|m| &m.parts).filter(|p| is(p)).count();
    prop_assert_eq!(count("functionCall"), wanted(|part| matches!(part, Part::ToolCall { .. })));
    prop_assert_eq!(count("functionResponse"), wanted(|part| matches!(part, Part::ToolResult { .. })));
    let own = wanted(|part| {
        matches!(part, Part::Reasoning { signed: Some(Signed { origin: Origin::Google, .. }), .. })
    });
    let dummies =
        parts.iter().filter(|part| part["thoughtSignature"] == "skip_thought_signature_validator").count();
    prop_assert_eq!(count("thoughtSignature"), own + dummies);
    for turn in turns.iter().filter(|turn| turn["role"] == "model") {
        let call = turn["parts"].as_array().unwrap().iter().find(|part| part.get("functionCall").is_some());
        prop_assert!(call.is_none_or(|call| call["thoughtSignature"].is_string()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_request_has_the_grammars_form(request in request(Can::ALL)) {
        let written = Gemini.write(&request, &CALL).unwrap();
        let json: Value = serde_json::from_slice(&written.body).unwrap();
        check_form(&json, &request)?;
        prop_assert_eq!(Gemini.write(&request, &CALL).unwrap(), written);
    }
}

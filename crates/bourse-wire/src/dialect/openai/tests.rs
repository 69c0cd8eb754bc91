//! Requests: what is read, what is refused and how, what a seller gets.

use super::*;
use crate::dialect::MEMBERS_MAX;
use crate::dialect::chat::Manner;
use crate::dialect::{MODELS_MAX, SESSION_BYTES_MAX};
use crate::node::Prompt;
use bourse_types::ModelSlug;
use proptest::prelude::*;

fn chat(rest: &str) -> Result<Job, ApiError> {
    let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"hi"}}]{rest}}}"#);
    parse(Api::Chat, Bytes::from(body))
}

fn raw(api: Api, body: &str) -> Result<Job, ApiError> {
    parse(api, Bytes::copy_from_slice(body.as_bytes()))
}

/// The field at fault and the message.
fn refused(result: Result<Job, ApiError>) -> (String, String) {
    let error = result.unwrap_err();
    assert_eq!(error.status(), 400, "{error}");
    (error.param.unwrap_or_default().into_owned(), error.message.into_owned())
}

fn check_field(rest: &str, param: &str) {
    let (field, message) = refused(chat(rest));
    assert_eq!(field, param, "{rest}: {message}");
    assert!(message.contains(param.split(['.', '[']).next().unwrap()), "{message}");
}

#[test]
fn reads_an_ordinary_chat() {
    let job =
        chat(r#","stream":true,"max_tokens":20,"temperature":0.5,"stop":["x","y"],"seed":-7,"n":3"#).unwrap();
    assert_eq!(job.model.as_str(), "a/b");
    assert!(job.stream);
    assert_eq!((job.max_tokens, job.choices, job.seed, job.messages_count), (Some(20), 3, Some(-7), 1));
    assert_eq!(job.sampling.stop, ["x", "y"]);
    assert_eq!(job.text(&job.prompt), r#"[{"role":"user","content":"hi"}]"#);
}

#[test]
fn names_the_field_and_the_remedy() {
    for (rest, param) in [
        (r#","n":0"#, "n"),
        (r#","n":129"#, "n"),
        (r#","n":-1"#, "n"),
        (r#","n":1e3"#, "n"),
        (r#","n":"2""#, "n"),
        (r#","temperature":-0.1"#, "temperature"),
        (r#","temperature":2.1"#, "temperature"),
        (r#","temperature":1e999"#, "temperature"),
        (r#","temperature":"warm""#, "temperature"),
        (r#","top_p":0"#, "top_p"),
        (r#","top_p":1.5"#, "top_p"),
        (r#","max_tokens":0"#, "max_tokens"),
        (r#","max_tokens":-5"#, "max_tokens"),
        (r#","max_tokens":99999999999"#, "max_tokens"),
        (r#","max_tokens":1,"max_completion_tokens":2"#, "max_tokens"),
        (r#","stream":"yes""#, "stream"),
        (r#","stream_options":[]"#, "stream_options"),
        (r#","presence_penalty":3"#, "presence_penalty"),
        (r#","logit_bias":{"1":101}"#, "logit_bias"),
        (r#","logit_bias":{"x":1}"#, "logit_bias"),
        (r#","top_logprobs":5"#, "top_logprobs"),
        (r#","logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (r#","stop":[1]"#, "stop"),
        (r#","stop":"""#, "stop"),
        (r#","seed":1.5"#, "seed"),
        (r#","tools":{}"#, "tools"),
        (r#","tools":[1]"#, "tools[0]"),
        (r#","tools":[{"type":"function","name":"f"}]"#, "tools[0].function"),
        (r#","response_format":{"type":"yaml"}"#, "response_format"),
        (r#","provider":{"sort":"fun"}"#, "provider.sort"),
        (r#","provider":{"zdr":1}"#, "provider.zdr"),
        (r#","provider":{"quantization":["fp8"]}"#, "provider.quantization"),
        (r#","metadata":5"#, "metadata"),
        (r#","preset":"p""#, "preset"),
        (r#","plugins":[{"id":"web"}]"#, "plugins"),
        (r#","user":"a","user":"b""#, "user"),
        (r#","provider":{"only":["a b"]}"#, "provider.only"),
        (r#","provider":{"max_price":{"prompt":-1}}"#, "provider.max_price.prompt"),
        (r#","models":[]"#, "models"),
        (r#","model":"c/d""#, "model"),
        (r#","\u006dodel":"c/d""#, "model"),
        (r#","prompt":"x""#, "prompt"),
        (r#","best_of":2"#, "best_of"),
        (r#","session_id":"""#, "session_id"),
    ] {
        check_field(rest, param);
    }
}

#[test]
fn refuses_bodies_that_are_no_chat() {
    for (body, part) in [
        ("", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ("{", "malformed JSON"),
        (r#"{"model":"a/b","messages":[]}"#, "`messages` is empty"),
        (r#"{"model":"a/b"}"#, "`messages` is missing"),
        (r#"{"messages":[{"role":"user","content":"hi"}]}"#, "`model` is missing"),
        (r#"{"model":"a/b","messages":"hi"}"#, "`messages` must be an array"),
        (r#"{"model":"a/b","messages":[1]}"#, "`messages[0]` must be an object"),
        (r#"{"model":"a/b","messages":[{"content":"hi"}]}"#, "messages[0] has no `role`"),
        (r#"{"model":"a/b","messages":[{"role":"user"}]}"#, "messages[0] has no `content`"),
        (r#"{"model":"a/b","messages":[{"role":1,"content":"hi"}]}"#, "`messages[0].role` must be"),
        (r#"{"model":"a/b","messages":[{"role":"user","content":5}]}"#, "`messages[0].content` must be"),
        (r#"{"model":"a b","messages":[{"role":"user","content":"x"}]}"#, "not a model name"),
        (r#"{"model":7,"messages":[{"role":"user","content":"x"}]}"#, "`model` must be a string"),
        (r#"{"model":"a/b","messages":[{"role":"user","content":"x"}]} x"#, "malformed JSON"),
    ] {
        let (_, message) = refused(raw(Api::Chat, body));
        assert!(message.contains(part), "{body}: {message}");
    }
    let bad_utf8 = parse(Api::Chat, Bytes::from_static(b"{\"model\":\"\xff\"}")).unwrap_err();
    assert!(bad_utf8.message.contains("not valid UTF-8 at byte 10"), "{bad_utf8}");
}

#[test]
fn messages_that_sellers_would_refuse_are_refused_here() {
    let check = |message: &str, param: &str| {
        let result = raw(Api::Chat, &format!(r#"{{"model":"a/b","messages":[{message}]}}"#));
        assert_eq!(refused(result).0, param, "{message}");
    };
    check(r#"{"role":"robot","content":"x"}"#, "messages[0].role");
    check(r#"{"role":"user","content":[{"type":"text"}]}"#, "messages[0].content[0].text");
    check(r#"{"role":"user","content":[{"type":"text","text":5}]}"#, "messages[0].content[0].text");
    check(
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"text":"b"}]}"#,
        "messages[0].content[1].type",
    );
    check(r#"{"role":"user","content":"a\ud83d"}"#, "messages[0].content");
    check(r#"{"role":"user","content":[{"type":"text","text":"\udE00"}]}"#, "messages[0].content[0].text");
    for address in
        [r#"{"url":"file:///etc/passwd"}"#, r#""\u0046ile:x""#, r#"{"detail":"low","url":" file:/x"}"#]
    {
        let part = format!(r#"{{"role":"user","content":[{{"type":"image_url","image_url":{address}}}]}}"#);
        check(&part, "messages[0].content[0].image_url");
        assert!(
            raw(Api::Chat, &format!(r#"{{"model":"m","messages":[{}]}}"#, part.replace("ile:", "x:")))
                .is_ok()
        );
    }
    check(r#"{"role":"assistant","content":"x","reasoning":"\ud83d"}"#, "messages[0].reasoning");
    for role in ROLES {
        assert!(
            raw(
                Api::Chat,
                &format!(r#"{{"model":"m","messages":[{{"role":"{role}","content":"\ud83d\ude00"}}]}}"#)
            )
            .is_ok()
        );
    }
}

#[test]
fn bounds_hold_at_their_edges() {
    let list = |n: usize, item: &str| vec![item; n].join(",");
    let message = r#"{"role":"user","content":""}"#;
    let messages = |n| raw(Api::Chat, &format!(r#"{{"model":"m","messages":[{}]}}"#, list(n, message)));
    assert_eq!(messages(MESSAGES_MAX).unwrap().messages_count as usize, MESSAGES_MAX);
    assert!(messages(MESSAGES_MAX + 1).is_err());
    let stops = |n| chat(&format!(r#","stop":[{}]"#, list(n, "\"s\"")));
    assert!(stops(super::super::STOPS_MAX).is_ok());
    assert!(stops(super::super::STOPS_MAX + 1).is_err());
    let stop_of = |n: usize| chat(&format!(r#","stop":"{}""#, "s".repeat(n)));
    assert!(stop_of(super::super::STOP_BYTES_MAX).is_ok());
    assert!(stop_of(super::super::STOP_BYTES_MAX + 1).is_err());
    let biases = |n: usize| {
        let entries: Vec<String> = (0..n).map(|t| format!("\"{t}\":1")).collect();
        chat(&format!(r#","logit_bias":{{{}}}"#, entries.join(",")))
    };
    assert!(biases(super::super::LOGIT_BIAS_MAX).is_ok());
    assert!(biases(super::super::LOGIT_BIAS_MAX + 1).is_err());
    let tools = |n| chat(&format!(r#","tools":[{}]"#, list(n, "{}")));
    assert!(tools(TOOLS_MAX).is_ok());
    assert!(tools(TOOLS_MAX + 1).is_err());
    let models = |n| chat(&format!(r#","models":[{}]"#, list(n, "\"m\"")));
    assert!(models(MODELS_MAX).is_ok());
    assert!(models(MODELS_MAX + 1).is_err());
    let extra = |n: usize| chat(&(0..n).map(|k| format!(",\"x{k}\":1")).collect::<Vec<_>>().concat());
    assert!(extra(MEMBERS_MAX - 2).is_ok());
    assert!(extra(MEMBERS_MAX - 1).is_err());
    let session = |n: usize| chat(&format!(r#","session_id":"{}""#, "s".repeat(n)));
    assert!(session(SESSION_BYTES_MAX).is_ok());
    assert!(session(SESSION_BYTES_MAX + 1).is_err());
    assert!(chat(&format!(r#","n":{CHOICES_MAX}"#)).is_ok());
    assert!(chat(&format!(r#","max_tokens":{MAX_TOKENS_MAX}"#)).is_ok());
    assert!(chat(&format!(r#","max_tokens":{}"#, MAX_TOKENS_MAX + 1)).is_err());
    let sellers = |n| chat(&format!(r#","provider":{{"only":[{}]}}"#, list(n, "\"s\"")));
    assert!(sellers(super::super::PREFERENCE_NAMES_MAX).is_ok());
    assert!(sellers(super::super::PREFERENCE_NAMES_MAX + 1).is_err());
    let deep = |n: usize| chat(&format!(r#","x":{}{}"#, "[".repeat(n), "]".repeat(n)));
    assert!(deep(crate::json::NESTING_MAX - 1).is_ok());
    assert!(deep(crate::json::NESTING_MAX).unwrap_err().message.contains("nested deeper than 128"));
}

#[test]
fn the_body_is_bounded() {
    let sized = |n: usize| {
        let frame = r#"{"model":"m","messages":[{"role":"user","content":""}]}"#.len();
        let text = "x".repeat(n - frame);
        raw(Api::Chat, &format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#))
    };
    assert!(sized(BODY_BYTES_MAX).is_ok());
    assert_eq!(sized(BODY_BYTES_MAX + 1).unwrap_err().status(), 413);
}

#[test]
fn nulls_are_absent() {
    let job =
        chat(r#","n":null,"max_tokens":null,"stop":null,"tools":null,"provider":null,"stream_options":null"#)
            .unwrap();
    assert_eq!((job.choices, job.max_tokens, job.needs), (1, None, Needs::default()));
}

#[test]
fn the_first_of_models_stands_in_for_the_model() {
    let body = r#"{"models":["x/1","x/2","x/1"],"messages":[{"role":"user","content":"hi"}]}"#;
    let job = raw(Api::Chat, body).unwrap();
    assert_eq!(job.model.as_str(), "x/1");
    assert_eq!(job.fallbacks.iter().map(ModelSlug::as_str).collect::<Vec<_>>(), ["x/2"]);
    assert_eq!(
        job.rebuild("up", None),
        r#"{"messages":[{"role":"user","content":"hi"}],"model":"up"}"#.as_bytes()
    );
}

#[test]
fn what_a_seller_must_do_is_noticed() {
    let job = raw(
        Api::Chat,
        r#"{"model":"m","tools":[{"type":"function","function":{"name":"f"}}],"response_format":{"type":"json_object"},"logprobs":true,
           "messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}}]}]}"#,
    )
    .unwrap();
    let want =
        Needs { tools: true, response_format: true, logprobs: true, media_parts: 1, ..Needs::default() };
    assert_eq!(job.needs, want);
    assert_eq!(job.sampling.logprobs, Some(0));
    assert!(!chat(r#","tools":[]"#).unwrap().needs.tools);
}

fn check_rebuilt(stream: bool, cap: Option<u32>, body: &str, want: &str) {
    let job = raw(Api::Chat, body).unwrap();
    assert_eq!(job.stream, stream);
    assert_eq!(String::from_utf8(job.rebuild("up/id", cap).to_vec()).unwrap(), want);
}

#[test]
fn a_seller_gets_the_buyers_bytes() {
    check_rebuilt(
        false,
        None,
        r#"{ "model" : "a/b", "messages": [ {"role":"user","content":"h\u00e9\n"} ],  "x_new": {"k": [1, 2 ]}, "provider":{"only":["s"]}, "usage":{"include":true}, "max_tokens" : 9 }"#,
        r#"{"model":"up/id","messages": [ {"role":"user","content":"h\u00e9\n"} ],"x_new": {"k": [1, 2 ]},"max_tokens" : 9}"#,
    );
    check_rebuilt(
        true,
        Some(77),
        r#"{"stream_options":{"include_usage":false},"stream":true,"messages":[{"role":"user","content":"x"}],"model":"a/b","max_completion_tokens":900}"#,
        r#"{"stream":true,"messages":[{"role":"user","content":"x"}],"model":"up/id","max_completion_tokens":77,"stream_options":{"include_usage":true}}"#,
    );
    check_rebuilt(
        false,
        Some(5),
        r#"{"model":"a/b","messages":[{"role":"user","content":"x"}]}"#,
        r#"{"model":"up/id","messages":[{"role":"user","content":"x"}],"max_tokens":5}"#,
    );
}

#[test]
fn a_stream_is_asked_for_where_one_piece_is_wanted() {
    let check = |body: &str, want: &str| {
        let job = raw(Api::Chat, body).unwrap();
        let manner = Manner { gathers: true, ..Manner::VERBATIM };
        let (_, bytes) = job.rebuild_typed("up/id", None, manner).unwrap();
        assert_eq!(String::from_utf8(bytes.to_vec()).unwrap(), want);
    };
    let asked = r#""stream":true,"stream_options":{"include_usage":true}}"#;
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    check(&format!(r#"{{"model":"a/b",{messages}}}"#), &format!(r#"{{"model":"up/id",{messages},{asked}"#));
    check(
        &format!(r#"{{"stream":false,"model":"a/b","stream_options":{{"x":1}},{messages},"n":2}}"#),
        &format!(r#"{{"model":"up/id",{messages},"n":2,{asked}"#),
    );
    check(
        &format!(r#"{{"model":"a/b",{messages},"stream":true}}"#),
        &format!(r#"{{"model":"up/id",{messages},{asked}"#),
    );
}

#[test]
fn what_streams_may_not_say_is_noticed() {
    let check = |api: Api, rest: &str, want: bool| {
        let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":"x"}}]{rest}}}"#);
        let body = if api == Api::Text { r#"{"model":"a/b","prompt":"x"}"# } else { &body };
        assert_eq!(raw(api, body).unwrap().streams_say_all(), want, "{rest}");
    };
    check(Api::Chat, "", true);
    check(
        Api::Chat,
        r#","max_tokens":9,"n":2,"tools":[],"logprobs":true,"provider":{"only":["s"]},"user":"u""#,
        true,
    );
    for odd in
        [r#""x_new":1"#, r#""modalities":["text"]"#, r#""web_search_options":{}"#, r#""prompt_logprobs":1"#]
    {
        check(Api::Chat, &format!(",{odd}"), false);
    }
    // Answered by `function_call`, which what is gathered would say as `tool_calls`.
    check(Api::Chat, r#","functions":[{"name":"f"}]"#, false);
    check(Api::Chat, r#","functions":null,"audio":null"#, true);
    check(Api::Text, "", false);
}

#[test]
fn reads_legacy_completions() {
    let job = raw(Api::Text, r#"{"model":"m","prompt":["one\ttwo"],"logprobs":2,"max_tokens":4}"#).unwrap();
    assert_eq!(job.node_prompt(), Ok(Prompt::Text("one\ttwo".into())));
    assert_eq!(job.sampling.logprobs, Some(2));
    for body in [
        r#"{"model":"m","prompt":["a","b"]}"#,
        r#"{"model":"m","prompt":[1,2]}"#,
        r#"{"model":"m","prompt":[]}"#,
        r#"{"model":"m","prompt":""}"#,
        r#"{"model":"m","prompt":5}"#,
        r#"{"model":"m"}"#,
    ] {
        assert_eq!(refused(raw(Api::Text, body)).0, "prompt", "{body}");
    }
    assert_eq!(
        refused(raw(Api::Text, r#"{"model":"m","prompt":"x","messages":[{"role":"user","content":"x"}]}"#)).0,
        "messages"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Api::Chat, Bytes::from(bytes));
    }

    #[test]
    fn cut_and_changed_bodies_are_errors_or_jobs(cut in 0usize..400, at in 0usize..400, byte: u8) {
        let body = r#"{"model":"a/b","stream":true,"n":2,"logit_bias":{"5":1.5},"stop":["a"],"tools":[{"type":"function","function":{"name":"f"}}],"provider":{"order":["x"],"max_price":{"prompt":"1.5"}},"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"q\"\\"}]}],"seed":1}"#;
        let mut bytes = body.as_bytes().to_vec();
        bytes.truncate(cut.max(1));
        if let Some(slot) = bytes.get_mut(at) { *slot = byte; }
        if let Ok(job) = parse(Api::Chat, Bytes::from(bytes)) {
            let rebuilt = job.rebuild("up", None);
            let json: serde_json::Value = serde_json::from_slice(&rebuilt).unwrap();
            prop_assert_eq!(json["model"].as_str(), Some("up"));
        }
    }
}

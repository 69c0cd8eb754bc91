//! Requests: from every buyer's grammar into every seller's.

use super::*;
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::strategies::{Can, each_part, request};
use crate::dialect::neutral::{Effort, Media, Part, Reasoning, Request, ResponseFormat, Role, ToolChoice};
use proptest::prelude::*;
use serde_json::Value;

const MODEL: &str = "gemini-3.8-flash";

/// What a conversation says, whatever grammar says it. Line feeds are left out, for grammars join texts by them.
#[derive(Debug, Default, PartialEq)]
pub(in crate::dialect) struct Gist {
    pub(in crate::dialect) rules: String,
    pub(in crate::dialect) texts: String,
    /// Id, name, arguments.
    pub(in crate::dialect) calls: Vec<(String, String, Value)>,
    /// The call's id, and text.
    pub(in crate::dialect) results: Vec<(String, String)>,
    /// Type and data, or an address.
    pub(in crate::dialect) media: Vec<String>,
    pub(in crate::dialect) format: Option<Value>,
}

/// Adds a text without its line feeds.
pub(in crate::dialect) fn add(to: &mut String, text: &str) {
    to.extend(text.chars().filter(|c| *c != '\n'));
}

/// A string, empty where there is none.
pub(in crate::dialect) fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Gist {
    fn of_request(request: &Request) -> Self {
        let mut gist = Self::default();
        for message in &request.messages {
            let is_rule = matches!(message.role, Role::System | Role::Developer);
            for part in &message.parts {
                match part {
                    Part::Text { text, .. } if is_rule => add(&mut gist.rules, text),
                    part => gist.part(part),
                }
            }
        }
        gist.format = match &request.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Value::from("json")),
            ResponseFormat::JsonSchema { schema, .. } => serde_json::from_str(schema.as_str()).ok(),
        };
        gist
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Text { text, .. } => add(&mut self.texts, text),
            Part::Image { source, .. } | Part::Audio { source } | Part::File { source, .. } => {
                self.media.push(match source {
                    Media::Base64 { media_type, data } => format!("{media_type} {data}"),
                    Media::Url(text) | Media::Id(text) | Media::Text(text) => text.clone(),
                });
            }
            Part::ToolCall { id, name, arguments, .. } => {
                let arguments = serde_json::from_str(arguments).unwrap();
                self.calls.push((id.clone(), name.clone(), arguments));
            }
            Part::ToolResult { call_id, content, .. } => {
                let mut inner = Self::default();
                for part in content {
                    inner.part(part);
                }
                self.results.push((call_id.clone(), inner.texts));
            }
            Part::Reasoning { .. } | Part::Refusal { .. } => {}
        }
    }
}

/// The fields that a seller's grammar refuses a request for; none where it can say it.
pub(super) fn refuses(shape: Shape, request: &Request) -> Vec<&'static str> {
    let has = |is: fn(&Part) -> bool| request.messages.iter().flat_map(|message| &message.parts).any(is);
    let fields: &[(bool, &'static str)] = match shape {
        Shape::Chat => &[],
        Shape::Responses => &[
            (!request.stop.is_empty(), "stop"),
            (request.choices > 1, "n"),
            (!request.logit_bias.is_empty(), "logit_bias"),
        ],
        Shape::Messages => &[
            (request.choices > 1, "n"),
            (request.logprobs.is_some(), "logprobs"),
            (request.response_format == ResponseFormat::JsonObject, "response_format"),
            (has(|part| matches!(part, Part::Audio { .. })), "messages"),
        ],
        shape => return (Mirror::of(shape).refuses)(request),
    };
    fields.iter().filter(|(is_refused, _)| *is_refused).map(|(_, field)| *field).collect()
}

/// The same request without what a grammar refuses.
fn sayable(shape: Shape, mut request: Request) -> Request {
    match shape {
        Shape::Chat => request,
        Shape::Responses => Request { stop: Vec::new(), choices: 1, logit_bias: Vec::new(), ..request },
        Shape::Messages => {
            replace_parts(&mut request, |part| matches!(part, Part::Audio { .. }));
            if request.response_format == ResponseFormat::JsonObject {
                request.response_format = ResponseFormat::Text;
            }
            Request { choices: 1, logprobs: None, ..request }
        }
        shape => (Mirror::of(shape).sayable)(request),
    }
}

/// Puts a text in the place of parts that a grammar refuses.
pub(in crate::dialect) fn replace_parts(request: &mut Request, is_refused: impl Fn(&Part) -> bool) {
    each_part(request, |part| {
        if is_refused(part) {
            *part = Part::text("instead");
        }
    });
}

/// A wish: the fields under which a notice may name it, and its value as text, empty where nothing is wished.
pub(super) type Wish = (&'static [&'static str], String);

pub(super) fn wishes(request: &Request) -> Vec<Wish> {
    fn said<T: std::fmt::Debug>(value: Option<&T>) -> String {
        value.map(|value| format!("{value:?}")).unwrap_or_default()
    }
    let can_call = !request.tools.is_empty() && request.tool_choice != Some(ToolChoice::None);
    let list = |is_empty: bool, text: String| if is_empty { String::new() } else { text };
    let biases = list(request.logit_bias.is_empty(), format!("{:?}", request.logit_bias));
    vec![
        (&["temperature"], said(request.temperature.as_ref())),
        (&["top_p", "temperature"], said(request.top_p.as_ref())),
        (&["top_k", "temperature"], said(request.top_k.as_ref())),
        (&["presence_penalty"], said(request.presence_penalty.as_ref())),
        (&["frequency_penalty"], said(request.frequency_penalty.as_ref())),
        (&["logit_bias"], biases),
        (&["logprobs"], said(request.logprobs.as_ref())),
        (&["stop"], list(request.stop.is_empty(), format!("{:?}", request.stop))),
        (&["seed"], said(request.seed.as_ref())),
        (&["user"], said(request.user.as_ref())),
        (&["prompt_cache_key"], said(request.prompt_cache_key.as_ref())),
        (&["reasoning"], request.reasoning.as_ref().map(thinks).unwrap_or_default()),
        (&["n"], list(request.choices == 1, request.choices.to_string())),
        (&["tool_choice"], said(request.tool_choice.as_ref())),
        (&["parallel_tool_calls"], said(request.parallel_tool_calls.as_ref().filter(|_| can_call))),
    ]
}

/// Whether to think. How much is told in words or in tokens, by tables that each grammar tests itself.
fn thinks(wish: &Reasoning) -> String {
    let is_off = wish.enabled == Some(false) || wish.effort == Some(Effort::None);
    if is_off { "off".to_owned() } else { "on".to_owned() }
}

/// Wishes that may vanish without a word, because leaving them out changes nothing.
pub(super) fn is_silent(field: &str, value: &str) -> bool {
    match field {
        // The default of every grammar.
        "temperature" | "top_p" => value == "1.0",
        "presence_penalty" | "frequency_penalty" => matches!(value, "0.0" | "-0.0"),
        "parallel_tool_calls" => value == "true",
        // A hint for caches that a server keeps by itself.
        "prompt_cache_key" => true,
        // A tool that must not be called is not told of.
        "tool_choice" => matches!(value, "Auto" | "None"),
        _ => false,
    }
}

/// Checks that every wish is heard, told of, or of no consequence.
fn check_wishes(asked: &Request, written: &Written, shape: Shape) -> Result<(), TestCaseError> {
    let json: Value = serde_json::from_slice(&written.body).unwrap();
    let again = front_of(shape).map(|api| {
        let job = front::parse(api, written.body.clone()).unwrap();
        wishes(&front::read(&job).unwrap())
    });
    for (n, (fields, value)) in
        wishes(asked).into_iter().enumerate().filter(|(_, (_, value))| !value.is_empty())
    {
        let is_heard = if let Some(again) = &again {
            again[n].1 == value
        } else {
            let mut places = Mirror::of(shape).places.iter().filter(|(name, _)| *name == fields[0]);
            places.any(|(_, pointer)| json.pointer(pointer).is_some())
        };
        let is_told = written.notices.iter().any(|notice| {
            fields
                .iter()
                .any(|field| notice.param == *field || notice.param.starts_with(&format!("{field}.")))
        });
        prop_assert!(
            is_heard || is_told || is_silent(fields[0], &value),
            "{:?}: {:?} {}: {:?} {}",
            shape,
            fields,
            value,
            written.notices,
            json
        );
    }
    Ok(())
}

/// Checks what a seller hears of a request that its grammar can say.
fn check_heard(seller: &dyn Dialect, asked: &Request) -> Result<(), TestCaseError> {
    let shape = seller.facts().shape;
    let call = Call { upstream_id: MODEL, stream: true, max_tokens: None };
    let written =
        seller.write(asked, &call).map_err(|error| TestCaseError::fail(format!("{shape:?}: {error}")))?;
    let said = Gist::of_request(asked);
    if let Some(api) = front_of(shape) {
        let job = front::parse(api, written.body.clone()).unwrap();
        prop_assert_eq!(Gist::of_request(&front::read(&job).unwrap()), said, "{:?}", shape);
    } else {
        let mirror = Mirror::of(shape);
        let body = serde_json::from_slice(&written.body).unwrap();
        prop_assert_eq!((mirror.hear)(&body), (mirror.audible)(said), "{:?}", shape);
    }
    check_wishes(asked, &written, shape)
}

/// Checks that a seller's grammar refuses what it cannot say by the field's name.
fn check_refused(seller: &dyn Dialect, asked: &Request) -> Result<(), TestCaseError> {
    let call = Call { upstream_id: MODEL, stream: true, max_tokens: None };
    let refused = refuses(seller.facts().shape, asked);
    let error = seller.write(asked, &call).err();
    prop_assert_eq!(error.is_some(), !refused.is_empty(), "{:?} {:?}", refused, error);
    if let Some(error) = error {
        let param = error.param.clone().unwrap_or_default();
        prop_assert_eq!(error.status(), 400);
        prop_assert!(refused.iter().any(|field| param.starts_with(field)), "{:?} {}", refused, param);
    }
    Ok(())
}

proptest! {
    // Each case is three buyers by every seller.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_buyers_request_reaches_every_seller(generated in request(Can::ALL)) {
        for api in FRONTS {
            let call = Call { upstream_id: "a/b", stream: true, max_tokens: None };
            let wanted = sayable(api.shape(), generated.clone());
            let said = own(api).write(&wanted, &call).unwrap();
            let asked = front::read(&front::parse(api, said.body).unwrap()).unwrap();
            prop_assert_eq!(Gist::of_request(&asked), Gist::of_request(&wanted), "{:?}", api);
            for seller in sellers() {
                check_refused(seller, &asked)?;
                check_heard(seller, &sayable(seller.facts().shape, asked.clone()))?;
            }
        }
    }
}

/// Half of a surrogate pair is refused by name wherever it stands: no seller is asked, and none is blamed.
#[test]
fn half_a_character_is_refused_in_every_member_of_every_front() {
    use crate::dialect::{Api, Job, front};
    use crate::error::ApiError;
    type Read = fn(bytes::Bytes) -> Result<Job, ApiError>;
    let chat: Read = |body| front::parse(Api::Chat, body);
    let text: Read = |body| front::parse(Api::Text, body);
    let embeddings: Read = |body| front::parse(Api::Embeddings, body);
    let rerank: Read = |body| front::parse(Api::Rerank, body);
    let images: Read = |body| front::parse(Api::Images, body);
    let responses: Read = |body| front::parse(Api::Responses, body);
    let messages: Read = |body| front::parse(Api::Messages, body);
    let said = r#""messages":[{"role":"user","content":"x"}]"#;
    let cases: &[(Read, &str, &str)] = &[
        (chat, r#""messages":[{"role":"user","content":"HALF"}]"#, "messages[0].content"),
        (
            chat,
            &format!(
                r#"{said},"tools":[{{"type":"function","function":{{"name":"f","description":"HALF"}}}}]"#
            ),
            "tools[0].function.description",
        ),
        (chat, &format!(r#"{said},"later":{{"HALF":1}}"#), "later.\\ud83d"),
        (text, r#""prompt":"HALF""#, "prompt"),
        (embeddings, r#""input":["a","HALF"]"#, "input[1]"),
        (rerank, r#""query":"HALF","documents":["a"]"#, "query"),
        (images, r#""prompt":"HALF""#, "prompt"),
        (responses, r#""input":"HALF""#, "input"),
        (responses, r#""input":"a","instructions":"HALF""#, "instructions"),
        (messages, r#""max_tokens":1,"messages":[{"role":"user","content":"HALF"}]"#, "messages[0].content"),
        (
            messages,
            &format!(r#""max_tokens":1,{said},"system":[{{"type":"text","text":"HALF"}}]"#),
            "system[0].text",
        ),
        (
            messages,
            r#""max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"HALF"}]}]"#,
            "messages[0].content[0].content",
        ),
        (
            crate::dialect::messages::parse_count,
            r#""messages":[{"role":"user","content":"HALF"}]"#,
            "messages[0].content",
        ),
    ];
    for (read, members, param) in cases {
        let body = |text: &str| format!(r#"{{"model":"a/b",{}}}"#, members.replace("HALF", text)).into();
        let error = read(body(r"\ud83d")).unwrap_err();
        assert_eq!((error.status(), error.param.as_deref()), (400, Some(*param)), "{members}");
        assert!(error.message.contains("half of a surrogate pair"), "{error}");
        read(body(r"\ud83d\ude00")).unwrap();
    }
}

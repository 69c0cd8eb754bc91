//! Conversations and answers for property tests, shared by all grammars.
//!
//! No two grammars can say exactly the same, so requests come in a *normal form* that every grammar can
//! reach: rules first, then turns of user, assistant and tools; within an assistant's turn thoughts, then text,
//! then calls. What a grammar cannot say at all it erases from the generated value ([`each_part`] helps), and
//! both sides of a round trip go through [`normal`], [`merged`] or [`normal_answer`], which undo what grammars may choose freely.

mod streams;

pub(crate) use streams::{answer, answer_of, bill, choice_of, events, merged, normal_answer, of_choice};

use super::{
    CacheMark, Effort, Media, Message, Origin, Part, RawJson, Reasoning, Request, ResponseFormat, Role,
    Signed, Tool, ToolChoice,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// What a grammar can say of the things that cannot be erased afterwards without leaving a hole.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent ability")]
pub(crate) struct Can {
    /// Whose signed thoughts it carries.
    pub(crate) origins: &'static [Origin],
    /// Pictures by address and in base64.
    pub(crate) images: bool,
    /// Sounds in base64.
    pub(crate) audio: bool,
    /// Documents in base64.
    pub(crate) files: bool,
    /// A developer's rules beside the system's.
    pub(crate) developer: bool,
}

impl Can {
    /// All of it.
    pub(crate) const ALL: Self =
        Self { origins: &Origin::ALL, images: true, audio: true, files: true, developer: true };
}

/// Text that begins with a letter, with what JSON must escape and characters of every width.
pub(crate) fn text() -> impl Strategy<Value = String> {
    "[a-z][a-zé€💡\"\\\\\n\u{1} ]{0,11}"
}

/// A request in normal form.
pub(crate) fn request(can: Can) -> impl Strategy<Value = Request> {
    (messages(can), wishes(), sampling(), extras()).prop_map(|(messages, wishes, sampling, extras)| {
        let (tools, tool_choice, parallel_tool_calls, response_format, reasoning) = wishes;
        let tool_choice = tool_choice.filter(|_| !tools.is_empty());
        let tool_choice = match (tool_choice, tools.first()) {
            (Some(ToolChoice::Tool(_)), Some(tool)) => Some(ToolChoice::Tool(tool.name.clone())),
            (choice, _) => choice,
        };
        let parallel_tool_calls = parallel_tool_calls.filter(|_| !tools.is_empty());
        let request = Request {
            messages,
            tools,
            tool_choice,
            parallel_tool_calls,
            response_format,
            reasoning,
            ..Request::default()
        };
        with_numbers(request, sampling, extras)
    })
}

fn hundredths(range: std::ops::RangeInclusive<i32>) -> impl Strategy<Value = Option<f64>> {
    of(range.prop_map(|n| f64::from(n) / 100.0))
}

type Sampling =
    (Option<u32>, Option<f64>, Option<f64>, Option<u32>, Option<f64>, Option<f64>, Vec<(u32, f32)>);
type Extras = (Vec<String>, Option<i64>, u32, Option<String>, Option<String>, Option<u8>);

fn with_numbers(request: Request, sampling: Sampling, extras: Extras) -> Request {
    let (max_tokens, temperature, top_p, top_k, presence_penalty, frequency_penalty, logit_bias) = sampling;
    let (stop, seed, choices, user, prompt_cache_key, logprobs) = extras;
    let request = Request { logprobs, stop, seed, choices, user, prompt_cache_key, ..request };
    let request = Request { max_tokens, temperature, top_p, top_k, ..request };
    Request { presence_penalty, frequency_penalty, logit_bias, ..request }
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let bias = proptest::collection::btree_map(0u32..100_000, -200i32..=200, 0..3);
    (
        of(1u32..100_000),
        hundredths(0..=100),
        hundredths(1..=100),
        of(1u32..1_000),
        hundredths(-200..=200),
        hundredths(-200..=200),
        bias.prop_map(|map| map.into_iter().map(|(token, bias)| (token, bias as f32 / 2.0)).collect()),
    )
}

fn extras() -> impl Strategy<Value = Extras> {
    (
        vec("[a-z]{1,5}", 0..4),
        of(any::<i32>().prop_map(i64::from)),
        1u32..4,
        of("[a-z0-9]{1,12}"),
        of("[a-z0-9]{1,12}"),
        of(0u8..=20),
    )
}

type Wishes = (Vec<Tool>, Option<ToolChoice>, Option<bool>, ResponseFormat, Option<Reasoning>);

fn wishes() -> impl Strategy<Value = Wishes> {
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        Just(ToolChoice::Tool(String::new())),
    ];
    (tools(), of(choice), of(any::<bool>()), format(), of(thinking()))
}

/// A JSON schema as somebody may write it.
pub(crate) fn schema() -> impl Strategy<Value = RawJson> {
    prop_oneof![
        Just(r#"{"type":"object","properties":{}}"#),
        Just(r#"{"type":"object","required":["b"],"properties":{"b":{"type":"number"},"a":{"type":"string","description":"é \"q\""}}}"#),
        Just(r#"{ "properties" : {"n":{"enum":[1,2.50,null]}}, "type":"object" }"#),
    ]
    .prop_map(|text| RawJson::parse(text).unwrap())
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let tool = (of(text()), schema(), of(any::<bool>()), of(Just(CacheMark::default())));
    vec(tool, 0..3).prop_map(|tools| {
        let named = |(n, (description, parameters, strict, cache))| Tool {
            name: format!("tool_{n}"),
            description,
            parameters: Some(parameters),
            strict,
            cache,
        };
        tools.into_iter().enumerate().map(named).collect()
    })
}

fn format() -> impl Strategy<Value = ResponseFormat> {
    prop_oneof![
        3 => Just(ResponseFormat::Text),
        1 => Just(ResponseFormat::JsonObject),
        2 => ("[a-z]{1,8}", of(text()), schema(), of(any::<bool>())).prop_map(|(name, description, schema, strict)| {
            ResponseFormat::JsonSchema { name, description, schema, strict }
        }),
    ]
}

/// One way to say how much to think, as grammars know only one at a time.
fn thinking() -> impl Strategy<Value = Reasoning> {
    prop_oneof![
        (0usize..Effort::ALL.len())
            .prop_map(|n| Reasoning { effort: Some(Effort::ALL[n]), ..Reasoning::default() }),
        (1_024u32..50_000).prop_map(|n| Reasoning { max_tokens: Some(n), ..Reasoning::default() }),
    ]
}

fn mark() -> impl Strategy<Value = Option<CacheMark>> {
    prop_oneof![
        4 => Just(None),
        1 => Just(Some(CacheMark { ttl_s: None })),
        1 => Just(Some(CacheMark { ttl_s: Some(3_600) })),
    ]
}

fn messages(can: Can) -> impl Strategy<Value = Vec<Message>> {
    let rules = |role: Role| {
        of(vec((text(), mark()), 1..3)).prop_map(move |texts| {
            let part = |(text, cache)| Part::Text { text, cache };
            texts.map(|texts| message(role, texts.into_iter().map(part).collect()))
        })
    };
    let turns = vec((vec(user_part(can), 1..3), assistant(can)), 1..4);
    (rules(Role::System), rules(Role::Developer), turns, vec(user_part(can), 1..3)).prop_map(
        move |(system, developer, turns, last)| {
            let developer = developer.filter(|_| can.developer);
            let mut messages: Vec<Message> = system.into_iter().chain(developer).collect();
            let mut calls = 0;
            for (user, turn) in turns {
                messages.push(message(Role::User, user));
                push_turn(&mut messages, turn, &mut calls);
            }
            messages.push(message(Role::User, last));
            messages
        },
    )
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts, name: None }
}

fn text_part() -> impl Strategy<Value = Part> {
    (text(), mark()).prop_map(|(text, cache)| Part::Text { text, cache })
}

fn user_part(can: Can) -> impl Strategy<Value = Part> {
    let base64 = |media_type: &str| Media::Base64 { media_type: media_type.to_owned(), data: "aGk=".into() };
    let image = prop_oneof![Just(base64("image/png")), Just(Media::Url("https://example.com/a.png".into()))];
    let detail = of(prop_oneof![Just("low".to_owned()), Just("high".to_owned())]);
    let image =
        (image, detail, mark()).prop_map(|(source, detail, cache)| Part::Image { source, detail, cache });
    let audio = prop_oneof![Just(base64("audio/wav")), Just(base64("audio/mp3"))];
    let file = (of(Just("a.pdf".to_owned())), mark()).prop_map(move |(filename, cache)| Part::File {
        source: base64("application/pdf"),
        filename,
        cache,
    });
    let weight = |can: bool| u32::from(can);
    prop_oneof![
        6 => text_part(),
        weight(can.images) => image,
        weight(can.audio) => audio.prop_map(|source| Part::Audio { source }),
        weight(can.files) => file,
    ]
}

type Call = (String, String, Option<CacheMark>);
type CallResult = (Vec<Part>, bool, Option<CacheMark>);

#[derive(Debug)]
struct Turn {
    thoughts: Vec<Part>,
    texts: Vec<Part>,
    calls: Vec<(Call, CallResult)>,
}

fn assistant(can: Can) -> impl Strategy<Value = Turn> {
    let call = ("[a-z_]{1,8}", arguments(), mark());
    let result = (vec(text_part(), 1..3), any::<bool>(), mark());
    let texts = vec(text_part(), 0..3);
    (vec(thought(can.origins), 0..2), texts, vec((call, result), 0..3)).prop_map(
        |(thoughts, mut texts, calls)| {
            if texts.is_empty() && calls.is_empty() {
                texts.push(Part::text("so"));
            }
            Turn { thoughts, texts, calls }
        },
    )
}

fn push_turn(messages: &mut Vec<Message>, turn: Turn, calls: &mut usize) {
    let Turn { thoughts, texts, calls: turn_calls } = turn;
    let mut parts: Vec<Part> = thoughts.into_iter().chain(texts).collect();
    let mut results = Vec::new();
    for ((name, arguments, cache), (content, is_error, result_cache)) in turn_calls {
        let id = format!("call_{calls}");
        *calls += 1;
        results.push(Part::ToolResult { call_id: id.clone(), content, is_error, cache: result_cache });
        parts.push(Part::ToolCall { id, name, arguments, cache });
    }
    messages.push(message(Role::Assistant, parts));
    if !results.is_empty() {
        messages.push(message(Role::Tool, results));
    }
}

/// Arguments of a call: one object of JSON.
pub(crate) fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        (text(), any::<i32>())
            .prop_map(|(text, n)| { serde_json::json!({ "text": text, "n": n }).to_string() })
    ]
}

/// Thoughts as sellers of these origins make them; [`Origin::Unknown`] signs nothing.
pub(crate) fn thought(origins: &'static [Origin]) -> impl Strategy<Value = Part> {
    (0..origins.len(), text(), "[A-Za-z0-9+/]{4,16}", any::<bool>()).prop_map(|(n, text, data, hides)| {
        let origin = origins[n];
        let signed = |is_encrypted, id: Option<&str>| {
            Some(Signed { origin, id: id.map(str::to_owned), data: data.clone(), is_encrypted })
        };
        match origin {
            Origin::OpenAi => Part::Reasoning { text, is_summary: true, signed: signed(true, Some("rs_1")) },
            Origin::Anthropic if hides => {
                Part::Reasoning { text: String::new(), is_summary: false, signed: signed(true, None) }
            }
            Origin::Anthropic | Origin::Google => {
                Part::Reasoning { text, is_summary: false, signed: signed(false, None) }
            }
            Origin::Unknown => Part::Reasoning { text, is_summary: false, signed: None },
        }
    })
}

/// Shows every part of a request, those within tool results too, to be changed.
pub(crate) fn each_part(request: &mut Request, mut change: impl FnMut(&mut Part)) {
    for part in request.messages.iter_mut().flat_map(|m| &mut m.parts) {
        if let Part::ToolResult { content, .. } = part {
            content.iter_mut().for_each(&mut change);
        }
        change(part);
    }
}

/// The form in which two requests that say the same are equal: neighbours of one role are one message,
/// unmarked texts and unsigned thoughts that touch are one, empty ones are gone.
pub(crate) fn normal(mut request: Request) -> Request {
    let mut messages: Vec<Message> = Vec::new();
    for message in request.messages {
        match messages.last_mut() {
            Some(last) if last.role == message.role && last.name == message.name => {
                last.parts.extend(message.parts);
            }
            _ => messages.push(message),
        }
    }
    for message in &mut messages {
        message.parts = normal_parts(std::mem::take(&mut message.parts));
    }
    messages.retain(|m| !m.parts.is_empty());
    request.messages = messages;
    request
}

/// As [`normal`], for the parts of one message.
pub(crate) fn normal_parts(parts: Vec<Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for mut part in parts {
        if let Part::ToolResult { content, .. } = &mut part {
            *content = normal_parts(std::mem::take(content));
        }
        match (out.last_mut(), &part) {
            (_, Part::Text { text, cache: None }) if text.is_empty() => {}
            (Some(Part::Text { text: before, cache: None }), Part::Text { text, cache }) => {
                before.push_str(text);
                if let (Some(Part::Text { cache: slot, .. }), Some(mark)) = (out.last_mut(), cache) {
                    *slot = Some(*mark);
                }
            }
            (
                Some(Part::Reasoning { text: before, is_summary: was, signed: None }),
                Part::Reasoning { text, is_summary, signed: None },
            ) if was == is_summary => before.push_str(text),
            _ => out.push(part),
        }
    }
    out
}

proptest! {
    #[test]
    fn generated_values_are_in_normal_form(request in request(Can::ALL), events in events(&Origin::ALL, 2)) {
        let once = normal(request);
        prop_assert_eq!(normal(once.clone()), once.clone());
        prop_assert_eq!(once.messages.last().unwrap().role, Role::User);
        let once = merged(&events);
        prop_assert_eq!(merged(&once), once.clone());
        prop_assert_eq!(answer_of(&once), answer_of(&events));
    }
}

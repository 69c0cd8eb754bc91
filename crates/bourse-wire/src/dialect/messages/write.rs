//! Writing a request for a seller of this grammar.
//!
//! Rules go into `system`, turns are merged so that user and model alternate, and results of tools stand first in
//! theirs: sellers refuse anything else. What this grammar has no word for (penalties, seeds, biases) is left out
//! with a notice; log-probabilities, several answers and JSON without a schema are refused, since an answer would
//! lack what was asked for.

mod thinking;
mod turns;

use super::body::{BlockOut, CacheOut, push_json};
use super::{CACHE_MARKS_MAX, MAX_TOKENS_DEFAULT};
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{CacheMark, Notice, Part, RawJson, Request, ResponseFormat, Tool, ToolChoice};
use crate::error::ApiError;
use bytes::Bytes;
use serde::Serialize;
use thinking::ThinkingOut;
use turns::TurnOut;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<BlockOut<'a>>,
    messages: Vec<TurnOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<ChoiceOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<ThinkingOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<ConfigOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheOut>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct ToolOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheOut>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Given(&'a RawJson),
    /// Of a tool without arguments.
    Empty {
        #[serde(rename = "type")]
        kind: &'static str,
    },
}

#[derive(Serialize)]
struct ChoiceOut<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct ConfigOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<FormatOut<'a>>,
}

#[derive(Serialize)]
struct FormatOut<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: &'a RawJson,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// The body of a call. An error names the field that this grammar cannot say.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut notes = Notes::default();
    let max_tokens = call.max_tokens(request).unwrap_or(MAX_TOKENS_DEFAULT);
    let mut marks = Marks::new(request, &mut notes);
    let cache_control = request.cache.map(CacheOut::of);
    let tools = tools(&request.tools, &mut marks);
    let conversation = turns::conversation(request, &mut notes);
    let wish = thinking::thinking(request, call, max_tokens, &conversation, &mut notes);
    let (system, messages) = turns::write(&conversation, &mut marks, &mut notes)?;
    let numbers = numbers(request, wish.thinks(), &mut notes);
    let format = match &request.response_format {
        ResponseFormat::JsonSchema { schema, .. } => Some(FormatOut { kind: "json_schema", schema }),
        _ => None,
    };
    let config = ConfigOut { effort: wish.effort, format };
    let body = Body {
        model: call.upstream_id,
        max_tokens,
        tool_choice: tool_choice(request),
        tools,
        system,
        messages,
        thinking: wish.thinking,
        output_config: (config.effort.is_some() || config.format.is_some()).then_some(config),
        temperature: numbers.temperature,
        top_p: numbers.top_p,
        top_k: numbers.top_k,
        stop_sequences: &request.stop,
        metadata: request.user.as_deref().map(|user_id| Metadata { user_id }),
        service_tier: service_tier(request, &mut notes),
        cache_control,
        stream: call.stream,
    };
    note_unsaid(request, &mut notes);
    let mut out = Vec::with_capacity(1_024);
    push_json(&body, &mut out);
    Ok(Written { body: Bytes::from(out), notices: notes.0 })
}

/// Refuses what an answer would lack.
fn refuse(request: &Request) -> Result<(), ApiError> {
    let refused = |field, why: &str| {
        let text = format!("`{field}` is not known to sellers that speak Anthropic's grammar: {why}");
        Err(ApiError::field(field, text))
    };
    if request.choices > 1 {
        return refused("n", "ask for one answer, several times");
    }
    if request.logprobs.is_some() {
        return refused("logprobs", "leave it out, or name another seller in `provider.only`");
    }
    if request.response_format == ResponseFormat::JsonObject {
        return refused("response_format", "give a `json_schema` instead of `json_object`");
    }
    Ok(())
}

/// What was left out, each thing once.
#[derive(Default)]
struct Notes(Vec<Notice>);

impl Notes {
    fn add(&mut self, param: &'static str, what: &'static str) {
        let notice = Notice::new(param, what);
        if !self.0.contains(&notice) {
            self.0.push(notice);
        }
    }
}

/// Hands out marks in the order in which they are written. Of too many the last are kept, since each of them
/// covers all before it; one for an hour cannot stand behind a shorter one.
struct Marks {
    to_skip: usize,
    has_short: bool,
}

impl Marks {
    fn new(request: &Request, notes: &mut Notes) -> Self {
        fn of_parts(parts: &[Part]) -> usize {
            parts.iter().map(of_part).sum()
        }
        fn of_part(part: &Part) -> usize {
            let (cache, inner) = match part {
                Part::Text { cache, .. }
                | Part::Image { cache, .. }
                | Part::File { cache, .. }
                | Part::ToolCall { cache, .. } => (cache, 0),
                Part::ToolResult { cache, content, .. } => (cache, of_parts(content)),
                _ => (&None, 0),
            };
            usize::from(cache.is_some()) + inner
        }
        let of_tools = request.tools.iter().filter(|tool| tool.cache.is_some()).count();
        let of_messages: usize = request.messages.iter().map(|message| of_parts(&message.parts)).sum();
        let most = CACHE_MARKS_MAX - usize::from(request.cache.is_some());
        let to_skip = (of_tools + of_messages).saturating_sub(most);
        if to_skip > 0 {
            notes.add("cache_control", "more marks than the seller takes, the first left out");
        }
        Self { to_skip, has_short: false }
    }

    fn take(&mut self, mark: Option<CacheMark>) -> Option<CacheOut> {
        let mark = mark?;
        if self.to_skip > 0 {
            self.to_skip -= 1;
            return None;
        }
        let mut out = CacheOut::of(mark);
        if out.is_long() && self.has_short {
            out = CacheOut::of(CacheMark::default());
        }
        self.has_short |= !out.is_long();
        Some(out)
    }
}

fn tools<'a>(tools: &'a [Tool], marks: &mut Marks) -> Vec<ToolOut<'a>> {
    let mut write = |tool: &'a Tool| ToolOut {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: tool.parameters.as_ref().map_or(Schema::Empty { kind: "object" }, Schema::Given),
        strict: tool.strict.filter(|strict| *strict),
        cache_control: marks.take(tool.cache),
    };
    tools.iter().map(&mut write).collect()
}

fn tool_choice(request: &Request) -> Option<ChoiceOut<'_>> {
    let alone = request.parallel_tool_calls == Some(false);
    let (kind, name) = match &request.tool_choice {
        _ if request.tools.is_empty() => return None,
        None if alone => ("auto", None),
        None => return None,
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name.as_str())),
    };
    let disable_parallel_tool_use = request.parallel_tool_calls.filter(|_| kind != "none").map(|many| !many);
    Some(ChoiceOut { kind, name, disable_parallel_tool_use })
}

struct Numbers {
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
}

/// The numbers that choose tokens, less those that change nothing: newer models refuse them even so, and with
/// thoughts all do.
fn numbers(request: &Request, thinks: bool, notes: &mut Notes) -> Numbers {
    if request.temperature.is_some_and(|t| t > 1.0) {
        notes.add("temperature", "above 1, which is the seller's most, and cut to it");
    }
    let temperature = request.temperature.filter(|t| *t < 1.0);
    let mut top_p = request.top_p.filter(|p| *p < 1.0);
    let top_k = request.top_k.filter(|k| *k > 0);
    if thinks && (temperature.is_some() || top_p.is_some() || top_k.is_some()) {
        notes.add("temperature", "not taken together with thoughts, and left out with `top_p` and `top_k`");
        return Numbers { temperature: None, top_p: None, top_k: None };
    }
    if temperature.is_some() && top_p.take().is_some() {
        notes.add("top_p", "not taken together with `temperature`, and left out");
    }
    Numbers { temperature, top_p, top_k }
}

fn service_tier(request: &Request, notes: &mut Notes) -> Option<&'static str> {
    match request.service_tier.as_deref()? {
        "auto" | "priority" => Some("auto"),
        "default" => Some("standard_only"),
        _ => {
            notes.add("service_tier", "a tier that the seller does not have, left out");
            None
        }
    }
}

/// Tells of wishes that this grammar has no word for.
fn note_unsaid(request: &Request, notes: &mut Notes) {
    let differs = |value: Option<f64>, from: f64| value.is_some_and(|v| (v - from).abs() > 0.0);
    let unsaid = [
        ("min_p", differs(request.min_p, 0.0)),
        ("presence_penalty", differs(request.presence_penalty, 0.0)),
        ("frequency_penalty", differs(request.frequency_penalty, 0.0)),
        ("repetition_penalty", differs(request.repetition_penalty, 1.0)),
        ("logit_bias", !request.logit_bias.is_empty()),
        ("seed", request.seed.is_some()),
        ("verbosity", request.verbosity.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
    ];
    for (param, _) in unsaid.into_iter().filter(|(_, is_said)| *is_said) {
        notes.add(param, "unknown to the seller, left out");
    }
}

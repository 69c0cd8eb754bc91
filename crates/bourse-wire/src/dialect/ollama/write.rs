//! Writing a request for a seller of this grammar.
//!
//! A message is one text with pictures beside it, so texts are joined by line feeds. Whatever an answer would lack
//! (several choices, a tool that must be called) is refused; what only changes its taste is left out with a notice.

mod messages;

use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{Effort, RawJson, Reasoning, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::notes::Notes;
use crate::error::ApiError;
use messages::MessageOut;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<MessageOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<FormatOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<ThinkOut>,
    #[serde(skip_serializing_if = "Options::is_empty")]
    options: Options<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    /// Absence means true here.
    stream: bool,
    truncate: bool,
    shift: bool,
}

#[derive(Serialize)]
struct ToolOut<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: FunctionOut<'a>,
}

#[derive(Serialize)]
struct FunctionOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Parameters<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parameters<'a> {
    Given(&'a RawJson),
    /// Of a tool without arguments; servers want the members all the same.
    Empty {
        #[serde(rename = "type")]
        kind: &'static str,
        properties: NoProperties,
    },
}

#[derive(Serialize)]
struct NoProperties {}

#[derive(Serialize)]
#[serde(untagged)]
enum FormatOut<'a> {
    Json(&'static str),
    Schema(&'a RawJson),
}

#[derive(Serialize)]
#[serde(untagged)]
enum ThinkOut {
    Whether(bool),
    Word(&'static str),
}

#[derive(Serialize, Default, PartialEq)]
struct Options<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
}

impl Options<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The body of a call. An error names the field that this grammar cannot say.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    refuse(request)?;
    let mut notes = Notes::default();
    let body = Body {
        model: call.upstream_id,
        messages: messages::messages(&request.messages, &mut notes)?,
        tools: tools(request),
        format: match &request.response_format {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(FormatOut::Json("json")),
            ResponseFormat::JsonSchema { schema, .. } => Some(FormatOut::Schema(schema)),
        },
        think: think(request, call.upstream_id, &mut notes),
        options: options(request, call),
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs.filter(|n| *n > 0),
        stream: call.stream,
        truncate: false,
        shift: false,
    };
    note_unsaid(request, &mut notes);
    Ok(notes.written(&body))
}

/// Refuses what an answer would lack.
fn refuse(request: &Request) -> Result<(), ApiError> {
    let refused = |field, why: &str| {
        let text = format!("`{field}` is not possible with sellers that speak Ollama's grammar: {why}");
        Err(ApiError::field(field, text))
    };
    if request.choices > 1 {
        return refused("n", "ask for one answer, several times");
    }
    let must_call = matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_)));
    if must_call && !request.tools.is_empty() {
        return refused(
            "tool_choice",
            "leave the choice to the model, or name another seller in `provider.only`",
        );
    }
    Ok(())
}

/// A model that must not call a tool is told of none.
fn tools(request: &Request) -> Vec<ToolOut<'_>> {
    if request.tool_choice == Some(ToolChoice::None) {
        return Vec::new();
    }
    request.tools.iter().map(|tool| ToolOut { kind: "function", function: function(tool) }).collect()
}

fn function(tool: &Tool) -> FunctionOut<'_> {
    let none = Parameters::Empty { kind: "object", properties: NoProperties {} };
    FunctionOut {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters.as_ref().map_or(none, Parameters::Given),
    }
}

fn options<'a>(request: &'a Request, call: &Call<'_>) -> Options<'a> {
    Options {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        seed: request.seed,
        num_predict: call.max_tokens(request),
        stop: &request.stop,
        repeat_penalty: request.repetition_penalty,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
    }
}

/// The one family whose models take a word for how much to think, and cannot be told not to. All others take yes or
/// no and refuse words.
const THINKS_BY_WORDS: &str = "gpt-oss";
/// Tokens of an answer, where a budget of thinking must become a word and no limit is known.
const ANSWER_TOKENS_ASSUMED: u32 = 32_000;

fn think(request: &Request, upstream_id: &str, notes: &mut Notes) -> Option<ThinkOut> {
    let Reasoning { enabled, effort, max_tokens, exclude, .. } = request.reasoning.clone()?;
    if enabled.is_none() && effort.is_none() && max_tokens.is_none() {
        return None;
    }
    if exclude {
        notes.add("reasoning.exclude", "the seller shows what it thinks");
    }
    let is_off = enabled == Some(false)
        || (enabled.is_none() && (effort == Some(Effort::None) || max_tokens == Some(0)));
    if !upstream_id.contains(THINKS_BY_WORDS) {
        if !is_off && (effort.is_some() || max_tokens.is_some()) {
            notes.add("reasoning", "the seller knows only whether to think, not how much");
        }
        return Some(ThinkOut::Whether(!is_off));
    }
    if is_off {
        notes.add("reasoning", "cannot be switched off on this model, the least was asked for");
        return Some(ThinkOut::Word("low"));
    }
    let of_budget = |tokens: u32| {
        Effort::of_budget(tokens, request.max_tokens.unwrap_or(ANSWER_TOKENS_ASSUMED).max(tokens))
    };
    if max_tokens.is_some() {
        notes.add("reasoning.max_tokens", "this seller knows only words for it, the nearest was sent");
    }
    Some(match max_tokens.map(of_budget).or(effort) {
        None => ThinkOut::Whether(true),
        Some(Effort::None | Effort::Minimal | Effort::Low) => ThinkOut::Word("low"),
        Some(Effort::Medium) => ThinkOut::Word("medium"),
        Some(Effort::High | Effort::XHigh | Effort::Max) => ThinkOut::Word("high"),
    })
}

/// Tells of wishes that this grammar has no word for.
fn note_unsaid(request: &Request, notes: &mut Notes) {
    let is_strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    notes.add_unknown([
        ("logit_bias", !request.logit_bias.is_empty()),
        ("tools.strict", is_strict),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && !request.tools.is_empty()),
        ("verbosity", request.verbosity.is_some()),
        ("user", request.user.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
        (
            "service_tier",
            request.service_tier.as_deref().is_some_and(|tier| !matches!(tier, "auto" | "default")),
        ),
    ]);
    if request.cache.is_some() || request.tools.iter().any(|tool| tool.cache.is_some()) {
        notes.add("cache_control", "this seller keeps prefixes by itself, left out");
    }
}

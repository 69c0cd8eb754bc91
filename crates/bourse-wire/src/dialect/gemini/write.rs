//! Writing a request for a seller of this grammar.
//!
//! What this grammar has no word for (biases, cache marks, verbosity) is left out with a notice; more answers or stop
//! strings than it takes, and JSON together with tools on models that cannot have both, are refused.

mod contents;
mod model;
mod schema;
mod thinking;

use super::{CANDIDATES_MAX, STOPS_MAX};
use crate::dialect::grammar::{Call, Written};
use crate::dialect::neutral::{RawJson, Request, ResponseFormat, Tool, ToolChoice};
use crate::dialect::notes::Notes;
use crate::error::ApiError;
use contents::{ContentOut, RulesOut};
use model::Model;
use serde::Serialize;
use thinking::ThinkingOut;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<RulesOut<'a>>,
    contents: Vec<ContentOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[ToolsOut<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Settings::is_empty")]
    generation_config: Settings<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolsOut<'a> {
    function_declarations: Vec<FunctionOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Serialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Settings<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingOut>,
}

impl Settings<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The body of a call. An error names the field that this grammar cannot say.
pub(super) fn write(request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
    let model = Model::of(call.upstream_id);
    refuse(request, model)?;
    let mut notes = Notes::default();
    let (system_instruction, contents) = contents::contents(request, model, &mut notes)?;
    let body = Body {
        system_instruction,
        contents,
        tools: tools(&request.tools, &mut notes),
        tool_config: tool_config(request),
        generation_config: settings(request, call, model, &mut notes),
        service_tier: service_tier(request, &mut notes),
    };
    note_unsaid(request, &mut notes);
    Ok(notes.written(&body))
}

/// Refuses what an answer would lack, and what the seller would refuse.
fn refuse(request: &Request, model: Model) -> Result<(), ApiError> {
    let refused = |field, why: &str| {
        Err(ApiError::field(field, format!("`{field}` {why}, or name another seller in `provider.only`")))
    };
    if request.choices > CANDIDATES_MAX {
        return refused("n", "is at most 8 with sellers that speak Google's grammar: ask for fewer answers");
    }
    if request.stop.len() > STOPS_MAX {
        return refused(
            "stop",
            "holds at most 5 strings with sellers that speak Google's grammar: give fewer",
        );
    }
    let is_free = request.response_format == ResponseFormat::Text;
    if !is_free && !request.tools.is_empty() && !model.has_json_with_tools() {
        return refused(
            "response_format",
            "is not possible together with tools on this model: leave out one",
        );
    }
    Ok(())
}

fn tools<'a>(tools: &'a [Tool], notes: &mut Notes) -> Option<[ToolsOut<'a>; 1]> {
    if tools.iter().filter_map(|tool| tool.parameters.as_ref()).any(schema::has_unenforced) {
        notes.add("tools.parameters", "keywords that the seller does not enforce, sent all the same");
    }
    let write = |tool: &'a Tool| FunctionOut {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters_json_schema: tool.parameters.as_ref(),
    };
    let function_declarations: Vec<_> = tools.iter().map(write).collect();
    (!tools.is_empty()).then_some([ToolsOut { function_declarations }])
}

/// `ANY` holds calls to their schemas, and so does `VALIDATED`, which leaves the model free to call or not.
fn tool_config(request: &Request) -> Option<ToolConfig<'_>> {
    let is_strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, name) = match &request.tool_choice {
        _ if request.tools.is_empty() => return None,
        None | Some(ToolChoice::Auto) if is_strict => ("VALIDATED", None),
        None => return None,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Tool(name)) => ("ANY", Some([name.as_str()])),
    };
    Some(ToolConfig { function_calling_config: CallingConfig { mode, allowed_function_names: name } })
}

fn settings<'a>(request: &'a Request, call: &Call<'_>, model: Model, notes: &mut Notes) -> Settings<'a> {
    let (response_mime_type, response_json_schema) = match &request.response_format {
        ResponseFormat::Text => (None, None),
        ResponseFormat::JsonObject => (Some("application/json"), None),
        ResponseFormat::JsonSchema { schema, .. } => (Some("application/json"), Some(schema)),
    };
    if response_json_schema.is_some_and(schema::has_unenforced) {
        notes.add("response_format", "keywords that the seller does not enforce, sent all the same");
    }
    // Some models refuse penalties, even those that change nothing.
    let penalty = |value: Option<f64>| value.filter(|penalty| penalty.abs() > 0.0);
    Settings {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k.filter(|k| *k > 0),
        max_output_tokens: call.max_tokens(request),
        stop_sequences: &request.stop,
        candidate_count: Some(request.choices).filter(|n| *n > 1),
        seed: request.seed.map(seed),
        presence_penalty: penalty(request.presence_penalty),
        frequency_penalty: penalty(request.frequency_penalty),
        response_mime_type,
        response_json_schema,
        response_logprobs: request.logprobs.map(|_| true),
        logprobs: request.logprobs.filter(|n| *n > 0),
        thinking_config: thinking::thinking(request, call, model, notes),
    }
}

/// Seeds have 32 bits here; of a longer one both halves count, so that it still repeats.
fn seed(seed: i64) -> i32 {
    i32::try_from(seed).unwrap_or((seed ^ (seed >> 32)) as i32)
}

fn service_tier(request: &Request, notes: &mut Notes) -> Option<&'static str> {
    match request.service_tier.as_deref()? {
        "auto" => None,
        "default" => Some("standard"),
        "flex" => Some("flex"),
        "priority" => Some("priority"),
        _ => {
            notes.add("service_tier", "a tier that the seller does not have, left out");
            None
        }
    }
}

/// Tells of wishes that this grammar has no word for.
fn note_unsaid(request: &Request, notes: &mut Notes) {
    let differs = |value: Option<f64>, from: f64| value.is_some_and(|v| (v - from).abs() > 0.0);
    notes.add_unknown([
        ("min_p", differs(request.min_p, 0.0)),
        ("repetition_penalty", differs(request.repetition_penalty, 1.0)),
        ("logit_bias", !request.logit_bias.is_empty()),
        ("parallel_tool_calls", request.parallel_tool_calls == Some(false) && !request.tools.is_empty()),
        ("verbosity", request.verbosity.is_some()),
        ("user", request.user.is_some()),
        ("prompt_cache_key", request.prompt_cache_key.is_some()),
    ]);
    if request.cache.is_some() || request.tools.iter().any(|tool| tool.cache.is_some()) {
        notes.add("cache_control", "this seller keeps prefixes by itself, left out");
    }
}

//! Chats in the neutral form: the whole request, typed, for sellers that speak another grammar.
//!
//! What no other grammar can say (video, stored audio, old `functions` with `function_call` objects of other
//! kinds, …) is refused with its place; log-probabilities, bias and the like are kept and left to the writer of
//! the seller's grammar.

mod messages;

use super::details::MARKS;
use crate::dialect::Job;
use crate::dialect::neutral::{CacheMark, RawJson, Request, ResponseFormat, Tool, ToolChoice};
use crate::error::ApiError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Members that change the answer and that no other grammar has.
const ONLY_HERE: [&str; 6] = ["audio", "prediction", "web_search_options", "suffix", "echo", "image_config"];

/// The members that [`Job`] does not hold, or not exactly.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Body<'a> {
    temperature: Option<f64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    top_k: Option<u32>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    parallel_tool_calls: Option<bool>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    functions: Option<Vec<&'a RawValue>>,
    tool_choice: Option<Value>,
    function_call: Option<Value>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    modalities: Option<Vec<String>>,
    cache_control: Option<Value>,
}

/// What a chat says.
pub(crate) fn read(job: &Job) -> Result<Request, ApiError> {
    refuse_what_only_chats_say(job)?;
    let body: Body<'_> = serde_json::from_slice(&job.body).map_err(|e| {
        ApiError::new(crate::error::ErrorType::InvalidRequest, format!("a field has the wrong form: {e}"))
    })?;
    if body.modalities.as_ref().is_some_and(|list| list.iter().any(|word| word != "text")) {
        return Err(untranslatable("modalities"));
    }
    let tools = match (&body.tools, &body.functions) {
        (Some(list), _) => list.iter().enumerate().map(|(n, raw)| tool(n, raw)).collect::<Result<_, _>>()?,
        (None, Some(list)) => {
            list.iter().enumerate().map(|(n, raw)| function("functions", n, raw)).collect::<Result<_, _>>()?
        }
        (None, None) => Vec::new(),
    };
    let tool_choice = match (body.tool_choice, body.function_call) {
        (Some(choice), _) => Some(tool_choice("tool_choice", &choice)?),
        (None, Some(choice)) => Some(tool_choice("function_call", &choice)?),
        (None, None) => None,
    };
    let routing = &job.routing;
    Ok(Request {
        messages: messages::read(job.text(&job.prompt))?,
        tools,
        tool_choice,
        parallel_tool_calls: body.parallel_tool_calls,
        response_format: body.response_format.map(|raw| format(raw.get())).transpose()?.unwrap_or_default(),
        reasoning: routing.reasoning.clone(),
        verbosity: routing.verbosity.clone(),
        max_tokens: job.max_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k,
        min_p: body.min_p,
        presence_penalty: body.presence_penalty,
        frequency_penalty: body.frequency_penalty,
        repetition_penalty: body.repetition_penalty,
        logit_bias: job.sampling.logit_bias.clone(),
        logprobs: job.sampling.logprobs,
        stop: job.sampling.stop.clone(),
        seed: job.seed,
        choices: job.choices,
        user: routing.user.clone(),
        prompt_cache_key: routing.prompt_cache_key.clone(),
        cache: body
            .cache_control
            .as_ref()
            .map(|mark| cache_mark("cache_control", mark))
            .transpose()?
            .flatten(),
        // The tier belongs to the offer that is chosen, not to what is said.
        service_tier: None,
    })
}

fn refuse_what_only_chats_say(job: &Job) -> Result<(), ApiError> {
    let names = |member: &&crate::dialect::Member| ONLY_HERE.contains(&job.text(&member.key));
    let Some(member) = job.members.iter().find(names) else { return Ok(()) };
    match job.text(&member.value) {
        "null" | "false" => Ok(()),
        _ => Err(untranslatable(job.text(&member.key))),
    }
}

/// The error for what the seller's grammar cannot say.
pub(super) fn untranslatable(field: &str) -> ApiError {
    ApiError::field(
        field.to_owned(),
        format!(
            "`{field}` cannot be said in the grammar of this model's sellers: leave it out, or choose a model whose sellers speak chat completions"
        ),
    )
}

pub(super) fn bad(field: impl Into<String>, want: &str) -> ApiError {
    let field = field.into();
    let message = format!("`{field}` must be {want}");
    ApiError::field(field, message)
}

fn tool(n: usize, raw: &RawValue) -> Result<Tool, ApiError> {
    #[derive(Deserialize)]
    struct ToolJson<'a> {
        #[serde(rename = "type")]
        kind: String,
        #[serde(borrow)]
        function: Option<&'a RawValue>,
        cache_control: Option<Value>,
    }
    let field = format!("tools[{n}]");
    let json: ToolJson<'_> = serde_json::from_str(raw.get())
        .map_err(|_| bad(field.clone(), "an object with `type` and `function`"))?;
    let inner = match (json.kind.as_str(), json.function) {
        ("function", Some(inner)) => inner,
        ("function", None) => return Err(bad(format!("{field}.function"), "an object with `name`")),
        _ => return Err(untranslatable(&format!("{field}.type"))),
    };
    let mut tool = function("tools", n, inner)?;
    if let Some(mark) = &json.cache_control {
        tool.cache = cache_mark(&format!("{field}.cache_control"), mark)?;
    }
    Ok(tool)
}

fn function(list: &str, n: usize, raw: &RawValue) -> Result<Tool, ApiError> {
    #[derive(Deserialize)]
    struct FunctionJson {
        name: String,
        description: Option<String>,
        parameters: Option<RawJson>,
        strict: Option<bool>,
    }
    let json: FunctionJson = serde_json::from_str(raw.get()).map_err(|e| {
        let field = format!("{list}[{n}]");
        let message = format!("`{field}` does not have the documented form: {e}");
        ApiError::field(field, message)
    })?;
    Ok(Tool {
        name: json.name,
        description: json.description,
        parameters: json.parameters.filter(|p| p.as_str() != "null"),
        strict: json.strict,
        cache: None,
    })
}

fn tool_choice(field: &str, value: &Value) -> Result<ToolChoice, ApiError> {
    let want = "\"auto\", \"none\", \"required\", or an object that names a function";
    let name = value.pointer("/function/name").or_else(|| value.get("name")).and_then(Value::as_str);
    match (value.as_str(), name) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) => Ok(ToolChoice::Required),
        (None, Some(name)) => Ok(ToolChoice::Tool(name.to_owned())),
        (None, None) if value.get("type").is_some() => Err(untranslatable(field)),
        _ => Err(bad(field, want)),
    }
}

fn format(raw: &str) -> Result<ResponseFormat, ApiError> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(rename = "type")]
        kind: String,
        json_schema: Option<Schema>,
    }
    #[derive(Deserialize)]
    #[expect(clippy::struct_field_names, reason = "the wire's own names")]
    struct Schema {
        name: Option<String>,
        description: Option<String>,
        schema: Option<RawJson>,
        strict: Option<bool>,
    }
    if raw == "null" {
        return Ok(ResponseFormat::Text);
    }
    let want = "an object with `type` \"text\", \"json_object\" or \"json_schema\"";
    let format: Format = serde_json::from_str(raw).map_err(|_| bad("response_format", want))?;
    match (format.kind.as_str(), format.json_schema) {
        ("text", _) => Ok(ResponseFormat::Text),
        ("json_object", _) => Ok(ResponseFormat::JsonObject),
        ("json_schema", Some(Schema { name, description, schema: Some(schema), strict })) => {
            let name = name.unwrap_or_else(|| "answer".to_owned());
            Ok(ResponseFormat::JsonSchema { name, description, schema, strict })
        }
        ("json_schema", _) => Err(bad("response_format.json_schema", "an object with `name` and `schema`")),
        _ => Err(bad("response_format", want)),
    }
}

/// Reads `{"type":"ephemeral","ttl":"5m"}` or `{"mode":"explicit"}`; null is no mark.
pub(super) fn cache_mark(field: &str, value: &Value) -> Result<Option<CacheMark>, ApiError> {
    if value.is_null() {
        return Ok(None);
    }
    let object = value.as_object().ok_or_else(|| bad(field, "an object such as {\"type\":\"ephemeral\"}"))?;
    let ttl_s = match object.get("ttl") {
        None | Some(Value::Null) => None,
        Some(ttl) => Some(
            ttl.as_str().and_then(seconds).ok_or_else(|| bad(format!("{field}.ttl"), "\"5m\" or \"1h\""))?,
        ),
    };
    Ok(Some(CacheMark { ttl_s }))
}

/// The mark on a part, a message or a call, under any of its names.
pub(super) fn mark_of(
    field: &str,
    object: &serde_json::Map<String, Value>,
) -> Result<Option<CacheMark>, ApiError> {
    for name in MARKS {
        if let Some(value) = object.get(name) {
            return cache_mark(&format!("{field}.{name}"), value);
        }
    }
    Ok(None)
}

/// Seconds of `90s`, `5m`, `1h`.
fn seconds(text: &str) -> Option<u32> {
    let unit = text.chars().next_back()?;
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().ok()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests;

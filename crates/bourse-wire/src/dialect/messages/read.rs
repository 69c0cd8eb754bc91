//! Reading a request in full, for sellers of other grammars.
//!
//! Tools that the seller runs, citations and files of its containers are refused: no other grammar has them, and
//! an answer without them would look like one with them. Members of betas that only spare tokens
//! (`context_management`, `diagnostics`) are left out. The tier is not said: it belongs to the offer.

use super::blocks::{Block, CacheControl, Odd, Text, blocks};
use crate::dialect::Job;
use crate::dialect::neutral::{Message, Part, RawJson, Request, ResponseFormat, Role, Tool, ToolChoice};
use crate::error::ApiError;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<Turn<'a>>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    max_tokens: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<u32>,
    stop_sequences: Option<Vec<String>>,
    #[serde(borrow)]
    tools: Option<Vec<ToolJson<'a>>>,
    #[serde(borrow)]
    tool_choice: Option<ChoiceJson<'a>>,
    output_config: Option<OutputConfig>,
    output_format: Option<Format>,
    #[serde(borrow)]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct ToolJson<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<RawJson>,
    strict: Option<bool>,
    #[serde(borrow)]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Deserialize)]
struct ChoiceJson<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct OutputConfig {
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    schema: RawJson,
}

/// What sellers that want a name for the form of an answer are told.
const FORMAT_NAME: &str = "answer";

/// What a request says. An error names the field that no other grammar can say.
pub(in crate::dialect) fn read(job: &Job) -> Result<Request, ApiError> {
    let body: Body<'_> = serde_json::from_slice(&job.body).map_err(|error| {
        ApiError::field("messages", format!("the body does not have the documented form: {error}"))
    })?;
    let mut request =
        Request { choices: 1, messages: Vec::with_capacity(body.messages.len() + 1), ..Request::default() };
    if let Some(system) = body.system {
        let parts = parts("system", system)?;
        request.messages.push(Message { role: Role::System, parts, name: None });
    }
    for (n, turn) in body.messages.iter().enumerate() {
        push_turn(&mut request.messages, n, turn)?;
    }
    request.tools = tools(body.tools.unwrap_or_default())?;
    if let Some(choice) = body.tool_choice {
        request.parallel_tool_calls = choice.disable_parallel_tool_use.map(|disabled| !disabled);
        request.tool_choice = tool_choice(choice);
    }
    request.reasoning.clone_from(&job.routing.reasoning);
    let format = body.output_config.and_then(|config| config.format).or(body.output_format);
    if let Some(format) = format {
        request.response_format = ResponseFormat::JsonSchema {
            name: FORMAT_NAME.to_owned(),
            description: None,
            schema: format.schema,
            strict: Some(true),
        };
    }
    request.max_tokens = body.max_tokens;
    request.temperature = body.temperature;
    request.top_p = body.top_p;
    request.top_k = body.top_k;
    request.stop = body.stop_sequences.unwrap_or_default();
    request.user.clone_from(&job.routing.user);
    request.cache = body.cache_control.as_ref().map(CacheControl::mark);
    Ok(request)
}

fn odd(field: &str, odd: Odd) -> ApiError {
    match odd {
        Odd::Bad(what) => ApiError::field(field.to_owned(), format!("`{field}`: {what}")),
        Odd::OwnGrammar(what) => own_grammar(field, &what),
    }
}

/// Something that only sellers of this grammar can be told.
fn own_grammar(field: &str, what: &str) -> ApiError {
    ApiError::field(
        field.to_owned(),
        format!(
            "`{field}`: {what} known only to sellers that speak Anthropic's grammar: leave it out, or name such a seller in `provider.only`"
        ),
    )
}

fn parts(field: &str, raw: &RawValue) -> Result<Vec<Part>, ApiError> {
    super::blocks::parts(raw).map_err(|what| odd(field, what))
}

/// Appends the messages that a turn becomes: results of tools are messages of their own, in their order.
fn push_turn(messages: &mut Vec<Message>, n: usize, turn: &Turn<'_>) -> Result<(), ApiError> {
    let role = match turn.role.as_ref() {
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => Role::User,
    };
    let field = |m: usize| format!("messages[{n}].content[{m}]");
    let blocks = blocks(turn.content).map_err(|what| odd(&format!("messages[{n}].content"), what))?;
    let first = messages.len();
    for (m, block) in blocks.into_iter().enumerate() {
        let part = Block::into_part(block).map_err(|what| odd(&field(m), what))?;
        let role = if matches!(part, Part::ToolResult { .. }) { Role::Tool } else { role };
        match messages[first..].last_mut() {
            Some(last) if last.role == role => last.parts.push(part),
            _ => messages.push(Message { role, parts: vec![part], name: None }),
        }
    }
    Ok(())
}

fn tools(tools: Vec<ToolJson<'_>>) -> Result<Vec<Tool>, ApiError> {
    let read = |(n, tool): (usize, ToolJson<'_>)| {
        if let Some(kind) = tool.kind.filter(|kind| kind.0 != "custom") {
            return Err(own_grammar(&format!("tools[{n}]"), &format!("a tool of type `{}` is", kind.0)));
        }
        let name = tool.name.ok_or_else(|| {
            ApiError::field(
                format!("tools[{n}].name"),
                format!("`tools[{n}].name` is missing: name the tool"),
            )
        })?;
        Ok(Tool {
            name,
            description: tool.description,
            parameters: tool.input_schema,
            strict: tool.strict,
            cache: tool.cache_control.as_ref().map(CacheControl::mark),
        })
    };
    tools.into_iter().enumerate().map(read).collect()
}

fn tool_choice(choice: ChoiceJson<'_>) -> Option<ToolChoice> {
    match choice.kind.as_ref() {
        "auto" => Some(ToolChoice::Auto),
        "any" => Some(ToolChoice::Required),
        "none" => Some(ToolChoice::None),
        _ => choice.name.map(ToolChoice::Tool),
    }
}

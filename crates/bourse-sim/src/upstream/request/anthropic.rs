//! Reads Anthropic messages, strictly.
//!
//! Source: Anthropic's API reference of `POST /v1/messages`, its pages on tool use, extended thinking and
//! prompt caching, and error texts as clients have reported them. Turns of one role in a row are allowed,
//! as documented: the API joins them. Server tools are taken by their type and do nothing.

mod blocks;

use super::field::Field;
use super::turns::OpenCalls;
use super::{Call, CallError, Format, Parallel, Thinking, Tool, ToolChoice};
use crate::upstream::config::SellerConfig;
use crate::upstream::http::HttpRequest;
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::{Action, Shape};
use serde_json::Value;
use std::time::Duration;

/// Places in a request that may be marked for the cache.
const CACHE_MARKS_MAX: usize = 4;
/// Smallest budget of thinking.
const THINKING_TOKENS_MIN: u64 = 1_024;
/// Longest name of a tool.
const TOOL_NAME_MAX: usize = 128;
const KNOWN: [&str; 22] = [
    "model",
    "messages",
    "max_tokens",
    "system",
    "metadata",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "tools",
    "tool_choice",
    "thinking",
    "service_tier",
    "container",
    "context_management",
    "mcp_servers",
    "cache_control",
    "output_config",
    "output_format",
    "inference_geo",
    "speed",
];

/// What a count of tokens takes: what makes the prompt, and nothing of the answer.
const KNOWN_TO_COUNT: [&str; 10] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "context_management",
    "mcp_servers",
    "cache_control",
    "output_config",
];

/// Reads a call.
pub(super) fn read(
    root: &Field<'_>,
    action: Action,
    http: &HttpRequest,
    config: &SellerConfig,
) -> Result<Call, CallError> {
    if http.header("anthropic-version").is_none() {
        return Err(CallError::refused("anthropic-version: header is required"));
    }
    root.only(if action == Action::CountTokens { &KNOWN_TO_COUNT } else { &KNOWN })?;
    root.get("metadata").given().map_or(Ok(()), |metadata| metadata.only(&["user_id"]))?;
    let model = root.get("model").str()?;
    let mut reader = Reader {
        config,
        prompt: Prompt::framed(),
        open: OpenCalls::default(),
        marks: Marks::default(),
        at: 0,
    };
    reader.prompt.preamble(model);
    let tools = reader.tools(&root.get("tools"))?;
    reader.system(&root.get("system"))?;
    let has_tool_result = reader.messages(&root.get("messages"))?;
    if let Some(ttl) = reader.marks.read(root)? {
        reader.prompt.mark_last(ttl);
    }
    let mut call = Call::new(Shape::Messages, model, reader.prompt);
    call.has_tool_result = has_tool_result;
    (call.tool_choice, call.parallel) = read_tool_choice(&root.get("tool_choice"), &tools)?;
    call.tools = tools;
    let most = root.get("max_tokens");
    call.max_tokens =
        if action == Action::CountTokens { most.optional_count(1)? } else { Some(most.count(1)?) };
    call.thinking = read_thinking(&root.get("thinking"), &call)?;
    let most = if call.thinking == Thinking::Off { 0.0 } else { 1.0 };
    root.get("temperature").optional_number(most, 1.0)?;
    root.get("top_p").optional_number(0.0, 1.0)?;
    root.get("top_k").optional_count(0)?;
    for stop in root.get("stop_sequences").optional_items()? {
        if stop.str()?.trim().is_empty() {
            return Err(stop.wrong("a string with more than white space"));
        }
    }
    call.format = read_format(root)?;
    call.stream = root.get("stream").flag()?;
    Ok(call)
}

/// Marks for the cache: how many, and in which order.
#[derive(Debug, Default)]
struct Marks {
    count: usize,
    has_short: bool,
}

impl Marks {
    /// The mark of a block, if it has one.
    fn read(&mut self, block: &Field<'_>) -> Result<Option<Duration>, CallError> {
        let mark = block.get("cache_control");
        if !mark.is_given() {
            return Ok(None);
        }
        mark.only(&["type", "ttl"])?;
        mark.get("type").one_of(&["ephemeral"])?;
        let ttl = mark.get("ttl");
        let long = ttl.is_given() && ttl.one_of(&["5m", "1h"])? == "1h";
        if long && self.has_short {
            return Err(CallError::refused(format!(
                "{}.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
                mark.path()
            )));
        }
        self.has_short |= !long;
        self.count += 1;
        if self.count > CACHE_MARKS_MAX {
            return Err(CallError::refused(format!(
                "A maximum of {CACHE_MARKS_MAX} blocks with cache_control may be provided. Found {}.",
                self.count
            )));
        }
        Ok(Some(if long { Duration::from_hours(1) } else { Duration::from_mins(5) }))
    }
}

struct Reader<'a> {
    config: &'a SellerConfig,
    prompt: Prompt,
    open: OpenCalls,
    marks: Marks,
    /// Number of the message that is read.
    at: usize,
}

impl Reader<'_> {
    fn tools(&mut self, field: &Field<'_>) -> Result<Vec<Tool>, CallError> {
        let mut tools: Vec<Tool> = Vec::new();
        for tool in field.optional_items()? {
            let name = tool.get("name").name(TOOL_NAME_MAX)?.to_owned();
            if tools.iter().any(|other| other.name == name) {
                return Err(CallError::refused("tools: Tool names must be unique."));
            }
            self.marks.read(&tool)?;
            let kind = tool.get("type").optional_str()?.unwrap_or("custom");
            let schema = tool.get("input_schema");
            if kind == "custom" {
                tool.only(&[
                    "type",
                    "name",
                    "description",
                    "input_schema",
                    "cache_control",
                    "strict",
                    "eager_input_streaming",
                    "defer_loading",
                    "allowed_callers",
                    "input_examples",
                ])?;
                schema.get("type").one_of(&["object"])?;
            }
            self.prompt.preamble(&tool.value.to_string());
            tools.push(Tool { name, schema: schema.value.clone() });
        }
        Ok(tools)
    }

    fn system(&mut self, field: &Field<'_>) -> Result<(), CallError> {
        match field.value {
            Value::Null => {}
            Value::String(text) => {
                self.prompt.message("system");
                self.prompt.text(text, None);
            }
            _ => {
                self.prompt.message("system");
                for block in field.items()? {
                    block.get("type").one_of(&["text"])?;
                    self.text(&block)?;
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "text", "cache_control", "citations"])?;
        let text = block.get("text").str()?;
        if text.is_empty() {
            return Err(CallError::refused(format!(
                "{}: text content blocks must be non-empty",
                block.path()
            )));
        }
        let mark = self.marks.read(block)?;
        self.prompt.text(text, mark);
        Ok(())
    }
}

fn read_tool_choice(field: &Field<'_>, tools: &[Tool]) -> Result<(ToolChoice, Parallel), CallError> {
    if !field.is_given() {
        return Ok((ToolChoice::Auto, Parallel::Unsaid));
    }
    field.only(&["type", "name", "disable_parallel_tool_use"])?;
    let kind = field.get("type").one_of(&["auto", "any", "tool", "none"])?;
    if tools.is_empty() && kind != "none" {
        return Err(CallError::refused("tool_choice: may only be specified while providing tools."));
    }
    let choice = match kind {
        "any" => ToolChoice::Any,
        "none" => ToolChoice::Never,
        "tool" => {
            let chosen = field.get("name").str()?;
            if !tools.iter().any(|tool| tool.name == chosen) {
                let message = format!("tool_choice.name: Tool '{chosen}' not found in provided tools");
                return Err(CallError::refused(message));
            }
            ToolChoice::Named(chosen.to_owned())
        }
        _ => ToolChoice::Auto,
    };
    let parallel = field.get("disable_parallel_tool_use").flag()?;
    Ok((choice, if parallel { Parallel::Forbidden } else { Parallel::Unsaid }))
}

fn read_thinking(field: &Field<'_>, call: &Call) -> Result<Thinking, CallError> {
    if !field.is_given() {
        return Ok(Thinking::Off);
    }
    let thinks = match field.get("type").one_of(&["enabled", "disabled", "adaptive"])? {
        "disabled" => return Ok(Thinking::Off),
        "enabled" => {
            let tokens = field.get("budget_tokens").count(THINKING_TOKENS_MIN)?;
            if call.max_tokens.is_some_and(|most| most <= tokens) {
                return Err(CallError::refused(
                    "`max_tokens` must be greater than `thinking.budget_tokens`.",
                ));
            }
            Thinking::Shown
        }
        _ => Thinking::Shown,
    };
    if matches!(call.tool_choice, ToolChoice::Any | ToolChoice::Named(_)) {
        return Err(CallError::refused("Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(thinks)
}

fn read_format(root: &Field<'_>) -> Result<Format, CallError> {
    let config = root.get("output_config").get("format");
    let field = if config.is_given() { config } else { root.get("output_format") };
    if !field.is_given() {
        return Ok(Format::Text);
    }
    field.get("type").one_of(&["json_schema"])?;
    field.get("schema").object()?;
    Ok(Format::Schema(field.get("schema").value.clone()))
}

//! Reads Anthropic messages, strictly.
//!
//! Source: Anthropic's API reference of `POST /v1/messages`, its pages on tool use, extended thinking and
//! prompt caching, and error texts as clients have reported them. Turns of one role in a row are allowed,
//! as documented: the API joins them. Server tools are taken by their type and do nothing.

use super::field::Field;
use super::turns::OpenCalls;
use super::{Call, CallError, Format, Parallel, Thinking, Tool, ToolChoice};
use crate::upstream::config::SellerConfig;
use crate::upstream::http::HttpRequest;
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::{Action, Shape};
use crate::upstream::signature;
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

    /// Reads the conversation; true when it ends in a tool's result.
    fn messages(&mut self, field: &Field<'_>) -> Result<bool, CallError> {
        let messages = field.items()?;
        if messages.is_empty() {
            return Err(CallError::refused("messages: at least one message is required"));
        }
        let mut ends_in_result = false;
        for (at, message) in messages.iter().enumerate() {
            message.only(&["role", "content"])?;
            let role = message.get("role").str()?;
            match role {
                "user" | "assistant" => {}
                "system" => {
                    return Err(CallError::refused(
                        "messages: Unexpected role \"system\". The Messages API accepts a top-level `system` \
                         parameter, not \"system\" as an input message role.",
                    ));
                }
                _ => return Err(message.get("role").wrong("'user' or 'assistant'")),
            }
            if at == 0 && role != "user" {
                return Err(CallError::refused("messages: first message must use the \"user\" role"));
            }
            self.at = at;
            self.prompt.message(role);
            let is_last = at + 1 == messages.len();
            ends_in_result = self.content(message, role, is_last)?;
            if role == "user" {
                self.refuse_unanswered()?;
            }
        }
        self.at = messages.len();
        self.refuse_unanswered()?;
        Ok(ends_in_result)
    }

    fn refuse_unanswered(&self) -> Result<(), CallError> {
        if self.open.waiting().is_empty() {
            return Ok(());
        }
        Err(CallError::refused(format!(
            "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
             `tool_use` block must have a corresponding `tool_result` block in the next message.",
            self.at.saturating_sub(1),
            self.open.waiting().join(", ")
        )))
    }

    fn content(&mut self, message: &Field<'_>, role: &str, is_last: bool) -> Result<bool, CallError> {
        let content = message.get("content");
        if let Value::String(text) = content.value {
            if text.is_empty() && !(is_last && role == "assistant") {
                return Err(CallError::refused(format!(
                    "{}: all messages must have non-empty content except for the optional final assistant message",
                    message.path()
                )));
            }
            if is_last && role == "assistant" && text.ends_with(char::is_whitespace) {
                return Err(CallError::refused(
                    "messages: final assistant content cannot end with trailing whitespace",
                ));
            }
            self.prompt.text(text, None);
            return Ok(false);
        }
        let blocks = content.items()?;
        if blocks.is_empty() && !(is_last && role == "assistant") {
            return Err(content.wrong("a list with at least one block"));
        }
        let (mut has_result, mut has_other) = (false, false);
        for block in &blocks {
            if role == "assistant" {
                self.assistant_block(block)?;
            } else if block.get("type").value == "tool_result" {
                // A result behind other content does not count as following its call.
                if has_other {
                    self.refuse_unanswered()?;
                }
                has_result = true;
                self.tool_result(block)?;
            } else {
                has_other = true;
                self.user_block(block)?;
            }
        }
        Ok(has_result)
    }

    fn user_block(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        match block.get("type").one_of(&["text", "image", "document", "search_result", "tool_result"])? {
            "text" => self.text(block),
            "image" => self.image(block),
            _ => {
                let mark = self.marks.read(block)?;
                self.prompt.silent(&block.value.to_string(), mark);
                Ok(())
            }
        }
    }

    fn image(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "source", "cache_control"])?;
        let source = block.get("source");
        let data = match source.get("type").one_of(&["base64", "url", "file"])? {
            "base64" => {
                let kinds = ["image/jpeg", "image/png", "image/gif", "image/webp"];
                source.get("media_type").one_of(&kinds)?;
                source.get("data").str()?
            }
            "url" => source.get("url").str()?,
            _ => source.get("file_id").str()?,
        };
        let mark = self.marks.read(block)?;
        self.prompt.image(data, mark);
        Ok(())
    }

    fn tool_result(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
        let id = block.get("tool_use_id").str()?;
        if !self.open.answered(id) {
            return Err(CallError::refused(format!(
                "{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must \
                 have a corresponding `tool_use` block in the previous message.",
                block.path()
            )));
        }
        block.get("is_error").flag()?;
        let content = block.get("content");
        match content.value {
            Value::Null => {}
            Value::String(text) => self.prompt.text(text, None),
            _ => {
                for part in content.items()? {
                    match part.get("type").one_of(&["text", "image", "document", "search_result"])? {
                        "text" => self.text(&part)?,
                        "image" => self.image(&part)?,
                        _ => self.prompt.silent(&part.value.to_string(), None),
                    }
                }
            }
        }
        let mark = self.marks.read(block)?;
        self.prompt.silent(id, mark);
        Ok(())
    }

    fn assistant_block(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        let seller = &self.config.name;
        match block.get("type").str()? {
            "text" => self.text(block),
            "thinking" => {
                block.only(&["type", "thinking", "signature"])?;
                let (text, signature) = (block.get("thinking").str()?, block.get("signature").str()?);
                if !signature::is_valid(seller, text, signature) {
                    let path = block.path();
                    let text = format!("{path}: Invalid `signature` in `thinking` block");
                    return Err(CallError::refused(text));
                }
                self.prompt.silent(text, None);
                Ok(())
            }
            "redacted_thinking" => {
                block.only(&["type", "data"])?;
                let data = block.get("data").str()?;
                if !signature::is_own(seller, data) {
                    let path = block.path();
                    let text = format!("{path}: Invalid `data` in `redacted_thinking` block");
                    return Err(CallError::refused(text));
                }
                self.prompt.silent(data, None);
                Ok(())
            }
            "tool_use" => self.tool_use(block),
            "server_tool_use" | "web_search_tool_result" | "code_execution_tool_result" => {
                self.prompt.silent(&block.value.to_string(), None);
                Ok(())
            }
            other => Err(block.get("type").wrong(format!("a block of an assistant, not '{other}'"))),
        }
    }

    fn tool_use(&mut self, block: &Field<'_>) -> Result<(), CallError> {
        block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
        let id = block.get("id").name(256)?;
        block.get("name").name(TOOL_NAME_MAX)?;
        if !block.get("input").value.is_object() {
            return Err(block.get("input").wrong("a valid dictionary"));
        }
        if !self.open.called(id) {
            let message = format!("{}: `tool_use` ids must be unique", block.path());
            return Err(CallError::refused(message));
        }
        let mark = self.marks.read(block)?;
        self.prompt.silent(&block.get("input").value.to_string(), mark);
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

//! Reads Cohere's chat, version 2.
//!
//! Source: Cohere's reference of `POST /v2/chat` and its page on errors. Fields that it does not know are refused, the
//! system's turn stands first, texts are not empty, and JSON beside tools is not taken. Thinking is on unless it is
//! switched off.

use super::chat::read_tools;
use super::field::Field;
use super::turns::OpenCalls;
use super::{Call, CallError, Format, Thinking, ToolChoice};
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::Shape;
use serde_json::Value;

const FIELDS: [&str; 22] = [
    "model",
    "messages",
    "tools",
    "strict_tools",
    "tool_choice",
    "documents",
    "citation_options",
    "response_format",
    "safety_mode",
    "max_tokens",
    "stop_sequences",
    "temperature",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "k",
    "p",
    "logprobs",
    "thinking",
    "priority",
    "stream",
    // The simulator's own way to be told a fault.
    "metadata",
];
/// Most stop sequences.
const STOPS_MAX: usize = 5;
/// Largest `k`.
const K_MAX: f64 = 500.0;

/// Reads a call.
pub(super) fn read(root: &Field<'_>) -> Result<Call, CallError> {
    root.only(&FIELDS)?;
    let model = root.get("model").str()?;
    let mut prompt = Prompt::framed();
    prompt.preamble(model);
    prompt.preamble(&root.get("tools").value.to_string());
    let has_tool_result = read_messages(&root.get("messages"), &mut prompt)?;
    let mut call = Call::new(Shape::Cohere, model, prompt);
    call.has_tool_result = has_tool_result;
    for tool in root.get("tools").optional_items()? {
        tool.get("function").get("parameters").object()?;
    }
    call.tools = read_tools(&root.get("tools"))?;
    root.get("strict_tools").flag()?;
    let choice = root.get("tool_choice");
    call.tool_choice = match choice.optional_str()? {
        None => ToolChoice::Auto,
        Some("NONE") => ToolChoice::Never,
        Some("REQUIRED") if call.tools.is_empty() => {
            return Err(CallError::refused("invalid request: tool_choice needs tools"));
        }
        Some("REQUIRED") => ToolChoice::Any,
        Some(_) => return Err(choice.wrong("REQUIRED or NONE")),
    };
    call.format = read_format(&root.get("response_format"))?;
    if call.format != Format::Text && !call.tools.is_empty() {
        return Err(CallError::refused("invalid request: response_format is not supported with tools."));
    }
    let thinking = root.get("thinking");
    call.thinking = Thinking::Shown;
    if thinking.is_given() {
        thinking.only(&["type", "token_budget"])?;
        thinking.get("token_budget").optional_count(1)?;
        if thinking.get("type").one_of(&["enabled", "disabled"])? == "disabled" {
            call.thinking = Thinking::Off;
        }
    }
    read_limits(root, &mut call)?;
    Ok(call)
}

fn read_limits(root: &Field<'_>, call: &mut Call) -> Result<(), CallError> {
    call.max_tokens = root.get("max_tokens").optional_count(1)?;
    call.stream = root.get("stream").flag()?;
    root.get("logprobs").flag()?;
    root.get("seed").optional_count(0)?;
    root.get("temperature").optional_number(0.0, 1.0)?;
    root.get("p").optional_number(0.01, 0.99)?;
    root.get("k").optional_number(0.0, K_MAX)?;
    let penalties = ["frequency_penalty", "presence_penalty"].map(|name| root.get(name));
    for penalty in &penalties {
        penalty.optional_number(0.0, 1.0)?;
    }
    if penalties.iter().all(|penalty| penalty.value.as_f64().is_some_and(|value| value > 0.0)) {
        let both = "invalid request: cannot specify both frequency_penalty and presence_penalty.";
        return Err(CallError::refused(both));
    }
    let stops = root.get("stop_sequences");
    if stops.optional_items()?.len() > STOPS_MAX {
        return Err(stops.wrong("a list of at most 5 strings"));
    }
    Ok(())
}

/// Reads the conversation; true when it ends in a tool's result.
fn read_messages(field: &Field<'_>, prompt: &mut Prompt) -> Result<bool, CallError> {
    let messages = field.items()?;
    if messages.is_empty() {
        return Err(field.wrong("a list with at least one message"));
    }
    let mut open = OpenCalls::default();
    let mut is_result = false;
    for (n, message) in messages.iter().enumerate() {
        let role = message.get("role").one_of(&["system", "user", "assistant", "tool"])?;
        is_result = role == "tool";
        if role == "system" && n > 0 {
            return Err(CallError::refused("system turn must be the first in the list"));
        }
        if role == "tool" && !open.answered(message.get("tool_call_id").str()?) {
            return Err(CallError::refused("tool call id not found in previous tool calls"));
        }
        prompt.message(role);
        read_content(message, role, prompt)?;
        let plan = message.get("tool_plan").optional_str()?;
        for call in message.get("tool_calls").optional_items()? {
            call.get("type").one_of(&["function"])?;
            let function = call.get("function");
            function.get("name").str()?;
            function.get("arguments").str()?;
            if !open.called(call.get("id").str()?) {
                return Err(CallError::refused("cannot have duplicate tool ids"));
            }
            prompt.silent(&format!("{plan:?}{}", function.value), None);
        }
    }
    Ok(is_result)
}

fn read_content(message: &Field<'_>, role: &str, prompt: &mut Prompt) -> Result<(), CallError> {
    let empty = || CallError::refused("message must not be empty in a turn");
    let content = message.get("content");
    let has_calls = message.get("tool_calls").is_given();
    match content.value {
        Value::Null if role == "assistant" && has_calls => return Ok(()),
        Value::Null => return Err(empty()),
        Value::String(text) if text.is_empty() => return Err(empty()),
        Value::String(text) => prompt.text(text, None),
        _ => {
            let known: &[&str] = match role {
                "user" => &["text", "image_url"],
                "assistant" => &["text", "thinking"],
                "tool" => &["text", "document"],
                _ => &["text"],
            };
            for block in content.items()? {
                match block.get("type").one_of(known)? {
                    "image_url" => {
                        let image = block.get("image_url");
                        image.get("detail").optional_str()?;
                        prompt.image(image.get("url").str()?, None);
                    }
                    "text" if block.get("text").str()?.is_empty() => return Err(empty()),
                    "text" => prompt.text(block.get("text").str()?, None),
                    "thinking" => prompt.silent(block.get("thinking").str()?, None),
                    _ => {
                        block.get("document").get("data").object()?;
                        prompt.silent(&block.value.to_string(), None);
                    }
                }
            }
        }
    }
    Ok(())
}

fn read_format(field: &Field<'_>) -> Result<Format, CallError> {
    if !field.is_given() {
        return Ok(Format::Text);
    }
    field.only(&["type", "json_schema"])?;
    let schema = field.get("json_schema");
    Ok(match field.get("type").one_of(&["text", "json_object"])? {
        "json_object" if schema.is_given() => {
            schema.object()?;
            Format::Schema(schema.value.clone())
        }
        "json_object" => Format::Json,
        _ => Format::Text,
    })
}

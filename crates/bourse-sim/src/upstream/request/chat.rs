//! Reads OpenAI chat completions and text completions.
//!
//! Source: OpenAI's API reference of `POST /v1/chat/completions`. Unknown top-level fields are ignored, as
//! the engines that imitate this API do.

use super::field::Field;
use super::turns::OpenCalls;
use super::{CHOICES_MAX, Call, CallError, Format, Parallel, Thinking, Tool, ToolChoice};
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::Shape;
use serde_json::Value;

/// Longest name of a function.
const FUNCTION_NAME_MAX: usize = 64;
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Reads a chat.
pub(super) fn read(root: &Field<'_>) -> Result<Call, CallError> {
    let model = root.get("model").str()?;
    let mut prompt = Prompt::framed();
    prompt.preamble(model);
    prompt.preamble(&root.get("tools").value.to_string());
    let has_tool_result = read_messages(&root.get("messages"), &mut prompt)?;
    let mut call = Call::new(Shape::Chat, model, prompt);
    call.has_tool_result = has_tool_result;
    call.tools = read_tools(&root.get("tools"))?;
    call.tool_choice = read_tool_choice(&root.get("tool_choice"), &call.tools)?;
    call.parallel = read_parallel(&root.get("parallel_tool_calls"))?;
    call.format = read_format(&root.get("response_format"))?;
    call.thinking = match root.get("reasoning_effort").optional_str()? {
        Some("none") => Thinking::Off,
        _ => Thinking::Shown,
    };
    read_limits(root, &mut call)?;
    Ok(call)
}

/// Reads a text completion.
pub(super) fn read_completion(root: &Field<'_>) -> Result<Call, CallError> {
    let model = root.get("model").str()?;
    let mut prompt = Prompt::bare();
    prompt.preamble(model);
    let field = root.get("prompt");
    match field.value {
        Value::String(text) => {
            prompt.message("");
            prompt.text(text, None);
        }
        _ => {
            for item in field.items()? {
                prompt.message("");
                // A list of token numbers is allowed, and means nothing to a seller without a tokenizer.
                prompt.text(item.value.as_str().unwrap_or_default(), None);
            }
        }
    }
    let mut call = Call::new(Shape::Completions, model, prompt);
    read_limits(root, &mut call)?;
    Ok(call)
}

fn read_limits(root: &Field<'_>, call: &mut Call) -> Result<(), CallError> {
    let new = root.get("max_completion_tokens").optional_count(1)?;
    let least = u64::from(call.shape == Shape::Chat);
    call.max_tokens = new.or(root.get("max_tokens").optional_count(least)?).filter(|n| *n > 0);
    call.choices = root.get("n").optional_count(1)?.unwrap_or(1).min(CHOICES_MAX) as usize;
    call.stream = root.get("stream").flag()?;
    root.get("temperature").optional_number(0.0, 2.0)?;
    root.get("top_p").optional_number(0.0, 1.0)?;
    let options = root.get("stream_options");
    if options.is_given() && !call.stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        let param = Some("stream_options".to_owned());
        return Err(CallError::Refused { message: message.to_owned(), param, code: None });
    }
    call.include_usage = options.get("include_usage").flag()?;
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
    for message in &messages {
        let role = message.get("role").one_of(&ROLES)?;
        is_result = role == "tool" || role == "function";
        if role == "tool" {
            let id = message.get("tool_call_id").str()?;
            if !open.answered(id) {
                let text = "messages with role 'tool' must be a response to a preceding message with \
                            'tool_calls'.";
                let param = Some(format!("{}.role", super::bracketed(message.path())));
                return Err(CallError::Refused { message: text.to_owned(), param, code: None });
            }
        } else {
            refuse_unanswered(&open)?;
        }
        prompt.message(role);
        read_message(message, role, &mut open, prompt)?;
    }
    refuse_unanswered(&open)?;
    Ok(is_result)
}

fn refuse_unanswered(open: &OpenCalls) -> Result<(), CallError> {
    if open.waiting().is_empty() {
        return Ok(());
    }
    let ids = open.waiting().join(", ");
    let message = format!(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
         'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
    );
    Err(CallError::Refused { message, param: Some("messages".to_owned()), code: None })
}

fn read_message(
    message: &Field<'_>,
    role: &str,
    open: &mut OpenCalls,
    prompt: &mut Prompt,
) -> Result<(), CallError> {
    let calls = message.get("tool_calls");
    if role == "assistant" {
        for call in calls.optional_items()? {
            call.get("type").one_of(&["function", "custom"])?;
            let function = call.get("function");
            if call.get("type").value == "function" {
                function.get("name").str()?;
                function.get("arguments").str()?;
            }
            open.called(call.get("id").str()?);
            prompt.silent(&function.value.to_string(), None);
        }
    }
    let content = message.get("content");
    let may_be_empty = role == "function"
        || role == "assistant"
            && ["tool_calls", "refusal", "function_call", "audio"].iter().any(|m| message.get(m).is_given());
    match content.value {
        Value::String(text) => prompt.text(text, None),
        Value::Null if may_be_empty => {}
        Value::Array(_) => {
            for part in content.items()? {
                read_part(&part, role, prompt)?;
            }
        }
        _ => {
            content.str()?;
        }
    }
    Ok(())
}

fn read_part(part: &Field<'_>, role: &str, prompt: &mut Prompt) -> Result<(), CallError> {
    let known: &[&str] = match role {
        "user" => &["text", "image_url", "input_audio", "file", "video_url"],
        "assistant" => &["text", "refusal"],
        _ => &["text"],
    };
    match part.get("type").one_of(known)? {
        "image_url" => prompt.image(part.get("image_url").get("url").str()?, None),
        "text" => prompt.text(part.get("text").str()?, None),
        "refusal" => prompt.text(part.get("refusal").str()?, None),
        other => {
            part.get(other).object()?;
            prompt.silent(&part.value.to_string(), None);
        }
    }
    Ok(())
}

/// Tools as Chat and Ollama list them.
pub(super) fn read_tools(field: &Field<'_>) -> Result<Vec<Tool>, CallError> {
    let mut tools = Vec::new();
    for tool in field.optional_items()? {
        if tool.get("type").one_of(&["function", "custom"])? == "custom" {
            tool.get("custom").get("name").name(FUNCTION_NAME_MAX)?;
            continue;
        }
        let function = tool.get("function");
        let name = function.get("name").name(FUNCTION_NAME_MAX)?.to_owned();
        let parameters = function.get("parameters");
        if parameters.is_given() {
            parameters.object()?;
        }
        tools.push(Tool { name, schema: parameters.value.clone() });
    }
    Ok(tools)
}

fn read_tool_choice(field: &Field<'_>, tools: &[Tool]) -> Result<ToolChoice, CallError> {
    if !field.is_given() {
        return Ok(ToolChoice::Auto);
    }
    if tools.is_empty() && field.value != "none" && field.value != "auto" {
        return Err(CallError::Refused {
            message:
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
                    .to_owned(),
            param: Some("tool_choice".to_owned()),
            code: None,
        });
    }
    if field.value.is_string() {
        return Ok(match field.one_of(&["none", "auto", "required"])? {
            "none" => ToolChoice::Never,
            "required" => ToolChoice::Any,
            _ => ToolChoice::Auto,
        });
    }
    match field.get("type").one_of(&["function", "allowed_tools", "custom"])? {
        "function" => {
            let name = field.get("function").get("name");
            named(&name, tools)
        }
        _ => Ok(ToolChoice::Auto),
    }
}

/// A choice by name, which must be offered.
pub(super) fn named(name: &Field<'_>, tools: &[Tool]) -> Result<ToolChoice, CallError> {
    let chosen = name.str()?;
    if tools.iter().any(|tool| tool.name == chosen) {
        Ok(ToolChoice::Named(chosen.to_owned()))
    } else {
        Err(name.wrong(format!("the name of a tool in 'tools', not '{chosen}'")))
    }
}

/// `parallel_tool_calls`.
pub(super) fn read_parallel(field: &Field<'_>) -> Result<Parallel, CallError> {
    Ok(match (field.is_given(), field.flag()?) {
        (false, _) => Parallel::Unsaid,
        (true, true) => Parallel::Wanted,
        (true, false) => Parallel::Forbidden,
    })
}

fn read_format(field: &Field<'_>) -> Result<Format, CallError> {
    if !field.is_given() {
        return Ok(Format::Text);
    }
    Ok(match field.get("type").one_of(&["text", "json_object", "json_schema"])? {
        "json_object" => Format::Json,
        "json_schema" => {
            let named = field.get("json_schema");
            named.get("name").name(FUNCTION_NAME_MAX)?;
            let schema = named.get("schema");
            schema.object()?;
            Format::Schema(schema.value.clone())
        }
        _ => Format::Text,
    })
}

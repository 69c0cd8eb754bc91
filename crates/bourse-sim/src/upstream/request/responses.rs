//! Reads OpenAI responses, strictly.
//!
//! Source: OpenAI's API reference of `POST /v1/responses`, and error texts as clients have reported them.
//! Nothing is stored: `previous_response_id` names a response that is not found. Tools other than functions
//! are taken by their type and do nothing.

use super::chat::{named, read_parallel};
use super::field::Field;
use super::turns::OpenCalls;
use super::{Call, CallError, Format, Seal, Thinking, Tool, ToolChoice};
use crate::upstream::config::SellerConfig;
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::Shape;
use crate::upstream::signature;
use serde_json::Value;

/// Smallest limit on output that OpenAI takes.
const OUTPUT_TOKENS_MIN: u64 = 16;
const NAME_MAX: usize = 64;
const KNOWN: [&str; 32] = [
    "model",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "background",
    "conversation",
    "context_management",
    "include",
    "moderation",
    "verbosity",
];

/// Reads a call.
pub(super) fn read(root: &Field<'_>, config: &SellerConfig) -> Result<Call, CallError> {
    root.only(&KNOWN)?;
    let model = root.get("model").str()?;
    if let Some(id) = root.get("previous_response_id").optional_str()? {
        return Err(CallError::Refused {
            message: format!("Previous response with id '{id}' not found."),
            param: Some("previous_response_id".to_owned()),
            code: Some("previous_response_not_found"),
        });
    }
    let mut prompt = Prompt::framed();
    prompt.preamble(model);
    prompt.preamble(&root.get("tools").value.to_string());
    if let Some(text) = root.get("instructions").optional_str()? {
        prompt.message("system");
        prompt.text(text, None);
    }
    let has_tool_result = read_input(&root.get("input"), &mut prompt, config)?;
    let mut call = Call::new(Shape::Responses, model, prompt);
    call.has_tool_result = has_tool_result;
    call.tools = read_tools(&root.get("tools"))?;
    call.tool_choice = read_tool_choice(&root.get("tool_choice"), &call.tools)?;
    call.parallel = read_parallel(&root.get("parallel_tool_calls"))?;
    call.max_tokens = read_limit(&root.get("max_output_tokens"))?;
    root.get("temperature").optional_number(0.0, 2.0)?;
    root.get("top_p").optional_number(0.0, 1.0)?;
    call.stream = root.get("stream").flag()?;
    call.format = read_format(&root.get("text").get("format"))?;
    call.thinking = read_thinking(&root.get("reasoning"))?;
    for wish in root.get("include").optional_items()? {
        if wish.str()? == "reasoning.encrypted_content" {
            call.seal = Seal::Wanted;
        }
    }
    Ok(call)
}

fn read_limit(field: &Field<'_>) -> Result<Option<u64>, CallError> {
    let tokens = field.optional_count(0)?;
    match tokens {
        Some(tokens) if tokens < OUTPUT_TOKENS_MIN => Err(CallError::Refused {
            message: format!(
                "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= \
                 {OUTPUT_TOKENS_MIN}, but got {tokens} instead."
            ),
            param: Some("max_output_tokens".to_owned()),
            code: Some("integer_below_min_value"),
        }),
        _ => Ok(tokens),
    }
}

/// Reads the conversation; true when it ends in a tool's result.
fn read_input(field: &Field<'_>, prompt: &mut Prompt, config: &SellerConfig) -> Result<bool, CallError> {
    if let Value::String(text) = field.value {
        prompt.message("user");
        prompt.text(text, None);
        return Ok(false);
    }
    let items = field.items()?;
    if items.is_empty() {
        return Err(field.wrong("a string or a list with at least one item"));
    }
    let mut open = OpenCalls::default();
    let mut is_result = false;
    for item in &items {
        let kind = item.get("type").optional_str()?.unwrap_or("message");
        is_result = kind == "function_call_output";
        match kind {
            "message" => read_message(item, prompt)?,
            "function_call" => {
                item.get("name").name(NAME_MAX)?;
                item.get("arguments").str()?;
                open.called(item.get("call_id").str()?);
                prompt.silent(&item.value.to_string(), None);
            }
            "function_call_output" => read_output(item, &mut open, prompt)?,
            "reasoning" => read_reasoning(item, prompt, config)?,
            "item_reference" => {
                let id = item.get("id").str()?;
                return Err(CallError::refused(format!("Item with id '{id}' not found.")));
            }
            other => {
                let kinds = "'message', 'function_call', 'function_call_output' or 'reasoning'";
                return Err(item.get("type").wrong(format!("{kinds}, not '{other}'")));
            }
        }
    }
    match open.waiting().first() {
        Some(id) => Err(CallError::Refused {
            message: format!("No tool output found for function call {id}."),
            param: Some("input".to_owned()),
            code: None,
        }),
        None => Ok(is_result),
    }
}

fn read_message(item: &Field<'_>, prompt: &mut Prompt) -> Result<(), CallError> {
    item.only(&["type", "role", "content", "id", "status", "phase"])?;
    let role = item.get("role").one_of(&["user", "assistant", "system", "developer"])?;
    prompt.message(role);
    let content = item.get("content");
    if let Value::String(text) = content.value {
        prompt.text(text, None);
        return Ok(());
    }
    for part in content.items()? {
        read_part(&part, role, prompt)?;
    }
    Ok(())
}

fn read_part(part: &Field<'_>, role: &str, prompt: &mut Prompt) -> Result<(), CallError> {
    let known: &[&str] = if role == "assistant" {
        &["output_text", "refusal"]
    } else {
        &["input_text", "input_image", "input_file", "input_audio"]
    };
    match part.get("type").one_of(known)? {
        "input_text" | "output_text" => prompt.text(part.get("text").str()?, None),
        "refusal" => prompt.text(part.get("refusal").str()?, None),
        "input_image" => {
            // A string here, where chat has an object.
            let source = part.get("image_url").given().unwrap_or_else(|| part.get("file_id"));
            prompt.image(source.str()?, None);
        }
        _ => prompt.silent(&part.value.to_string(), None),
    }
    Ok(())
}

fn read_output(item: &Field<'_>, open: &mut OpenCalls, prompt: &mut Prompt) -> Result<(), CallError> {
    let id = item.get("call_id").str()?;
    if !open.answered(id) {
        return Err(CallError::Refused {
            message: format!("No tool call found for function call output with call_id {id}."),
            param: Some("input".to_owned()),
            code: None,
        });
    }
    prompt.message("tool");
    let output = item.get("output");
    if let Value::String(text) = output.value {
        prompt.text(text, None);
        return Ok(());
    }
    for part in output.items()? {
        read_part(&part, "tool", prompt)?;
    }
    Ok(())
}

fn read_reasoning(item: &Field<'_>, prompt: &mut Prompt, config: &SellerConfig) -> Result<(), CallError> {
    item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
    for part in item.get("summary").items()? {
        part.get("type").one_of(&["summary_text"])?;
        part.get("text").str()?;
    }
    let Some(sealed) = item.get("encrypted_content").optional_str()? else {
        // Without its sealed content an item only means something to a seller that stored it.
        let id = item.get("id").str()?;
        return Err(CallError::refused(format!(
            "Item with id '{id}' not found. Items are not persisted when `store` is set to false. Try again with \
             `store` set to true, or remove this item from your input."
        )));
    };
    if !signature::is_own(&config.name, sealed) {
        let (head, tail) = (sealed.get(..4).unwrap_or_default(), sealed.get(28..).unwrap_or_default());
        return Err(CallError::Refused {
            message: format!(
                "The encrypted content {head}...{tail} could not be verified. Reason: Encrypted content could not \
                 be decrypted or parsed."
            ),
            param: None,
            code: Some("invalid_encrypted_content"),
        });
    }
    prompt.silent(sealed, None);
    Ok(())
}

fn read_tools(field: &Field<'_>) -> Result<Vec<Tool>, CallError> {
    let mut tools = Vec::new();
    for tool in field.optional_items()? {
        if tool.get("type").str()? != "function" {
            continue;
        }
        tool.only(&["type", "name", "description", "parameters", "strict", "defer_loading"])?;
        let name = tool.get("name").name(NAME_MAX)?.to_owned();
        let schema = tool.get("parameters");
        if schema.is_given() {
            schema.object()?;
        }
        tools.push(Tool { name, schema: schema.value.clone() });
    }
    Ok(tools)
}

fn read_tool_choice(field: &Field<'_>, tools: &[Tool]) -> Result<ToolChoice, CallError> {
    if field.value.is_object() {
        return if field.get("type").value == "function" {
            named(&field.get("name"), tools)
        } else {
            field.get("type").str().map(|_| ToolChoice::Auto)
        };
    }
    if !field.is_given() {
        return Ok(ToolChoice::Auto);
    }
    Ok(match field.one_of(&["none", "auto", "required"])? {
        "none" => ToolChoice::Never,
        "required" => ToolChoice::Any,
        _ => ToolChoice::Auto,
    })
}

fn read_format(field: &Field<'_>) -> Result<Format, CallError> {
    if !field.is_given() {
        return Ok(Format::Text);
    }
    Ok(match field.get("type").one_of(&["text", "json_object", "json_schema"])? {
        "json_object" => Format::Json,
        "json_schema" => {
            field.get("name").name(NAME_MAX)?;
            field.get("schema").object()?;
            Format::Schema(field.get("schema").value.clone())
        }
        _ => Format::Text,
    })
}

fn read_thinking(field: &Field<'_>) -> Result<Thinking, CallError> {
    if !field.is_given() {
        return Ok(Thinking::Hidden);
    }
    field.only(&["effort", "summary", "generate_summary", "context"])?;
    let effort = field.get("effort");
    if effort.is_given()
        && effort.one_of(&["none", "minimal", "low", "medium", "high", "xhigh", "max"])? == "none"
    {
        return Ok(Thinking::Off);
    }
    let summary = field.either("summary", "generate_summary");
    if summary.is_given() {
        summary.one_of(&["auto", "concise", "detailed"])?;
        return Ok(Thinking::Shown);
    }
    Ok(Thinking::Hidden)
}

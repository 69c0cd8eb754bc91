//! Reads Ollama's chat.
//!
//! Source: Ollama's API reference. Ollama ignores what it does not know; what it knows must have the right
//! type, and arguments of tool calls are objects, not text. A call is streamed unless it says otherwise.

use super::chat::read_tools;
use super::field::Field;
use super::{Call, CallError, Format, Thinking};
use crate::upstream::prompt::Prompt;
use crate::upstream::shape::Shape;
use serde_json::Value;

/// Reads a call.
pub(super) fn read(root: &Field<'_>) -> Result<Call, CallError> {
    let model = root.get("model").str()?;
    let mut prompt = Prompt::framed();
    prompt.preamble(model);
    prompt.preamble(&root.get("tools").value.to_string());
    let mut has_tool_result = false;
    for message in root.get("messages").optional_items()? {
        let role = message.get("role").one_of(&["system", "user", "assistant", "tool"])?;
        has_tool_result = role == "tool";
        prompt.message(role);
        prompt.text(message.get("content").optional_str()?.unwrap_or_default(), None);
        for image in message.get("images").optional_items()? {
            prompt.image(image.str()?, None);
        }
        for call in message.get("tool_calls").optional_items()? {
            let function = call.get("function");
            function.get("name").str()?;
            function.get("arguments").object()?;
            prompt.silent(&function.value.to_string(), None);
        }
    }
    let mut call = Call::new(Shape::Ollama, model, prompt);
    call.has_tool_result = has_tool_result;
    call.tools = read_tools(&root.get("tools"))?;
    call.stream = !root.get("stream").is_given() || root.get("stream").flag()?;
    let options = root.get("options");
    if options.is_given() {
        options.object()?;
        // Below zero is without limit.
        let most = options.get("num_predict");
        call.max_tokens = most.value.as_u64().filter(|tokens| *tokens > 0);
    }
    call.format = match root.get("format").value {
        Value::Null => Format::Text,
        Value::String(text) if text.is_empty() => Format::Text,
        Value::String(text) if text == "json" => Format::Json,
        Value::Object(_) => Format::Schema(root.get("format").value.clone()),
        _ => return Err(root.get("format").wrong("\"json\" or a JSON schema")),
    };
    call.thinking = match root.get("think").value {
        Value::Bool(true) => Thinking::Shown,
        Value::Null | Value::Bool(false) => Thinking::Off,
        _ => root.get("think").one_of(&["high", "medium", "low"]).map(|_| Thinking::Shown)?,
    };
    Ok(call)
}

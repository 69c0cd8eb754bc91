//! The buyer's messages and tools as values that templates understand.

use super::{MESSAGES_MAX, TemplateError};
use minijinja::Value;
use minijinja::value::ValueKind;

/// Characters of a foreign word that an error repeats.
const QUOTED_CHARS_MAX: usize = 64;

/// Reads a JSON array of messages; content becomes text, everything else stays.
pub(super) fn parse_messages(json: &str) -> Result<Vec<Value>, TemplateError> {
    let items = parse_array(json, "messages")?;
    if items.is_empty() {
        return Err(wrong("messages is empty; send at least one message".to_owned()));
    }
    if items.len() > MESSAGES_MAX {
        return Err(wrong(format!("messages has {} entries; at most {MESSAGES_MAX} are taken", items.len())));
    }
    items.into_iter().enumerate().map(|(at, message)| read_message(at, &message)).collect()
}

/// Reads a JSON array of tools; an empty one is none.
pub(super) fn parse_tools(json: &str) -> Result<Value, TemplateError> {
    let items = parse_array(json, "tools")?;
    Ok(if items.is_empty() { Value::from(()) } else { items.into_iter().collect() })
}

fn parse_array(json: &str, field: &str) -> Result<Vec<Value>, TemplateError> {
    let value: Value = serde_json::from_str(json).map_err(|error| {
        wrong(format!("{field} is not JSON at line {} column {}", error.line(), error.column()))
    })?;
    if value.kind() != ValueKind::Seq {
        return Err(wrong(format!("{field} must be an array")));
    }
    Ok(value.try_iter().map_err(|_| wrong(format!("{field} must be an array")))?.collect())
}

fn read_message(at: usize, message: &Value) -> Result<Value, TemplateError> {
    if message.kind() != ValueKind::Map {
        return Err(wrong(format!("messages[{at}] must be an object")));
    }
    if field(message, "role").as_str().is_none() {
        return Err(wrong(format!("messages[{at}].role must be a string")));
    }
    let content = read_content(at, &field(message, "content"))?;
    let mut pairs = vec![(Value::from("role"), field(message, "role")), (Value::from("content"), content)];
    for key in message.try_iter().map_err(|_| wrong(format!("messages[{at}] must be an object")))? {
        let value = message.get_item(&key).unwrap_or_default();
        match key.as_str() {
            Some("role" | "content") => {}
            Some("tool_calls") => pairs.push((key, read_tool_calls(&value))),
            _ => pairs.push((key, value)),
        }
    }
    Ok(Value::from_pairs(pairs))
}

/// Text stays; parts are joined by line feeds; no content (as beside tool calls) is empty text.
fn read_content(at: usize, content: &Value) -> Result<Value, TemplateError> {
    match content.kind() {
        ValueKind::String => Ok(content.clone()),
        ValueKind::None | ValueKind::Undefined => Ok(Value::from("")),
        ValueKind::Seq => {
            let parts = content.try_iter().into_iter().flatten().enumerate();
            let texts = parts.map(|(n, part)| read_part(at, n, &part)).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::from(texts.join("\n")))
        }
        _ => Err(wrong(format!("messages[{at}].content must be a string, an array of parts or null"))),
    }
}

fn read_part(at: usize, part_at: usize, part: &Value) -> Result<String, TemplateError> {
    let place = format!("messages[{at}].content[{part_at}]");
    if part.kind() != ValueKind::Map {
        return Err(wrong(format!("{place} must be an object")));
    }
    let kind = field(part, "type");
    let text = match kind.as_str() {
        Some("text") => field(part, "text"),
        Some("refusal") => field(part, "refusal"),
        Some(other) => {
            let other: String = other.chars().take(QUOTED_CHARS_MAX).collect();
            return Err(wrong(format!(
                "{place} has type `{other}`; this model reads parts of type `text` only"
            )));
        }
        None => return Err(wrong(format!("{place}.type must be a string"))),
    };
    match text.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(wrong(format!("{place}.text must be a string"))),
    }
}

/// `arguments` travels as a string that spells an object; templates expect the object.
fn read_tool_calls(calls: &Value) -> Value {
    if calls.kind() != ValueKind::Seq {
        return calls.clone();
    }
    calls.try_iter().into_iter().flatten().map(|call| with_object_arguments(&call)).collect()
}

fn with_object_arguments(call: &Value) -> Value {
    let function = field(call, "function");
    let arguments = field(&function, "arguments");
    let object = arguments.as_str().and_then(|json| serde_json::from_str::<Value>(json).ok());
    match object.filter(|object| object.kind() == ValueKind::Map) {
        Some(object) => replaced(call, "function", &replaced(&function, "arguments", &object)),
        None => call.clone(),
    }
}

fn replaced(map: &Value, key: &str, value: &Value) -> Value {
    let keys = map.try_iter().into_iter().flatten();
    Value::from_pairs(keys.map(|k| {
        let item = if k.as_str() == Some(key) { value.clone() } else { map.get_item(&k).unwrap_or_default() };
        (k, item)
    }))
}

fn field(map: &Value, key: &str) -> Value {
    if map.kind() == ValueKind::Map { map.get_attr(key).unwrap_or_default() } else { Value::UNDEFINED }
}

fn wrong(message: String) -> TemplateError {
    TemplateError::Messages(message)
}

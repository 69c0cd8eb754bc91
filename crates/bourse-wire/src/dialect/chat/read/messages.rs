//! The messages of a chat, one by one.

use super::{bad, mark_of, untranslatable};
use crate::dialect::chat::details;
use crate::dialect::neutral::{CacheMark, Media, Message, Part, Role};
use crate::error::ApiError;
use serde_json::{Map, Value};

/// Reads the array of messages.
pub(super) fn read(json: &str) -> Result<Vec<Message>, ApiError> {
    let list: Vec<Value> = serde_json::from_str(json)
        .map_err(|e| ApiError::field("messages", format!("`messages` cannot be read: {e}")))?;
    list.into_iter().enumerate().map(|(n, value)| message(&format!("messages[{n}]"), value)).collect()
}

fn message(field: &str, value: Value) -> Result<Message, ApiError> {
    let Value::Object(mut object) = value else { return Err(bad(field, "an object")) };
    let name = take_string(field, &mut object, "name")?;
    let role = take_string(field, &mut object, "role")?.unwrap_or_default();
    let role = match role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => return tool_message(field, object),
        "function" => return function_message(field, object, name.as_deref()),
        _ => return Err(bad(format!("{field}.role"), "one of the grammar's roles")),
    };
    let mark = mark_of(field, &object)?;
    let mut parts = match role {
        Role::Assistant => details::take_reasoning(&mut object)
            .map_err(|(member, want)| bad(format!("{field}.{member}"), want))?,
        _ => Vec::new(),
    };
    let content = object.remove("content").unwrap_or(Value::Null);
    parts.extend(contents(&format!("{field}.content"), content, role, mark)?);
    if role == Role::Assistant {
        spoken(field, &mut object, &mut parts)?;
    }
    Ok(Message { role, parts, name })
}

/// What only the model says: refusals, calls, sound.
fn spoken(field: &str, object: &mut Map<String, Value>, parts: &mut Vec<Part>) -> Result<(), ApiError> {
    if object.get("audio").is_some_and(|audio| !audio.is_null()) {
        return Err(untranslatable(&format!("{field}.audio")));
    }
    if let Some(text) = take_string(field, object, "refusal")? {
        parts.push(Part::Refusal { text });
    }
    if let Some(call) = object.remove("function_call").filter(|call| !call.is_null()) {
        let call_field = format!("{field}.function_call");
        let (name, arguments) = function_call(&call_field, &call)?;
        parts.push(Part::ToolCall { id: old_call_id(&name), name, arguments, cache: None });
    }
    let calls = match object.remove("tool_calls") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err(bad(format!("{field}.tool_calls"), "an array")),
    };
    for (n, call) in calls.iter().enumerate() {
        let call_field = format!("{field}.tool_calls[{n}]");
        let object = call.as_object().ok_or_else(|| bad(call_field.clone(), "an object"))?;
        let id = object.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| bad(format!("{call_field}.id"), "a string"))?.to_owned();
        let Some(function) = object.get("function") else {
            return Err(untranslatable(&format!("{call_field}.type")));
        };
        let (name, arguments) = function_call(&format!("{call_field}.function"), function)?;
        parts.push(Part::ToolCall { id, name, arguments, cache: mark_of(&call_field, object)? });
    }
    Ok(())
}

fn function_call(field: &str, value: &Value) -> Result<(String, String), ApiError> {
    let name = value.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| bad(format!("{field}.name"), "a string"))?.to_owned();
    let arguments = match value.get("arguments") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        // Some clients send the object itself.
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(_) => return Err(bad(format!("{field}.arguments"), "a string of JSON")),
    };
    Ok((name, arguments))
}

/// Calls of the old form have no id; a function's name stands for its last call.
fn old_call_id(name: &str) -> String {
    format!("function_{name}")
}

fn tool_message(field: &str, mut object: Map<String, Value>) -> Result<Message, ApiError> {
    let call_id = take_string(field, &mut object, "tool_call_id")?
        .ok_or_else(|| bad(format!("{field}.tool_call_id"), "the id of the call that it answers"))?;
    result(field, object, call_id)
}

fn function_message(
    field: &str,
    object: Map<String, Value>,
    name: Option<&str>,
) -> Result<Message, ApiError> {
    let name = name.ok_or_else(|| bad(format!("{field}.name"), "the function's name"))?;
    result(field, object, old_call_id(name))
}

fn result(field: &str, mut object: Map<String, Value>, call_id: String) -> Result<Message, ApiError> {
    let cache = mark_of(field, &object)?;
    let content = object.remove("content").unwrap_or(Value::Null);
    let content = contents(&format!("{field}.content"), content, Role::Tool, None)?;
    let part = Part::ToolResult { call_id, content, is_error: false, cache };
    Ok(Message { role: Role::Tool, parts: vec![part], name: None })
}

fn take_string(field: &str, object: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match object.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(format!("{field}.{name}"), "a string")),
    }
}

/// A string, parts, or nothing. A mark on the message is one on its last part.
fn contents(field: &str, value: Value, role: Role, mark: Option<CacheMark>) -> Result<Vec<Part>, ApiError> {
    let mut parts = match value {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![Part::text(text)],
        Value::Array(list) => {
            let one = |(n, value)| part(&format!("{field}[{n}]"), value, role);
            list.into_iter().enumerate().map(one).collect::<Result<Vec<Part>, _>>()?
        }
        _ => return Err(bad(field, "a string, an array of parts, or null")),
    };
    if let (
        Some(mark),
        Some(Part::Text { cache, .. } | Part::Image { cache, .. } | Part::File { cache, .. }),
    ) = (mark, parts.last_mut())
    {
        cache.get_or_insert(mark);
    }
    Ok(parts)
}

fn part(field: &str, value: Value, role: Role) -> Result<Part, ApiError> {
    let Value::Object(mut object) = value else { return Err(bad(field, "an object with `type`")) };
    let cache = mark_of(field, &object)?;
    let kind = take_string(field, &mut object, "type")?.unwrap_or_default();
    let text = |object: &mut Map<String, Value>, name: &str| {
        take_string(field, object, name)?.ok_or_else(|| bad(format!("{field}.{name}"), "a string"))
    };
    match (kind.as_str(), role) {
        ("text", _) => Ok(Part::Text { text: text(&mut object, "text")?, cache }),
        ("refusal", Role::Assistant) => Ok(Part::Refusal { text: text(&mut object, "refusal")? }),
        ("image_url", Role::User | Role::Tool | Role::Assistant) => {
            let inner = object.remove("image_url").unwrap_or(Value::Null);
            image(&format!("{field}.image_url"), &inner, cache)
        }
        ("input_audio", Role::User) => {
            let inner = object.remove("input_audio").unwrap_or(Value::Null);
            audio(&format!("{field}.input_audio"), &inner)
        }
        ("file", Role::User | Role::Tool) => {
            let inner = object.remove("file").unwrap_or(Value::Null);
            file(&format!("{field}.file"), &inner, cache)
        }
        _ => Err(untranslatable(&format!("{field}.type"))),
    }
}

fn image(field: &str, value: &Value, cache: Option<CacheMark>) -> Result<Part, ApiError> {
    let url = value.as_str().or_else(|| value.get("url").and_then(Value::as_str));
    let url = url.ok_or_else(|| bad(format!("{field}.url"), "an address or a data: URL"))?;
    let detail = value.get("detail").and_then(Value::as_str).filter(|word| *word != "auto");
    Ok(Part::Image { source: media(&format!("{field}.url"), url)?, detail: detail.map(str::to_owned), cache })
}

/// `data:TYPE;base64,DATA`, or an address.
fn media(field: &str, url: &str) -> Result<Media, ApiError> {
    let Some(rest) = url.strip_prefix("data:") else { return Ok(Media::Url(url.to_owned())) };
    let (media_type, data) = rest
        .split_once(";base64,")
        .ok_or_else(|| bad(field, "a data: URL in base64, such as data:image/png;base64,…"))?;
    Ok(Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}

fn audio(field: &str, value: &Value) -> Result<Part, ApiError> {
    let member = |name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.ok_or_else(|| bad(format!("{field}.{name}"), "a string"))
    };
    let source = Media::Base64 {
        media_type: format!("audio/{}", member("format")?),
        data: member("data")?.to_owned(),
    };
    Ok(Part::Audio { source })
}

fn file(field: &str, value: &Value, cache: Option<CacheMark>) -> Result<Part, ApiError> {
    let member = |name: &str| value.get(name).and_then(Value::as_str);
    let source = match (member("file_data").or_else(|| member("file_url")), member("file_id")) {
        (Some(data), _) if data.starts_with("data:") || data.contains("://") => {
            media(&format!("{field}.file_data"), data)?
        }
        (Some(data), _) => Media::Base64 { media_type: "application/pdf".to_owned(), data: data.to_owned() },
        (None, Some(id)) => Media::Id(id.to_owned()),
        (None, None) => return Err(bad(format!("{field}.file_data"), "a data: URL in base64")),
    };
    Ok(Part::File { source, filename: member("filename").map(str::to_owned), cache })
}

//! Presets: fields kept under a name and merged into a request that names them.
//!
//! The request's own members win, one by one and whole; `tools` alone are united, a tool of the request hiding
//! one of the same identity. What is merged is text: numbers and the order within members stay as written.
//! Used only when a preset is named, so [`named`] is what every request pays for: one search for a word.
//! Source: reference, router §1.6.

use super::model_ref::{PRESET_MARK, preset_name};
use super::{string, unescaped};
use crate::error::{ApiError, ErrorType};
use crate::json::{Walk, push_string};
use bytes::Bytes;
use serde_json::Value;
use std::ops::Range;

/// The preset that a request names, in `preset` or behind its model's name; none for most.
pub fn named(body: &str) -> Result<Option<String>, ApiError> {
    if memchr::memmem::find(body.as_bytes(), b"preset").is_none() {
        return Ok(None);
    }
    let mut found: Option<String> = None;
    for (name, value) in top_members(body)? {
        let raw = &body[value];
        let here = match name.as_str() {
            "preset" if raw != "null" => string("preset", raw)?.into_owned(),
            "model" => match string("model", raw)?.split_once(PRESET_MARK) {
                Some((_, preset)) => preset.to_owned(),
                None => continue,
            },
            _ => continue,
        };
        preset_name(&here).map_err(|e| ApiError::field(name.clone(), format!("`{name}`: {e}")))?;
        if found.as_ref().is_some_and(|before| *before != here) {
            return Err(ApiError::field("preset", "`preset` and `model` name different presets: keep one"));
        }
        found = Some(here);
    }
    Ok(found)
}

/// The model that a request names, as written; none where it leaves that to its preset.
pub fn model_as_written(body: &str) -> Option<String> {
    let members = top_members(body).ok()?;
    let (_, value) = members.iter().find(|(name, _)| name == "model")?;
    Some(string("model", &body[value.clone()]).ok()?.into_owned())
}

/// The request with what the preset adds. `preset` is one object of request members.
pub fn merge(body: &str, preset: &str) -> Result<Bytes, ApiError> {
    let ours = top_members(body)?;
    let theirs = top_members(preset)
        .map_err(|e| ApiError::new(ErrorType::Server, format!("the preset is damaged: {e}")))?;
    let tools_of =
        |name: &str| theirs.iter().find(|(n, _)| n == name).map(|(_, value)| &preset[value.clone()]);
    let mut out = Vec::with_capacity(body.len() + preset.len());
    let mut taken: Vec<&str> = vec!["preset"];
    out.push(b'{');
    for (name, value) in &ours {
        let raw = &body[value.clone()];
        match name.as_str() {
            "preset" => continue,
            "model" => {
                let model = string("model", raw)?;
                let (model, _) = model.split_once(PRESET_MARK).unwrap_or((&model, ""));
                if model.is_empty() {
                    continue;
                }
                push_key(&mut out, name);
                push_string(&mut out, model);
            }
            "tools" if raw.starts_with('[') && tools_of("tools").is_some_and(|t| t.starts_with('[')) => {
                push_key(&mut out, name);
                push_united(&mut out, raw, tools_of("tools").unwrap_or("[]"))?;
            }
            _ => {
                push_key(&mut out, name);
                out.extend_from_slice(raw.as_bytes());
            }
        }
        taken.push(name);
    }
    for (name, value) in &theirs {
        if !taken.contains(&name.as_str()) {
            push_key(&mut out, name);
            out.extend_from_slice(preset[value.clone()].as_bytes());
        }
    }
    out.push(b'}');
    Ok(Bytes::from(out))
}

fn push_key(out: &mut Vec<u8>, name: &str) {
    if out.len() > 1 {
        out.push(b',');
    }
    push_string(out, name);
    out.push(b':');
}

/// The members of an object with their spans.
fn top_members(text: &str) -> Result<Vec<(String, Range<usize>)>, ApiError> {
    let mut walk = Walk::new(text);
    if walk.peek() != b'{' {
        return Err(ApiError::new(ErrorType::InvalidRequest, "the body must be a JSON object"));
    }
    let mut out = Vec::new();
    walk.members::<ApiError>(|walk, key| {
        let name = unescaped(walk.text(key)).into_owned();
        out.push((name, walk.value()?));
        Ok(())
    })?;
    walk.finish()?;
    Ok(out)
}

/// The request's tools, then those of the preset that it does not have.
fn push_united(out: &mut Vec<u8>, ours: &str, theirs: &str) -> Result<(), ApiError> {
    let mut seen = Vec::new();
    out.push(b'[');
    let start = out.len();
    for list in [ours, theirs] {
        Walk::new(list).items::<ApiError>(|walk| {
            let value = walk.value()?;
            let raw = walk.text(value);
            let identity = identity(raw);
            // The request may repeat itself as it likes; the preset may not repeat the request.
            if std::ptr::eq(list, theirs) && seen.contains(&identity) {
                return Ok(());
            }
            seen.push(identity);
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(raw.as_bytes());
            Ok(())
        })?;
    }
    out.push(b']');
    Ok(())
}

/// What makes two tools the same: their type and name, or all of them.
fn identity(raw: &str) -> String {
    let Ok(tool) = serde_json::from_str::<Value>(raw) else { return raw.to_owned() };
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = tool.get("function").and_then(|f| word(f, "name")).or_else(|| word(&tool, "name"));
    let kind = word(&tool, "type").unwrap_or_else(|| "function".to_owned());
    name.map_or_else(|| tool.to_string(), |name| format!("{kind}:{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_named_in_two_ways() {
        let check =
            |body: &str, want: Option<&str>| assert_eq!(named(body).unwrap().as_deref(), want, "{body}");
        check(r#"{"model":"a/b","messages":[]}"#, None);
        check(r#"{"model":"a/b","x":"preset"}"#, None);
        check(r#"{"model":"a/b","preset":null}"#, None);
        check(r#"{"model":"a/b","preset":"p"}"#, Some("p"));
        check(r#"{"model":"a/b:nitro@preset/p"}"#, Some("p"));
        check(r#"{"model":"@preset/p","preset":"p"}"#, Some("p"));
        assert!(named(r#"{"model":"a@preset/p","preset":"q"}"#).is_err());
        assert!(named(r#"{"preset":"p q"}"#).is_err());
        assert!(named(r#"{"preset":5}"#).is_err());
    }

    #[test]
    fn the_model_is_told_as_it_was_written() {
        let check =
            |body: &str, want: Option<&str>| assert_eq!(model_as_written(body).as_deref(), want, "{body}");
        check(r#"{"preset":"p","model":"~a\/b:nitro@preset/p"}"#, Some("~a/b:nitro@preset/p"));
        check(r#"{"preset":"p","messages":[{"model":"a"}]}"#, None);
        check(r#"{"model":5}"#, None);
        check("[", None);
    }

    fn check(body: &str, preset: &str, want: &str) {
        assert_eq!(std::str::from_utf8(&merge(body, preset).unwrap()).unwrap(), want);
    }

    #[test]
    fn the_requests_own_members_win() {
        check(
            r#"{"model":"a/b:nitro@preset/p","temperature":0.10,"preset":"p"}"#,
            r#"{"model":"c/d","temperature":1,"top_p":0.50,"preset":"q"}"#,
            r#"{"model":"a/b:nitro","temperature":0.10,"top_p":0.50}"#,
        );
        check(r#"{"model":"@preset/p"}"#, r#"{"model":"c/d"}"#, r#"{"model":"c/d"}"#);
        check("{}", "{}", "{}");
    }

    #[test]
    fn tools_are_united_by_identity() {
        check(
            r#"{"tools":[{"type":"function","function":{"name":"a","x":1}},{"name":"b"}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"a"}},{"type":"function","name":"b"},{"type":"web"},{"type":"custom","name":"a"}]}"#,
            r#"{"tools":[{"type":"function","function":{"name":"a","x":1}},{"name":"b"},{"type":"web"},{"type":"custom","name":"a"}]}"#,
        );
    }

    #[test]
    fn damaged_texts_are_errors() {
        assert_eq!(merge("[", "{}").unwrap_err().status(), 400);
        assert_eq!(merge("{}", "[").unwrap_err().status(), 500);
    }
}

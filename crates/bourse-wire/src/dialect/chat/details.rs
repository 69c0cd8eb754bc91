//! Thoughts as chats carry them: `reasoning_details`, `reasoning`, `reasoning_content`.
//!
//! Chat completions themselves show no thoughts; sellers and routers added three ways. A plain string under one
//! of two names holds what is shown. `reasoning_details` is a list of blocks, `reasoning.text` with a signature,
//! `reasoning.summary`, and `reasoning.encrypted`, each with the `format` of whoever made it, and is what must
//! come back unchanged; where it stands, the strings repeat it and are not read.
//! Source: reference, router §1.14.

use crate::dialect::neutral::{Origin, Part, Signed};
use crate::json::{push_string, push_u64};
use serde_json::{Map, Value};

/// The names under which the prompt's cache is marked: Anthropic's and OpenAI's.
pub(super) const MARKS: [&str; 2] = ["cache_control", "prompt_cache_breakpoint"];

/// The names of shown thoughts, in order of precedence.
pub(super) const SHOWN: [&str; 3] = ["reasoning", "reasoning_content", "thinking"];

/// Takes the thoughts out of a message. An error is the member at fault and what it must be.
pub(super) fn take_reasoning(object: &mut Map<String, Value>) -> Result<Vec<Part>, (String, &'static str)> {
    let details = object.remove("reasoning_details");
    let shown = SHOWN.map(|name| (name, object.remove(name)));
    match details {
        Some(Value::Array(list)) if !list.is_empty() => {
            let mut parts = Vec::new();
            for (n, block) in list.iter().enumerate() {
                add_block(&mut parts, block)
                    .ok_or_else(|| (format!("reasoning_details[{n}]"), "a block as it was received"))?;
            }
            return Ok(parts);
        }
        None | Some(Value::Null | Value::Array(_)) => {}
        Some(_) => return Err(("reasoning_details".to_owned(), "an array")),
    }
    for (name, value) in shown {
        match value {
            Some(Value::String(text)) if !text.is_empty() => {
                return Ok(vec![Part::Reasoning { text, is_summary: false, signed: None }]);
            }
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return Err((name.to_owned(), "a string")),
        }
    }
    Ok(Vec::new())
}

/// Adds one block. A signature that comes by itself belongs to the text before it, and ciphertext after a
/// summary of the same id is what was summarised. None when it is no object; blocks of unknown kinds are left
/// out.
fn add_block(parts: &mut Vec<Part>, block: &Value) -> Option<()> {
    let block = block.as_object()?;
    let word = |name: &str| block.get(name).and_then(Value::as_str);
    let origin = word("format").map_or(Origin::Unknown, Origin::parse);
    let id = word("id");
    let signed = |data: &str, is_encrypted| Signed {
        origin,
        id: id.map(str::to_owned),
        data: data.to_owned(),
        is_encrypted,
    };
    match word("type").unwrap_or_default() {
        "reasoning.text" => {
            let text = word("text").unwrap_or_default();
            let signature = word("signature").filter(|s| !s.is_empty()).map(|data| signed(data, false));
            match (parts.last_mut(), signature) {
                (Some(Part::Reasoning { signed: slot @ None, is_summary: false, .. }), Some(signature))
                    if text.is_empty() =>
                {
                    *slot = Some(signature);
                }
                (_, signature) => parts.push(Part::Reasoning {
                    text: text.to_owned(),
                    is_summary: false,
                    signed: signature,
                }),
            }
        }
        "reasoning.summary" => {
            let text = word("summary").unwrap_or_default().to_owned();
            parts.push(Part::Reasoning { text, is_summary: true, signed: None });
        }
        "reasoning.encrypted" => {
            let data = signed(word("data").unwrap_or_default(), true);
            match parts.last_mut() {
                Some(Part::Reasoning { signed: slot @ None, is_summary: true, .. }) => *slot = Some(data),
                _ => {
                    parts.push(Part::Reasoning {
                        text: String::new(),
                        is_summary: false,
                        signed: Some(data),
                    });
                }
            }
        }
        _ => {}
    }
    Some(())
}

/// Appends `,"reasoning":…,"reasoning_details":[…]`; nothing when there are no thoughts.
pub(super) fn push_reasoning(out: &mut Vec<u8>, parts: &[Part]) {
    let thoughts = || {
        parts.iter().filter_map(|part| match part {
            Part::Reasoning { text, is_summary, signed } => Some((text, *is_summary, signed.as_ref())),
            _ => None,
        })
    };
    if thoughts().next().is_none() {
        return;
    }
    let shown: Vec<&str> = thoughts().map(|(text, ..)| text.as_str()).filter(|t| !t.is_empty()).collect();
    if !shown.is_empty() {
        out.extend_from_slice(b",\"reasoning\":");
        push_string(out, &shown.join("\n\n"));
    }
    out.extend_from_slice(b",\"reasoning_details\":[");
    let mut index = 0;
    for (text, is_summary, signed) in thoughts() {
        if index > 0 {
            out.push(b',');
        }
        let hidden = signed.filter(|s| s.is_encrypted);
        if hidden.is_none() || !text.is_empty() {
            push_shown(out, text, is_summary, signed.filter(|s| !s.is_encrypted), signed, index);
            index += 1;
            if hidden.is_some() {
                out.push(b',');
            }
        }
        if let Some(hidden) = hidden {
            push_hidden(out, hidden, index);
            index += 1;
        }
    }
    out.push(b']');
}

/// A block of shown thoughts.
fn push_shown(
    out: &mut Vec<u8>,
    text: &str,
    is_summary: bool,
    signature: Option<&Signed>,
    made_by: Option<&Signed>,
    index: u64,
) {
    push_text(out, text, is_summary);
    if let Some(signature) = signature {
        out.extend_from_slice(b",\"signature\":");
        push_string(out, &signature.data);
    }
    push_origin(out, made_by, index);
}

/// A piece of shown thoughts, without its end: `{"type":…,"text":…`.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str, is_summary: bool) {
    out.extend_from_slice(if is_summary {
        b"{\"type\":\"reasoning.summary\",\"summary\":".as_slice()
    } else {
        b"{\"type\":\"reasoning.text\",\"text\":".as_slice()
    });
    push_string(out, text);
}

/// A block of ciphertext.
pub(super) fn push_hidden(out: &mut Vec<u8>, hidden: &Signed, index: u64) {
    out.extend_from_slice(b"{\"type\":\"reasoning.encrypted\",\"data\":");
    push_string(out, &hidden.data);
    push_origin(out, Some(hidden), index);
}

/// A signature by itself.
pub(super) fn push_signature(out: &mut Vec<u8>, signature: &Signed, index: u64) {
    out.extend_from_slice(b"{\"type\":\"reasoning.text\",\"signature\":");
    push_string(out, &signature.data);
    push_origin(out, Some(signature), index);
}

/// The end of a block: who made it, its id and place.
pub(super) fn push_origin(out: &mut Vec<u8>, signed: Option<&Signed>, index: u64) {
    if let Some(id) = signed.and_then(|s| s.id.as_ref()) {
        out.extend_from_slice(b",\"id\":");
        push_string(out, id);
    }
    out.extend_from_slice(b",\"format\":");
    push_string(out, signed.map_or(Origin::Unknown, |s| s.origin).as_str());
    out.extend_from_slice(b",\"index\":");
    push_u64(out, index);
    out.push(b'}');
}

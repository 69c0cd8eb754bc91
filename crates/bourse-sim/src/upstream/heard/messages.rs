//! Hears Anthropic messages: blocks open, grow and close in order, then the stop reason, then the stop.

use super::{Arrived, Heard, HeardCall, count, whole_call};
use crate::upstream::record::UsageSeen;
use serde_json::Value;

/// A whole message.
pub(super) fn document(heard: &mut Heard, value: &Value) {
    heard.model(&value["model"]);
    if value["type"] != "message" || value["role"] != "assistant" {
        heard.violation("messages: the document is no message of an assistant");
    }
    for block in value["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("text") => heard.say(&block["text"]),
            Some("thinking") => {
                heard.think(&block["thinking"]);
                heard.signatures.extend(block["signature"].as_str().map(str::to_owned));
            }
            Some("redacted_thinking") => {
                heard.signatures.extend(block["data"].as_str().map(str::to_owned));
            }
            Some("tool_use") => heard.calls.push(whole_call(&block["id"], &block["name"], &block["input"])),
            _ => heard.violation("messages: a block of an unknown type"),
        }
    }
    usage(heard, &value["usage"]);
    stop(heard, &value["stop_reason"]);
}

fn stop(heard: &mut Heard, reason: &Value) {
    if reason == "refusal" {
        heard.refusal = std::mem::take(&mut heard.text);
    }
    heard.finish(reason);
}

fn usage(heard: &mut Heard, usage: &Value) {
    if !usage.is_object() {
        return;
    }
    let (read, written) =
        (count(&usage["cache_read_input_tokens"]), count(&usage["cache_creation_input_tokens"]));
    heard.usages.push(UsageSeen {
        prompt: count(&usage["input_tokens"]) + read + written,
        cached_prompt: read,
        cache_write_prompt: written,
        completion: count(&usage["output_tokens"]),
        reasoning: 0,
    });
}

/// Where a stream stands.
#[derive(Debug, Default)]
struct State {
    started: bool,
    blocks: u64,
    open: Option<String>,
}

/// The events of a stream.
pub(super) fn stream(heard: &mut Heard, events: &[Arrived]) {
    let mut state = State::default();
    for event in events {
        let Some(value) = heard.parse(&event.data) else { continue };
        let kind = value["type"].as_str().unwrap_or_default();
        if kind != event.name && event.name != "message" {
            heard.violation(format!("messages: event '{}' carries type '{kind}'", event.name));
        }
        heard.after_the_end(crate::upstream::shape::Shape::Messages);
        if !state.started && !matches!(kind, "message_start" | "error" | "ping") {
            heard.violation(format!("messages: {kind} comes before message_start"));
        }
        match kind {
            "message_start" => {
                if std::mem::replace(&mut state.started, true) {
                    heard.violation("messages: a second message_start");
                }
                heard.model(&value["message"]["model"]);
                usage(heard, &value["message"]["usage"]);
            }
            "ping" => {}
            "error" => heard.errors += 1,
            "content_block_start" => open(heard, &mut state, &value),
            "content_block_delta" => grow(heard, &state, &value),
            "content_block_stop" => {
                if state.open.take().is_none() || count(&value["index"]) + 1 != state.blocks {
                    heard.violation("messages: content_block_stop of a block that is not open");
                }
            }
            "message_delta" => {
                if state.open.is_some() {
                    heard.violation("messages: message_delta while a block is open");
                }
                usage(heard, &value["usage"]);
                stop(heard, &value["delta"]["stop_reason"]);
            }
            "message_stop" => heard.ends += 1,
            other => heard.violation(format!("messages: unknown event {other}")),
        }
    }
}

fn open(heard: &mut Heard, state: &mut State, value: &Value) {
    if state.open.is_some() || count(&value["index"]) != state.blocks {
        heard.violation("messages: content_block_start out of order");
    }
    state.blocks += 1;
    let block = &value["content_block"];
    let kind = block["type"].as_str().unwrap_or_default();
    match kind {
        "tool_use" => heard.calls.push(HeardCall {
            arguments: String::new(),
            ..whole_call(&block["id"], &block["name"], &block["input"])
        }),
        "redacted_thinking" => heard.signatures.extend(block["data"].as_str().map(str::to_owned)),
        "text" | "thinking" => {}
        other => heard.violation(format!("messages: a block of unknown type {other}")),
    }
    state.open = Some(kind.to_owned());
}

fn grow(heard: &mut Heard, state: &State, value: &Value) {
    let delta = &value["delta"];
    let kind = delta["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "text_delta" => "text",
        "thinking_delta" | "signature_delta" => "thinking",
        "input_json_delta" => "tool_use",
        _ => "",
    };
    if state.open.as_deref() != Some(fits) || count(&value["index"]) + 1 != state.blocks {
        heard.violation(format!("messages: {kind} outside of a block of its kind"));
    }
    match kind {
        "text_delta" => heard.say(&delta["text"]),
        "thinking_delta" => heard.think(&delta["thinking"]),
        "signature_delta" => heard.signatures.extend(delta["signature"].as_str().map(str::to_owned)),
        "input_json_delta" => {
            let piece = delta["partial_json"].as_str().unwrap_or_default();
            heard.pieces += usize::from(!piece.is_empty());
            if let Some(call) = heard.calls.last_mut() {
                call.arguments.push_str(piece);
            }
        }
        _ => {}
    }
}

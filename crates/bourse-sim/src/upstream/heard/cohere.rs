//! Hears Cohere's chat: the message starts, blocks and calls open, grow and close in order, then the message ends.

use super::{Arrived, Heard, HeardCall, count};
use crate::upstream::record::UsageSeen;
use serde_json::Value;

/// A whole answer.
pub(super) fn document(heard: &mut Heard, value: &Value) {
    let message = &value["message"];
    if message["role"] != "assistant" {
        heard.violation("cohere: the message is not of an assistant");
    }
    heard.think(&message["tool_plan"]);
    for block in message["content"].as_array().into_iter().flatten() {
        match block["type"].as_str() {
            Some("thinking") => heard.think(&block["thinking"]),
            Some("text") => heard.say(&block["text"]),
            _ => heard.violation("cohere: a block of an unknown type"),
        }
    }
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        open_call(heard, call);
        grow_call(heard, call);
    }
    end(heard, value);
}

fn open_call(heard: &mut Heard, call: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if call["type"] != "function" {
        heard.violation("cohere: a call that is no function");
    }
    let (id, name) = (text(&call["id"]), text(&call["function"]["name"]));
    heard.calls.push(HeardCall { id, name, arguments: String::new() });
}

fn grow_call(heard: &mut Heard, call: &Value) {
    let piece = call["function"]["arguments"].as_str().unwrap_or_default();
    heard.pieces += usize::from(!piece.is_empty());
    if let Some(call) = heard.calls.last_mut() {
        call.arguments.push_str(piece);
    }
}

/// The reason and the usage. What is cached of the prompt is what is cached beyond the vendor's preamble.
fn end(heard: &mut Heard, value: &Value) {
    heard.finish(&value["finish_reason"]);
    let usage = &value["usage"];
    if usage.is_object() {
        let of = |which: &str, member: &str| count(&usage[which][member]);
        let prompt = of("billed_units", "input_tokens");
        let preamble = of("tokens", "input_tokens").saturating_sub(prompt);
        heard.usages.push(UsageSeen {
            prompt,
            cached_prompt: count(&usage["cached_tokens"]).saturating_sub(preamble),
            cache_write_prompt: 0,
            completion: of("billed_units", "output_tokens"),
            reasoning: 0,
        });
    }
}

/// The events of a stream.
pub(super) fn stream(heard: &mut Heard, events: &[Arrived]) {
    let mut started = false;
    // What is open: the beginning of its events' names, and its index.
    let mut open: Option<(&'static str, u64)> = None;
    for event in events {
        if event.data == "[DONE]" {
            if heard.ends == 0 && heard.errors == 0 {
                heard.violation("cohere: [DONE] comes before message-end");
            }
            continue;
        }
        let Some(value) = heard.parse(&event.data) else { continue };
        let kind = value["type"].as_str().unwrap_or_default();
        if kind != event.name && event.name != "message" {
            heard.violation(format!("cohere: event '{}' carries type '{kind}'", event.name));
        }
        heard.after_the_end(crate::upstream::shape::Shape::Cohere);
        if !started && !matches!(kind, "message-start" | "message-end") {
            heard.violation(format!("cohere: {kind} comes before message-start"));
        }
        let index = count(&value["index"]);
        let message = &value["delta"]["message"];
        match kind {
            "message-start" => started = true,
            "content-start" | "tool-call-start" => {
                let what = if kind == "content-start" { "content" } else { "tool-call" };
                if open.replace((what, index)).is_some() {
                    heard.violation(format!("cohere: {kind} while something is open"));
                }
                if what == "tool-call" {
                    open_call(heard, &message["tool_calls"]);
                }
            }
            "content-delta" if open == Some(("content", index)) => {
                heard.think(&message["content"]["thinking"]);
                heard.say(&message["content"]["text"]);
            }
            "tool-call-delta" if open == Some(("tool-call", index)) => {
                grow_call(heard, &message["tool_calls"]);
            }
            "content-delta" | "tool-call-delta" => {
                heard.violation(format!("cohere: {kind} of something that is not open"));
            }
            "tool-plan-delta" => heard.think(&message["tool_plan"]),
            "content-end" | "tool-call-end" => {
                let what = if kind == "content-end" { "content" } else { "tool-call" };
                if open.take() != Some((what, index)) {
                    heard.violation(format!("cohere: {kind} of something that is not open"));
                }
            }
            "message-end" if value["delta"]["error"].is_string() => heard.errors += 1,
            "message-end" => {
                if open.is_some() {
                    heard.violation("cohere: message-end while something is open");
                }
                end(heard, &value["delta"]);
                heard.ends += 1;
            }
            other => heard.violation(format!("cohere: unknown event {other}")),
        }
    }
}

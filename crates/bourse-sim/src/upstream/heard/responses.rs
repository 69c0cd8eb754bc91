//! Hears OpenAI responses: numbers without a gap, items that open, grow and close, one terminal at the end
//! whose output is what was streamed.

use super::{Arrived, Heard, HeardCall, count};
use crate::upstream::record::UsageSeen;
use crate::upstream::shape::Shape;
use serde_json::Value;

/// A whole response.
pub(super) fn document(heard: &mut Heard, value: &Value) {
    heard.model(&value["model"]);
    if value["object"] != "response" {
        heard.violation("responses: the document is no response");
    }
    for item in value["output"].as_array().into_iter().flatten() {
        match item["type"].as_str() {
            Some("message") => {
                for part in item["content"].as_array().into_iter().flatten() {
                    heard.say(&part["text"]);
                    heard.refusal.push_str(part["refusal"].as_str().unwrap_or_default());
                }
            }
            Some("reasoning") => {
                for part in item["summary"].as_array().into_iter().flatten() {
                    heard.think(&part["text"]);
                }
                heard.signatures.extend(item["encrypted_content"].as_str().map(str::to_owned));
            }
            Some("function_call") => heard.calls.push(call(item, text(&item["arguments"]))),
            _ => heard.violation("responses: an item of an unknown type"),
        }
    }
    terminal(heard, value);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn call(item: &Value, arguments: String) -> HeardCall {
    HeardCall { id: text(&item["call_id"]), name: text(&item["name"]), arguments }
}

fn usage(heard: &mut Heard, usage: &Value) {
    if usage.is_object() {
        heard.usages.push(UsageSeen {
            prompt: count(&usage["input_tokens"]),
            cached_prompt: count(&usage["input_tokens_details"]["cached_tokens"]),
            cache_write_prompt: 0,
            completion: count(&usage["output_tokens"]),
            reasoning: count(&usage["output_tokens_details"]["reasoning_tokens"]),
        });
    }
}

fn terminal(heard: &mut Heard, value: &Value) {
    usage(heard, &value["usage"]);
    match value["status"].as_str() {
        Some("failed") => heard.errors += 1,
        _ => heard.finish(&value["status"]),
    }
}

/// The events of a stream.
pub(super) fn stream(heard: &mut Heard, events: &[Arrived]) {
    let (mut items, mut open) = (0, None::<String>);
    for (number, event) in events.iter().enumerate() {
        let Some(value) = heard.parse(&event.data) else { continue };
        let kind = value["type"].as_str().unwrap_or_default();
        if kind != event.name && event.name != "message" {
            heard.violation(format!("responses: event '{}' carries type '{kind}'", event.name));
        }
        if value["sequence_number"].as_u64() != Some(number as u64) {
            heard.violation(format!("responses: {kind} is number {number} and says otherwise"));
        }
        if number == 0 && !matches!(kind, "response.created" | "error" | "response.failed") {
            heard.violation(format!("responses: the first event is {kind}"));
        }
        heard.after_the_end(Shape::Responses);
        match kind {
            "response.created" | "response.in_progress" => {
                heard.model(&value["response"]["model"]);
                usage(heard, &value["response"]["usage"]);
            }
            "response.output_item.added" => {
                if open.is_some() || count(&value["output_index"]) != items {
                    heard.violation("responses: an item is added out of order");
                }
                items += 1;
                let item = &value["item"];
                if item["type"] == "function_call" {
                    heard.calls.push(call(item, String::new()));
                }
                open = Some(text(&item["id"]));
            }
            "response.output_item.done" => {
                if open.take() != Some(text(&value["item"]["id"])) {
                    heard.violation("responses: an item is done that is not open");
                }
                heard.signatures.extend(value["item"]["encrypted_content"].as_str().map(str::to_owned));
            }
            "error" => heard.errors += 1,
            "response.completed" | "response.incomplete" | "response.failed" => {
                heard.ends += usize::from(kind != "response.failed");
                terminal(heard, &value["response"]);
                compare(heard, &value["response"]);
            }
            _ => grow(heard, kind, open.as_deref(), &value),
        }
    }
}

/// The terminal must carry what was streamed.
fn compare(heard: &mut Heard, response: &Value) {
    if response["status"] == "failed" {
        return;
    }
    let mut whole = Heard::default();
    document(&mut whole, response);
    if whole.text != heard.text || whole.calls != heard.calls || whole.refusal != heard.refusal {
        heard.violation("responses: the terminal's output is not what was streamed");
    }
}

fn grow(heard: &mut Heard, kind: &str, open: Option<&str>, value: &Value) {
    if open.is_none() || open != value["item_id"].as_str() {
        heard.violation(format!("responses: {kind} outside of its item"));
    }
    let delta = &value["delta"];
    match kind {
        "response.output_text.delta" => heard.say(delta),
        "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => heard.think(delta),
        "response.refusal.delta" => heard.refusal.push_str(delta.as_str().unwrap_or_default()),
        "response.function_call_arguments.delta" => {
            heard.pieces += 1;
            if let Some(call) = heard.calls.last_mut() {
                call.arguments.push_str(delta.as_str().unwrap_or_default());
            }
        }
        "response.function_call_arguments.done" => {
            let told = heard
                .calls
                .last()
                .is_some_and(|call| Some(call.arguments.as_str()) == value["arguments"].as_str());
            if !told {
                heard.violation("responses: the arguments are not the sum of their pieces");
            }
        }
        "response.content_part.added"
        | "response.content_part.done"
        | "response.output_text.done"
        | "response.refusal.done"
        | "response.reasoning_summary_part.added"
        | "response.reasoning_summary_part.done"
        | "response.reasoning_summary_text.done"
        | "response.reasoning_text.done" => {}
        other => heard.violation(format!("responses: unknown event {other}")),
    }
}

//! Writes Ollama's chat.
//!
//! Source: Ollama's API reference. A stream is lines of JSON; the last has `done` and the counts. Tool
//! calls come whole, with arguments as an object.

use super::{Event, Framing, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish, ToolCall};
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use crate::upstream::time::rfc3339;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The grammar.
pub(super) struct Ollama;

impl Grammar for Ollama {
    fn document(&self, told: &Told<'_>) -> Value {
        let choice = &told.answer.choices[0];
        let mut message = json!({"role": "assistant", "content": choice.words.concat()});
        if !choice.reasoning.words.is_empty() {
            message["thinking"] = json!(choice.reasoning.text());
        }
        if !choice.calls.is_empty() {
            message["tool_calls"] = calls(choice);
        }
        let mut value = last(told, choice, told.usage());
        value["message"] = message;
        if told.fault == Some(Fault::DoneWithoutFinish) {
            remove_reason(&mut value);
        }
        value
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        let choice = &told.answer.choices[0];
        let mut events = Vec::new();
        if told.fault == Some(Fault::ErrorAfterRole) {
            events.push(Event::new(Part::Role, "", line(told, json!({"content": ""}))));
        }
        for word in &choice.reasoning.words {
            let data = line(told, json!({"content": "", "thinking": word}));
            events.push(Event { tokens: told.tokens(word), ..Event::new(Part::Content, "", data) });
        }
        for word in &choice.words {
            let data = line(told, json!({"content": word}));
            events.push(Event { tokens: told.tokens(word), ..Event::new(Part::Content, "", data) });
        }
        if !choice.calls.is_empty() {
            let data = line(told, json!({"content": "", "tool_calls": calls(choice)}));
            let tokens = choice.calls.iter().map(|call| told.tokens(&call.arguments)).sum();
            events.push(Event { tokens, ..Event::new(Part::Content, "", data) });
        }
        events.push(Event::new(Part::Finish, "", last(told, choice, told.usage())));
        events
    }

    fn late(&self, told: &Told<'_>, text: &str) -> Event {
        Event::new(Part::Content, "", line(told, json!({"content": text})))
    }

    /// Old servers end without a reason: `done` is the end, and stays.
    fn unfinish(&self, events: &mut Vec<Event>) {
        for event in events {
            remove_reason(&mut event.data);
        }
    }

    fn reshape(&self, told: &Told<'_>, events: &mut Vec<Event>) {
        if told.fault == Some(Fault::TwoUsageChunks) {
            let usage = told.answer.usage;
            if let Some(event) = events.iter_mut().find(|event| event.part == Part::Content) {
                event.data["prompt_eval_count"] = json!(usage.prompt);
                event.data["eval_count"] = json!(usage.completion.div_ceil(2));
            }
        }
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn keep_alive(&self) -> &'static [u8] {
        b"\n"
    }
}

fn remove_reason(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove("done_reason");
    }
}

fn calls(choice: &Choice) -> Value {
    let call = |(index, call): (usize, &ToolCall)| {
        let arguments = call.object().unwrap_or_else(|| json!({}));
        json!({"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}})
    };
    choice.calls.iter().enumerate().map(call).collect()
}

fn line(told: &Told<'_>, mut message: Value) -> Value {
    let created = SystemTime::UNIX_EPOCH + Duration::from_secs(told.answer.created_s);
    message["role"] = json!("assistant");
    json!({"model": told.answer.model, "created_at": rfc3339(created), "message": message, "done": false})
}

fn last(told: &Told<'_>, choice: &Choice, usage: Option<UsageSeen>) -> Value {
    let mut value = line(told, json!({"content": ""}));
    value["done"] = json!(true);
    value["done_reason"] = json!(if choice.finish == Finish::Length { "length" } else { "stop" });
    value["total_duration"] = json!(5_000_000);
    value["load_duration"] = json!(1_000_000);
    if let Some(usage) = usage {
        value["prompt_eval_count"] = json!(usage.prompt);
        value["prompt_eval_duration"] = json!(1_000_000);
        value["eval_count"] = json!(usage.completion);
        value["eval_duration"] = json!(3_000_000);
    }
    value
}

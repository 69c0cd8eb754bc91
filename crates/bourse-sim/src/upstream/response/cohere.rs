//! Writes Cohere's chat, version 2.
//!
//! Source: Cohere's guides to streaming and to tool use: `message-start`, blocks of content or a plan and calls, each
//! between a start and an end, then `message-end` with the reason and the usage, and `[DONE]`. Reasoning before calls
//! is told as the plan. The vendor adds a preamble to every prompt: it is counted, cached first, and not billed.

use super::{Event, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish, argument_pieces};
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use serde_json::{Value, json};

/// Tokens of the preamble.
const PREAMBLE_TOKENS: u64 = 70;

/// The grammar.
pub(super) struct Cohere;

impl Grammar for Cohere {
    fn document(&self, told: &Told<'_>) -> Value {
        let choice = &told.answer.choices[0];
        let blocks = blocks(choice);
        let block = |(kind, words): &(&'static str, &[String])| json!({"type": kind, *kind: words.concat()});
        let mut message = json!({"role": "assistant"});
        if !blocks.is_empty() {
            message["content"] = blocks.iter().map(block).collect();
        }
        if !choice.calls.is_empty() {
            message["tool_plan"] = json!(choice.reasoning.text());
            message["tool_calls"] = choice.calls.iter().map(|c| call(&c.id, &c.name, &c.arguments)).collect();
        }
        let mut value = end(told, choice);
        value["id"] = json!(told.answer.id);
        value["message"] = message;
        if told.fault == Some(Fault::DoneWithoutFinish) {
            value.as_object_mut().map(|map| map.remove("finish_reason"));
        }
        value
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        let choice = &told.answer.choices[0];
        let empty =
            json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
        let mut events = vec![event(Part::Role, "message-start", None, empty)];
        events[0].data["id"] = json!(told.answer.id);
        for (index, (kind, words)) in blocks(choice).into_iter().enumerate() {
            let content = |text: &str| json!({"content": {kind: text}});
            let opening = json!({"content": {"type": kind, kind: ""}});
            events.push(event(Part::Frame, "content-start", Some(index), opening));
            for word in words {
                let piece = event(Part::Content, "content-delta", Some(index), content(word));
                events.push(Event { tokens: told.tokens(word), ..piece });
            }
            events.push(closing("content-end", index));
        }
        if !choice.calls.is_empty() {
            for word in &choice.reasoning.words {
                let piece = event(Part::Content, "tool-plan-delta", None, json!({"tool_plan": word}));
                events.push(Event { tokens: told.tokens(word), ..piece });
            }
        }
        for (index, one) in choice.calls.iter().enumerate() {
            let opening = json!({"tool_calls": call(&one.id, &one.name, "")});
            events.push(event(Part::Frame, "tool-call-start", Some(index), opening));
            let pieces = argument_pieces(&one.arguments);
            for (at, piece) in pieces.iter().enumerate() {
                let more = json!({"tool_calls": {"function": {"arguments": piece}}});
                let tokens = if at + 1 == pieces.len() { told.tokens(&one.arguments) } else { 0 };
                events.push(Event { tokens, ..event(Part::Content, "tool-call-delta", Some(index), more) });
            }
            events.push(closing("tool-call-end", index));
        }
        let data = json!({"type": "message-end", "delta": end(told, choice)});
        events.push(Event::new(Part::Finish, "message-end", data));
        events.push(Event::new(Part::Done, "", Value::Null));
        events
    }

    fn late(&self, _told: &Told<'_>, text: &str) -> Event {
        event(Part::Content, "content-delta", Some(0), json!({"content": {"text": text}}))
    }

    fn error(&self, told: &Told<'_>) -> Event {
        let delta = json!({"finish_reason": "ERROR", "error": told.error()["message"]});
        Event::new(Part::Error, "message-end", json!({"type": "message-end", "delta": delta}))
    }
}

fn event(part: Part, kind: &'static str, index: Option<usize>, message: Value) -> Event {
    let mut data = json!({"type": kind, "delta": {}});
    data["delta"]["message"] = message;
    if let Some(index) = index {
        data["index"] = json!(index);
    }
    Event::new(part, kind, data)
}

fn closing(kind: &'static str, index: usize) -> Event {
    Event::new(Part::Frame, kind, json!({"type": kind, "index": index}))
}

/// The blocks of content; thoughts before calls are a plan and no block.
fn blocks(choice: &Choice) -> Vec<(&'static str, &[String])> {
    let thoughts = if choice.calls.is_empty() { &choice.reasoning.words[..] } else { &[] };
    let all = [("thinking", thoughts), ("text", &choice.words[..])];
    all.into_iter().filter(|(_, words)| !words.is_empty()).collect()
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// Why it ended, and what was used.
fn end(told: &Told<'_>, choice: &Choice) -> Value {
    let word = match choice.finish {
        Finish::Length => "MAX_TOKENS",
        Finish::ToolCalls => "TOOL_CALL",
        Finish::Stop | Finish::Malformed | Finish::Refusal => "COMPLETE",
    };
    let mut value = json!({"finish_reason": word});
    if let Some(usage) = told.usage() {
        value["usage"] = usage_value(usage);
    }
    value
}

fn usage_value(usage: UsageSeen) -> Value {
    let cached = if usage.cached_prompt > 0 { usage.cached_prompt + PREAMBLE_TOKENS } else { 0 };
    json!({
        "billed_units": {"input_tokens": usage.prompt, "output_tokens": usage.completion},
        "tokens": {"input_tokens": usage.prompt + PREAMBLE_TOKENS, "output_tokens": usage.completion},
        "cached_tokens": cached,
    })
}

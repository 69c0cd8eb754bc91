//! Writes OpenAI chat completions and text completions.
//!
//! Reasoning stands in `reasoning_content`, as the engines that imitate this API write it.

use super::{Event, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish, ToolCall, argument_pieces};
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use crate::upstream::shape::Shape;
use serde_json::{Value, json};

/// The grammar.
pub(super) struct Chat;

impl Grammar for Chat {
    fn document(&self, told: &Told<'_>) -> Value {
        let usage = told.usage().map(|usage| usage_value(told, usage));
        let choices = told.answer.choices.iter().enumerate();
        let choices: Vec<Value> =
            choices.map(|(index, choice)| choice_value(told, index, choice, usage.as_ref())).collect();
        let object = if told.call.shape == Shape::Chat { "chat.completion" } else { "text_completion" };
        let mut document = json!({
            "id": id(told), "object": object, "created": told.answer.created_s,
            "model": told.answer.model, "system_fingerprint": "fp_sim", "choices": choices,
        });
        if let Some(usage) = usage {
            document["usage"] = usage;
        }
        document
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let choices = &told.answer.choices;
        if told.call.shape == Shape::Chat {
            for index in 0..choices.len() {
                let data = delta(told, index, &json!({"role": "assistant", "content": ""}), None);
                events.push(Event::new(Part::Role, "", data));
            }
        }
        for (name, words) in [
            ("reasoning_content", (|choice| &choice.reasoning.words) as fn(&Choice) -> &Vec<String>),
            ("content", |choice| &choice.words),
        ] {
            let longest = choices.iter().map(|choice| words(choice).len()).max().unwrap_or(0);
            for at in 0..longest {
                for (index, choice) in choices.iter().enumerate() {
                    if let Some(word) = words(choice).get(at) {
                        events.push(content(told, index, &json!({name: word}), told.tokens(word)));
                    }
                }
            }
        }
        for (index, choice) in choices.iter().enumerate() {
            for (n, call) in choice.calls.iter().enumerate() {
                events.extend(tool_events(told, index, n, call));
            }
            let data = delta(told, index, &json!({}), Some(finish_word(choice.finish)));
            events.push(Event::new(Part::Finish, "", data));
        }
        if told.call.include_usage {
            events.extend(usage_event(told, told.usage()));
        }
        events.push(Event::new(Part::Done, "", Value::Null));
        events
    }

    fn late(&self, told: &Told<'_>, text: &str) -> Event {
        content(told, 0, &json!({"content": text}), 0)
    }

    fn broken_off(&self, told: &Told<'_>) -> Vec<Event> {
        let mut data = delta(told, 0, &json!({"content": ""}), Some("error"));
        data["error"] = json!({"code": 502, "message": "Upstream broke off"});
        vec![Event::new(Part::Error, "", data), Event::new(Part::Done, "", Value::Null)]
    }

    fn reshape(&self, told: &Told<'_>, events: &mut Vec<Event>) {
        let finish_at = events.iter().rposition(|event| event.part == Part::Finish).unwrap_or(0);
        let usage = told.answer.usage;
        match told.fault {
            Some(Fault::TwoUsageChunks) => {
                events.retain(|event| event.part != Part::Usage);
                let running = usage_event(told, usage.claimed(Some(Fault::UsageLow)));
                events.splice(finish_at..finish_at, running);
                let end = events.len() - 1;
                events.splice(end..end, usage_event(told, Some(usage)));
            }
            Some(Fault::UsageWithChoices) => {
                events.retain(|event| event.part != Part::Usage);
                events[finish_at].data["usage"] = usage_value(told, usage);
            }
            Some(Fault::UsageLow | Fault::UsageHigh | Fault::CachedAbovePrompt)
                if !told.call.include_usage =>
            {
                let end = events.len() - 1;
                events.splice(end..end, usage_event(told, told.usage()));
            }
            _ => {}
        }
    }
}

fn id(told: &Told<'_>) -> String {
    format!("chatcmpl-sim-{}", told.answer.id)
}

fn finish_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Stop | Finish::Refusal | Finish::Malformed => "stop",
    }
}

fn usage_value(told: &Told<'_>, usage: UsageSeen) -> Value {
    let mut value = json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_prompt},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    });
    if told.config.cache.is_some() {
        value["prompt_tokens_details"]["cache_write_tokens"] = json!(usage.cache_write_prompt);
    }
    value
}

fn choice_value(told: &Told<'_>, index: usize, choice: &Choice, usage: Option<&Value>) -> Value {
    let breaks_off = told.fault == Some(Fault::ErrorAfterTokens);
    let finish = match told.fault {
        Some(Fault::DoneWithoutFinish) => Value::Null,
        Some(Fault::ErrorAfterTokens) => json!("error"),
        _ => json!(finish_word(choice.finish)),
    };
    let said = if breaks_off { choice.words.len().div_ceil(2) } else { choice.words.len() };
    let text = choice.words[..said].concat();
    let mut value = json!({"index": index, "logprobs": null, "finish_reason": finish});
    if told.call.shape == Shape::Completions {
        value["text"] = json!(text);
    } else {
        value["message"] = message(choice, &text);
    }
    if breaks_off {
        value["error"] = json!({"code": 502, "message": "Upstream broke off"});
    }
    if let (Some(Fault::TwoUsageChunks | Fault::UsageWithChoices), Some(usage)) = (told.fault, usage) {
        value["usage"] = usage.clone();
    }
    value
}

fn message(choice: &Choice, text: &str) -> Value {
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if choice.finish == Finish::Refusal {
        message["content"] = Value::Null;
        message["refusal"] = json!(text);
    }
    if !choice.reasoning.words.is_empty() {
        message["reasoning_content"] = json!(choice.reasoning.text());
    }
    if !choice.calls.is_empty() {
        let call = |call: &ToolCall| {
            json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments}})
        };
        message["content"] = Value::Null;
        message["tool_calls"] = choice.calls.iter().map(call).collect();
    }
    message
}

fn chunk(told: &Told<'_>, choices: &Value, usage: Option<Value>) -> Value {
    let object = if told.call.shape == Shape::Chat { "chat.completion.chunk" } else { "text_completion" };
    let mut value = json!({
        "id": id(told), "object": object, "created": told.answer.created_s,
        "model": told.answer.model, "system_fingerprint": "fp_sim", "choices": choices,
    });
    if let Some(usage) = usage {
        value["usage"] = usage;
    } else if told.call.include_usage {
        value["usage"] = Value::Null;
    }
    value
}

/// A chunk with one choice: a `delta` for chat, a `text` for completions.
fn delta(told: &Told<'_>, index: usize, delta: &Value, finish: Option<&str>) -> Value {
    let choice = if told.call.shape == Shape::Chat {
        json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish})
    } else {
        let text = delta["content"].as_str().unwrap_or_default();
        json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
    };
    chunk(told, &json!([choice]), None)
}

fn content(told: &Told<'_>, index: usize, said: &Value, tokens: u64) -> Event {
    let is_refusal = told.answer.choices.get(index).is_some_and(|choice| choice.finish == Finish::Refusal);
    let refused = said["content"].is_string() && is_refusal && told.call.shape == Shape::Chat;
    let renamed = if refused { json!({"refusal": said["content"]}) } else { said.clone() };
    Event { tokens, ..Event::new(Part::Content, "", delta(told, index, &renamed, None)) }
}

fn usage_event(told: &Told<'_>, usage: Option<UsageSeen>) -> Option<Event> {
    let data = chunk(told, &json!([]), Some(usage_value(told, usage?)));
    Some(Event::new(Part::Usage, "", data))
}

fn tool_events(told: &Told<'_>, index: usize, n: usize, call: &ToolCall) -> Vec<Event> {
    let first = json!({"tool_calls": [{"index": n, "id": call.id, "type": "function",
        "function": {"name": call.name, "arguments": ""}}]});
    let mut out = vec![content(told, index, &first, 0)];
    let pieces = argument_pieces(&call.arguments);
    for (at, piece) in pieces.iter().enumerate() {
        let tokens = if at + 1 == pieces.len() { told.tokens(&call.arguments) } else { 0 };
        let next = json!({"tool_calls": [{"index": n, "function": {"arguments": piece}}]});
        out.push(content(told, index, &next, tokens));
    }
    out
}

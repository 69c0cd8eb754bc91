//! Writes OpenAI responses.
//!
//! Source: OpenAI's reference of streaming events of the Responses API. Every event carries a sequence
//! number; the last one carries the whole response; there is no `[DONE]`.

use super::{Event, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish, ToolCall, argument_pieces};
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use crate::upstream::request::Seal;
use crate::upstream::signature::sign;
use serde_json::{Value, json};

/// The grammar.
pub(super) struct Responses;

impl Grammar for Responses {
    fn document(&self, told: &Told<'_>) -> Value {
        let choice = &told.answer.choices[0];
        let mut whole = response(told, Some(choice));
        if told.fault == Some(Fault::DoneWithoutFinish) {
            whole["status"] = Value::Null;
        }
        whole
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        let choice = &told.answer.choices[0];
        let opening = response(told, None);
        let mut events = vec![
            event(Part::Role, "response.created", json!({"response": opening})),
            event(Part::Role, "response.in_progress", json!({"response": opening})),
        ];
        let items = items(told, choice);
        for (index, item) in items.iter().enumerate() {
            item.events(told, index, &mut events);
        }
        let name = if choice.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
        let whole = json!({"response": response(told, Some(choice))});
        events.push(event(Part::Finish, name, whole));
        events
    }

    fn late(&self, told: &Told<'_>, text: &str) -> Event {
        let data = json!({"item_id": format!("msg_sim_{}", told.answer.id), "output_index": 0,
            "content_index": 0, "delta": text, "logprobs": []});
        event(Part::Content, "response.output_text.delta", data)
    }

    fn error(&self, _told: &Told<'_>) -> Event {
        let data = json!({"code": "server_error", "message": "The server had an error while answering",
            "param": null});
        event(Part::Error, "error", data)
    }

    fn broken_off(&self, told: &Told<'_>) -> Vec<Event> {
        let mut failed = response(told, None);
        failed["status"] = json!("failed");
        failed["error"] =
            json!({"code": "server_error", "message": "The server had an error while answering"});
        vec![event(Part::Error, "response.failed", json!({"response": failed}))]
    }

    fn reshape(&self, told: &Told<'_>, events: &mut Vec<Event>) {
        if told.fault == Some(Fault::TwoUsageChunks) {
            let usage = told.answer.usage;
            let running = UsageSeen { completion: usage.completion.div_ceil(2), ..usage };
            if let Some(event) = events.iter_mut().find(|event| event.name == "response.in_progress") {
                event.data["response"]["usage"] = usage_value(running);
            }
        }
    }

    fn number(&self, events: &mut [Event]) {
        for (number, event) in events.iter_mut().enumerate() {
            event.data["sequence_number"] = json!(number);
        }
    }
}

fn event(part: Part, name: &'static str, mut data: Value) -> Event {
    data["type"] = json!(name);
    Event::new(part, name, data)
}

fn usage_value(usage: UsageSeen) -> Value {
    json!({
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached_prompt, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    })
}

/// The response object, with every member that strict clients demand: opened, or with all that a choice says.
fn response(told: &Told<'_>, choice: Option<&Choice>) -> Value {
    let mut value = json!({
        "id": format!("resp_sim_{}", told.answer.id), "object": "response",
        "created_at": told.answer.created_s, "completed_at": null, "status": "in_progress", "background": false,
        "error": null, "frequency_penalty": 0.0, "incomplete_details": null, "instructions": null,
        "max_output_tokens": told.call.max_tokens, "max_tool_calls": null,
        "model": told.answer.model, "output": [], "parallel_tool_calls": true, "presence_penalty": 0.0,
        "previous_response_id": null, "prompt_cache_key": null,
        "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "store": false,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": 1.0,
        "truncation": "disabled", "usage": null, "user": null, "metadata": {},
    });
    if let Some(choice) = choice {
        value["output"] = items(told, choice).iter().map(Item::whole).collect();
        value["status"] = json!("completed");
        if choice.finish == Finish::Length {
            value["status"] = json!("incomplete");
            value["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            value["completed_at"] = json!(told.answer.created_s);
        }
        value["usage"] = told.usage().map_or(Value::Null, usage_value);
    }
    value
}

/// One item of output.
enum Item<'a> {
    Reasoning { id: String, words: &'a [String], is_shown: bool, sealed: Option<String> },
    Message { id: String, words: &'a [String], is_refusal: bool, is_cut: bool },
    Call { id: String, call: &'a ToolCall },
}

fn items<'a>(told: &Told<'_>, choice: &'a Choice) -> Vec<Item<'a>> {
    let mut out = Vec::new();
    let id = &told.answer.id;
    let reasoning = &choice.reasoning;
    if !reasoning.words.is_empty() {
        let sealed = (told.call.seal == Seal::Wanted).then(|| sign(&told.config.name, &reasoning.text()));
        let id = format!("rs_sim_{id}");
        out.push(Item::Reasoning { id, words: &reasoning.words, is_shown: reasoning.is_shown, sealed });
    }
    if !choice.words.is_empty() {
        let is_refusal = choice.finish == Finish::Refusal;
        let is_cut = choice.finish == Finish::Length;
        out.push(Item::Message { id: format!("msg_sim_{id}"), words: &choice.words, is_refusal, is_cut });
    }
    for (n, call) in choice.calls.iter().enumerate() {
        out.push(Item::Call { id: format!("fc_sim_{id}_{n}"), call });
    }
    out
}

impl Item<'_> {
    fn whole(&self) -> Value {
        match self {
            Self::Reasoning { id, words, is_shown, sealed } => {
                let summary = if *is_shown {
                    json!([{"type": "summary_text", "text": words.concat()}])
                } else {
                    json!([])
                };
                let mut value = json!({"id": id, "type": "reasoning", "summary": summary});
                if let Some(sealed) = sealed {
                    value["encrypted_content"] = json!(sealed);
                }
                value
            }
            Self::Message { id, words, is_refusal, is_cut } => {
                let status = if *is_cut { "incomplete" } else { "completed" };
                let part = content_part(*is_refusal, &words.concat());
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part]})
            }
            Self::Call { id, call } => json!({"id": id, "type": "function_call", "status": "completed",
                "call_id": call.id, "name": call.name, "arguments": call.arguments}),
        }
    }

    fn opening(&self) -> Value {
        let mut value = self.whole();
        value["status"] = json!("in_progress");
        match self {
            Self::Reasoning { .. } => value["summary"] = json!([]),
            Self::Message { .. } => value["content"] = json!([]),
            Self::Call { .. } => value["arguments"] = json!(""),
        }
        value
    }

    fn events(&self, told: &Told<'_>, index: usize, out: &mut Vec<Event>) {
        let frame = |name, data| event(Part::Frame, name, data);
        let opened = json!({"output_index": index, "item": self.opening()});
        out.push(frame("response.output_item.added", opened));
        match self {
            Self::Reasoning { id, words, is_shown: true, .. } => {
                let at = json!({"item_id": id, "output_index": index, "summary_index": 0});
                let part = json!({"type": "summary_text", "text": ""});
                out.push(frame("response.reasoning_summary_part.added", with(&at, "part", part)));
                for word in *words {
                    let data = with(&at, "delta", json!(word));
                    let delta = event(Part::Content, "response.reasoning_summary_text.delta", data);
                    out.push(Event { tokens: told.tokens(word), ..delta });
                }
                let text = words.concat();
                out.push(frame("response.reasoning_summary_text.done", with(&at, "text", json!(text))));
                let part = json!({"type": "summary_text", "text": text});
                out.push(frame("response.reasoning_summary_part.done", with(&at, "part", part)));
            }
            Self::Reasoning { .. } => {}
            Self::Message { id, words, is_refusal, .. } => {
                message_events(told, index, id, words, *is_refusal, out);
            }
            Self::Call { id, call } => {
                let at = json!({"item_id": id, "output_index": index});
                let pieces = argument_pieces(&call.arguments);
                for (n, piece) in pieces.iter().enumerate() {
                    let tokens = if n + 1 == pieces.len() { told.tokens(&call.arguments) } else { 0 };
                    let data = with(&at, "delta", json!(piece));
                    let delta = event(Part::Content, "response.function_call_arguments.delta", data);
                    out.push(Event { tokens, ..delta });
                }
                let data = with(&with(&at, "arguments", json!(call.arguments)), "name", json!(call.name));
                out.push(frame("response.function_call_arguments.done", data));
            }
        }
        let closed = json!({"output_index": index, "item": self.whole()});
        out.push(frame("response.output_item.done", closed));
    }
}

fn with(base: &Value, name: &str, value: Value) -> Value {
    let mut out = base.clone();
    out[name] = value;
    out
}

fn content_part(is_refusal: bool, text: &str) -> Value {
    if is_refusal {
        json!({"type": "refusal", "refusal": text})
    } else {
        json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
    }
}

fn message_events(
    told: &Told<'_>,
    index: usize,
    id: &str,
    words: &[String],
    is_refusal: bool,
    out: &mut Vec<Event>,
) {
    let at = json!({"item_id": id, "output_index": index, "content_index": 0});
    // Events of text list log-probabilities, even when there are none.
    let mut said_at = at.clone();
    if !is_refusal {
        said_at["logprobs"] = json!([]);
    }
    let (delta_name, done_name, done_field) = if is_refusal {
        ("response.refusal.delta", "response.refusal.done", "refusal")
    } else {
        ("response.output_text.delta", "response.output_text.done", "text")
    };
    let part = content_part(is_refusal, "");
    out.push(event(Part::Frame, "response.content_part.added", with(&at, "part", part)));
    for word in words {
        let delta = event(Part::Content, delta_name, with(&said_at, "delta", json!(word)));
        out.push(Event { tokens: told.tokens(word), ..delta });
    }
    let text = words.concat();
    out.push(event(Part::Frame, done_name, with(&said_at, done_field, json!(text))));
    let part = content_part(is_refusal, &text);
    out.push(event(Part::Frame, "response.content_part.done", with(&at, "part", part)));
}

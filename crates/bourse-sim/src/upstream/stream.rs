//! The body of a streamed answer, with its faults.
//!
//! First the honest list of events, then the fault's change to that list, then bytes.

use super::answer::{Answer, argument_pieces, to_json_text};
use super::config::SellerConfig;
use super::fault::Fault;
use super::plain::{HUGE_LINE_BYTES, KEEP_ALIVES, inside_a_character};
use super::request::{Call, Surface};
use super::script::{Body, Close, Step, error_object};
use serde_json::{Value, json};
use std::time::Duration;

const DONE: &str = "[DONE]";
const COMMENT: &[u8] = b": SIM PROCESSING\n\n";

/// What an event is for; faults choose by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Role,
    Content,
    Finish,
    Usage,
    Error,
    Done,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    part: Part,
    data: Value,
    tokens: u64,
}

/// The unframed body.
pub(super) fn body(fault: Option<Fault>, call: &Call, answer: &Answer, config: &SellerConfig) -> Body {
    let writer = Writer { call, answer, config };
    let mut events = writer.honest_events(fault);
    let (cut, hang) = writer.apply(fault, &mut events);
    let mut steps = writer.steps(fault, &events);
    match hang {
        Some(Step::Send { bytes, .. }) => steps.push(Step::send(bytes)),
        Some(step) => steps.push(step),
        None => {}
    }
    if matches!(fault, Some(Fault::CutMidUtf8 | Fault::CutMidJson)) {
        cut_last(fault, &mut steps);
    }
    Body { content_type: "text/event-stream", steps, chunked: true, cut }
}

struct Writer<'a> {
    call: &'a Call,
    answer: &'a Answer,
    config: &'a SellerConfig,
}

impl Writer<'_> {
    fn chunk(&self, choices: &Value, usage: Option<Value>) -> Value {
        let object =
            if self.call.surface == Surface::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut value = json!({
            "id": self.answer.id, "object": object, "created": self.answer.created_s,
            "model": self.answer.model, "system_fingerprint": "fp_sim", "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        } else if self.call.include_usage {
            value["usage"] = Value::Null;
        }
        value
    }

    /// A chunk with one choice: a `delta` for chat, a `text` for completions.
    fn choice(&self, index: usize, delta: &Value, finish: Option<&str>) -> Value {
        let choice = match self.call.surface {
            Surface::Chat => {
                json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish})
            }
            Surface::Completion => {
                let text = delta["content"].as_str().unwrap_or_default();
                json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
            }
        };
        self.chunk(&json!([choice]), None)
    }

    fn content(&self, index: usize, delta: &Value, tokens: u64) -> Event {
        Event { part: Part::Content, data: self.choice(index, delta, None), tokens }
    }

    fn usage(&self, fault: Option<Fault>) -> Option<Event> {
        let claimed = self.answer.usage.claimed(fault)?;
        let data = self.chunk(&json!([]), Some(claimed.to_json()));
        Some(Event { part: Part::Usage, data, tokens: 0 })
    }

    fn honest_events(&self, fault: Option<Fault>) -> Vec<Event> {
        let mut events = Vec::new();
        if self.call.surface == Surface::Chat {
            for index in 0..self.answer.choices.len() {
                let data = self.choice(index, &json!({"role": "assistant", "content": ""}), None);
                events.push(Event { part: Part::Role, data, tokens: 0 });
            }
        }
        let longest = self.answer.choices.iter().map(|choice| choice.words.len()).max().unwrap_or(0);
        for at in 0..longest {
            for (index, choice) in self.answer.choices.iter().enumerate() {
                if let Some(word) = choice.words.get(at) {
                    let tokens = self.config.tokens.count(word);
                    events.push(self.content(index, &json!({"content": word}), tokens));
                }
            }
        }
        for (index, choice) in self.answer.choices.iter().enumerate() {
            for (n, call) in choice.calls.iter().enumerate() {
                events.extend(self.tool_events(index, n, call));
            }
            let data = self.choice(index, &json!({}), Some(choice.finish));
            events.push(Event { part: Part::Finish, data, tokens: 0 });
        }
        if self.call.include_usage {
            events.extend(self.usage(fault));
        }
        events.push(Event { part: Part::Done, data: Value::Null, tokens: 0 });
        events
    }

    fn tool_events(&self, index: usize, n: usize, call: &super::answer::ToolCall) -> Vec<Event> {
        let delta = |function: Value, first: bool| {
            let mut entry = json!({"index": n, "function": function});
            if first {
                entry["id"] = json!(call.id);
                entry["type"] = json!("function");
            }
            json!({"tool_calls": [entry]})
        };
        let mut out = vec![self.content(index, &delta(json!({"name": call.name, "arguments": ""}), true), 0)];
        let pieces = argument_pieces(&call.arguments);
        let tokens = self.config.tokens.count(&call.arguments);
        for (at, piece) in pieces.iter().enumerate() {
            let tokens = if at + 1 == pieces.len() { tokens } else { 0 };
            out.push(self.content(index, &delta(json!({"arguments": piece}), false), tokens));
        }
        out
    }

    /// Changes the honest list; returns how the connection is cut, and what follows the last event.
    fn apply(&self, fault: Option<Fault>, events: &mut Vec<Event>) -> (Option<Close>, Option<Step>) {
        let Some(fault) = fault else { return (None, None) };
        let drip = self.config.timing.drip;
        let broken = error_object("The server had an error while answering", "server_error");
        let error = |data: Value| Event { part: Part::Error, data, tokens: 0 };
        match fault {
            Fault::HeadersThenHang => {
                events.clear();
                return (Some(Close::Fin), Some(Step::Hang));
            }
            Fault::CommentsForever => {
                events.clear();
                return (Some(Close::Fin), Some(Step::Repeat { bytes: COMMENT.to_vec(), every: drip }));
            }
            Fault::EmptyAnswer => events.retain(|event| event.part == Part::Done),
            Fault::FirstEventError => *events = vec![error(broken)],
            Fault::ErrorAfterRole => {
                events.retain(|event| event.part == Part::Role);
                events.push(error(broken));
            }
            Fault::ErrorAfterTokens => {
                keep_half(events);
                let mut data = self.choice(0, &json!({"content": ""}), Some("error"));
                data["error"] = json!({"code": 502, "message": "Upstream broke off"});
                events.push(error(data));
                events.push(Event { part: Part::Done, data: Value::Null, tokens: 0 });
            }
            Fault::CutWithoutDone => keep_half(events),
            Fault::ResetMidBody => {
                keep_half(events);
                return (Some(Close::Reset), None);
            }
            Fault::CutMidUtf8 | Fault::CutMidJson => {
                keep_half(events);
                events.push(self.content(0, &json!({"content": " 🦀 cut"}), 0));
                return (Some(Close::Fin), None);
            }
            Fault::DoneWithoutFinish => events.retain(|event| event.part != Part::Finish),
            _ => self.apply_to_usage_and_shape(fault, events),
        }
        (None, None)
    }

    fn apply_to_usage_and_shape(&self, fault: Fault, events: &mut Vec<Event>) {
        let finish_at = events.iter().rposition(|event| event.part == Part::Finish).unwrap_or(0);
        match fault {
            Fault::TwoUsageChunks => {
                events.retain(|event| event.part != Part::Usage);
                let running = self.usage(Some(Fault::UsageLow));
                events.splice(finish_at..finish_at, running);
                let end = events.len() - 1;
                events.splice(end..end, self.usage(None));
            }
            Fault::UsageWithChoices => {
                events.retain(|event| event.part != Part::Usage);
                events[finish_at].data["usage"] = self.answer.usage.to_json();
            }
            Fault::UsageLow | Fault::UsageHigh | Fault::CachedAbovePrompt if !self.call.include_usage => {
                let end = events.len() - 1;
                events.splice(end..end, self.usage(Some(fault)));
            }
            Fault::HugeLine => {
                if let Some(event) = events.iter_mut().find(|event| event.part == Part::Content) {
                    event.data["obfuscation"] = Value::from("x".repeat(HUGE_LINE_BYTES));
                }
            }
            Fault::ContentAfterFinish => {
                let late = self.content(0, &json!({"content": " late"}), 0);
                events.insert(finish_at + 1, late);
            }
            _ => {}
        }
    }

    fn steps(&self, fault: Option<Fault>, events: &[Event]) -> Vec<Step> {
        let (speed, timing) = (self.config.speed, self.config.timing);
        let per_token =
            if fault == Some(Fault::LateBytes) { timing.drip.max(speed.per_token) } else { speed.per_token };
        let total: u64 = self.answer.usage.completion;
        let (mut steps, mut sent, mut first, mut gap_due) =
            (Vec::new(), 0u64, true, fault == Some(Fault::IdleGap));
        for event in events {
            if event.part == Part::Content {
                let wait = if first { speed.first_token } else { per_token };
                if wait > Duration::ZERO {
                    steps.push(Step::Wait(wait));
                }
                first = false;
            }
            if fault == Some(Fault::KeepAliveComments) && sent == 0 && event.part == Part::Content {
                for _ in 0..KEEP_ALIVES {
                    steps.extend([Step::send(COMMENT), Step::Wait(timing.drip)]);
                }
            }
            steps.push(Step::Send { bytes: render(fault, event), tokens: event.tokens, missing: 0 });
            sent += event.tokens;
            if gap_due && sent * 2 >= total.max(1) {
                steps.push(Step::Wait(timing.gap));
                gap_due = false;
            }
        }
        steps
    }
}

/// Keeps the roles and the first half of the content, at least one piece of it.
fn keep_half(events: &mut Vec<Event>) {
    let content = events.iter().filter(|event| event.part == Part::Content).count();
    let mut left = content.div_ceil(2);
    events.retain(|event| match event.part {
        Part::Role => true,
        Part::Content if left > 0 => {
            left -= 1;
            true
        }
        _ => false,
    });
}

fn render(fault: Option<Fault>, event: &Event) -> Vec<u8> {
    let data = if event.part == Part::Done { DONE.to_owned() } else { to_json_text(&event.data) };
    let text = match fault {
        Some(Fault::CrLf) => format!("data: {data}\r\n\r\n"),
        Some(Fault::MultiLineData) if event.part != Part::Done => {
            let pretty = serde_json::to_string_pretty(&event.data).unwrap_or(data);
            let lines: Vec<String> = pretty.lines().map(|line| format!("data: {line}\n")).collect();
            format!("event: message\nid: 1\n{}\n", lines.concat())
        }
        _ => format!("data: {data}\n\n"),
    };
    text.into_bytes()
}

/// Cuts the last event: inside its character of four bytes, or inside its JSON.
fn cut_last(fault: Option<Fault>, steps: &mut [Step]) {
    if let Some(Step::Send { bytes, missing, .. }) = steps.last_mut() {
        let at = match fault {
            Some(Fault::CutMidUtf8) => inside_a_character(bytes),
            _ => None,
        };
        let at = at.unwrap_or(bytes.len() / 2);
        *missing = bytes.len() - at;
        bytes.truncate(at);
    }
}

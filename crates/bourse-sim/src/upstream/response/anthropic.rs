//! Writes Anthropic messages.
//!
//! Source: Anthropic's API reference and its page on streaming: `message_start`, then for each block
//! `content_block_start`, deltas, `content_block_stop`, then `message_delta` with the cumulative usage and
//! `message_stop`; a `ping` anywhere. Prompt tokens are told in three disjoint parts: read from the cache,
//! written into it, and the rest.

use super::{Event, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish, ToolCall, argument_pieces};
use crate::upstream::answer_script::ReasoningForm;
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use crate::upstream::signature::sign;
use serde_json::{Value, json};

/// The grammar.
pub(super) struct Messages;

impl Grammar for Messages {
    fn document(&self, told: &Told<'_>) -> Value {
        let choice = &told.answer.choices[0];
        let mut message = message(told);
        message["content"] = blocks(told, choice).iter().map(Block::whole).collect();
        if told.fault != Some(Fault::DoneWithoutFinish) {
            message["stop_reason"] = json!(stop_reason(choice.finish));
        }
        if let Some(usage) = told.usage() {
            message["usage"] = usage_value(usage, usage.completion);
        }
        message
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        let choice = &told.answer.choices[0];
        let mut opening = message(told);
        if let Some(usage) = told.usage() {
            // The first word is under way when the message starts.
            opening["usage"] = usage_value(usage, usage.completion.min(1));
        }
        let mut events = vec![event(Part::Role, "message_start", json!({"message": opening}))];
        for (index, block) in blocks(told, choice).iter().enumerate() {
            let start = json!({"index": index, "content_block": block.opening()});
            let opened = event(Part::Frame, "content_block_start", start);
            events.push(Event { tokens: block.opening_tokens(), ..opened });
            if index == 0 {
                events.push(event(Part::Frame, "ping", json!({})));
            }
            for (delta, tokens) in block.deltas(told) {
                let data = json!({"index": index, "delta": delta});
                events.push(Event { tokens, ..event(Part::Content, "content_block_delta", data) });
            }
            events.push(event(Part::Frame, "content_block_stop", json!({"index": index})));
        }
        let stop = json!({"stop_reason": stop_reason(choice.finish), "stop_sequence": null});
        let mut last = json!({"delta": stop});
        if let Some(usage) = told.usage() {
            last["usage"] = usage_value(usage, usage.completion);
        }
        events.push(event(Part::Finish, "message_delta", last));
        events.push(event(Part::Done, "message_stop", json!({})));
        events
    }

    fn late(&self, _told: &Told<'_>, text: &str) -> Event {
        let data = json!({"index": 0, "delta": {"type": "text_delta", "text": text}});
        event(Part::Content, "content_block_delta", data)
    }

    fn error(&self, told: &Told<'_>) -> Event {
        Event::new(Part::Error, "error", told.error())
    }

    fn reshape(&self, told: &Told<'_>, events: &mut Vec<Event>) {
        if told.fault == Some(Fault::TwoUsageChunks) {
            let usage = told.answer.usage;
            let running = usage_value(usage, usage.completion.div_ceil(2));
            let delta = json!({"stop_reason": null, "stop_sequence": null});
            let early = event(Part::Usage, "message_delta", json!({"delta": delta, "usage": running}));
            let at = events.iter().position(|event| event.part == Part::Finish).unwrap_or(0);
            events.insert(at, early);
        }
    }

    fn keep_alive(&self) -> &'static [u8] {
        b"event: ping\ndata: {\"type\": \"ping\"}\n\n"
    }
}

fn event(part: Part, name: &'static str, mut data: Value) -> Event {
    data["type"] = json!(name);
    Event::new(part, name, data)
}

fn message(told: &Told<'_>) -> Value {
    json!({
        "id": format!("msg_sim_{}", told.answer.id), "type": "message", "role": "assistant",
        "model": told.answer.model, "content": [], "stop_reason": null, "stop_sequence": null,
    })
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Malformed => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::Refusal => "refusal",
    }
}

fn usage_value(usage: UsageSeen, output: u64) -> Value {
    let cached = usage.cached_prompt + usage.cache_write_prompt;
    json!({
        "input_tokens": usage.prompt.saturating_sub(cached),
        "cache_read_input_tokens": usage.cached_prompt,
        "cache_creation_input_tokens": usage.cache_write_prompt,
        "output_tokens": output,
        "service_tier": "standard",
    })
}

/// One block of content.
enum Block<'a> {
    Thinking { words: &'a [String], text: String, signature: String },
    Redacted { data: String, tokens: u64 },
    Text(&'a [String]),
    ToolUse { id: String, call: &'a ToolCall },
}

fn blocks<'a>(told: &Told<'_>, choice: &'a Choice) -> Vec<Block<'a>> {
    let mut out = Vec::new();
    let seller = &told.config.name;
    let text = choice.reasoning.text();
    if !text.is_empty() {
        let signature = sign(seller, &text);
        out.push(match choice.reasoning.form {
            ReasoningForm::Open => Block::Thinking { words: &choice.reasoning.words, text, signature },
            ReasoningForm::Redacted => Block::Redacted { data: signature, tokens: told.tokens(&text) },
        });
    }
    if !choice.words.is_empty() {
        out.push(Block::Text(&choice.words));
    }
    for call in &choice.calls {
        out.push(Block::ToolUse { id: call.id.replacen("call_", "toolu_", 1), call });
    }
    out
}

impl Block<'_> {
    fn whole(&self) -> Value {
        match self {
            Self::Thinking { text, signature, .. } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Self::Redacted { data, .. } => json!({"type": "redacted_thinking", "data": data}),
            Self::Text(words) => json!({"type": "text", "text": words.concat()}),
            Self::ToolUse { id, call } => {
                let input = call.object().unwrap_or_else(|| json!({"INVALID_JSON": call.arguments}));
                json!({"type": "tool_use", "id": id, "name": call.name, "input": input})
            }
        }
    }

    fn opening(&self) -> Value {
        match self {
            Self::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Self::Redacted { data, .. } => json!({"type": "redacted_thinking", "data": data}),
            Self::Text(_) => json!({"type": "text", "text": ""}),
            Self::ToolUse { id, call } => {
                json!({"type": "tool_use", "id": id, "name": call.name, "input": {}})
            }
        }
    }

    /// Tokens that come with the start of the block: redacted thinking has no deltas.
    fn opening_tokens(&self) -> u64 {
        if let Self::Redacted { tokens, .. } = self { *tokens } else { 0 }
    }

    /// The deltas with their tokens.
    fn deltas(&self, told: &Told<'_>) -> Vec<(Value, u64)> {
        match self {
            Self::Thinking { words, signature, .. } => {
                let delta =
                    |word: &String| (json!({"type": "thinking_delta", "thinking": word}), told.tokens(word));
                let sealed = (json!({"type": "signature_delta", "signature": signature}), 0);
                words.iter().map(delta).chain([sealed]).collect()
            }
            Self::Redacted { .. } => Vec::new(),
            Self::Text(words) => {
                let delta = |word: &String| (json!({"type": "text_delta", "text": word}), told.tokens(word));
                words.iter().map(delta).collect()
            }
            Self::ToolUse { call, .. } => {
                let pieces = argument_pieces(&call.arguments);
                let last = pieces.len();
                let delta = |(at, piece): (usize, &str)| {
                    let tokens = if at == last { told.tokens(&call.arguments) } else { 0 };
                    (json!({"type": "input_json_delta", "partial_json": piece}), tokens)
                };
                // The first delta is empty, as Anthropic sends it.
                [""].into_iter().chain(pieces).enumerate().map(delta).collect()
            }
        }
    }
}

//! Writes Gemini's `generateContent`.
//!
//! Source: Google's reference of the Gemini API. Every chunk of a stream is a whole response with a running
//! `usageMetadata`; the last one has the finish reason; there is no end mark. Thoughts are counted apart
//! from candidates. The signature of the reasoning stands on the first function call, or on the last text.

use super::{Event, Grammar, Part, Told};
use crate::upstream::answer::{Choice, Finish};
use crate::upstream::fault::Fault;
use crate::upstream::record::UsageSeen;
use crate::upstream::signature::sign;
use serde_json::{Value, json};

/// The grammar.
pub(super) struct Gemini;

impl Grammar for Gemini {
    fn document(&self, told: &Told<'_>) -> Value {
        if is_blocked(told) {
            return blocked(told);
        }
        let candidate = |(index, choice): (usize, &Choice)| {
            let mut parts = Vec::new();
            if choice.reasoning.is_shown && !choice.reasoning.words.is_empty() {
                parts.push(json!({"text": choice.reasoning.text(), "thought": true}));
            }
            if !choice.words.is_empty() {
                parts.push(json!({"text": choice.words.concat()}));
            }
            parts.extend(calls(choice));
            sign_parts(told, choice, &mut parts);
            candidate(
                index,
                &parts,
                Some(choice.finish).filter(|_| told.fault != Some(Fault::DoneWithoutFinish)),
            )
        };
        let candidates: Vec<Value> = told.answer.choices.iter().enumerate().map(candidate).collect();
        response(told, &json!(candidates), told.usage())
    }

    fn events(&self, told: &Told<'_>) -> Vec<Event> {
        if is_blocked(told) {
            return vec![Event::new(Part::Finish, "", blocked(told))];
        }
        let mut events = Vec::new();
        if told.fault == Some(Fault::ErrorAfterRole) {
            events.push(chunk(told, Part::Role, 0, &[json!({"text": ""})], None, told.usage(), 0));
        }
        let mut said = 0;
        for (index, choice) in told.answer.choices.iter().enumerate() {
            let thoughts =
                choice.reasoning.words.iter().map(|word| (word, json!({"text": word, "thought": true})));
            let words = choice.words.iter().map(|word| (word, json!({"text": word})));
            let thoughts = thoughts.filter(|_| choice.reasoning.is_shown);
            for (word, part) in thoughts.chain(words) {
                let tokens = told.tokens(word);
                said += tokens;
                events.push(chunk(told, Part::Content, index, &[part], None, running(told, said), tokens));
            }
            let mut parts: Vec<Value> = calls(choice);
            if parts.is_empty() {
                parts.push(json!({"text": ""}));
            }
            sign_parts(told, choice, &mut parts);
            if !choice.calls.is_empty() {
                let tokens = choice.calls.iter().map(|call| told.tokens(&call.arguments)).sum();
                said += tokens;
                events.push(chunk(told, Part::Content, index, &parts, None, running(told, said), tokens));
                parts = vec![json!({"text": ""})];
            }
            events.push(chunk(told, Part::Finish, index, &parts, Some(choice.finish), told.usage(), 0));
        }
        events
    }

    fn late(&self, told: &Told<'_>, text: &str) -> Event {
        chunk(told, Part::Content, 0, &[json!({"text": text})], None, told.usage(), 0)
    }
}

fn is_blocked(told: &Told<'_>) -> bool {
    told.answer.choices.iter().any(|choice| choice.finish == Finish::Refusal)
}

/// A refusal: the prompt is blocked, and there is no candidate.
fn blocked(told: &Told<'_>) -> Value {
    let ratings =
        json!([{"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": true}]);
    let mut value = response(told, &json!([]), told.usage());
    if let Some(map) = value.as_object_mut() {
        map.remove("candidates");
    }
    value["promptFeedback"] = json!({"blockReason": "SAFETY", "safetyRatings": ratings});
    value
}

/// What has been said so far, as a report on a chunk. Lies are told at the end only.
fn running(told: &Told<'_>, said: u64) -> Option<UsageSeen> {
    let usage = told.answer.usage;
    told.usage().map(|_| UsageSeen { completion: said.min(usage.completion), reasoning: 0, ..usage })
}

fn calls(choice: &Choice) -> Vec<Value> {
    let part = |call: &crate::upstream::answer::ToolCall| {
        let args = call.object().unwrap_or_else(|| json!({}));
        json!({"functionCall": {"name": call.name, "args": args, "id": call.id}})
    };
    choice.calls.iter().map(part).collect()
}

fn sign_parts(told: &Told<'_>, choice: &Choice, parts: &mut [Value]) {
    if choice.reasoning.words.is_empty() {
        return;
    }
    let is_call = |part: &Value| part["functionCall"].is_object();
    let at = parts.iter().position(is_call).or_else(|| parts.len().checked_sub(1));
    if let Some(at) = at {
        let signature = sign(&told.config.name, &choice.reasoning.text());
        parts[at]["thoughtSignature"] = json!(signature);
    }
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Refusal => "SAFETY",
        Finish::Malformed => "MALFORMED_FUNCTION_CALL",
    }
}

fn candidate(index: usize, parts: &[Value], finish: Option<Finish>) -> Value {
    let mut value = json!({"content": {"parts": parts, "role": "model"}, "index": index});
    if let Some(finish) = finish {
        value["finishReason"] = json!(finish_reason(finish));
        if finish == Finish::Malformed {
            value["finishMessage"] = json!("Malformed function call");
        }
    }
    value
}

fn response(told: &Told<'_>, candidates: &Value, usage: Option<UsageSeen>) -> Value {
    let mut value = json!({
        "candidates": candidates, "modelVersion": told.answer.model,
        "responseId": format!("sim-{}", told.answer.id),
    });
    if let Some(usage) = usage {
        value["usageMetadata"] = usage_value(usage);
    }
    value
}

fn usage_value(usage: UsageSeen) -> Value {
    let mut value = json!({
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.completion.saturating_sub(usage.reasoning),
        "totalTokenCount": usage.prompt + usage.completion,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.prompt}],
    });
    if usage.cached_prompt > 0 {
        value["cachedContentTokenCount"] = json!(usage.cached_prompt);
    }
    if usage.reasoning > 0 {
        value["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    value
}

fn chunk(
    told: &Told<'_>,
    part: Part,
    index: usize,
    parts: &[Value],
    finish: Option<Finish>,
    usage: Option<UsageSeen>,
    tokens: u64,
) -> Event {
    let data = response(told, &json!([candidate(index, parts, finish)]), usage);
    Event { tokens, ..Event::new(part, "", data) }
}

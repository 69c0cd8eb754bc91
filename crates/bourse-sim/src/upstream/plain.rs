//! The body of an answer that is not streamed, with its faults.

use super::answer::{Answer, Choice, to_json_text};
use super::config::SellerConfig;
use super::fault::Fault;
use super::request::{Call, Surface};
use super::script::{Body, Close, Step};
use serde_json::{Value, json};
use std::time::Duration;

/// Bytes of padding that make a line huge.
pub(super) const HUGE_LINE_BYTES: usize = 128 * 1024;
/// Keep-alive signs before an answer that does come.
pub(super) const KEEP_ALIVES: usize = 3;

/// The unframed body.
pub(super) fn body(fault: Option<Fault>, call: &Call, answer: &Answer, config: &SellerConfig) -> Body {
    let text = text(fault, &document(fault, call, answer)).into_bytes();
    let tokens = answer.usage.completion;
    let half = text.len() / 2;
    let whole = vec![Step::Send { bytes: text.clone(), tokens, missing: 0 }];
    let part =
        |at: usize| vec![Step::Send { bytes: text[..at].to_vec(), tokens: 0, missing: text.len() - at }];
    let (chunked, cut, after) = match fault {
        Some(Fault::HeadersThenHang) => (true, Some(Close::Fin), vec![Step::Hang]),
        Some(Fault::EmptyAnswer) => (false, None, Vec::new()),
        Some(Fault::CutWithoutDone) => (true, None, vec![Step::send(&text[..half])]),
        Some(Fault::CutMidUtf8) => (false, Some(Close::Fin), part(inside_a_character(&text).unwrap_or(half))),
        Some(Fault::CutMidJson) => (false, Some(Close::Fin), part(half)),
        Some(Fault::ResetMidBody) => (false, Some(Close::Reset), part(half)),
        Some(Fault::IdleGap) => {
            let rest = Step::Send { bytes: text[half..].to_vec(), tokens, missing: 0 };
            (false, None, vec![Step::send(&text[..half]), Step::Wait(config.timing.gap), rest])
        }
        Some(Fault::KeepAliveComments) => {
            let sign = [Step::send("\n"), Step::Wait(config.timing.drip)];
            let signs = sign.iter().cycle().take(2 * KEEP_ALIVES).cloned();
            (true, None, signs.chain(whole).collect())
        }
        Some(Fault::CommentsForever) => {
            (true, Some(Close::Fin), vec![Step::Repeat { bytes: b"\n".to_vec(), every: config.timing.drip }])
        }
        _ => (false, None, whole),
    };
    let wait = config.speed.first_token
        + config.speed.per_token.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX));
    let thinking = (wait > Duration::ZERO).then_some(Step::Wait(wait));
    let steps = thinking.into_iter().chain(after).collect();
    Body { content_type: "application/json", steps, chunked, cut }
}

/// A position inside the first character of four bytes.
pub(super) fn inside_a_character(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte >= 0xF0).map(|at| at + 2)
}

fn text(fault: Option<Fault>, document: &Value) -> String {
    let pretty = || serde_json::to_string_pretty(document).unwrap_or_else(|_| to_json_text(document));
    match fault {
        Some(Fault::MultiLineData) => pretty(),
        Some(Fault::CrLf) => pretty().replace('\n', "\r\n"),
        _ => to_json_text(document),
    }
}

fn document(fault: Option<Fault>, call: &Call, answer: &Answer) -> Value {
    if matches!(fault, Some(Fault::FirstEventError | Fault::ErrorAfterRole)) {
        return super::script::error_object("The server had an error while answering", "server_error");
    }
    let usage = answer.usage.claimed(fault).map(super::record::UsageSeen::to_json);
    let choices: Vec<Value> = answer
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| choice_value(fault, call.surface, index, choice, usage.as_ref()))
        .collect();
    let mut document = json!({
        "id": answer.id,
        "object": if call.surface == Surface::Chat { "chat.completion" } else { "text_completion" },
        "created": answer.created_s,
        "model": answer.model,
        "system_fingerprint": "fp_sim",
        "choices": choices,
    });
    if let Some(usage) = usage {
        document["usage"] = usage;
    }
    if fault == Some(Fault::HugeLine) {
        document["obfuscation"] = Value::from("x".repeat(HUGE_LINE_BYTES));
    }
    document
}

fn choice_value(
    fault: Option<Fault>,
    surface: Surface,
    index: usize,
    choice: &Choice,
    usage: Option<&Value>,
) -> Value {
    let finish = match fault {
        Some(Fault::DoneWithoutFinish) => Value::Null,
        Some(Fault::ErrorAfterTokens) => json!("error"),
        _ => json!(choice.finish),
    };
    let said = if fault == Some(Fault::ErrorAfterTokens) {
        choice.words.len().div_ceil(2)
    } else {
        choice.words.len()
    };
    let text = choice.words[..said].concat();
    let mut value = match surface {
        Surface::Completion => {
            json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish})
        }
        Surface::Chat if choice.calls.is_empty() => json!({
            "index": index, "logprobs": null, "finish_reason": finish,
            "message": {"role": "assistant", "content": text, "refusal": null},
        }),
        Surface::Chat => {
            let calls: Vec<Value> = choice
                .calls
                .iter()
                .map(|c| json!({"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}))
                .collect();
            json!({
                "index": index, "logprobs": null, "finish_reason": finish,
                "message": {"role": "assistant", "content": null, "refusal": null, "tool_calls": calls},
            })
        }
    };
    if fault == Some(Fault::ErrorAfterTokens) {
        value["error"] = json!({"code": 502, "message": "Upstream broke off"});
    }
    if let (Some(Fault::TwoUsageChunks | Fault::UsageWithChoices), Some(usage)) = (fault, usage) {
        value["usage"] = usage.clone();
    }
    value
}

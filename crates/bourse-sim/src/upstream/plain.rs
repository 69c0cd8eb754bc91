//! The body of an answer that is not streamed, with its faults.

use super::answer::to_json_text;
use super::fault::Fault;
use super::media;
use super::response::{Told, grammar};
use super::script::{Body, Close, Step};
use super::shape::Shape;
use super::trouble::Trouble;
use serde_json::Value;
use std::time::Duration;

/// Bytes of padding that make a line huge.
pub(super) const HUGE_LINE_BYTES: usize = 128 * 1024;
/// Keep-alive signs before an answer that does come.
pub(super) const KEEP_ALIVES: usize = 3;

/// The unframed body.
pub(super) fn body(told: &Told<'_>) -> Body {
    let (content_type, text) = content(told);
    let config = told.config;
    let tokens = told.answer.usage.completion;
    let half = text.len() / 2;
    let whole = vec![Step::Send { bytes: text.clone(), tokens, missing: 0 }];
    let part =
        |at: usize| vec![Step::Send { bytes: text[..at].to_vec(), tokens: 0, missing: text.len() - at }];
    let (chunked, cut, after) = match told.fault {
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
    Body { content_type, steps, chunked, cut }
}

/// A position inside the first character of four bytes.
pub(super) fn inside_a_character(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte >= 0xF0).map(|at| at + 2)
}

/// The kind and the bytes of the whole answer.
fn content(told: &Told<'_>) -> (&'static str, Vec<u8>) {
    let breaks_off = match told.fault {
        Some(Fault::FirstEventError | Fault::ErrorAfterRole) => true,
        // Chat and completions say it in the choice.
        Some(Fault::ErrorAfterTokens) => !matches!(told.call.shape, Shape::Chat | Shape::Completions),
        _ => false,
    };
    let document = if breaks_off {
        Trouble::broken_off().body(told.call.shape)
    } else if let Some(asked) = &told.call.media {
        match media::answer(told, asked) {
            media::Content::Json(document) => document,
            media::Content::Bytes { content_type, bytes } => return (content_type, bytes),
        }
    } else {
        grammar(told.call.shape).document(told)
    };
    ("application/json", text(told.fault, document).into_bytes())
}

fn text(fault: Option<Fault>, mut document: Value) -> String {
    if fault == Some(Fault::HugeLine) {
        document["obfuscation"] = Value::from("x".repeat(HUGE_LINE_BYTES));
    }
    let pretty = || serde_json::to_string_pretty(&document).unwrap_or_else(|_| to_json_text(&document));
    match fault {
        Some(Fault::MultiLineData) => pretty(),
        Some(Fault::CrLf) => pretty().replace('\n', "\r\n"),
        _ => to_json_text(&document),
    }
}

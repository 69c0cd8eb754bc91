//! The grammar's own words.

use crate::dialect::neutral::{Effort, Origin, Signed};
use crate::receipt::Finish;

/// Whose signatures need no tag here.
pub(super) const ORIGIN: Origin = Origin::Anthropic;

/// How an answer ended.
pub(super) fn finish_of(stop_reason: &str) -> Finish {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::ContentFilter,
        _ => Finish::Stop,
    }
}

/// The word for an end. The seller's own is kept where it is one of these words and means the same; an answer that
/// calls tools says so whatever the seller said, because clients go on only then.
pub(super) fn stop_reason(finish: Option<Finish>, native: Option<&str>, calls_tools: bool) -> &str {
    const OWN: [&str; 7] = [
        "end_turn",
        "stop_sequence",
        "max_tokens",
        "model_context_window_exceeded",
        "tool_use",
        "refusal",
        "pause_turn",
    ];
    let finish = finish.unwrap_or(Finish::Stop);
    if calls_tools && finish == Finish::Stop {
        return "tool_use";
    }
    if let Some(native) = native.filter(|word| OWN.contains(word) && finish_of(word) == finish) {
        return native;
    }
    match finish {
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        Finish::ContentFilter => "refusal",
        _ => "end_turn",
    }
}

/// The tier in the field's word.
pub(super) fn tier_of(word: &str) -> &str {
    if word == "standard" { "default" } else { word }
}

/// The tier in this grammar's word.
pub(super) fn tier_word(tier: &str) -> &str {
    if tier == "default" { "standard" } else { tier }
}

/// The word in `output_config.effort`.
pub(super) fn effort_word(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        effort => effort.as_str(),
    }
}

/// The signature of a thinking block; none when there is nothing to sign. OpenAI's are the thoughts themselves.
pub(super) fn signature(text: &str) -> Option<Signed> {
    let (origin, data) = Signed::split(ORIGIN, text);
    let is_encrypted = origin == Origin::OpenAi;
    (!data.is_empty()).then(|| Signed { origin, id: None, data: data.to_owned(), is_encrypted })
}

/// The content of a block of hidden thoughts.
pub(super) fn hidden(text: &str) -> Signed {
    let (origin, data) = Signed::split(ORIGIN, text);
    Signed { origin, id: None, data: data.to_owned(), is_encrypted: true }
}

/// Whether a seller of this grammar would refuse a signature, as it lies in JSON, within its quotes.
pub(super) fn is_foreign(text: &str) -> bool {
    text.is_empty() || Signed::split(ORIGIN, text).0 != ORIGIN
}

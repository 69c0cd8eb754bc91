//! The response object around the items, and the usage object in it.
//!
//! Strict clients demand every member, so all are there: the request's own by [`echo`](super::echo), the rest from
//! here. `completed_at` stays null: nothing here knows the time.

use super::super::SellerUsage;
use super::super::answer::{CountNames, push_cost_members_as, read_counts};
use super::super::grammar::{Billed, Head};
use crate::error::{ApiError, ErrorType};
use crate::json::{push_string, push_u64};
use crate::receipt::Finish;

/// How a response stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Status<'a> {
    InProgress,
    Completed,
    /// And why: `max_output_tokens` or `content_filter`.
    Incomplete(&'static str),
    Failed(&'a ApiError),
}

impl Status<'_> {
    /// The status after an end; none when the end is a failure.
    pub(super) fn of(finish: Finish) -> Option<Self> {
        match finish {
            Finish::Stop | Finish::ToolCalls => Some(Self::Completed),
            Finish::Length => Some(Self::Incomplete("max_output_tokens")),
            Finish::ContentFilter => Some(Self::Incomplete("content_filter")),
            _ => None,
        }
    }

    /// The response's word, which is also the last part of its event's name.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }

    /// The word for the last item.
    pub(super) fn item_word(self) -> &'static str {
        if let Self::Completed = self { "completed" } else { "incomplete" }
    }
}

/// An end that is no answer's end.
pub(super) fn broken(finish: Finish) -> ApiError {
    ApiError::new(ErrorType::ProviderUnavailable, format!("the answer broke off: {}", finish.as_str()))
}

/// Appends a response object without its closing brace: `{"id":…,"usage":`, `usage` or null, and `more`.
pub(super) fn push_response(
    head: &Head,
    status: Status<'_>,
    output: &[u8],
    billed: Option<&Billed<'_>>,
    more: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"{\"id\":");
    push_string(out, &head.id);
    out.extend_from_slice(b",\"object\":\"response\",\"created_at\":");
    push_u64(out, head.created_s);
    out.extend_from_slice(b",\"completed_at\":null,\"status\":\"");
    out.extend_from_slice(status.word().as_bytes());
    out.extend_from_slice(b"\",\"error\":");
    match status {
        Status::Failed(error) => push_error(error, out),
        _ => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"incomplete_details\":");
    match status {
        Status::Incomplete(reason) => {
            out.extend_from_slice(b"{\"reason\":\"");
            out.extend_from_slice(reason.as_bytes());
            out.extend_from_slice(b"\"}");
        }
        _ => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"model\":");
    push_string(out, &head.model);
    out.extend_from_slice(b",\"provider\":");
    push_string(out, &head.provider);
    if !head.echo.is_empty() {
        out.push(b',');
        out.extend_from_slice(head.echo.as_bytes());
    }
    out.extend_from_slice(b",\"output\":[");
    out.extend_from_slice(output);
    out.extend_from_slice(b"],\"usage\":");
    match billed {
        Some(billed) => push_usage(billed, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(more);
    out.push(b'}');
}

/// The error within a response, and beside it the stable word for programs.
fn push_error(error: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(error_code(error.kind).as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    push_string(out, &error.message);
    out.extend_from_slice(b"},\"error_type\":");
    push_string(out, error.kind.as_str());
}

/// OpenAI's closed set of words.
fn error_code(kind: ErrorType) -> &'static str {
    match kind {
        ErrorType::RateLimitExceeded => "rate_limit_exceeded",
        ErrorType::InvalidRequest | ErrorType::ContextLengthExceeded => "invalid_prompt",
        _ => "server_error",
    }
}

/// Appends the usage object: what was billed and what it cost. The part of the completion that is reasoning
/// is the seller's claim, where its other counts are those that were billed.
pub(in crate::dialect) fn push_usage(billed: &Billed<'_>, out: &mut Vec<u8>) {
    let usage = billed.usage;
    let is_billed = |claim: &SellerUsage| {
        (claim.prompt, claim.cached, claim.completion)
            == (usage.prompt.0, usage.cached_prompt.0, usage.completion.0)
    };
    let reasoning = billed.claim.filter(is_billed).map_or(0, |claim| claim.reasoning);
    let total = usage.prompt.0.saturating_add(usage.completion.0);
    let counts: [(&[u8], u64); 6] = [
        (b"{\"input_tokens\":", usage.prompt.0),
        (b",\"input_tokens_details\":{\"cached_tokens\":", usage.cached_prompt.0),
        (b",\"cache_write_tokens\":", usage.cache_write.0),
        (b"},\"output_tokens\":", usage.completion.0),
        (b",\"output_tokens_details\":{\"reasoning_tokens\":", reasoning),
        (b"},\"total_tokens\":", total),
    ];
    for (key, count) in counts {
        out.extend_from_slice(key);
        push_u64(out, count);
    }
    out.push(b',');
    let words = ["upstream_inference_input_cost", "upstream_inference_output_cost"];
    push_cost_members_as(out, billed.charge, words);
    if billed.is_byok {
        out.extend_from_slice(b",\"is_byok\":true");
    }
    out.push(b'}');
}

/// Reads a seller's usage object. `None` when its counts are missing, negative or not numbers.
pub(in crate::dialect) fn read_usage(raw: &str) -> Option<SellerUsage> {
    const NAMES: CountNames = CountNames {
        prompt: "input_tokens",
        prompt_details: "input_tokens_details",
        completion: "output_tokens",
        completion_details: "output_tokens_details",
    };
    read_counts(raw, &NAMES)
}

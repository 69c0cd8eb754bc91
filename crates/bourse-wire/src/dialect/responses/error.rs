//! What sellers of this grammar say when they fail: in a body, in a response that failed, in an event.

use crate::dialect::grammar::{SellerError, SellerErrorKind};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Every place where an error may stand.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Found<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// What an answer with a status other than 2xx says.
pub(super) fn read_error(status: u16, body: &[u8]) -> SellerError {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let by_status = SellerError::kind_of_status(status);
    find(text, 0).map_or_else(
        || SellerError::new(by_status, &format!("the seller answered {status}")),
        |(kind, message)| {
            // A word that says no more than "refused" does not outweigh the status.
            let kind = kind.filter(|k| *k != SellerErrorKind::InvalidRequest || (400..500).contains(&status));
            let kind = if matches!(status, 401..=404) { None } else { kind };
            SellerError::new(kind.unwrap_or(by_status), &message)
        },
    )
}

/// What a failed response says, or an event that reports an error.
pub(super) fn read_failure(text: &str) -> SellerError {
    let (kind, message) =
        find(text, 0).unwrap_or((None, Cow::Borrowed("the seller reported an error without a message")));
    SellerError::new(kind.unwrap_or(SellerErrorKind::Unavailable), &message)
}

/// Deepest nesting of `response` and `error` that is looked through.
const DEPTH_MAX: usize = 3;

fn find(text: &str, depth: usize) -> Option<(Option<SellerErrorKind>, Cow<'_, str>)> {
    if depth > DEPTH_MAX {
        return None;
    }
    let found: Found<'_> = serde_json::from_str(text).ok()?;
    let inner = found.response.or(found.error).map(RawValue::get);
    if let Some(inner) = inner.filter(|raw| raw.starts_with('{')) {
        return find(inner, depth + 1);
    }
    let message = found.message.or_else(|| {
        let raw = inner.or(found.detail.map(RawValue::get))?;
        Some(serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(raw), Cow::Owned))
    })?;
    let code = found.code.map(|raw| raw.get().trim_matches('"'));
    let kind = code.and_then(kind_of_word).or_else(|| found.kind.as_deref().and_then(kind_of_word));
    Some((kind, message))
}

/// OpenAI's words, in `code` or `type`, and numbers as routers put them into `code`.
fn kind_of_word(word: &str) -> Option<SellerErrorKind> {
    Some(match word {
        "rate_limit_exceeded" | "rate_limit_error" | "tokens" | "requests" => SellerErrorKind::RateLimited,
        "context_length_exceeded" | "string_above_max_length" => SellerErrorKind::ContextLength,
        "server_is_overloaded" | "slow_down" | "overloaded_error" => SellerErrorKind::Overloaded,
        "timeout" | "request_timeout" => SellerErrorKind::Timeout,
        "content_filter" | "content_policy_violation" | "bio_policy" | "cyber_policy" => {
            SellerErrorKind::ContentPolicy
        }
        "image_content_policy_violation" | "misalignment_policy_violation" => SellerErrorKind::ContentPolicy,
        "insufficient_quota" | "invalid_api_key" | "model_not_found" | "vector_store_timeout" => {
            SellerErrorKind::Unavailable
        }
        // The word for whatever has none of its own: the status says more.
        "server_error" => return None,
        "invalid_prompt" | "invalid_request_error" | "invalid_value" | "unsupported_parameter" => {
            SellerErrorKind::InvalidRequest
        }
        _ if word.contains("image") || word.starts_with("invalid_") || word.starts_with("unsupported_") => {
            SellerErrorKind::InvalidRequest
        }
        _ => return word.parse().ok().map(SellerError::kind_of_status),
    })
}

//! Errors of sellers that speak this grammar, in all the forms that are met.
//!
//! OpenAI's envelope; vLLM's flat object and FastAPI's `detail`; llama.cpp's types; LiteLLM's class names in the
//! message; OpenRouter's `metadata.raw` with the error of the seller behind it; plain text. What an error means
//! is taken from its code or type, then from its wording, then from the status: the most important thing to
//! tell apart is a prompt that does not fit, because another seller may have more room.

use super::text::whole;
use crate::dialect::grammar::{SellerError, SellerErrorKind};
use serde_json::Value;
use std::borrow::Cow;

/// Pieces of messages by which a prompt that does not fit is known, in lower case.
const TOO_LONG: [&str; 14] = [
    "context length",
    "context_length",
    "context window",
    "contextwindow",
    "maximum context",
    "available context size",
    "exceeds the context",
    "exceed context",
    "prompt is too long",
    "input is too long",
    "input length",
    "too many tokens",
    "max_model_len",
    "maximum number of tokens",
];

/// Codes and types by which it is known, in lower case.
const TOO_LONG_CODES: [&str; 4] = [
    "context_length_exceeded",
    "exceed_context_size_error",
    "string_above_max_length",
    "contextwindowexceedederror",
];

const POLICY_CODES: [&str; 8] = [
    "content_policy_violation",
    "contentpolicyviolationerror",
    "content_filter",
    "content_filtered",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "data_inspection_failed",
    "refusal",
];

/// Reads the body of an answer with a status other than 2xx.
pub(super) fn read(status: u16, body: &[u8]) -> SellerError {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match serde_json::from_str::<Value>(text) {
        Ok(value) => of_value(status, &value),
        Err(_) if text.is_empty() || text.starts_with('<') => {
            SellerError::new(SellerError::kind_of_status(status), &format!("answered with status {status}"))
        }
        Err(_) => SellerError::new(kind(status, &[], text), text),
    }
}

/// Reads the value of `error` in an event or in an answer whose status says nothing.
pub(super) fn of_raw(raw: &str) -> SellerError {
    if let Ok(value) = serde_json::from_str::<Value>(raw) {
        return of_value(0, &value);
    }
    let text = whole(raw).unwrap_or(Cow::Borrowed("the stream ended with an error"));
    SellerError::new(kind(0, &[], &text), &text)
}

fn of_value(status: u16, value: &Value) -> SellerError {
    let value = value.get(0).unwrap_or(value);
    let error = value.get("error").filter(|e| !e.is_null()).unwrap_or(value);
    let number = error.get("code").and_then(number).or_else(|| error.get("status").and_then(number));
    let status = match (status, number) {
        (0 | 200, Some(number)) => number,
        (status, _) => status,
    };
    let metadata = error.get("metadata");
    let mut words: Vec<&str> =
        ["code", "type", "status"].iter().filter_map(|k| error.get(k)?.as_str()).collect();
    words.extend(metadata.and_then(|m| m.get("error_type")?.as_str()));
    if metadata.is_some_and(|m| m.get("flagged_input").is_some()) {
        words.push("content_filter");
    }
    let inner = metadata.and_then(|m| m.get("raw")).map(inner_message);
    let message = match (message_of(error), inner) {
        (Some(message), Some(inner)) if !inner.is_empty() => Cow::Owned(format!("{message}: {inner}")),
        (Some(message), _) => Cow::Borrowed(message),
        (None, Some(inner)) if !inner.is_empty() => Cow::Owned(inner),
        (None, _) if status == 0 => Cow::Borrowed("the stream ended with an error"),
        (None, _) => Cow::Owned(format!("answered with status {status}")),
    };
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    SellerError::new(kind(status, &words, &message), &message).with_details(details)
}

/// A status, as a number or as one in quotes.
fn number(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|n| (400..600).contains(n))
}

fn message_of(error: &Value) -> Option<&str> {
    let member = |name: &str| error.get(name).and_then(Value::as_str);
    let detail = error.get("detail").and_then(|d| d.as_str().or_else(|| d.get(0)?.get("msg")?.as_str()));
    let text = error.as_str().or_else(|| member("message")).or(detail).or_else(|| member("error"));
    text.or_else(|| member("msg")).filter(|text| !text.is_empty())
}

/// The message within the error of the seller behind a router, which is text, often JSON.
fn inner_message(raw: &Value) -> String {
    let Some(text) = raw.as_str() else { return message_of(raw).unwrap_or_default().to_owned() };
    let Ok(value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let error = value.get("error").unwrap_or(&value);
    message_of(error).unwrap_or(text).to_owned()
}

fn kind(status: u16, words: &[&str], message: &str) -> SellerErrorKind {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_lowercase()).collect();
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    let message = message.to_ascii_lowercase();
    let says = |list: &[&str]| list.iter().any(|part| message.contains(part));
    let about_the_request = matches!(status, 0 | 200 | 400 | 413 | 422 | 500);
    if has(&TOO_LONG_CODES) || about_the_request && says(&TOO_LONG) {
        SellerErrorKind::ContextLength
    } else if has(&POLICY_CODES)
        || about_the_request && says(&["content policy", "content management policy"])
    {
        SellerErrorKind::ContentPolicy
    } else if has(&["insufficient_quota", "billing_hard_limit_reached"]) {
        // Ours, not the buyer's: the seller's own bill was not paid.
        SellerErrorKind::Unavailable
    } else if has(&[
        "rate_limit_exceeded",
        "rate_limit_error",
        "ratelimiterror",
        "resource_exhausted",
        "tokens",
    ]) {
        SellerErrorKind::RateLimited
    } else if has(&[
        "overloaded_error",
        "overloaded",
        "service_unavailable",
        "engine_overloaded",
        "provider_overloaded",
    ]) {
        SellerErrorKind::Overloaded
    } else if has(&["timeout", "timeout_error"]) {
        SellerErrorKind::Timeout
    } else if status == 0 && has(&["invalid_request_error", "badrequesterror", "invalid_request"]) {
        SellerErrorKind::InvalidRequest
    } else {
        SellerError::kind_of_status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::grammar::SELLER_MESSAGE_BYTES_MAX;
    use SellerErrorKind as Kind;

    fn check(status: u16, body: &str, kind: Kind, message: &str) {
        let error = read(status, body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (kind, message), "{body}");
    }

    #[test]
    fn openais_form_is_read() {
        check(
            400,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Kind::ContextLength,
            "This model's maximum context length is 8192 tokens.",
        );
        check(
            400,
            r#"{"error":{"message":"bad n","type":"invalid_request_error","code":null}}"#,
            Kind::InvalidRequest,
            "bad n",
        );
        check(
            429,
            r#"{"error":{"message":"slow","type":"requests","code":"rate_limit_exceeded"}}"#,
            Kind::RateLimited,
            "slow",
        );
        check(
            429,
            r#"{"error":{"message":"quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            Kind::Unavailable,
            "quota",
        );
        check(
            400,
            r#"{"error":{"message":"no","code":"content_policy_violation"}}"#,
            Kind::ContentPolicy,
            "no",
        );
    }

    #[test]
    fn pauses_are_read_from_words_and_details() {
        let check = |status: u16, body: &str, want: Option<u64>| {
            assert_eq!(read(status, body.as_bytes()).retry_after.map(|span| span.0), want, "{body}");
        };
        let words = r#"{"error":{"message":"Rate limit reached. Please try again in 1.2s.","code":"rate_limit_exceeded"}}"#;
        check(429, words, Some(1_200));
        check(400, r#"{"error":{"message":"bad image: try again in 1s"}}"#, None);
        let google = r#"[{"error":{"code":429,"message":"Quota exceeded. Please retry in 1s.","status":"RESOURCE_EXHAUSTED",
            "details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"7.5s"}]}}]"#;
        check(429, google, Some(7_500));
        check(503, r#"{"error":{"message":"full","details":"none"}}"#, None);
        assert_eq!(
            of_raw(words.strip_prefix("{\"error\":").unwrap().strip_suffix('}').unwrap())
                .retry_after
                .map(|s| s.0),
            Some(1_200)
        );
    }

    #[test]
    fn forms_of_servers_are_read() {
        check(
            400,
            r#"{"object":"error","message":"The decoder prompt is longer than max_model_len","type":"BadRequestError","param":null,"code":400}"#,
            Kind::ContextLength,
            "The decoder prompt is longer than max_model_len",
        );
        check(
            422,
            r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#,
            Kind::InvalidRequest,
            "field required",
        );
        check(404, r#"{"detail":"Not Found"}"#, Kind::Unavailable, "Not Found");
        check(
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_ctx":4096}}"#,
            Kind::ContextLength,
            "the request exceeds the available context size, try increasing it",
        );
        check(
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            Kind::Overloaded,
            "Loading model",
        );
    }

    #[test]
    fn forms_of_routers_and_others_are_read() {
        check(
            400,
            r#"{"error":{"message":"litellm.ContextWindowExceededError: too big","type":null,"param":null,"code":"400"}}"#,
            Kind::ContextLength,
            "litellm.ContextWindowExceededError: too big",
        );
        check(
            502,
            r#"{"error":{"code":502,"message":"Provider returned error","metadata":{"provider_name":"X","raw":"{\"error\":{\"message\":\"boom\"}}"}}}"#,
            Kind::Unavailable,
            "Provider returned error: boom",
        );
        check(
            403,
            r#"{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"],"flagged_input":"y"}}}"#,
            Kind::ContentPolicy,
            "flagged",
        );
        check(529, r#"[{"error":{"message":"full"}}]"#, Kind::Overloaded, "full");
        check(500, r#"{"error":"out of memory"}"#, Kind::Unavailable, "out of memory");
        check(400, "prompt is too long", Kind::ContextLength, "prompt is too long");
        check(502, "<html>", Kind::Unavailable, "answered with status 502");
        check(504, "", Kind::Timeout, "answered with status 504");
        check(401, r#"{"message":"bad key"}"#, Kind::Unavailable, "bad key");
        check(
            429,
            r#"{"error":{"message":"input length limit per minute"}}"#,
            Kind::RateLimited,
            "input length limit per minute",
        );
        assert_eq!(read(400, b"\xff\xfe").kind, Kind::InvalidRequest);
    }

    #[test]
    fn errors_in_events_tell_their_status_themselves() {
        assert_eq!(of_raw(r#"{"code":429,"message":"slow"}"#).kind, Kind::RateLimited);
        assert_eq!(of_raw(r#"{"code":"503","message":"full"}"#).kind, Kind::Overloaded);
        assert_eq!(of_raw(r#"{"type":"invalid_request_error","message":"x"}"#).kind, Kind::InvalidRequest);
        assert_eq!(of_raw(r#"{"message":"maximum context length is 5"}"#).kind, Kind::ContextLength);
        assert_eq!(of_raw(r#""boom""#), SellerError::new(Kind::Unavailable, "boom"));
        assert_eq!(of_raw("{}").message, "the stream ended with an error");
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let body = serde_json::json!({ "error": { "message": "é".repeat(SELLER_MESSAGE_BYTES_MAX) } });
        assert_eq!(read(500, body.to_string().as_bytes()).message.len(), SELLER_MESSAGE_BYTES_MAX);
    }
}

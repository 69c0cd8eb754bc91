//! Errors, as sellers of this grammar tell them: a status in Google's words, a message, and details.

use crate::dialect::grammar::{SellerError, SellerErrorKind};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Told<'a>,
}

#[derive(Deserialize)]
struct Told<'a> {
    code: Option<u16>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Cow<'a, str>,
    /// Each of a kind of its own.
    #[serde(borrow, default)]
    details: Vec<&'a RawValue>,
}

/// Most details of one error that are looked at.
const DETAILS_MAX: usize = 16;
/// The status under which an error inside a stream that began well is read, unless it tells its own.
const STREAM_STATUS: u16 = 500;

/// What an answer with an error says. Streams put it into an array.
pub(super) fn read_error(status: u16, body: &[u8]) -> SellerError {
    let text = std::str::from_utf8(body).unwrap_or_default();
    let inner = text.trim_ascii();
    let inner = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(inner);
    match serde_json::from_str::<Body<'_>>(inner) {
        Ok(body) => body.error.read(status),
        Err(_) => {
            SellerError::new(SellerError::kind_of_status(status), &format!("answered with status {status}"))
        }
    }
}

/// What the value of a member `error` inside an answer says.
pub(super) fn read_told(raw: &str) -> SellerError {
    match serde_json::from_str::<Told<'_>>(raw) {
        Ok(told) => {
            let status = told.code.unwrap_or(STREAM_STATUS);
            told.read(status)
        }
        Err(_) => SellerError::cut("told an error that cannot be read"),
    }
}

/// The seller's filter refuses the prompt.
pub(super) fn blocked(reason: &str, message: &str) -> SellerError {
    let more = if message.is_empty() { String::new() } else { format!(": {message}") };
    SellerError::new(SellerErrorKind::ContentPolicy, &format!("the prompt was blocked for {reason}{more}"))
}

impl Told<'_> {
    fn read(&self, status: u16) -> SellerError {
        let kind = match self.status.as_ref() {
            "INVALID_ARGUMENT" | "OUT_OF_RANGE" => self.refused(),
            "RESOURCE_EXHAUSTED" => self.exhausted(),
            "UNAVAILABLE" => SellerErrorKind::Overloaded,
            "DEADLINE_EXCEEDED" => SellerErrorKind::Timeout,
            // Words that say nothing: the status does.
            "INTERNAL" | "UNKNOWN" if (400..500).contains(&status) => {
                match SellerError::kind_of_status(status) {
                    SellerErrorKind::InvalidRequest => self.refused(),
                    SellerErrorKind::RateLimited => self.exhausted(),
                    other => other,
                }
            }
            // The market's account, key, place or model, or the seller itself: never the buyer's fault.
            "FAILED_PRECONDITION"
            | "UNAUTHENTICATED"
            | "PERMISSION_DENIED"
            | "NOT_FOUND"
            | "ABORTED"
            | "CANCELLED"
            | "UNIMPLEMENTED"
            | "INTERNAL"
            | "DATA_LOSS"
            | "UNKNOWN" => SellerErrorKind::Unavailable,
            _ => SellerError::kind_of_status(self.code.unwrap_or(status)),
        };
        let message = if self.message.is_empty() { self.status.as_ref() } else { self.message.as_ref() };
        let details = self.details.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok());
        let details: Vec<Value> = details.take(DETAILS_MAX).collect();
        SellerError::new(kind, message).with_details(&details)
    }

    /// One status for all that is refused; the details and the message tell why.
    fn refused(&self) -> SellerErrorKind {
        let says = |part: &str| self.message.contains(part);
        if self.has_detail("API_KEY_INVALID") || says("API key") {
            SellerErrorKind::Unavailable
        } else if says("exceeds the maximum number of tokens") || says("input token count") {
            SellerErrorKind::ContextLength
        } else if says("blocked") {
            SellerErrorKind::ContentPolicy
        } else {
            SellerErrorKind::InvalidRequest
        }
    }

    /// A limit by the minute passes soon; one by the day, or credit that is spent, does not.
    fn exhausted(&self) -> SellerErrorKind {
        if self.has_detail("PerDay") || self.message.contains("credits are depleted") {
            SellerErrorKind::Unavailable
        } else {
            SellerErrorKind::RateLimited
        }
    }

    fn has_detail(&self, word: &str) -> bool {
        self.details.iter().any(|detail| detail.get().contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SellerErrorKind as Kind;

    fn check(status: u16, body: &str, kind: Kind, message: &str) {
        let error = read_error(status, body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (kind, message), "{body}");
    }

    fn told(code: u16, status: &str, message: &str) -> String {
        format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"}}}}"#)
    }

    #[test]
    fn a_status_has_a_meaning() {
        let long = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).";
        check(400, &told(400, "INVALID_ARGUMENT", long), Kind::ContextLength, long);
        check(400, &told(400, "INVALID_ARGUMENT", "bad topK"), Kind::InvalidRequest, "bad topK");
        check(
            400,
            &told(400, "INVALID_ARGUMENT", "API key not valid."),
            Kind::Unavailable,
            "API key not valid.",
        );
        check(
            400,
            &told(400, "INVALID_ARGUMENT", "Request blocked due to x"),
            Kind::ContentPolicy,
            "Request blocked due to x",
        );
        check(400, &told(400, "FAILED_PRECONDITION", "User location"), Kind::Unavailable, "User location");
        check(403, &told(403, "PERMISSION_DENIED", "no"), Kind::Unavailable, "no");
        check(404, &told(404, "NOT_FOUND", "no model"), Kind::Unavailable, "no model");
        check(500, &told(500, "INTERNAL", "oh"), Kind::Unavailable, "oh");
        check(400, &told(400, "INTERNAL", "oh"), Kind::InvalidRequest, "oh");
        check(429, &told(429, "UNKNOWN", "oh"), Kind::RateLimited, "oh");
        check(404, &told(404, "INTERNAL", "oh"), Kind::Unavailable, "oh");
        check(
            503,
            &told(503, "UNAVAILABLE", "The model is overloaded."),
            Kind::Overloaded,
            "The model is overloaded.",
        );
        check(504, &told(504, "DEADLINE_EXCEEDED", ""), Kind::Timeout, "DEADLINE_EXCEEDED");
        check(429, &told(429, "NEW_WORD", "slow"), Kind::RateLimited, "slow");
    }

    #[test]
    fn quotas_by_the_minute_pass_and_others_do_not() {
        let quota = |id: &str| {
            format!(
                r#"[{{"error":{{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[
                {{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{{"quotaId":"{id}","quotaValue":"250000"}}]}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"26s"}}]}}}}]"#
            )
        };
        let message = "You exceeded your current quota";
        check(
            429,
            &quota("GenerateContentInputTokensPerModelPerMinute-FreeTier"),
            Kind::RateLimited,
            message,
        );
        check(429, &quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), Kind::Unavailable, message);
        let pause = |id: &str| read_error(429, quota(id).as_bytes()).retry_after.map(|span| span.0);
        assert_eq!(pause("InputTokensPerModelPerMinute"), Some(26_000));
        assert_eq!(pause("RequestsPerDay"), None, "no wait of seconds helps against a limit by the day");
        let spent = "Your prepayment credits are depleted.";
        check(429, &told(429, "RESOURCE_EXHAUSTED", spent), Kind::Unavailable, spent);
    }

    #[test]
    fn what_cannot_be_read_has_its_status() {
        check(502, "<html>", Kind::Unavailable, "answered with status 502");
        check(429, "", Kind::RateLimited, "answered with status 429");
        assert_eq!(read_error(400, b"\xff").kind, Kind::InvalidRequest);
        assert_eq!(read_told("7").kind, Kind::Unavailable);
        assert_eq!(read_told(r#"{"code":503}"#).kind, Kind::Overloaded);
        assert_eq!(read_told(r#"{"message":"x"}"#).kind, Kind::Unavailable);
    }
}

//! Errors, as buyers read them and as sellers tell them.

use crate::dialect::grammar::{SellerError, SellerErrorKind};
use crate::error::{ApiError, ErrorType};
use crate::json::push_string;
use serde::Deserialize;
use std::borrow::Cow;

/// The words by which clients of this grammar know that a conversation must be shortened.
const TOO_LONG: &str = "prompt is too long";

/// The body of an error.
pub(in crate::dialect) fn error_body(error: &ApiError) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut beside = Vec::new();
    error.push_beside(&mut beside);
    push_error(error, &beside, &mut out);
    out
}

/// Appends the body of an error; `more` is raw text of further members with a leading comma.
pub(super) fn push_error(error: &ApiError, more: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":\"");
    out.extend_from_slice(error.kind.anthropic_type().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    if error.kind == ErrorType::ContextLengthExceeded && !error.message.contains(TOO_LONG) {
        push_string(out, &format!("{TOO_LONG}: {}", error.message));
    } else {
        push_string(out, &error.message);
    }
    out.extend_from_slice(b",\"error_type\":\"");
    out.extend_from_slice(error.kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"param\":");
    match &error.param {
        Some(param) => push_string(out, param),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
    error.push_members(out);
    out.push(b'}');
    out.extend_from_slice(more);
    out.push(b'}');
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Told<'a>,
}

/// What a seller says went wrong.
#[derive(Deserialize)]
pub(super) struct Told<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// What an answer with an error says.
pub(super) fn read_error(status: u16, body: &[u8]) -> SellerError {
    match serde_json::from_slice::<Body<'_>>(body) {
        Ok(body) => body.error.read(status),
        Err(_) => {
            SellerError::new(SellerError::kind_of_status(status), &format!("answered with status {status}"))
        }
    }
}

/// What the value of a member `error` says.
pub(super) fn read_told(status: u16, raw: &str) -> SellerError {
    match serde_json::from_str::<Told<'_>>(raw) {
        Ok(told) => told.read(status),
        Err(_) => SellerError::cut("told an error that cannot be read"),
    }
}

impl Told<'_> {
    fn read(&self, status: u16) -> SellerError {
        let kind = match self.kind.as_ref() {
            "invalid_request_error" => self.refused(),
            "request_too_large" => SellerErrorKind::InvalidRequest,
            "rate_limit_error" => SellerErrorKind::RateLimited,
            "overloaded_error" => SellerErrorKind::Overloaded,
            "timeout_error" => SellerErrorKind::Timeout,
            // The one word for whatever has none of its own: the status says which.
            "api_error" if status != 500 => match SellerError::kind_of_status(status) {
                SellerErrorKind::InvalidRequest => self.refused(),
                other => other,
            },
            // The market's account, key or route, or the seller itself: never the buyer's fault.
            "authentication_error"
            | "permission_error"
            | "billing_error"
            | "not_found_error"
            | "api_error" => SellerErrorKind::Unavailable,
            _ => SellerError::kind_of_status(status),
        };
        let message = if self.message.is_empty() { self.kind.as_ref() } else { self.message.as_ref() };
        SellerError::new(kind, message)
    }

    /// This grammar has one word for all that is refused; only the message tells why.
    fn refused(&self) -> SellerErrorKind {
        let says = |part: &str| self.message.contains(part);
        if says(TOO_LONG) || says("exceed context limit") || says("context window") {
            SellerErrorKind::ContextLength
        } else if says("content filtering policy") {
            SellerErrorKind::ContentPolicy
        } else if says("credit balance is too low") {
            SellerErrorKind::Unavailable
        } else {
            SellerErrorKind::InvalidRequest
        }
    }
}

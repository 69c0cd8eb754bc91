//! Errors, as these servers tell them: a text. What it means must be told from its words.

use crate::dialect::grammar::{SellerError, SellerErrorKind};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    error: Cow<'a, str>,
}

/// The status under which an error inside a stream is read.
const STREAM_STATUS: u16 = 500;

/// By what words, in lower case, a server says that a prompt is too long: its own, and those of the engine below it.
const TOO_LONG: [&str; 5] = [
    "exceeds the available context size",
    "exceed_context_size_error",
    "exceeds the context length",
    "exceeds maximum context length",
    "longer than the context length",
];

/// What an answer with an error says.
pub(super) fn read_error(status: u16, body: &[u8]) -> SellerError {
    match serde_json::from_slice::<Body<'_>>(body) {
        Ok(body) => SellerError::new(kind(status, &body.error), &body.error),
        Err(_) => {
            SellerError::new(SellerError::kind_of_status(status), &format!("answered with status {status}"))
        }
    }
}

/// What the member `error` of a line says.
pub(super) fn read_told(text: &str) -> SellerError {
    SellerError::new(kind(STREAM_STATUS, text), text)
}

fn kind(status: u16, text: &str) -> SellerErrorKind {
    let text = text.to_ascii_lowercase();
    if TOO_LONG.iter().any(|words| text.contains(words)) {
        SellerErrorKind::ContextLength
    } else if text.contains("server busy") || text.contains("maximum pending requests") {
        SellerErrorKind::Overloaded
    } else {
        SellerError::kind_of_status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SellerErrorKind as Kind;

    fn check(status: u16, text: &str, kind: Kind) {
        let body = serde_json::json!({ "error": text }).to_string();
        let error = read_error(status, body.as_bytes());
        assert_eq!((error.kind, error.message.as_str()), (kind, text));
    }

    #[test]
    fn words_tell_what_a_status_does_not() {
        check(400, "the prompt is longer than the context length currently available", Kind::ContextLength);
        check(
            400,
            r#"{"error":{"code":400,"message":"request (8889 tokens) exceeds the available context size"}}"#,
            Kind::ContextLength,
        );
        check(400, "registry.ollama.ai/library/x does not support tools", Kind::InvalidRequest);
        check(404, "model 'x' not found", Kind::Unavailable);
        check(429, "too many concurrent requests", Kind::RateLimited);
        check(503, "server busy, please try again.  maximum pending requests exceeded", Kind::Overloaded);
        check(500, "model requires more system memory (8 GiB) than is available", Kind::Unavailable);
        check(401, "unauthorized", Kind::Unavailable);
    }

    #[test]
    fn what_cannot_be_read_has_its_status() {
        assert_eq!(read_error(502, b"<html>").message, "answered with status 502");
        assert_eq!(read_error(400, br#"{"error":{"x":1}}"#).kind, Kind::InvalidRequest);
        assert_eq!(read_told("CUDA error: out of memory").kind, Kind::Unavailable);
    }
}

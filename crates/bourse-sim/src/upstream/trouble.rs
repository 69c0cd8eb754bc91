//! Errors in each vendor's own envelope.
//!
//! OpenAI: `{"error": {message, type, param, code}}`. Anthropic: `{"type": "error", "error": {type, message},
//! request_id}`. Gemini: `{"error": {code, message, status, details}}`. Ollama: `{"error": "text"}`. Cohere's
//! rerank: `{"message": "text"}`; Jina's: `{"detail": "text"}`, here both in one, since one path serves both.

use super::request::CallError;
use super::shape::Shape;
use serde_json::{Value, json};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    Unauthorized,
    ModelGone,
    NoSuchPath,
    RateLimited,
    Server,
    Unavailable,
    Overloaded,
}

/// One error, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Trouble {
    /// An error of this kind.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None }
    }

    /// A refused call.
    pub(super) fn refused(error: &CallError, shape: Shape) -> Self {
        let message = error.message(shape);
        Self { kind: Kind::Invalid, message, param: error.param(), code: error.code() }
    }

    /// What breaks an answer off.
    pub(super) fn broken_off() -> Self {
        Self::new(Kind::Server, "The server had an error while answering")
    }

    /// The HTTP status that it has before an answer began.
    pub(super) fn status(&self) -> u16 {
        match self.kind {
            Kind::Invalid => 400,
            Kind::Unauthorized => 401,
            Kind::ModelGone | Kind::NoSuchPath => 404,
            Kind::RateLimited => 429,
            Kind::Server => 500,
            Kind::Unavailable => 503,
            Kind::Overloaded => 529,
        }
    }

    /// OpenAI's word for it.
    pub(super) fn openai_code(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid_request_error",
            Kind::Unauthorized => "invalid_api_key",
            Kind::ModelGone => "model_not_found",
            Kind::NoSuchPath => "not_found",
            Kind::RateLimited => "rate_limit_exceeded",
            Kind::Server => "server_error",
            Kind::Unavailable => "unavailable",
            Kind::Overloaded => "overloaded_error",
        }
    }

    fn anthropic_type(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "invalid_request_error",
            Kind::Unauthorized => "authentication_error",
            Kind::ModelGone | Kind::NoSuchPath => "not_found_error",
            Kind::RateLimited => "rate_limit_error",
            Kind::Server | Kind::Unavailable => "api_error",
            Kind::Overloaded => "overloaded_error",
        }
    }

    fn google_status(&self) -> &'static str {
        match self.kind {
            Kind::Invalid => "INVALID_ARGUMENT",
            Kind::Unauthorized => "UNAUTHENTICATED",
            Kind::ModelGone | Kind::NoSuchPath => "NOT_FOUND",
            Kind::RateLimited => "RESOURCE_EXHAUSTED",
            Kind::Server => "INTERNAL",
            Kind::Unavailable | Kind::Overloaded => "UNAVAILABLE",
        }
    }

    /// The whole body.
    pub(super) fn body(&self, shape: Shape) -> Value {
        let message = &self.message;
        match shape {
            Shape::Messages => json!({
                "type": "error",
                "error": {"type": self.anthropic_type(), "message": message},
                "request_id": "req_sim",
            }),
            Shape::Gemini => {
                json!({"error": {"code": self.status(), "message": message, "status": self.google_status()}})
            }
            Shape::Ollama => json!({"error": message}),
            Shape::Rerank => json!({"message": message, "detail": message}),
            _ => {
                let word = self.openai_code();
                let code = if self.kind == Kind::Invalid { self.code } else { Some(word) };
                json!({"error": {"message": message, "type": word, "param": self.param, "code": code}})
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Shape, pointer: &str, want: &str) {
        let body = Trouble::new(Kind::RateLimited, "later").body(shape);
        assert_eq!(body.pointer(pointer).and_then(Value::as_str), Some(want), "{shape}: {body}");
    }

    #[test]
    fn envelopes_are_the_vendors_own() {
        check(Shape::Chat, "/error/code", "rate_limit_exceeded");
        check(Shape::Responses, "/error/message", "later");
        check(Shape::Messages, "/error/type", "rate_limit_error");
        check(Shape::Messages, "/type", "error");
        check(Shape::Gemini, "/error/status", "RESOURCE_EXHAUSTED");
        check(Shape::Ollama, "/error", "later");
        check(Shape::Rerank, "/message", "later");
    }
}

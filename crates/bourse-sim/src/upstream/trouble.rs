//! Errors in each vendor's own envelope.
//!
//! OpenAI: `{"error": {message, type, param, code}}`. Anthropic: `{"type": "error", "error": {type, message},
//! request_id}`. Gemini: `{"error": {code, message, status, details}}`. Ollama: `{"error": "text"}`. Cohere:
//! `{"id", "message": "text"}`. Rerank: Cohere's and Jina's `{"detail": "text"}` in one, since one path serves both.

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
    retry_after_s: Option<u64>,
}

impl Trouble {
    /// An error of this kind.
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, retry_after_s: None }
    }

    /// A refused call.
    pub(super) fn refused(error: &CallError, shape: Shape) -> Self {
        let message = error.message(shape);
        Self { kind: Kind::Invalid, message, param: error.param(), code: error.code(), retry_after_s: None }
    }

    /// The same error, with the seconds after which a client may return.
    pub(super) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// What breaks an answer off.
    pub(super) fn broken_off() -> Self {
        Self::new(Kind::Server, "The server had an error while answering")
    }

    /// The HTTP status that it has before an answer began. Google tells a wrong key as a wrong argument.
    pub(super) fn status(&self, shape: Shape) -> u16 {
        match self.kind {
            Kind::Invalid => 400,
            Kind::Unauthorized if shape == Shape::Gemini => 400,
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
            Kind::Invalid | Kind::Unauthorized => "INVALID_ARGUMENT",
            Kind::ModelGone | Kind::NoSuchPath => "NOT_FOUND",
            Kind::RateLimited => "RESOURCE_EXHAUSTED",
            Kind::Server => "INTERNAL",
            Kind::Unavailable | Kind::Overloaded => "UNAVAILABLE",
        }
    }

    /// Where Google says what its few statuses do not.
    fn google_details(&self) -> Value {
        match (self.kind, self.retry_after_s) {
            (Kind::Unauthorized, _) => json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
            }]),
            (_, Some(seconds)) => json!([{
                "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
            }]),
            _ => json!([]),
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
                let (code, status) = (self.status(shape), self.google_status());
                json!({"error": {"code": code, "message": message, "status": status, "details": self.google_details()}})
            }
            Shape::Ollama => json!({"error": message}),
            Shape::Cohere => json!({"id": "req_sim", "message": message}),
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
        check(Shape::Cohere, "/message", "later");
        let key = Trouble::new(Kind::Unauthorized, "no");
        assert_eq!((key.status(Shape::Gemini), key.status(Shape::Chat)), (400, 401));
        let reason = key.body(Shape::Gemini).pointer("/error/details/0/reason").cloned();
        assert_eq!(reason, Some(json!("API_KEY_INVALID")));
        let later = Trouble::new(Kind::RateLimited, "later").retry_after(2).body(Shape::Gemini);
        assert_eq!(later.pointer("/error/details/0/retryDelay"), Some(&json!("2s")));
        check(Shape::Rerank, "/message", "later");
    }
}

//! What a buyer reads when a request fails: one envelope, one closed set of error types.
//!
//! The shape is the field's (`{"error":{"code","message","type","param","metadata"}}`), so stock clients
//! raise their own typed exceptions. The message says what was wrong, where, and what to do about it;
//! `metadata.error_type` is stable and meant for programs.

mod availability;

pub use availability::{
    AVAILABILITY_ITEMS_MAX, Availability, AvailabilityCode, Change, Exclusion, Relaxation,
};

use crate::json::{push_string, push_u64};
use std::borrow::Cow;

/// Most previous errors listed in one answer.
pub const PREVIOUS_ERRORS_MAX: usize = crate::receipt::ATTEMPTS_MAX;

/// The stable word for what went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The body or a field is not what the API accepts.
    InvalidRequest,
    /// No key, or one that is unknown or revoked.
    Authentication,
    /// The balance or the key's limit is too small.
    PaymentRequired,
    /// The caller may not do this.
    PermissionDenied,
    /// No such route, model, generation or receipt.
    NotFound,
    /// The route exists, but not for this method.
    MethodNotAllowed,
    /// The headers or body did not arrive in time.
    RequestTimeout,
    /// The body is larger than the bound.
    PayloadTooLarge,
    /// There are more header fields than the bound.
    HeadersTooLarge,
    /// Prompt and answer do not fit the model's context.
    ContextLengthExceeded,
    /// A seller's filter refuses the content.
    ContentPolicyViolation,
    /// The body is well formed and what it asks for cannot be done.
    Unprocessable,
    /// Too many requests.
    RateLimitExceeded,
    /// A seller failed, or none is left.
    ProviderUnavailable,
    /// The sellers are full.
    ProviderOverloaded,
    /// The deadline passed.
    Timeout,
    /// The market itself failed.
    Server,
    /// The request id or idempotency key was used with other content.
    Conflict,
}

impl ErrorType {
    /// The word in `metadata.error_type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Authentication => "authentication",
            Self::PaymentRequired => "payment_required",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::PayloadTooLarge => "payload_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::ContentPolicyViolation => "content_policy_violation",
            Self::Unprocessable => "unprocessable",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ProviderOverloaded => "provider_overloaded",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::Conflict => "conflict",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextLengthExceeded => 400,
            Self::Authentication => 401,
            Self::PaymentRequired => 402,
            Self::PermissionDenied | Self::ContentPolicyViolation => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::Unprocessable => 422,
            Self::RateLimitExceeded => 429,
            Self::HeadersTooLarge => 431,
            Self::Server => 500,
            Self::ProviderUnavailable => 502,
            Self::ProviderOverloaded => 503,
            Self::Timeout => 504,
        }
    }

    /// The coarser word in `type`, as OpenAI's clients know it.
    pub fn openai_type(self) -> &'static str {
        match self {
            Self::Authentication => "authentication_error",
            Self::PaymentRequired => "insufficient_quota",
            Self::PermissionDenied => "permission_error",
            Self::NotFound => "not_found_error",
            Self::RateLimitExceeded => "rate_limit_error",
            Self::ProviderUnavailable | Self::ProviderOverloaded | Self::Timeout | Self::Server => {
                "server_error"
            }
            _ => "invalid_request_error",
        }
    }

    /// The word in `error.type` of Anthropic's envelope.
    pub fn anthropic_type(self) -> &'static str {
        match self {
            Self::Authentication => "authentication_error",
            Self::PaymentRequired => "billing_error",
            Self::PermissionDenied => "permission_error",
            Self::NotFound => "not_found_error",
            Self::PayloadTooLarge => "request_too_large",
            Self::RateLimitExceeded => "rate_limit_error",
            Self::ProviderOverloaded => "overloaded_error",
            Self::Timeout | Self::RequestTimeout => "timeout_error",
            Self::ProviderUnavailable | Self::Server => "api_error",
            Self::InvalidRequest
            | Self::MethodNotAllowed
            | Self::HeadersTooLarge
            | Self::ContextLengthExceeded
            | Self::ContentPolicyViolation
            | Self::Unprocessable
            | Self::Conflict => "invalid_request_error",
        }
    }

    /// The word in `error.code` of a response that failed; the grammar knows only a few.
    pub fn responses_code(self) -> &'static str {
        match self {
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::InvalidRequest
            | Self::ContextLengthExceeded
            | Self::ContentPolicyViolation
            | Self::Unprocessable => "invalid_prompt",
            _ => "server_error",
        }
    }
}

/// One attempt that failed before the one that is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousError {
    /// The seller.
    pub seller: String,
    /// HTTP status or its equivalent; 0 when nothing came back.
    pub status: u16,
    /// In words.
    pub reason: String,
}

/// What only some errors have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// The seller whose failure is reported.
    pub provider_name: Option<String>,
    /// Why no offer could serve the request.
    pub availability: Option<Availability>,
    /// Further members of `metadata`, as raw JSON text without braces.
    pub metadata_json: Option<String>,
    /// Members that stand beside `error` in a whole body, the same way.
    pub beside_json: Option<String>,
    /// Further header fields of the answer.
    pub headers: Vec<(&'static str, u64)>,
}

/// One failed request, as told to the buyer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The stable word.
    pub kind: ErrorType,
    /// What was wrong and what to do about it.
    pub message: Cow<'static, str>,
    /// The field at fault.
    pub param: Option<Cow<'static, str>>,
    /// Seconds after which the same call may succeed.
    pub retry_after_s: Option<u64>,
    /// Attempts at sellers that failed; at most [`PREVIOUS_ERRORS_MAX`].
    pub previous: Vec<PreviousError>,
    /// What only some errors have.
    pub details: Option<Box<Details>>,
}

impl ApiError {
    /// An error without field or hint.
    pub fn new(kind: ErrorType, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after_s: None,
            previous: Vec::new(),
            details: None,
        }
    }

    /// A bad field of the request.
    pub fn field(param: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorType::InvalidRequest, message) }
    }

    /// The same error with why no offer could serve the request.
    #[must_use]
    pub fn with_availability(mut self, availability: Availability) -> Self {
        self.details.get_or_insert_default().availability = Some(availability);
        self
    }

    /// The same error, as that of a seller.
    #[must_use]
    pub fn of_provider(mut self, name: impl Into<String>) -> Self {
        self.details.get_or_insert_default().provider_name = Some(name.into());
        self
    }

    /// The same error with further members of `metadata`: raw JSON text without braces.
    #[must_use]
    pub fn with_metadata(mut self, json: String) -> Self {
        self.details.get_or_insert_default().metadata_json = Some(json);
        self
    }

    /// The same error with a further header field.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: u64) -> Self {
        self.details.get_or_insert_default().headers.push((name, value));
        self
    }

    /// The same error with members beside `error`: raw JSON text without braces.
    #[must_use]
    pub fn with_members_beside(mut self, json: String) -> Self {
        self.details.get_or_insert_default().beside_json = Some(json);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.kind.status()
    }

    /// The value of the member `error`.
    pub fn push_object(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"code\":");
        push_u64(out, u64::from(self.status()));
        out.extend_from_slice(b",\"message\":");
        push_string(out, &self.message);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(self.kind.openai_type().as_bytes());
        out.extend_from_slice(b"\",\"param\":");
        match &self.param {
            Some(param) => push_string(out, param),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b',');
        self.push_members(out);
        out.push(b'}');
    }

    /// Appends `"metadata":{…}` and, where there is one, `"availability":…`: what programs read, in every
    /// grammar the same.
    pub(crate) fn push_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"metadata\":{\"error_type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.push(b'"');
        if let Some(seconds) = self.retry_after_s {
            out.extend_from_slice(b",\"retry_after\":");
            push_u64(out, seconds);
        }
        let details = self.details.as_deref();
        if let Some(name) = details.and_then(|d| d.provider_name.as_ref()) {
            out.extend_from_slice(b",\"provider_name\":");
            push_string(out, name);
        }
        self.push_previous(out);
        if let Some(more) = details.and_then(|d| d.metadata_json.as_ref()) {
            out.push(b',');
            out.extend_from_slice(more.as_bytes());
        }
        out.push(b'}');
        if let Some(availability) = details.and_then(|d| d.availability.as_ref()) {
            out.extend_from_slice(b",\"availability\":");
            availability.push(out, self.retry_after_s);
        }
    }

    /// The whole body.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(b"{\"error\":");
        self.push_object(&mut out);
        self.push_beside(&mut out);
        out.push(b'}');
        out
    }

    /// Appends what stands beside `error`, with a leading comma.
    pub(crate) fn push_beside(&self, out: &mut Vec<u8>) {
        if let Some(json) = self.details.as_deref().and_then(|details| details.beside_json.as_ref()) {
            out.push(b',');
            out.extend_from_slice(json.as_bytes());
        }
    }

    fn push_previous(&self, out: &mut Vec<u8>) {
        if self.previous.is_empty() {
            return;
        }
        out.extend_from_slice(b",\"previous_errors\":[");
        for (n, error) in self.previous.iter().take(PREVIOUS_ERRORS_MAX).enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"provider\":");
            push_string(out, &error.seller);
            out.extend_from_slice(b",\"code\":");
            push_u64(out, u64::from(error.status));
            out.extend_from_slice(b",\"status\":");
            push_u64(out, u64::from(error.status));
            out.extend_from_slice(b",\"reason\":");
            push_string(out, &error.reason);
            out.push(b'}');
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_the_fields_own() {
        let error = ApiError::field("n", "`n` must be 1 to 128").of_provider("b");
        let mut error = error.with_metadata("\"x\":1".into()).with_members_beside("\"y\":2".into());
        error.previous.push(PreviousError { seller: "a".into(), status: 503, reason: "full \"now\"".into() });
        let text = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(
            text,
            r#"{"error":{"code":400,"message":"`n` must be 1 to 128","type":"invalid_request_error","param":"n","metadata":{"error_type":"invalid_request","provider_name":"b","previous_errors":[{"provider":"a","code":503,"status":503,"reason":"full \"now\""}],"x":1}},"y":2}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }

    #[test]
    fn other_grammars_have_words_for_it() {
        for (kind, anthropic, responses) in [
            (ErrorType::ContextLengthExceeded, "invalid_request_error", "invalid_prompt"),
            (ErrorType::PaymentRequired, "billing_error", "server_error"),
            (ErrorType::RateLimitExceeded, "rate_limit_error", "rate_limit_exceeded"),
            (ErrorType::ProviderOverloaded, "overloaded_error", "server_error"),
            (ErrorType::ProviderUnavailable, "api_error", "server_error"),
            (ErrorType::Timeout, "timeout_error", "server_error"),
            (ErrorType::PayloadTooLarge, "request_too_large", "server_error"),
        ] {
            assert_eq!((kind.anthropic_type(), kind.responses_code()), (anthropic, responses));
        }
    }

    #[test]
    fn previous_errors_are_bounded() {
        let mut error = ApiError::new(ErrorType::ProviderUnavailable, "all failed");
        let one = PreviousError { seller: "a".into(), status: 0, reason: "refused".into() };
        error.previous = vec![one; PREVIOUS_ERRORS_MAX + 1];
        let json: serde_json::Value = serde_json::from_slice(&error.to_json()).unwrap();
        let listed = json["error"]["metadata"]["previous_errors"].as_array().unwrap().len();
        assert_eq!(listed, PREVIOUS_ERRORS_MAX);
    }
}

//! Provider adapters: what differs between the hosted APIs that are resold.
//!
//! An adapter writes a job for a provider and reads its refusals; the answer itself is read by the
//! dialect of `bourse-wire`. A further kind of provider is one more implementation and one line in
//! [`adapter_of_kind`].

use crate::config::SELLER_MESSAGE_BYTES_MAX;
use crate::failure::{Failure, FailureClass};
use crate::secret::Secret;
use bourse_wire::dialect::{Api, Job};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;

/// One kind of hosted API.
pub trait ProviderAdapter: Send + Sync + 'static {
    /// The word for it in the configuration.
    fn kind(&self) -> &'static str;
    /// The path of an endpoint below the base URL, with its leading slash.
    fn path(&self, api: Api) -> &'static str;
    /// Headers that carry the key. `None` when the key cannot be written in a header.
    fn authorize(&self, headers: &mut HeaderMap, key: &Secret) -> Option<()>;
    /// The body of a call. `max_tokens` caps the answer when given.
    fn body(&self, job: &Job, upstream_id: &str, max_tokens: Option<u32>) -> Bytes;
    /// What a status other than 2xx means.
    fn refusal(&self, status: u16, retry_after_s: Option<u64>, body: &[u8]) -> Failure;
}

/// The adapter of a configured kind.
pub fn adapter_of_kind(kind: &str) -> Option<Arc<dyn ProviderAdapter>> {
    match kind {
        "openai" => Some(Arc::new(OpenAi)),
        _ => None,
    }
}

/// Servers that speak the OpenAI API.
#[derive(Debug, Clone, Copy)]
struct OpenAi;

impl ProviderAdapter for OpenAi {
    fn kind(&self) -> &'static str {
        "openai"
    }

    fn path(&self, api: Api) -> &'static str {
        match api {
            Api::Chat => "/chat/completions",
            Api::Text => "/completions",
        }
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &Secret) -> Option<()> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).ok()?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        Some(())
    }

    fn body(&self, job: &Job, upstream_id: &str, max_tokens: Option<u32>) -> Bytes {
        job.rebuild(upstream_id, max_tokens)
    }

    fn refusal(&self, status: u16, retry_after_s: Option<u64>, body: &[u8]) -> Failure {
        let class = match status {
            400 | 413 | 422 => FailureClass::BadRequest,
            429 => FailureClass::RateLimited,
            408 | 504 | 524 => FailureClass::Timeout,
            503 | 529 => FailureClass::Overloaded,
            _ => FailureClass::Unavailable,
        };
        let reason = error_message(body).unwrap_or_else(|| format!("answered with status {status}"));
        Failure { class, status, reason, retry_after_s }
    }
}

/// The message of an error body, cut to [`SELLER_MESSAGE_BYTES_MAX`].
pub(crate) fn error_message(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = json.get("error").unwrap_or(&json);
    let text = error.get("message").and_then(|m| m.as_str()).or_else(|| error.as_str())?;
    let end = text.floor_char_boundary(SELLER_MESSAGE_BYTES_MAX);
    Some(text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, class: FailureClass, reason: &str) {
        let failure = OpenAi.refusal(status, None, body.as_bytes());
        assert_eq!((failure.class, failure.reason.as_str()), (class, reason));
    }

    #[test]
    fn refusals_are_understood() {
        check(400, r#"{"error":{"message":"too\nlong"}}"#, FailureClass::BadRequest, "too long");
        check(429, r#"{"error":"slow down"}"#, FailureClass::RateLimited, "slow down");
        check(502, "<html>", FailureClass::Unavailable, "answered with status 502");
        check(529, "", FailureClass::Overloaded, "answered with status 529");
        check(401, r#"{"message":"bad key"}"#, FailureClass::Unavailable, "bad key");
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let body = serde_json::json!({ "error": { "message": "é".repeat(SELLER_MESSAGE_BYTES_MAX) } });
        let message = error_message(body.to_string().as_bytes()).unwrap();
        assert_eq!(message.len(), SELLER_MESSAGE_BYTES_MAX);
    }

    /// What every adapter must do; a new kind is added to the list in the test below.
    fn conforms(adapter: &dyn ProviderAdapter) {
        for api in [Api::Chat, Api::Text] {
            assert!(adapter.path(api).starts_with('/'), "{}", adapter.kind());
        }
        let mut headers = HeaderMap::new();
        adapter.authorize(&mut headers, &Secret::new("sk-canary")).unwrap();
        assert!(headers.values().any(|v| v.as_bytes().ends_with(b"sk-canary")));
        assert!(!format!("{headers:?}").contains("canary"), "a key must not show in debug output");
        assert!(adapter.authorize(&mut headers, &Secret::new("line\nbreak")).is_none());
        let body = Bytes::from_static(
            br#"{"model":"a/b","stream":true,"messages":[{"role":"user","content":"unique-text"}],"provider":{"only":["x"]}}"#,
        );
        let job = bourse_wire::dialect::openai::parse(Api::Chat, body).unwrap();
        let sent = String::from_utf8(adapter.body(&job, "up/id", Some(77)).to_vec()).unwrap();
        assert!(sent.contains("up/id") && sent.contains("unique-text") && sent.contains("77"));
        assert!(!sent.contains("a/b") && !sent.contains("\"only\""));
        for (status, class) in [
            (400, FailureClass::BadRequest),
            (429, FailureClass::RateLimited),
            (500, FailureClass::Unavailable),
            (503, FailureClass::Overloaded),
        ] {
            let failure = adapter.refusal(status, Some(3), b"\xff not JSON");
            assert_eq!((failure.class, failure.status, failure.retry_after_s), (class, status, Some(3)));
            assert!(!failure.reason.is_empty());
        }
    }

    /// A kind that nobody sells: another path, another header, another body.
    struct Fake;

    impl ProviderAdapter for Fake {
        fn kind(&self) -> &'static str {
            "fake"
        }
        fn path(&self, _: Api) -> &'static str {
            "/generate"
        }
        fn authorize(&self, headers: &mut HeaderMap, key: &Secret) -> Option<()> {
            let mut value = HeaderValue::try_from(key.expose()).ok()?;
            value.set_sensitive(true);
            headers.insert("x-api-key", value);
            Some(())
        }
        fn body(&self, job: &Job, upstream_id: &str, max_tokens: Option<u32>) -> Bytes {
            Bytes::from([b"{\"input\":", &job.rebuild(upstream_id, max_tokens)[..], b"}"].concat())
        }
        fn refusal(&self, status: u16, retry_after_s: Option<u64>, body: &[u8]) -> Failure {
            OpenAi.refusal(status, retry_after_s, body)
        }
    }

    #[test]
    fn every_adapter_conforms() {
        conforms(&OpenAi);
        conforms(&Fake);
        assert!(adapter_of_kind(Fake.kind()).is_none(), "a fake is never configured");
    }

    #[test]
    fn kinds_are_known_by_their_word() {
        assert_eq!(adapter_of_kind("openai").unwrap().kind(), "openai");
        assert!(adapter_of_kind("OpenAI").is_none());
    }
}

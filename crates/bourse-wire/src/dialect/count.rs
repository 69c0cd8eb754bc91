//! Counting the tokens of a prompt without answering it.
//!
//! Two fronts ask for it: Anthropic's `messages/count_tokens` and OpenAI's `responses/input_tokens`. Sellers of
//! some grammars have an endpoint of their own for it ([`CountForm`]); the bodies are those of calls, less what says
//! something about the answer.

use super::grammar::Shape;
use super::{Api, Job, messages, responses};
use crate::error::{ApiError, ErrorType};
use crate::json::{JsonError, Walk, push_u64};
use bytes::Bytes;

/// Bytes of a conversation, its JSON included, that stand for a token in an estimate: ordinary for English.
const BYTES_PER_TOKEN_TYPICAL: u64 = 4;

/// Reads a request to count.
pub fn parse(api: Api, body: Bytes) -> Result<Job, ApiError> {
    match api {
        Api::Messages => messages::parse_count(body),
        Api::Responses => responses::parse(body),
        _ => Err(ApiError::new(ErrorType::NotFound, "tokens are counted for `messages` and `responses`")),
    }
}

/// The answer to it.
pub fn answer(api: Api, input_tokens: u64) -> Vec<u8> {
    if api == Api::Messages {
        return messages::count_answer(input_tokens);
    }
    let mut out = br#"{"object":"response.input_tokens","input_tokens":"#.to_vec();
    push_u64(&mut out, input_tokens);
    out.push(b'}');
    out
}

/// About how many tokens a prompt has, where nobody can count them.
pub fn estimate(job: &Job) -> u64 {
    job.prompt_bytes().div_ceil(BYTES_PER_TOKEN_TYPICAL).max(1)
}

/// How the sellers of a grammar count.
#[derive(Debug, Clone, Copy)]
pub struct CountForm {
    /// Where, from the path of a call.
    pub path: fn(call: &str) -> Option<String>,
    /// The body that asks for it, from that of a call.
    pub body: fn(upstream_id: &str, call: &str) -> Option<Vec<u8>>,
    /// The member of the answer that holds the count.
    pub member: &'static str,
}

fn form(shape: Shape) -> Option<&'static CountForm> {
    shape.dialect()?.facts().count.as_ref()
}

/// Where sellers of a grammar count, from the path of a call. None where they do not.
pub fn path(shape: Shape, call: &str) -> Option<String> {
    (form(shape)?.path)(call)
}

/// The body that asks for a count, from that of a call.
pub fn body(shape: Shape, upstream_id: &str, call: &[u8]) -> Option<Bytes> {
    (form(shape)?.body)(upstream_id, std::str::from_utf8(call).ok()?).map(Bytes::from)
}

/// What a seller counted.
pub fn read(shape: Shape, answer: &[u8]) -> Option<u64> {
    let wanted = form(shape)?.member;
    let mut found = None;
    let mut walk = Walk::new(std::str::from_utf8(answer).ok()?);
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if walk.text(key) == wanted {
            found = walk.text(value).parse().ok();
        }
        Ok(())
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_asked_for_where_sellers_count() {
        assert_eq!(path(Shape::Messages, "/messages"), Some("/messages/count_tokens".into()));
        let gemini = path(Shape::Gemini, "/models/g:generateContent");
        assert_eq!(gemini, Some("/models/g:countTokens".into()));
        assert_eq!(path(Shape::Chat, "/chat/completions"), None);
        let call = br#"{"model":"m","max_tokens":5,"stream":true,"messages":[],"system":"s"}"#;
        let want = Bytes::from_static(br#"{"model":"m","messages":[],"system":"s"}"#);
        assert_eq!(body(Shape::Messages, "m", call), Some(want));
        let want = br#"{"generateContentRequest":{"model":"models/g","contents":[]}}"#;
        assert_eq!(body(Shape::Gemini, "g", br#"{"contents":[]}"#), Some(Bytes::from_static(want)));
        assert_eq!(body(Shape::Messages, "m", b"no"), None);
    }

    #[test]
    fn counts_are_read_and_answered() {
        assert_eq!(read(Shape::Messages, br#"{"input_tokens":12}"#), Some(12));
        assert_eq!(read(Shape::Gemini, br#"{"totalTokens":3,"x":[]}"#), Some(3));
        for bad in [&b"{}"[..], b"{\"input_tokens\":-1}", b"{\"input_tokens\":\"9\"}", b"[", b"\xff"] {
            assert_eq!(read(Shape::Messages, bad), None, "{bad:?}");
        }
        assert_eq!(answer(Api::Messages, 7), br#"{"input_tokens":7}"#);
        assert_eq!(answer(Api::Responses, 7), br#"{"object":"response.input_tokens","input_tokens":7}"#);
    }

    #[test]
    fn a_request_to_count_needs_no_limit() {
        let count = |api, body: &'static str| parse(api, Bytes::from_static(body.as_bytes()));
        let job =
            count(Api::Messages, r#"{"model":"a/b","messages":[{"role":"user","content":"hi"}]}"#).unwrap();
        assert!(estimate(&job) >= 1 && job.max_tokens.is_none());
        assert!(count(Api::Responses, r#"{"model":"a/b","input":"hi"}"#).is_ok());
        assert_eq!(count(Api::Chat, "{}").unwrap_err().status(), 404);
    }
}

//! How many prompt tokens a request would have, without making it.
//!
//! An estimate from bytes: nobody but the seller's tokenizer knows, and no seller is asked, so that the call is free.

use bourse_wire::dialect::{Api, BODY_BYTES_MAX, Job};
use bourse_wire::dialect::{front, messages};
use bourse_wire::error::ApiError;
use bytes::Bytes;
use serde_json::{Value, json};

/// Largest body.
pub(super) const COUNT_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Bytes per token of ordinary text.
const BYTES_PER_TOKEN_TYPICAL: u64 = 4;
/// Tokens that a template adds for each message, typically.
const MESSAGE_TOKENS_TYPICAL: u64 = 4;

pub(super) fn count(api: Api, body: Bytes) -> Result<Value, ApiError> {
    let job = match api {
        Api::Messages => messages::parse_count(body)?,
        _ => front::parse(api, body)?,
    };
    let tokens = estimate(&job);
    Ok(match api {
        Api::Responses => json!({ "object": "response.input_tokens", "input_tokens": tokens }),
        _ => json!({ "input_tokens": tokens }),
    })
}

fn estimate(job: &Job) -> u64 {
    let messages = u64::from(job.messages_count) * MESSAGE_TOKENS_TYPICAL;
    job.prompt_bytes().div_ceil(BYTES_PER_TOKEN_TYPICAL).saturating_add(messages).max(1)
}

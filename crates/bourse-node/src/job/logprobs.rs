//! Log-probabilities as items of OpenAI's `logprobs.content`.

use crate::engine::TokenLogprobs;
use bourse_tokens::tokenizer::Tokenizer;
use serde::Serialize;

/// What OpenAI's API says for a probability of zero, whose logarithm is no JSON number.
const LOGPROB_OF_ZERO: f32 = -9999.0;

#[derive(Serialize)]
struct Item<'a> {
    token: String,
    logprob: f32,
    bytes: &'a [u8],
    top_logprobs: Vec<Alternative<'a>>,
}

#[derive(Serialize)]
struct Alternative<'a> {
    token: String,
    logprob: f32,
    bytes: &'a [u8],
}

/// Appends one token's item to a JSON array that is still open: `[` before the first, a comma between.
pub(super) fn append(json: &mut String, tokenizer: &Tokenizer, token: u32, logprobs: &TokenLogprobs) {
    let alternatives = logprobs.top.iter().map(|alternative| {
        let bytes = tokenizer.spelling(alternative.token);
        Alternative { token: text(bytes), logprob: finite(alternative.logprob), bytes }
    });
    let bytes = tokenizer.spelling(token);
    let item = Item {
        token: text(bytes),
        logprob: finite(logprobs.chosen),
        bytes,
        top_logprobs: alternatives.collect(),
    };
    json.push(if json.is_empty() { '[' } else { ',' });
    json.push_str(&serde_json::to_string(&item).expect("texts, numbers and lists have a JSON form"));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LOGPROB_OF_ZERO }
}

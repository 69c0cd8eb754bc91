//! Usage of endpoints that pass through: what a seller claims, and what the buyer reads.
//!
//! Tokens go by two sets of names; OpenAI's clients want one for images, OpenRouter's the other, so both are written
//! there. A transcript's usage is of one of two types, tokens or duration.

use crate::dialect::grammar::Billed;
use crate::dialect::{Api, SellerUsage, push_cost_members};
use crate::json::{JsonError, Walk, push_string, push_u64};

/// Longest sound that a claim can name: more does not fit into a body.
const SECONDS_MAX: f64 = 1_209_600.0;

/// Seconds as a JSON number or string, rounded up.
pub(super) fn whole_seconds(raw: &str) -> Option<u64> {
    let seconds: f64 = raw.trim_matches('"').parse().ok()?;
    (0.0..=SECONDS_MAX).contains(&seconds).then(|| seconds.ceil() as u64)
}

/// The `seconds` of a usage object.
pub(super) fn usage_seconds(raw: &str) -> Option<u64> {
    let mut found = None;
    let mut walk = Walk::new(raw);
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if walk.text(key) == "seconds" {
            found = whole_seconds(walk.text(value));
        }
        Ok(())
    })
    .ok()?;
    found
}

/// What a usage object says about tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenClaim {
    /// Nothing.
    #[default]
    None,
    /// Something that cannot be read: an unknown count is not zero.
    Unreadable,
    /// This.
    Tokens(SellerUsage),
}

impl TokenClaim {
    /// This and another part of the same answer. What is too much to count cannot be read.
    pub(super) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (Self::Tokens(a), Self::Tokens(b)) => {
                let prompt = a.prompt.checked_add(b.prompt);
                let sum = prompt.zip(a.completion.checked_add(b.completion));
                sum.map_or(Self::Unreadable, |(prompt, completion)| {
                    Self::Tokens(SellerUsage { prompt, completion, ..a })
                })
            }
            _ => Self::Unreadable,
        }
    }
}

/// The count of tokens of a usage object.
pub(super) fn claim_of(api: Api, raw: &str) -> TokenClaim {
    let mut counts = false;
    let walked = Walk::new(raw).members::<JsonError>(|walk, key| {
        walk.value()?;
        counts |= walk.text(key).ends_with("_tokens");
        Ok(())
    });
    match read_usage(api, raw) {
        _ if walked.is_ok() && !counts => TokenClaim::None,
        Some(usage) => TokenClaim::Tokens(usage),
        None => TokenClaim::Unreadable,
    }
}

/// Reads a usage object: tokens under whichever of the field's names. `None` when it has no count of tokens.
pub fn read_usage(api: Api, raw: &str) -> Option<SellerUsage> {
    let (mut prompt, mut completion, mut total) = (None, None, None);
    let mut walk = Walk::new(raw);
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let count: Option<u64> = walk.text(value).parse().ok();
        match walk.text(key) {
            "prompt_tokens" | "input_tokens" => prompt = count.or(prompt),
            "completion_tokens" | "output_tokens" => completion = count.or(completion),
            "total_tokens" => total = count,
            _ => {}
        }
        Ok(())
    })
    .ok()?;
    let completion = completion.unwrap_or(0);
    let prompt = prompt.or_else(|| total?.checked_sub(completion))?;
    let completion = if matches!(api, Api::Embeddings | Api::Rerank) { 0 } else { completion };
    Some(SellerUsage { prompt, cached: 0, cache_write: 0, completion, reasoning: 0 })
}

/// What a usage object stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageIn {
    /// A whole answer.
    Answer,
    /// The last event of a stream. Stock clients know no usage there but that of tokens.
    Event,
}

/// Appends the usage object: what was billed and what it cost. `seconds` is how long a sound is, as the seller says.
pub(super) fn push_usage(
    (api, place): (Api, UsageIn),
    billed: &Billed<'_>,
    seconds: Option<u64>,
    out: &mut Vec<u8>,
) {
    let usage = billed.usage;
    let (prompt, completion) = (usage.prompt.0, usage.completion.0);
    let total = prompt.saturating_add(completion);
    out.push(b'{');
    let counts: &[(&str, u64)] = match api {
        Api::Embeddings => &[("prompt_tokens", prompt), ("total_tokens", total)],
        Api::Rerank if usage.units > 0 => &[("search_units", usage.units), ("total_tokens", total)],
        Api::Rerank => &[("total_tokens", total)],
        Api::Speech if usage.units > 0 => &[
            ("characters", usage.units),
            ("input_tokens", prompt),
            ("output_tokens", completion),
            ("total_tokens", total),
        ],
        Api::Speech => &[("input_tokens", prompt), ("output_tokens", completion), ("total_tokens", total)],
        Api::Images => &[
            ("prompt_tokens", prompt),
            ("completion_tokens", completion),
            ("input_tokens", prompt),
            ("output_tokens", completion),
            ("total_tokens", total),
        ],
        Api::Transcription if total == 0 && place == UsageIn::Event => {
            out.extend_from_slice(b"\"type\":\"tokens\",");
            let seconds = seconds.unwrap_or(usage.units);
            &[("input_tokens", 0), ("output_tokens", 0), ("total_tokens", 0), ("seconds", seconds)]
        }
        _ if total > 0 => {
            out.extend_from_slice(b"\"type\":\"tokens\",");
            &[("input_tokens", prompt), ("output_tokens", completion), ("total_tokens", total)]
        }
        _ => {
            out.extend_from_slice(b"\"type\":\"duration\",");
            &[("seconds", seconds.unwrap_or(usage.units))]
        }
    };
    for (name, count) in counts {
        push_string(out, name);
        out.push(b':');
        push_u64(out, *count);
        out.push(b',');
    }
    let is_as_claimed =
        billed.claim.is_some_and(|claim| (claim.prompt, claim.completion) == (prompt, completion));
    let has_details = is_as_claimed && billed.raw.is_some_and(|raw| push_details(api, raw, out));
    if api == Api::Images && !has_details {
        out.extend_from_slice(b"\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":");
        push_u64(out, prompt);
        out.extend_from_slice(b"},");
    }
    push_cost_members(out, billed.charge);
    out.extend_from_slice(if billed.is_byok { b",\"is_byok\":true}" } else { b"}" });
}

/// Details of counts that buyers may see. What the seller's own seller takes is not among them.
const DETAILS: [&str; 4] =
    ["input_tokens_details", "output_tokens_details", "prompt_tokens_details", "completion_tokens_details"];

/// Copies the seller's details of its counts, each with a comma behind. True when those of the input were among them.
fn push_details(api: Api, raw: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (mut found, mut seen) = (false, Vec::new());
    let walked = Walk::new(raw).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let (name, details) = (walk.text(key.clone()), walk.text(value.clone()));
        let is_of_input = name == "input_tokens_details";
        // OpenAI's client wants both of a picture's.
        let is_whole = !(is_of_input && api == Api::Images)
            || ["\"image_tokens\"", "\"text_tokens\""].iter().all(|part| details.contains(part));
        let is_known = DETAILS.contains(&name) && !seen.contains(&name) && !details.contains("cost");
        if is_known && is_whole && details.starts_with('{') {
            seen.push(name);
            found |= is_of_input;
            out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
            out.push(b',');
        }
        Ok(())
    });
    if walked.is_err() {
        out.truncate(start);
        return false;
    }
    found
}

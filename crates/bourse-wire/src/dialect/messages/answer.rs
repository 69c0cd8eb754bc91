//! Whole answers: read from a seller, looked at on their way, written for a buyer.

use super::blocks::{Block, Text};
use super::body::{BlockOut, Input, push_json, thoughts};
use super::errors::read_told;
use super::usage::{push_usage_of_tier, read_usage};
use super::words::{ORIGIN, finish_of, stop_reason, tier_of, tier_word};
use crate::dialect::PlainView;
use crate::dialect::answer::ChunkView;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::grammar::{Billed, Head, SellerError};
use crate::dialect::neutral::{Answer, Choice, Part, Signed};
use crate::json::{JsonError, Walk, push_string};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    model: Option<Text<'a>>,
    /// Each a block; those of unknown kinds may look different.
    #[serde(borrow)]
    content: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    stop_reason: Option<Text<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tier<'a> {
    #[serde(borrow)]
    service_tier: Option<Text<'a>>,
}

/// A whole answer of a seller. Blocks of unknown kinds are left out.
pub(super) fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let mended = without_lone_surrogates(body);
    let body = mended.as_ref();
    let message: Message<'_> = serde_json::from_str(body).map_err(|error| {
        SellerError::cut(&format!("the answer does not have the grammar's form: {error}"))
    })?;
    if let Some(error) = message.error {
        return Err(read_told(200, error.get()));
    }
    let content = message.content.ok_or_else(|| SellerError::cut("the answer has no content"))?;
    let blocks = content.iter().filter_map(|raw| serde_json::from_str::<Block<'_>>(raw.get()).ok());
    let parts: Vec<Part> = blocks.filter_map(|block| block.into_part().ok()).collect();
    let usage = message.usage.map(RawValue::get);
    let tier =
        usage.and_then(|raw| serde_json::from_str::<Tier<'_>>(raw).ok()).and_then(|tier| tier.service_tier);
    let owned = |text: Text<'_>| text.0.into_owned();
    let native = message.stop_reason.map(owned);
    Ok(Answer {
        id: message.id.map(owned),
        model: message.model.map(owned),
        choices: vec![Choice {
            parts,
            finish: native.as_deref().map(finish_of),
            native_finish: native,
            logprobs_json: None,
        }],
        usage: usage.and_then(read_usage),
        service_tier: tier.map(|tier| tier_of(&tier.0).to_owned()),
    })
}

/// Appends a whole answer: its first choice, for this grammar has but one.
pub(in crate::dialect) fn push_answer(
    head: &Head,
    answer: &Answer,
    billed: &Billed<'_>,
    more: &[u8],
    out: &mut Vec<u8>,
) {
    let nothing = Choice::default();
    let choice = answer.choices.first().unwrap_or(&nothing);
    push_head(head, out);
    out.extend_from_slice(b",\"content\":[");
    let mut is_first = true;
    let mut rest = choice.parts.as_slice();
    while let Some((part, after)) = rest.split_first() {
        let signed = after.first().and_then(|next| signature_behind(part, next));
        rest = &after[usize::from(signed.is_some())..];
        let Some(block) = block(part, signed) else { continue };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        push_json(&block, out);
    }
    let calls = choice.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    out.extend_from_slice(b"],\"stop_reason\":");
    push_string(out, stop_reason(choice.finish, choice.native_finish.as_deref(), calls));
    out.extend_from_slice(b",\"stop_sequence\":null,\"usage\":");
    push_usage_of_tier(billed, answer.service_tier.as_deref().map(tier_word), out);
    out.extend_from_slice(more);
    out.push(b'}');
}

/// Appends the members that a message begins with, the opening brace before them.
pub(super) fn push_head(head: &Head, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    push_string(out, &head.id);
    out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    push_string(out, &head.model);
    out.extend_from_slice(b",\"provider\":");
    push_string(out, &head.provider);
}

/// Another grammar's signature that comes apart from the thoughts before it: they are one block, as on a stream.
fn signature_behind<'a>(part: &Part, next: &'a Part) -> Option<&'a Signed> {
    let Part::Reasoning { text: shown, signed: None, .. } = part else { return None };
    let Part::Reasoning { text, signed, .. } = next else { return None };
    signed.as_ref().filter(|signed| !shown.is_empty() && text.is_empty() && signed.origin != ORIGIN)
}

/// A part as a block, signed by what comes behind it; none where this grammar's answers have no place for it
/// (pictures, sounds, files).
fn block<'a>(part: &'a Part, behind: Option<&Signed>) -> Option<BlockOut<'a>> {
    Some(match part {
        Part::Text { text, .. } | Part::Refusal { text } => BlockOut::Text { text, cache_control: None },
        Part::Reasoning { text, signed, .. } => thoughts(text, signed.as_ref().or(behind)),
        Part::ToolCall { id, name, arguments, .. } => BlockOut::ToolUse {
            id: Cow::Borrowed(id),
            name,
            input: Input::of(arguments),
            cache_control: None,
        },
        _ => return None,
    })
}

/// Looks at a whole answer of a seller of this grammar.
pub(in crate::dialect) fn view(body: &str) -> Result<PlainView, JsonError> {
    let mut chunk = ChunkView { no_choices: true, ..ChunkView::default() };
    let mut walk = Walk::new(body);
    walk.members::<JsonError>(|walk, key| {
        match (walk.text(key), walk.peek()) {
            ("content", b'[') => {
                chunk.no_choices = false;
                walk.items::<JsonError>(|walk| view_block(walk, &mut chunk))?;
            }
            (name @ ("usage" | "error"), b'{') => {
                let span = Some(walk.value()?);
                *(if name == "usage" { &mut chunk.usage } else { &mut chunk.error }) = span;
            }
            ("id", b'"') => {
                let value = walk.value()?;
                chunk.id = Some(value.start + 1..value.end - 1);
            }
            ("stop_reason", b'"') => {
                let word = walk.string()?;
                chunk.finish = Some(finish_of(walk.text(word)));
                chunk.finishes = 1;
            }
            _ => {
                walk.value()?;
            }
        }
        Ok(())
    })?;
    walk.finish()?;
    chunk.deltas = u32::from(chunk.content_bytes > 0);
    Ok(PlainView::of(chunk, body))
}

fn view_block(walk: &mut Walk<'_>, chunk: &mut ChunkView) -> Result<(), JsonError> {
    if walk.peek() != b'{' {
        return walk.value().map(|_| ());
    }
    let (mut is_call, mut bytes) = (false, 0);
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        match walk.text(key) {
            "type" => is_call = walk.text(value) == "\"tool_use\"",
            "text" | "thinking" | "name" => bytes += value.len().saturating_sub(2),
            "input" => bytes += value.len(),
            _ => {}
        }
        Ok(())
    })?;
    chunk.tool_calls += u32::from(is_call);
    chunk.content_bytes += bytes as u64 + u64::from(is_call);
    Ok(())
}

//! The OpenAI dialect, answers: reading what a seller sends, writing what a buyer gets.
//!
//! A seller's answer is looked at, not parsed: one walk finds the spans that matter (usage, finish, error,
//! whether there is content) and the bytes go on as they are. Only the `usage` object is written anew,
//! because it carries the price. Answers of our own nodes are written here from the start.
//!
//! `usage.cost` is the one authoritative amount. `cost_details` holds the cost of prompt and completion under the
//! field's names, `request`, `units` and `rounding`, which add up to it exactly; there is no second whole amount that a
//! client could add by mistake.

mod edit;
mod ours;

pub(crate) use edit::{Change, Edit, push_edited};
pub(super) use ours::bare_items;
pub(crate) use ours::{AnswerHead, DONE_EVENT, push_end, push_logprobs};

use super::Api;
use crate::json::{JsonError, Walk, push_u64};
use crate::receipt::Finish;
use bourse_types::{Charge, NanoUsd, Usage};
use bytes::Bytes;
use std::ops::Range;

/// Nano-dollars in a dollar.
const NANO_PER_USD: u64 = 1_000_000_000;

/// What one event of a seller's stream says. Spans point into the event's payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkView {
    /// Choices that carry content in this event.
    pub deltas: u32,
    /// Bytes of that content, as written: text, shown reasoning, names and arguments of tool calls.
    pub content_bytes: u64,
    /// Tool calls that begin in this event.
    pub tool_calls: u32,
    /// Choices that end in this event.
    pub finishes: u32,
    /// How the last of them ends.
    pub finish: Option<Finish>,
    /// A choice ends with the reason `error`.
    pub finish_error: bool,
    /// The value of `usage`, unless it is null; see [`read_usage`].
    pub usage: Option<Range<usize>>,
    /// Whether `choices` is missing or empty.
    pub no_choices: bool,
    /// The value of a top-level `error`, unless it is null.
    pub error: Option<Range<usize>>,
    /// The seller's id of the answer, within its quotes.
    pub(crate) id: Option<Range<usize>>,
    /// What must differ before it passes on.
    pub(crate) edits: Vec<Edit>,
    /// The edit that takes the usage out, and its place among the others.
    pub(crate) usage_edit: Option<(usize, Edit)>,
    /// Whether there is a `system_fingerprint`, be it null.
    pub(crate) has_fingerprint: bool,
}

impl ChunkView {
    /// Looks at one payload of a stream.
    pub fn read(api: Api, data: &str) -> Result<Self, JsonError> {
        Self::look(api, data, Whole::No)
    }

    fn look(api: Api, data: &str, whole: Whole) -> Result<Self, JsonError> {
        let mut view = Self { no_choices: true, ..Self::default() };
        let mut walk = Walk::new(data);
        walk.members::<JsonError>(|walk, key| {
            match walk.text(key.clone()) {
                "choices" if walk.peek() == b'[' => walk.items(|walk| {
                    let is_there = view.choice(api, walk)?;
                    view.no_choices &= whole == Whole::Yes && !is_there;
                    Ok(())
                })?,
                "usage" => {
                    let value = walk.value()?;
                    if walk.text(value.clone()) == "null" {
                        view.edits.push(Edit::new(&key, value, Change::Remove));
                    } else {
                        view.usage = Some(value.clone());
                        view.usage_edit = Some((view.edits.len(), Edit::new(&key, value, Change::Remove)));
                    }
                }
                "error" => view.error = non_null(walk)?,
                "id" if walk.peek() == b'"' => {
                    let value = walk.value()?;
                    view.id = Some(value.start + 1..value.end - 1);
                }
                "system_fingerprint" => {
                    view.has_fingerprint = true;
                    let value = walk.value()?;
                    if whole == Whole::No && walk.text(value.clone()) == "null" {
                        view.edits.push(Edit::new(&key, value, Change::Remove));
                    }
                }
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })?;
        walk.finish()?;
        Ok(view)
    }

    /// Whether it holds what a choice of the grammar holds.
    fn choice(&mut self, api: Api, walk: &mut Walk<'_>) -> Result<bool, JsonError> {
        let mut content_bytes = 0;
        let (mut has_content, mut is_there) = (false, false);
        walk.members::<JsonError>(|walk, key| {
            match walk.text(key) {
                "delta" | "message" if api == Api::Chat && walk.peek() == b'{' => {
                    is_there = true;
                    let bytes = self.message(walk)?;
                    has_content |= bytes > 0;
                    content_bytes += bytes;
                }
                "text" if api == Api::Text => {
                    is_there = true;
                    let value = walk.value()?;
                    content_bytes = value.len().saturating_sub(2) as u64;
                    has_content = content_bytes > 0 && walk.text(value) != "null";
                }
                "finish_reason" => {
                    let value = walk.value()?;
                    self.finish_reason(walk.text(value));
                }
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })?;
        self.deltas += u32::from(has_content);
        self.content_bytes += content_bytes;
        Ok(is_there)
    }

    /// Bytes of content in a `delta` or `message`. Thoughts that stand under several names count once.
    fn message(&mut self, walk: &mut Walk<'_>) -> Result<u64, JsonError> {
        let (mut bytes, mut shown, mut details) = (0, 0, 0);
        let mut renamed = None;
        let mut has_reasoning = false;
        walk.members::<JsonError>(|walk, key| {
            let name = walk.text(key.clone());
            if name == "tool_calls" && walk.peek() == b'[' {
                bytes += self.calls(walk)?;
                return Ok(());
            }
            let value = walk.value()?;
            let text = walk.text(value.clone());
            match name {
                "tool_calls" | "reasoning_details" | "role" | "function_call" | "audio" if text == "null" => {
                    self.edits.push(Edit::new(&key, value, Change::Remove));
                }
                "reasoning_content" if text != "null" => {
                    // Its place in the order of edits; filled when it turns out to be the only name.
                    renamed = Some((self.edits.len(), Edit::new(&key, value, Change::Rename("reasoning"))));
                }
                "reasoning" => has_reasoning = true,
                _ => {}
            }
            let is_text = !matches!(text, "null" | "false" | "true");
            let inside = if is_text { text.len().saturating_sub(2) as u64 } else { 0 };
            match name {
                "role" => {}
                "reasoning" | "reasoning_content" | "thinking" => shown = inside.max(shown),
                "reasoning_details" => details = inside,
                _ => bytes += inside,
            }
            Ok(())
        })?;
        if let Some((place, edit)) = renamed.filter(|_| !has_reasoning) {
            self.edits.insert(place, edit);
        }
        Ok(bytes + if shown > 0 { shown } else { details })
    }

    /// Bytes of names and arguments; a call that begins without them counts one.
    fn calls(&mut self, walk: &mut Walk<'_>) -> Result<u64, JsonError> {
        let mut bytes = 0;
        walk.items::<JsonError>(|walk| {
            if walk.peek() != b'{' {
                return walk.value().map(|_| ());
            }
            walk.members::<JsonError>(|walk, key| {
                match (walk.text(key), walk.peek()) {
                    ("function", b'{') => walk.members::<JsonError>(|walk, _| {
                        bytes += walk.value()?.len().saturating_sub(2) as u64;
                        Ok(())
                    })?,
                    ("id", b'"') => {
                        self.tool_calls += 1;
                        bytes += 1;
                        walk.value()?;
                    }
                    _ => {
                        walk.value()?;
                    }
                }
                Ok(())
            })
        })?;
        Ok(bytes)
    }

    fn finish_reason(&mut self, raw: &str) {
        let word = raw.trim_matches('"');
        if word.is_empty() || raw == "null" {
            return;
        }
        let finish = finish_of_word(word);
        self.finish_error |= finish == Finish::SellerError;
        self.finish = Some(finish);
        self.finishes += 1;
    }
}

/// What a seller's word for an end means. Words that nobody knows are ordinary ends.
pub(crate) fn finish_of_word(word: &str) -> Finish {
    match word {
        "length" | "max_tokens" | "model_length" => Finish::Length,
        "tool_calls" | "function_call" | "tool_use" => Finish::ToolCalls,
        "content_filter" | "safety" => Finish::ContentFilter,
        "error" => Finish::SellerError,
        _ => Finish::Stop,
    }
}

/// Whether a payload is a whole answer or an event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// What a seller's whole answer says. Spans point into the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainView {
    /// The same as for an event.
    pub chunk: ChunkView,
    /// Where the member `usage` would be put if there is none: before the closing brace.
    end: usize,
}

impl PlainView {
    /// Looks at one body.
    pub fn read(api: Api, body: &str) -> Result<Self, JsonError> {
        ChunkView::look(api, body, Whole::Yes).map(|chunk| Self::of(chunk, body))
    }

    /// The seller's id of the answer.
    pub fn id<'a>(&self, body: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(body.get(self.chunk.id.clone()?)?).ok()
    }

    /// What another grammar found in a body that is one object.
    pub(super) fn of(chunk: ChunkView, body: &str) -> Self {
        Self { chunk, end: body.trim_ascii_end().len().saturating_sub(1) }
    }
}

fn non_null(walk: &mut Walk<'_>) -> Result<Option<Range<usize>>, JsonError> {
    let span = walk.value()?;
    Ok((walk.text(span.clone()) != "null").then_some(span))
}

/// A seller's usage object, as claimed: nothing is checked against anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SellerUsage {
    /// All prompt tokens.
    pub prompt: u64,
    /// The part read from a cache.
    pub cached: u64,
    /// The part written into a cache.
    pub cache_write: u64,
    /// All generated tokens.
    pub completion: u64,
    /// The part of them that is reasoning.
    pub reasoning: u64,
}

/// What a grammar calls the counts of its usage object.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountNames {
    pub(super) prompt: &'static str,
    pub(super) prompt_details: &'static str,
    pub(super) completion: &'static str,
    pub(super) completion_details: &'static str,
}

/// Reads a seller's usage object. `None` when its counts are missing, negative or not numbers: an unknown
/// count is not zero.
pub fn read_usage(raw: &str) -> Option<SellerUsage> {
    const NAMES: CountNames = CountNames {
        prompt: "prompt_tokens",
        prompt_details: "prompt_tokens_details",
        completion: "completion_tokens",
        completion_details: "completion_tokens_details",
    };
    read_counts(raw, &NAMES)
}

/// As [`read_usage`], in a grammar's own words.
pub(super) fn read_counts(raw: &str, names: &CountNames) -> Option<SellerUsage> {
    let mut walk = Walk::new(raw);
    let (mut prompt, mut completion) = (None, None);
    let ([mut cached, mut cache_write], [mut reasoning]) = ([Some(0); 2], [Some(0)]);
    walk.members::<JsonError>(|walk, key| {
        let key = walk.text(key);
        if key == names.prompt {
            prompt = count(walk)?;
        } else if key == names.completion {
            completion = count(walk)?;
        } else if key == names.prompt_details && walk.peek() == b'{' {
            [cached, cache_write] = member_counts(walk, ["cached_tokens", "cache_write_tokens"])?;
        } else if key == names.completion_details && walk.peek() == b'{' {
            [reasoning] = member_counts(walk, ["reasoning_tokens"])?;
        } else {
            walk.value()?;
        }
        Ok(())
    })
    .ok()?;
    Some(SellerUsage {
        prompt: prompt?,
        cached: cached?,
        cache_write: cache_write?,
        completion: completion?,
        reasoning: reasoning?,
    })
}

/// A whole number; none for anything else.
fn count(walk: &mut Walk<'_>) -> Result<Option<u64>, JsonError> {
    let value = walk.value()?;
    Ok(walk.text(value).parse().ok())
}

/// Members of an object as whole numbers; zero where one is missing or null.
fn member_counts<const N: usize>(
    walk: &mut Walk<'_>,
    names: [&str; N],
) -> Result<[Option<u64>; N], JsonError> {
    let mut found = [Some(0); N];
    walk.members::<JsonError>(|walk, key| {
        let name = walk.text(key);
        let Some(at) = names.iter().position(|wanted| *wanted == name) else {
            walk.value()?;
            return Ok(());
        };
        found[at] = if walk.peek() == b'n' { non_null(walk)?.map(|_| 0).or(Some(0)) } else { count(walk)? };
        Ok(())
    })?;
    Ok(found)
}

/// Appends dollars as a JSON number, exactly: `0.000001234`.
pub fn push_usd(out: &mut Vec<u8>, amount: NanoUsd) {
    push_u64(out, amount.0 / NANO_PER_USD);
    let mut rest = amount.0 % NANO_PER_USD;
    if rest == 0 {
        return;
    }
    let mut digits = [b'0'; 10];
    digits[0] = b'.';
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let cut = digits.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
    out.extend_from_slice(&digits[..cut]);
}

/// Appends `"cost":…,"cost_details":{…}`.
pub fn push_cost_members(out: &mut Vec<u8>, charge: &Charge) {
    push_cost_members_as(
        out,
        charge,
        ["upstream_inference_prompt_cost", "upstream_inference_completions_cost"],
    );
}

/// As [`push_cost_members`], with a grammar's own words for the cost of prompt and completion.
pub(super) fn push_cost_members_as(out: &mut Vec<u8>, charge: &Charge, words: [&str; 2]) {
    out.extend_from_slice(b"\"cost\":");
    push_usd(out, charge.total);
    out.extend_from_slice(b",\"cost_details\":{");
    let parts = [
        (words[0], charge.prompt),
        (words[1], charge.completion),
        ("request", charge.request),
        ("units", charge.units),
        ("rounding", charge.rounding),
    ];
    for (n, (key, amount)) in parts.into_iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        push_usd(out, amount);
    }
    out.push(b'}');
}

/// Appends a usage object: what was billed and what it cost. Members of the seller's own object that say
/// something else (details of reasoning, say) are kept; its amounts of money are not.
pub fn push_usage(out: &mut Vec<u8>, billed: &Usage, charge: &Charge, seller: Option<(&str, SellerUsage)>) {
    push_usage_claimed(out, billed, charge, seller.map(|(_, claim)| claim), seller.map(|(raw, _)| raw));
}

/// As [`push_usage`]; a claim without its text comes from a seller that speaks another grammar, and tells how
/// much of the completion was reasoning.
pub(crate) fn push_usage_claimed(
    out: &mut Vec<u8>,
    billed: &Usage,
    charge: &Charge,
    claim: Option<SellerUsage>,
    raw: Option<&str>,
) {
    out.extend_from_slice(b"{\"prompt_tokens\":");
    push_u64(out, billed.prompt.0);
    out.extend_from_slice(b",\"completion_tokens\":");
    push_u64(out, billed.completion.0);
    out.extend_from_slice(b",\"total_tokens\":");
    push_u64(out, billed.prompt.0.saturating_add(billed.completion.0));
    let billed_as_claimed = |claim: SellerUsage| {
        (claim.prompt, claim.cached, claim.cache_write, claim.completion)
            == (billed.prompt.0, billed.cached_prompt.0, billed.cache_write.0, billed.completion.0)
    };
    let claim = claim.filter(|claim| billed_as_claimed(*claim));
    let details = match (claim, raw) {
        (Some(_), Some(raw)) => push_seller_members(out, raw),
        _ => false,
    };
    if let (Some(claim), None) = (claim.filter(|claim| claim.reasoning > 0), raw) {
        out.extend_from_slice(b",\"completion_tokens_details\":{\"reasoning_tokens\":");
        push_u64(out, claim.reasoning);
        out.push(b'}');
    }
    if !details {
        out.extend_from_slice(b",\"prompt_tokens_details\":{\"cached_tokens\":");
        push_u64(out, billed.cached_prompt.0);
        out.extend_from_slice(b",\"cache_write_tokens\":");
        push_u64(out, billed.cache_write.0);
        out.push(b'}');
    }
    out.push(b',');
    push_cost_members(out, charge);
    out.push(b'}');
}

/// Copies the members that the market has no word on. True when `prompt_tokens_details` was among them.
fn push_seller_members(out: &mut Vec<u8>, seller: &str) -> bool {
    let start = out.len();
    let mut details = false;
    let mut walk = Walk::new(seller);
    let walked = walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let name = walk.text(key.clone());
        let ours = name.contains('\\')
            || name.as_bytes().windows(4).any(|word| word == b"cost")
            || matches!(name, "prompt_tokens" | "completion_tokens" | "total_tokens" | "is_byok");
        let empty = name == "prompt_tokens_details" && walk.text(value.clone()) == "null";
        if !ours && !empty {
            details |= name == "prompt_tokens_details";
            out.push(b',');
            out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
        }
        Ok(())
    });
    if walked.is_err() {
        out.truncate(start);
        return false;
    }
    details
}

/// A seller's whole answer with its usage object replaced, and members added at its end when there are any
/// (raw text with a leading comma).
pub fn splice_usage(api: Api, body: &str, view: &PlainView, usage: &[u8], more: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + usage.len() + more.len() + 32);
    let edits = view.chunk.edits.as_slice();
    if let Some(span) = &view.chunk.usage {
        let place = view.chunk.usage_edit.as_ref().map_or(edits.len(), |(place, _)| *place);
        let (before, after) = edits.split_at(place);
        push_edited(&body[..span.start], before, &mut out);
        out.extend_from_slice(usage);
        let moved = |edit: &Edit| edit.moved_back(span.end);
        let after: Vec<Edit> = after.iter().map(moved).collect();
        push_edited(&body[span.end..view.end], &after, &mut out);
    } else {
        push_edited(&body[..view.end], edits, &mut out);
        if !out.ends_with(b"{") {
            out.push(b',');
        }
        out.extend_from_slice(b"\"usage\":");
        out.extend_from_slice(usage);
    }
    if matches!(api, Api::Chat | Api::Text) && !view.chunk.has_fingerprint {
        out.extend_from_slice(b",\"system_fingerprint\":null");
    }
    out.extend_from_slice(more);
    out.push(b'}');
    Bytes::from(out)
}

impl ChunkView {
    /// Takes the usage out too, for sellers that count in events with content.
    pub(crate) fn without_usage(&mut self) {
        if let Some((place, edit)) = self.usage_edit.take() {
            self.edits.insert(place, edit);
        }
    }
}

/// An event of a stream with its edits, as one event of one line.
pub(crate) fn edited_event(raw: &[u8], data: &str, edits: &[Edit]) -> Bytes {
    let mut out = Vec::with_capacity(raw.len() + 16);
    let place = memchr::memmem::find(raw, data.as_bytes()).filter(|_| !data.contains(['\n', '\r']));
    if let Some(start) = place {
        out.extend_from_slice(&raw[..start]);
        push_edited(data, edits, &mut out);
        out.extend_from_slice(&raw[start + data.len()..]);
    } else {
        // Line ends can only stand between the tokens of its JSON.
        out.extend_from_slice(b"data: ");
        push_edited(data, edits, &mut out);
        for byte in &mut out {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"\n\n");
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests;

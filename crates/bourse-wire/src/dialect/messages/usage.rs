//! Usage objects: what a seller claims, and what the market bills.
//!
//! `input_tokens` is the prompt without what the cache gave or took; the market's prompt is the whole. On streams the
//! claim comes in two objects, and what the later one does not say stands as the earlier one said it.

use crate::dialect::grammar::Billed;
use crate::dialect::{SellerUsage, push_cost_members};
use crate::json::{JsonError, Walk, push_string, push_u64};

/// The counts of one usage object, each as far as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Counts {
    /// Reads one object. `None` when a count is not a whole number.
    pub(super) fn read(raw: &str) -> Option<Self> {
        let mut counts = Self::default();
        let mut walk = Walk::new(raw);
        walk.members::<NotCounts>(|walk, key| {
            match walk.text(key) {
                "input_tokens" => counts.input = count(walk)?,
                "cache_read_input_tokens" => counts.cache_read = count(walk)?,
                "cache_creation_input_tokens" => counts.cache_write = count(walk)?,
                "output_tokens" => counts.output = count(walk)?,
                "output_tokens_details" if walk.peek() == b'{' => walk.members(|walk, key| {
                    if walk.text(key) == "thinking_tokens" {
                        counts.thinking = count(walk)?;
                        return Ok(());
                    }
                    walk.value().map(|_| ()).map_err(NotCounts::from)
                })?,
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })
        .ok()?;
        Some(counts)
    }

    /// These counts, and the earlier ones where these say nothing.
    pub(super) fn over(self, earlier: Self) -> Self {
        Self {
            input: self.input.or(earlier.input),
            cache_read: self.cache_read.or(earlier.cache_read),
            cache_write: self.cache_write.or(earlier.cache_write),
            output: self.output.or(earlier.output),
            thinking: self.thinking.or(earlier.thinking),
        }
    }

    /// The claim; none while one of the two main counts is missing.
    pub(super) fn claim(self) -> Option<SellerUsage> {
        let (cached, cache_write) = (self.cache_read.unwrap_or(0), self.cache_write.unwrap_or(0));
        Some(SellerUsage {
            prompt: self.input?.checked_add(cached)?.checked_add(cache_write)?,
            cached,
            cache_write,
            completion: self.output?,
            reasoning: self.thinking.unwrap_or(0),
        })
    }
}

/// The text is not an object whose counts are whole numbers.
struct NotCounts;

impl From<JsonError> for NotCounts {
    fn from(_: JsonError) -> Self {
        Self
    }
}

/// A whole number, or none for null.
fn count(walk: &mut Walk<'_>) -> Result<Option<u64>, NotCounts> {
    let value = walk.value()?;
    match walk.text(value) {
        "null" => Ok(None),
        text => text.parse().map(Some).map_err(|_| NotCounts),
    }
}

/// Reads a usage object. `None` when its counts are missing, negative or not numbers: an unknown count is not zero.
pub(in crate::dialect) fn read_usage(raw: &str) -> Option<SellerUsage> {
    Counts::read(raw)?.claim()
}

/// Appends a usage object: what was billed and what it cost.
pub(in crate::dialect) fn push_usage(billed: &Billed<'_>, out: &mut Vec<u8>) {
    push_usage_of_tier(billed, None, out);
}

/// As [`push_usage`], with the tier that served, in this grammar's word.
pub(super) fn push_usage_of_tier(billed: &Billed<'_>, tier: Option<&str>, out: &mut Vec<u8>) {
    let claim = billed.claim.filter(|claim| {
        let usage = billed.usage;
        (claim.prompt, claim.cached, claim.cache_write, claim.completion)
            == (usage.prompt.0, usage.cached_prompt.0, usage.cache_write.0, usage.completion.0)
    });
    let cached = billed.usage.cached_prompt.0;
    let written = billed.usage.cache_write.0;
    let fresh = billed.usage.prompt.0.saturating_sub(cached).saturating_sub(written);
    let counts: [(&[u8], u64); 4] = [
        (b"{\"input_tokens\":", fresh),
        (b",\"cache_creation_input_tokens\":", written),
        (b",\"cache_read_input_tokens\":", cached),
        (b",\"output_tokens\":", billed.usage.completion.0),
    ];
    for (key, count) in counts {
        out.extend_from_slice(key);
        push_u64(out, count);
    }
    match (billed.raw, claim) {
        (Some(raw), Some(_)) => push_members(raw, |name| !is_count(name) && !is_money(name), out),
        (None, Some(claim)) if claim.reasoning > 0 => {
            out.extend_from_slice(b",\"output_tokens_details\":{\"thinking_tokens\":");
            push_u64(out, claim.reasoning);
            out.push(b'}');
        }
        _ => {}
    }
    if let Some(tier) = tier {
        out.extend_from_slice(b",\"service_tier\":");
        push_string(out, tier);
    }
    out.push(b',');
    push_cost_members(out, billed.charge);
    if billed.is_byok {
        out.extend_from_slice(b",\"is_byok\":true");
    }
    out.push(b'}');
}

/// Appends a seller's usage object without its amounts of money.
pub(super) fn push_without_money(raw: &str, out: &mut Vec<u8>) {
    out.push(b'{');
    push_members(raw, |name| !is_money(name), out);
    out.push(b'}');
}

/// Whether an object has members about money.
pub(super) fn has_money(raw: &str) -> bool {
    let mut has = false;
    let mut walk = Walk::new(raw);
    let walked = walk.members::<JsonError>(|walk, key| {
        has |= is_money(walk.text(key));
        walk.value().map(|_| ())
    });
    has || walked.is_err()
}

fn is_count(name: &str) -> bool {
    matches!(
        name,
        "input_tokens" | "output_tokens" | "cache_creation_input_tokens" | "cache_read_input_tokens"
    )
}

/// A name with escapes could be any name.
fn is_money(name: &str) -> bool {
    name.contains('\\') || name.contains("cost") || name.contains("credit") || name == "is_byok"
}

/// Appends the members whose names are kept, with commas between them and what stands before.
fn push_members(raw: &str, keeps: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
    let start = out.len();
    let mut walk = Walk::new(raw);
    let walked = walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if keeps(walk.text(key.clone())) {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
        }
        Ok(())
    });
    if walked.is_err() {
        out.truncate(start);
    }
}

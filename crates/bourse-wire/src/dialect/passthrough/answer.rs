//! What a seller's answer to a passed-through request says.

use crate::dialect::{Api, SellerUsage};
use crate::json::{JsonError, Walk};
use std::ops::Range;

/// What was found in an answer. Spans point into the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassedView {
    /// The value of `usage`, unless it is null.
    pub usage: Option<Range<usize>>,
    /// The value of a top-level `error`, unless it is null.
    pub error: Option<Range<usize>>,
    /// Entries of `data` or `results`; 1 when there is a `text`.
    pub entries: u64,
    /// Seconds of sound, where the answer says so, rounded up.
    pub seconds: Option<u64>,
    /// Where further members would be put: before the closing brace.
    pub end: usize,
}

/// Looks at one whole answer of JSON.
pub fn view(body: &str) -> Result<PassedView, JsonError> {
    let mut view = PassedView { end: body.trim_ascii_end().len().saturating_sub(1), ..PassedView::default() };
    let mut walk = Walk::new(body);
    walk.members::<JsonError>(|walk, key| {
        match (walk.text(key), walk.peek()) {
            ("data" | "results", b'[') => walk.items::<JsonError>(|walk| {
                walk.value()?;
                view.entries += 1;
                Ok(())
            })?,
            (name @ ("usage" | "error"), _) => {
                let value = walk.value()?;
                let value = (walk.text(value.clone()) != "null").then_some(value);
                if name == "usage" { view.usage = value } else { view.error = value }
            }
            ("text", b'"') => {
                walk.value()?;
                view.entries = view.entries.max(1);
            }
            ("duration", _) => {
                let value = walk.value()?;
                view.seconds = whole_seconds(walk.text(value));
            }
            _ => {
                walk.value()?;
            }
        }
        Ok(())
    })?;
    walk.finish()?;
    if let Some(usage) = &view.usage {
        view.seconds = usage_seconds(&body[usage.clone()]).or(view.seconds);
    }
    Ok(view)
}

/// Seconds as a JSON number or string, rounded up.
fn whole_seconds(raw: &str) -> Option<u64> {
    let seconds: f64 = raw.trim_matches('"').parse().ok()?;
    // Two weeks of sound do not fit into a body.
    (0.0..=1_209_600.0).contains(&seconds).then(|| seconds.ceil() as u64)
}

fn usage_seconds(raw: &str) -> Option<u64> {
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

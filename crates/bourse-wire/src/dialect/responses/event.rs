//! One event of a stream, looked at: which kind it is and where what it says lies.
//!
//! Shared by the reader, which turns events into neutral ones, and by the passage, which only counts.

use crate::json::{JsonError, Walk};
use std::ops::Range;

/// Kinds of events that say something to the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `response.output_text.delta`.
    Text,
    /// `response.refusal.delta`.
    Refusal,
    /// `response.reasoning_text.delta`.
    Thoughts,
    /// `response.reasoning_summary_text.delta`.
    Summary,
    /// `response.reasoning_summary_part.added`.
    SummaryPart,
    /// `response.function_call_arguments.delta`.
    Arguments,
    /// `response.function_call_arguments.done`.
    ArgumentsDone,
    /// `response.output_item.added`.
    ItemAdded,
    /// `response.output_item.done`.
    ItemDone,
    /// `response.completed`.
    Completed,
    /// `response.incomplete`.
    Incomplete,
    /// `response.failed`, `response.cancelled`, `response.error`, or `error`.
    Failed,
    /// Pieces of what runs at the seller: `….delta` of any other kind.
    OtherDelta,
    /// Anything else.
    Other,
}

impl Kind {
    fn parse(name: &str) -> Self {
        match name {
            "response.output_text.delta" => Self::Text,
            "response.refusal.delta" => Self::Refusal,
            "response.reasoning_text.delta" | "response.reasoning.delta" => Self::Thoughts,
            "response.reasoning_summary_text.delta" => Self::Summary,
            "response.reasoning_summary_part.added" => Self::SummaryPart,
            "response.function_call_arguments.delta" => Self::Arguments,
            "response.function_call_arguments.done" => Self::ArgumentsDone,
            "response.output_item.added" => Self::ItemAdded,
            "response.output_item.done" => Self::ItemDone,
            "response.completed" => Self::Completed,
            "response.incomplete" => Self::Incomplete,
            "response.failed" | "response.cancelled" | "response.error" | "error" => Self::Failed,
            _ => match name.rsplit_once('.') {
                Some((_, "delta")) => Self::OtherDelta,
                _ => Self::Other,
            },
        }
    }

    /// Whether nothing may follow.
    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Incomplete | Self::Failed)
    }
}

/// What one event says. Spans point into its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventView {
    pub(super) kind: Kind,
    /// The value of `delta`.
    pub(super) delta: Option<Range<usize>>,
    /// The value of `arguments`.
    pub(super) arguments: Option<Range<usize>>,
    /// The value of `logprobs`.
    pub(super) logprobs: Option<Range<usize>>,
    /// The value of `item`.
    pub(super) item: Option<Range<usize>>,
    /// The value of `response`.
    pub(super) response: Option<Range<usize>>,
    /// `output_index`.
    pub(super) output_index: Option<u64>,
    /// `summary_index`.
    pub(super) summary_index: Option<u64>,
    /// `sequence_number`.
    pub(super) sequence: Option<u64>,
}

impl EventView {
    /// Looks at one payload. Without a `type` an object with `error` is an error, as routers send it.
    pub(super) fn read(data: &str) -> Result<Self, JsonError> {
        let mut view = Self {
            kind: Kind::Other,
            delta: None,
            arguments: None,
            logprobs: None,
            item: None,
            response: None,
            output_index: None,
            summary_index: None,
            sequence: None,
        };
        let (mut has_type, mut has_error) = (false, false);
        let mut walk = Walk::new(data);
        walk.members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            let raw = walk.text(value.clone());
            match walk.text(key) {
                "type" => {
                    has_type = true;
                    view.kind = Kind::parse(raw.trim_matches('"'));
                }
                "delta" => view.delta = Some(value),
                "arguments" => view.arguments = Some(value),
                "logprobs" => view.logprobs = Some(value),
                "item" => view.item = Some(value),
                "response" => view.response = Some(value),
                "output_index" => view.output_index = raw.parse().ok(),
                "summary_index" => view.summary_index = raw.parse().ok(),
                "sequence_number" => view.sequence = raw.parse().ok(),
                "error" => has_error = raw != "null",
                _ => {}
            }
            Ok(())
        })?;
        walk.finish()?;
        if !has_type && has_error {
            view.kind = Kind::Failed;
        }
        Ok(view)
    }
}

/// What a response object says of its end. Spans point into the same text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResponseView {
    /// `id`, without its quotes.
    pub(super) id: Option<Range<usize>>,
    /// The value of `usage`, unless it is null.
    pub(super) usage: Option<Range<usize>>,
    /// The value of `error`, unless it is null.
    pub(super) error: Option<Range<usize>>,
    /// The value of `output`, if it is an array.
    pub(super) output: Option<Range<usize>>,
    /// `status`, without its quotes.
    pub(super) status: Option<Range<usize>>,
    /// `incomplete_details.reason` is `content_filter`.
    pub(super) is_filtered: bool,
    /// Where the closing brace is.
    pub(super) end: usize,
}

impl ResponseView {
    /// Looks at the object at `span` of `text`.
    pub(super) fn read(text: &str, span: &Range<usize>) -> Result<Self, JsonError> {
        let text = &text[..span.end];
        let mut view = Self { end: text.trim_ascii_end().len().saturating_sub(1), ..Self::default() };
        let mut walk = Walk::new(&text[span.start..]);
        let at = |value: Range<usize>| value.start + span.start..value.end + span.start;
        walk.members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            let raw = walk.text(value.clone());
            match walk.text(key) {
                "usage" if raw != "null" => view.usage = Some(at(value)),
                "error" if raw != "null" => view.error = Some(at(value)),
                "output" if raw.starts_with('[') => view.output = Some(at(value)),
                name @ ("id" | "status") if raw.len() > 2 && raw.starts_with('"') => {
                    let word = Some(at(value.start + 1..value.end - 1));
                    *(if name == "id" { &mut view.id } else { &mut view.status }) = word;
                }
                "incomplete_details" => view.is_filtered = raw.contains("\"content_filter\""),
                _ => {}
            }
            Ok(())
        })?;
        walk.finish()?;
        Ok(view)
    }
}

/// What an output item says, as far as a meter cares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ItemView {
    /// Whether it calls a tool of the buyer.
    pub(super) is_call: bool,
    /// Bytes of text, thoughts, names and arguments, as written; a call counts at least one.
    pub(super) content_bytes: u64,
}

impl ItemView {
    /// Looks at one item and walks over it.
    pub(super) fn walk(walk: &mut Walk<'_>) -> Result<Self, JsonError> {
        let mut view = Self::default();
        if walk.peek() != b'{' {
            walk.value()?;
            return Ok(view);
        }
        walk.members::<JsonError>(|walk, key| {
            match (walk.text(key), walk.peek()) {
                ("content" | "summary", b'[') => view.content_bytes += texts(walk)?,
                ("name" | "arguments" | "input", b'"') => {
                    view.content_bytes += walk.string()?.len() as u64;
                }
                ("type", _) => {
                    let value = walk.value()?;
                    let word = walk.text(value);
                    view.is_call = matches!(word, "\"function_call\"" | "\"custom_tool_call\"");
                }
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })?;
        view.content_bytes += u64::from(view.is_call);
        Ok(view)
    }
}

/// Bytes of the texts in a list of parts.
fn texts(walk: &mut Walk<'_>) -> Result<u64, JsonError> {
    let mut bytes = 0;
    walk.items::<JsonError>(|walk| {
        if walk.peek() != b'{' {
            return walk.value().map(|_| ());
        }
        walk.members::<JsonError>(|walk, key| {
            match (walk.text(key), walk.peek()) {
                ("text" | "refusal", b'"') => bytes += walk.string()?.len() as u64,
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })
    })?;
    Ok(bytes)
}

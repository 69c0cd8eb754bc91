//! A stream from a seller of this grammar to a buyer of it: events pass as they came.
//!
//! Held back are `message_delta`, whose usage the market writes, and the end. Written anew are events without a
//! name, because stock clients skip them, and usage with amounts of money, because they are not the buyer's price.

use super::errors::read_told;
use super::usage::{Counts, has_money, push_usage, push_without_money};
use super::words::finish_of;
use super::writer::{push_error_event, push_message_delta, push_message_stop, push_stop};
use crate::dialect::grammar::{Billed, Passage, Seen, SellerError, Sink, StreamNews};
use crate::error::ApiError;
use crate::json::{JsonError, Walk};
use crate::receipt::Finish;
use crate::sse::Event;
use std::borrow::Cow;
use std::ops::Range;

/// The passage of one stream.
#[derive(Debug, Default)]
pub(super) struct OwnPassage {
    has_begun: bool,
    /// Index of the block that is open.
    open: Option<u64>,
    /// What the first event said of usage.
    counts: Counts,
    /// The payload of `message_delta`, and where its usage lies in it.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    data: String,
    usage: Option<Range<usize>>,
    end: usize,
}

/// What one walk over an event finds. Spans point into it.
#[derive(Debug, Default)]
struct View<'a> {
    kind: &'a str,
    index: Option<u64>,
    content_bytes: u64,
    is_call: bool,
    finish: Option<Finish>,
    usage: Option<Range<usize>>,
    /// Usage in the message that the first event holds.
    first_usage: Option<Range<usize>>,
    error: Option<Range<usize>>,
}

impl<'a> View<'a> {
    fn read(data: &'a str) -> Result<Self, JsonError> {
        let mut view = Self::default();
        let mut walk = Walk::new(data);
        walk.members::<JsonError>(|walk, key| {
            match (walk.text(key), walk.peek()) {
                ("type", b'"') => {
                    let word = walk.string()?;
                    view.kind = walk.text(word);
                }
                ("index", _) => {
                    let value = walk.value()?;
                    view.index = walk.text(value).parse().ok();
                }
                ("delta" | "content_block", b'{') => view.content(walk)?,
                ("usage", _) => view.usage = Some(walk.value()?),
                ("error", b'{') => view.error = Some(walk.value()?),
                ("message", b'{') => walk.members::<JsonError>(|walk, key| {
                    let is_usage = walk.text(key) == "usage" && walk.peek() == b'{';
                    let value = walk.value()?;
                    view.first_usage = if is_usage { Some(value) } else { view.first_usage.take() };
                    Ok(())
                })?,
                _ => {
                    walk.value()?;
                }
            }
            Ok(())
        })?;
        walk.finish()?;
        Ok(view)
    }

    /// A piece of a block, or how one begins.
    fn content(&mut self, walk: &mut Walk<'_>) -> Result<(), JsonError> {
        let (mut bytes, mut name_bytes) = (0, 0);
        walk.members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            let text = walk.text(value);
            match walk.text(key) {
                "type" => self.is_call = text == "\"tool_use\"",
                "text" | "thinking" | "partial_json" => bytes += text.len().saturating_sub(2),
                "input" if text != "{}" && text != "null" => bytes += text.len(),
                "name" => name_bytes = text.len().saturating_sub(2) + 1,
                "stop_reason" if text != "null" => self.finish = Some(finish_of(text.trim_matches('"'))),
                _ => {}
            }
            Ok(())
        })?;
        self.content_bytes = (bytes + if self.is_call { name_bytes } else { 0 }) as u64;
        Ok(())
    }
}

impl OwnPassage {
    /// The first event: its usage is noted, and passes without money.
    fn begin(&mut self, event: &Event, data: &str, view: &View<'_>, sink: &mut dyn Sink) {
        self.has_begun = true;
        let Some(span) = &view.first_usage else { return pass(event, data, view.kind, sink) };
        let usage = &data[span.clone()];
        self.counts = Counts::read(usage).unwrap_or_default();
        if !has_money(usage) {
            return pass(event, data, view.kind, sink);
        }
        let mut out = Vec::with_capacity(data.len() + 64);
        push_name(view.kind, &mut out);
        let line = one_line(data);
        out.extend_from_slice(&line.as_bytes()[..span.start]);
        push_without_money(&line[span.clone()], &mut out);
        out.extend_from_slice(&line.as_bytes()[span.end..]);
        out.extend_from_slice(b"\n\n");
        sink.extend(&out);
    }

    /// Holds `message_delta` back. One that was held before goes on, for a later one says more.
    fn hold(&mut self, data: &str, usage: Option<Range<usize>>, sink: &mut dyn Sink) {
        let end = data.trim_ascii_end().len().saturating_sub(1);
        let held = Held { data: one_line(data).into_owned(), usage, end };
        if let Some(before) = self.held.replace(held) {
            let mut out = Vec::with_capacity(before.data.len() + 64);
            before.push(&mut out, |usage, out| match usage {
                Some(usage) => push_without_money(usage, out),
                None => out.extend_from_slice(b"{\"output_tokens\":0}"),
            });
            sink.extend(&out);
        }
    }
}

impl Held {
    fn usage(&self) -> Option<&str> {
        self.usage.clone().map(|span| &self.data[span]).filter(|usage| usage.starts_with('{'))
    }

    /// Appends the event with its usage as `write` writes it.
    fn push(&self, out: &mut Vec<u8>, write: impl FnOnce(Option<&str>, &mut Vec<u8>)) {
        let bytes = self.data.as_bytes();
        push_name("message_delta", out);
        if let Some(span) = &self.usage {
            out.extend_from_slice(&bytes[..span.start]);
            write(self.usage(), out);
            out.extend_from_slice(&bytes[span.end..=self.end]);
        } else {
            out.extend_from_slice(&bytes[..self.end]);
            out.extend_from_slice(b",\"usage\":");
            write(None, out);
            out.push(b'}');
        }
        out.extend_from_slice(b"\n\n");
    }
}

/// A payload that came in several lines, as one of the same length.
fn one_line(data: &str) -> Cow<'_, str> {
    if data.contains('\n') { Cow::Owned(data.replace('\n', " ")) } else { Cow::Borrowed(data) }
}

fn push_name(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
}

/// Passes an event as it came, but gives it its name where it has none.
fn pass(event: &Event, data: &str, kind: &str, sink: &mut dyn Sink) {
    if event.raw.starts_with(b"event:") || kind.is_empty() {
        return sink.push(event.raw.clone());
    }
    sink.extend(b"event: ");
    sink.extend(kind.as_bytes());
    for line in data.split('\n') {
        sink.extend(b"\ndata: ");
        sink.extend(line.as_bytes());
    }
    sink.extend(b"\n\n");
}

impl Passage for OwnPassage {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        let Some(data) = event.data() else {
            sink.push(event.sign_of_life());
            return Ok(Seen::default());
        };
        if event.is_done() {
            return Ok(Seen { news: StreamNews { usage: None, is_last: true }, ..Seen::default() });
        }
        let data = std::str::from_utf8(data).map_err(|_| SellerError::cut("an event is not UTF-8"))?;
        let view = View::read(data).map_err(|_| SellerError::cut("an event is not JSON"))?;
        let mut seen = Seen { content_bytes: view.content_bytes, ..Seen::default() };
        match view.kind {
            "message_start" => self.begin(event, data, &view, sink),
            "message_delta" => {
                seen.finish = view.finish;
                seen.finishes = u32::from(view.finish.is_some());
                let usage = view.usage.clone().map(|span| &data[span]).filter(|usage| *usage != "null");
                let usage = usage.map(Counts::read);
                seen.news.usage = usage.map(|counts| counts?.over(self.counts).claim());
                self.hold(data, view.usage, sink);
            }
            "message_stop" => seen.news.is_last = true,
            "error" => {
                return Err(read_told(0, view.error.map_or("{}", |span| &data[span])));
            }
            kind => {
                match kind {
                    "content_block_start" => {
                        self.open = view.index;
                        seen.tool_calls = u32::from(view.is_call);
                    }
                    "content_block_stop" => self.open = None,
                    _ => {}
                }
                pass(event, data, kind, sink);
            }
        }
        Ok(seen)
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        match &self.held {
            Some(held) => held.push(out, |_, out| push_usage(billed, out)),
            None => push_message_delta(Some("end_turn"), billed, out),
        }
        push_message_stop(more, out);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        if self.has_begun {
            if let Some(index) = self.open.take() {
                push_stop(index, out);
            }
            push_message_delta(None, billed, out);
        }
        push_error_event(error, more, out);
    }

    fn raw_usage(&self) -> Option<&str> {
        self.held.as_ref()?.usage()
    }
}

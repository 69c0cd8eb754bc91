//! A stream from a seller of this grammar to a buyer of this grammar.
//!
//! Events pass as they came. The terminal event is held back until the market has settled, and then goes out with
//! the market's usage in place of the seller's. What the seller sends after it, and the end marker that some
//! routers add, does not pass. A failure that the seller reports is an error here, so that the gateway decides.

use super::envelope::{Status, broken, push_response, push_usage, read_usage};
use super::error::read_failure;
use super::event::{EventView, ItemView, Kind, ResponseView};
use crate::dialect::fields::unescaped;
use crate::dialect::grammar::{Billed, Head, Passage, Seen, SellerError, Sink, StreamNews};
use crate::error::ApiError;
use crate::json::{Walk, push_u64};
use crate::receipt::Finish;
use crate::sse::Event;
use std::ops::Range;

/// The passage of one stream.
#[derive(Debug)]
pub(super) struct OwnPassage {
    head: Head,
    /// The number that the next event of ours would have.
    sequence: u64,
    calls: u32,
    /// Whether the head's id is the one that the seller announced.
    has_id: bool,
    last: Option<Held>,
}

/// The terminal event as the seller wrote it.
#[derive(Debug)]
struct Held {
    is_complete: bool,
    payload: String,
    /// The value of `usage` in the payload.
    usage: Option<Range<usize>>,
    /// Where the response object's closing brace is.
    end: usize,
}

impl OwnPassage {
    pub(super) fn new(head: &Head) -> Self {
        Self { head: head.clone(), sequence: 0, calls: 0, has_id: false, last: None }
    }

    fn hold(&mut self, view: &EventView, data: &str) -> Result<Seen, SellerError> {
        let span = view.response.clone().ok_or_else(|| SellerError::cut("the last event has no response"))?;
        let response = ResponseView::read(data, &span).map_err(malformed)?;
        let is_complete = view.kind == Kind::Completed;
        let finish = match (is_complete, response.is_filtered, self.calls) {
            (true, _, 0) => Finish::Stop,
            (true, _, _) => Finish::ToolCalls,
            (false, true, _) => Finish::ContentFilter,
            (false, false, _) => Finish::Length,
        };
        let usage = response.usage.clone().map(|span| read_usage(&data[span]));
        self.last =
            Some(Held { is_complete, payload: data.to_owned(), usage: response.usage, end: response.end });
        Ok(Seen {
            finishes: 1,
            finish: Some(finish),
            news: StreamNews { usage, is_last: true },
            ..Seen::default()
        })
    }

    /// An end of ours must bear the id that the stream began with.
    fn take_id(&mut self, span: &Range<usize>, data: &str) -> Result<(), SellerError> {
        if let Some(id) = ResponseView::read(data, span).map_err(malformed)?.id {
            self.has_id = true;
            self.head.id = unescaped(&data[id]).into_owned();
        }
        Ok(())
    }

    fn see(&mut self, view: &EventView, data: &str) -> Result<Seen, SellerError> {
        let mut seen = Seen::default();
        if let (false, Some(span)) = (self.has_id, &view.response) {
            self.take_id(span, data)?;
        }
        match view.kind {
            Kind::ItemAdded => {
                let item = view.item.clone().unwrap_or_default();
                let item = ItemView::walk(&mut Walk::new(&data[item])).map_err(malformed)?;
                seen.content_bytes = item.content_bytes;
                seen.tool_calls = u32::from(item.is_call);
                self.calls = self.calls.saturating_add(seen.tool_calls);
            }
            Kind::Text
            | Kind::Refusal
            | Kind::Thoughts
            | Kind::Summary
            | Kind::Arguments
            | Kind::OtherDelta => {
                let delta = view.delta.as_ref().map_or(0, Range::len);
                seen.content_bytes = delta.saturating_sub(2) as u64;
            }
            _ => {}
        }
        Ok(seen)
    }
}

fn malformed(error: crate::json::JsonError) -> SellerError {
    SellerError::cut(&format!("an event cannot be read: {error}"))
}

impl Passage for OwnPassage {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        if self.last.is_some() {
            return Ok(Seen::default());
        }
        let Some(data) = event.data() else {
            sink.push(event.sign_of_life());
            return Ok(Seen::default());
        };
        if event.is_done() {
            return Ok(Seen { news: StreamNews { usage: None, is_last: true }, ..Seen::default() });
        }
        let data = std::str::from_utf8(data).map_err(|_| SellerError::cut("an event is not UTF-8"))?;
        let view = EventView::read(data).map_err(malformed)?;
        if view.kind == Kind::Failed || event.named_error {
            return Err(read_failure(data));
        }
        if view.kind.is_terminal() {
            return self.hold(&view, data);
        }
        let seen = self.see(&view, data)?;
        self.sequence = view.sequence.unwrap_or(self.sequence).saturating_add(1);
        sink.push(event.raw.clone());
        Ok(seen)
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let Some(held) = self.last.take() else {
            return self.fail(&broken(Finish::SellerError), billed, more, out);
        };
        out.extend_from_slice(if held.is_complete {
            b"event: response.completed\ndata: "
        } else {
            b"event: response.incomplete\ndata: "
        });
        let start = out.len();
        let payload = held.payload.as_bytes();
        if let Some(usage) = held.usage {
            out.extend_from_slice(&payload[..usage.start]);
            push_usage(billed, out);
            out.extend_from_slice(&payload[usage.end..held.end]);
        } else {
            out.extend_from_slice(&payload[..held.end]);
            out.extend_from_slice(b",\"usage\":");
            push_usage(billed, out);
        }
        out.extend_from_slice(more);
        out.extend_from_slice(&payload[held.end..]);
        // A payload of several lines is one line here: between the tokens of JSON a space says the same.
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"\n\n");
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: response.failed\ndata: {\"type\":\"response.failed\",\"sequence_number\":",
        );
        push_u64(out, self.sequence);
        out.extend_from_slice(b",\"response\":");
        push_response(&self.head, Status::Failed(error), b"", Some(billed), more, out);
        out.extend_from_slice(b"}\n\n");
        self.last = None;
    }

    fn raw_usage(&self) -> Option<&str> {
        let held = self.last.as_ref()?;
        held.usage.clone().map(|span| &held.payload[span])
    }

    fn upstream_id(&self) -> Option<&str> {
        self.has_id.then_some(self.head.id.as_str())
    }
}

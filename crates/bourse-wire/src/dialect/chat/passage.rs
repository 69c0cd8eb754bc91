//! A seller's stream to a buyer of the same grammar: the seller's own bytes, less what the market says itself.
//!
//! Held back are the usage (the market sends its own, with the price) and `[DONE]` (which waits for the
//! books). Everything else passes as it came. What ends a stream well is a finish reason; that is for the caller to
//! judge, from [`Seen::finishes`] and [`StreamNews::is_last`].

use super::errors;
use crate::dialect::grammar::{Billed, Head, Passage, Seen, SellerError, Sink, StreamNews};
use crate::dialect::{AnswerHead, Api, ChunkView, DONE_EVENT, edited_event, read_usage};
use crate::error::ApiError;
use crate::sse::Event;
use std::borrow::Cow;

/// One stream.
pub(super) struct ChatPassage {
    api: Api,
    /// Of the seller's first event, so that the market's last ones look like its own.
    head: Option<AnswerHead>,
    /// When no event came.
    ours: Head,
    /// The last usage object that could be read, on one line.
    usage: Option<String>,
    /// The seller's id, of its first event.
    id: Option<String>,
}

impl ChatPassage {
    pub(super) fn new(api: Api, head: &Head) -> Self {
        Self { api, head: None, ours: head.clone(), usage: None, id: None }
    }

    fn with_head(&self, write: impl FnOnce(&AnswerHead)) {
        match &self.head {
            Some(head) => write(head),
            None => write(&AnswerHead::of(self.api, true, &self.ours)),
        }
    }
}

impl Passage for ChatPassage {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        let Some(bytes) = event.data() else {
            sink.push(event.sign_of_life());
            return Ok(Seen::default());
        };
        if event.is_done() {
            return Ok(Seen { news: StreamNews { usage: None, is_last: true }, ..Seen::default() });
        }
        let view = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| Some((text, ChunkView::read(self.api, text).ok()?)));
        let Some((text, mut view)) = view else {
            return Err(SellerError::cut("the stream was cut inside an event"));
        };
        if let Some(error) = &view.error {
            return Err(errors::of_raw(&text[error.clone()]));
        }
        if view.finish_error || event.named_error {
            return Err(errors::of_raw(text));
        }
        if self.head.is_none() {
            self.head = AnswerHead::of_chunk(self.api, &on_one_line(text));
            self.id = view.id.clone().map(|span| text[span].to_owned());
        }
        let mut news = StreamNews::default();
        let is_usage_alone = view.no_choices && view.usage.is_some();
        if let Some(span) = &view.usage {
            let raw = &text[span.clone()];
            let claim = read_usage(raw);
            self.usage = claim.map(|_| on_one_line(raw).into_owned());
            news.usage = Some(claim);
            view.without_usage();
        }
        if view.edits.is_empty() {
            sink.push(event.raw.clone());
        } else if !is_usage_alone {
            sink.push(edited_event(&event.raw, text, &view.edits));
        }
        let ChunkView { content_bytes, tool_calls, finishes, finish, .. } = view;
        Ok(Seen { content_bytes, tool_calls, finishes, finish, news, units: None })
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let mut usage = Vec::with_capacity(384);
        super::push_usage(billed, &mut usage);
        self.with_head(|head| head.push_usage_event(out, &usage, more));
        out.extend_from_slice(DONE_EVENT);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let mut usage = Vec::with_capacity(384);
        super::push_usage(billed, &mut usage);
        self.with_head(|head| head.push_error_event(out, error, &usage, more));
        out.extend_from_slice(DONE_EVENT);
    }

    fn raw_usage(&self) -> Option<&str> {
        self.usage.as_deref()
    }

    fn upstream_id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}

/// JSON without line ends, which can only stand between its tokens.
pub(in crate::dialect) fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

#[cfg(test)]
mod tests;

//! The events around the deltas: items and their parts begin and end.

use super::super::item::{Said, push_thought};
use super::{Item, Status, Text, Writer};
use crate::json::{push_string, push_u64};
use std::ops::Range;

/// Where an item or a part of it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Added,
    TextDone,
    Done,
}

/// Appends `,"delta":"…"` and says where the escaped text lies.
pub(super) fn push_delta(text: &str, out: &mut Vec<u8>) -> Range<usize> {
    out.extend_from_slice(b",\"delta\":");
    let start = out.len() + 1;
    push_string(out, text);
    start..out.len() - 1
}

fn push_member(key: &str, value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    push_u64(out, value);
}

impl Writer {
    /// Appends an event up to its own members.
    pub(super) fn open_event(&mut self, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: {\"type\":\"");
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        push_member("sequence_number", self.sequence, out);
        self.sequence += 1;
    }

    /// Also says which item.
    pub(super) fn open_item_event(&mut self, name: &str, index: usize, out: &mut Vec<u8>) {
        self.open_event(name, out);
        push_member("output_index", index as u64, out);
        out.extend_from_slice(b",\"item_id\":");
        self.items[index].id(&self.head.id, index).push(out);
    }

    /// Also says which part of it.
    pub(super) fn open_part_event(
        &mut self,
        name: &str,
        index: usize,
        key: &str,
        part: usize,
        out: &mut Vec<u8>,
    ) {
        self.open_item_event(name, index, out);
        push_member(key, part as u64, out);
    }

    /// As [`Writer::open_part_event`], for the last text of a message.
    pub(super) fn open_text_event(&mut self, name: &str, index: usize, out: &mut Vec<u8>) {
        let count = self.texts(index).len();
        self.open_part_event(name, index, "content_index", count.saturating_sub(1), out);
    }

    /// An item begins or ends. The one that the answer's end cut off is incomplete; a failure cuts off all that
    /// are open.
    pub(super) fn item_event(&mut self, index: usize, point: Point, out: &mut Vec<u8>) {
        let is_last = index + 1 == self.items.len();
        let done = match self.finish.map(Status::of) {
            Some(None) => "incomplete",
            Some(Some(status)) if is_last => status.item_word(),
            _ => "completed",
        };
        let (name, status) = match point {
            Point::Added => ("response.output_item.added", "in_progress"),
            _ => ("response.output_item.done", done),
        };
        self.done[index] = (point != Point::Added).then_some(status);
        self.open_event(name, out);
        push_member("output_index", index as u64, out);
        out.extend_from_slice(b",\"item\":");
        self.items[index].push(&self.head.id, index, status, out);
        out.extend_from_slice(b"}\n\n");
    }

    /// The one part of an item of thoughts begins or ends.
    pub(super) fn thought_event(&mut self, index: usize, point: Point, out: &mut Vec<u8>) {
        let Item::Thoughts { is_summary, .. } = self.items[index] else { return };
        let (key, kind) =
            if is_summary { ("summary_index", "summary_text") } else { ("content_index", "reasoning_text") };
        let name = match (is_summary, point) {
            (true, Point::Added) => "response.reasoning_summary_part.added",
            (true, Point::TextDone) => "response.reasoning_summary_text.done",
            (true, Point::Done) => "response.reasoning_summary_part.done",
            (false, Point::Added) => "response.content_part.added",
            (false, Point::TextDone) => "response.reasoning_text.done",
            (false, Point::Done) => "response.content_part.done",
        };
        self.open_part_event(name, index, key, 0, out);
        let Item::Thoughts { text, .. } = &self.items[index] else { return };
        let text = Said::Escaped(text);
        if point == Point::TextDone {
            out.extend_from_slice(b",\"text\":");
            text.push(out);
        } else {
            out.extend_from_slice(b",\"part\":");
            push_thought(kind, text, out);
        }
        out.extend_from_slice(b"}\n\n");
    }

    pub(super) fn open_text(&mut self, index: usize, is_refusal: bool, out: &mut Vec<u8>) {
        if let Item::Message(texts) = &mut self.items[index] {
            texts.push(Text { is_refusal, ..Text::default() });
        }
        self.text_event("response.content_part.added", index, out);
    }

    /// Ends the last text of a message, if there is one.
    pub(super) fn close_text(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(last) = self.last_text(index) else { return };
        let is_refusal = last.is_refusal;
        let name = if is_refusal { "response.refusal.done" } else { "response.output_text.done" };
        self.open_text_event(name, index, out);
        if let Some(last) = self.last_text(index) {
            if is_refusal {
                out.extend_from_slice(b",\"refusal\":");
            } else {
                out.extend_from_slice(b",\"logprobs\":[");
                out.extend_from_slice(&last.logprobs);
                out.extend_from_slice(b"],\"text\":");
            }
            Said::Escaped(&last.said).push(out);
        }
        out.extend_from_slice(b"}\n\n");
        self.text_event("response.content_part.done", index, out);
    }

    fn text_event(&mut self, name: &str, index: usize, out: &mut Vec<u8>) {
        self.open_text_event(name, index, out);
        if let Some(last) = self.last_text(index) {
            out.extend_from_slice(b",\"part\":");
            last.piece().push(out);
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn texts(&self, index: usize) -> &[Text] {
        if let Item::Message(texts) = &self.items[index] { texts } else { &[] }
    }

    pub(super) fn last_text(&self, index: usize) -> Option<&Text> {
        self.texts(index).last()
    }

    pub(super) fn last_text_mut(&mut self, index: usize) -> Option<&mut Text> {
        if let Item::Message(texts) = &mut self.items[index] { texts.last_mut() } else { None }
    }
}

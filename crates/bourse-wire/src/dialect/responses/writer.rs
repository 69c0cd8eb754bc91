//! A stream in this grammar, written for a buyer from neutral events.
//!
//! Items are numbered in the order in which they begin, and end when something else begins. Only a call whose arguments
//! are not whole JSON yet stays open beside others, because sellers may send arguments in turns. What was said is kept,
//! escaped, because the `done` events and the last one repeat all of it: so a stream costs as much memory as its
//! answer is long, which the hold bounds.
//!
//! An answer that broke ends in `response.failed`, with its error, what was said so far, and what was billed.
//! Only choice 0 is written: this grammar knows no other.

mod parts;

use super::envelope::{Status, broken, push_response};
use super::item::{Call, ItemId, OUR_THOUGHTS, Piece, Said, Thoughts, push_message};
use crate::dialect::answer::bare_items;
use crate::dialect::grammar::{Billed, EventWriter, Head};
use crate::dialect::neutral::{Signed, StreamEvent};
use crate::error::ApiError;
use crate::json::push_string;
use crate::receipt::Finish;
use parts::{Point, push_delta};
use serde::de::IgnoredAny;

/// Writes one stream.
#[derive(Debug)]
pub(super) struct Writer {
    head: Head,
    sequence: u64,
    items: Vec<Item>,
    /// The status of each item that is done.
    done: Vec<Option<&'static str>>,
    /// The message or thoughts that are still being said.
    open: Option<usize>,
    /// Where the calls are among the items.
    calls: Vec<usize>,
    /// Calls that have ended, the first ones in order.
    calls_done: usize,
    finish: Option<Finish>,
}

#[derive(Debug)]
enum Item {
    Message(Vec<Text>),
    Thoughts { is_summary: bool, text: Vec<u8>, signed: Option<Signed> },
    Call { call_id: String, name: String, arguments: Vec<u8> },
}

/// A part of a message; the text is escaped.
#[derive(Debug, Default)]
struct Text {
    is_refusal: bool,
    said: Vec<u8>,
    logprobs: Vec<u8>,
}

impl Text {
    fn piece(&self) -> Piece<'_> {
        let Self { is_refusal, said, logprobs } = self;
        Piece { is_refusal: *is_refusal, text: Said::Escaped(said), logprobs }
    }
}

impl Item {
    fn push(&self, generation: &str, index: usize, status: &str, out: &mut Vec<u8>) {
        let id = self.id(generation, index);
        match self {
            Self::Message(texts) => push_message(id, status, texts.iter().map(Text::piece), out),
            Self::Thoughts { is_summary, text, signed } => {
                // The id that was announced stays.
                let signed = signed.clone().map(|signed| Signed { id: None, ..signed });
                let text = Said::Escaped(text);
                Thoughts { text, is_summary: *is_summary, signed: signed.as_ref() }.push(id, status, out);
            }
            Self::Call { call_id, name, arguments } => {
                Call { id: call_id, name, arguments: Said::Escaped(arguments) }.push(id, status, out);
            }
        }
    }

    fn id<'a>(&self, generation: &'a str, index: usize) -> ItemId<'a> {
        let prefix = match self {
            Self::Message(_) => "msg_",
            Self::Thoughts { .. } => OUR_THOUGHTS,
            Self::Call { .. } => "fc_",
        };
        ItemId { prefix, generation, index: index as u32 }
    }
}

impl EventWriter for Writer {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        self.begin(out);
        match event {
            // What is said of thoughts and calls has no place here.
            StreamEvent::Text { choice: 0, text, .. } if text.is_empty() && !self.says() => {}
            StreamEvent::Text { choice: 0, text, logprobs_json } => {
                self.text(false, text, logprobs_json.as_deref(), out);
            }
            StreamEvent::Refusal { choice: 0, text } => self.text(true, text, None, out),
            StreamEvent::Reasoning { choice: 0, text, is_summary } => self.thoughts(*is_summary, text, out),
            StreamEvent::Signed { choice: 0, signed } => self.signed(signed, out),
            StreamEvent::ToolCall { choice: 0, id, name, .. } => {
                self.close(out);
                self.close_calls(is_whole, out);
                self.calls.push(self.items.len());
                let (call_id, name) = (id.to_string(), name.to_string());
                self.add(Item::Call { call_id, name, arguments: Vec::new() }, out);
            }
            StreamEvent::ToolArguments { choice: 0, call, json } => self.arguments(*call, json, out),
            StreamEvent::Finish { choice: 0, finish, .. } => self.finish(*finish, out),
            _ => {}
        }
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        self.finish(Finish::Stop, out);
        let finish = self.finish.unwrap_or(Finish::Stop);
        match Status::of(finish) {
            Some(status) => self.last(status, billed, more, out),
            None => self.last(Status::Failed(&broken(finish)), billed, more, out),
        }
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        self.finish(Finish::SellerError, out);
        self.last(Status::Failed(error), billed, more, out);
    }
}

impl Writer {
    pub(super) fn new(head: &Head) -> Self {
        Self {
            head: head.clone(),
            sequence: 0,
            items: Vec::new(),
            done: Vec::new(),
            open: None,
            calls: Vec::new(),
            calls_done: 0,
            finish: None,
        }
    }

    /// `response.created` and `response.in_progress`, once.
    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.sequence > 0 {
            return;
        }
        for name in ["response.created", "response.in_progress"] {
            self.open_event(name, out);
            out.extend_from_slice(b",\"response\":");
            push_response(&self.head, Status::InProgress, b"", None, b"", out);
            out.extend_from_slice(b"}\n\n");
        }
    }

    /// The event that ends the stream.
    fn last(&mut self, status: Status<'_>, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let mut output = Vec::with_capacity(256);
        for (n, (item, done)) in self.items.iter().zip(&self.done).enumerate() {
            if n > 0 {
                output.push(b',');
            }
            item.push(&self.head.id, n, done.unwrap_or("incomplete"), &mut output);
        }
        let name = match status {
            Status::Completed | Status::InProgress => "response.completed",
            Status::Incomplete(_) => "response.incomplete",
            Status::Failed(_) => "response.failed",
        };
        self.open_event(name, out);
        out.extend_from_slice(b",\"response\":");
        push_response(&self.head, status, &output, Some(billed), more, out);
        out.extend_from_slice(b"}\n\n");
    }

    /// Whether a message is being said.
    fn says(&self) -> bool {
        self.open.is_some_and(|index| matches!(self.items[index], Item::Message(_)))
    }

    fn text(&mut self, is_refusal: bool, text: &str, logprobs: Option<&str>, out: &mut Vec<u8>) {
        let index = match self.open {
            Some(index) if matches!(self.items[index], Item::Message(_)) => index,
            _ => {
                self.close(out);
                self.open_item(Item::Message(Vec::new()), out)
            }
        };
        if self.last_text(index).is_none_or(|last| last.is_refusal != is_refusal) {
            self.close_text(index, out);
            self.open_text(index, is_refusal, out);
        }
        let name = if is_refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        self.open_text_event(name, index, out);
        let said = push_delta(text, out);
        let items = logprobs.map(bare_items).unwrap_or_default();
        if !is_refusal {
            out.extend_from_slice(b",\"logprobs\":[");
            out.extend_from_slice(items.as_bytes());
            out.push(b']');
        }
        out.extend_from_slice(b"}\n\n");
        if let Some(last) = self.last_text_mut(index) {
            last.said.extend_from_slice(&out[said]);
            if !items.is_empty() && !last.logprobs.is_empty() {
                last.logprobs.push(b',');
            }
            last.logprobs.extend_from_slice(items.as_bytes());
        }
    }

    fn thoughts(&mut self, is_summary: bool, text: &str, out: &mut Vec<u8>) {
        let is_same =
            |item: &Item| matches!(item, Item::Thoughts { is_summary: was, .. } if *was == is_summary);
        let index = match self.open {
            Some(index) if is_same(&self.items[index]) => index,
            _ => {
                self.close(out);
                let item = Item::Thoughts { is_summary, text: Vec::new(), signed: None };
                self.open_item(item, out)
            }
        };
        let Item::Thoughts { text: said, .. } = &self.items[index] else { return };
        if said.is_empty() && !text.is_empty() {
            self.thought_event(index, Point::Added, out);
        }
        if text.is_empty() {
            return;
        }
        let (name, key) = if is_summary {
            ("response.reasoning_summary_text.delta", "summary_index")
        } else {
            ("response.reasoning_text.delta", "content_index")
        };
        self.open_part_event(name, index, key, 0, out);
        let said = push_delta(text, out);
        out.extend_from_slice(b"}\n\n");
        if let Item::Thoughts { text, .. } = &mut self.items[index] {
            text.extend_from_slice(&out[said]);
        }
    }

    /// A signature ends the thoughts before it; hidden thoughts that have no summary stand alone.
    fn signed(&mut self, new: &Signed, out: &mut Vec<u8>) {
        let takes = |item: &Item| matches!(item, Item::Thoughts { is_summary, .. } if !new.is_encrypted || *is_summary);
        let index = match self.open {
            Some(index) if takes(&self.items[index]) => index,
            _ => {
                self.close(out);
                let item = Item::Thoughts { is_summary: false, text: Vec::new(), signed: None };
                self.open_item(item, out)
            }
        };
        if let Item::Thoughts { signed, .. } = &mut self.items[index] {
            *signed = Some(new.clone());
        }
        self.close(out);
    }

    /// Arguments of a call that never began, or that has ended, are nobody's.
    fn arguments(&mut self, call: u32, json: &str, out: &mut Vec<u8>) {
        let call = call as usize;
        let Some(&index) = self.calls.get(call).filter(|_| call >= self.calls_done) else { return };
        self.open_item_event("response.function_call_arguments.delta", index, out);
        let said = push_delta(json, out);
        out.extend_from_slice(b"}\n\n");
        if let Item::Call { arguments, .. } = &mut self.items[index] {
            arguments.extend_from_slice(&out[said]);
        }
    }

    /// Ends all that is open. Only the first end counts.
    fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        if self.finish.is_some() {
            return;
        }
        self.finish = Some(finish);
        self.close(out);
        self.close_calls(|_| true, out);
    }

    /// Ends the calls that are open, in order, as far as they may end.
    fn close_calls(&mut self, may_end: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        while let Some(&index) = self.calls.get(self.calls_done) {
            let Item::Call { arguments, .. } = &self.items[index] else { return };
            if !may_end(arguments) {
                return;
            }
            self.calls_done += 1;
            self.open_item_event("response.function_call_arguments.done", index, out);
            if let Item::Call { name, arguments, .. } = &self.items[index] {
                out.extend_from_slice(b",\"name\":");
                push_string(out, name);
                out.extend_from_slice(b",\"arguments\":");
                Said::Escaped(arguments).push(out);
            }
            out.extend_from_slice(b"}\n\n");
            self.item_event(index, Point::Done, out);
        }
    }

    fn open_item(&mut self, item: Item, out: &mut Vec<u8>) -> usize {
        self.close_calls(is_whole, out);
        let index = self.add(item, out);
        self.open = Some(index);
        index
    }

    fn add(&mut self, item: Item, out: &mut Vec<u8>) -> usize {
        let index = self.items.len();
        self.items.push(item);
        self.done.push(None);
        self.item_event(index, Point::Added, out);
        index
    }

    /// Ends the message or the thoughts that are open.
    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(index) = self.open.take() else { return };
        match &self.items[index] {
            Item::Message(_) => self.close_text(index, out),
            Item::Thoughts { text, .. } if !text.is_empty() => {
                self.thought_event(index, Point::TextDone, out);
                self.thought_event(index, Point::Done, out);
            }
            _ => {}
        }
        self.item_event(index, Point::Done, out);
    }
}

/// Whether escaped arguments are a whole JSON object, so that nothing can follow.
fn is_whole(arguments: &[u8]) -> bool {
    let quoted = [b"\"", arguments, b"\""].concat();
    let text = serde_json::from_slice::<String>(&quoted);
    text.is_ok_and(|t| t.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(&t).is_ok())
}

//! Writing a stream.
//!
//! One block is open at a time; what belongs to another one closes it. A seller that goes on with the arguments of an
//! earlier call after a later one began gets its pieces out under the earlier index, behind that block's end: stock
//! clients gather by index. Answers but the first are left out, for this grammar has one.

use super::answer::push_head;
use super::body::{push_json, thoughts};
use super::errors::push_error;
use super::usage::push_usage;
use super::words::{ORIGIN, stop_reason};
use crate::dialect::grammar::{Billed, EventWriter, Head};
use crate::dialect::neutral::{Signed, StreamEvent};
use crate::error::ApiError;
use crate::json::{push_string, push_u64};
use crate::receipt::Finish;

/// The writer of one stream.
pub(super) struct Writer {
    head: Head,
    has_begun: bool,
    /// Index of the next block.
    next: u64,
    /// The block that is open, always the one before `next`.
    open: Option<Kind>,
    /// Calls and the indices of their blocks.
    calls: Vec<(u32, u64)>,
    finish: Option<Finish>,
    native: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(u32),
}

/// Most calls of one answer whose blocks are remembered; late arguments of further ones are left out.
pub(super) const CALLS_MAX: usize = 4_096;

impl Writer {
    pub(super) fn new(head: &Head) -> Self {
        Self {
            head: head.clone(),
            has_begun: false,
            next: 0,
            open: None,
            calls: Vec::new(),
            finish: None,
            native: None,
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        push_head(&self.head, out);
        out.extend_from_slice(
            b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n",
        );
        out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            push_stop(self.next - 1, out);
        }
    }

    /// Closes what is open and opens a block, up to where its own members follow.
    fn open_block(&mut self, kind: Option<Kind>, out: &mut Vec<u8>) {
        self.close(out);
        out.extend_from_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        push_u64(out, self.next);
        out.extend_from_slice(b",\"content_block\":");
        self.next += 1;
        self.open = kind;
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(Kind::Text) {
            self.open_block(Some(Kind::Text), out);
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}}\n\n");
        }
        push_delta(self.next - 1, "text_delta\",\"text", text, out);
    }

    fn open_thinking(&mut self, out: &mut Vec<u8>) {
        if self.open != Some(Kind::Thinking) {
            self.open_block(Some(Kind::Thinking), out);
            out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n");
        }
    }

    fn thinking(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        self.open_thinking(out);
        push_delta(self.next - 1, "thinking_delta\",\"thinking", text, out);
    }

    /// A signature ends the thoughts before it; hidden thoughts are a block of their own, unless they belong to a
    /// summary that stands open.
    fn signed(&mut self, signed: &Signed, out: &mut Vec<u8>) {
        let belongs = self.open == Some(Kind::Thinking) && signed.origin != ORIGIN;
        if signed.is_encrypted && !belongs {
            self.open_block(None, out);
            push_json(&thoughts("", Some(signed)), out);
            out.extend_from_slice(b"}\n\n");
            push_stop(self.next - 1, out);
            return;
        }
        self.open_thinking(out);
        push_delta(self.next - 1, "signature_delta\",\"signature", &signed.tagged(ORIGIN), out);
        self.close(out);
    }

    fn call(&mut self, call: u32, id: &str, name: &str, out: &mut Vec<u8>) {
        self.open_block(Some(Kind::Call(call)), out);
        if self.calls.len() < CALLS_MAX {
            self.calls.push((call, self.next - 1));
        }
        out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
        push_string(out, id);
        out.extend_from_slice(b",\"name\":");
        push_string(out, name);
        out.extend_from_slice(b",\"input\":{}}}\n\n");
    }

    fn arguments(&mut self, call: u32, json: &str, out: &mut Vec<u8>) {
        if json.is_empty() {
            return;
        }
        let index = if self.open == Some(Kind::Call(call)) {
            Some(self.next - 1)
        } else {
            self.calls.iter().find(|(known, _)| *known == call).map(|(_, index)| *index)
        };
        if let Some(index) = index {
            push_delta(index, "input_json_delta\",\"partial_json", json, out);
        }
    }
}

impl EventWriter for Writer {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Text { choice: 0, text, .. } | StreamEvent::Refusal { choice: 0, text } => {
                self.begin(out);
                self.text(text, out);
            }
            StreamEvent::Reasoning { choice: 0, text, .. } => {
                self.begin(out);
                self.thinking(text, out);
            }
            StreamEvent::Signed { choice: 0, signed } => {
                self.begin(out);
                self.signed(signed, out);
            }
            StreamEvent::ToolCall { choice: 0, call, id, name } => {
                self.begin(out);
                self.call(*call, id, name, out);
            }
            StreamEvent::ToolArguments { choice: 0, call, json } => self.arguments(*call, json, out),
            StreamEvent::Finish { choice: 0, finish, native } => {
                self.finish = Some(*finish);
                self.native = native.as_ref().map(|native| native.clone().into_owned());
            }
            _ => {}
        }
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        self.close(out);
        let reason = stop_reason(self.finish, self.native.as_deref(), !self.calls.is_empty());
        push_message_delta(Some(reason), billed, out);
        push_message_stop(more, out);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        if self.has_begun {
            self.close(out);
            push_message_delta(None, billed, out);
        }
        push_error_event(error, more, out);
    }
}

/// Appends the end of a block.
pub(super) fn push_stop(index: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
    push_u64(out, index);
    out.extend_from_slice(b"}\n\n");
}

/// Appends a piece of a block. `kind` is the delta's type and, between quotes, the name of its one member.
fn push_delta(index: u64, kind: &str, text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
    push_u64(out, index);
    out.extend_from_slice(b",\"delta\":{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\":");
    push_string(out, text);
    out.extend_from_slice(b"}}\n\n");
}

/// Appends the event that says how the answer ended and what it cost. No reason is that of a stream that broke.
pub(super) fn push_message_delta(reason: Option<&str>, billed: &Billed<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":",
    );
    match reason {
        Some(reason) => push_string(out, reason),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"stop_sequence\":null},\"usage\":");
    push_usage(billed, out);
    out.extend_from_slice(b"}\n\n");
}

/// Appends the end of a stream that ended well.
pub(super) fn push_message_stop(more: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"");
    out.extend_from_slice(more);
    out.extend_from_slice(b"}\n\n");
}

/// Appends the end of a stream that broke.
pub(super) fn push_error_event(error: &ApiError, more: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: ");
    push_error(error, more, out);
    out.extend_from_slice(b"\n\n");
}

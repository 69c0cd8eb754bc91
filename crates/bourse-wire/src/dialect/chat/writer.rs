//! A stream for a buyer of this grammar, written event by event.
//!
//! The first chunk of a choice carries the role. Thoughts go out both as `reasoning` and as
//! `reasoning_details`; a block of details ends with its signature and the next has the next index, so that a
//! client that joins pieces by index gets blocks that it can send back. Legacy completions have text alone.

use super::details;
use crate::dialect::grammar::{Billed, EventWriter, Head};
use crate::dialect::neutral::{Signed, StreamEvent};
use crate::dialect::{AnswerHead, Api, DONE_EVENT, push_end, push_logprobs};
use crate::error::ApiError;
use crate::json::{push_string, push_u64};
use crate::receipt::Finish;

/// Writes one stream.
pub(super) struct StreamWriter {
    api: Api,
    head: AnswerHead,
    choices: Vec<ChoiceOut>,
}

#[derive(Debug, Clone, Copy, Default)]
struct ChoiceOut {
    has_begun: bool,
    /// The place of the block of thoughts that is being written.
    block: u64,
    /// Whether something of it was written.
    has_block: bool,
    /// Characters of text so far.
    text_chars: u64,
}

impl StreamWriter {
    pub(super) fn new(api: Api, head: &Head) -> Self {
        Self { api, head: AnswerHead::of(api, true, head), choices: Vec::new() }
    }

    fn choice(&mut self, choice: u32) -> &mut ChoiceOut {
        while self.choices.len() <= choice as usize {
            self.choices.push(ChoiceOut::default());
        }
        &mut self.choices[choice as usize]
    }

    /// Appends a chunk up to where the members of `delta` follow. With `content` a first chunk names the role
    /// and that content, which clients expect to be there.
    fn open(&mut self, choice: u32, content: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(self.head.text());
        out.extend_from_slice(b"\"choices\":[{\"index\":");
        push_u64(out, u64::from(choice));
        out.extend_from_slice(b",\"delta\":{");
        if !std::mem::replace(&mut self.choice(choice).has_begun, true) {
            out.extend_from_slice(b"\"role\":\"assistant\",");
            if !content.is_empty() {
                out.extend_from_slice(b"\"content\":");
                out.extend_from_slice(content.as_bytes());
                out.push(b',');
            }
        }
    }

    fn text(
        &mut self,
        choice: u32,
        text: &str,
        logprobs: Option<&str>,
        finish: Option<(Finish, Option<&str>)>,
        out: &mut Vec<u8>,
    ) {
        let offset = self.choice(choice).text_chars;
        self.choice(choice).text_chars += text.chars().count() as u64;
        if self.api == Api::Text {
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(self.head.text());
            out.extend_from_slice(b"\"choices\":[{\"index\":");
            push_u64(out, u64::from(choice));
            out.extend_from_slice(b",\"text\":");
            push_string(out, text);
        } else {
            self.open(choice, "", out);
            if out.ends_with(b",") || !text.is_empty() || finish.is_none() {
                out.extend_from_slice(b"\"content\":");
                push_string(out, text);
            }
            out.push(b'}');
        }
        push_logprobs(out, self.api, logprobs, offset);
        let (finish, native) = finish.map_or((None, None), |(finish, native)| (Some(finish), native));
        push_end(out, finish, native);
        out.extend_from_slice(b"}]}\n\n");
    }

    fn reasoning(&mut self, choice: u32, text: &str, is_summary: bool, out: &mut Vec<u8>) {
        self.open(choice, "\"\"", out);
        out.extend_from_slice(b"\"reasoning\":");
        push_string(out, text);
        out.extend_from_slice(b",\"reasoning_details\":[");
        details::push_text(out, text, is_summary);
        let state = self.choice(choice);
        state.has_block = true;
        details::push_origin(out, None, state.block);
        close(out);
    }

    fn signed(&mut self, choice: u32, signed: &Signed, out: &mut Vec<u8>) {
        self.open(choice, "\"\"", out);
        out.extend_from_slice(b"\"reasoning_details\":[");
        let state = self.choice(choice);
        if signed.is_encrypted {
            state.block += u64::from(state.has_block);
            details::push_hidden(out, signed, state.block);
        } else {
            details::push_signature(out, signed, state.block);
        }
        state.block += 1;
        state.has_block = false;
        close(out);
    }
}

/// The end of a chunk of thoughts.
fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"]},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
}

impl EventWriter for StreamWriter {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        match event {
            StreamEvent::Text { choice, text, logprobs_json } => {
                self.text(*choice, text, logprobs_json.as_deref(), None, out);
            }
            StreamEvent::Finish { choice, finish, native } => {
                self.text(*choice, "", None, Some((*finish, native.as_deref())), out);
            }
            _ if self.api == Api::Text => {}
            StreamEvent::Reasoning { choice, text, is_summary } => {
                self.reasoning(*choice, text, *is_summary, out);
            }
            StreamEvent::Signed { choice, signed } => self.signed(*choice, signed, out),
            StreamEvent::Refusal { choice, text } => {
                self.open(*choice, "null", out);
                out.extend_from_slice(b"\"refusal\":");
                push_string(out, text);
                out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
            }
            StreamEvent::ToolCall { choice, call, id, name } => {
                self.open(*choice, "null", out);
                out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                push_u64(out, u64::from(*call));
                out.extend_from_slice(b",\"id\":");
                push_string(out, id);
                out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                push_string(out, name);
                out.extend_from_slice(b",\"arguments\":\"\"}");
                out.push(b'}');
                close(out);
            }
            StreamEvent::ToolArguments { choice, call, json } => {
                self.open(*choice, "null", out);
                out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                push_u64(out, u64::from(*call));
                out.extend_from_slice(b",\"function\":{\"arguments\":");
                push_string(out, json);
                out.extend_from_slice(b"}}");
                close(out);
            }
        }
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let mut usage = Vec::with_capacity(384);
        super::push_usage(billed, &mut usage);
        self.head.push_usage_event(out, &usage, more);
        out.extend_from_slice(DONE_EVENT);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        let mut usage = Vec::with_capacity(384);
        super::push_usage(billed, &mut usage);
        self.head.push_error_event(out, error, &usage, more);
        out.extend_from_slice(DONE_EVENT);
    }
}

#[cfg(test)]
mod tests;

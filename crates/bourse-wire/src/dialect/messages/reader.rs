//! Reading a seller's stream.
//!
//! Blocks of unknown kinds, and what comes for them, say nothing. A call that gets no arguments gets `{}` at its end,
//! since in other grammars arguments are text that must be JSON.

use super::blocks::Block;
use super::errors::read_told;
use super::usage::Counts;
use super::words::{finish_of, hidden, signature};
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::grammar::{EventReader, SellerError, StreamNews};
use crate::dialect::neutral::{Signed, StreamEvent};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Most calls that may be open at once.
pub(super) const CALLS_OPEN_MAX: usize = 1_024;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Calls that have begun.
    calls: u32,
    /// Those that are open.
    open: Vec<Open>,
    /// What the first event said of usage.
    counts: Counts,
}

#[derive(Debug)]
struct Open {
    index: u32,
    call: u32,
    has_arguments: bool,
}

#[derive(Deserialize)]
struct EventJson<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    index: Option<u32>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MessageJson<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    thinking: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
    #[serde(borrow)]
    partial_json: Cow<'a, str>,
}

#[derive(Deserialize)]
struct End<'a> {
    #[serde(borrow)]
    stop_reason: Option<super::blocks::Text<'a>>,
}

type Each<'a> = dyn FnMut(StreamEvent<'_>) + 'a;

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut Each<'_>) -> Result<StreamNews, SellerError> {
        let mut news = StreamNews::default();
        if data.trim_ascii() == "[DONE]" {
            news.is_last = true;
            return Ok(news);
        }
        let mended = without_lone_surrogates(data);
        let data = mended.as_ref();
        let event: EventJson<'_> = parsed(data)?;
        match event.kind.as_ref() {
            "message_start" => {
                let message = event.message.map(|raw| parsed::<MessageJson<'_>>(raw.get())).transpose()?;
                let usage = message.and_then(|message| message.usage);
                self.counts = usage.and_then(|raw| Counts::read(raw.get())).unwrap_or_default();
            }
            "content_block_start" => self.begin(event.index, event.content_block, each)?,
            "content_block_delta" => self.delta(event.index, event.delta, each),
            "content_block_stop" => self.stop(event.index, each),
            "message_delta" => {
                let end = event.delta.map(|raw| parsed::<End<'_>>(raw.get())).transpose()?;
                if let Some(word) = end.and_then(|end| end.stop_reason) {
                    let finish = finish_of(&word.0);
                    each(StreamEvent::Finish { choice: 0, finish, native: Some(word.0) });
                }
                let usage = event.usage.map(|raw| Counts::read(raw.get()));
                news.usage = usage.map(|counts| counts?.over(self.counts).claim());
            }
            "message_stop" => news.is_last = true,
            "error" => {
                let error = event.error.map_or("{}", RawValue::get);
                return Err(read_told(0, error));
            }
            _ => {}
        }
        Ok(news)
    }
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SellerError> {
    serde_json::from_str(text)
        .map_err(|error| SellerError::cut(&format!("an event does not have the grammar's form: {error}")))
}

impl Reader {
    fn begin(
        &mut self,
        index: Option<u32>,
        block: Option<&RawValue>,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let Some(block) = block else { return Ok(()) };
        // A block of an unknown kind may use known names for something else.
        let Ok(block) = serde_json::from_str::<Block<'_>>(block.get()) else { return Ok(()) };
        match block.kind.as_ref() {
            "text" => text(block.text.map(|text| text.0), each),
            "thinking" => {
                thinking(block.thinking.map(|text| text.0), each);
                let signed = block.signature.and_then(|text| signature(&text.0));
                if let Some(signed) = signed {
                    sign(signed, each);
                }
            }
            "redacted_thinking" => {
                if let Some(data) = block.data {
                    sign(hidden(&data.0), each);
                }
            }
            "tool_use" => return self.begin_call(index, block, each),
            _ => {}
        }
        Ok(())
    }

    fn begin_call(
        &mut self,
        index: Option<u32>,
        block: Block<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let name = block.name.ok_or_else(|| SellerError::cut("a tool call has no name"))?.0;
        let call = self.calls;
        self.calls = self.calls.saturating_add(1);
        let id = block.id.map(|id| id.0).filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| Cow::Owned(format!("toolu_{call}")));
        each(StreamEvent::ToolCall { choice: 0, call, id, name });
        let given = block.input.map(RawValue::get).filter(|input| *input != "{}" && *input != "null");
        if let Some(input) = given {
            each(StreamEvent::ToolArguments { choice: 0, call, json: Cow::Borrowed(input) });
        }
        if self.open.len() == CALLS_OPEN_MAX {
            return Err(SellerError::cut("too many tool calls are open at once"));
        }
        self.open.push(Open { index: index.unwrap_or(u32::MAX), call, has_arguments: given.is_some() });
        Ok(())
    }

    fn delta(&mut self, index: Option<u32>, delta: Option<&RawValue>, each: &mut Each<'_>) {
        let Some(delta) = delta else { return };
        let Ok(delta) = serde_json::from_str::<Delta<'_>>(delta.get()) else { return };
        match delta.kind.as_ref() {
            "text_delta" => text(Some(delta.text), each),
            "thinking_delta" => thinking(Some(delta.thinking), each),
            "signature_delta" => {
                if let Some(signed) = signature(&delta.signature) {
                    sign(signed, each);
                }
            }
            "input_json_delta" if !delta.partial_json.is_empty() => {
                if let Some(open) = self.open.iter_mut().find(|open| Some(open.index) == index) {
                    open.has_arguments = true;
                    each(StreamEvent::ToolArguments { choice: 0, call: open.call, json: delta.partial_json });
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, index: Option<u32>, each: &mut Each<'_>) {
        let Some(at) = self.open.iter().position(|open| Some(open.index) == index) else { return };
        let open = self.open.remove(at);
        if !open.has_arguments {
            each(StreamEvent::ToolArguments { choice: 0, call: open.call, json: Cow::Borrowed("{}") });
        }
    }
}

fn text(text: Option<Cow<'_, str>>, each: &mut Each<'_>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        each(StreamEvent::Text { choice: 0, text, logprobs_json: None });
    }
}

fn thinking(text: Option<Cow<'_, str>>, each: &mut Each<'_>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        each(StreamEvent::Reasoning { choice: 0, text, is_summary: false });
    }
}

fn sign(signed: Signed, each: &mut Each<'_>) {
    each(StreamEvent::Signed { choice: 0, signed });
}

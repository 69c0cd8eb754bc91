//! A seller's stream, event by event.
//!
//! Sellers differ in everything but the outline: thoughts under three names, ids of calls that come late, twice,
//! or never, one index for several calls, usage in any event, errors in the middle. What is read here comes
//! out in one order: thoughts, text, calls, end. Nothing is kept but what a call needs until it can begin.

use super::errors;
use super::text::{pick, quoted, unescape};
use crate::dialect::answer::bare_items;
use crate::dialect::grammar::{EventReader, SellerError, StreamNews};
use crate::dialect::neutral::{Origin, Signed, StreamEvent};
use crate::dialect::{CHOICES_MAX, finish_of_word, read_usage};
use crate::json::{JsonError, Walk};
use crate::receipt::Finish;
use std::borrow::Cow;

/// Most calls of one choice.
pub(crate) const CALLS_MAX: usize = 256;
/// Most bytes of arguments that are kept for a call whose name has not come.
pub(crate) const HELD_BYTES_MAX: usize = 64 * 1024;

/// Where the events go.
type Each<'e> = dyn FnMut(StreamEvent<'_>) + 'e;

/// Reads one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    choices: Vec<ChoiceState>,
}

#[derive(Debug, Default)]
struct ChoiceState {
    calls: Vec<CallState>,
    /// Calls that have begun.
    begun: u32,
    has_finished: bool,
    /// Half pairs of text, thoughts and refusals.
    text: Option<u16>,
    thought: Option<u16>,
    refusal: Option<u16>,
}

#[derive(Debug, Default)]
struct CallState {
    /// The seller's index.
    index: Option<u64>,
    /// The seller's id.
    id: String,
    name: String,
    /// Its number among those that have begun; none before it has.
    number: Option<u32>,
    held: String,
    half: Option<u16>,
}

impl From<JsonError> for SellerError {
    fn from(_: JsonError) -> Self {
        Self::cut("the stream was cut inside an event")
    }
}

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError> {
        if data.trim_ascii() == "[DONE]" {
            return Ok(StreamNews { usage: None, is_last: true });
        }
        let [choices, usage, error, object, message] =
            pick(data, ["choices", "usage", "error", "object", "message"])?;
        if let Some(error) = error {
            return Err(errors::of_raw(error));
        }
        if choices.is_none() && (object == Some("\"error\"") || message.is_some() && usage.is_none()) {
            return Err(errors::of_raw(data));
        }
        if let Some(choices) = choices.filter(|raw| raw.starts_with('[')) {
            let mut walk = Walk::new(choices);
            walk.items::<SellerError>(|walk| {
                let span = walk.value()?;
                self.choice(walk.text(span), data, each)
            })?;
        }
        Ok(StreamNews { usage: usage.map(read_usage), is_last: false })
    }
}

impl Reader {
    fn choice(&mut self, raw: &str, data: &str, each: &mut Each<'_>) -> Result<(), SellerError> {
        let [index, delta, message, finish, native, logprobs, error] = pick(
            raw,
            ["index", "delta", "message", "finish_reason", "native_finish_reason", "logprobs", "error"],
        )?;
        if let Some(error) = error {
            return Err(errors::of_raw(error));
        }
        let choice: u32 = index.map_or(Some(0), |raw| raw.parse().ok()).unwrap_or(CHOICES_MAX);
        if choice >= CHOICES_MAX {
            return Err(SellerError::cut("a choice has an index that nobody asked for"));
        }
        while self.choices.len() <= choice as usize {
            self.choices.push(ChoiceState::default());
        }
        let state = &mut self.choices[choice as usize];
        if let Some(delta) = delta.or(message).filter(|raw| raw.starts_with('{')) {
            state.delta(choice, delta, logprobs, data, each)?;
        }
        if let Some(word) = finish.and_then(quoted).filter(|word| !word.is_empty()) {
            state.finish(choice, word, native.and_then(quoted), data, each)?;
        }
        Ok(())
    }
}

impl ChoiceState {
    fn delta(
        &mut self,
        choice: u32,
        delta: &str,
        logprobs: Option<&str>,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let [content, details, reasoning, reasoning_content, thinking, refusal, calls, function] = pick(
            delta,
            [
                "content",
                "reasoning_details",
                "reasoning",
                "reasoning_content",
                "thinking",
                "refusal",
                "tool_calls",
                "function_call",
            ],
        )?;
        let shown = [reasoning, reasoning_content, thinking].into_iter().flatten().filter_map(quoted);
        match details.filter(|raw| raw.starts_with('[')) {
            Some(list) if Walk::new(&list[1..]).peek() != b']' => self.blocks(choice, list, each)?,
            _ => {
                if let Some(text) = shown.into_iter().find(|text| !text.is_empty()) {
                    let text = unescape(text, &mut self.thought);
                    each(StreamEvent::Reasoning { choice, text, is_summary: false });
                }
            }
        }
        let logprobs = logprobs.map(|raw| pick(raw, ["content"])).transpose()?.and_then(|[items]| items);
        match content {
            Some(raw) if raw.starts_with('[') => self.content_parts(choice, raw, each)?,
            Some(raw) => {
                let text = quoted(raw).map_or(Cow::Borrowed(""), |text| unescape(text, &mut self.text));
                if !text.is_empty() || logprobs.is_some() {
                    each(StreamEvent::Text { choice, text, logprobs_json: logprobs.map(Cow::Borrowed) });
                }
            }
            // Thoughts and calls are tokens, too.
            None => {
                if let Some(items) = logprobs.filter(|items| !bare_items(items).is_empty()) {
                    let (text, logprobs_json) = (Cow::Borrowed(""), Some(Cow::Borrowed(items)));
                    each(StreamEvent::Text { choice, text, logprobs_json });
                }
            }
        }
        if let Some(text) = refusal.and_then(quoted).filter(|text| !text.is_empty()) {
            each(StreamEvent::Refusal { choice, text: unescape(text, &mut self.refusal) });
        }
        if let Some(function) = function.filter(|raw| raw.starts_with('{')) {
            self.call(choice, None, None, function, data, each)?;
        }
        if let Some(calls) = calls.filter(|raw| raw.starts_with('[')) {
            Walk::new(calls).items::<SellerError>(|walk| {
                let span = walk.value()?;
                let [index, id, function] = pick(walk.text(span), ["index", "id", "function"])?;
                let index = index.and_then(|raw| raw.parse().ok());
                self.call(choice, index, id.and_then(quoted), function.unwrap_or("{}"), data, each)
            })?;
        }
        Ok(())
    }

    /// Content in parts, as some sellers of thinking models stream it.
    fn content_parts(&mut self, choice: u32, list: &str, each: &mut Each<'_>) -> Result<(), SellerError> {
        Walk::new(list).items::<SellerError>(|walk| {
            let span = walk.value()?;
            let [text, thinking] = pick(walk.text(span), ["text", "thinking"])?;
            if let Some(list) = thinking.filter(|raw| raw.starts_with('[')) {
                Walk::new(list).items::<SellerError>(|walk| {
                    let span = walk.value()?;
                    let [text] = pick(walk.text(span), ["text"])?;
                    if let Some(text) = text.and_then(quoted).filter(|text| !text.is_empty()) {
                        let text = unescape(text, &mut self.thought);
                        each(StreamEvent::Reasoning { choice, text, is_summary: false });
                    }
                    Ok(())
                })?;
            }
            if let Some(text) = text.and_then(quoted).filter(|text| !text.is_empty()) {
                each(StreamEvent::Text { choice, text: unescape(text, &mut self.text), logprobs_json: None });
            }
            Ok(())
        })
    }

    /// Blocks of `reasoning_details`.
    fn blocks(&mut self, choice: u32, list: &str, each: &mut Each<'_>) -> Result<(), SellerError> {
        Walk::new(list).items::<SellerError>(|walk| {
            let span = walk.value()?;
            let [text, summary, signature, data, format, id] =
                pick(walk.text(span), ["text", "summary", "signature", "data", "format", "id"])?;
            for (shown, is_summary) in [(text, false), (summary, true)] {
                if let Some(shown) = shown.and_then(quoted).filter(|shown| !shown.is_empty()) {
                    let text = unescape(shown, &mut self.thought);
                    each(StreamEvent::Reasoning { choice, text, is_summary });
                }
            }
            let own = |raw: &str| unescape(raw, &mut None).into_owned();
            for (signed, is_encrypted) in [(signature, false), (data, true)] {
                let Some(signed) = signed.and_then(quoted).filter(|signed| !signed.is_empty()) else {
                    continue;
                };
                let origin = format.and_then(quoted).map_or(Origin::Unknown, Origin::parse);
                let signed =
                    Signed { origin, id: id.and_then(quoted).map(own), data: own(signed), is_encrypted };
                each(StreamEvent::Signed { choice, signed });
            }
            Ok(())
        })
    }

    /// A piece of a call: `function` is an object of `name` and `arguments`, either of which may be missing.
    fn call(
        &mut self,
        choice: u32,
        index: Option<u64>,
        id: Option<&str>,
        function: &str,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let [name, arguments] =
            if function.starts_with('{') { pick(function, ["name", "arguments"])? } else { [None; 2] };
        let own = |raw: &str| unescape(raw, &mut None).into_owned();
        let id = id.map(own).unwrap_or_default();
        let name = name.and_then(quoted).map(own).unwrap_or_default();
        let n = self.slot(index, &id, &name)?;
        let state = &mut self.calls[n];
        if state.id.is_empty() {
            state.id = id;
        }
        if state.number.is_none() && state.name.is_empty() {
            state.name = name;
        }
        // Arguments that are an object rather than text come whole.
        let piece = arguments.map_or(Cow::Borrowed(""), |raw| match quoted(raw) {
            Some(inside) => unescape(inside, &mut state.half),
            None => Cow::Borrowed(raw),
        });
        if let Some(call) = state.number {
            if !piece.is_empty() {
                each(StreamEvent::ToolArguments { choice, call, json: piece });
            }
            return Ok(());
        }
        if state.held.len() + piece.len() > HELD_BYTES_MAX {
            return Err(SellerError::cut("a tool is called without a name"));
        }
        state.held.push_str(&piece);
        let is_named = !state.name.is_empty();
        if is_named && (!state.id.is_empty() || !state.held.is_empty()) {
            self.begin(choice, n, data, each);
        }
        Ok(())
    }

    /// Which call a piece belongs to; a new one when it belongs to none. One index with a second id and name
    /// is a second call.
    fn slot(&mut self, index: Option<u64>, id: &str, name: &str) -> Result<usize, SellerError> {
        let found = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index),
            None if !id.is_empty() => self.calls.iter().rposition(|call| call.id == id),
            None => self.calls.len().checked_sub(1),
        };
        let is_other =
            |call: &CallState| !id.is_empty() && !call.id.is_empty() && call.id != id && !name.is_empty();
        if let Some(n) = found.filter(|n| !is_other(&self.calls[*n])) {
            return Ok(n);
        }
        if self.calls.len() == CALLS_MAX {
            return Err(SellerError::cut("more tools are called than anybody can answer"));
        }
        self.calls.push(CallState { index, ..CallState::default() });
        Ok(self.calls.len() - 1)
    }

    /// Tells that a call begins, and what was held of it. It is numbered by that, not by its place at the seller: one that
    /// shows late would leave a gap before the others. An id that is missing, or that another call has, is
    /// replaced by one made of the event, so that it does not come back in a later turn.
    fn begin(&mut self, choice: u32, n: usize, data: &str, each: &mut Each<'_>) {
        let is_free = |id: &str| !id.is_empty() && self.calls[..n].iter().all(|call| call.id != id);
        let made = if is_free(&self.calls[n].id) { None } else { Some(made_id(data, choice, n)) };
        let (state, call) = (&mut self.calls[n], self.begun);
        self.begun += 1;
        state.number = Some(call);
        let id = Cow::Borrowed(made.as_deref().unwrap_or(&state.id));
        each(StreamEvent::ToolCall { choice, call, id, name: Cow::Borrowed(&state.name) });
        let held = std::mem::take(&mut state.held);
        if !held.is_empty() {
            each(StreamEvent::ToolArguments { choice, call, json: Cow::Owned(held) });
        }
    }

    fn finish(
        &mut self,
        choice: u32,
        word: &str,
        native: Option<&str>,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let finish = finish_of_word(word);
        if finish == Finish::SellerError {
            return Err(errors::of_raw("{}"));
        }
        if std::mem::replace(&mut self.has_finished, true) {
            return Ok(());
        }
        for n in 0..self.calls.len() {
            if self.calls[n].number.is_none() && !self.calls[n].name.is_empty() {
                self.begin(choice, n, data, each);
            }
        }
        // Some sellers call tools and say that they simply stopped.
        let called = self.begun > 0;
        let finish = if finish == Finish::Stop && called { Finish::ToolCalls } else { finish };
        each(StreamEvent::Finish { choice, finish, native: Some(Cow::Borrowed(native.unwrap_or(word))) });
        Ok(())
    }
}

/// An id for a call that has none of its own: the same for the same event, another for every other.
pub(in crate::dialect) fn made_id(data: &str, choice: u32, call: usize) -> String {
    let digest = blake3::hash(data.as_bytes()).to_hex();
    format!("call_{}_{choice}_{call}", &digest.as_str()[..16])
}

#[cfg(test)]
mod tests;

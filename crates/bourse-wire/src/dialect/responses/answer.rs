//! Whole answers: written for buyers, looked at in passing, read from sellers.

use super::envelope::{Status, broken, push_response, read_usage};
use super::error::read_failure;
use super::event::{ItemView, ResponseView};
use super::item::{self, Call, ItemId, OUR_THOUGHTS, Piece, Said, Thoughts, push_message};
use crate::dialect::answer::bare_items;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::grammar::{Billed, Head, SellerError};
use crate::dialect::neutral::{Answer, Choice, Part};
use crate::dialect::{ChunkView, PlainView};
use crate::json::{JsonError, Walk};
use crate::receipt::Finish;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Appends a whole answer; this grammar knows one choice.
pub(in crate::dialect) fn push_answer(
    head: &Head,
    answer: &Answer,
    billed: &Billed<'_>,
    more: &[u8],
    out: &mut Vec<u8>,
) {
    let none = Choice::default();
    let choice = answer.choices.first().unwrap_or(&none);
    let finish = choice.finish.unwrap_or(Finish::Stop);
    let error;
    let status = if let Some(status) = Status::of(finish) {
        status
    } else {
        error = broken(finish);
        Status::Failed(&error)
    };
    let mut output = Vec::with_capacity(256);
    push_output(head, choice, status.item_word(), &mut output);
    push_response(head, status, &output, Some(billed), more, out);
}

/// Appends the items of an answer, separated by commas. `status` is that of the last of them. Texts and refusals
/// that touch are one message; log-probabilities go with the first text.
fn push_output(head: &Head, choice: &Choice, status: &str, out: &mut Vec<u8>) {
    let mut logprobs = choice.logprobs_json.as_deref().unwrap_or_default().as_bytes();
    let parts = &choice.parts;
    let (mut index, mut at) = (0, 0);
    while at < parts.len() {
        let run = parts[at..].iter().take_while(|p| piece(p).is_some()).count().max(1);
        let end = at + run;
        let status = if end == parts.len() { status } else { "completed" };
        if index > 0 {
            out.push(b',');
        }
        let id = |prefix| ItemId { prefix, generation: &head.id, index };
        match &parts[at] {
            Part::ToolCall { id: call_id, name, arguments, .. } => {
                let call = Call { id: call_id, name, arguments: Said::Plain(arguments) };
                call.push(id("fc_"), status, out);
            }
            Part::Reasoning { text, is_summary, signed } => {
                let text = Said::Plain(text);
                let thoughts = Thoughts { text, is_summary: *is_summary, signed: signed.as_ref() };
                thoughts.push(id(OUR_THOUGHTS), status, out);
            }
            _ => {
                let pieces = parts[at..end].iter().filter_map(piece).map(|piece| Piece {
                    logprobs: if piece.is_refusal { b"" } else { std::mem::take(&mut logprobs) },
                    ..piece
                });
                push_message(id("msg_"), status, pieces, out);
            }
        }
        index += 1;
        at = end;
    }
}

/// What a message can hold.
fn piece(part: &Part) -> Option<Piece<'_>> {
    let (is_refusal, text) = match part {
        Part::Text { text, .. } => (false, text),
        Part::Refusal { text } => (true, text),
        _ => return None,
    };
    Some(Piece { is_refusal, text: Said::Plain(text), logprobs: b"" })
}

/// Looks at a whole answer of a seller.
pub(in crate::dialect) fn view(body: &str) -> Result<PlainView, JsonError> {
    let response = ResponseView::read(body, &(0..body.len()))?;
    let mut chunk = ChunkView { no_choices: true, ..ChunkView::default() };
    if let Some(output) = &response.output {
        let mut walk = Walk::new(&body[output.clone()]);
        walk.items::<JsonError>(|walk| {
            let item = ItemView::walk(walk)?;
            chunk.no_choices = false;
            chunk.content_bytes += item.content_bytes;
            chunk.tool_calls += u32::from(item.is_call);
            Ok(())
        })?;
    }
    chunk.deltas = u32::from(chunk.content_bytes > 0);
    let status = response.status.as_ref().map_or("completed", |span| &body[span.clone()]);
    chunk.finish = Some(finish_of(status, response.is_filtered, chunk.tool_calls > 0));
    chunk.finishes = 1;
    chunk.finish_error = chunk.finish == Some(Finish::SellerError);
    chunk.usage = response.usage;
    chunk.error = response.error;
    chunk.id = response.id;
    Ok(PlainView::of(chunk, body))
}

/// How an answer with this status ended.
fn finish_of(status: &str, is_filtered: bool, has_calls: bool) -> Finish {
    match status {
        "completed" if has_calls => Finish::ToolCalls,
        "completed" => Finish::Stop,
        "incomplete" if is_filtered => Finish::ContentFilter,
        "incomplete" => Finish::Length,
        _ => Finish::SellerError,
    }
}

#[derive(Deserialize)]
struct AnswerJson<'a> {
    id: Option<String>,
    model: Option<String>,
    status: Option<String>,
    incomplete_details: Option<Reason>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    output: Vec<ItemJson>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    service_tier: Option<String>,
}

#[derive(Deserialize)]
struct Reason {
    reason: Option<String>,
}

/// An item of any type: members that others have are missing.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ItemJson {
    #[serde(rename = "type")]
    pub(super) kind: String,
    id: Option<String>,
    content: Option<Vec<TextJson>>,
    summary: Option<Vec<TextJson>>,
    encrypted_content: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TextJson {
    text: Option<String>,
    refusal: Option<String>,
    logprobs: Option<Box<RawValue>>,
}

impl ItemJson {
    /// Thoughts, when the item is that and says anything.
    pub(super) fn thoughts(self) -> Option<Part> {
        let signed = self.encrypted_content.map(|data| item::signed(self.id, &data));
        let join = |texts: Option<Vec<TextJson>>| {
            let texts: Vec<String> = texts.unwrap_or_default().into_iter().filter_map(|t| t.text).collect();
            texts.join(PARAGRAPH)
        };
        let (shown, summary) = (join(self.content), join(self.summary));
        let is_summary = shown.is_empty() && !summary.is_empty();
        let text = if is_summary { summary } else { shown };
        (signed.is_some() || !text.is_empty()).then_some(Part::Reasoning { text, is_summary, signed })
    }
}

/// Between the parts of one summary.
pub(super) const PARAGRAPH: &str = "\n\n";

/// Reads a whole answer. Items of unknown types say nothing.
pub(super) fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let mended = without_lone_surrogates(body);
    let body = mended.as_ref();
    let json: AnswerJson<'_> = serde_json::from_str(body)
        .map_err(|error| SellerError::cut(&format!("the answer cannot be read: {error}")))?;
    let status = json.status.unwrap_or_else(|| "completed".to_owned());
    let reason = json.incomplete_details.and_then(|details| details.reason);
    if json.error.is_some() || !matches!(status.as_str(), "completed" | "incomplete") {
        return Err(read_failure(body));
    }
    let mut choice = Choice::default();
    let mut has_calls = false;
    let mut logprobs = String::new();
    for item in json.output {
        match item.kind.as_str() {
            "message" => push_texts(&mut choice.parts, &mut logprobs, item.content.unwrap_or_default()),
            "function_call" => {
                has_calls = true;
                choice.parts.push(read_call(item, choice.parts.len())?);
            }
            "reasoning" => choice.parts.extend(item.thoughts()),
            _ => {}
        }
    }
    let is_filtered = reason.as_deref() == Some("content_filter");
    choice.finish = Some(finish_of(&status, is_filtered, has_calls));
    choice.native_finish = Some(reason.unwrap_or(status));
    choice.logprobs_json = (!logprobs.is_empty()).then_some(logprobs);
    Ok(Answer {
        id: json.id,
        model: json.model,
        choices: vec![choice],
        usage: json.usage.and_then(|raw| read_usage(raw.get())),
        service_tier: json.service_tier,
    })
}

fn read_call(item: ItemJson, index: usize) -> Result<Part, SellerError> {
    let name = item.name.ok_or_else(|| SellerError::cut("a function call has no name"))?;
    let id = item.call_id.or(item.id).filter(|id| !id.is_empty());
    Ok(Part::ToolCall {
        id: id.unwrap_or_else(|| format!("call_{index}")),
        name,
        arguments: item.arguments.unwrap_or_default(),
        cache: None,
    })
}

fn push_texts(parts: &mut Vec<Part>, logprobs: &mut String, content: Vec<TextJson>) {
    for text in content {
        let items = bare_items(text.logprobs.as_deref().map_or("[]", RawValue::get));
        if !items.is_empty() {
            let comma = if logprobs.is_empty() { "" } else { "," };
            logprobs.push_str(comma);
            logprobs.push_str(items);
        }
        if let Some(text) = text.text {
            parts.push(Part::text(text));
        }
        if let Some(text) = text.refusal {
            parts.push(Part::Refusal { text });
        }
    }
}

/// A JSON string, borrowed where it has no escapes.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

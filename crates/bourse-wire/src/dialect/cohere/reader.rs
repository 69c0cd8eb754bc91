//! Reading a seller's stream, and whole answers, which have lists where events have one item.

use super::{CALLS_MAX, kind};
use crate::dialect::SellerUsage;
use crate::dialect::chat::made_id;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::gather::Gathered;
use crate::dialect::grammar::{EventReader, SellerError, SellerErrorKind, StreamNews};
use crate::dialect::neutral::{Answer, StreamEvent};
use crate::receipt::Finish;
use serde_json::{Number, Value, json};
use std::borrow::Cow;

/// The status under which an error inside a stream is read.
const STREAM_STATUS: u16 = 500;

/// The reader of one answer, in pieces or whole.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The calls so far, by their places in the answer.
    calls: Vec<CallState>,
}

#[derive(Debug)]
struct CallState {
    index: Option<u64>,
    has_arguments: bool,
}

type Each<'e> = dyn FnMut(StreamEvent<'_>) + 'e;

fn parsed(text: &str) -> Result<Value, SellerError> {
    serde_json::from_str(&without_lone_surrogates(text))
        .map_err(|error| SellerError::cut(&format!("it is no JSON: {error}")))
}

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError> {
        if data.trim_ascii() == "[DONE]" {
            return Ok(StreamNews { is_last: true, ..StreamNews::default() });
        }
        let event = parsed(data)?;
        let (delta, index) = (&event["delta"], event["index"].as_u64());
        match event["type"].as_str().unwrap_or_default() {
            "content-start" | "content-delta" | "tool-plan-delta" => {
                thoughts_and_texts(&delta["message"], each);
                logprobs(&event["logprobs"], each);
            }
            "tool-call-start" => self.begin_call(one(&delta["message"]["tool_calls"]), index, data, each)?,
            "tool-call-delta" => self.arguments(one(&delta["message"]["tool_calls"]), index, each),
            "tool-call-end" => self.end_calls(index, each),
            "message-end" => return self.end(delta, each),
            _ => {}
        }
        Ok(StreamNews::default())
    }
}

impl Reader {
    fn begin_call(
        &mut self,
        call: &Value,
        index: Option<u64>,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let n = self.calls.len();
        if n == CALLS_MAX {
            return Err(SellerError::cut("too many calls"));
        }
        let name =
            said(&call["function"]["name"]).ok_or_else(|| SellerError::cut("a tool call has no name"))?;
        let id = said(&call["id"]).map_or_else(|| made_id(data, 0, n).into(), Cow::Borrowed);
        self.calls.push(CallState { index, has_arguments: false });
        each(StreamEvent::ToolCall { choice: 0, call: n as u32, id, name: name.into() });
        self.arguments(call, index, each);
        Ok(())
    }

    fn arguments(&mut self, call: &Value, index: Option<u64>, each: &mut Each<'_>) {
        let n = self.calls.iter().rposition(|call| call.index == index);
        if let (Some(n), Some(json)) = (n, said(&call["function"]["arguments"])) {
            self.calls[n].has_arguments = true;
            each(StreamEvent::ToolArguments { choice: 0, call: n as u32, json: json.into() });
        }
    }

    /// Gives `{}` to calls that end without arguments: those of an index, or all.
    fn end_calls(&mut self, index: Option<u64>, each: &mut Each<'_>) {
        for (n, call) in self.calls.iter_mut().enumerate() {
            let ends = index.is_none() || call.index == index;
            if ends && !std::mem::replace(&mut call.has_arguments, true) {
                each(StreamEvent::ToolArguments { choice: 0, call: n as u32, json: "{}".into() });
            }
        }
    }

    /// The end of an answer, and its usage where it tells any.
    fn end(&mut self, end: &Value, each: &mut Each<'_>) -> Result<StreamNews, SellerError> {
        self.end_calls(None, each);
        let word = said(&end["finish_reason"]).unwrap_or_default();
        let told = said(&end["error"]);
        if told.is_some() || matches!(word, "ERROR" | "TIMEOUT") {
            let text = told.map_or_else(|| format!("the model ended with {word}"), str::to_owned);
            let kind = if word == "TIMEOUT" { SellerErrorKind::Timeout } else { kind(STREAM_STATUS, &text) };
            return Err(SellerError::new(kind, &text));
        }
        let finish = match word {
            "MAX_TOKENS" => Finish::Length,
            _ if !self.calls.is_empty() => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        if !word.is_empty() {
            each(StreamEvent::Finish { choice: 0, finish, native: Some(word.into()) });
        }
        let usage = Some(&end["usage"]).filter(|told| !told.is_null()).map(usage);
        Ok(StreamNews { usage, is_last: true })
    }
}

/// A whole answer of a seller.
pub(super) fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let answer = parsed(body)?;
    let message = &answer["message"];
    if !message.is_object() {
        return Err(SellerError::cut("the answer has no message"));
    }
    let (mut gathered, mut reader) = (Gathered::default(), Reader::default());
    let mut each = |event: StreamEvent<'_>| gathered.add(event);
    thoughts_and_texts(message, &mut each);
    for item in items(&answer["logprobs"]) {
        logprobs(item, &mut each);
    }
    for (n, call) in items(&message["tool_calls"]).iter().enumerate() {
        reader.begin_call(call, Some(n as u64), body, &mut each)?;
    }
    let usage = reader.end(&answer, &mut each)?.usage.flatten();
    let id = said(&answer["id"]).map(str::to_owned);
    Ok(Answer { id, choices: gathered.into_choices(), usage, ..Answer::default() })
}

/// Text that is there and says something.
pub(super) fn said(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// All of a list; whole answers have lists where events have one item.
pub(super) fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(list) => list,
        one => std::slice::from_ref(one),
    }
}

/// The one of an event, by itself or in a list.
fn one(value: &Value) -> &Value {
    items(value).first().unwrap_or(value)
}

fn thoughts_and_texts(message: &Value, each: &mut Each<'_>) {
    let think = |value: &Value, each: &mut Each<'_>| {
        if let Some(text) = said(value).map(Cow::Borrowed) {
            each(StreamEvent::Reasoning { choice: 0, text, is_summary: false });
        }
    };
    think(&message["tool_plan"], each);
    for block in items(&message["content"]) {
        think(&block["thinking"], each);
        if let Some(text) = said(&block["text"]).map(Cow::Borrowed) {
            each(StreamEvent::Text { choice: 0, text, logprobs_json: None });
        }
    }
}

/// A piece of text with its log-probability, as an item of OpenAI's `logprobs.content`.
fn logprobs(told: &Value, each: &mut Each<'_>) {
    let (Some(token), Some(of_tokens)) = (told["text"].as_str(), told["logprobs"].as_array()) else { return };
    let sum = of_tokens.iter().map(Value::as_f64).sum::<Option<f64>>();
    let Some(logprob) = sum.filter(|_| !of_tokens.is_empty()).and_then(Number::from_f64) else { return };
    let bytes = token.as_bytes();
    let item = json!({ "token": token, "logprob": logprob, "bytes": bytes, "top_logprobs": [] });
    let logprobs_json = Some(item.to_string().into());
    each(StreamEvent::Text { choice: 0, text: "".into(), logprobs_json });
}

/// What a seller says it used. `None` where neither form of it is whole: an unknown count is not zero.
pub(super) fn usage(told: &Value) -> Option<SellerUsage> {
    let both = |of: &str| Some((whole(&told[of]["input_tokens"])?, whole(&told[of]["output_tokens"])?));
    let counted = both("tokens");
    let (prompt, completion) = both("billed_units").or(counted)?;
    // Caches keep beginnings: what was cached is the preamble first, which is counted and not billed.
    let preamble = counted.map_or(0, |(counted, _)| counted.saturating_sub(prompt));
    let cached = whole(&told["cached_tokens"]).unwrap_or(0).saturating_sub(preamble);
    Some(SellerUsage { prompt, cached, cache_write: 0, completion, reasoning: 0 })
}

/// A count, written as a whole number or as a decimal that is one.
pub(super) fn whole(value: &Value) -> Option<u64> {
    let text = value.as_number()?.to_string();
    text.strip_suffix(".0").unwrap_or(&text).parse().ok()
}

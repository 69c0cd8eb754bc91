//! Reading a seller's stream, and whole answers, which have the form of one line.

use super::errors::read_told;
use crate::dialect::SellerUsage;
use crate::dialect::chat::made_id;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::gather::Gathered;
use crate::dialect::grammar::{EventReader, SellerError, StreamNews};
use crate::dialect::neutral::{Answer, StreamEvent};
use crate::receipt::Finish;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Calls that have begun.
    calls: u32,
}

/// Text that borrows where there are no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<MessageIn<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow)]
    done_reason: Option<Text<'a>>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    /// Items in OpenAI's form.
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct MessageIn<'a> {
    #[serde(borrow)]
    content: Option<Text<'a>>,
    #[serde(borrow)]
    thinking: Option<Text<'a>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallIn<'a>>>,
}

#[derive(Deserialize)]
struct CallIn<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    function: FunctionIn<'a>,
}

#[derive(Deserialize)]
struct FunctionIn<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

type Each<'e> = dyn FnMut(StreamEvent<'_>) + 'e;

fn parsed(data: &str) -> Result<Line<'_>, SellerError> {
    serde_json::from_str(data)
        .map_err(|error| SellerError::cut(&format!("a line does not have the grammar's form: {error}")))
}

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError> {
        let mended = without_lone_surrogates(data);
        let data = mended.as_ref();
        self.line(parsed(data)?, data, each)
    }
}

impl Reader {
    fn line(&mut self, line: Line<'_>, data: &str, each: &mut Each<'_>) -> Result<StreamNews, SellerError> {
        if let Some(error) = line.error {
            return Err(read_told(&error.0));
        }
        let logprobs = line.logprobs.map(RawValue::get).filter(|raw| raw.starts_with('['));
        let mut logprobs_json = logprobs.map(Cow::Borrowed);
        if let Some(message) = line.message {
            if let Some(text) = said(message.thinking) {
                each(StreamEvent::Reasoning { choice: 0, text, is_summary: false });
            }
            if let Some(text) = said(message.content) {
                each(StreamEvent::Text { choice: 0, text, logprobs_json: logprobs_json.take() });
            }
            for call in message.tool_calls.unwrap_or_default() {
                self.call(call, data, each)?;
            }
        }
        if logprobs_json.is_some() {
            each(StreamEvent::Text { choice: 0, text: Cow::Borrowed(""), logprobs_json });
        }
        if !line.done {
            return Ok(StreamNews::default());
        }
        self.finish(line.done_reason, each)?;
        let usage = usage(line.prompt_eval_count, line.eval_count);
        Ok(StreamNews { usage: Some(usage), is_last: true })
    }

    fn call(&mut self, call: CallIn<'_>, data: &str, each: &mut Each<'_>) -> Result<(), SellerError> {
        let n = self.calls;
        self.calls = n.checked_add(1).ok_or_else(|| SellerError::cut("too many calls"))?;
        let id = said(call.id);
        let id = id.unwrap_or_else(|| Cow::Owned(made_id(data, 0, n as usize)));
        each(StreamEvent::ToolCall { choice: 0, call: n, id, name: call.function.name.0 });
        let arguments = call.function.arguments.map(RawValue::get).filter(|raw| *raw != "null");
        // Some models' arguments come as text rather than as an object.
        let json = match arguments.unwrap_or("{}") {
            text if text.starts_with('"') => Cow::Owned(serde_json::from_str(text).unwrap_or_default()),
            object => Cow::Borrowed(object),
        };
        each(StreamEvent::ToolArguments { choice: 0, call: n, json });
        Ok(())
    }

    fn finish(&mut self, reason: Option<Text<'_>>, each: &mut Each<'_>) -> Result<(), SellerError> {
        let word = reason.map_or(Cow::Borrowed("stop"), |reason| reason.0);
        let finish = match word.as_ref() {
            "length" => Finish::Length,
            "load" | "unload" => {
                return Err(SellerError::cut("the server loaded the model and said nothing"));
            }
            _ if self.calls > 0 => Finish::ToolCalls,
            _ => Finish::Stop,
        };
        each(StreamEvent::Finish { choice: 0, finish, native: Some(word) });
        Ok(())
    }
}

/// Text that is there and says something.
fn said(text: Option<Text<'_>>) -> Option<Cow<'_, str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

/// What the server counted. It leaves counts of zero out, and an unknown count is not zero.
fn usage(prompt: Option<u64>, completion: Option<u64>) -> Option<SellerUsage> {
    let (prompt, completion) = (prompt?, completion?);
    Some(SellerUsage { prompt, cached: 0, cache_write: 0, completion, reasoning: 0 })
}

/// A whole answer of a seller.
pub(super) fn read_answer(body: &str) -> Result<Answer, SellerError> {
    let mut gathered = Gathered::default();
    let mended = without_lone_surrogates(body);
    let body = mended.as_ref();
    let line = parsed(body)?;
    let model = line.model.as_ref().map(|model| model.0.to_string());
    let news = Reader::default().line(line, body, &mut |event| gathered.add(event))?;
    if !news.is_last {
        return Err(SellerError::cut("the answer breaks off"));
    }
    let choices = gathered.into_choices();
    Ok(Answer { id: None, model, choices, usage: news.usage.flatten(), service_tier: None })
}

//! Reading a seller's stream, and whole answers, which have the form of one event.
//!
//! Parts of unknown kinds say nothing, and nor do pictures on a stream, for which no grammar of buyers has an event.

use super::errors::{blocked, read_told};
use super::usage;
use super::words::{finish_of, signed};
use crate::dialect::CHOICES_MAX;
use crate::dialect::chat::made_id;
use crate::dialect::fields::without_lone_surrogates;
use crate::dialect::grammar::{EventReader, SellerError, StreamNews};
use crate::dialect::neutral::{Media, Part, StreamEvent};
use crate::json::push_string;
use crate::receipt::Finish;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The reader of one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    candidates: Vec<CandidateState>,
}

#[derive(Debug, Clone, Default)]
struct CandidateState {
    /// Calls that have begun.
    calls: u32,
    has_finished: bool,
}

/// Text that borrows where there are no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    prompt_feedback: Option<Feedback<'a>>,
    #[serde(borrow)]
    usage_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow)]
    block_reason: Option<Text<'a>>,
    #[serde(borrow)]
    block_reason_message: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    index: Option<u32>,
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow)]
    logprobs_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    /// Each of a kind of its own; those of unknown kinds may look different.
    #[serde(borrow)]
    parts: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    thought: Option<bool>,
    #[serde(borrow)]
    thought_signature: Option<Text<'a>>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
    #[serde(borrow)]
    inline_data: Option<Blob<'a>>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    #[serde(borrow)]
    mime_type: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Logprobs<'a> {
    #[serde(borrow)]
    top_candidates: Vec<Alternatives<'a>>,
    #[serde(borrow)]
    chosen_candidates: Vec<Token<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Alternatives<'a> {
    #[serde(borrow)]
    candidates: Vec<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    #[serde(borrow)]
    token: Text<'a>,
    log_probability: f64,
}

/// What an answer says: an event, or a picture, for which streams have none.
pub(super) enum Said<'a> {
    Event(StreamEvent<'a>),
    Picture(u32, Part),
}

/// Where it goes.
type Each<'e> = dyn FnMut(Said<'_>) + 'e;

/// Reads a value of the grammar, or says that it is none.
pub(super) fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SellerError> {
    serde_json::from_str(text)
        .map_err(|error| SellerError::cut(&format!("an answer does not have the grammar's form: {error}")))
}

impl EventReader for Reader {
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError> {
        self.read_chunk(&without_lone_surrogates(data), &mut |said| {
            if let Said::Event(event) = said {
                each(event);
            }
        })
    }
}

impl Reader {
    /// Reads one event, or a whole answer.
    pub(super) fn read_chunk(&mut self, data: &str, each: &mut Each<'_>) -> Result<StreamNews, SellerError> {
        let chunk: Chunk<'_> = parsed(data)?;
        if let Some(error) = chunk.error {
            return Err(read_told(error.get()));
        }
        let candidates = chunk.candidates.unwrap_or_default();
        let feedback = chunk.prompt_feedback.as_ref().filter(|_| candidates.is_empty());
        if let Some(Feedback { block_reason: Some(reason), block_reason_message: message }) = feedback {
            return Err(blocked(&reason.0, message.as_ref().map_or("", |message| message.0.as_ref())));
        }
        for candidate in candidates {
            self.candidate(candidate.get(), data, each)?;
        }
        Ok(StreamNews { usage: chunk.usage_metadata.map(|raw| usage::read(raw.get())), is_last: false })
    }

    fn candidate(&mut self, raw: &str, data: &str, each: &mut Each<'_>) -> Result<(), SellerError> {
        let candidate: Candidate<'_> = parsed(raw)?;
        let choice = candidate.index.unwrap_or(0);
        if choice >= CHOICES_MAX {
            return Err(SellerError::cut("a candidate has an index that nobody asked for"));
        }
        let n = choice as usize;
        if self.candidates.len() <= n {
            self.candidates.resize(n + 1, CandidateState::default());
        }
        let state = &mut self.candidates[n];
        let mut logprobs = candidate.logprobs_result.and_then(|raw| logprobs(raw.get()));
        for raw in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            if let Ok(piece) = serde_json::from_str::<Piece<'_>>(raw.get()) {
                state.piece(choice, piece, &mut logprobs, data, each)?;
            }
        }
        if let Some(items) = logprobs {
            let logprobs_json = Some(Cow::Owned(items));
            each(Said::Event(StreamEvent::Text { choice, text: Cow::Borrowed(""), logprobs_json }));
        }
        if let Some(word) = candidate.finish_reason.map(|word| word.0) {
            state.finish(choice, word, each)?;
        }
        Ok(())
    }
}

impl CandidateState {
    fn piece(
        &mut self,
        choice: u32,
        piece: Piece<'_>,
        logprobs: &mut Option<String>,
        data: &str,
        each: &mut Each<'_>,
    ) -> Result<(), SellerError> {
        let signature = piece.thought_signature.map(|text| text.0).filter(|text| !text.is_empty());
        let sign = |call: Option<&str>, each: &mut Each<'_>| {
            if let Some(signature) = &signature {
                each(Said::Event(StreamEvent::Signed { choice, signed: signed(signature, call) }));
            }
        };
        if let Some(FunctionCall { id, name, args }) = piece.function_call {
            let id = id.map(|id| id.0).filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| Cow::Owned(made_id(data, choice, self.calls as usize)));
            let call = self.calls;
            self.calls = call.checked_add(1).ok_or_else(|| SellerError::cut("too many calls"))?;
            sign(Some(&id), each);
            each(Said::Event(StreamEvent::ToolCall { choice, call, id, name: name.0 }));
            let json = Cow::Borrowed(args.map(RawValue::get).filter(|args| *args != "null").unwrap_or("{}"));
            each(Said::Event(StreamEvent::ToolArguments { choice, call, json }));
            return Ok(());
        }
        if piece.thought == Some(true) {
            if let Some(text) = piece.text.map(|text| text.0).filter(|text| !text.is_empty()) {
                each(Said::Event(StreamEvent::Reasoning { choice, text, is_summary: false }));
            }
            sign(None, each);
            return Ok(());
        }
        sign(None, each);
        if let Some(text) = piece.text.map(|text| text.0).filter(|text| !text.is_empty()) {
            let logprobs_json = logprobs.take().map(Cow::Owned);
            each(Said::Event(StreamEvent::Text { choice, text, logprobs_json }));
        }
        if let Some(Blob { mime_type, data }) =
            piece.inline_data.filter(|b| b.mime_type.0.starts_with("image/"))
        {
            let source = Media::Base64 { media_type: mime_type.0.into_owned(), data: data.0.into_owned() };
            each(Said::Picture(choice, Part::Image { source, detail: None, cache: None }));
        }
        Ok(())
    }

    /// The first reason counts: some models repeat it.
    fn finish(&mut self, choice: u32, word: Cow<'_, str>, each: &mut Each<'_>) -> Result<(), SellerError> {
        if word.is_empty() || word == "FINISH_REASON_UNSPECIFIED" {
            return Ok(());
        }
        let finish = finish_of(&word)?;
        if std::mem::replace(&mut self.has_finished, true) {
            return Ok(());
        }
        // There is no word for having called functions.
        let finish = if finish == Finish::Stop && self.calls > 0 { Finish::ToolCalls } else { finish };
        each(Said::Event(StreamEvent::Finish { choice, finish, native: Some(word) }));
        Ok(())
    }
}

/// Log-probabilities as items of OpenAI's `logprobs.content`; none when there are none that can be read.
fn logprobs(raw: &str) -> Option<String> {
    let result: Logprobs<'_> = serde_json::from_str(raw).ok()?;
    let nothing = Alternatives::default();
    let mut out = Vec::new();
    for (n, token) in result.chosen_candidates.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push_token(token, &mut out)?;
        out.extend_from_slice(b",\"top_logprobs\":[");
        for (m, other) in result.top_candidates.get(n).unwrap_or(&nothing).candidates.iter().enumerate() {
            if m > 0 {
                out.push(b',');
            }
            push_token(other, &mut out)?;
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    String::from_utf8(out).ok().filter(|items| !items.is_empty())
}

/// Appends a token without its closing brace; none when its probability is no number that JSON has.
fn push_token(token: &Token<'_>, out: &mut Vec<u8>) -> Option<()> {
    let number = serde_json::Number::from_f64(token.log_probability)?;
    out.extend_from_slice(b"{\"token\":");
    push_string(out, &token.token.0);
    out.extend_from_slice(b",\"logprob\":");
    out.extend_from_slice(number.to_string().as_bytes());
    out.extend_from_slice(b",\"bytes\":");
    out.extend_from_slice(format!("{:?}", token.token.0.as_bytes()).as_bytes());
    Some(())
}

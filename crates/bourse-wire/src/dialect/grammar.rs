//! Grammars and how one becomes another.
//!
//! A [`Dialect`] is a grammar that sellers speak: it writes a neutral request, reads whole answers, streams and
//! errors. The grammars that buyers speak are the three fronts of [`front`](super::front). A stream on its way from seller to
//! buyer is a [`Passage`]: where both speak the same grammar it passes the seller's own bytes and holds back only what
//! the market says itself (usage with its price, the end); otherwise it is a [`Translation`] made of an
//! [`EventReader`] and an [`EventWriter`].
//!
//! Everything here is pure and keeps at most one event; limits of size are those of [`sse`](crate::sse).

pub use super::Shape;

use super::count::CountForm;
use super::lists::ListForm;
use super::neutral::{Answer, Notice, Request, StreamEvent};
use super::{Api, CHOICES_MAX, DIALECTS, SellerUsage, retry_hint};
use crate::error::ApiError;
use crate::receipt::Finish;
use crate::sse::Event;
use bourse_types::{Charge, DurationMs, Usage};
use bytes::Bytes;
use serde_json::Value;

/// How the events of a stream are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One value of JSON on each line.
    Lines,
}

/// A grammar that sellers speak. Implementations hold no state; what a stream needs is in its reader.
pub trait Dialect: Send + Sync + 'static {
    /// What it is like, as data.
    fn facts(&self) -> &'static Facts;
    /// The body of a call. An error names the field that this grammar cannot say.
    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError>;
    /// A whole answer.
    fn read_answer(&self, body: &str) -> Result<Answer, SellerError>;
    /// For one stream.
    fn reader(&self) -> Box<dyn EventReader>;
    /// What an answer with a status other than 2xx says.
    fn read_error(&self, status: u16, body: &[u8]) -> SellerError;
}

/// What a grammar is like beside its texts. Whoever needs to know asks here and names no grammar.
#[derive(Debug)]
pub struct Facts {
    /// Which grammar.
    pub shape: Shape,
    /// How the events of its streams are told apart.
    pub framing: Framing,
    /// The path of a call below the base URL, with its leading slash and its query.
    pub path: fn(upstream_id: &str, stream: bool) -> String,
    /// How its sellers list their models.
    pub list: ListForm,
    /// How they count a prompt; none where they have no endpoint for it.
    pub count: Option<CountForm>,
    /// How the laws over all grammars speak and hear it; none where a front does.
    #[cfg(test)]
    pub(super) mirror: Option<&'static super::tests::Mirror>,
}

/// What a call to a seller adds to what the buyer asked for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The seller's name of the model.
    pub upstream_id: &'a str,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Tokens of the answer at most, where the market caps it.
    pub max_tokens: Option<u32>,
}

impl Call<'_> {
    /// The smaller of the buyer's limit and the market's.
    pub fn max_tokens(&self, request: &Request) -> Option<u32> {
        self.max_tokens.into_iter().chain(request.max_tokens).min()
    }
}

/// The body of a call, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The body.
    pub body: Bytes,
    /// What was left out.
    pub notices: Vec<Notice>,
}

/// Reads the events of one stream.
pub trait EventReader: Send {
    /// Reads one payload and hands out what it says. Events of unknown kinds say nothing.
    fn read(&mut self, data: &str, each: &mut dyn FnMut(StreamEvent<'_>)) -> Result<StreamNews, SellerError>;
}

/// What an event says beyond its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamNews {
    /// A usage object was there; the inner none is one that cannot be read. Later ones replace earlier ones.
    pub usage: Option<Option<SellerUsage>>,
    /// The seller has said that nothing more comes.
    pub is_last: bool,
}

/// Writes one stream in a buyer's grammar.
pub trait EventWriter: Send {
    /// Appends what one event becomes; often nothing.
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>);
    /// Appends the end of a stream that ended well. `more` is raw text of further members with a leading comma.
    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>);
    /// Appends the end of a stream that broke, with what was billed all the same.
    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>);
}

/// What was billed, for the usage object of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Billed<'a> {
    /// The tokens.
    pub usage: &'a Usage,
    /// Their price.
    pub charge: &'a Charge,
    /// The seller's claim, when there was one that could be read.
    pub claim: Option<SellerUsage>,
    /// The seller's usage object as written in the buyer's own grammar; none when the seller speaks another.
    pub raw: Option<&'a str>,
    /// Whether the buyer's own key served: the price is then the market's fee alone.
    pub is_byok: bool,
}

/// What the market's own parts of an answer begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The generation's id.
    pub id: String,
    /// When it began, in Unix seconds.
    pub created_s: u64,
    /// The model that answers.
    pub model: String,
    /// The seller.
    pub provider: String,
    /// What the answer repeats of the request, as raw members; see [`responses::echo`](super::responses::echo).
    /// Empty for the other fronts.
    pub echo: String,
}

/// Where the bytes for the buyer go.
pub trait Sink {
    /// Appends bytes that are shared, without copying where that is possible.
    fn push(&mut self, bytes: Bytes);
    /// Appends a copy.
    fn extend(&mut self, bytes: &[u8]);
}

/// What is known of the units of an answer that is no conversation: images, searches, characters or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassedUnits {
    /// What the market counts itself: images, searches, characters.
    pub counted: Option<u64>,
    /// What the seller tells: seconds.
    pub claimed: Option<u64>,
    /// What there is at least when nobody tells.
    pub least: u64,
}

/// What one event of a seller said, for the meter and the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Bytes of content in it.
    pub content_bytes: u64,
    /// Tool calls that began in it.
    pub tool_calls: u32,
    /// Choices that ended in it.
    pub finishes: u32,
    /// How the last of them ended.
    pub finish: Option<Finish>,
    /// Usage and end.
    pub news: StreamNews,
    /// Units of the whole answer so far, where they are sold.
    pub units: Option<PassedUnits>,
}

/// A seller's stream on its way to the buyer.
pub trait Passage: Send {
    /// Takes one event of the seller; what goes to the buyer goes into `sink`.
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError>;
    /// Appends the end of a stream that ended well. As for [`EventWriter::end`].
    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>);
    /// Appends the end of a stream that broke. As for [`EventWriter::fail`].
    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>);
    /// The seller's usage object as it wrote it, where it speaks the buyer's grammar.
    fn raw_usage(&self) -> Option<&str> {
        None
    }
    /// Content that goes out with the end, as it stands there: the answer's hash covers it, too.
    fn kept(&self) -> Option<&[u8]> {
        None
    }
    /// The seller's id of the answer, where it has told one.
    fn upstream_id(&self) -> Option<&str> {
        None
    }
    /// What the answer said so far, when another seller can take it up there.
    fn said(&self) -> Option<&str> {
        None
    }
}

/// A stream that changes its grammar on the way, or that is written anew so that another seller can take it up.
pub struct Translation {
    reader: Box<dyn EventReader>,
    writer: Box<dyn EventWriter>,
    buffer: Vec<u8>,
    said: Said,
    /// Choices that the buyer asked for. There is no place for another one in every grammar.
    choices: u32,
    /// Choices that have finished, one bit each.
    finished: u128,
}

/// What is kept of an answer for whoever may have to take it up.
enum Said {
    /// Nothing: nobody will.
    Unrecorded,
    /// One choice of plain text.
    Text(String),
    /// Something that cannot be taken up in the middle, or too much.
    Other,
}

/// Longest text that is kept for another seller to take up, in bytes.
pub const SAID_BYTES_MAX: usize = 1024 * 1024;

impl Said {
    fn add(&mut self, event: &StreamEvent<'_>) {
        let Self::Text(said) = self else { return };
        match event {
            StreamEvent::Text { choice: 0, text, .. } if said.len() + text.len() <= SAID_BYTES_MAX => {
                said.push_str(text);
            }
            StreamEvent::Reasoning { choice: 0, .. } | StreamEvent::Signed { choice: 0, .. }
                if said.is_empty() => {}
            _ => *self = Self::Other,
        }
    }
}

impl Translation {
    /// From a seller's grammar to a buyer's.
    pub fn new(reader: Box<dyn EventReader>, writer: Box<dyn EventWriter>, choices: u32) -> Self {
        Self { reader, writer, buffer: Vec::new(), said: Said::Unrecorded, choices, finished: 0 }
    }

    /// The same, recording what is said after `said`.
    pub fn recording(
        reader: Box<dyn EventReader>,
        writer: Box<dyn EventWriter>,
        choices: u32,
        said: String,
    ) -> Self {
        Self { said: Said::Text(said), ..Self::new(reader, writer, choices) }
    }
}

impl Passage for Translation {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        let Some(data) = event.data() else {
            // Comments keep connections alive in every grammar of server-sent events.
            sink.push(event.sign_of_life());
            return Ok(Seen::default());
        };
        let text = std::str::from_utf8(data).map_err(|_| SellerError::cut("an event is not UTF-8"))?;
        let mut seen = Seen::default();
        let Self { reader, writer, buffer, said, choices, finished } = self;
        buffer.clear();
        seen.news = reader.read(text, &mut |event| {
            if event.choice() >= *choices {
                // Not handed on, so neither counted, and its end is not the answer's.
                return;
            }
            let choice = 1 << (event.choice() % CHOICES_MAX);
            if *finished & choice != 0 && event.content_bytes() > 0 {
                // What a choice says after its end has no place in any other grammar.
                return;
            }
            said.add(&event);
            seen.content_bytes += event.content_bytes();
            match &event {
                StreamEvent::ToolCall { .. } => seen.tool_calls += 1,
                StreamEvent::Finish { finish, .. } => {
                    seen.finishes += 1;
                    seen.finish = Some(*finish);
                    *finished |= choice;
                }
                _ => {}
            }
            writer.event(&event, buffer);
        })?;
        if !buffer.is_empty() {
            sink.extend(buffer);
        }
        Ok(seen)
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.writer.end(billed, more, out);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.writer.fail(error, billed, more, out);
    }

    fn said(&self) -> Option<&str> {
        match &self.said {
            Said::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// What a seller's error means, whatever its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SellerErrorKind {
    /// The request itself is refused.
    InvalidRequest,
    /// Prompt and answer do not fit the model.
    ContextLength,
    /// The seller's filter refuses the content.
    ContentPolicy,
    /// Too many requests.
    RateLimited,
    /// The seller is full.
    Overloaded,
    /// The seller took too long by its own account.
    Timeout,
    /// Anything else: the seller's fault.
    Unavailable,
}

/// An error that a seller told, or an answer that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SellerError {
    /// What it means.
    pub kind: SellerErrorKind,
    /// In the seller's words, cut to [`SELLER_MESSAGE_BYTES_MAX`], without control characters.
    pub message: String,
    /// How long it wants to be left alone, where it says so in its error and a wait is what helps.
    pub retry_after: Option<DurationMs>,
}

/// Longest text of a seller's own error message that is kept, in bytes.
pub const SELLER_MESSAGE_BYTES_MAX: usize = 300;

impl SellerError {
    /// An error in the seller's words.
    pub fn new(kind: SellerErrorKind, message: &str) -> Self {
        let end = message.floor_char_boundary(SELLER_MESSAGE_BYTES_MAX);
        let kept = message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // The hint stands at the end of a message, which may be cut off.
        Self { kind, message: kept, retry_after: None }.asking_for(|| retry_hint::of_message(message))
    }

    /// The same error with that hint, if it is one that a wait helps against.
    fn asking_for(self, hint: impl FnOnce() -> Option<DurationMs>) -> Self {
        let waits = matches!(self.kind, SellerErrorKind::RateLimited | SellerErrorKind::Overloaded);
        let retry_after = if waits { hint().or(self.retry_after) } else { None };
        Self { retry_after, ..self }
    }

    /// The same error with what its details say, as Google writes them: they go before its message.
    #[must_use]
    pub(super) fn with_details<'a>(self, details: impl IntoIterator<Item = &'a Value>) -> Self {
        self.asking_for(|| retry_hint::of_details(details))
    }

    /// An answer that breaks off or cannot be read.
    pub fn cut(what: &str) -> Self {
        Self::new(SellerErrorKind::Unavailable, what)
    }

    /// What a status means where the body does not say more.
    pub fn kind_of_status(status: u16) -> SellerErrorKind {
        match status {
            400 | 413 | 422 => SellerErrorKind::InvalidRequest,
            429 => SellerErrorKind::RateLimited,
            408 | 504 | 524 => SellerErrorKind::Timeout,
            503 | 529 => SellerErrorKind::Overloaded,
            _ => SellerErrorKind::Unavailable,
        }
    }
}

impl Shape {
    /// The grammar in which sellers of this shape are asked; none for legacy completions and for endpoints that pass
    /// through.
    pub fn dialect(self) -> Option<&'static dyn Dialect> {
        DIALECTS.iter().copied().find(|dialect| dialect.facts().shape == self)
    }

    /// How its streams are framed.
    pub fn framing(self) -> Framing {
        self.dialect().map_or(Framing::Sse, |dialect| dialect.facts().framing)
    }

    /// The path of a call below the base URL, with its leading slash and its query.
    pub fn path(self, upstream_id: &str, stream: bool) -> String {
        let path = match self {
            Self::Embeddings => "/embeddings",
            Self::Rerank => "/rerank",
            Self::Images => "/images/generations",
            Self::Speech => "/audio/speech",
            Self::Transcription => "/audio/transcriptions",
            _ => match self.dialect() {
                Some(dialect) => return (dialect.facts().path)(upstream_id, stream),
                None => "/completions",
            },
        };
        path.to_owned()
    }
}

impl Api {
    /// The grammar of a front.
    pub fn shape(self) -> Shape {
        match self {
            Self::Chat => Shape::Chat,
            Self::Text => Shape::Text,
            Self::Responses => Shape::Responses,
            Self::Messages => Shape::Messages,
            Self::Embeddings => Shape::Embeddings,
            Self::Rerank => Shape::Rerank,
            Self::Images => Shape::Images,
            Self::Speech => Shape::Speech,
            Self::Transcription => Shape::Transcription,
        }
    }
}

//! How each shape writes an answer: as one document, and as the honest list of events of a stream.
//!
//! A grammar knows its shape and nothing of sockets. What a fault changes in a stream is the same for all
//! shapes ([`super::stream`]), because every event says which [`Part`] of the answer it is; a grammar is
//! only asked for what is peculiar to it.

mod anthropic;
mod chat;
mod cohere;
mod gemini;
mod media;
mod ollama;
mod responses;

use super::answer::{Answer, to_json_text};
use super::config::SellerConfig;
use super::fault::Fault;
use super::record::UsageSeen;
use super::request::Call;
use super::shape::Shape;
use super::trouble::Trouble;
use serde_json::Value;

/// What an event is for; faults choose by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Opens the answer and says nothing yet.
    Role,
    /// Opens or closes a piece of it.
    Frame,
    Content,
    Finish,
    Usage,
    Error,
    /// The mark behind the last event.
    Done,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    pub(super) part: Part,
    /// The name of the event where a shape has names, else empty.
    pub(super) name: &'static str,
    pub(super) data: Value,
    /// Completion tokens that it carries.
    pub(super) tokens: u64,
}

impl Event {
    /// An event without tokens.
    pub(super) fn new(part: Part, name: &'static str, data: Value) -> Self {
        Self { part, name, data, tokens: 0 }
    }
}

/// How events become bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events; the name is left out when it is empty.
    Events,
    /// One JSON document a line.
    Lines,
}

/// An answer and everything that decides how it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub(super) call: &'a Call,
    pub(super) answer: &'a Answer,
    pub(super) config: &'a SellerConfig,
    pub(super) fault: Option<Fault>,
}

impl Told<'_> {
    /// What is reported, if anything is.
    pub(super) fn usage(&self) -> Option<UsageSeen> {
        self.answer.usage.claimed(self.fault)
    }

    fn tokens(&self, text: &str) -> u64 {
        self.config.tokens.count(text)
    }

    fn error(&self) -> Value {
        Trouble::broken_off().body(self.call.shape)
    }
}

/// One shape's way of writing.
pub(super) trait Grammar: Sync {
    /// The whole answer.
    fn document(&self, told: &Told<'_>) -> Value;

    /// The events of an honest stream, with usage as the fault reports it.
    fn events(&self, told: &Told<'_>) -> Vec<Event>;

    /// Content that follows when all has been said.
    fn late(&self, told: &Told<'_>, text: &str) -> Event;

    /// The error that stands in a stream before any content.
    fn error(&self, told: &Told<'_>) -> Event {
        Event::new(Part::Error, "", told.error())
    }

    /// What ends a stream in which content has been sent.
    fn broken_off(&self, told: &Told<'_>) -> Vec<Event> {
        vec![self.error(told)]
    }

    /// Takes the finish reason out of a stream.
    fn unfinish(&self, events: &mut Vec<Event>) {
        events.retain(|event| event.part != Part::Finish);
    }

    /// Where usage stands, changed as the fault says.
    fn reshape(&self, _told: &Told<'_>, _events: &mut Vec<Event>) {}

    /// The last touch, when the list is final: numbers, if events have them.
    fn number(&self, _events: &mut [Event]) {}

    /// How events become bytes.
    fn framing(&self) -> Framing {
        Framing::Events
    }

    /// What keeps a connection alive and says nothing.
    fn keep_alive(&self) -> &'static [u8] {
        b": SIM PROCESSING\n\n"
    }
}

/// The grammar of a shape that streams.
pub(super) fn grammar(shape: Shape) -> &'static dyn Grammar {
    match shape {
        Shape::Messages => &anthropic::Messages,
        Shape::Responses => &responses::Responses,
        Shape::Gemini => &gemini::Gemini,
        Shape::Ollama => &ollama::Ollama,
        Shape::Cohere => &cohere::Cohere,
        Shape::Images | Shape::Speech | Shape::Transcriptions => &media::Media,
        _ => &chat::Chat,
    }
}

/// The bytes of one event.
pub(super) fn render(framing: Framing, fault: Option<Fault>, event: &Event) -> Vec<u8> {
    let data = match &event.data {
        Value::Null => "[DONE]".to_owned(),
        data => to_json_text(data),
    };
    let named = if event.name.is_empty() { String::new() } else { format!("event: {}\n", event.name) };
    let text = match (framing, fault) {
        (Framing::Lines, Some(Fault::CrLf)) => format!("{data}\r\n"),
        (Framing::Lines, _) => format!("{data}\n"),
        (Framing::Events, Some(Fault::CrLf)) => format!("{named}data: {data}\n\n").replace('\n', "\r\n"),
        (Framing::Events, Some(Fault::MultiLineData)) if !event.data.is_null() => {
            let pretty = serde_json::to_string_pretty(&event.data).unwrap_or(data);
            let lines: Vec<String> = pretty.lines().map(|line| format!("data: {line}\n")).collect();
            let named = if named.is_empty() { "event: message\n" } else { &named };
            format!("{named}id: 1\n{}\n", lines.concat())
        }
        (Framing::Events, _) => format!("{named}data: {data}\n\n"),
    };
    text.into_bytes()
}

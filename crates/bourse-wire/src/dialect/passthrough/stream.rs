//! Streams of pictures, transcripts and speech, in OpenAI's grammar of events.
//!
//! | endpoint | pieces | the end |
//! | --- | --- | --- |
//! | `images` | `image_generation.partial_image` | `image_generation.completed`, one for each picture |
//! | `audio/transcriptions` | `transcript.text.delta` | `transcript.text.done` |
//! | `audio/speech` | `speech.audio.delta` | `speech.audio.done` |
//!
//! Events pass as they came, those of unknown types too. The last one is held back until the books are written, and then
//! says what was billed. A seller that answers in one piece where a stream was asked for (as `whisper-1` does) is heard
//! all the same: [`events_of`] says its answer in events.
//!
//! Source: OpenAI's API reference, "Streaming events" of images and audio; OpenRouter's client for its `error` event.

use super::TokenClaim;
use super::answer::{PassedAnswer, seconds_least};
use super::usage::{UsageIn, claim_of, push_usage, usage_seconds, whole_seconds};
use crate::dialect::chat::on_one_line;
use crate::dialect::grammar::{Billed, Head, Passage, PassedUnits, Seen, SellerError, Sink, StreamNews};
use crate::dialect::{Api, DONE_EVENT, Job, front};
use crate::error::ApiError;
use crate::json::{JsonError, Walk, push_string, push_u64};
use crate::receipt::Finish;
use crate::sse::Event;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::ops::Range;

const COMPLETED: &str = "image_generation.completed";
/// Bytes of sound in one event of a stream that is made of an answer in one piece.
const SOUND_BYTES_PER_EVENT: usize = 48 * 1024;

/// One stream.
pub struct MediaPassage {
    api: Api,
    /// When the generation began, in Unix seconds.
    created_s: u64,
    /// Pictures, searches, characters or seconds at most.
    units_max: u64,
    units: PassedUnits,
    /// Pictures that are whole.
    pictures: u64,
    content_bytes: u64,
    /// The last whole piece: it goes out with the price.
    held: Option<Held>,
    /// The last usage object, on one line.
    usage: Option<String>,
}

/// An event that is held back: its text on one line, and where its usage stands in it.
struct Held {
    kind: String,
    text: String,
    usage: Option<Range<usize>>,
    /// Members that stock clients insist on and that it lacks, with their commas.
    missing: String,
}

/// What was found in an event. Spans point into its payload.
#[derive(Debug, Default)]
struct EventView {
    /// Within its quotes.
    kind: Range<usize>,
    usage: Option<Range<usize>>,
    has_error: bool,
    /// Bytes of the picture, the sound or the text.
    content_bytes: u64,
    /// Whether it is there, be it empty.
    has_content: bool,
    seconds: Option<u64>,
    /// When the picture was made, by its two names.
    created: Option<Range<usize>>,
    created_at: Option<Range<usize>>,
}

impl MediaPassage {
    /// The passage of the answer to a request.
    pub fn new(job: &Job, head: &Head) -> Self {
        Self {
            created_s: head.created_s,
            api: job.api,
            units_max: job.passed.as_ref().map_or(0, |passed| passed.units_max),
            units: PassedUnits::default(),
            pictures: 0,
            content_bytes: 0,
            held: None,
            usage: None,
        }
    }

    /// Counts what an event brings; whether it is the last one.
    fn count(&mut self, kind: &str, view: &EventView) -> Result<Counted, SellerError> {
        let piece = Counted { bytes: view.content_bytes, ..Counted::default() };
        let whole = Counted { is_whole: true, ..piece };
        let counted = match (self.api, kind) {
            (Api::Images, "image_generation.partial_image") if piece.bytes > 0 => {
                self.units.counted = Some(self.pictures + 1);
                piece
            }
            (Api::Images, COMPLETED) if piece.bytes == 0 => return Err(SellerError::cut("sent no image")),
            (Api::Images, COMPLETED) => {
                self.pictures += 1;
                self.units.counted = Some(self.pictures);
                Counted { is_last: self.pictures >= self.units_max, ..whole }
            }
            (Api::Transcription, "transcript.text.delta") => piece,
            (Api::Transcription, "transcript.text.done") if !view.has_content => {
                return Err(SellerError::cut("sent no transcript"));
            }
            (Api::Transcription, "transcript.text.done") => {
                self.units.claimed = view.seconds;
                // Silence has a transcript, too.
                let bytes = if self.content_bytes == 0 { piece.bytes.max(1) } else { 0 };
                Counted { is_last: true, bytes, ..whole }
            }
            (Api::Speech, "speech.audio.delta") if piece.bytes > 0 => {
                self.units.counted = Some(self.units_max);
                piece
            }
            (Api::Speech, "speech.audio.done") if self.content_bytes == 0 => {
                return Err(SellerError::cut("sent no sound"));
            }
            (Api::Speech, "speech.audio.done") => Counted { is_last: true, bytes: 0, ..whole },
            _ => Counted::default(),
        };
        self.content_bytes = self.content_bytes.saturating_add(counted.bytes);
        if self.api == Api::Transcription {
            self.units.least = seconds_least(self.content_bytes);
        }
        Ok(counted)
    }

    /// Holds an event back; the one before it, of a picture that is not the last, goes out.
    fn hold(&mut self, kind: &str, text: &str, view: &EventView, sink: &mut dyn Sink) {
        let missing = if kind == COMPLETED { self.missing(text, view) } else { String::new() };
        let (kind, text) = (kind.to_owned(), on_one_line(text).into_owned());
        let next = Held { kind, text, usage: view.usage.clone(), missing };
        if let Some(before) = self.held.replace(next) {
            let mut out = Vec::with_capacity(before.text.len() + 128);
            before.push(None, b"", &mut out);
            sink.push(Bytes::from(out));
        }
    }

    /// OpenAI's client wants `created_at`, OpenRouter's wants `created`.
    fn missing(&self, text: &str, view: &EventView) -> String {
        let ours = self.created_s.to_string();
        let known = view.created.clone().or(view.created_at.clone()).map_or(&*ours, |span| &text[span]);
        let names = [("created", &view.created), ("created_at", &view.created_at)];
        let missing = names.iter().filter(|(_, span)| span.is_none());
        missing.map(|(name, _)| format!(",\"{name}\":{known}")).collect::<Vec<_>>().concat()
    }

    fn usage_of(&self, billed: &Billed<'_>) -> Vec<u8> {
        let mut usage = Vec::with_capacity(256);
        push_usage((self.api, UsageIn::Event), billed, self.units.claimed, &mut usage);
        usage
    }
}

/// What an event counts as.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    bytes: u64,
    is_whole: bool,
    is_last: bool,
}

impl Held {
    /// Appends the event, with that usage where there is one. `more` is raw text of further members with a leading comma.
    fn push(&self, usage: Option<&[u8]>, more: &[u8], out: &mut Vec<u8>) {
        let text = self.text.trim_ascii_end();
        let end = text.len().saturating_sub(1);
        let bytes = &text.as_bytes()[..end];
        push_start(&self.kind, out);
        match (&self.usage, usage) {
            (Some(span), Some(usage)) => {
                out.extend_from_slice(&bytes[..span.start]);
                out.extend_from_slice(usage);
                out.extend_from_slice(&bytes[span.end..]);
            }
            (None, Some(usage)) => {
                out.extend_from_slice(bytes);
                out.extend_from_slice(b",\"usage\":");
                out.extend_from_slice(usage);
            }
            (_, None) => out.extend_from_slice(bytes),
        }
        out.extend_from_slice(self.missing.as_bytes());
        out.extend_from_slice(more);
        out.extend_from_slice(b"}\n\n");
    }
}

impl Passage for MediaPassage {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        let Some(bytes) = event.data() else {
            sink.push(event.raw.clone());
            return Ok(Seen::default());
        };
        if event.is_done() {
            // Fewer pictures than were asked for are an answer if the seller says that there are no more.
            let is_whole = self.held.is_some();
            let (finishes, finish) = (u32::from(is_whole), is_whole.then_some(Finish::Stop));
            let news = StreamNews { usage: None, is_last: true };
            return Ok(Seen { finishes, finish, news, ..Seen::default() });
        }
        let cut = || SellerError::cut("the stream was cut inside an event");
        let text = std::str::from_utf8(bytes).map_err(|_| cut())?;
        let view = EventView::of(text).map_err(|_| cut())?;
        let kind = &text[view.kind.clone()];
        if view.has_error || event.named_error || kind == "error" {
            return Err(front::dialect(self.api.shape()).read_error(200, bytes));
        }
        let Counted { bytes, is_whole, is_last } = self.count(kind, &view)?;
        let mut news = StreamNews { usage: None, is_last };
        if let Some(span) = &view.usage {
            let raw = &text[span.clone()];
            self.usage = Some(on_one_line(raw).into_owned());
            news.usage = match claim_of(self.api, raw) {
                TokenClaim::None => None,
                TokenClaim::Unreadable => Some(None),
                TokenClaim::Tokens(tokens) => Some(Some(tokens)),
            };
        }
        if is_whole {
            self.hold(kind, text, &view, sink);
        } else {
            sink.push(event.raw.clone());
        }
        let finish = is_last.then_some(Finish::Stop);
        let units = Some(self.units);
        Ok(Seen {
            content_bytes: bytes,
            finishes: u32::from(is_last),
            finish,
            news,
            units,
            ..Seen::default()
        })
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        if let Some(held) = self.held.take() {
            held.push(Some(&self.usage_of(billed)), more, out);
        }
        out.extend_from_slice(DONE_EVENT);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        push_start("error", out);
        out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"message\":");
        push_string(out, &error.message);
        out.extend_from_slice(b",\"type\":");
        push_string(out, error.kind.openai_type());
        // A text: OpenRouter's client takes no number here.
        out.extend_from_slice(b",\"code\":\"");
        push_u64(out, u64::from(error.status()));
        out.extend_from_slice(b"\",\"param\":null},\"usage\":");
        out.extend_from_slice(&self.usage_of(billed));
        out.extend_from_slice(more);
        out.extend_from_slice(b"}\n\n");
        out.extend_from_slice(DONE_EVENT);
    }

    fn raw_usage(&self) -> Option<&str> {
        self.usage.as_deref()
    }
}

impl EventView {
    fn of(text: &str) -> Result<Self, JsonError> {
        let mut view = Self::default();
        let mut walk = Walk::new(text);
        walk.members::<JsonError>(|walk, key| {
            let name = walk.text(key);
            let value = walk.value()?;
            let raw = walk.text(value.clone());
            match name {
                "type" if raw.starts_with('"') => view.kind = value.start + 1..value.end - 1,
                "usage" => view.usage = (raw != "null").then_some(value),
                "error" => view.has_error = raw != "null",
                "delta" | "text" | "audio" | "b64_json" | "url" if raw.starts_with('"') => {
                    view.has_content = true;
                    view.content_bytes = view.content_bytes.max(value.len() as u64 - 2);
                }
                "created" if is_whole_number(raw) => view.created = Some(value),
                "created_at" if is_whole_number(raw) => view.created_at = Some(value),
                "duration" => view.seconds = whole_seconds(raw),
                _ => {}
            }
            Ok(())
        })?;
        walk.finish()?;
        if let Some(usage) = &view.usage {
            view.seconds = usage_seconds(&text[usage.clone()]).or(view.seconds);
        }
        Ok(view)
    }
}

fn is_whole_number(raw: &str) -> bool {
    raw.bytes().all(|byte| byte.is_ascii_digit())
}

/// An answer in one piece as the stream that it would have been.
pub fn events_of(job: &Job, head: &Head, answer: &PassedAnswer) -> Bytes {
    let body = answer.bytes();
    let mut out = Vec::with_capacity(body.len() * 4 / 3 + 512);
    match (job.api, std::str::from_utf8(body)) {
        (Api::Images, Ok(text)) => push_pictures(text, head, &mut out),
        (Api::Transcription, Ok(text)) => push_transcript(text, &mut out),
        _ => push_sound(body, &mut out),
    }
    out.extend_from_slice(DONE_EVENT);
    Bytes::from(out)
}

/// One event for each picture, with what the answer says about all of them.
fn push_pictures(text: &str, head: &Head, out: &mut Vec<u8>) {
    let (mut about, mut list, mut usage) = (Vec::new(), "[]", None);
    let mut missing = vec![
        ("created_at", head.created_s.to_string()),
        ("background", "\"auto\"".to_owned()),
        ("output_format", "\"png\"".to_owned()),
        ("quality", "\"auto\"".to_owned()),
        ("size", "\"auto\"".to_owned()),
    ];
    each_member(text, |key, value| match key {
        "data" => list = value,
        "usage" => usage = Some(value),
        "created" => value.clone_into(&mut missing[0].1),
        _ => {
            missing.retain(|(name, _)| *name != key);
            push_member(key, value, &mut about);
        }
    });
    for (name, value) in &missing {
        push_member(name, value, &mut about);
    }
    let mut pictures = Vec::new();
    // It was read before: it is a list.
    let _ = Walk::new(list).items::<JsonError>(|walk| {
        let item = walk.value()?;
        pictures.push(walk.text(item));
        Ok(())
    });
    let pictures: Vec<_> = pictures.into_iter().filter(|item| super::answer::is_picture(item)).collect();
    for (n, picture) in pictures.iter().enumerate() {
        push_start(COMPLETED, out);
        push_type(COMPLETED, out);
        each_member(picture, |key, value| push_member(key, value, out));
        out.extend_from_slice(&about);
        if let Some(usage) = usage.filter(|_| n + 1 == pictures.len()) {
            push_member("usage", usage, out);
        }
        close(out);
    }
}

fn push_transcript(text: &str, out: &mut Vec<u8>) {
    let mut said = "\"\"";
    each_member(text, |key, value| {
        if key == "text" {
            said = value;
        }
    });
    if said.len() > 2 {
        push_start("transcript.text.delta", out);
        push_type("transcript.text.delta", out);
        push_member("delta", said, out);
        close(out);
    }
    push_start("transcript.text.done", out);
    push_type("transcript.text.done", out);
    each_member(text, |key, value| push_member(key, value, out));
    close(out);
}

fn push_sound(sound: &[u8], out: &mut Vec<u8>) {
    for piece in sound.chunks(SOUND_BYTES_PER_EVENT) {
        push_start("speech.audio.delta", out);
        push_type("speech.audio.delta", out);
        out.extend_from_slice(b",\"audio\":\"");
        out.extend_from_slice(STANDARD.encode(piece).as_bytes());
        out.extend_from_slice(b"\"}\n\n");
    }
    push_start("speech.audio.done", out);
    push_type("speech.audio.done", out);
    out.extend_from_slice(b"}\n\n");
}

/// Calls for each member of an object, but for its own `type`.
fn each_member<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str)) {
    // It was read before: it is an object.
    let _ = Walk::new(text).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let (key, value) = (walk.text(key), walk.text(value));
        if key != "type" && value != "null" {
            each(key, value);
        }
        Ok(())
    });
}

fn push_start(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    // The seller's word: no line of its own must come of it.
    out.extend(kind.bytes().filter(|byte| !byte.is_ascii_control()));
    out.extend_from_slice(b"\ndata: ");
}

fn push_type(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":");
    push_string(out, kind);
}

/// `key` is as it was written.
fn push_member(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(on_one_line(value).as_bytes());
}

fn close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n\n");
}

//! Streams of pictures, transcripts and speech, in OpenAI's grammar of events.
//!
//! | endpoint | pieces | the end |
//! | --- | --- | --- |
//! | `images` | `image_generation.partial_image` | `image_generation.completed`, one for each picture |
//! | `audio/transcriptions` | `transcript.text.delta` | `transcript.text.done` |
//! | `audio/speech` | `speech.audio.delta` | `speech.audio.done` |
//!
//! Events pass as they came, those of unknown types too. The last one is held back until the books are written, and then
//! says what was billed. Of several pictures all but the last say a usage of nothing: whoever adds them up has the bill, and
//! OpenAI's client takes no picture without usage. Where a seller ends with fewer pictures than were asked for, they have
//! all gone out, and `image_generation.usage` is the event that says what was billed. What the seller says of its own
//! usage and prices goes into the books, and not to the buyer. A seller that answers in one piece where a stream was asked
//! for (as `whisper-1` does) is heard all the same: [`MediaPassage::of_answer`] says its answer in events.
//!
//! Source: OpenAI's API reference, "Streaming events" of images and audio; OpenRouter's client for its `error` event.

mod pieces;

use self::pieces::{Members, each_member, push_event, push_start};
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
use bourse_types::{Charge, Usage};
use bytes::Bytes;
use std::ops::Range;

const COMPLETED: &str = "image_generation.completed";
/// What tells the bill where fewer pictures came than were asked for.
const FEWER: &str = "image_generation.usage";
/// Members that are ours to write: the bill, and what we add to a last event.
const OURS: [&str; 5] = ["usage", "cost", "cost_details", "bourse", "continued_by"];

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
    /// The last event: it goes out with the price.
    held: Option<Unbilled>,
    /// The seller's count of tokens, of all its events.
    claim: TokenClaim,
    /// The only usage object, on one line.
    usage: Option<String>,
}

/// An event without what its seller says of usage and money; ours may be put into it.
struct Unbilled {
    kind: String,
    members: Members,
    /// Where the picture or the text stands in them.
    content: Option<Range<usize>>,
}

/// What was found in an event. Spans point into its payload.
#[derive(Debug, Default)]
struct EventView {
    /// Within its quotes.
    kind: Range<usize>,
    /// Unless it is null.
    usage: Option<Range<usize>>,
    /// Whether it has members that are ours to write.
    has_ours: bool,
    has_error: bool,
    /// Whether a name is written with escapes: others would read it as one that we write ourselves.
    has_escaped_name: bool,
    /// Bytes of each, where it is there.
    base64: Option<u64>,
    url: Option<u64>,
    sound: Option<u64>,
    delta: Option<u64>,
    text: Option<u64>,
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
            claim: TokenClaim::None,
            usage: None,
        }
    }

    /// The passage of an answer in one piece, and the events that it would have been.
    pub fn of_answer(job: &Job, head: &Head, answer: &PassedAnswer) -> (Self, Bytes) {
        let mut passage = Self::new(job, head);
        if let (Api::Images, Some(pictures)) = (job.api, answer.units.counted) {
            // The number is known: one of them is the last.
            passage.units_max = passage.units_max.min(pictures);
        }
        (passage, pieces::of(job, head, answer))
    }

    /// Counts what an event brings; whether it is the last one.
    fn count(&mut self, kind: &str, view: &EventView) -> Result<Counted, SellerError> {
        let piece = |bytes: Option<u64>| Counted { bytes: bytes.unwrap_or(0), ..Counted::default() };
        let last = |bytes: u64| Counted { bytes, is_whole: true, is_last: true };
        let counted = match (self.api, kind) {
            (Api::Images, "image_generation.partial_image") if view.picture() > Some(0) => {
                self.units.counted = Some(self.pictures + 1);
                piece(view.picture())
            }
            (Api::Images, COMPLETED) => {
                let bytes = view.picture().filter(|bytes| *bytes > 0);
                let bytes = bytes.ok_or_else(|| SellerError::cut("sent no image"))?;
                self.pictures += 1;
                self.units.counted = Some(self.pictures);
                Counted { is_last: self.pictures >= self.units_max, ..last(bytes) }
            }
            (Api::Transcription, "transcript.text.delta") => piece(view.delta),
            (Api::Transcription, "transcript.text.done") => {
                let bytes = view.text.ok_or_else(|| SellerError::cut("sent no transcript"))?;
                self.units.claimed = view.seconds;
                // Silence has a transcript, too.
                last(if self.content_bytes == 0 { bytes.max(1) } else { 0 })
            }
            (Api::Speech, "speech.audio.delta") if view.sound > Some(0) => {
                self.units.counted = Some(self.units_max);
                piece(view.sound)
            }
            (Api::Speech, "speech.audio.done") if self.content_bytes == 0 => {
                return Err(SellerError::cut("sent no sound"));
            }
            (Api::Speech, "speech.audio.done") => last(0),
            _ => Counted::default(),
        };
        self.content_bytes = self.content_bytes.saturating_add(counted.bytes);
        if self.api == Api::Transcription {
            self.units.least = seconds_least(self.content_bytes);
        }
        Ok(counted)
    }

    /// Adds up what the seller claims. Each picture tells its own tokens.
    fn hear(&mut self, usage: &str) {
        let is_first = self.claim == TokenClaim::None && self.usage.is_none();
        let before = if self.api == Api::Images { self.claim } else { TokenClaim::None };
        self.claim = before.plus(claim_of(self.api, usage));
        // What it says of one picture is not true of several.
        self.usage = (is_first || self.api != Api::Images).then(|| on_one_line(usage).into_owned());
    }

    /// An event without what the seller says of usage and money.
    fn unbilled(&self, kind: &str, text: &str, view: &EventView) -> Unbilled {
        let (mut members, mut content) = (Members::with_capacity(text.len() + 128), None);
        let mut said = Vec::new();
        each_member(text, |key, value| {
            let is_time = matches!(key, "created" | "created_at");
            let is_nothing = value == "null" || is_time && !is_whole_number(value);
            if OURS.contains(&key) || kind == COMPLETED && is_nothing {
                return;
            }
            let span = members.push(key, value);
            said.push((key, value));
            if matches!(key, "b64_json" | "url" | "text") && value.starts_with('"') {
                content = Some(span);
            }
        });
        if kind == COMPLETED {
            // OpenAI's client wants `created_at`, OpenRouter's wants `created`.
            let ours = self.created_s.to_string();
            let known = view.created.clone().or(view.created_at.clone()).map_or(&*ours, |span| &text[span]);
            for (name, value) in pieces::assumed(known, &said) {
                if said.iter().all(|(key, _)| *key != name) {
                    members.push(name, value);
                }
            }
        }
        Unbilled { kind: kind.to_owned(), members, content }
    }

    fn usage_of(&self, billed: &Billed<'_>) -> Vec<u8> {
        let mut usage = Vec::with_capacity(256);
        push_usage((self.api, UsageIn::Event), billed, self.units.claimed, &mut usage);
        usage
    }

    /// The usage of a picture that is not the last one.
    fn no_usage(&self) -> Vec<u8> {
        let (usage, charge) = (Usage::default(), Charge::ZERO);
        self.usage_of(&Billed { usage: &usage, charge: &charge, claim: None, raw: None, is_byok: false })
    }
}

/// What an event counts as.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    bytes: u64,
    is_whole: bool,
    is_last: bool,
}

impl Unbilled {
    /// Appends the event with that usage. `more` is raw text of further members with a leading comma.
    fn push(&self, usage: &[u8], more: &[u8], out: &mut Vec<u8>) {
        let more = [b",\"usage\":", usage, more].concat();
        push_event(&self.kind, &self.members, &more, out);
    }
}

impl Passage for MediaPassage {
    fn event(&mut self, event: &Event, sink: &mut dyn Sink) -> Result<Seen, SellerError> {
        let Some(bytes) = event.data() else {
            sink.push(event.sign_of_life());
            return Ok(Seen::default());
        };
        if event.is_done() && !event.named_error {
            // Fewer pictures than were asked for are an answer if the seller says that there are no more.
            let is_whole = self.pictures > 0;
            self.units.counted = if is_whole { Some(self.pictures) } else { self.units.counted };
            let (finishes, finish) = (u32::from(is_whole), is_whole.then_some(Finish::Stop));
            let news = StreamNews { usage: None, is_last: true };
            return Ok(Seen { finishes, finish, news, units: Some(self.units), ..Seen::default() });
        }
        let cut = || SellerError::cut("the stream was cut inside an event");
        let text = std::str::from_utf8(bytes).map_err(|_| cut())?;
        let view = EventView::of(text).map_err(|_| cut())?;
        let kind = &text[view.kind.clone()];
        if view.has_escaped_name || kind.contains('\\') {
            return Err(SellerError::cut("sent an event with escapes in the names of its members"));
        }
        if view.has_error || event.named_error || kind == "error" {
            return Err(front::dialect(self.api.shape()).read_error(200, bytes));
        }
        let Counted { bytes, is_whole, is_last } = self.count(kind, &view)?;
        // A seller that is such a market itself tells its bill in an event of its own; ours comes in its place.
        let is_bill = self.api == Api::Images && kind == FEWER;
        if let Some(span) = view.usage.as_ref().filter(|_| is_whole || is_bill) {
            self.hear(&text[span.clone()]);
        }
        let usage = match self.claim {
            TokenClaim::None => None,
            TokenClaim::Unreadable => Some(None),
            TokenClaim::Tokens(tokens) => Some(Some(tokens)),
        };
        let news = StreamNews { usage, is_last };
        if is_last {
            self.held = Some(self.unbilled(kind, text, &view));
        } else if is_whole {
            let whole = self.unbilled(kind, text, &view);
            let mut out = Vec::with_capacity(whole.members.len() + 512);
            whole.push(&self.no_usage(), b"", &mut out);
            sink.push(Bytes::from(out));
        } else if view.has_ours && !is_bill {
            let rest = self.unbilled(kind, text, &view);
            let mut out = Vec::with_capacity(rest.members.len() + 128);
            push_event(kind, &rest.members, b"", &mut out);
            sink.push(Bytes::from(out));
        } else if !is_bill {
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
        let last = self.held.take().unwrap_or_else(|| Unbilled {
            kind: FEWER.to_owned(),
            members: Members::of_type(FEWER),
            content: None,
        });
        last.push(&self.usage_of(billed), more, out);
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

    fn kept(&self) -> Option<&[u8]> {
        let last = self.held.as_ref()?;
        last.content.clone().map(|span| last.members.at(span))
    }
}

impl EventView {
    fn picture(&self) -> Option<u64> {
        self.base64.filter(|bytes| *bytes > 0).or(self.url).or(self.base64)
    }

    fn of(text: &str) -> Result<Self, JsonError> {
        let mut view = Self::default();
        let mut walk = Walk::new(text);
        walk.members::<JsonError>(|walk, key| {
            let name = walk.text(key);
            let value = walk.value()?;
            let raw = walk.text(value.clone());
            view.has_escaped_name |= name.contains('\\');
            view.has_ours |= OURS.contains(&name);
            let bytes = raw.starts_with('"').then(|| value.len() as u64 - 2);
            match name {
                "type" if bytes.is_some() => view.kind = value.start + 1..value.end - 1,
                "type" => view.kind = 0..0,
                "usage" => view.usage = (raw != "null").then_some(value),
                "error" => view.has_error = raw != "null",
                "b64_json" => view.base64 = bytes,
                "url" => view.url = bytes,
                "audio" => view.sound = bytes,
                "delta" => view.delta = bytes,
                "text" => view.text = bytes,
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

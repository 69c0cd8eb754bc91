//! Endpoints that pass through: embeddings, rerank, images, speech, transcription.
//!
//! No grammar of conversation is involved and nothing is translated: the buyer's body goes to a seller that offers
//! the endpoint, with the seller's name of the model in it and our own members left out. What is read is what the market
//! needs to bound the price before and to bill after: bytes of text, and *units* (images, searches, characters, seconds).
//!
//! | endpoint | text that becomes prompt tokens | unit | at most |
//! | --- | --- | --- | --- |
//! | `embeddings` | `input` | – | |
//! | `rerank` | `query` with every document | search | one per 100 documents |
//! | `images` | `prompt` | image | `n` |
//! | `audio/speech` | `input` | character | characters of `input` |
//! | `audio/transcriptions` | – | second | one per [`BYTES_PER_SECOND_LEAST`] bytes of the file |
//!
//! Pictures, transcripts and speech are streamed where the buyer asks for it, as OpenAI's API does ([`MediaPassage`]); vectors
//! and ranks are not. Limits: raw sound goes out in one piece (`stream_format: "sse"` streams it); a body is at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).

mod answer;
mod form;
mod ranking;
mod sound;
mod stream;
mod usage;

pub use answer::{PassedAnswer, read_answer};
pub use form::{FORM_PARTS_MAX, between_boundaries, parse_form};
pub(super) use sound::form_of;
pub use stream::MediaPassage;
pub use usage::{TokenClaim, read_usage};

use super::fields::{self, Routed, RoutingDraft, wrong};
use super::{Api, Job, Member, MemberRule, Passed, openai};
use crate::error::{ApiError, ErrorType};
use crate::json::Walk;
use bytes::Bytes;
use std::ops::Range;

/// Most inputs of one embeddings request.
pub const INPUTS_MAX: usize = 2_048;
/// Most documents of one rerank request.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Documents that one search covers.
pub const DOCUMENTS_PER_SEARCH: u64 = 100;
/// Most images of one request.
pub const IMAGES_MAX: u32 = 10;
/// Longest text that is spoken, in characters.
pub const SPEECH_CHARACTERS_MAX: usize = 100_000;
/// Bytes of a second of the most compressed speech that is met (Opus at 6 kbit/s): a file is not longer than its bytes
/// over this.
pub const BYTES_PER_SECOND_LEAST: u64 = 750;

/// Reads a request by the content type of its body.
pub fn parse_typed(api: Api, content_type: Option<&str>, body: Bytes) -> Result<Job, ApiError> {
    match content_type.map(str::trim_start) {
        Some(kind) if kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/")) => {
            if api == Api::Transcription {
                return parse_form(kind, &body);
            }
            let message = "this endpoint reads JSON: send the body as application/json";
            Err(ApiError::new(ErrorType::InvalidRequest, message))
        }
        _ => parse(api, body),
    }
}

/// Reads a request with a JSON body.
pub fn parse(api: Api, body: Bytes) -> Result<Job, ApiError> {
    let mut walk = openai::walk_body(&body)?;
    let mut draft = Draft { api, ..Draft::default() };
    walk.members(|walk, key| draft.member(walk, key))?;
    walk.finish()?;
    draft.finish(body)
}

#[derive(Default)]
struct Draft {
    api: Api,
    members: Vec<Member>,
    /// One bit for each of [`KNOWN`], then one for each of [`RoutingDraft::MEMBERS`].
    seen: u64,
    routing: RoutingDraft,
    /// The member that is worked on.
    input: Option<Range<usize>>,
    query_bytes: u64,
    /// How many texts, documents or token lists it holds.
    entries: u64,
    units: u64,
    is_text: bool,
    is_stream: bool,
}

/// Members that are read here; each may stand once.
const KNOWN: [&str; 9] = [
    "input",
    "query",
    "documents",
    "prompt",
    "n",
    "stream",
    "input_audio",
    "response_format",
    "stream_format",
];
/// Formats of a transcript that are no JSON.
const TEXT_FORMATS: [&str; 3] = ["text", "srt", "vtt"];

impl Draft {
    fn member(&mut self, walk: &mut Walk<'_>, key: Range<usize>) -> Result<(), ApiError> {
        fields::members_bounded(self.members.len())?;
        let name = fields::unescaped(walk.text(key.clone()));
        fields::known_once(&name, &KNOWN, &mut self.seen)?;
        let value = walk.value()?;
        let raw = walk.text(value.clone());
        let rule = if let Some(rule) = self.routing.member(&name, raw, &value)? {
            rule
        } else {
            if raw != "null" {
                self.field(&name, raw, &value)?;
            }
            MemberRule::Copy
        };
        self.members.push(Member { key, value, rule });
        Ok(())
    }

    fn field(&mut self, name: &str, raw: &str, span: &Range<usize>) -> Result<(), ApiError> {
        match (name, self.api) {
            ("stream", Api::Images | Api::Transcription) => self.is_stream = fields::boolean("stream", raw)?,
            ("stream", api) if fields::boolean("stream", raw)? => return Err(no_stream(api)),
            ("stream_format", Api::Speech) => {
                self.is_stream = match &*fields::string("stream_format", raw)? {
                    "sse" => true,
                    "audio" => false,
                    _ => return Err(wrong("stream_format", "`sse` or `audio`")),
                }
            }
            ("input", Api::Embeddings) => {
                self.entries = count(raw, "input", INPUTS_MAX)? as u64;
                self.input = Some(span.clone());
            }
            ("input", Api::Speech) => {
                let characters = fields::string("input", raw)?.chars().count();
                if characters == 0 || characters > SPEECH_CHARACTERS_MAX {
                    let want = format!("a text of 1 to {SPEECH_CHARACTERS_MAX} characters");
                    return Err(wrong("input", &want));
                }
                self.units = characters as u64;
                self.input = Some(span.clone());
            }
            ("query", Api::Rerank) => {
                fields::string("query", raw)?;
                self.query_bytes = raw.len() as u64;
            }
            ("documents", Api::Rerank) => {
                self.entries = documents(raw)?;
                self.input = Some(span.clone());
            }
            ("prompt", Api::Images) => {
                fields::string("prompt", raw)?;
                self.input = Some(span.clone());
            }
            ("n", Api::Images) => self.units = u64::from(fields::whole("n", raw, 1, IMAGES_MAX)?),
            ("input_audio", Api::Transcription) => {
                sound::check(raw)?;
                self.input = Some(span.clone());
            }
            ("response_format", Api::Transcription) => {
                self.is_text = TEXT_FORMATS.contains(&&*fields::string("response_format", raw)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self, body: Bytes) -> Result<Job, ApiError> {
        let Routed { model, fallbacks, preferences, preferences_span, session, routing } =
            self.routing.finish()?;
        let missing = |param: &'static str, what: &str| {
            ApiError::field(param, format!("`{param}` is missing: send {what}"))
        };
        let (param, what) = match self.api {
            Api::Rerank => ("documents", "an array of texts"),
            Api::Images => ("prompt", "a text"),
            Api::Transcription => {
                ("input_audio", "an object with `data` and `format`, or a form with `file`")
            }
            _ => ("input", "a text"),
        };
        let input = self.input.ok_or_else(|| missing(param, what))?;
        if self.api == Api::Rerank && self.query_bytes == 0 {
            return Err(missing("query", "the text to compare the documents with"));
        }
        let units_max = match self.api {
            Api::Rerank => self.entries.div_ceil(DOCUMENTS_PER_SEARCH),
            Api::Images => self.units.max(1),
            // Base64 has four bytes for three.
            Api::Transcription => (input.len() as u64 * 3 / 4).div_ceil(BYTES_PER_SECOND_LEAST),
            _ => self.units,
        };
        let prompt_bytes_extra = self.query_bytes.saturating_mul(self.entries);
        let (inputs, is_text) = (self.entries, self.is_text);
        streams_json(self.is_stream, is_text)?;
        let passed = Passed { units_max, prompt_bytes_extra, inputs, is_text, form: None };
        // A sound is no text that becomes tokens byte by byte; its seconds are the unit.
        let prompt = if self.api == Api::Transcription { 0..0 } else { input };
        Ok(Job {
            members: self.members,
            fallbacks,
            preferences,
            preferences_span,
            session,
            routing,
            stream: self.is_stream,
            passed: Some(Box::new(passed)),
            ..Job::passing(self.api, body, model, prompt)
        })
    }
}

fn no_stream(api: Api) -> ApiError {
    let want = match api {
        Api::Speech => "left out: speech is streamed with `stream_format` of `sse`",
        _ => "false or left out: this endpoint answers in one piece",
    };
    wrong("stream", want)
}

/// A transcript that is streamed comes in events, whatever its words look like.
fn streams_json(is_stream: bool, is_text: bool) -> Result<(), ApiError> {
    if is_stream && is_text {
        return Err(wrong("response_format", "`json` where the transcript is streamed"));
    }
    Ok(())
}

/// Checks a list of documents, each a text or an object; how many.
fn documents(raw: &str) -> Result<u64, ApiError> {
    let want = || wrong("documents", &format!("an array of 1 to {DOCUMENTS_MAX} texts or objects"));
    if !raw.starts_with('[') {
        return Err(want());
    }
    let mut found = 0;
    Walk::new(raw).items::<ApiError>(|walk| {
        found += 1;
        let is_document = matches!(walk.peek(), b'"' | b'{') && found <= DOCUMENTS_MAX;
        walk.value()?;
        if is_document { Ok(()) } else { Err(want()) }
    })?;
    if found > 0 { Ok(found as u64) } else { Err(want()) }
}

/// Checks that a member is a text or a list that is not empty and not too long; how many entries.
fn count(raw: &str, field: &'static str, max: usize) -> Result<usize, ApiError> {
    let want = || wrong(field, &format!("a text or an array of 1 to {max} entries"));
    if !raw.starts_with('[') {
        fields::string(field, raw).map_err(|_| want())?;
        return if raw.len() > 2 { Ok(1) } else { Err(want()) };
    }
    let mut walk = Walk::new(raw);
    let mut found = 0usize;
    let mut is_tokens = true;
    walk.items::<ApiError>(|walk| {
        is_tokens &= walk.peek().is_ascii_digit();
        walk.value()?;
        found += 1;
        Ok(())
    })?;
    // One list of token ids is one input.
    let entries = if is_tokens && found > 0 { 1 } else { found };
    if (1..=max).contains(&entries) { Ok(entries) } else { Err(want()) }
}

#[cfg(test)]
mod tests;

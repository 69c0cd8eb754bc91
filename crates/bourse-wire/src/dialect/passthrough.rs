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
//! Limits: streams of these endpoints are refused; a body is at most [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).

mod answer;
mod form;

pub use answer::{PassedView, read_usage, view};
pub use form::{FORM_PARTS_MAX, parse_form};

use super::fields::{self, Routed, RoutingDraft, wrong};
use super::{Api, Job, MEMBERS_MAX, Member, MemberRule, Passed, openai};
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
    seen: Vec<String>,
    routing: RoutingDraft,
    /// The member that is worked on.
    input: Option<Range<usize>>,
    query_bytes: u64,
    documents: u64,
    units: u64,
}

/// Members that are read here; each may stand once.
const KNOWN: [&str; 7] = ["input", "query", "documents", "prompt", "n", "stream", "input_audio"];

impl Draft {
    fn member(&mut self, walk: &mut Walk<'_>, key: Range<usize>) -> Result<(), ApiError> {
        if self.members.len() == MEMBERS_MAX {
            let message = format!("the body has more than {MEMBERS_MAX} members: remove unknown ones");
            return Err(ApiError::new(ErrorType::InvalidRequest, message));
        }
        let name = fields::unescaped(walk.text(key.clone())).into_owned();
        if KNOWN.contains(&name.as_str()) || RoutingDraft::MEMBERS.contains(&name.as_str()) {
            if self.seen.contains(&name) {
                let message = format!("`{name}` is given twice: keep one");
                return Err(ApiError::field(name, message));
            }
            self.seen.push(name.clone());
        }
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
            ("stream", _) if fields::boolean("stream", raw)? => {
                return Err(wrong("stream", "false or left out: this endpoint answers in one piece"));
            }
            ("input", Api::Embeddings) => {
                count(raw, "input", INPUTS_MAX)?;
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
                self.documents = count(raw, "documents", DOCUMENTS_MAX)? as u64;
                self.input = Some(span.clone());
            }
            ("prompt", Api::Images) => {
                fields::string("prompt", raw)?;
                self.input = Some(span.clone());
            }
            ("n", Api::Images) => self.units = u64::from(fields::whole("n", raw, 1, IMAGES_MAX)?),
            ("input_audio", Api::Transcription) => self.input = Some(span.clone()),
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
            Api::Rerank => self.documents.div_ceil(DOCUMENTS_PER_SEARCH),
            Api::Images => self.units.max(1),
            // Base64 has four bytes for three.
            Api::Transcription => (input.len() as u64 * 3 / 4).div_ceil(BYTES_PER_SECOND_LEAST),
            _ => self.units,
        };
        let prompt_bytes_extra = self.query_bytes.saturating_mul(self.documents);
        let passed = Passed { units_max, prompt_bytes_extra, form: None };
        // A sound is no text that becomes tokens byte by byte; its seconds are the unit.
        let prompt = if self.api == Api::Transcription { 0..0 } else { input };
        Ok(Job {
            members: self.members,
            fallbacks,
            preferences,
            preferences_span,
            session,
            routing,
            passed: Some(Box::new(passed)),
            ..Job::passing(self.api, body, model, prompt)
        })
    }
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

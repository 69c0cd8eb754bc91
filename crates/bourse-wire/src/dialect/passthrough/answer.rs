//! A seller's answer to a request that passes through: whether it can be sold, what of it is billed, and what the buyer
//! gets.
//!
//! JSON keeps the seller's bytes but for `usage`, which says what was billed, and for what stock clients insist on and
//! some sellers leave out: the model of an answer, the documents of a ranking. Sound and plain text pass as they came.

use super::ranking;
use super::usage::{TokenClaim, UsageIn, claim_of, push_usage, usage_seconds, whole_seconds};
use crate::dialect::grammar::{Billed, PassedUnits, SellerError};
use crate::dialect::{Api, Job, SellerUsage, front};
use crate::json::{JsonError, Walk, push_string};
use bytes::Bytes;
use std::ops::Range;

/// Most bytes of text that are spoken in a second: the least that a transcript's sound can have lasted.
const SPOKEN_BYTES_PER_SECOND_MOST: u64 = 64;

/// A whole answer that can be sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedAnswer {
    body: Bytes,
    form: Form,
    /// Bytes of what was sold, at least 1.
    pub content_bytes: u64,
    /// How many units there are of it.
    pub units: PassedUnits,
    /// The seller's count of tokens.
    pub claim: TokenClaim,
}

/// What an answer consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Json(PassedView),
    Text,
    Sound(String),
}

/// What was found in an answer of JSON. Spans point into the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PassedView {
    /// The value of `usage`, unless it is null.
    usage: Option<Range<usize>>,
    /// The values of `usage` and `model` that say nothing: what we know goes there.
    null_usage: Option<Range<usize>>,
    null_model: Option<Range<usize>>,
    /// The value of a top-level `error`, unless it is null.
    error: Option<Range<usize>>,
    /// The value of `data` or `results`.
    list: Option<Range<usize>>,
    /// Entries of it that hold something.
    entries: u64,
    /// The value of `text`.
    text: Option<Range<usize>>,
    /// Whether the answer names a model.
    has_model: bool,
    /// Seconds of sound, where the answer says so, rounded up.
    seconds: Option<u64>,
    /// Whether a name is written with escapes: others would read it as one that we write ourselves.
    has_escaped_name: bool,
    /// Where further members are put: before the closing brace.
    end: usize,
}

/// Reads a whole answer. An error is one that the seller told, or an answer that cannot be sold.
pub fn read_answer(job: &Job, content_type: Option<&str>, body: Bytes) -> Result<PassedAnswer, SellerError> {
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    let is_text = job.passed.as_ref().is_some_and(|passed| passed.is_text);
    match (job.api, kind.as_str()) {
        (Api::Speech, "" | "application/octet-stream") => {
            sound(job, "application/octet-stream".to_owned(), body)
        }
        (Api::Speech, sounds) if sounds.starts_with("audio/") => {
            sound(job, content_type.unwrap_or_default().to_owned(), body)
        }
        (Api::Transcription, "text/plain" | "text/vtt" | "text/srt" | "application/x-subrip") if is_text => {
            text(body)
        }
        _ => json(job, body),
    }
}

fn sound(job: &Job, content_type: String, body: Bytes) -> Result<PassedAnswer, SellerError> {
    if body.is_empty() {
        return Err(SellerError::cut("sent an empty answer"));
    }
    Ok(PassedAnswer {
        form: Form::Sound(content_type),
        content_bytes: body.len() as u64,
        units: PassedUnits {
            counted: job.passed.as_ref().map(|passed| passed.units_max),
            ..PassedUnits::default()
        },
        claim: TokenClaim::None,
        body,
    })
}

/// A transcript as text; the last moment that subtitles name is how long the sound is at least.
fn text(body: Bytes) -> Result<PassedAnswer, SellerError> {
    let text = std::str::from_utf8(&body).map_err(|_| SellerError::cut("sent a text that is not UTF-8"))?;
    if text.is_empty() {
        return Err(SellerError::cut("sent an empty answer"));
    }
    let content_bytes = text.len() as u64;
    let claimed = text.rsplit_once("-->").and_then(|(_, rest)| moment_seconds(rest));
    Ok(PassedAnswer {
        form: Form::Text,
        content_bytes,
        units: PassedUnits { counted: None, claimed, least: seconds_least(content_bytes) },
        claim: TokenClaim::None,
        body,
    })
}

/// Seconds that a transcript of so many bytes took to be said, at least.
pub(super) fn seconds_least(content_bytes: u64) -> u64 {
    content_bytes.div_ceil(SPOKEN_BYTES_PER_SECOND_MOST)
}

/// Seconds of `01:02:03,400` or `02:03.400` at the beginning of a text, rounded up.
fn moment_seconds(text: &str) -> Option<u64> {
    let moment = text.split_whitespace().next()?.replace(',', ".");
    let (before, seconds) = moment.rsplit_once(':')?;
    let minutes = before
        .split(':')
        .try_fold(0u64, |sum, part| sum.checked_mul(60)?.checked_add(part.parse::<u32>().ok()?.into()))?;
    minutes.checked_mul(60)?.checked_add(whole_seconds(seconds)?)
}

fn json(job: &Job, body: Bytes) -> Result<PassedAnswer, SellerError> {
    let text =
        std::str::from_utf8(&body).map_err(|_| SellerError::cut("sent an answer that is not UTF-8"))?;
    let view = view(job.api, text).map_err(|_| SellerError::cut("sent an answer that is not JSON"))?;
    if view.has_escaped_name {
        return Err(SellerError::cut("sent an answer with escapes in the names of its members"));
    }
    if view.error.is_some() {
        // The status said that all is well; only the body can say what is not.
        return Err(front::dialect(job.api.shape()).read_error(200, &body));
    }
    let Some(passed) = &job.passed else { return Err(SellerError::cut("answered something else")) };
    let found = match job.api {
        Api::Embeddings if view.entries != passed.inputs => Err("did not send one vector for each input"),
        Api::Rerank if view.entries == 0 => Err("ranked no document"),
        Api::Rerank => ranking::check(job, view.list.as_ref().map_or("", |span| &text[span.clone()])),
        Api::Images if view.entries == 0 => Err("sent no image"),
        Api::Speech => Err("sent no sound"),
        Api::Transcription if view.text.is_none() => Err("sent no transcript"),
        _ => Ok(()),
    };
    found.map_err(SellerError::cut)?;
    let spoken = view.text.as_ref().map(|span| span.len().saturating_sub(2) as u64);
    let content_bytes = spoken.filter(|_| job.api == Api::Transcription).unwrap_or(text.len() as u64).max(1);
    Ok(PassedAnswer {
        content_bytes,
        units: PassedUnits {
            counted: match job.api {
                Api::Images => Some(view.entries),
                Api::Rerank => Some(passed.units_max),
                _ => None,
            },
            claimed: view.seconds,
            least: seconds_least(content_bytes),
        },
        claim: view.usage.as_ref().map(|span| claim_of(job.api, &text[span.clone()])).unwrap_or_default(),
        form: Form::Json(view),
        body,
    })
}

/// Looks at one whole answer of JSON.
pub(super) fn view(api: Api, body: &str) -> Result<PassedView, JsonError> {
    let mut view = PassedView { end: body.trim_ascii_end().len().saturating_sub(1), ..PassedView::default() };
    let list = if api == Api::Rerank { "results" } else { "data" };
    let mut walk = Walk::new(body);
    walk.members::<JsonError>(|walk, key| {
        let name = walk.text(key);
        view.has_escaped_name |= name.contains('\\');
        if name == list && walk.peek() == b'[' {
            let start = walk.at();
            let mut entries = 0;
            walk.items::<JsonError>(|walk| {
                let item = walk.value()?;
                entries += u64::from(is_something(api, walk.text(item)));
                Ok(())
            })?;
            (view.entries, view.list) = (entries, Some(start..walk.at()));
            return Ok(());
        }
        let value = walk.value()?;
        let raw = walk.text(value.clone());
        match name {
            "usage" if raw == "null" => view.null_usage = Some(value),
            "usage" => view.usage = Some(value),
            "error" => view.error = (raw != "null").then_some(value),
            "model" if raw.starts_with('"') => view.has_model = true,
            "model" => view.null_model = Some(value),
            "text" if raw.starts_with('"') => view.text = Some(value),
            "duration" => view.seconds = whole_seconds(raw),
            _ => {}
        }
        Ok(())
    })?;
    walk.finish()?;
    if let Some(usage) = &view.usage {
        view.seconds = usage_seconds(&body[usage.clone()]).or(view.seconds);
    }
    Ok(view)
}

/// Whether an entry holds what was bought.
fn is_something(api: Api, item: &str) -> bool {
    if api == Api::Images { is_picture(item) } else { item.starts_with('{') }
}

/// Whether an entry is a picture: it is there in bytes or by its address.
pub(super) fn is_picture(item: &str) -> bool {
    let mut found = false;
    let walked = Walk::new(item).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let is_content = matches!(walk.text(key), "b64_json" | "url");
        found |= is_content && walk.text(value.clone()).starts_with('"') && value.len() > 2;
        Ok(())
    });
    walked.is_ok() && found
}

impl PassedAnswer {
    /// What the seller sent.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.body
    }

    /// The content type for the buyer.
    pub fn content_type(&self) -> &str {
        match &self.form {
            Form::Json(_) => "application/json",
            Form::Text => "text/plain; charset=utf-8",
            Form::Sound(content_type) => content_type,
        }
    }

    /// The seller's count of tokens, where there is one that can be read.
    pub fn tokens_claimed(&self) -> Option<SellerUsage> {
        match self.claim {
            TokenClaim::Tokens(usage) => Some(usage),
            TokenClaim::None | TokenClaim::Unreadable => None,
        }
    }

    /// The bytes for the buyer. `more` is raw text of further members with a leading comma.
    pub fn write(&self, job: &Job, billed: &Billed<'_>, more: &[u8]) -> Bytes {
        let Form::Json(view) = &self.form else { return self.body.clone() };
        let text = std::str::from_utf8(&self.body).unwrap_or_default();
        let mut usage = Vec::with_capacity(256);
        let raw = view.usage.as_ref().map(|span| &text[span.clone()]);
        push_usage((job.api, UsageIn::Answer), &Billed { raw, ..*billed }, self.units.claimed, &mut usage);
        let mut pieces = Vec::with_capacity(2);
        if let Some(list) = view.list.as_ref().filter(|_| job.api == Api::Rerank) {
            pieces.push((list.clone(), ranking::with_documents(job, &text[list.clone()])));
        }
        if let Some(span) = view.usage.as_ref().or(view.null_usage.as_ref()) {
            pieces.push((span.clone(), std::mem::take(&mut usage)));
        }
        let mut model = Vec::new();
        if !view.has_model && matches!(job.api, Api::Embeddings | Api::Rerank) {
            push_string(&mut model, job.model.as_str());
        }
        if let Some(span) = view.null_model.as_ref().filter(|_| !model.is_empty()) {
            pieces.push((span.clone(), std::mem::take(&mut model)));
        }
        pieces.sort_by_key(|(span, _)| span.start);
        let mut out = Vec::with_capacity(self.body.len() + usage.len() + more.len() + 64);
        let mut at = 0;
        for (span, instead) in &pieces {
            out.extend_from_slice(&self.body[at..span.start]);
            out.extend_from_slice(instead);
            at = span.end;
        }
        out.extend_from_slice(&self.body[at..view.end]);
        if !model.is_empty() {
            out.extend_from_slice(b",\"model\":");
            out.extend_from_slice(&model);
        }
        if !usage.is_empty() {
            out.extend_from_slice(b",\"usage\":");
            out.extend_from_slice(&usage);
        }
        out.extend_from_slice(more);
        out.push(b'}');
        Bytes::from(out)
    }
}

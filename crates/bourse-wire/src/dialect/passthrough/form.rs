//! Bodies that are forms (`multipart/form-data`, RFC 7578): a sound to transcribe.
//!
//! The file is not looked into and not copied but once, when the seller's name of the model is put in.

use super::{BYTES_PER_SECOND_LEAST, TEXT_FORMATS, streams_json};
use crate::dialect::fields::{Routed, RoutingDraft, wrong};
use crate::dialect::{Api, BODY_BYTES_MAX, FormParts, Job, Passed, openai};
use crate::error::{ApiError, ErrorType};
use crate::json::push_string;
use bytes::Bytes;
use std::ops::Range;

/// Most parts of a form.
pub const FORM_PARTS_MAX: usize = 64;

/// Reads a transcription request whose body is a form.
pub fn parse_form(content_type: &str, body: &Bytes) -> Result<Job, ApiError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(openai::body_too_large());
    }
    let boundary = boundary(content_type)
        .ok_or_else(|| wrong("content-type", "multipart/form-data with a `boundary`"))?;
    let parts = parts(body, boundary)?;
    let find = |name: &str| {
        let mut found = parts.iter().filter(|part| part.name == name);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => {
                Err(ApiError::field(name.to_owned(), format!("`{name}` is given twice: keep one")))
            }
            (one, _) => Ok(one),
        }
    };
    let text =
        |part: &Part| std::str::from_utf8(&body[part.value.clone()]).map(str::trim).unwrap_or_default();
    let model = find("model")?.ok_or_else(|| ApiError::field("model", "`model` is missing: name one"))?;
    let file = find("file")?.ok_or_else(|| ApiError::field("file", "`file` is missing: attach the sound"))?;
    if file.value.is_empty() {
        return Err(wrong("file", "a sound that is not empty"));
    }
    let stream = match find("stream")?.map(text) {
        None | Some("false" | "") => false,
        Some("true") => true,
        Some(_) => return Err(wrong("stream", "`true` or `false`")),
    };
    let provider = find("provider")?;
    let mut routing = RoutingDraft::default();
    let mut quoted = Vec::new();
    push_string(&mut quoted, text(model));
    routing.member("model", std::str::from_utf8(&quoted).unwrap_or_default(), &model.value)?;
    if let Some(part) = provider {
        routing.member("provider", text(part), &part.value)?;
    }
    let Routed { model: slug, preferences, preferences_span, routing, .. } = routing.finish()?;
    let form = FormParts {
        content_type: content_type.to_owned(),
        model: model.value.clone(),
        dropped: provider.map(|part| part.whole.clone()),
    };
    let is_text = find("response_format")?.is_some_and(|part| TEXT_FORMATS.contains(&text(part)));
    streams_json(stream, is_text)?;
    let units_max = (file.value.len() as u64).div_ceil(BYTES_PER_SECOND_LEAST);
    let passed = Passed { units_max, prompt_bytes_extra: 0, inputs: 1, is_text, form: Some(form) };
    Ok(Job {
        preferences,
        preferences_span,
        routing,
        stream,
        passed: Some(Box::new(passed)),
        ..Job::passing(Api::Transcription, body.clone(), slug, 0..0)
    })
}

impl FormParts {
    /// The body for a seller: its own name of the model put in, our own part left out.
    pub(crate) fn rebuild(&self, body: &[u8], upstream_id: &str) -> Bytes {
        let mut out = Vec::with_capacity(body.len() + upstream_id.len());
        let drop = self.dropped.clone().unwrap_or(body.len()..body.len());
        let cuts = if drop.start < self.model.start {
            [(drop, &b""[..]), (self.model.clone(), upstream_id.as_bytes())]
        } else {
            [(self.model.clone(), upstream_id.as_bytes()), (drop, &b""[..])]
        };
        let mut at = 0;
        for (span, instead) in cuts {
            out.extend_from_slice(&body[at..span.start]);
            out.extend_from_slice(instead);
            at = span.end;
        }
        out.extend_from_slice(&body[at..]);
        Bytes::from(out)
    }
}

/// What stands before, between and after the boundaries of a form, in order; none where the content type names no form.
/// The same form under another boundary gives the same.
pub fn between_boundaries<'b>(content_type: &str, body: &'b [u8]) -> Option<impl Iterator<Item = &'b [u8]>> {
    let line = format!("--{}", boundary(content_type)?);
    let line_bytes = line.len();
    let ends: Vec<usize> = memchr::memmem::find_iter(body, line.as_bytes()).collect();
    let starts = std::iter::once(0).chain(ends.clone().into_iter().map(move |end| end + line_bytes));
    Some(starts.zip(ends.into_iter().chain([body.len()])).map(|(start, end)| &body[start..end]))
}

/// One part: its name, its value, and everything from its boundary to the next.
struct Part {
    name: String,
    value: Range<usize>,
    whole: Range<usize>,
}

/// The boundary that a content type names.
fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    // RFC 2046, section 5.1.1.
    (1..=70).contains(&value.len()).then_some(value)
}

fn parts(body: &[u8], boundary: &str) -> Result<Vec<Part>, ApiError> {
    let broken = || {
        ApiError::new(
            ErrorType::InvalidRequest,
            "the form is broken: each part needs its boundary, a `content-disposition` with a name, and an end",
        )
    };
    let line = format!("--{boundary}");
    let mark = memchr::memmem::Finder::new(line.as_bytes());
    let mut at = mark.find(body).ok_or_else(broken)?;
    let mut parts = Vec::new();
    loop {
        let head = at + line.len();
        if body[head..].starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == FORM_PARTS_MAX {
            let message = format!("the form has more than {FORM_PARTS_MAX} parts: remove some");
            return Err(ApiError::new(ErrorType::InvalidRequest, message));
        }
        if !body[head..].starts_with(b"\r\n") {
            return Err(broken());
        }
        let split = memchr::memmem::find(&body[head..], b"\r\n\r\n").ok_or_else(broken)?;
        let value = head + split + 4;
        let next = value + mark.find(&body[value..]).ok_or_else(broken)?;
        let end = next.checked_sub(2).filter(|end| *end >= value && &body[*end..next] == b"\r\n");
        let name = disposition_name(&body[head..head + split]).ok_or_else(broken)?;
        parts.push(Part { name, value: value..end.ok_or_else(broken)?, whole: at..next });
        at = next;
    }
}

/// The name in the `content-disposition` among a part's header lines.
fn disposition_name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let line = head.lines().find(|line| {
        line.split_once(':').is_some_and(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
    })?;
    let name = line.split(';').find_map(|p| p.trim().strip_prefix("name="))?;
    Some(name.trim_matches('"').to_owned())
}

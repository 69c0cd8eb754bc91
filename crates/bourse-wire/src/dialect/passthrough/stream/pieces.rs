//! An answer in one piece as the stream that it would have been.

use super::{COMPLETED, is_whole_number};
use crate::dialect::chat::on_one_line;
use crate::dialect::grammar::Head;
use crate::dialect::passthrough::answer::{PassedAnswer, is_picture};
use crate::dialect::{Api, DONE_EVENT, Job};
use crate::json::{JsonError, Walk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::ops::Range;

/// Bytes of sound in one event.
const SOUND_BYTES_PER_EVENT: usize = 48 * 1024;

/// The events of an answer, with their end.
pub(super) fn of(job: &Job, head: &Head, answer: &PassedAnswer) -> Bytes {
    let body = answer.bytes();
    let mut out = Vec::with_capacity(body.len() * 4 / 3 + 512);
    match (job.api, std::str::from_utf8(body)) {
        (Api::Images, Ok(text)) => {
            let most = job.passed.as_ref().map_or(0, |passed| passed.units_max);
            push_pictures(text, head, usize::try_from(most).unwrap_or(usize::MAX), &mut out);
        }
        (Api::Transcription, Ok(text)) => push_transcript(text, &mut out),
        _ => push_sound(body, &mut out),
    }
    out.extend_from_slice(DONE_EVENT);
    Bytes::from(out)
}

/// One event for each picture that was asked for, with what the answer says about all of them.
fn push_pictures(text: &str, head: &Head, most: usize, out: &mut Vec<u8>) {
    let (mut about, mut pictures, mut usage) = (Vec::new(), Vec::new(), None);
    each_said(text, |key, value| match key {
        "data" => pictures = pictures_of(value),
        "usage" => usage = Some(value),
        "created" | "created_at" if !is_whole_number(value) => {}
        _ => about.push((key, value)),
    });
    pictures.truncate(most);
    let created = about.iter().find(|(key, _)| *key == "created").map(|(_, value)| (*value).to_owned());
    let created = created.unwrap_or_else(|| head.created_s.to_string());
    for (n, picture) in pictures.iter().enumerate() {
        let mut said = Vec::new();
        // The answer's usage is of all of them; added to theirs it would count twice.
        each_said(picture, |key, value| said.extend((key != "usage").then_some((key, value))));
        let assumed = assumed(&created, &said);
        for (key, value) in about.iter().chain(&assumed) {
            if said.iter().all(|(name, _)| name != key) {
                said.push((key, value));
            }
        }
        said.extend(usage.filter(|_| n + 1 == pictures.len()).map(|usage| ("usage", usage)));
        let mut members = Members::of_type(COMPLETED);
        for (key, value) in said {
            members.push(key, value);
        }
        push_event(COMPLETED, &members, b"", out);
    }
}

fn pictures_of(list: &str) -> Vec<&str> {
    let mut pictures = Vec::new();
    // It was read before: it is a list.
    let _ = Walk::new(list).items::<JsonError>(|walk| {
        let item = walk.value()?;
        pictures.push(walk.text(item));
        Ok(())
    });
    pictures.retain(|item| is_picture(item));
    pictures
}

/// Members that stock clients insist on, and what they are where nobody says.
pub(super) fn assumed<'a>(created: &'a str, said: &[(&str, &str)]) -> [(&'static str, &'a str); 6] {
    [
        ("created", created),
        ("created_at", created),
        ("background", "\"auto\""),
        ("output_format", format_of(said)),
        ("quality", "\"auto\""),
        ("size", "\"auto\""),
    ]
}

/// The format of a picture in base64, by its first bytes.
fn format_of(said: &[(&str, &str)]) -> &'static str {
    let content = said.iter().find(|(key, _)| *key == "b64_json").map_or("", |(_, value)| value);
    match content.trim_start_matches('"') {
        jpeg if jpeg.starts_with("/9j/") => "\"jpeg\"",
        webp if webp.starts_with("UklGR") => "\"webp\"",
        _ => "\"png\"",
    }
}

fn push_transcript(text: &str, out: &mut Vec<u8>) {
    let (delta, done) = ("transcript.text.delta", "transcript.text.done");
    let (mut said, mut members) = ("\"\"", Members::of_type(done));
    each_said(text, |key, value| {
        said = if key == "text" { value } else { said };
        members.push(key, value);
    });
    if said.len() > 2 {
        let mut piece = Members::of_type(delta);
        piece.push("delta", said);
        push_event(delta, &piece, b"", out);
    }
    push_event(done, &members, b"", out);
}

fn push_sound(sound: &[u8], out: &mut Vec<u8>) {
    let (delta, done) = ("speech.audio.delta", "speech.audio.done");
    for bytes in sound.chunks(SOUND_BYTES_PER_EVENT) {
        let mut piece = Members::of_type(delta);
        piece.push("audio", &format!("\"{}\"", STANDARD.encode(bytes)));
        push_event(delta, &piece, b"", out);
    }
    push_event(done, &Members::of_type(done), b"", out);
}

/// The members of an object, on one line.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<u8>);

impl Members {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The `type` alone.
    pub(super) fn of_type(kind: &'static str) -> Self {
        let mut members = Self::default();
        members.push("type", &format!("\"{kind}\""));
        members
    }

    /// Both are as they were written; `key` without its quotes. Where the value stands.
    pub(super) fn push(&mut self, key: &str, value: &str) -> Range<usize> {
        self.0.extend_from_slice(if self.0.is_empty() { b"\"" } else { b",\"" });
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        let start = self.0.len();
        self.0.extend_from_slice(on_one_line(value).as_bytes());
        start..self.0.len()
    }

    pub(super) fn at(&self, span: Range<usize>) -> &[u8] {
        &self.0[span]
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Calls for each member of an object, as written.
pub(super) fn each_member<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str)) {
    // It was read before: it is an object.
    let _ = Walk::new(text).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        each(walk.text(key), walk.text(value));
        Ok(())
    });
}

/// Calls for each member of an object that says something, but for its own `type`.
fn each_said<'a>(text: &'a str, mut each: impl FnMut(&'a str, &'a str)) {
    each_member(text, |key, value| {
        if key != "type" && value != "null" {
            each(key, value);
        }
    });
}

pub(super) fn push_start(kind: &str, out: &mut Vec<u8>) {
    if !kind.is_empty() {
        out.extend_from_slice(b"event: ");
        // The seller's word: no line of its own must come of it.
        out.extend(kind.bytes().filter(|byte| !byte.is_ascii_control()));
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
}

/// Appends an event. `more` is raw text of further members with a leading comma.
pub(super) fn push_event(kind: &str, members: &Members, more: &[u8], out: &mut Vec<u8>) {
    push_start(kind, out);
    out.push(b'{');
    out.extend_from_slice(&members.0);
    out.extend_from_slice(more);
    out.extend_from_slice(b"}\n\n");
}

//! A sound that came within JSON, as the form that sellers want.
//!
//! OpenRouter's clients send `input_audio` with base64; sellers of OpenAI's grammar take forms alone. Every other member
//! becomes a part: texts, numbers and truth values as they are, lists one part for each entry.

use crate::dialect::fields::{string, wrong};
use crate::dialect::{Job, MemberRule};
use crate::error::ApiError;
use crate::json::{JsonError, Walk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::borrow::Cow;

/// Longest name of a sound's format.
const FORMAT_BYTES_MAX: usize = 16;

/// The content type and the body of a form that says what the job says.
pub(in crate::dialect) fn form_of(job: &Job, upstream_id: &str) -> Result<(String, Bytes), ApiError> {
    let (format, sound) = sound_of(job)?;
    let boundary = boundary_of(&sound);
    let mut out = Vec::with_capacity(sound.len() + 1_024);
    let mut part = |head: &str, value: &[u8]| {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let kind = format!("name=\"file\"; filename=\"sound.{format}\"\r\nContent-Type: audio/{format}");
    part(&kind, &sound);
    part("name=\"model\"", upstream_id.as_bytes());
    for member in job.members.iter().filter(|member| member.rule == MemberRule::Copy) {
        let (name, raw) = (job.text(&member.key), job.text(&member.value));
        if !matches!(name, "input_audio" | "file") && is_plain(name) {
            push_member(name, raw, &mut part)?;
        }
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    Ok((format!("multipart/form-data; boundary={boundary}"), Bytes::from(out)))
}

/// Checks the member `input_audio` as far as that costs no decoding.
pub(super) fn check(raw: &str) -> Result<(), ApiError> {
    let (_, data) = read(raw)?;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let is_base64 = data.len().is_multiple_of(4) && data.bytes().all(is_digit);
    match (data.is_empty(), is_base64) {
        (true, _) => Err(wrong("input_audio.data", "a sound that is not empty")),
        (false, false) => Err(not_base64()),
        (false, true) => Ok(()),
    }
}

fn not_base64() -> ApiError {
    wrong("input_audio.data", "base64 with padding")
}

/// The format and the bytes of the sound.
fn sound_of(job: &Job) -> Result<(String, Vec<u8>), ApiError> {
    let member = job.members.iter().find(|member| job.text(&member.key) == "input_audio");
    let (format, data) = read(member.map_or("", |member| job.text(&member.value)))?;
    Ok((format.into_owned(), STANDARD.decode(data.as_bytes()).map_err(|_| not_base64())?))
}

/// The format and the base64 of the member.
fn read(raw: &str) -> Result<(Cow<'_, str>, Cow<'_, str>), ApiError> {
    let wants = || wrong("input_audio", "an object with `data` in base64 and its `format`, such as `wav`");
    let (mut data, mut format) = (None, None);
    Walk::new(raw)
        .members::<JsonError>(|walk, key| {
            let value = walk.value()?;
            match walk.text(key) {
                "data" => data = Some(walk.text(value)),
                "format" => format = Some(walk.text(value)),
                _ => {}
            }
            Ok(())
        })
        .map_err(|_| wants())?;
    let data = string("input_audio.data", data.ok_or_else(wants)?)?;
    let format = string("input_audio.format", format.ok_or_else(wants)?)?;
    let is_word = (1..=FORMAT_BYTES_MAX).contains(&format.len())
        && format.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !is_word {
        return Err(wrong("input_audio.format", "a format such as `wav` or `mp3`"));
    }
    Ok((format, data))
}

/// Whether a member's name can be a part's.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn push_member(name: &str, raw: &str, part: &mut impl FnMut(&str, &[u8])) -> Result<(), ApiError> {
    let head = format!("name=\"{name}\"");
    match raw.as_bytes() {
        b"null" | [b'{', ..] => {}
        [b'"', ..] => part(&head, string(name, raw)?.as_bytes()),
        [b'[', ..] => {
            let head = format!("name=\"{name}[]\"");
            Walk::new(raw).items::<ApiError>(|walk| {
                let value = walk.value()?;
                let raw = walk.text(value);
                match raw.as_bytes() {
                    [b'"', ..] => part(&head, string(name, raw)?.as_bytes()),
                    _ => part(&head, raw.as_bytes()),
                }
                Ok(())
            })?;
        }
        plain => part(&head, plain),
    }
    Ok(())
}

/// A boundary that does not stand in the sound: nobody can write a sound that holds its own hash.
fn boundary_of(sound: &[u8]) -> String {
    let hash = blake3::hash(sound).to_hex();
    // RFC 2046 allows 70 characters.
    format!("bourse-{}", &hash.as_str()[..32])
}

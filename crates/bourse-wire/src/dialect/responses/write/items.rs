//! The items of a request: what each role said.

use super::super::item::{Said, Thoughts};
use super::{CALL_ID_BYTES_MAX, TTL_SHORT_S, Writer};
use crate::dialect::neutral::{CacheMark, Media, Origin, Part};
use crate::error::ApiError;
use std::borrow::Cow;

impl Writer {
    pub(super) fn message(&mut self, role: &str, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        self.open("message");
        self.string("role", role);
        self.key("content");
        self.contents(at, parts)?;
        self.out.push(b'}');
        Ok(())
    }

    fn contents(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        self.out.push(b'[');
        for part in parts {
            self.content(at, part)?;
        }
        self.out.push(b']');
        Ok(())
    }

    /// A part of what the buyer's side says.
    fn content(&mut self, at: &str, part: &Part) -> Result<(), ApiError> {
        match part {
            // A document that is text is said as text.
            Part::Text { text, cache } | Part::File { source: Media::Text(text), cache, .. } => {
                self.open("input_text");
                self.string("text", text);
                self.mark(*cache);
            }
            Part::Image { source, detail, cache } => {
                self.open("input_image");
                self.string("detail", detail.as_deref().unwrap_or("auto"));
                match source {
                    Media::Url(url) => self.string("image_url", url),
                    Media::Base64 { media_type, data } => {
                        self.string("image_url", &format!("data:{media_type};base64,{data}"));
                    }
                    Media::Id(id) => self.string("file_id", id),
                    Media::Text(_) => return Err(unsayable(at, "a picture as text")),
                }
                self.mark(*cache);
            }
            Part::File { source, filename, cache } => {
                self.open("input_file");
                match source {
                    Media::Url(url) => self.string("file_url", url),
                    Media::Base64 { media_type, data } => {
                        self.string("file_data", &format!("data:{media_type};base64,{data}"));
                    }
                    Media::Id(id) => self.string("file_id", id),
                    Media::Text(_) => {}
                }
                if let Some(filename) = filename {
                    self.string("filename", filename);
                }
                self.mark(*cache);
            }
            Part::Audio { source: Media::Base64 { media_type, data } } => {
                self.open("input_audio");
                self.key("input_audio");
                self.out.push(b'{');
                self.string("data", data);
                self.string("format", media_type.strip_prefix("audio/").unwrap_or(media_type));
                self.out.push(b'}');
            }
            Part::Audio { .. } => return Err(unsayable(at, "sound that is not in the request")),
            Part::Refusal { .. }
            | Part::ToolCall { .. }
            | Part::ToolResult { .. }
            | Part::Reasoning { .. } => {
                return Err(unsayable(at, "what only a model or a tool says"));
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn mark(&mut self, mark: Option<CacheMark>) {
        let Some(mark) = mark else { return };
        let ttl = match mark.ttl_s {
            None => "{\"mode\":\"explicit\"}",
            Some(ttl_s) if ttl_s <= TTL_SHORT_S => "{\"mode\":\"explicit\",\"ttl\":\"30m\"}",
            Some(_) => "{\"mode\":\"explicit\",\"ttl\":\"12h\"}",
        };
        self.raw("prompt_cache_breakpoint", ttl);
    }

    /// What the model said: texts that touch are one message, calls and thoughts are items of their own.
    pub(super) fn assistant(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        let mut is_open = false;
        for part in parts {
            if let Part::Text { .. } | Part::Refusal { .. } = part {
                if !std::mem::replace(&mut is_open, true) {
                    self.open("message");
                    self.string("role", "assistant");
                    self.key("content");
                    self.out.push(b'[');
                }
                self.said(at, part);
                continue;
            }
            if std::mem::take(&mut is_open) {
                self.out.extend_from_slice(b"]}");
            }
            match part {
                Part::ToolCall { id, name, arguments, cache } => {
                    self.open("function_call");
                    self.string("call_id", &call_id(id));
                    self.string("name", name);
                    self.string("arguments", arguments);
                    self.out.push(b'}');
                    self.unmarked(at, *cache);
                }
                Part::Reasoning { .. } => self.thoughts(at, part),
                _ => return Err(unsayable(at, "media in an answer of the model")),
            }
        }
        if is_open {
            self.out.extend_from_slice(b"]}");
        }
        Ok(())
    }

    fn said(&mut self, at: &str, part: &Part) {
        match part {
            Part::Text { text, cache } => {
                self.open("output_text");
                self.string("text", text);
                self.unmarked(at, *cache);
            }
            Part::Refusal { text } => {
                self.open("refusal");
                self.string("refusal", text);
            }
            _ => return,
        }
        self.out.push(b'}');
    }

    pub(super) fn unmarked(&mut self, at: &str, mark: Option<CacheMark>) {
        if mark.is_some() {
            self.notice(format!("{at}.cache_control"), "no mark is possible there, left out");
        }
    }

    fn thoughts(&mut self, at: &str, part: &Part) {
        let Part::Reasoning { text, is_summary, signed } = part else { return };
        let param = format!("{at}.reasoning");
        let Some(signed) = signed else { return self.notice(param, "not signed, left out") };
        if signed.origin != Origin::OpenAi || !signed.is_encrypted {
            return self.notice(param, "signed by another seller, left out");
        }
        self.open("reasoning");
        if let Some(id) = &signed.id {
            self.string("id", id);
        }
        let text = Said::Plain(text);
        Thoughts { text, is_summary: *is_summary, signed: Some(signed) }.push_members(&mut self.out);
        self.out.push(b'}');
    }

    pub(super) fn results(&mut self, at: &str, parts: &[Part]) -> Result<(), ApiError> {
        for part in parts {
            let Part::ToolResult { call_id: id, content, is_error, cache } = part else {
                return Err(unsayable(at, "anything but a result in a message of a tool"));
            };
            self.open("function_call_output");
            self.string("call_id", &call_id(id));
            match content.as_slice() {
                [] => self.string("output", ""),
                [Part::Text { text, cache: None }] => self.string("output", text),
                parts => {
                    self.key("output");
                    self.contents(at, parts)?;
                }
            }
            self.out.push(b'}');
            self.unmarked(at, *cache);
            if *is_error {
                self.notice(format!("{at}.is_error"), "this seller knows no such flag, left out");
            }
        }
        Ok(())
    }
}

/// The id itself, or what stands for one that is too long.
fn call_id(id: &str) -> Cow<'_, str> {
    if id.len() <= CALL_ID_BYTES_MAX {
        return Cow::Borrowed(id);
    }
    let hash = blake3::hash(id.as_bytes()).to_hex();
    Cow::Owned(format!("call_{}", &hash.as_str()[..32]))
}

fn unsayable(at: &str, what: &str) -> ApiError {
    ApiError::field(at.to_owned(), format!("`{at}` holds {what}, which this seller's grammar cannot say"))
}

//! The shapes that are written: content blocks, in requests and in whole answers.

use super::words::ORIGIN;
use crate::dialect::neutral::{CacheMark, Media, Signed};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A content block.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum BlockOut<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheOut>,
    },
    Image {
        source: SourceOut<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheOut>,
    },
    Document {
        source: SourceOut<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheOut>,
    },
    Thinking {
        thinking: &'a str,
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: Input<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheOut>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<BlockOut<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheOut>,
    },
}

/// Where the bytes of a picture or a document are.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum SourceOut<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    File { file_id: &'a str },
    Text { media_type: &'a str, data: &'a str },
}

impl<'a> SourceOut<'a> {
    pub(super) fn of(media: &'a Media) -> Self {
        match media {
            Media::Base64 { media_type, data } => Self::Base64 { media_type, data },
            Media::Url(url) => Self::Url { url },
            Media::Id(file_id) => Self::File { file_id },
            Media::Text(data) => Self::Text { media_type: "text/plain", data },
        }
    }
}

/// A mark up to which the prompt may be cached.
#[derive(Clone, Copy, Serialize)]
pub(super) struct CacheOut {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// The shorter of the two times that sellers of this grammar keep a prompt, in seconds.
const TTL_SHORT_S: u32 = 300;

impl CacheOut {
    pub(super) fn of(mark: CacheMark) -> Self {
        let ttl = mark.ttl_s.map(|ttl_s| if ttl_s > TTL_SHORT_S { "1h" } else { "5m" });
        Self { kind: "ephemeral", ttl }
    }

    pub(super) fn is_long(&self) -> bool {
        self.ttl == Some("1h")
    }
}

/// Arguments of a call. This grammar has room only for an object.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Input<'a> {
    Object(&'a RawValue),
    /// The form in which the vendor wants arguments that are not JSON.
    Broken {
        #[serde(rename = "INVALID_JSON")]
        text: &'a str,
    },
}

impl<'a> Input<'a> {
    pub(super) fn of(arguments: &'a str) -> Self {
        let text = if arguments.trim_ascii().is_empty() { "{}" } else { arguments };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) if raw.get().starts_with('{') => Self::Object(raw),
            _ => Self::Broken { text: arguments },
        }
    }
}

/// Thoughts with what their seller signed or encrypted; those that cannot be told from text are hidden ones.
pub(super) fn thoughts<'a>(text: &'a str, signed: Option<&Signed>) -> BlockOut<'a> {
    let data = signed.map(|signed| signed.tagged(ORIGIN)).unwrap_or_default();
    let is_hidden = signed.is_some_and(|signed| signed.is_encrypted) && text.is_empty();
    if is_hidden {
        BlockOut::RedactedThinking { data }
    } else {
        BlockOut::Thinking { thinking: text, signature: data }
    }
}

/// Appends a value as JSON.
pub(super) fn push_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, value)
        .expect("text, numbers and raw JSON serialise, and a Vec takes it all");
}

//! Items: messages, calls and thoughts, as both sides of this grammar write them.
//!
//! A signature over shown thoughts has no place of its own here, and clients keep only the members that they know.
//! So it travels in `encrypted_content`, behind [`SIGNATURE`] and the tag of its origin.

use super::super::neutral::{Origin, Signed};
use crate::dialect::fields::unescaped;
use crate::json::{JsonError, Walk, push_string, push_u64};

/// What stands before the tag of data that is a signature over shown thoughts rather than thoughts.
pub(super) const SIGNATURE: &str = "signature:";
/// What the ids of thoughts begin with that this market wrote; sellers cannot look them up.
pub(super) const OUR_THOUGHTS: &str = "rs_bourse_";

/// `encrypted_content` for what somebody signed.
pub(super) fn encrypted_content(signed: &Signed) -> String {
    let tagged = signed.tagged(Origin::OpenAi);
    if signed.is_encrypted { tagged } else { format!("{SIGNATURE}{tagged}") }
}

/// Reads [`encrypted_content`].
pub(super) fn signed(id: Option<String>, encrypted_content: &str) -> Signed {
    let (is_encrypted, rest) = match encrypted_content.strip_prefix(SIGNATURE) {
        Some(rest) => (false, rest),
        None => (true, encrypted_content),
    };
    let (origin, data) = Signed::split(Origin::OpenAi, rest);
    Signed { origin, id, data: data.to_owned(), is_encrypted }
}

/// Whether an item of the input is thoughts that no seller of this grammar could read: this market gave them their
/// id, or they bear the tag of their origin.
pub(super) fn is_unreadable(item: &str) -> bool {
    let has = |needle: &str| memchr::memmem::find(item.as_bytes(), needle.as_bytes()).is_some();
    let marks = ["\"rs_bourse_", "\"signature:bourse:", "\"bourse:"];
    marks.into_iter().any(has) && is_thoughts(item)
}

fn is_thoughts(item: &str) -> bool {
    let mut is_thoughts = false;
    let walked = Walk::new(item).members::<JsonError>(|walk, key| {
        let is_type = unescaped(walk.text(key)) == "type";
        let value = walk.value()?;
        is_thoughts |= is_type && walk.text(value) == "\"reasoning\"";
        Ok(())
    });
    walked.is_ok() && is_thoughts
}

/// What the ids of items are made of: the generation's id and a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct ItemId<'a> {
    pub(super) prefix: &'static str,
    pub(super) generation: &'a str,
    pub(super) index: u32,
}

impl ItemId<'_> {
    /// Appends it as a JSON string.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(self.prefix.as_bytes());
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        out.extend(self.generation.bytes().filter(plain));
        out.push(b'_');
        push_u64(out, u64::from(self.index));
        out.push(b'"');
    }
}

/// Text, or text that is already escaped as a JSON string is between its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    Plain(&'a str),
    Escaped(&'a [u8]),
}

impl Said<'_> {
    /// Appends it as a JSON string.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => push_string(out, text),
            Self::Escaped(bytes) => {
                out.push(b'"');
                out.extend_from_slice(bytes);
                out.push(b'"');
            }
        }
    }

    fn is_empty(self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Escaped(bytes) => bytes.is_empty(),
        }
    }
}

/// One part of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) is_refusal: bool,
    pub(super) text: Said<'a>,
    /// Items, without brackets.
    pub(super) logprobs: &'a [u8],
}

impl Piece<'_> {
    /// Appends the part.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        if self.is_refusal {
            out.extend_from_slice(b"{\"type\":\"refusal\",\"refusal\":");
        } else {
            out.extend_from_slice(b"{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[");
            out.extend_from_slice(self.logprobs);
            out.extend_from_slice(b"],\"text\":");
        }
        self.text.push(out);
        out.push(b'}');
    }
}

/// Appends a message of the model.
pub(super) fn push_message<'a>(
    id: ItemId<'_>,
    status: &str,
    pieces: impl Iterator<Item = Piece<'a>>,
    out: &mut Vec<u8>,
) {
    push_open(id, "message", status, out);
    out.extend_from_slice(b",\"role\":\"assistant\",\"content\":[");
    for (n, piece) in pieces.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        piece.push(out);
    }
    out.extend_from_slice(b"]}");
}

/// A call of a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) arguments: Said<'a>,
}

impl Call<'_> {
    /// Appends the item.
    pub(super) fn push(self, id: ItemId<'_>, status: &str, out: &mut Vec<u8>) {
        push_open(id, "function_call", status, out);
        out.extend_from_slice(b",\"call_id\":");
        push_string(out, self.id);
        out.extend_from_slice(b",\"name\":");
        push_string(out, self.name);
        out.extend_from_slice(b",\"arguments\":");
        self.arguments.push(out);
        out.push(b'}');
    }
}

/// Thoughts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thoughts<'a> {
    pub(super) text: Said<'a>,
    pub(super) is_summary: bool,
    pub(super) signed: Option<&'a Signed>,
}

impl Thoughts<'_> {
    /// Appends the item, under the id of who signed it where there is one.
    pub(super) fn push(self, id: ItemId<'_>, status: &str, out: &mut Vec<u8>) {
        match self.signed.and_then(|s| s.id.as_deref()) {
            Some(own) => {
                out.extend_from_slice(b"{\"id\":");
                push_string(out, own);
                push_kind("reasoning", status, out);
            }
            None => push_open(id, "reasoning", status, out),
        }
        self.push_members(out);
        out.push(b'}');
    }

    /// Appends `,"summary":…` and what else there is.
    pub(super) fn push_members(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"summary\":[");
        if self.is_summary && !self.text.is_empty() {
            push_thought("summary_text", self.text, out);
        }
        out.push(b']');
        if !self.is_summary && !self.text.is_empty() {
            out.extend_from_slice(b",\"content\":[");
            push_thought("reasoning_text", self.text, out);
            out.push(b']');
        }
        if let Some(signed) = self.signed {
            out.extend_from_slice(b",\"encrypted_content\":");
            push_string(out, &encrypted_content(signed));
        }
    }
}

/// Appends one part of thoughts.
pub(super) fn push_thought(kind: &str, text: Said<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"text\":");
    text.push(out);
    out.push(b'}');
}

fn push_open(id: ItemId<'_>, kind: &str, status: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    id.push(out);
    push_kind(kind, status, out);
}

fn push_kind(kind: &str, status: &str, out: &mut Vec<u8>) {
    for (key, word) in [("type", kind), ("status", status)] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }
}

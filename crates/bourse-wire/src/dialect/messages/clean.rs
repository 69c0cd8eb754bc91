//! Taking out of a conversation the reasoning that sellers of this grammar would refuse.
//!
//! Everything else is copied byte for byte, so that a seller's cache still finds what it has seen.

use super::words::is_foreign;
use crate::json::{JsonError, Walk};
use std::ops::Range;

/// Appends `messages` without blocks of reasoning that are unsigned or signed by another origin; a message with
/// nothing left in it goes too. What cannot be walked is copied as it is.
pub(in crate::dialect) fn push_clean(messages: &str, out: &mut Vec<u8>) {
    let start = out.len();
    let mut walk = Walk::new(messages);
    out.push(b'[');
    let walked = walk.items::<JsonError>(|walk| {
        let before = out.len();
        if before > start + 1 {
            out.push(b',');
        }
        if !push_message(walk, out)? {
            out.truncate(before);
        }
        Ok(())
    });
    if walked.is_err() {
        out.truncate(start);
        out.extend_from_slice(messages.as_bytes());
        return;
    }
    out.push(b']');
}

/// False when nothing is left of the message.
fn push_message(walk: &mut Walk<'_>, out: &mut Vec<u8>) -> Result<bool, JsonError> {
    let mut copied = (walk.peek(), walk.at()).1;
    let mut is_left = true;
    walk.members::<JsonError>(|walk, key| {
        if walk.text(key) != "content" || walk.peek() != b'[' {
            return walk.value().map(|_| ());
        }
        let start = walk.at();
        let mut kept: Vec<Range<usize>> = Vec::new();
        let mut count = 0;
        walk.items::<JsonError>(|walk| {
            count += 1;
            kept.extend(own_block(walk)?);
            Ok(())
        })?;
        is_left = count == 0 || !kept.is_empty();
        out.extend_from_slice(walk.text(copied..start).as_bytes());
        out.push(b'[');
        for (n, span) in kept.into_iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(walk.text(span).as_bytes());
        }
        out.push(b']');
        copied = walk.at();
        Ok(())
    })?;
    out.extend_from_slice(walk.text(copied..walk.at()).as_bytes());
    Ok(is_left)
}

/// The span of a block, unless it is reasoning of another origin.
fn own_block(walk: &mut Walk<'_>) -> Result<Option<Range<usize>>, JsonError> {
    if walk.peek() != b'{' {
        return walk.value().map(Some);
    }
    let start = walk.at();
    let mut thought = Thought::default();
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        thought.member(walk.text(key), walk.text(value));
        Ok(())
    })?;
    Ok((!thought.is_foreign()).then(|| start..walk.at()))
}

/// What the members of a block say about whose reasoning it is.
#[derive(Debug, Default)]
pub(super) struct Thought<'a> {
    kind: &'a str,
    signature: &'a str,
    data: &'a str,
}

impl<'a> Thought<'a> {
    /// Takes one member, as it lies in the text.
    pub(super) fn member(&mut self, name: &str, raw: &'a str) {
        let text = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or_default();
        match name {
            "type" => self.kind = text,
            "signature" => self.signature = text,
            "data" => self.data = text,
            _ => {}
        }
    }

    /// The block's kind.
    pub(super) fn kind(&self) -> &'a str {
        self.kind
    }

    /// Whether it is reasoning that a seller of this grammar would refuse.
    pub(super) fn is_foreign(&self) -> bool {
        match self.kind {
            "thinking" => is_foreign(self.signature),
            "redacted_thinking" => is_foreign(self.data),
            _ => false,
        }
    }
}

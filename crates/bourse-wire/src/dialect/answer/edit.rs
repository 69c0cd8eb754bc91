//! What must differ in a seller's answer before it passes on.
//!
//! Most bytes pass as they came. A few members would make strict clients throw and say nothing: a `usage` or a
//! `system_fingerprint` that is null in a stream, lists of a delta that are null. And what engines call
//! `reasoning_content` the field's clients read as `reasoning`. Such members are taken out or renamed in place; an answer
//! without them is not copied.

use std::ops::Range;

/// One change. Spans point into the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The key with its quotes.
    pub(crate) key: Range<usize>,
    /// The value.
    pub(crate) value: Range<usize>,
    pub(crate) change: Change,
}

/// What becomes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is taken out.
    Remove,
    /// It gets another key.
    Rename(&'static str),
}

impl Edit {
    /// `key` lies within its quotes.
    pub(crate) fn new(key: &Range<usize>, value: Range<usize>, change: Change) -> Self {
        Self { key: key.start - 1..key.end + 1, value, change }
    }
}

impl Edit {
    /// The same in a text that begins `by` bytes later.
    pub(crate) fn moved_back(&self, by: usize) -> Self {
        let back = |span: &Range<usize>| span.start - by..span.end - by;
        Self { key: back(&self.key), value: back(&self.value), change: self.change }
    }
}

/// Appends `text` with the edits, which are in order of their places and do not overlap.
pub(crate) fn push_edited(text: &str, edits: &[Edit], out: &mut Vec<u8>) {
    let (start, bytes) = (out.len(), text.as_bytes());
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(&bytes[at..edit.key.start]);
        match edit.change {
            Change::Rename(name) => {
                out.push(b'"');
                out.extend_from_slice(name.as_bytes());
                out.push(b'"');
                at = edit.key.end;
            }
            Change::Remove => {
                let after = &bytes[edit.value.end..];
                let blank = after.len() - after.trim_ascii_start().len();
                at = edit.value.end;
                if after[blank..].first() == Some(&b',') {
                    at += blank + 1;
                } else {
                    // The last member takes the comma before it along.
                    let kept = out[start..].trim_ascii_end();
                    let kept = kept.strip_suffix(b",").unwrap_or(kept).len();
                    out.truncate(start + kept);
                }
            }
        }
    }
    out.extend_from_slice(&bytes[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{JsonError, Walk};
    use proptest::prelude::*;

    fn edited(text: &str, change: impl Fn(&str) -> Option<Change>) -> String {
        let mut edits = Vec::new();
        Walk::new(text)
            .members::<JsonError>(|walk, key| {
                let value = walk.value()?;
                edits.extend(change(walk.text(key.clone())).map(|change| Edit::new(&key, value, change)));
                Ok(())
            })
            .unwrap();
        let mut out = b"data: ".to_vec();
        push_edited(text, &edits, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("data: ").unwrap().to_owned()
    }

    fn removed(text: &str) -> String {
        edited(text, |key| key.starts_with('x').then_some(Change::Remove))
    }

    #[test]
    fn members_are_taken_out_wherever_they_stand() {
        assert_eq!(removed(r#"{"x":1,"a":2}"#), r#"{"a":2}"#);
        assert_eq!(removed(r#"{"a":2,"x":1}"#), r#"{"a":2}"#);
        assert_eq!(removed(r#"{"a":2, "x" : 1 , "b":3}"#), r#"{"a":2,  "b":3}"#);
        assert_eq!(removed(r#"{"x":1,"x2":null}"#), "{}");
        assert_eq!(removed(r#"{"a":1,"x":1,"x2":null }"#), r#"{"a":1 }"#);
        assert_eq!(edited(r#"{"a":[1]}"#, |_| Some(Change::Rename("bb"))), r#"{"bb":[1]}"#);
    }

    proptest! {
        #[test]
        fn what_is_left_is_json_with_the_other_members(keys in proptest::collection::vec("[xa][0-9]", 0..8)) {
            let members: Vec<String> = keys.iter().map(|key| format!(" \"{key}\" : null ")).collect();
            let text = removed(&format!("{{{}}}", members.join(",")));
            let kept = keys.iter().filter(|key| key.starts_with('a')).count();
            let mut found = 0;
            let mut walk = Walk::new(&text);
            walk.members::<JsonError>(|walk, _| { walk.value()?; found += 1; Ok(()) }).unwrap();
            walk.finish().unwrap();
            prop_assert_eq!(found, kept);
        }
    }
}

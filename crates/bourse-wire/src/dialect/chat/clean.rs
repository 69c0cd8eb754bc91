//! The reasoning of earlier turns in a conversation that is passed on as it is.
//!
//! Sellers of the grammar want it back in three ways (see [`Chat`]): as it was, because they know whose signature is
//! whose; as `reasoning_content`, without signatures, because the template of the model reads it; or not at all, because
//! they answer any member that their page does not list with 400. Everything else is copied byte for byte.

use super::Chat;
use super::details::SHOWN;
use crate::dialect::fields::unescaped;
use crate::json::{JsonError, Walk};

/// How a seller of this grammar is spoken to where the buyer speaks it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// The family.
    pub chat: Chat,
    /// Whether the reasoning of earlier turns is taken back.
    pub takes_reasoning: bool,
    /// Whether a stream is asked for although the buyer wants one piece; see [`Job::streams_say_all`].
    ///
    /// [`Job::streams_say_all`]: crate::dialect::Job::streams_say_all
    pub gathers: bool,
}

impl Manner {
    /// Everything as the buyer wrote it.
    pub const VERBATIM: Self = Self { chat: Chat::Router, takes_reasoning: true, gathers: false };

    /// Whether a conversation with reasoning is changed.
    pub(in crate::dialect) fn changes_reasoning(self) -> bool {
        !self.takes_reasoning || self.chat != Chat::Router
    }
}

/// Whether a message's member of that name holds reasoning.
pub(in crate::dialect) fn is_reasoning(name: &str) -> bool {
    name == "reasoning_details" || SHOWN.contains(&name)
}

/// Appends `messages` with reasoning as a seller takes it. What cannot be walked is copied as it is.
pub(in crate::dialect) fn push_clean(messages: &str, manner: Manner, out: &mut Vec<u8>) {
    let start = out.len();
    let keeps_text = manner.takes_reasoning && manner.chat != Chat::Strict;
    out.push(b'[');
    let walked = Walk::new(messages).items::<JsonError>(|walk| {
        if out.len() > start + 1 {
            out.push(b',');
        }
        push_message(walk, keeps_text, out)
    });
    if walked.is_err() {
        out.truncate(start);
        out.extend_from_slice(messages.as_bytes());
        return;
    }
    out.push(b']');
}

fn push_message(walk: &mut Walk<'_>, keeps_text: bool, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    // The text under the name that comes first in the order of precedence.
    let mut shown: Option<(usize, &str)> = None;
    out.push(b'{');
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let name = unescaped(walk.text(key.clone()));
        if is_reasoning(&name) {
            let rank = SHOWN.iter().position(|known| *known == name);
            let text = walk.text(value);
            if let Some(rank) = rank.filter(|_| text.starts_with('"'))
                && shown.is_none_or(|(before, _)| rank < before)
            {
                shown = Some((rank, text));
            }
            return Ok(());
        }
        if out.len() > start + 1 {
            out.push(b',');
        }
        // The quote before the key, too.
        out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
        Ok(())
    })?;
    if let Some((_, text)) = shown.filter(|_| keeps_text) {
        out.extend_from_slice(b",\"reasoning_content\":");
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(manner: Manner, messages: &str, want: &str) {
        let mut out = b"x".to_vec();
        push_clean(messages, manner, &mut out);
        assert_eq!(std::str::from_utf8(&out[1..]).unwrap(), want);
    }

    #[test]
    fn reasoning_goes_and_the_rest_stays() {
        let strict = Manner { chat: Chat::Strict, takes_reasoning: true, gathers: false };
        let none = Manner { chat: Chat::Server, takes_reasoning: false, gathers: false };
        for manner in [strict, none] {
            check(
                manner,
                r#"[ {"role":"user","content":"reasoning"}, {"reasoning":"a","role":"assistant", "content" : "b\"}","reasoning_details":[{"x":{}}]} ]"#,
                r#"[{"role":"user","content":"reasoning"},{"role":"assistant","content" : "b\"}"}]"#,
            );
            check(
                manner,
                r#"[{"re\u0061soning_content":"a","role":"assistant","content":""}]"#,
                r#"[{"role":"assistant","content":""}]"#,
            );
            check(manner, "[{]", "[{]");
        }
    }

    #[test]
    fn servers_read_it_under_their_own_name() {
        let server = Manner { chat: Chat::Server, takes_reasoning: true, gathers: false };
        let (before, after) = (r#"[{"role":"assistant","content":"b""#, "}]");
        for (given, want) in [
            (r#","reasoning":"a\n""#, r#","reasoning_content":"a\n""#),
            (r#","reasoning_content":"a""#, r#","reasoning_content":"a""#),
            (r#","thinking":"c","reasoning":"a","reasoning_details":[1]"#, r#","reasoning_content":"a""#),
            (r#","reasoning":null,"reasoning_content":"a""#, r#","reasoning_content":"a""#),
            (r#","reasoning_details":[{"signature":"s"}]"#, ""),
        ] {
            check(server, &format!("{before}{given}{after}"), &format!("{before}{want}{after}"));
        }
    }
}

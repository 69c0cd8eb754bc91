//! Taking the reasoning out of a conversation for sellers that refuse it.
//!
//! Some sellers of the grammar answer any member that their page does not list with 400, others need what they said
//! before. Which one a seller is, its offer declares; everything else is copied byte for byte.

use super::details::SHOWN;
use crate::dialect::fields::unescaped;
use crate::json::{JsonError, Walk};

/// Whether a message's member of that name holds reasoning.
pub(in crate::dialect) fn is_reasoning(name: &str) -> bool {
    name == "reasoning_details" || SHOWN.contains(&name)
}

/// Appends `messages` without members that hold reasoning. What cannot be walked is copied as it is.
pub(in crate::dialect) fn push_clean(messages: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(b'[');
    let walked = Walk::new(messages).items::<JsonError>(|walk| {
        if out.len() > start + 1 {
            out.push(b',');
        }
        push_message(walk, out)
    });
    if walked.is_err() {
        out.truncate(start);
        out.extend_from_slice(messages.as_bytes());
        return;
    }
    out.push(b']');
}

fn push_message(walk: &mut Walk<'_>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    out.push(b'{');
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if is_reasoning(&unescaped(walk.text(key.clone()))) {
            return Ok(());
        }
        if out.len() > start + 1 {
            out.push(b',');
        }
        // The quote before the key, too.
        out.extend_from_slice(walk.text(key.start - 1..value.end).as_bytes());
        Ok(())
    })?;
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_goes_and_the_rest_stays() {
        let check = |messages: &str, want: &str| {
            let mut out = b"x".to_vec();
            push_clean(messages, &mut out);
            assert_eq!(std::str::from_utf8(&out[1..]).unwrap(), want);
        };
        check(
            r#"[ {"role":"user","content":"reasoning"}, {"reasoning":"a","role":"assistant", "content" : "b\"}","reasoning_details":[{"x":{}}]} ]"#,
            r#"[{"role":"user","content":"reasoning"},{"role":"assistant","content" : "b\"}"}]"#,
        );
        check(
            r#"[{"re\u0061soning_content":"a","role":"assistant","content":""}]"#,
            r#"[{"role":"assistant","content":""}]"#,
        );
        check("[{]", "[{]");
    }
}

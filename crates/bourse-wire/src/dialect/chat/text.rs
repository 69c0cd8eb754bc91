//! Strings of sellers: members picked out of an object, and escapes resolved piece by piece.
//!
//! Sellers cut streams where they like, also between the two halves of a surrogate pair: each piece is then
//! legal JSON and no text. So a half is kept until the next piece of the same text; a half that stays alone
//! becomes U+FFFD.

use crate::json::{JsonError, Walk};
use std::borrow::Cow;

/// The values of named members as written; none for one that is missing or null. The last of a name counts.
pub(super) fn pick<'a, const N: usize>(
    json: &'a str,
    names: [&str; N],
) -> Result<[Option<&'a str>; N], JsonError> {
    let mut found = [None; N];
    Walk::new(json).members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        let raw = walk.text(value);
        if let Some(at) = names.iter().position(|name| *name == walk.text(key.clone())) {
            found[at] = (raw != "null").then_some(raw);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The inside of a string as written; none for other values.
pub(super) fn quoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// The inside of a string, escapes resolved. `half` is the half pair that the text before it ended with, and
/// takes the one that this piece ends with.
pub(super) fn unescape<'a>(inside: &'a str, half: &mut Option<u16>) -> Cow<'a, str> {
    if half.is_none() && !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    if inside.is_empty() {
        return Cow::Borrowed("");
    }
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    loop {
        let plain = rest.find('\\').unwrap_or(rest.len());
        if plain > 0 {
            flush(half, &mut out);
            out.push_str(&rest[..plain]);
        }
        let Some(escape) = rest[plain..].strip_prefix('\\') else { return Cow::Owned(out) };
        rest = one_escape(escape, half, &mut out);
    }
}

/// Resolves the escape whose backslash is gone, and gives back what follows it.
fn one_escape<'a>(escape: &'a str, half: &mut Option<u16>, out: &mut String) -> &'a str {
    let Some(kind) = escape.chars().next() else { return "" };
    let rest = &escape[kind.len_utf8()..];
    if kind == 'u' {
        let unit = rest.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        push_unit(unit.unwrap_or(0xfffd), half, out);
        return rest.get(4..).unwrap_or_default();
    }
    flush(half, out);
    out.push(match kind {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'b' => '\u{8}',
        'f' => '\u{c}',
        other => other,
    });
    rest
}

fn push_unit(unit: u16, half: &mut Option<u16>, out: &mut String) {
    match (half.take(), unit) {
        (Some(high), 0xdc00..=0xdfff) => {
            let scalar = 0x1_0000 + (u32::from(high - 0xd800) << 10) + u32::from(unit - 0xdc00);
            out.push(char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        (before, unit) => {
            if before.is_some() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            if matches!(unit, 0xd800..=0xdbff) {
                *half = Some(unit);
            } else {
                out.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }
}

fn flush(half: &mut Option<u16>, out: &mut String) {
    if half.take().is_some() {
        out.push(char::REPLACEMENT_CHARACTER);
    }
}

/// The whole of a string, halves that stand alone replaced.
pub(super) fn whole(raw: &str) -> Option<Cow<'_, str>> {
    let mut half = None;
    let text = unescape(quoted(raw)?, &mut half);
    if half.is_none() {
        return Some(text);
    }
    let mut text = text.into_owned();
    flush(&mut half, &mut text);
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_picked() {
        let json = r#"{"a":1,"b":null,"c":"x","a":[2]}"#;
        assert_eq!(pick(json, ["c", "a", "b", "d"]), Ok([Some("\"x\""), Some("[2]"), None, None]));
        assert!(pick("[]", ["a"]).is_err());
        assert!(pick(r#"{"a":"#, ["a"]).is_err());
    }

    fn pieces(list: &[&str]) -> String {
        let mut half = None;
        list.iter().map(|piece| unescape(piece, &mut half).into_owned()).collect()
    }

    #[test]
    fn halves_meet_across_pieces() {
        assert_eq!(pieces(&[r"a\ud83d", r"\ude00b"]), "a😀b");
        assert_eq!(pieces(&[r"a\ud83d", "", r"\uDE00"]), "a😀");
        assert_eq!(pieces(&[r"\ud83d", "x"]), "\u{fffd}x");
        assert_eq!(pieces(&[r"\ud83d\ud83d", r"\ude00"]), "\u{fffd}😀");
        assert_eq!(pieces(&[r"\ude00\n"]), "\u{fffd}\n");
        assert_eq!(whole(r#""x\ud83d""#).unwrap(), "x\u{fffd}");
        assert!(whole("5").is_none());
    }

    proptest! {
        #[test]
        fn any_cut_between_escapes_gives_the_same_text(text: String, cut in 0usize..64) {
            let escaped: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let cut = cut.min(escaped.len());
            prop_assert_eq!(pieces(&[&escaped[..cut].concat(), &escaped[cut..].concat()]), text.clone());
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(whole(&json).unwrap(), text);
        }

        #[test]
        fn odd_text_never_panics(text in r"(\\|u|d8|é|0|n|a){0,12}") {
            unescape(&text, &mut Some(0xd83d));
        }
    }
}

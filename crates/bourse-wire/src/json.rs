//! A strict walk over JSON text that hands out spans instead of values.
//!
//! The hot path needs to know where the members of an object lie, not what they hold: a request is
//! rebuilt by copying spans, an answer is priced by reading one of them. So this walker validates the
//! grammar of RFC 8259 in one pass, allocates nothing and never copies. What is read as a value (numbers,
//! strings, our own small objects) goes through `serde_json` afterwards.
//!
//! Limit: nesting is at most [`NESTING_MAX`], so recursion is bounded and a hostile body costs no stack.

use std::ops::Range;

/// Deepest nesting of arrays and objects that is walked.
pub const NESTING_MAX: usize = 128;

/// Why text was not walked to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The grammar is broken.
    #[error("malformed JSON at byte {0}")]
    Syntax(usize),
    /// Nested deeper than [`NESTING_MAX`].
    #[error("JSON is nested deeper than {NESTING_MAX} levels at byte {0}")]
    Deep(usize),
}

/// A cursor over one JSON text.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Walk<'a> {
    /// Starts at the beginning.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// The first byte of the next value, or 0 at the end.
    pub fn peek(&mut self) -> u8 {
        self.space();
        self.byte()
    }

    /// Where the next token starts, after [`Walk::peek`] or a finished value.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Walks over one value of any kind and returns its span.
    pub fn value(&mut self) -> Result<Range<usize>, JsonError> {
        self.space();
        let start = self.at;
        match self.byte() {
            b'"' => {
                self.string()?;
            }
            b'{' => self.members::<JsonError>(|walk, _| walk.value().map(|_| ()))?,
            b'[' => self.items::<JsonError>(|walk| walk.value().map(|_| ()))?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => self.number()?,
        }
        Ok(start..self.at)
    }

    /// Walks over an object. `each` gets every member's key (a span within its quotes, escapes as
    /// written) and must walk over the value.
    pub fn members<E: From<JsonError>>(
        &mut self,
        mut each: impl FnMut(&mut Self, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'{')?;
        if self.peek() == b'}' {
            return Ok(self.close()?);
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            each(self, key)?;
            self.space();
            match self.byte() {
                b',' => self.at += 1,
                b'}' => return Ok(self.close()?),
                _ => return Err(self.syntax().into()),
            }
        }
    }

    /// Walks over an array. `each` must walk over one item.
    pub fn items<E: From<JsonError>>(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open(b'[')?;
        if self.peek() == b']' {
            return Ok(self.close()?);
        }
        loop {
            each(self)?;
            self.space();
            match self.byte() {
                b',' => self.at += 1,
                b']' => return Ok(self.close()?),
                _ => return Err(self.syntax().into()),
            }
        }
    }

    /// Walks over a string and returns the span within its quotes, escapes as written.
    pub fn string(&mut self) -> Result<Range<usize>, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            self.at += plain_run(&self.text.as_bytes()[self.at..]);
            let end = self.at;
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return Ok(start..end);
                }
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    /// The text of a span.
    pub fn text(&self, span: Range<usize>) -> &'a str {
        &self.text[span]
    }

    /// Succeeds when only white space is left.
    pub fn finish(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.syntax()) }
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.byte() != byte {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn open(&mut self, byte: u8) -> Result<(), JsonError> {
        self.space();
        self.expect(byte)?;
        self.depth += 1;
        if self.depth > NESTING_MAX { Err(JsonError::Deep(self.at)) } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        self.depth = self.depth.checked_sub(1).ok_or(JsonError::Syntax(self.at))?;
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let kind = self.byte();
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    if !self.byte().is_ascii_hexdigit() {
                        return Err(self.syntax());
                    }
                    self.at += 1;
                }
                Ok(())
            }
            _ => Err(JsonError::Syntax(self.at - 1)),
        }
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.byte() == b'-' {
            self.at += 1;
        }
        match self.byte() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return Err(self.syntax()),
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.byte().is_ascii_digit() {
            return Err(self.syntax());
        }
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }
}

/// Bytes at the start that stand for themselves in a string: neither quote, backslash nor control. Most
/// strings are short, so a word is looked at with a few operations; long ones are left to `memchr`.
fn plain_run(bytes: &[u8]) -> usize {
    const WORD: usize = size_of::<u64>();
    const WORDS_BY_HAND: usize = 6;
    const ONES: u64 = u64::MAX / 0xff;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    for word in bytes.chunks_exact(WORD).take(WORDS_BY_HAND) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let control = word.wrapping_sub(ONES * 0x20) & !word & (ONES << 7);
        let odd = control | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if odd != 0 {
            // The lowest mark is exact; only marks above it may be borrowed.
            return at + odd.trailing_zeros() as usize / 8;
        }
        at += WORD;
    }
    let rest = &bytes[at..];
    let hit = if rest.len() < WORD { None } else { memchr::memchr2(b'"', b'\\', rest) };
    let rest = &rest[..hit.unwrap_or(rest.len())];
    let has_control = rest.iter().copied().fold(u8::MAX, u8::min) < 0x20;
    let end = if has_control || hit.is_none() {
        rest.iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\')).unwrap_or(rest.len())
    } else {
        rest.len()
    };
    at + end
}

/// The innermost member or item of a JSON text that covers byte `at`, as in `messages[0].content[2].text`. Empty where none
/// does. Names are cut to [`PATH_NAME_BYTES_MAX`], and no step is added to what has [`PATH_BYTES_MAX`].
pub fn path_at(text: &str, at: usize) -> Result<String, JsonError> {
    let (mut path, mut walk) = (String::new(), Walk::new(text));
    step_to(&mut walk, at, &mut path)?;
    walk.finish()?;
    Ok(path)
}

/// Longest name of one member in a path, in bytes.
pub const PATH_NAME_BYTES_MAX: usize = 64;
/// Length from which a path grows no more, in bytes.
pub const PATH_BYTES_MAX: usize = 256;

/// Walks over one value and appends the way to `at` where it is within.
fn step_to(walk: &mut Walk<'_>, at: usize, path: &mut String) -> Result<(), JsonError> {
    let mut item = 0usize;
    match walk.peek() {
        b'{' => walk.members::<JsonError>(|walk, key| {
            let (begun, start) = (path.len(), key.start);
            if start <= at && path.len() < PATH_BYTES_MAX {
                let name = walk.text(key);
                let dot = if path.is_empty() { "" } else { "." };
                path.push_str(dot);
                path.push_str(&name[..name.floor_char_boundary(PATH_NAME_BYTES_MAX)]);
            }
            step_to(walk, at, path)?;
            // It ended before, or it is only reached behind.
            if walk.at() <= at || start > at {
                path.truncate(begun);
            }
            Ok(())
        }),
        b'[' => walk.items(|walk| {
            walk.peek();
            let (begun, start) = (path.len(), walk.at());
            if start <= at && path.len() < PATH_BYTES_MAX {
                path.push('[');
                path.push_str(&item.to_string());
                path.push(']');
            }
            item += 1;
            step_to(walk, at, path)?;
            if walk.at() <= at || start > at {
                path.truncate(begun);
            }
            Ok(())
        }),
        _ => walk.value().map(|_| ()),
    }
}

/// A JSON number with an exponent as a plain decimal; none for anything else, and for what no amount needs.
pub(crate) fn without_exponent(raw: &str) -> Option<String> {
    let (mantissa, exponent) = raw.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok().filter(|e: &i32| e.abs() <= EXPONENT_MAX)?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let room = "0".repeat(exponent.unsigned_abs() as usize);
    let digits = format!("{room}{whole}{part}{room}");
    let point = (room.len() + whole.len()).checked_add_signed(exponent as isize)?;
    let (whole, part) = digits.split_at_checked(point)?;
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    Some(format!(
        "{}.{}",
        if whole.is_empty() { "0" } else { whole },
        if part.is_empty() { "0" } else { part }
    ))
}

/// Largest exponent that is read, with either sign.
const EXPONENT_MAX: i32 = 24;

/// Appends `text` to `out` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => {
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                copied = at + 1;
                continue;
            }
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(escape);
        copied = at + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends a whole number in decimal.
pub fn push_u64(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walks(text: &str) -> bool {
        let mut walk = Walk::new(text);
        walk.value().and_then(|_| walk.finish()).is_ok()
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(walks(&nested(NESTING_MAX)));
        assert_eq!(Walk::new(&nested(NESTING_MAX + 1)).value(), Err(JsonError::Deep(NESTING_MAX + 1)));
        assert!(Walk::new(&"[".repeat(1_000_000)).value().is_err());
    }

    #[test]
    fn agrees_with_serde_json_on_the_corners_of_the_grammar() {
        let cases = [
            "",
            " ",
            "null",
            "nul",
            "tru",
            "truex",
            "true ",
            "-",
            "-0",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1E-9",
            "\"",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12ag\"",
            "\"a\\nb\"",
            "\"a\nb\"",
            "[",
            "[,]",
            "[1,]",
            "[1 2]",
            "{",
            "{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1}}",
            "[]]",
            "1 1",
            "\u{feff}1",
        ];
        for case in cases {
            let want = serde_json::from_str::<serde::de::IgnoredAny>(case).is_ok();
            assert_eq!(walks(case), want, "{case:?}");
        }
    }

    #[test]
    fn spans_are_the_text_as_written() {
        let text = r#" { "a" : [ 1 , {"b":"c\"d"} ] , "e\u0066":null } "#;
        let mut walk = Walk::new(text);
        let mut seen = Vec::new();
        walk.members::<JsonError>(|walk, key| {
            let span = walk.value()?;
            seen.push((walk.text(key), walk.text(span)));
            Ok(())
        })
        .unwrap();
        walk.finish().unwrap();
        assert_eq!(seen, [("a", r#"[ 1 , {"b":"c\"d"} ]"#), ("e\\u0066", "null")]);
    }

    #[test]
    fn runs_end_where_a_string_must_be_looked_at() {
        for length in 0..80 {
            for odd in [b'"', b'\\', 0, 0x1f] {
                let mut bytes = vec![b' '; length];
                bytes.extend([0x7f, 0x80, 0xff, b'!', b'#', b'[', b']']);
                let end = bytes.len();
                assert_eq!(plain_run(&bytes), end);
                bytes.push(odd);
                bytes.extend([b'"'; 9]);
                assert_eq!(plain_run(&bytes), end, "{length} {odd}");
            }
        }
    }

    #[test]
    fn a_byte_is_found_where_it_stands() {
        let text = r#" {"a":1,"b":[{"c":"x"},{"d":{"e":[null,"HERE"]},"f":2}],"g":"HERE"} "#;
        let at = text.find("HERE").unwrap();
        assert_eq!(path_at(text, at).unwrap(), "b[1].d.e[1]");
        assert_eq!(path_at(text, text.rfind("HERE").unwrap()).unwrap(), "g");
        assert_eq!(
            path_at(text, text.find("\"f\"").unwrap() + 1).unwrap(),
            "b[1].f",
            "a key belongs to its member"
        );
        assert_eq!(path_at(text, 0).unwrap(), "");
        assert_eq!(path_at(text, text.len()).unwrap(), "");
        assert_eq!(path_at(r#"{"a":"x"#, 5), Err(JsonError::Syntax(7)));
    }

    #[test]
    fn a_path_is_bounded() {
        let nested = format!("{}\"x\"{}", "{\"abcdefgh\":".repeat(NESTING_MAX), "}".repeat(NESTING_MAX));
        let path = path_at(&nested, nested.find('x').unwrap()).unwrap();
        assert!((PATH_BYTES_MAX..PATH_BYTES_MAX + 9).contains(&path.len()), "{path}");
        let long = format!("{{\"{}é\":\"x\"}}", "n".repeat(PATH_NAME_BYTES_MAX - 1));
        assert_eq!(path_at(&long, long.len() - 3).unwrap(), "n".repeat(PATH_NAME_BYTES_MAX - 1));
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in "[\\[\\]{}:,\"\\\\0-9a-fnrtu.eE+\\- ]{0,24}") {
            let serde = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(walks(&text), serde, "{}", text);
        }

        #[test]
        fn strings_and_numbers_round_trip(text: String, number: u64) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            let mut out = Vec::new();
            push_u64(&mut out, number);
            prop_assert_eq!(serde_json::from_slice::<u64>(&out).unwrap(), number);
        }
    }
}

//! Tokens to text, one at a time, whole characters only.
//!
//! A token may end inside a character; its bytes wait until the next token completes them. Bytes that can
//! never become a character turn into U+FFFD, one for each maximal wrong run, as Rust's lossy conversion
//! and the Python decoders do. At most three bytes ever wait.

/// Collects the bytes of one answer.
#[derive(Debug, Default, Clone)]
pub struct Detokenizer {
    waiting: Vec<u8>,
}

impl Detokenizer {
    /// Adds a token's bytes and appends all characters that are now complete to `text`.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.waiting.extend_from_slice(bytes);
        let mut rest = self.waiting.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return;
                }
                Err(error) => {
                    let (whole, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(whole).unwrap_or_default());
                    let Some(wrong) = error.error_len() else {
                        self.waiting = after.to_vec();
                        return;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[wrong..];
                }
            }
        }
    }

    /// Ends the answer: what still waits is no character.
    pub fn finish(&mut self, text: &mut String) {
        if !self.waiting.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.waiting.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pieces: &[&[u8]], want: &[&str]) {
        let mut detokenizer = Detokenizer::default();
        let mut got: Vec<String> = Vec::new();
        for piece in pieces {
            let mut text = String::new();
            detokenizer.push(piece, &mut text);
            got.push(text);
        }
        let mut text = String::new();
        detokenizer.finish(&mut text);
        got.push(text);
        assert_eq!(got, want);
    }

    #[test]
    fn characters_come_out_whole() {
        check(&[b"a", b"b"], &["a", "b", ""]);
        check(&[b"\xF0\x9F", b"\x98", b"\x80!"], &["", "", "😀!", ""]);
        check(&[b"x\xC3", b"\xA9"], &["x", "é", ""]);
    }

    #[test]
    fn bytes_that_are_no_character_become_the_replacement() {
        check(&[b"\xFF", b"a"], &["\u{FFFD}", "a", ""]);
        check(&[b"\xE2\x82", b"a"], &["", "\u{FFFD}a", ""]);
        check(&[b"a\xE2\x82"], &["a", "\u{FFFD}"]);
    }

    proptest! {
        #[test]
        fn pieces_add_up_to_the_lossy_whole(bytes in proptest::collection::vec(any::<u8>(), 0..64), cut in 1usize..5) {
            let mut detokenizer = Detokenizer::default();
            let mut text = String::new();
            for piece in bytes.chunks(cut) {
                detokenizer.push(piece, &mut text);
                prop_assert!(detokenizer.waiting.len() <= 3);
            }
            detokenizer.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

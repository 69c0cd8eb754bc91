//! The tokens port: who counts prompts and answers as a model's own tokenizer does, out of every seller's reach.
//!
//! A [`TokenCounter`] is one model's pinned tokenizer. A [`RunningCount`] counts a text that comes in pieces without
//! keeping it: it cuts where no vocabulary that splits words at spaces has a token across. Both only count; what follows
//! from a count is the meter's business.
//!
//! Limits: a text without such a place is cut every [`PIECE_BYTES_MAX`] bytes, and may then count a token or two too many
//! at each cut, which a declared tolerance covers.

use crate::node::Prompt;
use bourse_types::{Digest32, PromptTokens, UnixMs};
use std::fmt;

/// Bytes of text that are counted at a time, where they can be cut.
pub const PIECE_BYTES: usize = 512;
/// Bytes after which a text is cut wherever a character ends.
pub const PIECE_BYTES_MAX: usize = 8 * PIECE_BYTES;

/// Counts tokens as one model's own tokenizer does. Work in proportion to the text, nothing else: no waiting, no I/O.
pub trait TokenCounter: fmt::Debug + Send + Sync + 'static {
    /// What it counts with: vocabulary, merges, splitting and template. Equal digests count equally.
    fn pin(&self) -> Digest32;
    /// Tokens of generated text. None where it cannot be encoded.
    fn text(&self, text: &str) -> Option<u64>;
    /// Tokens of a prompt; `now` is what a template tells as the time. None where it cannot be encoded at all.
    fn prompt(&self, prompt: &Prompt, now: UnixMs) -> Option<PromptTokens>;
}

/// The tokens of a text so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunningCount {
    tokens: u64,
    /// What is not counted yet. At most [`PIECE_BYTES_MAX`] bytes and what one call brings.
    rest: String,
    has_failed: bool,
}

impl RunningCount {
    /// Adds text.
    pub fn push(&mut self, text: &str, counter: &dyn TokenCounter) {
        self.rest.push_str(text);
        if self.rest.len() < PIECE_BYTES {
            return;
        }
        let mut done = 0;
        while self.rest.len() - done >= PIECE_BYTES {
            let Some(end) = piece_end(&self.rest[done..]) else { break };
            self.count(done, done + end, counter);
            done += end;
        }
        self.rest.drain(..done);
    }

    /// All tokens so far. None where a part could not be encoded.
    pub fn total(&self, counter: &dyn TokenCounter) -> Option<u64> {
        if self.has_failed {
            return None;
        }
        let rest = if self.rest.is_empty() { 0 } else { counter.text(&self.rest)? };
        Some(self.tokens.saturating_add(rest))
    }

    fn count(&mut self, from: usize, to: usize, counter: &dyn TokenCounter) {
        match counter.text(&self.rest[from..to]) {
            Some(tokens) => self.tokens = self.tokens.saturating_add(tokens),
            None => self.has_failed = true,
        }
    }
}

/// Where the next piece of a text ends: at the last place within [`PIECE_BYTES_MAX`] that no token spans.
fn piece_end(text: &str) -> Option<usize> {
    let within = text.floor_char_boundary(PIECE_BYTES_MAX);
    let bytes = &text.as_bytes()[..within];
    let safe = (2..bytes.len().saturating_sub(1)).rev().find(|at| is_between_words(bytes, *at));
    safe.or((text.len() >= PIECE_BYTES_MAX).then_some(within))
}

/// Whether a word ends before `at`, and a space with the next word begins there, or the first word of a line.
fn is_between_words(bytes: &[u8], at: usize) -> bool {
    let before_space = bytes[at] == b' '
        && bytes[at - 1].is_ascii_alphabetic()
        && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic);
    let at_line =
        bytes[at].is_ascii_alphabetic() && bytes[at - 1] == b'\n' && !bytes[at - 2].is_ascii_whitespace();
    before_space || at_line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts words, and what is asked at a time.
    #[derive(Debug)]
    struct Words(std::sync::Mutex<Vec<usize>>);

    impl TokenCounter for Words {
        fn pin(&self) -> Digest32 {
            Digest32::default()
        }

        fn text(&self, text: &str) -> Option<u64> {
            self.0.lock().unwrap().push(text.len());
            (!text.contains('\u{0}')).then(|| text.split_whitespace().count() as u64)
        }

        fn prompt(&self, _: &Prompt, _: UnixMs) -> Option<PromptTokens> {
            None
        }
    }

    fn check(text: &str, step: usize, want: Option<u64>) -> Vec<usize> {
        let words = Words(std::sync::Mutex::default());
        let mut count = RunningCount::default();
        let mut at = 0;
        while at < text.len() {
            let end = text.floor_char_boundary((at + step).min(text.len()));
            count.push(&text[at..end], &words);
            assert!(count.rest.len() < PIECE_BYTES_MAX);
            at = end;
        }
        assert_eq!(count.total(&words), want);
        words.0.into_inner().unwrap()
    }

    #[test]
    fn a_long_text_is_counted_in_bounded_pieces() {
        let text = "some words of a text ".repeat(1_000);
        for step in [3, 700, 21_000] {
            let pieces = check(&text, step, Some(5_000));
            assert!(pieces.len() >= 5 && pieces.iter().all(|bytes| *bytes <= PIECE_BYTES_MAX), "{pieces:?}");
            assert_eq!(pieces.iter().sum::<usize>(), text.len());
        }
    }

    #[test]
    fn a_text_without_words_is_cut_at_characters() {
        let text = "語".repeat(3_000);
        assert_eq!(check(&text, 30, Some(3)).iter().sum::<usize>(), text.len());
        assert!(check(&"x".repeat(PIECE_BYTES_MAX), 1, Some(1)).len() == 1);
    }

    #[test]
    fn what_cannot_be_encoded_has_no_count() {
        check(&("a b ".repeat(400) + "\u{0}"), 100, None);
        check(&(" \u{0} ".repeat(20) + &"a b ".repeat(1_000)), 100, None);
        check("", 1, Some(0));
    }
}

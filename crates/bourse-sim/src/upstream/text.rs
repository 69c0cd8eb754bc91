//! The tokenizer stand-in and the vocabulary: how many tokens a text has, and which words come next.
//!
//! The law is simple enough to compute by hand: a word of `c` characters is `⌈c / chars_per_token⌉`
//! tokens, and white space is free. It is never more than the bytes of the text, so a market that bounds
//! a prompt by its bytes is on the safe side. The vocabulary has words of two, three and four bytes a
//! character, so that every cut in mid character can happen.

use crate::seed::mix;

/// Characters in a token unless the seller's configuration says otherwise.
const CHARS_PER_TOKEN_DEFAULT: usize = 8;
/// Tokens that framing adds to each message of a chat.
const TOKENS_PER_MESSAGE: u64 = 3;
/// A salt that keeps noise words apart from the words they replace.
const NOISE_SALT: u64 = 0x6E6F_6973_6500_0000;

const WORDS: [&str; 32] = [
    "ask", "bid", "book", "clear", "coin", "depth", "draw", "edge", "fair", "fill", "floor", "grain", "hold",
    "iron", "jury", "kept", "ledger", "market", "night", "offer", "price", "quote", "river", "spread",
    "trade", "unit", "void", "yield", "naïve", "日本", "größe", "🦀",
];
const NOISE: [&str; 4] = ["???", "lorem", "ipsum", "###"];

/// Words to tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLaw {
    /// Characters that fit in one token. Zero is read as one.
    pub chars_per_token: usize,
}

impl Default for TokenLaw {
    fn default() -> Self {
        Self { chars_per_token: CHARS_PER_TOKEN_DEFAULT }
    }
}

impl TokenLaw {
    /// Tokens in a text.
    pub fn count(self, text: &str) -> u64 {
        let per_token = self.chars_per_token.max(1);
        text.split_whitespace().map(|word| word.chars().count().div_ceil(per_token) as u64).sum()
    }

    /// Tokens that a chat of these message texts costs as a prompt.
    pub fn count_chat<'a>(self, messages: impl IntoIterator<Item = &'a str>) -> u64 {
        messages.into_iter().map(|text| self.count(text) + TOKENS_PER_MESSAGE).sum()
    }
}

/// The words of an answer: a function of the prompt (`seed`) alone, so that honest sellers agree. A
/// seller of less than full quality replaces words by noise, each seller differently.
pub(crate) fn words(seed: u64, count: usize, quality_permille: u16, seller_seed: u64) -> Vec<String> {
    (0..count)
        .map(|index| {
            let draw = mix(seed.wrapping_add(index as u64));
            let noise = mix(draw ^ seller_seed ^ NOISE_SALT);
            let word = if noise % 1_000 < u64::from(quality_permille) {
                WORDS[(draw % WORDS.len() as u64) as usize]
            } else {
                NOISE[(noise / 1_000 % NOISE.len() as u64) as usize]
            };
            if index == 0 { word.to_owned() } else { format!(" {word}") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, chars_per_token: usize, want: u64) {
        assert_eq!(TokenLaw { chars_per_token }.count(text), want, "{text:?}");
    }

    #[test]
    fn the_law_counts_characters_of_words() {
        check("", 8, 0);
        check("  \n ", 8, 0);
        check("abcdefgh", 8, 1);
        check("abcdefghi", 8, 2);
        check("naïve 日本 🦀", 8, 3);
        check("abc", 0, 3);
    }

    #[test]
    fn honest_sellers_agree_and_others_do_not() {
        assert_eq!(words(1, 40, 1_000, 5), words(1, 40, 1_000, 6));
        assert_ne!(words(1, 40, 1_000, 5), words(2, 40, 1_000, 5));
        assert_ne!(words(1, 40, 500, 5), words(1, 40, 1_000, 5));
        assert!(words(1, 40, 0, 5).iter().all(|word| NOISE.contains(&word.trim())));
    }

    #[test]
    fn every_word_is_one_token_by_default() {
        assert!(WORDS.iter().chain(&NOISE).all(|word| TokenLaw::default().count(word) == 1));
    }
}

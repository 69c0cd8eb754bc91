//! Text to tokens and back, from the model file's own metadata.
//!
//! The file carries a byte-level BPE vocabulary, its merges and the *name* of a pre-tokenizer; from these
//! the `tokenizers` library is set up to give the ids that the model was trained with. Control tokens are
//! recognised in the prompt, as every engine does that renders a chat template to text: a message that
//! spells `<|im_end|>` ends its turn. The reverse direction is a table of bytes, because an answer is
//! streamed token by token and a token may end inside a character.
//!
//! Facts that the gateway bounds a prompt with: every token of a byte-level vocabulary stands for at least
//! one byte ([`BYTES_PER_TOKEN_MIN`]), so a text never has more tokens than bytes.
//!
//! Limits: family `gpt2` with the pre-tokenizers of [`PreTokenizer`]; a token is at most
//! [`TOKEN_BYTES_MAX`] bytes.

mod detokenizer;
mod stop;

pub use detokenizer::Detokenizer;
pub use stop::{StopMatcher, StopOutcome};

use bourse_engine::Vocabulary;
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

/// Fewest bytes of text that a token of a byte-level vocabulary stands for.
pub const BYTES_PER_TOKEN_MIN: u32 = 1;
/// Longest token, in bytes of text. A longer one is no honest vocabulary, and it would not fit a delta.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// ggml's number for control tokens, which are markup and never text.
pub(crate) const TYPE_CONTROL: i64 = 3;
/// ggml's number for tokens that are matched before BPE but are text.
const TYPE_USER_DEFINED: i64 = 4;
/// Control tokens that end an answer whatever the metadata says, as llama.cpp treats them.
const END_TOKENS: [&str; 7] =
    ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|end|>", "</s>"];
/// Splits as Llama 3 does; digits in groups of up to three.
const LLAMA_3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Splits as Qwen 2 does; digits one by one.
const QWEN_2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Why a vocabulary cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Another family than byte-level BPE.
    #[error("tokenizer family {0:?} is not supported; gpt2 is")]
    Family(String),
    /// A pre-tokenizer that is not known here: guessing would give other tokens than the model knows.
    #[error("pre-tokenizer {0:?} is not supported; smollm, gpt-2, llama-bpe and qwen2 are")]
    PreTokenizer(String),
    /// A token that is too long or not spelt in the byte alphabet.
    #[error("token {0} is not spelt in the byte alphabet or is longer than {TOKEN_BYTES_MAX} bytes")]
    Token(u32),
    /// A merge that is not two pieces.
    #[error("merge {0} is not two pieces with a space between")]
    Merge(usize),
    /// The library refused the parts.
    #[error("the tokenizer cannot be built: {0}")]
    Build(String),
    /// A text that the library could not encode.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
}

/// How text is cut before BPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreTokenizer {
    /// GPT-2's pattern, each digit on its own.
    Smollm,
    /// GPT-2's pattern.
    Gpt2,
    /// Llama 3's pattern; whole pieces that are tokens are not merged again.
    Llama3,
    /// Qwen 2's pattern, after Unicode normalisation (NFC).
    Qwen2,
}

impl PreTokenizer {
    /// Reads `tokenizer.ggml.pre`; absent means GPT-2.
    pub fn parse(name: Option<&str>) -> Result<Self, TokenizerError> {
        match name {
            Some("smollm") => Ok(Self::Smollm),
            None | Some("default" | "gpt-2" | "gpt2") => Ok(Self::Gpt2),
            Some("llama-bpe" | "llama3" | "llama-v3") => Ok(Self::Llama3),
            Some("qwen2") => Ok(Self::Qwen2),
            Some(other) => Err(TokenizerError::PreTokenizer(other.chars().take(64).collect())),
        }
    }

    fn build(self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let split = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(build_error)?;
            Ok::<_, TokenizerError>(PreTokenizerWrapper::from(split))
        };
        let bytes_only = || PreTokenizerWrapper::from(ByteLevel::new(false, true, false));
        let gpt2 = || PreTokenizerWrapper::from(ByteLevel::new(false, true, true));
        Ok(match self {
            Self::Smollm => sequence(vec![PreTokenizerWrapper::from(Digits::new(true)), gpt2()]),
            Self::Gpt2 => gpt2(),
            Self::Llama3 => sequence(vec![split(LLAMA_3_PATTERN)?, bytes_only()]),
            Self::Qwen2 => sequence(vec![split(QWEN_2_PATTERN)?, bytes_only()]),
        })
    }
}

fn sequence(parts: Vec<PreTokenizerWrapper>) -> PreTokenizerWrapper {
    PreTokenizerWrapper::from(Sequence::new(parts))
}

fn build_error(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Build(error.to_string())
}

/// What a token is to a reader of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Text,
    Control,
}

/// One token of the vocabulary.
struct Token {
    bytes: Box<[u8]>,
    kind: TokenKind,
}

/// One model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// By id.
    tokens: Vec<Token>,
    bos: Option<u32>,
    end_tokens: Vec<u32>,
    token_bytes_max: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Sets the library up from a model file's vocabulary.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        if vocabulary.model != "gpt2" {
            return Err(TokenizerError::Family(vocabulary.model.chars().take(64).collect()));
        }
        let pre = PreTokenizer::parse(vocabulary.pre.as_deref())?;
        let merges = vocabulary.merges.iter().enumerate().map(|(at, merge)| {
            let (left, right) = merge.split_once(' ').ok_or(TokenizerError::Merge(at))?;
            Ok((left.to_owned(), right.to_owned()))
        });
        let ids = vocabulary.tokens.iter().enumerate();
        let bpe = BPE::builder()
            .vocab_and_merges(
                ids.map(|(id, token)| (token.clone(), id as u32)).collect::<tokenizers::models::bpe::Vocab>(),
                merges.collect::<Result<Vec<_>, _>>()?,
            )
            .ignore_merges(pre == PreTokenizer::Llama3)
            .build()
            .map_err(build_error)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        if pre == PreTokenizer::Qwen2 {
            inner.with_normalizer(Some(NFC)).map_err(build_error)?;
        }
        inner.with_pre_tokenizer(Some(pre.build()?));
        inner.add_special_tokens(added_tokens(vocabulary)).map_err(build_error)?;
        let tokens = token_table(vocabulary)?;
        let token_bytes_max = tokens.iter().map(|token| token.bytes.len()).max().unwrap_or(1).max(1);
        Ok(Self {
            inner,
            tokens,
            bos: vocabulary.bos_id.filter(|_| vocabulary.add_bos == Some(true)),
            end_tokens: end_tokens(vocabulary),
            token_bytes_max,
        })
    }

    /// Token ids of `text`. Control tokens that it spells are taken as such.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| TokenizerError::Encode(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a plain prompt: [`Tokenizer::encode`] with the token that begins a text, if the file
    /// asks for one. Chat templates write theirs.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = self.encode(text)?;
        if let Some(bos) = self.bos.filter(|bos| ids.first() != Some(bos)) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// What a token stands for as text: empty for control tokens and for ids that do not exist.
    pub fn text_bytes(&self, token: u32) -> &[u8] {
        match self.tokens.get(token as usize) {
            Some(Token { bytes, kind: TokenKind::Text }) => bytes,
            _ => &[],
        }
    }

    /// How a token is spelt, control tokens included; empty for ids that do not exist.
    pub fn spelling(&self, token: u32) -> &[u8] {
        self.tokens.get(token as usize).map_or(&[], |token| &token.bytes)
    }

    /// Tokens that end an answer, ascending.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The spelling of a token that may be absent, for templates.
    pub fn spelling_text(&self, token: Option<u32>) -> String {
        token.map(|token| String::from_utf8_lossy(self.spelling(token)).into_owned()).unwrap_or_default()
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The longest token, in bytes of text: a text of more than this times the context cannot fit it.
    pub fn token_bytes_max(&self) -> usize {
        self.token_bytes_max
    }
}

fn added_tokens(vocabulary: &Vocabulary) -> Vec<AddedToken> {
    let types = vocabulary.token_types.iter().zip(&vocabulary.tokens);
    types
        .filter(|(kind, _)| matches!(**kind, TYPE_CONTROL | TYPE_USER_DEFINED))
        .map(|(kind, token)| AddedToken::from(token.clone(), *kind == TYPE_CONTROL).normalized(false))
        .collect()
}

fn end_tokens(vocabulary: &Vocabulary) -> Vec<u32> {
    let named = vocabulary.tokens.iter().enumerate().filter(|(id, token)| {
        vocabulary.token_types.get(*id) == Some(&TYPE_CONTROL) && END_TOKENS.contains(&token.as_str())
    });
    let mut ids: Vec<u32> = named.map(|(id, _)| id as u32).collect();
    ids.extend(vocabulary.eos_id.into_iter().chain(vocabulary.eot_id));
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn token_table(vocabulary: &Vocabulary) -> Result<Vec<Token>, TokenizerError> {
    let alphabet = byte_alphabet();
    let tokens = vocabulary.tokens.iter().enumerate();
    tokens
        .map(|(id, token)| {
            let kind = vocabulary.token_types.get(id).copied();
            let (bytes, kind) = match kind {
                Some(TYPE_CONTROL) => (Some(token.as_bytes().to_vec()), TokenKind::Control),
                Some(TYPE_USER_DEFINED) => (Some(token.as_bytes().to_vec()), TokenKind::Text),
                _ => (token.chars().map(|c| alphabet.get(&c).copied()).collect(), TokenKind::Text),
            };
            match bytes {
                Some(bytes) if bytes.len() <= TOKEN_BYTES_MAX => {
                    Ok(Token { bytes: bytes.into_boxed_slice(), kind })
                }
                _ => Err(TokenizerError::Token(id as u32)),
            }
        })
        .collect()
}

/// GPT-2's spelling of bytes: printable Latin-1 characters stand for themselves, the other 68 bytes for
/// the characters from U+0100 on.
pub(crate) fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100u32;
    (0..=u8::MAX)
        .map(|byte| {
            let code = if printable(byte) {
                u32::from(byte)
            } else {
                next += 1;
                next - 1
            };
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), byte)
        })
        .collect()
}

#[cfg(test)]
mod tests;

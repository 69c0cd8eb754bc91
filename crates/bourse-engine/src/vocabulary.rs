//! The tokenizer's data as the model file carries it.
//!
//! Plain data only: turning text into tokens is done above this crate, by the `tokenizers` library, because
//! it is the same for all engines. Lengths are checked against each other, contents are not interpreted.

use thiserror::Error;

use crate::gguf::{ArrayValue, GgufError, GgufFile};

/// Why a model file's vocabulary cannot be used.
#[derive(Debug, Error)]
pub enum VocabularyError {
    /// An entry is missing or has another type.
    #[error("the vocabulary is incomplete")]
    Metadata(#[from] GgufError),
    /// There are no tokens.
    #[error("the vocabulary is empty")]
    Empty,
    /// Two arrays that describe the same tokens have different lengths.
    #[error("{key} has {found} items for {tokens} tokens")]
    Length {
        /// The array's key.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The number of tokens.
        tokens: usize,
    },
    /// A special token's id is not a token.
    #[error("{key} is {id}, but there are {tokens} tokens")]
    TokenId {
        /// The entry's key.
        key: &'static str,
        /// The id in the file.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
}

/// `tokenizer.ggml.*` and the chat template, as found.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Family of the tokenizer, such as `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// Name of the pre-tokenizer, such as `smollm`.
    pub pre: Option<String>,
    /// Text of each token, by id, in the family's own spelling.
    pub tokens: Vec<String>,
    /// ggml's type of each token (1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte); empty
    /// when the file has none.
    pub token_types: Vec<i64>,
    /// Score of each token; empty when the file has none.
    pub scores: Vec<f64>,
    /// BPE merges in order of rank, each two pieces with a space between; empty when the file has none.
    pub merges: Vec<String>,
    /// Token that begins a text.
    pub bos_id: Option<u32>,
    /// Token that ends a text or turn.
    pub eos_id: Option<u32>,
    /// Token that ends a turn, where it differs from `eos_id`.
    pub eot_id: Option<u32>,
    /// Token for what cannot be spelt.
    pub unknown_id: Option<u32>,
    /// Token that fills.
    pub padding_id: Option<u32>,
    /// Whether a text begins with `bos_id`, where the file says so.
    pub add_bos: Option<bool>,
    /// Whether a text ends with `eos_id`, where the file says so.
    pub add_eos: Option<bool>,
    /// Whether a space is put before a text, where the file says so.
    pub add_space_prefix: Option<bool>,
    /// The chat template's source (Jinja).
    pub chat_template: Option<String>,
}

impl Vocabulary {
    /// Takes the vocabulary out of a file's metadata.
    pub fn from_gguf(file: &GgufFile) -> Result<Self, VocabularyError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let tokens = strings(file, TOKENS)?;
        if tokens.is_empty() {
            return Err(VocabularyError::Empty);
        }
        let count = tokens.len();
        let token_id = |key: &'static str| match file.value(key) {
            None => Ok(None),
            Some(_) => match file.get_u32(key)? {
                id if (id as usize) < count => Ok(Some(id)),
                id => Err(VocabularyError::TokenId { key, id, tokens: count }),
            },
        };
        Ok(Self {
            model: file.get_str("tokenizer.ggml.model")?.to_owned(),
            pre: text(file, "tokenizer.ggml.pre"),
            token_types: per_token(file, "tokenizer.ggml.token_type", count, ArrayValue::as_ints)?,
            scores: per_token(file, "tokenizer.ggml.scores", count, ArrayValue::as_floats)?,
            merges: match file.value("tokenizer.ggml.merges") {
                None => Vec::new(),
                Some(_) => strings(file, "tokenizer.ggml.merges")?,
            },
            bos_id: token_id("tokenizer.ggml.bos_token_id")?,
            eos_id: token_id("tokenizer.ggml.eos_token_id")?,
            eot_id: token_id("tokenizer.ggml.eot_token_id")?,
            unknown_id: token_id("tokenizer.ggml.unknown_token_id")?,
            padding_id: token_id("tokenizer.ggml.padding_token_id")?,
            add_bos: truth(file, "tokenizer.ggml.add_bos_token"),
            add_eos: truth(file, "tokenizer.ggml.add_eos_token"),
            add_space_prefix: truth(file, "tokenizer.ggml.add_space_prefix"),
            chat_template: text(file, "tokenizer.chat_template"),
            tokens,
        })
    }
}

fn text(file: &GgufFile, key: &str) -> Option<String> {
    file.get_str(key).ok().map(str::to_owned)
}

fn truth(file: &GgufFile, key: &str) -> Option<bool> {
    file.get_bool(key).ok()
}

fn strings(file: &GgufFile, key: &str) -> Result<Vec<String>, GgufError> {
    let expected = "array of strings";
    let items = file.get_array(key)?.as_strings();
    items.map(<[String]>::to_vec).ok_or_else(|| GgufError::Metadata { key: key.to_owned(), expected })
}

fn per_token<T: Copy>(
    file: &GgufFile,
    key: &'static str,
    tokens: usize,
    narrow: impl Fn(&ArrayValue) -> Option<&[T]>,
) -> Result<Vec<T>, VocabularyError> {
    if file.value(key).is_none() {
        return Ok(Vec::new());
    }
    let expected = "array of numbers";
    let items = narrow(file.get_array(key)?);
    let items = items.ok_or_else(|| GgufError::Metadata { key: key.to_owned(), expected })?;
    if items.len() == tokens {
        Ok(items.to_vec())
    } else {
        Err(VocabularyError::Length { key, found: items.len(), tokens })
    }
}

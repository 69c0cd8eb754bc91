//! Tokenizers that the market counts with.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The tokenizer of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSection {
    /// The slug that buyers write.
    pub model: String,
    /// A `tokenizer.json` or a GGUF file.
    pub path: PathBuf,
    /// A file with the chat template, where the first has none or another one is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PathBuf>,
    /// The digest that it must have.
    pub pin: String,
    /// What a claim may exceed the count by, in 1/10,000 of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_bps: Option<u32>,
    /// The same in tokens, beside the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_tokens: Option<u64>,
    /// Most tokens of a picture, a sound or a file in a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_tokens: Option<u64>,
    /// Most tokens of reasoning that is not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_reasoning_tokens: Option<u64>,
}

//! A model's tokenizer and template under one digest, the *pin*: the market's own measure of what sellers bill.
//!
//! It is read from a GGUF file's metadata (the weights are not touched) or from a `tokenizer.json` with, if there is one,
//! a chat template beside it. The pin covers everything that a count depends on, so that whoever has a receipt can fetch
//! the same tokenizer and count again. A pin that was expected and is not found is an error: counting with another
//! vocabulary would accuse honest sellers.
//!
//! Rules for what a template cannot tell:
//!
//! | prompt | count |
//! | --- | --- |
//! | text | exact, with the token that begins a text where the model has one |
//! | chat that the template renders | exact |
//! | the same with tools that the template does not mention | at most: the chat, the tools' JSON, [`TOOLS_FRAME_TOKENS`] |
//! | chat that it refuses, or no template | at most: the JSON as written and [`MESSAGE_TOKENS`] for each message and two more |
//!
//! Limit: [`TOKENIZER_BYTES_MAX`] for a `tokenizer.json` or a template.

use crate::template::{ChatTemplate, SpecialTokens, TemplateError};
use crate::tokenizer::{Tokenizer, TokenizerError};
use bourse_engine::{GgufError, GgufFile, Vocabulary, VocabularyError};
use bourse_types::{Digest32, PromptTokens, UnixMs};
use bourse_wire::node::Prompt;
use bourse_wire::tokens::TokenCounter;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// Largest `tokenizer.json` or template file. The largest in use have 20 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Tokens with which a template may frame each message, where it cannot be rendered here.
pub const MESSAGE_TOKENS: u64 = 16;
/// Tokens with which a template may frame a list of tools.
pub const TOOLS_FRAME_TOKENS: u64 = 512;
/// Turns that a template may add by itself.
const TURNS_EXTRA: u64 = 2;
/// Domain of a pin.
const PIN_DOMAIN: &[u8] = b"bourse/tokenizer/1";

/// Why a tokenizer cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// A file could not be read.
    #[error("{0} cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// A file is larger than any honest one.
    #[error("{0} is larger than {TOKENIZER_BYTES_MAX} bytes")]
    TooLarge(PathBuf),
    /// A template that is no text.
    #[error("{0} is not UTF-8")]
    NotText(PathBuf),
    /// The file is no GGUF.
    #[error("{0} is not a GGUF file that can be read")]
    Gguf(PathBuf, #[source] GgufError),
    /// Its vocabulary is not whole.
    #[error("the vocabulary cannot be used")]
    Vocabulary(#[from] VocabularyError),
    /// Its vocabulary is of a kind that is not known here.
    #[error("the tokenizer cannot be used")]
    Tokenizer(#[from] TokenizerError),
    /// Its template.
    #[error("the chat template cannot be used")]
    Template(#[from] TemplateError),
    /// Another tokenizer than the one that was pinned.
    #[error("the tokenizer has the pin {found}, not {expected}")]
    Pin {
        /// What was asked for.
        expected: Digest32,
        /// What is there.
        found: Digest32,
    },
}

/// One model's tokenizer, pinned.
pub struct PinnedTokenizer {
    inner: Inner,
    template: Option<ChatTemplate>,
    pin: Digest32,
}

enum Inner {
    /// Of a GGUF file.
    Vocabulary(Box<Tokenizer>),
    /// Of a `tokenizer.json`.
    Library(Box<tokenizers::Tokenizer>),
}

/// Without the vocabulary.
impl fmt::Debug for PinnedTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedTokenizer").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl PinnedTokenizer {
    /// Reads a `.gguf` file or a `tokenizer.json`; `template` is a file with a chat template that goes before the GGUF
    /// file's own. With a pin, nothing else is accepted.
    pub fn open(path: &Path, template: Option<&Path>, pin: Option<Digest32>) -> Result<Self, PinError> {
        let template = template.map(read_text).transpose()?;
        let is_gguf = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        let opened = if is_gguf {
            let file = GgufFile::open(path).map_err(|error| PinError::Gguf(path.to_owned(), error))?;
            let mut vocabulary = Vocabulary::from_gguf(&file)?;
            vocabulary.chat_template = template.or(vocabulary.chat_template);
            Self::of_vocabulary(&vocabulary)?
        } else {
            Self::of_json(&read(path)?, template.as_deref())?
        };
        match pin {
            Some(expected) if expected != opened.pin => Err(PinError::Pin { expected, found: opened.pin }),
            _ => Ok(opened),
        }
    }

    /// From a model file's vocabulary and template.
    pub fn of_vocabulary(vocabulary: &Vocabulary) -> Result<Self, PinError> {
        let tokenizer = Tokenizer::new(vocabulary)?;
        let template = chat_template(&tokenizer, vocabulary)?;
        Ok(Self {
            inner: Inner::Vocabulary(Box::new(tokenizer)),
            template,
            pin: pin_of_vocabulary(vocabulary),
        })
    }

    /// From the text of a `tokenizer.json` and of a chat template.
    pub fn of_json(json: &[u8], template: Option<&str>) -> Result<Self, PinError> {
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|error| TokenizerError::Build(error.to_string()))?;
        let mut hasher = Pin::new("tokenizer.json");
        hasher.part(json);
        hasher.part(template.unwrap_or_default().as_bytes());
        let template =
            template.map(|source| ChatTemplate::new(source, SpecialTokens::default())).transpose()?;
        Ok(Self { inner: Inner::Library(Box::new(inner)), template, pin: hasher.finish() })
    }

    /// Tokens of a text; `begins` says whether it is all that the model reads.
    fn encoded(&self, text: &str, begins: Begins) -> Option<u64> {
        let begins = begins == Begins::Prompt;
        match &self.inner {
            Inner::Vocabulary(tokenizer) if begins => tokenizer.encode_prompt(text).ok().map(|ids| ids.len()),
            Inner::Vocabulary(tokenizer) => tokenizer.encode(text).ok().map(|ids| ids.len()),
            Inner::Library(tokenizer) => {
                tokenizer.encode_fast(text, begins).ok().map(|encoding| encoding.len())
            }
        }
        .map(|tokens| tokens as u64)
    }

    fn chat(&self, messages_json: &str, tools_json: Option<&str>, now: UnixMs) -> Option<PromptTokens> {
        let rendered = |tools| self.template.as_ref()?.render(messages_json, tools, now).ok();
        let Some(chat) = rendered(tools_json) else {
            return self.as_written(messages_json, tools_json).map(PromptTokens::AtMost);
        };
        let tokens = PromptTokens::Exact(self.encoded(&chat.text, Begins::Nothing)?);
        let Some(tools) = tools_json else { return Some(tokens) };
        let is_unmentioned = rendered(None).is_some_and(|without| without.text == chat.text);
        let more =
            if is_unmentioned { self.encoded(tools, Begins::Nothing)? + TOOLS_FRAME_TOKENS } else { 0 };
        Some(tokens.and_at_most(more))
    }

    /// A bound of a chat that is rendered elsewhere.
    fn as_written(&self, messages_json: &str, tools_json: Option<&str>) -> Option<u64> {
        let text = self.encoded(messages_json, Begins::Prompt)?;
        let tools = tools_json
            .map_or(Some(0), |tools| Some(self.encoded(tools, Begins::Nothing)? + TOOLS_FRAME_TOKENS))?;
        let messages: Vec<serde::de::IgnoredAny> = serde_json::from_str(messages_json).ok()?;
        Some(text + tools + MESSAGE_TOKENS * (messages.len() as u64 + TURNS_EXTRA))
    }
}

/// What stands at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// What the model puts before a text.
    Prompt,
    /// Nothing: it goes on with another, or the template has written it.
    Nothing,
}

impl TokenCounter for PinnedTokenizer {
    fn pin(&self) -> Digest32 {
        self.pin
    }

    fn text(&self, text: &str) -> Option<u64> {
        self.encoded(text, Begins::Nothing)
    }

    fn prompt(&self, prompt: &Prompt, now: UnixMs) -> Option<PromptTokens> {
        match prompt {
            Prompt::Text(text) => self.encoded(text, Begins::Prompt).map(PromptTokens::Exact),
            Prompt::Chat { messages_json, tools_json } => {
                self.chat(messages_json, tools_json.as_deref(), now)
            }
        }
    }
}

/// The template of a model file, with the spellings of its special tokens.
pub fn chat_template(
    tokenizer: &Tokenizer,
    vocabulary: &Vocabulary,
) -> Result<Option<ChatTemplate>, TemplateError> {
    let special = SpecialTokens {
        bos: tokenizer.spelling_text(vocabulary.bos_id),
        eos: tokenizer.spelling_text(vocabulary.eos_id),
        unknown: tokenizer.spelling_text(vocabulary.unknown_id),
        padding: tokenizer.spelling_text(vocabulary.padding_id),
    };
    vocabulary.chat_template.as_deref().map(|source| ChatTemplate::new(source, special)).transpose()
}

fn pin_of_vocabulary(vocabulary: &Vocabulary) -> Digest32 {
    let mut pin = Pin::new("gguf");
    pin.part(vocabulary.model.as_bytes());
    pin.part(vocabulary.pre.as_deref().unwrap_or_default().as_bytes());
    pin.texts(&vocabulary.tokens);
    pin.part(&vocabulary.token_types.iter().flat_map(|kind| kind.to_le_bytes()).collect::<Vec<_>>());
    pin.texts(&vocabulary.merges);
    for id in [vocabulary.bos_id, vocabulary.eos_id, vocabulary.unknown_id, vocabulary.padding_id] {
        pin.part(&id.map_or(u64::MAX, u64::from).to_le_bytes());
    }
    pin.part(&[u8::from(vocabulary.add_bos == Some(true))]);
    pin.part(vocabulary.chat_template.as_deref().unwrap_or_default().as_bytes());
    pin.finish()
}

/// BLAKE3 of parts, each with its length before it.
struct Pin(blake3::Hasher);

impl Pin {
    fn new(kind: &str) -> Self {
        let mut pin = Self(blake3::Hasher::new());
        pin.part(PIN_DOMAIN);
        pin.part(kind.as_bytes());
        pin
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn texts(&mut self, texts: &[String]) {
        self.0.update(&(texts.len() as u64).to_le_bytes());
        for text in texts {
            self.part(text.as_bytes());
        }
    }

    fn finish(self) -> Digest32 {
        Digest32(*self.0.finalize().as_bytes())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PinError> {
    let unreadable = |error| PinError::Read(path.to_owned(), error);
    if fs::metadata(path).map_err(unreadable)?.len() > TOKENIZER_BYTES_MAX {
        return Err(PinError::TooLarge(path.to_owned()));
    }
    fs::read(path).map_err(unreadable)
}

fn read_text(path: &Path) -> Result<String, PinError> {
    String::from_utf8(read(path)?).map_err(|_| PinError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests;

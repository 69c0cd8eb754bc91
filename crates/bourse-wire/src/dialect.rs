//! API dialects: what buyers send and providers answer, as bytes and back.
//!
//! A buyer's request is read into a [`Job`] that keeps its bytes and knows where each member lies, so that a seller of
//! the same dialect gets them unchanged. [`front`] has the dialects that buyers speak, [`DIALECTS`] those of sellers: a
//! further one is a module of its own, and here its name and one line of that list.

mod answer;
mod arguments;
pub mod chat;
pub mod cohere;
pub mod count;
pub mod fields;
pub mod front;
pub mod gather;
pub mod gemini;
pub mod grammar;
pub mod lists;
pub mod messages;
pub mod neutral;
mod notes;
pub mod ollama;
pub mod openai;
pub mod passthrough;
pub mod responses;
pub mod retry_hint;
mod tree;

pub(crate) use answer::{AnswerHead, DONE_EVENT, edited_event, finish_of_word, push_end, push_logprobs};
pub use answer::{
    ChunkView, PlainView, SellerUsage, push_cost_members, push_usage, push_usd, read_usage, splice_usage,
};
pub use fields::{Preferences, Routing, SortBy, StreamFailure};

use self::grammar::Dialect;
use crate::json::{JsonError, Walk};
use crate::node::Sampling;
use bourse_types::ModelSlug;
use bytes::Bytes;
use std::ops::Range;

/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Most top-level members of a request.
pub const MEMBERS_MAX: usize = 128;
/// Most messages of a chat.
pub const MESSAGES_MAX: usize = 10_000;
/// Most models in `models`.
pub const MODELS_MAX: usize = 8;
/// Most tools of a chat.
pub const TOOLS_MAX: usize = 1_024;
/// Most choices of one request.
pub const CHOICES_MAX: u32 = 128;
/// Most stop strings.
pub const STOPS_MAX: usize = 16;
/// Longest stop string, in bytes.
pub const STOP_BYTES_MAX: usize = 1_024;
/// Most entries of `logit_bias`.
pub const LOGIT_BIAS_MAX: usize = 1_024;
/// Most alternatives in `top_logprobs` or `logprobs`.
pub const TOP_LOGPROBS_MAX: u8 = 20;
/// Largest `max_tokens`.
pub const MAX_TOKENS_MAX: u32 = 16_777_216;
/// Largest `top_k`.
pub const TOP_K_MAX: u32 = 1_048_576;
/// Most seller names in one list of `provider`.
pub const PREFERENCE_NAMES_MAX: usize = 32;
/// Longest `session_id`, in bytes.
pub const SESSION_BYTES_MAX: usize = 256;

/// Members beside `messages` or `input` and `tools` that become prompt tokens.
const PROMPT_MEMBERS: [&str; 5] = ["instructions", "output_config", "output_format", "system", "text"];

/// Every grammar in which sellers are asked to go on with a conversation. Ordinary servers stand for chat; see
/// [`chat::Chat`] for the others.
pub const DIALECTS: &[&dyn Dialect] = &[
    &chat::Chat::Server,
    &responses::Responses,
    &messages::Messages,
    &gemini::Gemini,
    &ollama::Ollama,
    &cohere::Cohere,
];

/// The grammar that one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// OpenAI's `chat/completions`.
    Chat,
    /// OpenAI's legacy `completions`.
    Text,
    /// OpenAI's `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
    /// Google's `generateContent`.
    Gemini,
    /// Ollama's `api/chat`.
    Ollama,
    /// Cohere's `v2/chat`.
    Cohere,
    /// `embeddings`.
    Embeddings,
    /// `rerank`.
    Rerank,
    /// `images/generations`.
    Images,
    /// `audio/speech`.
    Speech,
    /// `audio/transcriptions`.
    Transcription,
}

/// Which endpoint was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Api {
    /// `chat/completions`.
    #[default]
    Chat,
    /// Legacy `completions`.
    Text,
    /// `responses`.
    Responses,
    /// Anthropic's `messages`.
    Messages,
    /// `embeddings`.
    Embeddings,
    /// `rerank`.
    Rerank,
    /// `images` and `images/generations`.
    Images,
    /// `audio/speech`.
    Speech,
    /// `audio/transcriptions`.
    Transcription,
}

impl Api {
    /// All fronts.
    pub const ALL: [Self; 9] = [
        Self::Chat,
        Self::Text,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
        Self::Rerank,
        Self::Images,
        Self::Speech,
        Self::Transcription,
    ];

    /// Whether it is a conversation, which can be said in other grammars too.
    pub fn is_conversation(self) -> bool {
        matches!(self, Self::Chat | Self::Responses | Self::Messages)
    }

    /// Whether it only passes through; see [`passthrough`].
    pub fn is_passed_through(self) -> bool {
        !self.is_conversation() && self != Self::Text
    }
}

/// What a seller must be able to do for a job; each is a hard filter or a soft one by the plan's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent capability")]
pub struct Needs {
    /// `tools` or old-style `functions`.
    pub tools: bool,
    /// `response_format` other than text.
    pub response_format: bool,
    /// Log-probabilities.
    pub logprobs: bool,
    /// How many parts of messages are not text (images, audio, files).
    pub media_parts: u32,
    /// Members that only a hosted API can be expected to know (`suffix`, `echo`, `audio`, …).
    pub passthrough: bool,
    /// Members of a chat that routers and servers know and OpenAI itself refuses (`reasoning`, `top_k`, marks on the cache).
    pub beyond_openai: bool,
}

/// One top-level member of the body: the span of its key within the quotes, and of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
    pub(crate) rule: MemberRule,
}

/// What becomes of a member when the body is rebuilt for a seller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberRule {
    /// Copied byte for byte.
    Copy,
    /// Ours alone: left out.
    Drop,
    /// Replaced by the seller's id of the model.
    Model,
    /// `stream_options`: replaced on streams.
    StreamOptions,
    /// `max_tokens` and its newer spelling: replaced when the market caps the answer.
    MaxTokens,
    /// The conversation, with thoughts that the sellers of its grammar would refuse: copied without them.
    Clean,
    /// `thinking` with a budget of tokens: kept below the answer's where the market caps that.
    Thinking,
}

/// A parsed request. The body's bytes are kept; spans point into them.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which endpoint was called.
    pub api: Api,
    /// The body as received. Valid UTF-8.
    pub body: Bytes,
    pub(crate) members: Vec<Member>,
    /// The model asked for.
    pub model: ModelSlug,
    /// Models to fall back to, in order; without [`Job::model`].
    pub fallbacks: Vec<ModelSlug>,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Answers wanted, 1 to [`CHOICES_MAX`].
    pub choices: u32,
    /// Tokens per choice at most, if the buyer said so.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen, for our own nodes.
    pub sampling: Sampling,
    /// The buyer's seed.
    pub seed: Option<i64>,
    /// Number of messages; 0 for text.
    pub messages_count: u32,
    /// Span of `messages` or of the prompt's JSON string.
    pub prompt: Range<usize>,
    /// Span of `tools`.
    pub tools: Option<Range<usize>>,
    /// What a seller must be able to do.
    pub needs: Needs,
    /// The buyer's routing rules.
    pub preferences: Box<Preferences>,
    /// Span of the `provider` object, as written.
    pub preferences_span: Option<Range<usize>>,
    /// Span of the session id within its quotes.
    pub session: Option<Range<usize>>,
    /// What else the request says to the market.
    pub routing: Box<Routing>,
    /// What only requests have that pass through.
    pub passed: Option<Box<Passed>>,
}

/// What the market must know of a request that passes through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// Images, searches, characters or seconds at most.
    pub units_max: u64,
    /// Bytes of text that are read more than once, beyond the first time.
    pub prompt_bytes_extra: u64,
    /// Texts, documents or sounds that it brings.
    pub inputs: u64,
    /// Whether the answer is wanted as plain text instead of JSON.
    pub is_text: bool,
    /// Set when the body is a form.
    pub form: Option<FormParts>,
}

/// Where the parts of a form lie that the market changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormParts {
    /// The content type, with its boundary.
    pub content_type: String,
    /// The value of the part that names the model.
    pub(crate) model: Range<usize>,
    /// Our own part, from its boundary to the next.
    pub(crate) dropped: Option<Range<usize>>,
}

impl Job {
    /// The text of a span.
    pub fn text(&self, span: &Range<usize>) -> &str {
        std::str::from_utf8(&self.body[span.clone()]).unwrap_or_default()
    }

    /// What the conversation began with: its first system message and its first other one, as written. `None` for
    /// plain text, and for a conversation of rules alone.
    pub fn opening(&self) -> Option<(&str, &str)> {
        if !self.api.is_conversation() {
            return None;
        }
        let instructions =
            self.members.iter().find(|m| matches!(&self.body[m.key.clone()], b"system" | b"instructions"));
        let mut system = instructions.map_or("", |m| self.text(&m.value));
        let text = self.text(&self.prompt);
        if !text.starts_with('[') {
            return Some((system, text));
        }
        let mut first = None;
        // Every message up to the first that is no rule; the rest is of no interest.
        let _ = Walk::new(text).items::<Option<JsonError>>(|walk| {
            let (message, role) = message_of(walk)?;
            if !matches!(role, Some("system" | "developer")) {
                first = Some(message);
                return Err(None);
            }
            if system.is_empty() {
                system = message;
            }
            Ok(())
        });
        Some((system, first?))
    }

    /// Everything that a seller turns into prompt tokens, as written: first what stands beside the conversation, since
    /// templates begin with it, at last the conversation without its closing mark. A request that goes on with another
    /// begins with the same bytes.
    pub fn prompt_texts(&self) -> impl Iterator<Item = &str> {
        let is_prompt = move |member: &&Member| PROMPT_MEMBERS.contains(&self.text(&member.key));
        let beside = self.members.iter().filter(is_prompt).map(|member| &member.value);
        let open = self.prompt.start..self.prompt.end.saturating_sub(1).max(self.prompt.start);
        let texts = beside.chain(&self.tools).map(move |span| self.text(span));
        texts.chain(std::iter::once(open).map(move |span| self.text(&span)))
    }

    /// Bytes of everything that a seller turns into prompt tokens: an upper bound of their number for
    /// any tokenizer whose tokens stand for at least one byte each.
    pub fn prompt_bytes(&self) -> u64 {
        // A key with escapes may be any of them: counted, so that the bound holds.
        let counts = |key: &str| PROMPT_MEMBERS.contains(&key) || key.contains('\\');
        let beside = self.members.iter().filter(|m| counts(self.text(&m.key)));
        let beside: usize = beside.map(|m| m.value.len()).sum();
        let extra = self.passed.as_ref().map_or(0, |passed| passed.prompt_bytes_extra);
        ((self.prompt.len() + self.tools.as_ref().map_or(0, Range::len) + beside) as u64)
            .saturating_add(extra)
    }

    /// A request that passes through, of which nothing is known yet.
    pub(crate) fn passing(api: Api, body: Bytes, model: ModelSlug, prompt: Range<usize>) -> Self {
        Self {
            api,
            body,
            members: Vec::new(),
            model,
            fallbacks: Vec::new(),
            stream: false,
            choices: 1,
            max_tokens: None,
            sampling: fields::default_sampling(),
            seed: None,
            messages_count: 0,
            prompt,
            tools: None,
            needs: Needs::default(),
            preferences: Box::default(),
            preferences_span: None,
            session: None,
            routing: Box::default(),
            passed: None,
        }
    }
}

/// A message and its role.
fn message_of<'a>(walk: &mut Walk<'a>) -> Result<(&'a str, Option<&'a str>), JsonError> {
    if walk.peek() != b'{' {
        let value = walk.value()?;
        return Ok((walk.text(value), None));
    }
    let (start, mut role) = (walk.at(), None);
    walk.members::<JsonError>(|walk, key| {
        let value = walk.value()?;
        if walk.text(key) == "role" {
            role = Some(walk.text(value).trim_matches('"'));
        }
        Ok(())
    })?;
    Ok((walk.text(start..walk.at()), role))
}

#[cfg(test)]
mod tests;

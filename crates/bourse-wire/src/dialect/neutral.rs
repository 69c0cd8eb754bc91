//! The neutral form: what a conversation says, whatever grammar it was said in.
//!
//! Buyers speak three grammars and sellers some more. When both sides speak the same one, bytes pass as they
//! came and this module is not used. Otherwise a request is read into a [`Request`] and written in the
//! seller's grammar, and the answer comes back as [`StreamEvent`]s or an [`Answer`]; so every grammar is
//! read and written once, not once per pair.
//!
//! What the neutral form cannot hold is refused with the field's name, or left out with a [`Notice`] where
//! leaving it out cannot mislead. Values of JSON whose text matters (schemas, arguments) stay text.
//!
//! **Signed reasoning.** Some sellers sign or encrypt their reasoning and accept it back only unchanged and
//! only from themselves. A [`Signed`] carries its [`Origin`]; a writer replays it to a seller of the same
//! origin and leaves it out with a notice for any other. In a grammar with no room for the origin, the text is
//! prefixed by [`Signed::tagged`]; text without the prefix has the grammar's own origin.

mod answer;
mod raw;
#[cfg(test)]
pub(crate) mod strategies;
mod tagged;

pub use answer::{Answer, Choice, StreamEvent};
pub use raw::{RawJson, RawJsonError};
pub use tagged::{Origin, Signed};

use std::borrow::Cow;

/// A conversation to be continued, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// In order. System and developer messages stand where the buyer put them.
    pub messages: Vec<Message>,
    /// Tools that the model may call.
    pub tools: Vec<Tool>,
    /// Which of them; none when the buyer does not say.
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one turn; none when the buyer does not say.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub response_format: ResponseFormat,
    /// How long to think; none when the buyer does not say.
    pub reasoning: Option<Reasoning>,
    /// `low`, `medium` or `high`.
    pub verbosity: Option<String>,
    /// Tokens of the answer at most, reasoning included.
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 < p ≤ 1.
    pub top_p: Option<f64>,
    /// 0 means no limit.
    pub top_k: Option<u32>,
    /// 0 to 1.
    pub min_p: Option<f64>,
    /// −2 to 2.
    pub presence_penalty: Option<f64>,
    /// −2 to 2.
    pub frequency_penalty: Option<f64>,
    /// 0 < r ≤ 2.
    pub repetition_penalty: Option<f64>,
    /// Token id and bias.
    pub logit_bias: Vec<(u32, f32)>,
    /// Alternatives per token; none for no log-probabilities.
    pub logprobs: Option<u8>,
    /// Strings that end the answer.
    pub stop: Vec<String>,
    /// For answers that repeat.
    pub seed: Option<i64>,
    /// Answers wanted, at least 1.
    pub choices: u32,
    /// Who asks on the buyer's side, as the buyer calls them.
    pub user: Option<String>,
    /// What the buyer wants cached together.
    pub prompt_cache_key: Option<String>,
    /// A mark on the whole prompt rather than on a part of it.
    pub cache: Option<CacheMark>,
    /// `auto`, `default`, `flex`, `priority`.
    pub service_tier: Option<String>,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Whose.
    pub role: Role,
    /// What it says, in order. A [`Role::Tool`] message holds only [`Part::ToolResult`]s.
    pub parts: Vec<Part>,
    /// The speaker's name, where the grammar has one.
    pub name: Option<String>,
}

impl Request {
    /// Takes the reasoning out of earlier turns, for a seller that takes none back. What was left out, if anything was.
    pub fn leave_out_reasoning(&mut self) -> Option<Notice> {
        let mut is_changed = false;
        self.messages.retain_mut(|message| {
            let before = message.parts.len();
            message.parts.retain(|part| !matches!(part, Part::Reasoning { .. }));
            is_changed |= message.parts.len() < before;
            // A turn that was nothing but thoughts is none without them.
            before == message.parts.len() || !message.parts.is_empty()
        });
        is_changed
            .then(|| Notice::new("reasoning", "reasoning left out, which this seller does not take back"))
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The rules above all.
    System,
    /// The developer's rules, below the system's; grammars without it take them for the system's.
    Developer,
    /// The buyer's user.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Plain text.
    Text {
        /// The text.
        text: String,
        /// Whether the prompt may be cached up to here.
        cache: Option<CacheMark>,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: Media,
        /// `auto`, `low`, `high`, where the grammar knows it.
        detail: Option<String>,
        /// As for text.
        cache: Option<CacheMark>,
    },
    /// Sound.
    Audio {
        /// Where its bytes are.
        source: Media,
    },
    /// A document.
    File {
        /// Where its bytes are.
        source: Media,
        /// Its name.
        filename: Option<String>,
        /// As for text.
        cache: Option<CacheMark>,
    },
    /// The model calls a tool.
    ToolCall {
        /// Names the call; the result answers to it.
        id: String,
        /// The tool.
        name: String,
        /// JSON text, as the model wrote it: it may be broken, and is kept so.
        arguments: String,
        /// As for text.
        cache: Option<CacheMark>,
    },
    /// What a tool answered.
    ToolResult {
        /// The call's id.
        call_id: String,
        /// Text and media.
        content: Vec<Part>,
        /// Whether the tool failed.
        is_error: bool,
        /// As for text.
        cache: Option<CacheMark>,
    },
    /// The model's thoughts.
    Reasoning {
        /// What is shown; empty when nothing is.
        text: String,
        /// Whether the text is a summary of hidden thoughts rather than the thoughts.
        is_summary: bool,
        /// The seller's signature over it, or the thoughts themselves, encrypted.
        signed: Option<Signed>,
    },
    /// The model declines.
    Refusal {
        /// In its words.
        text: String,
    },
}

impl Part {
    /// Text without a mark.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None }
    }

    /// Takes pictures, sounds and files out, those in tools' answers, too.
    pub(crate) fn leave_out_media(parts: &mut Vec<Self>) {
        parts.retain_mut(|part| match part {
            Self::Image { .. } | Self::Audio { .. } | Self::File { .. } => false,
            Self::ToolResult { content, .. } => {
                Self::leave_out_media(content);
                true
            }
            _ => true,
        });
    }

    /// Bytes of content that the buyer pays for: text, shown thoughts, names and arguments of calls, pictures as
    /// sent. Signatures and ciphertexts count nothing.
    pub fn content_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text } => text.len(),
            Self::ToolCall { name, arguments, .. } => name.len() + arguments.len() + 1,
            Self::Image { source, .. } | Self::Audio { source } | Self::File { source, .. } => match source {
                Media::Base64 { data, .. } => data.len(),
                Media::Url(text) | Media::Id(text) | Media::Text(text) => text.len(),
            },
            Self::ToolResult { .. } => 0,
        };
        bytes as u64
    }
}

/// Where the bytes of a picture, a sound or a document are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// In the request.
    Base64 {
        /// Its type, such as `image/png`; for sound the field's short word (`wav`, `mp3`) is spelled out.
        media_type: String,
        /// Base64 as sent.
        data: String,
    },
    /// On the web.
    Url(String),
    /// At the seller, under its own id: only a seller of that origin knows it.
    Id(String),
    /// In the request, as text.
    Text(String),
}

/// A point up to which the prompt may be cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CacheMark {
    /// How long, in seconds; none for the seller's default. Sellers round to what they have.
    pub ttl_s: Option<u32>,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments; none for no arguments.
    pub parameters: Option<RawJson>,
    /// Whether arguments must match the schema; none when the buyer does not say.
    pub strict: Option<bool>,
    /// As for text.
    pub cache: Option<CacheMark>,
}

/// Which tool is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that matches a schema.
    JsonSchema {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: RawJson,
        /// Whether it must match; none when the buyer does not say.
        strict: Option<bool>,
    },
}

/// How long the model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    /// Whether at all; none when only an amount was given.
    pub enabled: Option<bool>,
    /// In the field's words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub max_tokens: Option<u32>,
    /// Thoughts are made and billed but not shown.
    pub exclude: bool,
    /// `auto`, `concise`, `detailed`: a summary is wanted.
    pub summary: Option<String>,
}

/// The field's words for how much to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not at all.
    None,
    /// A tenth of the answer.
    Minimal,
    /// A fifth.
    Low,
    /// Half.
    Medium,
    /// Four fifths.
    High,
    /// Nearly all.
    XHigh,
    /// As much as the model can; nearly all.
    Max,
}

impl Effort {
    /// All of them, least first.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh, Self::Max];

    /// The field's word.
    pub fn as_str(self) -> &'static str {
        ["none", "minimal", "low", "medium", "high", "xhigh", "max"][self as usize]
    }

    /// Reads [`Effort::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.as_str() == text)
    }

    /// Thinking tokens for an answer of at most `max_tokens`, by the field's usual shares.
    pub fn budget_tokens(self, max_tokens: u32) -> u32 {
        const PERCENT: [u64; 7] = [0, 10, 20, 50, 80, 95, 95];
        (u64::from(max_tokens) * PERCENT[self as usize] / 100) as u32
    }

    /// The word whose share comes nearest to `budget` of `max_tokens`, for sellers that know only words.
    pub fn of_budget(budget_tokens: u32, max_tokens: u32) -> Self {
        let distance = |e: &Self| e.budget_tokens(max_tokens).abs_diff(budget_tokens);
        Self::ALL.into_iter().take(6).min_by_key(distance).unwrap_or(Self::Medium)
    }
}

/// Something that was left out because the seller's grammar has no place for it, and that cannot mislead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The field.
    pub param: Cow<'static, str>,
    /// What happened, as half a sentence: `signed by another seller, left out`.
    pub what: Cow<'static, str>,
}

impl Notice {
    /// A notice.
    pub fn new(param: impl Into<Cow<'static, str>>, what: impl Into<Cow<'static, str>>) -> Self {
        Self { param: param.into(), what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efforts_have_words_and_shares() {
        for (effort, budget) in
            [(Effort::None, 0), (Effort::Low, 200), (Effort::High, 800), (Effort::Max, 950)]
        {
            assert_eq!(Effort::parse(effort.as_str()), Some(effort));
            assert_eq!(effort.budget_tokens(1_000), budget);
        }
        assert_eq!(Effort::of_budget(210, 1_000), Effort::Low);
        assert_eq!(Effort::of_budget(0, 1_000), Effort::None);
        assert_eq!(Effort::of_budget(u32::MAX, 1_000), Effort::XHigh);
        assert_eq!(Effort::Max.budget_tokens(u32::MAX), 4_080_218_930);
        assert_eq!(Effort::parse("huge"), None);
    }
}

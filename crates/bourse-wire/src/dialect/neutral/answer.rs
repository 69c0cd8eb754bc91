//! Answers in the neutral form: whole, and in pieces.

use super::{Part, Signed};
use crate::dialect::SellerUsage;
use crate::receipt::Finish;
use std::borrow::Cow;

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The seller's id of it.
    pub id: Option<String>,
    /// The seller's name of the model.
    pub model: Option<String>,
    /// In order of their indices.
    pub choices: Vec<Choice>,
    /// What the seller says it used; none when it says nothing that can be read.
    pub usage: Option<SellerUsage>,
    /// The tier that served, in the field's word.
    pub service_tier: Option<String>,
}

/// One answer among several.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// Text, reasoning, tool calls, refusals, pictures.
    pub parts: Vec<Part>,
    /// How it ended; none when the seller does not say.
    pub finish: Option<Finish>,
    /// The seller's own word for it.
    pub native_finish: Option<String>,
    /// Items of OpenAI's `logprobs.content`, without brackets.
    pub logprobs_json: Option<String>,
}

/// A piece of a streamed answer. `choice` counts from 0; `call` counts the tool calls of a choice from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent<'a> {
    /// Text.
    Text {
        /// Which choice.
        choice: u32,
        /// The text.
        text: Cow<'a, str>,
        /// Items of OpenAI's `logprobs.content`, with or without brackets.
        logprobs_json: Option<Cow<'a, str>>,
    },
    /// Shown thoughts.
    Reasoning {
        /// Which choice.
        choice: u32,
        /// The text.
        text: Cow<'a, str>,
        /// Whether it summarises hidden thoughts.
        is_summary: bool,
    },
    /// Ends the thoughts so far with a signature over them, or stands for hidden thoughts.
    Signed {
        /// Which choice.
        choice: u32,
        /// The block.
        signed: Signed,
    },
    /// The model declines.
    Refusal {
        /// Which choice.
        choice: u32,
        /// In its words.
        text: Cow<'a, str>,
    },
    /// A tool call begins.
    ToolCall {
        /// Which choice.
        choice: u32,
        /// Which call of it.
        call: u32,
        /// Its id; never empty (readers make one where the seller gives none).
        id: Cow<'a, str>,
        /// The tool.
        name: Cow<'a, str>,
    },
    /// More of the arguments of a call that has begun.
    ToolArguments {
        /// Which choice.
        choice: u32,
        /// Which call of it.
        call: u32,
        /// A piece of JSON text.
        json: Cow<'a, str>,
    },
    /// A choice ends.
    Finish {
        /// Which choice.
        choice: u32,
        /// How.
        finish: Finish,
        /// The seller's own word for it.
        native: Option<Cow<'a, str>>,
    },
}

impl StreamEvent<'_> {
    /// Which choice it belongs to.
    pub fn choice(&self) -> u32 {
        match self {
            Self::Text { choice, .. }
            | Self::Reasoning { choice, .. }
            | Self::Signed { choice, .. }
            | Self::Refusal { choice, .. }
            | Self::ToolCall { choice, .. }
            | Self::ToolArguments { choice, .. }
            | Self::Finish { choice, .. } => *choice,
        }
    }

    /// Bytes of content that the buyer pays for in this event: text, shown thoughts, names and arguments of
    /// calls. A call that begins counts at least one.
    pub fn content_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Text { text, .. } | Self::Reasoning { text, .. } | Self::Refusal { text, .. } => text.len(),
            Self::ToolCall { name, .. } => name.len() + 1,
            Self::ToolArguments { json, .. } => json.len(),
            Self::Signed { .. } | Self::Finish { .. } => 0,
        };
        bytes as u64
    }
}

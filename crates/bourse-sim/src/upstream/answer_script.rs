//! What a seller says when all is well, and how good its tool calls are.
//!
//! Independent of faults: a fault is how an answer is brought, this is what the answer is. A script is data
//! and may change while a seller runs. Nothing here means anything; it only has the right form.

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Say {
    /// A tool call when tools are offered and none has answered yet; else JSON when the request asks for a
    /// form; else words that follow from the prompt.
    #[default]
    Natural,
    /// This text, whatever was asked.
    Text(String),
    /// So many calls of the tools that the request offers, in their order and again from the first; as
    /// [`Say::Natural`] when it offers none, forbids calls, or has the results already. One at a time when
    /// it forbids parallel calls.
    ToolCalls(usize),
    /// A refusal in the vendor's own form.
    Refusal,
}

/// A way in which a tool call is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCall {
    /// The arguments break off inside the JSON. Where arguments are no text: Gemini ends the answer with
    /// `MALFORMED_FUNCTION_CALL`, Ollama says the call as text, a plain Anthropic answer wraps the text.
    InvalidJson,
    /// The name is none of those offered.
    UnknownTool,
    /// A property has the wrong type.
    SchemaMismatch,
}

impl BadCall {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::InvalidJson, Self::UnknownTool, Self::SchemaMismatch];
}

/// How reasoning appears where a shape can hide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReasoningForm {
    /// As text with a signature.
    #[default]
    Open,
    /// Anthropic: as `redacted_thinking`. Elsewhere as [`ReasoningForm::Open`].
    Redacted,
}

/// What a seller says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnswerScript {
    /// The body of the answer.
    pub say: Say,
    /// Words of reasoning before it, where the shape has reasoning and the request does not turn it off.
    /// They count as completion tokens. Zero: a model that does not reason.
    pub reasoning_words: usize,
    /// How they appear.
    pub reasoning_form: ReasoningForm,
    /// Calls in 1,000 whose tool calls are bad.
    pub bad_call_permille: u16,
    /// In which ways; drawn for each call. None is all ways.
    pub bad_calls: Vec<BadCall>,
}

impl AnswerScript {
    /// A script that says this.
    pub fn saying(say: Say) -> Self {
        Self { say, ..Self::default() }
    }
}

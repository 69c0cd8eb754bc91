//! How an attempt ended, as far as the seller's health goes.
//!
//! Counted against the seller: no connection, 401, 402, 404, every 5xx, a time-out ([`Outcome::Failure`]),
//! and an answer that broke after content or ended with an error for its finish reason
//! ([`Outcome::Broken`]). Not counted: 400 and 413, which are the buyer's, and a buyer who went away
//! ([`Outcome::Neutral`]). Tracked apart: 429 and 403, because they tell of load and of policy, not of
//! reliability.

use bourse_types::DurationMs;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Content came and the answer ended as it should.
    Success(Served),
    /// The seller is to blame, before any content: no connection, 401, 402, 404, 5xx, timeout.
    Failure,
    /// The seller is to blame, after content: a cut stream, an error in it, an error for a finish.
    Broken,
    /// 429, with the pause that the seller asked for.
    RateLimited {
        /// `Retry-After`, if there was one.
        retry_after: Option<DurationMs>,
    },
    /// 403: the seller refuses this request or this buyer.
    Forbidden,
    /// Says nothing about the seller: the buyer's fault (400, 413) or the buyer went away.
    Neutral,
}

impl Outcome {
    /// A success of which only the time to the first content is known.
    pub fn success(ttft: DurationMs) -> Self {
        Self::Success(Served { ttft, ..Served::default() })
    }
}

/// What was measured of a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// From dispatch to the first content.
    pub ttft: DurationMs,
    /// From dispatch to the end of the answer; zero where nobody measured it.
    pub whole: DurationMs,
    /// Prompt tokens as billed; zero where usage is unknown.
    pub prompt_tokens: u32,
    /// The part of `prompt_tokens` that was read from a cache.
    pub cached_tokens: u32,
    /// Generated tokens as billed; zero where usage is unknown.
    pub completion_tokens: u32,
    /// Whether the prompt continued a conversation that this seller has answered before, so that its
    /// cache could have known the prompt.
    pub conversation: Conversation,
    /// What came of the tool calls that the answer ended with.
    pub tools: ToolCalls,
}

impl Served {
    /// Mean time between tokens after the first, in microseconds; none where it was not measured, such
    /// as of an answer that came in one piece.
    pub fn inter_token_us(&self) -> Option<u64> {
        let gaps = u64::from(self.completion_tokens).checked_sub(1).filter(|gaps| *gaps > 0)?;
        let after_first_ms = self.whole.0.checked_sub(self.ttft.0).filter(|ms| *ms > 0)?;
        Some(after_first_ms.saturating_mul(1_000) / gaps)
    }
}

/// Whether a seller could have known the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Conversation {
    /// Not seen at this seller before, or nobody knows.
    #[default]
    New = 0,
    /// This seller gave the answer before this one.
    Continued = 1,
}

/// How the tool calls of one answer look. An answer is bad when any of its calls is: of several calls the
/// greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum ToolCalls {
    /// The answer did not end with tool calls, or nobody looked.
    #[default]
    None = 0,
    /// Every call names a known tool, with arguments that fit its schema.
    Good = 1,
    /// Arguments of a call are not JSON.
    InvalidJson = 2,
    /// A call names a tool that the request did not.
    UnknownTool = 3,
    /// Arguments are JSON but do not fit the tool's schema. A schema that does not compile fits all.
    SchemaMismatch = 4,
}

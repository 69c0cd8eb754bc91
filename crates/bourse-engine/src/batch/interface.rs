//! What goes into a batch engine and what comes out: limits, requests, refusals, events.

use thiserror::Error;

use crate::kernels::THREADS_MAX;
use crate::sampling::{SamplingError, SamplingParams, TokenLogprobs};

/// Most tokens that a KV cache can hold.
pub const KV_TOKENS_MAX: usize = 1 << 24;
/// Most rows of one pass.
pub const BATCH_ROWS_MAX: usize = 4096;
/// Most sequences that can wait.
pub const QUEUE_MAX: usize = 1 << 16;
/// Most stop tokens of one sequence.
pub const STOP_TOKENS_MAX: usize = 64;

/// Limits of one engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that share the arithmetic of a pass, the caller's included; 0 means one for each core.
    pub threads: usize,
    /// Tokens that the KV cache holds, over all sequences; rounded up to whole blocks of 32.
    pub kv_tokens_max: usize,
    /// Rows of one pass, decoding and prefill together.
    pub batch_rows_max: usize,
    /// Prompt tokens of one pass, over all sequences; at most `batch_rows_max`.
    pub prefill_chunk_tokens: usize,
    /// Sequences that run at once; at most `batch_rows_max`.
    pub sequences_max: usize,
    /// Sequences that wait at once.
    pub queue_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: 0,
            kv_tokens_max: 32_768,
            batch_rows_max: 256,
            prefill_chunk_tokens: 128,
            sequences_max: 64,
            queue_max: 256,
        }
    }
}

impl EngineConfig {
    pub(super) fn check(&self) -> Result<(), EngineConfigError> {
        for (field, value, min, max) in [
            ("threads", self.threads, 0, THREADS_MAX),
            ("kv_tokens_max", self.kv_tokens_max, 1, KV_TOKENS_MAX),
            ("batch_rows_max", self.batch_rows_max, 1, BATCH_ROWS_MAX),
            ("prefill_chunk_tokens", self.prefill_chunk_tokens, 1, self.batch_rows_max),
            ("sequences_max", self.sequences_max, 1, self.batch_rows_max),
            ("queue_max", self.queue_max, 1, QUEUE_MAX),
        ] {
            if !(min..=max).contains(&value) {
                return Err(EngineConfigError::Range { field, min, max });
            }
        }
        Ok(())
    }
}

/// Why an engine cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineConfigError {
    /// A limit is zero or above what the engine can hold.
    #[error("{field} must be between {min} and {max}")]
    Range {
        /// The field's name.
        field: &'static str,
        /// Smallest value allowed.
        min: usize,
        /// Largest value allowed.
        max: usize,
    },
    /// Only a model with all its layers can answer.
    #[error("the model holds only some of its layers")]
    PartialModel,
}

/// Names a sequence within one engine; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// One sequence to continue.
#[derive(Debug, Clone)]
pub struct SequenceRequest {
    /// The prompt's tokens; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; at least one. Cut to what the context leaves.
    pub max_tokens: u32,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Seed of the noise; see [`crate::run_seed`].
    pub run_seed: [u8; 32],
    /// Tokens that end the answer. They are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Alternatives to report with each token, 0 to 20; absent for no log-probabilities at all.
    pub logprobs: Option<u8>,
}

/// Why a sequence is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The queue is full; try again later.
    #[error("the queue is full: {queue_max} sequences wait")]
    QueueFull {
        /// The queue's bound.
        queue_max: usize,
    },
    /// The prompt has no token.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// `max_tokens` is zero.
    #[error("max_tokens must be at least 1")]
    NoTokens,
    /// The prompt leaves no room in the context for an answer.
    #[error("the prompt has {prompt_tokens} tokens; the context holds {context_tokens_max} with the answer")]
    PromptTooLong {
        /// The prompt's length.
        prompt_tokens: usize,
        /// The model's context.
        context_tokens_max: usize,
    },
    /// Prompt and `max_tokens` together exceed the whole KV cache.
    #[error("prompt and answer need {needed_tokens} tokens of KV cache; there are {kv_tokens_max}")]
    KvBudget {
        /// What the sequence can need.
        needed_tokens: usize,
        /// What the cache holds.
        kv_tokens_max: usize,
    },
    /// A prompt or stop token is not in the vocabulary.
    #[error("token {token} is not among the vocabulary's {vocab_size}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// More stop tokens than are looked for.
    #[error("at most {STOP_TOKENS_MAX} stop tokens are looked for, not {0}")]
    StopTokens(usize),
    /// More alternatives than are reported.
    #[error("at most 20 alternatives are reported, not {0}")]
    Logprobs(u8),
    /// A sampling parameter is out of range.
    #[error("a sampling parameter is out of range")]
    Sampling(#[from] SamplingError),
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose one of the stop tokens, this one. It was not reported as a token.
    StopToken(u32),
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// It was cancelled.
    Cancelled,
}

/// What happened in a step.
#[derive(Debug, Clone, PartialEq)]
pub enum StepEvent {
    /// A sequence left the queue and runs.
    Admitted {
        /// The sequence.
        id: SequenceId,
        /// Tokens of its prompt.
        prompt_tokens: u32,
        /// Tokens of its prompt whose keys and values were found in the cache.
        cached_tokens: u32,
    },
    /// A sequence has one more token.
    Token {
        /// The sequence.
        id: SequenceId,
        /// Which token of the answer it is, from zero: the `step` of [`crate::replay_choice`].
        position: u32,
        /// The token.
        token: u32,
        /// Its log-probability and alternatives, if asked for.
        logprob: Option<TokenLogprobs>,
    },
    /// A sequence has ended; the last event about it.
    Finished {
        /// The sequence.
        id: SequenceId,
        /// Why.
        reason: FinishReason,
    },
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepReport {
    /// Whether there was nothing to do: nothing runs and nothing waits.
    pub idle: bool,
    /// Rows that decoded.
    pub decode_rows: usize,
    /// Rows of prompts.
    pub prefill_rows: usize,
}

/// How busy an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineLoad {
    /// Sequences that run.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Tokens of KV cache that running sequences hold or may still need.
    pub kv_tokens_used: usize,
    /// Tokens of KV cache that a new sequence could get, cached prefixes included.
    pub kv_tokens_free: usize,
    /// Prompt tokens found in the cache since the start.
    pub prefix_tokens_hit: u64,
    /// Prompt tokens admitted since the start.
    pub prompt_tokens: u64,
}

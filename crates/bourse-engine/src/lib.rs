//! The reference inference engine of Bourse: the same bits on every path.
//!
//! A market can only verify what can be repeated. Ordinary engines give other numbers for the same weights
//! when a prompt is batched, chunked or run on other threads; this one does not. Every dot product is exact
//! in integers within a block of 32, blocks are added in one fixed order, and everything else that touches a
//! float is written once and runs in the same order everywhere. So logits are bit-identical alone, batched,
//! prefilled, chunked, split into layer stages, on any thread count and on every kernel — and an audit is
//! one prefill pass and a comparison of hashes.
//!
//! Layers, lowest first:
//! - [`gguf`] reads model files that may be hostile; [`Vocabulary`] is the tokenizer's data as plain values;
//! - `kernels` (private) holds the vector code, chosen at run time, and the only `unsafe` of the house;
//! - [`Model`] is the immutable weights, re-encoded to one tiled 8-bit format at load;
//! - [`Stage`] runs rows of tokens or hidden states through a range of layers: for tests, audits, shards;
//! - [`BatchEngine`] serves many sequences at once: admission, paged KV with prefix reuse, sampling.
//!
//! Limits: the Llama graph; formats F32, F16, Q4_0, Q4_1 and Q8_0; CPU only.

mod batch;
mod commitment;
pub mod gguf;
#[allow(
    unsafe_code,
    reason = "vector instructions and the sharing of buffers among threads live here and only here"
)]
mod kernels;
mod kv;
mod math;
mod model;
mod pass;
mod sampling;
mod stage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod vocabulary;

pub use batch::{
    BATCH_ROWS_MAX, BatchEngine, EngineConfig, EngineConfigError, EngineLoad, FinishReason, KV_TOKENS_MAX,
    QUEUE_MAX, STOP_TOKENS_MAX, SequenceId, SequenceRequest, StepEvent, StepReport, SubmitError,
};
pub use commitment::{LEAF_BYTES, NUMERIC_PROFILE, SAMPLER_SPEC, run_seed};
pub use gguf::{GgufError, GgufFile};
pub use model::{KernelChoice, LoadError, LoadOptions, LoadProgress, Model, ModelInfo};
pub use sampling::{
    LOGIT_BIAS_MAX, LOGPROBS_MAX, SamplingError, SamplingParams, TokenLogprob, TokenLogprobs, replay_choice,
};
pub use stage::{STAGE_ROWS_MAX, Stage, StageError, StageInput, StageRow};
pub use vocabulary::{Vocabulary, VocabularyError};

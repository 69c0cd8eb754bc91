//! The plug for inference engines: token ids in, token ids out.
//!
//! Everything that is the same for all engines (chat templates, tokenizers, stop strings, the link) lives
//! above this trait; what differs (weights, kernels, batching) below it. An engine owns its threads; callers
//! only submit, cancel and watch. Every generation gets its events through a channel with room for all that
//! the generation can ever say ([`event_channel`]), so an engine never waits for a slow reader and memory
//! stays bounded by `max_tokens`.
//!
//! Contract, checked by `conformance` for every implementation:
//! - a generation says `Admitted`, then at most `max_tokens` times `Token`, then `Finished`; or, instead of
//!   all that, `Refused`; nothing after its last word;
//! - cancelling an unfinished generation makes `Finished(Cancelled)` its last word, soon; cancelling another
//!   one does nothing; a generation whose reader went away is ended likewise;
//! - with equal requests and seeds the tokens are equal, whatever else runs;
//! - an engine that dies closes its load channel; events that have not come by then never come.

pub mod fake;
pub mod reference;

#[cfg(test)]
mod conformance;

pub use bourse_engine::{FinishReason, SamplingParams, SubmitError, TokenLogprob, TokenLogprobs};

use bourse_types::Digest32;
use bourse_wire::node::Load;
use tokio::sync::{mpsc, watch};

/// Events of a generation beside its tokens: admitted and finished.
const EVENTS_BESIDE_TOKENS: usize = 2;

/// What an engine is and can do, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineCapabilities {
    /// Engine, build and numeric profile, such as `bourse-engine/0.1.0 q8_0 avx2`.
    pub name: String,
    /// What the model is; binds receipts and run seeds.
    pub model_commitment: Digest32,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Longest prompt plus answer of one generation, in tokens.
    pub context_tokens_max: u32,
    /// Generations that may be open at once, running and waiting.
    pub generations_max: usize,
    /// GPUs that it computes with; none: it does not know. 0: it computes on CPUs.
    pub gpus: Option<u32>,
}

/// One answer to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The prompt's token ids; at least one.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; at least one.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Seed of all choices.
    pub run_seed: [u8; 32],
    /// Tokens that end the answer and are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Alternatives to report with each token; none for no log-probabilities.
    pub logprobs: Option<u8>,
}

/// Names a generation within one engine; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenerationId(pub u64);

/// What an engine says about a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// It left the queue.
    Admitted {
        /// Prompt tokens whose state was found in a cache.
        cached_tokens: u32,
    },
    /// One more token.
    Token {
        /// Its id.
        token: u32,
        /// Its log-probability and alternatives, if asked for.
        logprobs: Option<TokenLogprobs>,
    },
    /// It has ended; the last word.
    Finished(FinishReason),
    /// It was never admitted, for this reason; the first and last word.
    Refused(SubmitError),
}

/// Why an engine takes no generation at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// As many generations are open as it takes.
    #[error("the engine has no room for another generation")]
    Busy,
    /// It has died.
    #[error("the engine has stopped")]
    Stopped,
}

/// The events of all generations of one job, each with the number that the job gave it.
pub type EventReceiver = mpsc::Receiver<(u32, EngineEvent)>;

/// Where the events of one generation go.
#[derive(Debug, Clone)]
pub struct EventSender {
    choice: u32,
    sender: mpsc::Sender<(u32, EngineEvent)>,
}

/// A channel with room for everything that `generations` of `max_tokens` each can say.
pub fn event_channel(generations: u32, max_tokens: u32) -> (EventSender, EventReceiver) {
    let each = max_tokens as usize + EVENTS_BESIDE_TOKENS;
    let room = (generations.max(1) as usize).saturating_mul(each).min(tokio::sync::Semaphore::MAX_PERMITS);
    let (sender, receiver) = mpsc::channel(room);
    (EventSender { choice: 0, sender }, receiver)
}

impl EventSender {
    /// The same channel for another generation of the job.
    #[must_use]
    pub fn for_choice(&self, choice: u32) -> Self {
        Self { choice, sender: self.sender.clone() }
    }

    /// Sends an event. False when nobody listens any more: the generation should end.
    pub fn send(&self, event: EngineEvent) -> bool {
        self.sender.try_send((self.choice, event)).is_ok()
    }
}

/// An inference engine with one model loaded.
pub trait Engine: Send + Sync + 'static {
    /// What it is and can do.
    fn capabilities(&self) -> &EngineCapabilities;

    /// Takes a generation; its events go to `events`. Returns at once.
    fn submit(&self, generation: Generation, events: EventSender) -> Result<GenerationId, EngineError>;

    /// Ends a generation. Returns at once; one that is unknown or has ended is left alone.
    fn cancel(&self, id: GenerationId);

    /// How loaded it is, as it changes. Closed when the engine has died.
    fn load(&self) -> watch::Receiver<Load>;
}

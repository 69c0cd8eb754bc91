//! What a node and its home gateway say to each other.
//!
//! A node dials out, proves its key by signing the gateway's challenge, and offers what it can serve.
//! The gateway then hands it jobs by credit (never more than [`Welcome::jobs_in_flight_max`]); the node
//! streams [`Delta`]s and ends each job with exactly one [`Done`] or [`Failed`]. A job names no buyer:
//! it carries messages, sampling and a seed nonce, nothing else.
//!
//! Bytes: a frame is a `u32` little-endian length, a kind byte and the canonical fields (see
//! [`crate::canonical`]). Limits are the constants below; a frame beyond them ends the link.

mod codec;

pub use codec::{
    DELTA_TEXT_BYTES_MAX, ENGINE_NAME_BYTES_MAX, FAILURE_MESSAGE_BYTES_MAX, LENGTH_PREFIX_BYTES,
    LOGIT_BIASES_MAX, LOGPROBS_JSON_BYTES_MAX, PROMPT_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX,
    TOOLS_JSON_BYTES_MAX,
};

use crate::receipt::SignedNodeStatement;
use bourse_types::{Digest32, ModelSlug, NodeId, RequestId, Usage};

/// Version of this protocol, said in [`Hello`] and [`Welcome`].
pub const NODE_PROTOCOL_VERSION: u32 = 4;
/// Longest frame, in bytes, its kind included. A job carries a whole conversation.
pub const FRAME_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Domain of the challenge that a node signs: the domain, the gateway's 32 random bytes.
pub const CHALLENGE_DOMAIN: &str = "bourse/node-challenge/1";

/// One message in either direction.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Gateway → node, first on the link: 32 random bytes to sign.
    Challenge([u8; 32]),
    /// Node → gateway, second.
    Hello(Hello),
    /// Gateway → node, third; the link is open.
    Welcome(Welcome),
    /// Gateway → node.
    Job(Box<Job>),
    /// Gateway → node: the buyer went away or the deadline passed. Answered by `Done` with what was made.
    Cancel(RequestId),
    /// Node → gateway: the job was admitted and its prompt counted.
    Started(Started),
    /// Node → gateway.
    Delta(Delta),
    /// Node → gateway: last word on a job.
    Done(Box<Done>),
    /// Node → gateway: last word on a job that could not be served.
    Failed(Failed),
    /// Node → gateway: how loaded the engine is, on change and at least every few seconds.
    Load(Load),
    /// Gateway → node: how many tokens a prompt has. Takes a place among the jobs in flight; answered by `Counted` or
    /// `Failed`.
    Count(Box<Count>),
    /// Node → gateway: last word on a count.
    Counted(Counted),
    /// Either way: nothing more will be sent; finish what is open and close.
    Goodbye,
}

/// Who a node is and what it serves.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// [`NODE_PROTOCOL_VERSION`].
    pub version: u32,
    /// The node's public key.
    pub node: NodeId,
    /// Signature over [`CHALLENGE_DOMAIN`] and the challenge.
    pub signature: [u8; 64],
    /// What it serves.
    pub card: NodeCard,
}

/// The measured capabilities of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeCard {
    /// The model.
    pub model: ModelSlug,
    /// Merkle root of [`NodeStatement::model_commitment`](crate::receipt::NodeStatement).
    pub model_commitment: Digest32,
    /// Longest prompt plus answer, in tokens.
    pub context_tokens_max: u32,
    /// Jobs that may be in flight at once.
    pub jobs_in_flight_max: u32,
    /// Fewest bytes of UTF-8 that one token of this vocabulary can stand for, at least 1: the gateway
    /// bounds a prompt's tokens with it. Templates add [`NodeCard::template_tokens_max`].
    pub bytes_per_token_min: u32,
    /// Upper bound of what the chat template adds per message, in tokens.
    pub template_tokens_max: u32,
    /// GPUs that it computes with; none: the engine does not say. 0: it computes on CPUs.
    pub gpus: Option<u32>,
    /// Engine and build, such as `bourse-engine/0.1.0 q8_0 avx2`.
    pub engine: String,
}

/// The gateway's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// [`NODE_PROTOCOL_VERSION`].
    pub version: u32,
    /// Jobs that the gateway will keep in flight at most.
    pub jobs_in_flight_max: u32,
}

/// What to generate from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A chat: `messages` and `tools` as the buyer's JSON, rendered with the model's own template.
    Chat {
        /// JSON array of messages.
        messages_json: String,
        /// JSON array of tools, if there were any.
        tools_json: Option<String>,
    },
    /// Plain text to continue.
    Text(String),
}

/// How tokens are chosen. Ranges are checked by the gateway and again by the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 to 2; 0 means the most likely token.
    pub temperature: f32,
    /// 0 < p ≤ 1.
    pub top_p: f32,
    /// 0 means no limit.
    pub top_k: u32,
    /// 0 to 1; 0 means no limit.
    pub min_p: f32,
    /// 0 < r ≤ 2; 1 means none.
    pub repetition_penalty: f32,
    /// −2 to 2.
    pub presence_penalty: f32,
    /// −2 to 2.
    pub frequency_penalty: f32,
    /// Token id and bias of −100 to 100; at most 1,024 entries.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many alternatives to report per token; none for no log-probabilities. 0 to 20.
    pub logprobs: Option<u8>,
    /// At most 16 strings that end the answer and are not part of it.
    pub stop: Vec<String>,
    /// Tokens to generate at most, for each choice; none for what the context leaves.
    pub max_tokens: Option<u32>,
}

/// One request for a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The request.
    pub request: RequestId,
    /// The model that was bought.
    pub model: ModelSlug,
    /// What to generate from.
    pub prompt: Prompt,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Answers to give, 1 to 128; each has its own run seed (the nonce's last byte is xored with the choice).
    pub choices: u32,
    /// Nonce of the run seed.
    pub nonce: [u8; 32],
    /// Whether the request id is part of the run seed (not when the buyer chose the seed).
    pub seed_binds_request: bool,
    /// Milliseconds from receipt of this frame after which the answer is worthless.
    pub deadline_ms: u64,
}

/// A prompt to count the tokens of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The request.
    pub request: RequestId,
    /// The model.
    pub model: ModelSlug,
    /// The prompt.
    pub prompt: Prompt,
}

/// A prompt was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The request.
    pub request: RequestId,
    /// Tokens of the prompt, as rendered; what [`Started::prompt_tokens`] would be.
    pub prompt_tokens: u64,
}

/// A job was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The request.
    pub request: RequestId,
    /// Prompt tokens of one choice, as rendered and counted.
    pub prompt_tokens: u64,
    /// The part of them found in the prefix cache.
    pub cached_tokens: u64,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// The request.
    pub request: RequestId,
    /// Which choice, from 0.
    pub choice: u32,
    /// Whole UTF-8 characters; may be empty when only tokens were counted.
    pub text: String,
    /// Tokens that this piece stands for.
    pub tokens: u32,
    /// Log-probabilities of those tokens, as OpenAI's `logprobs.content` items in JSON, if asked for.
    pub logprobs_json: Option<String>,
    /// Set on the last piece of a choice.
    pub finish: Option<NodeFinish>,
}

/// Why a choice ended at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeFinish {
    /// End of text or a stop string.
    Stop = 0,
    /// `max_tokens` or the context was used up.
    Length = 1,
    /// Cancelled.
    Cancelled = 2,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Totals over all choices (the prompt counts once).
    pub usage: Usage,
    /// What the node swears to; names the request.
    pub statement: SignedNodeStatement,
}

/// Why a node could not serve a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FailureKind {
    /// The job is not servable as it is (template error, bad token id): the buyer's fault.
    Invalid = 0,
    /// Prompt and answer do not fit the context: the buyer's fault.
    ContextLength = 1,
    /// No room now.
    Busy = 2,
    /// The engine failed.
    Engine = 3,
}

/// A job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The request.
    pub request: RequestId,
    /// Why.
    pub kind: FailureKind,
    /// In words, without content of the prompt.
    pub message: String,
}

/// How loaded a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Sequences generating.
    pub running: u32,
    /// Sequences waiting.
    pub waiting: u32,
    /// KV tokens in use.
    pub kv_tokens_used: u64,
    /// KV tokens in all.
    pub kv_tokens_max: u64,
}

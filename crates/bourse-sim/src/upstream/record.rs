//! What a seller saw, for assertions: who called, with which bytes, how it ended, when the client left.

use super::fault::Fault;
use super::shape::Shape;
use std::fmt;
use std::time::Duration;

/// Token counts, either true or as reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageSeen {
    /// All prompt tokens.
    pub prompt: u64,
    /// The cached part of the prompt; above `prompt` only in a lie.
    pub cached_prompt: u64,
    /// The part of the prompt that was written into the cache; zero where a seller has none.
    pub cache_write_prompt: u64,
    /// Generated tokens, reasoning among them.
    pub completion: u64,
    /// The generated tokens that were reasoning.
    pub reasoning: u64,
}

/// How a call ended, as the seller saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Still being answered.
    Open,
    /// Everything the script had was sent.
    Sent,
    /// The client closed before that.
    ClientGone,
}

/// One call of a generation endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    /// Number of the call at this seller, from 0.
    pub order: u64,
    /// Number of the connection that it came on, from 0.
    pub connection: u64,
    /// Since the seller started.
    pub at: Duration,
    /// Path of the request.
    pub path: String,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body (64 KiB at most).
    pub body: Vec<u8>,
    /// The shape that it spoke.
    pub shape: Shape,
    /// The model that it named; empty when it could not be read.
    pub model: String,
    /// Names of the tools that it offered.
    pub tools: Vec<String>,
    /// Images in it.
    pub images: u64,
    /// What it was told when it broke the shape's grammar; `None` when it kept to it.
    pub grammar_error: Option<String>,
    /// The status of a refusal that was no fault: key, grammar, model, rate or capacity.
    pub refused: Option<u16>,
    /// The fault that it met.
    pub fault: Option<Fault>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The true usage of the whole answer, delivered or not. Zero for calls that were refused.
    pub truth: UsageSeen,
    /// Completion tokens whose bytes were written to the socket.
    pub tokens_sent: u64,
    /// How it ended.
    pub ending: Ending,
    /// When the client closed the connection while the answer was under way, since the seller started.
    pub client_gone_at: Option<Duration>,
    /// Bytes offered to the socket after that.
    pub bytes_after_client_gone: u64,
}

impl Seen {
    /// The first header field of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Seen {
    /// Without header values and body: they carry keys and prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("order", &self.order)
            .field("connection", &self.connection)
            .field("at", &self.at)
            .field("path", &self.path)
            .field("body_bytes", &self.body.len())
            .field("shape", &self.shape)
            .field("model", &self.model)
            .field("refused", &self.refused)
            .field("fault", &self.fault)
            .field("stream", &self.stream)
            .field("truth", &self.truth)
            .field("tokens_sent", &self.tokens_sent)
            .field("ending", &self.ending)
            .field("client_gone_at", &self.client_gone_at)
            .field("bytes_after_client_gone", &self.bytes_after_client_gone)
            .finish_non_exhaustive()
    }
}

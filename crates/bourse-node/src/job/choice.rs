//! One answer: its tokens, its text so far, and what has not been sent yet.
//!
//! A token is counted and sent as soon as the engine says it; its text follows when its characters are
//! whole and no stop string can begin with them. So the sum of delivered token counts is right at every
//! moment, also for a stream that breaks.

use super::logprobs;
use super::node_finish;
use crate::engine::{FinishReason, TokenLogprobs};
use bourse_tokens::tokenizer::{Detokenizer, StopMatcher, StopOutcome, Tokenizer};
use bourse_types::RequestId;
use bourse_wire::node::{DELTA_TEXT_BYTES_MAX, Delta, NodeFinish};

/// Tokens of one delta. With tokens of at most 1 KiB and stop strings of at most 1 KiB, the text of so many
/// fits the bound of a delta's text.
const DELTA_TOKENS_MAX: u32 = 32;
/// Log-probabilities JSON after which a delta is sent. One more token adds less than what is left to the
/// bound of a delta.
const LOGPROBS_BYTES_FULL: usize = 512 * 1024;

pub(super) struct Choice {
    tokens: Vec<u32>,
    text: String,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    finish: Option<NodeFinish>,
    pending_text: String,
    pending_tokens: u32,
    pending_logprobs: Option<String>,
    finish_is_sent: bool,
}

impl Choice {
    pub(super) fn new(stop: &[String]) -> Self {
        Self {
            tokens: Vec::new(),
            text: String::new(),
            detokenizer: Detokenizer::default(),
            stop: StopMatcher::new(stop),
            finish: None,
            pending_text: String::new(),
            pending_tokens: 0,
            pending_logprobs: None,
            finish_is_sent: false,
        }
    }

    /// Takes a token. One that comes after the end, because the engine was told of it too late, is dropped:
    /// it is neither sent nor counted.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: u32, logprobs: Option<&TokenLogprobs>) {
        if self.finish.is_some() {
            return;
        }
        self.tokens.push(token);
        self.pending_tokens += 1;
        if let Some(logprobs) = logprobs {
            logprobs::append(self.pending_logprobs.get_or_insert_default(), tokenizer, token, logprobs);
        }
        let mut piece = String::new();
        self.detokenizer.push(tokenizer.text_bytes(token), &mut piece);
        if self.stop.push(&piece, &mut self.pending_text) == StopOutcome::Stopped {
            self.finish = Some(NodeFinish::Stop);
        }
    }

    /// Ends the answer as the engine did; text that was held back is text after all, unless the last bytes
    /// complete a stop string.
    pub(super) fn end(&mut self, reason: FinishReason) {
        if self.finish.is_some() {
            return;
        }
        self.finish = Some(node_finish(reason));
        let mut piece = String::new();
        self.detokenizer.finish(&mut piece);
        match self.stop.push(&piece, &mut self.pending_text) {
            StopOutcome::Stopped => self.finish = Some(NodeFinish::Stop),
            StopOutcome::Open => self.stop.finish(&mut self.pending_text),
        }
    }

    /// Ends the answer for the buyer or the deadline, if it has not ended.
    pub(super) fn cancel(&mut self) {
        self.end(FinishReason::Cancelled);
    }

    /// Whether its prompt has been computed.
    pub(super) fn has_begun(&self) -> bool {
        !self.tokens.is_empty() || self.finish.is_some()
    }

    /// Whether a delta has to be sent before more tokens are taken.
    pub(super) fn is_full(&self) -> bool {
        self.pending_tokens >= DELTA_TOKENS_MAX
            || self.pending_logprobs.as_ref().is_some_and(|json| json.len() >= LOGPROBS_BYTES_FULL)
    }

    /// What has not been sent, as a delta; none when there is nothing.
    pub(super) fn take_delta(&mut self, request: RequestId, choice: u32) -> Option<Delta> {
        let finish_waits = self.finish.is_some() && !self.finish_is_sent;
        if self.pending_tokens == 0 && self.pending_text.is_empty() && !finish_waits {
            return None;
        }
        let text = self.take_text();
        let whole = self.pending_text.is_empty();
        let finish = self.finish.filter(|_| finish_waits && whole);
        self.finish_is_sent |= finish.is_some();
        let logprobs_json = self.pending_logprobs.take().map(|mut items| {
            items.push(']');
            items
        });
        self.text.push_str(&text);
        Some(Delta {
            request,
            choice,
            text,
            tokens: std::mem::take(&mut self.pending_tokens),
            logprobs_json,
            finish,
        })
    }

    /// As much of the waiting text as a delta holds.
    fn take_text(&mut self) -> String {
        if self.pending_text.len() <= DELTA_TEXT_BYTES_MAX {
            return std::mem::take(&mut self.pending_text);
        }
        let cut = self.pending_text.floor_char_boundary(DELTA_TEXT_BYTES_MAX);
        let rest = self.pending_text.split_off(cut);
        std::mem::replace(&mut self.pending_text, rest)
    }

    pub(super) fn finish(&self) -> Option<NodeFinish> {
        self.finish
    }

    /// Tokens that were said and counted.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Text that was sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

//! One sequence: its tokens, its blocks, its end.

use super::{FinishReason, SequenceId, SequenceRequest};
use crate::kernels::KV_BLOCK_TOKENS;
use crate::kv::ChainHash;
use crate::sampling::{History, SamplingParams, TokenLogprobs, choose, logprobs};

#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SequenceId,
    /// Prompt and answer.
    pub(super) tokens: Vec<u32>,
    pub(super) prompt_tokens: usize,
    /// Tokens whose keys and values are in the cache.
    pub(super) computed: usize,
    /// Blocks that hold them, in order.
    pub(super) table: Vec<u32>,
    /// Blocks that it may still ask for.
    pub(super) blocks_promised: usize,
    /// Tokens that prompt and answer have at most, and what their end means.
    tokens_max: usize,
    end: FinishReason,
    /// How many full blocks have been hashed, and the hash up to there.
    chained: (usize, ChainHash),
    sampling: SamplingParams,
    history: History,
    run_seed: [u8; 32],
    stop_tokens: Vec<u32>,
    logprobs: Option<u8>,
}

/// The next token of a sequence.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) token: u32,
    pub(super) logprob: Option<TokenLogprobs>,
}

impl Sequence {
    /// A sequence of a checked request.
    pub(super) fn new(id: SequenceId, request: SequenceRequest, context_tokens_max: usize) -> Self {
        let prompt_tokens = request.prompt.len();
        let wanted = prompt_tokens.saturating_add(request.max_tokens as usize);
        let (tokens_max, end) = if wanted > context_tokens_max {
            (context_tokens_max, FinishReason::ContextFull)
        } else {
            (wanted, FinishReason::MaxTokens)
        };
        Self {
            id,
            prompt_tokens,
            computed: 0,
            table: Vec::new(),
            blocks_promised: 0,
            tokens_max,
            end,
            chained: (0, ChainHash::START),
            history: History::new(&request.sampling, &request.prompt),
            tokens: request.prompt,
            sampling: request.sampling,
            run_seed: request.run_seed,
            stop_tokens: request.stop_tokens,
            logprobs: request.logprobs,
        }
    }

    /// Tokens that the cache holds of it at most: the last one of the answer is never computed.
    pub(super) fn cached_tokens_max(&self) -> usize {
        self.tokens_max - 1
    }

    /// Blocks for those tokens.
    pub(super) fn blocks_max(&self) -> usize {
        self.cached_tokens_max().div_ceil(KV_BLOCK_TOKENS)
    }

    /// Tokens that have yet to be computed before the next choice.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Tokens of the answer so far.
    pub(super) fn answer_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// Begins with blocks that were found, and a promise of more.
    pub(super) fn take_over(&mut self, found: Vec<u32>, blocks_promised: usize) {
        self.computed = found.len() * KV_BLOCK_TOKENS;
        for tokens in self.tokens[..self.computed].chunks(KV_BLOCK_TOKENS) {
            self.chained = (self.chained.0 + 1, self.chained.1.next(tokens));
        }
        self.table = found;
        self.blocks_promised = blocks_promised;
    }

    /// The next block that has become full since the last call, and its name.
    pub(super) fn next_full_block(&mut self) -> Option<(u32, ChainHash)> {
        let (at, chain) = self.chained;
        let end = (at + 1) * KV_BLOCK_TOKENS;
        if self.computed < end {
            return None;
        }
        let hash = chain.next(&self.tokens[at * KV_BLOCK_TOKENS..end]);
        self.chained = (at + 1, hash);
        Some((self.table[at], hash))
    }

    /// The next token. A pure function of the sequence and the logits.
    pub(super) fn choose(&self, logits: &[f32]) -> Choice {
        let step = self.answer_tokens() as u32;
        let token = choose(&self.run_seed, step, logits, &self.sampling, &self.history);
        Choice { token, logprob: self.logprobs.map(|top| logprobs(logits, token, top)) }
    }

    /// Appends the token, unless it is a stop token; says whether that is the end.
    pub(super) fn push(&mut self, token: u32) -> Option<FinishReason> {
        if self.stop_tokens.contains(&token) {
            return Some(FinishReason::StopToken(token));
        }
        self.tokens.push(token);
        self.history.push(token);
        (self.tokens.len() >= self.tokens_max).then_some(self.end)
    }
}

//! Serves many sequences at once over one model: continuous, ragged batching.
//!
//! Each [`BatchEngine::step`] is one forward pass: one row for every sequence that is answering, and chunks
//! of the prompts of those that are not yet. Sequences join and leave between steps. Because every row's
//! arithmetic is independent of the others, a sequence's tokens do not depend on its company.
//!
//! Admission is first come, first served and by KV budget: a sequence starts when the blocks that it can
//! need at most (prompt and `max_tokens`) are free or evictable, so that none ever has to be thrown out
//! half-way. Full blocks of 32 tokens are kept after use and found again by a chain of hashes over their
//! tokens; a prompt that begins like an earlier one skips what is cached, with the same bits.
//!
//! Single-threaded by design: one owner calls `submit`, `cancel` and `step`; the threads inside only split
//! the arithmetic of a pass. Nothing here blocks on anything but that arithmetic.

mod interface;
mod sequence;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use crate::kernels::KV_BLOCK_TOKENS;
use crate::kv::BlockPool;
use crate::model::Model;
use crate::pass::{Pass, Run, embed};
use crate::sampling::LOGPROBS_MAX;
pub use interface::{
    BATCH_ROWS_MAX, EngineConfig, EngineConfigError, EngineLoad, FinishReason, KV_TOKENS_MAX, QUEUE_MAX,
    STOP_TOKENS_MAX, SequenceId, SequenceRequest, StepEvent, StepReport, SubmitError,
};
use sequence::{Choice, Sequence};

/// Continuous batching over one model.
#[derive(Debug)]
pub struct BatchEngine {
    model: Arc<Model>,
    config: EngineConfig,
    pass: Pass,
    pool: BlockPool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// Blocks that running sequences may still ask for.
    blocks_promised: usize,
    next_id: u64,
    /// Sequences that were cancelled since the last step.
    cancelled: Vec<SequenceId>,
    prefix_tokens_hit: u64,
    prompt_tokens: u64,
    hidden: Vec<f32>,
}

impl BatchEngine {
    /// Reserves the cache and starts the threads.
    pub fn new(model: Arc<Model>, config: EngineConfig) -> Result<Self, EngineConfigError> {
        config.check()?;
        if model.embedding.is_none() || model.head.is_none() {
            return Err(EngineConfigError::PartialModel);
        }
        let blocks = config.kv_tokens_max.div_ceil(KV_BLOCK_TOKENS);
        Ok(Self {
            pass: Pass::new(&model, config.threads, blocks),
            pool: BlockPool::new(blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
            blocks_promised: 0,
            next_id: 0,
            cancelled: Vec::new(),
            prefix_tokens_hit: 0,
            prompt_tokens: 0,
            hidden: Vec::new(),
            model,
            config,
        })
    }

    /// The model it serves.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Takes a sequence into the queue. A refusal leaves no trace.
    pub fn submit(&mut self, request: SequenceRequest) -> Result<SequenceId, SubmitError> {
        self.check(&request)?;
        let id = SequenceId(self.next_id);
        let sequence = Sequence::new(id, request, self.model.info().context_tokens_max);
        let needed_blocks = sequence.blocks_max();
        if needed_blocks > self.pool.len() {
            return Err(SubmitError::KvBudget {
                needed_tokens: sequence.cached_tokens_max(),
                kv_tokens_max: self.pool.len() * KV_BLOCK_TOKENS,
            });
        }
        if self.waiting.len() >= self.config.queue_max {
            return Err(SubmitError::QueueFull { queue_max: self.config.queue_max });
        }
        self.next_id += 1;
        self.waiting.push_back(sequence);
        Ok(id)
    }

    fn check(&self, request: &SequenceRequest) -> Result<(), SubmitError> {
        let info = self.model.info();
        let (vocab_size, context_tokens_max) = (info.vocab_size, info.context_tokens_max);
        let prompt_tokens = request.prompt.len();
        if prompt_tokens == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if request.max_tokens == 0 {
            return Err(SubmitError::NoTokens);
        }
        if prompt_tokens >= context_tokens_max {
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_tokens_max });
        }
        if request.stop_tokens.len() > STOP_TOKENS_MAX {
            return Err(SubmitError::StopTokens(request.stop_tokens.len()));
        }
        let mut named = request.prompt.iter().chain(&request.stop_tokens);
        if let Some(&token) = named.find(|&&token| token as usize >= vocab_size) {
            return Err(SubmitError::UnknownToken { token, vocab_size });
        }
        if let Some(top) = request.logprobs.filter(|&top| top > LOGPROBS_MAX) {
            return Err(SubmitError::Logprobs(top));
        }
        Ok(request.sampling.validate(vocab_size)?)
    }

    /// Ends a sequence, waiting or running, and frees its cache at once. Its `Finished` event comes with the
    /// next step. False if there is no such sequence any more.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        if let Some(at) = self.waiting.iter().position(|sequence| sequence.id == id) {
            self.waiting.remove(at);
        } else if let Some(at) = self.running.iter().position(|sequence| sequence.id == id) {
            self.end(at);
        } else {
            return false;
        }
        self.cancelled.push(id);
        true
    }

    /// Admits what fits, runs one pass and appends what happened to `events`.
    ///
    /// Takes as long as the pass: from milliseconds to, with a full prefill chunk on a slow machine, about a
    /// second. Call it again until the report says idle.
    pub fn step(&mut self, events: &mut Vec<StepEvent>) -> StepReport {
        let cancelled = self.cancelled.drain(..);
        events.extend(cancelled.map(|id| StepEvent::Finished { id, reason: FinishReason::Cancelled }));
        while self.admit(events) {}
        if self.running.is_empty() {
            return StepReport { idle: true, ..StepReport::default() };
        }
        let (shares, report) = self.share_rows();
        let sampled = self.forward(&shares);
        self.publish(&shares);
        let choices = self.choose(&sampled);
        self.apply(&sampled, choices, events);
        report
    }

    /// How busy it is.
    pub fn load(&self) -> EngineLoad {
        let free = self.pool.available() - self.blocks_promised;
        EngineLoad {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_tokens_used: (self.pool.len() - free) * KV_BLOCK_TOKENS,
            kv_tokens_free: free * KV_BLOCK_TOKENS,
            prefix_tokens_hit: self.prefix_tokens_hit,
            prompt_tokens: self.prompt_tokens,
        }
    }

    /// Starts the longest-waiting sequence if its blocks can be promised. False if nothing was started.
    fn admit(&mut self, events: &mut Vec<StepEvent>) -> bool {
        if self.running.len() >= self.config.sequences_max {
            return false;
        }
        let Some(next) = self.waiting.front() else { return false };
        // The last prompt token is always computed, because its logits choose the first answer token.
        let (found, idle) = self.pool.find(&next.tokens[..next.prompt_tokens - 1]);
        let promised = next.blocks_max() - found.len();
        if self.pool.available() < self.blocks_promised + idle + promised {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        for &block in &found {
            self.pool.hold(block);
        }
        sequence.take_over(found, promised);
        self.blocks_promised += promised;
        self.prefix_tokens_hit += sequence.computed as u64;
        self.prompt_tokens += sequence.prompt_tokens as u64;
        events.push(StepEvent::Admitted {
            id: sequence.id,
            prompt_tokens: sequence.prompt_tokens as u32,
            cached_tokens: sequence.computed as u32,
        });
        self.running.push(sequence);
        true
    }

    /// Decides how many rows each running sequence gets: one for each that decodes, then prompts in the
    /// order of admission. Every share has its blocks allocated.
    fn share_rows(&mut self) -> (Vec<usize>, StepReport) {
        let decode_rows = self.running.iter().filter(|sequence| sequence.pending() == 1).count();
        // There are no more sequences than rows, so a prompt that waits for rows gets one at least.
        let mut left = self.config.prefill_chunk_tokens.min(self.config.batch_rows_max - decode_rows);
        let mut prefill_rows = 0;
        let mut shares = Vec::with_capacity(self.running.len());
        for sequence in &mut self.running {
            let share = match sequence.pending() {
                1 => 1,
                pending => {
                    let share = pending.min(left);
                    left -= share;
                    prefill_rows += share;
                    share
                }
            };
            while sequence.table.len() * KV_BLOCK_TOKENS < sequence.computed + share {
                let block = self.pool.allocate().expect("a promised block is available");
                sequence.table.push(block);
                sequence.blocks_promised -= 1;
                self.blocks_promised -= 1;
            }
            shares.push(share);
        }
        (shares, StepReport { idle: false, decode_rows, prefill_rows })
    }

    /// Runs the pass. Returns the running sequences that now have logits for their next token.
    fn forward(&mut self, shares: &[usize]) -> Vec<usize> {
        let mut runs = Vec::new();
        let (mut sampled, mut sampled_rows) = (Vec::new(), Vec::new());
        let mut rows = 0;
        for (at, (sequence, &share)) in self.running.iter().zip(shares).enumerate() {
            if share == 0 {
                continue;
            }
            runs.push(Run { first_position: sequence.computed, rows: share, table: &sequence.table });
            rows += share;
            if sequence.pending() == share {
                sampled.push(at);
                sampled_rows.push(rows - 1);
            }
        }
        let tokens = self.running.iter().zip(shares).flat_map(|(sequence, &share)| {
            sequence.tokens[sequence.computed..sequence.computed + share].iter().copied()
        });
        embed(&self.model, tokens, &mut self.hidden);
        self.pass.layers(&self.model, &mut self.hidden, &runs);
        self.pass.logits(&self.model, &self.hidden, &sampled_rows);
        sampled
    }

    /// Counts the computed rows and publishes the blocks that are full now.
    fn publish(&mut self, shares: &[usize]) {
        for (sequence, &share) in self.running.iter_mut().zip(shares) {
            sequence.computed += share;
            while let Some((block, hash)) = sequence.next_full_block() {
                self.pool.publish(block, hash);
            }
        }
    }

    /// Chooses the next token of each sampled sequence; the threads share the sequences.
    fn choose(&mut self, sampled: &[usize]) -> Vec<Choice> {
        let vocab_size = self.model.info().vocab_size;
        let (crew, logits) = self.pass.crew_and_logits();
        let stride = logits.len() / sampled.len().max(1);
        let choices: Vec<OnceLock<Choice>> = sampled.iter().map(|_| OnceLock::new()).collect();
        crew.run(sampled.len(), &|row| {
            let logits = &logits[row * stride..row * stride + vocab_size];
            // Each row is visited once, so the cell is empty.
            let _ = choices[row].set(self.running[sampled[row]].choose(logits));
        });
        choices.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    /// Appends the chosen tokens and ends what has come to its end.
    fn apply(&mut self, sampled: &[usize], choices: Vec<Choice>, events: &mut Vec<StepEvent>) {
        let mut ended = Vec::new();
        for (&at, choice) in sampled.iter().zip(choices) {
            let sequence = &mut self.running[at];
            let id = sequence.id;
            let position = sequence.answer_tokens() as u32;
            let reason = sequence.push(choice.token);
            if !matches!(reason, Some(FinishReason::StopToken(_))) {
                let Choice { token, logprob } = choice;
                events.push(StepEvent::Token { id, position, token, logprob });
            }
            if let Some(reason) = reason {
                events.push(StepEvent::Finished { id, reason });
                ended.push(at);
            }
        }
        // From the last on, so that the places before it stay what they are.
        for at in ended.into_iter().rev() {
            self.end(at);
        }
    }

    /// Takes a running sequence out and lets its blocks go.
    fn end(&mut self, at: usize) {
        let sequence = self.running.remove(at);
        self.blocks_promised -= sequence.blocks_promised;
        self.pool.release(&sequence.table);
    }
}

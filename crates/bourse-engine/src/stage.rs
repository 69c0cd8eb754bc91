//! A range of layers with its own cache: what audits, shards and tests drive by hand.
//!
//! Rows name a sequence and a position; hidden states go in and come out as plain floats, so that stages can
//! exchange them as bytes. A model that was loaded whole is one stage that does everything. Blocks are not
//! shared between sequences and nothing is evicted: a full cache is an error here.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use crate::kernels::KV_BLOCK_TOKENS;
use crate::model::Model;
use crate::pass::{Pass, Run, embed};

/// Most rows of one call.
pub const STAGE_ROWS_MAX: usize = 4096;

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageRow {
    /// The caller's name for the sequence.
    pub sequence: u64,
    /// The row's position. The next free one continues the sequence; an earlier one forgets everything from
    /// there on and continues from it.
    pub position: usize,
}

/// What the rows hold.
#[derive(Debug, Clone, Copy)]
pub enum StageInput<'a> {
    /// A token each, for the stage with the first layer.
    Tokens(&'a [u32]),
    /// A hidden state each, one after another, from the stage before.
    Hidden(&'a [f32]),
}

/// Why rows are not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StageError {
    /// There are no rows, or more than [`STAGE_ROWS_MAX`].
    #[error("{0} rows; 1 to {STAGE_ROWS_MAX} are run at once")]
    Rows(usize),
    /// The input is not one token or hidden state for each row, or not of the kind that the stage takes.
    #[error("the input does not fit the rows: {0}")]
    Input(&'static str),
    /// A token is not in the vocabulary.
    #[error("token {0} is not in the vocabulary")]
    UnknownToken(u32),
    /// A position leaves a gap or is past the context.
    #[error("position {position} does not follow the sequence's {known} known ones, or is past the context")]
    Position {
        /// The position asked for.
        position: usize,
        /// Positions that the sequence has.
        known: usize,
    },
    /// The cache is full.
    #[error("the KV cache is full")]
    CacheFull,
    /// Logits were asked of a stage without the last layer.
    #[error("this stage has no head: it ends before the last layer")]
    NoHead,
}

#[derive(Debug, Default)]
struct Sequence {
    table: Vec<u32>,
    known: usize,
}

/// A range of a model's layers with a cache of its own.
#[derive(Debug)]
pub struct Stage {
    model: Arc<Model>,
    pass: Pass,
    sequences: BTreeMap<u64, Sequence>,
    free: Vec<u32>,
}

impl Stage {
    /// A stage on so many threads (0: one for each core) whose cache holds so many tokens.
    pub fn new(model: Arc<Model>, threads: usize, kv_tokens_max: usize) -> Self {
        let blocks = kv_tokens_max.div_ceil(KV_BLOCK_TOKENS);
        let pass = Pass::new(&model, threads, blocks);
        Self { model, pass, sequences: BTreeMap::new(), free: (0..blocks as u32).rev().collect() }
    }

    /// Runs rows through the layers: the hidden states after the last of them, in the order of the rows.
    ///
    /// Rows of one sequence must be in the order of their positions. An error changes nothing but what the
    /// rows before it rewound.
    pub fn run(&mut self, rows: &[StageRow], input: StageInput<'_>) -> Result<Vec<f32>, StageError> {
        if rows.is_empty() || rows.len() > STAGE_ROWS_MAX {
            return Err(StageError::Rows(rows.len()));
        }
        let mut hidden = self.input(rows.len(), input)?;
        for row in rows {
            self.extend(*row)?;
        }
        let model = Arc::clone(&self.model);
        let mut runs: Vec<Run<'_>> = Vec::new();
        let mut last = None;
        for row in rows {
            match runs.last_mut() {
                Some(run) if last == Some(row.sequence) && run.first_position + run.rows == row.position => {
                    run.rows += 1;
                }
                _ => runs.push(Run {
                    first_position: row.position,
                    rows: 1,
                    table: &self.sequences[&row.sequence].table,
                }),
            }
            last = Some(row.sequence);
        }
        self.pass.layers(&model, &mut hidden, &runs);
        Ok(hidden)
    }

    /// Logits of hidden states, `vocab_size` for each.
    pub fn logits(&mut self, hidden: &[f32]) -> Result<Vec<f32>, StageError> {
        let info = self.model.info();
        let (width, vocab_size) = (info.width, info.vocab_size);
        if self.model.head.is_none() {
            return Err(StageError::NoHead);
        }
        if hidden.is_empty() || !hidden.len().is_multiple_of(width) {
            return Err(StageError::Input("not whole hidden states"));
        }
        let rows: Vec<usize> = (0..hidden.len() / width).collect();
        let model = Arc::clone(&self.model);
        let logits = self.pass.logits(&model, hidden, &rows);
        let stride = logits.len() / rows.len();
        Ok(logits.chunks_exact(stride).flat_map(|row| row[..vocab_size].iter().copied()).collect())
    }

    /// Forgets a sequence and frees its cache.
    pub fn forget(&mut self, sequence: u64) {
        if let Some(sequence) = self.sequences.remove(&sequence) {
            self.free.extend(sequence.table);
        }
    }

    fn input(&self, rows: usize, input: StageInput<'_>) -> Result<Vec<f32>, StageError> {
        let info = self.model.info();
        match input {
            StageInput::Tokens(_) if self.model.embedding.is_none() => {
                Err(StageError::Input("this stage begins after the first layer and takes hidden states"))
            }
            StageInput::Tokens(tokens) if tokens.len() != rows => {
                Err(StageError::Input("not one token a row"))
            }
            StageInput::Tokens(tokens) => {
                if let Some(&token) = tokens.iter().find(|&&token| token as usize >= info.vocab_size) {
                    return Err(StageError::UnknownToken(token));
                }
                let mut hidden = Vec::new();
                embed(&self.model, tokens.iter().copied(), &mut hidden);
                Ok(hidden)
            }
            StageInput::Hidden(hidden) if hidden.len() != rows * info.width => {
                Err(StageError::Input("not one hidden state a row"))
            }
            StageInput::Hidden(hidden) => Ok(hidden.to_vec()),
        }
    }

    /// Makes the row's position the last known one of its sequence.
    fn extend(&mut self, row: StageRow) -> Result<(), StageError> {
        let context = self.model.info().context_tokens_max;
        let sequence = self.sequences.entry(row.sequence).or_default();
        if row.position > sequence.known || row.position >= context {
            return Err(StageError::Position { position: row.position, known: sequence.known });
        }
        if row.position / KV_BLOCK_TOKENS == sequence.table.len() {
            sequence.table.push(self.free.pop().ok_or(StageError::CacheFull)?);
        }
        sequence.known = row.position + 1;
        Ok(())
    }
}

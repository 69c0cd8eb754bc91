//! One forward pass over rows of any mixture of sequences: the Llama graph.
//!
//! A pass owns the threads, the buffers between the products and the storage of keys and values; which block
//! of that storage belongs to which sequence is its caller's business ([`crate::Stage`] or
//! [`crate::BatchEngine`]). Rows come in runs, neighbouring positions of one sequence, and each row's result
//! depends on its own sequence alone.

use crate::kernels::{
    Activations, Crew, KV_BLOCK_TOKENS, QueryRun, RUN_ROWS_MAX, add_norm_quantise, attend, gate_quantise,
    multiply, quantise, rotate, store_key_value,
};
use crate::math;
use crate::model::{Layer, Model};

/// Rows of one sequence at neighbouring positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// Position of the first row within its sequence.
    pub(crate) first_position: usize,
    /// How many rows.
    pub(crate) rows: usize,
    /// The sequence's blocks in order; they cover the last row's position.
    pub(crate) table: &'a [u32],
}

/// Keys and values of one layer, in half precision, by block.
#[derive(Debug)]
struct LayerCache {
    keys: Vec<u16>,
    values: Vec<u16>,
}

/// Threads, buffers and cache for one model.
#[derive(Debug)]
pub(crate) struct Pass {
    crew: Crew,
    cache: Vec<LayerCache>,
    activations: Activations,
    angles: Vec<(f32, f32)>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    gate_up: Vec<f32>,
    delta: Vec<f32>,
    chosen: Vec<f32>,
    logits: Vec<f32>,
}

impl Pass {
    /// Storage for `blocks` blocks of keys and values. Memory that is never written is not resident.
    pub(crate) fn new(model: &Model, threads: usize, blocks: usize) -> Self {
        let numbers = blocks * model.shape.attention.block_numbers();
        let layer = |_: &Layer| LayerCache { keys: vec![0; numbers], values: vec![0; numbers] };
        Self {
            crew: Crew::new(threads),
            cache: model.layers.iter().map(layer).collect(),
            activations: Activations::default(),
            angles: Vec::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            gate_up: Vec::new(),
            delta: Vec::new(),
            chosen: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The threads, for work between passes, and the last pass's logits.
    pub(crate) fn crew_and_logits(&mut self) -> (&mut Crew, &[f32]) {
        (&mut self.crew, &self.logits)
    }

    /// Runs the hidden rows through the model's layers, in place, and keeps their keys and values.
    pub(crate) fn layers(&mut self, model: &Model, hidden: &mut [f32], runs: &[Run<'_>]) {
        let rows = hidden.len() / model.shape.width;
        self.turn(model, runs);
        let query_runs = split(runs);
        // The result of a layer's last product is added when the next norm reads the row anyway.
        let mut pending = false;
        for (index, layer) in model.layers.iter().enumerate() {
            self.attention(model, index, layer, hidden, rows, (runs, &query_runs), pending);
            self.feed_forward(model, layer, hidden, rows);
            pending = true;
        }
        if pending {
            let stride = self.delta.len() / rows;
            for (hidden, delta) in
                hidden.chunks_exact_mut(model.shape.width).zip(self.delta.chunks_exact(stride))
            {
                hidden.iter_mut().zip(delta).for_each(|(hidden, delta)| *hidden += delta);
            }
        }
    }

    /// Cosines and sines for every row and rotated pair; all layers share them.
    fn turn(&mut self, model: &Model, runs: &[Run<'_>]) {
        self.angles.clear();
        for run in runs {
            for position in run.first_position..run.first_position + run.rows {
                self.angles.extend(model.turns.iter().map(|turn| {
                    let (sine, cosine) = math::sin_cos(position as f64 * turn);
                    (cosine as f32, sine as f32)
                }));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call, whose arguments are the loop's own variables")]
    fn attention(
        &mut self,
        model: &Model,
        index: usize,
        layer: &Layer,
        hidden: &mut [f32],
        rows: usize,
        (runs, query_runs): (&[Run<'_>], &[QueryRun<'_>]),
        pending: bool,
    ) {
        let (kernel, shape) = (model.kernel, model.shape.attention);
        let (query, key) = (model.shape.query_width(), model.shape.key_width());
        let delta_stride = self.delta.len() / rows;
        let add = pending.then_some((&self.delta[..], delta_stride));
        let (norm, epsilon) = (&layer.attention_norm, model.shape.epsilon);
        add_norm_quantise(kernel, &mut self.crew, hidden, add, norm, epsilon, &mut self.activations);
        let stride = layer.qkv.padded_rows();
        self.qkv.resize(rows * stride, 0.0);
        multiply(kernel, &mut self.crew, &layer.qkv, &self.activations, &mut self.qkv);
        let heads = shape.heads + shape.kv_heads;
        rotate(&mut self.crew, &mut self.qkv, stride, heads, shape.head_width, &self.angles);
        let cache = &mut self.cache[index];
        let mut row = self.qkv.chunks_exact(stride);
        for run in runs {
            for (position, numbers) in (run.first_position..run.first_position + run.rows).zip(&mut row) {
                let place = (run.table[position / KV_BLOCK_TOKENS] as usize, position % KV_BLOCK_TOKENS);
                let pair = (&numbers[query..query + key], &numbers[query + key..query + 2 * key]);
                store_key_value(kernel, shape, place, pair, (&mut cache.keys, &mut cache.values));
            }
        }
        self.attended.resize(rows * query, 0.0);
        let (qkv, stored) = ((&self.qkv[..], stride), (&cache.keys[..], &cache.values[..]));
        attend(kernel, &mut self.crew, shape, query_runs, qkv, stored, &mut self.attended);
        quantise(kernel, &mut self.crew, &self.attended, query, &mut self.activations);
        self.delta.resize(rows * layer.attention_out.padded_rows(), 0.0);
        multiply(kernel, &mut self.crew, &layer.attention_out, &self.activations, &mut self.delta);
    }

    fn feed_forward(&mut self, model: &Model, layer: &Layer, hidden: &mut [f32], rows: usize) {
        let (kernel, epsilon) = (model.kernel, model.shape.epsilon);
        let add = Some((&self.delta[..], self.delta.len() / rows));
        add_norm_quantise(
            kernel,
            &mut self.crew,
            hidden,
            add,
            &layer.feed_norm,
            epsilon,
            &mut self.activations,
        );
        let stride = layer.gate_up.padded_rows();
        self.gate_up.resize(rows * stride, 0.0);
        multiply(kernel, &mut self.crew, &layer.gate_up, &self.activations, &mut self.gate_up);
        let feed = model.shape.feed_width;
        gate_quantise(kernel, &mut self.crew, &mut self.gate_up, stride, feed, &mut self.activations);
        self.delta.resize(rows * layer.down.padded_rows(), 0.0);
        multiply(kernel, &mut self.crew, &layer.down, &self.activations, &mut self.delta);
    }

    /// Logits of some hidden rows, one row of `logits_stride` numbers each, of which the first
    /// `vocab_size` count. Empty for a stage without the last layer.
    pub(crate) fn logits(&mut self, model: &Model, hidden: &[f32], rows: &[usize]) -> &[f32] {
        self.chosen.clear();
        self.logits.clear();
        let Some(head) = model.head.as_ref().filter(|_| !rows.is_empty()) else { return &[] };
        let width = model.shape.width;
        for &row in rows {
            self.chosen.extend_from_slice(&hidden[row * width..(row + 1) * width]);
        }
        let (kernel, epsilon) = (model.kernel, model.shape.epsilon);
        let (crew, activations) = (&mut self.crew, &mut self.activations);
        add_norm_quantise(kernel, crew, &mut self.chosen, None, &head.norm, epsilon, activations);
        self.logits.resize(rows.len() * head.matrix.padded_rows(), 0.0);
        multiply(kernel, crew, &head.matrix, activations, &mut self.logits);
        &self.logits
    }
}

/// Hidden rows of tokens. Tokens must be in the vocabulary and the model must have the embedding.
pub(crate) fn embed(model: &Model, tokens: impl Iterator<Item = u32>, hidden: &mut Vec<f32>) {
    hidden.clear();
    let Some(embedding) = &model.embedding else { return };
    for token in tokens {
        let start = hidden.len();
        hidden.resize(start + model.shape.width, 0.0);
        embedding.decode_row(token as usize, &mut hidden[start..]);
    }
}

/// Cuts runs into pieces that one task of the attention takes.
fn split<'a>(runs: &[Run<'a>]) -> Vec<QueryRun<'a>> {
    let mut pieces = Vec::new();
    let mut first_row = 0;
    for run in runs {
        for start in (0..run.rows).step_by(RUN_ROWS_MAX) {
            pieces.push(QueryRun {
                first_row: first_row + start,
                rows: RUN_ROWS_MAX.min(run.rows - start),
                first_position: run.first_position + start,
                table: run.table,
            });
        }
        first_row += run.rows;
    }
    pieces
}

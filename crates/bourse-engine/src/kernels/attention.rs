//! Attention of rows over a paged cache of keys and values.
//!
//! Keys and values lie in half precision in blocks of 32 positions: keys as `[head][column][position]`, values
//! as `[head][position][column]`. So a lane of a vector belongs to one position while scores are made, and
//! to one column while values are added, and neither needs sums across lanes. A score adds its columns in
//! order, a value sum its positions in order, whoever else is in the pass; only the sum of the weights runs
//! in eight lanes by position modulo eight, with a fixed tree at the end.
//!
//! Neighbouring rows of a prompt and the query heads of one key head form one task: a block of keys or
//! values is widened to 32 bits once for all of them.

use std::cell::RefCell;

use super::crew::{Crew, Shared};
use super::vector::{LANES, Vector};
use super::{Kernel, VectorTask, dispatch};

/// Positions of one block of the cache.
pub(crate) const KV_BLOCK_TOKENS: usize = 32;
/// Rows of one sequence that share a task.
pub(crate) const RUN_ROWS_MAX: usize = 8;
/// Vectors that cover the positions of a block.
const KV_BLOCK_VECTORS: usize = KV_BLOCK_TOKENS / LANES;

/// Heads and widths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Columns of a head, a multiple of 16.
    pub(crate) head_width: usize,
}

impl AttentionShape {
    /// Half-precision numbers of one block of keys (or values), all heads.
    pub(crate) fn block_numbers(self) -> usize {
        self.kv_heads * self.head_width * KV_BLOCK_TOKENS
    }
}

/// Neighbouring rows of one sequence at neighbouring positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryRun<'a> {
    /// The first row's number within the pass.
    pub(crate) first_row: usize,
    /// How many, at most [`RUN_ROWS_MAX`].
    pub(crate) rows: usize,
    /// The first row's position within its sequence.
    pub(crate) first_position: usize,
    /// The sequence's blocks in order, enough to cover the last row's position.
    pub(crate) table: &'a [u32],
}

/// Puts one row's keys and values into the cache of one layer.
pub(crate) fn store_key_value(
    kernel: Kernel,
    shape: AttentionShape,
    (block, offset): (usize, usize),
    (key, value): (&[f32], &[f32]),
    (keys, values): (&mut [u16], &mut [u16]),
) {
    let numbers = shape.block_numbers();
    let keys = &mut keys[block * numbers..(block + 1) * numbers];
    let values = &mut values[block * numbers..(block + 1) * numbers];
    dispatch(kernel, Store { shape, offset, key, value, keys, values });
}

struct Store<'a> {
    shape: AttentionShape,
    offset: usize,
    key: &'a [f32],
    value: &'a [f32],
    keys: &'a mut [u16],
    values: &'a mut [u16],
}

impl VectorTask for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let width = self.shape.head_width;
        let mut half = [0; LANES];
        for (group, numbers) in self.key.as_chunks::<LANES>().0.iter().enumerate() {
            V::load(numbers).store_half(&mut half);
            // Head and column together count like the columns of all heads.
            for (i, &half) in half.iter().enumerate() {
                self.keys[(group * LANES + i) * KV_BLOCK_TOKENS + self.offset] = half;
            }
        }
        let groups = width / LANES;
        let values = self.values.as_chunks_mut::<LANES>().0;
        for (group, numbers) in self.value.as_chunks::<LANES>().0.iter().enumerate() {
            let (head, column) = (group / groups, group % groups);
            V::load(numbers)
                .store_half(&mut values[(head * KV_BLOCK_TOKENS + self.offset) * groups + column]);
        }
    }
}

/// Attends for all runs: reads queries from `qkv` (rows of `stride`, query heads first), writes rows of
/// `heads · head_width` numbers to `out`.
pub(crate) fn attend(
    kernel: Kernel,
    crew: &mut Crew,
    shape: AttentionShape,
    runs: &[QueryRun<'_>],
    (qkv, stride): (&[f32], usize),
    (keys, values): (&[u16], &[u16]),
    out: &mut [f32],
) {
    let out = Shared::new(out);
    crew.run(runs.len() * shape.kv_heads, &|task| {
        // Long runs come last in a prompt; taking the tasks from the end starts the largest first.
        let task = runs.len() * shape.kv_heads - 1 - task;
        let (run, kv_head) = (runs[task / shape.kv_heads], task % shape.kv_heads);
        SCRATCH.with_borrow_mut(|scratch| {
            dispatch(kernel, Attend { shape, run, kv_head, qkv, stride, keys, values, out, scratch });
        });
    });
}

/// Buffers that a thread uses again and again.
#[derive(Default)]
struct Scratch {
    /// One block of keys or values in 32 bits.
    wide: Vec<f32>,
    /// Scores, later weights, of each query for all positions.
    scores: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Attend<'a> {
    shape: AttentionShape,
    run: QueryRun<'a>,
    kv_head: usize,
    qkv: &'a [f32],
    stride: usize,
    keys: &'a [u16],
    values: &'a [u16],
    out: Shared<'a, f32>,
    scratch: &'a mut Scratch,
}

impl VectorTask for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (width, run) = (self.shape.head_width, self.run);
        let group = self.shape.heads / self.shape.kv_heads;
        let queries = run.rows * group;
        let blocks = (run.first_position + run.rows).div_ceil(KV_BLOCK_TOKENS);
        let positions = blocks * KV_BLOCK_TOKENS;
        let Scratch { wide, scores } = self.scratch;
        wide.resize(width * KV_BLOCK_TOKENS, 0.0);
        // What an earlier task left there is overwritten below before it is read.
        scores.resize(scores.len().max(queries * positions), 0.0);
        let head_numbers = width * KV_BLOCK_TOKENS;
        let block_numbers = self.shape.block_numbers();
        let first_column = self.kv_head * group * width;
        for (at, &block) in run.table[..blocks].iter().enumerate() {
            let start = block as usize * block_numbers + self.kv_head * head_numbers;
            widen::<V>(&self.keys[start..start + head_numbers], wide);
            for query in 0..queries {
                let start =
                    (run.first_row + query / group) * self.stride + first_column + query % group * width;
                let into = query * positions + at * KV_BLOCK_TOKENS;
                let scores = &mut scores[into..into + KV_BLOCK_TOKENS];
                score_block::<V>(&self.qkv[start..start + width], wide, scores);
            }
        }
        let scale = 1.0 / (width as f32).sqrt();
        let out_stride = self.shape.heads * width;
        for row in 0..run.rows {
            // SAFETY: rows and the columns of a key head belong to one task.
            let out =
                unsafe { self.out.part((run.first_row + row) * out_stride + first_column, group * width) };
            out.fill(0.0);
        }
        for query in 0..queries {
            let known = run.first_position + query / group + 1;
            softmax::<V>(&mut scores[query * positions..(query + 1) * positions], known, scale);
        }
        for (at, &block) in run.table[..blocks].iter().enumerate() {
            let start = block as usize * block_numbers + self.kv_head * head_numbers;
            widen::<V>(&self.values[start..start + head_numbers], wide);
            for query in 0..queries {
                let known = run.first_position + query / group + 1;
                let count = known.saturating_sub(at * KV_BLOCK_TOKENS).min(KV_BLOCK_TOKENS);
                let from = query * positions + at * KV_BLOCK_TOKENS;
                let start =
                    (run.first_row + query / group) * out_stride + first_column + query % group * width;
                // SAFETY: rows and the columns of a key head belong to one task; the part ends here.
                let out = unsafe { self.out.part(start, width) };
                add_values::<V>(&scores[from..from + count], wide, out);
            }
        }
    }
}

#[inline(always)]
fn widen<V: Vector>(half: &[u16], wide: &mut [f32]) {
    for (half, wide) in half.as_chunks::<LANES>().0.iter().zip(wide.as_chunks_mut::<LANES>().0) {
        V::load_half(half).store(wide);
    }
}

/// Scores of one query for the 32 positions of a block, columns added in order.
#[inline(always)]
fn score_block<V: Vector>(query: &[f32], keys: &[f32], scores: &mut [f32]) {
    let mut sums = [V::splat(0.0); KV_BLOCK_VECTORS];
    let keys = keys.as_chunks::<LANES>().0.as_chunks::<KV_BLOCK_VECTORS>().0;
    for (&number, keys) in query.iter().zip(keys) {
        let number = V::splat(number);
        for (sum, keys) in sums.iter_mut().zip(keys) {
            *sum = number.mul_add(V::load(keys), *sum);
        }
    }
    for (into, sum) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
        sum.store(into);
    }
}

/// Turns the first `known` scores into weights that sum to one; the rest, up to whole vectors, become zero.
#[inline(always)]
fn softmax<V: Vector>(scores: &mut [f32], known: usize, scale: f32) {
    let whole = known.next_multiple_of(LANES);
    // Lowest instead of infinite: e^(MIN − max) is as for −87, and it is set to zero below.
    scores[known..whole].fill(f32::MIN);
    let scores = &mut scores.as_chunks_mut::<LANES>().0[..whole / LANES];
    let scale = V::splat(scale);
    let mut best = V::splat(f32::MIN);
    for numbers in scores.iter_mut() {
        let scaled = V::load(numbers).mul(scale);
        scaled.store(numbers);
        best = scaled.max(best);
    }
    let best = V::splat(best.largest());
    for numbers in scores.iter_mut() {
        V::load(numbers).sub(best).exp().store(numbers);
    }
    let used = known % LANES;
    if let (Some(last), 1..) = (scores.last_mut(), used) {
        last[used..].fill(0.0);
    }
    let mut sum = V::splat(0.0);
    for numbers in scores.iter() {
        sum = sum.add(V::load(numbers));
    }
    let inverse = V::splat(1.0 / sum.sum());
    for numbers in scores {
        V::load(numbers).mul(inverse).store(numbers);
    }
}

/// Adds weighted values to one query's output, positions in order.
#[inline(always)]
fn add_values<V: Vector>(weights: &[f32], values: &[f32], out: &mut [f32]) {
    if out.len().is_multiple_of(64) {
        add_columns::<V, 8>(weights, values, out);
    } else {
        add_columns::<V, 2>(weights, values, out);
    }
}

#[inline(always)]
fn add_columns<V: Vector, const VECTORS: usize>(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let groups = out.len() / LANES;
    let values = values.as_chunks::<LANES>().0;
    let strips = out.as_chunks_mut::<LANES>().0.as_chunks_mut::<VECTORS>().0;
    for (strip, out) in strips.iter_mut().enumerate() {
        let mut sums = [V::splat(0.0); VECTORS];
        for (sum, out) in sums.iter_mut().zip(out.iter()) {
            *sum = V::load(out);
        }
        for (position, &weight) in weights.iter().enumerate() {
            let weight = V::splat(weight);
            let from = position * groups + strip * VECTORS;
            for (sum, values) in sums.iter_mut().zip(&values[from..from + VECTORS]) {
                *sum = weight.mul_add(V::load(values), *sum);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            sum.store(out);
        }
    }
}

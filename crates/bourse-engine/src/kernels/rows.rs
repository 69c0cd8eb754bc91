//! What happens to single rows between the products: norms, rotary positions, the gate, rounding to 8 bits.

use super::crew::{Crew, Shared};
use super::vector::{LANES, Vector};
use super::{BLOCK, Kernel, VectorTask, dispatch};

/// Rows that one task takes; fewer rows than two tasks are done by the caller alone.
const ROWS_PER_TASK: usize = 4;

/// Rows of activations in 8 bits: a float scale, 32 codes from −127 to 127 and their sum for each block.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    columns: usize,
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// 128 times the sum of the codes: what an unsigned reading of the weights adds too much.
    pub(super) excess: Vec<i32>,
}

impl Activations {
    /// Makes room for so many rows; what they hold is not specified.
    fn reshape(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.codes.resize(rows * columns, 0);
        self.scales.resize(rows * columns / BLOCK, 0.0);
        self.excess.resize(rows * columns / BLOCK, 0);
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

/// One row of [`Activations`].
struct ActivationRow<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    excess: &'a mut [i32],
}

#[derive(Clone, Copy)]
struct SharedActivations<'a> {
    columns: usize,
    codes: Shared<'a, i8>,
    scales: Shared<'a, f32>,
    excess: Shared<'a, i32>,
}

impl<'a> SharedActivations<'a> {
    fn new(activations: &'a mut Activations) -> Self {
        Self {
            columns: activations.columns,
            codes: Shared::new(&mut activations.codes),
            scales: Shared::new(&mut activations.scales),
            excess: Shared::new(&mut activations.excess),
        }
    }

    /// # Safety
    /// Each row is taken once.
    #[inline(always)]
    unsafe fn row(self, row: usize) -> ActivationRow<'a> {
        let (columns, blocks) = (self.columns, self.columns / BLOCK);
        // SAFETY: different rows do not overlap, and each is taken once.
        unsafe {
            ActivationRow {
                codes: self.codes.part(row * columns, columns),
                scales: self.scales.part(row * blocks, blocks),
                excess: self.excess.part(row * blocks, blocks),
            }
        }
    }
}

/// Calls `work` with every row number, on many threads if there are many rows.
fn for_each_row(crew: &mut Crew, rows: usize, work: &(dyn Fn(usize) + Sync)) {
    crew.run(rows.div_ceil(ROWS_PER_TASK), &|task| {
        let first = task * ROWS_PER_TASK;
        (first..rows.min(first + ROWS_PER_TASK)).for_each(work);
    });
}

/// Adds `add` to the hidden rows (if given), then norms and rounds each: out = round(h · w / rms(h)).
///
/// `add` has rows of `add_stride` numbers of which the first `weight.len()` count.
pub(crate) fn add_norm_quantise(
    kernel: Kernel,
    crew: &mut Crew,
    hidden: &mut [f32],
    add: Option<(&[f32], usize)>,
    weight: &[f32],
    epsilon: f32,
    out: &mut Activations,
) {
    let width = weight.len();
    let rows = hidden.len() / width;
    out.reshape(rows, width);
    let (hidden, out) = (Shared::new(hidden), SharedActivations::new(out));
    for_each_row(crew, rows, &|row| {
        // SAFETY: each row is visited once.
        let (hidden, out) = unsafe { (hidden.part(row * width, width), out.row(row)) };
        let add = add.map(|(add, stride)| &add[row * stride..row * stride + width]);
        dispatch(kernel, AddNormQuantise { hidden, add, weight, epsilon, out });
    });
}

/// Rounds rows of `columns` numbers.
pub(crate) fn quantise(
    kernel: Kernel,
    crew: &mut Crew,
    numbers: &[f32],
    columns: usize,
    out: &mut Activations,
) {
    let rows = numbers.len() / columns;
    out.reshape(rows, columns);
    let out = SharedActivations::new(out);
    for_each_row(crew, rows, &|row| {
        let numbers = &numbers[row * columns..(row + 1) * columns];
        // SAFETY: each row is visited once.
        let out = unsafe { out.row(row) };
        dispatch(kernel, Quantise { numbers, out });
    });
}

/// Gates and rounds: out = round(silu(gate) · up), where a row is `width` gates, then `width` ups, and some
/// padding up to `stride`.
pub(crate) fn gate_quantise(
    kernel: Kernel,
    crew: &mut Crew,
    gate_up: &mut [f32],
    stride: usize,
    width: usize,
    out: &mut Activations,
) {
    let rows = gate_up.len() / stride;
    out.reshape(rows, width);
    let (gate_up, out) = (Shared::new(gate_up), SharedActivations::new(out));
    for_each_row(crew, rows, &|row| {
        // SAFETY: each row is visited once.
        let (gate_up, out) = unsafe { (gate_up.part(row * stride, stride), out.row(row)) };
        let (gate, up) = gate_up.split_at_mut(width);
        dispatch(kernel, GateQuantise { gate, up: &up[..width], out });
    });
}

/// Turns neighbouring pairs of each of `heads` heads by the row's angles, in place.
///
/// `angles` has for each row the cosines and sines of `rotated / 2` pairs, interleaved.
pub(crate) fn rotate(
    crew: &mut Crew,
    rows: &mut [f32],
    stride: usize,
    heads: usize,
    head_width: usize,
    angles: &[(f32, f32)],
) {
    let count = rows.len() / stride;
    let pairs = angles.len() / count.max(1);
    let rows = Shared::new(rows);
    for_each_row(crew, count, &|row| {
        // SAFETY: each row is visited once.
        let numbers = unsafe { rows.part(row * stride, heads * head_width) };
        let angles = &angles[row * pairs..(row + 1) * pairs];
        for head in numbers.chunks_exact_mut(head_width) {
            for (pair, &(cosine, sine)) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                let [a, b] = *pair;
                *pair = [a * cosine - b * sine, a * sine + b * cosine];
            }
        }
    });
}

struct AddNormQuantise<'a> {
    hidden: &'a mut [f32],
    add: Option<&'a [f32]>,
    weight: &'a [f32],
    epsilon: f32,
    out: ActivationRow<'a>,
}

impl VectorTask for AddNormQuantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let hidden = self.hidden.as_chunks_mut::<LANES>().0;
        if let Some(add) = self.add {
            for (hidden, add) in hidden.iter_mut().zip(add.as_chunks::<LANES>().0) {
                V::load(hidden).add(V::load(add)).store(hidden);
            }
        }
        // Four sums, so that one addition need not wait for the last; the order is fixed by the index.
        let mut sums = [V::splat(0.0); 4];
        for chunk in hidden.as_chunks::<4>().0 {
            for (sum, numbers) in sums.iter_mut().zip(chunk) {
                let numbers = V::load(numbers);
                *sum = numbers.mul_add(numbers, *sum);
            }
        }
        let sum = sums[0].add(sums[2]).add(sums[1].add(sums[3])).sum();
        let scale = V::splat(1.0 / (sum / self.weight.len() as f32 + self.epsilon).sqrt());
        let weight = self.weight.as_chunks::<LANES>().0.as_chunks::<4>().0;
        for (block, (numbers, weight)) in hidden.as_chunks::<4>().0.iter().zip(weight).enumerate() {
            let mut products = [scale; 4];
            for i in 0..4 {
                products[i] = V::load(&numbers[i]).mul(scale).mul(V::load(&weight[i]));
            }
            quantise_block(products, &mut self.out, block);
        }
    }
}

struct Quantise<'a> {
    numbers: &'a [f32],
    out: ActivationRow<'a>,
}

impl VectorTask for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        for (block, numbers) in self.numbers.as_chunks::<LANES>().0.as_chunks::<4>().0.iter().enumerate() {
            let [a, b, c, d] = numbers;
            quantise_block([V::load(a), V::load(b), V::load(c), V::load(d)], &mut self.out, block);
        }
    }
}

struct GateQuantise<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: ActivationRow<'a>,
}

impl VectorTask for GateQuantise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let gate = self.gate.as_chunks::<LANES>().0.as_chunks::<4>().0;
        let up = self.up.as_chunks::<LANES>().0.as_chunks::<4>().0;
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        for (block, (gate, up)) in gate.iter().zip(up).enumerate() {
            let mut gated = [zero; 4];
            for i in 0..4 {
                let gate = V::load(&gate[i]);
                gated[i] = gate.div(one.add(zero.sub(gate).exp())).mul(V::load(&up[i]));
            }
            quantise_block(gated, &mut self.out, block);
        }
    }
}

/// Rounds one block of 32: the scale is the largest magnitude over 127.
#[inline(always)]
fn quantise_block<V: Vector>(numbers: [V; 4], out: &mut ActivationRow<'_>, block: usize) {
    let [a, b, c, d] = numbers;
    let scale = a.abs().max(b.abs()).max(c.abs().max(d.abs())).largest() / 127.0;
    let inverse = V::splat(if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 });
    let codes = &mut out.codes.as_chunks_mut::<BLOCK>().0[block];
    V::round_to_codes([a.mul(inverse), b.mul(inverse), c.mul(inverse), d.mul(inverse)], codes);
    out.scales[block] = scale;
    let mut sum = 0;
    for &code in codes.iter() {
        sum += i32::from(code);
    }
    out.excess[block] = 128 * sum;
}

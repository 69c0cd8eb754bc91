//! The one weight format of the engine: 8-bit codes in tiles of 16 rows.
//!
//! Whatever the file holds becomes Q8_0 (a half-precision scale and 32 signed bytes for each block of 32),
//! arranged so that one vector load brings four neighbouring codes of 8 or 16 rows. All kernels share this
//! layout: `[tile of 16 rows][block of 32 columns][8 groups][16 rows][4 columns]`, scales beside it.
//! Blocks that are Q8_0 already are copied bit by bit; the others are rounded as ggml rounds them (largest
//! magnitude over 127, halves away from zero), so that the same Q8_0 comes out as from its requantising.

use super::vector::{float_to_half, half_to_float};
use super::{BLOCK, Kernel, VectorTask, dispatch, vector};
use crate::gguf::TensorType;

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Codes of one block of one tile.
const TILE_CODES: usize = TILE_ROWS * BLOCK;

/// Codes of one block for 16 rows: `[8 groups][16 rows][4 columns]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct CodeBlock(pub(super) [i8; TILE_CODES]);

/// Half-precision scales of one block for 16 rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct ScaleBlock(pub(super) [u16; TILE_ROWS]);

/// Why rows cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncodeError {
    /// A weight or scale is infinite or not a number, or too large for a half-precision scale.
    NotFinite,
}

/// A matrix of weights, `rows` × `columns`; the rows after the last of the last tile are zero.
#[derive(Debug)]
pub(crate) struct TileMatrix {
    rows: usize,
    columns: usize,
    pub(super) codes: Vec<CodeBlock>,
    pub(super) scales: Vec<ScaleBlock>,
}

/// Rows in the file's format, to be put into a matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceRows<'a> {
    /// The format of `bytes`.
    pub(crate) tensor_type: TensorType,
    /// All rows, one after another.
    pub(crate) bytes: &'a [u8],
}

impl TileMatrix {
    /// A matrix of zeros. `columns` must be a multiple of 32.
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        let blocks = rows.div_ceil(TILE_ROWS) * (columns / BLOCK);
        Self {
            rows,
            columns,
            codes: vec![CodeBlock([0; TILE_CODES]); blocks],
            scales: vec![ScaleBlock([0; TILE_ROWS]); blocks],
        }
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.columns / BLOCK
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }

    /// Width of an output row: the rows, rounded up to whole tiles.
    pub(crate) fn padded_rows(&self) -> usize {
        self.tiles() * TILE_ROWS
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        (self.codes.len() * size_of::<CodeBlock>() + self.scales.len() * size_of::<ScaleBlock>()) as u64
    }

    /// Encodes rows of the file into this matrix from row `first_row` on, which must begin a tile.
    ///
    /// Threads share the work tile by tile; each tile depends on its own rows alone.
    pub(crate) fn encode(
        &mut self,
        kernel: Kernel,
        threads: usize,
        first_row: usize,
        source: SourceRows<'_>,
    ) -> Result<(), EncodeError> {
        let (blocks, columns) = (self.blocks(), self.columns);
        let tile_bytes = TILE_ROWS * source.row_bytes(columns);
        let first = first_row / TILE_ROWS * blocks;
        let tiles = source.bytes.len().div_ceil(tile_bytes);
        // A small tensor is not worth a thread.
        let threads = threads.min(source.bytes.len() >> 16).max(1);
        let share = tiles.div_ceil(threads);
        let codes = self.codes[first..first + tiles * blocks].chunks_mut(share * blocks);
        let scales = self.scales[first..first + tiles * blocks].chunks_mut(share * blocks);
        let parts = source.bytes.chunks(share * tile_bytes).zip(codes).zip(scales);
        std::thread::scope(|scope| {
            let work = parts.map(|((bytes, codes), scales)| {
                let source = SourceRows { bytes, ..source };
                let task = EncodeTiles { columns, source, codes, scales };
                move || dispatch(kernel, task)
            });
            let mut work = work.collect::<Vec<_>>().into_iter();
            let own = work.next();
            let helpers: Vec<_> = work.map(|work| scope.spawn(work)).collect();
            let mut outcome = own.map_or(Ok(()), |work| work());
            for helper in helpers {
                outcome = outcome.and(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            outcome
        })
    }

    /// Decodes row `row` into `into`, as for an embedding.
    pub(crate) fn decode_row(&self, row: usize, into: &mut [f32]) {
        let (tile, lane) = (row / TILE_ROWS, row % TILE_ROWS);
        for (block, numbers) in into.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let at = tile * self.blocks() + block;
            let scale = half_to_float(self.scales[at].0[lane]);
            for (column, number) in numbers.iter_mut().enumerate() {
                *number = f32::from(self.codes[at].0[code_index(lane, column)]) * scale;
            }
        }
    }
}

/// Where a code of a block lies.
#[inline(always)]
pub(super) fn code_index(lane: usize, column: usize) -> usize {
    (column / 4) * (TILE_ROWS * 4) + lane * 4 + column % 4
}

impl SourceRows<'_> {
    /// All numbers, decoded to floats.
    pub(crate) fn numbers(self) -> Vec<f32> {
        let group = self.tensor_type.block_bytes() as usize;
        let mut numbers = Vec::new();
        for bytes in self.bytes.chunks_exact(group) {
            let count = self.tensor_type.block_elements() as usize;
            numbers.extend((0..count).map(|i| number(self.tensor_type, bytes, i)));
        }
        numbers
    }

    fn row_bytes(&self, columns: usize) -> usize {
        columns / self.tensor_type.block_elements() as usize * self.tensor_type.block_bytes() as usize
    }
}

/// Encodes some tiles. A task of vectors only so that it is compiled with the kernel's instructions.
struct EncodeTiles<'a> {
    columns: usize,
    source: SourceRows<'a>,
    codes: &'a mut [CodeBlock],
    scales: &'a mut [ScaleBlock],
}

impl VectorTask for EncodeTiles<'_> {
    type Output = Result<(), EncodeError>;

    #[inline(always)]
    fn run<V: vector::Vector>(self) -> Self::Output {
        let row_bytes = self.source.row_bytes(self.columns);
        let blocks = self.columns / BLOCK;
        let block_bytes = row_bytes / blocks;
        for (row, bytes) in self.source.bytes.chunks_exact(row_bytes).enumerate() {
            let (tile, lane) = (row / TILE_ROWS, row % TILE_ROWS);
            for (block, bytes) in bytes.chunks_exact(block_bytes).enumerate() {
                let at = tile * blocks + block;
                let (scale, codes) = encode_block(self.source.tensor_type, bytes)?;
                self.scales[at].0[lane] = scale;
                for (group, four) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let at_code = code_index(lane, group * 4);
                    self.codes[at].0[at_code..at_code + 4].copy_from_slice(four);
                }
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn encode_block(tensor_type: TensorType, bytes: &[u8]) -> Result<(u16, [i8; BLOCK]), EncodeError> {
    if tensor_type == TensorType::Q8_0 {
        let scale = half(bytes, 0);
        let codes = std::array::from_fn(|i| bytes[2 + i] as i8);
        return if half_to_float(scale).is_finite() {
            Ok((scale, codes))
        } else {
            Err(EncodeError::NotFinite)
        };
    }
    let numbers = match tensor_type {
        TensorType::Q8_0 => decode_block(TensorType::Q8_0, bytes),
        TensorType::Q4_0 => decode_block(TensorType::Q4_0, bytes),
        TensorType::Q4_1 => decode_block(TensorType::Q4_1, bytes),
        TensorType::F16 => decode_block(TensorType::F16, bytes),
        TensorType::F32 => decode_block(TensorType::F32, bytes),
    };
    quantise_block(&numbers)
}

/// A block's numbers. Called with a constant type, so that the loop is compiled for each.
#[inline(always)]
fn decode_block(tensor_type: TensorType, bytes: &[u8]) -> [f32; BLOCK] {
    let group = tensor_type.block_elements() as usize;
    let group_bytes = tensor_type.block_bytes() as usize;
    let mut numbers = [0.0; BLOCK];
    for (numbers, bytes) in numbers.chunks_exact_mut(group).zip(bytes.chunks_exact(group_bytes)) {
        for (i, into) in numbers.iter_mut().enumerate() {
            *into = number(tensor_type, bytes, i);
        }
    }
    numbers
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Number `i` of a group in the file's format.
#[inline(always)]
fn number(tensor_type: TensorType, bytes: &[u8], i: usize) -> f32 {
    match tensor_type {
        TensorType::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        TensorType::F16 => half_to_float(half(bytes, 0)),
        TensorType::Q4_0 => (nibble(&bytes[2..18], i) - 8.0) * half_to_float(half(bytes, 0)),
        TensorType::Q4_1 => {
            nibble(&bytes[4..20], i) * half_to_float(half(bytes, 0)) + half_to_float(half(bytes, 2))
        }
        TensorType::Q8_0 => f32::from(bytes[2 + i] as i8) * half_to_float(half(bytes, 0)),
    }
}

/// Code `i` of a block of 4-bit codes: the low halves of all 16 bytes come first, then the high ones.
#[inline(always)]
fn nibble(bytes: &[u8], i: usize) -> f32 {
    let byte = bytes[i % 16];
    f32::from(if i < 16 { byte & 0xF } else { byte >> 4 })
}

#[inline(always)]
fn quantise_block(numbers: &[f32; BLOCK]) -> Result<(u16, [i8; BLOCK]), EncodeError> {
    // Eight at a time, so that the compiler may take vectors. NaN loses every comparison and is asked for apart.
    let mut lanes = [0.0_f32; 8];
    let mut not_a_number = false;
    for numbers in numbers.as_chunks::<8>().0 {
        for (lane, &number) in lanes.iter_mut().zip(numbers) {
            *lane = if number.abs() > *lane { number.abs() } else { *lane };
            not_a_number |= number.is_nan();
        }
    }
    let largest = lanes.iter().fold(0.0_f32, |best, &lane| best.max(lane));
    let scale = largest / 127.0;
    let half = float_to_half(scale);
    if not_a_number || !half_to_float(half).is_finite() {
        return Err(EncodeError::NotFinite);
    }
    let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    let mut codes = [0; BLOCK];
    for (code, number) in codes.iter_mut().zip(numbers) {
        let x = number * inverse;
        // Adding half away from zero and cutting rounds halves away from zero. |x| is at most 127, so the
        // cast loses nothing; it goes through i32 because that becomes a vector.
        *code = (x + 0.5_f32.copysign(x)) as i32 as i8;
    }
    Ok((half, codes))
}

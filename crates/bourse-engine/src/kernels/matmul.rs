//! Products of weight tiles with rows of activations.
//!
//! A micro-kernel multiplies one tile (16 rows of weights) with a few rows of activations: each weight is
//! loaded once for all of them, which is where a batch gains. For every output, block after block,
//! `sum = fma(float(integer dot product), weight scale · activation scale, sum)`: the same three roundings in
//! every kernel.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use super::crew::{Crew, Shared};
use super::tiles::{CodeBlock, ScaleBlock};
use super::{Activations, BLOCK, Kernel, TILE_ROWS, TileMatrix};

/// Rows of activations that are multiplied with a tile before the next tile is taken; they stay in the
/// second-level cache meanwhile.
const PANEL_ROWS: usize = 128;
/// Tasks for each thread, so that a thread that is held up does not hold up the others for long.
const TASKS_PER_THREAD: usize = 4;

/// What a micro-kernel needs: one tile and `ROWS` rows of activations, one row after another.
struct Micro<'a, const ROWS: usize> {
    codes: &'a [CodeBlock],
    scales: &'a [ScaleBlock],
    /// 32 for each block of each row.
    activation_codes: &'a [i8],
    /// One for each block of each row.
    activation_scales: &'a [f32],
    /// One for each block of each row.
    activation_excess: &'a [i32],
}

type Sums<const ROWS: usize> = [[f32; TILE_ROWS]; ROWS];

/// out = activations · weightsᵀ. `out` has a row of `weights.padded_rows()` numbers for each activation row.
pub(crate) fn multiply(
    kernel: Kernel,
    crew: &mut Crew,
    weights: &TileMatrix,
    activations: &Activations,
    out: &mut [f32],
) {
    assert_eq!(weights.columns(), activations.columns(), "factors of one width");
    assert_eq!(out.len(), activations.rows() * weights.padded_rows(), "an output for each product");
    let tiles = weights.tiles();
    let tasks = if crew.threads() == 1 { 1 } else { tiles.min(crew.threads() * TASKS_PER_THREAD) };
    let out = Shared::new(out);
    crew.run(tasks, &|task| {
        let (first, end) = (task * tiles / tasks, (task + 1) * tiles / tasks);
        for panel in (0..activations.rows()).step_by(PANEL_ROWS) {
            let panel_end = activations.rows().min(panel + PANEL_ROWS);
            for tile in first..end {
                let product = TileProduct { weights, activations, tile, out };
                product.rows(kernel, panel, panel_end);
            }
        }
    });
}

#[derive(Clone, Copy)]
struct TileProduct<'a> {
    weights: &'a TileMatrix,
    activations: &'a Activations,
    tile: usize,
    out: Shared<'a, f32>,
}

impl TileProduct<'_> {
    /// Multiplies the tile with the rows from `row` to `end`, in groups of 8, 4 and the rest.
    fn rows(self, kernel: Kernel, mut row: usize, end: usize) {
        while row < end {
            row += match end - row {
                1 => self.group::<1>(kernel, row),
                2 => self.group::<2>(kernel, row),
                3 => self.group::<3>(kernel, row),
                4..8 => self.group::<4>(kernel, row),
                _ => self.group::<8>(kernel, row),
            };
        }
    }

    /// Multiplies the tile with `ROWS` rows and returns how many that were.
    fn group<const ROWS: usize>(self, kernel: Kernel, row: usize) -> usize {
        let blocks = self.weights.blocks();
        let tile = self.tile * blocks..(self.tile + 1) * blocks;
        let (columns, activations) = (self.weights.columns(), self.activations);
        let rows = row * blocks..(row + ROWS) * blocks;
        let micro: Micro<'_, ROWS> = Micro {
            codes: &self.weights.codes[tile.clone()],
            scales: &self.weights.scales[tile],
            activation_codes: &activations.codes[row * columns..(row + ROWS) * columns],
            activation_scales: &activations.scales[rows.clone()],
            activation_excess: &activations.excess[rows],
        };
        let sums = match kernel {
            Kernel::Scalar => scalar::micro(&micro),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a `Kernel` of this kind exists only after the CPU was asked for the instructions.
            Kernel::Avx2 => unsafe { avx2::micro(&micro) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kernel::Avx512Vnni => unsafe { avx512::micro(&micro) },
        };
        let stride = self.weights.padded_rows();
        for (i, sums) in sums.iter().enumerate() {
            // SAFETY: one task has this tile, and it visits each row once; the part ends with this turn.
            let out = unsafe { self.out.part((row + i) * stride + self.tile * TILE_ROWS, TILE_ROWS) };
            out.copy_from_slice(sums);
        }
        ROWS
    }
}

impl<const ROWS: usize> Micro<'_, ROWS> {
    /// Checks once what the kernels below rely on: as many blocks of codes and scales everywhere.
    #[inline(always)]
    fn blocks(&self) -> usize {
        let blocks = self.codes.len();
        assert_eq!(self.scales.len(), blocks, "a scale for each block of weights");
        assert_eq!(self.activation_codes.len(), ROWS * blocks * BLOCK, "codes for each block");
        assert_eq!(self.activation_scales.len(), ROWS * blocks, "a scale for each block");
        assert_eq!(self.activation_excess.len(), ROWS * blocks, "an excess for each block");
        blocks
    }
}

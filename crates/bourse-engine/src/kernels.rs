//! The arithmetic of the forward pass, in every form that a CPU may prefer, with equal bits.
//!
//! Why the bits are equal: a product of weights and activations is summed exactly, in integers, within a
//! block of 32, and blocks are added one after another with one fused multiply-add each. Everything else
//! (norms, softmax, attention) is written once over an eight-lane `Vector`, whose portable and
//! AVX2 forms do the same IEEE operations lane by lane. A lane belongs to one output or to a fixed residue
//! of the index, and lanes are added in a fixed tree, so neither the number of rows, nor their grouping, nor
//! the number of threads changes the order of a single addition. `f32::mul_add` is exact with and without
//! the instruction. The promise covers finite numbers; the payload of a NaN is not fixed by the standard.
//!
//! This module is the only one with `unsafe`: for vector instructions, chosen at run time after asking the
//! CPU, and for letting threads write disjoint parts of one buffer (`crew`).
#![expect(
    clippy::inline_always,
    reason = "vector code must end up inside the function that enables its instructions"
)]
#![expect(clippy::needless_range_loop, reason = "indices run over several arrays of registers at once")]

mod attention;
mod crew;
mod matmul;
mod rows;
#[cfg(test)]
mod tests;
mod tiles;
mod vector;

pub(crate) use attention::{
    AttentionShape, KV_BLOCK_TOKENS, QueryRun, RUN_ROWS_MAX, attend, store_key_value,
};
pub(crate) use crew::{Crew, THREADS_MAX};
pub(crate) use matmul::multiply;
pub(crate) use rows::{Activations, add_norm_quantise, gate_quantise, quantise, rotate};
pub(crate) use tiles::{EncodeError, SourceRows, TILE_ROWS, TileMatrix};

/// Elements whose dot product is exact in integers.
pub(crate) const BLOCK: usize = 32;

/// A kernel that this CPU has been found to support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Plain Rust.
    Scalar,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, VL) with VNNI, beside all of the above.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kernel {
    /// The kernels that this CPU supports, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "only some architectures add kernels")]
        let mut kernels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                kernels.push(Self::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                kernels.push(Self::Avx512Vnni);
            }
        }
        kernels
    }
}

/// Work over vectors whose kind is chosen at run time.
trait VectorTask {
    /// What it returns.
    type Output;
    /// Does the work with one kind of vector. Implementations are `inline(always)`, so that they are compiled
    /// with the instructions of the function that calls them.
    fn run<V: vector::Vector>(self) -> Self::Output;
}

/// Runs the task with the vectors of the kernel.
fn dispatch<T: VectorTask>(kernel: Kernel, task: T) -> T::Output {
    match kernel {
        Kernel::Scalar => task.run::<vector::Portable>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Kernel` of these kinds exists only after the CPU was asked for AVX2, FMA and F16C.
        Kernel::Avx2 | Kernel::Avx512Vnni => unsafe { run_avx2(task) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2<T: VectorTask>(task: T) -> T::Output {
    task.run::<vector::Avx2>()
}

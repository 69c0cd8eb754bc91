//! The immutable model: weights in tiles, shapes, vocabulary, commitment.
//!
//! Loading reads one tensor at a time, hashes it for the commitment and re-encodes it, so that memory never
//! holds the file beside the engine's own tiles. Only the Llama graph is run: every tensor of the file must
//! have its place in that graph, because ignoring one would silently compute something else.

mod load;
mod shape;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bourse_types::Digest32;
use thiserror::Error;

use crate::gguf::GgufError;
use crate::kernels::{Kernel, TileMatrix};
use crate::vocabulary::{Vocabulary, VocabularyError};

pub(crate) use shape::Shape;

/// Which vector code runs the model. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KernelChoice {
    /// The fastest that this CPU has.
    #[default]
    Auto,
    /// Plain Rust.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512Vnni,
}

impl KernelChoice {
    /// The kernels that this CPU supports, slowest first.
    pub fn available() -> Vec<Self> {
        Kernel::available().into_iter().map(Self::from).collect()
    }

    fn resolve(self) -> Result<Kernel, LoadError> {
        let available = Kernel::available();
        let found = match self {
            Self::Auto => available.last(),
            wanted => available.iter().find(|&&kernel| Self::from(kernel) == wanted),
        };
        found.copied().ok_or(LoadError::Kernel(self))
    }
}

impl From<Kernel> for KernelChoice {
    fn from(kernel: Kernel) -> Self {
        match kernel {
            Kernel::Scalar => Self::Scalar,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => Self::Avx512Vnni,
        }
    }
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The layers that this stage runs; all if absent. The embedding belongs to the stage with the first
    /// layer, the head to the one with the last.
    pub layers: Option<Range<usize>>,
    /// Which vector code to use.
    pub kernel: KernelChoice,
    /// Threads that re-encode weights; 0 means one for each available core.
    pub threads: usize,
}

/// How far loading has come. Reported after every tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes read and hashed.
    pub bytes_done: u64,
    /// Bytes of all tensors.
    pub bytes_total: u64,
}

/// Why a model cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is not a readable GGUF file.
    #[error("the model file cannot be used")]
    Gguf(#[from] GgufError),
    /// The tokenizer's data is incomplete.
    #[error("the model's vocabulary cannot be used")]
    Vocabulary(#[from] VocabularyError),
    /// A graph that this engine does not run.
    #[error("architecture {0:?} is not supported; llama is")]
    Architecture(String),
    /// A hyper-parameter or tensor shape that this engine does not run.
    #[error("the model's shape is not supported: {0}")]
    Shape(String),
    /// A weight or scale is infinite or not a number.
    #[error("tensor {0} holds a number that is not finite")]
    NotFinite(String),
    /// The wanted kernel needs instructions that this CPU lacks.
    #[error("this CPU lacks the instructions of the {0:?} kernel")]
    Kernel(KernelChoice),
    /// The wanted layers do not exist.
    #[error("layers {wanted:?} were asked for; the model has {layers}")]
    Layers {
        /// What was asked for.
        wanted: Range<usize>,
        /// How many there are.
        layers: usize,
    },
}

/// What a model is, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// The graph, such as `llama`.
    pub architecture: String,
    /// The title in the file.
    pub name: Option<String>,
    /// Layers of the whole model.
    pub layers: usize,
    /// The layers that are loaded here.
    pub layers_loaded: Range<usize>,
    /// Width of a hidden state.
    pub width: usize,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Most tokens that one sequence can have.
    pub context_tokens_max: usize,
    /// Bytes of the weights in memory.
    pub weight_bytes: u64,
    /// Bytes of KV cache that one token takes.
    pub kv_bytes_per_token: u64,
    /// The vector code in use; never `Auto`.
    pub kernel: KernelChoice,
}

/// The weights of one layer. Matrices that multiply the same input stand in one table, one after another.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, keys, values.
    pub(crate) qkv: TileMatrix,
    pub(crate) attention_out: TileMatrix,
    pub(crate) feed_norm: Vec<f32>,
    /// Gates, ups.
    pub(crate) gate_up: TileMatrix,
    pub(crate) down: TileMatrix,
}

/// The last norm and the matrix that turns a hidden state into logits.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) norm: Vec<f32>,
    /// The embedding itself where the model ties them.
    pub(crate) matrix: Arc<TileMatrix>,
}

/// An immutable model, to be shared behind an `Arc`.
#[derive(Debug)]
pub struct Model {
    info: ModelInfo,
    vocabulary: Vocabulary,
    commitment: Digest32,
    pub(crate) kernel: Kernel,
    pub(crate) shape: Shape,
    pub(crate) layers: Vec<Layer>,
    /// Present in the stage with the first layer.
    pub(crate) embedding: Option<Arc<TileMatrix>>,
    /// Present in the stage with the last layer.
    pub(crate) head: Option<Head>,
    /// Radians that each pair of a head turns by from one position to the next.
    pub(crate) turns: Vec<f64>,
}

impl Model {
    /// Reads, checks, hashes and re-encodes the model file at `path`.
    ///
    /// Memory holds the re-encoded weights and one tensor of the file. `progress` is called after each
    /// tensor. Dropping the call half-way is not possible; it takes some tenths of a second for each
    /// 100 MB.
    pub fn load(
        path: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, LoadError> {
        load::load(path, options, progress)
    }

    /// What it is, in numbers.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The tokenizer's data and the chat template.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The digest that names this model in receipts and seeds; see `commitment`.
    pub fn commitment(&self) -> Digest32 {
        self.commitment
    }
}

//! From file to tiles.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{Head, Layer, LoadError, LoadOptions, LoadProgress, Model, ModelInfo, Shape};
use crate::commitment::CommitmentBuilder;
use crate::gguf::{GgufFile, TensorInfo};
use crate::kernels::{Crew, EncodeError, Kernel, SourceRows, TileMatrix};
use crate::math;
use crate::vocabulary::Vocabulary;

/// The graphs that are run.
const ARCHITECTURE: &str = "llama";

/// Where a tensor belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Embedding,
    OutputNorm,
    Output,
    /// Divisors of the rotary frequencies.
    RotaryFactors,
    Layer(usize, Part),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    AttentionOut,
    FeedNorm,
    Gate,
    Up,
    Down,
}

/// Where each tensor belongs and how many rows and columns it must have.
type Plan = BTreeMap<String, (Place, usize, usize)>;

pub(super) fn load(
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Model, LoadError> {
    let kernel = options.kernel.resolve()?;
    let mut file = GgufFile::open(path)?;
    let architecture = file.get_str("general.architecture")?.to_owned();
    if architecture != ARCHITECTURE {
        return Err(LoadError::Architecture(architecture));
    }
    let shape = Shape::from_gguf(&file, &architecture)?;
    let vocabulary = Vocabulary::from_gguf(&file)?;
    let range = options.layers.clone().unwrap_or(0..shape.layers);
    if range.start >= range.end || range.end > shape.layers {
        return Err(LoadError::Layers { wanted: range, layers: shape.layers });
    }
    let plan = plan(&shape, vocabulary.tokens.len(), &file);
    check_plan(&plan, &file)?;
    let name = file.get_str("general.name").ok().map(str::to_owned);
    let vocab_size = vocabulary.tokens.len();
    let tied = !plan.contains_key("output.weight");
    let mut weights = Weights::new(&shape, &range, vocab_size, tied);
    let threads = if options.threads == 0 { Crew::new(0).threads() } else { options.threads };
    let commitment =
        read_all(&mut file, &plan, &mut Sink { weights: &mut weights, kernel, threads }, progress)?;
    let info = ModelInfo {
        architecture,
        name,
        layers: shape.layers,
        layers_loaded: range,
        width: shape.width,
        vocab_size,
        context_tokens_max: shape.context_tokens_max,
        weight_bytes: weights.bytes(),
        kv_bytes_per_token: (weights.layers.len() * shape.key_width() * 2 * size_of::<u16>()) as u64,
        kernel: kernel.into(),
    };
    Ok(weights.into_model(info, vocabulary, commitment, kernel, shape))
}

fn plan(shape: &Shape, vocab_size: usize, file: &GgufFile) -> Plan {
    let (width, feed) = (shape.width, shape.feed_width);
    let (query, key) = (shape.query_width(), shape.key_width());
    let mut plan = Plan::new();
    let mut put = |name: String, place, rows, columns| plan.insert(name, (place, rows, columns));
    put("token_embd.weight".to_owned(), Place::Embedding, vocab_size, width);
    put("output_norm.weight".to_owned(), Place::OutputNorm, 1, width);
    if file.tensor("output.weight").is_some() {
        put("output.weight".to_owned(), Place::Output, vocab_size, width);
    }
    if file.tensor("rope_freqs.weight").is_some() {
        put("rope_freqs.weight".to_owned(), Place::RotaryFactors, 1, shape.rotated / 2);
    }
    for layer in 0..shape.layers {
        for (part, name, rows, columns) in [
            (Part::AttentionNorm, "attn_norm", 1, width),
            (Part::Query, "attn_q", query, width),
            (Part::Key, "attn_k", key, width),
            (Part::Value, "attn_v", key, width),
            (Part::AttentionOut, "attn_output", width, query),
            (Part::FeedNorm, "ffn_norm", 1, width),
            (Part::Gate, "ffn_gate", feed, width),
            (Part::Up, "ffn_up", feed, width),
            (Part::Down, "ffn_down", width, feed),
        ] {
            put(format!("blk.{layer}.{name}.weight"), Place::Layer(layer, part), rows, columns);
        }
    }
    plan
}

/// Every planned tensor must be there in its shape, and nothing else.
fn check_plan(plan: &Plan, file: &GgufFile) -> Result<(), LoadError> {
    for (name, &(_, rows, columns)) in plan {
        let info = file.tensor(name).ok_or_else(|| LoadError::Shape(format!("tensor {name} is missing")))?;
        if info.rows() != rows as u64 || info.row_elements() != columns as u64 {
            let found = &info.dimensions;
            return Err(LoadError::Shape(format!("tensor {name} is {found:?}, not {columns} by {rows}")));
        }
    }
    match file.tensors().find(|(name, _)| !plan.contains_key(*name)) {
        None => Ok(()),
        Some((name, _)) => {
            Err(LoadError::Shape(format!("tensor {name} has no place in the {ARCHITECTURE} graph")))
        }
    }
}

/// Reads all tensors in the order of the file, for the commitment; those that are wanted go into the sink.
fn read_all(
    file: &mut GgufFile,
    plan: &Plan,
    sink: &mut Sink<'_>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<bourse_types::Digest32, LoadError> {
    let mut tensors: Vec<(String, TensorInfo)> =
        file.tensors().map(|(name, info)| (name.to_owned(), info.clone())).collect();
    tensors.sort_by_key(|(_, info)| info.file_offset);
    let bytes_total = tensors.iter().map(|(_, info)| info.bytes).sum();
    let mut bytes_done = 0;
    let mut commitment = CommitmentBuilder::default();
    let mut bytes = Vec::new();
    for (name, info) in tensors {
        file.read_tensor(&name, &mut bytes)?;
        commitment.add_tensor(&name, &info, &bytes);
        if let Some(&(place, ..)) = plan.get(&name) {
            let source = SourceRows { tensor_type: info.tensor_type, bytes: &bytes };
            sink.put(place, source).map_err(|EncodeError::NotFinite| LoadError::NotFinite(name))?;
        }
        bytes_done += info.bytes;
        progress(LoadProgress { bytes_done, bytes_total });
    }
    Ok(commitment.finish(file))
}

/// The tables being filled.
struct Weights {
    range: Range<usize>,
    layers: Vec<Layer>,
    embedding: Option<TileMatrix>,
    output_norm: Vec<f32>,
    output: Option<TileMatrix>,
    rotary_factors: Vec<f32>,
    tied: bool,
    last: bool,
    first: bool,
    query_width: usize,
    key_width: usize,
    feed_width: usize,
}

struct Sink<'a> {
    weights: &'a mut Weights,
    kernel: Kernel,
    threads: usize,
}

impl Weights {
    fn new(shape: &Shape, range: &Range<usize>, vocab_size: usize, tied: bool) -> Self {
        let (query, key) = (shape.query_width(), shape.key_width());
        let (first, last) = (range.start == 0, range.end == shape.layers);
        let layer = |_| Layer {
            attention_norm: Vec::new(),
            qkv: TileMatrix::zeros(query + 2 * key, shape.width),
            attention_out: TileMatrix::zeros(shape.width, query),
            feed_norm: Vec::new(),
            gate_up: TileMatrix::zeros(2 * shape.feed_width, shape.width),
            down: TileMatrix::zeros(shape.width, shape.feed_width),
        };
        let vocabulary_matrix = || TileMatrix::zeros(vocab_size, shape.width);
        Self {
            range: range.clone(),
            layers: range.clone().map(layer).collect(),
            embedding: (first || (last && tied)).then(vocabulary_matrix),
            output_norm: Vec::new(),
            output: (last && !tied).then(vocabulary_matrix),
            rotary_factors: Vec::new(),
            tied,
            last,
            first,
            query_width: query,
            key_width: key,
            feed_width: shape.feed_width,
        }
    }

    fn bytes(&self) -> u64 {
        let vocabulary = [&self.embedding, &self.output].into_iter().flatten().map(TileMatrix::bytes);
        let layers = self.layers.iter().map(|layer| {
            let norms = (layer.attention_norm.len() + layer.feed_norm.len()) * size_of::<f32>();
            let matrices = [&layer.qkv, &layer.attention_out, &layer.gate_up, &layer.down];
            norms as u64 + matrices.into_iter().map(TileMatrix::bytes).sum::<u64>()
        });
        vocabulary.chain(layers).sum()
    }

    fn into_model(
        self,
        info: ModelInfo,
        vocabulary: Vocabulary,
        commitment: bourse_types::Digest32,
        kernel: Kernel,
        shape: Shape,
    ) -> Model {
        let embedding = self.embedding.map(Arc::new);
        let output = if self.tied { embedding.clone() } else { self.output.map(Arc::new) };
        let head = output.filter(|_| self.last).map(|matrix| Head { norm: self.output_norm, matrix });
        let turns = (0..shape.rotated / 2)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / shape.rotated as f64;
                let turn =
                    math::pow(f64::from(shape.rotary_base), exponent) / f64::from(shape.rotary_divisor);
                turn / self.rotary_factors.get(pair).copied().map_or(1.0, f64::from)
            })
            .collect();
        let embedding = embedding.filter(|_| self.first);
        Model { info, vocabulary, commitment, kernel, shape, layers: self.layers, embedding, head, turns }
    }
}

impl Sink<'_> {
    fn put(&mut self, place: Place, source: SourceRows<'_>) -> Result<(), EncodeError> {
        let (kernel, threads) = (self.kernel, self.threads);
        let weights = &mut *self.weights;
        let (query, key, feed) = (weights.query_width, weights.key_width, weights.feed_width);
        let (index, part) = match place {
            Place::OutputNorm => return numbers(source).map(|norm| weights.output_norm = norm),
            Place::RotaryFactors => return numbers(source).map(|factors| weights.rotary_factors = factors),
            Place::Embedding | Place::Output => {
                let matrix =
                    if place == Place::Output { &mut weights.output } else { &mut weights.embedding };
                return matrix.as_mut().map_or(Ok(()), |matrix| matrix.encode(kernel, threads, 0, source));
            }
            Place::Layer(index, part) => (index, part),
        };
        if !weights.range.contains(&index) {
            return Ok(());
        }
        let layer = &mut weights.layers[index - weights.range.start];
        let (matrix, first_row) = match part {
            Part::AttentionNorm => return numbers(source).map(|norm| layer.attention_norm = norm),
            Part::FeedNorm => return numbers(source).map(|norm| layer.feed_norm = norm),
            Part::Query => (&mut layer.qkv, 0),
            Part::Key => (&mut layer.qkv, query),
            Part::Value => (&mut layer.qkv, query + key),
            Part::AttentionOut => (&mut layer.attention_out, 0),
            Part::Gate => (&mut layer.gate_up, 0),
            Part::Up => (&mut layer.gate_up, feed),
            Part::Down => (&mut layer.down, 0),
        };
        matrix.encode(kernel, threads, first_row, source)
    }
}

/// A vector of floats; the writers of model files keep norms in F32, and halves are exact in it.
fn numbers(source: SourceRows<'_>) -> Result<Vec<f32>, EncodeError> {
    let numbers: Vec<f32> = source.numbers();
    if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(EncodeError::NotFinite) }
}

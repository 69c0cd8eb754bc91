//! Models for tests: a small random one that is written on the spot, and the way to the real one.
//!
//! The real model is large and not part of the repository. Tests that want it ask [`test_model`]; where it
//! is absent they run on a synthetic Llama of a few hundred kilobytes and say so plainly, unless
//! `BOURSE_REQUIRE_MODEL=1` makes its absence a failure.

use std::path::{Path, PathBuf};

use crate::gguf::TensorType;

/// Names the real model's file.
pub const TEST_MODEL_VARIABLE: &str = "BOURSE_TEST_MODEL";
/// Makes the real model's absence a failure when it is `1`.
pub const REQUIRE_MODEL_VARIABLE: &str = "BOURSE_REQUIRE_MODEL";
/// Where the real model is looked for when no variable names it, below the workspace's `target`.
pub const TEST_MODEL_FILE: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// A model file for a test; a written one goes away with it.
#[derive(Debug)]
pub struct TestModel {
    path: PathBuf,
    written: bool,
}

impl TestModel {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the real model.
    pub fn is_real(&self) -> bool {
        !self.written
    }

    /// Writes a synthetic model of that recipe.
    ///
    /// # Panics
    /// If the temporary directory cannot be written.
    pub fn write(recipe: &Recipe) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bourse-model-{}-{number}.gguf", std::process::id()));
        std::fs::write(&path, recipe.file()).expect("the temporary directory can be written");
        Self { path, written: true }
    }
}

impl Drop for TestModel {
    fn drop(&mut self) {
        if self.written {
            // A file that is already gone is as good as removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The real model, or a synthetic one where it is absent.
///
/// # Panics
/// If it is absent and `BOURSE_REQUIRE_MODEL=1`, or if `BOURSE_TEST_MODEL` names no file.
pub fn test_model() -> TestModel {
    let named = std::env::var_os(TEST_MODEL_VARIABLE).map(PathBuf::from);
    if let Some(path) = &named {
        assert!(path.is_file(), "{TEST_MODEL_VARIABLE} names {}, which is not a file", path.display());
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(TEST_MODEL_FILE);
    if let Some(path) = named.or_else(|| beside.is_file().then_some(beside)) {
        return TestModel { path, written: false };
    }
    let required = std::env::var_os(REQUIRE_MODEL_VARIABLE).is_some_and(|value| value == "1");
    assert!(!required, "the real model is absent and {REQUIRE_MODEL_VARIABLE}=1");
    println!("the real model is absent (set {TEST_MODEL_VARIABLE}): this test runs on a synthetic one");
    TestModel::write(&Recipe::default())
}

/// What a synthetic Llama looks like.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Layers.
    pub layers: u32,
    /// Width of a hidden state.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key heads.
    pub kv_heads: u32,
    /// Width of the feed-forward part.
    pub feed_width: u32,
    /// Tokens.
    pub vocab_size: u32,
    /// Context in tokens.
    pub context_tokens: u32,
    /// Format of the layers' matrices.
    pub tensor_type: TensorType,
    /// Whether the head is a matrix of its own.
    pub separate_output: bool,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            layers: 6,
            width: 96,
            heads: 6,
            kv_heads: 2,
            feed_width: 160,
            vocab_size: 500,
            context_tokens: 1024,
            tensor_type: TensorType::Q4_1,
            separate_output: false,
            seed: 1,
        }
    }
}

impl Recipe {
    /// The file's bytes.
    pub fn file(&self) -> Vec<u8> {
        let mut writer = GgufWriter::default();
        writer.string("general.architecture", "llama");
        writer.string("general.name", "synthetic");
        for (key, value) in [
            ("block_count", self.layers),
            ("context_length", self.context_tokens),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_width),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
        ] {
            writer.u32(&format!("llama.{key}"), value);
        }
        writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
        writer.f32("llama.rope.freq_base", 10_000.0);
        writer.string("tokenizer.ggml.model", "gpt2");
        writer.strings("tokenizer.ggml.tokens", (0..self.vocab_size).map(|token| format!("t{token}")));
        writer.u32("tokenizer.ggml.eos_token_id", 0);
        let mut random = Random(self.seed);
        let key_width = self.width / self.heads * self.kv_heads;
        let mut put = |name: &str, tensor_type, columns: u32, rows: u32| {
            let bytes = random.tensor(tensor_type, columns, rows);
            writer.tensor(name, tensor_type, &[columns, rows], bytes);
        };
        put("token_embd.weight", TensorType::Q8_0, self.width, self.vocab_size);
        if self.separate_output {
            put("output.weight", self.tensor_type, self.width, self.vocab_size);
        }
        put("output_norm.weight", TensorType::F32, self.width, 1);
        for layer in 0..self.layers {
            for (name, tensor_type, columns, rows) in [
                ("attn_norm", TensorType::F32, self.width, 1),
                ("attn_q", self.tensor_type, self.width, self.width),
                ("attn_k", self.tensor_type, self.width, key_width),
                ("attn_v", self.tensor_type, self.width, key_width),
                ("attn_output", self.tensor_type, self.width, self.width),
                ("ffn_norm", TensorType::F32, self.width, 1),
                ("ffn_gate", self.tensor_type, self.width, self.feed_width),
                ("ffn_up", self.tensor_type, self.width, self.feed_width),
                ("ffn_down", self.tensor_type, self.feed_width, self.width),
            ] {
                put(&format!("blk.{layer}.{name}.weight"), tensor_type, columns, rows);
            }
        }
        writer.finish()
    }
}

/// Writes a GGUF file of version 3.
#[derive(Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<u8>,
    entries: u64,
    table: Vec<u8>,
    tensors: u64,
    data: Vec<u8>,
}

impl GgufWriter {
    fn key(&mut self, key: &str, type_id: u32) {
        self.entries += 1;
        put_string(&mut self.metadata, key);
        self.metadata.extend(type_id.to_le_bytes());
    }

    /// Adds a 32-bit integer.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.metadata.extend(value.to_le_bytes());
    }

    /// Adds a 32-bit float.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.metadata.extend(value.to_le_bytes());
    }

    /// Adds a text.
    pub fn string(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        put_string(&mut self.metadata, value);
    }

    /// Adds an array of texts.
    pub fn strings(&mut self, key: &str, values: impl ExactSizeIterator<Item = String>) {
        self.key(key, 9);
        self.metadata.extend(8_u32.to_le_bytes());
        self.metadata.extend((values.len() as u64).to_le_bytes());
        values.for_each(|value| put_string(&mut self.metadata, &value));
    }

    /// Adds a tensor.
    pub fn tensor(&mut self, name: &str, tensor_type: TensorType, dimensions: &[u32], bytes: Vec<u8>) {
        self.tensors += 1;
        put_string(&mut self.table, name);
        self.table.extend((dimensions.len() as u32).to_le_bytes());
        for &dimension in dimensions {
            self.table.extend(u64::from(dimension).to_le_bytes());
        }
        self.table.extend(tensor_type.ggml().to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
    }

    /// The whole file.
    pub fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.entries.to_le_bytes());
        file.extend(self.metadata);
        file.extend(self.table);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(self.data);
        file
    }
}

fn put_string(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}

/// SplitMix64: a seed is enough, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next float between −1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn tensor(&mut self, tensor_type: TensorType, columns: u32, rows: u32) -> Vec<u8> {
        let groups = u64::from(columns) * u64::from(rows) / tensor_type.block_elements();
        let mut bytes = Vec::new();
        for _ in 0..groups {
            // Scales near those of a trained model of this width, so that logits stay moderate.
            let scale = [0x00, 0x14 + (self.bits() & 3) as u8];
            match tensor_type {
                TensorType::F32 => bytes.extend((1.0 + 0.2 * self.float()).to_le_bytes()),
                TensorType::F16 => bytes.extend([self.bits() as u8, 0x24 | (self.bits() as u8 & 0x83)]),
                TensorType::Q4_0 => bytes.extend([scale[0], scale[1] + 12]),
                TensorType::Q4_1 => bytes.extend([scale[0], scale[1] + 12, 0, (scale[1] + 24) | 0x80]),
                TensorType::Q8_0 => bytes.extend(scale),
            }
            let codes = match tensor_type {
                TensorType::F32 | TensorType::F16 => 0,
                TensorType::Q4_0 | TensorType::Q4_1 => 16,
                TensorType::Q8_0 => 32,
            };
            bytes.extend((0..codes).map(|_| self.bits() as u8));
        }
        bytes
    }
}

//! Reads GGUF model files (versions 2 and 3, little-endian) that may be hostile.
//!
//! A model file comes from a stranger, so every count, length, offset and dimension is checked against a
//! named limit and against the bytes that are really there *before* memory is reserved for it. Opening
//! reads the header only; tensor bytes are read one tensor at a time, so that a loader never holds the file
//! and its own tables at once. Metadata is kept as plain values; what a key means is decided elsewhere
//! (`model` for shapes, `vocabulary` for the tokenizer).
//!
//! Format: the `docs/gguf.md` of the ggml project.

mod reader;
mod tensor;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub use tensor::{TensorInfo, TensorType};
pub use value::{ArrayValue, Value};

/// Most metadata entries that a file may have.
pub const METADATA_ENTRIES_MAX: u64 = 65_536;
/// Most tensors that a file may have.
pub const TENSORS_MAX: u64 = 65_536;
/// Longest metadata key or tensor name in bytes.
pub const NAME_BYTES_MAX: u64 = 512;
/// Longest metadata string in bytes (a chat template is the longest seen in the wild, some 20 KB).
pub const STRING_BYTES_MAX: u64 = 4 << 20;
/// Most items of one metadata array (a vocabulary is the longest in the wild, some 260,000).
pub const ARRAY_ITEMS_MAX: u64 = 4 << 20;
/// Most bytes that the header (metadata and tensor table) may take.
pub const HEADER_BYTES_MAX: u64 = 512 << 20;
/// Most dimensions of a tensor.
pub const DIMENSIONS_MAX: u32 = 4;
/// Most elements of one tensor.
pub const TENSOR_ELEMENTS_MAX: u64 = 1 << 36;
/// Largest alignment of the data section in bytes.
pub const ALIGNMENT_MAX: u64 = 65_536;

/// Why a file is not a GGUF file that this engine reads.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The file could not be opened or read.
    #[error("the model file cannot be read")]
    Io(#[from] std::io::Error),
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it does not begin with the letters GGUF")]
    Magic,
    /// Neither version 2 nor 3, or of the other byte order.
    #[error("GGUF version {0} is not read; versions 2 and 3 are")]
    Version(u32),
    /// The file ends inside the thing named.
    #[error("the file ends inside {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A count, length or dimension is above its limit.
    #[error("{what} is {value}, above the limit of {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// The value in the file.
        value: u64,
        /// The named limit.
        limit: u64,
    },
    /// A value that the format does not allow.
    #[error("the file is malformed: {0}")]
    Malformed(String),
    /// A tensor of a type that this engine does not read.
    #[error("tensor {name} has type {type_id}, which is not read (F32, F16, Q4_0, Q4_1 and Q8_0 are)")]
    TensorType {
        /// The tensor.
        name: String,
        /// ggml's number for its type.
        type_id: u32,
    },
    /// A tensor that was asked for is not in the file.
    #[error("the file has no tensor {0}")]
    NoTensor(String),
    /// A metadata entry is missing or has another type.
    #[error("the metadata has no {expected} {key}")]
    Metadata {
        /// The entry's key.
        key: String,
        /// What was expected there.
        expected: &'static str,
    },
}

#[derive(Debug)]
enum Source {
    File(File),
    Bytes(Arc<[u8]>),
}

/// A parsed header with access to the tensors' bytes.
///
/// Everything in it has been checked: tensor ranges lie inside the file, sizes fit their types.
#[derive(Debug)]
pub struct GgufFile {
    source: Source,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl GgufFile {
    /// Opens and checks the file at `path`. Only the header is read.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let file_bytes = file.metadata()?.len();
        let header = reader::parse(BufReader::with_capacity(1 << 16, &file), file_bytes)?;
        Ok(Self { metadata: header.metadata, tensors: header.tensors, source: Source::File(file) })
    }

    /// Checks a file that is already in memory.
    pub fn from_bytes(bytes: Arc<[u8]>) -> Result<Self, GgufError> {
        let header = reader::parse(Cursor::new(&bytes[..]), bytes.len() as u64)?;
        Ok(Self { metadata: header.metadata, tensors: header.tensors, source: Source::Bytes(bytes) })
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The tensor of that name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Reads a tensor's bytes into `into`, replacing what was there.
    pub fn read_tensor(&mut self, name: &str, into: &mut Vec<u8>) -> Result<(), GgufError> {
        let info = self.tensors.get(name).ok_or_else(|| GgufError::NoTensor(name.to_owned()))?;
        into.clear();
        match &mut self.source {
            Source::File(file) => {
                file.seek(SeekFrom::Start(info.file_offset))?;
                file.take(info.bytes).read_to_end(into)?;
            }
            Source::Bytes(bytes) => {
                let start = info.file_offset as usize;
                into.extend_from_slice(&bytes[start..start + info.bytes as usize]);
            }
        }
        // The file can have become shorter since the header was checked.
        if into.len() as u64 == info.bytes { Ok(()) } else { Err(GgufError::Truncated { what: "a tensor" }) }
    }

    /// All metadata entries in the order of their keys.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The metadata value under `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The string under `key`.
    pub fn get_str(&self, key: &str) -> Result<&str, GgufError> {
        self.value(key).and_then(Value::as_str).ok_or_else(|| missing(key, "string"))
    }

    /// The integer under `key`, if it fits 32 bits.
    pub fn get_u32(&self, key: &str) -> Result<u32, GgufError> {
        self.value(key).and_then(Value::as_u32).ok_or_else(|| missing(key, "32-bit unsigned integer"))
    }

    /// The floating-point number under `key`.
    pub fn get_f32(&self, key: &str) -> Result<f32, GgufError> {
        self.value(key).and_then(Value::as_f32).ok_or_else(|| missing(key, "number"))
    }

    /// The truth value under `key`.
    pub fn get_bool(&self, key: &str) -> Result<bool, GgufError> {
        self.value(key).and_then(Value::as_bool).ok_or_else(|| missing(key, "truth value"))
    }

    /// The array under `key`.
    pub fn get_array(&self, key: &str) -> Result<&ArrayValue, GgufError> {
        self.value(key).and_then(Value::as_array).ok_or_else(|| missing(key, "array"))
    }
}

fn missing(key: &str, expected: &'static str) -> GgufError {
    GgufError::Metadata { key: key.to_owned(), expected }
}

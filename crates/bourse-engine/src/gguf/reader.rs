//! The header parser: metadata and tensor table.
//!
//! Works on a stream and counts what it has consumed, so that any length can be held against what is left
//! of the file before a single byte is reserved for it.

use std::collections::BTreeMap;
use std::io::Read;

use super::{
    ALIGNMENT_MAX, ARRAY_ITEMS_MAX, ArrayValue, DIMENSIONS_MAX, GgufError, HEADER_BYTES_MAX,
    METADATA_ENTRIES_MAX, NAME_BYTES_MAX, STRING_BYTES_MAX, TENSOR_ELEMENTS_MAX, TENSORS_MAX, TensorInfo,
    TensorType, Value,
};

const MAGIC: [u8; 4] = *b"GGUF";
const ALIGNMENT_KEY: &str = "general.alignment";
const ALIGNMENT_DEFAULT: u64 = 32;
/// Smallest encodings, used to refuse counts that the rest of the file could not hold.
const METADATA_ENTRY_BYTES_MIN: u64 = 8 + 4 + 1;
const TENSOR_ENTRY_BYTES_MIN: u64 = 8 + 4 + 8 + 4 + 8;

pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

pub(super) fn parse(input: impl Read, file_bytes: u64) -> Result<Header, GgufError> {
    let mut reader = Reader { input, consumed: 0, file_bytes };
    if reader.bytes::<4>("the magic")? != MAGIC {
        return Err(GgufError::Magic);
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensor_count = reader.count("the number of tensors", TENSORS_MAX, TENSOR_ENTRY_BYTES_MIN)?;
    let entry_count =
        reader.count("the number of metadata entries", METADATA_ENTRIES_MAX, METADATA_ENTRY_BYTES_MIN)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entry_count {
        let key = reader.string("a metadata key", NAME_BYTES_MAX)?;
        let type_id = reader.u32("a metadata type")?;
        let value = reader.value(type_id)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(GgufError::Malformed(format!("metadata key {key:?} occurs twice")));
        }
    }
    let alignment = alignment(&metadata)?;
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let (name, info) = reader.tensor()?;
        if info.file_offset % alignment != 0 {
            return Err(GgufError::Malformed(format!("tensor {name:?} is not aligned to {alignment} bytes")));
        }
        if tensors.insert(name.clone(), info).is_some() {
            return Err(GgufError::Malformed(format!("tensor {name:?} occurs twice")));
        }
    }
    let data_start = reader.consumed.next_multiple_of(alignment);
    place(&mut tensors, data_start, file_bytes)?;
    Ok(Header { metadata, tensors })
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else { return Ok(ALIGNMENT_DEFAULT) };
    let alignment = value
        .as_u32()
        .map(u64::from)
        .filter(|alignment| alignment.is_power_of_two())
        .ok_or_else(|| GgufError::Malformed(format!("{ALIGNMENT_KEY} is not a power of two")))?;
    if alignment > ALIGNMENT_MAX {
        return Err(GgufError::Limit { what: "the alignment", value: alignment, limit: ALIGNMENT_MAX });
    }
    Ok(alignment)
}

/// Turns offsets within the data section into offsets within the file, and checks the far ends.
fn place(
    tensors: &mut BTreeMap<String, TensorInfo>,
    data_start: u64,
    file_bytes: u64,
) -> Result<(), GgufError> {
    for (name, info) in tensors {
        let start = data_start.checked_add(info.file_offset);
        let end = start.and_then(|start| start.checked_add(info.bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_bytes => info.file_offset = start,
            _ => {
                return Err(GgufError::Malformed(format!(
                    "tensor {name:?} reaches past the end of the file"
                )));
            }
        }
    }
    Ok(())
}

struct Reader<R> {
    input: R,
    consumed: u64,
    file_bytes: u64,
}

impl<R: Read> Reader<R> {
    fn left(&self) -> u64 {
        self.file_bytes.min(HEADER_BYTES_MAX).saturating_sub(self.consumed)
    }

    fn fill(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), GgufError> {
        if buffer.len() as u64 > self.left() {
            return Err(GgufError::Truncated { what });
        }
        self.input.read_exact(buffer).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => GgufError::Truncated { what },
            _ => GgufError::Io(error),
        })?;
        self.consumed += buffer.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut buffer = [0; N];
        self.fill(&mut buffer, what)?;
        Ok(buffer)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A count of things that take at least `bytes_min` each.
    fn count(&mut self, what: &'static str, limit: u64, bytes_min: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(GgufError::Limit { what, value: count, limit });
        }
        // Cannot overflow: the limits are far below 2^32 and the smallest encodings below 2^6.
        if count * bytes_min > self.left() { Err(GgufError::Truncated { what }) } else { Ok(count) }
    }

    fn string(&mut self, what: &'static str, bytes_max: u64) -> Result<String, GgufError> {
        let length = self.count(what, bytes_max, 1)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        String::from_utf8(bytes).map_err(|_| GgufError::Malformed(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, type_id: u32) -> Result<Value, GgufError> {
        const WHAT: &str = "a metadata value";
        Ok(match type_id {
            0 => Value::Uint(u64::from(self.bytes::<1>(WHAT)?[0])),
            1 => Value::Int(i64::from(i8::from_le_bytes(self.bytes(WHAT)?))),
            2 => Value::Uint(u64::from(u16::from_le_bytes(self.bytes(WHAT)?))),
            3 => Value::Int(i64::from(i16::from_le_bytes(self.bytes(WHAT)?))),
            4 => Value::Uint(u64::from(self.u32(WHAT)?)),
            5 => Value::Int(i64::from(i32::from_le_bytes(self.bytes(WHAT)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.bytes(WHAT)?))),
            7 => Value::Bool(self.truth()?),
            8 => Value::String(self.string("a metadata string", STRING_BYTES_MAX)?),
            9 => Value::Array(self.array()?),
            10 => Value::Uint(self.u64(WHAT)?),
            11 => Value::Int(i64::from_le_bytes(self.bytes(WHAT)?)),
            12 => Value::Float(f64::from_le_bytes(self.bytes(WHAT)?)),
            _ => return Err(GgufError::Malformed(format!("metadata type {type_id} does not exist"))),
        })
    }

    fn truth(&mut self) -> Result<bool, GgufError> {
        match self.bytes::<1>("a truth value")?[0] {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(GgufError::Malformed(format!("a truth value is {other}"))),
        }
    }

    fn array(&mut self) -> Result<ArrayValue, GgufError> {
        const WHAT: &str = "a metadata array";
        let type_id = self.u32(WHAT)?;
        let bytes_min = match type_id {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(GgufError::Malformed("an array of arrays".to_owned())),
            _ => return Err(GgufError::Malformed(format!("array type {type_id} does not exist"))),
        };
        let count = self.count(WHAT, ARRAY_ITEMS_MAX, bytes_min)?;
        Ok(match type_id {
            6 | 12 => ArrayValue::Float(self.items(count, type_id, |value| match value {
                Value::Float(item) => Some(item),
                _ => None,
            })?),
            7 => ArrayValue::Bool(self.items(count, type_id, |value| value.as_bool())?),
            8 => ArrayValue::String(self.items(count, type_id, |value| match value {
                Value::String(item) => Some(item),
                _ => None,
            })?),
            _ => ArrayValue::Int(self.items(count, type_id, |value| match value {
                Value::Uint(item) => i64::try_from(item).ok(),
                Value::Int(item) => Some(item),
                _ => None,
            })?),
        })
    }

    fn items<T>(
        &mut self,
        count: u64,
        type_id: u32,
        narrow: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<T>, GgufError> {
        (0..count)
            .map(|_| {
                narrow(self.value(type_id)?)
                    .ok_or_else(|| GgufError::Malformed("an array item above 2^63".to_owned()))
            })
            .collect()
    }

    /// One entry of the tensor table; `file_offset` still counts from the data section's start.
    fn tensor(&mut self) -> Result<(String, TensorInfo), GgufError> {
        const WHAT: &str = "the tensor table";
        let name = self.string("a tensor name", NAME_BYTES_MAX)?;
        let dimension_count = self.u32(WHAT)?;
        if dimension_count == 0 || dimension_count > DIMENSIONS_MAX {
            return Err(GgufError::Limit {
                what: "a tensor's number of dimensions",
                value: dimension_count.into(),
                limit: DIMENSIONS_MAX.into(),
            });
        }
        let dimensions = (0..dimension_count).map(|_| self.u64(WHAT)).collect::<Result<Vec<_>, _>>()?;
        let type_id = self.u32(WHAT)?;
        let file_offset = self.u64(WHAT)?;
        let Some(tensor_type) = TensorType::from_ggml(type_id) else {
            return Err(GgufError::TensorType { name, type_id });
        };
        let bytes = tensor_bytes(&name, &dimensions, tensor_type)?;
        Ok((name, TensorInfo { tensor_type, dimensions, file_offset, bytes }))
    }
}

fn tensor_bytes(name: &str, dimensions: &[u64], tensor_type: TensorType) -> Result<u64, GgufError> {
    let elements = dimensions
        .iter()
        .try_fold(1_u64, |product, &dimension| product.checked_mul(dimension))
        .unwrap_or(u64::MAX);
    if elements > TENSOR_ELEMENTS_MAX {
        return Err(GgufError::Limit {
            what: "a tensor's number of elements",
            value: elements,
            limit: TENSOR_ELEMENTS_MAX,
        });
    }
    if elements == 0 || !dimensions[0].is_multiple_of(tensor_type.block_elements()) {
        return Err(GgufError::Malformed(format!("tensor {name:?} has rows of {} elements", dimensions[0])));
    }
    Ok(elements / tensor_type.block_elements() * tensor_type.block_bytes())
}

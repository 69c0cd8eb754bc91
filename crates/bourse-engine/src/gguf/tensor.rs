//! Tensor types and where a tensor lies in the file.

/// The element formats that this engine reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32: a 16-bit scale, 4-bit codes minus 8.
    Q4_0,
    /// Blocks of 32: a 16-bit scale and minimum, 4-bit codes.
    Q4_1,
    /// Blocks of 32: a 16-bit scale, 8-bit codes.
    Q8_0,
}

impl TensorType {
    /// The type that ggml numbers so, if this engine reads it.
    pub fn from_ggml(type_id: u32) -> Option<Self> {
        Some(match type_id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            _ => return None,
        })
    }

    /// ggml's number for the type.
    pub fn ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
        }
    }

    /// Elements that are stored together.
    pub fn block_elements(self) -> u64 {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => 32,
        }
    }

    /// Bytes of one such group of elements.
    pub fn block_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }
}

/// One tensor of the file. Its range has been checked against the file's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The element format.
    pub tensor_type: TensorType,
    /// Elements along each dimension, the contiguous one first, as in the file.
    pub dimensions: Vec<u64>,
    /// Where its bytes begin, counted from the start of the file.
    pub file_offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

impl TensorInfo {
    /// Elements of the contiguous dimension: the width of a row.
    pub fn row_elements(&self) -> u64 {
        self.dimensions.first().copied().unwrap_or(0)
    }

    /// Number of rows: the product of the other dimensions.
    pub fn rows(&self) -> u64 {
        self.dimensions.iter().skip(1).product()
    }
}

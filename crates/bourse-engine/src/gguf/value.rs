//! Metadata values: what the file's thirteen types become.
//!
//! Integers of every width become 64-bit ones and floats 64-bit ones, because the writers of model files
//! do not agree on widths (a context length is seen as u32 and as u64). The accessors narrow with a check.

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Uint(u64),
    /// Any signed integer.
    Int(i64),
    /// Any floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text. Bytes that are not UTF-8 were refused.
    String(String),
    /// Values of one type.
    Array(ArrayValue),
}

/// An array of metadata values of one type. Arrays of arrays are refused.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayValue {
    /// Integers of any width and sign.
    Int(Vec<i64>),
    /// Floating-point numbers of either width.
    Float(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    pub fn as_u32(&self) -> Option<u32> {
        match *self {
            Value::Uint(value) => u32::try_from(value).ok(),
            Value::Int(value) => u32::try_from(value).ok(),
            _ => None,
        }
    }

    /// The number, rounded to 32 bits.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::Float(value) => Some(value as f32),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&ArrayValue> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }
}

impl ArrayValue {
    /// The number of items.
    pub fn len(&self) -> usize {
        match self {
            ArrayValue::Int(items) => items.len(),
            ArrayValue::Float(items) => items.len(),
            ArrayValue::Bool(items) => items.len(),
            ArrayValue::String(items) => items.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The texts, if it holds texts.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            ArrayValue::String(items) => Some(items),
            _ => None,
        }
    }

    /// The integers, if it holds integers.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match self {
            ArrayValue::Int(items) => Some(items),
            _ => None,
        }
    }

    /// The numbers, if it holds floating-point numbers.
    pub fn as_floats(&self) -> Option<&[f64]> {
        match self {
            ArrayValue::Float(items) => Some(items),
            _ => None,
        }
    }
}

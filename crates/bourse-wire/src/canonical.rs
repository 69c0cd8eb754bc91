//! Canonical bytes: the one encoding that is hashed and signed.
//!
//! Fixed little-endian integers, byte strings with a `u32` length, options as a 0/1 byte. No field
//! names, no padding, no choice: equal values give equal bytes on every machine. Reading checks every
//! length against what is left, so that hostile bytes cost nothing.

/// Longest byte string that a canonical document may carry.
pub const CANONICAL_BYTES_MAX: usize = 64 * 1024;

/// Why canonical bytes could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// The bytes end before the value does.
    #[error("the document ends early")]
    Short,
    /// Bytes are left over after the last field.
    #[error("{0} bytes follow the last field")]
    Trailing(usize),
    /// A length above [`CANONICAL_BYTES_MAX`] or the field's own bound.
    #[error("a field of {0} bytes exceeds its bound")]
    Long(usize),
    /// A value outside its range, such as an unknown enum number or text that is no name.
    #[error("field `{0}` holds a value outside its range")]
    Value(&'static str),
    /// Another version of the document.
    #[error("version {0} is not known here")]
    Version(u8),
}

/// Appends canonical values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    /// What has been written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }
    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Sixteen bytes.
    pub fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }
    /// Bytes without a length: the reader knows it.
    pub fn fixed(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }
    /// A length and the bytes.
    pub fn text(&mut self, value: &str) {
        self.u32(value.len() as u32);
        self.fixed(value.as_bytes());
    }
    /// A 0/1 byte, then the value if there is one.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes canonical values from a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
    /// The next `n` bytes.
    pub fn fixed(&mut self, n: usize) -> Result<&'a [u8], CanonicalError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(CanonicalError::Short)?;
        self.rest = rest;
        Ok(head)
    }
    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CanonicalError> {
        self.fixed(N)?.try_into().map_err(|_| CanonicalError::Short)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, CanonicalError> {
        Ok(self.array::<1>()?[0])
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, CanonicalError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, CanonicalError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, CanonicalError> {
        Ok(u128::from_le_bytes(self.array()?))
    }
    /// A length and UTF-8 text.
    pub fn text(&mut self) -> Result<&'a str, CanonicalError> {
        let n = self.u32()? as usize;
        if n > CANONICAL_BYTES_MAX {
            return Err(CanonicalError::Long(n));
        }
        std::str::from_utf8(self.fixed(n)?).map_err(|_| CanonicalError::Value("text"))
    }
    /// A 0/1 byte, then the value if there is one.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CanonicalError>,
    ) -> Result<Option<T>, CanonicalError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(CanonicalError::Value("option")),
        }
    }
    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// Succeeds when nothing is left.
    pub fn finish(self) -> Result<(), CanonicalError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CanonicalError::Trailing(self.rest.len())) }
    }
}

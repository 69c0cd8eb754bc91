//! The bytes of what a decision was made from: one encoding, so that a journal replays bit for bit.
//!
//! Fixed little-endian integers, floats by their bits, lists and texts with a `u32` length, options as a
//! 0/1 byte, fields in the order of their declaration. Structs and enums are listed by the two macros
//! below, which name every field and variant: one that is added and not listed does not compile. Reading
//! checks every length against what is left, so that foreign bytes cost nothing and never panic.

use bourse_types::{
    Digest32, DurationMs, ModelSlug, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, RequestId,
    SellerName, UnixMs,
};
use std::sync::Arc;

/// Why bytes are not what this program wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// They end in the middle of a value.
    #[error("the bytes end too early")]
    Short,
    /// Bytes are left after the last value.
    #[error("{0} bytes follow the last value")]
    Trailing(usize),
    /// A value outside its range, such as an unknown number of an enum.
    #[error("a {0} is outside its range")]
    Value(&'static str),
}

/// What has canonical bytes.
pub(crate) trait Canonical: Sized {
    /// Appends them.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads them.
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError>;
}

/// Bytes being read.
#[derive(Debug, Clone)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn fixed(&mut self, count: usize) -> Result<&'a [u8], CanonicalError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(CanonicalError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CanonicalError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CanonicalError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A length of a list whose entries take at least a byte each.
    pub(crate) fn len(&mut self) -> Result<usize, CanonicalError> {
        let len = u32::read(self)? as usize;
        if len <= self.rest.len() { Ok(len) } else { Err(CanonicalError::Short) }
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, CanonicalError> {
        let len = self.len()?;
        std::str::from_utf8(self.fixed(len)?).map_err(|_| CanonicalError::Value(what))
    }

    /// Everything has been read.
    pub(crate) fn end(self) -> Result<(), CanonicalError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CanonicalError::Trailing(self.rest.len())) }
    }
}

/// Appends a length of a list.
pub(crate) fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes());
}

/// Appends a list.
pub(crate) fn put_list<T: Canonical>(list: &[T], out: &mut Vec<u8>) {
    put_len(list.len(), out);
    for value in list {
        value.put(out);
    }
}

/// Appends a text.
pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_len(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

macro_rules! canonical_numbers {
    ($($number:ty),*) => {$(
        impl Canonical for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
canonical_numbers!(u8, u16, u32, u64, u128, f32, f64);

/// A struct, by all its fields.
macro_rules! canonical_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::canonical::Canonical for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($crate::canonical::Canonical::put($field, out);)*
            }
            fn read(
                from: &mut $crate::canonical::Bytes<'_>,
            ) -> Result<Self, $crate::canonical::CanonicalError> {
                Ok(Self { $($field: $crate::canonical::Canonical::read(from)?),* })
            }
        }
    };
}
pub(crate) use canonical_struct;

/// An enum without fields, by all its variants and their numbers.
macro_rules! canonical_enum {
    ($name:ident { $($variant:ident = $number:literal),* $(,)? }) => {
        impl $crate::canonical::Canonical for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self { $(Self::$variant => $number),* });
            }
            fn read(
                from: &mut $crate::canonical::Bytes<'_>,
            ) -> Result<Self, $crate::canonical::CanonicalError> {
                match <u8 as $crate::canonical::Canonical>::read(from)? {
                    $($number => Ok(Self::$variant),)*
                    _ => Err($crate::canonical::CanonicalError::Value(stringify!($name))),
                }
            }
        }
    };
}
pub(crate) use canonical_enum;

/// A newtype around a number.
macro_rules! canonical_newtype {
    ($($name:ident),* $(,)?) => {$(
        impl $crate::canonical::Canonical for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $crate::canonical::Canonical::put(&self.0, out);
            }
            fn read(
                from: &mut $crate::canonical::Bytes<'_>,
            ) -> Result<Self, $crate::canonical::CanonicalError> {
                $crate::canonical::Canonical::read(from).map(Self)
            }
        }
    )*};
}
pub(crate) use canonical_newtype;

canonical_newtype!(UnixMs, DurationMs, NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, RequestId);
canonical_struct!(PriceSchedule { prompt, cached_prompt, cache_write, completion, request, unit });

impl Canonical for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CanonicalError::Value("truth")),
        }
    }
}

impl Canonical for Digest32 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        from.array().map(Self)
    }
}

impl Canonical for ModelSlug {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self.as_str(), out);
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        Self::parse(from.text("model")?).map_err(|_| CanonicalError::Value("model"))
    }
}

impl Canonical for SellerName {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self.as_str(), out);
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        Self::parse(from.text("seller")?).map_err(|_| CanonicalError::Value("seller"))
    }
}

impl Canonical for Arc<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        from.text("text").map(Self::from)
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        if bool::read(from)? { T::read(from).map(Some) } else { Ok(None) }
    }
}

/// Entries take at least a byte each.
impl<T: Canonical> Canonical for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_list(self, out);
    }
    fn read(from: &mut Bytes<'_>) -> Result<Self, CanonicalError> {
        let len = from.len()?;
        (0..len).map(|_| T::read(from)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip<T: Canonical + PartialEq + std::fmt::Debug>(value: &T) {
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        let mut from = Bytes::new(&bytes);
        assert_eq!(T::read(&mut from).as_ref(), Ok(value));
        assert_eq!(from.end(), Ok(()));
        for end in 0..bytes.len() {
            assert!(T::read(&mut Bytes::new(&bytes[..end])).is_err(), "{end} of {}", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn what_was_put_is_taken_and_a_cut_is_an_error(
            a: u8, b: u64, c: u128, d in -1e30f32..1e30, e: bool, f in proptest::option::of(any::<u32>()),
            g in proptest::collection::vec(any::<u16>(), 0..9), h in "[a-z]{1,9}",
        ) {
            round_trip(&a);
            round_trip(&UnixMs(b));
            round_trip(&RequestId(c));
            round_trip(&d);
            round_trip(&e);
            round_trip(&f);
            round_trip(&g);
            round_trip(&SellerName::parse(&h).unwrap());
            round_trip(&Arc::<str>::from(h.as_str()));
        }

        #[test]
        fn foreign_bytes_cost_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Vec::<Option<ModelSlug>>::read(&mut Bytes::new(&bytes));
            let _ = PriceSchedule::read(&mut Bytes::new(&bytes));
        }
    }

    #[test]
    fn a_length_beyond_the_bytes_allocates_nothing() {
        let bytes = u32::MAX.to_le_bytes();
        assert_eq!(Vec::<u8>::read(&mut Bytes::new(&bytes)), Err(CanonicalError::Short));
        assert_eq!(bool::read(&mut Bytes::new(&[2])), Err(CanonicalError::Value("truth")));
        assert_eq!(Bytes::new(&[1]).end(), Err(CanonicalError::Trailing(1)));
    }
}

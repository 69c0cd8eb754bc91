//! Names of models and sellers as buyers write them.
//!
//! A model slug is `author/name` with an optional `:variant`; a seller name is one such word. Both are
//! short, printable ASCII, and compared exactly. Parsed once at the edge.

use std::fmt;
use std::sync::Arc;

/// Longest accepted slug or name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Empty or too long.
    #[error("a name has 1 to {NAME_BYTES_MAX} characters, this one has {0}")]
    Length(usize),
    /// A character outside the allowed set.
    #[error("`{0}` is not allowed in a name; use a-z, A-Z, 0-9 and . _ - / : @")]
    Character(char),
    /// What looks like a secret: names are shown and kept, so it is refused unseen.
    #[error("this looks like an API key, which is no name: a key goes into the `Authorization` header alone")]
    Secret,
}

/// How the field's API keys begin.
const SECRET_PREFIX: &str = "sk-";

fn check(text: &str) -> Result<(), SlugError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(SlugError::Length(text.chars().count()));
    }
    let is_secret =
        text.get(..SECRET_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(SECRET_PREFIX));
    if is_secret && !text.contains('/') {
        return Err(SlugError::Secret);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '@');
    text.chars().find(|c| !allowed(*c)).map_or(Ok(()), |c| Err(SlugError::Character(c)))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses and owns the name.
            pub fn parse(text: &str) -> Result<Self, SlugError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type! {
    /// The canonical name of a model, such as `huggingfacetb/smollm2-135m-instruct`.
    ModelSlug
}
name_type! {
    /// The name of a seller (provider or node), such as `local` or `openai`.
    SellerName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_bounded() {
        assert!(ModelSlug::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert_eq!(ModelSlug::parse(&"a".repeat(NAME_BYTES_MAX + 1)), Err(SlugError::Length(129)));
        assert_eq!(ModelSlug::parse(""), Err(SlugError::Length(0)));
    }

    #[test]
    fn a_key_is_no_name() {
        for key in ["sk-bourse-v1-0123456789abcdef", "SK-ant-x", "sk-:nitro"] {
            let error = ModelSlug::parse(key).unwrap_err();
            assert_eq!((&error, SellerName::parse(key).as_ref().unwrap_err()), (&SlugError::Secret, &error));
            assert!(!error.to_string().contains(key));
        }
        for name in ["sk-lab/model", "sky-1", "risk-model"] {
            assert!(ModelSlug::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn odd_characters_are_named() {
        assert_eq!(SellerName::parse("a b"), Err(SlugError::Character(' ')));
        assert_eq!(SellerName::parse("naïve"), Err(SlugError::Character('ï')));
    }
}

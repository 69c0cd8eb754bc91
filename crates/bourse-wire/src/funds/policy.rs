//! Routing policies of accounts and keys, as the books keep them: JSON text under the name of its content.
//!
//! What a policy says is read by whoever routes; the books keep the bytes. The id is a digest of the text, so a
//! gateway reads each text once and a plan can say which policy it obeyed.

use bourse_types::Digest32;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// Longest text of a policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 16 * 1024;

/// The name of a policy: BLAKE3 over a domain and its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(pub Digest32);

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Over [`POLICY_BYTES_MAX`].
    #[error("a policy has at most {POLICY_BYTES_MAX} bytes, this one has {0}")]
    Long(usize),
    /// Not one JSON object.
    #[error("a policy is one JSON object: {0}")]
    Json(String),
    /// A rule that cannot be obeyed.
    #[error("{0}")]
    Rule(String),
}

/// The text of a policy: one JSON object of at most [`POLICY_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText(Arc<str>);

impl PolicyText {
    /// Checks the size and that it is one JSON object; keeps the bytes as they are.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Long(text.len()));
        }
        let read = serde_json::from_str::<Map<String, Value>>(text);
        read.map_err(|error| PolicyError::Json(error.to_string()))?;
        Ok(Self(Arc::from(text)))
    }

    /// As [`PolicyText::parse`], for a policy that is to be set: checks the rules as well, so that none is kept
    /// that nobody can obey. See [`policy`](crate::dialect::fields::policy).
    pub fn of_owner(text: &str) -> Result<Self, PolicyError> {
        let kept = Self::parse(text)?;
        let checked = crate::dialect::fields::policy(text);
        checked.map_err(|error| PolicyError::Rule(error.message.into_owned()))?;
        Ok(kept)
    }

    /// Its name.
    pub fn id(&self) -> PolicyId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"bourse/policy/1");
        hasher.update(self.0.as_bytes());
        PolicyId(Digest32(*hasher.finalize().as_bytes()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    pub fn into_text(self) -> Arc<str> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_object_within_its_bound() {
        let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
        assert!(PolicyText::parse(&padded(POLICY_BYTES_MAX)).is_ok());
        let long = PolicyText::parse(&padded(POLICY_BYTES_MAX + 1));
        assert_eq!(long, Err(PolicyError::Long(POLICY_BYTES_MAX + 1)));
        assert!(PolicyText::parse(r#"{"zdr": true, "only": ["a", {"b": []}]}"#).is_ok());
        for text in ["", "[]", "1", "null", "{", "{} {}", "{\"a\"}"] {
            assert!(matches!(PolicyText::parse(text), Err(PolicyError::Json(_))), "{text}");
        }
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(PolicyText::parse(&deep).is_err(), "depth is bounded");
    }

    #[test]
    fn a_policy_that_is_set_can_be_obeyed() {
        assert!(PolicyText::of_owner(r#"{"only":["a"],"zdr":true}"#).is_ok());
        let rule = |text: &str| PolicyText::of_owner(text).unwrap_err().to_string();
        assert!(rule(r#"{"onl":["a"]}"#).contains("did you mean `only`?"));
        assert!(matches!(PolicyText::of_owner("[]"), Err(PolicyError::Json(_))));
    }

    #[test]
    fn its_name_is_its_content() {
        let id = |text: &str| PolicyText::parse(text).unwrap().id();
        assert_eq!(id("{}"), id("{}"));
        assert_ne!(id("{}"), id("{ }"), "bytes, not meaning");
        assert_eq!(id("{}").to_string().len(), 64);
    }
}

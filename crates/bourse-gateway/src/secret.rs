//! Secrets: values that must not reach a log, an error or a debug print.

use std::fmt;
use std::sync::Arc;

/// A provider's API key or the admin token. Shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by its duration where the texts differ.
    pub(crate) fn matches(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own.iter().zip(other).fold(0, |acc, (a, b)| acc | (a ^ b));
        own.len() == other.len() && differs == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nothing_and_compares() {
        let secret = Secret::new("sk-canary");
        assert_eq!(format!("{secret:?}"), "Secret");
        assert!(secret.matches(b"sk-canary"));
        assert!(!secret.matches(b"sk-canarz"));
        assert!(!secret.matches(b"sk-canary2"));
    }
}

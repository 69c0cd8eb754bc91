//! Buyers' own keys at sellers, as an operator writes them.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An account's own key at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ByokSection {
    /// Whose: the account's name in the books.
    pub account: String,
    /// At which `[[provider]]`.
    pub provider: String,
    /// The environment variable that holds the key.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// A file that holds it and that nobody else may read.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// `prioritized`, `fallback` or `always`; the first when left out.
    #[serde(default)]
    pub mode: Option<String>,
    /// Slugs that it serves, each may have a `*`; all when left out.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// Ids of the account's keys that it serves; all when left out.
    #[serde(default)]
    pub keys: Option<Vec<String>>,
    /// Values of `user` that it serves; all when left out.
    #[serde(default)]
    pub users: Option<Vec<String>>,
}

//! Names that an operator gives: other names of models, and presets.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct AliasSection {
    /// What buyers write, such as `~acme/swift-latest` or `fast`.
    pub name: String,
    /// Slugs, the newest first: the first that somebody sells is meant.
    pub models: Vec<String>,
}

/// Members that requests may name instead of writing them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct PresetSection {
    /// What buyers write behind `@preset/` or in `preset`.
    pub name: String,
    /// The members, as a request has them.
    pub request: Map<String, Value>,
}

//! Errors as schemas. They are written by [`ApiError`](crate::error::ApiError), not through these types; a test of the
//! gateway holds every error against them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// What every failed call but those on `messages` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorEnvelope {
    /// What failed.
    pub error: ErrorBody,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorBody {
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    pub code: u16,
    /// What was wrong and what to do about it.
    pub message: String,
    /// The coarse word that OpenAI's clients know.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault.
    pub param: Option<String>,
    /// For programs.
    pub metadata: ErrorMetadata,
    /// Why no offer could serve, where that is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub availability: Option<Map<String, Value>>,
}

/// What programs read of an error.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorMetadata {
    /// The stable word.
    pub error_type: String,
    /// Seconds after which the same call may succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub retry_after: Option<u64>,
}

/// What a failed call on `messages` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MessagesErrorEnvelope {
    /// Always `error`.
    #[serde(rename = "type")]
    #[schemars(extend("const" = "error"))]
    pub kind: &'static str,
    /// What failed.
    pub error: MessagesErrorBody,
}

/// One error in Anthropic's words.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MessagesErrorBody {
    /// Anthropic's word.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was wrong and what to do about it.
    pub message: String,
}

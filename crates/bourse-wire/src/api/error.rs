//! Errors as schemas. They are written by [`ApiError`](crate::error::ApiError), not through these types; a test of the
//! gateway holds every error against them.

use super::limits::LimitReached;
use crate::error::{AVAILABILITY_ITEMS_MAX, AvailabilityCode};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

/// What every failed call but those on `messages` answers with.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorEnvelope {
    /// What failed.
    pub error: ErrorBody,
    /// The choice of the seller in OpenRouter's words, for who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub openrouter_metadata: Option<Map<String, Value>>,
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
    #[schemars(with = "ErrorAvailability")]
    pub availability: Option<ErrorAvailability>,
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
    /// The limit that was in the way, where one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LimitReached")]
    pub limit: Option<LimitReached>,
}

/// Why no offer could serve.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ErrorAvailability {
    /// The stable word.
    #[schemars(schema_with = "codes")]
    pub code: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Seconds after which it may.
    pub retry_after: Option<u64>,
    /// Models asked for, in order.
    #[schemars(length(max = AVAILABILITY_ITEMS_MAX))]
    pub requested_models: Vec<String>,
    /// Sellers whose offers were looked at.
    #[schemars(length(max = AVAILABILITY_ITEMS_MAX))]
    pub affected_providers: Vec<String>,
    /// Models to ask for instead, where some are known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = AVAILABILITY_ITEMS_MAX))]
    pub fallback_models: Vec<String>,
    /// OpenRouter's words for what removed offers.
    #[schemars(length(max = AVAILABILITY_ITEMS_MAX))]
    pub excluded_by: Vec<String>,
    /// The first of the changes in `smallest_relaxation`; the words name them all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorConstraint")]
    pub constraint: Option<ErrorConstraint>,
    /// Offers of the models asked for.
    pub offers: u32,
    /// Rules that removed them, those that removed most first.
    #[schemars(length(max = AVAILABILITY_ITEMS_MAX))]
    pub exclusions: Vec<ErrorExclusion>,
    /// The offer that the fewest changes would let in; left out where no change of the request would let one in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorRelaxation")]
    pub smallest_relaxation: Option<ErrorRelaxation>,
}

fn codes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": AvailabilityCode::ALL.map(AvailabilityCode::as_str) })
}

/// What would have to be relaxed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorConstraint {
    /// The member of the request.
    pub field: String,
    /// In words.
    pub detail: String,
}

/// A rule that removed offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorExclusion {
    /// Its code, as plans have it.
    pub rule: String,
    /// How many offers it was the first to refuse.
    pub offers: u32,
    /// The smallest change of this rule alone that would let an offer in, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorRelaxation")]
    pub smallest_relaxation: Option<ErrorRelaxation>,
}

/// What would let one offer in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorRelaxation {
    /// Who could then serve.
    pub provider: String,
    /// Which model.
    pub model: String,
    /// All of them are needed.
    #[schemars(length(min = 1, max = AVAILABILITY_ITEMS_MAX))]
    pub changes: Vec<ErrorChange>,
}

/// One change of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorChange {
    /// What is done: `raise`, `lower`, `set`, `add`, `take_out`, `leave_out`, `shorten` or `do_without`.
    pub action: String,
    /// The member of the request.
    pub field: String,
    /// To what it is raised, lowered or set, what is added or taken out, by how many tokens it is shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub value: Option<String>,
    /// The same in words.
    pub detail: String,
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
    /// The choice of the seller in OpenRouter's words, for who asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub openrouter_metadata: Option<Map<String, Value>>,
}

/// One error in Anthropic's words.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MessagesErrorBody {
    /// Anthropic's word.
    #[serde(rename = "type")]
    pub kind: String,
    /// What was wrong and what to do about it.
    pub message: String,
    /// The stable word.
    pub error_type: String,
    /// The field at fault.
    pub param: Option<String>,
    /// For programs.
    pub metadata: ErrorMetadata,
    /// Why no offer could serve, where that is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ErrorAvailability")]
    pub availability: Option<ErrorAvailability>,
}

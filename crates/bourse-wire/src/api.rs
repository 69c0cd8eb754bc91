//! Shapes of the public API beside generations: catalogue, keys, books, reports, errors.
//!
//! Each shape is one type that both writes the answer and describes it: `Serialize` gives the bytes, `JsonSchema`
//! gives the schema in the API's OpenAPI document, so that the two cannot differ. The members are a superset of what
//! OpenAI's, OpenRouter's and Anthropic's clients want, whose names for one thing do not collide. A member that their
//! strict readers refuse as null is left out when it is not known; what is not known is never invented.
//!
//! Requests and answers of generations are read and written by [`dialect`](crate::dialect) without types; their
//! schemas stand in [`generation`].

mod account;
mod catalogue;
mod error;
mod figures;
pub mod generation;
mod key;
mod limits;
mod money;
mod record;
mod report;

pub use account::{ActivityItem, Credits, CurrentKey, FreeRequests, RateLimit};
pub use catalogue::{
    AliasTarget, Architecture, Endpoint, Lifecycle, Model, ModelCount, ModelEndpoints, ModelKind, ModelLinks,
    ModelList, PageLinks, Percentiles, Pricing, Provider, RequestLimits, ToolChoices, TopProvider,
};
pub use error::{
    ErrorAvailability, ErrorBody, ErrorChange, ErrorConstraint, ErrorEnvelope, ErrorExclusion, ErrorMetadata,
    ErrorRelaxation, MessagesErrorBody, MessagesErrorEnvelope,
};
pub use figures::{MarketFigures, ModelFigures, SellerFigures, Shares, Used};
pub use key::{Key, KeyCreate, KeyCreated, KeyDeleted, KeyReset, KeyUpdate};
pub use limits::{
    Budget, BudgetDeleted, BudgetSet, Counted, LimitReached, Limits, Rate, RatesSet, Workspace,
    WorkspaceCreate, interval, parse_interval,
};
pub use money::Usd;
pub use record::{CostDetails, DataRegion, GenerationRecord, ProviderAttempt};
pub use report::{Ask, BestExecution, Execution, Neutrality, Reason, SellerShare, Totals, Window};

use schemars::JsonSchema;
use serde::Serialize;

/// The envelope of most answers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "{T}Answer")]
pub struct Data<T> {
    /// What was asked for.
    pub data: T,
}

/// The envelope of lists.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "{T}List")]
pub struct List<T> {
    /// What was found.
    pub data: Vec<T>,
}

/// Whether the market serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: &'static str,
}

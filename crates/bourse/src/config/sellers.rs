//! Sellers as an operator writes them: `[[provider]]` and what stands below it.
//!
//! A provider tells where an API is and how it is spoken to; each of its models is one offer. What is true of all
//! its models (region, promises about data) stands at the provider and may be overruled at a model. What is left out
//! is what the provider's kind usually does; see [`Kind`](bourse_gateway::adapter::Kind).

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One hosted API that this market resells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ProviderSection {
    /// The seller's name in plans, receipts and books.
    pub name: String,
    /// The dialect it speaks, such as `openai`; the gateway knows which there are.
    pub kind: String,
    /// Its API, up to and including the version, such as `https://api.example.com/v1`; the kind's own where that
    /// has one.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that holds its key. None: the API asks for none.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// A file that holds its key and that nobody else may read.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// Where it runs.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether it keeps prompts and answers beyond the request.
    #[serde(default)]
    pub retains_prompts: Option<bool>,
    /// Whether it trains on them.
    #[serde(default)]
    pub trains_on_prompts: Option<bool>,
    /// Whether it promises zero data retention by contract.
    #[serde(default)]
    pub zdr: Option<bool>,
    /// What its models can do, where they do not say it themselves.
    #[serde(default)]
    pub supports: Option<Vec<String>>,
    /// Whether its streams say all that its answers in one piece do, their usage with it: then a stream may be asked for where
    /// a buyer wants one piece, and less is held.
    #[serde(default)]
    pub gathers: Option<bool>,
    /// Minutes between two looks at its list of models, where a model's name has a `*`.
    #[serde(default)]
    pub list_minutes: Option<u32>,
    /// What it sells.
    #[serde(default)]
    pub model: Vec<ProviderModelSection>,
}

/// One model of a provider: one offer. With a `*` in its names it is a rule about the models that the provider lists:
/// each that the upstream's name means becomes an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ProviderModelSection {
    /// The slug that buyers write; a `*` is what stands in its place in the upstream's name.
    pub id: String,
    /// The name that the provider knows; the slug itself when left out, or every name when the slug has a `*`.
    #[serde(default)]
    pub upstream_id: Option<String>,
    /// What tells this offer from others of the same model: the seller is then called `provider/variant`.
    #[serde(default)]
    pub variant: Option<String>,
    /// `default`, `priority` or `flex`.
    #[serde(default)]
    pub tier: Option<String>,
    /// USD per prompt token, a decimal string.
    #[serde(default)]
    pub price_prompt: Option<String>,
    /// USD per generated token, a decimal string.
    #[serde(default)]
    pub price_completion: Option<String>,
    /// USD per prompt token read from a cache; as `price_prompt` when left out.
    #[serde(default)]
    pub price_cached: Option<String>,
    /// USD per prompt token written into a cache; as `price_prompt` when left out.
    #[serde(default)]
    pub price_cache_write: Option<String>,
    /// USD per request; nothing when left out.
    #[serde(default)]
    pub price_request: Option<String>,
    /// USD per unit.
    #[serde(default)]
    pub price_unit: Option<String>,
    /// What one unit is: `image`, `second`, `character` or `search`.
    #[serde(default)]
    pub unit: Option<String>,
    /// Whether it is a free variant, with limits of its own.
    #[serde(default)]
    pub free: Option<bool>,
    /// USD per prompt token that the same would cost where it is free.
    #[serde(default)]
    pub list_price_prompt: Option<String>,
    /// The same per generated token.
    #[serde(default)]
    pub list_price_completion: Option<String>,
    /// The same per request; nothing when left out.
    #[serde(default)]
    pub list_price_request: Option<String>,
    /// The same per unit.
    #[serde(default)]
    pub list_price_unit: Option<String>,
    /// Who bears the list price: `seller` gives it away, `market` pays the seller.
    #[serde(default)]
    pub given_by: Option<String>,
    /// Longest context in tokens, where known.
    #[serde(default)]
    pub context_tokens: Option<u32>,
    /// Longest answer in tokens, where less than the context.
    #[serde(default)]
    pub completion_tokens: Option<u32>,
    /// Requests in flight at most.
    #[serde(default)]
    pub capacity: Option<u32>,
    /// Which kinds of requests it serves.
    #[serde(default)]
    pub operations: Option<Vec<String>>,
    /// What it can do: names, or names with `+` or `-` that change what the kind usually can.
    #[serde(default)]
    pub supports: Option<Vec<String>>,
    /// How its weights are stored.
    #[serde(default)]
    pub quantization: Option<String>,
    /// Where it runs, if elsewhere than the provider says.
    #[serde(default)]
    pub region: Option<String>,
    /// As the provider's, for this model.
    #[serde(default)]
    pub retains_prompts: Option<bool>,
    /// As the provider's, for this model.
    #[serde(default)]
    pub trains_on_prompts: Option<bool>,
    /// As the provider's, for this model.
    #[serde(default)]
    pub zdr: Option<bool>,
    /// Whether the model's author allows training on its answers.
    #[serde(default)]
    pub is_distillable: Option<bool>,
    /// Names in the provider's list that are not offered; each may have a `*`.
    #[serde(default)]
    pub except: Option<Vec<String>>,
    /// What is added to prices that the list tells, in 1/10,000.
    #[serde(default)]
    pub markup_bps: Option<u32>,
}

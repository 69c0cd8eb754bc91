//! Models, the offers behind them, and the sellers.
//!
//! Prices are decimal strings in dollars per token, as the field publishes them. Source: reference, router §1.18.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// A page of models.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelList {
    /// Always `list`.
    #[schemars(extend("const" = "list"))]
    pub object: &'static str,
    /// The models of this page.
    pub data: Vec<Model>,
    /// Models on all pages.
    pub total_count: u64,
    /// Where the next page is.
    pub links: PageLinks,
    /// Whether a page follows.
    pub has_more: bool,
    /// The first model of this page.
    pub first_id: Option<String>,
    /// The last model of this page.
    pub last_id: Option<String>,
}

/// Pages beside this one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PageLinks {
    /// The next page; null on the last.
    pub next: Option<String>,
}

/// What kind of entry it is, in Anthropic's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ModelKind {
    /// A model.
    Model,
}

/// Whether a model is still sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Lifecycle {
    /// It is.
    Active,
    /// It will not be.
    Deprecated,
    /// It is not.
    Retired,
}

/// A model that somebody offers: what its cheapest offer asks, and the widest limits of any.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Model {
    /// What buyers write.
    pub id: String,
    /// The same, without aliases: the model that everything else here is about.
    pub canonical_slug: String,
    /// The model that the operator's alias stands for now; left out where the id is no alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AliasTarget")]
    pub alias_target: Option<AliasTarget>,
    /// Its name for people.
    pub name: String,
    /// The same, for Anthropic's clients.
    pub display_name: String,
    /// Always `model`.
    #[schemars(extend("const" = "model"))]
    pub object: &'static str,
    /// The same, for Anthropic's clients.
    #[serde(rename = "type")]
    pub kind: ModelKind,
    /// Its author.
    pub owned_by: String,
    /// Seconds since 1970 at which this market began to sell it; 0 where that is not recorded.
    pub created: u64,
    /// The same as text.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// Whether it is still sold.
    pub lifecycle: Lifecycle,
    /// What it is.
    pub description: String,
    /// Longest prompt and answer together, in tokens.
    pub context_length: Option<u64>,
    /// What goes in and comes out.
    pub architecture: Architecture,
    /// What its cheapest offer asks.
    pub pricing: Pricing,
    /// The widest limits of any offer.
    pub top_provider: TopProvider,
    /// Limits of one request; none.
    pub per_request_limits: Option<RequestLimits>,
    /// Parameters that some offer supports.
    pub supported_parameters: Vec<String>,
    /// Values of parameters that are not sent, where the model's author recommends some.
    pub default_parameters: Option<Map<String, Value>>,
    /// Voices, where it speaks.
    pub supported_voices: Option<Vec<String>>,
    /// More about it.
    pub links: ModelLinks,
}

/// The model that an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AliasTarget {
    /// Its name for people.
    pub name: String,
    /// Its id.
    pub slug: String,
}

/// Limits of one request.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RequestLimits {
    /// Most prompt tokens.
    pub prompt_tokens: u64,
    /// Most generated tokens.
    pub completion_tokens: u64,
}

/// More about a model.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelLinks {
    /// Its offers.
    pub details: String,
}

/// What goes in and comes out.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Architecture {
    /// Both, such as `text+image->text`.
    pub modality: Option<String>,
    /// What goes in.
    pub input_modalities: Vec<String>,
    /// What comes out.
    pub output_modalities: Vec<String>,
    /// Its tokenizer's family; `Other` where it is none of the field's names.
    pub tokenizer: String,
    /// The form of its chats, where known.
    pub instruct_type: Option<String>,
}

/// Prices as decimal strings: dollars per token, unit or request. `-1`: not known, and nobody is sent there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Pricing {
    /// Per prompt token.
    pub prompt: String,
    /// Per generated token.
    pub completion: String,
    /// Per request.
    pub request: String,
    /// Per prompt token read from a cache.
    pub input_cache_read: String,
    /// Per prompt token written into a cache.
    pub input_cache_write: String,
    /// Per picture; absent where none is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub image_output: Option<String>,
    /// Per second of audio; absent where none is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub audio: Option<String>,
    /// Per character that is spoken; absent where none is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub character: Option<String>,
    /// Per search; absent where none is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub search: Option<String>,
}

/// The widest limits of any offer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TopProvider {
    /// Longest prompt and answer together, in tokens.
    pub context_length: Option<u64>,
    /// Longest answer, in tokens.
    pub max_completion_tokens: Option<u64>,
    /// Whether the market looks at contents. It does not.
    pub is_moderated: bool,
}

/// How many models there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelCount {
    /// The number.
    pub count: u64,
}

/// A model with its offers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelEndpoints {
    /// What buyers write.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What it is.
    pub description: String,
    /// As in [`Model::created`].
    pub created: u64,
    /// What goes in and comes out.
    pub architecture: Architecture,
    /// One entry per offer.
    pub endpoints: Vec<Endpoint>,
}

/// One offer of one seller, and how it fares.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Seller and model, for people.
    pub name: String,
    /// The model.
    pub model_id: String,
    /// The model's name for people.
    pub model_name: String,
    /// The seller.
    pub provider_name: String,
    /// What `provider.only` and `provider.order` match.
    pub tag: String,
    /// Longest prompt and answer together, in tokens.
    pub context_length: u64,
    /// Longest answer, in tokens, where it is less.
    pub max_completion_tokens: Option<u64>,
    /// Longest prompt, in tokens, where it is less.
    pub max_prompt_tokens: Option<u64>,
    /// How the weights are stored; null where the seller does not say.
    pub quantization: Option<String>,
    /// What it asks.
    pub pricing: Pricing,
    /// Parameters that it supports.
    pub supported_parameters: Vec<String>,
    /// Whether prompts are cached without asking: cached tokens cost less.
    pub supports_implicit_caching: bool,
    /// Which forms of `tool_choice` it takes.
    pub supports_tool_choice: ToolChoices,
    /// Tools that the seller runs itself; none.
    pub native_tools: Map<String, Value>,
    /// `priority` or `flex`; null for the ordinary service.
    pub service_tier: Option<String>,
    /// Whether it tells speakers apart; no seller declares it.
    pub supports_diarization: bool,
    /// Where it runs, in the seller's words.
    pub region: Option<String>,
    /// 0: it sells. Below: it does not (-1, its price is not known; -2, it rests after failures).
    pub status: i8,
    /// Share of good answers in per cent over five minutes; null below a hundred outcomes.
    pub uptime_last_5m: Option<f32>,
    /// The same over thirty minutes.
    pub uptime_last_30m: Option<f32>,
    /// The same over a day.
    pub uptime_last_1d: Option<f32>,
    /// Milliseconds to the first content.
    pub latency_last_30m: Option<Percentiles>,
    /// Generated tokens per second.
    pub throughput_last_30m: Option<Percentiles>,
}

/// So many of a hundred did at least as well.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Percentiles {
    /// The median.
    pub p50: f32,
    /// Three of four.
    pub p75: f32,
    /// Nine of ten.
    pub p90: f32,
    /// All but one in a hundred.
    pub p99: f32,
}

/// Which forms of `tool_choice` an offer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the field's own members")]
pub struct ToolChoices {
    /// `auto`.
    pub auto: bool,
    /// `none`.
    pub none: bool,
    /// `required`.
    pub required: bool,
    /// A function by its name.
    pub function: bool,
}

/// A seller. What nobody declares is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// What `provider.only` and `provider.order` match.
    pub slug: String,
    /// Where it says what it does with prompts.
    pub privacy_policy_url: Option<String>,
    /// Its terms.
    pub terms_of_service_url: Option<String>,
    /// Where it tells of failures.
    pub status_page_url: Option<String>,
    /// Its country.
    pub headquarters: Option<String>,
    /// Countries of its machines.
    pub datacenters: Option<Vec<String>>,
}

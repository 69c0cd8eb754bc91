//! What a gateway is told at its start, and the bounds that nobody can configure away.

use crate::secret::Secret;
use crate::traces::TraceContext;
use bourse_market::{
    DataPolicy, Free, Operations, Quantization, QuantizationSet, RecountRules, ServiceTier, Supports, Unit,
};
use bourse_types::{AccountId, DurationMs, KeyHash, ModelSlug, NodeId, PriceSchedule, SellerName};
use bourse_wire::tokens::TokenCounter;
use std::sync::Arc;
use std::time::Duration;

/// Most connections of buyers that are open at once.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Most header fields of one request.
pub const HEADERS_MAX: usize = 64;
/// Header fields that hyper reads. Between [`HEADERS_MAX`] and this many the refusal is ours and has a body; beyond, and
/// beyond [`HEAD_BYTES_MAX`], it is hyper's own, which has none and cannot be given one.
pub const HEADERS_READ_MAX: usize = 100;
/// Bytes that a request's head may take, and what is read ahead of a body.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Largest whole answer that is taken from a seller.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes of a stream that are kept back until its first content.
pub const PEEK_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a seller's error answer that are read.
pub const ERROR_BYTES_MAX: usize = 16 * 1024;
/// Idle connections that are kept to each host and port.
pub const POOL_IDLE_MAX: usize = 256;
/// Idle connections older than this are not used again.
pub const POOL_IDLE_AGE_MAX: Duration = Duration::from_secs(55);
/// A hold outlives its request's deadline by this much before it gives itself back.
pub const HOLD_GRACE: DurationMs = DurationMs(60_000);
/// Most nodes that are connected at once.
pub const NODES_MAX: usize = 1_024;
/// Most bytes of one job's answer that wait for a slow buyer.
pub const JOB_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Longest window in which equal requests count as one; see [`GatewayConfig::dedupe_window`].
pub const DEDUPE_WINDOW_MAX: Duration = Duration::from_hours(24);

/// When an answer counts as settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Streams wait for the disk before their terminal, plain answers do not.
    #[default]
    Group,
    /// Every answer waits for the disk.
    Strict,
}

/// How long things may take. One deadline spans all attempts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a connection's first byte, or its last answer, to the end of a request's head.
    pub head: Duration,
    /// For the whole body of a request.
    pub body: Duration,
    /// For a buyer to read something of an answer that waits for it.
    pub stall: Duration,
    /// To connect to a seller, TLS included.
    pub connect: Duration,
    /// From dispatch to a stream's first content, for one attempt.
    pub first_content: Duration,
    /// From dispatch to the head of an answer in one piece, for one attempt.
    pub plain_answer: Duration,
    /// Between two reads of a seller's answer, once its head or first byte has come.
    pub idle: Duration,
    /// For the whole request, all attempts and the whole answer.
    pub total: Duration,
    /// For open answers after the market was told to stop.
    pub drain: Duration,
    /// For each step of a node's handshake.
    pub handshake: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            body: Duration::from_mins(1),
            stall: Duration::from_mins(1),
            connect: Duration::from_secs(5),
            first_content: Duration::from_mins(2),
            plain_answer: Duration::from_mins(5),
            idle: Duration::from_mins(2),
            total: Duration::from_mins(10),
            drain: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
        }
    }
}

/// Everything a gateway is told.
#[derive(Debug, Clone, Default)]
pub struct GatewayConfig {
    /// When an answer counts as settled.
    pub durability: Durability,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Hosted APIs that are resold.
    pub providers: Vec<ProviderConfig>,
    /// Buyers' own keys at sellers.
    pub byok: Vec<ByokKey>,
    /// The market's fee on the list price where one of them served, in 1/10,000.
    pub byok_fee_bps: u32,
    /// Lists of models that are followed.
    pub lists: Vec<FollowedList>,
    /// Other names of models.
    pub aliases: Vec<Alias>,
    /// Members that requests may name instead of writing them.
    pub presets: Vec<Preset>,
    /// How the weights that answer requests may be stored which do not say; none: in any way.
    pub quantizations: Option<QuantizationSet>,
    /// Nodes that may connect.
    pub nodes: Vec<NodeAdmission>,
    /// How long a request without an `Idempotency-Key` counts as sent twice when the same API key asks the same again;
    /// none: never. At most [`DEDUPE_WINDOW_MAX`].
    pub dedupe_window: Option<Duration>,
    /// What `POST /admin` asks for; none closes it.
    pub admin_token: Option<Secret>,
    /// Models whose tokenizers are pinned: their bills are recounted.
    pub tokenizers: Vec<ModelTokenizer>,
    /// Who keeps the spans; none where nobody does.
    pub traces: Option<Arc<dyn TraceContext>>,
}

/// A model whose prompts and answers the market counts itself.
#[derive(Debug, Clone)]
pub struct ModelTokenizer {
    /// The slug; its variants behind a colon are counted with it, too.
    pub model: ModelSlug,
    /// Its pinned tokenizer.
    pub counter: Arc<dyn TokenCounter>,
    /// What a claim may be beyond the count.
    pub rules: RecountRules,
}

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name, without the `~` that it may begin with.
    pub name: ModelSlug,
    /// Whether it begins with `~`, as names of the newest of a family do.
    pub is_tilde: bool,
    /// What it stands for: the first that somebody sells at a known price.
    pub models: Vec<ModelSlug>,
}

/// Members that requests may name instead of writing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// The name behind `@preset/`.
    pub name: String,
    /// One JSON object of request members.
    pub members_json: String,
}

/// One hosted API.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The seller's name.
    pub name: SellerName,
    /// The word for its dialect; see [`crate::adapter`].
    pub kind: String,
    /// Its API up to the version, such as `https://api.example.com/v1`.
    pub base_url: String,
    /// Its key.
    pub api_key: Option<Secret>,
    /// Whether its streams say all that its answers in one piece do, their usage with it: then a stream may be asked for
    /// where the buyer wants one piece, so that less is held. None: as the kind does.
    pub gathers: Option<bool>,
    /// What it sells.
    pub models: Vec<ProviderModel>,
}

/// When a buyer's own key serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByokMode {
    /// Before what the market resells.
    Prioritized,
    /// After it.
    Fallback,
    /// Before it, and nothing else does.
    Always,
}

/// A buyer's own key at a seller.
#[derive(Debug, Clone)]
pub struct ByokKey {
    /// Whose.
    pub account: AccountId,
    /// At which of the configured providers.
    pub provider: SellerName,
    /// The key.
    pub key: Secret,
    /// When it serves.
    pub mode: ByokMode,
    /// For which slugs; empty: for all.
    pub models: Vec<Pattern>,
    /// For which of the account's keys; empty: for all.
    pub keys: Vec<KeyHash>,
    /// For which `user` of requests; empty: for all.
    pub users: Vec<String>,
}

/// A provider's list of models that is followed. What is in [`ProviderConfig::models`] is not taken from it.
#[derive(Debug, Clone)]
pub struct FollowedList {
    /// Whose; one of the configured providers.
    pub provider: SellerName,
    /// What becomes of listed models: the first rule that means one decides.
    pub rules: Vec<LiveRule>,
    /// How often it is asked for.
    pub every: Duration,
}

/// How often a list is asked for when nobody says.
pub const LIST_EVERY_DEFAULT: Duration = Duration::from_mins(15);

/// A name with at most one `*`, which stands for any part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    /// None: no `*`.
    after: Option<String>,
}

impl Pattern {
    /// Reads a pattern; none with more than one `*`.
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) =
            text.split_once('*').map_or((text, None), |(before, after)| (before, Some(after)));
        let one = after.is_none_or(|after| !after.contains('*'));
        one.then(|| Self { before: before.to_owned(), after: after.map(str::to_owned) })
    }

    /// Whether it has a `*`.
    pub fn is_open(&self) -> bool {
        self.after.is_some()
    }

    /// What `*` stands for in a name; nothing in particular where there is none. None when it does not mean the name.
    pub(crate) fn part_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        match &self.after {
            None => (name == self.before).then_some(""),
            Some(after) => name.strip_prefix(self.before.as_str())?.strip_suffix(after.as_str()),
        }
    }

    /// The name with a part in place of `*`.
    pub(crate) fn with(&self, part: &str) -> String {
        self.after.as_ref().map_or_else(|| self.before.clone(), |after| [&self.before, part, after].concat())
    }
}

/// What becomes of models that a seller lists.
#[derive(Debug, Clone)]
pub struct LiveRule {
    /// Which of the seller's names it means.
    pub names: Pattern,
    /// Those that it does not mean nevertheless; they are not offered.
    pub except: Vec<Pattern>,
    /// The slug that buyers write, with what `*` stands for in the seller's name.
    pub slug: Pattern,
    /// Everything else, but for what is told by the list. Its prices, when there are any, go before the list's.
    pub template: ProviderModel,
    /// What is added to the list's prices, in 1/10,000.
    pub markup_bps: u32,
    /// Whether the template's context goes before the list's.
    pub has_context: bool,
    /// Whether the template's capabilities go before the list's.
    pub has_supports: bool,
}

/// One model of a provider.
#[derive(Debug, Clone)]
pub struct ProviderModel {
    /// The slug that buyers write.
    pub model: ModelSlug,
    /// The seller's name where it is not the provider's, such as `spruce/priority` or `spruce/us-east5`.
    pub seller: Option<SellerName>,
    /// The name that the provider knows.
    pub upstream_id: Arc<str>,
    /// What it asks; none keeps the offer visible and unrouted.
    pub prices: Option<PriceSchedule>,
    /// Longest prompt plus answer, in tokens.
    pub context_tokens_max: u64,
    /// Longest answer, in tokens, where that is less.
    pub completion_tokens_max: Option<u64>,
    /// What it can do.
    pub supports: Supports,
    /// Requests in flight at most.
    pub capacity: Option<u32>,
    /// How its weights are stored.
    pub quantization: Quantization,
    /// Where it runs, such as `us-east5`.
    pub region: Option<Arc<str>>,
    /// Which kinds of requests it serves.
    pub operations: Operations,
    /// How fast and how dear.
    pub tier: ServiceTier,
    /// The `service_tier` that a call names, where the API takes one.
    pub tier_word: Option<&'static str>,
    /// What the provider promises about prompts and answers.
    pub data: DataPolicy,
    /// What one unit is, where it does not sell by tokens alone.
    pub unit: Option<Unit>,
    /// Whether the model's author allows training on its answers.
    pub is_distillable: bool,
    /// Whether it is a free variant, with limits of its own.
    pub free: Free,
}

impl ProviderModel {
    /// Context that is assumed when nobody says.
    pub const CONTEXT_TOKENS_DEFAULT: u64 = 131_072;

    /// A model with everything left at what an ordinary hosted API offers.
    pub fn new(model: ModelSlug, upstream_id: &str, prices: PriceSchedule) -> Self {
        Self {
            model,
            seller: None,
            upstream_id: Arc::from(upstream_id),
            prices: Some(prices),
            context_tokens_max: Self::CONTEXT_TOKENS_DEFAULT,
            completion_tokens_max: None,
            supports: Supports::ALL.without(Supports::HIDDEN_REASONING),
            capacity: None,
            quantization: Quantization::Unknown,
            region: None,
            operations: Operations::CHAT.with(Operations::TEXT),
            tier: ServiceTier::Default,
            tier_word: None,
            data: DataPolicy::NONE,
            unit: None,
            is_distillable: false,
            free: Free::No,
        }
    }
}

/// A node that may connect, and what its work costs.
#[derive(Debug, Clone)]
pub struct NodeAdmission {
    /// Its key.
    pub node: NodeId,
    /// Under which name it sells.
    pub seller: SellerName,
    /// What it asks.
    pub prices: PriceSchedule,
    /// What the same would cost where it asks nothing.
    pub free: Free,
    /// What it promises about prompts and answers.
    pub data: DataPolicy,
}

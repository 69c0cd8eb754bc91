//! Every field that a person may set: its name, kind, unit and meaning.
//!
//! One table serves the environment layer (which names exist, how their text is read) and
//! `bourse config explain`; a second one has the tables that may stand many times, which no variable sets. A test holds
//! both against the structs, so none can be forgotten.

/// How the text of a variable or flag becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Taken as it is.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Dotted path, as in the file.
    pub path: &'static str,
    /// The variable that sets it.
    pub env: &'static str,
    pub(super) kind: Kind,
    /// What one of it is; empty where the value says so itself.
    pub unit: &'static str,
    /// What it decides.
    pub doc: &'static str,
}

const fn field(
    path: &'static str,
    env: &'static str,
    kind: Kind,
    unit: &'static str,
    doc: &'static str,
) -> Field {
    Field { path, env, kind, unit, doc }
}

/// The table, in the order of the file.
pub const FIELDS: &[Field] = &[
    field(
        "gateway.listen",
        "BOURSE_GATEWAY_LISTEN",
        Kind::Text,
        "address:port",
        "where buyers connect; port 0 lets the system choose",
    ),
    field(
        "gateway.durability",
        "BOURSE_GATEWAY_DURABILITY",
        Kind::Text,
        "group or strict",
        "strict makes plain answers wait for the disk, as streams always do",
    ),
    field(
        "gateway.request_timeout_ms",
        "BOURSE_GATEWAY_REQUEST_TIMEOUT_MS",
        Kind::Number,
        "ms",
        "one deadline for a request, all its attempts included",
    ),
    field(
        "gateway.connect_timeout_ms",
        "BOURSE_GATEWAY_CONNECT_TIMEOUT_MS",
        Kind::Number,
        "ms",
        "most time to connect to a seller",
    ),
    field(
        "gateway.first_content_timeout_ms",
        "BOURSE_GATEWAY_FIRST_CONTENT_TIMEOUT_MS",
        Kind::Number,
        "ms",
        "most time from asking a seller to the first content of its stream; the next seller is asked after it",
    ),
    field(
        "gateway.idle_timeout_ms",
        "BOURSE_GATEWAY_IDLE_TIMEOUT_MS",
        Kind::Number,
        "ms",
        "most silence between two bytes of a seller's answer",
    ),
    field(
        "gateway.drain_timeout_ms",
        "BOURSE_GATEWAY_DRAIN_TIMEOUT_MS",
        Kind::Number,
        "ms",
        "most time that open answers get after the market was told to stop",
    ),
    field(
        "gateway.quantizations",
        "BOURSE_GATEWAY_QUANTIZATIONS",
        Kind::Text,
        "words with commas",
        "how the weights may be stored that answer requests which do not say, such as fp8,bf16,unknown; empty means in any way",
    ),
    field(
        "gateway.dedupe_window_s",
        "BOURSE_GATEWAY_DEDUPE_WINDOW_S",
        Kind::Number,
        "s",
        "how long equal requests of one API key without an Idempotency-Key count as one and are charged once; 0: never; at most a day",
    ),
    field(
        "gateway.otlp_endpoint",
        "BOURSE_GATEWAY_OTLP_ENDPOINT",
        Kind::Text,
        "URL",
        "a collector of traces, in OTLP over HTTP; without it OTEL_EXPORTER_OTLP_ENDPOINT counts, else there are none",
    ),
    field(
        "gateway.decisions_bytes_max",
        "BOURSE_GATEWAY_DECISIONS_BYTES_MAX",
        Kind::Number,
        "bytes",
        "most bytes of the journal of decisions, which `bourse route` replays; the oldest go first, 0 keeps none",
    ),
    field(
        "gateway.exchange",
        "BOURSE_GATEWAY_EXCHANGE",
        Kind::Text,
        "host:port with commas",
        "the active exchange and its standbys elsewhere, in any order, for `bourse gateway`, which has no books of its own",
    ),
    field(
        "exchange.fee_bps",
        "BOURSE_EXCHANGE_FEE_BPS",
        Kind::Number,
        "1/10,000",
        "the market's share of each charge, taken from the seller's side",
    ),
    field(
        "exchange.byok_fee_bps",
        "BOURSE_EXCHANGE_BYOK_FEE_BPS",
        Kind::Number,
        "1/10,000",
        "the market's fee on the list price where the buyer's own key at a seller served",
    ),
    field(
        "exchange.byok_free_usd_per_month",
        "BOURSE_EXCHANGE_BYOK_FREE_USD_PER_MONTH",
        Kind::Text,
        "USD",
        "list price per account and month in UTC on which that fee is not taken",
    ),
    field(
        "exchange.starting_credit",
        "BOURSE_EXCHANGE_STARTING_CREDIT",
        Kind::Text,
        "USD",
        "what the operator's account is given on the first start, from the subsidy account",
    ),
    field(
        "exchange.listen",
        "BOURSE_EXCHANGE_LISTEN",
        Kind::Text,
        "address:port",
        "where gateways on other machines connect; holds then outlive this process until they expire",
    ),
    field(
        "exchange.secret_file",
        "BOURSE_EXCHANGE_SECRET_FILE",
        Kind::Text,
        "path",
        "the secret that exchange and gateways share, readable by its owner only; exchange.secret in the data folder when left out",
    ),
    field(
        "payouts.rail",
        "BOURSE_PAYOUTS_RAIL",
        Kind::Text,
        "manual or fake",
        "by what sellers are paid: manual leaves it to a person, fake pays nobody and is for trials",
    ),
    field(
        "payouts.minimum",
        "BOURSE_PAYOUTS_MINIMUM",
        Kind::Text,
        "USD",
        "the least payout; what a seller is owed below it waits",
    ),
    field(
        "node.enabled",
        "BOURSE_NODE_ENABLED",
        Kind::Switch,
        "true or false",
        "whether the market runs a node of its own on this machine",
    ),
    field(
        "node.model",
        "BOURSE_NODE_MODEL",
        Kind::Text,
        "slug",
        "the name under which the node sells; without model_path, which model is fetched",
    ),
    field(
        "node.model_path",
        "BOURSE_MODEL_PATH",
        Kind::Text,
        "path",
        "a GGUF file to use instead of the catalogue's model",
    ),
    field(
        "node.threads",
        "BOURSE_NODE_THREADS",
        Kind::Number,
        "threads",
        "compute threads of the node; 0 means every CPU it may use",
    ),
    field(
        "node.price_prompt",
        "BOURSE_NODE_PRICE_PROMPT",
        Kind::Text,
        "USD per token",
        "what the local node asks for reading",
    ),
    field(
        "node.price_completion",
        "BOURSE_NODE_PRICE_COMPLETION",
        Kind::Text,
        "USD per token",
        "what the local node asks for writing",
    ),
    field(
        "node.list_price_prompt",
        "BOURSE_NODE_LIST_PRICE_PROMPT",
        Kind::Text,
        "USD per token",
        "what reading would cost where the local node asks nothing; empty says nothing",
    ),
    field(
        "node.list_price_completion",
        "BOURSE_NODE_LIST_PRICE_COMPLETION",
        Kind::Text,
        "USD per token",
        "what writing would cost where the local node asks nothing; empty says nothing",
    ),
];

/// Fields of the tables that may stand many times: path with its table, unit, meaning. What a provider's kind usually
/// does is shown beside them.
pub(super) const TABLE_FIELDS: &[(&str, &str, &str)] = &[
    ("provider.name", "", "the seller's name in plans, receipts and books"),
    ("provider.kind", "word", "the dialect it speaks"),
    ("provider.base_url", "URL", "its API, up to and including the version; the kind's own when left out"),
    ("provider.api_key_env", "variable", "the environment variable that holds its key"),
    ("provider.api_key_file", "path", "a file that holds its key and that only its owner may read"),
    ("provider.region", "", "where it runs, such as us-east5"),
    (
        "provider.retains_prompts",
        "true or false",
        "whether it keeps prompts; false promises that it does not",
    ),
    (
        "provider.trains_on_prompts",
        "true or false",
        "whether it trains on prompts; false promises that it does not",
    ),
    ("provider.zdr", "true or false", "whether it promises zero data retention by contract"),
    (
        "provider.supports",
        "words",
        "what its models can do; names, or changes with + and - of what the kind can",
    ),
    (
        "provider.gathers",
        "true or false",
        "whether its streams say all that its answers in one piece do, usage included: less is held then",
    ),
    (
        "provider.list_minutes",
        "minutes",
        "between two looks at its list of models, where a model's names have a *",
    ),
    (
        "provider.model.id",
        "slug",
        "the name that buyers write; with a * a rule about the models that the provider lists",
    ),
    ("provider.model.upstream_id", "", "the name that the provider knows; the slug when left out"),
    ("provider.model.variant", "", "tells it from other offers of the same model: sold by name/variant"),
    (
        "provider.model.tier",
        "default, priority or flex",
        "how fast and how dear; its variant is the tier when left out",
    ),
    ("provider.model.price_prompt", "USD per token", "price of reading"),
    ("provider.model.price_completion", "USD per token", "price of writing"),
    (
        "provider.model.price_cached",
        "USD per token",
        "price of what is read from a cache; as price_prompt when left out",
    ),
    (
        "provider.model.price_cache_write",
        "USD per token",
        "price of what is put into a cache; as price_prompt when left out",
    ),
    ("provider.model.price_request", "USD", "price of each request beside its tokens; nothing when left out"),
    ("provider.model.price_unit", "USD per unit", "price of what is not counted in tokens"),
    ("provider.model.unit", "image, second, character or search", "what one unit is"),
    ("provider.model.free", "true or false", "whether it is a free variant, with limits of its own"),
    ("provider.model.list_price_prompt", "USD per token", "what reading would cost where it is free"),
    ("provider.model.list_price_completion", "USD per token", "what writing would cost where it is free"),
    ("provider.model.list_price_request", "USD", "what each request would cost where it is free"),
    ("provider.model.list_price_unit", "USD per unit", "what a unit would cost where it is free"),
    (
        "provider.model.given_by",
        "seller or market",
        "who bears the list price: the seller gives it away, or the market pays the seller",
    ),
    ("provider.model.context_tokens", "tokens", "longest context, where known"),
    ("provider.model.completion_tokens", "tokens", "longest answer, where less than the context"),
    ("provider.model.capacity", "requests", "requests in flight at most"),
    ("provider.model.operations", "words", "which kinds of requests it serves"),
    ("provider.model.supports", "words", "what it can do; names, or changes with + and -"),
    ("provider.model.quantization", "word", "how its weights are stored, such as fp8 or bf16"),
    ("provider.model.region", "", "where it runs, if elsewhere than the provider says"),
    ("provider.model.retains_prompts", "true or false", "as the provider's, for this model"),
    ("provider.model.trains_on_prompts", "true or false", "as the provider's, for this model"),
    ("provider.model.zdr", "true or false", "as the provider's, for this model"),
    (
        "provider.model.is_distillable",
        "true or false",
        "whether the model's author allows training on its answers",
    ),
    (
        "provider.model.except",
        "names",
        "names in the provider's list that are not offered; each may have a *",
    ),
    ("provider.model.markup_bps", "1/10,000", "what is added to the prices that the list tells"),
    ("byok.account", "", "whose own key it is: the account's name in the books"),
    ("byok.provider", "", "at which [[provider]]"),
    ("byok.api_key_env", "variable", "the environment variable that holds the key"),
    ("byok.api_key_file", "path", "a file that holds it and that only its owner may read"),
    (
        "byok.mode",
        "prioritized, fallback or always",
        "before or after what the market resells, or instead of it",
    ),
    ("byok.models", "slugs", "which models it serves, each may have a *; all when left out"),
    ("byok.keys", "ids", "which of the account's keys it serves; all when left out"),
    ("byok.users", "words", "which values of `user` it serves; all when left out"),
    ("alias.name", "", "what buyers write, such as ~acme/swift-latest or fast"),
    ("alias.models", "slugs", "what it stands for, the newest first: the first that somebody sells"),
    ("preset.name", "", "what buyers write behind @preset/ or in `preset`"),
    ("preset.request", "members", "what it adds to a request that names it; the request's own members win"),
    ("tokenizer.model", "slug", "whose bills are recounted with it"),
    ("tokenizer.path", "path", "a tokenizer.json or a GGUF file"),
    ("tokenizer.template", "path", "a file with the chat template, where that has none or another one"),
    ("tokenizer.pin", "digest", "what `bourse tokens pin` printed for it; another tokenizer is refused"),
    (
        "tokenizer.tolerance_bps",
        "1/10,000",
        "what a claim may exceed the market's count by; 300 when left out",
    ),
    ("tokenizer.tolerance_tokens", "tokens", "the same beside the share, for each choice; 16 when left out"),
    (
        "tokenizer.media_tokens",
        "tokens",
        "most for a picture, sound or file in a prompt; 8,192 when left out",
    ),
    (
        "tokenizer.hidden_reasoning_tokens",
        "tokens",
        "most of reasoning that is not shown, of sellers that declared it; 131,072 when left out",
    ),
];

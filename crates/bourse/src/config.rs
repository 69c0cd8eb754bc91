//! The market's configuration: one struct per role, layered once, then trusted.
//!
//! Later layers win: built-in defaults, the file, `BOURSE_*` variables, flags. A field nobody knows is an
//! error, not a shrug, because a misspelled limit that silently keeps its default is a defect found on the
//! worst day. Every value remembers the layer it came from, for `bourse config explain`. Secrets are not
//! configuration: a provider names the environment variable or the file that holds its key, and only the start of
//! the market reads it.

mod byok;
mod explain;
mod fields;
mod layers;
mod names;
mod sellers;
#[cfg(test)]
mod tests;
mod tokenizers;

pub use byok::ByokSection;
pub use explain::Explained;
pub use fields::{FIELDS, Field};
pub use layers::{ConfigError, Flag, Layers, Loaded};
pub use names::{AliasSection, PresetSection};
pub use sellers::{ProviderModelSection, ProviderSection};
pub use tokenizers::TokenizerSection;

use bourse_types::{NanoUsd, PicoUsdPerToken};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The environment, read once at the start of the process. Not `Debug`: it may hold secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// What this process was given. Variables that are not UTF-8 are none of ours.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// Chosen variables, for tests and embedders.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    /// The value of a variable; an empty one counts as unset, as shells make it hard to unset one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Everything that `bourse up` decides by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The public API and its limits.
    pub gateway: GatewaySection,
    /// Books and fees.
    pub exchange: ExchangeSection,
    /// How sellers are paid.
    #[serde(default)]
    pub payouts: PayoutsSection,
    /// The seller on this machine.
    pub node: NodeSection,
    /// Hosted APIs that this market resells.
    #[serde(default)]
    pub provider: Vec<ProviderSection>,
    /// Buyers' own keys at providers.
    #[serde(default)]
    pub byok: Vec<ByokSection>,
    /// Other names of models.
    #[serde(default)]
    pub alias: Vec<AliasSection>,
    /// Members that requests may name instead of writing them.
    #[serde(default)]
    pub preset: Vec<PresetSection>,
    /// Tokenizers of models whose bills are recounted.
    #[serde(default)]
    pub tokenizer: Vec<TokenizerSection>,
}

/// The public API and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySection {
    /// Where buyers connect.
    pub listen: SocketAddr,
    /// When an answer counts as settled.
    pub durability: Durability,
    /// Most time from the first byte of a request to the last of its answer.
    pub request_timeout_ms: u64,
    /// Most time to connect to a seller.
    pub connect_timeout_ms: u64,
    /// Most time from asking a seller to the first content of its stream.
    pub first_content_timeout_ms: u64,
    /// Most time between two bytes of a seller's answer.
    pub idle_timeout_ms: u64,
    /// Most time that open answers get when the market is told to stop.
    pub drain_timeout_ms: u64,
    /// How the weights may be stored that answer requests which do not say, such as `fp8,bf16`. Empty: in any way.
    #[serde(default)]
    pub quantizations: String,
    /// How long equal requests without an `Idempotency-Key` of one API key count as one; 0: they never do.
    pub dedupe_window_s: u64,
    /// A collector of traces, such as `http://127.0.0.1:4318`. None: the standard variables', or nowhere.
    #[serde(default)]
    pub otlp_endpoint: Option<String>,
    /// Most bytes of the journal of decisions; 0 keeps none.
    pub decisions_bytes_max: u64,
    /// Exchanges elsewhere, `host:port` with commas between them, for `bourse gateway`.
    #[serde(default)]
    pub exchange: String,
}

/// When an answer counts as settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Streams wait for the disk before their terminal, plain answers do not.
    Group,
    /// Every answer waits for the disk.
    Strict,
}

/// Books and fees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeSection {
    /// The market's share of each charge.
    pub fee_bps: u32,
    /// The market's fee where the buyer's own key at a seller served, on the list price.
    pub byok_fee_bps: u32,
    /// List price per account and month on which no such fee is taken, in USD.
    pub byok_free_usd_per_month: String,
    /// What the operator's account is given on the first start, in USD.
    pub starting_credit: String,
    /// Where gateways on other machines connect. None: the only gateway is in the same process.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// The file with the secret that exchange and gateways share. None: `exchange.secret` in the data directory.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
}

/// How sellers are paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutsSection {
    /// The payment rail, such as `manual`.
    pub rail: String,
    /// The least payout, in USD.
    pub minimum: String,
}

/// The seller on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// Whether the market runs a node of its own.
    pub enabled: bool,
    /// The slug under which the node sells; the catalogue's, unless `model_path` names another model.
    pub model: String,
    /// A GGUF file to use instead of the catalogue's model.
    #[serde(default)]
    pub model_path: Option<PathBuf>,
    /// Compute threads; 0 means every CPU that this process may use.
    pub threads: u32,
    /// What the local node asks per prompt token, in USD.
    pub price_prompt: String,
    /// What the local node asks per generated token, in USD.
    pub price_completion: String,
    /// What the same would cost per prompt token where the local node asks nothing, in USD; empty says nothing.
    #[serde(default)]
    pub list_price_prompt: String,
    /// The same per generated token.
    #[serde(default)]
    pub list_price_completion: String,
}

impl Default for GatewaySection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], LISTEN_PORT)),
            durability: Durability::Group,
            request_timeout_ms: 600_000,
            connect_timeout_ms: 5_000,
            first_content_timeout_ms: 120_000,
            idle_timeout_ms: 120_000,
            drain_timeout_ms: 10_000,
            quantizations: String::new(),
            dedupe_window_s: 0,
            otlp_endpoint: None,
            decisions_bytes_max: 1024 * 1024 * 1024,
            exchange: String::new(),
        }
    }
}

impl Default for ExchangeSection {
    fn default() -> Self {
        Self {
            fee_bps: bourse_exchange::FEE_BPS,
            byok_fee_bps: bourse_exchange::BYOK_FEE_BPS,
            byok_free_usd_per_month: "0".to_owned(),
            starting_credit: "10".to_owned(),
            listen: None,
            secret_file: None,
        }
    }
}

impl Default for PayoutsSection {
    fn default() -> Self {
        Self { rail: bourse_rails::MANUAL.to_owned(), minimum: "10".to_owned() }
    }
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            enabled: true,
            model: DEFAULT_MODEL.to_owned(),
            model_path: None,
            threads: 0,
            price_prompt: "0.00000002".to_owned(),
            price_completion: "0.00000006".to_owned(),
            list_price_prompt: String::new(),
            list_price_completion: String::new(),
        }
    }
}

/// The model that a market begins with: small enough for any machine.
pub const DEFAULT_MODEL: &str = "huggingfacetb/smollm2-135m-instruct";
/// The port that buyers find by default: no registered service uses it.
pub const LISTEN_PORT: u16 = 8420;

/// Reads a price of the named field.
pub fn price(field: &str, text: &str) -> Result<PicoUsdPerToken, ConfigError> {
    PicoUsdPerToken::parse_usd_per_token(text)
        .map_err(|source| ConfigError::Price { field: field.to_owned(), source })
}

/// Reads a dollar amount of the named field.
pub fn amount(field: &str, text: &str) -> Result<NanoUsd, ConfigError> {
    NanoUsd::parse_usd(text).map_err(|source| ConfigError::Amount { field: field.to_owned(), source })
}

//! From configuration to what each role is told: the last place where text is parsed.

use crate::config::{self, Config, ConfigError, Environment, ProviderModelSection, ProviderSection};
use bourse_exchange::{ByokTerms, ExchangeConfig};
use bourse_gateway::adapter::adapter_of_kind;
use bourse_gateway::{Durability, GatewayConfig, ProviderConfig, ProviderModel, Secret, Timeouts};
use bourse_market::{DataPolicy, Operations, Quantization, ServiceTier, Unit};
use bourse_types::{ModelSlug, PicoUsdPerUnit, PriceSchedule, SellerName};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the seller on this machine is called in plans, receipts and books.
pub const LOCAL_SELLER: &str = "local";
/// The largest fee: the whole charge.
pub const FEE_BPS_MAX: u32 = 10_000;
/// Providers in one configuration, at most.
pub const PROVIDERS_MAX: usize = 1_024;

/// Why a configuration that reads well cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum WiringError {
    /// A price or amount is not one.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// A name or slug is not one.
    #[error("{field} is not a name")]
    #[diagnostic(help("names are short and plain, such as `spruce` or `author/model`"))]
    Name {
        /// Which field.
        field: String,
        /// Why.
        #[source]
        source: bourse_types::SlugError,
    },
    /// Two sellers of one name.
    #[error("two sellers are called `{0}`")]
    #[diagnostic(help("give each [[provider]] its own name; `{LOCAL_SELLER}` is the node on this machine"))]
    Twice(String),
    /// A dialect that nobody speaks.
    #[error("provider `{provider}` speaks `{kind}`, which this market does not")]
    #[diagnostic(help("kind = \"openai\" fits every server with an OpenAI-compatible API"))]
    Kind {
        /// Whose.
        provider: String,
        /// What was written.
        kind: String,
    },
    /// A word that a list or choice does not know.
    #[error("{field} does not know `{word}`")]
    #[diagnostic(help("`bourse config explain` lists its words"))]
    Word {
        /// Which field.
        field: String,
        /// What was written.
        word: String,
    },
    /// A unit without a price, or the other way round.
    #[error("{0}: unit and price_unit go together")]
    #[diagnostic(help("say both what a unit is and what it costs, or neither"))]
    HalfAUnit(String),
    /// The variable that should hold a key is not set.
    #[error("provider `{provider}` needs its key in the environment variable {variable}")]
    #[diagnostic(help("set it before `bourse up`, or remove api_key_env when the API asks for no key"))]
    NoKey {
        /// Whose.
        provider: String,
        /// Which variable.
        variable: String,
    },
    /// A number out of its range.
    #[error("{field} is {value}, at most {max} is possible")]
    #[diagnostic(help("`bourse config explain` shows its unit"))]
    TooLarge {
        /// Which field.
        field: &'static str,
        /// What was written.
        value: u64,
        /// The bound.
        max: u64,
    },
}

/// What the exchange is told.
pub fn exchange(config: &Config) -> Result<ExchangeConfig, WiringError> {
    let fee_bps = share("exchange.fee_bps", config.exchange.fee_bps)?;
    let free = &config.exchange.byok_free_usd_per_month;
    let byok = ByokTerms {
        fee_bps: share("exchange.byok_fee_bps", config.exchange.byok_fee_bps)?,
        free_per_month: config::amount("exchange.byok_free_usd_per_month", free)?,
    };
    let starting_credit = config::amount("exchange.starting_credit", &config.exchange.starting_credit)?;
    Ok(ExchangeConfig { fee_bps, byok, starting_credit, ..ExchangeConfig::default() })
}

fn share(field: &'static str, bps: u32) -> Result<u32, WiringError> {
    let (value, max) = (bps.into(), FEE_BPS_MAX.into());
    if bps > FEE_BPS_MAX { Err(WiringError::TooLarge { field, value, max }) } else { Ok(bps) }
}

/// What the local node asks.
pub fn node_prices(config: &Config) -> Result<PriceSchedule, WiringError> {
    prices("node", &config.node.price_prompt, &config.node.price_completion)
}

/// What the gateway is told, but for its nodes and its admin token, which come from the data directory.
pub fn gateway(config: &Config, environment: &Environment) -> Result<GatewayConfig, WiringError> {
    let gateway = &config.gateway;
    let durability = match gateway.durability {
        config::Durability::Group => Durability::Group,
        config::Durability::Strict => Durability::Strict,
    };
    let timeouts = Timeouts {
        connect: Duration::from_millis(gateway.connect_timeout_ms),
        first_content: Duration::from_millis(gateway.first_content_timeout_ms),
        idle: Duration::from_millis(gateway.idle_timeout_ms),
        total: Duration::from_millis(gateway.request_timeout_ms),
        drain: Duration::from_millis(gateway.drain_timeout_ms),
        ..Timeouts::default()
    };
    let providers = providers(config, environment)?;
    Ok(GatewayConfig { durability, timeouts, providers, ..GatewayConfig::default() })
}

fn providers(config: &Config, environment: &Environment) -> Result<Vec<ProviderConfig>, WiringError> {
    if config.provider.len() > PROVIDERS_MAX {
        let (value, max) = (config.provider.len() as u64, PROVIDERS_MAX as u64);
        return Err(WiringError::TooLarge { field: "the number of providers", value, max });
    }
    let mut names = BTreeSet::from([LOCAL_SELLER]);
    for section in &config.provider {
        if !names.insert(&section.name) {
            return Err(WiringError::Twice(section.name.clone()));
        }
    }
    config.provider.iter().map(|section| provider(section, environment)).collect()
}

fn provider(section: &ProviderSection, environment: &Environment) -> Result<ProviderConfig, WiringError> {
    let field = |name: &str| format!("provider `{}`: {name}", section.name);
    let name = SellerName::parse(&section.name)
        .map_err(|source| WiringError::Name { field: format!("provider name `{}`", section.name), source })?;
    if adapter_of_kind(&section.kind).is_none() {
        return Err(WiringError::Kind { provider: section.name.clone(), kind: section.kind.clone() });
    }
    let api_key = match &section.api_key_env {
        None => None,
        Some(variable) => match environment.get(variable) {
            Some(key) => Some(Secret::new(key)),
            None => {
                return Err(WiringError::NoKey {
                    provider: section.name.clone(),
                    variable: variable.clone(),
                });
            }
        },
    };
    let models = section.model.iter().map(|model| provider_model(model, &field)).collect::<Result<_, _>>()?;
    Ok(ProviderConfig {
        name,
        kind: section.kind.clone(),
        base_url: section.base_url.clone(),
        api_key,
        models,
    })
}

fn provider_model(
    section: &ProviderModelSection,
    field: &dyn Fn(&str) -> String,
) -> Result<ProviderModel, WiringError> {
    let slug = ModelSlug::parse(&section.id).map_err(|source| WiringError::Name {
        field: field(&format!("model id `{}`", section.id)),
        source,
    })?;
    let upstream_id = section.upstream_id.as_deref().unwrap_or(&section.id);
    let place = field(&format!("model `{}`", section.id));
    let mut prices = prices(&place, &section.price_prompt, &section.price_completion)?;
    if let Some(text) = &section.price_cached {
        prices.cached_prompt = config::price(&format!("{place}.price_cached"), text)?;
    }
    if let Some(text) = &section.price_cache_write {
        prices.cache_write = config::price(&format!("{place}.price_cache_write"), text)?;
    }
    if let Some(text) = &section.price_request {
        prices.request = config::amount(&format!("{place}.price_request"), text)?;
    }
    let unit = match (&section.unit, &section.price_unit) {
        (None, None) => None,
        (Some(unit), Some(price)) => {
            prices.unit = PicoUsdPerUnit(config::price(&format!("{place}.price_unit"), price)?.0);
            Some(word(&place, "unit", unit, Unit::parse)?)
        }
        _ => return Err(WiringError::HalfAUnit(place)),
    };
    let mut model = ProviderModel { unit, ..ProviderModel::new(slug, upstream_id, prices) };
    if let Some(context_tokens) = section.context_tokens {
        model.context_tokens_max = context_tokens.into();
    }
    model.completion_tokens_max = section.completion_tokens.map(Into::into);
    facts(&mut model, section, &place)?;
    Ok(model)
}

/// What buyers' rules look at.
fn facts(model: &mut ProviderModel, section: &ProviderModelSection, place: &str) -> Result<(), WiringError> {
    if !section.operations.is_empty() {
        model.operations = Operations::NONE;
    }
    for name in &section.operations {
        model.operations = model.operations.with(word(place, "operations", name, Operations::parse)?);
    }
    for name in &section.data_policy {
        model.data = model.data.with(word(place, "data_policy", name, DataPolicy::parse)?);
    }
    if let Some(tier) = &section.service_tier {
        model.tier = word(place, "service_tier", tier, ServiceTier::parse)?;
    }
    if let Some(stored) = &section.quantization {
        model.quantization = word(place, "quantization", stored, Quantization::parse)?;
    }
    model.region = section.region.as_deref().map(Arc::from);
    model.is_distillable = section.distillable;
    Ok(())
}

fn word<T>(
    place: &str,
    field: &str,
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, WiringError> {
    let unknown = || WiringError::Word { field: format!("{place}.{field}"), word: text.to_owned() };
    parse(text).ok_or_else(unknown)
}

fn prices(place: &str, prompt: &str, completion: &str) -> Result<PriceSchedule, WiringError> {
    let prompt = config::price(&format!("{place}.price_prompt"), prompt)?;
    let completion = config::price(&format!("{place}.price_completion"), completion)?;
    Ok(PriceSchedule::per_token(prompt, completion))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_types::NanoUsd;

    fn parsed(providers: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bourse.toml");
        std::fs::write(&file, providers).unwrap();
        let environment = Environment::default();
        let layers = config::Layers { file: Some(file), environment: &environment, flags: Vec::new() };
        layers.load().unwrap().config
    }

    const MAPLE: &str = "[[provider]]\nname = \"maple\"\nkind = \"openai\"\nbase_url = \"http://m/v1\"\n\
                         api_key_env = \"MAPLE\"\n[[provider.model]]\nid = \"a/b\"\nprice_prompt = \"0.1\"\n\
                         price_completion = \"0.2\"\n";

    fn refusal(text: &str) -> String {
        let error = gateway(&parsed(text), &Environment::of(&[("MAPLE", "sk-maple")])).unwrap_err();
        crate::report::render(&error).lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn a_provider_is_taken_as_written_and_its_key_is_not_shown() {
        let wired = gateway(&parsed(MAPLE), &Environment::of(&[("MAPLE", "sk-maple")])).unwrap();
        let provider = &wired.providers[0];
        assert_eq!(provider.name.as_str(), "maple");
        assert_eq!(&*provider.models[0].upstream_id, "a/b");
        assert!(!format!("{wired:?}").contains("sk-maple"));
    }

    #[test]
    fn prices_of_caches_and_requests_are_optional() {
        let prices = |more: &str| {
            let wired =
                gateway(&parsed(&format!("{MAPLE}{more}")), &Environment::of(&[("MAPLE", "sk-maple")]));
            wired.unwrap().providers[0].models[0].prices.unwrap()
        };
        let plain = prices("");
        assert_eq!((plain.cached_prompt, plain.cache_write), (plain.prompt, plain.prompt));
        assert_eq!(plain.request, NanoUsd::ZERO);
        let full =
            prices("price_cached = \"0.01\"\nprice_cache_write = \"0.125\"\nprice_request = \"0.5\"\n");
        assert_eq!(full.cached_prompt.to_usd_per_token_string(), "0.01");
        assert_eq!(full.cache_write.to_usd_per_token_string(), "0.125");
        assert_eq!((full.prompt, full.request), (plain.prompt, NanoUsd(500_000_000)));
    }

    #[test]
    fn what_rules_look_at_is_read_word_by_word() {
        let model = |more: &str| {
            let wired =
                gateway(&parsed(&format!("{MAPLE}{more}")), &Environment::of(&[("MAPLE", "sk-maple")]));
            wired.unwrap().providers[0].models[0].clone()
        };
        let plain = model("");
        assert_eq!((plain.tier, plain.data, plain.unit), (ServiceTier::Default, DataPolicy::NONE, None));
        let full = model(
            "unit = \"image\"\nprice_unit = \"0.04\"\noperations = [\"images\", \"chat\"]\nservice_tier = \"flex\"\n\
             data_policy = [\"no_training\"]\nregion = \"us-east5\"\nquantization = \"mxfp4\"\ndistillable = true\n\
             completion_tokens = 900\n",
        );
        assert_eq!(
            (full.unit, full.prices.unwrap().unit),
            (Some(Unit::Image), PicoUsdPerUnit(40_000_000_000))
        );
        assert_eq!(full.operations, Operations::CHAT.with(Operations::IMAGES));
        assert_eq!((full.tier, full.data), (ServiceTier::Flex, DataPolicy::NO_TRAINING));
        assert_eq!((full.region.as_deref(), full.quantization), (Some("us-east5"), Quantization::Mxfp4));
        assert_eq!((full.is_distillable, full.completion_tokens_max), (true, Some(900)));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |from: &str, to: &str, want: &str| {
            assert_eq!(refusal(&MAPLE.replace(from, to)), format!("error: {want}"));
        };
        check("\"openai\"", "\"smoke\"", "provider `maple` speaks `smoke`, which this market does not");
        check("MAPLE", "OAK", "provider `maple` needs its key in the environment variable OAK");
        check("\"maple\"", "\"local\"", "two sellers are called `local`");
        check("\"maple\"", "\"ma ple\"", "provider name `ma ple` is not a name");
        let request = "provider `maple`: model `a/b`.price_request is not an amount";
        check("price_prompt", "price_request = \"-1\"\nprice_prompt", request);
        let more = |text: &str| format!("{text}\nprice_prompt");
        let place = "provider `maple`: model `a/b`";
        check(
            "price_prompt",
            &more("unit = \"image\""),
            &format!("{place}: unit and price_unit go together"),
        );
        let unknown = format!("{place}.data_policy does not know `private`");
        check("price_prompt", &more("data_policy = [\"private\"]"), &unknown);
        check("\"0.1\"", "\"free\"", "provider `maple`: model `a/b`.price_prompt is not a price");
        assert_eq!(refusal(&format!("{MAPLE}{MAPLE}")), "error: two sellers are called `maple`");
    }

    #[test]
    fn the_number_of_providers_is_bounded() {
        let check = |count: usize| {
            let mut config = parsed(MAPLE);
            let one = config.provider.remove(0);
            config.provider =
                (0..count).map(|n| ProviderSection { name: format!("maple{n}"), ..one.clone() }).collect();
            gateway(&config, &Environment::of(&[("MAPLE", "sk-maple")])).is_ok()
        };
        assert!(check(PROVIDERS_MAX));
        assert!(!check(PROVIDERS_MAX + 1));
    }

    #[test]
    fn the_fee_is_bounded() {
        let check = |fee_bps: u32| {
            let mut config = Config::default();
            config.exchange.fee_bps = fee_bps;
            exchange(&config).is_ok()
        };
        assert!(check(FEE_BPS_MAX));
        assert!(!check(FEE_BPS_MAX + 1));
    }
}

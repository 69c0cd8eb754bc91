//! From configuration to what each role is told: the last place where text is parsed.

mod byok;
mod funds;
mod key;
mod names;
mod sellers;
mod tokenizers;

pub use byok::{BYOK_FILTER_MAX, BYOK_MAX, byok};
pub(crate) use funds::secret_file;
pub use funds::{addresses, secret};
pub use names::{ALIAS_MODELS_MAX, ALIASES_MAX, PRESET_BYTES_MAX, PRESETS_MAX};
pub use sellers::{LIST_MINUTES_MAX, MARKUP_BPS_MAX, MODELS_MAX};
pub use tokenizers::{TOKENIZERS_MAX, tokenizers};

use crate::config::{self, Config, ConfigError, Environment};
use crate::runtime::traces::{self, TraceParent};
use bourse_exchange::{ByokTerms, ExchangeConfig, Holds, PayoutTerms};
use bourse_gateway::{
    DEDUPE_WINDOW_MAX, Durability, FollowedList, GatewayConfig, ProviderConfig, Timeouts, TraceContext,
};
use bourse_market::{Free, Quantization, QuantizationSet};
use bourse_rails::Rail;
use bourse_types::{ModelSlug, PriceSchedule, SellerName};
use std::collections::BTreeSet;
use std::path::Path;
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
    /// A name that cannot be one.
    #[error("{field} cannot be used: {why}")]
    #[diagnostic(help("`bourse config explain` shows what it means"))]
    Unusable {
        /// Which field.
        field: String,
        /// Why.
        why: String,
    },
    /// Two of one name.
    #[error("two {what} are called `{name}`")]
    #[diagnostic(help("keep one"))]
    NameTwice {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two sellers of one name.
    #[error("two sellers are called `{0}`")]
    #[diagnostic(help("give each [[provider]] its own name; `{LOCAL_SELLER}` is the node on this machine"))]
    Twice(String),
    /// One seller offers one model twice.
    #[error("`{seller}` offers `{model}` twice")]
    #[diagnostic(help(
        "give one of them a `variant`, such as its region: the seller is then called `name/variant`"
    ))]
    OfferTwice {
        /// Who.
        seller: SellerName,
        /// What.
        model: ModelSlug,
    },
    /// A dialect that nobody speaks.
    #[error("provider `{provider}` speaks `{kind}`, which this market does not")]
    #[diagnostic(help(
        "it speaks {known}; kind = \"openai-compatible\" fits every server with an OpenAI-compatible API"
    ))]
    Kind {
        /// Whose.
        provider: String,
        /// What was written.
        kind: String,
        /// What could be.
        known: String,
    },
    /// An endpoint that the dialect does not have.
    #[error("provider `{provider}` of kind `{kind}` cannot be asked for `{operation}`")]
    #[diagnostic(help("leave it out of `operations`, or choose the kind whose API has it"))]
    Unspoken {
        /// Whose.
        provider: String,
        /// Its kind.
        kind: &'static str,
        /// What was written.
        operation: String,
    },
    /// A word that is none of those that are known.
    #[error("{field} knows no `{word}`")]
    #[diagnostic(help("it knows {known}"))]
    Word {
        /// Which field.
        field: String,
        /// What was written.
        word: String,
        /// What could be.
        known: String,
    },
    /// A field that cannot be left out.
    #[error("{field} is missing{when}")]
    #[diagnostic(help("`bourse config explain` shows what it means"))]
    Missing {
        /// Which field.
        field: String,
        /// Why it is needed; empty where it always is.
        when: &'static str,
    },
    /// Names and changes of names in one list.
    #[error("{field} mixes names with changes")]
    #[diagnostic(help("write all names, or only names with + and - that change what the kind usually can"))]
    MixedList {
        /// Which field.
        field: String,
    },
    /// Zero data retention, and what it excludes.
    #[error("{place} promises zero data retention and retains or trains")]
    #[diagnostic(help("remove `zdr`, or `retains_prompts` and `trains_on_prompts`"))]
    Contradiction {
        /// Whose.
        place: String,
    },
    /// Free, with a price.
    #[error("{place} is free and has a price")]
    #[diagnostic(help("remove `free`, or the prices"))]
    FreeAndPriced {
        /// Whose.
        place: String,
    },
    /// The variable that should hold a key is not set.
    #[error("{place} needs its key in the environment variable {variable}")]
    #[diagnostic(help("set it before `bourse up`, or remove api_key_env when the API asks for no key"))]
    NoKey {
        /// Whose.
        place: String,
        /// Which variable.
        variable: String,
    },
    /// A key in a variable and in a file.
    #[error("{place} has api_key_env and api_key_file")]
    #[diagnostic(help("keep one"))]
    TwoKeys {
        /// Whose.
        place: String,
    },
    /// The file that should hold a key does not do.
    #[error("{place}: the file {path} with its key {why}")]
    #[diagnostic(help("a key file holds the key alone and may be read by its owner only"))]
    KeyFile {
        /// Whose.
        place: String,
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tokenizer that cannot be counted with.
    #[error("{place} cannot be used")]
    #[diagnostic(help("`bourse tokens pin FILE` prints the pin of the tokenizer that is there"))]
    Tokenizer {
        /// Whose.
        place: String,
        /// Why.
        #[source]
        source: Box<bourse_tokens::PinError>,
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

/// What the exchange in this data directory is told.
pub fn exchange(config: &Config, data_dir: &Path) -> Result<ExchangeConfig, WiringError> {
    let fee_bps = share("exchange.fee_bps", config.exchange.fee_bps)?;
    let free = &config.exchange.byok_free_usd_per_month;
    let byok = ByokTerms {
        fee_bps: share("exchange.byok_fee_bps", config.exchange.byok_fee_bps)?,
        free_per_month: config::amount("exchange.byok_free_usd_per_month", free)?,
    };
    let starting_credit = config::amount("exchange.starting_credit", &config.exchange.starting_credit)?;
    // Gateways on other machines stream on and settle with the next exchange.
    let holds =
        if config.exchange.listen.is_some() { Holds::OutliveExchange } else { Holds::EndWithExchange };
    let payouts = payouts(config, data_dir)?;
    Ok(ExchangeConfig { fee_bps, byok, starting_credit, holds, payouts, ..ExchangeConfig::default() })
}

/// How sellers are paid.
fn payouts(config: &Config, data_dir: &Path) -> Result<PayoutTerms, WiringError> {
    let minimum = config::amount("payouts.minimum", &config.payouts.minimum)?;
    let name = &config.payouts.rail;
    let unusable = |why: String| WiringError::Unusable { field: "payouts.rail".to_owned(), why };
    let rail = Rail::open(name, data_dir).ok_or_else(|| {
        let known: Vec<_> = bourse_rails::names().collect();
        unusable(format!("`{name}` is no payment rail; it can be {}", known.join(" or ")))
    })?;
    Ok(PayoutTerms { minimum, rail: rail.map_err(|error| unusable(error.to_string()))? })
}

/// Refuses a zero where it would refuse every request.
fn not_zero(field: impl Into<String>, value: u64) -> Result<(), WiringError> {
    if value > 0 {
        return Ok(());
    }
    Err(WiringError::Unusable { field: field.into(), why: "it must be at least 1".to_owned() })
}

fn share(field: &'static str, bps: u32) -> Result<u32, WiringError> {
    let (value, max) = (bps.into(), FEE_BPS_MAX.into());
    if bps > FEE_BPS_MAX { Err(WiringError::TooLarge { field, value, max }) } else { Ok(bps) }
}

/// What the local node asks.
pub fn node_prices(config: &Config) -> Result<PriceSchedule, WiringError> {
    prices("node", &config.node.price_prompt, &config.node.price_completion)
}

/// Whether the local node is free, and what the same would cost then.
pub fn node_free(config: &Config) -> Result<Free, WiringError> {
    let node = &config.node;
    sellers::of_node(&node_prices(config)?, &node.list_price_prompt, &node.list_price_completion)
}

/// What the gateway is told, but for its nodes and its admin token, which come from the data directory.
pub fn gateway(config: &Config, environment: &Environment) -> Result<GatewayConfig, WiringError> {
    let gateway = &config.gateway;
    let durability = match gateway.durability {
        config::Durability::Group => Durability::Group,
        config::Durability::Strict => Durability::Strict,
    };
    for (field, value) in [
        ("gateway.request_timeout_ms", gateway.request_timeout_ms),
        ("gateway.connect_timeout_ms", gateway.connect_timeout_ms),
        ("gateway.first_content_timeout_ms", gateway.first_content_timeout_ms),
        ("gateway.idle_timeout_ms", gateway.idle_timeout_ms),
    ] {
        not_zero(field, value)?;
    }
    let total = Duration::from_millis(gateway.request_timeout_ms);
    let usual = Timeouts::default();
    let timeouts = Timeouts {
        // As long as time for another seller is left.
        plain_answer: usual.plain_answer.min(total / 2),
        connect: Duration::from_millis(gateway.connect_timeout_ms),
        first_content: Duration::from_millis(gateway.first_content_timeout_ms),
        idle: Duration::from_millis(gateway.idle_timeout_ms),
        total,
        drain: Duration::from_millis(gateway.drain_timeout_ms),
        ..usual
    };
    let (providers, lists): (Vec<_>, Vec<_>) = providers(config, environment)?.into_iter().unzip();
    let lists = lists.into_iter().flatten().collect();
    let traces =
        traces::endpoint(config, environment).map(|_| Arc::new(TraceParent) as Arc<dyn TraceContext>);
    let byok_fee_bps = share("exchange.byok_fee_bps", config.exchange.byok_fee_bps)?;
    let aliases = names::aliases(&config.alias)?;
    let presets = names::presets(&config.preset)?;
    let quantizations = quantizations(&gateway.quantizations)?;
    let dedupe_window = dedupe_window(gateway.dedupe_window_s)?;
    Ok(GatewayConfig {
        durability,
        timeouts,
        providers,
        byok_fee_bps,
        lists,
        aliases,
        presets,
        quantizations,
        dedupe_window,
        traces,
        ..GatewayConfig::default()
    })
}

/// None where equal requests are several.
fn dedupe_window(value: u64) -> Result<Option<Duration>, WiringError> {
    let (field, max) = ("gateway.dedupe_window_s", DEDUPE_WINDOW_MAX.as_secs());
    if value > max {
        return Err(WiringError::TooLarge { field, value, max });
    }
    Ok((value > 0).then(|| Duration::from_secs(value)))
}

/// The weights that answer requests which do not say; none where any do.
fn quantizations(text: &str) -> Result<Option<QuantizationSet>, WiringError> {
    let mut set = None;
    for text in text.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let one = word("gateway", "quantizations", text, &Quantization::ALL, Quantization::as_str)?;
        set = Some(set.unwrap_or(QuantizationSet::default()).with(one));
    }
    Ok(set)
}

fn providers(
    config: &Config,
    environment: &Environment,
) -> Result<Vec<(ProviderConfig, Option<FollowedList>)>, WiringError> {
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
    config.provider.iter().map(|section| sellers::provider(section, environment)).collect()
}

/// The value that a word of a closed list stands for.
fn word<T: Copy>(
    place: &str,
    field: &str,
    text: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, WiringError> {
    all.iter().copied().find(|value| name(*value) == text).ok_or_else(|| WiringError::Word {
        field: format!("{place}.{field}"),
        word: text.to_owned(),
        known: all.iter().map(|value| name(*value)).collect::<Vec<_>>().join(", "),
    })
}

fn prices(place: &str, prompt: &str, completion: &str) -> Result<PriceSchedule, WiringError> {
    let prompt = config::price(&format!("{place}.price_prompt"), prompt)?;
    let completion = config::price(&format!("{place}.price_completion"), completion)?;
    Ok(PriceSchedule::per_token(prompt, completion))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProviderSection;
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
    fn a_whole_answer_leaves_time_for_a_second_seller() {
        let timeouts = |text: &str| gateway(&parsed(text), &Environment::default()).unwrap().timeouts;
        let short = timeouts("[gateway]\nrequest_timeout_ms = 12000\n");
        assert_eq!((short.total, short.plain_answer), (Duration::from_secs(12), Duration::from_secs(6)));
        assert_eq!(
            timeouts("").plain_answer,
            Timeouts::default().plain_answer,
            "the usual one is half of the usual"
        );
        let zero =
            gateway(&parsed("[gateway]\nrequest_timeout_ms = 0\n"), &Environment::default()).unwrap_err();
        assert!(crate::report::render(&zero).contains("must be at least 1"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |from: &str, to: &str, want: &str| {
            assert_eq!(refusal(&MAPLE.replace(from, to)), format!("error: {want}"));
        };
        check("\"openai\"", "\"smoke\"", "provider `maple` speaks `smoke`, which this market does not");
        check("MAPLE", "OAK", "provider `maple` needs its key in the environment variable OAK");
        let hidden = "provider `maple` needs its key in the environment variable that api_key_env names (not shown: it may be the key itself)";
        for key in ["sk-0123456789abcdef", "gsk_0123456789", "AIzaSyD0123456789"] {
            check("MAPLE", key, hidden);
            check(
                "\"maple\"",
                &format!("\"sk-{key}\""),
                "provider name (not shown: it looks like a key) is not a name",
            );
        }
        check(
            "\"maple\"",
            "\"seller:maple\"",
            "provider name `seller:maple` cannot be used: `seller:` begins the names of sellers' accounts",
        );
        check("\"maple\"", "\"local\"", "two sellers are called `local`");
        check("\"maple\"", "\"ma ple\"", "provider name `ma ple` is not a name");
        let request = "provider `maple`: model `a/b`.price_request is not an amount";
        check("price_prompt", "price_request = \"-1\"\nprice_prompt", request);
        check("\"0.1\"", "\"free\"", "provider `maple`: model `a/b`.price_prompt is not a price");
        assert_eq!(refusal(&format!("{MAPLE}{MAPLE}")), "error: two sellers are called `maple`");
    }

    #[test]
    fn the_window_of_equal_requests_is_bounded_and_off_by_default() {
        let window = |text: &str| gateway(&parsed(text), &Environment::default()).map(|g| g.dedupe_window);
        let of = |seconds: u64| window(&format!("[gateway]\ndedupe_window_s = {seconds}\n"));
        assert_eq!(window("").unwrap(), None);
        assert_eq!(of(0).unwrap(), None);
        assert_eq!(of(86_400).unwrap(), Some(Duration::from_hours(24)));
        let over = of(86_401).unwrap_err().to_string();
        assert_eq!(over, "gateway.dedupe_window_s is 86401, at most 86400 is possible");
    }

    #[test]
    fn weights_are_admitted_by_name() {
        let admitted = |words: &str| {
            let config = parsed(&format!("[gateway]\nquantizations = \"{words}\"\n"));
            gateway(&config, &Environment::default()).map(|wired| wired.quantizations)
        };
        assert_eq!(admitted("").unwrap(), None);
        let two = QuantizationSet::default().with(Quantization::Bf16).with(Quantization::Unknown);
        assert_eq!(admitted("bf16, unknown").unwrap(), Some(two));
        let wrong = admitted("bf16,q4").unwrap_err().to_string();
        assert!(wrong.contains("gateway.quantizations") && wrong.contains("q4"), "{wrong}");
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
            exchange(&config, Path::new("")).is_ok()
        };
        assert!(check(FEE_BPS_MAX));
        assert!(!check(FEE_BPS_MAX + 1));
    }

    #[test]
    fn rails_are_named_and_the_least_payout_is_an_amount() {
        let folder = tempfile::tempdir().unwrap();
        let check = |rail: &str, minimum: &str, want: Result<NanoUsd, &str>| {
            let mut config = Config::default();
            (config.payouts.rail, config.payouts.minimum) = (rail.to_owned(), minimum.to_owned());
            let got = exchange(&config, folder.path()).map(|config| config.payouts.minimum);
            match want {
                Ok(want) => assert_eq!(got.unwrap(), want),
                Err(want) => {
                    assert!(crate::report::render(&got.unwrap_err()).contains(want), "{rail} {minimum}");
                }
            }
        };
        check("manual", "10", Ok(NanoUsd::from_usd(10)));
        check("fake", "0.5", Ok(NanoUsd(500_000_000)));
        check("pigeon", "10", Err("`pigeon` is no payment rail; it can be manual or fake"));
        check("manual", "ten", Err("payouts.minimum"));
    }
}

//! The `provider` object: the buyer's routing rules.
//!
//! Every member of the field's object is read; one that is not known is refused, with the nearest that is,
//! because a rule that is silently ignored sends the prompt where the buyer did not want it. Prices are exact
//! decimals. Source: reference, router §1.3.

use super::{boolean, nearest, string, wrong};
use crate::dialect::PREFERENCE_NAMES_MAX;
use crate::error::ApiError;
use crate::json::{Walk, without_exponent};
use bourse_types::{NanoUsd, PicoUsdPerToken, SellerName};
use std::borrow::Cow;

/// Nano-dollars per million tokens in one pico-dollar per token.
const NANO_PER_MILLION_IN_PICO_PER_TOKEN: u64 = 1_000;
/// Largest throughput or latency in a preference, in its own unit.
const CUTOFF_MAX: f64 = 1e9;
/// Longest word in `quantizations` or `regions`, in bytes.
pub const PREFERENCE_WORD_BYTES_MAX: usize = 64;

/// How the buyer wants sellers ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// Cheapest first.
    Price,
    /// Most tokens per second first.
    Throughput,
    /// Earliest first token first.
    Latency,
    /// Best at calling tools first.
    Exacto,
}

/// What is ordered when several models are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Partition {
    /// The sellers of one model; further models stay fallbacks.
    #[default]
    Model,
    /// The sellers of all models together.
    None,
}

/// Whether sellers that keep or train on prompts may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataCollection {
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

/// Cut-offs by percentile, in thousandths of the field's unit. A bare number is the median's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cutoffs {
    /// Half of the requests.
    pub p50: Option<u64>,
    /// Three of four.
    pub p75: Option<u64>,
    /// Nine of ten.
    pub p90: Option<u64>,
    /// All but one of a hundred.
    pub p99: Option<u64>,
}

/// The `provider` object: the buyer's routing rules.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub struct Preferences {
    /// Sellers to try first, in this order.
    pub order: Vec<SellerName>,
    /// Only these sellers; empty means all.
    pub only: Vec<SellerName>,
    /// Never these sellers.
    pub ignore: Vec<SellerName>,
    /// Whether sellers beyond the first choice may be tried.
    pub allow_fallbacks: bool,
    /// Whether a seller must support every parameter that was sent.
    pub require_parameters: bool,
    /// Whether sellers that keep prompts may be used; none when the buyer does not say.
    pub data_collection: Option<DataCollection>,
    /// Only sellers that retain nothing. Can only tighten what the account says.
    pub zdr: bool,
    /// Only models whose author allows distillation.
    pub enforce_distillable_text: bool,
    /// Deterministic order instead of the weighted draw.
    pub sort: Option<SortBy>,
    /// What is ordered.
    pub partition: Partition,
    /// Highest price per prompt token.
    pub max_price_prompt: Option<PicoUsdPerToken>,
    /// Highest price per completion token.
    pub max_price_completion: Option<PicoUsdPerToken>,
    /// Highest price per request.
    pub max_price_request: Option<NanoUsd>,
    /// Highest price per image.
    pub max_price_image: Option<NanoUsd>,
    /// Highest price per unit of sound.
    pub max_price_audio: Option<NanoUsd>,
    /// Thousandths of a token per second that a seller should reach. Soft.
    pub preferred_min_throughput: Option<Cutoffs>,
    /// Milliseconds to the first token that a seller should keep within. Soft.
    pub preferred_max_latency: Option<Cutoffs>,
    /// When not empty: only offers whose weights are stored in one of these forms, in the field's words.
    pub quantizations: Vec<String>,
    /// When not empty: only offers in one of these regions. Ours.
    pub regions: Vec<String>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            only: Vec::new(),
            ignore: Vec::new(),
            allow_fallbacks: true,
            require_parameters: false,
            data_collection: None,
            zdr: false,
            enforce_distillable_text: false,
            sort: None,
            partition: Partition::Model,
            max_price_prompt: None,
            max_price_completion: None,
            max_price_request: None,
            max_price_image: None,
            max_price_audio: None,
            preferred_min_throughput: None,
            preferred_max_latency: None,
            quantizations: Vec::new(),
            regions: Vec::new(),
        }
    }
}

const MEMBERS: [&str; 15] = [
    "order",
    "only",
    "ignore",
    "allow_fallbacks",
    "require_parameters",
    "data_collection",
    "zdr",
    "enforce_distillable_text",
    "sort",
    "max_price",
    "preferred_min_throughput",
    "preferred_max_latency",
    "quantizations",
    "regions",
    "partition",
];
const PRICES: [&str; 5] = ["prompt", "completion", "request", "image", "audio"];
const PERCENTILES: [&str; 4] = ["p50", "p75", "p90", "p99"];

/// Reads the `provider` object.
pub(crate) fn preferences(raw: &str) -> Result<Preferences, ApiError> {
    let mut out = Preferences::default();
    members("provider", raw, |name, raw| out.member(name, raw))?;
    Ok(out)
}

impl Preferences {
    pub(super) fn member(&mut self, name: &str, raw: &str) -> Result<(), ApiError> {
        match name {
            "order" => self.order = names("provider.order", raw)?,
            "only" => self.only = names("provider.only", raw)?,
            "ignore" => self.ignore = names("provider.ignore", raw)?,
            "allow_fallbacks" => self.allow_fallbacks = boolean("provider.allow_fallbacks", raw)?,
            "require_parameters" => self.require_parameters = boolean("provider.require_parameters", raw)?,
            "zdr" => self.zdr = boolean("provider.zdr", raw)?,
            "enforce_distillable_text" => {
                self.enforce_distillable_text = boolean("provider.enforce_distillable_text", raw)?;
            }
            "data_collection" => {
                self.data_collection = Some(match raw {
                    "\"allow\"" => DataCollection::Allow,
                    "\"deny\"" => DataCollection::Deny,
                    _ => return Err(wrong("provider.data_collection", "\"allow\" or \"deny\"")),
                });
            }
            "sort" => self.sort(raw)?,
            "max_price" => members("provider.max_price", raw, |name, raw| self.max_price(name, raw))?,
            "preferred_min_throughput" => {
                self.preferred_min_throughput = Some(cutoffs("provider.preferred_min_throughput", raw)?);
            }
            "preferred_max_latency" => {
                self.preferred_max_latency = Some(cutoffs("provider.preferred_max_latency", raw)?);
            }
            "quantizations" => self.quantizations = words("provider.quantizations", raw)?,
            "regions" => self.regions = words("provider.regions", raw)?,
            "partition" => {
                return Err(ApiError::field(
                    "provider.partition",
                    "`partition` belongs into `provider.sort`: send {\"by\":\"price\",\"partition\":\"none\"}",
                ));
            }
            other => return Err(unknown("provider", other, &MEMBERS[..MEMBERS.len() - 1])),
        }
        Ok(())
    }

    /// `"price"`, or `{"by":"price","partition":…}`.
    fn sort(&mut self, raw: &str) -> Result<(), ApiError> {
        if !raw.starts_with('{') {
            self.sort = Some(sort_by("provider.sort", raw)?);
            return Ok(());
        }
        members("provider.sort", raw, |name, raw| {
            match name {
                "by" => self.sort = Some(sort_by("provider.sort.by", raw)?),
                "partition" => {
                    self.partition = match raw {
                        "\"model\"" => Partition::Model,
                        "\"none\"" => Partition::None,
                        _ => return Err(wrong("provider.sort.partition", "\"model\" or \"none\"")),
                    }
                }
                other => return Err(unknown("provider.sort", other, &["by", "partition"])),
            }
            Ok(())
        })
    }

    fn max_price(&mut self, name: &str, raw: &str) -> Result<(), ApiError> {
        match name {
            "prompt" => self.max_price_prompt = Some(per_token("provider.max_price.prompt", raw)?),
            "completion" => {
                self.max_price_completion = Some(per_token("provider.max_price.completion", raw)?);
            }
            "request" => self.max_price_request = Some(usd("provider.max_price.request", raw)?),
            "image" => self.max_price_image = Some(usd("provider.max_price.image", raw)?),
            "audio" => self.max_price_audio = Some(usd("provider.max_price.audio", raw)?),
            other => return Err(unknown("provider.max_price", other, &PRICES)),
        }
        Ok(())
    }
}

/// Walks over an object; nulls are absent, and a member may stand once.
pub(crate) fn members(
    field: &str,
    raw: &str,
    mut each: impl FnMut(&str, &str) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    if !raw.starts_with('{') {
        return Err(wrong(field, "an object"));
    }
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    let mut walk = Walk::new(raw);
    walk.members::<ApiError>(|walk, key| {
        let name = super::unescaped(walk.text(key));
        let value = walk.value()?;
        if seen.contains(&name) {
            return Err(ApiError::field(
                format!("{field}.{name}"),
                format!("`{field}.{name}` is given twice: keep one"),
            ));
        }
        let raw = walk.text(value);
        if raw != "null" {
            each(&name, raw)?;
        }
        seen.push(name);
        Ok(())
    })
}

/// A member that is not known, and the nearest that is.
pub(crate) fn unknown(field: &str, name: &str, known: &[&str]) -> ApiError {
    let shown = &name[..name.floor_char_boundary(PREFERENCE_WORD_BYTES_MAX)];
    let mend = nearest(shown, known).map_or_else(
        || format!("it knows {}", known.join(", ")),
        |near| format!("did you mean `{near}`? It knows {}", known.join(", ")),
    );
    ApiError::field(format!("{field}.{shown}"), format!("`{field}` has no member `{shown}`: {mend}"))
}

fn sort_by(field: &str, raw: &str) -> Result<SortBy, ApiError> {
    match raw {
        "\"price\"" => Ok(SortBy::Price),
        "\"throughput\"" => Ok(SortBy::Throughput),
        "\"latency\"" => Ok(SortBy::Latency),
        "\"exacto\"" => Ok(SortBy::Exacto),
        _ => Err(wrong(field, "\"price\", \"throughput\", \"latency\" or \"exacto\"")),
    }
}

fn strings<'a>(field: &str, raw: &'a str, what: &str) -> Result<Vec<Cow<'a, str>>, ApiError> {
    let want = || wrong(field, &format!("an array of at most {PREFERENCE_NAMES_MAX} {what}"));
    if !raw.starts_with('[') {
        return Err(want());
    }
    let mut list = Vec::new();
    Walk::new(raw).items::<ApiError>(|walk| {
        if list.len() == PREFERENCE_NAMES_MAX {
            return Err(want());
        }
        let value = walk.value()?;
        list.push(string(field, walk.text(value)).map_err(|_| want())?);
        Ok(())
    })?;
    Ok(list)
}

fn names(field: &'static str, raw: &str) -> Result<Vec<SellerName>, ApiError> {
    let parse = |name: &Cow<'_, str>| {
        SellerName::parse(name)
            .map_err(|e| ApiError::field(field, format!("`{field}` holds a bad name: {e}")))
    };
    strings(field, raw, "seller names")?.iter().map(parse).collect()
}

fn words(field: &'static str, raw: &str) -> Result<Vec<String>, ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let check = |word: Cow<'_, str>| {
        if (1..=PREFERENCE_WORD_BYTES_MAX).contains(&word.len()) && word.chars().all(allowed) {
            return Ok(word.into_owned());
        }
        Err(wrong(field, &format!("words of 1 to {PREFERENCE_WORD_BYTES_MAX} letters, digits, . _ -")))
    };
    strings(field, raw, "words")?.into_iter().map(check).collect()
}

/// A number, or an object of percentiles.
fn cutoffs(field: &'static str, raw: &str) -> Result<Cutoffs, ApiError> {
    let mut out = Cutoffs::default();
    if !raw.starts_with('{') {
        out.p50 = Some(thousandths(field, raw)?);
        return Ok(out);
    }
    members(field, raw, |name, raw| {
        let slot = match name {
            "p50" => &mut out.p50,
            "p75" => &mut out.p75,
            "p90" => &mut out.p90,
            "p99" => &mut out.p99,
            other => return Err(unknown(field, other, &PERCENTILES)),
        };
        *slot = Some(thousandths(field, raw)?);
        Ok(())
    })?;
    Ok(out)
}

fn thousandths(field: &str, raw: &str) -> Result<u64, ApiError> {
    let is_number = raw.starts_with(|c: char| c.is_ascii_digit());
    let value: Option<f64> = raw.parse().ok().filter(|v: &f64| is_number && (0.0..=CUTOFF_MAX).contains(v));
    let want = || wrong(field, "a number from 0 to 1e9, or an object of such numbers by p50, p75, p90, p99");
    value.map(|v| (v * 1_000.0).round() as u64).ok_or_else(want)
}

/// A dollar amount as a JSON number or string, exactly. Languages write small numbers with an exponent by themselves.
fn usd(field: &'static str, raw: &str) -> Result<NanoUsd, ApiError> {
    let plain = without_exponent(raw);
    NanoUsd::parse_usd(plain.as_deref().unwrap_or(raw.trim_matches('"')))
        .map_err(|e| ApiError::field(field, format!("`{field}` must be a plain dollar amount: {e}")))
}

/// Dollars per million tokens, rounded down to whole pico-dollars per token.
fn per_token(field: &'static str, raw: &str) -> Result<PicoUsdPerToken, ApiError> {
    usd(field, raw).map(|per_million| PicoUsdPerToken(per_million.0 / NANO_PER_MILLION_IN_PICO_PER_TOKEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_may_have_an_exponent() {
        for (raw, nano) in [
            ("1e-05", 10_000),
            ("1.5E-6", 1_500),
            ("2e3", 2_000_000_000_000),
            ("0.25e+1", 2_500_000_000),
            ("12.30e-0", 12_300_000_000),
            ("1000e-12", 1),
            ("0e7", 0),
        ] {
            assert_eq!(usd("x", raw).map(|amount| amount.0), Ok(nano), "{raw}");
            // Serde reads the same number.
            let float: f64 = serde_json::from_str(raw).unwrap();
            assert!((float * 1e9 - nano as f64).abs() < 1e-3, "{raw}");
        }
    }

    #[test]
    fn every_member_of_the_field_is_read() {
        let raw = r#"{"order":["a/b"],"only":["a"],"ignore":["z"],"allow_fallbacks":false,"require_parameters":true,
            "data_collection":"deny","zdr":true,"enforce_distillable_text":true,"quantizations":["fp8","bf16"],"regions":["eu"],
            "sort":{"by":"throughput","partition":"none"},
            "max_price":{"prompt":1.5,"completion":"2.000001","request":0.01,"image":"0.5","audio":3},
            "preferred_min_throughput":40.5,"preferred_max_latency":{"p50":0.5,"p99":3}}"#;
        let seller = |name: &str| SellerName::parse(name).unwrap();
        let want = Preferences {
            order: vec![seller("a/b")],
            only: vec![seller("a")],
            ignore: vec![seller("z")],
            allow_fallbacks: false,
            require_parameters: true,
            data_collection: Some(DataCollection::Deny),
            zdr: true,
            enforce_distillable_text: true,
            sort: Some(SortBy::Throughput),
            partition: Partition::None,
            max_price_prompt: Some(PicoUsdPerToken(1_500_000)),
            max_price_completion: Some(PicoUsdPerToken(2_000_001)),
            max_price_request: Some(NanoUsd(10_000_000)),
            max_price_image: Some(NanoUsd(500_000_000)),
            max_price_audio: Some(NanoUsd(3_000_000_000)),
            preferred_min_throughput: Some(Cutoffs { p50: Some(40_500), ..Cutoffs::default() }),
            preferred_max_latency: Some(Cutoffs { p50: Some(500), p99: Some(3_000), ..Cutoffs::default() }),
            quantizations: vec!["fp8".into(), "bf16".into()],
            regions: vec!["eu".into()],
        };
        assert_eq!(preferences(raw), Ok(want));
        assert_eq!(preferences(r#"{"zdr":null,"sort":null}"#), Ok(Preferences::default()));
    }

    fn check(raw: &str, param: &str, part: &str) {
        let error = preferences(raw).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
        assert!(error.message.contains(part), "{error}");
    }

    #[test]
    fn what_is_not_known_is_named_with_the_nearest() {
        check(r#"{"ordr":[]}"#, "provider.ordr", "did you mean `order`?");
        check(r#"{"require_parameter":true}"#, "provider.require_parameter", "`require_parameters`?");
        check(r#"{"quant":[]}"#, "provider.quant", "it knows order, only");
        check(r#"{"max_price":{"promt":1}}"#, "provider.max_price.promt", "`prompt`?");
        check(r#"{"sort":{"bye":"price"}}"#, "provider.sort.bye", "`by`?");
        check(r#"{"preferred_max_latency":{"p95":1}}"#, "provider.preferred_max_latency.p95", "p50");
        check(r#"{"partition":"none"}"#, "provider.partition", "provider.sort");
    }

    #[test]
    fn wrong_values_are_refused() {
        check("[]", "provider", "an object");
        check(r#"{"zdr":1}"#, "provider.zdr", "true or false");
        check(r#"{"zdr":true,"zdr":false}"#, "provider.zdr", "twice");
        check(r#"{"data_collection":"maybe"}"#, "provider.data_collection", "\"deny\"");
        check(r#"{"sort":"fun"}"#, "provider.sort", "\"exacto\"");
        check(r#"{"order":"a"}"#, "provider.order", "an array");
        check(r#"{"regions":["e u"]}"#, "provider.regions", "letters");
        check(r#"{"max_price":{"prompt":-1}}"#, "provider.max_price.prompt", "plain dollar amount");
        check(r#"{"max_price":{"prompt":1e-99}}"#, "provider.max_price.prompt", "plain dollar amount");
        check(r#"{"max_price":{"prompt":-1e-3}}"#, "provider.max_price.prompt", "plain dollar amount");
        check(r#"{"max_price":{"request":1e-10}}"#, "provider.max_price.request", "plain dollar amount");
        check(r#"{"preferred_min_throughput":-1}"#, "provider.preferred_min_throughput", "a number");
        check(r#"{"preferred_min_throughput":1e999}"#, "provider.preferred_min_throughput", "a number");
    }

    #[test]
    fn lists_and_words_are_bounded() {
        let regions = |n: usize| preferences(&format!(r#"{{"regions":[{}]}}"#, vec!["\"eu\""; n].join(",")));
        assert!(regions(PREFERENCE_NAMES_MAX).is_ok());
        assert!(regions(PREFERENCE_NAMES_MAX + 1).is_err());
        let word = |n: usize| preferences(&format!(r#"{{"regions":["{}"]}}"#, "e".repeat(n)));
        assert!(word(PREFERENCE_WORD_BYTES_MAX).is_ok());
        assert!(word(PREFERENCE_WORD_BYTES_MAX + 1).is_err());
    }
}

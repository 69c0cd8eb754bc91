//! Reading single fields: types, ranges, and messages that name the field and the remedy.

use super::{LOGIT_BIAS_MAX, MODELS_MAX, PREFERENCE_NAMES_MAX, SESSION_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX};
use crate::error::ApiError;
use crate::json::Walk;
use crate::node::Sampling;
use bourse_types::{ModelSlug, NanoUsd, PicoUsdPerToken, SellerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// Nano-dollars per million tokens in one pico-dollar per token.
const NANO_PER_MILLION_IN_PICO_PER_TOKEN: u64 = 1_000;

/// How the buyer wants sellers ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// Cheapest first.
    Price,
    /// Earliest first token first.
    Latency,
}

/// The `provider` object: the buyer's routing rules.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Deterministic order instead of the weighted draw.
    pub sort: Option<SortBy>,
    /// Highest price per prompt token.
    pub max_price_prompt: Option<PicoUsdPerToken>,
    /// Highest price per completion token.
    pub max_price_completion: Option<PicoUsdPerToken>,
    /// Highest price per request.
    pub max_price_request: Option<NanoUsd>,
    /// When not empty: only offers whose weights are stored in one of these forms, in the field's words.
    pub quantizations: Vec<String>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            only: Vec::new(),
            ignore: Vec::new(),
            allow_fallbacks: true,
            require_parameters: false,
            sort: None,
            max_price_prompt: None,
            max_price_completion: None,
            max_price_request: None,
            quantizations: Vec::new(),
        }
    }
}

/// The wrong type, and what is right.
pub(super) fn wrong(field: &str, want: &str) -> ApiError {
    ApiError::field(field.to_owned(), format!("`{field}` must be {want}"))
}

pub(super) fn string<'a>(field: &str, raw: &'a str) -> Result<Cow<'a, str>, ApiError> {
    serde_json::from_str::<Text<'a>>(raw).map(|t| t.0).map_err(|_| wrong(field, "a string"))
}

/// A borrowed string where there are no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(super) fn boolean(field: &str, raw: &str) -> Result<bool, ApiError> {
    match raw {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(field, "true or false")),
    }
}

pub(super) fn whole(field: &str, raw: &str, min: u32, max: u32) -> Result<u32, ApiError> {
    let value: Option<u32> = raw.parse().ok().filter(|v| (min..=max).contains(v));
    value.ok_or_else(|| wrong(field, &format!("a whole number from {min} to {max}")))
}

pub(super) fn seed(raw: &str) -> Result<i64, ApiError> {
    raw.parse().map_err(|_| wrong("seed", "a whole number that fits 64 bits"))
}

/// A number within `min..=max`. JSON has no NaN and no infinity, but `1e999` overflows: refused.
pub(super) fn number(field: &str, raw: &str, min: f32, max: f32) -> Result<f32, ApiError> {
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let value: Option<f32> = raw.parse().ok().filter(|v: &f32| is_number && (min..=max).contains(v));
    value.ok_or_else(|| wrong(field, &format!("a number from {min} to {max}")))
}

pub(super) fn stops(raw: &str) -> Result<Vec<String>, ApiError> {
    let want = || {
        wrong(
            "stop",
            &format!("a string or an array of at most {STOPS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes"),
        )
    };
    let list: Vec<String> = if raw.starts_with('[') {
        serde_json::from_str(raw).map_err(|_| want())?
    } else {
        vec![string("stop", raw).map_err(|_| want())?.into_owned()]
    };
    let sized = list.iter().all(|s| (1..=STOP_BYTES_MAX).contains(&s.len()));
    if list.len() > STOPS_MAX || !sized { Err(want()) } else { Ok(list) }
}

pub(super) fn logit_bias(raw: &str) -> Result<Vec<(u32, f32)>, ApiError> {
    let want = || {
        wrong(
            "logit_bias",
            &format!("an object of at most {LOGIT_BIAS_MAX} token ids, each with a number from -100 to 100"),
        )
    };
    let map: std::collections::BTreeMap<Cow<'_, str>, f32> = serde_json::from_str(raw).map_err(|_| want())?;
    if map.len() > LOGIT_BIAS_MAX {
        return Err(want());
    }
    let entry = |(token, bias): (Cow<'_, str>, f32)| {
        let token = token.parse().map_err(|_| want())?;
        if (-100.0..=100.0).contains(&bias) { Ok((token, bias)) } else { Err(want()) }
    };
    map.into_iter().map(entry).collect()
}

pub(super) fn model(field: &'static str, raw: &str) -> Result<ModelSlug, ApiError> {
    let text = string(field, raw)?;
    ModelSlug::parse(&text).map_err(|e| ApiError::field(field, format!("`{field}` is not a model name: {e}")))
}

pub(super) fn models(raw: &str) -> Result<Vec<ModelSlug>, ApiError> {
    let want = || wrong("models", &format!("an array of 1 to {MODELS_MAX} model names"));
    let list: Vec<Cow<'_, str>> = serde_json::from_str(raw).map_err(|_| want())?;
    if list.is_empty() || list.len() > MODELS_MAX {
        return Err(want());
    }
    let parse = |name: &Cow<'_, str>| {
        ModelSlug::parse(name)
            .map_err(|e| ApiError::field("models", format!("`models` holds a bad name: {e}")))
    };
    list.iter().map(parse).collect()
}

/// The span of the one string in `"text"` or `["text"]`.
pub(super) fn prompt_span(raw: &str, span: &Range<usize>) -> Result<Range<usize>, ApiError> {
    let want = || wrong("prompt", "one string; send one request per prompt, and text instead of token ids");
    let mut walk = Walk::new(raw);
    let mut found = None;
    let mut one = |walk: &mut Walk<'_>| {
        if walk.peek() != b'"' || found.is_some() {
            return Err(want());
        }
        found = Some(walk.value().map_err(|_| want())?);
        Ok(())
    };
    if raw.starts_with('[') {
        walk.items(one)?;
    } else {
        one(&mut walk)?;
    }
    let found = found.ok_or_else(want)?;
    if found.len() <= 2 {
        return Err(ApiError::field("prompt", "`prompt` is empty: send some text"));
    }
    Ok(span.start + found.start..span.start + found.end)
}

pub(super) fn response_format(raw: &str) -> Result<bool, ApiError> {
    #[derive(serde::Deserialize)]
    struct Format<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    let want =
        || wrong("response_format", "an object with `type` \"text\", \"json_object\" or \"json_schema\"");
    let format: Format<'_> = serde_json::from_str(raw).map_err(|_| want())?;
    match format.kind.as_ref() {
        "text" => Ok(false),
        "json_object" | "json_schema" => Ok(true),
        _ => Err(want()),
    }
}

pub(super) fn session(raw: &str, span: &Range<usize>) -> Result<Range<usize>, ApiError> {
    let text = string("session_id", raw)?;
    if text.is_empty() || text.len() > SESSION_BYTES_MAX {
        return Err(wrong("session_id", &format!("a string of 1 to {SESSION_BYTES_MAX} bytes")));
    }
    Ok(span.start + 1..span.end - 1)
}

/// What an absent field means.
pub(super) fn default_sampling() -> Sampling {
    Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        logit_bias: Vec::new(),
        logprobs: None,
        stop: Vec::new(),
        max_tokens: None,
    }
}

/// The wire form of `provider`. Members that this market has no use for yet are accepted and do nothing
/// only when that cannot mislead; the privacy rules are refused, because ignoring them would.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PreferencesJson<'a> {
    #[serde(borrow)]
    order: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    only: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    ignore: Option<Vec<Cow<'a, str>>>,
    allow_fallbacks: Option<bool>,
    require_parameters: Option<bool>,
    #[serde(borrow)]
    sort: Option<&'a RawValue>,
    #[serde(borrow)]
    max_price: Option<MaxPriceJson<'a>>,
    #[serde(borrow)]
    data_collection: Option<Cow<'a, str>>,
    zdr: Option<bool>,
    quantizations: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MaxPriceJson<'a> {
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

pub(super) fn preferences(raw: &str) -> Result<Preferences, ApiError> {
    let json: PreferencesJson<'_> = serde_json::from_str(raw).map_err(|e| {
        let shown = e.to_string();
        let what = if raw.starts_with('{') { shown.as_str() } else { "it is not an object" };
        ApiError::field("provider", format!("`provider` does not have the documented form: {what}"))
    })?;
    if json.zdr == Some(true) || json.data_collection.as_deref() == Some("deny") {
        return Err(ApiError::field(
            "provider",
            "no seller here has a verified privacy tier yet: leave out `provider.zdr` and `provider.data_collection`, or name trusted sellers in `provider.only`",
        ));
    }
    let quantizations = json.quantizations.unwrap_or_default();
    if quantizations.len() > PREFERENCE_NAMES_MAX {
        return Err(wrong("provider.quantizations", &format!("at most {PREFERENCE_NAMES_MAX} words")));
    }
    let price = json.max_price.unwrap_or_default();
    Ok(Preferences {
        order: names("provider.order", json.order)?,
        only: names("provider.only", json.only)?,
        ignore: names("provider.ignore", json.ignore)?,
        allow_fallbacks: json.allow_fallbacks.unwrap_or(true),
        require_parameters: json.require_parameters.unwrap_or(false),
        sort: json.sort.map(sort_by).transpose()?,
        max_price_prompt: price.prompt.map(|p| per_token("provider.max_price.prompt", p)).transpose()?,
        max_price_completion: price
            .completion
            .map(|p| per_token("provider.max_price.completion", p))
            .transpose()?,
        max_price_request: price.request.map(|p| usd("provider.max_price.request", p)).transpose()?,
        quantizations,
    })
}

fn names(field: &'static str, list: Option<Vec<Cow<'_, str>>>) -> Result<Vec<SellerName>, ApiError> {
    let list = list.unwrap_or_default();
    if list.len() > PREFERENCE_NAMES_MAX {
        return Err(wrong(field, &format!("at most {PREFERENCE_NAMES_MAX} seller names")));
    }
    let parse = |name: &Cow<'_, str>| {
        SellerName::parse(name)
            .map_err(|e| ApiError::field(field, format!("`{field}` holds a bad name: {e}")))
    };
    list.iter().map(parse).collect()
}

/// `"price"`, or `{"by":"price","partition":…}`.
fn sort_by(raw: &RawValue) -> Result<SortBy, ApiError> {
    #[derive(Deserialize)]
    struct By<'a> {
        #[serde(borrow)]
        by: Cow<'a, str>,
    }
    let text = raw.get();
    let want = || wrong("provider.sort", "\"price\" or \"latency\"");
    let word = if text.starts_with('{') {
        serde_json::from_str::<By<'_>>(text).map_err(|_| want())?.by
    } else {
        string("provider.sort", text).map_err(|_| want())?
    };
    match word.as_ref() {
        "price" => Ok(SortBy::Price),
        "latency" => Ok(SortBy::Latency),
        _ => Err(want()),
    }
}

/// A dollar amount as a JSON number or string, exactly.
fn usd(field: &'static str, raw: &RawValue) -> Result<NanoUsd, ApiError> {
    NanoUsd::parse_usd(raw.get().trim_matches('"'))
        .map_err(|e| ApiError::field(field, format!("`{field}` must be a plain dollar amount: {e}")))
}

/// Dollars per million tokens, rounded down to whole pico-dollars per token.
fn per_token(field: &'static str, raw: &RawValue) -> Result<PicoUsdPerToken, ApiError> {
    usd(field, raw).map(|per_million| PicoUsdPerToken(per_million.0 / NANO_PER_MILLION_IN_PICO_PER_TOKEN))
}

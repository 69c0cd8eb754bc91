//! Query parameters: what an operation knows, and what a call sent.
//!
//! A parameter that an operation does not know is refused by name, because a filter that is silently ignored gives a
//! wrong answer; one that comes twice is, too, so that there are no more than the operation knows. Operations that know
//! none at all, as those that generate, ignore what clients add of their own.

use bourse_types::{KeyHash, NanoUsd, PicoUsdPerToken, UnixMs, UtcDay};
use bourse_wire::error::ApiError;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Longest value, in bytes.
pub(crate) const QUERY_VALUE_BYTES_MAX: usize = 1_024;
/// Most words in a value that is a list.
pub(crate) const QUERY_WORDS_MAX: usize = 64;
/// Largest page of models.
pub(crate) const PAGE_MAX: u64 = 1_000;
/// Largest offset, count of tokens and the like: what a double holds exactly.
const COUNT_MAX: u64 = 1 << 53;
/// Most days of an age.
const AGE_DAYS_MAX: u64 = 100_000;
/// Dollars per million tokens at most.
const PRICE_USD_MAX: u64 = 1_000_000_000;

/// Orders in which models can be listed.
pub(crate) const SORTS: [&str; 5] = [
    "pricing-low-to-high",
    "pricing-high-to-low",
    "context-high-to-low",
    "throughput-high-to-low",
    "latency-low-to-high",
];

/// What kind of value a parameter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Text,
    Words,
    Flag,
    Whole { min: u64, max: u64 },
    Share,
    Usd,
    Sort,
    Day,
    Instant,
}

pub(super) const NAME: Of = Of::Text;
pub(super) const LIST: Of = Of::Words;
pub(super) const FLAG: Of = Of::Flag;
pub(super) const OFFSET: Of = Of::Whole { min: 0, max: COUNT_MAX };
pub(super) const LIMIT: Of = Of::Whole { min: 1, max: PAGE_MAX };
pub(super) const TOKENS: Of = Of::Whole { min: 1, max: COUNT_MAX };
pub(super) const AGE: Of = Of::Whole { min: 0, max: AGE_DAYS_MAX };
pub(super) const SHARE: Of = Of::Share;
pub(super) const PRICE: Of = Of::Usd;
pub(super) const SORT: Of = Of::Sort;
pub(super) const DATE: Of = Of::Day;
pub(super) const INSTANT: Of = Of::Instant;

impl Of {
    /// The schema of a value.
    pub(super) fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string", "minLength": 1, "maxLength": QUERY_VALUE_BYTES_MAX }),
            Self::Words => {
                json!({ "type": "string", "minLength": 1, "maxLength": QUERY_VALUE_BYTES_MAX, "description": "Words with commas between them." })
            }
            Self::Flag => json!({ "type": "boolean" }),
            Self::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Share => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            Self::Usd => json!({ "type": "number", "minimum": 0, "maximum": PRICE_USD_MAX }),
            Self::Sort => json!({ "enum": SORTS }),
            Self::Day => json!({ "type": "string", "format": "date" }),
            Self::Instant => json!({ "type": "string", "format": "date-time" }),
        }
    }

    /// What is wanted, in words.
    fn want(self) -> String {
        match self {
            Self::Text => format!("a text of 1 to {QUERY_VALUE_BYTES_MAX} bytes"),
            Self::Words => format!("at most {QUERY_WORDS_MAX} words with commas between them"),
            Self::Flag => "true or false".to_owned(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Share => "a number from 0 to 1".to_owned(),
            Self::Usd => format!("a plain number of dollars from 0 to {PRICE_USD_MAX}"),
            Self::Sort => format!("one of {}", SORTS.join(", ")),
            Self::Day => "a day such as 2026-08-19".to_owned(),
            Self::Instant => "a day or an instant in UTC such as 2026-08-19T07:00:00Z".to_owned(),
        }
    }

    fn fits(self, text: &str) -> bool {
        if text.is_empty() || text.len() > QUERY_VALUE_BYTES_MAX {
            return false;
        }
        match self {
            Self::Text => true,
            Self::Words => text.split(',').count() <= QUERY_WORDS_MAX,
            Self::Flag => matches!(text, "true" | "false"),
            Self::Whole { min, max } => text.parse().is_ok_and(|n: u64| (min..=max).contains(&n)),
            Self::Share => text.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n)),
            Self::Usd => usd(text).is_some(),
            Self::Sort => SORTS.contains(&text),
            Self::Day => UtcDay::parse(text).is_some(),
            Self::Instant => UnixMs::parse_iso(text).is_some(),
        }
    }
}

/// Dollars per million tokens, rounded down to pico-dollars per token.
fn usd(text: &str) -> Option<PicoUsdPerToken> {
    const NANO_PER_PICO_PER_TOKEN: u64 = 1_000;
    let per_million = NanoUsd::parse_usd(text).ok()?;
    let is_in_range = per_million.0 <= PRICE_USD_MAX.saturating_mul(1_000_000_000);
    is_in_range.then_some(PicoUsdPerToken(per_million.0 / NANO_PER_PICO_PER_TOKEN))
}

/// One parameter that an operation knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(super) name: &'static str,
    pub(super) of: Of,
    pub(super) is_required: bool,
    pub(super) description: &'static str,
}

impl Parameter {
    pub(super) const fn new(name: &'static str, of: Of, description: &'static str) -> Self {
        Self { name, of, is_required: false, description }
    }

    pub(super) const fn required(name: &'static str, of: Of, description: &'static str) -> Self {
        Self { name, of, is_required: true, description }
    }
}

/// What a call sent, checked against what its operation knows.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Reads `a=1&b=2` with its escapes.
    pub(crate) fn read(known: &'static [Parameter], text: Option<&'a str>) -> Result<Self, ApiError> {
        let mut found: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        if known.is_empty() {
            return Ok(Self(found));
        }
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
                return Err(unknown(&name, known));
            };
            if found.iter().any(|(seen, _)| *seen == parameter.name) {
                let message = format!("`{}` is given twice: keep one", parameter.name);
                return Err(ApiError::field(parameter.name, message));
            }
            if !parameter.of.fits(&value) {
                let message = format!("`{}` must be {}", parameter.name, parameter.of.want());
                return Err(ApiError::field(parameter.name, message));
            }
            found.push((parameter.name, value));
        }
        let missing = known.iter().find(|p| p.is_required && !found.iter().any(|(name, _)| *name == p.name));
        if let Some(parameter) = missing {
            let message = format!("`{0}` is missing: add ?{0}=, {1}", parameter.name, parameter.of.want());
            return Err(ApiError::field(parameter.name, message));
        }
        Ok(Self(found))
    }

    /// The value.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_ref())
    }

    /// A whole number, a share; what does not parse was refused before.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.number(name)
    }

    pub(crate) fn price(&self, name: &str) -> Option<PicoUsdPerToken> {
        usd(self.text(name)?)
    }

    pub(crate) fn day(&self, name: &str) -> Option<UtcDay> {
        UtcDay::parse(self.text(name)?)
    }

    pub(crate) fn instant(&self, name: &str) -> Option<UnixMs> {
        UnixMs::parse_iso(self.text(name)?)
    }

    /// The words of a list, trimmed; those that are empty are left out.
    pub(crate) fn words(&self, name: &str) -> Vec<&str> {
        let text = self.text(name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
    }

    /// The same query, but for where the page begins, to be appended to a path.
    pub(crate) fn with_offset(&self, offset: u64) -> String {
        let mut out = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.0.iter().filter(|(name, _)| !matches!(*name, "offset" | "after_id")) {
            out.append_pair(name, value);
        }
        out.append_pair("offset", &offset.to_string()).finish()
    }
}

/// A key's hash as it is written.
pub(super) fn hash(field: &'static str, text: &str) -> Result<KeyHash, ApiError> {
    KeyHash::parse_hex(text).map_err(|_| {
        ApiError::field(field, format!("`{field}` must be a key's SHA-256: 64 hexadecimal digits"))
    })
}

fn unknown(name: &str, known: &[Parameter]) -> ApiError {
    let shown: String = name.chars().take(64).collect();
    let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
    let message = format!("the parameter `{shown}` is not known here: this call knows {}", names.join(", "));
    ApiError::field(shown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[
        Parameter::new("q", NAME, ""),
        Parameter::new("words", LIST, ""),
        Parameter::new("zdr", FLAG, ""),
        Parameter::new("limit", LIMIT, ""),
        Parameter::new("max_price", PRICE, ""),
        Parameter::new("share", SHARE, ""),
        Parameter::new("sort", SORT, ""),
        Parameter::new("date", DATE, ""),
        Parameter::new("since", INSTANT, ""),
        Parameter::new("offset", OFFSET, ""),
    ];

    #[test]
    fn values_are_read_with_their_escapes() {
        let text = "q=a%2Fb+c&words=x,%20y,,z&zdr=true&limit=1000&max_price=1.5&date=2026-08-19&share=0.5";
        let query = Query::read(KNOWN, Some(text)).unwrap();
        assert_eq!(query.text("q"), Some("a/b c"));
        assert_eq!(query.words("words"), ["x", "y", "z"]);
        assert_eq!((query.flag("zdr"), query.number::<u64>("limit")), (Some(true), Some(1_000)));
        assert_eq!(query.price("max_price"), Some(PicoUsdPerToken(1_500_000)));
        assert_eq!(query.day("date"), UtcDay::parse("2026-08-19"));
        assert!(query.with_offset(7).ends_with("&offset=7"));
        assert!(Query::read(&[], Some("beta=true")).is_ok(), "who knows none ignores all");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |text: &str, param: &str| {
            let error = Query::read(KNOWN, Some(text)).unwrap_err();
            assert_eq!((error.status(), error.param.as_deref()), (400, Some(param)), "{text}: {error}");
        };
        check("limit=0", "limit");
        check("limit=1001", "limit");
        check("limit=-1", "limit");
        check("limit=1e3", "limit");
        check("limit=", "limit");
        check("zdr=1", "zdr");
        check("max_price=-1", "max_price");
        check("max_price=1e3", "max_price");
        check("max_price=1000000001", "max_price");
        check("share=1.01", "share");
        check("share=NaN", "share");
        check("sort=newest", "sort");
        check("date=yesterday", "date");
        check("since=now", "since");
        check("limit=1&limit=2", "limit");
        check("wat=1", "wat");
        check("%00=1", "\0");
        check(&format!("q={}", "x".repeat(QUERY_VALUE_BYTES_MAX + 1)), "q");
        check(&format!("words={}", ",".repeat(QUERY_WORDS_MAX)), "words");
        let longest = format!("q={}", "x".repeat(QUERY_VALUE_BYTES_MAX));
        let most = format!("words={}", ",".repeat(QUERY_WORDS_MAX - 1));
        for text in [longest, most] {
            assert!(Query::read(KNOWN, Some(&text)).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        const NEEDED: &[Parameter] = &[Parameter::required("id", NAME, "")];
        let error = Query::read(NEEDED, None).unwrap_err();
        assert!(error.message.contains("`id` is missing"), "{error}");
        assert!(Query::read(NEEDED, Some("id=gen-1")).is_ok());
    }
}

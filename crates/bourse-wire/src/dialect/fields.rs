//! Reading single fields: types, ranges, and messages that name the field and the remedy.

mod model_ref;
mod policy;
mod preferences;
pub mod preset;
mod routing;

pub use model_ref::{ModelRef, ModelRefError, PRESET_BYTES_MAX, Variant};
pub use policy::{QUANTIZATION_WORDS, policy};
pub use preferences::{Cutoffs, DataCollection, PREFERENCE_WORD_BYTES_MAX, Partition, Preferences, SortBy};
pub use routing::{
    METADATA_KEY_CHARS_MAX, METADATA_PAIRS_MAX, METADATA_VALUE_CHARS_MAX, Routing, ServiceTier,
    StreamFailure, TRACE_BYTES_MAX, USER_BYTES_MAX,
};
pub(crate) use routing::{Routed, RoutingDraft};

use super::{LOGIT_BIAS_MAX, MEMBERS_MAX, STOP_BYTES_MAX, STOPS_MAX};
use crate::error::{ApiError, ErrorType};
use crate::json::Walk;
use crate::node::Sampling;
use serde::Deserialize;
use std::borrow::Cow;
use std::ops::Range;

/// The wrong type, and what is right.
pub(crate) fn wrong(field: &str, want: &str) -> ApiError {
    ApiError::field(field.to_owned(), format!("`{field}` must be {want}"))
}

pub(crate) fn string<'a>(field: &str, raw: &'a str) -> Result<Cow<'a, str>, ApiError> {
    serde_json::from_str::<Text<'a>>(raw).map(|t| t.0).map_err(|_| wrong(field, "a string"))
}

/// A borrowed string where there are no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(crate) fn boolean(field: &str, raw: &str) -> Result<bool, ApiError> {
    match raw {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(field, "true or false")),
    }
}

pub(crate) fn whole(field: &str, raw: &str, min: u32, max: u32) -> Result<u32, ApiError> {
    let value: Option<u32> = raw.parse().ok().filter(|v| (min..=max).contains(v));
    value.ok_or_else(|| wrong(field, &format!("a whole number from {min} to {max}")))
}

/// Refuses more than one answer where the grammar has room for one.
pub(crate) fn one_choice(raw: &str) -> Result<(), ApiError> {
    if raw == "1" { Ok(()) } else { Err(wrong("n", "1, or left out: this endpoint gives one answer")) }
}

/// Refuses an address of a picture, a sound or a file that lies on the disk of whoever reads it: a seller's disk is not the
/// buyer's. `raw` is the address, or an object that holds it as `url`; anything else is for others to judge.
pub(crate) fn no_local_file(field: impl FnOnce() -> String, raw: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Located<'a> {
        #[serde(borrow)]
        url: Option<Cow<'a, str>>,
    }
    let address = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0),
        Some(b'{') => serde_json::from_str::<Located<'_>>(raw).ok().and_then(|located| located.url),
        _ => None,
    };
    let address = address.as_deref().unwrap_or_default().trim_ascii_start();
    if address.get(..FILE_SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(FILE_SCHEME)) {
        return Err(wrong(&field(), "an https address or a data URL: a seller cannot read your files"));
    }
    Ok(())
}

const FILE_SCHEME: &str = "file:";

pub(crate) fn seed(raw: &str) -> Result<i64, ApiError> {
    raw.parse().map_err(|_| wrong("seed", "a whole number that fits 64 bits"))
}

/// A number within `min..=max`. JSON has no NaN and no infinity, but `1e999` overflows: refused.
pub(crate) fn number(field: &str, raw: &str, min: f32, max: f32) -> Result<f32, ApiError> {
    let is_number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let value: Option<f32> = raw.parse().ok().filter(|v: &f32| is_number && (min..=max).contains(v));
    value.ok_or_else(|| wrong(field, &format!("a number from {min} to {max}")))
}

/// Nucleus sampling; none at 0, which sellers read differently.
pub(crate) fn top_p(field: &str, raw: &str) -> Result<f32, ApiError> {
    match number(field, raw, 0.0, 1.0)? {
        0.0 => Err(wrong(field, "above 0 and at most 1; for the likeliest token use `temperature` 0")),
        top_p => Ok(top_p),
    }
}

/// An error when a body that has `count` members already has one more than it may.
pub(crate) fn members_bounded(count: usize) -> Result<(), ApiError> {
    if count < MEMBERS_MAX {
        return Ok(());
    }
    let message = format!("the body has more than {MEMBERS_MAX} members: remove unknown ones");
    Err(ApiError::new(ErrorType::InvalidRequest, message))
}

/// The place of a member among those that a front knows, then those that all fronts share; none for others. An error
/// when it comes a second time: `seen` has one bit for each.
pub(crate) fn known_once(name: &str, known: &[&str], seen: &mut u64) -> Result<Option<usize>, ApiError> {
    let Some(place) = known.iter().chain(&RoutingDraft::MEMBERS).position(|k| *k == name) else {
        return Ok(None);
    };
    if *seen & (1 << place) != 0 {
        return Err(ApiError::field(name.to_owned(), format!("`{name}` is given twice: keep one")));
    }
    *seen |= 1 << place;
    Ok(Some(place))
}

pub(crate) fn stops(raw: &str) -> Result<Vec<String>, ApiError> {
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

pub(crate) fn logit_bias(raw: &str) -> Result<Vec<(u32, f32)>, ApiError> {
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
    let mut list = map.into_iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    list.sort_unstable_by_key(|(token, _)| *token);
    Ok(list)
}

/// The span of the one string in `"text"` or `["text"]`.
pub(crate) fn prompt_span(raw: &str, span: &Range<usize>) -> Result<Range<usize>, ApiError> {
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

pub(crate) fn response_format(raw: &str) -> Result<bool, ApiError> {
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

/// What an absent field means.
pub(crate) fn default_sampling() -> Sampling {
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

/// A key with its escapes resolved.
pub(crate) fn unescaped(key: &str) -> Cow<'_, str> {
    if !key.contains('\\') {
        return Cow::Borrowed(key);
    }
    serde_json::from_str::<String>(&format!("\"{key}\"")).map_or(Cow::Borrowed(key), Cow::Owned)
}

/// The same JSON text with U+FFFD in place of each escape that is half of a surrogate pair.
pub(crate) fn without_lone_surrogates(raw: &str) -> Cow<'_, str> {
    let Some(mut half) = next_lone_surrogate(raw, 0) else { return Cow::Borrowed(raw) };
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    loop {
        out.push_str(&raw[at..half]);
        out.push_str("\\ufffd");
        at = half + UNIT_BYTES;
        let Some(next) = next_lone_surrogate(raw, at) else { break };
        half = next;
    }
    out.push_str(&raw[at..]);
    Cow::Owned(out)
}

/// Bytes of `\uXXXX`.
const UNIT_BYTES: usize = 6;

/// Where the first half pair of JSON text at or behind `at` is, which must not be within an escape.
pub(crate) fn next_lone_surrogate(raw: &str, mut at: usize) -> Option<usize> {
    let bytes = raw.as_bytes();
    let unit = |at: usize| {
        let digits = raw.get(at + 2..at + UNIT_BYTES).filter(|_| bytes[at..].starts_with(b"\\u"))?;
        u16::from_str_radix(digits, 16).ok()
    };
    while let Some(found) = memchr::memchr(b'\\', bytes.get(at..)?) {
        at += found;
        at += match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + UNIT_BYTES), Some(0xdc00..=0xdfff)) => 2 * UNIT_BYTES,
            Some(0xd800..=0xdfff) => return Some(at),
            Some(_) => UNIT_BYTES,
            None => 2,
        };
    }
    None
}

/// The known word that is most like `word`, if one is much like it.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().min_by_key(|k| distance(word, k))?;
    (distance(word, near) <= near.len().max(3) / 3).then_some(*near)
}

/// How many characters must be added, removed or changed.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_found() {
        for (raw, want) in [
            (r#""plain""#, false),
            (r#""\ud83d\ude00""#, false),
            (r#""\ud83d""#, true),
            (r#""\ude00""#, true),
            (r#""\ud83d\ud83d\ude00""#, true),
            (r#""\\ud83d""#, false),
            (r#""\\\ud83d x""#, true),
            (r#""\u00e9\n\"""#, false),
        ] {
            assert_eq!(next_lone_surrogate(raw, 0).is_some(), want, "{raw}");
            assert_eq!(serde_json::from_str::<String>(raw).is_err(), want, "{raw}");
        }
    }

    proptest::proptest! {
        #[test]
        fn half_pairs_are_what_serde_json_refuses(text in r"(\\\\|\\n|\\ud83d|\\ude00|\\u0041|é|a){0,8}") {
            let raw = format!("\"{text}\"");
            let refused = serde_json::from_str::<String>(&raw).is_err();
            proptest::prop_assert_eq!(next_lone_surrogate(&raw, 0).is_some(), refused, "{}", raw);
            proptest::prop_assert!(serde_json::from_str::<String>(&without_lone_surrogates(&raw)).is_ok());
        }
    }

    #[test]
    fn the_nearest_word_is_much_like_it() {
        let known = ["order", "only", "ignore", "zdr"];
        assert_eq!(nearest("oder", &known), Some("order"));
        assert_eq!(nearest("Only", &known), Some("only"));
        assert_eq!(nearest("zd", &known), Some("zdr"));
        assert_eq!(nearest("weather", &known), None);
        assert_eq!(nearest("x", &[]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

//! Model lists: what a seller says that it has.
//!
//! Each dialect says how its sellers list theirs ([`ListForm`]); here is OpenAI's list, with what vLLM, llama.cpp and
//! OpenRouter add to it. Lists are for people, so reading is tolerant: what is not known is left out, and an entry
//! without a usable name is skipped and counted. Only OpenRouter's list tells prices. A price that cannot be read exactly is no price,
//! and where a price depends on the request the dearest counts, because it is what the market pays.
//!
//! Sources: the vendors' references of `GET /models` (OpenAI, OpenRouter), and the servers' own answers (vLLM's
//! `max_model_len`, llama.cpp's `meta`).

use super::grammar::Shape;
use bourse_types::{NAME_BYTES_MAX, NanoUsd, PicoUsdPerToken, PriceSchedule};
use serde_json::Value;
use std::collections::BTreeSet;

/// Most entries that are read; the rest is left out.
pub const LISTED_MAX: usize = 4_096;
/// One model of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// What the seller calls it.
    pub id: String,
    /// Longest prompt plus answer, in tokens.
    pub context_tokens: Option<u64>,
    /// Longest answer, in tokens.
    pub completion_tokens: Option<u64>,
    /// What is asked, where the list tells it.
    pub prices: Option<PriceSchedule>,
    /// The parameters that it takes, in the field's words; none where the list does not tell.
    pub parameters: Option<Vec<String>>,
    /// Whether it takes parts that are not text at no price of their own; none where the list does not tell.
    pub takes_media: Option<bool>,
    /// How its weights are stored, in the field's words.
    pub quantization: Option<&'static str>,
}

/// A list as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelList {
    /// The models, in the seller's order, each name once.
    pub models: Vec<Listed>,
    /// Entries that could not be read.
    pub skipped: usize,
    /// Whether the seller, or the bound here, left some out.
    pub is_partial: bool,
}

/// Why a list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Not JSON of the grammar's shape.
    #[error("it is no model list: {0}")]
    Json(String),
}

/// How a grammar lists its models.
#[derive(Debug, Clone, Copy)]
pub struct ListForm {
    /// Where, below the base URL.
    pub path: &'static str,
    /// The member that holds the models.
    pub models: &'static str,
    /// The member that tells of a further page: `true`, or a text that is not empty.
    pub more: &'static str,
    /// Reads one entry; none where it is no model that can be asked.
    pub entry: fn(&Value) -> Option<Listed>,
}

/// OpenAI's list, with what others add to it.
pub(super) const OPENAI: ListForm =
    ListForm { path: "/models", models: "data", more: "has_more", entry: openai };

/// Where a seller of that grammar lists its models, below its base URL.
pub fn path(shape: Shape) -> &'static str {
    form(shape).path
}

fn form(shape: Shape) -> &'static ListForm {
    shape.dialect().map_or(&OPENAI, |dialect| &dialect.facts().list)
}

/// Reads the list of a seller that is spoken to in that grammar.
pub fn read(shape: Shape, body: &[u8]) -> Result<ModelList, ListError> {
    let form = form(shape);
    let page: Value = serde_json::from_slice(body).map_err(|error| ListError::Json(error.to_string()))?;
    let entries = page.get(form.models).and_then(Value::as_array);
    let entries = entries.ok_or_else(|| ListError::Json("it has no array of models".to_owned()))?;
    let more = match page.get(form.more) {
        Some(Value::Bool(more)) => *more,
        Some(Value::String(token)) => !token.is_empty(),
        _ => false,
    };
    let mut list = ModelList { is_partial: more || entries.len() > LISTED_MAX, ..ModelList::default() };
    let mut names = BTreeSet::new();
    for entry in entries.iter().take(LISTED_MAX) {
        match (form.entry)(entry).filter(|model| (1..=NAME_BYTES_MAX).contains(&model.id.len())) {
            Some(model) if names.insert(model.id.clone()) => list.models.push(model),
            _ => list.skipped += 1,
        }
    }
    Ok(list)
}

/// The text at a pointer.
pub(super) fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// The first of these that is a whole number above zero.
pub(super) fn count(value: &Value, pointers: &[&str]) -> Option<u64> {
    let number = |pointer: &&str| value.pointer(pointer)?.as_u64().filter(|n| *n > 0);
    pointers.iter().find_map(number)
}

fn openai(entry: &Value) -> Option<Listed> {
    let context = count(
        entry,
        &[
            "/max_model_len",
            "/top_provider/context_length",
            "/context_length",
            "/meta/n_ctx",
            "/meta/n_ctx_train",
        ],
    );
    let words = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let modalities = entry.pointer("/architecture/input_modalities").and_then(Value::as_array);
    // Pictures at a price of their own cannot be billed by tokens: better not taken than not paid.
    let image_is_free = entry.pointer("/pricing/image").is_none_or(is_zero);
    Some(Listed {
        id: text(entry, "/id")?,
        context_tokens: context,
        completion_tokens: count(entry, &["/top_provider/max_completion_tokens"]),
        prices: entry.get("pricing").and_then(prices),
        parameters: entry.get("supported_parameters").and_then(Value::as_array).map(words),
        takes_media: modalities.map(|list| list.iter().any(|word| word != "text") && image_is_free),
        quantization: None,
    })
}

fn is_zero(price: &Value) -> bool {
    price.as_str().is_some_and(|text| NanoUsd::parse_usd(text) == Ok(NanoUsd::ZERO))
        || price.as_u64() == Some(0)
}

/// Prices as OpenRouter writes them: decimal strings in dollars per token. None when one of them cannot be read, such
/// as `-1` for "it depends".
fn prices(pricing: &Value) -> Option<PriceSchedule> {
    let overrides = pricing.get("overrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let dearest = |name: &str| -> Option<Option<PicoUsdPerToken>> {
        let mut found = None;
        for table in std::iter::once(pricing).chain(overrides) {
            let Some(text) = table.get(name).filter(|value| !value.is_null()) else { continue };
            let price = PicoUsdPerToken::parse_usd_per_token(text.as_str()?).ok()?;
            found = found.max(Some(price));
        }
        Some(found)
    };
    let (prompt, completion) = (dearest("prompt")??, dearest("completion")??);
    let request = match pricing.get("request").and_then(Value::as_str) {
        Some(text) => NanoUsd::parse_usd(text).ok()?,
        None => NanoUsd::ZERO,
    };
    // Thoughts at a price of their own cannot be told from the rest of an answer.
    if dearest("internal_reasoning")?.is_some_and(|price| price.0 != 0 && price > completion) {
        return None;
    }
    Some(PriceSchedule {
        cached_prompt: dearest("input_cache_read")?.unwrap_or(prompt),
        cache_write: dearest("input_cache_write")?.max(dearest("input_cache_write_1h")?).unwrap_or(prompt),
        request,
        ..PriceSchedule::per_token(prompt, completion)
    })
}

#[cfg(test)]
mod tests;

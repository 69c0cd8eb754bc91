//! Model lists: what a seller says that it has.
//!
//! Five grammars are read: OpenAI's (with what vLLM, llama.cpp and OpenRouter add to it), Anthropic's, Google's and
//! Ollama's. Lists are for people, so reading is tolerant: what is not known is left out, and an entry without a usable
//! name is skipped and counted. Only OpenRouter's list tells prices. A price that cannot be read exactly is no price,
//! and where a price depends on the request the dearest counts, because it is what the market pays.
//!
//! Sources: the vendors' references of `GET /models` (OpenAI, Anthropic, Google, OpenRouter), of `GET /api/tags`
//! (Ollama), and the servers' own answers (vLLM's `max_model_len`, llama.cpp's `meta`).

use super::grammar::Shape;
use bourse_types::{NAME_BYTES_MAX, NanoUsd, PicoUsdPerToken, PriceSchedule};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Most entries that are read; the rest is left out.
pub const LISTED_MAX: usize = 4_096;
/// Beginning of a name in Google's list.
const GEMINI_PREFIX: &str = "models/";

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

/// Where a seller of that grammar lists its models, below its base URL.
pub fn path(shape: Shape) -> &'static str {
    match shape {
        Shape::Messages => "/models?limit=1000",
        Shape::Gemini => "/models?pageSize=1000",
        Shape::Ollama => "/api/tags",
        _ => "/models",
    }
}

/// Reads the list of a seller that is spoken to in that grammar.
pub fn read(shape: Shape, body: &[u8]) -> Result<ModelList, ListError> {
    let page: Page = serde_json::from_slice(body).map_err(|error| ListError::Json(error.to_string()))?;
    let (entries, one): (_, fn(&Value) -> Option<Listed>) = match shape {
        Shape::Gemini => (page.models, gemini),
        Shape::Ollama => (page.models, ollama),
        Shape::Messages => (page.data, anthropic),
        _ => (page.data, openai),
    };
    let entries = entries.ok_or_else(|| ListError::Json("it has no array of models".to_owned()))?;
    let more = page.has_more == Some(true) || page.next_page_token.is_some_and(|token| !token.is_empty());
    let mut list = ModelList { is_partial: more || entries.len() > LISTED_MAX, ..ModelList::default() };
    let mut names = BTreeSet::new();
    for entry in entries.iter().take(LISTED_MAX) {
        match one(entry).filter(|model| (1..=NAME_BYTES_MAX).contains(&model.id.len())) {
            Some(model) if names.insert(model.id.clone()) => list.models.push(model),
            _ => list.skipped += 1,
        }
    }
    Ok(list)
}

/// A page in any of the grammars.
#[derive(Deserialize)]
struct Page {
    data: Option<Vec<Value>>,
    models: Option<Vec<Value>>,
    has_more: Option<bool>,
    #[serde(rename = "nextPageToken")]
    next_page_token: Option<String>,
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// The first of these that is a whole number above zero.
fn count(value: &Value, pointers: &[&str]) -> Option<u64> {
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

fn anthropic(entry: &Value) -> Option<Listed> {
    Some(Listed {
        id: text(entry, "/id")?,
        context_tokens: count(entry, &["/max_input_tokens"]),
        completion_tokens: count(entry, &["/max_tokens"]),
        ..Listed::default()
    })
}

fn gemini(entry: &Value) -> Option<Listed> {
    let methods = entry.get("supportedGenerationMethods").and_then(Value::as_array)?;
    methods.iter().find(|method| *method == "generateContent")?;
    let name = text(entry, "/name")?;
    Some(Listed {
        id: name.strip_prefix(GEMINI_PREFIX).unwrap_or(&name).to_owned(),
        context_tokens: count(entry, &["/inputTokenLimit"]),
        completion_tokens: count(entry, &["/outputTokenLimit"]),
        ..Listed::default()
    })
}

fn ollama(entry: &Value) -> Option<Listed> {
    let level = text(entry, "/details/quantization_level").unwrap_or_default();
    Some(Listed {
        id: text(entry, "/model").or_else(|| text(entry, "/name"))?,
        quantization: quantization(&level),
        ..Listed::default()
    })
}

/// The field's word for a GGUF type such as `Q4_K_M`; none for those that it has no word for.
fn quantization(level: &str) -> Option<&'static str> {
    let begins = [("Q4", "int4"), ("IQ4", "int4"), ("Q8", "int8"), ("F16", "fp16")];
    let more = [("BF16", "bf16"), ("F32", "fp32"), ("MXFP4", "mxfp4")];
    begins.into_iter().chain(more).find(|(start, _)| level.starts_with(start)).map(|(_, word)| word)
}

#[cfg(test)]
mod tests;

//! Price lists and model lists, as each vendor or engine writes them.
//!
//! Sources: OpenAI's, Anthropic's, Google's, Ollama's, Cohere's and OpenRouter's references; vLLM's and llama.cpp's
//! servers as they answer. A market reads them to learn what a seller has; only OpenRouter's tells prices.

use super::config::{Listing, SellerConfig};
use super::http::HttpRequest;
use super::shape::Shape;
use super::time::rfc3339;
use crate::seed::digest;
use serde_json::{Value, json};
use std::time::SystemTime;

/// How `GET /v1/models` is answered to a client that is neither Anthropic's nor Google's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModelList {
    /// With context length and prices.
    #[default]
    OpenRouter,
    /// Names only.
    OpenAi,
    /// With `max_model_len`.
    Vllm,
    /// With `meta`: sizes of the file and the context it was trained for.
    LlamaCpp,
}

impl ModelList {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::OpenRouter, Self::OpenAi, Self::Vllm, Self::LlamaCpp];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenRouter => "openrouter",
            Self::OpenAi => "openai",
            Self::Vllm => "vllm",
            Self::LlamaCpp => "llama-cpp",
        }
    }
}

/// A name that is no kind of list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of model list: openrouter, openai, vllm or llama-cpp")]
pub struct UnknownModelList(String);

impl std::str::FromStr for ModelList {
    type Err = UnknownModelList;

    fn from_str(text: &str) -> Result<Self, UnknownModelList> {
        let found = Self::ALL.iter().copied().find(|list| list.name() == text);
        found.ok_or_else(|| UnknownModelList(text.chars().take(64).collect()))
    }
}

/// The list that a request asks for, if it asks for one.
pub(super) fn answer(http: &HttpRequest, config: &SellerConfig) -> Option<String> {
    if http.method != "GET" {
        return None;
    }
    let path = http.path.split('?').next().unwrap_or_default();
    let speaks = |shape| config.shapes.contains(&shape);
    let list = match path {
        "/v1/models" if speaks(Shape::Messages) && http.header("anthropic-version").is_some() => {
            anthropic(config)
        }
        "/v1/models" if speaks(Shape::Gemini) && http.header("x-goog-api-key").is_some() => gemini(config),
        "/v1/models" if speaks(Shape::Cohere) && http.path.contains("endpoint=chat") => cohere(config),
        "/v1/models" => openai(config),
        "/v1beta/models" if speaks(Shape::Gemini) => gemini(config),
        "/api/tags" if speaks(Shape::Ollama) => ollama(config),
        _ => return None,
    };
    Some(list.to_string())
}

fn all(config: &SellerConfig, of: impl Fn(&Listing) -> Value) -> Value {
    config.listings.iter().map(of).collect()
}

fn openai(config: &SellerConfig) -> Value {
    let base = |listing: &Listing| json!({"id": listing.id, "object": "model", "created": 0, "owned_by": config.name});
    let data = all(config, |listing| {
        let mut value = base(listing);
        match config.model_list {
            ModelList::OpenAi => {}
            ModelList::Vllm => {
                value["root"] = json!(listing.id);
                value["parent"] = Value::Null;
                value["max_model_len"] = json!(listing.context_length_tokens);
                value["permission"] = json!([]);
            }
            ModelList::LlamaCpp => {
                value["meta"] = json!({"vocab_type": 2, "n_vocab": 32_000,
                    "n_ctx_train": listing.context_length_tokens, "n_embd": 896,
                    "n_params": 494_032_768_u64, "size": 531_067_904_u64});
            }
            ModelList::OpenRouter => open_router(listing, &mut value),
        }
        value
    });
    json!({"object": "list", "data": data})
}

fn open_router(listing: &Listing, value: &mut Value) {
    let context = listing.context_length_tokens;
    value["name"] = json!(listing.id);
    value["canonical_slug"] = json!(listing.id);
    value["context_length"] = json!(context);
    value["architecture"] = json!({"modality": "text->text", "input_modalities": ["text"],
        "output_modalities": ["text"], "tokenizer": "Other", "instruct_type": null});
    value["pricing"] = json!({
        "prompt": listing.price_prompt.to_usd_per_token_string(),
        "completion": listing.price_completion.to_usd_per_token_string(),
        "request": "0", "image": "0",
    });
    value["top_provider"] =
        json!({"context_length": context, "max_completion_tokens": context, "is_moderated": false});
    value["supported_parameters"] = json!(["max_tokens", "tools", "tool_choice", "response_format", "seed"]);
}

fn anthropic(config: &SellerConfig) -> Value {
    let created = rfc3339(SystemTime::UNIX_EPOCH);
    let data = all(config, |listing| {
        json!({"type": "model", "id": listing.id, "display_name": listing.id, "created_at": created,
            "max_input_tokens": listing.context_length_tokens, "max_tokens": listing.context_length_tokens})
    });
    let id = |listing: Option<&Listing>| listing.map(|listing| listing.id.clone());
    json!({"data": data, "has_more": false, "first_id": id(config.listings.first()),
        "last_id": id(config.listings.last())})
}

fn gemini(config: &SellerConfig) -> Value {
    let models = all(config, |listing| {
        json!({
            "name": format!("models/{}", listing.id), "version": "001", "displayName": listing.id,
            "inputTokenLimit": listing.context_length_tokens, "outputTokenLimit": listing.context_length_tokens,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        })
    });
    json!({"models": models})
}

fn cohere(config: &SellerConfig) -> Value {
    let models = all(config, |listing| {
        json!({"name": listing.id, "endpoints": ["chat"], "finetuned": false, "default_endpoints": [],
            "context_length": listing.context_length_tokens, "features": ["tools", "json_mode", "json_schema"]})
    });
    json!({"models": models})
}

fn ollama(config: &SellerConfig) -> Value {
    let modified = rfc3339(SystemTime::UNIX_EPOCH);
    let models = all(config, |listing| {
        json!({
            "name": listing.id, "model": listing.id, "modified_at": modified, "size": 531_067_904_u64,
            "digest": format!("{:016x}", digest(listing.id.as_bytes())),
            "details": {"format": "gguf", "family": "sim", "families": ["sim"], "parameter_size": "494M",
                "quantization_level": "Q8_0"},
        })
    });
    json!({"models": models})
}

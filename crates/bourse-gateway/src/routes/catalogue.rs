//! What is on offer: models and their endpoints, in OpenRouter's shapes.

use crate::explain::pricing;
use crate::market::Book;
use bourse_market::{Offer, Supports};
use bourse_wire::error::{ApiError, ErrorType};
use serde_json::{Value, json};

/// Parameters that every offer supports.
const PARAMETERS_OF_ALL: [&str; 5] = ["max_tokens", "temperature", "top_p", "stop", "stream"];

pub(super) fn models(book: &Book) -> Value {
    let data: Vec<Value> = book.snapshot.models().filter_map(|slug| entry(book, slug.as_str())).collect();
    json!({ "object": "list", "data": data })
}

pub(super) fn model(book: &Book, slug: &str) -> Result<Value, ApiError> {
    entry(book, slug).ok_or_else(|| unknown(slug))
}

pub(super) fn endpoints(book: &Book, slug: &str) -> Result<Value, ApiError> {
    let mut data = entry(book, slug).ok_or_else(|| unknown(slug))?;
    let offers = book.snapshot.offers_of(slug).ok_or_else(|| unknown(slug))?;
    data["endpoints"] = offers.map(|(_, offer)| endpoint(offer)).collect();
    Ok(json!({ "data": data }))
}

fn unknown(slug: &str) -> ApiError {
    let shown: String = slug.chars().take(128).collect();
    ApiError::new(
        ErrorType::NotFound,
        format!("no seller offers the model `{shown}`: GET /v1/models lists what is offered"),
    )
}

/// One model: what its cheapest priced offer asks, and the widest limits of any.
fn entry(book: &Book, slug: &str) -> Option<Value> {
    let offers: Vec<&Offer> = book.snapshot.offers_of(slug)?.map(|(_, offer)| offer).collect();
    let cheapest = offers
        .iter()
        .filter_map(|o| o.prices.as_ref())
        .min_by_key(|p| (u128::from(p.prompt.0) + u128::from(p.completion.0), p.request));
    let context = offers.iter().map(|o| o.context_tokens_max).max()?;
    let completion = offers.iter().map(|o| o.completion_tokens_max.unwrap_or(o.context_tokens_max)).max()?;
    let supports = offers.iter().fold(Supports::NONE, |set, o| set.with(o.supports));
    let author = slug.split_once('/').map_or("unknown", |(author, _)| author);
    Some(json!({
        "id": slug,
        "canonical_slug": slug,
        "name": slug,
        "object": "model",
        "created": 0,
        "owned_by": author,
        "description": "",
        "context_length": context,
        "architecture": {
            "modality": "text->text",
            "input_modalities": if supports.contains(Supports::MEDIA) { vec!["text", "image"] } else { vec!["text"] },
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": null,
        },
        "pricing": cheapest.map(pricing),
        "top_provider": {
            "context_length": context,
            "max_completion_tokens": completion,
            "is_moderated": false,
        },
        "per_request_limits": null,
        "supported_parameters": parameters(supports),
    }))
}

fn endpoint(offer: &Offer) -> Value {
    json!({
        "name": format!("{} | {}", offer.seller, offer.model),
        "model_id": offer.model.as_str(),
        "provider_name": offer.seller.as_str(),
        "tag": offer.seller.as_str(),
        "context_length": offer.context_tokens_max,
        "max_completion_tokens": offer.completion_tokens_max,
        "max_prompt_tokens": null,
        "quantization": offer.quantization.as_str(),
        "pricing": offer.prices.as_ref().map(pricing),
        "supported_parameters": parameters(offer.supports),
        "supports_implicit_caching": offer.prices.is_some_and(|p| p.cached_prompt < p.prompt),
        "status": if offer.prices.is_some() { 0 } else { -1 },
    })
}

/// A set as parameter names; some of its members stand for two.
fn parameters(supports: Supports) -> Vec<&'static str> {
    let mut names = PARAMETERS_OF_ALL.to_vec();
    for one in supports.members() {
        match one {
            Supports::TOOLS => names.extend(["tools", "tool_choice"]),
            Supports::LOGPROBS => names.extend(["logprobs", "top_logprobs"]),
            Supports::PENALTIES => names.extend(["presence_penalty", "frequency_penalty"]),
            Supports::HIDDEN_REASONING | Supports::MEDIA => {}
            other => names.extend(other.names()),
        }
    }
    names
}

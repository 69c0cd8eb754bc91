//! The grammar of Cohere's Chat API, version 2 (`/v2/chat`). Sellers speak it, buyers do not.
//!
//! **Thoughts** are blocks of `thinking`, and before calls of tools a `tool_plan`. Both are shown thoughts here. Those of
//! a turn with calls go back as its plan, which every model takes; others go back as blocks.
//!
//! **Tools** may be left to the model, demanded or forbidden. A certain one is demanded by telling of no other. JSON
//! together with tools is refused, as the vendor does not have it.
//!
//! **Usage** is told twice. What is billed leaves out the preamble that the vendor adds to a prompt, and is what a buyer
//! can be asked to pay; what was counted is the claim only where nothing else is told. Tokens from the cache are the
//! preamble's first. Counts may be written as decimals.
//!
//! **Citations** point into documents, which no buyer's grammar can send, and into results of tools. No buyer's grammar
//! has a form for the latter: they are left out.
//!
//! **Streams** end with `message-end`, which tells errors too. Newer servers send `[DONE]` after it.
//!
//! Sources: Cohere's references of chat, of models and of errors, its guides to streaming, tool use, structured outputs
//! and reasoning, and the types of its Python SDK (7.3), as of 2026-10.

mod reader;
mod write;

use super::grammar::{
    Call, Dialect, EventReader, Facts, Framing, SellerError, SellerErrorKind, Shape, Written,
};
use super::lists::{self, ListForm, Listed};
use super::neutral::{Answer, Request};
use crate::error::ApiError;
use serde_json::Value;

/// Most stop strings that sellers of this grammar take.
pub const STOPS_MAX: usize = 5;
/// Largest `top_k`.
pub const TOP_K_MAX: u32 = 500;
/// Most calls of one answer.
pub const CALLS_MAX: usize = 1_024;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Cohere;

const FACTS: Facts = Facts {
    shape: Shape::Cohere,
    framing: Framing::Sse,
    path: |_, _| "/v2/chat".to_owned(),
    list: ListForm {
        path: "/v1/models?page_size=1000&endpoint=chat",
        models: "models",
        more: "next_page_token",
        entry: listed,
    },
    count: None,
    #[cfg(test)]
    mirror: Some(&tests::MIRROR),
};

impl Dialect for Cohere {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
        write::write(request, call)
    }

    fn read_answer(&self, body: &str) -> Result<Answer, SellerError> {
        reader::read_answer(body)
    }

    fn reader(&self) -> Box<dyn EventReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, status: u16, body: &[u8]) -> SellerError {
        let told = serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text = reader::said(&told["message"])
            .map_or_else(|| format!("answered with status {status}"), str::to_owned);
        SellerError::new(kind(status, &text), &text)
    }
}

/// A model that can chat.
fn listed(entry: &Value) -> Option<Listed> {
    let words = |member: &str| entry.get(member).and_then(Value::as_array);
    words("endpoints")?.iter().find(|endpoint| *endpoint == "chat")?;
    let sees = || Some(words("features")?.iter().any(|feature| feature == "vision"));
    Some(Listed {
        id: lists::text(entry, "/name")?,
        context_tokens: reader::whole(&entry["context_length"]).filter(|tokens| *tokens > 0),
        takes_media: entry.get("supports_vision").and_then(Value::as_bool).or_else(sees),
        ..Listed::default()
    })
}

/// What an error means, by its status and its words.
fn kind(status: u16, text: &str) -> SellerErrorKind {
    let text = text.to_ascii_lowercase();
    let says = |words: [&str; 2]| words.iter().any(|words| text.contains(words));
    match status {
        _ if text.starts_with("too many tokens") => SellerErrorKind::ContextLength,
        // The market's choice of a model, and the allowance of its key: never the buyer's fault.
        400 if says(["is not supported by the", "not ready for serving"]) => SellerErrorKind::Unavailable,
        429 if says(["/ month", "per month"]) => SellerErrorKind::Unavailable,
        _ => SellerError::kind_of_status(status),
    }
}

#[cfg(test)]
mod tests;

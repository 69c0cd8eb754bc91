//! The grammar of Ollama's `api/chat`, one value of JSON on each line of a stream. Sellers speak it, buyers do not.
//!
//! **Calls** had no ids until lately, and results name their function. A call without an id gets one made of the line
//! it came in; both id and name are sent back, of which each version reads what it knows.
//!
//! **The prompt is never cut.** By default a server silently drops the beginning of a conversation that is too long,
//! and what the model itself said when the answer grows too long. A market cannot sell that: both are switched off, and
//! the server's error says so instead. Versions before 0.12.6 do not know the switches.
//!
//! **Pictures** must be in the request, in base64: these servers fetch nothing. Sound and documents they do not know.
//!
//! Sources: Ollama's OpenAPI page, the types of its server and its streaming and error pages, as of 2026-10.

mod errors;
mod reader;
mod write;

use super::grammar::{Call, Dialect, EventReader, Facts, Framing, SellerError, Shape, Written};
use super::lists::{self, ListForm, Listed};
use super::neutral::{Answer, Request};
use crate::error::ApiError;
use serde_json::Value;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Ollama;

const FACTS: Facts = Facts {
    shape: Shape::Ollama,
    framing: Framing::Lines,
    path: |_, _| "/api/chat".to_owned(),
    list: ListForm { path: "/api/tags", models: "models", more: "", entry: listed },
    count: None,
    #[cfg(test)]
    mirror: Some(&tests::MIRROR),
};

impl Dialect for Ollama {
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
        errors::read_error(status, body)
    }
}

/// One of the models that a server has.
fn listed(entry: &Value) -> Option<Listed> {
    let level = lists::text(entry, "/details/quantization_level").unwrap_or_default();
    Some(Listed {
        id: lists::text(entry, "/model").or_else(|| lists::text(entry, "/name"))?,
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

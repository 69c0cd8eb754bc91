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
use super::neutral::{Answer, Request};
use crate::error::ApiError;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Ollama;

const FACTS: Facts =
    Facts { shape: Shape::Ollama, framing: Framing::Lines, path: |_, _| "/api/chat".to_owned() };

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

#[cfg(test)]
mod tests;

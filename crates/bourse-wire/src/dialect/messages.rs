//! The grammar of Anthropic's `messages`, as buyers speak it and as sellers do.
//!
//! A body is looked at in one pass (`parse`) and goes unchanged to sellers of this grammar; it is read in full
//! (`read`) only for sellers of another. What this grammar alone can say (tools that the seller runs, citations,
//! files in its containers) is refused there with the field's name.
//!
//! **Prompt tokens.** Here `input_tokens` leaves out what was read from and written into the cache; everywhere
//! else in the market the prompt is the whole, so both are added on reading and taken off on writing.
//!
//! **Streams.** Usage comes in two halves, with the first event and with `message_delta`; the market reports the
//! second, where the price stands. A stream ends with `message_stop`; one that breaks ends with the event `error`,
//! which clients take for an exception, after a `message_delta` that says what was billed.
//!
//! **Signed reasoning.** A signature of another origin is tagged, one that was never there is empty. Both are taken
//! out of a conversation that goes back to this grammar's sellers, who would refuse it.
//!
//! Sources: Anthropic's API reference (Messages, streaming, errors, prompt caching, thinking, structured outputs) and
//! the types of its Python SDK 2.14. Members of betas pass to sellers of this grammar and are not read.

mod answer;
mod blocks;
mod body;
mod clean;
mod errors;
mod models;
mod parse;
mod passage;
mod read;
mod reader;
mod usage;
mod words;
mod write;
mod writer;

pub(super) use answer::{push_answer, view};
pub(super) use clean::push_clean;
pub(super) use errors::error_body;
pub use parse::{count_answer, parse_count};
pub(super) use parse::{parse, push_thinking};
pub(super) use read::read;
pub(super) use usage::{push_usage, read_usage};

use super::grammar::{
    Call, Dialect, EventReader, EventWriter, Facts, Framing, Head, Passage, SellerError, Shape, Written,
};
use super::neutral::{Answer, Request};
use crate::error::ApiError;

/// Most models in `fallbacks`.
pub const FALLBACKS_MAX: usize = 3;
/// Fewest tokens that a seller of this grammar can be told to think.
pub const THINKING_TOKENS_MIN: u32 = 1_024;
/// Most marks of `cache_control` that sellers of this grammar take.
pub const CACHE_MARKS_MAX: usize = 4;
/// Tokens of the answer at most where neither buyer nor market says: this grammar cannot leave it open, and every
/// current model can say as much.
pub const MAX_TOKENS_DEFAULT: u32 = 8_192;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Messages;

const FACTS: Facts = Facts {
    shape: Shape::Messages,
    framing: Framing::Sse,
    path: |_, _| "/messages".to_owned(),
    list: models::LIST,
    count: Some(models::COUNT),
    #[cfg(test)]
    mirror: None,
};

impl Dialect for Messages {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn write(&self, request: &Request, call: &Call<'_>) -> Result<Written, ApiError> {
        write::write(request, call)
    }

    fn read_answer(&self, body: &str) -> Result<Answer, SellerError> {
        answer::read_answer(body)
    }

    fn reader(&self) -> Box<dyn EventReader> {
        Box::new(reader::Reader::default())
    }

    fn read_error(&self, status: u16, body: &[u8]) -> SellerError {
        errors::read_error(status, body)
    }
}

pub(super) fn writer(head: &Head) -> Box<dyn EventWriter> {
    Box::new(writer::Writer::new(head))
}

pub(super) fn passage(_head: &Head) -> Box<dyn Passage> {
    Box::new(passage::OwnPassage::default())
}

#[cfg(test)]
mod tests;

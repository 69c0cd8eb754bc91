//! The grammar of OpenAI's `responses`: as buyers speak it, and as sellers do.
//!
//! An answer is a list of items (messages, calls, thoughts), not of choices; a stream is a grammar of events with
//! increasing numbers in which items and their parts are added, grow and are done, and which ends in exactly one of
//! `response.completed`, `response.incomplete` and `response.failed`. Buyers here rely on no state: nothing is stored, each
//! request brings the whole conversation.
//!
//! Errors before an answer begins are the house's envelope; within an answer they are the response's `error`, with
//! the stable word beside it in `error_type`.
//!
//! Sources: OpenAI's API reference of responses and of their streaming events, and the types of its official
//! clients; OpenRouter's schema of the same, which is stricter (`name` in `function_call_arguments.done`, two
//! amounts in `cost_details`).

mod answer;
mod echo;
mod envelope;
mod error;
mod event;
mod item;
mod parse;
mod passage;
mod read;
mod reader;
mod write;
mod writer;

pub use echo::echo;

pub(super) use answer::{push_answer, view};
pub(super) use echo::{push_clean, push_rebuilt};
pub(super) use envelope::{push_usage, read_usage};
pub(super) use parse::parse;
pub(super) use read::read;

use super::grammar::{
    Call, Dialect, EventReader, EventWriter, Facts, Framing, Head, Passage, SellerError, Shape, Written,
};
use super::lists;
use super::neutral::{Answer, Request};
use crate::error::ApiError;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Responses;

const FACTS: Facts = Facts {
    shape: Shape::Responses,
    framing: Framing::Sse,
    path: |_, _| "/responses".to_owned(),
    list: lists::OPENAI,
    count: None,
    #[cfg(test)]
    mirror: None,
};

impl Dialect for Responses {
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
        error::read_error(status, body)
    }
}

pub(super) fn writer(head: &Head) -> Box<dyn EventWriter> {
    Box::new(writer::Writer::new(head))
}

pub(super) fn passage(head: &Head) -> Box<dyn Passage> {
    Box::new(passage::OwnPassage::new(head))
}

#[cfg(test)]
mod tests;

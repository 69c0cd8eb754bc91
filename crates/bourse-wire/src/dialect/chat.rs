//! The grammar of OpenAI's `chat/completions`, and of legacy `completions`, in the neutral form.

use super::grammar::{
    Billed, Call, Dialect, EventReader, EventWriter, Head, Passage, SellerError, Shape, Written,
};
use super::neutral::{Answer, Request};
use super::{Api, Job};
use crate::error::ApiError;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Chat;

impl Dialect for Chat {
    fn shape(&self) -> Shape {
        Shape::Chat
    }
    fn write(&self, _request: &Request, _call: &Call<'_>) -> Result<Written, ApiError> {
        todo!()
    }
    fn read_answer(&self, _body: &str) -> Result<Answer, SellerError> {
        todo!()
    }
    fn reader(&self) -> Box<dyn EventReader> {
        todo!()
    }
    fn read_error(&self, _status: u16, _body: &[u8]) -> SellerError {
        todo!()
    }
}

pub(super) fn read(_job: &Job) -> Result<Request, ApiError> {
    todo!()
}

pub(super) fn read_text(_job: &Job) -> Result<Request, ApiError> {
    todo!()
}

pub(super) fn writer(_api: Api, _head: &Head) -> Box<dyn EventWriter> {
    todo!()
}

pub(super) fn passage(_api: Api, _head: &Head) -> Box<dyn Passage> {
    todo!()
}

pub(super) fn push_answer(
    _api: Api,
    _head: &Head,
    _answer: &Answer,
    _billed: &Billed<'_>,
    _more: &[u8],
    _out: &mut Vec<u8>,
) {
    todo!()
}

pub(super) fn push_usage(_billed: &Billed<'_>, _out: &mut Vec<u8>) {
    todo!()
}

/// The prompt for a node.
pub(super) fn node_prompt(_request: &Request) -> Result<crate::node::Prompt, ApiError> {
    todo!()
}

//! The grammar of OpenAI's `responses`.

use super::grammar::{
    Billed, Call, Dialect, EventReader, EventWriter, Head, Passage, SellerError, Shape, Written,
};
use super::neutral::{Answer, Request};
use super::{Job, PlainView, SellerUsage};
use crate::error::ApiError;
use crate::json::JsonError;
use bytes::Bytes;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Responses;

impl Dialect for Responses {
    fn shape(&self) -> Shape {
        Shape::Responses
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

pub(super) fn parse(_body: Bytes) -> Result<Job, ApiError> {
    todo!()
}

pub(super) fn read(_job: &Job) -> Result<Request, ApiError> {
    todo!()
}

pub(super) fn writer(_head: &Head) -> Box<dyn EventWriter> {
    todo!()
}

pub(super) fn passage(_head: &Head) -> Box<dyn Passage> {
    todo!()
}

pub(super) fn push_answer(
    _head: &Head,
    _answer: &Answer,
    _billed: &Billed<'_>,
    _more: &[u8],
    _out: &mut Vec<u8>,
) {
    todo!()
}

pub(super) fn view(_body: &str) -> Result<PlainView, JsonError> {
    todo!()
}

pub(super) fn push_usage(_billed: &Billed<'_>, _out: &mut Vec<u8>) {
    todo!()
}

pub(super) fn read_usage(_raw: &str) -> Option<SellerUsage> {
    todo!()
}

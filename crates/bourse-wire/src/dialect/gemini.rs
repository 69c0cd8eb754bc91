//! The grammar of Google's `generateContent`. Sellers speak it, buyers do not.

use super::grammar::{Call, Dialect, EventReader, SellerError, Shape, Written};
use super::neutral::{Answer, Request};
use crate::error::ApiError;

/// The grammar as sellers speak it.
#[derive(Debug, Clone, Copy)]
pub struct Gemini;

impl Dialect for Gemini {
    fn shape(&self) -> Shape {
        Shape::Gemini
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

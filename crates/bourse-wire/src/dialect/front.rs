//! The grammars that buyers speak: `chat/completions`, `responses`, `messages`, and legacy `completions`.
//!
//! One function for each thing that a front can do; each grammar answers in its own module. Endpoints that pass
//! through ([`passthrough`]) have a parser and the errors of chat, and neither streams nor a neutral form.

use super::grammar::{Billed, Dialect, EventWriter, Head, Passage, Shape};
use super::neutral::{Answer, Request};
use super::{Api, Job, PlainView, SellerUsage, chat, messages, openai, passthrough, responses};
use crate::error::{ApiError, ErrorType};
use crate::json::JsonError;
use bytes::Bytes;

/// Reads a request.
pub fn parse(api: Api, body: Bytes) -> Result<Job, ApiError> {
    match api {
        Api::Chat | Api::Text => openai::parse(api, body),
        Api::Responses => responses::parse(body),
        Api::Messages => messages::parse(body),
        _ => passthrough::parse(api, body),
    }
}

/// Reads a request whose body may be a form, by its content type.
pub fn parse_typed(api: Api, content_type: Option<&str>, body: Bytes) -> Result<Job, ApiError> {
    if api.is_passed_through() { passthrough::parse_typed(api, content_type, body) } else { parse(api, body) }
}

/// What a request says. Needed only where the seller speaks another grammar; an error names the field that no
/// other grammar can say.
pub fn read(job: &Job) -> Result<Request, ApiError> {
    match job.api {
        Api::Chat => chat::read(job),
        Api::Text => chat::read_text(job),
        Api::Responses => responses::read(job),
        Api::Messages => messages::read(job),
        _ => Err(ApiError::new(
            ErrorType::InvalidRequest,
            "this endpoint is no conversation: nothing else says it",
        )),
    }
}

/// The writer of one stream.
pub fn writer(api: Api, head: &Head) -> Box<dyn EventWriter> {
    match api {
        Api::Responses => responses::writer(head),
        Api::Messages => messages::writer(head),
        _ => chat::writer(api, head),
    }
}

/// The passage of one stream from a seller that speaks the front's own grammar.
pub fn passage(api: Api, head: &Head) -> Box<dyn Passage> {
    match api {
        Api::Responses => responses::passage(head),
        Api::Messages => messages::passage(head),
        _ => chat::passage(api, head),
    }
}

/// Appends a whole answer. `more` is raw text of further members with a leading comma.
pub fn push_answer(
    api: Api,
    head: &Head,
    answer: &Answer,
    billed: &Billed<'_>,
    more: &[u8],
    out: &mut Vec<u8>,
) {
    match api {
        Api::Responses => responses::push_answer(head, answer, billed, more, out),
        Api::Messages => messages::push_answer(head, answer, billed, more, out),
        _ => chat::push_answer(api, head, answer, billed, more, out),
    }
}

/// The grammar that sellers of this shape are spoken to in. Legacy completions and endpoints that pass through have no
/// neutral form; their errors are those of chat.
pub fn dialect(shape: Shape) -> &'static dyn Dialect {
    shape.dialect().unwrap_or(&chat::Chat::Server)
}

/// The body of an error.
pub fn error_body(api: Api, error: &ApiError) -> Vec<u8> {
    match api {
        Api::Messages => messages::error_body(error),
        _ => error.to_json(),
    }
}

/// Looks at a whole answer of a seller that speaks the front's own grammar.
pub fn view(api: Api, body: &str) -> Result<PlainView, JsonError> {
    match api {
        Api::Responses => responses::view(body),
        Api::Messages => messages::view(body),
        _ => PlainView::read(api, body),
    }
}

/// Reads the usage object of a seller that speaks the front's own grammar. `None` when its counts are missing,
/// negative or not numbers: an unknown count is not zero.
pub fn read_usage(api: Api, raw: &str) -> Option<SellerUsage> {
    match api {
        Api::Chat | Api::Text => super::read_usage(raw),
        Api::Responses => responses::read_usage(raw),
        Api::Messages => messages::read_usage(raw),
        _ => passthrough::read_usage(api, raw),
    }
}

/// Appends a usage object with its price.
pub fn push_usage(api: Api, billed: &Billed<'_>, out: &mut Vec<u8>) {
    match api {
        Api::Responses => responses::push_usage(billed, out),
        Api::Messages => messages::push_usage(billed, out),
        _ => chat::push_usage(billed, out),
    }
}

//! Headers by which an answer is found again and what was changed on its way is told.
//!
//! Clients look for the id under names of their own makers; all carry the same one. What no header can carry is left out
//! and breaks no answer.

use bourse_types::RequestId;
use bourse_wire::dialect::neutral::Notice;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Names the generation on every answer to a request for one.
pub const GENERATION_HEADER: HeaderName = HeaderName::from_static("x-generation-id");
/// Names the receipt; the same id.
pub const RECEIPT_HEADER: HeaderName = HeaderName::from_static("x-bourse-receipt");
/// The same id, where Anthropic's and OpenAI's clients look for it.
const REQUEST_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("request-id"), HeaderName::from_static("x-request-id")];
/// The header that says what was left out of a request for the seller that answered it.
const NOTICE_HEADER: HeaderName = HeaderName::from_static("x-bourse-notice");
/// Most notices that are told.
const NOTICES_MAX: usize = 8;

/// Tells what was left out of the request for the seller that answers, a field for each: nobody sees it otherwise.
pub(crate) fn tell_notices(headers: &mut HeaderMap, notices: &[Notice]) {
    for notice in notices.iter().take(NOTICES_MAX) {
        // What no header can carry is not in a field's name, and the words are ours.
        if let Ok(value) = HeaderValue::try_from(format!("{}: {}", notice.param, notice.what)) {
            headers.append(NOTICE_HEADER, value);
        }
    }
}

/// Names a request that is in the books.
pub(crate) fn name_request(headers: &mut HeaderMap, request: RequestId) {
    // An id is ASCII letters, digits and a dash.
    if let Ok(value) = HeaderValue::try_from(request.to_string()) {
        headers.insert(GENERATION_HEADER, value.clone());
        for name in REQUEST_HEADERS {
            headers.insert(name, value.clone());
        }
        headers.insert(RECEIPT_HEADER, value);
    }
}

/// Names a call that is in no book, for the log and for whoever asks about it.
pub(crate) fn name_call(headers: &mut HeaderMap, request: RequestId) {
    if let Ok(value) = HeaderValue::try_from(request.to_string()) {
        for name in REQUEST_HEADERS {
            headers.insert(name, value.clone());
        }
    }
}

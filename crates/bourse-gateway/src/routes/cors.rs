//! Calls from web pages of other origins (CORS, Fetch standard §3.3).
//!
//! Every origin may call and read: who pays is told by the key in a header, which no page has by itself; cookies are not
//! looked at and credentials never allowed. What is not a call from a page is answered without these headers.

use crate::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

/// Headers of answers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, request-id, x-generation-id, x-bourse-receipt, x-bourse-cost, x-bourse-notice, retry-after, retry-after-ms, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-should-retry, idempotent-replayed",
);
/// Methods that some path takes.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// How long a page need not ask again, in seconds.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");
/// Longest list of headers that is allowed as it was asked for, in bytes.
const ASKED_BYTES_MAX: usize = 1_024;

/// The answer to a page's question whether it may call; none for any other call.
pub(crate) fn preflight(head: &Parts) -> Option<Response<Body>> {
    let is_one = head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_one {
        return None;
    }
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    let asked = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| asked.len() <= ASKED_BYTES_MAX) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(response)
}

/// Lets the page read the answer, where a page asks.
pub(crate) fn allow(asked: &HeaderMap, answer: &mut HeaderMap) {
    if asked.contains_key(header::ORIGIN) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

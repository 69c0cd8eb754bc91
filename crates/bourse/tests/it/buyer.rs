//! A buyer that sees what came over the wire: status, headers, body, and when.

use crate::MODEL;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than any answer may take.
const STUCK_AFTER: Duration = Duration::from_mins(1);

/// What came back of one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The generation's id, where there is one.
    pub(crate) generation: Option<String>,
    /// Whether it was given before.
    pub(crate) is_replayed: bool,
    pub(crate) body: String,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
}

impl Answer {
    /// Whether all of it came and it ended well.
    pub(crate) fn is_whole(&self) -> bool {
        let is_stream = self.body.contains("data: ");
        self.status == 200
            && (!is_stream || self.body.contains("data: [DONE]") && !self.body.contains("\"error\""))
    }

    /// The body of a plain answer.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request over a connection of its own. None: nobody answered, or the answer broke off in its head.
pub(crate) fn call(base_url: &str, key: &str, method: &str, path: &str, body: &str) -> Option<Answer> {
    call_with(base_url, key, "", (method, path), body)
}

/// A request for a generation under an `Idempotency-Key`.
pub(crate) fn buy_once(base_url: &str, key: &str, named: &str, is_streamed: bool) -> Option<Answer> {
    let more = format!("idempotency-key: {named}\r\n");
    call_with(base_url, key, &more, ("POST", "/chat/completions"), &generation("hello", is_streamed))
}

/// [`call`] with more lines of its head.
fn call_with(
    base_url: &str,
    key: &str,
    more: &str,
    (method, path): (&str, &str),
    body: &str,
) -> Option<Answer> {
    let begun = Instant::now();
    let host = base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(STUCK_AFTER)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} /v1{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         {more}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // What came before it broke off counts.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let generation = head.lines().find_map(|line| line.strip_prefix("x-generation-id: ")).map(str::to_owned);
    let is_replayed = head.contains("idempotent-replayed: true");
    let is_chunked = head.contains("transfer-encoding: chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Some(Answer { status, generation, is_replayed, body, begun, ended: Instant::now() })
}

/// What came of a body in chunks, without their lengths.
fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(after.get(..length).unwrap_or(after));
        rest = after.get(length..).and_then(|rest| rest.strip_prefix("\r\n")).unwrap_or_default();
    }
    body
}

/// A request for a generation.
pub(crate) fn buy(base_url: &str, key: &str, text: &str, is_streamed: bool) -> Option<Answer> {
    call(base_url, key, "POST", "/chat/completions", &generation(text, is_streamed))
}

fn generation(text: &str, is_streamed: bool) -> String {
    let messages = serde_json::json!([{"role": "user", "content": text}]);
    serde_json::json!({"model": MODEL, "stream": is_streamed, "messages": messages}).to_string()
}

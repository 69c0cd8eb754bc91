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
    let begun = Instant::now();
    let host = base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(STUCK_AFTER)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} /v1{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // What came before it broke off counts.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let generation = head.lines().find_map(|line| line.strip_prefix("x-generation-id: ")).map(str::to_owned);
    Some(Answer { status, generation, body: body.to_owned(), begun, ended: Instant::now() })
}

/// A request for a generation.
pub(crate) fn buy(base_url: &str, key: &str, text: &str, is_streamed: bool) -> Option<Answer> {
    let body = serde_json::json!({
        "model": MODEL, "stream": is_streamed, "messages": [{"role": "user", "content": text}]
    });
    call(base_url, key, "POST", "/chat/completions", &body.to_string())
}

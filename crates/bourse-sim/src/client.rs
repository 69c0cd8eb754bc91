//! A buyer that sends any bytes and shows exactly what came back.
//!
//! Ordinary HTTP clients hide what tests are about: whether a body was whole, how many terminals a
//! stream had, what follows the end mark. This one keeps the raw body and says how the connection ended.
//! One request per connection unless [`Caller`] is kept.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest response that is kept, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// A response, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// True when the framing says that the body is whole.
    pub whole: bool,
    /// Fields behind a chunked body.
    pub trailers: Vec<u8>,
}

impl Response {
    /// The first header field of this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is not.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The data of the body's server-sent events, whole events only, in order.
    pub fn events(&self) -> Vec<String> {
        let text = self.text().replace("\r\n", "\n");
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let data_of = |event: &str| {
            let lines: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data:")).collect();
            (!lines.is_empty()).then(|| lines.iter().map(|l| l.trim_start()).collect::<Vec<_>>().join("\n"))
        };
        whole.split("\n\n").filter_map(data_of).collect()
    }
}

/// Builds an HTTP/1.1 request. `body` gets a `content-length`.
pub fn request(method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: sim\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in fields {
        out.push_str(name);
        out.push_str(": ");
        out.push_str(value);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(body);
    out
}

/// One connection to a server.
#[derive(Debug)]
pub struct Caller<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
}

impl Caller {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

/// Sends a request on a connection of its own and reads the response to its end. A server may answer and
/// close before it has read everything; then the failed write does not matter, the answer does.
pub async fn call(address: SocketAddr, request: &[u8]) -> io::Result<Response> {
    let mut caller = Caller::connect(address).await?;
    let sent = caller.send(request).await;
    let response = caller.response().await;
    if response.is_err() { sent.and(response) } else { response }
}

impl<S: AsyncRead + tokio::io::AsyncWrite + Unpin> Caller<S> {
    /// Uses an open connection.
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Writes bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads until the received bytes contain `needle`; `false` when the connection ended first.
    pub async fn read_until(&mut self, needle: &[u8]) -> bool {
        let mut searched = 0;
        loop {
            if memchr::memmem::find(&self.received[searched..], needle).is_some() {
                return true;
            }
            searched = self.received.len().saturating_sub(needle.len());
            if !matches!(self.fill().await, Ok(true)) {
                return false;
            }
        }
    }

    /// Reads one response. An error means that the connection ended before the head was whole.
    pub async fn response(&mut self) -> io::Result<Response> {
        let mut response = loop {
            if let Some((response, head_bytes)) = parse_head(&self.received)? {
                self.received.drain(..head_bytes);
                if response.status >= 200 {
                    break response;
                }
            } else if !self.fill().await? {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no response"));
            }
        };
        let chunked = response.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let length = response.header("content-length").and_then(|value| value.parse::<usize>().ok());
        match (chunked, length) {
            (true, _) => self.read_chunks(&mut response).await,
            (false, Some(length)) => {
                (response.body, response.whole) = self.take(length).await;
            }
            (false, None) => {
                while matches!(self.fill().await, Ok(true)) {}
                response.body = std::mem::take(&mut self.received);
                response.whole = true;
            }
        }
        Ok(response)
    }

    async fn fill(&mut self) -> io::Result<bool> {
        if self.received.len() > RESPONSE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "response too long"));
        }
        self.received.reserve(READ_BYTES);
        Ok(self.stream.read_buf(&mut self.received).await? > 0)
    }

    async fn take(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.received.len() < length {
            if !matches!(self.fill().await, Ok(true)) {
                return (std::mem::take(&mut self.received), false);
            }
        }
        (self.received.drain(..length).collect(), true)
    }

    async fn take_line(&mut self) -> Option<Vec<u8>> {
        let at = loop {
            if let Some(at) = memchr::memmem::find(&self.received, b"\r\n") {
                break at;
            }
            if !matches!(self.fill().await, Ok(true)) {
                return None;
            }
        };
        let line = self.received.drain(..at + 2).take(at).collect();
        Some(line)
    }

    async fn read_chunks(&mut self, response: &mut Response) {
        while let Some(line) = self.take_line().await {
            let size = std::str::from_utf8(&line).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let Some(size) = size else { return };
            if size == 0 {
                while let Some(line) = self.take_line().await {
                    if line.is_empty() {
                        response.whole = true;
                        return;
                    }
                    response.trailers.extend(line);
                }
                return;
            }
            let (bytes, whole) = self.take(size).await;
            response.body.extend(bytes);
            if !whole || self.take_line().await.is_none() {
                return;
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(Response, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => {
            let headers = head.headers.iter().map(|field| {
                (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned())
            });
            let headers = headers.collect();
            Ok(Some((Response { status: head.code.unwrap_or(0), headers, ..Response::default() }, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

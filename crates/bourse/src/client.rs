//! A small HTTP client for the command line: one request, one connection.
//!
//! The commands talk to a market on this machine or, for the log of receipts, to one elsewhere. They need no
//! pool, no redirects and no cookies, so hyper's connection is enough; TLS is the gateway's own way to a
//! seller. Answers are bounded; a stream hands out whole lines.

use bourse_gateway::{Connect as _, Io, NetConnect, Target};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// Longest answer that is read at once, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest line of a streamed answer, in bytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Most time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClientError {
    /// Not an address this client can call.
    #[error("`{0}` is not an address that can be called")]
    #[diagnostic(help("write it as http://HOST:PORT or https://HOST, such as http://127.0.0.1:8420/v1"))]
    Address(String),
    /// Nobody answers there.
    #[error("nobody answers at {address}")]
    #[diagnostic(help("is the market running? `bourse up` starts one"))]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the market broke")]
    #[diagnostic(help("the market may have stopped; its own messages say why"))]
    Broken(#[source] hyper::Error),
    /// The answer (or one line of it) is too long.
    #[error("the answer is longer than {0} bytes")]
    #[diagnostic(help("is this the address of a market?"))]
    TooLong(usize),
    /// The market refused.
    #[error("the market answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
        /// What it advises.
        #[help]
        hint: Option<String>,
    },
    /// The answer is not what was asked for.
    #[error("the answer is not what a market would say: {0}")]
    #[diagnostic(help("is this the address of a market, and of this version?"))]
    Malformed(String),
}

impl ClientError {
    /// The same with another advice where the market answered so.
    #[must_use]
    pub fn hinting(mut self, of: StatusCode, advice: &str) -> Self {
        if let Self::Refused { status, hint, .. } = &mut self
            && *status == of
        {
            *hint = Some(advice.to_owned());
        }
        self
    }
}

/// One market to call, and how to present oneself.
#[derive(Clone)]
pub struct Client {
    target: Target,
    prefix: String,
    bearer: Option<String>,
}

impl Client {
    /// A client for everything below `base_url`.
    pub fn new(base_url: &str, bearer: Option<String>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(base_url.to_owned());
        let uri: Uri = base_url.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty() && uri.query().is_none()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = Target { tls, host, port: uri.port_u16().unwrap_or(port) };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { target, prefix, bearer })
    }

    /// Fetches a JSON document.
    pub async fn get(&self, path: &str) -> Result<serde_json::Value, ClientError> {
        parse(&self.get_bytes(path).await?)
    }

    /// Fetches a document as it is, for what is signed or kept.
    pub async fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        whole(self.send(Method::GET, path, None).await?).await
    }

    /// Sends one JSON document and fetches another.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, ClientError> {
        parse(&whole(self.send(Method::POST, path, Some(body)).await?).await?)
    }

    /// Sends one JSON document and reads the answer line by line.
    pub async fn stream(&self, path: &str, body: &serde_json::Value) -> Result<Lines, ClientError> {
        let response = self.send(Method::POST, path, Some(body)).await?;
        let (head, body) = response.into_parts();
        Ok(Lines { headers: head.headers, body, buffer: Vec::new(), ended: false })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(ClientError::Broken)?;
        // The task ends with the connection, which ends with the answer's body.
        tokio::spawn(connection);
        let target = format!("{}{path}", self.prefix);
        let mut request = Request::builder()
            .method(method)
            .uri(&target)
            .header(header::HOST, self.authority())
            .header(header::USER_AGENT, concat!("bourse/", env!("CARGO_PKG_VERSION")));
        if let Some(bearer) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(json.to_string())
            }
        };
        let request = request.body(Full::new(bytes)).map_err(|_| ClientError::Address(target))?;
        let response = sender.send_request(request).await.map_err(ClientError::Broken)?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    fn authority(&self) -> String {
        let Target { host, port, .. } = &self.target;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect(&self) -> Result<Io, ClientError> {
        let connecting = async {
            if self.target.tls {
                return NetConnect::new().connect(&self.target).await;
            }
            let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Io::Tcp(stream))
        };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        connected.map_err(|source| ClientError::Connect { address: self.authority(), source })
    }
}

async fn whole(response: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(ClientError::Broken)?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::TooLong(ANSWER_BYTES_MAX));
        }
    }
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<serde_json::Value, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Malformed(error.to_string()))
}

/// Reads the error that a market (or anything else) answered with.
async fn refusal(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let bytes = match whole(response).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let message = json.pointer("/error/message").and_then(serde_json::Value::as_str);
    let message = message.map_or_else(
        || String::from_utf8_lossy(&bytes).chars().take(200).collect::<String>().trim().to_owned(),
        str::to_owned,
    );
    ClientError::Refused { status, message, hint: hint(status).map(str::to_owned) }
}

fn hint(status: StatusCode) -> Option<&'static str> {
    match status.as_u16() {
        401 | 403 => Some("the key may have been revoked; `bourse key list` shows the keys of this market"),
        402 => Some("`bourse ledger balance` shows what is left; `bourse key limit` changes a key's limit"),
        404 => Some("`bourse models` lists what this market sells"),
        429 | 503 => Some("try again in a moment"),
        _ => None,
    }
}

/// A streamed answer, line by line.
pub struct Lines {
    headers: HeaderMap,
    body: Incoming,
    buffer: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// A header of the answer, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next line without its end; `None` after the last. Invalid UTF-8 is replaced, not refused.
    pub async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            if end.unwrap_or(self.buffer.len()) > LINE_BYTES_MAX {
                return Err(ClientError::TooLong(LINE_BYTES_MAX));
            }
            if let Some(end) = end {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()));
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(frame) => {
                    if let Ok(data) = frame.map_err(ClientError::Broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! HTTP/1 requests from bytes: `httparse` for the head, a few lines for the body.
//!
//! Reading only; responses are made byte by byte elsewhere, because being wrong on purpose needs full
//! control. Bounds: 64 KiB of head, 64 fields, 16 MiB of body; beyond them the connection is closed.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest request head in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header fields.
const FIELDS_MAX: usize = 64;
/// Longest request body in bytes: above every limit that a market would set, so that its limits show.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// One request. Field names are in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HttpRequest {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
}

impl HttpRequest {
    /// The first field of this lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The token of `Authorization: Bearer …`.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.header("authorization").and_then(|value| value.strip_prefix("Bearer "))
    }
}

/// Bytes received and not yet consumed.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Inbox {
    /// Waits for more bytes; `false` at the end of the stream. Cancellation safe: what was read is kept.
    pub(super) async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<bool> {
        if self.0.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX {
            return Err(invalid("more bytes than any request may have"));
        }
        self.0.reserve(READ_BYTES);
        Ok(reader.read_buf(&mut self.0).await? > 0)
    }

    /// The first byte, once there is one; `None` at the end of the stream.
    pub(super) async fn peek<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<Option<u8>> {
        while self.0.is_empty() {
            if !self.fill(reader).await? {
                return Ok(None);
            }
        }
        Ok(self.0.first().copied())
    }

    /// The next request, or `None` when the peer closed between requests.
    pub(super) async fn request<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
    ) -> io::Result<Option<HttpRequest>> {
        let (mut request, body) = loop {
            if let Some((request, head_bytes, body)) = parse_head(&self.0)? {
                self.0.drain(..head_bytes);
                break (request, body);
            }
            if self.0.len() > HEAD_BYTES_MAX {
                return Err(invalid("request head too long"));
            }
            if !self.fill(reader).await? {
                return if self.0.is_empty() { Ok(None) } else { Err(invalid("request cut off")) };
            }
        };
        request.body = match body {
            BodyLength::Known(length) if length > BODY_BYTES_MAX => return Err(invalid("body too long")),
            BodyLength::Known(length) => self.take(reader, length).await?,
            BodyLength::Chunked => self.take_chunks(reader).await?,
        };
        Ok(Some(request))
    }

    async fn take<R: AsyncRead + Unpin>(&mut self, reader: &mut R, length: usize) -> io::Result<Vec<u8>> {
        while self.0.len() < length {
            if !self.fill(reader).await? {
                return Err(invalid("request body cut off"));
            }
        }
        Ok(self.0.drain(..length).collect())
    }

    async fn take_line<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.0, b"\r\n") {
                let mut line = self.take(reader, at + 2).await?;
                line.truncate(at);
                return Ok(line);
            }
            if self.0.len() > HEAD_BYTES_MAX || !self.fill(reader).await? {
                return Err(invalid("chunk line missing"));
            }
        }
    }

    async fn take_chunks<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line(reader).await?;
            let digits = std::str::from_utf8(&line).ok().and_then(|text| text.split(';').next());
            let size = digits.and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let size = size.ok_or_else(|| invalid("chunk size is not a number"))?;
            if size > BODY_BYTES_MAX.saturating_sub(body.len()) {
                return Err(invalid("body too long"));
            }
            if size == 0 {
                while !self.take_line(reader).await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(reader, size).await?);
            self.take_line(reader).await?;
        }
    }
}

enum BodyLength {
    Known(usize),
    Chunked,
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(HttpRequest, usize, BodyLength)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let head_bytes = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
        .collect();
    let request = HttpRequest {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        headers,
        body: Vec::new(),
        keep_alive: head.version == Some(1),
    };
    let keep_alive = request.keep_alive && !request.header("connection").is_some_and(|v| v.contains("close"));
    let chunked = request.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let length = request.header("content-length").map_or(Ok(0), str::parse);
    let length = length.map_err(|_| invalid("content-length is not a number"))?;
    let body = if chunked { BodyLength::Chunked } else { BodyLength::Known(length) };
    Ok(Some((HttpRequest { keep_alive, ..request }, head_bytes, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> io::Result<Vec<HttpRequest>> {
        let (mut inbox, mut reader) = (Inbox::default(), bytes);
        let mut out = Vec::new();
        while let Some(request) = inbox.request(&mut reader).await? {
            out.push(request);
        }
        Ok(out)
    }

    #[tokio::test]
    async fn reads_pipelined_requests_of_both_framings() {
        let bytes = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nAuthorization: Bearer k\r\n\r\nabc\
            POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            2;x=1\r\nde\r\n1\r\nf\r\n0\r\nt: 1\r\n\r\n";
        let got = read_all(bytes).await.unwrap();
        assert_eq!(
            (got[0].body.as_slice(), got[0].bearer(), got[0].keep_alive),
            (&b"abc"[..], Some("k"), true)
        );
        assert_eq!((got[1].body.as_slice(), got[1].bearer(), got[1].keep_alive), (&b"def"[..], None, false));
    }

    #[tokio::test]
    async fn refuses_what_is_cut_or_too_long() {
        assert!(read_all(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab").await.is_err());
        assert!(read_all(b"POST /a HTTP/1.1\r\n").await.is_err());
        let long = format!("POST /a HTTP/1.1\r\ncontent-length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
        assert!(read_all(long.as_bytes()).await.is_err());
        let endless = vec![b'a'; HEAD_BYTES_MAX + 1];
        assert!(read_all(&endless).await.is_err());
    }
}

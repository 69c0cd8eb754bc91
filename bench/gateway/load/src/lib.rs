//! HTTP/1.1 over one TCP connection, just enough of it and as cheap as it goes.
//!
//! Mock and load share a core while the gateway has another, so what they cost limits what can be measured.
//! Everything a peer may send on loopback in these scenarios is understood; nothing else is.

use std::time::Instant;

use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How a body ends.
#[derive(Clone, Copy)]
enum End {
    Length(usize),
    Chunked,
    Close,
}

/// One message read; the body lies in the buffer that the caller gave.
pub struct Message {
    /// Request or status line and headers, as they came.
    pub head: Vec<u8>,
    /// When the first byte of the body was there; when the head was, if they came together.
    pub first_byte: Instant,
    /// Whether the connection can carry another message.
    pub keep_alive: bool,
}

/// Which side is read: only an answer may end with its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A request; without a length it has no body.
    Request,
    /// An answer.
    Answer,
}

/// One connection with what was read ahead of it.
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl Connection {
    /// Takes over a connected socket.
    pub fn new(stream: TcpStream) -> Self {
        // Without it the last small write of a stream waits for an acknowledgement; a failure shows as latency.
        let _ = stream.set_nodelay(true);
        Self { stream, ahead: Vec::with_capacity(64 * 1024) }
    }

    /// Reads more; `None` at the end of the stream.
    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.ahead).await.ok()?;
        (read > 0).then_some(())
    }

    /// Reads one message, its body into `body`; `None` when the peer closed or broke the protocol.
    pub async fn read(&mut self, side: Side, body: &mut Vec<u8>) -> Option<Message> {
        body.clear();
        let head_end = loop {
            if let Some(at) = memmem::find(&self.ahead, b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let mut first_byte = Instant::now();
        let head: Vec<u8> = self.ahead.drain(..head_end).collect();
        let end = end_of(&head, side);
        if self.ahead.is_empty() && !matches!(end, End::Length(0)) {
            match (self.more().await, end) {
                (None, End::Close) => {}
                (more, _) => more?,
            }
            first_byte = Instant::now();
        }
        match end {
            End::Length(length) => {
                while self.ahead.len() < length {
                    self.more().await?;
                }
                body.extend(self.ahead.drain(..length));
            }
            End::Close => {
                while self.more().await.is_some() {}
                body.append(&mut self.ahead);
            }
            End::Chunked => self.chunks(body).await?,
        }
        let closes = find_header(&head, "connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
        Some(Message { head, first_byte, keep_alive: !closes && !matches!(end, End::Close) })
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        let mut at = 0;
        loop {
            let line_end = loop {
                if let Some(found) = memmem::find(&self.ahead[at..], b"\r\n") {
                    break at + found;
                }
                self.more().await?;
            };
            let line = std::str::from_utf8(&self.ahead[at..line_end]).ok()?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            let start = line_end + 2;
            while self.ahead.len() < start + size + 2 {
                self.more().await?;
            }
            body.extend_from_slice(&self.ahead[start..start + size]);
            at = start + size + 2;
            if size == 0 {
                self.ahead.drain(..at);
                return Some(());
            }
        }
    }
}

fn end_of(head: &[u8], side: Side) -> End {
    if find_header(head, "transfer-encoding").is_some() {
        return End::Chunked;
    }
    match (find_header(head, "content-length").and_then(number), side) {
        (Some(length), _) => End::Length(length as usize),
        (None, Side::Request) => End::Length(0),
        (None, Side::Answer) => End::Close,
    }
}

/// The trimmed value of the first header of this name.
pub fn find_header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|b| *b == b'\n').skip(1).find_map(|line| {
        let (key, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The decimal number at the start of these bytes.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

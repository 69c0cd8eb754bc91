//! From a fault and an answer to the list of things that a server does with its socket.
//!
//! A [`Script`] is plain data: bytes, waits, and how the connection ends. Everything that makes a fault
//! what it is has happened when the script exists; the server only plays it.

use super::answer::to_json_text;
use super::fault::Fault;
use super::response::Told;
use super::shape::Shape;
use super::trouble::{Kind, Trouble};
use super::{plain, stream};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Bytes in one piece of a slow drip.
const DRIP_BYTES: usize = 64;
/// Seconds in every `Retry-After`.
const RETRY_AFTER_S: u64 = 2;

/// One thing that the server does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes bytes that carry this many completion tokens. `missing` further bytes were announced (by a
    /// length or a chunk size) and never come.
    Send { bytes: Vec<u8>, tokens: u64, missing: usize },
    /// Waits.
    Wait(Duration),
    /// Writes the same bytes for ever.
    Repeat { bytes: Vec<u8>, every: Duration },
    /// Does nothing until the client leaves.
    Hang,
}

impl Step {
    pub(super) fn send(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Send { bytes: bytes.into(), tokens: 0, missing: 0 }
    }
}

/// How the connection goes on after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The next request may follow.
    KeepAlive,
    /// An orderly end.
    Fin,
    /// A reset.
    Reset,
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) close: Close,
    /// Goes on although the client has left.
    pub(super) ignores_client: bool,
}

/// A body before it is framed: only `Send`, `Wait`, `Repeat` and `Hang`, and whether its end is marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) content_type: &'static str,
    pub(super) steps: Vec<Step>,
    pub(super) chunked: bool,
    /// `None`: the end of the body is marked as its framing wants. Else the connection just ends so.
    pub(super) cut: Option<Close>,
}

impl Script {
    fn ends(steps: Vec<Step>, close: Close) -> Self {
        Self { steps, close, ignores_client: false }
    }

    /// A complete JSON response of this status.
    pub(super) fn json(status: u16, fields: &[(&str, String)], body: &str) -> Self {
        Self::document(status, fields, "application/json", body)
    }

    fn document(status: u16, fields: &[(&str, String)], content_type: &str, body: &str) -> Self {
        let mut head = head(status, content_type);
        for (name, value) in fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n{body}", body.len());
        Self::ends(vec![Step::send(head)], Close::KeepAlive)
    }

    /// An error in the envelope of a shape. What stands in `retry-after` as seconds, Google repeats there.
    pub(super) fn error(shape: Shape, trouble: &Trouble, fields: &[(&str, String)]) -> Self {
        let hint = fields.iter().find(|(name, _)| *name == "retry-after");
        let seconds = hint.and_then(|(_, value)| value.parse().ok());
        let told = seconds.map_or_else(|| trouble.clone(), |seconds| trouble.clone().retry_after(seconds));
        Self::json(trouble.status(shape), fields, &to_json_text(&told.body(shape)))
    }

    /// The same script with more header fields behind the status line of an answer that has a head.
    pub(super) fn with_fields(mut self, fields: &[(&str, String)]) -> Self {
        if let Some(Step::Send { bytes, .. }) = self.steps.first_mut()
            && let Some(at) = memchr::memmem::find(bytes, b"\r\n")
        {
            let mut text = String::new();
            for (name, value) in fields {
                let _ = write!(text, "{name}: {value}\r\n");
            }
            bytes.splice(at + 2..at + 2, text.into_bytes());
        }
        self
    }
}

fn head(status: u16, content_type: &str) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    };
    format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n")
}

/// The response to one call. `now` dates the `Retry-After` that is a date.
pub(super) fn respond(told: &Told<'_>, now: SystemTime) -> Script {
    let (fault, config) = (told.fault, told.config);
    if let Some(script) = fault.and_then(|fault| refusal(fault, told.call.shape, now)) {
        return script;
    }
    let body = if told.call.stream { stream::body(told) } else { plain::body(told) };
    let mut script = frame(fault, body);
    if fault == Some(Fault::SlowDrip) {
        script.steps = split(script.steps, DRIP_BYTES, config.timing.drip);
    } else if let Some(write_bytes) = config.write_bytes {
        script.steps = split(script.steps, write_bytes.max(1), Duration::ZERO);
    }
    script.ignores_client = fault == Some(Fault::LateBytes);
    script
}

/// Faults that need no answer at all.
fn refusal(fault: Fault, shape: Shape, now: SystemTime) -> Option<Script> {
    let error = |kind, message: &str, fields: &[(&str, String)]| {
        Script::error(shape, &Trouble::new(kind, message), fields)
    };
    let busy =
        |fields: &[(&str, String)]| error(Kind::RateLimited, "Rate limit reached for requests", fields);
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>";
    let in_seconds = ("retry-after", RETRY_AFTER_S.to_string());
    Some(match fault {
        Fault::Refuse | Fault::TlsReset => Script::ends(Vec::new(), Close::Reset),
        Fault::AcceptThenHang => Script::ends(vec![Step::Hang], Close::Fin),
        Fault::RateLimited => busy(&[]),
        Fault::RateLimitedSeconds => busy(&[in_seconds]),
        Fault::RateLimitedDate => {
            let date = httpdate::fmt_http_date(now + Duration::from_secs(RETRY_AFTER_S));
            busy(&[("retry-after", date)])
        }
        Fault::ServerError => error(Kind::Server, "The server had an error", &[]),
        Fault::BadGateway => Script::document(502, &[], "text/html", html),
        Fault::Unavailable => error(Kind::Unavailable, "Engine is loading", &[in_seconds]),
        Fault::Overloaded => error(Kind::Overloaded, "Overloaded", &[]),
        Fault::Unauthorized => error(Kind::Unauthorized, "Incorrect API key provided", &[]),
        Fault::ModelGone => error(Kind::ModelGone, "The model does not exist", &[]),
        Fault::OkErrorBody => {
            let body = Trouble::new(Kind::Server, "Provider returned error").body(shape);
            Script::json(200, &[], &to_json_text(&body))
        }
        Fault::OkHtmlBody => Script::document(200, &[], "text/html", html),
        _ => return None,
    })
}

/// Adds status line, header fields and body framing.
fn frame(fault: Option<Fault>, body: Body) -> Script {
    let until_close = fault == Some(Fault::CloseDelimited);
    let trailers = fault == Some(Fault::ChunkedTrailers);
    let chunked = (body.chunked || trailers) && !until_close;
    let mut head = head(200, body.content_type);
    let mut steps = body.steps;
    if fault == Some(Fault::GzipBody) {
        head.push_str("content-encoding: gzip\r\n");
        steps = gzip_steps(steps);
    }
    if until_close {
        head.push_str("connection: close\r\n");
    } else if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else {
        let _ = write!(head, "content-length: {}\r\n", steps.iter().map(announced).sum::<usize>());
    }
    if trailers {
        head.push_str("trailer: x-sim-checksum\r\n");
    }
    head.push_str("\r\n");
    let mut out = vec![Step::send(head)];
    out.extend(steps.into_iter().map(|step| if chunked { chunk(step) } else { step }));
    if chunked && body.cut.is_none() {
        let end = if trailers { "0\r\nx-sim-checksum: 1\r\n\r\n" } else { "0\r\n\r\n" };
        out.push(Step::send(end));
    }
    let closes = until_close || fault == Some(Fault::CloseSilently);
    Script::ends(out, body.cut.unwrap_or(if closes { Close::Fin } else { Close::KeepAlive }))
}

fn announced(step: &Step) -> usize {
    if let Step::Send { bytes, missing, .. } = step { bytes.len() + missing } else { 0 }
}

/// One step as a chunk of a chunked body.
fn chunk(step: Step) -> Step {
    let wrap = |bytes: &[u8], missing: usize| {
        let mut out = format!("{:x}\r\n", bytes.len() + missing).into_bytes();
        out.extend_from_slice(bytes);
        if missing == 0 {
            out.extend_from_slice(b"\r\n");
        }
        out
    };
    match step {
        Step::Send { bytes, tokens, missing } => Step::Send { bytes: wrap(&bytes, missing), tokens, missing },
        Step::Repeat { bytes, every } => Step::Repeat { bytes: wrap(&bytes, 0), every },
        other => other,
    }
}

/// Cuts every send into pieces, with a wait before each further piece. The tokens go with the last.
fn split(steps: Vec<Step>, piece_bytes: usize, wait: Duration) -> Vec<Step> {
    let mut out = Vec::new();
    for step in steps {
        let Step::Send { bytes, tokens, missing } = step else {
            out.push(step);
            continue;
        };
        let pieces = bytes.len().div_ceil(piece_bytes);
        for (index, piece) in bytes.chunks(piece_bytes).enumerate() {
            if index > 0 {
                out.push(Step::Wait(wait));
            }
            let tokens = if index + 1 == pieces { tokens } else { 0 };
            out.push(Step::Send { bytes: piece.to_vec(), tokens, missing });
        }
    }
    out
}

/// The whole body as one gzip member made of stored blocks: valid, and nothing is compressed.
fn gzip_steps(steps: Vec<Step>) -> Vec<Step> {
    let (mut plain, mut total) = (Vec::new(), 0);
    for step in steps {
        if let Step::Send { bytes, tokens, .. } = step {
            plain.extend(bytes);
            total += tokens;
        }
    }
    vec![Step::Send { bytes: gzip_stored(&plain), tokens: total, missing: 0 }]
}

fn gzip_stored(plain: &[u8]) -> Vec<u8> {
    const STORED_BLOCK_BYTES_MAX: usize = 65_535;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = plain.len().div_ceil(STORED_BLOCK_BYTES_MAX).max(1);
    for index in 0..blocks {
        let end = plain.len().min((index + 1) * STORED_BLOCK_BYTES_MAX);
        let block = &plain[index * STORED_BLOCK_BYTES_MAX..end];
        let length = block.len() as u16;
        out.push(u8::from(index + 1 == blocks));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(crc32(plain).to_le_bytes());
    out.extend((plain.len() as u32).to_le_bytes());
    out
}

/// CRC-32 as in RFC 1952, bit by bit: the bodies are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn stored_gzip_has_its_length_and_last_block_marked() {
        let out = gzip_stored(b"abc");
        assert_eq!(out[10..15], [1, 3, 0, 0xfc, 0xff]);
        assert_eq!(out[15..18], *b"abc");
        let long = gzip_stored(&vec![b'x'; 65_536]);
        assert_eq!((long[10], long[10 + 5 + 65_535]), (0, 1));
    }

    #[test]
    fn pieces_keep_bytes_and_tokens() {
        let step = Step::Send { bytes: b"abcdefg".to_vec(), tokens: 2, missing: 0 };
        let out = split(vec![step], 3, Duration::ZERO);
        let sent: Vec<_> = out
            .iter()
            .filter_map(|s| {
                if let Step::Send { bytes, tokens, .. } = s { Some((&bytes[..], *tokens)) } else { None }
            })
            .collect();
        assert_eq!(sent, [(&b"abc"[..], 0), (&b"def"[..], 0), (&b"g"[..], 2)]);
    }
}

//! Server-sent events, found in passing.
//!
//! A relay wants to forward a seller's bytes as they came and still know what they say. [`SseScanner`]
//! takes the bytes as they are read, cuts them into whole events and tells where each lies; what is not
//! yet whole waits for the next read. When a read ends where an event ends, which is the common case,
//! nothing is copied.
//!
//! Understood: LF, CRLF and CR line ends, comments, several `data` lines, a missing space after the
//! colon, a byte-order mark, a missing blank line at the very end. Limit: one event is at most
//! [`EVENT_BYTES_MAX`], or [`MEDIA_EVENT_BYTES_MAX`] where it carries a picture or sound. Source: WHATWG HTML,
//! section 9.2.

mod lines;

pub use lines::LineScanner;

use crate::dialect::grammar::Framing;
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::ops::Range;

/// Largest event, its line ends included.
pub const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest event that carries a picture or sound in base64. The largest picture that is sold takes some 10 MB.
pub const MEDIA_EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An event grew beyond its limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one event of the stream is larger than {0} bytes")]
pub struct EventTooLarge(pub usize);

/// One whole event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event as it came, its blank line included.
    pub raw: Bytes,
    data: Data,
    /// Whether its `event` field says `error`.
    pub named_error: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Data {
    None,
    /// One data line: its place in `raw`.
    Line(Range<usize>),
    /// Several data lines, joined by line feeds.
    Joined(Vec<u8>),
}

impl Event {
    /// The payload; none for comments and empty events. Empty data, which some sellers send as a sign of life, say nothing
    /// in any grammar.
    pub fn data(&self) -> Option<&[u8]> {
        let data = match &self.data {
            Data::None => return None,
            Data::Line(span) => &self.raw[span.clone()],
            Data::Joined(bytes) => bytes,
        };
        (!data.is_empty()).then_some(data)
    }

    /// What goes on of an event without payload: comments as they came. Fields without data are no event, but stock
    /// clients take them for broken JSON.
    pub fn sign_of_life(&self) -> Bytes {
        let mut lines = self.raw.split(|byte| matches!(byte, b'\r' | b'\n'));
        let is_comment = lines.all(|line| line.is_empty() || line.starts_with(b":"));
        if is_comment { self.raw.clone() } else { Bytes::from_static(b":\n\n") }
    }

    /// The payload when it is valid UTF-8.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        self.data().and_then(|d| std::str::from_utf8(d).ok()).map(Cow::Borrowed)
    }

    /// Whether this is the field's end marker.
    pub fn is_done(&self) -> bool {
        self.data().is_some_and(|d| d.trim_ascii() == b"[DONE]")
    }
}

/// Cuts a stream into events by whichever framing its grammar has.
#[derive(Debug)]
pub enum Scanner {
    /// Server-sent events.
    Sse(SseScanner),
    /// One value on each line.
    Lines(LineScanner),
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(SseScanner::default()),
            Framing::Lines => Self::Lines(LineScanner::default()),
        }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: Bytes) {
        match self {
            Self::Sse(scanner) => scanner.push(bytes),
            Self::Lines(scanner) => scanner.push(bytes),
        }
    }

    /// The next whole event; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        match self {
            Self::Sse(scanner) => scanner.next_event(),
            Self::Lines(scanner) => scanner.next_event(),
        }
    }

    /// What is left when the stream has ended.
    pub fn finish(&mut self) -> Option<Event> {
        match self {
            Self::Sse(scanner) => scanner.finish(),
            Self::Lines(scanner) => scanner.finish(),
        }
    }
}

/// Cuts a stream of bytes into server-sent events.
#[derive(Debug)]
pub struct SseScanner {
    event_bytes_max: usize,
    /// Bytes read and not yet handed out.
    rest: Bytes,
    /// How much of `rest` is known to hold whole lines of an event that is not whole.
    scanned: usize,
    /// Up to where the end of the line behind them was looked for in vain.
    searched: usize,
    begun: bool,
}

impl Default for SseScanner {
    fn default() -> Self {
        Self::with_limit(EVENT_BYTES_MAX)
    }
}

impl SseScanner {
    /// A scanner for events of at most so many bytes.
    pub fn with_limit(event_bytes_max: usize) -> Self {
        Self { event_bytes_max, rest: Bytes::new(), scanned: 0, searched: 0, begun: false }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: Bytes) {
        if self.rest.is_empty() {
            self.rest = bytes;
            return;
        }
        // What is nobody else's grows in place, so that a large event costs no more than its bytes.
        let mut joined = std::mem::take(&mut self.rest).try_into_mut().unwrap_or_else(|shared| {
            let mut own = BytesMut::with_capacity(2 * (shared.len() + bytes.len()));
            own.extend_from_slice(&shared);
            own
        });
        joined.extend_from_slice(&bytes);
        self.rest = joined.freeze();
    }

    /// The next whole event; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        if !self.begun && !self.skip_mark() {
            return Ok(None);
        }
        while let Some(line) = self.line() {
            let blank = line.text.is_empty();
            (self.scanned, self.searched) = (line.next, line.next);
            if blank {
                let raw = self.rest.split_to(line.next);
                (self.scanned, self.searched) = (0, 0);
                return Ok(Some(event(raw)));
            }
            if self.scanned > self.event_bytes_max {
                return Err(EventTooLarge(self.event_bytes_max));
            }
        }
        let is_too_large = self.rest.len() > self.event_bytes_max;
        if is_too_large { Err(EventTooLarge(self.event_bytes_max)) } else { Ok(None) }
    }

    /// The next line of the event that is not whole. No byte is looked at twice, however small the reads.
    fn line(&mut self) -> Option<Line> {
        let line = next_line(&self.rest, self.scanned, self.searched);
        if line.is_none() {
            // A CR at the very end is looked at again.
            self.searched = self.rest.len() - usize::from(self.rest.ends_with(b"\r"));
        }
        line
    }

    /// What is left when the stream has ended: an event whose blank line is missing, or part of one. It gets its blank
    /// line, so that what is written after it is another event.
    pub fn finish(&mut self) -> Option<Event> {
        (self.scanned, self.searched) = (0, 0);
        let raw = std::mem::take(&mut self.rest);
        let missing: &[u8] = if raw.ends_with(b"\n") { b"\n" } else { b"\n\n" };
        (!raw.trim_ascii().is_empty()).then(|| event(Bytes::from([&raw[..], missing].concat())))
    }

    /// Bytes of an event that is not whole yet.
    pub fn pending_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Skips byte-order marks. False while the first three bytes are not there.
    fn skip_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        // More than one is none, but what a reader makes of the second is not for a seller to choose.
        loop {
            if self.rest.len() < MARK.len() && MARK.starts_with(&self.rest) {
                return false;
            }
            if !self.rest.starts_with(MARK) {
                break;
            }
            drop(self.rest.split_to(MARK.len()));
        }
        self.begun = true;
        true
    }
}

struct Line {
    /// Without its line end.
    text: Range<usize>,
    /// Where the next line starts.
    next: usize,
}

/// The line that starts at `at`, if its end is there, which is not before `from`. A CR at the very end may be half a
/// CRLF: not yet.
fn next_line(bytes: &[u8], at: usize, from: usize) -> Option<Line> {
    let from = at.max(from);
    let end = from + memchr::memchr2(b'\n', b'\r', &bytes[from..])?;
    let width = match (bytes[end], bytes.get(end + 1)) {
        (b'\n', _) => 1,
        (_, Some(b'\n')) => 2,
        (_, Some(_)) => 1,
        (_, None) => return None,
    };
    Some(Line { text: at..end, next: end + width })
}

/// Reads the fields of an event. A last line without its end counts.
fn event(raw: Bytes) -> Event {
    let mut data = Data::None;
    let mut named_error = false;
    let mut at = 0;
    while at < raw.len() {
        let line = next_line(&raw, at, at).unwrap_or_else(|| {
            let end = raw.len() - usize::from(raw.ends_with(b"\r"));
            Line { text: at..end.max(at), next: raw.len() }
        });
        at = line.next;
        let text = &raw[line.text.clone()];
        if let Some(value) = text.strip_prefix(b"data") {
            let skip = match value {
                [] => 4,
                [b':', b' ', ..] => 6,
                [b':', ..] => 5,
                _ => continue,
            };
            data = add_line(data, &raw, line.text.start + skip..line.text.end);
        } else if let Some(name) = text.strip_prefix(b"event:") {
            named_error |= name.trim_ascii() == b"error";
        }
    }
    Event { raw, data, named_error }
}

fn add_line(data: Data, raw: &[u8], line: Range<usize>) -> Data {
    let line = line.start.min(line.end)..line.end;
    let mut joined = match data {
        Data::None => return Data::Line(line),
        Data::Line(first) => raw[first].to_vec(),
        Data::Joined(joined) => joined,
    };
    joined.push(b'\n');
    joined.extend_from_slice(&raw[line]);
    Data::Joined(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Seen = (Vec<u8>, Option<Vec<u8>>, bool);

    fn scan(pieces: &[&[u8]]) -> Vec<Seen> {
        let mut scanner = SseScanner::default();
        let mut seen = Vec::new();
        let mut keep = |e: Event| seen.push((e.raw.to_vec(), e.data().map(<[u8]>::to_vec), e.named_error));
        for piece in pieces {
            scanner.push(Bytes::copy_from_slice(piece));
            while let Some(event) = scanner.next_event().unwrap() {
                keep(event);
            }
        }
        if let Some(event) = scanner.finish() {
            keep(event);
        }
        seen
    }

    fn payloads(text: &str) -> Vec<String> {
        scan(&[text.as_bytes()])
            .into_iter()
            .filter_map(|(_, data, _)| data.map(|d| String::from_utf8(d).unwrap()))
            .collect()
    }

    #[test]
    fn reads_every_form_of_line() {
        assert_eq!(payloads("data: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(payloads("data: a\r\n\r\ndata:b\r\n\r\n"), ["a", "b"]);
        assert_eq!(payloads("data: a\r\rdata: b\r\r"), ["a", "b"]);
        assert_eq!(payloads("data: a\ndata: b\n\n"), ["a\nb"]);
        assert_eq!(payloads("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(payloads("\u{feff}\u{feff}data: a\ndata: b\n\n"), ["a\nb"]);
        assert_eq!(payloads(": wait\n\nid: 1\nretry: 2\n\ndata\n\n"), [""; 0]);
        assert_eq!(payloads("data: [DONE]"), ["[DONE]"]);
        assert_eq!(payloads("data:\r"), [""; 0]);
    }

    #[test]
    fn no_byte_is_looked_at_twice_however_small_the_reads() {
        let mut scanner = SseScanner::default();
        for n in 1..=64 {
            scanner.push(Bytes::from_static(b"x"));
            assert_eq!((scanner.next_event(), scanner.searched), (Ok(None), n));
        }
        scanner.push(Bytes::from_static(b"\r"));
        assert_eq!((scanner.next_event(), scanner.searched), (Ok(None), 64), "half a line end");
        scanner.push(Bytes::from_static(b"\n\r\n"));
        assert_eq!(scanner.next_event().unwrap().unwrap().raw.len(), 68);
        assert_eq!((scanner.scanned, scanner.searched), (0, 0));
    }

    #[test]
    fn what_is_left_at_the_end_is_a_whole_event() {
        for left in ["data: a", "data: a\n", "data: a\r", "data: a\r\n", "data: a\nid: 1"] {
            let mut scanner = SseScanner::default();
            scanner.push(Bytes::from_static(left.as_bytes()));
            assert_eq!(scanner.next_event(), Ok(None), "{left:?}");
            let event = scanner.finish().unwrap();
            assert_eq!(event.data(), Some(b"a".as_slice()), "{left:?}");
            let mut again = SseScanner::default();
            again.push(Bytes::from([&event.raw[..], b"data: b\n\n"].concat()));
            let read = || again.next_event().unwrap().and_then(|event| event.data().map(<[u8]>::to_vec));
            let payloads: Vec<_> = std::iter::from_fn(read).collect();
            assert_eq!(payloads, [b"a".to_vec(), b"b".to_vec()], "{left:?}");
        }
    }

    #[test]
    fn what_has_no_payload_goes_on_as_a_comment() {
        let passed = |text: &'static str| {
            let mut scanner = SseScanner::default();
            scanner.push(Bytes::from_static(text.as_bytes()));
            scanner.next_event().unwrap().unwrap().sign_of_life()
        };
        assert_eq!(passed(": wait\r\n: more\r\n\r\n"), ": wait\r\n: more\r\n\r\n");
        for no_comment in ["event: ping\n\n", "event: ping\ndata:\n\n", "id: 1\n\n", ": x\nretry: 2\n\n"] {
            assert_eq!(passed(no_comment), ":\n\n", "{no_comment}");
        }
    }

    #[test]
    fn an_error_event_is_named() {
        assert!(scan(&[b"event: error\ndata: {}\n\n"])[0].2);
        assert!(!scan(&[b"event: message\ndata: {}\n\n"])[0].2);
    }

    #[test]
    fn whole_reads_are_not_copied() {
        let bytes = Bytes::from_static(b"data: a\n\n");
        let mut scanner = SseScanner::default();
        scanner.push(bytes.clone());
        let event = scanner.next_event().unwrap().unwrap();
        assert_eq!(event.raw.as_ptr(), bytes.as_ptr());
    }

    #[test]
    fn an_event_is_bounded() {
        let sized = |mut scanner: SseScanner, n: usize| {
            scanner.push(Bytes::from(vec![b'x'; n]));
            scanner.next_event()
        };
        let limit = EVENT_BYTES_MAX;
        assert_eq!(sized(SseScanner::default(), limit), Ok(None));
        assert_eq!(sized(SseScanner::default(), limit + 1), Err(EventTooLarge(limit)));
        let limit = MEDIA_EVENT_BYTES_MAX;
        assert_eq!(sized(SseScanner::with_limit(limit), limit), Ok(None));
        assert_eq!(sized(SseScanner::with_limit(limit), limit + 1), Err(EventTooLarge(limit)));
    }

    #[test]
    fn a_large_event_grows_in_place() {
        let mut scanner = SseScanner::default();
        scanner.push(Bytes::from_static(b"data: "));
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            scanner.push(Bytes::from_static(&[b'x'; 1_000]));
            places.insert(scanner.rest.as_ptr());
        }
        assert!(places.len() < 20, "it was copied {} times", places.len());
        scanner.push(Bytes::from_static(b"\n\n"));
        assert_eq!(scanner.next_event().unwrap().unwrap().data().unwrap().len(), 1_000_000);
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events(
            text in "(data: ?|: |event: error|[a-cé€]{1,4}|\r\n|\n|\r|\n\n|\r\n\r\n){0,24}",
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let bytes = text.as_bytes();
            let whole = scan(&[bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(&scan(&pieces), &whole);
            let rejoined: Vec<u8> = whole.into_iter().flat_map(|(raw, _, _)| raw).collect();
            // An event that lacks its blank line gets one.
            let (came, added) = rejoined.split_at(rejoined.len().min(bytes.len()));
            prop_assert!(bytes.starts_with(came) && added.iter().all(|byte| *byte == b'\n'));
        }
    }
}

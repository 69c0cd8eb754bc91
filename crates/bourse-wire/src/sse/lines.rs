//! Streams of one value of JSON on each line.

use super::{Data, EVENT_BYTES_MAX, Event, EventTooLarge};
use bytes::{Bytes, BytesMut};

/// Cuts a stream of bytes into lines, each an event whose payload is the line. Blank lines are skipped.
#[derive(Debug, Default)]
pub struct LineScanner {
    rest: BytesMut,
    /// How much of `rest` is known to hold no line end.
    scanned: usize,
}

impl LineScanner {
    /// Takes what was read.
    pub fn push(&mut self, bytes: Bytes) {
        if self.rest.is_empty() {
            self.rest = BytesMut::from(bytes);
        } else {
            self.rest.extend_from_slice(&bytes);
        }
    }

    /// The next whole line; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventTooLarge> {
        while let Some(found) = memchr::memchr(b'\n', &self.rest[self.scanned..]) {
            let raw = self.rest.split_to(self.scanned + found + 1).freeze();
            self.scanned = 0;
            if let Some(event) = line(raw) {
                return Ok(Some(event));
            }
        }
        self.scanned = self.rest.len();
        if self.scanned > EVENT_BYTES_MAX { Err(EventTooLarge(EVENT_BYTES_MAX)) } else { Ok(None) }
    }

    /// What is left when the stream has ended: a line whose end is missing, or part of one.
    pub fn finish(&mut self) -> Option<Event> {
        self.scanned = 0;
        line(std::mem::take(&mut self.rest).freeze())
    }
}

fn line(raw: Bytes) -> Option<Event> {
    let start = raw.len() - raw.trim_ascii_start().len();
    let text = start..start + raw.trim_ascii().len();
    (!text.is_empty()).then(|| Event { raw, data: Data::Line(text), named_error: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events() {
        let mut scanner = LineScanner::default();
        let mut seen = Vec::new();
        for piece in ["{\"a\":1}\r\n\n{\"b\"", ":2}\n  \n", "{\"c\":3}"] {
            scanner.push(Bytes::from(piece));
            while let Some(event) = scanner.next_event().unwrap() {
                seen.push(event.text().unwrap().into_owned());
            }
        }
        seen.extend(scanner.finish().map(|event| event.text().unwrap().into_owned()));
        assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(scanner.finish(), None);
    }

    #[test]
    fn a_line_is_bounded() {
        let sized = |n: usize| {
            let mut scanner = LineScanner::default();
            scanner.push(Bytes::from(vec![b'x'; n]));
            scanner.next_event()
        };
        assert_eq!(sized(EVENT_BYTES_MAX), Ok(None));
        assert_eq!(sized(EVENT_BYTES_MAX + 1), Err(EventTooLarge(EVENT_BYTES_MAX)));
    }
}

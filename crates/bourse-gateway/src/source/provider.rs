//! A hosted API's stream, counted in passing.
//!
//! What the bytes say, and what the buyer gets of them, is the [`Passage`]'s business; here is the connection, the
//! scanner and the meter. What ends a stream well is a finish reason; an end mark alone, or a connection that just
//! ends, is a stream that was cut.

use super::{Out, Progress, SourceEnd};
use crate::failure::Failure;
use crate::quality::Watch;
use crate::recount::Gauge;
use crate::resume::SharedWriter;
use crate::upstream::{Exchange, poll_drained};
use bourse_market::{ClaimedUsage, Units};
use bourse_wire::dialect::SellerUsage;
use bourse_wire::dialect::grammar::{Framing, Passage, PassedUnits, SellerError, Sink};
use bourse_wire::receipt::Finish;
use bourse_wire::sse::{Event, MEDIA_EVENT_BYTES_MAX, Scanner, SseScanner};
use bytes::Bytes;
use std::task::{Context, Poll, ready};

/// The status under which a failure inside a stream is recorded: the head said 200.
const STREAM_FAILURE_STATUS: u16 = 200;

/// One stream of a hosted API.
pub(crate) struct ProviderSource {
    exchange: Exchange,
    scanner: Scanner,
    pub(super) passage: Box<dyn Passage>,
    /// Looks at tool calls, where the request has tools.
    pub(crate) watch: Option<Watch>,
    /// The passage's writer, where another seller may take it over.
    pub(crate) writer: Option<SharedWriter>,
    choices: u32,
    finishes: u32,
    finish: Option<Finish>,
    /// The last usage that could be read.
    pub(super) claim: Option<SellerUsage>,
    /// Whether the buyer's own key serves.
    pub(super) is_byok: bool,
    has_ended: bool,
    /// Whether it is a stream of pictures, sound or a transcript.
    pub(super) is_media: bool,
}

impl Sink for Out {
    fn push(&mut self, bytes: Bytes) {
        Self::push(self, bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        Self::extend(self, bytes);
    }
}

impl ProviderSource {
    pub(crate) fn new(exchange: Exchange, framing: Framing, passage: Box<dyn Passage>, choices: u32) -> Self {
        Self {
            exchange,
            scanner: Scanner::new(framing),
            passage,
            watch: None,
            writer: None,
            choices,
            finishes: 0,
            finish: None,
            claim: None,
            is_byok: false,
            has_ended: false,
            is_media: false,
        }
    }

    /// The same for pictures and sound, whose events are large. `said` is what the seller has said already.
    pub(crate) fn of_media(exchange: Exchange, passage: Box<dyn Passage>, said: Option<Bytes>) -> Self {
        let mut scanner = SseScanner::with_limit(MEDIA_EVENT_BYTES_MAX);
        if let Some(said) = said {
            // One event of it may be as large as the whole.
            scanner = SseScanner::with_limit(said.len().max(MEDIA_EVENT_BYTES_MAX));
            scanner.push(said);
        }
        Self {
            scanner: Scanner::Sse(scanner),
            is_media: true,
            ..Self::new(exchange, Framing::Sse, passage, 1)
        }
    }

    pub(super) fn has_finished_choice(&self) -> bool {
        self.finishes > 0
    }

    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) {
        // Pending is fine: the connection is then closed with the source.
        let _ = poll_drained(&mut self.exchange, cx);
    }

    pub(super) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        gauge: &mut Gauge,
    ) -> Poll<Progress> {
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => {
                    let end = self.event(&event, out, gauge);
                    return Poll::Ready(end.map_or(Progress::More, Progress::End));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Progress::End(failed(error.to_string()))),
            }
            match ready!(self.exchange.poll_data(cx)) {
                Some(Ok(data)) => self.scanner.push(data),
                Some(Err(error)) => {
                    return Poll::Ready(Progress::End(self.cut(&error.to_string(), out, gauge)));
                }
                None => {
                    let end = self.cut("the stream ended without a finish reason", out, gauge);
                    return Poll::Ready(Progress::End(end));
                }
            }
        }
    }

    /// The connection has ended, well or not. What the last event lacks is its blank line, or the rest.
    fn cut(&mut self, reason: &str, out: &mut Out, gauge: &mut Gauge) -> SourceEnd {
        let last = self.scanner.finish().filter(|event| event.data().is_some());
        if let Some(end) = last.and_then(|event| self.event(&event, out, gauge)) {
            return end;
        }
        match self.finish {
            Some(finish) if self.finishes >= self.choices => SourceEnd::Complete(finish),
            _ => failed(reason),
        }
    }

    /// Looks at one event. Some when it is the last one.
    fn event(&mut self, event: &Event, out: &mut Out, gauge: &mut Gauge) -> Option<SourceEnd> {
        if self.has_ended {
            return None;
        }
        let seen = match self.passage.event(event, out) {
            Ok(seen) => seen,
            Err(error) => return Some(broken(&error)),
        };
        if let Some(data) = event.data() {
            gauge.on_event(data);
        }
        if let (Some(watch), Some(data)) = (&mut self.watch, event.data()) {
            watch.event(data);
        }
        self.finishes += seen.finishes;
        self.finish = seen.finish.or(self.finish);
        for _ in 0..seen.tool_calls {
            gauge.meter.on_tool_call();
        }
        if seen.content_bytes > 0 {
            gauge.meter.on_content(seen.content_bytes);
        }
        if let Some(units) = seen.units {
            gauge.meter.on_units(units_of(units));
        }
        if let Some(usage) = seen.news.usage {
            gauge.meter.on_claim(claim_of(usage));
            self.claim = usage.or(self.claim);
        }
        if !seen.news.is_last {
            return None;
        }
        self.has_ended = true;
        Some(match self.finish {
            Some(finish) => SourceEnd::Complete(finish),
            None => failed("the stream ended without a finish reason"),
        })
    }
}

/// What the meter makes of a usage object. One that cannot be read is noted as an invalid claim.
pub(crate) fn claim_of(usage: Option<SellerUsage>) -> ClaimedUsage {
    usage.map_or(ClaimedUsage { cached: 1, ..ClaimedUsage::default() }, |u| ClaimedUsage {
        prompt: u.prompt,
        cached: u.cached,
        cache_write: u.cache_write,
        completion: u.completion,
        reasoning: u.reasoning,
    })
}

/// What the meter makes of the units of an answer.
pub(crate) fn units_of(PassedUnits { counted, claimed, least }: PassedUnits) -> Units {
    Units { counted, claimed, least }
}

fn broken(error: &SellerError) -> SourceEnd {
    SourceEnd::Failed(Failure::told(error, STREAM_FAILURE_STATUS, None))
}

fn failed(reason: impl Into<String>) -> SourceEnd {
    SourceEnd::Failed(Failure::broken(STREAM_FAILURE_STATUS, reason))
}

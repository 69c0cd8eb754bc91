//! A hosted API's stream: the seller's own bytes, less what the market says itself.
//!
//! Held back are the usage (the market sends its own, with the price) and `[DONE]` (which waits for the
//! books). Everything else passes as it came. What ends a stream well is a finish reason; `[DONE]` alone,
//! or a connection that just ends, is a stream that was cut.

use super::{Out, Progress, SourceEnd};
use crate::adapter::error_message;
use crate::failure::Failure;
use crate::upstream::{Exchange, poll_drained};
use bourse_market::{ClaimedUsage, Meter};
use bourse_wire::dialect::{AnswerHead, Api, ChunkView, SellerUsage, read_usage, without_usage};
use bourse_wire::receipt::Finish;
use bourse_wire::sse::{Event, SseScanner};
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;
use std::task::{Context, Poll, ready};

/// The status under which a failure inside a stream is recorded: the head said 200.
const STREAM_FAILURE_STATUS: u16 = 200;

/// One stream of a hosted API.
pub(crate) struct ProviderSource {
    exchange: Exchange,
    scanner: SseScanner,
    api: Api,
    choices: u32,
    head: Option<AnswerHead>,
    finishes: u32,
    finish: Option<Finish>,
    /// The last usage object that could be read.
    usage: Option<(String, SellerUsage)>,
    has_ended: bool,
}

impl ProviderSource {
    pub(crate) fn new(exchange: Exchange, api: Api, choices: u32) -> Self {
        Self {
            exchange,
            scanner: SseScanner::default(),
            api,
            choices,
            head: None,
            finishes: 0,
            finish: None,
            usage: None,
            has_ended: false,
        }
    }

    pub(super) fn head(&self) -> Option<&AnswerHead> {
        self.head.as_ref()
    }

    pub(super) fn usage(&self) -> Option<(&str, SellerUsage)> {
        self.usage.as_ref().map(|(raw, usage)| (raw.as_str(), *usage))
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
        meter: &mut Meter,
    ) -> Poll<Progress> {
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => {
                    let end = self.event(&event, out, meter);
                    return Poll::Ready(end.map_or(Progress::More, Progress::End));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Progress::End(failed(error.to_string()))),
            }
            match ready!(self.exchange.poll_data(cx)) {
                Some(Ok(data)) => self.scanner.push(data),
                Some(Err(error)) => {
                    return Poll::Ready(Progress::End(self.cut(&error.to_string(), out, meter)));
                }
                None => {
                    let end = self.cut("the stream ended without a finish reason", out, meter);
                    return Poll::Ready(Progress::End(end));
                }
            }
        }
    }

    /// The connection has ended, well or not. What the last event lacks is its blank line, or the rest.
    fn cut(&mut self, reason: &str, out: &mut Out, meter: &mut Meter) -> SourceEnd {
        let last = self.scanner.finish();
        let message = last.as_ref().and_then(|event| error_message(&event.raw));
        if let Some(end) =
            last.filter(|e| e.data().is_some()).and_then(|event| self.event(&event, out, meter))
        {
            return end;
        }
        match self.finish {
            Some(finish) if self.finishes >= self.choices => SourceEnd::Complete(finish),
            _ => failed(message.unwrap_or_else(|| reason.to_owned())),
        }
    }

    /// Looks at one event. Some when it is the last one.
    fn event(&mut self, event: &Event, out: &mut Out, meter: &mut Meter) -> Option<SourceEnd> {
        if self.has_ended {
            return None;
        }
        let Some(bytes) = event.data() else {
            out.push(event.raw.clone());
            return None;
        };
        if event.is_done() {
            self.has_ended = true;
            return Some(match self.finish {
                Some(finish) => SourceEnd::Complete(finish),
                None => failed("the stream ended without a finish reason"),
            });
        }
        let view = std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| Some((text, ChunkView::read(self.api, text).ok()?)));
        let Some((text, view)) = view else {
            return Some(failed(
                error_message(bytes).unwrap_or_else(|| "the stream was cut inside an event".to_owned()),
            ));
        };
        if view.error.is_some() || view.finish_error || event.named_error {
            let reason = error_message(bytes).unwrap_or_else(|| "the stream ended with an error".to_owned());
            return Some(failed(reason));
        }
        self.chunk(event, text, &view, out, meter);
        None
    }

    fn chunk(&mut self, event: &Event, text: &str, view: &ChunkView, out: &mut Out, meter: &mut Meter) {
        if self.head.is_none() {
            self.head = AnswerHead::of_chunk(self.api, &on_one_line(text));
        }
        self.finishes += view.finishes;
        self.finish = view.finish.or(self.finish);
        for _ in 0..view.tool_calls {
            meter.on_tool_call();
        }
        if view.content_bytes > 0 {
            meter.on_content(view.content_bytes);
        }
        let Some(span) = &view.usage else {
            out.push(event.raw.clone());
            return;
        };
        let raw = &text[span.clone()];
        let usage = read_usage(raw);
        meter.on_claim(claim_of(usage));
        self.usage = usage.map(|usage| (on_one_line(raw).into_owned(), usage));
        if !view.no_choices {
            match without_usage(&event.raw, text, span) {
                Some(bytes) => out.push(bytes),
                None => out.push(rewritten(text, span)),
            }
        }
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

/// JSON without line ends, which can only stand between its tokens.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// An event of several data lines, as one line without its usage.
fn rewritten(text: &str, usage: &Range<usize>) -> Bytes {
    let (before, after) = (on_one_line(&text[..usage.start]), on_one_line(&text[usage.end..]));
    Bytes::from(format!("data: {before}null{after}\n\n"))
}

fn failed(reason: impl Into<String>) -> SourceEnd {
    SourceEnd::Failed(Failure::broken(STREAM_FAILURE_STATUS, reason))
}

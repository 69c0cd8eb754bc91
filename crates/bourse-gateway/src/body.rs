//! The body of an answer: bytes that are there, or a relay.

use crate::head_clock::Turn;
use crate::phase::relay::Relay;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of an answer. It cannot fail: a stream that goes wrong says so in its last event.
pub struct Body {
    kind: Kind,
    /// The request that this answers, on the connection's clock.
    _turn: Option<Turn>,
}

enum Kind {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: Kind::Whole((!bytes.is_empty()).then_some(bytes)), _turn: None }
    }

    pub(crate) fn relay(relay: Relay) -> Self {
        Self { kind: Kind::Relay(Box::new(relay)), _turn: None }
    }

    /// The same body, at whose end the turn ends.
    pub(crate) fn ending(self, turn: Turn) -> Self {
        Self { _turn: Some(turn), ..self }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Relay(relay) => Pin::new(relay.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Relay(relay) => relay.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Relay(relay) => relay.size_hint(),
        }
    }
}

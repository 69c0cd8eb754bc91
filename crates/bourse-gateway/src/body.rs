//! The body of an answer: bytes that are there, or a relay.

use crate::head_clock::Turn;
use crate::phase::relay::Relay;
use crate::repeat::Keeper;
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
    /// Keeps what passes, for who asks again.
    kept: Option<Box<Keeper>>,
}

enum Kind {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
}

impl Body {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: Kind::Whole((!bytes.is_empty()).then_some(bytes)), _turn: None, kept: None }
    }

    pub(crate) fn relay(relay: Relay) -> Self {
        Self { kind: Kind::Relay(Box::new(relay)), _turn: None, kept: None }
    }

    /// Its bytes, when all of them are there.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        match &self.kind {
            Kind::Whole(bytes) => Some(bytes.clone().unwrap_or_default()),
            Kind::Relay(_) => None,
        }
    }

    /// The same body, kept for who asks again as it passes.
    pub(crate) fn kept(self, keeper: Keeper) -> Self {
        Self { kept: Some(Box::new(keeper)), ..self }
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
        let Self { kind, kept, .. } = &mut *self;
        match kind {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Relay(relay) => match kept {
                Some(keeper) => keeper.poll_frame(relay, cx),
                None => Pin::new(relay.as_mut()).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Relay(relay) => {
                relay.is_end_stream() && !self.kept.as_ref().is_some_and(|keeper| keeper.has_last())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Relay(relay) => relay.size_hint(),
        }
    }
}

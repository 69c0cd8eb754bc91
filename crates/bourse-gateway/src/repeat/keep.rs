//! Keeping a stream as it passes.
//!
//! The bytes are gathered while they go out. The last piece waits for the disk anyway, so what was gathered and that
//! piece are given away as soon as the piece is known; it goes out when both the charge and the answer are safe. A stream
//! that its buyer leaves is not kept, and neither is one that cost nothing or grew too large.

use super::{BODY_BYTES_MAX, Keeping};
use crate::phase::relay::Relay;
use bourse_wire::funds::BoxFuture;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Gathers one stream.
pub(crate) struct Keeper {
    /// Gone once the answer was given away.
    keeping: Option<Keeping>,
    /// What has passed; none when it is too much to keep.
    bytes: Option<Vec<u8>>,
    kept: Option<BoxFuture<'static, ()>>,
    /// The last piece, until the answer is kept.
    last: Option<Frame<Bytes>>,
}

impl Keeper {
    pub(super) fn new(keeping: Keeping) -> Self {
        Self { keeping: Some(keeping), bytes: Some(Vec::new()), kept: None, last: None }
    }

    /// Whether a piece is still to come that the relay has given already.
    pub(crate) fn has_last(&self) -> bool {
        self.last.is_some()
    }

    pub(crate) fn poll_frame(
        &mut self,
        relay: &mut Relay,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.last.is_none() {
            match Pin::new(&mut *relay).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let piece = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
                    if !relay.is_end_stream() {
                        self.push(piece);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    self.give_away(piece, relay.is_for_nothing());
                    self.last = Some(frame);
                }
                Poll::Pending => {
                    if let Some(piece) = relay.last_piece() {
                        self.give_away(piece, relay.is_for_nothing());
                        let _ = self.poll_kept(cx);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
            }
        }
        ready!(self.poll_kept(cx));
        Poll::Ready(self.last.take().map(Ok))
    }

    fn push(&mut self, piece: &[u8]) {
        if self.bytes.as_ref().is_some_and(|bytes| bytes.len() + piece.len() > BODY_BYTES_MAX) {
            self.bytes = None;
        }
        if let Some(bytes) = &mut self.bytes {
            bytes.extend_from_slice(piece);
        }
    }

    fn give_away(&mut self, last: &[u8], is_for_nothing: bool) {
        let Some(keeping) = self.keeping.take().filter(|_| !is_for_nothing) else { return };
        self.push(last);
        self.kept = self.bytes.take().map(|bytes| keeping.keep(bytes.into()));
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(kept) = &mut self.kept {
            ready!(kept.as_mut().poll(cx));
            self.kept = None;
        }
        Poll::Ready(())
    }
}

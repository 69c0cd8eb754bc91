//! Answers in motion: a seller's stream as pieces for the buyer, metered in passing.
//!
//! A source is looked at before its first content (another seller may still be asked) and relayed after
//! it; both use the same steps, so nothing is read twice. A source never decides about money: it counts
//! into the [`Meter`] and says how it ended.

mod node;
mod provider;

pub(crate) use node::{NodeSource, Verdict, check_statement, finish_of, on_claim, on_started};
pub(crate) use provider::{ProviderSource, claim_of};

use crate::failure::Failure;
use bourse_market::Meter;
use bourse_wire::dialect::{AnswerHead, SellerUsage};
use bourse_wire::node::Done;
use bourse_wire::receipt::Finish;
use bytes::{Bytes, BytesMut};
use std::task::{Context, Poll};

/// Bytes for the buyer that one poll has made. One piece is passed on as it came; more are joined.
#[derive(Debug, Default)]
pub(crate) struct Out {
    first: Bytes,
    joined: BytesMut,
}

impl Out {
    pub(crate) fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.first = bytes;
        } else {
            self.extend(&bytes);
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.joined.is_empty() && !self.first.is_empty() {
            self.joined.reserve(self.first.len() + bytes.len().max(JOIN_BYTES));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn take(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.first) } else { self.joined.split().freeze() }
    }
}

/// Room that is made when pieces are first joined.
const JOIN_BYTES: usize = 4 * 1024;

/// What one step brought.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Something was read; there may be more.
    More,
    /// The source has ended.
    End(SourceEnd),
}

/// How a source ended.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    /// As it should.
    Complete(Finish),
    /// Broken off, by the seller's fault.
    Failed(Failure),
}

/// A seller's stream.
pub(crate) enum Source {
    /// Of a hosted API.
    Provider(Box<ProviderSource>),
    /// Of a node.
    Node(Box<NodeSource>),
}

impl Source {
    /// Reads what is there, counts it and appends what goes to the buyer.
    pub(crate) fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        meter: &mut Meter,
    ) -> Poll<Progress> {
        match self {
            Self::Provider(source) => source.poll_step(cx, out, meter),
            Self::Node(source) => source.poll_step(cx, out, meter),
        }
    }

    /// Whether the answer has begun: content, or the end of a choice without any.
    pub(crate) fn has_begun(&self, meter: &Meter) -> bool {
        meter.has_content()
            || match self {
                Self::Provider(source) => source.has_finished_choice(),
                Self::Node(source) => source.has_begun(),
            }
    }

    /// The members that the market's own last events begin with.
    pub(crate) fn head(&self) -> Option<&AnswerHead> {
        match self {
            Self::Provider(source) => source.head(),
            Self::Node(source) => Some(source.head()),
        }
    }

    /// The seller's usage object, as sent and as read.
    pub(crate) fn usage(&self) -> Option<(&str, SellerUsage)> {
        match self {
            Self::Provider(source) => source.usage(),
            Self::Node(_) => None,
        }
    }

    /// The node's last word.
    pub(crate) fn take_done(&mut self) -> Option<Box<Done>> {
        match self {
            Self::Provider(_) => None,
            Self::Node(source) => source.take_done(),
        }
    }

    /// Lets the connection come to rest, so that it can be used again.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) {
        if let Self::Provider(source) = self {
            source.poll_rest(cx);
        }
    }
}

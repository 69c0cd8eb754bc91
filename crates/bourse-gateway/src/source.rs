//! Answers in motion: a seller's stream as pieces for the buyer, metered in passing.
//!
//! A source is looked at before its first content (another seller may still be asked) and relayed after
//! it; both use the same steps, so nothing is read twice. A source never decides about money: it counts
//! into the [`Gauge`] and says how it ended.

mod node;
mod provider;

pub(crate) use node::NodeSource;
pub(crate) use provider::{ProviderSource, claim_of, units_of};

use crate::config::Timeouts;
use crate::failure::Failure;
use crate::quality::Watch;
use crate::recount::Gauge;
use crate::resume::Resume;
use bourse_market::{Bill, Meter, ToolCalls};
use bourse_types::TokenCount;
use bourse_wire::dialect::SellerUsage;
use bourse_wire::dialect::grammar::Billed;
use bourse_wire::error::ApiError;
use bourse_wire::node::Done;
use bourse_wire::receipt::Finish;
use bytes::{Bytes, BytesMut};
use std::task::{Context, Poll};
use std::time::Duration;

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
        gauge: &mut Gauge,
    ) -> Poll<Progress> {
        match self {
            Self::Provider(source) => source.poll_step(cx, out, gauge),
            Self::Node(source) => source.poll_step(cx, out, gauge),
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

    /// Notes whether the buyer's own key served.
    pub(crate) fn set_byok(&mut self, is_byok: bool) {
        if let Self::Provider(source) = self {
            source.is_byok = is_byok;
        }
    }

    /// Appends the end of a stream that ended well. `more` is raw text with a leading comma.
    pub(crate) fn end(&mut self, bill: &Bill, more: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Provider(source) => {
                let raw = source.passage.raw_usage().map(str::to_owned);
                let billed = Billed { is_byok: source.is_byok, ..billed(bill, source.claim, raw.as_deref()) };
                source.passage.end(&billed, more, out);
            }
            Self::Node(source) => source.writer.end(&billed(bill, None, None), more, out),
        }
    }

    /// Appends the end of a stream that broke.
    pub(crate) fn fail(&mut self, error: &ApiError, bill: &Bill, more: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Provider(source) => {
                let billed = Billed { is_byok: source.is_byok, ..billed(bill, source.claim, None) };
                source.passage.fail(error, &billed, more, out);
            }
            Self::Node(source) => source.writer.fail(error, &billed(bill, None, None), more, out),
        }
    }

    /// What another seller needs to go on; none where nobody can.
    pub(crate) fn resume(&self, meter: &Meter) -> Option<Resume> {
        let Self::Provider(source) = self else { return None };
        let (writer, said) = (source.writer.clone()?, source.passage.said()?.to_owned());
        Some(Resume { writer, said, generated: meter.delivered_least(), weights: None })
    }

    /// How long it may say nothing. A picture takes as long as an answer in one piece, the second one, too.
    pub(crate) fn idle(&self, timeouts: &Timeouts) -> Duration {
        match self {
            Self::Provider(source) if source.is_media => timeouts.idle.max(timeouts.plain_answer),
            _ => timeouts.idle,
        }
    }

    /// Content that goes out with the end.
    pub(crate) fn kept(&self) -> Option<&[u8]> {
        match self {
            Self::Provider(source) => source.passage.kept(),
            Self::Node(_) => None,
        }
    }

    /// The seller's id of the answer.
    pub(crate) fn upstream_id(&self) -> Option<&str> {
        match self {
            Self::Provider(source) => source.passage.upstream_id(),
            Self::Node(_) => None,
        }
    }

    /// The usage that a hosted API claims, as far as it was read.
    pub(crate) fn claim(&self) -> Option<SellerUsage> {
        match self {
            Self::Provider(source) => source.claim,
            Self::Node(_) => None,
        }
    }

    /// How much of the answer was reasoning, where the seller said so.
    pub(crate) fn reasoning_tokens(&self) -> Option<TokenCount> {
        self.claim().map(|claim| TokenCount(claim.reasoning))
    }

    /// What came of the tool calls so far.
    pub(crate) fn tools(&self) -> ToolCalls {
        match self {
            Self::Provider(source) => source.watch.as_ref().map(Watch::verdict).unwrap_or_default(),
            Self::Node(_) => ToolCalls::None,
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

/// A bill, for the usage object of an answer.
pub(crate) fn billed<'a>(bill: &'a Bill, claim: Option<SellerUsage>, raw: Option<&'a str>) -> Billed<'a> {
    Billed { usage: &bill.usage, charge: &bill.charge, claim, raw, is_byok: false }
}

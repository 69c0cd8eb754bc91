//! Taking up an answer that broke: what the next seller needs to go on, and the writer that goes on.
//!
//! A stream whose buyer asked for `stream_failure: continue` is written anew from the start, by a writer that two
//! sources can share one after the other; so the buyer gets one stream in one grammar, whoever speaks. The next seller
//! is asked with what was said so far as the beginning of its answer. It is a generation of its own: its hold, its
//! receipt, its bill.

use bourse_market::{Offer, Quantization};
use bourse_wire::dialect::grammar::{Billed, EventWriter};
use bourse_wire::dialect::neutral::{Message, Part, Request, Role, StreamEvent};
use bourse_wire::error::ApiError;
use parking_lot::Mutex;
use std::sync::Arc;

/// A writer that the next source takes over.
#[derive(Clone)]
pub(crate) struct SharedWriter(Arc<Mutex<Box<dyn EventWriter>>>);

impl SharedWriter {
    pub(crate) fn new(writer: Box<dyn EventWriter>) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }
}

impl EventWriter for SharedWriter {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        self.0.lock().event(event, out);
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.0.lock().end(billed, more, out);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.0.lock().fail(error, billed, more, out);
    }
}

/// Where an answer broke.
#[derive(Clone)]
pub(crate) struct Resume {
    pub(crate) writer: SharedWriter,
    /// What was said.
    pub(crate) said: String,
    /// Tokens that were surely generated for it, which are what its part is billed: so the parts together are never
    /// billed for more than the buyer's limit, and the rest is not cut short by what they might have been.
    pub(crate) generated: u64,
    /// The weights that said it, where the buyer named none that may go on with it: one answer is not made of two kinds.
    pub(crate) weights: Option<Quantization>,
}

impl Resume {
    /// Whether an offer may go on.
    pub(crate) fn may_go_on_at(&self, offer: &Offer) -> bool {
        self.weights.is_none_or(|weights| weights == offer.quantization)
    }

    /// The request that asks for the rest.
    pub(crate) fn rest_of(&self, mut request: Request) -> Request {
        let parts = vec![Part::text(self.said.clone())];
        request.messages.push(Message { role: Role::Assistant, parts, name: None });
        request.max_tokens = request.max_tokens.map(|max| self.left_of(max));
        request
    }

    /// What is left of a limit of tokens; at least one, for a limit that was just reached ends the answer at once.
    pub(crate) fn left_of(&self, max_tokens: u32) -> u32 {
        max_tokens.saturating_sub(u32::try_from(self.generated).unwrap_or(u32::MAX)).max(1)
    }
}

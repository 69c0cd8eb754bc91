//! One request under way: the same decisions as a gateway makes, from the same functions.

use super::performance::Beat;
use super::script::Order;
use crate::upstream::Mode;
use bourse_market::{
    Counting, Demand, Extension, HoldWindow, Meter, MeterRules, Offer, OfferIndex, Plan, QuoteError, Supports,
};
use bourse_types::{DurationMs, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::KeyGrant;
use bourse_wire::receipt::AttemptRecord;

/// One request under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) number: u32,
    pub(super) request: RequestId,
    pub(super) order: Order,
    pub(super) grant: KeyGrant,
    pub(super) plan: Plan,
    pub(super) arrived: UnixMs,
    pub(super) first_content: Option<UnixMs>,
    /// Position in the plan of the attempt under way.
    pub(super) attempt: usize,
    pub(super) dispatched: UnixMs,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) meter: Option<Meter>,
    pub(super) window: HoldWindow,
    /// What the exchange holds for it.
    pub(super) held: NanoUsd,
    /// Extensions so far.
    pub(super) steps: u16,
    /// What the seller is still going to do.
    pub(super) beats: std::vec::IntoIter<(DurationMs, Beat)>,
}

impl Order {
    /// As the market sees it.
    pub(super) fn demand(&self) -> Demand<'_> {
        Demand {
            prompt_bytes: self.prompt_bytes,
            messages: self.messages,
            max_tokens: self.max_tokens,
            choices: self.choices,
            needs: if self.choices > 1 { Supports::CHOICES } else { Supports::NONE },
            ..Demand::new(self.model, &self.preferences)
        }
    }

    /// The first hold under an offer.
    pub(super) fn window(&self, offer: &Offer) -> Result<HoldWindow, QuoteError> {
        match self.mode {
            Mode::Plain => HoldWindow::whole(offer, &self.demand()),
            Mode::Stream => HoldWindow::first(offer, &self.demand()),
        }
    }

    pub(super) fn meter(&self, offer: &Offer) -> Meter {
        let counting = if self.mode == Mode::Plain { Counting::Whole } else { Counting::Streamed };
        Meter::new(MeterRules::new(offer, &self.demand(), counting))
    }
}

impl Flight {
    /// The offer of the attempt under way.
    pub(super) fn offer_index(&self) -> Option<OfferIndex> {
        self.plan.attempts.get(self.attempt).copied()
    }

    /// Whether content went to the buyer.
    pub(super) fn has_content(&self) -> bool {
        self.meter.as_ref().is_some_and(Meter::has_content)
    }

    /// What must be added to the hold before more goes to the buyer. The window counts from what it
    /// asked for itself; what an earlier, dearer attempt left on the hold is used first.
    pub(super) fn extension(&mut self) -> Result<Option<Extension>, QuoteError> {
        let generated = self.meter.as_ref().map_or(0, Meter::to_cover);
        self.window.extension(generated)
    }
}

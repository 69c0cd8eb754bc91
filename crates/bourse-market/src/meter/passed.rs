//! Metering of answers that are no conversation.
//!
//! In one piece, an answer is delivered whole or not at all. A stream that the buyer or its money cuts is billed for what was
//! delivered: the pictures of which any part was shown, all the characters once sound came (they were sold by the text,
//! which the seller has in full), the seconds that the words took at least. Tokens go by the seller's claim within
//! their bound, as elsewhere. Units are counted by the market where it can (images in the answer, searches and
//! characters of the request), and claimed where it cannot (seconds of sound).
//!
//! | case | tokens billed | units billed | doubts |
//! | --- | --- | --- | --- |
//! | a valid claim of tokens | claim, at most its bound | | `claim_exceeds` when cut |
//! | none, tokens are priced or nothing is | least | | `usage_unknown` |
//! | none, units alone are priced | 0 | | |
//! | units are not priced | | 0 | |
//! | counted units | | as counted, at most their bound | `claim_exceeds` when cut |
//! | claimed units | | claim, at most its bound | `claim_exceeds` when cut |
//! | neither | | least | `usage_unknown` |
//!
//! *Least* of a completion is one token for an image and one for [`BYTES_PER_TOKEN_MOST`](crate::BYTES_PER_TOKEN_MOST)
//! bytes of a transcript; vectors, ranks and sound have none.

use super::{Basis, ClaimedUsage, Doubts, Meter, StreamEnd};
use bourse_types::{PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, Usage};

/// What is known of the units of an answer: images, searches, characters or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Units {
    /// What the market counted.
    pub counted: Option<u64>,
    /// What the seller claims, where nothing can be counted.
    pub claimed: Option<u64>,
    /// What there is at least.
    pub least: u64,
}

impl Meter {
    /// The units of the answer so far are known.
    pub fn on_units(&mut self, units: Units) {
        self.units = units;
    }

    pub(super) fn passed(
        &self,
        end: StreamEnd,
        claim: Option<ClaimedUsage>,
        prices: &PriceSchedule,
    ) -> (Usage, Basis, Doubts) {
        let sells_units = prices.unit != PicoUsdPerUnit::ZERO;
        let sells_tokens = prices.dearest_prompt().max(prices.completion) != PicoUsdPerToken(0);
        let (units, basis_of_units, doubts) =
            if sells_units { self.units_billed() } else { (0, Basis::Counted, Doubts::NONE) };
        let (tokens, basis, more) = match claim {
            Some(claim) => self.believed(claim),
            None if sells_units && !sells_tokens => (Usage::default(), basis_of_units, Doubts::NONE),
            None => (self.delivered(None), Basis::Delivered, Doubts::USAGE_UNKNOWN),
        };
        let usage = Usage { units, ..tokens };
        if end == StreamEnd::Complete {
            return (usage, basis, doubts.with(more));
        }
        // A seller that is cut off had no time to tell.
        let tokens = if tokens == Usage::default() { tokens } else { self.delivered(claim) };
        (Usage { units, ..tokens }, Basis::Delivered, Doubts::NONE)
    }

    fn units_billed(&self) -> (u64, Basis, Doubts) {
        let (units, basis, doubts) = match (self.units.counted, self.units.claimed) {
            (Some(counted), _) => (counted, Basis::Counted, Doubts::NONE),
            (None, Some(claimed)) => (claimed, Basis::Claim, Doubts::NONE),
            (None, None) => (self.units.least, Basis::Delivered, Doubts::USAGE_UNKNOWN),
        };
        let most = self.rules.units_max;
        (units.min(most), basis, if units > most { doubts.with(Doubts::CLAIM_EXCEEDS) } else { doubts })
    }

    /// The claim that goes into the record: never below what is billed.
    pub(super) fn passed_claim(&self, claim: Option<ClaimedUsage>, billed: &Usage) -> Option<Usage> {
        let told = self.units.claimed.filter(|_| self.units.counted.is_none() && billed.units > 0);
        let units = told.unwrap_or(billed.units);
        match claim {
            Some(claim) => Some(Usage { units, ..claim.usage() }),
            None if Usage { units: 0, ..*billed } == Usage::default() => {
                told.map(|_| Usage { units, ..Usage::default() })
            }
            None => None,
        }
    }
}

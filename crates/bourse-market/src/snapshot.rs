//! The immutable picture of the market that a plan is made from.
//!
//! Offers are sorted by model and seller, so that an [`OfferIndex`] does not depend on the order in
//! which offers were gathered and all offers of a model are neighbours. The digest is the caller's: it
//! names this picture in receipts.

use crate::offer::{Offer, OfferIndex};
use bourse_types::{Digest32, ModelSlug, SellerName};
use std::ops::Range;

/// Most offers in one snapshot.
pub const OFFERS_MAX: usize = 100_000;

/// Why a snapshot was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// More than [`OFFERS_MAX`].
    #[error("{0} offers exceed the limit of {OFFERS_MAX}")]
    TooMany(usize),
    /// One seller offers one model twice.
    #[error("seller `{seller}` offers `{model}` twice")]
    Duplicate {
        /// The model.
        model: ModelSlug,
        /// The seller.
        seller: SellerName,
    },
}

/// All offers at one moment.
#[derive(Debug, Clone)]
pub struct MarketSnapshot {
    offers: Vec<Offer>,
    models: Vec<(ModelSlug, Range<u32>)>,
    digest: Digest32,
}

impl MarketSnapshot {
    /// Sorts and indexes `offers`. `digest` names the snapshot in plans and receipts.
    pub fn new(mut offers: Vec<Offer>, digest: Digest32) -> Result<Self, SnapshotError> {
        if offers.len() > OFFERS_MAX {
            return Err(SnapshotError::TooMany(offers.len()));
        }
        offers.sort_by(|a, b| (&a.model, &a.seller).cmp(&(&b.model, &b.seller)));
        let twin = offers.windows(2).find(|w| w[0].model == w[1].model && w[0].seller == w[1].seller);
        if let Some([Offer { model, seller, .. }, ..]) = twin {
            return Err(SnapshotError::Duplicate { model: model.clone(), seller: seller.clone() });
        }
        let mut models: Vec<(ModelSlug, Range<u32>)> = Vec::new();
        for (n, offer) in (0u32..).zip(&offers) {
            match models.last_mut() {
                Some((model, range)) if *model == offer.model => range.end = n + 1,
                _ => models.push((offer.model.clone(), n..n + 1)),
            }
        }
        Ok(Self { offers, models, digest })
    }

    /// A market without offers.
    pub fn empty() -> Self {
        Self { offers: Vec::new(), models: Vec::new(), digest: Digest32::default() }
    }

    /// The name that the caller gave this picture.
    pub fn digest(&self) -> Digest32 {
        self.digest
    }

    /// All offers, sorted by model and seller; position is [`OfferIndex`].
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// The offer at a position of this snapshot.
    pub fn offer(&self, index: OfferIndex) -> Option<&Offer> {
        self.offers.get(index.0 as usize)
    }

    /// The models on offer, sorted.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &ModelSlug> {
        self.models.iter().map(|(model, _)| model)
    }

    /// The offers of a model with their positions; none when nobody offers it.
    pub fn offers_of(&self, model: &str) -> Option<impl ExactSizeIterator<Item = (OfferIndex, &Offer)>> {
        let range = self.range_of(model)?;
        let offers = &self.offers[range.start as usize..range.end as usize];
        Some(offers.iter().enumerate().map(move |(n, offer)| (OfferIndex(range.start + n as u32), offer)))
    }

    /// The position of a seller's offer for a model: how a finished attempt finds its offer after a swap.
    pub fn index_of(&self, model: &str, seller: &str) -> Option<OfferIndex> {
        let range = self.range_of(model)?;
        let offers = &self.offers[range.start as usize..range.end as usize];
        let at = offers.binary_search_by(|o| o.seller.as_str().cmp(seller)).ok()?;
        Some(OfferIndex(range.start + at as u32))
    }

    fn range_of(&self, model: &str) -> Option<Range<u32>> {
        let at = self.models.binary_search_by(|(slug, _)| slug.as_str().cmp(model)).ok()?;
        Some(self.models[at].1.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! The immutable picture of the market that a plan is made from.
//!
//! Offers are sorted by model and seller, so that an [`OfferIndex`] does not depend on the order in
//! which offers were gathered and all offers of a model are neighbours. What plans read of every offer is
//! kept as columns, computed once here. The digest is the caller's: it names this picture in receipts.

use crate::offer::{Offer, OfferIndex};
use bourse_types::{Digest32, ModelSlug, SellerName};
use columns::{Columns, Totals};
use std::ops::Range;

pub(crate) mod columns;

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
    models: Vec<Model>,
    columns: Columns,
    digest: Digest32,
}

/// The offers of one model.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    slug: ModelSlug,
    /// Their positions.
    pub(crate) range: Range<u32>,
    /// Positions of their kinds in [`Columns::kinds`].
    pub(crate) kinds: Range<u32>,
    pub(crate) totals: Totals,
}

impl Model {
    /// Where the offers and their kinds stand in the columns.
    pub(crate) fn ranges(&self) -> (Range<usize>, Range<usize>) {
        let range = |range: &Range<u32>| range.start as usize..range.end as usize;
        (range(&self.range), range(&self.kinds))
    }
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
        let (columns, kinds) = Columns::of(&offers);
        let mut models = Vec::new();
        let mut start = 0;
        for (chunk, kinds) in offers.chunk_by(|a, b| a.model == b.model).zip(kinds) {
            let end = start + chunk.len();
            let totals = columns.totals(start..end, kinds.start as usize..kinds.end as usize);
            models.push(Model {
                slug: chunk[0].model.clone(),
                range: start as u32..end as u32,
                kinds,
                totals,
            });
            start = end;
        }
        Ok(Self { offers, models, columns, digest })
    }

    /// A market without offers.
    pub fn empty() -> Self {
        Self {
            offers: Vec::new(),
            models: Vec::new(),
            columns: Columns::default(),
            digest: Digest32::default(),
        }
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
        self.models.iter().map(|model| &model.slug)
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
        self.model(model).map(|model| model.range.clone())
    }

    /// A model that somebody offers.
    pub(crate) fn model(&self, model: &str) -> Option<&Model> {
        let at = self.models.binary_search_by(|m| m.slug.as_str().cmp(model)).ok()?;
        self.models.get(at)
    }

    pub(crate) fn columns(&self) -> &Columns {
        &self.columns
    }
}

#[cfg(test)]
pub(crate) mod tests;

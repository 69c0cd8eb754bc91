//! The snapshot's columns: what a plan reads of an offer, side by side for all offers.
//!
//! A plan over many offers is bound by memory, so what is looked at for every offer is small. All that the
//! hard rules ask beside names and prices is one number: the offer's [`Kind`]. A market of a hundred thousand
//! offers has a few dozen kinds, so that a rule is asked once for each kind and then looked up. Prices stand
//! twice: as the floats that weigh them, and exact for limits, which only some requests set.

use crate::offer::{DataPolicy, Offer, Operations, Quantization, ServiceTier, Supports};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Yes-or-no facts of one offer, as bits: what it supports from 0, what it serves from 32, what it promises
/// from 40, its tier from 44, its quantization from 48, whether it may be distilled at 62, whether its price
/// is known at 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Facts(pub(crate) u64);

const OPERATIONS_AT: u32 = 32;
const DATA_AT: u32 = 40;
const TIER_AT: u32 = 44;
const QUANTIZATION_AT: u32 = 48;

const _: () = {
    assert!(Supports::ALL.0 < 1 << 31 && Operations::ALL.0 < 1 << 8 && DataPolicy::ALL.0 < 1 << 4);
    assert!(Quantization::ALL.len() <= 14);
};

impl Facts {
    pub(crate) const PRICED: u64 = 1 << 63;
    pub(crate) const DISTILLABLE: u64 = 1 << 62;

    pub(crate) const fn supports(set: Supports) -> u64 {
        set.0 as u64
    }

    pub(crate) const fn operations(set: Operations) -> u64 {
        (set.0 as u64) << OPERATIONS_AT
    }

    pub(crate) const fn data(set: DataPolicy) -> u64 {
        (set.0 as u64) << DATA_AT
    }

    pub(crate) const fn tier(tier: ServiceTier) -> u64 {
        1 << (TIER_AT + tier as u32)
    }

    pub(crate) const fn quantizations(bits: u16) -> u64 {
        (bits as u64) << QUANTIZATION_AT
    }

    fn of(offer: &Offer) -> Self {
        let flag = |is: bool, bit: u64| if is { bit } else { 0 };
        Self(
            Self::supports(offer.supports)
                | Self::operations(offer.operations)
                | Self::data(offer.data.closed())
                | Self::tier(offer.tier)
                | Self::quantizations(1 << offer.quantization as u8)
                | flag(offer.is_distillable, Self::DISTILLABLE)
                | flag(offer.prices.is_some(), Self::PRICED),
        )
    }
}

/// What the hard rules ask of an offer beside its names and prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) facts: Facts,
    /// Longest context, in tokens.
    pub(crate) context_max: u64,
    /// Longest answer, in tokens.
    pub(crate) completion_max: u64,
    /// Number of the region in [`Columns::regions`], from 1; 0 for none.
    region: u32,
}

/// All columns, each as long as the offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// Position of the offer's kind in `kinds`.
    pub(crate) kind: Vec<u32>,
    /// The kinds, those of a model side by side.
    pub(crate) kinds: Vec<Kind>,
    /// Prices as floats, for weighing: pico-dollars per prompt token, per completion token and per request.
    pub(crate) prompt: Vec<f64>,
    pub(crate) completion: Vec<f64>,
    pub(crate) request: Vec<f64>,
    /// Exact prices: prompt, completion, request.
    pub(crate) prices: [Vec<u64>; 3],
    /// Requests in flight at most; `u32::MAX` for no limit.
    pub(crate) capacity: Vec<u32>,
    /// The regions' names, sorted.
    regions: Vec<Arc<str>>,
}

/// What holds for all or any of a model's offers, so that a plan can skip what it need not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Facts that every offer has.
    pub(crate) facts_all: u64,
    /// Facts that some offer has.
    pub(crate) facts_any: u64,
    /// The highest of each of [`Columns::prices`].
    pub(crate) prices_max: [u64; 3],
    /// Whether any offer has a capacity.
    pub(crate) has_capacity: bool,
}

impl Columns {
    /// The columns of sorted offers, and where the kinds of each model stand.
    pub(crate) fn of(offers: &[Offer]) -> (Self, Vec<Range<u32>>) {
        let named: BTreeMap<&str, &Arc<str>> =
            offers.iter().filter_map(|o| o.region.as_ref()).map(|region| (&**region, region)).collect();
        let regions: Vec<Arc<str>> = named.values().map(|region| Arc::clone(region)).collect();
        let price = |part: fn(&bourse_types::PriceSchedule) -> u64| -> Vec<u64> {
            offers.iter().map(|offer| offer.prices.as_ref().map_or(0, part)).collect()
        };
        let prices = [price(|p| p.prompt.0), price(|p| p.completion.0), price(|p| p.request.0)];
        let weighed = |column: &[u64]| column.iter().map(|price| *price as f64).collect();
        let mut columns = Self {
            kind: Vec::with_capacity(offers.len()),
            kinds: Vec::new(),
            prompt: weighed(&prices[0]),
            completion: weighed(&prices[1]),
            request: prices[2].iter().map(|price| *price as f64 * 1_000.0).collect(),
            prices,
            capacity: offers.iter().map(|offer| offer.capacity.unwrap_or(u32::MAX)).collect(),
            regions,
        };
        let models = offers.chunk_by(|a, b| a.model == b.model);
        let ranges = models.map(|model| columns.add_kinds(model)).collect();
        (columns, ranges)
    }

    /// Finds the kinds of one model's offers.
    fn add_kinds(&mut self, offers: &[Offer]) -> Range<u32> {
        let first = self.kinds.len() as u32;
        let mut known = HashMap::new();
        for offer in offers {
            let number = |region: &Arc<str>| self.regions.binary_search(region).map_or(0, |at| at as u32 + 1);
            let kind = Kind {
                facts: Facts::of(offer),
                context_max: offer.context_tokens_max,
                completion_max: offer.completion_tokens_max.unwrap_or(u64::MAX),
                region: offer.region.as_ref().map_or(0, number),
            };
            let next = self.kinds.len() as u32;
            let at = *known.entry(kind).or_insert(next);
            if at == next {
                self.kinds.push(kind);
            }
            self.kind.push(at);
        }
        first..self.kinds.len() as u32
    }

    /// The kind of the offer at a position.
    pub(crate) fn kind_of(&self, at: usize) -> &Kind {
        &self.kinds[self.kind[at] as usize]
    }

    /// The name of a kind's region.
    pub(crate) fn region(&self, kind: &Kind) -> Option<&str> {
        let at = kind.region.checked_sub(1)?;
        self.regions.get(at as usize).map(|name| &**name)
    }

    pub(crate) fn totals(&self, offers: Range<usize>, kinds: Range<usize>) -> Totals {
        let facts = || self.kinds[kinds.clone()].iter().map(|kind| kind.facts.0);
        let most = |column: &Vec<u64>| column[offers.clone()].iter().copied().max().unwrap_or(0);
        Totals {
            facts_all: facts().fold(u64::MAX, |all, one| all & one),
            facts_any: facts().fold(0, |any, one| any | one),
            prices_max: [most(&self.prices[0]), most(&self.prices[1]), most(&self.prices[2])],
            has_capacity: self.capacity[offers.clone()].iter().any(|capacity| *capacity != u32::MAX),
        }
    }
}

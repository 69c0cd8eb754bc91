//! The snapshot's columns: what a plan reads of an offer, side by side for all offers.
//!
//! A plan over many offers is bound by memory, so what is looked at for every offer is packed: all yes-or-no
//! facts into one `u64` ([`Facts`]), prices as the floats that weigh them. Columns that only some requests
//! need (limits, exact prices, regions) are apart and not touched otherwise.

use crate::offer::{DataPolicy, Offer, Operations, Quantization, ServiceTier, Supports};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Yes-or-no facts of one offer, as bits: what it supports from 0, what it serves from 32, what it promises
/// from 40, its tier from 44, its quantization from 48, whether it may be distilled at 62, whether its price
/// is known at 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// Prices as floats, for weighing: pico-dollars per token, and per request.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Weighed {
    pub(crate) prompt: f64,
    pub(crate) completion: f64,
    pub(crate) request: f64,
}

/// All columns, each as long as the offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) facts: Vec<u64>,
    pub(crate) weighed: Vec<Weighed>,
    /// Longest context and longest answer, in tokens.
    pub(crate) limits: Vec<(u64, u64)>,
    /// Exact prices: prompt, completion, request.
    pub(crate) prices: Vec<[u64; 3]>,
    /// Requests in flight at most; `u32::MAX` for no limit.
    pub(crate) capacity: Vec<u32>,
    /// Number of the region in `regions`, from 1; 0 for none.
    pub(crate) region: Vec<u32>,
    /// The regions' names, sorted.
    pub(crate) regions: Vec<Arc<str>>,
}

/// What holds for all or any of a model's offers, so that a plan can skip what it need not look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Facts that every offer has.
    pub(crate) facts_all: u64,
    /// Facts that some offer has.
    pub(crate) facts_any: u64,
    /// Shortest context of any offer.
    pub(crate) context_min: u64,
    /// Shortest longest answer of any offer.
    pub(crate) completion_min: u64,
    /// Whether any offer has a capacity.
    pub(crate) has_capacity: bool,
}

impl Columns {
    pub(crate) fn of(offers: &[Offer]) -> Self {
        let named: BTreeMap<&str, &Arc<str>> =
            offers.iter().filter_map(|o| o.region.as_ref()).map(|region| (&**region, region)).collect();
        let regions: Vec<Arc<str>> = named.values().map(|region| Arc::clone(region)).collect();
        let number = |region: &Arc<str>| regions.binary_search(region).map_or(0, |at| at as u32 + 1);
        let weighed = |offer: &Offer| {
            offer.prices.map_or(Weighed::default(), |prices| Weighed {
                prompt: prices.prompt.0 as f64,
                completion: prices.completion.0 as f64,
                request: prices.request.0 as f64 * 1_000.0,
            })
        };
        let prices =
            |offer: &Offer| offer.prices.map_or([0; 3], |p| [p.prompt.0, p.completion.0, p.request.0]);
        Self {
            facts: offers.iter().map(|offer| Facts::of(offer).0).collect(),
            weighed: offers.iter().map(weighed).collect(),
            limits: offers
                .iter()
                .map(|o| (o.context_tokens_max, o.completion_tokens_max.unwrap_or(u64::MAX)))
                .collect(),
            prices: offers.iter().map(prices).collect(),
            capacity: offers.iter().map(|offer| offer.capacity.unwrap_or(u32::MAX)).collect(),
            region: offers.iter().map(|offer| offer.region.as_ref().map_or(0, number)).collect(),
            regions,
        }
    }

    pub(crate) fn totals(&self, range: std::ops::Range<usize>) -> Totals {
        let facts = &self.facts[range.clone()];
        let limits = &self.limits[range.clone()];
        Totals {
            facts_all: facts.iter().fold(u64::MAX, |all, one| all & one),
            facts_any: facts.iter().fold(0, |any, one| any | one),
            context_min: limits.iter().map(|(context, _)| *context).min().unwrap_or(0),
            completion_min: limits.iter().map(|(_, completion)| *completion).min().unwrap_or(0),
            has_capacity: self.capacity[range].iter().any(|capacity| *capacity != u32::MAX),
        }
    }
}

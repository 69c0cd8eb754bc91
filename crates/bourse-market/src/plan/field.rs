//! Who is left after the hard rules: of which class each is, and what it costs.
//!
//! A class is four bits: [`RESTS`], [`MISSES`], [`OFF_TIER`] and [`LOWER`], which stand in this order around the
//! model's place (see [`group`]). Most offers are of class 0, and only of the others is anything read but price and
//! burden.

use super::Span;
use super::draw::Random;
use super::sieve;
use crate::demand::Demand;
use crate::effective::{ExpectedTokens, burdened, effective_cost_pico};
use crate::health::{HealthTable, Quality, Standing, Statistics, Vital, Window};
use crate::offer::{OfferIndex, ServiceTier, Supports};
use crate::preferences::{Cutoffs, Sort, TierWish};
use crate::snapshot::MarketSnapshot;
use crate::snapshot::columns::{Columns, Facts};
use bourse_types::{UnixMs, Usage};

/// Offers that rest.
pub(super) const RESTS: u8 = 1 << 3;
/// Offers that miss a cut-off of speed.
const MISSES: u8 = 1 << 2;
/// Offers that are not of the tier that goes first.
pub(super) const OFF_TIER: u8 = 1 << 1;
/// Offers whose standing or quality puts them after the others.
const LOWER: u8 = 1;

/// Where a class of a model stands among all: less is earlier.
pub(super) fn group(class: u8, place: u16) -> u16 {
    u16::from(class >> 2) << 12 | place << 2 | u16::from(class & 3)
}

/// What the choice is made from.
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(super) struct Field<'a> {
    pub(super) snapshot: &'a MarketSnapshot,
    columns: &'a Columns,
    health: &'a HealthTable,
    pub(super) vitals: &'a [Vital],
    pub(super) burdens: &'a [f32],
    pub(super) demand: &'a Demand<'a>,
    pub(super) now: UnixMs,
    pub(super) usage: Usage,
    prompt: f64,
    completion: f64,
    /// Whether any offer asks something for the request itself.
    has_request_price: bool,
    /// Costs of offers that have seen a part of the prompt, by position.
    pub(super) warm: Vec<(usize, f64)>,
    pub(super) sort: Option<Sort>,
    has_cutoffs: bool,
    pub(super) priority_first: bool,
    /// Standing and quality count only where the buyer does not sort.
    is_auto: bool,
    has_tools: bool,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        snapshot: &'a MarketSnapshot,
        health: &'a HealthTable,
        demand: &'a Demand<'a>,
        now: UnixMs,
        spans: &[Span<'_>],
    ) -> Self {
        let wishes = demand.preferences;
        let usage = demand.usage_expected();
        let flex = wishes.tier == TierWish::Flex && spans.iter().any(sieve::has_flex);
        let by_price = flex && !wishes.is_ordered();
        let mut field = Self {
            snapshot,
            columns: snapshot.columns(),
            health,
            vitals: health.vitals(),
            burdens: health.columns().burdens(),
            demand,
            now,
            usage,
            prompt: usage.prompt.0 as f64,
            completion: usage.completion.0 as f64,
            has_request_price: spans.iter().any(|span| span.model.totals.prices_max[2] > 0),
            warm: Vec::new(),
            sort: if by_price { Some(Sort::Price) } else { wishes.sort },
            has_cutoffs: !wishes.min_throughput.is_none() || !wishes.max_latency.is_none(),
            priority_first: wishes.tier == TierWish::Priority,
            is_auto: !wishes.is_ordered(),
            has_tools: demand.needs.with(demand.prefers).contains(Supports::TOOLS),
        };
        field.warm = field.warm_costs();
        field
    }

    /// Up to `budget` offers in the order in which they are asked, and from where on they rest.
    pub(super) fn choose(
        &self,
        spans: &mut [Span<'_>],
        budget: usize,
        seed: u64,
    ) -> (Vec<OfferIndex>, usize) {
        if self.sort.is_some() || !self.demand.preferences.order.is_empty() {
            self.sorted(spans, budget)
        } else {
            self.drawn(spans, budget, &mut Random::new(seed))
        }
    }

    /// Who may be of another class than 0 among up to 64 neighbours, and who is notable: bit 0 for the offer at
    /// `start`.
    #[inline]
    pub(super) fn classed(&self, start: usize, count: usize) -> (u64, u64) {
        let notable = self.health.columns().notable(start, count);
        let is_everybody = self.has_cutoffs || self.priority_first;
        (if is_everybody { u64::MAX >> (u64::BITS as usize - count) } else { notable }, notable)
    }

    /// The class of the offer in a lane of neighbours of which `notable` are notable.
    #[inline]
    pub(super) fn class(&self, (start, lane): (usize, usize), notable: u64) -> u8 {
        let at = start + lane;
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        // What was never measured misses every cut-off.
        let misses = self.has_cutoffs && self.statistics(at).is_none_or(|s| self.misses(s));
        let mut class = flag(misses, MISSES);
        if self.priority_first {
            let is_first = self.columns.kind_of(at).facts.0 & Facts::tier(ServiceTier::Priority) != 0;
            class |= flag(!is_first, OFF_TIER);
        }
        if notable >> lane & 1 != 0 {
            let vital = &self.vitals[at];
            let is_unreliable = self.is_auto && vital.standing == Standing::LastResort;
            class |= flag(!vital.admits(self.now) || is_unreliable, RESTS)
                | flag(self.is_auto && !self.is_fine(vital), LOWER);
        }
        class
    }

    fn is_fine(&self, vital: &Vital) -> bool {
        vital.standing == Standing::Normal && !(self.has_tools && vital.quality == Quality::Deprioritised)
    }

    pub(super) fn statistics(&self, at: usize) -> Option<&Statistics> {
        self.health.statistics(OfferIndex(at as u32))
    }

    /// Whether a cut-off is missed.
    #[inline(never)]
    fn misses(&self, statistics: &Statistics) -> bool {
        let wishes = self.demand.preferences;
        let misses = |limits: Cutoffs, measured: Option<[f32; 4]>, is_met: fn(f32, f32) -> bool| {
            let Some(measured) = measured else { return !limits.is_none() };
            let mut pairs = limits.limits().into_iter().zip(measured);
            !pairs.all(|(limit, measured)| limit.is_none_or(|limit| is_met(measured, limit as f32)))
        };
        let throughput = statistics.throughput_tokens_per_s(Window::FiveMinutes, self.now);
        let latency = statistics.ttft_ms(Window::FiveMinutes, self.now);
        let milli = throughput.map(|p| [p.p50, p.p75, p.p90, p.p99].map(|t| t * 1_000.0));
        misses(wishes.min_throughput, milli, |measured, least| measured >= least)
            || misses(wishes.max_latency, latency.map(|p| [p.p50, p.p75, p.p90, p.p99]), |ms, most| {
                ms <= most
            })
    }

    /// The list prices of neighbours from `start` on, units left out. The order of the sums is that of
    /// [`effective_cost_pico`].
    #[inline]
    pub(super) fn list_prices(&self, start: usize, into: &mut [f64]) {
        let range = start..start + into.len();
        let (prompt, completion) =
            (&self.columns.prompt[range.clone()], &self.columns.completion[range.clone()]);
        for ((slot, prompt), completion) in into.iter_mut().zip(prompt).zip(completion) {
            *slot = self.prompt * prompt + self.completion * completion;
        }
        if self.has_request_price {
            for (slot, request) in into.iter_mut().zip(&self.columns.request[range]) {
                *slot += request;
            }
        }
    }

    /// The list price of the expected usage.
    #[inline]
    pub(super) fn list_price(&self, at: usize) -> f64 {
        let Columns { prompt, completion, request, .. } = self.columns;
        let price = self.prompt * prompt[at] + self.completion * completion[at];
        let price = if self.has_request_price { price + request[at] } else { price };
        price + self.units_price(at)
    }

    /// What a good answer should cost at an offer.
    pub(super) fn cost(&self, at: usize) -> f64 {
        match self.warm.binary_search_by_key(&at, |(at, _)| *at) {
            Ok(warm) => self.warm[warm].1,
            Err(_) => self.cold_cost(at),
        }
    }

    /// The same where nothing of the prompt was seen before.
    #[inline]
    pub(super) fn cold_cost(&self, at: usize) -> f64 {
        burdened(self.list_price(at), self.burdens[at])
    }

    /// Units are rare, so that their price has no column.
    #[inline]
    pub(super) fn units_price(&self, at: usize) -> f64 {
        if self.usage.units == 0 {
            return 0.0;
        }
        let price = self.snapshot.offers()[at].prices.map_or(0, |prices| prices.unit.0);
        self.usage.units as f64 * price as f64
    }

    fn warm_costs(&self) -> Vec<(usize, f64)> {
        let cost = |warmth: &crate::sticky::Warmth| {
            let at = warmth.offer.0 as usize;
            let prices = self.snapshot.offer(warmth.offer)?.prices?;
            let vital = self.vitals.get(at)?;
            let tokens = ExpectedTokens {
                prompt: self.prompt,
                completion: self.completion,
                known: f64::from(warmth.tokens),
                saving: warmth.saving,
            };
            let units = self.units_price(at) * f64::from(vital.burden);
            Some((at, effective_cost_pico(&prices, tokens, vital) + units))
        };
        let mut warm: Vec<_> = self.demand.warmth.iter().filter_map(cost).collect();
        warm.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        warm.dedup_by_key(|(at, _)| *at);
        warm
    }
}

//! Other ways to choose, for asking of a recorded market what they would have done.
//!
//! Every policy keeps the hard filters and the buyer's own `order` and `sort`; what differs is only how
//! the free choice is made.

use crate::demand::Demand;
use crate::effective::{ExpectedTokens, Saving, effective_cost_pico};
use crate::health::HealthTable;
use crate::offer::OfferIndex;
use crate::plan::{Plan, PlanError, plan};
use crate::preferences::Sort;
use crate::snapshot::MarketSnapshot;
use bourse_types::UnixMs;

/// How the free choice is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplayPolicy {
    /// As the market does.
    Default,
    /// As the market does, with another seed: how much of the result is luck.
    Reseeded(u64),
    /// The least list price first.
    PriceOnly,
    /// The shortest time to the first token first.
    LatencyOnly,
    /// The draw by list price that the field's routers began with: nothing is learned from outcomes.
    ListPriceDraw,
}

/// Whom a plan asks first, and for how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The first attempt.
    pub offer: OfferIndex,
    /// What the request should cost there by list prices, in pico-dollars.
    pub list_pico: f64,
    /// What a good answer should really cost there, by the health as it was, in pico-dollars.
    pub effective_pico: f64,
}

impl ReplayPolicy {
    /// The plan that this policy makes.
    pub fn plan(
        self,
        snapshot: &MarketSnapshot,
        health: &HealthTable,
        demand: &Demand<'_>,
        now: UnixMs,
        seed: u64,
    ) -> Result<Plan, PlanError> {
        let sorted = |sort: Sort| {
            let mut wishes = demand.preferences.clone();
            if wishes.order.is_empty() {
                wishes.sort.get_or_insert(sort);
            }
            plan(snapshot, health, &Demand { preferences: &wishes, ..*demand }, now, seed)
        };
        match self {
            Self::Default => plan(snapshot, health, demand, now, seed),
            Self::Reseeded(with) => plan(snapshot, health, demand, now, seed ^ with),
            Self::PriceOnly => sorted(Sort::Price),
            Self::LatencyOnly => sorted(Sort::Latency),
            Self::ListPriceDraw => plan(snapshot, &HealthTable::new(snapshot), demand, now, seed),
        }
    }
}

impl Choice {
    /// What a plan asks first; none without a plan, or of an offer without a price.
    pub fn of(
        made: &Result<Plan, PlanError>,
        snapshot: &MarketSnapshot,
        health: &HealthTable,
        demand: &Demand<'_>,
    ) -> Option<Self> {
        let offer = *made.as_ref().ok()?.attempts.first()?;
        let prices = snapshot.offer(offer)?.prices?;
        let tokens = expected(demand, offer);
        let cold = ExpectedTokens { known: 0.0, ..tokens };
        let vital = health.vital(offer);
        let free = crate::health::Vital { burden: 1.0, ..vital };
        Some(Self {
            offer,
            list_pico: effective_cost_pico(&prices, cold, &free),
            effective_pico: effective_cost_pico(&prices, tokens, &vital),
        })
    }
}

fn expected(demand: &Demand<'_>, offer: OfferIndex) -> ExpectedTokens {
    let usage = demand.usage_expected();
    let warm = demand.warmth.iter().find(|warmth| warmth.offer == offer);
    ExpectedTokens {
        prompt: usage.prompt.0 as f64,
        completion: usage.completion.0 as f64,
        known: warm.map_or(0.0, |warmth| f64::from(warmth.tokens)),
        saving: warm.map_or(Saving::Price, |warmth| warmth.saving),
    }
}

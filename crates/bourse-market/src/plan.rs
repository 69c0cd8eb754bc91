//! The routing plan: who is asked, in which order, and why nobody else.
//!
//! Hard filters come first; each leaves a [`Rejection`]. Then parameters that the buyer sent narrow the
//! field as long as somebody supports them. What is left is drawn without replacement with weight
//! 1/cost², where cost is what *this* request should cost there, mixed with [`EXPLORATION_SHARE`] of an
//! even draw so that no eligible offer starves. `order` and `sort` replace the draw by a fixed order.
//!
//! Offers whose breaker is open, or that asked for a pause, come after all others: they are a last
//! resort, better than no answer. At most [`ATTEMPTS_MAX`] offers are tried; the rest is rejected as
//! beyond the budget, so that every offer of the model is either an attempt or has a reason.
//!
//! The plan is a function of its arguments. Weights are floats made by +, ×, ÷ alone, which IEEE 754
//! defines to the bit, so that a plan can be replayed anywhere.

use crate::demand::{Demand, MaxPrice, Sort, position};
use crate::health::{Breaker, OfferHealth};
use crate::offer::{Offer, OfferIndex, Supports};
use crate::rejection::{PricePart, Rejection};
use crate::snapshot::MarketSnapshot;
use bourse_types::{Digest32, PriceSchedule, UnixMs};

mod draw;

/// Most attempts in a plan: the most that a receipt can list.
pub const ATTEMPTS_MAX: usize = 16;
/// Share of the draw that is even over all eligible offers.
pub const EXPLORATION_SHARE: f64 = 0.02;
/// Costs below this, in pico-dollars, weigh the same: a free offer is cheap, not infinitely so.
const COST_PICO_MIN: f64 = 1_000.0;

/// Who is asked and why nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The snapshot that positions refer to.
    pub snapshot: Digest32,
    /// The seed of the draw.
    pub seed: u64,
    /// Offers in the order in which they are asked, at most [`ATTEMPTS_MAX`], at least one.
    pub attempts: Vec<OfferIndex>,
    /// Attempts from this position on are last resorts: resting, but better than no answer.
    pub last_resorts_from: usize,
    /// Every other offer of the model.
    pub rejected: Vec<(OfferIndex, Rejection)>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nobody offers the model.
    #[error("no seller offers this model")]
    ModelNotFound,
    /// Somebody does, but nobody for this request.
    #[error("none of the {} offers of this model can serve this request: {}", rejected.len(), reasons(rejected))]
    NoOffers {
        /// Every offer of the model, with its reason.
        rejected: Vec<(OfferIndex, Rejection)>,
    },
}

impl PlanError {
    /// Whether the same request may be served a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::ModelNotFound => false,
            Self::NoOffers { rejected } => rejected.iter().any(|(_, reason)| reason.is_transient()),
        }
    }
}

/// Counts rejections by code, such as `2 max_price, 1 ignored`.
fn reasons(rejected: &[(OfferIndex, Rejection)]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for (_, reason) in rejected {
        *counts.entry(reason.code()).or_insert(0u32) += 1;
    }
    counts.iter().map(|(code, n)| format!("{n} {code}")).collect::<Vec<_>>().join(", ")
}

impl Plan {
    /// Domain of [`Plan::digest_bytes`].
    pub const DOMAIN: &'static str = "bourse/plan/1";

    /// Canonical bytes for hashing: domain, snapshot, seed, attempts, rejections as position and number.
    pub fn digest_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(96 + 4 * self.attempts.len() + 5 * self.rejected.len());
        bytes.extend_from_slice(Self::DOMAIN.as_bytes());
        bytes.extend_from_slice(&self.snapshot.0);
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        bytes.extend_from_slice(&(self.attempts.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.last_resorts_from as u32).to_le_bytes());
        for index in &self.attempts {
            bytes.extend_from_slice(&index.0.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.rejected.len() as u32).to_le_bytes());
        for (index, reason) in &self.rejected {
            bytes.extend_from_slice(&index.0.to_le_bytes());
            bytes.push(reason.number());
        }
        bytes
    }
}

/// An offer that can serve, with what its place depends on.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: OfferIndex,
    supports: Supports,
    cost_pico: f64,
    ttft_ms: f64,
    /// Position in the buyer's `order`; `u32::MAX` when not in it.
    rank: u32,
    /// Why it is only a last resort, if it is.
    resting: Option<Rejection>,
}

/// Chooses who is asked. `health` is by position; an offer beyond its end counts as healthy.
pub fn plan(
    snapshot: &MarketSnapshot,
    health: &[OfferHealth],
    demand: &Demand<'_>,
    now: UnixMs,
    seed: u64,
) -> Result<Plan, PlanError> {
    let offers = snapshot.offers_of(demand.model).ok_or(PlanError::ModelNotFound)?;
    let mut candidates = Vec::with_capacity(offers.len());
    let mut rejected = Vec::new();
    let healthy = OfferHealth::default();
    for (index, offer) in offers {
        let health = health.get(index.0 as usize).unwrap_or(&healthy);
        match judge(index, offer, health, demand, now) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => rejected.push((index, reason)),
        }
    }
    prefer(&mut candidates, demand, &mut rejected);
    if candidates.is_empty() {
        return Err(PlanError::NoOffers { rejected });
    }
    // Stable, so that candidates stay in the order of their positions within both parts.
    candidates.sort_by_key(|c| c.resting.is_some());
    let resting_from = candidates.partition_point(|c| c.resting.is_none());
    let budget = if demand.preferences.allow_fallbacks || !demand.preferences.order.is_empty() {
        ATTEMPTS_MAX
    } else {
        1
    };
    let mut random = draw::Random::new(seed);
    let (ready, resting) = candidates.split_at_mut(resting_from);
    arrange(ready, demand, budget, &mut random);
    arrange(resting, demand, budget.saturating_sub(ready.len()), &mut random);
    let cut = budget.min(candidates.len());
    let beyond = if budget == 1 { Rejection::FallbacksOff } else { Rejection::AttemptBudget };
    rejected.extend(candidates[cut..].iter().map(|c| (c.index, c.resting.unwrap_or(beyond))));
    rejected.sort_unstable_by_key(|(index, _)| *index);
    Ok(Plan {
        snapshot: snapshot.digest(),
        seed,
        attempts: candidates[..cut].iter().map(|c| c.index).collect(),
        last_resorts_from: resting_from.min(cut),
        rejected,
    })
}

/// The hard filters, cheapest first.
fn judge(
    index: OfferIndex,
    offer: &Offer,
    health: &OfferHealth,
    demand: &Demand<'_>,
    now: UnixMs,
) -> Result<Candidate, Rejection> {
    let wishes = demand.preferences;
    let prices = offer.prices.as_ref().ok_or(Rejection::UnknownPrice)?;
    if !wishes.only.is_empty() && position(&wishes.only, &offer.seller).is_none() {
        return Err(Rejection::NotInOnly);
    }
    if position(&wishes.ignore, &offer.seller).is_some() {
        return Err(Rejection::Ignored);
    }
    let rank = position(&wishes.order, &offer.seller).map_or(u32::MAX, |at| at as u32);
    if rank == u32::MAX && !wishes.allow_fallbacks && !wishes.order.is_empty() {
        return Err(Rejection::FallbacksOff);
    }
    if wishes.quantizations.is_some_and(|set| !set.contains(offer.quantization)) {
        return Err(Rejection::Quantization);
    }
    let needs = if wishes.require_parameters { demand.needs.with(demand.prefers) } else { demand.needs };
    if !offer.supports.contains(needs) {
        return Err(Rejection::MissingSupport(needs.without(offer.supports)));
    }
    fits(offer, demand)?;
    affordable(prices, &wishes.max_price)?;
    if let Some(capacity) = offer.capacity.filter(|capacity| health.in_flight() >= *capacity) {
        return Err(Rejection::AtCapacity(capacity));
    }
    Ok(Candidate {
        index,
        supports: offer.supports,
        cost_pico: cost_pico(prices, demand),
        ttft_ms: health.ttft_ms().unwrap_or(f64::INFINITY),
        rank,
        resting: resting(health, now),
    })
}

/// Rejects what surely cannot fit. What may fit is tried: the seller counts exactly.
fn fits(offer: &Offer, demand: &Demand<'_>) -> Result<(), Rejection> {
    let answer = demand.max_tokens.unwrap_or(1);
    if let Some(max) = offer.completion_tokens_max.filter(|max| answer > *max) {
        return Err(Rejection::MaxTokens(max));
    }
    if demand.prompt_tokens_least().saturating_add(answer) > offer.context_tokens_max {
        return Err(Rejection::ContextTooLong(offer.context_tokens_max));
    }
    Ok(())
}

fn affordable(prices: &PriceSchedule, max: &MaxPrice) -> Result<(), Rejection> {
    let part = if max.prompt.is_some_and(|max| prices.prompt > max) {
        PricePart::Prompt(prices.prompt)
    } else if max.completion.is_some_and(|max| prices.completion > max) {
        PricePart::Completion(prices.completion)
    } else if max.request.is_some_and(|max| prices.request > max) {
        PricePart::Request(prices.request)
    } else {
        return Ok(());
    };
    Err(Rejection::MaxPrice(part))
}

fn resting(health: &OfferHealth, now: UnixMs) -> Option<Rejection> {
    if health.admits(now) {
        return None;
    }
    match health.breaker(now) {
        Breaker::Closed => health.paused_until(now).map(Rejection::RateLimited),
        Breaker::Open { .. } | Breaker::HalfOpen => Some(Rejection::BreakerOpen(health.rests_until(now))),
    }
}

/// What the request should cost there, in pico-dollars. For weighing only; money is never a float.
fn cost_pico(prices: &PriceSchedule, demand: &Demand<'_>) -> f64 {
    let (prompt, completion) = demand.tokens_expected();
    prices.prompt.0 as f64 * prompt
        + prices.completion.0 as f64 * completion
        + prices.request.0 as f64 * 1_000.0
}

/// Narrows to offers that support what the buyer sent, one capability at a time, as long as some do.
fn prefer(candidates: &mut Vec<Candidate>, demand: &Demand<'_>, rejected: &mut Vec<(OfferIndex, Rejection)>) {
    if demand.prefers.is_empty() {
        return;
    }
    for wanted in demand.prefers.members() {
        let supported = candidates.iter().filter(|c| c.supports.contains(wanted)).count();
        if supported == 0 || supported == candidates.len() {
            continue;
        }
        candidates.retain(|c| {
            let keep = c.supports.contains(wanted);
            if !keep {
                rejected.push((c.index, Rejection::MissingPreferred(wanted)));
            }
            keep
        });
    }
}

/// Brings the first `count` of the candidates into the order in which they are asked.
fn arrange(candidates: &mut [Candidate], demand: &Demand<'_>, count: usize, random: &mut draw::Random) {
    let wishes = demand.preferences;
    if wishes.order.is_empty() && wishes.sort.is_none() {
        draw::weighted(candidates, count, random);
        return;
    }
    let by_latency = wishes.sort == Some(Sort::Latency);
    candidates.sort_by(|a, b| {
        let by_rank = a.rank.cmp(&b.rank);
        let by_time = if by_latency { a.ttft_ms.total_cmp(&b.ttft_ms) } else { std::cmp::Ordering::Equal };
        by_rank.then(by_time).then(a.cost_pico.total_cmp(&b.cost_pico)).then(a.index.cmp(&b.index))
    });
}

#[cfg(test)]
mod tests;

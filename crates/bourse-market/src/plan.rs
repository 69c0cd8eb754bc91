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
use crate::health::{HealthTable, Rest, Vital};
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

/// An offer that can serve.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    index: OfferIndex,
    supports: Supports,
    cost_pico: f64,
    is_resting: bool,
    is_chosen: bool,
}

/// Chooses who is asked. `health` is by position; an offer beyond its end counts as healthy.
pub fn plan(
    snapshot: &MarketSnapshot,
    health: &HealthTable,
    demand: &Demand<'_>,
    now: UnixMs,
    seed: u64,
) -> Result<Plan, PlanError> {
    let field = Field { snapshot, health, demand, now };
    let offers = snapshot.offers_of(demand.model).ok_or(PlanError::ModelNotFound)?;
    let mut candidates = Vec::with_capacity(offers.len());
    let mut rejected = Vec::new();
    for (index, offer) in offers {
        match field.judge(index, offer) {
            Ok(candidate) => candidates.push(candidate),
            Err(reason) => rejected.push((index, reason)),
        }
    }
    prefer(&mut candidates, demand, &mut rejected);
    if candidates.is_empty() {
        return Err(PlanError::NoOffers { rejected });
    }
    let wishes = demand.preferences;
    let single = !wishes.allow_fallbacks && wishes.order.is_empty();
    let (budget, beyond) =
        if single { (1, Rejection::FallbacksOff) } else { (ATTEMPTS_MAX, Rejection::AttemptBudget) };
    let mut attempts = Vec::with_capacity(budget.min(candidates.len()));
    let mut random = draw::Random::new(seed);
    let mut resting: Vec<Candidate> = candidates.extract_if(.., |c| c.is_resting).collect();
    field.choose(&mut candidates, budget, &mut random, &mut attempts);
    let last_resorts_from = attempts.len();
    field.choose(&mut resting, budget - last_resorts_from, &mut random, &mut attempts);
    rejected.reserve(candidates.len() + resting.len() - attempts.len());
    for left in candidates.iter().chain(&resting).filter(|c| !c.is_chosen) {
        rejected.push((left.index, field.rest(left.index).unwrap_or(beyond)));
    }
    // Stable sort, because what is sorted are a few runs that are in order already.
    rejected.sort_by_key(|(index, _)| *index);
    Ok(Plan { snapshot: snapshot.digest(), seed, attempts, last_resorts_from, rejected })
}

/// What a plan is made from.
struct Field<'a> {
    snapshot: &'a MarketSnapshot,
    health: &'a HealthTable,
    demand: &'a Demand<'a>,
    now: UnixMs,
}

impl Field<'_> {
    fn health(&self, index: OfferIndex) -> Vital {
        self.health.vital(index)
    }

    /// The hard filters, cheapest first.
    fn judge(&self, index: OfferIndex, offer: &Offer) -> Result<Candidate, Rejection> {
        let demand = self.demand;
        let wishes = demand.preferences;
        let prices = offer.prices.as_ref().ok_or(Rejection::UnknownPrice)?;
        if !wishes.only.is_empty() && position(&wishes.only, &offer.seller).is_none() {
            return Err(Rejection::NotInOnly);
        }
        if position(&wishes.ignore, &offer.seller).is_some() {
            return Err(Rejection::Ignored);
        }
        let order_is_all = !wishes.allow_fallbacks && !wishes.order.is_empty();
        if order_is_all && position(&wishes.order, &offer.seller).is_none() {
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
        let health = self.health(index);
        if let Some(capacity) = offer.capacity.filter(|capacity| health.in_flight >= *capacity) {
            return Err(Rejection::AtCapacity(capacity));
        }
        Ok(Candidate {
            index,
            supports: offer.supports,
            cost_pico: cost_pico(prices, demand),
            is_resting: !health.admits(self.now),
            is_chosen: false,
        })
    }

    /// Why an offer is only a last resort, if it is.
    fn rest(&self, index: OfferIndex) -> Option<Rejection> {
        Some(match self.health(index).rest(self.now)? {
            Rest::Failing(until) => Rejection::BreakerOpen(until),
            Rest::Paused(until) => Rejection::RateLimited(until),
            Rest::Capped(max) => Rejection::AtCapacity(max),
        })
    }

    /// Appends up to `count` of the candidates to `attempts` and marks them as chosen.
    fn choose(
        &self,
        candidates: &mut [Candidate],
        count: usize,
        random: &mut draw::Random,
        attempts: &mut Vec<OfferIndex>,
    ) {
        let wishes = self.demand.preferences;
        if wishes.order.is_empty() && wishes.sort.is_none() {
            draw::weighted(candidates, count, random, attempts);
            return;
        }
        let key = |c: &Candidate| {
            let seller = self.snapshot.offer(c.index).map(|offer| &offer.seller);
            let rank = seller.and_then(|seller| position(&wishes.order, seller)).unwrap_or(usize::MAX);
            let by_latency = wishes.sort == Some(Sort::Latency);
            let ttft_ms = if by_latency { self.health(c.index).ttft_ms } else { 0.0 };
            (rank, ttft_ms)
        };
        let mut keyed: Vec<_> = candidates.iter_mut().map(|c| (key(c), c)).collect();
        keyed.sort_by(|((rank_a, ttft_a), a), ((rank_b, ttft_b), b)| {
            let by_wish = rank_a.cmp(rank_b).then(ttft_a.total_cmp(ttft_b));
            by_wish.then(a.cost_pico.total_cmp(&b.cost_pico)).then(a.index.cmp(&b.index))
        });
        for (_, chosen) in keyed.into_iter().take(count) {
            chosen.is_chosen = true;
            attempts.push(chosen.index);
        }
    }
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

#[cfg(test)]
mod tests;

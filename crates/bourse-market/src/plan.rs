//! The routing plan: who is asked, in which order, and why nobody else.
//!
//! Hard filters come first; each leaves a [`Rejection`]. Then parameters that the buyer sent narrow the
//! field of each model as long as somebody supports them. What is left stands in groups, asked one after
//! the other:
//!
//! 1. offers that rest (an open breaker, a pause they asked for, a learned cap, an uptime below 80 %) after
//!    all that do not: last resorts, better than no answer;
//! 2. offers that miss the buyer's cut-offs of speed after those that meet them, whatever their model;
//! 3. a fallback model's after the model's, unless they are to be sorted together;
//! 4. where priority service was asked for, priority offers (fastest first) before ordinary ones;
//! 5. unless the buyer sorts: degraded offers, and for requests with tools those of deprioritised quality,
//!    after the others. Offers too new to be judged stand with the good ones, or they would stay new.
//!
//! Within a group offers are drawn without replacement with weight 1/cost², where cost is what a good
//! answer to *this* request really costs there (see [`effective_cost_pico`](crate::effective_cost_pico)),
//! mixed with [`EXPLORATION_SHARE`] of an even draw so that no eligible offer starves; only an offer whose
//! warm cache makes it the cheapest of its group goes first without a draw. `order` and `sort` replace
//! the draw by a fixed order. At most [`ATTEMPTS_MAX`] offers are tried; the rest is rejected as
//! beyond the budget, so that every offer of every model named is either an attempt or has a reason.
//!
//! The plan is a function of its arguments. Weights are floats made by +, ×, ÷ in a fixed order, which
//! IEEE 754 defines to the bit, so that a plan can be replayed anywhere. It is made for books of 100,000
//! offers: it reads short columns, keeps one byte for each offer and sorts nothing but what it returns; and
//! for books of twenty, where it allocates little else than what it returns.

use crate::demand::{Demand, MODELS_MAX};
use crate::health::{HealthTable, Rest};
use crate::offer::OfferIndex;
use crate::rejection::Rejection;
use crate::snapshot::{MarketSnapshot, Model};
use bourse_types::{Digest32, UnixMs};
use std::borrow::Cow;
use std::ops::Range;

mod draw;
mod drawn;
mod field;
mod rank;
pub(crate) mod sieve;
mod sorted;

use draw::BLOCK;
use field::Field;

/// Most attempts in a plan: the most that a receipt can list.
pub const ATTEMPTS_MAX: usize = 16;
/// Share of the draw that is even over all eligible offers.
pub const EXPLORATION_SHARE: f64 = 0.02;

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
    /// Every other offer of the models named.
    pub rejected: Rejections,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nobody offers any of the models.
    #[error("no seller offers this model")]
    ModelNotFound,
    /// Somebody does, but nobody for this request.
    #[error("none of the {} offers of this model can serve this request: {}", rejected.len(), rejected.summary())]
    NoOffers {
        /// Every offer of the models named, with its reason.
        rejected: Rejections,
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

impl Plan {
    /// Domain of [`Plan::digest_bytes`].
    pub const DOMAIN: &'static str = "bourse/plan/2";

    /// Canonical bytes for hashing: domain, snapshot, seed, attempts; then for each model named where its
    /// offers start, how many they are, and one byte for each: [`Rejection::number`], or 255 for an attempt.
    pub fn digest_bytes(&self) -> Vec<u8> {
        let offers: usize = self.rejected.spans.iter().map(|(_, verdicts)| verdicts.len()).sum();
        let mut bytes = Vec::with_capacity(96 + 4 * self.attempts.len() + offers);
        let number = |bytes: &mut Vec<u8>, n: usize| bytes.extend_from_slice(&(n as u32).to_le_bytes());
        bytes.extend_from_slice(Self::DOMAIN.as_bytes());
        bytes.extend_from_slice(&self.snapshot.0);
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        number(&mut bytes, self.attempts.len());
        number(&mut bytes, self.last_resorts_from);
        for index in &self.attempts {
            bytes.extend_from_slice(&index.0.to_le_bytes());
        }
        self.rejected.put_bytes(&mut bytes);
        bytes
    }
}

/// The verdict, while a plan is made, on an offer of the first class that nothing refuses.
const OPEN: u8 = 0;
/// The verdict on an offer that is tried.
const ATTEMPT: u8 = u8::MAX;
/// The verdict, while a plan is made, on an offer of a later class than the first: this and the class.
const LATER: u8 = 0x80;
/// How many classes there are; see [`field`].
const CLASSES: usize = 16;

/// Whether a verdict is [`LATER`] and a class.
#[inline]
fn is_later(verdict: u8) -> bool {
    usize::from(verdict & !LATER) < CLASSES && verdict & LATER != 0
}

/// The offers of the models named that are not tried, with their reasons: one byte for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejections {
    spans: Vec<(u32, Vec<u8>)>,
}

impl Rejections {
    /// The rejected offers, model by model in the order named, then by position.
    pub fn iter(&self) -> impl Iterator<Item = (OfferIndex, Rejection)> {
        self.spans.iter().flat_map(|(first, verdicts)| {
            let reason = |(index, verdict): (u32, &u8)| {
                Rejection::from_number(*verdict).map(|reason| (OfferIndex(index), reason))
            };
            (*first..).zip(verdicts).filter_map(reason)
        })
    }

    /// Why an offer is not tried; none when it is, or is of another model.
    pub fn get(&self, index: OfferIndex) -> Option<Rejection> {
        let verdict = |(first, verdicts): &(u32, Vec<u8>)| {
            index.0.checked_sub(*first).and_then(|at| verdicts.get(at as usize).copied())
        };
        self.spans.iter().find_map(verdict).and_then(Rejection::from_number)
    }

    /// Canonical bytes; see [`Plan::digest_bytes`].
    pub(crate) fn put_bytes(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.spans.len() as u32).to_le_bytes());
        for (first, verdicts) in &self.spans {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&(verdicts.len() as u32).to_le_bytes());
            bytes.extend_from_slice(verdicts);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let rejected = |verdicts: &Vec<u8>| verdicts.iter().filter(|verdict| **verdict != ATTEMPT).count();
        self.spans.iter().map(|(_, verdicts)| rejected(verdicts)).sum()
    }

    /// Whether every offer is tried.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many offers each reason refused, by its number.
    pub fn counts(&self) -> impl Iterator<Item = (Rejection, u32)> {
        let mut counts = [0u32; 256];
        for verdict in self.spans.iter().flat_map(|(_, verdicts)| verdicts) {
            counts[usize::from(*verdict)] += 1;
        }
        let count = move |reason: Rejection| (reason, counts[usize::from(reason.number())]);
        Rejection::ALL.into_iter().map(count).filter(|(_, count)| *count > 0)
    }

    /// Counts by code, such as `2 max_price, 1 ignored`.
    fn summary(&self) -> String {
        self.counts().map(|(reason, n)| format!("{n} {}", reason.code())).collect::<Vec<_>>().join(", ")
    }
}

/// The offers of one model, while a plan is made.
struct Span<'a> {
    model: &'a Model,
    /// [`OPEN`]; a rejection's number; [`ATTEMPT`]; [`LATER`] and a class.
    verdicts: Vec<u8>,
    /// How many of each class are [`LATER`].
    later: [u32; CLASSES],
}

impl<'a> Span<'a> {
    fn new(model: &'a Model) -> Self {
        let count = model.range.len();
        let mut verdicts = Vec::with_capacity(count);
        verdicts.resize(count, OPEN);
        Self { model, verdicts, later: [0; CLASSES] }
    }

    /// Position of the first offer.
    fn first(&self) -> usize {
        self.model.range.start as usize
    }

    fn range(&self) -> Range<usize> {
        self.first()..self.first() + self.verdicts.len()
    }

    /// The verdicts by blocks, each with the position of its first offer.
    fn blocks(&self) -> impl Iterator<Item = (usize, &[u8])> {
        (self.first()..).step_by(BLOCK).zip(self.verdicts.chunks(BLOCK))
    }

    fn blocks_mut(&mut self) -> impl Iterator<Item = (usize, &mut [u8])> {
        (self.first()..).step_by(BLOCK).zip(self.verdicts.chunks_mut(BLOCK))
    }
}

/// Chooses who is asked. `health` is by position; an offer beyond its end is one of which nothing is known.
pub fn plan(
    snapshot: &MarketSnapshot,
    health: &HealthTable,
    demand: &Demand<'_>,
    now: UnixMs,
    seed: u64,
) -> Result<Plan, PlanError> {
    let count = snapshot.offers().len();
    let health = if health.vitals().len() < count {
        Cow::Owned(health.extended(count))
    } else {
        Cow::Borrowed(health)
    };
    let mut spans: Vec<Span<'_>> = Vec::with_capacity((1 + demand.fallbacks.len()).min(MODELS_MAX));
    for model in demand.models() {
        let Some(model) = snapshot.model(model) else { continue };
        if spans.iter().all(|span| span.model.range != model.range) {
            spans.push(Span::new(model));
        }
    }
    if spans.is_empty() {
        return Err(PlanError::ModelNotFound);
    }
    for span in &mut spans {
        sieve::sift(snapshot, health.vitals(), demand, span);
    }
    let wishes = demand.preferences;
    let single = !wishes.allow_fallbacks && wishes.order.is_empty();
    let (budget, beyond) =
        if single { (1, Rejection::FallbacksOff) } else { (ATTEMPTS_MAX, Rejection::AttemptBudget) };
    let field = Field::new(snapshot, &health, demand, now, &spans);
    let (attempts, last_resorts_from) = field.choose(&mut spans, budget, seed);
    for span in &mut spans {
        conclude(span, &health, now, beyond, &attempts);
    }
    let rejected =
        Rejections { spans: spans.into_iter().map(|span| (span.model.range.start, span.verdicts)).collect() };
    if attempts.is_empty() {
        return Err(PlanError::NoOffers { rejected });
    }
    Ok(Plan { snapshot: snapshot.digest(), seed, attempts, last_resorts_from, rejected })
}

/// Gives everybody who was left and not chosen a reason.
fn conclude(
    span: &mut Span<'_>,
    health: &HealthTable,
    now: UnixMs,
    beyond: Rejection,
    attempts: &[OfferIndex],
) {
    let range = span.range();
    for at in attempts.iter().map(|index| index.0 as usize).filter(|at| range.contains(at)) {
        span.verdicts[at - range.start] = ATTEMPT;
    }
    if span.later.iter().any(|count| *count > 0) {
        name_resting(span, health, now);
    }
    let beyond = beyond.number();
    for verdict in &mut span.verdicts {
        *verdict = if *verdict == OPEN || is_later(*verdict) { beyond } else { *verdict };
    }
}

/// Gives those who rest and were not chosen their reasons.
fn name_resting(span: &mut Span<'_>, health: &HealthTable, now: UnixMs) {
    let vitals = health.vitals();
    for (start, verdicts) in span.blocks_mut() {
        let mut notable = health.columns().notable(start, verdicts.len());
        while notable != 0 {
            let lane = notable.trailing_zeros() as usize;
            notable &= notable - 1;
            if !is_later(verdicts[lane]) {
                continue;
            }
            let Some(rest) = vitals[start + lane].rest(now) else { continue };
            let reason = match rest {
                Rest::Failing(_) => Rejection::BreakerOpen,
                Rest::Paused(_) => Rejection::RateLimited,
                Rest::Capped(_) => Rejection::AtCapacity,
            };
            verdicts[lane] = reason.number();
        }
    }
}

#[cfg(test)]
mod tests;

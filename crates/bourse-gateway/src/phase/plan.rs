//! Phase 3: who is asked, in which order.
//!
//! The choice itself is pure and lives in `bourse-market`; here one plan for the model and its fallbacks
//! becomes a list of legs. What is told when there is none stands in [`unroutable`](crate::unroutable).

use super::resolve::Requested;
use super::wishes::{demand, preferences};
use crate::byok::{self, OwnKey};
use crate::config::ByokMode;
use crate::conversation::Conversation;
use crate::market::{Book, Market, Seller};
use crate::prefix::Prefix;
use crate::unroutable::{away, unroutable};
use bourse_market::{BlockHash, Demand, OfferIndex, Plan, PlanError, Policy, Preferences, Rejections};
use bourse_types::{Digest32, ModelSlug, RequestId, SellerName, UnixMs};
use bourse_wire::dialect::Job;
use bourse_wire::error::ApiError;
use std::sync::Arc;

/// One seller to ask.
pub(crate) struct Leg {
    pub(crate) book: Arc<Book>,
    pub(crate) index: OfferIndex,
    pub(crate) model: ModelSlug,
    /// The seller as the buyer's own key reaches it; none: the market's.
    pub(crate) own: Option<Seller>,
}

impl Leg {
    pub(crate) fn seller(&self) -> Option<&SellerName> {
        self.book.snapshot.offer(self.index).map(|offer| &offer.seller)
    }
}

/// Where a request may go.
pub(crate) struct Route {
    pub(crate) legs: Vec<Leg>,
    /// The plan behind the legs, and the book that it was made on.
    pub(crate) plan: Plan,
    pub(crate) book: Arc<Book>,
    digest: Digest32,
    pub(crate) preferences: Preferences,
    /// Of the bytes that the buyer sent, where a preset changed them. Rare, and the route moves with every request.
    pub(crate) request_hash: Option<Box<Digest32>>,
    /// The prompt's blocks, where nodes are told apart by what they hold of it.
    pub(crate) prompt: Option<Arc<Vec<BlockHash>>>,
    /// What the buyer named; only for who asks to be told of the choice.
    pub(crate) requested: Option<Box<Requested>>,
}

/// A request that nobody can be asked for.
pub(crate) struct NoRoute {
    pub(crate) error: ApiError,
    /// Without legs, its plan without attempts: who was left out for what. None when nothing was planned.
    pub(crate) route: Option<Route>,
}

impl From<ApiError> for Box<NoRoute> {
    fn from(error: ApiError) -> Self {
        Self::new(NoRoute { error, route: None })
    }
}

impl Route {
    /// The digest of the plan.
    pub(crate) fn digest(&self) -> Digest32 {
        self.digest
    }

    /// The digest of the book that the plan was made on.
    pub(crate) fn book_digest(&self) -> Digest32 {
        self.plan.snapshot
    }
}

/// Plans a job.
pub(crate) fn route(
    market: &Market,
    request: RequestId,
    job: &Job,
    (policy, own): (Option<&Policy>, &[Arc<OwnKey>]),
    at: (UnixMs, u64),
    conversation: Option<&Conversation>,
) -> Result<Route, Box<NoRoute>> {
    let mut preferences = preferences(job)?;
    let held = market.hold_to_weights(&mut preferences, conversation, at.0);
    if let Some(policy) = policy {
        preferences = preferences.tightened_by(policy);
    }
    let prefix = market.prefixes.look(job, at.0);
    let memory = (conversation, prefix.as_ref());
    let found = if own.is_empty() {
        planned(market, request, (job, &preferences), at, memory).map(|(book, plan, digest)| {
            let legs = legs(&book, &plan, &[], None);
            (legs, book, plan, digest)
        })
    } else {
        with_own(market, request, (job, &preferences), own, at, memory)
    };
    let route = |(legs, book, plan, digest): PlannedLegs, prompt| Route {
        legs,
        plan,
        book,
        digest,
        preferences,
        request_hash: None,
        requested: None,
        prompt,
    };
    match found {
        Ok(found) => Ok(route(found, prefix.map(|prefix| prefix.blocks))),
        Err(failed) => {
            let Unplanned { error, of: (book, plan, digest) } = *failed;
            let error = match held {
                Some(held) => held.explained(error, &plan.rejected),
                None => error,
            };
            Err(Box::new(NoRoute { error, route: Some(route((Vec::new(), book, plan, digest), None)) }))
        }
    }
}

/// What is remembered of the prompt's beginning: who answered the conversation last, and which nodes hold it.
type Memory<'a> = (Option<&'a Conversation>, Option<&'a Prefix>);

/// A plan, the book that it was made on and its digest.
type Planned = (Arc<Book>, Plan, Digest32);
/// The same with its legs.
type PlannedLegs = (Vec<Leg>, Arc<Book>, Plan, Digest32);

/// Why nobody is asked, and the plan that says so: one without attempts.
struct Unplanned {
    error: ApiError,
    of: Planned,
}

/// Plans what the market resells.
fn planned(
    market: &Market,
    request: RequestId,
    (job, preferences): (&Job, &Preferences),
    at: (UnixMs, u64),
    memory: Memory<'_>,
) -> Result<Planned, Box<Unplanned>> {
    let demand = demand_of_all(job, preferences);
    let (book, plan, digest) = market.plan(request, &demand, at, memory);
    let failed = match plan {
        Ok(plan) => return Ok((book, plan, digest)),
        Err(failed) => failed,
    };
    let error = match &failed {
        PlanError::ModelNotFound if has_sold(market, job) => away(&demand),
        failed => unroutable(&book, failed, &demand),
    };
    let rejected = match failed {
        PlanError::NoOffers { rejected } => rejected,
        PlanError::ModelNotFound => Rejections::default(),
    };
    let snapshot = book.snapshot.digest();
    let plan = Plan { snapshot, seed: at.1, attempts: Vec::new(), last_resorts_from: 0, rejected };
    Err(Box::new(Unplanned { error, of: (book, plan, digest) }))
}

/// Plans with the buyer's own keys: prioritised ones, what the market resells, fallback ones. A key that is always
/// used leaves out what the market resells.
fn with_own(
    market: &Market,
    request: RequestId,
    (job, preferences): (&Job, &Preferences),
    own: &[Arc<OwnKey>],
    at: (UnixMs, u64),
    memory: Memory<'_>,
) -> Result<PlannedLegs, Box<Unplanned>> {
    let wishes = byok::wishes(preferences, own);
    let before = |legs: &Planned| {
        let mut found = legs_of(legs, own, ByokMode::Always);
        found.extend(legs_of(legs, own, ByokMode::Prioritized));
        found
    };
    if own.iter().any(|own| own.mode == ByokMode::Always) {
        let planned = planned(market, request, (job, &wishes), at, memory).map_err(|mut failed| {
            let message = &mut failed.error.message;
            *message = format!("{message}; the account's own key is always used for this model").into();
            failed
        })?;
        let mut legs = before(&planned);
        legs.extend(legs_of(&planned, own, ByokMode::Fallback));
        let (book, plan, digest) = planned;
        return Ok((legs, book, plan, digest));
    }
    let theirs = market.plan_beside(&demand_of_all(job, &wishes), at);
    let pooled = planned(market, request, (job, preferences), at, memory);
    let mut found: Vec<Leg> = theirs.as_ref().map(before).unwrap_or_default();
    if let Ok((book, plan, _)) = &pooled {
        found.extend(legs(book, plan, &[], None));
    }
    found.extend(theirs.as_ref().map(|legs| legs_of(legs, own, ByokMode::Fallback)).unwrap_or_default());
    let (book, plan, digest) = match (pooled, theirs) {
        (Ok(pooled), _) => pooled,
        (Err(_), Some(theirs)) if !found.is_empty() => theirs,
        (Err(error), _) => return Err(error),
    };
    Ok((found, book, plan, digest))
}

fn legs_of((book, plan, _): &Planned, own: &[Arc<OwnKey>], mode: ByokMode) -> Vec<Leg> {
    legs(book, plan, own, Some(mode))
}

/// The attempts of a plan; with a mode only those that an own key of that mode serves, one leg for each such key.
fn legs(book: &Arc<Book>, plan: &Plan, own: &[Arc<OwnKey>], mode: Option<ByokMode>) -> Vec<Leg> {
    let mut legs = Vec::with_capacity(plan.attempts.len());
    for index in &plan.attempts {
        let Some((offer, seller)) = book.seller(*index) else { continue };
        let leg = |own| Leg { book: Arc::clone(book), index: *index, model: offer.model.clone(), own };
        let Some(mode) = mode else {
            legs.push(leg(None));
            continue;
        };
        let Seller::Provider(_, upstream) = seller else { continue };
        for own in own.iter().filter(|own| own.mode == mode && own.serves(offer)) {
            legs.push(leg(Some(Seller::Provider(Arc::clone(&own.provider), Arc::clone(upstream)))));
        }
    }
    legs
}

/// Who may read a job's prompt to count it, in the plan's order: nobody where all offers are refused.
pub(crate) fn readers(
    market: &Market,
    job: &Job,
    at: (UnixMs, u64),
) -> Result<(Arc<Book>, Vec<OfferIndex>), ApiError> {
    let preferences = preferences(job)?;
    let demand = demand_of_all(job, &preferences);
    match market.preview(&demand, at) {
        (book, Ok(plan)) => Ok((book, plan.attempts)),
        (book, Err(PlanError::ModelNotFound)) if !has_sold(market, job) => {
            Err(unroutable(&book, &PlanError::ModelNotFound, &demand))
        }
        (book, Err(_)) => Ok((book, Vec::new())),
    }
}

/// Whether nodes have sold any of the models of a job.
fn has_sold(market: &Market, job: &Job) -> bool {
    std::iter::once(&job.model).chain(&job.fallbacks).any(|model| market.has_sold(model))
}

/// What a job asks, with its fallback models.
pub(crate) fn demand_of_all<'a>(job: &'a Job, preferences: &'a Preferences) -> Demand<'a> {
    Demand { fallbacks: &job.fallbacks, ..demand(job, job.model.as_str(), preferences) }
}

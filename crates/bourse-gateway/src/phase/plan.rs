//! Phase 3: who is asked, in which order.
//!
//! The choice itself is pure and lives in `bourse-market`; here one plan for the model and its fallbacks
//! becomes a list of legs, and a failure to plan becomes words: who refused for what, and the least that would
//! have to change.

use super::wishes::{demand, preferences};
use crate::conversation::Conversation;
use crate::market::{Book, Market};
use bourse_market::{
    ATTEMPTS_MAX, Availability, Demand, OfferIndex, Plan, PlanError, Policy, Preferences, Rejection,
    Supports, diagnose,
};
use bourse_types::{Digest32, ModelSlug, RequestId, UnixMs};
use bourse_wire::dialect::Job;
use bourse_wire::error::{ApiError, ErrorType};
use std::sync::Arc;

/// One seller to ask.
pub(crate) struct Leg {
    pub(crate) book: Arc<Book>,
    pub(crate) index: OfferIndex,
    pub(crate) model: ModelSlug,
}

/// Where a request may go.
pub(crate) struct Route {
    pub(crate) legs: Vec<Leg>,
    /// The plan behind the legs, and the book that it was made on.
    pub(crate) plan: Plan,
    pub(crate) book: Arc<Book>,
    digest: Digest32,
    pub(crate) preferences: Preferences,
    /// Of the bytes that the buyer sent, where a preset changed them.
    pub(crate) request_hash: Option<Digest32>,
    /// The preset that was merged into the request.
    pub(crate) preset: Option<String>,
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
    policy: Option<&Policy>,
    at: (UnixMs, u64),
    conversation: Option<&Conversation>,
) -> Result<Route, ApiError> {
    let mut preferences = preferences(job)?;
    if let Some(policy) = policy {
        preferences = preferences.tightened_by(policy);
    }
    let demand = demand_of_all(job, &preferences);
    let (book, plan, digest) = market.plan(request, &demand, at, conversation);
    let plan = match plan {
        Ok(plan) => plan,
        Err(PlanError::ModelNotFound) if market.has_sold(&job.model) => return Err(away(&job.model)),
        Err(error) => return Err(unroutable(&book, &error, &demand)),
    };
    let leg = |index: &OfferIndex| {
        let model = book.snapshot.offer(*index)?.model.clone();
        Some(Leg { book: Arc::clone(&book), index: *index, model })
    };
    let legs = plan.attempts.iter().filter_map(leg).collect();
    Ok(Route { legs, plan, book, digest, preferences, request_hash: None, preset: None })
}

/// What a job asks, with its fallback models.
pub(crate) fn demand_of_all<'a>(job: &'a Job, preferences: &'a Preferences) -> Demand<'a> {
    Demand { fallbacks: &job.fallbacks, ..demand(job, job.model.as_str(), preferences) }
}

/// What a buyer reads when the model's nodes have left.
fn away(model: &ModelSlug) -> ApiError {
    let message = format!("every seller of `{model}` is away: try again in a moment");
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::ProviderOverloaded, message) }
}

/// What a buyer reads when nobody can be asked.
fn unroutable(book: &Book, error: &PlanError, demand: &Demand<'_>) -> ApiError {
    let model = demand.model;
    let PlanError::NoOffers { rejected } = error else {
        let message = format!("no seller offers the model `{model}`: GET /v1/models lists what is offered");
        return ApiError { param: Some("model".into()), ..ApiError::new(ErrorType::NotFound, message) };
    };
    let diagnosis = diagnose(&book.snapshot, error, demand);
    let all = |reason: Rejection| rejected.iter().all(|(_, is)| is == reason);
    let (kind, param) = if all(Rejection::ContextTooLong) {
        (ErrorType::ContextLengthExceeded, Some("messages"))
    } else if all(Rejection::MaxTokens) {
        (ErrorType::InvalidRequest, Some("max_tokens"))
    } else if all(Rejection::MissingSupport) && demand.needs.contains(Supports::MEDIA) {
        (ErrorType::InvalidRequest, Some("messages"))
    } else if diagnosis.availability == Availability::WrongEndpoint {
        (ErrorType::InvalidRequest, Some("model"))
    } else if error.is_transient() {
        (ErrorType::ProviderOverloaded, None)
    } else {
        (ErrorType::NotFound, Some("provider"))
    };
    let reason = |(index, reason): (OfferIndex, Rejection)| {
        let offer = book.snapshot.offer(index)?;
        Some(format!("`{}`: {}", offer.seller, reason.explain(offer, demand)))
    };
    let reasons: Vec<String> = rejected.iter().take(ATTEMPTS_MAX).filter_map(reason).collect();
    let nearest = diagnosis.nearest.and_then(|(index, changes)| {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Some(format!("{} and `{}` can", changes.join(", "), book.snapshot.offer(index)?.seller))
    });
    let message = format!(
        "no offer of `{model}` can serve this request ({}): {}",
        reasons.join("; "),
        nearest.as_deref().unwrap_or("relax what they lack")
    );
    let mut api = ApiError::new(kind, message);
    api.param = param.map(Into::into);
    api.retry_after_s = (kind == ErrorType::ProviderOverloaded).then_some(1);
    api
}

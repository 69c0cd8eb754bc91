//! Why nobody can be asked, in words and for programs.
//!
//! The market's diagnosis says which rule removed how many offers and the least that would have to change. Here it becomes
//! an error: the status and the field at fault as ever, a message that names who refused for what, and the same as
//! `error.availability`. Sellers that were asked and are full get such a member, too. All lists are bounded by
//! [`AVAILABILITY_ITEMS_MAX`] when they are written.

use crate::market::Book;
use bourse_market::{
    ATTEMPTS_MAX, Availability as Verdict, Change, Demand, Diagnosis, OfferIndex, PlanError, Rejection,
    Rejections, Supports, diagnose,
};
use bourse_wire::dialect::Job;
use bourse_wire::error::{
    self, AVAILABILITY_ITEMS_MAX, ApiError, Availability, AvailabilityCode, ErrorType, Exclusion, Relaxation,
};

/// How the name of a free variant ends.
const FREE: &str = ":free";
/// Seconds to wait for sellers that are full or away.
const RETRY_AFTER_S: u64 = 1;

/// What a buyer reads when the sellers of the model have left.
pub(crate) fn away(demand: &Demand<'_>) -> ApiError {
    let message = format!("every seller of `{}` is away: try again in a moment", demand.model);
    let error = ApiError::new(ErrorType::ProviderOverloaded, message);
    let availability = Availability {
        requested_models: requested(demand),
        ..Availability::new(AvailabilityCode::TemporarilyUnavailable)
    };
    ApiError { retry_after_s: Some(RETRY_AFTER_S), ..error }.with_availability(availability)
}

/// What a buyer reads when nobody can be asked.
pub(crate) fn unroutable(book: &Book, error: &PlanError, demand: &Demand<'_>) -> ApiError {
    let diagnosis = diagnose(&book.snapshot, error, demand);
    let api = match error {
        PlanError::ModelNotFound => {
            let model = demand.model;
            let message =
                format!("no seller offers the model `{model}`: GET /v1/models lists what is offered");
            ApiError { param: Some("model".into()), ..ApiError::new(ErrorType::NotFound, message) }
        }
        PlanError::NoOffers { rejected } => refused(book, rejected, error, (&diagnosis, demand)),
    };
    api.with_availability(availability(book, error, (&diagnosis, demand)))
}

/// Offers there are, and all are refused.
fn refused(
    book: &Book,
    rejected: &Rejections,
    error: &PlanError,
    (diagnosis, demand): (&Diagnosis, &Demand<'_>),
) -> ApiError {
    let all = |reason: Rejection| rejected.iter().all(|(_, is)| is == reason);
    let (kind, param) = if all(Rejection::ContextTooLong) {
        (ErrorType::ContextLengthExceeded, Some("messages"))
    } else if all(Rejection::MaxTokens) {
        (ErrorType::InvalidRequest, Some("max_tokens"))
    } else if all(Rejection::MissingSupport) && demand.needs.contains(Supports::MEDIA) {
        (ErrorType::InvalidRequest, Some("messages"))
    } else if diagnosis.availability == Verdict::WrongEndpoint {
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
    let nearest = diagnosis.nearest.as_ref().and_then(|(index, changes)| {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        Some(format!("{} and `{}` can", changes.join(", "), book.snapshot.offer(*index)?.seller))
    });
    let message = format!(
        "no offer of `{}` can serve this request ({}): {}",
        demand.model,
        reasons.join("; "),
        nearest.as_deref().unwrap_or("nothing in the request alone would change that")
    );
    let mut api = ApiError::new(kind, message);
    api.param = param.map(Into::into);
    api.retry_after_s = (kind == ErrorType::ProviderOverloaded).then_some(RETRY_AFTER_S);
    api
}

/// The diagnosis for programs.
fn availability(
    book: &Book,
    error: &PlanError,
    (diagnosis, demand): (&Diagnosis, &Demand<'_>),
) -> Availability {
    let relaxation = |index: OfferIndex, changes: &[Change]| {
        let offer = book.snapshot.offer(index)?;
        let (provider, model) = (offer.seller.to_string(), offer.model.to_string());
        Some(Relaxation { provider, model, changes: changes.iter().map(change).collect() })
    };
    let exclusions = diagnosis.rules.iter().map(|report| Exclusion {
        rule: report.rule.code(),
        offers: report.offers,
        smallest_relaxation: report
            .smallest
            .as_ref()
            .and_then(|(index, change)| relaxation(*index, std::slice::from_ref(change))),
    });
    let (mut offers, mut sellers) = (0, Vec::new());
    if let PlanError::NoOffers { rejected } = error {
        offers = u32::try_from(rejected.len()).unwrap_or(u32::MAX);
        sellers = affected(book, rejected);
    }
    Availability {
        requested_models: requested(demand),
        affected_providers: sellers,
        fallback_models: paid(book, diagnosis.availability, demand),
        excluded_by: diagnosis.excluded_by.clone(),
        offers,
        exclusions: exclusions.collect(),
        smallest_relaxation: diagnosis
            .nearest
            .as_ref()
            .and_then(|(index, changes)| relaxation(*index, changes)),
        ..Availability::new(code(diagnosis.availability))
    }
}

fn requested(demand: &Demand<'_>) -> Vec<String> {
    demand.models().map(str::to_owned).collect()
}

/// The sellers of refused offers, each once; no more than are written.
fn affected(book: &Book, rejected: &Rejections) -> Vec<String> {
    let mut sellers: Vec<&str> = Vec::new();
    for (index, _) in rejected.iter() {
        let Some(offer) = book.snapshot.offer(index) else { continue };
        if sellers.len() == AVAILABILITY_ITEMS_MAX {
            break;
        }
        if !sellers.contains(&offer.seller.as_str()) {
            sellers.push(offer.seller.as_str());
        }
    }
    sellers.into_iter().map(str::to_owned).collect()
}

/// The paid models of free variants that have ended.
fn paid(book: &Book, verdict: Verdict, demand: &Demand<'_>) -> Vec<String> {
    if verdict != Verdict::FreeVariantEnded {
        return Vec::new();
    }
    let paid = demand.models().filter_map(|model| model.strip_suffix(FREE));
    paid.filter(|model| book.snapshot.offers_of(model).is_some()).map(str::to_owned).collect()
}

fn change(of: &Change) -> error::Change {
    let (field, detail) = (of.field().to_owned(), of.to_string());
    error::Change { action: of.action(), field, value: of.value(), detail }
}

fn code(verdict: Verdict) -> AvailabilityCode {
    match verdict {
        Verdict::ModelNotFound => AvailabilityCode::ModelNotFound,
        Verdict::WrongEndpoint => AvailabilityCode::WrongEndpoint,
        Verdict::NoEndpoints => AvailabilityCode::NoEndpoints,
        Verdict::PrivacyRestricted => AvailabilityCode::PrivacyRestricted,
        Verdict::ConstraintFiltered => AvailabilityCode::ConstraintFiltered,
        Verdict::FreeVariantEnded => AvailabilityCode::FreeVariantEnded,
        Verdict::CapacityExhausted => AvailabilityCode::CapacityExhausted,
        Verdict::TemporarilyUnavailable => AvailabilityCode::TemporarilyUnavailable,
        Verdict::RegionRestricted => AvailabilityCode::RegionRestricted,
    }
}

/// The same error, which says so where all that were asked had no room.
pub(crate) fn exhausted(error: ApiError, job: &Job) -> ApiError {
    let code = match error.kind {
        ErrorType::RateLimitExceeded => AvailabilityCode::CapacityExhausted,
        ErrorType::ProviderOverloaded => AvailabilityCode::TemporarilyUnavailable,
        _ => return error,
    };
    // Limits of the buyer's own have not asked anybody.
    if error.previous.is_empty() {
        return error;
    }
    let mut sellers: Vec<String> = error.previous.iter().map(|failed| failed.seller.clone()).collect();
    sellers.dedup();
    let models = std::iter::once(&job.model).chain(&job.fallbacks);
    let offers = u32::try_from(error.previous.len()).unwrap_or(u32::MAX);
    error.with_availability(Availability {
        requested_models: models.map(ToString::to_string).collect(),
        affected_providers: sellers,
        offers,
        ..Availability::new(code)
    })
}

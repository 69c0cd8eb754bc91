//! Phase 3: who is asked, in which order.
//!
//! The choice itself is pure and lives in `bourse-market`; here a job becomes a demand, and the plans for
//! the model and its fallbacks become one list of legs within the attempt budget.

use crate::market::{Book, Market};
use bourse_market::{
    ATTEMPTS_MAX, Demand, MaxPrice, OfferIndex, Plan, PlanError, Preferences, Quantization, QuantizationSet,
    Rejection, Sort, Supports,
};
use bourse_types::{Digest32, ModelSlug, RequestId, UnixMs};
use bourse_wire::dialect::{Api, Job, SortBy};
use bourse_wire::error::{ApiError, ErrorType};
use std::sync::Arc;

/// Bytes that stand for a part of a message that is not text, such as an image, in the prompt's bound.
const MEDIA_PART_BYTES: u64 = 8 * 1024;

/// One seller to ask.
pub(crate) struct Leg {
    pub(crate) book: Arc<Book>,
    pub(crate) index: OfferIndex,
    pub(crate) model: ModelSlug,
}

/// Where a request may go.
pub(crate) struct Route {
    pub(crate) legs: Vec<Leg>,
    /// The plans behind the legs, by model, with the book that each was made on.
    pub(crate) plans: Vec<(ModelSlug, Arc<Book>, Plan)>,
    /// The digests of all plans that were tried for.
    digests: Vec<Digest32>,
    pub(crate) preferences: Preferences,
}

impl Route {
    /// The digest of the plan; of several models, BLAKE3 over theirs in order.
    pub(crate) fn digest(&self) -> Digest32 {
        if let [one] = self.digests.as_slice() {
            return *one;
        }
        let mut hasher = blake3::Hasher::new();
        for digest in &self.digests {
            hasher.update(&digest.0);
        }
        Digest32(*hasher.finalize().as_bytes())
    }

    /// The digest of the book that the first plan was made on.
    pub(crate) fn book_digest(&self) -> Digest32 {
        self.plans.first().map_or_else(Digest32::default, |(_, _, plan)| plan.snapshot)
    }
}

/// Plans a job.
pub(crate) fn route(
    market: &Market,
    request: RequestId,
    job: &Job,
    at: (UnixMs, u64),
) -> Result<Route, ApiError> {
    let preferences = preferences(job)?;
    let mut route = Route { legs: Vec::new(), plans: Vec::new(), digests: Vec::new(), preferences };
    let mut first_error = None;
    for model in std::iter::once(&job.model).chain(&job.fallbacks) {
        let demand = demand(job, model.as_str(), &route.preferences);
        let (book, plan, digest) = market.plan(request, &demand, at);
        route.digests.push(digest);
        match plan {
            Ok(plan) => {
                let room = ATTEMPTS_MAX - route.legs.len();
                let legs = plan.attempts.iter().take(room);
                let leg =
                    |index: &OfferIndex| Leg { book: Arc::clone(&book), index: *index, model: model.clone() };
                route.legs.extend(legs.map(leg));
                route.plans.push((model.clone(), book, plan));
            }
            Err(PlanError::ModelNotFound) if first_error.is_none() && market.has_sold(model) => {
                first_error = Some(away(model));
            }
            Err(error) if first_error.is_none() => first_error = Some(unroutable(model, &book, &error)),
            Err(_) => {}
        }
    }
    match first_error {
        Some(error) if route.legs.is_empty() => Err(error),
        _ => Ok(route),
    }
}

/// What a job asks of a seller of `model`.
pub(crate) fn demand<'a>(job: &Job, model: &'a str, preferences: &'a Preferences) -> Demand<'a> {
    let s = &job.sampling;
    let wanted = [
        (job.needs.tools, Supports::TOOLS),
        (job.needs.response_format, Supports::RESPONSE_FORMAT),
        (job.needs.logprobs, Supports::LOGPROBS),
        (job.seed.is_some(), Supports::SEED),
        (!s.logit_bias.is_empty(), Supports::LOGIT_BIAS),
        (s.presence_penalty != 0.0 || s.frequency_penalty != 0.0, Supports::PENALTIES),
        (s.top_k != 0, Supports::TOP_K),
        (s.min_p != 0.0, Supports::MIN_P),
        ((s.repetition_penalty - 1.0).abs() > f32::EPSILON, Supports::REPETITION_PENALTY),
    ];
    let needed = [
        (job.choices > 1, Supports::CHOICES),
        (job.api == Api::Text, Supports::TEXT_COMPLETION),
        (job.needs.media_parts > 0, Supports::MEDIA),
    ];
    let union = |list: &[(bool, Supports)]| {
        list.iter().filter(|(is, _)| *is).fold(Supports::NONE, |set, (_, one)| set.with(*one))
    };
    Demand {
        model,
        prompt_bytes: job.prompt_bytes() + u64::from(job.needs.media_parts) * MEDIA_PART_BYTES,
        messages: job.messages_count,
        max_tokens: job.max_tokens.map(u64::from),
        choices: job.choices,
        needs: union(&needed),
        prefers: union(&wanted),
        preferences,
    }
}

fn preferences(job: &Job) -> Result<Preferences, ApiError> {
    let wishes = &job.preferences;
    let mut quantizations = None;
    for word in &wishes.quantizations {
        let known = Quantization::parse(word).ok_or_else(|| {
            let all = Quantization::ALL.map(Quantization::as_str).join(", ");
            ApiError::field(
                "provider.quantizations",
                format!("`provider.quantizations` knows these words: {all}"),
            )
        })?;
        quantizations = Some(quantizations.unwrap_or(QuantizationSet::default()).with(known));
    }
    Ok(Preferences {
        order: wishes.order.clone(),
        only: wishes.only.clone(),
        ignore: wishes.ignore.clone(),
        allow_fallbacks: wishes.allow_fallbacks,
        sort: wishes.sort.map(|sort| match sort {
            SortBy::Price => Sort::Price,
            SortBy::Latency | SortBy::Throughput | SortBy::Exacto => Sort::Latency,
        }),
        max_price: MaxPrice {
            prompt: wishes.max_price_prompt,
            completion: wishes.max_price_completion,
            request: wishes.max_price_request,
        },
        require_parameters: wishes.require_parameters,
        quantizations,
    })
}

/// What a buyer reads when the model's nodes have left.
fn away(model: &ModelSlug) -> ApiError {
    let message = format!("every seller of `{model}` is away: try again in a moment");
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::ProviderOverloaded, message) }
}

/// What a buyer reads when nobody can be asked.
fn unroutable(model: &ModelSlug, book: &Book, error: &PlanError) -> ApiError {
    let PlanError::NoOffers { rejected } = error else {
        let message = format!("no seller offers the model `{model}`: GET /v1/models lists what is offered");
        return ApiError { param: Some("model".into()), ..ApiError::new(ErrorType::NotFound, message) };
    };
    let all = |is: fn(&Rejection) -> bool| rejected.iter().all(|(_, reason)| is(reason));
    let (kind, param) = if all(|r| matches!(r, Rejection::ContextTooLong(_))) {
        (ErrorType::ContextLengthExceeded, Some("messages"))
    } else if all(|r| matches!(r, Rejection::MaxTokens(_))) {
        (ErrorType::InvalidRequest, Some("max_tokens"))
    } else if all(|r| matches!(r, Rejection::MissingSupport(lacking) if lacking.contains(Supports::MEDIA))) {
        (ErrorType::InvalidRequest, Some("messages"))
    } else if error.is_transient() {
        (ErrorType::ProviderOverloaded, None)
    } else {
        (ErrorType::NotFound, Some("provider"))
    };
    let reasons: Vec<String> = rejected
        .iter()
        .take(ATTEMPTS_MAX)
        .filter_map(|(index, reason)| Some(format!("`{}`: {reason}", book.snapshot.offer(*index)?.seller)))
        .collect();
    let message = format!(
        "no offer of `{model}` can serve this request ({}): relax what they lack",
        reasons.join("; ")
    );
    let mut api = ApiError::new(kind, message);
    api.param = param.map(Into::into);
    api.retry_after_s = (kind == ErrorType::ProviderOverloaded).then_some(1);
    api
}

//! `X-Bourse-Explain: 1`: the plan as it was made, with every rejected offer's reason. `X-OpenRouter-Metadata: enabled`:
//! the choice in OpenRouter's words, for clients that read those. Both are told with answers and with refusals; the words
//! of OpenRouter stand beside `error` then, as it writes them, and the plan in the error's `metadata`.

use crate::phase::gather::Whole;
use crate::phase::plan::{NoRoute, Route, demand_of_all};
use crate::phase::resolve::Requested;
use crate::phase::settle::Open;
use crate::routes::pricing;
use crate::unroutable::exhausted;
use bourse_market::{OfferIndex, Rejection};
use bourse_types::{ModelSlug, SellerName};
use bourse_wire::dialect::Job;
use bourse_wire::error::ApiError;
use bourse_wire::receipt::AttemptRecord;
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};

/// Most offers of one kind that are explained.
pub(crate) const EXPLAINED_MAX: usize = 64;

/// Asks for the plan with `1`.
pub const EXPLAIN_HEADER: HeaderName = HeaderName::from_static("x-bourse-explain");
/// Asks for the member `openrouter_metadata` with `enabled`.
pub(crate) const METADATA_HEADER: HeaderName = HeaderName::from_static("x-openrouter-metadata");

/// What a buyer wants to be told of the choice.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    plan: bool,
    pub(crate) metadata: bool,
}

/// How far a request came.
struct Walk<'a> {
    asked: &'a [AttemptRecord],
    served: Option<&'a SellerName>,
    is_byok: bool,
}

impl<'a> Walk<'a> {
    fn of(open: &'a Open) -> Self {
        let served = open.draft.seller.as_ref();
        Self { asked: open.draft.asked(), served, is_byok: open.is_byok() }
    }
}

impl Wanted {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let says = |name, word: &[u8]| headers.get(name).is_some_and(|value| value.as_bytes() == word);
        Self { plan: says(EXPLAIN_HEADER, b"1"), metadata: says(METADATA_HEADER, b"enabled") }
    }

    /// The members of the answer that say so, each with a leading comma.
    pub(crate) fn members(self, open: &Open, job: &Job, route: &Route) -> Vec<u8> {
        let mut out = Vec::new();
        if self.plan {
            let served = open.draft.seller.as_ref().map(|seller| (seller.as_str(), open.whole));
            out.extend_from_slice(format!(",\"bourse\":{}", value(job, route, served)).as_bytes());
        }
        if self.metadata {
            out.push(b',');
            out.extend_from_slice(metadata(&Walk::of(open), job, route).as_bytes());
        }
        out
    }

    /// The error of a request that nobody answered, with what is told of it. Without an open request nobody could be
    /// asked.
    pub(crate) fn refusal(self, error: ApiError, open: Option<&Open>, job: &Job, route: &Route) -> ApiError {
        let walk = open.map_or(Walk { asked: &[], served: None, is_byok: false }, Walk::of);
        let mut error = exhausted(error, job);
        if self.plan {
            error = error.with_metadata(format!("\"bourse\":{}", value(job, route, None)));
        }
        if self.metadata {
            error = error.with_members_beside(metadata(&walk, job, route));
        }
        error
    }

    /// The same for a request that could not be planned.
    pub(crate) fn no_route(self, failed: NoRoute, requested: Option<Box<Requested>>, job: &Job) -> ApiError {
        let Some(mut route) = failed.route else { return failed.error };
        route.requested = requested;
        self.refusal(failed.error, None, job, &route)
    }
}

/// The member `openrouter_metadata`.
fn metadata(walk: &Walk<'_>, job: &Job, route: &Route) -> String {
    format!("\"openrouter_metadata\":{}", openrouter(walk, job, route))
}

/// Where the request could go and went, in OpenRouter's words.
fn openrouter(walk: &Walk<'_>, job: &Job, route: &Route) -> Value {
    let Walk { asked, served, is_byok } = *walk;
    let model = |seller: &SellerName| {
        let leg = route.legs.iter().find(|leg| leg.seller() == Some(seller));
        leg.map_or(job.model.as_str(), |leg| leg.model.as_str())
    };
    let attempts: Vec<Value> = asked
        .iter()
        .map(
            |one| json!({"provider": one.seller.as_str(), "model": model(&one.seller), "status": one.status}),
        )
        .collect();
    let available: Vec<Value> = route
        .legs
        .iter()
        .filter_map(|leg| {
            let seller = leg.seller()?;
            let is_served = served == Some(seller);
            Some(json!({"provider": seller.as_str(), "model": leg.model.as_str(), "selected": is_served}))
        })
        .collect();
    let selected = served.map_or("none", SellerName::as_str);
    let requested = route.requested.as_deref();
    let strategy = requested.map_or(Requested::DIRECT, |requested| requested.strategy);
    let total = route.plan.attempts.len() + route.plan.rejected.len();
    json!({
        "requested": requested.map_or(job.model.as_str(), |requested| requested.name.as_str()),
        "strategy": if job.fallbacks.is_empty() { strategy } else { "fallback" },
        "region": null,
        "summary": format!("available={}, selected={selected}", available.len()),
        "attempt": asked.len(),
        "is_byok": is_byok,
        "endpoints": { "total": total.max(available.len()), "available": available },
        "attempts": attempts,
    })
}

/// The plan, who answered, and how it was held.
fn value(job: &Job, route: &Route, served: Option<(&str, Option<Whole>)>) -> Value {
    let (plan, snapshot) = (&route.plan, &route.book.snapshot);
    let offer = |index: OfferIndex| snapshot.offer(index);
    let attempt = |(n, index): (usize, &OfferIndex)| {
        let offer = offer(*index)?;
        let shown = json!({
            "provider": offer.seller.as_str(),
            "pricing": offer.prices.map(|_| pricing(Some(offer))),
            "last_resort": n >= plan.last_resorts_from,
        });
        Some((&offer.model, shown))
    };
    let attempts: Vec<_> = plan.attempts.iter().enumerate().filter_map(attempt).collect();
    let demand = demand_of_all(job, &route.preferences);
    let rejection = |(index, reason): (OfferIndex, Rejection)| {
        let offer = offer(index)?;
        let shown = json!({
            "provider": offer.seller.as_str(),
            "code": reason.code(),
            "reason": reason.explain(offer, &demand).to_string(),
        });
        Some((&offer.model, shown))
    };
    let rejected: Vec<_> = plan.rejected.iter().take(EXPLAINED_MAX).filter_map(rejection).collect();
    let of = |list: &[(&ModelSlug, Value)], model: &str| -> Vec<Value> {
        list.iter().filter(|(of, _)| of.as_str() == model).map(|(_, shown)| shown.clone()).collect()
    };
    let known = demand.models().filter(|model| snapshot.offers_of(model).is_some());
    let plans: Vec<Value> = known
        .map(|model| {
            json!({
                "model": model,
                "book": plan.snapshot.to_string(),
                "seed": plan.seed.to_string(),
                "attempts": of(&attempts, model),
                "rejected": of(&rejected, model),
            })
        })
        .collect();
    let mut value = json!({ "provider": served.map(|(seller, _)| seller), "plan": plans });
    if let Some((_, whole)) = served {
        value["hold"] = match whole.map(Whole::explain) {
            None => json!({ "is": "steps" }),
            Some((code, reason)) => json!({ "is": "whole", "code": code, "reason": reason }),
        };
    }
    value
}

//! `X-Bourse-Explain: 1`: the plan as it was made, with every rejected offer's reason.

use crate::phase::plan::{Route, demand_of_all};
use crate::routes::pricing;
use bourse_market::{OfferIndex, Rejection};
use bourse_types::ModelSlug;
use bourse_wire::dialect::Job;
use serde_json::{Value, json};

/// Most offers of one kind that are explained.
pub(crate) const EXPLAINED_MAX: usize = 64;

/// The member `bourse`, with a leading comma.
pub(crate) fn member(job: &Job, route: &Route, seller: Option<&str>) -> Vec<u8> {
    let mut out = b",\"bourse\":".to_vec();
    out.extend_from_slice(value(job, route, seller).to_string().as_bytes());
    out
}

/// The member `bourse`, for the metadata of an error.
pub(crate) fn metadata(job: &Job, route: &Route) -> String {
    format!("\"bourse\":{}", value(job, route, None))
}

fn value(job: &Job, route: &Route, seller: Option<&str>) -> Value {
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
    json!({ "provider": seller, "plan": plans })
}

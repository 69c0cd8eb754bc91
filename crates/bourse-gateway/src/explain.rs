//! `X-Bourse-Explain: 1`: the plan as it was made, with every rejected offer's reason.

use crate::phase::plan::Route;
use bourse_types::PriceSchedule;
use bourse_wire::dialect::push_usd;
use serde_json::{Value, json};

/// Most offers of one kind that are explained.
pub(crate) const EXPLAINED_MAX: usize = 64;

/// The member `bourse`, with a leading comma.
pub(crate) fn member(route: &Route, seller: Option<&str>) -> Vec<u8> {
    let mut out = b",\"bourse\":".to_vec();
    out.extend_from_slice(value(route, seller).to_string().as_bytes());
    out
}

/// The member `bourse`, for the metadata of an error.
pub(crate) fn metadata(route: &Route) -> String {
    format!("\"bourse\":{}", value(route, None))
}

fn value(route: &Route, seller: Option<&str>) -> Value {
    let plans: Vec<Value> = route
        .plans
        .iter()
        .map(|(model, book, plan)| {
            let attempts: Vec<Value> = plan
                .attempts
                .iter()
                .enumerate()
                .filter_map(|(n, index)| {
                    let offer = book.snapshot.offer(*index)?;
                    Some(json!({
                        "provider": offer.seller.as_str(),
                        "pricing": offer.prices.as_ref().map(pricing),
                        "last_resort": n >= plan.last_resorts_from,
                    }))
                })
                .collect();
            let rejected: Vec<Value> = plan
                .rejected
                .iter()
                .take(EXPLAINED_MAX)
                .filter_map(|(index, reason)| {
                    let offer = book.snapshot.offer(*index)?;
                    Some(json!({
                        "provider": offer.seller.as_str(),
                        "code": reason.code(),
                        "reason": reason.to_string(),
                    }))
                })
                .collect();
            json!({
                "model": model.as_str(),
                "book": plan.snapshot.to_string(),
                "seed": plan.seed.to_string(),
                "attempts": attempts,
                "rejected": rejected,
            })
        })
        .collect();
    json!({ "provider": seller, "plan": plans })
}

/// Prices as the field publishes them: decimal strings in dollars per token.
pub(crate) fn pricing(prices: &PriceSchedule) -> Value {
    let mut request = Vec::new();
    push_usd(&mut request, prices.request);
    json!({
        "prompt": prices.prompt.to_usd_per_token_string(),
        "completion": prices.completion.to_usd_per_token_string(),
        "input_cache_read": prices.cached_prompt.to_usd_per_token_string(),
        "input_cache_write": prices.cache_write.to_usd_per_token_string(),
        "request": String::from_utf8_lossy(&request),
    })
}

//! What a buyer can ask about itself: its key, its credit, its generations.

use super::query;
use crate::gateway::Shared;
use crate::phase::admit;
use bourse_types::{NanoUsd, RequestId, SellerName, UnixMs};
use bourse_wire::dialect::push_usd;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{KeyRole, KeyStatus, LimitReset};
use bourse_wire::receipt::ReceiptDocument;
use http::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Dollars as a JSON number with all its digits.
fn usd(amount: NanoUsd) -> Value {
    let mut text = Vec::new();
    push_usd(&mut text, amount);
    let text = String::from_utf8(text).unwrap_or_default();
    // Nine decimal places of less than 2⁶⁴ nano-dollars: read back as a double by every client anyway.
    RawValue::from_string(text).ok().and_then(|raw| serde_json::to_value(raw).ok()).unwrap_or(Value::Null)
}

fn status(shared: &Shared, headers: &HeaderMap) -> Result<KeyStatus, ApiError> {
    let now = shared.ports.clock.now();
    shared.ports.records.key_status(&admit::key_of(headers)?, now).map_err(|e| admit::refusal(&e))
}

pub(super) fn key(shared: &Shared, headers: &HeaderMap) -> Result<Value, ApiError> {
    let status = status(shared, headers)?;
    let key = &status.key;
    let reset = (key.limit_reset != LimitReset::Never).then(|| key.limit_reset.as_str());
    Ok(json!({ "data": {
        "label": key.name,
        "usage": usd(key.usage.total),
        "limit": key.limit.map(usd),
        "limit_remaining": key.limit_remaining.map(usd),
        "limit_reset": reset,
        "expires_at": key.expires.map(UnixMs::to_iso_string),
        "is_free_tier": false,
        "is_management_key": key.role == KeyRole::Management,
        "held": usd(status.held),
        "rate_limit": null,
    }}))
}

pub(super) fn credits(shared: &Shared, headers: &HeaderMap) -> Result<Value, ApiError> {
    let status = status(shared, headers)?;
    Ok(json!({ "data": {
        "total_credits": usd(status.account_credited),
        "total_usage": usd(status.account_spent),
        "available": usd(status.account_available),
    }}))
}

/// The receipt of one of the caller's own requests. Another's is not told apart from none.
pub(super) fn own_receipt(
    shared: &Shared,
    headers: &HeaderMap,
    id: &str,
) -> Result<ReceiptDocument, ApiError> {
    let grant = admit::admit(&*shared.ports.funds, headers, shared.ports.clock.now())?;
    let bad = |e| ApiError::field("id", format!("`id` is not a generation: {e}"));
    let known = shared.recent.find(&grant.account_digest, id);
    let request = known.map_or_else(|| RequestId::parse(id).map_err(bad), Ok)?;
    let found = shared.ports.records.receipt(request).map_err(|e| admit::refusal(&e))?;
    found.filter(|document| document.receipt.account_digest == grant.account_digest).ok_or_else(|| {
        ApiError::new(
            ErrorType::NotFound,
            "there is no such generation of yours: it may still be running, or be too old",
        )
    })
}

pub(super) fn generation(
    shared: &Shared,
    headers: &HeaderMap,
    text: Option<&str>,
) -> Result<Value, ApiError> {
    let id = query(text, "id").ok_or_else(|| ApiError::field("id", "`id` is missing: add ?id=gen-…"))?;
    let receipt = own_receipt(shared, headers, id)?.receipt;
    let attempts: Vec<Value> = receipt
        .attempts
        .iter()
        .map(|a| json!({ "provider_name": a.seller.as_str(), "status": a.status }))
        .collect();
    let usage = receipt.usage_billed;
    let claimed = receipt.usage_claimed.unwrap_or(usage);
    Ok(json!({ "data": {
        "id": receipt.request.to_string(),
        "request_id": receipt.request.to_string(),
        "model": receipt.model.as_str(),
        "provider_name": receipt.seller.as_ref().map(SellerName::as_str),
        "provider_responses": attempts,
        "streamed": receipt.streamed,
        "cancelled": receipt.finish == bourse_wire::receipt::Finish::Cancelled,
        "created_at": receipt.created.0 / 1_000,
        "latency": receipt.first_content_ms,
        "generation_time": receipt.total_ms.saturating_sub(receipt.first_content_ms.unwrap_or(0)),
        "finish_reason": receipt.finish.as_str(),
        "tokens_prompt": usage.prompt.0,
        "tokens_completion": usage.completion.0,
        "native_tokens_prompt": claimed.prompt.0,
        "native_tokens_completion": claimed.completion.0,
        "native_tokens_cached": claimed.cached_prompt.0,
        "usage": usd(receipt.charge.total),
        "total_cost": usd(receipt.charge.total),
        "cost_details": {
            "prompt": usd(receipt.charge.prompt),
            "completion": usd(receipt.charge.completion),
            "request": usd(receipt.charge.request),
            "units": usd(receipt.charge.units),
            "rounding": usd(receipt.charge.rounding),
        },
        "is_byok": false,
    }}))
}

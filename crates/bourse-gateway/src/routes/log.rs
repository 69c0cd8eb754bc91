//! The receipts log: a buyer's own receipts, and the signed heads that anybody may watch.

use super::account::own_receipt;
use super::query::Query;
use crate::gateway::Shared;
use crate::phase::admit;
use bourse_wire::error::ApiError;
use bourse_wire::funds::KeyGrant;
use bourse_wire::receipt_json::{checkpoint_to_json, receipt_document_to_json};
use serde_json::{Value, json};

pub(super) fn receipt(shared: &Shared, grant: &KeyGrant, id: &str) -> Result<String, ApiError> {
    Ok(receipt_document_to_json(&own_receipt(shared, grant, id)?))
}

pub(super) fn checkpoint(shared: &Shared) -> Result<String, ApiError> {
    let head = shared.ports.records.checkpoint().map_err(|e| admit::refusal(&e))?;
    Ok(checkpoint_to_json(&head))
}

pub(super) fn consistency(shared: &Shared, query: &Query<'_>) -> Result<Value, ApiError> {
    let bad = || ApiError::field("from", "`from` must be the size of an older checkpoint: add ?from=N");
    let from: u64 = query.number("from").ok_or_else(bad)?;
    let head = shared.ports.records.checkpoint().map_err(|e| admit::refusal(&e))?;
    if from == 0 || from > head.size {
        return Err(bad());
    }
    let path = shared.ports.records.consistency(from).map_err(|e| admit::refusal(&e))?;
    let path: Vec<String> = path.iter().map(ToString::to_string).collect();
    Ok(json!({ "from": from, "to": head.size, "path": path }))
}

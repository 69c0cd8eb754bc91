//! What a buyer can ask about itself: its key, its credit, its generations.

use super::query::{self, Query};
use crate::gateway::Shared;
use crate::phase::admit;
use bourse_types::RequestId;
use bourse_wire::api::{ActivityItem, Credits, CurrentKey, Data, GenerationRecord, List};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{ActivityQuery, KeyGrant, KeyStatus};
use bourse_wire::receipt::ReceiptDocument;

fn status(shared: &Shared, grant: &KeyGrant) -> Result<KeyStatus, ApiError> {
    let now = shared.ports.clock.now();
    shared.ports.records.key_status(&grant.key, now).map_err(|error| admit::refusal(&error))
}

pub(super) fn key(shared: &Shared, grant: &KeyGrant) -> Result<Data<CurrentKey>, ApiError> {
    Ok(Data { data: CurrentKey::from(&status(shared, grant)?) })
}

pub(super) fn credits(shared: &Shared, grant: &KeyGrant) -> Result<Data<Credits>, ApiError> {
    Ok(Data { data: Credits::from(&status(shared, grant)?) })
}

pub(super) fn activity(
    shared: &Shared,
    grant: &KeyGrant,
    query: &Query<'_>,
) -> Result<List<ActivityItem>, ApiError> {
    let key = query.text("api_key_hash").map(|text| query::hash("api_key_hash", text)).transpose()?;
    let asked = ActivityQuery { day: query.day("date"), key };
    let rows = shared.ports.records.activity(grant.account, &asked, shared.ports.clock.now());
    let rows = rows.map_err(|error| admit::refusal(&error))?;
    Ok(List { data: rows.iter().map(ActivityItem::from).collect() })
}

/// The receipt of one of the caller's own requests. Another's is not told apart from none.
pub(super) fn own_receipt(shared: &Shared, grant: &KeyGrant, id: &str) -> Result<ReceiptDocument, ApiError> {
    let request = request_of(shared, grant, id)?;
    let found = shared.ports.records.receipt(request).map_err(|error| admit::refusal(&error))?;
    found.filter(|document| document.receipt.account_digest == grant.account_digest).ok_or_else(nowhere)
}

pub(super) fn generation(
    shared: &Shared,
    grant: &KeyGrant,
    query: &Query<'_>,
) -> Result<Data<GenerationRecord>, ApiError> {
    let request = request_of(shared, grant, query.text("id").unwrap_or_default())?;
    let found = shared.ports.records.generation(request).map_err(|error| admit::refusal(&error))?;
    let own = found.filter(|generation| generation.receipt.account_digest == grant.account_digest);
    own.map(|generation| Data { data: GenerationRecord::from(&generation) }).ok_or_else(nowhere)
}

/// The request that an id means: the market's, or for a while the seller's, which stock clients see in the answer.
fn request_of(shared: &Shared, grant: &KeyGrant, id: &str) -> Result<RequestId, ApiError> {
    let known = shared.recent.find(&grant.account_digest, id);
    known.or_else(|| RequestId::parse(id).ok()).ok_or_else(nowhere)
}

fn nowhere() -> ApiError {
    ApiError::new(
        ErrorType::NotFound,
        "there is no such generation of this account: its id is in the header `x-generation-id` of the answer and begins \
         with `gen-`; one that still runs is not there yet, and one that failed before anybody was asked, or whose market was killed in its middle, never is",
    )
}

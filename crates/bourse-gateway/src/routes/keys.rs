//! Keys, as a management key administers them. Changes wait for the disk, off the reactor.

use super::json;
use super::query::Query;
use crate::body::Body;
use crate::gateway::Shared;
use crate::phase::admit;
use crate::repeat::{self, Found, Repeat};
use bourse_types::{KeyHash, RequestId, UnixMs};
use bourse_wire::api::{Data, Key, KeyCreate, KeyCreated, KeyDeleted, KeyUpdate, List};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{Accounts, AccountsError, FundsError, KEYS_PAGE_MAX, KeyDraft, KeyGrant, KeyPage};
use http::request::Parts;
use http::{Response, StatusCode};
use std::sync::Arc;

/// Makes a key: once, where the call has an `Idempotency-Key`.
pub(super) async fn create(
    shared: &Shared,
    grant: &KeyGrant,
    head: &Parts,
    body: &[u8],
) -> Result<Response<Body>, ApiError> {
    let draft = KeyCreate::parse(body)?;
    let Some(called) = repeat::called(&head.headers, None)? else { return make(shared, grant, draft).await };
    let repeat = Arc::new(Repeat::new(grant, called, head, body)?);
    match repeat.find(shared).await? {
        Found::Again(answer) => return Ok(answer),
        Found::Lost(_) => return Err(shown_once()),
        Found::Nothing => {}
    }
    let random = shared.ports.entropy.draw();
    let first = RequestId::new(shared.ports.clock.now(), std::array::from_fn(|n| random[n]));
    let draft = KeyDraft { claim: Some(repeat.claim(first)), ..draft };
    let (answer, kept) = repeat::keep(shared, &repeat, first, make(shared, grant, draft).await?);
    kept.await;
    Ok(answer)
}

async fn make(shared: &Shared, grant: &KeyGrant, draft: KeyDraft) -> Result<Response<Body>, ApiError> {
    let (by, accounts) = (grant.key, accounts(shared)?);
    let made = blocking(shared, accounts, move |accounts, now| accounts.create_key(&by, draft, now)).await?;
    let mut response = json(&KeyCreated { key: made.1.0, data: Key::from(&made.0) })?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn shown_once() -> ApiError {
    let message = "a key was made under this `Idempotency-Key` and cannot be shown again: `GET /v1/keys` lists it; \
                   delete it, or use a new `Idempotency-Key`";
    ApiError::new(ErrorType::Conflict, message)
}

pub(super) fn list(shared: &Shared, grant: &KeyGrant, query: &Query<'_>) -> Result<List<Key>, ApiError> {
    let page = KeyPage {
        offset: query.number("offset").unwrap_or(0),
        limit: KEYS_PAGE_MAX,
        include_disabled: query.flag("include_disabled").unwrap_or(false),
    };
    let keys = accounts(shared)?.list_keys(&grant.key, page, shared.ports.clock.now());
    let keys = keys.map_err(|error| refusal(&error))?;
    Ok(List { data: keys.iter().map(Key::from).collect() })
}

pub(super) fn get(shared: &Shared, grant: &KeyGrant, hash: &str) -> Result<Data<Key>, ApiError> {
    let key = accounts(shared)?.get_key(&grant.key, &named(hash)?, shared.ports.clock.now());
    key.map(|key| Data { data: Key::from(&key) }).map_err(|error| refusal(&error))
}

pub(super) async fn update(
    shared: &Shared,
    grant: &KeyGrant,
    hash: &str,
    body: &[u8],
) -> Result<Data<Key>, ApiError> {
    let (hash, patch, by) = (named(hash)?, KeyUpdate::parse(body)?, grant.key);
    let accounts = accounts(shared)?;
    let key =
        blocking(shared, accounts, move |accounts, now| accounts.update_key(&by, &hash, patch, now)).await?;
    Ok(Data { data: Key::from(&key) })
}

pub(super) async fn delete(shared: &Shared, grant: &KeyGrant, hash: &str) -> Result<KeyDeleted, ApiError> {
    let (hash, by) = (named(hash)?, grant.key);
    blocking(shared, accounts(shared)?, move |accounts, now| accounts.delete_key(&by, &hash, now)).await?;
    Ok(KeyDeleted { deleted: true })
}

/// The key of a path. What is no hash names no key.
pub(super) fn named(hash: &str) -> Result<KeyHash, ApiError> {
    KeyHash::parse_hex(hash).map_err(|_| refusal(&AccountsError::NotFound))
}

fn accounts(shared: &Shared) -> Result<&Arc<dyn Accounts>, ApiError> {
    let none = || ApiError::new(ErrorType::NotFound, "this market keeps no keys here: ask its operator");
    shared.ports.accounts.as_ref().ok_or_else(none)
}

/// Calls a port that may wait for the disk.
pub(super) async fn blocking<P: ?Sized + Send + Sync + 'static, T: Send + 'static>(
    shared: &Shared,
    port: &Arc<P>,
    call: impl FnOnce(&P, UnixMs) -> Result<T, AccountsError> + Send + 'static,
) -> Result<T, ApiError> {
    let (port, now) = (Arc::clone(port), shared.ports.clock.now());
    let done = tokio::task::spawn_blocking(move || call(&*port, now)).await;
    let broken = |_| ApiError::new(ErrorType::Server, "the books could not be asked: tell the operator");
    done.map_err(broken)?.map_err(|error| refusal(&error))
}

pub(super) fn refusal(error: &AccountsError) -> ApiError {
    match error {
        AccountsError::NotFound => {
            ApiError::new(ErrorType::NotFound, format!("{error}: `GET /v1/keys` lists those that there are"))
        }
        AccountsError::NoWorkspace => ApiError::new(
            ErrorType::NotFound,
            format!("{error}: `GET /v1/workspaces` lists those that there are"),
        ),
        AccountsError::Operators => ApiError::new(
            ErrorType::PermissionDenied,
            format!("{error}: ask the operator, or set limits of workspaces and keys"),
        ),
        AccountsError::Invalid { field, .. } => ApiError::field(*field, error.to_string()),
        AccountsError::Funds(FundsError::ClaimPaid(_)) => being_made(),
        AccountsError::Funds(error) => admit::refusal(error),
    }
}

/// Another call under the same `Idempotency-Key` was faster, and its answer is not kept yet: who asks again reads it.
fn being_made() -> ApiError {
    let message = "another call under this `Idempotency-Key` makes this key right now: come again, for the answer that it gets";
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::Conflict, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_calls_that_make_one_key_the_later_one_comes_again() {
        let error = refusal(&AccountsError::Funds(FundsError::ClaimPaid(RequestId(7))));
        assert_eq!((error.status(), error.retry_after_s), (409, Some(1)));
        assert!(!error.message.contains("receipt"), "a key has none: {error}");
    }

    #[test]
    fn what_the_operator_set_is_a_403_that_says_whom_to_ask() {
        let error = refusal(&AccountsError::Operators);
        assert_eq!(error.status(), 403);
        assert!(error.message.ends_with("ask the operator, or set limits of workspaces and keys"), "{error}");
    }
}

//! Routes: which path means what, and the small answers that are not generations.
//!
//! What can be called stands in one [`table`]; a call is found there, its caller and its query are checked as the
//! table says, and one function answers. Every path of the API exists below `/v1` and below `/api/v1`.

mod account;
mod catalogue;
pub(crate) mod cors;
mod figures;
mod keys;
mod log;
pub(crate) mod openapi;
mod path;
mod policy;
mod query;
mod report;
pub(crate) mod table;
mod workspaces;

pub(crate) use catalogue::pricing;
pub(crate) use figures::FiguresKept;

use crate::body::Body;
use crate::config::HEADERS_MAX;
use crate::count;
use crate::gateway::Shared;
use crate::metrics::Readings;
use crate::phase::{admit, parse};
use bourse_types::KeyHash;
use bourse_wire::api::{Data, Health};
use bourse_wire::dialect::Api;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{FundsError, KeyGrant, KeyRole};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Body as _;
use policy::policy_of;
use query::Query;
use serde::Serialize;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use table::{Base, Caller, Endpoint, OPERATIONS, OPERATOR, Operation, Verb};

/// Largest body of a call that administers.
pub(crate) const ADMIN_BYTES_MAX: usize = 64 * 1024;

/// The operation that a call means.
#[derive(Debug)]
pub(crate) struct Found<'p> {
    pub(crate) operation: &'static Operation,
    /// What stands where its path varies; empty where it does not.
    name: Cow<'p, str>,
}

impl Found<'_> {
    /// The grammar in which it answers and fails.
    pub(crate) fn speaks(&self) -> Api {
        openapi::speaks(self.operation)
    }
}

/// A call that means nothing.
#[derive(Debug)]
pub(crate) struct Missed {
    pub(crate) error: ApiError,
    /// The grammar in which it fails.
    pub(crate) speaks: Api,
    /// What may be asked at this path, when something may.
    pub(crate) allow: Option<HeaderValue>,
}

/// Finds the operation of a call. An unknown path and a wrong method are told apart. `HEAD` means what `GET` does.
pub(crate) fn find<'p>(method: &Method, path: &'p str) -> Result<Found<'p>, Box<Missed>> {
    let wanted = Verb::of(method);
    let (base, rest) = path::below_api(path).map_or((Base::Root, path), |rest| (Base::Api, rest));
    let all = || OPERATIONS.iter().chain([&OPERATOR]).filter(|operation| operation.base == base);
    // Most calls end here, with a few comparisons of lengths.
    if let Some(operation) = all().find(|o| o.path == rest && Some(o.verb) == wanted) {
        return Ok(Found { operation, name: Cow::Borrowed("") });
    }
    let is_literal = all().any(|o| o.path == rest);
    let fitting = || {
        all().filter_map(|operation| {
            let name = if is_literal {
                (operation.path == rest).then_some(Cow::Borrowed(""))
            } else {
                path::varying(operation.path, rest)
            };
            name.map(|name| Found { operation, name })
        })
    };
    fitting().find(|found| Some(found.operation.verb) == wanted).ok_or_else(|| {
        let allowed: Vec<Verb> = fitting().map(|found| found.operation.verb).collect();
        Box::new(missed(method, path, &allowed))
    })
}

fn missed(method: &Method, path: &str, allowed: &[Verb]) -> Missed {
    let is_messages = path::below_api(path).is_some_and(|rest| rest.starts_with("/messages"));
    let speaks = if is_messages { Api::Messages } else { Api::Chat };
    if allowed.is_empty() {
        let shown: String = path.chars().take(128).collect();
        let message = format!(
            "there is nothing at `{shown}`: the API is below /v1, and GET /openapi.json describes it"
        );
        return Missed { error: ApiError::new(ErrorType::NotFound, message), speaks, allow: None };
    }
    let also = allowed.contains(&Verb::Get).then_some("HEAD");
    let words: Vec<&str> = allowed.iter().map(|verb| verb.as_str()).chain(also).collect();
    let words = words.join(", ");
    let error = ApiError::new(ErrorType::MethodNotAllowed, format!("use {words} here instead of {method}"));
    Missed { error, speaks, allow: HeaderValue::try_from(words).ok() }
}

/// What a call with more header fields than [`HEADERS_MAX`] is answered.
pub(crate) fn too_many_headers() -> ApiError {
    let message = format!("a request has at most {HEADERS_MAX} header fields: leave out what a proxy added");
    ApiError::new(ErrorType::HeadersTooLarge, message)
}

/// What a buyer is sent whose head did not come to its end: nobody knows yet in which grammar it asks.
pub(crate) fn late_head() -> Vec<u8> {
    let message = "the request's head did not arrive in time: send it again";
    let body = ApiError::new(ErrorType::RequestTimeout, message).to_json();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.into_bytes(), body].concat()
}

/// Answers everything but generations.
pub(crate) async fn answer<B>(
    shared: &Arc<Shared>,
    found: &Found<'_>,
    head: &Parts,
    body: B,
    peer: Option<SocketAddr>,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let operation = found.operation;
    if operation.caller == Caller::Operator {
        return admin(shared, head, body, peer).await;
    }
    let Some(grant) = caller(shared, operation, head)? else { return public(shared, found, head).await };
    let query = Query::read(operation.query, head.uri.query())?;
    let (name, path) = (&*found.name, head.uri.path());
    let within = shared.config.timeouts.body;
    match operation.endpoint {
        Endpoint::CountTokens(api) => count::answer(shared, api, &head.headers, body).await,
        Endpoint::OwnModels => {
            let policy = policy_of(&grant, &*shared.ports.records)?;
            json(&catalogue::own_models(shared, &query, path, &policy))
        }
        Endpoint::Key => json(&account::key(shared, &grant)?),
        Endpoint::Credits => json(&account::credits(shared, &grant)?),
        Endpoint::Activity => json(&account::activity(shared, &grant, &query)?),
        Endpoint::Generation => json(&account::generation(shared, &grant, &query)?),
        Endpoint::Receipt => Ok(typed("application/json", log::receipt(shared, &grant, name)?)),
        Endpoint::BestExecution => json(&report::best_execution(shared, &grant, &query)?),
        Endpoint::ListKeys => json(&keys::list(shared, &grant, &query)?),
        Endpoint::GetKey => json(&keys::get(shared, &grant, name)?),
        Endpoint::DeleteKey => json(&keys::delete(shared, &grant, name).await?),
        Endpoint::ListWorkspaces => json(&workspaces::list(shared, &grant, &query)?),
        Endpoint::Limits(part) => json(&workspaces::limits(shared, &grant, part, name)?),
        Endpoint::Budgets => json(&workspaces::budgets(shared, &grant, name)?),
        Endpoint::DeleteBudget(part) => json(&workspaces::delete_budget(shared, &grant, part, name).await?),
        Endpoint::CreateWorkspace => {
            let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, within).await?;
            let mut response = json(&workspaces::create(shared, &grant, &body).await?)?;
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        Endpoint::PutBudget(part) => {
            let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, within).await?;
            json(&workspaces::put_budget(shared, &grant, (part, name), &body).await?)
        }
        Endpoint::PutRates(part) => {
            let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, within).await?;
            json(&workspaces::put_rates(shared, &grant, (part, name), &body).await?)
        }
        Endpoint::CreateKey => {
            let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, within).await?;
            keys::create(shared, &grant, head, &body).await
        }
        Endpoint::UpdateKey => {
            let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, within).await?;
            json(&keys::update(shared, &grant, name, &body).await?)
        }
        _ => Err(elsewhere()),
    }
}

/// What anybody may ask.
async fn public(shared: &Arc<Shared>, found: &Found<'_>, head: &Parts) -> Result<Response<Body>, ApiError> {
    let query = Query::read(found.operation.query, head.uri.query())?;
    let (name, path) = (&*found.name, head.uri.path());
    match found.operation.endpoint {
        Endpoint::Models => json(&catalogue::models(shared, &query, path)),
        Endpoint::ModelCount => json(&catalogue::count(shared, &query)),
        Endpoint::ModelsOf(kind) => json(&catalogue::models_of(shared, &query, path, kind)),
        Endpoint::Model => json(&catalogue::model(shared, name)?),
        Endpoint::ModelDetails => json(&Data { data: catalogue::model(shared, name)? }),
        Endpoint::ModelEndpoints => json(&catalogue::endpoints(shared, name)?),
        Endpoint::ZdrEndpoints => json(&catalogue::zdr(shared)),
        Endpoint::Providers => json(&catalogue::providers(shared)),
        Endpoint::Checkpoint => Ok(typed("application/json", log::checkpoint(shared)?)),
        Endpoint::Consistency => json(&log::consistency(shared, &query)?),
        Endpoint::Figures => Ok(typed("application/json", figures::market(shared, &query).await?)),
        Endpoint::Description => Ok(typed("application/json", openapi::text())),
        Endpoint::Health => health(shared),
        Endpoint::Metrics => Ok(typed("text/plain; version=0.0.4", metrics(shared))),
        _ => Err(elsewhere()),
    }
}

/// Whose call it is; none when anybody may ask.
fn caller(shared: &Shared, operation: &Operation, head: &Parts) -> Result<Option<KeyGrant>, ApiError> {
    if operation.caller == Caller::Anyone {
        return Ok(None);
    }
    let grant = admit::admit(&*shared.ports.funds, &head.headers, shared.ports.clock.now())?;
    if operation.caller == Caller::ManagementKey && grant.role != KeyRole::Management {
        return Err(admit::refusal(&FundsError::NotManagement));
    }
    Ok(Some(grant))
}

fn elsewhere() -> ApiError {
    ApiError::new(ErrorType::Server, "this operation is answered elsewhere: tell the operator")
}

/// The answer to `HEAD`: the head of the answer to `GET`.
pub(crate) fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(bytes) = body.size_hint().exact() {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    Response::from_parts(head, Body::whole(Bytes::new()))
}

fn typed(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Writes the answer straight to text, so that amounts keep their digits.
fn json<T: Serialize>(value: &T) -> Result<Response<Body>, ApiError> {
    let failed = |_| ApiError::new(ErrorType::Server, "the answer could not be written: tell the operator");
    serde_json::to_vec(value).map(|bytes| typed("application/json", bytes)).map_err(failed)
}

fn health(shared: &Shared) -> Result<Response<Body>, ApiError> {
    let (code, status) = if shared.is_closing() {
        (StatusCode::SERVICE_UNAVAILABLE, "closing")
    } else if books_stand_still(shared) {
        (StatusCode::SERVICE_UNAVAILABLE, "the books cannot be written")
    } else {
        (StatusCode::OK, "ok")
    };
    let mut response = json(&Health { status })?;
    *response.status_mut() = code;
    Ok(response)
}

/// Whether the exchange has stopped: one that runs has a word for a key that nobody has.
fn books_stand_still(shared: &Shared) -> bool {
    let nobody = KeyHash([0; 32]);
    matches!(
        shared.ports.funds.authenticate(&nobody, shared.ports.clock.now()),
        Err(FundsError::Journal(_) | FundsError::Closing | FundsError::Away)
    )
}

fn metrics(shared: &Shared) -> String {
    let (decisions_pending_bytes, decisions_dropped_bytes) = shared.market.decision_bytes();
    let readings = Readings {
        offers: shared.market.book().snapshot.offers().len() as u64,
        nodes: shared.hub.connected_count() as u64,
        durable_waiting: shared.durable.waiting() as u64,
        decisions_pending_bytes,
        decisions_dropped_bytes,
        health: shared.market.health(shared.ports.clock.now()),
    };
    shared.metrics.text(&shared.market.tallies, &readings)
}

/// Passes an administrative call on. Only from this machine, and only with the token.
async fn admin<B>(
    shared: &Shared,
    head: &Parts,
    body: B,
    peer: Option<SocketAddr>,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let (Some(admin), Some(token)) = (&shared.ports.admin, &shared.config.admin_token) else {
        return Err(ApiError::new(ErrorType::NotFound, "this market has no administration here"));
    };
    let is_local = peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback());
    let sent = head.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let is_known = sent.and_then(|v| v.strip_prefix(b"Bearer ")).is_some_and(|v| token.matches(v));
    if !is_local || !is_known {
        let message =
            "administration needs the admin token of this market's data directory, from this machine";
        return Err(ApiError::new(ErrorType::PermissionDenied, message));
    }
    let body = parse::read(&head.headers, body, ADMIN_BYTES_MAX, shared.config.timeouts.body).await?;
    // It may read all of the books, or wait for a payment rail.
    let admin = admin.clone();
    let called = tokio::task::spawn_blocking(move || admin.call(&body)).await;
    let (status, answer) =
        called.map_err(|_| ApiError::new(ErrorType::Server, "the operator's request was not answered"))?;
    let mut response = typed("application/json", answer);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}

#[cfg(test)]
mod tests;

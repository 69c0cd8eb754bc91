//! Routes: which path means what, and the small answers that are not generations.
//!
//! Every path exists below `/v1` and below `/api/v1`, where OpenRouter's clients look for it.

mod account;
mod catalogue;
mod log;

use crate::body::Body;
use crate::gateway::Shared;
use crate::phase::parse;
use bourse_types::KeyHash;
use bourse_wire::dialect::Api;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::FundsError;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;

/// Largest body of an administrative call.
pub(crate) const ADMIN_BYTES_MAX: usize = 64 * 1024;

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A generation.
    Generate(Api),
    /// `GET models`.
    Models,
    /// `GET models/{slug}`.
    Model(String),
    /// `GET models/{slug}/endpoints`.
    ModelEndpoints(String),
    /// `GET generation?id=`.
    Generation,
    /// `GET key`.
    Key,
    /// `GET credits`.
    Credits,
    /// `GET receipts/{id}`.
    Receipt(String),
    /// `GET log/checkpoint`.
    Checkpoint,
    /// `GET log/consistency?from=`.
    Consistency,
    /// `GET /health`.
    Health,
    /// `GET /metrics`.
    Metrics,
    /// `POST /admin`.
    Admin,
}

/// Finds the endpoint of a path. An unknown path and a wrong method are told apart.
pub(crate) fn find(method: &Method, path: &str) -> Result<Endpoint, ApiError> {
    let endpoint = by_path(path).ok_or_else(|| {
        let shown: String = path.chars().take(128).collect();
        ApiError::new(ErrorType::NotFound, format!("there is nothing at `{shown}`: the API is below /v1"))
    })?;
    let want = match endpoint {
        Endpoint::Generate(_) | Endpoint::Admin => Method::POST,
        _ => Method::GET,
    };
    if *method != want {
        return Err(ApiError::new(
            ErrorType::MethodNotAllowed,
            format!("use {want} here instead of {method}"),
        ));
    }
    Ok(endpoint)
}

fn by_path(path: &str) -> Option<Endpoint> {
    let api = path.strip_prefix("/v1/").or_else(|| path.strip_prefix("/api/v1/"));
    let Some(rest) = api else {
        return match path {
            "/health" => Some(Endpoint::Health),
            "/metrics" => Some(Endpoint::Metrics),
            "/admin" => Some(Endpoint::Admin),
            _ => None,
        };
    };
    match rest {
        "chat/completions" => return Some(Endpoint::Generate(Api::Chat)),
        "completions" => return Some(Endpoint::Generate(Api::Text)),
        "responses" => return Some(Endpoint::Generate(Api::Responses)),
        "messages" => return Some(Endpoint::Generate(Api::Messages)),
        "embeddings" => return Some(Endpoint::Generate(Api::Embeddings)),
        "rerank" => return Some(Endpoint::Generate(Api::Rerank)),
        "images" | "images/generations" => return Some(Endpoint::Generate(Api::Images)),
        "audio/speech" => return Some(Endpoint::Generate(Api::Speech)),
        "audio/transcriptions" => return Some(Endpoint::Generate(Api::Transcription)),
        "models" => return Some(Endpoint::Models),
        "generation" => return Some(Endpoint::Generation),
        "key" => return Some(Endpoint::Key),
        "credits" => return Some(Endpoint::Credits),
        "log/checkpoint" => return Some(Endpoint::Checkpoint),
        "log/consistency" => return Some(Endpoint::Consistency),
        _ => {}
    }
    if let Some(slug) = rest.strip_prefix("models/").filter(|s| !s.is_empty()) {
        let slug = slug.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":");
        return Some(match slug.strip_suffix("/endpoints") {
            Some(slug) => Endpoint::ModelEndpoints(slug.to_owned()),
            None => Endpoint::Model(slug),
        });
    }
    rest.strip_prefix("receipts/").filter(|id| !id.is_empty()).map(|id| Endpoint::Receipt(id.to_owned()))
}

/// Answers everything but generations.
pub(crate) async fn answer<B>(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    head: &Parts,
    body: B,
    peer: Option<SocketAddr>,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    match endpoint {
        Endpoint::Models => Ok(json(&catalogue::models(&shared.market.book()))),
        Endpoint::Model(slug) => catalogue::model(&shared.market.book(), slug).map(|v| json(&v)),
        Endpoint::ModelEndpoints(slug) => catalogue::endpoints(&shared.market.book(), slug).map(|v| json(&v)),
        Endpoint::Generation => {
            account::generation(shared, &head.headers, head.uri.query()).map(|v| json(&v))
        }
        Endpoint::Key => account::key(shared, &head.headers).map(|v| json(&v)),
        Endpoint::Credits => account::credits(shared, &head.headers).map(|v| json(&v)),
        Endpoint::Receipt(id) => {
            log::receipt(shared, &head.headers, id).map(|text| typed("application/json", text))
        }
        Endpoint::Checkpoint => log::checkpoint(shared).map(|text| typed("application/json", text)),
        Endpoint::Consistency => log::consistency(shared, head.uri.query()).map(|v| json(&v)),
        Endpoint::Health => Ok(health(shared)),
        Endpoint::Metrics => Ok(typed("text/plain; version=0.0.4", metrics(shared))),
        Endpoint::Admin => admin(shared, head, body, peer).await,
        Endpoint::Generate(_) => Err(ApiError::new(ErrorType::Server, "a generation is answered elsewhere")),
    }
}

/// The value of a query parameter. Ids and numbers need no percent-decoding.
fn query<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn typed(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn json(value: &Value) -> Response<Body> {
    typed("application/json", value.to_string())
}

fn health(shared: &Shared) -> Response<Body> {
    let (status, text) = if shared.is_closing() {
        (StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"closing\"}")
    } else if books_stand_still(shared) {
        (StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"the books cannot be written\"}")
    } else {
        (StatusCode::OK, "{\"status\":\"ok\"}")
    };
    let mut response = typed("application/json", text);
    *response.status_mut() = status;
    response
}

/// Whether the exchange has stopped: one that runs has a word for a key that nobody has.
fn books_stand_still(shared: &Shared) -> bool {
    let nobody = KeyHash([0; 32]);
    matches!(
        shared.ports.funds.authenticate(&nobody, shared.ports.clock.now()),
        Err(FundsError::Journal(_) | FundsError::Closing)
    )
}

fn metrics(shared: &Shared) -> String {
    let book = shared.market.book();
    shared.metrics.text(&[
        ("bourse_offers", "Offers in the market.", book.snapshot.offers().len() as u64),
        ("bourse_nodes", "Connected nodes.", shared.hub.connected_count() as u64),
    ])
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
    let (status, answer) = admin.call(&body);
    let mut response = typed("application/json", answer);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, want: impl Into<Option<Endpoint>>) {
        assert_eq!(by_path(path), want.into(), "{path}");
    }

    #[test]
    fn paths_mean_the_same_below_both_roots() {
        for root in ["/v1", "/api/v1"] {
            let at = |rest: &str| format!("{root}/{rest}");
            check(&at("chat/completions"), Endpoint::Generate(Api::Chat));
            check(&at("completions"), Endpoint::Generate(Api::Text));
            check(&at("models/a/b/endpoints"), Endpoint::ModelEndpoints("a/b".into()));
            check(&at("models/a%2Fb"), Endpoint::Model("a/b".into()));
            check(&at("receipts/gen-1"), Endpoint::Receipt("gen-1".into()));
            check(&at("receipts/"), None);
            check(&at("log/checkpoint"), Endpoint::Checkpoint);
        }
        check("/health", Endpoint::Health);
        check("/v1/health", None);
        check("/", None);
    }

    #[test]
    fn unknown_paths_and_wrong_methods_are_told_apart() {
        assert_eq!(find(&Method::GET, "/v2/models").unwrap_err().status(), 404);
        let wrong = find(&Method::GET, "/v1/chat/completions").unwrap_err();
        assert_eq!(wrong.status(), 405);
        assert!(wrong.message.contains("use POST"));
        assert!(find(&Method::POST, "/admin").is_ok());
    }

    #[test]
    fn query_parameters_are_found() {
        assert_eq!(query(Some("a=1&id=gen-2"), "id"), Some("gen-2"));
        assert_eq!(query(Some("idx=1"), "id"), None);
        assert_eq!(query(None, "id"), None);
    }
}

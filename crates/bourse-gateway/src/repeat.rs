//! Requests that are sent twice: under one `Idempotency-Key` a buyer is charged once.
//!
//! The key belongs to an account. What makes it so is a [`Claim`] that travels with the hold: the books decide who was
//! first, so of two gateways, or before and after a crash, one request runs. One that comes while it runs is told when to
//! come again; one that comes later gets the same bytes with [`REPLAYED_HEADER`], and nobody is asked and nothing is
//! held. The same key for another method, path or body is a conflict; how a form's boundary is called is no part of its body. What cost nothing, because it failed, frees its key:
//! to try again is what the key is for. What was charged and cannot be given again (a stream that its buyer left, an
//! answer that is too large to keep or that was lost) stays a conflict that names its receipt.
//!
//! Where the operator set a window, a request without a key has an implied one: it is called by the caller's API key and
//! by what it asks, and it is known for the window. `cache-control: no-cache` or `no-store` asks for a new answer.
//!
//! Answers are [sealed](seal) before they are kept, see [`Outcomes`]. Limits: [`BODY_BYTES_MAX`] of one answer, the
//! exchange's bounds of all; keeping one delays it by [`KEEP_WITHIN`] at most, and mostly not at all, because it is
//! written while the charge is committed.

use crate::body::Body;
use crate::gateway::Shared;
use crate::phase::admit;
use bourse_types::{Digest32, DurationMs, RequestId, Retry};
use bourse_wire::dialect::passthrough::between_boundaries;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{
    BoxFuture, CLAIM_AGE_MAX, Claim, FundsError, IDEMPOTENCY_KEY_BYTES_MAX, KeyGrant, Outcome, Outcomes,
};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use std::sync::Arc;
use std::time::Duration;

mod keep;
mod seal;
pub(crate) use keep::Keeper;
use seal::{Kept, Sealer};

/// Names the request that must not be charged twice.
const KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest body that is kept.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Larger bodies are sealed off the reactor.
const SEAL_AT_ONCE_BYTES_MAX: usize = 256 * 1024;
/// What helps a buyer whose request counts as sent before.
const ANEW: &str = "or ask for another answer with `cache-control: no-cache`";
/// How long an answer waits for being kept.
pub(crate) const KEEP_WITHIN: Duration = Duration::from_millis(500);

/// How a request is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called<'h> {
    /// By its buyer.
    Key(&'h [u8]),
    /// By what it asks, for so long.
    Content(Duration),
}

/// Whether a request may have been sent before; cheap to ask of all of them.
pub(crate) fn may_be_one(headers: &HeaderMap, window: Option<Duration>) -> bool {
    window.is_some() || headers.contains_key(KEY_HEADER)
}

/// How a request is called; none: it is a new one each time. `window` is the operator's.
pub(crate) fn called(headers: &HeaderMap, window: Option<Duration>) -> Result<Option<Called<'_>>, ApiError> {
    let Some(key) = headers.get(KEY_HEADER).map(HeaderValue::as_bytes) else {
        return Ok(window.filter(|_| !wants_anew(headers)).map(Called::Content));
    };
    let is_one = headers.get_all(KEY_HEADER).iter().nth(1).is_none();
    if is_one && (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(Some(Called::Key(key)));
    }
    let message =
        format!("`Idempotency-Key` must be there once and have 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
    Err(ApiError::field("Idempotency-Key", message))
}

/// Whether the buyer refuses an answer that was given before (RFC 9111 §5.2.1).
fn wants_anew(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| {
        let word = word.trim();
        word.eq_ignore_ascii_case("no-cache") || word.eq_ignore_ascii_case("no-store")
    })
}

/// A request that may have been sent before.
pub(crate) struct Repeat {
    /// The first request of it is not known yet.
    claim: Claim,
    sealer: Sealer,
    is_implied: bool,
}

/// What is known of a request.
pub(crate) enum Found {
    /// Nothing: it runs.
    Nothing,
    /// What it was answered before.
    Again(Response<Body>),
    /// It was done before, as that one, and its answer is gone.
    Lost(RequestId),
}

impl Repeat {
    pub(crate) fn new(
        grant: &KeyGrant,
        called: Called<'_>,
        head: &Parts,
        body: &[u8],
    ) -> Result<Self, ApiError> {
        let content = |secret: &[u8; 32]| {
            let path = head.uri.path_and_query().map_or("", |path| path.as_str());
            let mut hasher = blake3::Hasher::new_keyed(secret);
            hasher.update(head.method.as_str().as_bytes()).update(&[0]).update(path.as_bytes()).update(&[0]);
            content_of(head, body, &mut hasher);
            Digest32(*hasher.finalize().as_bytes())
        };
        let derived = |purpose: &str, of: &[u8], more: &[u8]| {
            *blake3::Hasher::new_derive_key(purpose).update(of).update(more).finalize().as_bytes()
        };
        // Under a secret of the buyer's, so that nobody who guesses at a prompt finds it in the journal.
        let api_key = admit::key_in(&head.headers)?;
        let (name, fingerprint, kept_for, word) = match called {
            Called::Key(key) => {
                let of = &grant.account_digest.0;
                let secret = derived("bourse 2026 fingerprint under an idempotency key", of, key);
                let name = derived("bourse 2026 name of an idempotency key", of, key);
                (Digest32(name), content(&secret), CLAIM_AGE_MAX, key)
            }
            Called::Content(window) => {
                let secret = derived("bourse 2026 fingerprint under an API key", &[], api_key);
                let fingerprint = content(&secret);
                let name = derived("bourse 2026 name of a content", &grant.key.0, &fingerprint.0);
                let ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
                (Digest32(name), fingerprint, DurationMs(ms), &[][..])
            }
        };
        let claim = Claim { name, fingerprint, first: RequestId(0), kept_for };
        let sealer = Sealer::new(&grant.account_digest, api_key, word);
        Ok(Self { claim, sealer, is_implied: matches!(called, Called::Content(_)) })
    }

    /// The claim of the first request.
    pub(crate) fn claim(&self, first: RequestId) -> Claim {
        Claim { first, ..self.claim }
    }

    /// Whether its answer waits until it cannot be lost by a crash. An implied one does as all others do.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.is_implied
    }

    /// What is known of it; refused while the first one runs, and when its key stands for another request.
    pub(crate) async fn find(&self, shared: &Shared) -> Result<Found, ApiError> {
        let Some(outcomes) = &shared.ports.outcomes else { return Ok(Found::Nothing) };
        let first = match outcomes.claimed(&self.claim, shared.ports.clock.now()) {
            Ok(()) => return Ok(Found::Nothing),
            Err(FundsError::ClaimPaid(first)) => first,
            Err(FundsError::ClaimOpen) if self.is_implied => return Err(is_open()),
            Err(refused) => return Err(admit::refusal(&refused)),
        };
        match outcomes.outcome(self.claim.name, first).await {
            Ok(Some(sealed)) => Ok(self.opened(&sealed, first).map_or(Found::Lost(first), Found::Again)),
            Err(error) if error.retry() != Retry::Never => Err(admit::refusal(&error)),
            Ok(None) | Err(_) => Ok(Found::Lost(first)),
        }
    }

    /// What who asks again reads when the answer cannot be given again.
    pub(crate) fn lost(&self, first: RequestId) -> ApiError {
        let message = if self.is_implied {
            format!(
                "an equal request was paid for a moment ago and its answer cannot be given again: see receipt `{first}`, {ANEW}"
            )
        } else {
            format!(
                "what this `Idempotency-Key` paid for cannot be given again: see receipt `{first}`, or use a new key"
            )
        };
        ApiError::new(ErrorType::Conflict, message)
    }

    /// An answer that was kept; none when it was sealed under another API key, or is damaged.
    fn opened(&self, sealed: &[u8], first: RequestId) -> Option<Response<Body>> {
        let kept = self.sealer.open(sealed, &self.claim.name, first)?;
        let mut response = Response::new(Body::whole(kept.body));
        *response.status_mut() = kept.status;
        *response.headers_mut() = kept.headers;
        response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
        Some(response)
    }
}

/// What a buyer reads that named no key while its first request runs.
fn is_open() -> ApiError {
    let message = format!("an equal request is being answered: come again, {ANEW}");
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::Conflict, message) }
}

/// Adds a body to a fingerprint. A form counts by what stands between its boundaries, each with its length: client
/// libraries draw new ones for each try.
fn content_of(head: &Parts, body: &[u8], hasher: &mut blake3::Hasher) {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let Some(parts) = kind.and_then(|kind| between_boundaries(kind, body)) else {
        hasher.update(body);
        return;
    };
    hasher.update(b"form");
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
}

/// Keeps an answer for who asks again. One in one piece is kept while the future is awaited, which is to be done before it
/// goes out; a stream is kept as it passes.
pub(crate) fn keep(
    shared: &Shared,
    repeat: &Arc<Repeat>,
    first: RequestId,
    response: Response<Body>,
) -> (Response<Body>, BoxFuture<'static, ()>) {
    let nothing: BoxFuture<'static, ()> = Box::pin(std::future::ready(()));
    let Some(outcomes) = shared.ports.outcomes.clone() else { return (response, nothing) };
    let keeping = Keeping {
        repeat: Arc::clone(repeat),
        outcomes,
        first,
        head: (response.status(), response.headers().clone()),
        salt: shared.ports.entropy.draw(),
        now: shared.ports.clock.now(),
    };
    match response.body().bytes() {
        Some(bytes) => (response, keeping.keep(bytes)),
        None => (response.map(|body| body.kept(Keeper::new(keeping))), nothing),
    }
}

/// Everything but the body of an answer that is to be kept.
pub(crate) struct Keeping {
    repeat: Arc<Repeat>,
    outcomes: Arc<dyn Outcomes>,
    first: RequestId,
    head: (http::StatusCode, HeaderMap),
    salt: [u8; 32],
    now: bourse_types::UnixMs,
}

impl Keeping {
    /// Completes when the answer is kept, or will not be.
    fn keep(self, body: Bytes) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if body.len() > BODY_BYTES_MAX {
                return;
            }
            let is_large = body.len() > SEAL_AT_ONCE_BYTES_MAX;
            let (outcomes, first) = (Arc::clone(&self.outcomes), self.first);
            let seal = move || {
                let Self { repeat, head: (status, headers), salt, now, .. } = self;
                let name = repeat.claim.name;
                let kept = Kept { status, headers, body };
                let sealed = repeat.sealer.seal(&kept, &name, first, &salt);
                Outcome { name, request: first, sealed: sealed.into(), now }
            };
            let outcome = if is_large { tokio::task::spawn_blocking(seal).await.ok() } else { Some(seal()) };
            let Some(outcome) = outcome else { return };
            let kept = tokio::time::timeout(KEEP_WITHIN, outcomes.keep(outcome)).await;
            match kept {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(request = %first, %error, "an answer was not kept"),
                Err(_) => tracing::warn!(request = %first, "an answer did not wait for being kept"),
            }
        })
    }
}

#[cfg(test)]
mod tests;

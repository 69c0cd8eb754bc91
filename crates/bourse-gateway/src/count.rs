//! Counting the prompt tokens of a request that is not made: `messages/count_tokens` and `responses/input_tokens`.
//!
//! It is free and no generation: nothing is held and no receipt is made. Who counts is found as for a request, so that
//! no seller reads a prompt that the buyer's wishes keep from it: a node of the model with its own tokenizer, else a
//! seller whose grammar has an endpoint for it. Where nobody counts, the answer is an estimate from bytes and says so in
//! [`ESTIMATE_HEADER`]; an estimate that is never below the truth does not exist.
//!
//! Limits: [`COUNTS_MAX`] at a time over all keys, [`COUNT_WITHIN`] for all attempts of one together.

use crate::body::Body;
use crate::config::ERROR_BYTES_MAX;
use crate::deadline;
use crate::failure::{Failure, FailureClass, all_failed};
use crate::gateway::Shared;
use crate::market::Seller;
use crate::node::{NodeEvent, NodeHandle, failure_of};
use crate::phase::{parse, plan};
use crate::provider::{Provider, Upstream};
use bourse_types::{ModelSlug, RequestId, UnixMs};
use bourse_wire::dialect::grammar::Call;
use bourse_wire::dialect::{Api, BODY_BYTES_MAX, Job, count, front};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::node;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// `1` on a count that is an estimate.
pub const ESTIMATE_HEADER: HeaderName = HeaderName::from_static("x-bourse-estimate");
/// Most counts at a time.
pub const COUNTS_MAX: usize = 32;
/// Longest wait for sellers to count; then it is estimated.
pub const COUNT_WITHIN: Duration = Duration::from_secs(5);

/// Answers a request to count, of whoever has a key.
pub(crate) async fn answer<B>(
    shared: &Shared,
    api: Api,
    headers: &HeaderMap,
    body: B,
) -> Result<Response<Body>, ApiError>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let now = shared.ports.clock.now();
    let _place = shared.counts.try_acquire().map_err(|_| busy())?;
    let body = parse::read(headers, body, BODY_BYTES_MAX, shared.config.timeouts.body).await?;
    let job = count::parse(api, body)?;
    let counted = deadline::within(COUNT_WITHIN, by_sellers(shared, &job, now)).await;
    let counted = counted.unwrap_or(Ok(None))?;
    let tokens = counted.unwrap_or_else(|| count::estimate(&job));
    let mut response = Response::new(Body::whole(count::answer(api, tokens)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if counted.is_none() {
        response.headers_mut().insert(ESTIMATE_HEADER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

fn busy() -> ApiError {
    let message = format!("{COUNTS_MAX} prompts are being counted: try again in a moment");
    ApiError { retry_after_s: Some(1), ..ApiError::new(ErrorType::RateLimitExceeded, message) }
}

/// Asks those who can count, nodes first. None when nobody could; an error when a node says that the request is wrong.
async fn by_sellers(shared: &Shared, job: &Job, now: UnixMs) -> Result<Option<u64>, ApiError> {
    let random = shared.ports.entropy.draw();
    let request = RequestId::new(now, std::array::from_fn(|n| random[n]));
    let seed = u64::from_le_bytes(std::array::from_fn(|n| random[16 + n]));
    let (book, readers) = plan::readers(&shared.market, job, (now, seed))?;
    let sellers = || readers.iter().filter_map(|index| book.seller(*index));
    for (offer, seller) in sellers() {
        let Seller::Node(node) = seller else { continue };
        match by_node(node, job, request, &offer.model).await {
            Ok(tokens) => return Ok(Some(tokens)),
            Err(failure) if failure.class == FailureClass::BadRequest => {
                return Err(all_failed(&[(offer.seller.as_str().to_owned(), failure)]));
            }
            // Another may do better.
            Err(_) => {}
        }
    }
    for (_, seller) in sellers() {
        let Seller::Provider(provider, upstream) = seller else { continue };
        if let Some(tokens) = by_provider(shared, job, provider, upstream).await {
            return Ok(Some(tokens));
        }
    }
    Ok(None)
}

async fn by_node(
    node: &Arc<NodeHandle>,
    job: &Job,
    request: RequestId,
    model: &ModelSlug,
) -> Result<u64, Failure> {
    let prompt = job.node_prompt().map_err(|error| Failure::untranslatable(&error))?;
    let handle = node.count(node::Count { request, model: model.clone(), prompt })?;
    match poll_fn(|cx| handle.poll_event(cx)).await {
        NodeEvent::Counted(counted) => Ok(counted.prompt_tokens),
        NodeEvent::Failed(failed) => Err(failure_of(&failed)),
        _ => Err(Failure::broken(0, "it did not count")),
    }
}

/// Asks a hosted API where its grammar has an endpoint for it.
async fn by_provider(shared: &Shared, job: &Job, provider: &Provider, upstream: &Upstream) -> Option<u64> {
    let shape = provider.adapter.shape(job.api)?;
    let uri = upstream.count_uri(shape)?;
    let call = if shape == job.api.shape() {
        job.rebuild(&upstream.id, None)
    } else {
        let call = Call { upstream_id: &upstream.id, stream: false, max_tokens: None };
        provider.adapter.dialect(shape).write(&front::read(job).ok()?, &call).ok()?.body
    };
    let body = count::body(shape, &upstream.id, &call)?;
    let timeouts = shared.config.timeouts;
    let asked = provider.ask(&*shared.ports.connect, timeouts.connect, uri, body);
    let (head, mut exchange) = asked.await.ok()?;
    if !head.status.is_success() {
        return None;
    }
    let answer = exchange.collect(ERROR_BYTES_MAX, timeouts.idle).await.ok()?;
    count::read(shape, &answer)
}

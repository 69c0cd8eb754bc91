//! The gateway itself: what it shares, and the life of a request from route to answer.

use crate::body::Body;
use crate::byok::OwnKeys;
use crate::config::{Durability, GatewayConfig, HEADERS_MAX, HOLD_GRACE, NodeAdmission};
use crate::conversation::Conversation;
use crate::count;
use crate::decisions::{Anew, Taken};
use crate::durable::Durable;
use crate::executions::{Considered, Executions};
use crate::explain::Wanted;
use crate::market::{Market, MarketError};
use crate::metrics::Metrics;
use crate::named::{name_call, name_request, tell_notices};
use crate::node::hub::Hub;
use crate::phase::dispatch::{Answer, Plain, PlainContent, dispatch};
use crate::phase::hold::Held;
use crate::phase::note::note_of;
use crate::phase::plan::{Route, route};
use crate::phase::prove::Draft;
use crate::phase::relay::Relay;
use crate::phase::resolve::{self, Names, Resolved};
use crate::phase::settle::{Open, unsettled};
use crate::phase::take_up::Again;
use crate::phase::{admit, parse};
use crate::policy::Policies;
use crate::ports::Ports;
use crate::recent::Recent;
use crate::recount::Recounts;
use crate::repeat::{self, Found, Repeat};
use crate::routes::table::Endpoint;
use crate::routes::{self, FiguresKept};
use crate::source::billed;
use crate::traces::RequestTrace;
use crate::upstream::Pools;
use bourse_market::{Outcome, Policy, StreamEnd};
use bourse_types::{DurationMs, NanoUsd, RequestId, TokenCount, UnixMs};
use bourse_wire::dialect::grammar::Billed;
use bourse_wire::dialect::{Api, BODY_BYTES_MAX, Job, StreamFailure, front, splice_usage};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{FundsError, KeyGrant, NoteText, Settled};
use bourse_wire::receipt::Finish;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

/// What a whole answer cost, in dollars; the same as `usage.cost` where the answer has one.
pub const COST_HEADER: HeaderName = HeaderName::from_static("x-bourse-cost");
/// Headers of most answers, the two that hyper adds with them.
const HEADERS_MOSTLY: usize = 10;
/// Tells client libraries not to repeat what the market has tried everywhere already.
const SHOULD_RETRY_HEADER: HeaderName = HeaderName::from_static("x-should-retry");

/// A running gateway. Clones are the same gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Shared>);

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) ports: Ports,
    pub(crate) market: Arc<Market>,
    pub(crate) hub: Hub,
    pub(crate) names: Names,
    pub(crate) own_keys: OwnKeys,
    pub(crate) policies: Policies,
    pub(crate) metrics: Metrics,
    pub(crate) durable: Arc<Durable>,
    pub(crate) recent: Recent,
    pub(crate) figures: FiguresKept,
    pub(crate) executions: Executions,
    pub(crate) recounts: Recounts,
    /// Places for prompts that are counted.
    pub(crate) counts: Semaphore,
    pub(crate) born: Instant,
    /// Milliseconds after `born` at which open streams are ended; none while nobody closes.
    drain_at_ms: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Shared {
    pub(crate) fn is_closing(&self) -> bool {
        self.drain_at_ms.load(Ordering::Relaxed) != NEVER
    }

    pub(crate) fn is_past_drain(&self) -> bool {
        let at = self.drain_at_ms.load(Ordering::Relaxed);
        at != NEVER && self.born.elapsed() >= Duration::from_millis(at)
    }

    /// Closes, if nobody did, and ends open streams after `drain`, or sooner if they were to end sooner.
    pub(crate) fn close_within(&self, drain: Duration) {
        let at = self.born.elapsed() + drain;
        self.drain_at_ms.fetch_min(u64::try_from(at.as_millis()).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }
}

/// A call for a generation.
struct Call<'c> {
    api: Api,
    headers: &'c HeaderMap,
    /// Where it may have been sent before.
    repeat: Option<Arc<Repeat>>,
}

/// A refused request: the error, and the request's id when it had one already.
struct Refused {
    error: ApiError,
    request: Option<RequestId>,
    /// Whether the books have a receipt under that id.
    has_receipt: bool,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { error, request: None, has_receipt: false }
    }
}

impl Gateway {
    /// A gateway that serves nothing yet.
    pub fn new(config: GatewayConfig, ports: Ports) -> Result<Self, MarketError> {
        let mut pools = Pools::default();
        let market =
            Market::new(&config.providers, &config.lists, &mut pools)?.admitting(config.quantizations);
        let market = Arc::new(market);
        let hub = Hub::default();
        for admission in &config.nodes {
            hub.admit(admission.clone());
        }
        let names = Names::new(&config);
        let own_keys = OwnKeys::new(&config, &mut pools)?;
        let recounts = Recounts::new(&config.tokenizers);
        Ok(Self(Arc::new(Shared {
            config,
            ports,
            market,
            hub,
            names,
            own_keys,
            policies: Policies::default(),
            metrics: Metrics::default(),
            durable: Arc::default(),
            recent: Recent::default(),
            figures: FiguresKept::default(),
            executions: Executions::default(),
            recounts,
            counts: Semaphore::new(count::COUNTS_MAX),
            born: Instant::now(),
            drain_at_ms: AtomicU64::new(NEVER),
        })))
    }

    /// Lets one more node connect, or changes what its work costs from its next link on.
    pub fn admit_node(&self, admission: NodeAdmission) {
        self.0.hub.admit(admission);
    }

    /// The events of the journal of decisions that wait.
    pub(crate) fn take_decisions(&self, anew: Anew) -> Taken {
        self.0.market.take_decisions(anew)
    }

    /// Cuts a drain short: streams that are still open end now, each with its terminal and its receipt.
    pub fn end_streams(&self) {
        self.0.close_within(Duration::ZERO);
    }

    /// How many nodes sell, now and later.
    pub fn nodes_connected(&self) -> tokio::sync::watch::Receiver<usize> {
        self.0.hub.selling.subscribe()
    }

    /// Answers one request. Never fails: errors are answers.
    ///
    /// Dropping the future, or the answer's body before its end, is how a buyer goes away.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        self.handle_from(request, None).await
    }

    /// [`Gateway::handle`] for a request from that address; none means this process itself.
    pub(crate) async fn handle_from<B>(&self, request: Request<B>, peer: Option<SocketAddr>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        if let Some(mut answer) = routes::cors::preflight(&head) {
            routes::cors::allow(&head.headers, answer.headers_mut());
            return answer;
        }
        let window = self.0.config.dedupe_window;
        let mut answer = match routes::find(&head.method, head.uri.path()) {
            Ok(found) => {
                let answer = match found.operation.endpoint {
                    _ if head.headers.len() > HEADERS_MAX => Err(routes::too_many_headers().into()),
                    // Rare, and large: it must not make every request's future larger.
                    Endpoint::Generate(api) if repeat::may_be_one(&head.headers, window) => {
                        Box::pin(self.generate_once(api, &head, body)).await
                    }
                    Endpoint::Generate(api) => {
                        self.generate(&Call { api, headers: &head.headers, repeat: None }, body).await
                    }
                    _ => Box::pin(routes::answer(&self.0, &found, &head, body, peer))
                        .await
                        .map_err(Refused::from),
                };
                answer.unwrap_or_else(|refused| self.refuse(found.speaks(), &refused))
            }
            Err(missed) => {
                let mut answer = self.refuse(missed.speaks, &missed.error.into());
                if let Some(allow) = missed.allow {
                    answer.headers_mut().insert(header::ALLOW, allow);
                }
                answer
            }
        };
        if head.method == Method::HEAD {
            answer = routes::without_body(answer);
        }
        routes::cors::allow(&head.headers, answer.headers_mut());
        self.0.metrics.answered(answer.status().as_u16());
        answer
    }

    /// The answer to a refused call. One that got no id on its way gets one here, for the log and for whoever asks about
    /// it; there is no receipt under it.
    fn refuse(&self, api: Api, refused: &Refused) -> Response<Body> {
        let mut response = error_answer(api, refused);
        if refused.request.is_none() {
            let request = request_id(self.0.ports.clock.now(), &self.0.ports.entropy.draw());
            let (status, kind) = (response.status().as_u16(), refused.error.kind.as_str());
            tracing::debug!(%request, status, kind, param = refused.error.param.as_deref(), "a call was refused");
            name_call(response.headers_mut(), request);
        }
        response
    }

    /// [`Gateway::generate`], charged once however often it is sent.
    async fn generate_once<B>(&self, api: Api, head: &Parts, body: B) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let shared = &self.0;
        let headers = &head.headers;
        let called = repeat::called(headers, shared.config.dedupe_window)?;
        let grant = admit::admit(&*shared.ports.funds, headers, shared.ports.clock.now())?;
        let body = parse::read(headers, body, BODY_BYTES_MAX, shared.config.timeouts.body).await?;
        let Some(called) = called else {
            return self.generate(&Call { api, headers, repeat: None }, Full::new(body)).await;
        };
        let repeat = Repeat::new(&grant, called, head, &body)?;
        match repeat.find(shared).await? {
            Found::Again(answer) => Ok(answer),
            Found::Lost(first) => Err(repeat.lost(first).into()),
            Found::Nothing => {
                let call = Call { api, headers, repeat: Some(Arc::new(repeat)) };
                let answer = self.generate(&call, Full::new(body)).await;
                let Some(repeat) = call.repeat.filter(|_| is_conflict(&answer)) else { return answer };
                // Its hold may have met the claim of one that was faster by a moment.
                match repeat.find(shared).await? {
                    Found::Again(again) => Ok(again),
                    Found::Lost(first) => Err(repeat.lost(first).into()),
                    Found::Nothing => answer,
                }
            }
        }
    }

    async fn generate<B>(&self, call: &Call<'_>, body: B) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut trace = Some(RequestTrace::begin(&self.0, call.api, call.headers, Instant::now()));
        let answer = self.generation(&mut trace, call, body).await;
        // A stream has taken its trace along.
        if let (Some(trace), Err(refused)) = (&mut trace, &answer) {
            trace.refused(refused.error.kind);
        }
        answer
    }

    /// Leaves the trace where it finds it, but for a stream's, which goes with the stream.
    async fn generation<B>(
        &self,
        trace: &mut Option<RequestTrace>,
        call: &Call<'_>,
        body: B,
    ) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let shared = &self.0;
        if shared.is_closing() {
            return Err(admit::closing().into());
        }
        let grant = admit::admit(&*shared.ports.funds, call.headers, shared.ports.clock.now())?;
        let policy = shared.policies.of(&grant, &*shared.ports.records)?;
        let resolved = resolve::job(shared, call.api, call.headers, body).await?;
        let (mut open, job, route) =
            self.open(trace, call.headers, grant, policy.as_ref(), resolved).map_err(|refused| *refused)?;
        drop(policy);
        let request = open.held.request;
        open.held.claim = call.repeat.as_ref().map(|repeat| Box::new(repeat.claim(request)));
        let refused = |error| Refused { error, request: Some(request), has_receipt: true };
        let span = open.trace.as_ref().map_or_else(Span::none, RequestTrace::span);
        let wanted = Wanted::of(call.headers);
        match dispatch(&mut open, &job, &route, None).instrument(span).await {
            Ok(answer) => {
                if let Some((mut gauge, prices)) = open.counting.take_if(|(gauge, _)| gauge.has_waiting()) {
                    // Large: it must not make the future of every request larger. A buyer that leaves now got nothing
                    // and pays nothing.
                    Box::pin(gauge.count_waiting()).await;
                    open.counting = Some((gauge, prices));
                }
                let answer = Self::answer((open, &mut *trace), job, route, answer, wanted);
                let (response, settled) = answer.map_err(refused)?;
                if let Some(repeat) = &call.repeat {
                    return Box::pin(self.kept(repeat, request, response, settled)).await.map_err(refused);
                }
                if let Some(Settled { ticket, cost }) = settled.filter(|_| self.is_strict()) {
                    let durable = shared.durable.wait(&shared.ports.funds, ticket).await;
                    durable.map_err(|error| refused(unsettled_plain(&error, cost)))?;
                }
                Ok(response)
            }
            Err(error) => {
                // Before it is settled, which takes what it tells away.
                let error = wanted.refusal(error, Some(&open), &job, &route);
                let has_receipt = open.held.is_open();
                open.give_back(if shared.is_past_drain() { Finish::Bourse } else { Finish::NoSeller });
                *trace = open.trace.take();
                Err(Refused { has_receipt, ..refused(error) })
            }
        }
    }

    fn is_strict(&self) -> bool {
        self.0.config.durability == Durability::Strict
    }

    /// An answer that is kept for who asks again, once it and its charge are safe: both are waited for at once.
    async fn kept(
        &self,
        repeat: &Arc<Repeat>,
        request: RequestId,
        response: Response<Body>,
        settled: Option<Settled>,
    ) -> Result<Response<Body>, ApiError> {
        let shared = &self.0;
        let (response, kept) = repeat::keep(shared, repeat, request, response);
        let durable = async {
            match settled.filter(|_| repeat.is_awaited() || self.is_strict()) {
                Some(Settled { ticket, cost }) => {
                    let durable = shared.durable.wait(&shared.ports.funds, ticket).await;
                    durable.map_err(|error| unsettled_plain(&error, cost))
                }
                None => Ok(()),
            }
        };
        let (durable, ()) = tokio::join!(durable, kept);
        durable.map(|()| response)
    }

    /// Plans a job and opens its record. The trace goes along once the plan stands.
    fn open(
        &self,
        trace: &mut Option<RequestTrace>,
        headers: &HeaderMap,
        grant: KeyGrant,
        policy: Option<&Policy>,
        resolved: Resolved,
    ) -> Result<(Open, Job, Route), Box<Refused>> {
        let shared = &self.0;
        let Resolved { job, read, preset, request_hash, requested } = resolved;
        let now = shared.ports.clock.now();
        let random = shared.ports.entropy.draw();
        let request = request_id(now, &random);
        let seed = u64::from_le_bytes(std::array::from_fn(|n| random[16 + n]));
        let refused = |error| Box::new(Refused { error, request: Some(request), has_receipt: false });
        let conversation = Conversation::of(&job, headers, grant.account_digest);
        let own = shared.own_keys.of(&grant, &job);
        let at = (now, seed);
        let route = route(&shared.market, request, &job, (policy, &own), at, conversation.as_ref());
        let mut route = match route {
            Ok(route) => route,
            Err(failed) => return Err(refused(Wanted::of(headers).no_route(*failed, requested, &job))),
        };
        (route.request_hash, route.requested) = (request_hash.map(Box::new), requested);
        let total = DurationMs(u64::try_from(shared.config.timeouts.total.as_millis()).unwrap_or(u64::MAX));
        let held = Held::nothing(request, grant, now.plus(total).plus(HOLD_GRACE));
        let mut draft = Draft::new(&job, &route, now);
        *draft.note = note_of(&job, headers, &route.preferences);
        draft.note.preset = preset.as_deref().and_then(NoteText::clip);
        if let Some(trace) = trace {
            trace.read(read);
            trace.routed(request, &job, conversation.as_ref());
        }
        let started = trace.as_ref().map_or_else(Instant::now, RequestTrace::started);
        let mut open = Open::new(Arc::clone(shared), held, draft, started);
        open.trace = trace.take();
        open.conversation = conversation.map(Box::new);
        open.considered = Some(Considered::of(&route));
        Ok((open, job, route))
    }

    /// The answer, and its settlement, which a stream waits for by itself. A stream keeps the trace, others put it back.
    fn answer(
        (mut open, trace): (Open, &mut Option<RequestTrace>),
        job: Job,
        route: Route,
        answer: Answer,
        wanted: Wanted,
    ) -> Result<(Response<Body>, Option<Settled>), ApiError> {
        open.draft.first_content_ms = Some(open.elapsed_ms());
        let more = wanted.members(&open, &job, &route);
        let is_stream = job.stream;
        let request = open.held.request;
        let mut cost = None;
        let notices = std::mem::take(&mut open.notices);
        let (content_type, body, waits_for) = match answer {
            Answer::Stream(begun) => {
                if let Some(trace) = &mut open.trace {
                    trace.stream_begun();
                }
                let goes_on = job.routing.stream_failure == StreamFailure::Continue;
                let again = goes_on.then(|| Arc::new(Again { job, route }));
                (
                    HeaderValue::from_static("text/event-stream"),
                    Body::relay(Relay::new(open, *begun, more, again)),
                    None,
                )
            }
            Answer::Plain(plain) => {
                let content_type = match &plain.content {
                    PlainContent::Passed(answer) => HeaderValue::try_from(answer.content_type()).ok(),
                    _ => None,
                };
                let json = HeaderValue::from_static("application/json");
                let settled = settle_plain(&mut open, &job, *plain, &more);
                *trace = open.trace.take();
                let (bytes, settled) = settled?;
                cost = HeaderValue::try_from(settled.cost.to_usd_string()).ok();
                (content_type.unwrap_or(json), Body::whole(bytes), Some(settled))
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.reserve(HEADERS_MOSTLY);
        headers.insert(header::CONTENT_TYPE, content_type);
        if is_stream {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        if let Some(cost) = cost {
            headers.insert(COST_HEADER, cost);
        }
        name_request(headers, request);
        tell_notices(headers, &notices);
        Ok((response, waits_for))
    }
}

/// Prices a whole answer, writes its usage, settles.
fn settle_plain(open: &mut Open, job: &Job, plain: Plain, more: &[u8]) -> Result<(Bytes, Settled), ApiError> {
    let api = job.api;
    let is_cut = plain.finish == Finish::Budget;
    let end = if is_cut { StreamEnd::Budget } else { StreamEnd::Complete };
    let bill = open.bill(end).map_err(|_| {
        ApiError::new(ErrorType::Server, "the answer could not be priced; nothing was charged")
    })?;
    let is_byok = open.is_byok();
    // What is shown is what is charged: the market's fee alone where the buyer's own key served. The hash in the
    // receipt is of these bytes, so the fee is told before it is settled.
    let shown = open.shown(&bill);
    let mut usage = Vec::with_capacity(384);
    let bytes = match &plain.content {
        PlainContent::Body(body, view, claim) => {
            let raw = view.chunk.usage.clone().and_then(|span| std::str::from_utf8(body.get(span)?).ok());
            front::push_usage(api, &Billed { is_byok, ..billed(&shown, *claim, raw) }, &mut usage);
            open.draft.upstream_id(view.id(body));
            open.draft.note.reasoning_tokens = claim.map(|claim| TokenCount(claim.reasoning));
            splice_usage(api, std::str::from_utf8(body).unwrap_or_default(), view, &usage, more)
        }
        PlainContent::Passed(answer) => {
            answer.write(job, &Billed { is_byok, ..billed(&shown, answer.tokens_claimed(), None) }, more)
        }
        PlainContent::Answer(head, answer) => {
            let mut out = Vec::with_capacity(1024);
            open.draft.upstream_id(answer.id.as_deref());
            open.draft.note.reasoning_tokens = answer.usage.map(|claim| TokenCount(claim.reasoning));
            let billed = Billed { is_byok, ..billed(&shown, answer.usage, None) };
            front::push_answer(api, head, answer, &billed, more, &mut out);
            Bytes::from(out)
        }
    };
    open.sent_whole(&bytes);
    if is_cut {
        // It says nothing about the seller.
        plain.attempt.end(open.shared.ports.clock.now(), Outcome::Neutral);
    } else {
        open.served(plain.attempt, (plain.whole, plain.whole), plain.tools, &bill);
    }
    let settled = open.settle(&bill, plain.finish);
    let settled = settled.map_err(|error| unsettled_plain(&error, shown.charge.total))?;
    if is_byok && settled.cost != shown.charge.total {
        // Another request used up the allowance in between. The receipt tells the fee and the hash of these bytes.
        tracing::warn!(request = %open.held.request, "an answer tells another fee than was charged");
    }
    Ok((bytes, settled))
}

/// What is told of an answer in one piece whose settlement failed; nothing of such a one is metered before.
fn unsettled_plain(error: &FundsError, cost: NanoUsd) -> ApiError {
    unsettled(if error.leaves_doubt() { cost } else { NanoUsd::ZERO })
}

fn is_conflict(answer: &Result<Response<Body>, Refused>) -> bool {
    answer.as_ref().is_err_and(|refused| refused.error.kind == ErrorType::Conflict)
}

/// The id of a request; the rest of what was drawn seeds its plan.
fn request_id(now: UnixMs, random: &[u8; 32]) -> RequestId {
    RequestId::new(now, std::array::from_fn(|n| random[n]))
}

fn error_answer(api: Api, refused: &Refused) -> Response<Body> {
    let error = &refused.error;
    let mut response = Response::new(Body::whole(front::error_body(api, error)));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in error.details.iter().flat_map(|details| &details.headers) {
        headers.insert(*name, HeaderValue::from(*value));
    }
    let is_final = matches!(error.kind, ErrorType::Conflict | ErrorType::RateLimitExceeded);
    if is_final && error.retry_after_s.is_none()
        || matches!(error.kind, ErrorType::ProviderUnavailable | ErrorType::Timeout)
    {
        headers.insert(SHOULD_RETRY_HEADER, HeaderValue::from_static("false"));
    }
    match refused.request {
        Some(request) if refused.has_receipt => name_request(headers, request),
        Some(request) => name_call(headers, request),
        None => {}
    }
    response
}

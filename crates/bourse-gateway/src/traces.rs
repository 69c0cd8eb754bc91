//! What is told of a request while it runs and when it ends: spans for traces, and the counts that go with them.
//!
//! A [`RequestTrace`] lives from a generation's head to the last byte of its answer, in whatever holds the request then;
//! an [`AttemptTrace`] lives in the attempt's guard. Each ends once, when it is dropped, because nothing else can be
//! relied on: a buyer that goes away drops a future or a body and says nothing. Attributes are those of OpenTelemetry's
//! conventions for generative AI (<https://github.com/open-telemetry/semantic-conventions-genai>, `client-inference`);
//! our own begin with `bourse.`. They are ids, names from the configuration, words and counts: never what a buyer wrote,
//! never a key, never an amount of money.
//!
//! Spans are at level DEBUG under [`SPAN_TARGET`]. While no subscriber wants them, one costs the look at its callsite;
//! nothing is allocated and no attribute is computed.

use crate::conversation::Conversation;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::market::Seller;
use crate::metrics::word_of;
use bourse_market::{Bill, Offer, Outcome, Session};
use bourse_types::{ModelSlug, RequestId, SellerName, Usage};
use bourse_wire::dialect::{Api, Job};
use bourse_wire::error::ErrorType;
use bourse_wire::receipt::Finish;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::field::{Empty, display};
use tracing::{Span, debug_span};

/// The target of all spans that are made for traces.
pub const SPAN_TARGET: &str = "bourse::spans";
/// W3C Trace Context. Its companion `tracestate` and baggage are not passed on: others' words do not travel with us.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Names the conversation of a trace; see [`conversation_id`].
const CONVERSATION_DOMAIN: &[u8] = b"bourse/trace-conversation/1";

/// Carries traces over the borders of this process. Whoever keeps the spans knows their ids.
pub trait TraceContext: Debug + Send + Sync + 'static {
    /// Makes a span that nobody has entered a child of what a `traceparent` names; one that cannot be read is ignored.
    fn adopt(&self, span: &Span, traceparent: &str);
    /// The `traceparent` that names this span; none where it is not kept.
    fn traceparent(&self, span: &Span) -> Option<String>;
}

/// How a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    /// With a whole answer.
    Success,
    /// The buyer went away.
    Cancelled,
    /// Refused: no key, or not with this one.
    Unauthorized,
    /// Refused: there is not enough money.
    Unpaid,
    /// Refused: too many requests.
    Limited,
    /// Refused for anything else that is the buyer's.
    Invalid,
    /// With an error in place of an answer.
    Failed,
    /// With an error after content.
    Broken,
}

impl RequestOutcome {
    pub(crate) const ALL: [Self; 8] = [
        Self::Success,
        Self::Cancelled,
        Self::Unauthorized,
        Self::Unpaid,
        Self::Limited,
        Self::Invalid,
        Self::Failed,
        Self::Broken,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Cancelled => "cancelled",
            Self::Unauthorized => "unauthorized",
            Self::Unpaid => "unpaid",
            Self::Limited => "limited",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
            Self::Broken => "broken",
        }
    }

    fn of_error(kind: ErrorType) -> Self {
        match kind.status() {
            401 | 403 => Self::Unauthorized,
            402 => Self::Unpaid,
            429 => Self::Limited,
            400..500 => Self::Invalid,
            _ => Self::Failed,
        }
    }

    fn of_finish(finish: Finish) -> Self {
        match finish {
            Finish::Stop | Finish::Length | Finish::ToolCalls | Finish::ContentFilter => Self::Success,
            Finish::Cancelled => Self::Cancelled,
            Finish::SellerError | Finish::Budget | Finish::Bourse => Self::Broken,
            Finish::NoSeller => Self::Failed,
        }
    }
}

/// Why a seller is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptReason {
    /// It is the first of the request.
    First,
    /// One before it failed.
    Retry,
    /// One before it seems to have stalled.
    Hedge,
    /// One before it broke off after content.
    Continuation,
}

impl AttemptReason {
    pub(crate) const ALL: [Self; 4] = [Self::First, Self::Retry, Self::Hedge, Self::Continuation];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Hedge => "hedge",
            Self::Continuation => "continuation",
        }
    }
}

/// The word for an API in metrics.
pub(crate) fn front_word(api: Api) -> &'static str {
    match api {
        Api::Chat => "chat",
        Api::Text => "completions",
        Api::Responses => "responses",
        Api::Messages => "messages",
        Api::Embeddings => "embeddings",
        Api::Rerank => "rerank",
        Api::Images => "images",
        Api::Speech => "speech",
        Api::Transcription => "transcription",
    }
}

/// The conventions' word for what an API does; ours where they have none.
fn operation(api: Api) -> &'static str {
    match api {
        Api::Chat | Api::Responses | Api::Messages => "chat",
        Api::Text => "text_completion",
        _ => front_word(api),
    }
}

/// One generation. Whoever drops it without a word tells that the buyer went away.
pub(crate) struct RequestTrace {
    shared: Arc<Shared>,
    span: Span,
    api: Api,
    started: Instant,
    /// When the last byte of the request was there; none once a seller has been asked.
    read: Option<Instant>,
    /// When the first content of a stream was there.
    first_content: Option<Instant>,
    /// Generated tokens that are settled.
    tokens: u64,
    finish: Option<Finish>,
    refused: Option<ErrorType>,
    /// For the span alone; none where nobody wants it. It moves with every request, so it is not to be large.
    told: Option<Box<Told>>,
}

/// What is known of an answer.
#[derive(Default)]
struct Told {
    /// Who answers, and with which model.
    served_by: Option<(SellerName, ModelSlug)>,
    usage: Usage,
}

impl RequestTrace {
    /// Begins with the head of a request.
    pub(crate) fn begin(shared: &Arc<Shared>, api: Api, headers: &HeaderMap, started: Instant) -> Self {
        shared.metrics.requests_begun.add(1);
        let span = request_span(api);
        if let (false, Some(context)) = (span.is_disabled(), &shared.config.traces) {
            let mut parents = headers.get_all(TRACEPARENT).iter();
            if let (Some(parent), None) = (parents.next(), parents.next())
                && let Ok(parent) = parent.to_str()
            {
                context.adopt(&span, parent);
            }
        }
        let told = (!span.is_disabled()).then(Box::default);
        Self {
            shared: Arc::clone(shared),
            span,
            api,
            started,
            read: None,
            first_content: None,
            tokens: 0,
            finish: None,
            refused: None,
            told,
        }
    }

    /// When the head of the request was there.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The span, for what happens on behalf of the request.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The last byte of the request was there at that time.
    pub(crate) fn read(&mut self, at: Instant) {
        self.read = Some(at);
    }

    /// The request has an id and somebody who may serve it, so that the model's name is one of the market's.
    pub(crate) fn routed(&self, request: RequestId, job: &Job, conversation: Option<&Conversation>) {
        let span = &self.span;
        if span.is_disabled() {
            return;
        }
        span.record("otel.name", display(format_args!("{} {}", operation(self.api), job.model)));
        span.record("gen_ai.request.model", job.model.as_str());
        span.record("gen_ai.request.stream", job.stream);
        span.record("gen_ai.response.id", display(&request));
        if let Some(id) = conversation.and_then(conversation_id) {
            span.record("gen_ai.conversation.id", id.as_str());
        }
    }

    /// A seller is asked.
    pub(crate) fn asked(&mut self, at: Instant) {
        if let Some(read) = self.read.take() {
            self.shared.metrics.overhead.observe(at.saturating_duration_since(read));
        }
    }

    /// A seller has answered, or has begun to.
    pub(crate) fn served_by(&mut self, offer: &Offer) {
        if let Some(told) = &mut self.told {
            told.served_by = Some((offer.seller.clone(), offer.model.clone()));
        }
    }

    /// The first content of a stream is there.
    pub(crate) fn stream_begun(&mut self) {
        let now = Instant::now();
        self.shared.metrics.streams_begun.add(1);
        self.shared.metrics.first_content.observe(now.saturating_duration_since(self.started));
        self.first_content = Some(now);
    }

    /// The last part of the answer, mostly all of it, is settled.
    pub(crate) fn settled(&mut self, bill: &Bill, finish: Finish) {
        self.part(bill);
        self.finish = Some(finish);
        let gaps = self.tokens.saturating_sub(1);
        if let (Some(first), 1..) = (self.first_content, gaps) {
            let nanos = u64::try_from(first.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.shared.metrics.output_token.observe(Duration::from_nanos(nanos / gaps));
        }
    }

    /// A part is settled that another seller took up.
    pub(crate) fn part(&mut self, bill: &Bill) {
        self.tokens = self.tokens.saturating_add(bill.usage.completion.0);
        if let Some(told) = &mut self.told {
            // A sum beyond any number of tokens keeps what was known before.
            told.usage = told.usage.plus(&bill.usage).unwrap_or(told.usage);
        }
    }

    /// The buyer reads an error, in place of an answer or as its end.
    pub(crate) fn refused(&mut self, kind: ErrorType) {
        self.refused = Some(kind);
    }

    fn outcome(&self) -> RequestOutcome {
        match (self.refused, self.finish) {
            (Some(_), _) if self.first_content.is_some() => RequestOutcome::Broken,
            (Some(kind), _) => RequestOutcome::of_error(kind),
            (None, Some(finish)) => RequestOutcome::of_finish(finish),
            (None, None) if std::thread::panicking() => RequestOutcome::Failed,
            (None, None) => RequestOutcome::Cancelled,
        }
    }

    fn record(&self, told: &Told, outcome: RequestOutcome) {
        let (span, usage) = (&self.span, &told.usage);
        span.record("bourse.outcome", outcome.as_str());
        let error = match (self.refused, self.finish) {
            (Some(kind), _) => Some(kind.as_str()),
            (None, Some(finish)) if outcome == RequestOutcome::Broken => Some(finish.as_str()),
            _ => None,
        };
        if let Some(error) = error {
            span.record("error.type", error);
        }
        if matches!(outcome, RequestOutcome::Failed | RequestOutcome::Broken) {
            span.record("otel.status_code", "ERROR");
        }
        match (self.refused, told.served_by.is_some()) {
            (Some(kind), _) if self.first_content.is_none() => {
                span.record("http.response.status_code", kind.status());
            }
            (_, true) => _ = span.record("http.response.status_code", 200_u16),
            _ => {}
        }
        if let Some((seller, model)) = &told.served_by {
            span.record("bourse.seller", seller.as_str());
            span.record("gen_ai.response.model", model.as_str());
        }
        if let Some(first) = self.first_content {
            let waited = first.saturating_duration_since(self.started);
            span.record("gen_ai.response.time_to_first_chunk", waited.as_secs_f64());
        }
        let Some(finish) = self.finish else { return };
        span.record("gen_ai.response.finish_reasons", display(format_args!("[\"{}\"]", finish.as_str())));
        span.record("gen_ai.usage.input_tokens", usage.prompt.0);
        span.record("gen_ai.usage.output_tokens", usage.completion.0);
        span.record("gen_ai.usage.cache_read.input_tokens", usage.cached_prompt.0);
        span.record("gen_ai.usage.cache_write.input_tokens", usage.cache_write.0);
    }
}

impl Drop for RequestTrace {
    fn drop(&mut self) {
        let outcome = self.outcome();
        let metrics = &self.shared.metrics;
        metrics.ended(self.api, outcome);
        if self.finish.is_some() {
            metrics.durations.observe(self.started.elapsed());
        }
        if self.first_content.is_some() {
            metrics.streams_ended.add(1);
        }
        if let Some(told) = &self.told {
            self.record(told, outcome);
        }
    }
}

fn request_span(api: Api) -> Span {
    debug_span!(
        target: SPAN_TARGET,
        parent: None,
        "generation",
        otel.kind = "server",
        otel.name = operation(api),
        otel.status_code = Empty,
        "error.type" = Empty,
        "http.request.method" = "POST",
        "http.response.status_code" = Empty,
        "gen_ai.operation.name" = operation(api),
        "gen_ai.provider.name" = "bourse",
        "gen_ai.request.model" = Empty,
        "gen_ai.request.stream" = Empty,
        "gen_ai.conversation.id" = Empty,
        "gen_ai.response.id" = Empty,
        "gen_ai.response.model" = Empty,
        "gen_ai.response.finish_reasons" = Empty,
        "gen_ai.response.time_to_first_chunk" = Empty,
        "gen_ai.usage.input_tokens" = Empty,
        "gen_ai.usage.output_tokens" = Empty,
        "gen_ai.usage.cache_read.input_tokens" = Empty,
        "gen_ai.usage.cache_write.input_tokens" = Empty,
        "bourse.front" = front_word(api),
        "bourse.seller" = Empty,
        "bourse.outcome" = Empty,
    )
}

/// A conversation that its buyer named, as a hash that is the same for no two accounts. One that was guessed from the
/// prompt has no id here: a hash of words lets those be checked who think they know the words.
fn conversation_id(conversation: &Conversation) -> Option<String> {
    if conversation.session != Session::Explicit {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONVERSATION_DOMAIN);
    hasher.update(&conversation.key.account.0);
    hasher.update(&conversation.key.conversation.to_le_bytes());
    Some(hasher.finalize().to_hex()[..32].to_owned())
}

/// One attempt at one seller.
pub(crate) struct AttemptTrace(Span);

impl AttemptTrace {
    /// Begins below the span that is current.
    pub(crate) fn begin(api: Api, offer: &Offer, seller: &Seller, reason: AttemptReason) -> Self {
        let span = debug_span!(
            target: SPAN_TARGET,
            "attempt",
            otel.kind = "client",
            otel.name = Empty,
            otel.status_code = Empty,
            "error.type" = Empty,
            "http.response.status_code" = Empty,
            "gen_ai.operation.name" = operation(api),
            "gen_ai.provider.name" = Empty,
            "gen_ai.request.model" = Empty,
            "server.address" = Empty,
            "server.port" = Empty,
            "bourse.seller" = offer.seller.as_str(),
            "bourse.attempt.reason" = reason.as_str(),
            "bourse.outcome" = Empty,
        );
        if !span.is_disabled() {
            let (model, provider) = match seller {
                Seller::Provider(provider, upstream) => {
                    let (host, port) = provider.address();
                    span.record("server.address", host);
                    span.record("server.port", port);
                    (&*upstream.id, provider.adapter.kind().word)
                }
                Seller::Node(_) => (offer.model.as_str(), "bourse"),
            };
            span.record("otel.name", display(format_args!("{} {model}", operation(api))));
            span.record("gen_ai.provider.name", provider);
            span.record("gen_ai.request.model", model);
        }
        Self(span)
    }

    /// What the seller is told about the trace. Boxed, as every attempt has a place for it.
    pub(crate) fn traceparent(&self, shared: &Shared) -> Option<Box<HeaderValue>> {
        if self.0.is_disabled() {
            return None;
        }
        let value = shared.config.traces.as_ref()?.traceparent(&self.0)?;
        HeaderValue::try_from(value).ok().map(Box::new)
    }

    /// It fails, before content or after. Told before the outcome.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.0.record("error.type", failure.class.as_str());
        self.0.record("otel.status_code", "ERROR");
        if failure.status != 0 {
            self.0.record("http.response.status_code", failure.status);
        }
    }

    /// What the market learns of it. Told once.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        self.0.record("bourse.outcome", word_of(outcome));
        if let Outcome::Success(_) = outcome {
            self.0.record("http.response.status_code", 200_u16);
        }
    }
}

impl Default for AttemptTrace {
    fn default() -> Self {
        Self(Span::none())
    }
}

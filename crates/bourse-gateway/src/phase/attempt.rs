//! One attempt: one seller is asked, and its answer is looked at until it can be trusted to come.
//!
//! An attempt changes nothing but itself: what it counted, left out or was told comes back in [`Won`], so that two
//! can run side by side and the loser leaves no trace in the bill.

mod passed;

use super::gather::{Gathering, Growing};
use crate::config::{ANSWER_BYTES_MAX, ERROR_BYTES_MAX, PEEK_BYTES_MAX, Timeouts};
use crate::deadline;
use crate::failure::{Failure, FailureClass, retry_after};
use crate::gateway::Shared;
use crate::market::Seller;
use crate::node::{JobHandle, NodeHandle};
use crate::provider::{CallBody, Provider, Upstream};
use crate::quality::Watch;
use crate::recount::{Gauge, Recounter, Recounting, read_answer};
use crate::resume::{Resume, SharedWriter};
use crate::source::{NodeSource, Out, Progress, ProviderSource, Source, SourceEnd, claim_of};
use crate::upstream::{Exchange, UpstreamError};
use bourse_market::{Counting, Meter, MeterRules, Offer, Supports, ToolCalls};
use bourse_types::{DurationMs, RequestId};
use bourse_wire::dialect::chat::{Chat, Manner};
use bourse_wire::dialect::grammar::{Billed, Call, EventWriter, Framing, Head, Passage, Shape, Translation};
use bourse_wire::dialect::neutral::{self, Notice, Part, StreamEvent};
use bourse_wire::dialect::passthrough::PassedAnswer;
use bourse_wire::dialect::{Job, PlainView, SellerUsage, StreamFailure};
use bourse_wire::dialect::{front, responses};
use bourse_wire::error::ApiError;
use bourse_wire::json::{JsonError, Walk};
use bourse_wire::node;
use bourse_wire::receipt::{Finish, SignedNodeStatement};
use bytes::Bytes;
use http::{HeaderValue, header, response};
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::Instant;

/// Longest wait for the body of a seller's error answer.
const ERROR_BODY_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What an attempt won.
pub(crate) struct Won {
    pub(crate) content: Content,
    pub(crate) gauge: Gauge,
    pub(crate) ttft: DurationMs,
    /// What was left out of the request.
    pub(crate) notices: Vec<Notice>,
    /// The node's statement, where a whole answer is a node's.
    pub(crate) node: Option<SignedNodeStatement>,
    /// What came of the tool calls of a whole answer.
    pub(crate) tools: ToolCalls,
}

/// The content of an answer.
pub(crate) enum Content {
    /// A whole answer of a hosted API, in the buyer's grammar.
    Body(Bytes, PlainView, Option<SellerUsage>, Finish),
    /// A whole answer that is no conversation.
    Passed(Box<PassedAnswer>),
    /// A whole answer that is written in the buyer's grammar.
    Answer(Head, neutral::Answer, Finish),
    /// A stream that becomes a whole answer.
    Growing(Box<Growing>),
    /// A stream whose first content is there: it, what the buyer has not got yet, and its end if that came too.
    Stream(Source, Out, Option<SourceEnd>),
}

/// One attempt at one seller.
pub(crate) struct Attempt<'a> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) job: &'a Job,
    pub(crate) offer: &'a Offer,
    /// Bounds of what is delivered; how it is counted shows with the answer.
    pub(crate) rules: MeterRules,
    pub(crate) request: RequestId,
    pub(crate) created_s: u64,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Where the events of a stream go that becomes a whole answer; none where the buyer gets the seller's own.
    pub(crate) gathering: Option<Gathering>,
    /// Tokens of a whole answer at most, where the money does not reach further.
    pub(crate) cap: Option<u32>,
    pub(crate) notices: Vec<Notice>,
    /// The answer that this one goes on with.
    pub(crate) resume: Option<&'a Resume>,
    /// What the market counts with, where the model's tokenizer is pinned.
    pub(crate) recounting: Option<Box<Recounting>>,
    /// What the seller is told about the trace.
    pub(crate) traceparent: Option<Box<HeaderValue>>,
}

impl Attempt<'_> {
    /// Asks. Ready with the whole answer, or with the first content of a stream.
    pub(crate) async fn run(self, seller: &Seller) -> Result<Won, Failure> {
        match seller {
            Seller::Provider(provider, upstream) if !self.streams() => {
                self.provider_plain(provider, upstream).await
            }
            seller => self.begin(seller).await,
        }
        .map_err(|failure| seller.without_key(failure))
    }

    /// Whether the seller is asked for a stream.
    fn streams(&self) -> bool {
        self.job.stream || self.gathering.is_some()
    }

    fn won(self, content: Content, gauge: Gauge, node: Option<SignedNodeStatement>) -> Won {
        Won { content, gauge, ttft: self.elapsed(), notices: self.notices, node, tools: ToolCalls::None }
    }

    fn timeouts(&self) -> Timeouts {
        self.shared.config.timeouts
    }

    fn elapsed(&self) -> DurationMs {
        DurationMs(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn meter(&self, counting: Counting) -> Meter {
        Meter::new(MeterRules { counting, ..self.rules })
    }

    /// A meter, with the market's own count beside it where the model's tokenizer is pinned.
    fn gauge(&self, counting: Counting) -> Gauge {
        let recounter = self.recounting.as_ref().map(|with| Recounter::new(with, self.job));
        Gauge::new(self.meter(counting), recounter)
    }

    /// The grammar that a hosted API is spoken to in.
    fn shape(&self, provider: &Provider) -> Result<Shape, Failure> {
        let unserved = || Failure::new(FailureClass::Untranslatable, 0, "it does not serve this endpoint");
        provider.adapter.shape(self.job.api).ok_or_else(unserved)
    }

    /// The body of a call: the buyer's own where both speak the same grammar, and the seller knows all of its words.
    fn body(&mut self, provider: &Provider, shape: Shape, upstream_id: &str) -> Result<CallBody, Failure> {
        let untranslatable = |error| Failure::untranslatable(&error);
        let takes_reasoning = self.offer.supports.contains(Supports::REASONING_REPLAY);
        let gathers = self.gathering.is_some();
        let manner = Manner { chat: provider.adapter.chat(), takes_reasoning, gathers };
        let is_own = shape == self.job.api.shape() && self.resume.is_none();
        // What only chats can say is left to the seller's own judgement.
        let is_odd = shape == Shape::Chat && manner.chat == Chat::Strict && self.job.needs.beyond_openai;
        if is_own && !(is_odd && front::read(self.job).is_ok()) {
            self.notices = self.job.cleaned(manner).into_iter().collect();
            let rebuilt = self.job.rebuild_typed(upstream_id, self.cap, manner);
            let (kind, bytes) = rebuilt.map_err(untranslatable)?;
            let content_type = kind.map(HeaderValue::try_from).transpose();
            let content_type = content_type.map_err(|_| {
                Failure::new(FailureClass::Untranslatable, 0, "the form's boundary is no header")
            })?;
            return Ok(CallBody { bytes, content_type });
        }
        let request = front::read(self.job).map_err(untranslatable)?;
        let mut request = match self.resume {
            Some(resume) => resume.rest_of(request),
            None => request,
        };
        let left_out = if takes_reasoning { None } else { request.leave_out_reasoning() };
        let call = Call { upstream_id, stream: self.streams(), max_tokens: self.cap };
        let written = provider.adapter.dialect(shape).write(&request, &call).map_err(untranslatable)?;
        self.notices = left_out.into_iter().chain(written.notices).collect();
        Ok(CallBody { bytes: written.body, content_type: None })
    }

    /// Calls a hosted API and checks the head of its answer.
    async fn call(
        &mut self,
        provider: &Provider,
        upstream: &Upstream,
        shape: Shape,
        until: Instant,
    ) -> Result<(response::Parts, Exchange), Failure> {
        let mut body = self.body(provider, shape, &upstream.id)?;
        body.bytes = upstream.tiered(shape, body.bytes);
        let connect_within = self.timeouts().connect;
        let how = (shape, self.streams());
        let told = (&body, self.traceparent.as_deref());
        let call = provider.call(&*self.shared.ports.connect, connect_within, upstream, how, told);
        let answered = deadline::by(until, call).await.ok_or_else(|| self.late("answered nothing"))?;
        let (head, mut exchange) = answered.map_err(|error| broken_off(&error, 0))?;
        let status = head.status.as_u16();
        if !head.status.is_success() {
            let body = exchange.collect(ERROR_BYTES_MAX, ERROR_BODY_WITHIN);
            let body =
                deadline::within(ERROR_BODY_WITHIN, body).await.and_then(Result::ok).unwrap_or_default();
            let told = front::dialect(shape).read_error(status, &body);
            let pause = retry_after(&head.headers, self.shared.ports.clock.now());
            return Err(Failure::told(&told, status, pause));
        }
        let encoding = head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if encoding.is_some_and(|e| !e.eq_ignore_ascii_case(b"identity")) {
            return Err(Failure::broken(status, "sent a compressed answer that nobody asked for"));
        }
        Ok((head, exchange))
    }

    fn late(&self, what: &str) -> Failure {
        Failure::new(FailureClass::Timeout, 0, format!("{what} within {} ms", self.elapsed().0))
    }

    async fn provider_plain(mut self, provider: &Provider, upstream: &Upstream) -> Result<Won, Failure> {
        let until = self.deadline.min(self.started + self.timeouts().plain_answer);
        let shape = self.shape(provider)?;
        let (head, mut exchange) = self.call(provider, upstream, shape, until).await?;
        let body =
            deadline::by(self.deadline, exchange.collect(ANSWER_BYTES_MAX, self.timeouts().idle)).await;
        let body =
            body.ok_or_else(|| self.late("no whole answer"))?.map_err(|error| broken_off(&error, 200))?;
        self.whole(shape, &head, body)
    }

    /// An answer that came in one piece.
    fn whole(self, shape: Shape, head: &response::Parts, body: Bytes) -> Result<Won, Failure> {
        if shape != self.job.api.shape() || self.hides_reasoning() {
            return self.translated(shape, &body);
        }
        if self.job.api.is_passed_through() {
            return self.passed(head, body);
        }
        let (view, usage) = read_plain(self.job, &body)?;
        let mut gauge = self.gauge(Counting::Whole);
        let meter = &mut gauge.meter;
        (0..view.chunk.tool_calls).for_each(|_| meter.on_tool_call());
        meter.on_content(view.chunk.content_bytes);
        if view.chunk.usage.is_some() {
            meter.on_claim(claim_of(usage));
        }
        gauge.on_answer(|| read_answer(shape, &body));
        let finish = view.chunk.finish.unwrap_or(Finish::Stop);
        let answer = || read_answer(shape, &body);
        let tools = if finish == Finish::ToolCalls { self.judge(shape, answer) } else { ToolCalls::None };
        let won = self.won(Content::Body(body, view, usage, finish), gauge, None);
        Ok(Won { tools, ..won })
    }

    /// What came of the tool calls of a whole answer.
    fn judge(&self, shape: Shape, answer: impl FnOnce() -> Option<neutral::Answer>) -> ToolCalls {
        let Some(mut watch) = Watch::of(self.job, shape) else { return ToolCalls::None };
        let Some(answer) = answer() else { return ToolCalls::None };
        watch.answer(&answer);
        watch.verdict()
    }

    /// A whole answer in another grammar than the buyer's.
    fn translated(self, shape: Shape, body: &[u8]) -> Result<Won, Failure> {
        let text = utf8(body)?;
        let told = |error| refused_within(shape, body).unwrap_or_else(|| Failure::told(&error, 200, None));
        let mut answer = front::dialect(shape).read_answer(text).map_err(told)?;
        if answer.choices.is_empty() {
            return Err(Failure::broken(200, "sent an answer without choices"));
        }
        // What nobody asked for is not handed on, so neither counted.
        answer.choices.truncate(self.job.choices.max(1) as usize);
        let mut gauge = self.gauge(Counting::Whole);
        gauge.on_answer(|| Some(answer.clone()));
        let meter = &mut gauge.meter;
        let parts = || answer.choices.iter().flat_map(|choice| &choice.parts);
        let is_call = |part: &&Part| matches!(part, Part::ToolCall { .. });
        (0..parts().filter(is_call).count()).for_each(|_| meter.on_tool_call());
        meter.on_content(parts().map(Part::content_bytes).sum());
        if answer.usage.is_some() {
            meter.on_claim(claim_of(answer.usage));
        }
        let finish = answer.choices.iter().rev().find_map(|choice| choice.finish).unwrap_or(Finish::Stop);
        let tools = self.judge(shape, || Some(answer.clone()));
        if self.hides_reasoning() {
            let parts = answer.choices.iter_mut().map(|choice| &mut choice.parts);
            parts.for_each(|parts| parts.retain(|part| !matches!(part, Part::Reasoning { .. })));
        }
        let head = self.head();
        Ok(Won { tools, ..self.won(Content::Answer(head, answer, finish), gauge, None) })
    }

    fn submit(&self, node: &Arc<NodeHandle>) -> Result<JobHandle, Failure> {
        let job = self.job;
        let mut sampling = job.sampling.clone();
        sampling.max_tokens = self.cap.or(sampling.max_tokens);
        let mut nonce = [0; 32];
        match job.seed {
            Some(seed) => nonce[..8].copy_from_slice(&seed.to_le_bytes()),
            None => nonce = self.shared.ports.entropy.draw(),
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        node.submit(node::Job {
            request: self.request,
            model: self.offer.model.clone(),
            prompt: job.node_prompt().map_err(|error| Failure::untranslatable(&error))?,
            sampling,
            choices: job.choices,
            nonce,
            seed_binds_request: job.seed.is_none(),
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn head(&self) -> Head {
        Head {
            id: self.request.to_string(),
            created_s: self.created_s,
            model: self.offer.model.as_str().to_owned(),
            provider: self.offer.seller.as_str().to_owned(),
            echo: responses::echo(self.job),
        }
    }

    /// Whether the buyer of a chat wants to see none of the reasoning that it pays for.
    fn hides_reasoning(&self) -> bool {
        self.job.routing.hides_reasoning
    }

    /// How the stream becomes the buyer's, and the writer that another seller could take over.
    fn passage(&self, shape: Shape) -> (Box<dyn Passage>, Option<SharedWriter>) {
        let (api, head, choices) = (self.job.api, self.head(), self.job.choices.max(1));
        if let Some(gathering) = &self.gathering {
            let reader = front::dialect(shape).reader();
            return (Box::new(Translation::new(reader, Box::new(gathering.clone()), choices)), None);
        }
        if self.job.routing.stream_failure == StreamFailure::Continue {
            let new = || SharedWriter::new(self.writer(&head));
            let writer = self.resume.map_or_else(new, |resume| resume.writer.clone());
            let said = self.resume.map_or_else(String::new, |resume| resume.said.clone());
            let reader = front::dialect(shape).reader();
            let own = Box::new(writer.clone());
            return (Box::new(Translation::recording(reader, own, choices, said)), Some(writer));
        }
        if shape == api.shape() && !self.hides_reasoning() {
            return (front::passage(api, &head), None);
        }
        (Box::new(Translation::new(front::dialect(shape).reader(), self.writer(&head), choices)), None)
    }

    /// The writer of a stream for the buyer.
    fn writer(&self, head: &Head) -> Box<dyn EventWriter> {
        let writer = front::writer(self.job.api, head);
        if self.hides_reasoning() { Box::new(Quiet(writer)) } else { writer }
    }

    /// Starts a stream and reads on until its first content.
    async fn begin(mut self, seller: &Seller) -> Result<Won, Failure> {
        let is_media = self.job.api.is_passed_through();
        let timeouts = self.timeouts();
        // A picture without previews comes in one piece at last.
        let within = if is_media { timeouts.plain_answer } else { timeouts.first_content };
        let until = self.deadline.min(self.started + within);
        let (mut source, counting) = match seller {
            Seller::Provider(provider, upstream) if is_media => {
                // Rare, and large: it must not make every request's future larger.
                let source = Box::pin(self.media(provider, upstream, until)).await?;
                (Source::Provider(Box::new(source)), Counting::PassedStream)
            }
            Seller::Provider(provider, upstream) => {
                let shape = self.shape(provider)?;
                let (head, exchange) = self.call(provider, upstream, shape, until).await?;
                if shape.framing() == Framing::Sse && is_json(&head) {
                    // Rare, and large: it must not make every request's future larger.
                    return Box::pin(self.unstreamed(shape, (head, exchange), until)).await;
                }
                let (passage, writer) = self.passage(shape);
                let mut source = ProviderSource::new(exchange, shape.framing(), passage, self.job.choices);
                source.writer = writer;
                source.watch = Watch::of(self.job, shape);
                (Source::Provider(Box::new(source)), Counting::Streamed)
            }
            Seller::Node(_) if self.resume.is_some() => {
                let why = "a node cannot go on with another seller's answer";
                return Err(Failure::new(FailureClass::Untranslatable, 0, why));
            }
            Seller::Node(node) => {
                let handle = self.submit(node)?;
                let writer: Box<dyn EventWriter> = match &self.gathering {
                    Some(gathering) => Box::new(gathering.clone()),
                    None => front::writer(self.job.api, &self.head()),
                };
                let source = NodeSource::new(handle, self.request, writer, self.job.choices);
                (Source::Node(Box::new(source)), Counting::Exact)
            }
        };
        let mut gauge = match seller {
            _ if is_media => Gauge::new(self.meter(counting), None),
            Seller::Provider(provider, _) => self.gauge(counting).reading(self.shape(provider)?),
            Seller::Node(_) => self.gauge(counting),
        };
        let mut out = Out::default();
        let mut end = None;
        while end.is_none() && !source.has_begun(&gauge.meter) {
            let step = deadline::by(until, poll_fn(|cx| source.poll_step(cx, &mut out, &mut gauge))).await;
            match step.ok_or_else(|| self.late("sent no content"))? {
                Progress::More
                    if self.kept_back(&out) > PEEK_BYTES_MAX && !source.has_begun(&gauge.meter) =>
                {
                    return Err(Failure::broken(200, "sent too much before its first content"));
                }
                Progress::More => {}
                Progress::End(SourceEnd::Failed(failure)) => return Err(failure),
                Progress::End(complete) => end = Some(complete),
            }
        }
        let content = match self.gathering.take() {
            Some(gathering) => {
                let (head, hides_reasoning) = (self.head(), self.hides_reasoning());
                Content::Growing(Box::new(Growing { source, end, gathering, head, hides_reasoning }))
            }
            None => Content::Stream(source, out, end),
        };
        Ok(self.won(content, gauge, None))
    }

    /// Bytes that wait for the first content.
    fn kept_back(&self, out: &Out) -> usize {
        out.len() + self.gathering.as_ref().map_or(0, Gathering::bytes)
    }

    /// An answer in one piece where a stream was asked for: what was wanted in the first place where the stream was to be
    /// gathered, and an error elsewhere. It is covered before it is handed out.
    async fn unstreamed(
        self,
        shape: Shape,
        (head, mut exchange): (response::Parts, Exchange),
        until: Instant,
    ) -> Result<Won, Failure> {
        let is_fine = self.gathering.is_some();
        let (bytes_max, within) = if is_fine {
            (ANSWER_BYTES_MAX, self.timeouts().idle)
        } else {
            (ERROR_BYTES_MAX, ERROR_BODY_WITHIN)
        };
        let body = deadline::by(until, exchange.collect(bytes_max, within)).await;
        let body = body.and_then(Result::ok).unwrap_or_default();
        if is_fine { self.whole(shape, &head, body) } else { Err(answered_whole(shape, &body)) }
    }
}

fn utf8(body: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(body).map_err(|_| Failure::broken(200, "sent an answer that is not UTF-8"))
}

/// Writes everything but reasoning.
struct Quiet(Box<dyn EventWriter>);

impl EventWriter for Quiet {
    fn event(&mut self, event: &StreamEvent<'_>, out: &mut Vec<u8>) {
        if !matches!(event, StreamEvent::Reasoning { .. } | StreamEvent::Signed { .. }) {
            self.0.event(event, out);
        }
    }

    fn end(&mut self, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.0.end(billed, more, out);
    }

    fn fail(&mut self, error: &ApiError, billed: &Billed<'_>, more: &[u8], out: &mut Vec<u8>) {
        self.0.fail(error, billed, more, out);
    }
}

fn is_json(head: &response::Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    kind.get(..JSON_TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(JSON_TYPE))
}

const JSON_TYPE: &[u8] = b"application/json";

/// What a seller said that was asked for a stream and answered in one piece: an error, mostly.
fn answered_whole(shape: Shape, body: &[u8]) -> Failure {
    let odd = || Failure::broken(200, "answered in one piece where a stream was asked for");
    refused_within(shape, body).unwrap_or_else(odd)
}

/// The error in an answer whose status said that all is well.
fn refused_within(shape: Shape, body: &[u8]) -> Option<Failure> {
    let mut is_error = false;
    let mut walk = Walk::new(std::str::from_utf8(body).ok()?);
    let walked = walk.members::<JsonError>(|walk, key| {
        let is_named = walk.text(key) == "error";
        let value = walk.value()?;
        is_error |= is_named && walk.text(value) != "null";
        Ok(())
    });
    let is_refused = walked.is_ok() && is_error;
    is_refused.then(|| Failure::told(&front::dialect(shape).read_error(200, body), 200, None))
}

/// Checks a whole answer and finds the usage in it.
fn read_plain(job: &Job, body: &[u8]) -> Result<(PlainView, Option<SellerUsage>), Failure> {
    let text = utf8(body)?;
    let view =
        front::view(job.api, text).map_err(|_| Failure::broken(200, "sent an answer that is not JSON"))?;
    if view.chunk.error.is_some() || view.chunk.finish_error {
        // The status said that all is well; only the body can say what is not.
        let told = front::dialect(job.api.shape()).read_error(200, body);
        return Err(Failure::told(&told, 200, None));
    }
    if view.chunk.no_choices {
        return Err(Failure::broken(
            200,
            "sent an answer without choices, or with choices of another endpoint",
        ));
    }
    let usage = view.chunk.usage.clone().and_then(|span| front::read_usage(job.api, &text[span]));
    Ok((view, usage))
}

fn broken_off(error: &UpstreamError, status: u16) -> Failure {
    let class = match error {
        UpstreamError::ConnectTimeout(_) | UpstreamError::Idle(_) => FailureClass::Timeout,
        _ => FailureClass::Unavailable,
    };
    Failure::new(class, status, error.to_string())
}

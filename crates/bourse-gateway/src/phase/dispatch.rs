//! Phase 5: the legs of the route are walked under one deadline until one of them answers.
//!
//! A leg that fails before its first content fails in silence: nothing of it reaches the buyer but a
//! line in the list of failures when all legs fail. The first content commits: from then on the stream
//! belongs to the relay. An answer in one piece is whole before anything is sent, so it can fail over to
//! its last byte.

use super::admit;
use super::hold::{HoldError, cover_stream, cover_whole};
use super::plan::{Leg, Route, demand};
use super::settle::Open;
use crate::adapter::error_message;
use crate::config::{ANSWER_BYTES_MAX, ERROR_BYTES_MAX, PEEK_BYTES_MAX, Timeouts};
use crate::deadline;
use crate::failure::{Failure, FailureClass, all_failed, retry_after_s};
use crate::market::{Attempt, Seller};
use crate::node::{JobHandle, NodeEvent, NodeHandle, failure_of};
use crate::provider::Provider;
use crate::source::{
    NodeSource, Out, Progress, ProviderSource, Source, SourceEnd, Verdict, check_statement, claim_of,
    finish_of, on_claim, on_started,
};
use crate::upstream::{Exchange, UpstreamError};
use bourse_market::{Counting, Demand, HoldWindow, Meter, MeterRules, Offer, Outcome};
use bourse_types::{DurationMs, PriceSchedule, UnixMs};
use bourse_wire::dialect::{AnswerHead, ChoiceText, Job, PlainView, SellerUsage, read_usage};
use bourse_wire::error::ApiError;
use bourse_wire::funds::FundsError;
use bourse_wire::node;
use bourse_wire::receipt::Finish;
use bytes::Bytes;
use http::{header, response};
use std::future::poll_fn;
use std::sync::Arc;
use tokio::time::Instant;

/// Longest wait for the body of a seller's error answer.
const ERROR_BODY_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// What a leg answered.
pub(crate) enum Answer {
    /// In one piece.
    Plain(Plain),
    /// A stream whose first content is there.
    Stream(Box<Begun>),
}

/// A whole answer.
pub(crate) struct Plain {
    pub(crate) content: PlainContent,
    pub(crate) finish: Finish,
}

/// The content of a whole answer.
pub(crate) enum PlainContent {
    /// A hosted API's body.
    Body(Bytes, PlainView, Option<SellerUsage>),
    /// A node's choices.
    Choices(AnswerHead, Vec<ChoiceText>),
}

/// A stream that has begun.
pub(crate) struct Begun {
    pub(crate) source: Source,
    pub(crate) window: HoldWindow,
    /// What the buyer has not got yet.
    pub(crate) out: Out,
    pub(crate) attempt: Attempt,
    pub(crate) ttft: DurationMs,
    pub(crate) end: Option<SourceEnd>,
}

/// Why a leg gave no answer.
enum Stop {
    /// It failed; the next leg may do better.
    Failed(Failure),
    /// Nobody can do better.
    Abort(ApiError),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<HoldError> for Stop {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Funds(
                error @ (FundsError::InsufficientFunds { .. } | FundsError::KeyLimit { .. }),
            ) => {
                let reason = admit::refusal(&error).message.into_owned();
                Self::Failed(Failure::new(FailureClass::Unaffordable, 402, reason))
            }
            HoldError::Funds(error) => Self::Abort(admit::refusal(&error)),
            HoldError::Quote(error) => Self::Failed(Failure::broken(0, error.to_string())),
        }
    }
}

/// Everything that one attempt works with.
struct Walk<'a> {
    open: &'a mut Open,
    job: &'a Job,
    offer: &'a Offer,
    demand: Demand<'a>,
    prices: PriceSchedule,
    started: Instant,
    deadline: Instant,
}

/// Walks the route.
pub(crate) async fn dispatch(open: &mut Open, job: &Job, route: &Route) -> Result<Answer, ApiError> {
    let deadline = open.started + open.shared.config.timeouts.total;
    let mut failures = Vec::new();
    let (mut started, mut now) = (Instant::now(), open.draft.created);
    for leg in &route.legs {
        if !failures.is_empty() {
            (started, now) = (Instant::now(), open.shared.ports.clock.now());
        }
        if started >= deadline {
            break;
        }
        let Some((offer, seller)) = leg.book.seller(leg.index) else { continue };
        match attempt(open, job, route, leg, (offer, seller), (started, now, deadline)).await {
            Ok(answer) => return Ok(answer),
            Err(Stop::Abort(error)) => return Err(error),
            Err(Stop::Failed(failure)) => {
                open.shared.metrics.attempt_failures.add(1);
                tracing::debug!(request = %open.held.request, seller = %offer.seller, ?failure, "attempt failed");
                let is_final = failure.class == FailureClass::BadRequest;
                failures.push((offer.seller.as_str().to_owned(), failure));
                if is_final {
                    break;
                }
            }
        }
    }
    Err(all_failed(&failures))
}

async fn attempt(
    open: &mut Open,
    job: &Job,
    route: &Route,
    leg: &Leg,
    (offer, seller): (&Offer, &Seller),
    (started, now, deadline): (Instant, UnixMs, Instant),
) -> Result<Answer, Stop> {
    let prices = offer.prices.ok_or_else(|| Failure::broken(0, "its price is not known"))?;
    let demand = demand(job, leg.model.as_str(), &route.preferences);
    let market = Arc::clone(&open.shared.market);
    let mut walk = Walk { open, job, offer, demand, prices, started, deadline };
    let (window, cap) = walk.cover(now)?;
    let attempt = market.start(&leg.book, leg.index);
    let answer = match (seller, window) {
        (Seller::Provider(provider, id), None) => {
            walk.provider_plain(provider, id, cap).await.map(Answer::Plain)
        }
        (Seller::Node(node), None) => walk.node_plain(node, cap).await.map(Answer::Plain),
        (seller, Some(window)) => match walk.begin(seller).await {
            Ok((source, out, end)) => {
                let ttft = walk.elapsed();
                walk.record(200);
                let begun = Begun { source, window, out, attempt, ttft, end };
                return Ok(Answer::Stream(Box::new(begun)));
            }
            Err(failure) => Err(failure),
        },
    };
    let now = walk.open.shared.ports.clock.now();
    match answer {
        Ok(answer) => {
            attempt.end(now, Outcome::success(walk.elapsed()));
            walk.record(200);
            Ok(answer)
        }
        Err(failure) => {
            attempt.end(now, failure.outcome());
            walk.open.counting = None;
            walk.open.draft.node = None;
            walk.open.draft.attempt(&offer.seller, failure.status);
            Err(failure.into())
        }
    }
}

impl Walk<'_> {
    fn timeouts(&self) -> Timeouts {
        self.open.shared.config.timeouts
    }

    fn elapsed(&self) -> DurationMs {
        DurationMs(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Holds the money: a window for a stream, or a cap for an answer in one piece.
    fn cover(&mut self, now: UnixMs) -> Result<(Option<HoldWindow>, Option<u32>), HoldError> {
        let shared = Arc::clone(&self.open.shared);
        let funds = &*shared.ports.funds;
        let held = &mut self.open.held;
        if self.job.stream {
            return Ok((Some(cover_stream(held, funds, self.offer, &self.demand, now)?), None));
        }
        Ok((None, cover_whole(held, funds, self.offer, &self.demand, now)?))
    }

    /// Notes who answers.
    fn record(&mut self, status: u16) {
        self.open.draft.attempt(&self.offer.seller, status);
        self.open.draft.seller = Some(self.offer.seller.clone());
    }

    fn meter(&self, counting: Counting) -> Meter {
        Meter::new(MeterRules::new(self.offer, &self.demand, counting))
    }

    /// Calls a hosted API and checks the head of its answer.
    async fn call(
        &self,
        provider: &Provider,
        upstream_id: &str,
        cap: Option<u32>,
        until: Instant,
    ) -> Result<Exchange, Failure> {
        let shared = &self.open.shared;
        let connect_within = self.timeouts().connect;
        let call = provider.call(&*shared.ports.connect, connect_within, self.job, upstream_id, cap);
        let answered = deadline::by(until, call).await.ok_or_else(|| self.late("answered nothing"))?;
        let (head, mut exchange) = answered.map_err(|error| broken_off(&error, 0))?;
        let status = head.status.as_u16();
        if !head.status.is_success() {
            let body = exchange.collect(ERROR_BYTES_MAX, ERROR_BODY_WITHIN);
            let body =
                deadline::within(ERROR_BODY_WITHIN, body).await.and_then(Result::ok).unwrap_or_default();
            return Err(provider.adapter.refusal(status, self.retry_after(&head), &body));
        }
        let encoding = head.headers.get(header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
        if encoding.is_some_and(|e| !e.eq_ignore_ascii_case(b"identity")) {
            return Err(Failure::broken(status, "sent a compressed answer that nobody asked for"));
        }
        Ok(exchange)
    }

    fn retry_after(&self, head: &response::Parts) -> Option<u64> {
        let value = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        retry_after_s(value, self.open.shared.ports.clock.now().0 / 1_000)
    }

    fn late(&self, what: &str) -> Failure {
        Failure::new(FailureClass::Timeout, 0, format!("{what} within {} ms", self.elapsed().0))
    }

    async fn provider_plain(
        &mut self,
        provider: &Provider,
        upstream_id: &str,
        cap: Option<u32>,
    ) -> Result<Plain, Failure> {
        let until = self.deadline.min(self.started + self.timeouts().plain_answer);
        let mut exchange = self.call(provider, upstream_id, cap, until).await?;
        let body =
            deadline::by(self.deadline, exchange.collect(ANSWER_BYTES_MAX, self.timeouts().idle)).await;
        let body =
            body.ok_or_else(|| self.late("no whole answer"))?.map_err(|error| broken_off(&error, 200))?;
        let (view, usage) = read_plain(self.job, &body)?;
        let mut meter = self.meter(Counting::Whole);
        (0..view.chunk.tool_calls).for_each(|_| meter.on_tool_call());
        meter.on_content(view.chunk.content_bytes);
        if view.chunk.usage.is_some() {
            meter.on_claim(claim_of(usage));
        }
        self.open.counting = Some((meter, self.prices));
        let finish = view.chunk.finish.unwrap_or(Finish::Stop);
        Ok(Plain { content: PlainContent::Body(body, view, usage), finish })
    }

    fn submit(&self, node: &Arc<NodeHandle>, cap: Option<u32>) -> Result<JobHandle, Failure> {
        let job = self.job;
        let mut sampling = job.sampling.clone();
        sampling.max_tokens = cap.or(sampling.max_tokens);
        let mut nonce = [0; 32];
        match job.seed {
            Some(seed) => nonce[..8].copy_from_slice(&seed.to_le_bytes()),
            None => nonce = self.open.shared.ports.entropy.draw(),
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        node.submit(node::Job {
            request: self.open.held.request,
            model: self.offer.model.clone(),
            prompt: job.node_prompt(),
            sampling,
            choices: job.choices,
            nonce,
            seed_binds_request: job.seed.is_none(),
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn head(&self) -> AnswerHead {
        let id = self.open.held.request.to_string();
        let created_s = self.open.draft.created.0 / 1_000;
        let (model, seller) = (self.offer.model.as_str(), self.offer.seller.as_str());
        AnswerHead::ours(self.job.api, self.job.stream, &id, created_s, model, seller)
    }

    async fn node_plain(&mut self, node: &Arc<NodeHandle>, cap: Option<u32>) -> Result<Plain, Failure> {
        let handle = self.submit(node, cap)?;
        let mut meter = self.meter(Counting::Exact);
        let mut choices = vec![ChoiceText::default(); self.job.choices as usize];
        let mut until = self.deadline.min(self.started + self.timeouts().first_content);
        loop {
            let event = deadline::by(until, poll_fn(|cx| handle.poll_event(cx))).await;
            until = self.deadline.min(Instant::now() + self.timeouts().idle);
            match event.ok_or_else(|| self.late("no whole answer"))? {
                NodeEvent::Started(started) => on_started(&started, &mut meter),
                NodeEvent::Delta(delta) => {
                    let choice = choices.get_mut(delta.choice as usize);
                    let choice = choice.ok_or_else(|| {
                        Failure::broken(200, "answered for a choice that was not asked for")
                    })?;
                    meter.on_tokens(u64::from(delta.tokens), delta.text.len() as u64);
                    choice.add(&delta.text, delta.logprobs_json.as_deref());
                    choice.finish = delta.finish.map(finish_of).or(choice.finish);
                }
                NodeEvent::Done(done) => {
                    if let Verdict::Refused(why) = check_statement(&done, node.node, self.open.held.request) {
                        return Err(Failure::broken(200, why));
                    }
                    on_claim(&done, &mut meter);
                    let finish = choices.last().and_then(|c| c.finish);
                    let finish = finish
                        .ok_or_else(|| Failure::broken(200, "ended the job without a finish reason"))?;
                    self.open.draft.node = Some(done.statement);
                    self.open.counting = Some((meter, self.prices));
                    return Ok(Plain { content: PlainContent::Choices(self.head(), choices), finish });
                }
                NodeEvent::Failed(failed) => return Err(failure_of(&failed)),
                NodeEvent::Lost => return Err(Failure::broken(0, "its link was lost")),
                NodeEvent::Overflow => return Err(Failure::broken(0, "its answer outran the market")),
            }
        }
    }

    /// Starts a stream and reads on until its first content.
    async fn begin(&mut self, seller: &Seller) -> Result<(Source, Out, Option<SourceEnd>), Failure> {
        let until = self.deadline.min(self.started + self.timeouts().first_content);
        let (mut source, counting) = match seller {
            Seller::Provider(provider, id) => {
                let exchange = self.call(provider, id, None, until).await?;
                let source = ProviderSource::new(exchange, self.job.api, self.job.choices);
                (Source::Provider(Box::new(source)), Counting::Streamed)
            }
            Seller::Node(node) => {
                let handle = self.submit(node, None)?;
                let request = self.open.held.request;
                let source = NodeSource::new(handle, request, self.head(), self.job.choices);
                (Source::Node(Box::new(source)), Counting::Exact)
            }
        };
        let mut meter = self.meter(counting);
        let mut out = Out::default();
        let mut end = None;
        while end.is_none() && !source.has_begun(&meter) {
            let step = deadline::by(until, poll_fn(|cx| source.poll_step(cx, &mut out, &mut meter))).await;
            match step.ok_or_else(|| self.late("sent no content"))? {
                Progress::More if out.len() > PEEK_BYTES_MAX => {
                    return Err(Failure::broken(200, "sent too much before its first content"));
                }
                Progress::More => {}
                Progress::End(SourceEnd::Failed(failure)) => return Err(failure),
                Progress::End(complete) => end = Some(complete),
            }
        }
        self.open.counting = Some((meter, self.prices));
        Ok((source, out, end))
    }
}

/// Checks a whole answer and finds the usage in it.
fn read_plain(job: &Job, body: &[u8]) -> Result<(PlainView, Option<SellerUsage>), Failure> {
    let text =
        std::str::from_utf8(body).map_err(|_| Failure::broken(200, "sent an answer that is not UTF-8"))?;
    let view = PlainView::read(job.api, text)
        .map_err(|_| Failure::broken(200, "sent an answer that is not JSON"))?;
    if view.chunk.error.is_some() || view.chunk.finish_error {
        let reason = error_message(body).unwrap_or_else(|| "answered with an error".to_owned());
        return Err(Failure::broken(200, reason));
    }
    if view.chunk.no_choices {
        return Err(Failure::broken(200, "sent an answer without choices"));
    }
    let usage = view.chunk.usage.clone().and_then(|span| read_usage(&text[span]));
    Ok((view, usage))
}

fn broken_off(error: &UpstreamError, status: u16) -> Failure {
    let class = match error {
        UpstreamError::ConnectTimeout(_) | UpstreamError::Idle(_) => FailureClass::Timeout,
        _ => FailureClass::Unavailable,
    };
    Failure::new(class, status, error.to_string())
}

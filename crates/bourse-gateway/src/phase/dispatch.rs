//! Phase 5: the legs of the route are walked under one deadline until one of them answers.
//!
//! A leg that fails before its first content fails in silence: nothing of it reaches the buyer but a
//! line in the list of failures when all legs fail. The first content commits: from then on the stream
//! belongs to the relay. An answer in one piece is whole before anything is sent, so it can fail over to
//! its last byte.
//!
//! **Hedging.** A stream whose first content is later than its seller's usually is is suspected to
//! have stalled. Within the hedging budget the next leg is asked beside it; the first content wins, the other attempt is
//! cancelled, and the buyer pays the winner alone. Whole answers are not hedged: nobody sees them stall.

use super::admit;
use super::attempt::{Attempt, Content, Won};
use super::gather::{Gathering, Whole, gather, secure};
use super::hold::{HoldError, cover_stream, cover_whole};
use super::plan::{Leg, Route};
use super::settle::Open;
use super::wishes::demand;
use crate::deadline;
use crate::failure::{Failure, FailureClass, all_failed};
use crate::gateway::Shared;
use crate::market::{self, Seller};
use crate::recount::{Prompts, Recounting};
use crate::resume::Resume;
use crate::source::{Out, Source, SourceEnd};
use crate::traces::{AttemptReason, AttemptTrace};
use bourse_market::{Counting, Demand, Free, HoldWindow, MeterRules, Offer, Outcome, ToolCalls};
use bourse_types::{DurationMs, ModelSlug, PriceSchedule, UnixMs};
use bourse_wire::dialect::grammar::Head;
use bourse_wire::dialect::passthrough::PassedAnswer;
use bourse_wire::dialect::{Api, Job, PlainView, SellerUsage, neutral};
use bourse_wire::error::ApiError;
use bourse_wire::funds::FundsError;
use bourse_wire::receipt::Finish;
use bytes::Bytes;
use pin_project_lite::pin_project;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The status under which an attempt is recorded that lost to the one beside it.
const HEDGED_STATUS: u16 = 0;

/// What a leg answered.
pub(crate) enum Answer {
    /// In one piece.
    Plain(Box<Plain>),
    /// A stream whose first content is there.
    Stream(Box<Begun>),
}

/// A whole answer.
pub(crate) struct Plain {
    pub(crate) content: PlainContent,
    pub(crate) finish: Finish,
    pub(crate) attempt: market::Attempt,
    /// How long the whole answer took.
    pub(crate) whole: DurationMs,
    /// What came of its tool calls.
    pub(crate) tools: ToolCalls,
}

/// The content of a whole answer.
pub(crate) enum PlainContent {
    /// A hosted API's body, in the buyer's grammar.
    Body(Bytes, PlainView, Option<SellerUsage>),
    /// An answer that is no conversation.
    Passed(Box<PassedAnswer>),
    /// An answer that is written in the buyer's grammar.
    Answer(Head, neutral::Answer),
}

/// A stream that has begun.
pub(crate) struct Begun {
    pub(crate) source: Source,
    pub(crate) window: HoldWindow,
    /// What the buyer has not got yet.
    pub(crate) out: Out,
    pub(crate) attempt: market::Attempt,
    pub(crate) ttft: DurationMs,
    /// When the seller was asked.
    pub(crate) asked: Instant,
    pub(crate) end: Option<SourceEnd>,
    /// The first leg that was not asked.
    pub(crate) next_leg: usize,
}

/// Why a leg gave no answer.
pub(super) enum Stop {
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
                error @ (FundsError::InsufficientFunds { .. } | FundsError::OverBudget { .. }),
            ) => Self::Failed(Failure::unaffordable(admit::refusal(&error))),
            HoldError::Funds(error) => Self::Abort(admit::refusal(&error)),
            HoldError::Quote(error) => Self::Failed(Failure::broken(0, error.to_string())),
        }
    }
}

/// A leg that is being asked.
struct Running<'a> {
    leg: &'a Leg,
    offer: &'a Offer,
    prices: PriceSchedule,
    /// Apart, so that it does not make every request's future larger.
    window: Option<Box<HoldWindow>>,
    guard: market::Attempt,
    /// When it was asked.
    asked: Instant,
    now: UnixMs,
}

/// A leg that is about to be asked.
struct Start<'a> {
    running: Running<'a>,
    attempt: Attempt<'a>,
    seller: &'a Seller,
}

/// The legs of one request, and how far they were walked.
struct Legs<'a> {
    open: &'a mut Open,
    job: &'a Job,
    route: &'a Route,
    resume: Option<&'a Resume>,
    deadline: Instant,
    /// What the market counted of the prompt.
    counted: Prompts,
    next: usize,
    failures: Vec<(String, Failure)>,
}

fn elapsed_ms(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// Walks the route, until the market closes over it.
pub(crate) fn dispatch<'a>(
    open: &'a mut Open,
    job: &'a Job,
    route: &'a Route,
    resume: Option<(&'a Resume, usize)>,
) -> impl Future<Output = Result<Answer, ApiError>> + 'a {
    UntilDrained { shared: Arc::clone(&open.shared), walk: walk(open, job, route, resume) }
}

pin_project! {
    /// A walk that ends with the drain. The connection is woken then, and whoever waits is told.
    struct UntilDrained<F> {
        shared: Arc<Shared>,
        #[pin]
        walk: F,
    }
}

impl<F: Future<Output = Result<Answer, ApiError>>> Future for UntilDrained<F> {
    type Output = Result<Answer, ApiError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.shared.is_past_drain() {
            return Poll::Ready(Err(admit::closing()));
        }
        this.walk.poll(cx)
    }
}

async fn walk(
    open: &mut Open,
    job: &Job,
    route: &Route,
    resume: Option<(&Resume, usize)>,
) -> Result<Answer, ApiError> {
    let deadline = open.deadline;
    let recounts = &open.shared.recounts;
    let counted = if recounts.counts(job) {
        // Large: it must not make the future of every request larger.
        Box::pin(recounts.prompts(job, route, open.draft.created)).await
    } else {
        Prompts::default()
    };
    let (resume, next) = resume.map_or((None, 0), |(resume, next)| (Some(resume), next));
    let mut legs = Legs { open, job, route, resume, deadline, counted, next, failures: Vec::new() };
    loop {
        let Some(start) = legs.start(legs.reason())? else { return Err(all_failed(&legs.failures)) };
        if let Some(answer) = legs.ask(start).await? {
            return Ok(answer);
        }
    }
}

impl<'a> Legs<'a> {
    /// Why the next leg is asked, where none is being asked.
    fn reason(&self) -> AttemptReason {
        match (self.failures.is_empty(), self.resume) {
            (false, _) => AttemptReason::Retry,
            (true, Some(_)) => AttemptReason::Continuation,
            (true, None) => AttemptReason::First,
        }
    }

    /// Covers the next leg that can be covered and notes that it is asked. None when no leg is left.
    fn start(&mut self, reason: AttemptReason) -> Result<Option<Start<'a>>, ApiError> {
        loop {
            let is_final = self.failures.last().is_some_and(|(_, f)| f.class == FailureClass::BadRequest);
            let Some(leg) = self.route.legs.get(self.next).filter(|_| !is_final) else { return Ok(None) };
            let started = Instant::now();
            if started >= self.deadline {
                return Ok(None);
            }
            let is_first = self.failures.is_empty() && self.resume.is_none();
            self.next += 1;
            let Some((offer, pooled)) = leg.book.seller(leg.index) else { continue };
            if self.resume.is_some_and(|resume| !resume.may_go_on_at(offer)) {
                continue;
            }
            let seller = leg.own.as_ref().unwrap_or(pooled);
            self.open.held.fee_bps = leg.own.as_ref().map(|_| self.open.shared.config.byok_fee_bps);
            let now = if is_first { self.open.draft.created } else { self.open.shared.ports.clock.now() };
            let mut demand = demand(self.job, leg.model.as_str(), &self.route.preferences);
            let recounting = self.recounting(&leg.model);
            demand.prompt_tokens_max = recounting.as_ref().and_then(|with| with.prompt_allowed());
            if let Some(resume) = self.resume {
                demand.prompt_bytes += resume.said.len() as u64;
                demand.max_tokens = self.job.max_tokens.map(|max| u64::from(resume.left_of(max)));
            }
            let covered = offer.prices.ok_or_else(|| Failure::broken(0, "its price is not known").into());
            let covered = covered.and_then(|prices| Ok((prices, self.cover((offer, seller), &demand, now)?)));
            let (prices, (window, cap)) = match covered {
                Ok(covered) => covered,
                Err(Stop::Abort(error)) => return Err(error),
                Err(Stop::Failed(failure)) => {
                    self.failed(offer, failure);
                    continue;
                }
            };
            let mut guard = self.open.shared.market.start(&leg.book, leg.index);
            guard.own.clone_from(&leg.own);
            guard.carry(self.route.prompt.as_ref(), now);
            guard.trace = AttemptTrace::begin(self.job.api, offer, seller, reason);
            self.open.shared.metrics.asked(reason);
            if let Some(trace) = &mut self.open.trace {
                trace.asked(started);
            }
            let attempt = Attempt {
                shared: Arc::clone(&self.open.shared),
                job: self.job,
                offer,
                rules: MeterRules::new(offer, &demand, Counting::Streamed),
                request: self.open.held.request,
                created_s: self.open.draft.created.0 / 1_000,
                started,
                deadline: self.deadline,
                gathering: (window.is_some() && !self.job.stream).then(Gathering::default),
                cap,
                notices: Vec::new(),
                resume: self.resume,
                recounting,
                traceparent: guard.trace.traceparent(&self.open.shared),
            };
            return Ok(Some(Start {
                running: Running { leg, offer, prices, window, guard, asked: started, now },
                attempt,
                seller,
            }));
        }
    }

    /// What the leg's model is counted with. What was said before is text of the prompt to whoever goes on.
    fn recounting(&self, model: &ModelSlug) -> Option<Box<Recounting>> {
        let tokenizer = self.open.shared.recounts.of(model).filter(|_| !self.job.api.is_passed_through())?;
        let said = self.resume.map_or(0, |resume| resume.said.len() as u64);
        let prompt = self.counted.of(model).map(|counted| counted.and_at_most(said));
        Some(Box::new(Recounting { tokenizer: Arc::clone(tokenizer), prompt }))
    }

    /// Why all that the leg's answer may cost is held at once; none where the hold grows with it.
    fn whole(&self, offer: &Offer, seller: &Seller, demand: &Demand<'_>) -> Result<Option<Whole>, HoldError> {
        if let Some(whole) = Whole::of(offer, demand) {
            return Ok(Some(whole));
        }
        let Seller::Provider(provider, _) = seller else { return Ok(None) };
        if self.job.stream {
            return Ok(None);
        }
        let shape = provider.adapter.shape(self.job.api).filter(|shape| shape.dialect().is_some());
        let is_own = shape == Some(self.job.api.shape());
        if !provider.gathers || shape.is_none() || is_own && self.job.api != Api::Chat {
            return Ok(Some(Whole::Seller));
        }
        if is_own && !self.job.streams_say_all() {
            return Ok(Some(Whole::Request));
        }
        Ok(Whole::is_small(offer, demand)?.then_some(Whole::Small))
    }

    /// Holds the money: a window for an answer that is seen to grow, or a cap for one in one piece.
    fn cover(
        &mut self,
        (offer, seller): (&Offer, &Seller),
        demand: &Demand<'_>,
        now: UnixMs,
    ) -> Result<(Option<Box<HoldWindow>>, Option<u32>), HoldError> {
        let shared = Arc::clone(&self.open.shared);
        let funds = &*shared.ports.funds;
        self.open.whole = self.whole(offer, seller, demand)?;
        let grows = self.job.stream || self.open.whole.is_none();
        let held = &mut self.open.held;
        if grows {
            return Ok((Some(Box::new(cover_stream(held, funds, offer, demand, now)?)), None));
        }
        Ok((None, cover_whole(held, funds, offer, demand, now)?))
    }

    /// Asks a leg, and one more beside it when it stalls. None when they failed.
    async fn ask(&mut self, start: Start<'a>) -> Result<Option<Answer>, ApiError> {
        let Start { mut running, attempt, seller } = start;
        let market = Arc::clone(&self.open.shared.market);
        let stall = if self.job.stream {
            market.stall_after(&running.leg.book, running.leg.index, running.now)
        } else {
            None
        };
        let suspect_at = attempt.started + stall.unwrap_or_default();
        let mut first = pin!(attempt.run(seller));
        if stall.is_none() {
            // Large: it must not make every request's future larger.
            let gathered = match first.await {
                Ok(won) if matches!(won.content, Content::Growing(_)) => {
                    Box::pin(self.gathered(running, won))
                }
                Ok(won) => {
                    let secured = self.secured(&mut running, &won);
                    return self.end(running, secured.map(|()| won));
                }
                Err(failure) => return Ok(self.finish(running, Err(failure))),
            };
            return gathered.await;
        }
        if let Some(result) = deadline::by(suspect_at, first.as_mut()).await {
            return Ok(self.finish(running, result));
        }
        if market.may_hedge()
            && let Some(second) = self.start(AttemptReason::Hedge)?
        {
            // Rare, and large: it must not make every request's future larger.
            return Ok(Box::pin(self.race(running, first, second)).await);
        }
        let result = first.await;
        Ok(self.finish(running, result))
    }

    /// [`Legs::finish`] with an answer that began as a stream and is wanted in one piece, once it is whole.
    async fn gathered(&mut self, mut running: Running<'a>, mut won: Won) -> Result<Option<Answer>, ApiError> {
        let nothing = Content::Answer(Head::default(), neutral::Answer::default(), Finish::Stop);
        let (Content::Growing(growing), Some(window)) =
            (std::mem::replace(&mut won.content, nothing), &mut running.window)
        else {
            unreachable!("what grows is covered by a window")
        };
        let gathered = gather(self.open, window, (won, growing), running.asked).await;
        self.end(running, gathered)
    }

    /// Covers what came whole where it was to grow; all else is covered.
    fn secured(&mut self, running: &mut Running<'a>, won: &Won) -> Result<(), Stop> {
        match &mut running.window {
            Some(window) if !self.job.stream => secure(self.open, window, won),
            _ => Ok(()),
        }
    }

    /// [`Legs::finish`], unless nobody can do better.
    fn end(&mut self, running: Running<'a>, result: Result<Won, Stop>) -> Result<Option<Answer>, ApiError> {
        match result {
            Ok(won) => Ok(self.finish(running, Ok(won))),
            Err(Stop::Failed(failure)) => {
                let failure = running.guard.without_key(failure);
                Ok(self.finish(running, Err(failure)))
            }
            Err(Stop::Abort(error)) => Err(error),
        }
    }

    /// Waits for the first of two legs that answers.
    async fn race(
        &mut self,
        first_leg: Running<'a>,
        mut first: Pin<&mut impl Future<Output = Result<Won, Failure>>>,
        second: Start<'a>,
    ) -> Option<Answer> {
        let Start { running: second_leg, attempt, seller } = second;
        let mut second = Box::pin(attempt.run(seller));
        let (is_first, result) = poll_fn(|cx| {
            if let Poll::Ready(result) = first.as_mut().poll(cx) {
                return Poll::Ready((true, result));
            }
            second.as_mut().poll(cx).map(|result| (false, result))
        })
        .await;
        let (ended, other) = if is_first { (first_leg, second_leg) } else { (second_leg, first_leg) };
        if result.is_ok() {
            self.open.shared.metrics.hedges_won.add(u64::from(!is_first));
            // The other is cancelled with its future; who was slow is told, and who was asked stands in the receipt, before
            // the one that is paid.
            let outcome = if is_first { Outcome::Neutral } else { Outcome::Failure };
            other.guard.end(self.open.shared.ports.clock.now(), outcome);
            let asked = (elapsed_ms(other.asked), other.leg.own.is_some());
            self.open.draft.attempt(&other.offer.seller, HEDGED_STATUS, asked);
            if let Some(considered) = &mut self.open.considered {
                considered.hedge_won = Some(!is_first);
            }
            return self.finish(ended, result);
        }
        self.finish(ended, result);
        let result = if is_first { second.await } else { first.await };
        self.finish(other, result)
    }

    /// Takes an attempt's result: the answer, or one more failure.
    fn finish(&mut self, running: Running<'a>, result: Result<Won, Failure>) -> Option<Answer> {
        let Running { leg, offer, prices, window, guard, asked, .. } = running;
        match result {
            Ok(won) => {
                self.open.held.fee_bps = leg.own.as_ref().map(|_| self.open.shared.config.byok_fee_bps);
                self.open.draft.attempt(&offer.seller, 200, (elapsed_ms(asked), leg.own.is_some()));
                self.open.draft.seller = Some(offer.seller.clone());
                self.open.draft.node = won.node;
                self.open.notices = won.notices;
                if let Some(trace) = &mut self.open.trace {
                    trace.served_by(offer);
                }
                self.open.counting = Some((won.gauge, prices));
                // The buyer's own key at the seller has the seller's own terms.
                self.open.free = if leg.own.is_none() { offer.free } else { Free::No };
                Some(self.answer(won.content, (asked, won.ttft), won.tools, window, guard))
            }
            Err(failure) => {
                guard.trace.failed(&failure);
                // What a seller holds against the buyer's key says nothing about the offer.
                let is_keys = leg.own.is_some() && matches!(failure.status, 401 | 402 | 403 | 429);
                let outcome = if is_keys { Outcome::Neutral } else { failure.outcome() };
                guard.end(self.open.shared.ports.clock.now(), outcome);
                self.open.draft.attempt(
                    &offer.seller,
                    failure.status,
                    (elapsed_ms(asked), leg.own.is_some()),
                );
                self.failed(offer, failure);
                None
            }
        }
    }

    fn answer(
        &self,
        content: Content,
        (asked, ttft): (Instant, DurationMs),
        tools: ToolCalls,
        window: Option<Box<HoldWindow>>,
        guard: market::Attempt,
    ) -> Answer {
        let (content, finish) = match (content, window) {
            (Content::Stream(source, out, end), Some(window)) => {
                let next_leg = self.next;
                let attempt = guard;
                return Answer::Stream(Box::new(Begun {
                    source,
                    window: *window,
                    out,
                    attempt,
                    ttft,
                    asked,
                    end,
                    next_leg,
                }));
            }
            (Content::Body(body, view, claim, finish), _) => (PlainContent::Body(body, view, claim), finish),
            (Content::Passed(answer), _) => (PlainContent::Passed(answer), Finish::Stop),
            (Content::Answer(head, answer, finish), _) => (PlainContent::Answer(head, answer), finish),
            (Content::Stream(..), None) | (Content::Growing(_), _) => {
                unreachable!("a stream is covered by a window, and what grows was gathered")
            }
        };
        Answer::Plain(Box::new(Plain { content, finish, attempt: guard, whole: ttft, tools }))
    }

    fn failed(&mut self, offer: &Offer, failure: Failure) {
        self.open.shared.metrics.attempt_failed(failure.class);
        // Not the reason: it is the seller's own words, which may repeat the prompt.
        let (class, status) = (failure.class.as_str(), failure.status);
        tracing::debug!(request = %self.open.held.request, seller = %offer.seller, class, status, "attempt failed");
        self.failures.push((offer.seller.as_str().to_owned(), failure));
    }
}

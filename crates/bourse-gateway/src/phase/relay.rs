//! Phase 6: the stream on its way to the buyer.
//!
//! The relay is the answer's body: hyper polls it, it reads what the seller has sent, and everything that
//! was there leaves in one piece. It keeps the hold ahead of the stream, watches the clock, and ends every
//! stream with exactly one terminal: the usage with its cost and `[DONE]`, or an error event and `[DONE]`.
//! The terminal waits until the settlement is on disk. A buyer that goes away drops the relay, which closes
//! the seller's connection and settles what was delivered.

use super::admit;
use super::dispatch::Begun;
use super::hold::{self, Short};
use super::settle::{Open, charged, nothing, unsettled};
use super::take_up::{Again, Handover, take_up, together};
use crate::durable::Wait;
use crate::failure::{Failure, FailureClass};
use crate::market::Attempt;
use crate::resume::Resume;
use crate::source::{Out, Progress, Source, SourceEnd};
use crate::traces::RequestTrace;
use bourse_market::{Bill, HoldWindow, Outcome, Quantization, StreamEnd};
use bourse_types::{DurationMs, NanoUsd, RequestId};
use bourse_wire::dialect::Job;
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{FundsError, Settled};
use bourse_wire::receipt::Finish;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::Span;

/// Most bytes of one piece; a stream that has more ready goes on in the next poll.
const PIECE_BYTES_MAX: usize = 256 * 1024;
/// How often a waiting stream looks at the clock, at least.
const TICK_MAX: Duration = Duration::from_secs(1);

/// The body of a streamed answer.
pub(crate) struct Relay {
    open: Open,
    source: Source,
    window: HoldWindow,
    out: Out,
    attempt: Option<(Attempt, DurationMs)>,
    /// When the seller was asked.
    asked: Instant,
    /// Members for the last event, with a leading comma; empty unless the plan was asked for.
    explain: Vec<u8>,
    /// What another seller needs to take the stream up; none where the buyer did not ask for that.
    again: Option<Arc<Again>>,
    next_leg: usize,
    /// The parts before this one, each a generation of its own. At most as many as there are attempts.
    earlier: Vec<Open>,
    /// The generations after the first, in order.
    continued_by: Vec<RequestId>,
    end: Option<SourceEnd>,
    deadline: Instant,
    /// When something was last read, to the next tick.
    last_read: Instant,
    has_read: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes.
    watcher: Option<Waker>,
    stage: Stage,
    /// Nothing was charged so far and nothing was delivered whole.
    is_for_nothing: bool,
}

enum Stage {
    Streaming,
    /// Another seller is asked for the rest. With what ends the stream when there is none.
    TakingUp(Pin<Box<TakingUp>>, Ending),
    /// The books are written; the terminal waits for the disk, if there is anything to wait for. With the most that it
    /// costs if the disk does not answer.
    Settling(Option<Wait>, Bytes, Box<Bill>),
    Ended,
}

type TakingUp = dyn Future<Output = Result<(Open, Box<Begun>), ApiError>> + Send;

/// Why a stream ends, as the relay sees it.
enum Ending {
    Complete(Finish),
    Seller(Failure),
    Budget,
    /// The key was disabled or revoked meanwhile.
    Key(FundsError),
    /// The market has reached a bound of its own.
    Full(FundsError),
    Late,
    Closing,
}

impl Relay {
    pub(crate) fn new(open: Open, begun: Begun, explain: Vec<u8>, again: Option<Arc<Again>>) -> Self {
        let Begun { source, window, out, attempt, ttft, asked, end, next_leg } = begun;
        let deadline = open.deadline;
        let last_read = Instant::now();
        let attempt = Some((attempt, ttft));
        let stage = Stage::Streaming;
        Self {
            open,
            source,
            window,
            out,
            attempt,
            asked,
            explain,
            again,
            next_leg,
            earlier: Vec::new(),
            continued_by: Vec::new(),
            end,
            deadline,
            last_read,
            has_read: false,
            timer: None,
            watcher: None,
            stage,
            is_for_nothing: true,
        }
    }

    /// Whether the answer, once its last piece is known, failed and cost nothing.
    pub(crate) fn is_for_nothing(&self) -> bool {
        self.is_for_nothing
    }

    /// The last piece, while it waits for the disk.
    pub(crate) fn last_piece(&self) -> Option<&[u8]> {
        match &self.stage {
            Stage::Settling(_, terminal, _) => Some(terminal),
            _ => None,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.stage {
                Stage::Streaming => {
                    // What was read before has been taken by now.
                    self.open.meter();
                    let ending = self.read(cx);
                    let piece = self.out.take();
                    if !piece.is_empty() {
                        self.open.sent(&piece);
                    }
                    if let Some(ending) = ending {
                        self.stage = self.stage_after(ending);
                    }
                    if !piece.is_empty() {
                        return Poll::Ready(Some(piece));
                    }
                    if matches!(self.stage, Stage::Streaming) {
                        return Poll::Pending;
                    }
                }
                Stage::TakingUp(rest, ..) => {
                    let Poll::Ready(rest) = rest.as_mut().poll(cx) else { return Poll::Pending };
                    self.stage = self.taken_up(rest);
                }
                Stage::Settling(durable, terminal, bill) => {
                    self.source.poll_rest(cx);
                    let durable =
                        durable.as_mut().map_or(Poll::Ready(Ok(())), |wait| Pin::new(wait).poll(cx));
                    let Poll::Ready(durable) = durable else { return Poll::Pending };
                    let (terminal, bill) = (std::mem::take(terminal), **bill);
                    self.stage = Stage::Ended;
                    if let Err(error) = durable {
                        tracing::error!(request = %self.open.held.request, %error, "a settlement did not reach the disk");
                        let most = if self.open.is_in_doubt(&error) { bill } else { nothing() };
                        return Poll::Ready(Some(self.failed_books(&most)));
                    }
                    return Poll::Ready(Some(terminal));
                }
                Stage::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Reads what is there. Some when the stream is to end.
    fn read(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        loop {
            if let Some(end) = self.end.take() {
                return Some(match end {
                    SourceEnd::Complete(finish) => Ending::Complete(finish),
                    SourceEnd::Failed(failure) => Ending::Seller(match &self.attempt {
                        Some((attempt, _)) => attempt.without_key(failure),
                        None => failure,
                    }),
                });
            }
            if let Err(ending) = self.keep_covered() {
                return Some(ending);
            }
            if self.out.len() > PIECE_BYTES_MAX {
                return None;
            }
            let Some((gauge, _)) = self.open.counting.as_mut() else { return Some(Ending::Closing) };
            match self.source.poll_step(cx, &mut self.out, gauge) {
                Poll::Ready(Progress::More) => self.has_read = true,
                Poll::Ready(Progress::End(end)) => self.end = Some(end),
                Poll::Pending => break,
            }
        }
        self.watch_clock(cx)
    }

    /// Keeps the hold ahead of the stream.
    fn keep_covered(&mut self) -> Result<(), Ending> {
        let Open { counting, held, shared, .. } = &mut self.open;
        let Some((gauge, _)) = counting.as_ref() else { return Ok(()) };
        let ports = &shared.ports;
        hold::extend(held, &mut self.window, &*ports.funds, gauge.meter.to_cover(), || ports.clock.now())
            .map_err(|error| match Short::from(error) {
                Short::Closing => Ending::Closing,
                Short::Key(error) => Ending::Key(error),
                Short::Full(error) => Ending::Full(error),
                Short::Budget => Ending::Budget,
            })
    }

    fn watch_clock(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let idle = self.source.idle(&self.open.shared.config.timeouts);
        let tick = TICK_MAX.min(idle / 4).max(Duration::from_millis(1));
        let is_set = self.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(cx.waker()));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + tick)));
        // A timer that is set wakes its task by itself; it needs no look before.
        if is_set && !timer.is_elapsed() {
            return None;
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if std::mem::take(&mut self.has_read) {
                self.last_read = now;
            }
            if now >= self.deadline {
                return Some(Ending::Late);
            }
            if now >= self.last_read + idle {
                let silent = Failure::new(FailureClass::Timeout, 200, format!("nothing came for {idle:?}"));
                return Some(Ending::Seller(silent));
            }
            if self.open.shared.is_past_drain() {
                return Some(Ending::Closing);
            }
            timer.as_mut().reset(now + tick);
        }
        self.watcher = Some(cx.waker().clone());
        None
    }

    /// The terminal, or the rest from somebody else. Nothing is settled while the rest may still come: what an answer
    /// costs depends on how it ends.
    fn stage_after(&mut self, ending: Ending) -> Stage {
        let Some((again, resume)) = self.resume(&ending) else { return self.settle(&ending) };
        self.end_attempt(&ending, None);
        let held = &self.open.held;
        let (grant, claim, expires, deadline) = (held.grant, held.claim.clone(), held.expires, self.deadline);
        let span = self.open.trace.as_ref().map_or_else(Span::none, RequestTrace::span);
        let next_leg = self.next_leg;
        let handover = Handover { grant, claim, expires, deadline, resume, next_leg, span };
        let shared = Arc::clone(&self.open.shared);
        Stage::TakingUp(Box::pin(take_up(shared, again, handover)), ending)
    }

    /// Settles all parts of the answer and writes its end.
    fn settle(&mut self, ending: &Ending) -> Stage {
        let (end, finish, error) = self.verdict(ending);
        if let Some(done) = self.source.take_done() {
            self.open.draft.node = Some(done.statement);
        }
        self.open.draft.upstream_id(self.source.upstream_id());
        self.open.draft.note.reasoning_tokens = self.source.reasoning_tokens();
        let mut sum = Sum::default();
        self.settle_earlier(end, &mut sum);
        let bill = self.open.bill(end);
        self.end_attempt(ending, bill.as_ref().ok());
        let bill = bill.unwrap_or_else(|_| nothing());
        if let Some(kept) = self.source.kept().filter(|_| error.is_none()) {
            self.open.sent(kept);
        }
        let settled = self.open.settle(&bill, finish);
        let ticket = settled.as_ref().map(|settled| settled.ticket).ok();
        let part = sum.part(&self.open, &bill, settled);
        let bill = sum.add(&self.open, part);
        let Sum { failed, most, .. } = sum;
        let most = Box::new(most.unwrap_or(bill));
        self.is_for_nothing = bill.charge.total == NanoUsd::ZERO && error.is_some();
        if failed {
            return Stage::Settling(None, self.failed_books(&most), most);
        }
        let terminal = self.terminal(&bill, error.as_ref());
        let shared = &self.open.shared;
        Stage::Settling(ticket.map(|ticket| shared.durable.wait(&shared.ports.funds, ticket)), terminal, most)
    }

    /// Settles the parts that other sellers took up: they cost what they delivered if the whole did not fail.
    fn settle_earlier(&mut self, end: StreamEnd, sum: &mut Sum) {
        let end = match end {
            StreamEnd::SellerFailed | StreamEnd::Market => end,
            _ => StreamEnd::TakenUp,
        };
        for mut open in self.earlier.drain(..) {
            let bill = open.bill(end).unwrap_or_else(|_| nothing());
            let settled = open.settle(&bill, Finish::SellerError);
            let part = sum.part(&open, &bill, settled);
            sum.add(&open, part);
            if let Some(trace) = &mut self.open.trace {
                trace.part(&part);
            }
        }
    }

    /// What another seller needs to go on, where the buyer wants that and the seller is to blame.
    fn resume(&self, ending: &Ending) -> Option<(Arc<Again>, Resume)> {
        let Ending::Seller(_) = ending else { return None };
        let again = self.again.as_ref()?;
        let (gauge, _) = self.open.counting.as_ref()?;
        let is_left = self.next_leg < again.route.legs.len() && Instant::now() < self.deadline;
        let resume = is_left.then(|| self.source.resume(&gauge.meter))??;
        Some((Arc::clone(again), Resume { weights: self.weights_of(&again.job), ..resume }))
    }

    /// The weights that answer, where the buyer named none and the seller says which they are.
    fn weights_of(&self, job: &Job) -> Option<Quantization> {
        let (attempt, _) = self.attempt.as_ref().filter(|_| job.preferences.quantizations.is_empty())?;
        attempt.offer().map(|offer| offer.quantization).filter(|weights| *weights != Quantization::Unknown)
    }

    /// Goes on with the rest, or ends as the part before did when nobody has it.
    fn taken_up(&mut self, rest: Result<(Open, Box<Begun>), ApiError>) -> Stage {
        let Stage::TakingUp(_, ending) = std::mem::replace(&mut self.stage, Stage::Ended) else {
            return Stage::Ended;
        };
        let Ok((mut open, begun)) = rest else { return self.settle(&ending) };
        self.continued_by.push(open.held.request);
        let Begun { source, window, out, attempt, ttft, asked, end, next_leg } = *begun;
        open.shared.metrics.continuations.add(1);
        open.trace = self.open.trace.take();
        if let (Some(trace), Some(offer)) = (&mut open.trace, attempt.offer()) {
            trace.served_by(offer);
        }
        self.earlier.push(std::mem::replace(&mut self.open, open));
        self.source = source;
        self.window = window;
        self.out = out;
        self.attempt = Some((attempt, ttft));
        self.asked = asked;
        self.end = end;
        self.next_leg = next_leg;
        self.last_read = Instant::now();
        Stage::Streaming
    }

    fn verdict(&self, ending: &Ending) -> (StreamEnd, Finish, Option<ApiError>) {
        let seller = self.open.draft.seller.as_ref().map_or("", |s| s.as_str());
        match ending {
            Ending::Complete(finish) => (StreamEnd::Complete, *finish, None),
            Ending::Seller(failure) => {
                let kind = if failure.class == FailureClass::Timeout {
                    ErrorType::Timeout
                } else {
                    ErrorType::ProviderUnavailable
                };
                let message = format!(
                    "seller `{seller}` broke off: {}; nothing was charged: ask again",
                    failure.reason
                );
                (StreamEnd::SellerFailed, Finish::SellerError, Some(ApiError::new(kind, message)))
            }
            Ending::Budget => {
                let message = "the budget does not reach for more: add credit or raise the key's limit; you pay for what was delivered";
                (StreamEnd::Budget, Finish::Budget, Some(ApiError::new(ErrorType::PaymentRequired, message)))
            }
            Ending::Key(error) => {
                let refusal = admit::refusal(error);
                let message = format!("{}; you pay for what was delivered", refusal.message);
                (StreamEnd::Budget, Finish::Budget, Some(ApiError::new(refusal.kind, message)))
            }
            Ending::Full(error) => (StreamEnd::Market, Finish::Bourse, Some(admit::full(error))),
            Ending::Late => {
                let seconds = self.open.shared.config.timeouts.total.as_secs();
                let message = format!("the answer took longer than {seconds} s; nothing was charged");
                (StreamEnd::Market, Finish::Bourse, Some(ApiError::new(ErrorType::Timeout, message)))
            }
            Ending::Closing => (StreamEnd::Market, Finish::Bourse, Some(admit::closing())),
        }
    }

    fn end_attempt(&mut self, ending: &Ending, bill: Option<&Bill>) {
        let Some((attempt, ttft)) = self.attempt.take() else { return };
        let outcome = match ending {
            Ending::Complete(_) => {
                if let Some(bill) = bill {
                    let whole =
                        DurationMs(u64::try_from(self.asked.elapsed().as_millis()).unwrap_or(u64::MAX));
                    let tools = self.source.tools();
                    return self.open.served(attempt, (ttft, whole), tools, bill);
                }
                Outcome::success(ttft)
            }
            Ending::Seller(failure) => {
                attempt.trace.failed(failure);
                failure.outcome()
            }
            Ending::Budget | Ending::Key(_) | Ending::Full(_) | Ending::Late | Ending::Closing => {
                Outcome::Neutral
            }
        };
        attempt.end(self.open.shared.ports.clock.now(), outcome);
    }

    fn terminal(&mut self, bill: &Bill, error: Option<&ApiError>) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        let mut more = std::mem::take(&mut self.explain);
        push_continued(&self.continued_by, &mut more);
        self.source.set_byok(self.open.is_byok());
        match error {
            None => self.source.end(bill, &more, &mut out),
            Some(error) => self.source.fail(error, bill, &more, &mut out),
        }
        Bytes::from(out)
    }

    /// The terminal of a stream whose settlement failed. What was surely not charged is the market's loss; what may be is
    /// told.
    fn failed_books(&mut self, most: &Bill) -> Bytes {
        // An end that tells of a failure is not what the buyer paid for: it is not kept for who asks again.
        self.is_for_nothing = true;
        let error = unsettled(most.charge.total);
        if let Some(trace) = &mut self.open.trace {
            trace.refused(error.kind);
        }
        self.terminal(most, Some(&error))
    }
}

/// What all parts of an answer cost.
#[derive(Default)]
struct Sum {
    told: Option<Bill>,
    /// The same if what nobody answers for turns out dear.
    most: Option<Bill>,
    /// A part was not settled.
    failed: bool,
}

impl Sum {
    /// What a part costs now that it was settled, or was not.
    fn part(&mut self, open: &Open, bill: &Bill, settled: Result<Settled, FundsError>) -> Bill {
        match settled {
            // Only now is it known what the market takes where the buyer's own key served.
            Ok(settled) if open.is_byok() => charged(bill, settled.cost),
            Ok(_) => *bill,
            Err(error) => {
                self.failed = true;
                if error.leaves_doubt() { open.shown(bill) } else { nothing() }
            }
        }
    }

    /// Adds a part, and gives back the sum.
    fn add(&mut self, open: &Open, part: Bill) -> Bill {
        // Amounts that do not fit together were never held.
        let plus = |sum: Option<&Bill>, part: &Bill| together(sum, part).unwrap_or(*part);
        self.most = Some(plus(self.most.as_ref(), &open.at_most(&part)));
        *self.told.insert(plus(self.told.as_ref(), &part))
    }
}

/// Appends the member that names the generations that went on with the first, each with a receipt of its own.
fn push_continued(requests: &[RequestId], out: &mut Vec<u8>) {
    for (n, request) in requests.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b",\"continued_by\":[\"" } else { b",\"" });
        out.extend_from_slice(request.to_string().as_bytes());
        out.push(b'"');
    }
    if !requests.is_empty() {
        out.push(b']');
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.get_mut().poll_piece(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

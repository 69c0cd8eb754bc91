//! Phase 6 of an answer that is wanted in one piece and comes as a stream: it is gathered, and its hold grows with it.
//!
//! Asked for a stream are nodes, whose frames are all there is, and hosted APIs of which it is known that their streams say
//! all that their whole answers do; see [`ProviderConfig::gathers`](crate::ProviderConfig::gathers). Of the others the whole
//! that the answer may cost is held at once, and [`Whole`] says why.
//!
//! The buyer gets nothing before the whole is there. So another seller may be asked up to the end, and a seller that broke
//! off is paid as for every answer that breaks: nothing. Nothing is noted for a crash either (decision 0019): the buyer's
//! connection has taken no token. Where the money reaches for no more, the buyer gets what came, ended by `length` as a limit
//! of tokens would end it, and pays for that. Limit: [`ANSWER_BYTES_MAX`] of text.

use super::admit;
use super::attempt::{Content, Won};
use super::dispatch::Stop;
use super::hold::{self, Short};
use super::settle::Open;
use crate::config::ANSWER_BYTES_MAX;
use crate::deadline;
use crate::failure::{Failure, FailureClass};
use crate::source::{Out, Progress, Source, SourceEnd};
use bourse_market::{Demand, HoldWindow, Offer, Operations, QuoteError, Supports};
use bourse_types::DurationMs;
use bourse_wire::dialect::gather::Gathered;
use bourse_wire::dialect::grammar::{Billed, EventWriter, Head};
use bourse_wire::dialect::neutral::{Answer, Choice, Notice, Part, StreamEvent};
use bourse_wire::error::ApiError;
use bourse_wire::receipt::Finish;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;

/// Why all that an answer may cost is held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// It is no text.
    NoText,
    /// The offer bills reasoning that it does not show.
    Unshown,
    /// The seller's streams are not known to say all that its whole answers do.
    Seller,
    /// The request asks for something whose answer streams may not say.
    Request,
    /// It is no more than the first step.
    Small,
}

impl Whole {
    /// The word for it, and the sentence, for whoever asks for the plan.
    pub(crate) fn explain(self) -> (&'static str, &'static str) {
        match self {
            Self::NoText => ("no_text", "nobody sees pictures, sound or vectors grow"),
            Self::Unshown => ("hidden_reasoning", "the seller bills reasoning that it does not show"),
            Self::Seller => {
                ("seller", "this seller's streams are not known to say all that its answers in one piece do")
            }
            Self::Request => {
                ("request", "the request has members whose answers a stream may not say: stream")
            }
            Self::Small => ("small", "the whole is no more than a first step"),
        }
    }

    /// Why no text is seen to grow, whatever the seller.
    pub(crate) fn of(offer: &Offer, demand: &Demand<'_>) -> Option<Self> {
        if !Operations::GENERATES.contains(demand.operation) {
            Some(Self::NoText)
        } else if offer.supports.contains(Supports::HIDDEN_REASONING) {
            Some(Self::Unshown)
        } else {
            None
        }
    }

    /// Whether steps would hold no less.
    pub(crate) fn is_small(offer: &Offer, demand: &Demand<'_>) -> Result<bool, QuoteError> {
        Ok(HoldWindow::whole(offer, demand)?.held() <= HoldWindow::first(offer, demand)?.held())
    }
}

/// Takes a stream's events in place of a buyer. The passage has one end of it, the gathering phase the other.
#[derive(Clone, Default)]
pub(crate) struct Gathering(Arc<Mutex<Gathered>>);

impl Gathering {
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes()
    }

    fn take(&self) -> Vec<Choice> {
        std::mem::take(&mut *self.0.lock()).into_choices()
    }
}

impl EventWriter for Gathering {
    fn event(&mut self, event: &StreamEvent<'_>, _: &mut Vec<u8>) {
        self.0.lock().add(event.clone());
    }

    /// The end is written with the whole answer.
    fn end(&mut self, _: &Billed<'_>, _: &[u8], _: &mut Vec<u8>) {}

    /// A failure is nobody's answer.
    fn fail(&mut self, _: &ApiError, _: &Billed<'_>, _: &[u8], _: &mut Vec<u8>) {}
}

/// A stream whose first content is there and that becomes an answer in one piece.
pub(crate) struct Growing {
    pub(crate) source: Source,
    /// Its end, if that came with the first content.
    pub(crate) end: Option<SourceEnd>,
    pub(crate) gathering: Gathering,
    pub(crate) head: Head,
    /// Whether the buyer wants to see no reasoning.
    pub(crate) hides_reasoning: bool,
}

impl Growing {
    /// The answer. One that was cut ends where it was cut.
    fn answer(&self, is_cut: bool) -> Answer {
        let mut choices = self.gathering.take();
        for choice in &mut choices {
            if self.hides_reasoning {
                choice.parts.retain(|part| !matches!(part, Part::Reasoning { .. }));
            }
            if is_cut {
                choice.finish = choice.finish.or(Some(Finish::Length));
            }
        }
        let id = self.source.upstream_id().map(str::to_owned);
        Answer { id, choices, usage: self.source.claim(), ..Answer::default() }
    }
}

/// How gathering ended.
enum Ended {
    Complete(Finish),
    /// The money reached for no more.
    Cut(Short),
}

/// Covers an answer that came whole where it was to grow, as one that grew. It is not handed out where the money does not
/// reach for it: it cannot be cut, and would be had for the price of a first step.
pub(super) fn secure(open: &mut Open, window: &mut HoldWindow, won: &Won) -> Result<(), Stop> {
    let shared = Arc::clone(&open.shared);
    let (funds, clock) = (&*shared.ports.funds, &shared.ports.clock);
    hold::extend(&mut open.held, window, funds, won.gauge.meter.to_cover(), || clock.now())?;
    Ok(())
}

/// Gathers what comes, with the hold ahead of it. The content of what is won is then the answer.
pub(super) async fn gather(
    open: &mut Open,
    window: &mut HoldWindow,
    (won, growing): (Won, Box<Growing>),
    asked: Instant,
) -> Result<Won, Stop> {
    let (mut won, mut growing) = (won, growing);
    let (finish, is_cut) = match read(open, window, (&mut won, &mut growing)).await? {
        Ended::Complete(finish) => (finish, false),
        Ended::Cut(short) => {
            won.notices.push(Notice::new("max_tokens", short.cut()));
            (Finish::Budget, true)
        }
    };
    let answer = growing.answer(is_cut);
    if answer.choices.is_empty() {
        return Err(Failure::broken(200, "sent an answer without choices").into());
    }
    won.node = growing.source.take_done().map(|done| done.statement);
    won.tools = growing.source.tools();
    // Its connection may serve again.
    poll_fn(|cx| {
        growing.source.poll_rest(cx);
        Poll::Ready(())
    })
    .await;
    won.ttft = DurationMs(u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX));
    won.content = Content::Answer(growing.head, answer, finish);
    Ok(won)
}

async fn read(
    open: &mut Open,
    window: &mut HoldWindow,
    (won, growing): (&mut Won, &mut Growing),
) -> Result<Ended, Stop> {
    let shared = Arc::clone(&open.shared);
    let idle = growing.source.idle(&shared.config.timeouts);
    // Nobody reads it: what is said goes to the gathering.
    let mut out = Out::default();
    loop {
        match growing.end.take() {
            Some(SourceEnd::Complete(finish)) => return Ok(Ended::Complete(finish)),
            Some(SourceEnd::Failed(failure)) => return Err(failure.into()),
            None => {}
        }
        within(growing.gathering.bytes())?;
        let (funds, clock) = (&*shared.ports.funds, &shared.ports.clock);
        let covered = hold::extend(&mut open.held, window, funds, won.gauge.meter.to_cover(), || clock.now());
        match covered.map_err(Short::from) {
            Ok(()) => {}
            Err(Short::Closing) => return Err(Stop::Abort(admit::closing())),
            Err(Short::Full(error)) => return Err(Stop::Abort(admit::full(&error))),
            Err(short) => return Ok(Ended::Cut(short)),
        }
        let until = open.deadline.min(Instant::now() + idle);
        let step = poll_fn(|cx| growing.source.poll_step(cx, &mut out, &mut won.gauge));
        let Some(step) = deadline::by(until, step).await else {
            let why = if Instant::now() >= open.deadline {
                format!("sent no whole answer within {} ms", open.elapsed_ms())
            } else {
                format!("nothing came for {idle:?}")
            };
            return Err(Failure::new(FailureClass::Timeout, 200, why).into());
        };
        out.take();
        if let Progress::End(end) = step {
            growing.end = Some(end);
        }
    }
}

/// Refuses an answer with more text than one in one piece may have.
fn within(bytes: usize) -> Result<(), Failure> {
    if bytes <= ANSWER_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::broken(200, format!("sent more than {ANSWER_BYTES_MAX} bytes of text in one answer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_large_as_one_in_one_piece_may_be() {
        assert!(within(ANSWER_BYTES_MAX).is_ok());
        assert_eq!(within(ANSWER_BYTES_MAX + 1).unwrap_err().class, FailureClass::Unavailable);
    }
}

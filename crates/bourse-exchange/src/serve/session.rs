//! What is said on one gateway's connection: bytes in, bytes out, no socket and no clock.
//!
//! The server gives it what a socket brought; a simulation gives it what its network let through. Proving the secret
//! comes before and is the server's.
//!
//! A gateway's clock may be wrong: times that it sends are taken as at most [`CLOCK_AHEAD_MAX`] beyond this machine's, and
//! no hold lives longer than [`HOLD_LIVES_MAX`]. Questions off the hot path are not answered here: a server gives them to
//! other threads, [`FundsSession::exchange`] answers them at once.

use super::questions::{answer_of, part_of};
use super::upload::Upload;
use crate::exchange::{Exchange, Progress};
use bourse_types::{DurationMs, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::port::{self, Answer, FRAME_BYTES_MAX, NO_CALL, Question, Reply, Request};
use bourse_wire::funds::{CommitTicket, Funds as _, FundsError};
use std::sync::Arc;
use tokio::sync::watch;

/// Calls of one connection that wait for the disk, at most.
pub(crate) const DURABLE_CALLS_MAX: usize = 256;
/// How far ahead of this machine's a gateway's clock may be.
const CLOCK_AHEAD_MAX: DurationMs = DurationMs(2_000);

/// How far away the end of a hold may be, so that no gateway holds money for ever: a hundred times what a request has by
/// default.
pub(crate) const HOLD_LIVES_MAX: DurationMs = DurationMs(24 * 3_600_000);

/// What an exchange whose journal failed says to whoever dials it.
pub(crate) const JOURNAL_FAILED: &str =
    "it failed, and the exchange is closed since: mend what its log says and start it again";

/// Why nothing more is answered on a connection.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// Not a frame, or one that is too long.
    #[error("a frame could not be read or written: {0}")]
    Frame(#[from] CanonicalError),
    /// The greeting was over.
    #[error("it sent a second hello")]
    Hello,
    /// Whatever it would say is about itself: the gateway's money is with the next exchange.
    #[error("the exchange has stopped")]
    Stopped,
}

/// One gateway's connection, after the greeting.
pub struct FundsSession {
    exchange: Arc<Exchange>,
    pub(super) input: Vec<u8>,
    pub(super) output: Vec<u8>,
    pub(super) progress: watch::Receiver<Progress>,
    /// How far the gateway knows the journal to be.
    told: u64,
    /// Calls that wait for the disk.
    waiting: Vec<(u64, CommitTicket)>,
    /// Questions that were asked in this turn.
    pub(super) asked: Vec<(u64, Question)>,
    upload: Upload,
}

impl FundsSession {
    /// One with an exchange.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        let progress = exchange.shared.progress.subscribe();
        let (input, output, waiting, asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { exchange, input, output, progress, told: 0, waiting, asked, upload: Upload::default() }
    }

    /// Takes bytes as they come, in whatever pieces, and appends what there is to say by now to `back`. `wall` is this
    /// machine's clock.
    pub fn exchange(&mut self, bytes: &[u8], wall: UnixMs, back: &mut Vec<u8>) -> Result<(), SessionEnd> {
        self.input.extend_from_slice(bytes);
        let turn = self.take_turn(wall).and_then(|()| self.answer_questions());
        back.append(&mut self.output);
        turn
    }

    fn answer_questions(&mut self) -> Result<(), SessionEnd> {
        for (call, question) in std::mem::take(&mut self.asked) {
            let (answer, _) = answer_of(&self.exchange, question);
            for part in (0..).map_while(|n| part_of(&answer, n)) {
                self.answer(call, &part)?;
            }
        }
        Ok(())
    }

    /// Whether the exchange accepts nothing any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.exchange.shared.core.lock().running().is_err()
    }

    /// Why the exchange accepts nothing any more, for people elsewhere: the cause is in its own log.
    pub(super) fn stopped(&self) -> Option<FundsError> {
        let why = self.exchange.shared.core.lock().running().err()?;
        Some(match why {
            FundsError::Journal(_) => FundsError::Journal(JOURNAL_FAILED.to_owned()),
            other => other,
        })
    }

    /// Does everything that has arrived, and tells how far the journal has come if that is news.
    pub(super) fn take_turn(&mut self, wall: UnixMs) -> Result<(), SessionEnd> {
        let mut done = 0;
        while let Some(taken) = port::decode(&self.input[done..], FRAME_BYTES_MAX)? {
            done += taken.bytes;
            if let Some(reply) = self.serve(taken.call, taken.message, wall)? {
                self.answer(taken.call, &reply)?;
            }
        }
        self.input.drain(..done);
        self.tell_progress()
    }

    /// One call. None: it is answered later.
    fn serve(&mut self, call: u64, request: Request, wall: UnixMs) -> Result<Option<Reply>, SessionEnd> {
        let exchange = &*self.exchange;
        let in_time = |now: UnixMs| now.min(wall.plus(CLOCK_AHEAD_MAX));
        let result = match request {
            Request::Hello { .. } => return Err(SessionEnd::Hello),
            Request::Authenticate { key, now } => {
                exchange.authenticate(&key, in_time(now)).map(Reply::Granted)
            }
            Request::Hold(hold) if hold.expires > wall.plus(HOLD_LIVES_MAX) => {
                Err(FundsError::TooMany("hours until a hold ends"))
            }
            Request::Hold(mut hold) => {
                hold.now = in_time(hold.now);
                exchange.hold(&hold).map(|()| Reply::Done)
            }
            Request::Extend(mut more) => {
                more.now = in_time(more.now);
                exchange.extend(&more).map(|()| Reply::Done)
            }
            Request::ByokFee { grant, list, now } => {
                Ok(Reply::Fee(exchange.byok_fee(&grant, list, in_time(now))))
            }
            Request::Settle(mut settlement) => {
                settlement.now = in_time(settlement.now);
                exchange.settle(*settlement).map(Reply::Settled)
            }
            Request::Metered(mut so_far) => {
                so_far.now = in_time(so_far.now);
                exchange.metered(*so_far).map(|()| Reply::Done)
            }
            Request::Attended { attendance, now } => {
                exchange.attended(attendance, in_time(now)).map(|()| Reply::Done)
            }
            Request::Ask(mut question) => {
                if let Some(now) = question.clock() {
                    *now = in_time(*now);
                }
                let question = match *question {
                    Question::Keep(part) => match self.upload.take(part) {
                        Ok(Some(whole)) => Question::Keep(whole),
                        Ok(None) => return Ok(part_of(&Answer::Kept.to_bytes(), 0)),
                        Err(refused) => return Ok(Some(Reply::Refused(refused))),
                    },
                    question => question,
                };
                self.asked.push((call, question));
                return Ok(None);
            }
            Request::Durable(ticket) => {
                if self.waiting.len() >= DURABLE_CALLS_MAX {
                    return Ok(Some(Reply::Refused(FundsError::TooMany("things at the exchange"))));
                }
                // Only to make it hurry: the answer is seen in the progress.
                drop(exchange.durable(ticket));
                self.waiting.push((call, ticket));
                return Ok(None);
            }
        };
        match result {
            Ok(reply) => Ok(Some(reply)),
            // What is said about itself by one that has stopped is for nobody.
            Err(FundsError::Journal(_) | FundsError::Closing) if self.is_stopped() => {
                Err(SessionEnd::Stopped)
            }
            Err(refused) => Ok(Some(Reply::Refused(refused))),
        }
    }

    /// Tells how far the journal has come, if that is news.
    fn tell_progress(&mut self) -> Result<(), SessionEnd> {
        let (durable, failed) = {
            let progress = self.progress.borrow_and_update();
            (progress.durable, progress.failed.is_some())
        };
        if failed {
            return Err(SessionEnd::Stopped);
        }
        let reply = Reply::Durable(CommitTicket(durable));
        let reached: Vec<u64> =
            self.waiting.extract_if(.., |(_, ticket)| ticket.0 <= durable).map(|(call, _)| call).collect();
        for call in reached {
            self.answer(call, &reply)?;
        }
        if durable > self.told {
            self.told = durable;
            self.answer(NO_CALL, &reply)?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, call: u64, reply: &Reply) -> Result<(), SessionEnd> {
        Ok(port::encode(call, reply, &mut self.output)?)
    }
}

//! What is said on one gateway's connection: bytes in, bytes out, no socket and no clock.
//!
//! The server gives it what a socket brought; a simulation gives it what its network let through. Proving the secret
//! comes before and is the server's.
//!
//! A gateway's clock may be wrong: times that it sends are taken as at most [`CLOCK_AHEAD_MAX`] beyond this machine's.

use crate::exchange::{Exchange, Progress};
use bourse_types::{DurationMs, UnixMs};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::port::{self, FRAME_BYTES_MAX, NO_CALL, Reply, Request};
use bourse_wire::funds::{CommitTicket, Funds as _, FundsError};
use std::sync::Arc;
use tokio::sync::watch;

/// Calls of one connection that wait for the disk, at most.
pub(crate) const DURABLE_CALLS_MAX: usize = 256;
/// How far ahead of this machine's a gateway's clock may be.
const CLOCK_AHEAD_MAX: DurationMs = DurationMs(2_000);

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
}

impl FundsSession {
    /// One with an exchange.
    pub fn new(exchange: Arc<Exchange>) -> Self {
        let progress = exchange.shared.progress.subscribe();
        Self { exchange, input: Vec::new(), output: Vec::new(), progress, told: 0, waiting: Vec::new() }
    }

    /// Takes bytes as they come, in whatever pieces, and appends what there is to say by now to `back`. `wall` is this
    /// machine's clock.
    pub fn exchange(&mut self, bytes: &[u8], wall: UnixMs, back: &mut Vec<u8>) -> Result<(), SessionEnd> {
        self.input.extend_from_slice(bytes);
        let turn = self.take_turn(wall);
        back.append(&mut self.output);
        turn
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
            Err(FundsError::Journal(_) | FundsError::Closing) => Err(SessionEnd::Stopped),
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

//! A connection whose bytes are carried by its callers: no thread, no socket, no waiting.
//!
//! A simulation gives a [`Courier`] that is as bad a network as it likes. Everything else is what a connection over a
//! socket does: the same frames, the same memory, the same repetitions to a new incarnation. A call that has no answer
//! when its courier has gone [`TURNS_PER_CALL`] times is one whose time is over; no time passes meanwhile.

use super::dial::take_answers;
use super::{Answer, Shared, now};
use parking_lot::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

/// How often the courier goes for one call: at the first time, the connection may have broken unnoticed.
const TURNS_PER_CALL: usize = 3;

/// The way to an exchange and back.
pub trait Courier: Send + 'static {
    /// Reaches an exchange and gives its incarnation; none: nobody is there now.
    fn connect(&mut self) -> Option<u128>;

    /// Brings bytes there and appends what came back to `back`. False: the connection broke; what is in `back` had
    /// arrived before.
    fn carry(&mut self, out: &[u8], back: &mut Vec<u8>) -> bool;
}

/// A courier and its connection.
pub(super) struct Carried(Mutex<Line>);

struct Line {
    courier: Box<dyn Courier>,
    is_up: bool,
    input: Vec<u8>,
}

impl Carried {
    pub(super) fn new(courier: impl Courier) -> Self {
        Self(Mutex::new(Line { courier: Box::new(courier), is_up: false, input: Vec::new() }))
    }

    /// Goes until there is nothing more to bring, or the connection breaks.
    pub(super) fn turn(&self, shared: &Shared) {
        let line = &mut *self.0.lock();
        if !line.is_up {
            let Some(incarnation) = line.courier.connect() else { return };
            line.input.clear();
            line.is_up = true;
            shared.state.lock().link_up(incarnation, now());
        }
        loop {
            let mut out = Vec::new();
            shared.state.lock().take_outbox(&mut out);
            let is_whole = line.courier.carry(&out, &mut line.input);
            let taken = take_answers(&mut line.input, shared);
            if !is_whole || taken.is_err() {
                line.is_up = false;
                return shared.state.lock().link_down();
            }
            if !shared.state.lock().has_outbox() {
                return;
            }
        }
    }

    /// Goes for one call.
    pub(super) fn call(
        &self,
        shared: &Shared,
        answer: &Receiver<Answer>,
    ) -> Result<Answer, RecvTimeoutError> {
        for _ in 0..TURNS_PER_CALL {
            self.turn(shared);
            match answer.try_recv() {
                Ok(told) => return Ok(told),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
        }
        Err(RecvTimeoutError::Timeout)
    }
}

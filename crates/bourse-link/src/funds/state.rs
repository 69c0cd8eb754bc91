//! What is under way, what is held and what is owed: the memory of a connection that may break.
//!
//! No I/O and no clock: the connection's thread brings bytes and instants. See the module above for what is kept and why.

use bourse_types::{DurationMs, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::port::{ANSWER_BYTES_MAX, NO_CALL, QUESTIONS_MAX, Reply, Request, encode, renumber};
use bourse_wire::funds::{
    CommitTicket, FundsError, HOLD_EXTENSIONS_MAX, HoldExtension, HoldRequest, KeyGrant, Settled,
};
use std::collections::BTreeMap;
use std::sync::mpsc::SyncSender;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Calls without an answer; more callers wait for room.
pub const CALLS_MAX: usize = 4_096;
/// Open holds.
pub const OPEN_MAX: usize = 65_536;
/// Settlements that are not known to be durable; more callers wait.
pub const KEPT_MAX: usize = 8_192;
/// Settlements that were lost and whose reason is remembered. As many as can be lost at once: who waits for one that is
/// neither known to be lost nor owed any more is told that it is durable.
pub const LOST_MAX: usize = KEPT_MAX + CALLS_MAX;

/// Of what there is too much for a moment only: what must be known is said once more.
const FOR_A_MOMENT: &str = "bytes wait for the disk";

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Grant(KeyGrant),
    Done,
    Fee(Option<NanoUsd>),
    Settled(Settled),
    /// The bytes of an answer to a question.
    Answer(Vec<u8>),
}

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// Looks only, and at the hot path.
    Look,
    /// Off the hot path, and may be asked again.
    Question,
    /// Off the hot path, and changes something that must not be done twice: is sent once.
    Change,
    Hold(Box<HoldRequest>),
    Extend(HoldExtension),
    Settle(RequestId),
    /// A hold or an extension said again. With the last one of an open hold, its incarnation knows of it.
    Again {
        restores: Option<RequestId>,
    },
    /// A settlement said again.
    SettleAgain {
        ticket: u64,
    },
    /// What an open request would settle as. The next one replaces it, so one that is lost is not said again.
    Metered,
    /// Somebody waits for the disk.
    Durable,
    /// Whether anybody is there.
    Ping,
}

impl About {
    /// Made by the connection itself, for one connection.
    fn is_of_connection(&self) -> bool {
        matches!(
            self,
            Self::Again { .. } | Self::SettleAgain { .. } | Self::Metered | Self::Durable | Self::Ping
        )
    }

    /// Whether it is answered in parts, some time.
    pub(super) fn is_off_path(&self) -> bool {
        matches!(self, Self::Question | Self::Change)
    }
}

struct Call {
    about: About,
    frame: Vec<u8>,
    caller: Option<SyncSender<Result<Told, FundsError>>>,
    /// When it was last given to the connection, or began to wait for one.
    sent: Instant,
    /// Whether it was given to this connection.
    is_sent: bool,
    /// The parts of its answer so far.
    parts: Vec<u8>,
}

/// A hold that was granted.
struct OpenHold {
    hold: HoldRequest,
    /// Its extensions, the first one first.
    steps: Vec<HoldExtension>,
    /// Which incarnation knows of it.
    incarnation: u128,
    /// An extension was given up: nobody knows whether it took effect.
    is_doubtful: bool,
}

/// A settlement that is not known to be durable.
struct Kept {
    open: Option<OpenHold>,
    frame: Vec<u8>,
    incarnation: u128,
    /// Its group there.
    group: u64,
    waiting: Vec<(Instant, Waker)>,
}

/// Clocks that differ by less count as one: so much a welcome may take on its way.
pub(super) const CLOCK_OFF_MIN: DurationMs = DurationMs(1_000);

/// Why a connection must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("the exchange answered what was not asked")]
    Answer,
    #[error("the exchange has no room for what it must know: {0}")]
    Full(FundsError),
}

#[derive(Default)]
pub(super) struct State {
    /// By their numbers, which are the order in which they were made.
    calls: BTreeMap<u64, Call>,
    last_call: u64,
    /// Bytes for the connection.
    outbox: Vec<u8>,
    /// In the order of their ids, in which they are said again.
    open: BTreeMap<RequestId, OpenHold>,
    kept: BTreeMap<u64, Kept>,
    lost: BTreeMap<u64, FundsError>,
    last_ticket: u64,
    /// The incarnation at the other end, while there is one.
    link: Option<u128>,
    /// How far the exchange's clock is ahead of this machine's, in milliseconds, as it was told with the last connection.
    ahead_ms: i64,
    /// How far its journal has come, and which group it was last asked for.
    durable: u64,
    asked: u64,
    /// When it last said anything, and when that its journal had come further.
    heard: Option<Instant>,
    written: Option<Instant>,
    is_closed: bool,
}

impl State {
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether a call may begin. A closed connection has room for all: they fail.
    pub(super) fn has_room(&self, about: &About) -> bool {
        let owes_too_much = matches!(about, About::Settle(_)) && self.kept.len() >= KEPT_MAX;
        self.is_closed || (self.calls.len() < CALLS_MAX && !owes_too_much)
    }

    /// The exchange's clock, read while this machine's showed `own`.
    pub(super) fn told_clock(&mut self, wall: UnixMs, own: UnixMs) {
        let ahead = i128::from(wall.0) - i128::from(own.0);
        let ahead = i64::try_from(ahead).unwrap_or(if ahead > 0 { i64::MAX } else { i64::MIN });
        self.ahead_ms = if ahead.unsigned_abs() < CLOCK_OFF_MIN.0 { 0 } else { ahead };
    }

    /// A time of this machine's by the exchange's clock.
    pub(super) fn dated(&self, time: UnixMs) -> UnixMs {
        UnixMs(time.0.saturating_add_signed(self.ahead_ms))
    }

    /// Begins a call with a frame of any number; gives back its own.
    pub(super) fn begin(
        &mut self,
        frame: Vec<u8>,
        about: About,
        caller: SyncSender<Result<Told, FundsError>>,
        now: Instant,
    ) -> Result<u64, FundsError> {
        if self.is_closed {
            return Err(FundsError::Closing);
        }
        match &about {
            About::Question | About::Change => self.room_for_question()?,
            About::Hold(hold) => self.room_for_hold(hold.now)?,
            About::Extend(more) => self.may_extend(more)?,
            _ => {}
        }
        Ok(self.push(frame, about, Some(caller), now))
    }

    /// Says what nobody waits for, while somebody is there to hear it and there is room. Whether it is said.
    pub(super) fn metered(&mut self, frame: Vec<u8>, now: Instant) -> bool {
        let is_heard = self.link.is_some() && !self.is_closed && self.calls.len() < CALLS_MAX;
        if is_heard {
            self.push(frame, About::Metered, None, now);
        }
        is_heard
    }

    fn room_for_question(&self) -> Result<(), FundsError> {
        let asked = self.calls.values().filter(|call| call.about.is_off_path()).count();
        if asked < QUESTIONS_MAX { Ok(()) } else { Err(FundsError::TooMany("questions at once")) }
    }

    fn room_for_hold(&mut self, now: UnixMs) -> Result<(), FundsError> {
        if self.open.len() >= OPEN_MAX {
            self.open.retain(|_, open| open.hold.expires > now);
        }
        if self.open.len() < OPEN_MAX { Ok(()) } else { Err(FundsError::TooMany("open holds")) }
    }

    fn may_extend(&self, more: &HoldExtension) -> Result<(), FundsError> {
        let Some(open) = self.open.get(&more.request) else { return Err(FundsError::NoHold) };
        if open.is_doubtful {
            return Err(FundsError::Away);
        }
        if more.step > HOLD_EXTENSIONS_MAX {
            return Err(FundsError::TooMany("extensions of one hold"));
        }
        let said = usize::from(more.step).checked_sub(1).and_then(|at| open.steps.get(at));
        let is_other = said.is_some_and(|said| HoldExtension { now: said.now, ..*more } != *said);
        if is_other { Err(FundsError::Conflict) } else { Ok(()) }
    }

    fn push(
        &mut self,
        mut frame: Vec<u8>,
        about: About,
        caller: Option<SyncSender<Result<Told, FundsError>>>,
        now: Instant,
    ) -> u64 {
        self.last_call += 1;
        let number = self.last_call;
        renumber(&mut frame, number);
        let is_sent = self.link.is_some();
        if is_sent {
            self.outbox.extend_from_slice(&frame);
        }
        // What the connection says by itself is made anew for the next one.
        let frame = if about.is_of_connection() { Vec::new() } else { frame };
        self.calls.insert(number, Call { about, frame, caller, sent: now, is_sent, parts: Vec::new() });
        number
    }

    /// Its caller waits no longer. A settlement stays owed.
    pub(super) fn give_up(&mut self, number: u64) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        match &call.about {
            About::Settle(_) => {
                call.caller = None;
                return;
            }
            About::Extend(more) => {
                if let Some(open) = self.open.get_mut(&more.request) {
                    open.is_doubtful = true;
                }
            }
            _ => {}
        }
        self.calls.remove(&number);
    }

    /// Whether there is something to be written.
    pub(super) fn has_outbox(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Everything to be written, into an empty buffer.
    pub(super) fn take_outbox(&mut self, into: &mut Vec<u8>) {
        std::mem::swap(&mut self.outbox, into);
    }

    /// A connection is open: says what that incarnation must know, then what has no answer.
    pub(super) fn link_up(&mut self, incarnation: u128, now: Instant) {
        self.link_down();
        self.link = Some(incarnation);
        (self.durable, self.asked) = (0, 0);
        let kept = std::mem::take(&mut self.kept);
        for (ticket, kept) in kept.iter().filter(|(_, kept)| kept.incarnation != incarnation) {
            if let Some(open) = &kept.open {
                self.say_again(open, None, now);
            }
            self.push(kept.frame.clone(), About::SettleAgain { ticket: *ticket }, None, now);
        }
        self.kept = kept;
        let open = std::mem::take(&mut self.open);
        for (request, open) in open.iter().filter(|(_, open)| open.incarnation != incarnation) {
            self.say_again(open, Some(*request), now);
        }
        self.open = open;
        for call in self.calls.values_mut().filter(|call| !call.about.is_of_connection()) {
            (call.sent, call.is_sent) = (now, true);
            self.outbox.extend_from_slice(&call.frame);
        }
        self.ask_for_disk(now);
    }

    /// The connection is gone, and so is what it said by itself.
    pub(super) fn link_down(&mut self) {
        self.link = None;
        self.outbox.clear();
        self.calls.retain(|_, call| !call.about.is_of_connection());
        // Whether a change was made is not known, and it is not made twice.
        for (_, call) in self.calls.extract_if(.., |_, call| call.about == About::Change && call.is_sent) {
            if let Some(caller) = call.caller {
                // Who asked may have gone.
                let _ = caller.send(Err(FundsError::Away));
            }
        }
        for call in self.calls.values_mut() {
            call.parts.clear();
        }
    }

    fn say_again(&mut self, open: &OpenHold, restores: Option<RequestId>, now: Instant) {
        let hold = open.hold;
        let steps = open.steps.iter().map(|more| Request::Extend(*more));
        for (n, request) in std::iter::once(Request::Hold(hold)).chain(steps).enumerate() {
            let mut frame = Vec::new();
            // Of a fixed and small size.
            if encode(NO_CALL, &request, &mut frame).is_ok() {
                let restores = restores.filter(|_| n == open.steps.len());
                self.push(frame, About::Again { restores }, None, now);
            }
        }
    }

    /// Takes an answer. The incarnation that gives it is the one at the other end.
    pub(super) fn answered(&mut self, number: u64, reply: Reply, now: Instant) -> Result<(), Broken> {
        self.heard = Some(now);
        let reply = match reply {
            Reply::Durable(ticket) => {
                self.calls.remove(&number);
                if ticket.0 > self.durable {
                    self.written = Some(now);
                }
                self.progressed(ticket.0);
                return Ok(());
            }
            Reply::Part { bytes, is_last } => return self.take_part(number, &bytes, is_last),
            reply => reply,
        };
        // Given up.
        let Some(call) = self.calls.remove(&number) else { return Ok(()) };
        let mut answer = match (reply, &call.about) {
            (Reply::Refused(error), _) => Err(error),
            (Reply::Granted(grant), About::Look) => Ok(Told::Grant(grant)),
            (Reply::Fee(fee), About::Look) => Ok(Told::Fee(fee)),
            (Reply::Done, About::Hold(_) | About::Extend(_) | About::Again { .. } | About::Metered) => {
                Ok(Told::Done)
            }
            (Reply::Settled(settled), About::Settle(_) | About::SettleAgain { .. }) => {
                Ok(Told::Settled(settled))
            }
            _ => return Err(Broken::Answer),
        };
        match (call.about, &mut answer) {
            (About::Hold(hold), Ok(_)) => self.granted(&hold),
            (About::Extend(more), Ok(_)) => self.extended(&more),
            (About::Settle(request), Ok(Told::Settled(settled))) => {
                let ticket = self.keep(request, call.frame, settled.ticket.0);
                settled.ticket = ticket;
            }
            // Refused for good; its hold gives itself back.
            (About::Settle(request), Err(_)) => drop(self.open.remove(&request)),
            (
                About::Again { .. } | About::SettleAgain { .. },
                Err(full @ FundsError::TooMany(FOR_A_MOMENT)),
            ) => {
                return Err(Broken::Full(full.clone()));
            }
            (About::Again { restores: Some(request) }, _) => self.restored(&request),
            (About::SettleAgain { ticket }, Ok(Told::Settled(settled))) => {
                self.settled_again(ticket, settled.ticket.0, now);
            }
            (About::SettleAgain { ticket }, Err(error)) => self.lose(ticket, error),
            _ => {}
        }
        if let Some(caller) = call.caller {
            // Who asked may have gone.
            let _ = caller.send(answer);
        }
        Ok(())
    }

    /// The next part of an answer.
    fn take_part(&mut self, number: u64, bytes: &[u8], is_last: bool) -> Result<(), Broken> {
        // Given up.
        let Some(call) = self.calls.get_mut(&number) else { return Ok(()) };
        if !call.about.is_off_path() || call.parts.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(Broken::Answer);
        }
        call.parts.extend_from_slice(bytes);
        if is_last
            && let Some(call) = self.calls.remove(&number)
            && let Some(caller) = call.caller
        {
            // Who asked may have gone.
            let _ = caller.send(Ok(Told::Answer(call.parts)));
        }
        Ok(())
    }

    fn granted(&mut self, hold: &HoldRequest) {
        let incarnation = self.link.unwrap_or_default();
        let made = || OpenHold { hold: *hold, steps: Vec::new(), incarnation, is_doubtful: false };
        self.open.entry(hold.request).or_insert_with(made);
    }

    fn extended(&mut self, more: &HoldExtension) {
        let Some(open) = self.open.get_mut(&more.request) else { return };
        if open.steps.len() + 1 == usize::from(more.step) {
            open.steps.push(*more);
        }
    }

    fn restored(&mut self, request: &RequestId) {
        if let (Some(open), Some(incarnation)) = (self.open.get_mut(request), self.link) {
            open.incarnation = incarnation;
        }
    }

    /// A settlement was made: kept until it is durable. Gives back its ticket here.
    fn keep(&mut self, request: RequestId, frame: Vec<u8>, group: u64) -> CommitTicket {
        self.last_ticket += 1;
        let open = self.open.remove(&request);
        if group > self.durable {
            let incarnation = self.link.unwrap_or_default();
            let kept = Kept { open, frame, incarnation, group, waiting: Vec::new() };
            self.kept.insert(self.last_ticket, kept);
        }
        CommitTicket(self.last_ticket)
    }

    fn settled_again(&mut self, ticket: u64, group: u64, now: Instant) {
        let Some(kept) = self.kept.get_mut(&ticket) else { return };
        kept.incarnation = self.link.unwrap_or_default();
        kept.group = group;
        if group <= self.durable {
            self.progressed(self.durable);
        } else {
            self.ask_for_disk(now);
        }
    }

    fn lose(&mut self, ticket: u64, error: &FundsError) {
        tracing::error!(ticket, %error, "a settlement was lost with its exchange; charged is what was metered of it, or nothing");
        self.lost.insert(ticket, error.clone());
        while self.lost.len() > LOST_MAX {
            self.lost.pop_first();
        }
        if let Some(kept) = self.kept.remove(&ticket) {
            kept.waiting.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// The journal of the incarnation at the other end has come this far.
    fn progressed(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
        let (link, durable) = (self.link, self.durable);
        let reached =
            self.kept.extract_if(.., |_, kept| Some(kept.incarnation) == link && kept.group <= durable);
        for (_, kept) in reached {
            kept.waiting.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Asks the exchange to hurry for the newest group that somebody waits for.
    fn ask_for_disk(&mut self, now: Instant) {
        let waited = self.kept.values().filter(|kept| !kept.waiting.is_empty());
        let group = waited.filter(|kept| Some(kept.incarnation) == self.link).map(|kept| kept.group).max();
        if let Some(group) = group {
            self.hurry(group, now);
        }
    }

    fn hurry(&mut self, group: u64, now: Instant) {
        if self.link.is_none() || group <= self.asked {
            return;
        }
        self.asked = group;
        self.ask_durable(group, About::Durable, now);
    }

    fn ask_durable(&mut self, group: u64, about: About, now: Instant) {
        let mut frame = Vec::new();
        // Of a fixed and small size.
        if encode(NO_CALL, &Request::Durable(CommitTicket(group)), &mut frame).is_ok() {
            self.push(frame, about, None, now);
        }
    }

    /// Why a settlement was lost, if it was.
    pub(super) fn lost(&self, ticket: CommitTicket) -> Option<FundsError> {
        self.lost.get(&ticket.0).cloned()
    }

    /// What is known of a ticket; none: it must be waited for.
    pub(super) fn durable(&self, ticket: CommitTicket) -> Option<Result<(), FundsError>> {
        if let Some(error) = self.lost(ticket) {
            return Some(Err(error));
        }
        if !self.kept.contains_key(&ticket.0) {
            let is_own = ticket.0 <= self.last_ticket;
            return Some(if is_own { Ok(()) } else { Err(FundsError::Conflict) });
        }
        self.is_closed.then_some(Err(FundsError::Closing))
    }

    /// Wakes somebody when a ticket is known or the time is over. True when there is something to write.
    pub(super) fn wait_for(
        &mut self,
        ticket: CommitTicket,
        until: Instant,
        now: Instant,
        waker: &Waker,
    ) -> bool {
        let Some(kept) = self.kept.get_mut(&ticket.0) else { return false };
        if !kept.waiting.iter().any(|(_, other)| other.will_wake(waker)) {
            kept.waiting.push((until, waker.clone()));
        }
        if Some(kept.incarnation) == self.link {
            let group = kept.group;
            self.hurry(group, now);
        }
        !self.outbox.is_empty()
    }

    /// Wakes those whose time is over.
    pub(super) fn wake_overdue(&mut self, now: Instant) {
        for kept in self.kept.values_mut() {
            kept.waiting.extract_if(.., |(until, _)| *until <= now).for_each(|(_, waker)| waker.wake());
        }
    }

    /// Asks for what is on disk since ever, which is answered at once, unless something else is to be answered at once.
    pub(super) fn ping(&mut self, now: Instant) {
        if self.calls.values().all(|call| call.about == About::Durable || call.about.is_off_path()) {
            self.ask_durable(0, About::Ping, now);
        }
    }

    /// Whether a call has been without an answer, and nothing else was heard, for so long that nobody can be there; or
    /// nobody who can write.
    pub(super) fn is_silent(&self, now: Instant, after: Duration, disk_after: Duration) -> bool {
        let waits = |call: &Call| {
            let (last, after) =
                if call.about == About::Durable { (self.written, disk_after) } else { (self.heard, after) };
            let since = last.map_or(call.sent, |last| last.max(call.sent));
            now.saturating_duration_since(since) >= after
        };
        // A question may take its time: whoever asks it waits no longer than it likes.
        self.calls.values().filter(|call| !call.about.is_off_path()).any(waits)
    }

    /// Whether a settlement has no answer yet, or one that is not known to be durable.
    pub(super) fn owes(&self) -> bool {
        !self.kept.is_empty() || self.calls.values().any(|call| matches!(call.about, About::Settle(_)))
    }

    /// Nothing is answered any more.
    pub(super) fn close(&mut self) {
        self.link_down();
        self.is_closed = true;
        self.calls.clear();
        for kept in self.kept.values_mut() {
            kept.waiting.drain(..).for_each(|(_, waker)| waker.wake());
        }
    }
}

#[cfg(test)]
mod tests;

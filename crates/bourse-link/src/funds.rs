//! The funds port from afar: a gateway's end of the connection to an exchange on another machine.
//!
//! [`RemoteFunds`] is [`Funds`] over one connection that a thread of its own keeps. A call is written into the
//! thread's next write and its caller blocks for the answer; calls of all callers share writes and reads. Every call
//! has an id of the request that it is about, so repeating it is harmless, and that is the whole answer to connections
//! that break: what has no answer yet is sent again. Several addresses are tried in turn, the active exchange's and its
//! standby's; one that cannot write the books listens to nobody. Names are looked up anew for each try.
//!
//! **A new incarnation.** A hold is answered before it is on disk, and so is a settlement. When the exchange dies, its
//! successor knows of the last moments what the journal got. So this end keeps each hold with its extensions until its
//! request is settled, and each settlement until it is known to be durable. To an incarnation that has not heard of
//! them it says all of it again, under the same ids, before anything new: for each settlement its hold, its extensions
//! and itself, then the holds that are still open, then the calls without an answer. What was in the journal is
//! recognised, what was not is made; see `core/adopt.rs` of the exchange. A settlement whose hold is gone by then (its
//! time was over, or somebody else used the money first) is *lost*: whoever waits for it is told the exchange's reason,
//! and nothing is charged but what was [metered](Funds::metered) of it and settled when its hold's time was over.
//!
//! **Tickets** of this port are numbers of its own, one for each settlement, because a group number of one incarnation
//! means nothing to the next. A ticket is durable once the incarnation that answered it *last* says that the group it
//! named then is on disk. They become durable in order, but a lost one is passed over: only its own ticket, and [`Funds::lost`], tell of it.
//!
//! **Clocks.** The exchange tells its clock with its welcome, and every time that a caller gives is dated by it: a gateway
//! whose clock is a minute behind would ask for holds that are over at once. A hold is dated once; said again, it is the same.
//!
//! **Off the hot path** travel [`Records`](bourse_wire::funds::Records), [`Accounts`](bourse_wire::funds::Accounts),
//! [`Workspaces`](bourse_wire::funds::Workspaces) and [`Outcomes`](bourse_wire::funds::Outcomes) as questions, see
//! [`records`], [`limits`] and [`outcomes`].
//!
//! **Giving up.** A call without an answer within the caller's patience fails with [`FundsError::Away`]. A hold or an
//! extension may have taken effect then: it covers nothing here, the hold gives itself back when it expires, and the
//! request is not extended any more. A settlement stays owed and is made as soon as an exchange answers.
//!
//! Limits: [`CALLS_MAX`] calls without an answer, then callers wait for room; [`OPEN_MAX`] open holds, then
//! [`FundsError::TooMany`]; [`KEPT_MAX`] settlements that are not known to be durable (and at most [`CALLS_MAX`] more
//! under way), then callers wait; the reasons of the last [`LOST_MAX`] that were lost. All of it is memory: a gateway
//! that dies leaves holds that expire. A caller on a reactor's thread blocks it for a round trip; beyond
//! [`ON_REACTOR`], and at once where it waits for room or asks a question, a reactor with several threads is told so and
//! gives its other work to another one. A reactor with one thread stands still: give a gateway two.

use crate::channel::ChannelConnector;
use crate::funds::courier::Carried;
use crate::funds::dial::{Dialler, keep};
use crate::funds::state::{About, State, Told};
use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::port::{self, PortSecret, Request};
use bourse_wire::funds::{
    Attendance, BoxFuture, CommitTicket, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, Settled,
    Settlement,
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;

mod courier;
mod dial;
mod limits;
mod outcomes;
mod records;
mod state;

pub use courier::Courier;
pub use outcomes::KEEPS_MAX;
pub use records::POLICIES_KEPT_MAX;
pub use state::{CALLS_MAX, KEPT_MAX, LOST_MAX, OPEN_MAX};

/// Addresses of exchanges, at most.
pub const ADDRESSES_MAX: usize = 8;
/// How long a caller waits for an answer: twice what a standby takes.
pub const CALL_WITHIN: Duration = Duration::from_secs(10);
/// How long a call may block a thread of a reactor before the reactor is told.
const ON_REACTOR: Duration = Duration::from_micros(500);

/// Where the exchange is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct RemoteFundsConfig {
    /// The active exchange and those that stand by, in any order, each `host:port`; 1 to [`ADDRESSES_MAX`].
    pub addresses: Vec<String>,
    /// What both ends know.
    pub secret: PortSecret,
    /// See [`CALL_WITHIN`].
    pub call_within: Duration,
}

/// The exchange, elsewhere. Dropping it ends the connection; what is not durable by then is not waited for.
pub struct RemoteFunds {
    shared: Arc<Shared>,
    policies: records::Policies,
    call_within: Duration,
    /// Sealed answers go out one after the other.
    keeping: Arc<Mutex<()>>,
    carrier: Carrier,
}

/// Who carries the bytes.
enum Carrier {
    /// None once it has ended.
    Thread(Option<JoinHandle<()>>),
    Caller(Carried),
}

/// What callers and the connection's thread share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    wake: Notify,
    /// There is room for calls.
    room: Condvar,
    close: Notify,
}

impl RemoteFunds {
    /// Begins to connect, and returns at once: calls wait until there is an answer.
    pub fn start(config: RemoteFundsConfig) -> io::Result<Self> {
        let RemoteFundsConfig { addresses, secret, call_within } = config;
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if addresses.is_empty() {
            return refused("no address of an exchange");
        }
        if addresses.len() > ADDRESSES_MAX {
            return refused("too many addresses of exchanges: 8 at most");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::<Shared>::default();
        let keeper = Arc::clone(&shared);
        let dialler = Dialler { addresses, secret, connector: ChannelConnector::new()? };
        let thread = std::thread::Builder::new().name("bourse-exchange-link".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(keep(&keeper, &dialler));
            // A name may still be looked up, which nobody waits for any more.
            runtime.shutdown_background();
        })?;
        Ok(Self::over(shared, call_within, Carrier::Thread(Some(thread))))
    }

    /// Without a socket and a thread: a courier carries the bytes in the thread of whoever calls, so that one thread can
    /// play gateways and exchange from one seed. See [`Courier`].
    pub fn carried_by(courier: impl Courier) -> Self {
        Self::over(Arc::default(), CALL_WITHIN, Carrier::Caller(Carried::new(courier)))
    }

    fn over(shared: Arc<Shared>, call_within: Duration, carrier: Carrier) -> Self {
        Self { shared, policies: records::Policies::default(), call_within, keeping: Arc::default(), carrier }
    }

    /// Where a courier carries: brings what is to be said and takes what is there, as a thread does all the time.
    pub fn turn(&self) {
        if let Carrier::Caller(carried) = &self.carrier {
            carried.turn(&self.shared);
            self.shared.state.lock().wake_overdue(now());
        }
    }

    /// Settlements that are not known to be durable yet.
    pub fn kept(&self) -> usize {
        self.shared.state.lock().kept()
    }

    /// Whether the books are owed something that only this gateway knows: wait until they are not before it ends.
    pub fn owes(&self) -> bool {
        self.shared.state.lock().owes()
    }

    fn call(&self, request: &Request, about: About) -> Result<Told, FundsError> {
        self.shared.call(request, about, self.call_within, self.carried())
    }

    fn carried(&self) -> Option<&Carried> {
        match &self.carrier {
            Carrier::Thread(_) => None,
            Carrier::Caller(carried) => Some(carried),
        }
    }

    /// A time of the caller's by the exchange's clock.
    fn dated(&self, time: UnixMs) -> UnixMs {
        self.shared.state.lock().dated(time)
    }
}

impl Shared {
    /// A call over the connection's thread, or over who carries in the caller's.
    fn call(
        &self,
        request: &Request,
        about: About,
        within: Duration,
        carried: Option<&Carried>,
    ) -> Result<Told, FundsError> {
        let deadline = now() + within;
        let mut frame = Vec::new();
        let encoded = port::encode(port::NO_CALL, request, &mut frame);
        encoded.map_err(|_| FundsError::TooMany("bytes in one frame"))?;
        let (told, answer) = sync_channel(1);
        let is_off_path = about.is_off_path();
        let number = {
            let mut state = self.state.lock();
            if !state.has_room(&about) {
                drop(state);
                state = off_reactor(|| self.wait_for_room(&about, deadline))?;
            }
            state.begin(frame, about, told, now())?
        };
        let answered = match carried {
            None => {
                self.wake.notify_one();
                let patience = if is_off_path { Duration::ZERO } else { ON_REACTOR };
                wait(&answer, deadline, patience)
            }
            Some(carried) => carried.call(self, &answer),
        };
        match answered {
            Ok(told) => told,
            Err(RecvTimeoutError::Disconnected) => Err(FundsError::Closing),
            Err(RecvTimeoutError::Timeout) => {
                self.state.lock().give_up(number);
                self.room.notify_all();
                // It may have come in the last moment; given up, it does not any more.
                answer.try_recv().unwrap_or(Err(FundsError::Away))
            }
        }
    }

    fn wait_for_room(&self, about: &About, deadline: Instant) -> Result<MutexGuard<'_, State>, FundsError> {
        let mut state = self.state.lock();
        while !state.has_room(about) {
            if self.room.wait_until(&mut state, deadline).timed_out() {
                return Err(FundsError::Away);
            }
        }
        Ok(state)
    }
}

impl Drop for RemoteFunds {
    fn drop(&mut self) {
        self.shared.close.notify_one();
        if let Carrier::Thread(thread) = &mut self.carrier
            && thread.take().is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the thread of the exchange's connection had panicked");
        }
        self.shared.state.lock().close();
    }
}

impl Funds for RemoteFunds {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        let now = self.dated(now);
        match self.call(&Request::Authenticate { key: *key, now }, About::Look)? {
            Told::Grant(grant) => Ok(grant),
            _ => Err(FundsError::Away),
        }
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        let (now, expires) = (self.dated(request.now), self.dated(request.expires));
        let dated = HoldRequest { now, expires, ..*request };
        self.call(&Request::Hold(dated), About::Hold(Box::new(dated))).map(drop)
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        let dated = HoldExtension { now: self.dated(extension.now), ..*extension };
        self.call(&Request::Extend(dated), About::Extend(dated)).map(drop)
    }

    fn byok_fee(&self, grant: &KeyGrant, list: NanoUsd, now: UnixMs) -> Option<NanoUsd> {
        let now = self.dated(now);
        match self.call(&Request::ByokFee { grant: *grant, list, now }, About::Look) {
            Ok(Told::Fee(fee)) => fee,
            _ => None,
        }
    }

    /// Nobody waits for the answer: what is lost on the way is made good by the next one.
    fn metered(&self, mut so_far: Settlement) -> Result<(), FundsError> {
        so_far.now = self.dated(so_far.now);
        let mut frame = Vec::new();
        let encoded = port::encode(port::NO_CALL, &Request::Metered(Box::new(so_far)), &mut frame);
        encoded.map_err(|_| FundsError::TooMany("bytes in one frame"))?;
        self.shared.state.lock().metered(frame, now());
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Nobody waits for the answer; what is lost on the way is lost.
    fn attended(&self, attendance: Attendance, now_ms: UnixMs) -> Result<(), FundsError> {
        let attended = Request::Attended { attendance, now: self.dated(now_ms) };
        let mut frame = Vec::new();
        let encoded = port::encode(port::NO_CALL, &attended, &mut frame);
        encoded.map_err(|_| FundsError::TooMany("bytes in one frame"))?;
        let is_said = self.shared.state.lock().metered(frame, now());
        self.shared.wake.notify_one();
        if is_said { Ok(()) } else { Err(FundsError::Away) }
    }

    fn settle(&self, mut settlement: Settlement) -> Result<Settled, FundsError> {
        settlement.now = self.dated(settlement.now);
        let about = About::Settle(settlement.receipt.request);
        match self.call(&Request::Settle(Box::new(settlement)), about)? {
            Told::Settled(settled) => Ok(settled),
            _ => Err(FundsError::Away),
        }
    }

    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let until = now() + self.call_within;
        Box::pin(Durable { shared: Arc::clone(&self.shared), ticket, until })
    }

    fn lost(&self, ticket: CommitTicket) -> Option<FundsError> {
        self.shared.state.lock().lost(ticket)
    }
}

/// Completes when a ticket is durable or lost.
struct Durable {
    shared: Arc<Shared>,
    ticket: CommitTicket,
    until: Instant,
}

impl Future for Durable {
    type Output = Result<(), FundsError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.shared.state.lock();
        if let Some(known) = state.durable(self.ticket) {
            return Poll::Ready(known);
        }
        let now = now();
        if now >= self.until {
            return Poll::Ready(Err(FundsError::Away));
        }
        if state.wait_for(self.ticket, self.until, now, cx.waker()) {
            self.shared.wake.notify_one();
        }
        Poll::Pending
    }
}

type Answer = Result<Told, FundsError>;

/// Now; in a runtime whose time is paused, its own.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits for an answer. A reactor that has other threads is told when it takes longer than `patience`.
fn wait(
    answer: &Receiver<Answer>,
    deadline: Instant,
    patience: Duration,
) -> Result<Answer, RecvTimeoutError> {
    let left = || deadline.saturating_duration_since(now());
    match answer.recv_timeout(patience.min(left())) {
        Err(RecvTimeoutError::Timeout) => off_reactor(|| answer.recv_timeout(left())),
        came => came,
    }
}

/// Blocks where a reactor that has other threads knows of it.
fn off_reactor<T>(block: impl FnOnce() -> T) -> T {
    let is_shared = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_shared { tokio::task::block_in_place(block) } else { block() }
}

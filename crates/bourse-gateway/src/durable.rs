//! Waiting for the disk together: one wake-up from the books per commit group, not one per answer.
//!
//! Each answer that waits through [`Funds::durable`] by itself is woken by the exchange's writer, from
//! another thread, which costs a system call each. Here the first to wait asks the exchange; whoever comes
//! meanwhile is woken by it, on its own thread. The group that the first one waited for may be older than
//! theirs: then the next of them asks. Who asks may vanish (its buyer went away); then another one asks.
//!
//! Bound: one entry per waiting answer and poll, cleared with every group.

use bourse_wire::funds::{BoxFuture, CommitTicket, Funds, FundsError};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where answers wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Durable(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    reached: CommitTicket,
    is_asked: bool,
    /// Counts how often `asleep` was cleared.
    round: u64,
    asleep: Vec<Waker>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { reached: CommitTicket(0), is_asked: false, round: 0, asleep: Vec::new() }
    }
}

impl Durable {
    /// Completes when everything up to `ticket` is on disk.
    pub(crate) fn wait(self: &Arc<Self>, funds: &Arc<dyn Funds>, ticket: CommitTicket) -> Wait {
        Wait { durable: Arc::clone(self), funds: Arc::clone(funds), ticket, asking: None, asleep: None }
    }

    /// How many wait, but for the one that asks.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().asleep.len()
    }

    /// Whoever asked has an answer, or has gone: everybody looks again.
    fn asked(&self, reached: Option<CommitTicket>) {
        let mut waiting = self.0.lock();
        waiting.reached = waiting.reached.max(reached.unwrap_or(CommitTicket(0)));
        waiting.is_asked = false;
        waiting.round += 1;
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        asleep.into_iter().for_each(Waker::wake);
    }
}

/// See [`Durable::wait`].
pub(crate) struct Wait {
    durable: Arc<Durable>,
    funds: Arc<dyn Funds>,
    ticket: CommitTicket,
    /// The question to the exchange, when it is this one that asks.
    asking: Option<BoxFuture<'static, Result<(), FundsError>>>,
    /// The round and the waker under which this one sleeps.
    asleep: Option<(u64, Waker)>,
}

impl Future for Wait {
    type Output = Result<(), FundsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.asking.is_none() {
            let mut waiting = this.durable.0.lock();
            if waiting.reached >= this.ticket {
                drop(waiting);
                return Poll::Ready(this.funds.lost(this.ticket).map_or(Ok(()), Err));
            }
            if waiting.is_asked {
                let round = waiting.round;
                let sleeps = |(r, waker): &(u64, Waker)| *r == round && waker.will_wake(cx.waker());
                if !this.asleep.as_ref().is_some_and(sleeps) {
                    waiting.asleep.push(cx.waker().clone());
                    this.asleep = Some((round, cx.waker().clone()));
                }
                return Poll::Pending;
            }
            waiting.is_asked = true;
            drop(waiting);
            this.asking = Some(this.funds.durable(this.ticket));
        }
        let Some(asking) = &mut this.asking else { return Poll::Pending };
        let Poll::Ready(answer) = asking.as_mut().poll(cx) else { return Poll::Pending };
        this.asking = None;
        this.durable.asked(answer.is_ok().then_some(this.ticket));
        Poll::Ready(answer)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.asking.take().is_some() {
            self.durable.asked(None);
        }
    }
}

#[cfg(test)]
mod tests;

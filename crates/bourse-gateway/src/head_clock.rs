//! The clock on a connection that waits for a request.
//!
//! hyper has one, and makes, registers and drops a timer for every request. Here a connection has one timer
//! for its life. It ticks a few times within the allowed time and looks whether anything has changed since:
//! a connection that has waited for the same request's head through all of these ticks is given up. So an
//! ordinary request costs two additions and no clock, and a wait is cut off at the allowed time or up to one
//! tick after it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// Ticks within the allowed time.
const TICKS: u32 = 4;

/// Counts the beginnings and ends of requests on one connection: odd while one is answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<AtomicU64>);

/// A request that is being answered. Its end is its drop.
#[derive(Debug)]
pub(crate) struct Turn(Arc<AtomicU64>);

impl Turns {
    /// A request's head has come.
    pub(crate) fn begin(&self) -> Turn {
        self.0.fetch_add(1, Ordering::Relaxed);
        Turn(Arc::clone(&self.0))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
pub(crate) struct HeadClock {
    turns: Turns,
    tick: Duration,
    timer: Pin<Box<Sleep>>,
    seen: u64,
    ticks: u32,
    is_set: bool,
}

impl HeadClock {
    /// Allows `within` for each head.
    pub(crate) fn new(turns: Turns, within: Duration) -> Self {
        let tick = (within / TICKS).max(Duration::from_millis(1));
        Self { turns, tick, timer: Box::pin(sleep(tick)), seen: 0, ticks: 0, is_set: false }
    }

    /// Ready when a head has taken too long. Always to be polled by the same task.
    pub(crate) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A timer that is set wakes this task by itself; it needs no look before.
        while !self.is_set || self.timer.is_elapsed() {
            self.is_set = true;
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let turns = self.turns.0.load(Ordering::Relaxed);
            let has_waited = turns == self.seen && turns.is_multiple_of(2);
            self.ticks = if has_waited { self.ticks + 1 } else { 0 };
            self.seen = turns;
            if self.ticks == TICKS {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + self.tick);
            self.is_set = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const WITHIN: Duration = Duration::from_secs(8);

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_is_late() {
        let begun = Instant::now();
        let mut clock = HeadClock::new(Turns::default(), WITHIN);
        poll_fn(|cx| clock.poll_late(cx)).await;
        assert_eq!(begun.elapsed().as_secs(), WITHIN.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_its_time_and_starts_the_wait_anew() {
        let begun = Instant::now();
        let turns = Turns::default();
        let mut clock = HeadClock::new(turns.clone(), WITHIN);
        let answering = async {
            sleep(Duration::from_secs(3)).await;
            let turn = turns.begin();
            sleep(Duration::from_mins(1)).await;
            drop(turn);
        };
        tokio::join!(poll_fn(|cx| clock.poll_late(cx)), answering);
        let waited = begun.elapsed().as_secs() - 63;
        assert!((WITHIN.as_secs()..=WITHIN.as_secs() + 2).contains(&waited), "{waited}");
    }
}

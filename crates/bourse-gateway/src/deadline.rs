//! Deadlines that cost nothing until something waits.
//!
//! `tokio::time::timeout` reads the clock and makes a timer before it looks at its future. Most futures here
//! are ready at their first look: a body that came with its head, an answer that came in one read.

use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// What `future` gives by `until`; none when it is not ready by then.
pub(crate) fn by<F: Future>(until: Instant, future: F) -> Race<F> {
    Race { future, limit: Limit::By(until), timer: None }
}

/// The same, counted from the first look that finds it not ready.
pub(crate) fn within<F: Future>(time: Duration, future: F) -> Race<F> {
    Race { future, limit: Limit::Within(time), timer: None }
}

#[derive(Debug, Clone, Copy)]
enum Limit {
    By(Instant),
    Within(Duration),
}

pin_project! {
    /// A future against the clock.
    pub(crate) struct Race<F> {
        #[pin]
        future: F,
        limit: Limit,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl<F: Future> Future for Race<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        if this.timer.is_none() {
            this.timer.set(Some(match *this.limit {
                Limit::By(until) => sleep_until(until),
                Limit::Within(time) => sleep(time),
            }));
        }
        // A future that has used up the task's budget must not starve the clock that bounds it.
        let is_late =
            this.timer.as_pin_mut().is_some_and(|timer| pin!(unconstrained(timer)).poll(cx).is_ready());
        if is_late { Poll::Ready(None) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_is_never_late() {
        assert_eq!(by(Instant::now() - Duration::from_secs(1), ready(1)).await, Some(1));
        assert_eq!(within(Duration::ZERO, ready(1)).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up_on_time() {
        let begun = Instant::now();
        assert_eq!(within(Duration::from_secs(3), pending::<()>()).await, None);
        assert_eq!(begun.elapsed().as_secs(), 3);
        assert_eq!(by(begun + Duration::from_secs(5), sleep(Duration::from_secs(1))).await, Some(()));
        assert_eq!(by(begun + Duration::from_secs(5), sleep(Duration::from_secs(2))).await, None);
    }

    #[tokio::test]
    async fn what_is_always_busy_is_given_up_too() {
        let busy = async {
            loop {
                tokio::task::consume_budget().await;
            }
        };
        assert_eq!(within::<_>(Duration::from_millis(5), busy).await, None::<()>);
    }
}

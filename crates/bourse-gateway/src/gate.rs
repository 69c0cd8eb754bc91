//! A waker that does not wake the one who is already looking.
//!
//! hyper's connection and the answer's body wake each other when a piece changes hands. Here both are polled
//! by one task, in turns, until neither has anything more: waking that task for it would only run everything
//! once more for nothing. While a [`Gate`] is closed, wake-ups are noted instead; whoever closed it looks
//! again before it sleeps. Outside of that, wake-ups pass.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

/// Wake-ups pass; there was none since it was opened.
const QUIET: u8 = 0;
/// Wake-ups pass; there was one.
const OPEN: u8 = 3;
/// Wake-ups are held back.
const CLOSED: u8 = 1;
/// The same, and there was one.
const WOKEN: u8 = 2;

/// See the module.
pub(crate) struct Gate {
    state: AtomicU8,
    outer: Mutex<Waker>,
}

impl Gate {
    /// A gate and the waker to poll with.
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let outer = Mutex::new(Waker::noop().clone());
        let gate = Arc::new(Self { state: AtomicU8::new(OPEN), outer });
        let waker = Waker::from(Arc::clone(&gate));
        (gate, waker)
    }

    /// Holds wake-ups back; they are for `outer` afterwards.
    pub(crate) fn close(&self, outer: &Waker) {
        let mut known = self.outer.lock();
        if !known.will_wake(outer) {
            known.clone_from(outer);
        }
        drop(known);
        self.state.store(CLOSED, Ordering::SeqCst);
    }

    /// Whether something woke since the last look. Only while closed.
    pub(crate) fn look(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WOKEN && self.state.swap(CLOSED, Ordering::SeqCst) == WOKEN
    }

    /// Whether nothing woke since it was opened, and what will wake passes to `outer`: who found nothing then
    /// need not look now.
    pub(crate) fn is_quiet(&self, outer: &Waker) -> bool {
        self.state.load(Ordering::SeqCst) == QUIET && self.outer.lock().will_wake(outer)
    }

    /// Lets wake-ups pass again, and the one that came too late to be looked at.
    pub(crate) fn open(&self) {
        if self.state.swap(QUIET, Ordering::SeqCst) == WOKEN {
            self.state.store(OPEN, Ordering::SeqCst);
            self.pass();
        }
    }

    fn pass(&self) {
        let outer = self.outer.lock().clone();
        outer.wake();
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever finds the gate closed leaves a mark that the closer will see; otherwise nobody looks.
        let marked = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| match state {
            CLOSED => Some(WOKEN),
            QUIET => Some(OPEN),
            _ => None,
        });
        if matches!(marked, Ok(QUIET) | Err(OPEN)) {
            self.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_ups_wait_while_closed_and_pass_while_open() {
        let count = Arc::new(Count::default());
        let (gate, waker) = Gate::new();
        let woken = || count.0.load(Ordering::SeqCst);
        gate.close(&Waker::from(Arc::clone(&count)));
        waker.wake_by_ref();
        assert_eq!((woken(), gate.look(), gate.look()), (0, true, false));
        gate.open();
        assert_eq!(woken(), 0, "what was looked at is not passed");
        waker.wake_by_ref();
        assert_eq!(woken(), 1);
        gate.close(&Waker::from(Arc::clone(&count)));
        waker.wake_by_ref();
        gate.open();
        assert_eq!(woken(), 2, "what came too late is passed");
    }

    #[test]
    fn quiet_is_what_nothing_woke() {
        let count = Arc::new(Count::default());
        let (gate, waker) = Gate::new();
        let outer = Waker::from(Arc::clone(&count));
        assert!(!gate.is_quiet(&outer), "nobody has looked yet");
        gate.close(&outer);
        gate.open();
        assert!(gate.is_quiet(&outer));
        assert!(!gate.is_quiet(Waker::noop()), "another task must leave its waker first");
        waker.wake_by_ref();
        assert!(!gate.is_quiet(&outer));
        gate.close(&outer);
        waker.wake_by_ref();
        gate.open();
        assert!(!gate.is_quiet(&outer), "what came too late is still to be looked at");
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const ROUNDS: usize = 2_000;
        let count = Arc::new(Count::default());
        let (gate, waker) = Gate::new();
        let outer = Waker::from(Arc::clone(&count));
        let (go, gone) = std::sync::mpsc::channel();
        let waking = std::thread::spawn(move || gone.iter().for_each(|()| waker.wake_by_ref()));
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        for _ in 0..ROUNDS {
            let before = count.0.load(Ordering::SeqCst);
            gate.close(&outer);
            go.send(()).unwrap();
            loop {
                let was_seen = gate.look();
                gate.open();
                if was_seen || count.0.load(Ordering::SeqCst) > before {
                    break;
                }
                assert!(std::time::Instant::now() < deadline, "a wake-up was lost");
                std::thread::yield_now();
            }
        }
        drop(go);
        waking.join().unwrap();
    }
}

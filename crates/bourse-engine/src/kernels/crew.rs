//! A crew of threads that share one piece of work and sleep in between.
//!
//! Work is a number of tasks and a function of the task's index. The caller works too; a helper joins when it
//! wakes and finds tasks left. Nobody spins: helpers wait on a condition variable, and so does the caller for
//! the last ones still busy. A helper that the machine has not woken yet is not waited for, which keeps a
//! crowded machine's latency at that of one thread. Which thread does which task is not fixed and must not
//! matter: tasks write disjoint parts of a [`Shared`] buffer.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Most threads of a crew.
pub(crate) const THREADS_MAX: usize = 256;

type Work = dyn Fn(usize) + Sync;

/// The threads; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Crew {
    board: Arc<Board>,
    helpers: Vec<JoinHandle<()>>,
}

/// What caller and helpers share.
struct Board {
    notice: Mutex<Notice>,
    posted: Condvar,
    left: Condvar,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Board").finish_non_exhaustive()
    }
}

struct Notice {
    job: Option<Job>,
    /// Counts jobs, so that a helper does not join the same one twice.
    number: u64,
    /// Helpers inside the job.
    busy: usize,
    panicked: bool,
    ended: bool,
}

/// A job whose lifetime has been taken away; see the safety comment in [`Crew::run`].
#[derive(Clone, Copy)]
struct Job {
    work: *const Work,
    next: *const AtomicUsize,
    tasks: usize,
}

// SAFETY: both pointers point to things that may be used from many threads (`Sync`), and `Crew::run` keeps
// them alive for as long as any thread holds the job.
unsafe impl Send for Job {}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Notice> {
        // Panics of the work are caught before the lock is taken, so a poisoned notice is still whole.
        self.notice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn help(&self) {
        let mut seen = 0;
        let mut notice = self.lock();
        while !notice.ended {
            match notice.job {
                Some(job) if notice.number != seen => {
                    seen = notice.number;
                    notice.busy += 1;
                    drop(notice);
                    // SAFETY: the job was on the board while `busy` was raised under the lock, so `Crew::run`
                    // waits for it to fall before what it points to goes away.
                    let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { job.work_off() }));
                    notice = self.lock();
                    notice.busy -= 1;
                    notice.panicked |= outcome.is_err();
                    if notice.busy == 0 {
                        self.left.notify_one();
                    }
                }
                _ => notice = self.posted.wait(notice).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Job {
    /// SAFETY: the caller makes sure that what the pointers point to is alive.
    unsafe fn work_off(self) {
        // SAFETY: handed on to the caller.
        let (work, next) = unsafe { (&*self.work, &*self.next) };
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return;
            }
            work(task);
        }
    }
}

impl Crew {
    /// A crew of so many threads, the caller's included; zero means one for each core that is available.
    /// Fewer if the system refuses to start them.
    pub(crate) fn new(threads: usize) -> Self {
        let available = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { available() } else { threads }.min(THREADS_MAX);
        let notice = Notice { job: None, number: 0, busy: 0, panicked: false, ended: false };
        let board =
            Arc::new(Board { notice: Mutex::new(notice), posted: Condvar::new(), left: Condvar::new() });
        let helpers = (1..threads)
            .map_while(|number| {
                let board = Arc::clone(&board);
                let name = format!("engine-{number}");
                std::thread::Builder::new().name(name).spawn(move || board.help()).ok()
            })
            .collect();
        Self { board, helpers }
    }

    /// Threads of the crew, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `work` once for each task number below `tasks` and returns when all have returned.
    ///
    /// Takes `&mut self`, so one crew has one job at a time. If a task panics, the panic goes on from here
    /// after all threads have left the work.
    pub(crate) fn run(&mut self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.helpers.is_empty() {
            (0..tasks).for_each(work);
            return;
        }
        let next = AtomicUsize::new(0);
        let work: *const (dyn Fn(usize) + Sync + '_) = work;
        #[expect(
            clippy::transmute_ptr_to_ptr,
            reason = "a cast cannot lengthen the lifetime of a trait object"
        )]
        // SAFETY: only the lifetime changes. The job leaves the board below before this function returns or
        // unwinds, and it waits until no helper is inside, so nobody uses the pointers afterwards.
        let work: *const Work = unsafe { std::mem::transmute(work) };
        let job = Job { work, next: &raw const next, tasks };
        {
            let mut notice = self.board.lock();
            notice.job = Some(job);
            notice.number += 1;
            notice.panicked = false;
        }
        if tasks == 2 {
            self.board.posted.notify_one();
        } else {
            self.board.posted.notify_all();
        }
        // SAFETY: `work` and `next` are alive in this frame.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { job.work_off() }));
        let mut notice = self.board.lock();
        notice.job = None;
        while notice.busy > 0 {
            notice = self.board.left.wait(notice).unwrap_or_else(PoisonError::into_inner);
        }
        let panicked = notice.panicked;
        drop(notice);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        assert!(!panicked, "a task of the crew panicked");
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.board.lock().ended = true;
        self.board.posted.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper's panics were caught and reported by `run`; there is nothing left to say.
            let _ = helper.join();
        }
    }
}

/// A buffer whose disjoint parts are written by different tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    buffer: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, and `part` leaves the absence of overlap to its caller.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(super) fn new(buffer: &'a mut [T]) -> Self {
        Self { start: buffer.as_mut_ptr(), length: buffer.len(), buffer: std::marker::PhantomData }
    }

    /// The part of `length` items from `start` on.
    ///
    /// # Safety
    /// No two parts that overlap may be alive at the same time.
    #[inline(always)]
    pub(super) unsafe fn part(self, start: usize, length: usize) -> &'a mut [T] {
        assert!(start <= self.length && length <= self.length - start, "a part within the buffer");
        // SAFETY: within the buffer, as was just checked; exclusive, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

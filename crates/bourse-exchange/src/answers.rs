//! Sealed answers: what requests under a claim were answered, for who asks again.
//!
//! They lie beside the books and not in them: an answer is no money, and a journal that is kept for ever is no place for
//! what is forgotten within a day. What lies here is sealed by the gateway under a key that its buyer alone can name, so
//! neither this file nor a copy of it tells anything but sizes and times. A directory keeps them in `answers.db`; where the
//! books are in a database they are there too, so that whoever takes over has them.
//!
//! One thread does all of it, in order: an answer can be asked for from the moment on at which it was given. Its store is
//! not the journal's, so no commit waits for an answer. Limits: [`ANSWERS_MAX`] answers and [`ANSWERS_BYTES_MAX`] bytes,
//! none older than a day, the oldest go first; [`JOBS_MAX`] jobs and [`WAITING_BYTES_MAX`] bytes that wait for the
//! thread, then what comes is not kept. An answer that is lost leaves a claim that names its receipt, so nothing is
//! charged twice.

use crate::claims::CLAIMS_MAX;
use bourse_types::{Digest32, RequestId, UnixMs};
use bourse_wire::funds::{BoxFuture, CLAIM_AGE_MAX, FundsError, Outcome, SEALED_BYTES_MAX};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;
pub(crate) use postgres::PostgresAnswers;
#[cfg(test)]
pub(crate) use sqlite::ANSWERS_FILE;
pub(crate) use sqlite::SqliteAnswers;

/// Answers that are kept, at most: one for each claim.
pub(crate) const ANSWERS_MAX: usize = CLAIMS_MAX;
/// Bytes of all sealed answers, at most.
pub(crate) const ANSWERS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Jobs that wait for the thread, at most.
const JOBS_MAX: usize = 4_096;
/// Bytes that wait for the thread, at most.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long closing waits for what is left to do.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);
/// What there is too much of when an answer is not kept.
const TOO_MANY: &str = "bytes of answers";

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store of answers failed: {0}")]
pub(crate) struct AnswersError(pub(crate) String);

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

/// Where sealed answers lie. Bounds are the keeper's matter.
pub(crate) trait AnswerStore: Send {
    /// How much is there.
    fn totals(&mut self) -> Result<Totals, AnswersError>;
    /// Adds an answer in place of another one of the same name. The bytes of that one, if there was one.
    fn put(&mut self, outcome: &Outcome) -> Result<Option<u64>, AnswersError>;
    /// The answer of that name, if it is that request's.
    fn find(&mut self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, AnswersError>;
    /// When the oldest was kept.
    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError>;
    /// Drops the oldest. Its bytes.
    fn drop_oldest(&mut self) -> Result<u64, AnswersError>;
}

/// A store within its bounds.
pub(crate) struct Keeper {
    store: Box<dyn AnswerStore>,
    count_max: usize,
    bytes_max: u64,
    /// Unknown until the store has told, and after each failure.
    totals: Option<Totals>,
}

impl Keeper {
    fn new(store: Box<dyn AnswerStore>) -> Self {
        Self { store, count_max: ANSWERS_MAX, bytes_max: ANSWERS_BYTES_MAX, totals: None }
    }

    fn put(&mut self, outcome: &Outcome) -> Result<(), AnswersError> {
        let mut totals = match self.totals.take() {
            Some(totals) => totals,
            None => self.store.totals()?,
        };
        match self.store.put(outcome)? {
            Some(replaced) => totals.bytes = totals.bytes.saturating_sub(replaced),
            None => totals.count += 1,
        }
        totals.bytes += outcome.sealed.len() as u64;
        self.totals = Some(totals);
        Ok(())
    }

    /// Drops what is too old or too much.
    fn tidy(&mut self, now: UnixMs) -> Result<(), AnswersError> {
        let Some(mut totals) = self.totals.take() else { return Ok(()) };
        while let Some(oldest) = self.store.oldest()? {
            let is_over = totals.count > self.count_max || totals.bytes > self.bytes_max;
            if !is_over && oldest.plus(CLAIM_AGE_MAX) > now {
                break;
            }
            totals.bytes = totals.bytes.saturating_sub(self.store.drop_oldest()?);
            totals.count = totals.count.saturating_sub(1);
        }
        self.totals = Some(totals);
        Ok(())
    }
}

type Done<T> = Result<T, AnswersError>;
type Told<T> = oneshot::Sender<Done<T>>;

enum Job {
    Keep(Outcome, Told<()>),
    Find(Digest32, RequestId, Told<Option<Bytes>>),
}

fn work(keeper: &mut Keeper, job: Job) {
    match job {
        Job::Keep(outcome, told) => {
            let kept = keeper.put(&outcome);
            warn(&kept, "an answer was not kept");
            // Who asked may have gone.
            let _ = told.send(kept);
            warn(&keeper.tidy(outcome.now), "old answers were not dropped");
        }
        Job::Find(name, request, told) => {
            let found = keeper.store.find(name, request);
            warn(&found, "an answer could not be read");
            let _ = told.send(found);
        }
    }
}

fn warn<T>(done: &Result<T, AnswersError>, what: &str) {
    if let Err(error) = done {
        tracing::warn!(%error, "{what}");
    }
}

/// The thread with its store, or a store that answers at once.
pub(crate) enum Answers {
    /// For simulations and tests: everything happens in the call.
    Here(Arc<Mutex<Keeper>>),
    Thread(Thread),
}

/// What is left for the thread to do.
pub(crate) struct Thread {
    jobs: Mutex<Option<SyncSender<Job>>>,
    waiting_bytes: Arc<AtomicUsize>,
    handle: Mutex<Option<JoinHandle<()>>>,
    /// Says nothing, and ends with the thread.
    ended: Mutex<Receiver<Infallible>>,
}

impl Answers {
    pub(crate) fn in_memory() -> Self {
        Self::Here(Arc::new(Mutex::new(Keeper::new(Box::new(MemoryAnswers::default())))))
    }

    pub(crate) fn start(store: Box<dyn AnswerStore>) -> io::Result<Self> {
        let (jobs, taken) = sync_channel(JOBS_MAX);
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let waiting = Arc::clone(&waiting_bytes);
        let thread = std::thread::Builder::new().name("bourse-answers".to_owned());
        let (ends, ended) = sync_channel(0);
        let handle = thread.spawn(move || {
            run(Keeper::new(store), &taken, &waiting);
            drop::<SyncSender<Infallible>>(ends);
        })?;
        let (jobs, handle) = (Mutex::new(Some(jobs)), Mutex::new(Some(handle)));
        Ok(Self::Thread(Thread { jobs, waiting_bytes, handle, ended: Mutex::new(ended) }))
    }

    /// The same answers for the next life of a market in memory; none of a directory's.
    pub(crate) fn inherited(&self) -> Self {
        match self {
            Self::Here(keeper) => Self::Here(Arc::clone(keeper)),
            Self::Thread(_) => Self::in_memory(),
        }
    }

    pub(crate) fn keep(&self, outcome: Outcome) -> BoxFuture<'static, Result<(), FundsError>> {
        if outcome.sealed.len() > SEALED_BYTES_MAX {
            return refused(FundsError::TooMany(TOO_MANY));
        }
        self.ask(|told| Job::Keep(outcome, told))
    }

    pub(crate) fn find(
        &self,
        name: Digest32,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Option<Bytes>, FundsError>> {
        self.ask(|told| Job::Find(name, request, told))
    }

    /// [`Answers::keep`] for a caller that may block.
    pub(crate) fn keep_now(&self, outcome: Outcome) -> Result<(), FundsError> {
        if outcome.sealed.len() > SEALED_BYTES_MAX {
            return Err(FundsError::TooMany(TOO_MANY));
        }
        self.wait(|told| Job::Keep(outcome, told))
    }

    /// [`Answers::find`] for a caller that may block.
    pub(crate) fn find_now(&self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, FundsError> {
        self.wait(|told| Job::Find(name, request, told))
    }

    fn begin<T>(&self, job: impl FnOnce(Told<T>) -> Job) -> Result<oneshot::Receiver<Done<T>>, FundsError> {
        let (told, done) = oneshot::channel();
        let job = job(told);
        match self {
            Self::Here(keeper) => work(&mut keeper.lock(), job),
            Self::Thread(thread) => thread.push(job)?,
        }
        Ok(done)
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Told<T>) -> Job,
    ) -> BoxFuture<'static, Result<T, FundsError>> {
        match self.begin(job) {
            Ok(done) => Box::pin(async move { ended(done.await.ok()) }),
            Err(error) => refused(error),
        }
    }

    fn wait<T>(&self, job: impl FnOnce(Told<T>) -> Job) -> Result<T, FundsError> {
        let mut done = self.begin(job)?;
        // One that works in the call has an answer by now; nobody may block for it in a simulation.
        match done.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => ended(done.blocking_recv().ok()),
            told => ended(told.ok()),
        }
    }

    /// Does what is left and ends the thread; one whose store hangs is left behind after [`CLOSES_WITHIN`].
    pub(crate) fn close(&self) {
        let Self::Thread(thread) = self else { return };
        drop(thread.jobs.lock().take());
        if thread.ended.lock().recv_timeout(CLOSES_WITHIN) == Err(RecvTimeoutError::Timeout) {
            return tracing::error!("the store of answers hangs: what waits for it is not kept");
        }
        if thread.handle.lock().take().is_some_and(|handle| handle.join().is_err()) {
            tracing::error!("the thread that keeps answers had panicked");
        }
    }
}

impl Thread {
    fn push(&self, job: Job) -> Result<(), FundsError> {
        let jobs = self.jobs.lock();
        let jobs = jobs.as_ref().ok_or(FundsError::Closing)?;
        let bytes = bytes_of(&job);
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(FundsError::TooMany(TOO_MANY));
        }
        jobs.try_send(job).map_err(|_| {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            FundsError::TooMany(TOO_MANY)
        })
    }
}

fn bytes_of(job: &Job) -> usize {
    match job {
        Job::Keep(outcome, _) => outcome.sealed.len(),
        Job::Find(..) => 0,
    }
}

fn run(mut keeper: Keeper, jobs: &Receiver<Job>, waiting_bytes: &AtomicUsize) {
    while let Ok(job) = jobs.recv() {
        let bytes = bytes_of(&job);
        work(&mut keeper, job);
        waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// None: whoever was asked has gone.
fn ended<T>(done: Option<Done<T>>) -> Result<T, FundsError> {
    done.ok_or(FundsError::Closing)?.map_err(|error| FundsError::Journal(error.to_string()))
}

fn refused<T: Send + 'static>(error: FundsError) -> BoxFuture<'static, Result<T, FundsError>> {
    Box::pin(std::future::ready(Err(error)))
}

/// Answers in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryAnswers {
    by_number: BTreeMap<u64, Outcome>,
    last: u64,
}

impl MemoryAnswers {
    fn number_of(&self, name: Digest32) -> Option<u64> {
        self.by_number.iter().find(|(_, outcome)| outcome.name == name).map(|(number, _)| *number)
    }
}

impl AnswerStore for MemoryAnswers {
    fn totals(&mut self) -> Result<Totals, AnswersError> {
        let bytes = self.by_number.values().map(|outcome| outcome.sealed.len() as u64).sum();
        Ok(Totals { count: self.by_number.len(), bytes })
    }

    fn put(&mut self, outcome: &Outcome) -> Result<Option<u64>, AnswersError> {
        let replaced = self.number_of(outcome.name).and_then(|number| self.by_number.remove(&number));
        self.last += 1;
        self.by_number.insert(self.last, outcome.clone());
        Ok(replaced.map(|replaced| replaced.sealed.len() as u64))
    }

    fn find(&mut self, name: Digest32, request: RequestId) -> Result<Option<Bytes>, AnswersError> {
        let found = self.number_of(name).and_then(|number| self.by_number.get(&number));
        Ok(found.filter(|outcome| outcome.request == request).map(|outcome| outcome.sealed.clone()))
    }

    fn oldest(&mut self) -> Result<Option<UnixMs>, AnswersError> {
        Ok(self.by_number.first_key_value().map(|(_, outcome)| outcome.now))
    }

    fn drop_oldest(&mut self) -> Result<u64, AnswersError> {
        Ok(self.by_number.pop_first().map_or(0, |(_, outcome)| outcome.sealed.len() as u64))
    }
}

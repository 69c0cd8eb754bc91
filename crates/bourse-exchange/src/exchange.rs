//! The exchange itself: the core behind a lock, the journal behind its writer, and three threads.
//!
//! A call applies its change in memory under a short lock and returns; the records wait in the open
//! group. The *writer* commits groups that are due: it waits at most [`COMMIT_WINDOW`](crate::COMMIT_WINDOW)
//! for company, or [`LAZY_COMMIT_WINDOW`](crate::LAZY_COMMIT_WINDOW) where nobody waits for it, signs the checkpoint of a group with receipts, appends, and tells those who wait. While one
//! group is on its way to the disk, the next one fills. The *keeper* releases overdue holds and projects
//! receipts into their index once a second, and ends the [epoch](crate::EPOCH_PERIOD) once a minute. After each, the third
//! thread carries [payouts](crate::payouts) out: a payment rail may take its time, and nothing else waits for it.
//!
//! Without threads ([`Exchange::in_memory`]) the same code is deterministic: nothing is durable until
//! [`Exchange::flush`] is called, and all time comes in.
//!
//! Locks are taken in the order figures, index, journal, core or inbox, and none is held across an await.

use crate::answers::Answers;
use crate::books::{AccountLine, balances_by_group};
use crate::check::{CheckReport, Market, check_journal};
use crate::config::{EARLY_COMMIT_BYTES, ExchangeConfig, Holds};
use crate::core::{Core, RELEASES_PER_STEP_MAX, TakenGroup};
use crate::data_dir::{DataDirError, DirLock, Entropy, load_signer, lock_dir};
use crate::epoch::EpochError;
use crate::figures::FiguresBook;
use crate::index::{Inbox, Index, IndexError, IndexStore, MemoryIndex, SqliteIndex, Step};
use crate::look_through::{self, look_through};
use crate::memory::SharedJournal;
use crate::open::{OpenError, recover};
use crate::payouts::Runner;
use crate::record::put_checkpoint;
use crate::store::{Lease, answers, reader, writer};
use bourse_ledger::{Journal, JournalError, Position, Snapshot};
use bourse_proof::sign::Signer;
use bourse_types::{AccountId, Digest32, RequestId, TransferId, UnixMs};
use bourse_wire::funds::{CommitTicket, FundsError};
use parking_lot::{Condvar, Mutex};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How often the keeper works.
const KEEPER_PERIOD: Duration = Duration::from_secs(1);

/// How far the journal has come, for those who wait.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) durable: u64,
    pub(crate) failed: Option<FundsError>,
}

pub(crate) type AnyIndex = Index<Box<dyn IndexStore>>;

/// What threads and callers share.
pub(crate) struct Shared {
    pub(crate) core: Mutex<Core>,
    wake_writer: Condvar,
    pub(crate) index: Mutex<AnyIndex>,
    inbox: Mutex<Inbox>,
    /// Dropped after the index: the writer must be the last to leave the database, as only it can tidy up.
    pub(crate) journal: Mutex<Box<dyn Journal>>,
    /// The journal's; none in memory.
    pub(crate) lease: OnceLock<Lease>,
    pub(crate) signer: Signer,
    pub(crate) entropy: Mutex<Entropy>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) config: ExchangeConfig,
    pub(crate) answers: Answers,
    /// Locked before the index.
    pub(crate) figures: Mutex<FiguresBook>,
    pub(crate) payouts: Runner,
    pub(crate) closing: Mutex<bool>,
    wake_keeper: Condvar,
}

/// How long an exchange that closes waits for who looks through its journal: a read of a store that answers is over by then.
const LOOK_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// The control plane of one market. Implements [`Funds`](bourse_wire::funds::Funds) and
/// [`Records`](bourse_wire::funds::Records). Dropping it closes it.
pub struct Exchange {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Breaks off when nobody looks through the journal any more.
    look: Mutex<Option<Receiver<()>>>,
    /// Held until the exchange is dropped.
    lock: Option<DirLock>,
    /// The journal of a market in memory, for its next life.
    pub(crate) memory: Option<SharedJournal>,
}

/// The parts that an exchange is put together from.
pub(crate) struct Parts {
    pub(crate) journal: Box<dyn Journal>,
    /// A second handle on the same journal, for reading.
    pub(crate) reader: Box<dyn Journal>,
    pub(crate) index: Box<dyn IndexStore>,
    pub(crate) signer: Signer,
    pub(crate) entropy: Entropy,
}

impl Exchange {
    /// Opens or begins the market in a data directory: replays the journal, releases what a crash left
    /// held, and starts the threads.
    pub fn open(dir: &Path, config: ExchangeConfig, now: UnixMs) -> Result<Self, OpenError> {
        let lock = lock_dir(dir)?;
        let signer = load_signer(dir)?;
        let (journal, lease) = writer(dir)?;
        let parts = Parts {
            journal,
            reader: reader(dir)?,
            index: Box::new(SqliteIndex::open(dir)?),
            signer,
            entropy: Entropy::System,
        };
        let answers = Answers::start(answers(dir)?).map_err(OpenError::Thread)?;
        let mut exchange = Self::assemble_with(parts, answers, config, now)?;
        exchange.lock = Some(lock);
        exchange.shared.lease.get_or_init(|| lease);
        exchange.start_threads()?;
        exchange.look_through(reader(dir)?, look_through::tell)?;
        Ok(exchange)
    }

    /// A market in memory, without threads: same seed and same calls, same bits.
    pub fn in_memory(config: ExchangeConfig, seed: [u8; 32], now: UnixMs) -> Result<Self, OpenError> {
        let journal = SharedJournal::default();
        let mut exchange = Self::over(journal.clone(), config, (seed, 0), now)?;
        exchange.memory = Some(journal);
        Ok(exchange)
    }

    /// The same over a journal of the caller's, such as one that fails when it is told to; its clones are handles on one
    /// store. A life is one opening of it: the market's key comes from the seed alone, what is drawn from both.
    pub fn over(
        journal: impl Journal + Clone + 'static,
        config: ExchangeConfig,
        (seed, life): ([u8; 32], u64),
        now: UnixMs,
    ) -> Result<Self, OpenError> {
        let drawn_from =
            if life == 0 { seed } else { *blake3::keyed_hash(&seed, &life.to_le_bytes()).as_bytes() };
        let parts = Parts {
            reader: Box::new(journal.clone()),
            journal: Box::new(journal),
            index: Box::new(MemoryIndex::default()),
            signer: Signer::from_bytes(blake3::keyed_hash(&seed, b"exchange key").as_bytes()),
            entropy: Entropy::Seed { seed: drawn_from, drawn: 0 },
        };
        Self::assemble(parts, config, now)
    }

    /// Ends it as `kill -9` would: nothing more is committed, and every later call fails with [`FundsError::Closing`].
    pub fn kill(&self) {
        self.shared.core.lock().stop(FundsError::Closing);
    }

    /// Kills a market in memory, as `kill -9` would, and starts the next one from its journal: whatever
    /// was not committed is lost. A market on disk is killed by killing its process; here it starts empty.
    pub fn killed(self, now: UnixMs) -> Result<Self, OpenError> {
        // Closing first, so that dropping the old market commits nothing.
        self.kill();
        let journal = self.memory.clone().unwrap_or_default();
        let parts = Parts {
            journal: Box::new(journal.clone()),
            reader: Box::new(journal.clone()),
            index: Box::new(MemoryIndex::default()),
            signer: self.shared.signer.clone(),
            entropy: self.shared.entropy.lock().clone(),
        };
        let answers = self.shared.answers.inherited();
        let mut exchange = Self::assemble_with(parts, answers, self.shared.config.clone(), now)?;
        exchange.memory = Some(journal);
        Ok(exchange)
    }

    /// Puts an exchange together without starting its threads.
    pub(crate) fn assemble(parts: Parts, config: ExchangeConfig, now: UnixMs) -> Result<Self, OpenError> {
        Self::assemble_with(parts, Answers::in_memory(), config, now)
    }

    fn assemble_with(
        parts: Parts,
        answers: Answers,
        config: ExchangeConfig,
        now: UnixMs,
    ) -> Result<Self, OpenError> {
        let Parts { journal, reader, index, signer, mut entropy } = parts;
        let core = recover(&*journal, &signer.public(), &config, &mut entropy, now)?;
        let durable = journal.last().seq;
        let shared = Shared {
            core: Mutex::new(core),
            wake_writer: Condvar::new(),
            journal: Mutex::new(journal),
            lease: OnceLock::new(),
            index: Mutex::new(Index::open(index, reader)?),
            inbox: Mutex::default(),
            signer,
            entropy: Mutex::new(entropy),
            progress: watch::Sender::new(Progress { durable, failed: None }),
            config,
            answers,
            figures: Mutex::new(FiguresBook::new()),
            payouts: Runner::default(),
            closing: Mutex::new(false),
            wake_keeper: Condvar::new(),
        };
        shared.flush().and_then(|_| shared.end_left_holds(now)).map_err(OpenError::FirstCommit)?;
        let (threads, look) = (Mutex::new(Vec::new()), Mutex::new(None));
        Ok(Self { shared: Arc::new(shared), threads, look, lock: None, memory: None })
    }

    pub(crate) fn start_threads(&self) -> Result<(), OpenError> {
        let [writer, keeper, payer] = [(); 3].map(|()| self.shared.clone());
        let mut threads = self.threads.lock();
        threads.push(named_thread("bourse-writer", move || writer.write_groups())?);
        threads.push(named_thread("bourse-keeper", move || keeper.keep())?);
        threads.push(named_thread("bourse-payouts", move || payer.pay())?);
        Ok(())
    }

    /// Starts a thread that reads the whole journal, and tells what it finds when it is through. It changes nothing and
    /// holds nothing of the exchange while it reads, so that a store which does not answer keeps nobody from closing.
    pub(crate) fn look_through(
        &self,
        journal: Box<dyn Journal>,
        tell: impl FnOnce(&Result<Option<Position>, JournalError>) + Send + 'static,
    ) -> Result<(), OpenError> {
        let (running, ended) = channel::<()>();
        let shared = Arc::downgrade(&self.shared);
        let look = move || {
            tell(&look_through(journal.as_ref(), |span| shared.upgrade().is_some_and(|it| it.rest(span))));
            drop(journal);
            drop(running);
        };
        *self.look.lock() = Some(ended);
        named_thread("bourse-look", look).map(drop)
    }

    /// The exchange's public key, as checkpoints and receipts name it.
    pub fn public_key(&self) -> Digest32 {
        self.shared.signer.public()
    }

    /// The account of that name, if the books have one.
    pub fn account(&self, name: &str) -> Option<AccountId> {
        self.shared.core.lock().names.account(name)
    }

    /// Commits the open group now, if there is one. Returns the number of the last durable group.
    pub fn flush(&self) -> Result<CommitTicket, FundsError> {
        self.shared.flush().map(CommitTicket)
    }

    /// The group that everything done so far is in.
    pub fn ticket(&self) -> CommitTicket {
        self.shared.core.lock().ticket()
    }

    /// Releases holds whose time is over at `now`. Returns how many.
    pub fn tick(&self, now: UnixMs) -> Result<usize, FundsError> {
        self.shared.tick(now)
    }

    /// The digest of the whole state: equal digests mean equal behaviour.
    pub fn digest(&self) -> Digest32 {
        self.shared.core.lock().digest()
    }

    /// Commits, then audits the books from the journal, as [`check`](crate::check) does.
    pub fn check(&self, now: UnixMs) -> Result<CheckReport, FundsError> {
        self.flush()?;
        Ok(self.shared.index.lock().with_journal(|journal| check_journal(journal, Market::Live, now)))
    }

    /// Commits, then replays the journal from its beginning: `seen` hears of the balances of all accounts after every
    /// group, which is every state that a crash could have left.
    pub fn balances_by_group(&self, mut seen: impl FnMut(u64, &[AccountLine])) -> Result<(), OpenError> {
        self.flush().map_err(OpenError::FirstCommit)?;
        let index = self.shared.index.lock();
        index.with_journal(|journal| balances_by_group(journal, &mut seen))
    }

    /// Open holds of money and allowances.
    pub fn open_holds(&self) -> usize {
        let core = self.shared.core.lock();
        core.state.pendings_count() - core.rate_entries() - core.payouts.holds()
    }

    /// Closes the books: releases what is still held (unless [`Holds`] outlive it), ends the epoch if anything happened in
    /// it, commits, takes a snapshot, ends the threads. Every later call fails with [`FundsError::Closing`]. Closing twice is fine.
    pub fn close(&self) -> Result<(), FundsError> {
        let released = match self.shared.config.holds {
            Holds::EndWithExchange => self.shared.end_holds(Core::now, |core| core.stop(FundsError::Closing)),
            Holds::OutliveExchange => self.shared.core.lock().running().map(|()| 0),
        };
        self.shared.core.lock().stop(FundsError::Closing);
        *self.shared.closing.lock() = true;
        self.shared.wake_writer.notify_all();
        self.shared.wake_keeper.notify_all();
        self.shared.payouts.wake.notify_all();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the exchange had panicked");
            }
        }
        if let Some(ended) = self.look.lock().take() {
            // Either it breaks off or the time is over; nothing is ever sent.
            let _ = ended.recv_timeout(LOOK_ENDS_WITHIN);
        }
        self.shared.answers.close();
        match released {
            Ok(_) => self.shared.finish(),
            Err(FundsError::Closing) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the exchange did not close cleanly");
        }
    }
}

impl Shared {
    /// Runs a change on the core that must be on disk soon.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        self.run(|core| {
            let before = core.group_bytes();
            let result = change(core);
            if core.group_bytes() > before {
                core.make_due();
            }
            result
        })
    }

    /// Runs a change on the core that may wait for another one: a crash forgets it, and all that is lost is a
    /// hold that nobody would settle any more. The keeper commits what waits alone.
    pub(crate) fn change_in_memory<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        self.run(change)
    }

    /// Commits the open group soon, when it is the one of this ticket: somebody waits for it.
    pub(crate) fn hurry(&self, ticket: CommitTicket) {
        self.run(|core| {
            if core.group_bytes() > 0 && core.ticket() <= ticket {
                core.hurry();
            }
        });
    }

    /// Wakes the writer when there is something new to do for it.
    fn run<T>(&self, change: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.lock();
        let urgency =
            |core: &Core| [core.is_due(), core.is_awaited(), core.group_bytes() >= EARLY_COMMIT_BYTES];
        let before = urgency(&core);
        let result = change(&mut core);
        let is_more_urgent = urgency(&core).iter().zip(before).any(|(after, before)| *after && !before);
        drop(core);
        if is_more_urgent {
            self.wake_writer.notify_one();
        }
        result
    }

    /// Commits the open group and returns the number of the last durable one.
    pub(crate) fn flush(&self) -> Result<u64, FundsError> {
        let mut journal = self.journal.lock();
        let taken = {
            let mut core = self.core.lock();
            core.commits()?;
            core.take_group()
        };
        match taken {
            Some(group) => self.commit(&mut **journal, group),
            None => Ok(journal.last().seq),
        }
    }

    /// Appends a group that was taken under the journal's lock, with its checkpoint.
    pub(crate) fn commit(&self, journal: &mut dyn Journal, mut group: TakenGroup) -> Result<u64, FundsError> {
        let checkpoint = group.head.map(|(size, root, time)| self.signer.sign_checkpoint(size, root, time));
        if let Some(checkpoint) = &checkpoint {
            put_checkpoint(&mut group.bytes, checkpoint);
        }
        let after = journal.last();
        match journal.append(&group.bytes) {
            Ok(at) => {
                debug_assert_eq!(at.seq, group.seq, "the core counts groups as the journal does");
                self.core.lock().committed(group.bytes);
                if self.inbox.lock().push(Step { after, at, receipts: group.receipts, checkpoint }) {
                    self.wake_keeper.notify_one();
                }
                self.progress.send_modify(|progress| progress.durable = at.seq);
                // Nobody waits for the snapshot: it comes after the good news.
                let snapshot = group.snapshot.take().map(|bytes| Snapshot { at, bytes });
                let saved = snapshot.map_or(Ok(()), |snapshot| journal.save_snapshot(&snapshot));
                saved.map(|()| at.seq).map_err(|error| self.fail(&error))
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Ends what the last run left open, or of that what is overdue where holds outlive their exchange: the keeper
    /// takes the rest within its second.
    fn end_left_holds(&self, now: UnixMs) -> Result<(), FundsError> {
        let ended = match self.config.holds {
            Holds::EndWithExchange => self.end_holds(|_| now, |_| ())?,
            Holds::OutliveExchange => self.tick(now)?,
        };
        if ended > 0 {
            tracing::info!(ended, "ended holds that the last run left open");
            self.flush()?;
        }
        Ok(())
    }

    /// Ends all holds, a commit for each step; `last` happens in one with the last step. Returns how many.
    fn end_holds(
        &self,
        now: impl Fn(&Core) -> UnixMs,
        last: impl FnOnce(&mut Core),
    ) -> Result<usize, FundsError> {
        let mut ended = 0;
        loop {
            let mut core = self.core.lock();
            let (left, now) = (core.holds_open()?, now(&core));
            if left.is_empty() {
                last(&mut core);
                return Ok(ended);
            }
            drop(core);
            ended += left.len();
            while self.core.lock().settle_metered(RELEASES_PER_STEP_MAX, now)? > 0 {
                self.flush()?;
            }
            for step in left.chunks(RELEASES_PER_STEP_MAX) {
                self.core.lock().abandon(step, now)?;
                self.flush()?;
            }
        }
    }

    /// The journal failed: stops everything and tells those who wait.
    fn fail(&self, error: &JournalError) -> FundsError {
        tracing::error!(%error, "the journal failed: nothing more is accepted");
        let failed = FundsError::Journal(error.to_string());
        self.core.lock().stop(failed.clone());
        self.progress.send_modify(|progress| progress.failed = Some(failed.clone()));
        failed
    }

    /// Nothing may be to be written for a while: whoever asks whether this market serves must hear that it cannot.
    fn stop_without_lease(&self) {
        let lost = self.lease.get().and_then(Lease::lost);
        if let Some(why) = lost.filter(|_| self.core.lock().running().is_ok()) {
            self.fail(why);
            self.wake_writer.notify_all();
        }
    }

    pub(crate) fn tick(&self, now: UnixMs) -> Result<usize, FundsError> {
        let mut released = 0;
        loop {
            let step = self.change_in_memory(|core| core.expire(now))?;
            released += step;
            if step < RELEASES_PER_STEP_MAX {
                return Ok(released);
            }
        }
    }

    /// A transfer id for something that the house itself does.
    pub(crate) fn house_transfer(&self, now: UnixMs) -> Result<TransferId, DataDirError> {
        let at = self.core.lock().state.new_id_time(now);
        Ok(RequestId::new(at, self.entropy.lock().draw()?).transfer(0))
    }

    pub(crate) fn draw(&self) -> Result<[u8; 32], DataDirError> {
        self.entropy.lock().draw()
    }

    /// Projects what is committed and returns the index.
    pub(crate) fn caught_up_index(&self) -> Result<parking_lot::MutexGuard<'_, AnyIndex>, IndexError> {
        let mut index = self.index.lock();
        let durable = self.progress.borrow().durable;
        let steps = self.inbox.lock().take();
        index.catch_up(steps, durable)?;
        Ok(index)
    }

    fn write_groups(&self) {
        loop {
            let mut core = self.core.lock();
            while !core.is_due() && core.running().is_ok() {
                self.wake_writer.wait(&mut core);
            }
            let begun = Instant::now();
            while core.running().is_ok() && core.group_bytes() < EARLY_COMMIT_BYTES {
                let config = &self.config;
                let window = if core.is_awaited() { config.commit_window } else { config.lazy_commit_window };
                if self.wake_writer.wait_until(&mut core, begun + window).timed_out() {
                    break;
                }
            }
            let running = core.running();
            drop(core);
            if self.flush().is_err() || running.is_err() {
                return;
            }
        }
    }

    fn keep(&self) {
        let period = self.config.epoch_period;
        let mut epoch_ends = Instant::now() + period;
        let mut closing = self.closing.lock();
        while !*closing {
            self.wake_keeper.wait_for(&mut closing, KEEPER_PERIOD.min(period));
            if *closing {
                return;
            }
            drop(closing);
            self.stop_without_lease();
            if let Err(error) = self.tick(wall_clock()) {
                tracing::warn!(%error, "overdue holds were not released");
            }
            if Instant::now() >= epoch_ends {
                epoch_ends = Instant::now() + period;
                self.end_epoch();
                self.payouts.wake.notify_one();
            }
            // A failure has been logged and has stopped the market.
            let _ = self.flush();
            if let Err(error) = self.caught_up_index().map(drop) {
                tracing::warn!(%error, "the receipts index did not catch up");
            }
            self.keep_figures();
            closing = self.closing.lock();
        }
    }

    /// Waits for so long, or until the exchange closes. Whether it goes on.
    fn rest(&self, span: Duration) -> bool {
        let mut closing = self.closing.lock();
        if !*closing {
            self.wake_keeper.wait_for(&mut closing, span);
        }
        !*closing
    }

    fn end_epoch(&self) {
        match self.close_epoch(wall_clock()) {
            Ok(Some(signed)) => tracing::debug!(epoch = signed.epoch.number, "the epoch has ended"),
            Ok(None) => {}
            Err(error @ EpochError::Close(_)) => tracing::error!(%error, "the epoch could not end"),
            Err(error) => tracing::warn!(%error, "the epoch did not end"),
        }
    }

    /// The last acts: end the epoch, commit, project, take a snapshot. None of it when a group was lost: the core knows
    /// more than the journal then.
    fn finish(&self) -> Result<(), FundsError> {
        if let Some(failed) = self.progress.borrow().failed.clone() {
            return Err(failed);
        }
        match self.close_last_epoch() {
            Err(EpochError::Close(error)) => tracing::error!(%error, "the last epoch could not end"),
            Err(EpochError::Funds(error)) => return Err(error),
            Ok(_) => {}
        }
        self.flush()?;
        if let Err(error) = self.caught_up_index().map(drop) {
            tracing::warn!(%error, "the receipts index did not catch up; it will at the next start");
        }
        let mut journal = self.journal.lock();
        let at: Position = journal.last();
        let bytes = self.core.lock().encode_snapshot();
        let saved = journal.save_snapshot(&Snapshot { at, bytes });
        saved.map_err(|error| FundsError::Journal(error.to_string()))
    }
}

fn named_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
}

/// The time of day, for the keeper alone; callers bring their own.
pub(crate) fn wall_clock() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

//! The journal of decisions on its way to the disk.
//!
//! What is written is the market's ([`bourse_market::JournalWriter`]); here it waits in memory and goes into files. Events
//! are appended under the lock that guards the health, so that they stand in the order in which they took effect; a
//! [`Recorder`] takes them out a few times a second. Nobody waits for it: when the disk is too slow and
//! [`PENDING_BYTES_MAX`] are waiting, they are dropped and a new file begins, and the decisions that were dropped cannot
//! be explained afterwards. A file starts with the whole book and health, so each replays alone; the oldest files go when
//! all together are larger than they may be.

use crate::gateway::Gateway;
use bourse_market::{Demand, HealthTable, JournalWriter, MarketSnapshot, OfferIndex, Outcome};
use bourse_types::{Digest32, RequestId, UnixMs};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most bytes of events that wait for the disk.
pub const PENDING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A file that has grown to this is followed by another.
pub const DECISION_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How the names of the files end.
pub const DECISION_FILE_SUFFIX: &str = ".decisions";
/// How often the events are taken out.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Events that wait.
#[derive(Default)]
pub(crate) struct Journal {
    /// None while nobody records.
    writer: Option<JournalWriter>,
    pending: Vec<u8>,
    /// The pending bytes begin a file.
    begins: bool,
    dropped: u64,
    dropped_ever: u64,
}

impl Journal {
    /// Bytes that wait, and that were dropped since the start.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.pending.len() as u64, self.dropped_ever)
    }

    /// Begins a file with the market as it is. What waits for the file before is kept for one more [`Journal::take`].
    fn begin(&mut self, snapshot: &MarketSnapshot, health: &HealthTable) {
        self.pending.clear();
        self.writer = Some(JournalWriter::begin(snapshot, health, &mut self.pending));
        self.begins = true;
    }

    pub(crate) fn book(&mut self, snapshot: &MarketSnapshot) {
        self.with(|writer, out| writer.book(snapshot, out));
    }

    pub(crate) fn started(&mut self, offer: OfferIndex) {
        self.with(|writer, out| writer.started(offer, out));
    }

    pub(crate) fn outcome(&mut self, offer: OfferIndex, now: UnixMs, outcome: &Outcome) {
        self.with(|writer, out| writer.outcome(offer, now, outcome, out));
    }

    pub(crate) fn decision(
        &mut self,
        request: RequestId,
        (now, seed): (UnixMs, u64),
        demand: &Demand<'_>,
        digest: Digest32,
    ) {
        self.with(|writer, out| writer.decision(request, (now, seed), demand, digest, out));
    }

    fn with(&mut self, write: impl FnOnce(&mut JournalWriter, &mut Vec<u8>)) {
        let Some(writer) = &mut self.writer else { return };
        if self.pending.len() > PENDING_BYTES_MAX {
            // The recorder finds no writer and begins anew.
            self.dropped += self.pending.len() as u64;
            self.dropped_ever += self.pending.len() as u64;
            self.pending = Vec::new();
            self.writer = None;
            return;
        }
        write(writer, &mut self.pending);
    }

    /// What waits, and whether it begins a file. A journal that nobody writes begins with `market`.
    pub(crate) fn take(&mut self, anew: Anew, market: (&MarketSnapshot, &HealthTable)) -> Taken {
        let before = match anew {
            Anew::Yes => std::mem::take(&mut self.pending),
            Anew::No => Vec::new(),
        };
        if self.writer.is_none() || anew == Anew::Yes {
            self.begin(market.0, market.1);
        }
        let begins = std::mem::take(&mut self.begins);
        Taken {
            before,
            begins,
            bytes: std::mem::take(&mut self.pending),
            dropped: std::mem::take(&mut self.dropped),
        }
    }
}

/// Whether a new file is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anew {
    Yes,
    No,
}

/// What was waiting.
pub(crate) struct Taken {
    /// The rest of the file before.
    before: Vec<u8>,
    /// Whether `bytes` begin a file.
    begins: bool,
    bytes: Vec<u8>,
    /// Bytes that were dropped since the last time.
    dropped: u64,
}

#[cfg(test)]
impl Taken {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes the journal of a gateway into a folder until it is dropped.
pub struct Recorder {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts writing. `bytes_max` bounds all files together; the one that is written is never removed.
    pub fn start(gateway: &Gateway, folder: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut files = Files { folder: folder.to_owned(), bytes_max, current: None };
        let gateway = gateway.clone();
        // The market keeps what is decided only for who has begun to take it: nothing may be decided before.
        files.flush(&gateway);
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("decisions".to_owned()).spawn(move || {
            loop {
                let ended = stopped.recv_timeout(FLUSH_EVERY) != Err(RecvTimeoutError::Timeout);
                files.flush(&gateway);
                if ended {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A recorder that panicked has said so already.
            let _ = thread.join();
        }
    }
}

struct Files {
    folder: PathBuf,
    bytes_max: u64,
    /// The file that is written, and its length.
    current: Option<(File, u64)>,
}

impl Files {
    fn flush(&mut self, gateway: &Gateway) {
        let is_full = self.current.as_ref().is_none_or(|(_, bytes)| *bytes >= DECISION_FILE_BYTES);
        let taken = gateway.take_decisions(if is_full { Anew::Yes } else { Anew::No });
        if taken.dropped > 0 {
            tracing::warn!(
                bytes = taken.dropped,
                "the journal of decisions could not keep up; some were dropped"
            );
        }
        if let Err(error) = self.store(&taken, gateway) {
            tracing::warn!(%error, folder = %self.folder.display(), "the journal of decisions cannot be written");
            self.current = None;
        }
    }

    fn store(&mut self, taken: &Taken, gateway: &Gateway) -> io::Result<()> {
        self.append(&taken.before)?;
        if taken.begins {
            let name = format!("{:013}{DECISION_FILE_SUFFIX}", gateway.0.ports.clock.now().0);
            self.remove_oldest()?;
            self.current = Some((File::create(self.folder.join(name))?, 0));
        }
        self.append(&taken.bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((file, length)) = &mut self.current else { return Ok(()) };
        file.write_all(bytes)?;
        *length += bytes.len() as u64;
        Ok(())
    }

    /// Makes room for one more full file.
    fn remove_oldest(&self) -> io::Result<()> {
        let files = decision_files(&self.folder)?;
        let sizes = files.iter().map(|path| fs::metadata(path).map(|m| m.len()));
        let mut total = sizes.sum::<io::Result<u64>>()?;
        for path in files {
            if total + DECISION_FILE_BYTES <= self.bytes_max {
                break;
            }
            total -= fs::metadata(&path)?.len();
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// The files of a folder, oldest first.
pub fn decision_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|name| name.ends_with(DECISION_FILE_SUFFIX)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

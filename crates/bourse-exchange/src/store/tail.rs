//! Where the journal ends, told a second time: a file in the data directory with the position of the last commit.
//!
//! A store may lose its end without knowing. SQLite drops a torn tail of its log silently; a database that was restored
//! from an older backup, or whose replica took over before it had everything, begins where it is. So whoever commits notes
//! the position here (no `fsync`: it may lag behind after a power cut, never be ahead), and a journal that ends before it
//! is reported as damaged instead of being continued. Whoever knows that groups are gone and goes on without them removes
//! the file.
//!
//! Limits: it knows of this directory's commits. A standby elsewhere has a file of its own.

use crate::data_dir::owner_only_file;
use bourse_ledger::{Group, Journal, JournalError, Position, Snapshot};
use bourse_types::Digest32;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// File name of the position of the last commit.
pub(crate) const TAIL_FILE: &str = "exchange.tail";
const TAIL_BYTES: usize = 40;

/// The file, for the one who commits.
#[derive(Debug)]
pub(super) struct Tail(File);

impl Tail {
    pub(super) fn open(dir: &Path) -> Result<Self, JournalError> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        owner_only_file(&mut options);
        let file = options.open(dir.join(TAIL_FILE));
        file.map(Self).map_err(|error| JournalError::Store(format!("{TAIL_FILE}: {error}")))
    }

    pub(super) fn position(&self) -> Option<Position> {
        read(&self.0)
    }

    pub(super) fn write(&self, last: Position) -> Result<(), String> {
        let mut bytes = [0u8; TAIL_BYTES];
        bytes[..8].copy_from_slice(&last.seq.to_le_bytes());
        bytes[8..].copy_from_slice(&last.chain.0);
        self.0.write_all_at(&bytes, 0).map_err(|error| format!("{TAIL_FILE}: {error}"))
    }
}

/// What the file of a directory says, for those who only read; none where there is no whole one. To be read before the
/// journal, which a live writer moves on meanwhile.
pub(crate) fn tail_of(dir: &Path) -> Option<Position> {
    read(&File::open(dir.join(TAIL_FILE)).ok()?)
}

/// Whether a journal has what was committed.
pub(crate) fn check_tail(journal: &dyn Journal, tail: Option<Position>) -> Result<(), JournalError> {
    let Some(tail) = tail else { return Ok(()) };
    let last_good = journal.last().seq;
    if tail.seq > last_good {
        let what = format!("group {} was committed and is gone", tail.seq);
        return Err(JournalError::Damaged { last_good, what });
    }
    match journal.read(tail, 0) {
        Ok(_) => Ok(()),
        Err(JournalError::Damaged { .. }) => {
            let what = format!("group {} is not the one that was committed", tail.seq);
            Err(JournalError::Damaged { last_good: tail.seq.saturating_sub(1), what })
        }
        Err(error) => Err(error),
    }
}

/// A journal in a store elsewhere, with its tail in the data directory.
pub(super) struct Tailed<J> {
    journal: J,
    tail: Tail,
    broken: Option<JournalError>,
}

impl<J: Journal> Tailed<J> {
    pub(super) fn open(journal: J, dir: &Path) -> Result<Self, JournalError> {
        let tail = Tail::open(dir)?;
        check_tail(&journal, tail.position())?;
        Ok(Self { journal, tail, broken: None })
    }
}

impl<J: Journal> Journal for Tailed<J> {
    fn append(&mut self, bytes: &[u8]) -> Result<Position, JournalError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let at = self.journal.append(bytes)?;
        let noted = self.tail.write(at).map_err(JournalError::Store);
        noted.inspect_err(|error| self.broken = Some(error.clone()))?;
        Ok(at)
    }

    fn last(&self) -> Position {
        self.journal.last()
    }

    fn read(&self, after: Position, count_max: usize) -> Result<Vec<Group>, JournalError> {
        self.journal.read(after, count_max)
    }

    fn save_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), JournalError> {
        self.broken.clone().map_or(Ok(()), Err)?;
        self.journal.save_snapshot(snapshot)
    }

    fn load_snapshot(&self) -> Result<Option<Snapshot>, JournalError> {
        self.journal.load_snapshot()
    }
}

fn read(file: &File) -> Option<Position> {
    let mut bytes = [0u8; TAIL_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (seq, chain) = bytes.split_first_chunk()?;
    Some(Position { seq: u64::from_le_bytes(*seq), chain: Digest32(chain.try_into().ok()?) })
}

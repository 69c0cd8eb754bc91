//! The index of receipts: where each one lies in the journal, the tiles to prove it with, and what was sold.
//!
//! A projection of the journal, made off the hot path: it can be thrown away and made again at any time by
//! reading the committed groups, and a look-up that comes too early simply catches up first. In a running
//! market the writer leaves the places of each group in an [`Inbox`], so that nothing is read again; when
//! the inbox is full it is emptied, and the next step reads the journal. The index holds places, not
//! receipts; the bytes are read from the journal.

use crate::core::ReceiptMark;
use crate::record::{Record, Records};
use bourse_ledger::{CodecError, Group, Journal, JournalError, Position};
use bourse_proof::log::{MerkleLog, Tile, TileSource};
use bourse_proof::merkle::{ProofError, leaf_hash};
use bourse_types::{Digest32, RequestId, UtcDay};
use bourse_wire::canonical::CanonicalError;
use bourse_wire::funds::{ACTIVITY_ROWS_PER_DAY_MAX, ActivityRow, ActivitySums, GenerationNote};
use bourse_wire::receipt::{Checkpoint, Receipt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

mod activity;
mod sqlite;
pub(crate) use activity::{ActivityKey, ActivityRange, Sale, add_sale, first_kept};
use activity::{MemoryActivity, summed};
#[cfg(test)]
pub(crate) use sqlite::INDEX_FILE;
pub(crate) use sqlite::SqliteIndex;

/// Groups projected in one step.
pub(crate) const GROUPS_PER_STEP_MAX: usize = 256;
/// Rows of activity of one account and day, at most, before all else is one row.
const ACTIVITY_ROWS_MAX: usize = ACTIVITY_ROWS_PER_DAY_MAX;

/// Why the index could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("{0}")]
    Journal(#[from] JournalError),
    #[error("the receipts index failed: {0}")]
    Store(String),
    #[error("a record cannot be read: {0}")]
    Record(#[from] CodecError),
    #[error("a receipt or its note cannot be read: {0}")]
    Receipt(#[from] CanonicalError),
    #[error("a proof cannot be made: {0}")]
    Proof(#[from] ProofError),
    #[error("there is no checkpoint yet")]
    NoCheckpoint,
}

/// Receipts in the inbox, at most.
pub(crate) const INBOX_RECEIPTS_MAX: usize = 16_384;
/// Groups in the inbox, at most.
pub(crate) const INBOX_GROUPS_MAX: usize = 4_096;

/// A committed group, as the writer left it for the index.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) after: Position,
    pub(crate) at: Position,
    pub(crate) receipts: Arc<Vec<ReceiptMark>>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// Groups that the index has not seen.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    steps: Vec<Step>,
    receipts: usize,
}

impl Inbox {
    /// Adds a group; true when it is time to empty the inbox.
    pub(crate) fn push(&mut self, step: Step) -> bool {
        if self.receipts + step.receipts.len() > INBOX_RECEIPTS_MAX || self.steps.len() >= INBOX_GROUPS_MAX {
            self.take();
        }
        self.receipts += step.receipts.len();
        if step.receipts.len() <= INBOX_RECEIPTS_MAX {
            self.steps.push(step);
        }
        self.receipts >= INBOX_RECEIPTS_MAX / 4 || self.steps.len() >= INBOX_GROUPS_MAX / 4
    }

    pub(crate) fn take(&mut self) -> Vec<Step> {
        self.receipts = 0;
        std::mem::take(&mut self.steps)
    }
}

/// Where a receipt lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position in the log.
    pub(crate) leaf: u64,
    /// The group before the one that holds it: where to start reading.
    pub(crate) after: Position,
    /// Where its bytes start within the group, and how many they are.
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// How far the projection has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexHead {
    pub(crate) position: Position,
    pub(crate) log: MerkleLog,
    pub(crate) checkpoint: Option<Checkpoint>,
}

/// What one step adds.
#[derive(Debug, Default)]
pub(crate) struct IndexBatch {
    pub(crate) places: Vec<(RequestId, Place)>,
    pub(crate) tiles: Vec<Tile>,
    pub(crate) activity: BTreeMap<ActivityKey, ActivitySums>,
}

/// Where the projection is kept.
pub(crate) trait IndexStore: TileSource + Send {
    /// How far it has come; the default for an empty one.
    fn head(&self) -> Result<IndexHead, IndexError>;
    /// Adds a step, whole or not at all.
    fn commit(&mut self, batch: &IndexBatch, head: &IndexHead) -> Result<(), IndexError>;
    /// Where a receipt lies.
    fn find(&self, request: RequestId) -> Result<Option<Place>, IndexError>;
    /// What was sold.
    fn activity(&self, range: &ActivityRange) -> Result<Vec<(ActivityKey, ActivitySums)>, IndexError>;
    /// Forgets everything.
    fn reset(&mut self) -> Result<(), IndexError>;
}

/// A receipt as found, with what stands beside it and where it lies in the log.
pub(crate) struct Found {
    pub(crate) receipt: Receipt,
    pub(crate) note: GenerationNote,
    pub(crate) leaf: u64,
}

/// The proof that a receipt is in the log.
pub(crate) struct Inclusion {
    pub(crate) path: Vec<Digest32>,
    pub(crate) checkpoint: Checkpoint,
}

/// The projection and the journal that it reads.
pub(crate) struct Index<S> {
    store: S,
    journal: Box<dyn Journal>,
    head: IndexHead,
}

impl<S: IndexStore> Index<S> {
    /// Opens the projection; one that is damaged or belongs to another journal is made anew.
    pub(crate) fn open(mut store: S, journal: Box<dyn Journal>) -> Result<Self, IndexError> {
        let head = store.head().ok().filter(|head| journal.read(head.position, 0).is_ok());
        let head = if let Some(head) = head {
            head
        } else {
            store.reset()?;
            IndexHead::default()
        };
        Ok(Self { store, journal, head })
    }

    /// Projects what came through the inbox, and reads from the journal what did not, up to group
    /// `durable` at least.
    pub(crate) fn catch_up(&mut self, steps: Vec<Step>, durable: u64) -> Result<(), IndexError> {
        let mut batch = IndexBatch::default();
        let mut head = self.head.clone();
        for step in steps {
            if step.after == head.position {
                take_step(&step, &mut head, &mut batch);
            }
        }
        if head.position != self.head.position {
            self.store.commit(&batch, &head)?;
            self.head = head;
        }
        if self.head.position.seq < durable { self.read_journal() } else { Ok(()) }
    }

    fn read_journal(&mut self) -> Result<(), IndexError> {
        loop {
            let groups = self.journal.read(self.head.position, GROUPS_PER_STEP_MAX)?;
            let mut batch = IndexBatch::default();
            let mut head = self.head.clone();
            for group in &groups {
                project(group, &mut head, &mut batch)?;
            }
            if !groups.is_empty() {
                self.store.commit(&batch, &head)?;
                self.head = head;
            }
            if groups.len() < GROUPS_PER_STEP_MAX {
                return Ok(());
            }
        }
    }

    /// Looks a receipt up; call [`Index::catch_up`] first for the newest.
    pub(crate) fn find(&self, request: RequestId) -> Result<Option<Found>, IndexError> {
        let Some(place) = self.store.find(request)? else { return Ok(None) };
        let groups = self.journal.read(place.after, 1)?;
        let group = groups.first().ok_or(CodecError::Truncated)?;
        let start = place.offset as usize;
        let end = start.saturating_add(place.len as usize);
        let bytes = group.bytes.get(start..end).ok_or(CodecError::Truncated)?;
        let receipt = Receipt::from_canonical_bytes(bytes)?;
        let note = GenerationNote::read(Records::new(&group.bytes[end..]).take_note()?)?;
        Ok(Some(Found { receipt, note, leaf: place.leaf }))
    }

    /// The proof that a receipt is in the log.
    pub(crate) fn prove(&self, leaf: u64) -> Result<Inclusion, IndexError> {
        let checkpoint = self.checkpoint()?;
        let path = self.head.log.inclusion(&self.store, leaf, checkpoint.size)?;
        Ok(Inclusion { path, checkpoint })
    }

    /// What was sold, keys summed.
    pub(crate) fn activity(&self, range: &ActivityRange) -> Result<Vec<ActivityRow>, IndexError> {
        self.store.activity(range).map(summed)
    }

    /// Reads the journal through the index's own handle.
    pub(crate) fn with_journal<T>(&self, read: impl FnOnce(&dyn Journal) -> T) -> T {
        read(&*self.journal)
    }

    /// The newest checkpoint projected. Covers every receipt projected.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint, IndexError> {
        self.head.checkpoint.ok_or(IndexError::NoCheckpoint)
    }

    /// The consistency path from the first `from` receipts to the newest checkpoint.
    pub(crate) fn consistency(&self, from: u64) -> Result<Vec<Digest32>, IndexError> {
        Ok(self.head.log.consistency(&self.store, from, self.checkpoint()?.size)?)
    }
}

fn take_step(step: &Step, head: &mut IndexHead, batch: &mut IndexBatch) {
    for mark in step.receipts.iter() {
        let place = Place { leaf: head.log.size(), after: step.after, offset: mark.offset, len: mark.len };
        batch.tiles.extend(head.log.append(mark.leaf));
        batch.places.push((mark.request, place));
        if let Some(sale) = &mark.sale {
            add_sale(&mut batch.activity, sale);
        }
    }
    head.checkpoint = step.checkpoint.or(head.checkpoint);
    head.position = step.at;
}

fn project(group: &Group, head: &mut IndexHead, batch: &mut IndexBatch) -> Result<(), IndexError> {
    let mut records = Records::new(&group.bytes);
    while let Some(record) = records.next_but_events() {
        match record? {
            Record::Receipt { offset, bytes } => {
                let leaf = head.log.size();
                batch.tiles.extend(head.log.append(leaf_hash(bytes)));
                let (offset, len) = (offset as u32, bytes.len() as u32);
                let receipt = Receipt::from_canonical_bytes(bytes)?;
                let note = GenerationNote::read(records.take_note()?)?;
                batch.places.push((receipt.request, Place { leaf, after: head.position, offset, len }));
                if let Some(sale) = Sale::of(&receipt, &note) {
                    add_sale(&mut batch.activity, &sale.on(UtcDay::of(records.time())));
                }
            }
            Record::Checkpoint(checkpoint) => head.checkpoint = Some(checkpoint),
            _ => {}
        }
    }
    head.position = group.position;
    Ok(())
}

/// The projection in memory: for simulations and tests.
#[derive(Debug, Default)]
pub(crate) struct MemoryIndex {
    head: IndexHead,
    places: HashMap<RequestId, Place>,
    tiles: HashMap<(u8, u64), Tile>,
    activity: MemoryActivity,
}

impl TileSource for MemoryIndex {
    fn tile(&self, level: u8, index: u64) -> Option<Tile> {
        self.tiles.get(&(level, index)).cloned()
    }
}

impl IndexStore for MemoryIndex {
    fn head(&self) -> Result<IndexHead, IndexError> {
        Ok(self.head.clone())
    }

    fn commit(&mut self, batch: &IndexBatch, head: &IndexHead) -> Result<(), IndexError> {
        self.places.extend(batch.places.iter().copied());
        self.tiles.extend(batch.tiles.iter().map(|tile| ((tile.level, tile.index), tile.clone())));
        self.activity.add(&batch.activity);
        self.head = head.clone();
        Ok(())
    }

    fn activity(&self, range: &ActivityRange) -> Result<Vec<(ActivityKey, ActivitySums)>, IndexError> {
        Ok(self.activity.read(range))
    }

    fn find(&self, request: RequestId) -> Result<Option<Place>, IndexError> {
        Ok(self.places.get(&request).copied())
    }

    fn reset(&mut self) -> Result<(), IndexError> {
        *self = Self::default();
        Ok(())
    }
}

impl IndexStore for Box<dyn IndexStore> {
    fn head(&self) -> Result<IndexHead, IndexError> {
        (**self).head()
    }

    fn commit(&mut self, batch: &IndexBatch, head: &IndexHead) -> Result<(), IndexError> {
        (**self).commit(batch, head)
    }

    fn find(&self, request: RequestId) -> Result<Option<Place>, IndexError> {
        (**self).find(request)
    }

    fn activity(&self, range: &ActivityRange) -> Result<Vec<(ActivityKey, ActivitySums)>, IndexError> {
        (**self).activity(range)
    }

    fn reset(&mut self) -> Result<(), IndexError> {
        (**self).reset()
    }
}

impl TileSource for Box<dyn IndexStore> {
    fn tile(&self, level: u8, index: u64) -> Option<Tile> {
        (**self).tile(level, index)
    }
}

#[cfg(test)]
mod tests;

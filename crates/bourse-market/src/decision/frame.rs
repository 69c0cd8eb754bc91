//! Frames: how events stand in a file.
//!
//! A file is [`MAGIC`], then frames: the length of the payload (u32), a checksum (u32) and the payload,
//! whose first byte is the kind of event. The checksum is the CRC-32 of the payload, begun with the checksum
//! before it, so that frames can be neither changed nor swapped nor dropped from the middle unnoticed by
//! accident; it is no seal against a forger, who can make it anew.
//!
//! A file that was cut while its last frame was written ends in a *torn* tail: fewer bytes than the
//! frame's length, or zeros, as file systems leave them. [`JournalReader::offset`] then says where the last
//! whole frame ends; what follows can be cut off. A wrong checksum anywhere else is *damage*.

use super::demand::put_demand;
use super::{DecisionEvent, DecisionRecord, RecordedDemand};
use crate::canonical::{Bytes, Canonical, CanonicalError};
use crate::demand::Demand;
use crate::health::{HealthTable, Outcome};
use crate::offer::OfferIndex;
use crate::snapshot::MarketSnapshot;
use bourse_types::{Digest32, RequestId, UnixMs};

/// First bytes of a file, with the version of the layout.
const MAGIC: [u8; 16] = *b"bourse/decide/2\n";
/// Largest payload of a frame: a checkpoint of a hundred thousand busy offers.
pub const FRAME_BYTES_MAX: usize = 1 << 30;
const HEAD_BYTES: usize = 4 + 4;
/// Room for most frames, a decision with a few wishes among them.
const FRAME_BYTES_TYPICAL: usize = 512;

const BOOK: u8 = 1;
const CHECKPOINT: u8 = 2;
const STARTED: u8 = 3;
const OUTCOME: u8 = 4;
const DECISION: u8 = 5;

/// Why a journal cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file is none, or of another version.
    #[error("this is no journal of decisions that this program knows")]
    NotAJournal,
    /// The last frame was not written to its end.
    #[error("the journal is torn at byte {offset}: its last entry was not written to the end")]
    Torn {
        /// Where the last whole frame ends.
        offset: usize,
    },
    /// A frame is not what was written.
    #[error("the journal is damaged at byte {offset}: the checksum does not fit")]
    Damaged {
        /// Where the frame starts.
        offset: usize,
    },
    /// A frame is what was written, but not by a program of this version.
    #[error("the entry at byte {offset} is not known here")]
    Malformed {
        /// Where the frame starts.
        offset: usize,
        /// What is wrong with it.
        #[source]
        source: CanonicalError,
    },
}

/// Appends events to a buffer, which the caller writes where it likes, in the same order.
#[derive(Debug, Clone)]
pub struct JournalWriter {
    check: u32,
}

impl JournalWriter {
    /// Starts a file: its head, the book in force and the health of its offers.
    pub fn begin(snapshot: &MarketSnapshot, health: &HealthTable, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&MAGIC);
        let mut writer = Self { check: 0 };
        writer.book(snapshot, out);
        writer.checkpoint(health, out);
        writer
    }

    /// Another book came into force.
    pub fn book(&mut self, snapshot: &MarketSnapshot, out: &mut Vec<u8>) {
        self.frame(BOOK, out, |out| snapshot.put(out));
    }

    /// The whole health, to compare a replay with.
    pub fn checkpoint(&mut self, health: &HealthTable, out: &mut Vec<u8>) {
        self.frame(CHECKPOINT, out, |out| health.put(out));
    }

    /// An attempt started.
    pub fn started(&mut self, offer: OfferIndex, out: &mut Vec<u8>) {
        self.frame(STARTED, out, |out| offer.put(out));
    }

    /// An attempt ended.
    pub fn outcome(&mut self, offer: OfferIndex, now: UnixMs, outcome: &Outcome, out: &mut Vec<u8>) {
        self.frame(OUTCOME, out, |out| {
            offer.put(out);
            now.put(out);
            outcome.put(out);
        });
    }

    /// A decision was made; `digest` is its [`plan_digest`](super::plan_digest).
    pub fn decision(
        &mut self,
        request: RequestId,
        (now, seed): (UnixMs, u64),
        demand: &Demand<'_>,
        digest: Digest32,
        out: &mut Vec<u8>,
    ) {
        self.frame(DECISION, out, |out| {
            request.put(out);
            now.put(out);
            seed.put(out);
            put_demand(demand, out);
            digest.put(out);
        });
    }

    fn frame(&mut self, kind: u8, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.reserve(FRAME_BYTES_TYPICAL);
        out.extend_from_slice(&[0; HEAD_BYTES]);
        out.push(kind);
        put(out);
        let payload = start + HEAD_BYTES;
        self.check = checksum(self.check, &out[payload..]);
        let len = (out.len() - payload) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        out[start + 4..payload].copy_from_slice(&self.check.to_le_bytes());
    }
}

fn checksum(before: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(payload);
    hasher.finalize()
}

/// Takes events out of the bytes of a journal. Ends after the first error.
#[derive(Debug, Clone)]
pub struct JournalReader<'a> {
    bytes: &'a [u8],
    offset: usize,
    check: u32,
    has_failed: bool,
}

impl<'a> JournalReader<'a> {
    /// Reads the head.
    pub fn new(bytes: &'a [u8]) -> Result<Self, JournalError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(JournalError::NotAJournal);
        }
        Ok(Self { bytes, offset: MAGIC.len(), check: 0, has_failed: false })
    }

    /// Where the last whole frame ends.
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Result<DecisionEvent, JournalError> {
        let offset = self.offset;
        let rest = &self.bytes[offset..];
        let torn = JournalError::Torn { offset };
        if rest.iter().all(|byte| *byte == 0) {
            return Err(torn);
        }
        let mut head = Bytes::new(rest);
        let (Ok(len), Ok(check)) = (u32::read(&mut head), u32::read(&mut head)) else { return Err(torn) };
        let len = len as usize;
        if len > FRAME_BYTES_MAX {
            return Err(JournalError::Damaged { offset });
        }
        let Ok(payload) = head.fixed(len) else { return Err(torn) };
        let after = &rest[HEAD_BYTES + len..];
        if checksum(self.check, payload) != check {
            // Written out of order before the power went, or changed since.
            let is_tail = after.iter().all(|byte| *byte == 0);
            return Err(if is_tail { torn } else { JournalError::Damaged { offset } });
        }
        let event = event(payload).map_err(|source| JournalError::Malformed { offset, source })?;
        self.check = check;
        self.offset += HEAD_BYTES + len;
        Ok(event)
    }
}

impl Iterator for JournalReader<'_> {
    type Item = Result<DecisionEvent, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed || self.offset == self.bytes.len() {
            return None;
        }
        let read = self.read();
        self.has_failed = read.is_err();
        Some(read)
    }
}

fn event(payload: &[u8]) -> Result<DecisionEvent, CanonicalError> {
    let mut from = Bytes::new(payload);
    let event = match u8::read(&mut from)? {
        BOOK => DecisionEvent::Book(Box::new(Canonical::read(&mut from)?)),
        CHECKPOINT => DecisionEvent::Checkpoint(Box::new(Canonical::read(&mut from)?)),
        STARTED => DecisionEvent::Started(Canonical::read(&mut from)?),
        OUTCOME => DecisionEvent::Outcome {
            offer: Canonical::read(&mut from)?,
            now: Canonical::read(&mut from)?,
            outcome: Canonical::read(&mut from)?,
        },
        DECISION => DecisionEvent::Decision(Box::new(DecisionRecord {
            request: Canonical::read(&mut from)?,
            now: Canonical::read(&mut from)?,
            seed: Canonical::read(&mut from)?,
            demand: RecordedDemand::read(&mut from)?,
            digest: Canonical::read(&mut from)?,
        })),
        _ => return Err(CanonicalError::Value("kind of entry")),
    };
    from.end()?;
    Ok(event)
}

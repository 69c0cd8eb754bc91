//! Ending epochs: once a minute the exchange signs what it owes, and to how many.
//!
//! The keeper ends one every [`EPOCH_PERIOD`]; an operator may ask for one in between, and an exchange that closes in
//! order ends its last one, so that no market rests with books that it did not sign. What is owed is copied
//! under the core's lock, together with the group that is taken for the journal; the tree is made and signed
//! without that lock, and its record ends the group, before the checkpoint, as checkpoints do. So the record
//! stands exactly where its sums hold, no request waits for hashing but those that wait for the disk at that
//! moment, and nothing is written when nothing happened.
//!
//! A tree takes about a microsecond an account: 10 ms for 10,000, a second for the largest. The salts' seed is
//! derived from the exchange's key and stands in the journal, which only its operator reads: replay makes every
//! root again without the key (decision 0011).

use crate::core::{CloseError, Core, EpochDraft};
use crate::exchange::{Exchange, Shared};
use crate::record::put_epoch;
use bourse_types::UnixMs;
use bourse_wire::funds::FundsError;
use bourse_wire::liability::{Epoch, SignedEpoch};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long an epoch is.
pub const EPOCH_PERIOD: Duration = Duration::from_mins(1);

/// Why an epoch did not end.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// The books are not as they must be; nothing was written.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The exchange takes nothing any more, or the journal failed.
    #[error(transparent)]
    Funds(#[from] FundsError),
}

/// What the market owes at the end of an epoch, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochLine {
    /// Counted from 1.
    pub number: u64,
    /// When it ended, in Unix milliseconds.
    pub closed_at_ms: u64,
    /// Root of the tree of liabilities.
    pub root: String,
    /// What is owed in all, in nano-USD.
    pub total_nano_usd: String,
    /// To how many accounts.
    pub count: u64,
}

impl From<&Epoch> for EpochLine {
    fn from(epoch: &Epoch) -> Self {
        Self {
            number: epoch.number,
            closed_at_ms: epoch.closed_at.0,
            root: epoch.root.to_string(),
            total_nano_usd: epoch.total_nano_usd.to_string(),
            count: epoch.count,
        }
    }
}

impl Exchange {
    /// Ends the epoch at `now` and commits. `None` when nothing has happened since the last one.
    pub fn close_epoch(&self, now: UnixMs) -> Result<Option<SignedEpoch>, EpochError> {
        self.shared.close_epoch(now)
    }
}

impl Shared {
    pub(crate) fn close_epoch(&self, now: UnixMs) -> Result<Option<SignedEpoch>, EpochError> {
        self.sign_epoch(|core| {
            core.running()?;
            Ok(core.draft_epoch(now)?)
        })
    }

    /// Ends the last one of an exchange that takes nothing any more, at the time of its books.
    pub(crate) fn close_last_epoch(&self) -> Result<Option<SignedEpoch>, EpochError> {
        self.sign_epoch(|core| {
            core.commits()?;
            Ok(core.draft_epoch(core.now())?)
        })
    }

    fn sign_epoch(
        &self,
        draft: impl FnOnce(&mut Core) -> Result<Option<EpochDraft>, EpochError>,
    ) -> Result<Option<SignedEpoch>, EpochError> {
        // Held from the moment of the draft on: no other group may come between it and its record.
        let mut journal = self.journal.lock();
        let (draft, mut group) = {
            let mut core = self.core.lock();
            match draft(&mut core)? {
                Some(draft) => (draft, core.take_group_with_epoch()),
                None => return Ok(None),
            }
        };
        let record = draft.sign(&self.signer);
        put_epoch(&mut group.bytes, &record);
        self.core.lock().epoch_signed(&record.signed.epoch);
        self.commit(&mut **journal, group)?;
        Ok(Some(record.signed))
    }
}

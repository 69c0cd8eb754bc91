//! A liability proof from the books: the leaf of one account in an epoch, and its way to the signed root.
//!
//! The journal is replayed up to the epoch's record, from the snapshot where that is early enough, and the tree
//! is made again; nothing else keeps it. Reading disturbs no live market. The proof is checked before it is
//! given out.

use crate::core::Core;
use crate::core::Verify;
use crate::open::{OpenError, REPLAY_GROUPS, from_genesis, from_snapshot};
use crate::record::{EpochRecord, Record, Records};
use crate::store::reader;
use bourse_ledger::{HashKey, Journal, Position};
use bourse_proof::liabilities::{Liabilities, ProofPolicy, verify_liability_proof};
use bourse_types::AccountId;
use bourse_wire::liability::LiabilityProof;
use std::path::Path;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The books could not be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No epoch has ended yet.
    #[error("no epoch has ended yet")]
    NoEpoch,
    /// There is no epoch of this number.
    #[error("there is no epoch {0}")]
    NoSuchEpoch(u64),
    /// No such account at the end of the epoch, or none that the house owes.
    #[error("`{account}` is no account that is owed anything in epoch {epoch}")]
    NotOwed {
        /// Its name.
        account: String,
        /// The epoch's number.
        epoch: u64,
    },
    /// The books say something else than the epoch.
    #[error("the proof does not hold: {0}")]
    Broken(String),
}

/// The proof of an account in an epoch, the last one when none is named, in a data directory, live or not.
pub fn prove(dir: &Path, account: &str, epoch: Option<u64>) -> Result<LiabilityProof, ProveError> {
    let journal = reader(dir).map_err(OpenError::from)?;
    prove_of(journal.as_ref(), account, epoch)
}

pub(crate) fn prove_of(
    journal: &dyn Journal,
    account: &str,
    epoch: Option<u64>,
) -> Result<LiabilityProof, ProveError> {
    let found = find(journal, account, epoch)?.ok_or(match epoch {
        Some(number) => ProveError::NoSuchEpoch(number),
        None => ProveError::NoEpoch,
    })?;
    let Found { record, liabilities, account: id } = found;
    let proven = id.and_then(|id| liabilities.tree(&record.seed).prove(id));
    let number = record.signed.epoch.number;
    let not_owed = || ProveError::NotOwed { account: account.to_owned(), epoch: number };
    let (leaf, leaf_index, path) = proven.ok_or_else(not_owed)?;
    let proof = LiabilityProof { signed: record.signed, leaf, leaf_index, path };
    let verdict = verify_liability_proof(&proof, &ProofPolicy::default());
    let failed = verdict.failures().next().map(|check| ProveError::Broken(check.words.clone()));
    failed.map_or(Ok(proof), Err)
}

/// The books as they were at the end of an epoch, as far as one account needs them.
struct Found {
    record: EpochRecord,
    liabilities: Liabilities,
    account: Option<AccountId>,
}

fn find(journal: &dyn Journal, account: &str, epoch: Option<u64>) -> Result<Option<Found>, OpenError> {
    let key = HashKey::default();
    let mut wanted = epoch;
    if let Some((core, at)) = from_snapshot(journal, key, u64::MAX)? {
        let last = core.epoch.number;
        if wanted.is_none_or(|wanted| wanted > last) {
            let found = search(journal, core, at, account, wanted)?;
            if found.is_some() || wanted.is_some() {
                return Ok(found);
            }
            // The last epoch is the snapshot's, whose books have moved on.
            wanted = Some(last);
        }
    }
    let genesis = from_genesis(journal, key, u64::MAX)?;
    search(journal, genesis, Position::default(), account, wanted)
}

/// Replays until the wanted epoch, or to the end for the last one.
fn search(
    journal: &dyn Journal,
    mut core: Core,
    mut at: Position,
    account: &str,
    wanted: Option<u64>,
) -> Result<Option<Found>, OpenError> {
    let mut found = None;
    loop {
        let groups = journal.read(at, REPLAY_GROUPS)?;
        for group in &groups {
            let before = core.epoch.number;
            let failed = |what: &dyn std::fmt::Display| OpenError::Replay {
                last_good: at.seq,
                what: what.to_string(),
            };
            core.replay_group(group, Verify::Roots).map_err(|why| failed(&why))?;
            let number = core.epoch.number;
            if number > before && wanted.is_none_or(|wanted| wanted == number) {
                let Some(record) = epoch_of(&group.bytes) else { continue };
                let liabilities = core.liabilities().map_err(|why| failed(&why))?;
                found = Some(Found { record, liabilities, account: core.names.account(account) });
                if wanted.is_some() {
                    return Ok(found);
                }
            }
            at = group.position;
        }
        if groups.len() < REPLAY_GROUPS {
            return Ok(found);
        }
    }
}

/// The epoch that a group ends with.
fn epoch_of(group: &[u8]) -> Option<EpochRecord> {
    let mut records = Records::new(group);
    let mut found = None;
    while let Some(Ok(record)) = records.next_but_events() {
        if let Record::Epoch(epoch) = record {
            found = Some(epoch);
        }
    }
    found
}

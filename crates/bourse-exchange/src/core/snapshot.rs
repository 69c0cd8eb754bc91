//! Snapshots: the whole core as bytes.
//!
//! Equal bytes mean equal behaviour, so every table is written in one order. The last 32 bytes are the BLAKE3 of all
//! before: no store that Bourse uses checks its pages, and one flipped bit in a balance is money that nobody paid. A
//! snapshot of another version, or one that is damaged, is not used: the journal is replayed from its beginning instead.

use super::metered::MeteredRequests;
use super::{Core, LastEpoch};
use crate::claims::Claims;
use crate::limits::ScopeRow;
use crate::names::ACCOUNT_NAME_BYTES_MAX;
use crate::payouts::Payouts;
use crate::record;
use crate::spend::{ByokMonth, Spent};
use crate::suspense::Suspense;
use bourse_ledger::{CodecError, HashKey, Position, Reader, SnapshotError, State};
use bourse_proof::log::MerkleLog;
use bourse_types::{AccountId, Digest32, UnixMs};
use bourse_wire::funds::{POLICY_BYTES_MAX, PolicyId, PolicyText};

/// 2: keys in full, policies, windows of spending. 3: the last epoch, and the hash at the end. 4: what is
/// metered, cases in suspense, claims, workspaces and limits. 5: payouts.
const SNAPSHOT_VERSION: u8 = 5;
const HASH_BYTES: usize = 32;

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotFailure {
    #[error("the snapshot cannot be read: {0}")]
    Record(#[from] CodecError),
    #[error("the snapshot cannot be read: {0}")]
    State(#[from] SnapshotError),
}

impl Core {
    /// The whole core as bytes. Equal bytes mean equal behaviour.
    pub(crate) fn encode_snapshot(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        out.extend_from_slice(&self.exchange.0);
        put_epoch(&mut out, &self.epoch);
        let log = self.log.to_state_bytes();
        put_count(&mut out, log.len());
        out.extend_from_slice(&log);
        put_count(&mut out, self.names.iter().len());
        for (account, name) in self.names.iter() {
            out.extend_from_slice(&account.0.to_le_bytes());
            record::put_text(&mut out, name);
        }
        put_count(&mut out, self.policies.texts().len());
        for text in self.policies.texts() {
            record::put_text(&mut out, text);
        }
        put_count(&mut out, self.policies.accounts().len());
        for (account, id) in self.policies.accounts() {
            out.extend_from_slice(&account.0.to_le_bytes());
            out.extend_from_slice(&id.0.0);
        }
        let keys = self.keys.sorted();
        put_count(&mut out, keys.len());
        for key in keys {
            record::write_key(&mut out, &key.row);
            record::write_workspace(&mut out, &key.row);
            key.spent.write(&mut out);
        }
        put_count(&mut out, self.keys.byok_months().len());
        for (account, month) in self.keys.byok_months() {
            let (month, sum) = month.parts();
            out.extend_from_slice(&account.0.to_le_bytes());
            out.extend_from_slice(&month.to_le_bytes());
            out.extend_from_slice(&sum.to_le_bytes());
        }
        self.metered.write(&mut out);
        let rows = self.scopes.rows();
        put_count(&mut out, rows.len());
        for row in &rows {
            row.write(&mut out);
        }
        self.state.encode_snapshot(&mut out);
        self.suspense.write(&mut out);
        self.claims.write(&mut out);
        self.payouts.write(&mut out);
        let hash = blake3::hash(&out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// Rebuilds a core as it was after the group at `at`.
    pub(crate) fn from_snapshot(
        bytes: &[u8],
        at: Position,
        key: HashKey,
        snapshot_every: u64,
    ) -> Result<Self, SnapshotFailure> {
        let mut r = Reader::new(whole(bytes)?);
        r.u8()?;
        let exchange = Digest32(r.array()?);
        // The ledger's state comes late and everything else is built around it.
        let mut core =
            Self::new(State::new(bourse_ledger::Limits::default(), key), exchange, snapshot_every, key);
        core.seq = at.seq + 1;
        core.epoch = read_epoch(&mut r)?;
        core.epochs_at_snapshot = core.epoch.number;
        let log_bytes = r.u32()? as usize;
        core.log = MerkleLog::from_state_bytes(r.take(log_bytes)?)
            .map_err(|_| CodecError::Inconsistent("the state of the receipts log is malformed"))?;
        for _ in 0..r.u32()? {
            let account = AccountId(r.u64()?);
            core.names.add(account, record::read_text(&mut r, ACCOUNT_NAME_BYTES_MAX)?);
        }
        core.read_policies(&mut r)?;
        for _ in 0..r.u32()? {
            let mut row = record::read_key(&mut r)?;
            row.workspace = record::read_workspace(&mut r)?;
            let hash = row.hash;
            core.take_key(row)?;
            core.keys.set_spent(&hash, Spent::read(&mut r)?);
        }
        for _ in 0..r.u32()? {
            let (account, month) = (AccountId(r.u64()?), r.u32()?);
            core.keys.set_byok_month(account, ByokMonth::of_parts(month, r.u128()?));
        }
        core.metered = MeteredRequests::read(&mut r)?;
        for _ in 0..r.u32()? {
            core.scopes.put(ScopeRow::read(&mut r)?);
        }
        core.state = State::decode_snapshot(&mut r, key)?;
        core.events_at_snapshot = core.state.events_applied();
        core.suspense = Suspense::read(&mut r)?;
        core.claims = Claims::read(&mut r)?;
        core.payouts = Payouts::read(&mut r)?;
        if r.remaining() > 0 {
            return Err(CodecError::Inconsistent("bytes follow the snapshot").into());
        }
        Ok(core)
    }

    fn read_policies(&mut self, r: &mut Reader<'_>) -> Result<(), CodecError> {
        for _ in 0..r.u32()? {
            let text = PolicyText::parse(&record::read_text(r, POLICY_BYTES_MAX)?);
            self.policies.put(text.map_err(|_| CodecError::Inconsistent("a policy is no JSON object"))?);
        }
        for _ in 0..r.u32()? {
            let account = AccountId(r.u64()?);
            self.policies.set_account(account, Some(PolicyId(Digest32(r.array()?))))?;
        }
        Ok(())
    }

    /// The digest of everything that can influence a later outcome.
    pub(crate) fn digest(&self) -> Digest32 {
        Digest32(*blake3::hash(&self.encode_snapshot()).as_bytes())
    }
}

/// A snapshot of this version as it was written, without its hash.
fn whole(bytes: &[u8]) -> Result<&[u8], CodecError> {
    match bytes.first() {
        Some(&SNAPSHOT_VERSION) => {}
        Some(other) => return Err(CodecError::Version(*other)),
        None => return Err(CodecError::Inconsistent("the snapshot is empty")),
    }
    let (body, hash) = bytes.split_at(bytes.len().saturating_sub(HASH_BYTES));
    if blake3::hash(body).as_bytes() == hash {
        Ok(body)
    } else {
        Err(CodecError::Inconsistent("the snapshot is not what was written"))
    }
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn put_epoch(out: &mut Vec<u8>, epoch: &LastEpoch) {
    out.extend_from_slice(&epoch.number.to_le_bytes());
    out.extend_from_slice(&epoch.digest.0);
    out.extend_from_slice(&epoch.closed_at.0.to_le_bytes());
    out.extend_from_slice(&epoch.events.to_le_bytes());
}

fn read_epoch(r: &mut Reader<'_>) -> Result<LastEpoch, CodecError> {
    Ok(LastEpoch {
        number: r.u64()?,
        digest: Digest32(r.array()?),
        closed_at: UnixMs(r.u64()?),
        events: r.u64()?,
    })
}

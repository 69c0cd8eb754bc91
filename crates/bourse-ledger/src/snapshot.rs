//! Snapshots: the whole state as bytes, and its digest.
//!
//! Everything that can influence a later outcome is in it and nothing else, in one order: accounts as
//! opened, holds by id, known ids as they came. So equal bytes mean equal behaviour, and the digest of
//! the bytes is the proof that a replay rebuilt the same ledger. Tables and queues are derived.

use crate::account::{Amount, Balance};
use crate::codec::{CodecError, Reader, decode_account, decode_unit, put};
use crate::hash::HashKey;
use crate::limits::Limits;
use crate::state::{Hold, Slot, State};
use crate::window::{Known, Window};
use bourse_types::{Digest32, TransferId, UnixMs};

const SNAPSHOT_VERSION: u8 = 2;
/// The version before accounts had units: all counted nano-USD.
const SNAPSHOT_VERSION_OF_MONEY: u8 = 1;
const DIGEST_CONTEXT: &[u8] = b"bourse/ledger-state/1";
const ACCOUNT_BYTES: usize = 12 + 64;
const HOLD_BYTES: usize = 48;
const KNOWN_BYTES: usize = 24;

/// Why a snapshot cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not a snapshot of this format.
    #[error("snapshot: {0}")]
    Codec(#[from] CodecError),
}

impl State {
    /// Appends the snapshot of this state to `out`.
    pub fn encode_snapshot(&self, out: &mut Vec<u8>) {
        out.reserve(
            64 + self.slots.len() * ACCOUNT_BYTES
                + self.holds.len() * HOLD_BYTES
                + self.window.len() * KNOWN_BYTES,
        );
        out.push(SNAPSHOT_VERSION);
        let limits = self.limits;
        for word in [limits.accounts_max, limits.pendings_max, limits.known_ids_max] {
            put(out, &(word as u64).to_le_bytes());
        }
        put(out, &self.now.0.to_le_bytes());
        put(out, &self.events_applied.to_le_bytes());
        put(out, &(self.slots.len() as u32).to_le_bytes());
        for slot in &self.slots {
            encode_slot(slot, out);
        }
        let mut holds: Vec<_> = self.holds.iter().collect();
        holds.sort_unstable_by_key(|(id, _)| **id);
        put(out, &(holds.len() as u32).to_le_bytes());
        for (id, hold) in holds {
            encode_hold(*id, hold, out);
        }
        let horizon = self.window.horizon();
        out.push(u8::from(horizon.is_some()));
        put(out, &horizon.unwrap_or_default().0.to_le_bytes());
        put(out, &(self.window.len() as u32).to_le_bytes());
        for known in self.window.iter() {
            put(out, &known.id().0.to_le_bytes());
            put(out, &known.fingerprint.to_le_bytes());
        }
    }

    /// Rebuilds a state and advances the reader past it. `key` places entries in tables and is no part
    /// of the state.
    pub fn decode_snapshot(reader: &mut Reader<'_>, key: HashKey) -> Result<Self, SnapshotError> {
        let has_units = match reader.u8()? {
            SNAPSHOT_VERSION => true,
            SNAPSHOT_VERSION_OF_MONEY => false,
            other => return Err(CodecError::Version(other).into()),
        };
        let limits = Limits {
            accounts_max: reader.u64()? as usize,
            pendings_max: reader.u64()? as usize,
            known_ids_max: reader.u64()? as usize,
        };
        let mut state = Self::new(limits, key);
        state.now = UnixMs(reader.u64()?);
        state.events_applied = reader.u64()?;
        for place in 0..reader.u32()? {
            let slot = decode_slot(reader, has_units)?;
            if state.places.insert(slot.account.id, place).is_some() {
                return Err(CodecError::Inconsistent("an account appears twice").into());
            }
            state.slots.push(slot);
        }
        for _ in 0..reader.u32()? {
            let (id, hold) = decode_hold(reader)?;
            if hold.debit.max(hold.credit) as usize >= state.slots.len() {
                return Err(CodecError::Inconsistent("a hold names no account").into());
            }
            state.holds.insert(id, hold);
        }
        let has_horizon = reader.u8()? != 0;
        let horizon = UnixMs(reader.u64()?);
        state.window = Window::new(limits.known_ids_max, has_horizon.then_some(horizon), key);
        let known_count = reader.u32()?;
        if known_count as usize > limits.known_ids_max {
            return Err(CodecError::Inconsistent("more known ids than the window holds").into());
        }
        for _ in 0..known_count {
            let id = TransferId(reader.u128()?);
            state.window.insert(Known::new(id, reader.u64()?));
        }
        state.requeue_expiries();
        Ok(state)
    }

    /// The digest of everything that can influence a later outcome.
    pub fn digest(&self) -> Digest32 {
        let mut bytes = DIGEST_CONTEXT.to_vec();
        self.encode_snapshot(&mut bytes);
        Digest32(*blake3::hash(&bytes).as_bytes())
    }
}

fn encode_slot(slot: &Slot, out: &mut Vec<u8>) {
    put(out, &slot.account.id.0.to_le_bytes());
    out.extend([slot.account.kind.code(), slot.account.limit.code()]);
    put(out, &slot.account.unit.code().to_le_bytes());
    let b = &slot.balance;
    for sum in [b.debits_pending, b.debits_posted, b.credits_pending, b.credits_posted] {
        put(out, &sum.to_le_bytes());
    }
}

fn decode_slot(reader: &mut Reader<'_>, has_units: bool) -> Result<Slot, CodecError> {
    let mut account = decode_account(reader)?;
    if has_units {
        account.unit = decode_unit(reader)?;
    }
    let balance = Balance {
        debits_pending: reader.u128()?,
        debits_posted: reader.u128()?,
        credits_pending: reader.u128()?,
        credits_posted: reader.u128()?,
    };
    Ok(Slot { account, balance })
}

fn encode_hold(id: TransferId, hold: &Hold, out: &mut Vec<u8>) {
    put(out, &id.0.to_le_bytes());
    put(out, &hold.debit.to_le_bytes());
    put(out, &hold.credit.to_le_bytes());
    for word in [hold.amount.0, hold.expires_at.0, hold.fingerprint] {
        put(out, &word.to_le_bytes());
    }
}

fn decode_hold(reader: &mut Reader<'_>) -> Result<(TransferId, Hold), CodecError> {
    let id = TransferId(reader.u128()?);
    let hold = Hold {
        debit: reader.u32()?,
        credit: reader.u32()?,
        amount: Amount(reader.u64()?),
        expires_at: UnixMs(reader.u64()?),
        fingerprint: reader.u64()?,
    };
    Ok((id, hold))
}

//! Keys and policies: made, changed, ended; and the allowance that a limit is.
//!
//! Every change of a key goes through one function, whoever asks. Lowering a limit below what a key has spent
//! and holds takes what is free at once and no more: holds already granted are honoured.
//!
//! A limit that resets needs no clock. The first hold or extension of a new window fills the allowance up to
//! what the limit leaves after what this window has settled and what is still held: a request in flight at
//! midnight counts in the window in which it settles, so that no window settles more than the limit.

use super::Core;
use crate::keys::KeyRow;
use crate::names::ALLOWANCES;
use crate::record;
use bourse_ledger::{AccountKind, BalanceLimit};
use bourse_types::{AccountId, KeyHash, NanoUsd, RequestId, TransferId, UnixMs};
use bourse_wire::funds::{Change, FundsError, KeyDraft, KeyPatch, KeyRole, LimitReset, PolicyId, PolicyText};

/// A key to be made.
#[derive(Debug, Clone)]
pub(crate) struct KeyCreation {
    pub(crate) hash: KeyHash,
    pub(crate) account: AccountId,
    pub(crate) role: KeyRole,
    /// The management key that makes it; none: the operator.
    pub(crate) creator: Option<KeyHash>,
    pub(crate) draft: KeyDraft,
}

impl Core {
    pub(crate) fn create_key(
        &mut self,
        asked: KeyCreation,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.running()?;
        let KeyCreation { hash, account, role, creator, draft } = asked;
        self.keys.room_for(account)?;
        let row = KeyRow {
            hash,
            account,
            role,
            is_disabled: false,
            allowance: None,
            limit: None,
            reset: LimitReset::Never,
            includes_byok: false,
            window: UnixMs(0),
            expires: draft.expires,
            revoked: None,
            policy: None,
            creator,
            created: now,
            updated: now,
            label: draft.name,
        };
        let rest = KeyPatch {
            limit: Change::Set(draft.limit),
            limit_reset: Change::Set(draft.limit_reset),
            includes_byok_in_limit: Change::Set(draft.includes_byok_in_limit),
            policy: Change::Set(draft.policy),
            ..KeyPatch::default()
        };
        self.change_key(row, rest, id, now)
    }

    pub(crate) fn update_key(
        &mut self,
        hash: &KeyHash,
        patch: KeyPatch,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        self.running()?;
        let mut row = self.keys.get(hash).ok_or(FundsError::UnknownKey)?.row.clone();
        row.updated = now.max(row.updated);
        self.change_key(row, patch, id, now)
    }

    pub(crate) fn revoke_key(&mut self, hash: &KeyHash, now: UnixMs) -> Result<(), FundsError> {
        self.running()?;
        self.room_for(0)?;
        let mut row = self.keys.get(hash).ok_or(FundsError::UnknownKey)?.row.clone();
        row.revoked.get_or_insert(now);
        self.put_key(row);
        Ok(())
    }

    /// Sets or lifts the policy of an account.
    pub(crate) fn set_account_policy(
        &mut self,
        account: AccountId,
        policy: Option<PolicyText>,
    ) -> Result<Option<PolicyId>, FundsError> {
        self.running()?;
        policy.as_ref().map_or(self.room_for(0), |text| self.room_for_policy(text))?;
        let id = policy.map(|text| self.keep_policy(text));
        record::put_account_policy(&mut self.group.bytes, account, id);
        self.policies.set_account(account, id).expect("a policy is kept before an account has it");
        Ok(id)
    }

    /// Fills the allowance up when `now` is beyond its window. Cheap when it is not.
    pub(super) fn renew_allowance(&mut self, hash: &KeyHash, now: UnixMs) -> Result<(), FundsError> {
        let Some(key) = self.keys.get(hash).filter(|key| now >= key.window_ends) else { return Ok(()) };
        self.room_for(0)?;
        let mut row = key.row.clone();
        let id = renewal_id(hash, row.reset.window_start(now), now);
        self.fit_allowance(&mut row, id, now)?;
        self.put_key(row);
        Ok(())
    }

    /// The one way in which a key changes.
    fn change_key(
        &mut self,
        mut row: KeyRow,
        patch: KeyPatch,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        match &patch.policy {
            Change::Set(Some(text)) => self.room_for_policy(text)?,
            _ => self.room_for(0)?,
        }
        let was_unlimited = row.limit.is_none();
        set(&mut row.label, patch.name);
        set(&mut row.is_disabled, patch.disabled);
        set(&mut row.expires, patch.expires);
        set(&mut row.limit, patch.limit);
        set(&mut row.reset, patch.limit_reset);
        set(&mut row.includes_byok, patch.includes_byok_in_limit);
        if was_unlimited && row.limit.is_some() && self.open.values().any(|open| open.key == row.hash) {
            self.mixed.insert(row.hash);
        }
        self.fit_allowance(&mut row, id, now)?;
        if let Change::Set(policy) = patch.policy {
            row.policy = policy.map(|text| self.keep_policy(text));
        }
        self.put_key(row);
        Ok(())
    }

    /// Makes what is free of the allowance what the limit leaves in the window that holds `now`.
    fn fit_allowance(&mut self, row: &mut KeyRow, id: TransferId, now: UnixMs) -> Result<(), FundsError> {
        let Some(limit) = row.limit else { return Ok(()) };
        let allowance = match row.allowance {
            Some(allowance) => allowance,
            None => self.open_account(
                format!("allowance:{}", row.id()),
                AccountKind::KeyAllowance,
                BalanceLimit::DebitsWithinCredits,
                now,
            )?,
        };
        row.allowance = Some(allowance);
        let now = now.max(self.now());
        row.window = row.reset.window_start(now);
        let key = self.keys.get(&row.hash);
        let spent = key.map_or(0, |key| key.spent.in_window(row.reset, row.includes_byok, now));
        let bound = spent.saturating_add(self.held_against(&row.hash, allowance));
        self.set_available(allowance, u128::from(limit.0).saturating_sub(bound), id, now)
    }

    /// What requests in flight of a key can still take from its limit. The allowance knows of all that were
    /// held under the limit; those held before there was one are counted one by one until they are gone.
    fn held_against(&mut self, hash: &KeyHash, allowance: AccountId) -> u128 {
        let known = self.state.account(allowance).map_or(0, |(_, balance)| balance.debits_pending);
        if !self.mixed.contains(hash) {
            return known;
        }
        let free: Vec<_> = self.open.values().filter(|o| o.key == *hash && o.allowance.is_none()).collect();
        if free.is_empty() {
            self.mixed.remove(hash);
        }
        free.iter().map(|open| u128::from(open.held.0)).sum::<u128>().saturating_add(known)
    }

    /// Moves between allowance and its other side until `wanted` is free.
    fn set_available(
        &mut self,
        allowance: AccountId,
        wanted: u128,
        id: TransferId,
        now: UnixMs,
    ) -> Result<(), FundsError> {
        let free = self.state.account(allowance).map_or(0, |(_, balance)| balance.available());
        let amount = |difference: u128| NanoUsd(u64::try_from(difference).unwrap_or(u64::MAX));
        match (wanted.checked_sub(free), free.checked_sub(wanted)) {
            (Some(more), _) if more > 0 => self.post(id, ALLOWANCES, allowance, amount(more), now),
            (_, Some(less)) if less > 0 => self.post(id, allowance, ALLOWANCES, amount(less), now),
            _ => Ok(()),
        }
    }

    fn room_for_policy(&self, text: &PolicyText) -> Result<(), FundsError> {
        self.policies.room_for(&text.id())?;
        self.room_for(text.as_str().len())
    }

    /// Keeps a text that somebody is about to have.
    fn keep_policy(&mut self, text: PolicyText) -> PolicyId {
        let id = text.id();
        if !self.policies.is_known(&id) {
            record::put_policy(&mut self.group.bytes, text.as_str());
            self.policies.put(text);
        }
        id
    }

    fn put_key(&mut self, row: KeyRow) {
        record::put_key(&mut self.group.bytes, &row);
        self.take_key(row).expect("a policy is kept before a key has it");
    }

    /// A key as it is from now on, with its policy. Fails when the policy's text never came.
    pub(super) fn take_key(&mut self, row: KeyRow) -> Result<(), bourse_ledger::CodecError> {
        let old = self.keys.get(&row.hash).and_then(|key| key.row.policy);
        self.policies.change(old, row.policy)?;
        self.keys.put(row);
        Ok(())
    }
}

fn set<T>(field: &mut T, change: Change<T>) {
    if let Change::Set(value) = change {
        *field = value;
    }
}

/// One renewal of one key in one window; its time is of now, so that the ledger takes it for new.
fn renewal_id(hash: &KeyHash, window: UnixMs, now: UnixMs) -> TransferId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"bourse/allowance-renewal/1");
    hasher.update(&hash.0);
    hasher.update(&window.0.to_le_bytes());
    let mut random = [0u8; 10];
    hasher.finalize_xof().fill(&mut random);
    RequestId::new(now, random).transfer(0)
}

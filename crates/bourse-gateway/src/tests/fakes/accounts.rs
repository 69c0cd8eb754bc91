//! Keys in a list.

use bourse_types::{KeyHash, UnixMs};
use bourse_wire::funds::{
    Accounts, AccountsError, Change, KeyDraft, KeyPage, KeyPatch, KeyRecord, KeyRole, KeySecret, SpendWindows,
};
use parking_lot::Mutex;

/// The keys of one account. Whoever calls may.
#[derive(Default)]
pub(in crate::tests) struct FakeAccounts(Mutex<Vec<KeyRecord>>);

impl FakeAccounts {
    fn find<T>(
        &self,
        hash: &KeyHash,
        take: impl FnOnce(&mut Vec<KeyRecord>, usize) -> T,
    ) -> Result<T, AccountsError> {
        let mut keys = self.0.lock();
        let at = keys.iter().position(|key| key.hash == *hash).ok_or(AccountsError::NotFound)?;
        Ok(take(&mut keys, at))
    }
}

impl Accounts for FakeAccounts {
    fn create_key(
        &self,
        by: &KeyHash,
        draft: KeyDraft,
        now: UnixMs,
    ) -> Result<(KeyRecord, KeySecret), AccountsError> {
        draft.check(now)?;
        let mut keys = self.0.lock();
        let n = keys.len() as u8;
        let record = KeyRecord {
            hash: KeyHash([n; 32]),
            name: draft.name,
            role: KeyRole::Inference,
            is_disabled: false,
            limit: draft.limit,
            limit_reset: draft.limit_reset,
            limit_remaining: draft.limit,
            includes_byok_in_limit: draft.includes_byok_in_limit,
            expires: draft.expires,
            usage: SpendWindows::default(),
            byok_usage: SpendWindows::default(),
            creator: Some(*by),
            created: now,
            updated: now,
            last_used: None,
            policy: None,
            workspace: None,
            held: bourse_types::NanoUsd::ZERO,
        };
        keys.push(record.clone());
        Ok((record, KeySecret(format!("sk-secret-{n}"))))
    }

    fn list_keys(&self, _: &KeyHash, page: KeyPage, _: UnixMs) -> Result<Vec<KeyRecord>, AccountsError> {
        let keys = self.0.lock();
        let shown = keys.iter().filter(|key| page.include_disabled || !key.is_disabled);
        Ok(shown.skip(page.offset).take(page.limit).cloned().collect())
    }

    fn get_key(&self, _: &KeyHash, hash: &KeyHash, _: UnixMs) -> Result<KeyRecord, AccountsError> {
        self.find(hash, |keys, at| keys[at].clone())
    }

    fn update_key(
        &self,
        _: &KeyHash,
        hash: &KeyHash,
        patch: KeyPatch,
        now: UnixMs,
    ) -> Result<KeyRecord, AccountsError> {
        patch.check(now)?;
        self.find(hash, |keys, at| {
            let key = &mut keys[at];
            set(&mut key.name, patch.name);
            set(&mut key.is_disabled, patch.disabled);
            set(&mut key.limit, patch.limit);
            set(&mut key.limit_reset, patch.limit_reset);
            key.clone()
        })
    }

    fn delete_key(&self, _: &KeyHash, hash: &KeyHash, _: UnixMs) -> Result<(), AccountsError> {
        self.find(hash, |keys, at| drop(keys.remove(at)))
    }
}

fn set<T>(field: &mut T, change: Change<T>) {
    if let Change::Set(value) = change {
        *field = value;
    }
}

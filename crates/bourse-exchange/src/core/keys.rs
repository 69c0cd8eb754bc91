//! Keys and policies: made, changed, ended.
//!
//! Every change of a key goes through one function, whoever asks. What it may spend is a [budget](super::budgets).

use super::Core;
use crate::keys::KeyRow;
use crate::limits::{Budget, ScopeId};
use crate::record;
use bourse_types::{AccountId, KeyHash, TransferId, UnixMs};
use bourse_wire::funds::{
    AccountsError, Change, FundsError, KeyDraft, KeyPatch, KeyRole, LimitReset, PolicyId, PolicyText,
};

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
    ) -> Result<(), AccountsError> {
        self.running()?;
        let KeyCreation { hash, account, role, creator, draft } = asked;
        self.keys.room_for(account)?;
        let named = |text: &String| self.scopes.named(account, text).ok_or(AccountsError::NoWorkspace);
        let workspace = draft.workspace.as_ref().map(named).transpose()?;
        let row = KeyRow {
            hash,
            account,
            role,
            is_disabled: false,
            budget: Budget::unset(LimitReset::Never),
            expires: draft.expires,
            revoked: None,
            policy: None,
            creator,
            created: now,
            updated: now,
            label: draft.name,
            workspace,
        };
        let rest = KeyPatch {
            limit: Change::Set(draft.limit),
            limit_reset: Change::Set(draft.limit_reset),
            includes_byok_in_limit: Change::Set(draft.includes_byok_in_limit),
            policy: Change::Set(draft.policy),
            ..KeyPatch::default()
        };
        self.change_key(row, rest, id, now).map_err(AccountsError::from)
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
        let was = row.budget;
        set(&mut row.label, patch.name);
        set(&mut row.is_disabled, patch.disabled);
        set(&mut row.expires, patch.expires);
        set(&mut row.budget.limit, patch.limit);
        set(&mut row.budget.reset, patch.limit_reset);
        set(&mut row.budget.includes_byok, patch.includes_byok_in_limit);
        self.begin_budget(&ScopeId::Key(row.hash), 0, &mut row.budget, &was, (id, now))?;
        if let Change::Set(policy) = patch.policy {
            row.policy = policy.map(|text| self.keep_policy(text));
        }
        self.put_key(row);
        Ok(())
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

    pub(super) fn put_key(&mut self, row: KeyRow) {
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

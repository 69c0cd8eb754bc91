//! API keys: what the house knows of a key, which is everything but the key.
//!
//! A key is `sk-bourse-` and 64 hex digits of 32 random bytes; the house keeps its SHA-256 and shows the
//! key once. Each key spends from one customer account, or administers that account's keys. What it may spend
//! is a [budget](crate::limits). Names are labels and need not be unique.

use crate::limits::{Budget, ScopeId};
use crate::spend::{ByokMonth, Spent, nano};
use bourse_types::{AccountId, Digest32, KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{
    FundsError, KEY_NAME_BYTES_MAX, KeyGrant, KeyRecord, KeyRole, PolicyId, WorkspaceId,
};
use bourse_wire::receipt::Receipt;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

/// What every key starts with.
pub const KEY_PREFIX: &str = "sk-bourse-";
/// Longest label of a key, in bytes.
pub const LABEL_BYTES_MAX: usize = KEY_NAME_BYTES_MAX;
/// Keys in one market, at most, revoked ones included.
pub const KEYS_MAX: usize = 65_536;
/// Keys of one account, at most, revoked ones included.
pub const KEYS_PER_ACCOUNT_MAX: usize = 4_096;
/// Hex digits of the hash that name a key towards people.
const KEY_ID_DIGITS: usize = 12;

/// A key as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) hash: KeyHash,
    pub(crate) account: AccountId,
    pub(crate) role: KeyRole,
    pub(crate) is_disabled: bool,
    /// What it may spend.
    pub(crate) budget: Budget,
    pub(crate) expires: Option<UnixMs>,
    pub(crate) revoked: Option<UnixMs>,
    pub(crate) policy: Option<PolicyId>,
    /// The management key that made it.
    pub(crate) creator: Option<KeyHash>,
    pub(crate) created: UnixMs,
    pub(crate) updated: UnixMs,
    pub(crate) label: String,
    /// For good: what a workspace has spent never changes afterwards.
    pub(crate) workspace: Option<WorkspaceId>,
}

impl KeyRow {
    /// How people name the key: `key_` and the start of its hash.
    pub(crate) fn id(&self) -> String {
        key_id(&self.hash)
    }

    /// Whose limits bind it: its own, its workspace's, its organisation's.
    pub(crate) fn scopes(&self) -> [Option<ScopeId>; 3] {
        let workspace = self.workspace.map(ScopeId::Workspace);
        [Some(ScopeId::Key(self.hash)), workspace, Some(ScopeId::Organisation(self.account))]
    }
}

/// A key with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) row: KeyRow,
    pub(crate) spent: Spent,
    pub(crate) digest: Digest32,
    pub(crate) account_digest: Digest32,
    /// Held by its requests in flight. Like them it lives in memory only.
    pub(crate) held: u128,
}

impl Key {
    /// Whether it may be used at all.
    pub(crate) fn usable(&self, now: UnixMs) -> Result<(), FundsError> {
        match &self.row {
            KeyRow { revoked: Some(_), .. } => Err(FundsError::RevokedKey),
            KeyRow { is_disabled: true, .. } => Err(FundsError::DisabledKey),
            KeyRow { expires: Some(expires), .. } if *expires <= now => Err(FundsError::ExpiredKey),
            _ => Ok(()),
        }
    }

    pub(crate) fn grant(&self, account_policy: Option<PolicyId>) -> KeyGrant {
        KeyGrant {
            key: self.row.hash,
            account: self.row.account,
            key_digest: self.digest,
            account_digest: self.account_digest,
            role: self.row.role,
            account_policy,
            key_policy: self.row.policy,
        }
    }

    /// As its owner may see it.
    pub(crate) fn record(&self, now: UnixMs) -> KeyRecord {
        let row = &self.row;
        let (usage, byok_usage) = self.spent.shown(now);
        let budget = &row.budget;
        let spent = nano(self.spent.in_window(budget.reset, budget.includes_byok, now));
        KeyRecord {
            hash: row.hash,
            name: row.label.clone(),
            role: row.role,
            is_disabled: row.is_disabled,
            limit: budget.limit,
            limit_reset: budget.reset,
            limit_remaining: budget.limit.map(|limit| NanoUsd(limit.0.saturating_sub(spent.0))),
            includes_byok_in_limit: budget.includes_byok,
            expires: row.expires,
            usage,
            byok_usage,
            creator: row.creator,
            created: row.created,
            updated: row.updated,
            last_used: self.spent.last_used(),
            policy: row.policy,
            workspace: row.workspace,
            held: nano(self.held),
        }
    }
}

/// All keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyRing {
    keys: HashMap<KeyHash, Key>,
    by_digest: HashMap<Digest32, KeyHash>,
    /// Keys of each account, oldest first.
    by_account: HashMap<AccountId, BTreeSet<(UnixMs, KeyHash)>>,
    byok: BTreeMap<AccountId, ByokMonth>,
}

impl KeyRing {
    pub(crate) fn get(&self, hash: &KeyHash) -> Option<&Key> {
        self.keys.get(hash)
    }

    /// Whether one more key of this account has room.
    pub(crate) fn room_for(&self, account: AccountId) -> Result<(), FundsError> {
        if self.keys.len() >= KEYS_MAX {
            return Err(FundsError::TooMany("keys"));
        }
        if self.by_account.get(&account).is_some_and(|keys| keys.len() >= KEYS_PER_ACCOUNT_MAX) {
            return Err(FundsError::TooMany("keys of one account"));
        }
        Ok(())
    }

    /// Adds a key or changes its row; what it spent stays.
    pub(crate) fn put(&mut self, row: KeyRow) {
        let digest = Receipt::digest_of_key(&row.hash);
        let account_digest = Receipt::digest_of_account(row.account);
        let old = self.keys.get(&row.hash).map(|key| (key.spent, key.held));
        let (spent, held) = old.unwrap_or_default();
        self.by_digest.insert(digest, row.hash);
        self.by_account.entry(row.account).or_default().insert((row.created, row.hash));
        self.keys.insert(row.hash, Key { row, spent, digest, account_digest, held });
    }

    /// Counts a settlement.
    pub(crate) fn spend(&mut self, hash: &KeyHash, cost: NanoUsd, byok: NanoUsd, now: UnixMs) {
        let Some(key) = self.keys.get_mut(hash) else { return };
        key.spent.add(cost, byok, now);
        if byok > NanoUsd::ZERO {
            self.byok.entry(key.row.account).or_default().add(byok, now);
        }
    }

    /// Counts what a request in flight has come to hold, or no longer holds.
    pub(crate) fn hold(&mut self, hash: &KeyHash, before: NanoUsd, after: NanoUsd) {
        let Some(key) = self.keys.get_mut(hash) else { return };
        key.held = key.held.saturating_add(u128::from(after.0)).saturating_sub(u128::from(before.0));
    }

    /// The key of this name in receipts.
    pub(crate) fn by_digest(&self, digest: &Digest32) -> Option<&KeyHash> {
        self.by_digest.get(digest)
    }

    pub(crate) fn set_spent(&mut self, hash: &KeyHash, spent: Spent) {
        if let Some(key) = self.keys.get_mut(hash) {
            key.spent = spent;
        }
    }

    /// What the account's own sellers billed in the month that holds `now`.
    pub(crate) fn byok_month(&self, account: AccountId, now: UnixMs) -> u128 {
        self.byok.get(&account).map_or(0, |month| month.at(now))
    }

    /// By account, for the snapshot.
    pub(crate) fn byok_months(&self) -> impl ExactSizeIterator<Item = (AccountId, ByokMonth)> + '_ {
        self.byok.iter().map(|(account, month)| (*account, *month))
    }

    pub(crate) fn set_byok_month(&mut self, account: AccountId, month: ByokMonth) {
        self.byok.insert(account, month);
    }

    /// Keys of one account, oldest first.
    pub(crate) fn of_account(&self, account: AccountId) -> impl Iterator<Item = &Key> {
        let keys = self.by_account.get(&account).into_iter().flatten();
        keys.filter_map(|(_, hash)| self.keys.get(hash))
    }

    /// By creation, then hash.
    pub(crate) fn sorted(&self) -> Vec<&Key> {
        let mut keys: Vec<_> = self.keys.values().collect();
        keys.sort_unstable_by_key(|key| (key.row.created, key.row.hash));
        keys
    }

    /// Keys whose id starts with `text`, or whose label is `text`; revoked ones only when no other fits.
    pub(crate) fn named(&self, text: &str) -> Vec<KeyHash> {
        let full = if text.starts_with("key_") { text.to_owned() } else { format!("key_{text}") };
        let prefix = text.len() >= 4;
        let names = |key: &Key| key.row.label == text || prefix && key.row.id().starts_with(&full);
        let all: Vec<&Key> = self.sorted().into_iter().filter(|key| names(key)).collect();
        let live: Vec<KeyHash> =
            all.iter().filter(|key| key.row.revoked.is_none()).map(|key| key.row.hash).collect();
        if live.is_empty() { all.iter().map(|key| key.row.hash).collect() } else { live }
    }
}

/// SHA-256 of a key as it is sent: how a key is looked up.
pub fn hash_key(secret: &str) -> KeyHash {
    KeyHash(Sha256::digest(secret.as_bytes()).into())
}

/// How people name a key that they must not show: `key_` and 12 hex digits of its hash.
pub fn key_id(hash: &KeyHash) -> String {
    let hex = hash.to_string();
    format!("key_{}", &hex[..KEY_ID_DIGITS])
}

/// The text of a key from 32 random bytes.
pub(crate) fn key_text(random: &[u8; 32]) -> String {
    random.iter().fold(KEY_PREFIX.to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

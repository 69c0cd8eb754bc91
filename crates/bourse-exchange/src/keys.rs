//! API keys: what the house knows of a key, which is everything but the key.
//!
//! A key is `sk-bourse-` and 64 hex digits of 32 random bytes; the house keeps its SHA-256 and shows the
//! key once. Each key spends from one customer account. A lifetime limit is an allowance account in the
//! ledger that every hold draws on in the same chain, so that no number of concurrent callers passes it.

use bourse_types::{AccountId, Digest32, KeyHash, NanoUsd, UnixMs};
use bourse_wire::receipt::Receipt;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;

/// What every key starts with.
pub const KEY_PREFIX: &str = "sk-bourse-";
/// Longest label of a key, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// Keys in one market, at most, revoked ones included.
pub const KEYS_MAX: usize = 65_536;
/// Hex digits of the hash that name a key towards people.
const KEY_ID_DIGITS: usize = 12;

/// A key as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) hash: KeyHash,
    pub(crate) account: AccountId,
    pub(crate) allowance: Option<AccountId>,
    pub(crate) limit: Option<NanoUsd>,
    pub(crate) revoked: Option<UnixMs>,
    pub(crate) created: UnixMs,
    pub(crate) label: String,
}

impl KeyRow {
    /// How people name the key: `key_` and the start of its hash.
    pub(crate) fn id(&self) -> String {
        key_id(&self.hash)
    }
}

/// A key with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) row: KeyRow,
    pub(crate) used: u128,
    pub(crate) digest: Digest32,
    pub(crate) account_digest: Digest32,
}

/// All keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct KeyRing {
    keys: HashMap<KeyHash, Key>,
    by_digest: HashMap<Digest32, KeyHash>,
}

impl KeyRing {
    pub(crate) fn get(&self, hash: &KeyHash) -> Option<&Key> {
        self.keys.get(hash)
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a key or changes its row; what it used stays.
    pub(crate) fn put(&mut self, row: KeyRow) {
        let digest = Receipt::digest_of_key(&row.hash);
        let account_digest = Receipt::digest_of_account(row.account);
        let used = self.keys.get(&row.hash).map_or(0, |key| key.used);
        self.by_digest.insert(digest, row.hash);
        self.keys.insert(row.hash, Key { row, used, digest, account_digest });
    }

    pub(crate) fn spend(&mut self, key_digest: &Digest32, amount: NanoUsd) {
        let key = self.by_digest.get(key_digest).and_then(|hash| self.keys.get_mut(hash));
        if let Some(key) = key {
            key.used = key.used.saturating_add(u128::from(amount.0));
        }
    }

    pub(crate) fn set_used(&mut self, hash: &KeyHash, used: u128) {
        if let Some(key) = self.keys.get_mut(hash) {
            key.used = used;
        }
    }

    /// By creation, then hash.
    pub(crate) fn sorted(&self) -> Vec<&Key> {
        let mut keys: Vec<_> = self.keys.values().collect();
        keys.sort_unstable_by_key(|key| (key.row.created, key.row.hash));
        keys
    }

    /// Keys whose id starts with `text`, or whose label is `text`.
    pub(crate) fn named(&self, text: &str) -> Vec<KeyHash> {
        let full = if text.starts_with("key_") { text.to_owned() } else { format!("key_{text}") };
        let prefix = text.len() >= 4;
        let names = |key: &Key| key.row.label == text || prefix && key.row.id().starts_with(&full);
        self.sorted().into_iter().filter(|key| names(key)).map(|key| key.row.hash).collect()
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

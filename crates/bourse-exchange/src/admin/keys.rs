//! Keys as an operator asks for them and sees them.

use crate::books::{signed, usd};
use crate::core::Core;
use crate::keys::Key;
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::KeyRole;
use serde::{Deserialize, Serialize};

/// A key to be made. [`Default`] has no name yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What to call it. Need not be unique.
    pub label: String,
    /// The customer account that pays, opened when there is none; the operator's when absent.
    #[serde(default)]
    pub account: Option<String>,
    /// Most that it may spend; no limit when absent.
    #[serde(default)]
    pub limit_usd: Option<String>,
    /// When the limit begins anew at 00:00 UTC: `daily`, `weekly` (on Monday), `monthly`, or `none`; never
    /// when absent.
    #[serde(default)]
    pub reset: Option<String>,
    /// From when on it is refused, in Unix milliseconds; never when absent.
    #[serde(default)]
    pub expires_ms: Option<u64>,
    /// Whether what the account's own sellers bill counts towards the limit.
    #[serde(default)]
    pub includes_byok_in_limit: bool,
    /// Whether it administers the account's keys instead of buying.
    #[serde(default)]
    pub management: bool,
    /// What the request is called, so that it takes effect once when it is sent again within a day: at most
    /// [`IDEMPOTENCY_KEY_BYTES_MAX`](bourse_wire::funds::IDEMPOTENCY_KEY_BYTES_MAX) bytes.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The workspace that it belongs to for good, by its id or its slug; none when absent.
    #[serde(default)]
    pub workspace: Option<String>,
}

/// What may be shown of a key. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// `key_` and the start of its hash.
    pub id: String,
    /// Its whole hash.
    pub hash: String,
    /// What the operator called it.
    pub label: String,
    /// The account that pays.
    pub account: String,
    /// Whether it administers keys instead of buying.
    pub management: bool,
    /// Most that it may spend in one window.
    pub limit_usd: Option<String>,
    /// When the limit begins anew: `none`, `daily`, `weekly`, `monthly`.
    pub limit_reset: String,
    /// Settled spend that counts towards the limit, in the running window.
    pub window_used_usd: String,
    /// Settled spend, ever.
    pub used_usd: String,
    /// What the account's own sellers billed for it, ever, at list price.
    pub byok_used_usd: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// From when on it is refused.
    pub expires_ms: Option<u64>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// The id of its routing policy.
    pub policy: Option<String>,
    /// The slug of the workspace that it belongs to.
    pub workspace: Option<String>,
    /// Held by its requests in flight.
    pub in_flight_usd: String,
}

/// A key as it may be shown.
pub(super) fn info(core: &Core, key: &Key, now: UnixMs) -> KeyInfo {
    let row = &key.row;
    KeyInfo {
        id: row.id(),
        hash: row.hash.to_string(),
        label: row.label.clone(),
        account: core.names.name(row.account),
        management: row.role == KeyRole::Management,
        limit_usd: row.budget.limit.map(NanoUsd::to_usd_string),
        limit_reset: row.budget.reset.as_str().to_owned(),
        window_used_usd: usd(signed(key.spent.in_window(row.budget.reset, row.budget.includes_byok, now))),
        used_usd: usd(signed(key.spent.total())),
        byok_used_usd: key.record(now).byok_usage.total.to_usd_string(),
        created_ms: row.created.0,
        expires_ms: row.expires.map(|time| time.0),
        disabled: row.is_disabled,
        revoked_ms: row.revoked.map(|time| time.0),
        policy: row.policy.map(|id| id.to_string()),
        workspace: row.workspace.and_then(|id| Some(core.scopes.workspace(id)?.record.slug.clone())),
        in_flight_usd: usd(signed(key.held)),
    }
}

//! What a key can ask about itself and its account.

use super::key::{KeyReset, windows, workspace};
use super::limits::{Budget, Rate, requests_per_minute};
use super::money::Usd;
use crate::funds::{ActivityRow, KeyRole, KeyStatus};
use bourse_types::UnixMs;
use schemars::JsonSchema;
use serde::Serialize;

/// The caller's own key.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the field's own members")]
pub struct CurrentKey {
    /// What its owner calls it.
    pub label: String,
    /// Most dollars that it may spend in one window; null: no limit.
    pub limit: Option<Usd>,
    /// What is left of them; null without a limit.
    pub limit_remaining: Option<Usd>,
    /// When the limit begins anew; null: never.
    pub limit_reset: Option<KeyReset>,
    /// What it was charged, ever.
    pub usage: Usd,
    /// Since 00:00 UTC.
    pub usage_daily: Usd,
    /// Since Monday.
    pub usage_weekly: Usd,
    /// Since the first of the month.
    pub usage_monthly: Usd,
    /// What the account's own sellers billed for it, ever.
    pub byok_usage: Usd,
    /// Since 00:00 UTC.
    pub byok_usage_daily: Usd,
    /// Since Monday.
    pub byok_usage_weekly: Usd,
    /// Since the first of the month.
    pub byok_usage_monthly: Usd,
    /// Whether what the account's own sellers bill counts towards the limit.
    pub include_byok_in_limit: bool,
    /// Whether it pays nothing; every account pays.
    pub is_free_tier: bool,
    /// Whether it administers keys.
    pub is_management_key: bool,
    /// The same, in the field's older word.
    pub is_provisioning_key: bool,
    /// The management key that made it, by its hash; null: the operator.
    pub creator_user_id: Option<String>,
    /// Organisations are not kept.
    pub organization_id: Option<String>,
    /// The workspace that it belongs to; `default`: none.
    pub workspace_id: Option<String>,
    /// Regions that its requests may go to: no key is confined to one.
    pub allowed_data_regions: Vec<String>,
    /// Requests without charge: none are given.
    pub free_model_daily_requests: FreeRequests,
    /// Requests that are let through in a time, in the field's older words.
    pub rate_limit: RateLimit,
    /// Every rate that its requests count towards: its own, its workspace's and its organisation's.
    pub rate_limits: Vec<Rate>,
    /// From when on it is refused.
    pub expires_at: Option<String>,
    /// Every budget that it draws on: its own limit, its workspace's and its organisation's.
    pub budgets: Vec<Budget>,
    /// The one of them that has the least left.
    pub effective_budget: Option<Budget>,
    /// Held by requests in flight of this key.
    pub in_flight: Usd,
    /// Held by requests in flight of this key's account.
    pub held: Usd,
}

/// Requests without charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FreeRequests {
    /// Most in one day.
    pub limit: u64,
    /// What is left of them.
    pub remaining: u64,
    /// What was used.
    pub used: u64,
}

/// Requests that are let through in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RateLimit {
    /// The time.
    pub interval: String,
    /// What it means.
    pub note: String,
    /// How many; -1: no limit.
    pub requests: i64,
}

impl From<&KeyStatus> for CurrentKey {
    fn from(status: &KeyStatus) -> Self {
        let key = &status.key;
        let [usage, usage_daily, usage_weekly, usage_monthly] = windows(&key.usage);
        let [byok_usage, byok_usage_daily, byok_usage_weekly, byok_usage_monthly] = windows(&key.byok_usage);
        let is_management = key.role == KeyRole::Management;
        Self {
            label: key.name.clone(),
            limit: key.limit.map(Usd),
            limit_remaining: key.limit_remaining.map(Usd),
            limit_reset: KeyReset::of(key.limit_reset),
            usage,
            usage_daily,
            usage_weekly,
            usage_monthly,
            byok_usage,
            byok_usage_daily,
            byok_usage_weekly,
            byok_usage_monthly,
            include_byok_in_limit: key.includes_byok_in_limit,
            is_free_tier: false,
            is_management_key: is_management,
            is_provisioning_key: is_management,
            creator_user_id: key.creator.map(|hash| hash.to_string()),
            organization_id: None,
            workspace_id: Some(workspace(key)),
            allowed_data_regions: vec!["global".to_owned()],
            free_model_daily_requests: FreeRequests { limit: 0, remaining: 0, used: 0 },
            rate_limit: rate_limit(requests_per_minute(&status.rates)),
            rate_limits: status.rates.iter().map(Rate::from).collect(),
            expires_at: key.expires.map(UnixMs::to_iso_string),
            budgets: status.budgets.iter().map(Budget::from).collect(),
            effective_budget: status.budgets.iter().min_by_key(|budget| budget.left).map(Budget::from),
            in_flight: Usd(key.held),
            held: Usd(status.held),
        }
    }
}

fn rate_limit(per_minute: Option<u64>) -> RateLimit {
    match per_minute {
        Some(requests) => RateLimit {
            interval: "60s".to_owned(),
            note: "see rate_limits".to_owned(),
            requests: i64::try_from(requests).unwrap_or(i64::MAX),
        },
        None => RateLimit {
            interval: "10s".to_owned(),
            note: "requests are not limited: credit and the key's limit are".to_owned(),
            requests: -1,
        },
    }
}

/// The account's credit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Credits {
    /// Everything ever credited.
    pub total_credits: Usd,
    /// Everything ever spent.
    pub total_usage: Usd,
    /// What can still be spent: less what requests in flight hold.
    pub available: Usd,
    /// Held by requests in flight.
    pub in_flight: Usd,
}

impl From<&KeyStatus> for Credits {
    fn from(status: &KeyStatus) -> Self {
        Self {
            total_credits: Usd(status.account_credited),
            total_usage: Usd(status.account_spent),
            available: Usd(status.account_available),
            in_flight: Usd(status.held),
        }
    }
}

/// What the account used on one completed day, of one model at one seller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ActivityItem {
    /// The day in UTC, `YYYY-MM-DD`.
    #[schemars(extend("format" = "date"))]
    pub date: String,
    /// What was asked for; `other` for the row that takes what found no row of its own.
    pub model: String,
    /// The same.
    pub model_permaslug: String,
    /// The offer: seller and model.
    pub endpoint_id: String,
    /// Who answered.
    pub provider_name: String,
    /// What was charged.
    pub usage: Usd,
    /// What the account's own sellers billed, at list price.
    pub byok_usage_inference: Usd,
    /// How many requests.
    pub requests: u64,
    /// Prompt tokens billed.
    pub prompt_tokens: u64,
    /// Generated tokens billed.
    pub completion_tokens: u64,
    /// The part of them that was reasoning, where sellers said so.
    pub reasoning_tokens: u64,
}

impl From<&ActivityRow> for ActivityItem {
    fn from(row: &ActivityRow) -> Self {
        let sums = &row.sums;
        Self {
            date: row.day.to_string(),
            model: row.model.as_str().to_owned(),
            model_permaslug: row.model.as_str().to_owned(),
            endpoint_id: format!("{}:{}", row.seller, row.model),
            provider_name: row.seller.as_str().to_owned(),
            usage: Usd(sums.cost),
            byok_usage_inference: Usd(sums.byok_cost),
            requests: sums.requests,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            reasoning_tokens: sums.reasoning_tokens,
        }
    }
}

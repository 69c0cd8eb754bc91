//! Workspaces, budgets and rates, as owners see and set them.
//!
//! Paths, members and intervals of workspaces and of their budgets are the field's. Rates and what is said of an
//! organisation have no model in it.

use super::key::{Asked, KeyReset, limit, read, windows};
use super::money::Usd;
use crate::error::ApiError;
use crate::funds::{
    BudgetStatus, Change, FundsError, LimitReset, LimitsPatch, RateStatus, RateUnit, ScopeRecord,
    WorkspaceDraft, WorkspaceRecord,
};
use bourse_types::{NanoUsd, UnixMs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a window of money is called that never begins anew.
const LIFETIME: &str = "lifetime";

/// The word for a budget's window.
pub fn interval(reset: LimitReset) -> &'static str {
    if reset == LimitReset::Never { LIFETIME } else { reset.as_str() }
}

/// Reads [`interval`].
pub fn parse_interval(text: &str) -> Result<LimitReset, ApiError> {
    LimitReset::ALL
        .into_iter()
        .find(|reset| interval(*reset) == text)
        .ok_or_else(|| ApiError::field("interval", "`interval` must be daily, weekly, monthly or lifetime"))
}

/// A budget as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Budget {
    /// Whose it is: key, workspace or organization.
    pub scope: &'static str,
    /// Its window in UTC: daily, weekly (from Monday), monthly or lifetime.
    pub interval: &'static str,
    /// When it begins anew; null: never.
    pub reset_interval: Option<KeyReset>,
    /// Most dollars that may be spent in one window.
    pub limit_usd: Usd,
    /// Settled in the running window.
    pub spent_usd: Usd,
    /// Held by requests in flight.
    pub in_flight_usd: Usd,
    /// What can still be held.
    pub left_usd: Usd,
    /// When the next window begins; null: never.
    #[schemars(extend("format" = "date-time"))]
    pub resets_at: Option<String>,
    /// Whether what the account's own sellers bill counts.
    pub include_byok: bool,
}

impl From<&BudgetStatus> for Budget {
    fn from(status: &BudgetStatus) -> Self {
        Self {
            scope: status.scope.as_str(),
            interval: interval(status.reset),
            reset_interval: KeyReset::of(status.reset),
            limit_usd: Usd(status.limit),
            spent_usd: Usd(status.spent),
            in_flight_usd: Usd(status.held),
            left_usd: Usd(status.left),
            resets_at: status.resets_at.map(UnixMs::to_iso_string),
            include_byok: status.includes_byok,
        }
    }
}

/// A rate as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Rate {
    /// Whose it is: key, workspace or organization.
    pub scope: &'static str,
    /// What it counts: requests or tokens.
    pub unit: &'static str,
    /// Most in any sixty seconds.
    pub limit_per_minute: u64,
    /// Asked for within the last sixty seconds.
    pub used: u64,
    /// What may still be asked for now.
    pub left: u64,
    /// When all of it is free again; null: it is.
    #[schemars(extend("format" = "date-time"))]
    pub resets_at: Option<String>,
}

impl From<&RateStatus> for Rate {
    fn from(status: &RateStatus) -> Self {
        Self {
            scope: status.scope.as_str(),
            unit: status.unit.as_str(),
            limit_per_minute: status.limit,
            used: status.used,
            left: status.left,
            resets_at: status.resets_at.map(UnixMs::to_iso_string),
        }
    }
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Workspace {
    /// Its identity.
    #[schemars(extend("format" = "uuid"))]
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    /// Its short name, unique within its organisation.
    pub slug: String,
    /// When it was made.
    #[schemars(extend("format" = "date-time"))]
    pub created_at: String,
    /// When it or one of its limits was last changed.
    #[schemars(extend("format" = "date-time"))]
    pub updated_at: Option<String>,
}

impl From<&WorkspaceRecord> for Workspace {
    fn from(record: &WorkspaceRecord) -> Self {
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            slug: record.slug.clone(),
            created_at: record.created.to_iso_string(),
            updated_at: Some(record.updated.to_iso_string()),
        }
    }
}

/// A key, a workspace or an organisation with its limits.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Limits {
    /// The workspace, where it is one.
    #[serde(flatten)]
    pub workspace: Option<Workspace>,
    /// What was charged, ever.
    pub usage: Usd,
    /// Since 00:00 UTC.
    pub usage_daily: Usd,
    /// Since Monday.
    pub usage_weekly: Usd,
    /// Since the first of the month.
    pub usage_monthly: Usd,
    /// What the account's own sellers billed, ever.
    pub byok_usage: Usd,
    /// Held by requests in flight.
    pub in_flight: Usd,
    /// Its budgets.
    pub budgets: Vec<Budget>,
    /// Its rates.
    pub rate_limits: Vec<Rate>,
}

impl From<&ScopeRecord> for Limits {
    fn from(record: &ScopeRecord) -> Self {
        let [usage, usage_daily, usage_weekly, usage_monthly] = windows(&record.usage);
        Self {
            workspace: record.workspace.as_ref().map(Workspace::from),
            usage,
            usage_daily,
            usage_weekly,
            usage_monthly,
            byok_usage: Usd(record.byok_usage.total),
            in_flight: Usd(record.held),
            budgets: record.budgets.iter().map(Budget::from).collect(),
            rate_limits: record.rates.iter().map(Rate::from).collect(),
        }
    }
}

/// A budget that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetDeleted {
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// A workspace to be made. Unknown members are refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceCreate {
    /// What its owner calls it.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// Its short name: lower-case letters and digits, with single dashes between them.
    #[schemars(length(min = 1, max = 64))]
    slug: String,
}

impl WorkspaceCreate {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<WorkspaceDraft, ApiError> {
        let Self { name, slug } = read(body)?;
        Ok(WorkspaceDraft { name, slug })
    }
}

/// A budget to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetSet {
    /// Most dollars that may be spent in one window.
    #[schemars(with = "f64", range(min = 0))]
    limit_usd: Box<RawValue>,
    /// Whether what the account's own sellers bill counts; as it was when absent.
    #[serde(default)]
    include_byok: Option<bool>,
}

impl BudgetSet {
    /// Reads a body.
    pub fn parse(body: &[u8], reset: LimitReset) -> Result<LimitsPatch, ApiError> {
        let asked: Self = read(body)?;
        let limit: NanoUsd = limit("limit_usd", &asked.limit_usd)?;
        let includes_byok = asked.include_byok.map_or(Change::Keep, Change::Set);
        Ok(LimitsPatch::Budget { reset, limit: Some(limit), includes_byok })
    }
}

/// Rates to be set: what is absent stays, null lifts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RatesSet {
    /// Requests in any sixty seconds.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 100_000))]
    requests_per_minute: Asked<u64>,
    /// Tokens in any sixty seconds, of prompts and answers together.
    #[serde(default)]
    #[schemars(with = "Option<u64>", range(min = 1, max = 1_000_000_000_000_u64))]
    tokens_per_minute: Asked<u64>,
}

impl RatesSet {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<LimitsPatch, ApiError> {
        let asked: Self = read(body)?;
        let requests = asked.requests_per_minute.read(Ok)?;
        Ok(LimitsPatch::Rates { requests, tokens: asked.tokens_per_minute.read(Ok)? })
    }
}

/// Which limit was in the way, for programs. Stands as `limit` in the error's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LimitReached {
    /// Whose it is: account (its credit), key, workspace or organization.
    pub scope: &'static str,
    /// What it counts: usd, requests or tokens.
    pub unit: &'static str,
    /// Its window: daily, weekly, monthly, lifetime, or minute; null: the credit has none.
    pub interval: Option<&'static str>,
    /// The limit in its unit; null: the credit is what was bought.
    pub limit: Option<Counted>,
    /// What is left of it.
    pub left: Counted,
    /// What this request needs.
    pub needed: Counted,
    /// What requests in flight hold of it; not there of a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Counted>,
    /// What the last minute has taken of a rate; not there of money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Counted>,
    /// When it begins anew, or is free again; null: never, or unknown.
    #[schemars(extend("format" = "date-time"))]
    pub resets_at: Option<String>,
}

/// Dollars, or a whole number of something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Counted {
    /// Dollars.
    Usd(Usd),
    /// Anything else.
    Number(u64),
}

impl LimitReached {
    /// Of a refusal for a limit; none for another one.
    pub fn of(error: &FundsError) -> Option<Self> {
        let usd = |amount: NanoUsd| Counted::Usd(Usd(amount));
        Some(match error {
            FundsError::InsufficientFunds { available, needed, held } => Self {
                scope: "account",
                unit: "usd",
                interval: None,
                limit: None,
                left: usd(*available),
                needed: usd(*needed),
                in_flight: Some(usd(*held)),
                used: None,
                resets_at: None,
            },
            FundsError::OverBudget { budget, needed } => Self {
                scope: budget.scope.as_str(),
                unit: "usd",
                interval: Some(interval(budget.reset)),
                limit: Some(usd(budget.limit)),
                left: usd(budget.left),
                needed: usd(*needed),
                in_flight: Some(usd(budget.held)),
                used: None,
                resets_at: budget.resets_at.map(UnixMs::to_iso_string),
            },
            FundsError::RateLimited { rate, needed, .. } => Self {
                scope: rate.scope.as_str(),
                unit: rate.unit.as_str(),
                interval: Some("minute"),
                limit: Some(Counted::Number(rate.limit)),
                left: Counted::Number(rate.left),
                needed: Counted::Number(*needed),
                in_flight: None,
                used: Some(Counted::Number(rate.used)),
                resets_at: rate.resets_at.map(UnixMs::to_iso_string),
            },
            _ => return None,
        })
    }
}

/// What a key's rate of requests is in the field's older words; none without one.
pub(super) fn requests_per_minute(rates: &[RateStatus]) -> Option<u64> {
    rates.iter().filter(|rate| rate.unit == RateUnit::Requests).map(|rate| rate.limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_have_the_fields_words() {
        for (word, reset) in ["lifetime", "daily", "weekly", "monthly"].into_iter().zip(LimitReset::ALL) {
            assert_eq!((interval(reset), parse_interval(word)), (word, Ok(reset)));
        }
        for word in ["none", "", "yearly", "Daily"] {
            assert_eq!(parse_interval(word).unwrap_err().param.as_deref(), Some("interval"), "{word}");
        }
    }

    #[test]
    fn bodies_are_read_and_bad_ones_name_the_field() {
        let set = BudgetSet::parse(br#"{"limit_usd": 1e-6}"#, LimitReset::Daily).unwrap();
        let (limit, reset) = (Some(NanoUsd(1_000)), LimitReset::Daily);
        assert_eq!(set, LimitsPatch::Budget { reset, limit, includes_byok: Change::Keep });
        let rates = RatesSet::parse(br#"{"requests_per_minute": null}"#).unwrap();
        assert_eq!(rates, LimitsPatch::Rates { requests: Change::Set(None), tokens: Change::Keep });
        let draft = WorkspaceCreate::parse(br#"{"name":"Prod","slug":"prod"}"#).unwrap();
        assert_eq!((draft.name.as_str(), draft.slug.as_str()), ("Prod", "prod"));
        let param = |error: ApiError| error.param.unwrap_or_default().into_owned();
        for (body, field) in [
            ("{}", "limit_usd"),
            (r#"{"limit_usd":null}"#, "limit_usd"),
            (r#"{"limit_usd":-1}"#, "limit_usd"),
            (r#"{"limit_usd":1,"limit":1}"#, "limit"),
        ] {
            let error = BudgetSet::parse(body.as_bytes(), LimitReset::Never).unwrap_err();
            assert_eq!(param(error), field, "{body}");
        }
        for (body, field) in
            [(r#"{"tokens_per_minute":-1}"#, "tokens_per_minute"), (r#"{"requests":1}"#, "requests")]
        {
            assert_eq!(param(RatesSet::parse(body.as_bytes()).unwrap_err()), field, "{body}");
        }
    }
}

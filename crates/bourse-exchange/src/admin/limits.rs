//! The operator's requests about workspaces, budgets and rates.

use super::{AdminError, AdminReply, customer, parse_amount, payer};
use crate::books::usd;
use crate::core::Core;
use crate::exchange::Exchange;
use crate::limits::{ScopeId, SetBy};
use crate::names::OPERATOR_NAME;
use bourse_types::UnixMs;
use bourse_wire::api::{interval, parse_interval};
use bourse_wire::funds::{AccountsError, Change, LimitsPatch, ScopeRecord, WorkspaceDraft, WorkspaceRecord};
use serde::{Deserialize, Serialize};

/// Whose limits an operator means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScopeText {
    /// A key's.
    Key {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// A workspace's.
    Workspace {
        /// Its id or its slug.
        workspace: String,
        /// The account that it is a part of; the operator's when absent.
        #[serde(default)]
        account: Option<String>,
    },
    /// A whole organisation's.
    Organization {
        /// The customer account; the operator's when absent.
        #[serde(default)]
        account: Option<String>,
    },
}

/// A workspace to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWorkspace {
    /// Its short name: lower-case letters and digits, with single dashes between them.
    pub slug: String,
    /// What to call it; its slug when absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The customer account that it is a part of, opened when there is none; the operator's when absent.
    #[serde(default)]
    pub account: Option<String>,
}

/// What may be shown of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceInfo {
    /// Its identity, a UUID.
    pub id: String,
    /// Its short name.
    pub slug: String,
    /// What its owner calls it.
    pub name: String,
    /// The account that it is a part of.
    pub account: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
}

/// A key, a workspace or an organisation with its limits. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsInfo {
    /// Settled spend, ever.
    pub used_usd: String,
    /// Held by requests in flight.
    pub in_flight_usd: String,
    /// Budgets.
    pub budgets: Vec<BudgetInfo>,
    /// Rates.
    pub rates: Vec<RateInfo>,
}

/// A budget as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetInfo {
    /// `daily`, `weekly`, `monthly` or `lifetime`.
    pub interval: String,
    /// Most that may be spent in one window.
    pub limit_usd: String,
    /// Settled in the running window.
    pub spent_usd: String,
    /// Held by requests in flight.
    pub in_flight_usd: String,
    /// What can still be held.
    pub left_usd: String,
    /// When the next window begins, in Unix milliseconds.
    pub resets_at_ms: Option<u64>,
    /// Whether what the account's own sellers bill counts.
    pub includes_byok: bool,
}

/// A rate as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateInfo {
    /// `requests` or `tokens`.
    pub unit: String,
    /// Most in any sixty seconds.
    pub limit_per_minute: u64,
    /// Asked for within the last sixty seconds.
    pub used: u64,
    /// What may still be asked for now.
    pub left: u64,
}

impl From<&ScopeRecord> for LimitsInfo {
    fn from(record: &ScopeRecord) -> Self {
        let budgets = record.budgets.iter().map(|budget| BudgetInfo {
            interval: interval(budget.reset).to_owned(),
            limit_usd: budget.limit.to_usd_string(),
            spent_usd: usd(i128::from(budget.spent.0)),
            in_flight_usd: usd(i128::from(budget.held.0)),
            left_usd: usd(i128::from(budget.left.0)),
            resets_at_ms: budget.resets_at.map(|at| at.0),
            includes_byok: budget.includes_byok,
        });
        let rates = record.rates.iter().map(|rate| RateInfo {
            unit: rate.unit.as_str().to_owned(),
            limit_per_minute: rate.limit,
            used: rate.used,
            left: rate.left,
        });
        Self {
            used_usd: usd(i128::from(record.usage.total.0)),
            in_flight_usd: usd(i128::from(record.held.0)),
            budgets: budgets.collect(),
            rates: rates.collect(),
        }
    }
}

impl Exchange {
    pub(super) fn new_workspace(&self, asked: &NewWorkspace, now: UnixMs) -> Result<AdminReply, AdminError> {
        let account = asked.account.as_deref().unwrap_or(OPERATOR_NAME);
        let name = asked.name.clone().unwrap_or_else(|| asked.slug.clone());
        let draft = WorkspaceDraft { name, slug: asked.slug.clone() };
        let record = self.make_workspace(draft, now, |core| payer(core, account, now))?;
        Ok(AdminReply::Workspace { workspace: workspace_info(&record, account.to_owned()) })
    }

    pub(super) fn all_workspaces(&self) -> AdminReply {
        let core = self.shared.core.lock();
        let rows = core.scopes.workspaces();
        let info =
            |row: &crate::limits::WorkspaceRow| workspace_info(&row.record, core.names.name(row.account));
        AdminReply::Workspaces { workspaces: rows.map(info).collect() }
    }

    pub(super) fn show_limits(&self, of: &ScopeText, now: UnixMs) -> Result<AdminReply, AdminError> {
        let core = self.shared.core.lock();
        let scope = scope_of(&core, of)?;
        Ok(AdminReply::Limits { limits: LimitsInfo::from(&core.scope_record(&scope, now)) })
    }

    pub(super) fn budget(
        &self,
        of: &ScopeText,
        (word, limit_usd): (&str, Option<&str>),
        includes_byok: Option<bool>,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let reset =
            parse_interval(word).map_err(|_| AdminError::Interval(word.chars().take(64).collect()))?;
        let limit = limit_usd.map(|text| parse_amount("limit_usd", text)).transpose()?;
        let includes_byok = includes_byok.map_or(Change::Keep, Change::Set);
        self.limit(of, &LimitsPatch::Budget { reset, limit, includes_byok }, now)
    }

    pub(super) fn limit(
        &self,
        of: &ScopeText,
        patch: &LimitsPatch,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        let record = self.change_limits(patch, (now, SetBy::Operator), |core| scope_of(core, of))?;
        Ok(AdminReply::Limits { limits: LimitsInfo::from(&record) })
    }
}

fn workspace_info(record: &WorkspaceRecord, account: String) -> WorkspaceInfo {
    WorkspaceInfo {
        id: record.id.to_string(),
        slug: record.slug.clone(),
        name: record.name.clone(),
        account,
        created_ms: record.created.0,
    }
}

fn scope_of(core: &Core, of: &ScopeText) -> Result<ScopeId, AdminError> {
    let organisation = |account: &Option<String>| customer(core, account.as_deref().unwrap_or(OPERATOR_NAME));
    Ok(match of {
        ScopeText::Key { key } => ScopeId::Key(super::key_named(core, key)?),
        ScopeText::Workspace { workspace, account } => {
            let found = core.scopes.named(organisation(account)?, workspace);
            ScopeId::Workspace(found.ok_or(AdminError::Key(AccountsError::NoWorkspace))?)
        }
        ScopeText::Organization { account } => ScopeId::Organisation(organisation(account)?),
    })
}

//! Workspaces, budgets and rates, as a management key sets them.

use super::keys::{blocking, named, refusal};
use super::query::Query;
use super::table::Part;
use crate::gateway::Shared;
use bourse_wire::api::{
    Budget, BudgetDeleted, BudgetSet, Data, Limits, List, RatesSet, Workspace, WorkspaceCreate,
    parse_interval,
};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::{
    AccountsError, Change, KeyGrant, LimitReset, LimitsPatch, ScopeName, ScopeRecord, Workspaces,
};
use std::sync::Arc;

/// What stands between a workspace and an interval in a path.
const BUDGETS: &str = "/budgets/";

pub(super) async fn create(
    shared: &Shared,
    grant: &KeyGrant,
    body: &[u8],
) -> Result<Data<Workspace>, ApiError> {
    let (draft, by) = (WorkspaceCreate::parse(body)?, grant.key);
    let port = workspaces(shared)?;
    let made = blocking(shared, port, move |port, now| port.create_workspace(&by, draft, now)).await?;
    Ok(Data { data: Workspace::from(&made) })
}

pub(super) fn list(
    shared: &Shared,
    grant: &KeyGrant,
    query: &Query<'_>,
) -> Result<List<Workspace>, ApiError> {
    let offset = query.number("offset").unwrap_or(0);
    let found = workspaces(shared)?.list_workspaces(&grant.key, offset, shared.ports.clock.now());
    let found = found.map_err(|error| refusal(&error))?;
    Ok(List { data: found.iter().map(Workspace::from).collect() })
}

pub(super) fn limits(
    shared: &Shared,
    grant: &KeyGrant,
    part: Part,
    name: &str,
) -> Result<Data<Limits>, ApiError> {
    Ok(Data { data: Limits::from(&record(shared, grant, &scope(part, name)?)?) })
}

pub(super) fn budgets(shared: &Shared, grant: &KeyGrant, name: &str) -> Result<List<Budget>, ApiError> {
    let record = record(shared, grant, &ScopeName::Workspace(name.to_owned()))?;
    Ok(List { data: record.budgets.iter().map(Budget::from).collect() })
}

pub(super) async fn put_budget(
    shared: &Shared,
    grant: &KeyGrant,
    (part, name): (Part, &str),
    body: &[u8],
) -> Result<Data<Budget>, ApiError> {
    let (scope, reset) = window(part, name)?;
    let record = set(shared, grant, scope, BudgetSet::parse(body, reset)?).await?;
    let budget = record.budgets.iter().find(|budget| budget.reset == reset);
    let gone = || ApiError::new(ErrorType::Conflict, "the budget was lifted by somebody else meanwhile");
    Ok(Data { data: budget.map(Budget::from).ok_or_else(gone)? })
}

pub(super) async fn delete_budget(
    shared: &Shared,
    grant: &KeyGrant,
    part: Part,
    name: &str,
) -> Result<BudgetDeleted, ApiError> {
    let (scope, reset) = window(part, name)?;
    let patch = LimitsPatch::Budget { reset, limit: None, includes_byok: Change::Keep };
    set(shared, grant, scope, patch).await?;
    Ok(BudgetDeleted { deleted: true })
}

pub(super) async fn put_rates(
    shared: &Shared,
    grant: &KeyGrant,
    (part, name): (Part, &str),
    body: &[u8],
) -> Result<Data<Limits>, ApiError> {
    let record = set(shared, grant, scope(part, name)?, RatesSet::parse(body)?).await?;
    Ok(Data { data: Limits::from(&record) })
}

fn record(shared: &Shared, grant: &KeyGrant, of: &ScopeName) -> Result<ScopeRecord, ApiError> {
    let found = workspaces(shared)?.limits(&grant.key, of, shared.ports.clock.now());
    found.map_err(|error| refusal(&error))
}

async fn set(
    shared: &Shared,
    grant: &KeyGrant,
    of: ScopeName,
    patch: LimitsPatch,
) -> Result<ScopeRecord, ApiError> {
    let (by, port) = (grant.key, workspaces(shared)?);
    blocking(shared, port, move |port, now| port.set_limits(&by, &of, patch, now)).await
}

fn scope(part: Part, name: &str) -> Result<ScopeName, ApiError> {
    Ok(match part {
        Part::Key => ScopeName::Key(named(name)?),
        Part::Workspace => ScopeName::Workspace(name.to_owned()),
        Part::Organization => ScopeName::Organisation,
    })
}

/// Whose budget a path names, and of which window.
fn window(part: Part, name: &str) -> Result<(ScopeName, LimitReset), ApiError> {
    let (whose, word) = match part {
        Part::Organization => ("", name),
        _ => name.rsplit_once(BUDGETS).ok_or_else(|| refusal(&AccountsError::NoWorkspace))?,
    };
    Ok((scope(part, whose)?, parse_interval(word)?))
}

fn workspaces(shared: &Shared) -> Result<&Arc<dyn Workspaces>, ApiError> {
    let none =
        || ApiError::new(ErrorType::NotFound, "this market keeps no workspaces here: ask its operator");
    shared.ports.workspaces.as_ref().ok_or_else(none)
}

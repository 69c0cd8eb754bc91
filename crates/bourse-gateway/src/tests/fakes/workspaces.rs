//! Workspaces in a list, and limits that bind nobody.

use bourse_types::{KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{
    AccountsError, BudgetStatus, Change, LimitReset, LimitsPatch, RateStatus, RateUnit, Scope, ScopeName,
    ScopeRecord, SpendWindows, WorkspaceDraft, WorkspaceId, WorkspaceRecord, Workspaces,
};
use parking_lot::Mutex;

/// The workspaces of one account. Whoever calls may.
#[derive(Default)]
pub(in crate::tests) struct FakeWorkspaces(Mutex<Vec<(WorkspaceRecord, ScopeRecord)>>);

fn empty() -> ScopeRecord {
    ScopeRecord {
        workspace: None,
        usage: SpendWindows::default(),
        byok_usage: SpendWindows::default(),
        held: NanoUsd::ZERO,
        budgets: Vec::new(),
        rates: Vec::new(),
    }
}

fn change(record: &mut ScopeRecord, patch: &LimitsPatch, scope: Scope) {
    match *patch {
        LimitsPatch::Budget { reset, limit, .. } => {
            record.budgets.retain(|budget| budget.reset != reset);
            record.budgets.extend(limit.map(|limit| BudgetStatus {
                scope,
                reset,
                limit,
                includes_byok: false,
                spent: NanoUsd::ZERO,
                held: NanoUsd::ZERO,
                left: limit,
                resets_at: (reset != LimitReset::Never).then_some(UnixMs(1_800_057_600_000)),
            }));
        }
        LimitsPatch::Rates { requests, tokens } => {
            for (unit, change) in RateUnit::ALL.into_iter().zip([requests, tokens]) {
                let Change::Set(limit) = change else { continue };
                record.rates.retain(|rate| rate.unit != unit);
                let status = |limit| RateStatus { scope, unit, limit, used: 0, left: limit, resets_at: None };
                record.rates.extend(limit.map(status));
            }
        }
    }
}

impl Workspaces for FakeWorkspaces {
    fn create_workspace(
        &self,
        _: &KeyHash,
        draft: WorkspaceDraft,
        now: UnixMs,
    ) -> Result<WorkspaceRecord, AccountsError> {
        draft.check()?;
        let mut all = self.0.lock();
        let WorkspaceDraft { name, slug } = draft;
        let id = WorkspaceId(all.len() as u128);
        let record = WorkspaceRecord { id, slug, name, created: now, updated: now };
        all.push((record.clone(), ScopeRecord { workspace: Some(record.clone()), ..empty() }));
        Ok(record)
    }

    fn list_workspaces(
        &self,
        _: &KeyHash,
        offset: usize,
        _: UnixMs,
    ) -> Result<Vec<WorkspaceRecord>, AccountsError> {
        Ok(self.0.lock().iter().skip(offset).map(|(record, _)| record.clone()).collect())
    }

    fn limits(&self, _: &KeyHash, of: &ScopeName, _: UnixMs) -> Result<ScopeRecord, AccountsError> {
        let ScopeName::Workspace(text) = of else { return Ok(empty()) };
        let all = self.0.lock();
        let found = all.iter().find(|(record, _)| record.slug == *text || record.id.to_string() == *text);
        found.map(|(_, limits)| limits.clone()).ok_or(AccountsError::NoWorkspace)
    }

    fn set_limits(
        &self,
        _: &KeyHash,
        of: &ScopeName,
        patch: LimitsPatch,
        _: UnixMs,
    ) -> Result<ScopeRecord, AccountsError> {
        patch.check()?;
        let (mut other, mut all) = (empty(), self.0.lock());
        let (record, scope) = match of {
            ScopeName::Workspace(text) => {
                let found = all.iter_mut().find(|(record, _)| record.slug == *text);
                (&mut found.ok_or(AccountsError::NoWorkspace)?.1, Scope::Workspace)
            }
            ScopeName::Organisation => (&mut other, Scope::Organisation),
            ScopeName::Key(_) => (&mut other, Scope::Key),
        };
        change(record, &patch, scope);
        Ok(record.clone())
    }
}

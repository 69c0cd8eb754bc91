//! Workspaces and limits as a management key sets them, by the same paths as the operator's requests.
//!
//! As with keys, what is not of the caller's own organisation does not exist here.

use crate::accounts::{manager, owned};
use crate::core::Core;
use crate::exchange::Exchange;
use crate::limits::{ScopeId, SetBy};
use bourse_types::{AccountId, KeyHash, UnixMs};
use bourse_wire::funds::{
    AccountsError, FundsError, LimitsPatch, Rule, ScopeName, ScopeRecord, WORKSPACES_PAGE_MAX,
    WorkspaceDraft, WorkspaceId, WorkspaceRecord, Workspaces,
};

impl Workspaces for Exchange {
    fn create_workspace(
        &self,
        by: &KeyHash,
        draft: WorkspaceDraft,
        now: UnixMs,
    ) -> Result<WorkspaceRecord, AccountsError> {
        self.make_workspace(draft, now, |core| Ok(manager(core, by, now)?))
    }

    fn list_workspaces(
        &self,
        by: &KeyHash,
        offset: usize,
        now: UnixMs,
    ) -> Result<Vec<WorkspaceRecord>, AccountsError> {
        let core = self.shared.core.lock();
        let rows = core.scopes.of_account(manager(&core, by, now)?).into_iter();
        Ok(rows.skip(offset).take(WORKSPACES_PAGE_MAX).map(|row| row.record.clone()).collect())
    }

    fn limits(&self, by: &KeyHash, of: &ScopeName, now: UnixMs) -> Result<ScopeRecord, AccountsError> {
        let core = self.shared.core.lock();
        let scope = scope_of(&core, by, of, now)?;
        Ok(core.scope_record(&scope, now))
    }

    fn set_limits(
        &self,
        by: &KeyHash,
        of: &ScopeName,
        patch: LimitsPatch,
        now: UnixMs,
    ) -> Result<ScopeRecord, AccountsError> {
        self.change_limits(&patch, (now, SetBy::Owner), |core| scope_of(core, by, of, now))
    }
}

impl Exchange {
    /// Makes a workspace of the account that `of` names.
    pub(crate) fn make_workspace<E: From<AccountsError>>(
        &self,
        draft: WorkspaceDraft,
        now: UnixMs,
        of: impl FnOnce(&mut Core) -> Result<AccountId, E>,
    ) -> Result<WorkspaceRecord, E> {
        draft.check()?;
        let random = self.shared.draw().map_err(|error| FundsError::NoRandomness(error.to_string()));
        let random = random.map_err(AccountsError::from)?;
        let id = WorkspaceId(random.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)));
        let record = self.shared.change(|core| {
            let account = of(core)?;
            core.create_workspace(account, id, draft, now)?;
            let made = core.scopes.workspace(id).map(|row| row.record.clone());
            made.ok_or_else(|| E::from(AccountsError::NoWorkspace))
        })?;
        self.flush().map_err(AccountsError::from)?;
        Ok(record)
    }

    /// Changes a limit of the scope that `of` names.
    pub(crate) fn change_limits<E: From<AccountsError>>(
        &self,
        patch: &LimitsPatch,
        (now, by): (UnixMs, SetBy),
        of: impl FnOnce(&mut Core) -> Result<ScopeId, E>,
    ) -> Result<ScopeRecord, E> {
        patch.check()?;
        let id = self.house_transfer(now).map_err(AccountsError::from)?;
        let scope = self.shared.change(|core| {
            let scope = of(core)?;
            match *patch {
                LimitsPatch::Budget { .. } if matches!(scope, ScopeId::Key(_)) => {
                    return Err(E::from(Rule::BUDGET_OF_KEY.broken()));
                }
                LimitsPatch::Budget { reset, limit, includes_byok } => {
                    core.set_budget(scope, reset, limit, includes_byok, (id, now, by))?;
                }
                LimitsPatch::Rates { requests, tokens } => {
                    core.set_rates(scope, [requests, tokens], (now, by))?;
                }
            }
            core.touch(&scope, now);
            Ok(scope)
        })?;
        self.flush().map_err(AccountsError::from)?;
        Ok(self.shared.core.lock().scope_record(&scope, now))
    }
}

impl Core {
    pub(crate) fn scope_record(&self, scope: &ScopeId, now: UnixMs) -> ScopeRecord {
        let spending = self.spending(scope, now);
        let workspace = match scope {
            ScopeId::Workspace(id) => self.scopes.workspace(*id).map(|row| row.record.clone()),
            _ => None,
        };
        ScopeRecord {
            workspace,
            usage: spending.usage,
            byok_usage: spending.byok_usage,
            held: spending.held,
            budgets: self.budget_statuses(scope, now),
            rates: self.rate_statuses(scope, now),
        }
    }
}

fn scope_of(core: &Core, by: &KeyHash, of: &ScopeName, now: UnixMs) -> Result<ScopeId, AccountsError> {
    let account = manager(core, by, now)?;
    Ok(match of {
        ScopeName::Key(hash) => owned(core, by, hash, now).map(|key| ScopeId::Key(key.row.hash))?,
        ScopeName::Workspace(text) => {
            let found = core.scopes.named(account, text).ok_or(AccountsError::NoWorkspace)?;
            ScopeId::Workspace(found)
        }
        ScopeName::Organisation => ScopeId::Organisation(account),
    })
}

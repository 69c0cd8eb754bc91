//! Workspaces and limits, as their owners administer them, from afar. As [`records`](super::records): what only looks may be
//! asked again, what changes is sent once.

use super::RemoteFunds;
use bourse_types::{KeyHash, UnixMs};
use bourse_wire::funds::port::{Answer, Question};
use bourse_wire::funds::{
    AccountsError, FundsError, LimitsPatch, ScopeName, ScopeRecord, WorkspaceDraft, WorkspaceRecord,
    Workspaces,
};

impl Workspaces for RemoteFunds {
    fn create_workspace(
        &self,
        by: &KeyHash,
        draft: WorkspaceDraft,
        now: UnixMs,
    ) -> Result<WorkspaceRecord, AccountsError> {
        match self.ask(Question::CreateWorkspace { by: *by, draft, now })? {
            Answer::Workspace(workspace) => Ok(*workspace),
            _ => Err(FundsError::Away.into()),
        }
    }

    fn list_workspaces(
        &self,
        by: &KeyHash,
        offset: usize,
        now: UnixMs,
    ) -> Result<Vec<WorkspaceRecord>, AccountsError> {
        match self.ask(Question::ListWorkspaces { by: *by, offset: offset as u64, now })? {
            Answer::Workspaces(workspaces) => Ok(workspaces),
            _ => Err(FundsError::Away.into()),
        }
    }

    fn limits(&self, by: &KeyHash, of: &ScopeName, now: UnixMs) -> Result<ScopeRecord, AccountsError> {
        self.ask_for_limits(Question::Limits { by: *by, of: of.clone(), now })
    }

    fn set_limits(
        &self,
        by: &KeyHash,
        of: &ScopeName,
        patch: LimitsPatch,
        now: UnixMs,
    ) -> Result<ScopeRecord, AccountsError> {
        self.ask_for_limits(Question::SetLimits { by: *by, of: of.clone(), patch, now })
    }
}

impl RemoteFunds {
    fn ask_for_limits(&self, question: Question) -> Result<ScopeRecord, AccountsError> {
        match self.ask(question)? {
            Answer::Limits(scope) => Ok(*scope),
            _ => Err(FundsError::Away.into()),
        }
    }
}

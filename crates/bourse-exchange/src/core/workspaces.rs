//! Workspaces: named parts of an organisation.

use super::Core;
use crate::limits::{ScopeId, ScopeRow, WorkspaceRow};
use crate::record;
use bourse_types::{AccountId, UnixMs};
use bourse_wire::funds::{AccountsError, Rule, WorkspaceDraft, WorkspaceId, WorkspaceRecord};

impl Core {
    /// Makes a workspace of an account.
    pub(crate) fn create_workspace(
        &mut self,
        account: AccountId,
        id: WorkspaceId,
        draft: WorkspaceDraft,
        now: UnixMs,
    ) -> Result<(), AccountsError> {
        self.running()?;
        self.room_for(0)?;
        self.scopes.room_for(account)?;
        if self.scopes.named(account, &draft.slug).is_some() {
            return Err(Rule::SLUG_TAKEN.broken());
        }
        let WorkspaceDraft { name, slug } = draft;
        let record = WorkspaceRecord { id, slug, name, created: now, updated: now };
        self.put_workspace(WorkspaceRow { account, record });
        Ok(())
    }

    /// Notes that limits of a workspace were changed; nothing for what is none.
    pub(crate) fn touch(&mut self, scope: &ScopeId, now: UnixMs) {
        let ScopeId::Workspace(id) = scope else { return };
        if let Some(row) = self.scopes.workspace(*id) {
            let mut row = row.clone();
            row.record.updated = row.record.updated.max(now);
            self.put_workspace(row);
        }
    }

    fn put_workspace(&mut self, row: WorkspaceRow) {
        let row = ScopeRow::Workspace(row);
        record::put_scope(&mut self.group.bytes, &row);
        self.scopes.put(row);
    }
}

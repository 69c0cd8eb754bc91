//! Workspaces and limits as bytes.

use super::answer::{put_list, put_windows, read_list, read_windows};
use super::body::{put_budget, put_rate, read_budget, read_flag, read_rate};
use super::question::{change, put_reset, read_key, read_reset};
use crate::canonical::{CanonicalError, Reader, Writer};
use crate::funds::{
    BUDGETS_MAX, LimitsPatch, RateUnit, ScopeName, ScopeRecord, WorkspaceDraft, WorkspaceId, WorkspaceRecord,
};
use bourse_types::{NanoUsd, UnixMs};

pub(super) fn put_workspace_draft(w: &mut Writer, draft: &WorkspaceDraft) {
    let WorkspaceDraft { name, slug } = draft;
    w.text(name);
    w.text(slug);
}

pub(super) fn read_workspace_draft(r: &mut Reader<'_>) -> Result<WorkspaceDraft, CanonicalError> {
    Ok(WorkspaceDraft { name: r.text()?.to_owned(), slug: r.text()?.to_owned() })
}

pub(super) fn put_scope_name(w: &mut Writer, of: &ScopeName) {
    match of {
        ScopeName::Key(key) => {
            w.u8(0);
            w.fixed(&key.0);
        }
        ScopeName::Workspace(named) => {
            w.u8(1);
            w.text(named);
        }
        ScopeName::Organisation => w.u8(2),
    }
}

pub(super) fn read_scope_name(r: &mut Reader<'_>) -> Result<ScopeName, CanonicalError> {
    match r.u8()? {
        0 => read_key(r).map(ScopeName::Key),
        1 => Ok(ScopeName::Workspace(r.text()?.to_owned())),
        2 => Ok(ScopeName::Organisation),
        _ => Err(CanonicalError::Value("scope")),
    }
}

pub(super) fn put_limits_patch(w: &mut Writer, patch: &LimitsPatch) {
    match patch {
        LimitsPatch::Budget { reset, limit, includes_byok } => {
            w.u8(0);
            put_reset(w, *reset);
            w.option(*limit, |w, limit| w.u64(limit.0));
            w.option(includes_byok.value(), |w, is| w.u8(u8::from(*is)));
        }
        LimitsPatch::Rates { requests, tokens } => {
            w.u8(1);
            for rate in [requests, tokens] {
                w.option(rate.value(), |w, rate| w.option(*rate, Writer::u64));
            }
        }
    }
}

pub(super) fn read_limits_patch(r: &mut Reader<'_>) -> Result<LimitsPatch, CanonicalError> {
    match r.u8()? {
        0 => Ok(LimitsPatch::Budget {
            reset: read_reset(r)?,
            limit: r.option(Reader::u64)?.map(NanoUsd),
            includes_byok: change(r.option(read_flag)?),
        }),
        1 => {
            let mut rate = || Ok(change(r.option(|r| r.option(Reader::u64))?));
            Ok(LimitsPatch::Rates { requests: rate()?, tokens: rate()? })
        }
        _ => Err(CanonicalError::Value("limits")),
    }
}

pub(super) fn put_workspace(w: &mut Writer, workspace: &WorkspaceRecord) {
    let WorkspaceRecord { id, slug, name, created, updated } = workspace;
    w.u128(id.0);
    w.text(slug);
    w.text(name);
    w.u64(created.0);
    w.u64(updated.0);
}

pub(super) fn read_workspace(r: &mut Reader<'_>) -> Result<WorkspaceRecord, CanonicalError> {
    Ok(WorkspaceRecord {
        id: WorkspaceId(r.u128()?),
        slug: r.text()?.to_owned(),
        name: r.text()?.to_owned(),
        created: UnixMs(r.u64()?),
        updated: UnixMs(r.u64()?),
    })
}

pub(super) fn put_scope(w: &mut Writer, scope: &ScopeRecord) {
    let ScopeRecord { workspace, usage, byok_usage, held, budgets, rates } = scope;
    w.option(workspace.as_ref(), put_workspace);
    put_windows(w, usage);
    put_windows(w, byok_usage);
    w.u64(held.0);
    put_list(w, budgets, put_budget);
    put_list(w, rates, put_rate);
}

pub(super) fn read_scope(r: &mut Reader<'_>) -> Result<ScopeRecord, CanonicalError> {
    Ok(ScopeRecord {
        workspace: r.option(read_workspace)?,
        usage: read_windows(r)?,
        byok_usage: read_windows(r)?,
        held: NanoUsd(r.u64()?),
        budgets: read_list(r, BUDGETS_MAX, read_budget)?,
        rates: read_list(r, RateUnit::ALL.len(), read_rate)?,
    })
}

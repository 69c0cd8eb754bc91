//! What a gateway asks off the hot path: the past, and keys as their owners administer them.
//!
//! A question that only looks may be asked again after a connection breaks. One that changes keys is sent once: a key
//! that was made must not be made twice because its answer was lost.

use super::KEEP_PART_BYTES_MAX;
use super::body::{put_bytes, put_claim, read_bytes, read_claim, read_flag};
use super::limits::{
    put_limits_patch, put_scope_name, put_workspace_draft, read_limits_patch, read_scope_name,
    read_workspace_draft,
};
use crate::canonical::{CanonicalError, Reader, Writer};
use crate::funds::{
    ActivityQuery, Change, Claim, KeyDraft, KeyPage, KeyPatch, LimitReset, LimitsPatch, PolicyId, PolicyText,
    ScopeName, WorkspaceDraft,
};
use bourse_types::{AccountId, Digest32, KeyHash, NanoUsd, RequestId, UnixMs, UtcDay};
use bytes::Bytes;

/// A call of [`Records`](crate::funds::Records), [`Accounts`](crate::funds::Accounts),
/// [`Workspaces`](crate::funds::Workspaces) or [`Outcomes`](crate::funds::Outcomes), or a look at the books' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// [`Records::receipt`](crate::funds::Records::receipt).
    Receipt(RequestId),
    /// [`Records::generation`](crate::funds::Records::generation).
    Generation(RequestId),
    /// [`Records::key_status`](crate::funds::Records::key_status).
    KeyStatus {
        /// Of which key.
        key: KeyHash,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Records::activity`](crate::funds::Records::activity).
    Activity {
        /// Of which account.
        account: AccountId,
        /// Which rows.
        query: ActivityQuery,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Records::figures`](crate::funds::Records::figures).
    Figures {
        /// Of which day.
        day: UtcDay,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Records::policy`](crate::funds::Records::policy).
    Policy(PolicyId),
    /// [`Records::checkpoint`](crate::funds::Records::checkpoint).
    Checkpoint,
    /// [`Records::consistency`](crate::funds::Records::consistency).
    Consistency(u64),
    /// [`Accounts::create_key`](crate::funds::Accounts::create_key).
    CreateKey {
        /// The management key.
        by: KeyHash,
        /// What is to be made.
        draft: KeyDraft,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Accounts::list_keys`](crate::funds::Accounts::list_keys).
    ListKeys {
        /// The management key.
        by: KeyHash,
        /// Which part.
        page: KeyPage,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Accounts::get_key`](crate::funds::Accounts::get_key).
    GetKey {
        /// The management key.
        by: KeyHash,
        /// Which key.
        hash: KeyHash,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Accounts::update_key`](crate::funds::Accounts::update_key).
    UpdateKey {
        /// The management key.
        by: KeyHash,
        /// Which key.
        hash: KeyHash,
        /// What changes.
        patch: KeyPatch,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Accounts::delete_key`](crate::funds::Accounts::delete_key).
    DeleteKey {
        /// The management key.
        by: KeyHash,
        /// Which key.
        hash: KeyHash,
        /// The caller's clock.
        now: UnixMs,
    },
    /// The account of a name, if the books have one.
    Account(String),
    /// [`Workspaces::create_workspace`](crate::funds::Workspaces::create_workspace).
    CreateWorkspace {
        /// The management key.
        by: KeyHash,
        /// What is to be made.
        draft: WorkspaceDraft,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Workspaces::list_workspaces`](crate::funds::Workspaces::list_workspaces).
    ListWorkspaces {
        /// The management key.
        by: KeyHash,
        /// How many are passed over.
        offset: u64,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Workspaces::limits`](crate::funds::Workspaces::limits).
    Limits {
        /// The management key.
        by: KeyHash,
        /// Whose.
        of: ScopeName,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Workspaces::set_limits`](crate::funds::Workspaces::set_limits).
    SetLimits {
        /// The management key.
        by: KeyHash,
        /// Whose.
        of: ScopeName,
        /// What changes.
        patch: LimitsPatch,
        /// The caller's clock.
        now: UnixMs,
    },
    /// [`Outcomes::claimed`](crate::funds::Outcomes::claimed).
    Claimed {
        /// Under which claim.
        claim: Claim,
        /// The caller's clock.
        now: UnixMs,
    },
    /// A part of an answer for [`Outcomes::keep`](crate::funds::Outcomes::keep). They are sent one after the other, the next one
    /// when the one before was taken; with the last one the answer is kept.
    Keep(KeptPart),
    /// [`Outcomes::outcome`](crate::funds::Outcomes::outcome).
    Outcome {
        /// The claim's name.
        name: Digest32,
        /// The first request under it.
        request: RequestId,
    },
}

/// A part of a sealed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptPart {
    /// The claim's name.
    pub name: Digest32,
    /// The first request under it.
    pub request: RequestId,
    /// The caller's clock.
    pub now: UnixMs,
    /// Bytes of the whole answer, at most [`SEALED_BYTES_MAX`](crate::funds::SEALED_BYTES_MAX).
    pub len: u32,
    /// Bytes that came before this part.
    pub at: u32,
    /// At most [`KEEP_PART_BYTES_MAX`](super::KEEP_PART_BYTES_MAX) bytes.
    pub part: Bytes,
}

impl Question {
    /// Whether it changes something, and must therefore not be sent twice.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Self::CreateKey { .. }
                | Self::UpdateKey { .. }
                | Self::DeleteKey { .. }
                | Self::CreateWorkspace { .. }
                | Self::SetLimits { .. }
                | Self::Keep(_)
        )
    }

    /// The caller's clock, where it sends it.
    pub fn clock(&mut self) -> Option<&mut UnixMs> {
        match self {
            Self::KeyStatus { now, .. }
            | Self::Activity { now, .. }
            | Self::Figures { now, .. }
            | Self::CreateKey { now, .. }
            | Self::ListKeys { now, .. }
            | Self::GetKey { now, .. }
            | Self::UpdateKey { now, .. }
            | Self::DeleteKey { now, .. }
            | Self::CreateWorkspace { now, .. }
            | Self::ListWorkspaces { now, .. }
            | Self::Limits { now, .. }
            | Self::SetLimits { now, .. }
            | Self::Claimed { now, .. }
            | Self::Keep(KeptPart { now, .. }) => Some(now),
            Self::Receipt(_)
            | Self::Generation(_)
            | Self::Policy(_)
            | Self::Checkpoint
            | Self::Consistency(_)
            | Self::Account(_)
            | Self::Outcome { .. } => None,
        }
    }

    pub(super) fn put(&self, w: &mut Writer) {
        match self {
            Self::Receipt(request) => put_request(w, 1, *request),
            Self::Generation(request) => put_request(w, 2, *request),
            Self::KeyStatus { key, now } => put_keys(w, 3, &[key], *now),
            Self::Activity { account, query, now } => {
                w.u8(4);
                w.u64(account.0);
                put_query(w, query);
                w.u64(now.0);
            }
            Self::Policy(id) => {
                w.u8(5);
                w.fixed(&id.0.0);
            }
            Self::Checkpoint => w.u8(6),
            Self::Consistency(from) => {
                w.u8(7);
                w.u64(*from);
            }
            Self::CreateKey { by, draft, now } => {
                put_keys(w, 8, &[by], *now);
                put_draft(w, draft);
            }
            Self::ListKeys { by, page, now } => {
                put_keys(w, 9, &[by], *now);
                put_page(w, page);
            }
            Self::GetKey { by, hash, now } => put_keys(w, 10, &[by, hash], *now),
            Self::UpdateKey { by, hash, patch, now } => {
                put_keys(w, 11, &[by, hash], *now);
                put_patch(w, patch);
            }
            Self::DeleteKey { by, hash, now } => put_keys(w, 12, &[by, hash], *now),
            Self::Account(name) => {
                w.u8(13);
                w.text(name);
            }
            Self::CreateWorkspace { by, draft, now } => {
                put_keys(w, 15, &[by], *now);
                put_workspace_draft(w, draft);
            }
            Self::ListWorkspaces { by, offset, now } => {
                put_keys(w, 16, &[by], *now);
                w.u64(*offset);
            }
            Self::Limits { by, of, now } => {
                put_keys(w, 17, &[by], *now);
                put_scope_name(w, of);
            }
            Self::SetLimits { by, of, patch, now } => {
                put_keys(w, 18, &[by], *now);
                put_scope_name(w, of);
                put_limits_patch(w, patch);
            }
            Self::Claimed { claim, now } => {
                put_keys(w, 19, &[], *now);
                put_claim(w, claim);
            }
            Self::Keep(part) => put_kept(w, 20, part),
            Self::Outcome { name, request } => {
                put_request(w, 21, *request);
                w.fixed(&name.0);
            }
            Self::Figures { day, now } => {
                w.u8(14);
                w.u32(day.0);
                w.u64(now.0);
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, CanonicalError> {
        Ok(match r.u8()? {
            1 => Self::Receipt(RequestId(r.u128()?)),
            2 => Self::Generation(RequestId(r.u128()?)),
            3 => Self::KeyStatus { key: read_key(r)?, now: UnixMs(r.u64()?) },
            4 => Self::Activity {
                account: AccountId(r.u64()?),
                query: ActivityQuery { day: r.option(Reader::u32)?.map(UtcDay), key: r.option(read_key)? },
                now: UnixMs(r.u64()?),
            },
            5 => Self::Policy(PolicyId(Digest32(r.array()?))),
            6 => Self::Checkpoint,
            7 => Self::Consistency(r.u64()?),
            8 => Self::CreateKey { by: read_key(r)?, now: UnixMs(r.u64()?), draft: read_draft(r)? },
            9 => Self::ListKeys { by: read_key(r)?, now: UnixMs(r.u64()?), page: read_page(r)? },
            10 => Self::GetKey { by: read_key(r)?, hash: read_key(r)?, now: UnixMs(r.u64()?) },
            11 => Self::UpdateKey {
                by: read_key(r)?,
                hash: read_key(r)?,
                now: UnixMs(r.u64()?),
                patch: read_patch(r)?,
            },
            12 => Self::DeleteKey { by: read_key(r)?, hash: read_key(r)?, now: UnixMs(r.u64()?) },
            13 => Self::Account(r.text()?.to_owned()),
            14 => Self::Figures { day: UtcDay(r.u32()?), now: UnixMs(r.u64()?) },
            15 => Self::CreateWorkspace {
                by: read_key(r)?,
                now: UnixMs(r.u64()?),
                draft: read_workspace_draft(r)?,
            },
            16 => Self::ListWorkspaces { by: read_key(r)?, now: UnixMs(r.u64()?), offset: r.u64()? },
            17 => Self::Limits { by: read_key(r)?, now: UnixMs(r.u64()?), of: read_scope_name(r)? },
            18 => Self::SetLimits {
                by: read_key(r)?,
                now: UnixMs(r.u64()?),
                of: read_scope_name(r)?,
                patch: read_limits_patch(r)?,
            },
            19 => Self::Claimed { now: UnixMs(r.u64()?), claim: read_claim(r)? },
            20 => Self::Keep(read_kept(r)?),
            21 => Self::Outcome { request: RequestId(r.u128()?), name: Digest32(r.array()?) },
            _ => return Err(CanonicalError::Value("question")),
        })
    }
}

fn put_keys(w: &mut Writer, kind: u8, keys: &[&KeyHash], now: UnixMs) {
    w.u8(kind);
    for key in keys {
        w.fixed(&key.0);
    }
    w.u64(now.0);
}

fn put_kept(w: &mut Writer, kind: u8, part: &KeptPart) {
    let KeptPart { name, request, now, len, at, part } = part;
    w.u8(kind);
    w.fixed(&name.0);
    w.u128(request.0);
    w.u64(now.0);
    w.u32(*len);
    w.u32(*at);
    put_bytes(w, part);
}

fn read_kept(r: &mut Reader<'_>) -> Result<KeptPart, CanonicalError> {
    Ok(KeptPart {
        name: Digest32(r.array()?),
        request: RequestId(r.u128()?),
        now: UnixMs(r.u64()?),
        len: r.u32()?,
        at: r.u32()?,
        part: read_bytes(r, KEEP_PART_BYTES_MAX)?,
    })
}

fn put_query(w: &mut Writer, query: &ActivityQuery) {
    w.option(query.day, |w, day| w.u32(day.0));
    w.option(query.key, |w, key| w.fixed(&key.0));
}

fn put_page(w: &mut Writer, page: &KeyPage) {
    w.u64(page.offset as u64);
    w.u64(page.limit as u64);
    w.u8(u8::from(page.include_disabled));
}

fn put_request(w: &mut Writer, kind: u8, request: RequestId) {
    w.u8(kind);
    w.u128(request.0);
}

pub(super) fn read_key(r: &mut Reader<'_>) -> Result<KeyHash, CanonicalError> {
    r.array().map(KeyHash)
}

pub(super) fn put_reset(w: &mut Writer, reset: LimitReset) {
    let place = LimitReset::ALL.iter().position(|known| *known == reset);
    w.u8(place.unwrap_or_default() as u8);
}

pub(super) fn read_reset(r: &mut Reader<'_>) -> Result<LimitReset, CanonicalError> {
    LimitReset::ALL.get(usize::from(r.u8()?)).copied().ok_or(CanonicalError::Value("limit_reset"))
}

fn put_policy(w: &mut Writer, policy: Option<&PolicyText>) {
    w.option(policy, |w, policy| w.text(policy.as_str()));
}

/// A text that is no policy is refused as soon as it is read.
pub(super) fn read_policy(r: &mut Reader<'_>) -> Result<PolicyText, CanonicalError> {
    PolicyText::parse(r.text()?).map_err(|_| CanonicalError::Value("policy"))
}

fn put_draft(w: &mut Writer, draft: &KeyDraft) {
    let KeyDraft { name, limit, limit_reset, includes_byok_in_limit, expires, policy, claim, workspace } =
        draft;
    w.text(name);
    w.option(*limit, |w, limit| w.u64(limit.0));
    put_reset(w, *limit_reset);
    w.u8(u8::from(*includes_byok_in_limit));
    w.option(*expires, |w, expires| w.u64(expires.0));
    put_policy(w, policy.as_ref());
    w.option(claim.as_ref(), put_claim);
    w.option(workspace.as_ref(), |w, named| w.text(named));
}

fn read_draft(r: &mut Reader<'_>) -> Result<KeyDraft, CanonicalError> {
    Ok(KeyDraft {
        name: r.text()?.to_owned(),
        limit: r.option(Reader::u64)?.map(NanoUsd),
        limit_reset: read_reset(r)?,
        includes_byok_in_limit: read_flag(r)?,
        expires: r.option(Reader::u64)?.map(UnixMs),
        policy: r.option(read_policy)?,
        claim: r.option(read_claim)?,
        workspace: r.option(Reader::text)?.map(str::to_owned),
    })
}

fn read_page(r: &mut Reader<'_>) -> Result<KeyPage, CanonicalError> {
    let number = |n: u64| usize::try_from(n).map_err(|_| CanonicalError::Value("page"));
    Ok(KeyPage { offset: number(r.u64()?)?, limit: number(r.u64()?)?, include_disabled: read_flag(r)? })
}

fn put_patch(w: &mut Writer, patch: &KeyPatch) {
    let KeyPatch { name, disabled, limit, limit_reset, includes_byok_in_limit, expires, policy } = patch;
    w.option(name.value(), |w, name| w.text(name));
    w.option(disabled.value(), |w, is| w.u8(u8::from(*is)));
    w.option(limit.value(), |w, limit| w.option(*limit, |w, limit| w.u64(limit.0)));
    w.option(limit_reset.value(), |w, reset| put_reset(w, *reset));
    w.option(includes_byok_in_limit.value(), |w, is| w.u8(u8::from(*is)));
    w.option(expires.value(), |w, expires| w.option(*expires, |w, expires| w.u64(expires.0)));
    w.option(policy.value(), |w, policy| put_policy(w, policy.as_ref()));
}

pub(super) fn change<T>(value: Option<T>) -> Change<T> {
    value.map_or(Change::Keep, Change::Set)
}

fn read_patch(r: &mut Reader<'_>) -> Result<KeyPatch, CanonicalError> {
    Ok(KeyPatch {
        name: change(r.option(|r| r.text().map(str::to_owned))?),
        disabled: change(r.option(read_flag)?),
        limit: change(r.option(|r| Ok(r.option(Reader::u64)?.map(NanoUsd)))?),
        limit_reset: change(r.option(read_reset)?),
        includes_byok_in_limit: change(r.option(read_flag)?),
        expires: change(r.option(|r| Ok(r.option(Reader::u64)?.map(UnixMs)))?),
        policy: change(r.option(|r| r.option(read_policy))?),
    })
}

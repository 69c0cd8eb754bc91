//! What an exchange answers to a [`Question`](super::Question), as bytes that travel in parts.
//!
//! Every list is read within the bound that the port's traits name for it, so that an answer of foreign bytes costs no
//! more than its own length.

use super::body::{
    put_budget, put_bytes, put_error, put_note, put_policy_id, put_rate, put_receipt, put_role, read_budget,
    read_bytes, read_error, read_flag, read_note, read_policy_id, read_rate, read_receipt, read_role,
};
use super::limits::{put_scope, put_workspace, read_scope, read_workspace};
use super::question::{put_reset, read_key, read_policy, read_reset};
use crate::canonical::{CanonicalError, Reader, Writer};
use crate::funds::accounts::RULES;
use crate::funds::{
    ACTIVITY_DAYS, ACTIVITY_ROWS_PER_DAY_MAX, AccountsError, ActivityRow, ActivitySums, BUDGETS_MAX,
    FIGURES_BYTES_MAX, Generation, KEYS_PAGE_MAX, KeyRecord, KeySecret, KeyStatus, PolicyText, RateUnit,
    SEALED_BYTES_MAX, Scope, ScopeRecord, SpendWindows, WORKSPACES_PAGE_MAX, WorkspaceId, WorkspaceRecord,
};
use crate::receipt::{Checkpoint, ReceiptDocument};
use bourse_types::{AccountId, Digest32, ModelSlug, NanoUsd, SellerName, UnixMs, UtcDay};
use bytes::Bytes;
use std::sync::Arc;

/// Steps of a path through the receipts' log, at most: two for each level of a tree of 2⁶⁴ leaves.
const PATH_MAX: usize = 128;
/// Rows of an activity, at most.
const ROWS_MAX: usize = ACTIVITY_DAYS as usize * (ACTIVITY_ROWS_PER_DAY_MAX + 1);

/// The outcome of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a question for a receipt.
    Receipt(Option<Box<ReceiptDocument>>),
    /// To a question for a generation.
    Generation(Option<Box<Generation>>),
    /// To a question for a key's status.
    KeyStatus(Box<KeyStatus>),
    /// To a question for an activity.
    Activity(Vec<ActivityRow>),
    /// To a question for public figures.
    Figures(Option<Arc<str>>),
    /// To a question for a policy.
    Policy(Option<PolicyText>),
    /// To a question for the newest checkpoint.
    Checkpoint(Checkpoint),
    /// To a question for a proof of consistency.
    Consistency(Vec<Digest32>),
    /// A key was made.
    Created(Box<KeyRecord>, KeySecret),
    /// Keys of a page.
    Keys(Vec<KeyRecord>),
    /// One key, as it is or as it has become.
    Key(Box<KeyRecord>),
    /// A key was ended.
    Deleted,
    /// To a question for an account.
    Account(Option<AccountId>),
    /// A workspace was made.
    Workspace(Box<WorkspaceRecord>),
    /// Workspaces of a page.
    Workspaces(Vec<WorkspaceRecord>),
    /// Limits, as they are or as they have become.
    Limits(Box<ScopeRecord>),
    /// A request may begin under its claim.
    Claimed,
    /// A part of a sealed answer was taken, or with the last one all of it is kept.
    Kept,
    /// To a question for a sealed answer.
    Outcome(Option<Bytes>),
    /// The exchange refused.
    Refused(AccountsError),
}

impl Answer {
    /// Its bytes, whole.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let w = &mut writer;
        match self {
            Self::Receipt(document) => {
                w.u8(1);
                w.option(document.as_deref(), put_document);
            }
            Self::Generation(generation) => {
                w.u8(2);
                w.option(generation.as_deref(), |w, Generation { receipt, note }| {
                    put_receipt(w, receipt);
                    put_note(w, note);
                });
            }
            Self::KeyStatus(status) => put_kind(w, 3, put_status, status),
            Self::Activity(rows) => {
                w.u8(4);
                put_list(w, rows, put_row);
            }
            Self::Policy(policy) => {
                w.u8(5);
                w.option(policy.as_ref(), |w, policy| w.text(policy.as_str()));
            }
            Self::Checkpoint(checkpoint) => put_kind(w, 6, put_checkpoint, checkpoint),
            Self::Consistency(path) => {
                w.u8(7);
                put_list(w, path, |w, step| w.fixed(&step.0));
            }
            Self::Created(key, secret) => {
                w.u8(8);
                put_key(w, key);
                w.text(&secret.0);
            }
            Self::Keys(keys) => {
                w.u8(9);
                put_list(w, keys, put_key);
            }
            Self::Key(key) => put_kind(w, 10, put_key, key),
            Self::Deleted => w.u8(11),
            Self::Account(account) => {
                w.u8(12);
                w.option(*account, |w, account| w.u64(account.0));
            }
            Self::Refused(error) => put_kind(w, 13, put_refusal, error),
            Self::Workspace(workspace) => put_kind(w, 15, put_workspace, workspace),
            Self::Workspaces(workspaces) => {
                w.u8(16);
                put_list(w, workspaces, put_workspace);
            }
            Self::Limits(scope) => put_kind(w, 17, put_scope, scope),
            Self::Claimed => w.u8(18),
            Self::Kept => w.u8(19),
            Self::Outcome(sealed) => {
                w.u8(20);
                w.option(sealed.as_ref(), |w, sealed| put_bytes(w, sealed));
            }
            // Longer than a text may be.
            Self::Figures(figures) => {
                w.u8(14);
                w.option(figures.as_deref(), |w, json| {
                    w.u32(json.len() as u32);
                    w.fixed(json.as_bytes());
                });
            }
        }
        writer.bytes
    }

    /// Reads what [`Answer::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CanonicalError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let answer =
            match r.u8()? {
                1 => Self::Receipt(r.option(read_document)?.map(Box::new)),
                2 => Self::Generation(r.option(|r| {
                    Ok(Box::new(Generation { receipt: read_receipt(r)?, note: read_note(r)? }))
                })?),
                3 => Self::KeyStatus(Box::new(read_status(r)?)),
                4 => Self::Activity(read_list(r, ROWS_MAX, read_row)?),
                5 => Self::Policy(r.option(read_policy)?),
                6 => Self::Checkpoint(read_checkpoint(r)?),
                7 => Self::Consistency(read_list(r, PATH_MAX, |r| r.array().map(Digest32))?),
                8 => Self::Created(Box::new(read_key_record(r)?), KeySecret(r.text()?.to_owned())),
                9 => Self::Keys(read_list(r, KEYS_PAGE_MAX, read_key_record)?),
                10 => Self::Key(Box::new(read_key_record(r)?)),
                11 => Self::Deleted,
                12 => Self::Account(r.option(Reader::u64)?.map(AccountId)),
                13 => Self::Refused(read_refusal(r)?),
                14 => Self::Figures(r.option(read_figures)?),
                15 => Self::Workspace(Box::new(read_workspace(r)?)),
                16 => Self::Workspaces(read_list(r, WORKSPACES_PAGE_MAX, read_workspace)?),
                17 => Self::Limits(Box::new(read_scope(r)?)),
                18 => Self::Claimed,
                19 => Self::Kept,
                20 => Self::Outcome(r.option(|r| read_bytes(r, SEALED_BYTES_MAX))?),
                _ => return Err(CanonicalError::Value("answer")),
            };
        reader.finish()?;
        Ok(answer)
    }
}

fn read_figures(r: &mut Reader<'_>) -> Result<Arc<str>, CanonicalError> {
    let len = r.u32()? as usize;
    if len > FIGURES_BYTES_MAX {
        return Err(CanonicalError::Long(len));
    }
    let json = std::str::from_utf8(r.fixed(len)?).map_err(|_| CanonicalError::Value("figures"))?;
    Ok(json.into())
}

fn put_kind<T>(w: &mut Writer, kind: u8, put: fn(&mut Writer, &T), value: &T) {
    w.u8(kind);
    put(w, value);
}

pub(super) fn put_list<T>(w: &mut Writer, list: &[T], put: impl Fn(&mut Writer, &T)) {
    w.u32(list.len() as u32);
    for one in list {
        put(w, one);
    }
}

pub(super) fn read_list<T>(
    r: &mut Reader<'_>,
    max: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, CanonicalError>,
) -> Result<Vec<T>, CanonicalError> {
    let n = r.u32()? as usize;
    if n > max {
        return Err(CanonicalError::Long(n));
    }
    (0..n).map(|_| read(r)).collect()
}

fn put_checkpoint(w: &mut Writer, checkpoint: &Checkpoint) {
    w.u64(checkpoint.size);
    w.fixed(&checkpoint.root.0);
    w.u64(checkpoint.time.0);
    w.fixed(&checkpoint.exchange.0);
    w.fixed(&checkpoint.signature);
}

fn read_checkpoint(r: &mut Reader<'_>) -> Result<Checkpoint, CanonicalError> {
    Ok(Checkpoint {
        size: r.u64()?,
        root: Digest32(r.array()?),
        time: UnixMs(r.u64()?),
        exchange: Digest32(r.array()?),
        signature: r.array()?,
    })
}

fn put_document(w: &mut Writer, document: &ReceiptDocument) {
    put_receipt(w, &document.receipt);
    w.fixed(&document.exchange_signature);
    w.u64(document.leaf_index);
    put_list(w, &document.inclusion, |w, step| w.fixed(&step.0));
    put_checkpoint(w, &document.checkpoint);
}

fn read_document(r: &mut Reader<'_>) -> Result<ReceiptDocument, CanonicalError> {
    Ok(ReceiptDocument {
        receipt: read_receipt(r)?,
        exchange_signature: r.array()?,
        leaf_index: r.u64()?,
        inclusion: read_list(r, PATH_MAX, |r| r.array().map(Digest32))?,
        checkpoint: read_checkpoint(r)?,
    })
}

fn put_status(w: &mut Writer, status: &KeyStatus) {
    let KeyStatus { key, budgets, rates, held, account_credited, account_spent, account_available } = status;
    put_key(w, key);
    for amount in [held, account_credited, account_spent, account_available] {
        w.u64(amount.0);
    }
    put_list(w, budgets, put_budget);
    put_list(w, rates, put_rate);
}

fn read_status(r: &mut Reader<'_>) -> Result<KeyStatus, CanonicalError> {
    Ok(KeyStatus {
        key: read_key_record(r)?,
        held: NanoUsd(r.u64()?),
        account_credited: NanoUsd(r.u64()?),
        account_spent: NanoUsd(r.u64()?),
        account_available: NanoUsd(r.u64()?),
        budgets: read_list(r, 1 + 2 * BUDGETS_MAX, read_budget)?,
        rates: read_list(r, Scope::ALL.len() * RateUnit::ALL.len(), read_rate)?,
    })
}

fn put_row(w: &mut Writer, row: &ActivityRow) {
    let ActivityRow { day, model, seller, sums } = row;
    let ActivitySums { requests, prompt_tokens, completion_tokens, reasoning_tokens, cost, byok_cost } = sums;
    w.u32(day.0);
    w.text(model.as_str());
    w.text(seller.as_str());
    for n in [requests, prompt_tokens, completion_tokens, reasoning_tokens, &cost.0, &byok_cost.0] {
        w.u64(*n);
    }
}

fn read_row(r: &mut Reader<'_>) -> Result<ActivityRow, CanonicalError> {
    Ok(ActivityRow {
        day: UtcDay(r.u32()?),
        model: ModelSlug::parse(r.text()?).map_err(|_| CanonicalError::Value("model"))?,
        seller: SellerName::parse(r.text()?).map_err(|_| CanonicalError::Value("seller"))?,
        sums: ActivitySums {
            requests: r.u64()?,
            prompt_tokens: r.u64()?,
            completion_tokens: r.u64()?,
            reasoning_tokens: r.u64()?,
            cost: NanoUsd(r.u64()?),
            byok_cost: NanoUsd(r.u64()?),
        },
    })
}

pub(super) fn put_windows(w: &mut Writer, windows: &SpendWindows) {
    let SpendWindows { total, daily, weekly, monthly } = windows;
    for amount in [total, daily, weekly, monthly] {
        w.u64(amount.0);
    }
}

pub(super) fn read_windows(r: &mut Reader<'_>) -> Result<SpendWindows, CanonicalError> {
    Ok(SpendWindows {
        total: NanoUsd(r.u64()?),
        daily: NanoUsd(r.u64()?),
        weekly: NanoUsd(r.u64()?),
        monthly: NanoUsd(r.u64()?),
    })
}

fn put_key(w: &mut Writer, key: &KeyRecord) {
    w.fixed(&key.hash.0);
    w.text(&key.name);
    put_role(w, key.role);
    w.u8(u8::from(key.is_disabled));
    w.option(key.limit, |w, limit| w.u64(limit.0));
    put_reset(w, key.limit_reset);
    w.option(key.limit_remaining, |w, limit| w.u64(limit.0));
    w.u8(u8::from(key.includes_byok_in_limit));
    w.option(key.expires, |w, expires| w.u64(expires.0));
    put_windows(w, &key.usage);
    put_windows(w, &key.byok_usage);
    w.option(key.creator, |w, creator| w.fixed(&creator.0));
    w.u64(key.created.0);
    w.u64(key.updated.0);
    w.option(key.last_used, |w, used| w.u64(used.0));
    put_policy_id(w, key.policy);
    w.option(key.workspace, |w, id| w.u128(id.0));
    w.u64(key.held.0);
}

fn read_key_record(r: &mut Reader<'_>) -> Result<KeyRecord, CanonicalError> {
    Ok(KeyRecord {
        hash: read_key(r)?,
        name: r.text()?.to_owned(),
        role: read_role(r)?,
        is_disabled: read_flag(r)?,
        limit: r.option(Reader::u64)?.map(NanoUsd),
        limit_reset: read_reset(r)?,
        limit_remaining: r.option(Reader::u64)?.map(NanoUsd),
        includes_byok_in_limit: read_flag(r)?,
        expires: r.option(Reader::u64)?.map(UnixMs),
        usage: read_windows(r)?,
        byok_usage: read_windows(r)?,
        creator: r.option(read_key)?,
        created: UnixMs(r.u64()?),
        updated: UnixMs(r.u64()?),
        last_used: r.option(Reader::u64)?.map(UnixMs),
        policy: read_policy_id(r)?,
        workspace: r.option(Reader::u128)?.map(WorkspaceId),
        held: NanoUsd(r.u64()?),
    })
}

fn put_refusal(w: &mut Writer, error: &AccountsError) {
    match error {
        AccountsError::NotFound => w.u8(1),
        AccountsError::NoWorkspace => w.u8(4),
        AccountsError::Operators => w.u8(5),
        AccountsError::Invalid { field, rule } => {
            let place = RULES.iter().position(|known| (known.field, known.rule) == (*field, *rule));
            w.u8(2);
            w.u8(place.unwrap_or(RULES.len() - 1) as u8);
        }
        AccountsError::Funds(error) => {
            w.u8(3);
            put_error(w, error);
        }
    }
}

fn read_refusal(r: &mut Reader<'_>) -> Result<AccountsError, CanonicalError> {
    match r.u8()? {
        1 => Ok(AccountsError::NotFound),
        2 => {
            let rule = RULES.get(usize::from(r.u8()?));
            rule.map(|rule| rule.broken()).ok_or(CanonicalError::Value("rule"))
        }
        3 => read_error(r).map(AccountsError::Funds),
        4 => Ok(AccountsError::NoWorkspace),
        5 => Ok(AccountsError::Operators),
        _ => Err(CanonicalError::Value("refusal")),
    }
}

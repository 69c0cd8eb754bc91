//! Budgets, rates and workspaces as the exchange keeps them.
//!
//! One piece serves keys, workspaces and organisations. A budget is an allowance account in the ledger: every hold of its
//! [`ScopeId`] draws on it in the same chain, so that no number of concurrent callers passes it; the first hold of a new
//! window fills it up again. A rate is an allowance in requests or tokens: what a request takes from it is a pending
//! transfer that nobody posts, and that gives itself back when its minute is over.
//!
//! Limits: a budget or a rate that was set once keeps its accounts when it is lifted, for the next time. A key has one
//! budget, which stands in its own row as it always has; the others have up to [`BUDGETS_MAX`].

use crate::record::{put_option, put_text, read_flag, read_option, read_text};
use bourse_ledger::{CodecError, Reader, Unit};
use bourse_types::{AccountId, KeyHash, NanoUsd, UnixMs};
use bourse_wire::funds::{
    BUDGETS_MAX, FundsError, LimitReset, RateUnit, Scope, WORKSPACE_NAME_BYTES_MAX, WORKSPACE_SLUG_BYTES_MAX,
    WORKSPACES_MAX, WorkspaceId, WorkspaceRecord,
};
use std::collections::{BTreeMap, HashMap};

/// Places of budgets that one hold can draw on: the key's, then those of its workspace and of its organisation.
pub(crate) const PLACES_MAX: usize = 1 + 2 * BUDGETS_MAX;

/// Whose limits they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ScopeId {
    Key(KeyHash),
    Workspace(WorkspaceId),
    Organisation(AccountId),
}

impl ScopeId {
    pub(crate) fn scope(&self) -> Scope {
        match self {
            Self::Key(_) => Scope::Key,
            Self::Workspace(_) => Scope::Workspace,
            Self::Organisation(_) => Scope::Organisation,
        }
    }

    /// What its allowance accounts are called after.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Key(hash) => crate::keys::key_id(hash),
            Self::Workspace(id) => format!("workspace:{id}"),
            Self::Organisation(account) => format!("organization:{}", account.0),
        }
    }

    /// Where its budget of this slot stands among those of a hold.
    pub(crate) fn place(&self, slot: usize) -> usize {
        match self {
            Self::Key(_) => slot,
            Self::Workspace(_) => 1 + slot,
            Self::Organisation(_) => 1 + BUDGETS_MAX + slot,
        }
    }
}

/// Who set a limit. What the operator set on an organisation is not for its own management keys to change; limits of its
/// workspaces and keys are its own, whoever set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum SetBy {
    /// A management key, or the operator before it was noted.
    #[default]
    Owner,
    /// The market's operator.
    Operator,
}

impl SetBy {
    /// Whom a limit is of from now on that `self` sets or lifts; what binds nobody is nobody's.
    pub(crate) fn of(self, scope: &ScopeId, binds: Option<impl Copy>) -> Self {
        match (scope, binds) {
            (ScopeId::Organisation(_), Some(_)) => self,
            _ => Self::Owner,
        }
    }

    /// Whether one who is `self` may change what `other` set.
    pub(crate) fn may_change(self, other: Self) -> bool {
        self == Self::Operator || other == Self::Owner
    }
}

/// In the place of a window's start: the budget was lowered below what its scope has spent and holds, so what comes back of
/// those holds is not all free. The allowance is fitted before each draw until it is right again.
pub(crate) const UNFITTED: UnixMs = UnixMs(u64::MAX);

/// A budget. Without a `limit` it binds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) limit: Option<NanoUsd>,
    pub(crate) reset: LimitReset,
    pub(crate) includes_byok: bool,
    pub(crate) allowance: Option<AccountId>,
    /// The start of the window that the allowance stands for, or [`UNFITTED`].
    pub(crate) window: UnixMs,
    /// Who may change it.
    pub(crate) set_by: SetBy,
}

impl Budget {
    /// One that has never been set.
    pub(crate) fn unset(reset: LimitReset) -> Self {
        Self {
            limit: None,
            reset,
            includes_byok: false,
            allowance: None,
            window: UnixMs(0),
            set_by: SetBy::Owner,
        }
    }

    /// The allowance that holds draw on, when it binds.
    pub(crate) fn binding(&self) -> Option<AccountId> {
        self.limit.and(self.allowance)
    }

    /// Whether the allowance must be fitted to the limit again before anybody draws on it.
    pub(crate) fn is_over(&self, now: UnixMs) -> bool {
        self.limit.is_some() && (self.window == UNFITTED || now >= self.reset.window_end(self.window))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.reset as u8, u8::from(self.includes_byok)]);
        put_option(out, self.limit.map(|limit| limit.0.to_le_bytes()));
        put_option(out, self.allowance.map(|account| account.0.to_le_bytes()));
        out.extend_from_slice(&self.window.0.to_le_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            reset: read_reset(r)?,
            includes_byok: read_flag(r)?,
            limit: read_option(r, Reader::u64)?.map(NanoUsd),
            allowance: read_option(r, Reader::u64)?.map(AccountId),
            window: UnixMs(r.u64()?),
            set_by: SetBy::Owner,
        })
    }
}

pub(crate) fn read_reset(r: &mut Reader<'_>) -> Result<LimitReset, CodecError> {
    let code = r.u8()?;
    let reset = LimitReset::ALL.get(usize::from(code)).copied();
    reset.ok_or(CodecError::Code { what: "limit reset", code })
}

/// A rate. Without a `limit` it binds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rate {
    pub(crate) limit: Option<u64>,
    pub(crate) account: Option<AccountId>,
    /// Who may change it.
    pub(crate) set_by: SetBy,
}

impl Rate {
    /// The account that requests take from and what it has, when it binds.
    pub(crate) fn binding(&self) -> Option<(AccountId, u64)> {
        self.account.zip(self.limit)
    }
}

/// What the ledger counts for a rate.
pub(crate) fn unit_of(unit: RateUnit) -> Unit {
    match unit {
        RateUnit::Requests => Unit::REQUESTS,
        RateUnit::Tokens => Unit::TOKENS,
    }
}

/// The limits of one scope. A key's budget is not among them: it stands in the key's row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// At most [`BUDGETS_MAX`], each of another window. They keep their slots, by which holds are known.
    pub(crate) budgets: Vec<Budget>,
    /// In the order of [`RateUnit::ALL`].
    pub(crate) rates: [Rate; 2],
}

impl Limits {
    /// Which of them the operator set on an organisation: a bit for each slot of a budget, then for each rate. As older
    /// versions wrote them where there is none.
    fn operators(&self) -> u8 {
        let bit = |set_by: SetBy, place: usize| u8::from(set_by == SetBy::Operator) << place;
        let budgets = self.budgets.iter().enumerate().map(|(slot, budget)| bit(budget.set_by, slot));
        let rates = self.rates.iter().enumerate().map(|(unit, rate)| bit(rate.set_by, BUDGETS_MAX + unit));
        budgets.chain(rates).fold(0, |all, one| all | one)
    }

    /// The way back; a bit for what is not there is damage.
    fn set_operators(&mut self, bits: u8) -> Result<(), CodecError> {
        let set_by = |place: usize| if (bits >> place) & 1 == 0 { SetBy::Owner } else { SetBy::Operator };
        for (slot, budget) in self.budgets.iter_mut().enumerate() {
            budget.set_by = set_by(slot);
        }
        for (unit, rate) in self.rates.iter_mut().enumerate() {
            rate.set_by = set_by(BUDGETS_MAX + unit);
        }
        let here = ((1u8 << self.budgets.len()) - 1) | (0b11 << BUDGETS_MAX);
        if bits & !here != 0 || bits == 0 {
            return Err(CodecError::Inconsistent("the operator set limits that are not there"));
        }
        Ok(())
    }
}

/// A workspace as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkspaceRow {
    pub(crate) account: AccountId,
    pub(crate) record: WorkspaceRecord,
}

/// One line of the journal about scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScopeRow {
    /// A workspace as it is from now on.
    Workspace(WorkspaceRow),
    /// The limits of a scope from now on.
    Limits(ScopeId, Limits),
}

impl ScopeRow {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Workspace(WorkspaceRow { account, record }) => {
                out.push(0);
                out.extend_from_slice(&record.id.0.to_le_bytes());
                for word in [account.0, record.created.0, record.updated.0] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                put_text(out, &record.slug);
                put_text(out, &record.name);
            }
            Self::Limits(scope, limits) => {
                let operators = limits.operators();
                match scope {
                    ScopeId::Key(hash) => {
                        out.push(1);
                        out.extend_from_slice(&hash.0);
                    }
                    ScopeId::Workspace(id) => {
                        out.push(2);
                        out.extend_from_slice(&id.0.to_le_bytes());
                    }
                    ScopeId::Organisation(account) => {
                        out.push(if operators == 0 { 3 } else { 4 });
                        out.extend_from_slice(&account.0.to_le_bytes());
                    }
                }
                out.push(limits.budgets.len() as u8);
                limits.budgets.iter().for_each(|budget| budget.write(out));
                for rate in &limits.rates {
                    put_option(out, rate.limit.map(u64::to_le_bytes));
                    put_option(out, rate.account.map(|account| account.0.to_le_bytes()));
                }
                if operators != 0 {
                    out.push(operators);
                }
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, CodecError> {
        let tag = r.u8()?;
        let scope = match tag {
            0 => return read_workspace(r).map(Self::Workspace),
            1 => ScopeId::Key(KeyHash(r.array()?)),
            2 => ScopeId::Workspace(WorkspaceId(r.u128()?)),
            3 | 4 => ScopeId::Organisation(AccountId(r.u64()?)),
            code => return Err(CodecError::Code { what: "scope", code }),
        };
        let count = usize::from(r.u8()?);
        if count > BUDGETS_MAX {
            return Err(CodecError::Inconsistent("a scope has more budgets than there are windows"));
        }
        let budgets = (0..count).map(|_| Budget::read(r)).collect::<Result<_, _>>()?;
        let mut rates = [Rate::default(); 2];
        for rate in &mut rates {
            rate.limit = read_option(r, Reader::u64)?;
            rate.account = read_option(r, Reader::u64)?.map(AccountId);
        }
        let mut limits = Limits { budgets, rates };
        if tag == 4 {
            limits.set_operators(r.u8()?)?;
        }
        Ok(Self::Limits(scope, limits))
    }
}

fn read_workspace(r: &mut Reader<'_>) -> Result<WorkspaceRow, CodecError> {
    let id = WorkspaceId(r.u128()?);
    let account = AccountId(r.u64()?);
    let (created, updated) = (UnixMs(r.u64()?), UnixMs(r.u64()?));
    let slug = read_text(r, WORKSPACE_SLUG_BYTES_MAX)?;
    let name = read_text(r, WORKSPACE_NAME_BYTES_MAX)?;
    Ok(WorkspaceRow { account, record: WorkspaceRecord { id, slug, name, created, updated } })
}

/// All workspaces, and all limits but the keys' budgets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scopes {
    workspaces: BTreeMap<WorkspaceId, WorkspaceRow>,
    /// Workspaces of each account by slug.
    by_slug: BTreeMap<(AccountId, String), WorkspaceId>,
    limits: HashMap<ScopeId, Limits>,
}

impl Scopes {
    pub(crate) fn put(&mut self, row: ScopeRow) {
        match row {
            ScopeRow::Workspace(row) => {
                self.by_slug.insert((row.account, row.record.slug.clone()), row.record.id);
                self.workspaces.insert(row.record.id, row);
            }
            ScopeRow::Limits(scope, limits) => drop(self.limits.insert(scope, limits)),
        }
    }

    /// Everything, in one order.
    pub(crate) fn rows(&self) -> Vec<ScopeRow> {
        let mut limits: Vec<_> = self.limits.iter().collect();
        limits.sort_unstable_by_key(|(scope, _)| **scope);
        let limits = limits.into_iter().map(|(scope, limits)| ScopeRow::Limits(*scope, limits.clone()));
        self.workspaces.values().cloned().map(ScopeRow::Workspace).chain(limits).collect()
    }

    pub(crate) fn limits(&self, scope: &ScopeId) -> Option<&Limits> {
        // Nearly every market has none, and every hold asks.
        if self.limits.is_empty() { None } else { self.limits.get(scope) }
    }

    pub(crate) fn workspace(&self, id: WorkspaceId) -> Option<&WorkspaceRow> {
        self.workspaces.get(&id)
    }

    /// The workspace of an account that has this id or slug.
    pub(crate) fn named(&self, account: AccountId, text: &str) -> Option<WorkspaceId> {
        let by_slug = self.by_slug.get(&(account, text.to_owned())).copied();
        let found = by_slug.or_else(|| WorkspaceId::parse(text))?;
        self.workspace(found).filter(|row| row.account == account).map(|_| found)
    }

    /// All workspaces.
    pub(crate) fn workspaces(&self) -> impl Iterator<Item = &WorkspaceRow> {
        self.workspaces.values()
    }

    /// Workspaces of an account, the oldest first.
    pub(crate) fn of_account(&self, account: AccountId) -> Vec<&WorkspaceRow> {
        let mut rows: Vec<_> = self.workspaces.values().filter(|row| row.account == account).collect();
        rows.sort_by_key(|row| (row.record.created, row.record.id));
        rows
    }

    /// Whether an account can have one more workspace.
    pub(crate) fn room_for(&self, account: AccountId) -> Result<(), FundsError> {
        let of_account = self.workspaces.values().filter(|row| row.account == account).count();
        if of_account >= WORKSPACES_MAX { Err(FundsError::TooMany("workspaces")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let budget = |reset| Budget {
            limit: Some(NanoUsd(7)),
            includes_byok: reset == LimitReset::Daily,
            allowance: Some(AccountId(20)),
            window: UnixMs(9),
            ..Budget::unset(reset)
        };
        let all = Limits {
            budgets: LimitReset::ALL.map(budget).to_vec(),
            rates: [
                Rate { limit: Some(3), ..Rate::default() },
                Rate { account: Some(AccountId(4)), ..Rate::default() },
            ],
        };
        let mut operators = all.clone();
        operators.budgets[1].set_by = SetBy::Operator;
        operators.rates[1].set_by = SetBy::Operator;
        let record = WorkspaceRecord {
            id: WorkspaceId(5),
            slug: "s".repeat(WORKSPACE_SLUG_BYTES_MAX),
            name: "n".repeat(WORKSPACE_NAME_BYTES_MAX),
            created: UnixMs(1),
            updated: UnixMs(2),
        };
        let rows = [
            ScopeRow::Workspace(WorkspaceRow { account: AccountId(6), record }),
            ScopeRow::Limits(ScopeId::Key(KeyHash([8; 32])), Limits::default()),
            ScopeRow::Limits(ScopeId::Workspace(WorkspaceId(5)), all.clone()),
            ScopeRow::Limits(ScopeId::Organisation(AccountId(6)), all),
            ScopeRow::Limits(ScopeId::Organisation(AccountId(7)), operators),
        ];
        let mut scopes = Scopes::default();
        for row in rows.iter().rev() {
            let mut bytes = Vec::new();
            row.write(&mut bytes);
            let mut r = Reader::new(&bytes);
            assert_eq!((ScopeRow::read(&mut r).as_ref(), r.remaining()), (Ok(row), 0));
            scopes.put(row.clone());
        }
        assert_eq!(scopes.rows(), rows);
        assert_eq!(scopes.named(AccountId(6), &"s".repeat(WORKSPACE_SLUG_BYTES_MAX)), Some(WorkspaceId(5)));
        assert_eq!(scopes.named(AccountId(6), &WorkspaceId(5).to_string()), Some(WorkspaceId(5)));
        assert_eq!(scopes.named(AccountId(7), &WorkspaceId(5).to_string()), None, "another's");
        let mut bytes = Vec::new();
        rows[2].write(&mut bytes);
        bytes[17] = BUDGETS_MAX as u8 + 1;
        assert!(ScopeRow::read(&mut Reader::new(&bytes)).is_err(), "one past the most");
        let mut bytes = Vec::new();
        rows[4].write(&mut bytes);
        for bits in [0, 0b0100_0000] {
            *bytes.last_mut().unwrap() = bits;
            assert!(ScopeRow::read(&mut Reader::new(&bytes)).is_err(), "{bits}");
        }
    }
}

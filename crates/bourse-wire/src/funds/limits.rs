//! Budgets and rates: what a key, a workspace or an organisation may spend, and how much it may ask for in a minute.
//!
//! An *organisation* is a customer's account, and a *workspace* a named part of it. A key belongs to one workspace at
//! most, from its making on, so that what a workspace has spent never changes afterwards. A *budget* is an amount and a
//! window in UTC; each hold draws on all of them at once, or on none. A *rate* is a number of requests or tokens in any
//! sixty seconds: what was asked counts for a minute from then on, and then no more.

use super::FundsError;
use super::accounts::{AccountsError, Change, LimitReset, NAME_RULE, Rule, SpendWindows};
use bourse_types::{DurationMs, KeyHash, NanoUsd, UnixMs};
use std::fmt;

/// Budgets of one workspace or organisation, at most: one for each window. A key has one.
pub const BUDGETS_MAX: usize = 4;
/// Workspaces of one organisation, at most.
pub const WORKSPACES_MAX: usize = 256;
/// Workspaces on one page of [`Workspaces::list_workspaces`], at most.
pub const WORKSPACES_PAGE_MAX: usize = 100;
/// Longest slug of a workspace, in bytes.
pub const WORKSPACE_SLUG_BYTES_MAX: usize = 64;
/// What the field calls the workspace of a key that belongs to none; no workspace has this slug.
pub const DEFAULT_WORKSPACE: &str = "default";
/// Longest name of a workspace, in bytes.
pub const WORKSPACE_NAME_BYTES_MAX: usize = 128;
/// How long what was asked counts towards a rate.
pub const RATE_WINDOW: DurationMs = DurationMs(60_000);
/// Most requests in a minute that a rate can allow: each of them is an entry in the books for that long.
pub const RATE_REQUESTS_MAX: u64 = 100_000;
/// Most tokens in a minute that a rate can allow.
pub const RATE_TOKENS_MAX: u64 = 1_000_000_000_000;

/// A workspace's identity: written as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkspaceId(pub u128);

impl WorkspaceId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let id = Self(u128::from_str_radix(&digits, 16).ok()?);
        (id.to_string() == text.to_ascii_lowercase()).then_some(id)
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// A key's.
    Key,
    /// A workspace's.
    Workspace,
    /// An organisation's.
    Organisation,
}

impl Scope {
    /// All, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Key, Self::Workspace, Self::Organisation];

    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Workspace => "workspace",
            Self::Organisation => "organization",
        }
    }
}

/// A budget as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Whose it is.
    pub scope: Scope,
    /// When it begins anew.
    pub reset: LimitReset,
    /// Most that may be spent in one window.
    pub limit: NanoUsd,
    /// Whether what the account's own sellers bill counts.
    pub includes_byok: bool,
    /// Settled in the running window.
    pub spent: NanoUsd,
    /// Held by requests in flight, which may still settle in this window.
    pub held: NanoUsd,
    /// What can still be held.
    pub left: NanoUsd,
    /// When the next window begins; none: never.
    pub resets_at: Option<UnixMs>,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateUnit {
    /// Requests, when they are let in.
    Requests,
    /// Tokens: the bound of the prompt and what may be generated, when money is held for it.
    Tokens,
}

impl RateUnit {
    /// All, in the order of their codes.
    pub const ALL: [Self; 2] = [Self::Requests, Self::Tokens];

    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }

    /// Most that a rate can allow in a minute.
    pub fn most(self) -> u64 {
        match self {
            Self::Requests => RATE_REQUESTS_MAX,
            Self::Tokens => RATE_TOKENS_MAX,
        }
    }
}

/// A rate as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStatus {
    /// Whose it is.
    pub scope: Scope,
    /// What it counts.
    pub unit: RateUnit,
    /// Most in any [`RATE_WINDOW`].
    pub limit: u64,
    /// Asked for within the last window.
    pub used: u64,
    /// What may still be asked for now.
    pub left: u64,
    /// When all of it is free again, if nothing more is asked for; none: it is.
    pub resets_at: Option<UnixMs>,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRecord {
    /// Its identity.
    pub id: WorkspaceId,
    /// Its short name, unique within its organisation.
    pub slug: String,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created: UnixMs,
    /// When it or one of its limits was last changed.
    pub updated: UnixMs,
}

/// A workspace to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkspaceDraft {
    /// 1 to [`WORKSPACE_NAME_BYTES_MAX`] bytes without control characters.
    pub name: String,
    /// 1 to [`WORKSPACE_SLUG_BYTES_MAX`] lower-case letters, digits and dashes between them, and no [`WorkspaceId`].
    pub slug: String,
}

impl WorkspaceDraft {
    /// Checks what types cannot.
    pub fn check(&self) -> Result<(), AccountsError> {
        let name = &self.name;
        if name.is_empty() || name.len() > WORKSPACE_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(NAME_RULE.broken());
        }
        if is_slug(&self.slug) { Ok(()) } else { Err(Rule::SLUG.broken()) }
    }
}

fn is_slug(slug: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    slug.len() <= WORKSPACE_SLUG_BYTES_MAX
        && slug.split('-').all(is_word)
        && slug != DEFAULT_WORKSPACE
        && WorkspaceId::parse(slug).is_none()
}

/// A part of the caller's organisation, as its owner names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScopeName {
    /// An inference key.
    Key(KeyHash),
    /// A workspace by its id or its slug.
    Workspace(String),
    /// All of it.
    Organisation,
}

/// A change to limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitsPatch {
    /// The budget of one window.
    Budget {
        /// Which.
        reset: LimitReset,
        /// The amount; none lifts it.
        limit: Option<NanoUsd>,
        /// See [`BudgetStatus::includes_byok`].
        includes_byok: Change<bool>,
    },
    /// Rates; none lifts one.
    Rates {
        /// Requests in a minute, 1 to [`RATE_REQUESTS_MAX`].
        requests: Change<Option<u64>>,
        /// Tokens in a minute, 1 to [`RATE_TOKENS_MAX`].
        tokens: Change<Option<u64>>,
    },
}

impl LimitsPatch {
    /// Checks what types cannot.
    pub fn check(&self) -> Result<(), AccountsError> {
        let Self::Rates { requests, tokens } = self else { return Ok(()) };
        for (unit, rule, change) in [
            (RateUnit::Requests, Rule::RATE_REQUESTS, requests),
            (RateUnit::Tokens, Rule::RATE_TOKENS, tokens),
        ] {
            if change.value().copied().flatten().is_some_and(|limit| limit == 0 || limit > unit.most()) {
                return Err(rule.broken());
            }
        }
        Ok(())
    }
}

/// A key, a workspace or an organisation with its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRecord {
    /// The workspace, where it is one.
    pub workspace: Option<WorkspaceRecord>,
    /// What was charged.
    pub usage: SpendWindows,
    /// What the account's own sellers billed, at list price.
    pub byok_usage: SpendWindows,
    /// Held by requests in flight.
    pub held: NanoUsd,
    /// Budgets, at most [`BUDGETS_MAX`].
    pub budgets: Vec<BudgetStatus>,
    /// Rates, at most one for each [`RateUnit`].
    pub rates: Vec<RateStatus>,
}

/// Workspaces and limits of one organisation, by its management key `by`. Changes are durable on return: a call may take
/// as long as one `fsync`.
pub trait Workspaces: Send + Sync + 'static {
    /// Makes a workspace.
    fn create_workspace(
        &self,
        by: &KeyHash,
        draft: WorkspaceDraft,
        now: UnixMs,
    ) -> Result<WorkspaceRecord, AccountsError>;
    /// Lists workspaces, the oldest first, at most [`WORKSPACES_PAGE_MAX`].
    fn list_workspaces(
        &self,
        by: &KeyHash,
        offset: usize,
        now: UnixMs,
    ) -> Result<Vec<WorkspaceRecord>, AccountsError>;
    /// A part of the organisation with its limits.
    fn limits(&self, by: &KeyHash, of: &ScopeName, now: UnixMs) -> Result<ScopeRecord, AccountsError>;
    /// Changes a limit.
    fn set_limits(
        &self,
        by: &KeyHash,
        of: &ScopeName,
        patch: LimitsPatch,
        now: UnixMs,
    ) -> Result<ScopeRecord, AccountsError>;
}

impl FundsError {
    /// How much could still be held, where that is less than what was asked.
    pub fn money_left(&self) -> Option<NanoUsd> {
        match self {
            Self::InsufficientFunds { available, .. } => Some(*available),
            Self::OverBudget { budget, .. } => Some(budget.left),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_known_by_a_uuid_or_a_slug() {
        let id = WorkspaceId(0x550e_8400_e29b_41d4_a716_4466_5544_0000);
        assert_eq!(id.to_string(), "550e8400-e29b-41d4-a716-446655440000");
        assert_eq!(WorkspaceId::parse("550E8400-e29b-41d4-a716-446655440000"), Some(id));
        for text in ["", "550e8400e29b41d4a716446655440000", "550e8400-e29b-41d4-a716-44665544000g", "7"] {
            assert_eq!(WorkspaceId::parse(text), None, "{text}");
        }
        let slug =
            |slug: &str| WorkspaceDraft { name: "a".to_owned(), slug: slug.to_owned() }.check().is_ok();
        let longest = "x".repeat(WORKSPACE_SLUG_BYTES_MAX);
        assert!(slug("production") && slug("team-7") && slug(&longest));
        for bad in ["default", "", "-", "a-", "a--b", "Team", "a b", &format!("{longest}x"), &id.to_string()]
        {
            assert!(!slug(bad), "{bad}");
        }
    }

    #[test]
    fn rates_are_taken_at_their_bounds_and_refused_one_past_them() {
        let rates = |requests, tokens| {
            let patch = LimitsPatch::Rates {
                requests: Change::Set(Some(requests)),
                tokens: Change::Set(Some(tokens)),
            };
            patch.check().map_err(|error| error.to_string())
        };
        assert_eq!(rates(1, 1), Ok(()));
        assert_eq!(rates(RATE_REQUESTS_MAX, RATE_TOKENS_MAX), Ok(()));
        let requests = Err("`requests_per_minute` must be from 1 to 100,000, or null".to_owned());
        assert_eq!((rates(0, 1), rates(RATE_REQUESTS_MAX + 1, 1)), (requests.clone(), requests));
        let tokens = Err("`tokens_per_minute` must be from 1 to 1,000,000,000,000, or null".to_owned());
        assert_eq!((rates(1, 0), rates(1, RATE_TOKENS_MAX + 1)), (tokens.clone(), tokens));
    }
}

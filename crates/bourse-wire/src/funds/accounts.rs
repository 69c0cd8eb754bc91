//! The account surface: keys as their owners see and change them.
//!
//! A *management key* administers the inference keys of its own account and buys nothing; only an operator
//! makes or changes one. Whatever is not an inference key of the caller's account does not exist for it. A key
//! is known by its SHA-256; the key itself is shown once, by the call that makes it.

use super::FundsError;
use super::claim::Claim;
use super::limits::WorkspaceId;
use super::policy::{PolicyId, PolicyText};
use bourse_types::{Fault, KeyHash, NanoUsd, UnixMs, UtcDay};
use std::fmt;

/// Longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 128;
/// Keys on one page of [`Accounts::list_keys`], at most.
pub const KEYS_PAGE_MAX: usize = 100;
/// The first day of the year 10,000: later expiries have no text.
const EXPIRES_MAX: UnixMs = UnixMs(253_402_300_800_000);

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyRole {
    /// Buys generations.
    #[default]
    Inference,
    /// Administers the inference keys of its account; buys nothing.
    Management,
}

/// When a key's limit begins anew: at 00:00 UTC of a day, a Monday, or the first of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LimitReset {
    /// A lifetime limit.
    #[default]
    Never,
    /// Every day.
    Daily,
    /// Every Monday.
    Weekly,
    /// On the first of every month.
    Monthly,
}

impl LimitReset {
    /// All values, in order of their codes.
    pub const ALL: [Self; 4] = [Self::Never, Self::Daily, Self::Weekly, Self::Monthly];

    /// The field's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "none",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// Reads [`LimitReset::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reset| reset.as_str() == text)
    }

    /// The first instant of the window that holds `now`; the beginning of time when there is one window.
    pub fn window_start(self, now: UnixMs) -> UnixMs {
        let day = UtcDay::of(now);
        match self {
            Self::Never => UnixMs(0),
            Self::Daily => day.start(),
            Self::Weekly => day.week_start().start(),
            Self::Monthly => day.month_start().start(),
        }
    }

    /// The first instant after the window that holds `now`; the end of time when there is one window.
    pub fn window_end(self, now: UnixMs) -> UnixMs {
        let day = UtcDay::of(now);
        match self {
            Self::Never => UnixMs(u64::MAX),
            Self::Daily => day.plus(1).start(),
            Self::Weekly => day.plus(7).week_start().start(),
            // No month has more than 31 days, and none fewer than 28.
            Self::Monthly => day.month_start().plus(31).month_start().start(),
        }
    }
}

/// What was spent in all, and in the running day, week (from Monday) and month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpendWindows {
    /// Ever.
    pub total: NanoUsd,
    /// Since 00:00 UTC.
    pub daily: NanoUsd,
    /// Since Monday.
    pub weekly: NanoUsd,
    /// Since the first of the month.
    pub monthly: NanoUsd,
}

/// A key as its owner may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// SHA-256 of the key: its identity.
    pub hash: KeyHash,
    /// What its owner calls it. Not unique.
    pub name: String,
    /// What it is for.
    pub role: KeyRole,
    /// Whether it is switched off.
    pub is_disabled: bool,
    /// Most that it may spend in one window; none: no limit.
    pub limit: Option<NanoUsd>,
    /// When the limit begins anew.
    pub limit_reset: LimitReset,
    /// `limit` less what was settled in the running window; none without a limit.
    pub limit_remaining: Option<NanoUsd>,
    /// Whether what the account's own sellers bill counts towards the limit.
    pub includes_byok_in_limit: bool,
    /// From when on it is refused.
    pub expires: Option<UnixMs>,
    /// What it was charged.
    pub usage: SpendWindows,
    /// What the account's own sellers billed for it, at list price.
    pub byok_usage: SpendWindows,
    /// The management key that made it; none: the operator.
    pub creator: Option<KeyHash>,
    /// When it was made.
    pub created: UnixMs,
    /// When it was last changed.
    pub updated: UnixMs,
    /// When something that it bought was last settled.
    pub last_used: Option<UnixMs>,
    /// Its own routing policy.
    pub policy: Option<PolicyId>,
    /// The workspace that it belongs to.
    pub workspace: Option<WorkspaceId>,
    /// Held by its requests in flight.
    pub held: NanoUsd,
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyDraft {
    /// 1 to [`KEY_NAME_BYTES_MAX`] bytes without control characters.
    pub name: String,
    /// As in [`KeyRecord::limit`].
    pub limit: Option<NanoUsd>,
    /// As in [`KeyRecord::limit_reset`].
    pub limit_reset: LimitReset,
    /// As in [`KeyRecord::includes_byok_in_limit`].
    pub includes_byok_in_limit: bool,
    /// In the future.
    pub expires: Option<UnixMs>,
    /// Its own routing policy.
    pub policy: Option<PolicyText>,
    /// Under which it is made once; refused with [`FundsError::ClaimPaid`] when it was made before.
    pub claim: Option<Claim>,
    /// The workspace that it belongs to for good, by its id or its slug.
    pub workspace: Option<String>,
}

impl KeyDraft {
    /// Checks what types cannot.
    pub fn check(&self, now: UnixMs) -> Result<(), AccountsError> {
        check_name(&self.name)?;
        check_expires(self.expires, now)
    }
}

/// Whether a field stays or is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// As it is.
    #[default]
    Keep,
    /// To this.
    Set(T),
}

impl<T> Change<T> {
    /// The new value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Keep => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// Changes to a key. [`Default`] changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPatch {
    /// See [`KeyDraft::name`].
    pub name: Change<String>,
    /// See [`KeyRecord::is_disabled`].
    pub disabled: Change<bool>,
    /// See [`KeyRecord::limit`]. Lowering it below what is spent and held takes what is free at once.
    pub limit: Change<Option<NanoUsd>>,
    /// See [`KeyRecord::limit_reset`].
    pub limit_reset: Change<LimitReset>,
    /// See [`KeyRecord::includes_byok_in_limit`].
    pub includes_byok_in_limit: Change<bool>,
    /// See [`KeyDraft::expires`].
    pub expires: Change<Option<UnixMs>>,
    /// See [`KeyRecord::policy`].
    pub policy: Change<Option<PolicyText>>,
}

impl KeyPatch {
    /// Checks what types cannot.
    pub fn check(&self, now: UnixMs) -> Result<(), AccountsError> {
        self.name.value().map_or(Ok(()), |name| check_name(name))?;
        check_expires(self.expires.value().copied().flatten(), now)
    }
}

/// A part of a list, oldest key first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPage {
    /// Keys to skip.
    pub offset: usize,
    /// Keys to give; see [`KEYS_PAGE_MAX`].
    pub limit: usize,
    /// Whether those that are switched off are given, too.
    pub include_disabled: bool,
}

/// A key as it is sent, shown once. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(pub String);

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(..)")
    }
}

/// Why a call on keys was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// No inference key of the caller's account has this hash.
    #[error("no key of this account has this hash")]
    NotFound,
    /// No workspace of the caller's organisation is called so.
    #[error("no workspace of this organisation has this id or slug")]
    NoWorkspace,
    /// The limit was set on the caller's organisation by the market's operator.
    #[error("the market's operator set this limit of the organisation, and its own keys cannot change it")]
    Operators,
    /// A field has a value that it cannot have.
    #[error("`{field}` {rule}")]
    Invalid {
        /// The field, as the API calls it.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The exchange refused.
    #[error(transparent)]
    Funds(#[from] FundsError),
}

impl AccountsError {
    /// At whose door the failure lies.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Funds(error) => error.fault(),
            Self::NotFound | Self::NoWorkspace | Self::Operators | Self::Invalid { .. } => Fault::Buyer,
        }
    }
}

/// A field and what it must be. Each has a place in a list, by which it travels to other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub(crate) field: &'static str,
    pub(crate) rule: &'static str,
}

pub(crate) const NAME_RULE: Rule =
    Rule { field: "name", rule: "needs 1 to 128 bytes, no control characters" };
const EXPIRES_RULE: Rule =
    Rule { field: "expires_at", rule: "must be in the future and before the year 10,000" };
/// Every rule that a call on keys, workspaces and limits can break, and last what stands for one that is not known here.
pub(crate) const RULES: [Rule; 9] = [
    NAME_RULE,
    EXPIRES_RULE,
    Rule::SLUG,
    Rule::SLUG_TAKEN,
    Rule::BUDGET_OF_KEY,
    Rule::BUDGETS_FULL,
    Rule::RATE_REQUESTS,
    Rule::RATE_TOKENS,
    Rule { field: "key", rule: "has a value that it cannot have" },
];

impl Rule {
    pub(crate) const SLUG: Self = Self {
        field: "slug",
        rule: "needs 1 to 64 lower-case letters and digits, with single dashes between them, and must be neither a UUID \
               nor `default`",
    };
    /// Two workspaces of one organisation have two slugs.
    pub const SLUG_TAKEN: Self =
        Self { field: "slug", rule: "is the slug of another workspace of this organisation" };
    /// A key has one limit, which is set where the key is.
    pub const BUDGET_OF_KEY: Self = Self { field: "budget", rule: "of a key is its limit: change the key" };
    /// There is one budget for each window.
    pub const BUDGETS_FULL: Self = Self { field: "interval", rule: "is set for every window already" };
    pub(crate) const RATE_REQUESTS: Self =
        Self { field: "requests_per_minute", rule: "must be from 1 to 100,000, or null" };
    pub(crate) const RATE_TOKENS: Self =
        Self { field: "tokens_per_minute", rule: "must be from 1 to 1,000,000,000,000, or null" };

    /// The refusal of what breaks it.
    pub fn broken(self) -> AccountsError {
        AccountsError::Invalid { field: self.field, rule: self.rule }
    }
}

/// Keys of one account, by its management key `by`. Changes are durable on return: a call may take as long
/// as one `fsync`.
pub trait Accounts: Send + Sync + 'static {
    /// Makes an inference key.
    fn create_key(
        &self,
        by: &KeyHash,
        draft: KeyDraft,
        now: UnixMs,
    ) -> Result<(KeyRecord, KeySecret), AccountsError>;
    /// Lists inference keys.
    fn list_keys(&self, by: &KeyHash, page: KeyPage, now: UnixMs) -> Result<Vec<KeyRecord>, AccountsError>;
    /// One key.
    fn get_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<KeyRecord, AccountsError>;
    /// Changes a key.
    fn update_key(
        &self,
        by: &KeyHash,
        hash: &KeyHash,
        patch: KeyPatch,
        now: UnixMs,
    ) -> Result<KeyRecord, AccountsError>;
    /// Ends a key for good. What it holds may still be settled.
    fn delete_key(&self, by: &KeyHash, hash: &KeyHash, now: UnixMs) -> Result<(), AccountsError>;
}

fn check_name(name: &str) -> Result<(), AccountsError> {
    if name.is_empty() || name.len() > KEY_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(NAME_RULE.broken());
    }
    Ok(())
}

fn check_expires(expires: Option<UnixMs>, now: UnixMs) -> Result<(), AccountsError> {
    if expires.is_some_and(|expires| expires <= now || expires >= EXPIRES_MAX) {
        return Err(EXPIRES_RULE.broken());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::parse_iso(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn windows_begin_at_midnight_on_monday_and_on_the_first() {
        let now = at("2026-12-31T23:59:59.999Z");
        let check = |reset: LimitReset, start: &str, end: &str| {
            assert_eq!((reset.window_start(now), reset.window_end(now)), (at(start), at(end)), "{reset:?}");
        };
        check(LimitReset::Daily, "2026-12-31", "2027-01-01");
        check(LimitReset::Weekly, "2026-12-28", "2027-01-04");
        check(LimitReset::Monthly, "2026-12-01", "2027-01-01");
        assert_eq!(LimitReset::Never.window_start(now), UnixMs(0));
        assert_eq!(LimitReset::Never.window_end(now), UnixMs(u64::MAX));
        assert_eq!(LimitReset::Monthly.window_end(at("2026-02-01")), at("2026-03-01"));
        for reset in LimitReset::ALL {
            assert_eq!(LimitReset::parse(reset.as_str()), Some(reset));
        }
    }

    #[test]
    fn drafts_and_patches_are_checked() {
        let named = |name: &str| KeyDraft { name: name.to_owned(), ..KeyDraft::default() }.check(UnixMs(5));
        let longest = "x".repeat(KEY_NAME_BYTES_MAX);
        assert_eq!(named(&longest), Ok(()));
        for name in ["", "a\nb", &format!("{longest}x")] {
            let error = named(name).unwrap_err().to_string();
            assert_eq!(error, "`name` needs 1 to 128 bytes, no control characters");
        }
        let expiring = |ms| KeyPatch { expires: Change::Set(Some(UnixMs(ms))), ..KeyPatch::default() };
        assert_eq!(expiring(6).check(UnixMs(5)), Ok(()));
        assert!(expiring(5).check(UnixMs(5)).is_err() && expiring(u64::MAX).check(UnixMs(5)).is_err());
        assert_eq!(KeyPatch::default().check(UnixMs(5)), Ok(()));
        assert_eq!(format!("{:?}", KeySecret("sk-bourse-1".to_owned())), "KeySecret(..)");
    }

    proptest! {
        #[test]
        fn a_window_holds_now_and_ends_where_the_next_begins(ms in 0u64..9_000_000_000_000) {
            let now = UnixMs(ms);
            for reset in [LimitReset::Daily, LimitReset::Weekly, LimitReset::Monthly] {
                let (start, end) = (reset.window_start(now), reset.window_end(now));
                prop_assert!(start <= now && now < end);
                prop_assert_eq!(reset.window_start(end), end);
                prop_assert_eq!(reset.window_start(UnixMs(end.0 - 1)), start);
            }
        }
    }
}

//! The operator's requests, as values: the same over HTTP to a live market and by call to a stopped one.
//!
//! Changes are durable when the reply is given. A key's secret is in the reply that creates it and
//! nowhere else; its `Debug` shows nothing. A live market answers through [`Exchange::admin`]; for a
//! stopped one, open the data directory, ask, close.

use crate::accounts::Asked;
use crate::books::{AccountLine, STATEMENT_LINES_MAX, StatementLine, balances_of, statement_of};
use crate::core::Core;
use crate::epoch::{EpochError, EpochLine};
use crate::exchange::Exchange;
use crate::keys::{Key, LABEL_BYTES_MAX};
use crate::names::{ACCOUNT_NAME_BYTES_MAX, OPENED_LATER, OPERATOR_NAME};
use crate::open::OpenError;
use crate::payouts::{OwedLine, PayoutLine};
use crate::postings::Period;
use crate::suspense::{CaseLine, Party};
use bourse_ledger::AccountKind;
use bourse_types::{AccountId, Fault, KeyHash, MoneyError, NanoUsd, RequestId, UnixMs};
use bourse_wire::funds::{
    AccountsError, Change, FundsError, KeyDraft, KeyPatch, KeyRole, LimitReset, LimitsPatch, PolicyError,
    PolicyText,
};
use serde::{Deserialize, Serialize};
use std::fmt;

mod credit;
mod keys;
mod limits;
mod payouts;
mod suspense;
use credit::{Source, operators_claim};
use keys::info;
pub use keys::{KeyInfo, NewKey};
pub use limits::{BudgetInfo, LimitsInfo, NewWorkspace, RateInfo, ScopeText, WorkspaceInfo};
pub use payouts::PayoutRefusal;

/// What an operator asks. Amounts are decimal dollars such as `12.5`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Makes a key.
    CreateKey(NewKey),
    /// All keys.
    ListKeys {},
    /// Ends a key. What it holds may still be settled.
    RevokeKey {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Sets or lifts a limit.
    LimitKey {
        /// Its id, the start of its id, or its label.
        key: String,
        /// The limit; none when absent.
        #[serde(default)]
        limit_usd: Option<String>,
        /// When the limit begins anew, as in [`NewKey::reset`]; as it was when absent.
        #[serde(default)]
        reset: Option<String>,
    },
    /// Switches a key off until it is enabled again.
    DisableKey {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Switches a key on again.
    EnableKey {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Sets or lifts the routing policy of a key.
    KeyPolicy {
        /// Its id, the start of its id, or its label.
        key: String,
        /// The text; none when absent.
        #[serde(default)]
        policy: Option<String>,
    },
    /// Sets or lifts the routing policy of an account.
    AccountPolicy {
        /// The customer account.
        account: String,
        /// The text; none when absent.
        #[serde(default)]
        policy: Option<String>,
    },
    /// Makes a workspace.
    CreateWorkspace(NewWorkspace),
    /// All workspaces.
    ListWorkspaces {},
    /// The limits of a key, a workspace or an organisation.
    Limits {
        /// Whose.
        of: ScopeText,
    },
    /// Sets or lifts the budget of one window of a workspace or an organisation.
    SetBudget {
        /// Whose.
        of: ScopeText,
        /// `daily`, `weekly` (from Monday), `monthly` or `lifetime`.
        interval: String,
        /// The limit; none when absent.
        #[serde(default)]
        limit_usd: Option<String>,
        /// Whether what the account's own sellers bill counts; as it was when absent.
        #[serde(default)]
        includes_byok: Option<bool>,
    },
    /// Sets or lifts rates: what is absent stays, 0 lifts.
    SetRates {
        /// Whose.
        of: ScopeText,
        /// Requests in any sixty seconds.
        #[serde(default)]
        requests_per_minute: Option<u64>,
        /// Tokens in any sixty seconds.
        #[serde(default)]
        tokens_per_minute: Option<u64>,
    },
    /// Posts credit from the subsidy account.
    Credit {
        /// The customer account.
        account: String,
        /// How much.
        amount_usd: String,
        /// The same credit under the same key is posted once a day; see [`NewKey::idempotency_key`].
        #[serde(default)]
        idempotency_key: Option<String>,
    },
    /// Money came in from outside: the account `escrow` holds it for this one.
    Deposit {
        /// The customer account, or `subsidy`, which then covers what was given away.
        account: String,
        /// How much.
        amount_usd: String,
        /// As for [`AdminRequest::Credit`].
        #[serde(default)]
        idempotency_key: Option<String>,
    },
    /// Payouts, and what is owed beside them.
    ListPayouts {},
    /// Plans and sends payouts now.
    RunPayouts {},
    /// Says of a payout of a rail that leaves it to people that it was paid.
    ConfirmPayout {
        /// Its id.
        payout: String,
        /// By which others find the payment.
        reference: String,
    },
    /// Says that a payout was not paid and will not be; one that was not sent yet is taken back so, too.
    FailPayout {
        /// Its id.
        payout: String,
        /// Why.
        reason: String,
    },
    /// Sets or lifts where a seller takes money.
    PayoutAddress {
        /// The seller's name.
        seller: String,
        /// The address; none when absent.
        #[serde(default)]
        address: Option<String>,
    },
    /// Ends the epoch now.
    CloseEpoch {},
    /// Shares of sellers that wait in suspense.
    ListSuspense {},
    /// Gives such a share to one of the two who may have it.
    ReleaseSuspense {
        /// The request.
        request: String,
        /// Whose it is.
        to: Party,
    },
    /// Balances of all accounts.
    Balances {},
    /// The last movements of an account.
    Statement {
        /// Its name.
        account: String,
        /// How many lines; see [`STATEMENT_LINES_MAX`].
        #[serde(default)]
        lines_max: Option<usize>,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum AdminReply {
    /// A key was made.
    KeyCreated {
        /// What is known of it.
        key: KeyInfo,
        /// The key itself, shown this once.
        secret: SecretText,
        /// Other live keys of the same label: only ids tell them apart.
        namesakes: usize,
    },
    /// A key was changed.
    Key {
        /// As it is now.
        key: KeyInfo,
    },
    /// A policy was set or lifted.
    Policy {
        /// Its id; none when it was lifted.
        id: Option<String>,
    },
    /// All keys, oldest first.
    Keys {
        /// The keys.
        keys: Vec<KeyInfo>,
    },
    /// A workspace was made.
    Workspace {
        /// As it is.
        workspace: WorkspaceInfo,
    },
    /// All workspaces.
    Workspaces {
        /// The workspaces.
        workspaces: Vec<WorkspaceInfo>,
    },
    /// Limits, as they are now.
    Limits {
        /// The limits.
        limits: LimitsInfo,
    },
    /// The epoch has ended, or nothing had happened since the last one.
    Epoch {
        /// The one that has just ended.
        closed: Option<EpochLine>,
    },
    /// Shares in suspense, oldest request first.
    Suspense {
        /// One line each.
        cases: Vec<CaseLine>,
    },
    /// A share left suspense, now or before.
    Released {
        /// The request.
        request: String,
        /// Whose it is.
        to: Party,
    },
    /// Payouts that are remembered, and what is owed beside them.
    Payouts {
        /// One line each, oldest first.
        payouts: Vec<PayoutLine>,
        /// One line for each seller that is owed something or has an address.
        owed: Vec<OwedLine>,
    },
    /// A payout as it is now.
    Payout {
        /// The payout.
        payout: PayoutLine,
    },
    /// Where a seller takes money now.
    PayoutAddress {
        /// The seller.
        seller: String,
        /// Its address, if any.
        address: Option<String>,
        /// Whether the books knew no such seller before: it was never owed anything.
        is_new: bool,
    },
    /// Balances of all accounts, in the order of opening.
    Balances {
        /// One line each.
        accounts: Vec<AccountLine>,
    },
    /// Movements of an account, oldest first.
    Statement {
        /// One line each.
        lines: Vec<StatementLine>,
    },
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// Why an operator's request was refused.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No key has this id or label.
    #[error("no key is called `{0}`; `bourse key list` shows them")]
    NoSuchKey(String),
    /// Several keys fit.
    #[error("{count} keys are called `{name}`; use the key's id")]
    AmbiguousKey {
        /// The name.
        name: String,
        /// How many fit.
        count: usize,
    },
    /// No account has this name.
    #[error("no account is called `{0}`; `bourse ledger balance` shows them")]
    NoSuchAccount(String),
    /// Only customers can be given credit and keys.
    #[error("`{0}` is not a customer account")]
    NotACustomer(String),
    /// A name is empty, too long, or has characters that names do not have.
    #[error("`{field}` needs 1 to {bytes_max} bytes, no control characters{extra}")]
    Name {
        /// Which field.
        field: &'static str,
        /// Its bound.
        bytes_max: usize,
        /// Another rule.
        extra: &'static str,
    },
    /// An amount cannot be read.
    #[error("`{field}`: {source}")]
    Amount {
        /// Which field.
        field: &'static str,
        /// Why.
        source: MoneyError,
    },
    /// A key was made under that idempotency key.
    #[error(
        "a key was made before under this idempotency key and cannot be shown again; `bourse key list` shows which"
    )]
    KeyMadeBefore,
    /// A word that is no reset.
    #[error("`reset` is `{0}`; it can be none, daily, weekly or monthly")]
    Reset(String),
    /// A word that is no interval.
    #[error("`interval` is `{0}`; it can be daily, weekly, monthly or lifetime")]
    Interval(String),
    /// A field of a key has a value that it cannot have.
    #[error(transparent)]
    Key(#[from] AccountsError),
    /// A text that is no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No share of this request was ever in suspense.
    #[error("no share of `{0}` is in suspense; `bourse ledger suspense list` shows what is")]
    NotSuspended(String),
    /// Its share was given to the other one.
    #[error("the share of {request} was given to the {to} before")]
    Resolved {
        /// The request.
        request: String,
        /// Who has it.
        to: &'static str,
    },
    /// Something about payouts.
    #[error(transparent)]
    Payout(#[from] PayoutRefusal),
    /// The exchange refused.
    #[error(transparent)]
    Funds(#[from] FundsError),
    /// The epoch did not end.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] OpenError),
}

impl AdminError {
    /// At whose door the failure lies; the one who asks counts as the buyer.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Funds(error) => error.fault(),
            Self::Key(error) => error.fault(),
            Self::Read(_) | Self::Epoch(_) | Self::Payout(PayoutRefusal::Run(_)) => Fault::Bourse,
            _ => Fault::Buyer,
        }
    }
}

impl Exchange {
    /// Answers an operator. Changes are durable on return.
    pub fn admin(&self, request: AdminRequest, now: UnixMs) -> Result<AdminReply, AdminError> {
        match request {
            AdminRequest::CreateKey(asked) => self.new_key(&asked, now),
            AdminRequest::ListKeys {} => {
                let core = self.shared.core.lock();
                let keys = core.keys.sorted().into_iter().map(|key| info(&core, key, now)).collect();
                Ok(AdminReply::Keys { keys })
            }
            AdminRequest::RevokeKey { key } => {
                let hash = self.find_key(&key)?;
                self.shared.change(|core| core.revoke_key(&hash, now))?;
                Ok(AdminReply::Key { key: self.changed_key(&hash, now)? })
            }
            AdminRequest::LimitKey { key, limit_usd, reset } => {
                let limit = Change::Set(parse_limit(limit_usd.as_deref())?);
                let limit_reset = match reset {
                    Some(reset) => Change::Set(parse_reset(&reset)?),
                    None => Change::Keep,
                };
                self.patch_key(&key, KeyPatch { limit, limit_reset, ..KeyPatch::default() }, now)
            }
            AdminRequest::DisableKey { key } => self.switch_key(&key, Change::Set(true), now),
            AdminRequest::EnableKey { key } => self.switch_key(&key, Change::Set(false), now),
            AdminRequest::KeyPolicy { key, policy } => {
                let policy = policy.as_deref().map(PolicyText::of_owner).transpose()?;
                let id = policy.as_ref().map(|policy| policy.id().to_string());
                self.patch_key(&key, KeyPatch { policy: Change::Set(policy), ..KeyPatch::default() }, now)?;
                Ok(AdminReply::Policy { id })
            }
            AdminRequest::AccountPolicy { account, policy } => {
                self.account_policy(&account, policy.as_deref())
            }
            AdminRequest::CreateWorkspace(asked) => self.new_workspace(&asked, now),
            AdminRequest::ListWorkspaces {} => Ok(self.all_workspaces()),
            AdminRequest::Limits { of } => self.show_limits(&of, now),
            AdminRequest::SetBudget { of, interval, limit_usd, includes_byok } => {
                self.budget(&of, (&interval, limit_usd.as_deref()), includes_byok, now)
            }
            AdminRequest::SetRates { of, requests_per_minute, tokens_per_minute } => {
                let [requests, tokens] = [requests_per_minute, tokens_per_minute].map(rate);
                self.limit(&of, &LimitsPatch::Rates { requests, tokens }, now)
            }
            AdminRequest::Credit { account, amount_usd, idempotency_key } => {
                self.credit(Source::Subsidy, &account, &amount_usd, idempotency_key.as_deref(), now)
            }
            AdminRequest::Deposit { account, amount_usd, idempotency_key } => {
                self.credit(Source::Outside, &account, &amount_usd, idempotency_key.as_deref(), now)
            }
            AdminRequest::ListPayouts {} => Ok(self.list_payouts()),
            AdminRequest::RunPayouts {} => self.pay_now(now),
            AdminRequest::ConfirmPayout { payout, reference } => {
                self.confirm_payout(&payout, &reference, now)
            }
            AdminRequest::FailPayout { payout, reason } => self.fail_payout(&payout, &reason, now),
            AdminRequest::PayoutAddress { seller, address } => {
                self.payout_address(&seller, address.as_deref(), now)
            }
            AdminRequest::CloseEpoch {} => {
                let closed = self.close_epoch(now)?;
                Ok(AdminReply::Epoch { closed: closed.map(|signed| EpochLine::from(&signed.epoch)) })
            }
            AdminRequest::ListSuspense {} => Ok(self.list_suspense()),
            AdminRequest::ReleaseSuspense { request, to } => self.release_suspense(&request, to, now),
            AdminRequest::Balances {} => Ok(self.balances()),
            AdminRequest::Statement { account, lines_max } => {
                self.statement(account, lines_max.unwrap_or(STATEMENT_LINES_MAX))
            }
        }
    }

    fn statement(&self, account: String, lines_max: usize) -> Result<AdminReply, AdminError> {
        self.flush()?;
        let index = self.shared.index.lock();
        let lines = index.with_journal(|j| statement_of(j, &account, Period::EVER, lines_max))?;
        Ok(AdminReply::Statement { lines: lines.ok_or(AdminError::NoSuchAccount(account))? })
    }

    fn account_policy(&self, account: &str, policy: Option<&str>) -> Result<AdminReply, AdminError> {
        let policy = policy.map(PolicyText::of_owner).transpose()?;
        let id = self.shared.change(|core| {
            let account = customer(core, account)?;
            core.set_account_policy(account, policy).map_err(AdminError::from)
        })?;
        self.flush()?;
        Ok(AdminReply::Policy { id: id.map(|id| id.to_string()) })
    }

    fn new_key(&self, asked: &NewKey, now: UnixMs) -> Result<AdminReply, AdminError> {
        let account = asked.account.as_deref().unwrap_or(OPERATOR_NAME);
        check_name("label", &asked.label, LABEL_BYTES_MAX)?;
        let draft = KeyDraft {
            name: asked.label.clone(),
            limit: parse_limit(asked.limit_usd.as_deref())?,
            limit_reset: asked.reset.as_deref().map_or(Ok(LimitReset::Never), parse_reset)?,
            includes_byok_in_limit: asked.includes_byok_in_limit,
            expires: asked.expires_ms.map(UnixMs),
            policy: None,
            claim: None,
            workspace: asked.workspace.clone(),
        };
        draft.check(now)?;
        let claim = match asked.idempotency_key.as_deref() {
            Some(key) => {
                let (content, first) = (format!("{asked:?}"), self.house_transfer(now)?);
                Some(operators_claim("create key", key, content.as_bytes(), RequestId(first.0))?)
            }
            None => None,
        };
        let draft = KeyDraft { claim, ..draft };
        let role = if asked.management { KeyRole::Management } else { KeyRole::Inference };
        let asked_key = Asked { role, creator: None, draft };
        let made = self.make_key(asked_key, now, |core| payer(core, account, now));
        let (hash, secret) = match made {
            Err(
                AdminError::Funds(FundsError::ClaimPaid(_))
                | AdminError::Key(AccountsError::Funds(FundsError::ClaimPaid(_))),
            ) => return Err(AdminError::KeyMadeBefore),
            made => made?,
        };
        let key = self.changed_key(&hash, now)?;
        let core = self.shared.core.lock();
        let same = |key: &&Key| key.row.label == asked.label && key.row.revoked.is_none();
        let namesakes = core.keys.sorted().into_iter().filter(same).count().saturating_sub(1);
        Ok(AdminReply::KeyCreated { key, secret: SecretText(secret.0), namesakes })
    }

    fn patch_key(&self, key: &str, patch: KeyPatch, now: UnixMs) -> Result<AdminReply, AdminError> {
        let (hash, id) = (self.find_key(key)?, self.house_transfer(now)?);
        self.shared.change(|core| core.update_key(&hash, patch, id, now))?;
        Ok(AdminReply::Key { key: self.changed_key(&hash, now)? })
    }

    fn switch_key(&self, key: &str, disabled: Change<bool>, now: UnixMs) -> Result<AdminReply, AdminError> {
        self.patch_key(key, KeyPatch { disabled, ..KeyPatch::default() }, now)
    }

    fn balances(&self) -> AdminReply {
        AdminReply::Balances { accounts: balances_of(&self.shared.core.lock()) }
    }

    fn find_key(&self, text: &str) -> Result<KeyHash, AdminError> {
        key_named(&self.shared.core.lock(), text)
    }

    /// A key as it is on disk.
    fn changed_key(&self, hash: &KeyHash, now: UnixMs) -> Result<KeyInfo, AdminError> {
        self.flush()?;
        let core = self.shared.core.lock();
        Ok(info(&core, core.keys.get(hash).ok_or(FundsError::UnknownKey)?, now))
    }
}

fn key_named(core: &Core, text: &str) -> Result<KeyHash, AdminError> {
    match core.keys.named(text).as_slice() {
        [hash] => Ok(*hash),
        [] => Err(AdminError::NoSuchKey(text.to_owned())),
        several => Err(AdminError::AmbiguousKey { name: text.to_owned(), count: several.len() }),
    }
}

/// Zero lifts a rate: nobody is let in under one of none.
fn rate(asked: Option<u64>) -> Change<Option<u64>> {
    asked.map_or(Change::Keep, |limit| Change::Set((limit > 0).then_some(limit)))
}

/// A customer account, opened when there is none of this name.
fn payer(core: &mut Core, name: &str, now: UnixMs) -> Result<AccountId, AdminError> {
    if core.names.account(name).is_some() {
        return customer(core, name);
    }
    check_name("account", name, ACCOUNT_NAME_BYTES_MAX)?;
    if OPENED_LATER.contains(&name) {
        // The house opens it when it first needs it.
        return Err(AdminError::NotACustomer(name.to_owned()));
    }
    if name.contains(':') {
        let extra = ", and no `:` for a customer";
        return Err(AdminError::Name { field: "account", bytes_max: ACCOUNT_NAME_BYTES_MAX, extra });
    }
    Ok(core.customer(name, now)?)
}

fn customer(core: &Core, name: &str) -> Result<AccountId, AdminError> {
    let account = core.names.account(name).ok_or_else(|| AdminError::NoSuchAccount(name.to_owned()))?;
    match core.state.account(account) {
        Some((found, _)) if found.kind == AccountKind::Customer => Ok(account),
        _ => Err(AdminError::NotACustomer(name.to_owned())),
    }
}

fn check_name(field: &'static str, text: &str, bytes_max: usize) -> Result<(), AdminError> {
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        return Err(AdminError::Name { field, bytes_max, extra: "" });
    }
    Ok(())
}

fn parse_limit(text: Option<&str>) -> Result<Option<NanoUsd>, AdminError> {
    text.map(|text| parse_amount("limit_usd", text)).transpose()
}

fn parse_reset(text: &str) -> Result<LimitReset, AdminError> {
    LimitReset::parse(text).ok_or_else(|| AdminError::Reset(text.chars().take(64).collect()))
}

fn parse_amount(field: &'static str, text: &str) -> Result<NanoUsd, AdminError> {
    NanoUsd::parse_usd(text).map_err(|source| AdminError::Amount { field, source })
}

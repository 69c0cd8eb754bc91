//! The operator's requests, as values: the same over HTTP to a live market and by call to a stopped one.
//!
//! Changes are durable when the reply is given. A key's secret is in the reply that creates it and
//! nowhere else; its `Debug` shows nothing. A live market answers through [`Exchange::admin`]; for a
//! stopped one, open the data directory, ask, close.

use crate::books::{AccountLine, STATEMENT_LINES_MAX, StatementLine, balances_of, statement_of, usd};
use crate::core::{Core, KeyCreation};
use crate::data_dir::DataDirError;
use crate::exchange::Exchange;
use crate::keys::{Key, LABEL_BYTES_MAX, hash_key, key_text};
use crate::names::{ACCOUNT_NAME_BYTES_MAX, OPERATOR_NAME};
use crate::open::OpenError;
use bourse_ledger::AccountKind;
use bourse_types::{AccountId, Fault, KeyHash, MoneyError, NanoUsd, UnixMs};
use bourse_wire::funds::FundsError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What an operator asks. Amounts are decimal dollars such as `12.5`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminRequest {
    /// Makes a key.
    CreateKey {
        /// What to call it.
        label: String,
        /// The customer account that pays, opened when there is none; the operator's when absent.
        #[serde(default)]
        account: Option<String>,
        /// Lifetime limit; none when absent.
        #[serde(default)]
        limit_usd: Option<String>,
    },
    /// All keys.
    ListKeys {},
    /// Ends a key. What it holds may still be settled.
    RevokeKey {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Sets or lifts a lifetime limit.
    LimitKey {
        /// Its id, the start of its id, or its label.
        key: String,
        /// The limit; none when absent.
        #[serde(default)]
        limit_usd: Option<String>,
    },
    /// Posts credit from the subsidy account.
    Credit {
        /// The customer account.
        account: String,
        /// How much.
        amount_usd: String,
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
    },
    /// A key was changed.
    Key {
        /// As it is now.
        key: KeyInfo,
    },
    /// All keys, oldest first.
    Keys {
        /// The keys.
        keys: Vec<KeyInfo>,
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

/// What may be shown of a key. Amounts are decimal dollars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// `key_` and the start of its hash.
    pub id: String,
    /// What the operator called it.
    pub label: String,
    /// The account that pays.
    pub account: String,
    /// Lifetime limit.
    pub limit_usd: Option<String>,
    /// Settled spend.
    pub used_usd: String,
    /// When it was made, in Unix milliseconds.
    pub created_ms: u64,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
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
    /// The exchange refused.
    #[error(transparent)]
    Funds(#[from] FundsError),
    /// The system gave no randomness.
    #[error(transparent)]
    Random(#[from] DataDirError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] OpenError),
}

impl AdminError {
    /// At whose door the failure lies; the one who asks counts as the buyer.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Funds(error) => error.fault(),
            Self::Random(_) | Self::Read(_) => Fault::Bourse,
            _ => Fault::Buyer,
        }
    }
}

impl Exchange {
    /// Answers an operator. Changes are durable on return.
    pub fn admin(&self, request: AdminRequest, now: UnixMs) -> Result<AdminReply, AdminError> {
        match request {
            AdminRequest::CreateKey { label, account, limit_usd } => {
                self.create_key(label, account.as_deref().unwrap_or(OPERATOR_NAME), limit_usd.as_deref(), now)
            }
            AdminRequest::ListKeys {} => {
                let core = self.shared.core.lock();
                Ok(AdminReply::Keys {
                    keys: core.keys.sorted().into_iter().map(|key| info(&core, key)).collect(),
                })
            }
            AdminRequest::RevokeKey { key } => {
                let hash = self.find_key(&key)?;
                self.shared.change(|core| core.revoke_key(&hash, now))?;
                self.changed_key(&hash)
            }
            AdminRequest::LimitKey { key, limit_usd } => {
                let limit = parse_limit(limit_usd.as_deref())?;
                let (hash, id) = (self.find_key(&key)?, self.shared.house_transfer(now)?);
                self.shared.change(|core| core.limit_key(&hash, limit, id, now))?;
                self.changed_key(&hash)
            }
            AdminRequest::Credit { account, amount_usd } => self.credit(&account, &amount_usd, now),
            AdminRequest::Balances {} => Ok(self.balances()),
            AdminRequest::Statement { account, lines_max } => {
                self.flush()?;
                let lines_max = lines_max.unwrap_or(STATEMENT_LINES_MAX);
                let lines =
                    self.shared.index.lock().with_journal(|j| statement_of(j, &account, lines_max))?;
                Ok(AdminReply::Statement { lines: lines.ok_or(AdminError::NoSuchAccount(account))? })
            }
        }
    }

    fn create_key(
        &self,
        label: String,
        account: &str,
        limit_usd: Option<&str>,
        now: UnixMs,
    ) -> Result<AdminReply, AdminError> {
        check_name("label", &label, LABEL_BYTES_MAX)?;
        check_name("account", account, ACCOUNT_NAME_BYTES_MAX)?;
        if account.contains(':') && self.shared.core.lock().names.account(account).is_none() {
            let extra = ", and no `:` for a customer";
            return Err(AdminError::Name { field: "account", bytes_max: ACCOUNT_NAME_BYTES_MAX, extra });
        }
        let limit = parse_limit(limit_usd)?;
        let (random, id) = (self.shared.draw()?, self.shared.house_transfer(now)?);
        let secret = key_text(&random);
        let hash = hash_key(&secret);
        self.shared.change(|core| {
            let account = match core.names.account(account) {
                Some(_) => customer(core, account)?,
                None => core.customer(account, now)?,
            };
            core.create_key(KeyCreation { hash, account, limit, label }, id, now)?;
            Ok::<_, AdminError>(())
        })?;
        match self.changed_key(&hash)? {
            AdminReply::Key { key } => Ok(AdminReply::KeyCreated { key, secret: SecretText(secret) }),
            other => Ok(other),
        }
    }

    fn credit(&self, account: &str, amount_usd: &str, now: UnixMs) -> Result<AdminReply, AdminError> {
        let amount = parse_amount("amount_usd", amount_usd)?;
        let id = self.shared.house_transfer(now)?;
        self.shared.change(|core| {
            let account = customer(core, account)?;
            core.grant_credit(account, amount, id, now).map_err(AdminError::from)
        })?;
        self.flush()?;
        Ok(self.balances())
    }

    fn balances(&self) -> AdminReply {
        AdminReply::Balances { accounts: balances_of(&self.shared.core.lock()) }
    }

    fn find_key(&self, text: &str) -> Result<KeyHash, AdminError> {
        let found = self.shared.core.lock().keys.named(text);
        match found.as_slice() {
            [hash] => Ok(*hash),
            [] => Err(AdminError::NoSuchKey(text.to_owned())),
            several => Err(AdminError::AmbiguousKey { name: text.to_owned(), count: several.len() }),
        }
    }

    fn changed_key(&self, hash: &KeyHash) -> Result<AdminReply, AdminError> {
        self.flush()?;
        let core = self.shared.core.lock();
        let key = core.keys.get(hash).ok_or(FundsError::UnknownKey)?;
        Ok(AdminReply::Key { key: info(&core, key) })
    }
}

fn customer(core: &Core, name: &str) -> Result<AccountId, AdminError> {
    let account = core.names.account(name).ok_or_else(|| AdminError::NoSuchAccount(name.to_owned()))?;
    match core.state.account(account) {
        Some((found, _)) if found.kind == AccountKind::Customer => Ok(account),
        _ => Err(AdminError::NotACustomer(name.to_owned())),
    }
}

fn info(core: &Core, key: &Key) -> KeyInfo {
    KeyInfo {
        id: key.row.id(),
        label: key.row.label.clone(),
        account: core.names.name(key.row.account),
        limit_usd: key.row.limit.map(NanoUsd::to_usd_string),
        used_usd: usd(crate::books::signed(key.used)),
        created_ms: key.row.created.0,
        revoked_ms: key.row.revoked.map(|time| time.0),
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

fn parse_amount(field: &'static str, text: &str) -> Result<NanoUsd, AdminError> {
    NanoUsd::parse_usd(text).map_err(|source| AdminError::Amount { field, source })
}

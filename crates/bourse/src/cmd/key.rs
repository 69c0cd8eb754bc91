//! `bourse key`: who may buy, and for how much. Works on a running market and on a stopped one.
//!
//! A key is shown once, when it is made, and alone on stdout, so that a script can keep it; the books know
//! its hash only.

use super::operator::{Operator, unasked};
use crate::config::Environment;
use crate::report::{Failure, Plain};
use bourse_exchange::{AdminReply, AdminRequest, KeyInfo, NewKey};
use bourse_types::UnixMs;
use bourse_wire::funds::POLICY_BYTES_MAX;
use clap::{Subcommand, ValueEnum};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    operator: Operator,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it, this once.
    Create {
        /// What to call it.
        #[arg(default_value = "unnamed")]
        label: String,
        /// Most that it may spend, in USD: ever, or in each window of `--reset`.
        #[arg(long, value_name = "USD")]
        limit: Option<String>,
        /// When the limit begins anew, at 00:00 UTC.
        #[arg(long, value_name = "WINDOW", requires = "limit")]
        reset: Option<Reset>,
        /// From when on it is refused: a day, or a time such as 2026-12-31T18:00:00Z.
        #[arg(long, value_name = "UTC", value_parser = instant)]
        expires: Option<UnixMs>,
        /// Count what the account's own sellers bill towards the limit.
        #[arg(long)]
        count_byok: bool,
        /// Make a key that administers the account's keys and buys nothing.
        #[arg(long)]
        management: bool,
        /// The account that pays, opened if need be [default: operator].
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        /// What the request is called: under the same one a key is made once a day.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        /// The workspace that it belongs to for good, by its id or its short name.
        #[arg(long, value_name = "WORKSPACE")]
        workspace: Option<String>,
    },
    /// List all keys.
    List,
    /// End a key.
    Revoke {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Set or lift the limit of a key.
    Limit {
        /// Its id, the start of its id, or its label.
        key: String,
        /// Most that it may spend, in USD; `none` lifts the limit.
        usd: String,
        /// When the limit begins anew, at 00:00 UTC [default: as it was].
        #[arg(long, value_name = "WINDOW")]
        reset: Option<Reset>,
    },
    /// Switch a key off until it is enabled again.
    Disable {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Switch a key on again.
    Enable {
        /// Its id, the start of its id, or its label.
        key: String,
    },
    /// Set or lift the routing policy of a key or of an account.
    Policy {
        /// The key's id, the start of its id, or its label; with `--account` the account's name.
        whose: String,
        /// A file with the policy, one JSON object; `none` lifts it.
        file: PathBuf,
        /// It is the policy of an account.
        #[arg(long)]
        account: bool,
    },
}

/// When a limit begins anew.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Reset {
    None,
    Daily,
    /// On Monday.
    Weekly,
    /// On the first.
    Monthly,
}

impl Reset {
    fn word(self) -> String {
        let word = match self {
            Self::None => "none",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        };
        word.to_owned()
    }
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    args.operator.ask(environment, request(&args.action)?, tell)
}

fn tell(reply: AdminReply) -> Result<(), Failure> {
    match reply {
        AdminReply::KeyCreated { key, secret, namesakes } => {
            super::tell_line(&secret.0)?;
            let does = if key.management { "administers the keys of" } else { "pays from" };
            eprintln!(
                "{} {does} `{}`{}; this is the only time the key is shown",
                key.id,
                key.account,
                limit(&key)
            );
            if namesakes > 0 {
                let others = if namesakes == 1 { "another is" } else { "others are" };
                eprintln!("hint: {others} called `{}`, too: name this one by its id", key.label);
            }
        }
        AdminReply::Policy { id } => super::tell_line(id.as_deref().unwrap_or("none"))?,
        AdminReply::Key { key } => super::tell_line(&line(&key).join("  "))?,
        AdminReply::Keys { keys } => super::tell(&table(&keys))?,
        _ => return Err(unasked()),
    }
    Ok(())
}

fn request(action: &Action) -> Result<AdminRequest, Failure> {
    Ok(match action {
        Action::Create {
            label,
            limit,
            reset,
            expires,
            count_byok,
            management,
            account,
            idempotency_key,
            workspace,
        } => AdminRequest::CreateKey(NewKey {
            label: label.clone(),
            account: account.clone(),
            limit_usd: limit.clone(),
            reset: reset.map(Reset::word),
            expires_ms: expires.map(|time| time.0),
            includes_byok_in_limit: *count_byok,
            management: *management,
            idempotency_key: idempotency_key.clone(),
            workspace: workspace.clone(),
        }),
        Action::List => AdminRequest::ListKeys {},
        Action::Revoke { key } => AdminRequest::RevokeKey { key: key.clone() },
        Action::Limit { key, usd, reset } => AdminRequest::LimitKey {
            key: key.clone(),
            limit_usd: (usd != "none").then(|| usd.clone()),
            reset: reset.map(Reset::word),
        },
        Action::Disable { key } => AdminRequest::DisableKey { key: key.clone() },
        Action::Enable { key } => AdminRequest::EnableKey { key: key.clone() },
        Action::Policy { whose, file, account: true } => {
            AdminRequest::AccountPolicy { account: whose.clone(), policy: policy(file)? }
        }
        Action::Policy { whose, file, account: false } => {
            AdminRequest::KeyPolicy { key: whose.clone(), policy: policy(file)? }
        }
    })
}

/// The text of a policy; none for `none`. One byte past the bound is read, for the exchange to refuse.
fn policy(file: &Path) -> Result<Option<String>, Failure> {
    if file == Path::new("none") {
        return Ok(None);
    }
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| Plain::new(format!("{} cannot be read", file.display())).because(error))?;
    Ok(Some(text))
}

fn instant(text: &str) -> Result<UnixMs, String> {
    UnixMs::parse_iso(text).ok_or_else(|| "not a day such as 2026-12-31 or a time in UTC".to_owned())
}

/// `$5`, `$5 daily`.
fn amount(usd: &str, reset: &str) -> String {
    let usd = super::dollars(usd);
    if reset == "none" { usd } else { format!("{usd} {reset}") }
}

fn limit(key: &KeyInfo) -> String {
    let usd = key.limit_usd.as_ref();
    usd.map_or_else(String::new, |usd| format!(", at most {}", amount(usd, &key.limit_reset)))
}

fn state(key: &KeyInfo) -> String {
    let state = match key {
        KeyInfo { revoked_ms: Some(_), .. } => "revoked",
        KeyInfo { disabled: true, .. } => "disabled",
        KeyInfo { management: true, .. } => "management",
        _ => "active",
    };
    match key.expires_ms {
        Some(ms) => format!("{state} until {}", super::utc(ms)),
        None => state.to_owned(),
    }
}

fn line(key: &KeyInfo) -> [String; 9] {
    let limit =
        key.limit_usd.as_deref().map_or_else(|| "none".to_owned(), |usd| amount(usd, &key.limit_reset));
    let used = [&key.window_used_usd, &key.used_usd].map(|usd| super::dollars(usd));
    let [in_window, used] = used;
    let (id, label, account) = (key.id.clone(), key.label.clone(), key.account.clone());
    let workspace = key.workspace.clone().unwrap_or_else(|| "none".to_owned());
    let in_flight = super::dollars(&key.in_flight_usd);
    [id, label, account, workspace, limit, in_window, used, in_flight, state(key)]
}

fn table(keys: &[KeyInfo]) -> String {
    let heads =
        ["ID", "LABEL", "ACCOUNT", "WORKSPACE", "LIMIT", "USED OF LIMIT", "USED", "IN FLIGHT", "STATE"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(keys.iter().map(line));
    super::columns(&rows)
}

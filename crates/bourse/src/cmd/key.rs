//! `bourse key`: who may buy, and for how much. Works on a running market and on a stopped one.
//!
//! A key is shown once, when it is made, and alone on stdout, so that a script can keep it; the books know
//! its hash only.

use crate::admin;
use crate::cli::Place;
use crate::config::Environment;
use crate::report::{Failure, Plain};
use bourse_exchange::{AdminReply, AdminRequest, KeyInfo};
use clap::Subcommand;
use std::process::ExitCode;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
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
        /// Most that it may ever spend, in USD.
        #[arg(long, value_name = "USD")]
        limit: Option<String>,
        /// The account that pays, opened if need be [default: operator].
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
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
        /// Most that it may ever spend, in USD; `none` lifts the limit.
        usd: String,
    },
}

/// Asks and prints.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let data_dir = args.place.locate(environment)?;
    let request = match &args.action {
        Action::Create { label, limit, account } => AdminRequest::CreateKey {
            label: label.clone(),
            account: account.clone(),
            limit_usd: limit.clone(),
        },
        Action::List => AdminRequest::ListKeys {},
        Action::Revoke { key } => AdminRequest::RevokeKey { key: key.clone() },
        Action::Limit { key, usd } => {
            AdminRequest::LimitKey { key: key.clone(), limit_usd: (usd != "none").then(|| usd.clone()) }
        }
    };
    let reply = admin::ask(&data_dir, environment, request)?;
    if args.json {
        super::tell_line(&super::json(&reply)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    match reply {
        AdminReply::KeyCreated { key, secret } => {
            super::tell_line(&secret.0)?;
            eprintln!(
                "{} pays from `{}`{}; this is the only time the key is shown",
                key.id,
                key.account,
                limit(&key)
            );
        }
        AdminReply::Key { key } => super::tell_line(&line(&key).join("  "))?,
        AdminReply::Keys { keys } => super::tell(&table(&keys))?,
        _ => return Err(Plain::new("the market answered another question").boxed()),
    }
    Ok(ExitCode::SUCCESS)
}

fn limit(key: &KeyInfo) -> String {
    key.limit_usd.as_ref().map_or_else(String::new, |usd| format!(", at most {}", super::dollars(usd)))
}

fn line(key: &KeyInfo) -> [String; 6] {
    let limit = key.limit_usd.as_deref().map_or_else(|| "none".to_owned(), super::dollars);
    let state = if key.revoked_ms.is_some() { "revoked" } else { "active" };
    let (id, label, account) = (key.id.clone(), key.label.clone(), key.account.clone());
    [id, label, account, limit, super::dollars(&key.used_usd), state.to_owned()]
}

fn table(keys: &[KeyInfo]) -> String {
    let mut rows = vec![["ID", "LABEL", "ACCOUNT", "LIMIT", "USED", "STATE"].map(str::to_owned)];
    rows.extend(keys.iter().map(line));
    super::columns(&rows)
}

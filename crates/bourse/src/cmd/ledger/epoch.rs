//! `bourse ledger close` and `bourse ledger prove`: what the market owes, signed, and the proof for one account.
//!
//! The operator gives the document to the account's owner, who checks it with `bourse verify`. It names neither
//! the account nor any other.

use crate::cmd::operator::unasked;
use crate::config::Environment;
use crate::data_dir::DataDir;
use crate::report::{Failure, Plain};
use crate::{admin, cmd};
use bourse_exchange::{AdminReply, AdminRequest, EpochLine, ProveError};
use bourse_wire::liability_json::liability_proof_to_json;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;

/// What programs read: whether an epoch ended, and its head if so.
#[derive(Serialize)]
struct Closed {
    closed: bool,
    #[serde(flatten)]
    epoch: Option<EpochLine>,
}

/// Ends the epoch and prints its head.
pub(super) fn close(json: bool, data_dir: &DataDir, environment: &Environment) -> Result<ExitCode, Failure> {
    let AdminReply::Epoch { closed } = admin::ask(data_dir, environment, AdminRequest::CloseEpoch {})? else {
        return Err(unasked());
    };
    match closed {
        epoch if json => cmd::tell_line(&cmd::json(&Closed { closed: epoch.is_some(), epoch })?)?,
        Some(epoch) => cmd::tell(&head(&epoch))?,
        None => cmd::tell_line("nothing has happened since the last epoch")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn head(epoch: &EpochLine) -> String {
    format!(
        "epoch {} ended at {} UTC\n  {} nano-USD owed to {} accounts\n  root {}\n",
        epoch.number,
        cmd::utc(epoch.closed_at_ms),
        epoch.total_nano_usd,
        epoch.count,
        epoch.root
    )
}

/// Writes the proof of one account.
pub(super) fn prove(
    data_dir: &DataDir,
    account: &str,
    epoch: Option<u64>,
    out: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let proof = bourse_exchange::prove(data_dir.root(), account, epoch).map_err(|error| match error {
        ProveError::Open(error) => admin::cannot_open(data_dir, error),
        ProveError::NoEpoch => Plain::new("no epoch has ended yet")
            .hint("a running market ends one each minute; `bourse ledger close` ends one now"),
        error @ ProveError::NotOwed { .. } => Plain::new(error.to_string())
            .hint("customers and sellers have proofs; `bourse ledger balance` shows all accounts"),
        error => Plain::new(error.to_string()),
    })?;
    let text = liability_proof_to_json(&proof);
    let Some(path) = out else {
        cmd::tell_line(&text)?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::write(path, format!("{text}\n"))
        .map_err(|error| Plain::new(format!("cannot write {}", path.display())).because(error).boxed())?;
    eprintln!("kept as {}; check it with: bourse verify {}", path.display(), path.display());
    Ok(ExitCode::SUCCESS)
}

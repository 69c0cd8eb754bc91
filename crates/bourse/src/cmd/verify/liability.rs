//! `bourse verify` of a liability proof: check by check, and in plain words what follows and what does not.

use super::{checks_json, lines};
use crate::cmd;
use crate::report::{Failure, Plain};
use bourse_proof::liabilities::{ProofPolicy, verify_liability_proof};
use bourse_proof::receipt::Check;
use bourse_wire::liability::LiabilityProof;
use bourse_wire::liability_json::liability_proof_from_json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// What a proof cannot show, however good it is.
const NOT_PROVED: [&str; 3] = [
    "that the market has the money: the total is what it owes, not what it owns",
    "that others are counted: each account must check its own leaf",
    "that all were shown the same root: compare number and root of the epoch with other accounts",
];

/// Checks and prints.
pub(super) fn run(path: &Path, bytes: &[u8], policy: &ProofPolicy, json: bool) -> Result<ExitCode, Failure> {
    let proof = liability_proof_from_json(bytes).map_err(|error| {
        Plain::new(format!("{} is not a liability proof", path.display()))
            .because(error)
            .hint("`bourse ledger prove` writes one; it must not be edited")
    })?;
    let verdict = verify_liability_proof(&proof, policy);
    let holds = verdict.holds();
    if json {
        let document = serde_json::json!({
            "epoch": proof.signed.epoch.number,
            "amount_nano_usd": proof.leaf.amount_nano_usd.to_string(),
            "holds": holds,
            "checks": checks_json(&verdict.checks),
            "not_proved": NOT_PROVED,
        });
        cmd::tell_line(&document.to_string())?;
    } else {
        cmd::tell(&text(&proof, &verdict.checks, holds))?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(proof: &LiabilityProof, checks: &[Check], holds: bool) -> String {
    let epoch = &proof.signed.epoch;
    let mut text = format!(
        "epoch {}, ended {}: {} nano-USD owed to account {}\n",
        epoch.number,
        epoch.closed_at.to_iso_string(),
        proof.leaf.amount_nano_usd,
        proof.leaf.account_digest
    );
    text.push_str(&lines(checks));
    if !holds {
        text.push_str("the proof does NOT hold\n");
        return text;
    }
    let _ = writeln!(
        text,
        "the proof holds: the amount is a part of the {} nano-USD that the market signed to owe {} accounts\n\
         not proved:",
        epoch.total_nano_usd, epoch.count
    );
    for what in NOT_PROVED {
        let _ = writeln!(text, "  {what}");
    }
    text
}

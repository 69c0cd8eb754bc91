//! `bourse verify`: what a receipt or a liability proof shows, check by check, without asking anybody.
//!
//! The document says what it is. With `--log` the market is asked for one thing more: that its log, as it is
//! signed now, still contains the log that the receipt was proven in. A market that rewrote its past cannot
//! answer that.

use crate::client::Client;
use crate::report::{Failure, Plain};
use crate::runtime;
use bourse_proof::liabilities::ProofPolicy;
use bourse_proof::merkle::verify_consistency;
use bourse_proof::receipt::{Check, Outcome, VerifyPolicy, verify_document};
use bourse_proof::sign::verify_checkpoint;
use bourse_types::Digest32;
use bourse_wire::liability_json::is_liability_proof;
use bourse_wire::receipt::{Checkpoint, ReceiptDocument};
use bourse_wire::receipt_json::{RECEIPT_JSON_BYTES_MAX, checkpoint_from_json, receipt_document_from_json};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod liability;

/// How often head and proof are asked for until they belong together: a busy log grows between two calls.
const TRIES_MAX: u32 = 32;
/// Most hashes of a consistency path that are read: two for each level of the largest tree.
const PATH_MAX: usize = 130;

/// What can be typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The receipt, as `bourse receipt` or `GET /v1/receipts/ID` gave it, or a proof of `bourse ledger prove`.
    file: PathBuf,
    /// The exchange's public key, when you know it from elsewhere.
    #[arg(long, value_name = "HEX")]
    exchange: Option<String>,
    /// The market's API, such as `http://127.0.0.1:8420/v1`: also check its log as it is now.
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// For a liability proof: your account, as `account_digest` in any of your receipts.
    #[arg(long, value_name = "HEX")]
    account: Option<String>,
    /// One JSON document instead of text.
    #[arg(long)]
    json: bool,
}

/// Checks and prints; fails when a check does.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let bytes = read(&args.file)?;
    let expected_exchange = digest(args.exchange.as_deref(), "--exchange is not a public key")?;
    let expected_account = digest(args.account.as_deref(), "--account is not the digest of an account")?;
    if is_liability_proof(&bytes) {
        if args.log.is_some() {
            return Err(Plain::new("--log is for receipts: a liability proof is in no log").boxed());
        }
        let policy = ProofPolicy { expected_exchange, expected_account };
        return liability::run(&args.file, &bytes, &policy, args.json);
    }
    if expected_account.is_some() {
        return Err(
            Plain::new("--account is for liability proofs: a receipt names its account itself").boxed()
        );
    }
    let document = receipt(&args.file, &bytes)?;
    let mut verdict = verify_document(&document, &VerifyPolicy { expected_exchange });
    if let Some(log) = &args.log {
        let client = Client::new(log, None)?;
        let check = runtime::small_reactor()?.block_on(still_in_log(&client, &document.checkpoint))?;
        verdict.checks.push(check);
    }
    let holds = verdict.holds();
    if args.json {
        super::tell_line(&json(&document, &verdict.checks, holds).to_string())?;
    } else {
        super::tell(&text(&document, &verdict.checks, holds))?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn digest(text: Option<&str>, otherwise: &'static str) -> Result<Option<Digest32>, Failure> {
    let parsed = text.map(Digest32::parse_hex).transpose();
    parsed.map_err(|error| Plain::new(otherwise).because(error).hint("it has 64 hex digits").boxed())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error| Plain::new(format!("cannot read {}", path.display())).because(error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(RECEIPT_JSON_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn receipt(path: &Path, bytes: &[u8]) -> Result<ReceiptDocument, Failure> {
    receipt_document_from_json(bytes).map_err(|error| {
        Plain::new(format!("{} is not a receipt", path.display()))
            .because(error)
            .hint("`bourse receipt ID` fetches one; it must not be edited")
            .boxed()
    })
}

/// Whether the log of now contains the log of `old`.
async fn still_in_log(client: &Client, old: &Checkpoint) -> Result<Check, Failure> {
    let mut last = String::new();
    for _ in 0..TRIES_MAX {
        let head = checkpoint_from_json(&client.get_bytes("/log/checkpoint").await?)
            .map_err(|error| Plain::new("the log's head cannot be read").because(error))?;
        match compare(client, old, &head).await? {
            Ok(words) => return Ok(check(Outcome::Passed, words)),
            // A head and a proof from two moments do not fit; a log that lies never does.
            Err(words) => last = words,
        }
    }
    Ok(check(Outcome::Failed, last))
}

fn check(outcome: Outcome, words: String) -> Check {
    Check { name: "log", outcome, words }
}

async fn compare(
    client: &Client,
    old: &Checkpoint,
    head: &Checkpoint,
) -> Result<Result<String, String>, Failure> {
    if head.exchange != old.exchange {
        return Ok(Err("the log is signed by another exchange than the receipt".to_owned()));
    }
    if let Err(error) = verify_checkpoint(head) {
        return Ok(Err(format!("the log's head is not signed: {error}")));
    }
    if head.size < old.size {
        return Ok(Err(format!("the log has {} receipts, fewer than the {} it had", head.size, old.size)));
    }
    let proof = client.get(&format!("/log/consistency?from={}", old.size)).await?;
    let path: Option<Vec<Digest32>> = proof["path"]
        .as_array()
        .filter(|path| path.len() <= PATH_MAX)
        .and_then(|path| path.iter().map(|hash| Digest32::parse_hex(hash.as_str()?).ok()).collect());
    let Some(path) = path else {
        return Ok(Err("the log's proof cannot be read".to_owned()));
    };
    Ok(match verify_consistency(old.size, &old.root, head.size, &head.root, &path) {
        Ok(()) => {
            Ok(format!("the log of now ({} receipts) contains the log of then ({})", head.size, old.size))
        }
        Err(error) => Err(format!("the log of now does not contain the log of then: {error}")),
    })
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    }
}

fn json(document: &ReceiptDocument, checks: &[Check], holds: bool) -> serde_json::Value {
    let checks = checks_json(checks);
    serde_json::json!({"receipt": document.receipt.request.to_string(), "holds": holds, "checks": checks})
}

fn checks_json(checks: &[Check]) -> Vec<serde_json::Value> {
    let one = |check: &Check| serde_json::json!({"name": check.name, "outcome": word(check.outcome), "words": check.words});
    checks.iter().map(one).collect()
}

/// A line for each check.
fn lines(checks: &[Check]) -> String {
    let line = |check: &Check| format!("  {:<7}  {:<21}  {}\n", word(check.outcome), check.name, check.words);
    checks.iter().map(line).collect()
}

fn text(document: &ReceiptDocument, checks: &[Check], holds: bool) -> String {
    let receipt = &document.receipt;
    let verdict = if holds { "the receipt holds" } else { "the receipt does NOT hold" };
    format!(
        "receipt {}: {} for {}\n{}{verdict}\n",
        receipt.request,
        receipt.charge.total,
        receipt.model,
        lines(checks)
    )
}

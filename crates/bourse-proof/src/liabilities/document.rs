//! The offline check of a liability proof: what a customer can know without asking anybody.
//!
//! Like receipts, check by check. The account's digest stands in each of the customer's receipts
//! (`account_digest`): a proof of somebody else's leaf would pass every other check, so a reader who does
//! not give it is told what to compare.

use super::verify_inclusion;
use crate::receipt::{Check, Outcome, Verdict, ensure, of};
use crate::sign::verify_epoch;
use bourse_types::Digest32;
use bourse_wire::liability::{LiabilityProof, SumNode};

/// What the reader knows beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProofPolicy {
    /// The exchange's public key, from a source that the reader trusts.
    pub expected_exchange: Option<Digest32>,
    /// The reader's own account, as in its receipts.
    pub expected_account: Option<Digest32>,
}

/// Checks a proof in every way that needs no network.
pub fn verify_liability_proof(proof: &LiabilityProof, policy: &ProofPolicy) -> Verdict {
    let (signed, leaf) = (&proof.signed, &proof.leaf);
    let epoch = &signed.epoch;
    let root = SumNode { hash: epoch.root, sum_nano_usd: epoch.total_nano_usd };
    let checks = vec![
        expected("exchange_key", "exchange key", signed.exchange, policy.expected_exchange),
        expected("account", "account", leaf.account_digest, policy.expected_account),
        of(
            "epoch_signature",
            verify_epoch(signed),
            "the exchange signed root, total and count of this epoch",
        ),
        of(
            "inclusion",
            verify_inclusion(leaf, proof.leaf_index, &proof.path, epoch.count, &root),
            "the amount is counted in the total, under the root",
        ),
    ];
    Verdict { checks }
}

fn expected(name: &'static str, what: &str, named: Digest32, wanted: Option<Digest32>) -> Check {
    match wanted {
        Some(wanted) => of(
            name,
            ensure(named == wanted, "the document is of another one than the expected one"),
            "the document names the expected one",
        ),
        None => Check {
            name,
            outcome: Outcome::Skipped,
            words: format!("no expected {what} was given; the document names {named}"),
        },
    }
}

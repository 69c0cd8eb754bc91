//! The offline check of a receipt: what a buyer, reseller or auditor can know without asking anybody.
//!
//! [`verify_document`] runs every check and says of each whether it held and in which words, so that a
//! failure names what was changed. A signature alone proves little; together the checks say: the exchange
//! wrote these exact bytes, into a log whose head it signed, about this request; the node that sold the
//! work swore to the same request, usage and model; and the money adds up. Without a key that the
//! reader trusts ([`VerifyPolicy::expected_exchange`]) the document only proves that it is consistent with
//! the key it names; that check is then [`Outcome::Skipped`].

use crate::merkle::{self, verify_inclusion};
use crate::sign::{verify, verify_checkpoint, verify_statement};
use bourse_types::{Charge, Digest32, NanoUsd, Usage};
use bourse_wire::receipt::{Finish, Receipt, ReceiptDocument};

/// How far the gateway's clock may run ahead of the exchange's, in milliseconds.
const CLOCK_TOLERANCE_MS: u64 = 300_000;

/// Hash of a receipt's leaf in the log.
pub fn leaf_hash(receipt: &Receipt) -> Digest32 {
    merkle::leaf_hash(&receipt.canonical_bytes())
}

/// What the reader knows beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyPolicy {
    /// The exchange's public key, from a source that the reader trusts.
    pub expected_exchange: Option<Digest32>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not.
    Failed,
    /// There was nothing to check it against.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable name, such as `inclusion`.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What that means, in words.
    pub words: String,
}

/// All checks of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In the order in which a reader cares.
    pub checks: Vec<Check>,
}

impl Verdict {
    /// Whether no check failed.
    pub fn holds(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.outcome == Outcome::Failed)
    }
}

/// Checks a document in every way that needs no network.
pub fn verify_document(document: &ReceiptDocument, policy: &VerifyPolicy) -> Verdict {
    let receipt = &document.receipt;
    let mut checks = vec![
        exchange_key(document, policy),
        exchange_signature(document),
        inclusion(document),
        of(
            "checkpoint_signature",
            verify_checkpoint(&document.checkpoint),
            "the exchange signed the log's head",
        ),
    ];
    checks.extend(node_checks(receipt));
    checks.extend([
        of(
            "charge_sum",
            charge_sum(receipt),
            "prompt, completion, request, units and rounding sum to the total",
        ),
        of("usage", usage(receipt), "billed usage is consistent and not above the claim"),
        recount(receipt),
        of("fee", fee(receipt), "the market's fee is part of the charge"),
        of("seller", seller(receipt), "who was paid is the last one asked"),
        of("times", times(document), "times are in order"),
    ]);
    Verdict { checks }
}

pub(crate) fn of<E: std::fmt::Display>(name: &'static str, result: Result<(), E>, held: &str) -> Check {
    match result {
        Ok(()) => Check { name, outcome: Outcome::Passed, words: held.to_owned() },
        Err(why) => Check { name, outcome: Outcome::Failed, words: why.to_string() },
    }
}

pub(crate) fn ensure(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

fn exchange_key(document: &ReceiptDocument, policy: &VerifyPolicy) -> Check {
    let named = document.checkpoint.exchange;
    match policy.expected_exchange {
        Some(expected) => of(
            "exchange_key",
            ensure(named == expected, "the document names another exchange key than the expected one"),
            "the document names the expected exchange key",
        ),
        None => Check {
            name: "exchange_key",
            outcome: Outcome::Skipped,
            words: format!("no expected key was given; the document names {named}"),
        },
    }
}

fn exchange_signature(document: &ReceiptDocument) -> Check {
    let bytes = document.receipt.canonical_bytes();
    let result = verify(&document.checkpoint.exchange.0, &bytes, &document.exchange_signature);
    of("exchange_signature", result, "the exchange signed the receipt")
}

fn inclusion(document: &ReceiptDocument) -> Check {
    let ReceiptDocument { receipt, leaf_index, inclusion, checkpoint, .. } = document;
    let leaf = leaf_hash(receipt);
    let result = verify_inclusion(&leaf, *leaf_index, checkpoint.size, inclusion, &checkpoint.root);
    of("inclusion", result, "the receipt is in the log that the checkpoint describes")
}

fn node_checks(receipt: &Receipt) -> [Check; 3] {
    const NAMES: [&str; 3] = ["node_signature", "request_ids", "node_usage"];
    let Some(signed) = &receipt.node else {
        return NAMES.map(|name| Check {
            name,
            outcome: Outcome::Skipped,
            words: "no node took part, or it was gone before it could sign".to_owned(),
        });
    };
    let statement = &signed.statement;
    [
        of(NAMES[0], verify_statement(signed), "the node signed its statement"),
        of(
            NAMES[1],
            ensure(statement.request == receipt.request, "the node's statement is about another request"),
            "node and exchange speak of the same request",
        ),
        of(
            NAMES[2],
            ensure(
                receipt.usage_claimed == Some(statement.usage),
                "the claimed usage is not the one that the node signed",
            ),
            "the claimed usage is the one that the node signed",
        ),
    ]
}

fn charge_sum(receipt: &Receipt) -> Result<(), &'static str> {
    let charge = &receipt.charge;
    ensure(charge.sum_of_parts() == Some(charge.total), "the parts of the charge do not sum to its total")?;
    ensure(charge.rounding <= Charge::ROUNDING_MAX, "the rounding is more than one rounding up can be")?;
    // The prices are in the snapshot, not in the receipt; what can be said without them is that nothing
    // was charged for nothing.
    let billed = &receipt.usage_billed;
    ensure(billed.prompt.0 > 0 || charge.prompt == NanoUsd::ZERO, "a prompt of no tokens was charged")?;
    ensure(
        billed.completion.0 > 0 || charge.completion == NanoUsd::ZERO,
        "a completion of no tokens was charged",
    )?;
    ensure(billed.units > 0 || charge.units == NanoUsd::ZERO, "units were charged though none was billed")?;
    ensure(
        *billed != Usage::default() || charge.total == NanoUsd::ZERO,
        "something was charged although nothing was billed",
    )
}

fn usage(receipt: &Receipt) -> Result<(), &'static str> {
    let billed = &receipt.usage_billed;
    ensure(
        billed.fresh_prompt().is_some(),
        "more tokens read from or written into a cache than prompt tokens",
    )?;
    let Some(claimed) = &receipt.usage_claimed else { return Ok(()) };
    ensure(
        billed.prompt <= claimed.prompt
            && billed.completion <= claimed.completion
            && billed.units <= claimed.units,
        "more was billed than the seller claimed",
    )
}

/// Whether the count is right can be said by whoever has the texts and the tokenizer; that it was kept to, by anyone.
fn recount(receipt: &Receipt) -> Check {
    let Some(recount) = &receipt.recount else {
        let words = "the model's tokenizer was not pinned: nobody counted again".to_owned();
        return Check { name: "recount", outcome: Outcome::Skipped, words };
    };
    let result = ensure(
        !recount.is_exceeded_by(&receipt.usage_billed),
        "more was billed than the market's own count allows",
    );
    of("recount", result, "billed usage is within the market's own count and its tolerance")
}

fn fee(receipt: &Receipt) -> Result<(), &'static str> {
    ensure(receipt.fee <= receipt.charge.total, "the fee exceeds the charge")
}

fn seller(receipt: &Receipt) -> Result<(), &'static str> {
    let Some(seller) = &receipt.seller else {
        ensure(receipt.charge.total == NanoUsd::ZERO, "something was charged although nobody answered")?;
        return ensure(receipt.node.is_none(), "a node signed although nobody answered");
    };
    let last = receipt.attempts.last();
    ensure(last.is_some_and(|attempt| attempt.seller == *seller), "who was paid was not asked last")?;
    ensure(receipt.finish != Finish::NoSeller, "somebody was paid although nobody answered")
}

fn times(document: &ReceiptDocument) -> Result<(), &'static str> {
    let receipt = &document.receipt;
    let first = receipt.first_content_ms.unwrap_or(0);
    ensure(first <= receipt.total_ms, "the first content came after the end")?;
    ensure(
        receipt.created.0 <= document.checkpoint.time.0.saturating_add(CLOCK_TOLERANCE_MS),
        "the checkpoint is older than the receipt it covers",
    )
}

#[cfg(test)]
mod tests;

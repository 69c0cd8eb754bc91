use super::*;
use crate::log::{MemoryTiles, MerkleLog};
use crate::sign::Signer;
use bourse_types::{
    AccountId, Charge, KeyHash, ModelSlug, NanoUsd, NodeId, RequestId, SellerName, TokenCount, UnixMs,
};
use bourse_wire::receipt::{AttemptRecord, NodeStatement, Recount, SignedNodeStatement};
use proptest::prelude::*;

const EXCHANGE: [u8; 32] = [1; 32];
const NODE: [u8; 32] = [2; 32];

fn receipt() -> Receipt {
    let seller = SellerName::parse("local").unwrap();
    let usage = Usage { cache_write: TokenCount(1), units: 4, ..Usage::of_tokens(7, 2, 5) };
    let node = Signer::from_bytes(&NODE);
    let statement = NodeStatement {
        node: node.node_id(),
        request: RequestId(9),
        model_commitment: Digest32([2; 32]),
        run_seed_hash: Digest32([3; 32]),
        prompt_hash: Digest32([4; 32]),
        text_hash: Digest32([5; 32]),
        trace_root: Digest32([6; 32]),
        usage,
    };
    Receipt {
        request: RequestId(9),
        account_digest: Receipt::digest_of_account(AccountId(1)),
        key_digest: Receipt::digest_of_key(&KeyHash([7; 32])),
        model: ModelSlug::parse("a/b").unwrap(),
        constraints_digest: Digest32([8; 32]),
        price_snapshot_digest: Digest32([9; 32]),
        plan_digest: Digest32([10; 32]),
        attempts: vec![
            AttemptRecord { seller: SellerName::parse("other").unwrap(), status: 503 },
            AttemptRecord { seller: seller.clone(), status: 200 },
        ],
        seller: Some(seller),
        node: Some(node.sign_statement(statement)),
        usage_claimed: Some(usage),
        usage_billed: usage,
        recount: None,
        charge: Charge {
            prompt: NanoUsd(10),
            completion: NanoUsd(20),
            request: NanoUsd(3),
            units: NanoUsd(2),
            rounding: NanoUsd(1),
            total: NanoUsd(36),
        },
        fee: NanoUsd(1),
        request_hash: Digest32([12; 32]),
        response_hash: Digest32([13; 32]),
        finish: Finish::Stop,
        streamed: true,
        created: UnixMs(100),
        first_content_ms: Some(2),
        total_ms: 3,
    }
}

/// The document of the receipt as the third of five leaves.
fn document(receipt: Receipt) -> ReceiptDocument {
    let (mut log, tiles) = (MerkleLog::default(), MemoryTiles::default());
    for n in 0..5u8 {
        log.append(if n == 2 { leaf_hash(&receipt) } else { Digest32([n; 32]) });
    }
    let exchange = Signer::from_bytes(&EXCHANGE);
    ReceiptDocument {
        exchange_signature: exchange.sign_receipt(&receipt),
        receipt,
        leaf_index: 2,
        inclusion: log.inclusion(&tiles, 2, 5).unwrap(),
        checkpoint: exchange.sign_checkpoint(5, log.root(), UnixMs(200)),
    }
}

fn failures(document: &ReceiptDocument) -> Vec<&'static str> {
    verify_document(document, &VerifyPolicy::default()).failures().map(|check| check.name).collect()
}

#[test]
fn an_honest_document_holds() {
    let mut recounted = receipt();
    recounted.recount = Some(recount(&recounted, 0));
    let document = document(recounted);
    let policy = VerifyPolicy { expected_exchange: Some(Signer::from_bytes(&EXCHANGE).public()) };
    let verdict = verify_document(&document, &policy);
    assert!(verdict.holds(), "{verdict:?}");
    assert!(verdict.checks.iter().all(|check| check.outcome == Outcome::Passed), "{verdict:?}");
    let names: Vec<_> = verdict.checks.iter().map(|check| check.name).collect();
    let want = [
        "exchange_key",
        "exchange_signature",
        "inclusion",
        "checkpoint_signature",
        "node_signature",
        "request_ids",
        "node_usage",
        "charge_sum",
        "usage",
        "recount",
        "fee",
        "seller",
        "times",
    ];
    assert_eq!(names, want);
}

#[test]
fn without_a_trusted_key_the_check_is_skipped_and_with_another_it_fails() {
    let document = document(receipt());
    let verdict = verify_document(&document, &VerifyPolicy::default());
    assert!(verdict.holds());
    assert_eq!(verdict.checks[0].outcome, Outcome::Skipped);
    let policy = VerifyPolicy { expected_exchange: Some(Signer::from_bytes(&NODE).public()) };
    let verdict = verify_document(&document, &policy);
    assert_eq!(verdict.failures().map(|check| check.name).collect::<Vec<_>>(), ["exchange_key"]);
}

#[test]
fn provider_traffic_needs_no_node() {
    let mut plain = receipt();
    plain.node = None;
    let document = document(plain);
    let verdict = verify_document(&document, &VerifyPolicy::default());
    assert!(verdict.holds());
    assert_eq!(verdict.checks.iter().filter(|check| check.outcome == Outcome::Skipped).count(), 5);
}

/// A house that signs nonsense is caught by the checks of content.
#[track_caller]
fn check_content(change: impl FnOnce(&mut Receipt), want: &[&str]) {
    let mut changed = receipt();
    change(&mut changed);
    assert_eq!(failures(&document(changed)), want);
}

#[test]
fn content_is_checked_even_when_it_is_signed() {
    check_content(|r| r.charge.total.0 += 1, &["charge_sum"]);
    check_content(|r| (r.charge.rounding.0, r.charge.total.0) = (3, 38), &[]);
    check_content(|r| (r.charge.rounding.0, r.charge.total.0) = (4, 39), &["charge_sum"]);
    check_content(|r| r.usage_billed.units = 0, &["charge_sum"]);
    check_content(|r| r.usage_billed.completion.0 = 0, &["charge_sum"]);
    check_content(|r| r.usage_billed.prompt.0 = 0, &["charge_sum", "usage"]);
    check_content(|r| r.usage_billed.completion.0 += 1, &["usage"]);
    check_content(|r| r.usage_billed.cached_prompt.0 = 7, &["usage"]);
    check_content(|r| r.usage_billed.cache_write.0 = 6, &["usage"]);
    check_content(|r| r.usage_billed.units += 1, &["usage"]);
    check_content(|r| r.recount = Some(recount(r, 0)), &[]);
    check_content(|r| r.recount = Some(recount(r, 1)), &["recount"]);
    check_content(|r| r.fee.0 = 37, &["fee"]);
    check_content(|r| r.attempts.reverse(), &["seller"]);
    check_content(|r| r.attempts.clear(), &["seller"]);
    check_content(|r| r.seller = None, &["seller"]);
    check_content(|r| r.finish = Finish::NoSeller, &["seller"]);
    check_content(|r| r.first_content_ms = Some(4), &["times"]);
    check_content(|r| r.created.0 = 200 + CLOCK_TOLERANCE_MS + 1, &["times"]);
    check_content(|r| r.created.0 = 200 + CLOCK_TOLERANCE_MS, &[]);
    check_content(|r| r.request = RequestId(10), &["request_ids"]);
    check_content(|r| r.usage_claimed = None, &["node_usage"]);
    check_content(|r| node(r).usage.completion.0 += 1, &["node_signature", "node_usage"]);
    check_content(|r| node(r).node = NodeId([9; 32]), &["node_signature"]);
    check_content(|r| node(r).trace_root.0[0] ^= 1, &["node_signature"]);
}

/// A recount that allows so many tokens fewer than were billed.
fn recount(receipt: &Receipt, fewer: u64) -> Recount {
    let Usage { prompt, completion, .. } = receipt.usage_billed;
    Recount {
        tokenizer: Digest32([21; 32]),
        prompt: None,
        prompt_allowed: prompt,
        completion: Some(TokenCount(1)),
        completion_allowed: TokenCount(completion.0 - fewer),
    }
}

fn node(receipt: &mut Receipt) -> &mut NodeStatement {
    let SignedNodeStatement { statement, .. } = receipt.node.as_mut().unwrap();
    statement
}

#[test]
fn a_request_that_nobody_answered_has_a_receipt_too() {
    let mut unanswered = receipt();
    unanswered.seller = None;
    unanswered.node = None;
    unanswered.usage_claimed = None;
    unanswered.usage_billed = Usage::default();
    unanswered.charge = Charge::ZERO;
    unanswered.fee = NanoUsd(0);
    unanswered.finish = Finish::NoSeller;
    unanswered.first_content_ms = None;
    assert_eq!(failures(&document(unanswered)), [""; 0]);
}

proptest! {
    #[test]
    fn flipping_any_bit_of_the_receipt_fails(at: prop::sample::Index, bit in 0u32..8) {
        let honest = document(receipt());
        let mut bytes = honest.receipt.canonical_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = Receipt::from_canonical_bytes(&bytes) {
            let names = failures(&ReceiptDocument { receipt: changed, ..honest });
            prop_assert!(names.contains(&"exchange_signature") && names.contains(&"inclusion"));
        }
    }

    #[test]
    fn flipping_any_bit_beside_the_receipt_fails(field in 0usize..7, byte: prop::sample::Index, bit in 0u32..8) {
        let mut changed = document(receipt());
        let flip = |bytes: &mut [u8]| bytes[byte.index(bytes.len())] ^= 1 << bit;
        match field {
            0 => flip(&mut changed.exchange_signature),
            1 => flip(&mut changed.checkpoint.signature),
            2 => flip(&mut changed.checkpoint.root.0),
            3 => flip(&mut changed.checkpoint.exchange.0),
            4 => {
                let at = byte.index(changed.inclusion.len());
                changed.inclusion[at].0[at] ^= 1 << bit;
            }
            5 => changed.checkpoint.size ^= 1 << bit,
            _ => changed.leaf_index ^= 1 << bit,
        }
        prop_assert!(!failures(&changed).is_empty());
    }
}

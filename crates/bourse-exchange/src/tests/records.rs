//! Receipts: found, proved, and found again when the index is made anew.

use super::support::{START, hold, request, serve, settlement};
use super::{key, market, market_in};
use crate::index::INDEX_FILE;
use bourse_proof::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use bourse_proof::sign::{verify, verify_checkpoint};
use bourse_types::UnixMs;
use bourse_wire::funds::{Funds, FundsError, Records};
use bourse_wire::receipt::ReceiptDocument;

fn check_document(document: &ReceiptDocument, exchange: [u8; 32]) {
    let bytes = document.receipt.canonical_bytes();
    let head = &document.checkpoint;
    verify_checkpoint(head).unwrap();
    verify(&exchange, &bytes, &document.exchange_signature).unwrap();
    let (leaf, path) = (leaf_hash(&bytes), &document.inclusion);
    verify_inclusion(&leaf, document.leaf_index, head.size, path, &head.root).unwrap();
    assert_eq!(head.exchange.0, exchange);
}

#[test]
fn a_receipt_is_found_the_moment_it_is_settled() {
    let exchange = market(1_000_000);
    let grant = key(&exchange, None);
    let empty = exchange.checkpoint().unwrap();
    assert_eq!(empty.size, 0, "there is a checkpoint from the first group on");
    for n in 1..=600 {
        serve(&exchange, n, grant, START).unwrap();
        if n % 100 == 1 {
            let document = exchange.receipt(request(n, START)).unwrap().unwrap();
            assert_eq!((document.leaf_index, document.checkpoint.size), (n - 1, n));
            assert_eq!(document.receipt.charge.total.0, 1_234);
            assert_eq!(document.receipt.fee.0, 49, "the exchange fills the fee in");
            check_document(&document, exchange.public_key().0);
        }
    }
    exchange.flush().unwrap();
    for n in [1, 256, 257, 512, 600] {
        let document = exchange.receipt(request(n, START)).unwrap().unwrap();
        assert_eq!(document.leaf_index, n - 1);
        check_document(&document, exchange.public_key().0);
    }
    assert_eq!(exchange.receipt(request(601, START)), Ok(None));
    let head = exchange.checkpoint().unwrap();
    let path = exchange.consistency(empty.size).unwrap();
    verify_consistency(0, &empty.root, 600, &head.root, &path).unwrap();
    assert_eq!(exchange.consistency(601), Err(FundsError::Conflict));
}

#[test]
fn later_checkpoints_continue_earlier_ones() {
    let exchange = market(1_000_000);
    let grant = key(&exchange, None);
    let mut heads = vec![exchange.checkpoint().unwrap()];
    for n in 1..=40 {
        serve(&exchange, n, grant, UnixMs(START.0 + n)).unwrap();
        if n % 7 == 0 {
            exchange.flush().unwrap();
            heads.push(exchange.checkpoint().unwrap());
        }
    }
    let last = heads[heads.len() - 1];
    for head in &heads {
        let path = exchange.consistency(head.size).unwrap();
        verify_consistency(head.size, &head.root, last.size, &last.root, &path).unwrap();
    }
    assert_eq!(last.time, UnixMs(START.0 + 35));
}

#[test]
fn a_request_without_charge_has_a_receipt_too() {
    let exchange = market(1_000);
    let grant = key(&exchange, None);
    exchange.hold(&hold(request(1, START), grant, 5, START)).unwrap();
    let mut nothing = settlement(request(1, START), grant, 0, START);
    nothing.receipt.seller = None;
    exchange.settle(nothing).unwrap();
    let document = exchange.receipt(request(1, START)).unwrap().unwrap();
    check_document(&document, exchange.public_key().0);
}

#[test]
fn the_index_survives_restarts_and_is_made_again_when_it_is_lost_or_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let index = dir.path().join(INDEX_FILE);
    let mut grant = None;
    for round in 0..4u64 {
        match round {
            2 => std::fs::remove_file(&index).unwrap(),
            3 => std::fs::write(&index, b"this is no database, not even remotely one").unwrap(),
            _ => {}
        }
        let exchange = market_in(dir.path(), 10_000_000);
        let grant = *grant.get_or_insert_with(|| key(&exchange, None));
        for n in 0..300 {
            serve(&exchange, round * 1_000 + n, grant, START).unwrap();
        }
        for n in (0..=round).flat_map(|round| [round * 1_000, round * 1_000 + 299]) {
            let document = exchange.receipt(request(n, START)).unwrap().unwrap();
            check_document(&document, exchange.public_key().0);
        }
        exchange.close().unwrap();
    }
}

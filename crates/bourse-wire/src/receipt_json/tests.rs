use super::*;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("golden.json");

fn usage(prompt: u64, cached: u64, completion: u64) -> Usage {
    Usage { cache_write: TokenCount(3), units: 4, ..Usage::of_tokens(prompt, cached, completion) }
}

fn example() -> ReceiptDocument {
    let seller = SellerName::parse("local").unwrap();
    let statement = NodeStatement {
        node: NodeId([1; 32]),
        request: RequestId(9),
        model_commitment: Digest32([2; 32]),
        run_seed_hash: Digest32([3; 32]),
        prompt_hash: Digest32([4; 32]),
        text_hash: Digest32([5; 32]),
        trace_root: Digest32([6; 32]),
        usage: usage(7, 2, 5),
    };
    let receipt = Receipt {
        request: RequestId(9),
        account_digest: Digest32([14; 32]),
        key_digest: Digest32([15; 32]),
        model: ModelSlug::parse("huggingfacetb/smollm2-135m-instruct").unwrap(),
        constraints_digest: Digest32([8; 32]),
        price_snapshot_digest: Digest32([9; 32]),
        plan_digest: Digest32([10; 32]),
        attempts: vec![AttemptRecord { seller: seller.clone(), status: 200 }],
        seller: Some(seller),
        node: Some(SignedNodeStatement { statement, signature: [11; 64] }),
        usage_claimed: Some(usage(7, 2, 5)),
        usage_billed: usage(7, 2, 5),
        recount: None,
        charge: Charge {
            prompt: NanoUsd(1_000),
            completion: NanoUsd(2_000_000_000),
            request: NanoUsd(3),
            units: NanoUsd(2),
            rounding: NanoUsd(1),
            total: NanoUsd(2_000_001_006),
        },
        fee: NanoUsd(1),
        request_hash: Digest32([12; 32]),
        response_hash: Digest32([13; 32]),
        finish: Finish::ToolCalls,
        streamed: true,
        created: UnixMs(1_790_000_000_123),
        first_content_ms: Some(2),
        total_ms: 3,
    };
    ReceiptDocument {
        receipt,
        exchange_signature: [16; 64],
        leaf_index: 1,
        inclusion: vec![Digest32([17; 32])],
        checkpoint: Checkpoint {
            size: 2,
            root: Digest32([18; 32]),
            time: UnixMs(1_790_000_000_200),
            exchange: Digest32([19; 32]),
            signature: [20; 64],
        },
    }
}

#[test]
fn the_golden_document_is_what_is_written_and_read() {
    let written = receipt_document_to_json(&example());
    assert_eq!(written, GOLDEN.trim_end());
    assert_eq!(receipt_document_from_json(GOLDEN.as_bytes()).unwrap(), example());
}

/// Checks that the golden document with one change is refused with `want` in the error or its source.
#[track_caller]
fn check_refused(from: &str, to: &str, want: &str) {
    let changed = GOLDEN.replacen(from, to, 1);
    assert_ne!(changed, GOLDEN, "`{from}` is not in the document");
    let error = receipt_document_from_json(changed.as_bytes()).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let text = format!("{error}: {source}");
    assert!(text.contains(want), "{text}");
}

#[test]
fn reading_is_strict() {
    check_refused("\"version\": 2,", "\"version\": 1,", "version 1");
    check_refused("\"version\": 2,", "\"version\": 2, \"more\": 0,", "unknown field `more`");
    check_refused("\"version\": 2,", "\"version\": 2, \"version\": 2,", "duplicate field");
    check_refused("\"seller\": \"local\",\n    \"node\"", "\"node\"", "missing field `seller`");
    check_refused("\"first_content_ms\": 2,", "", "missing field `first_content_ms`");
    check_refused("\"total_ms\": 3", "\"total_ms\": -3", "invalid value");
    check_refused("\"total_ms\": 3", "\"total_ms\": 3.5", "invalid type");
    check_refused("\"status\": 200", "\"status\": 65536", "invalid value");
    check_refused("\"id\": \"gen-", "\"id\": \"get-", "`id`");
    check_refused("tool_calls", "tool_call", "`finish`");
    check_refused("smollm2", "smo llm2", "`model`");
    check_refused("0.000001000", "0.0000010001", "`charge.prompt_usd`");
    check_refused("0.000001000", "-1", "`charge.prompt_usd`");
    check_refused("0.000000001", "99999999999999999999", "overflows");
    check_refused("account_digest\": \"0e0e0e", "account_digest\": \"0e0e0", "`account_digest`");
    check_refused("exchange_signature\": \"101010", "exchange_signature\": \"10101", "`exchange_signature`");
    check_refused("exchange_signature\": \"101010", "exchange_signature\": \"10é10", "`exchange_signature`");
    check_refused("141414", "14141g", "`checkpoint.signature`");
}

#[test]
fn lists_and_length_are_bounded() {
    let mut document = example();
    let attempt = document.receipt.attempts[0].clone();
    document.receipt.attempts = vec![attempt.clone(); ATTEMPTS_MAX];
    document.inclusion = vec![Digest32([1; 32]); INCLUSION_PATH_MAX];
    let read = |document: &ReceiptDocument| {
        receipt_document_from_json(receipt_document_to_json(document).as_bytes())
    };
    assert_eq!(read(&document).unwrap(), document);
    document.receipt.attempts.push(attempt);
    assert!(read(&document).unwrap_err().to_string().contains("`attempts`: 17 entries"));
    document.receipt.attempts.pop();
    document.inclusion.push(Digest32([1; 32]));
    assert!(read(&document).unwrap_err().to_string().contains("`log.inclusion`: 66 entries"));

    let mut padded = GOLDEN.as_bytes().to_vec();
    padded.resize(RECEIPT_JSON_BYTES_MAX, b' ');
    assert!(receipt_document_from_json(&padded).is_ok());
    padded.push(b' ');
    assert!(matches!(receipt_document_from_json(&padded), Err(ReceiptJsonError::TooLong(_))));
}

#[test]
fn checkpoints_round_trip_and_are_strict() {
    let checkpoint = example().checkpoint;
    let json = checkpoint_to_json(&checkpoint);
    assert_eq!(checkpoint_from_json(json.as_bytes()).unwrap(), checkpoint);
    let more = json.replace("\"size\"", "\"more\": 1, \"size\"");
    assert!(checkpoint_from_json(more.as_bytes()).is_err());
    assert!(checkpoint_from_json(b"[]").is_err());
}

fn any_usage() -> impl Strategy<Value = Usage> {
    any::<[u64; 5]>().prop_map(|[prompt, cached, write, completion, units]| Usage {
        cache_write: TokenCount(write),
        units,
        ..Usage::of_tokens(prompt, cached, completion)
    })
}

fn any_document() -> impl Strategy<Value = ReceiptDocument> {
    let claims = (proptest::option::of(any_usage()), any_usage(), any::<[u64; 7]>());
    let ends = (0..Finish::ALL.len(), any::<bool>(), any::<Option<u64>>(), any::<[u64; 4]>());
    let list = proptest::collection::vec(("[a-z0-9/._-]{1,20}", any::<u16>()), 0..=ATTEMPTS_MAX);
    let hashes = proptest::collection::vec(any::<[u8; 32]>(), 0..20);
    (any::<(u128, [u8; 32], bool, bool)>(), claims, ends, list, hashes).prop_map(
        |(
            (id, bytes, has_node, has_seller),
            (claimed, billed, money),
            (finish, streamed, first, n),
            list,
            hashes,
        )| {
            let mut document = example();
            let receipt = &mut document.receipt;
            receipt.request = RequestId(id);
            receipt.plan_digest = Digest32(bytes);
            receipt.node = receipt.node.take().filter(|_| has_node);
            receipt.seller = receipt.seller.take().filter(|_| has_seller);
            let record = |(name, status): (String, u16)| AttemptRecord {
                seller: SellerName::parse(&name).unwrap(),
                status,
            };
            receipt.attempts = list.into_iter().map(record).collect();
            (receipt.usage_claimed, receipt.usage_billed) = (claimed, billed);
            let [prompt, completion, request, units, rounding, total, fee] = money.map(NanoUsd);
            receipt.charge = Charge { prompt, completion, request, units, rounding, total };
            receipt.fee = fee;
            receipt.finish = Finish::ALL[finish];
            (receipt.streamed, receipt.first_content_ms) = (streamed, first);
            (receipt.created, receipt.total_ms) = (UnixMs(n[0]), n[1]);
            (document.leaf_index, document.checkpoint.size) = (n[2], n[3]);
            document.inclusion = hashes.into_iter().map(Digest32).collect();
            document
        },
    )
}

proptest! {
    #[test]
    fn any_document_round_trips(document in any_document()) {
        let json = receipt_document_to_json(&document);
        prop_assert!(json.len() < RECEIPT_JSON_BYTES_MAX);
        prop_assert_eq!(receipt_document_from_json(json.as_bytes()).unwrap(), document);
    }

    #[test]
    fn foreign_bytes_never_panic(at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut bytes = GOLDEN.trim_end().as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = receipt_document_from_json(&bytes);
        prop_assert!(receipt_document_from_json(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

#[test]
fn a_recount_makes_version_3() {
    let mut document = example();
    document.receipt.recount = Some(Recount {
        tokenizer: Digest32([21; 32]),
        prompt: None,
        prompt_allowed: TokenCount(9),
        completion: Some(TokenCount(4)),
        completion_allowed: TokenCount(8),
    });
    let json = receipt_document_to_json(&document);
    assert!(json.contains("\"version\": 3,") && json.contains("\"prompt_tokens\": null"), "{json}");
    assert_eq!(receipt_document_from_json(json.as_bytes()).unwrap(), document);
    let old = json.replace("\"version\": 3,", "\"version\": 2,");
    assert!(receipt_document_from_json(old.as_bytes()).is_err());
    check_refused("\"version\": 2,", "\"version\": 3,", "receipt.recount");
}

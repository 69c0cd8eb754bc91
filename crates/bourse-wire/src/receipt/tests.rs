use super::*;
use proptest::prelude::*;

fn example(attempts: usize) -> Receipt {
    let seller = SellerName::parse("local").unwrap();
    let usage = Usage { cache_write: TokenCount(3), units: 4, ..Usage::of_tokens(7, 2, 5) };
    let statement = NodeStatement {
        node: NodeId([1; 32]),
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
        attempts: vec![AttemptRecord { seller: seller.clone(), status: 200 }; attempts],
        seller: Some(seller),
        node: Some(SignedNodeStatement { statement, signature: [11; 64] }),
        usage_claimed: Some(usage),
        usage_billed: usage,
        recount: None,
        charge: Charge {
            prompt: NanoUsd(1),
            completion: NanoUsd(2),
            request: NanoUsd(3),
            units: NanoUsd(2),
            rounding: NanoUsd(1),
            total: NanoUsd(9),
        },
        fee: NanoUsd(1),
        request_hash: Digest32([12; 32]),
        response_hash: Digest32([13; 32]),
        finish: Finish::Stop,
        streamed: true,
        created: UnixMs(1),
        first_content_ms: Some(2),
        total_ms: 3,
    }
}

#[test]
fn canonical_bytes_round_trip() {
    let receipt = example(ATTEMPTS_MAX);
    assert_eq!(Receipt::from_canonical_bytes(&receipt.canonical_bytes()), Ok(receipt));
}

/// The same with a recount that allows so many completion tokens; 5 are claimed.
fn recounted(completion_allowed: u64) -> Receipt {
    let recount = Recount {
        tokenizer: Digest32([14; 32]),
        prompt: None,
        prompt_allowed: TokenCount(7),
        completion: Some(TokenCount(4)),
        completion_allowed: TokenCount(completion_allowed),
    };
    Receipt { recount: Some(recount), ..example(1) }
}

#[test]
fn a_recount_is_bound_and_does_not_change_receipts_without_one() {
    let bytes = recounted(5).canonical_bytes();
    assert_eq!(Receipt::from_canonical_bytes(&bytes), Ok(recounted(5)));
    assert_ne!(bytes, recounted(6).canonical_bytes());
    assert_eq!((recounted(5).version(), example(1).version()), (RECOUNTED_VERSION, RECEIPT_VERSION));
    for n in 0..bytes.len() {
        assert!(Receipt::from_canonical_bytes(&bytes[..n]).is_err(), "{n}");
    }
    // The version of one form under the domain of the other.
    let at = bytes.iter().position(|byte| *byte == RECOUNTED_VERSION).unwrap();
    let mut crossed = bytes.clone();
    crossed[at] = RECEIPT_VERSION;
    assert!(Receipt::from_canonical_bytes(&crossed).is_err());
}

#[test]
fn a_claim_beyond_its_recount_is_suspended_where_it_tells_of_what_was_delivered() {
    assert!(!recounted(5).is_suspended());
    assert!(recounted(4).is_suspended());
    assert!(!Receipt { usage_claimed: None, ..recounted(4) }.is_suspended());
    assert!(!Receipt { recount: None, ..recounted(4) }.is_suspended());
    for finish in Finish::ALL {
        let is_whole = (finish as u8) <= Finish::ContentFilter as u8;
        assert_eq!(Receipt { finish, ..recounted(4) }.is_suspended(), is_whole, "{finish:?}");
    }
}

#[test]
fn one_attempt_too_many_is_refused() {
    let bytes = example(ATTEMPTS_MAX + 1).canonical_bytes();
    assert_eq!(Receipt::from_canonical_bytes(&bytes), Err(CanonicalError::Long(ATTEMPTS_MAX + 1)));
}

#[test]
fn every_truncation_and_any_extra_byte_is_refused() {
    let mut bytes = example(1).canonical_bytes();
    for n in 0..bytes.len() {
        assert!(Receipt::from_canonical_bytes(&bytes[..n]).is_err(), "{n}");
    }
    bytes.push(0);
    assert_eq!(Receipt::from_canonical_bytes(&bytes), Err(CanonicalError::Trailing(1)));
}

#[test]
fn finish_words_round_trip() {
    for (number, finish) in Finish::ALL.into_iter().enumerate() {
        assert_eq!(finish as usize, number);
        assert_eq!(Finish::parse(finish.as_str()), Some(finish));
    }
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic_and_reading_is_injective(at in 0usize..700, value: u8) {
        let mut bytes = example(2).canonical_bytes();
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(receipt) = Receipt::from_canonical_bytes(&bytes) {
            prop_assert_eq!(receipt.canonical_bytes(), bytes);
        }
    }
}

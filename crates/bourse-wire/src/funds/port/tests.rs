//! Every frame comes back as it went, and no bytes do harm.

use super::body::TOO_MANY;
use super::*;
use crate::funds::{
    Billing, BudgetStatus, Claim, GenerationNote, KeyRole, LimitReset, NoteText, PolicyId, ProviderResponse,
    RateStatus, RateUnit, Scope,
};
use crate::receipt::{ATTEMPTS_MAX, AttemptRecord, Finish, NodeStatement, Receipt, SignedNodeStatement};
use bourse_types::{
    AccountId, Charge, Digest32, DurationMs, ModelSlug, NAME_BYTES_MAX, NodeId, RequestId, SellerName, Usage,
};
use proptest::prelude::*;
use std::fmt::Debug;

mod questions;

fn grant(n: u8) -> KeyGrant {
    KeyGrant {
        role: if n.is_multiple_of(2) { KeyRole::Inference } else { KeyRole::Management },
        account_policy: (n > 9).then_some(PolicyId(Digest32([n; 32]))),
        key_policy: (n > 99).then_some(PolicyId(Digest32([n ^ 1; 32]))),
        ..KeyGrant::new(KeyHash([n; 32]), AccountId(u64::from(n)))
    }
}

fn attendance(n: u8) -> Attendance {
    let seller = SellerName::parse("maple").unwrap();
    let (from, until) = (UnixMs(n.into()), UnixMs(u64::MAX));
    Attendance { node: NodeId([n; 32]), seller, from, until, gpus: (n > 9).then_some(n.into()) }
}

/// A settlement with every text and list at its bound.
fn largest() -> Settlement {
    let seller = SellerName::parse(&"s".repeat(NAME_BYTES_MAX)).unwrap();
    let digest = Digest32([7; 32]);
    let text = || NoteText::clip(&"t".repeat(999));
    let responses = |seller| ProviderResponse { seller, status: 599, latency_ms: Some(9), is_byok: true };
    let note = GenerationNote {
        byok_cost: Some(NanoUsd(1)),
        upstream_cost: Some(NanoUsd(2)),
        provider_responses: vec![responses(seller.clone()); ATTEMPTS_MAX],
        api_type: text(),
        upstream_id: text(),
        native_finish_reason: text(),
        session_id: text(),
        external_user: text(),
        app_referer: text(),
        app_title: text(),
        user_agent: text(),
        service_tier: text(),
        router: text(),
        strategy: text(),
        preset: text(),
        group_id: text(),
        ..GenerationNote::default()
    };
    let statement = NodeStatement {
        node: NodeId([9; 32]),
        request: RequestId(u128::MAX),
        model_commitment: digest,
        run_seed_hash: digest,
        prompt_hash: digest,
        text_hash: digest,
        trace_root: digest,
        usage: Usage::of_tokens(9, 0, 3),
    };
    let receipt = Receipt {
        request: RequestId(u128::MAX),
        account_digest: digest,
        key_digest: digest,
        model: ModelSlug::parse(&format!("a/{}", "m".repeat(NAME_BYTES_MAX - 2))).unwrap(),
        constraints_digest: digest,
        price_snapshot_digest: digest,
        plan_digest: digest,
        attempts: vec![AttemptRecord { seller: seller.clone(), status: 599 }; ATTEMPTS_MAX],
        seller: Some(seller),
        node: Some(SignedNodeStatement { statement, signature: [9; 64] }),
        usage_claimed: Some(Usage::of_tokens(9, 0, 3)),
        usage_billed: Usage::of_tokens(9, 0, 3),
        recount: None,
        charge: Charge { prompt: NanoUsd(5), total: NanoUsd(5), ..Charge::ZERO },
        fee: NanoUsd(1),
        request_hash: digest,
        response_hash: digest,
        finish: Finish::Stop,
        streamed: true,
        created: UnixMs(1),
        first_content_ms: Some(2),
        total_ms: 3,
    };
    Settlement { receipt, note, billing: Billing::Byok, now: UnixMs(4) }
}

fn frame(call: u64, message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    encode(call, message, &mut out).unwrap();
    out
}

fn check<M: Message + Debug + PartialEq + Clone>(call: u64, message: &M) {
    let mut bytes = frame(call, message);
    let len = bytes.len();
    for cut in [0, LENGTH_BYTES - 1, LENGTH_BYTES, len - 1] {
        assert_eq!(decode::<M>(&bytes[..cut], FRAME_BYTES_MAX), Ok(None), "{message:?} cut at {cut}");
    }
    bytes.push(0xFF);
    let taken = decode(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
    assert_eq!(taken, Taken { call, message: message.clone(), bytes: len });
    renumber(&mut bytes, call ^ 1);
    assert_eq!(decode(&bytes, FRAME_BYTES_MAX).unwrap().unwrap(), Taken { call: call ^ 1, ..taken });
}

fn errors(a: u64, b: u64, text: &str) -> Vec<FundsError> {
    let (available, needed) = (NanoUsd(a), NanoUsd(b));
    let mut all = vec![
        FundsError::UnknownKey,
        FundsError::RevokedKey,
        FundsError::DisabledKey,
        FundsError::ExpiredKey,
        FundsError::ManagementKey,
        FundsError::NotManagement,
        FundsError::InsufficientFunds { available, needed, held: NanoUsd(b ^ 1) },
        FundsError::ExceedsHold { charge: available, held: needed },
        FundsError::NoHold,
        FundsError::Conflict,
        FundsError::Journal(text.to_owned()),
        FundsError::NoRandomness(text.to_owned()),
        FundsError::Closing,
        FundsError::Away,
        FundsError::ClaimTaken,
        FundsError::ClaimOpen,
        FundsError::ClaimPaid(RequestId(a.into())),
    ];
    all.extend(TOO_MANY.map(FundsError::TooMany));
    for (n, (scope, reset)) in Scope::ALL.into_iter().cycle().zip(LimitReset::ALL).enumerate() {
        let resets_at = (reset != LimitReset::Never).then_some(UnixMs(b));
        let (limit, spent, held, left) = (NanoUsd(a ^ 1), NanoUsd(a), NanoUsd(b ^ 2), NanoUsd(b));
        let includes_byok = n.is_multiple_of(2);
        let budget = BudgetStatus { scope, reset, limit, includes_byok, spent, held, left, resets_at };
        all.push(FundsError::OverBudget { budget: Box::new(budget), needed });
        for unit in RateUnit::ALL {
            let rate = RateStatus { scope, unit, limit: a, used: b, left: a ^ 3, resets_at };
            all.push(FundsError::RateLimited {
                rate: Box::new(rate),
                needed: b ^ 5,
                retry_after: resets_at.map(|_| DurationMs(a)),
            });
        }
    }
    all
}

proptest! {
    #[test]
    fn every_frame_comes_back(call: u64, n: u8, a: u64, b: u64, id: u128, step: u16, text in ".{0,60}") {
        let (request, now, amount, byok) = (RequestId(id), UnixMs(a ^ b), NanoUsd(a), NanoUsd(b));
        let mut settlement = largest();
        settlement.receipt.charge.prompt = amount;
        settlement.note.session_id = NoteText::clip(&text);
        settlement.billing = if step.is_multiple_of(2) { Billing::Credits } else { Billing::Byok };
        let hold =
            HoldRequest { request, grant: grant(n), amount, byok, tokens: None, expires: UnixMs(b), now, claim: None };
        let (name, fingerprint) = (Digest32([n; 32]), Digest32([n ^ 3; 32]));
        let claim = Claim { name, fingerprint, first: RequestId(id ^ 1), kept_for: DurationMs(b) };
        let requests = [
            Request::Hello { version: n, nonce: [n; 32], proof: [n ^ 1; 32] },
            Request::Authenticate { key: KeyHash([n; 32]), now },
            Request::Hold(hold),
            Request::Hold(HoldRequest { claim: Some(claim), tokens: Some(a ^ 9), ..hold }),
            Request::Extend(HoldExtension { request, step, amount, byok, tokens: b, now }),
            Request::ByokFee { grant: grant(n), list: amount, now },
            Request::Settle(Box::new(settlement.clone())),
            Request::Metered(Box::new(settlement)),
            Request::Attended { attendance: attendance(n), now },
            Request::Durable(CommitTicket(a)),
        ];
        for request in &requests {
 check(call, request);
 }
        let mut replies = vec![
            Reply::Challenge([n; 32]),
            Reply::Welcome { incarnation: id, proof: [n; 32], wall: now },
            Reply::Granted(grant(n)),
            Reply::Done,
            Reply::Fee(None),
            Reply::Fee(Some(amount)),
            Reply::Settled(Settled { cost: amount, ticket: CommitTicket(b) }),
            Reply::Durable(CommitTicket(b)),
            Reply::Part { bytes: vec![n; usize::from(step) % PART_BYTES_MAX], is_last: n.is_multiple_of(2) },
        ];
        replies.extend(errors(a, b, &text).into_iter().map(Reply::Refused));
        for reply in &replies {
 check(call, reply);
 }
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..9_000, flip in 0usize..9_000, with: u8,
    ) {
        let mut framed = (bytes.len() as u32).to_le_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        let mut settle = frame(1, &Request::Settle(Box::new(largest())));
        let at = flip % settle.len();
        settle[at] = with;
        settle.truncate(cut);
        for bytes in [bytes, framed, settle] {
            let _ = decode::<Request>(&bytes, FRAME_BYTES_MAX);
            let _ = decode::<Reply>(&bytes, FRAME_BYTES_MAX);
        }
    }
}

#[test]
fn a_frame_is_taken_at_its_bound_and_refused_one_past_it() {
    let announced = |len: usize| decode::<Request>(&(len as u32).to_le_bytes(), FRAME_BYTES_MAX);
    assert_eq!(announced(FRAME_BYTES_MAX), Ok(None), "the rest may come");
    assert_eq!(announced(FRAME_BYTES_MAX + 1), Err(CanonicalError::Long(FRAME_BYTES_MAX + 1)));
    let hello = Request::Hello { version: PORT_VERSION, nonce: [1; 32], proof: [2; 32] };
    let bytes = frame(NO_CALL, &hello);
    assert!(bytes.len() - LENGTH_BYTES <= HELLO_BYTES_MAX);
    let len = bytes.len() - LENGTH_BYTES;
    assert!(decode::<Request>(&bytes, len).unwrap().is_some());
    assert_eq!(decode::<Request>(&bytes, len - 1), Err(CanonicalError::Long(len)));

    let settlement = frame(1, &Request::Settle(Box::new(largest())));
    assert!(settlement.len() < FRAME_BYTES_MAX / 2, "the largest there can be: {}", settlement.len());
    // A receipt with names beyond their bounds cannot be made, so the writer's own bound is met by many attempts.
    let mut over = largest();
    over.receipt.attempts = vec![over.receipt.attempts[0].clone(); 255];
    let mut out = vec![1, 2, 3];
    assert!(matches!(encode(1, &Request::Settle(Box::new(over)), &mut out), Err(CanonicalError::Long(_))));
    assert_eq!(out, [1, 2, 3], "nothing of it is there");
}

#[test]
fn long_texts_are_clipped_and_unknown_words_become_a_general_one() {
    let told = |error| {
        let bytes = frame(1, &Reply::Refused(error));
        decode::<Reply>(&bytes, FRAME_BYTES_MAX).unwrap().unwrap().message
    };
    let long = FundsError::Journal("é".repeat(ERROR_TEXT_BYTES_MAX));
    assert_eq!(told(long), Reply::Refused(FundsError::Journal("é".repeat(ERROR_TEXT_BYTES_MAX / 2))));
    assert_eq!(
        told(FundsError::TooMany("elephants")),
        Reply::Refused(FundsError::TooMany("things at the exchange"))
    );
}

#[test]
fn foreign_bytes_are_refused() {
    let with = |kind: u8, body: &[u8]| {
        let mut bytes = (9 + body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 8]);
        bytes.push(kind);
        bytes.extend_from_slice(body);
        decode::<Request>(&bytes, FRAME_BYTES_MAX).map(|taken| taken.map(|taken| taken.message))
    };
    assert_eq!(with(7, &[1, 0, 0, 0, 0, 0, 0, 0]), Ok(Some(Request::Durable(CommitTicket(1)))));
    assert_eq!(with(7, &[1, 0]), Err(CanonicalError::Short));
    assert_eq!(with(7, &[0; 9]), Err(CanonicalError::Trailing(1)));
    assert_eq!(with(0, &[]), Err(CanonicalError::Value("kind")));
    assert_eq!(with(200, &[]), Err(CanonicalError::Value("kind")));
    assert_eq!(with(9, &[0]), Err(CanonicalError::Value("question")));
}

#[test]
fn proofs_are_of_a_secret_a_side_and_a_connection() {
    let secret = |text| PortSecret::of(text).unwrap();
    assert!(PortSecret::of("fifteen bytes..").is_none() && PortSecret::of("sixteen bytes...").is_some());
    let drawn = Drawn { challenge: [1; 32], nonce: [2; 32], binding: [4; 32] };
    let proof = secret("a secret of the house").proof(Side::Gateway, &drawn, 0);
    let other = Drawn { nonce: [3; 32], ..drawn };
    assert_ne!(proof, secret("another secret of it").proof(Side::Gateway, &drawn, 0));
    assert_ne!(proof, secret("a secret of the house").proof(Side::Exchange, &drawn, 0));
    assert_ne!(proof, secret("a secret of the house").proof(Side::Gateway, &other, 0));
    assert_ne!(proof, secret("a secret of the house").proof(Side::Gateway, &drawn, 1));
    let elsewhere = Drawn { binding: [5; 32], ..drawn };
    assert_ne!(proof, secret("a secret of the house").proof(Side::Gateway, &elsewhere, 0));
    assert_eq!(format!("{:?}", secret("a secret of the house")), "PortSecret { .. }");
}

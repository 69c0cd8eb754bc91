//! The table of claims by itself.

use super::*;
use bourse_types::DurationMs;

const NOW: UnixMs = UnixMs(1_000_000);

fn claim(name: u8, first: u128) -> Claim {
    let (name, fingerprint) = (Digest32([name; 32]), Digest32([9; 32]));
    Claim { name, fingerprint, first: RequestId(first), kept_for: DurationMs(u64::MAX) }
}

fn later(ms: u64) -> UnixMs {
    UnixMs(NOW.0 + ms)
}

/// A request under a claim that was paid for.
fn paid(claims: &mut Claims, name: u8, first: u128, at: UnixMs) {
    claims.begin(&claim(name, first), Some(RequestId(first)), at).unwrap();
    claims.end(RequestId(first), ClaimEnd::Paid);
}

fn again(claims: &Claims) -> Claims {
    let mut bytes = Vec::new();
    claims.write(&mut bytes);
    let mut reader = Reader::new(&bytes);
    let read = Claims::read(&mut reader).unwrap();
    assert_eq!(reader.remaining(), 0);
    let mut rewritten = Vec::new();
    read.write(&mut rewritten);
    assert_eq!(bytes, rewritten);
    assert_eq!(read.ended, claims.ended);
    Claims { max: claims.max, ..read }
}

#[test]
fn a_claim_is_open_then_paid_or_free() {
    let mut claims = Claims::default();
    let other = Claim { fingerprint: Digest32([8; 32]), ..claim(1, 2) };
    claims.begin(&claim(1, 1), Some(RequestId(1)), NOW).unwrap();
    assert_eq!(again(&claims).check(&claim(1, 2), NOW), Err(FundsError::ClaimOpen));
    assert_eq!(claims.check(&other, NOW), Err(FundsError::ClaimTaken));
    claims.end(RequestId(1), ClaimEnd::ForNothing);
    assert_eq!((claims.check(&other, NOW), claims.by_name.len()), (Ok(()), 0), "what cost nothing is free");
    paid(&mut claims, 1, 2, NOW);
    claims.end(RequestId(2), ClaimEnd::ForNothing);
    assert_eq!(again(&claims).check(&claim(1, 3), NOW), Err(FundsError::ClaimPaid(RequestId(2))));
    assert_eq!(claims.check(&Claim { first: RequestId(3), ..other }, NOW), Err(FundsError::ClaimTaken));
}

#[test]
fn several_requests_of_one_answer_are_one_claim() {
    for paid in 0..3_u128 {
        let mut claims = Claims::default();
        for request in 1..=2 {
            claims.begin(&claim(1, 1), Some(RequestId(request)), NOW).unwrap();
        }
        for request in 1..=2 {
            assert_eq!(claims.check(&claim(1, 9), NOW), Err(FundsError::ClaimOpen));
            let end = if request == paid { ClaimEnd::Paid } else { ClaimEnd::ForNothing };
            claims = again(&claims);
            claims.end(RequestId(request), end);
        }
        let want = if paid == 0 { Ok(()) } else { Err(FundsError::ClaimPaid(RequestId(1))) };
        assert_eq!(claims.check(&claim(1, 9), NOW), want, "the part that was paid was {paid}");
        // Said again by a gateway whose exchange had died.
        claims.begin(&claim(1, 1), Some(RequestId(2)), NOW).unwrap();
        assert_eq!(claims.check(&claim(1, 9), NOW), Err(FundsError::ClaimOpen));
        claims.end(RequestId(2), ClaimEnd::ForNothing);
        assert_eq!(claims.check(&claim(1, 9), NOW), want);
    }
}

#[test]
fn a_claim_is_over_after_a_day_or_sooner_where_it_says_so() {
    for (kept_for, ms) in
        [(u64::MAX, CLAIM_AGE_MAX.0), (CLAIM_AGE_MAX.0 + 1, CLAIM_AGE_MAX.0), (5_000, 5_000)]
    {
        let mut claims = Claims::default();
        let asked = |first| Claim { kept_for: DurationMs(kept_for), ..claim(1, first) };
        claims.begin(&asked(1), Some(RequestId(1)), NOW).unwrap();
        assert_eq!(
            claims.check(&asked(2), later(2 * ms)),
            Err(FundsError::ClaimOpen),
            "never while it is open"
        );
        claims.end(RequestId(1), ClaimEnd::Paid);
        assert_eq!(claims.check(&asked(2), later(ms - 1)), Err(FundsError::ClaimPaid(RequestId(1))));
        assert_eq!(claims.check(&asked(2), later(ms)), Ok(()));
        let other = Claim { fingerprint: Digest32([8; 32]), ..asked(2) };
        assert_eq!(claims.begin(&other, Some(RequestId(2)), later(ms)), Ok(()), "for anything");
        assert_eq!(claims.check(&asked(3), later(ms)), Err(FundsError::ClaimTaken));
        assert_eq!((claims.by_name.len(), claims.ended.len()), (1, 0));
    }
}

#[test]
fn claims_are_bounded_and_no_open_one_is_forgotten() {
    let mut claims = Claims::bounded(3);
    claims.begin(&claim(1, 1), Some(RequestId(1)), NOW).unwrap();
    paid(&mut claims, 2, 2, NOW);
    paid(&mut claims, 3, 3, later(1));
    paid(&mut claims, 4, 4, later(2));
    let of = |claims: &Claims| [1, 2, 3, 4].map(|name| claims.check(&claim(name, 9), later(2)).is_ok());
    assert_eq!(of(&claims), [false, true, false, false], "the oldest that was paid went");
    let short = Claim { kept_for: DurationMs(10), ..claim(5, 5) };
    claims.begin(&short, Some(RequestId(5)), later(2)).unwrap();
    claims.end(RequestId(5), ClaimEnd::Paid);
    assert_eq!(of(&claims), [false, true, true, false]);
    paid(&mut claims, 6, 6, later(3));
    assert_eq!(of(&claims), [false, true, true, false], "what would be over first goes first");
    claims.begin(&claim(7, 7), Some(RequestId(7)), later(3)).unwrap();
    claims.begin(&claim(8, 8), Some(RequestId(8)), later(3)).unwrap();
    let full = claims.begin(&claim(9, 9), Some(RequestId(9)), later(3));
    assert_eq!(full, Err(FundsError::TooMany(TOO_MANY)), "all are open");
    assert_eq!(claims.by_name.len(), 3);
    claims.end(RequestId(7), ClaimEnd::ForNothing);
    claims.begin(&claim(9, 9), Some(RequestId(9)), later(3)).unwrap();
}

#[test]
fn what_is_over_is_dropped_a_few_at_a_time() {
    let mut claims = Claims::default();
    for name in 1..=9 {
        paid(&mut claims, name, name.into(), NOW);
    }
    let over = later(CLAIM_AGE_MAX.0);
    for (name, left) in [(10, 6), (11, 3), (12, 3)] {
        paid(&mut claims, name, name.into(), over);
        assert_eq!(claims.by_name.len(), left);
    }
}

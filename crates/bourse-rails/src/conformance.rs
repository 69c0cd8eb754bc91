//! What every [`PaymentRail`] must do, as assertions that any implementation can run in its tests.

use crate::rail::{Note, Payee, PaymentRail, Payout, RAIL_NAME_BYTES_MAX, RailError, Standing, Verdict};
use bourse_types::{NanoUsd, PayoutId, UnixMs};

/// A payee whom every rail under test can pay.
const PAYEE: &str = "payee-1";
/// Looking up a payout that is on its way, at most.
const LOOKS_MAX: usize = 16;

/// Runs the suite over a new rail. `payments` tells how often the other side was made to pay an id so far; for a rail that
/// leaves it to people, how often it stands on their list.
///
/// # Panics
/// When the implementation breaks a rule; the message names it.
pub fn check_rail(rail: &dyn PaymentRail, payments: impl Fn(PayoutId) -> usize) {
    let can = rail.capabilities();
    assert!(!can.name.is_empty() && can.unit > NanoUsd::ZERO, "a rail has a name and a unit");
    assert!(can.name.len() <= RAIL_NAME_BYTES_MAX, "a journal takes its name");
    assert_eq!(rail.capabilities(), can, "capabilities never change");
    let first = payout(1, 3 * can.unit.0);
    assert_eq!(rail.check(&first.payee), Ok(()), "a payee that can be paid is not refused");
    assert_eq!(rail.look_up(first.id), Ok(Standing::Unknown), "what was never sent is unknown");
    assert!(rail.decide(first.id, &paid("r")).is_err(), "nobody decides what was never sent");

    let sent = rail.send(&first).expect("a payout of whole units is taken");
    assert_ne!(sent, Standing::Unknown, "what was sent is known");
    assert_eq!(payments(first.id), 1, "it is paid, or listed, once");
    let again = rail.send(&first).expect("the same payout again is no error");
    assert_eq!(again, sent, "repeating tells what became of the first");
    assert_eq!(payments(first.id), 1, "repeating pays nothing");

    let mut other = first.clone();
    other.amount = NanoUsd(4 * can.unit.0);
    assert_eq!(rail.send(&other), Err(RailError::Conflict(first.id)), "an id has one amount");
    let payee = Payee::parse("payee-2").expect("an address");
    let other = Payout { payee, ..first.clone() };
    assert_eq!(rail.send(&other), Err(RailError::Conflict(first.id)), "an id has one payee");
    assert_eq!(payments(first.id), 1, "a conflict pays nothing");

    let second = payout(2, can.unit.0);
    rail.send(&second).expect("the smallest amount is taken");
    assert_eq!((payments(first.id), payments(second.id)), (1, 1), "payouts do not meet");
    ends(rail, &first);
    assert_eq!(payments(first.id), 1, "its end pays nothing more");
    if can.is_by_hand {
        by_hand(rail, &second);
    } else {
        let refused = rail.decide(second.id, &paid("r"));
        assert_eq!(refused, Err(RailError::NotByHand(can.name)), "the rail decides itself");
    }
}

/// What was sent before is known to a rail that was opened again, and stays paid once.
///
/// # Panics
/// When it is not.
pub fn check_reopened(rail: &dyn PaymentRail, payments: impl Fn(PayoutId) -> usize) {
    let first = payout(1, 3 * rail.capabilities().unit.0);
    assert_ne!(rail.look_up(first.id), Ok(Standing::Unknown), "what was sent is known");
    assert!(rail.send(&first).is_ok(), "the same payout again is no error");
    assert_eq!(payments(first.id), 1, "repeating pays nothing");
}

fn payout(n: u8, nano_usd: u64) -> Payout {
    let id = PayoutId::new(UnixMs(1_800_000_000_000), [n; 10]);
    let payee = Payee::parse(PAYEE).expect("an address");
    Payout { id, payee, amount: NanoUsd(nano_usd), memo: format!("bourse {id}") }
}

fn paid(reference: &str) -> Verdict {
    Verdict::Paid { reference: Note::parse(reference).expect("a reference") }
}

/// A payout comes to an end, which stays.
fn ends(rail: &dyn PaymentRail, payout: &Payout) {
    if rail.capabilities().is_by_hand {
        let is_paid = rail.decide(payout.id, &paid("wire 7"));
        assert_eq!(is_paid, Ok(paid("wire 7").into()), "a person's word counts");
        assert_eq!(rail.decide(payout.id, &paid("wire 7")), is_paid, "saying it again changes nothing");
    }
    let mut looks = (0..LOOKS_MAX).map(|_| rail.look_up(payout.id).expect("it answers"));
    let end = looks.find(|standing| *standing != Standing::Pending).expect("it ends some time");
    assert!(matches!(end, Standing::Paid { .. }), "a good payout is paid: {end:?}");
    assert_eq!(rail.look_up(payout.id), Ok(end.clone()), "an end stays");
    assert_eq!(rail.send(payout), Ok(end), "sending what has ended tells its end");
}

fn by_hand(rail: &dyn PaymentRail, payout: &Payout) {
    let failed = Verdict::Failed { reason: Note::parse("no such account").expect("a reason") };
    assert_eq!(rail.decide(payout.id, &failed), Ok(failed.clone().into()), "a person may refuse");
    assert_eq!(rail.look_up(payout.id), Ok(failed.into()), "which is told");
    assert_eq!(
        rail.decide(payout.id, &paid("wire 8")),
        Err(RailError::Conflict(payout.id)),
        "nobody says both"
    );
}

//! Records, snapshots and bounds of payouts.

use super::*;
use crate::payouts::{PayeeRecord, Payouts};
use crate::{PAYOUTS_FAILED_KEPT_MAX, PAYOUTS_OPEN_MAX, PAYOUTS_PAID_KEPT_MAX};
use bourse_ledger::Reader;
use bourse_types::AccountId;

fn payout(n: u64, state: PayoutState) -> crate::payouts::Payout {
    crate::payouts::Payout {
        seller: AccountId(100 + n),
        amount: NanoUsd(1_000 + n),
        payee: Payee::parse("maple-1").unwrap(),
        rail: "fake".to_owned(),
        state,
        since: UnixMs(START.0 + n),
    }
}

fn id(n: u64) -> PayoutId {
    PayoutId::new(UnixMs(START.0 + n), [0; 10])
}

fn note() -> Note {
    Note::parse("n").unwrap()
}

fn became(n: u64, state: PayoutState) -> PayoutRecord {
    PayoutRecord::Became { id: id(n), state, at: UnixMs(7) }
}

fn planned(n: u64) -> PayoutRecord {
    PayoutRecord::Planned { id: id(n), payout: payout(n, PayoutState::Planned) }
}

fn states() -> [PayoutState; 5] {
    use PayoutState::{Failed, Late, Paid, Planned, Sending};
    [Planned, Sending, Paid(note()), Failed(note()), Late(note())]
}

#[test]
fn records_round_trip_and_foreign_ones_are_refused() {
    let records = states().map(|state| became(1, state)).into_iter().chain([planned(1)]);
    for record in records {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(PayoutRecord::read(&mut reader), Ok(record));
        assert_eq!(reader.remaining(), 0);
        for n in 0..bytes.len() {
            assert!(PayoutRecord::read(&mut Reader::new(&bytes[..n])).is_err(), "{n}");
        }
        bytes[16] = 2;
        assert!(PayoutRecord::read(&mut Reader::new(&bytes)).is_err());
    }
    for payee in [None, Some(Payee::parse("maple-1").unwrap())] {
        let record = PayeeRecord { seller: AccountId(9), payee };
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(PayeeRecord::read(&mut Reader::new(&bytes)), Ok(record));
        assert!(PayeeRecord::read(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}

/// From each state to each: only what can happen is taken.
#[test]
fn a_payout_becomes_only_what_it_can_become() {
    let ways: [&[usize]; 5] = [&[], &[1], &[1, 2], &[1, 3], &[1, 3, 4]];
    let allowed: [&[usize]; 5] = [&[1, 3], &[2, 3], &[], &[4], &[2]];
    for (from, way) in ways.iter().enumerate() {
        for to in 0..5 {
            let mut payouts = Payouts::default();
            payouts.take(planned(1)).unwrap();
            way.iter().for_each(|n| payouts.take(became(1, states()[*n].clone())).unwrap());
            let taken = payouts.take(became(1, states()[to].clone()));
            assert_eq!(taken.is_ok(), allowed[from].contains(&to), "from {from} to {to}");
        }
    }
    let mut payouts = Payouts::default();
    assert!(payouts.take(became(1, PayoutState::Sending)).is_err(), "never planned");
    payouts.take(planned(1)).unwrap();
    assert!(payouts.take(planned(1)).is_err(), "planned twice");
    let second = PayoutRecord::Planned { id: id(2), payout: payout(1, PayoutState::Planned) };
    assert!(payouts.take(second).is_err(), "a seller has one on its way");
}

#[test]
fn snapshots_know_every_state_and_who_waits() {
    let mut payouts = Payouts::default();
    for (n, way) in [&[][..], &[1], &[1, 2], &[1, 3], &[1, 3, 4]].into_iter().enumerate() {
        let n = n as u64;
        payouts.take(planned(n)).unwrap();
        for state in way {
            payouts.take(became(n, states()[*state].clone())).unwrap();
        }
        payouts.set_payee(PayeeRecord { seller: AccountId(200 + n), payee: Payee::parse("p").ok() });
    }
    // A seller who waits no more.
    payouts.set_payee(PayeeRecord { seller: AccountId(104), payee: Payee::parse("q").ok() });
    let mut bytes = Vec::new();
    payouts.write(&mut bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(Payouts::read(&mut reader), Ok(payouts));
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn what_is_remembered_is_bounded() {
    let check = |state: PayoutState, kept_max: usize| {
        let mut payouts = Payouts::default();
        for n in 0..=kept_max as u64 {
            payouts.take(planned(n)).unwrap();
            payouts.take(became(n, PayoutState::Sending)).unwrap();
            payouts.take(became(n, state.clone())).unwrap();
            let is_all = payouts.all().len() == (n as usize + 1).min(kept_max);
            assert!(is_all, "{n}");
        }
        assert!(payouts.get(id(0)).is_none() && payouts.get(id(1)).is_some(), "the oldest goes first");
    };
    check(PayoutState::Paid(note()), PAYOUTS_PAID_KEPT_MAX);
    check(PayoutState::Failed(note()), PAYOUTS_FAILED_KEPT_MAX);
}

#[test]
fn the_number_of_payouts_on_their_way_is_bounded() {
    let shop = Shop::with_sales(1);
    let fill = |from: u64, until: u64| {
        let mut core = shop.exchange.shared.core.lock();
        for n in from..until {
            core.payouts.take(planned(n)).unwrap();
        }
    };
    fill(0, PAYOUTS_OPEN_MAX as u64 - 1);
    assert_eq!(shop.withheld(), "");
    fill(PAYOUTS_OPEN_MAX as u64 - 1, PAYOUTS_OPEN_MAX as u64);
    assert_eq!(shop.withheld(), "too many payouts are on their way");
}

#[test]
fn a_payout_without_its_hold_is_found_and_not_replayed() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Delayed(9)]);
    let line = shop.run().remove(0);
    {
        let mut core = shop.exchange.shared.core.lock();
        let hold = PayoutId::parse(&line.id).unwrap().transfer(0);
        core.abandon(&[hold], START).unwrap();
    }
    let report = shop.exchange.check(START).unwrap();
    let want = [
        "0 holds are of payouts, 1 payouts are on their way".to_owned(),
        format!("payout {} is sending and its hold is not", line.id),
    ];
    assert_eq!(report.problems, want);
    let mut core = shop.exchange.shared.core.lock();
    assert!(core.replay_payout(planned(5)).is_err(), "a plan that holds nothing");
}

#[test]
fn books_from_before_payouts_get_the_account_when_they_need_it() {
    let exchange = super::super::market(1_000);
    assert_eq!(exchange.account("escrow"), None);
    ask(&exchange, r#"{"op":"deposit","account":"operator","amount_usd":"1"}"#);
    assert_eq!(exchange.account("escrow"), Some(crate::ESCROW));
    check_clean(&exchange);
}

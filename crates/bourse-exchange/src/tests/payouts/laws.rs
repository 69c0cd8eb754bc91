//! Whatever happens in whatever order: nobody is paid more than was earned, and not a nano-dollar is lost.

use super::*;
use bourse_ledger::AccountKind;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Call {
    Sell,
    Run,
    Fault(Fault),
    Address,
    Epoch,
    Flush,
    Kill,
}

fn call() -> impl Strategy<Value = Call> {
    let faults = vec![
        Fault::None,
        Fault::QuestionLost,
        Fault::AnswerLost,
        Fault::Twice,
        Fault::Refused,
        Fault::Delayed(2),
        Fault::PaidLate(1),
        Fault::PaidLate(3),
    ];
    prop_oneof![
        3 => Just(Call::Sell),
        4 => Just(Call::Run),
        4 => prop::sample::select(faults).prop_map(Call::Fault),
        2 => Just(Call::Address),
        1 => Just(Call::Epoch),
        1 => Just(Call::Flush),
        2 => Just(Call::Kill),
    ]
}

/// Credited, paid in the books, held.
fn seller(shop: &Shop) -> (u64, u64, u64) {
    let core = shop.exchange.shared.core.lock();
    let payable = core.state.accounts().find(|(account, _)| account.kind == AccountKind::SellerPayable);
    let balance = payable.map(|(_, balance)| balance).unwrap_or_default();
    (balance.credits_posted as u64, balance.debits_posted as u64, balance.debits_pending as u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn never_more_than_owed_and_nothing_lost(calls in proptest::collection::vec(call(), 1..60)) {
        let mut shop = Shop::with_sales(1);
        ask(&shop.exchange, r#"{"op":"deposit","account":"operator","amount_usd":"1"}"#);
        let (mut now, mut can_be_late) = (START, false);
        for call in calls {
            now = UnixMs(now.0 + 1_000);
            match call {
                Call::Sell => shop.sell(),
                Call::Run => shop.exchange.run_payouts(now).unwrap(),
                Call::Fault(fault) => {
                    can_be_late |= matches!(fault, Fault::PaidLate(_));
                    shop.faulty.then(fault);
                }
                Call::Address => shop.address("maple-2"),
                Call::Epoch => drop(shop.exchange.close_epoch(now).unwrap()),
                Call::Flush => drop(shop.exchange.flush().unwrap()),
                Call::Kill => shop = shop.killed(),
            }
            let (credited, booked, held) = seller(&shop);
            prop_assert!(booked + held <= credited, "{} and {} of {}", booked, held, credited);
            prop_assert!(can_be_late || shop.paid().0 <= credited, "paid {} of {}", shop.paid().0, credited);
            let ids: std::collections::BTreeSet<_> = shop.fake.payments().iter().map(|p| p.id).collect();
            prop_assert_eq!(ids.len(), shop.paid().1, "an id is paid once");
        }
        // Until everything has ended, and what came late is covered.
        for n in 0..40 {
            if n > 20 {
                shop.sell();
            }
            shop.exchange.run_payouts(now).unwrap();
        }
        ask(&shop.exchange, r#"{"op":"payout_address","seller":"local"}"#);
        for _ in 0..8 {
            shop.exchange.run_payouts(now).unwrap();
        }
        let (credited, booked, held) = seller(&shop);
        prop_assert_eq!(held, 0, "{:?}", shop.lines().0);
        let late = shop.lines().0.into_iter().filter(|line| line.state == "late");
        let late: u64 = late.map(|line| NanoUsd::parse_usd(&line.amount_usd).unwrap().0).sum();
        prop_assert_eq!(booked + late, shop.paid().0, "what left the books is what the other side paid");
        prop_assert!(booked <= credited);
        if late == 0 {
            check_clean(&shop.exchange);
        }
        let digest = shop.exchange.digest();
        prop_assert_eq!(shop.killed().exchange.digest(), digest);
    }
}

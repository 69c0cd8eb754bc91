//! Several sellers and what stands between them: money that left unseen, who ended first, and an exchange that stops.

use super::*;
use crate::PAYOUTS_PAID_KEPT_MAX;
use bourse_ledger::CodecError;
use bourse_types::{AccountId, DurationMs, SellerName};
use bourse_wire::funds::FundsError;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The nano-dollars that a seller is owed out of what the operator has.
fn owe(exchange: &Exchange, seller: &str, nano: u64) -> AccountId {
    let name = SellerName::parse(seller).unwrap();
    let payee = Payee::parse(&format!("{seller}-1")).unwrap();
    let id = exchange.shared.house_transfer(START).unwrap();
    let owe = |core: &mut crate::core::Core| {
        let seller = core.set_payee(&name, Some(payee), START)?;
        core.move_between(crate::OPERATOR, seller, NanoUsd(nano), id)?;
        Ok::<_, FundsError>(seller)
    };
    exchange.shared.change(owe).unwrap()
}

fn why(shop: &Shop, seller: &str) -> String {
    let line = shop.lines().1.into_iter().find(|line| line.seller == seller).unwrap();
    line.withheld.unwrap_or_default()
}

/// Its escrow is the books' 9,760,000 less the second payment that was made and is not booked.
#[test]
fn what_left_unseen_is_promised_to_nobody_else() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::PaidLate(2)]);
    shop.run();
    shop.address("maple-2");
    shop.run();
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["late".to_owned(), "paid".to_owned()], (2 * SHARE, 2)));
    owe(&shop.exchange, "oak", 9_700_000);
    assert_eq!(why(&shop, "oak"), "$0.00952 lies in escrow");
    shop.run();
    assert_eq!(shop.paid(), (2 * SHARE, 2), "nobody paid in what oak would be paid with");
    ask(&shop.exchange, r#"{"op":"deposit","account":"subsidy","amount_usd":"0.00018"}"#);
    shop.run();
    assert_eq!(shop.paid(), (2 * SHARE + 9_700_000, 3));
}

#[test]
fn a_seller_whose_failed_payout_was_paid_after_all_waits_for_nobody() {
    let mut shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::PaidLate(1)]);
    shop.run();
    shop.run();
    assert_eq!(shop.states(), ["paid"]);
    shop.sell();
    assert_eq!(shop.withheld(), "", "its address takes money");
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["paid".to_owned(); 2], (2 * SHARE, 2)));
    let digest = shop.exchange.digest();
    assert_eq!(shop.killed().exchange.digest(), digest);
}

#[test]
fn a_late_payment_lifts_only_its_own_halt() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::PaidLate(3)]);
    shop.run();
    shop.address("maple-2");
    shop.faults(&[Fault::None, Fault::Refused]);
    shop.run();
    let second = shop.lines().0[1].id.clone();
    shop.run();
    shop.run();
    assert_eq!(shop.states(), ["paid", "failed"]);
    assert_eq!(shop.withheld(), format!("{second} failed; setting the address again tries again"));
}

/// Says nothing, and its exchange stops in the first call.
#[derive(Default)]
struct Stopping {
    shared: OnceLock<std::sync::Weak<crate::exchange::Shared>>,
    calls: AtomicUsize,
}

impl PaymentRail for Stopping {
    fn capabilities(&self) -> Capabilities {
        FakeRail::default().capabilities()
    }

    fn check(&self, _: &Payee) -> Result<(), Note> {
        Ok(())
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        self.look_up(payout.id)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let shared = self.shared.get().and_then(std::sync::Weak::upgrade).unwrap();
        shared.core.lock().stop(FundsError::Closing);
        Err(RailError::Conflict(id))
    }
}

#[test]
fn an_exchange_that_stops_asks_the_rail_no_more() {
    let rail = Arc::new(Stopping::default());
    let shop = Shop::new();
    for seller in ["elm", "oak", "yew"] {
        owe(&shop.exchange, seller, SHARE);
    }
    shop.exchange.flush().unwrap();
    let shop = shop.killed_with(config(Rail::of(rail.clone())));
    rail.shared.get_or_init(|| Arc::downgrade(&shop.exchange.shared));
    let ended = shop.exchange.run_payouts(START);
    assert!(matches!(ended, Err(crate::PayoutsError::Funds(FundsError::Closing))), "{ended:?}");
    assert_eq!(
        rail.calls.load(Ordering::Relaxed),
        1,
        "who closes waits for the call that is out, and for no other"
    );
}

#[test]
fn an_address_that_the_rail_of_today_cannot_pay_is_not_sent_to() {
    let shop = Shop::with_sales(1);
    let own = shop.exchange.shared.config.clone();
    shop.exchange.flush().unwrap();
    let terms = PayoutTerms { minimum: NanoUsd(200_000), rail: Rail::default() };
    let shop = shop.killed_with(ExchangeConfig { payouts: terms, ..own.clone() });
    // To a person every address is one.
    shop.address("closed");
    shop.exchange.flush().unwrap();
    let shop = shop.killed_with(own);
    assert_eq!(shop.withheld(), "the rail cannot pay to its address: that account is closed");
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (Vec::<String>::new(), (0, 0)));
    shop.address("maple-1");
    shop.run();
    assert_eq!(shop.paid(), (SHARE, 1));
    check_clean(&shop.exchange);
}

#[test]
fn the_trouble_of_a_payout_that_a_person_ended_is_over() {
    let shop = Shop::with_sales(1);
    let terms = shop.exchange.shared.config.payouts.clone();
    shop.exchange.shared.change(|core| core.plan_payouts(&terms, &[3; 32], START)).unwrap();
    shop.exchange.flush().unwrap();
    let shop = shop.killed_with(config(Rail::default()));
    let line = shop.run().remove(0);
    assert_eq!((line.state.as_str(), line.trouble.is_some()), ("planned", true));
    ask(&shop.exchange, &format!(r#"{{"op":"fail_payout","payout":"{}","reason":"moved"}}"#, line.id));
    let line = shop.lines().0.remove(0);
    assert_eq!((line.note.as_deref(), line.trouble), (Some("moved"), None), "the reason is shown");
}

/// Counts who asks what became of a payout.
#[derive(Default)]
struct Counting {
    rail: FakeRail,
    looks: AtomicUsize,
}

impl PaymentRail for Counting {
    fn capabilities(&self) -> Capabilities {
        self.rail.capabilities()
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.rail.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        self.rail.send(payout)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.rail.look_up(id)
    }
}

fn id(n: u64) -> PayoutId {
    PayoutId::new(UnixMs(START.0 + n), [0; 10])
}

/// A payout of its own seller that ended so at that time.
fn ended(n: u64, state: PayoutState, at: UnixMs) -> [PayoutRecord; 3] {
    let payout = crate::payouts::Payout {
        seller: AccountId(10_000 + n),
        amount: NanoUsd(1_000),
        payee: Payee::parse("maple-1").unwrap(),
        rail: "fake".to_owned(),
        state: PayoutState::Planned,
        since: START,
    };
    [
        PayoutRecord::Planned { id: id(n), payout },
        PayoutRecord::Became { id: id(n), state: PayoutState::Sending, at: START },
        PayoutRecord::Became { id: id(n), state, at },
    ]
}

#[test]
fn failed_payouts_are_watched_for_seven_days_and_so_many_in_a_run() {
    let rail = Arc::new(Counting::default());
    let exchange = Exchange::in_memory(config(Rail::of(rail.clone())), [7; 32], START).unwrap();
    let fail = |from: u64, until: u64| {
        let mut core = exchange.shared.core.lock();
        for record in (from..until).flat_map(|n| ended(n, PayoutState::Failed(Note::of_others("n")), START)) {
            core.payouts.take(record).unwrap();
        }
    };
    let looks = |now: UnixMs| {
        rail.looks.store(0, Ordering::Relaxed);
        exchange.run_payouts(now).unwrap();
        rail.looks.load(Ordering::Relaxed)
    };
    fail(0, 128);
    let week = START.plus(DurationMs(7 * 24 * 3_600_000));
    assert_eq!((looks(START), looks(UnixMs(week.0 - 1)), looks(week)), (128, 128, 0));
    fail(128, 129);
    assert_eq!(looks(START), 128, "the latest");
}

#[test]
fn a_run_plans_so_many_and_the_next_one_the_rest() {
    let shop = Shop::new();
    ask(&shop.exchange, r#"{"op":"deposit","account":"operator","amount_usd":"1"}"#);
    for n in 0..1_025 {
        owe(&shop.exchange, &format!("seller-{n}"), SHARE);
        if n % 64 == 0 {
            shop.exchange.flush().unwrap();
        }
    }
    shop.run();
    assert_eq!(shop.paid().1, 1_024);
    shop.run();
    assert_eq!(shop.paid().1, 1_025);
    check_clean(&shop.exchange);
}

/// Who was planned first may end last.
#[test]
fn the_payout_that_ends_is_remembered_and_the_one_that_ended_first_is_forgotten() -> Result<(), CodecError> {
    let mut payouts = crate::payouts::Payouts::default();
    let paid = |n: u64| ended(n, PayoutState::Paid(Note::of_others("n")), UnixMs(START.0 + 1));
    let most = PAYOUTS_PAID_KEPT_MAX as u64;
    let last = paid(0);
    payouts.take(last[0].clone())?;
    payouts.take(last[1].clone())?;
    for record in (1..=most).flat_map(paid) {
        payouts.take(record)?;
    }
    payouts.take(last[2].clone())?;
    assert!(payouts.get(id(0)).is_some(), "whoever confirmed it is told of it, and may say it again");
    assert!(payouts.get(id(1)).is_none() && payouts.get(id(most)).is_some());
    let mut bytes = Vec::new();
    payouts.write(&mut bytes);
    assert_eq!(crate::payouts::Payouts::read(&mut bourse_ledger::Reader::new(&bytes)), Ok(payouts));
    Ok(())
}

/// What was sent is on its way; what was only planned goes where the operator says now.
#[test]
fn an_address_that_changes_before_the_sending_is_the_one_that_is_paid() {
    let plan = |shop: &Shop| {
        let terms = shop.exchange.shared.config.payouts.clone();
        shop.exchange.shared.change(|core| core.plan_payouts(&terms, &[3; 32], START)).unwrap();
        assert_eq!(shop.states(), ["planned"]);
    };
    let payees = |shop: &Shop| {
        let payments = shop.fake.payments();
        payments.iter().map(|payment| payment.payee.as_str().to_owned()).collect::<Vec<_>>()
    };
    let shop = Shop::with_sales(1);
    plan(&shop);
    shop.address("maple-2");
    shop.run();
    assert_eq!((payees(&shop), shop.paid()), (vec!["maple-2".to_owned()], (SHARE, 1)));
    assert_eq!(shop.states(), ["failed", "paid"]);
    assert_eq!(shop.lines().0[0].note.as_deref(), Some("its address was changed before it was sent"));
    let digest = shop.exchange.digest();
    check_clean(&shop.exchange);
    assert_eq!(shop.killed().exchange.digest(), digest);
    // Who is to be paid no more is not, and the same address again changes nothing.
    let shop = Shop::with_sales(1);
    plan(&shop);
    shop.address("maple-1");
    assert_eq!(shop.states(), ["planned"]);
    ask(&shop.exchange, r#"{"op":"payout_address","seller":"local"}"#);
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["failed".to_owned()], (0, 0)));
    assert_eq!(shop.books(), "seller 240000, escrow -10000000");
    // The rail may have it.
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::QuestionLost]);
    shop.run();
    shop.address("maple-2");
    assert_eq!(shop.states(), ["sending"]);
    shop.run();
    assert_eq!(payees(&shop), ["maple-1"]);
}

//! A rail that loses, repeats, delays, refuses and changes its mind, and an exchange that dies at any moment.

use super::*;

#[test]
fn lost_questions_and_answers_pay_once() {
    let check = |faults: &[Fault], runs: usize| {
        let shop = Shop::with_sales(1);
        shop.faults(faults);
        for _ in 0..runs {
            assert_eq!(shop.states().iter().filter(|state| *state == "paid").count(), 0, "{faults:?}");
            shop.run();
        }
        assert_eq!((shop.states(), shop.paid()), (vec!["paid".to_owned()], (SHARE, 1)), "{faults:?}");
        assert_eq!(shop.books(), "seller 0, escrow -9760000");
        check_clean(&shop.exchange);
    };
    // A look-up, then the sending, in each run.
    check(&[], 1);
    check(&[Fault::QuestionLost], 2);
    check(&[Fault::None, Fault::QuestionLost], 2);
    check(&[Fault::None, Fault::AnswerLost], 2);
    check(&[Fault::None, Fault::AnswerLost, Fault::AnswerLost], 3);
    check(&[Fault::Twice, Fault::Twice], 1);
    check(&[Fault::None, Fault::Delayed(3)], 4);
}

#[test]
fn why_a_rail_did_not_answer_is_shown_until_it_does() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::AnswerLost]);
    let trouble = shop.run()[0].trouble.clone().unwrap();
    assert_eq!(trouble, "the payment rail did not answer: the answer was lost");
    assert_eq!(shop.run()[0].trouble, None);
}

/// Says what the journal had when the rail was called.
struct Witness {
    rail: Arc<FakeRail>,
    journal: SharedJournal,
}

impl PaymentRail for Witness {
    fn capabilities(&self) -> Capabilities {
        self.rail.capabilities()
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.rail.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        assert_eq!(
            journalled(&self.journal).last(),
            Some(&(payout.id, "sending")),
            "durable before the call"
        );
        self.rail.send(payout)
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        self.rail.look_up(id)
    }
}

#[test]
fn the_journal_says_that_it_is_sending_before_the_rail_hears_of_it() {
    let mut shop = Shop::with_sales(1);
    let witness = Witness { rail: shop.fake.clone(), journal: shop.journal.clone() };
    shop.exchange.flush().unwrap();
    let config = config(Rail::of(Arc::new(witness)));
    shop = shop.killed_with(config);
    shop.run();
    assert_eq!(shop.paid(), (SHARE, 1));
}

#[test]
fn a_kill_at_any_moment_pays_once_and_under_one_id() {
    // Lost with the process: nothing, the planning, what the rail said.
    for (faults, is_flushed) in [
        (&[][..], true),
        (&[Fault::None, Fault::QuestionLost][..], true),
        (&[Fault::None, Fault::AnswerLost][..], true),
        (&[Fault::None, Fault::Delayed(2)][..], true),
        (&[Fault::None, Fault::Refused][..], true),
        (&[][..], false),
    ] {
        let shop = Shop::with_sales(1);
        shop.exchange.flush().unwrap();
        if is_flushed {
            shop.faults(faults);
            shop.run();
        } else {
            let terms = shop.exchange.shared.config.payouts.clone();
            shop.exchange.shared.core.lock().plan_payouts(&terms, &[3; 32], START).unwrap();
        }
        let known = journalled(&shop.journal);
        let mut shop = shop.killed();
        check_clean(&shop.exchange);
        for _ in 0..3 {
            shop.run();
            shop.exchange.flush().unwrap();
            shop = shop.killed();
        }
        let is_refused = faults.contains(&Fault::Refused);
        assert_eq!(shop.paid(), if is_refused { (0, 0) } else { (SHARE, 1) }, "{faults:?}");
        if let Some((id, _)) = known.first() {
            let ids: Vec<_> = journalled(&shop.journal).iter().map(|(id, _)| *id).collect();
            assert!(ids.iter().all(|other| other == id), "{faults:?}: one id for ever");
        }
        check_clean(&shop.exchange);
    }
}

#[test]
fn a_restart_gives_no_payout_back() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Delayed(1)]);
    shop.run();
    let digest = shop.exchange.digest();
    assert_eq!(shop.exchange.open_holds(), 0, "it is no request's");
    // As `kill -9`, and as an end in order, which releases what requests hold.
    let mut shop = shop.killed();
    assert_eq!(shop.exchange.digest(), digest);
    shop.exchange.close().unwrap();
    shop = shop.killed();
    assert_eq!(shop.books(), "seller 240000-240000, escrow -10000000");
    shop.exchange.tick(UnixMs(u64::MAX - 1)).unwrap();
    assert_eq!(shop.books(), "seller 240000-240000, escrow -10000000", "and it never falls due");
    shop.run();
    assert_eq!((shop.books().as_str(), shop.paid()), ("seller 0, escrow -9760000", (SHARE, 1)));
}

#[test]
fn a_refused_payout_gives_its_amount_back() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Refused]);
    let lines = shop.run();
    assert_eq!(lines[0].note.as_deref(), Some("the payee's account is closed"));
    assert_eq!((shop.books().as_str(), shop.paid()), ("seller 240000, escrow -10000000", (0, 0)));
    check_clean(&shop.exchange);
}

#[test]
fn a_payment_after_a_failure_is_told_and_booked_against_what_is_owed() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::PaidLate(1)]);
    shop.run();
    assert_eq!(shop.books(), "seller 240000, escrow -10000000");
    shop.run();
    assert_eq!(shop.states(), ["paid"]);
    assert_eq!((shop.books().as_str(), shop.paid()), ("seller 0, escrow -9760000", (SHARE, 1)));
    let words: Vec<_> = journalled(&shop.journal).into_iter().map(|(_, word)| word).collect();
    assert_eq!(words, ["planned", "sending", "failed", "late", "paid"]);
    check_clean(&shop.exchange);
}

#[test]
fn a_payment_after_a_failure_that_nothing_covers_waits_and_the_audit_tells_it() {
    let mut shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::PaidLate(2)]);
    shop.run();
    // Tried again elsewhere, and paid; then the first comes after all.
    shop.address("maple-2");
    shop.run();
    assert_eq!(shop.states(), ["failed", "paid"]);
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["late".to_owned(), "paid".to_owned()], (2 * SHARE, 2)));
    let id = shop.lines().0[0].id.clone();
    assert_eq!(shop.withheld(), format!("{id} was paid after it had failed, and is not covered yet"));
    let report = shop.exchange.check(START).unwrap();
    let want =
        format!("payout {id} was paid after it had failed; what local is owed does not cover its $0.00024");
    assert_eq!(report.problems, [want]);
    // It outlives a restart, nothing else is paid meanwhile, and the next sale covers it.
    shop.exchange.flush().unwrap();
    shop = shop.killed();
    shop.run();
    assert_eq!(shop.states(), ["late", "paid"]);
    shop.sell();
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["paid".to_owned(); 2], (2 * SHARE, 2)));
    assert_eq!(shop.books(), "seller 0, escrow -9520000");
    check_clean(&shop.exchange);
}

#[test]
fn a_late_payment_beside_a_payout_on_its_way_halts_only_what_comes_after() {
    let mut shop = Shop::with_sales(1);
    // The first is refused and paid when it was looked up twice; the second takes its time.
    shop.faults(&[Fault::None, Fault::PaidLate(2)]);
    shop.run();
    shop.address("maple-2");
    shop.faults(&[Fault::None, Fault::Delayed(3), Fault::None]);
    shop.run();
    shop.run();
    assert_eq!(shop.states(), ["late", "sending"]);
    shop.run();
    shop.run();
    assert_eq!(shop.states(), ["late", "paid"]);
    shop.sell();
    shop.run();
    assert_eq!((shop.states(), shop.paid().0), (vec!["paid".to_owned(); 2], 2 * SHARE));
    check_clean(&shop.exchange);
}

#[test]
fn a_payout_of_another_rail_waits_for_its_own() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Delayed(1)]);
    shop.run();
    let own = shop.exchange.shared.config.clone();
    let shop = shop.killed_with(config(Rail::default()));
    let line = shop.run().remove(0);
    let want =
        "the payment rail did not answer: it is a payout of the rail `fake`, and the market has `manual`";
    assert_eq!((line.state.as_str(), line.trouble.as_deref()), ("sending", Some(want)));
    let shop = shop.killed_with(own);
    shop.run();
    assert_eq!((shop.states(), shop.paid()), (vec!["paid".to_owned()], (SHARE, 1)));
}

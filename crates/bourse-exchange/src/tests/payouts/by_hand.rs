//! Payouts that a person pays and decides.

use super::*;
use bourse_rails::ManualRail;

/// What a person is asked to pay is whole cents.
const CENTS: u64 = 20_000_000;

struct Desk {
    exchange: Exchange,
    journal: SharedJournal,
}

impl Desk {
    /// A market whose seller is owed 24 cents less a little, one payout of it on the list.
    fn new() -> Self {
        let journal = SharedJournal::default();
        let exchange = Exchange::over(journal.clone(), Self::config(), ([7; 32], 0), START).unwrap();
        ask(&exchange, r#"{"op":"deposit","account":"operator","amount_usd":"1"}"#);
        let desk = Self { exchange, journal };
        desk.sell(1);
        ask(&desk.exchange, r#"{"op":"payout_address","seller":"local","address":"DE89 3704"}"#);
        desk.run(0);
        desk
    }

    /// At so many milliseconds, so that payouts are in order.
    fn run(&self, after: u64) {
        self.exchange.admin(AdminRequest::RunPayouts {}, UnixMs(START.0 + after)).unwrap();
    }

    fn config() -> ExchangeConfig {
        let payouts =
            PayoutTerms { minimum: NanoUsd(CENTS), rail: Rail::of(Arc::new(ManualRail::default())) };
        ExchangeConfig { payouts, ..config(Rail::default()) }
    }

    fn sell(&self, n: u64) {
        let grant = key(&self.exchange, None);
        let (id, total) = (request(n, START), 21_000_002);
        self.exchange.hold(&hold(id, grant, total, START)).unwrap();
        self.exchange.settle(settlement(id, grant, total, START)).unwrap();
    }

    fn line(&self) -> PayoutLine {
        match ask(&self.exchange, r#"{"op":"list_payouts"}"#) {
            AdminReply::Payouts { payouts, .. } => payouts.into_iter().next_back().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn confirm(&self, reference: &str) -> AdminRequest {
        AdminRequest::ConfirmPayout { payout: self.line().id, reference: reference.to_owned() }
    }

    fn fail(&self) -> AdminRequest {
        AdminRequest::FailPayout { payout: self.line().id, reason: "no such account".to_owned() }
    }

    fn does(&self, asked: AdminRequest) -> PayoutLine {
        match self.exchange.admin(asked, START).unwrap() {
            AdminReply::Payout { payout } => payout,
            other => panic!("{other:?}"),
        }
    }

    fn refuses(&self, asked: AdminRequest) -> String {
        self.exchange.admin(asked, START).unwrap_err().to_string()
    }

    /// A new process, whose list is empty.
    fn restarted(self) -> Self {
        self.exchange.kill();
        drop(self.exchange);
        let exchange = Exchange::over(self.journal.clone(), Self::config(), ([7; 32], 1), START).unwrap();
        Self { exchange, journal: self.journal }
    }

    fn withheld(&self) -> String {
        match ask(&self.exchange, r#"{"op":"list_payouts"}"#) {
            AdminReply::Payouts { mut owed, .. } => owed.remove(0).withheld.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    fn seller(&self) -> String {
        let shown = books(&self.exchange);
        shown.split(", ").find(|line| line.starts_with("seller")).unwrap().to_owned()
    }
}

#[test]
fn a_person_pays_and_says_so_once() {
    let desk = Desk::new();
    let line = desk.line();
    assert_eq!((line.state.as_str(), line.amount_usd.as_str()), ("sending", "0.020000000"));
    assert_eq!(desk.seller(), "seller 20160000-20000000");
    let (asked, other) = (desk.confirm("wire 7"), desk.confirm("wire 8"));
    for _ in 0..2 {
        let done = desk.does(asked.clone());
        assert_eq!((done.state.as_str(), done.note.as_deref()), ("paid", Some("wire 7")));
        assert_eq!(desk.seller(), "seller 160000", "confirmed twice, posted once");
    }
    let id = line.id;
    assert_eq!(desk.refuses(other), format!("{id} ended before: paid, wire 7"));
    assert_eq!(desk.refuses(desk.fail()), format!("{id} ended before: paid, wire 7"));
    assert_eq!(desk.seller(), "seller 160000");
    check_clean(&desk.exchange);
}

#[test]
fn a_person_says_that_it_was_not_paid() {
    let desk = Desk::new();
    for _ in 0..2 {
        let done = desk.does(desk.fail());
        assert_eq!((done.state.as_str(), done.note.as_deref()), ("failed", Some("no such account")));
        assert_eq!(desk.seller(), "seller 20160000");
    }
    check_clean(&desk.exchange);
}

#[test]
fn a_word_that_comes_after_a_failure_is_an_error_and_not_lost() {
    let desk = Desk::new();
    desk.does(desk.fail());
    let asked = desk.confirm("wire 7");
    let id = desk.line().id;
    let want = format!(
        "{id} had failed and its amount was given back to local; now it is noted as paid late, and was booked against \
         what the seller is owed"
    );
    assert_eq!(desk.refuses(asked.clone()), want);
    assert_eq!((desk.seller().as_str(), desk.line().state.as_str()), ("seller 160000", "paid"));
    assert_eq!(desk.does(asked).state, "paid", "it is done by then");
    assert_eq!(
        desk.withheld(),
        "it is below the least payout of $0.02",
        "nothing failed, and the address is right"
    );
    check_clean(&desk.exchange);
}

#[test]
fn a_word_that_comes_after_a_failure_and_another_payout_waits_to_be_covered() {
    let desk = Desk::new();
    desk.does(desk.fail());
    let first = desk.confirm("wire 7");
    ask(&desk.exchange, r#"{"op":"payout_address","seller":"local","address":"DE90"}"#);
    desk.run(1);
    let second = desk.confirm("wire 8");
    desk.does(second);
    for _ in 0..2 {
        let said = desk.refuses(first.clone());
        assert!(said.contains("will be booked when what the seller is owed covers it"), "{said}");
        assert_eq!(desk.seller(), "seller 160000");
    }
    let report = desk.exchange.check(START).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    // As well after a restart, and by itself when the seller has sold enough.
    desk.exchange.flush().unwrap();
    let desk = desk.restarted();
    assert!(desk.refuses(first.clone()).contains("will be booked"));
    desk.sell(2);
    desk.run(2);
    assert_eq!(desk.seller(), "seller 320000");
    assert_eq!(desk.does(first).note.as_deref(), Some("wire 7"));
    check_clean(&desk.exchange);
}

#[test]
fn a_restart_empties_the_list_and_the_word_counts_all_the_same() {
    let desk = Desk::new().restarted();
    let line = desk.line();
    assert_eq!(line.state, "sending", "the journal knows it");
    let done = desk.does(desk.confirm("wire 7"));
    assert_eq!((done.state.as_str(), done.id), ("paid", line.id));
    let desk = Desk::new().restarted();
    desk.run(1);
    assert_eq!(desk.line().state, "sending", "listed again, not paid by itself");
    check_clean(&desk.exchange);
}

#[test]
fn what_was_not_sent_is_taken_back_and_not_confirmed() {
    let desk = Desk::new();
    desk.does(desk.confirm("wire 7"));
    desk.sell(2);
    let terms = desk.exchange.shared.config.payouts.clone();
    desk.exchange.shared.change(|core| core.plan_payouts(&terms, &[9; 32], UnixMs(START.0 + 1))).unwrap();
    let id = desk.line().id;
    let said = desk.refuses(desk.confirm("wire 8"));
    assert_eq!(said, format!("{id} was not sent yet; `bourse payout run` sends it"));
    assert_eq!(desk.does(desk.fail()).state, "failed");
    assert_eq!(desk.seller(), "seller 20320000");
    check_clean(&desk.exchange);
}

#[test]
fn a_rail_that_pays_by_itself_is_not_told() {
    let shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Delayed(9)]);
    let id = shop.run().remove(0).id;
    for op in [r#""op":"confirm_payout","reference":"r""#, r#""op":"fail_payout","reason":"r""#] {
        let said = refused(&shop.exchange, &format!(r#"{{{op},"payout":"{id}"}}"#));
        assert_eq!(said, "the rail `fake` says itself what became of a payout");
    }
    assert_eq!(shop.states(), ["sending"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let desk = Desk::new();
    let id = desk.line().id;
    let check = |json: &str, want: &str| assert_eq!(refused(&desk.exchange, json), want);
    let unknown = "no payout is called `pay-1`; `bourse payout list` shows them";
    check(r#"{"op":"confirm_payout","payout":"pay-1","reference":"r"}"#, unknown);
    let other = PayoutId::new(START, [1; 10]);
    check(
        &format!(r#"{{"op":"fail_payout","payout":"{other}","reason":"r"}}"#),
        &format!("no payout is called `{other}`; `bourse payout list` shows them"),
    );
    let no_text = "a reference or reason needs 1 to 256 bytes and no control characters";
    check(&format!(r#"{{"op":"confirm_payout","payout":"{id}","reference":""}}"#), no_text);
    let address = |seller: &str, address: &str| {
        format!(r#"{{"op":"payout_address","seller":"{seller}","address":"{address}"}}"#)
    };
    check(&address("", "x"), "`` is no seller's name; `bourse payout list` shows them");
    check(&address("local", ""), "a payee's address needs 1 to 256 bytes and no control characters");
    let shop = Shop::new();
    let said = refused(&shop.exchange, &address("local", "closed"));
    assert_eq!(said, "the rail `fake` cannot pay to that address: that account is closed");
}

/// `seller:local` is what statements and proofs call it: an address under that name is the seller's, not another's.
#[test]
fn an_address_is_set_by_the_name_of_the_account_as_well() {
    let desk = Desk::new();
    let set = |name: &str| match ask(
        &desk.exchange,
        &format!(r#"{{"op":"payout_address","seller":"{name}","address":"DE90"}}"#),
    ) {
        AdminReply::PayoutAddress { seller, is_new, .. } => (seller, is_new),
        other => panic!("{other:?}"),
    };
    assert_eq!(set("seller:local"), ("local".to_owned(), false));
    let AdminReply::Payouts { owed, .. } = ask(&desk.exchange, r#"{"op":"list_payouts"}"#) else { panic!() };
    assert_eq!(owed.len(), 1, "{owed:?}");
    assert_eq!(owed[0].payee.as_deref(), Some("DE90"));
    assert_eq!(set("locla"), ("locla".to_owned(), true), "who has sold nothing is told apart");
    assert_eq!(set("seller:locla"), ("locla".to_owned(), false));
}

#[test]
fn the_list_is_exported_for_a_bank() {
    let desk = Desk::new();
    let (line, at) = (desk.line(), START.to_iso_string());
    let want = format!(
        "payout,planned_at,since,seller,amount_usd,payee,rail,state,note\r\n\
         {},{at},{at},local,0.020000000,DE89 3704,manual,sending,\r\n",
        line.id
    );
    assert_eq!(PayoutLine::csv(&[line]), want);
}

//! Sellers are paid what they are owed, once, whatever the rail and the process do.

mod between;
mod bounds;
mod by_hand;
mod laws;
mod rail;
mod tables;

use super::support::{START, hold, request, settlement};
use super::{ask, books, check_clean, key, refused};
use crate::memory::SharedJournal;
use crate::payouts::{PayoutRecord, PayoutState};
use crate::record::{Record, Records};
use crate::{AdminReply, AdminRequest, Exchange, ExchangeConfig, OwedLine, PayoutLine, PayoutTerms};
use bourse_ledger::{Journal as _, Position};
use bourse_rails::{
    Capabilities, FakeRail, Fault, FaultyRail, Note, Payee, PaymentRail, Payout, Rail, RailError, Standing,
};
use bourse_types::{NanoUsd, PayoutId, UnixMs};
use bourse_wire::funds::Funds;
use std::cell::Cell;
use std::sync::Arc;

/// What the seller of [`Shop`] is paid for one sale: 250,000 less the market's 4 %.
const SHARE: u64 = 240_000;

/// A market whose seller `local` sells, with the other side of its rail.
pub(super) struct Shop {
    pub(super) exchange: Exchange,
    fake: Arc<FakeRail>,
    faulty: Arc<FaultyRail>,
    journal: SharedJournal,
    sold: u64,
    lives: u64,
    /// Each run has a time of its own, so that payouts are in order.
    runs: Cell<u64>,
}

impl Shop {
    fn new() -> Self {
        let fake = Arc::new(FakeRail::default());
        let faulty = Arc::new(FaultyRail::before(fake.clone(), []));
        let journal = SharedJournal::default();
        let config = config(Rail::of(faulty.clone()));
        let exchange = Exchange::over(journal.clone(), config, ([7; 32], 0), START).unwrap();
        let shop = Self { exchange, fake, faulty, journal, sold: 0, lives: 0, runs: Cell::new(0) };
        ask(&shop.exchange, r#"{"op":"deposit","account":"operator","amount_usd":"0.01"}"#);
        key(&shop.exchange, None);
        shop
    }

    /// One that has sold and whose seller has an address.
    pub(super) fn with_sales(sales: u64) -> Self {
        let mut shop = Self::new();
        (0..sales).for_each(|_| shop.sell());
        shop.address("maple-1");
        shop
    }

    fn sell(&mut self) {
        self.sold += 1;
        let core = self.exchange.shared.core.lock();
        let hash = core.keys.sorted()[0].row.hash;
        drop(core);
        let (id, grant) = (request(self.sold, START), self.exchange.authenticate(&hash, START).unwrap());
        self.exchange.hold(&hold(id, grant, 300_000, START)).unwrap();
        self.exchange.settle(settlement(id, grant, 250_002, START)).unwrap();
    }

    fn address(&self, address: &str) {
        ask(&self.exchange, &format!(r#"{{"op":"payout_address","seller":"local","address":"{address}"}}"#));
    }

    /// The next faults of the rail.
    fn faults(&self, faults: &[Fault]) {
        for fault in faults {
            self.faulty.then(*fault);
        }
    }

    pub(super) fn run(&self) -> Vec<PayoutLine> {
        self.exchange.run_payouts(UnixMs(START.0 + self.runs.get())).unwrap();
        self.runs.set(self.runs.get() + 1);
        self.lines().0
    }

    fn lines(&self) -> (Vec<PayoutLine>, Vec<OwedLine>) {
        match ask(&self.exchange, r#"{"op":"list_payouts"}"#) {
            AdminReply::Payouts { payouts, owed } => (payouts, owed),
            other => panic!("{other:?}"),
        }
    }

    /// The state of every payout, oldest first.
    fn states(&self) -> Vec<String> {
        self.lines().0.into_iter().map(|line| line.state).collect()
    }

    fn withheld(&self) -> String {
        let (_, owed) = self.lines();
        owed.into_iter()
            .find(|line| line.seller == "local")
            .and_then(|line| line.withheld)
            .unwrap_or_default()
    }

    /// `kill -9`, and the next process over what was durable.
    fn killed(self) -> Self {
        let config = self.exchange.shared.config.clone();
        self.killed_with(config)
    }

    fn killed_with(self, config: ExchangeConfig) -> Self {
        self.exchange.kill();
        let lives = self.lives + 1;
        let exchange = Exchange::over(self.journal.clone(), config, ([7; 32], lives), START).unwrap();
        Self { exchange, lives, ..self }
    }

    /// What the other side has paid in all, and how often.
    fn paid(&self) -> (u64, usize) {
        let payments = self.fake.payments();
        (payments.iter().map(|payment| payment.amount.0).sum(), payments.len())
    }

    fn books(&self) -> String {
        let shown = books(&self.exchange);
        let from = shown.find("seller").unwrap();
        let escrow = shown.split(", ").find(|line| line.starts_with("escrow")).unwrap();
        format!("{}, {escrow}", shown[from..].split(", ").next().unwrap())
    }
}

fn config(rail: Rail) -> ExchangeConfig {
    let payouts = PayoutTerms { minimum: NanoUsd(200_000), rail };
    ExchangeConfig { starting_credit: NanoUsd::ZERO, payouts, ..ExchangeConfig::default() }
}

/// The states of payouts that the journal has, in order.
fn journalled(journal: &SharedJournal) -> Vec<(PayoutId, &'static str)> {
    let mut states = Vec::new();
    for group in journal.read(Position::default(), usize::MAX).unwrap() {
        for record in Records::new(&group.bytes) {
            if let Record::Payout(record) = record.unwrap() {
                let word = match &record {
                    PayoutRecord::Planned { .. } => PayoutState::Planned.word(),
                    PayoutRecord::Became { state, .. } => state.word(),
                };
                states.push((record.id(), word));
            }
        }
    }
    states
}

#[test]
fn what_a_seller_is_owed_is_paid_and_leaves_escrow() {
    let shop = Shop::with_sales(2);
    assert_eq!(shop.books(), "seller 480000, escrow -10000000");
    let lines = shop.run();
    assert_eq!(shop.books(), "seller 0, escrow -9520000");
    assert_eq!(shop.paid(), (480_000, 1));
    let payment = &shop.fake.payments()[0];
    let want = PayoutLine {
        id: payment.id.to_string(),
        seller: "local".to_owned(),
        payee: "maple-1".to_owned(),
        amount_usd: "0.000480000".to_owned(),
        rail: "fake".to_owned(),
        state: "paid".to_owned(),
        planned_ms: START.0,
        since_ms: START.0,
        note: Some(format!("fake-{:032x}", payment.id.0)),
        trouble: None,
    };
    assert_eq!(lines, [want]);
    assert_eq!(payment.memo, format!("bourse {}", payment.id));
    shop.run();
    assert_eq!(shop.paid(), (480_000, 1), "nothing is owed any more");
    check_clean(&shop.exchange);
}

#[test]
fn whole_units_are_paid_and_the_rest_is_kept() {
    let mut shop = Shop::with_sales(1);
    // 1,001 nano-USD, of which 4 % are the market's.
    let hash = shop.exchange.shared.core.lock().keys.sorted()[0].row.hash;
    let grant = shop.exchange.authenticate(&hash, START).unwrap();
    let id = request(99, START);
    shop.exchange.hold(&hold(id, grant, 2_000, START)).unwrap();
    shop.exchange.settle(settlement(id, grant, 1_003, START)).unwrap();
    assert_eq!(shop.books(), "seller 240961, escrow -10000000");
    shop.run();
    assert_eq!((shop.books().as_str(), shop.paid()), ("seller 961, escrow -9760000", (240_000, 1)));
    shop.sell();
    shop.run();
    assert_eq!((shop.books().as_str(), shop.paid()), ("seller 961, escrow -9520000", (480_000, 2)));
}

#[test]
fn who_is_not_paid_is_told_why() {
    let mut shop = Shop::new();
    shop.sell();
    assert_eq!(shop.withheld(), "it has no payout address");
    assert_eq!(shop.run(), []);
    shop.address("maple-1");
    assert_eq!(shop.withheld(), "", "the next run pays");
    shop.faults(&[Fault::None, Fault::Delayed(1)]);
    shop.run();
    let id = &shop.lines().0[0].id;
    assert_eq!(shop.withheld(), format!("{id} is on its way"));
    shop.run();
    assert_eq!(shop.withheld(), "it is below the least payout of $0.0002");
    shop.faults(&[Fault::None, Fault::Refused]);
    shop.sell();
    shop.run();
    let id = &shop.lines().0[1].id;
    assert_eq!(shop.withheld(), format!("{id} failed; setting the address again tries again"));
    shop.run();
    assert_eq!(shop.states(), ["paid", "failed"], "a dead address is not tried again");
    shop.address("maple-2");
    shop.run();
    assert_eq!(shop.states(), ["paid", "failed", "paid"]);
    ask(&shop.exchange, r#"{"op":"payout_address","seller":"local"}"#);
    shop.sell();
    assert_eq!(shop.withheld(), "it has no payout address");
    check_clean(&shop.exchange);
}

#[test]
fn nobody_is_paid_with_money_that_nobody_paid_in() {
    let fake = Arc::new(FakeRail::default());
    let mut given = config(Rail::of(fake.clone()));
    given.starting_credit = NanoUsd(1_000_000);
    let exchange = Exchange::in_memory(given, [7; 32], START).unwrap();
    let grant = key(&exchange, None);
    exchange.hold(&hold(request(1, START), grant, 300_000, START)).unwrap();
    exchange.settle(settlement(request(1, START), grant, 250_002, START)).unwrap();
    ask(&exchange, r#"{"op":"payout_address","seller":"local","address":"maple-1"}"#);
    let why = |exchange: &Exchange| match ask(exchange, r#"{"op":"list_payouts"}"#) {
        AdminReply::Payouts { owed, .. } => owed[0].withheld.clone().unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    exchange.run_payouts(START).unwrap();
    assert_eq!((fake.payments().len(), why(&exchange).as_str()), (0, "$0 lies in escrow"));
    // One nano-dollar less than what is due, then the whole.
    ask(&exchange, r#"{"op":"deposit","account":"subsidy","amount_usd":"0.000239999"}"#);
    exchange.run_payouts(START).unwrap();
    assert_eq!((fake.payments().len(), why(&exchange).as_str()), (0, "$0.000239999 lies in escrow"));
    ask(&exchange, r#"{"op":"deposit","account":"subsidy","amount_usd":"0.000000001"}"#);
    exchange.run_payouts(START).unwrap();
    assert_eq!(fake.payments().len(), 1);
    assert!(books(&exchange).starts_with("subsidy -760000, "), "{}", books(&exchange));
    check_clean(&exchange);
}

#[test]
fn deposits_are_for_customers_and_subsidy_and_are_noted_once() {
    let shop = Shop::with_sales(1);
    let twice = r#"{"op":"deposit","account":"operator","amount_usd":"1","idempotency_key":"wire 1"}"#;
    ask(&shop.exchange, twice);
    ask(&shop.exchange, twice);
    assert!(books(&shop.exchange).contains("escrow -1010000000"), "{}", books(&shop.exchange));
    for (account, want) in [
        ("seller:local", "`seller:local` is not a customer account"),
        ("escrow", "`escrow` is not a customer account"),
        ("nobody", "no account is called `nobody`; `bourse ledger balance` shows them"),
    ] {
        let asked = format!(r#"{{"op":"deposit","account":"{account}","amount_usd":"1"}}"#);
        assert_eq!(refused(&shop.exchange, &asked), want);
    }
    let credit = r#"{"op":"credit","account":"subsidy","amount_usd":"1"}"#;
    assert_eq!(refused(&shop.exchange, credit), "`subsidy` is not a customer account");
    check_clean(&shop.exchange);
}

#[test]
fn what_is_held_for_a_payout_is_in_no_other() {
    let mut shop = Shop::with_sales(1);
    shop.faults(&[Fault::None, Fault::Delayed(9)]);
    shop.run();
    assert_eq!(shop.books(), "seller 240000-240000, escrow -10000000");
    shop.sell();
    shop.run();
    assert_eq!(shop.states(), ["sending"]);
    assert_eq!(shop.books(), "seller 480000-240000, escrow -10000000");
    let held = shop.lines().1.remove(0);
    assert_eq!(held.owed_usd, "0.000240000", "what is owed beside it");
    check_clean(&shop.exchange);
}

#[test]
fn an_epoch_an_export_and_a_statement_know_payouts() {
    let shop = Shop::with_sales(1);
    let at = |n: u64| UnixMs(START.0 + n * 60_000);
    let owed = |n| shop.exchange.close_epoch(at(n)).unwrap().unwrap().epoch.total_nano_usd;
    let (before, operator) = (owed(1), 10_000_000 - 250_002);
    assert_eq!(before, operator + 240_000);
    shop.faults(&[Fault::None, Fault::Delayed(1)]);
    shop.exchange.run_payouts(at(1)).unwrap();
    assert_eq!(owed(2), before, "what is on its way is still owed");
    shop.exchange.run_payouts(at(2)).unwrap();
    assert_eq!(owed(3), operator);
    let lines = ask(&shop.exchange, r#"{"op":"statement","account":"seller:local"}"#);
    let AdminReply::Statement { lines } = lines else { panic!() };
    let paid = lines.last().unwrap();
    assert_eq!((paid.counterpart.as_str(), paid.amount_usd.as_str()), ("escrow", "-0.000240000"));
    assert_eq!(paid.request, None, "it has no receipt");
    assert!(lines[0].request.is_some(), "a sale has");
    let mut csv = Vec::new();
    let index = shop.exchange.shared.index.lock();
    let write = |journal: &dyn bourse_ledger::Journal| {
        crate::export::export_of(journal, crate::ExportFormat::Csv, crate::Period::EVER, &mut csv)
    };
    index.with_journal(write).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.contains(",,seller:local,seller_payable,escrow,escrow,240000,nano-USD\r\n"), "{csv}");
    drop(index);
    check_clean(&shop.exchange);
}

/// Every step with what everybody has after it, in dollars, as an accountant reads it.
#[test]
fn the_way_of_the_money_as_a_table() {
    let mut shop = Shop::new();
    let mut table = String::from(
        "| step | customers | seller owed | of it held | fee and rounding | escrow |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let mut note = |shop: &Shop, step: &str| {
        let AdminReply::Balances { accounts } = ask(&shop.exchange, r#"{"op":"balances"}"#) else { panic!() };
        let get = |name: &str| accounts.iter().find(|line| line.name == name);
        let sum = |names: &[&str], held: bool| {
            let nano = names.iter().filter_map(|name| get(name)).map(|line| {
                let text = if held { &line.held_usd } else { &line.balance_usd };
                text.replace('.', "").parse::<i128>().unwrap()
            });
            crate::books::usd(nano.sum())
        };
        let row = format!(
            "| {step} | {} | {} | {} | {} | {} |\n",
            sum(&["operator"], false),
            sum(&["seller:local"], false),
            sum(&["seller:local"], true),
            sum(&["fee", "rounding"], false),
            sum(&["escrow"], false),
        );
        table.push_str(&row);
    };
    note(&shop, "the operator pays $0.01 in");
    shop.sell();
    note(&shop, "a sale of $0.000250002");
    shop.address("maple-1");
    shop.faults(&[Fault::None, Fault::Delayed(1)]);
    shop.run();
    note(&shop, "a payout is sent");
    shop.sell();
    note(&shop, "another sale meanwhile");
    shop.run();
    note(&shop, "the payout is confirmed");
    shop.faults(&[Fault::None, Fault::Refused]);
    shop.run();
    note(&shop, "the next one is refused, its amount is owed again");
    shop.address("maple-2");
    shop.faults(&[Fault::None, Fault::PaidLate(3)]);
    shop.run();
    note(&shop, "another is refused");
    shop.run();
    shop.run();
    shop.run();
    note(&shop, "and paid after all, which is booked against what is owed");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/payouts/money.md");
    if std::env::var_os("BOURSE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap(), "BOURSE_BLESS=1 writes it anew: read the diff");
    check_clean(&shop.exchange);
}

//! Real kills of a process that pays: between the journal's `sending` and the rail, and between the rail and the journal's
//! `paid`. The other side of the rail is a file and survives. Each payout is paid once, whatever was killed when.

#![expect(clippy::unwrap_used, reason = "a test binary, helpers included")]

mod support;

use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, PayoutLine, PayoutTerms, check, hash_key,
};
use bourse_rails::{
    Capabilities, FAKE_FILE, FakeRail, Note, Payee, PaymentRail, Payout, Rail, RailError, Standing,
};
use bourse_types::{NanoUsd, PayoutId, UnixMs};
use bourse_wire::funds::{Funds, KeyGrant};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use support::{hold, request, settlement};

const DIR: &str = "BOURSE_PAYOUTS_DIR";
const MOMENT: &str = "BOURSE_PAYOUTS_MOMENT";
/// What the seller gets of one sale: 250,000 less 4 %.
const SHARE: u64 = 240_000;
const BEGINS: UnixMs = UnixMs(4_000_000_000_000);

/// Where the process stops to be killed.
const MOMENTS: [&str; 4] = ["look-up", "before", "after", "booked"];

/// Says where it is, and waits for the end.
fn stop_here() -> ! {
    println!("here");
    std::io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

/// A rail that stops its process in a call.
struct Stopping {
    rail: FakeRail,
    moment: String,
}

impl PaymentRail for Stopping {
    fn capabilities(&self) -> Capabilities {
        self.rail.capabilities()
    }

    fn check(&self, payee: &Payee) -> Result<(), Note> {
        self.rail.check(payee)
    }

    fn send(&self, payout: &Payout) -> Result<Standing, RailError> {
        if self.moment == "before" {
            stop_here();
        }
        let sent = self.rail.send(payout);
        if self.moment == "after" {
            stop_here();
        }
        sent
    }

    fn look_up(&self, id: PayoutId) -> Result<Standing, RailError> {
        if self.moment == "look-up" {
            stop_here();
        }
        self.rail.look_up(id)
    }
}

fn open(dir: &Path, moment: &str, now: UnixMs) -> Exchange {
    let rail = FakeRail::open(&dir.join(FAKE_FILE)).unwrap();
    let rail = Rail::of(Arc::new(Stopping { rail, moment: moment.to_owned() }));
    let payouts = PayoutTerms { minimum: NanoUsd(SHARE), rail };
    let config = ExchangeConfig { starting_credit: NanoUsd::ZERO, payouts, ..ExchangeConfig::default() };
    Exchange::open(dir, config, now).unwrap()
}

fn begin(dir: &Path) -> KeyGrant {
    let exchange = open(dir, "never", BEGINS);
    let ask = |asked| exchange.admin(asked, BEGINS).unwrap();
    ask(AdminRequest::Deposit {
        account: "operator".to_owned(),
        amount_usd: "1".to_owned(),
        idempotency_key: None,
    });
    ask(AdminRequest::PayoutAddress { seller: "local".to_owned(), address: Some("maple-1".to_owned()) });
    let key = NewKey { label: "kill".to_owned(), ..NewKey::default() };
    let AdminReply::KeyCreated { secret, .. } = ask(AdminRequest::CreateKey(key)) else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), BEGINS).unwrap()
}

fn sell(exchange: &Exchange, grant: KeyGrant, n: u64, now: UnixMs) {
    let id = request(n, now);
    exchange.hold(&hold(id, grant, 300_000, now)).unwrap();
    exchange.settle(settlement(id, grant, 250_002, now)).unwrap();
}

fn lines(exchange: &Exchange, now: UnixMs) -> Vec<PayoutLine> {
    match exchange.admin(AdminRequest::ListPayouts {}, now).unwrap() {
        AdminReply::Payouts { payouts, .. } => payouts,
        other => panic!("{other:?}"),
    }
}

/// The process that is killed: a no-op in an ordinary test run.
#[test]
fn payout_process() {
    let (Ok(dir), Ok(order)) = (std::env::var(DIR), std::env::var(MOMENT)) else { return };
    let (moment, now) = order.split_once(' ').unwrap();
    let now = UnixMs(now.parse().unwrap());
    let exchange = open(Path::new(&dir), moment, now);
    exchange.run_payouts(now).unwrap();
    stop_here();
}

/// Runs the process until it stops at its moment, and kills it there.
fn killed_at(dir: &Path, moment: &str, now: UnixMs) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "payout_process", "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .env(MOMENT, format!("{moment} {}", now.0))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let has_stopped = output.lines().map_while(Result::ok).any(|line| line.ends_with("here"));
    process.kill().unwrap();
    let ended = process.wait().unwrap();
    assert!(has_stopped && !ended.success(), "{moment}: {ended}");
}

#[test]
fn a_payout_is_paid_once_wherever_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let grant = begin(dir);
    let mut now = BEGINS;
    let mut sold = 0;
    // Each moment first, and then each again over what the kill before left.
    for (first, then) in MOMENTS.into_iter().flat_map(|first| MOMENTS.map(|then| (first, then))) {
        now = UnixMs(now.0 + 1_000);
        sold += 1;
        {
            let exchange = open(dir, "never", now);
            sell(&exchange, grant, sold, now);
        }
        killed_at(dir, first, now);
        let before = FakeRail::open(&dir.join(FAKE_FILE)).unwrap().payments().len() as u64;
        assert_eq!(before, if matches!(first, "look-up" | "before") { sold - 1 } else { sold }, "{first}");
        assert!(check(dir, now).unwrap().is_clean());
        // What the rail has is not sent again, and what is booked is not looked up: then the process stops at its end.
        let can_stop = match first {
            "booked" => false,
            "after" => then == "look-up",
            _ => true,
        };
        killed_at(dir, if can_stop { then } else { "booked" }, now);
        let exchange = open(dir, "never", now);
        exchange.run_payouts(now).unwrap();
        let lines = lines(&exchange, now);
        let paid = lines.iter().filter(|line| line.state == "paid").count() as u64;
        assert_eq!((paid, lines.len() as u64), (sold, sold), "{first}, {then}");
    }
    let payments = FakeRail::open(&dir.join(FAKE_FILE)).unwrap().payments();
    let ids: BTreeSet<_> = payments.iter().map(|payment| payment.id).collect();
    assert_eq!((ids.len() as u64, payments.len() as u64), (sold, sold));
    assert_eq!(payments.iter().map(|payment| payment.amount.0).sum::<u64>(), sold * SHARE);
    let balances = bourse_exchange::balances(dir).unwrap();
    let line = |name: &str| balances.iter().find(|line| line.name == name).unwrap();
    assert_eq!(line("seller:local").balance_usd, "0.000000000");
    assert_eq!(
        line("escrow").balance_usd,
        format!("-{}", NanoUsd(1_000_000_000 - sold * SHARE).to_usd_string())
    );
    let report = check(dir, now).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

//! A market that pays two sellers, in a process that is killed or stands still at a moment of it. The other side of the
//! rail is a file, the same for all processes, and survives them.

mod rail;

use crate::child::{Child, say, waits};
use crate::support::{hold, request, settlement};
use bourse_exchange::{
    AdminReply, AdminRequest, Exchange, ExchangeConfig, JournalError, NewKey, OpenError, PayoutTerms,
    balances, check, hash_key,
};
use bourse_rails::{FakeRail, Rail};
use bourse_types::{KeyHash, NanoUsd, SellerName, UnixMs};
use bourse_wire::funds::Funds as _;
use rail::StoppingRail;
pub(crate) use rail::{rail_in, sends_of};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ORDER: &str = "BOURSE_PAYING_ORDER";
pub(crate) const SELLERS: [&str; 2] = ["local", "maple"];
/// What a seller gets of one sale: 250,000 less 4 %.
const SHARE: u64 = 240_000;
/// Paid in by the operator.
const DEPOSITED: u64 = 1_000_000_000;
const BEGINS: UnixMs = UnixMs(4_000_000_000_000);

/// Where a process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Moment {
    /// What is paid is planned in memory, and nothing of it is durable.
    Planning,
    /// The journal says `sending`, and the rail was asked nothing.
    LookUp,
    /// The rail knows nothing, and is about to pay.
    Before,
    /// The rail has paid, and nobody has heard so.
    After,
    /// The first payout is paid and that was heard; the second one is to be looked up.
    Next,
}

/// What a process is to do: open the books, or wait until it can, sell if so told, pay, stop at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Under which its calls of the rail are noted.
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// The folder of the rail.
    pub(crate) rail: PathBuf,
    /// The hash of the key that buys.
    pub(crate) key: String,
    /// The market's clock, in rounds.
    pub(crate) round: u64,
    /// Whether each seller sells once before they are paid.
    pub(crate) sells: bool,
    /// None: it pays to the end.
    pub(crate) stops: Option<Moment>,
}

impl Order {
    pub(crate) fn start(&self) -> Child {
        Child::start("paying_process", ORDER, serde_json::to_string(self).expect("an order"))
    }
}

/// The market's clock in a round.
pub(crate) fn time(round: u64) -> UnixMs {
    UnixMs(BEGINS.0 + round * 1_000)
}

fn open(dir: &Path, rail: Rail, now: UnixMs) -> Result<Exchange, OpenError> {
    let payouts = PayoutTerms { minimum: NanoUsd(SHARE), rail };
    let config = ExchangeConfig { starting_credit: NanoUsd::ZERO, payouts, ..ExchangeConfig::default() };
    Exchange::open(dir, config, now)
}

/// Begins a market whose sellers can be paid; the hash of a key that buys.
pub(crate) fn begin(dir: &Path) -> String {
    let exchange = open(dir, Rail::of(Arc::new(FakeRail::default())), BEGINS).expect("a market begins");
    let ask = |asked| exchange.admin(asked, BEGINS).expect("it is taken");
    ask(AdminRequest::Deposit {
        account: "operator".to_owned(),
        amount_usd: NanoUsd(DEPOSITED).to_usd_string(),
        idempotency_key: None,
    });
    for seller in SELLERS {
        let address = Some(format!("{seller}-1"));
        ask(AdminRequest::PayoutAddress { seller: seller.to_owned(), address });
    }
    let key = NewKey { label: "kill".to_owned(), ..NewKey::default() };
    let AdminReply::KeyCreated { secret, .. } = ask(AdminRequest::CreateKey(key)) else { panic!("a key") };
    hash_key(&secret.0).to_string()
}

/// The process itself. Nothing in an ordinary test run.
pub(crate) fn run() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).expect("an order");
    let now = time(order.round);
    say("stands by");
    let rail = Arc::new(StoppingRail::open(&order.rail, &order.name));
    let exchange = loop {
        match open(&order.dir, Rail::of(rail.clone()), now) {
            Ok(exchange) => break exchange,
            Err(OpenError::Journal(JournalError::InUse)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    say("opened");
    if order.sells {
        sell(&exchange, &order);
    }
    rail.arm(order.stops);
    loop {
        match exchange.run_payouts(now) {
            Ok(()) => say(&format!("paid {}", paid(&exchange, now))),
            Err(error) => say(&format!("refused {error}")),
        }
        if !waits() {
            break;
        }
    }
    if let Err(error) = exchange.close() {
        say(&format!("not closed in order: {error}"));
    }
}

fn sell(exchange: &Exchange, order: &Order) {
    let now = time(order.round);
    let key = KeyHash::parse_hex(&order.key).expect("a hash");
    let grant = exchange.authenticate(&key, now).expect("a key");
    for (n, seller) in (0..).zip(SELLERS) {
        let id = request(order.round * SELLERS.len() as u64 + n, now);
        exchange.hold(&hold(id, grant, 300_000, now)).expect("a hold");
        let mut sold = settlement(id, grant, 250_002, now);
        let seller = SellerName::parse(seller).expect("a name");
        sold.receipt.attempts[0].seller = seller.clone();
        sold.receipt.seller = Some(seller);
        exchange.settle(sold).expect("a sale");
    }
    exchange.flush().expect("it is on disk");
}

/// Payouts that the books say are paid, if all are.
fn paid(exchange: &Exchange, now: UnixMs) -> String {
    let reply = exchange.admin(AdminRequest::ListPayouts {}, now).expect("a list");
    let AdminReply::Payouts { payouts, .. } = reply else { panic!("{reply:?}") };
    let paid = payouts.iter().filter(|line| line.state == "paid").count();
    if paid == payouts.len() { paid.to_string() } else { format!("{paid} of {}", payouts.len()) }
}

/// Holds books and rail against each other when every seller has sold so many times and was paid for it.
pub(crate) fn audit(dir: &Path, rail: &Path, sales: u64) {
    let sold = sales * SELLERS.len() as u64;
    let payments = rail_in(rail).payments();
    let ids: BTreeSet<_> = payments.iter().map(|payment| payment.id).collect();
    assert_eq!((ids.len() as u64, payments.len() as u64), (sold, sold), "each payout once");
    for seller in SELLERS {
        let to = format!("{seller}-1");
        let got = payments.iter().filter(|payment| payment.payee.as_str() == to);
        assert_eq!(got.map(|payment| payment.amount.0).sum::<u64>(), sales * SHARE, "{seller}");
        assert_eq!(line(dir, &format!("seller:{seller}")), "0.000000000, 0.000000000 held");
    }
    let escrow = NanoUsd(DEPOSITED - sold * SHARE).to_usd_string();
    assert_eq!(line(dir, "escrow"), format!("-{escrow}, 0.000000000 held"));
    let report = check(dir, time(sales)).expect("books");
    assert!(report.is_clean(), "{report:?}");
}

/// What a seller is owed and what of it is held.
pub(crate) fn owed(dir: &Path, seller: &str) -> String {
    line(dir, &format!("seller:{seller}"))
}

fn line(dir: &Path, account: &str) -> String {
    let lines = balances(dir).expect("books");
    let line = lines.iter().find(|line| line.name == account).expect("an account");
    format!("{}, {} held", line.balance_usd, line.held_usd)
}

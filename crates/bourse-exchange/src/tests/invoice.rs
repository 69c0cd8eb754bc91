//! A seeded month: invoice, its PDF and CSV, the statement, the activity, the Merkle leaf and the balance say the same.

use super::support::{charge, hold, request, settlement};
use super::{ask, market};
use crate::books::{statement_of, usd};
use crate::invoice::{Invoice, InvoiceError, invoice_of};
use crate::postings::Period;
use crate::prove::prove_of;
use crate::{AdminReply, AdminRequest, Exchange, hash_key};
use bourse_types::{ModelSlug, NanoUsd, SellerName, UnixMs};
use bourse_wire::funds::{ActivityQuery, Billing, Funds as _, KeyGrant, Records as _};

pub(crate) fn at(text: &str) -> UnixMs {
    UnixMs::parse_iso(text).unwrap_or_else(|| panic!("{text}"))
}

pub(crate) fn buyer(exchange: &Exchange, name: &str) -> KeyGrant {
    let reply = ask(exchange, &format!(r#"{{"op":"create_key","label":"k","account":"{name}"}}"#));
    let AdminReply::KeyCreated { secret, .. } = reply else { panic!("a key") };
    exchange.authenticate(&hash_key(&secret.0), at("2083-01-31")).expect("a key")
}

pub(crate) fn credit(exchange: &Exchange, name: &str, nano: u64, now: UnixMs) {
    let (account, amount_usd) = (name.to_owned(), NanoUsd(nano).to_usd_string());
    exchange.admin(AdminRequest::Credit { account, amount_usd, idempotency_key: None }, now).expect("credit");
}

/// Requests of one buyer, every 97 minutes: some fail, some are in flight, some go by the buyer's own key.
fn use_for(exchange: &Exchange, grant: KeyGrant, first: u64, from: UnixMs, until: UnixMs) {
    let times = (from.0..until.0).step_by(97 * 60_000);
    for (n, now) in times.map(UnixMs).enumerate() {
        let n = n as u64;
        let id = request(first + n, now);
        exchange.hold(&hold(id, grant, 1_000_000, now)).expect("money");
        let nano = (n * 7_919) % 900_001;
        let mut ended = settlement(id, grant, nano, now);
        ended.receipt.charge = charge(nano);
        ended.receipt.model = ModelSlug::parse(["a/small", "b/large"][(n % 2) as usize]).expect("a name");
        ended.receipt.seller =
            Some(SellerName::parse(["maple", "oak", "elm"][(n % 3) as usize]).expect("a name"));
        match n % 11 {
            // In flight: what is held is not spent.
            3 => continue,
            5 => ended.billing = Billing::Byok,
            7 => {
                ended.receipt.seller = None;
                ended.receipt.charge = charge(0);
            }
            _ => {}
        }
        exchange.settle(ended).expect("a settlement");
    }
}

pub(crate) const FROM: &str = "2083-02-01";
pub(crate) const UNTIL: &str = "2083-03-01";
const NOW: &str = "2083-03-02T12:00:00Z";

pub(crate) fn month() -> Exchange {
    let exchange = market(0);
    let (alice, bob) = (buyer(&exchange, "alice"), buyer(&exchange, "bob"));
    credit(&exchange, "alice", 800_000_000, at("2083-01-20"));
    credit(&exchange, "bob", 900_000_000, at("2083-01-20"));
    use_for(&exchange, alice, 0, at("2083-01-25"), at(FROM));
    use_for(&exchange, alice, 10_000, at(FROM), at("2083-02-14"));
    use_for(&exchange, bob, 20_000, at("2083-02-14"), at("2083-02-15"));
    credit(&exchange, "alice", 300_000_001, at("2083-02-15"));
    use_for(&exchange, alice, 30_000, at("2083-02-15"), at(UNTIL));
    exchange.close_epoch(at(UNTIL)).expect("the books are right").expect("something happened");
    use_for(&exchange, alice, 40_000, at(UNTIL), at(NOW));
    exchange.flush().expect("it is written");
    exchange
}

pub(crate) fn invoice(exchange: &Exchange, account: &str, period: Period) -> Result<Invoice, InvoiceError> {
    exchange.shared.index.lock().with_journal(|journal| invoice_of(journal, account, period))
}

pub(crate) fn nano(usd: &str) -> i128 {
    usd.replace('.', "").parse().expect("dollars with nine places")
}

#[test]
fn everything_that_tells_a_month_tells_the_same() {
    let exchange = month();
    let period = Period { from: Some(at(FROM)), until: Some(at(UNTIL)) };
    let invoice = invoice(&exchange, "alice", period).unwrap();
    let used: i128 = invoice.usage.iter().map(|line| nano(&line.cost_usd)).sum();
    assert!(used > 0 && invoice.usage.len() > 100, "{}", invoice.usage.len());
    assert_eq!((usd(used), &*invoice.credited_usd), (invoice.spent_usd.clone(), "0.300000001"));

    // The statement.
    let lines =
        exchange.shared.index.lock().with_journal(|journal| statement_of(journal, "alice", period, 10_000));
    let lines = lines.unwrap().unwrap();
    let debits: i128 = lines.iter().map(|line| nano(&line.amount_usd)).filter(|amount| *amount < 0).sum();
    assert_eq!(
        (usd(-debits), &lines.last().unwrap().balance_usd),
        (invoice.spent_usd.clone(), &invoice.closing_usd)
    );

    // The activity, day by day. It keeps thirty days; the month has twenty-eight.
    let account = exchange.account("alice").unwrap();
    let rows = exchange.activity(account, &ActivityQuery::default(), at(NOW)).unwrap();
    let rows = rows.iter().filter(|row| (at(FROM)..at(UNTIL)).contains(&row.day.start()));
    let rows: Vec<_> = rows
        .map(|row| {
            (
                row.day.to_string(),
                row.model.to_string(),
                row.seller.to_string(),
                row.sums.requests,
                usd(row.sums.cost.0.into()),
            )
        })
        .collect();
    let ours = invoice.usage.iter().cloned();
    let ours: Vec<_> = ours.map(|l| (l.day, l.model, l.seller, l.requests, l.cost_usd)).collect();
    assert_eq!(ours, rows);

    // The leaf of the epoch that ended with the month.
    let proof =
        exchange.shared.index.lock().with_journal(|journal| prove_of(journal, "alice", Some(1))).unwrap();
    assert_eq!(proof.signed.epoch.closed_at, at(UNTIL));
    assert_eq!(usd(proof.leaf.amount_nano_usd as i128), invoice.closing_usd);

    // The page and the rows.
    let pdf = String::from_utf8_lossy(&invoice.pdf()).into_owned();
    let total = format!("{:<90}{:>18}", "Spent, USD", invoice.spent_usd);
    assert!(pdf.contains(&format!("({total}) Tj")), "{total}");
    for line in &invoice.usage {
        assert!(pdf.contains(&format!("{} ", line.day)) && pdf.contains(&line.cost_usd), "{line:?}");
    }
    let csv = invoice.csv();
    let uses = csv.lines().filter(|line| line.starts_with("use,"));
    assert_eq!(uses.map(|line| nano(line.rsplit(',').next().unwrap())).sum::<i128>(), used);
}

#[test]
fn months_join_and_end_at_the_balance() {
    let exchange = month();
    let of = |from: Option<&str>, until: Option<&str>| {
        invoice(&exchange, "alice", Period { from: from.map(at), until: until.map(at) }).unwrap()
    };
    let [before, month, after] = [of(None, Some(FROM)), of(Some(FROM), Some(UNTIL)), of(Some(UNTIL), None)];
    assert_eq!((&*before.opening_usd, &before.closing_usd), ("0.000000000", &month.opening_usd));
    assert_eq!(month.closing_usd, after.opening_usd);
    let core = exchange.shared.core.lock();
    let (_, balance) = core.state.account(core.names.account("alice").unwrap()).unwrap();
    assert_eq!(after.closing_usd, usd(balance.net_posted()));
    assert!(balance.debits_pending > 0, "some are in flight, and are not spent");
}

#[test]
fn an_invoice_is_of_somebody_and_the_same_bytes_again() {
    let exchange = month();
    let nobody = invoice(&exchange, "nobody", Period::EVER).unwrap_err().to_string();
    assert_eq!(nobody, "no account is called `nobody`");
    let bob = invoice(&exchange, "bob", Period::EVER).unwrap();
    assert!(bob.usage.iter().all(|line| line.day == "2083-02-14") && bob.credits.len() == 1, "{bob:?}");
    assert_eq!(bob.pdf(), invoice(&exchange, "bob", Period::EVER).unwrap().pdf());
    assert!(bob.pdf().starts_with(b"%PDF-1.7") && bob.pdf().ends_with(b"%%EOF"));
    let pages = |invoice: &Invoice| String::from_utf8_lossy(&invoice.pdf()).matches("/Type /Page\n").count();
    assert_eq!(pages(&bob), 1);
    let alice = invoice(&exchange, "alice", Period::EVER).unwrap();
    assert_eq!(pages(&alice), alice.text().len().div_ceil(68));
    assert!(alice.text().iter().all(|line| line.chars().count() <= 108));
}

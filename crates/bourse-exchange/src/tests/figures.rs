//! The market's figures: who paid for what, and what is no revenue.

use super::invoice::{FROM, UNTIL, at, buyer, credit, month, nano};
use super::support::{charge, hold, inflated, request, settlement};
use super::{ask, check_clean, market};
use crate::figures::{
    Days, FIGURES_DAYS_MAX, FIGURES_ROWS_MAX, FiguresError, GROUPS_AT_ONCE_MAX, figures_of,
};
use crate::invoice::invoice_of;
use crate::names::ALLOWANCES;
use crate::postings::Period;
use crate::{DayFigures, Exchange};
use bourse_types::{Gift, Giver, ModelSlug, NanoUsd, NodeId, SellerName, TransferId, UnixMs, Usage, UtcDay};
use bourse_wire::api::{MarketFigures, Shares};
use bourse_wire::funds::{
    ATTENDED_MS_MAX, Attendance, Billing, Funds as _, FundsError, GPUS_MAX, KeyGrant, Records as _,
    Settlement,
};

fn figures(exchange: &Exchange, days: Days) -> Result<Vec<DayFigures>, FiguresError> {
    exchange.flush().unwrap();
    exchange.shared.index.lock().with_journal(|journal| figures_of(journal, days))
}

/// Money of a customer's own: whatever does not come out of the subsidy account.
fn pay_in(exchange: &Exchange, name: &str, amount: u64) {
    let account = exchange.account(name).unwrap();
    let mut core = exchange.shared.core.lock();
    core.move_between(ALLOWANCES, account, NanoUsd(amount), TransferId(u128::from(amount) << 64)).unwrap();
}

const NOON: &str = "2083-02-01T12:00:00Z";

pub(crate) fn settle(
    exchange: &Exchange,
    n: u64,
    grant: KeyGrant,
    seller: &str,
    change: impl FnOnce(&mut Settlement),
) {
    let now = at(NOON);
    let id = request(n, now);
    let mut ended = settlement(id, grant, 0, now);
    ended.receipt.seller = Some(SellerName::parse(seller).unwrap());
    change(&mut ended);
    exchange.hold(&hold(id, grant, ended.receipt.charge.total.0, now)).unwrap();
    exchange.settle(ended).unwrap();
}

/// A day on which everything happened once, and the next, on which a share left suspense.
pub(crate) fn two_days() -> Exchange {
    let exchange = market(0);
    let alice = buyer(&exchange, "alice");
    credit(&exchange, "alice", 1_000, at(NOON));
    pay_in(&exchange, "alice", 50_000);
    let costs = |nano| move |s: &mut Settlement| s.receipt.charge = charge(nano);
    let gives =
        |list, giver| move |s: &mut Settlement| s.note.gift = Some(Gift { list: NanoUsd(list), giver });
    settle(&exchange, 1, alice, "local", costs(600));
    // The last 400 of the gift, and 100 of her own: subsidised whole.
    settle(&exchange, 2, alice, "local", costs(500));
    settle(&exchange, 3, alice, "local", costs(700));
    settle(&exchange, 4, alice, "maple", gives(250, Giver::Seller));
    settle(&exchange, 5, alice, "oak", gives(300, Giver::Market));
    settle(&exchange, 6, alice, "elm", |_| {});
    settle(&exchange, 7, alice, "maple", |s| {
        s.receipt.charge = charge(900);
        s.billing = Billing::Byok;
    });
    settle(&exchange, 8, alice, "oak", |s| {
        *s = inflated(s.receipt.request, alice, 251, s.now);
        s.receipt.seller = SellerName::parse("oak").ok();
        s.receipt.model = ModelSlug::parse("a/large").unwrap();
    });
    // Free, and nobody says at what price.
    settle(&exchange, 11, alice, "local", |_| {});
    // Nothing was delivered, or nobody answered.
    settle(&exchange, 9, alice, "oak", |s| s.receipt.usage_billed = Usage::default());
    settle(&exchange, 10, alice, "oak", |s| s.receipt.seller = None);
    let release =
        format!(r#"{{"op":"release_suspense","request":"{}","to":"seller"}}"#, request(8, at(NOON)));
    exchange.admin(serde_json::from_str(&release).unwrap(), at("2083-02-02T09:00:00Z")).unwrap();
    exchange
}

#[test]
fn a_day_is_told_by_who_paid() {
    let exchange = two_days();
    check_clean(&exchange);
    let days = figures(&exchange, Days::default()).unwrap();
    let told: Vec<String> = days.iter().map(|day| day.text().join("\n")).collect();
    assert_eq!(told.join("\n\n"), include_str!("figures.txt").trim_end());
}

fn total(shares: &Shares) -> u64 {
    [shares.sellers_usd, shares.suspense_usd, shares.fee_usd, shares.rounding_usd]
        .iter()
        .map(|usd| usd.0.0)
        .sum()
}

#[test]
fn what_is_charged_goes_somewhere_and_no_gift_is_revenue() {
    let exchange = two_days();
    let days = figures(&exchange, Days::default()).unwrap();
    let days: Vec<MarketFigures> = days.iter().map(MarketFigures::from).collect();
    let first = &days[0];
    for shares in [&first.paid, &first.paid_by_credit] {
        assert_eq!(shares.charged_usd.0.0, total(shares));
    }
    // 700, the fee on the own key's 900, and 251; 600 and 500 by the gift.
    let charged = [first.paid.charged_usd, first.paid_by_credit.charged_usd].map(|usd| usd.0.0);
    assert_eq!(charged, [700 + 45 + 251, 1_100]);
    // What the sellers' accounts say: revenue, subsidy, and nothing of what they gave away.
    let core = exchange.shared.core.lock();
    for name in ["local", "oak", "maple", "elm"] {
        let seller = SellerName::parse(name).unwrap();
        let balance = core.names.seller(&seller).and_then(|account| core.state.account(account));
        let balance = balance.map_or(0, |(_, balance)| balance.net_posted());
        let rows = days.iter().flat_map(|day| &day.sellers).filter(|row| row.seller == name);
        let told: u64 = rows.map(|row| row.revenue_usd.0.0 + row.subsidised_usd.0.0).sum();
        assert_eq!(i128::from(told), balance, "{name}");
    }
    let json = serde_json::to_string(first).unwrap();
    assert!(!json.contains("alice") && !json.contains("sk-"), "{json}");
}

#[test]
fn what_comes_back_of_a_gift_is_a_gift() {
    let exchange = market(0);
    let alice = buyer(&exchange, "alice");
    credit(&exchange, "alice", 251, at(NOON));
    settle(&exchange, 1, alice, "oak", |s| *s = inflated(s.receipt.request, alice, 251, s.now));
    let release = format!(r#"{{"op":"release_suspense","request":"{}","to":"buyer"}}"#, request(1, at(NOON)));
    ask(&exchange, &release);
    pay_in(&exchange, "alice", 1_000);
    settle(&exchange, 2, alice, "oak", |s| s.receipt.charge = charge(240));
    settle(&exchange, 3, alice, "oak", |s| s.receipt.charge = charge(1));
    let day = MarketFigures::from(&figures(&exchange, Days::default()).unwrap()[0]);
    let charged = [day.paid_by_credit.charged_usd, day.paid.charged_usd].map(|usd| usd.0.0);
    assert_eq!(charged, [251 + 240, 1], "240 came back, and are spent first");
}

#[test]
fn the_days_of_a_month_are_its_invoices() {
    let exchange = month();
    let days = Days { from: UtcDay::parse(FROM), until: UtcDay::parse(UNTIL) };
    let days: Vec<MarketFigures> =
        figures(&exchange, days).unwrap().iter().map(MarketFigures::from).collect();
    assert_eq!(days.len(), 28);
    let period = Period { from: Some(at(FROM)), until: Some(at(UNTIL)) };
    let invoice =
        |name| exchange.shared.index.lock().with_journal(|journal| invoice_of(journal, name, period));
    let invoices = ["alice", "bob"].map(|name| invoice(name).unwrap());
    let spent: i128 = invoices.iter().map(|invoice| nano(&invoice.spent_usd)).sum();
    // All credit of these books was given.
    let charged: u64 = days.iter().map(|day| day.paid_by_credit.charged_usd.0.0).sum();
    assert_eq!(
        (i128::from(charged), days.iter().map(|day| day.paid.charged_usd.0.0).sum::<u64>()),
        (spent, 0)
    );
    let used = |day: &MarketFigures| {
        let all = day.models.iter().flat_map(|m| [m.paid, m.subsidised, m.free, m.own_key]);
        all.map(|used| used.requests).sum::<u64>()
    };
    let lines = invoices.iter().flat_map(|invoice| &invoice.usage);
    assert_eq!(days.iter().map(used).sum::<u64>(), lines.map(|line| line.requests).sum::<u64>());
}

#[test]
fn days_and_rows_have_bounds() {
    let exchange = market(0);
    let alice = buyer(&exchange, "alice");
    for n in 0..FIGURES_ROWS_MAX as u64 + 2 {
        settle(&exchange, n, alice, "elm", |s| {
            s.receipt.model = ModelSlug::parse(&format!("a/{n}")).unwrap();
        });
    }
    let day = MarketFigures::from(&figures(&exchange, Days::default()).unwrap()[0]);
    assert_eq!(day.models.len(), FIGURES_ROWS_MAX + 1);
    let other = day.models.iter().find(|model| model.model == "other").unwrap();
    assert_eq!((other.free.requests, day.unvalued_requests), (2, FIGURES_ROWS_MAX as u64 + 2));
    let later = |n: usize| UtcDay::of(at(NOON)).plus(n as u32).start();
    let on = |n: usize| {
        let (now, id) = (later(n), request(10_000 + n as u64, later(n)));
        exchange.hold(&hold(id, alice, 0, now)).unwrap();
        exchange.settle(settlement(id, alice, 0, now)).unwrap();
    };
    (1..FIGURES_DAYS_MAX).for_each(on);
    assert_eq!(figures(&exchange, Days::default()).unwrap().len(), FIGURES_DAYS_MAX);
    on(FIGURES_DAYS_MAX);
    assert!(matches!(figures(&exchange, Days::default()), Err(FiguresError::TooLong)));
    let from = Some(UtcDay::of(UnixMs(later(1).0)));
    assert_eq!(figures(&exchange, Days { from, until: None }).unwrap().len(), FIGURES_DAYS_MAX);
}

#[test]
fn the_public_figures_are_of_completed_days_and_in_steps() {
    let exchange = two_days();
    exchange.flush().unwrap();
    let ask = |day: &str, now: &str| exchange.figures(UtcDay::parse(day).unwrap(), at(now)).unwrap();
    let of = |day: usize| {
        let days = figures(&exchange, Days::default()).unwrap();
        Some(serde_json::to_string(&MarketFigures::from(&days[day])).unwrap())
    };
    assert_eq!(ask("2083-02-01", "2083-02-02T00:29:59.999Z"), None, "clocks may be a little behind");
    assert_eq!(ask("2083-02-01", "2083-02-02T00:30:00Z").map(|text| text.to_string()), of(0));
    assert_eq!(ask("2083-02-02", "2083-02-02T12:00:00Z"), None, "the running day");
    assert_eq!(ask("2083-02-02", "2083-02-03T12:00:00Z").map(|text| text.to_string()), of(1));
    let quiet = ask("2083-02-03", "2083-02-04T12:00:00Z").unwrap();
    assert!(quiet.starts_with(r#"{"day":"2083-02-03","models":[],"sellers":[],"#), "{quiet}");
    assert!(ask("2083-02-01", "2083-03-04T12:00:00Z").is_some());
    assert_eq!(ask("2083-02-01", "2083-03-05T12:00:00Z"), None, "thirty-one days are kept");
}

#[test]
fn what_is_far_away_is_read_by_the_keeper() {
    let exchange = market(0);
    let alice = buyer(&exchange, "alice");
    let now = at(NOON);
    for n in 0..=GROUPS_AT_ONCE_MAX as u64 {
        let id = request(n, now);
        exchange.hold(&hold(id, alice, 0, now)).unwrap();
        exchange.settle(settlement(id, alice, 0, now)).unwrap();
        exchange.flush().unwrap();
    }
    let (day, later) = (UtcDay::of(now), UnixMs(now.0 + 86_400_000));
    assert!(matches!(exchange.figures(day, later), Err(FundsError::TooMany(_))));
    exchange.shared.keep_figures();
    let told = exchange.figures(day, later).unwrap().unwrap();
    assert!(told.contains(&format!(r#""unvalued_requests":{}"#, GROUPS_AT_ONCE_MAX + 1)), "{told}");
}

fn attended(seller: &str, from: &str, until: &str, gpus: Option<u32>) -> Attendance {
    let (node, seller) = (NodeId([1; 32]), SellerName::parse(seller).unwrap());
    Attendance { node, seller, from: at(from), until: at(until), gpus }
}

#[test]
fn machines_are_counted_by_what_they_say_of_themselves() {
    let exchange = two_days();
    let now = at("2083-02-03T00:00:00Z");
    let told = [
        // Three hours of two GPUs before midnight, one after it.
        attended("local", "2083-02-01T21:00:00Z", "2083-02-02T01:00:00Z", Some(2)),
        attended("maple", "2083-02-01T10:00:00Z", "2083-02-01T10:30:00Z", Some(0)),
        attended("elm", "2083-02-01T10:00:00Z", "2083-02-01T11:00:00Z", None),
        attended("elm", "2083-02-01T11:00:00Z", "2083-02-01T12:00:00Z", Some(8)),
    ];
    for one in told {
        exchange.attended(one, now).unwrap();
    }
    let days = figures(&exchange, Days::default()).unwrap();
    let days: Vec<MarketFigures> = days.iter().map(MarketFigures::from).collect();
    let of = |day: usize, name: &str| {
        let seller = days[day].sellers.iter().find(|seller| seller.seller == name).unwrap();
        (seller.machine_seconds, seller.gpu_seconds, seller.revenue_per_gpu_hour_usd.map(|usd| usd.0.0))
    };
    let revenue = days[0].sellers.iter().find(|seller| seller.seller == "local").unwrap().revenue_usd.0.0;
    assert_eq!(of(0, "local"), (Some(10_800), Some(21_600), Some(revenue / 6)));
    assert_eq!(of(1, "local"), (Some(3_600), Some(7_200), Some(0)), "it was there and earned nothing");
    assert_eq!(of(0, "maple"), (Some(1_800), Some(0), None), "it has no GPU");
    assert_eq!(of(0, "elm"), (Some(7_200), None, None), "not all is known");
    assert_eq!(of(0, "oak"), (None, None, None), "nobody knows anything");
    assert_eq!(
        (days[0].gpu_seconds, days[0].revenue_per_gpu_hour_usd.map(|usd| usd.0.0)),
        (Some(21_600), Some(revenue / 6))
    );
    let text = figures(&exchange, Days::default()).unwrap()[0].text().join("\n");
    let machines = text.split("\n\n").find(|part| part.contains("MACHINE-HOURS")).unwrap();
    let want = "SELLER                                MACHINE-HOURS          GPU-HOURS   USD PER GPU-HOUR
elm                                           2.000            unknown            unknown
local                                         3.000              6.000        0.000000111
maple                                         0.500              0.000             no GPU";
    assert_eq!(machines, want);
    check_clean(&exchange);
}

#[test]
fn an_attendance_that_cannot_have_been_is_refused() {
    let exchange = market(0);
    let now = at("2083-02-03T00:00:00Z");
    let check = |from: u64, until: u64, gpus, want| {
        let told = Attendance {
            from: UnixMs(now.0 - from),
            until: UnixMs(now.0 - until),
            ..attended("elm", NOON, NOON, gpus)
        };
        assert_eq!(exchange.attended(told, now), want, "{from} {until} {gpus:?}");
    };
    check(ATTENDED_MS_MAX, 0, Some(GPUS_MAX), Ok(()));
    check(ATTENDED_MS_MAX + 1, 0, None, Err(FundsError::Conflict));
    check(1, 0, Some(GPUS_MAX + 1), Err(FundsError::Conflict));
    check(1, 1, None, Err(FundsError::Conflict));
    check(1, 2, None, Err(FundsError::Conflict));
    let ahead = |ms| Attendance { from: now, until: UnixMs(now.0 + ms), ..attended("elm", NOON, NOON, None) };
    assert_eq!(exchange.attended(ahead(60_000), now), Ok(()));
    assert_eq!(exchange.attended(ahead(60_001), now), Err(FundsError::Conflict));
}

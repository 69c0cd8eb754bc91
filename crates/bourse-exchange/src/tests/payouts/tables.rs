//! Payouts as a table: what `bourse payout list` says, however the journal was cut into batches.

use super::*;
use crate::project::{Projection, project_of};
use crate::tests::cluster::Cluster;
use crate::tests::invoice::nano;
use crate::tests::project::{ask as sql, check, run as project, with_journal};
use std::ops::ControlFlow;

const TABLE: &str = "SELECT string_agg(p::text, E'\\n' ORDER BY p.id) FROM bourse_read.payouts p";

/// Every payout as the house lists it, in nano-dollars and milliseconds.
fn listed(shop: &Shop) -> String {
    let line = |line: PayoutLine| {
        let note = line.note.unwrap_or_default();
        let (amount, planned, since) = (nano(&line.amount_usd), line.planned_ms, line.since_ms);
        let PayoutLine { id, seller, rail, state, .. } = line;
        format!("{id}|{seller}|{amount}|{rail}|{state}|{planned}|{since}|{note}")
    };
    shop.lines().0.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The same from the table: a payout is in its state since the time of that.
fn tabled(cluster: &Cluster) -> String {
    let lines = "SELECT string_agg(concat_ws('|', p.id, replace(a.name, 'seller:', ''), p.amount, p.rail, p.state,
            (extract(epoch FROM p.planned_at) * 1000)::bigint,
            (extract(epoch FROM coalesce(p.paid_at, p.late_at, p.failed_at, p.sending_at, p.planned_at)) * 1000)::bigint,
            coalesce(p.reference, p.reason, '')), E'\\n' ORDER BY p.id)
        FROM bourse_read.payouts p JOIN bourse_read.accounts a ON a.id = p.seller";
    sql(cluster, lines)
}

fn agrees(shop: &Shop, cluster: &Cluster) {
    shop.exchange.flush().unwrap();
    project(&shop.exchange, cluster, false).unwrap();
    assert_eq!(tabled(cluster), listed(shop));
    check(&shop.exchange, cluster);
    let held = "SELECT count(*) FROM bourse_read.payouts p FULL JOIN
            (SELECT * FROM bourse_read.holds WHERE credit = (SELECT id FROM bourse_read.accounts WHERE name = 'escrow')) h
            ON h.id = p.hold AND h.debit = p.seller AND h.amount = p.amount
        WHERE (h.id IS NOT NULL) <> (coalesce(p.state, '') IN ('planned', 'sending'))";
    assert_eq!(sql(cluster, held), "0", "what is on its way is held, and nothing else is");
    let moved = "SELECT (SELECT coalesce(sum(amount), 0) FROM bourse_read.payouts WHERE state = 'paid') -
        (SELECT coalesce(sum(m.amount), 0) FROM bourse_read.movements m JOIN bourse_read.accounts a ON a.id = m.account
         WHERE a.name = 'escrow' AND m.amount > 0)";
    assert_eq!(sql(cluster, moved), "0", "what was paid has left escrow");
}

#[test]
fn the_table_is_the_list_at_every_step_and_made_anew() {
    let (cluster, mut shop) = (Cluster::start(), Shop::with_sales(1));
    shop.run();
    agrees(&shop, &cluster);
    // One that waits, then is paid; one that fails, is told to be paid all the same, and is booked with the next sale.
    shop.sell();
    shop.faults(&[Fault::None, Fault::Delayed(2)]);
    shop.run();
    agrees(&shop, &cluster);
    shop.run();
    shop.run();
    shop.sell();
    shop.faults(&[Fault::None, Fault::PaidLate(2)]);
    shop.run();
    agrees(&shop, &cluster);
    shop.address("maple-2");
    shop.run();
    agrees(&shop, &cluster);
    shop.run();
    assert_eq!(shop.states(), ["paid", "paid", "late", "paid"]);
    agrees(&shop, &cluster);
    shop.sell();
    shop.run();
    shop.sell();
    shop.faults(&[Fault::None, Fault::Delayed(9)]);
    shop.run();
    assert_eq!(shop.states(), ["paid", "paid", "paid", "paid", "sending"]);
    agrees(&shop, &cluster);

    let (table, late) = (
        sql(&cluster, TABLE),
        "SELECT count(*) FROM bourse_read.payouts
        WHERE state = 'paid' AND sending_at <= failed_at AND failed_at < late_at AND late_at <= paid_at
            AND reference LIKE 'fake-%' AND reason = 'the payee''s account is closed'",
    );
    assert_eq!(sql(&cluster, late), "1", "each state has its time");
    let sums = "SELECT string_agg(concat_ws('|', seller, state, payouts, amount), ',' ORDER BY state)
        FROM bourse_read.payouts_by_seller";
    let shown = format!("seller:local|paid|4|{},seller:local|sending|1|{SHARE}", 4 * SHARE);
    assert_eq!(sql(&cluster, sums), shown);
    assert!(!table.contains("maple"), "where sellers take money is in no table: {table}");
    // In one transaction, and one for each group.
    project(&shop.exchange, &cluster, true).unwrap();
    assert_eq!(sql(&cluster, TABLE), table);
    let anew = Projection { rebuild: true, ..Projection::default() };
    with_journal(&shop.exchange, |journal| {
        project_of(journal, &cluster.url(), &anew, 1, |_| ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(sql(&cluster, TABLE), table);
}

//! The books as tables: a seeded month in SQL says what the house's own readers say, whatever was killed on the way.

use super::cluster::Cluster;
use super::invoice::{FROM, UNTIL, at, buyer, credit, month, nano};
use crate::Exchange;
use crate::books::{balances_of, statement_of, usd};
use crate::invoice::invoice_of;
use crate::postings::Period;
use crate::project::{
    PROJECTION_GROUPS_MAX, PROJECTION_LAYOUT, ProjectError, Projected, Projection, project_of,
};
use bourse_ledger::Journal;
use std::ops::ControlFlow;

pub(super) fn with_journal<T>(exchange: &Exchange, read: impl FnOnce(&dyn Journal) -> T) -> T {
    exchange.shared.index.lock().with_journal(read)
}

pub(super) fn run(exchange: &Exchange, cluster: &Cluster, rebuild: bool) -> Result<Projected, ProjectError> {
    let what = Projection { rebuild, ..Projection::default() };
    with_journal(exchange, |journal| {
        project_of(journal, &cluster.url(), &what, PROJECTION_GROUPS_MAX, |_| ControlFlow::Continue(()))
    })
}

pub(super) fn ask(cluster: &Cluster, sql: &str) -> String {
    cluster.sql(sql).unwrap_or_else(|| panic!("a row: {sql}"))
}

/// Every account as the house shows it, a line each.
fn balances(exchange: &Exchange) -> String {
    let core = exchange.shared.core.lock();
    let line = |line: crate::AccountLine| {
        let mut sums =
            [line.balance_usd, line.held_usd, line.available_usd].map(|usd| nano(&usd).to_string());
        sums[2] = sums[2].trim_start_matches('-').to_owned();
        format!("{}|{}|{}", line.name, line.kind, sums.join("|"))
    };
    let mut lines: Vec<String> = balances_of(&core).into_iter().map(line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

const BALANCES: &str = "SELECT string_agg(line, E'\\n' ORDER BY line COLLATE \"C\") FROM (SELECT concat_ws('|', name, \
     kind, balance, held, available) AS line FROM bourse_read.account_balances) l";

/// The tables hold what the journal says, and nothing twice.
pub(super) fn check(exchange: &Exchange, cluster: &Cluster) {
    assert_eq!(ask(cluster, BALANCES), balances(exchange));
    let off =
        "SELECT count(*) FROM bourse_read.trial_balance WHERE difference <> 0 OR pending_difference <> 0";
    assert_eq!(ask(cluster, off), "0", "all balances of a unit sum to zero");
    assert_eq!(ask(cluster, "SELECT sum(balance) FROM bourse_read.account_balances"), "0");
    let held = "SELECT count(*) FROM bourse_read.balances b WHERE debits_pending <>
        (SELECT coalesce(sum(amount), 0) FROM bourse_read.holds h WHERE h.debit = b.account)";
    assert_eq!(ask(cluster, held), "0", "what is held is explained by open holds");
    let posted = "SELECT count(*) FROM bourse_read.balances b WHERE credits_posted - debits_posted <>
        (SELECT coalesce(sum(amount), 0) FROM bourse_read.movements m WHERE m.account = b.account)";
    assert_eq!(ask(cluster, posted), "0", "balances are the sums of movements");
    let core = exchange.shared.core.lock();
    let counted = "SELECT concat_ws('|', (SELECT count(*) FROM bourse_read.receipts),
        (SELECT coalesce(max(leaf) + 1, 0) FROM bourse_read.receipts), (SELECT count(*) FROM bourse_read.holds))";
    let (receipts, holds) = (core.log.size(), core.state.pendings_count());
    assert_eq!(ask(cluster, counted), format!("{receipts}|{receipts}|{holds}"));
}

#[test]
fn a_month_in_sql_is_the_month_of_the_books() {
    let (cluster, exchange) = (Cluster::start(), month());
    let done = run(&exchange, &cluster, false).unwrap();
    assert!(done.is_caught_up && done.group == done.of && done.group > 0, "{done:?}");
    check(&exchange, &cluster);

    let period = Period { from: Some(at(FROM)), until: Some(at(UNTIL)) };
    let invoice = with_journal(&exchange, |journal| invoice_of(journal, "alice", period)).unwrap();
    let balance = |moment| ask(&cluster, &format!("SELECT bourse_read.balance_at('alice', '{moment}Z')"));
    assert_eq!(usd(balance(FROM).parse().unwrap()), invoice.opening_usd);
    assert_eq!(usd(balance(UNTIL).parse().unwrap()), invoice.closing_usd);
    let lines =
        with_journal(&exchange, |journal| statement_of(journal, "alice", period, 10_000)).unwrap().unwrap();
    let moved = format!(
        "SELECT concat_ws('|', count(*), sum(m.amount)) FROM bourse_read.movements m JOIN bourse_read.accounts a
         ON a.id = m.account WHERE a.name = 'alice' AND m.at >= '{FROM}Z' AND m.at < '{UNTIL}Z'"
    );
    let sum: i128 = lines.iter().map(|line| nano(&line.amount_usd)).sum();
    assert_eq!(ask(&cluster, &moved), format!("{}|{sum}", lines.len()));

    let spent = format!(
        "SELECT string_agg(concat_ws('|', day, model, requests, cost), ',' ORDER BY day, model COLLATE \"C\")
         FROM bourse_read.spend_by_day_and_model WHERE account = 'alice' AND day >= '{FROM}' AND day < '{UNTIL}'"
    );
    let mut days: Vec<(String, u64, i128)> = Vec::new();
    for line in &invoice.usage {
        let name = format!("{}|{}", line.day, line.model);
        match days.last_mut().filter(|(last, ..)| *last == name) {
            Some((_, requests, cost)) => {
                (*requests, *cost) = (*requests + line.requests, *cost + nano(&line.cost_usd));
            }
            None => days.push((name, line.requests, nano(&line.cost_usd))),
        }
    }
    let days: Vec<String> =
        days.iter().map(|(name, requests, cost)| format!("{name}|{requests}|{cost}")).collect();
    assert_eq!(ask(&cluster, &spent), days.join(","));

    let owed =
        "SELECT count(*) FROM bourse_read.account_balances b WHERE kind = 'seller_payable' AND balance <>
        (SELECT sum(revenue) FROM bourse_read.seller_revenue r WHERE r.seller = b.name)";
    assert_eq!(ask(&cluster, owed), "0", "what sellers earned is what they are owed: nobody was paid out");
    let epoch = "SELECT concat_ws('|', number, (closed_at AT TIME ZONE 'UTC')::date, total > 0) FROM bourse_read.epochs";
    assert_eq!(ask(&cluster, epoch), format!("1|{UNTIL}|t"));
    let keys = "SELECT string_agg(concat_ws('|', a.name, k.role, k.label), ',' ORDER BY a.name)
        FROM bourse_read.keys k JOIN bourse_read.accounts a ON a.id = k.account";
    assert_eq!(ask(&cluster, keys), "alice|inference|k,bob|inference|k");
}

#[test]
fn what_is_killed_in_the_middle_goes_on_and_counts_nothing_twice() {
    let (mut cluster, exchange) = (Cluster::start(), month());
    // A transaction that dies when all its rows are written, and its projector with it.
    let what = Projection::default();
    let small = |cluster: &Cluster, mut seen: Box<dyn FnMut(Projected) -> ControlFlow<()> + '_>| {
        with_journal(&exchange, |journal| project_of(journal, &cluster.url(), &what, 1, &mut seen))
    };
    let begun = small(&cluster, Box::new(|_| ControlFlow::Break(()))).unwrap();
    assert!(!begun.is_caught_up && begun.group < begun.of, "{begun:?}");
    let behind = ask(&cluster, "SELECT groups_behind FROM bourse_read.progress");
    assert_eq!(behind, (begun.of - begun.group).to_string());
    cluster.sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'killed'; END $$;
         CREATE TRIGGER dies BEFORE UPDATE ON bourse_read.head FOR EACH ROW WHEN (NEW.group_seq > 2)
         EXECUTE FUNCTION die()",
    );
    let died = small(&cluster, Box::new(|_| ControlFlow::Continue(()))).unwrap_err();
    assert!(matches!(&died, ProjectError::Tables(why) if why.contains("killed")), "{died}");
    cluster.sql("DROP TRIGGER dies ON bourse_read.head");
    // The server is killed under a projector.
    let mut steps = 0;
    let url = cluster.url();
    let killed = with_journal(&exchange, |journal| {
        project_of(journal, &url, &what, 1, |_| {
            steps += 1;
            if steps == 2 {
                cluster.kill();
            }
            ControlFlow::Continue(())
        })
    });
    assert!(matches!(killed, Err(ProjectError::Tables(_))), "{killed:?}");
    cluster.restart();
    let done = run(&exchange, &cluster, false).unwrap();
    assert!(done.is_caught_up, "{done:?}");
    check(&exchange, &cluster);

    // More happens, and comes in its turn, also behind holds that were open before.
    credit(&exchange, "bob", 5, at("2083-03-03"));
    buyer(&exchange, r#"carol\\ \"x\""#);
    exchange.flush().unwrap();
    run(&exchange, &cluster, false).unwrap();
    check(&exchange, &cluster);
    let tables = ask(&cluster, BALANCES);
    let again = run(&exchange, &cluster, true).unwrap();
    assert_eq!((ask(&cluster, BALANCES), again.is_caught_up), (tables, true), "made anew they are the same");
}

#[test]
fn one_that_follows_takes_what_comes() {
    let (cluster, exchange) = (Cluster::start(), super::market(5));
    let what = Projection { follow: true, ..Projection::default() };
    let mut came = Vec::new();
    with_journal(&exchange, |journal| {
        project_of(journal, &cluster.url(), &what, PROJECTION_GROUPS_MAX, |projected| {
            came.push(projected.group);
            if came.len() > 1 && came.last() > came.first() {
                return ControlFlow::Break(());
            }
            super::key(&exchange, Some(3));
            exchange.flush().unwrap();
            ControlFlow::Continue(())
        })
    })
    .unwrap();
    check(&exchange, &cluster);
}

#[test]
fn tables_of_another_version_other_books_or_somebody_else_are_left_alone() {
    let (cluster, exchange) = (Cluster::start(), super::market(5));
    run(&exchange, &cluster, false).unwrap();
    let other = Exchange::in_memory(crate::ExchangeConfig::default(), [8; 32], super::START).unwrap();
    let refused = run(&other, &cluster, false).unwrap_err();
    assert!(matches!(refused, ProjectError::OtherBooks { .. }), "{refused}");
    cluster.sql("UPDATE bourse_read.head SET layout = layout + 1");
    let refused = run(&exchange, &cluster, false).unwrap_err();
    assert!(matches!(refused, ProjectError::Layout { found } if found == PROJECTION_LAYOUT + 1), "{refused}");
    run(&other, &cluster, true).unwrap();
    check(&other, &cluster);
    let second = with_journal(&other, |journal| {
        project_of(journal, &cluster.url(), &Projection::default(), 1, |_| {
            let second = run(&exchange, &cluster, true);
            assert!(matches!(second, Err(ProjectError::Another)), "{second:?}");
            ControlFlow::Continue(())
        })
    });
    second.unwrap();
    check(&other, &cluster);
}

//! Two markets over one database: the second serves when the first is killed, with everything that was acknowledged.

use crate::buyer::buy_once;
use crate::cluster::Cluster;
use crate::program::{begin, run, serving, up};
use crate::{resale, seller};
use std::time::{Duration, Instant};

/// The lease ends three seconds after its owner's last word. What a slow machine adds is not the point here.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_standby_takes_over_when_the_active_market_is_killed() {
    let (cluster, seller) = (Cluster::start(), seller::start());
    let [active, waiting] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let alone = run(active.path(), &["up", "--no-node", "--standby", "--listen", "127.0.0.1:0"]).failure();
    assert!(alone.contains("needs books in a database") && alone.contains("bourse migrate"), "{alone}");
    run(active.path(), &["migrate", "--to", &cluster.url()]).success();
    let config = resale(&seller.base_url);
    let market = up(active.path(), &config, &["--no-node"], &[]);
    run(active.path(), &["ledger", "credit", "operator", "2"]).success();
    let (key, named) = (market.key.clone(), ["an order in one piece", "a streamed order"]);
    let ask = |base_url: &str| {
        let ask = |n: usize| buy_once(base_url, &key, named[n], n == 1).unwrap();
        [ask(0), ask(1)]
    };
    let first = ask(&market.base_url);
    assert!(first.iter().all(|answer| answer.is_whole() && !answer.is_replayed), "{first:?}");
    for file in ["exchange.key", "exchange.journal"] {
        std::fs::copy(active.path().join(file), waiting.path().join(file)).unwrap();
    }

    let standby = begin(serving("up", waiting.path(), &config, &["--no-node", "--standby"], &[]));
    standby.hear("standing by");

    let died = Instant::now();
    market.kill();
    let standby = standby.ready();
    let took = died.elapsed();
    println!("taken over after {took:?}");
    assert!(took < TAKES_OVER_WITHIN, "{took:?}");
    let balances = run(waiting.path(), &["ledger", "balance", "--json"]).json();
    let operator = balances.as_array().unwrap().iter().find(|line| line["name"] == "operator").unwrap();
    assert_eq!(operator["balance_usd"], "11.999740000", "what was acknowledged is there");
    for (again, first) in ask(&standby.base_url).into_iter().zip(first) {
        assert!(again.is_replayed, "its answer is there, too: {again:?}");
        assert_eq!((again.body, again.generation), (first.body, first.generation));
    }
    let credited = run(waiting.path(), &["ledger", "credit", "operator", "1"]).success();
    assert!(credited.contains("$12.99974"), "the new one writes, and nothing was charged again: {credited}");
    standby.kill();
    let checked = run(waiting.path(), &["ledger", "check"]).success();
    assert!(checked.starts_with("the books are clean"), "{checked}");
}

#[test]
fn a_standby_waits_for_a_database_that_goes_away_and_takes_over_when_it_is_back() {
    let (mut cluster, seller) = (Cluster::start(), seller::start());
    let [active, waiting] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    run(active.path(), &["migrate", "--to", &cluster.url()]).success();
    let config = resale(&seller.base_url);
    let market = up(active.path(), &config, &["--no-node"], &[]);
    run(active.path(), &["ledger", "credit", "operator", "2"]).success();
    for file in ["exchange.key", "exchange.journal"] {
        std::fs::copy(active.path().join(file), waiting.path().join(file)).unwrap();
    }
    let standby = begin(serving("up", waiting.path(), &config, &["--no-node", "--standby"], &[]));
    // It waits for the lease now, for the first time.
    standby.hear("standing by until");

    cluster.kill();
    standby.hear("the database is away");
    let told = "cannot be opened in their database";
    let refused = run(active.path(), &["ledger", "balance"]).failure();
    assert!(refused.contains(told) && refused.contains("exchange.journal"), "{refused}");
    cluster.restart();

    let standby = standby.ready();
    let credited = run(waiting.path(), &["ledger", "credit", "operator", "1"]).success();
    assert!(credited.contains("$13"), "the new one writes: {credited}");
    market.kill();
    standby.kill();
    let checked = run(waiting.path(), &["ledger", "check"]).success();
    assert!(checked.starts_with("the books are clean"), "{checked}");
}

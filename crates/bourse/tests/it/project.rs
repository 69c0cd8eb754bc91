//! `bourse ledger project`: the books of a market as tables, behind it when it has stopped and beside it while it sells.

use crate::cluster::Cluster;
use crate::program::{begin, command, finish, run, up};
use crate::{resale, seller};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// It looks twice a second. What a slow machine adds is not the point here.
const FOLLOWS_WITHIN: Duration = Duration::from_mins(1);

/// What the tables say that the operator has, in nano-dollars. None: they do not know the account yet.
fn balance(cluster: &Cluster) -> Option<String> {
    cluster.sql("SELECT balance FROM bourse_read.account_balances WHERE name = 'operator'")
}

/// Waits until the tables are there and say so.
fn until(cluster: &Cluster, nano_usd: &str) {
    let given_up = Instant::now() + FOLLOWS_WITHIN;
    let there = "SELECT to_regclass('bourse_read.account_balances') IS NOT NULL";
    while cluster.sql(there).as_deref() != Some("t") || balance(cluster).as_deref() != Some(nano_usd) {
        assert!(Instant::now() < given_up, "the tables never said that the operator has {nano_usd}");
        std::thread::yield_now();
    }
}

#[test]
fn the_books_of_a_stopped_market_are_tables() {
    let (cluster, seller) = (Cluster::start(), seller::start());
    let [dir, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let project = |dir: &Path, args: &[&str]| run(dir, &[&["ledger", "project"], args].concat());
    let none = project(dir.path(), &["--to", &cluster.url()]).failure();
    assert!(none.contains("there are no books in"), "{none}");
    let config = format!("[payouts]\nrail = \"fake\"\nminimum = \"0.00001\"\n{}", resale(&seller.base_url));
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    run(dir.path(), &["chat", "hello"]).success();
    for paid in ["ledger deposit subsidy 1", "payout address echo maple-1", "payout run"] {
        run(dir.path(), &paid.split(' ').collect::<Vec<_>>()).success();
    }
    market.stop();

    let nowhere = project(dir.path(), &[]).failure();
    assert!(
        nowhere.contains("no database is named") && nowhere.contains("hint: --to URL names one"),
        "{nowhere}"
    );
    let unset = project(dir.path(), &["--to-env", "TABLES_URL"]).failure();
    assert!(unset.contains("the variable TABLES_URL is not set"), "{unset}");
    let mut away = command(dir.path(), &["ledger", "project", "--to-env", "TABLES_URL"]);
    away.env("TABLES_URL", "postgres://u:s3cret@localhost:1/b?sslmode=require").env("BOURSE_LOG", "trace");
    let away = finish(away).failure();
    assert!(away.contains("the tables' database failed") && !away.contains("s3cret"), "{away}");

    let mut first = command(dir.path(), &["ledger", "project", "--to-env", "TABLES_URL"]);
    first.env("TABLES_URL", cluster.url());
    let told = finish(first).success();
    let group = told.strip_prefix("the tables in `bourse_read` are at group ").expect(&told).trim_end();
    assert_eq!(balance(&cluster).as_deref(), Some("9999870000"), "$10 less what one answer cost");
    let counted = "SELECT concat_ws('|', (SELECT count(*) FROM bourse_read.receipts),
        (SELECT count(*) > 0 FROM bourse_read.epochs), (SELECT groups_behind FROM bourse_read.progress))";
    assert_eq!(cluster.sql(counted).as_deref(), Some("1|t|0"), "the close ended an epoch");
    let payouts =
        "SELECT string_agg(concat_ws('|', a.name, p.state, p.rail, p.amount > 0, sending_at <= paid_at,
        starts_with(reference, 'fake-'), reason), ',')
        FROM bourse_read.payouts p JOIN bourse_read.accounts a ON a.id = p.seller";
    assert_eq!(cluster.sql(payouts).as_deref(), Some("seller:echo|paid|fake|t|t|t"));
    let again = project(dir.path(), &["--to", &cluster.url(), "--json"]).json();
    let group: u64 = group.parse().expect(group);
    assert_eq!(again, json!({"group": group, "of": group, "is_caught_up": true}), "nothing more was there");

    up(other.path(), &config, &["--no-node"], &[]).stop();
    let refused = project(other.path(), &["--to", &cluster.url()]).failure();
    assert!(
        refused.contains("the tables are of other books") && refused.contains("`--rebuild`"),
        "{refused}"
    );
    assert_eq!(balance(&cluster).as_deref(), Some("9999870000"), "they were left alone");
    project(other.path(), &["--to", &cluster.url(), "--rebuild"]).success();
    assert_eq!(balance(&cluster).as_deref(), Some("10000000000"));
}

#[test]
fn the_tables_follow_a_market_whose_books_lie_beside_them() {
    let (cluster, seller) = (Cluster::start(), seller::start());
    let [dir, elsewhere] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let config = resale(&seller.base_url);
    up(dir.path(), &config, &["--no-node"], &[]).stop();
    run(dir.path(), &["migrate", "--to", &cluster.url()]).success();
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    let follower = begin(command(dir.path(), &["ledger", "project", "--follow"]));
    until(&cluster, "10000000000");
    run(dir.path(), &["ledger", "credit", "operator", "2"]).success();
    until(&cluster, "12000000000");
    let second = run(dir.path(), &["ledger", "project"]).failure();
    assert!(second.contains("another projector writes to these tables"), "{second}");
    assert!(second.contains("hint: one is enough"), "{second}");

    drop(follower);
    run(dir.path(), &["ledger", "credit", "operator", "1"]).success();
    market.stop();
    let caught_up = run(elsewhere.path(), &["ledger", "project", "--from", &cluster.url()]).success();
    assert!(caught_up.starts_with("the tables in `bourse_read` are at group "), "{caught_up}");
    assert_eq!(
        balance(&cluster).as_deref(),
        Some("13000000000"),
        "from where the killed one stopped, and without a data directory"
    );
}

//! The same pairs as rows of a database: accounts with balances, a table of holds, a table of transfers.
//!
//! Written as a careful application would: one transaction for each batch, statements over the whole batch, balances that
//! a constraint keeps from going below zero, ids that a primary key keeps from coming twice.

use crate::{CUSTOMERS, Outcome, ROW_BATCH_PAIRS};
use postgres::{Client, NoTls};
use rusqlite::{Connection, params};
use std::path::Path;

const HELD: i64 = 5_000;
const POSTED: i64 = 1_234;
const CREDIT: i64 = 1_000_000_000_000;

/// Which customer a pair is of.
fn customer(n: u64) -> i64 {
    (n.wrapping_mul(7_919) % CUSTOMERS).cast_signed()
}

pub(crate) fn sqlite(file: &Path, pairs: u64) -> Outcome {
    let mut db = Connection::open(file)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE account(id INTEGER PRIMARY KEY, free INTEGER NOT NULL CHECK (free >= 0), held INTEGER NOT NULL);
         CREATE TABLE hold(id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL);
         CREATE TABLE transfer(id INTEGER PRIMARY KEY, debit INTEGER NOT NULL, amount INTEGER NOT NULL);
         CREATE TABLE seller(one INTEGER PRIMARY KEY, owed INTEGER NOT NULL); INSERT INTO seller VALUES (1, 0);",
    )?;
    for account in 0..CUSTOMERS.cast_signed() {
        db.execute("INSERT INTO account VALUES (?1, ?2, 0)", params![account, CREDIT])?;
    }
    for batch in 0..pairs / ROW_BATCH_PAIRS {
        let work = db.transaction()?;
        for n in batch * ROW_BATCH_PAIRS..(batch + 1) * ROW_BATCH_PAIRS {
            let (id, account) = (n.cast_signed(), customer(n));
            let run = |sql: &str, values: [i64; 3]| work.prepare_cached(sql)?.execute(values).map(drop);
            run(
                "UPDATE account SET free = free - ?1, held = held + ?1 WHERE id = ?2 AND ?3 = ?3",
                [HELD, account, 0],
            )?;
            run("INSERT INTO hold VALUES (?1, ?2, ?3)", [id, account, HELD])?;
            run("DELETE FROM hold WHERE id = ?1 AND ?2 = ?2 AND ?3 = ?3", [id, 0, 0])?;
            run(
                "UPDATE account SET free = free + ?1, held = held - ?2 WHERE id = ?3",
                [HELD - POSTED, HELD, account],
            )?;
            run("INSERT INTO transfer VALUES (?1, ?2, ?3)", [id, account, POSTED])?;
            run("UPDATE seller SET owed = owed + ?1 WHERE one = 1 AND ?2 = ?2 AND ?3 = ?3", [POSTED, 0, 0])?;
        }
        work.commit()?;
    }
    let held: i64 = db.query_row("SELECT sum(held) FROM account", [], |row| row.get(0))?;
    let owed: i64 = db.query_row("SELECT owed FROM seller", [], |row| row.get(0))?;
    check(held, owed, pairs)
}

/// What the rows must come to.
fn check(held: i64, owed: i64, pairs: u64) -> Outcome {
    let right = (0, pairs.cast_signed() * POSTED);
    if (held, owed) == right { Ok(()) } else { Err(format!("the rows come to {held}, {owed}").into()) }
}

pub(crate) fn postgres(url: &str, pairs: u64) -> Outcome {
    let mut db = Client::connect(url, NoTls)?;
    db.batch_execute(
        "CREATE TABLE account(id BIGINT PRIMARY KEY, free BIGINT NOT NULL CHECK (free >= 0), held BIGINT NOT NULL);
         CREATE TABLE hold(id BIGINT PRIMARY KEY, account BIGINT NOT NULL, amount BIGINT NOT NULL);
         CREATE TABLE transfer(id BIGINT PRIMARY KEY, debit BIGINT NOT NULL, amount BIGINT NOT NULL);
         CREATE TABLE seller(one INT PRIMARY KEY, owed BIGINT NOT NULL); INSERT INTO seller VALUES (1, 0);",
    )?;
    let fill = "INSERT INTO account SELECT n, $1, 0 FROM generate_series(0, $2::BIGINT - 1) n";
    db.execute(fill, &[&CREDIT, &CUSTOMERS.cast_signed()])?;
    for batch in 0..pairs / ROW_BATCH_PAIRS {
        let all = batch * ROW_BATCH_PAIRS..(batch + 1) * ROW_BATCH_PAIRS;
        let ids: Vec<i64> = all.clone().map(u64::cast_signed).collect();
        let accounts: Vec<i64> = all.map(customer).collect();
        let mut work = db.transaction()?;
        let sums =
            "FROM (SELECT account, count(*) AS n FROM unnest($1::BIGINT[]) AS account GROUP BY account) b";
        let hold = format!(
            "UPDATE account a SET free = free - b.n * $2, held = held + b.n * $2 {sums} WHERE a.id = b.account"
        );
        work.execute(&hold, &[&accounts, &HELD])?;
        let insert = "INSERT INTO hold SELECT id, account, $3 FROM unnest($1::BIGINT[], $2::BIGINT[]) AS t(id, account)";
        work.execute(insert, &[&ids, &accounts, &HELD])?;
        work.execute("DELETE FROM hold WHERE id = ANY($1)", &[&ids])?;
        let post = format!(
            "UPDATE account a SET free = free + b.n * ($2::BIGINT - $3::BIGINT), held = held - b.n * $2::BIGINT {sums} WHERE a.id = b.account"
        );
        work.execute(&post, &[&accounts, &HELD, &POSTED])?;
        let insert = "INSERT INTO transfer SELECT id, account, $3 FROM unnest($1::BIGINT[], $2::BIGINT[]) AS t(id, account)";
        work.execute(insert, &[&ids, &accounts, &POSTED])?;
        let owed = i64::try_from(ids.len()).unwrap_or(i64::MAX).saturating_mul(POSTED);
        work.execute("UPDATE seller SET owed = owed + $1", &[&owed])?;
        work.commit()?;
    }
    let held = db.query_one("SELECT sum(held)::BIGINT FROM account", &[])?.get(0);
    let owed = db.query_one("SELECT owed FROM seller", &[])?.get(0);
    check(held, owed, pairs)
}

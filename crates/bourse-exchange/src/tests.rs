//! The exchange in memory, in a directory, and under threads.

#[path = "../tests/cluster/mod.rs"]
#[expect(dead_code, reason = "tests of the journal ask it for more")]
pub(crate) mod cluster;
#[path = "../tests/support/mod.rs"]
pub(crate) mod support;

mod accounts;
mod activity;
mod admin;
mod adopt;
mod budgets;
mod byok;
mod claims;
mod damage;
mod epochs;
mod export;
pub(crate) mod figures;
mod funds;
mod gifts;
pub(crate) mod invoice;
mod laws;
mod limits;
mod metered;
mod payouts;
mod project;
mod rates;
mod records;
mod replay;
mod serve;
mod simulation;
mod statements;
mod suspense;
mod threads;

use crate::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_types::NanoUsd;
use bourse_wire::funds::{Funds, KeyGrant};
use std::path::Path;
use support::START;

/// A market in memory whose operator has `credit` nano-USD.
fn market(credit: u64) -> Exchange {
    let config = ExchangeConfig { starting_credit: NanoUsd(credit), ..ExchangeConfig::default() };
    Exchange::in_memory(config, [7; 32], START).unwrap()
}

fn market_in(dir: &Path, credit: u64) -> Exchange {
    let config = ExchangeConfig { starting_credit: NanoUsd(credit), ..ExchangeConfig::default() };
    Exchange::open(dir, config, START).unwrap()
}

fn ask(exchange: &Exchange, json: &str) -> AdminReply {
    exchange.admin(serde_json::from_str(json).unwrap(), START).unwrap()
}

fn refused(exchange: &Exchange, json: &str) -> String {
    let request: AdminRequest = serde_json::from_str(json).unwrap();
    exchange.admin(request, START).unwrap_err().to_string()
}

/// A new key of the operator's account; `limit` in nano-USD.
fn key(exchange: &Exchange, limit: Option<u64>) -> KeyGrant {
    let limit_usd = limit.map(|limit| NanoUsd(limit).to_usd_string());
    let create = AdminRequest::CreateKey(NewKey { label: "test".to_owned(), limit_usd, ..NewKey::default() });
    let AdminReply::KeyCreated { secret, .. } = exchange.admin(create, START).unwrap() else { panic!() };
    exchange.authenticate(&hash_key(&secret.0), START).unwrap()
}

/// `name balance-held` of every account that moved, amounts in nano-USD.
fn books(exchange: &Exchange) -> String {
    let core = exchange.shared.core.lock();
    let line = |(account, balance): (bourse_ledger::Account, bourse_ledger::Balance)| {
        let held = balance.debits_pending;
        let held = if held == 0 { String::new() } else { format!("-{held}") };
        let name = core.names.name(account.id);
        let moved = balance.debits_pending + balance.debits_posted + balance.credits_posted > 0;
        moved.then(|| format!("{} {}{held}", name.split(':').next().unwrap(), balance.net_posted()))
    };
    core.state.accounts().filter_map(line).collect::<Vec<_>>().join(", ")
}

fn check_clean(exchange: &Exchange) {
    let report = exchange.check(START).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(facts(report).state_digest, exchange.digest().to_string(), "replay gives the live state");
}

fn facts(report: crate::CheckReport) -> crate::BooksFacts {
    report.facts.expect("books that could be read")
}

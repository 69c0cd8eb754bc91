//! What must be true when all is over, whatever happened.

use crate::buyer::{Heard, Told};
use crate::plan::key_of;
use crate::world::{Broken, World};
use bourse_exchange::{Exchange, hash_key};
use bourse_types::{NanoUsd, UnixMs};
use bourse_wire::funds::Records as _;
use std::collections::BTreeSet;

/// More than any answer here can cost.
const DEAREST_NANO: u64 = 4_000_000;

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what())) }
}

/// Checks all laws. Gives back how many receipts there are.
pub(crate) fn check(world: &World<'_>, exchange: &Exchange, now: UnixMs) -> Result<u64, Broken> {
    must(exchange.open_holds() == 0, || format!("{} phantom holds", exchange.open_holds()))?;
    let report = exchange.check(now)?;
    // A snapshot that the plan damaged is found, and the journal alone is enough.
    let is_found = |problem: &String| world.disk.is_damaged() && problem.contains("snapshot");
    must(report.problems.iter().all(is_found), || format!("the books: {:?}", report.problems))?;
    let facts = report.facts.ok_or_else(|| Broken("books that cannot be read".to_owned()))?;
    must(facts.debits_posted == facts.credits_posted, || "the books do not sum to zero".to_owned())?;
    nobody_was_overdrawn(exchange)?;
    let known = world.known.lock();
    for (buyer, account) in world.accounts.iter().enumerate() {
        let status = exchange.key_status(&hash_key(&account.key), now)?;
        let (spent, left) = (status.account_spent.0, status.account_available.0);
        must(spent <= account.credit, || format!("{}: {spent} spent of {}", account.name, account.credit))?;
        must(left == account.credit - spent, || format!("{}: {left} left", account.name))?;
        let (mut explained, mut unheard) = (0, 0);
        let mut keys = BTreeSet::new();
        for (number, told) in known.iter().enumerate().filter(|(_, told)| told.buyer == buyer) {
            match charged(exchange, number, told)? {
                Some(charge) => {
                    explained += charge;
                    let key = key_of(number as u64).filter(|_| charge > 0);
                    let is_first = key.is_none_or(|key| keys.insert(key));
                    must(is_first, || format!("#{number}: a second charge under its key"))?;
                }
                None => unheard += 1,
            }
        }
        must(spent >= explained && spent - explained <= unheard * DEAREST_NANO, || {
            format!("{}: {spent} spent, {explained} told, {unheard} requests without an answer", account.name)
        })?;
    }
    Ok(facts.receipts)
}

/// What a request was charged, where its buyer can know; what it was told must be that.
fn charged(exchange: &Exchange, number: usize, told: &Told) -> Result<Option<u64>, Broken> {
    let Some(request) = told.request else {
        // Without a receipt's name it costs nothing, if it was heard at all.
        return Ok((!matches!(told.heard, Heard::Asked | Heard::Left)).then_some(0));
    };
    let receipt = exchange.receipt(request)?;
    let posted = receipt.map(|document| document.receipt.charge.total);
    let charge = posted.unwrap_or(NanoUsd::ZERO);
    if told.heard == Heard::Whole {
        let is_told = told.cost.is_some() || told.status != 200;
        must(is_told, || format!("#{number}: no cost was told"))?;
        let cost = told.cost.unwrap_or(NanoUsd::ZERO);
        let is_so = cost == charge || told.is_doubtful && charge < cost;
        must(is_so && (told.has_failed || posted.is_some()), || {
            format!("#{number}: {request} was told {cost}, and the books have {posted:?}")
        })?;
    }
    Ok(Some(charge.0))
}

/// At no commit: any of them could have been the last.
fn nobody_was_overdrawn(exchange: &Exchange) -> Result<(), Broken> {
    let mut found = None;
    exchange.balances_by_group(|group, accounts| {
        let bad = accounts.iter().filter(|account| account.kind == "customer");
        let bad = bad.into_iter().find(|account| account.available_usd.starts_with('-'));
        found = found.take().or_else(|| bad.map(|account| format!("{} at group {group}", account.name)));
    })?;
    found.map_or(Ok(()), |who| Err(Broken(format!("overdrawn: {who}"))))
}

//! The best-execution report: the caller's own generations beside the market, and how the market treats sellers.
//!
//! It covers what this gateway remembers ([`EXECUTIONS_MAX`] settled requests of all buyers since it started), and says
//! how far back that reaches. Amounts are shown of the caller's account alone; of others only how often sellers could
//! serve and did.

use super::query::Query;
use crate::executions::{Asked, Compared, EXECUTIONS_MAX, Executed};
use crate::gateway::Shared;
use bourse_types::{DurationMs, NanoUsd, RequestId, UnixMs};
use bourse_wire::api::{Ask, BestExecution, Data, Execution, Neutrality, SellerShare, Totals, Usd, Window};
use bourse_wire::error::{ApiError, ErrorType};
use bourse_wire::funds::KeyGrant;
use std::collections::BTreeMap;

/// Generations that are listed when the call does not say.
const LISTED_DEFAULT: usize = 100;
/// How far back a report looks when the call does not say.
const WINDOW_DEFAULT: DurationMs = DurationMs(86_400_000);

pub(super) fn best_execution(
    shared: &Shared,
    grant: &KeyGrant,
    query: &Query<'_>,
) -> Result<Data<BestExecution>, ApiError> {
    let all = shared.executions.all();
    let remembered_since = all.first().map(|oldest| oldest.settled.to_iso_string());
    let window = |(since, until): (UnixMs, UnixMs)| Window {
        since: since.to_iso_string(),
        until: until.to_iso_string(),
        remembered_since: remembered_since.clone(),
        remembered_max: EXECUTIONS_MAX as u64,
    };
    let is_own = |executed: &Executed| executed.account_digest == grant.account_digest;
    if let Some(id) = query.text("id") {
        let request = RequestId::parse(id).ok();
        let found = all.into_iter().find(|e| Some(e.request) == request && is_own(e));
        let found = found.ok_or_else(|| forgotten(remembered_since.as_deref()))?;
        let span = (found.settled, UnixMs(found.settled.0.saturating_add(1)));
        return Ok(Data { data: report(window(span), &[found.compared()], 1, is_own) });
    }
    let now = shared.ports.clock.now();
    // A settlement of this very millisecond is of now.
    let until = query.instant("until").unwrap_or(UnixMs(now.0.saturating_add(1)));
    let since = query.instant("since").unwrap_or(UnixMs(until.0.saturating_sub(WINDOW_DEFAULT.0)));
    if since >= until {
        return Err(ApiError::field("since", "`since` must be earlier than `until`"));
    }
    let within = all.into_iter().filter(|e| since <= e.settled && e.settled < until);
    let within: Vec<Compared> = within.map(Executed::compared).collect();
    let limit = query.number("limit").unwrap_or(LISTED_DEFAULT);
    Ok(Data { data: report(window((since, until)), &within, limit, is_own) })
}

fn forgotten(since: Option<&str>) -> ApiError {
    let reach = since.map_or_else(
        || "it remembers none yet".to_owned(),
        |since| format!("it remembers the last {EXECUTIONS_MAX}, since {since}"),
    );
    let message = format!("this gateway does not remember such a generation of yours as settled: {reach}");
    ApiError::new(ErrorType::NotFound, message)
}

fn report(
    window: Window,
    within: &[Compared],
    limit: usize,
    is_own: impl Fn(&Executed) -> bool,
) -> BestExecution {
    let own = || within.iter().filter(|compared| is_own(&compared.executed));
    BestExecution {
        window,
        generations: own().rev().take(limit).map(execution).collect(),
        totals: totals(own()),
        neutrality: neutrality(within),
    }
}

fn execution(compared: &Compared) -> Execution {
    let of = &compared.executed;
    Execution {
        id: of.request.to_string(),
        settled_at: of.settled.to_iso_string(),
        model: of.model.as_str().to_owned(),
        provider: of.seller.as_str().to_owned(),
        cost: Usd(of.cost),
        reason: of.reason,
        attempt: of.attempt,
        asks: compared.asks.iter().map(ask).collect(),
        asks_left_out: of.left_out,
        next_best: compared.next_best().map(ask),
    }
}

fn ask(of: &Asked) -> Ask {
    Ask {
        provider: of.seller.as_str().to_owned(),
        model: of.model.as_str().to_owned(),
        cost: of.cost.map(Usd),
    }
}

/// Sums; they saturate far beyond what a ring can hold.
fn totals<'a>(own: impl Iterator<Item = &'a Compared>) -> Totals {
    let (mut generations, mut at_cheapest, mut cost, mut least) = (0, 0, 0u64, 0u64);
    for compared in own {
        let paid = compared.executed.cost;
        let cheapest = compared.cheapest().unwrap_or(paid);
        generations += 1;
        at_cheapest += u64::from(paid <= cheapest);
        cost = cost.saturating_add(paid.0);
        least = least.saturating_add(cheapest.0);
    }
    Totals { generations, at_cheapest, cost: Usd(NanoUsd(cost)), cost_at_cheapest: Usd(NanoUsd(least)) }
}

fn neutrality(within: &[Compared]) -> Neutrality {
    let mut shares: BTreeMap<&str, SellerShare> = BTreeMap::new();
    for compared in within {
        let cheapest = compared.cheapest();
        for asked in &*compared.asks {
            let provider = asked.seller.as_str();
            let share = shares.entry(provider).or_insert_with(|| SellerShare {
                provider: provider.to_owned(),
                eligible: 0,
                served: 0,
                cheapest: 0,
                served_as_cheapest: 0,
            });
            let (served, is_cheapest) = (asked.seller == compared.executed.seller, asked.cost == cheapest);
            share.eligible += 1;
            share.served += u64::from(served);
            share.cheapest += u64::from(is_cheapest);
            share.served_as_cheapest += u64::from(served && is_cheapest);
        }
    }
    let mut sellers: Vec<SellerShare> = shares.into_values().collect();
    sellers.sort_by_key(|share| std::cmp::Reverse(share.eligible));
    Neutrality { generations: within.len() as u64, sellers }
}

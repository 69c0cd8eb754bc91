//! What could have served instead: the facts behind the best-execution report.
//!
//! When a request is settled, the eligible offers of its plan are priced at what was really used, and the result is
//! kept in a ring of [`EXECUTIONS_MAX`]: the newest, of all buyers, until the gateway ends. A report covers no more
//! than that. Prices are those of the book that the plan was made on.

use crate::market::Book;
use crate::phase::plan::Route;
use bourse_market::{OfferIndex, Rejection};
use bourse_types::{Digest32, ModelSlug, NanoUsd, RequestId, SellerName, UnixMs, Usage};
use bourse_wire::api::Reason;
use bourse_wire::receipt::Receipt;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Settled requests that are remembered.
pub const EXECUTIONS_MAX: usize = 4_096;
/// Eligible offers that are remembered of one request.
pub const ASKS_MAX: usize = 16;

/// Who could serve a request, while it is open.
pub(crate) struct Considered {
    book: Arc<Book>,
    /// In the order of the plan; at most [`ASKS_MAX`].
    eligible: Box<[OfferIndex]>,
    left_out: u32,
    is_ordered: bool,
}

impl Considered {
    /// Attempts, and what only the number of attempts left out.
    pub(crate) fn of(route: &Route) -> Self {
        let could_serve =
            |reason: Rejection| matches!(reason, Rejection::AttemptBudget | Rejection::FallbacksOff);
        let rejected = &route.plan.rejected;
        let beyond = rejected.iter().filter(|(_, reason)| could_serve(*reason)).map(|(index, _)| index);
        let all = route.plan.attempts.iter().copied().chain(beyond);
        let (mut eligible, mut left_out) = (Vec::with_capacity(route.plan.attempts.len()), 0);
        for index in all {
            if eligible.len() < ASKS_MAX {
                eligible.push(index);
            } else {
                left_out += 1;
            }
        }
        let wishes = &route.preferences;
        Self {
            book: Arc::clone(&route.book),
            eligible: eligible.into_boxed_slice(),
            left_out,
            is_ordered: !wishes.order.is_empty() || wishes.sort.is_some(),
        }
    }

    /// The facts once it is settled; none when nobody served.
    pub(crate) fn executed(&self, receipt: &Receipt, settled: UnixMs) -> Option<Executed> {
        let seller = receipt.seller.clone()?;
        let asks: Box<[Asked]> =
            self.eligible.iter().filter_map(|index| self.ask(*index, &receipt.usage_billed)).collect();
        let reason = if self.left_out == 0 && asks.len() <= 1 {
            Reason::OnlyEligible
        } else if receipt.attempts.len() > 1 {
            Reason::Failover
        } else if self.is_ordered {
            Reason::BuyerOrder
        } else {
            Reason::Drawn
        };
        Some(Executed {
            request: receipt.request,
            account_digest: receipt.account_digest,
            settled,
            model: receipt.model.clone(),
            served: asks.iter().position(|ask| ask.seller == seller),
            seller,
            cost: receipt.charge.total,
            reason,
            attempt: u32::try_from(receipt.attempts.len()).unwrap_or(u32::MAX).max(1),
            asks,
            left_out: self.left_out,
        })
    }

    fn ask(&self, index: OfferIndex, usage: &Usage) -> Option<Asked> {
        let offer = self.book.snapshot.offer(index)?;
        let cost = offer.prices.and_then(|prices| prices.charge(usage).ok());
        let cost = cost.map(|charge| charge.total);
        Some(Asked { seller: offer.seller.clone(), model: offer.model.clone(), cost })
    }
}

/// What one eligible offer asked for what was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) seller: SellerName,
    pub(crate) model: ModelSlug,
    pub(crate) cost: Option<NanoUsd>,
}

/// One settled request beside the market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) request: RequestId,
    pub(crate) account_digest: Digest32,
    pub(crate) settled: UnixMs,
    pub(crate) model: ModelSlug,
    pub(crate) seller: SellerName,
    pub(crate) cost: NanoUsd,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) asks: Box<[Asked]>,
    /// Which of `asks` served.
    served: Option<usize>,
    pub(crate) left_out: u32,
}

impl Executed {
    /// The cheapest ask that did not serve.
    pub(crate) fn next_best(&self) -> Option<&Asked> {
        let others = self.asks.iter().enumerate().filter(|(n, _)| Some(*n) != self.served);
        others.map(|(_, ask)| ask).filter(|ask| ask.cost.is_some()).min_by_key(|ask| ask.cost)
    }

    /// The least that any ask costs, the one that served included.
    pub(crate) fn cheapest(&self) -> Option<NanoUsd> {
        self.asks.iter().filter_map(|ask| ask.cost).min()
    }
}

/// The ring.
#[derive(Default)]
pub(crate) struct Executions(Mutex<VecDeque<Arc<Executed>>>);

impl Executions {
    /// Remembers one and forgets the oldest where there are too many.
    pub(crate) fn push(&self, executed: Executed) {
        let executed = Arc::new(executed);
        let mut ring = self.0.lock();
        let forgotten = if ring.len() == EXECUTIONS_MAX { ring.pop_front() } else { None };
        ring.push_back(executed);
        drop(ring);
        // Freed without the lock.
        drop(forgotten);
    }

    /// Everything that is remembered, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Executed>> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(n: usize) -> Executed {
        let name = SellerName::parse("a").unwrap();
        let ask = |seller: &str, cost: Option<u64>| Asked {
            seller: SellerName::parse(seller).unwrap(),
            model: ModelSlug::parse("m").unwrap(),
            cost: cost.map(NanoUsd),
        };
        Executed {
            request: RequestId(n as u128),
            account_digest: Digest32::default(),
            settled: UnixMs(n as u64),
            model: ModelSlug::parse("m").unwrap(),
            seller: name,
            cost: NanoUsd(5),
            reason: Reason::Drawn,
            attempt: 1,
            asks: [ask("a", Some(5)), ask("b", None), ask("c", Some(9)), ask("d", Some(3))].into(),
            served: Some(0),
            left_out: 0,
        }
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let ring = Executions::default();
        (0..EXECUTIONS_MAX).for_each(|n| ring.push(executed(n)));
        assert_eq!((ring.all().len(), ring.all()[0].request), (EXECUTIONS_MAX, RequestId(0)));
        ring.push(executed(EXECUTIONS_MAX));
        assert_eq!((ring.all().len(), ring.all()[0].request), (EXECUTIONS_MAX, RequestId(1)));
    }

    #[test]
    fn the_next_best_is_the_cheapest_other_whose_cost_is_known() {
        let one = executed(0);
        assert_eq!(one.next_best().map(|ask| ask.seller.as_str()), Some("d"));
        assert_eq!(one.cheapest(), Some(NanoUsd(3)));
    }
}

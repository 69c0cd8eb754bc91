//! What could have served instead: the facts behind the best-execution report.
//!
//! When a request is settled, its plan's eligible offers are kept with what was really used, in a ring of
//! [`EXECUTIONS_MAX`]: the newest, of all buyers, until the gateway ends. A report covers no more than that. Offers are
//! priced when somebody asks, at the prices of the book that the plan was made on: most requests nobody asks about. The
//! ring keeps at most [`BOOKS_MAX`] books alive; what was planned on an older one is priced when that book goes.

use crate::phase::plan::Route;
use bourse_market::{MarketSnapshot, OfferIndex, Rejection};
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
/// Books that the remembered requests keep alive.
const BOOKS_MAX: usize = 4;

/// Who could serve a request.
#[derive(Clone)]
pub(crate) struct Considered {
    book: Arc<MarketSnapshot>,
    /// In the order of the plan; at most [`ASKS_MAX`].
    eligible: Arc<[OfferIndex]>,
    left_out: u32,
    is_ordered: bool,
    /// Whether the one that was asked beside a stalled one answered first; none where nobody was.
    pub(crate) hedge_won: Option<bool>,
}

impl Considered {
    /// Attempts, and what only the number of attempts left out.
    pub(crate) fn of(route: &Route) -> Self {
        let could_serve =
            |reason: Rejection| matches!(reason, Rejection::AttemptBudget | Rejection::FallbacksOff);
        let rejected = &route.plan.rejected;
        let beyond = rejected.iter().filter(|(_, reason)| could_serve(*reason)).map(|(index, _)| index);
        let all = route.plan.attempts.iter().copied().chain(beyond);
        let mut eligible = [OfferIndex(0); ASKS_MAX];
        let (mut kept, mut left_out) = (0, 0);
        for index in all {
            if let Some(place) = eligible.get_mut(kept) {
                *place = index;
                kept += 1;
            } else {
                left_out += 1;
            }
        }
        let wishes = &route.preferences;
        Self {
            book: Arc::clone(&route.book.snapshot),
            eligible: Arc::from(&eligible[..kept]),
            left_out,
            is_ordered: !wishes.order.is_empty() || wishes.sort.is_some(),
            hedge_won: None,
        }
    }

    /// The facts once it is settled; none when nobody served.
    pub(crate) fn executed(self, receipt: &Receipt, settled: UnixMs) -> Option<Executed> {
        let seller = receipt.seller.clone()?;
        // One that was asked beside it in vain is not one that failed before.
        let attempt = receipt.attempts.len() - usize::from(self.hedge_won == Some(false));
        let reason = if self.left_out == 0 && self.eligible.len() <= 1 {
            Reason::OnlyEligible
        } else if self.hedge_won == Some(true) {
            Reason::Hedge
        } else if attempt > 1 {
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
            seller,
            cost: receipt.charge.total,
            reason,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX).max(1),
            left_out: self.left_out,
            asks: Asks::Open(self, receipt.usage_billed),
        })
    }

    fn price(&self, usage: &Usage) -> Arc<[Asked]> {
        self.eligible.iter().filter_map(|index| self.ask(*index, usage)).collect()
    }

    fn ask(&self, index: OfferIndex, usage: &Usage) -> Option<Asked> {
        let offer = self.book.offer(index)?;
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

/// What the eligible offers asked.
#[derive(Clone)]
enum Asks {
    /// Whoever wants to know prices them.
    Open(Considered, Usage),
    Priced(Arc<[Asked]>),
}

/// One settled request.
#[derive(Clone)]
pub(crate) struct Executed {
    pub(crate) request: RequestId,
    pub(crate) account_digest: Digest32,
    pub(crate) settled: UnixMs,
    pub(crate) model: ModelSlug,
    pub(crate) seller: SellerName,
    pub(crate) cost: NanoUsd,
    pub(crate) reason: Reason,
    pub(crate) attempt: u32,
    pub(crate) left_out: u32,
    asks: Asks,
}

impl Executed {
    /// It beside the market.
    pub(crate) fn compared(self) -> Compared {
        let asks = match &self.asks {
            Asks::Open(considered, usage) => considered.price(usage),
            Asks::Priced(asks) => Arc::clone(asks),
        };
        Compared { executed: self, asks }
    }

    fn book(&self) -> Option<&Arc<MarketSnapshot>> {
        match &self.asks {
            Asks::Open(considered, _) => Some(&considered.book),
            Asks::Priced(_) => None,
        }
    }

    /// Prices the asks if they stand in that book, which then is not needed for them any more.
    fn let_go_of(&mut self, book: &Arc<MarketSnapshot>) {
        if let Asks::Open(considered, usage) = &self.asks
            && Arc::ptr_eq(&considered.book, book)
        {
            self.asks = Asks::Priced(considered.price(usage));
        }
    }
}

/// One settled request beside the market.
pub(crate) struct Compared {
    pub(crate) executed: Executed,
    pub(crate) asks: Arc<[Asked]>,
}

impl Compared {
    /// The cheapest ask that did not serve.
    pub(crate) fn next_best(&self) -> Option<&Asked> {
        let served = self.asks.iter().position(|ask| ask.seller == self.executed.seller);
        let others = self.asks.iter().enumerate().filter(|(n, _)| Some(*n) != served);
        others.map(|(_, ask)| ask).filter(|ask| ask.cost.is_some()).min_by_key(|ask| ask.cost)
    }

    /// The least that any ask costs, the one that served included.
    pub(crate) fn cheapest(&self) -> Option<NanoUsd> {
        self.asks.iter().filter_map(|ask| ask.cost).min()
    }
}

/// The ring.
#[derive(Default)]
pub(crate) struct Executions(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    entries: VecDeque<Executed>,
    /// The books that entries keep alive, in the order of their coming; at most [`BOOKS_MAX`].
    books: VecDeque<Arc<MarketSnapshot>>,
}

impl Executions {
    /// Remembers one and forgets the oldest where there are too many.
    pub(crate) fn push(&self, executed: Executed) {
        let mut ring = self.0.lock();
        if let Some(book) = executed.book() {
            ring.keep(book);
        }
        let forgotten = if ring.entries.len() == EXECUTIONS_MAX { ring.entries.pop_front() } else { None };
        ring.entries.push_back(executed);
        drop(ring);
        // Freed without the lock.
        drop(forgotten);
    }

    /// Everything that is remembered, oldest first.
    pub(crate) fn all(&self) -> Vec<Executed> {
        self.0.lock().entries.iter().cloned().collect()
    }
}

impl Ring {
    fn keep(&mut self, book: &Arc<MarketSnapshot>) {
        if self.books.iter().rev().any(|kept| Arc::ptr_eq(kept, book)) {
            return;
        }
        if self.books.len() == BOOKS_MAX
            && let Some(oldest) = self.books.pop_front()
        {
            self.entries.iter_mut().for_each(|entry| entry.let_go_of(&oldest));
        }
        self.books.push_back(Arc::clone(book));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_market::Offer;
    use bourse_types::{PicoUsdPerToken, PriceSchedule, TokenCount};

    fn ask(seller: &str, cost: Option<u64>) -> Asked {
        Asked {
            seller: SellerName::parse(seller).unwrap(),
            model: ModelSlug::parse("m").unwrap(),
            cost: cost.map(NanoUsd),
        }
    }

    fn executed(n: usize, asks: Asks) -> Executed {
        Executed {
            request: RequestId(n as u128),
            account_digest: Digest32::default(),
            settled: UnixMs(n as u64),
            model: ModelSlug::parse("m").unwrap(),
            seller: SellerName::parse("a").unwrap(),
            cost: NanoUsd(5),
            reason: Reason::Drawn,
            attempt: 1,
            left_out: 0,
            asks,
        }
    }

    fn priced(n: usize) -> Executed {
        let asks = [ask("a", Some(5)), ask("b", None), ask("c", Some(9)), ask("d", Some(3))];
        executed(n, Asks::Priced(asks.into()))
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let ring = Executions::default();
        (0..EXECUTIONS_MAX).for_each(|n| ring.push(priced(n)));
        assert_eq!((ring.all().len(), ring.all()[0].request), (EXECUTIONS_MAX, RequestId(0)));
        ring.push(priced(EXECUTIONS_MAX));
        assert_eq!((ring.all().len(), ring.all()[0].request), (EXECUTIONS_MAX, RequestId(1)));
    }

    #[test]
    fn the_next_best_is_the_cheapest_other_whose_cost_is_known() {
        let one = priced(0).compared();
        assert_eq!(one.next_best().map(|ask| ask.seller.as_str()), Some("d"));
        assert_eq!(one.cheapest(), Some(NanoUsd(3)));
    }

    /// A book of one offer at that price, in pico-dollars a token.
    fn book(price: u64) -> Arc<MarketSnapshot> {
        let prices = PriceSchedule::per_token(PicoUsdPerToken(price), PicoUsdPerToken(price));
        let (model, seller) = (ModelSlug::parse("m").unwrap(), SellerName::parse("a").unwrap());
        let offer = Offer::new(model, seller, Some(prices), 1_000);
        Arc::new(MarketSnapshot::new(vec![offer], Digest32::default()).unwrap())
    }

    #[test]
    fn books_go_and_what_was_asked_in_them_stays() {
        let ring = Executions::default();
        let books: Vec<_> = (0..=BOOKS_MAX as u64).map(|n| book(1_000 * (n + 1))).collect();
        let usage = Usage { completion: TokenCount(10), ..Usage::default() };
        let push = |n: usize| {
            let eligible = Arc::from([OfferIndex(0)]);
            let considered = Considered {
                book: Arc::clone(&books[n]),
                eligible,
                left_out: 0,
                is_ordered: false,
                hedge_won: None,
            };
            ring.push(executed(n, Asks::Open(considered, usage)));
        };
        let costs = || -> Vec<_> { ring.all().into_iter().map(|e| e.compared().cheapest()).collect() };
        // Two hold each book: this test and the ring's list; the entries of the ring hold it as well.
        (0..BOOKS_MAX).for_each(push);
        assert!(books[..BOOKS_MAX].iter().all(|book| Arc::strong_count(book) > 1));
        let before = costs();
        push(BOOKS_MAX);
        assert_eq!(Arc::strong_count(&books[0]), 1, "the oldest book goes");
        assert!(books[1..].iter().all(|book| Arc::strong_count(book) > 1));
        assert_eq!(costs()[..BOOKS_MAX], before);
        assert_eq!(before[..2], [Some(NanoUsd(10)), Some(NanoUsd(20))]);
    }
}

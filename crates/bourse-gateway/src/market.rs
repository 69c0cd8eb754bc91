//! The gateway's picture of the market: which offers there are, who stands behind each, how each fares.
//!
//! A [`Book`] is immutable and replaced as a whole when a node joins or leaves or a seller's list changes, so a
//! request plans and walks on one picture. The health of offers is carried over by seller and model.

mod fare;
mod weights;

pub(crate) use fare::Fare;

use crate::config::{FollowedList, ProviderConfig, ProviderModel};
use crate::conversation::Conversation;
use crate::decisions::{Anew, Journal, Taken};
use crate::failure::Failure;
use crate::lists::Live;
use crate::metrics::{OFFERS_LABELLED_MAX, Tallies, Tally};
use crate::node::NodeHandle;
use crate::prefix::{Prefix, Prefixes};
use crate::provider::{Provider, ProviderError, Upstream};
use crate::traces::AttemptTrace;
use crate::upstream::Pools;
use bourse_market::{
    Bill, BlockHash, Breaker, Demand, HealthTable, HedgeBudget, MarketSnapshot, Offer, OfferIndex, Outcome,
    Percentiles, Plan, PlanError, QuantizationSet, Served, SnapshotError, StickyTable, UptimeWindow, Warmth,
    Window, plan, plan_digest,
};
use bourse_types::{Digest32, ModelSlug, RequestId, SellerName, UnixMs};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use weights::Weights;

/// Domain of a book's digest.
const BOOK_DOMAIN: &str = "bourse/book/3";

/// Why there is no market.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarketError {
    /// A provider is not usable.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The offers do not go together.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Who stands behind an offer.
#[derive(Clone)]
pub(crate) enum Seller {
    /// A hosted API, and what it calls the model.
    Provider(Arc<Provider>, Arc<Upstream>),
    /// A connected node.
    Node(Arc<NodeHandle>),
}

impl Seller {
    /// See [`Provider::without_key`].
    pub(crate) fn without_key(&self, failure: Failure) -> Failure {
        match self {
            Self::Provider(provider, _) => provider.without_key(failure),
            Self::Node(_) => failure,
        }
    }
}

/// All offers at one moment, with their sellers.
pub(crate) struct Book {
    pub(crate) snapshot: Arc<MarketSnapshot>,
    sellers: Vec<Seller>,
    tallies: Vec<Arc<Tally>>,
}

impl Book {
    fn new(offers: Vec<(Offer, Seller)>, tallies: &Tallies) -> Result<Self, SnapshotError> {
        let mut by_name: HashMap<_, _> =
            offers.iter().map(|(o, s)| ((o.model.clone(), o.seller.clone()), s.clone())).collect();
        let mut offers: Vec<Offer> = offers.into_iter().map(|(offer, _)| offer).collect();
        offers.sort_by(|a, b| (&a.model, &a.seller).cmp(&(&b.model, &b.seller)));
        let digest = digest_of(&offers);
        let snapshot = Arc::new(MarketSnapshot::new(offers, digest)?);
        let find = |o: &Offer| by_name.remove(&(o.model.clone(), o.seller.clone()));
        let sellers = snapshot.offers().iter().filter_map(find).collect();
        let tallies = snapshot.offers().iter().map(|offer| tallies.of(offer)).collect();
        Ok(Self { snapshot, sellers, tallies })
    }

    pub(crate) fn seller(&self, index: OfferIndex) -> Option<(&Offer, &Seller)> {
        Some((self.snapshot.offer(index)?, self.sellers.get(index.0 as usize)?))
    }
}

fn digest_of(offers: &[Offer]) -> Digest32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(BOOK_DOMAIN.as_bytes());
    hasher.update(&Offer::canonical_bytes(offers));
    Digest32(*hasher.finalize().as_bytes())
}

/// A first content that is later than this many times the seller's 99th percentile is a stall.
const STALL_FACTOR: f64 = 1.5;
/// No seller is suspected earlier.
const STALL_MIN: Duration = Duration::from_millis(400);

/// Models of nodes that are remembered after their nodes have left.
const MODELS_REMEMBERED_MAX: usize = 1_024;

struct State {
    book: Arc<Book>,
    health: HealthTable,
    /// The nodes' offers.
    nodes: Vec<(Offer, Seller)>,
    /// Offers of published lists, by their place in [`Market::lives`].
    listed: Vec<Vec<(Offer, Seller)>>,
    /// What nodes have sold since the start: a model whose nodes are away is no unknown model.
    sold: BTreeSet<ModelSlug>,
    journal: Journal,
}

impl State {
    /// Swaps a new book in; what is known of offers that are in both is kept.
    fn replace(&mut self, book: Arc<Book>) {
        self.health = std::mem::take(&mut self.health).carried(&self.book.snapshot, &book.snapshot);
        self.journal.book(&book.snapshot);
        self.book = book;
    }
}

/// One model of a provider as an offer, with who stands behind it.
fn offer_of(
    name: &SellerName,
    provider: &Arc<Provider>,
    model: &ProviderModel,
) -> Result<(Offer, Seller), ProviderError> {
    let (slug, context) = (model.model.clone(), model.context_tokens_max);
    let seller = model.seller.as_ref().unwrap_or(name).clone();
    let offer = Offer {
        completion_tokens_max: model.completion_tokens_max,
        supports: model.supports,
        capacity: model.capacity,
        quantization: model.quantization,
        region: model.region.clone(),
        operations: model.operations,
        tier: model.tier,
        data: model.data,
        unit: model.unit,
        is_distillable: model.is_distillable,
        free: model.free,
        ..Offer::new(slug, seller, model.prices, context)
    };
    if !offer.is_billable() {
        return Err(ProviderError::Unit { name: name.clone(), model: offer.model });
    }
    let upstream = Arc::new(provider.upstream(name, model)?);
    Ok((offer, Seller::Provider(Arc::clone(provider), upstream)))
}

/// The book in force and the health of its offers.
pub(crate) struct Market {
    providers: Vec<(Offer, Seller)>,
    /// Sellers whose lists are followed.
    pub(crate) lives: Vec<Live>,
    state: Mutex<State>,
    hedges: Mutex<HedgeBudget>,
    sticky: Mutex<StickyTable>,
    pub(crate) prefixes: Prefixes,
    weights: Weights,
    pub(crate) tallies: Tallies,
}

/// The health of one offer, for those who operate the market.
pub(crate) struct OfferHealth {
    offer: (SellerName, ModelSlug),
    /// Of the last five minutes, as all that follows where it has a time.
    pub(crate) uptime: Option<f32>,
    pub(crate) first_content_ms: Option<Percentiles>,
    /// The median.
    pub(crate) tokens_per_s: Option<f32>,
    pub(crate) breaker: Breaker,
    pub(crate) in_flight: u32,
    /// `u32::MAX` where no cap was learned.
    pub(crate) in_flight_max: u32,
}

impl OfferHealth {
    /// Seller and model.
    pub(crate) fn names(&self) -> [&str; 2] {
        [self.offer.0.as_str(), self.offer.1.as_str()]
    }
}

impl Market {
    pub(crate) fn new(
        configs: &[ProviderConfig],
        lists: &[FollowedList],
        pools: &mut Pools,
    ) -> Result<Self, MarketError> {
        let mut providers = Vec::new();
        let mut lives = Vec::new();
        for config in configs {
            let provider = Arc::new(Provider::new(config, pools)?);
            for model in &config.models {
                providers.push(offer_of(&config.name, &provider, model)?);
            }
            for list in lists.iter().filter(|list| list.provider == config.name) {
                lives.push(Live { provider: Arc::clone(&provider), list: list.clone() });
            }
        }
        let tallies = Tallies::default();
        let book = Book::new(providers.clone(), &tallies)?;
        let health = HealthTable::new(&book.snapshot);
        let listed = vec![Vec::new(); lives.len()];
        Ok(Self {
            providers,
            lives,
            state: Mutex::new(State {
                book: Arc::new(book),
                health,
                nodes: Vec::new(),
                listed,
                sold: BTreeSet::new(),
                journal: Journal::default(),
            }),
            hedges: Mutex::default(),
            sticky: Mutex::default(),
            prefixes: Prefixes::default(),
            weights: Weights::default(),
            tallies,
        })
    }

    /// Requests that name no weights are answered by these alone; none: by any.
    pub(crate) fn admitting(mut self, weights: Option<QuantizationSet>) -> Self {
        self.weights.admitted = weights;
        self
    }

    pub(crate) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.state.lock().book)
    }

    /// Replaces the nodes' offers.
    pub(crate) fn set_nodes(&self, handles: &[Arc<NodeHandle>]) -> Result<(), SnapshotError> {
        let nodes = handles.iter().map(|node| (node.offer(), Seller::Node(Arc::clone(node))));
        let nodes: Vec<_> = nodes.collect();
        let mut state = self.state.lock();
        let book = self.book_of(&nodes, &state.listed)?;
        state.replace(book);
        let new = nodes.iter().map(|(offer, _)| offer.model.clone());
        let room = MODELS_REMEMBERED_MAX.saturating_sub(state.sold.len());
        state.sold.extend(new.take(room));
        state.nodes = nodes;
        drop(state);
        self.prefixes.set_nodes(handles);
        Ok(())
    }

    /// Replaces the offers of the seller at `place` in [`Market::lives`]. Tells whether the book changed; an error
    /// changes nothing.
    pub(crate) fn set_listed(&self, place: usize, models: &[ProviderModel]) -> Result<bool, MarketError> {
        let Live { provider, list } = &self.lives[place];
        let offers = models.iter().map(|model| offer_of(&list.provider, provider, model));
        let offers = offers.collect::<Result<Vec<_>, ProviderError>>()?;
        let mut state = self.state.lock();
        let mut listed = state.listed.clone();
        listed[place] = offers;
        let book = self.book_of(&state.nodes, &listed)?;
        state.listed = listed;
        let changed = book.snapshot.digest() != state.book.snapshot.digest();
        if changed {
            state.replace(book);
        }
        Ok(changed)
    }

    /// A book of all offers. What the operator wrote goes before what a list says.
    fn book_of(
        &self,
        nodes: &[(Offer, Seller)],
        listed: &[Vec<(Offer, Seller)>],
    ) -> Result<Arc<Book>, SnapshotError> {
        let mut offers = self.providers.clone();
        let mut known: HashSet<_> =
            offers.iter().map(|(offer, _)| (offer.model.clone(), offer.seller.clone())).collect();
        let is_new =
            |(offer, _): &&(Offer, Seller)| known.insert((offer.model.clone(), offer.seller.clone()));
        offers.extend(listed.iter().flatten().filter(is_new).cloned());
        offers.extend(nodes.iter().cloned());
        Book::new(offers, &self.tallies).map(Arc::new)
    }

    /// Whether a node has sold this model before.
    pub(crate) fn has_sold(&self, model: &ModelSlug) -> bool {
        self.state.lock().sold.contains(model)
    }

    /// Plans on the book in force. `demand` gets the book first: what a job needs does not depend on it.
    pub(crate) fn plan(
        &self,
        request: RequestId,
        demand: &Demand<'_>,
        (now, seed): (UnixMs, u64),
        (conversation, prefix): (Option<&Conversation>, Option<&Prefix>),
    ) -> (Arc<Book>, Result<Plan, PlanError>, Digest32) {
        let mut state = self.state.lock();
        let warmth = conversation
            .and_then(|conversation| self.sticky.lock().warmth(&conversation.key, &state.book.snapshot, now));
        let of_nodes: Vec<Warmth>;
        let mut demand = Demand { warmth: warmth.as_slice(), ..*demand };
        if let Some(prefix) = prefix {
            of_nodes = prefix.warmth(&state.book.snapshot).chain(warmth).collect();
            demand.warmth = &of_nodes;
        }
        let plan = plan(&state.book.snapshot, &state.health, &demand, now, seed);
        let digest = plan_digest(&plan);
        state.journal.decision(request, (now, seed), &demand, digest);
        (Arc::clone(&state.book), plan, digest)
    }

    /// The health of the offers that have series of their own and have been asked. The lock is taken for each of them
    /// anew, so that no plan waits for more than one; a book that is replaced meanwhile leaves the rest out.
    pub(crate) fn health(&self, now: UnixMs) -> Vec<OfferHealth> {
        let book = self.book();
        let labelled = (0u32..).zip(&book.tallies).filter(|(_, tally)| tally.is_labelled());
        labelled
            .take(OFFERS_LABELLED_MAX)
            .filter_map(|(index, _)| self.health_of(&book, OfferIndex(index), now))
            .collect()
    }

    /// None when nobody has asked the offer, or the book is not in force any more.
    fn health_of(&self, book: &Arc<Book>, index: OfferIndex, now: UnixMs) -> Option<OfferHealth> {
        let offer = book.snapshot.offer(index)?;
        let state = self.state.lock();
        if !Arc::ptr_eq(&state.book, book) {
            return None;
        }
        let vital = state.health.vital(index);
        let statistics = state.health.statistics(index);
        if statistics.is_none() && vital.in_flight == 0 {
            return None;
        }
        let window = Window::FiveMinutes;
        Some(OfferHealth {
            offer: (offer.seller.clone(), offer.model.clone()),
            uptime: statistics.and_then(|s| s.counts(UptimeWindow::FiveMinutes, now).uptime()),
            first_content_ms: statistics.and_then(|s| s.ttft_ms(window, now)),
            tokens_per_s: statistics.and_then(|s| Some(s.throughput_tokens_per_s(window, now)?.p50)),
            breaker: vital.breaker(now),
            in_flight: vital.in_flight,
            in_flight_max: vital.in_flight_max,
        })
    }

    /// Bytes of the journal of decisions that wait, and that were dropped since the start.
    pub(crate) fn decision_bytes(&self) -> (u64, u64) {
        self.state.lock().journal.bytes()
    }

    /// Plans for a request that is not made: nothing is recorded.
    pub(crate) fn preview(
        &self,
        demand: &Demand<'_>,
        (now, seed): (UnixMs, u64),
    ) -> (Arc<Book>, Result<Plan, PlanError>) {
        let state = self.state.lock();
        let plan = plan(&state.book.snapshot, &state.health, demand, now, seed);
        (Arc::clone(&state.book), plan)
    }

    /// Plans on the book in force beside the plan of the request: nothing is noted, and no cache is looked for.
    pub(crate) fn plan_beside(
        &self,
        demand: &Demand<'_>,
        (now, seed): (UnixMs, u64),
    ) -> Option<(Arc<Book>, Plan, Digest32)> {
        let state = self.state.lock();
        let plan = plan(&state.book.snapshot, &state.health, demand, now, seed).ok()?;
        let digest = plan_digest(&Ok(plan.clone()));
        Some((Arc::clone(&state.book), plan, digest))
    }

    /// The events of the journal that wait.
    pub(crate) fn take_decisions(&self, anew: Anew) -> Taken {
        let State { book, health, journal, .. } = &mut *self.state.lock();
        journal.take(anew, (&book.snapshot, health))
    }

    /// How late the first content of a stream must be before its seller is suspected to have stalled; none while
    /// nothing is known about it.
    pub(crate) fn stall_after(&self, book: &Arc<Book>, index: OfferIndex, now: UnixMs) -> Option<Duration> {
        let state = self.state.lock();
        if !Arc::ptr_eq(&state.book, book) {
            return None;
        }
        let ttft_ms = state.health.statistics(index)?.ttft_ms(Window::FiveMinutes, now)?.p99;
        Some(STALL_MIN.max(Duration::from_secs_f64(f64::from(ttft_ms) * STALL_FACTOR / 1_000.0)))
    }

    /// Takes one from the hedging budget, if there is one.
    pub(crate) fn may_hedge(&self) -> bool {
        self.hedges.lock().take()
    }

    /// Notes that an attempt starts.
    pub(crate) fn start(self: &Arc<Self>, book: &Arc<Book>, index: OfferIndex) -> Attempt {
        let (market, trace) = (Arc::clone(self), AttemptTrace::default());
        let book = Arc::clone(book);
        let attempt = Attempt { market, book, index, is_open: true, trace, own: None, prompt: None };
        attempt.with_health(|state, index| {
            state.health.on_start(index);
            state.journal.started(index);
        });
        self.hedges.lock().earn();
        attempt
    }
}

/// An attempt in flight: its outcome reaches the offer's health exactly once, even when it is dropped.
pub(crate) struct Attempt {
    market: Arc<Market>,
    book: Arc<Book>,
    index: OfferIndex,
    is_open: bool,
    pub(crate) trace: AttemptTrace,
    /// Who is asked with the buyer's own key; none: the offer's seller with the market's.
    pub(crate) own: Option<Seller>,
    /// What a node will hold when it has answered.
    prompt: Option<Arc<Vec<BlockHash>>>,
}

impl Attempt {
    /// Whom it asks; always there, since the book is the one that it was planned on.
    pub(crate) fn offer(&self) -> Option<&Offer> {
        self.book.snapshot.offer(self.index)
    }

    /// The prompt that is sent, where nodes are told apart by what they hold of it.
    pub(crate) fn carry(&mut self, prompt: Option<&Arc<Vec<BlockHash>>>, now: UnixMs) {
        let (Some(prompt), Some((offer, Seller::Node(_)))) = (prompt, self.book.seller(self.index)) else {
            return;
        };
        self.market.prefixes.started(&offer.model, &offer.seller, prompt, now);
        self.prompt = Some(Arc::clone(prompt));
    }

    /// See [`Provider::without_key`].
    pub(crate) fn without_key(&self, failure: Failure) -> Failure {
        match self.own.as_ref().or(self.book.seller(self.index).map(|(_, seller)| seller)) {
            Some(seller) => seller.without_key(failure),
            None => failure,
        }
    }

    pub(crate) fn end(mut self, now: UnixMs, outcome: Outcome) {
        self.finish(now, outcome);
    }

    /// A whole answer was claimed, and the market counted it.
    pub(crate) fn recounted(&self, bill: &Bill) {
        if let Some(tally) = self.book.tallies.get(self.index.0 as usize) {
            tally.recounted(bill);
        }
    }

    /// A good answer ended. The conversation, if it is one, will look for this seller's cache the next time.
    pub(crate) fn served(mut self, now: UnixMs, mut served: Served, conversation: Option<&Conversation>) {
        if let (Some(conversation), Some(offer)) = (conversation, self.book.snapshot.offer(self.index)) {
            let mut sticky = self.market.sticky.lock();
            if sticky.seller(&conversation.key, now) == Some(&offer.seller) {
                served.conversation = bourse_market::Conversation::Continued;
            }
            sticky.on_success(&conversation.key, conversation.session, offer, &served, now);
            drop(sticky);
            self.market.weights.answered(conversation, offer, now);
        }
        if let (Some(prompt), Some(offer)) = (&self.prompt, self.book.snapshot.offer(self.index)) {
            self.market.prefixes.answered(&offer.model, &offer.seller, prompt);
        }
        self.finish(now, Outcome::Success(served));
    }

    fn finish(&mut self, now: UnixMs, outcome: Outcome) {
        if std::mem::take(&mut self.is_open) {
            self.trace.ended(&outcome);
            if let Some(tally) = self.book.tallies.get(self.index.0 as usize) {
                tally.ended(&outcome);
            }
            self.with_health(|state, index| {
                state.health.on_outcome(index, now, outcome);
                state.journal.outcome(index, now, &outcome);
            });
        }
    }

    fn with_health(&self, change: impl FnOnce(&mut State, OfferIndex)) {
        let mut state = self.market.state.lock();
        let index = if Arc::ptr_eq(&state.book, &self.book) {
            Some(self.index)
        } else {
            let offer = self.book.snapshot.offer(self.index);
            offer.and_then(|o| state.book.snapshot.index_of(o.model.as_str(), o.seller.as_str()))
        };
        if let Some(index) = index {
            change(&mut state, index);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.finish(UnixMs(0), Outcome::Neutral);
    }
}

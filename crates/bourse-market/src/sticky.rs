//! Which offer a conversation was last answered by, so that its prompt cache is worth something.
//!
//! A conversation is an account, a model and a key; the gateway makes the key (a session id, a header, a
//! prompt cache key, or a hash of the first messages). What comes out is a [`Warmth`]: how many tokens
//! of the prompt the offer has seen. It enters the cost of that offer and commands nothing, so that the
//! conversation moves when its seller is down, full or too dear.
//!
//! Rules: with a session id that the buyer sent, a conversation sticks from its first good answer; with
//! a derived key only once a cache hit was seen, because a guess that saves nothing should not bend the
//! choice. Only offers whose cached tokens cost less than uncached ones take part. Each good answer
//! renews the [`STICKY_IDLE_MS`]; an error changes nothing, and the next good answer elsewhere moves the
//! conversation there under the same rules.
//!
//! The field's documents name ten minutes of idleness in one place and five in another. Ten is decided:
//! the sellers' own caches live five minutes or more, are renewed by use, and a warmth that has gone
//! cold costs nothing but a weight, while one forgotten too early costs a whole prompt.

use crate::effective::Saving;
use crate::health::{Conversation, Served};
use crate::lru::Lru;
use crate::offer::{Offer, OfferIndex};
use crate::snapshot::MarketSnapshot;
use bourse_types::{Digest32, ModelSlug, SellerName, UnixMs};

/// Idle time after which a conversation is forgotten, in milliseconds.
pub const STICKY_IDLE_MS: u64 = 600_000;
/// Most conversations that are remembered: about 20 MB.
pub const STICKY_CONVERSATIONS_MAX: usize = 100_000;

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StickyKey {
    /// Digest of the buyer's account.
    pub account: Digest32,
    /// The model.
    pub model: ModelSlug,
    /// 128 bits of a hash of the conversation's key.
    pub conversation: u128,
}

/// Where a conversation's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Session {
    /// The buyer named the session.
    Explicit,
    /// It was derived from the messages.
    Derived,
}

/// What an offer has seen of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Warmth {
    /// The offer.
    pub offer: OfferIndex,
    /// Tokens at the start of the prompt that it has seen; may exceed the prompt.
    pub tokens: u32,
    /// What they save there.
    pub saving: Saving,
}

#[derive(Debug, Clone)]
struct Stay {
    seller: SellerName,
    tokens: u32,
    used: UnixMs,
}

impl Stay {
    fn is_over(&self, now: UnixMs) -> bool {
        now.since(self.used).0 >= STICKY_IDLE_MS
    }
}

/// Conversations and the sellers that answered them last. The least recently used goes when it is full.
#[derive(Debug, Clone)]
pub struct StickyTable {
    stays: Lru<StickyKey, Stay>,
}

impl Default for StickyTable {
    fn default() -> Self {
        Self::new(STICKY_CONVERSATIONS_MAX)
    }
}

impl StickyTable {
    /// Room for `capacity` conversations, at least 1 and at most [`STICKY_CONVERSATIONS_MAX`].
    pub fn new(capacity: usize) -> Self {
        Self { stays: Lru::new(capacity.min(STICKY_CONVERSATIONS_MAX)) }
    }

    /// Conversations remembered, those included that have expired and were not asked for since.
    pub fn len(&self) -> usize {
        self.stays.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The seller that answered last, if that was recent enough.
    pub fn seller(&self, key: &StickyKey, now: UnixMs) -> Option<&SellerName> {
        self.stays.peek(key).filter(|stay| !stay.is_over(now)).map(|stay| &stay.seller)
    }

    /// Whether `seller` answered last, for [`Served::conversation`]. Asked before the answer is reported.
    pub fn conversation(&self, key: &StickyKey, seller: &SellerName, now: UnixMs) -> Conversation {
        if self.seller(key, now) == Some(seller) { Conversation::Continued } else { Conversation::New }
    }

    /// What the seller that answered last has seen; none when it offers the model no more.
    pub fn warmth(&self, key: &StickyKey, snapshot: &MarketSnapshot, now: UnixMs) -> Option<Warmth> {
        let stay = self.stays.peek(key).filter(|stay| !stay.is_over(now))?;
        let offer = snapshot.index_of(key.model.as_str(), stay.seller.as_str())?;
        Some(Warmth { offer, tokens: stay.tokens, saving: Saving::Price })
    }

    /// A good answer ended at `offer`. Errors are not reported here: they move nothing.
    pub fn on_success(
        &mut self,
        key: &StickyKey,
        session: Session,
        offer: &Offer,
        served: &Served,
        now: UnixMs,
    ) {
        let cache_is_cheaper = offer.prices.is_some_and(|prices| prices.cached_prompt < prices.prompt);
        if !cache_is_cheaper {
            return;
        }
        let stays_here = self.seller(key, now) == Some(&offer.seller);
        let starts = session == Session::Explicit || served.cached_tokens > 0;
        if stays_here || starts {
            let tokens = served.prompt_tokens.saturating_add(served.completion_tokens);
            self.stays.insert(key.clone(), Stay { seller: offer.seller.clone(), tokens, used: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::offer;

    fn key(conversation: u128) -> StickyKey {
        let model = ModelSlug::parse("m").unwrap();
        StickyKey { account: Digest32::default(), model, conversation }
    }

    fn served(cached_tokens: u32) -> Served {
        Served { prompt_tokens: 100, completion_tokens: 20, cached_tokens, ..Served::default() }
    }

    fn seller(table: &StickyTable, now: u64) -> Option<&str> {
        table.seller(&key(1), UnixMs(now)).map(SellerName::as_str)
    }

    #[test]
    fn a_named_session_sticks_at_once_and_a_derived_one_after_a_cache_hit() {
        let (a, b) = (offer("m", "a"), offer("m", "b"));
        let mut table = StickyTable::default();
        table.on_success(&key(1), Session::Derived, &a, &served(0), UnixMs(0));
        assert_eq!(seller(&table, 0), None);
        table.on_success(&key(1), Session::Derived, &a, &served(1), UnixMs(0));
        assert_eq!(seller(&table, 0), Some("a"));
        table.on_success(&key(1), Session::Derived, &b, &served(0), UnixMs(1));
        assert_eq!(seller(&table, 1), Some("a"), "an answer elsewhere without a hit moves nothing");
        table.on_success(&key(1), Session::Explicit, &b, &served(0), UnixMs(1));
        assert_eq!(seller(&table, 1), Some("b"));
        assert_eq!(table.conversation(&key(1), &b.seller, UnixMs(1)), Conversation::Continued);
        assert_eq!(table.conversation(&key(1), &a.seller, UnixMs(1)), Conversation::New);
    }

    #[test]
    fn ten_minutes_idle_end_it_and_success_renews() {
        let a = offer("m", "a");
        let mut table = StickyTable::default();
        table.on_success(&key(1), Session::Derived, &a, &served(9), UnixMs(0));
        table.on_success(&key(1), Session::Derived, &a, &served(0), UnixMs(STICKY_IDLE_MS - 1));
        assert_eq!(seller(&table, 2 * STICKY_IDLE_MS - 2), Some("a"));
        assert_eq!(seller(&table, 2 * STICKY_IDLE_MS - 1), None);
        table.on_success(&key(1), Session::Derived, &a, &served(0), UnixMs(2 * STICKY_IDLE_MS - 1));
        assert_eq!(seller(&table, 2 * STICKY_IDLE_MS - 1), None, "expired: it starts by the rule again");
    }

    #[test]
    fn only_offers_with_a_cheaper_cache_take_part() {
        let mut dear = offer("m", "a");
        if let Some(prices) = &mut dear.prices {
            prices.cached_prompt = prices.prompt;
        }
        let unpriced = Offer { prices: None, ..offer("m", "a") };
        let mut table = StickyTable::default();
        table.on_success(&key(1), Session::Explicit, &dear, &served(9), UnixMs(0));
        table.on_success(&key(1), Session::Explicit, &unpriced, &served(9), UnixMs(0));
        assert!(table.is_empty());
    }

    #[test]
    fn warmth_finds_its_offer_in_the_book_in_force() {
        let mut table = StickyTable::default();
        table.on_success(&key(1), Session::Explicit, &offer("m", "b"), &served(9), UnixMs(0));
        let book = |sellers: &[&str]| {
            let offers = sellers.iter().map(|name| offer("m", name)).collect();
            MarketSnapshot::new(offers, Digest32::default()).unwrap()
        };
        let found = table.warmth(&key(1), &book(&["a", "b"]), UnixMs(1));
        assert_eq!(found, Some(Warmth { offer: OfferIndex(1), tokens: 120, saving: Saving::Price }));
        assert_eq!(table.warmth(&key(1), &book(&["a"]), UnixMs(1)), None);
        assert_eq!(table.warmth(&key(2), &book(&["b"]), UnixMs(1)), None);
    }

    #[test]
    fn it_is_bounded_and_the_least_recently_used_goes() {
        let a = offer("m", "a");
        let mut table = StickyTable::new(2);
        for conversation in [1, 2, 1, 3] {
            table.on_success(&key(conversation), Session::Explicit, &a, &served(0), UnixMs(0));
        }
        assert_eq!(table.len(), 2);
        assert_eq!(seller(&table, 0), Some("a"));
        assert_eq!(table.seller(&key(2), UnixMs(0)), None);
    }
}

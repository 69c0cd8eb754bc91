//! What is counted by offer, under a bounded number of labels.
//!
//! Sellers come and go; a series of a metric, once begun, stays. So the first [`OFFERS_LABELLED_MAX`] pairs of seller
//! and model get series of their own, and all later ones share one. A book finds each of its offers' counts once, when
//! it is made: an attempt then only adds to an atomic.

use super::Counter;
use bourse_market::{Bill, Doubts, Offer, Outcome};
use bourse_types::{ModelSlug, SellerName};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Offers that have series of their own.
pub(crate) const OFFERS_LABELLED_MAX: usize = 512;
/// The seller and the model of all others; no name can have these characters.
pub(super) const OTHERS: &str = "(others)";

/// What an ended attempt taught about its seller.
pub(super) const OUTCOMES: [&str; 6] = ["success", "failed", "broken", "limited", "forbidden", "neutral"];

/// Whose count of tokens it is.
pub(super) const RECOUNT_WORDS: [&str; 2] = ["claimed", "recounted"];

/// The attempts at one offer that have ended, by outcome.
#[derive(Default)]
pub(crate) struct Tally {
    ended: [Counter; OUTCOMES.len()],
    /// Tokens claimed and counted.
    recounted: [Counter; RECOUNT_WORDS.len()],
    exceeded: Counter,
    /// Whether it stands for one offer and not for all others.
    is_own: bool,
}

impl Tally {
    pub(crate) fn ended(&self, outcome: &Outcome) {
        self.ended[index_of(outcome)].add(1);
    }

    /// A whole answer was claimed and counted: the gap between both is the seller's score.
    pub(crate) fn recounted(&self, bill: &Bill) {
        let (Some(claimed), Some(recount)) = (&bill.claimed, &bill.recount) else { return };
        let parts = [(recount.prompt, claimed.prompt), (recount.completion, claimed.completion)];
        for (counted, claimed) in parts.into_iter().filter_map(|(counted, claimed)| Some((counted?, claimed)))
        {
            self.recounted[0].add(claimed.0);
            self.recounted[1].add(counted.0);
        }
        self.exceeded.add(u64::from(bill.doubts.contains(Doubts::RECOUNT_EXCEEDED)));
    }

    pub(super) fn recounts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RECOUNT_WORDS.iter().zip(&self.recounted).map(|(word, counter)| (*word, counter.get()))
    }

    pub(super) fn exceeded(&self) -> u64 {
        self.exceeded.get()
    }

    /// Whether its offer has series of its own.
    pub(crate) fn is_labelled(&self) -> bool {
        self.is_own
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.iter().zip(&self.ended).map(|(word, counter)| (*word, counter.get()))
    }
}

/// The word for an outcome.
pub(crate) fn word_of(outcome: &Outcome) -> &'static str {
    OUTCOMES[index_of(outcome)]
}

fn index_of(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Success(_) => 0,
        Outcome::Failure => 1,
        Outcome::Broken => 2,
        Outcome::RateLimited { .. } => 3,
        Outcome::Forbidden => 4,
        Outcome::Neutral => 5,
    }
}

/// The tallies of all offers that there have been.
#[derive(Default)]
pub(crate) struct Tallies {
    own: Mutex<HashMap<(SellerName, ModelSlug), Arc<Tally>>>,
    others: Arc<Tally>,
}

impl Tallies {
    /// Where attempts at an offer are counted.
    pub(crate) fn of(&self, offer: &Offer) -> Arc<Tally> {
        let mut own = self.own.lock();
        let key = (offer.seller.clone(), offer.model.clone());
        if let Some(known) = own.get(&key) {
            return Arc::clone(known);
        }
        if own.len() >= OFFERS_LABELLED_MAX {
            return Arc::clone(&self.others);
        }
        let tally = Arc::new(Tally { is_own: true, ..Tally::default() });
        own.insert(key, Arc::clone(&tally));
        tally
    }

    /// All of them by name, and the others last.
    pub(super) fn list(&self) -> Vec<(String, String, Arc<Tally>)> {
        let own = self.own.lock();
        let mut list: Vec<_> = own
            .iter()
            .map(|((seller, model), tally)| (seller.to_string(), model.to_string(), Arc::clone(tally)))
            .collect();
        drop(own);
        list.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        list.push((OTHERS.to_owned(), OTHERS.to_owned(), Arc::clone(&self.others)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(n: usize) -> Offer {
        let name = SellerName::parse(&format!("s{n}")).unwrap();
        Offer::new(ModelSlug::parse("a/b").unwrap(), name, None, 8)
    }

    #[test]
    fn the_labels_are_bounded() {
        let tallies = Tallies::default();
        for n in 0..OFFERS_LABELLED_MAX {
            assert!(tallies.of(&offer(n)).is_labelled());
        }
        let beyond = tallies.of(&offer(OFFERS_LABELLED_MAX));
        assert!(!beyond.is_labelled());
        beyond.ended(&Outcome::Failure);
        assert!(tallies.of(&offer(7)).is_labelled(), "a known offer keeps its series");
        let list = tallies.list();
        assert_eq!(list.len(), OFFERS_LABELLED_MAX + 1);
        assert_eq!(list.last().unwrap().2.counts().nth(1), Some(("failed", 1)));
    }
}

//! Which models a call wants, and in which order.
//!
//! Filters on what an offer is (seller, region, promise, parameters) must be met by one offer together; those on
//! price, context and what comes out are about the model as it is shown, which is its cheapest offer and widest limits.

use super::declared::{self, author};
use super::shape;
use crate::market::Fare;
use crate::routes::query::Query;
use bourse_market::{Offer, OfferIndex};
use bourse_types::{PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule};
use std::cmp::{Ordering, Reverse};

/// A model and its offers.
pub(super) struct Entry<'a> {
    /// What buyers write: the slug, or an alias of it.
    pub(super) id: &'a str,
    pub(super) slug: &'a str,
    pub(super) offers: Vec<(OfferIndex, &'a Offer)>,
}

impl<'a> Entry<'a> {
    pub(super) fn offers(&self) -> Vec<&'a Offer> {
        self.offers.iter().map(|(_, offer)| *offer).collect()
    }
}

/// Whether a model is wanted. `fare` is asked only where the query looks at how offers fare.
pub(super) fn wants(query: &Query<'_>, entry: &Entry<'_>, fare: impl Fn(OfferIndex) -> Fare) -> bool {
    let offers = entry.offers();
    by_name(query, entry)
        && by_offer(query, &offers)
        && by_shape(query, &offers)
        && by_tools(query, entry, fare)
}

fn by_name(query: &Query<'_>, entry: &Entry<'_>) -> bool {
    let part = query.text("q").is_none_or(|part| holds(entry.id, part));
    let authors = query.words("model_authors");
    let author = author(entry.slug);
    let by_author = authors.is_empty() || authors.iter().any(|one| one.eq_ignore_ascii_case(author));
    // Neither when a model was made nor the family of its tokenizer is recorded.
    let by_age = query.text("min_age_days").is_none() && query.text("max_age_days").is_none();
    let by_family = query.text("arch").is_none_or(|family| family.eq_ignore_ascii_case("other"));
    part && by_author && by_age && by_family
}

/// Whether a text holds another, whatever the case.
fn holds(text: &str, part: &str) -> bool {
    text.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
}

/// Whether one offer meets everything that is asked of offers.
fn by_offer(query: &Query<'_>, offers: &[&Offer]) -> bool {
    let (parameters, sellers) = (query.words("supported_parameters"), query.words("providers"));
    offers.iter().any(|offer| {
        let known = declared::parameters(offer.supports, offer.operations);
        parameters.iter().all(|name| known.contains(name))
            && (sellers.is_empty() || sellers.iter().any(|name| sells_as(offer, name)))
            && (query.flag("zdr") != Some(true) || declared::is_zdr(offer))
            && query.flag("distillable").is_none_or(|is| is == declared::is_distillable(offer))
            && query.text("region").is_none_or(|region| declared::is_in(offer, region))
    })
}

/// Whether a seller has that name, or one that continues it after a `/`.
fn sells_as(offer: &Offer, name: &str) -> bool {
    let seller = offer.seller.as_str();
    seller.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn by_shape(query: &Query<'_>, offers: &[&Offer]) -> bool {
    let inputs = shape::inputs(offers);
    let all_in = query.words("input_modalities").iter().all(|word| inputs.contains(word));
    let outputs = shape::outputs(offers);
    let wanted = query.words("output_modalities");
    let some_out = wanted.is_empty() || wanted.iter().any(|word| *word == "all" || outputs.contains(word));
    let context = query.number("context").is_none_or(|least: u64| shape::context(offers) >= Some(least));
    all_in && some_out && context && by_price(query, shape::cheapest(offers).and_then(|offer| offer.prices))
}

fn by_price(query: &Query<'_>, prices: Option<PriceSchedule>) -> bool {
    let within = |least: &str, most: &str, price: fn(&PriceSchedule) -> PicoUsdPerToken| {
        let (least, most) = (query.price(least), query.price(most));
        // A price that is not known is neither cheap nor dear, and no tokens are sold where units alone are.
        let prices = prices.as_ref().filter(|prices| !is_by_unit_alone(prices));
        let Some(price) = prices.map(price) else { return least.is_none() && most.is_none() };
        least.is_none_or(|least| price >= least) && most.is_none_or(|most| price <= most)
    };
    within("min_price", "max_price", |p| p.prompt)
        && within("min_output_price", "max_output_price", |p| p.completion)
}

/// Whether units are sold and tokens are not.
fn is_by_unit_alone(prices: &PriceSchedule) -> bool {
    let is_free = |price: PicoUsdPerToken| price == PicoUsdPerToken(0);
    prices.unit != PicoUsdPerUnit::ZERO && is_free(prices.prompt) && is_free(prices.completion)
}

fn by_tools(query: &Query<'_>, entry: &Entry<'_>, fare: impl Fn(OfferIndex) -> Fare) -> bool {
    let (least, most) = (query.number("min_tool_success_rate"), query.number("max_tool_success_rate"));
    if least.is_none() && most.is_none() {
        return true;
    }
    let best = entry.offers.iter().filter_map(|(index, _)| fare(*index).tool_success).max_by(f32::total_cmp);
    best.is_some_and(|best| {
        least.is_none_or(|least: f32| best >= least) && most.is_none_or(|most: f32| best <= most)
    })
}

/// Orders the models as asked; by slug where they are equal and where nothing is asked. Models of which nothing is
/// known come last.
pub(super) fn sort(order: Option<&str>, entries: &mut [Entry<'_>], fare: impl Fn(OfferIndex) -> Fare) {
    let price = |entry: &Entry<'_>| {
        let prices = shape::cheapest(&entry.offers()).and_then(|offer| offer.prices);
        prices
            .filter(|prices| !is_by_unit_alone(prices))
            .map(|p| u128::from(p.prompt.0) + u128::from(p.completion.0))
    };
    let best = |entry: &Entry<'_>, of: fn(&Fare) -> Option<f32>, better: Ordering| {
        let known = entry.offers.iter().filter_map(|(index, _)| of(&fare(*index)));
        known.reduce(|a, b| if a.total_cmp(&b) == better { a } else { b })
    };
    match order {
        Some("pricing-low-to-high") => entries.sort_by_cached_key(|e| price(e).map_or((1, 0), |p| (0, p))),
        Some("pricing-high-to-low") => {
            entries.sort_by_cached_key(|e| price(e).map_or((1, Reverse(0)), |p| (0, Reverse(p))));
        }
        Some("context-high-to-low") => entries.sort_by_cached_key(|e| Reverse(shape::context(&e.offers()))),
        // Positive floats are ordered as their bits are.
        Some("throughput-high-to-low") => entries.sort_by_cached_key(|e| {
            let speed = best(e, |fare| fare.tokens_per_s.map(|p| p.p50), Ordering::Greater);
            Reverse(speed.map(f32::to_bits))
        }),
        Some("latency-low-to-high") => entries.sort_by_cached_key(|e| {
            let latency = best(e, |fare| fare.ttft_ms.map(|p| p.p50), Ordering::Less);
            latency.map_or((1, 0), |ms| (0, ms.to_bits()))
        }),
        _ => {}
    }
}

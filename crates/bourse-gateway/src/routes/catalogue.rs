//! What is on offer: models, their offers, and who sells, in the shapes of OpenRouter, OpenAI and Anthropic at once.

mod declared;
mod filter;
mod shape;

pub(crate) use declared::pricing;

use super::query::Query;
use super::table::Kind;
use crate::gateway::Shared;
use crate::market::Book;
use bourse_market::{Offer, OfferIndex, Policy};
use bourse_types::ModelSlug;
use bourse_wire::api::{
    Data, Endpoint, List, Model, ModelCount, ModelEndpoints, ModelList, PageLinks, Provider,
};
use bourse_wire::error::{ApiError, ErrorType};
use filter::Entry;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A page of the models that a query wants. `path` is where the next page is asked for.
pub(super) fn models(shared: &Shared, query: &Query<'_>, path: &str) -> ModelList {
    let book = shared.market.book();
    page(query, path, &wanted(shared, &book, query, &Policy::default()))
}

/// The same, after the policies of the caller's account and key.
pub(super) fn own_models(shared: &Shared, query: &Query<'_>, path: &str, policy: &Policy) -> ModelList {
    let book = shared.market.book();
    page(query, path, &wanted(shared, &book, query, policy))
}

pub(super) fn count(shared: &Shared, query: &Query<'_>) -> Data<ModelCount> {
    let book = shared.market.book();
    let count = wanted(shared, &book, query, &Policy::default()).len() as u64;
    Data { data: ModelCount { count } }
}

/// Models of one kind.
pub(super) fn models_of(shared: &Shared, query: &Query<'_>, path: &str, kind: Kind) -> ModelList {
    let out = match kind {
        Kind::Embeddings => "embeddings",
        Kind::Images => "image",
    };
    let book = shared.market.book();
    let mut entries = wanted(shared, &book, query, &Policy::default());
    entries.retain(|entry| shape::outputs(&entry.offers()).contains(out));
    page(query, path, &entries)
}

/// The models that a query wants and policies leave, in the order that it asks for.
fn wanted<'b>(shared: &'b Shared, book: &'b Arc<Book>, query: &Query<'_>, policy: &Policy) -> Vec<Entry<'b>> {
    let now = shared.ports.clock.now();
    let fare = |index: OfferIndex| shared.market.fare(book, index, now);
    let entry = |(id, slug): (&'b str, &'b str)| {
        let offers = book.snapshot.offers_of(slug)?;
        let offers: Vec<_> = offers.filter(|(_, offer)| policy.refuses(offer).is_none()).collect();
        (!offers.is_empty()).then_some(Entry { id, slug, offers })
    };
    // An alias hides the model whose name it has: nobody can ask for that one.
    let models = book.snapshot.models().map(ModelSlug::as_str);
    let models = models.filter(|slug| !shared.names.is_alias(slug)).map(|slug| (slug, slug));
    let all = models.chain(shared.names.aliases(book)).filter_map(entry);
    let mut entries: Vec<Entry<'_>> = all.filter(|entry| filter::wants(query, entry, fare)).collect();
    entries.sort_unstable_by_key(|entry| entry.id);
    filter::sort(query.text("sort"), &mut entries, fare);
    entries
}

fn page(query: &Query<'_>, path: &str, entries: &[Entry<'_>]) -> ModelList {
    let total = entries.len() as u64;
    let after = |id: &str| entries.iter().position(|entry| entry.id == id).map_or(total, |at| at as u64 + 1);
    let offset = query.text("after_id").map_or_else(|| query.number("offset").unwrap_or(0), after);
    let limit = query.number("limit").unwrap_or(u64::MAX);
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = entries.iter().skip(skipped).take(shown);
    let data: Vec<Model> = page.map(|entry| shape::model((entry.id, entry.slug), &entry.offers())).collect();
    let end = offset.saturating_add(data.len() as u64);
    let has_more = end < total && !data.is_empty();
    ModelList {
        object: "list",
        total_count: total,
        links: PageLinks { next: has_more.then(|| format!("{path}?{}", query.with_offset(end))) },
        has_more,
        first_id: data.first().map(|model| model.id.clone()),
        last_id: data.last().map(|model| model.id.clone()),
        data,
    }
}

/// The model of a slug or an alias.
pub(super) fn model(shared: &Shared, id: &str) -> Result<Model, ApiError> {
    let book = shared.market.book();
    let slug = shared.names.target_of(id, &book).unwrap_or(id);
    let offers: Vec<&Offer> =
        book.snapshot.offers_of(slug).ok_or_else(|| unknown(id))?.map(|(_, offer)| offer).collect();
    Ok(shape::model((id, slug), &offers))
}

/// The offers of the model of a slug or an alias.
pub(super) fn endpoints(shared: &Shared, id: &str) -> Result<Data<ModelEndpoints>, ApiError> {
    let (book, now) = (shared.market.book(), shared.ports.clock.now());
    let slug = shared.names.target_of(id, &book).unwrap_or(id);
    let offers: Vec<(OfferIndex, &Offer)> =
        book.snapshot.offers_of(slug).ok_or_else(|| unknown(id))?.collect();
    let shown = offers.iter().map(|(n, offer)| shape::endpoint(offer, &shared.market.fare(&book, *n, now)));
    let shown = shown.collect();
    let offers: Vec<&Offer> = offers.iter().map(|(_, offer)| *offer).collect();
    Ok(Data { data: shape::with_endpoints(slug, &offers, shown) })
}

/// Offers whose sellers promise to keep nothing.
pub(super) fn zdr(shared: &Shared) -> List<Endpoint> {
    let (book, now) = (shared.market.book(), shared.ports.clock.now());
    let offers = book.snapshot.offers().iter().zip(0u32..).filter(|(offer, _)| declared::is_zdr(offer));
    let shown = offers.map(|(offer, n)| {
        let fare = shared.market.fare(&book, OfferIndex(n), now);
        shape::endpoint(offer, &fare)
    });
    List { data: shown.collect() }
}

/// Sellers, by name.
pub(super) fn providers(shared: &Shared) -> List<Provider> {
    let book = shared.market.book();
    let names: BTreeSet<&str> = book.snapshot.offers().iter().map(|offer| offer.seller.as_str()).collect();
    List { data: names.into_iter().map(shape::provider).collect() }
}

fn unknown(slug: &str) -> ApiError {
    let shown: String = slug.chars().take(128).collect();
    ApiError::new(
        ErrorType::NotFound,
        format!("no seller offers the model `{shown}`: GET /v1/models lists what is offered"),
    )
}

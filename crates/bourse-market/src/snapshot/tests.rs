use super::*;
use bourse_types::{PicoUsdPerToken, PriceSchedule};

/// An offer without limits at 1 µUSD per prompt token and 2 per completion token.
pub(crate) fn offer(model: &str, seller: &str) -> Offer {
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(500_000),
        ..PriceSchedule::per_token(PicoUsdPerToken(1_000_000), PicoUsdPerToken(2_000_000))
    };
    let (model, seller) = (ModelSlug::parse(model).unwrap(), SellerName::parse(seller).unwrap());
    Offer::new(model, seller, Some(prices), 8_192)
}

#[test]
fn positions_do_not_depend_on_the_order_given() {
    let offers = [offer("m", "b"), offer("a", "z"), offer("m", "a")];
    let reversed = offers.iter().rev().cloned().collect();
    let one = MarketSnapshot::new(offers.to_vec(), Digest32::default()).unwrap();
    let two = MarketSnapshot::new(reversed, Digest32::default()).unwrap();
    assert_eq!(one.offers(), two.offers());
    let found: Vec<u32> = one.offers_of("m").unwrap().map(|(index, _)| index.0).collect();
    assert_eq!(found, [1, 2]);
    assert_eq!(one.index_of("m", "b"), Some(OfferIndex(2)));
    assert_eq!(one.index_of("m", "c"), None);
    assert_eq!(one.offer(OfferIndex(0)).unwrap().seller.as_str(), "z");
    assert_eq!(one.models().map(ModelSlug::as_str).collect::<Vec<_>>(), ["a", "m"]);
    assert!(one.offers_of("b").is_none() && MarketSnapshot::empty().offers_of("m").is_none());
}

#[test]
fn twins_are_refused() {
    let twins = vec![offer("m", "a"), offer("n", "a"), offer("m", "a")];
    let refused = MarketSnapshot::new(twins, Digest32::default()).map(|_| ()).unwrap_err();
    assert_eq!(refused.to_string(), "seller `a` offers `m` twice");
}

#[test]
fn the_number_of_offers_is_bounded() {
    let many = |n: usize| (0..n).map(|i| offer("m", &i.to_string())).collect::<Vec<_>>();
    assert!(MarketSnapshot::new(many(OFFERS_MAX), Digest32::default()).is_ok());
    let past = MarketSnapshot::new(many(OFFERS_MAX + 1), Digest32::default()).map(|_| ());
    assert_eq!(past, Err(SnapshotError::TooMany(OFFERS_MAX + 1)));
}

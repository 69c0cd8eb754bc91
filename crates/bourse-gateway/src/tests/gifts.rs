//! Free offers: their buyers pay nothing, and the books are told what the same would have cost.

use super::fakes::*;
use crate::{ByokKey, ByokMode, GatewayConfig, Secret};
use bourse_market::Free;
use bourse_types::{AccountId, Gift, Giver, NanoUsd, PicoUsdPerToken, PriceSchedule, SellerName};

/// Everything of `a` is free, and would cost what [`prices`] of a million are.
fn listed(config: &mut GatewayConfig, giver: Giver) {
    let zero = PicoUsdPerToken(0);
    for model in &mut config.providers[0].models {
        model.prices = Some(PriceSchedule::per_token(zero, zero));
        model.free = Free::Listed { list: prices(1_000_000), giver };
    }
}

fn house(giver: Giver) -> House {
    House::build(&["a"], 10_000_000_000, |config| listed(config, giver))
}

#[tokio::test(start_paused = true)]
async fn a_free_answer_is_told_at_list_price_and_charged_nothing() {
    for giver in Giver::ALL {
        for (script, rest) in [(good_plain(), ""), (good_stream(&["Hel", "lo"]), r#","stream":true"#)] {
            let house = house(giver);
            let before = house.funds.available();
            house.net.script("a", script);
            let reply = house.chat(rest).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            let usage = if rest.is_empty() { reply.json() } else { reply.payloads().pop().unwrap() };
            assert_eq!(usage["usage"]["cost"].as_f64(), Some(0.0), "{usage}");
            house.check_books(before, 1);
            let list = prices(1_000_000).charge(&house.funds.receipts()[0].usage_billed).unwrap().total;
            assert!(list > NanoUsd(1_000), "{list}");
            assert_eq!(house.funds.gifts(), [Some(Gift { list, giver })]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_delivered_or_nobody_valued_is_no_gift() {
    let house = house(Giver::Market);
    house
        .net
        .script("a", vec![Act::Read, json_answer(500, "", r#"{"error":{"message":"broken"}}"#), Act::Close]);
    house.chat("").await;
    let unvalued = House::build(&["a"], 10_000_000_000, |config| {
        listed(config, Giver::Market);
        config.providers[0].models[0].free = Free::Unvalued;
    });
    unvalued.net.script("a", good_plain());
    unvalued.chat("").await;
    assert_eq!((house.funds.gifts(), unvalued.funds.gifts()), (vec![None], vec![None]));
}

#[tokio::test(start_paused = true)]
async fn a_buyers_own_key_is_given_nothing() {
    let house = House::build(&["a"], 10_000_000_000, |config| {
        listed(config, Giver::Market);
        config.byok_fee_bps = BYOK_FEE_BPS;
        config.byok = vec![ByokKey {
            account: AccountId(7),
            provider: SellerName::parse("a").unwrap(),
            key: Secret::new("sk-own"),
            mode: ByokMode::Prioritized,
            models: Vec::new(),
            keys: Vec::new(),
            users: Vec::new(),
        }];
    });
    house.net.script("a", good_plain());
    house.chat("").await;
    assert_eq!(house.funds.gifts(), [None]);
}

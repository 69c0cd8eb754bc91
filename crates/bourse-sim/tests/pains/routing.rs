//! Caches that are lost, quality that differs, refusals that say nothing (pains 12, 13 and 15).

use crate::house::House;
use crate::{MODEL, buy, chat, direct, receipt, seller};
use bourse_gateway::GatewayConfig;
use bourse_market::Quantization;
use bourse_sim::upstream::{Ask, CacheLaw, Fault, FaultScript, Mode, Seller, SellerConfig};
use bourse_types::PicoUsdPerToken;
use serde_json::{Value, json};
use std::time::Duration;

const TURNS: usize = 8;

fn caching(name: &str) -> SellerConfig {
    let cache = Some(CacheLaw { ttl: Duration::from_hours(1), tokens_min: 1 });
    SellerConfig { cache, ..seller(name) }
}

/// A conversation that grows by one question and one answer a turn.
fn turn(number: usize) -> Ask {
    let mut messages = vec![json!({"role": "system", "content": "you know all prices ".repeat(20)})];
    for n in 0..number {
        messages.push(json!({"role": "user", "content": format!("question {n} {}", "why ".repeat(20))}));
        messages.push(json!({"role": "assistant", "content": format!("answer {n}")}));
    }
    messages.push(json!({"role": "user", "content": format!("question {number}")}));
    chat(Mode::Plain).with(&json!({"messages": messages, "session_id": "one conversation"}))
}

/// Each turn goes to the next seller: cached and all prompt tokens, and what a switch costs.
async fn anchor_takes_turns(sellers: &[Seller]) -> (u64, u64) {
    for number in 0..TURNS {
        let ask = turn(number).with(&json!({"session_id": null}));
        assert_eq!(direct(&sellers[number % sellers.len()], ask).await.status, 200);
    }
    let log = sellers.iter().flat_map(Seller::log);
    log.fold((0, 0), |(cached, all), seen| (cached + seen.truth.cached_prompt, all + seen.truth.prompt))
}

#[tokio::test]
async fn pain_12_a_conversation_stays_where_its_prompt_is_cached() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let sellers = names.into_iter().map(caching).collect();
    let house = House::open_with(sellers, "1", |config| {
        for provider in &mut config.providers {
            let prices = provider.models[0].prices.as_mut().expect("a price");
            prices.cached_prompt = PicoUsdPerToken(10_000);
        }
    })
    .await;
    let (mut cached, mut all) = (0, 0);
    for number in 0..TURNS {
        let receipt = receipt(&house, &buy(&house, turn(number)).await);
        cached += receipt.usage_billed.cached_prompt.0;
        all += receipt.usage_billed.prompt.0;
    }
    let asked = house.sellers.iter().filter(|seller| seller.calls() > 0).count();
    assert_eq!(asked, 1, "one conversation, one seller");
    assert!(cached * 10 > all * 6, "{cached} of {all}");
    let cold: Vec<Seller> = {
        let mut cold = Vec::new();
        for name in names {
            let config = SellerConfig { bearer: None, ..caching(name) };
            cold.push(Seller::start(config).await.expect("a port"));
        }
        cold
    };
    let (anchor_cached, anchor_all) = anchor_takes_turns(&cold).await;
    assert!(anchor_cached * 10 < anchor_all, "{anchor_cached} of {anchor_all}");
    house.close(TURNS as u64).await;
}

fn stored_as(config: &mut GatewayConfig, forms: &[Quantization]) {
    for (provider, form) in config.providers.iter_mut().zip(forms) {
        provider.models[0].quantization = *form;
    }
}

/// Any seller of the name will do.
fn anchor_may_answer(offer: &str, model: &str) -> bool {
    !offer.is_empty() && model == MODEL
}

#[tokio::test]
async fn pain_13_weights_that_were_not_asked_for_never_answer() {
    let full = seller("full").with_faults(FaultScript::InOrder(vec![None, Some(Fault::ServerError)]));
    let house = House::open_with(vec![full, seller("small")], "1", |config| {
        stored_as(config, &[Quantization::Bf16, Quantization::Int4]);
    })
    .await;
    let ask = || chat(Mode::Plain).with(&json!({"provider": {"quantizations": ["bf16"]}}));
    assert_eq!(buy(&house, ask()).await.status, 200);
    let failed = buy(&house, ask()).await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    assert_eq!(house.sellers[1].calls(), 0, "no smaller weights in place of those that failed");
    assert!(anchor_may_answer("small", MODEL), "the same name, other goods");
    house.close(2).await;
}

#[tokio::test]
async fn pain_13_a_session_goes_on_with_the_weights_that_it_began_with() {
    let fails = || Some(Fault::ServerError);
    let full = seller("full").with_faults(FaultScript::InOrder(vec![None, fails(), fails(), fails()]));
    let house = House::open_with(vec![full, seller("small")], "1", |config| {
        stored_as(config, &[Quantization::Bf16, Quantization::Int4]);
    })
    .await;
    let order = json!(["full", "small"]);
    let ask = |provider: Value| chat(Mode::Plain).with(&json!({"session_id": "one", "provider": provider}));
    assert_eq!(buy(&house, ask(json!({"order": order}))).await.status, 200);
    let failed = buy(&house, ask(json!({"order": order}))).await;
    assert_eq!((failed.status, house.sellers[1].calls()), (502, 0), "{}", failed.text());
    assert!(anchor_may_answer("small", MODEL), "the same name, other goods");
    // Only its buyer can move it, and then it stays there.
    let consent = json!({"order": order, "quantizations": ["bf16", "int4"]});
    let moved = buy(&house, ask(consent)).await;
    assert_eq!((moved.status, house.sellers[1].calls()), (200, 1), "{}", moved.text());
    let stays = buy(&house, ask(json!({"order": order}))).await;
    assert_eq!((stays.status, house.sellers[1].calls()), (200, 2), "{}", stays.text());
    assert_eq!(house.sellers[0].calls(), 3, "the other weights are not asked any more");
    house.close(4).await;
}

/// What the anchor says, whatever the reason.
const ANCHOR_REFUSAL: &str = "No endpoints found that match your data policy";

/// One refusal: the rule, its count and the smallest change are named, and the change helps.
async fn check_refusal(house: &House, rule: &str, wish: &Value, relaxed: &Value, words: &[&str]) {
    let ask = |wish: &Value| chat(Mode::Plain).with(&json!({"provider": {rule: wish}})).body();
    let refused = house.chat(&ask(wish)).await;
    let message = refused.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.status, 404, "{rule}: {message}");
    let told = &refused.json()["error"]["availability"];
    assert_eq!((&told["code"], &told["offers"]), (&json!("constraint_filtered"), &json!(2)), "{rule}");
    let field = told["smallest_relaxation"]["changes"][0]["field"].as_str().unwrap_or_default();
    assert!(field.starts_with(&format!("provider.{rule}")), "{rule}: {told}");
    for word in words {
        assert!(message.contains(word), "{rule}: `{word}` is not in `{message}`");
        assert!(!ANCHOR_REFUSAL.contains(word), "{word}");
    }
    let answered = house.chat(&ask(relaxed)).await;
    assert_eq!(answered.status, 200, "{rule}: the advice does not help: {}", answered.text());
}

#[tokio::test]
async fn pain_15_a_refusal_names_the_rule_and_the_smallest_way_out() {
    let mut dear = seller("dear");
    dear.listings[0].price_completion = PicoUsdPerToken(9_000_000);
    let house = House::open_with(vec![seller("cheap"), dear], "1", |config| {
        stored_as(config, &[Quantization::Fp8, Quantization::Bf16]);
    })
    .await;
    let cheap = json!({"completion": 0.4});
    check_refusal(
        &house,
        "max_price",
        &json!({"completion": 0.1}),
        &cheap,
        &["cheap", "dear", "max_price", "0.4"],
    )
    .await;
    check_refusal(&house, "quantizations", &json!(["int4"]), &json!(["int4", "fp8"]), &["quantiz", "cheap"])
        .await;
    check_refusal(&house, "only", &json!(["nobody"]), &json!(["nobody", "cheap"]), &["only", "cheap"]).await;
    house.close(3).await;
}

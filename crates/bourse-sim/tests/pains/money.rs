//! Budgets, holds, usage, cost, prices (pains 1 to 5, 9 and 20).

use crate::house::House;
use crate::{FRONTS, MODEL, buy, chat, direct, documents, fronts_and_modes, nano, price_of, receipt, seller};
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_gateway::{Clock as _, SystemClock};
use bourse_sim::client::{Caller, Response, call};
use bourse_sim::upstream::{Ask, CacheLaw, Fault, FaultScript, Listing, Mode, SellerConfig, Shape, SpeedLaw};
use bourse_types::{DurationMs, NanoUsd, PicoUsdPerToken, RequestId, UnixMs};
use bourse_wire::funds::{Funds as _, FundsError, HoldRequest, KeyStatus, Records as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

/// Callers that race for one small balance.
const CALLERS: usize = 128;
const CREDIT_USD: &str = "0.02";
const CREDIT: u64 = 20_000_000;

/// A seller at 2 and 10 dollars per million tokens.
fn dear(name: &str) -> SellerConfig {
    let listing = Listing {
        price_prompt: PicoUsdPerToken(2_000_000),
        price_completion: PicoUsdPerToken(10_000_000),
        ..Listing::new(MODEL)
    };
    let speed = SpeedLaw { first_token: Duration::from_millis(20), per_token: Duration::from_millis(1) };
    SellerConfig { listings: vec![listing], speed, completion_words: 40, ..seller(name) }
}

fn status(house: &House) -> KeyStatus {
    house.exchange.key_status(&hash_key(&house.key), SystemClock.now()).expect("the key is known")
}

/// Look whether the cap is reached, send, add what it cost afterwards: what callers spend who all look before the first
/// one has been added.
fn anchor_check_then_add(cap: u64, costs: &[u64]) -> u64 {
    let spent_when_they_look = 0;
    costs.iter().filter(|_| spent_when_they_look < cap).sum()
}

#[tokio::test]
async fn pain_01_budgets_do_not_overshoot_under_concurrency() {
    let house = House::open(vec![dear("one")], CREDIT_USD).await;
    let routes = [Shape::Chat, Shape::Completions, Shape::Messages, Shape::Responses];
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let mode = Mode::ALL[number / routes.len() % 2];
        let shape = routes[number % routes.len()];
        let cap = if shape == Shape::Responses { "max_output_tokens" } else { "max_tokens" };
        let bytes = Ask::new(shape, mode, MODEL).with(&json!({cap: 64})).with_key(&house.key).bytes();
        let address = house.address;
        callers.spawn(async move { (shape, call(address, &bytes).await.expect("the market answers")) });
    }
    let answers = callers.join_all().await;
    let costs: Vec<u64> =
        answers.iter().filter_map(|(_, a)| house.receipt_of(a)).map(|r| r.charge.total.0).collect();
    let refused = answers.iter().filter(|(_, answer)| answer.status == 402).count();
    assert!(refused > 0 && !costs.is_empty(), "{refused} refused, {} answered", costs.len());
    for route in routes {
        let paid = answers.iter().any(|(shape, answer)| *shape == route && answer.status == 200);
        assert!(paid, "{route} was never answered");
    }
    assert_eq!(house.spent().0, costs.iter().sum::<u64>(), "every charge has its receipt");
    assert!(house.spent().0 <= CREDIT, "{} of {CREDIT}", house.spent());
    let each = costs.iter().copied().max().unwrap_or_default();
    assert!(anchor_check_then_add(CREDIT, &[each; CALLERS]) > CREDIT, "the scene must be able to overshoot");
    house.close(costs.len() as u64).await;
}

/// Reservations that are given back when an answer ends, and by nothing else.
fn anchor_reserved_after_aborts(holds: &[u64]) -> u64 {
    holds.iter().sum()
}

#[tokio::test]
async fn pain_02_what_buyers_that_left_had_held_is_given_back() {
    const LEAVERS: u64 = 40;
    let slow = SpeedLaw { per_token: Duration::from_millis(2), ..SpeedLaw::default() };
    let house =
        House::open(vec![SellerConfig { speed: slow, completion_words: 2_000, ..dear("slow") }], CREDIT_USD)
            .await;
    let ask = || chat(Mode::Stream).with(&json!({"max_tokens": 2_000}));
    let mut held = Vec::new();
    for _ in 0..LEAVERS {
        let mut buyer = Caller::connect(house.address).await.unwrap();
        buyer.send(&ask().with_key(&house.key).bytes()).await.unwrap();
        assert!(buyer.read_until(b"\"content\":\" ").await);
        held.push(status(&house).held.0);
        drop(buyer);
        house.until_nothing_is_held().await;
    }
    let now = status(&house);
    assert_eq!(now.account_available.0, CREDIT - now.account_spent.0, "nothing is lost between the two");
    let next = buy(&house, chat(Mode::Plain).with(&json!({"max_tokens": 64}))).await;
    assert_eq!(next.status, 200, "{}", next.text());
    let phantom = anchor_reserved_after_aborts(&held);
    assert!(phantom > CREDIT && now.account_spent.0 < CREDIT / 2, "{phantom} would be held for nobody");
    house.close(LEAVERS + 1).await;
}

#[test]
fn pain_02_a_crash_in_mid_request_leaves_nothing_held() {
    let at = |s: u64| UnixMs(1_790_000_000_000 + s * 1_000);
    let exchange = Exchange::in_memory(ExchangeConfig::default(), [7; 32], at(0)).unwrap();
    let (label, account) = ("buyer".to_owned(), Some("buyer".to_owned()));
    let create = AdminRequest::CreateKey(NewKey { label, account, ..NewKey::default() });
    let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(create, at(0)) else { panic!("no key") };
    let credit = AdminRequest::Credit {
        account: "buyer".to_owned(),
        amount_usd: CREDIT_USD.to_owned(),
        idempotency_key: None,
    };
    exchange.admin(credit, at(0)).unwrap();
    let hold = |exchange: &Exchange, random: u8, now: UnixMs| {
        let grant = exchange.authenticate(&hash_key(&secret.0), now).unwrap();
        let expires = now.plus(DurationMs(60_000));
        let (request, amount) = (RequestId::new(now, [random; 10]), NanoUsd(CREDIT));
        exchange.hold(&HoldRequest {
            request,
            grant,
            amount,
            byok: NanoUsd::ZERO,
            tokens: Some(0),
            expires,
            now,
            claim: None,
        })
    };
    hold(&exchange, 1, at(1)).unwrap();
    exchange.flush().unwrap();
    // A total that was written down says not whose it is: whoever starts again can only go on from it.
    let anchor_reserved_on_disk = CREDIT;
    assert!(anchor_reserved_on_disk + CREDIT > CREDIT, "phantom: the next request is refused");
    assert!(matches!(hold(&exchange, 2, at(1)), Err(FundsError::InsufficientFunds { .. })));
    let exchange = exchange.killed(at(2)).unwrap();
    assert_eq!(exchange.open_holds(), 0);
    hold(&exchange, 3, at(3)).expect("the whole balance is there again");
    // And without a crash: a hold that its owner forgot gives itself back when its time is over.
    exchange.tick(at(3 + 120)).unwrap();
    assert_eq!(exchange.open_holds(), 0);
    hold(&exchange, 4, at(124)).expect("again");
}

/// Usage is looked for in the chunk whose `choices` is empty, and its prompt has one price: what the prompt costs.
/// None where the usage is not found.
fn anchor_prompt_cost(events: &[Value], price: PicoUsdPerToken) -> Option<u64> {
    let usage = events.iter().find(|e| e["choices"].as_array().is_some_and(Vec::is_empty))?;
    Some(usage["usage"]["prompt_tokens"].as_u64()? * price.0 / 1_000)
}

#[tokio::test]
async fn pain_03_cached_tokens_cost_their_own_price_wherever_usage_stands() {
    let cache = Some(CacheLaw { ttl: Duration::from_hours(1), tokens_min: 1 });
    let mut one = SellerConfig { cache, ..seller("one") };
    one.listings[0].price_prompt = PicoUsdPerToken(1_000_000);
    let mut prices = None;
    let house = House::open_with(vec![one], "1", |config| {
        let model = &mut config.providers[0].models[0];
        let schedule = model.prices.as_mut().expect("a price");
        schedule.cached_prompt = PicoUsdPerToken(100_000);
        prices = Some(*schedule);
    })
    .await;
    let prices = prices.expect("the closure was called");
    let text = "a long prompt that comes again ".repeat(60);
    let mut asked = 0;
    for (fault, mode) in [
        (None, Mode::Plain),
        (None, Mode::Stream),
        (Some(Fault::UsageWithChoices), Mode::Stream),
        (Some(Fault::TwoUsageChunks), Mode::Stream),
    ] {
        house.sellers[0].set_faults(fault.map_or(FaultScript::Never, FaultScript::Always));
        let words = format!("{fault:?} {mode:?} {text}");
        let ask = || chat(mode).with(&json!({"messages": [{"role": "user", "content": words}]}));
        let answers = [buy(&house, ask()).await, buy(&house, ask()).await];
        asked += 2;
        let [cold, warm] = answers.map(|answer| receipt(&house, &answer));
        let truth = house.sellers[0].log().pop().expect("a call").truth;
        let (prompt, cached) = (warm.usage_billed.prompt.0, warm.usage_billed.cached_prompt.0);
        assert_eq!((prompt, cached), (truth.prompt, truth.cached_prompt), "{fault:?} {mode:?}");
        assert!(cold.usage_billed.cached_prompt.0 == 0 && cached * 10 > prompt * 9, "{fault:?}: {cached}");
        let whole = price_of(&prices, prompt, cached, warm.usage_billed.completion.0);
        assert_eq!(warm.charge.total, whole, "{fault:?} {mode:?}");
        if mode == Mode::Stream {
            let events = documents(&direct(&house.sellers[0], ask()).await, mode);
            let anchor = anchor_prompt_cost(&events, prices.prompt);
            let is_wrong = anchor.is_none_or(|cost| cost > 4 * warm.charge.prompt.0);
            assert!(is_wrong, "{fault:?}: {anchor:?} for {}", warm.charge.prompt);
        }
    }
    house.close(asked).await;
}

#[tokio::test]
async fn pain_03_unknown_usage_is_a_state_and_never_zero() {
    let house = House::open(vec![seller("mute").with_faults(FaultScript::Always(Fault::NoUsage))], "1").await;
    let answer = buy(&house, chat(Mode::Stream)).await;
    let receipt = receipt(&house, &answer);
    assert_eq!((receipt.usage_claimed, answer.status), (None, 200), "nobody claimed anything");
    assert!(receipt.usage_billed.completion.0 > 0 && receipt.charge.total > NanoUsd::ZERO);
    let metrics = call(house.address, &house.request("GET", "/metrics", b"")).await.unwrap().text();
    assert!(metrics.contains("bourse_usage_doubts_total{doubt=\"usage_unknown\"} 1"), "{metrics}");
    let events = documents(&direct(&house.sellers[0], chat(Mode::Stream)).await, Mode::Stream);
    let anchor = anchor_prompt_cost(&events, PicoUsdPerToken(100_000)).unwrap_or_default();
    assert_eq!(anchor, 0, "who defaults to nothing sells for nothing");
    house.close(1).await;
}

/// A client that adds what looks like two halves of a bill.
fn anchor_client_adds(usage: &Value) -> u64 {
    nano(&usage["cost"]) + nano(&usage["cost_details"]["upstream_inference_cost"])
}

/// The usage object of an answer of any front: the last one that has a cost.
fn usage_of(response: &Response, mode: Mode) -> Value {
    let of = |document: &Value| {
        let places = [&document["usage"], &document["response"]["usage"]];
        places.into_iter().find(|usage| usage["cost"].is_number()).cloned()
    };
    documents(response, mode).iter().rev().find_map(of).unwrap_or_default()
}

#[tokio::test]
async fn pain_04_cost_is_one_number_and_its_parts_sum_to_it() {
    let house = House::open(vec![dear("one")], "1").await;
    for (front, mode) in fronts_and_modes() {
        let answer = buy(&house, Ask::new(front, mode, MODEL)).await;
        let usage = usage_of(&answer, mode);
        let posted = receipt(&house, &answer).charge.total.0;
        assert!(posted > 0);
        assert_eq!(nano(&usage["cost"]), posted, "{front} {mode:?}: {usage}");
        let parts = usage["cost_details"].as_object().map(|parts| parts.values().map(nano).sum::<u64>());
        assert_eq!(parts, Some(posted), "{front} {mode:?}: {usage}");
        assert_eq!(anchor_client_adds(&usage), posted, "{front} {mode:?}: nothing to add up");
        let both = json!({"cost": usage["cost"], "cost_details": {"upstream_inference_cost": usage["cost"]}});
        assert_eq!(anchor_client_adds(&both), 2 * posted, "with two such fields the bill doubles");
    }
    house.close(6).await;
}

/// What is not on the price map costs nothing.
fn anchor_cost(price: Option<PicoUsdPerToken>, tokens: u64) -> u64 {
    price.map_or(0, |price| price.0) * tokens / 1_000
}

#[tokio::test]
async fn pain_05_without_a_price_nobody_is_asked() {
    let house = House::open_with(vec![seller("unpriced")], "1", |config| {
        config.providers[0].models[0].prices = None;
    })
    .await;
    for mode in Mode::ALL {
        let refused = buy(&house, chat(mode)).await;
        assert_eq!(refused.status, 404, "{}", refused.text());
        assert!(refused.text().contains("price"), "{}", refused.text());
    }
    assert_eq!((house.sellers[0].calls(), house.spent()), (0, NanoUsd::ZERO));
    assert_eq!(anchor_cost(None, 1_000_000), 0, "a million tokens for nothing");
    house.close(0).await;
    let house = House::open(vec![dear("priced")], "1").await;
    let sold = receipt(&house, &buy(&house, chat(Mode::Plain)).await);
    assert_ne!(sold.price_snapshot_digest.0, [0; 32], "the record names the prices that it was made under");
    let tokens = sold.usage_billed.completion.0;
    assert_eq!(sold.charge.completion.0, anchor_cost(Some(PicoUsdPerToken(10_000_000)), tokens));
    house.close(1).await;
}

/// Whatever tokens a seller says it used are paid for, however the request ended.
fn anchor_charge(prompt: u64, completion: u64) -> u64 {
    anchor_cost(Some(PicoUsdPerToken(100_000)), prompt)
        + anchor_cost(Some(PicoUsdPerToken(400_000)), completion)
}

#[tokio::test]
async fn pain_09_failed_generations_cost_nothing() {
    let failing = [Fault::EmptyAnswer, Fault::FirstEventError, Fault::ErrorAfterRole, Fault::OkErrorBody];
    let mut settled = 0;
    for fault in failing {
        let script = FaultScript::Always(fault);
        let house = House::open(vec![seller("failing").with_faults(script)], "1").await;
        for (front, mode) in fronts_and_modes() {
            let answer = buy(&house, Ask::new(front, mode, MODEL)).await;
            assert_ne!(answer.status, 200, "{fault} {front} {mode:?}: {}", answer.text());
            if let Some(receipt) = house.receipt_of(&answer) {
                assert_eq!(receipt.charge.total, NanoUsd::ZERO, "{fault} {front} {mode:?}");
                settled += 1;
            }
        }
        assert_eq!(house.spent(), NanoUsd::ZERO, "{fault}");
        let used: u64 = house.sellers[0]
            .log()
            .iter()
            .map(|seen| anchor_charge(seen.truth.prompt, seen.tokens_sent))
            .sum();
        assert!(used > 0, "{fault}: the seller has worked for these");
        house.close(std::mem::take(&mut settled)).await;
    }
}

#[tokio::test]
async fn pain_09_a_stream_that_its_seller_broke_costs_nothing() {
    for fault in [Fault::ErrorAfterTokens, Fault::CutWithoutDone] {
        let house = House::open(vec![seller("breaks").with_faults(FaultScript::Always(fault))], "1").await;
        for front in FRONTS {
            let answer = buy(&house, Ask::new(front, Mode::Stream, MODEL)).await;
            let receipt = receipt(&house, &answer);
            assert_eq!((answer.status, receipt.charge.total), (200, NanoUsd::ZERO), "{fault} {front}");
        }
        let log = house.sellers[0].log();
        let used: u64 = log.iter().map(|seen| anchor_charge(seen.truth.prompt, seen.tokens_sent)).sum();
        assert!(used > 0 && log.iter().all(|seen| seen.tokens_sent > 0), "{fault}: half of it came");
        house.close(3).await;
    }
}

/// A limit on cost can only be kept for requests that say how long their answer may be.
fn anchor_admits(body: &Value) -> bool {
    body["max_tokens"].is_number()
}

#[tokio::test]
async fn pain_20_a_worst_case_is_derived_where_the_buyer_names_none() {
    // The longest answer that the model could give costs more than there is.
    let house = House::open(vec![dear("one")], CREDIT_USD).await;
    let ask = chat(Mode::Plain);
    assert!(!anchor_admits(&ask.body()), "the scene has no max_tokens");
    let answer = buy(&house, ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent: Value = serde_json::from_slice(&house.sellers[0].log()[0].body).unwrap();
    let cap = ["max_tokens", "max_completion_tokens"].iter().find_map(|name| sent[name].as_u64());
    let cap = cap.expect("the seller is told what the money reaches for");
    assert!(cap > 64 && cap * 10_000 <= CREDIT, "{cap} tokens");
    let streamed = buy(&house, chat(Mode::Stream)).await;
    assert_eq!(streamed.status, 200, "{}", streamed.text());
    assert!(house.spent().0 <= CREDIT);
    house.close(2).await;
}

#[tokio::test]
async fn pain_20_a_retry_keeps_to_every_rule_of_the_first_try() {
    let down = seller("allowed").with_faults(FaultScript::Always(Fault::ServerError));
    let house = House::open(vec![down, seller("forbidden"), seller("trains")], "1").await;
    for front in FRONTS {
        let rules = json!({"provider": {"only": ["allowed"]}});
        let answer = buy(&house, Ask::new(front, Mode::Plain, MODEL).with(&rules)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    let asked: Vec<u64> = house.sellers.iter().map(bourse_sim::upstream::Seller::calls).collect();
    assert_eq!(asked[1..], [0, 0], "nobody else is asked, however the first one fails");
    let anchor_retries_at = house.sellers.iter().find(|seller| seller.config().faults == FaultScript::Never);
    assert_eq!(
        anchor_retries_at.map(|s| s.config().name.as_str()),
        Some("forbidden"),
        "who works is at hand"
    );
    house.close(3).await;
}

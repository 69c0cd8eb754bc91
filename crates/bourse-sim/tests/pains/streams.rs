//! Streams that break, buyers that leave, retries, errors (pains 7, 8, 11 and 14).

use crate::house::House;
use crate::{FRONTS, MODEL, buy, chat, direct, fronts_and_modes, price_of, receipt, seller};
use bourse_market::Quantization;
use bourse_sim::client::{Caller, Response, call};
use bourse_sim::upstream::{
    Ask, Ending, Fault, FaultScript, Heard, Mode, Seller, SellerConfig, Shape, SpeedLaw,
};
use bourse_types::{NanoUsd, PicoUsdPerToken, PriceSchedule};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest time from a buyer's going away to the seller's noticing; ten times the rule, for a busy machine.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);

fn heard(front: Shape, response: &Response) -> Heard {
    Heard::read(front, Mode::Stream, response)
}

/// Commits to a seller at its first event, whatever that says. None: it had better not.
fn anchor_commits(events: &[String]) -> Option<&String> {
    events.first()
}

#[tokio::test]
async fn pain_07_an_error_before_content_is_never_seen() {
    for fault in [Fault::ErrorAfterRole, Fault::FirstEventError, Fault::KeepAliveComments] {
        let late = seller("late").with_faults(FaultScript::Always(fault));
        let house = House::open(vec![late, seller("honest")], "1").await;
        for front in FRONTS {
            let order = json!({"provider": {"order": ["late", "honest"]}});
            let answer = buy(&house, Ask::new(front, Mode::Stream, MODEL).with(&order)).await;
            let heard = heard(front, &answer);
            assert!(answer.status == 200 && heard.is_whole(Mode::Stream), "{fault} {front}: {heard:?}");
        }
        let raw = direct(&house.sellers[0], chat(Mode::Stream)).await;
        let events = raw.events();
        let breaks = fault != Fault::KeepAliveComments;
        assert!(anchor_commits(&events).is_some() && raw.text().contains("\"error\"") == breaks, "{fault}");
        house.close(3).await;
    }
}

/// Hands on what a seller sent, byte for byte.
fn anchor_passes(seller: &Response) -> Heard {
    heard(Shape::Chat, seller)
}

#[tokio::test]
async fn pain_07_a_stream_that_was_cut_says_so() {
    for fault in [Fault::CutWithoutDone, Fault::DoneWithoutFinish, Fault::CutMidJson] {
        let house = House::open(vec![seller("cut").with_faults(FaultScript::Always(fault))], "1").await;
        for front in FRONTS {
            let answer = buy(&house, Ask::new(front, Mode::Stream, MODEL)).await;
            let heard = heard(front, &answer);
            let label = format!("{fault} {front}: {}", answer.text());
            assert_eq!((answer.status, heard.errors), (200, 1), "{label}");
            assert!(answer.whole && !heard.text.is_empty(), "{label}");
            let last = answer.events().pop().unwrap_or_default();
            let ends = match front {
                Shape::Chat => last == "[DONE]",
                Shape::Messages => last.contains("\"type\":\"error\""),
                _ => last.contains("response.failed") || last.contains("\"type\":\"error\""),
            };
            assert!(ends, "{label}");
        }
        let silent = anchor_passes(&direct(&house.sellers[0], chat(Mode::Stream)).await);
        assert_eq!(silent.errors, 0, "{fault}: half an answer that nobody called an error");
        assert!(!silent.text.is_empty() && silent.finishes.is_empty(), "{fault}");
        house.close(3).await;
    }
}

#[tokio::test]
async fn pain_07_a_buyer_may_ask_for_the_rest_from_somebody_else() {
    let cut = seller("cut").with_faults(FaultScript::Always(Fault::CutWithoutDone));
    let house = House::open(vec![cut, seller("honest")], "1").await;
    let wish = json!({"stream_failure": "continue", "provider": {"order": ["cut", "honest"]}});
    let answer = buy(&house, chat(Mode::Stream).with(&wish)).await;
    let heard = heard(Shape::Chat, &answer);
    assert!(heard.is_whole(Mode::Stream), "{}", answer.text());
    let cut = anchor_passes(&direct(&house.sellers[0], chat(Mode::Stream)).await);
    assert!(heard.text.starts_with(&cut.text) && heard.text.len() > cut.text.len(), "{}", heard.text);
    assert_eq!(house.sellers[1].calls(), 1);
    house.close(2).await;
}

#[tokio::test]
async fn pain_13_one_answer_is_not_made_of_two_kinds_of_weights() {
    let cut = seller("cut").with_faults(FaultScript::Always(Fault::CutWithoutDone));
    let house = House::open_with(vec![cut, seller("small")], "1", |config| {
        config.providers[0].models[0].quantization = Quantization::Bf16;
        config.providers[1].models[0].quantization = Quantization::Int4;
    })
    .await;
    let ask = |provider: Value| {
        chat(Mode::Stream).with(&json!({"stream_failure": "continue", "provider": provider}))
    };
    let broken = buy(&house, ask(json!({"order": ["cut", "small"]}))).await;
    assert!(!heard(Shape::Chat, &broken).is_whole(Mode::Stream), "{}", broken.text());
    assert_eq!(house.sellers[1].calls(), 0);
    let both = json!({"order": ["cut", "small"], "quantizations": ["bf16", "int4"]});
    let whole = buy(&house, ask(both)).await;
    assert!(heard(Shape::Chat, &whole).is_whole(Mode::Stream), "{}", whole.text());
    assert_eq!(house.sellers[1].calls(), 1, "by consent");
    house.close(3).await;
}

/// Reads a seller to its end for the sake of its usage, though nobody listens: what is paid.
fn anchor_drains(prices: &PriceSchedule, prompt: u64, completion: u64) -> NanoUsd {
    price_of(prices, prompt, 0, completion)
}

#[tokio::test]
async fn pain_08_a_buyer_that_leaves_stops_the_seller_and_pays_for_what_came() {
    for front in FRONTS {
        let speed = SpeedLaw { per_token: Duration::from_millis(5), ..SpeedLaw::default() };
        let slow = SellerConfig { speed, completion_words: 2_000, ..seller("slow") };
        let house = House::open(vec![slow], "1").await;
        let limit = if front == Shape::Responses { "max_output_tokens" } else { "max_tokens" };
        let ask = Ask::new(front, Mode::Stream, MODEL).with(&json!({limit: 2_000}));
        let mut buyer = Caller::connect(house.address).await.unwrap();
        buyer.send(&ask.with_key(&house.key).bytes()).await.unwrap();
        let first_words: &[u8] = match front {
            Shape::Chat => b"\"content\":\" ",
            Shape::Messages => b"text_delta",
            _ => b"output_text.delta",
        };
        assert!(buyer.read_until(first_words).await);
        let left = Instant::now();
        drop(buyer);
        let log = house.sellers[0].wait_for(|log| log[0].client_gone_at.is_some()).await;
        assert!(left.elapsed() < CANCEL_WITHIN, "{front}: {:?}", left.elapsed());
        assert_eq!(log[0].ending, Ending::ClientGone, "{front}");
        house.until_nothing_is_held().await;
        let prices = PriceSchedule::per_token(PicoUsdPerToken(100_000), PicoUsdPerToken(400_000));
        let delivered = price_of(&prices, log[0].truth.prompt, 0, log[0].tokens_sent);
        assert!(house.spent() <= delivered, "{front}: {} for {delivered}", house.spent());
        let whole = anchor_drains(&prices, log[0].truth.prompt, log[0].truth.completion);
        assert!(whole > delivered, "{front}: the scene must be able to overcharge");
        house.close(1).await;
    }
}

#[tokio::test]
async fn pain_08_a_hedge_that_lost_is_not_billed() {
    let house = House::open(vec![seller("first"), seller("second")], "1").await;
    let ask = || chat(Mode::Stream).with(&json!({"provider": {"order": ["first", "second"]}}));
    // What is usual must be known before a stall can be suspected.
    let mut receipts = 0;
    for _ in 0..60 {
        assert_eq!(buy(&house, ask()).await.status, 200);
        receipts += 1;
    }
    let before = house.spent();
    house.sellers[0].set_faults(FaultScript::Always(Fault::AcceptThenHang));
    let answer = buy(&house, ask()).await;
    let receipt = receipt(&house, &answer);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(receipt.seller.as_ref().map(bourse_types::SellerName::as_str), Some("second"));
    let asked: Vec<_> = receipt.attempts.iter().map(|attempt| attempt.seller.as_str().to_owned()).collect();
    assert_eq!(asked.len(), 2, "{asked:?}: both were asked");
    let paid = house.spent().0 - before.0;
    assert_eq!(paid, receipt.charge.total.0, "one of them is paid");
    let log = house.sellers[0].log().pop().expect("it was asked");
    let anchor_pays_both = paid
        + price_of(
            &PriceSchedule::per_token(PicoUsdPerToken(100_000), PicoUsdPerToken(400_000)),
            log.truth.prompt.max(1),
            0,
            log.truth.completion,
        )
        .0;
    assert!(anchor_pays_both > paid);
    house.close(receipts + 1).await;
}

/// Three layers that retry without knowing of each other, against the same sellers.
async fn anchor_calls(sellers: &[Seller]) -> u64 {
    const RETRIES: usize = 2;
    let before: u64 = sellers.iter().map(Seller::calls).sum();
    for _sdk in 0..=RETRIES {
        for seller in sellers {
            for _gateway in 0..=RETRIES {
                assert_ne!(direct(seller, chat(Mode::Plain)).await.status, 200);
            }
        }
    }
    sellers.iter().map(Seller::calls).sum::<u64>() - before
}

/// A stock client: tries again unless it is told that it is no use.
async fn sdk(house: &House, ask: &Ask) -> Response {
    let mut answer = buy(house, ask.clone()).await;
    for _ in 0..2 {
        if answer.status < 500 || answer.header("x-should-retry") == Some("false") {
            break;
        }
        answer = buy(house, ask.clone()).await;
    }
    answer
}

#[tokio::test]
async fn pain_11_retries_do_not_multiply() {
    let down = |n| seller(&format!("s{n}")).with_faults(FaultScript::Always(Fault::ServerError));
    for (front, mode) in fronts_and_modes() {
        let house = House::open((0..8).map(down).collect(), "1").await;
        let answer = sdk(&house, &Ask::new(front, mode, MODEL)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        let calls: u64 = house.sellers.iter().map(Seller::calls).sum();
        assert!(calls <= 8, "{front} {mode:?}: {calls} calls: each seller once, and once over all layers");
        assert_eq!(anchor_calls(&house.sellers).await, 72, "3 × 8 × 3");
        house.close(1).await;
    }
}

#[tokio::test]
async fn pain_11_whoever_must_wait_is_told_how_long() {
    let busy = |n| seller(&format!("s{n}")).with_faults(FaultScript::Always(Fault::RateLimitedSeconds));
    let house = House::open((0..2).map(busy).collect(), "1").await;
    let answer = buy(&house, chat(Mode::Plain)).await;
    let hint = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    let anchor_hint = direct(&house.sellers[0], chat(Mode::Plain)).await;
    let told = anchor_hint.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(answer.status == 429 && hint.is_some() && hint == told, "{hint:?} of {told:?}");
    house.close(1).await;
}

/// Hands status and body on as they came.
fn anchor_hands_on(seller: &Response) -> (u16, Value) {
    (seller.status, seller.json())
}

#[tokio::test]
async fn pain_14_an_error_has_its_status_and_says_who_and_why() {
    let script = FaultScript::Always(Fault::OkErrorBody);
    let house = House::open(vec![seller("acme").with_faults(script)], "1").await;
    for (front, mode) in fronts_and_modes() {
        let answer = buy(&house, Ask::new(front, mode, MODEL)).await;
        let label = format!("{front} {mode:?}: {}", answer.text());
        assert_eq!(answer.status, 502, "{label}");
        let message = answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("acme") && message.len() > 30, "{label}");
        assert_ne!(message, "Provider returned error", "{label}");
    }
    let (status, body) = anchor_hands_on(&direct(&house.sellers[0], chat(Mode::Plain)).await);
    assert_eq!(status, 200, "a client takes this for an answer");
    assert!(body["choices"][0]["message"]["content"].is_null() && body["error"].is_object());
    house.close(6).await;
}

#[tokio::test]
async fn pain_14_whoever_has_read_nothing_yet_gets_a_status() {
    let house = House::open(vec![seller("gone").with_faults(FaultScript::Always(Fault::Refuse))], "1").await;
    let bytes = chat(Mode::Stream).with_key(&house.key).bytes();
    let answer = call(house.address, &bytes).await.unwrap();
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    house.close(1).await;
}

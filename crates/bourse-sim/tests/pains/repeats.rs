//! Requests that are sent twice (pain 10).

use crate::house::House;
use crate::{MODEL, buy, chat, fronts_and_modes, receipt, seller};
use bourse_sim::client::Caller;
use bourse_sim::upstream::{Ask, Fault, FaultScript, Mode, SellerConfig, SpeedLaw};
use serde_json::json;
use std::time::Duration;

/// Every request is a new one: what this many cost.
fn anchor_charges(cost: u64, requests: u64) -> u64 {
    cost * requests
}

#[tokio::test]
async fn pain_10_a_repeated_request_is_settled_once() {
    let house = House::open(vec![seller("one")], "1").await;
    for (number, (front, mode)) in fronts_and_modes().enumerate() {
        let before = house.spent().0;
        let key = format!("order-{number}");
        let ask = || Ask::new(front, mode, MODEL).with_field("idempotency-key", &key);
        let first = buy(&house, ask()).await;
        let cost = receipt(&house, &first).charge.total.0;
        for _ in 0..2 {
            let again = buy(&house, ask()).await;
            assert_eq!((again.status, &again.body), (200, &first.body), "{front} {mode:?}");
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.header("x-generation-id"), first.header("x-generation-id"));
        }
        assert_eq!(house.spent().0 - before, cost, "{front} {mode:?}");
        assert!(cost > 0 && anchor_charges(cost, 3) > cost);
        let other = buy(&house, ask().with(&json!({"temperature": 0.5}))).await;
        assert_eq!((other.status, other.header("x-should-retry")), (409, Some("false")), "{}", other.text());
    }
    assert_eq!(house.sellers[0].calls(), 6, "each was asked of a seller once");
    house.close(6).await;
}

#[tokio::test]
async fn pain_10_what_failed_may_be_tried_again_under_its_key() {
    let faults = FaultScript::InOrder(vec![Some(Fault::ServerError), Some(Fault::CutWithoutDone)]);
    let house = House::open(vec![seller("one").with_faults(faults)], "1").await;
    let ask = || chat(Mode::Stream).with_field("idempotency-key", "order-8");
    assert_eq!(buy(&house, ask()).await.status, 502);
    let cut = buy(&house, ask()).await;
    assert!(cut.status == 200 && cut.text().contains("\"error\""), "{}", cut.text());
    let whole = buy(&house, ask()).await;
    assert!(whole.status == 200 && !whole.text().contains("\"error\""), "{}", whole.text());
    assert_eq!(house.spent(), receipt(&house, &whole).charge.total, "the one that succeeded is paid");
    assert_eq!(buy(&house, ask()).await.body, whole.body);
    house.close(3).await;
}

#[tokio::test]
async fn pain_10_what_was_paid_in_part_is_not_paid_again() {
    let speed = SpeedLaw { per_token: Duration::from_millis(5), ..SpeedLaw::default() };
    let house = House::open(vec![SellerConfig { speed, completion_words: 500, ..seller("slow") }], "1").await;
    let ask = || chat(Mode::Stream).with_field("idempotency-key", "order-9");
    let mut buyer = Caller::connect(house.address).await.unwrap();
    buyer.send(&ask().with_key(&house.key).bytes()).await.unwrap();
    assert!(buyer.read_until(b"\"content\":\" ").await);
    let early = buy(&house, ask()).await;
    assert_eq!((early.status, early.header("retry-after")), (409, Some("1")), "{}", early.text());
    drop(buyer);
    house.sellers[0].wait_for(|log| log[0].client_gone_at.is_some()).await;
    house.until_nothing_is_held().await;
    let paid = house.spent();
    let late = buy(&house, ask()).await;
    assert!(late.status == 409 && late.text().contains("gen-"), "names the receipt: {}", late.text());
    assert_eq!((house.spent(), house.sellers[0].calls()), (paid, 1));
    house.close(1).await;
}

#[tokio::test]
async fn pain_10_a_restart_forgets_nothing() {
    let mut house = House::open(vec![seller("one")], "1").await;
    let ask = |front, mode: Mode| {
        Ask::new(front, mode, MODEL).with_field("idempotency-key", &format!("order {front} {mode:?}"))
    };
    let mut answers = Vec::new();
    for (front, mode) in fronts_and_modes() {
        answers.push(buy(&house, ask(front, mode)).await);
    }
    let paid = house.spent();
    house = house.restarted().await;
    for (first, (front, mode)) in answers.iter().zip(fronts_and_modes()) {
        let again = buy(&house, ask(front, mode)).await;
        assert_eq!((again.status, &again.body), (200, &first.body), "{front} {mode:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        let other = buy(&house, ask(front, mode).with(&json!({"temperature": 0.5}))).await;
        assert_eq!(other.status, 409, "{}", other.text());
    }
    assert_eq!((house.spent(), house.sellers[0].calls()), (paid, 6));
    assert!(anchor_charges(paid.0, 2) > paid.0);
    house.close(6).await;
}

#[tokio::test]
async fn pain_10_equal_requests_are_charged_once_where_the_operator_says_so() {
    let window = Some(Duration::from_mins(10));
    let house = House::open_with(vec![seller("one")], "1", |config| config.dedupe_window = window).await;
    let first = buy(&house, chat(Mode::Stream)).await;
    let cost = receipt(&house, &first).charge.total;
    let house = house.restarted().await;
    assert_eq!(buy(&house, chat(Mode::Stream)).await.body, first.body);
    assert_eq!(house.spent(), cost);
    let anew = buy(&house, chat(Mode::Stream).with_field("cache-control", "no-cache")).await;
    assert_eq!(anew.header("idempotent-replayed"), None);
    assert_eq!(house.spent().0, anchor_charges(cost.0, 2));
    house.close(2).await;
}

//! Requests that are sent twice (pain 10).

use crate::house::House;
use crate::{buy, chat, receipt, seller};
use bourse_sim::upstream::Mode;

/// Every request is a new one.
fn anchor_settlements(requests: usize) -> usize {
    requests
}

/// Today's wrong answer: the market does not read the key, and settles twice.
#[tokio::test]
async fn pain_10_a_repeated_request_is_settled_once() {
    let house = House::open(vec![seller("one")], "1").await;
    let ask = || chat(Mode::Plain).with_field("idempotency-key", "order-7");
    let answers = [buy(&house, ask()).await, buy(&house, ask()).await];
    let [first, second] = answers.map(|answer| receipt(&house, &answer));
    assert_ne!(first.request, second.request, "the rule is kept: this test and its row must say so");
    assert_eq!(house.sellers[0].calls() as usize, anchor_settlements(2));
    house.close(2).await;
}

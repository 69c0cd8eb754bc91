//! Hedging: a stream whose seller stalls is asked of a second one, within a budget, and only the winner is paid.

use crate::piped::{CHAT, FRONTS, GRAMMARS, Grammar, MESSAGES, MODEL, Market, Stand, Told};
use bourse_sim::upstream::{
    Ask, Ending, Fault, FaultScript, FaultTiming, Mode, SellerConfig, Shape, SpeedLaw,
};
use bourse_types::{NanoUsd, SellerName};
use http_body_util::BodyExt as _;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Good answers that teach what is usual.
const LESSONS: usize = 20;
/// A hedge is asked for after the stall limit, and answered soon after.
const HEDGED_WITHIN: Duration = Duration::from_millis(500);

fn stand(grammar: Grammar, name: &str) -> Stand {
    let speed = SpeedLaw { first_token: Duration::from_millis(20), per_token: Duration::from_millis(1) };
    let timing = FaultTiming { drip: Duration::from_millis(900), gap: Duration::from_secs(6) };
    Stand::new(grammar, SellerConfig { speed, timing, ..SellerConfig::new(name, MODEL) })
}

async fn ask(market: &Market, front: Shape, mode: Mode) -> Told {
    let order = json!({"provider": {"order": ["first", "second"]}});
    market.ask(front, &Ask::new(front, mode, MODEL).with(&order).body()).await
}

/// One good answer of the first seller, in one piece: it teaches what is usual at the least cost to a test.
async fn lesson(market: &Market, front: Shape) {
    let order = json!({"provider": {"order": ["first", "second"]}});
    let response = market.begin(front, &Ask::new(front, Mode::Plain, MODEL).with(&order).body()).await;
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("an answer");
}

/// A market whose first seller is known to be quick.
async fn taught(front: Shape, first: Grammar, second: Grammar) -> Market {
    let market = Market::open(vec![stand(first, "first"), stand(second, "second")]).await;
    for _ in 0..LESSONS {
        lesson(&market, front).await;
    }
    assert_eq!(market.seller("second").calls(), 0);
    // Figures are kept for half a minute.
    tokio::time::sleep(Duration::from_secs(40)).await;
    market
}

async fn check_won(front: Shape, first: Grammar, second: Grammar) {
    let label = format!("{} then {} to {front}", first.shape, second.shape);
    let market = taught(front, first, second).await;
    market.seller("first").set_faults(FaultScript::Always(Fault::AcceptThenHang));
    let (began, spent) = (Instant::now(), market.spent());
    let told = ask(&market, front, Mode::Stream).await;
    assert!(told.heard.is_whole(Mode::Stream), "{label}: {:?}", told.heard);
    assert!(began.elapsed() < HEDGED_WITHIN, "{label}: {:?}", began.elapsed());
    let receipt = told.receipt();
    let attempts: Vec<_> = receipt.attempts.iter().map(|a| (a.seller.as_str(), a.status)).collect();
    assert_eq!(attempts, [("first", 0), ("second", 200)], "{label}: who is paid was asked last");
    assert_eq!(receipt.seller.as_ref().map(SellerName::as_str), Some("second"), "{label}");
    let truth = market.seller("second").log()[0].truth;
    assert_eq!(receipt.usage_billed.completion.0, truth.completion, "{label}: the winner alone is billed");
    assert_eq!(told.costs(), [receipt.charge.total], "{label}");
    assert_eq!(market.spent().0 - spent.0, receipt.charge.total.0, "{label}");
    market.audit(LESSONS as u64 + 1).await;
    let lost = market.seller("first").log().pop().expect("it was asked");
    let gone = lost.client_gone_at.expect("the loser is cancelled").saturating_sub(lost.at);
    assert!(lost.ending == Ending::ClientGone && gone < HEDGED_WITHIN, "{label}: told after {gone:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_answers_for_one_that_stalls_and_the_loser_is_cancelled_and_not_billed() {
    for front in FRONTS {
        for first in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
            for second in [CHAT, MESSAGES] {
                check_won(front, first, second).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_buyer_reads_of_both_and_pays_nothing() {
    let market = taught(Shape::Chat, CHAT, MESSAGES).await;
    let spent = market.spent();
    market.seller("first").set_faults(FaultScript::Always(Fault::AcceptThenHang));
    market.seller("second").set_faults(FaultScript::Always(Fault::Overloaded));
    let told = ask(&market, Shape::Chat, Mode::Stream).await;
    let error = told.error();
    assert_eq!(told.response.status, 502, "{error}");
    assert_eq!(error["metadata"]["previous_errors"].as_array().map(Vec::len), Some(2), "{error}");
    assert_eq!(told.receipt().charge.total, NanoUsd::ZERO);
    assert_eq!(market.spent(), spent);
    market.audit(LESSONS as u64 + 1).await;
}

#[tokio::test(start_paused = true)]
async fn whole_answers_are_not_hedged() {
    let market = taught(Shape::Chat, CHAT, CHAT).await;
    market.seller("first").set_faults(FaultScript::Always(Fault::AcceptThenHang));
    let began = Instant::now();
    let told = ask(&market, Shape::Chat, Mode::Plain).await;
    assert_eq!(told.response.status, 200);
    assert!(began.elapsed() >= crate::piped::timeouts().plain_answer, "{:?}", began.elapsed());
    let attempts: Vec<_> = told.receipt().attempts.iter().map(|a| a.seller.as_str()).collect();
    assert_eq!(attempts, ["first", "second"]);
    market.audit(LESSONS as u64 + 1).await;
}

/// Ten times a thousand requests: a calm, then a moment in which everybody stalls.
#[tokio::test(start_paused = true)]
async fn hedges_stay_within_two_in_a_hundred() {
    const ROUNDS: usize = 10;
    const CALM: usize = 900;
    const STALLED: usize = 100;
    let market = Market::open(vec![stand(CHAT, "first"), stand(CHAT, "second")]).await;
    for round in 0..ROUNDS {
        for _ in 0..CALM {
            lesson(&market, Shape::Chat).await;
        }
        tokio::time::sleep(Duration::from_secs(40)).await;
        let before = market.seller("second").calls();
        market.seller("first").set_faults(FaultScript::Always(Fault::KeepAliveComments));
        let stalled = std::iter::repeat_with(|| ask(&market, Shape::Chat, Mode::Stream)).take(STALLED);
        together(stalled.collect()).await;
        market.seller("first").set_faults(FaultScript::Never);
        let hedges = market.seller("second").calls() - before;
        assert!((1..=12).contains(&hedges), "round {round}: {hedges} of {STALLED} were hedged");
        // What was learned of the stall is forgotten.
        tokio::time::sleep(Duration::from_mins(6)).await;
    }
    let (first, hedges) = (market.seller("first").calls(), market.seller("second").calls());
    assert_eq!(first as usize, ROUNDS * (CALM + STALLED));
    assert!(hedges * 50 <= first + 50 * 10, "{hedges} hedges of {first}");
    market.audit(first).await;
}

/// Runs futures beside each other, and asserts that each answer is whole.
async fn together<F: Future<Output = Told>>(asks: Vec<F>) {
    let mut asks: Vec<_> = asks.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        asks.retain_mut(|ask| match ask.as_mut().poll(cx) {
            std::task::Poll::Ready(told) => {
                assert!(told.heard.is_whole(Mode::Stream), "{}", told.response.text());
                false
            }
            std::task::Poll::Pending => true,
        });
        if asks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

//! Cancelling both ways: a buyer who leaves closes the seller's connection at once and pays for what was delivered.

use crate::piped::{
    CANCEL_WITHIN, CHAT, FRONTS, GRAMMARS, Grammar, MESSAGES, MODEL, Market, Stand, timeouts,
};
use bourse_sim::upstream::{Ask, Ending, Fault, FaultScript, Mode, SellerConfig, Shape, SpeedLaw};
use bourse_types::{NanoUsd, PicoUsdPerToken};
use bourse_wire::receipt::Finish;
use http_body_util::BodyExt as _;
use serde_json::json;
use std::time::Duration;

const WORDS: usize = 400;
const PER_TOKEN: Duration = Duration::from_millis(20);

fn slow(grammar: Grammar) -> Stand {
    let speed = SpeedLaw { first_token: Duration::from_millis(100), per_token: PER_TOKEN };
    Stand::new(grammar, SellerConfig { speed, completion_words: WORDS, ..SellerConfig::new("slow", MODEL) })
}

/// Waits for the seller to notice, and asserts that it did so in time.
async fn told_in_time(market: &Market, label: &str) {
    let left = market.sellers[0].log()[0].at;
    let before = tokio::time::Instant::now();
    market.until_quiet().await;
    assert!(before.elapsed() <= CANCEL_WITHIN, "{label}");
    let seen = market.sellers[0].log().remove(0);
    assert_eq!(seen.ending, Ending::ClientGone, "{label}");
    assert!(seen.client_gone_at.is_some_and(|at| at >= left), "{label}");
    assert_eq!(seen.bytes_after_client_gone, 0, "{label}: nothing is written to nobody");
}

async fn check_stream(front: Shape, grammar: Grammar) {
    let label = format!("{} to {front}", grammar.shape);
    let market = Market::open(vec![slow(grammar)]).await;
    let response = market.begin(front, &Ask::new(front, Mode::Stream, MODEL).body()).await;
    let id = response.headers()["x-bourse-receipt"].to_str().expect("an id").to_owned();
    let mut body = response.into_body();
    let read = async { while body.frame().await.is_some() {} };
    assert!(tokio::time::timeout(Duration::from_secs(1), read).await.is_err(), "{label}: it goes on");
    let sent = market.sellers[0].log()[0].tokens_sent;
    drop(body);
    told_in_time(&market, &label).await;
    market.audit(1).await;
    let receipt = market.receipt(&id).expect("a receipt");
    assert_eq!(receipt.finish, Finish::Cancelled, "{label}");
    assert_eq!(receipt.usage_billed.completion.0, sent, "{label}: what was delivered");
    assert!(sent > 10 && sent < WORDS as u64 / 2, "{label}: {sent}");
    assert!(receipt.charge.total > NanoUsd::ZERO && market.spent() == receipt.charge.total, "{label}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_stops_its_seller_and_costs_what_was_delivered() {
    for front in FRONTS {
        for grammar in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
            check_stream(front, grammar).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_answer_pays_nothing() {
    for front in FRONTS {
        for grammar in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
            for mode in Mode::ALL {
                for fault in [Fault::AcceptThenHang, Fault::HeadersThenHang] {
                    let label = format!("{fault} of {} to {front} {mode:?}", grammar.shape);
                    let config = SellerConfig::new("slow", MODEL).with_faults(FaultScript::Always(fault));
                    let market = Market::open(vec![Stand::new(grammar, config)]).await;
                    let body = Ask::new(front, mode, MODEL).body();
                    let asked =
                        tokio::time::timeout(Duration::from_secs(1), market.begin(front, &body)).await;
                    assert!(asked.is_err(), "{label}: there is no answer yet");
                    told_in_time(&market, &label).await;
                    assert_eq!(market.spent(), NanoUsd::ZERO, "{label}");
                    market.audit(1).await;
                }
            }
        }
    }
}

/// Credit for a part of a dear stream: it ends with an error of its own, is charged, and its seller stops.
#[tokio::test(start_paused = true)]
async fn a_stream_that_outgrows_the_budget_costs_what_was_delivered() {
    for front in FRONTS {
        for grammar in [CHAT, MESSAGES] {
            let label = format!("{} to {front}", grammar.shape);
            let mut stand = slow(grammar);
            stand.config.completion_words = 4_000;
            stand.config.speed.per_token = Duration::from_millis(1);
            stand.prices.completion = PicoUsdPerToken(100_000_000);
            let market = Market::open_with(vec![stand], timeouts(), "0.15").await;
            let ask = Ask::new(front, Mode::Stream, MODEL);
            let limit = if front == Shape::Messages { json!({"max_tokens": 4_000}) } else { json!({}) };
            let told = market.ask(front, &ask.with(&limit).body()).await;
            let label = format!("{label}: {} {}", told.response.status, told.response.text());
            assert_eq!((told.response.status, told.heard.errors), (200, 1), "{label}");
            assert_eq!(told.heard.violations, Vec::<String>::new(), "{label}");
            let receipt = told.receipt();
            assert_eq!(receipt.finish, Finish::Budget, "{label}");
            assert_eq!(told.costs(), [receipt.charge.total], "{label}");
            assert!(receipt.charge.total > NanoUsd::ZERO, "{label}");
            assert_eq!(receipt.usage_billed.completion.0, told.heard.pieces as u64, "{label}");
            assert_eq!(market.spent(), receipt.charge.total, "{label}");
            market.audit(1).await;
            assert_eq!(market.sellers[0].log()[0].ending, Ending::ClientGone, "{label}");
        }
    }
}

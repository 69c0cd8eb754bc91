//! Every fault, plain and streamed, alone and beside an honest seller.
//!
//! One faulty seller for each fault, with models of its own, so that no breaker mixes them up. What is
//! expected is the simulator's table; what is charged is compared with what the seller really did.

use crate::house::{House, timeouts};
use bourse_sim::client::{Caller, Response};
use bourse_sim::upstream::{
    Ending, Expectation, Fault, FaultScript, FaultTiming, Listing, Mode, Seen, SellerConfig, SpeedLaw,
    UsageRule,
};
use bourse_types::NanoUsd;
use bourse_wire::receipt::{Finish, Receipt};
use serde_json::{Value, json};
use std::time::Duration;

/// What a stream or a plain answer says, taken apart.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    content_events: u64,
    errors: usize,
    dones: usize,
    ends_with_done: bool,
    finishes: Vec<String>,
    costs: Vec<String>,
}

fn take_apart(response: &Response, mode: Mode) -> Answer {
    let mut answer = Answer::default();
    let documents = if mode == Mode::Stream { response.events() } else { vec![response.text()] };
    answer.ends_with_done = documents.last().is_some_and(|last| last == "[DONE]");
    for document in documents {
        if document == "[DONE]" {
            answer.dones += 1;
            continue;
        }
        let value: Value = serde_json::from_str(&document).unwrap_or_default();
        answer.errors += usize::from(value["error"].is_object());
        if !value["usage"]["cost"].is_null() {
            answer.costs.push(value["usage"]["cost"].to_string());
        }
        for choice in value["choices"].as_array().into_iter().flatten() {
            let part = if mode == Mode::Stream { &choice["delta"] } else { &choice["message"] };
            let said = part["content"].as_str().unwrap_or_default();
            answer.content_events += u64::from(!said.is_empty() || part["tool_calls"].is_array());
            answer.text.push_str(said);
            answer.finishes.extend(choice["finish_reason"].as_str().map(str::to_owned));
        }
    }
    answer
}

fn body(model: &str, mode: Mode, order: &[&str]) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": "what is the price of a market that never sleeps"}],
        "max_tokens": 64,
        "provider": {"order": order},
    });
    if mode == Mode::Stream {
        body["stream"] = json!(true);
    }
    body
}

fn faulty(fault: Fault) -> SellerConfig {
    let name = format!("at-{fault}");
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: timeouts().idle * 3 };
    let pairs = Mode::ALL.map(|mode| Listing::new(pair_model(fault, mode)));
    let listings = [vec![Listing::new(format!("alone/{fault}"))], pairs.to_vec()].concat();
    let config = SellerConfig { timing, listings, ..SellerConfig::new(name, "") };
    config.with_faults(FaultScript::Always(fault))
}

/// One for each mode: a seller that asked for a pause is not asked again.
fn pair_model(fault: Fault, mode: Mode) -> String {
    format!("{mode:?}/{fault}")
}

fn honest() -> SellerConfig {
    let listings = cases().map(|(fault, mode)| Listing::new(pair_model(fault, mode))).collect();
    SellerConfig { listings, ..SellerConfig::new("honest", "") }
}

async fn open() -> House {
    let mut sellers: Vec<_> = Fault::ALL.iter().copied().map(faulty).collect();
    sellers.push(honest());
    House::open(sellers, "50").await
}

/// Decimal dollars of a receipt's total, as `usage.cost` writes them.
fn dollars(receipt: &Receipt) -> f64 {
    receipt.charge.total.0 as f64 / 1e9
}

fn assert_cost(answer: &Answer, receipt: &Receipt, label: &str) {
    let told: Vec<f64> = answer.costs.iter().map(|cost| cost.parse().expect("cost is a number")).collect();
    assert_eq!(told.len(), 1, "{label}: exactly one cost, got {:?}", answer.costs);
    assert!(
        (told[0] - dollars(receipt)).abs() < 5e-10,
        "{label}: told {told:?}, posted {}",
        dollars(receipt)
    );
}

fn assert_usage(rule: UsageRule, mode: Mode, receipt: &Receipt, seen: &Seen, answer: &Answer, label: &str) {
    let (billed, truth) = (receipt.usage_billed, seen.truth);
    match rule {
        UsageRule::Claimed => {
            assert_eq!((billed.prompt.0, billed.completion.0), (truth.prompt, truth.completion), "{label}");
        }
        UsageRule::ClaimedBelowTruth => assert_eq!(billed.completion.0, truth.completion / 2, "{label}"),
        UsageRule::Recounted | UsageRule::CachedBounded if mode == Mode::Stream => {
            assert_eq!(billed.completion.0, answer.content_events, "{label}: one token for each event");
        }
        UsageRule::Recounted | UsageRule::CachedBounded => {
            assert!((1..=truth.completion).contains(&billed.completion.0), "{label}: {billed:?}");
        }
        UsageRule::Bounded => {
            assert!(billed.completion.0 < truth.completion * 10, "{label}: {billed:?} for {truth:?}");
            assert!(billed.prompt.0 < truth.prompt * 20, "{label}: {billed:?} for {truth:?}");
        }
    }
    assert!(billed.cached_prompt <= billed.prompt && billed.prompt.0 > 0, "{label}: {billed:?}");
}

/// One fault alone: the right status or exactly one terminal, one receipt, the right charge.
async fn check_alone(house: &House, fault: Fault, mode: Mode) {
    let label = format!("{fault} {mode:?}");
    let response = house.chat(&body(&format!("alone/{fault}"), mode, &[])).await;
    let label =
        format!("{label}: {} {}", response.status, response.text().chars().take(4_000).collect::<String>());
    let receipt = house.receipt_of(&response).unwrap_or_else(|| panic!("{label}: no receipt"));
    let Some(seller) = house.sellers.iter().find(|seller| seller.config().name == format!("at-{fault}"))
    else {
        panic!("{label}: no such seller");
    };
    match fault.expectation(mode) {
        Expectation::FailsOver { status } => {
            assert_eq!(response.status, status, "{label}");
            let error = &response.json()["error"];
            assert_eq!(error["code"], response.status, "{label}");
            let message = error["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("at-{fault}")), "{label}: says who failed");
            assert_eq!((receipt.charge.total, receipt.finish), (NanoUsd::ZERO, Finish::NoSeller), "{label}");
        }
        Expectation::BreaksOff => {
            let answer = take_apart(&response, mode);
            assert_eq!((response.status, answer.errors, answer.dones), (200, 1, 1), "{label}");
            assert!(response.whole && answer.ends_with_done && !answer.text.is_empty(), "{label}");
            assert_eq!(receipt.finish, Finish::SellerError, "{label}");
            assert_eq!(receipt.charge.total, NanoUsd::ZERO, "{label}: a failed answer costs nothing");
            assert_cost(&answer, &receipt, &label);
        }
        Expectation::Answers { usage } => {
            let answer = take_apart(&response, mode);
            let dones = usize::from(mode == Mode::Stream);
            assert_eq!((response.status, answer.errors, answer.dones), (200, 0, dones), "{label}");
            assert!(response.whole && answer.ends_with_done == (mode == Mode::Stream), "{label}");
            assert!(matches!(receipt.finish, Finish::Stop | Finish::ToolCalls), "{label}");
            assert_cost(&answer, &receipt, &label);
            let log = seller.log();
            let seen = log.iter().rfind(|seen| seen.stream == (mode == Mode::Stream));
            assert_usage(usage, mode, &receipt, seen.expect("the seller was called"), &answer, &label);
        }
    }
    assert!(seller.log().iter().all(|seen| !format!("{:?}", seen.headers).contains(&house.key)), "{label}");
}

#[tokio::test]
async fn every_fault_alone() {
    let house = open().await;
    let all: Vec<_> = cases().collect();
    side_by_side(&all, |(fault, _)| fault.is_timeout(), |(fault, mode)| check_alone(&house, fault, mode))
        .await;
    house.close(all.len() as u64).await;
}

/// Beside an honest seller a fault before content is never seen.
async fn check_pair(house: &House, fault: Fault, mode: Mode) {
    let response =
        house.chat(&body(&pair_model(fault, mode), mode, &[&format!("at-{fault}"), "honest"])).await;
    let label = format!("{fault} {mode:?}: {} {}", response.status, response.text());
    let receipt = house.receipt_of(&response).unwrap_or_else(|| panic!("{label}: no receipt"));
    let answer = take_apart(&response, mode);
    assert_eq!((response.status, answer.errors), (200, 0), "{label}");
    assert_eq!(answer.finishes, ["stop"], "{label}");
    assert_eq!(receipt.seller.as_ref().map(bourse_types::SellerName::as_str), Some("honest"), "{label}");
    assert_eq!(receipt.attempts.len(), 2, "{label}");
    assert_cost(&answer, &receipt, &label);
}

/// A plain answer that sends white space for ever is alive as far as anybody can tell, and takes the whole
/// deadline with it: no time is left for another seller.
const OUTLASTS_THE_DEADLINE: (Fault, Mode) = (Fault::CommentsForever, Mode::Plain);

#[tokio::test]
async fn every_fault_before_content_fails_over_in_silence() {
    let house = open().await;
    let early = cases().filter(|(fault, mode)| fault.fails_before_content(*mode));
    let early: Vec<_> = early.filter(|case| *case != OUTLASTS_THE_DEADLINE).collect();
    assert!(early.len() > 30);
    side_by_side(&early, |(fault, _)| fault.is_timeout(), |(fault, mode)| check_pair(&house, fault, mode))
        .await;
    house.close(early.len() as u64).await;
}

fn cases() -> impl Iterator<Item = (Fault, Mode)> {
    Fault::ALL.iter().flat_map(|fault| Mode::ALL.map(|mode| (*fault, mode)))
}

/// Runs checks on this task: those that wait for timeouts all at once, the others one after the other
/// beside them, so that a busy machine does not look like a slow seller.
pub(crate) async fn side_by_side<C: Copy, F: Future<Output = ()>>(
    cases: &[C],
    is_slow: impl Fn(&C) -> bool,
    check: impl Fn(C) -> F,
) {
    let (slow, quick): (Vec<_>, Vec<_>) = cases.iter().copied().partition(is_slow);
    let mut slow: Vec<_> = slow.into_iter().map(|case| Box::pin(check(case))).collect();
    let quick = async {
        for case in quick {
            check(case).await;
        }
    };
    let slow = std::future::poll_fn(|cx| {
        slow.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if slow.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    tokio::join!(slow, quick);
}

#[tokio::test]
async fn a_buyer_that_leaves_is_charged_for_what_was_delivered_and_the_seller_is_told() {
    for fault in [None, Some(Fault::LateBytes)] {
        let speed = SpeedLaw { per_token: Duration::from_millis(5), ..SpeedLaw::default() };
        let config =
            SellerConfig { speed, completion_words: 2_000, ..SellerConfig::new("slow", "slow/model") };
        let script = fault.map_or(FaultScript::Never, FaultScript::Always);
        let house = House::open(vec![config.with_faults(script)], "1").await;
        let mut buyer = Caller::connect(house.address).await.unwrap();
        let mut body = body("slow/model", Mode::Stream, &[]);
        body["max_tokens"] = json!(2_000);
        let bytes = house.request("POST", "/v1/chat/completions", body.to_string().as_bytes());
        buyer.send(&bytes).await.unwrap();
        assert!(buyer.read_until(b"\"content\":\" ").await);
        drop(buyer);
        let log = house.sellers[0].wait_for(|log| log[0].client_gone_at.is_some()).await;
        assert_eq!(log[0].ending, Ending::ClientGone, "{fault:?}");
        house.until_nothing_is_held().await;
        let spent = house.spent();
        let whole = NanoUsd(2_000 * 400);
        assert!(spent > NanoUsd::ZERO && spent < whole, "{fault:?}: {spent}");
        house.close(1).await;
    }
}

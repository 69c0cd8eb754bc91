//! Every fault that has a meaning in a shape that does not stream, alone and beside an honest seller.

use super::{SHAPES, ask, assert_cost, open_selling};
use crate::faults::side_by_side;
use crate::house::{House, timeouts};
use bourse_sim::client::Response;
use bourse_sim::upstream::{
    Ask, Expectation, Fault, FaultScript, FaultTiming, Listing, Mode, Seen, SellerConfig, Shape, UsageRule,
};
use bourse_types::{NanoUsd, SellerName};
use bourse_wire::receipt::{Finish, Receipt};
use serde_json::json;
use std::time::Duration;

/// Every fault with a meaning, and what should come of it.
fn cases() -> impl Iterator<Item = (Fault, Shape, Expectation)> {
    let of = |fault: &Fault| {
        let fault = *fault;
        SHAPES.map(|shape| Some((fault, shape, fault.expectation_in(shape, Mode::Plain)?)))
    };
    Fault::ALL.iter().flat_map(of).flatten()
}

fn model(shape: Shape, group: &str, fault: Fault) -> String {
    format!("{shape}/{group}/{fault}")
}

fn faulty(fault: Fault) -> SellerConfig {
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: timeouts().idle * 3 };
    let listings =
        SHAPES.iter().flat_map(|shape| ["alone", "pair"].map(|g| Listing::new(model(*shape, g, fault))));
    let config = SellerConfig {
        timing,
        listings: listings.collect(),
        ..SellerConfig::new(format!("at-{fault}"), "").with_shapes(SHAPES)
    };
    config.with_faults(FaultScript::Always(fault))
}

fn honest() -> SellerConfig {
    let listings = cases().map(|(fault, shape, _)| Listing::new(model(shape, "pair", fault))).collect();
    SellerConfig { listings, ..SellerConfig::new("honest", "").with_shapes(SHAPES) }
}

async fn open() -> House {
    let mut sellers: Vec<_> = Fault::ALL.iter().copied().map(faulty).collect();
    sellers.push(honest());
    open_selling(sellers, "50").await
}

fn assert_usage(rule: UsageRule, shape: Shape, receipt: &Receipt, seen: &Seen, label: &str) {
    let billed = receipt.usage_billed;
    let prompt = billed.prompt.0;
    match rule {
        _ if shape == Shape::Transcriptions => {
            let seconds = if rule == UsageRule::Recounted { 1..=2 } else { 3..=3 };
            assert!(seconds.contains(&billed.units), "{label}: {billed:?}");
        }
        UsageRule::Claimed if matches!(shape, Shape::Embeddings | Shape::Images) => {
            assert_eq!(prompt, seen.truth.prompt, "{label}");
        }
        UsageRule::Recounted if shape != Shape::Rerank => {
            assert!((1..=seen.truth.prompt).contains(&prompt), "{label}: {billed:?}");
        }
        UsageRule::Bounded => assert!(prompt < seen.truth.prompt * 20, "{label}: {billed:?}"),
        _ => assert!(billed.units > 0, "{label}: {billed:?}"),
    }
}

fn check_whole(shape: Shape, response: &Response, label: &str) {
    assert!(response.status == 200 && response.whole, "{label}");
    let is_there = match shape {
        Shape::Speech => response.body.len() > 1_000,
        Shape::Rerank => response.json()["results"][0]["document"].is_object(),
        Shape::Transcriptions => response.json()["text"].is_string(),
        _ => response.json()["data"][0].is_object(),
    };
    assert!(is_there, "{label}");
}

/// One fault alone: the right status, one receipt, the right charge.
async fn check_alone(house: &House, (fault, shape, expectation): (Fault, Shape, Expectation)) {
    let response = ask(house, Ask::new(shape, Mode::Plain, &model(shape, "alone", fault))).await;
    let label = format!("{fault} {shape} {expectation:?}: {} {:.1000}", response.status, response.text());
    match expectation {
        Expectation::FailsOver { status } => {
            assert_eq!(response.status, status, "{label}");
            let receipt = house.receipt_of(&response).unwrap_or_else(|| panic!("{label}: no receipt"));
            let message = response.json()["error"]["message"].to_string();
            assert!(message.contains(&format!("at-{fault}")), "{label}: says who failed");
            assert_eq!((receipt.charge.total, receipt.finish), (NanoUsd::ZERO, Finish::NoSeller), "{label}");
        }
        Expectation::Answers { usage } => {
            check_whole(shape, &response, &label);
            let receipt = assert_cost(house, &response, &label);
            assert_eq!(receipt.finish, Finish::Stop, "{label}");
            let name = format!("at-{fault}");
            let seller = house.sellers.iter().find(|seller| seller.config().name == name).expect(&label);
            let log = seller.log();
            let seen = log.iter().rfind(|seen| seen.shape == shape).expect("the seller was asked");
            assert_usage(usage, shape, &receipt, seen, &label);
        }
        Expectation::BreaksOff => panic!("{label}: nothing here is streamed"),
    }
}

#[tokio::test]
async fn every_fault_alone() {
    let house = open().await;
    let all: Vec<_> = cases().collect();
    assert!(all.len() > 150);
    side_by_side(&all, |(fault, ..)| fault.is_timeout(), |case| check_alone(&house, case)).await;
    house.close(all.len() as u64).await;
}

/// Beside an honest seller a fault is never seen.
async fn check_pair(house: &House, (fault, shape, _): (Fault, Shape, Expectation)) {
    let name = format!("at-{fault}");
    let mut call = Ask::new(shape, Mode::Plain, &model(shape, "pair", fault));
    if shape == Shape::Transcriptions {
        call = call.with_part("provider", &json!({"order": [name, "honest"]}).to_string());
    } else {
        call = call.with(&json!({"provider": {"order": [name, "honest"]}}));
    }
    let response = ask(house, call).await;
    let label = format!("{fault} {shape}: {} {:.1000}", response.status, response.text());
    check_whole(shape, &response, &label);
    let receipt = assert_cost(house, &response, &label);
    assert_eq!(receipt.seller.as_ref().map(SellerName::as_str), Some("honest"), "{label}");
    assert_eq!(receipt.attempts.len(), 2, "{label}");
}

#[tokio::test]
async fn every_fault_fails_over_in_silence() {
    let house = open().await;
    // White space for ever is alive as far as anybody can tell, and takes the whole deadline with it.
    let fails = |(fault, _, expectation): &(Fault, Shape, Expectation)| {
        matches!(expectation, Expectation::FailsOver { .. }) && *fault != Fault::CommentsForever
    };
    let early: Vec<_> = cases().filter(fails).collect();
    assert!(early.len() > 80);
    side_by_side(&early, |(fault, ..)| fault.is_timeout(), |case| check_pair(&house, case)).await;
    house.close(early.len() as u64).await;
}

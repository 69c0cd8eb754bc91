//! Every fault that has a meaning in a shape that is no conversation, in one piece and in events, alone and beside an
//! honest seller.

use super::{SHAPES, ask, assert_cost, open_selling};
use crate::faults::side_by_side;
use crate::house::{House, timeouts};
use bourse_sim::client::Response;
use bourse_sim::upstream::{
    Ask, Expectation, Fault, FaultScript, FaultTiming, Listing, Mode, Seen, SellerConfig, Shape, UsageRule,
};
use bourse_types::{NanoUsd, SellerName};
use bourse_wire::receipt::{Finish, Receipt};
use serde_json::{Value, json};
use std::time::Duration;

/// A fault with a meaning, and what should come of it.
#[derive(Debug, Clone, Copy)]
struct Case {
    fault: Fault,
    shape: Shape,
    mode: Mode,
    expectation: Expectation,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let places = Mode::ALL.into_iter().flat_map(|mode| SHAPES.map(|shape| (mode, shape)));
        places.flat_map(|(mode, shape)| {
            let of = move |fault: &Fault| {
                let expectation = fault.expectation_in(shape, mode)?;
                Some(Self { fault: *fault, shape, mode, expectation })
            };
            Fault::ALL.iter().filter_map(of)
        })
    }

    /// One for each case: a seller that asked for a pause is not asked again.
    fn model(self, group: &str) -> String {
        format!("{}/{group}/{:?}/{}", self.shape, self.mode, self.fault)
    }

    fn ask(self, group: &str) -> Ask {
        let ask = Ask::new(self.shape, Mode::Plain, &self.model(group));
        match (self.mode, self.shape) {
            (Mode::Plain, _) => ask,
            (Mode::Stream, Shape::Images) => ask.with(&json!({"stream": true, "partial_images": 2, "n": 2})),
            (Mode::Stream, Shape::Speech) => ask.with(&json!({"stream_format": "sse"})),
            (Mode::Stream, _) => ask.with_part("stream", "true"),
        }
    }

    fn label(self, response: &Response) -> String {
        format!("{self:?}: {} {:.1000}", response.status, response.text())
    }

    fn is_timeout(self) -> bool {
        self.fault.is_timeout()
    }
}

fn faulty(fault: Fault) -> SellerConfig {
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: timeouts().idle * 3 };
    let cases = Case::all().filter(|case| case.fault == fault);
    let listings = cases.flat_map(|case| ["alone", "pair"].map(|group| Listing::new(case.model(group))));
    let config = SellerConfig {
        timing,
        listings: listings.collect(),
        ..SellerConfig::new(format!("at-{fault}"), "").with_shapes(SHAPES)
    };
    config.with_faults(FaultScript::Always(fault))
}

fn honest() -> SellerConfig {
    let listings = Case::all().map(|case| Listing::new(case.model("pair"))).collect();
    SellerConfig { listings, ..SellerConfig::new("honest", "").with_shapes(SHAPES) }
}

async fn open() -> House {
    let has_meaning = |fault: &Fault| Case::all().any(|case| case.fault == *fault);
    let mut sellers: Vec<_> = Fault::ALL.iter().copied().filter(has_meaning).map(faulty).collect();
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
        UsageRule::Recounted if !matches!(shape, Shape::Rerank | Shape::Speech) => {
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

/// The events before the one `[DONE]`.
fn events(response: &Response, label: &str) -> Vec<Value> {
    assert!(response.status == 200 && response.whole, "{label}");
    let mut data = response.events();
    assert_eq!(data.pop().as_deref(), Some("[DONE]"), "{label}");
    let read = |data: &String| serde_json::from_str(data).unwrap_or_else(|_| panic!("{label}: {data}"));
    data.iter().map(read).collect()
}

/// A whole stream: its pieces, its ends and the cost of them, once.
fn check_stream(case: Case, response: &Response, receipt: &Receipt, label: &str) {
    let events = events(response, label);
    let count = |ends: &[&str]| {
        let kind = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        events.iter().filter(|event| ends.iter().any(|end| kind(event).ends_with(end))).count()
    };
    let ends = if case.shape == Shape::Images { 2 } else { 1 };
    assert_eq!(count(&[".completed", ".done"]), ends, "{label}");
    assert!(count(&["delta", "partial_image"]) > 1, "{label}");
    let costs = events.iter().filter_map(|event| event["usage"]["cost"].as_f64());
    let (told, cost) = (costs.sum::<f64>(), receipt.charge.total.0 as f64 / 1e9);
    assert!((told - cost).abs() < 5e-10, "{label}: {told} {cost}");
}

/// A stream that broke off: some pieces, an error as the last event, and nothing to pay.
fn check_broken(response: &Response, receipt: &Receipt, label: &str) {
    let events = events(response, label);
    let (error, pieces) = events.split_last().expect(label);
    assert!(!pieces.is_empty() && pieces.iter().all(|event| event["error"].is_null()), "{label}");
    assert!(error["type"] == "error" && error["error"]["message"].is_string(), "{label}");
    assert_eq!((receipt.charge.total, receipt.finish), (NanoUsd::ZERO, Finish::SellerError), "{label}");
}

/// One fault alone: the right status, one receipt, the right charge.
async fn check_alone(house: &House, case: Case) {
    let Case { fault, shape, mode, expectation } = case;
    let response = ask(house, case.ask("alone")).await;
    let label = case.label(&response);
    let receipt = house.receipt_of(&response).unwrap_or_else(|| panic!("{label}: no receipt"));
    match expectation {
        Expectation::FailsOver { status } => {
            assert_eq!(response.status, status, "{label}");
            let message = response.json()["error"]["message"].to_string();
            assert!(message.contains(&format!("at-{fault}")), "{label}: says who failed");
            assert_eq!((receipt.charge.total, receipt.finish), (NanoUsd::ZERO, Finish::NoSeller), "{label}");
        }
        Expectation::Answers { usage } => {
            assert_eq!(receipt.finish, Finish::Stop, "{label}");
            if mode == Mode::Stream {
                check_stream(case, &response, &receipt, &label);
            } else {
                check_whole(shape, &response, &label);
                assert_cost(house, &response, &label);
            }
            let name = format!("at-{fault}");
            let seller = house.sellers.iter().find(|seller| seller.config().name == name).expect(&label);
            let log = seller.log();
            let is_streamed = mode == Mode::Stream;
            let seen = log.iter().rfind(|seen| seen.shape == shape && seen.stream == is_streamed);
            assert_usage(usage, shape, &receipt, seen.expect("the seller was asked"), &label);
        }
        Expectation::BreaksOff => check_broken(&response, &receipt, &label),
    }
}

#[tokio::test]
async fn every_fault_alone() {
    let house = open().await;
    let all: Vec<_> = Case::all().collect();
    assert!(all.len() > 260);
    side_by_side(&all, |case| case.is_timeout(), |case| check_alone(&house, case)).await;
    house.close(all.len() as u64).await;
}

/// Beside an honest seller a fault is never seen.
async fn check_pair(house: &House, case: Case) {
    let order = json!({"order": [format!("at-{}", case.fault), "honest"]});
    let call = case.ask("pair");
    let response = ask(
        house,
        match case.shape {
            Shape::Transcriptions => call.with_part("provider", &order.to_string()),
            _ => call.with(&json!({"provider": order})),
        },
    )
    .await;
    let label = case.label(&response);
    let receipt = house.receipt_of(&response).unwrap_or_else(|| panic!("{label}: no receipt"));
    match case.mode {
        Mode::Plain => {
            check_whole(case.shape, &response, &label);
            assert_cost(house, &response, &label);
        }
        Mode::Stream => check_stream(case, &response, &receipt, &label),
    }
    assert_eq!(receipt.seller.as_ref().map(SellerName::as_str), Some("honest"), "{label}");
    assert_eq!(receipt.attempts.len(), 2, "{label}");
}

#[tokio::test]
async fn every_fault_fails_over_in_silence() {
    let house = open().await;
    // White space for ever is alive as far as anybody can tell, and takes the whole deadline with it.
    let is_alive = |case: &Case| case.fault == Fault::CommentsForever && case.mode == Mode::Plain;
    let fails = |case: &Case| matches!(case.expectation, Expectation::FailsOver { .. });
    let early: Vec<_> = Case::all().filter(|case| fails(case) && !is_alive(case)).collect();
    assert!(early.len() > 130);
    side_by_side(&early, |case| case.is_timeout(), |case| check_pair(&house, case)).await;
    house.close(early.len() as u64).await;
}

//! The grammar of `responses`: requests, answers, streams.

use super::*;
use crate::dialect::grammar::{Billed, Seen, Sink};
use crate::dialect::neutral::strategies::{self, Can};
use crate::dialect::neutral::{Answer, Origin, Part, Request, Signed, StreamEvent};
use crate::dialect::{Job, SellerUsage};
use crate::sse::{Event, SseScanner};
use bourse_types::{Charge, NanoUsd, PicoUsdPerToken, PriceSchedule, TokenCount, Usage};
use bytes::Bytes;
use serde_json::Value;

mod answers;
mod requests;
mod streams;

fn usage() -> Usage {
    Usage { cache_write: TokenCount(5), ..Usage::of_tokens(100, 20, 7) }
}

fn charge() -> Charge {
    let prices = PriceSchedule {
        cached_prompt: PicoUsdPerToken(75_001),
        request: NanoUsd(5),
        ..PriceSchedule::per_token(PicoUsdPerToken(150_000), PicoUsdPerToken(600_333))
    };
    prices.charge(&usage()).unwrap()
}

/// What was billed, as the seller claimed it but for 3 tokens of reasoning.
fn with_billed<T>(raw: Option<&str>, then: impl FnOnce(&Billed<'_>) -> T) -> T {
    let claim = SellerUsage { prompt: 100, cached: 20, cache_write: 5, completion: 7, reasoning: 3 };
    then(&Billed { usage: &usage(), charge: &charge(), claim: Some(claim), raw, is_byok: false })
}

const BILLED: &str = r#"{"input_tokens":100,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":5},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":107,"cost":0.000017708,"cost_details":{"upstream_inference_input_cost":0.0000135,"upstream_inference_output_cost":0.000004202,"request":0.000000005,"units":0,"rounding":0.000000001}}"#;

fn head() -> Head {
    Head {
        id: "gen-1".into(),
        created_s: 5,
        model: "a/b".into(),
        provider: "seller".into(),
        echo: "\"tools\":[]".into(),
    }
}

fn job(body: &str) -> Job {
    parse(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// The seller's own ids of thoughts are not kept in streams.
fn without_ids(event: &mut StreamEvent<'static>) {
    if let StreamEvent::Signed { signed, .. } = event {
        signed.id = None;
    }
}

fn events_of(stream: &[u8]) -> Vec<Event> {
    let mut scanner = SseScanner::default();
    scanner.push(Bytes::copy_from_slice(stream));
    let mut events = Vec::new();
    while let Some(event) = scanner.next_event().unwrap() {
        events.push(event);
    }
    assert_eq!(scanner.pending_bytes(), 0);
    events
}

/// Every event's payload, after checks that hold for every stream.
fn payloads(stream: &[u8]) -> Vec<Value> {
    let mut out = Vec::new();
    for (n, event) in events_of(stream).iter().enumerate() {
        let json: Value = serde_json::from_slice(event.data().unwrap()).unwrap();
        assert_eq!(json["sequence_number"], n as u64);
        let name = format!("event: {}\n", json["type"].as_str().unwrap());
        assert!(event.raw.starts_with(name.as_bytes()));
        let is_last = ["response.completed", "response.incomplete", "response.failed"]
            .contains(&json["type"].as_str().unwrap());
        assert_eq!(is_last, n + 1 == events_of(stream).len());
        out.push(json);
    }
    out
}

fn read_stream(stream: &[u8]) -> Result<Vec<StreamEvent<'static>>, SellerError> {
    let mut reader = Responses.reader();
    let mut out = Vec::new();
    for event in events_of(stream) {
        reader.read(&event.text().unwrap(), &mut |event| out.push(strategies::of_choice(event, 0)))?;
    }
    Ok(out)
}

//! Golden texts and laws of the grammar. What several tests need stands here.

mod front;
mod passing;
mod round;
mod seller;
mod streams;

use super::*;
use crate::dialect::SellerUsage;
use crate::dialect::grammar::{Billed, Seen, Sink};
use crate::dialect::neutral::StreamEvent;
use crate::dialect::neutral::strategies::of_choice;
use crate::sse::{Event, SseScanner};
use bourse_types::{Charge, PicoUsdPerToken, PriceSchedule, TokenCount, Usage};
use bytes::Bytes;

fn head() -> Head {
    Head {
        id: "gen-1".into(),
        created_s: 1,
        model: "anthropic/claude".into(),
        provider: "acme".into(),
        echo: String::new(),
    }
}

fn usage() -> Usage {
    Usage { cache_write: TokenCount(2), ..Usage::of_tokens(10, 3, 5) }
}

fn charge() -> Charge {
    PriceSchedule::per_token(PicoUsdPerToken(1_000), PicoUsdPerToken(2_000)).charge(&usage()).unwrap()
}

const CLAIM: SellerUsage = SellerUsage { prompt: 10, cached: 3, cache_write: 2, completion: 5, reasoning: 4 };

fn with_billed<T>(raw: Option<&str>, run: impl FnOnce(&Billed<'_>) -> T) -> T {
    run(&Billed { usage: &usage(), charge: &charge(), claim: Some(CLAIM), raw, is_byok: false })
}

/// What was billed, as every usage object here ends.
const COST: &str = r#""cost":0.00000002,"cost_details":{"upstream_inference_prompt_cost":0.00000001,"upstream_inference_completions_cost":0.00000001,"request":0,"units":0,"rounding":0}}"#;

fn text(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap()
}

fn scanned(bytes: &str) -> Vec<Event> {
    let mut scanner = SseScanner::default();
    scanner.push(Bytes::copy_from_slice(bytes.as_bytes()));
    std::iter::from_fn(move || scanner.next_event().unwrap()).collect()
}

/// What a reader makes of a stream, and the last news of it.
fn read_stream(bytes: &str) -> Result<(Vec<StreamEvent<'static>>, Option<SellerUsage>, bool), SellerError> {
    let mut reader = Messages.reader();
    let (mut events, mut usage, mut is_last) = (Vec::new(), None, false);
    for event in scanned(bytes) {
        let data = event.text().unwrap().into_owned();
        let news = reader.read(&data, &mut |event| events.push(of_choice(event, 0)))?;
        usage = news.usage.unwrap_or(usage);
        is_last |= news.is_last;
    }
    Ok((events, usage, is_last))
}

#[derive(Default)]
struct Taken(Vec<u8>);

impl Sink for Taken {
    fn push(&mut self, bytes: Bytes) {
        self.0.extend_from_slice(&bytes);
    }
    fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

fn pass_all(passage: &mut dyn Passage, bytes: &str) -> Result<(String, Vec<Seen>), SellerError> {
    let mut sink = Taken::default();
    let seen: Result<Vec<Seen>, SellerError> =
        scanned(bytes).iter().map(|event| passage.event(event, &mut sink)).collect();
    Ok((text(sink.0), seen?))
}

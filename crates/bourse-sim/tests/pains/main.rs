//! What users of routers complain about most, one test or more for each pain (`docs/pains.md`).
//!
//! Each test plays the scene of the complaint twice: through the market, which must not have it, and under a small
//! model of the rule that is complained about (`anchor_…`), which must; so that a test that cannot tell the two apart
//! fails. Where the model needs a seller's bytes, it gets the real ones.

#[path = "../market/house.rs"]
mod house;
mod money;
mod operation;
mod page;
mod repeats;
mod routing;
mod streams;
mod translation;

use bourse_sim::client::{Response, call};
use bourse_sim::upstream::{Ask, Mode, Seller, SellerConfig, Shape};
use bourse_types::{NanoUsd, PriceSchedule};
use bourse_wire::receipt::Receipt;
use house::{House, SELLER_KEY};
use serde_json::Value;

const MODEL: &str = "acme/one";
/// The fronts that hold a conversation.
const FRONTS: [Shape; 3] = [Shape::Chat, Shape::Messages, Shape::Responses];

/// An honest, fast seller of everything that its kind speaks.
fn seller(name: &str) -> SellerConfig {
    SellerConfig::new(name, MODEL).with_shapes([Shape::Chat, Shape::Completions, Shape::Responses])
}

/// A buyer's call.
async fn buy(house: &House, ask: Ask) -> Response {
    call(house.address, &ask.with_key(&house.key).bytes()).await.expect("the market answers")
}

/// The same call, sent to a seller by somebody who has its key and stands between it and the buyer in vain.
async fn direct(seller: &Seller, ask: Ask) -> Response {
    call(seller.address(), &ask.with_key(SELLER_KEY).bytes()).await.expect("the seller answers")
}

fn chat(mode: Mode) -> Ask {
    Ask::new(Shape::Chat, mode, MODEL)
}

fn fronts_and_modes() -> impl Iterator<Item = (Shape, Mode)> {
    FRONTS.into_iter().flat_map(|front| Mode::ALL.map(|mode| (front, mode)))
}

/// The receipt that an answer names.
fn receipt(house: &House, response: &Response) -> Receipt {
    house.receipt_of(response).unwrap_or_else(|| panic!("no receipt: {}", response.text()))
}

/// The JSON documents of an answer: the one, or those of its events.
fn documents(response: &Response, mode: Mode) -> Vec<Value> {
    let texts = if mode == Mode::Stream { response.events() } else { vec![response.text()] };
    texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

/// A decimal number of dollars as nano-dollars.
fn nano(usd: &Value) -> u64 {
    (usd.as_f64().unwrap_or_default() * 1e9).round() as u64
}

/// What a seller with these prices would take for these tokens.
fn price_of(prices: &PriceSchedule, prompt: u64, cached: u64, completion: u64) -> NanoUsd {
    prices.charge(&bourse_types::Usage::of_tokens(prompt, cached, completion)).expect("a price").total
}

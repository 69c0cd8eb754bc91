//! Laws over every pair of grammars: what a buyer says in one, a seller hears in another, and the other way round.
//!
//! Each grammar has its own tests; these hold the neutral form in the middle to its promise. What may be lost on the
//! way is written down in tables ([`answers::Lost`], [`requests::refuses`], [`requests::is_silent`]), and nothing else may be.

mod answers;
mod requests;
mod signatures;

use super::chat::Chat;
use super::front;
use super::gemini::Gemini;
use super::grammar::{Billed, Dialect, Head, Shape};
use super::messages::Messages;
use super::neutral::strategies::bill;
use super::ollama::Ollama;
use super::responses::Responses;
use super::{Api, SellerUsage};

/// The fronts that say conversations.
const FRONTS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

/// Every grammar of sellers, chat in its three families.
const SELLERS: [&dyn Dialect; 7] =
    [&Chat::Strict, &Chat::Server, &Chat::Router, &Responses, &Messages, &Gemini, &Ollama];

/// The grammar in which a front's own words are written and read.
fn own(api: Api) -> &'static dyn Dialect {
    if api == Api::Chat { &Chat::Router } else { front::dialect(api.shape()) }
}

/// The front that reads a grammar; none for those that only sellers speak.
fn front_of(shape: Shape) -> Option<Api> {
    FRONTS.into_iter().find(|api| api.shape() == shape)
}

fn head() -> Head {
    Head { id: "gen-1".into(), created_s: 1, model: "a/b".into(), provider: "p".into(), echo: String::new() }
}

/// What the seller of the tests claims, which is what it is billed.
const CLAIM: SellerUsage = SellerUsage { prompt: 3, cached: 1, cache_write: 0, completion: 2, reasoning: 0 };

fn with_billed<T>(run: impl FnOnce(&Billed<'_>) -> T) -> T {
    let (usage, charge) = bill();
    run(&Billed { usage: &usage, charge: &charge, claim: Some(CLAIM), raw: None, is_byok: false })
}

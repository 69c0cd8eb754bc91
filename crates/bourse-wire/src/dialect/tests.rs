//! Laws over every pair of grammars: what a buyer says in one, a seller hears in another, and the other way round.
//!
//! Each grammar has its own tests; these hold the neutral form in the middle to its promise. What may be lost on the
//! way is written down in tables ([`Lost`], [`requests::refuses`], [`requests::is_silent`]), and nothing else may be. A
//! grammar that no front reads brings its part of the tables with it, as a [`Mirror`] among its facts.

mod answers;
mod requests;
mod signatures;

pub(super) use answers::{Lost, arguments};
pub(super) use requests::{Gist, add, replace_parts, word};

use super::chat::Chat;
use super::front;
use super::gemini::Gemini;
use super::grammar::{Billed, Dialect, Head, Shape};
use super::neutral::strategies::bill;
use super::neutral::{Origin, Request, StreamEvent};
use super::{Api, DIALECTS, SellerUsage};
use serde_json::Value;

/// How the laws speak as a seller whose grammar no front reads, and what they hear as one.
#[derive(Debug)]
pub(super) struct Mirror {
    /// What an answer loses in it.
    pub(super) lost: Lost,
    /// Whether its sellers make signatures of this origin.
    pub(super) signs: fn(Origin) -> bool,
    /// The payload by which a seller says an event, where it says it at all. The other argument is the whole stream, for
    /// grammars that say at once what comes in pieces.
    pub(super) say: fn(&StreamEvent<'_>, &[StreamEvent<'_>]) -> Option<Value>,
    /// What the body of a call says.
    pub(super) hear: fn(&Value) -> Gist,
    /// What a seller can hear of a conversation.
    pub(super) audible: fn(Gist) -> Gist,
    /// Wishes that it has a word for, by the first name that [`requests::wishes`] gives them, and where the body says
    /// them.
    pub(super) places: &'static [(&'static str, &'static str)],
    /// The fields that it refuses a request for; none where it can say it.
    pub(super) refuses: fn(&Request) -> Vec<&'static str>,
    /// The same request without what it refuses.
    pub(super) sayable: fn(Request) -> Request,
}

impl Mirror {
    fn of(shape: Shape) -> &'static Self {
        let mirror = shape.dialect().and_then(|dialect| dialect.facts().mirror);
        mirror.unwrap_or_else(|| panic!("no front reads {shape:?}, so its facts must have a mirror"))
    }
}

/// The fronts that say conversations.
const FRONTS: [Api; 3] = [Api::Chat, Api::Responses, Api::Messages];

/// Every grammar of sellers, chat in its three families.
fn sellers() -> impl Iterator<Item = &'static dyn Dialect> {
    let families: [&dyn Dialect; 2] = [&Chat::Strict, &Chat::Router];
    families.into_iter().chain(DIALECTS.iter().copied())
}

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

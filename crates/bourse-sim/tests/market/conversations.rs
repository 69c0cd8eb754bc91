//! Conversations over several turns: signed thoughts go back only to whom they came from, cached prompts are found
//! again, and bad tool calls cost a seller its place.

use crate::piped::{
    CHAT, COHERE, FRONTS, GEMINI, Grammar, MESSAGES, MODEL, Market, OLLAMA, RESPONSES, Stand, Told,
};
use bourse_sim::upstream::{AnswerScript, Ask, BadCall, CacheLaw, Mode, Say, Seen, SellerConfig, Shape};
use bourse_types::PicoUsdPerToken;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Duration;

/// A seller that thinks.
fn thinker(grammar: Grammar, name: &str) -> Stand {
    let answers = AnswerScript { reasoning_words: 6, ..AnswerScript::default() };
    // What thinking is called at Google depends on the model.
    let model = if grammar.shape == Shape::Gemini { "gemini-2.5-flash" } else { MODEL };
    Stand::new(grammar, SellerConfig::new(name, model).with_answers(answers))
}

/// A request that may think, to this seller alone.
fn thinking(front: Shape, seller: &str, history: Option<&Value>) -> Value {
    let thinks = match front {
        Shape::Messages => json!({"thinking": {"type": "enabled", "budget_tokens": 1_024}}),
        Shape::Responses => {
            json!({"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]})
        }
        _ => json!({"reasoning": {"effort": "low"}}),
    };
    let member = if front == Shape::Responses { "input" } else { "messages" };
    let history = history.map_or_else(|| json!({}), |history| json!({member: history}));
    let only = json!({"provider": {"only": [seller]}});
    Ask::new(front, Mode::Plain, MODEL).with(&thinks).with(&only).with(&history).body()
}

/// What a client sends next: all that was said, unchanged, and one more question.
fn history(front: Shape, asked: &Value, told: &Told) -> Value {
    let question = |content: &str| json!({"role": "user", "content": content});
    let answer = told.response.json();
    let mut turns = match front {
        Shape::Responses => match &asked["input"] {
            Value::Array(items) => items.clone(),
            text => vec![json!({"role": "user", "content": text})],
        },
        _ => asked["messages"].as_array().cloned().expect("messages"),
    };
    match front {
        Shape::Messages => turns.push(json!({"role": "assistant", "content": answer["content"]})),
        Shape::Responses => turns.extend(answer["output"].as_array().cloned().expect("output")),
        _ => turns.push(answer["choices"][0]["message"].clone()),
    }
    turns.push(question("and then"));
    Value::Array(turns)
}

fn last(market: &Market, name: &str) -> Seen {
    market.seller(name).log().pop().expect("it was asked")
}

/// Thoughts of `first` are left out for `second`, with a notice, and come back to `first` as they were.
async fn check_thoughts(front: Shape, first: Grammar, second: Grammar) {
    let market = Market::open(vec![thinker(first, "first"), thinker(second, "second")]).await;
    let asked = thinking(front, "first", None);
    let told = market.ask(front, &asked).await;
    let label = format!("{} then {} to {front}: {}", first.shape, second.shape, told.response.text());
    assert_eq!(told.response.status, 200, "{label}");
    let signatures: Vec<_> =
        told.heard.signatures.iter().map(|s| bare(s)).filter(|s| !s.is_empty()).collect();
    assert!(!signatures.is_empty(), "{label}: thoughts are signed");
    let turns = history(front, &asked, &told);
    let elsewhere = market.ask(front, &thinking(front, "second", Some(&turns))).await;
    let seen = last(&market, "second");
    let label = format!("{label} then {}", elsewhere.response.text());
    assert_eq!((elsewhere.response.status, seen.grammar_error.as_deref()), (200, None), "{label}");
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    // What a buyer writes in the seller's own grammar passes as it came: a chat seller does not read `reasoning_details`.
    if (front, second.shape) != (Shape::Chat, Shape::Chat) {
        assert!(!signatures.iter().any(|signature| body.contains(signature)), "{label}: {body}");
        let notice = elsewhere.response.header("x-bourse-notice").unwrap_or_default();
        assert!(notice.contains("left out"), "{label}: a notice says so: {notice}");
    }
    let back = market.ask(front, &thinking(front, "first", Some(&turns))).await;
    let seen = last(&market, "first");
    assert_eq!(
        (back.response.status, seen.grammar_error.as_deref()),
        (200, None),
        "{label}: {}",
        back.response.text()
    );
    let body = String::from_utf8_lossy(&seen.body).into_owned();
    assert!(signatures.iter().all(|signature| body.contains(signature)), "{label}: replayed intact: {body}");
    assert_eq!(back.response.header("x-bourse-notice"), None, "{label}");
}

/// The seller's own signature in a tagged one.
fn bare(signature: &str) -> String {
    signature.rsplit(':').next().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn signed_thoughts_go_back_only_to_whom_they_came_from() {
    for front in FRONTS {
        for second in [CHAT, GEMINI, OLLAMA, COHERE] {
            check_thoughts(front, MESSAGES, second).await;
        }
        for second in [CHAT, MESSAGES, OLLAMA, COHERE] {
            check_thoughts(front, GEMINI, second).await;
        }
    }
    check_thoughts(Shape::Responses, RESPONSES, MESSAGES).await;
    check_thoughts(Shape::Responses, RESPONSES, CHAT).await;
}

/// Requests with tools that a seller must see to be judged.
const JUDGED: usize = 210;

async fn ask_for_calls(market: &Market, front: Shape, seller: Option<&str>) -> String {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let tool = match front {
        Shape::Messages => json!({"name": "f", "input_schema": schema}),
        Shape::Responses => json!({"type": "function", "name": "f", "parameters": schema}),
        _ => json!({"type": "function", "function": {"name": "f", "parameters": schema}}),
    };
    let only = seller.map_or_else(|| json!({}), |name| json!({"provider": {"only": [name]}}));
    let body = Ask::new(front, Mode::Plain, MODEL).with(&json!({"tools": [tool]})).with(&only).body();
    let response = market.begin(front, &body).await;
    assert_eq!(response.status(), 200);
    let id = response.headers()["x-bourse-receipt"].to_str().expect("an id").to_owned();
    response.into_body().collect().await.expect("an answer");
    id
}

async fn check_calls(front: Shape, way: BadCall) {
    const NAMES: [&str; 4] = ["good-1", "good-2", "good-3", "bad"];
    let stands = NAMES.map(|name| {
        let bad_call_permille = if name == "bad" { 1_000 } else { 0 };
        let answers = AnswerScript {
            say: Say::ToolCalls(1),
            bad_call_permille,
            bad_calls: vec![way],
            ..AnswerScript::default()
        };
        Stand::new(CHAT, SellerConfig::new(name, MODEL).with_answers(answers))
    });
    let market = Market::open(stands.into()).await;
    for name in NAMES {
        for _ in 0..JUDGED {
            ask_for_calls(&market, front, Some(name)).await;
        }
    }
    // Figures are kept for half a minute.
    tokio::time::sleep(Duration::from_mins(1)).await;
    let before = NAMES.map(|name| market.seller(name).calls());
    for _ in 0..60 {
        ask_for_calls(&market, front, None).await;
    }
    let after = NAMES.map(|name| market.seller(name).calls());
    let asked: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // A draw now and then looks whether it has mended; its fair share would be fifteen.
    assert!(asked[3] <= 3, "{front} {way:?}: bad calls cost a seller its place: {asked:?}");
    assert!(asked[..3].iter().all(|calls| *calls > 0), "{front} {way:?}: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_tool_calls_cost_a_seller_its_place() {
    for (front, way) in FRONTS.into_iter().zip(BadCall::ALL) {
        check_calls(front, way).await;
    }
}

const TURNS: usize = 12;

/// How a buyer names a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// `session_id`, one for the conversation.
    Named,
    /// Not at all: the market guesses by its opening.
    Unnamed,
    /// A new name each turn, so that nothing can be found again.
    Torn,
}

/// Share of prompt tokens that were read from a cache, and how often the seller changed.
async fn converse(naming: Naming, cached_price: u64) -> (f64, usize) {
    let stands = ["a", "b", "c", "d"].map(|name| {
        let cache = Some(CacheLaw { ttl: Duration::from_mins(5), tokens_min: 16 });
        let mut stand = Stand::new(CHAT, SellerConfig { cache, ..SellerConfig::new(name, MODEL) });
        stand.prices.prompt = PicoUsdPerToken(1_000_000);
        stand.prices.cached_prompt = PicoUsdPerToken(cached_price);
        stand
    });
    let market = Market::open(stands.into()).await;
    let mut switches = 0;
    for conversation in 0..6 {
        let opening = format!("conversation {conversation}: {}", "what a market says at length ".repeat(60));
        let mut turns = vec![json!({"role": "user", "content": opening})];
        let mut before = None;
        for turn in 0..TURNS {
            let members = match naming {
                Naming::Named => json!({"session_id": format!("s{conversation}")}),
                Naming::Unnamed => json!({}),
                Naming::Torn => json!({"session_id": format!("s{conversation}-{turn}")}),
            };
            let messages = json!({"messages": turns, "max_tokens": 16});
            let body = Ask::new(Shape::Chat, Mode::Plain, MODEL).with(&messages).with(&members).body();
            let told = market.ask(Shape::Chat, &body).await;
            let seller = told.receipt().seller.clone();
            switches += usize::from(turn > 0 && seller != before);
            before = seller;
            turns.push(told.response.json()["choices"][0]["message"].clone());
            turns.push(json!({"role": "user", "content": format!("turn {turn}")}));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    let logs: Vec<Seen> = market.sellers.iter().flat_map(|seller| seller.log()).collect();
    let sum = |of: fn(&Seen) -> u64| logs.iter().map(of).sum::<u64>() as f64;
    (sum(|seen| seen.truth.cached_prompt) / sum(|seen| seen.truth.prompt), switches)
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_where_its_prompt_is_cached_while_that_is_cheaper() {
    let cheap = 100_000;
    let (named, switches) = converse(Naming::Named, cheap).await;
    assert!(named > 0.8 && switches <= 6, "{named:.2} cached, {switches} switches");
    let (unnamed, _) = converse(Naming::Unnamed, cheap).await;
    let (torn, torn_switches) = converse(Naming::Torn, cheap).await;
    assert!(unnamed > torn + 0.1, "{unnamed:.2} with a guess, {torn:.2} without");
    assert!(named > torn + 0.2 && torn_switches > 20, "{torn:.2} cached, {torn_switches} switches when torn");
    let (_, as_dear) = converse(Naming::Named, 1_000_000).await;
    assert!(as_dear > 20, "a cache that saves nothing binds nobody: {as_dear} switches");
}

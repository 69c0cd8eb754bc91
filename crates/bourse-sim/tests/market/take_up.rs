//! `stream_failure: "continue"`: a stream that dies is taken up by another seller, whatever grammars the two speak.

use crate::piped::{CHAT, FRONTS, GRAMMARS, Grammar, MESSAGES, MODEL, Market, Stand, Told};
use bourse_sim::upstream::{Ask, Ending, Fault, FaultScript, Mode, SellerConfig, Shape};
use bourse_types::{NanoUsd, SellerName};
use bourse_wire::receipt::{Finish, Receipt};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::time::Duration;

fn stand(grammar: Grammar, name: &str, fault: Option<Fault>) -> Stand {
    let faults = fault.map_or(FaultScript::Never, FaultScript::Always);
    Stand::new(grammar, SellerConfig::new(name, MODEL).with_faults(faults))
}

fn body(front: Shape, order: &[&str], more: &Value) -> Value {
    let members = json!({"provider": {"order": order}, "stream_failure": "continue"});
    Ask::new(front, Mode::Stream, MODEL).with(&members).with(more).body()
}

/// The receipts of the parts after the first, as the answer names them.
fn rest(market: &Market, told: &Told) -> Vec<Receipt> {
    let mut ids = Vec::new();
    told.documents().iter().for_each(|document| find(document, &mut ids));
    ids.iter().map(|id| market.receipt(id).expect("a receipt of the rest")).collect()
}

fn find(value: &Value, ids: &mut Vec<String>) {
    let Some(members) = value.as_object() else { return };
    let named = members.get("continued_by").and_then(Value::as_array).into_iter().flatten();
    ids.extend(named.filter_map(Value::as_str).map(str::to_owned));
    members.values().for_each(|member| find(member, ids));
}

async fn check_continued(front: Shape, first: Grammar, second: Grammar, fault: Fault) {
    let stands = vec![stand(first, "first", Some(fault)), stand(second, "second", None)];
    let market = Market::open(stands).await;
    let told = market.ask(front, &body(front, &["first", "second"], &json!({}))).await;
    let label =
        format!("{fault} of {} then {} to {front}: {}", first.shape, second.shape, told.response.text());
    let heard = &told.heard;
    assert!(heard.is_whole(Mode::Stream), "{label}: {heard:?}");
    let (begun, done) = (&market.seller("first").log()[0], &market.seller("second").log()[0]);
    assert_eq!(done.grammar_error, None, "{label}");
    let asked: Value = serde_json::from_slice(&done.body).expect("JSON");
    let (said, rest_of) = heard.text.split_at(longest_start(&asked, &heard.text));
    let words = said.split_whitespace().count() as u64;
    assert_eq!(words, begun.tokens_sent, "{label}: the second is told what was said: {asked}");
    assert_eq!(rest_of.split_whitespace().count() as u64, done.truth.completion, "{label}");
    let rest = rest(&market, &told);
    assert_eq!(rest.len(), 1, "{label}");
    let parts = [told.receipt(), &rest[0]];
    let sellers: Vec<_> =
        parts.iter().filter_map(|part| part.seller.as_ref().map(SellerName::as_str)).collect();
    assert_eq!(sellers, ["first", "second"], "{label}");
    assert_eq!(parts[0].usage_billed.completion.0, begun.tokens_sent, "{label}: what the first delivered");
    let completion: u64 = parts.iter().map(|part| part.usage_billed.completion.0).sum();
    let prompt: u64 = parts.iter().map(|part| part.usage_billed.prompt.0).sum();
    let usage = heard.usages.last().expect("usage");
    assert_eq!((usage.prompt, usage.completion), (prompt, completion), "{label}: usage sums the parts");
    let total = NanoUsd(parts.iter().map(|part| part.charge.total.0).sum());
    assert_eq!(told.costs(), [total], "{label}: one cost, of both parts");
    assert!(parts.iter().all(|part| part.charge.total > NanoUsd::ZERO), "{label}");
    assert_eq!(market.spent(), total, "{label}");
    market.audit(2).await;
}

/// The length of the longest string of a document that the text starts with.
fn longest_start(value: &Value, text: &str) -> usize {
    match value {
        Value::String(part) if text.starts_with(part.as_str()) => part.len(),
        Value::Object(members) => members.values().map(|v| longest_start(v, text)).max().unwrap_or(0),
        Value::Array(items) => items.iter().map(|v| longest_start(v, text)).max().unwrap_or(0),
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_dies_is_taken_up_across_all_grammars() {
    for front in FRONTS {
        for first in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
            for second in GRAMMARS.into_iter().filter(|grammar| grammar.serves(front)) {
                for fault in [Fault::ErrorAfterTokens, Fault::ResetMidBody, Fault::IdleGap] {
                    check_continued(front, first, second, fault).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_third_seller_takes_up_what_two_could_not_end() {
    for front in FRONTS {
        let broken = Some(Fault::CutWithoutDone);
        let stands =
            vec![stand(CHAT, "first", broken), stand(MESSAGES, "second", broken), stand(CHAT, "third", None)];
        let market = Market::open(stands).await;
        let told = market.ask(front, &body(front, &["first", "second", "third"], &json!({}))).await;
        let label = format!("{front}: {}", told.response.text());
        assert!(told.heard.is_whole(Mode::Stream), "{label}: {:?}", told.heard);
        let rest = rest(&market, &told);
        assert_eq!(rest.len(), 2, "{label}");
        let total = rest.iter().fold(told.receipt().charge.total.0, |sum, part| sum + part.charge.total.0);
        assert_eq!((told.costs(), market.spent()), (vec![NanoUsd(total)], NanoUsd(total)), "{label}");
        market.audit(3).await;
    }
}

/// One error terminal, and nothing is charged.
async fn check_ended(front: Shape, stands: Vec<Stand>, more: &Value, (asked, receipts): (u64, u64)) {
    let names: Vec<String> = stands.iter().map(|stand| stand.config.name.clone()).collect();
    let order: Vec<&str> = names.iter().map(String::as_str).collect();
    let market = Market::open(stands).await;
    let told = market.ask(front, &body(front, &order, more)).await;
    let label = format!("{front} {more}: {}", told.response.text());
    assert_eq!((told.response.status, told.heard.errors), (200, 1), "{label}");
    assert_eq!(told.heard.violations, Vec::<String>::new(), "{label}");
    assert_eq!(told.heard.ends, usize::from(front == Shape::Chat), "{label}");
    assert_eq!((told.receipt().finish, told.costs()), (Finish::SellerError, vec![NanoUsd::ZERO]), "{label}");
    assert_eq!(market.spent(), NanoUsd::ZERO, "{label}: a failed answer costs nothing");
    assert_eq!(market.sellers.iter().map(|seller| seller.calls()).sum::<u64>(), asked, "{label}");
    market.audit(receipts).await;
}

#[tokio::test(start_paused = true)]
async fn with_nobody_left_it_ends_as_any_broken_stream_and_costs_nothing() {
    for front in FRONTS {
        let first = || stand(CHAT, "first", Some(Fault::ErrorAfterTokens));
        check_ended(front, vec![first()], &json!({}), (1, 1)).await;
        for fault in [Fault::Unavailable, Fault::AcceptThenHang, Fault::FirstEventError] {
            let stands = vec![first(), stand(MESSAGES, "second", Some(fault))];
            check_ended(front, stands, &json!({}), (2, 2)).await;
        }
        let stands = vec![first(), stand(MESSAGES, "second", Some(Fault::CutMidJson))];
        check_ended(front, stands, &json!({}), (2, 2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_several_choices_are_not_taken_up() {
    let stands =
        || vec![stand(CHAT, "first", Some(Fault::ErrorAfterTokens)), stand(MESSAGES, "second", None)];
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": schema}});
    check_ended(Shape::Chat, stands(), &json!({"tools": [tool]}), (1, 1)).await;
    let tool = json!({"type": "function", "name": "f", "parameters": schema});
    check_ended(Shape::Responses, stands(), &json!({"tools": [tool]}), (1, 1)).await;
    let tool = json!({"name": "f", "input_schema": schema});
    check_ended(Shape::Messages, stands(), &json!({"tools": [tool]}), (1, 1)).await;
    check_ended(Shape::Chat, stands(), &json!({"n": 2}), (1, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_buyer_who_leaves_between_two_sellers_pays_for_what_the_first_delivered() {
    for front in FRONTS {
        let stands = vec![
            stand(CHAT, "first", Some(Fault::ErrorAfterTokens)),
            stand(MESSAGES, "second", Some(Fault::AcceptThenHang)),
        ];
        let market = Market::open(stands).await;
        let response = market.begin(front, &body(front, &["first", "second"], &json!({}))).await;
        let id = response.headers()["x-bourse-receipt"].to_str().expect("an id").to_owned();
        let mut body = response.into_body();
        let quiet = Duration::from_millis(500);
        while let Ok(Some(_)) = tokio::time::timeout(quiet, body.frame()).await {}
        assert_eq!(market.seller("second").open(), 1, "{front}: the second is asked");
        drop(body);
        market.audit(2).await;
        let receipt = market.receipt(&id).expect("a receipt");
        let delivered = market.seller("first").log()[0].tokens_sent;
        assert_eq!(receipt.finish, Finish::Cancelled, "{front}");
        assert_eq!(receipt.usage_billed.completion.0, delivered, "{front}");
        assert_eq!(market.spent(), receipt.charge.total, "{front}");
        assert_eq!(market.seller("second").log()[0].ending, Ending::ClientGone, "{front}");
    }
}

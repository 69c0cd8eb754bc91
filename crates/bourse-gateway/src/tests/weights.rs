//! Which weights answer: sessions keep theirs, the operator's list holds for who names none, consent goes before both.

use super::fakes::*;
use bourse_market::{Quantization, QuantizationSet};
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";
/// The cheap seller of eight bits first, then the dear one of sixteen.
const ORDER: &str = r#""order":["a","b"]"#;

fn house(admitted: Option<QuantizationSet>) -> House {
    let house = House::build(&["a", "b"], 100_000_000_000, |config| {
        config.providers[0].models[0].quantization = Quantization::Fp8;
        config.providers[1].models[0].quantization = Quantization::Bf16;
        config.quantizations = admitted;
    });
    // Each connection takes one request, so that a script can be replaced.
    house.net.only("a", good_plain());
    house.net.only("b", good_plain());
    house
}

/// The status, and who answered.
async fn ask(house: &House, headers: &[(&str, &str)], rest: &str) -> (u16, Option<String>) {
    let before = house.funds.receipts().len();
    let reply = house.call("POST", CHAT, headers, &chat_body(rest)).await;
    let receipt = house.funds.receipts().into_iter().nth(before);
    (reply.status, receipt.and_then(|receipt| receipt.seller).map(|seller| seller.as_str().to_owned()))
}

fn by(seller: &str) -> (u16, Option<String>) {
    (200, Some(seller.to_owned()))
}

fn in_session(provider: &str) -> String {
    format!(r#","session_id":"one","provider":{{{provider}}}"#)
}

/// A seller that fails every request.
fn failing() -> Vec<Act> {
    vec![Act::Read, json_answer(500, "", "")]
}

#[tokio::test(start_paused = true)]
async fn a_session_keeps_its_weights_until_its_buyer_consents() {
    let house = house(None);
    let unnamed = format!(r#","provider":{{{ORDER}}}"#);
    assert_eq!(ask(&house, &[], &in_session(ORDER)).await, by("a"));
    house.net.only("a", failing());
    assert_eq!(ask(&house, &[], &in_session(ORDER)).await, (502, None), "nobody else has its weights");
    assert_eq!(ask(&house, &[], &unnamed).await, by("b"), "who named no session is answered by whoever can");
    house.net.only("a", good_plain());
    assert_eq!(ask(&house, &[], &unnamed).await, by("a"), "it is back");
    house.net.only("a", failing());
    // Consent moves the session, and it stays where it went.
    let both = format!(r#"{ORDER},"quantizations":["fp8","bf16"]"#);
    assert_eq!(ask(&house, &[], &in_session(&both)).await, by("b"));
    house.net.only("a", good_plain());
    assert_eq!(ask(&house, &[], &unnamed).await, by("a"), "it is back");
    assert_eq!(ask(&house, &[], &in_session(ORDER)).await, by("b"));
    assert_eq!(ask(&house, &[], &in_session(r#""quantizations":["fp8"]"#)).await, by("a"), "named, and had");
}

#[tokio::test(start_paused = true)]
async fn only_what_a_buyer_names_is_a_session() {
    let wish = format!(r#","provider":{{{ORDER}}}"#);
    for (headers, rest, is_session) in [
        (&[][..], wish.clone(), false),
        (&[], format!(r#","prompt_cache_key":"one"{wish}"#), false),
        (&[], format!(r#","session_id":"one"{wish}"#), true),
        (&[("x-session-id", "one")], wish.clone(), true),
    ] {
        let house = house(None);
        house.net.only("a", failing());
        assert_eq!(ask(&house, headers, &rest).await, by("b"), "{rest}");
        house.net.only("a", good_plain());
        let next = if is_session { "b" } else { "a" };
        assert_eq!(ask(&house, headers, &rest).await, by(next), "{headers:?} {rest}");
        assert_eq!(ask(&house, headers, &rest.replace("one", "two")).await.0, 200);
        let other = [("x-session-id", "two")];
        assert_eq!(ask(&house, &other, &wish).await, by("a"), "another session");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_session_and_what_to_name() {
    let house = house(None);
    assert_eq!(ask(&house, &[], &in_session(ORDER)).await, by("a"));
    let refused = house.call("POST", CHAT, &[], &chat_body(&in_session(r#""only":["b"]"#))).await;
    let error = &refused.json()["error"];
    let message = error["message"].as_str().unwrap();
    let why = "this session was answered by `fp8` weights and goes on with them: name others in `provider.quantizations` to consent";
    assert!(refused.status == 404 && message.ends_with(why), "{message}");
    let told = &error["availability"];
    assert_eq!(told["excluded_by"], json!(["allowed_providers", "quantization"]));
    // A refusal for another reason says nothing of it.
    let other = chat_body(&in_session(r#""only":["nobody"],"quantizations":["fp8"]"#));
    let other = house.call("POST", CHAT, &[], &other).await;
    assert!(!other.text.contains("this session"));
}

#[tokio::test(start_paused = true)]
async fn the_operators_list_holds_for_who_names_none() {
    let house = house(Some(QuantizationSet::default().with(Quantization::Bf16).with(Quantization::Fp16)));
    assert_eq!(ask(&house, &[], "").await, by("b"), "though dearer");
    assert_eq!(ask(&house, &[], r#","provider":{"quantizations":["fp8"]}"#).await, by("a"), "by consent");
    assert_eq!(ask(&house, &[], &in_session(r#""quantizations":["fp8"]"#)).await, by("a"));
    assert_eq!(ask(&house, &[], &in_session("")).await, by("a"), "a session goes on as it began");
    let refused = house.call("POST", CHAT, &[], &chat_body(r#","provider":{"only":["a"]}"#)).await;
    let why = "requests that name no weights are answered by fp16, bf16 here: name others in `provider.quantizations` to consent";
    assert!(
        refused.status == 404 && refused.json()["error"]["message"].as_str().unwrap().ends_with(why),
        "{}",
        refused.text
    );
    let change = &refused.json()["error"]["availability"]["smallest_relaxation"]["changes"][0];
    assert_eq!(
        (&change["action"], &change["field"], &change["value"]),
        (&json!("add"), &json!("provider.quantizations"), &json!("fp8"))
    );
}

#[tokio::test(start_paused = true)]
async fn one_answer_is_not_made_of_two_kinds_of_weights() {
    let broken = vec![Act::Read, stream_head(), events(&[&role(), &text("one ")]), stream_end()];
    let check = async |weights: [Quantization; 2], wish: &str, goes_on: bool| {
        let house = House::build(&["a", "b"], 100_000_000_000, |config| {
            for (provider, weights) in config.providers.iter_mut().zip(weights) {
                provider.models[0].quantization = weights;
            }
        });
        house.net.script("a", broken.clone());
        house.net.script("b", good_stream(&["two"]));
        let rest = format!(r#","stream":true,"stream_failure":"continue","provider":{{{ORDER}{wish}}}"#);
        let reply = house.chat(&rest).await;
        let is_whole = reply.payloads().iter().all(|payload| payload.get("error").is_none());
        assert_eq!((is_whole, reply.text.contains("two")), (goes_on, goes_on), "{weights:?}: {}", reply.text);
        house.check_books(100_000_000_000, if goes_on { 2 } else { 1 });
    };
    let (fp8, bf16, unknown) = (Quantization::Fp8, Quantization::Bf16, Quantization::Unknown);
    check([fp8, fp8], "", true).await;
    check([fp8, bf16], "", false).await;
    check([fp8, bf16], r#","quantizations":["fp8","bf16"]"#, true).await;
    check([unknown, bf16], "", true).await;
    check([fp8, unknown], "", false).await;
}

//! Grammars translated without breaking an agent (pain 18). The laws over all pairs stand in `bourse-wire`.

use crate::house::House;
use crate::{MODEL, buy, chat, direct, seller};
use bourse_sim::upstream::{AnswerScript, Ask, Mode, Say, SellerConfig, Shape};
use serde_json::{Value, json};

fn thinking(name: &str) -> SellerConfig {
    let script = AnswerScript { reasoning_words: 8, say: Say::ToolCalls(2), ..AnswerScript::default() };
    seller(name).with_shapes([Shape::Messages]).with_answers(script)
}

async fn open() -> House {
    let alpha = thinking("alpha").with_shapes([Shape::Gemini]);
    House::open_with(vec![alpha, thinking("beta")], "5", |config| {
        let alpha = &mut config.providers[0];
        "gemini".clone_into(&mut alpha.kind);
        alpha.base_url = alpha.base_url.replace("/v1", Shape::Gemini.base_path());
        "anthropic".clone_into(&mut config.providers[1].kind);
    })
    .await
}

/// An agent's first turn: two tools, reasoning on.
fn first_turn(order: &str) -> Ask {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tool =
        |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema.clone()}});
    chat(Mode::Plain).with(&json!({
        "max_tokens": 4_096, "reasoning": {"max_tokens": 1_024},
        "tools": [tool("weather"), tool("clock")], "provider": {"order": [order], "allow_fallbacks": false},
    }))
}

/// The turn after it: everything that was said, unmodified, and the results of the tools.
fn second_turn(order: &str, said: &Value) -> Ask {
    let first = first_turn(order);
    let mut messages = first.body()["messages"].as_array().cloned().unwrap_or_default();
    messages.push(said.clone());
    for call in said["tool_calls"].as_array().into_iter().flatten() {
        messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "21"}));
    }
    first.with(&json!({"messages": messages}))
}

#[tokio::test]
async fn pain_18_tools_and_signed_reasoning_survive_a_switch_of_sellers() {
    let house = open().await;
    let answer = buy(&house, first_turn("alpha")).await;
    let said = answer.json()["choices"][0]["message"].clone();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(said["tool_calls"].as_array().map(Vec::len), Some(2), "{said}");
    let signed = said["reasoning_details"].as_array().into_iter().flatten();
    assert!(
        signed.clone().any(|detail| detail["format"].is_string() && detail["data"].is_string()),
        "{said}"
    );
    let back = buy(&house, second_turn("alpha", &said)).await;
    assert_eq!(back.status, 200, "its own seller takes its signature: {}", back.text());
    let elsewhere = buy(&house, second_turn("beta", &said)).await;
    assert_eq!(elsewhere.status, 200, "another never sees it: {}", elsewhere.text());
    let (alphas, betas) = (house.sellers[0].log().pop().unwrap(), house.sellers[1].log().pop().unwrap());
    assert_eq!((alphas.grammar_error, betas.grammar_error), (None, None));
    let sent: Value = serde_json::from_slice(&alphas.body).unwrap();
    let signature = signature_in(&sent).expect("replayed in full to where it is from");
    let mut elsewhere: Value = serde_json::from_slice(&betas.body).unwrap();
    assert!(!elsewhere.to_string().contains(&signature), "{elsewhere}");
    // The anchor hands a signature on to whoever answers next.
    let foreign = json!({"type": "thinking", "thinking": "as it was said", "signature": signature});
    let said = elsewhere["messages"].as_array_mut().into_iter().flatten();
    for message in said.filter(|message| message["role"] == "assistant") {
        message["content"].as_array_mut().unwrap().insert(0, foreign.clone());
    }
    let anchor = Ask::new(Shape::Messages, Mode::Plain, MODEL).with(&elsewhere);
    let anchor = direct(&house.sellers[1], anchor).await;
    assert!(anchor.status == 400 && anchor.text().contains("signature"), "{}", anchor.text());
    house.close(3).await;
}

/// The signature of the first thought in a request to Google.
fn signature_in(request: &Value) -> Option<String> {
    let parts = request["contents"].as_array()?.iter().filter_map(|content| content["parts"].as_array());
    parts.flatten().find_map(|part| Some(part["thoughtSignature"].as_str()?.to_owned()))
}

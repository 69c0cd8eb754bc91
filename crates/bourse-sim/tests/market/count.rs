//! Counting prompts: by the seller's own endpoint where its grammar has one, else an estimate that says so.

use crate::house::House;
use bourse_sim::upstream::{SellerConfig, Shape};
use bourse_types::NanoUsd;
use serde_json::json;

/// A count of each front where the only seller speaks this grammar: whether it was asked at its endpoint.
async fn check(shape: Shape, kind: &str, path: Option<&str>) {
    let config = SellerConfig::new("honest", "some/model").with_shapes([shape]);
    let house =
        House::open_with(vec![config], "1", |config| kind.clone_into(&mut config.providers[0].kind)).await;
    let chat = json!([{"role": "user", "content": "what is the price of a market"}]);
    let messages = json!({"model": "some/model", "messages": chat, "system": "be short"});
    let responses =
        json!({"model": "some/model", "input": "what is the price of a market", "instructions": "be short"});
    for (front, body, object) in [
        ("/v1/messages/count_tokens", messages, None),
        ("/v1/responses/input_tokens", responses, Some("response.input_tokens")),
    ] {
        let response = house.post(front, body.to_string().as_bytes()).await;
        let label = format!("{front} at {shape}: {} {}", response.status, response.text());
        let answer = response.json();
        assert_eq!((response.status, answer["object"].as_str()), (200, object), "{label}");
        let seen = house.sellers[0].log().pop();
        assert_eq!(seen.as_ref().map(|seen| seen.path.as_str()), path, "{label}");
        let estimate = seen.is_none().then_some("1");
        assert_eq!(response.header("x-bourse-estimate"), estimate, "{label}");
        assert!(answer["input_tokens"].as_u64() > Some(5), "{label}");
        if let Some(seen) = seen {
            assert_eq!((seen.grammar_error, seen.refused), (None, None), "{label}");
            assert_eq!(answer["input_tokens"].as_u64(), Some(seen.truth.prompt), "{label}");
        }
    }
    assert_eq!(house.spent(), NanoUsd::ZERO);
    house.close(0).await;
}

#[tokio::test]
async fn a_seller_counts_at_its_own_endpoint() {
    check(Shape::Messages, "anthropic", Some("/v1/messages/count_tokens")).await;
}

#[tokio::test]
async fn where_nobody_counts_it_is_estimated() {
    check(Shape::Chat, "openai", None).await;
}

//! Endpoints that are no conversation: right answers, right bills, and every fault of every shape.
//!
//! A listing's name begins with the name of its shape; what it is offered for and what its unit costs follows from that.

mod faults;

use crate::house::House;
use bourse_gateway::ProviderModel;
use bourse_market::{Operations, Unit};
use bourse_sim::client::{Response, call};
use bourse_sim::upstream::{Ask, Listing, Mode, SellerConfig, Shape};
use bourse_types::{NanoUsd, PicoUsdPerToken, PicoUsdPerUnit, PriceSchedule, Usage};
use bourse_wire::receipt::Receipt;
use serde_json::{Value, json};

pub(crate) const SHAPES: [Shape; 5] =
    [Shape::Embeddings, Shape::Rerank, Shape::Images, Shape::Speech, Shape::Transcriptions];

/// What a shape is offered for, its unit, and dollars for it. Embeddings and images are sold by tokens, too.
fn sold(shape: Shape) -> (Operations, Option<Unit>, &'static str) {
    match shape {
        Shape::Embeddings => (Operations::EMBEDDINGS, None, "0"),
        Shape::Rerank => (Operations::RERANK, Some(Unit::Search), "0.002"),
        Shape::Images => (Operations::IMAGES, Some(Unit::Image), "0.04"),
        Shape::Speech => (Operations::SPEECH, Some(Unit::Character), "0.000015"),
        _ => (Operations::TRANSCRIPTION, Some(Unit::Second), "0.0001"),
    }
}

/// The terms of a listing by its name.
pub(crate) fn terms(model: &mut ProviderModel) {
    let shape = model.model.as_str().split('/').next().and_then(|name| name.parse().ok());
    let (operations, unit, price) = sold(shape.expect("a listing's name begins with its shape"));
    let unit_price = PicoUsdPerUnit::parse_usd_per_unit(price).expect("a price");
    let has_tokens = matches!(shape, Some(Shape::Embeddings | Shape::Images));
    let tokens = model.prices.filter(|_| has_tokens);
    let nothing = PriceSchedule::per_token(PicoUsdPerToken(0), PicoUsdPerToken(0));
    model.prices = Some(PriceSchedule { unit: unit_price, ..tokens.unwrap_or(nothing) });
    (model.operations, model.unit) = (operations, unit);
}

pub(crate) async fn ask(house: &House, ask: Ask) -> Response {
    call(house.address, &ask.with_key(&house.key).bytes()).await.expect("the gateway answers")
}

/// Receipt, headers and books say the same; the receipt.
pub(crate) fn assert_cost(house: &House, response: &Response, label: &str) -> Receipt {
    let receipt = house.receipt_of(response).unwrap_or_else(|| panic!("{label}: no receipt"));
    let told = response.header("x-bourse-cost");
    assert_eq!(told, Some(receipt.charge.total.to_usd_string().as_str()), "{label}");
    assert_eq!(response.header("x-generation-id"), response.header("x-bourse-receipt"), "{label}");
    if response.header("content-type") == Some("application/json") {
        let cost = response.json()["usage"]["cost"].as_f64().unwrap_or_else(|| panic!("{label}: no cost"));
        assert!((cost - receipt.charge.total.0 as f64 / 1e9).abs() < 5e-10, "{label}: {cost}");
    }
    receipt
}

/// A market where each model is offered by its [`terms`].
async fn open_selling(sellers: Vec<SellerConfig>, credit_usd: &str) -> House {
    House::open_with(sellers, credit_usd, |config| {
        config.providers.iter_mut().flat_map(|provider| &mut provider.models).for_each(terms);
    })
    .await
}

async fn open(shape: Shape) -> House {
    let model = format!("{shape}/model");
    open_selling(vec![SellerConfig::new("honest", model).with_shapes([shape])], "10").await
}

/// One honest call: the answer, what is billed and what it costs in nano-dollars. `(prompt, completion, units)` where
/// the prompt is what the seller truly counted.
async fn check(shape: Shape, members: Value, (completion, units, nano): (u64, u64, u64)) -> Response {
    let house = open(shape).await;
    let mut call = Ask::new(shape, Mode::Plain, &format!("{shape}/model"));
    if shape != Shape::Transcriptions {
        call = call.with(&members);
    }
    let response = ask(&house, call).await;
    let label = format!("{shape} {members}: {} {:.500}", response.status, response.text());
    assert_eq!(response.status, 200, "{label}");
    let receipt = assert_cost(&house, &response, &label);
    let seen = house.sellers[0].log().pop().expect("the seller was asked");
    assert_eq!(seen.grammar_error, None, "{label}");
    let has_tokens = matches!(shape, Shape::Embeddings | Shape::Images) || shape == Shape::Rerank;
    let prompt = if has_tokens { seen.truth.prompt } else { 0 };
    let want = Usage { units, ..Usage::of_tokens(prompt, 0, completion) };
    assert_eq!(receipt.usage_billed, want, "{label}");
    let tokens = if shape == Shape::Rerank { 0 } else { prompt * 100 + completion * 400 };
    assert_eq!(receipt.charge.total, NanoUsd(tokens + nano), "{label}");
    assert_eq!(house.spent(), receipt.charge.total, "{label}");
    house.close(1).await;
    response
}

#[tokio::test]
async fn vectors_come_as_they_were_asked_for() {
    let floats = check(Shape::Embeddings, json!({"encoding_format": "float"}), (0, 0, 0)).await.json();
    assert_eq!(floats["data"][1]["embedding"].as_array().map(Vec::len), Some(16));
    let packed = check(Shape::Embeddings, json!({"encoding_format": "base64"}), (0, 0, 0)).await.json();
    // 16 floats of 4 bytes.
    assert_eq!(packed["data"][0]["embedding"].as_str().map(str::len), Some(88));
    assert_eq!(packed["usage"]["prompt_tokens"], packed["usage"]["total_tokens"]);
}

#[tokio::test]
async fn ranks_are_billed_by_the_search_and_carry_their_documents() {
    let search = 2_000_000;
    for wish in [true, false] {
        let answer = check(Shape::Rerank, json!({"return_documents": wish}), (0, 1, search)).await.json();
        for result in answer["results"].as_array().unwrap() {
            assert!(
                result["document"]["text"].is_string() && result["relevance_score"].is_number(),
                "{answer}"
            );
        }
        assert_eq!(answer["usage"]["search_units"], 1);
    }
    let documents = |n: usize| json!({"documents": vec!["a document"; n], "top_n": 3});
    check(Shape::Rerank, documents(100), (0, 1, search)).await;
    let answer = check(Shape::Rerank, documents(101), (0, 2, 2 * search)).await.json();
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn images_are_billed_by_their_number_and_tokens() {
    let image = 40_000_000;
    let answer = check(Shape::Images, json!({"n": 3}), (3 * 272, 3, 3 * image)).await.json();
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(3));
    assert!(answer["data"][0]["b64_json"].is_string());
    let usage = &answer["usage"];
    assert_eq!(usage["input_tokens_details"]["text_tokens"], usage["prompt_tokens"], "{usage}");
    assert_eq!((&usage["output_tokens"], &usage["completion_tokens"]), (&json!(816), &json!(816)));
    check(Shape::Images, json!({"response_format": "url"}), (272, 1, image)).await;
}

#[tokio::test]
async fn speech_is_billed_by_the_character_and_passes_as_it_came() {
    let character = 15_000;
    let sound = check(Shape::Speech, json!({"input": "héllo"}), (0, 5, 5 * character)).await;
    assert_eq!((sound.header("content-type"), &sound.body[..2]), (Some("audio/mpeg"), &[0xFF, 0xFB][..]));
    let wav = check(Shape::Speech, json!({"response_format": "wav"}), (0, 47, 47 * character)).await;
    assert_eq!((wav.header("content-type"), wav.body.len()), (Some("audio/wav"), 44 + 47 * 160));
}

#[tokio::test]
async fn transcripts_are_billed_by_the_second() {
    // 64,004 bytes at 32,000 a second.
    let answer = check(Shape::Transcriptions, Value::Null, (0, 3, 300_000)).await.json();
    assert!(answer["text"].is_string());
    assert_eq!((&answer["usage"]["type"], &answer["usage"]["seconds"]), (&json!("duration"), &json!(3)));
}

#[tokio::test]
async fn a_sound_within_json_and_a_transcript_as_text() {
    let house = open(Shape::Transcriptions).await;
    let body = |format: &str| {
        json!({"model": "transcriptions/model", "response_format": format, "provider": {"only": ["honest"]},
               "input_audio": {"data": "UklGRgAAAAAAAAAAAAAAAAAA", "format": "wav"}})
    };
    let post =
        async |body: Value| house.post("/api/v1/audio/transcriptions", body.to_string().as_bytes()).await;
    let verbose = post(body("verbose_json")).await;
    assert_eq!((verbose.status, &verbose.json()["duration"]), (200, &json!(1.0)), "{}", verbose.text());
    assert_eq!(assert_cost(&house, &verbose, "verbose").usage_billed.units, 1);
    let text = post(body("text")).await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"), "{}", text.text());
    assert_eq!(text.text(), format!("{}\n", verbose.json()["text"].as_str().unwrap()));
    let receipt = assert_cost(&house, &text, "text");
    assert_eq!(
        receipt.charge.total,
        NanoUsd(100_000),
        "the seller tells no seconds: the least that there are"
    );
    let seen = house.sellers[0].log().pop().unwrap();
    let sent = String::from_utf8_lossy(&seen.body).into_owned();
    assert!(sent.contains("filename=\"sound.wav\"") && !sent.contains("honest"), "{sent}");
    let bad =
        post(json!({"model": "transcriptions/model", "input_audio": {"data": "?", "format": "wav"}})).await;
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("input_audio.data")));
    house.close(2).await;
}

#[tokio::test]
async fn both_paths_of_images_and_both_roots_are_one() {
    let house = open(Shape::Images).await;
    let body = json!({"model": "images/model", "prompt": "a cat"}).to_string();
    for path in ["/v1/images", "/v1/images/generations", "/api/v1/images"] {
        assert_eq!(house.post(path, body.as_bytes()).await.status, 200, "{path}");
    }
    house.close(3).await;
}

#[tokio::test]
async fn what_a_model_is_not_offered_for_is_said() {
    let house = open(Shape::Embeddings).await;
    for (path, body) in [
        ("/v1/rerank", json!({"query": "q", "documents": ["d"]})),
        ("/v1/images", json!({"prompt": "p"})),
        ("/v1/audio/speech", json!({"input": "i", "voice": "v"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "c"}]})),
    ] {
        let mut body = body;
        body["model"] = json!("embeddings/model");
        let response = house.post(path, body.to_string().as_bytes()).await;
        assert_eq!((response.status, &response.json()["error"]["param"]), (400, &json!("model")), "{path}");
    }
    let form = Ask::new(Shape::Transcriptions, Mode::Plain, "embeddings/model");
    assert_eq!(ask(&house, form).await.status, 400);
    house.close(0).await;
}

#[tokio::test]
async fn the_whole_bound_is_held_before_a_seller_is_asked() {
    // Four images at 0.04 dollars, 8,192 tokens each at 0.0000004, and a prompt of at most 37 at 0.0000001.
    let body = json!({"model": "images/model", "prompt": "cat", "n": 4}).to_string();
    let bound = 4 * 40_000_000 + 4 * 8_192 * 400 + 37 * 100;
    for (credit, status) in [(bound, 200), (bound - 1, 402)] {
        let config = SellerConfig {
            listings: vec![Listing { context_length_tokens: 131_072, ..Listing::new("images/model") }],
            ..SellerConfig::new("honest", "").with_shapes([Shape::Images])
        };
        let credit = NanoUsd(credit).to_usd_string();
        let house = open_selling(vec![config], &credit).await;
        let response = house.post("/v1/images", body.as_bytes()).await;
        assert_eq!(response.status, status, "{credit}: {}", response.text());
        assert_eq!(house.sellers[0].log().len(), usize::from(status == 200));
        house.close(u64::from(status == 200)).await;
    }
}

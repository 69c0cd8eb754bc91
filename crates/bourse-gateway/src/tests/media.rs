//! Streams of pictures, transcripts and speech: metered, settled, one terminal.

mod hostile;

use super::fakes::{Act, House, KEY, Reply, events, json_answer, prices, stream_end, stream_head};
use crate::{GatewayConfig, ProviderModel};
use bourse_market::{Operations, Unit};
use bourse_types::{ModelSlug, PicoUsdPerUnit, PriceSchedule};
use bourse_wire::receipt::Finish;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;

const BEFORE: u64 = 10_000_000_000;
/// Nano-dollars for a picture, a second or a character.
const UNIT: u64 = 1_000;
const PARTIAL: &str =
    r#"{"type":"image_generation.partial_image","b64_json":"cGFydA==","partial_image_index":0}"#;
const COMPLETED: &str = r#"{"type":"image_generation.completed","b64_json":"d2hvbGU=","usage":{"input_tokens":3,"output_tokens":70,"total_tokens":73}}"#;
const DRAW: &str = r#"{"model":"other/draw","prompt":"a ship","stream":true}"#;
const SPEAK: &str = r#"{"model":"other/speak","input":"Ahoy!","voice":"x","stream_format":"sse"}"#;
const HEAR: &str =
    r#"{"model":"other/hear","input_audio":{"data":"AAAAAAAAAAAAAAAA","format":"wav"},"stream":true}"#;

/// Two sellers of all three, by the unit.
fn market() -> House {
    market_with(BEFORE)
}

fn market_with(available: u64) -> House {
    House::build(&["a", "b"], available, offers)
}

fn offers(config: &mut GatewayConfig) {
    for (n, seller) in config.providers.iter_mut().enumerate() {
        let unit_price = PicoUsdPerUnit(UNIT * 1_000 * (1 + n as u64));
        let mut sells = |slug: &str, operations, unit| {
            seller.models.push(ProviderModel {
                operations,
                unit: Some(unit),
                ..ProviderModel::new(
                    ModelSlug::parse(slug).unwrap(),
                    "up",
                    PriceSchedule { unit: unit_price, ..prices(0) },
                )
            });
        };
        sells("other/draw", Operations::IMAGES, Unit::Image);
        sells("other/speak", Operations::SPEECH, Unit::Character);
        sells("other/hear", Operations::TRANSCRIPTION, Unit::Second);
    }
}

async fn ask(house: &House, path: &str, body: &str) -> Reply {
    let reply = house.call("POST", path, &[], body).await;
    assert_eq!(reply.headers["content-type"], "text/event-stream", "{}", reply.text);
    reply
}

fn stream(data: &[&str]) -> Vec<Act> {
    vec![Act::Read, stream_head(), events(data), stream_end()]
}

fn kinds(reply: &Reply) -> Vec<String> {
    reply.payloads().iter().map(|p| p["type"].as_str().unwrap_or_default().to_owned()).collect()
}

fn last(reply: &Reply) -> Value {
    reply.payloads().pop().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_streamed_and_its_last_event_has_the_price() {
    let house = market();
    let ping = "event: ping\ndata:\n\n: hi\n\n";
    let ping = || Act::Write(format!("{:x}\r\n{ping}\r\n", ping.len()));
    let some = events(&[PARTIAL, r#"{"type":"image_generation.new"}"#]);
    let acts = vec![Act::Read, stream_head(), ping(), some, ping(), events(&[COMPLETED]), stream_end()];
    house.net.script("a", acts);
    let reply = ask(&house, "/v1/images/generations", DRAW).await;
    let want = ["image_generation.partial_image", "image_generation.new", "image_generation.completed"];
    assert_eq!(kinds(&reply), want);
    assert!(reply.text.contains(PARTIAL), "a piece passes as it came");
    let last = last(&reply);
    assert_eq!((&last["b64_json"], &last["usage"]["output_tokens"]), (&"d2hvbGU=".into(), &70.into()));
    assert_eq!(last["usage"]["cost"], 0.000_001);
    assert!(
        last["created"].is_u64() && last["created"] == last["created_at"],
        "both clients read it: {last}"
    );
    let receipt = &house.funds.receipts()[0];
    assert_eq!((receipt.charge.total.0, receipt.finish), (UNIT, Finish::Stop));
    house.check_books(BEFORE, 1);
    assert!(house.net.requests.lock()[0].contains(r#""stream":true"#), "the seller is asked for a stream");
}

fn two() -> String {
    DRAW.replace("\"stream\"", "\"n\":2,\"stream\"")
}

#[tokio::test(start_paused = true)]
async fn every_picture_of_a_stream_is_passed_on_at_once_and_charged() {
    let house = market();
    house.net.script("a", stream(&[COMPLETED, PARTIAL, COMPLETED]));
    let reply = ask(&house, "/v1/images/generations", &two()).await;
    let [whole, part] = ["image_generation.completed", "image_generation.partial_image"];
    assert_eq!(kinds(&reply), [whole, part, whole], "in the seller's order");
    let costs: Vec<_> = reply.payloads().iter().map(|event| event["usage"]["cost"].as_f64()).collect();
    assert_eq!(costs, [Some(0.0), None, Some(0.000_002)], "they add up to the bill");
    assert_eq!(last(&reply)["usage"]["output_tokens"], 140);
    assert_eq!(house.funds.receipts()[0].charge.total.0, 2 * UNIT);
    house.check_books(BEFORE, 1);
    // One of two is a stream that broke.
    let house = market();
    house.net.script("a", stream(&[COMPLETED]));
    let reply = ask(&house, "/v1/images/generations", &two()).await;
    assert_eq!(kinds(&reply), [whole, "error"]);
    assert_eq!(house.funds.receipts()[0].charge.total.0, 0);
}

#[tokio::test(start_paused = true)]
async fn fewer_pictures_are_an_answer_where_the_seller_says_that_there_are_no_more() {
    let [whole, part, bill] =
        ["image_generation.completed", "image_generation.partial_image", "image_generation.usage"];
    let fewer = json_answer(200, "", r#"{"data":[{"b64_json":"eA=="}]}"#);
    for (fewer, want) in [
        (vec![Act::Read, fewer], vec![whole]),
        (stream(&[COMPLETED, "[DONE]"]), vec![whole, bill]),
        (stream(&[COMPLETED, PARTIAL, "[DONE]"]), vec![whole, part, bill]),
    ] {
        let house = market();
        house.net.script("a", fewer);
        let reply = ask(&house, "/v1/images/generations", &two()).await;
        assert_eq!(kinds(&reply), want);
        assert_eq!(last(&reply)["usage"]["cost"], 0.000_001);
        assert_eq!(house.funds.receipts()[0].charge.total.0, UNIT, "a preview is no picture: {want:?}");
        house.check_books(BEFORE, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_order_an_answer_in_one_piece_has_it_becomes_a_stream() {
    let body = r#"{"created_at":1,"background":"auto","output_format":"png","quality":"low","size":"1x1","created":7,"data":[{"b64_json":"eA=="}]}"#;
    let house = market();
    house.net.script("a", vec![Act::Read, json_answer(200, "", body)]);
    let reply = ask(&house, "/v1/images", DRAW).await;
    assert_eq!(kinds(&reply), ["image_generation.completed"]);
    assert_eq!(last(&reply)["created"], 7);
    house.check_books(BEFORE, 1);
}

#[tokio::test(start_paused = true)]
async fn a_transcript_is_streamed() {
    let house = market();
    let deltas = [
        r#"{"type":"transcript.text.delta","delta":"Ahoy, "}"#,
        r#"{"type":"transcript.text.delta","delta":"sailor"}"#,
    ];
    let done =
        r#"{"type":"transcript.text.done","text":"Ahoy, sailor","usage":{"type":"duration","seconds":1}}"#;
    house.net.script("a", stream(&[deltas[0], deltas[1], done]));
    let reply = ask(&house, "/v1/audio/transcriptions", HEAR).await;
    assert_eq!(kinds(&reply), ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"]);
    let last = last(&reply);
    assert_eq!(last["usage"]["type"], "tokens", "the stock client knows no other in a stream");
    assert_eq!((&last["text"], &last["usage"]["seconds"]), (&"Ahoy, sailor".into(), &1.into()));
    assert_eq!(last["usage"]["cost"], 0.000_001);
    house.check_books(BEFORE, 1);
    assert!(house.net.requests.lock()[0].contains("name=\"stream\"\r\n\r\ntrue"), "the form says it, too");
}

#[tokio::test(start_paused = true)]
async fn speech_is_streamed_and_sold_by_the_character() {
    let house = market();
    let done =
        r#"{"type":"speech.audio.done","usage":{"input_tokens":2,"output_tokens":9,"total_tokens":11}}"#;
    house.net.script("a", stream(&[r#"{"type":"speech.audio.delta","audio":"AAAA"}"#, done]));
    let reply = ask(&house, "/v1/audio/speech", SPEAK).await;
    assert_eq!(kinds(&reply), ["speech.audio.delta", "speech.audio.done"]);
    assert_eq!(last(&reply)["usage"]["characters"], 5);
    assert_eq!(house.funds.receipts()[0].charge.total.0, 5 * UNIT);
    house.check_books(BEFORE, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_one_piece_becomes_a_stream() {
    let check = async |path: &str, body: &str, act: Act, want: &[&str], units: u64| {
        let house = market();
        house.net.script("a", vec![Act::Read, act]);
        let reply = ask(&house, path, body).await;
        assert_eq!(kinds(&reply), want);
        assert_eq!(house.funds.receipts()[0].charge.total.0, units * UNIT);
        house.check_books(BEFORE, 1);
        last(&reply)
    };
    let picture = json_answer(200, "", r#"{"created":7,"data":[{"b64_json":"eA=="}],"size":"1x1"}"#);
    let last = check("/v1/images", DRAW, picture, &["image_generation.completed"], 1).await;
    assert_eq!((&last["b64_json"], &last["created_at"]), (&"eA==".into(), &7.into()));
    assert_eq!((&last["size"], &last["background"]), (&"1x1".into(), &"auto".into()));
    let words = json_answer(200, "", r#"{"text":"Ahoy","duration":0.4}"#);
    let want = ["transcript.text.delta", "transcript.text.done"];
    assert_eq!(check("/v1/audio/transcriptions", HEAR, words, &want, 1).await["text"], "Ahoy");
    let sound =
        Act::Write("HTTP/1.1 200 X\r\ncontent-type: audio/mpeg\r\ncontent-length: 3\r\n\r\nabc".into());
    check("/v1/audio/speech", SPEAK, sound, &["speech.audio.delta", "speech.audio.done"], 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_costs_nothing() {
    let error = r#"{"type":"error","error":{"type":"server_error","message":"no ink"}}"#;
    for broken in
        [stream(&[PARTIAL]), stream(&[PARTIAL, "[DONE]"]), stream(&[PARTIAL, error]), stream(&[PARTIAL, "{"])]
    {
        let house = market();
        house.net.script("a", broken);
        let reply = ask(&house, "/v1/images/generations", DRAW).await;
        assert_eq!(kinds(&reply), ["image_generation.partial_image", "error"]);
        let error = &last(&reply)["error"];
        assert!(error["message"].as_str().unwrap().contains("nothing was charged"), "{error}");
        assert!(error["code"].is_string(), "OpenRouter's client takes no number");
        assert!(reply.text.contains("event: error\n"));
        assert_eq!(house.funds.receipts()[0].finish, Finish::SellerError);
        house.check_books(BEFORE, 1);
        assert_eq!(house.funds.available(), BEFORE);
    }
}

#[tokio::test(start_paused = true)]
async fn before_its_first_piece_another_seller_is_asked() {
    let empty = r#"{"type":"image_generation.completed","b64_json":""}"#;
    let refused = json_answer(200, "", r#"{"error":{"message":"no"}}"#);
    for broken in
        [stream(&[]), stream(&[empty]), vec![Act::Read, refused], vec![Act::Read, json_answer(200, "", "{}")]]
    {
        let house = market();
        house.net.script("a", broken);
        house.net.script("b", stream(&[COMPLETED]));
        let reply = ask(&house, "/v1/images/generations", DRAW).await;
        assert_eq!(kinds(&reply), ["image_generation.completed"]);
        assert_eq!(house.funds.receipts()[0].charge.total.0, 2 * UNIT);
        house.check_books(BEFORE, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn money_for_the_whole_is_held_before() {
    let house = market_with(UNIT - 1);
    house.net.script("a", stream(&[COMPLETED]));
    let reply = house.call("POST", "/v1/images/generations", &[], DRAW).await;
    assert_eq!(reply.status, 402, "{}", reply.text);
    assert_eq!(house.net.requests.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_buyer_that_leaves_pays_for_the_pictures_that_it_saw() {
    for (body, seen, pictures) in [(DRAW.to_owned(), PARTIAL, 1), (two(), COMPLETED, 1)] {
        let house = market();
        house.net.script("a", vec![Act::Read, stream_head(), events(&[seen]), Act::Hang]);
        let request = Request::builder()
            .method("POST")
            .uri("/v1/images")
            .header("authorization", format!("Bearer {KEY}"))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let mut body = house.gateway.handle(request).await.into_body();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let kind = seen.split('"').nth(3).unwrap();
        assert!(String::from_utf8_lossy(&piece).contains(kind), "{kind} is there");
        drop(body);
        let receipt = &house.funds.receipts()[0];
        assert_eq!((receipt.finish, receipt.charge.total.0), (Finish::Cancelled, pictures * UNIT));
        house.check_books(BEFORE, 1);
    }
}

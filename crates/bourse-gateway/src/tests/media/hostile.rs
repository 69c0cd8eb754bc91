//! Sellers whose events lie, hide things, or break off in odd places: the buyer reads whole events with one end, and pays what
//! they add up to.

use super::*;
use crate::config::Timeouts;
use crate::tests::fakes::{role, text};
use bourse_wire::sse::{MEDIA_EVENT_BYTES_MAX, SseScanner};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

fn script(body: &str) -> Vec<Act> {
    vec![Act::Read, stream_head(), Act::Write(format!("{:x}\r\n{body}\r\n", body.len())), stream_end()]
}

/// Every payload, as a client reads them; exactly one end.
fn read(text: &str) -> Vec<Value> {
    let mut scanner = SseScanner::with_limit(MEDIA_EVENT_BYTES_MAX);
    scanner.push(Bytes::copy_from_slice(text.as_bytes()));
    let (mut events, mut ends) = (Vec::new(), 0);
    while let Some(event) = scanner.next_event().unwrap() {
        let Some(data) = event.data() else { continue };
        assert_eq!(ends, 0, "something follows the end: {text}");
        if event.is_done() {
            ends += 1;
        } else {
            events.push(serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {text}")));
        }
    }
    assert_eq!((ends, scanner.pending_bytes()), (1, 0), "{text}");
    events
}

/// The events, of which the costs add up to the charge.
async fn sold(path: &str, body: &str, acts: Vec<Act>) -> (Vec<Value>, House) {
    let house = market();
    house.net.script("a", acts);
    let reply = house.call("POST", path, &[], body).await;
    let events = read(&reply.text);
    let costs = events.iter().filter_map(|event| event["usage"]["cost"].as_f64());
    let told: u64 = costs.map(|cost| (cost * 1e9).round() as u64).sum();
    assert_eq!(told, house.funds.receipts()[0].charge.total.0, "{}", reply.text);
    house.check_books(BEFORE, 1);
    (events, house)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_in_the_middle_of_an_event_has_its_end() {
    for tail in ["", "\n", "\r", "\r\n", "\nid: 1"] {
        let (events, _) =
            sold("/v1/images", DRAW, script(&format!("data: {PARTIAL}\n\ndata: {PARTIAL}{tail}"))).await;
        assert_eq!((events.len(), &events[2]["type"]), (3, &"error".into()), "{tail:?}");
    }
    let house = House::new(&["a"]);
    house.net.script("a", script(&format!("data: {}\n\ndata: {}\n\ndata: {}", role(), text("x"), text("y"))));
    read(&house.chat(r#","stream":true"#).await.text);
    // An end that is named an error is none.
    let named = format!("data: {COMPLETED}\n\nevent: error\ndata: [DONE]\n\n");
    let (events, house) = sold("/v1/images", &two(), script(&named)).await;
    assert_eq!((&events[1]["type"], house.funds.receipts()[0].charge.total.0), (&"error".into(), 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_seller_says_of_its_own_bill_stays_with_us() {
    let partial =
        PARTIAL.replace("{\"type\"", r#"{"usage":{"cost":9,"input_tokens":3,"output_tokens":70},"type""#);
    let market_like =
        r#"{"type":"image_generation.usage","usage":{"input_tokens":3,"output_tokens":70,"cost":9}}"#;
    let nested = r#"{"type":"image_generation.completed","b64_json":"eA==","cost":9,"cost_details":{"x":9},"usage":{"input_tokens":3,"output_tokens":70,"input_tokens_details":{"image_tokens":0,"text_tokens":3,"cost":9},"price_details":{"usd":9}}}"#;
    let speech = r#"{"type":"speech.audio.delta","audio":"AA","usage":{"cost":9}}"#;
    let segment = r#"{"type":"transcript.text.segment","text":"a","usage":{"cost":9}}"#;
    let said = r#"{"type":"transcript.text.done","text":"a"}"#;
    for (path, body, events) in [
        ("/v1/images", DRAW.to_owned(), vec![partial.as_str(), COMPLETED]),
        ("/v1/images", two(), vec![COMPLETED, market_like, "[DONE]"]),
        ("/v1/images", two(), vec![nested, nested]),
        ("/v1/images", DRAW.to_owned(), vec![r#"{"type":"x","usage":{"cost":9}}"#, COMPLETED]),
        ("/v1/images", DRAW.to_owned(), vec![r#"{"usage":{"cost":9}}"#, COMPLETED]),
        ("/v1/audio/speech", SPEAK.to_owned(), vec![speech, r#"{"type":"speech.audio.done"}"#]),
        ("/v1/audio/transcriptions", HEAR.to_owned(), vec![segment, said]),
    ] {
        let (read, _) = sold(path, &body, stream(&events)).await;
        let text = Value::from(read).to_string();
        assert!(!text.contains(":9,") && !text.contains(":9}"), "{text}");
        assert!(text.matches("image_generation.usage").count() <= 1, "{text}");
    }
    // The usage of a preview is no picture's.
    let (events, _) = sold("/v1/images", DRAW, stream(&[&partial, &partial, COMPLETED])).await;
    assert_eq!(events[2]["usage"]["output_tokens"], 70);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_picture_is_not_sold() {
    for lie in [
        r#""delta":"x""#,
        r#""text":"I cannot draw that""#,
        r#""b64_json":null,"audio":"x""#,
        r#""b64_json":"eA==","b64_json":"""#,
        r#""b64_json":"eA==","b64_jso\u006e":"""#,
        r#""b64_json":"eA==","typ\u0065":"x""#,
        r#""b64_json":"eA==","err\u006fr":{"message":"no"}"#,
        r#""b64_json":"eA==","us\u0061ge":{"cost":9}"#,
    ] {
        let house = market();
        house.net.script("a", stream(&[&format!(r#"{{"type":"image_generation.completed",{lie}}}"#)]));
        house.net.script("b", stream(&[COMPLETED]));
        let reply = house.call("POST", "/v1/images", &[], DRAW).await;
        assert_eq!(read(&reply.text)[0]["b64_json"], "d2hvbGU=", "{lie}");
        assert_eq!(house.funds.receipts()[0].charge.total.0, 2 * UNIT, "{lie}");
    }
    let escaped = r#"{"data":[{"b64_json":"eA=="}],"us\u0061ge":{"cost":9}}"#;
    for body in [DRAW.to_owned(), DRAW.replace(",\"stream\":true", "")] {
        let house = market();
        house.net.script("a", vec![Act::Read, json_answer(200, "", escaped)]);
        let reply = house.call("POST", "/v1/images", &[], &body).await;
        assert_eq!(reply.status, 502, "{}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_sound_and_no_transcript_is_not_sold() {
    for (path, body, events) in [
        ("/v1/audio/transcriptions", HEAR, vec![r#"{"type":"transcript.text.done","delta":"x"}"#]),
        (
            "/v1/audio/speech",
            SPEAK,
            vec![r#"{"type":"speech.audio.delta","text":"x"}"#, r#"{"type":"speech.audio.done"}"#],
        ),
    ] {
        let house = market();
        house.net.script("a", stream(&events));
        let reply = house.call("POST", path, &[], body).await;
        assert!(reply.text.contains("\"error\""), "{path}: {}", reply.text);
        assert_eq!(house.funds.receipts()[0].charge.total.0, 0, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_hash_of_an_answer_covers_the_picture_that_came_with_its_end() {
    let (_, house) = sold("/v1/images", DRAW, stream(&[COMPLETED])).await;
    let hash: [u8; 32] = Sha256::digest(b"\"d2hvbGU=\"").into();
    assert_eq!(house.funds.receipts()[0].response_hash.0, hash);
    let house = market();
    house.net.script("a", stream(&[PARTIAL, COMPLETED]));
    let reply = house.call("POST", "/v1/images", &[], DRAW).await;
    let before = reply.text.split("event: image_generation.completed").next().unwrap();
    let hash: [u8; 32] = Sha256::digest(format!("{before}\"d2hvbGU=\"")).into();
    assert_eq!(house.funds.receipts()[0].response_hash.0, hash);
}

#[tokio::test(start_paused = true)]
async fn more_pictures_than_were_asked_for_are_left_out_and_usage_stays() {
    let picture = r#"{"b64_json":"eA=="}"#;
    let usage = r#""usage":{"input_tokens":3,"output_tokens":70,"total_tokens":73}"#;
    let body = format!(r#"{{"data":[{picture},{picture},{picture}],{usage}}}"#);
    let (events, _) = sold("/v1/images", &two(), vec![Act::Read, json_answer(200, "", &body)]).await;
    assert_eq!((events.len(), &events[1]["usage"]["output_tokens"]), (2, &70.into()));
}

#[tokio::test(start_paused = true)]
async fn the_second_picture_may_take_as_long_as_the_first() {
    let slow = Act::Wait(Duration::from_secs(150));
    for acts in [
        vec![Act::Read, stream_head(), slow.clone(), events(&[COMPLETED, COMPLETED]), stream_end()],
        vec![Act::Read, stream_head(), events(&[COMPLETED]), slow, events(&[COMPLETED]), stream_end()],
    ] {
        let house = House::build(&["a"], BEFORE, |config| {
            offers(config);
            config.timeouts = Timeouts::default();
        });
        house.net.script("a", acts);
        let reply = house.call("POST", "/v1/images", &[], &two()).await;
        assert_eq!(kinds(&reply), ["image_generation.completed"; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_picture_says_what_stock_clients_insist_on() {
    let bare = r#"{"type":"image_generation.completed","b64_json":"/9j/AA==","size":null,"bourse":7,"usage":{"input_tokens":3,"output_tokens":70,"input_tokens_details":{"cached_tokens":0}}}"#;
    let (events, _) = sold("/v1/images", DRAW, stream(&[bare])).await;
    let last = &events[0];
    for (name, value) in
        [("background", "auto"), ("output_format", "jpeg"), ("quality", "auto"), ("size", "auto")]
    {
        assert_eq!(last[name], value, "{last}");
    }
    let details = &last["usage"]["input_tokens_details"];
    assert!(details["image_tokens"].is_u64() && details["text_tokens"].is_u64(), "{last}");
    assert!(last["bourse"].is_null() && last["created_at"].is_u64(), "{last}");
}

//! Images, speech and transcripts in OpenAI's events: what an honest seller streams is what it answers in one
//! piece, and each fault keeps to its class.

use bourse_sim::client::{Response, call};
use bourse_sim::upstream::{
    Ask, Expectation, Fault, FaultScript, FaultTiming, Mode, Seller, SellerConfig, Shape, SpeedLaw, UsageRule,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

const MODEL: &str = "sim/words";
const WHISPER: &str = "sim/whisper-1";
const SHAPES: [Shape; 3] = [Shape::Images, Shape::Speech, Shape::Transcriptions];
/// Short enough to notice a hang; a hundred times this is long enough for any answer.
const PATIENCE: Duration = Duration::from_millis(300);

async fn start(config: SellerConfig) -> Seller {
    Seller::start(config).await.expect("the loopback interface has a free port")
}

async fn seller(faults: FaultScript) -> Seller {
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: Duration::from_hours(1) };
    let config = SellerConfig { timing, ..SellerConfig::new("alpha", MODEL).with_shapes(SHAPES) };
    start(config.with_faults(faults)).await
}

fn plainly(shape: Shape) -> Ask {
    Ask::new(shape, Mode::Plain, MODEL)
}

/// The same in events, images with previews.
fn streamed(shape: Shape) -> Ask {
    match shape {
        Shape::Images => plainly(shape).with(&json!({"stream": true, "partial_images": 3})),
        Shape::Speech => plainly(shape).with(&json!({"stream_format": "sse"})),
        _ => plainly(shape).with_part("stream", "true"),
    }
}

async fn send(seller: &Seller, ask: &Ask) -> Response {
    call(seller.address(), &ask.bytes()).await.expect("the seller answers")
}

/// Events in order; whatever is no JSON is null.
fn events(response: &Response) -> Vec<Value> {
    response.events().iter().map(|data| serde_json::from_str(data).unwrap_or_default()).collect()
}

/// The events of an honest stream, of which each says its type twice.
async fn honest(ask: Ask) -> (Seller, Vec<Value>) {
    let seller = seller(FaultScript::Never).await;
    let response = send(&seller, &ask).await;
    let text = response.text();
    assert_eq!((response.status, response.whole), (200, true), "{text}");
    assert_eq!(response.header("content-type"), Some("text/event-stream"), "{text}");
    let events = events(&response);
    for event in &events {
        let kind = event["type"].as_str().unwrap_or_else(|| panic!("no type: {event}"));
        assert!(text.contains(&format!("event: {kind}\ndata: ")), "{kind}");
    }
    let seen = seller.log().pop().expect("the call is in the log");
    assert_eq!((seen.stream, seen.grammar_error), (true, None));
    (seller, events)
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn images_come_with_their_previews() {
    let wish = |n: u64, previews: u64| {
        plainly(Shape::Images).with(&json!({"stream": true, "partial_images": previews, "n": n}))
    };
    let (seller, events) = honest(wish(2, 2)).await;
    let [preview, whole] = ["image_generation.partial_image", "image_generation.completed"];
    assert_eq!(kinds(&events), [preview, preview, whole, whole]);
    assert_eq!(events[1]["partial_image_index"], 1);
    let plain = send(&seller, &plainly(Shape::Images).with(&json!({"n": 2}))).await.json();
    for event in &events {
        assert_eq!(event["b64_json"], plain["data"][0]["b64_json"]);
        for member in ["background", "created_at", "output_format", "quality", "size"] {
            assert!(!event[member].is_null(), "{member}: {event}");
        }
    }
    assert!(plain["usage"].is_object() && events[3]["usage"] == plain["usage"], "{plain}");
    let unasked = plainly(Shape::Images).with(&json!({"stream": true}));
    assert_eq!(kinds(&honest(unasked).await.1), [whole], "no previews unless told");
}

#[tokio::test]
async fn speech_is_the_same_sound_in_pieces() {
    let (seller, events) = honest(streamed(Shape::Speech)).await;
    let (done, pieces) = events.split_last().expect("there are events");
    assert!(pieces.len() > 2 && kinds(pieces).iter().all(|kind| *kind == "speech.audio.delta"));
    let sound = send(&seller, &plainly(Shape::Speech)).await.body;
    // Pieces are padded on their own: three characters for each two and a rest carry the bytes.
    let length = |piece: &Value| {
        let text = piece["audio"].as_str().unwrap_or_default();
        text.len() / 4 * 3 - text.matches('=').count()
    };
    assert_eq!(pieces.iter().map(length).sum::<usize>(), sound.len());
    assert_eq!(done["type"], "speech.audio.done");
    let count = |member: &str| done["usage"][member].as_u64().unwrap_or_default();
    assert!(count("output_tokens") > 0, "{done}");
    assert_eq!(count("input_tokens") + count("output_tokens"), count("total_tokens"), "{done}");
}

#[tokio::test]
async fn a_transcript_is_the_same_text_in_words() {
    let (seller, events) = honest(streamed(Shape::Transcriptions)).await;
    let (done, words) = events.split_last().expect("there are events");
    assert!(words.len() > 2 && kinds(words).iter().all(|kind| *kind == "transcript.text.delta"));
    let said: String = words.iter().filter_map(|word| word["delta"].as_str()).collect();
    let plain = send(&seller, &plainly(Shape::Transcriptions)).await.json();
    assert_eq!((&json!(said), &done["text"]), (&plain["text"], &plain["text"]));
    assert_eq!((&done["type"], &done["usage"]), (&json!("transcript.text.done"), &plain["usage"]));
}

#[tokio::test]
async fn what_cannot_be_streamed_is_refused_or_comes_in_one_piece() {
    let seller = start(SellerConfig::new("alpha", WHISPER).with_shapes(SHAPES)).await;
    let ask = || Ask::new(Shape::Transcriptions, Mode::Plain, WHISPER).with_part("stream", "true");
    let answer = send(&seller, &ask()).await;
    assert!(answer.status == 200 && answer.json()["text"].is_string(), "{}", answer.text());
    for format in ["text", "verbose_json"] {
        let refused = send(&seller, &ask().with_part("response_format", format)).await;
        assert!(refused.status == 400 && refused.text().contains(format), "{}", refused.text());
    }
    let unasked = plainly(Shape::Speech).with(&json!({"stream_format": "audio", "model": WHISPER}));
    assert_eq!(send(&seller, &unasked).await.header("content-type"), Some("audio/mpeg"));
}

#[tokio::test(start_paused = true)]
async fn a_picture_takes_its_time_with_and_without_previews() {
    let speed = SpeedLaw { first_token: Duration::from_secs(2), per_token: Duration::from_secs(1) };
    let config = SellerConfig { speed, ..SellerConfig::new("alpha", MODEL).with_shapes(SHAPES) };
    let seller = start(config).await;
    for (previews, seconds) in [(0, 2), (3, 4)] {
        let wish = json!({"stream": true, "partial_images": previews});
        let ask = plainly(Shape::Images).with(&wish);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let began = tokio::time::Instant::now();
        let client = async {
            let mut caller = bourse_sim::client::Caller::over(ours);
            caller.send(&ask.bytes()).await.expect("the seller listens");
            caller.response().await.expect("the seller answers")
        };
        let response = tokio::join!(client, seller.serve(theirs)).0;
        assert_eq!(kinds(&events(&response)).len(), previews + 1);
        assert_eq!(began.elapsed().as_secs(), seconds, "{previews} previews");
    }
}

/// Whether the answer has its last event, whether it has anything, and whether it says an error.
fn told(response: &Response) -> (bool, bool, bool) {
    let events = events(response);
    let is = |ends: &[&str]| {
        events.iter().any(|event| {
            let kind = event["type"].as_str().unwrap_or_default();
            ends.iter().any(|end| kind.ends_with(end))
        })
    };
    let says_error = response.status != 200 || events.iter().any(|event| event["error"].is_object());
    (is(&[".completed", ".done"]), is(&["delta", "partial_image"]), says_error)
}

fn check_answer(fault: Fault, expectation: Option<Expectation>, shape: Shape, response: &Response) {
    let text: String = response.text().chars().take(2_000).collect();
    let label = format!("{fault} {shape}: {expectation:?} {} {text}", response.status);
    let (ends, has_content, says_error) = told(response);
    match expectation {
        Some(Expectation::FailsOver { .. }) => {
            let is_plain_http = response.header("content-encoding").is_none();
            assert!(!(is_plain_http && (ends || has_content)), "{label}");
        }
        Some(Expectation::BreaksOff) => {
            assert!(has_content && !ends, "{label}");
            assert_eq!(says_error, fault == Fault::ErrorAfterTokens, "{label}");
        }
        Some(Expectation::Answers { usage }) => {
            assert!(ends && has_content && !says_error && response.whole, "{label}");
            let events = events(response);
            let reported = events.iter().any(|event| event["usage"].is_object());
            assert_eq!(reported, usage != UsageRule::Recounted, "{label}");
            let last = events.last().map_or(&Value::Null, |event| &event["type"]);
            let late = last.as_str().is_some_and(|kind| kind.contains("delta") || kind.contains("partial"));
            assert_eq!(late, fault == Fault::ContentAfterFinish, "{label}");
            let first_dot =
                |value: &Value| value.as_str().and_then(|kind| kind.split('.').next().map(str::to_owned));
            assert!(events.iter().all(|event| first_dot(&event["type"]) == first_dot(last)), "{label}");
        }
        None => assert!(ends && has_content && !says_error && response.whole, "{label}"),
    }
}

async fn check_fault(fault: Fault, shape: Shape) {
    let seller = seller(FaultScript::Always(fault)).await;
    let expectation = fault.expectation_in(shape, Mode::Stream);
    let patience = if fault.is_timeout() { PATIENCE } else { PATIENCE * 100 };
    let bytes = streamed(shape).bytes();
    match tokio::time::timeout(patience, call(seller.address(), &bytes)).await {
        Ok(Ok(response)) => check_answer(fault, expectation, shape, &response),
        Ok(Err(_)) => {
            let fails = matches!(expectation, Some(Expectation::FailsOver { .. }));
            assert!(fails, "{fault} {shape}: no response");
        }
        Err(_) => assert!(fault.is_timeout(), "{fault} {shape}: silence"),
    }
    let seen = seller.log().pop();
    let logged = seen.and_then(|seen| seen.fault);
    assert!(logged.is_none() || logged == expectation.map(|_| fault), "{fault} {shape}: {logged:?}");
    assert!(!fault.is_timeout() || logged == Some(fault), "{fault} {shape}: a stall is met");
}

#[tokio::test]
async fn every_fault_keeps_to_its_class_in_events() {
    let mut hanging = JoinSet::new();
    for (shape, fault) in SHAPES.into_iter().flat_map(|shape| Fault::ALL.iter().map(move |f| (shape, *f))) {
        if fault.is_timeout() {
            hanging.spawn(check_fault(fault, shape));
        } else {
            check_fault(fault, shape).await;
        }
    }
    hanging.join_all().await;
}

/// A stall comes when some of the answer has come, and before its end.
#[tokio::test]
async fn a_stall_stands_in_the_middle() {
    for shape in SHAPES {
        let seller = seller(FaultScript::Always(Fault::IdleGap)).await;
        let mut caller = bourse_sim::client::Caller::connect(seller.address()).await.expect("a free port");
        caller.send(&streamed(shape).bytes()).await.expect("the seller listens");
        let piece = if shape == Shape::Images { "partial_image" } else { "delta" };
        assert!(caller.read_until(format!("{piece}\"").as_bytes()).await, "{shape}: something came");
        let end = if shape == Shape::Images { ".completed" } else { ".done" };
        let rest = tokio::time::timeout(PATIENCE, caller.read_until(end.as_bytes())).await;
        assert!(rest.is_err(), "{shape}: the end came");
    }
}

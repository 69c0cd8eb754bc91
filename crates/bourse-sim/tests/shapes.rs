//! The simulator holds in every shape what it promises: honest answers are grammatical and the same, and
//! each fault keeps to its class.

use bourse_sim::client::{Response, call};
use bourse_sim::upstream::{
    Ask, Expectation, Fault, FaultScript, FaultTiming, Heard, Mode, Seller, SellerConfig, Shape, UsageSeen,
};
use std::time::Duration;
use tokio::task::JoinSet;

const MODEL: &str = "sim/words";
/// Short enough to notice a hang; a hundred times this is long enough for any answer.
const PATIENCE: Duration = Duration::from_millis(300);

async fn seller(faults: FaultScript) -> Seller {
    let timing = FaultTiming { drip: Duration::from_millis(1), gap: Duration::from_hours(1) };
    let config = SellerConfig { timing, ..SellerConfig::new("alpha", MODEL).with_shapes(Shape::ALL) };
    Seller::start(config.with_faults(faults)).await.expect("the loopback interface has a free port")
}

fn cases() -> impl Iterator<Item = (Shape, Mode)> {
    Shape::ALL.into_iter().flat_map(|shape| Mode::ALL.map(|mode| (shape, mode)))
}

#[tokio::test]
async fn honest_answers_are_grammatical_and_the_same_in_every_shape() {
    let seller = seller(FaultScript::Never).await;
    let mut texts = Vec::new();
    for (shape, mode) in cases().filter(|(shape, _)| shape.streams()) {
        let response = call(seller.address(), &Ask::new(shape, mode, MODEL).bytes()).await.unwrap();
        let heard = Heard::read(shape, mode, &response);
        let label = format!("{shape} {mode:?}: {} {heard:?}", response.text());
        assert!(response.status == 200 && response.whole && heard.is_whole(mode), "{label}");
        let seen = seller.log().pop().unwrap();
        assert_eq!((seen.shape, seen.stream, seen.grammar_error), (shape, mode == Mode::Stream, None));
        assert_eq!(heard.usages.last(), Some(&seen.truth), "{label}");
        assert_eq!((seen.tokens_sent, seen.truth.completion), (16, 16), "{label}");
        let named: &[&str] = if shape == Shape::Cohere { &[] } else { &[MODEL] };
        assert_eq!(heard.models, named, "{label}");
        if shape != Shape::Completions {
            // A completion has no frame of a message, and is otherwise the same prompt.
            assert_eq!(seen.truth.prompt, 13, "{label}");
        }
        texts.push(heard.text);
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
}

/// What one call brought: nothing at all, part of a response and then silence, or a response.
#[derive(Debug)]
enum Got {
    NoResponse,
    Silence,
    Response(Response),
}

async fn get(seller: &Seller, ask: &Ask, patience: Duration) -> Got {
    match tokio::time::timeout(patience, call(seller.address(), &ask.bytes())).await {
        Err(_) => Got::Silence,
        Ok(Err(_)) => Got::NoResponse,
        Ok(Ok(response)) => Got::Response(response),
    }
}

/// Whether anything that a buyer could use has come.
fn has_content(shape: Shape, mode: Mode, response: &Response) -> bool {
    if shape.streams() {
        let heard = Heard::read(shape, mode, response);
        let said = heard.pieces > 0 || !heard.calls.is_empty();
        return heard.errors == 0 && said && !heard.finishes.iter().any(|word| word == "error");
    }
    if shape == Shape::Speech {
        return response.body.len() > 1_000;
    }
    let document = response.json();
    ["data", "results", "text"].iter().any(|member| !document[member].is_null())
}

/// The usage that a whole answer claims, beside the truth.
fn check_usage(fault: Fault, mode: Mode, heard: &Heard, truth: UsageSeen, label: &str) {
    let Some(claim) = heard.usages.last().copied() else {
        assert_eq!(fault, Fault::NoUsage, "{label}");
        return;
    };
    match fault {
        Fault::NoUsage => panic!("{label}: {claim:?}"),
        Fault::UsageLow => assert_eq!(claim.completion, truth.completion.div_ceil(2), "{label}"),
        Fault::UsageHigh => assert_eq!(claim.completion, truth.completion * 1_000, "{label}"),
        Fault::CachedAbovePrompt => assert!(claim.cached_prompt > claim.prompt, "{label}"),
        _ => assert_eq!(claim.completion, truth.completion, "{label}"),
    }
    if fault == Fault::TwoUsageChunks && mode == Mode::Stream {
        assert!(heard.usages.len() >= 2, "{label}");
    }
}

fn check_response(fault: Fault, shape: Shape, mode: Mode, seller: &Seller, response: &Response) {
    let expectation = fault.expectation_in(shape, mode);
    let text: String = response.text().chars().take(3_000).collect();
    let label = format!("{fault} {shape} {mode:?}: {expectation:?} {} {text}", response.status);
    let is_plain_http = response.header("content-encoding").is_none();
    let ok = response.status == 200 && response.whole && is_plain_http;
    match expectation {
        Some(Expectation::FailsOver { .. }) => {
            let is_html = response.header("content-type") == Some("text/html");
            let ends = !shape.streams() || Heard::read(shape, mode, response).is_whole(mode);
            let usable = ok && !is_html && ends && has_content(shape, mode, response);
            assert!(!usable && (response.status == 200 || response.status >= 400), "{label}");
        }
        Some(Expectation::BreaksOff) => {
            let heard = Heard::read(shape, mode, response);
            assert!(heard.pieces > 0 && !(response.whole && heard.is_whole(mode)), "{label}");
        }
        Some(Expectation::Answers { .. }) | None => {
            assert!(ok && has_content(shape, mode, response), "{label}");
            if !shape.streams() {
                return;
            }
            let heard = Heard::read(shape, mode, response);
            assert!(heard.errors == 0 && (mode == Mode::Plain || heard.ends >= 1), "{label}");
            // Half of a surrogate pair is no text to a strict reader.
            let departs = matches!(fault, Fault::ContentAfterFinish | Fault::SplitSurrogates)
                && mode == Mode::Stream
                && expectation.is_some();
            assert_eq!(heard.violations.is_empty(), !departs, "{label} {:?}", heard.violations);
            let truth = seller.log().pop().expect("the call is in the log").truth;
            let fault = if expectation.is_none() { Fault::CloseDelimited } else { fault };
            check_usage(fault, mode, &heard, truth, &label);
        }
    }
}

async fn check_fault(fault: Fault, shape: Shape, mode: Mode) {
    let seller = seller(FaultScript::Always(fault)).await;
    let patience = if fault.is_timeout() { PATIENCE } else { PATIENCE * 100 };
    match get(&seller, &Ask::new(shape, mode, MODEL), patience).await {
        Got::Response(response) => check_response(fault, shape, mode, &seller, &response),
        Got::Silence => assert!(fault.is_timeout(), "{fault} {shape} {mode:?}"),
        Got::NoResponse => {
            let expected = fault.expectation_in(shape, mode);
            let fails = matches!(expected, Some(Expectation::FailsOver { .. }));
            assert!(fails, "{fault} {shape} {mode:?}: no response");
        }
    }
}

#[tokio::test]
async fn every_fault_keeps_to_its_class_in_every_shape() {
    let mut hanging = JoinSet::new();
    for (shape, mode) in cases().filter(|(shape, mode)| *mode == Mode::Plain || shape.streams()) {
        for fault in Fault::ALL.iter().copied() {
            if fault.is_timeout() {
                hanging.spawn(check_fault(fault, shape, mode));
            } else {
                check_fault(fault, shape, mode).await;
            }
        }
    }
    hanging.join_all().await;
}

#[tokio::test]
async fn errors_come_in_the_vendors_envelope() {
    let check = async |shape: Shape, pointer: &str, want: &str| {
        let seller = seller(FaultScript::Always(Fault::Overloaded)).await;
        let response = call(seller.address(), &Ask::new(shape, Mode::Stream, MODEL).bytes()).await.unwrap();
        let told = response.json().pointer(pointer).and_then(|value| value.as_str().map(str::to_owned));
        assert_eq!((response.status, told.as_deref()), (529, Some(want)), "{shape}: {}", response.text());
    };
    check(Shape::Chat, "/error/code", "overloaded_error").await;
    check(Shape::Messages, "/error/type", "overloaded_error").await;
    check(Shape::Responses, "/error/type", "overloaded_error").await;
    check(Shape::Gemini, "/error/status", "UNAVAILABLE").await;
    check(Shape::Ollama, "/error", "Overloaded").await;
    check(Shape::Cohere, "/message", "Overloaded").await;
    check(Shape::Rerank, "/message", "Overloaded").await;
}

#[tokio::test]
async fn every_shape_asks_for_its_key_where_its_vendor_has_it() {
    let config = SellerConfig {
        bearer: Some("sk-sim".to_owned()),
        ..SellerConfig::new("alpha", MODEL).with_shapes(Shape::ALL)
    };
    let seller = Seller::start(config).await.unwrap();
    for shape in Shape::ALL {
        let ask = Ask::new(shape, Mode::Plain, MODEL);
        let status = async |ask: Ask| call(seller.address(), &ask.bytes()).await.unwrap().status;
        // Google tells a wrong key as a wrong argument.
        let unknown = if shape == Shape::Gemini { 400 } else { 401 };
        assert_eq!(status(ask.clone()).await, unknown, "{shape}");
        assert_eq!(status(ask.clone().with_key("sk-other")).await, unknown, "{shape}");
        assert_eq!(status(ask.clone().with_key("sk-sim")).await, 200, "{shape}");
        let bearer = ask.with_field("authorization", "Bearer sk-sim");
        let has_own_field = matches!(shape, Shape::Messages | Shape::Gemini);
        assert_eq!(status(bearer).await, if has_own_field { unknown } else { 200 }, "{shape}");
    }
    let only_chat = Seller::start(SellerConfig::new("beta", MODEL)).await.unwrap();
    let ask = Ask::new(Shape::Messages, Mode::Plain, MODEL);
    assert_eq!(call(only_chat.address(), &ask.bytes()).await.unwrap().status, 404, "not spoken here");
}

//! When to come back: what sellers ask for is kept and told, spent attempts are not repeated, one deadline holds.

use crate::piped::{
    CHAT, COHERE, FRONTS, GEMINI, Grammar, MESSAGES, MODEL, Market, OLLAMA, Stand, Told, timeouts,
};
use crate::soak::EPOCH;
use bourse_sim::upstream::{Ask, Fault, FaultScript, Mode, SellerConfig, Shape};
use bourse_wire::receipt::ATTEMPTS_MAX;
use serde_json::json;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What a simulated seller that is busy asks for.
const PAUSE: Duration = Duration::from_secs(2);

fn stand(grammar: Grammar, name: &str, fault: Option<Fault>) -> Stand {
    let faults = fault.map_or(FaultScript::Never, FaultScript::Always);
    let time_of_day = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH.0));
    let config = SellerConfig { time_of_day, ..SellerConfig::new(name, MODEL) };
    Stand::new(grammar, config.with_faults(faults))
}

async fn ask(market: &Market, front: Shape, mode: Mode) -> Told {
    let order = json!({"provider": {"order": ["first", "second"]}});
    market.ask(front, &Ask::new(front, mode, MODEL).with(&order).body()).await
}

fn retry_after(told: &Told) -> Option<u64> {
    told.response.header("retry-after").and_then(|value| value.parse().ok())
}

async fn check_pause(front: Shape, grammar: Grammar, fault: Fault) {
    let label = format!("{fault} of {} to {front}", grammar.shape);
    let market = Market::open(vec![stand(grammar, "first", Some(fault))]).await;
    let told = ask(&market, front, Mode::Stream).await;
    let label = format!("{label}: {}", told.response.text());
    assert_eq!(retry_after(&told), Some(PAUSE.as_secs()), "{label}");
    assert_eq!(told.error()["metadata"]["retry_after"], PAUSE.as_secs(), "{label}");
    assert_eq!(told.response.header("x-should-retry"), None, "{label}: to come back is right");
}

/// Whoever asked for a pause is left alone for as long as another seller can answer.
async fn check_rest(front: Shape, grammar: Grammar, fault: Fault) {
    let label = format!("{fault} of {} to {front}", grammar.shape);
    let market = Market::open(vec![stand(grammar, "first", Some(fault)), stand(CHAT, "second", None)]).await;
    let calls = || (market.seller("first").calls(), market.seller("second").calls());
    for round in 1..=3 {
        let began = Instant::now();
        assert!(ask(&market, front, Mode::Plain).await.heard.is_whole(Mode::Plain), "{label}");
        assert!(began.elapsed() < Duration::from_millis(50), "{label}");
        assert_eq!(calls(), (1, round), "{label}");
    }
    market.seller("first").set_faults(FaultScript::Never);
    tokio::time::sleep(PAUSE).await;
    assert!(ask(&market, front, Mode::Stream).await.heard.is_whole(Mode::Stream), "{label}");
    assert_eq!(calls(), (2, 3), "{label}: then it is asked again");
}

#[tokio::test(start_paused = true)]
async fn a_seller_that_asks_for_a_pause_gets_it_and_buyers_are_told() {
    for front in FRONTS {
        for grammar in [CHAT, MESSAGES, GEMINI, OLLAMA, COHERE] {
            for fault in [Fault::RateLimitedSeconds, Fault::RateLimitedDate] {
                check_pause(front, grammar, fault).await;
                check_rest(front, grammar, fault).await;
            }
        }
    }
}

/// Clients that would try again by themselves are told not to where the market has tried already.
#[tokio::test(start_paused = true)]
async fn spent_attempts_are_not_repeated_by_clients() {
    let check = async |fault, should_retry: Option<&str>| {
        for front in FRONTS {
            for mode in Mode::ALL {
                let stands = vec![stand(CHAT, "first", Some(fault)), stand(MESSAGES, "second", Some(fault))];
                let market = Market::open(stands).await;
                let told = ask(&market, front, mode).await;
                let label = format!("{fault} to {front} {mode:?}: {}", told.response.text());
                assert_eq!(told.response.header("x-should-retry"), should_retry, "{label}");
                assert_eq!(told.receipt().attempts.len(), 2, "{label}");
            }
        }
    };
    check(Fault::ServerError, Some("false")).await;
    check(Fault::AcceptThenHang, Some("false")).await;
    check(Fault::RateLimited, None).await;
    check(Fault::Overloaded, None).await;
}

#[tokio::test(start_paused = true)]
async fn attempts_have_a_budget() {
    let more = ATTEMPTS_MAX + 3;
    let stands = (0..more).map(|n| stand(CHAT, &format!("s{n}"), Some(Fault::ServerError))).collect();
    let market = Market::open(stands).await;
    let told = market.ask(Shape::Chat, &Ask::new(Shape::Chat, Mode::Plain, MODEL).body()).await;
    assert_eq!(told.response.status, 502);
    let calls: u64 = market.sellers.iter().map(|seller| seller.calls()).sum();
    assert_eq!(calls as usize, told.receipt().attempts.len());
    assert!(calls as usize <= ATTEMPTS_MAX, "{calls} attempts");
    market.audit(1).await;
}

#[tokio::test(start_paused = true)]
async fn one_deadline_spans_all_attempts() {
    for front in FRONTS {
        for mode in Mode::ALL {
            let hanging = |n| stand(CHAT, &format!("s{n}"), Some(Fault::HeadersThenHang));
            let market = Market::open((0..6).map(hanging).collect()).await;
            let began = Instant::now();
            let told = market.ask(front, &Ask::new(front, mode, MODEL).body()).await;
            let label = format!("{front} {mode:?}: {}", told.response.text());
            assert_eq!(told.response.status, 504, "{label}");
            let (took, most) = (began.elapsed(), timeouts().total);
            assert!(took <= most + Duration::from_millis(10), "{label}: {took:?}");
            let asked = market.sellers.iter().filter(|seller| seller.calls() > 0).count();
            assert!((3..6).contains(&asked), "{label}: {asked} were asked within {took:?}");
            market.audit(1).await;
        }
    }
}

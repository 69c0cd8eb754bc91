//! The public figures: for anybody, asked for once, of completed days.

use super::fakes::*;
use bourse_types::UtcDay;
use bourse_wire::funds::FIGURES_DAYS;

async fn figures(house: &House, query: &str) -> Reply {
    house.call_as(None, "GET", &format!("/v1/market/figures{query}"), &[], "").await
}

#[tokio::test(start_paused = true)]
async fn anybody_may_ask_and_the_exchange_is_asked_once() {
    let house = House::new(&["a"]);
    *house.funds.figures.lock() = Some(r#"{"day":"x"}"#.into());
    for _ in 0..2 {
        let reply = figures(&house, "").await;
        assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"day":"x"}"#));
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    let yesterday = UtcDay::of(house.gateway.0.ports.clock.now()).minus(1);
    assert_eq!(*house.funds.figures_asked.lock(), [yesterday], "the latest completed day, once");
    // One day more than are kept: the first is asked for again, the last is not.
    let day = |n: u32| format!("?date={}", yesterday.minus(FIGURES_DAYS + 1 - n));
    for n in (0..=FIGURES_DAYS).chain([0, FIGURES_DAYS]) {
        assert_eq!(figures(&house, &day(n)).await.status, 200);
    }
    assert_eq!(house.funds.figures_asked.lock().len(), 1 + FIGURES_DAYS as usize + 1 + 1);
}

#[tokio::test(start_paused = true)]
async fn a_day_without_figures_is_not_found_and_not_kept() {
    let house = House::new(&["a"]);
    let reply = figures(&house, "?date=2026-11-01").await;
    assert_eq!(reply.status, 404, "{}", reply.text);
    assert!(reply.text.contains("there are no figures of 2026-11-01"), "{}", reply.text);
    *house.funds.figures.lock() = Some("{}".into());
    assert_eq!(figures(&house, "?date=2026-11-01").await.status, 200);
    assert_eq!(figures(&house, "?date=november").await.status, 400);
    assert_eq!(figures(&house, "?key=1").await.status, 400);
}

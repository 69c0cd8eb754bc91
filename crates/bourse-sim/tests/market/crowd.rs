//! A crowd that asks at the same moment on one balance that covers a part of it: nobody overdraws it, at no commit.
//!
//! The real gateway and the real exchange in virtual time: all requests are there before the first seller answers, so the
//! holds of all of them meet. Half of them stream answers that outgrow their first hold. `BOURSE_CROWD` says how many ask
//! ([`CALLERS`] if unset); `cargo xtask nightly` lets 10,000 ask.

use crate::piped::{CHAT, MODEL, Market, Stand, Told, timeouts};
use bourse_exchange::hash_key;
use bourse_gateway::Clock as _;
use bourse_sim::upstream::{Listing, SellerConfig, Shape, SpeedLaw};
use bourse_types::{NanoUsd, PicoUsdPerToken};
use bourse_wire::funds::Records as _;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const CALLERS: u64 = 2_000;
/// What there is for each of them: an answer of [`ANSWER_WORDS`] costs about three times that.
const NANO_EACH: u64 = 200_000;
const ANSWER_WORDS: u64 = 120;
/// Callers per commit while they arrive.
const CALLERS_PER_COMMIT: u64 = 50;

fn stand(callers: u64) -> Stand {
    let listing = Listing {
        price_prompt: PicoUsdPerToken(1_000_000),
        price_completion: PicoUsdPerToken(4_000_000),
        ..Listing::new(MODEL)
    };
    let speed = SpeedLaw { first_token: Duration::from_millis(50), per_token: Duration::from_millis(2) };
    let (completion_words, capacity) = (ANSWER_WORDS as usize, callers as usize);
    let config = SellerConfig::new("one", MODEL);
    let listings = vec![listing];
    Stand::new(CHAT, SellerConfig { speed, completion_words, capacity, listings, ..config })
}

/// What a refusal says is left.
fn left(told: &Told) -> Option<u64> {
    let error = told.error();
    let words = error["message"].as_str()?.split_once("has $")?.1;
    let usd = words.split_once(" available")?.0.parse::<f64>().ok()?;
    Some((usd * 1e9).round() as u64)
}

/// Every state that a crash could have left has nothing below zero.
fn never_overdrawn(market: &Market) -> u64 {
    let mut groups = 0;
    let replayed = market.exchange.balances_by_group(|group, accounts| {
        groups = group;
        for account in accounts.iter().filter(|account| account.kind == "customer") {
            let is_negative = |usd: &str| usd.starts_with('-');
            assert!(!is_negative(&account.available_usd), "{account:?} at group {group}");
            assert!(!is_negative(&account.balance_usd), "{account:?} at group {group}");
        }
    });
    replayed.expect("books that replay");
    groups
}

#[tokio::test(start_paused = true)]
async fn a_crowd_on_one_balance_never_overdraws_it() {
    let callers = std::env::var("BOURSE_CROWD").map_or(CALLERS, |text| text.parse().expect("a number"));
    let credit = NanoUsd(callers * NANO_EACH);
    let began = Instant::now();
    let market = Arc::new(Market::open_with(vec![stand(callers)], timeouts(), &credit.to_usd_string()).await);
    let mut crowd = JoinSet::new();
    for number in 0..callers {
        let market = market.clone();
        crowd.spawn(async move {
            let body = json!({
                "model": MODEL, "stream": number % 2 == 0, "max_tokens": 2 * ANSWER_WORDS,
                "messages": [{"role": "user", "content": format!("caller {number} asks")}],
            });
            let asked = market.begin(Shape::Chat, &body);
            if number % CALLERS_PER_COMMIT == 0 {
                market.exchange.flush().expect("a commit");
            }
            let told = market.read(Shape::Chat, asked.await).await;
            (number, told)
        });
    }
    // Time stands still until all of them have asked.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let at_once = market.exchange.open_holds();
    let told = crowd.join_all().await;
    market.until_quiet().await;

    let status = market.exchange.key_status(&hash_key(market.key()), market.clock.now()).expect("a key");
    let charged: u64 = told.iter().filter_map(|(_, told)| Some(told.receipt.as_ref()?.charge.total.0)).sum();
    assert_eq!(status.account_spent, NanoUsd(charged), "every charge has its receipt");
    assert!(status.account_spent <= credit, "{} spent of {credit}", status.account_spent);
    assert_eq!(status.account_available.0, credit.0 - charged, "all holds came back");
    let (mut whole, mut cut, mut refused) = (0, 0, 0);
    for (number, told) in &told {
        match told.response.status {
            200 if told.error().is_null() => whole += 1,
            200 => {
                assert_eq!(told.error()["code"], 402, "caller {number}: {}", told.response.text());
                cut += 1;
            }
            402 => {
                let left = left(told).unwrap_or_else(|| panic!("caller {number}: {}", told.response.text()));
                assert!(left < credit.0, "{left} left of {credit}");
                refused += 1;
            }
            other => panic!("caller {number} got {other}: {}", told.response.text()),
        }
    }
    let groups = never_overdrawn(&market);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{callers} callers, {at_once} holds at once: {whole} whole, {cut} cut, {refused} refused; {charged} of {} spent; \
         never overdrawn at any of {groups} commits; {seconds:.1} s",
        credit.0
    );
    assert!(whole > callers / 20 && cut > 0 && refused > callers / 10, "a crowd that proves nothing");
    assert!(at_once as u64 > callers / 10 && groups > callers / CALLERS_PER_COMMIT / 2);
    market.audit(whole + cut + receipts_of_refused(&told)).await;
}

/// A request that was held and then refused has a receipt of nothing.
fn receipts_of_refused(told: &[(u64, Told)]) -> u64 {
    let refused = told.iter().filter(|(_, told)| told.response.status != 200);
    refused.filter(|(_, told)| told.receipt.is_some()).count() as u64
}

//! Many callers on one small balance: nobody overspends, nothing stays held.

use crate::house::House;
use bourse_sim::client::{call, request};
use bourse_sim::upstream::{Fault, FaultScript, FaultTiming, Listing, SellerConfig, SpeedLaw};
use bourse_types::{NanoUsd, PicoUsdPerToken};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

const CALLERS: usize = 256;
const CREDIT_USD: &str = "0.02";
const CREDIT: NanoUsd = NanoUsd(20_000_000);

fn dear(name: &str, faults: FaultScript) -> SellerConfig {
    let listing = Listing {
        price_prompt: PicoUsdPerToken(2_000_000),
        price_completion: PicoUsdPerToken(10_000_000),
        ..Listing::new("dear/model")
    };
    SellerConfig {
        listings: vec![listing],
        speed: SpeedLaw { first_token: Duration::from_millis(20), per_token: Duration::from_millis(1) },
        timing: FaultTiming { drip: Duration::from_millis(1), gap: Duration::from_secs(5) },
        completion_words: 40,
        faults,
        ..SellerConfig::new(name, "")
    }
}

async fn race(configs: Vec<SellerConfig>) {
    let house = House::open(configs, CREDIT_USD).await;
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let (address, authorization) = (house.address, format!("Bearer {}", house.key));
        callers.spawn(async move {
            let body = json!({
                "model": "dear/model", "stream": number % 2 == 0, "max_tokens": 64,
                "messages": [{"role": "user", "content": format!("caller {number} asks")}],
            });
            let fields = [("authorization", authorization.as_str())];
            let bytes = request("POST", "/v1/chat/completions", &fields, body.to_string().as_bytes());
            call(address, &bytes).await.expect("the gateway answers")
        });
    }
    let answers = callers.join_all().await;
    let receipts = answers.iter().filter_map(|answer| house.receipt_of(answer)).collect::<Vec<_>>();
    let total: u64 = receipts.iter().map(|receipt| receipt.charge.total.0).sum();
    assert!(house.spent() <= CREDIT, "{} spent of {CREDIT}", house.spent());
    assert_eq!(house.spent(), NanoUsd(total), "every charge has its receipt");
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert!(with(200) > 0 && with(402) > 0, "{} answered, {} refused", with(200), with(402));
    let paid = receipts.iter().filter(|receipt| receipt.charge.total > NanoUsd::ZERO).count();
    assert!(paid > 0 && receipts.len() < CALLERS);
    house.close(receipts.len() as u64).await;
}

#[tokio::test]
async fn callers_on_one_small_balance_never_overspend() {
    race(vec![dear("one", FaultScript::Never)]).await;
}

#[tokio::test]
async fn nor_do_they_with_faults_and_a_dearer_second_seller() {
    let mut second = dear("two", FaultScript::Always(Fault::UsageHigh));
    second.listings[0].price_completion = PicoUsdPerToken(25_000_000);
    race(vec![dear("one", FaultScript::Seeded { seed: 5, permille: 400 }), second]).await;
}

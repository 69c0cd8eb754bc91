//! A market that counts for itself: sellers that claim as they should, a thousandfold, half and nothing, each streamed and
//! whole, with the real model's tokenizer where it is there.

use crate::house::House;
use bourse_exchange::{AdminReply, AdminRequest, CaseLine, Party};
use bourse_gateway::{Clock as _, ModelTokenizer, SystemClock};
use bourse_market::RecountRules;
use bourse_sim::upstream::{Fault, FaultScript, SellerConfig};
use bourse_tokens::{PinnedTokenizer, testing};
use bourse_types::{ModelSlug, NanoUsd};
use bourse_wire::receipt::Receipt;
use serde_json::json;
use std::sync::Arc;

const MODEL: &str = "some/model";

/// The real model's tokenizer, or a tiny one of bytes: what is claimed a thousandfold is too much for either.
fn tokenizer() -> ModelTokenizer {
    let counter = match testing::model_path() {
        Some(path) => PinnedTokenizer::open(&path, None, None),
        None => PinnedTokenizer::of_vocabulary(&testing::tiny_vocabulary()),
    };
    let counter = Arc::new(counter.expect("a tokenizer"));
    ModelTokenizer {
        model: ModelSlug::parse(MODEL).expect("a slug"),
        counter,
        rules: RecountRules::default(),
    }
}

async fn house(fault: Option<Fault>) -> House {
    let seller = SellerConfig::new("maple", MODEL);
    let seller = match fault {
        Some(fault) => seller.with_faults(FaultScript::Always(fault)),
        None => seller,
    };
    House::open_with(vec![seller], "1", |config| config.tokenizers = vec![tokenizer()]).await
}

/// Two answers, one streamed and one whole.
async fn bought(house: &House) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for stream in [true, false] {
        let body = json!({"model": MODEL, "stream": stream,
            "messages": [{"role": "user", "content": "what is the price of a market in words"}]});
        let answer = house.chat(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        receipts.push(house.receipt_of(&answer).expect("a receipt"));
    }
    receipts
}

fn cases(house: &House) -> Vec<CaseLine> {
    match house.exchange.admin(AdminRequest::ListSuspense {}, SystemClock.now()) {
        Ok(AdminReply::Suspense { cases }) => cases,
        other => panic!("{other:?}"),
    }
}

/// Nano-dollars on an account of the books.
fn balance(house: &House, name: &str) -> NanoUsd {
    let Ok(AdminReply::Balances { accounts }) =
        house.exchange.admin(AdminRequest::Balances {}, SystemClock.now())
    else {
        panic!("no balances")
    };
    let found = accounts.iter().find(|line| line.name == name);
    found.map_or(NanoUsd::ZERO, |line| NanoUsd::parse_usd(&line.balance_usd).expect("an amount"))
}

fn release(house: &House, case: &CaseLine, to: Party) -> Result<AdminReply, String> {
    let asked = AdminRequest::ReleaseSuspense { request: case.request.clone(), to };
    house.exchange.admin(asked, SystemClock.now()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_honest_seller_is_paid_as_it_claims() {
    let house = house(None).await;
    for receipt in bought(&house).await {
        let recount = receipt.recount.expect("a recount");
        assert!(recount.prompt.is_some() && recount.completion.is_some());
        assert_eq!((receipt.usage_claimed, receipt.is_suspended()), (Some(receipt.usage_billed), false));
    }
    assert_eq!((cases(&house).len(), balance(&house, "suspense")), (0, NanoUsd::ZERO));
    house.close(2).await;
}

#[tokio::test]
async fn a_thousandfold_claim_is_cut_and_its_share_waits_for_the_operator() {
    let house = house(Some(Fault::UsageHigh)).await;
    let receipts = bought(&house).await;
    for receipt in &receipts {
        let (claimed, recount) =
            (receipt.usage_claimed.expect("a claim"), receipt.recount.expect("a recount"));
        assert!(receipt.is_suspended() && claimed.completion > recount.completion_allowed);
        assert!(receipt.usage_billed.completion <= recount.completion_allowed);
        assert!(receipt.charge.total.0 * 20 < NanoUsd(1_000_000_000).0, "nobody pays a thousandfold");
    }
    let open = cases(&house);
    let [first, second] = &open[..] else { panic!("{open:?}") };
    let share = |case: &CaseLine| NanoUsd::parse_usd(&case.amount_usd).expect("an amount");
    let waiting = NanoUsd(share(first).0 + share(second).0);
    assert_eq!((balance(&house, "suspense"), balance(&house, "seller:maple")), (waiting, NanoUsd::ZERO));
    let before = balance(&house, "buyer");
    release(&house, first, Party::Seller).expect("released");
    release(&house, second, Party::Buyer).expect("released");
    release(&house, second, Party::Buyer).expect("released before");
    assert!(release(&house, second, Party::Seller).is_err_and(|why| why.contains("given to the buyer")));
    assert_eq!(balance(&house, "seller:maple"), share(first));
    assert_eq!(balance(&house, "buyer").0, before.0 + share(second).0);
    assert_eq!((cases(&house).len(), balance(&house, "suspense")), (0, NanoUsd::ZERO));
    house.close(2).await;
}

#[tokio::test]
async fn half_a_claim_is_taken_and_none_is_counted() {
    for fault in [Fault::UsageLow, Fault::NoUsage] {
        let house = house(Some(fault)).await;
        for receipt in bought(&house).await {
            let recount = receipt.recount.expect("a recount");
            let want = receipt.usage_claimed.map_or(recount.completion, |claimed| Some(claimed.completion));
            assert_eq!(
                (Some(receipt.usage_billed.completion), receipt.is_suspended()),
                (want, false),
                "{fault:?}"
            );
        }
        assert_eq!(cases(&house).len(), 0);
        house.close(2).await;
    }
}

//! `docs/walk-of-a-request.md` is what this test renders from a request that really happened.
//!
//! One streamed chat completion, then the same in one piece, go through the real gateway and the exchange in
//! memory. Time is virtual and all chance comes from seeds, so the page is the same on every run; a page that
//! differs fails the test. With `BOURSE_BLESS=1` in the environment the page is written anew instead.

mod page;

use self::page::{Facts, cut_digests, page};
use super::soak::{EPOCH, Pipes, VirtualClock};
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key, key_id};
use bourse_gateway::{
    Clock as _, Entropy, Gateway, GatewayConfig, Ports, ProviderConfig, ProviderModel, RECEIPT_HEADER,
};
use bourse_proof::receipt::{VerifyPolicy, verify_document};
use bourse_sim::upstream::{Fault, FaultScript, Listing, Seller, SellerConfig, SpeedLaw};
use bourse_types::{
    KeyHash, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule, RequestId, SellerName, UnixMs,
};
use bourse_wire::funds::{
    BoxFuture, CommitTicket, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, Records as _, Settled,
    Settlement,
};
use bourse_wire::receipt::{Receipt, ReceiptDocument};
use bourse_wire::receipt_json::receipt_document_from_json;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

const PAGE: &str = "docs/walk-of-a-request.md";
const STREAMED: &str = r#"{"model": "m/one", "stream": true, "max_tokens": 40,
 "provider": {"sort": "price", "max_price": {"completion": 1}},
 "messages": [{"role": "user", "content": "What is the price?"}]}"#;
const PLAIN: &str = r#"{"model": "m/one", "max_tokens": 40,
 "messages": [{"role": "user", "content": "What is the price?"}]}"#;
const CUSTOMER: &str = "ada";
/// Name, then pico-dollars per prompt and per completion token.
const SELLERS: [(&str, u64, u64); 3] =
    [("cheap", 50_000, 200_000), ("steady", 100_300, 400_000), ("dear", 3_000_000, 15_000_000)];

/// The exchange, with a note of everything that the gateway asks of it.
struct Noted {
    exchange: Arc<Exchange>,
    notes: Mutex<Vec<String>>,
}

impl Noted {
    fn note(&self, words: String) {
        self.notes.lock().push(words);
    }

    /// The notes that begin with this word.
    fn noted(&self, word: &str) -> String {
        self.notes.lock().iter().filter(|note| note.starts_with(word)).fold(String::new(), |mut all, note| {
            all.push_str(note);
            all.push('\n');
            all
        })
    }
}

impl Funds for Noted {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        let grant = self.exchange.authenticate(key, now)?;
        let status = self.exchange.key_status(key, now)?;
        let (label, available) = (status.key.name, status.account_available);
        self.note(format!(
            "authenticate  {}, `{label}`: account {} has {available} available",
            key_id(key),
            grant.account.0
        ));
        Ok(grant)
    }

    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        let lasts_s = (request.expires.0 - request.now.0) / 1_000;
        self.note(format!("hold    {} for at most {lasts_s} s", request.amount));
        self.exchange.hold(request)
    }

    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        self.note(format!("extend  {} more, step {}", extension.amount, extension.step));
        self.exchange.extend(extension)
    }

    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        let settled = self.exchange.settle(settlement)?;
        self.note(format!("settle   {}, in the journal's group {}", settled.cost, settled.ticket.0));
        Ok(settled)
    }

    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let flushed = self.exchange.flush();
        self.note(format!("settled  group {} is on disk, the terminal may go out", ticket.0));
        Box::pin(async move { if flushed? >= ticket { Ok(()) } else { Err(FundsError::Closing) } })
    }
}

/// A market with three sellers and one customer.
struct House {
    gateway: Gateway,
    funds: Arc<Noted>,
    sellers: Vec<Arc<Seller>>,
    key: String,
    clock: Arc<VirtualClock>,
}

/// An answer as the buyer got it.
struct Answer {
    receipt: String,
    text: String,
}

impl House {
    async fn open() -> Self {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let exchange =
            Arc::new(Exchange::in_memory(ExchangeConfig::default(), [4; 32], EPOCH).expect("a market"));
        let ask = AdminRequest::CreateKey(NewKey {
            label: "laptop".to_owned(),
            account: Some(CUSTOMER.to_owned()),
            ..NewKey::default()
        });
        let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(ask, EPOCH) else { panic!("no key") };
        let credit = AdminRequest::Credit {
            account: CUSTOMER.to_owned(),
            amount_usd: "1".to_owned(),
            idempotency_key: None,
        };
        exchange.admin(credit, EPOCH).expect("credit");
        let mut sellers = Vec::new();
        for (name, prompt, completion) in SELLERS {
            sellers.push(Arc::new(Seller::start(seller(name, prompt, completion)).await.expect("a seller")));
        }
        let providers = sellers.iter().enumerate().map(|(number, seller)| provider(number, seller));
        let config = GatewayConfig { providers: providers.collect(), ..GatewayConfig::default() };
        let funds = Arc::new(Noted { exchange: exchange.clone(), notes: Mutex::default() });
        let ports = Ports {
            funds: funds.clone(),
            records: exchange.clone(),
            outcomes: Some(exchange),
            accounts: None,
            workspaces: None,
            admin: None,
            clock: clock.clone(),
            entropy: Arc::new(Entropy::seeded([8; 32])),
            connect: Arc::new(Pipes(sellers.clone())),
        };
        let gateway = Gateway::new(config, ports).expect("a gateway");
        Self { gateway, funds, sellers, key: secret.0, clock }
    }

    async fn call(&self, method: &str, path: &str, body: &'static str) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.key))
            .header("x-bourse-explain", "1")
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .expect("a request");
        let response = self.gateway.handle(request).await;
        let status = response.status();
        let receipt = response.headers().get(RECEIPT_HEADER).and_then(|value| value.to_str().ok());
        let receipt = receipt.unwrap_or_default().to_owned();
        let text = response.into_body().collect().await.expect("an answer").to_bytes();
        let text = String::from_utf8(text.to_vec()).expect("text");
        assert_eq!(status, 200, "{text}");
        Answer { receipt, text }
    }

    fn admin(&self, ask: AdminRequest) -> AdminReply {
        self.funds.exchange.admin(ask, self.clock.now()).expect("an answer")
    }

    /// What each seller was asked and how it answered.
    fn attempts(&self, document: &ReceiptDocument) -> String {
        let mut out = String::new();
        for attempt in &document.receipt.attempts {
            let seller = self.sellers.iter().find(|s| s.config().name == attempt.seller.as_str());
            let seen = seller.and_then(|seller| seller.log().into_iter().next_back()).expect("it was asked");
            let fault = seen.fault.map_or(String::new(), |fault| format!(" ({})", fault.name()));
            let body = String::from_utf8_lossy(&seen.body).into_owned();
            let _ = writeln!(
                out,
                "{} after {} ms: {}{fault}",
                attempt.seller,
                seen.at.as_millis(),
                attempt.status
            );
            let _ = writeln!(out, "POST {}\n{body}\n", seen.path);
        }
        out.trim_end().to_owned()
    }

    /// Every movement of the request, by account, and what the accounts hold then.
    fn movements(&self, request: RequestId) -> String {
        let AdminReply::Balances { accounts } = self.admin(AdminRequest::Balances {}) else { panic!() };
        let mut out = format!("{:<16} {:>16} {:<16} {:>16}\n", "account", "amount", "other side", "balance");
        for account in &accounts {
            let ask = AdminRequest::Statement { account: account.name.clone(), lines_max: None };
            let AdminReply::Statement { lines } = self.admin(ask) else { panic!() };
            let id = request.to_string();
            for line in lines.iter().filter(|line| line.request.as_ref() == Some(&id)) {
                let (name, amount, balance) = (&account.name, &line.amount_usd, &line.balance_usd);
                let _ = writeln!(out, "{name:<16} {amount:>16} {:<16} {balance:>16}", line.counterpart);
            }
        }
        let report = self.funds.exchange.check(self.clock.now()).expect("books");
        assert!(report.is_clean(), "{:?}", report.problems);
        assert!(accounts.iter().all(|account| account.held_usd.trim_matches(['0', '.']).is_empty()));
        out
    }
}

fn seller(name: &str, prompt: u64, completion: u64) -> SellerConfig {
    let listing = Listing {
        price_prompt: PicoUsdPerToken(prompt),
        price_completion: PicoUsdPerToken(completion),
        ..Listing::new("one-8b-instruct")
    };
    let faults = match name {
        "cheap" => FaultScript::Always(Fault::Unavailable),
        _ => FaultScript::Never,
    };
    let speed = SpeedLaw { first_token: Duration::from_millis(30), per_token: Duration::from_millis(5) };
    let config = SellerConfig { speed, completion_words: 3, ..SellerConfig::new(name, "one-8b-instruct") };
    let time_of_day = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH.0));
    SellerConfig { listings: vec![listing], time_of_day, ..config }.with_faults(faults)
}

fn provider(number: usize, seller: &Seller) -> ProviderConfig {
    let listing = &seller.config().listings[0];
    let prices = PriceSchedule {
        request: NanoUsd(100),
        ..PriceSchedule::per_token(listing.price_prompt, listing.price_completion)
    };
    let slug = ModelSlug::parse("m/one").expect("a slug");
    ProviderConfig {
        name: SellerName::parse(&seller.config().name).expect("a name"),
        kind: "openai".to_owned(),
        base_url: format!("http://seller:{}/v1", number + 1),
        api_key: None,
        gathers: None,
        models: vec![ProviderModel::new(slug, &listing.id, prices)],
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Takes the plan out of an answer: the answer without it, and the plan.
fn take_plan(text: &str) -> (String, String) {
    let documents = text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let mut plans =
        documents.filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("bourse").cloned());
    let plan = plans.next_back().expect("an explained answer");
    let rest = text.replacen(&plan.to_string(), "{…}", 1);
    assert_ne!(rest, text, "the plan stands in the answer as it was read");
    (rest, cut_digests(&serde_json::to_string_pretty(&plan).expect("JSON")))
}

async fn render() -> String {
    let house = House::open().await;
    let streamed = house.call("POST", "/v1/chat/completions", STREAMED).await;
    let admitted = house.funds.noted("authenticate");
    let holds = house.funds.noted("hold") + &house.funds.noted("extend");
    let settles = house.funds.noted("settle");
    let request = RequestId::parse(&streamed.receipt).expect("an id");
    let movements = house.movements(request);
    let receipt = house.call("GET", &format!("/v1/receipts/{request}"), "").await.text;
    let document = receipt_document_from_json(receipt.as_bytes()).expect("a receipt");
    let attempts = house.attempts(&document);
    let policy = VerifyPolicy { expected_exchange: Some(house.funds.exchange.public_key()) };
    let verdict = verify_document(&document, &policy);
    assert!(verdict.holds(), "{:?}", verdict.checks);
    assert_eq!(document.receipt.key_digest, Receipt::digest_of_key(&hash_key(&house.key)));
    let (stream, plan) = take_plan(&streamed.text);
    let plain = take_plan(&house.call("POST", "/v1/chat/completions", PLAIN).await.text).0;
    let facts =
        Facts { admitted, plan, holds, attempts, stream, settles, movements, receipt, verdict, plain };
    page(&facts)
}

#[tokio::test(start_paused = true)]
async fn walk_of_a_request_is_what_happens() {
    let (page, path) = (render().await, root().join(PAGE));
    if std::env::var_os("BOURSE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &page).expect("the page is written");
        return;
    }
    let written = std::fs::read_to_string(&path).expect("the page is there");
    if written == page {
        return;
    }
    let same = written.lines().zip(page.lines()).take_while(|(is, should)| is == should).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
    panic!(
        "{PAGE} differs from what happened, first in line {}:\n  written:  {}\n  happened: {}\n\
         If the change is meant, run this test with BOURSE_BLESS=1 and read the page's diff.",
        same + 1,
        line(&written),
        line(&page),
    );
}

//! The real gateway for hours of virtual time: faulty sellers, buyers that leave, a market that is killed.
//!
//! Bytes go through pipes in memory, time stands still while anybody has work to do, and the exchange
//! keeps its journal in memory. What a buyer was told must be in the books of every later life.

use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_gateway::{
    Clock, Connect, Durability, Entropy, Gateway, GatewayConfig, Io, Ports, ProviderConfig, ProviderModel,
    Target,
};
use bourse_sim::seed::{Random, mix};
use bourse_sim::upstream::{FaultScript, Listing, Seller, SellerConfig, SpeedLaw};
use bourse_types::{
    AccountId, Digest32, DurationMs, KeyHash, ModelSlug, NanoUsd, PriceSchedule, RequestId, SellerName,
    UnixMs, UtcDay,
};
use bourse_wire::funds::{
    ActivityQuery, ActivityRow, BoxFuture, CommitTicket, Funds, FundsError, Generation, HoldExtension,
    HoldRequest, KeyGrant, KeyStatus, PolicyId, Records, Settled, Settlement,
};
use bourse_wire::receipt::{Checkpoint, ReceiptDocument};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

const SEED: u64 = 17;
pub(super) const EPOCH: UnixMs = UnixMs(1_790_000_000_000);
const LIVES: u64 = 5;
const BUYERS: u64 = 12;
const CREDIT_USD: &str = "0.05";
const CREDIT: u64 = 50_000_000;
/// Virtual time of one life.
const LIFE: Duration = Duration::from_secs(8);

pub(super) struct VirtualClock(pub(super) Instant);

impl Clock for VirtualClock {
    fn now(&self) -> UnixMs {
        EPOCH.plus(DurationMs(self.0.elapsed().as_millis() as u64))
    }
}

/// The way to an exchange, which a kill cuts: whoever is still running finds nobody there.
pub(super) struct Line(Mutex<Option<Arc<Exchange>>>);

impl Line {
    pub(super) fn to(exchange: &Arc<Exchange>) -> Self {
        Self(Mutex::new(Some(exchange.clone())))
    }

    fn exchange(&self) -> Result<Arc<Exchange>, FundsError> {
        self.0.lock().clone().ok_or(FundsError::Closing)
    }
}

impl Funds for Line {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        self.exchange()?.authenticate(key, now)
    }
    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        self.exchange()?.hold(request)
    }
    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        self.exchange()?.extend(extension)
    }
    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        self.exchange()?.settle(settlement)
    }
    fn durable(&self, ticket: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        let line = self.0.lock().clone().map(|exchange| Arc::downgrade(&exchange));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let exchange = line.and_then(|line| line.upgrade()).ok_or(FundsError::Closing)?;
            let durable = exchange.flush()?;
            if durable >= ticket { Ok(()) } else { Err(FundsError::Closing) }
        })
    }
}

impl Records for Line {
    fn receipt(&self, request: RequestId) -> Result<Option<ReceiptDocument>, FundsError> {
        self.exchange()?.receipt(request)
    }
    fn generation(&self, request: RequestId) -> Result<Option<Generation>, FundsError> {
        self.exchange()?.generation(request)
    }
    fn key_status(&self, key: &KeyHash, now: UnixMs) -> Result<KeyStatus, FundsError> {
        self.exchange()?.key_status(key, now)
    }
    fn activity(
        &self,
        account: AccountId,
        query: &ActivityQuery,
        now: UnixMs,
    ) -> Result<Vec<ActivityRow>, FundsError> {
        self.exchange()?.activity(account, query, now)
    }
    fn figures(&self, day: UtcDay, now: UnixMs) -> Result<Option<Arc<str>>, FundsError> {
        self.exchange()?.figures(day, now)
    }
    fn policy(&self, id: &PolicyId) -> Result<Option<Arc<str>>, FundsError> {
        self.exchange()?.policy(id)
    }
    fn checkpoint(&self) -> Result<Checkpoint, FundsError> {
        self.exchange()?.checkpoint()
    }
    fn consistency(&self, from: u64) -> Result<Vec<Digest32>, FundsError> {
        self.exchange()?.consistency(from)
    }
}

/// Connects to sellers by pipes; the port is a seller's number.
pub(super) struct Pipes(pub(super) Vec<Arc<Seller>>);

impl Connect for Pipes {
    fn connect(&self, target: &Target) -> BoxFuture<'static, io::Result<Io>> {
        let seller = self.0.get(usize::from(target.port) - 1).cloned();
        Box::pin(async move {
            let seller = seller.ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            // Ends by itself when the gateway lets its end go.
            tokio::spawn(async move { seller.serve(theirs).await });
            Ok(Io::Other(Box::new(ours)))
        })
    }
}

async fn sellers() -> Vec<Arc<Seller>> {
    let mut sellers = Vec::new();
    for number in 0..4u64 {
        let faults = match number {
            0 => FaultScript::Never,
            _ => FaultScript::Seeded { seed: mix(SEED ^ number), permille: 400 },
        };
        let speed = SpeedLaw {
            first_token: Duration::from_millis(30 * (number + 1)),
            per_token: Duration::from_millis(2 + number),
        };
        let config =
            SellerConfig { speed, completion_words: 24, ..SellerConfig::new(format!("s{number}"), "m/one") };
        sellers.push(Arc::new(Seller::start(config.with_faults(faults)).await.expect("a port")));
    }
    sellers
}

fn provider(number: usize, listing: &Listing) -> ProviderConfig {
    let prices = PriceSchedule {
        request: NanoUsd(100),
        ..PriceSchedule::per_token(listing.price_prompt, listing.price_completion)
    };
    let slug = ModelSlug::parse(&listing.id).expect("a slug");
    ProviderConfig {
        name: SellerName::parse(&format!("s{number}")).expect("a name"),
        kind: "openai".to_owned(),
        base_url: format!("http://seller:{}/v1", number + 1),
        api_key: None,
        gathers: None,
        models: vec![ProviderModel::new(slug, &listing.id, prices)],
    }
}

/// What buyers were told: the request and its cost in nano-dollars.
type Told = Arc<Mutex<Vec<(RequestId, u64)>>>;

struct Buyer {
    gateway: Gateway,
    key: String,
    told: Told,
    random: Random,
}

impl Buyer {
    /// Asks until it is stopped.
    async fn shop(mut self) {
        loop {
            let stream = self.random.permille(700);
            let body = json!({
                "model": "m/one", "stream": stream, "max_tokens": 1 + self.random.below(40),
                "messages": [{"role": "user", "content": "what is the price"}],
                "n": 1 + self.random.below(2),
            });
            let leaves = self.random.permille(150).then(|| Duration::from_millis(self.random.below(400)));
            let patience = leaves.unwrap_or(Duration::from_hours(1));
            if let Ok(Some(told)) = timeout(patience, ask(&self.gateway, &self.key, &body)).await {
                self.told.lock().push(told);
            }
            tokio::time::sleep(Duration::from_millis(1 + self.random.below(300))).await;
        }
    }
}

/// One request to its end; what it says about its cost, when it says so.
async fn ask(gateway: &Gateway, key: &str, body: &Value) -> Option<(RequestId, u64)> {
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {key}"))
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request");
    let response = gateway.handle(request).await;
    let id = response.headers().get("x-bourse-receipt")?.to_str().ok()?.to_owned();
    let is_stream = response.headers().get("content-type").is_some_and(|value| value == "text/event-stream");
    let status = response.status();
    let text = response.into_body().collect().await.ok()?.to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    if status != 200 {
        return None;
    }
    let cost = if is_stream {
        assert_eq!(text.matches("data: [DONE]").count(), 1, "exactly one terminal: {text}");
        let mut costs = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(cost_of);
        costs.next_back()?
    } else {
        cost_of(&text)?
    };
    Some((RequestId::parse(&id).ok()?, cost))
}

/// `usage.cost` in nano-dollars.
fn cost_of(document: &str) -> Option<u64> {
    let value: Value = serde_json::from_str(document).ok()?;
    Some((value["usage"]["cost"].as_f64()? * 1e9).round() as u64)
}

fn open(exchange: &Arc<Exchange>, sellers: &[Arc<Seller>], born: Instant, life: u64) -> (Gateway, Arc<Line>) {
    let line = Arc::new(Line::to(exchange));
    let ports = Ports {
        funds: line.clone(),
        records: line.clone(),
        outcomes: Some(exchange.clone()),
        accounts: None,
        workspaces: None,
        admin: None,
        clock: Arc::new(VirtualClock(born)),
        entropy: Arc::new(Entropy::seeded([life as u8 + 1; 32])),
        connect: Arc::new(Pipes(sellers.to_vec())),
    };
    let listings = sellers.iter().enumerate();
    let config = GatewayConfig {
        durability: Durability::Strict,
        providers: listings.map(|(number, s)| provider(number, &s.config().listings[0])).collect(),
        ..GatewayConfig::default()
    };
    (Gateway::new(config, ports).expect("a gateway"), line)
}

/// Keys with a credit each.
fn keys(exchange: &Exchange) -> Vec<String> {
    let key = |number: u64| {
        let account = format!("buyer-{number}");
        let (label, payer) = (account.clone(), Some(account.clone()));
        let ask = AdminRequest::CreateKey(NewKey { label, account: payer, ..NewKey::default() });
        let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(ask, EPOCH) else { panic!("no key") };
        let credit =
            AdminRequest::Credit { account, amount_usd: CREDIT_USD.to_owned(), idempotency_key: None };
        exchange.admin(credit, EPOCH).expect("credit");
        secret.0
    };
    (0..BUYERS).map(key).collect()
}

#[tokio::test(start_paused = true)]
async fn what_buyers_were_told_survives_every_kill() {
    let (born, sellers) = (Instant::now(), sellers().await);
    let clock = VirtualClock(born);
    let mut exchange =
        Exchange::in_memory(ExchangeConfig::default(), [SEED as u8; 32], EPOCH).expect("a market");
    let (keys, told) = (keys(&exchange), Told::default());
    for life in 0..LIVES {
        let running = Arc::new(exchange);
        let (gateway, line) = open(&running, &sellers, born, life);
        let mut buyers = JoinSet::new();
        for (number, key) in keys.iter().enumerate() {
            let random = Random::new(mix(SEED ^ life) ^ number as u64);
            let buyer = Buyer { gateway: gateway.clone(), key: key.clone(), told: told.clone(), random };
            buyers.spawn(buyer.shop());
        }
        tokio::time::sleep(LIFE + Duration::from_millis(mix(SEED ^ life) % 1_000)).await;
        // The kill: first nobody answers at the exchange, then everybody who asked is gone.
        line.0.lock().take();
        buyers.shutdown().await;
        drop(gateway);
        let dead = Arc::try_unwrap(running).unwrap_or_else(|_| panic!("somebody still holds the exchange"));
        exchange = dead.killed(clock.now()).expect("the next life begins");
        assert_eq!(exchange.open_holds(), 0, "seed {SEED}, life {life}: a hold outlived its market");
    }
    let report = exchange.check(clock.now()).expect("books");
    assert!(report.is_clean(), "seed {SEED}: {:?}", report.problems);
    let told = told.lock();
    for (request, cost) in told.iter() {
        let found = exchange.receipt(*request).expect("records");
        let posted = found.map(|document| document.receipt.charge.total.0);
        assert_eq!(posted, Some(*cost), "seed {SEED}: {request} was told {cost}");
    }
    for key in &keys {
        let spent = exchange.key_status(&hash_key(key), EPOCH).expect("a key").account_spent;
        assert!(spent.0 <= CREDIT, "seed {SEED}: {spent} of {CREDIT}");
    }
    let failed = sellers.iter().flat_map(|seller| seller.log()).filter(|seen| seen.fault.is_some()).count();
    let report = report.facts.expect("books that can be read");
    println!("{} answers told, {} receipts, {failed} calls met a fault", told.len(), report.receipts);
    assert!(told.len() > 500 && report.receipts > told.len() as u64 && failed > 100);
}

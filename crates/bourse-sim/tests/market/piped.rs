//! A market in one process: exchange in memory, sellers behind pipes, virtual time.
//!
//! Each test, or each case of one, opens a market of its own, so that no breaker and no statistic of one touches
//! another. Sellers of any grammar stand behind it; buyers ask in any of the three conversational ones.

use crate::soak::{EPOCH, Line, Pipes, VirtualClock};
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_gateway::adapter::adapter_of_kind;
use bourse_gateway::{
    Body, Clock as _, Entropy, Gateway, GatewayConfig, Ports, ProviderConfig, ProviderModel, Timeouts,
};
use bourse_proof::receipt::{VerifyPolicy, verify_document};
use bourse_sim::client::Response;
use bourse_sim::upstream::{Heard, Mode, Seller, SellerConfig, Shape};
use bourse_types::{ModelSlug, NanoUsd, PriceSchedule, RequestId, SellerName};
use bourse_wire::funds::Records as _;
use bourse_wire::receipt::Receipt;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a buyer calls the one model that all sellers of a test sell.
pub(crate) const MODEL: &str = "m/one";
/// Within this a cancelled seller must have been told, and an open hold be settled.
pub(crate) const CANCEL_WITHIN: Duration = Duration::from_millis(200);

/// The grammars that buyers speak.
pub(crate) const FRONTS: [Shape; 3] = [Shape::Chat, Shape::Responses, Shape::Messages];

/// A grammar that sellers speak: the word for it in the configuration, what it is, and whether every front reaches it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grammar {
    pub(crate) kind: &'static str,
    pub(crate) shape: Shape,
    /// False where other fronts than its own are translated into another grammar.
    pub(crate) is_for_all: bool,
}

pub(crate) const CHAT: Grammar = Grammar { kind: "openai-compatible", shape: Shape::Chat, is_for_all: true };
pub(crate) const RESPONSES: Grammar = Grammar { kind: "openai", shape: Shape::Responses, is_for_all: false };
pub(crate) const MESSAGES: Grammar = Grammar { kind: "anthropic", shape: Shape::Messages, is_for_all: true };

pub(crate) const GEMINI: Grammar = Grammar { kind: "gemini", shape: Shape::Gemini, is_for_all: true };
pub(crate) const OLLAMA: Grammar = Grammar { kind: "ollama", shape: Shape::Ollama, is_for_all: true };
pub(crate) const COHERE: Grammar = Grammar { kind: "cohere", shape: Shape::Cohere, is_for_all: true };

/// Every grammar that sellers speak.
pub(crate) const GRAMMARS: [Grammar; 6] = [CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA, COHERE];

impl Grammar {
    /// Whether a buyer of this front reaches a seller in this grammar.
    pub(crate) fn serves(self, front: Shape) -> bool {
        self.is_for_all || self.shape == front
    }

    /// Whether what a buyer of this front wants in one piece is asked for as a stream.
    pub(crate) fn is_gathered(self, front: Shape) -> bool {
        let gathers = adapter_of_kind(self.kind).is_some_and(|adapter| adapter.kind().gathers);
        gathers && self.shape != front
    }
}

/// Short enough that nothing outlives a test, far longer than what sellers here need.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        first_content: Duration::from_secs(3),
        plain_answer: Duration::from_secs(3),
        idle: Duration::from_secs(2),
        total: Duration::from_secs(10),
        ..Timeouts::default()
    }
}

/// A seller before the market opens.
pub(crate) struct Stand {
    pub(crate) grammar: Grammar,
    pub(crate) config: SellerConfig,
    pub(crate) prices: PriceSchedule,
}

impl Stand {
    /// A seller of [`MODEL`] in this grammar, whatever it calls it, at its listing's prices and a small fee for each request.
    pub(crate) fn new(grammar: Grammar, config: SellerConfig) -> Self {
        let listing = &config.listings[0];
        let prices = PriceSchedule {
            request: NanoUsd(100),
            ..PriceSchedule::per_token(listing.price_prompt, listing.price_completion)
        };
        let config = config.with_shapes([grammar.shape]);
        Self { grammar, config, prices }
    }

    /// An honest one under this name.
    pub(crate) fn honest(grammar: Grammar, name: &str) -> Self {
        Self::new(grammar, SellerConfig::new(name, MODEL))
    }

    fn provider(&self, number: usize) -> ProviderConfig {
        let slug = ModelSlug::parse(MODEL).expect("a slug");
        ProviderConfig {
            name: SellerName::parse(&self.config.name).expect("a name"),
            kind: self.grammar.kind.to_owned(),
            base_url: format!("http://seller:{}{}", number + 1, self.grammar.shape.base_path()),
            api_key: None,
            gathers: None,
            models: vec![ProviderModel::new(slug, &self.config.listings[0].id, self.prices)],
        }
    }
}

/// A market in one process.
pub(crate) struct Market {
    pub(crate) gateway: Gateway,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) sellers: Vec<Arc<Seller>>,
    key: String,
    pub(crate) clock: Arc<VirtualClock>,
}

/// An answer, whole.
pub(crate) struct Told {
    pub(crate) response: Response,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) heard: Heard,
}

impl Told {
    /// What the answer says it cost, once for each time that it says so.
    pub(crate) fn costs(&self) -> Vec<NanoUsd> {
        let mut costs = Vec::new();
        self.documents().iter().for_each(|document| find_costs(document, &mut costs));
        costs
    }

    /// The JSON documents of the answer, in order.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let is_stream = self.response.header("content-type") == Some("text/event-stream");
        let texts = if is_stream { self.response.events() } else { vec![self.response.text()] };
        texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
    }

    /// The first error object of the answer, wherever its grammar has it.
    pub(crate) fn error(&self) -> Value {
        let documents = self.documents();
        let error_of = |document: &Value| {
            [&document["error"], &document["response"]["error"]].into_iter().find(|e| e.is_object()).cloned()
        };
        documents.iter().find_map(error_of).unwrap_or_default()
    }

    pub(crate) fn receipt(&self) -> &Receipt {
        self.receipt.as_ref().unwrap_or_else(|| panic!("no receipt: {}", self.response.text()))
    }
}

/// `cost` of every usage object, however deep.
fn find_costs(value: &Value, costs: &mut Vec<NanoUsd>) {
    match value {
        Value::Object(members) => {
            if let Some(cost) = members.get("usage").and_then(|usage| usage["cost"].as_f64()) {
                costs.push(NanoUsd((cost * 1e9).round() as u64));
            }
            members.values().for_each(|member| find_costs(member, costs));
        }
        Value::Array(items) => items.iter().for_each(|item| find_costs(item, costs)),
        _ => {}
    }
}

impl Market {
    /// Opens a market over these sellers, with one buyer who has ten dollars.
    pub(crate) async fn open(stands: Vec<Stand>) -> Self {
        Self::open_with(stands, timeouts(), "10").await
    }

    pub(crate) async fn open_with(stands: Vec<Stand>, timeouts: Timeouts, credit_usd: &str) -> Self {
        let clock = Arc::new(VirtualClock(Instant::now()));
        let exchange = Exchange::in_memory(ExchangeConfig::default(), [6; 32], EPOCH).expect("a market");
        let account = "buyer".to_owned();
        let new = NewKey { label: account.clone(), account: Some(account.clone()), ..NewKey::default() };
        let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(AdminRequest::CreateKey(new), EPOCH)
        else {
            panic!("no key was made");
        };
        let credit =
            AdminRequest::Credit { account, amount_usd: credit_usd.to_owned(), idempotency_key: None };
        exchange.admin(credit, EPOCH).expect("credit is given");
        let exchange = Arc::new(exchange);
        let providers = stands.iter().enumerate().map(|(number, stand)| stand.provider(number)).collect();
        let mut sellers = Vec::new();
        for stand in stands {
            sellers.push(Arc::new(Seller::start(stand.config).await.expect("a free port")));
        }
        let line = Arc::new(Line::to(&exchange));
        let ports = Ports {
            funds: line.clone(),
            records: line,
            outcomes: Some(exchange.clone()),
            accounts: None,
            workspaces: None,
            admin: None,
            clock: clock.clone(),
            entropy: Arc::new(Entropy::seeded([7; 32])),
            connect: Arc::new(Pipes(sellers.clone())),
        };
        let config = GatewayConfig { timeouts, providers, ..GatewayConfig::default() };
        let gateway = Gateway::new(config, ports).expect("a gateway");
        Self { gateway, exchange, sellers, key: secret.0, clock }
    }

    pub(crate) fn seller(&self, name: &str) -> &Seller {
        self.sellers.iter().find(|seller| seller.config().name == name).expect("a seller of that name")
    }

    /// Asks, and returns as soon as the head of the answer is there.
    pub(crate) async fn begin(&self, front: Shape, body: &Value) -> http::Response<Body> {
        let request = http::Request::post(front.path(MODEL))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        self.gateway.handle(request).await
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn ask(&self, front: Shape, body: &Value) -> Told {
        let response = self.begin(front, body).await;
        self.read(front, response).await
    }

    /// Reads an answer to its end.
    pub(crate) async fn read(&self, front: Shape, response: http::Response<Body>) -> Told {
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("an answer").to_bytes().to_vec();
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let response = Response {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body,
            whole: true,
            ..Response::default()
        };
        let is_stream = response.header("content-type") == Some("text/event-stream");
        let heard = Heard::read(front, if is_stream { Mode::Stream } else { Mode::Plain }, &response);
        self.exchange.flush().expect("the books are written");
        let receipt = response.header("x-bourse-receipt").and_then(|id| self.receipt(id));
        Told { response, receipt, heard }
    }

    /// The receipt under this id, which must hold.
    pub(crate) fn receipt(&self, id: &str) -> Option<Receipt> {
        let id = RequestId::parse(id).ok()?;
        let document = self.exchange.receipt(id).expect("records can be read")?;
        let verdict = verify_document(&document, &VerifyPolicy::default());
        assert!(verdict.holds(), "{:?}", verdict.failures().collect::<Vec<_>>());
        Some(document.receipt)
    }

    /// The buyer's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What the buyer has spent.
    pub(crate) fn spent(&self) -> NanoUsd {
        let status = self.exchange.key_status(&hash_key(&self.key), self.clock.now());
        status.expect("the key is known").account_spent
    }

    /// Waits until no seller has an answer under way and nothing is held; both must come soon.
    pub(crate) async fn until_quiet(&self) {
        let quiet = async {
            while self.exchange.open_holds() > 0 || self.sellers.iter().any(|seller| seller.open() > 0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let is_quiet = tokio::time::timeout(CANCEL_WITHIN, quiet).await.is_ok();
        let open: Vec<_> = self.sellers.iter().map(|seller| seller.open()).collect();
        assert!(is_quiet, "{} holds and {open:?} answers are left open", self.exchange.open_holds());
    }

    /// Audits the books when all is quiet: they balance, nothing is held, there are this many receipts, and the buyer
    /// has spent what they say.
    pub(crate) async fn audit(&self, receipts: u64) {
        self.until_quiet().await;
        self.exchange.flush().expect("the books are written");
        let report = self.exchange.check(self.clock.now()).expect("there are books");
        assert!(report.is_clean(), "{:?}", report.problems);
        let facts = report.facts.expect("books that can be read");
        assert_eq!((facts.holds_open, facts.holds_orphaned), (0, 0));
        assert_eq!(facts.receipts, receipts, "one receipt for each request that was held");
    }
}

//! A market for tests: exchange on disk, gateway on a port, simulated sellers on theirs.

use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, check};
use bourse_gateway::{
    Clock, Entropy, Gateway, GatewayConfig, NetConnect, Ports, ProviderConfig, ProviderModel, Recorder,
    Secret, SystemClock, Timeouts,
};
use bourse_sim::client::{Response, call, request};
use bourse_sim::upstream::{Seller, SellerConfig};
use bourse_types::{ModelSlug, NanoUsd, PriceSchedule, RequestId, SellerName};
use bourse_wire::funds::Records as _;
use bourse_wire::receipt::Receipt;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The key that the market uses at its sellers.
pub(crate) const SELLER_KEY: &str = "sk-at-the-seller";

/// Most bytes of the journal of decisions.
const DECISION_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Short enough that a hang costs a test little, long enough for a busy machine.
pub(crate) fn timeouts() -> Timeouts {
    Timeouts {
        first_content: Duration::from_secs(3),
        plain_answer: Duration::from_secs(3),
        idle: Duration::from_secs(2),
        total: Duration::from_secs(10),
        drain: Duration::from_secs(1),
        ..Timeouts::default()
    }
}

pub(crate) struct House {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) sellers: Vec<Seller>,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    serving: JoinHandle<std::io::Result<()>>,
    stop: Option<oneshot::Sender<()>>,
    recorder: Recorder,
    dir: tempfile::TempDir,
    config: GatewayConfig,
}

impl House {
    /// Opens a market over these sellers. The buyer's account starts with `credit`.
    pub(crate) async fn open(configs: Vec<SellerConfig>, credit_usd: &str) -> Self {
        Self::open_with(configs, credit_usd, |_| {}).await
    }

    /// [`House::open`], with more to say to the gateway.
    pub(crate) async fn open_with(
        configs: Vec<SellerConfig>,
        credit_usd: &str,
        configure: impl FnOnce(&mut GatewayConfig),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the market");
        let now = SystemClock.now();
        let exchange = Exchange::open(dir.path(), ExchangeConfig::default(), now).expect("a new market");
        let account = Some("buyer".to_owned());
        let create =
            AdminRequest::CreateKey(NewKey { label: "buyer".to_owned(), account, ..NewKey::default() });
        let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(create, now) else {
            panic!("no key was made");
        };
        let credit = AdminRequest::Credit {
            account: "buyer".to_owned(),
            amount_usd: credit_usd.to_owned(),
            idempotency_key: None,
        };
        exchange.admin(credit, now).expect("credit is given");
        let exchange = Arc::new(exchange);
        let mut sellers = Vec::new();
        for mut config in configs {
            config.bearer = Some(SELLER_KEY.to_owned());
            sellers.push(Seller::start(config).await.expect("a free port"));
        }
        let mut config = GatewayConfig {
            timeouts: timeouts(),
            providers: sellers.iter().map(provider).collect(),
            ..GatewayConfig::default()
        };
        configure(&mut config);
        let door = Door::open(&exchange, config.clone(), &dir.path().join("decisions")).await;
        let Door { address, serving, stop, recorder } = door;
        Self { exchange, sellers, address, key: secret.0, serving, stop: Some(stop), recorder, dir, config }
    }

    /// Stops the market and opens it again over the same folder.
    pub(crate) async fn restarted(mut self) -> Self {
        self.stop.take().map(|stop| stop.send(()));
        self.serving.await.expect("the gateway does not panic").expect("the listener works");
        drop(self.recorder);
        self.exchange.close().expect("the books close");
        drop(self.exchange);
        let opened = Exchange::open(self.dir.path(), ExchangeConfig::default(), SystemClock.now());
        let exchange = Arc::new(opened.expect("the same market"));
        let decisions = self.dir.path().join("decisions");
        let Door { address, serving, stop, recorder } =
            Door::open(&exchange, self.config.clone(), &decisions).await;
        Self { exchange, address, serving, stop: Some(stop), recorder, ..self }
    }

    /// A request with the buyer's key.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let authorization = format!("Bearer {}", self.key);
        let fields = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        request(method, path, &fields, body)
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> Response {
        call(self.address, &self.request("POST", path, body)).await.expect("the gateway answers")
    }

    pub(crate) async fn chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body.to_string().as_bytes()).await
    }

    /// The receipt that an answer names.
    pub(crate) fn receipt_of(&self, response: &Response) -> Option<Receipt> {
        let id = RequestId::parse(response.header("x-bourse-receipt")?).ok()?;
        self.exchange.receipt(id).expect("records can be read").map(|document| document.receipt)
    }

    /// What the buyer's account has spent.
    pub(crate) fn spent(&self) -> NanoUsd {
        let hash = bourse_exchange::hash_key(&self.key);
        self.exchange.key_status(&hash, SystemClock.now()).expect("the key is known").account_spent
    }

    /// Waits until nothing is held: a buyer's going away is noticed a moment later.
    pub(crate) async fn until_nothing_is_held(&self) {
        let waited = async {
            while self.exchange.open_holds() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waited).await.expect("a hold is left behind");
    }

    /// Stops the market and audits its books: clean, with this many receipts and no hold. What it wrote is left in
    /// the folder.
    pub(crate) async fn close(mut self, receipts: u64) -> tempfile::TempDir {
        self.until_nothing_is_held().await;
        self.stop.take().map(|stop| stop.send(()));
        self.serving.await.expect("the gateway does not panic").expect("the listener works");
        drop(self.recorder);
        self.exchange.close().expect("the books close");
        drop(self.exchange);
        let report = check(self.dir.path(), SystemClock.now()).expect("there are books to check");
        assert!(report.is_clean(), "{:?}", report.problems);
        let report = report.facts.expect("books that can be read");
        assert_eq!((report.holds_open, report.holds_orphaned), (0, 0));
        assert_eq!(report.receipts, receipts, "one receipt for each request that was held");
        self.dir
    }
}

/// A gateway that serves.
struct Door {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
    recorder: Recorder,
}

impl Door {
    async fn open(exchange: &Arc<Exchange>, config: GatewayConfig, decisions: &Path) -> Self {
        let ports = Ports {
            funds: exchange.clone(),
            records: exchange.clone(),
            outcomes: Some(exchange.clone()),
            accounts: Some(exchange.clone()),
            workspaces: Some(exchange.clone()),
            admin: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Entropy::of_system().expect("randomness")),
            connect: Arc::new(NetConnect::new()),
        };
        let gateway = Gateway::new(config, ports).expect("a gateway");
        let recorder =
            Recorder::start(&gateway, decisions, DECISION_BYTES_MAX).expect("a journal of decisions");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            gateway
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await
        });
        Self { address, serving, stop, recorder }
    }
}

fn provider(seller: &Seller) -> ProviderConfig {
    let config = seller.config();
    let model = |listing: &bourse_sim::upstream::Listing| {
        let prices = PriceSchedule::per_token(listing.price_prompt, listing.price_completion);
        let slug = ModelSlug::parse(&listing.id).expect("a listing's name is a slug");
        let mut model = ProviderModel::new(slug, &listing.id, prices);
        model.context_tokens_max = listing.context_length_tokens;
        model
    };
    ProviderConfig {
        name: SellerName::parse(&config.name).expect("a seller's name is a name"),
        kind: "openai".to_owned(),
        base_url: seller.base_url(),
        api_key: Some(Secret::new(SELLER_KEY)),
        gathers: None,
        models: config.listings.iter().map(model).collect(),
    }
}

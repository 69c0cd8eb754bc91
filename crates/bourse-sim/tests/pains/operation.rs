//! Memory, secrets, supply chain, the database (pains 6, 16, 17 and 19).

use crate::house::{House, SELLER_KEY, timeouts};
use crate::page::root;
use crate::{MODEL, buy, chat, fronts_and_modes, seller};
use bourse_exchange::{AdminReply, AdminRequest, Exchange, ExchangeConfig, NewKey, hash_key};
use bourse_gateway::{
    Clock as _, Entropy, Gateway, GatewayConfig, NetConnect, Ports, ProviderConfig, ProviderModel,
    SystemClock,
};
use bourse_sim::client::{Caller, Response, call};
use bourse_sim::upstream::{Ask, Fault, FaultScript, Mode, Seller, SellerConfig, Shape};
use bourse_types::{KeyHash, ModelSlug, NanoUsd, PicoUsdPerToken, PriceSchedule, SellerName, UnixMs};
use bourse_wire::dialect::BODY_BYTES_MAX;
use bourse_wire::funds::{
    BoxFuture, CommitTicket, Funds, FundsError, HoldExtension, HoldRequest, KeyGrant, Records as _, Settled,
    Settlement,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Everything that two sockets and the market may keep of a stream that nobody reads; the kernel takes most of it.
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads ahead of a buyer that does not read: what it keeps of an answer.
fn anchor_keeps(answer_bytes: u64) -> u64 {
    answer_bytes
}

#[tokio::test]
async fn pain_06_a_buyer_that_does_not_read_holds_the_seller_back() {
    let words = 200_000;
    let long = SellerConfig { completion_words: words, ..seller("long") };
    let house = House::open_with(vec![long], "1000", |config| {
        config.timeouts.stall = Duration::from_secs(1);
        config.timeouts.total = Duration::from_mins(5);
        config.providers[0].models[0].context_tokens_max = 1 << 24;
    })
    .await;
    let mut buyer = Caller::connect(house.address).await.unwrap();
    let ask = chat(Mode::Stream).with(&json!({"max_tokens": words}));
    buyer.send(&ask.with_key(&house.key).bytes()).await.unwrap();
    // It reads nothing. The market waits as long as it must, and leaves.
    let log = house.sellers[0].wait_for(|log| log.first().is_some_and(|s| s.client_gone_at.is_some())).await;
    let bytes_per_token = 150;
    let (taken, all) = (log[0].tokens_sent * bytes_per_token, words as u64 * bytes_per_token);
    assert!(taken < KEPT_BYTES_MAX, "{taken} of {all} bytes were taken in");
    assert!(anchor_keeps(all) > KEPT_BYTES_MAX, "the scene must be larger than the bound");
    drop(buyer);
    house.close(1).await;
}

#[tokio::test]
async fn pain_06_bodies_are_bounded_at_the_bound_and_one_past_it() {
    let house = House::open(vec![seller("one")], "1").await;
    let body = |bytes: usize| {
        let head = format!(
            r#"{{"model":"{MODEL}","max_tokens":1,"messages":[{{"role":"user","content":"hi"}}],"x":""#
        );
        let fill = "a".repeat(bytes - head.len() - 2);
        format!("{head}{fill}\"}}")
    };
    let at = house.post("/v1/chat/completions", body(BODY_BYTES_MAX).as_bytes()).await;
    let past = house.post("/v1/chat/completions", body(BODY_BYTES_MAX + 1).as_bytes()).await;
    assert_ne!(at.status, 413, "{}", at.text());
    assert_eq!(past.status, 413, "{}", past.text());
    let anchor_keeps_all = anchor_keeps(BODY_BYTES_MAX as u64 + 1);
    assert!(anchor_keeps_all > BODY_BYTES_MAX as u64);
    let held = u64::from(at.status == 200);
    house.close(held).await;
}

/// Everything that the market logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A seller that tells everybody what it was sent, keys and prompts, in its error.
async fn gossip() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = vec![0; 64 * 1024];
                let n = stream.read(&mut heard).await.unwrap_or(0);
                let heard = String::from_utf8_lossy(&heard[..n]).into_owned();
                let key = heard.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization"));
                let message = format!("Incorrect API key provided: {}", key.unwrap_or_default());
                let body = json!({"error": {"message": message, "type": "invalid_api_key"}}).to_string();
                let head = "HTTP/1.1 401 X\r\ncontent-type: application/json\r\ncontent-length";
                let _ = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            });
        }
    });
    port
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Logs what it sent when a call failed, as it stands.
fn anchor_logs(sent: &[(String, String)], body: &[u8]) -> String {
    format!("request failed: {sent:?} {}", String::from_utf8_lossy(body))
}

const PROMPT: &str = "canary-prompt-5d1f0c";

fn ask_with_canary(shape: Shape, mode: Mode) -> Ask {
    let words = json!([{"role": "user", "content": PROMPT}]);
    let member = if shape == Shape::Responses { "input" } else { "messages" };
    Ask::new(shape, mode, MODEL).with(&json!({member: words}))
}

#[tokio::test]
async fn pain_16_no_secret_in_logs_errors_metrics_or_files() {
    let lines = Lines::default();
    let writer = lines.clone();
    let logs = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    logs.with_ansi(false).with_writer(move || writer.clone()).init();
    let port = gossip().await;
    let faults = FaultScript::InOrder(vec![None, None, Some(Fault::ServerError), Some(Fault::CutMidJson)]);
    let house = House::open_with(vec![seller("one").with_faults(faults), seller("gossip")], "1", |config| {
        config.providers[1].base_url = format!("http://127.0.0.1:{port}/v1");
    })
    .await;
    let mut told = Vec::new();
    let mut tell = |response: &Response| {
        told.extend_from_slice(format!("{:?}", response.headers).as_bytes());
        told.extend_from_slice(&response.body);
    };
    for (front, mode) in fronts_and_modes() {
        for order in ["one", "gossip"] {
            let only = json!({"provider": {"only": [order]}});
            tell(&buy(&house, ask_with_canary(front, mode).with(&only)).await);
        }
        // Kept for who asks again, which is nobody else's to read.
        let kept = ask_with_canary(front, mode).with_field("idempotency-key", &format!("{front} {mode:?}"));
        tell(&buy(&house, kept.with(&json!({"provider": {"only": ["one"]}}))).await);
    }
    let wrong = format!("{}-wrong", house.key);
    tell(&call(house.address, &chat(Mode::Plain).with_key(&wrong).bytes()).await.unwrap());
    let metrics = call(house.address, &house.request("GET", "/metrics", b"")).await.unwrap();
    tell(&metrics);
    let seen = house.sellers[0].log();
    assert!(seen.iter().all(|seen| !contains(format!("{:?}", seen.headers).as_bytes(), &house.key)));
    let anchor = anchor_logs(&seen[0].headers, &seen[0].body);
    assert!(
        anchor.contains(SELLER_KEY) && anchor.contains(PROMPT),
        "the canaries sing where nobody holds them"
    );
    let key = house.key.clone();
    let receipts = 18;
    let folder = house.close(receipts).await;
    let logged = lines.0.lock().clone();
    assert!(contains(&logged, "attempt failed"), "nothing was logged: the canaries prove nothing");
    let mut places = vec![("the log".to_owned(), logged), ("what buyers were told".to_owned(), told)];
    for file in files_below(folder.path()) {
        places.push((file.display().to_string(), fs::read(&file).expect("a file")));
    }
    let names: Vec<&str> = places.iter().map(|(place, _)| place.as_str()).collect();
    for part in ["exchange.db", "index.db", "answers.db", ".decisions"] {
        assert!(names.iter().any(|name| name.contains(part)), "no {part} in {names:?}");
    }
    for (place, bytes) in &places {
        for (what, canary) in
            [("the buyer's key", key.as_str()), ("the seller's key", SELLER_KEY), ("the prompt", PROMPT)]
        {
            assert!(!contains(bytes, canary), "{what} is in {place}");
        }
    }
}

/// Packages of a lock file that are not pinned by the hash of what was downloaded, but for those of the house.
fn unpinned(lock: &str) -> Vec<&str> {
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter(|package| !package.contains("\nchecksum = "))
        .filter_map(|package| package.split("name = \"").nth(1)?.split('"').next())
        .filter(|name| !name.starts_with("bourse") && *name != "xtask")
        .collect()
}

/// Crates that load code while the program runs, or that build something by downloading it.
const LOADERS: [&str; 6] = ["libloading", "dlopen", "dlopen2", "wasmtime", "pyo3", "mlua"];

#[test]
fn pain_17_everything_that_is_built_is_pinned_and_nothing_is_loaded_later() {
    let root = root();
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file of the house");
    let lock = read("Cargo.lock");
    assert_eq!(unpinned(&lock), Vec::<&str>::new());
    let names: BTreeSet<&str> =
        lock.split("name = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.contains("tokio"), "the lock was read");
    assert!(LOADERS.iter().all(|loader| !names.contains(loader)), "code that is not in the lock could run");
    // The anchor takes the newest that fits, from wherever its name leads.
    let anchor = format!("{lock}\n[[package]]\nname = \"telnyx\"\nversion = \"4.87.1\"\n");
    assert_eq!(unpinned(&anchor), ["telnyx"]);
    for file in files_below(&root.join("crates")).iter().chain(&files_below(&root.join("xtask"))) {
        assert_ne!(file.file_name().and_then(|name| name.to_str()), Some("build.rs"), "{}", file.display());
        if file.file_name().is_some_and(|name| name == "Cargo.toml") {
            let manifest = fs::read_to_string(file).expect("a manifest");
            assert!(!manifest.contains("\nbuild = ") && !manifest.contains("git = "), "{}", file.display());
        }
    }
    // Each direct dependency has its reason written down; `xtask` compares both ways.
    let sentences = read("xtask/dependencies.txt");
    let workspace = read("Cargo.toml");
    let (_, table) = workspace.split_once("[workspace.dependencies]").expect("a table of dependencies");
    let table = table.split("\n[").next().unwrap_or_default();
    for line in table.lines().filter(|line| line.contains(" = ") && !line.starts_with("bourse")) {
        let name = line.split([' ', '.']).next().unwrap_or_default().trim_matches('"');
        let has_sentence = sentences.lines().any(|line| line.starts_with(&format!("{name}: ")));
        assert!(name.starts_with('#') || has_sentence, "`{name}` has no sentence");
    }
}

/// An exchange whose disk does not answer.
struct Stuck(Exchange);

impl Funds for Stuck {
    fn authenticate(&self, key: &KeyHash, now: UnixMs) -> Result<KeyGrant, FundsError> {
        self.0.authenticate(key, now)
    }
    fn hold(&self, request: &HoldRequest) -> Result<(), FundsError> {
        self.0.hold(request)
    }
    fn extend(&self, extension: &HoldExtension) -> Result<(), FundsError> {
        self.0.extend(extension)
    }
    fn settle(&self, settlement: Settlement) -> Result<Settled, FundsError> {
        self.0.settle(settlement)
    }
    fn durable(&self, _: CommitTicket) -> BoxFuture<'static, Result<(), FundsError>> {
        Box::pin(std::future::pending())
    }
}

/// A gateway over an exchange in memory whose journal is never written: there are no threads that would.
fn market_without_a_disk(seller: &Seller) -> (Gateway, Arc<Stuck>, Arc<Exchange>, String) {
    let open = || {
        let now = SystemClock.now();
        let exchange = Exchange::in_memory(ExchangeConfig::default(), [3; 32], now).expect("a market");
        let account = Some("buyer".to_owned());
        let create =
            AdminRequest::CreateKey(NewKey { label: "buyer".to_owned(), account, ..NewKey::default() });
        let Ok(AdminReply::KeyCreated { secret, .. }) = exchange.admin(create, now) else { panic!("no key") };
        let credit = AdminRequest::Credit {
            account: "buyer".to_owned(),
            amount_usd: "1".to_owned(),
            idempotency_key: None,
        };
        exchange.admin(credit, now).expect("credit");
        (exchange, secret.0)
    };
    let ((exchange, key), (records, _)) = (open(), open());
    let (funds, records) = (Arc::new(Stuck(exchange)), Arc::new(records));
    let prices = PriceSchedule::per_token(PicoUsdPerToken(100_000), PicoUsdPerToken(400_000));
    let slug = ModelSlug::parse(MODEL).expect("a slug");
    let provider = ProviderConfig {
        name: SellerName::parse("one").expect("a name"),
        kind: "openai".to_owned(),
        base_url: seller.base_url(),
        api_key: None,
        gathers: None,
        models: vec![ProviderModel::new(slug, MODEL, prices)],
    };
    let config =
        GatewayConfig { timeouts: timeouts(), providers: vec![provider], ..GatewayConfig::default() };
    let ports = Ports {
        funds: funds.clone(),
        records: records.clone(),
        outcomes: None,
        accounts: None,
        workspaces: None,
        admin: None,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Entropy::seeded([9; 32])),
        connect: Arc::new(NetConnect::new()),
    };
    (Gateway::new(config, ports).expect("a gateway"), funds, records, key)
}

async fn ask_gateway(gateway: &Gateway, key: &str, mode: Mode) -> http::Response<bourse_gateway::Body> {
    let request = http::Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {key}"))
        .body(Full::new(Bytes::from(chat(mode).body().to_string())))
        .expect("a request");
    gateway.handle(request).await
}

/// Writes a row for every request before it is answered: never, while the database does not answer.
async fn anchor_answers(funds: &Stuck) -> bool {
    let row = funds.durable(CommitTicket(1));
    tokio::time::timeout(Duration::from_millis(50), row).await.is_ok()
}

#[tokio::test]
async fn pain_19_requests_are_admitted_and_answered_while_the_disk_stands_still() {
    let seller = Seller::start(seller("one")).await.expect("a port");
    let (gateway, funds, _records, key) = market_without_a_disk(&seller);
    let durable_before = funds.0.ticket();
    for _ in 0..100 {
        let answer = ask_gateway(&gateway, &key, Mode::Plain).await;
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert!(contains(&body, "\"cost\":"));
    }
    let spent = funds.0.key_status(&hash_key(&key), SystemClock.now()).expect("a key").account_spent;
    assert!(spent > NanoUsd::ZERO, "admitted, held and settled in memory");
    assert_eq!(funds.0.open_holds(), 0);
    assert!(funds.0.ticket() >= durable_before, "what was settled waits in order");
    assert!(!anchor_answers(&funds).await);
    // A stream delivers its content and keeps its terminal back: a buyer is never told of a cost that is not on disk.
    let mut stream = ask_gateway(&gateway, &key, Mode::Stream).await.into_body();
    let mut heard = Vec::new();
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(Duration::from_millis(300), stream.frame()).await {
        heard.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    assert!(contains(&heard, "\"content\":\" ") && !contains(&heard, "[DONE]"));
}

//! Many gateways, one exchange, and one that stands by: real processes, real kills, and books that are whole.

use crate::buyer::{Answer, buy, buy_once, call};
use crate::cluster::Cluster;
use crate::program::{Up, begin, command, finish, reactor, run, serving, up};
use crate::seller::{self, AT_LENGTH, HANG, MANY};
use crate::{MODEL, resale};
use bourse::client::Client;
use bourse_exchange::{Exchange, ExchangeConfig, Holds};
use bourse_types::UnixMs;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::{TempDir, tempdir};

/// What the market promises: the lease of a dead exchange ends after three seconds.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);
/// Of each gateway.
const BUYERS: usize = 3;
/// What one answer costs, in thousandths of a cent.
const COST: u64 = 13;

/// A port that nobody uses now: a standby's must be known before it listens.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A gateway without books.
fn gateway(dir: &Path, config: &str, exchanges: &str, secret: &Path) -> Up {
    let secret = secret.to_str().unwrap();
    let args = ["--exchange", exchanges, "--secret-file", secret];
    begin(serving("gateway", dir, config, &args, &[])).ready()
}

/// An account's line of the books.
fn account(dir: &Path, name: &str) -> Value {
    let accounts = run(dir, &["ledger", "balance", "--json"]).json();
    let found = accounts.as_array().unwrap().iter().find(|line| line["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {accounts}"))
}

/// Thousandths of a cent.
fn amount(line: &Value, name: &str) -> u64 {
    let usd: f64 = line[name].as_str().unwrap().parse().unwrap();
    (usd * 100_000.0).round() as u64
}

fn clock() -> UnixMs {
    UnixMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
}

/// Buys through one gateway until it is over.
fn keep_buying(base_url: &str, key: &str, turn: usize, told: &Sender<(usize, Answer)>, is_over: &AtomicBool) {
    let mut is_streamed = false;
    while !is_over.load(Ordering::Relaxed) {
        let answer = buy(base_url, key, "hello", is_streamed).expect("the gateway lives");
        is_streamed = !is_streamed;
        if told.send((turn, answer)).is_err() {
            return;
        }
    }
}

/// Buys through all of them until `is_enough` of what was answered so far.
fn load(
    gateways: &[Up; 2],
    key: &str,
    mut is_enough: impl FnMut(&[(usize, Answer)]) -> bool,
) -> Vec<(usize, Answer)> {
    let is_over = AtomicBool::new(false);
    let (told, answers) = channel();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for (turn, gateway) in gateways.iter().enumerate() {
            for _ in 0..BUYERS {
                let (told, is_over) = (told.clone(), &is_over);
                scope.spawn(move || keep_buying(&gateway.base_url, key, turn, &told, is_over));
            }
        }
        drop(told);
        for answer in answers {
            all.push(answer);
            if is_enough(&all) {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    });
    all
}

/// Two gateways before an active exchange and one that stands by, all of them processes.
struct World {
    _cluster: Cluster,
    active: Option<Up>,
    standby: Option<crate::program::Begun>,
    gateways: [Up; 2],
    key: String,
    waiting: TempDir,
    _dirs: [TempDir; 3],
}

impl World {
    fn start(base_url: &str) -> Self {
        let cluster = Cluster::start();
        let [first, waiting, one, two] = std::array::from_fn(|_| tempdir().unwrap());
        let config = resale(base_url);
        run(first.path(), &["migrate", "--to", &cluster.url()]).success();
        let active = up(first.path(), &config, &["--no-node", "--exchange-listen", "127.0.0.1:0"], &[]);
        run(first.path(), &["ledger", "credit", "operator", "1000"]).success();
        let address = free_port();
        let args = ["--no-node", "--standby", "--exchange-listen", &address];
        for file in ["exchange.key", "exchange.journal"] {
            std::fs::copy(first.path().join(file), waiting.path().join(file)).unwrap();
        }
        let secretless = finish(serving("up", waiting.path(), &config, &args, &[])).failure();
        assert!(secretless.contains("copy exchange.secret from the active exchange"), "{secretless}");
        std::fs::copy(first.path().join("exchange.secret"), waiting.path().join("exchange.secret")).unwrap();
        let standby = begin(serving("up", waiting.path(), &config, &args, &[]));
        standby.hear("standing by");
        let exchanges = format!("{}, {address}", active.exchange);
        let secret = first.path().join("exchange.secret");
        let gateways = [&one, &two].map(|dir| gateway(dir.path(), &config, &exchanges, &secret));
        let key = active.key.clone();
        let (active, standby) = (Some(active), Some(standby));
        Self { _cluster: cluster, active, standby, gateways, key, waiting, _dirs: [first, one, two] }
    }
}

#[test]
fn killing_the_active_exchange_under_load_loses_nothing_and_both_gateways_resume() {
    const AFTER: usize = 60;
    let seller = seller::start();
    let mut world = World::start(&seller.base_url);
    let mut active = world.active.take();
    let mut killed: Option<(Instant, usize)> = None;
    let answers = load(&world.gateways, &world.key, |so_far| {
        let whole = |turn: usize, from: usize| {
            so_far[from..].iter().filter(|(t, answer)| *t == turn && answer.is_whole()).count()
        };
        match killed {
            None => {
                if (0..2).all(|turn| whole(turn, 0) >= AFTER) {
                    killed = Some((Instant::now(), so_far.len()));
                    active.take().unwrap().kill();
                }
                false
            }
            Some((_, from)) => (0..2).all(|turn| whole(turn, from) >= AFTER),
        }
    });
    let (killed, _) = killed.unwrap();
    let standby = world.standby.take().unwrap().ready();
    for turn in 0..2 {
        let after =
            answers.iter().filter(|(t, answer)| *t == turn && answer.is_whole() && answer.ended > killed);
        // What the dead one had answered is still on its way for a moment.
        let resumed =
            after.filter(|(_, answer)| answer.begun > killed).map(|(_, answer)| answer.ended - killed);
        let resumed = resumed.min().unwrap();
        println!("gateway {turn} resumed after {resumed:?}");
        assert!(resumed < RESUMES_WITHIN, "gateway {turn}: {resumed:?}");
    }
    // Whoever was answered has a receipt; whoever was refused was told whose fault it was, and when to come again.
    let mut paid = BTreeSet::new();
    for (turn, answer) in &answers {
        if answer.is_whole() {
            let id = answer.generation.as_deref().unwrap();
            let other = &world.gateways[1 - turn].base_url;
            let found = call(other, &world.key, "GET", &format!("/generation?id={id}"), "").unwrap();
            assert_eq!(found.status, 200, "{id}: {found:?}");
            assert_eq!(found.json()["data"]["total_cost"].to_string(), "0.00013");
            assert!(paid.insert(id.to_owned()), "one id, one answer");
        } else {
            assert!(
                answer.body.contains("the exchange does not answer") || answer.status == 503,
                "{answer:?}"
            );
        }
    }
    let refused = answers.len() - paid.len();
    println!("{} answered whole, {refused} refused", paid.len());
    let [one, two] = world.gateways;
    one.stop();
    two.stop();
    let line = account(world.waiting.path(), "operator");
    let spent = 101_000_000 - amount(&line, "balance_usd");
    standby.stop();
    let checked = run(world.waiting.path(), &["ledger", "check", "--json"]).json();
    assert_eq!(checked["problems"], json!([]));
    // A request whose buyer was told nothing good may have been charged for what it got, and none twice.
    assert_eq!(spent % COST, 0, "{spent}");
    let charged = usize::try_from(spent / COST).unwrap();
    assert!((paid.len()..=answers.len()).contains(&charged), "{charged} of {}", answers.len());
    assert!(checked["receipts"].as_u64().unwrap() >= charged as u64);
    nothing_is_held(world.waiting.path(), spent);
}

/// When their time is over, holds that nobody came back for are gone, and what was spent is what it was.
fn nothing_is_held(dir: &Path, spent: u64) {
    let config = ExchangeConfig { holds: Holds::OutliveExchange, ..ExchangeConfig::default() };
    let later = UnixMs(clock().0 + 3_600_000);
    let exchange = Exchange::open(dir, config, later).unwrap();
    assert_eq!(exchange.open_holds(), 0);
    drop(exchange);
    let line = account(dir, "operator");
    assert_eq!((amount(&line, "held_usd"), 101_000_000 - amount(&line, "balance_usd")), (0, spent));
    let checked = run(dir, &["ledger", "check", "--json"]).json();
    assert_eq!((&checked["problems"], &checked["holds_orphaned"]), (&json!([]), &json!(0)));
}

/// Reads a stream that hangs after [`MANY`] words, tells when it has them, and whether it came to its end.
fn listen(client: &Client, tell: &Sender<()>) -> bool {
    let text = format!("{HANG}, {AT_LENGTH}");
    let asked = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": text}]});
    reactor().block_on(async {
        let mut lines = client.stream("/chat/completions", &asked).await.unwrap();
        let mut words = 0;
        while let Ok(line) = lines.next().await {
            let Some(line) = line else { return false };
            if line == "data: [DONE]" {
                return true;
            }
            words += usize::from(line.contains("\"content\""));
            if words == MANY {
                tell.send(()).unwrap();
                words += 1;
            }
        }
        false
    })
}

#[test]
fn a_gateway_that_is_killed_leaves_holds_that_expire_and_money_that_is_whole() {
    let seller = seller::start();
    let [books, one, two] = [(); 3].map(|()| tempdir().unwrap());
    let config = resale(&seller.base_url);
    let market = up(books.path(), &config, &["--no-node", "--exchange-listen", "127.0.0.1:0"], &[]);
    run(books.path(), &["ledger", "credit", "operator", "1000"]).success();
    let secret = books.path().join("exchange.secret");
    let [dies, lives] = [&one, &two].map(|dir| gateway(dir.path(), &config, &market.exchange, &secret));
    let client = Client::new(&dies.base_url, Some(market.key.clone())).unwrap();
    let (tell, heard) = channel();
    let open = std::thread::spawn(move || listen(&client, &tell));
    heard.recv().unwrap();
    // What was metered goes the way of everything that is said after it.
    let other = buy(&dies.base_url, &market.key, "hello", true).unwrap();
    assert!(other.is_whole());
    dies.kill();
    assert!(!open.join().unwrap(), "it broke off");
    let held = account(books.path(), "operator");
    assert!(amount(&held, "held_usd") > 0, "{held}");
    let other = buy(&lives.base_url, &market.key, "hello", false).unwrap();
    assert!(other.is_whole(), "{other:?}");
    lives.stop();
    market.stop();
    assert!(amount(&account(books.path(), "operator"), "held_usd") > 0, "it outlives the exchange");

    let config = ExchangeConfig { holds: Holds::OutliveExchange, ..ExchangeConfig::default() };
    drop(Exchange::open(books.path(), config, UnixMs(clock().0 + 3_600_000)).unwrap());
    let line = account(books.path(), "operator");
    let spent = 101_000_000 - amount(&line, "balance_usd") - 2 * COST;
    // Of the prompt a token for each four bytes at least and for each byte at most.
    assert!((64..=MANY as u64 + 80).contains(&spent), "{spent} tokens of {MANY} words");
    nothing_is_held(books.path(), spent + 2 * COST);
}

#[test]
fn a_gateway_without_books_sells_administers_and_says_what_it_lacks() {
    let seller = seller::start();
    let [books, dir] = [(); 2].map(|()| tempdir().unwrap());
    let config = resale(&seller.base_url);
    let refused = |args: &[&str]| finish(serving("gateway", dir.path(), &config, args, &[])).failure();
    assert!(refused(&[]).contains("no exchange is named"));
    assert!(refused(&["--exchange", "nowhere"]).contains("`nowhere` is no host:port"));
    let secretless = refused(&["--exchange", "127.0.0.1:1"]);
    assert!(secretless.contains("exchange.secret") && secretless.contains("--secret-file"), "{secretless}");

    let market = up(books.path(), &config, &["--no-node", "--exchange-listen", "127.0.0.1:0"], &[]);
    let secret = books.path().join("exchange.secret");
    let text = std::fs::read_to_string(&secret).unwrap();
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let environment = [("BOURSE_LOG", "debug")];
    let args = ["--exchange", &market.exchange, "--secret-file", secret.to_str().unwrap()];
    let own = finish(serving("gateway", books.path(), &config, &args, &[])).failure();
    assert!(own.contains("folder of a market with books"), "{own}");
    let running = begin(serving("gateway", dir.path(), &config, &args, &environment)).ready();
    let second = finish(serving("gateway", dir.path(), &config, &args, &[])).failure();
    assert!(second.contains("another gateway uses"), "{second}");

    let manager = run(books.path(), &["key", "create", "team", "--management", "--json"]).json();
    let manager = manager["key"].as_str().or(manager["secret"].as_str()).unwrap().to_owned();
    let made = call(&running.base_url, &manager, "POST", "/keys", r#"{"name":"one","limit":1}"#).unwrap();
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let answer = buy(&running.base_url, &key, "hello", true).unwrap();
    assert!(answer.is_whole(), "{answer:?}");
    let id = answer.generation.unwrap();
    for (path, want) in [
        (format!("/generation?id={id}"), "0.00013"),
        (format!("/receipts/{id}"), "inclusion"),
        ("/key".to_owned(), "0.99987"),
        ("/credits".to_owned(), "total_credits"),
        ("/models".to_owned(), MODEL),
    ] {
        let found = call(&running.base_url, &key, "GET", &path, "").unwrap();
        assert!(found.status == 200 && found.body.contains(want), "{path}: {found:?}");
    }
    for is_streamed in [false, true] {
        let ask = || buy_once(&running.base_url, &key, &format!("order {is_streamed}"), is_streamed).unwrap();
        let (first, again) = (ask(), ask());
        assert!(first.is_whole() && !first.is_replayed, "{first:?}");
        assert!(again.is_replayed, "what was paid for is answered again: {again:?}");
        assert_eq!((again.body, again.generation), (first.body, first.generation));
    }
    let team = r#"{"name":"Team","slug":"team"}"#;
    let made = call(&running.base_url, &manager, "POST", "/workspaces", team).unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let budget = r#"{"limit_usd":2}"#;
    for (method, path, body, want) in [
        ("PUT", "/workspaces/team/budgets/daily", budget, "\"limit_usd\":2"),
        ("GET", "/workspaces/team", "", "\"slug\":\"team\""),
        ("GET", "/organization", "", "\"usage\":0.00039,"),
    ] {
        let found = call(&running.base_url, &manager, method, path, body).unwrap();
        assert!(found.status == 200 && found.body.contains(want), "{method} {path}: {found:?}");
    }
    let chat = run(dir.path(), &["chat", "hi"]);
    assert!(chat.stderr.contains("BOURSE_API_KEY"), "{}", chat.stderr);
    let mut chat = command(dir.path(), &["chat", "hi"]);
    chat.env("BOURSE_API_KEY", &key);
    assert!(finish(chat).success().contains("one two three"));
    market.stop();
    let waits = buy(&running.base_url, &key, "hello", false).unwrap();
    assert_eq!(waits.status, 503, "{waits:?}");
    running.terminate();
    let (status, rest, stderr) = running.ended();
    assert!(status.success() && rest.is_empty(), "{status}: {stderr}");
    assert!(!stderr.contains(text.trim()) && !stderr.contains(&key), "no secret in a log");
}

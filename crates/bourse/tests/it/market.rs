//! A whole market as a child process: from the first line to the last settled stream.

use crate::program::{Up, command, finish, reactor, run, signal, up};
use crate::seller::{self, AT_LENGTH, HANG, MANY};
use crate::{MODEL, resale};
use bourse::client::Client;
use bourse::config::{Environment, Flag, Layers};
use bourse::data_dir::DataDir;
use bourse::market::{Market, MarketConfig};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

fn question(text: &str, stream: bool) -> Value {
    json!({"model": MODEL, "max_tokens": 20, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// The text of a streamed answer's events.
fn stream(market: &Up, text: &str) -> Vec<String> {
    let client = market.client();
    reactor().block_on(async {
        let mut lines = client.stream("/chat/completions", &question(text, true)).await.unwrap();
        let mut events = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            events.extend(line.strip_prefix("data: ").map(str::to_owned));
        }
        events
    })
}

fn balance(dir: &Path, account: &str) -> String {
    let accounts = run(dir, &["ledger", "balance", "--json"]).json();
    let found = accounts.as_array().unwrap().iter().find(|line| line["name"] == account).cloned();
    found.unwrap_or_else(|| panic!("no {account} in {accounts}"))["balance_usd"].as_str().unwrap().to_owned()
}

#[test]
fn a_market_opens_sells_settles_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let config = resale(&seller.base_url);
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    assert!(market.key.starts_with("sk-bourse-") && market.node_pid.is_none());
    let answer =
        reactor().block_on(market.client().post("/chat/completions", &question("hi", false))).unwrap();
    // 13 tokens at a thousandth of a cent each.
    assert_eq!(answer["usage"]["cost"].to_string(), "0.00013");
    let id = run(dir.path(), &["chat", "hi", "--json"]).json()["receipt"].as_str().unwrap().to_owned();
    let key = market.key.clone();
    market.stop();
    assert_eq!(balance(dir.path(), "operator"), "9.999740000");

    let market = up(dir.path(), &config, &["--no-node"], &[]);
    assert_eq!(market.key, key, "a second start keeps the key");
    assert_eq!(balance(dir.path(), "operator"), "9.999740000", "and the balance");
    let receipt = run(dir.path(), &["receipt", &id, "-o", "-"]).json();
    assert!(receipt.to_string().contains(&id), "and the receipts");
    let (last, other) = if id.ends_with('0') { ('0', "1") } else { (id.chars().last().unwrap(), "0") };
    let unknown = format!("{}{other}", id.strip_suffix(last).unwrap());
    let refused = run(dir.path(), &["receipt", &unknown]).failure();
    assert!(refused.contains("404") && refused.contains("X-Bourse-Receipt"), "{refused}");
    market.stop();
    let checked = run(dir.path(), &["ledger", "check"]).success();
    assert!(checked.starts_with("the books are clean\n"), "{checked}");
}

#[test]
fn chat_streams_and_tells_what_it_cost() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let ended = run(dir.path(), &["chat", "hello"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "one two three\n"), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("10 + 3 tokens, $0.00013, sold by echo, receipt gen-"),
        "{}",
        ended.stderr
    );
    let answer = run(dir.path(), &["chat", "hello", "--json"]).json();
    assert_eq!(answer["text"], "one two three");
    assert_eq!(answer["cost_usd"], "0.000130000");
    let models = run(dir.path(), &["models"]).success();
    assert!(models.contains(MODEL) && models.contains("$10"), "{models}");
    let said = run(dir.path(), &["chat", "--model", "no/such", "hello"]).failure();
    assert!(said.contains("no/such") && said.contains("hint: `bourse models`"), "{said}");
    market.stop();
    let said = run(dir.path(), &["chat", "hello"]).failure();
    assert!(said.contains("`bourse up` starts one"), "{said}");
}

#[test]
fn keys_are_made_limited_and_ended_live_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let made = run(dir.path(), &["key", "create", "robot", "--limit", "0.002"]);
    let key = made.stdout.trim().to_owned();
    assert!(key.starts_with("sk-bourse-"), "{}", made.stderr);
    let chat = |question: &str| {
        let mut asked = command(dir.path(), &["chat", "--max-tokens", "3", question]);
        asked.env("BOURSE_API_KEY", &key);
        finish(asked)
    };
    chat("hi").success();
    let listed = run(dir.path(), &["key", "list"]).success();
    assert!(listed.contains("robot") && listed.contains("$0.002") && listed.contains("$0.00013"), "{listed}");
    assert!(!listed.contains(&key) && !listed.contains(&market.key), "a list shows no secret");
    run(dir.path(), &["key", "limit", "robot", "0.00014"]).success();
    let said = chat("hi").failure();
    assert!(said.contains("402") && said.contains("hint: "), "{said}");
    run(dir.path(), &["key", "limit", "robot", "none"]).success();
    chat("hi").success();
    market.stop();

    run(dir.path(), &["key", "revoke", "robot"]).success();
    let listed = run(dir.path(), &["key", "list", "--json"]).json();
    assert!(listed["keys"].as_array().unwrap().iter().any(|key| key["revoked_ms"].is_u64()), "{listed}");
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let said = chat("hi").failure();
    assert!(said.contains("401"), "{said}");
    let said = run(dir.path(), &["key", "revoke", "nobody"]).failure();
    assert!(said.starts_with("error: no key is called `nobody`"), "{said}");
    market.stop();
}

#[test]
fn keys_reset_expire_are_switched_off_and_have_policies() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let create = ["key", "create", "robot", "--limit", "5", "--reset", "daily", "--expires", "2999-12-31"];
    let made = run(dir.path(), &create);
    let key = made.stdout.trim().to_owned();
    assert!(made.stderr.contains("at most $5 daily") && !made.stderr.contains("hint"), "{}", made.stderr);
    let chat = || {
        let mut asked = command(dir.path(), &["chat", "--max-tokens", "3", "hi"]);
        asked.env("BOURSE_API_KEY", &key);
        finish(asked)
    };
    chat().success();
    let listed = run(dir.path(), &["key", "list"]).success();
    assert!(listed.contains("$5 daily") && listed.contains("active until 2999-12-31"), "{listed}");
    let disabled = run(dir.path(), &["key", "disable", "robot"]).success();
    assert!(disabled.contains("disabled"), "{disabled}");
    let said = chat().failure();
    assert!(said.contains("401") && said.contains("`bourse key enable`"), "{said}");
    run(dir.path(), &["key", "enable", "robot"]).success();
    chat().success();

    let file = dir.path().join("policy.json");
    std::fs::write(&file, r#"{"zdr":true}"#).unwrap();
    let file = file.to_str().unwrap();
    let id = run(dir.path(), &["key", "policy", "robot", file]).success();
    assert_eq!(run(dir.path(), &["key", "policy", "--account", "operator", file]).success(), id);
    let listed = run(dir.path(), &["key", "list", "--json"]).json();
    let has = |key: &serde_json::Value| key["policy"] == id.trim();
    assert!(listed["keys"].as_array().unwrap().iter().any(has), "{listed}");
    assert_eq!(run(dir.path(), &["key", "policy", "robot", "none"]).success().trim(), "none");
    std::fs::write(file, "[]").unwrap();
    let said = run(dir.path(), &["key", "policy", "robot", file]).failure();
    assert!(said.contains("a policy is one JSON object"), "{said}");

    let twin = run(dir.path(), &["key", "create", "robot", "--management"]);
    assert!(twin.stderr.contains("administers the keys of `operator`"), "{}", twin.stderr);
    assert!(twin.stderr.contains("hint: another is called `robot`, too"), "{}", twin.stderr);
    let past = run(dir.path(), &["key", "create", "late", "--expires", "2020-01-01"]).failure();
    assert!(past.contains("`expires_at` must be in the future"), "{past}");
    market.stop();
}

/// The day of the account, of the market, and its figures, when the operator has bought once by its starting credit.
fn days_on_paper(dir: &Path, left: &str) {
    let figures = run(dir, &["ledger", "figures", "--json"]).json();
    let figures = figures.as_array().and_then(|days| days.last()).expect("a day");
    let sold = |class: &str| figures["models"][0][class]["requests"].as_u64();
    assert_eq!((sold("paid"), sold("subsidised")), (Some(0), Some(1)), "{figures}");
    let day = figures["day"].as_str().expect("a day");
    assert!(
        run(dir, &["ledger", "figures", "--day", day])
            .success()
            .starts_with(&format!("Figures of {day} (UTC)\n"))
    );
    let told = run(dir, &["ledger", "statement", "--day", day, "--json"]).json();
    assert_eq!(
        (&told["closing_usd"], &told["sections"][0]["sort"]),
        (&left.into(), &"used".into()),
        "{told}"
    );
    let market = run(dir, &["ledger", "statement", "--market", "--day", day, "--format", "csv"]).success();
    assert!(market.lines().last().is_some_and(|line| line.ends_with(",0.000000000")), "{market}");
    let month = run(dir, &["ledger", "statement", "--month", &day[..7], "--json"]).json();
    assert_eq!((&month["period"], &month["closing_usd"]), (&day[..7].into(), &left.into()), "{month}");
    let said = run(dir, &["ledger", "statement", "--format", "pdf"]).failure();
    assert!(said.contains("--day <DAY>") && said.contains("--month <MONTH>"), "{said}");
    let said = run(dir, &["ledger", "invoice", "fee"]).failure();
    assert!(said.contains("`fee` is no customer") && said.contains("statement ACCOUNT --month"), "{said}");
}

#[test]
fn the_books_can_be_read_while_the_market_sells() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let events = stream(&market, "hello");
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let statement = run(dir.path(), &["ledger", "statement"]).success();
    assert!(statement.contains("-$0.00013") && statement.contains("gen-"), "{statement}");
    assert!(run(dir.path(), &["ledger", "check"]).success().starts_with("the books are clean\n"));
    let invoice = run(dir.path(), &["ledger", "invoice", "--json"]).json();
    let left = run(dir.path(), &["ledger", "balance", "--json"]).json();
    let left = left.as_array().and_then(|all| all.iter().find(|line| line["name"] == "operator")).cloned();
    assert_eq!(Some(&invoice["closing_usd"]), left.as_ref().map(|line| &line["balance_usd"]), "{invoice}");
    let page = dir.path().join("invoice.pdf");
    let to_file = ["ledger", "invoice", "--format", "pdf", "--out", page.to_str().expect("a path")];
    assert_eq!(run(dir.path(), &to_file).success(), "");
    assert!(std::fs::read(&page).expect("it is written").starts_with(b"%PDF-"));
    let said = run(dir.path(), &["ledger", "invoice", "nobody"]).failure();
    assert!(said.contains("no account is called `nobody`") && said.contains("ledger balance"), "{said}");
    days_on_paper(dir.path(), invoice["closing_usd"].as_str().expect("an amount"));
    let whole = run(dir.path(), &["ledger", "replay", "--json"]).json();
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!((&whole["state_digest"], &whole["group"]), (&checked["state_digest"], &checked["groups"]));
    let first = run(dir.path(), &["ledger", "replay", "--group", "1"]).success();
    assert!(first.starts_with("the books after group 1,") && first.contains("$10"), "{first}");
    let said = run(dir.path(), &["ledger", "replay", "--group", "9999"]).failure();
    assert!(said.contains("9999 is none of them"), "{said}");
    let said = run(dir.path(), &["ledger", "statement", "nobody"]).failure();
    assert!(said.starts_with("error: no account is called `nobody`\n  hint: "), "{said}");
    let credited = run(dir.path(), &["ledger", "credit", "operator", "2"]).success();
    assert!(credited.contains("$11.99987"), "{credited}");
    market.stop();
}

#[test]
fn a_customer_checks_offline_that_it_is_counted_in_what_the_market_owes() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let early = run(dir.path(), &["ledger", "prove", "--account", "operator"]).failure();
    assert!(early.contains("no epoch has ended yet") && early.contains("`bourse ledger close`"), "{early}");
    let receipt =
        run(dir.path(), &["chat", "hello", "--json"]).json()["receipt"].as_str().unwrap().to_owned();
    let receipt = run(dir.path(), &["receipt", &receipt, "-o", "-"]).json();
    let epoch = run(dir.path(), &["ledger", "close", "--json"]).json();
    assert_eq!((&epoch["number"], &epoch["count"]), (&json!(1), &json!(2)), "{epoch}");
    assert_eq!(epoch["closed"], true);
    let nothing = run(dir.path(), &["ledger", "close", "--json"]).json();
    assert_eq!(nothing, json!({ "closed": false }));
    let nothing = run(dir.path(), &["ledger", "close"]).success();
    assert_eq!(nothing, "nothing has happened since the last epoch\n");
    run(dir.path(), &["chat", "hello"]).success();

    let file = dir.path().join("leaf.json");
    let path = file.to_str().unwrap();
    let ended = run(dir.path(), &["ledger", "prove", "--account", "operator", "--epoch", "1", "--out", path]);
    assert!(ended.code == 0 && ended.stderr.contains("bourse verify"), "{}", ended.stderr);
    let proof: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(proof["leaf"]["amount_nano_usd"], "9999870000", "as the balance was: $9.99987");
    assert_eq!(proof["epoch"]["root"], epoch["root"]);
    let until = bourse_types::UnixMs(epoch["closed_at_ms"].as_u64().unwrap()).to_iso_string();
    let lines = run(dir.path(), &["ledger", "statement", "--until", &until, "--json"]).json();
    assert_eq!(lines.as_array().unwrap().last().unwrap()["balance_usd"], "9.999870000", "{lines}");
    market.stop();

    // On another machine: no data directory, no market.
    let nowhere = tempfile::tempdir().unwrap();
    let account = receipt["receipt"]["account_digest"].as_str().unwrap();
    let exchange = receipt["log"]["checkpoint"]["exchange"].as_str().unwrap();
    let verify = ["verify", path, "--exchange", exchange, "--account", account];
    let said = run(nowhere.path(), &verify).success();
    assert!(said.contains("the proof holds") && said.contains("not proved:"), "{said}");
    assert!(said.contains("not what it owns") && !said.contains("skipped"), "{said}");
    let lie = std::fs::read_to_string(&file).unwrap().replace("\"9999870000\"", "\"9999870001\"");
    std::fs::write(&file, lie).unwrap();
    let ended = run(nowhere.path(), &verify);
    assert!(ended.code != 0 && ended.stdout.contains("the proof does NOT hold"), "{}", ended.stdout);
    let checked = run(dir.path(), &["ledger", "check"]).success();
    assert!(checked.starts_with("the books are clean\n") && checked.contains("2 epochs"), "{checked}");
}

#[test]
fn a_receipt_is_verified_and_a_changed_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    let answer = run(dir.path(), &["chat", "hello", "--json"]).json();
    let file = dir.path().join("receipt.json");
    let path = file.to_str().unwrap();
    run(dir.path(), &["receipt", answer["receipt"].as_str().unwrap(), "-o", path]).success();
    let log = market.base_url.clone();
    run(dir.path(), &["chat", "again"]).success();
    let said = run(dir.path(), &["verify", path, "--log", &log]).success();
    assert!(said.contains("inclusion") && said.contains("log"), "{said}");
    market.stop();

    let said = run(dir.path(), &["verify", path]).success();
    assert!(said.contains("ok") && said.contains("exchange_signature"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("echo", "ecko")).unwrap();
    let ended = run(dir.path(), &["verify", path, "--json"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let verdict: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(verdict["holds"], false);
    std::fs::write(&file, "{}").unwrap();
    assert!(run(dir.path(), &["verify", path]).failure().starts_with("error: "));
}

#[test]
fn an_open_stream_ends_with_a_terminal_when_the_market_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let environment = [("BOURSE_GATEWAY_DRAIN_TIMEOUT_MS", "50")];
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &environment);
    let events = std::thread::scope(|scope| {
        let streaming = scope.spawn(|| stream(&market, HANG));
        seller.hung.recv().unwrap();
        market.terminate();
        streaming.join().unwrap()
    });
    let (status, rest, stderr) = market.ended();
    assert!(status.success(), "{status}: {stderr}");
    assert_eq!(rest, "");
    let error = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .find(|event| event["error"].is_object());
    let error = error.unwrap_or_else(|| panic!("no terminal in {events:?}"));
    assert_eq!(error["choices"][0]["finish_reason"], "error", "{error}");
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!(checked["problems"], json!([]));
    assert_eq!((checked["holds_open"].clone(), checked["holds_orphaned"].clone()), (json!(0), json!(0)));
    assert_eq!(balance(dir.path(), "operator"), "10.000000000", "the market's own failure costs nothing");
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let config = resale(&seller.base_url);
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    let acknowledged = stream(&market, "hello");
    assert_eq!(acknowledged.last().map(String::as_str), Some("[DONE]"));
    std::thread::scope(|scope| {
        let hanging = scope.spawn(|| {
            let client = market.client();
            reactor().block_on(async {
                // The kill may come before the first words have reached this side.
                let Ok(mut lines) = client.stream("/chat/completions", &question(HANG, true)).await else {
                    return;
                };
                while let Ok(Some(_)) = lines.next().await {}
            });
        });
        seller.hung.recv().unwrap();
        signal(market.gateway_pid, Signal::KILL);
        hanging.join().unwrap();
    });
    drop(market);
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    assert_eq!(balance(dir.path(), "operator"), "9.999870000");
    market.stop();
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!(checked["problems"], json!([]));
    assert_eq!(checked["receipts"], 1);
    assert_eq!(checked["holds_orphaned"], 0, "the start released what the crash left");
}

/// What was delivered and metered before a power cut is paid; nothing beyond it is, and nothing twice.
#[test]
fn a_kill_in_mid_stream_is_settled_as_it_was_last_metered() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let config = resale(&seller.base_url);
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    let text = format!("{HANG}, {AT_LENGTH}");
    let asked = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": text}]});
    reactor().block_on(async {
        let client = market.client();
        let mut lines = client.stream("/chat/completions", &asked).await.unwrap();
        let mut words = 0;
        while words < MANY {
            let line = lines.next().await.unwrap().expect("it goes on");
            words += usize::from(line.contains("\"content\""));
        }
    });
    // Its end waits for the disk, and so for what was metered before.
    let other = stream(&market, "hello");
    assert_eq!(other.last().map(String::as_str), Some("[DONE]"));
    market.kill();
    let mut spent = Vec::new();
    for _ in 0..2 {
        let market = up(dir.path(), &config, &["--no-node"], &[]);
        let left: f64 = balance(dir.path(), "operator").parse().unwrap();
        spent.push(((10.0 - left) * 100_000.0).round() as usize - 13);
        market.stop();
    }
    assert_eq!(spent[0], spent[1], "once");
    // Of the prompt a token for each four bytes at least and for each byte at most.
    let most = MANY + text.len() + 16;
    assert!((64..=most).contains(&spent[0]), "{} tokens of {MANY} words", spent[0]);
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!((checked["problems"].clone(), checked["receipts"].clone()), (json!([]), json!(2)));
}

/// A call with an `Idempotency-Key`: status, whether the answer was given before, and its bytes.
fn keyed(market: &Up, body: &Value) -> (u16, bool, Vec<u8>) {
    let address = market.base_url.trim_start_matches("http://").trim_end_matches("/v1");
    let request = hyper::Request::post("/v1/chat/completions")
        .header("host", address)
        .header("authorization", format!("Bearer {}", market.key))
        .header("content-type", "application/json")
        .header("idempotency-key", "order-1");
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    reactor().block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let is_replayed = head.headers.get("idempotent-replayed").is_some_and(|value| value == "true");
        (head.status.as_u16(), is_replayed, body.collect().await.unwrap().to_bytes().to_vec())
    })
}

#[test]
fn a_kill_forgets_no_answer_under_a_key() {
    for is_stream in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let seller = seller::start();
        let config = resale(&seller.base_url);
        let market = up(dir.path(), &config, &["--no-node"], &[]);
        let first = keyed(&market, &question("hello", is_stream));
        market.kill();
        assert_eq!((first.0, first.1), (200, false));
        let market = up(dir.path(), &config, &["--no-node"], &[]);
        let again = keyed(&market, &question("hello", is_stream));
        assert_eq!(again, (200, true, first.2), "the same bytes");
        assert_eq!(keyed(&market, &question("other", is_stream)).0, 409);
        market.stop();
        assert_eq!(balance(dir.path(), "operator"), "9.999870000", "and no new charge");
    }
}

#[test]
fn credit_under_a_key_is_given_once() {
    let dir = tempfile::tempdir().unwrap();
    let credit = ["ledger", "credit", "operator", "2", "--idempotency-key", "a"];
    let market = up(dir.path(), "", &["--no-node"], &[]);
    run(dir.path(), &credit).success();
    market.kill();
    run(dir.path(), &credit).success();
    let market = up(dir.path(), "", &["--no-node"], &[]);
    run(dir.path(), &credit).success();
    let other = run(dir.path(), &["ledger", "credit", "operator", "3", "--idempotency-key", "a"]).failure();
    assert!(other.contains("used for another request"), "{other}");
    run(dir.path(), &["key", "create", "one", "--idempotency-key", "a"]).success();
    let again = run(dir.path(), &["key", "create", "one", "--idempotency-key", "a"]).failure();
    assert!(again.contains("made before"), "{again}");
    market.kill();
    assert_eq!(balance(dir.path(), "operator"), "12.000000000");
}

#[test]
fn secrets_are_private_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let config = resale(&seller.base_url).replace("base_url", "api_key_env = \"ECHO_KEY\"\nbase_url");
    let environment = [("ECHO_KEY", "sk-seller-canary"), ("BOURSE_LOG", "debug")];
    let market = up(dir.path(), &config, &["--no-node"], &environment);
    let key = market.key.clone();
    stream(&market, "hello");
    for name in ["operator.key", "market.json", "exchange.key"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    market.terminate();
    let (status, rest, stderr) = market.ended();
    assert!(status.success() && rest.is_empty());
    assert!(!stderr.contains(&key) && !stderr.contains("sk-seller-canary"), "{stderr}");
    assert!(!dir.path().join("market.json").exists());
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "operator.key" {
            let bytes = std::fs::read(&path).unwrap();
            let found = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found(&key) && !found("sk-seller-canary"), "{}", path.display());
        }
    }
}

#[test]
fn a_second_market_in_the_same_folder_or_port_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let config = resale(&seller.base_url);
    let market = up(dir.path(), &config, &["--no-node"], &[]);
    let said = run(dir.path(), &["up", "--no-node", "--listen", "127.0.0.1:0"]).failure();
    assert!(
        said.contains(&format!("already uses {} at {}", dir.path().display(), market.base_url)),
        "{said}"
    );
    let other = tempfile::tempdir().unwrap();
    let address = market.base_url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    let said = run(other.path(), &["up", "--no-node", "--listen", &address]).failure();
    assert!(said.contains("is taken") && said.contains("--listen 127.0.0.1:0"), "{said}");
    market.stop();
}

#[test]
fn a_market_without_anything_to_sell_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let market = up(dir.path(), "", &["--no-node"], &[]);
    let said = run(dir.path(), &["chat", "hello"]).failure();
    assert!(said.starts_with("error: nothing is for sale yet\n"), "{said}");
    market.stop();
}

#[test]
fn the_first_request_can_be_explained() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &[]);
    stream(&market, "hello");
    market.stop();
    let replayed = run(dir.path(), &["route", "replay", "--json"]).json();
    assert_eq!(
        (replayed["decisions"].clone(), replayed["identical"].clone()),
        (json!(1), json!(1)),
        "{replayed}"
    );
}

#[test]
fn a_second_interrupt_ends_open_streams_with_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &NO_DRAIN);
    let events = std::thread::scope(|scope| {
        let streaming = scope.spawn(|| stream(&market, HANG));
        seller.hung.recv().unwrap();
        begin_to_close(&market, dir.path());
        signal(market.gateway_pid, Signal::INT);
        streaming.join().unwrap()
    });
    assert!(events.iter().any(|event| event.contains("the market is closing")), "{events:?}");
    let (status, _, stderr) = market.ended();
    assert!(status.success(), "{status}: {stderr}");
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!((checked["problems"].clone(), checked["holds_open"].clone()), (json!([]), json!(0)));
}

#[test]
fn a_third_interrupt_ends_the_market_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let market = up(dir.path(), &resale(&seller.base_url), &["--no-node"], &NO_DRAIN);
    // A buyer whose head does not come to its end is waited for.
    let address = market.base_url.trim_start_matches("http://").trim_end_matches("/v1");
    let mut waiting = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut waiting, b"GET /health HTTP/1.1\r\n").unwrap();
    // Connections are accepted in order: when a later one is answered, this one is there.
    reactor().block_on(market.client().get("/models")).unwrap();
    begin_to_close(&market, dir.path());
    let pid = rustix::process::Pid::from_raw(market.gateway_pid.cast_signed()).unwrap();
    let (ended, again) = std::sync::mpsc::channel::<()>();
    let (status, _, _) = std::thread::scope(|scope| {
        scope.spawn(move || {
            // Two that come together are one to the system.
            while again.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                // It may have ended in between.
                let _ = rustix::process::kill_process(pid, Signal::INT);
            }
        });
        let end = market.ended();
        drop(ended);
        end
    });
    assert_eq!(status.code(), Some(130));
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!(checked["problems"], json!([]));
}

/// A drain that no test waits for.
const NO_DRAIN: [(&str, &str); 1] = [("BOURSE_GATEWAY_DRAIN_TIMEOUT_MS", "600000")];

/// Asks a market to stop, and waits until it has heard it.
fn begin_to_close(market: &Up, data_dir: &Path) {
    market.terminate();
    // The runtime file goes first.
    while data_dir.join("market.json").exists() {
        std::thread::yield_now();
    }
}

#[test]
fn a_node_that_cannot_load_its_model_is_told_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model.gguf");
    let mut asked = command(dir.path(), &["up", "--listen", "127.0.0.1:0"]);
    asked.env("BOURSE_MODEL_PATH", &model);
    let said = finish(asked).failure();
    assert!(said.starts_with(&format!("error: the model {} cannot be read\n", model.display())), "{said}");
    std::fs::write(&model, "not a model").unwrap();
    let mut asked = command(dir.path(), &["up", "--listen", "127.0.0.1:0"]);
    asked.env("BOURSE_MODEL_PATH", &model);
    let said = finish(asked).failure();
    assert!(said.contains("error: the node stopped\n  because: the model cannot be loaded\n"), "{said}");
    assert!(said.contains("error: the node ended 3 times before it was ready\n"), "{said}");
    assert!(said.ends_with("--no-node starts the market without it\n"), "{said}");
}

#[test]
fn a_whole_market_starts_in_a_process_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let seller = seller::start();
    let file = dir.path().join("bourse.toml");
    std::fs::write(&file, resale(&seller.base_url)).unwrap();
    let environment = Environment::default();
    let flags = vec![Flag::new("--listen", "gateway.listen", "127.0.0.1:0")];
    let config = Layers { file: Some(file), environment: &environment, flags }.load().unwrap().config;
    let data_dir = DataDir::at(dir.path().join("data"));
    reactor().block_on(async {
        let start = || MarketConfig {
            data_dir: data_dir.clone(),
            config: config.clone(),
            environment: environment.clone(),
            node: None,
            exchange: None,
        };
        let market = Market::start(start()).await.unwrap();
        assert_eq!(market.node_ready().await.unwrap(), None);
        let client = Client::new(&market.base_url, Some(market.key.clone())).unwrap();
        let answer = client.post("/chat/completions", &question("hi", false)).await.unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "one two three");
        let taken = Market::start(start()).await.err().unwrap();
        assert!(taken.to_string().contains("already uses"), "{taken}");
        market.shutdown().await.unwrap();
    });
}

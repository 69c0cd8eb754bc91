//! The market with its own node and a real model, through crashes of either process.
//!
//! `BOURSE_TEST_MODEL` names the model's file. Without it the tests are skipped, unless
//! `BOURSE_REQUIRE_MODEL=1`, which `cargo xtask test` sets. `BOURSE_KILLS` says how often the market is
//! killed under load.

use crate::program::{Up, reactor, run, signal, up};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// What the local node's model is called.
const MODEL: &str = "huggingfacetb/smollm2-135m-instruct";
/// Kills of the whole market, unless `BOURSE_KILLS` says otherwise.
const KILLS_DEFAULT: u64 = 10;
/// Callers at once while the market is killed.
const CALLERS: u64 = 4;
/// Longest that anything here may take to come back.
const PATIENCE: Duration = Duration::from_mins(1);

/// The model's file, or `None` when the tests may be skipped.
fn model() -> Option<PathBuf> {
    let named = std::env::var_os("BOURSE_TEST_MODEL").map(PathBuf::from).filter(|path| path.is_file());
    let required = std::env::var("BOURSE_REQUIRE_MODEL").is_ok_and(|value| value == "1");
    assert!(named.is_some() || !required, "BOURSE_TEST_MODEL names no file");
    if named.is_none() {
        eprintln!("skipped: set BOURSE_TEST_MODEL to the model's file");
    }
    named
}

fn start(dir: &Path, model: &Path) -> Up {
    up(dir, "", &[], &[("BOURSE_MODEL_PATH", model.to_str().unwrap())])
}

/// One streamed answer as it was received; `seen` hears of every event.
fn ask(market: &Up, text: &str, max_tokens: u32, mut seen: impl FnMut(&Value)) -> Vec<Value> {
    let client = market.client();
    let body = json!({
        "model": MODEL, "max_tokens": max_tokens, "stream": true, "temperature": 0.8,
        "messages": [{"role": "user", "content": text}],
    });
    reactor().block_on(async {
        let mut events = Vec::new();
        let Ok(mut lines) = client.stream("/chat/completions", &body).await else { return events };
        while let Ok(Some(line)) = lines.next().await {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event = if data == "[DONE]" { json!("[DONE]") } else { serde_json::from_str(data).unwrap() };
            seen(&event);
            events.push(event);
        }
        events
    })
}

fn is_acknowledged(events: &[Value]) -> bool {
    events.last().is_some_and(|last| last == "[DONE]") && events.iter().all(|event| event["error"].is_null())
}

/// Dollars as nano-dollars, from a decimal string or a JSON number. A double holds the few digits of a
/// charge here exactly enough to round back.
fn nano(value: &Value) -> u64 {
    match value.as_f64() {
        Some(usd) => (usd * 1e9).round() as u64,
        None => bourse_types::NanoUsd::parse_usd(value.as_str().unwrap()).unwrap().0,
    }
}

fn cost(events: &[Value]) -> u64 {
    events.iter().find(|event| event["usage"].is_object()).map_or(0, |event| nano(&event["usage"]["cost"]))
}

fn operator_balance(dir: &Path) -> u64 {
    let accounts = run(dir, &["ledger", "balance", "--json"]).json();
    let operator = accounts.as_array().unwrap().iter().find(|line| line["name"] == "operator").unwrap();
    nano(&operator["balance_usd"])
}

fn assert_clean(dir: &Path) {
    let ended = run(dir, &["ledger", "check", "--json"]);
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}

/// Waits until the process is gone: it is the child of a market that was killed, so nobody reaps it here.
fn await_end(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let alive = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        !status.is_empty() && !status.contains("State:\tZ")
    };
    while alive() {
        assert!(Instant::now() < deadline, "the node outlived its market");
        std::thread::yield_now();
    }
}

#[test]
fn a_real_model_answers_and_is_paid() {
    let Some(model) = model() else { return };
    let dir = tempfile::tempdir().unwrap();
    let market = start(dir.path(), &model);
    assert!(market.node_pid.is_some());
    let answer = run(dir.path(), &["chat", "--max-tokens", "24", "--json", "Say hello."]).json();
    assert_eq!(answer["model"], MODEL);
    assert_eq!(answer["seller"], "local");
    assert!(!answer["text"].as_str().unwrap().is_empty(), "{answer}");
    assert!(answer["completion_tokens"].as_u64().unwrap() > 0 && nano(&answer["cost_usd"]) > 0, "{answer}");
    assert_eq!(operator_balance(dir.path()), 10_000_000_000 - nano(&answer["cost_usd"]));

    let file = dir.path().join("receipt.json");
    let path = file.to_str().unwrap();
    run(dir.path(), &["receipt", answer["receipt"].as_str().unwrap(), "-o", path]).success();
    let verdict = run(dir.path(), &["verify", path, "--json"]).json();
    let check = |name: &str| {
        let checks = verdict["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {verdict}"))
            ["outcome"]
            .clone()
    };
    assert_eq!(check("node_signature"), "passed");
    assert_eq!(check("recount"), "passed");
    let receipt: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (claimed, recount) = (&receipt["receipt"]["usage_claimed"], &receipt["receipt"]["recount"]);
    // The node renders the same template with the same tokenizer.
    assert_eq!(recount["prompt_tokens"], claimed["prompt_tokens"], "{receipt}");
    assert!(recount["completion_tokens"].as_u64().unwrap() > 0, "{receipt}");
    let model = model.to_str().unwrap();
    assert_eq!(recount["tokenizer"], run(dir.path(), &["tokens", "pin", model]).success().trim());
    let text = dir.path().join("answer.txt");
    std::fs::write(&text, answer["text"].as_str().unwrap()).unwrap();
    let counted =
        run(dir.path(), &["tokens", "count", model, "--text", text.to_str().unwrap(), "--json"]).json();
    assert_eq!(counted["tokens"], recount["completion_tokens"], "{receipt} {answer}");
    // What is sampled is not always what its text alone would give; an honest node is not suspected for it.
    for text in ["Tell me a story.", "Count to ten in French."] {
        assert!(is_acknowledged(&ask(&market, text, 120, |_| {})));
    }
    assert_eq!(run(dir.path(), &["ledger", "suspense", "list", "--json"]).json(), json!([]));
    let (node, gateway) = (market.node_pid.unwrap(), market.gateway_pid);
    assert_ne!(node, gateway);
    market.stop();
    await_end(node);
    assert_clean(dir.path());
}

#[test]
fn a_node_killed_in_mid_stream_ends_the_stream_and_comes_back() {
    let Some(model) = model() else { return };
    let dir = tempfile::tempdir().unwrap();
    let market = start(dir.path(), &model);
    let node = market.node_pid.unwrap();
    let mut pieces = 0;
    let events = ask(&market, "Tell me a very long story about the sea.", 1_500, |event| {
        pieces += u32::from(event["choices"][0]["delta"]["content"].is_string());
        if pieces == 8 {
            signal(node, Signal::KILL);
            pieces += 1;
        }
    });
    let terminals = events.iter().filter(|event| event["error"].is_object()).count();
    assert_eq!(terminals, 1, "one explicit terminal: {events:?}");
    assert!(pieces > 8, "it broke off in the middle");
    let told = events.iter().find(|event| event["usage"].is_object()).expect("usage is told");
    assert_eq!((told["usage"]["cost"].as_u64(), cost(&events)), (Some(0), 0), "{told}");
    assert_eq!(operator_balance(dir.path()), 10_000_000_000, "an answer that its seller broke off is free");

    let deadline = Instant::now() + PATIENCE;
    while !is_acknowledged(&ask(&market, "Say hello.", 8, |_| {})) {
        assert!(Instant::now() < deadline, "the node did not come back");
    }
    market.stop();
    assert_clean(dir.path());
}

/// Asks until the market is gone; keeps what was acknowledged and tells of every event.
fn call(market: &Up, caller: u64, acknowledged: &Mutex<Vec<(String, u64)>>, heard: &Sender<()>) {
    for turn in 0_u64.. {
        let text = format!("Caller {caller}, question {turn}: say a few words.");
        let events = ask(market, &text, 12, |_| _ = heard.send(()));
        if events.is_empty() {
            return;
        }
        if is_acknowledged(&events) {
            let id = events[0]["id"].as_str().unwrap().to_owned();
            acknowledged.lock().unwrap().push((id, cost(&events)));
        }
    }
}

#[test]
fn a_market_killed_under_load_loses_nothing_acknowledged() {
    let Some(model) = model() else { return };
    let dir = tempfile::tempdir().unwrap();
    let kills = std::env::var("BOURSE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT);
    let acknowledged = Mutex::new(Vec::new());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..kills {
        let market = start(dir.path(), &model);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Somewhere between the first event and some answers of each caller.
        let events = 1 + (random >> 33) % 100;
        let (heard, events_heard) = channel();
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let (market, acknowledged, heard) = (&market, &acknowledged, heard.clone());
                scope.spawn(move || call(market, caller, acknowledged, &heard));
            }
            for _ in 0..events {
                events_heard.recv_timeout(PATIENCE).unwrap();
            }
            signal(market.gateway_pid, Signal::KILL);
        });
        await_end(market.node_pid.unwrap());
        market.kill();
        assert_clean(dir.path());
        let spent: u64 = acknowledged.lock().unwrap().iter().map(|(_, cost)| cost).sum();
        let balance = operator_balance(dir.path());
        assert!(balance <= 10_000_000_000 - spent, "round {round}: acknowledged spending was lost");
    }
    let market = start(dir.path(), &model);
    for (id, _) in acknowledged.lock().unwrap().iter() {
        let found = reactor().block_on(market.client().get(&format!("/receipts/{id}")));
        assert!(found.is_ok(), "the receipt of {id} is gone: {found:?}");
    }
    let answered = acknowledged.lock().unwrap().len();
    assert!(answered > 0, "no answer was ever complete");
    market.stop();
    let checked = run(dir.path(), &["ledger", "check", "--json"]).json();
    assert_eq!((checked["holds_open"].clone(), checked["holds_orphaned"].clone()), (json!(0), json!(0)));
}
